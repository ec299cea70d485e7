#include "sql_runner.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "http_client.h"
#include "sql_local.h"
#include "sql_remote.h"
#include "sql_settings.h"

#define LOOK_MS 100

struct hs_sql_runner {
    const struct hs_command_io *io;
    hs_http_client *client; /* of a server that runs the statements; NULL: this process does */
    bool is_session;
    char *session; /* of the server; NULL: none yet */
    struct hs_sql_settings settings;
    hs_sql_local *local;
    hs_sql *sql;
    hs_sql_conn *conn;
};

/* Looks for Ctrl-C while the main thread computes. */
struct watch {
    const hs_sql_runner *runner;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_over;
};

/* ---- this process ---- */

static void *look(void *user)
{
    struct watch *watch = user;
    const struct hs_command_io *io = watch->runner->io;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_over) {
        if (io->interrupted(io->self)) {
            hs_sql_interrupt(watch->runner->conn);
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&watch->changed, &watch->mutex, &until);
    }
    pthread_mutex_unlock(&watch->mutex);
    return NULL;
}

static hs_status run_here(hs_sql_runner *runner, const struct hs_command_io *out, const char *text,
                          size_t len, enum hs_sql_format format, int64_t *ret_n_changed,
                          struct hs_error *err)
{
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    hs_status status = hs_sql_prepare(runner->conn, text, len, &stmt, err);
    if (status) {
        return status;
    }
    status = hs_sql_execute(stmt, &result, err);
    if (!status) {
        const struct hs_sql_rows rows = hs_sql_result_rows(result);
        *ret_n_changed = hs_sql_result_n_changed(result);
        status = hs_sql_print(out, &rows, format, err);
        hs_sql_result_free(result);
    }
    hs_sql_stmt_free(stmt);
    return status;
}

static hs_status run_watched(hs_sql_runner *runner, const struct hs_command_io *out,
                             const char *text, size_t len, enum hs_sql_format format,
                             int64_t *ret_n_changed, struct hs_error *err)
{
    struct watch watch = {
        .runner = runner, .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    hs_sql_task_begin(runner->conn);
    if (pthread_create(&watch.thread, NULL, look, &watch) != 0) {
        hs_sql_task_end(runner->conn);
        return hs_error_nomem(err, "thread");
    }
    hs_status status = run_here(runner, out, text, len, format, ret_n_changed, err);
    pthread_mutex_lock(&watch.mutex);
    watch.is_over = true;
    pthread_cond_signal(&watch.changed);
    pthread_mutex_unlock(&watch.mutex);
    pthread_join(watch.thread, NULL);
    hs_sql_task_end(runner->conn);
    return status;
}

static hs_status open_here(hs_sql_runner *runner, const struct hs_command_args *args,
                           struct hs_error *err)
{
    hs_status status = hs_sql_settings_fill(args->config, args->paths, &runner->settings, err);
    status = status ? status : hs_sql_local_open(args, &runner->local, err);
    if (!status) {
        runner->settings.params.host = hs_sql_local_host(runner->local);
        status = hs_sql_open(&runner->settings.params, &runner->sql, err);
    }
    return status ? status : hs_sql_connect(runner->sql, NULL, &runner->conn, err);
}

/* ---- a server ---- */

/* What is loaded, kept and read is up to the server. */
static hs_status open_remote(hs_sql_runner *runner, const struct hs_command_args *args,
                             struct hs_error *err)
{
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const char *name = hs_config_row((enum hs_config_id)id)->name;
        if (hs_command_list_has(HS_SETTINGS_SQL, name) &&
            args->config->values[id].source == HS_CONFIG_FLAG) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "--%s and --server do not go together", name);
            return hs_error_hint(err, "models, tables and files are up to the server");
        }
    }
    return hs_http_client_new(args, &runner->client, err);
}

static hs_status run_remote(hs_sql_runner *runner, const struct hs_command_io *out,
                            const char *text, size_t len, enum hs_sql_format format,
                            int64_t *ret_n_changed, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *copy = hs_strndup(text, len);
    hs_status status = copy != NULL ? HS_OK : hs_error_nomem(err, "a statement");
    if (!status && runner->is_session && runner->session == NULL) {
        status = hs_sql_remote_session_new(runner->client, &runner->session, err);
    }
    status = status ? status
                    : hs_sql_remote_run(runner->client, out, copy, runner->session, format,
                                        ret_n_changed, err);
    if (status == HS_NOT_FOUND && runner->session != NULL &&
        !hs_sql_remote_session_is_there(runner->client, runner->session)) {
        hs_free(runner->session);
        runner->session = NULL;
        hs_error_set(err, status, "the server has ended the session of these statements");
        hs_error_hint(err, "what was temporary is gone; the next statement begins a new one");
    }
    return status;
}

/* ---- both ---- */

hs_status hs_sql_runner_open(const struct hs_command_args *args, bool is_session,
                             hs_sql_runner **ret_runner, struct hs_error *err)
{
    hs_sql_runner *runner = hs_calloc(1, sizeof *runner);
    if (runner == NULL) {
        return hs_error_nomem(err, "SQL");
    }
    runner->io = args->io;
    runner->is_session = is_session;
    hs_status status = hs_config_is_set(args->config, HS_CFG_SERVER)
                           ? open_remote(runner, args, err)
                           : open_here(runner, args, err);
    if (status) {
        hs_sql_runner_close(runner);
        return status;
    }
    *ret_runner = runner;
    return HS_OK;
}

void hs_sql_runner_close(hs_sql_runner *runner)
{
    if (runner != NULL) {
        hs_sql_disconnect(runner->conn);
        hs_sql_close(runner->sql);
        hs_sql_local_close(runner->local);
        hs_sql_settings_free(&runner->settings);
        if (runner->session != NULL) {
            hs_sql_remote_session_end(runner->client, runner->session);
        }
        hs_free(runner->session);
        hs_http_client_free(runner->client);
        hs_free(runner);
    }
}

const char *hs_sql_runner_url(const hs_sql_runner *runner)
{
    return runner->client != NULL ? hs_http_client_url(runner->client) : NULL;
}

hs_status hs_sql_runner_run(hs_sql_runner *runner, const struct hs_command_io *out,
                            const char *text, size_t len, enum hs_sql_format format,
                            int64_t *ret_n_changed, struct hs_error *err)
{
    *ret_n_changed = -1;
    return runner->client != NULL ? run_remote(runner, out, text, len, format, ret_n_changed, err)
                                  : run_watched(runner, out, text, len, format, ret_n_changed, err);
}
