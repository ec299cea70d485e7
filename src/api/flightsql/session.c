#include "session.h"

#include <nanoarrow/nanoarrow.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define USE_MAX 4096 /* bytes of a statement with the names of catalog and schema */

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

/* ---- connections ---- */

static void bury(struct hs_flight_conn *conn)
{
    while (conn->n_doomed > 0) {
        hs_sql_stmt_free(conn->doomed[--conn->n_doomed]);
    }
}

static void conn_free(struct hs_flight_conn *conn)
{
    bury(conn);
    hs_sql_disconnect(conn->sql);
    hs_free(conn);
}

/* The statement that makes a connection have the session's catalog and schema, `value` being that
 * of `option`; empty when there are none. In: the lock is held. */
static hs_status write_use(const struct hs_flight_session *session, char *const *option,
                           const char *value, struct hs_buf *text, struct hs_error *err)
{
    char *const *const options[] = {&session->catalog, &session->schema};
    hs_status status = HS_OK;
    for (int i = 0; i < 2 && !status; i++) {
        const char *name = options[i] == option ? value : *options[i];
        if (name) {
            status = hs_buf_append_str(text, text->len ? ".\"" : "USE \"");
            for (const char *c = name; *c && !status; c++) {
                status = hs_buf_append(text, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1);
            }
            status = status ? status : hs_buf_append_str(text, "\"");
        }
    }
    return status ? hs_error_set(err, status, "no room for the names of catalog and schema")
                  : HS_OK;
}

static hs_status use(struct hs_flight_conn *conn, const struct hs_buf *text, struct hs_error *err)
{
    hs_sql_stmt *stmt = NULL;
    hs_sql_result *result = NULL;
    if (text->len == 0) {
        return HS_OK;
    }
    hs_status status = hs_sql_prepare(conn->sql, text->data, text->len, &stmt, err);
    status = status ? status : hs_sql_execute(stmt, &result, err);
    hs_sql_result_free(result);
    hs_sql_stmt_free(stmt);
    return status;
}

hs_status hs_flight_session_set(hs_flight *flight, struct hs_flight_session *session,
                                struct hs_flight_conn *conn, char **option, const char *value,
                                struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(USE_MAX);
    char *copy = hs_strdup(value);
    if (!copy) {
        return hs_error_nomem(err, "an option");
    }
    pthread_mutex_lock(&flight->lock);
    hs_status status = write_use(session, option, value, &text, err);
    pthread_mutex_unlock(&flight->lock);
    status = status ? status : use(conn, &text, err);
    char *unused = copy;
    if (!status) {
        pthread_mutex_lock(&flight->lock);
        unused = *option;
        *option = copy;
        pthread_mutex_unlock(&flight->lock);
    }
    hs_free(unused);
    return status;
}

/* In: the lock is held; it is given up while the connection is opened. */
static hs_status conn_new(hs_flight *flight, struct hs_flight_session *session,
                          struct hs_flight_conn **ret_conn, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(USE_MAX);
    struct hs_flight_conn *conn = hs_calloc(1, sizeof *conn);
    if (!conn) {
        return hs_error_nomem(err, "a connection");
    }
    conn->is_busy = true;
    hs_status status = write_use(session, NULL, NULL, &text, err);
    pthread_mutex_unlock(&flight->lock);
    status = status ? status : hs_sql_connect(flight->config.sql, session->user, &conn->sql, err);
    status = status ? status : use(conn, &text, err);
    pthread_mutex_lock(&flight->lock);
    if (status) {
        hs_sql_disconnect(conn->sql);
        hs_free(conn);
        return status;
    }
    *ret_conn = conn;
    return HS_OK;
}

