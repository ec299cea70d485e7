/* session_store_json.c - session.json: the text of a session, as docs/formats.md describes it. */
#include "session_store_internal.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "storage/json_memory.h"

static const char FORMAT_NAME[] = "hyprstream-session";
static const char *const OVERFLOW_NAMES[] = {
    [HS_OVERFLOW_STOP] = "stop",
    [HS_OVERFLOW_SHIFT] = "shift",
};

/* ---- reading ---- */

static hs_status corrupt(struct hs_error *err, const char *what)
{
    hs_error_set(err, HS_CORRUPT, "session.json is damaged: %s", what);
    hs_error_hint(err,
                  "repair the file by hand, or remove the session with `hyprstream session rm`");
    return HS_CORRUPT;
}

static hs_status copy_string(const json_t *value, char **ret_copy, struct hs_error *err)
{
    char *copy = hs_strndup(json_string_value(value), json_string_length(value));
    if (copy == NULL)
        return hs_error_nomem(err, "text of a session");
    *ret_copy = copy;
    return HS_OK;
}

static hs_status read_string(const json_t *object, const char *key, char **ret_text,
                             struct hs_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) {
        char what[64];
        snprintf(what, sizeof what, "\"%s\" is no string", key);
        return corrupt(err, what);
    }
    return copy_string(value, ret_text, err);
}

static hs_status read_time(const json_t *object, const char *key, int64_t *ret_ms,
                           struct hs_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) {
        char what[64];
        snprintf(what, sizeof what, "\"%s\" is no integer", key);
        return corrupt(err, what);
    }
    *ret_ms = json_integer_value(value);
    return HS_OK;
}

static hs_status read_overflow(const json_t *root, enum hs_overflow *ret_overflow,
                               struct hs_error *err)
{
    const json_t *value = json_object_get(root, "overflow");
    for (int i = HS_OVERFLOW_STOP; i <= HS_OVERFLOW_SHIFT; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), OVERFLOW_NAMES[i]) == 0) {
            *ret_overflow = (enum hs_overflow)i;
            return HS_OK;
        }
    }
    return corrupt(err, "\"overflow\" is neither \"stop\" nor \"shift\"");
}

static hs_status read_optional(const json_t *object, const char *key, const char **ret_text,
                               struct hs_error *err)
{
    if (json_object_get(object, key) == NULL)
        return HS_OK;
    char *text = NULL;
    hs_status status = read_string(object, key, &text, err);
    if (status == HS_OK)
        *ret_text = text;
    return status;
}

static hs_status read_call(const json_t *item, struct hs_tool_call *call, struct hs_error *err)
{
    char *text = NULL;
    hs_status status = read_string(item, "id", &text, err);
    if (status != HS_OK)
        return status;
    call->id = text;
    status = read_string(item, "name", &text, err);
    if (status != HS_OK)
        return status;
    call->name = text;
    status = read_string(item, "arguments", &text, err);
    if (status == HS_OK)
        call->arguments = text;
    return status;
}

static hs_status read_calls(const json_t *item, struct hs_message *message, struct hs_error *err)
{
    const json_t *list = json_object_get(item, "tool_calls");
    if (list == NULL)
        return HS_OK;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > INT32_MAX)
        return corrupt(err, "\"tool_calls\" is no list");
    struct hs_tool_call *calls = hs_calloc(n, sizeof *calls);
    if (calls == NULL)
        return hs_error_nomem(err, "tool calls of a session");
    message->tool_calls = calls;
    message->n_tool_calls = (int32_t)n;
    hs_status status = HS_OK;
    for (size_t i = 0; status == HS_OK && i < n; i++)
        status = read_call(json_array_get(list, i), &calls[i], err);
    return status;
}

static hs_status read_message(const json_t *item, struct hs_message *message, struct hs_error *err)
{
    char *text = NULL;
    hs_status status = read_string(item, "role", &text, err);
    if (status != HS_OK)
        return status;
    message->role = text;
    status = read_string(item, "content", &text, err);
    if (status != HS_OK)
        return status;
    message->content = text;
    status = read_optional(item, "reasoning", &message->reasoning, err);
    if (status == HS_OK)
        status = read_optional(item, "tool_call_id", &message->tool_call_id, err);
    if (status == HS_OK)
        status = read_optional(item, "name", &message->name, err);
    return status == HS_OK ? read_calls(item, message, err) : status;
}

