/* fs.c - folders, whole-file reads, removal and path arithmetic; fs_atomic.c has the atomic
 * replacement. */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define MAKE_ATTEMPTS 100

#define REMOVE_DEPTH_MAX 256 /* one open folder each */

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Make a new folder's entry last; a parent that cannot be opened or synced is left to the kernel.
 */
static void sync_parent(const char *folder)
{
    const char *slash = strrchr(folder, '/');
    HS_CLEANUP(hs_freep)
    char *parent =
        slash == NULL ? hs_strdup(".") : hs_strndup(folder, (size_t)(slash - folder) + 1);
    HS_CLEANUP(hs_closep)
    int fd = parent == NULL ? -1 : open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
    }
}

static hs_status make_folder(const char *folder, const char *path, struct hs_error *err)
{
    int cause = EEXIST;
    for (int i = 0; i < MAKE_ATTEMPTS && cause == EEXIST; i++) {
        if (mkdir(folder, 0700) == 0) {
            sync_parent(folder);
            return HS_OK;
        }
        cause = errno;
        if (is_folder(folder)) {
            return HS_OK;
        }
        struct stat info;
        if (lstat(folder, &info) == 0) {
            break; /* something else; otherwise somebody has removed a folder since */
        }
    }
    if (cause != EEXIST) {
        return hs_error_errno(err, cause, "make the folder", folder);
    }
    hs_error_set(err, HS_ALREADY_EXISTS,
                 "cannot make the folder '%s': '%s' exists and is not a folder", path, folder);
    hs_error_hint(err, "move it away or choose another place");
    return HS_ALREADY_EXISTS;
}

hs_status hs_fs_mkdir_p(const char *path, struct hs_error *err)
{
    if (path[0] == '\0') {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "cannot make a folder: its name is empty");
    }
    if (is_folder(path)) {
        return HS_OK;
    }
    HS_CLEANUP(hs_freep) char *folder = hs_strdup(path);
    if (folder == NULL) {
        return hs_error_nomem(err, "the name of a folder");
    }
    for (char *p = folder + 1; *p != '\0'; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        hs_status status = make_folder(folder, path, err);
        if (status != HS_OK) {
            return status;
        }
        *p = '/';
    }
    return make_folder(folder, path, err);
}

static hs_status read_limit(const char *path, size_t max, struct hs_error *err)
{
    return hs_error_set(err, HS_LIMIT, "cannot read '%s': larger than the limit of %zu bytes", path,
                        max);
}

/* Append what fd still gives to buf. */
static hs_status read_rest(int fd, const char *path, struct hs_buf *buf, struct hs_error *err)
{
    for (;;) {
        size_t spare = buf->cap - buf->len - 1;
        char probe; /* whether there is more is asked before the buffer grows for it */
        ssize_t n = read(fd, spare == 0 ? &probe : buf->data + buf->len, spare == 0 ? 1 : spare);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return hs_error_errno(err, errno, "read", path);
        }
        if (n == 0) {
            return HS_OK;
        }
        if (spare > 0) {
            buf->len += (size_t)n;
            buf->data[buf->len] = '\0';
            continue;
        }
        hs_status status = hs_buf_append(buf, &probe, 1);
        if (status != HS_OK) {
            return status == HS_LIMIT ? read_limit(path, buf->max, err) : hs_error_nomem(err, path);
        }
    }
}

hs_status hs_fs_open(const char *path, int *ret_fd, struct stat *ret_info, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, ret_info) != 0) {
        return hs_error_errno(err, errno, "read", path);
    }
    if (S_ISDIR(ret_info->st_mode)) {
        return hs_error_errno(err, EISDIR, "read", path);
    }
    *ret_fd = fd;
    fd = -1;
    return HS_OK;
}

