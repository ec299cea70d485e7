#include "session.h"

#include <nanoarrow/nanoarrow.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

hs_status hs_flight_random_hex(char *out, size_t n, struct hs_error *err)
{
    uint8_t bytes[32];
    if (n > sizeof bytes || getrandom(bytes, n, 0) != (ssize_t)n) {
        return hs_error_set(err, HS_INTERNAL, "no random numbers");
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
    return HS_OK;
}

/* ---- values ---- */

hs_status hs_flight_values_new(const struct ArrowSchema *schema, struct ArrowArray *array,
                               struct hs_flight_values **ret_values, struct hs_error *err)
{
    struct hs_flight_values *values = hs_alloc(sizeof *values);
    if (!values || ArrowSchemaDeepCopy(schema, &values->schema)) {
        hs_free(values);
        array->release(array);
        return hs_error_nomem(err, "parameters");
    }
    values->array = *array;
    atomic_init(&values->n_users, 1);
    *ret_values = values;
    return HS_OK;
}

void hs_flight_values_put(struct hs_flight_values *values)
{
    if (values && atomic_fetch_sub(&values->n_users, 1) == 1) {
        values->schema.release(&values->schema);
        values->array.release(&values->array);
        hs_free(values);
    }
}

/* One more user. */
static struct hs_flight_values *share(struct hs_flight_values *values)
{
    if (values) {
        atomic_fetch_add(&values->n_users, 1);
    }
    return values;
}

void hs_flight_handle_bind(hs_flight *flight, struct hs_flight_handle *handle,
                           struct hs_flight_values *values)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_values *old = handle->values;
    handle->values = share(values);
    pthread_mutex_unlock(&flight->lock);
    hs_flight_values_put(old);
}

struct hs_flight_values *hs_flight_handle_values(hs_flight *flight, struct hs_flight_handle *handle)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_values *values = share(handle->values);
    pthread_mutex_unlock(&flight->lock);
    return values;
}

/* ---- handles ---- */

/* In: nobody uses it. The statement is freed by whoever has its connection's lease, or at once. */
static void handle_free(struct hs_flight_session *session, struct hs_flight_handle *handle)
{
    struct hs_flight_conn *conn = handle->conn;
    struct hs_flight_handle **at = &session->handles;
    while (*at != handle) {
        at = &(*at)->next;
    }
    *at = handle->next;
    hs_flight_values_put(handle->values);
    hs_free(handle->text);
    if (handle->stmt && conn->is_busy) {
        handle->next = conn->doomed;
        conn->doomed = handle;
    } else {
        hs_sql_stmt_free(handle->stmt);
        hs_free(handle);
    }
}

/* In: the lock is held. */
static void drop(struct hs_flight_session *session, struct hs_flight_handle *handle)
{
    session->n_handles -= !handle->is_dropped;
    handle->is_dropped = true;
    if (handle->n_users == 0) {
        handle_free(session, handle);
    }
}

hs_status hs_flight_handle_new(hs_flight *flight, struct hs_flight_session *session,
                               enum hs_flight_kind kind, struct hs_flight_conn *conn,
                               hs_sql_stmt *stmt, char *text, struct hs_flight_handle **ret_handle,
                               struct hs_error *err)
{
    struct hs_flight_handle *handle = hs_calloc(1, sizeof *handle);
    hs_status status = HS_OK;
    if (!handle || getrandom(handle->id, sizeof handle->id, 0) != sizeof handle->id) {
        status = hs_error_nomem(err, "a statement");
    }
    pthread_mutex_lock(&flight->lock);
    if (!status && session->n_handles >= flight->config.max_handles) {
        hs_error_set(err, HS_LIMIT,
                     "%d statements and transactions are open, the most there can be",
                     session->n_handles);
        status = hs_error_hint(err, "close some, read the results that were asked for, "
                                    "or raise --flight-handles");
    }
    if (!status) {
        handle->kind = kind;
        handle->conn = conn;
        handle->transaction = conn->transaction;
        handle->stmt = stmt;
        handle->text = text;
        handle->next = session->handles;
        handle->n_users = 1;
        session->handles = handle;
        session->n_handles++;
        *ret_handle = handle;
    }
    pthread_mutex_unlock(&flight->lock);
    if (status) {
        hs_sql_stmt_free(stmt);
        hs_free(text);
        hs_free(handle);
    }
    return status;
}

static struct hs_flight_handle *find_handle(struct hs_flight_session *session, const uint8_t *id,
                                            size_t len)
{
    struct hs_flight_handle *handle = len == HS_FLIGHT_HANDLE_SIZE ? session->handles : NULL;
    while (handle && (handle->is_dropped || memcmp(handle->id, id, len) != 0)) {
        handle = handle->next;
    }
    return handle;
}

