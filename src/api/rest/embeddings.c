/* embeddings.c - POST /v1/embeddings. */
#include <endian.h>
#include <string.h>

#include "base/mem.h"
#include "embed_run.h"
#include "json_quote.h"
#include "lora.h"

/* RFC 4648, section 4. */
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static hs_status write_base64(const uint8_t *bytes, size_t len, struct hs_buf *out)
{
    hs_status status = hs_buf_reserve(out, (len + 2) / 3 * 4);
    for (size_t i = 0; i < len && status == HS_OK; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= n > 2 ? bytes[i + 2] : 0;
        const char digits[] = {base64_digits[bits >> 18], base64_digits[bits >> 12 & 63],
                               n > 1 ? base64_digits[bits >> 6 & 63] : '=',
                               n > 2 ? base64_digits[bits & 63] : '='};
        status = hs_buf_append(out, digits, sizeof digits);
    }
    return status;
}

static hs_status write_floats(const float *values, int32_t n, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "[");
    for (int32_t v = 0; v < n && status == HS_OK; v++) {
        /* nine digits give every f32 back */
        status = hs_buf_printf(out, "%s%.9g", v == 0 ? "" : ",", (double)values[v]);
    }
    return status == HS_OK ? hs_buf_append_str(out, "]") : status;
}

/* Little-endian f32 in base64, in quotes. */
static hs_status write_packed(const float *values, int32_t n, struct hs_buf *out)
{
    struct hs_buf packed HS_CLEANUP(hs_buf_free) = HS_BUF_INIT((size_t)n * sizeof values[0]);
    hs_status status = hs_buf_reserve(&packed, packed.max);
    for (int32_t v = 0; v < n && status == HS_OK; v++) {
        uint32_t bits;
        memcpy(&bits, &values[v], sizeof bits);
        bits = htole32(bits);
        status = hs_buf_append(&packed, &bits, sizeof bits);
    }
    status = status == HS_OK ? hs_buf_append_str(out, "\"") : status;
    status = status == HS_OK ? write_base64((const uint8_t *)packed.data, packed.len, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "\"") : status;
}

typedef hs_status (*write_values)(const float *values, int32_t n, struct hs_buf *out);

static hs_status write_answer(const struct hs_embed_answer *answer, write_values write,
                              struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < answer->n_inputs && status == HS_OK; i++) {
        status = hs_buf_printf(
            out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i == 0 ? "" : ",", i);
        const float *values = answer->values + i * (size_t)answer->n_values;
        status = status == HS_OK ? write(values, answer->n_values, out) : status;
        status = status == HS_OK ? hs_buf_append_str(out, "}") : status;
    }
    const char *id = answer->model->id;
    status = status == HS_OK ? hs_buf_append_str(out, "],\"model\":") : status;
    status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
    int n = (int)answer->usage.prompt_tokens;
    return status == HS_OK ? hs_buf_printf(out,
                                           ",\"usage\":{\"prompt_tokens\":%d,"
                                           "\"total_tokens\":%d}}\n",
                                           n, n)
                           : status;
}

static hs_status write_as_floats(const struct hs_embed_answer *answer, struct hs_buf *out)
{
    return write_answer(answer, write_floats, out);
}

static hs_status write_as_base64(const struct hs_embed_answer *answer, struct hs_buf *out)
{
    return write_answer(answer, write_packed, out);
}

static const struct hs_embed_format float_format = {.write = write_as_floats};
static const struct hs_embed_format base64_format = {.write = write_as_base64};

static bool read_format(const struct hs_fields *fields, const struct hs_embed_format **ret)
{
    const char *name = "float";
    if (!hs_field_string(fields, "encoding_format", &name)) {
        return false;
    }
    *ret = strcmp(name, "base64") == 0 ? &base64_format : &float_format;
    return *ret == &base64_format || strcmp(name, "float") == 0 ||
           hs_field_refuse(fields, "encoding_format", "must be \"float\" or \"base64\"");
}

void hs_rest_embeddings(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    struct hs_embed_inputs inputs = {0};
    struct hs_embed_call call = {
        .rest = rest, .model = model, .request = request, .inputs = &inputs, .param = "input"};
    hs_embed_params_defaults(&call.params);
    int64_t dimensions = 0;
    if (hs_rest_lora_refuse(model, &fields) && read_format(&fields, &call.format) &&
        hs_field_int(&fields, "dimensions", 1, model->n_embedding, &dimensions) &&
        hs_embed_inputs_read(rest, model, &fields, "input", &inputs)) {
        call.params.dimensions = (int32_t)dimensions;
        hs_embed_run(&call);
    }
    hs_embed_inputs_free(&inputs);
}
