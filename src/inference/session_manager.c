#include "session_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"

/* ---- the manager ---- */

static int start_saver(hs_session_manager *manager)
{
    int rc = pthread_mutex_init(&manager->mutex, NULL);
    if (rc != 0) {
        return rc;
    }
    rc = pthread_cond_init(&manager->changed, NULL);
    if (rc == 0) {
        rc = pthread_cond_init(&manager->work, NULL);
        if (rc != 0) {
            pthread_cond_destroy(&manager->changed);
        }
    }
    if (rc != 0) {
        pthread_mutex_destroy(&manager->mutex);
        return rc;
    }
    if (manager->sessions_dir != NULL) {
        rc = pthread_create(&manager->saver, NULL, hs_session_saver, manager);
        manager->has_saver = rc == 0;
    }
    if (rc != 0) {
        pthread_cond_destroy(&manager->work);
        pthread_cond_destroy(&manager->changed);
        pthread_mutex_destroy(&manager->mutex);
    }
    return rc;
}

hs_status hs_session_manager_new(const char *sessions_dir, hs_session_manager **ret_manager,
                                 struct hs_error *err)
{
    hs_session_manager *manager = hs_calloc(1, sizeof(*manager));
    if (manager == NULL) {
        return hs_error_nomem(err, "session manager");
    }
    manager->next_anonymous = 1;
    manager->sessions_dir = hs_strdup(sessions_dir);
    int rc = 0;
    if (sessions_dir != NULL && manager->sessions_dir == NULL) {
        hs_free(manager);
        return hs_error_nomem(err, "session manager");
    }
    rc = start_saver(manager);
    if (rc != 0) {
        hs_free(manager->sessions_dir);
        hs_free(manager);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot start the session saver: %s",
                            strerror(rc));
    }
    *ret_manager = manager;
    return HS_OK;
}

static void session_free(hs_session *session)
{
    if (session == NULL) {
        return;
    }
    hs_session_file_close(session->file);
    hs_conversation_free(&session->conversation);
    hs_conversation_free(&session->dropped);
    hs_session_params_free(session->params);
    hs_session_params_free(session->turn_params);
    hs_adapter_refs_free(session->adapters, session->n_adapters);
    hs_kv_state_clear(&session->brought);
    hs_free(session->kv_tokens);
    hs_free(session);
}

void hs_session_manager_free(hs_session_manager *manager)
{
    if (manager == NULL) {
        return;
    }
    pthread_mutex_lock(&manager->mutex);
    hs_session *session;
    while ((session = manager->sessions) != NULL) {
        if (session->is_busy || session->n_jobs > 0) {
            pthread_cond_wait(&manager->changed, &manager->mutex);
            continue;
        }
        manager->sessions = session->next;
        pthread_mutex_unlock(&manager->mutex);
        struct hs_error error;
        if (hs_session_save_pending(session, &error) != HS_OK) {
            hs_log(HS_LOG_ERROR, "inference", "%s; what was said since is lost", error.message);
        }
        hs_session_save_kv(session);
        session_free(session);
        pthread_mutex_lock(&manager->mutex);
    }
    manager->is_stopping = true;
    pthread_cond_signal(&manager->work);
    pthread_mutex_unlock(&manager->mutex);
    if (manager->has_saver) {
        pthread_join(manager->saver, NULL);
    }
    pthread_cond_destroy(&manager->work);
    pthread_cond_destroy(&manager->changed);
    pthread_mutex_destroy(&manager->mutex);
    hs_free(manager->sessions_dir);
    hs_free(manager);
}

hs_session *hs_session_find(hs_session_manager *manager, const char *id)
{
    hs_session *session = manager->sessions;
    while (session != NULL && strcmp(session->id, id) != 0) {
        session = session->next;
    }
    return session;
}

static hs_status not_found(const char *id, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_FOUND, "there is no open session '%s'", id);
}

/* Make a session busy for a change; what the saver still does to it is waited for. */
static hs_status acquire(hs_session_manager *manager, const char *id, hs_session **ret_session,
                         struct hs_error *err)
{
    hs_status status = HS_OK;
    pthread_mutex_lock(&manager->mutex);
    hs_session *session = hs_session_find(manager, id);
    if (session == NULL) {
        status = not_found(id, err);
    } else if (session->is_busy) {
        status = hs_error_set(err, HS_BUSY, "session '%s' is generating", id);
        hs_error_hint(err, "wait for the answer, or cancel it");
    } else {
        session->is_busy = true;
        while (session->n_jobs > 0) {
            pthread_cond_wait(&manager->changed, &manager->mutex);
        }
        *ret_session = session;
    }
    pthread_mutex_unlock(&manager->mutex);
    return status;
}

