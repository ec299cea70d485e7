#include "ollama_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/command.h"
#include "base/mem.h"
#include "lora.h"
#include "served_models.h"
#include "shape.h"

#define ID_BYTES 32
#define NAME_BYTES 4096
#define KEEP_ALIVE_MAX_MS 1e14 /* more is for ever */

/* ---- the model ---- */

static bool is_model(const struct hs_rest *rest, const char *name)
{
    for (size_t i = 0; i < rest->n_models; i++) {
        if (strcmp(rest->models[i].id, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The name without the tag "latest", unless a model is called so. */
static const char *without_tag(const struct hs_rest *rest, const char *name, char plain[NAME_BYTES])
{
    size_t len = strlen(name), n_tag = strlen(HS_OLLAMA_TAG);
    if (len <= n_tag || len - n_tag >= NAME_BYTES || is_model(rest, name) ||
        strcmp(name + len - n_tag, HS_OLLAMA_TAG) != 0) {
        return name;
    }
    memcpy(plain, name, len - n_tag);
    plain[len - n_tag] = '\0';
    return plain;
}

const struct hs_model_info *hs_ollama_open(const struct hs_rest *rest, hs_http_request *request,
                                           struct hs_fields *ret_fields, const char **ret_name)
{
    *ret_fields = (struct hs_fields){request, hs_http_request_json(request), ""};
    const char *name = NULL;
    if (ret_fields->object == NULL || !hs_field_string(ret_fields, "name", &name) ||
        !hs_field_string(ret_fields, "model", &name)) {
        return NULL;
    }
    char plain[NAME_BYTES];
    const struct hs_model_info *model =
        hs_rest_model(rest, request, name == NULL ? NULL : without_tag(rest, name, plain));
    if (model != NULL && ret_name != NULL) {
        *ret_name = name == NULL || *name == '\0' ? model->id : name;
    }
    return model;
}

/* ---- keep_alive ---- */

/* Go's durations: a sign, then numbers with units, "1h30m"; "0" alone. */
static bool read_duration(const char *text, double *ret_ms)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"h", 3.6e6}, {"m", 6e4}, {"s", 1e3}};
    const size_t n_units = sizeof units / sizeof units[0];
    const char *p = text + (*text == '-' || *text == '+');
    double sum = 0;
    bool has_any = strcmp(p, "0") == 0;
    p += has_any;
    while (*p != '\0') {
        size_t n = strspn(p, "0123456789."), unit = 0;
        has_any = n > 0 && strspn(p, ".") < n;
        const char *name = p + n;
        while (unit < n_units && strncmp(name, units[unit].name, strlen(units[unit].name)) != 0) {
            unit++;
        }
        if (!has_any || unit == n_units) {
            return false;
        }
        sum += strtod(p, NULL) * units[unit].ms; /* the locale is "C" */
        p = name + strlen(units[unit].name);
    }
    *ret_ms = *text == '-' ? -sum : sum;
    return has_any;
}

bool hs_ollama_keep_alive_read(const struct hs_fields *fields, int64_t *ret_ms)
{
    const json_t *json = hs_field_get(fields, "keep_alive");
    double ms = json_is_number(json) ? json_number_value(json) * 1000 : 0;
    *ret_ms = HS_KEEP_ALIVE_DEFAULT;
    if (json == NULL) {
        return true;
    }
    if (!json_is_number(json) &&
        !(json_is_string(json) && read_duration(json_string_value(json), &ms))) {
        return hs_field_refuse(fields, "keep_alive",
                               "must be a number of seconds, or a duration like \"5m\"");
    }
    *ret_ms = ms < 0 || ms > KEEP_ALIVE_MAX_MS ? -1 : (int64_t)ms;
    return true;
}

/* ---- options ---- */

bool hs_ollama_options_open(const struct hs_fields *fields, char *path, size_t size,
                            struct hs_fields *ret)
{
    static const char *const counts[] = {"num_ctx",  "num_batch",  "num_gpu",
                                         "main_gpu", "num_thread", "num_keep"};
    static const char *const switches[] = {"numa", "low_vram", "use_mmap", "use_mlock"};
    if (!hs_field_object(fields, "options", path, size, ret)) {
        return false;
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        int64_t ignored = 0;
        if (!hs_field_int(ret, counts[i], -1, INT32_MAX, &ignored)) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        bool ignored = false;
        if (!hs_field_bool(ret, switches[i], &ignored)) {
            return false;
        }
    }
    return true;
}

/* -1: no limit, -2: until the context is full, which is the same here; 0 as in Ollama: no limit. */
static bool read_options(const struct hs_model_info *model, const struct hs_fields *fields,
                         struct hs_rest_settings *settings)
{
    char path[64];
    struct hs_fields options;
    if (!hs_ollama_options_open(fields, path, sizeof path, &options)) {
        return false;
    }
    int64_t max_tokens = settings->params.max_tokens;
    if (!hs_field_int(&options, "num_predict", -2, INT32_MAX, &max_tokens) ||
        !hs_rest_settings_read_stop(&options, "stop", true, settings) ||
        !hs_rest_settings_read_sampling(model, &options, settings)) {
        return false;
    }
    settings->params.max_tokens = max_tokens <= 0 ? -1 : (int32_t)max_tokens;
    return true;
}

/* ---- what the answer is like ---- */

static bool read_format(const struct hs_fields *fields, struct hs_ollama_request *ret)
{
    const json_t *format = hs_field_get(fields, "format");
    if (json_is_object(format)) {
        return hs_rest_schema_read(fields, "format", &ret->conversation, &ret->settings.params);
    }
    const char *word = format == NULL ? "" : json_string_value(format);
    if (word == NULL || (*word != '\0' && strcmp(word, "json") != 0)) {
        return hs_field_refuse(fields, "format", "must be \"json\" or a JSON schema, an object");
    }
    if (*word == '\0') {
        return true;
    }
    ret->settings.params.json_schema = "{\"type\":\"object\"}";
    return ret->settings.params.sampling.grammar == NULL ||
           hs_field_refuse(fields, "format", "and options.grammar cannot be enforced together");
}

/* A word is how much to think, of which models here know no degrees. */
static bool read_think(const struct hs_fields *fields, bool *enable)
{
    const json_t *think = hs_field_get(fields, "think");
    if (json_is_string(think) && hs_command_list_has("high medium low", json_string_value(think))) {
        *enable = true;
        return true;
    }
    if (think != NULL && !json_is_boolean(think)) {
        return hs_field_refuse(fields, "think",
                               "must be true, false, \"high\", \"medium\" or \"low\"");
    }
    *enable = think == NULL ? *enable : json_is_true(think);
    return true;
}

static bool read_logprobs(const struct hs_fields *fields, struct hs_rest_settings *settings)
{
    bool wanted = false;
    int64_t top = 0;
    if (!hs_field_bool(fields, "logprobs", &wanted) ||
        !hs_field_int(fields, "top_logprobs", 0, HS_REST_TOP_LOGPROBS_MAX, &top)) {
        return false;
    }
    if (wanted || top > 0) {
        hs_rest_settings_set_logprobs(settings, (int32_t)top);
    }
    return true;
}

/* ---- messages ---- */

/* Calls have no ids in Ollama's API; templates may want some. Answers of tools come in the order of
 * the calls, or name the tool. */
static bool read_call(const struct hs_fields *item, struct hs_rest_conversation *conversation,
                      size_t n_calls)
{
    char path[128], made[ID_BYTES];
    struct hs_fields function;
    struct hs_tool_call call = {0};
    if (!hs_field_object(item, "function", path, sizeof path, &function) ||
        !hs_field_string(item, "id", &call.id) || !hs_field_string(&function, "name", &call.name)) {
        return false;
    }
    if (call.name == NULL) {
        return hs_field_refuse(&function, "name", "is missing");
    }
    if (call.id == NULL || *call.id == '\0') {
        snprintf(made, sizeof made, "call_%zu", n_calls);
        call.id = hs_rest_conversation_keep(conversation, hs_strdup(made));
    }
    return call.id != NULL &&
           hs_rest_conversation_arguments(conversation, &function, "arguments", &call.arguments) &&
           hs_rest_conversation_add_call(conversation, &call);
}

static bool read_calls(const struct hs_fields *message, struct hs_rest_conversation *conversation,
                       size_t *n_calls)
{
    const json_t *list = hs_field_get(message, "tool_calls");
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(message, "tool_calls", "must be an array");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[96];
        snprintf(path, sizeof path, "%stool_calls[%zu].", message->path, i);
        struct hs_fields item = {message->request, json_array_get(list, i), path};
        if (!json_is_object(item.object)) {
            return hs_field_refuse(message, "tool_calls", "must hold objects");
        }
        if (!read_call(&item, conversation, (*n_calls)++)) {
            return false;
        }
    }
    return true;
}

