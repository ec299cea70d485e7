#include "messages.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define JOINED_MAX_BYTES (64u << 20)

static bool no_memory(const struct hs_fields *fields)
{
    struct hs_error err;
    hs_error_nomem(&err, "messages");
    hs_rest_respond_failure(fields->request, &err, NULL);
    return false;
}

/* The text of part i; text-only models have no other. */
static bool read_part(const struct hs_fields *message, const json_t *part, size_t i,
                      const char **ret_text)
{
    char path[128];
    snprintf(path, sizeof path, "%scontent[%zu].", message->path, i);
    struct hs_fields fields = {message->request, part, path};
    const char *type = NULL;
    if (!json_is_object(part)) {
        fields.path = message->path;
        return hs_field_refuse(&fields, "content", "must hold objects with a \"type\"");
    }
    if (!hs_field_string(&fields, "type", &type)) {
        return false;
    }
    bool is_refusal = type != NULL && strcmp(type, "refusal") == 0;
    if (type == NULL || (strcmp(type, "text") != 0 && !is_refusal)) {
        return hs_field_refuse(&fields, "type", "must be \"text\": this model takes text only");
    }
    const char *name = is_refusal ? "refusal" : "text";
    *ret_text = NULL;
    if (!hs_field_string(&fields, name, ret_text)) {
        return false;
    }
    return *ret_text != NULL || hs_field_refuse(&fields, name, "is missing");
}

static bool join_parts(const struct hs_fields *message, const json_t *parts, char **ret_text)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(JOINED_MAX_BYTES);
    hs_status status = hs_buf_append_str(&text, "");
    for (size_t i = 0; i < json_array_size(parts) && status == HS_OK; i++) {
        const char *part = NULL;
        if (!read_part(message, json_array_get(parts, i), i, &part)) {
            return false;
        }
        status = hs_buf_append_str(&text, i == 0 ? "" : "\n");
        status = status == HS_OK ? hs_buf_append_str(&text, part) : status;
    }
    status = status == HS_OK ? hs_buf_take(&text, ret_text, NULL) : status;
    return status == HS_OK || no_memory(message);
}

static bool read_role(const struct hs_fields *message, const char **ret_role)
{
    const char *role = NULL;
    if (!hs_field_string(message, "role", &role)) {
        return false;
    }
    if (role == NULL) {
        return hs_field_refuse(message, "role", "is missing");
    }
    if (strcmp(role, "tool") == 0 || strcmp(role, "function") == 0) {
        return hs_field_refuse(message, "role", "'%s' is not supported yet", role);
    }
    role = strcmp(role, "developer") == 0 ? "system" : role;
    if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
        strcmp(role, "assistant") != 0) {
        return hs_field_refuse(message, "role",
                               "must be \"system\", \"developer\", \"user\" or \"assistant\"");
    }
    *ret_role = role;
    return true;
}

static bool read_message(const struct hs_fields *fields, struct hs_message *ret, char **ret_joined)
{
    static const struct hs_unsupported_field unsupported[] = {
        {"tool_calls", NULL}, {"function_call", NULL}, {"audio", NULL}, {"images", NULL}};
    if (!read_role(fields, &ret->role) ||
        !hs_fields_refuse_unsupported(fields, unsupported,
                                      sizeof unsupported / sizeof unsupported[0]) ||
        !hs_field_string(fields, "reasoning_content", &ret->reasoning)) {
        return false;
    }
    const json_t *content = hs_field_get(fields, "content");
    if (content == NULL) {
        return hs_field_refuse(fields, "content", "is missing");
    }
    if (json_is_string(content)) {
        ret->content = json_string_value(content);
        return true;
    }
    if (!json_is_array(content)) {
        return hs_field_refuse(fields, "content", "must be a string or an array of parts");
    }
    bool ok = join_parts(fields, content, ret_joined);
    ret->content = *ret_joined;
    return ok;
}

bool hs_rest_messages_read(const struct hs_rest *rest, const struct hs_fields *fields,
                           struct hs_rest_messages *ret)
{
    *ret = (struct hs_rest_messages){0};
    const json_t *list = hs_field_get(fields, "messages");
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0) {
        return hs_field_refuse(fields, "messages", "must be an array of at least one message");
    }
    if (n > (size_t)rest->max_messages) {
        return hs_field_refuse(fields, "messages", "has %zu messages; at most %d are allowed", n,
                               (int)rest->max_messages);
    }
    ret->items = hs_calloc(n, sizeof ret->items[0]);
    ret->joined = hs_calloc(n, sizeof ret->joined[0]);
    if (ret->items == NULL || ret->joined == NULL) {
        return no_memory(fields);
    }
    ret->n = n;
    for (size_t i = 0; i < n; i++) {
        char path[64];
        snprintf(path, sizeof path, "messages[%zu].", i);
        struct hs_fields message = {fields->request, json_array_get(list, i), path};
        if (!json_is_object(message.object)) {
            snprintf(path, sizeof path, "messages[%zu]", i);
            message.path = "";
            return hs_field_refuse(&message, path, "must be an object");
        }
        if (!read_message(&message, &ret->items[i], &ret->joined[i])) {
            return false;
        }
    }
    return true;
}

void hs_rest_messages_free(struct hs_rest_messages *messages)
{
    for (size_t i = 0; messages->joined != NULL && i < messages->n; i++) {
        hs_free(messages->joined[i]);
    }
    hs_free(messages->joined);
    hs_free(messages->items);
    *messages = (struct hs_rest_messages){0};
}
