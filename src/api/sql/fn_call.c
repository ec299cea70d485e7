#include "fn_call.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_value.h"

duckdb_vector hs_fn_call_argument(const struct hs_fn_call *call, idx_t argument, idx_t row)
{
    bool is_there = argument < call->n_arguments && !hs_fn_is_null(call->arguments[argument], row);
    return is_there ? call->arguments[argument] : NULL;
}

hs_status hs_fn_call_target(const struct hs_fn_call *call, idx_t argument, idx_t row,
                            const char *schema, const struct hs_fn_target **ret_target,
                            struct hs_error *err)
{
    duckdb_vector vector = hs_fn_call_argument(call, argument, row);
    json_t *options = json_null();
    hs_status status = vector == NULL ? HS_OK : hs_fn_json(vector, row, &options, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_fn_memo_target(call->memo, call->host, options, schema, ret_target, err);
    json_decref(options);
    return status;
}

hs_status hs_fn_call_text(const struct hs_fn_call *call, idx_t argument, idx_t row,
                          struct hs_buf *ret_text, struct hs_error *err)
{
    size_t len = 0;
    const char *text = hs_fn_text(call->arguments[argument], row, &len);
    if (memchr(text, '\0', len) != NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a text has a zero byte");
    }
    ret_text->max = SIZE_MAX;
    hs_buf_clear(ret_text);
    return hs_buf_append(ret_text, text, len) == HS_OK ? HS_OK : hs_error_nomem(err, "a text");
}

hs_status hs_fn_add_message(struct hs_buf *input, const char *role, const char *text,
                            struct hs_error *err)
{
    input->max = SIZE_MAX;
    hs_status status = hs_buf_append(input, role, strlen(role) + 1);
    status = status == HS_OK ? hs_buf_append(input, text, strlen(text) + 1) : status;
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "a message");
}
