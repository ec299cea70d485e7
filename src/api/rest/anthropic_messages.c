/* anthropic_messages.c - "system" and "messages": content blocks become texts, calls and answers of
 * tools. */
#include <stdio.h>
#include <string.h>

#include "anthropic_request.h"
#include "api/command.h"
#include "base/mem.h"

#define TEXT_MAX_BYTES (64u << 20)
#define PATH_BYTES 96

/* One message while its blocks are read. */
struct reading {
    struct hs_rest_conversation *conversation;
    const char *role;
    struct hs_buf text, reasoning;
};

static void reading_free(struct reading *reading)
{
    hs_buf_free(&reading->text);
    hs_buf_free(&reading->reasoning);
}

/* Texts of one message stand below each other. */
static bool append(const struct reading *reading, struct hs_buf *to, const char *text)
{
    hs_status status = to->data == NULL ? HS_OK : hs_buf_append_str(to, "\n");
    status = status == HS_OK ? hs_buf_append_str(to, text) : status;
    return status == HS_OK || hs_rest_conversation_keep(reading->conversation, NULL) != NULL;
}

static bool take(const struct reading *reading, struct hs_buf *from, const char **ret_text)
{
    char *text = NULL;
    if (from->data == NULL) {
        return true;
    }
    if (hs_buf_take(from, &text, NULL) != HS_OK) {
        text = NULL;
    }
    *ret_text = hs_rest_conversation_keep(reading->conversation, text);
    return *ret_text != NULL;
}

/* The text so far becomes a message of its own; turns of one role that follow each other are one,
 * as templates want them to alternate. */
static bool flush_text(struct reading *reading)
{
    struct hs_rest_conversation *conversation = reading->conversation;
    size_t n = conversation->n_messages;
    struct hs_message *message = n == 0 ? NULL : &conversation->messages[n - 1];
    bool is_joined = message != NULL && strcmp(message->role, reading->role) == 0 &&
                     strcmp(reading->role, "system") != 0 && message->n_tool_calls == 0;
    if (!is_joined) {
        message = hs_rest_conversation_add(conversation, reading->role);
        return message != NULL && take(reading, &reading->text, &message->content);
    }
    struct hs_buf both HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX_BYTES);
    bool ok = append(reading, &both, message->content) &&
              append(reading, &both, reading->text.data == NULL ? "" : reading->text.data) &&
              take(reading, &both, &message->content);
    hs_buf_free(&reading->text);
    return ok;
}

/* ---- blocks ---- */

static bool read_text(const struct hs_fields *block, const char *name, const char **ret_text)
{
    *ret_text = NULL;
    if (!hs_field_string(block, name, ret_text)) {
        return false;
    }
    return *ret_text != NULL || hs_field_refuse(block, name, "is missing");
}

static bool read_tool_result(const struct hs_fields *block, struct reading *reading)
{
    struct hs_rest_conversation *conversation = reading->conversation;
    const char *id = NULL, *text = NULL;
    bool is_error = false;
    if (!read_text(block, "tool_use_id", &id) || !hs_field_bool(block, "is_error", &is_error) ||
        !hs_rest_conversation_text(conversation, block, "content", "text", &text)) {
        return false;
    }
    const char *name = hs_rest_conversation_call_name(conversation, id);
    if (name == NULL) {
        return hs_field_refuse(block, "tool_use_id", "is the id of no tool_use block before it");
    }
    if (reading->text.data != NULL && !flush_text(reading)) {
        return false;
    }
    text = text == NULL ? "" : text;
    if (is_error) { /* templates know no other way to say so */
        struct hs_buf message HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX_BYTES);
        if (!append(reading, &message, "Error:") || !append(reading, &message, text) ||
            !take(reading, &message, &text)) {
            return false;
        }
    }
    struct hs_message *message = hs_rest_conversation_add(conversation, "tool");
    if (message == NULL) {
        return false;
    }
    message->content = text;
    message->tool_call_id = id;
    message->name = name;
    return true;
}

static bool read_user_block(const struct hs_fields *block, const char *type,
                            struct reading *reading)
{
    const char *text = NULL;
    if (strcmp(type, "text") == 0) {
        return read_text(block, "text", &text) && append(reading, &reading->text, text);
    }
    if (strcmp(type, "tool_result") == 0) {
        return read_tool_result(block, reading);
    }
    return hs_field_refuse(block, "type",
                           "'%.64s' is not possible here: this model takes text only", type);
}

