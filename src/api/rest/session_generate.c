/* session_generate.c - POST /api/v1/sessions/{id}/generate: an answer that joins the session. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"
#include "lora.h"
#include "openai_answer.h"
#include "served_models.h"
#include "sessions.h"
#include "shape.h"

/* ---- the session while it is open ---- */

struct turn {
    hs_engine *engine;
    char id[HS_ID_MAX]; /* the engine's; "": closed */
    char name[HS_SESSION_NAME_MAX + 1];
};

static hs_status close_session(struct turn *turn, struct hs_error *err)
{
    hs_status status =
        turn->id[0] == '\0' ? HS_OK : hs_engine_close_session(turn->engine, turn->id, err);
    if (status == HS_OK) {
        turn->id[0] = '\0';
    }
    return status;
}

/* The next request finds the session free: it is closed before the answer's end is sent. */
static hs_status done(struct hs_generation *generation, struct hs_error *err)
{
    return close_session(generation->data, err);
}

/* A session cannot be closed before its turn is over, which a cancelled one is within a step. */
static void leave(struct hs_generation *generation)
{
    struct hs_choice *choice = &generation->choices[0];
    struct turn *turn = generation->data;
    struct hs_event event;
    if (turn == NULL) {
        return;
    }
    if (choice->stream != NULL && !choice->is_done) {
        hs_stream_cancel(choice->stream);
        while (hs_stream_next(choice->stream, -1, &event, NULL) == HS_OK &&
               event.type != HS_EVENT_DONE) {
        }
        choice->is_done = true;
    }
    hs_status status = close_session(turn, NULL);
    (void)status; /* the engine saves what is open when it ends, and says what it could not */
}

/* ---- format ---- */

static hs_status write_usage(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_usage *usage = &generation->choices[0].usage;
    return hs_buf_printf(
        out,
        "\"finish_reason\":%s,\"usage\":{\"prompt_tokens\":%d,\"cached_tokens\":%d,"
        "\"completion_tokens\":%d,\"dropped_messages\":%d,\"seed\":%u,\"queue_ms\":%.3f,"
        "\"prefill_ms\":%.3f,\"decode_ms\":%.3f}",
        hs_openai_finish(&generation->choices[0]), (int)usage->prompt_tokens,
        (int)usage->cached_tokens, (int)usage->completion_tokens, (int)usage->dropped_messages,
        (unsigned)usage->seed, usage->queue_ms, usage->prefill_ms, usage->decode_ms);
}

static hs_status write_head(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct turn *turn = generation->data;
    const char *model = generation->model_name;
    hs_status status = hs_buf_printf(out, "\"session\":\"%s\",\"model\":", turn->name);
    return status == HS_OK ? hs_json_quote(out, model, strlen(model)) : status;
}

static json_t *message_of(const struct hs_choice *choice)
{
    struct hs_tool_call *calls = hs_calloc(choice->n_calls + 1, sizeof *calls);
    if (calls == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < choice->n_calls; i++) {
        const struct hs_choice_call *call = &choice->calls[i];
        calls[i] = (struct hs_tool_call){call->id, call->name,
                                         call->arguments.len > 0 ? call->arguments.data : ""};
    }
    const struct hs_message message = {
        .role = "assistant",
        .content = choice->text.len > 0 ? choice->text.data : "",
        .reasoning = choice->reasoning.len > 0 ? choice->reasoning.data : NULL,
        .tool_calls = calls,
        .n_tool_calls = (int32_t)choice->n_calls,
    };
    json_t *json = hs_rest_session_message(&message);
    hs_free(calls);
    return json;
}

static hs_status write_whole(struct hs_generation *generation, struct hs_buf *out)
{
    json_t *message = message_of(&generation->choices[0]);
    char *text = message == NULL ? NULL : json_dumps(message, JSON_COMPACT);
    json_decref(message);
    hs_status status = text == NULL ? HS_OUT_OF_MEMORY : hs_buf_append_str(out, "{");
    status = status == HS_OK ? write_head(generation, out) : status;
    status = status == HS_OK ? hs_buf_append_str(out, ",\"message\":") : status;
    status = status == HS_OK ? hs_buf_append_str(out, text) : status;
    status = status == HS_OK ? hs_buf_append_str(out, ",") : status;
    status = status == HS_OK ? write_usage(generation, out) : status;
    hs_free(text);
    return status == HS_OK ? hs_buf_append_str(out, "}\n") : status;
}

