/*
 * response_store.c - the file: application_id "HSRS", user_version 1, one table.
 *
 *   responses(seq INTEGER PRIMARY KEY, id, owner, created_unix_ms, body, input, history)
 *
 * seq grows with each put, so that "oldest" needs no clock.
 */
#include "storage/response_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#define BUSY_MS 5000
#define VERSION 1
#define APPLICATION_ID "1213420115" /* "HSRS" */

struct hs_response_store {
    pthread_mutex_t mutex;
    char *path;
    struct hs_response_store_limits limits;
    sqlite3 *db;
};

static const char MAKE[] = "BEGIN IMMEDIATE;"
                           "CREATE TABLE IF NOT EXISTS responses ("
                           " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
                           " id TEXT NOT NULL,"
                           " owner TEXT NOT NULL,"
                           " created_unix_ms INTEGER NOT NULL,"
                           " body TEXT NOT NULL,"
                           " input TEXT NOT NULL,"
                           " history TEXT NOT NULL,"
                           " UNIQUE (owner, id)"
                           ") STRICT;"
                           "CREATE INDEX IF NOT EXISTS responses_age ON responses(created_unix_ms);"
                           "PRAGMA application_id = " APPLICATION_ID ";"
                           "PRAGMA user_version = 1;"
                           "COMMIT";

/* ---- SQLite ---- */

static hs_status sql_error(const hs_response_store *store, int rc, struct hs_error *err)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        hs_error_set(err, HS_BUSY, "'%s' has been locked by another process for %d s", store->path,
                     BUSY_MS / 1000);
        return hs_error_hint(err, "try again, or end the other hyprstream process");
    case SQLITE_NOMEM:
        return hs_error_nomem(err, "stored responses");
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        hs_error_set(err, HS_PERMISSION_DENIED, "cannot write '%s': %s", store->path,
                     sqlite3_errstr(rc));
        return hs_error_hint(err, "make the file and its folder writable, or set HYPRSTREAM_HOME "
                                  "to a folder of yours");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        hs_error_set(err, HS_CORRUPT, "'%s' is damaged: %s", store->path, sqlite3_errstr(rc));
        return hs_error_hint(err, "start the server again: it sets the file aside");
    default:
        hs_error_set(err, HS_IO, "cannot use '%s': %s", store->path, sqlite3_errstr(rc));
        return hs_error_hint(err, "check the disk and its free space");
    }
}

static hs_status exec(hs_response_store *store, const char *sql, struct hs_error *err)
{
    int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? HS_OK : sql_error(store, rc, err);
}

static void finalizep(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}

static hs_status prepare(hs_response_store *store, const char *sql, const char *const *texts,
                         int n_texts, sqlite3_stmt **ret_statement, struct hs_error *err)
{
    int rc = sqlite3_prepare_v2(store->db, sql, -1, ret_statement, NULL);
    for (int i = 0; i < n_texts && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_text(*ret_statement, i + 1, texts[i], -1, SQLITE_STATIC);
    }
    return rc == SQLITE_OK ? HS_OK : sql_error(store, rc, err);
}

static hs_status query_int(hs_response_store *store, const char *sql, int64_t *ret,
                           struct hs_error *err)
{
    HS_CLEANUP(finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = prepare(store, sql, NULL, 0, &statement, err);
    if (status != HS_OK) {
        return status;
    }
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return sql_error(store, rc, err);
    }
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    return HS_OK;
}

/* ---- opening ---- */

