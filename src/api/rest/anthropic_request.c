#include "anthropic_request.h"

#include <stdio.h>
#include <string.h>

#include "api/command.h"
#include "lora.h"
#include "shape.h"

/* ---- tools ---- */

static bool read_tool(const struct hs_fields *tool, struct hs_rest_conversation *conversation)
{
    const char *type = NULL;
    if (!hs_field_string(tool, "type", &type)) {
        return false;
    }
    if (type != NULL && strcmp(type, "custom") != 0) {
        return hs_field_refuse(tool, "type",
                               "'%.64s' is a tool that this server does not run; it takes tools "
                               "of the client, with an \"input_schema\"",
                               type);
    }
    if (hs_field_get(tool, "input_schema") == NULL) {
        return hs_field_refuse(tool, "input_schema", "is missing");
    }
    return hs_rest_conversation_add_tool(conversation, tool, "input_schema");
}

static bool read_tools(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    const json_t *list = hs_field_get(fields, "tools");
    size_t n = json_array_size(list);
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "tools", "must be an array");
    }
    if (!hs_rest_conversation_check_tools(conversation, fields, "tools", n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char path[64];
        snprintf(path, sizeof path, "tools[%zu].", i);
        struct hs_fields tool = {fields->request, json_array_get(list, i), path};
        if (!json_is_object(tool.object)) {
            return hs_field_refuse(fields, "tools", "must hold objects");
        }
        if (!read_tool(&tool, conversation)) {
            return false;
        }
    }
    return true;
}

static bool read_named_tool(const struct hs_fields *choice,
                            const struct hs_rest_conversation *conversation,
                            struct hs_generate_params *params)
{
    const char *name = NULL;
    if (!hs_field_string(choice, "name", &name)) {
        return false;
    }
    if (name == NULL) {
        return hs_field_refuse(choice, "name", "is missing");
    }
    if (hs_rest_conversation_tool(conversation, name) == NULL) {
        return hs_field_refuse(choice, "name", "'%.64s' is none of the tools", name);
    }
    params->tool_name = name;
    return true;
}

static bool read_tool_choice(const struct hs_fields *fields,
                             const struct hs_rest_conversation *conversation,
                             struct hs_generate_params *params)
{
    char path[64];
    struct hs_fields choice;
    const char *type = NULL;
    bool is_one_call = false;
    params->parallel_tool_calls = true;
    if (!hs_field_object(fields, "tool_choice", path, sizeof path, &choice)) {
        return false;
    }
    if (choice.object == NULL) {
        return true;
    }
    if (!hs_field_string(&choice, "type", &type) ||
        !hs_field_bool(&choice, "disable_parallel_tool_use", &is_one_call)) {
        return false;
    }
    if (type == NULL || !hs_command_list_has("auto any tool none", type)) {
        return hs_field_refuse(&choice, "type", "must be \"auto\", \"any\", \"tool\" or \"none\"");
    }
    params->parallel_tool_calls = !is_one_call;
    if (strcmp(type, "none") == 0) {
        params->tool_choice = HS_TOOL_CHOICE_NONE;
    } else if (strcmp(type, "auto") != 0) {
        params->tool_choice = HS_TOOL_CHOICE_REQUIRED;
        if (conversation->n_tools == 0) {
            return hs_field_refuse(fields, "tool_choice",
                                   "asks for a call, but there are no tools");
        }
    }
    return strcmp(type, "tool") != 0 || read_named_tool(&choice, conversation, params);
}

/* ---- thinking and the answer's shape ---- */

static bool read_budget(const struct hs_fields *thinking, int32_t max_tokens)
{
    int64_t budget = 0;
    if (!hs_field_int(thinking, "budget_tokens", HS_ANTHROPIC_BUDGET_MIN, INT32_MAX, &budget)) {
        return false;
    }
    if (budget == 0) {
        return hs_field_refuse(thinking, "budget_tokens", "is missing");
    }
    return max_tokens <= 0 || budget < max_tokens ||
           hs_field_refuse(thinking, "budget_tokens", "is %lld; it must be below max_tokens (%d)",
                           (long long)budget, (int)max_tokens);
}

/* The budget is checked and no more: a model decides itself how long it thinks. */
static bool read_thinking(const struct hs_fields *fields, int32_t max_tokens,
                          struct hs_anthropic_request *ret)
{
    char path[64];
    struct hs_fields thinking;
    const char *type = NULL, *display = NULL;
    if (!hs_field_object(fields, "thinking", path, sizeof path, &thinking)) {
        return false;
    }
    if (thinking.object == NULL) {
        return true;
    }
    if (!hs_field_string(&thinking, "type", &type) ||
        !hs_field_string(&thinking, "display", &display)) {
        return false;
    }
    if (type == NULL || !hs_command_list_has("enabled disabled adaptive between_tools", type)) {
        return hs_field_refuse(&thinking, "type",
                               "must be \"enabled\", \"disabled\" or \"adaptive\"");
    }
    if (display != NULL && !hs_command_list_has("summarized omitted", display)) {
        return hs_field_refuse(&thinking, "display", "must be \"summarized\" or \"omitted\"");
    }
    ret->omits_thinking = display != NULL && strcmp(display, "omitted") == 0;
    ret->settings.params.enable_thinking = strcmp(type, "disabled") != 0;
    return strcmp(type, "enabled") != 0 || read_budget(&thinking, max_tokens);
}

