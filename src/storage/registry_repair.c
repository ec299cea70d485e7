/*
 * registry_repair.c - making, migrating and rebuilding the registry, all under the exclusive lock
 * of registry.lock.
 */
#include "registry_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#define EMPTY_BYTES_MAX 1 /* what SQLite counts as an empty file */
#define ASIDE_ATTEMPTS 1000

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
    for (size_t i = 0; status == HS_OK && i < found->n_adapters; i++)
        status = hs_registry_adapter_write(registry, &found->adapters[i], err);
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

/* Bring what is open to WAL mode and the current version. */
static hs_status update(hs_registry *registry, struct hs_error *err)
{
    static const struct hs_registry_found NOTHING = {0};
    int64_t version = 0;
    bool has_wal = false;
    hs_status status = hs_registry_exec(registry, "PRAGMA journal_mode = WAL", err);
    if (status == HS_OK)
        status = hs_registry_is_wal(registry, &has_wal, err);
    if (status == HS_OK && !has_wal)
        hs_log(HS_LOG_WARN, "storage",
               "the file system of '%s' allows no write-ahead log; the registry works without",
               registry->file);
    if (status == HS_OK)
        status = hs_registry_query_int(registry, "PRAGMA user_version", &version, err);
    if (status == HS_OK && version < HS_REGISTRY_VERSION)
        status = migrate(registry, version, &NOTHING, err);
    return status;
}

static hs_status write_new(hs_registry *registry, const char *path,
                           const struct hs_registry_found *found, struct hs_error *err)
{
    if (unlink(path) != 0 && errno != ENOENT) /* what a kill left */
        return hs_error_errno(err, errno, "remove", path);
    hs_status status = hs_registry_db_open(registry, path, true, err);
    /* Nothing to roll back to: a file that was not finished is thrown away. */
    if (status == HS_OK)
        status = hs_registry_exec(registry, "PRAGMA journal_mode = OFF", err);
    if (status == HS_OK)
        status = migrate(registry, 0, found, err);
    hs_registry_db_close(registry);
    if (status != HS_OK)
        (void)unlink(path);
    return status;
}

static hs_status make_folders(const hs_registry *registry, struct hs_error *err)
{
    hs_status status = hs_fs_mkdir_p(registry->models_dir, err);
    if (status == HS_OK)
        status = hs_fs_mkdir_p(registry->sessions_dir, err);
    if (status == HS_OK)
        status = hs_fs_mkdir_p(registry->adapters_dir, err);
    return status;
}

static void report_repair(const hs_registry *registry, const char *aside,
                          const struct hs_registry_found *found)
{
    hs_log(HS_LOG_WARN, "storage",
           "the registry was damaged: it is kept as '%s' and was rebuilt from '%s', '%s' and '%s' "
           "with %zu models, %zu sessions and %zu versions of adapters; models that had been added "
           "from other folders must be added again with `hyprstream model add PATH`",
           aside, registry->models_dir, registry->sessions_dir, registry->adapters_dir,
           found->n_models, found->n_sessions, found->n_adapters);
}

bool hs_registry_is_hollow(const hs_registry *registry)
{
    struct stat info;
    char wal[4096], shm[4096];
    if (stat(registry->file, &info) == 0)
        return S_ISREG(info.st_mode) && info.st_size <= EMPTY_BYTES_MAX;
    snprintf(wal, sizeof wal, "%s-wal", registry->file);
    snprintf(shm, sizeof shm, "%s-shm", registry->file);
    return errno == ENOENT && (access(wal, F_OK) == 0 || access(shm, F_OK) == 0);
}

/* Make a registry from what the folders hold. It is written under another name and renamed when it
 * is whole, so that a half-made one never takes its place; the damaged one goes last. */
static hs_status rebuild(hs_registry *registry, bool damaged, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_asprintf("%s.new", registry->file);
    HS_CLEANUP(hs_freep) char *aside = NULL;
    struct hs_registry_found found = {0};
    if (path == NULL)
        return hs_error_nomem(err, "registry");
    hs_status status = make_folders(registry, err);
    if (status == HS_OK)
        status = hs_registry_scan(registry, &found, err);
    if (status == HS_OK)
        status = write_new(registry, path, &found, err);
    if (status == HS_OK && damaged)
        status = set_aside(registry, &aside, err);
    if (status == HS_OK && rename(path, registry->file) != 0)
        status = hs_error_errno(err, errno, "rename", path);
    if (status == HS_OK && damaged)
        report_repair(registry, aside, &found);
    hs_registry_found_free(&found);
    return status;
}

hs_status hs_registry_open_exclusive(hs_registry *registry, bool damaged, struct hs_error *err)
{
    enum hs_registry_verdict verdict = HS_REGISTRY_DAMAGED;
    hs_status status = HS_OK;
    /* Somebody else may have repaired it while this process waited for the lock. */
    bool is_known_damaged = damaged && !hs_registry_has_moved(registry);
    if (!is_known_damaged)
        status = hs_registry_try_open(registry, &verdict, err);
    if (status != HS_OK || verdict == HS_REGISTRY_READY)
        return status;
    if (verdict != HS_REGISTRY_OUTDATED) {
        bool is_damaged = verdict == HS_REGISTRY_DAMAGED || hs_registry_is_hollow(registry);
        status = rebuild(registry, is_damaged, err);
        if (status == HS_OK)
            status = hs_registry_db_open(registry, registry->file, false, err);
    }
    if (status == HS_OK)
        status = update(registry, err);
    if (status != HS_OK)
        hs_registry_db_close(registry);
    return status;
}
