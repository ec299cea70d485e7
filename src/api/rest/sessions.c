/* sessions.c - /api/v1/sessions: make, list, show, change and remove conversations that the server
 * keeps. session_generate.c answers in them. */
#include "served_models.h"
#include "sessions.h"

#include <stdio.h>
#include <string.h>

#include "api/command.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "generation.h"
#include "lora.h"
#include "messages.h"

/* ---- whose it is ---- */

const char *hs_rest_session_prefix(const hs_http_request *request, char ret_prefix[16])
{
    const struct hs_http_key_info *key = hs_http_request_key(request);
    ret_prefix[0] = '\0';
    if (key != NULL && (key->scopes & HS_KEY_ADMIN) == 0) {
        snprintf(ret_prefix, 16, "%.8s.", key->id);
    }
    return ret_prefix;
}

static bool has_sessions(const struct hs_rest *rest, hs_http_request *request)
{
    if (rest->sessions_dir == NULL) {
        hs_http_respond_error(
            request,
            &(struct hs_http_error){.status = 404, .message = "this server keeps no sessions"});
    }
    return rest->sessions_dir != NULL;
}

static void set_ref(const hs_http_request *request, const char *name, struct hs_session_ref *ret)
{
    char prefix[16];
    ret->name = name;
    snprintf(ret->stored, sizeof ret->stored, "%s%.*s", hs_rest_session_prefix(request, prefix),
             (int)HS_SESSION_NAME_MAX + 1, name);
}

bool hs_rest_session_ref(const struct hs_rest *rest, hs_http_request *request,
                         struct hs_session_ref *ret)
{
    if (!has_sessions(rest, request)) {
        return false;
    }
    set_ref(request, hs_http_request_param(request, "id"), ret);
    return true;
}

bool hs_rest_session_read(const struct hs_rest *rest, hs_http_request *request,
                          const struct hs_session_ref *ref, struct hs_session_record *ret,
                          uint64_t *ret_size_bytes)
{
    struct hs_error err;
    if (hs_session_store_read(rest->sessions_dir, ref->stored, ret, ret_size_bytes, &err) ==
        HS_OK) {
        return true;
    }
    hs_rest_respond_failure(request, &err, NULL);
    return false;
}

/* ---- as JSON ---- */

static int set_text(json_t *object, const char *name, const char *text)
{
    return text == NULL ? 0 : json_object_set_new(object, name, json_string(text));
}

static json_t *calls_of(const struct hs_message *message)
{
    json_t *calls = json_array();
    for (int32_t i = 0; i < message->n_tool_calls && calls != NULL; i++) {
        const struct hs_tool_call *call = &message->tool_calls[i];
        json_t *json = json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", call->id, "type", "function",
                                 "function", "name", call->name, "arguments", call->arguments);
        if (json_array_append_new(calls, json) != 0) {
            json_decref(calls);
            calls = NULL;
        }
    }
    return calls;
}

