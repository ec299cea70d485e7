/*
 * fn_call.h - one call of a scalar SQL function: a vector of rows of each argument in, one out.
 *
 * Owner:   DuckDB's, but what a row holds: hs_fn_rows_free.
 * Threads: the one that DuckDB calls in; others may be in calls of the same statement.
 */
#ifndef API_SQL_FN_CALL_H
#define API_SQL_FN_CALL_H

#include "base/buf.h"
#include "fn_batch.h"

#define HS_FN_ARGUMENTS_MAX 3

struct hs_fn_call {
    hs_sql_conn *conn;
    const struct hs_sql_host *host;
    struct hs_fn_memo *memo;
    idx_t n_rows;
    idx_t n_arguments;
    duckdb_vector arguments[HS_FN_ARGUMENTS_MAX];
    duckdb_vector out;
};

/* The argument as it is in the row; NULL when it is not given or NULL there. */
duckdb_vector hs_fn_call_argument(const struct hs_fn_call *call, idx_t argument, idx_t row);
/* Who answers the row, by the options in an argument, which may be absent or NULL. */
HS_CHECKED hs_status hs_fn_call_target(const struct hs_fn_call *call, idx_t argument, idx_t row,
                                       const char *schema, const struct hs_fn_target **ret_target,
                                       struct hs_error *err);
/* A text of the row, NUL-terminated: hs_buf_free. HS_INVALID_ARGUMENT: it has a zero byte. */
HS_CHECKED hs_status hs_fn_call_text(const struct hs_fn_call *call, idx_t argument, idx_t row,
                                     struct hs_buf *ret_text, struct hs_error *err);
/* Append a message to the input of an HS_FN_ANSWER. */
HS_CHECKED hs_status hs_fn_add_message(struct hs_buf *input, const char *role, const char *text,
                                       struct hs_error *err);

/* ---- the functions (docs/sql.md) ---- */

typedef hs_status (*hs_fn_run)(const struct hs_fn_call *call, struct hs_error *err);

hs_status hs_fn_generate(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_try_generate(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_chat(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_extract(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_classify(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_filter(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_score(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_embed(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_similarity(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_tokenize(const struct hs_fn_call *call, struct hs_error *err);
hs_status hs_fn_count_tokens(const struct hs_fn_call *call, struct hs_error *err);

#endif
