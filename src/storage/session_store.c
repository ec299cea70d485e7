/*
 * session_store.c - the folder of a session: its lock, which file is replaced when, listing and
 * removal.
 *
 * A folder's `lock` file is never removed while somebody else could hold it: whoever removes it
 * holds the lock, and whoever gets the lock checks that the file is still the one in the folder.
 */
#include "session_store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#define ATTEMPTS 1000

struct hs_session_file {
    char name[HS_SESSION_NAME_MAX + 1];
    char *folder;
    char *json_path;
    char *kv_path;
    char *kv_tmp_path;
    char *lock_path;
    int lock_fd;
    bool is_ours; /* session.json was read or written by this handle: replacing it loses nothing */
};

bool hs_session_name_ok(const char *name)
{
    size_t len = strnlen(name, HS_SESSION_NAME_MAX + 1);
    return len >= 1 && len <= HS_SESSION_NAME_MAX && name[0] != '.' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

hs_status hs_session_name_check(const char *name, struct hs_error *err)
{
    if (hs_session_name_ok(name))
        return HS_OK;
    hs_error_set(err, HS_INVALID_ARGUMENT, "'%.80s' cannot be the name of a session", name);
    hs_error_hint(err, "use 1 to %u letters (a-z, A-Z), digits, '.', '_' or '-', not '.' first",
                  HS_SESSION_NAME_MAX);
    return HS_INVALID_ARGUMENT;
}

static hs_status not_found(const char *name, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_FOUND, "there is no session named '%s'", name);
    hs_error_hint(err, "run `hyprstream session list` to see the names");
    return HS_NOT_FOUND;
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* ---- the lock ---- */

static hs_status busy(const hs_session_file *file, int fd, struct hs_error *err)
{
    char text[16];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    text[strspn(text, "0123456789")] = 0;
    hs_error_set(err, HS_BUSY, "session '%s' is in use by %s%s", file->name,
                 text[0] == 0 ? "another process" : "process ", text);
    hs_error_hint(err, "end that one first, or choose another session");
    return HS_BUSY;
}

static bool is_still_there(const char *path, int fd)
{
    struct stat open_file, on_disk;
    return fstat(fd, &open_file) == 0 && lstat(path, &on_disk) == 0 &&
           open_file.st_dev == on_disk.st_dev && open_file.st_ino == on_disk.st_ino;
}

/* ret_fd -1 on HS_OK: the file was removed meanwhile. */
static hs_status lock_once(const hs_session_file *file, int *ret_fd, struct hs_error *err)
{
    HS_CLEANUP(hs_closep)
    int fd = open(file->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    *ret_fd = -1;
    if (fd < 0)
        return errno == ENOENT ? HS_OK : hs_error_errno(err, errno, "open", file->lock_path);
    int rc;
    do
        rc = flock(fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno == EWOULDBLOCK)
        return busy(file, fd, err);
    if (rc != 0)
        return hs_error_errno(err, errno, "lock", file->lock_path);
    if (is_still_there(file->lock_path, fd)) {
        *ret_fd = fd;
        fd = -1;
    }
    return HS_OK;
}

/* The process id is for the message of whoever comes second; without it the lock holds as well. */
static void write_owner(int fd)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        hs_log(HS_LOG_DEBUG, "storage", "cannot note the process id in a session's lock");
}

static hs_status take_lock(hs_session_file *file, bool create, struct hs_error *err)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (create) {
            hs_status status = hs_fs_mkdir_p(file->folder, err);
            if (status != HS_OK)
                return status;
        } else if (!exists(file->folder)) {
            return not_found(file->name, err);
        }
        hs_status status = lock_once(file, &file->lock_fd, err);
        if (status != HS_OK)
            return status;
        if (file->lock_fd >= 0) {
            write_owner(file->lock_fd);
            return HS_OK;
        }
    }
    return hs_error_set(err, HS_BUSY, "session '%s' is being made and removed all the time",
                        file->name);
}

/* ---- opening and closing ---- */

