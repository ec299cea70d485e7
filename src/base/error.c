/* error.c - filling struct hs_error. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define ELLIPSIS "..."
#define ELLIPSIS_LEN 3u

/*
 * Format into ret[size]; what does not fit is cut at a code point and ends in "...". A precision
 * ("%.64s") may cut within one: the text is made UTF-8 again. An argument may be the text that is
 * replaced, so the caller copies ret over it afterwards.
 */
static void text_format(char *ret, size_t size, const char *format, va_list args)
{
    int len = vsnprintf(ret, size, format, args);
    if (len < 0) {
        snprintf(ret, size, "%s", format);
    } else if ((size_t)len >= size) {
        size_t keep = hs_utf8_clip(ret, size - 1, size - 1 - ELLIPSIS_LEN);
        memcpy(ret + keep, ELLIPSIS, ELLIPSIS_LEN + 1);
    }
    hs_utf8_scrub(ret);
}

/* What was set last where there was no record: a hint that follows it must not turn it into OK. */
static _Thread_local hs_status unrecorded;

hs_status hs_error_set(struct hs_error *err, hs_status status, const char *format, ...)
{
    if (err == NULL) {
        unrecorded = status;
        return status;
    }
    char message[HS_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    text_format(message, sizeof message, format, args);
    va_end(args);
    err->status = status;
    memcpy(err->message, message, strlen(message) + 1);
    err->hint[0] = '\0';
    return status;
}

hs_status hs_error_hint(struct hs_error *err, const char *format, ...)
{
    if (err == NULL) {
        return unrecorded;
    }
    char hint[HS_HINT_MAX];
    va_list args;
    va_start(args, format);
    text_format(hint, sizeof hint, format, args);
    va_end(args);
    memcpy(err->hint, hint, strlen(hint) + 1);
    return err->status;
}

/* text_format for callers without a va_list */
static void __attribute__((format(printf, 3, 4)))
text_print(char *ret, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_format(ret, size, format, args);
    va_end(args);
}

void hs_error_prefix(struct hs_error *err, const char *format, ...)
{
    if (err == NULL) {
        return;
    }
    char prefix[HS_MESSAGE_MAX], message[HS_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    text_format(prefix, sizeof prefix, format, args);
    va_end(args);
    text_print(message, sizeof message, "%s: %s", prefix, err->message);
    memcpy(err->message, message, strlen(message) + 1);
}

hs_status hs_status_from_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
        return HS_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return HS_PERMISSION_DENIED;
    case EISDIR:
        return HS_IS_DIRECTORY;
    case ENOMEM:
        return HS_OUT_OF_MEMORY;
    case EEXIST:
        return HS_ALREADY_EXISTS;
    default:
        return HS_IO;
    }
}

static const char *errno_hint(int errno_value)
{
    switch (errno_value) {
    case EACCES:
    case EPERM:
        return "check the permissions of it and of the folders above it";
    case EROFS:
        return "the disk is mounted read-only; choose another place";
    case ENOSPC:
    case EDQUOT:
        return "free some space on that disk";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return "";
    }
}

hs_status hs_error_errno(struct hs_error *err, int errno_value, const char *action,
                         const char *path)
{
    char space[128];
    const char *reason = strerror_r(errno_value, space, sizeof space);
    hs_status status = hs_error_set(err, hs_status_from_errno(errno_value), "cannot %s '%s': %s",
                                    action, path, reason);
    hs_error_hint(err, "%s", errno_hint(errno_value));
    return status;
}

hs_status hs_error_nomem(struct hs_error *err, const char *what)
{
    return hs_error_set(err, HS_OUT_OF_MEMORY, "out of memory: %s", what);
}

void hs_error_clear(struct hs_error *err)
{
    if (err != NULL) {
        err->status = HS_OK;
        err->message[0] = '\0';
        err->hint[0] = '\0';
    }
}
