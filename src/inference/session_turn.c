/* The life of a turn, and what of a session is on disk. */
#include "session_internal.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "worker.h"

/* KV up to this size is written after every turn; larger only when the session is closed. */
#define CHEAP_KV_BYTES ((size_t)16 << 20)

_Static_assert(HS_KV_CHECKPOINTS_MAX <= HS_SESSION_KV_CHECKPOINTS_MAX, "a file holds them all");

/* ---- files ---- */

hs_status hs_session_save_text(hs_session *session, const struct hs_conversation *conversation,
                               struct hs_error *err)
{
    if (session->file == NULL) {
        return HS_OK;
    }
    struct hs_session_record record = {
        .model_name = session->model->info.id,
        .fingerprint = session->model->info.fingerprint,
        .adapters = session->adapters,
        .n_adapters = session->n_adapters,
        .is_routed = session->is_routed,
        .messages = conversation->messages,
        .n_messages = conversation->n,
        .overflow = session->overflow,
        .created_unix_ms = session->created_unix_ms,
        .updated_unix_ms = hs_clock_unix_ms(),
        .params = session->params,
    };
    hs_status status = hs_session_file_save(session->file, &record, err);
    session->is_unsaved = session->is_unsaved && status != HS_OK;
    return status;
}

hs_status hs_session_save_pending(hs_session *session, struct hs_error *err)
{
    return session->is_unsaved ? hs_session_save_text(session, &session->conversation, err) : HS_OK;
}

static void write_kv(hs_session *session, const struct hs_kv_state *state)
{
    struct hs_session_kv kv = {
        .tokens = state->content.tokens,
        .n_tokens = state->content.n_tokens,
        .state = state->state,
        .state_len = state->state_len,
    };
    for (int32_t i = 0; i < state->content.n_checkpoints; i++) {
        struct hs_kv_checkpoint *checkpoint = state->content.checkpoints[i];
        kv.checkpoints[kv.n_checkpoints++] = (struct hs_session_kv_checkpoint){
            checkpoint->n_tokens, checkpoint->state, checkpoint->state_len};
    }
    memcpy(kv.fingerprint, session->model->info.fingerprint, sizeof(kv.fingerprint));
    memcpy(kv.cache_key, state->content.key, sizeof(state->content.key));
    struct hs_error error;
    if (hs_session_file_save_kv(session->file, &kv, &error) == HS_OK) {
        session->is_kv_saved = true;
    } else {
        hs_log(HS_LOG_WARN, "inference", "KV of session '%s' was not saved: %s", session->id,
               error.message);
    }
}

void hs_session_save_kv(hs_session *session)
{
    if (session->file == NULL || !session->save_kv || session->is_kv_saved ||
        session->kv_tokens == NULL) {
        return;
    }
    struct hs_error error;
    struct hs_kv_state state = {0};
    hs_status status =
        hs_worker_export_kv(session->model->worker, session->kv_key, session->kv_tokens,
                            session->n_kv_tokens, SIZE_MAX, &state, &error);
    if (status == HS_OK) {
        write_kv(session, &state);
    } else if (status != HS_NOT_FOUND) {
        hs_log(HS_LOG_WARN, "inference", "KV of session '%s' was not saved: %s", session->id,
               error.message);
    }
    hs_kv_state_clear(&state);
}

static void log_other_key(const hs_session *session)
{
    hs_log(
        HS_LOG_INFO, "inference",
        "KV of session '%s' is of another model, setting or adapter, its text is evaluated again",
        session->id);
}