static void file_free(hs_session_file *file)
{
    hs_closep(&file->lock_fd);
    hs_free(file->folder);
    hs_free(file->json_path);
    hs_free(file->kv_path);
    hs_free(file->kv_tmp_path);
    hs_free(file->lock_path);
    hs_free(file);
}

static hs_status file_new(const char *sessions_dir, const char *name, hs_session_file **ret_file,
                          struct hs_error *err)
{
    hs_status status = hs_session_name_check(name, err);
    if (status != HS_OK)
        return status;
    hs_session_file *file = hs_calloc(1, sizeof *file);
    if (file == NULL)
        return hs_error_nomem(err, "handle of a session");
    file->lock_fd = -1;
    memcpy(file->name, name, strlen(name) + 1);
    file->folder = hs_fs_join(sessions_dir, name);
    if (file->folder != NULL) {
        file->json_path = hs_fs_join(file->folder, "session.json");
        file->kv_path = hs_fs_join(file->folder, "kv.bin");
        file->kv_tmp_path = hs_fs_join(file->folder, "kv.bin.tmp");
        file->lock_path = hs_fs_join(file->folder, "lock");
    }
    if (file->json_path == NULL || file->kv_path == NULL || file->kv_tmp_path == NULL ||
        file->lock_path == NULL) {
        file_free(file);
        return hs_error_nomem(err, "handle of a session");
    }
    *ret_file = file;
    return HS_OK;
}

/* Unless somebody else is in it already, which makes rmdir fail and is as it should be. */
static void remove_folder_locked(hs_session_file *file)
{
    if (unlink(file->lock_path) == 0)
        (void)rmdir(file->folder);
}

static bool is_only_lock_left(const hs_session_file *file)
{
    DIR *dir = opendir(file->folder);
    if (dir == NULL)
        return false;
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n++;
    closedir(dir);
    return n == 3; /* ".", ".." and the lock */
}

hs_status hs_session_file_open(const char *sessions_dir, const char *name, bool create,
                               hs_session_file **ret_file, struct hs_error *err)
{
    hs_session_file *file = NULL;
    hs_status status = file_new(sessions_dir, name, &file, err);
    if (status != HS_OK)
        return status;
    status = take_lock(file, create, err);
    if (status != HS_OK) {
        file_free(file);
        return status;
    }
    if (!create && !exists(file->json_path)) {
        hs_session_file_close(file);
        return not_found(name, err);
    }
    (void)unlink(file->kv_tmp_path); /* what a crash left */
    *ret_file = file;
    return HS_OK;
}

void hs_session_file_close(hs_session_file *file)
{
    if (file == NULL)
        return;
    if (is_only_lock_left(file))
        remove_folder_locked(file);
    else if (ftruncate(file->lock_fd, 0) != 0)
        hs_log(HS_LOG_DEBUG, "storage", "cannot clear the lock of session '%s'", file->name);
    file_free(file);
}

/* ---- text ---- */

static hs_status read_json(const char *path, struct hs_session_record *ret_record,
                           struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(HS_SESSION_MAX_JSON);
    struct stat info;
    if (stat(path, &info) != 0)
        return hs_error_errno(err, errno, "read", path);
    if (!S_ISREG(info.st_mode)) /* reading a pipe would wait for ever */
        return hs_error_set(err, HS_CORRUPT, "session.json is no regular file");
    hs_status status = hs_fs_read(path, &text, err);
    if (status != HS_OK)
        return status;
    return hs_session_record_parse(text.data, text.len, ret_record, err);
}

hs_status hs_session_file_load(hs_session_file *file, struct hs_session_record *ret_record,
                               struct hs_error *err)
{
    hs_status status = read_json(file->json_path, ret_record, err);
    if (status == HS_OK)
        file->is_ours = true;
    else if (status == HS_NOT_FOUND)
        hs_error_set(err, HS_NOT_FOUND, "session '%s' has not been saved yet", file->name);
    else
        hs_error_prefix(err, "session '%s'", file->name);
    return status;
}

