/* chat_completions.c - POST /v1/chat/completions. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "json_quote.h"
#include "lora.h"
#include "messages.h"
#include "openai_answer.h"
#include "shape.h"

/* ---- format ---- */

static hs_status quote(struct hs_buf *out, const char *text)
{
    return hs_json_quote(out, text, strlen(text));
}

static hs_status append_all(struct hs_buf *out, const char *const *parts)
{
    hs_status status = HS_OK;
    for (size_t i = 0; parts[i] != NULL && status == HS_OK; i++) {
        status = hs_buf_append_str(out, parts[i]);
    }
    return status;
}

static hs_status write_logprobs(const struct hs_choice *choice, struct hs_buf *out)
{
    const struct hs_buf *list = &choice->logprobs[0];
    if (list->len == 0) {
        return hs_buf_append_str(out, ",\"logprobs\":null");
    }
    const char *const parts[] = {",\"logprobs\":{\"content\":[", list->data, "],\"refusal\":null}",
                                 NULL};
    return append_all(out, parts);
}

static hs_status write_first(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    (void)generation;
    return hs_buf_printf(out,
                         "{\"index\":%zu,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                         "\"logprobs\":null,\"finish_reason\":null}",
                         i);
}

/* A call's beginning or more of its arguments. */
static hs_status write_call_delta(const struct hs_event *event, struct hs_buf *out)
{
    hs_status status = hs_buf_printf(out, "{\"tool_calls\":[{\"index\":%d,", (int)event->index);
    if (status == HS_OK && event->tool_name != NULL) {
        status = hs_buf_append_str(out, "\"id\":");
        status = status == HS_OK ? quote(out, event->tool_call_id) : status;
        status = status == HS_OK
                     ? hs_buf_append_str(out, ",\"type\":\"function\",\"function\":{\"name\":")
                     : status;
        status = status == HS_OK ? quote(out, event->tool_name) : status;
        status = status == HS_OK ? hs_buf_append_str(out, ",") : status;
    } else if (status == HS_OK) {
        status = hs_buf_append_str(out, "\"function\":{");
    }
    status = status == HS_OK ? hs_buf_append_str(out, "\"arguments\":") : status;
    status = status == HS_OK ? hs_json_quote(out, event->text, event->text_len) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}}]}") : status;
}

static hs_status write_delta(const struct hs_event *event, struct hs_buf *out)
{
    if (event->type == HS_EVENT_TOOL_CALL) {
        return write_call_delta(event, out);
    }
    hs_status status = hs_buf_append_str(
        out, event->type == HS_EVENT_TEXT ? "{\"content\":" : "{\"reasoning_content\":");
    status = status == HS_OK ? hs_json_quote(out, event->text, event->text_len) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}") : status;
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    /* each token passes here, and printf takes as long as all the rest of a chunk */
    hs_status status = i == 0 ? hs_buf_append_str(out, "{\"index\":0,\"delta\":")
                              : hs_buf_printf(out, "{\"index\":%zu,\"delta\":", i);
    status = status == HS_OK ? write_delta(event, out) : status;
    status = status == HS_OK ? write_logprobs(&generation->choices[i], out) : status;
    return status == HS_OK ? hs_buf_append_str(out, ",\"finish_reason\":null}") : status;
}

static hs_status write_last(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    return hs_buf_printf(out, "{\"index\":%zu,\"delta\":{},\"logprobs\":null,\"finish_reason\":%s}",
                         i, hs_openai_finish(&generation->choices[i]));
}

static hs_status write_calls(const struct hs_choice *choice, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, ",\"tool_calls\":[");
    for (size_t i = 0; i < choice->n_calls && status == HS_OK; i++) {
        const struct hs_choice_call *call = &choice->calls[i];
        status = hs_buf_append_str(out, i == 0 ? "{\"id\":" : ",{\"id\":");
        status = status == HS_OK ? quote(out, call->id) : status;
        status = status == HS_OK
                     ? hs_buf_append_str(out, ",\"type\":\"function\",\"function\":{\"name\":")
                     : status;
        status = status == HS_OK ? quote(out, call->name) : status;
        status = status == HS_OK ? hs_buf_append_str(out, ",\"arguments\":") : status;
        status = status == HS_OK ? hs_json_quote(out, call->arguments.data, call->arguments.len)
                                 : status;
        status = status == HS_OK ? hs_buf_append_str(out, "}}") : status;
    }
    return status == HS_OK ? hs_buf_append_str(out, "]") : status;
}

/* The content is null when there are calls and nothing else. */
static hs_status write_message(const struct hs_choice *choice, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "{\"role\":\"assistant\",\"content\":");
    if (status == HS_OK && choice->text.len == 0 && choice->n_calls > 0) {
        status = hs_buf_append_str(out, "null");
    } else if (status == HS_OK) {
        status = hs_json_quote(out, choice->text.data, choice->text.len);
    }
    if (status == HS_OK && choice->reasoning.len > 0) {
        status = hs_buf_append_str(out, ",\"reasoning_content\":");
        status = status == HS_OK ? hs_json_quote(out, choice->reasoning.data, choice->reasoning.len)
                                 : status;
    }
    if (status == HS_OK && choice->n_calls > 0) {
        status = write_calls(choice, out);
    }
    return status == HS_OK ? hs_buf_append_str(out, ",\"refusal\":null}") : status;
}

