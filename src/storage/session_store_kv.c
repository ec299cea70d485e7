/*
 * session_store_kv.c - kv.bin: the KV state of a session, written and read in one pass.
 *
 *   offset  bytes  what (integers little-endian)
 *        0      4  magic "HSKV"
 *        4      4  version, u32 (1; with checkpoints 2)
 *        8      8  n_tokens, u64
 *       16      8  state_len, u64
 *       24     64  fingerprint, hex digits, zero-padded
 *       88    128  cache key, zero-padded
 *      216      8  checkpoints_len, u64: bytes of all checkpoints (version 1: zero)
 *      224     4n  tokens, i32[n_tokens]
 *        .      .  state, u8[state_len]
 *        .      .  checkpoints: n_tokens, u64; len, u64; u8[len]; and so on
 *        .     16  check value over everything before it
 *
 * The check value finds torn and rotten files, nothing else: whoever can change the file can change
 * the check value too. It is Poly1305 (RFC 8439) under a fixed key, which with vector instructions
 * runs at memory speed, several times faster than SHA-256; see docs/formats.md for the figures.
 */
#include "session_store_internal.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

static const char MAGIC[4] = {'H', 'S', 'K', 'V'};

enum {
    AT_VERSION = 4,
    AT_N_TOKENS = 8,
    AT_STATE_LEN = 16,
    AT_FINGERPRINT = 24,
    FINGERPRINT_BYTES = 64,
    AT_CACHE_KEY = 88,
    CACHE_KEY_BYTES = 128,
    AT_CHECKPOINTS_LEN = 216
};

/* Large enough to make system calls cheap, small enough that the checksum finds the data in the
 * processor's cache. */
#define CHUNK_BYTES ((size_t)1 << 20)

enum { CHECK_KEY_BYTES = 32 };
static const char CHECK_KEY[] = "hyprstream kv.bin check value v1";

/* ---- check value ---- */

static void mac_freep(EVP_MAC **mac)
{
    EVP_MAC_free(*mac);
}

static void mac_ctx_freep(EVP_MAC_CTX **ctx)
{
    EVP_MAC_CTX_free(*ctx);
}

static hs_status check_new(EVP_MAC_CTX **ret_ctx, struct hs_error *err)
{
    /* "-fips": a check value is no cryptography, so a FIPS-only default must not forbid it. */
    HS_CLEANUP(mac_freep) EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", "-fips");
    if (mac == NULL) {
        hs_error_set(err, HS_NOT_SUPPORTED, "this libcrypto offers no Poly1305");
        hs_error_hint(err, "enable OpenSSL's default provider, or run without saved KV state");
        return HS_NOT_SUPPORTED;
    }
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    if (ctx == NULL ||
        EVP_MAC_init(ctx, (const unsigned char *)CHECK_KEY, CHECK_KEY_BYTES, NULL) != 1) {
        EVP_MAC_CTX_free(ctx);
        return hs_error_nomem(err, "check value of a KV state");
    }
    *ret_ctx = ctx;
    return HS_OK;
}

static hs_status check_failed(struct hs_error *err)
{
    return hs_error_set(err, HS_INTERNAL, "libcrypto failed to compute a Poly1305 check value");
}

static hs_status check_final(EVP_MAC_CTX *ctx, uint8_t ret_tag[HS_SESSION_KV_TAG_BYTES],
                             struct hs_error *err)
{
    size_t len = 0;
    if (EVP_MAC_final(ctx, ret_tag, &len, HS_SESSION_KV_TAG_BYTES) != 1 ||
        len != HS_SESSION_KV_TAG_BYTES)
        return check_failed(err);
    return HS_OK;
}

hs_status hs_session_kv_checksum(const void *data, size_t len,
                                 uint8_t ret_tag[HS_SESSION_KV_TAG_BYTES], struct hs_error *err)
{
    HS_CLEANUP(mac_ctx_freep) EVP_MAC_CTX *ctx = NULL;
    hs_status status = check_new(&ctx, err);
    if (status != HS_OK)
        return status;
    if (EVP_MAC_update(ctx, data, len) != 1)
        return check_failed(err);
    return check_final(ctx, ret_tag, err);
}

/* ---- integers ---- */

static void put_le(uint8_t *at, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *at, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* Tokens lie in the file as in the memory of a little-endian machine; elsewhere they are turned. */
static void tokens_from_le(int32_t *tokens, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)__builtin_bswap32((uint32_t)tokens[i]);
#else
    (void)tokens;
    (void)n;
#endif
}

/* ---- writing ---- */

static hs_status write_all(int fd, const uint8_t *data, size_t len, struct hs_error *err)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hs_error_errno(err, errno, "write", "kv.bin");
        data += n;
        len -= (size_t)n;
    }
    return HS_OK;
}