static bool read_tool_use(const struct hs_fields *block, struct reading *reading)
{
    struct hs_tool_call call = {0};
    const json_t *input = hs_field_get(block, "input");
    if (!read_text(block, "id", &call.id) || !read_text(block, "name", &call.name)) {
        return false;
    }
    if (!json_is_object(input)) {
        return hs_field_refuse(block, "input", "must be an object");
    }
    call.arguments = hs_rest_conversation_json(reading->conversation, input);
    return call.arguments != NULL && hs_rest_conversation_add_call(reading->conversation, &call);
}

/* The message stands already, so that it can take calls. */
static bool read_assistant_block(const struct hs_fields *block, const char *type,
                                 struct reading *reading)
{
    const char *text = NULL;
    if (strcmp(type, "text") == 0) {
        return read_text(block, "text", &text) && append(reading, &reading->text, text);
    }
    if (strcmp(type, "thinking") == 0) {
        return read_text(block, "thinking", &text) && append(reading, &reading->reasoning, text);
    }
    if (strcmp(type, "tool_use") == 0) {
        return read_tool_use(block, reading);
    }
    return strcmp(type, "redacted_thinking") == 0 ||
           hs_field_refuse(block, "type", "'%.64s' is not known in an assistant's message", type);
}

static bool read_blocks(const struct hs_fields *message, struct reading *reading)
{
    const json_t *list = hs_field_get(message, "content");
    bool is_assistant = strcmp(reading->role, "assistant") == 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%scontent[%zu].", message->path, i);
        struct hs_fields block = {message->request, json_array_get(list, i), path};
        const char *type = NULL;
        if (!json_is_object(block.object)) {
            return hs_field_refuse(message, "content", "must hold objects with a \"type\"");
        }
        if (!read_text(&block, "type", &type) ||
            !(is_assistant ? read_assistant_block(&block, type, reading)
                           : read_user_block(&block, type, reading))) {
            return false;
        }
    }
    return true;
}

/* ---- messages ---- */

static bool read_assistant(const struct hs_fields *fields, struct reading *reading)
{
    struct hs_rest_conversation *conversation = reading->conversation;
    if (hs_rest_conversation_add(conversation, "assistant") == NULL ||
        !read_blocks(fields, reading)) {
        return false;
    }
    struct hs_message *message = &conversation->messages[conversation->n_messages - 1];
    return take(reading, &reading->text, &message->content) &&
           take(reading, &reading->reasoning, &message->reasoning);
}

static bool read_content(const struct hs_fields *fields, struct reading *reading)
{
    const json_t *content = hs_field_get(fields, "content");
    if (json_is_string(content)) {
        return append(reading, &reading->text, json_string_value(content)) && flush_text(reading);
    }
    if (!json_is_array(content)) {
        return content == NULL
                   ? hs_field_refuse(fields, "content", "is missing")
                   : hs_field_refuse(fields, "content", "must be a string or an array of blocks");
    }
    if (strcmp(reading->role, "assistant") == 0) {
        return read_assistant(fields, reading);
    }
    size_t before = reading->conversation->n_messages;
    return read_blocks(fields, reading) &&
           ((reading->text.data == NULL && reading->conversation->n_messages > before) ||
            flush_text(reading));
}

static bool read_message(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    const char *role = NULL;
    if (!read_text(fields, "role", &role)) {
        return false;
    }
    if (!hs_command_list_has("user assistant system", role)) {
        return hs_field_refuse(fields, "role", "must be \"user\", \"assistant\" or \"system\"");
    }
    struct reading reading HS_CLEANUP(reading_free) = {
        .conversation = conversation,
        .role = role,
        .text = HS_BUF_INIT(TEXT_MAX_BYTES),
        .reasoning = HS_BUF_INIT(TEXT_MAX_BYTES),
    };
    return read_content(fields, &reading);
}

static bool read_system(const struct hs_fields *fields, struct hs_rest_conversation *conversation)
{
    const char *text = NULL;
    if (!hs_rest_conversation_text(conversation, fields, "system", "text", &text)) {
        return false;
    }
    if (text == NULL || *text == '\0') {
        return true;
    }
    struct hs_message *message = hs_rest_conversation_add(conversation, "system");
    if (message != NULL) {
        message->content = text;
    }
    return message != NULL;
}

bool hs_anthropic_messages_read(const struct hs_fields *fields,
                                struct hs_rest_conversation *conversation)
{
    const json_t *list = hs_field_get(fields, "messages");
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0) {
        return hs_field_refuse(fields, "messages", "must be an array of at least one message");
    }
    if (!hs_rest_conversation_check_length(conversation, fields, "messages", n) ||
        !read_system(fields, conversation)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "messages[%zu].", i);
        struct hs_fields message = {fields->request, json_array_get(list, i), path};
        if (!json_is_object(message.object)) {
            return hs_field_refuse(fields, "messages", "must hold objects");
        }
        if (!read_message(&message, conversation)) {
            return false;
        }
    }
    return true;
}
