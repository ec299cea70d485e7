/* The two formats of a session, read from memory: what is written can be read, everything else is
 * refused. */
#include "store_test.h"

#include <fcntl.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
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

/* ---- session.json ---- */

static hs_status parse(const char *text, struct hs_session_record *ret_record, struct hs_error *err)
{
    return hs_session_record_parse(text, strlen(text), ret_record, err);
}

#define HEAD                                                                                       \
    "{\"format\":\"hyprstream-session\",\"version\":1,\"model\":\"m\",\"fingerprint\":\"f\","
#define TIMES "\"created_unix_ms\":1,\"updated_unix_ms\":2,"
#define TAIL "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[]}"

static void test_json_reads_the_documented_text(void **state)
{
    (void)state;
    static const char TEXT[] =
        "{\"format\": \"hyprstream-session\", \"version\": 1, \"model\": \"smollm2\",\n"
        " \"fingerprint\": \"00ff\", \"created_unix_ms\": 1790000000000,\n"
        " \"updated_unix_ms\": 1790000001000, \"overflow\": \"shift\",\n"
        " \"adapters\": [{\"name\": \"poet\", \"scale\": 0.5}, {\"name\": \"b\", \"scale\": 1}],\n"
        " \"messages\": [{\"role\": \"system\", \"content\": \"\"},\n"
        "  {\"role\": \"user\", \"content\": \"a \\u00e9 \\ud83d\\ude00 \\\" \\n z\"},\n"
        "  {\"role\": \"assistant\", \"content\": \"yes\", \"reasoning\": \"hm\"}],\n"
        " \"a later field\": [null]}";
    struct hs_session_record record = {0};
    assert_int_equal(parse(TEXT, &record, NULL), HS_OK);
    assert_string_equal(record.model_name, "smollm2");
    assert_string_equal(record.fingerprint, "00ff");
    assert_true(record.created_unix_ms == 1790000000000 && record.updated_unix_ms == 1790000001000);
    assert_int_equal(record.overflow, HS_OVERFLOW_SHIFT);
    assert_int_equal(record.n_adapters, 2);
    assert_string_equal(record.adapters[0].name, "poet");
    assert_true(record.adapters[0].scale == 0.5f && record.adapters[1].scale == 1.0f);
    assert_int_equal(record.n_messages, 3);
    assert_string_equal(record.messages[0].content, "");
    assert_string_equal(record.messages[1].content, "a \xc3\xa9 \xf0\x9f\x98\x80 \" \n z");
    assert_null(record.messages[1].reasoning);
    assert_string_equal(record.messages[2].role, "assistant");
    assert_string_equal(record.messages[2].reasoning, "hm");
    assert_null(record.params);
    hs_session_record_free(&record);
}