static hs_status write_checked(int fd, EVP_MAC_CTX *ctx, const void *data, size_t len,
                               struct hs_error *err)
{
    const uint8_t *at = data;
    while (len > 0) {
        size_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
        if (EVP_MAC_update(ctx, at, n) != 1)
            return check_failed(err);
        hs_status status = write_all(fd, at, n, err);
        if (status != HS_OK)
            return status;
        at += n;
        len -= n;
    }
    return HS_OK;
}

static hs_status write_tokens(int fd, EVP_MAC_CTX *ctx, const int32_t *tokens, size_t n_tokens,
                              struct hs_error *err)
{
    enum { GROUP = 1024 };
    int32_t group[GROUP];
    for (size_t at = 0; at < n_tokens; at += GROUP) {
        size_t n = n_tokens - at < GROUP ? n_tokens - at : GROUP;
        memcpy(group, tokens + at, n * sizeof *group);
        tokens_from_le(group, n);
        hs_status status = write_checked(fd, ctx, group, n * sizeof *group, err);
        if (status != HS_OK)
            return status;
    }
    return HS_OK;
}

static hs_status check_arguments(const struct hs_session_kv *kv, struct hs_error *err)
{
    if (memchr(kv->fingerprint, 0, sizeof kv->fingerprint) == NULL ||
        memchr(kv->cache_key, 0, sizeof kv->cache_key) == NULL)
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a KV state's fingerprint (%d bytes) or cache "
                            "key (%d bytes) is too long",
                            FINGERPRINT_BYTES, CACHE_KEY_BYTES);
    if (kv->n_tokens > HS_SESSION_KV_MAX_TOKENS)
        return hs_error_set(err, HS_LIMIT, "a KV state of %zu tokens, more than %u", kv->n_tokens,
                            HS_SESSION_KV_MAX_TOKENS);
    for (size_t i = 0; i < kv->n_tokens; i++)
        if (kv->tokens[i] < 0)
            return hs_error_set(err, HS_INVALID_ARGUMENT, "token %zu of a KV state is negative", i);
    for (size_t i = 0; i < kv->n_checkpoints; i++) {
        size_t before = i == 0 ? 0 : kv->checkpoints[i - 1].n_tokens;
        if (i >= HS_SESSION_KV_CHECKPOINTS_MAX || kv->checkpoints[i].n_tokens <= before ||
            kv->checkpoints[i].n_tokens > kv->n_tokens || kv->checkpoints[i].state_len == 0)
            return hs_error_set(err, HS_INVALID_ARGUMENT, "checkpoint %zu of a KV state is wrong",
                                i);
    }
    return HS_OK;
}

static uint64_t checkpoint_bytes(const struct hs_session_kv *kv)
{
    uint64_t len = 0;
    for (size_t i = 0; i < kv->n_checkpoints; i++)
        len += HS_SESSION_KV_CHECKPOINT_BYTES + kv->checkpoints[i].state_len;
    return len;
}

static hs_status write_checkpoints(int fd, EVP_MAC_CTX *ctx, const struct hs_session_kv *kv,
                                   struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < kv->n_checkpoints && status == HS_OK; i++) {
        const struct hs_session_kv_checkpoint *checkpoint = &kv->checkpoints[i];
        uint8_t head[HS_SESSION_KV_CHECKPOINT_BYTES];
        put_le(head, checkpoint->n_tokens, 8);
        put_le(head + 8, checkpoint->state_len, 8);
        status = write_checked(fd, ctx, head, sizeof head, err);
        if (status == HS_OK)
            status = write_checked(fd, ctx, checkpoint->state, checkpoint->state_len, err);
    }
    return status;
}

hs_status hs_session_kv_write(int fd, const struct hs_session_kv *kv, struct hs_error *err)
{
    hs_status status = check_arguments(kv, err);
    if (status != HS_OK)
        return status;
    HS_CLEANUP(mac_ctx_freep) EVP_MAC_CTX *ctx = NULL;
    status = check_new(&ctx, err);
    if (status != HS_OK)
        return status;

    uint8_t header[HS_SESSION_KV_HEADER_BYTES] = {0};
    memcpy(header, MAGIC, sizeof MAGIC);
    put_le(header + AT_VERSION, kv->n_checkpoints == 0 ? 1 : HS_SESSION_KV_VERSION, 4);
    put_le(header + AT_N_TOKENS, kv->n_tokens, 8);
    put_le(header + AT_STATE_LEN, kv->state_len, 8);
    put_le(header + AT_CHECKPOINTS_LEN, checkpoint_bytes(kv), 8);
    memcpy(header + AT_FINGERPRINT, kv->fingerprint, strlen(kv->fingerprint));
    memcpy(header + AT_CACHE_KEY, kv->cache_key, strlen(kv->cache_key));

    status = write_checked(fd, ctx, header, sizeof header, err);
    if (status == HS_OK)
        status = write_tokens(fd, ctx, kv->tokens, kv->n_tokens, err);
    if (status == HS_OK)
        status = write_checked(fd, ctx, kv->state, kv->state_len, err);
    if (status == HS_OK)
        status = write_checkpoints(fd, ctx, kv, err);
    uint8_t tag[HS_SESSION_KV_TAG_BYTES];
    if (status == HS_OK)
        status = check_final(ctx, tag, err);
    if (status == HS_OK)
        status = write_all(fd, tag, sizeof tag, err);
    return status;
}

