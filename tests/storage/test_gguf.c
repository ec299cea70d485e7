/* What the reader says about well-formed files, and how it opens them. */
#include "gguf_test.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "tiny_gguf.h"

static void test_path(char *path, const char *name)
{
    snprintf(path, 512, "%s/gguf-%d-%s", HS_TEST_TMP, (int)getpid(), name);
}

static void write_file(const char *path, const uint8_t *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void put_values(struct gguf_writer *w)
{
    gguf_writer_str(w, "general.architecture", "llama");
    gguf_writer_key(w, "u8", GGUF_W_U8);
    gguf_bytes_u8(&w->kv, 200);
    gguf_writer_key(w, "i8", GGUF_W_I8);
    gguf_bytes_u8(&w->kv, 0xFF);
    gguf_writer_key(w, "u16", GGUF_W_U16);
    gguf_bytes_u16(&w->kv, 60000);
    gguf_writer_key(w, "i16", GGUF_W_I16);
    gguf_bytes_u16(&w->kv, 30000);
    gguf_writer_u32(w, "llama.block_count", 4000000000u);
    gguf_writer_key(w, "i32", GGUF_W_I32);
    gguf_bytes_u32(&w->kv, 0x80000000u);
    gguf_writer_f32(w, "f32", -1.5f);
    gguf_writer_bool(w, "yes", true);
    gguf_writer_bool(w, "no", false);
    gguf_writer_key(w, "u64", GGUF_W_U64);
    gguf_bytes_u64(&w->kv, UINT64_MAX);
    gguf_writer_key(w, "i64", GGUF_W_I64);
    gguf_bytes_u64(&w->kv, INT64_MAX);
    gguf_writer_key(w, "f64", GGUF_W_F64);
    gguf_bytes_u64(&w->kv, 0x3FF8000000000000u); /* 1.5 */
    gguf_writer_str(w, "empty", "");
    gguf_writer_array(w, "numbers", GGUF_W_U16, 3);
    for (uint16_t i = 0; i < 3; i++) {
        gguf_bytes_u16(&w->kv, i);
    }
    gguf_writer_array(w, "texts", GGUF_W_STRING, 2);
    gguf_bytes_str(&w->kv, "a\xFF\xFE"); /* tokens may be any bytes */
    gguf_bytes_str(&w->kv, "");
    gguf_writer_array(w, "nothing", GGUF_W_F64, 0);
    gguf_writer_array(w, "flags", GGUF_W_BOOL, 2);
    gguf_bytes_u16(&w->kv, 0x0001);
}

static struct gguf_bytes sample_file(size_t *ret_header_len)
{
    struct gguf_writer w;
    struct gguf_bytes bytes;
    const uint64_t dims_a[] = {64, 3}, dims_b[] = {7}, dims_c[] = {256, 2, 3, 5};
    gguf_writer_init(&w);
    put_values(&w);
    gguf_writer_tensor(&w, "a", 2, dims_a, 8, NULL, 64 * 3 / 32 * 34);
    gguf_writer_tensor(&w, "b.weight", 1, dims_b, 0, NULL, 28);
    gguf_writer_tensor(&w, "c", 4, dims_c, 12, NULL, 2 * 3 * 5 * 144);
    assert_true(gguf_writer_finish(&w, &bytes, ret_header_len));
    gguf_writer_free(&w);
    return bytes;
}

static void check_sample(const hs_gguf *gguf, size_t header_len, size_t file_len)
{
    assert_int_equal(hs_gguf_version(gguf), 3);
    assert_int_equal(hs_gguf_file_size(gguf), file_len);
    assert_int_equal(hs_gguf_data_offset(gguf), header_len);
    assert_int_equal(hs_gguf_alignment(gguf), 32);
    assert_int_equal(hs_gguf_n_kv(gguf), 18);
    assert_string_equal(hs_gguf_tensor_at(gguf, 1)->name, "b.weight");
    assert_int_equal(hs_gguf_n_tensors(gguf), 3);
    assert_null(hs_gguf_tensor_at(gguf, 3));
    assert_null(hs_gguf_kv_at(gguf, 18));
    assert_null(hs_gguf_find(gguf, "b.weight"));
    assert_null(hs_gguf_find_tensor(gguf, "u8"));
    const struct hs_gguf_tensor *c = hs_gguf_find_tensor(gguf, "c");
    assert_non_null(c);
    assert_int_equal(c->n_dims, 4);
    assert_int_equal(c->dims[0], 256);
    assert_int_equal(c->dims[3], 5);
    assert_int_equal(c->type, 12);
    assert_int_equal(c->size_bytes, 30 * 144);
    assert_int_equal(c->offset, 224 + 32); /* 204 and 28 bytes, each padded to 32 */
    assert_int_equal(hs_gguf_tensor_at(gguf, 0)->dims[2], 1);
    assert_int_equal(hs_gguf_n_params(gguf), 192 + 7 + 256 * 30);
    assert_int_equal(hs_gguf_weights_bytes(gguf), 204 + 28 + 30 * 144);
}

static void expect_u64(const hs_gguf *gguf, const char *key, uint64_t expected)
{
    uint64_t value = 0;
    assert_true(hs_gguf_u64(gguf, key, &value));
    assert_true(value == expected);
}

static void every_value_is_read(void **state)
{
    (void)state;
    size_t header_len = 0;
    struct gguf_bytes bytes = sample_file(&header_len);
    struct gguf_test t;
    assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
    check_sample(t.gguf, header_len, bytes.len);
    expect_u64(t.gguf, "u8", 200);
    expect_u64(t.gguf, "u16", 60000);
    expect_u64(t.gguf, "i16", 30000);
    expect_u64(t.gguf, "llama.block_count", 4000000000u);
    expect_u64(t.gguf, "u64", UINT64_MAX);
    expect_u64(t.gguf, "i64", INT64_MAX);
    uint64_t u = 77;
    double f = 0;
    const char *const no_integers[] = {"i8", "i32", "f32", "yes", "empty", "numbers", "absent"};
    for (size_t i = 0; i < sizeof no_integers / sizeof no_integers[0]; i++) {
        assert_false(hs_gguf_u64(t.gguf, no_integers[i], &u));
    }
    assert_int_equal(u, 77);
    assert_true(hs_gguf_arch_u64(t.gguf, "block_count", &u) && u == 4000000000u);
    assert_false(hs_gguf_arch_u64(t.gguf, "embedding_length", &u));
    assert_true(hs_gguf_f64(t.gguf, "f32", &f) && f == -1.5);
    assert_true(hs_gguf_f64(t.gguf, "f64", &f) && f == 1.5);
    assert_false(hs_gguf_f64(t.gguf, "u8", &f));
    assert_false(hs_gguf_f64(t.gguf, "absent", &f));
    char *text = hs_gguf_strdup(t.gguf, "general.architecture");
    assert_string_equal(text, "llama");
    hs_free(text);
    text = hs_gguf_strdup(t.gguf, "empty");
    assert_string_equal(text, "");
    hs_free(text);
    assert_null(hs_gguf_strdup(t.gguf, "u8"));
    assert_null(hs_gguf_strdup(t.gguf, "absent"));
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
}

static void arrays_are_given_as_they_lie(void **state)
{
    (void)state;
    struct gguf_bytes bytes = sample_file(NULL);
    struct gguf_test t;
    assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
    const struct hs_gguf_kv *kv = hs_gguf_find(t.gguf, "numbers");
    assert_int_equal(kv->type, HS_GGUF_ARRAY);
    assert_int_equal(kv->item_type, HS_GGUF_UINT16);
    assert_int_equal(kv->n_items, 3);
    assert_int_equal(kv->value_len, 6);
    assert_memory_equal(kv->value, "\0\0\1\0\2\0", 6);
    kv = hs_gguf_find(t.gguf, "texts");
    assert_int_equal(kv->item_type, HS_GGUF_STRING);
    assert_int_equal(kv->value_len, 8 + 3 + 8);
    assert_memory_equal(kv->value + 8, "a\xFF\xFE", 3);
    kv = hs_gguf_find(t.gguf, "nothing");
    assert_int_equal(kv->n_items, 0);
    assert_int_equal(kv->value_len, 0);
    kv = hs_gguf_find(t.gguf, "yes");
    assert_int_equal(kv->type, HS_GGUF_BOOL);
    assert_int_equal(kv->n_items, 1);
    assert_int_equal(kv->value[0], 1);
    assert_int_equal(kv->key_len, 3);
    assert_memory_equal(kv->key, "yes", 3);
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
}

static void a_file_is_read_like_memory(void **state)
{
    (void)state;
    char path[512];
    size_t header_len = 0;
    struct gguf_bytes bytes = sample_file(&header_len);
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    test_path(path, "sample");
    write_file(path, bytes.data, bytes.len);
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_OK);
    check_sample(gguf, header_len, bytes.len);
    /* Only the header is held: cutting the file afterwards must not disturb anything. */
    assert_int_equal(truncate(path, 0), 0);
    check_sample(gguf, header_len, bytes.len);
    expect_u64(gguf, "u16", 60000);
    hs_gguf_free(gguf);
    hs_gguf_free(NULL);
    unlink(path);
    gguf_bytes_free(&bytes);
}

