/*
 * adapter_store.c - the adapters folder: making, sealing, sweeping and removing versions.
 *
 * Order is what makes a kill harmless. A new version: files in <id>/new, renamed to <id>/<version>,
 * row, adapter.json. A removal: adapter.json, row, files. So a folder without adapter.json is
 * either in the registry, then only its seal is missing, or was never wanted or is not wanted any
 * more.
 */
#include "registry_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#define LOCK_WAIT_MS 30000
#define LOCK_POLL_US 5000
#define COPY_BYTES (1u << 20)
#define SEAL "adapter.json"

static const char NAME_CHARS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

static hs_status check_name(const char *name, struct hs_error *err)
{
    size_t len = strnlen(name, HS_REGISTRY_ADAPTER_NAME_MAX + 1);
    if (len >= 1 && len <= HS_REGISTRY_ADAPTER_NAME_MAX && name[0] != '.' &&
        strspn(name, NAME_CHARS) == len)
        return HS_OK;
    hs_error_set(err, HS_INVALID_ARGUMENT, "'%.120s' cannot name an adapter", name);
    hs_error_hint(err, "use 1 to %u letters, digits, '.', '_' and '-', not beginning with '.'",
                  HS_REGISTRY_ADAPTER_NAME_MAX);
    return HS_INVALID_ARGUMENT;
}

/* ---- places ---- */

char *hs_adapter_store_path(const char *adapters_dir, const char *id, int64_t version,
                            const char *file)
{
    return hs_asprintf("%s/%s/%lld%s%s", adapters_dir, id, (long long)version,
                       file == NULL ? "" : "/", file == NULL ? "" : file);
}

/* 0: not the name of a version's folder. */
static int64_t version_of(const char *name)
{
    size_t len = strspn(name, "0123456789");
    bool is_one = len > 0 && len <= 9 && name[len] == 0 && name[0] != '0';
    return is_one ? strtoll(name, NULL, 10) : 0;
}

static bool is_id(const char *name)
{
    return strlen(name) == 16 && strspn(name, "0123456789abcdef") == 16;
}

static hs_status lock_folder(const hs_registry *registry, int *ret_fd, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(registry->adapters_dir, "lock");
    if (path == NULL)
        return hs_error_nomem(err, "path of an adapter");
    hs_status status = hs_fs_mkdir_p(registry->adapters_dir, err);
    if (status != HS_OK)
        return status;
    HS_CLEANUP(hs_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return hs_error_errno(err, errno, "open", path);
    double deadline = hs_clock_ms() + LOCK_WAIT_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return hs_error_errno(err, errno, "lock", path);
        if (hs_clock_ms() > deadline) {
            hs_error_set(err, HS_BUSY, "another process has changed adapters for %d s",
                         LOCK_WAIT_MS / 1000);
            return hs_error_hint(err, "try again, or end the other hyprstream process");
        }
        usleep(LOCK_POLL_US);
    }
    *ret_fd = fd;
    fd = -1;
    return HS_OK;
}

/* ---- folders ---- */

/* Called with the name of each entry but "." and "..". */
typedef hs_status (*entry_fn)(const char *folder, const char *name, void *user,
                              struct hs_error *err);

