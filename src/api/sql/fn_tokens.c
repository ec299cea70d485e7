/* tokenize and count_tokens: no inference, but a loaded model. */
#include <string.h>

#include "fn_call.h"
#include "fn_value.h"

/* *ret_tokens NULL: the row is NULL. */
static hs_status tokens_of(const struct hs_fn_call *call, idx_t row, int32_t **ret_tokens,
                           size_t *ret_n, struct hs_error *err)
{
    const struct hs_fn_target *target = NULL;
    size_t len = 0;
    if (hs_fn_call_argument(call, 0, row) == NULL) {
        return HS_OK;
    }
    hs_status status = hs_fn_call_target(call, 1, row, NULL, &target, err);
    if (status != HS_OK) {
        return status;
    }
    const char *text = hs_fn_text(call->arguments[0], row, &len);
    return hs_engine_tokenize(call->host->engine, target->model.id, text, len, false, false,
                              ret_tokens, ret_n, err);
}

hs_status hs_fn_tokenize(const struct hs_fn_call *call, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        int32_t *tokens = NULL;
        size_t n = 0;
        idx_t first = 0;
        status = tokens_of(call, i, &tokens, &n, err);
        status = status == HS_OK ? hs_fn_set_list(call->out, i, n, &first, err) : status;
        if (status == HS_OK && tokens == NULL) {
            hs_fn_set_null(call->out, i);
        } else if (status == HS_OK) {
            int32_t *values = duckdb_vector_get_data(duckdb_list_vector_get_child(call->out));
            memcpy(values + first, tokens, n * sizeof *tokens);
        }
        hs_tokens_free(tokens);
    }
    return status;
}

hs_status hs_fn_count_tokens(const struct hs_fn_call *call, struct hs_error *err)
{
    int32_t *values = duckdb_vector_get_data(call->out);
    hs_status status = HS_OK;
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        int32_t *tokens = NULL;
        size_t n = 0;
        status = tokens_of(call, i, &tokens, &n, err);
        if (status == HS_OK && tokens == NULL) {
            hs_fn_set_null(call->out, i);
        }
        values[i] = (int32_t)n;
        hs_tokens_free(tokens);
    }
    return status;
}
