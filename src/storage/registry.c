/*
 * registry.c - opening the registry: its version, its repair, its lock.
 *
 * registry.lock (flock) keeps opening and repairing apart: everybody opens under a shared lock,
 * which is released at once; whoever makes, migrates or sets aside the file holds it exclusively.
 * So nobody opens a database while its files are being renamed, which SQLite could not survive.
 * A process that still has the old file open sees that `file` is another one
 * (hs_registry_has_moved) and opens it again.
 */
#include "registry_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

/* A version above this is a damaged number, not a program from the far future. */
#define VERSION_PLAUSIBLE 100000
/* Up to this size the whole file is checked whenever it is opened (a millisecond at most). */
#define CHECK_PAGES_MAX 256
#define ASIDE_ATTEMPTS 1000
#define LOCK_POLL_US 2000

/* After a power failure the last changes may be missing, never part of one: sessions are synced for
 * themselves, and adding a model ends with a checkpoint, which syncs. The log is merged when it has
 * 64 pages, so that whoever opens it next has little to read. */
static const char SETTINGS[] = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 64";

enum verdict { VERDICT_READY, VERDICT_SETUP, VERDICT_DAMAGED };

/* ---- the lock ---- */

static hs_status lock_open(const hs_registry *registry, int *ret_fd, struct hs_error *err)
{
    int fd = open(registry->lock_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        hs_status status = hs_error_errno(err, errno, "open", registry->lock_file);
        hs_error_hint(err, "make its folder writable, or set HYPRSTREAM_HOME to a folder of yours");
        return status;
    }
    *ret_fd = fd;
    return HS_OK;
}

