/* Tests of storage/safetensors.h: files put together by hand, by the format's description. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "storage/safetensors.h"

/* A copy of exactly the file's size, so that a sanitizer sees overruns. */
struct opened {
    hs_safetensors *reader;
    uint8_t *bytes;
    size_t len;
    struct hs_error err;
};

static hs_status open_bytes(struct opened *file, const void *bytes, size_t len)
{
    memset(file, 0, sizeof *file);
    file->bytes = malloc(len > 0 ? len : 1);
    assert_non_null(file->bytes);
    memcpy(file->bytes, bytes, len);
    file->len = len;
    return hs_safetensors_open(file->bytes, len, &file->reader, &file->err);
}

static void put_length(uint8_t *bytes, uint64_t n)
{
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(n >> (8 * i));
    }
}

/* Length, header, n bytes of data counting upwards. */
static hs_status open_file(struct opened *file, const char *header, size_t n)
{
    size_t len = strlen(header);
    uint8_t *bytes = malloc(8 + len + n);
    assert_non_null(bytes);
    put_length(bytes, len);
    memcpy(bytes + 8, header, len);
    for (size_t i = 0; i < n; i++) {
        bytes[8 + len + i] = (uint8_t)i;
    }
    hs_status status = open_bytes(file, bytes, 8 + len + n);
    free(bytes);
    return status;
}

static void close_file(struct opened *file)
{
    hs_safetensors_free(file->reader);
    free(file->bytes);
}

static void expect_refused(const char *header, size_t n, hs_status status, const char *part)
{
    struct opened file;
    assert_int_equal(open_file(&file, header, n), status);
    assert_null(file.reader);
    assert_int_equal(file.err.status, status);
    if (strstr(file.err.message, part) == NULL) {
        fail_msg("'%s' is not in '%s'", part, file.err.message);
    }
    assert_true(file.err.hint[0] != '\0');
    close_file(&file);
}

/* ---- what is read ---- */

static void tensors_are_read(void **state)
{
    (void)state;
    struct opened file;
    assert_int_equal(
        open_file(&file,
                  "{\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                  "\"__metadata__\":{\"format\":\"pt\",\"x\":\"\"},"
                  "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                  "\"none\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[16,16]}}   ",
                  16),
        HS_OK);
    assert_int_equal(hs_safetensors_n(file.reader), 3);
    assert_string_equal(hs_safetensors_at(file.reader, 0)->name, "a");
    assert_string_equal(hs_safetensors_at(file.reader, 2)->name, "none");
    assert_null(hs_safetensors_at(file.reader, 3));
    const struct hs_safetensors_tensor *b = hs_safetensors_find(file.reader, "b");
    assert_non_null(b);
    assert_int_equal(b->dtype, HS_SAFETENSORS_F16);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->size_bytes, 12);
    assert_int_equal(b->data[0], 4);
    assert_int_equal(hs_safetensors_find(file.reader, "a")->n_dims, 0);
    assert_int_equal(hs_safetensors_find(file.reader, "none")->size_bytes, 0);
    assert_null(hs_safetensors_find(file.reader, "__metadata__"));
    assert_null(hs_safetensors_find(file.reader, "c"));
    assert_string_equal(hs_safetensors_metadata(file.reader, "format"), "pt");
    assert_string_equal(hs_safetensors_metadata(file.reader, "x"), "");
    assert_null(hs_safetensors_metadata(file.reader, "y"));
    close_file(&file);
    assert_int_equal(open_file(&file, "{}", 0), HS_OK);
    assert_int_equal(hs_safetensors_n(file.reader), 0);
    assert_null(hs_safetensors_metadata(file.reader, "format"));
    close_file(&file);
    hs_safetensors_free(NULL);
}

/* Names and sizes from the format's description. */
static void all_types_have_their_size(void **state)
{
    (void)state;
    const struct {
        const char *name;
        unsigned bytes;
    } types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                 {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char header[128];
        struct opened file;
        snprintf(header, sizeof header,
                 "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%u]}}", types[i].name,
                 3 * types[i].bytes);
        assert_int_equal(open_file(&file, header, (size_t)3 * types[i].bytes), HS_OK);
        assert_string_equal(hs_safetensors_dtype_name(hs_safetensors_at(file.reader, 0)->dtype),
                            types[i].name);
        close_file(&file);
    }
    assert_string_equal(hs_safetensors_dtype_name((enum hs_safetensors_dtype)99), "unknown");
}

/* ---- what is refused ---- */

#define T(name, rest) "\"" name "\":{\"dtype\":\"U8\"," rest "}"
#define AT(begin, end) "\"data_offsets\":[" #begin "," #end "]"