static void load_kv(hs_session *session)
{
    struct hs_error error;
    struct hs_session_kv kv = {0};
    hs_status status = hs_session_file_load_kv(session->file, &kv, &error);
    if (status != HS_OK) {
        if (status != HS_NOT_FOUND) {
            hs_log(HS_LOG_INFO, "inference",
                   "KV of session '%s' cannot be used, its text is evaluated again: %s",
                   session->id, error.message);
        }
        return;
    }
    const struct hs_model *model = session->model;
    if (strcmp(kv.fingerprint, model->info.fingerprint) != 0 ||
        strlen(kv.cache_key) >= HS_CACHE_KEY_MAX) {
        log_other_key(session);
    } else {
        /* Whether its key is that of the next turn is seen when that begins: adapters change. */
        struct hs_kv_state *brought = &session->brought;
        memcpy(brought->content.key, kv.cache_key, sizeof(brought->content.key));
        brought->content.tokens = kv.tokens;
        brought->content.n_tokens = brought->content.cap = kv.n_tokens;
        brought->state = kv.state;
        brought->state_len = kv.state_len;
        kv.tokens = NULL;
        kv.state = NULL;
        for (size_t i = 0; i < kv.n_checkpoints; i++) {
            const struct hs_session_kv_checkpoint *checkpoint = &kv.checkpoints[i];
            if (!hs_kv_state_add_checkpoint(brought, checkpoint->n_tokens, checkpoint->state,
                                            checkpoint->state_len)) {
                break; /* no memory: it only spares time */
            }
        }
    }
    hs_session_kv_free(&kv);
}

hs_status hs_session_load(hs_session *session, struct hs_error *err)
{
    struct hs_session_record record = {0};
    hs_status status = hs_session_file_load(session->file, &record, err);
    if (status == HS_NOT_FOUND) {
        session->created_unix_ms = hs_clock_unix_ms();
        return HS_OK;
    }
    if (status != HS_OK) {
        return status;
    }
    if (hs_conversation_copy(record.messages, record.n_messages, &session->conversation) != HS_OK) {
        status = hs_error_nomem(err, "messages of a session");
    }
    if (status == HS_OK) {
        session->created_unix_ms = record.created_unix_ms;
        session->params = record.params;
        record.params = NULL;
        session->adapters = record.adapters;
        session->n_adapters = record.n_adapters;
        session->is_routed = record.is_routed;
        record.adapters = NULL;
        record.n_adapters = 0;
        if (session->overflow == HS_OVERFLOW_SAVED) {
            session->overflow = record.overflow;
        }
        load_kv(session);
    }
    hs_session_record_free(&record);
    return status;
}

/* ---- turns ---- */

static hs_status append_message(hs_session *session, const struct hs_message *message,
                                struct hs_error *err)
{
    hs_status status = hs_conversation_append(&session->conversation, message);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "message of a session");
}

/* Called with the mutex held. */
static hs_status begin_locked(hs_session *session, const char *prompt, struct hs_error *err)
{
    const struct hs_conversation *conversation = &session->conversation;
    if (session->is_busy) {
        hs_error_set(err, HS_BUSY, "session '%s' is generating", session->id);
        hs_error_hint(err, "wait for the answer, or cancel it");
        return HS_BUSY;
    }
    if (prompt == NULL &&
        (conversation->n == 0 ||
         strcmp(conversation->messages[conversation->n - 1].role, "assistant") == 0)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "session '%s' has no question to answer",
                            session->id);
    }
    if (prompt != NULL && !hs_utf8_valid(prompt, strlen(prompt))) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the prompt is not valid UTF-8");
    }
    if (prompt != NULL) {
        struct hs_message question = {.role = "user", .content = prompt};
        hs_status status = append_message(session, &question, err);
        if (status != HS_OK) {
            return status;
        }
    }
    session->has_added = prompt != NULL;
    session->n_skipped_before = conversation->n_skipped;
    session->is_busy = true;
    return HS_OK;
}

hs_status hs_session_begin(hs_session_manager *manager, const char *id, const char *prompt,
                           hs_session **ret_session, struct hs_model **ret_model,
                           struct hs_error *err)
{
    pthread_mutex_lock(&manager->mutex);
    hs_session *session = hs_session_find(manager, id);
    hs_status status = session == NULL
                           ? hs_error_set(err, HS_NOT_FOUND, "there is no open session '%s'", id)
                           : begin_locked(session, prompt, err);
    if (status == HS_OK) {
        *ret_session = session;
        *ret_model = session->model;
    }
    pthread_mutex_unlock(&manager->mutex);
    return status;
}

const struct hs_conversation *hs_session_conversation(const hs_session *session)
{
    return &session->conversation;
}

enum hs_overflow hs_session_overflow(const hs_session *session)
{
    return session->overflow;
}