hs_status hs_flight_handle_get(hs_flight *flight, struct hs_flight_session *session,
                               enum hs_flight_kind kind, const uint8_t *id, size_t len,
                               struct hs_flight_handle **ret_handle, struct hs_error *err)
{
    static const char *const names[] = {"ticket", "prepared statement", "transaction"};
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_handle *handle = find_handle(session, id, len);
    bool is_found = handle && handle->kind == kind && !handle->is_taken;
    if (is_found) {
        handle->is_taken = kind == HS_FLIGHT_STATEMENT;
        handle->n_users++;
        *ret_handle = handle;
    }
    pthread_mutex_unlock(&flight->lock);
    if (is_found) {
        return HS_OK;
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "no such %s in this session", names[kind]);
    return hs_error_hint(err, kind == HS_FLIGHT_STATEMENT
                                  ? "a ticket is good for one DoGet, in the session it was made in"
                                  : "it was closed, or belongs to another login");
}

void hs_flight_handle_put(hs_flight *flight, struct hs_flight_session *session,
                          struct hs_flight_handle *handle)
{
    pthread_mutex_lock(&flight->lock);
    if (--handle->n_users == 0 && handle->is_dropped) {
        handle_free(session, handle);
    }
    pthread_mutex_unlock(&flight->lock);
}

void hs_flight_handle_drop(hs_flight *flight, struct hs_flight_session *session,
                           struct hs_flight_handle *handle)
{
    pthread_mutex_lock(&flight->lock);
    drop(session, handle);
    pthread_mutex_unlock(&flight->lock);
}

/* In: the lock is held. Whether the handle, or anything when it is NULL, ran in the session. */
static bool interrupt(struct hs_flight_session *session, const struct hs_flight_handle *handle)
{
    struct hs_flight_conn *const lists[] = {session->conns, session->transactions};
    bool has_run = false;
    for (int i = 0; i < 2; i++) {
        for (struct hs_flight_conn *conn = lists[i]; conn; conn = conn->next) {
            if (conn->is_busy && conn->sql && (!handle || conn->runs == handle)) {
                hs_sql_interrupt(conn->sql);
                has_run = true;
            }
        }
    }
    return has_run;
}

bool hs_flight_handle_cancel(hs_flight *flight, struct hs_flight_session *session,
                             const uint8_t *id, size_t len)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_handle *handle = find_handle(session, id, len);
    bool is_there = handle != NULL;
    if (is_there) {
        handle->n_cancels++; /* for those that wait for a connection */
        if (!interrupt(session, handle) && handle->kind == HS_FLIGHT_STATEMENT) {
            drop(session, handle); /* its ticket is worth nothing any more */
        }
    }
    pthread_mutex_unlock(&flight->lock);
    return is_there;
}

/* ---- sessions ---- */

static void free_conns(struct hs_flight_conn *conns)
{
    while (conns) {
        struct hs_flight_conn *next = conns->next;
        hs_flight_conn_free(conns);
        conns = next;
    }
}

/* In: no calls, unlinked. */
static void session_free(struct hs_flight_session *session)
{
    while (session->handles) {
        handle_free(session, session->handles);
    }
    free_conns(session->conns);
    free_conns(session->transactions);
    explicit_bzero(session->key, sizeof session->key);
    hs_free(session->catalog);
    hs_free(session->schema);
    hs_free(session);
}

static void session_unlink(hs_flight *flight, struct hs_flight_session *session)
{
    struct hs_flight_session **at = &flight->sessions;
    while (*at && *at != session) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = session->next;
        flight->n_sessions--;
    }
}

/* In: the lock is held. */
static struct hs_flight_session *find_connection(hs_flight *flight, uint64_t connection,
                                                 const char *user, const char *key)
{
    struct hs_flight_session *session = flight->sessions;
    while (session && (session->connection != connection || strcmp(session->key, key) != 0 ||
                       strcmp(session->user, user) != 0)) {
        session = session->next;
    }
    return session;
}

hs_status hs_flight_session_new(hs_flight *flight, const char *user, const char *key,
                                uint64_t connection, struct hs_flight_session **ret_session,
                                struct hs_error *err)
{
    struct hs_flight_session *session = hs_calloc(1, sizeof *session);
    if (!session) {
        return hs_error_nomem(err, "a session");
    }
    hs_status status = hs_flight_random_hex(session->id, 24, err);
    snprintf(session->user, sizeof session->user, "%s", user);
    snprintf(session->key, sizeof session->key, "%s", key);
    session->connection = connection;
    session->n_calls = 1;
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_session *there =
        connection ? find_connection(flight, connection, user, key) : NULL;
    if (!status && !there && flight->n_sessions >= flight->config.max_sessions) {
        hs_error_set(err, HS_LIMIT, "%d sessions are open, the most there can be",
                     flight->n_sessions);
        status = hs_error_hint(err, "close connections, or raise --flight-sessions");
    }
    if (!status && there) {
        there->n_calls++;
        *ret_session = there;
    } else if (!status) {
        session->next = flight->sessions;
        flight->sessions = session;
        flight->n_sessions++;
        *ret_session = session;
    }
    pthread_mutex_unlock(&flight->lock);
    if (status || there) {
        session_free(session);
    }
    return status;
}