static hs_status lock_take(const hs_registry *registry, int fd, int operation, struct hs_error *err)
{
    double deadline = hs_clock_ms() + HS_REGISTRY_BUSY_MS;
    while (flock(fd, operation | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return hs_error_errno(err, errno, "lock", registry->lock_file);
        if (hs_clock_ms() > deadline)
            return hs_registry_sql_error(registry, SQLITE_BUSY, "open", err);
        usleep(LOCK_POLL_US);
    }
    return HS_OK;
}

/* ---- one attempt to open ---- */

/* The write-ahead log stays as it is: that of a damaged or newer file is not ours to merge, and for
 * a sound one merging costs waits for the disk that a short-lived process should not have. */
static void db_close(hs_registry *registry)
{
    if (registry->db != NULL)
        sqlite3_db_config(registry->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(registry->db);
    registry->db = NULL;
}

static hs_status db_open(hs_registry *registry, bool create, struct hs_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(registry->file, &registry->db, flags, NULL);
    struct stat info = {0};
    if (rc == SQLITE_OK && stat(registry->file, &info) != 0)
        rc = SQLITE_CANTOPEN;
    if (rc != SQLITE_OK) {
        hs_status status = hs_registry_sql_error(registry, rc, "open", err);
        db_close(registry);
        return status;
    }
    registry->dev = info.st_dev;
    registry->ino = info.st_ino;
    sqlite3_busy_timeout(registry->db, HS_REGISTRY_BUSY_MS);
    return HS_OK;
}

bool hs_registry_has_moved(const hs_registry *registry)
{
    struct stat info;
    return stat(registry->file, &info) != 0 || info.st_dev != registry->dev ||
           info.st_ino != registry->ino;
}

static hs_status newer_version(const hs_registry *registry, int64_t version, struct hs_error *err)
{
    hs_error_set(err, HS_UNSUPPORTED_VERSION,
                 "the registry '%s' has version %lld; this program knows versions up to %d",
                 registry->file, (long long)version, HS_REGISTRY_VERSION);
    hs_error_hint(err, "use the newer hyprstream that wrote it, or set HYPRSTREAM_HOME to another "
                       "folder");
    return HS_UNSUPPORTED_VERSION;
}

/* Whether the pages are sound. */
static hs_status check_pages(hs_registry *registry, enum verdict *ret_verdict, struct hs_error *err)
{
    *ret_verdict = VERDICT_READY;
    int64_t n_pages = 0;
    hs_status status = hs_registry_query_int(registry, "PRAGMA page_count", &n_pages, err);
    if (status != HS_OK || n_pages > CHECK_PAGES_MAX)
        return status;
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    status = hs_registry_prepare(registry, "PRAGMA integrity_check(1)", &statement, err, "");
    bool has_row = false;
    if (status == HS_OK)
        status = hs_registry_step(registry, statement, &has_row, err);
    if (status != HS_OK)
        return status;
    HS_CLEANUP(hs_freep) char *answer = NULL;
    if (has_row)
        status = hs_registry_column(registry, statement, 0, &answer, err);
    if (status != HS_OK || (answer != NULL && strcmp(answer, "ok") == 0))
        return status;
    /* The check writes a lack of memory and errors of the disk into its text as well. */
    const char *code = answer == NULL ? NULL : strstr(answer, "error code=");
    int rc = code == NULL ? SQLITE_CORRUPT : (int)strtol(code + strlen("error code="), NULL, 10);
    if ((rc & 0xff) != SQLITE_CORRUPT && (rc & 0xff) != SQLITE_NOTADB)
        return hs_registry_sql_error(registry, rc, "read", err);
    *ret_verdict = VERDICT_DAMAGED;
    return HS_OK;
}

/* Whether the tables are those of the current version, on sound pages. */
static hs_status check_contents(hs_registry *registry, enum verdict *ret_verdict,
                                struct hs_error *err)
{
    for (int i = 0; HS_REGISTRY_PROBES[i] != NULL; i++) {
        HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
        int rc = sqlite3_prepare_v2(registry->db, HS_REGISTRY_PROBES[i], -1, &statement, NULL);
        if (rc == SQLITE_ERROR) {
            *ret_verdict = VERDICT_DAMAGED;
            return HS_OK;
        }
        if (rc != SQLITE_OK)
            return hs_registry_sql_error(registry, rc, "read", err);
    }
    return check_pages(registry, ret_verdict, err);
}

static hs_status is_wal(hs_registry *registry, bool *ret_is_wal, struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(registry, "PRAGMA journal_mode", &statement, err, "");
    bool has_row = false;
    if (status == HS_OK)
        status = hs_registry_step(registry, statement, &has_row, err);
    if (status != HS_OK)
        return status;
    HS_CLEANUP(hs_freep) char *mode = NULL;
    if (has_row)
        status = hs_registry_column(registry, statement, 0, &mode, err);
    if (status == HS_OK)
        *ret_is_wal = mode != NULL && strcmp(mode, "wal") == 0;
    return status;
}

static hs_status inspect(hs_registry *registry, enum verdict *ret_verdict, struct hs_error *err)
{
    int64_t n_objects = 0, id = 0, version = 0;
    bool has_wal = false;
    hs_status status =
        hs_registry_query_int(registry, "SELECT count(*) FROM sqlite_schema", &n_objects, err);
    if (status == HS_OK)
        status = hs_registry_query_int(registry, "PRAGMA application_id", &id, err);
    if (status == HS_OK)
        status = hs_registry_query_int(registry, "PRAGMA user_version", &version, err);
    if (status == HS_OK)
        status = is_wal(registry, &has_wal, err);
    if (status != HS_OK)
        return status;
    bool is_empty = n_objects == 0 && version == 0 && (id == 0 || id == HS_REGISTRY_APPLICATION_ID);
    if (is_empty) {
        *ret_verdict = VERDICT_SETUP;
        return HS_OK;
    }
    if (id != HS_REGISTRY_APPLICATION_ID || version < 1 || version > VERSION_PLAUSIBLE) {
        *ret_verdict = VERDICT_DAMAGED;
        return HS_OK;
    }
    if (version > HS_REGISTRY_VERSION)
        return newer_version(registry, version, err);
    if (version < HS_REGISTRY_VERSION || !has_wal) {
        *ret_verdict = VERDICT_SETUP;
        return HS_OK;
    }
    return check_contents(registry, ret_verdict, err);
}

/* Open and look; on anything but VERDICT_READY and VERDICT_SETUP nothing stays open. */
static hs_status try_open(hs_registry *registry, bool create, enum verdict *ret_verdict,
                          struct hs_error *err)
{
    struct stat info;
    if (!create && (stat(registry->file, &info) != 0 && errno == ENOENT)) {
        *ret_verdict = VERDICT_SETUP;
        return HS_OK;
    }
    hs_status status = db_open(registry, create, err);
    if (status == HS_OK)
        status = inspect(registry, ret_verdict, err);
    if (status == HS_CORRUPT) {
        *ret_verdict = VERDICT_DAMAGED;
        status = HS_OK;
    }
    if (status != HS_OK || *ret_verdict == VERDICT_DAMAGED)
        db_close(registry);
    return status;
}

/* ---- making, migrating, repairing: under the exclusive lock ---- */

static hs_status rename_if_there(const char *from, const char *to, struct hs_error *err)
{
    if (rename(from, to) != 0 && errno != ENOENT)
        return hs_error_errno(err, errno, "rename", from);
    return HS_OK;
}

/* The database first: from then on it counts as gone, and companions without it are set aside by
 * whoever opens next, should this process be killed here. */
static hs_status set_aside_as(const hs_registry *registry, const char *aside, struct hs_error *err)
{
    static const char *const SUFFIXES[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
        HS_CLEANUP(hs_freep) char *from = hs_asprintf("%s%s", registry->file, SUFFIXES[i]);
        HS_CLEANUP(hs_freep) char *to = hs_asprintf("%s%s", aside, SUFFIXES[i]);
        if (from == NULL || to == NULL)
            return hs_error_nomem(err, "name of a file");
        hs_status status = rename_if_there(from, to, err);
        if (status != HS_OK)
            return status;
    }
    return HS_OK;
}

static bool is_taken(const char *aside)
{
    char wal[4096];
    snprintf(wal, sizeof wal, "%s-wal", aside);
    return access(aside, F_OK) == 0 || access(wal, F_OK) == 0;
}

/* ret_aside: "registry.db.corrupt-20261123T085043Z", with "-2" and so on when that is taken. */
static hs_status set_aside(const hs_registry *registry, char **ret_aside, struct hs_error *err)
{
    time_t now = (time_t)(hs_clock_unix_ms() / 1000);
    struct tm utc;
    char when[32] = "";
    if (gmtime_r(&now, &utc) != NULL)
        strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc);
    for (int i = 1; i < ASIDE_ATTEMPTS; i++) {
        char number[16] = "";
        if (i > 1)
            snprintf(number, sizeof number, "-%d", i);
        char *aside = hs_asprintf("%s.corrupt-%s%s", registry->file, when, number);
        if (aside == NULL)
            return hs_error_nomem(err, "name of a file");
        if (is_taken(aside)) {
            hs_free(aside);
            continue;
        }
        hs_status status = set_aside_as(registry, aside, err);
        if (status == HS_OK)
            *ret_aside = aside;
        else
            hs_free(aside);
        return status;
    }
    return hs_error_set(err, HS_ALREADY_EXISTS, "too many damaged registries beside '%s'",
                        registry->file);
}

static hs_status write_found(hs_registry *registry, const struct hs_registry_found *found,
                             struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; status == HS_OK && i < found->n_models; i++)
        status = hs_registry_model_write(registry, &found->models[i], err);
    for (size_t i = 0; status == HS_OK && i < found->n_sessions; i++)
        status = hs_registry_session_write(registry, &found->sessions[i], err);
    return status;
}

