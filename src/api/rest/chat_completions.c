/* chat_completions.c - POST /v1/chat/completions. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "json_quote.h"
#include "messages.h"
#include "openai_answer.h"

/* ---- format ---- */

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

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    bool is_text = event->type == HS_EVENT_TEXT;
    hs_status status = hs_buf_printf(out, "{\"index\":%zu,\"delta\":{\"%s\":", i,
                                     is_text ? "content" : "reasoning_content");
    status = status == HS_OK ? hs_json_quote(out, event->text, event->text_len) : status;
    status = status == HS_OK ? hs_buf_append_str(out, "}") : status;
    status = status == HS_OK ? write_logprobs(&generation->choices[i], out) : status;
    return status == HS_OK ? hs_buf_append_str(out, ",\"finish_reason\":null}") : status;
}

static hs_status write_last(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    return hs_buf_printf(out, "{\"index\":%zu,\"delta\":{},\"logprobs\":null,\"finish_reason\":%s}",
                         i, hs_openai_finish(&generation->choices[i]));
}

static hs_status write_whole(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[i];
    hs_status status =
        hs_buf_printf(out, "{\"index\":%zu,\"message\":{\"role\":\"assistant\",\"content\":", i);
    status = status == HS_OK ? hs_json_quote(out, choice->text.data, choice->text.len) : status;
    if (status == HS_OK && choice->reasoning.len > 0) {
        status = hs_buf_append_str(out, ",\"reasoning_content\":");
        status = status == HS_OK ? hs_json_quote(out, choice->reasoning.data, choice->reasoning.len)
                                 : status;
    }
    status = status == HS_OK ? hs_buf_append_str(out, ",\"refusal\":null}") : status;
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

static bool read_logprobs(const struct hs_fields *fields, struct hs_rest_settings *settings)
{
    bool wanted = false;
    int64_t top = 0;
    if (!hs_field_bool(fields, "logprobs", &wanted) ||
        !hs_field_int(fields, "top_logprobs", 0, HS_REST_TOP_LOGPROBS_MAX, &top)) {
        return false;
    }
    if (top > 0 && !wanted) {
        return hs_field_refuse(fields, "top_logprobs", "needs \"logprobs\": true");
    }
    if (wanted) {
        hs_rest_settings_set_logprobs(settings, (int32_t)top);
    }
    return true;
}

static bool is_plain_format(const struct hs_fields *fields)
{
    char path[64];
    struct hs_fields response_format;
    const char *type = NULL;
    if (!hs_field_object(fields, "response_format", path, sizeof path, &response_format) ||
        !hs_field_string(&response_format, "type", &type)) {
        return false;
    }
    if (response_format.object == NULL || (type != NULL && strcmp(type, "text") == 0)) {
        return true;
    }
    return type == NULL ? hs_field_refuse(&response_format, "type", "is missing")
                        : hs_field_refuse(fields, "response_format",
                                          "of type '%.64s' is not supported yet", type);
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
        {"tools", NULL},
        {"tool_choice", "none auto"},
        {"functions", NULL},
        {"function_call", "none auto"},
        {"json_schema", NULL},
        {"lora", NULL},
        {"audio", NULL},
        {"prediction", NULL},
        {"web_search_options", NULL},
        {"continue_final_message", NULL},
        {"n_probs", NULL},
    };
    return hs_fields_refuse_unsupported(fields, unsupported,
                                        sizeof unsupported / sizeof unsupported[0]) &&
           is_plain_format(fields) && is_text_only(fields) &&
           hs_rest_messages_read(fields, conversation) &&
           hs_rest_settings_read(rest, model, fields, settings) && read_logprobs(fields, settings);
}

static void start(const struct hs_rest *rest, const struct hs_model_info *model,
                  hs_http_request *request, const struct hs_rest_settings *settings,
                  const struct hs_rest_conversation *conversation)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    hs_status status = hs_generation_new(&format, rest, model, request, settings,
                                         (size_t)settings->n, &generation, &err);
    for (int32_t i = 0; i < settings->n && status == HS_OK; i++) {
        struct hs_generate_params params = hs_rest_settings_of(settings, i);
        status =
            hs_engine_chat(rest->engine, model->id, NULL, 0, conversation->messages,
                           conversation->n_messages, &params, &generation->choices[i].stream, &err);
    }
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_respond_failure(request, &err, "messages");
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
        start(rest, model, request, &settings, &conversation);
    }
    hs_rest_conversation_free(&conversation);
    hs_rest_settings_free(&settings);
}
