/* gguf_test.h - what the tests of the GGUF reader share: opening bytes and finding values in them.
 */
#ifndef GGUF_TEST_H
#define GGUF_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "storage/gguf.h"

/* Open bytes as a whole file, from a copy of exactly that size, so that a sanitizer sees overruns.
 * The copy is freed with the reader: gguf_test_close. */
struct gguf_test {
    hs_gguf *gguf;
    uint8_t *copy;
    struct hs_error err;
};

static inline hs_status gguf_test_open_claimed(struct gguf_test *test, const uint8_t *data,
                                               size_t len, uint64_t file_size)
{
    memset(test, 0, sizeof *test);
    test->copy = malloc(len > 0 ? len : 1);
    assert_non_null(test->copy);
    if (len > 0) {
        memcpy(test->copy, data, len);
    }
    return hs_gguf_open_memory(test->copy, len, file_size, &test->gguf, &test->err);
}

static inline hs_status gguf_test_open(struct gguf_test *test, const uint8_t *data, size_t len)
{
    return gguf_test_open_claimed(test, data, len, len);
}

static inline void gguf_test_close(struct gguf_test *test)
{
    hs_gguf_free(test->gguf);
    free(test->copy);
    memset(test, 0, sizeof *test);
}

/* Every failure must say something and what to do next. */
static inline void gguf_test_told(const struct gguf_test *test, hs_status status)
{
    assert_int_equal(test->err.status, status);
    assert_true(strlen(test->err.message) > 8);
    assert_true(strlen(test->err.hint) > 8 || status == HS_OUT_OF_MEMORY);
    assert_null(test->gguf);
}

/* The type field behind a key of the file; the value follows 4 bytes on. */
static inline uint8_t *gguf_test_find(struct gguf_bytes *bytes, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 24; i + 8 + len + 4 <= bytes->len; i++) {
        if (bytes->data[i] == (uint8_t)len && bytes->data[i + 1] == 0 &&
            memcmp(bytes->data + i + 8, key, len) == 0) {
            return bytes->data + i + 8 + len;
        }
    }
    return NULL;
}

static inline void gguf_test_put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

#endif