static void test_json_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        hs_status status;
    } CASES[] = {
        {"", HS_CORRUPT},
        {"null", HS_CORRUPT},
        {"[]", HS_CORRUPT},
        {"{}", HS_CORRUPT},
        {HEAD TIMES TAIL, HS_OK},
        {HEAD TIMES TAIL " x", HS_CORRUPT},
        {HEAD TIMES TAIL "{}", HS_CORRUPT},
        {HEAD TAIL, HS_CORRUPT},
        {HEAD TIMES "\"version\":1," TAIL, HS_CORRUPT}, /* a key twice */
        {"{\"format\":\"other\",\"version\":1}", HS_CORRUPT},
        {"{\"format\":\"hyprstream-session\",\"version\":0}", HS_CORRUPT},
        {"{\"format\":\"hyprstream-session\",\"version\":\"1\"}", HS_CORRUPT},
        {"{\"format\":\"hyprstream-session\",\"version\":2}", HS_UNSUPPORTED_VERSION},
        {HEAD "\"created_unix_ms\":1.5,\"updated_unix_ms\":2," TAIL, HS_CORRUPT},
        {HEAD "\"created_unix_ms\":99999999999999999999,\"updated_unix_ms\":2," TAIL, HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"explode\",\"adapters\":[],\"messages\":[]}", HS_CORRUPT},
        {HEAD TIMES "\"overflow\":7,\"adapters\":[],\"messages\":[]}", HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":{},\"messages\":[]}", HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[3],\"messages\":[]}", HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[{\"name\":\"a\"}],\"messages\":[]}",
         HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[{\"name\":\"a\",\"scale\":1e308}],"
                    "\"messages\":[]}",
         HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{}]}", HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\"}]}",
         HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\","
                    "\"content\":5}]}",
         HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\","
                    "\"content\":\"a\\u0000b\"}]}",
         HS_CORRUPT},
        {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\","
                    "\"content\":\"\xff\"}]}",
         HS_CORRUPT},
        {HEAD TIMES "\"params\":[]," TAIL, HS_CORRUPT},
        {HEAD TIMES "\"params\":{}," TAIL, HS_CORRUPT},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct hs_session_record record = {0};
        struct hs_error err = {0};
        hs_status status = parse(CASES[i].text, &record, &err);
        if (status != CASES[i].status)
            fail_msg("case %zu gives %d (%s): %s", i, (int)status, err.message, CASES[i].text);
        assert_int_equal(err.status, status == HS_OK ? 0 : status);
        if (status != HS_OK)
            assert_true(err.message[0] != 0 && err.hint[0] != 0);
        hs_session_record_free(&record);
    }
}

/* The conversation must not leak into messages and logs. */
static void test_json_errors_do_not_quote(void **state)
{
    (void)state;
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    assert_int_equal(parse("{\"content\": \"my secret\" \"my other secret\"}", &record, &err),
                     HS_CORRUPT);
    assert_null(strstr(err.message, "secret"));
    assert_non_null(strstr(err.message, "line 1"));
}

static void test_json_nested_deep(void **state)
{
    (void)state;
    size_t n = 1u << 20;
    char *text = malloc(n);
    assert_non_null(text);
    struct hs_session_record record = {0};
    memset(text, '[', n);
    assert_int_equal(hs_session_record_parse(text, n, &record, NULL), HS_CORRUPT);
    for (size_t i = 0; i + 5 <= n; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    assert_int_equal(hs_session_record_parse(text, n, &record, NULL), HS_CORRUPT);
    free(text);
}

static const char *const STOPS[] = {"\n\n", "", "</s>\xe2\x82\xac"};
static const char *const BREAKERS[] = {"\n"};
static const int32_t BIAS_TOKENS[] = {0, 5, INT32_MAX};
static const float BIAS_VALUES[] = {-INFINITY, 0.1f, -FLT_MAX};

/* Every field another value, so that two that are mixed up show. */
static struct hs_generate_params example_params(void)
{
    return (struct hs_generate_params){.max_tokens = -1,
                                       .stop = STOPS,
                                       .n_stop = COUNT_OF(STOPS),
                                       .ignore_eos = true,
                                       .enable_thinking = false,
                                       .split_reasoning = true,
                                       .cache_prompt = false,
                                       .deadline_ms = 77,
                                       .n_logprobs = 3,
                                       .stream_capacity = 9,
                                       .sampling = {.seed = HS_SEED_RANDOM,
                                                    .temp = 0.1f,
                                                    .dynatemp_range = 0.2f,
                                                    .dynatemp_exponent = 0.3f,
                                                    .top_k = INT32_MIN,
                                                    .top_p = 0.95f,
                                                    .min_p = 1e-30f,
                                                    .typical_p = 0.4f,
                                                    .top_n_sigma = -1.0f,
                                                    .xtc_probability = 0.5f,
                                                    .xtc_threshold = 0.6f,
                                                    .repeat_penalty = 1.1f,
                                                    .frequency_penalty = 0.7f,
                                                    .presence_penalty = FLT_MAX,
                                                    .repeat_last_n = 64,
                                                    .dry_multiplier = 0.8f,
                                                    .dry_base = 1.75f,
                                                    .dry_allowed_length = 2,
                                                    .dry_penalty_last_n = -1,
                                                    .dry_breakers = BREAKERS,
                                                    .n_dry_breakers = 1,
                                                    .mirostat = 2,
                                                    .mirostat_tau = 5.0f,
                                                    .mirostat_eta = 0.9f,
                                                    .adaptive_target = -0.5f,
                                                    .adaptive_decay = FLT_MIN,
                                                    .samplers = "top_k;temperature",
                                                    .grammar = "root ::= \"a\"",
                                                    .grammar_root = NULL,
                                                    .logit_bias_tokens = BIAS_TOKENS,
                                                    .logit_bias_values = BIAS_VALUES,
                                                    .n_logit_bias = COUNT_OF(BIAS_TOKENS)}};
}

static void assert_params_equal(const struct hs_generate_params *a,
                                const struct hs_generate_params *b)
{
    const struct hs_sampling *x = &a->sampling, *y = &b->sampling;
    assert_int_equal(a->max_tokens, b->max_tokens);
    assert_int_equal(a->n_stop, b->n_stop);
    for (int32_t i = 0; i < a->n_stop; i++)
        assert_string_equal(a->stop[i], b->stop[i]);
    assert_true(a->ignore_eos == b->ignore_eos && a->enable_thinking == b->enable_thinking &&
                a->split_reasoning == b->split_reasoning && a->cache_prompt == b->cache_prompt);
    assert_true(x->seed == y->seed && x->temp == y->temp);
    assert_true(x->dynatemp_range == y->dynatemp_range);
    assert_true(x->dynatemp_exponent == y->dynatemp_exponent);
    assert_true(x->top_k == y->top_k && x->top_p == y->top_p && x->min_p == y->min_p);
    assert_true(x->typical_p == y->typical_p && x->top_n_sigma == y->top_n_sigma);
    assert_true(x->xtc_probability == y->xtc_probability && x->xtc_threshold == y->xtc_threshold);
    assert_true(x->repeat_penalty == y->repeat_penalty);
    assert_true(x->frequency_penalty == y->frequency_penalty);
    assert_true(x->presence_penalty == y->presence_penalty);
    assert_true(x->repeat_last_n == y->repeat_last_n && x->dry_multiplier == y->dry_multiplier);
    assert_true(x->dry_base == y->dry_base && x->dry_allowed_length == y->dry_allowed_length);
    assert_true(x->dry_penalty_last_n == y->dry_penalty_last_n);
    assert_int_equal(x->n_dry_breakers, y->n_dry_breakers);
    for (int32_t i = 0; i < x->n_dry_breakers; i++)
        assert_string_equal(x->dry_breakers[i], y->dry_breakers[i]);
    assert_true(x->mirostat == y->mirostat && x->mirostat_tau == y->mirostat_tau);
    assert_true(x->mirostat_eta == y->mirostat_eta && x->adaptive_target == y->adaptive_target);
    assert_true(x->adaptive_decay == y->adaptive_decay);
    assert_string_equal(x->samplers, y->samplers);
    assert_string_equal(x->grammar, y->grammar);
    assert_true(x->grammar_root == NULL && y->grammar_root == NULL);
    assert_int_equal(x->n_logit_bias, y->n_logit_bias);
    for (int32_t i = 0; i < x->n_logit_bias; i++)
        assert_true(x->logit_bias_tokens[i] == y->logit_bias_tokens[i] &&
                    x->logit_bias_values[i] == y->logit_bias_values[i]);
}

static struct hs_message MESSAGES[] = {
    {.role = "system", .content = "You are terse."},
    {.role = "user", .content = "\x01 \x7f \xc2\x80 \xef\xbf\xbf \xf4\x8f\xbf\xbf \\ \" / \r\n\t"},
    {.role = "assistant", .content = "", .reasoning = ""},
};
static struct hs_adapter_ref ADAPTERS[] = {{"poet", 0.1f}, {"\xc3\xa9", -2.0f}};

static struct hs_session_record example_record(struct hs_generate_params *params)
{
    return (struct hs_session_record){.model_name = (char *)"smollm2",
                                      .fingerprint = (char *)"ab12",
                                      .adapters = ADAPTERS,
                                      .n_adapters = COUNT_OF(ADAPTERS),
                                      .messages = MESSAGES,
                                      .n_messages = COUNT_OF(MESSAGES),
                                      .overflow = HS_OVERFLOW_SHIFT,
                                      .created_unix_ms = INT64_MIN,
                                      .updated_unix_ms = INT64_MAX,
                                      .params = params};
}

static void assert_records_equal(const struct hs_session_record *a,
                                 const struct hs_session_record *b)
{
    assert_string_equal(a->model_name, b->model_name);
    assert_string_equal(a->fingerprint, b->fingerprint);
    assert_int_equal(a->n_adapters, b->n_adapters);
    for (size_t i = 0; i < a->n_adapters; i++) {
        assert_string_equal(a->adapters[i].name, b->adapters[i].name);
        assert_true(a->adapters[i].scale == b->adapters[i].scale);
    }
    assert_int_equal(a->n_messages, b->n_messages);
    for (size_t i = 0; i < a->n_messages; i++) {
        const struct hs_message *x = &a->messages[i], *y = &b->messages[i];
        assert_string_equal(x->role, y->role);
        assert_string_equal(x->content, y->content);
        assert_int_equal(x->reasoning == NULL, y->reasoning == NULL);
        if (x->reasoning != NULL)
            assert_string_equal(x->reasoning, y->reasoning);
    }
    assert_true(a->overflow == b->overflow && a->created_unix_ms == b->created_unix_ms &&
                a->updated_unix_ms == b->updated_unix_ms);
    assert_int_equal(a->params == NULL, b->params == NULL);
    if (a->params != NULL)
        assert_params_equal(a->params, b->params);
}

static void test_json_comes_back(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    for (int i = 0; i < 2; i++) {
        struct hs_session_record record = example_record(i == 0 ? &params : NULL), back = {0};
        struct hs_buf text = HS_BUF_INIT(1 << 20);
        assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
        assert_int_equal(hs_session_record_parse(text.data, text.len, &back, NULL), HS_OK);
        assert_records_equal(&record, &back);
        if (i == 0) /* these belong to one request */
            assert_true(back.params->deadline_ms == 0 && back.params->n_logprobs == 0 &&
                        back.params->stream_capacity == 0);
        hs_session_record_free(&back);
        assert_null(back.messages);
        hs_buf_free(&text);
    }
}

/* Every missing or ill-typed parameter is noticed by name; optional texts may be missing. */
static void test_json_params_are_checked(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    json_t *root = json_loadb(text.data, text.len, 0, NULL);
    json_t *object = json_object_get(root, "params");
    /* 6 settings and 29 of sampling; the example has no grammar_root */
    assert_int_equal(json_object_size(object), 6 + 29 - 1);
    static const char *const OPTIONAL = "stop dry_breakers samplers grammar logit_bias";
    json_t *copy = json_copy(object);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(copy, key, value)
    {
        for (int change = 0; change < 2; change++) {
            if (change == 0)
                json_object_del(object, key);
            else
                json_object_set_new(object, key, json_object());
            char *changed = json_dumps(root, 0);
            struct hs_session_record back = {0};
            struct hs_error err = {0};
            hs_status status = parse(changed, &back, &err);
            bool is_fine = change == 0 && strstr(OPTIONAL, key) != NULL;
            if (status != (is_fine ? HS_OK : HS_CORRUPT))
                fail_msg("params without a good \"%s\" give %d", key, (int)status);
            if (!is_fine)
                assert_non_null(strstr(err.message, key));
            hs_session_record_free(&back);
            free(changed);
            json_object_set(object, key, value);
        }
    }
    json_decref(copy);
    json_decref(root);
    hs_buf_free(&text);
}

static void test_json_params_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        double value;
        bool is_real;
        hs_status status;
    } CASES[] = {
        {"top_k", 2147483647.0, false, HS_OK},
        {"top_k", 2147483648.0, false, HS_CORRUPT},
        {"top_k", -2147483648.0, false, HS_OK},
        {"top_k", -2147483649.0, false, HS_CORRUPT},
        {"top_k", 1.0, true, HS_CORRUPT},
        {"seed", 4294967295.0, false, HS_OK},
        {"seed", 4294967296.0, false, HS_CORRUPT},
        {"seed", -1, false, HS_CORRUPT},
        {"temp", 1, false, HS_OK},
        {"temp", 1e39, true, HS_CORRUPT},
        {"temp", -1e39, true, HS_CORRUPT},
    };
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        json_t *root = json_loadb(text.data, text.len, 0, NULL);
        json_t *object = json_object_get(root, "params");
        json_t *number =
            CASES[i].is_real ? json_real(CASES[i].value) : json_integer((json_int_t)CASES[i].value);
        json_object_set_new(object, CASES[i].key, number);
        char *changed = json_dumps(root, 0);
        struct hs_session_record back = {0};
        assert_int_equal(parse(changed, &back, NULL), CASES[i].status);
        hs_session_record_free(&back);
        free(changed);
        json_decref(root);
    }
    hs_buf_free(&text);
}