static void malformed_headers_are_refused(void **state)
{
    (void)state;
    expect_refused("{\"t\":", 0, HS_BAD_FORMAT, "no valid JSON");
    expect_refused("{} x", 0, HS_BAD_FORMAT, "no valid JSON");
    expect_refused("{\"\\u0000\":1}", 0, HS_BAD_FORMAT, "no valid JSON");
    expect_refused("{" T("t", "\"shape\":[1]," AT(0, 1)) "," T("t", "\"shape\":[1]," AT(1, 2)) "}",
                   2, HS_BAD_FORMAT, "twice");
    expect_refused("{\"__metadata__\":[]}", 0, HS_BAD_FORMAT, "__metadata__");
    expect_refused("{\"__metadata__\":{\"a\":1}}", 0, HS_BAD_FORMAT, "__metadata__");
    expect_refused("{\"t\":3}", 0, HS_BAD_FORMAT, "'t' has no dtype");
    expect_refused("{\"t\":{\"dtype\":\"F17\",\"shape\":[]," AT(0, 1) "}}", 1, HS_BAD_FORMAT,
                   "dtype");
    expect_refused("{\"\":{\"dtype\":\"U8\",\"shape\":[1]," AT(0, 1) "}}", 1, HS_LIMIT, "0 bytes");
    expect_refused("{" T("t", AT(0, 1)) "}", 1, HS_BAD_FORMAT, "no shape");
    expect_refused("{" T("t", "\"shape\":[-1]," AT(0, 1)) "}", 1, HS_BAD_FORMAT, "shape");
    expect_refused("{" T("t", "\"shape\":[1.0]," AT(0, 1)) "}", 1, HS_BAD_FORMAT, "shape");
    expect_refused("{" T("t", "\"shape\":[4294967296,4294967296]," AT(0, 0)) "}", 0, HS_BAD_FORMAT,
                   "impossible shape");
    expect_refused("{" T("t", "\"shape\":[1]") "}", 1, HS_BAD_FORMAT, "data_offsets");
    expect_refused("{" T("t", "\"shape\":[1],\"data_offsets\":[0]") "}", 1, HS_BAD_FORMAT,
                   "data_offsets");
    expect_refused("{" T("t", "\"shape\":[1]," AT(1, 0)) "}", 1, HS_BAD_FORMAT, "data_offsets");
    expect_refused("{" T("t", "\"shape\":[1]," AT(-1, 0)) "}", 1, HS_BAD_FORMAT, "data_offsets");
    expect_refused("{" T("t", "\"shape\":[1]," AT(9223372036854775808, 0)) "}", 1, HS_BAD_FORMAT,
                   "JSON");
    expect_refused("{" T("t", "\"shape\":[2]," AT(0, 1)) "}", 1, HS_BAD_FORMAT, "size");
}

static void misplaced_tensors_are_refused(void **state)
{
    (void)state;
    expect_refused("{" T("t", "\"shape\":[2]," AT(0, 2)) "}", 1, HS_TRUNCATED, "ends at 2 of 1");
    expect_refused("{" T("t", "\"shape\":[1]," AT(1, 2)) "}", 2, HS_BAD_FORMAT, "hole");
    expect_refused("{" T("t", "\"shape\":[1]," AT(0, 1)) "}", 3, HS_BAD_FORMAT,
                   "2 bytes behind the last");
    expect_refused("{" T("t", "\"shape\":[2]," AT(0, 2)) "," T("u", "\"shape\":[2]," AT(1, 3)) "}",
                   3, HS_BAD_FORMAT, "'u' overlaps");
    expect_refused("{" T("t", "\"shape\":[1]," AT(0, 1)) "," T("u", "\"shape\":[1]," AT(2, 3)) "}",
                   3, HS_BAD_FORMAT, "'u' has a hole");
    expect_refused("{" T("t", "\"shape\":[1]," AT(0, 1)) "," T("u", "\"shape\":[1]," AT(0, 1)) "}",
                   1, HS_BAD_FORMAT, "overlaps");
}

static void expect_bytes_refused(const void *bytes, size_t len, hs_status status, const char *part)
{
    struct opened file;
    assert_int_equal(open_bytes(&file, bytes, len), status);
    if (strstr(file.err.message, part) == NULL) {
        fail_msg("'%s' is not in '%s'", part, file.err.message);
    }
    assert_true(file.err.hint[0] != '\0');
    close_file(&file);
}