/* Headers beyond the first read (1 MiB), and well beyond it. */
static void long_headers_are_read(void **state)
{
    (void)state;
    const size_t lengths[] = {(1u << 20) - 200, (1u << 20), (1u << 20) + 1, 5u << 20};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char path[512];
        struct gguf_writer w;
        struct gguf_bytes bytes;
        struct hs_error err = {0};
        hs_gguf *gguf = NULL;
        gguf_writer_init(&w);
        gguf_writer_array(&w, "long", GGUF_W_U8, lengths[i]);
        gguf_bytes_zero(&w.kv, lengths[i]);
        put_values(&w);
        gguf_writer_tensor(&w, "t", 1, (uint64_t[]){8}, 0, NULL, 32);
        assert_true(gguf_writer_finish(&w, &bytes, NULL));
        test_path(path, "long");
        write_file(path, bytes.data, bytes.len);
        assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_OK);
        assert_int_equal(hs_gguf_n_kv(gguf), 19);
        assert_int_equal(hs_gguf_find(gguf, "long")->n_items, lengths[i]);
        expect_u64(gguf, "u16", 60000);
        hs_gguf_free(gguf);
        unlink(path);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&w);
    }
}

static void files_that_cannot_be_opened(void **state)
{
    (void)state;
    char path[512];
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    test_path(path, "odd");
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_true(strlen(err.hint) > 8);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_IS_DIRECTORY);
    assert_non_null(strstr(err.message, path));
    assert_true(strlen(err.hint) > 8);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_BAD_FORMAT); /* and does not wait */
    assert_true(strlen(err.hint) > 8);
    unlink(path);
    write_file(path, (const uint8_t *)"", 0);
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_TRUNCATED);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(hs_gguf_open(path, &gguf, NULL), HS_TRUNCATED);
    assert_null(gguf);
    unlink(path);
}