/* {"type": "json_schema", "schema": {...}} */
static bool read_format(const struct hs_fields *fields, const char *name,
                        struct hs_anthropic_request *ret)
{
    char path[64];
    struct hs_fields format;
    const char *type = NULL;
    if (!hs_field_object(fields, name, path, sizeof path, &format)) {
        return false;
    }
    if (format.object == NULL) {
        return true;
    }
    if (!hs_field_string(&format, "type", &type)) {
        return false;
    }
    if (type == NULL || strcmp(type, "json_schema") != 0) {
        return hs_field_refuse(&format, "type", "must be \"json_schema\"");
    }
    if (hs_field_get(&format, "schema") == NULL) {
        return hs_field_refuse(&format, "schema", "is missing");
    }
    return hs_rest_schema_read(&format, "schema", &ret->conversation, &ret->settings.params);
}

static bool read_output(const struct hs_fields *fields, struct hs_anthropic_request *ret)
{
    static const char levels[] = "low medium high xhigh max";
    char path[64];
    struct hs_fields config;
    const char *effort = NULL;
    if (!hs_field_object(fields, "output_config", path, sizeof path, &config) ||
        !hs_field_string(&config, "effort", &effort)) {
        return false;
    }
    if (effort != NULL && !hs_command_list_has(levels, effort)) {
        return hs_field_refuse(&config, "effort", "must be one of: %s", levels);
    }
    return read_format(fields, "output_format", ret) && read_format(&config, "format", ret);
}

/* ---- numbers ---- */

static bool read_max_tokens(const struct hs_fields *fields, int32_t *ret_max)
{
    int64_t max_tokens = 0;
    if (!hs_field_int(fields, "max_tokens", 1, INT32_MAX, &max_tokens)) {
        return false;
    }
    *ret_max = (int32_t)max_tokens;
    return max_tokens > 0 || hs_field_refuse(fields, "max_tokens", "is missing");
}

/* An answer is asked for, not only a count. */
static bool read_settings(const struct hs_model_info *model, const struct hs_fields *fields,
                          struct hs_rest_settings *settings)
{
    char path[64];
    struct hs_fields metadata;
    float *temp = &settings->params.sampling.temp;
    return read_max_tokens(fields, &settings->params.max_tokens) &&
           hs_field_float(fields, "temperature", 0, 1, temp) &&
           hs_field_object(fields, "metadata", path, sizeof path, &metadata) &&
           hs_field_bool(fields, "stream", &settings->stream) &&
           hs_rest_settings_read_stop(fields, "stop_sequences", false, settings) &&
           hs_rest_settings_read_sampling(model, fields, settings) &&
           hs_rest_lora_read(model, fields, json_string_value(hs_field_get(fields, "model")),
                             settings);
}

/* An answer that has begun is gone on with. */
static bool read_prefill(const struct hs_fields *fields,
                         const struct hs_rest_conversation *conversation,
                         struct hs_generate_params *params)
{
    const struct hs_message *last = &conversation->messages[conversation->n_messages - 1];
    params->continue_final = strcmp(last->role, "assistant") == 0;
    return last->n_tool_calls == 0 ||
           hs_field_refuse(fields, "messages",
                           "ends with a tool_use block; its tool_result has to follow");
}

bool hs_anthropic_request_read(const struct hs_rest *rest, const struct hs_model_info *model,
                               const struct hs_fields *fields, bool is_counted,
                               struct hs_anthropic_request *ret)
{
    static const struct hs_unsupported_field unsupported[] = {{"mcp_servers", NULL},
                                                              {"container", NULL}};
    struct hs_generate_params *params = &ret->settings.params;
    ret->omits_thinking = false;
    hs_rest_settings_init(rest, &ret->settings);
    hs_rest_conversation_init(&ret->conversation, rest, fields->request);
    params->split_reasoning = true;
    if (!hs_fields_refuse_unsupported(fields, unsupported,
                                      sizeof unsupported / sizeof unsupported[0]) ||
        !hs_anthropic_messages_read(fields, &ret->conversation) ||
        !read_tools(fields, &ret->conversation) ||
        !read_tool_choice(fields, &ret->conversation, params) ||
        !(is_counted || read_settings(model, fields, &ret->settings)) ||
        !read_thinking(fields, is_counted ? 0 : params->max_tokens, ret) ||
        !read_output(fields, ret) || !read_prefill(fields, &ret->conversation, params)) {
        return false;
    }
    params->tools = ret->conversation.tools;
    params->n_tools = (int32_t)ret->conversation.n_tools;
    return true;
}

void hs_anthropic_request_free(struct hs_anthropic_request *request)
{
    hs_rest_conversation_free(&request->conversation);
    hs_rest_settings_free(&request->settings);
}
