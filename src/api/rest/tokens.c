/* tokens.c - POST /tokenize, /detokenize and /apply-template: text as the model sees it. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "json_quote.h"
#include "messages.h"
#include "settings.h"
#include "shape.h"

#define BODY_MAX_BYTES (256u << 20)

/* An object with one field of text. */
static void respond_text(hs_http_request *request, const char *field, const char *text, size_t len)
{
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(BODY_MAX_BYTES);
    hs_status status = hs_buf_printf(&body, "{\"%s\":", field);
    status = status == HS_OK ? hs_json_quote(&body, text, len) : status;
    status = status == HS_OK ? hs_buf_append_str(&body, "}\n") : status;
    if (status != HS_OK) {
        struct hs_error err;
        hs_error_nomem(&err, "answer");
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_buf(request, 200, "application/json", &body);
}

/* ---- /tokenize ---- */

static hs_status write_piece(const struct hs_rest *rest, const struct hs_model_info *model,
                             int32_t token, struct hs_buf *out, struct hs_error *err)
{
    char *text = NULL;
    size_t len = 0;
    hs_status status =
        hs_engine_detokenize(rest->engine, model->id, &token, 1, true, &text, &len, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_buf_printf(out, "{\"id\":%d,\"piece\":", (int)token);
    if (hs_utf8_valid(text, len)) {
        status = status == HS_OK ? hs_json_quote(out, text, len) : status;
    } else { /* part of a code point: its bytes, as llama-server has it */
        for (size_t i = 0; i < len && status == HS_OK; i++) {
            status = hs_buf_printf(out, "%s%d", i == 0 ? "[" : ",", (int)(unsigned char)text[i]);
        }
        status = status == HS_OK ? hs_buf_append_str(out, "]") : status;
    }
    status = status == HS_OK ? hs_buf_append_str(out, "}") : status;
    hs_text_free(text);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "answer");
}

static hs_status write_tokens(const struct hs_rest *rest, const struct hs_model_info *model,
                              const int32_t *tokens, size_t n, bool with_pieces, struct hs_buf *out,
                              struct hs_error *err)
{
    hs_status put = hs_buf_append_str(out, "{\"tokens\":[");
    for (size_t i = 0; i < n && put == HS_OK; i++) {
        put = i == 0 ? HS_OK : hs_buf_append_str(out, ",");
        if (put == HS_OK && with_pieces) {
            hs_status status = write_piece(rest, model, tokens[i], out, err);
            if (status != HS_OK) {
                return status;
            }
        } else if (put == HS_OK) {
            put = hs_buf_printf(out, "%d", (int)tokens[i]);
        }
    }
    put = put == HS_OK ? hs_buf_append_str(out, "]}\n") : put;
    return put == HS_OK ? HS_OK : hs_error_nomem(err, "answer");
}

void hs_rest_tokenize(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    const char *content = NULL;
    bool add_special = false, parse_special = true, with_pieces = false;
    if (model == NULL || !hs_field_string(&fields, "content", &content) ||
        !hs_field_bool(&fields, "add_special", &add_special) ||
        !hs_field_bool(&fields, "parse_special", &parse_special) ||
        !hs_field_bool(&fields, "with_pieces", &with_pieces)) {
        return;
    }
    if (content == NULL) {
        hs_field_refuse(&fields, "content", "is missing");
        return;
    }
    int32_t *tokens = NULL;
    size_t n = 0;
    struct hs_error err;
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(BODY_MAX_BYTES);
    hs_status status = hs_engine_tokenize(rest->engine, model->id, content, strlen(content),
                                          add_special, parse_special, &tokens, &n, &err);
    if (status == HS_OK) {
        status = write_tokens(rest, model, tokens, n, with_pieces, &body, &err);
        hs_tokens_free(tokens);
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, "content");
        return;
    }
    hs_http_respond_buf(request, 200, "application/json", &body);
}

/* ---- /detokenize ---- */

static bool read_tokens(const struct hs_fields *fields, const struct hs_model_info *model,
                        int32_t **ret_tokens, size_t *ret_n)
{
    const json_t *list = hs_field_get(fields, "tokens");
    if (!json_is_array(list)) {
        return hs_field_refuse(fields, "tokens", "must be an array of token numbers");
    }
    size_t n = json_array_size(list);
    int32_t *tokens HS_CLEANUP(hs_freep) = hs_calloc(n + 1, sizeof *tokens);
    if (tokens == NULL) {
        struct hs_error err;
        hs_error_nomem(&err, "tokens");
        hs_rest_respond_failure(fields->request, &err, NULL);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        tokens[i] = hs_field_token(json_array_get(list, i), model->n_vocab);
        if (tokens[i] < 0) {
            return hs_field_refuse(fields, "tokens", "must hold token numbers from 0 to %d",
                                   (int)model->n_vocab - 1);
        }
    }
    *ret_tokens = tokens;
    *ret_n = n;
    tokens = NULL;
    return true;
}

void hs_rest_detokenize(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    int32_t *tokens HS_CLEANUP(hs_freep) = NULL;
    size_t n = 0;
    if (model == NULL || !read_tokens(&fields, model, &tokens, &n)) {
        return;
    }
    char *text = NULL;
    size_t len = 0;
    struct hs_error err;
    if (hs_engine_detokenize(rest->engine, model->id, tokens, n, true, &text, &len, &err) !=
        HS_OK) {
        hs_rest_respond_failure(request, &err, "tokens");
        return;
    }
    respond_text(request, "content", text, len);
    hs_text_free(text);
}

/* ---- /apply-template ---- */

static void render(const struct hs_model_info *model, const struct hs_fields *fields,
                   const struct hs_rest_conversation *conversation,
                   const struct hs_generate_params *params)
{
    char *text = NULL;
    size_t len = 0;
    struct hs_error err;
    if (hs_engine_render(conversation->rest->engine, model->id, conversation->messages,
                         conversation->n_messages, params, &text, &len, &err) != HS_OK) {
        hs_rest_shape_respond_failure(fields, HS_REST_CHAT, conversation, &err, "messages");
        return;
    }
    respond_text(fields->request, "prompt", text, len);
    hs_text_free(text);
}

void hs_rest_apply_template(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    struct hs_rest_settings settings;
    struct hs_rest_conversation conversation;
    hs_rest_settings_init(rest, &settings);
    hs_rest_conversation_init(&conversation, rest, request);
    struct hs_generate_params *params = &settings.params;
    if (hs_rest_messages_read(&fields, &conversation) &&
        hs_rest_messages_read_continue(&fields, &conversation, params) &&
        hs_rest_tools_read(&fields, HS_REST_CHAT, &conversation, params) &&
        hs_rest_settings_read_reasoning(model, &fields, &fields, "reasoning_effort", &settings)) {
        render(model, &fields, &conversation, params);
    }
    hs_rest_conversation_free(&conversation);
    hs_rest_settings_free(&settings);
}