static int is_any(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Versions in ascending order. */
static int compare(const struct dirent **a, const struct dirent **b)
{
    int64_t x = version_of((*a)->d_name), y = version_of((*b)->d_name);
    return x != y ? (x < y ? -1 : 1) : strcmp((*a)->d_name, (*b)->d_name);
}

/* A missing folder has no entries. */
static hs_status for_each(const char *folder, entry_fn visit, void *user, struct hs_error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_any, compare);
    if (n < 0)
        return errno == ENOENT ? HS_OK : hs_error_errno(err, errno, "read", folder);
    hs_status status = HS_OK;
    for (int i = 0; i < n; i++) {
        if (status == HS_OK)
            status = visit(folder, entries[i]->d_name, user, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static hs_status sync_folder(const char *path, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* some file systems cannot sync folders, and say EINVAL */
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP))
        return hs_error_errno(err, errno, "write", path);
    return HS_OK;
}

static hs_status copy_file(const char *from, const char *to, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int in = -1;
    HS_CLEANUP(hs_freep) char *block = hs_alloc(COPY_BYTES);
    struct hs_fs_atomic out = {.fd = -1};
    struct stat info;
    if (block == NULL)
        return hs_error_nomem(err, "copy of a file");
    hs_status status = hs_fs_open(from, &in, &info, err);
    status = status == HS_OK ? hs_fs_atomic_begin(to, 0600, &out, err) : status;
    ssize_t n = 1;
    while (status == HS_OK && n > 0) {
        n = read(in, block, COPY_BYTES);
        if (n < 0 && errno != EINTR)
            status = hs_error_errno(err, errno, "read", from);
        else if (n > 0)
            status = hs_fs_atomic_write(&out, block, (size_t)n, err);
        n = n < 0 ? 1 : n;
    }
    if (status == HS_OK)
        return hs_fs_atomic_commit(&out, err);
    hs_fs_atomic_abort(&out);
    return status;
}

/* ---- what a kill left ---- */

static hs_status seal(const hs_registry *registry, const struct hs_registry_adapter *row,
                      struct hs_error *err)
{
    HS_CLEANUP(hs_freep)
    char *path = hs_adapter_store_path(registry->adapters_dir, row->id, row->version, SEAL);
    return path == NULL ? hs_error_nomem(err, "path of an adapter")
                        : hs_adapter_json_write(path, row, err);
}

struct sweep {
    hs_registry *registry;
    const char *id;
    size_t n_left;
};

static hs_status sweep_version(const char *folder, const char *name, void *user,
                               struct hs_error *err)
{
    struct sweep *sweep = user;
    int64_t version = version_of(name);
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, name);
    HS_CLEANUP(hs_freep) char *sealed = path == NULL ? NULL : hs_fs_join(path, SEAL);
    if (sealed == NULL)
        return hs_error_nomem(err, "path of an adapter");
    sweep->n_left++;
    bool is_new = strcmp(name, "new") == 0;
    if (!is_new && (version == 0 || access(sealed, F_OK) == 0))
        return HS_OK;
    struct hs_registry_adapter row = {0};
    hs_status status =
        is_new ? HS_NOT_FOUND
               : hs_registry_adapter_version(sweep->registry, sweep->id, version, &row, err);
    if (status == HS_OK)
        status = seal(sweep->registry, &row, err);
    else if (status == HS_NOT_FOUND) {
        status = hs_fs_remove_all(path, err);
        sweep->n_left--;
    }
    hs_registry_adapter_free(&row);
    return status;
}

static hs_status sweep_id(const char *folder, const char *name, void *user, struct hs_error *err)
{
    struct sweep sweep = {.registry = user, .id = name};
    if (!is_id(name))
        return HS_OK;
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, name);
    if (path == NULL)
        return hs_error_nomem(err, "path of an adapter");
    hs_status status = for_each(path, sweep_version, &sweep, err);
    if (status == HS_OK && sweep.n_left == 0)
        (void)rmdir(path); /* best effort: an empty folder is no adapter */
    return status;
}

/* Every change begins with the lock and with order. */
static hs_status begin(hs_registry *registry, int *ret_lock, struct hs_error *err)
{
    hs_status status = lock_folder(registry, ret_lock, err);
    return status == HS_OK ? for_each(registry->adapters_dir, sweep_id, registry, err) : status;
}

/* ---- a new version ---- */

static hs_status make_id(char ret_id[17], struct hs_error *err)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return hs_error_errno(err, errno, "draw a random number for", "an adapter");
    snprintf(ret_id, 17, "%016llx", (unsigned long long)bits);
    return HS_OK;
}

static hs_status keep_greatest(const char *folder, const char *name, void *user,
                               struct hs_error *err)
{
    (void)folder;
    (void)err;
    int64_t *greatest = user, version = version_of(name);
    *greatest = version > *greatest ? version : *greatest;
    return HS_OK;
}

static hs_status copy_files(const char *folder, const struct hs_registry_adapter_add *how,
                            struct hs_error *err)
{
    hs_status status = hs_fs_mkdir_p(folder, err);
    for (size_t i = 0; i < how->n_files && status == HS_OK; i++) {
        HS_CLEANUP(hs_freep) char *to = hs_fs_join(folder, how->files[i].name);
        status = to == NULL ? hs_error_nomem(err, "path of an adapter")
                            : copy_file(how->files[i].path, to, err);
    }
    return status == HS_OK ? sync_folder(folder, err) : status;
}

