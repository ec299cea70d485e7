#include "sql_job.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "rest.h"
#include "sql.h"
#include "sql_bind.h"

#define AHEAD_MAX (256u << 10) /* bytes of an answer that the client has not taken */
#define ERROR_MAX 65536

struct job {
    hs_sql_service *service;
    char *text, *user;
    char *session; /* NULL: none */
    char owner[HS_SQL_OWNER_MAX];
    json_t *values;
    enum hs_sql_format format;
    pthread_mutex_t mutex;  /* of what follows */
    pthread_cond_t changed; /* there is room in `out`, or the client is gone */
    int n_owners;
    hs_http_request *request; /* NULL: it has ended */
    hs_sql_conn *conn;        /* while there is one */
    bool is_gone;             /* nobody waits for the answer */
    bool is_over;             /* the thread adds no more; `error` says how it ended */
    struct hs_error error;
    int64_t n_changed;
    bool has_output;
    struct hs_buf out;
};

static void job_leave(struct job *job)
{
    pthread_mutex_lock(&job->mutex);
    bool is_last = --job->n_owners == 0;
    pthread_mutex_unlock(&job->mutex);
    if (is_last) {
        json_decref(job->values);
        hs_free(job->text);
        hs_free(job->user);
        hs_free(job->session);
        hs_buf_free(&job->out);
        pthread_cond_destroy(&job->changed);
        pthread_mutex_destroy(&job->mutex);
        hs_free(job);
    }
}

/* NULL: no memory. */
static struct job *job_new(hs_sql_service *service, const struct hs_rest_sql_ask *ask)
{
    struct job *job = hs_calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    pthread_mutex_init(&job->mutex, NULL);
    pthread_cond_init(&job->changed, NULL);
    job->service = service;
    job->format = ask->format;
    job->n_owners = 1;
    job->n_changed = -1;
    job->out = (struct hs_buf)HS_BUF_INIT(AHEAD_MAX);
    job->text = hs_strdup(ask->text);
    job->user = hs_strdup(ask->user);
    job->session = hs_strdup(ask->session);
    snprintf(job->owner, sizeof job->owner, "%s", ask->owner);
    job->values = json_deep_copy(ask->values);
    if (job->text == NULL || job->user == NULL || (ask->session != NULL && job->session == NULL) ||
        (ask->values != NULL && job->values == NULL)) {
        job_leave(job);
        return NULL;
    }
    return job;
}

/* ---- the thread ---- */

static hs_status write_out(void *self, const char *text, size_t len, struct hs_error *err)
{
    struct job *job = self;
    hs_status status = HS_OK;
    pthread_mutex_lock(&job->mutex);
    while (len > 0 && !status) {
        while (job->out.len == AHEAD_MAX && !job->is_gone) {
            pthread_cond_wait(&job->changed, &job->mutex);
        }
        size_t room = AHEAD_MAX - job->out.len, n = len < room ? len : room;
        if (job->is_gone) {
            status = hs_error_set(err, HS_CANCELLED, "the client is gone");
        } else if (hs_buf_append(&job->out, text, n) != HS_OK) {
            status = hs_error_nomem(err, "rows");
        } else {
            text += n;
            len -= n;
            job->has_output = true;
            hs_http_wake(job->request);
        }
    }
    pthread_mutex_unlock(&job->mutex);
    return status;
}

static hs_status run_statement(struct job *job, hs_sql_conn *conn, struct hs_error *err)
{
    const struct hs_command_io io = {.self = job, .out = write_out};
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    hs_status status = hs_sql_prepare(conn, job->text, strlen(job->text), &stmt, err);
    if (status != HS_OK) {
        return status;
    }
    if (job->values != NULL || hs_sql_stmt_n_params(stmt) > 0) {
        status = hs_rest_sql_bind(stmt, job->values, err);
    }
    status = status != HS_OK ? status : hs_sql_execute(stmt, &result, err);
    if (status == HS_OK) {
        pthread_mutex_lock(&job->mutex);
        job->n_changed = hs_sql_result_n_changed(result);
        pthread_mutex_unlock(&job->mutex);
        const struct hs_sql_rows rows = hs_sql_result_rows(result);
        status = hs_sql_write(&io, &rows, job->format, err);
        hs_sql_result_free(result);
    }
    hs_sql_stmt_free(stmt);
    return status;
}

/* The connection as on_gone may interrupt it. */
static void set_conn(struct job *job, hs_sql_conn *conn)
{
    pthread_mutex_lock(&job->mutex);
    job->conn = conn;
    if (conn != NULL && job->is_gone) {
        hs_sql_interrupt(conn);
    }
    pthread_mutex_unlock(&job->mutex);
}

static hs_status run_on(struct job *job, hs_sql_conn *conn, struct hs_error *err)
{
    set_conn(job, conn);
    hs_status status = run_statement(job, conn, err);
    set_conn(job, NULL);
    return status;
}

static hs_status run_in_session(struct job *job, hs_sql *sql, struct hs_error *err)
{
    hs_sql_sessions *sessions = hs_sql_service_sessions(job->service);
    hs_sql_session *session;
    hs_sql_conn *conn;
    hs_status status =
        hs_sql_session_enter(sessions, sql, job->owner, job->session, &session, &conn, err);
    if (status == HS_OK) {
        status = run_on(job, conn, err);
        hs_sql_session_leave(sessions, session);
    }
    return status;
}

