/* embed and similarity: texts as vectors of Euclidean length 1. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_call.h"
#include "fn_value.h"

static hs_status ask(const struct hs_fn_call *call, struct hs_fn_batch *batch, idx_t argument,
                     idx_t options, idx_t row, struct hs_fn_entry **ret, struct hs_error *err)
{
    const struct hs_fn_target *target = NULL;
    size_t len = 0;
    hs_status status = hs_fn_call_target(call, options, row, NULL, &target, err);
    if (status != HS_OK) {
        return status;
    }
    const char *text = hs_fn_text(call->arguments[argument], row, &len);
    return hs_fn_batch_add(batch, HS_FN_EMBEDDING, target, text, len, ret, err);
}

/* The first n_texts arguments are texts; entries[n_rows][n_texts], NULL where one of them is. */
static hs_status run(const struct hs_fn_call *call, idx_t n_texts,
                     hs_status (*write)(const struct hs_fn_call *call,
                                        struct hs_fn_entry *const *entries, struct hs_error *err),
                     struct hs_error *err)
{
    struct hs_fn_batch batch = {
        .conn = call->conn, .host = call->host, .memo = call->memo, .stops_at_error = true};
    HS_CLEANUP(hs_freep)
    struct hs_fn_entry **entries = hs_calloc(call->n_rows * n_texts, sizeof(struct hs_fn_entry *));
    hs_status status = entries == NULL ? hs_error_nomem(err, "rows") : HS_OK;
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        bool is_null = false;
        for (idx_t k = 0; k < n_texts; k++) {
            is_null = is_null || hs_fn_call_argument(call, k, i) == NULL;
        }
        for (idx_t k = 0; k < n_texts && !is_null && status == HS_OK; k++) {
            status = ask(call, &batch, k, n_texts, i, &entries[i * n_texts + k], err);
        }
    }
    status = status == HS_OK ? hs_fn_batch_run(&batch, err) : status;
    status = status == HS_OK ? write(call, entries, err) : status;
    hs_fn_batch_free(&batch);
    return status;
}

static hs_status write_lists(const struct hs_fn_call *call, struct hs_fn_entry *const *entries,
                             struct hs_error *err)
{
    for (idx_t i = 0; i < call->n_rows; i++) {
        const struct hs_fn_entry *entry = entries[i];
        idx_t first = 0;
        size_t n = entry == NULL ? 0 : (size_t)entry->n_values;
        hs_status status = hs_fn_set_list(call->out, i, n, &first, err);
        if (status != HS_OK) {
            return status;
        }
        if (entry == NULL) {
            hs_fn_set_null(call->out, i);
            continue;
        }
        float *values = duckdb_vector_get_data(duckdb_list_vector_get_child(call->out));
        memcpy(values + first, entry->values, n * sizeof(float));
    }
    return HS_OK;
}

hs_status hs_fn_embed(const struct hs_fn_call *call, struct hs_error *err)
{
    return run(call, 1, write_lists, err);
}

static hs_status write_products(const struct hs_fn_call *call, struct hs_fn_entry *const *entries,
                                struct hs_error *err)
{
    (void)err;
    float *values = duckdb_vector_get_data(call->out);
    for (idx_t i = 0; i < call->n_rows; i++) {
        const struct hs_fn_entry *a = entries[2 * i], *b = entries[2 * i + 1];
        double sum = 0;
        if (a == NULL) {
            hs_fn_set_null(call->out, i);
            continue;
        }
        for (int32_t k = 0; k < a->n_values; k++) {
            sum += (double)a->values[k] * (double)b->values[k];
        }
        values[i] = (float)sum;
    }
    return HS_OK;
}

hs_status hs_fn_similarity(const struct hs_fn_call *call, struct hs_error *err)
{
    return run(call, 2, write_products, err);
}
