#include "conversation.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/command.h"
#include "base/error.h"
#include "base/mem.h"

#define JOINED_MAX_BYTES (64u << 20)
#define TOOL_NAME_MAX 64

void hs_rest_conversation_init(struct hs_rest_conversation *conversation,
                               const struct hs_rest *rest, hs_http_request *request)
{
    *conversation = (struct hs_rest_conversation){.rest = rest, .request = request};
}

void hs_rest_conversation_free(struct hs_rest_conversation *conversation)
{
    for (size_t i = 0; i < conversation->n_messages; i++) {
        hs_free((struct hs_tool_call *)conversation->messages[i].tool_calls);
    }
    for (size_t i = 0; i < conversation->n_kept; i++) {
        hs_free(conversation->kept[i]);
    }
    hs_free(conversation->messages);
    hs_free(conversation->tools);
    hs_free(conversation->kept);
    *conversation = (struct hs_rest_conversation){0};
}

static void no_memory(const struct hs_rest_conversation *conversation)
{
    struct hs_error err;
    hs_error_nomem(&err, "conversation");
    hs_rest_respond_failure(conversation->request, &err, NULL);
}

/* Room for one more of n items; capacities are powers of two, so only those need a new block. */
static void *grow(const struct hs_rest_conversation *conversation, void *items, size_t n,
                  size_t size)
{
    if (n > 0 && (n & (n - 1)) != 0) {
        return items;
    }
    void *grown = hs_realloc_array(items, n == 0 ? 1 : 2 * n, size);
    if (grown == NULL) {
        no_memory(conversation);
    }
    return grown;
}

/* ---- messages ---- */

struct hs_message *hs_rest_conversation_add(struct hs_rest_conversation *conversation,
                                            const char *role)
{
    struct hs_message *messages =
        grow(conversation, conversation->messages, conversation->n_messages, sizeof *messages);
    if (messages == NULL) {
        return NULL;
    }
    conversation->messages = messages;
    struct hs_message *message = &messages[conversation->n_messages++];
    *message = (struct hs_message){.role = role, .content = ""};
    return message;
}

bool hs_rest_conversation_add_call(struct hs_rest_conversation *conversation,
                                   const struct hs_tool_call *call)
{
    struct hs_message *message = &conversation->messages[conversation->n_messages - 1];
    struct hs_tool_call *calls = grow(conversation, (struct hs_tool_call *)message->tool_calls,
                                      (size_t)message->n_tool_calls, sizeof *calls);
    if (calls == NULL) {
        return false;
    }
    calls[message->n_tool_calls++] = *call;
    message->tool_calls = calls;
    return true;
}

const char *hs_rest_conversation_call_name(const struct hs_rest_conversation *conversation,
                                           const char *id)
{
    for (size_t m = conversation->n_messages; m > 0; m--) {
        const struct hs_message *message = &conversation->messages[m - 1];
        for (int32_t c = 0; c < message->n_tool_calls; c++) {
            const struct hs_tool_call *call = &message->tool_calls[c];
            if (call->id != NULL && strcmp(call->id, id) == 0) {
                return call->name;
            }
        }
    }
    return NULL;
}

bool hs_rest_conversation_check_length(const struct hs_rest_conversation *conversation,
                                       const struct hs_fields *fields, const char *name, size_t n)
{
    int32_t max = conversation->rest->max_messages;
    return n <= (size_t)max ||
           hs_field_refuse(fields, name, "has %zu messages; at most %d are allowed", n, (int)max);
}

/* ---- tools ---- */

static bool is_tool_name(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && strchr("_.-", name[i]) == NULL) {
            return false;
        }
    }
    return len > 0 && len <= TOOL_NAME_MAX;
}

bool hs_rest_conversation_add_tool(struct hs_rest_conversation *conversation,
                                   const struct hs_fields *fields, const char *schema_name)
{
    struct hs_tool tool = {0};
    if (!hs_field_string(fields, "name", &tool.name) ||
        !hs_field_string(fields, "description", &tool.description)) {
        return false;
    }
    if (tool.name == NULL) {
        return hs_field_refuse(fields, "name", "is missing");
    }
    if (!is_tool_name(tool.name)) {
        return hs_field_refuse(fields, "name", "must be 1 to %d letters, digits, '_', '.' or '-'",
                               TOOL_NAME_MAX);
    }
    if (hs_rest_conversation_tool(conversation, tool.name) != NULL) {
        return hs_field_refuse(fields, "name", "'%s' is the name of another tool, too", tool.name);
    }
    const json_t *schema = hs_field_get(fields, schema_name);
    if (schema != NULL && !json_is_object(schema)) {
        return hs_field_refuse(fields, schema_name, "must be a JSON Schema, an object");
    }
    if (json_object_size(schema) > 0) {
        tool.parameters = hs_rest_conversation_json(conversation, schema);
        if (tool.parameters == NULL) {
            return false;
        }
        if (strlen(tool.parameters) > conversation->rest->max_schema_bytes) {
            return hs_field_refuse(fields, schema_name, "has %zu bytes; at most %zu are allowed",
                                   strlen(tool.parameters), conversation->rest->max_schema_bytes);
        }
    }
    struct hs_tool *tools =
        grow(conversation, conversation->tools, conversation->n_tools, sizeof *tools);
    if (tools == NULL) {
        return false;
    }
    conversation->tools = tools;
    tools[conversation->n_tools++] = tool;
    return true;
}

