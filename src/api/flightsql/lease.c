/* lease.c - connections of a session, and whose call has them. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "session.h"

#define USE_MAX 4096 /* bytes of a statement with the names of catalog and schema */

/* ---- connections ---- */

static void bury(struct hs_flight_conn *conn)
{
    while (conn->doomed) {
        struct hs_flight_handle *handle = conn->doomed;
        conn->doomed = handle->next;
        hs_sql_stmt_free(handle->stmt);
        hs_free(handle);
    }
}

void hs_flight_conn_free(struct hs_flight_conn *conn)
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

static hs_status use(hs_sql_conn *sql, const struct hs_buf *text, struct hs_error *err)
{
    hs_sql_stmt *stmt = NULL;
    hs_sql_result *result = NULL;
    if (text->len == 0) {
        return HS_OK;
    }
    hs_status status = hs_sql_prepare(sql, text->data, text->len, &stmt, err);
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
    status = status ? status : use(conn->sql, &text, err);
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

static hs_status closed(struct hs_error *err)
{
    return hs_error_set(err, HS_CANCELLED, "the session has been closed");
}

/* In: the lock is held; it is given up while the connection is opened, which nobody else takes. */
static hs_status open_conn(hs_flight *flight, struct hs_flight_session *session,
                           struct hs_flight_conn *conn, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(USE_MAX);
    hs_sql_conn *sql = NULL;
    conn->is_busy = true;
    hs_status status = write_use(session, NULL, NULL, &text, err);
    pthread_mutex_unlock(&flight->lock);
    status = status ? status : hs_sql_connect(flight->config.sql, session->user, &sql, err);
    status = status ? status : use(sql, &text, err);
    if (status) {
        hs_sql_disconnect(sql);
    }
    pthread_mutex_lock(&flight->lock);
    if (status) {
        conn->is_busy = false;
        pthread_cond_broadcast(&flight->freed);
        return status;
    }
    conn->sql = sql;
    return HS_OK;
}

/* At the end of a list, so that the first one stays the first. NULL: no memory. */
static struct hs_flight_conn *add_conn(struct hs_flight_conn **list)
{
    struct hs_flight_conn **at = list;
    while (*at) {
        at = &(*at)->next;
    }
    *at = hs_calloc(1, sizeof **at);
    return *at;
}

static void remove_conn(struct hs_flight_conn **list, struct hs_flight_conn *conn)
{
    while (*list != conn) {
        list = &(*list)->next;
    }
    *list = conn->next;
    hs_free(conn);
}

/* In: the lock is held, and given up meanwhile. */
static hs_status new_conn(hs_flight *flight, struct hs_flight_session *session,
                          struct hs_flight_conn **ret_conn, struct hs_error *err)
{
    struct hs_flight_conn *conn = add_conn(&session->conns);
    hs_status status =
        conn ? open_conn(flight, session, conn, err) : hs_error_nomem(err, "a connection");
    if (status && conn) {
        remove_conn(&session->conns, conn);
    }
    if (!status) {
        *ret_conn = conn;
    }
    return status;
}

/* ---- leases ---- */

/* What is asked for. */
struct wish {
    struct hs_flight_conn *conn;     /* NULL: any */
    uint64_t transaction;            /* that of conn; 0: none */
    struct hs_flight_handle *handle; /* whose statement will run; NULL: none is noted */
    uint64_t n_cancels;              /* of the handle, that do not count */
};

static void interrupt(void *user)
{
    hs_sql_interrupt(user);
}

/* In: the lock is held. From here on an interruption is not forgotten. */
static void begin_lease(hs_flight *flight, struct hs_flight_conn *conn,
                        struct hs_flight_handle *handle, hs_grpc_call *call,
                        struct hs_flight_lease *ret_lease)
{
    conn->is_busy = true;
    conn->runs = handle;
    hs_sql_task_begin(conn->sql);
    *ret_lease = (struct hs_flight_lease){.flight = flight, .call = call, .conn = conn};
}

static struct hs_flight_conn *idle_conn(struct hs_flight_session *session, int *ret_n)
{
    struct hs_flight_conn *idle = NULL;
    *ret_n = 0;
    for (struct hs_flight_conn *conn = session->conns; conn; conn = conn->next) {
        ++*ret_n;
        if (!idle && !conn->is_busy) {
            idle = conn;
        }
    }
    return idle;
}

/* In: the lock is held. Out: a connection, or NULL with HS_OK: wait. */
static hs_status pick(hs_flight *flight, struct hs_flight_session *session, const struct wish *wish,
                      struct hs_flight_conn **ret_conn, struct hs_error *err)
{
    int n = 0;
    struct hs_flight_conn *idle = idle_conn(session, &n);
    *ret_conn = NULL;
    if (session->is_closed) {
        return closed(err);
    }
    if (wish->handle && wish->handle->n_cancels != wish->n_cancels) {
        return hs_error_set(err, HS_CANCELLED, "the statement was cancelled");
    }
    if (wish->conn && wish->conn->transaction != wish->transaction) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the statement's transaction has ended");
    }
    if (wish->conn || (session->is_sticky && session->conns)) {
        struct hs_flight_conn *conn = wish->conn ? wish->conn : session->conns;
        *ret_conn = conn->is_busy ? NULL : conn;
        return HS_OK;
    }
    if (idle || n >= HS_FLIGHT_CONNS_MAX) {
        *ret_conn = idle;
        return HS_OK;
    }
    return new_conn(flight, session, ret_conn, err);
}