static hs_status read_messages(const json_t *root, struct hs_session_record *record,
                               struct hs_error *err)
{
    const json_t *list = json_object_get(root, "messages");
    if (!json_is_array(list))
        return corrupt(err, "\"messages\" is no list");
    size_t n = json_array_size(list);
    record->messages = hs_calloc(n, sizeof *record->messages);
    if (record->messages == NULL)
        return hs_error_nomem(err, "messages of a session");
    record->n_messages = n;
    for (size_t i = 0; i < n; i++) {
        hs_status status = read_message(json_array_get(list, i), &record->messages[i], err);
        if (status != HS_OK) {
            hs_error_prefix(err, "message %zu", i);
            return status;
        }
    }
    return HS_OK;
}

static hs_status read_adapters(const json_t *root, struct hs_session_record *record,
                               struct hs_error *err)
{
    const json_t *list = json_object_get(root, "adapters");
    if (!json_is_array(list))
        return corrupt(err, "\"adapters\" is no list");
    size_t n = json_array_size(list);
    record->adapters = hs_calloc(n, sizeof *record->adapters);
    if (record->adapters == NULL)
        return hs_error_nomem(err, "adapters of a session");
    record->n_adapters = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_t *scale = json_object_get(item, "scale");
        char *name = NULL;
        hs_status status = read_string(item, "name", &name, err);
        if (status != HS_OK)
            return status;
        record->adapters[i].name = name;
        record->adapters[i].scale = (float)json_number_value(scale);
        if (!json_is_number(scale) || !isfinite(record->adapters[i].scale))
            return corrupt(err, "an adapter's \"scale\" is no number");
    }
    return HS_OK;
}

static hs_status check_version(const json_t *root, struct hs_error *err)
{
    const json_t *format = json_object_get(root, "format");
    const json_t *version = json_object_get(root, "version");
    if (!json_is_string(format) || strcmp(json_string_value(format), FORMAT_NAME) != 0)
        return corrupt(err, "it does not say \"format\": \"hyprstream-session\"");
    if (!json_is_integer(version) || json_integer_value(version) < 1)
        return corrupt(err, "\"version\" is no positive integer");
    if (json_integer_value(version) > HS_SESSION_JSON_VERSION) {
        hs_error_set(err, HS_UNSUPPORTED_VERSION,
                     "session.json has version %" JSON_INTEGER_FORMAT
                     "; this program reads up to %d",
                     json_integer_value(version), HS_SESSION_JSON_VERSION);
        hs_error_hint(err, "a newer hyprstream wrote it: use that one, or another session");
        return HS_UNSUPPORTED_VERSION;
    }
    return HS_OK;
}

static hs_status read_routed(const json_t *root, struct hs_session_record *record,
                             struct hs_error *err)
{
    const json_t *routed = json_object_get(root, "routed");
    if (routed != NULL && !json_is_boolean(routed))
        return corrupt(err, "\"routed\" is neither true nor false");
    record->is_routed = json_is_true(routed);
    return HS_OK;
}

static hs_status read_record(const json_t *root, struct hs_session_record *record,
                             struct hs_error *err)
{
    hs_status status = check_version(root, err);
    if (status == HS_OK)
        status = read_string(root, "model", &record->model_name, err);
    if (status == HS_OK)
        status = read_string(root, "fingerprint", &record->fingerprint, err);
    if (status == HS_OK)
        status = read_time(root, "created_unix_ms", &record->created_unix_ms, err);
    if (status == HS_OK)
        status = read_time(root, "updated_unix_ms", &record->updated_unix_ms, err);
    if (status == HS_OK)
        status = read_overflow(root, &record->overflow, err);
    if (status == HS_OK)
        status = read_adapters(root, record, err);
    if (status == HS_OK)
        status = read_routed(root, record, err);
    if (status == HS_OK)
        status = read_messages(root, record, err);
    json_t *params = json_object_get(root, "params");
    if (status == HS_OK && params != NULL)
        status = hs_session_params_parse(params, &record->params, err);
    return status;
}

static void json_freep(json_t **value)
{
    json_decref(*value);
}

hs_status hs_session_record_parse(const char *text, size_t len,
                                  struct hs_session_record *ret_record, struct hs_error *err)
{
    if (len > HS_SESSION_MAX_JSON)
        return hs_error_set(err, HS_LIMIT, "session.json has %zu bytes, more than %u", len,
                            HS_SESSION_MAX_JSON);
    json_error_t error;
    HS_CLEANUP(json_freep) json_t *root = hs_json_load(text, len, JSON_REJECT_DUPLICATES, &error);
    if (hs_json_memory_failed())
        return hs_error_nomem(err, "session.json");
    if (root == NULL) {
        /* jansson's own text may quote what it stumbled over: the conversation. */
        char what[64];
        snprintf(what, sizeof what, "not valid JSON at line %d, column %d", error.line,
                 error.column);
        return corrupt(err, what);
    }
    struct hs_session_record record = {0};
    hs_status status = read_record(root, &record, err);
    if (status != HS_OK) {
        hs_session_record_free(&record);
        return status;
    }
    *ret_record = record;
    return HS_OK;
}