static void assert_unsaveable(const struct hs_session_record *record)
{
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    struct hs_error err = {0};
    assert_int_equal(hs_session_record_format(record, &text, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(err.status, HS_INVALID_ARGUMENT);
    assert_int_equal(text.len, 0);
    hs_buf_free(&text);
}

static void test_json_refuses_to_write(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(NULL);
    struct hs_message bad_text = {.role = "user", .content = "caf\xe9"},
                      no_text = {.role = "user", .content = NULL};
    struct hs_adapter_ref bad_scale = {"a", NAN};
    record.messages = &bad_text;
    record.n_messages = 1;
    assert_unsaveable(&record);
    record.messages = &no_text;
    assert_unsaveable(&record);
    record = example_record(NULL);
    record.adapters = &bad_scale;
    record.n_adapters = 1;
    assert_unsaveable(&record);
    record = example_record(NULL);
    record.model_name = NULL;
    assert_unsaveable(&record);
    record = example_record(NULL);
    record.overflow = (enum hs_overflow)2;
    assert_unsaveable(&record);
    record = example_record(&params);
    params.sampling.min_p = INFINITY;
    assert_unsaveable(&record);
    params = example_params();
    params.sampling.grammar = "\xc0\x80";
    assert_unsaveable(&record);
    params = example_params();
    const float bad_bias[] = {0, INFINITY, 0};
    params.sampling.logit_bias_values = bad_bias;
    assert_unsaveable(&record);
    params = example_params();
    const char *const bad_stops[] = {"a", "\xff", "b"};
    params.stop = bad_stops;
    assert_unsaveable(&record);
}

static void test_params_copy(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params(), *copy = NULL;
    assert_int_equal(hs_session_params_copy(&params, &copy, NULL), HS_OK);
    assert_params_equal(copy, &params);
    assert_ptr_not_equal(copy->stop, params.stop);
    assert_ptr_not_equal(copy->sampling.grammar, params.sampling.grammar);
    assert_true(copy->deadline_ms == 0 && copy->n_logprobs == 0 && copy->stream_capacity == 0);
    hs_session_params_free(copy);
    hs_status status = HS_OK;
    for (uint64_t i = 1; i == 1 || status != HS_OK; i++) {
        hs_mem_fail_after(i);
        status = hs_session_params_copy(&params, &copy, NULL);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    hs_session_params_free(copy);
    /* What cannot be saved is not taken. */
    struct hs_error err = {0};
    params.sampling.min_p = NAN;
    assert_int_equal(hs_session_params_copy(&params, &copy, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "min_p"));
    params = example_params();
    const char *const bad_stops[] = {"a", "\xff", "b"};
    params.stop = bad_stops;
    assert_int_equal(hs_session_params_copy(&params, &copy, NULL), HS_INVALID_ARGUMENT);
    params = example_params();
    const float bad_bias[] = {0, INFINITY, 0};
    params.sampling.logit_bias_values = bad_bias;
    assert_int_equal(hs_session_params_copy(&params, &copy, NULL), HS_INVALID_ARGUMENT);
}

static void test_json_limit(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    struct hs_buf exact = HS_BUF_INIT(text.len), tight = HS_BUF_INIT(text.len - 1);
    struct hs_error err = {0};
    assert_int_equal(hs_session_record_format(&record, &exact, NULL), HS_OK);
    assert_int_equal(hs_session_record_format(&record, &tight, &err), HS_LIMIT);
    assert_true(err.hint[0] != 0);
    hs_buf_free(&text);
    hs_buf_free(&exact);
    hs_buf_free(&tight);
}

static void test_json_cut_anywhere(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    for (size_t len = 0; len < text.len; len++) {
        char *copy = malloc(len + 1);
        struct hs_session_record back = {0};
        assert_non_null(copy);
        memcpy(copy, text.data, len);
        assert_int_equal(hs_session_record_parse(copy, len, &back, NULL), HS_CORRUPT);
        free(copy);
    }
    hs_buf_free(&text);
}

static void test_json_out_of_memory(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params), back = {0};
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    hs_status status = HS_OK;
    WITH_EVERY_ALLOCATION_FAILING(
        status,
        {
            hs_buf_free(&text);
            status = hs_session_record_format(&record, &text, NULL);
        },
        assert_int_equal(status, over ? HS_OK : HS_OUT_OF_MEMORY));
    WITH_EVERY_ALLOCATION_FAILING(
        status, status = hs_session_record_parse(text.data, text.len, &back, NULL), {
            assert_int_equal(back.messages != NULL, status == HS_OK);
            hs_session_record_free(&back);
        });
    hs_buf_free(&text);
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
        cmocka_unit_test(test_json_reads_the_documented_text),
        cmocka_unit_test(test_json_refuses),
        cmocka_unit_test(test_json_errors_do_not_quote),
        cmocka_unit_test(test_json_nested_deep),
        cmocka_unit_test(test_json_comes_back),
        cmocka_unit_test(test_json_params_are_checked),
        cmocka_unit_test(test_json_params_ranges),
        cmocka_unit_test(test_json_refuses_to_write),
        cmocka_unit_test(test_params_copy),
        cmocka_unit_test(test_json_limit),
        cmocka_unit_test(test_json_cut_anywhere),
        cmocka_unit_test(test_json_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
