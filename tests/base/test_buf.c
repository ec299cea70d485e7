/* Tests of base/buf.h. */
#include "base_test.h"

#include "base/buf.h"

static void test_append_and_terminate(void **state)
{
    (void)state;
    struct hs_buf buf = HS_BUF_INIT(1000);
    assert_int_equal(hs_buf_append(&buf, NULL, 0), HS_OK);
    assert_int_equal(hs_buf_append_str(&buf, "abc"), HS_OK);
    assert_int_equal(hs_buf_append(&buf, "d\0e", 3), HS_OK);
    assert_int_equal(buf.len, 6);
    assert_memory_equal(buf.data, "abcd\0e", 7);
    assert_int_equal(hs_buf_printf(&buf, "%d%%%s", 42, "x"), HS_OK);
    assert_memory_equal(buf.data, "abcd\0e42%x", 11);
    hs_buf_free(&buf);
    hs_buf_free(&buf);
    assert_null(buf.data);
}

static void test_limit(void **state)
{
    (void)state;
    for (size_t max = 0; max < 300; max++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(max);
        for (size_t i = 0; i < max; i++) {
            assert_int_equal(hs_buf_append(&buf, "x", 1), HS_OK);
        }
        assert_int_equal(buf.len, max);
        assert_int_equal(hs_buf_append(&buf, "y", 1), HS_LIMIT);
        assert_int_equal(hs_buf_append_str(&buf, "y"), HS_LIMIT);
        assert_int_equal(hs_buf_printf(&buf, "%d", 1), HS_LIMIT);
        assert_int_equal(hs_buf_reserve(&buf, 1), HS_LIMIT);
        assert_int_equal(hs_buf_reserve(&buf, SIZE_MAX), HS_LIMIT);
        assert_int_equal(hs_buf_append(&buf, "", 0), HS_OK);
        assert_int_equal(buf.len, max);
        assert_int_equal(buf.data[max], '\0');
        assert_true(buf.cap <= max + 1);
    }
}

static void test_printf_leaves_buffer_on_limit(void **state)
{
    (void)state;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(5);
    assert_int_equal(hs_buf_printf(&buf, "%s", "abc"), HS_OK);
    assert_int_equal(hs_buf_printf(&buf, "%s", "def"), HS_LIMIT);
    assert_int_equal(buf.len, 3);
    assert_string_equal(buf.data, "abc");
    assert_int_equal(hs_buf_printf(&buf, "%s", "de"), HS_OK);
    assert_string_equal(buf.data, "abcde");
}

static void test_reserve(void **state)
{
    (void)state;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(SIZE_MAX);
    assert_int_equal(hs_buf_append_str(&buf, "ab"), HS_OK);
    assert_int_equal(hs_buf_reserve(&buf, 1000), HS_OK);
    assert_true(buf.cap >= 1003);
    assert_int_equal(buf.len, 2);
    char *before = buf.data;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(hs_buf_append(&buf, "z", 1), HS_OK);
    }
    assert_ptr_equal(buf.data, before);
    assert_int_equal(hs_buf_reserve(&buf, SIZE_MAX - buf.len), HS_OUT_OF_MEMORY);
    assert_int_equal(hs_buf_reserve(&buf, SIZE_MAX - buf.len + 1), HS_LIMIT);
    assert_int_equal(buf.len, 1002);
}

static void test_consume_and_clear(void **state)
{
    (void)state;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(100);
    hs_buf_consume(&buf, 0);
    hs_buf_clear(&buf);
    assert_int_equal(hs_buf_append_str(&buf, "hello world"), HS_OK);
    hs_buf_consume(&buf, 6);
    assert_string_equal(buf.data, "world");
    assert_int_equal(buf.len, 5);
    hs_buf_consume(&buf, 0);
    assert_string_equal(buf.data, "world");
    hs_buf_consume(&buf, 5);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    assert_int_equal(hs_buf_append_str(&buf, "again"), HS_OK);
    size_t cap = buf.cap;
    hs_buf_clear(&buf);
    assert_string_equal(buf.data, "");
    assert_int_equal(buf.cap, cap);
}

static void test_take(void **state)
{
    (void)state;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(100);
    char *data = NULL;
    size_t len = 9;
    assert_int_equal(hs_buf_take(&buf, &data, &len), HS_OK);
    assert_string_equal(data, "");
    assert_int_equal(len, 0);
    hs_free(data);
    assert_int_equal(hs_buf_append(&buf, "a\0b", 3), HS_OK);
    assert_int_equal(hs_buf_take(&buf, &data, &len), HS_OK);
    assert_memory_equal(data, "a\0b", 4);
    assert_int_equal(len, 3);
    hs_free(data);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    assert_int_equal(hs_buf_append_str(&buf, "more"), HS_OK);
    assert_int_equal(hs_buf_take(&buf, &data, NULL), HS_OK);
    assert_string_equal(data, "more");
    hs_free(data);
}

static hs_status use_buffer(struct hs_buf *buf)
{
    hs_status status = HS_OK;
    for (int i = 0; i < 20 && status == HS_OK; i++) {
        status = hs_buf_printf(buf, "%050d", i);
    }
    return status;
}

/* A failed call leaves what was there: some whole number of 50-byte pieces. */
static void test_no_memory(void **state)
{
    (void)state;
    hs_status status;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(10000);
    WITH_EVERY_ALLOCATION_FAILING(
        status,
        {
            hs_buf_free(&buf);
            status = use_buffer(&buf);
        },
        {
            assert_int_equal(buf.len % 50, 0);
            assert_true(buf.len < 1000);
            assert_true(buf.data == NULL || strlen(buf.data) == buf.len);
        });
    assert_int_equal(buf.len, 1000);
    hs_buf_free(&buf);
    char *data = NULL;
    WITH_EVERY_ALLOCATION_FAILING(
        status, { status = hs_buf_take(&buf, &data, NULL); }, { assert_null(data); });
    hs_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_terminate),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_printf_leaves_buffer_on_limit),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_consume_and_clear),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