static hs_status lease(hs_flight *flight, struct hs_flight_session *session,
                       const struct wish *wish, hs_grpc_call *call,
                       struct hs_flight_lease *ret_lease, struct hs_error *err)
{
    int64_t until = (int64_t)hs_clock_ms() + HS_FLIGHT_WAIT_MS;
    struct hs_flight_conn *found = NULL;
    pthread_mutex_lock(&flight->lock);
    hs_status status = pick(flight, session, wish, &found, err);
    while (!status && !found) {
        struct timespec moment = hs_clock_deadline(100);
        pthread_cond_timedwait(&flight->freed, &flight->lock, &moment);
        if (hs_grpc_call_is_over(call)) {
            status = hs_error_set(err, HS_CANCELLED, "the call is over");
        } else if ((int64_t)hs_clock_ms() >= until) {
            hs_error_set(err, HS_BUSY, "this session's connection still sends another result");
            status = hs_error_hint(err, "read that one to its end, or cancel it");
        } else {
            status = pick(flight, session, wish, &found, err);
        }
    }
    if (!status) {
        begin_lease(flight, found, wish->handle, call, ret_lease);
        if (session->is_closed) { /* while the connection was opened */
            hs_sql_interrupt(found->sql);
        }
    }
    pthread_mutex_unlock(&flight->lock);
    if (!status) {
        hs_grpc_call_on_over(call, interrupt, found->sql);
    }
    return status;
}

hs_status hs_flight_lease(hs_flight *flight, struct hs_flight_session *session,
                          const struct hs_flight_handle *transaction, hs_grpc_call *call,
                          struct hs_flight_lease *ret_lease, struct hs_error *err)
{
    struct wish wish = {0};
    if (transaction) {
        wish.conn = transaction->conn;
        wish.transaction = transaction->transaction;
    }
    return lease(flight, session, &wish, call, ret_lease, err);
}

hs_status hs_flight_lease_handle(hs_flight *flight, struct hs_flight_session *session,
                                 struct hs_flight_handle *handle, hs_grpc_call *call,
                                 struct hs_flight_lease *ret_lease, hs_sql_stmt **ret_stmt,
                                 hs_sql_stmt **ret_own, struct hs_error *err)
{
    struct wish wish = {.handle = handle};
    pthread_mutex_lock(&flight->lock);
    /* a text of several statements cannot be prepared twice: that runs all but the last */
    if (handle->transaction || session->is_sticky || strchr(handle->text, ';') ||
        !handle->conn->is_busy) {
        wish.conn = handle->conn;
        wish.transaction = handle->transaction;
    }
    /* a ticket is cancelled for good, a prepared statement may run again */
    wish.n_cancels = handle->kind == HS_FLIGHT_STATEMENT ? 0 : handle->n_cancels;
    pthread_mutex_unlock(&flight->lock);
    *ret_own = NULL;
    hs_status status = lease(flight, session, &wish, call, ret_lease, err);
    if (!status && ret_lease->conn != handle->conn) {
        status =
            hs_sql_prepare(ret_lease->conn->sql, handle->text, strlen(handle->text), ret_own, err);
        if (status) {
            hs_flight_lease_end(ret_lease);
        }
    }
    if (!status) {
        *ret_stmt = *ret_own ? *ret_own : handle->stmt;
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
    hs_sql_task_end(lease->conn->sql);
    lease->conn->is_busy = false;
    lease->conn->runs = NULL;
    pthread_cond_broadcast(&flight->freed);
    pthread_mutex_unlock(&flight->lock);
    lease->conn = NULL;
}

/* ---- transactions ---- */

hs_status hs_flight_lease_new(hs_flight *flight, struct hs_flight_session *session,
                              hs_grpc_call *call, struct hs_flight_lease *ret_lease,
                              struct hs_error *err)
{
    pthread_mutex_lock(&flight->lock);
    struct hs_flight_conn *conn = session->transactions;
    while (conn && (conn->is_busy || conn->sql)) {
        conn = conn->next;
    }
    conn = conn ? conn : add_conn(&session->transactions);
    hs_status status =
        conn ? open_conn(flight, session, conn, err) : hs_error_nomem(err, "a connection");
    if (!status) {
        conn->transaction = ++flight->n_transactions;
        begin_lease(flight, conn, NULL, call, ret_lease);
        if (session->is_closed) {
            hs_sql_interrupt(conn->sql);
        }
    }
    pthread_mutex_unlock(&flight->lock);
    if (!status) {
        hs_grpc_call_on_over(call, interrupt, conn->sql);
    }
    return status;
}

void hs_flight_lease_close(struct hs_flight_session *session, struct hs_flight_lease *lease)
{
    hs_flight *flight = lease->flight;
    struct hs_flight_conn *conn = lease->conn;
    hs_grpc_call_on_over(lease->call, NULL, NULL);
    pthread_mutex_lock(&flight->lock);
    bury(conn);
    for (struct hs_flight_handle *handle = session->handles; handle; handle = handle->next) {
        if (handle->conn == conn) {
            hs_sql_stmt_free(handle->stmt);
            handle->stmt = NULL;
        }
    }
    hs_sql_conn *sql = conn->sql;
    conn->sql = NULL;
    conn->transaction = 0;
    pthread_mutex_unlock(&flight->lock);
    hs_sql_disconnect(sql);
    pthread_mutex_lock(&flight->lock);
    conn->is_busy = false;
    pthread_cond_broadcast(&flight->freed);
    pthread_mutex_unlock(&flight->lock);
    lease->conn = NULL;
}