static void other_files_are_named(void **state)
{
    (void)state;
    expect_bytes_refused("", 0, HS_TRUNCATED, "0 bytes");
    expect_bytes_refused("\2\0\0\0\0\0\0\0", 8, HS_TRUNCATED, "8 bytes");
    expect_bytes_refused("\2\0\0\0\0\0\0\0[]", 10, HS_BAD_MAGIC, "something else");
    expect_bytes_refused("\3\0\0\0\0\0\0\0{}", 10, HS_TRUNCATED, "3 bytes");
    expect_bytes_refused("PK\3\4............", 16, HS_BAD_MAGIC, "PyTorch");
    expect_bytes_refused("version https://git-lfs.github.com", 34, HS_BAD_MAGIC, "Git LFS");
    expect_bytes_refused("<!DOCTYPE html>", 15, HS_BAD_MAGIC, "web page");
    expect_bytes_refused("GGUF\3\0\0\0\0\0\0\0", 12, HS_BAD_MAGIC, "GGUF");
}

/* Every prefix of a file is one that ends too early, or has no valid header. */
static void prefixes_are_refused(void **state)
{
    (void)state;
    struct opened file, cut;
    assert_int_equal(open_file(&file, "{" T("t", "\"shape\":[9]," AT(0, 9)) "}", 9), HS_OK);
    for (size_t len = 0; len < file.len; len++) {
        assert_int_equal(open_bytes(&cut, file.bytes, len), HS_TRUNCATED);
        close_file(&cut);
    }
    close_file(&file);
}

/* ---- limits at N and N + 1 ---- */

static char *header_of(size_t n_tensors, size_t n_name, size_t n_dims)
{
    char *header = malloc(n_tensors * (n_name + n_dims * 2 + 80) + 3), *at = header;
    assert_non_null(header);
    *at++ = '{';
    for (size_t i = 0; i < n_tensors; i++) {
        at += sprintf(at, "%s\"%0*zu\":{\"dtype\":\"U8\",\"data_offsets\":[0,0],\"shape\":[0",
                      i > 0 ? "," : "", (int)n_name, i);
        for (size_t d = 1; d < n_dims; d++) {
            at += sprintf(at, ",1");
        }
        at += sprintf(at, "]}");
    }
    strcpy(at, "}");
    return header;
}

static void expect_limit(size_t n_tensors, size_t n_name, size_t n_dims, hs_status status)
{
    struct opened file;
    char *header = header_of(n_tensors, n_name, n_dims);
    assert_int_equal(open_file(&file, header, 0), status);
    close_file(&file);
    free(header);
}

static void limits_hold(void **state)
{
    (void)state;
    expect_limit(1, HS_SAFETENSORS_MAX_NAME_BYTES, 1, HS_OK);
    expect_limit(1, HS_SAFETENSORS_MAX_NAME_BYTES + 1, 1, HS_LIMIT);
    expect_limit(1, 1, HS_SAFETENSORS_MAX_DIMS, HS_OK);
    expect_limit(1, 1, HS_SAFETENSORS_MAX_DIMS + 1, HS_LIMIT);
    expect_limit(HS_SAFETENSORS_MAX_TENSORS, 1, 1, HS_OK);
    expect_limit(HS_SAFETENSORS_MAX_TENSORS + 1, 1, 1, HS_LIMIT);
}

static void header_length_is_limited(void **state)
{
    (void)state;
    size_t n = HS_SAFETENSORS_MAX_HEADER_BYTES;
    uint8_t *bytes = malloc(8 + n + 1);
    struct hs_error err;
    hs_safetensors *reader = NULL;
    assert_non_null(bytes);
    memset(bytes, ' ', 8 + n + 1);
    memcpy(bytes + 8, "{}", 2);
    put_length(bytes, n);
    assert_int_equal(hs_safetensors_open(bytes, 8 + n, &reader, &err), HS_OK);
    hs_safetensors_free(reader);
    put_length(bytes, n + 1);
    assert_int_equal(hs_safetensors_open(bytes, 8 + n + 1, &reader, &err), HS_LIMIT);
    put_length(bytes, UINT64_MAX);
    assert_int_equal(hs_safetensors_open(bytes, 8 + n + 1, &reader, &err), HS_LIMIT);
    free(bytes);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct opened file;
        hs_mem_fail_after(n);
        hs_status status = open_file(
            &file, "{\"__metadata__\":{\"k\":\"v\"}," T("t", "\"shape\":[1]," AT(0, 1)) "}", 1);
        bool is_done = hs_mem_count() < n;
        hs_mem_fail_after(0);
        close_file(&file);
        if (is_done) {
            assert_int_equal(status, HS_OK);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_read),
        cmocka_unit_test(all_types_have_their_size),
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(misplaced_tensors_are_refused),
        cmocka_unit_test(other_files_are_named),
        cmocka_unit_test(prefixes_are_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(header_length_is_limited),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
