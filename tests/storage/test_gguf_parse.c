/* Malformed, cut and extreme files: never success, never a crash, always a message. */
#include "gguf_test.h"

#include "base/mem.h"
#include "tiny_gguf.h"

/* ---- whole-file sweeps ---- */

static struct gguf_bytes small_model(size_t *ret_header_len)
{
    struct gguf_writer w;
    struct gguf_bytes bytes;
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", "llama");
    gguf_writer_u32(&w, "general.alignment", 64);
    gguf_writer_array(&w, "texts", GGUF_W_STRING, 2);
    gguf_bytes_str(&w.kv, "one");
    gguf_bytes_str(&w.kv, "");
    gguf_writer_array(&w, "numbers", GGUF_W_I32, 3);
    gguf_bytes_zero(&w.kv, 12);
    gguf_writer_bool(&w, "yes", true);
    w.alignment = 64;
    gguf_writer_tensor(&w, "a", 2, (uint64_t[]){32, 3}, 2, NULL, 54);
    gguf_writer_tensor(&w, "b", 1, (uint64_t[]){5}, 0, NULL, 20);
    assert_true(gguf_writer_finish(&w, &bytes, ret_header_len));
    gguf_writer_free(&w);
    return bytes;
}

static void is_cut_short(hs_status status)
{
    assert_true(status == HS_TRUNCATED || status == HS_BAD_FORMAT);
}

static void cut_at_every_byte(const struct gguf_bytes *bytes, size_t first_whole)
{
    for (size_t len = 0; len < bytes->len; len++) {
        struct gguf_test t;
        hs_status status = gguf_test_open(&t, bytes->data, len);
        if (len < first_whole) {
            is_cut_short(status);
            gguf_test_told(&t, status);
        } else {
            assert_int_equal(status, HS_OK);
        }
        gguf_test_close(&t);
        /* The file is whole, but memory holds only its beginning. */
        if (gguf_test_open_claimed(&t, bytes->data, len, bytes->len) != HS_OK) {
            gguf_test_told(&t, HS_TRUNCATED);
        }
        gguf_test_close(&t);
    }
}

static void every_cut_is_noticed(void **state)
{
    (void)state;
    size_t header_len = 0;
    struct gguf_bytes bytes = small_model(&header_len);
    /* The padding behind the last tensor may be missing: 20 of 64 bytes hold something. */
    cut_at_every_byte(&bytes, header_len + 64 + 20);
    gguf_bytes_free(&bytes);
}

static void every_cut_of_a_model_is_noticed(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    size_t header_len = 0;
    tiny_gguf_defaults(&spec);
    spec.chat_template = tiny_gguf_chatml;
    assert_true(tiny_gguf_build(&spec, &bytes, &header_len));
    for (size_t len = 0; len <= header_len; len++) {
        struct gguf_test t;
        hs_status status = gguf_test_open(&t, bytes.data, len);
        is_cut_short(status);
        gguf_test_told(&t, status);
        gguf_test_close(&t);
    }
    gguf_bytes_free(&bytes);
}

static void every_cut_file_is_noticed(void **state)
{
    (void)state;
    char path[512];
    size_t header_len = 0;
    struct gguf_bytes bytes = small_model(&header_len);
    snprintf(path, sizeof path, "%s/gguf-cut-%d", HS_TEST_TMP, (int)getpid());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    fclose(file);
    for (size_t len = header_len + 64 + 20; len-- > 0;) {
        struct hs_error err = {0};
        hs_gguf *gguf = NULL;
        assert_int_equal(truncate(path, (off_t)len), 0);
        hs_status status = hs_gguf_open(path, &gguf, &err);
        is_cut_short(status);
        assert_non_null(strstr(err.message, path));
    }
    unlink(path);
    gguf_bytes_free(&bytes);
}

