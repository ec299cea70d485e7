/* registry_test.h - what the tests of the registry share: a data folder with models in it. */
#ifndef REGISTRY_TEST_H
#define REGISTRY_TEST_H

#include "store_test.h"

#include <sqlite3.h>

#include "base/log.h"
#include "storage/registry.h"
#include "storage/session_store.h"
#include "tiny_gguf.h"

/* A data folder `folder`, as hs_paths_load would give it. */
static inline struct hs_paths paths_in(const char *folder)
{
    struct hs_paths paths = {.data_dir = hs_strdup(folder)};
    paths.models_dir = hs_fs_join(folder, "models");
    paths.sessions_dir = hs_fs_join(folder, "sessions");
    paths.adapters_dir = hs_fs_join(folder, "adapters");
    paths.registry_file = hs_fs_join(folder, "registry.db");
    assert_true(paths.data_dir && paths.models_dir && paths.sessions_dir && paths.adapters_dir &&
                paths.registry_file);
    return paths;
}

static inline hs_registry *open_registry(const char *folder)
{
    struct hs_paths paths = paths_in(folder);
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    hs_status status = hs_registry_open(&paths, &registry, &err);
    hs_paths_free(&paths);
    if (status != HS_OK)
        fail_msg("%s", err.message);
    return registry;
}

static inline hs_status try_registry(const char *folder, hs_registry **ret_registry,
                                     struct hs_error *err)
{
    struct hs_paths paths = paths_in(folder);
    hs_status status = hs_registry_open(&paths, ret_registry, err);
    hs_paths_free(&paths);
    return status;
}

/* A model whose bytes depend on `name`; the folder is made. */
static inline char *make_model(const char *folder, const char *file, const char *name)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.name = name;
    assert_int_equal(hs_fs_mkdir_p(folder, NULL), HS_OK);
    char *path = hs_fs_join(folder, file);
    assert_non_null(path);
    assert_true(tiny_gguf_write(&spec, path));
    return path;
}

static inline void make_saved_session(const char *folder, const char *name)
{
    struct hs_message message = {.role = "user", .content = "Hello"};
    struct hs_session_record record = {.model_name = (char *)"m",
                                       .fingerprint = (char *)"f",
                                       .messages = &message,
                                       .n_messages = 1,
                                       .created_unix_ms = 11,
                                       .updated_unix_ms = 22};
    hs_session_file *file = NULL;
    assert_int_equal(hs_session_file_open(folder, name, true, &file, NULL), HS_OK);
    assert_int_equal(hs_session_file_save(file, &record, NULL), HS_OK);
    hs_session_file_close(file);
}

/* Run SQL on the file itself, behind the registry's back. */
static inline void run_sql(const char *folder, const char *sql)
{
    char *path = path_of(folder, "registry.db"), *message = NULL;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(db);
    hs_free(path);
}

/* The first column of the first row as text, to be freed with free. */
static inline char *query_sql(const char *folder, const char *sql)
{
    char *path = path_of(folder, "registry.db");
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    char *text = strdup((const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    hs_free(path);
    return text;
}

static inline void assert_sql(const char *folder, const char *sql, const char *expected)
{
    char *text = query_sql(folder, sql);
    assert_string_equal(text, expected);
    free(text);
}

static inline size_t count_models(hs_registry *registry)
{
    struct hs_registry_model *rows = NULL;
    size_t n = 0;
    struct hs_error err = {0};
    if (hs_registry_model_list(registry, &rows, &n, &err) != HS_OK)
        fail_msg("%s", err.message);
    hs_registry_models_free(rows, n);
    return n;
}

static inline size_t count_sessions(hs_registry *registry)
{
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    struct hs_error err = {0};
    if (hs_registry_session_list(registry, &rows, &n, &err) != HS_OK)
        fail_msg("%s", err.message);
    hs_registry_sessions_free(rows, n);
    return n;
}

static inline hs_status put_session(hs_registry *registry, const char *name, int64_t n_messages,
                                    struct hs_error *err)
{
    struct hs_registry_session row = {.name = (char *)name,
                                      .model_name = (char *)"m",
                                      .fingerprint = (char *)"f",
                                      .n_messages = n_messages,
                                      .size_bytes = 3,
                                      .created_unix_ms = 4,
                                      .updated_unix_ms = 5};
    return hs_registry_session_put(registry, &row, err);
}

/* Files of the folder whose names begin with "registry.db.corrupt-" and end with `suffix`. */
static inline int count_set_aside(const char *folder, const char *suffix)
{
    char command[4096], line[4096];
    int n = 0;
    snprintf(command, sizeof command, "ls -A '%s'", folder);
    FILE *list = popen(command, "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list) != NULL) {
        line[strcspn(line, "\n")] = 0;
        const char *stamp = line + strlen("registry.db.corrupt-");
        if (strncmp(line, "registry.db.corrupt-", strlen("registry.db.corrupt-")) != 0)
            continue;
        const char *tail = strpbrk(stamp, "-");
        bool is_companion = tail != NULL && (strstr(tail, "-wal") || strstr(tail, "-shm"));
        n += suffix[0] == 0 ? !is_companion : strstr(line, suffix) != NULL;
    }
    pclose(list);
    return n;
}

/* A log sink that keeps the last warning and counts them. */
struct warnings {
    int n;
    char last[2048];
};

static inline void keep_warning(enum hs_log_level level, const char *component,
                                const char *request_id, const char *message, void *user)
{
    (void)component;
    (void)request_id;
    struct warnings *warnings = user;
    if (level != HS_LOG_WARN)
        return;
    warnings->n++;
    snprintf(warnings->last, sizeof warnings->last, "%s", message);
}

static inline hs_status add(hs_registry *registry, const char *path, const char *name,
                            struct hs_registry_model *ret_model, struct hs_error *err)
{
    return hs_registry_model_add(registry, path, name, "added", ret_model, err);
}

/* A test with a folder of its own. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

#endif