struct hs_flight_session *hs_flight_session_enter(hs_flight *flight, const char *id)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_session *session = flight->sessions;
    while (session && strcmp(session->id, id) != 0) {
        session = session->next;
    }
    if (session) {
        session->n_calls++;
    }
    pthread_mutex_unlock(&flight->lock);
    return session;
}

struct hs_flight_session *hs_flight_session_enter_connection(hs_flight *flight, uint64_t connection,
                                                             const char *user, const char *key)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_session *session = find_connection(flight, connection, user, key);
    if (session) {
        session->n_calls++;
    }
    pthread_mutex_unlock(&flight->lock);
    return session;
}

void hs_flight_session_leave(hs_flight *flight, struct hs_flight_session *session)
{
    pthread_mutex_lock(&flight->lock);
    session->last_used_ms = (int64_t)hs_clock_ms();
    bool is_last = --session->n_calls == 0 && session->is_closed;
    pthread_mutex_unlock(&flight->lock);
    if (is_last) {
        session_free(session);
    }
}

/* In: the lock is held. */
static void end_session(hs_flight *flight, struct hs_flight_session *session)
{
    session->is_closed = true;
    session_unlink(flight, session);
    interrupt(session, NULL);
    if (session->n_calls == 0) {
        session->next = flight->ended;
        flight->ended = session;
        pthread_cond_signal(&flight->swept);
    }
}

void hs_flight_session_abandon(hs_flight *flight, struct hs_flight_session *session)
{
    pthread_mutex_lock(&flight->lock);
    bool is_last = --session->n_calls == 0;
    bool is_free = is_last && session->is_closed;
    if (is_last && !is_free && session->last_used_ms == 0) {
        end_session(flight, session);
    }
    pthread_mutex_unlock(&flight->lock);
    if (is_free) {
        session_free(session);
    }
}

void hs_flight_session_close(hs_flight *flight, struct hs_flight_session *session)
{
    pthread_mutex_lock(&flight->lock);
    end_session(flight, session);
    pthread_mutex_unlock(&flight->lock);
}

void hs_flight_sessions_disconnect(uint64_t connection, void *user)
{
    hs_flight *flight = user;
    pthread_mutex_lock(&flight->lock);
    for (struct hs_flight_session *i = flight->sessions, *next; i; i = next) {
        next = i->next;
        if (i->connection == connection && !i->has_cookie) {
            end_session(flight, i);
        }
    }
    pthread_mutex_unlock(&flight->lock);
}

/* ---- the sweeper ---- */

/* In: the lock is held. End the sessions that nobody used for long; how long none of the others can
 * be ended for that reason. */
static int64_t end_idle(hs_flight *flight)
{
    int64_t idle_ms = flight->config.session_idle_ms, left_ms = idle_ms;
    int64_t now = (int64_t)hs_clock_ms();
    for (struct hs_flight_session *i = flight->sessions, *next; i; i = next) {
        next = i->next;
        if (i->n_calls == 0 && now - i->last_used_ms >= idle_ms) {
            end_session(flight, i);
        } else if (i->n_calls == 0 && i->last_used_ms + idle_ms - now < left_ms) {
            left_ms = i->last_used_ms + idle_ms - now;
        }
    }
    return left_ms;
}

/* In: the lock is held; it is given up while sessions are freed. */
static void free_ended(hs_flight *flight)
{
    while (flight->ended) {
        struct hs_flight_session *session = flight->ended;
        flight->ended = session->next;
        pthread_mutex_unlock(&flight->lock);
        session_free(session);
        pthread_mutex_lock(&flight->lock);
    }
}

static void *sweep(void *user)
{
    hs_flight *flight = user;
    pthread_mutex_lock(&flight->lock);
    while (!flight->is_stopping) {
        int64_t left_ms = end_idle(flight);
        if (flight->ended) {
            free_ended(flight);
        } else {
            struct timespec moment = hs_clock_deadline(left_ms);
            pthread_cond_timedwait(&flight->swept, &flight->lock, &moment);
        }
    }
    pthread_mutex_unlock(&flight->lock);
    return NULL;
}

hs_status hs_flight_sessions_sweep(hs_flight *flight, struct hs_error *err)
{
    int code = hs_thread_start(&flight->sweeper, sweep, flight);
    flight->has_sweeper = code == 0;
    return code ? hs_error_errno(err, code, "start", "the thread that ends idle sessions") : HS_OK;
}

void hs_flight_sessions_free(hs_flight *flight)
{
    if (flight->has_sweeper) {
        pthread_mutex_lock(&flight->lock);
        flight->is_stopping = true;
        pthread_cond_signal(&flight->swept);
        pthread_mutex_unlock(&flight->lock);
        pthread_join(flight->sweeper, NULL);
    }
    pthread_mutex_lock(&flight->lock);
    while (flight->sessions) {
        end_session(flight, flight->sessions);
    }
    free_ended(flight);
    pthread_mutex_unlock(&flight->lock);
}
