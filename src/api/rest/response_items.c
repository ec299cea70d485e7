#include "response_items.h"

#include <stdio.h>
#include <string.h>

#include "api/command.h"
#include "base/error.h"
#include "base/mem.h"

/* ---- as they are kept ---- */

static bool no_memory(const struct hs_fields *fields)
{
    struct hs_error err;
    hs_error_nomem(&err, "input");
    hs_rest_respond_failure(fields->request, &err, NULL);
    return false;
}

static json_t *text_part(const char *role, const json_t *text)
{
    bool is_output = role != NULL && strcmp(role, "assistant") == 0;
    return is_output
               ? json_pack("[{s:s, s:O, s:[]}]", "type", "output_text", "text", text, "annotations")
               : json_pack("[{s:s, s:O}]", "type", "input_text", "text", text);
}

static const char *id_prefix(const char *type)
{
    static const struct {
        const char *type, *prefix;
    } rows[] = {{"reasoning", "rs_"}, {"function_call", "fc_"}, {"function_call_output", "fco_"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(type, rows[i].type) == 0) {
            return rows[i].prefix;
        }
    }
    return "msg_";
}

/* A copy with type and id, a text as a list of one part. */
static json_t *open_item(const json_t *item)
{
    json_t *copy = json_copy((json_t *)item);
    int failed = copy == NULL ? -1 : 0;
    const char *type = json_string_value(json_object_get(copy, "type"));
    const json_t *content = json_object_get(copy, "content");
    char id[HS_RESPONSE_ID_MAX];
    if (type == NULL) {
        type = "message";
        failed |= json_object_set_new(copy, "type", json_string(type));
    }
    if (json_is_string(content)) {
        const char *role = json_string_value(json_object_get(copy, "role"));
        failed |= json_object_set_new(copy, "content", text_part(role, content));
    }
    if (!json_is_string(json_object_get(copy, "id"))) {
        failed |= hs_generation_make_id(id_prefix(type), id, sizeof id, NULL) != HS_OK;
        failed |= json_object_set_new(copy, "id", json_string(id));
    }
    if (failed != 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

json_t *hs_response_items_open(const struct hs_fields *fields)
{
    const json_t *input = hs_field_get(fields, "input");
    size_t n = json_array_size(input);
    if (!json_is_string(input) && n == 0) {
        hs_field_refuse(fields, "input", "must be a string or an array of at least one item");
        return NULL;
    }
    json_t *message =
        json_is_string(input) ? json_pack("{s:s, s:O}", "role", "user", "content", input) : NULL;
    json_t *items = json_array();
    int failed = items == NULL;
    for (size_t i = 0; i < (n == 0 ? 1 : n) && failed == 0; i++) {
        const json_t *item = n == 0 ? message : json_array_get(input, i);
        if (n > 0 && !json_is_object(item)) {
            json_decref(items);
            hs_field_refuse(fields, "input", "must hold objects");
            return NULL;
        }
        failed = json_array_append_new(items, open_item(item));
    }
    json_decref(message);
    if (failed != 0) {
        json_decref(items);
        no_memory(fields);
        return NULL;
    }
    return items;
}

/* ---- as the engine takes them ---- */

/* The message that holds what the model says in one go; NULL: no memory. */
static struct hs_message *assistant(struct hs_rest_conversation *conversation, bool takes_text)
{
    size_t n = conversation->n_messages;
    struct hs_message *last = n == 0 ? NULL : &conversation->messages[n - 1];
    bool is_open = last != NULL && strcmp(last->role, "assistant") == 0;
    if (is_open && takes_text && (last->content[0] != '\0' || last->n_tool_calls > 0)) {
        is_open = false;
    }
    return is_open ? last : hs_rest_conversation_add(conversation, "assistant");
}

static bool read_message(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    const char *role = NULL, *text = NULL;
    if (!hs_field_string(fields, "role", &role)) {
        return false;
    }
    if (role == NULL || !hs_command_list_has("user system developer assistant", role)) {
        return hs_field_refuse(fields, "role",
                               "must be \"user\", \"system\", \"developer\" or "
                               "\"assistant\"");
    }
    if (!hs_rest_conversation_text(conversation, fields, "content",
                                   "input_text output_text refusal text", &text)) {
        return false;
    }
    if (text == NULL) {
        return hs_field_refuse(fields, "content", "is missing");
    }
    bool is_assistant = strcmp(role, "assistant") == 0;
    role = strcmp(role, "developer") == 0 ? "system" : role;
    struct hs_message *message =
        is_assistant ? assistant(conversation, true) : hs_rest_conversation_add(conversation, role);
    if (message == NULL) {
        return false;
    }
    message->content = text;
    return true;
}

/* The text itself, otherwise its summary. */
static bool read_reasoning(const struct hs_fields *fields,
                           struct hs_rest_conversation *conversation)
{
    const char *text = NULL;
    if (!hs_rest_conversation_text(conversation, fields, "content", "reasoning_text", &text) ||
        ((text == NULL || *text == '\0') &&
         !hs_rest_conversation_text(conversation, fields, "summary", "summary_text", &text))) {
        return false;
    }
    if (text == NULL || *text == '\0') {
        return true; /* encrypted by somebody else: nothing that could be read */
    }
    struct hs_message *message = assistant(conversation, true);
    if (message == NULL) {
        return false;
    }
    message->reasoning = text;
    return true;
}

static bool read_call(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    struct hs_tool_call call = {0};
    if (!hs_field_string(fields, "call_id", &call.id) ||
        !hs_field_string(fields, "name", &call.name)) {
        return false;
    }
    if (call.id == NULL || call.name == NULL) {
        return hs_field_refuse(fields, call.id == NULL ? "call_id" : "name", "is missing");
    }
    return hs_rest_conversation_arguments(conversation, fields, "arguments", &call.arguments) &&
           assistant(conversation, false) != NULL &&
           hs_rest_conversation_add_call(conversation, &call);
}

static bool read_output(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    const char *id = NULL, *text = NULL, *name = NULL;
    if (!hs_field_string(fields, "call_id", &id) || !hs_field_string(fields, "name", &name) ||
        !hs_rest_conversation_text(conversation, fields, "output", "input_text output_text",
                                   &text)) {
        return false;
    }
    if (id == NULL || text == NULL) {
        return hs_field_refuse(fields, id == NULL ? "call_id" : "output", "is missing");
    }
    name = name == NULL ? hs_rest_conversation_call_name(conversation, id) : name;
    struct hs_message *message = hs_rest_conversation_add(conversation, "tool");
    if (message == NULL) {
        return false;
    }
    message->content = text;
    message->tool_call_id = id;
    message->name = name;
    return true;
}

bool hs_response_items_read(const struct hs_fields *fields, const char *name, const json_t *items,
                            struct hs_rest_conversation *conversation)
{
    static const struct {
        const char *type;
        bool (*read)(const struct hs_fields *item, struct hs_rest_conversation *conversation);
    } rows[] = {{"message", read_message},
                {"reasoning", read_reasoning},
                {"function_call", read_call},
                {"function_call_output", read_output}};
    for (size_t i = 0; i < json_array_size(items); i++) {
        char path[96];
        snprintf(path, sizeof path, "%s[%zu].", name, i);
        const struct hs_fields item = {fields->request, json_array_get(items, i), path};
        const char *type = NULL;
        if (!hs_field_string(&item, "type", &type)) {
            return false;
        }
        size_t row = 0, n_rows = sizeof rows / sizeof rows[0];
        while (row < n_rows && (type == NULL || strcmp(type, rows[row].type) != 0)) {
            row++;
        }
        if (row == n_rows) {
            return hs_field_refuse(&item, "type",
                                   "must be \"message\", \"reasoning\", \"function_call\" or "
                                   "\"function_call_output\"");
        }
        if (!rows[row].read(&item, conversation)) {
            return false;
        }
    }
    return true;
}

/* ---- of an answer ---- */

json_t *hs_response_reasoning_item(const char *id, const char *status, const char *text, size_t len)
{
    json_t *item = json_pack("{s:s, s:s, s:s, s:[], s:[]}", "id", id, "type", "reasoning", "status",
                             status, "summary", "content");
    json_t *part =
        json_pack("{s:s, s:s%}", "type", "reasoning_text", "text", len > 0 ? text : "", len);
    if (json_array_append_new(json_object_get(item, "content"), part) != 0) {
        json_decref(item);
        return NULL;
    }
    return item;
}

static json_t *parse_list(const char *elements, size_t len)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_ANSWER_TEXT_MAX + 2);
    hs_status status = hs_buf_append_str(&text, "[");
    status = status == HS_OK && len > 0 ? hs_buf_append(&text, elements, len) : status;
    status = status == HS_OK ? hs_buf_append_str(&text, "]") : status;
    return status == HS_OK ? json_loadb(text.data, text.len, 0, NULL) : NULL;
}

json_t *hs_response_message_item(const char *id, const char *status, const char *text, size_t len,
                                 const char *logprobs, size_t logprobs_len)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:[{s:s, s:s%, s:[], s:o}]}", "id", id, "type",
                     "message", "status", status, "role", "assistant", "content", "type",
                     "output_text", "text", len > 0 ? text : "", len, "annotations", "logprobs",
                     parse_list(logprobs, logprobs_len));
}

json_t *hs_response_call_item(const char *id, const char *status, const struct hs_choice_call *call)
{
    size_t len = call->arguments.len;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s%}", "id", id, "type", "function_call", "status",
                     status, "call_id", call->id, "name", call->name, "arguments",
                     len > 0 ? call->arguments.data : "", len);
}