static hs_status write_whole(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[i];
    hs_status status = hs_buf_printf(out, "{\"index\":%zu,\"message\":", i);
    status = status == HS_OK ? write_message(choice, out) : status;
    status = status == HS_OK ? write_logprobs(choice, out) : status;
    return status == HS_OK ? hs_buf_printf(out, ",\"finish_reason\":%s}", hs_openai_finish(choice))
                           : status;
}

static const struct hs_openai_choices choices = {
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .first = write_first,
    .event = write_event,
    .last = write_last,
    .whole = write_whole,
};

static const struct hs_generation_format format = {
    .kind = HS_HTTP_SSE,
    .id_prefix = "chatcmpl-",
    .own = &choices,
    .logprobs = hs_openai_add_logprobs,
    .whole = hs_openai_whole,
    .event = hs_openai_event,
    .end = hs_openai_end,
};

/* ---- request ---- */

/* "logprobs" and "top_logprobs", or llama.cpp's "n_probs". */
static bool read_logprobs(const struct hs_fields *fields, struct hs_rest_settings *settings)
{
    bool wanted = false;
    int64_t top = 0, n_probs = 0;
    if (!hs_field_bool(fields, "logprobs", &wanted) ||
        !hs_field_int(fields, "top_logprobs", 0, HS_REST_TOP_LOGPROBS_MAX, &top) ||
        !hs_field_int(fields, "n_probs", 0, HS_REST_TOP_LOGPROBS_MAX, &n_probs)) {
        return false;
    }
    if (top > 0 && !wanted) {
        return hs_field_refuse(fields, "top_logprobs", "needs \"logprobs\": true");
    }
    if (wanted || n_probs > 0) {
        hs_rest_settings_set_logprobs(settings, (int32_t)(wanted ? top : n_probs));
    }
    return true;
}

static bool is_text_only(const struct hs_fields *fields)
{
    const json_t *list = hs_field_get(fields, "modalities");
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "modalities", "must be an array");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL || strcmp(name, "text") != 0) {
            return hs_field_refuse(fields, "modalities",
                                   "may hold \"text\" only: this model takes and gives text");
        }
    }
    return true;
}

static bool read(const struct hs_rest *rest, const struct hs_model_info *model,
                 const struct hs_fields *fields, struct hs_rest_settings *settings,
                 struct hs_rest_conversation *conversation)
{
    static const struct hs_unsupported_field unsupported[] = {
        {"functions", NULL},  {"function_call", "none auto"}, {"audio", NULL},
        {"prediction", NULL}, {"web_search_options", NULL},
    };
    struct hs_generate_params *params = &settings->params;
    return hs_fields_refuse_unsupported(fields, unsupported,
                                        sizeof unsupported / sizeof unsupported[0]) &&
           is_text_only(fields) && hs_rest_messages_read(fields, conversation) &&
           hs_rest_settings_read(rest, model, fields, settings) &&
           read_logprobs(fields, settings) &&
           hs_rest_messages_read_continue(fields, conversation, params) &&
           hs_rest_tools_read(fields, HS_REST_CHAT, conversation, params) &&
           hs_rest_format_read(fields, "response_format", HS_REST_CHAT, conversation, params) &&
           hs_rest_schema_read(fields, "json_schema", conversation, params);
}

static void start(const struct hs_rest *rest, const struct hs_model_info *model,
                  const struct hs_fields *fields, struct hs_rest_settings *settings,
                  const struct hs_rest_conversation *conversation)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    hs_status status = hs_rest_lora_route(rest, model, fields->request,
                                          hs_rest_lora_text(conversation), &settings->lora, &err);
    if (status == HS_OK) {
        status = hs_generation_new(&format, rest, model, fields->request, settings,
                                   (size_t)settings->n, &generation, &err);
    }
    for (int32_t i = 0; i < settings->n && status == HS_OK; i++) {
        struct hs_generate_params params = hs_rest_settings_of(settings, i);
        status = hs_engine_chat(rest->engine, model->id, settings->lora.refs, settings->lora.n,
                                conversation->messages, conversation->n_messages, &params,
                                &generation->choices[i].stream, &err);
    }
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_shape_respond_failure(fields, HS_REST_CHAT, conversation, &err, "messages");
        return;
    }
    hs_generation_run(generation);
}

void hs_rest_chat_completions(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    struct hs_rest_settings settings = {0};
    struct hs_rest_conversation conversation;
    hs_rest_conversation_init(&conversation, rest, request);
    if (read(rest, model, &fields, &settings, &conversation)) {
        start(rest, model, &fields, &settings, &conversation);
    }
    hs_rest_conversation_free(&conversation);
    hs_rest_settings_free(&settings);
}