static hs_status migrate(hs_registry *registry, int64_t version,
                         const struct hs_registry_found *found, struct hs_error *err)
{
    hs_status status = hs_registry_exec(registry, "BEGIN IMMEDIATE", err);
    if (status != HS_OK)
        return status;
    for (int64_t i = version; status == HS_OK && i < HS_REGISTRY_VERSION; i++)
        status = hs_registry_exec(registry, HS_REGISTRY_STEPS[i], err);
    if (status == HS_OK)
        status = write_found(registry, found, err);
    char marks[96];
    snprintf(marks, sizeof marks, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             HS_REGISTRY_APPLICATION_ID, HS_REGISTRY_VERSION);
    if (status == HS_OK)
        status = hs_registry_exec(registry, marks, err);
    if (status == HS_OK)
        status = hs_registry_exec(registry, "COMMIT", err);
    if (status != HS_OK && !sqlite3_get_autocommit(registry->db))
        sqlite3_exec(registry->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* Bring what is open to the current version; a new file gets the rows that the folders give. */
static hs_status setup(hs_registry *registry, struct hs_registry_found *found, struct hs_error *err)
{
    hs_status status = hs_registry_exec(registry, "PRAGMA journal_mode = WAL", err);
    int64_t version = 0;
    bool has_wal = false;
    if (status == HS_OK)
        status = is_wal(registry, &has_wal, err);
    if (status == HS_OK && !has_wal)
        hs_log(HS_LOG_WARN, "storage",
               "the file system of '%s' allows no write-ahead log; the registry works without",
               registry->file);
    if (status == HS_OK)
        status = hs_registry_query_int(registry, "PRAGMA user_version", &version, err);
    if (status == HS_OK && version == HS_REGISTRY_VERSION)
        return HS_OK;
    if (status == HS_OK && version == 0)
        status = hs_registry_scan(registry->models_dir, registry->sessions_dir, found, err);
    if (status == HS_OK)
        status = migrate(registry, version, found, err);
    return status;
}

static hs_status make_folders(const hs_registry *registry, struct hs_error *err)
{
    hs_status status = hs_fs_mkdir_p(registry->models_dir, err);
    if (status == HS_OK)
        status = hs_fs_mkdir_p(registry->sessions_dir, err);
    return status;
}

static void report_repair(const hs_registry *registry, const char *aside,
                          const struct hs_registry_found *found)
{
    hs_log(HS_LOG_WARN, "storage",
           "the registry was damaged: it is kept as '%s' and was rebuilt from '%s' and '%s' with "
           "%zu models and %zu sessions; models that had been added from other folders must be "
           "added again with `hyprstream model add PATH`",
           aside, registry->models_dir, registry->sessions_dir, found->n_models, found->n_sessions);
}

/* Whether companions lie there without their database: what a kill during a repair leaves. */
static bool has_orphans(const hs_registry *registry)
{
    struct stat info;
    char wal[4096], shm[4096];
    snprintf(wal, sizeof wal, "%s-wal", registry->file);
    snprintf(shm, sizeof shm, "%s-shm", registry->file);
    return stat(registry->file, &info) != 0 && errno == ENOENT &&
           (access(wal, F_OK) == 0 || access(shm, F_OK) == 0);
}

static hs_status open_exclusive(hs_registry *registry, bool damaged, struct hs_error *err)
{
    hs_status status = make_folders(registry, err);
    if (status != HS_OK)
        return status;
    enum verdict verdict = VERDICT_DAMAGED;
    /* Somebody else may have repaired it while this process waited for the lock. */
    if (!damaged || hs_registry_has_moved(registry)) {
        if (has_orphans(registry))
            damaged = true;
        else
            status = try_open(registry, true, &verdict, err);
    }
    if (status != HS_OK || verdict == VERDICT_READY)
        return status;
    HS_CLEANUP(hs_freep) char *aside = NULL;
    if (verdict == VERDICT_DAMAGED) {
        status = set_aside(registry, &aside, err);
        if (status == HS_OK)
            status = try_open(registry, true, &verdict, err);
        if (status == HS_OK && verdict == VERDICT_DAMAGED)
            status = hs_registry_sql_error(registry, SQLITE_CORRUPT, "make", err);
    }
    struct hs_registry_found found = {0};
    if (status == HS_OK)
        status = setup(registry, &found, err);
    if (status == HS_OK && aside != NULL)
        report_repair(registry, aside, &found);
    hs_registry_found_free(&found);
    if (status != HS_OK)
        db_close(registry);
    return status;
}

hs_status hs_registry_reopen(hs_registry *registry, bool damaged, struct hs_error *err)
{
    db_close(registry);
    HS_CLEANUP(hs_closep) int lock = -1;
    hs_status status = lock_open(registry, &lock, err);
    enum verdict verdict = VERDICT_DAMAGED;
    if (status == HS_OK && !damaged) {
        status = lock_take(registry, lock, LOCK_SH, err);
        if (status == HS_OK)
            status = try_open(registry, false, &verdict, err);
    }
    if (status == HS_OK && verdict != VERDICT_READY) {
        db_close(registry);
        status = lock_take(registry, lock, LOCK_EX, err);
        if (status == HS_OK)
            status = open_exclusive(registry, damaged, err);
    }
    if (status == HS_OK)
        status = hs_registry_exec(registry, SETTINGS, err);
    return status;
}

/* ---- the object ---- */

static void registry_free(hs_registry *registry)
{
    db_close(registry);
    pthread_mutex_destroy(&registry->mutex);
    hs_free(registry->file);
    hs_free(registry->lock_file);
    hs_free(registry->models_dir);
    hs_free(registry->sessions_dir);
    hs_free(registry);
}

static hs_status registry_new(const struct hs_paths *paths, hs_registry **ret_registry,
                              struct hs_error *err)
{
    hs_registry *registry = hs_calloc(1, sizeof *registry);
    if (registry == NULL)
        return hs_error_nomem(err, "registry");
    if (pthread_mutex_init(&registry->mutex, NULL) != 0) {
        hs_free(registry);
        return hs_error_nomem(err, "registry");
    }
    registry->file = hs_strdup(paths->registry_file);
    registry->lock_file = hs_fs_join(paths->data_dir, "registry.lock");
    registry->models_dir = hs_strdup(paths->models_dir);
    registry->sessions_dir = hs_strdup(paths->sessions_dir);
    if (registry->file == NULL || registry->lock_file == NULL || registry->models_dir == NULL ||
        registry->sessions_dir == NULL) {
        registry_free(registry);
        return hs_error_nomem(err, "registry");
    }
    *ret_registry = registry;
    return HS_OK;
}

hs_status hs_registry_open(const struct hs_paths *paths, hs_registry **ret_registry,
                           struct hs_error *err)
{
    hs_registry *registry = NULL;
    hs_status status = hs_fs_mkdir_p(paths->data_dir, err);
    if (status == HS_OK)
        status = registry_new(paths, &registry, err);
    if (status != HS_OK)
        return status;
    status = hs_registry_reopen(registry, false, err);
    if (status != HS_OK) {
        registry_free(registry);
        return status;
    }
    hs_error_clear(err);
    *ret_registry = registry;
    return HS_OK;
}

void hs_registry_close(hs_registry *registry)
{
    if (registry != NULL)
        registry_free(registry);
}
