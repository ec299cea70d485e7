/* Tests of storage/gguf_writer.h: what it writes is read back by our strict reader, and is, byte by
 * byte, what the tests' own writer makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "gguf_writer.h"
#include "storage/gguf_writer.h"

#define PATH HS_TEST_TMP "/written.gguf"

static const uint64_t dims_a[] = {32, 3};
static const uint64_t dims_b[] = {5};

/* A file with every kind of key and two tensors; whether it has our own keys in front. */
static void build(struct gguf_bytes *ret_bytes, uint32_t alignment, bool has_own_keys,
                  const char *name)
{
    struct gguf_writer writer;
    uint8_t data[102];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 7);
    }
    gguf_writer_init(&writer);
    writer.alignment = alignment;
    if (alignment != 32) {
        gguf_writer_u32(&writer, "general.alignment", alignment);
    }
    if (has_own_keys) {
        gguf_writer_str(&writer, "general.name", name);
        gguf_writer_u32(&writer, "own.number", 7);
        gguf_writer_f32(&writer, "own.float", 0.5f);
    }
    gguf_writer_str(&writer, "general.architecture", "llama");
    if (!has_own_keys) {
        gguf_writer_str(&writer, "general.name", name);
    }
    gguf_writer_bool(&writer, "some.bool", true);
    gguf_writer_array(&writer, "some.strings", GGUF_W_STRING, 2);
    gguf_bytes_str(&writer.kv, "one");
    gguf_bytes_str(&writer.kv, "");
    gguf_writer_array(&writer, "some.numbers", GGUF_W_U16, 3);
    for (uint16_t i = 0; i < 3; i++) {
        gguf_bytes_u16(&writer.kv, i);
    }
    gguf_writer_key(&writer, "some.double", GGUF_W_F64);
    gguf_bytes_u64(&writer.kv, 0x3ff0000000000000u);
    gguf_writer_tensor(&writer, "a.weight", 2, dims_a, 8, data, 102); /* Q8_0: 34 a row */
    gguf_writer_tensor(&writer, "b.bias", 1, dims_b, 0, data, 20);
    assert_true(gguf_writer_finish(&writer, ret_bytes, NULL));
    gguf_writer_free(&writer);
}

static hs_status write_copy(uint32_t alignment, const hs_gguf *from, size_t step)
{
    hs_gguf_writer *writer = NULL;
    uint8_t data[102];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 7);
    }
    hs_status status = hs_gguf_writer_new(alignment, &writer, NULL);
    status = status ? status : hs_gguf_writer_put_string(writer, "general.name", "new", NULL);
    status = status ? status : hs_gguf_writer_put_u32(writer, "own.number", 7, NULL);
    status = status ? status : hs_gguf_writer_put_f32(writer, "own.float", 0.5f, NULL);
    status = status ? status : hs_gguf_writer_copy(writer, from, NULL);
    status = status ? status : hs_gguf_writer_tensor(writer, "a.weight", 2, dims_a, 8, NULL);
    status = status ? status : hs_gguf_writer_tensor(writer, "b.bias", 1, dims_b, 0, NULL);
    status = status ? status : hs_gguf_writer_begin(writer, PATH, NULL);
    for (size_t at = 0; at < 102 && status == HS_OK; at += step) {
        size_t n = step < 102 - at ? step : 102 - at;
        status = hs_gguf_writer_data(writer, data + at, n, NULL);
    }
    status = status ? status : hs_gguf_writer_data(writer, data, 20, NULL);
    status = status ? status : hs_gguf_writer_commit(writer, NULL);
    hs_gguf_writer_free(writer);
    return status;
}

