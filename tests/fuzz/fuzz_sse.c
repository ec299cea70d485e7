/*
 * fuzz_sse.c - libFuzzer target of the reader of server-sent events: however the bytes are cut, the
 * same events come out.
 */
#include <stdlib.h>
#include <string.h>

#include "sse_reader.h"

#define MAX_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The events, each with a NUL behind its name and its data, and how reading ended. */
static hs_status read_all(const char *bytes, size_t size, size_t piece, struct hs_buf *out)
{
    struct hs_sse_reader reader;
    hs_sse_reader_init(&reader, MAX_BYTES);
    hs_status status = HS_OK;
    for (size_t at = 0; at < size && status == HS_OK;) {
        size_t used = 0, n = size - at < piece ? size - at : piece;
        bool has_event = false;
        status = hs_sse_reader_feed(&reader, bytes + at, n, &used, &has_event);
        if (status == HS_OK && (used > n || (used < n && !has_event))) {
            abort();
        }
        at += used;
        if (status == HS_OK && has_event) {
            const char *text = reader.data.len > 0 ? reader.data.data : "";
            if (hs_buf_append(out, reader.event, strlen(reader.event) + 1) != HS_OK ||
                hs_buf_append(out, text, reader.data.len + 1) != HS_OK) {
                abort();
            }
        }
    }
    hs_sse_reader_free(&reader);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hs_buf whole = {.max = SIZE_MAX / 4}, bytes = {.max = SIZE_MAX / 4};
    hs_status first = read_all((const char *)data, size, size, &whole);
    hs_status second = read_all((const char *)data, size, 1, &bytes);
    if (first != second || whole.len != bytes.len ||
        (whole.len > 0 && memcmp(whole.data, bytes.data, whole.len) != 0)) {
        abort();
    }
    hs_buf_free(&whole);
    hs_buf_free(&bytes);
    return 0;
}
