/*
 * buf.h - a growing byte buffer with a limit, always NUL-terminated behind its length.
 *
 * Owner:   the caller; hs_buf_free (or HS_CLEANUP(hs_buf_free)) releases it, any number of times.
 * Threads: none; one thread at a time.
 * Errors:  HS_LIMIT past `max`, HS_OUT_OF_MEMORY; the buffer is then unchanged.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "hyprstream.h"

struct hs_buf {
    char *data; /* NULL or data[len] == 0 */
    size_t len;
    size_t cap;
    size_t max; /* largest allowed len */
};

#define HS_BUF_INIT(limit)                                                                         \
    {                                                                                              \
        .data = NULL, .len = 0, .cap = 0, .max = (limit)                                           \
    }

HS_CHECKED hs_status hs_buf_append(struct hs_buf *buf, const void *data, size_t len);
HS_CHECKED hs_status hs_buf_append_str(struct hs_buf *buf, const char *s);
HS_CHECKED hs_status hs_buf_printf(struct hs_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for `extra` more bytes without a change of len. */
HS_CHECKED hs_status hs_buf_reserve(struct hs_buf *buf, size_t extra);
/* Remove the first n bytes (n <= len). */
void hs_buf_consume(struct hs_buf *buf, size_t n);
void hs_buf_clear(struct hs_buf *buf); /* keeps the memory */
/* Hand the NUL-terminated data to the caller (never NULL on HS_OK); the buffer is empty afterwards.
 */
HS_CHECKED hs_status hs_buf_take(struct hs_buf *buf, char **ret_data, size_t *ret_len);
void hs_buf_free(struct hs_buf *buf);

#endif
