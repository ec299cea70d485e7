/* remote_session.c - named sessions that a server keeps, over /api/v1/sessions. */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "remote_internal.h"
#include "storage/session_store.h"

#define SESSIONS "/api/v1/sessions"
#define SETTLE_TRIES 40 /* of 50 ms */
#define SETTLE_WAIT_NS 50000000L

static hs_status keeps_none(const hs_remote *remote, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_SUPPORTED, "%s keeps no sessions", hs_remote_url(remote));
    return hs_error_hint(err, "chat without a name there, or without --server");
}

static hs_status check_name(const char *name, struct hs_error *err)
{
    if (hs_session_name_ok(name)) {
        return HS_OK;
    }
    return hs_error_set(err, HS_INVALID_ARGUMENT,
                        "a session's name has 1 to %u letters (a-z, A-Z), digits, '.', '_' or '-', "
                        "not '.' first",
                        HS_SESSION_NAME_MAX);
}

/* Takes `body` over (NULL after a failure) unless it is a GET. */
static hs_status ask(hs_remote *remote, const char *method, const char *path, json_t *body,
                     json_t **ret_json, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_HTTP_CLIENT_ANSWER_MAX);
    bool has_body = strcmp(method, "GET") != 0;
    hs_status status = HS_OK;
    if (has_body) {
        status = body ? hs_json_dump(body, true, &text) : HS_OUT_OF_MEMORY;
    }
    json_decref(body);
    if (status) {
        return hs_error_nomem(err, "a request");
    }
    return hs_http_client_ask(remote->client, method, path, has_body ? text.data : NULL, ret_json,
                              err);
}

/* The same with a path below one session. */
static hs_status ask_of(hs_remote *remote, const char *method, const char *name, const char *rest,
                        json_t *body, json_t **ret_json, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_asprintf(SESSIONS "/%s%s", name, rest);
    if (!path) {
        json_decref(body);
        return hs_error_nomem(err, "a request");
    }
    return ask(remote, method, path, body, ret_json, err);
}

static json_t *body_with(const char *key, json_t *value)
{
    json_t *body = json_object();
    hs_json_set(&body, key, value);
    return body;
}

static json_t *body_of_new(const hs_remote *remote, const char *name, const char *system)
{
    json_t *body = body_with("name", hs_json_text(name));
    hs_json_set(&body, "model", hs_json_text(remote->model));
    if (system) {
        hs_json_set(&body, "system", hs_json_text(system));
    }
    return body;
}

/* Takes `session` over. */
static hs_status take_messages(hs_remote *remote, const char *name, json_t *session,
                               json_t **ret_messages, struct hs_error *err)
{
    hs_remote_follow(remote, json_string_value(json_object_get(session, "model")));
    json_t *messages = json_incref(json_object_get(session, "messages"));
    json_decref(session);
    if (!json_is_array(messages)) {
        json_decref(messages);
        return hs_error_set(err, HS_IO, "%s tells no messages of the session '%s'",
                            hs_remote_url(remote), name);
    }
    *ret_messages = messages;
    return HS_OK;
}

hs_status hs_remote_session_open(hs_remote *remote, const char *name, const char *system,
                                 json_t **ret_messages, struct hs_error *err)
{
    json_t *session = NULL;
    hs_status status = check_name(name, err);
    status = status ? status : ask_of(remote, "GET", name, "", NULL, &session, err);
    if (status == HS_NOT_FOUND) {
        status = ask(remote, "POST", SESSIONS, body_of_new(remote, name, system), &session, err);
        status = status == HS_NOT_FOUND ? keeps_none(remote, err) : status;
    } else if (!status && system) {
        json_decref(session);
        status = ask_of(remote, "PATCH", name, "", body_with("system", hs_json_text(system)),
                        &session, err);
    }
    return status ? status : take_messages(remote, name, session, ret_messages, err);
}

/* A change of nothing needs the session for itself, as the next question does. */
hs_status hs_remote_session_settle(hs_remote *remote, const char *name, json_t **ret_messages,
                                   struct hs_error *err)
{
    const struct timespec pause = {0, SETTLE_WAIT_NS};
    json_t *session = NULL;
    hs_status status = HS_BUSY;
    for (int i = 0; i < SETTLE_TRIES && status == HS_BUSY; i++) {
        if (i > 0) {
            nanosleep(&pause, NULL);
        }
        status = ask_of(remote, "PATCH", name, "", json_object(), &session, err);
    }
    return status ? status : take_messages(remote, name, session, ret_messages, err);
}

hs_status hs_remote_session_create(hs_remote *remote, const char *name,
                                   const struct hs_message *messages, size_t n_messages,
                                   struct hs_error *err)
{
    hs_status status = check_name(name, err);
    status =
        status ? status : ask(remote, "POST", SESSIONS, body_of_new(remote, name, NULL), NULL, err);
    if (status == HS_NOT_FOUND) {
        return keeps_none(remote, err);
    }
    if (status == HS_BUSY) {
        hs_error_set(err, HS_ALREADY_EXISTS, "there is a session '%s' already", name);
        return hs_error_hint(err, "choose another name");
    }
    if (status || n_messages == 0) {
        return status;
    }
    return ask_of(remote, "POST", name, "/messages",
                  body_with("messages", hs_remote_messages(messages, n_messages)), NULL, err);
}

hs_status hs_remote_session_truncate(hs_remote *remote, const char *name, size_t n_keep,
                                     struct hs_error *err)
{
    return ask_of(remote, "POST", name, "/truncate",
                  body_with("n_messages", json_integer((json_int_t)n_keep)), NULL, err);
}

hs_status hs_remote_session_set_system(hs_remote *remote, const char *name, const char *system,
                                       struct hs_error *err)
{
    return ask_of(remote, "PATCH", name, "",
                  body_with("system", hs_json_text(system ? system : "")), NULL, err);
}

hs_status hs_remote_session_generate(hs_remote *remote, const char *name, const char *prompt,
                                     bool is_anew, struct hs_token_source *ret_source,
                                     struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_asprintf(SESSIONS "/%s/generate", name);
    if (!path) {
        return hs_error_nomem(err, "a request");
    }
    json_t *body = body_with("stream", json_true());
    if (remote->is_named) {
        hs_json_set(&body, "model", hs_json_text(remote->model));
    }
    if (prompt) {
        hs_json_set(&body, "prompt", hs_json_text(prompt));
    } else if (is_anew) {
        hs_json_set(&body, "regenerate", json_true());
    }
    hs_remote_add_settings(remote, &body);
    return hs_remote_ask(remote, path, body, true, ret_source, err);
}

json_t *hs_remote_session_names(hs_remote *remote)
{
    json_t *list HS_CLEANUP(hs_json_freep) = NULL;
    if (hs_http_client_ask(remote->client, "GET", SESSIONS, NULL, &list, NULL)) {
        return NULL;
    }
    json_t *names = json_array();
    size_t i;
    const json_t *session;
    json_array_foreach(json_object_get(list, "data"), i, session)
    {
        hs_json_append(&names, json_incref(json_object_get(session, "id")));
    }
    return names;
}