static hs_status write_start(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "event: start\ndata: {");
    status = status == HS_OK ? write_head(generation, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n\n") : status;
}

static hs_status write_call(const struct hs_event *event, struct hs_buf *out)
{
    hs_status status =
        hs_buf_printf(out, "event: tool_call\ndata: {\"index\":%d,", (int)event->index);
    if (status == HS_OK && event->tool_name != NULL) {
        status = hs_buf_append_str(out, "\"id\":");
        status = status == HS_OK
                     ? hs_json_quote(out, event->tool_call_id, strlen(event->tool_call_id))
                     : status;
        status = status == HS_OK ? hs_buf_append_str(out, ",\"name\":") : status;
        status = status == HS_OK ? hs_json_quote(out, event->tool_name, strlen(event->tool_name))
                                 : status;
        status = status == HS_OK ? hs_buf_append_str(out, ",") : status;
    }
    status = status == HS_OK ? hs_buf_append_str(out, "\"arguments\":") : status;
    status = status == HS_OK ? hs_json_quote(out, event->text, event->text_len) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n\n") : status;
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    (void)generation;
    (void)i;
    if (event->type == HS_EVENT_DONE) {
        return HS_OK; /* told by the end, when the session is closed */
    }
    if (event->type == HS_EVENT_TOOL_CALL) {
        return write_call(event, out);
    }
    hs_status status = hs_buf_printf(out, "event: %s\ndata: {\"text\":",
                                     event->type == HS_EVENT_REASONING ? "reasoning" : "text");
    status = status == HS_OK ? hs_json_quote(out, event->text, event->text_len) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n\n") : status;
}

static hs_status write_end(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "event: done\ndata: {");
    status = status == HS_OK ? write_usage(generation, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n\n") : status;
}

static const struct hs_generation_format format = {
    .kind = HS_HTTP_SSE,
    .id_prefix = "turn-",
    .is_slow = true, /* closing a session may wait for the disk */
    .whole = write_whole,
    .start = write_start,
    .event = write_event,
    .end = write_end,
    .done = done,
    .leave = leave,
    .free_data = hs_free,
};

/* ---- request ---- */

struct call {
    const struct hs_rest *rest;
    const struct hs_model_info *model;
    struct hs_fields fields;
    struct hs_rest_settings settings;
    struct hs_rest_conversation conversation; /* its tools only */
    struct hs_session_ref ref;
    const char *prompt;
    bool is_anew;   /* answer the last question again */
    bool is_routed; /* the session is */
};

static bool read(struct call *call)
{
    struct hs_generate_params *params = &call->settings.params;
    const struct hs_fields *fields = &call->fields;
    if (!hs_field_string(fields, "prompt", &call->prompt) ||
        !hs_field_bool(fields, "regenerate", &call->is_anew) ||
        !hs_rest_settings_read(call->rest, call->model, fields, &call->settings) ||
        !hs_rest_tools_read(fields, HS_REST_CHAT, &call->conversation, params) ||
        !hs_rest_format_read(fields, "response_format", HS_REST_CHAT, &call->conversation,
                             params) ||
        !hs_rest_schema_read(fields, "json_schema", &call->conversation, params)) {
        return false;
    }
    if (call->settings.n > 1) {
        return hs_field_refuse(fields, "n", "must be 1: a session goes on with one answer");
    }
    return !call->is_anew || call->prompt == NULL ||
           hs_field_refuse(fields, "regenerate", "answers the last question; leave out prompt");
}

/* Cut the answer to the last question off: the engine brings it back unless a new one joins. */
static hs_status drop_answer(hs_engine *engine, const char *id, struct hs_error *err)
{
    size_t n = 0;
    hs_status status = hs_session_message_count(engine, id, &n, err);
    bool is_answer = true;
    while (status == HS_OK && n > 0 && is_answer) {
        struct hs_message message = {0};
        status = hs_session_message(engine, id, n - 1, &message, err);
        is_answer = status == HS_OK && strcmp(message.role, "assistant") == 0;
        n -= is_answer;
        hs_message_free(&message);
    }
    return status == HS_OK ? hs_session_truncate(engine, id, n, err) : status;
}

/* What the user said last in a session; empty: nothing. */
static hs_status last_question(hs_engine *engine, const char *id, struct hs_message *ret_question,
                               struct hs_error *err)
{
    size_t n = 0;
    hs_status status = hs_session_message_count(engine, id, &n, err);
    for (; status == HS_OK && n > 0; n--) {
        struct hs_message message = {0};
        status = hs_session_message(engine, id, n - 1, &message, err);
        if (status == HS_OK && strcmp(message.role, "user") == 0) {
            *ret_question = message;
            return HS_OK;
        }
        hs_message_free(&message);
    }
    return status;
}

