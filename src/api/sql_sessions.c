#include "sql_sessions.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

struct hs_sql_session {
    char id[HS_SQL_SESSION_ID_SIZE];
    char owner[HS_SQL_OWNER_MAX];
    char user[HS_TAG_MAX];
    hs_sql_conn *conn; /* NULL: no statement came yet */
    bool is_busy, is_ended;
    int64_t last_used_ms;
    hs_sql_session *next;
};

struct hs_sql_sessions {
    int max_each;
    int64_t idle_ms;
    pthread_mutex_t lock; /* of what follows and of all that is in it */
    pthread_cond_t changed;
    hs_sql_session *first;
    hs_sql_session *ended; /* to be freed by the sweeper */
    bool has_sweeper, is_stopping;
    pthread_t sweeper;
};

hs_status hs_sql_sessions_new(int max_each, int64_t idle_ms, hs_sql_sessions **ret_sessions,
                              struct hs_error *err)
{
    hs_sql_sessions *sessions = hs_calloc(1, sizeof *sessions);
    if (sessions == NULL || hs_cond_init(&sessions->changed) != 0) {
        hs_free(sessions);
        return hs_error_nomem(err, "sessions");
    }
    pthread_mutex_init(&sessions->lock, NULL);
    sessions->max_each = max_each;
    sessions->idle_ms = idle_ms;
    *ret_sessions = sessions;
    return HS_OK;
}

/* ---- in: the lock is held ---- */

static hs_sql_session *find(hs_sql_sessions *sessions, const char *owner, const char *id)
{
    hs_sql_session *session = sessions->first;
    while (session != NULL &&
           (strcmp(session->id, id) != 0 || strcmp(session->owner, owner) != 0)) {
        session = session->next;
    }
    return session;
}

static void dismiss(hs_sql_sessions *sessions, hs_sql_session *session)
{
    session->next = sessions->ended;
    sessions->ended = session;
    pthread_cond_signal(&sessions->changed);
}

/* Out of the list; freed as soon as nobody uses it. */
static void end(hs_sql_sessions *sessions, hs_sql_session *session)
{
    hs_sql_session **at = &sessions->first;
    while (*at != session) {
        at = &(*at)->next;
    }
    *at = session->next;
    session->is_ended = true;
    if (!session->is_busy) {
        dismiss(sessions, session);
    } else if (session->conn != NULL) {
        hs_sql_interrupt(session->conn);
    }
}

/* How long none of the others can be ended. */
static int64_t end_idle(hs_sql_sessions *sessions)
{
    int64_t now = (int64_t)hs_clock_ms(), left_ms = sessions->idle_ms;
    for (hs_sql_session *i = sessions->first, *next; i != NULL; i = next) {
        int64_t left = i->last_used_ms + sessions->idle_ms - now;
        next = i->next;
        if (!i->is_busy && left <= 0) {
            end(sessions, i);
        } else if (!i->is_busy && left < left_ms) {
            left_ms = left;
        }
    }
    return left_ms;
}

/* The lock is given up meanwhile: a transaction may have to be rolled back. */
static void free_ended(hs_sql_sessions *sessions)
{
    while (sessions->ended != NULL) {
        hs_sql_session *session = sessions->ended;
        sessions->ended = session->next;
        pthread_mutex_unlock(&sessions->lock);
        hs_sql_disconnect(session->conn);
        hs_free(session);
        pthread_mutex_lock(&sessions->lock);
    }
}

/* ---- the thread that ends idle sessions ---- */

static void *sweep(void *user)
{
    hs_sql_sessions *sessions = user;
    pthread_mutex_lock(&sessions->lock);
    while (!sessions->is_stopping) {
        int64_t left_ms = end_idle(sessions);
        if (sessions->ended != NULL) {
            free_ended(sessions);
        } else {
            struct timespec moment = hs_clock_deadline(left_ms);
            pthread_cond_timedwait(&sessions->changed, &sessions->lock, &moment);
        }
    }
    pthread_mutex_unlock(&sessions->lock);
    return NULL;
}

void hs_sql_sessions_free(hs_sql_sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    pthread_mutex_lock(&sessions->lock);
    sessions->is_stopping = true;
    pthread_cond_signal(&sessions->changed);
    pthread_mutex_unlock(&sessions->lock);
    if (sessions->has_sweeper) {
        pthread_join(sessions->sweeper, NULL);
    }
    pthread_mutex_lock(&sessions->lock);
    while (sessions->first != NULL) {
        end(sessions, sessions->first);
    }
    free_ended(sessions);
    pthread_mutex_unlock(&sessions->lock);
    pthread_cond_destroy(&sessions->changed);
    pthread_mutex_destroy(&sessions->lock);
    hs_free(sessions);
}

/* ---- sessions ---- */

static hs_status no_session(struct hs_error *err)
{
    hs_error_set(err, HS_NOT_FOUND, "no such SQL session");
    return hs_error_hint(err, "it was ended, was idle for too long, or is another key's");
}

