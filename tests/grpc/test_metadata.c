/* Fields, content types, time-outs and texts, as the gRPC specification has them. */
#include "metadata.h"

#include "base/mem.h"
#include "grpc_test.h"

static void test_fields(void **state)
{
    (void)state;
    struct hs_grpc_field *list = NULL;
    assert_true(hs_grpc_field_add(&list, "a", 1, "1", 1));
    assert_true(hs_grpc_field_add(&list, "ab", 2, "", 0));
    assert_true(hs_grpc_field_add(&list, "a", 1, "2", 1));
    assert_string_equal(hs_grpc_field_find(list, "a"), "1");
    assert_string_equal(hs_grpc_field_find(list, "ab"), "");
    assert_null(hs_grpc_field_find(list, "b"));
    hs_mem_fail_after(1);
    assert_false(hs_grpc_field_add(&list, "c", 1, "3", 1));
    hs_mem_fail_after(0);
    hs_grpc_fields_free(list);
    assert_int_equal(hs_grpc_field_cost(7, 4), 43); /* RFC 7541, 4.1 */
}

static void test_content_types(void **state)
{
    (void)state;
    static const char *const good[] = {"application/grpc", "application/grpc+proto",
                                       "application/grpc; charset=x", "application/grpc+"};
    static const char *const bad[] = {"", "application/grp", "application/grpc-web",
                                      "application/grpcx", "text/html"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(hs_grpc_content_type_fits(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(hs_grpc_content_type_fits(bad[i]));
    }
}

static void test_timeouts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1H", 3600000},
        {"2M", 120000},
        {"3S", 3000},
        {"4m", 4},
        {"5000u", 5},
        {"5001u", 6},
        {"1u", 1},
        {"1n", 1},
        {"1000000n", 1},
        {"1000001n", 2},
        {"0m", 0},
        {"007S", 7000},
        {"99999999m", 99999999},
        {"99999999H", 99999999 * INT64_C(3600000)},
    };
    static const char *const bad[] = {"",    "1",   "m",   "1s",   "1mm",       "-1m",
                                      "+1m", " 1m", "1 m", "1.5S", "100000000m"};
    int64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(hs_grpc_timeout_parse(good[i].text, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(hs_grpc_timeout_parse(bad[i], &ms));
    }
}

static void check_text(const char *text, size_t size, const char *wanted)
{
    char out[64];
    hs_grpc_text_encode(text, out, size);
    assert_string_equal(out, wanted);
}

static void test_texts(void **state)
{
    (void)state;
    check_text("", 64, "");
    check_text("plain ~ text", 64, "plain ~ text");
    check_text("100%", 64, "100%25");
    check_text("a\nb\x7f\x1f", 64, "a%0Ab%7F%1F");
    check_text("\xc3\xa4", 64, "%C3%A4");
    check_text("abcd", 5, "abcd");
    check_text("abcd", 4, "abc");
    check_text("a%b", 6, "a%25b");
    check_text("a%b", 5, "a%25");
    check_text("a%b", 4, "a"); /* no half of a code */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
