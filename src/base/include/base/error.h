/*
 * error.h - filling struct hs_error, the caller-owned message beside every hs_status.
 *
 * Threads: any; a struct hs_error belongs to its caller.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "hyprstream.h"

/*
 * Set status and message and clear the hint; returns `status`, so that a caller writes
 * `return hs_error_set(err, HS_NOT_FOUND, "no model named '%s'", name);`. `err` may be NULL.
 * Over-long messages are cut at a UTF-8 code point and end in "...". Never pass prompt text or
 * secrets.
 */
hs_status hs_error_set(struct hs_error *err, hs_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Set the hint, one sentence that says what the user can do next; `err` may be NULL. Returns
 * err->status or, without err, the status that this thread set last without one. */
hs_status hs_error_hint(struct hs_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Put `prefix: ` before the message already there, e.g. the file it is about. */
void hs_error_prefix(struct hs_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* HS_NOT_FOUND, HS_PERMISSION_DENIED, HS_IS_DIRECTORY, HS_OUT_OF_MEMORY, HS_ALREADY_EXISTS or
 * HS_IO. */
hs_status hs_status_from_errno(int errno_value);

/* Message "cannot <action> '<path>': <strerror>" with the status of errno_value. */
hs_status hs_error_errno(struct hs_error *err, int errno_value, const char *action,
                         const char *path);

/* HS_OUT_OF_MEMORY with "out of memory: <what>". */
hs_status hs_error_nomem(struct hs_error *err, const char *what);

/* Reset to HS_OK with empty texts; `err` may be NULL. */
void hs_error_clear(struct hs_error *err);

#endif