static void conn_add(struct hs_flight_session *session, struct hs_flight_conn *conn)
{
    struct hs_flight_conn **at = &session->conns;
    while (*at) {
        at = &(*at)->next;
    }
    *at = conn;
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
static void handle_free(struct hs_flight_handle *handle)
{
    struct hs_flight_conn *conn = handle->conn;
    if (handle->stmt && conn->is_busy &&
        conn->n_doomed < sizeof conn->doomed / sizeof *conn->doomed) {
        conn->doomed[conn->n_doomed++] = handle->stmt;
    } else if (handle->stmt) {
        hs_sql_stmt_free(handle->stmt);
    }
    hs_flight_values_put(handle->values);
    hs_free(handle->text);
    hs_free(handle);
}

static void handle_unlink(struct hs_flight_session *session, struct hs_flight_handle *handle)
{
    struct hs_flight_handle **at = &session->handles;
    while (*at && *at != handle) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = handle->next;
        session->n_handles--;
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
        status = hs_error_hint(err, "close some, or read the results that were asked for");
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
    while (handle && memcmp(handle->id, id, len) != 0) {
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
    (void)session;
    pthread_mutex_lock(&flight->lock);
    if (--handle->n_users == 0 && handle->is_dropped) {
        handle_free(handle);
    }
    pthread_mutex_unlock(&flight->lock);
}

void hs_flight_handle_drop(hs_flight *flight, struct hs_flight_session *session,
                           struct hs_flight_handle *handle)
{
    pthread_mutex_lock(&flight->lock);
    if (!handle->is_dropped) {
        handle->is_dropped = true;
        handle_unlink(session, handle);
    }
    pthread_mutex_unlock(&flight->lock);
}

bool hs_flight_handle_cancel(hs_flight *flight, struct hs_flight_session *session,
                             const uint8_t *id, size_t len)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_handle *handle = find_handle(session, id, len);
    if (handle && handle->running) {
        hs_sql_interrupt(handle->running->sql);
    } else if (handle && handle->kind == HS_FLIGHT_STATEMENT) {
        handle->is_dropped = true; /* its ticket is worth nothing any more */
        handle_unlink(session, handle);
        if (handle->n_users == 0) {
            handle_free(handle);
        }
    }
    pthread_mutex_unlock(&flight->lock);
    return handle != NULL;
}

/* ---- sessions ---- */

/* In: no calls, unlinked. */
static void session_free(struct hs_flight_session *session)
{
    while (session->handles) {
        struct hs_flight_handle *handle = session->handles;
        handle_unlink(session, handle);
        handle_free(handle);
    }
    while (session->conns) {
        struct hs_flight_conn *conn = session->conns;
        session->conns = conn->next;
        conn_free(conn);
    }
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
    if (!status && flight->n_sessions >= flight->config.max_sessions) {
        hs_error_set(err, HS_LIMIT, "%d sessions are open, the most there can be",
                     flight->n_sessions);
        status = hs_error_hint(err, "close connections, or raise --flight-sessions");
    }
    if (!status) {
        session->next = flight->sessions;
        flight->sessions = session;
        flight->n_sessions++;
        *ret_session = session;
    }
    pthread_mutex_unlock(&flight->lock);
    if (status) {
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
                                                             const char *key)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_session *session = flight->sessions;
    while (session && (session->connection != connection || strcmp(session->key, key) != 0)) {
        session = session->next;
    }
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
    for (struct hs_flight_conn *conn = session->conns; conn; conn = conn->next) {
        if (conn->is_busy) {
            hs_sql_interrupt(conn->sql);
        }
    }
    if (session->n_calls == 0) {
        session->next = flight->ended;
        flight->ended = session;
        pthread_cond_signal(&flight->swept);
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
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
    int code = pthread_create(&flight->sweeper, NULL, sweep, flight);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
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

/* ---- leases ---- */

static void interrupt(void *user)
{
    hs_sql_interrupt(user);
}

static void begin_lease(hs_flight *flight, struct hs_flight_conn *conn, hs_grpc_call *call,
                        struct hs_flight_lease *ret_lease)
{
    conn->is_busy = true;
    *ret_lease = (struct hs_flight_lease){.flight = flight, .call = call, .conn = conn};
}

static struct hs_flight_conn *idle_conn(struct hs_flight_session *session, int *ret_n)
{
    struct hs_flight_conn *idle = NULL;
    *ret_n = 0;
    for (struct hs_flight_conn *conn = session->conns; conn; conn = conn->next) {
        *ret_n += !conn->transaction;
        if (!idle && !conn->is_busy && !conn->transaction) {
            idle = conn;
        }
    }
    return idle;
}

/* In: the lock is held. Out: a connection, or NULL with HS_OK: wait. */
static hs_status pick(hs_flight *flight, struct hs_flight_session *session,
                      struct hs_flight_conn *wanted, struct hs_flight_conn **ret_conn,
                      struct hs_error *err)
{
    int n = 0;
    struct hs_flight_conn *idle = idle_conn(session, &n);
    *ret_conn = NULL;
    if (wanted || (session->is_sticky && session->conns)) {
        struct hs_flight_conn *conn = wanted ? wanted : session->conns;
        *ret_conn = conn->is_busy ? NULL : conn;
        return HS_OK;
    }
    if (idle || n >= HS_FLIGHT_CONNS_MAX) {
        *ret_conn = idle;
        return HS_OK;
    }
    hs_status status = conn_new(flight, session, ret_conn, err);
    if (!status) {
        conn_add(session, *ret_conn);
    }
    return status;
}

hs_status hs_flight_lease(hs_flight *flight, struct hs_flight_session *session,
                          struct hs_flight_conn *conn, hs_grpc_call *call,
                          struct hs_flight_lease *ret_lease, struct hs_error *err)
{
    int64_t until = (int64_t)hs_clock_ms() + HS_FLIGHT_WAIT_MS;
    struct hs_flight_conn *found = NULL;
    pthread_mutex_lock(&flight->lock);
    hs_status status = pick(flight, session, conn, &found, err);
    while (!status && !found) {
        struct timespec moment = hs_clock_deadline(100);
        pthread_cond_timedwait(&flight->freed, &flight->lock, &moment);
        if (hs_grpc_call_is_over(call)) {
            status = hs_error_set(err, HS_CANCELLED, "the call is over");
        } else if ((int64_t)hs_clock_ms() >= until) {
            hs_error_set(err, HS_BUSY, "this session's connection still sends another result");
            status = hs_error_hint(err, "read that one to its end, or cancel it");
        } else {
            status = pick(flight, session, conn, &found, err);
        }
    }
    if (!status) {
        begin_lease(flight, found, call, ret_lease);
    }
    pthread_mutex_unlock(&flight->lock);
    if (!status) {
        hs_grpc_call_on_over(call, interrupt, found->sql);
    }
    return status;
}

/* One for a transaction: its connection is used again afterwards. */
static struct hs_flight_conn *spare_conn(const struct hs_flight_session *session)
{
    struct hs_flight_conn *conn = session->conns ? session->conns->next : NULL;
    while (conn && (conn->is_busy || conn->transaction)) {
        conn = conn->next;
    }
    return conn;
}

hs_status hs_flight_lease_new(hs_flight *flight, struct hs_flight_session *session,
                              hs_grpc_call *call, struct hs_flight_lease *ret_lease,
                              struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(USE_MAX);
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_conn *conn = spare_conn(session);
    hs_status status = conn ? write_use(session, NULL, NULL, &text, err) : HS_OK;
    while (!status && (!conn || conn == session->conns)) { /* the first stays the main one */
        status = conn_new(flight, session, &conn, err);
        if (!status) {
            conn_add(session, conn);
            conn->is_busy = conn != session->conns;
        }
    }
    if (!status) {
        begin_lease(flight, conn, call, ret_lease);
    }
    pthread_mutex_unlock(&flight->lock);
    if (!status) {
        hs_grpc_call_on_over(call, interrupt, conn->sql);
        status = use(conn, &text, err);
        if (status) {
            hs_flight_lease_end(ret_lease);
        }
    }
    return status;
}

hs_status hs_flight_lease_handle(hs_flight *flight, struct hs_flight_session *session,
                                 struct hs_flight_handle *handle, hs_grpc_call *call,
                                 struct hs_flight_lease *ret_lease, hs_sql_stmt **ret_stmt,
                                 hs_sql_stmt **ret_own, struct hs_error *err)
{
    pthread_mutex_lock(&flight->lock);
    bool is_here = handle->conn->transaction == handle->transaction;
    /* a text of several statements cannot be prepared twice: that runs all but the last */
    bool is_bound = is_here && (handle->transaction || session->is_sticky ||
                                strchr(handle->text, ';') || !handle->conn->is_busy);
    pthread_mutex_unlock(&flight->lock);
    if (handle->transaction && !is_here) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the statement's transaction has ended");
    }
    struct hs_flight_conn *wanted = is_bound ? handle->conn : NULL;
    *ret_own = NULL;
    hs_status status = hs_flight_lease(flight, session, wanted, call, ret_lease, err);
    if (!status && ret_lease->conn != handle->conn) {
        status =
            hs_sql_prepare(ret_lease->conn->sql, handle->text, strlen(handle->text), ret_own, err);
        if (status) {
            hs_flight_lease_end(ret_lease);
        }
    }
    if (!status) {
        *ret_stmt = *ret_own ? *ret_own : handle->stmt;
        pthread_mutex_lock(&flight->lock);
        handle->running = ret_lease->conn;
        ret_lease->handle = handle;
        pthread_mutex_unlock(&flight->lock);
    }
    return status;
}

void hs_flight_lease_end(struct hs_flight_lease *lease)
{
    hs_flight *flight = lease->flight;
    if (!lease->conn) {
        return;
    }
    hs_grpc_call_on_over(lease->call, NULL, NULL);
    pthread_mutex_lock(&flight->lock);
    bury(lease->conn);
    lease->conn->is_busy = false;
    if (lease->handle) {
        lease->handle->running = NULL;
    }
    pthread_cond_broadcast(&flight->freed);
    pthread_mutex_unlock(&flight->lock);
    lease->conn = NULL;
}
