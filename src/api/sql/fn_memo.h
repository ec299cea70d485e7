/*
 * fn_memo.h - the answers of one statement: what was asked once is not asked again.
 *
 * An entry is a question with everything that decides its answer, and, once it is done, the answer.
 * The batch that finds no entry for its question makes one and computes it; whoever else wants it
 * waits. Entries and targets live until the statement's execution is over. Beyond
 * HS_FN_MEMO_BYTES_MAX of them, answers are no longer kept for others.
 *
 * Owner:   the execution of a statement (hs_sql_conn_memo).
 * Threads: any; `mutex` guards all of it, but the answer of an entry that is done, which is
 *          constant, and of one that runs, which is the batch's that computes it.
 */
#ifndef API_SQL_FN_MEMO_H
#define API_SQL_FN_MEMO_H

#include <pthread.h>

#include "fn_target.h"

#define HS_FN_MEMO_BYTES_MAX ((size_t)256 << 20)

enum hs_fn_kind {
    HS_FN_ANSWER = 0, /* input: "role\0content\0" for each message; gives text */
    HS_FN_SCORE,      /* input: size_t n_prompt, then i32 tokens; gives logprob of those behind */
    HS_FN_EMBEDDING   /* input: the text; gives values */
};

enum hs_fn_state { HS_FN_RUNNING = 0, HS_FN_DONE, HS_FN_LEFT /* nobody computes it any more */ };

struct hs_fn_entry {
    struct hs_fn_entry *next;
    enum hs_fn_state state;
    bool is_kept; /* the memo's; else its batch's */
    enum hs_fn_kind kind;
    const struct hs_fn_target *target;
    /* The answer. */
    struct hs_error *error; /* NULL: there is an answer */
    char *text;
    size_t text_len;
    float *values;
    int32_t n_values;
    double logprob;
    int32_t prompt_tokens, completion_tokens;
    double ms; /* from submission to the end */
    uint64_t hash;
    size_t input_len;
    char input[];
};

struct hs_fn_memo {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* an entry is done or left */
    struct hs_fn_entry **buckets;
    size_t n_buckets, n_entries, bytes;
    struct hs_fn_target *targets;
    pthread_mutex_t session_mutex; /* held while a thread's rows are in sessions */
};

/* For hs_sql_conn_memo. */
void *hs_fn_memo_new(void *user);
void hs_fn_memo_free(void *memo);

/* The target of options (borrowed) and a schema (NULL: none), made when it is new. */
HS_CHECKED hs_status hs_fn_memo_target(struct hs_fn_memo *memo, const struct hs_sql_host *host,
                                       const json_t *options, const char *schema,
                                       const struct hs_fn_target **ret_target,
                                       struct hs_error *err);
/*
 * The entry of a question.
 * Out:    ret_is_new: it is the caller's to compute; else it may run still.
 */
HS_CHECKED hs_status hs_fn_memo_find(struct hs_fn_memo *memo, enum hs_fn_kind kind,
                                     const struct hs_fn_target *target, const void *input,
                                     size_t input_len, struct hs_fn_entry **ret_entry,
                                     bool *ret_is_new, struct hs_error *err);
/* The caller has computed it, or HS_FN_LEFT will not. */
void hs_fn_memo_set(struct hs_fn_memo *memo, struct hs_fn_entry *entry, enum hs_fn_state state);
/*
 * Look at another's entry: HS_FN_DONE, or HS_FN_RUNNING after a short wait; HS_FN_LEFT: it was left
 * and is the caller's now.
 */
enum hs_fn_state hs_fn_memo_wait(struct hs_fn_memo *memo, struct hs_fn_entry *entry);
/* Of an entry that is not kept. */
void hs_fn_entry_free(struct hs_fn_entry *entry);

#endif
