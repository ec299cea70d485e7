/* responses.c - POST /v1/responses, and what was kept: GET, DELETE, /input_items. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/command.h"
#include "base/error.h"
#include "base/mem.h"
#include "lora.h"
#include "response_answer.h"
#include "shape.h"

#define METADATA_MAX 16
#define METADATA_KEY_MAX 64    /* bytes */
#define METADATA_VALUE_MAX 512 /* likewise */
#define ITEMS_LIMIT_MAX 100

/* What one request is made of. */
struct call {
    const struct hs_rest *rest;
    const struct hs_model_info *model;
    struct hs_fields fields;
    struct hs_rest_settings settings;
    struct hs_rest_conversation conversation;
    struct hs_response_answer *answer;
    const char *instructions, *previous;
};

static bool no_memory(hs_http_request *request)
{
    struct hs_error err;
    hs_error_nomem(&err, "response");
    hs_rest_respond_failure(request, &err, NULL);
    return false;
}

/* Keys see what they made; without keys there is one owner. */
static const char *owner_of(const hs_http_request *request)
{
    const struct hs_http_key_info *key = hs_http_request_key(request);
    return key == NULL ? "" : key->id;
}

/* ---- fields ---- */

static bool read_reasoning(struct call *call)
{
    char path[64];
    struct hs_fields reasoning;
    return hs_field_object(&call->fields, "reasoning", path, sizeof path, &reasoning) &&
           hs_rest_settings_read_reasoning(call->model, &call->fields, &reasoning, "effort",
                                           &call->settings);
}

static bool read_text(struct call *call)
{
    char path[64];
    struct hs_fields text;
    return hs_field_object(&call->fields, "text", path, sizeof path, &text) &&
           hs_rest_format_read(&text, "format", HS_REST_RESPONSES, &call->conversation,
                               &call->settings.params);
}

static bool read_logprobs(struct call *call)
{
    const struct hs_fields *fields = &call->fields;
    const json_t *list = hs_field_get(fields, "include");
    int64_t top = 0;
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "include", "must be an array");
    }
    if (!hs_field_int(fields, "top_logprobs", 0, HS_REST_TOP_LOGPROBS_MAX, &top)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        /* reasoning is there in plain text, which can be given back as well */
        if (name != NULL && strcmp(name, "message.output_text.logprobs") == 0) {
            hs_rest_settings_set_logprobs(&call->settings, (int32_t)top);
        } else if (name == NULL || strcmp(name, "reasoning.encrypted_content") != 0) {
            return hs_field_refuse(fields, "include",
                                   "may hold \"message.output_text.logprobs\" and "
                                   "\"reasoning.encrypted_content\"");
        }
    }
    return true;
}

static bool read_truncation(struct call *call)
{
    const char *word = NULL;
    if (!hs_field_string(&call->fields, "truncation", &word)) {
        return false;
    }
    if (word != NULL && !hs_command_list_has("auto disabled", word)) {
        return hs_field_refuse(&call->fields, "truncation", "must be \"auto\" or \"disabled\"");
    }
    bool shifts = word != NULL && strcmp(word, "auto") == 0;
    call->settings.params.overflow = shifts ? HS_OVERFLOW_SHIFT : HS_OVERFLOW_STOP;
    return true;
}

static bool check_metadata(const struct hs_fields *fields)
{
    const json_t *metadata = hs_field_get(fields, "metadata");
    const char *key;
    json_t *value;
    if (metadata != NULL && !json_is_object(metadata)) {
        return hs_field_refuse(fields, "metadata", "must be an object");
    }
    if (json_object_size(metadata) > METADATA_MAX) {
        return hs_field_refuse(fields, "metadata", "has %zu pairs; at most %d are allowed",
                               json_object_size(metadata), METADATA_MAX);
    }
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (strlen(key) > METADATA_KEY_MAX || !json_is_string(value) ||
            json_string_length(value) > METADATA_VALUE_MAX) {
            return hs_field_refuse(fields, "metadata",
                                   "must hold strings of at most %d bytes under names of at most "
                                   "%d",
                                   METADATA_VALUE_MAX, METADATA_KEY_MAX);
        }
    }
    return true;
}