static hs_status draw_id(char ret_id[HS_SQL_SESSION_ID_SIZE], struct hs_error *err)
{
    uint8_t bytes[(HS_SQL_SESSION_ID_SIZE - 1) / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return hs_error_set(err, HS_INTERNAL, "no random numbers");
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        snprintf(ret_id + 2 * i, 3, "%02x", bytes[i]);
    }
    return HS_OK;
}

/* In: the lock is held. */
static hs_status add(hs_sql_sessions *sessions, hs_sql_session *session, struct hs_error *err)
{
    int n = 0;
    for (const hs_sql_session *i = sessions->first; i != NULL; i = i->next) {
        n += strcmp(i->owner, session->owner) == 0;
    }
    if (n >= sessions->max_each) {
        hs_error_set(err, HS_QUEUE_FULL, "%d SQL sessions are open, which is the limit", n);
        return hs_error_hint(err, "end some, or raise --sql-sessions");
    }
    if (!sessions->has_sweeper) {
        int code = hs_thread_start(&sessions->sweeper, sweep, sessions);
        if (code != 0) {
            return hs_error_errno(err, code, "start", "the thread that ends idle SQL sessions");
        }
        sessions->has_sweeper = true;
    }
    session->last_used_ms = (int64_t)hs_clock_ms();
    session->next = sessions->first;
    sessions->first = session;
    pthread_cond_signal(&sessions->changed);
    return HS_OK;
}

hs_status hs_sql_session_new(hs_sql_sessions *sessions, const char *owner, const char *user,
                             char ret_id[HS_SQL_SESSION_ID_SIZE], struct hs_error *err)
{
    hs_sql_session *session = hs_calloc(1, sizeof *session);
    if (session == NULL) {
        return hs_error_nomem(err, "a session");
    }
    snprintf(session->owner, sizeof session->owner, "%s", owner);
    snprintf(session->user, sizeof session->user, "%s", user);
    hs_status status = draw_id(session->id, err);
    if (!status) {
        memcpy(ret_id, session->id, HS_SQL_SESSION_ID_SIZE);
        pthread_mutex_lock(&sessions->lock);
        status = add(sessions, session, err);
        pthread_mutex_unlock(&sessions->lock);
    }
    if (status) {
        hs_free(session);
    }
    return status;
}

hs_status hs_sql_session_idle_ms(hs_sql_sessions *sessions, const char *owner, const char *id,
                                 int64_t *ret_ms, struct hs_error *err)
{
    pthread_mutex_lock(&sessions->lock);
    const hs_sql_session *session = find(sessions, owner, id);
    if (session != NULL) {
        *ret_ms = session->is_busy ? 0 : (int64_t)hs_clock_ms() - session->last_used_ms;
    }
    pthread_mutex_unlock(&sessions->lock);
    return session != NULL ? HS_OK : no_session(err);
}

hs_status hs_sql_session_enter(hs_sql_sessions *sessions, hs_sql *sql, const char *owner,
                               const char *id, hs_sql_session **ret_session, hs_sql_conn **ret_conn,
                               struct hs_error *err)
{
    hs_status status = HS_OK;
    pthread_mutex_lock(&sessions->lock);
    hs_sql_session *session = find(sessions, owner, id);
    if (session == NULL) {
        status = no_session(err);
    } else if (session->is_busy) {
        hs_error_set(err, HS_BUSY, "another statement of this SQL session runs");
        status = hs_error_hint(err, "statements of a session are sent one after the other");
    } else {
        session->is_busy = true;
    }
    pthread_mutex_unlock(&sessions->lock);
    if (status) {
        return status;
    }
    hs_sql_conn *conn = session->conn;
    status = conn != NULL ? HS_OK : hs_sql_connect(sql, session->user, &conn, err);
    if (status) {
        hs_sql_session_leave(sessions, session);
        return status;
    }
    pthread_mutex_lock(&sessions->lock);
    session->conn = conn;
    hs_sql_task_begin(conn);
    if (session->is_ended) {
        hs_sql_interrupt(conn);
    }
    pthread_mutex_unlock(&sessions->lock);
    *ret_session = session;
    *ret_conn = conn;
    return HS_OK;
}

void hs_sql_session_leave(hs_sql_sessions *sessions, hs_sql_session *session)
{
    pthread_mutex_lock(&sessions->lock);
    if (session->conn != NULL) {
        hs_sql_task_end(session->conn);
    }
    session->is_busy = false;
    session->last_used_ms = (int64_t)hs_clock_ms();
    if (session->is_ended) {
        dismiss(sessions, session);
    }
    pthread_cond_signal(&sessions->changed);
    pthread_mutex_unlock(&sessions->lock);
}

hs_status hs_sql_session_end(hs_sql_sessions *sessions, const char *owner, const char *id,
                             struct hs_error *err)
{
    pthread_mutex_lock(&sessions->lock);
    hs_sql_session *session = find(sessions, owner, id);
    if (session != NULL) {
        end(sessions, session);
    }
    pthread_mutex_unlock(&sessions->lock);
    return session != NULL ? HS_OK : no_session(err);
}