static void release(hs_session *session)
{
    hs_session_manager *manager = session->manager;
    pthread_mutex_lock(&manager->mutex);
    session->is_busy = false;
    pthread_cond_broadcast(&manager->changed);
    pthread_mutex_unlock(&manager->mutex);
}

static void set_adapters(hs_session *session, struct hs_adapter_ref *refs, size_t n)
{
    pthread_mutex_lock(&session->manager->mutex);
    session->adapters = refs;
    session->n_adapters = n;
    pthread_mutex_unlock(&session->manager->mutex);
}

static void set_routed(hs_session *session, bool is_routed)
{
    pthread_mutex_lock(&session->manager->mutex);
    session->is_routed = is_routed;
    pthread_mutex_unlock(&session->manager->mutex);
}

/* ---- opening and closing ---- */

static bool has_system(const struct hs_conversation *conversation)
{
    return conversation->n > 0 && strcmp(conversation->messages[0].role, "system") == 0;
}

static hs_status replace_system(struct hs_conversation *conversation, const char *system,
                                struct hs_error *err)
{
    bool had_system = has_system(conversation);
    struct hs_message message = {.role = "system", .content = system == NULL ? "" : system};
    if (!hs_utf8_valid(message.content, strlen(message.content))) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the system message is not valid UTF-8");
    }
    /* Appending first: nothing has changed when memory runs out. */
    if (system != NULL && hs_conversation_append(conversation, &message) != HS_OK) {
        return hs_error_nomem(err, "system message");
    }
    size_t n = conversation->n;
    struct hs_message *messages = conversation->messages;
    if (system != NULL) {
        struct hs_message last = messages[n - 1];
        memmove(&messages[1], &messages[0], (n - 1) * sizeof(messages[0]));
        messages[0] = last;
    }
    if (had_system) {
        size_t old = system != NULL ? 1 : 0;
        hs_message_free(&messages[old]);
        memmove(&messages[old], &messages[old + 1], (n - old - 1) * sizeof(messages[0]));
        conversation->n--;
    }
    return HS_OK;
}

static hs_status check_params(const struct hs_session_params *params, struct hs_error *err)
{
    enum hs_overflow overflow = params->overflow;
    if (overflow != HS_OVERFLOW_SAVED && overflow != HS_OVERFLOW_STOP &&
        overflow != HS_OVERFLOW_SHIFT) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "overflow %d is unknown", (int)overflow);
    }
    return params->name == NULL ? HS_OK : hs_session_name_check(params->name, err);
}

static hs_status replace_adapters(hs_session *session, const struct hs_session_params *params,
                                  struct hs_error *err)
{
    struct hs_adapter_ref *copy = NULL;
    size_t n = (size_t)params->n_adapters;
    hs_status status = hs_adapter_refs_copy(params->adapters, n, &copy, err);
    if (status == HS_OK) {
        hs_adapter_refs_free(session->adapters, session->n_adapters);
        set_adapters(session, copy, n);
    }
    return status;
}

static hs_status make_session(hs_session_manager *manager, struct hs_model *model,
                              const struct hs_session_params *params, hs_session **ret_session,
                              struct hs_error *err)
{
    hs_session *session = hs_calloc(1, sizeof(*session));
    if (session == NULL) {
        return hs_error_nomem(err, "session");
    }
    session->manager = manager;
    session->model = model;
    session->overflow = params->overflow;
    session->save_kv = params->save_kv;
    hs_status status = HS_OK;
    if (params->name != NULL) {
        snprintf(session->id, sizeof(session->id), "%s", params->name);
    }
    if (params->name != NULL && manager->sessions_dir != NULL) {
        status =
            hs_session_file_open(manager->sessions_dir, params->name, true, &session->file, err);
        if (status == HS_OK) {
            status = hs_session_load(session, err);
        }
    }
    if (session->overflow == HS_OVERFLOW_SAVED) {
        session->overflow = HS_OVERFLOW_STOP; /* nothing was saved */
    }
    if (status == HS_OK && params->system != NULL) {
        status = replace_system(&session->conversation, params->system, err);
    }
    if (status == HS_OK && params->n_adapters > 0) {
        status = replace_adapters(session, params, err);
    }
    if (status != HS_OK) {
        session_free(session);
        return status;
    }
    *ret_session = session;
    return HS_OK;
}

