#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/machine.h"
#include "base/mem.h"
#include "fn_vectors.h"
#include "guard.h"
#include "sql_error.h"
#include "views.h"
#include "workers.h"

#define SETUP_MAX (1u << 20)

void hs_sql_params_defaults(struct hs_sql_params *params)
{
    *params = (struct hs_sql_params){.temp_bytes = UINT64_C(4) << 30};
}

/* Text as SQL writes it. */
static hs_status quote(struct hs_buf *out, const char *text)
{
    hs_status status = hs_buf_append(out, "'", 1);
    for (const char *c = text; !status && *c != '\0'; c++) {
        status = hs_buf_append(out, c, 1);
        if (!status && *c == '\'') {
            status = hs_buf_append(out, "'", 1);
        }
    }
    return status ? status : hs_buf_append(out, "'", 1);
}

static hs_status write_dirs(struct hs_buf *out, const struct hs_sql_params *params,
                            struct hs_error *err)
{
    hs_status status = hs_buf_append_str(out, "SET allowed_directories = [");
    for (size_t i = 0; i < params->n_allowed_dirs && !status; i++) {
        HS_CLEANUP(hs_freep) char *path = NULL;
        status = hs_fs_realpath(params->allowed_dirs[i], &path, err);
        if (status) {
            hs_error_hint(err, "name a folder that is there, or leave it out");
            return status;
        }
        if (i > 0) {
            status = hs_buf_append_str(out, ", ");
        }
        status = status ? status : quote(out, path);
    }
    status = status ? status : hs_buf_append_str(out, "];");
    return status ? hs_error_nomem(err, "settings") : HS_OK;
}

static int32_t n_threads_of(const struct hs_sql_params *params)
{
    return params->n_threads > 0 ? params->n_threads : hs_machine_physical_cores();
}

/* What a connection may not change afterwards. No thread is DuckDB's own (workers.h). */
static hs_status write_settings(struct hs_buf *out, const struct hs_sql_params *params,
                                struct hs_error *err)
{
    uint64_t memory = params->memory_bytes ? params->memory_bytes : hs_machine_memory_total() / 4;
    int32_t n_threads = n_threads_of(params);
    hs_status status =
        hs_buf_printf(out,
                      "SET memory_limit = '%llu B'; SET threads = %d; SET external_threads = %d; "
                      "SET temp_directory = ",
                      (unsigned long long)memory, (int)n_threads, (int)n_threads);
    status = status ? status : quote(out, params->temp_dir != NULL ? params->temp_dir : "");
    if (!status && params->temp_dir != NULL) {
        status = hs_buf_printf(out, "; SET max_temp_directory_size = '%llu B'",
                               (unsigned long long)params->temp_bytes);
    }
    if (status || hs_buf_append_str(out, ";") != HS_OK) {
        return hs_error_nomem(err, "settings");
    }
    return write_dirs(out, params, err);
}

/* The size of a stream is a connection's, which sets it itself (functions.c). */
static const char lock_settings[] =
    "SET allowed_configs = ['streaming_buffer_size']; SET allow_persistent_secrets = false; SET "
    "enable_external_access = false;"
    "SET lock_configuration = true";

static hs_status set_up(hs_sql *sql, const struct hs_sql_params *params, struct hs_error *err)
{
    hs_sql_conn *conn;
    hs_status status = hs_sql_connect(sql, NULL, &conn, err);
    if (status) {
        return status;
    }
    struct hs_buf settings = HS_BUF_INIT(SETUP_MAX);
    status = write_settings(&settings, params, err);
    status = status ? status : hs_sql_conn_run(conn, settings.data, err);
    status = status ? status : hs_sql_refused_list(conn->connection, &sql->refused, err);
    if (!status && params->host != NULL) {
        status = hs_sql_functions_register(sql, conn->connection, params->host, err);
        status = status ? status : hs_sql_views_register(conn, params->host, err);
        sql->has_functions = true;
    }
    status = status ? status : hs_sql_conn_run(conn, lock_settings, err);
    hs_buf_free(&settings);
    hs_sql_disconnect(conn);
    return status;
}

static hs_status open_file(const char *file, duckdb_database *ret_database, struct hs_error *err)
{
    static const char *const settings[][2] = {{"autoinstall_known_extensions", "false"},
                                              {"autoload_known_extensions", "false"},
                                              {"allow_community_extensions", "false"},
                                              {"allow_unsigned_extensions", "false"}};
    duckdb_config config;
    if (duckdb_create_config(&config) != DuckDBSuccess) {
        return hs_error_nomem(err, "settings of the SQL engine");
    }
    char *message = NULL;
    bool is_good = true;
    for (size_t i = 0; is_good && i < sizeof settings / sizeof settings[0]; i++) {
        is_good = duckdb_set_config(config, settings[i][0], settings[i][1]) == DuckDBSuccess;
    }
    is_good = is_good && duckdb_open_ext(file, ret_database, config, &message) == DuckDBSuccess;
    hs_status status = HS_OK;
    if (!is_good) {
        status = hs_sql_error(NULL, message, err);
        if (status == HS_BUSY) {
            hs_error_hint(err, "another program has the tables open: end it, or ask it (--server)");
        }
    }
    duckdb_free(message);
    duckdb_destroy_config(&config);
    return status;
}

hs_status hs_sql_open(const struct hs_sql_params *params, hs_sql **ret_sql, struct hs_error *err)
{
    hs_sql *sql = hs_calloc(1, sizeof *sql);
    if (sql == NULL || pthread_mutex_init(&sql->mutex, NULL) != 0) {
        hs_free(sql);
        return hs_error_nomem(err, "SQL engine");
    }
    sql->vectors = hs_fn_vectors_new(HS_FN_VECTORS_BYTES_MAX);
    hs_status status = sql->vectors == NULL ? hs_error_nomem(err, "SQL engine")
                                            : open_file(params->file, &sql->database, err);
    status = status ? status : set_up(sql, params, err);
    /* the thread that reads rows is one of them */
    status =
        status ? status
               : hs_sql_workers_start(sql->database, n_threads_of(params) - 1, &sql->workers, err);
    if (status) {
        hs_sql_close(sql);
        return status;
    }
    *ret_sql = sql;
    return HS_OK;
}

void hs_sql_close(hs_sql *sql)
{
    if (sql != NULL) {
        hs_sql_workers_free(sql->workers);
        duckdb_close(&sql->database);
        hs_fn_vectors_free(sql->vectors);
        pthread_mutex_destroy(&sql->mutex);
        hs_free(sql->refused);
        hs_free(sql);
    }
}