/* HS_CORRUPT also for a database that is not ours. */
static hs_status check(hs_response_store *store, struct hs_error *err)
{
    int64_t version = 0, id = 0, is_empty = 0;
    hs_status status = query_int(store, "PRAGMA user_version", &version, err);
    status = status ? status : query_int(store, "PRAGMA application_id", &id, err);
    status = status ? status
                    : query_int(store, "SELECT count(*) = 0 FROM sqlite_schema", &is_empty, err);
    if (status != HS_OK) {
        return status;
    }
    char text[16];
    snprintf(text, sizeof text, "%lld", (long long)id);
    if (!is_empty && strcmp(text, APPLICATION_ID) != 0) {
        return sql_error(store, SQLITE_NOTADB, err);
    }
    if (version > VERSION) {
        hs_error_set(err, HS_UNSUPPORTED_VERSION,
                     "'%s' has version %lld; this program knows versions up to %d", store->path,
                     (long long)version, VERSION);
        return hs_error_hint(err, "use the newer hyprstream that wrote it, or set HYPRSTREAM_HOME "
                                  "to another folder");
    }
    int64_t n_rows = 0; /* walks every page that a later call could trip over */
    return is_empty ? HS_OK
                    : query_int(store,
                                "SELECT count(length(body) + length(input) + length(history))"
                                " FROM responses",
                                &n_rows, err);
}

static void close_db(hs_response_store *store)
{
    sqlite3_close(store->db);
    store->db = NULL;
}

static hs_status open_db(hs_response_store *store, struct hs_error *err)
{
    /* conversations are nobody else's; SQLite gives its other files the same mode */
    HS_CLEANUP(hs_closep) int fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return hs_error_errno(err, errno, "open", store->path);
    }
    int rc =
        sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    hs_status status = rc == SQLITE_OK ? HS_OK : sql_error(store, rc, err);
    if (status == HS_OK) {
        sqlite3_busy_timeout(store->db, BUSY_MS);
        status = check(store, err);
    }
    status = status ? status : exec(store, "PRAGMA journal_mode = WAL", err);
    status = status ? status : exec(store, "PRAGMA synchronous = NORMAL", err);
    status = status ? status : exec(store, "PRAGMA secure_delete = ON", err);
    status = status ? status : exec(store, MAKE, err);
    if (status != HS_OK) {
        close_db(store);
    }
    return status;
}

static hs_status set_aside(const hs_response_store *store, struct hs_error *err)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    long long now = (long long)hs_clock_unix_ms();
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char *from HS_CLEANUP(hs_freep) = hs_asprintf("%s%s", store->path, ends[i]);
        char *to HS_CLEANUP(hs_freep) = hs_asprintf("%s.corrupt-%lld%s", store->path, now, ends[i]);
        if (from == NULL || to == NULL) {
            return hs_error_nomem(err, "stored responses");
        }
        if (rename(from, to) != 0 && errno != ENOENT) {
            return hs_error_errno(err, errno, "set aside", from);
        }
    }
    hs_log(HS_LOG_WARN, "storage",
           "'%s' was damaged and is now '%s.corrupt-%lld'; stored responses begin anew",
           store->path, store->path, now);
    return HS_OK;
}

hs_status hs_response_store_open(const char *path, const struct hs_response_store_limits *limits,
                                 hs_response_store **ret_store, struct hs_error *err)
{
    hs_response_store *store = hs_calloc(1, sizeof *store);
    char *copy = hs_strdup(path);
    if (store == NULL || copy == NULL || pthread_mutex_init(&store->mutex, NULL) != 0) {
        hs_free(store);
        hs_free(copy);
        return hs_error_nomem(err, "stored responses");
    }
    store->path = copy;
    store->limits = *limits;
    hs_status status = open_db(store, err);
    if (status == HS_CORRUPT) {
        status = set_aside(store, err);
        status = status == HS_OK ? open_db(store, err) : status;
    }
    if (status != HS_OK) {
        hs_response_store_close(store);
        return status;
    }
    *ret_store = store;
    return HS_OK;
}

void hs_response_store_close(hs_response_store *store)
{
    if (store == NULL) {
        return;
    }
    close_db(store);
    pthread_mutex_destroy(&store->mutex);
    hs_free(store->path);
    hs_free(store);
}

/* ---- rows ---- */

/* Rows made before this time are too old. */
static int64_t oldest_ms(const hs_response_store *store)
{
    int64_t age_s = store->limits.max_age_s;
    return age_s == 0 ? INT64_MIN : hs_clock_unix_ms() - age_s * 1000;
}

