/*
 * fuzz_sqlguard.c - libFuzzer target of what SQL may not do: a text of statements, in which '@'
 * stands for a file outside of the allowed folder and '#' for that folder. Whatever they are, the
 * file's words do not come back, no file is written, settings and databases stay as they are, and
 * no statement hides behind another.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "guard.h"

#define TEXT_MAX 4096
#define STATEMENT_MS 300
#define INPUTS_PER_DATABASE 200
#define SECRET "hs-secret-5c1d"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/fuzz-sqlguard-XXXXXX", allowed[64], file[64];
static hs_sql *sql;
static hs_sql_conn *conn, *witness;
static char before[TEXT_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double until_ms; /* 0: nothing runs; under the lock, as are sql and conn while they change */

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void remove_folder(void)
{
    hs_status ignored = hs_fs_remove_all(folder, NULL);
    (void)ignored;
}

static void make_folder(void)
{
    require(mkdtemp(folder) != NULL && atexit(remove_folder) == 0);
    snprintf(allowed, sizeof allowed, "%s/in", folder);
    snprintf(file, sizeof file, "%s/secret.csv", folder);
    require(hs_fs_mkdir_p(allowed, NULL) == HS_OK);
    require(hs_fs_write_atomic(file, "a\n" SECRET "\n", strlen("a\n" SECRET "\n"), 0600, NULL) ==
            HS_OK);
}

static int n_files(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;
    require(dir != NULL);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

/* ---- statements ---- */

static void *watch(void *user)
{
    (void)user;
    for (;;) {
        pthread_mutex_lock(&lock);
        if (until_ms > 0 && hs_clock_ms() > until_ms) {
            hs_sql_interrupt(conn);
        }
        pthread_mutex_unlock(&lock);
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void set_until(double moment_ms)
{
    pthread_mutex_lock(&lock);
    until_ms = moment_ms;
    pthread_mutex_unlock(&lock);
}

/* Whatever buffers of texts there are, at any depth. */
static void check_rows(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    bool is_text = strcmp(schema->format, "u") == 0 || strcmp(schema->format, "z") == 0;
    if (is_text && array->length > 0 && array->buffers[1] != NULL && array->buffers[2] != NULL) {
        const int32_t *ends = array->buffers[1];
        size_t len = (size_t)ends[array->offset + array->length];
        require(memmem(array->buffers[2], len, SECRET, strlen(SECRET)) == NULL);
    }
    for (int64_t i = 0; i < array->n_children; i++) {
        check_rows(schema->children[i], array->children[i]);
    }
}

static void read_rows(hs_sql_result *result)
{
    struct ArrowSchema schema;
    struct ArrowArray rows;
    if (hs_sql_result_schema(result, &schema, NULL) != HS_OK) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        if (hs_sql_result_next(result, &rows, NULL) != HS_OK || rows.release == NULL) {
            break;
        }
        check_rows(&schema, &rows);
        rows.release(&rows);
    }
    schema.release(&schema);
}

static void run(const char *text)
{
    hs_sql_stmt *stmt = NULL;
    hs_sql_result *result = NULL;
    struct hs_error err = {0};
    hs_sql_task_begin(conn);
    set_until(hs_clock_ms() + STATEMENT_MS);
    hs_status status = hs_sql_prepare(conn, text, strlen(text), &stmt, &err);
    if (!status && hs_sql_stmt_n_params(stmt) == 0) {
        status = hs_sql_execute(stmt, &result, &err);
        if (!status) {
            read_rows(result);
        }
    }
    hs_sql_result_free(result);
    hs_sql_stmt_free(stmt);
    set_until(0);
    hs_sql_task_end(conn);
    require(status == HS_OK || err.message[0] != '\0');
    require(strstr(err.message, SECRET) == NULL);
}

/* What may not change, as text. */
static void look(char text[TEXT_MAX])
{
    static const char query[] =
        "SELECT string_agg(name || '=' || value, ';' ORDER BY name) || (SELECT "
        "string_agg(database_name || coalesce(path, ''), ';' ORDER BY database_name) FROM "
        "duckdb_databases()) FROM duckdb_settings() WHERE name IN ('threads', 'memory_limit', "
        "'enable_external_access', 'lock_configuration', 'allowed_directories', 'allowed_paths', "
        "'temp_directory', 'external_threads', 'allow_unsigned_extensions', "
        "'autoload_known_extensions', 'max_temp_directory_size', 'enable_logging')";
    duckdb_result result;
    require(duckdb_query(witness->connection, query, &result) == DuckDBSuccess);
    char *value = duckdb_value_varchar(&result, 0, 0);
    snprintf(text, TEXT_MAX, "%s", value);
    duckdb_free(value);
    duckdb_destroy_result(&result);
}

/* DuckDB finds no more statements than we do, but those it makes of a PIVOT. */
static void check_cuts(const char *text)
{
    size_t left = strlen(text), next = 0, n = 0;
    const char *at = text;
    while (hs_sql_statement_len(at, left, &next) > 0) {
        at += next;
        left -= next;
        n++;
    }
    duckdb_extracted_statements found = NULL;
    idx_t n_found = duckdb_extract_statements(witness->connection, text, &found);
    duckdb_destroy_extracted(&found);
    require(n_found <= n || strcasestr(text, "pivot") != NULL);
}

/* ---- inputs ---- */

static void open_database(void)
{
    static unsigned n_inputs;
    static pthread_t watcher;
    struct hs_sql_params params;
    const char *dirs[] = {allowed};
    if (n_inputs++ % INPUTS_PER_DATABASE != 0) {
        return;
    }
    if (sql == NULL) {
        make_folder();
        require(pthread_create(&watcher, NULL, watch, NULL) == 0);
    }
    hs_sql_disconnect(conn);
    hs_sql_disconnect(witness);
    hs_sql_close(sql);
    hs_sql_params_defaults(&params);
    params.memory_bytes = (uint64_t)64 << 20;
    params.n_threads = 1;
    params.allowed_dirs = dirs;
    params.n_allowed_dirs = 1;
    require(hs_sql_open(&params, &sql, NULL) == HS_OK &&
            hs_sql_connect(sql, NULL, &conn, NULL) == HS_OK &&
            hs_sql_connect(sql, NULL, &witness, NULL) == HS_OK);
    look(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1 << 20);
    static char after[TEXT_MAX];
    if (size > TEXT_MAX || memchr(data, '\0', size) != NULL) {
        return 0;
    }
    open_database();
    for (size_t i = 0; i < size; i++) {
        hs_status status = data[i] == '@'   ? hs_buf_append_str(&text, file)
                           : data[i] == '#' ? hs_buf_append_str(&text, allowed)
                                            : hs_buf_append(&text, &data[i], 1);
        require(status == HS_OK);
    }
    require(hs_buf_append(&text, "", 0) == HS_OK);
    check_cuts(text.data);
    run(text.data);
    run("ROLLBACK");
    look(after);
    require(strcmp(before, after) == 0);
    require(n_files(folder) == 4 && n_files(allowed) == 2);
    return 0;
}