static void use_everything(const hs_gguf *gguf)
{
    struct hs_error err;
    uint64_t u = 0;
    double f = 0;
    for (size_t i = 0; i < hs_gguf_n_kv(gguf); i++) {
        const struct hs_gguf_kv *kv = hs_gguf_kv_at(gguf, i);
        char *key = strndup(kv->key, kv->key_len);
        assert_ptr_equal(hs_gguf_find(gguf, key), kv);
        hs_gguf_u64(gguf, key, &u);
        hs_gguf_f64(gguf, key, &f);
        hs_free(hs_gguf_strdup(gguf, key));
        free(key);
        for (size_t b = 0; b < kv->value_len; b++) {
            u += kv->value[b];
        }
    }
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        assert_ptr_equal(hs_gguf_find_tensor(gguf, tensor->name), tensor);
        assert_int_equal(tensor->offset % hs_gguf_alignment(gguf), 0);
        assert_true(hs_gguf_data_offset(gguf) + tensor->offset + tensor->size_bytes <=
                    hs_gguf_file_size(gguf));
    }
    if (hs_gguf_check_model(gguf, NULL, &err) != HS_OK) {
        assert_true(strlen(err.message) > 8 && strlen(err.hint) > 8);
    }
}

static void every_changed_byte(struct gguf_bytes *bytes, size_t header_len)
{
    const uint8_t changes[] = {0x01, 0x80, 0xFF, 0x20};
    for (size_t at = 0; at < header_len; at++) {
        for (size_t c = 0; c < sizeof changes; c++) {
            struct gguf_test t;
            bytes->data[at] ^= changes[c];
            hs_status status = gguf_test_open(&t, bytes->data, bytes->len);
            if (status == HS_OK) {
                use_everything(t.gguf);
            } else {
                gguf_test_told(&t, status);
            }
            gguf_test_close(&t);
            bytes->data[at] ^= changes[c];
        }
    }
}

static void no_changed_byte_does_harm(void **state)
{
    (void)state;
    size_t header_len = 0;
    struct gguf_bytes bytes = small_model(&header_len);
    every_changed_byte(&bytes, header_len);
    gguf_bytes_free(&bytes);
}

/* The fields that describe a model, without its long lists of tokens. */
static void no_changed_byte_of_a_model_does_harm(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    uint8_t *tokens = gguf_test_find(&bytes, "tokenizer.ggml.tokens");
    size_t n = (size_t)(tokens - bytes.data) + 64;
    every_changed_byte(&bytes, n);
    uint8_t *tail = gguf_test_find(&bytes, "tokenizer.ggml.bos_token_id");
    size_t skip_len = (size_t)(tail - bytes.data) - 40;
    for (size_t at = skip_len; at < skip_len + 1500; at++) {
        struct gguf_test t;
        bytes.data[at] ^= 0xFF;
        if (gguf_test_open(&t, bytes.data, bytes.len) == HS_OK) {
            use_everything(t.gguf);
        }
        gguf_test_close(&t);
        bytes.data[at] ^= 0xFF;
    }
    gguf_bytes_free(&bytes);
}

/* ---- one thing wrong at a time ---- */

static void expect_bytes(const struct gguf_bytes *bytes, hs_status expected, const char *text)
{
    struct gguf_test t;
    assert_int_equal(gguf_test_open(&t, bytes->data, bytes->len), expected);
    if (expected != HS_OK) {
        gguf_test_told(&t, expected);
        if (strstr(t.err.message, text) == NULL) {
            fail_msg("'%s' does not say '%s'", t.err.message, text);
        }
    }
    gguf_test_close(&t);
}

/* Finish the writer, open what it wrote, release it. */
static void expect(struct gguf_writer *w, hs_status expected, const char *text)
{
    struct gguf_bytes bytes;
    assert_true(gguf_writer_finish(w, &bytes, NULL));
    expect_bytes(&bytes, expected, text);
    gguf_bytes_free(&bytes);
    gguf_writer_free(w);
    gguf_writer_init(w);
}

