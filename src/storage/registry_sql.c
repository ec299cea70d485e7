/* registry_sql.c - statements, transactions, and what SQLite's result codes mean to a user. */
#include "registry_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#define MAX_RUNS 3

static hs_status denied(const hs_registry *registry, const char *action, struct hs_error *err)
{
    hs_error_set(err, HS_PERMISSION_DENIED, "cannot %s the registry '%s': no permission to write",
                 action, registry->file);
    hs_error_hint(err, "make the file and its folder writable, or set HYPRSTREAM_HOME to a folder "
                       "of yours");
    return HS_PERMISSION_DENIED;
}

static hs_status sql_io_error(const hs_registry *registry, int rc, const char *action,
                              struct hs_error *err)
{
    int cause = registry->db == NULL ? 0 : sqlite3_system_errno(registry->db);
    if (cause == EACCES || cause == EROFS || cause == EPERM)
        return denied(registry, action, err);
    hs_error_set(err, HS_IO, "cannot %s the registry '%s': %s%s%s", action, registry->file,
                 sqlite3_errstr(rc), cause == 0 ? "" : ": ", cause == 0 ? "" : strerror(cause));
    hs_error_hint(err, "check the disk and its free space");
    return HS_IO;
}

hs_status hs_registry_sql_error(const hs_registry *registry, int rc, const char *action,
                                struct hs_error *err)
{
    if (rc == SQLITE_IOERR_NOMEM)
        rc = SQLITE_NOMEM;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        hs_error_set(err, HS_BUSY,
                     "cannot %s the registry '%s': another process has kept it locked for %d s",
                     action, registry->file, HS_REGISTRY_BUSY_MS / 1000);
        hs_error_hint(err, "try again, or end the other hyprstream process");
        return HS_BUSY;
    case SQLITE_NOMEM:
        return hs_error_nomem(err, "registry");
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return denied(registry, action, err);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return hs_error_set(err, HS_CORRUPT, "cannot %s the registry '%s': %s", action,
                            registry->file, sqlite3_errstr(rc));
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISUSE:
        return hs_error_set(err, HS_INTERNAL, "cannot %s the registry '%s': %s", action,
                            registry->file, sqlite3_errmsg(registry->db));
    default:
        return sql_io_error(registry, rc, action, err);
    }
}

hs_status hs_registry_exec(hs_registry *registry, const char *sql, struct hs_error *err)
{
    int rc = sqlite3_exec(registry->db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return hs_registry_sql_error(registry, rc, "write", err);
    return HS_OK;
}

void hs_registry_finalizep(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}

static int bind_all(sqlite3_stmt *statement, const char *types, va_list args)
{
    int rc = SQLITE_OK;
    for (int i = 0; rc == SQLITE_OK && types[i] != 0; i++) {
        if (types[i] == 's') {
            const char *text = va_arg(args, const char *);
            rc = sqlite3_bind_text(statement, i + 1, text == NULL ? "" : text, -1, SQLITE_STATIC);
        } else if (types[i] == 'd') {
            rc = sqlite3_bind_double(statement, i + 1, va_arg(args, double));
        } else {
            rc = sqlite3_bind_int64(statement, i + 1, va_arg(args, int64_t));
        }
    }
    return rc;
}

hs_status hs_registry_prepare(hs_registry *registry, const char *sql, sqlite3_stmt **ret_statement,
                              struct hs_error *err, const char *types, ...)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(registry->db, sql, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return hs_registry_sql_error(registry, rc, "read", err);
    va_list args;
    va_start(args, types);
    rc = bind_all(statement, types, args);
    va_end(args);
    if (rc != SQLITE_OK) {
        sqlite3_finalize(statement);
        return hs_registry_sql_error(registry, rc, "write", err);
    }
    *ret_statement = statement;
    return HS_OK;
}

hs_status hs_registry_step(hs_registry *registry, sqlite3_stmt *statement, bool *ret_has_row,
                           struct hs_error *err)
{
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return hs_registry_sql_error(registry, rc,
                                     sqlite3_stmt_readonly(statement) ? "read" : "write", err);
    *ret_has_row = rc == SQLITE_ROW;
    return HS_OK;
}

static hs_status read_one(hs_registry *registry, sqlite3_stmt *statement, size_t item_size,
                          hs_registry_read_fn read, struct hs_registry_rows *rows,
                          struct hs_error *err)
{
    if (rows->n == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? 8 : 2 * rows->capacity;
        void *items = hs_realloc_array(rows->items, capacity, item_size);
        if (items == NULL)
            return hs_error_nomem(err, "rows of the registry");
        rows->items = items;
        rows->capacity = capacity;
    }
    char *item = (char *)rows->items + rows->n * item_size;
    memset(item, 0, item_size);
    rows->n++;
    return read(registry, statement, item, err);
}

hs_status hs_registry_read_rows(hs_registry *registry, sqlite3_stmt *statement, size_t item_size,
                                hs_registry_read_fn read, struct hs_registry_rows *rows,
                                struct hs_error *err)
{
    bool has_row = true;
    hs_status status = HS_OK;
    while (status == HS_OK && has_row) {
        status = hs_registry_step(registry, statement, &has_row, err);
        if (status == HS_OK && has_row)
            status = read_one(registry, statement, item_size, read, rows, err);
    }
    return status;
}

hs_status hs_registry_query_int(hs_registry *registry, const char *sql, int64_t *ret_value,
                                struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(registry, sql, &statement, err, "");
    if (status != HS_OK)
        return status;
    bool has_row = false;
    status = hs_registry_step(registry, statement, &has_row, err);
    if (status != HS_OK)
        return status;
    if (!has_row)
        return hs_registry_sql_error(registry, SQLITE_CORRUPT, "read", err);
    *ret_value = sqlite3_column_int64(statement, 0);
    return HS_OK;
}

hs_status hs_registry_column(hs_registry *registry, sqlite3_stmt *statement, int column,
                             char **ret_text, struct hs_error *err)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    if (text == NULL && sqlite3_errcode(registry->db) == SQLITE_NOMEM)
        return hs_error_nomem(err, "registry");
    if (text == NULL) /* every column is NOT NULL */
        return hs_registry_sql_error(registry, SQLITE_CORRUPT, "read", err);
    char *copy = hs_strdup((const char *)text);
    if (copy == NULL)
        return hs_error_nomem(err, "registry");
    *ret_text = copy;
    return HS_OK;
}

