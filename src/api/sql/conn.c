#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "sql_error.h"

struct hs_sql_memo {
    struct hs_sql_memo *next;
    const void *key;
    void *memo;
    void (*release)(void *memo);
};

/* ---- connecting ---- */

static void list_conn(hs_sql_conn *conn, bool is_there)
{
    hs_sql *sql = conn->sql;
    pthread_mutex_lock(&sql->mutex);
    hs_sql_conn **link = &sql->conns;
    while (*link != NULL && *link != conn) {
        link = &(*link)->next;
    }
    if (is_there) {
        *link = conn;
    } else {
        *link = conn->next;
    }
    pthread_mutex_unlock(&sql->mutex);
}

hs_status hs_sql_connect(hs_sql *sql, const char *user, hs_sql_conn **ret_conn,
                         struct hs_error *err)
{
    hs_sql_conn *conn = hs_calloc(1, sizeof *conn);
    char *name = hs_strdup(user != NULL ? user : "");
    if (conn == NULL || name == NULL || pthread_mutex_init(&conn->mutex, NULL) != 0) {
        hs_free(conn);
        hs_free(name);
        return hs_error_nomem(err, "connection");
    }
    conn->sql = sql;
    conn->user = name;
    if (duckdb_connect(sql->database, &conn->connection) != DuckDBSuccess) {
        pthread_mutex_destroy(&conn->mutex);
        hs_free(conn->user);
        hs_free(conn);
        return hs_error_set(err, HS_INTERNAL, "the SQL engine gave no connection");
    }
    duckdb_connection_get_arrow_options(conn->connection, &conn->arrow);
    duckdb_client_context context;
    duckdb_connection_get_client_context(conn->connection, &context);
    conn->id = duckdb_client_context_get_connection_id(context);
    duckdb_destroy_client_context(&context);
    list_conn(conn, true);
    hs_status status = sql->has_functions ? hs_sql_functions_connect(conn, err) : HS_OK;
    if (status) {
        hs_sql_disconnect(conn);
        return status;
    }
    *ret_conn = conn;
    return HS_OK;
}

void hs_sql_disconnect(hs_sql_conn *conn)
{
    if (conn != NULL) {
        duckdb_disconnect(&conn->connection);
        duckdb_destroy_arrow_options(&conn->arrow);
        list_conn(conn, false);
        pthread_mutex_destroy(&conn->mutex);
        hs_free(conn->user);
        hs_free(conn);
    }
}

hs_sql_conn *hs_sql_conn_find(hs_sql *sql, uint64_t id)
{
    pthread_mutex_lock(&sql->mutex);
    hs_sql_conn *conn = sql->conns;
    while (conn != NULL && conn->id != id) {
        conn = conn->next;
    }
    pthread_mutex_unlock(&sql->mutex);
    return conn;
}

const char *hs_sql_conn_user(const hs_sql_conn *conn)
{
    return conn->user;
}

/* ---- what runs ---- */

hs_status hs_sql_conn_start(hs_sql_conn *conn, struct hs_error *err)
{
    if (conn->busy != NULL) {
        hs_error_set(err, HS_BUSY, "a result of this connection is still being read");
        hs_error_hint(err, "read it to its end, or use another connection");
        return HS_BUSY;
    }
    pthread_mutex_lock(&conn->mutex);
    bool is_cancelled = conn->is_cancelled;
    conn->is_running = !is_cancelled;
    conn->is_interrupted = false;
    conn->failure.status = HS_OK;
    pthread_mutex_unlock(&conn->mutex);
    return is_cancelled ? hs_error_set(err, HS_CANCELLED, "the statement was interrupted") : HS_OK;
}

void hs_sql_conn_stop(hs_sql_conn *conn)
{
    pthread_mutex_lock(&conn->mutex);
    conn->is_running = false;
    conn->shown[0] = '\0';
    struct hs_sql_memo *memos = conn->memos;
    conn->memos = NULL;
    pthread_mutex_unlock(&conn->mutex);
    while (memos != NULL) {
        struct hs_sql_memo *next = memos->next;
        memos->release(memos->memo);
        hs_free(memos);
        memos = next;
    }
}

void hs_sql_conn_plan(hs_sql_conn *conn, bool is_planning)
{
    pthread_mutex_lock(&conn->mutex);
    conn->is_planning = is_planning;
    conn->planner = pthread_self();
    pthread_mutex_unlock(&conn->mutex);
}

