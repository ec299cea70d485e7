#include "fn_session.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define ANSWER_MAX (64u << 20)

static hs_status close_it(struct hs_fn_session *session, struct hs_error *err)
{
    const struct hs_sql_host *host = session->call->host;
    if (session->target == NULL) {
        return HS_OK;
    }
    session->target = NULL;
    return host->close_session(host->user, session->id, err);
}

static hs_status open_it(struct hs_fn_session *session, const struct hs_fn_target *target,
                         struct hs_error *err)
{
    const struct hs_sql_host *host = session->call->host;
    if (!session->is_locked) {
        pthread_mutex_lock(&session->call->memo->session_mutex);
        session->is_locked = true;
    }
    if (session->target == target) {
        return HS_OK;
    }
    hs_status status = close_it(session, err);
    if (status == HS_OK) {
        status =
            host->open_session(host->user, target->session, target->model.id, session->id, err);
    }
    if (status != HS_OK) {
        return status;
    }
    session->target = target;
    if (target->has_adapters) {
        status = hs_engine_apply_lora_weights(host->engine, session->id, target->adapters,
                                              target->n_adapters, err);
    }
    if (status == HS_OK && target->system != NULL) {
        status = hs_session_set_system(host->engine, session->id, target->system, err);
    }
    return status;
}

static void cancel(void *stream)
{
    hs_stream_cancel(stream);
}

/* The turn has to be over before the session can be closed, so a cancelled one is read on. */
static hs_status read_turn(hs_stream *stream, struct hs_fn_entry *entry, struct hs_event *event,
                           struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(ANSWER_MAX);
    hs_status kept = HS_OK, status = HS_OK;
    do {
        status = hs_stream_next(stream, -1, event, err);
        if (status == HS_OK && event->type == HS_EVENT_TEXT && kept == HS_OK) {
            kept = hs_buf_append(&text, event->text, event->text_len);
        }
        if (kept != HS_OK) {
            hs_stream_cancel(stream);
        }
    } while (status == HS_OK && event->type != HS_EVENT_DONE);
    if (status != HS_OK) {
        return status;
    }
    kept = kept == HS_OK ? hs_buf_append(&text, "", 0) : kept;
    kept = kept == HS_OK ? hs_buf_take(&text, &entry->text, &entry->text_len) : kept;
    entry->prompt_tokens = event->usage.prompt_tokens;
    entry->completion_tokens = event->usage.completion_tokens;
    return kept == HS_OK ? HS_OK : hs_error_nomem(err, "an answer");
}

static hs_status ask(struct hs_fn_session *session, const struct hs_fn_target *target,
                     const char *prompt, struct hs_fn_entry *entry, struct hs_error *err)
{
    const struct hs_fn_call *call = session->call;
    const char *user = hs_sql_conn_user(call->conn);
    struct hs_generate_params params = target->params;
    params.client = user[0] == '\0' ? "sql" : user;
    hs_stream *stream = NULL;
    struct hs_event event = {0};
    hs_status status = open_it(session, target, err);
    if (status == HS_OK) {
        status = hs_engine_generate(call->host->engine, session->id, prompt, &params, &stream, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_sql_work work = {.cancel = cancel, .user = stream};
    bool is_begun = hs_sql_work_begin(call->conn, &work);
    if (!is_begun) {
        hs_stream_cancel(stream);
    }
    status = read_turn(stream, entry, &event, err);
    if (is_begun) {
        hs_sql_work_end(call->conn, &work);
    }
    if (status == HS_OK && event.finish == HS_FINISH_ERROR) {
        *err = event.error;
        status = event.error.status;
    } else if (status == HS_OK && event.finish == HS_FINISH_CANCELLED) {
        status = hs_sql_conn_is_interrupted(call->conn)
                     ? hs_error_set(err, HS_CANCELLED, "the statement was interrupted")
                     : hs_error_set(err, HS_UNAVAILABLE, "the answer was stopped");
    }
    hs_stream_free(stream);
    return status;
}

hs_status hs_fn_session_ask(struct hs_fn_session *session, const struct hs_fn_target *target,
                            const char *prompt, struct hs_fn_entry **ret_entry,
                            struct hs_error *err)
{
    struct hs_fn_entry *entry = hs_calloc(1, sizeof *entry);
    double begun_ms = hs_clock_ms();
    hs_sql_conn_progress(session->call->conn, 1, 0);
    hs_status status =
        entry == NULL ? hs_error_nomem(err, "an answer") : ask(session, target, prompt, entry, err);
    if (status != HS_OK && status != HS_CANCELLED && status != HS_OUT_OF_MEMORY) {
        entry->error = hs_alloc(sizeof *entry->error);
        if (entry->error != NULL) {
            *entry->error = *err;
            status = HS_OK;
        }
    }
    if (status != HS_OK) {
        hs_fn_entry_free(entry);
        return status;
    }
    entry->ms = hs_clock_ms() - begun_ms;
    hs_sql_conn_progress(session->call->conn, 0, 1);
    *ret_entry = entry;
    return HS_OK;
}

hs_status hs_fn_session_end(struct hs_fn_session *session, struct hs_error *err)
{
    hs_status status = close_it(session, err);
    if (session->is_locked) {
        pthread_mutex_unlock(&session->call->memo->session_mutex);
        session->is_locked = false;
    }
    return status;
}
