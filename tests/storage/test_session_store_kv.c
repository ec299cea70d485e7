/* kv.bin, read from memory: what is written can be read, everything else is refused. */
#include "store_test.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "session_store_internal.h"

/* ---- Poly1305, from RFC 8439, section 2.5, in base 256 ---- */

/* 2^136 = 64 * 2^130, and 2^130 is 5 modulo 2^130 - 5. */
static void poly_reduce(uint32_t x[34])
{
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 33; i++) {
            x[i + 1] += x[i] >> 8;
            x[i] &= 0xff;
        }
        for (int i = 33; i >= 17; i--) {
            x[i - 17] += 320 * x[i];
            x[i] = 0;
        }
        x[0] += 5 * (x[16] >> 2);
        x[16] &= 3;
    }
    for (int i = 0; i < 16; i++) {
        x[i + 1] += x[i] >> 8;
        x[i] &= 0xff;
    }
}

static void poly1305(const uint8_t key[32], const uint8_t *data, size_t len, uint8_t tag[16])
{
    uint8_t r[17] = {0};
    uint32_t h[34] = {0};
    memcpy(r, key, 16);
    for (int i = 3; i < 16; i += 4)
        r[i] &= 15;
    for (int i = 4; i < 16; i += 4)
        r[i] &= 252;
    for (size_t at = 0; at < len; at += 16) {
        size_t n = len - at < 16 ? len - at : 16;
        for (size_t i = 0; i < n; i++)
            h[i] += data[at + i];
        h[n] += 1;
        uint32_t product[34] = {0};
        for (int i = 0; i < 17; i++)
            for (int j = 0; j < 17; j++)
                product[i + j] += h[i] * r[j];
        poly_reduce(product);
        memcpy(h, product, sizeof h);
    }
    /* h < 2^130 here; subtract the modulus when h + 5 reaches 2^130. */
    uint32_t g[34];
    memcpy(g, h, sizeof g);
    g[0] += 5;
    for (int i = 0; i < 16; i++) {
        g[i + 1] += g[i] >> 8;
        g[i] &= 0xff;
    }
    const uint32_t *result = g[16] >= 4 ? g : h;
    uint32_t carry = 0;
    for (int i = 0; i < 16; i++) {
        carry += result[i] + key[16 + i];
        tag[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

static void test_poly1305_of_the_rfc(void **state)
{
    (void)state;
    /* RFC 8439, section 2.5.2 */
    static const uint8_t key[32] = {0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33,
                                    0x7f, 0x44, 0x52, 0xfe, 0x42, 0xd5, 0x06, 0xa8,
                                    0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d, 0xb2, 0xfd,
                                    0x4a, 0xbf, 0xf6, 0xaf, 0x41, 0x49, 0xf5, 0x1b};
    static const uint8_t expected[16] = {0xa8, 0x06, 0x1d, 0xc1, 0x30, 0x51, 0x36, 0xc6,
                                         0xc2, 0x2b, 0x8b, 0xaf, 0x0c, 0x01, 0x27, 0xa9};
    static const char text[] = "Cryptographic Forum Research Group";
    uint8_t tag[16];
    poly1305(key, (const uint8_t *)text, sizeof text - 1, tag);
    assert_memory_equal(tag, expected, sizeof tag);
}

static void expected_tag(const uint8_t *data, size_t len, uint8_t tag[16])
{
    poly1305((const uint8_t *)"hyprstream kv.bin check value v1", data, len, tag);
}

static void test_check_value_is_poly1305(void **state)
{
    (void)state;
    static uint8_t data[1000];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = i < 500 ? 0xff : (uint8_t)next_random(&seed);
    for (size_t len = 0; len <= sizeof data; len++) {
        uint8_t ours[16], expected[16];
        assert_int_equal(hs_session_kv_checksum(data, len, ours, NULL), HS_OK);
        expected_tag(data, len, expected);
        assert_memory_equal(ours, expected, 16);
    }
}

/* ---- kv.bin ---- */

static void put_le(uint8_t *at, uint64_t value, int n)
{
    for (int i = 0; i < n; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

#define KV_HEADER 224
#define KV_TOKENS 5
#define KV_STATE 37
#define KV_LEN (KV_HEADER + 4 * KV_TOKENS + KV_STATE + 16)
static const int32_t KV_TOKEN_VALUES[KV_TOKENS] = {1, 0, 49151, INT32_MAX, 256};

static void kv_seal(uint8_t *file, size_t len)
{
    expected_tag(file, len - 16, file + len - 16);
}

/* A kv.bin as docs/formats.md says, byte by byte. */
static void kv_example(uint8_t file[KV_LEN])
{
    memset(file, 0, KV_LEN);
    memcpy(file, "HSKV", 4);
    put_le(file + 4, 1, 4);
    put_le(file + 8, KV_TOKENS, 8);
    put_le(file + 16, KV_STATE, 8);
    memset(file + 24, 'a', 64);
    memcpy(file + 88, "key of the cache", 16);
    for (int i = 0; i < KV_TOKENS; i++)
        put_le(file + KV_HEADER + 4 * i, (uint64_t)KV_TOKEN_VALUES[i], 4);
    for (int i = 0; i < KV_STATE; i++)
        file[KV_HEADER + 4 * KV_TOKENS + i] = (uint8_t)(200 + i);
    kv_seal(file, KV_LEN);
}

static hs_status kv_parse(const uint8_t *data, size_t len, struct hs_session_kv *ret_kv,
                          struct hs_error *err)
{
    struct hs_session_kv_source source = {.fd = -1, .data = data, .len = len};
    return hs_session_kv_read(&source, ret_kv, err);
}

static void assert_kv_is_example(const struct hs_session_kv *kv)
{
    char fingerprint[65];
    memset(fingerprint, 'a', 64);
    fingerprint[64] = 0;
    assert_string_equal(kv->fingerprint, fingerprint);
    assert_string_equal(kv->cache_key, "key of the cache");
    assert_int_equal(kv->n_tokens, KV_TOKENS);
    assert_memory_equal(kv->tokens, KV_TOKEN_VALUES, sizeof KV_TOKEN_VALUES);
    assert_int_equal(kv->state_len, KV_STATE);
    for (int i = 0; i < KV_STATE; i++)
        assert_int_equal(kv->state[i], (uint8_t)(200 + i));
}

static void test_kv_reads_the_documented_bytes(void **state)
{
    (void)state;
    uint8_t file[KV_LEN];
    struct hs_session_kv kv = {0};
    kv_example(file);
    assert_int_equal(kv_parse(file, sizeof file, &kv, NULL), HS_OK);
    assert_kv_is_example(&kv);
    hs_session_kv_free(&kv);
    assert_null(kv.tokens);
}

static int memory_file(void)
{
    int fd = memfd_create("kv", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void test_kv_writes_the_documented_bytes(void **state)
{
    (void)state;
    uint8_t file[KV_LEN], written[KV_LEN + 1], bytes[KV_STATE];
    int32_t tokens[KV_TOKENS];
    kv_example(file);
    memcpy(tokens, KV_TOKEN_VALUES, sizeof tokens);
    memcpy(bytes, file + KV_HEADER + 4 * KV_TOKENS, sizeof bytes);
    struct hs_session_kv kv = {.cache_key = "key of the cache",
                               .tokens = tokens,
                               .n_tokens = KV_TOKENS,
                               .state = bytes,
                               .state_len = KV_STATE};
    memset(kv.fingerprint, 'a', 64);
    int fd = memory_file();
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_OK);
    assert_int_equal(pread(fd, written, sizeof written, 0), KV_LEN);
    assert_memory_equal(written, file, KV_LEN);
    close(fd);
}

static void test_kv_without_tokens_and_state(void **state)
{
    (void)state;
    uint8_t file[KV_HEADER + 16] = {0};
    struct hs_session_kv kv = {0};
    memcpy(file, "HSKV", 4);
    put_le(file + 4, 1, 4);
    kv_seal(file, sizeof file);
    assert_int_equal(kv_parse(file, sizeof file, &kv, NULL), HS_OK);
    assert_int_equal(kv.n_tokens, 0);
    assert_int_equal(kv.state_len, 0);
    assert_string_equal(kv.fingerprint, "");
    hs_session_kv_free(&kv);
}

static void test_kv_finds_every_flipped_bit(void **state)
{
    (void)state;
    uint8_t file[KV_LEN];
    kv_example(file);
    for (size_t bit = 0; bit < 8 * sizeof file; bit++) {
        struct hs_session_kv kv = {0};
        struct hs_error err;
        file[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        hs_status status = kv_parse(file, sizeof file, &kv, &err);
        bool is_version = bit / 8 >= 4 && bit / 8 < 8;
        assert_int_equal(status, is_version ? HS_UNSUPPORTED_VERSION : HS_CORRUPT);
        assert_true(err.hint[0] != 0);
        file[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void test_kv_of_another_length(void **state)
{
    (void)state;
    static uint8_t file[KV_LEN + 64];
    struct hs_session_kv kv = {0};
    for (size_t len = 0; len < sizeof file; len++) {
        uint8_t *copy = malloc(len + 1); /* so that a sanitizer sees a read past its end */
        assert_non_null(copy);
        kv_example(file);
        memcpy(copy, file, len);
        assert_int_equal(kv_parse(copy, len, &kv, NULL), len == KV_LEN ? HS_OK : HS_CORRUPT);
        hs_session_kv_free(&kv);
        /* also when somebody sealed the wrong length */
        if (len >= 16 && len != KV_LEN) {
            kv_seal(copy, len);
            assert_int_equal(kv_parse(copy, len, &kv, NULL), HS_CORRUPT);
        }
        free(copy);
    }
}

/* ---- kv.bin with checkpoints ---- */

#define CP_LEN (KV_LEN + 16 + 3 + 16 + 5)

/* Version 2: after the state a checkpoint of 3 bytes after 2 tokens, and one of 5 after all 5. */
static void kv_checkpoint_example(uint8_t file[CP_LEN])
{
    kv_example(file);
    put_le(file + 4, 2, 4);
    put_le(file + 216, CP_LEN - KV_LEN, 8);
    uint8_t *at = file + KV_LEN - 16;
    put_le(at, 2, 8);
    put_le(at + 8, 3, 8);
    memcpy(at + 16, "abc", 3);
    put_le(at + 19, 5, 8);
    put_le(at + 27, 5, 8);
    memcpy(at + 35, "defgh", 5);
    kv_seal(file, CP_LEN);
}

static void test_kv_checkpoints(void **state)
{
    (void)state;
    uint8_t file[CP_LEN], written[CP_LEN + 1];
    struct hs_session_kv kv = {0};
    kv_checkpoint_example(file);
    assert_int_equal(kv_parse(file, sizeof file, &kv, NULL), HS_OK);
    assert_kv_is_example(&kv);
    assert_int_equal(kv.n_checkpoints, 2);
    assert_int_equal(kv.checkpoints[0].n_tokens, 2);
    assert_int_equal(kv.checkpoints[0].state_len, 3);
    assert_memory_equal(kv.checkpoints[0].state, "abc", 3);
    assert_int_equal(kv.checkpoints[1].n_tokens, 5);
    assert_memory_equal(kv.checkpoints[1].state, "defgh", 5);
    int fd = memory_file();
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_OK);
    assert_int_equal(pread(fd, written, sizeof written, 0), CP_LEN);
    assert_memory_equal(written, file, CP_LEN);
    close(fd);
    static const size_t wrong[][2] = {{5, 2}, {2, 2}, {0, 5}, {2, 6}};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        kv.checkpoints[0].n_tokens = wrong[i][0];
        kv.checkpoints[1].n_tokens = wrong[i][1];
        assert_int_equal(hs_session_kv_write(-1, &kv, NULL), HS_INVALID_ARGUMENT);
    }
    hs_session_kv_free(&kv);
}

static void test_kv_checkpoints_of_another_length(void **state)
{
    (void)state;
    uint8_t file[CP_LEN];
    kv_checkpoint_example(file);
    for (size_t len = 16; len < sizeof file; len++) {
        struct hs_session_kv kv = {0};
        uint8_t *copy = malloc(len); /* so that a sanitizer sees a read past its end */
        assert_non_null(copy);
        memcpy(copy, file, len);
        kv_seal(copy, len);
        assert_int_equal(kv_parse(copy, len, &kv, NULL), HS_CORRUPT);
        free(copy);
    }
}

static void test_kv_hostile_checkpoints(void **state)
{
    (void)state;
    enum { FIRST = KV_LEN - 16, SECOND = FIRST + 19 };
    static const struct {
        size_t offset;
        uint64_t value;
        int n_bytes;
    } CASES[] = {
        {4, 1, 4},   /* version 1 has none */
        {216, 0, 8}, /* fewer bytes than there are */
        {216, UINT64_MAX, 8},
        {216, CP_LEN - KV_LEN - 1, 8},
        {216, CP_LEN - KV_LEN + 1, 8},
        {FIRST, 0, 8}, /* before the first token */
        {FIRST, 5, 8}, /* not ascending */
        {FIRST, UINT64_MAX, 8},
        {SECOND, 2, 8},
        {SECOND, 6, 8},    /* behind the last token */
        {FIRST + 8, 0, 8}, /* without bytes */
        {FIRST + 8, 2, 8},
        {FIRST + 8, 4, 8},
        {FIRST + 8, UINT64_MAX, 8},
        {FIRST + 8, 25, 8},
        {SECOND + 8, 4, 8},
        {SECOND + 8, 6, 8},
        {SECOND + 8, UINT64_MAX - 7, 8},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        uint8_t file[CP_LEN];
        struct hs_session_kv kv = {0};
        kv_checkpoint_example(file);
        put_le(file + CASES[i].offset, CASES[i].value, CASES[i].n_bytes);
        kv_seal(file, sizeof file);
        hs_status status = kv_parse(file, sizeof file, &kv, NULL);
        if (status != HS_CORRUPT)
            fail_msg("case %zu: %s", i, hs_status_name(status));
    }
}

/* Eight are read, nine are not, and memory may run out at each. */
static void test_kv_number_of_checkpoints(void **state)
{
    (void)state;
    for (size_t n = 8; n <= 9; n++) {
        uint8_t file[KV_HEADER + 4 * 9 + 9 * 17 + 16] = {0};
        size_t len = KV_HEADER + 4 * 9 + n * 17 + 16;
        memcpy(file, "HSKV", 4);
        put_le(file + 4, 2, 4);
        put_le(file + 8, 9, 8);
        put_le(file + 216, n * 17, 8);
        for (size_t i = 0; i < n; i++) {
            put_le(file + KV_HEADER + 36 + 17 * i, i + 1, 8);
            put_le(file + KV_HEADER + 36 + 17 * i + 8, 1, 8);
        }
        kv_seal(file, len);
        struct hs_session_kv kv = {0};
        assert_int_equal(kv_parse(file, len, &kv, NULL), n == 8 ? HS_OK : HS_CORRUPT);
        assert_int_equal(kv.n_checkpoints, n == 8 ? 8 : 0);
        hs_session_kv_free(&kv);
        for (uint64_t nth = 1; n == 8 && nth < 100; nth++) {
            hs_mem_fail_after(nth);
            hs_status status = kv_parse(file, len, &kv, NULL);
            hs_mem_fail_after(0);
            hs_session_kv_free(&kv);
            if (status == HS_OK)
                break;
            assert_int_equal(status, HS_OUT_OF_MEMORY);
        }
    }
}

/* Lengths that lie, with a check value that is right: refused before anything is allocated. */
static void test_kv_hostile_headers(void **state)
{
    (void)state;
    static const struct {
        uint64_t n_tokens, state_len;
    } CASES[] = {
        {UINT64_MAX, KV_STATE},
        {UINT64_MAX / 4, KV_STATE},
        {(UINT64_MAX / 4) + 1 + KV_TOKENS, KV_STATE},
        {KV_TOKENS, UINT64_MAX},
        {KV_TOKENS, KV_STATE + 1},
        {KV_TOKENS, KV_STATE - 1},
        {KV_TOKENS + 1, KV_STATE},
        {0, UINT64_MAX - 15},
        {(1u << 24) + 1, 0},
        {1u << 24, 0},
        {KV_TOKENS + 4, UINT64_MAX - 10 + KV_STATE},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        uint8_t file[KV_LEN];
        struct hs_session_kv kv = {0};
        kv_example(file);
        put_le(file + 8, CASES[i].n_tokens, 8);
        put_le(file + 16, CASES[i].state_len, 8);
        kv_seal(file, sizeof file);
        hs_mem_fail_after(UINT64_MAX);
        assert_int_equal(kv_parse(file, sizeof file, &kv, NULL), HS_CORRUPT);
        assert_int_equal(hs_mem_count(), 0);
    }
}

static void test_kv_hostile_texts_and_tokens(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        uint8_t value;
    } CASES[] = {
        {24, 0},              /* text after the end of the fingerprint */
        {30, 0x1b},           /* a control character */
        {100, 0x80},          /* not ASCII */
        {215, 'x'},           /* text after the end of the cache key */
        {216, 1},             /* reserved bytes */
        {KV_HEADER + 3, 0x80} /* a negative token */
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        uint8_t file[KV_LEN];
        struct hs_session_kv kv = {0};
        kv_example(file);
        file[CASES[i].offset] = CASES[i].value;
        kv_seal(file, sizeof file);
        assert_int_equal(kv_parse(file, sizeof file, &kv, NULL), HS_CORRUPT);
        assert_null(kv.tokens);
    }
}

static void test_kv_full_fields(void **state)
{
    (void)state;
    struct hs_session_kv kv = {0}, back = {0};
    memset(kv.fingerprint, 'f', 64);
    memset(kv.cache_key, 'k', 128);
    int fd = memory_file();
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_OK);
    lseek(fd, 0, SEEK_SET);
    struct hs_session_kv_source source = {.fd = fd, .len = KV_HEADER + 16};
    assert_int_equal(hs_session_kv_read(&source, &back, NULL), HS_OK);
    assert_string_equal(back.fingerprint, kv.fingerprint);
    assert_string_equal(back.cache_key, kv.cache_key);
    hs_session_kv_free(&back);

    memset(kv.cache_key, 'k', 129); /* no room for its end */
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_INVALID_ARGUMENT);
    kv.cache_key[128] = 0;
    memset(kv.fingerprint, 'f', 65);
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_INVALID_ARGUMENT);
    close(fd);
}

static void test_kv_token_limit(void **state)
{
    (void)state;
    size_t n = (1u << 24) + 1;
    int32_t *tokens = calloc(n, sizeof *tokens);
    assert_non_null(tokens);
    struct hs_session_kv kv = {.tokens = tokens, .n_tokens = n};
    struct hs_session_kv back = {0};
    int fd = memory_file();
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_LIMIT);
    kv.n_tokens = n - 1;
    tokens[n - 2] = 7;
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_OK);
    struct hs_session_kv_source source = {.fd = fd, .len = KV_HEADER + 4 * (n - 1) + 16};
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(hs_session_kv_read(&source, &back, NULL), HS_OK);
    assert_int_equal(back.n_tokens, n - 1);
    assert_memory_equal(back.tokens, tokens, 4 * (n - 1));
    hs_session_kv_free(&back);
    tokens[3] = -1;
    assert_int_equal(hs_session_kv_write(fd, &kv, NULL), HS_INVALID_ARGUMENT);
    free(tokens);
    close(fd);
}

/* A file that became shorter since its size was asked. */
static void test_kv_shrinks_while_read(void **state)
{
    (void)state;
    uint8_t file[KV_LEN];
    kv_example(file);
    for (size_t len = 0; len < sizeof file; len += 7) {
        struct hs_session_kv kv = {0};
        int fd = memory_file();
        assert_int_equal(write(fd, file, len), len);
        lseek(fd, 0, SEEK_SET);
        struct hs_session_kv_source source = {.fd = fd, .len = sizeof file};
        assert_int_equal(hs_session_kv_read(&source, &kv, NULL), HS_CORRUPT);
        assert_null(kv.state);
        close(fd);
    }
}

static void test_kv_out_of_memory(void **state)
{
    (void)state;
    uint8_t file[KV_LEN];
    struct hs_session_kv kv = {0};
    hs_status status = HS_OK;
    kv_example(file);
    WITH_EVERY_ALLOCATION_FAILING(status, status = kv_parse(file, sizeof file, &kv, NULL), {
        assert_true((status == HS_OK) == (kv.state != NULL));
        hs_session_kv_free(&kv);
    });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_poly1305_of_the_rfc),
        cmocka_unit_test(test_check_value_is_poly1305),
        cmocka_unit_test(test_kv_reads_the_documented_bytes),
        cmocka_unit_test(test_kv_writes_the_documented_bytes),
        cmocka_unit_test(test_kv_without_tokens_and_state),
        cmocka_unit_test(test_kv_finds_every_flipped_bit),
        cmocka_unit_test(test_kv_of_another_length),
        cmocka_unit_test(test_kv_checkpoints),
        cmocka_unit_test(test_kv_checkpoints_of_another_length),
        cmocka_unit_test(test_kv_hostile_checkpoints),
        cmocka_unit_test(test_kv_number_of_checkpoints),
        cmocka_unit_test(test_kv_hostile_headers),
        cmocka_unit_test(test_kv_hostile_texts_and_tokens),
        cmocka_unit_test(test_kv_full_fields),
        cmocka_unit_test(test_kv_token_limit),
        cmocka_unit_test(test_kv_shrinks_while_read),
        cmocka_unit_test(test_kv_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