/* See to it that replacing session.json destroys nothing that could not be read. */
static hs_status check_replaceable(hs_session_file *file, struct hs_error *err)
{
    if (file->is_ours || !exists(file->json_path))
        return HS_OK;
    struct hs_session_record record = {0};
    hs_status status = read_json(file->json_path, &record, err);
    hs_session_record_free(&record);
    return status;
}

hs_status hs_session_file_save(hs_session_file *file, const struct hs_session_record *record,
                               struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(HS_SESSION_MAX_JSON);
    hs_status status = hs_session_record_format(record, &text, err);
    if (status == HS_OK)
        status = check_replaceable(file, err);
    if (status == HS_OK)
        status = hs_fs_write_atomic(file->json_path, text.data, text.len, 0600, err);
    if (status == HS_OK)
        file->is_ours = true;
    else
        hs_error_prefix(err, "cannot save session '%s'", file->name);
    return status;
}

/* ---- KV state ---- */

hs_status hs_session_file_load_kv(hs_session_file *file, struct hs_session_kv *ret_kv,
                                  struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = open(file->kv_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return hs_error_set(err, HS_NOT_FOUND, "session '%s' has no saved KV state", file->name);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0)
        return hs_error_errno(err, errno, "open", file->kv_path);
    if (!S_ISREG(info.st_mode))
        return hs_error_set(err, HS_CORRUPT, "session '%s': kv.bin is no regular file", file->name);
    struct hs_session_kv_source source = {.fd = fd, .len = (uint64_t)info.st_size};
    hs_status status = hs_session_kv_read(&source, ret_kv, err);
    if (status != HS_OK)
        hs_error_prefix(err, "session '%s'", file->name);
    return status;
}