/* The call that the last message answers: of its name when it says one, the first that no message
 * before answers. NULL: there is none. */
static const struct hs_tool_call *answered_call(const struct hs_rest_conversation *conversation)
{
    size_t asked = conversation->n_messages - 1, last = asked;
    while (asked > 0 && conversation->messages[asked].n_tool_calls == 0) {
        asked--;
    }
    const struct hs_message *asking = &conversation->messages[asked];
    const char *name = conversation->messages[last].name;
    for (int32_t i = 0; i < asking->n_tool_calls; i++) {
        const struct hs_tool_call *call = &asking->tool_calls[i];
        bool is_open = name == NULL || strcmp(name, call->name) == 0;
        for (size_t m = asked + 1; m < last && is_open; m++) {
            const char *id = conversation->messages[m].tool_call_id;
            is_open = id == NULL || strcmp(id, call->id) != 0;
        }
        if (is_open) {
            return call;
        }
    }
    return NULL;
}

static bool read_answer_of_tool(const struct hs_fields *fields, struct hs_message *message,
                                const struct hs_rest_conversation *conversation)
{
    if (!hs_field_string(fields, "name", &message->name) ||
        !hs_field_string(fields, "tool_name", &message->name) ||
        !hs_field_string(fields, "tool_call_id", &message->tool_call_id)) {
        return false;
    }
    const struct hs_tool_call *call =
        message->tool_call_id == NULL ? answered_call(conversation) : NULL;
    if (call != NULL) {
        message->tool_call_id = call->id;
        message->name = call->name;
    }
    return true;
}

