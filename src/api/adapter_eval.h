/*
 * adapter_eval.h - how well a model and adapters answer questions whose answers are known.
 *
 * The prompt is "Q: <question>\nA:", the answer the most likely text up to the end of its line.
 * All columns (the model alone, then each adapter, at last those that routing chooses for each
 * question) answer at once, so that different adapters are in the same batch.
 *
 * Owner:   the caller owns questions and names, which must outlive the run; hs_eval_free releases
 *          the answers.
 * Threads: one.
 */
#ifndef API_ADAPTER_EVAL_H
#define API_ADAPTER_EVAL_H

#include "hyprstream.h"

/* Limits, each tested at N and N+1. */
#define HS_EVAL_FILE_MAX (16u << 20)
#define HS_EVAL_CASES_MAX 10000u
#define HS_EVAL_ADAPTERS_MAX 32u

struct hs_eval_case {
    const char *question, *expected;
};

struct hs_eval_answer {
    char *text; /* without spaces at its ends */
    bool is_exact;
    double log_likelihood; /* of the expected answer, natural logarithm */
    int32_t n_scored;      /* tokens that make it; 0: not asked for */
};

struct hs_eval {
    hs_engine *engine;
    const char *model_id;
    const struct hs_eval_case *cases; /* [n_cases] */
    size_t n_cases;
    const char *const *adapters; /* [n_adapters], ready in the engine */
    size_t n_adapters;
    bool with_likelihood;
    const struct hs_route_params *routing; /* NULL: no column of routing */
    struct hs_eval_answer *answers;        /* [hs_eval_n_columns][n_cases] */
    struct hs_route *routes;               /* [n_cases] with routing: what was chosen */
};

size_t hs_eval_n_columns(const struct hs_eval *eval);

/*
 * Read lines "question<TAB>expected" out of text, which is changed; empty lines are skipped.
 * Out:    ret_cases[ret_n], to be freed with hs_free; they point into text.
 * Errors: HS_BAD_FORMAT (which line has no tab), HS_LIMIT, HS_INVALID_ARGUMENT (no line at all).
 */
HS_CHECKED hs_status hs_eval_parse(char *text, struct hs_eval_case **ret_cases, size_t *ret_n,
                                   struct hs_error *err);

/* Errors: those of hs_engine_complete; HS_CANCELLED when progress returns false. */
HS_CHECKED hs_status hs_eval_run(struct hs_eval *eval, hs_progress_fn progress, void *user,
                                 struct hs_error *err);
void hs_eval_free(struct hs_eval *eval);

#endif
