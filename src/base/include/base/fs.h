/*
 * fs.h - files and folders: whole-file reads with a limit, atomic replacement, recursive creation
 * and removal.
 *
 * Threads: no state.
 * Errors:  from errno through hs_error_errno, HS_LIMIT for files over the limit given.
 */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"

/* Make a folder and its parents, mode 0700 for the ones that are new. */
HS_CHECKED hs_status hs_fs_mkdir_p(const char *path, struct hs_error *err);

/* Open a file for reading and say what it is; folders are refused (HS_IS_DIRECTORY). */
HS_CHECKED hs_status hs_fs_open(const char *path, int *ret_fd, struct stat *ret_info,
                                struct hs_error *err);

/* Append the whole file to `buf`; HS_LIMIT when it does not fit buf->max. */
HS_CHECKED hs_status hs_fs_read(const char *path, struct hs_buf *buf, struct hs_error *err);

/*
 * Replace `path` by `data` so that a reader, and a machine that lost power at any moment, sees the
 * old file or the new one: written to a unique temporary name in the same folder, fsync, rename,
 * fsync of the folder. A symbolic link is replaced itself. What a crashed writer of the same path
 * left behind (".name.tmp-<pid>-<random>", not locked by a living writer) is removed first.
 */
HS_CHECKED hs_status hs_fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                                        struct hs_error *err);

/* The same in steps, for data written piecemeal; abort removes the temporary file. fd is ret->fd.
 * commit ends the object, whether it succeeds or not; after a failed write the caller aborts.
 */
struct hs_fs_atomic {
    int fd;
    char *tmp_path;
    char *path;
};
HS_CHECKED hs_status hs_fs_atomic_begin(const char *path, mode_t mode, struct hs_fs_atomic *ret,
                                        struct hs_error *err);
HS_CHECKED hs_status hs_fs_atomic_write(struct hs_fs_atomic *file, const void *data, size_t len,
                                        struct hs_error *err);
HS_CHECKED hs_status hs_fs_atomic_commit(struct hs_fs_atomic *file, struct hs_error *err);
void hs_fs_atomic_abort(struct hs_fs_atomic *file); /* after commit: does nothing */

/* Remove a file or a folder with all that is in it (symbolic links are not followed); missing is
 * HS_OK. */
HS_CHECKED hs_status hs_fs_remove_all(const char *path, struct hs_error *err);

/* "a/b" from "a" and "b"; "b" when b is absolute. NULL without memory. Free with hs_free. */
char *hs_fs_join(const char *a, const char *b);
/* The absolute path with symbolic links resolved; to be freed with hs_free. */
HS_CHECKED hs_status hs_fs_realpath(const char *path, char **ret_path, struct hs_error *err);

#endif
