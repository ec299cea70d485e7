/*
 * How the answer to a prompt with tools or a schema is constrained and read.
 *
 * llama-common reads an answer anew from its start each time, so reading after every token would
 * cost the square of its length. Short answers are read with every token; longer ones when they
 * grew by a part of their length, so that reading costs no more than READ_SHARE times one pass
 * over the text for each byte of it.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_internal.h"

#define ANSWER_MAX_BYTES ((size_t)16 << 20)
#define GRAMMAR_MAX_BYTES ((size_t)1 << 20)
#define READ_ALWAYS_BYTES 8192 /* answers up to this length are read with every token */
#define READ_SHARE 256         /* longer ones when they grew by this part of their length */

struct hs_rt_format {
    hs_cxx_format *cxx;    /* NULL: what the model writes is the text */
    struct hs_buf grammar; /* of the schema, without a template */
    struct hs_buf text;    /* the answer so far */
    size_t n_read;         /* bytes of it when it was last read */
};

hs_status hs_llama_format_new(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                              const struct hs_rt_format_params *params, hs_rt_format **ret_format,
                              struct hs_error *err)
{
    hs_rt_format *format = hs_calloc(1, sizeof(*format));
    if (!format) {
        return hs_error_nomem(err, "format of an answer");
    }
    format->grammar = (struct hs_buf)HS_BUF_INIT(GRAMMAR_MAX_BYTES);
    format->text = (struct hs_buf)HS_BUF_INIT(ANSWER_MAX_BYTES);
    hs_status status = HS_OK;
    if (prompt) {
        status = hs_chat_format_new(model, prompt, params, &format->cxx, err);
    }
    if (status == HS_OK && !format->cxx && params->json_schema) {
        status = hs_cxx_schema_grammar(params->json_schema, &format->grammar, err);
    }
    if (status != HS_OK) {
        hs_llama_format_free(format);
        return status;
    }
    *ret_format = format;
    return HS_OK;
}

void hs_llama_format_free(hs_rt_format *format)
{
    if (!format) {
        return;
    }
    hs_cxx_format_free(format->cxx);
    hs_buf_free(&format->grammar);
    hs_buf_free(&format->text);
    hs_free(format);
}

void hs_llama_format_info(const hs_rt_format *format, struct hs_cxx_binding *ret_info)
{
    if (format->cxx) {
        hs_cxx_format_info(format->cxx, ret_info);
        return;
    }
    *ret_info = (struct hs_cxx_binding){.grammar = format->grammar.data ? format->grammar.data : "",
                                        .prefill = "",
                                        .stop = "",
                                        .think_start = "",
                                        .think_end = ""};
}

const char *hs_llama_format_stop(const hs_rt_format *format)
{
    struct hs_cxx_binding info;
    hs_llama_format_info(format, &info);
    return *info.stop ? info.stop : NULL;
}

hs_status hs_llama_format_feed(hs_rt_format *format, const char *text, size_t len, bool is_end,
                               struct hs_rt_delta *ret_deltas, int32_t *ret_n, struct hs_error *err)
{
    if (!format->cxx) {
        *ret_n = len > 0;
        ret_deltas[0] = (struct hs_rt_delta){.type = HS_EVENT_TEXT, .text = text, .len = len};
        return HS_OK;
    }
    hs_status status = hs_buf_append(&format->text, text, len);
    if (status != HS_OK) {
        return hs_error_set(err, status, "the answer is too long to be read");
    }
    size_t n_new = format->text.len - format->n_read;
    bool is_due = format->text.len <= READ_ALWAYS_BYTES || n_new >= format->text.len / READ_SHARE;
    if (!is_end && (n_new == 0 || !is_due)) {
        *ret_n = 0;
        return HS_OK;
    }
    format->n_read = format->text.len;
    return hs_cxx_format_read(format->cxx, format->text.data ? format->text.data : "",
                              format->text.len, is_end, ret_deltas, ret_n, err);
}