static hs_status run(struct job *job, struct hs_error *err)
{
    hs_sql *sql;
    hs_sql_conn *conn;
    hs_status status = hs_sql_service_open(job->service, &sql, err);
    if (status != HS_OK || job->session != NULL) {
        return status != HS_OK ? status : run_in_session(job, sql, err);
    }
    status = hs_sql_connect(sql, job->user, &conn, err);
    if (status == HS_OK) {
        hs_sql_task_begin(conn);
        status = run_on(job, conn, err);
        hs_sql_disconnect(conn);
    }
    return status;
}

static void end(struct job *job, const struct hs_error *error)
{
    pthread_mutex_lock(&job->mutex);
    job->is_over = true;
    job->error = *error;
    if (job->request != NULL) {
        hs_http_wake(job->request);
    }
    pthread_mutex_unlock(&job->mutex);
    hs_sql_service_leave(job->service);
    job_leave(job);
}

static void *thread_main(void *user)
{
    struct hs_error error;
    hs_error_clear(&error);
    error.status = run(user, &error);
    end(user, &error);
    return NULL;
}

/* ---- the request ---- */

static void on_gone(hs_http_request *request, void *data, enum hs_http_gone why)
{
    struct job *job = data;
    (void)request;
    (void)why;
    pthread_mutex_lock(&job->mutex);
    job->is_gone = true;
    if (job->conn != NULL) {
        hs_sql_interrupt(job->conn);
    }
    pthread_cond_signal(&job->changed);
    pthread_mutex_unlock(&job->mutex);
}

static void on_end(void *data)
{
    struct job *job = data;
    pthread_mutex_lock(&job->mutex);
    job->request = NULL;
    job->is_gone = true;
    pthread_cond_signal(&job->changed);
    pthread_mutex_unlock(&job->mutex);
    job_leave(job);
}

static const char *content_type(enum hs_sql_format format)
{
    switch (format) {
    case HS_SQL_FORMAT_CSV:
        return "text/csv; charset=utf-8; header=present";
    case HS_SQL_FORMAT_ARROW:
        return "application/vnd.apache.arrow.stream";
    default:
        return "application/json";
    }
}

/* How a stream ends that has no rows left. */
static enum hs_http_pull finish(hs_http_request *request, const struct job *job, struct hs_buf *out,
                                struct hs_error *err)
{
    if (job->error.status == HS_OK) {
        return HS_HTTP_END;
    }
    const struct hs_http_error error = {.status = 500, .message = job->error.message};
    if (job->format == HS_SQL_FORMAT_ARROW &&
        hs_http_error_write(HS_HTTP_ERRORS_OPENAI, &error, hs_http_request_id(request), out) ==
            HS_OK) {
        return HS_HTTP_END;
    }
    *err = job->error;
    return HS_HTTP_FAIL;
}

static enum hs_http_pull pull(hs_http_request *request, void *data, struct hs_buf *out,
                              struct hs_error *err)
{
    struct job *job = data;
    enum hs_http_pull result = HS_HTTP_NOT_YET;
    pthread_mutex_lock(&job->mutex);
    if (job->out.len > 0) {
        result = HS_HTTP_MORE;
        if (hs_buf_append(out, job->out.data, job->out.len) != HS_OK) {
            hs_error_nomem(err, "rows");
            result = HS_HTTP_FAIL;
        }
        hs_buf_clear(&job->out);
        pthread_cond_signal(&job->changed);
    } else if (job->is_over) {
        result = finish(request, job, out, err);
    }
    pthread_mutex_unlock(&job->mutex);
    return result;
}

/* An answer begins with its first bytes, or its end. */
static void step(hs_http_request *request, void *user)
{
    (void)user;
    struct job *job = hs_http_request_data(request);
    char number[32];
    pthread_mutex_lock(&job->mutex);
    bool is_over = job->is_over, has_output = job->has_output;
    const struct hs_error error = job->error;
    snprintf(number, sizeof number, "%lld", (long long)job->n_changed);
    bool has_changed = job->n_changed >= 0;
    pthread_mutex_unlock(&job->mutex);
    if (is_over && error.status != HS_OK) {
        hs_rest_respond_failure(request, &error, NULL);
        return;
    }
    if (!is_over && !has_output) {
        hs_http_wait(request, step);
        return;
    }
    if (has_changed) {
        hs_http_set_header(request, HS_REST_SQL_CHANGED, number);
    }
    bool is_lines = job->format == HS_SQL_FORMAT_NDJSON;
    hs_http_stream_start(request, 200,
                         &(struct hs_http_stream){.kind = is_lines ? HS_HTTP_NDJSON : HS_HTTP_RAW,
                                                  .content_type = content_type(job->format),
                                                  .pull = pull});
}

void hs_rest_sql_job_start(hs_http_request *request, hs_sql_service *service,
                           const struct hs_rest_sql_ask *ask)
{
    static const struct hs_http_hooks hooks = {on_gone, on_end};
    pthread_t thread;
    struct hs_error err;
    hs_status status = hs_sql_service_enter(service, &err);
    struct job *job = status != HS_OK ? NULL : job_new(service, ask);
    if (job == NULL) {
        if (status == HS_OK) {
            hs_sql_service_leave(service);
            hs_error_nomem(&err, "a statement");
        }
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    job->request = request;
    job->n_owners = 2;
    hs_http_attach(request, &hooks, job);
    if (pthread_create(&thread, NULL, thread_main, job) == 0) {
        pthread_detach(thread);
    } else {
        hs_error_nomem(&err, "a thread");
        end(job, &err);
    }
    hs_http_wait(request, step);
}