static void a_file_without_permission(void **state)
{
    (void)state;
    char path[512];
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    bool was_root = geteuid() == 0;
    test_path(path, "secret");
    write_file(path, (const uint8_t *)"GGUF", 4);
    assert_int_equal(chmod(path, 0), 0);
    if (was_root && seteuid(65534) != 0) {
        unlink(path);
        skip();
    }
    hs_status status = hs_gguf_open(path, &gguf, &err);
    if (was_root) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(status, HS_PERMISSION_DENIED);
    assert_true(strlen(err.hint) > 8);
    unlink(path);
}

static void allocation_failures_are_told(void **state)
{
    (void)state;
    char path[512];
    struct gguf_bytes bytes = sample_file(NULL);
    test_path(path, "alloc");
    write_file(path, bytes.data, bytes.len);
    for (uint64_t n = 1;; n++) {
        struct hs_error err = {0};
        hs_gguf *gguf = NULL;
        hs_mem_fail_after(n);
        hs_status status = hs_gguf_open(path, &gguf, &err);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            assert_true(n > 5);
            hs_gguf_free(gguf);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_int_equal(err.status, HS_OUT_OF_MEMORY);
        assert_null(gguf);
    }
    unlink(path);
    gguf_bytes_free(&bytes);
}

static void tiny_and_demo_models_are_read(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    struct gguf_test t;
    uint64_t u = 0;
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
    assert_int_equal(hs_gguf_find(t.gguf, "tokenizer.ggml.tokens")->n_items, TINY_GGUF_N_VOCAB);
    assert_true(hs_gguf_arch_u64(t.gguf, "embedding_length", &u) && u == 64);
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
    if (access(HS_DEMO_MODEL, R_OK) != 0) {
        skip();
    }
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    assert_int_equal(hs_gguf_open(HS_DEMO_MODEL, &gguf, &err), HS_OK);
    /* The published figures of SmolLM2-135M. */
    assert_int_equal(hs_gguf_n_params(gguf), 134515008);
    assert_true(hs_gguf_arch_u64(gguf, "block_count", &u) && u == 30);
    assert_int_equal(hs_gguf_find(gguf, "tokenizer.ggml.tokens")->n_items, 49152);
    assert_int_equal(hs_gguf_check_model(gguf, HS_DEMO_MODEL, &err), HS_OK);
    hs_gguf_free(gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_read),
        cmocka_unit_test(arrays_are_given_as_they_lie),
        cmocka_unit_test(a_file_is_read_like_memory),
        cmocka_unit_test(long_headers_are_read),
        cmocka_unit_test(files_that_cannot_be_opened),
        cmocka_unit_test(a_file_without_permission),
        cmocka_unit_test(allocation_failures_are_told),
        cmocka_unit_test(tiny_and_demo_models_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