/* Files in their place; row->version is chosen. */
static hs_status place(const hs_registry *registry, const struct hs_registry_adapter_add *how,
                       struct hs_registry_adapter *row, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *folder = hs_fs_join(registry->adapters_dir, row->id);
    HS_CLEANUP(hs_freep) char *staged = folder == NULL ? NULL : hs_fs_join(folder, "new");
    if (staged == NULL)
        return hs_error_nomem(err, "path of an adapter");
    hs_status status = for_each(folder, keep_greatest, &row->version, err);
    row->version++;
    HS_CLEANUP(hs_freep)
    char *target = hs_adapter_store_path(registry->adapters_dir, row->id, row->version, NULL);
    if (target == NULL)
        return hs_error_nomem(err, "path of an adapter");
    status = status == HS_OK ? copy_files(staged, how, err) : status;
    if (status == HS_OK && rename(staged, target) != 0)
        status = hs_error_errno(err, errno, "write", target);
    if (status == HS_OK)
        return sync_folder(folder, err);
    struct hs_error ignored;
    if (hs_fs_remove_all(staged, &ignored) != HS_OK) /* the next change tries again */
        hs_log(HS_LOG_DEBUG, "storage", "%s", ignored.message);
    return status;
}

/* Take a version out: its seal, its row, its files. */
static hs_status drop_version(hs_registry *registry, const char *id, int64_t version,
                              struct hs_error *err)
{
    HS_CLEANUP(hs_freep)
    char *folder = hs_adapter_store_path(registry->adapters_dir, id, version, NULL);
    HS_CLEANUP(hs_freep) char *sealed = folder == NULL ? NULL : hs_fs_join(folder, SEAL);
    if (sealed == NULL)
        return hs_error_nomem(err, "path of an adapter");
    hs_status status = hs_fs_remove_all(sealed, err);
    if (status == HS_OK)
        status = hs_registry_adapter_forget(registry, id, version, err);
    return status == HS_OK ? hs_fs_remove_all(folder, err) : status;
}

/* The adapter is added by now: what cannot be dropped is only told of. */
static void drop_old_versions(hs_registry *registry, const struct hs_registry_adapter *row,
                              int64_t n_keep)
{
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    struct hs_error err;
    hs_status status = hs_registry_adapter_history(registry, row->name, &rows, &n, &err);
    for (size_t i = n_keep < 1 ? 1 : (size_t)n_keep; i < n && status == HS_OK; i++)
        status = drop_version(registry, rows[i].id, rows[i].version, &err);
    if (status != HS_OK)
        hs_log(HS_LOG_WARN, "storage", "an old version of '%s' stays: %s", row->name, err.message);
    hs_registry_adapters_free(rows, n);
}

/* A copy of `from` in place of what is there. */
static hs_status set_text(char **text, const char *from, struct hs_error *err)
{
    char *copy = hs_strdup(from == NULL ? "" : from);
    if (copy == NULL)
        return hs_error_nomem(err, "row of an adapter");
    hs_free(*text);
    *text = copy;
    return HS_OK;
}

/* The row to be, of what the caller knows and what the adapter had. */
static hs_status make_row(const struct hs_registry_adapter *given,
                          const struct hs_registry_adapter *before, struct hs_registry_adapter *row,
                          struct hs_error *err)
{
    char id[17] = "";
    hs_status status = HS_OK;
    *row = *given;
    for (size_t i = 0; HS_REGISTRY_ADAPTER_TEXTS[i].name != NULL; i++) {
        char *none = NULL;
        memcpy((char *)row + HS_REGISTRY_ADAPTER_TEXTS[i].offset, &none, sizeof none);
    }
    for (size_t i = 0; HS_REGISTRY_ADAPTER_TEXTS[i].name != NULL && status == HS_OK; i++) {
        size_t offset = HS_REGISTRY_ADAPTER_TEXTS[i].offset;
        const char *text = *(char *const *)((const char *)given + offset);
        const char *old = *(char *const *)((const char *)before + offset);
        bool stays = offset == offsetof(struct hs_registry_adapter, description) ||
                     offset == offsetof(struct hs_registry_adapter, tags) ||
                     offset == offsetof(struct hs_registry_adapter, examples);
        bool is_list = offset == offsetof(struct hs_registry_adapter, tags) ||
                       offset == offsetof(struct hs_registry_adapter, examples) ||
                       offset == offsetof(struct hs_registry_adapter, parents);
        text = text == NULL && stays ? old : text;
        text = (text == NULL || *text == 0) && is_list ? "[]" : text;
        status = set_text((char **)((char *)row + offset), text, err);
    }
    if (status == HS_OK && before->id == NULL)
        status = make_id(id, err);
    status =
        status == HS_OK ? set_text(&row->id, before->id == NULL ? id : before->id, err) : status;
    row->version = before->version;
    row->created_unix_ms = row->updated_unix_ms = hs_clock_unix_ms();
    row->added_unix_ms = before->id == NULL ? row->created_unix_ms : before->added_unix_ms;
    row->used_unix_ms = before->used_unix_ms;
    row->n_uses = before->n_uses;
    row->used_ms = before->used_ms;
    return status;
}

