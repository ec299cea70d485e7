/* cmd_sql.c - `hyprstream sql`: statements in this process, or by a server. */
#include "api/command.h"

#include "base/error.h"

#ifdef HS_HAVE_SQL

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "api/output.h"
#include "base/fs.h"
#include "base/mem.h"
#include "prompt.h"
#include "sql_local.h"
#include "sql_print.h"
#include "sql_remote.h"
#include "sql_settings.h"

#define LOOK_MS 100

/* Looks for Ctrl-C while the main thread computes. */
struct watch {
    const struct hs_command_io *io;
    hs_sql_conn *conn;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_over;
};

struct command {
    hs_http_client *client; /* of a server that runs the statements; NULL: this process does */
    struct hs_sql_settings settings;
    hs_sql_local *local;
    hs_sql *sql;
    hs_sql_conn *conn;
};

static void command_clear(struct command *cmd)
{
    hs_sql_disconnect(cmd->conn);
    hs_sql_close(cmd->sql);
    hs_sql_local_close(cmd->local);
    hs_sql_settings_free(&cmd->settings);
    hs_http_client_free(cmd->client);
}

static void *look(void *user)
{
    struct watch *watch = user;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_over) {
        if (watch->io->interrupted(watch->io->self)) {
            hs_sql_interrupt(watch->conn);
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

static hs_status read_format(const struct hs_command_args *args, enum hs_sql_format *ret_format,
                             struct hs_error *err)
{
    const char *name = args->options[HS_OPT_FORMAT];
    *ret_format =
        hs_config_bool(args->config, HS_CFG_JSON) ? HS_SQL_FORMAT_JSON : HS_SQL_FORMAT_TABLE;
    if (name != NULL && !hs_sql_format_find(name, ret_format)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "there is no format %s", name);
        hs_error_hint(err, "the formats are table, csv, json, ndjson and arrow");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

/* The statements, for hs_free. */
static hs_status read_text(const struct hs_command_args *args, char **ret_text,
                           struct hs_error *err)
{
    const char *file = args->options[HS_OPT_FILE];
    if (file == NULL) {
        return hs_prompt_read(args, ret_text, err);
    }
    if (args->n_args > 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a statement and --file were given: it is one or the other");
    }
    struct hs_buf text = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    hs_status status = hs_fs_read(file, &text, err);
    if (!status && hs_buf_take(&text, ret_text, NULL) != HS_OK) {
        status = hs_error_nomem(err, "statements");
    }
    hs_buf_free(&text);
    return status;
}

static hs_status run_here(struct command *cmd, const struct hs_command_io *io, const char *text,
                          enum hs_sql_format format, int64_t *ret_n_changed, struct hs_error *err)
{
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    hs_status status = hs_sql_prepare(cmd->conn, text, strlen(text), &stmt, err);
    if (status) {
        return status;
    }
    status = hs_sql_execute(stmt, &result, err);
    if (!status) {
        const struct hs_sql_rows rows = hs_sql_result_rows(result);
        *ret_n_changed = hs_sql_result_n_changed(result);
        status = hs_sql_print(io, &rows, format, err);
        hs_sql_result_free(result);
    }
    hs_sql_stmt_free(stmt);
    return status;
}

static hs_status run_watched(struct command *cmd, const struct hs_command_io *io, const char *text,
                             enum hs_sql_format format, int64_t *ret_n_changed,
                             struct hs_error *err)
{
    struct watch watch = {.io = io,
                          .conn = cmd->conn,
                          .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER};
    if (pthread_create(&watch.thread, NULL, look, &watch) != 0) {
        return hs_error_nomem(err, "thread");
    }
    hs_status status = run_here(cmd, io, text, format, ret_n_changed, err);
    pthread_mutex_lock(&watch.mutex);
    watch.is_over = true;
    pthread_cond_signal(&watch.changed);
    pthread_mutex_unlock(&watch.mutex);
    pthread_join(watch.thread, NULL);
    return status;
}

static hs_status run(struct command *cmd, const struct hs_command_io *io, const char *text,
                     enum hs_sql_format format, struct hs_error *err)
{
    int64_t n = -1;
    hs_status status = cmd->client ? hs_sql_remote_run(cmd->client, io, text, format, &n, err)
                                   : run_watched(cmd, io, text, format, &n, err);
    if (!status && n >= 0) {
        hs_err_info(io, "%lld row%s", (long long)n, n == 1 ? "" : "s");
    }
    return status;
}

/* What is loaded, kept and read is up to the server. */
static hs_status open_remote(const struct hs_command_args *args, hs_http_client **ret_client,
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
    return hs_http_client_new(args, ret_client, err);
}

static hs_status open_here(struct command *cmd, const struct hs_command_args *args,
                           struct hs_error *err)
{
    hs_status status = hs_sql_settings_fill(args->config, args->paths, &cmd->settings, err);
    status = status ? status : hs_sql_local_open(args, &cmd->local, err);
    if (!status) {
        cmd->settings.params.host = hs_sql_local_host(cmd->local);
        status = hs_sql_open(&cmd->settings.params, &cmd->sql, err);
    }
    return status ? status : hs_sql_connect(cmd->sql, NULL, &cmd->conn, err);
}

hs_status hs_cmd_sql(const struct hs_command_args *args, struct hs_error *err)
{
    struct command cmd HS_CLEANUP(command_clear) = {.sql = NULL};
    HS_CLEANUP(hs_freep) char *text = NULL;
    enum hs_sql_format format;
    hs_status status = read_format(args, &format, err);
    status = status ? status : read_text(args, &text, err);
    if (!status) {
        status = hs_config_is_set(args->config, HS_CFG_SERVER) ? open_remote(args, &cmd.client, err)
                                                               : open_here(&cmd, args, err);
    }
    return status ? status : run(&cmd, args->io, text, format, err);
}

#else

hs_status hs_cmd_sql(const struct hs_command_args *args, struct hs_error *err)
{
    (void)args;
    hs_error_set(err, HS_NOT_SUPPORTED, "this hyprstream was built without SQL");
    hs_error_hint(err, "build it with HS_FLIGHT=ON, as 'make build' does");
    return HS_NOT_SUPPORTED;
}

#endif