static void beginnings_of_other_files(void **state)
{
    (void)state;
    const struct {
        const char *bytes;
        size_t len;
        hs_status status;
        const char *text;
    } cases[] = {
        {"", 0, HS_TRUNCATED, "is empty"},
        {"GGU", 3, HS_TRUNCATED, "too early"},
        {"abc", 3, HS_BAD_MAGIC, "3 bytes"},
        {"GGML1234", 8, HS_BAD_MAGIC, "47 47 4d 4c"},
        {"tjgg\1\0\0\0", 8, HS_BAD_MAGIC, "GGJT"},
        {"PK\3\4....", 8, HS_BAD_MAGIC, "zip"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, HS_BAD_MAGIC, "LFS"},
        {"<!DOCTYPE html><html>", 21, HS_BAD_MAGIC, "web page"},
        {"\x40\0\0\0\0\0\0\0{\"__metadata__\"", 22, HS_BAD_MAGIC, "safetensors"},
        {"GGUF\0\0\0\0", 8, HS_UNSUPPORTED_VERSION, "version 0"},
        {"GGUF\1\0\0\0", 8, HS_UNSUPPORTED_VERSION, "version 1"},
        {"GGUF\4\0\0\0", 8, HS_UNSUPPORTED_VERSION, "version 4"},
        {"GGUF\0\0\0\3", 8, HS_UNSUPPORTED_VERSION, "big-endian"},
        {"GGUF\0\0\0\2", 8, HS_UNSUPPORTED_VERSION, "big-endian"},
        {"FUGG\3\0\0\0", 8, HS_UNSUPPORTED_VERSION, "big-endian"},
        {"GGUF\3\0\0\0", 8, HS_TRUNCATED, "tensor count"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_test t;
        assert_int_equal(gguf_test_open(&t, (const uint8_t *)cases[i].bytes, cases[i].len),
                         cases[i].status);
        gguf_test_told(&t, cases[i].status);
        assert_non_null(strstr(t.err.message, cases[i].text));
        gguf_test_close(&t);
    }
}

static void both_versions_are_read(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    for (uint32_t version = 2; version <= 3; version++) {
        w.version = version;
        gguf_writer_u32(&w, "k", 1);
        expect(&w, HS_OK, "");
    }
    gguf_writer_free(&w);
}

static void wrong_keys(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_u32(&w, "twice", 1);
    gguf_writer_u32(&w, "other", 1);
    gguf_writer_str(&w, "twice", "x");
    expect(&w, HS_BAD_FORMAT, "'twice' occurs twice");
    gguf_writer_u32(&w, "", 1);
    expect(&w, HS_BAD_FORMAT, "empty");
    gguf_writer_u32(&w, "bad\xC3", 1);
    expect(&w, HS_BAD_FORMAT, "UTF-8");
    gguf_writer_u32(&w, "good\xC3\xA9", 1);
    expect(&w, HS_OK, "");
    gguf_bytes_u64(&w.kv, 3);
    gguf_bytes_put(&w.kv, "a\0b", 3);
    gguf_bytes_u32(&w.kv, GGUF_W_U8);
    gguf_bytes_u8(&w.kv, 1);
    w.n_kv = 1;
    expect(&w, HS_BAD_FORMAT, "zero byte");
    gguf_writer_free(&w);
}

static void wrong_values(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    const uint32_t unknown[] = {13, 255, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        gguf_writer_key(&w, "key", unknown[i]);
        gguf_bytes_zero(&w.kv, 64);
        expect(&w, HS_BAD_FORMAT, "'key' has the unknown type");
        gguf_writer_array(&w, "key", unknown[i], 1);
        gguf_bytes_zero(&w.kv, 64);
        expect(&w, HS_BAD_FORMAT, "'key' has the unknown type");
    }
    gguf_writer_array(&w, "nested", GGUF_W_ARRAY, 1);
    gguf_bytes_zero(&w.kv, 64);
    expect(&w, HS_BAD_FORMAT, "array of arrays");
    gguf_writer_key(&w, "flag", GGUF_W_BOOL);
    gguf_bytes_u8(&w.kv, 2);
    expect(&w, HS_BAD_FORMAT, "'flag' has the truth value 2");
    gguf_writer_array(&w, "flags", GGUF_W_BOOL, 3);
    gguf_bytes_put(&w.kv, "\0\1\377", 3);
    expect(&w, HS_BAD_FORMAT, "'flags' has the truth value 255");
    gguf_writer_array(&w, "long", GGUF_W_U64, UINT64_MAX);
    expect(&w, HS_LIMIT, "array items");
    gguf_writer_array(&w, "long", GGUF_W_U64, UINT64_MAX / 8 + 2); /* times 8 wraps around */
    expect(&w, HS_LIMIT, "array items");
    gguf_writer_key(&w, "text", GGUF_W_STRING);
    gguf_bytes_u64(&w.kv, UINT64_MAX);
    expect(&w, HS_LIMIT, "a string");
    gguf_writer_free(&w);
}

static void wrong_alignments(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    const uint32_t wrong[] = {0, 1, 4, 24, 33, (1u << 20) + 8, 1u << 21, 0x80000000u};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        gguf_writer_u32(&w, "general.alignment", wrong[i]);
        expect(&w, HS_BAD_FORMAT, "general.alignment");
    }
    for (uint32_t right = 8; right <= HS_GGUF_MAX_ALIGNMENT; right *= 2) {
        gguf_writer_u32(&w, "general.alignment", right);
        w.alignment = right;
        gguf_writer_tensor(&w, "a", 1, (uint64_t[]){1}, 0, NULL, 4);
        gguf_writer_tensor(&w, "b", 1, (uint64_t[]){1}, 0, NULL, 4);
        expect(&w, HS_OK, "");
    }
    gguf_writer_key(&w, "general.alignment", GGUF_W_U64);
    gguf_bytes_u64(&w.kv, 32);
    expect(&w, HS_BAD_FORMAT, "u64");
    gguf_writer_free(&w);
}

