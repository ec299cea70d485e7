/*
 * registry.c - opening the registry: its lock, its version, whether it is sound.
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
#define LOCK_POLL_US 2000

/* After a power failure the last changes may be missing, never part of one: sessions are synced for
 * themselves, and adding a model ends with a checkpoint, which syncs. The log is merged when it has
 * 64 pages, so that whoever opens it next has little to read. */
static const char SETTINGS[] = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 64";

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
void hs_registry_db_close(hs_registry *registry)
{
    if (registry->db != NULL)
        sqlite3_db_config(registry->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(registry->db);
    registry->db = NULL;
}

/* SQLite makes files as the umask says, and its log and index as the database is. Best effort: what
 * cannot be made or changed here is told of by SQLite. */
static void keep_private(const char *path, bool create)
{
    int fd = create ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0)
        close(fd);
    static const char *const companions[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++) {
        HS_CLEANUP(hs_freep) char *file = hs_asprintf("%s%s", path, companions[i]);
        struct stat info;
        if (file != NULL && lstat(file, &info) == 0 && S_ISREG(info.st_mode) &&
            (info.st_mode & 077) != 0 && chmod(file, 0600) != 0)
            hs_log(HS_LOG_DEBUG, "storage", "cannot change the mode of '%s'", file);
    }
}

hs_status hs_registry_db_open(hs_registry *registry, const char *path, bool create,
                              struct hs_error *err)
{
    keep_private(path, create);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(path, &registry->db, flags, NULL);
    struct stat info = {0};
    if (rc == SQLITE_OK && stat(path, &info) != 0)
        rc = SQLITE_CANTOPEN;
    if (rc != SQLITE_OK) {
        hs_status status = hs_registry_sql_error(registry, rc, "open", err);
        hs_registry_db_close(registry);
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
static hs_status check_pages(hs_registry *registry, enum hs_registry_verdict *ret_verdict,
                             struct hs_error *err)
{
    *ret_verdict = HS_REGISTRY_READY;
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
    *ret_verdict = HS_REGISTRY_DAMAGED;
    return HS_OK;
}

/* Whether the tables are those of the current version, on sound pages. */
static hs_status check_contents(hs_registry *registry, enum hs_registry_verdict *ret_verdict,
                                struct hs_error *err)
{
    for (int i = 0; HS_REGISTRY_PROBES[i] != NULL; i++) {
        HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
        int rc = sqlite3_prepare_v2(registry->db, HS_REGISTRY_PROBES[i], -1, &statement, NULL);
        if (rc == SQLITE_ERROR) {
            *ret_verdict = HS_REGISTRY_DAMAGED;
            return HS_OK;
        }
        if (rc != SQLITE_OK)
            return hs_registry_sql_error(registry, rc, "read", err);
    }
    return check_pages(registry, ret_verdict, err);
}

hs_status hs_registry_is_wal(hs_registry *registry, bool *ret_is_wal, struct hs_error *err)
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

static hs_status inspect(hs_registry *registry, enum hs_registry_verdict *ret_verdict,
                         struct hs_error *err)
{
    int64_t id = 0, version = 0;
    bool has_wal = false;
    hs_status status = hs_registry_query_int(registry, "PRAGMA application_id", &id, err);
    if (status == HS_OK)
        status = hs_registry_query_int(registry, "PRAGMA user_version", &version, err);
    if (status == HS_OK)
        status = hs_registry_is_wal(registry, &has_wal, err);
    if (status != HS_OK)
        return status;
    bool is_read_only = sqlite3_db_readonly(registry->db, "main") == 1;
    if (is_read_only && access(registry->file, W_OK) != 0)
        return hs_registry_sql_error(registry, SQLITE_READONLY, "open", err);
    /* The header of a database may forbid to write; ours never does. */
    *ret_verdict = HS_REGISTRY_DAMAGED;
    if (is_read_only || id != HS_REGISTRY_APPLICATION_ID || version < 1 ||
        version > VERSION_PLAUSIBLE)
        return HS_OK;
    if (version > HS_REGISTRY_VERSION)
        return newer_version(registry, version, err);
    *ret_verdict = HS_REGISTRY_OUTDATED;
    if (version < HS_REGISTRY_VERSION || !has_wal)
        return HS_OK;
    return check_contents(registry, ret_verdict, err);
}

hs_status hs_registry_try_open(hs_registry *registry, enum hs_registry_verdict *ret_verdict,
                               struct hs_error *err)
{
    struct stat info;
    bool is_there = stat(registry->file, &info) == 0 || errno != ENOENT;
    if (!is_there || hs_registry_is_hollow(registry)) {
        *ret_verdict = is_there ? HS_REGISTRY_DAMAGED : HS_REGISTRY_MISSING;
        return HS_OK;
    }
    hs_status status = hs_registry_db_open(registry, registry->file, false, err);
    if (status == HS_OK)
        status = inspect(registry, ret_verdict, err);
    if (status == HS_CORRUPT) {
        *ret_verdict = HS_REGISTRY_DAMAGED;
        status = HS_OK;
    }
    if (status != HS_OK || *ret_verdict == HS_REGISTRY_DAMAGED)
        hs_registry_db_close(registry);
    return status;
}

/* ---- opening ---- */

hs_status hs_registry_reopen(hs_registry *registry, bool damaged, struct hs_error *err)
{
    hs_registry_db_close(registry);
    HS_CLEANUP(hs_closep) int lock = -1;
    hs_status status = lock_open(registry, &lock, err);
    enum hs_registry_verdict verdict = HS_REGISTRY_DAMAGED;
    if (status == HS_OK && !damaged) {
        status = lock_take(registry, lock, LOCK_SH, err);
        if (status == HS_OK)
            status = hs_registry_try_open(registry, &verdict, err);
    }
    if (status == HS_OK && verdict != HS_REGISTRY_READY) {
        hs_registry_db_close(registry);
        status = lock_take(registry, lock, LOCK_EX, err);
        if (status == HS_OK)
            status = hs_registry_open_exclusive(registry, damaged, err);
    }
    if (status == HS_OK)
        status = hs_registry_exec(registry, SETTINGS, err);
    return status;
}

/* ---- the object ---- */

static void registry_free(hs_registry *registry)
{
    hs_registry_db_close(registry);
    pthread_mutex_destroy(&registry->mutex);
    hs_free(registry->file);
    hs_free(registry->lock_file);
    hs_free(registry->models_dir);
    hs_free(registry->sessions_dir);
    hs_free(registry->adapters_dir);
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
    registry->adapters_dir = hs_strdup(paths->adapters_dir);
    if (registry->file == NULL || registry->lock_file == NULL || registry->models_dir == NULL ||
        registry->sessions_dir == NULL || registry->adapters_dir == NULL) {
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
