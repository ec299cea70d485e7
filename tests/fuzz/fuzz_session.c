/*
 * Fuzz the two files of a session. The first byte chooses: '{' begins a session.json; 'H' a kv.bin
 * as it is; anything else a kv.bin whose check value is made right first, so that the fuzzer gets
 * past it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session_store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What can be read can be written, and reads the same again. */
static void fuzz_json(const uint8_t *data, size_t size)
{
    struct hs_session_record record = {0}, back = {0};
    struct hs_buf text = HS_BUF_INIT(HS_SESSION_MAX_JSON), again = HS_BUF_INIT(HS_SESSION_MAX_JSON);
    struct hs_error err;
    if (hs_session_record_parse((const char *)data, size, &record, &err) != HS_OK)
        return;
    if (hs_session_record_format(&record, &text, &err) != HS_OK ||
        hs_session_record_parse(text.data, text.len, &back, &err) != HS_OK ||
        hs_session_record_format(&back, &again, &err) != HS_OK || again.len != text.len ||
        memcmp(again.data, text.data, text.len) != 0)
        abort();
    hs_session_record_free(&record);
    hs_session_record_free(&back);
    hs_buf_free(&text);
    hs_buf_free(&again);
}

static void fuzz_kv(const uint8_t *data, size_t size)
{
    struct hs_session_kv_source source = {.fd = -1, .data = data, .len = size};
    struct hs_session_kv kv = {0};
    struct hs_error err;
    if (hs_session_kv_read(&source, &kv, &err) != HS_OK)
        return;
    size_t n = HS_SESSION_KV_HEADER_BYTES + 4 * kv.n_tokens + kv.state_len;
    for (size_t i = 0, last = 0; i < kv.n_checkpoints; i++) {
        if (kv.checkpoints[i].n_tokens <= last || kv.checkpoints[i].n_tokens > kv.n_tokens)
            abort();
        last = kv.checkpoints[i].n_tokens;
        n += HS_SESSION_KV_CHECKPOINT_BYTES + kv.checkpoints[i].state_len;
    }
    if (n + HS_SESSION_KV_TAG_BYTES != size)
        abort();
    hs_session_kv_free(&kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] == '{') {
        fuzz_json(data, size);
        return 0;
    }
    if (data[0] == 'H' || size < HS_SESSION_KV_TAG_BYTES) {
        fuzz_kv(data, size);
        return 0;
    }
    uint8_t *sealed = malloc(size);
    if (sealed == NULL)
        return 0;
    memcpy(sealed, data, size);
    sealed[0] = 'H';
    size_t body = size - HS_SESSION_KV_TAG_BYTES;
    if (hs_session_kv_checksum(sealed, body, sealed + body, NULL) == HS_OK)
        fuzz_kv(sealed, size);
    free(sealed);
    return 0;
}