hs_status hs_session_open(hs_session_manager *manager, struct hs_model *model,
                          const struct hs_session_params *params, char ret_id[HS_ID_MAX],
                          struct hs_error *err)
{
    hs_status status = check_params(params, err);
    hs_session *session = NULL;
    if (status == HS_OK) {
        status = make_session(manager, model, params, &session, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&manager->mutex);
    if (params->name == NULL) {
        /* '#' is in no name, so this cannot be anybody else's. */
        snprintf(session->id, sizeof(session->id), "#%llu",
                 (unsigned long long)manager->next_anonymous++);
    } else if (hs_session_find(manager, params->name) != NULL) {
        status = hs_error_set(err, HS_BUSY, "session '%s' is open already", params->name);
    }
    if (status == HS_OK) {
        session->next = manager->sessions;
        manager->sessions = session;
        memcpy(ret_id, session->id, sizeof(session->id));
    }
    pthread_mutex_unlock(&manager->mutex);
    if (status != HS_OK) {
        session_free(session);
    }
    return status;
}

hs_status hs_session_close(hs_session_manager *manager, const char *id, struct hs_model **ret_model,
                           struct hs_error *err)
{
    hs_session *session = NULL;
    hs_status status = acquire(manager, id, &session, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_session_save_pending(session, err);
    if (status != HS_OK) {
        /* Still open: nothing is lost, and closing can be tried again. */
        release(session);
        return status;
    }
    hs_session_save_kv(session);
    pthread_mutex_lock(&manager->mutex);
    hs_session **place = &manager->sessions;
    while (*place != session) {
        place = &(*place)->next;
    }
    *place = session->next;
    pthread_mutex_unlock(&manager->mutex);
    *ret_model = session->model;
    session_free(session);
    return HS_OK;
}

/* ---- adapters ---- */

hs_status hs_session_set_adapters(hs_session_manager *manager, hs_adapter_pool *pool,
                                  const char *id, const struct hs_adapter_ref *refs, int32_t n,
                                  struct hs_error *err)
{
    hs_session *session = NULL;
    hs_status status = acquire(manager, id, &session, err);
    if (status != HS_OK) {
        return status;
    }
    if (n == 0 && session->n_adapters == 0) { /* what is on disk stays as it is */
        release(session);
        return HS_OK;
    }
    struct hs_adapter_ref *copy = NULL;
    status = hs_adapter_pool_check(pool, session->model, refs, n, err);
    if (status == HS_OK) {
        status = hs_adapter_refs_copy(refs, (size_t)n, &copy, err);
    }
    if (status != HS_OK) {
        release(session);
        return status;
    }
    struct hs_adapter_ref *old = session->adapters;
    size_t n_old = session->n_adapters;
    set_adapters(session, copy, (size_t)n);
    status = hs_session_save_text(session, &session->conversation, err);
    if (status != HS_OK) {
        set_adapters(session, old, n_old);
        hs_adapter_refs_free(copy, (size_t)n);
    } else {
        hs_adapter_refs_free(old, n_old);
    }
    release(session);
    return status;
}

hs_status hs_session_get_adapters(hs_session_manager *manager, const char *id,
                                  struct hs_adapter_ref **ret_refs, size_t *ret_n,
                                  struct hs_error *err)
{
    pthread_mutex_lock(&manager->mutex);
    const hs_session *session = hs_session_find(manager, id);
    hs_status status = session == NULL ? not_found(id, err)
                                       : hs_adapter_refs_copy(session->adapters,
                                                              session->n_adapters, ret_refs, err);
    if (status == HS_OK) {
        *ret_n = session->n_adapters;
    }
    pthread_mutex_unlock(&manager->mutex);
    return status;
}

hs_status hs_session_set_routed(hs_session_manager *manager, const char *id, bool is_routed,
                                struct hs_error *err)
{
    hs_session *session = NULL;
    hs_status status = acquire(manager, id, &session, err);
    if (status != HS_OK) {
        return status;
    }
    if (session->is_routed != is_routed) {
        set_routed(session, is_routed);
        status = hs_session_save_text(session, &session->conversation, err);
        if (status != HS_OK) {
            set_routed(session, !is_routed);
        }
    }
    release(session);
    return status;
}

hs_status hs_session_get_routed(hs_session_manager *manager, const char *id, bool *ret_is_routed,
                                struct hs_error *err)
{
    pthread_mutex_lock(&manager->mutex);
    const hs_session *session = hs_session_find(manager, id);
    hs_status status = session == NULL ? not_found(id, err) : HS_OK;
    if (status == HS_OK) {
        *ret_is_routed = session->is_routed;
    }
    pthread_mutex_unlock(&manager->mutex);
    return status;
}

/* ---- messages ---- */

hs_status hs_session_count(hs_session_manager *manager, const char *id, size_t *ret_n,
                           struct hs_error *err)
{
    hs_status status = HS_OK;
    pthread_mutex_lock(&manager->mutex);
    const hs_session *session = hs_session_find(manager, id);
    if (session == NULL) {
        status = not_found(id, err);
    } else {
        *ret_n = session->conversation.n;
    }
    pthread_mutex_unlock(&manager->mutex);
    return status;
}

hs_status hs_session_get(hs_session_manager *manager, const char *id, size_t i,
                         struct hs_message *ret_message, struct hs_error *err)
{
    hs_status status = HS_OK;
    pthread_mutex_lock(&manager->mutex);
    const hs_session *session = hs_session_find(manager, id);
    if (session == NULL) {
        status = not_found(id, err);
    } else if (i >= session->conversation.n) {
        status = hs_error_set(err, HS_NOT_FOUND, "session '%s' has %zu messages, no number %zu", id,
                              session->conversation.n, i);
    } else if (hs_message_copy(&session->conversation.messages[i], ret_message) != HS_OK) {
        status = hs_error_nomem(err, "copy of a message");
    }
    pthread_mutex_unlock(&manager->mutex);
    return status;
}

/* Move the messages from index n_keep on in front of what was cut off before. */
static hs_status cut_off(hs_session *session, size_t n_keep, struct hs_error *err)
{
    struct hs_conversation *conversation = &session->conversation;
    struct hs_conversation *dropped = &session->dropped;
    size_t n_cut = conversation->n - n_keep;
    struct hs_message *messages =
        hs_realloc_array(dropped->messages, dropped->n + n_cut, sizeof(messages[0]));
    if (messages == NULL) {
        return hs_error_nomem(err, "messages of a session");
    }
    memmove(&messages[n_cut], messages, dropped->n * sizeof(messages[0]));
    memcpy(messages, &conversation->messages[n_keep], n_cut * sizeof(messages[0]));
    if (dropped->n == 0) {
        dropped->n_skipped = conversation->n_skipped;
    }
    dropped->messages = messages;
    dropped->n = dropped->cap = dropped->n + n_cut;
    conversation->n = n_keep;
    conversation->n_skipped = 0;
    session->is_unsaved = true;
    return HS_OK;
}

hs_status hs_session_keep(hs_session_manager *manager, const char *id, size_t n_keep,
                          struct hs_error *err)
{
    hs_session *session = NULL;
    hs_status status = acquire(manager, id, &session, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&manager->mutex);
    if (n_keep < session->conversation.n) {
        status = cut_off(session, n_keep, err);
    }
    pthread_mutex_unlock(&manager->mutex);
    release(session);
    return status;
}

hs_status hs_session_add(hs_session_manager *manager, const char *id,
                         const struct hs_message *message, struct hs_error *err)
{
    hs_session *session = NULL;
    hs_status status = acquire(manager, id, &session, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&manager->mutex);
    if (hs_conversation_append(&session->conversation, message) != HS_OK) {
        status = hs_error_nomem(err, "message of a session");
    } else {
        /* The old answer belonged to a conversation that went on differently. */
        hs_conversation_free(&session->dropped);
        session->dropped = (struct hs_conversation){0};
        session->is_unsaved = session->file != NULL;
    }
    pthread_mutex_unlock(&manager->mutex);
    release(session);
    return status;
}

hs_status hs_session_system(hs_session_manager *manager, const char *id, const char *system,
                            struct hs_error *err)
{
    hs_session *session = NULL;
    hs_status status = acquire(manager, id, &session, err);
    if (status != HS_OK) {
        return status;
    }
    /* On a copy, so that what cannot be saved has not happened. */
    struct hs_conversation changed = {0};
    const struct hs_conversation *conversation = &session->conversation;
    if (hs_conversation_copy(conversation->messages, conversation->n, &changed) != HS_OK) {
        status = hs_error_nomem(err, "messages of a session");
    }
    if (status == HS_OK) {
        changed.n_skipped = conversation->n_skipped;
        status = replace_system(&changed, system, err);
    }
    if (status == HS_OK) {
        status = hs_session_save_text(session, &changed, err);
    }
    if (status == HS_OK) {
        pthread_mutex_lock(&manager->mutex);
        struct hs_conversation old = session->conversation;
        session->conversation = changed;
        changed = old;
        hs_conversation_free(&session->dropped);
        session->dropped = (struct hs_conversation){0};
        pthread_mutex_unlock(&manager->mutex);
    }
    hs_conversation_free(&changed);
    release(session);
    return status;
}