static bool read_settings(struct call *call)
{
    struct hs_rest_settings *settings = &call->settings;
    const struct hs_fields *fields = &call->fields;
    int64_t max_tokens = settings->params.max_tokens;
    settings->params.split_reasoning = true;
    if (!hs_rest_settings_read_sampling(call->model, fields, settings) ||
        !hs_field_int(fields, "max_output_tokens", 1, INT32_MAX, &max_tokens) ||
        !hs_field_bool(fields, "stream", &settings->stream) ||
        !hs_rest_lora_read(call->model, fields, json_string_value(hs_field_get(fields, "model")),
                           settings)) {
        return false;
    }
    settings->params.max_tokens = (int32_t)max_tokens;
    return read_reasoning(call) && read_logprobs(call) && read_truncation(call) &&
           hs_rest_tools_read(fields, HS_REST_RESPONSES, &call->conversation, &settings->params) &&
           read_text(call) && check_metadata(fields);
}

/* ---- the conversation ---- */

static bool respond_no_previous(const struct call *call)
{
    char message[256];
    snprintf(message, sizeof message,
             "previous_response_id: there is no stored response '%.64s'; it was not stored, is too "
             "old, or was deleted",
             call->previous);
    hs_http_respond_error(call->fields.request,
                          &(struct hs_http_error){.status = 400,
                                                  .param = "previous_response_id",
                                                  .code = "previous_response_not_found",
                                                  .message = message});
    return false;
}

static json_t *items_before(const struct hs_stored_response *stored)
{
    json_t *items = json_loads(stored->history, 0, NULL);
    json_t *input = json_loads(stored->input, 0, NULL);
    json_t *body = json_loads(stored->body, 0, NULL);
    if (json_array_extend(items, input) != 0 ||
        json_array_extend(items, json_object_get(body, "output")) != 0) {
        json_decref(items);
        items = NULL;
    }
    json_decref(input);
    json_decref(body);
    return items;
}

/* The items before this request. */
static bool open_history(struct call *call)
{
    struct hs_stored_response stored = {0};
    struct hs_error err;
    hs_http_request *request = call->fields.request;
    if (call->previous == NULL) {
        call->answer->history = json_array();
        return call->answer->history != NULL || no_memory(request);
    }
    if (call->rest->responses == NULL) {
        return respond_no_previous(call);
    }
    hs_status status = hs_response_store_get(call->rest->responses, call->previous,
                                             owner_of(request), &stored, &err);
    if (status == HS_NOT_FOUND) {
        return respond_no_previous(call);
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return false;
    }
    call->answer->history = items_before(&stored);
    hs_stored_response_free(&stored);
    return call->answer->history != NULL || no_memory(request);
}

static bool read_conversation(struct call *call)
{
    const struct hs_fields *fields = &call->fields;
    struct hs_response_answer *answer = call->answer;
    struct hs_rest_conversation *conversation = &call->conversation;
    if (!hs_field_string(fields, "instructions", &call->instructions) ||
        !hs_field_string(fields, "previous_response_id", &call->previous)) {
        return false;
    }
    answer->input = hs_response_items_open(fields);
    if (answer->input == NULL || !open_history(call)) {
        return false;
    }
    size_t n = json_array_size(answer->history) + json_array_size(answer->input);
    if (!hs_rest_conversation_check_length(conversation, fields, "input", n)) {
        return false;
    }
    if (call->instructions != NULL) {
        struct hs_message *message = hs_rest_conversation_add(conversation, "system");
        if (message == NULL) {
            return false;
        }
        message->content = call->instructions;
    }
    return hs_response_items_read(fields, "previous_response_id", answer->history, conversation) &&
           hs_response_items_read(fields, "input", answer->input, conversation);
}

/* ---- the object ---- */

static json_t *given(const struct call *call, const char *name, json_t *otherwise)
{
    const json_t *json = hs_field_get(&call->fields, name);
    if (json == NULL) {
        return otherwise;
    }
    json_decref(otherwise);
    return json_deep_copy(json);
}

/* A float as people write it: 0.8, not 0.800000011920929. */
static json_t *decimal(float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", (double)value);
    return json_real(strtod(text, NULL));
}