struct tensor_case {
    uint32_t n_dims;
    uint64_t dims[5];
    uint32_t type;
    hs_status status;
    const char *text;
};

static void wrong_tensors(void **state)
{
    (void)state;
    const uint64_t huge = UINT64_C(1) << 62;
    const struct tensor_case cases[] = {
        {0, {0}, 0, HS_BAD_FORMAT, "0 dimensions"},
        {5, {1, 1, 1, 1, 1}, 0, HS_BAD_FORMAT, "5 dimensions"},
        {UINT32_MAX, {0}, 0, HS_BAD_FORMAT, "4294967295 dimensions"},
        {1, {0}, 0, HS_BAD_FORMAT, "impossible size 0"},
        {2, {4, 0}, 0, HS_BAD_FORMAT, "impossible size 0"},
        {1, {UINT64_MAX}, 0, HS_BAD_FORMAT, "impossible size"},
        {1, {INT64_MAX}, 0, HS_TRUNCATED, "beyond the end"},
        {2, {huge, 2}, 0, HS_BAD_FORMAT, "impossible size"},
        {4, {65536, 65536, 65536, 65536}, 24, HS_BAD_FORMAT, "impossible size"},
        {1, {huge}, 1, HS_TRUNCATED, "beyond the end"}, /* bytes overflow, items do not */
        {1, {huge}, 28, HS_TRUNCATED, "beyond the end"},
        {1, {31}, 2, HS_BAD_FORMAT, "rows of 31"},
        {2, {128, 2}, 12, HS_BAD_FORMAT, "rows of 128, not a multiple of 256"},
        {1, {32}, 4, HS_BAD_FORMAT, "unknown type 4"},
        {1, {32}, 31, HS_BAD_FORMAT, "unknown type 31"},
        {1, {32}, 43, HS_BAD_FORMAT, "unknown type 43"},
        {1, {32}, UINT32_MAX, HS_BAD_FORMAT, "unknown type"},
        {1, {33}, 0, HS_TRUNCATED, "beyond the end"}, /* 132 of the 128 bytes that are there */
        {1, {32}, 0, HS_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        uint32_t n_written = cases[i].n_dims > 5 ? 0 : cases[i].n_dims;
        gguf_writer_tensor_info(&w, "t", n_written, cases[i].dims, cases[i].type, 0);
        gguf_test_put32(w.infos.data + 9, cases[i].n_dims);
        gguf_bytes_zero(&w.data, 128);
        expect(&w, cases[i].status, cases[i].text);
        gguf_writer_free(&w);
    }
}

static void wrong_places(void **state)
{
    (void)state;
    const uint64_t second[] = {0, 8, 20, 31, 33, 64, UINT64_MAX - 31, UINT64_MAX};
    const uint64_t dims[] = {5};
    struct gguf_writer w;
    gguf_writer_init(&w);
    for (size_t i = 0; i < sizeof second / sizeof second[0]; i++) {
        gguf_writer_tensor_info(&w, "a", 1, dims, 0, 0);
        gguf_writer_tensor_info(&w, "b", 1, dims, 0, second[i]);
        gguf_bytes_zero(&w.data, 1024);
        expect(&w, HS_BAD_FORMAT, "expected 32");
    }
    gguf_writer_tensor_info(&w, "a", 1, dims, 0, 32);
    gguf_bytes_zero(&w.data, 1024);
    expect(&w, HS_BAD_FORMAT, "expected 0");
    gguf_writer_tensor(&w, "same", 1, dims, 0, NULL, 20);
    gguf_writer_tensor(&w, "same", 1, dims, 0, NULL, 20);
    expect(&w, HS_BAD_FORMAT, "'same' occurs twice");
    gguf_writer_tensor(&w, "", 1, dims, 0, NULL, 20);
    expect(&w, HS_BAD_FORMAT, "empty");
    gguf_writer_tensor(&w, "\xFF", 1, dims, 0, NULL, 20);
    expect(&w, HS_BAD_FORMAT, "UTF-8");
    gguf_writer_free(&w);
}

static void wrong_claims(void **state)
{
    (void)state;
    struct gguf_writer w;
    struct gguf_bytes bytes;
    const uint64_t counts[] = {2, 1000, 65536, HS_GGUF_MAX_TENSORS};
    gguf_writer_init(&w);
    gguf_writer_u32(&w, "k", 1);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        w.n_kv = counts[i] > 65536 ? 1 : counts[i];
        w.n_tensors = counts[i];
        assert_true(gguf_writer_finish(&w, &bytes, NULL));
        expect_bytes(&bytes, HS_TRUNCATED, "cannot lie in");
        gguf_bytes_free(&bytes);
    }
    w.n_kv = 1;
    w.n_tensors = UINT64_MAX;
    expect(&w, HS_LIMIT, "tensors are more than the limit");
    gguf_writer_free(&w);
    struct gguf_test t;
    assert_int_equal(gguf_test_open_claimed(&t, (const uint8_t *)"GGUF", 4, 3),
                     HS_INVALID_ARGUMENT);
    gguf_test_close(&t);
    assert_int_equal(gguf_test_open_claimed(&t, (const uint8_t *)"GGUF", 4, UINT64_MAX),
                     HS_INVALID_ARGUMENT);
    gguf_test_close(&t);
}