const struct hs_adapter_ref *hs_session_refs(const hs_session *session, int32_t *ret_n)
{
    *ret_n = (int32_t)session->n_adapters;
    return session->adapters;
}

static void end_turn(hs_session *session)
{
    hs_session_manager *manager = session->manager;
    pthread_mutex_lock(&manager->mutex);
    session->is_busy = false;
    pthread_cond_broadcast(&manager->changed);
    pthread_mutex_unlock(&manager->mutex);
}

/* Called with the mutex held. Everything is as before the turn or, when it was to answer the last
 * question anew, as before the old answer was cut off. */
static void undo_turn(hs_session *session)
{
    struct hs_conversation *conversation = &session->conversation;
    struct hs_conversation *dropped = &session->dropped;
    conversation->n_skipped = session->n_skipped_before;
    if (session->has_added) {
        hs_conversation_truncate(conversation, conversation->n - 1);
    } else if (dropped->n > 0) {
        memcpy(&conversation->messages[conversation->n], dropped->messages,
               dropped->n * sizeof(dropped->messages[0]));
        conversation->n += dropped->n;
        conversation->n_skipped = dropped->n_skipped;
        dropped->n = 0; /* its strings have moved */
    }
    hs_session_params_free(session->turn_params);
    session->turn_params = NULL;
}

/* Whether there is an answer to join. Called with the mutex held. */
static bool has_answer(const hs_session *session, const struct hs_request *request)
{
    if (request->finish != HS_FINISH_CANCELLED) {
        return request->finish != HS_FINISH_ERROR;
    }
    bool is_empty =
        request->content.len == 0 && request->reasoning.len == 0 && request->n_calls == 0;
    bool has_old_one = !session->has_added && session->dropped.n > 0;
    return !is_empty && !has_old_one;
}

/* A call that was cut off in its arguments is left out: no template renders it. */
static int32_t whole_calls(const struct hs_request *request, struct hs_tool_call *calls)
{
    int32_t n = 0;
    for (int32_t i = 0; i < request->n_calls; i++) {
        const struct hs_kept_call *call = &request->calls[i];
        if (hs_shape_is_object(call->arguments.data)) {
            calls[n++] = (struct hs_tool_call){call->id, call->name, call->arguments.data};
        }
    }
    return n;
}

/* Called with the mutex held. */
static hs_status join_answer(hs_session *session, struct hs_request *request, struct hs_error *err)
{
    HS_CLEANUP(hs_freep)
    struct hs_tool_call *calls = hs_calloc((size_t)request->n_calls, sizeof(calls[0]));
    if (calls == NULL) {
        return hs_error_nomem(err, "tool calls of an answer");
    }
    struct hs_message answer = {
        .role = "assistant",
        .content = request->content.data == NULL ? "" : request->content.data,
        .reasoning = request->reasoning.len == 0 ? NULL : request->reasoning.data,
        .tool_calls = calls,
        .n_tool_calls = whole_calls(request, calls),
    };
    hs_status status = append_message(session, &answer, err);
    if (status != HS_OK) {
        return status;
    }
    hs_conversation_free(&session->dropped);
    session->dropped = (struct hs_conversation){0};
    if (request->conversation.n > 0) {
        session->conversation.n_skipped = request->conversation.n_skipped;
    }
    if (session->turn_params != NULL) {
        hs_session_params_free(session->params);
        session->params = session->turn_params;
        session->turn_params = NULL;
    }
    session->is_unsaved = session->file != NULL;
    return HS_OK;
}

static void settle_kv(hs_session *session, struct hs_request *request)
{
    if (request->brought.state != NULL) {
        /* Never admitted: what is on disk is still the session's KV. */
        session->brought = request->brought;
        request->brought = (struct hs_kv_state){0};
        return;
    }
    hs_free(session->kv_tokens);
    memcpy(session->kv_key, request->key, sizeof(session->kv_key));
    session->kv_tokens = request->tokens;
    session->n_kv_tokens = request->n_tokens;
    session->is_kv_saved = false;
    request->tokens = NULL;
    request->n_tokens = 0;
}