/* What the request said and what stands where it said nothing. */
static bool make_object(struct call *call, const struct hs_generation *generation)
{
    const struct hs_generate_params *params = &call->settings.params;
    json_t *object = json_pack(
        "{s:s, s:s, s:I, s:n, s:s, s:b, s:n, s:n, s:s, s:[], s:n, s:b}", "id", generation->id,
        "object", "response", "created_at", (json_int_t)generation->created_unix_s, "completed_at",
        "status", "in_progress", "background", 0, "error", "incomplete_details", "model",
        call->settings.model_name, "output", "usage", "store", (int)call->answer->is_kept);
    struct {
        const char *name;
        json_t *value;
    } const rows[] = {
        {"instructions", given(call, "instructions", json_null())},
        {"previous_response_id", given(call, "previous_response_id", json_null())},
        {"max_output_tokens", given(call, "max_output_tokens", json_null())},
        {"metadata", given(call, "metadata", json_object())},
        {"parallel_tool_calls", json_boolean(params->parallel_tool_calls)},
        {"reasoning", given(call, "reasoning", json_pack("{s:n, s:n}", "effort", "summary"))},
        {"temperature", decimal(params->sampling.temp)},
        {"text", given(call, "text", json_pack("{s:{s:s}}", "format", "type", "text"))},
        {"tool_choice", given(call, "tool_choice", json_string("auto"))},
        {"tools", given(call, "tools", json_array())},
        {"top_logprobs", json_integer(call->settings.top_logprobs)},
        {"top_p", decimal(params->sampling.top_p)},
        {"truncation", given(call, "truncation", json_string("disabled"))},
        {"user", given(call, "user", json_null())},
    };
    int failed = object == NULL ? -1 : 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        failed |= json_object_set_new(object, rows[i].name, rows[i].value);
    }
    call->answer->object = object;
    return failed == 0;
}

/* ---- POST ---- */

static bool read(struct call *call)
{
    static const struct hs_unsupported_field unsupported[] = {
        {"background", NULL}, {"conversation", NULL},       {"prompt", NULL},
        {"moderation", NULL}, {"context_management", NULL},
    };
    bool is_kept = true;
    if (!hs_fields_refuse_unsupported(&call->fields, unsupported,
                                      sizeof unsupported / sizeof unsupported[0]) ||
        !hs_field_bool(&call->fields, "store", &is_kept) || !read_settings(call)) {
        return false;
    }
    call->answer = hs_calloc(1, sizeof *call->answer);
    if (call->answer == NULL) {
        return no_memory(call->fields.request);
    }
    call->answer->is_kept = is_kept && call->rest->responses != NULL;
    snprintf(call->answer->owner, sizeof call->answer->owner, "%s", owner_of(call->fields.request));
    call->answer->output = json_array();
    return call->answer->output != NULL ? read_conversation(call) : no_memory(call->fields.request);
}

static void start(struct call *call)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    const struct hs_rest_conversation *conversation = &call->conversation;
    hs_status status =
        hs_rest_lora_route(call->rest, call->model, call->fields.request,
                           hs_rest_lora_text(conversation), &call->settings.lora, &err);
    if (status == HS_OK) {
        status =
            hs_generation_new(hs_response_format(call->answer->is_kept), call->rest, call->model,
                              call->fields.request, &call->settings, 1, &generation, &err);
    }
    if (status == HS_OK && !make_object(call, generation)) {
        status = hs_error_nomem(&err, "response");
    }
    if (status == HS_OK) {
        status =
            hs_engine_chat(call->rest->engine, call->model->id, call->settings.lora.refs,
                           call->settings.lora.n, conversation->messages, conversation->n_messages,
                           &call->settings.params, &generation->choices[0].stream, &err);
    }
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_shape_respond_failure(&call->fields, HS_REST_RESPONSES, conversation, &err,
                                      "input");
        return;
    }
    generation->data = call->answer;
    call->answer = NULL;
    hs_generation_run(generation);
}

void hs_rest_response_create(hs_http_request *request, void *user)
{
    struct call call = {.rest = user};
    call.model = hs_rest_open(call.rest, request, &call.fields);
    if (call.model == NULL) {
        return;
    }
    hs_rest_settings_init(call.rest, &call.settings);
    hs_rest_conversation_init(&call.conversation, call.rest, request);
    if (read(&call)) {
        start(&call);
    }
    hs_response_answer_free(call.answer);
    hs_rest_conversation_free(&call.conversation);
    hs_rest_settings_free(&call.settings);
}

/* ---- what was kept ---- */