json_t *hs_rest_session_message(const struct hs_message *message)
{
    json_t *json = json_pack("{s:s, s:s}", "role", message->role, "content",
                             message->content == NULL ? "" : message->content);
    int failed = json == NULL ? -1 : 0;
    failed |= set_text(json, "reasoning_content", message->reasoning);
    failed |= set_text(json, "tool_call_id", message->tool_call_id);
    failed |= set_text(json, "name", message->name);
    if (message->n_tool_calls > 0) {
        failed |= json_object_set_new(json, "tool_calls", calls_of(message));
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *adapters_of(const struct hs_session_record *record)
{
    json_t *list = record->is_routed ? json_string("auto") : json_array();
    for (size_t i = 0; i < record->n_adapters && json_is_array(list); i++) {
        const struct hs_adapter_ref *ref = &record->adapters[i];
        if (json_array_append_new(list, json_pack("{s:s, s:f}", "name", ref->name, "scale",
                                                  (double)ref->scale)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* `model` is the one it goes on with here, else the one that it asks for. */
static json_t *describe(const struct hs_rest *rest, const char *name,
                        const struct hs_session_record *record, uint64_t size)
{
    const struct hs_model_info *model =
        hs_rest_model_of(rest, record->model_name, record->fingerprint);
    return json_pack("{s:s, s:s, s:s?, s:o, s:s, s:I, s:I, s:I, s:I}", "id", name, "object",
                     "session", "model", model == NULL ? record->model_name : model->id, "lora",
                     adapters_of(record), "overflow",
                     record->overflow == HS_OVERFLOW_SHIFT ? "shift" : "stop", "n_messages",
                     (json_int_t)record->n_messages, "size_bytes", (json_int_t)size, "created",
                     (json_int_t)(record->created_unix_ms / 1000), "updated",
                     (json_int_t)(record->updated_unix_ms / 1000));
}

static json_t *describe_whole(const struct hs_rest *rest, const char *name,
                              const struct hs_session_record *record, uint64_t size)
{
    json_t *json = describe(rest, name, record, size);
    json_t *messages = json_array();
    int failed = json == NULL || messages == NULL;
    for (size_t i = 0; i < record->n_messages && failed == 0; i++) {
        failed = json_array_append_new(messages, hs_rest_session_message(&record->messages[i]));
    }
    failed |= json_object_set_new(json, "messages", messages);
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- list and show ---- */

struct names {
    char **items;
    size_t n;
};

static void free_names(struct names *names)
{
    hs_session_names_free(names->items, names->n);
}

/* One that cannot be read is left out: the others are still worth a list. */
static int add_session(const struct hs_rest *rest, const char *stored, const char *name,
                       json_t *list)
{
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    uint64_t size = 0;
    struct hs_error err;
    if (hs_session_store_read(rest->sessions_dir, stored, &record, &size, &err) != HS_OK) {
        return 0;
    }
    return json_array_append_new(list, describe(rest, name, &record, size));
}

void hs_rest_session_list(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct names names HS_CLEANUP(free_names) = {0};
    struct hs_error err;
    char prefix[16];
    if (!has_sessions(rest, request)) {
        return;
    }
    if (hs_session_store_list(rest->sessions_dir, &names.items, &names.n, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    size_t n_prefix = strlen(hs_rest_session_prefix(request, prefix));
    json_t *list = json_array();
    int failed = list == NULL;
    for (size_t i = 0; i < names.n && failed == 0; i++) {
        if (strncmp(names.items[i], prefix, n_prefix) == 0) {
            failed = add_session(rest, names.items[i], names.items[i] + n_prefix, list);
        }
    }
    if (failed != 0) {
        json_decref(list);
        list = NULL;
    }
    hs_http_respond_json(request, 200,
                         list == NULL ? NULL
                                      : json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void hs_rest_session_get(hs_http_request *request, void *user)
{
    struct hs_session_ref ref;
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    uint64_t size = 0;
    if (hs_rest_session_ref(user, request, &ref) &&
        hs_rest_session_read(user, request, &ref, &record, &size)) {
        hs_http_respond_json(request, 200, describe_whole(user, ref.name, &record, size));
    }
}

void hs_rest_session_delete(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_session_ref ref;
    struct hs_error err;
    if (!hs_rest_session_ref(rest, request, &ref)) {
        return;
    }
    if (hs_session_store_remove(rest->sessions_dir, ref.stored, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_json(
        request, 200,
        json_pack("{s:s, s:s, s:b}", "id", ref.name, "object", "session", "deleted", 1));
}

/* ---- changes ----
 *
 * Each opens the session, which locks it, and replaces its text. KV beside it that does not fit the
 * new text is not used. */

/* What a change makes of a record that was read; its texts are borrowed. false: the request was
 * answered. */
struct change {
    const struct hs_rest *rest;
    struct hs_fields fields;
    struct hs_session_record record; /* a view: messages and model_name may be the request's */
    struct hs_message *messages;     /* NULL, or the view's own array */
    struct hs_rest_conversation conversation;
    struct hs_rest_settings settings; /* its adapters only */
};
typedef bool (*change_fn)(struct change *change);

static bool no_memory(hs_http_request *request)
{
    struct hs_error err;
    hs_error_nomem(&err, "session");
    hs_rest_respond_failure(request, &err, NULL);
    return false;
}

/* The view's messages as an array of its own with room for so many more. */
static bool own_messages(struct change *change, size_t n_more)
{
    size_t n = change->record.n_messages;
    change->messages = hs_calloc(n + n_more, sizeof change->messages[0]);
    if (change->messages == NULL) {
        return no_memory(change->fields.request);
    }
    for (size_t i = 0; i < n; i++) {
        change->messages[i] = change->record.messages[i];
    }
    change->record.messages = change->messages;
    return true;
}

static bool read_overflow(const struct hs_fields *fields, enum hs_overflow *overflow)
{
    const char *word = NULL;
    if (!hs_field_string(fields, "overflow", &word)) {
        return false;
    }
    if (word != NULL && !hs_command_list_has("stop shift", word)) {
        return hs_field_refuse(fields, "overflow", "must be \"stop\" or \"shift\"");
    }
    if (word != NULL) {
        *overflow = strcmp(word, "shift") == 0 ? HS_OVERFLOW_SHIFT : HS_OVERFLOW_STOP;
    }
    return true;
}

/* Another model leaves the adapters of the one before behind. */
static bool read_adapters(struct change *change, const struct hs_model_info *model,
                          const char *name)
{
    struct hs_rest_settings *settings = &change->settings;
    hs_rest_settings_init(change->rest, settings);
    if (!hs_rest_lora_read(model, &change->fields, name, settings)) {
        return false;
    }
    change->record.is_routed =
        settings->lora.is_auto || (!settings->lora.is_said && change->record.is_routed);
    if (settings->lora.is_said || name != NULL) {
        change->record.adapters = settings->lora.is_said ? settings->lora.refs : NULL;
        change->record.n_adapters = settings->lora.is_said ? (size_t)settings->lora.n : 0;
    }
    return true;
}

/* The model in the field "model": its weights are the session's then; and the adapters. */
static bool read_model(struct change *change)
{
    const char *name = NULL;
    const struct hs_session_record *record = &change->record;
    if (!hs_field_string(&change->fields, "model", &name)) {
        return false;
    }
    bool stays = name == NULL && record->model_name != NULL;
    if (stays && hs_field_get(&change->fields, "lora") == NULL) {
        return true;
    }
    const struct hs_rest *rest = change->rest;
    const struct hs_model_info *own =
        stays ? hs_rest_model_of(rest, record->model_name, record->fingerprint) : NULL;
    if (own == NULL && stays) {
        return hs_field_refuse(&change->fields, "lora",
                               "needs the session's model, which this server does not have");
    }
    const struct hs_model_info *model =
        stays ? hs_served_model_take(rest, change->fields.request, (size_t)(own - rest->models))
              : hs_rest_model(rest, change->fields.request, name);
    if (model == NULL || !read_adapters(change, model, name)) {
        return false;
    }
    if (stays) {
        return true;
    }
    change->record.model_name = (char *)model->id;
    change->record.fingerprint = (char *)model->fingerprint;
    return true;
}

/* Sets, or with "" removes, the system message. */
static bool read_system(struct change *change)
{
    const char *system = NULL;
    if (!hs_field_string(&change->fields, "system", &system)) {
        return false;
    }
    if (system == NULL) {
        return true;
    }
    size_t *n = &change->record.n_messages;
    bool has_one = *n > 0 && strcmp(change->record.messages[0].role, "system") == 0;
    if (!own_messages(change, 1)) {
        return false;
    }
    struct hs_message *messages = change->messages;
    if (has_one && *system == '\0') {
        memmove(messages, messages + 1, --*n * sizeof messages[0]);
    } else if (*system != '\0') {
        if (!has_one) {
            memmove(messages + 1, messages, (*n)++ * sizeof messages[0]);
        }
        messages[0] = (struct hs_message){.role = "system", .content = system};
    }
    return true;
}

static bool change_settings(struct change *change)
{
    return read_model(change) && read_overflow(&change->fields, &change->record.overflow) &&
           read_system(change);
}

static bool change_append(struct change *change)
{
    struct hs_rest_conversation *conversation = &change->conversation;
    if (!hs_rest_messages_read(&change->fields, conversation)) {
        return false;
    }
    size_t n = change->record.n_messages, n_more = conversation->n_messages;
    if (!hs_rest_conversation_check_length(conversation, &change->fields, "messages", n + n_more) ||
        !own_messages(change, n_more)) {
        return false;
    }
    for (size_t i = 0; i < n_more; i++) {
        change->messages[n + i] = conversation->messages[i];
    }
    change->record.n_messages += n_more;
    return true;
}

static bool change_truncate(struct change *change)
{
    int64_t n = -1;
    if (!hs_field_int(&change->fields, "n_messages", 0, (int64_t)change->record.n_messages, &n)) {
        return false;
    }
    if (n < 0) {
        return hs_field_refuse(&change->fields, "n_messages", "is missing");
    }
    change->record.n_messages = (size_t)n;
    return true;
}

static void close_file(hs_session_file **file)
{
    hs_session_file_close(*file);
}

/* Change what was read, save it and answer with it. */
static void apply(struct change *change, hs_session_file *file, const struct hs_session_ref *ref,
                  change_fn apply_to, int status_ok)
{
    struct hs_error err;
    hs_http_request *request = change->fields.request;
    hs_rest_conversation_init(&change->conversation, change->rest, request);
    if (apply_to(change)) {
        change->record.updated_unix_ms = hs_clock_unix_ms();
        if (hs_session_file_save(file, &change->record, &err) == HS_OK) {
            hs_http_respond_json(request, status_ok,
                                 describe_whole(change->rest, ref->name, &change->record, 0));
        } else {
            hs_rest_respond_failure(request, &err, NULL);
        }
    }
    hs_rest_conversation_free(&change->conversation);
    hs_rest_settings_free(&change->settings);
    hs_free(change->messages);
}

static void change_session(const struct hs_rest *rest, hs_http_request *request, change_fn apply_to)
{
    hs_session_file *file HS_CLEANUP(close_file) = NULL;
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    struct hs_session_ref ref;
    struct hs_error err;
    struct change change = {.rest = rest, .fields = {request, hs_http_request_json(request), ""}};
    if (change.fields.object == NULL || !hs_rest_session_ref(rest, request, &ref)) {
        return;
    }
    hs_status status = hs_session_file_open(rest->sessions_dir, ref.stored, false, &file, &err);
    status = status ? status : hs_session_file_load(file, &record, &err);
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    change.record = record;
    apply(&change, file, &ref, apply_to, 200);
}

void hs_rest_session_patch(hs_http_request *request, void *user)
{
    change_session(user, request, change_settings);
}

void hs_rest_session_append(hs_http_request *request, void *user)
{
    change_session(user, request, change_append);
}

void hs_rest_session_truncate(hs_http_request *request, void *user)
{
    change_session(user, request, change_truncate);
}

/* ---- make ---- */

/* The field "name", or one made here: made[]. */
static bool read_name(const struct hs_fields *fields, struct hs_session_ref *ret, char made[32])
{
    struct hs_error err;
    const char *name = NULL;
    if (!hs_field_string(fields, "name", &name)) {
        return false;
    }
    if (name == NULL) {
        if (hs_generation_make_id("s-", made, 32, &err) != HS_OK) {
            hs_rest_respond_failure(fields->request, &err, NULL);
            return false;
        }
        name = made;
    }
    set_ref(fields->request, name, ret);
    if (!hs_session_name_ok(name) || !hs_session_name_ok(ret->stored)) {
        size_t n_prefix = strlen(ret->stored) - strlen(name);
        return hs_field_refuse(fields, "name",
                               "must be 1 to %zu letters (a-z, A-Z), digits, '.', '_' or '-', not "
                               "'.' first",
                               HS_SESSION_NAME_MAX - (n_prefix <= 9 ? n_prefix : 9));
    }
    return true;
}

void hs_rest_session_create(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    hs_session_file *file HS_CLEANUP(close_file) = NULL;
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    struct hs_session_ref ref;
    struct hs_error err;
    char made[32];
    struct change change = {.rest = rest, .fields = {request, hs_http_request_json(request), ""}};
    if (change.fields.object == NULL || !has_sessions(rest, request) ||
        !read_name(&change.fields, &ref, made)) {
        return;
    }
    hs_status status = hs_session_file_open(rest->sessions_dir, ref.stored, true, &file, &err);
    status = status ? status : hs_session_file_load(file, &record, &err);
    if (status == HS_OK) {
        status = hs_error_set(&err, HS_ALREADY_EXISTS, "there is a session '%s' already", ref.name);
        hs_error_hint(&err, "choose another name, or delete it");
    }
    if (status != HS_NOT_FOUND) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    change.record.created_unix_ms = hs_clock_unix_ms();
    apply(&change, file, &ref, change_settings, 201);
}