/* By the prompt, or by the question that is answered without one. */
static hs_status choose_adapters(struct call *call, const char *id, struct hs_error *err)
{
    struct hs_rest_lora *lora = &call->settings.lora;
    struct hs_message question HS_CLEANUP(hs_message_free) = {0};
    hs_status status = HS_OK;
    if (call->is_routed && !lora->is_said && call->prompt != NULL) {
        lora->is_said = lora->is_auto = true; /* an answer anew has what the last one had */
    }
    if (lora->is_auto && call->prompt == NULL) {
        status = last_question(call->rest->engine, id, &question, err);
    }
    const char *text = call->prompt != NULL ? call->prompt : question.content;
    return status == HS_OK
               ? hs_rest_lora_route(call->rest, call->model, call->fields.request, text, lora, err)
               : status;
}

static hs_status begin(struct call *call, struct hs_generation *generation, struct hs_error *err)
{
    hs_engine *engine = call->rest->engine;
    struct turn *turn = hs_calloc(1, sizeof *turn);
    if (turn == NULL) {
        return hs_error_nomem(err, "session");
    }
    generation->data = turn;
    turn->engine = engine;
    memcpy(turn->name, call->ref.name, strlen(call->ref.name) + 1);
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = call->ref.stored;
    params.model_id = call->model->id;
    params.save_kv = false; /* it stays in the engine; on disk it would be written with each turn */
    struct hs_rest_lora *lora = &call->settings.lora;
    hs_status status = hs_engine_create_session(engine, &params, turn->id, err);
    status = status == HS_OK ? choose_adapters(call, turn->id, err) : status;
    if (status == HS_OK && lora->is_said) { /* the session has its own otherwise */
        status = hs_engine_apply_lora_weights(engine, turn->id, lora->refs, lora->n, err);
    }
    if (status == HS_OK && call->is_routed && lora->is_said && !lora->is_auto) {
        status = hs_engine_route_session(engine, turn->id, false, err);
    }
    if (status == HS_OK && call->is_anew) {
        status = drop_answer(engine, turn->id, err);
    }
    return status == HS_OK
               ? hs_engine_generate(engine, turn->id, call->prompt, &call->settings.params,
                                    &generation->choices[0].stream, err)
               : status;
}

static void start(struct call *call)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    hs_status status = hs_generation_new(&format, call->rest, call->model, call->fields.request,
                                         &call->settings, 1, &generation, &err);
    status = status == HS_OK ? begin(call, generation, &err) : status;
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_shape_respond_failure(&call->fields, HS_REST_CHAT, &call->conversation, &err,
                                      "prompt");
        return;
    }
    hs_generation_run(generation);
}

/* The model that the request names, otherwise the session's. */
static bool choose_model(struct call *call)
{
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    hs_http_request *request = call->fields.request;
    const char *name = NULL;
    if (!hs_rest_session_read(call->rest, request, &call->ref, &record, NULL) ||
        !hs_field_string(&call->fields, "model", &name)) {
        return false;
    }
    call->is_routed = record.is_routed;
    bool has_own = name == NULL && record.model_name != NULL && *record.model_name != '\0';
    if (!has_own) {
        call->model = hs_rest_model(call->rest, request, name);
        return call->model != NULL;
    }
    const struct hs_model_info *own =
        hs_rest_model_of(call->rest, record.model_name, record.fingerprint);
    if (own != NULL) {
        call->model = hs_served_model_take(call->rest, request, (size_t)(own - call->rest->models));
    } else {
        hs_rest_respond_no_model(call->rest, request,
                                 "the session asks for a model that is not loaded (\"model\", or "
                                 "--model in the terminal, names another):",
                                 record.model_name);
    }
    return call->model != NULL;
}

void hs_rest_session_generate(hs_http_request *request, void *user)
{
    struct call call = {.rest = user, .fields = {request, hs_http_request_json(request), ""}};
    if (call.fields.object == NULL || !hs_rest_session_ref(call.rest, request, &call.ref) ||
        !choose_model(&call)) {
        return;
    }
    hs_rest_conversation_init(&call.conversation, call.rest, request);
    if (read(&call)) {
        start(&call);
    }
    hs_rest_conversation_free(&call.conversation);
    hs_rest_settings_free(&call.settings);
}