static hs_status no_store(const char *id, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_FOUND, "there is no stored response '%.64s'", id);
}

/* false: the request was answered. */
static bool find(const struct hs_rest *rest, hs_http_request *request,
                 struct hs_stored_response *ret)
{
    struct hs_error err;
    const char *id = hs_http_request_param(request, "id");
    hs_status status =
        rest->responses == NULL
            ? no_store(id, &err)
            : hs_response_store_get(rest->responses, id, owner_of(request), ret, &err);
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
    }
    return status == HS_OK;
}

void hs_rest_response_get(hs_http_request *request, void *user)
{
    struct hs_stored_response stored = {0};
    const char *stream = hs_http_request_query(request, "stream");
    if (stream != NULL && strcmp(stream, "false") != 0) {
        hs_http_respond_bad_param(request, "stream",
                                  "stream: a stored response is given as a whole; leave it out");
        return;
    }
    if (find(user, request, &stored)) {
        hs_http_respond(request, 200, "application/json", stored.body, strlen(stored.body));
        hs_stored_response_free(&stored);
    }
}

void hs_rest_response_delete(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_error err;
    const char *id = hs_http_request_param(request, "id");
    hs_status status = rest->responses == NULL
                           ? no_store(id, &err)
                           : hs_response_store_delete(rest->responses, id, owner_of(request), &err);
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_json(
        request, 200, json_pack("{s:s, s:s, s:b}", "id", id, "object", "response", "deleted", 1));
}

/* ---- /input_items ---- */

struct window {
    long limit;
    bool is_ascending;
    const char *after;
};

static bool read_window(hs_http_request *request, struct window *ret)
{
    const char *limit = hs_http_request_query(request, "limit");
    const char *order = hs_http_request_query(request, "order");
    *ret = (struct window){.limit = 20, .after = hs_http_request_query(request, "after")};
    char *end = NULL;
    if (limit != NULL) {
        ret->limit = strtol(limit, &end, 10);
        if (*limit == '\0' || *end != '\0' || ret->limit < 1 || ret->limit > ITEMS_LIMIT_MAX) {
            hs_http_respond_bad_param(request, "limit", "limit: must be from 1 to %d",
                                      ITEMS_LIMIT_MAX);
            return false;
        }
    }
    if (order != NULL && !hs_command_list_has("asc desc", order)) {
        hs_http_respond_bad_param(request, "order", "order: must be \"asc\" or \"desc\"");
        return false;
    }
    ret->is_ascending = order != NULL && strcmp(order, "asc") == 0;
    return true;
}

static const char *id_of(const json_t *item)
{
    return json_string_value(json_object_get(item, "id"));
}

/* Those of the items that the window shows. NULL: no memory. */
static json_t *show(const json_t *items, const struct window *window)
{
    json_t *shown = json_array();
    size_t n = json_array_size(items);
    bool is_open = window->after == NULL, has_more = false;
    for (size_t i = 0; i < n; i++) {
        json_t *item = json_array_get(items, window->is_ascending ? i : n - 1 - i);
        if (!is_open) {
            is_open = id_of(item) != NULL && strcmp(id_of(item), window->after) == 0;
            continue;
        }
        has_more = json_array_size(shown) == (size_t)window->limit;
        if (has_more) {
            break;
        }
        if (json_array_append(shown, item) != 0) {
            json_decref(shown);
            return NULL;
        }
    }
    n = json_array_size(shown);
    return json_pack("{s:s, s:o, s:s?, s:s?, s:b}", "object", "list", "data", shown, "first_id",
                     id_of(json_array_get(shown, 0)), "last_id",
                     n == 0 ? NULL : id_of(json_array_get(shown, n - 1)), "has_more",
                     (int)has_more);
}

void hs_rest_response_items(hs_http_request *request, void *user)
{
    struct hs_stored_response stored = {0};
    struct window window;
    if (!read_window(request, &window) || !find(user, request, &stored)) {
        return;
    }
    json_t *items = json_loads(stored.history, 0, NULL);
    json_t *input = json_loads(stored.input, 0, NULL);
    int failed = json_array_extend(items, input);
    hs_http_respond_json(request, 200, failed == 0 ? show(items, &window) : NULL);
    json_decref(items);
    json_decref(input);
    hs_stored_response_free(&stored);
}