static bool read_message(const struct hs_fields *fields, struct hs_rest_conversation *conversation,
                         size_t *n_calls)
{
    static const struct hs_unsupported_field images = {"images", NULL};
    const char *role = NULL, *content = "";
    if (!hs_field_string(fields, "role", &role) || !hs_field_string(fields, "content", &content) ||
        !hs_fields_refuse_unsupported(fields, &images, 1)) {
        return false;
    }
    if (role == NULL || !hs_command_list_has("system user assistant tool", role)) {
        return hs_field_refuse(fields, "role",
                               "must be \"system\", \"user\", \"assistant\" or \"tool\"");
    }
    struct hs_message *message = hs_rest_conversation_add(conversation, role);
    if (message == NULL) {
        return false;
    }
    message->content = content;
    if (strcmp(role, "assistant") == 0) {
        return hs_field_string(fields, "thinking", &message->reasoning) &&
               read_calls(fields, conversation, n_calls);
    }
    return strcmp(role, "tool") != 0 || read_answer_of_tool(fields, message, conversation);
}

static bool read_messages(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    const json_t *list = hs_field_get(fields, "messages");
    size_t n = json_array_size(list), n_calls = 0;
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "messages", "must be an array");
    }
    if (!hs_rest_conversation_check_length(conversation, fields, "messages", n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char path[64];
        snprintf(path, sizeof path, "messages[%zu].", i);
        struct hs_fields message = {fields->request, json_array_get(list, i), path};
        if (!json_is_object(message.object)) {
            return hs_field_refuse(fields, "messages", "must hold objects");
        }
        if (!read_message(&message, conversation, &n_calls)) {
            return false;
        }
    }
    return true;
}

/* ---- all ---- */

static bool read_adapters(const struct hs_model_info *model, const struct hs_fields *fields,
                          struct hs_ollama_request *ret)
{
    char plain[NAME_BYTES];
    const char *name = without_tag(ret->settings.rest, ret->model_name, plain);
    bool is_read = hs_rest_lora_read(model, fields, name, &ret->settings);
    ret->settings.model_name = ret->model_name; /* answers give it with its tag */
    return is_read;
}

bool hs_ollama_request_read(const struct hs_rest *rest, const struct hs_model_info *model,
                            const struct hs_fields *fields, struct hs_ollama_request *ret)
{
    struct hs_rest_settings *settings = &ret->settings;
    hs_rest_settings_init(rest, settings);
    hs_rest_conversation_init(&ret->conversation, rest, fields->request);
    settings->stream = true;
    settings->params.split_reasoning = true;
    int64_t keep_alive_ms = HS_KEEP_ALIVE_DEFAULT;
    if (!hs_ollama_keep_alive_read(fields, &keep_alive_ms)) {
        return false;
    }
    ret->is_unload = keep_alive_ms == 0;
    hs_served_model_keep_alive(fields->request, keep_alive_ms);
    return hs_field_bool(fields, "stream", &settings->stream) &&
           read_options(model, fields, settings) && read_format(fields, ret) &&
           read_think(fields, &settings->params.enable_thinking) &&
           read_logprobs(fields, settings) && read_messages(fields, &ret->conversation) &&
           hs_rest_tools_read(fields, HS_REST_CHAT, &ret->conversation, &settings->params) &&
           read_adapters(model, fields, ret);
}

void hs_ollama_request_free(struct hs_ollama_request *request)
{
    hs_rest_conversation_free(&request->conversation);
    hs_rest_settings_free(&request->settings);
}