static hs_status run(hs_response_store *store, const char *sql, const char *const *texts,
                     int n_texts, int64_t number, struct hs_error *err)
{
    HS_CLEANUP(finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = prepare(store, sql, texts, n_texts, &statement, err);
    if (status != HS_OK) {
        return status;
    }
    int rc = sqlite3_bind_int64(statement, n_texts + 1, number); /* RANGE: it has none */
    rc = rc == SQLITE_OK || rc == SQLITE_RANGE ? sqlite3_step(statement) : rc;
    return rc == SQLITE_DONE ? HS_OK : sql_error(store, rc, err);
}

static hs_status put(hs_response_store *store, const char *const texts[5], struct hs_error *err)
{
    hs_status status = exec(store, "BEGIN IMMEDIATE", err);
    if (status != HS_OK) {
        return status;
    }
    status = run(store,
                 "INSERT OR REPLACE INTO responses"
                 "(id, owner, body, input, history, created_unix_ms) VALUES(?,?,?,?,?,?)",
                 texts, 5, hs_clock_unix_ms(), err);
    status = status ? status
                    : run(store, "DELETE FROM responses WHERE created_unix_ms < ?", NULL, 0,
                          oldest_ms(store), err);
    status = status ? status
                    : run(store,
                          "DELETE FROM responses WHERE seq <= (SELECT seq FROM responses"
                          " ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                          NULL, 0, store->limits.max_responses, err);
    status = status ? status : exec(store, "COMMIT", err);
    if (status != HS_OK) {
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

hs_status hs_response_store_put(hs_response_store *store, const char *id, const char *owner,
                                const struct hs_stored_response *response, struct hs_error *err)
{
    const char *const texts[5] = {id, owner, response->body, response->input, response->history};
    pthread_mutex_lock(&store->mutex);
    hs_status status = put(store, texts, err);
    pthread_mutex_unlock(&store->mutex);
    return status;
}

static hs_status not_found(const char *id, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_FOUND, "there is no stored response '%.*s'", HS_ID_MAX, id);
}

static hs_status get(hs_response_store *store, const char *const texts[2],
                     struct hs_stored_response *ret, struct hs_error *err)
{
    HS_CLEANUP(finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = prepare(store,
                               "SELECT body, input, history, created_unix_ms FROM responses"
                               " WHERE id = ? AND owner = ?",
                               texts, 2, &statement, err);
    if (status != HS_OK) {
        return status;
    }
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return sql_error(store, rc, err);
    }
    if (rc == SQLITE_DONE || sqlite3_column_int64(statement, 3) < oldest_ms(store)) {
        return not_found(texts[0], err);
    }
    struct hs_stored_response got = {
        .body = hs_strdup((const char *)sqlite3_column_text(statement, 0)),
        .input = hs_strdup((const char *)sqlite3_column_text(statement, 1)),
        .history = hs_strdup((const char *)sqlite3_column_text(statement, 2)),
    };
    if (got.body == NULL || got.input == NULL || got.history == NULL) {
        hs_stored_response_free(&got);
        return hs_error_nomem(err, "stored response");
    }
    *ret = got;
    return HS_OK;
}

hs_status hs_response_store_get(hs_response_store *store, const char *id, const char *owner,
                                struct hs_stored_response *ret_response, struct hs_error *err)
{
    const char *const texts[2] = {id, owner};
    pthread_mutex_lock(&store->mutex);
    hs_status status = get(store, texts, ret_response, err);
    pthread_mutex_unlock(&store->mutex);
    return status;
}

hs_status hs_response_store_delete(hs_response_store *store, const char *id, const char *owner,
                                   struct hs_error *err)
{
    const char *const texts[2] = {id, owner};
    pthread_mutex_lock(&store->mutex);
    hs_status status =
        run(store, "DELETE FROM responses WHERE id = ? AND owner = ?", texts, 2, 0, err);
    bool is_gone = status == HS_OK && sqlite3_changes(store->db) > 0;
    pthread_mutex_unlock(&store->mutex);
    return status != HS_OK || is_gone ? status : not_found(id, err);
}

void hs_stored_response_free(struct hs_stored_response *response)
{
    hs_free(response->body);
    hs_free(response->input);
    hs_free(response->history);
    *response = (struct hs_stored_response){0};
}
