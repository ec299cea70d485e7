/* buf.c - the growing byte buffer. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define FIRST_CAPACITY 64u

hs_status hs_buf_reserve(struct hs_buf *buf, size_t extra)
{
    if (buf->len > buf->max || extra > buf->max - buf->len) {
        return HS_LIMIT;
    }
    size_t needed = buf->len + extra;
    if (needed < buf->cap) {
        return HS_OK;
    }
    if (needed == SIZE_MAX) {
        return HS_OUT_OF_MEMORY;
    }
    size_t cap = buf->cap > SIZE_MAX / 2 ? SIZE_MAX : buf->cap * 2;
    cap = cap < FIRST_CAPACITY ? FIRST_CAPACITY : cap;
    cap = buf->max < SIZE_MAX && cap > buf->max + 1 ? buf->max + 1 : cap;
    cap = cap < needed + 1 ? needed + 1 : cap;
    char *data = hs_realloc(buf->data, cap);
    if (data == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    buf->data = data;
    buf->cap = cap;
    buf->data[buf->len] = '\0';
    return HS_OK;
}

hs_status hs_buf_append(struct hs_buf *buf, const void *data, size_t len)
{
    hs_status status = hs_buf_reserve(buf, len);
    if (status != HS_OK) {
        return status;
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = '\0';
    return HS_OK;
}

hs_status hs_buf_append_str(struct hs_buf *buf, const char *s)
{
    return hs_buf_append(buf, s, strlen(s));
}

hs_status hs_buf_printf(struct hs_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    /* Into the room there is: to measure first takes longer than to print. */
    size_t room = buf->cap - buf->len;
    int len = vsnprintf(room > 0 ? buf->data + buf->len : NULL, room, format, args);
    va_end(args);
    hs_status status = len < 0 ? HS_INVALID_ARGUMENT : hs_buf_reserve(buf, (size_t)len);
    if (status == HS_OK && (size_t)len >= room) {
        vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
    }
    va_end(again);
    if (status == HS_OK) {
        buf->len += (size_t)len;
    } else if (room > 0) {
        buf->data[buf->len] = '\0';
    }
    return status;
}

void hs_buf_consume(struct hs_buf *buf, size_t n)
{
    if (n == 0) {
        return;
    }
    memmove(buf->data, buf->data + n, buf->len - n + 1);
    buf->len -= n;
}

void hs_buf_clear(struct hs_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

hs_status hs_buf_take(struct hs_buf *buf, char **ret_data, size_t *ret_len)
{
    hs_status status = hs_buf_reserve(buf, 0);
    if (status != HS_OK) {
        return status;
    }
    *ret_data = buf->data;
    if (ret_len != NULL) {
        *ret_len = buf->len;
    }
    buf->data = NULL;
    buf->len = 0;
    buf->cap = 0;
    return HS_OK;
}

void hs_buf_free(struct hs_buf *buf)
{
    hs_free(buf->data);
    buf->data = NULL;
    buf->len = 0;
    buf->cap = 0;
}