static void test_copy(void **state)
{
    (void)state;
    static const uint32_t alignments[] = {32, 8, 64, 4096};
    for (size_t i = 0; i < 4; i++) {
        for (size_t step = 1; step <= 102; step += 101) {
            struct gguf_bytes source;
            struct gguf_bytes expected;
            HS_CLEANUP(hs_buf_free) struct hs_buf got = HS_BUF_INIT(1 << 20);
            hs_gguf *gguf = NULL;
            build(&source, 64, false, "old");
            build(&expected, alignments[i], true, "new");
            assert_int_equal(hs_gguf_open_memory(source.data, source.len, source.len, &gguf, NULL),
                             HS_OK);
            assert_int_equal(write_copy(alignments[i], gguf, step), HS_OK);
            hs_gguf_free(gguf);
            assert_int_equal(hs_fs_read(PATH, &got, NULL), HS_OK);
            assert_int_equal(got.len, expected.len);
            assert_memory_equal(got.data, expected.data, got.len);
            assert_int_equal(hs_gguf_open(PATH, &gguf, NULL), HS_OK);
            assert_int_equal(hs_gguf_alignment(gguf), alignments[i]);
            hs_gguf_free(gguf);
            gguf_bytes_free(&source);
            gguf_bytes_free(&expected);
        }
    }
    unlink(PATH);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct gguf_bytes source;
    hs_gguf *gguf = NULL;
    build(&source, 32, false, "old");
    assert_int_equal(hs_gguf_open_memory(source.data, source.len, source.len, &gguf, NULL), HS_OK);
    hs_status status = HS_OUT_OF_MEMORY;
    unlink(PATH);
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_mem_fail_after(n);
        status = write_copy(64, gguf, 50);
        hs_mem_fail_after(0);
        assert_int_equal(access(PATH, F_OK) == 0, status == HS_OK);
    }
    assert_int_equal(status, HS_OK);
    hs_gguf_free(gguf);
    gguf_bytes_free(&source);
    unlink(PATH);
}

static void test_wrong_alignments(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 4, 48, 2 * HS_GGUF_MAX_ALIGNMENT};
    hs_gguf_writer *writer = NULL;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(hs_gguf_writer_new(wrong[i], &writer, NULL), HS_INVALID_ARGUMENT);
    }
    assert_int_equal(hs_gguf_writer_new(HS_GGUF_MAX_ALIGNMENT, &writer, NULL), HS_OK);
    hs_gguf_writer_free(writer);
    hs_gguf_writer_free(NULL);
}

static void test_wrong_tensors(void **state)
{
    (void)state;
    hs_gguf_writer *writer = NULL;
    struct hs_error err;
    char name[HS_GGUF_MAX_NAME_BYTES + 2];
    static const uint64_t huge[] = {UINT64_MAX / 2, 4};
    static const uint64_t dims[] = {32, 2, 2, 2, 2};
    static const uint64_t uneven[] = {33};
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(hs_gguf_writer_new(32, &writer, NULL), HS_OK);
    assert_int_equal(hs_gguf_writer_tensor(writer, name, 1, dims, 0, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_tensor(writer, name + 1, 1, dims, 0, &err), HS_OK);
    assert_int_equal(hs_gguf_writer_tensor(writer, "x", 5, dims, 0, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_tensor(writer, "x", 4, dims, 0, &err), HS_OK);
    assert_int_equal(hs_gguf_writer_tensor(writer, "x", 0, dims, 0, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_tensor(writer, "x", 2, huge, 0, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_tensor(writer, "x", 1, uneven, 8, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_tensor(writer, "x", 1, dims, 999, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "'x' cannot be written in type 999"));
    hs_gguf_writer_free(writer);
}

static void test_wrong_order(void **state)
{
    (void)state;
    hs_gguf_writer *writer = NULL;
    uint8_t data[21] = {0};
    unlink(PATH);
    assert_int_equal(hs_gguf_writer_new(32, &writer, NULL), HS_OK);
    assert_int_equal(hs_gguf_writer_tensor(writer, "b", 1, dims_b, 0, NULL), HS_OK);
    assert_int_equal(hs_gguf_writer_data(writer, data, 20, NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_commit(writer, NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_begin(writer, HS_TEST_TMP "/none/x.gguf", NULL), HS_NOT_FOUND);
    assert_int_equal(hs_gguf_writer_begin(writer, PATH, NULL), HS_OK);
    assert_int_equal(hs_gguf_writer_begin(writer, PATH, NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_tensor(writer, "c", 1, dims_b, 0, NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_data(writer, data, 21, NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_data(writer, data, 19, NULL), HS_OK);
    assert_int_equal(hs_gguf_writer_commit(writer, NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_gguf_writer_data(writer, data, 2, NULL), HS_INVALID_ARGUMENT);
    hs_gguf_writer_free(writer);
    assert_int_not_equal(access(PATH, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_wrong_alignments),
        cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_wrong_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