/* ---- limits at N and N + 1 ---- */

static void key_lengths(void **state)
{
    (void)state;
    for (size_t over = 0; over <= 1; over++) {
        struct gguf_writer w;
        size_t len = HS_GGUF_MAX_KEY_BYTES + over;
        char *key = malloc(len + 1);
        memset(key, 'k', len);
        key[len] = '\0';
        gguf_writer_init(&w);
        gguf_writer_u32(&w, key, 1);
        expect(&w, over ? HS_LIMIT : HS_OK, "a key");
        gguf_writer_free(&w);
        free(key);
        char name[65];
        memset(name, 'n', 64);
        name[HS_GGUF_MAX_NAME_BYTES + over] = '\0';
        gguf_writer_tensor(&w, name, 1, (uint64_t[]){1}, 0, NULL, 4);
        expect(&w, over ? HS_LIMIT : HS_OK, "a tensor's name");
        gguf_writer_free(&w);
    }
}

static void key_counts(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    for (uint32_t i = 0; i < HS_GGUF_MAX_KV; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        gguf_writer_bool(&w, key, true);
    }
    struct gguf_bytes bytes;
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    expect_bytes(&bytes, HS_OK, "");
    gguf_bytes_free(&bytes);
    gguf_writer_bool(&w, "one more", true);
    expect(&w, HS_LIMIT, "65537 keys");
    gguf_writer_free(&w);
}

