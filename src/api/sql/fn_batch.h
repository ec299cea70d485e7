/*
 * fn_batch.h - the questions of one vector of rows: all wait in the engine's queue at once, as far
 * as it has room, and are read as they come.
 *
 * Owner:   the call of a function; hs_fn_batch_free ends what still runs.
 * Threads: the one of DuckDB that calls the function; it starts none.
 */
#ifndef API_SQL_FN_BATCH_H
#define API_SQL_FN_BATCH_H

#include "base/buf.h"
#include "fn_memo.h"
#include "sql_internal.h"

struct hs_fn_list {
    struct hs_fn_entry **items;
    size_t n, cap;
};

struct hs_fn_batch {
    hs_sql_conn *conn;
    const struct hs_sql_host *host;
    struct hs_fn_memo *memo;
    bool stops_at_error; /* the first error of a question ends the batch */
    struct hs_fn_list mine, others;
    size_t n_sent; /* of mine, the first ones */
};

/*
 * A question, by fn_memo.h. The entry's answer is there after hs_fn_batch_run.
 */
HS_CHECKED hs_status hs_fn_batch_add(struct hs_fn_batch *batch, enum hs_fn_kind kind,
                                     const struct hs_fn_target *target, const void *input,
                                     size_t input_len, struct hs_fn_entry **ret_entry,
                                     struct hs_error *err);
/*
 * Compute all that was added. A question that fails has its error in its entry.
 * Errors: HS_CANCELLED (hs_sql_interrupt), HS_OUT_OF_MEMORY; stops_at_error: the question's.
 */
HS_CHECKED hs_status hs_fn_batch_run(struct hs_fn_batch *batch, struct hs_error *err);
void hs_fn_batch_free(struct hs_fn_batch *batch);
/* Ask the engine one HS_FN_ANSWER and leave the reading to the caller. Errors: the engine's, such
 * as HS_QUEUE_FULL. */
HS_CHECKED hs_status hs_fn_submit(const struct hs_fn_batch *batch, const struct hs_fn_entry *entry,
                                  hs_stream **ret_stream, struct hs_error *err);

#endif