static hs_status name_taken(const struct hs_registry_adapter *before, struct hs_error *err)
{
    hs_error_set(err, HS_ALREADY_EXISTS, "there is an adapter '%s' already, version %lld",
                 before->name, (long long)before->version);
    return hs_error_hint(err, "--replace makes this its next version; --name gives another name");
}

/* With the lock held. */
static hs_status add_locked(hs_registry *registry, const struct hs_registry_adapter_add *how,
                            struct hs_registry_adapter *row, struct hs_error *err)
{
    hs_status status = place(registry, how, row, err);
    if (status != HS_OK)
        return status;
    status = hs_registry_adapter_insert(registry, row, err);
    struct hs_error own;
    if (status != HS_OK) {
        if (drop_version(registry, row->id, row->version, &own) != HS_OK)
            hs_log(HS_LOG_DEBUG, "storage", "%s", own.message);
        return status;
    }
    if (seal(registry, row, &own) != HS_OK) /* the next change seals it */
        hs_log(HS_LOG_WARN, "storage", "%s", own.message);
    drop_old_versions(registry, row, how->n_keep);
    hs_registry_sync(registry);
    return HS_OK;
}

hs_status hs_registry_adapter_add(hs_registry *registry, const struct hs_registry_adapter *given,
                                  const struct hs_registry_adapter_add *how,
                                  struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    struct hs_registry_adapter before HS_CLEANUP(hs_registry_adapter_free) = {0};
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    HS_CLEANUP(hs_closep) int lock = -1;
    hs_status status = check_name(given->name, err);
    status = status == HS_OK ? begin(registry, &lock, err) : status;
    if (status != HS_OK)
        return status;
    status = hs_registry_adapter_get(registry, given->name, &before, err);
    if (status == HS_OK && !how->replaces)
        return name_taken(&before, err);
    if (status == HS_OK || status == HS_NOT_FOUND)
        status = make_row(given, &before, &row, err);
    row.is_linked = how->n_files == 0;
    status = status == HS_OK ? add_locked(registry, how, &row, err) : status;
    if (status == HS_OK && ret_row != NULL)
        status = hs_registry_adapter_get(registry, row.name, ret_row, err);
    return status;
}

/* ---- changes ---- */

static hs_status drop_seal(const char *folder, const char *name, void *user, struct hs_error *err)
{
    (void)user;
    HS_CLEANUP(hs_freep) char *sealed = hs_asprintf("%s/%s/" SEAL, folder, name);
    return sealed == NULL ? hs_error_nomem(err, "path of an adapter")
                          : hs_fs_remove_all(sealed, err);
}

hs_status hs_registry_adapter_remove(hs_registry *registry, const char *name, struct hs_error *err)
{
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    HS_CLEANUP(hs_closep) int lock = -1;
    HS_CLEANUP(hs_freep) char *folder = NULL;
    hs_status status = begin(registry, &lock, err);
    status = status == HS_OK ? hs_registry_adapter_get(registry, name, &row, err) : status;
    if (status != HS_OK)
        return status;
    folder = hs_fs_join(registry->adapters_dir, row.id);
    if (folder == NULL)
        return hs_error_nomem(err, "path of an adapter");
    status = for_each(folder, drop_seal, NULL, err);
    status = status == HS_OK ? hs_registry_adapter_forget(registry, row.id, 0, err) : status;
    if (status != HS_OK)
        return status;
    hs_registry_sync(registry);
    return hs_fs_remove_all(folder, err);
}

/* Write the row's adapter, and the adapter.json of its current version. */
static hs_status update(hs_registry *registry, struct hs_registry_adapter *row,
                        struct hs_error *err)
{
    row->updated_unix_ms = hs_clock_unix_ms();
    hs_status status = hs_registry_adapter_update(registry, row, err);
    return status == HS_OK ? seal(registry, row, err) : status;
}

hs_status hs_registry_adapter_rename(hs_registry *registry, const char *name, const char *new_name,
                                     struct hs_error *err)
{
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    struct hs_registry_adapter other HS_CLEANUP(hs_registry_adapter_free) = {0};
    HS_CLEANUP(hs_closep) int lock = -1;
    hs_status status = check_name(new_name, err);
    status = status == HS_OK ? begin(registry, &lock, err) : status;
    status = status == HS_OK ? hs_registry_adapter_get(registry, name, &row, err) : status;
    if (status != HS_OK || strcmp(name, new_name) == 0)
        return status;
    status = hs_registry_adapter_get(registry, new_name, &other, err);
    if (status == HS_OK) {
        hs_error_set(err, HS_ALREADY_EXISTS, "there is an adapter '%s' already", new_name);
        return hs_error_hint(err, "choose another name, or remove that one first");
    }
    if (status != HS_NOT_FOUND)
        return status;
    status = set_text(&row.name, new_name, err);
    return status == HS_OK ? update(registry, &row, err) : status;
}

