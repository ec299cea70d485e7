/*
 * fs_atomic.c - atomic replacement of a file.
 *
 * The new content is written to ".<name>.tmp-<pid>-<16 hex digits>" beside the file. Its writer
 * holds flock(LOCK_EX) on it, so one without a lock is what a crash left: the next writer of the
 * same file removes it. Whoever makes the file checks, once it has the lock, that it was not taken
 * for such a leftover in between.
 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define NAME_KEPT 200 /* bytes of the name that stand in the temporary one, of NAME_MAX 255 */
#define ATTEMPTS 100

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The folder of path with its final slash, "" for the current one. */
static int folder_len(const char *path)
{
    return (int)(base_name(path) - path);
}

static char *folder_of(const char *path)
{
    int len = folder_len(path);
    return len == 0 ? hs_strdup(".") : hs_strndup(path, (size_t)len);
}

static void closedirp(DIR **dir)
{
    if (*dir != NULL) {
        closedir(*dir);
    }
}

/* Whether name is ".<kept>.tmp-<digits>-<16 hex digits>". */
static bool is_tmp_name(const char *name, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(name, prefix, len) != 0) {
        return false;
    }
    size_t n_pid = strspn(name + len, "0123456789");
    const char *random = name + len + n_pid;
    return n_pid > 0 && random[0] == '-' && strlen(random) == 17 &&
           strspn(random + 1, "0123456789abcdef") == 16;
}

/* Remove one temporary file unless its writer lives. */
static void sweep_one(int dir_fd, const char *name)
{
    HS_CLEANUP(hs_closep)
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        unlinkat(dir_fd, name, 0);
    }
}

/* Best effort: what cannot be removed now is left to the next writer. */
static void sweep(const char *path)
{
    char prefix[NAME_KEPT + 16];
    snprintf(prefix, sizeof prefix, ".%.*s.tmp-", NAME_KEPT, base_name(path));
    HS_CLEANUP(hs_freep) char *folder = folder_of(path);
    if (folder == NULL) {
        return;
    }
    HS_CLEANUP(closedirp) DIR *dir = opendir(folder);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (is_tmp_name(entry->d_name, prefix)) {
            sweep_one(dirfd(dir), entry->d_name);
        }
    }
}

/* A locked new file; *ret_path is its name. */
static hs_status make_tmp(const char *path, mode_t mode, char **ret_path, int *ret_fd,
                          struct hs_error *err)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
            return hs_error_errno(err, errno, "draw a random name for", path);
        }
        HS_CLEANUP(hs_freep)
        char *tmp = hs_asprintf("%.*s.%.*s.tmp-%ld-%016llx", folder_len(path), path, NAME_KEPT,
                                base_name(path), (long)getpid(), (unsigned long long)random);
        if (tmp == NULL) {
            return hs_error_nomem(err, "the name of a temporary file");
        }
        HS_CLEANUP(hs_closep)
        int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0 && errno == EEXIST) {
            continue;
        }
        if (fd < 0) {
            return hs_error_errno(err, errno, "write", path);
        }
        struct stat info;
        /* a file system without locks: nobody takes files for leftovers there */
        bool is_locked = flock(fd, LOCK_EX) == 0;
        if (is_locked && fstat(fd, &info) == 0 && info.st_nlink == 0) {
            continue;
        }
        *ret_path = tmp;
        *ret_fd = fd;
        tmp = NULL;
        fd = -1;
        return HS_OK;
    }
    return hs_error_set(err, HS_IO, "cannot write '%s': no free name for a temporary file", path);
}

hs_status hs_fs_atomic_begin(const char *path, mode_t mode, struct hs_fs_atomic *ret,
                             struct hs_error *err)
{
    const char *name = base_name(path);
    struct stat info;
    if (name[0] == '\0' || (stat(path, &info) == 0 && S_ISDIR(info.st_mode))) {
        return path[0] == '\0' ? hs_error_errno(err, ENOENT, "write", path)
                               : hs_error_errno(err, EISDIR, "write", path);
    }
    struct hs_fs_atomic file = {.fd = -1};
    file.path = hs_strdup(path);
    if (file.path == NULL) {
        return hs_error_nomem(err, "the name of a file");
    }
    sweep(path);
    hs_status status = make_tmp(path, mode, &file.tmp_path, &file.fd, err);
    if (status != HS_OK) {
        hs_free(file.path);
        return status;
    }
    *ret = file;
    return HS_OK;
}

hs_status hs_fs_atomic_write(struct hs_fs_atomic *file, const void *data, size_t len,
                             struct hs_error *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(file->fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return hs_error_errno(err, errno, "write", file->path);
        }
        done += (size_t)n;
    }
    return HS_OK;
}

/* The folder of path, to sync; *ret_fd is -1 when it may be written but not read. */
static hs_status open_folder(const char *path, int *ret_fd, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *folder = folder_of(path);
    if (folder == NULL) {
        return hs_error_nomem(err, "the name of a folder");
    }
    *ret_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0 && errno != EACCES) {
        return hs_error_errno(err, errno, "write to", folder);
    }
    return HS_OK;
}

static hs_status commit(struct hs_fs_atomic *file, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int folder = -1;
    hs_status status = open_folder(file->path, &folder, err);
    if (status != HS_OK) {
        return status;
    }
    if (fsync(file->fd) != 0 || rename(file->tmp_path, file->path) != 0) {
        return hs_error_errno(err, errno, "write", file->path);
    }
    file->tmp_path[0] = '\0'; /* that name is gone: abort has nothing to remove */
    /* makes the rename last; some file systems cannot sync folders, and say EINVAL */
    if (folder >= 0 && fsync(folder) != 0 && errno != EINVAL && errno != ENOTSUP) {
        return hs_error_errno(err, errno, "write", file->path);
    }
    return HS_OK;
}

hs_status hs_fs_atomic_commit(struct hs_fs_atomic *file, struct hs_error *err)
{
    hs_status status = commit(file, err);
    hs_fs_atomic_abort(file);
    return status;
}

void hs_fs_atomic_abort(struct hs_fs_atomic *file)
{
    if (file->tmp_path == NULL) {
        return;
    }
    if (file->tmp_path[0] != '\0') {
        unlink(file->tmp_path);
    }
    hs_closep(&file->fd);
    hs_freep(&file->tmp_path);
    hs_freep(&file->path);
}

hs_status hs_fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                             struct hs_error *err)
{
    struct hs_fs_atomic file;
    hs_status status = hs_fs_atomic_begin(path, mode, &file, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_fs_atomic_write(&file, data, len, err);
    if (status != HS_OK) {
        hs_fs_atomic_abort(&file);
        return status;
    }
    return hs_fs_atomic_commit(&file, err);
}