/* The answer joins the conversation, or the turn leaves no trace: *ret_joined. */
static void settle(hs_session *session, struct hs_request *request, bool *ret_joined)
{
    struct hs_error error;
    pthread_mutex_lock(&session->manager->mutex);
    bool joined = has_answer(session, request);
    if (joined && join_answer(session, request, &error) != HS_OK) {
        request->finish = HS_FINISH_ERROR;
        request->error = error;
        joined = false;
    }
    if (!joined) {
        undo_turn(session);
    }
    pthread_mutex_unlock(&session->manager->mutex);
    settle_kv(session, request);
    *ret_joined = joined;
}

/* Runs on the worker's thread; writing is the saver's. */
static void turn_done(struct hs_request *request, void *user)
{
    hs_session *session = user;
    hs_session_manager *manager = session->manager;
    if (session->file == NULL) {
        bool joined;
        settle(session, request, &joined);
        end_turn(session);
        hs_request_complete(request);
        return;
    }
    pthread_mutex_lock(&manager->mutex);
    session->n_jobs++;
    request->next = NULL;
    if (manager->jobs_last == NULL) {
        manager->jobs_first = request;
    } else {
        manager->jobs_last->next = request;
    }
    manager->jobs_last = request;
    pthread_cond_signal(&manager->work);
    pthread_mutex_unlock(&manager->mutex);
}

hs_status hs_session_attach(hs_session *session, struct hs_request *request, size_t n_skipped,
                            const struct hs_generate_params *params, struct hs_error *err)
{
    if (session->file != NULL) {
        hs_status status = hs_session_params_copy(params, &session->turn_params, err);
        if (status != HS_OK) {
            return status;
        }
    }
    session->conversation.n_skipped = n_skipped;
    request->on_done = turn_done;
    request->on_done_user = session;
    request->wants_text = true;
    bool saves_kv = session->file != NULL && session->save_kv && request->cache_prompt;
    request->wants_kv_bytes = saves_kv ? CHEAP_KV_BYTES : 0;
    if (session->brought.state != NULL && strcmp(session->brought.content.key, request->key) != 0) {
        log_other_key(session);
        hs_kv_state_clear(&session->brought);
    }
    request->brought = session->brought;
    session->brought = (struct hs_kv_state){0};
    return HS_OK;
}

void hs_session_revert(hs_session *session, struct hs_request *request)
{
    hs_session_manager *manager = session->manager;
    if (request != NULL && request->on_done != NULL) {
        session->brought = request->brought;
        request->brought = (struct hs_kv_state){0};
    }
    pthread_mutex_lock(&manager->mutex);
    undo_turn(session);
    pthread_mutex_unlock(&manager->mutex);
    end_turn(session);
}

/* ---- the saver ---- */

static void save_turn(struct hs_request *request)
{
    hs_session *session = request->on_done_user;
    struct hs_error error;
    bool joined;
    settle(session, request, &joined);
    /* Without an answer what is on disk is still right. */
    if (joined && hs_session_save_pending(session, &error) != HS_OK) {
        hs_log(HS_LOG_ERROR, "inference", "%s; it is tried again", error.message);
    }
    struct hs_kv_state kv = request->kv;
    request->kv = (struct hs_kv_state){0};
    end_turn(session);
    hs_request_complete(request);
    if (kv.state != NULL) {
        write_kv(session, &kv);
    }
    hs_kv_state_clear(&kv);
}

void *hs_session_saver(void *arg)
{
    hs_session_manager *manager = arg;
    pthread_mutex_lock(&manager->mutex);
    for (;;) {
        while (manager->jobs_first == NULL && !manager->is_stopping) {
            pthread_cond_wait(&manager->work, &manager->mutex);
        }
        struct hs_request *request = manager->jobs_first;
        if (request == NULL) {
            break;
        }
        manager->jobs_first = request->next;
        if (manager->jobs_first == NULL) {
            manager->jobs_last = NULL;
        }
        pthread_mutex_unlock(&manager->mutex);
        hs_session *session = request->on_done_user;
        save_turn(request);
        pthread_mutex_lock(&manager->mutex);
        session->n_jobs--;
        pthread_cond_broadcast(&manager->changed);
    }
    pthread_mutex_unlock(&manager->mutex);
    return NULL;
}