/* ---- writing ---- */

/* A missing or ill-formed text is the caller's mistake; what remains is a lack of memory. */
static hs_status put_string(json_t *object, const char *key, const char *text, struct hs_error *err)
{
    if (text == NULL || !hs_utf8_valid(text, strlen(text)))
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a session's \"%s\" is %s", key,
                            text == NULL ? "missing" : "not valid UTF-8");
    if (json_object_set_new(object, key, json_string(text)) != 0)
        return hs_error_nomem(err, "text of a session");
    return HS_OK;
}

static hs_status put_int(json_t *object, const char *key, int64_t value, struct hs_error *err)
{
    if (json_object_set_new(object, key, json_integer(value)) != 0)
        return hs_error_nomem(err, "text of a session");
    return HS_OK;
}

/* A new object at the end of the list `list`. */
static hs_status add_object(json_t *list, json_t **ret_object, struct hs_error *err)
{
    json_t *object = json_object();
    if (json_array_append_new(list, object) != 0)
        return hs_error_nomem(err, "text of a session");
    *ret_object = object;
    return HS_OK;
}

/* A new list under `key`. */
static hs_status put_list(json_t *object, const char *key, json_t **ret_list, struct hs_error *err)
{
    json_t *list = json_array();
    if (json_object_set_new(object, key, list) != 0)
        return hs_error_nomem(err, "text of a session");
    *ret_list = list;
    return HS_OK;
}

static hs_status put_calls(json_t *object, const struct hs_message *message, struct hs_error *err)
{
    json_t *list = NULL, *item = NULL;
    hs_status status = put_list(object, "tool_calls", &list, err);
    for (int32_t i = 0; status == HS_OK && i < message->n_tool_calls; i++) {
        const struct hs_tool_call *call = &message->tool_calls[i];
        status = add_object(list, &item, err);
        if (status == HS_OK)
            status = put_string(item, "id", call->id, err);
        if (status == HS_OK)
            status = put_string(item, "name", call->name, err);
        if (status == HS_OK)
            status = put_string(item, "arguments", call->arguments, err);
    }
    return status;
}

/* The oldest version that has room for the messages, so that older programs go on reading them. */
static int64_t needed_version(const struct hs_session_record *record)
{
    for (size_t i = 0; i < record->n_messages; i++) {
        const struct hs_message *message = &record->messages[i];
        if (message->n_tool_calls > 0 || message->tool_call_id != NULL || message->name != NULL)
            return 2;
    }
    return 1;
}

static hs_status put_messages(json_t *root, const struct hs_session_record *record,
                              struct hs_error *err)
{
    json_t *list = NULL, *object = NULL;
    hs_status status = put_list(root, "messages", &list, err);
    for (size_t i = 0; status == HS_OK && i < record->n_messages; i++) {
        const struct hs_message *message = &record->messages[i];
        status = add_object(list, &object, err);
        if (status == HS_OK)
            status = put_string(object, "role", message->role, err);
        if (status == HS_OK)
            status = put_string(object, "content", message->content, err);
        if (status == HS_OK && message->reasoning != NULL)
            status = put_string(object, "reasoning", message->reasoning, err);
        if (status == HS_OK && message->tool_call_id != NULL)
            status = put_string(object, "tool_call_id", message->tool_call_id, err);
        if (status == HS_OK && message->name != NULL)
            status = put_string(object, "name", message->name, err);
        if (status == HS_OK && message->n_tool_calls > 0)
            status = put_calls(object, message, err);
        if (status != HS_OK)
            hs_error_prefix(err, "message %zu", i);
    }
    return status;
}