/* ---- reading ---- */

static hs_status corrupt(struct hs_error *err, const char *what)
{
    hs_error_set(err, HS_CORRUPT, "kv.bin is damaged: %s", what);
    hs_error_hint(err, "nothing is lost: the session's text is evaluated again");
    return HS_CORRUPT;
}

static hs_status source_read(struct hs_session_kv_source *source, void *data, size_t len,
                             struct hs_error *err)
{
    if (len > source->len - source->position)
        return corrupt(err, "it ends too early");
    if (source->fd < 0) {
        memcpy(data, source->data + source->position, len);
        source->position += len;
        return HS_OK;
    }
    uint8_t *at = data;
    while (len > 0) {
        ssize_t n = read(source->fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hs_error_errno(err, errno, "read", "kv.bin");
        if (n == 0)
            return corrupt(err, "it ends too early");
        at += n;
        len -= (size_t)n;
        source->position += (uint64_t)n;
    }
    return HS_OK;
}

static hs_status read_checked(struct hs_session_kv_source *source, EVP_MAC_CTX *ctx, void *data,
                              size_t len, struct hs_error *err)
{
    uint8_t *at = data;
    while (len > 0) {
        size_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
        hs_status status = source_read(source, at, n, err);
        if (status != HS_OK)
            return status;
        if (EVP_MAC_update(ctx, at, n) != 1)
            return check_failed(err);
        at += n;
        len -= n;
    }
    return HS_OK;
}

/* A zero-padded text field; false when it holds anything but printable ASCII before the padding. */
static bool get_text(const uint8_t *field, size_t size, char *ret_text)
{
    size_t len = strnlen((const char *)field, size);
    for (size_t i = 0; i < size; i++)
        if (i < len ? field[i] < 0x20 || field[i] > 0x7e : field[i] != 0)
            return false;
    memcpy(ret_text, field, len);
    ret_text[len] = 0;
    return true;
}

static hs_status parse_header(const uint8_t *header, uint64_t total_len, struct hs_session_kv *kv,
                              uint64_t *ret_checkpoints_len, struct hs_error *err)
{
    if (memcmp(header, MAGIC, sizeof MAGIC) != 0)
        return corrupt(err, "it does not begin with \"HSKV\"");
    uint64_t version = get_le(header + AT_VERSION, 4);
    if (version < 1 || version > HS_SESSION_KV_VERSION) {
        hs_error_set(err, HS_UNSUPPORTED_VERSION,
                     "kv.bin has version %llu; this program reads versions 1 to %u",
                     (unsigned long long)version, HS_SESSION_KV_VERSION);
        hs_error_hint(err, "nothing is lost: the session's text is evaluated again");
        return HS_UNSUPPORTED_VERSION;
    }
    uint64_t n_tokens = get_le(header + AT_N_TOKENS, 8);
    uint64_t state_len = get_le(header + AT_STATE_LEN, 8);
    uint64_t room = total_len - HS_SESSION_KV_HEADER_BYTES - HS_SESSION_KV_TAG_BYTES;
    if (n_tokens > HS_SESSION_KV_MAX_TOKENS || n_tokens * 4 > room ||
        state_len > room - n_tokens * 4 || state_len > SIZE_MAX)
        return corrupt(err, "its size is not what its header says");
    uint64_t rest = room - n_tokens * 4 - state_len;
    if (get_le(header + AT_CHECKPOINTS_LEN, 8) != rest)
        return corrupt(err, "its size is not what its header says");
    if ((rest != 0) != (version > 1) ||
        !get_text(header + AT_FINGERPRINT, FINGERPRINT_BYTES, kv->fingerprint) ||
        !get_text(header + AT_CACHE_KEY, CACHE_KEY_BYTES, kv->cache_key))
        return corrupt(err, "its header is malformed");
    kv->n_tokens = (size_t)n_tokens;
    kv->state_len = (size_t)state_len;
    *ret_checkpoints_len = rest;
    return HS_OK;
}

/* The checkpoints in the next `len` bytes, which the file is known to have. */
static hs_status read_checkpoints(struct hs_session_kv_source *source, EVP_MAC_CTX *ctx,
                                  uint64_t len, struct hs_session_kv *kv, struct hs_error *err)
{
    uint64_t n_before = 0;
    while (len > 0) {
        uint8_t head[HS_SESSION_KV_CHECKPOINT_BYTES];
        if (kv->n_checkpoints == HS_SESSION_KV_CHECKPOINTS_MAX || len < sizeof head)
            return corrupt(err, "its checkpoints are malformed");
        hs_status status = read_checked(source, ctx, head, sizeof head, err);
        if (status != HS_OK)
            return status;
        len -= sizeof head;
        uint64_t n_tokens = get_le(head, 8), state_len = get_le(head + 8, 8);
        if (n_tokens <= n_before || n_tokens > kv->n_tokens || state_len == 0 || state_len > len ||
            state_len > SIZE_MAX)
            return corrupt(err, "its checkpoints are malformed");
        struct hs_session_kv_checkpoint *checkpoint = &kv->checkpoints[kv->n_checkpoints++];
        checkpoint->n_tokens = (size_t)n_tokens;
        checkpoint->state_len = (size_t)state_len;
        checkpoint->state = hs_alloc(checkpoint->state_len);
        if (checkpoint->state == NULL)
            return hs_error_nomem(err, "KV state of a session");
        status = read_checked(source, ctx, checkpoint->state, checkpoint->state_len, err);
        if (status != HS_OK)
            return status;
        len -= state_len;
        n_before = n_tokens;
    }
    return HS_OK;
}

static hs_status read_body(struct hs_session_kv_source *source, EVP_MAC_CTX *ctx,
                           uint64_t checkpoints_len, struct hs_session_kv *kv, struct hs_error *err)
{
    kv->tokens = hs_alloc(kv->n_tokens * sizeof *kv->tokens);
    kv->state = hs_alloc(kv->state_len);
    if (kv->tokens == NULL || kv->state == NULL)
        return hs_error_nomem(err, "KV state of a session");
    hs_status status = read_checked(source, ctx, kv->tokens, kv->n_tokens * 4, err);
    if (status == HS_OK)
        status = read_checked(source, ctx, kv->state, kv->state_len, err);
    if (status == HS_OK)
        status = read_checkpoints(source, ctx, checkpoints_len, kv, err);
    uint8_t stored[HS_SESSION_KV_TAG_BYTES], computed[HS_SESSION_KV_TAG_BYTES];
    if (status == HS_OK)
        status = source_read(source, stored, sizeof stored, err);
    if (status == HS_OK)
        status = check_final(ctx, computed, err);
    if (status != HS_OK)
        return status;
    if (memcmp(stored, computed, sizeof stored) != 0)
        return corrupt(err, "its check value does not match");
    tokens_from_le(kv->tokens, kv->n_tokens);
    for (size_t i = 0; i < kv->n_tokens; i++)
        if (kv->tokens[i] < 0)
            return corrupt(err, "it has a negative token");
    return HS_OK;
}

hs_status hs_session_kv_read(struct hs_session_kv_source *source, struct hs_session_kv *ret_kv,
                             struct hs_error *err)
{
    if (source->len < HS_SESSION_KV_HEADER_BYTES + HS_SESSION_KV_TAG_BYTES)
        return corrupt(err, "it ends too early");
    HS_CLEANUP(mac_ctx_freep) EVP_MAC_CTX *ctx = NULL;
    hs_status status = check_new(&ctx, err);
    if (status != HS_OK)
        return status;
    struct hs_session_kv kv = {0};
    uint64_t checkpoints_len = 0;
    uint8_t header[HS_SESSION_KV_HEADER_BYTES];
    status = read_checked(source, ctx, header, sizeof header, err);
    if (status == HS_OK)
        status = parse_header(header, source->len, &kv, &checkpoints_len, err);
    if (status == HS_OK)
        status = read_body(source, ctx, checkpoints_len, &kv, err);
    if (status != HS_OK) {
        hs_session_kv_free(&kv);
        return status;
    }
    *ret_kv = kv;
    return HS_OK;
}

void hs_session_kv_free(struct hs_session_kv *kv)
{
    if (kv == NULL)
        return;
    hs_free(kv->tokens);
    hs_free(kv->state);
    for (size_t i = 0; i < kv->n_checkpoints; i++)
        hs_free(kv->checkpoints[i].state);
    *kv = (struct hs_session_kv){0};
}