/* A newer program may have brought the file to its version while this process had it open. */
static hs_status check_version(hs_registry *registry, struct hs_error *err)
{
    int64_t version = 0;
    hs_status status = hs_registry_query_int(registry, "PRAGMA user_version", &version, err);
    if (status != HS_OK || version == HS_REGISTRY_VERSION)
        return status;
    hs_error_set(err, HS_UNSUPPORTED_VERSION,
                 "the registry '%s' now has version %lld; this program knows version %d",
                 registry->file, (long long)version, HS_REGISTRY_VERSION);
    hs_error_hint(err, "restart with the hyprstream that changed it");
    return HS_UNSUPPORTED_VERSION;
}

static hs_status run_once(hs_registry *registry, bool writes, hs_registry_work work, void *user,
                          struct hs_error *err)
{
    hs_status status = hs_registry_exec(registry, writes ? "BEGIN IMMEDIATE" : "BEGIN", err);
    if (status != HS_OK)
        return status;
    status = check_version(registry, err);
    if (status == HS_OK)
        status = work(registry, user, err);
    if (status == HS_OK)
        status = hs_registry_exec(registry, "COMMIT", err);
    /* After some errors SQLite has rolled back by itself. */
    if (status != HS_OK && !sqlite3_get_autocommit(registry->db))
        sqlite3_exec(registry->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

static hs_status run_locked(hs_registry *registry, bool writes, hs_registry_work work, void *user,
                            struct hs_error *err)
{
    hs_status status = HS_OK;
    bool damaged = false;
    for (int i = 0; i < MAX_RUNS; i++) {
        if (damaged || registry->db == NULL || hs_registry_has_moved(registry)) {
            status = hs_registry_reopen(registry, damaged, err);
            if (status != HS_OK)
                return status;
        }
        status = run_once(registry, writes, work, user, err);
        damaged = status == HS_CORRUPT;
        /* A change that went into a file set aside meanwhile must be made again in the new one. */
        bool is_lost = status == HS_OK && writes && hs_registry_has_moved(registry);
        if (!damaged && !is_lost)
            break;
    }
    return status;
}

hs_status hs_registry_run(hs_registry *registry, bool writes, hs_registry_work work, void *user,
                          struct hs_error *err)
{
    pthread_mutex_lock(&registry->mutex);
    hs_status status = run_locked(registry, writes, work, user, err);
    pthread_mutex_unlock(&registry->mutex);
    if (status == HS_OK)
        hs_error_clear(err);
    return status;
}

void hs_registry_sync(hs_registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
    int rc = SQLITE_OK;
    if (registry->db != NULL)
        rc = sqlite3_wal_checkpoint_v2(registry->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (rc != SQLITE_OK)
        hs_log(HS_LOG_DEBUG, "storage", "cannot sync the registry now: %s", sqlite3_errstr(rc));
    pthread_mutex_unlock(&registry->mutex);
}