bool hs_sql_conn_is_planning(const hs_sql_conn *conn)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&conn->mutex;
    pthread_mutex_lock(mutex);
    /* other threads may work on the plan already */
    bool is_planning = conn->is_planning && pthread_equal(conn->planner, pthread_self());
    pthread_mutex_unlock(mutex);
    return is_planning;
}

void hs_sql_conn_infers(hs_sql_conn *conn)
{
    conn->infers = true;
}

hs_status hs_sql_conn_run(hs_sql_conn *conn, const char *text, struct hs_error *err)
{
    duckdb_result result;
    hs_status status = HS_OK;
    if (duckdb_query(conn->connection, text, &result) != DuckDBSuccess) {
        status = hs_sql_error(conn, duckdb_result_error(&result), err);
    }
    duckdb_destroy_result(&result);
    return status;
}

/* ---- interruption ---- */

bool hs_sql_conn_is_interrupted(const hs_sql_conn *conn)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&conn->mutex;
    pthread_mutex_lock(mutex);
    bool is_interrupted = conn->is_interrupted;
    pthread_mutex_unlock(mutex);
    return is_interrupted;
}

bool hs_sql_work_begin(hs_sql_conn *conn, struct hs_sql_work *work)
{
    pthread_mutex_lock(&conn->mutex);
    bool may_run = !conn->is_interrupted;
    if (may_run) {
        work->next = conn->works;
        conn->works = work;
    }
    pthread_mutex_unlock(&conn->mutex);
    return may_run;
}

void hs_sql_work_end(hs_sql_conn *conn, struct hs_sql_work *work)
{
    pthread_mutex_lock(&conn->mutex);
    struct hs_sql_work **link = &conn->works;
    while (*link != NULL && *link != work) {
        link = &(*link)->next;
    }
    if (*link == work) {
        *link = work->next;
    }
    pthread_mutex_unlock(&conn->mutex);
}

/* In: the mutex is held. */
static void halt(hs_sql_conn *conn)
{
    if (conn->is_running && !conn->is_interrupted) {
        conn->is_interrupted = true;
        for (struct hs_sql_work *work = conn->works; work != NULL; work = work->next) {
            work->cancel(work->user);
        }
        duckdb_interrupt(conn->connection);
    }
}

void hs_sql_conn_halt(hs_sql_conn *conn)
{
    pthread_mutex_lock(&conn->mutex);
    halt(conn);
    pthread_mutex_unlock(&conn->mutex);
}

void hs_sql_interrupt(hs_sql_conn *conn)
{
    pthread_mutex_lock(&conn->mutex);
    conn->is_cancelled = conn->is_task;
    halt(conn);
    pthread_mutex_unlock(&conn->mutex);
}

static void set_task(hs_sql_conn *conn, bool is_task)
{
    pthread_mutex_lock(&conn->mutex);
    conn->is_task = is_task;
    conn->is_cancelled = false;
    pthread_mutex_unlock(&conn->mutex);
}

void hs_sql_task_begin(hs_sql_conn *conn)
{
    set_task(conn, true);
}

void hs_sql_task_end(hs_sql_conn *conn)
{
    set_task(conn, false);
}

/* ---- what functions leave with their connection ---- */

void hs_sql_conn_fail(hs_sql_conn *conn, const struct hs_error *error)
{
    pthread_mutex_lock(&conn->mutex);
    if (conn->failure.status == HS_OK) {
        conn->failure = *error;
    }
    pthread_mutex_unlock(&conn->mutex);
}

bool hs_sql_conn_failure(const hs_sql_conn *conn, struct hs_error *ret_error)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&conn->mutex;
    pthread_mutex_lock(mutex);
    bool has_failed = conn->failure.status != HS_OK;
    if (has_failed) {
        *ret_error = conn->failure;
    }
    pthread_mutex_unlock(mutex);
    return has_failed;
}

void *hs_sql_conn_memo(hs_sql_conn *conn, const void *key, void *(*make)(void *user),
                       void (*release)(void *memo), void *user)
{
    pthread_mutex_lock(&conn->mutex);
    struct hs_sql_memo *memo = conn->memos;
    while (memo != NULL && memo->key != key) {
        memo = memo->next;
    }
    if (memo == NULL) {
        memo = hs_alloc(sizeof *memo);
        void *made = memo != NULL ? make(user) : NULL;
        if (made != NULL) {
            *memo = (struct hs_sql_memo){conn->memos, key, made, release};
            conn->memos = memo;
        } else {
            hs_free(memo);
            memo = NULL;
        }
    }
    pthread_mutex_unlock(&conn->mutex);
    return memo != NULL ? memo->memo : NULL;
}