static void tensor_counts(void **state)
{
    (void)state;
    struct gguf_writer w;
    struct gguf_bytes bytes;
    struct gguf_test t;
    gguf_writer_init(&w);
    for (uint32_t i = 0; i < HS_GGUF_MAX_TENSORS; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", i);
        gguf_writer_tensor_info(&w, name, 1, (uint64_t[]){8}, 0, (uint64_t)i * 32);
    }
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    uint64_t size = bytes.len + (uint64_t)HS_GGUF_MAX_TENSORS * 32;
    assert_int_equal(gguf_test_open_claimed(&t, bytes.data, bytes.len, size), HS_OK);
    assert_int_equal(hs_gguf_n_tensors(t.gguf), HS_GGUF_MAX_TENSORS);
    assert_int_equal(hs_gguf_find_tensor(t.gguf, "t777777")->offset, 777777 * 32);
    gguf_test_close(&t);
    assert_int_equal(gguf_test_open_claimed(&t, bytes.data, bytes.len, size - 1), HS_TRUNCATED);
    gguf_test_told(&t, HS_TRUNCATED);
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
    w.n_tensors++;
    expect(&w, HS_LIMIT, "1048577 tensors");
    gguf_writer_free(&w);
}

/* A string and an array of exactly `n`, in memory that is mostly never touched. */
static hs_status open_long(uint64_t n, bool is_array)
{
    struct gguf_writer w;
    struct gguf_bytes bytes;
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    gguf_writer_init(&w);
    if (is_array) {
        gguf_writer_array(&w, "long", GGUF_W_I8, n);
    } else {
        gguf_writer_key(&w, "long", GGUF_W_STRING);
        gguf_bytes_u64(&w.kv, n);
    }
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    size_t len = 24 + w.kv.len + (size_t)n;
    uint8_t *data = calloc(1, len);
    assert_non_null(data);
    memcpy(data, bytes.data, 24 + w.kv.len);
    hs_status status = hs_gguf_open_memory(data, len, len, &gguf, &err);
    assert_true(status == HS_OK || strlen(err.hint) > 8);
    hs_gguf_free(gguf);
    free(data);
    gguf_bytes_free(&bytes);
    gguf_writer_free(&w);
    return status;
}

static void value_lengths(void **state)
{
    (void)state;
    assert_int_equal(open_long(HS_GGUF_MAX_STRING_BYTES, false), HS_OK);
    assert_int_equal(open_long(HS_GGUF_MAX_STRING_BYTES + 1, false), HS_LIMIT);
    assert_int_equal(open_long(HS_GGUF_MAX_ARRAY_ITEMS, true), HS_OK);
    assert_int_equal(open_long(HS_GGUF_MAX_ARRAY_ITEMS + 1, true), HS_LIMIT);
}

/* The array ends exactly at the limit of a header, or one item of eight bytes behind it. */
static void header_lengths(void **state)
{
    (void)state;
    for (uint64_t over = 0; over <= 1; over++) {
        struct gguf_writer w;
        struct gguf_bytes bytes;
        struct gguf_test t;
        const char *key = "12345678"; /* so that header and limit are both multiples of eight */
        uint64_t before = 24 + 8 + 8 + 4 + 4 + 8;
        gguf_writer_init(&w);
        gguf_writer_array(&w, key, GGUF_W_U64, (HS_GGUF_MAX_HEADER_BYTES - before) / 8 + over);
        assert_true(gguf_writer_finish(&w, &bytes, NULL));
        hs_status status = gguf_test_open_claimed(&t, bytes.data, bytes.len, UINT64_C(1) << 40);
        assert_int_equal(status, over ? HS_LIMIT : HS_TRUNCATED);
        gguf_test_told(&t, status);
        gguf_test_close(&t);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(every_cut_of_a_model_is_noticed),
        cmocka_unit_test(every_cut_file_is_noticed),
        cmocka_unit_test(no_changed_byte_does_harm),
        cmocka_unit_test(no_changed_byte_of_a_model_does_harm),
        cmocka_unit_test(beginnings_of_other_files),
        cmocka_unit_test(both_versions_are_read),
        cmocka_unit_test(wrong_keys),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(wrong_alignments),
        cmocka_unit_test(wrong_tensors),
        cmocka_unit_test(wrong_places),
        cmocka_unit_test(wrong_claims),
        cmocka_unit_test(key_lengths),
        cmocka_unit_test(key_counts),
        cmocka_unit_test(tensor_counts),
        cmocka_unit_test(value_lengths),
        cmocka_unit_test(header_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