static hs_status write_kv(hs_session_file *file, const struct hs_session_kv *kv,
                          struct hs_error *err)
{
    int fd = open(file->kv_tmp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hs_error_errno(err, errno, "open", file->kv_tmp_path);
    hs_status status = hs_session_kv_write(fd, kv, err);
    if (close(fd) != 0 && status == HS_OK)
        status = hs_error_errno(err, errno, "write", file->kv_tmp_path);
    /* No fsync: the check value tells a file that lost power on its way to the disk. */
    if (status == HS_OK && rename(file->kv_tmp_path, file->kv_path) != 0)
        status = hs_error_errno(err, errno, "rename", file->kv_tmp_path);
    return status;
}

hs_status hs_session_file_save_kv(hs_session_file *file, const struct hs_session_kv *kv,
                                  struct hs_error *err)
{
    hs_status status = write_kv(file, kv, err);
    if (status != HS_OK) {
        (void)unlink(file->kv_tmp_path);
        hs_error_prefix(err, "cannot save the KV state of session '%s'", file->name);
    }
    return status;
}

hs_status hs_session_file_drop_kv(hs_session_file *file, struct hs_error *err)
{
    if (unlink(file->kv_path) != 0 && errno != ENOENT)
        return hs_error_errno(err, errno, "remove", file->kv_path);
    return HS_OK;
}

/* ---- the store ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void hs_session_names_free(char **names, size_t n)
{
    for (size_t i = 0; names != NULL && i < n; i++)
        hs_free(names[i]);
    hs_free(names);
}

struct names {
    char **items;
    size_t n;
    size_t capacity;
};

static hs_status add_name(struct names *names, const char *name, struct hs_error *err)
{
    if (names->n == names->capacity) {
        size_t capacity = names->capacity == 0 ? 16 : 2 * names->capacity;
        char **items = hs_realloc_array(names->items, capacity, sizeof *items);
        if (items == NULL)
            return hs_error_nomem(err, "list of sessions");
        names->items = items;
        names->capacity = capacity;
    }
    names->items[names->n] = hs_strdup(name);
    if (names->items[names->n] == NULL)
        return hs_error_nomem(err, "list of sessions");
    names->n++;
    return HS_OK;
}

static hs_status collect_names(DIR *dir, const char *sessions_dir, struct names *names,
                               struct hs_error *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL)
            return errno == 0 ? HS_OK : hs_error_errno(err, errno, "read", sessions_dir);
        if (!hs_session_name_ok(entry->d_name))
            continue;
        HS_CLEANUP(hs_freep) char *inner = hs_fs_join(entry->d_name, "session.json");
        if (inner == NULL)
            return hs_error_nomem(err, "list of sessions");
        struct stat info;
        if (fstatat(dirfd(dir), inner, &info, 0) != 0)
            continue;
        hs_status status = add_name(names, entry->d_name, err);
        if (status != HS_OK)
            return status;
    }
}

hs_status hs_session_store_list(const char *sessions_dir, char ***ret_names, size_t *ret_n,
                                struct hs_error *err)
{
    struct names names = {0};
    DIR *dir = opendir(sessions_dir);
    if (dir == NULL && errno != ENOENT)
        return hs_error_errno(err, errno, "read", sessions_dir);
    if (dir != NULL) {
        hs_status status = collect_names(dir, sessions_dir, &names, err);
        closedir(dir);
        if (status != HS_OK) {
            hs_session_names_free(names.items, names.n);
            return status;
        }
    }
    if (names.n > 1)
        qsort(names.items, names.n, sizeof *names.items, compare_names);
    *ret_names = names.items;
    *ret_n = names.n;
    return HS_OK;
}

static uint64_t size_of(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

hs_status hs_session_store_read(const char *sessions_dir, const char *name,
                                struct hs_session_record *ret_record, uint64_t *ret_size_bytes,
                                struct hs_error *err)
{
    hs_session_file *file = NULL;
    hs_status status = file_new(sessions_dir, name, &file, err);
    if (status != HS_OK)
        return status;
    status = read_json(file->json_path, ret_record, err);
    if (status == HS_NOT_FOUND)
        not_found(name, err);
    else if (status != HS_OK)
        hs_error_prefix(err, "session '%s'", name);
    if (status == HS_OK && ret_size_bytes != NULL)
        *ret_size_bytes = size_of(file->json_path) + size_of(file->kv_path);
    file_free(file);
    return status;
}

/* *ret_n counts, as readdir may skip entries while others go. */
static hs_status remove_contents(DIR *dir, const hs_session_file *file, size_t *ret_n,
                                 struct hs_error *err)
{
    *ret_n = 0;
    rewinddir(dir);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL)
            return errno == 0 ? HS_OK : hs_error_errno(err, errno, "read", file->folder);
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lock") == 0)
            continue;
        HS_CLEANUP(hs_freep) char *path = hs_fs_join(file->folder, name);
        if (path == NULL)
            return hs_error_nomem(err, "name of a file");
        hs_status status = hs_fs_remove_all(path, err);
        if (status != HS_OK)
            return status;
        ++*ret_n;
    }
}

/* KV first, then the text, which is what makes it a session, then the rest: stopped at any point,
 * what is left is a whole session or none. */
static hs_status remove_locked(hs_session_file *file, struct hs_error *err)
{
    hs_status status = hs_session_file_drop_kv(file, err);
    if (status != HS_OK)
        return status;
    if (unlink(file->json_path) != 0 && errno != ENOENT)
        return hs_error_errno(err, errno, "remove", file->json_path);
    DIR *dir = opendir(file->folder);
    if (dir == NULL)
        return hs_error_errno(err, errno, "read", file->folder);
    size_t n = 0;
    do
        status = remove_contents(dir, file, &n, err);
    while (status == HS_OK && n > 0);
    closedir(dir);
    return status;
}

hs_status hs_session_store_remove(const char *sessions_dir, const char *name, struct hs_error *err)
{
    hs_session_file *file = NULL;
    hs_status status = file_new(sessions_dir, name, &file, err);
    if (status != HS_OK)
        return status;
    status = take_lock(file, false, err);
    if (status == HS_OK)
        status = remove_locked(file, err);
    if (status == HS_OK)
        remove_folder_locked(file);
    file_free(file);
    return status;
}