hs_status hs_registry_adapter_describe(hs_registry *registry, const char *name,
                                       const char *description, const char *tags,
                                       const char *examples, struct hs_error *err)
{
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    HS_CLEANUP(hs_closep) int lock = -1;
    hs_status status = begin(registry, &lock, err);
    status = status == HS_OK ? hs_registry_adapter_get(registry, name, &row, err) : status;
    if (status == HS_OK && description != NULL)
        status = set_text(&row.description, description, err);
    if (status == HS_OK && tags != NULL)
        status = set_text(&row.tags, tags, err);
    if (status == HS_OK && examples != NULL)
        status = set_text(&row.examples, examples, err);
    return status == HS_OK ? update(registry, &row, err) : status;
}

/* ---- making the registry anew ---- */

struct found {
    struct hs_registry_adapter *rows;
    size_t n, capacity;
    const char *id;
};

static hs_status find_version(const char *folder, const char *name, void *user,
                              struct hs_error *err)
{
    struct found *found = user;
    struct hs_error why = {0};
    HS_CLEANUP(hs_freep) char *path = hs_asprintf("%s/%s/" SEAL, folder, name);
    if (path == NULL)
        return hs_error_nomem(err, "list of adapters");
    if (version_of(name) == 0 || access(path, F_OK) != 0)
        return HS_OK;
    if (found->n == found->capacity) {
        size_t capacity = found->capacity == 0 ? 8 : 2 * found->capacity;
        struct hs_registry_adapter *rows = hs_realloc_array(found->rows, capacity, sizeof *rows);
        if (rows == NULL)
            return hs_error_nomem(err, "list of adapters");
        found->rows = rows;
        found->capacity = capacity;
    }
    struct hs_registry_adapter *row = &found->rows[found->n];
    hs_status status = hs_adapter_json_read(path, row, &why);
    if (status == HS_OUT_OF_MEMORY)
        return hs_error_nomem(err, "list of adapters");
    bool fits = status == HS_OK && strcmp(row->id, found->id) == 0 &&
                row->version == version_of(name) && check_name(row->name, &why) == HS_OK;
    if (fits)
        found->n++;
    else
        hs_log(HS_LOG_WARN, "storage", "left out of the registry: '%s': %s", path,
               why.message[0] != 0 ? why.message : "it belongs to another folder");
    if (!fits && status == HS_OK)
        hs_registry_adapter_free(row);
    return HS_OK;
}

static hs_status find_id(const char *folder, const char *name, void *user, struct hs_error *err)
{
    struct found *found = user;
    struct hs_error why = {0};
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, name);
    if (path == NULL)
        return hs_error_nomem(err, "list of adapters");
    found->id = name;
    hs_status status = is_id(name) ? for_each(path, find_version, found, &why) : HS_OK;
    if (status == HS_OUT_OF_MEMORY)
        return hs_error_nomem(err, "list of adapters");
    if (status != HS_OK)
        hs_log(HS_LOG_WARN, "storage", "left out of the registry: %s", why.message);
    return HS_OK;
}

/* The versions of an id get its last one's name; a name that another id has, gets the id behind it.
 */
static hs_status settle_names(struct found *found, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = found->n; i > 0 && status == HS_OK; i--) {
        struct hs_registry_adapter *row = &found->rows[i - 1];
        bool has_next = i < found->n && strcmp(row->id, row[1].id) == 0;
        bool is_taken = false;
        for (size_t j = i; j < found->n && !has_next && !is_taken; j++)
            is_taken = strcmp(found->rows[j].name, row->name) == 0;
        if (!has_next && !is_taken)
            continue;
        HS_CLEANUP(hs_freep)
        char *name =
            has_next ? hs_strdup(row[1].name) : hs_asprintf("%.47s-%s", row->name, row->id);
        status = name == NULL ? hs_error_nomem(err, "list of adapters")
                              : set_text(&row->name, name, err);
    }
    return status;
}

hs_status hs_adapter_store_scan(const char *adapters_dir, struct hs_registry_adapter **ret_rows,
                                size_t *ret_n, struct hs_error *err)
{
    struct found found = {0};
    hs_status status = for_each(adapters_dir, find_id, &found, err);
    status = status == HS_OK ? settle_names(&found, err) : status;
    if (status != HS_OK) {
        hs_registry_adapters_free(found.rows, found.n);
        return status;
    }
    *ret_rows = found.rows;
    *ret_n = found.n;
    return HS_OK;
}