hs_status hs_fs_read(const char *path, struct hs_buf *buf, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = -1;
    struct stat info;
    hs_status opened = hs_fs_open(path, &fd, &info, err);
    if (opened != HS_OK) {
        return opened;
    }
    /* one allocation for the whole file, and no reading of one that cannot fit */
    size_t expected = S_ISREG(info.st_mode) ? (size_t)info.st_size : 0;
    hs_status status = hs_buf_reserve(buf, expected);
    if (status != HS_OK) {
        return status == HS_LIMIT ? read_limit(path, buf->max, err) : hs_error_nomem(err, path);
    }
    size_t before = buf->len;
    status = read_rest(fd, path, buf, err);
    if (status != HS_OK) {
        buf->len = before;
        buf->data[before] = '\0';
    }
    return status;
}

static void closedirp(DIR **dir)
{
    if (*dir != NULL) {
        closedir(*dir);
    }
}

static hs_status remove_at(int parent, const char *name, const char *top, int depth,
                           struct hs_error *err);

/* Remove what is in the open folder; *ret_n counts, as readdir may skip entries while others go. */
static hs_status remove_entries(DIR *dir, const char *top, int depth, size_t *ret_n,
                                struct hs_error *err)
{
    *ret_n = 0;
    rewinddir(dir);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            return errno == 0 ? HS_OK : hs_error_errno(err, errno, "remove", top);
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        hs_status status = remove_at(dirfd(dir), entry->d_name, top, depth + 1, err);
        if (status != HS_OK) {
            return status;
        }
        ++*ret_n;
    }
}

static hs_status remove_folder(int parent, const char *name, const char *top, int depth,
                               int unlink_errno, struct hs_error *err)
{
    if (depth > REMOVE_DEPTH_MAX) {
        return hs_error_set(err, HS_LIMIT, "cannot remove '%s': folders are nested over %d deep",
                            top, REMOVE_DEPTH_MAX);
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        bool is_no_folder = errno == ENOTDIR || errno == ELOOP;
        return hs_error_errno(err, is_no_folder ? unlink_errno : errno, "remove", top);
    }
    HS_CLEANUP(closedirp) DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int cause = errno;
        close(fd);
        return hs_error_errno(err, cause, "remove", top);
    }
    size_t n = 0;
    do {
        hs_status status = remove_entries(dir, top, depth, &n, err);
        if (status != HS_OK) {
            return status;
        }
    } while (n > 0);
    if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return hs_error_errno(err, errno, "remove", top);
    }
    return HS_OK;
}

static hs_status remove_at(int parent, const char *name, const char *top, int depth,
                           struct hs_error *err)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return HS_OK;
    }
    if (errno != EISDIR && errno != EPERM) { /* EPERM: what POSIX has for a folder */
        return hs_error_errno(err, errno, "remove", top);
    }
    return remove_folder(parent, name, top, depth, errno, err);
}

hs_status hs_fs_remove_all(const char *path, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *name = hs_strdup(path);
    if (name == NULL) {
        return hs_error_nomem(err, "the name of a file");
    }
    size_t len = strlen(name);
    while (len > 0 && name[len - 1] == '/') { /* "link/" would mean what the link leads to */
        name[--len] = '\0';
    }
    const char *slash = strrchr(name, '/');
    const char *last = slash == NULL ? name : slash + 1;
    if (last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "refusing to remove '%s'", path);
    }
    return remove_at(AT_FDCWD, name, path, 0, err);
}

char *hs_fs_join(const char *a, const char *b)
{
    size_t len = strlen(a);
    if (b[0] == '/' || len == 0) {
        return hs_strdup(b);
    }
    if (b[0] == '\0') {
        return hs_strdup(a);
    }
    return hs_asprintf("%s%s%s", a, a[len - 1] == '/' ? "" : "/", b);
}

hs_status hs_fs_realpath(const char *path, char **ret_path, struct hs_error *err)
{
    char resolved[PATH_MAX];
    if (realpath(path, resolved) == NULL) {
        return hs_error_errno(err, errno, "find", path);
    }
    char *copy = hs_strdup(resolved);
    if (copy == NULL) {
        return hs_error_nomem(err, "a path");
    }
    *ret_path = copy;
    return HS_OK;
}
