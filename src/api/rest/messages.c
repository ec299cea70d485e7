#include "messages.h"

#include <stdio.h>
#include <string.h>

/* ---- roles ---- */

static bool read_role(const struct hs_fields *fields, const char **ret_role)
{
    static const struct {
        const char *name, *role;
    } roles[] = {{"system", "system"},       {"developer", "system"}, {"user", "user"},
                 {"assistant", "assistant"}, {"tool", "tool"},        {"function", "tool"}};
    const char *role = NULL;
    if (!hs_field_string(fields, "role", &role)) {
        return false;
    }
    if (role == NULL) {
        return hs_field_refuse(fields, "role", "is missing");
    }
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(role, roles[i].name) == 0) {
            *ret_role = roles[i].role;
            return true;
        }
    }
    return hs_field_refuse(
        fields, "role", "must be \"system\", \"developer\", \"user\", \"assistant\" or \"tool\"");
}

/* ---- calls in an assistant's message ---- */

/* {"name", "arguments"} */
static bool read_function(struct hs_rest_conversation *conversation, const struct hs_fields *fields,
                          struct hs_tool_call *call)
{
    if (!hs_field_string(fields, "name", &call->name)) {
        return false;
    }
    if (call->name == NULL) {
        return hs_field_refuse(fields, "name", "is missing");
    }
    return hs_rest_conversation_arguments(conversation, fields, "arguments", &call->arguments) &&
           hs_rest_conversation_add_call(conversation, call);
}

static bool read_call(struct hs_rest_conversation *conversation, const struct hs_fields *fields)
{
    char path[128];
    struct hs_fields function;
    const char *type = NULL;
    struct hs_tool_call call = {0};
    if (!hs_field_string(fields, "type", &type) || !hs_field_string(fields, "id", &call.id) ||
        !hs_field_object(fields, "function", path, sizeof path, &function)) {
        return false;
    }
    if (type != NULL && strcmp(type, "function") != 0) {
        return hs_field_refuse(fields, "type", "must be \"function\"");
    }
    if (call.id == NULL) {
        return hs_field_refuse(fields, "id", "is missing");
    }
    if (function.object == NULL) {
        return hs_field_refuse(fields, "function", "is missing");
    }
    return read_function(conversation, &function, &call);
}

static bool read_calls(struct hs_rest_conversation *conversation, const struct hs_fields *fields)
{
    const json_t *list = hs_field_get(fields, "tool_calls");
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "tool_calls", "must be an array");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[96];
        snprintf(path, sizeof path, "%stool_calls[%zu].", fields->path, i);
        struct hs_fields call = {fields->request, json_array_get(list, i), path};
        if (!json_is_object(call.object)) {
            return hs_field_refuse(fields, "tool_calls", "must hold objects");
        }
        if (!read_call(conversation, &call)) {
            return false;
        }
    }
    char path[96];
    struct hs_fields function;
    if (!hs_field_object(fields, "function_call", path, sizeof path, &function)) {
        return false;
    }
    return function.object == NULL ||
           read_function(conversation, &function, &(struct hs_tool_call){.id = ""});
}

static bool read_assistant(struct hs_rest_conversation *conversation,
                           const struct hs_fields *fields, const char **content)
{
    size_t i = conversation->n_messages - 1;
    if (!hs_field_string(fields, "reasoning_content", &conversation->messages[i].reasoning) ||
        !read_calls(conversation, fields)) {
        return false;
    }
    if (*content == NULL && !hs_field_string(fields, "refusal", content)) {
        return false;
    }
    if (*content == NULL && conversation->messages[i].n_tool_calls > 0) {
        *content = "";
    }
    return true;
}

/* ---- the answer of a tool ---- */

static bool read_tool(const struct hs_rest_conversation *conversation,
                      const struct hs_fields *fields, struct hs_message *message)
{
    if (!hs_field_string(fields, "tool_call_id", &message->tool_call_id) ||
        !hs_field_string(fields, "name", &message->name)) {
        return false;
    }
    const char *role = json_string_value(hs_field_get(fields, "role"));
    bool is_legacy = strcmp(role, "function") == 0;
    if (is_legacy && message->name == NULL) {
        return hs_field_refuse(fields, "name", "is missing");
    }
    if (!is_legacy && message->tool_call_id == NULL) {
        return hs_field_refuse(fields, "tool_call_id", "is missing");
    }
    if (message->name == NULL) {
        message->name = hs_rest_conversation_call_name(conversation, message->tool_call_id);
    }
    return true;
}

/* ---- messages ---- */

static bool read_message(struct hs_rest_conversation *conversation, const struct hs_fields *fields)
{
    static const struct hs_unsupported_field unsupported[] = {{"audio", NULL}, {"images", NULL}};
    const char *role = NULL, *content = NULL;
    if (!read_role(fields, &role) ||
        !hs_fields_refuse_unsupported(fields, unsupported,
                                      sizeof unsupported / sizeof unsupported[0]) ||
        !hs_rest_conversation_text(conversation, fields, "content", "text refusal", &content)) {
        return false;
    }
    struct hs_message *message = hs_rest_conversation_add(conversation, role);
    if (message == NULL ||
        (strcmp(role, "assistant") == 0 && !read_assistant(conversation, fields, &content)) ||
        (strcmp(role, "tool") == 0 && !read_tool(conversation, fields, message))) {
        return false;
    }
    message->content = content;
    return content != NULL || hs_field_refuse(fields, "content", "is missing");
}

bool hs_rest_messages_read(const struct hs_fields *fields, struct hs_rest_conversation *ret)
{
    const json_t *list = hs_field_get(fields, "messages");
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0) {
        return hs_field_refuse(fields, "messages", "must be an array of at least one message");
    }
    if (!hs_rest_conversation_check_length(ret, fields, "messages", n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char path[64];
        snprintf(path, sizeof path, "messages[%zu].", i);
        struct hs_fields message = {fields->request, json_array_get(list, i), path};
        if (!json_is_object(message.object)) {
            snprintf(path, sizeof path, "messages[%zu]", i);
            message.path = "";
            return hs_field_refuse(&message, path, "must be an object");
        }
        if (!read_message(ret, &message)) {
            return false;
        }
    }
    return true;
}

bool hs_rest_messages_read_continue(const struct hs_fields *fields,
                                    const struct hs_rest_conversation *conversation,
                                    struct hs_generate_params *params)
{
    bool adds_prompt = true;
    if (!hs_field_bool(fields, "continue_final_message", &params->continue_final) ||
        !hs_field_bool(fields, "add_generation_prompt", &adds_prompt)) {
        return false;
    }
    if (!params->continue_final) {
        return adds_prompt || hs_field_refuse(fields, "add_generation_prompt",
                                              "needs \"continue_final_message\": true");
    }
    if (adds_prompt && hs_field_get(fields, "add_generation_prompt") != NULL) {
        return hs_field_refuse(fields, "continue_final_message",
                               "goes on with a message, and add_generation_prompt begins one");
    }
    const struct hs_message *last = &conversation->messages[conversation->n_messages - 1];
    if (strcmp(last->role, "assistant") != 0 || last->n_tool_calls > 0) {
        return hs_field_refuse(fields, "continue_final_message",
                               "needs a text of the assistant as the last message");
    }
    return true;
}