static hs_status put_adapters(json_t *root, const struct hs_session_record *record,
                              struct hs_error *err)
{
    json_t *list = NULL, *object = NULL;
    hs_status status = put_list(root, "adapters", &list, err);
    for (size_t i = 0; status == HS_OK && i < record->n_adapters; i++) {
        const struct hs_adapter_ref *adapter = &record->adapters[i];
        if (!isfinite(adapter->scale))
            return hs_error_set(err, HS_INVALID_ARGUMENT, "the scale of adapter %zu is not finite",
                                i);
        status = add_object(list, &object, err);
        if (status == HS_OK)
            status = put_string(object, "name", adapter->name, err);
        if (status == HS_OK && json_object_set_new(object, "scale", json_real(adapter->scale)) != 0)
            return hs_error_nomem(err, "text of a session");
    }
    return status;
}

static hs_status put_record(json_t *root, const struct hs_session_record *record,
                            struct hs_error *err)
{
    if (record->overflow != HS_OVERFLOW_STOP && record->overflow != HS_OVERFLOW_SHIFT)
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a session's overflow is %d",
                            (int)record->overflow);
    hs_status status = put_string(root, "format", FORMAT_NAME, err);
    if (status == HS_OK)
        status = put_int(root, "version", needed_version(record), err);
    if (status == HS_OK)
        status = put_string(root, "model", record->model_name, err);
    if (status == HS_OK)
        status = put_string(root, "fingerprint", record->fingerprint, err);
    if (status == HS_OK)
        status = put_int(root, "created_unix_ms", record->created_unix_ms, err);
    if (status == HS_OK)
        status = put_int(root, "updated_unix_ms", record->updated_unix_ms, err);
    if (status == HS_OK)
        status = put_string(root, "overflow", OVERFLOW_NAMES[record->overflow], err);
    if (status == HS_OK)
        status = put_adapters(root, record, err);
    if (status == HS_OK && record->is_routed &&
        json_object_set_new(root, "routed", json_true()) != 0)
        status = hs_error_nomem(err, "session");
    json_t *params = NULL;
    if (status == HS_OK && record->params != NULL)
        status = hs_session_params_format(record->params, &params, err);
    if (status == HS_OK && params != NULL && json_object_set_new(root, "params", params) != 0)
        status = hs_error_nomem(err, "parameters of a session");
    if (status == HS_OK)
        status = put_messages(root, record, err);
    return status;
}

struct dump {
    struct hs_buf *text;
    hs_status status;
};

static int dump_append(const char *data, size_t len, void *user)
{
    struct dump *dump = user;
    if (dump->status == HS_OK)
        dump->status = hs_buf_append(dump->text, data, len);
    return dump->status == HS_OK ? 0 : -1;
}

hs_status hs_session_record_format(const struct hs_session_record *record, struct hs_buf *text,
                                   struct hs_error *err)
{
    hs_json_memory_watch();
    HS_CLEANUP(json_freep) json_t *root = json_object();
    if (root == NULL)
        return hs_error_nomem(err, "text of a session");
    hs_status status = put_record(root, record, err);
    if (status != HS_OK)
        return status;
    struct dump dump = {.text = text, .status = HS_OK};
    /* Every real number here is a float; nine digits bring it back exactly. */
    int rc = json_dump_callback(root, dump_append, &dump, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    /* It overlooks some failures of the callback as well, so both answers count. */
    if (rc == 0 && dump.status == HS_OK && !hs_json_memory_failed())
        return HS_OK;
    if (dump.status == HS_LIMIT) {
        hs_error_set(err, HS_LIMIT, "the session's text is longer than %zu bytes", text->max);
        hs_error_hint(err, "start a new session, or clear this one");
        return HS_LIMIT;
    }
    return hs_error_nomem(err, "text of a session");
}

static void free_message(struct hs_message *message)
{
    hs_free((char *)message->role);
    hs_free((char *)message->content);
    hs_free((char *)message->reasoning);
    for (int32_t i = 0; i < message->n_tool_calls; i++) {
        hs_free((char *)message->tool_calls[i].id);
        hs_free((char *)message->tool_calls[i].name);
        hs_free((char *)message->tool_calls[i].arguments);
    }
    hs_free((struct hs_tool_call *)message->tool_calls);
    hs_free((char *)message->tool_call_id);
    hs_free((char *)message->name);
}

void hs_session_record_free(struct hs_session_record *record)
{
    if (record == NULL)
        return;
    hs_free(record->model_name);
    hs_free(record->fingerprint);
    for (size_t i = 0; i < record->n_adapters; i++)
        hs_free((char *)record->adapters[i].name);
    hs_free(record->adapters);
    for (size_t i = 0; i < record->n_messages; i++) {
        free_message(&record->messages[i]);
    }
    hs_free(record->messages);
    hs_session_params_free(record->params);
    *record = (struct hs_session_record){0};
}