const struct hs_tool *hs_rest_conversation_tool(const struct hs_rest_conversation *conversation,
                                                const char *name)
{
    for (size_t i = 0; i < conversation->n_tools; i++) {
        if (strcmp(conversation->tools[i].name, name) == 0) {
            return &conversation->tools[i];
        }
    }
    return NULL;
}

bool hs_rest_conversation_check_tools(const struct hs_rest_conversation *conversation,
                                      const struct hs_fields *fields, const char *name, size_t n)
{
    int32_t max = conversation->rest->max_tools;
    return n <= (size_t)max ||
           hs_field_refuse(fields, name, "has %zu tools; at most %d are allowed", n, (int)max);
}

/* ---- texts ---- */

const char *hs_rest_conversation_keep(struct hs_rest_conversation *conversation, char *text)
{
    if (text == NULL) {
        no_memory(conversation);
        return NULL;
    }
    char **kept = grow(conversation, conversation->kept, conversation->n_kept, sizeof *kept);
    if (kept == NULL) {
        hs_free(text);
        return NULL;
    }
    conversation->kept = kept;
    kept[conversation->n_kept++] = text;
    return text;
}

const char *hs_rest_conversation_json(struct hs_rest_conversation *conversation, const json_t *json)
{
    return hs_rest_conversation_keep(conversation,
                                     json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY));
}

/* The text of part i; text-only models have no other. */
static bool read_part(const struct hs_fields *fields, const char *name, size_t i, const char *types,
                      const char **ret_text)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s[%zu].", fields->path, name, i);
    const json_t *json = json_array_get(hs_field_get(fields, name), i);
    struct hs_fields part = {fields->request, json, path};
    const char *type = NULL;
    if (!json_is_object(json)) {
        return hs_field_refuse(fields, name, "must hold objects with a \"type\"");
    }
    if (!hs_field_string(&part, "type", &type)) {
        return false;
    }
    if (type == NULL || !hs_command_list_has(types, type)) {
        return hs_field_refuse(&part, "type", "must be one of: %s; this model takes text only",
                               types);
    }
    const char *its_name = strcmp(type, "refusal") == 0 ? "refusal" : "text";
    *ret_text = NULL;
    if (!hs_field_string(&part, its_name, ret_text)) {
        return false;
    }
    return *ret_text != NULL || hs_field_refuse(&part, its_name, "is missing");
}

bool hs_rest_conversation_text(struct hs_rest_conversation *conversation,
                               const struct hs_fields *fields, const char *name, const char *types,
                               const char **ret_text)
{
    const json_t *json = hs_field_get(fields, name);
    *ret_text = json_string_value(json);
    if (json == NULL || json_is_string(json)) {
        return true;
    }
    if (!json_is_array(json)) {
        return hs_field_refuse(fields, name, "must be a string or an array of parts");
    }
    size_t n = json_array_size(json);
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(JOINED_MAX_BYTES);
    hs_status status = hs_buf_append_str(&text, "");
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        const char *part = NULL;
        if (!read_part(fields, name, i, types, &part)) {
            return false;
        }
        if (n == 1) { /* as it is, without a copy */
            *ret_text = part;
            return true;
        }
        status = hs_buf_append_str(&text, i == 0 ? "" : "\n");
        status = status == HS_OK ? hs_buf_append_str(&text, part) : status;
    }
    char *joined = NULL;
    status = status == HS_OK ? hs_buf_take(&text, &joined, NULL) : status;
    *ret_text = hs_rest_conversation_keep(conversation, joined);
    return *ret_text != NULL;
}

bool hs_rest_conversation_arguments(struct hs_rest_conversation *conversation,
                                    const struct hs_fields *fields, const char *name,
                                    const char **ret_text)
{
    const json_t *json = hs_field_get(fields, name);
    *ret_text = "{}";
    if (json == NULL || (json_is_string(json) && json_string_length(json) == 0)) {
        return true;
    }
    if (json_is_object(json)) {
        *ret_text = hs_rest_conversation_json(conversation, json);
        return *ret_text != NULL;
    }
    json_t *parsed = json_loads(json_is_string(json) ? json_string_value(json) : "", 0, NULL);
    bool is_object = json_is_object(parsed);
    json_decref(parsed);
    *ret_text = json_string_value(json);
    return is_object || hs_field_refuse(fields, name, "must be a JSON object, as text");
}
