/* Tests of rest/json_quote.c against another reader of JSON. */
#include "base/buf.h"
#include "base/mem.h"
#include "json_quote.h"
#include "rest_test.h"

static void expect(const char *text, size_t len, const char *want)
{
    struct hs_buf out HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(4096);
    assert_int_equal(hs_json_quote(&out, text, len), HS_OK);
    json_t *json = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    assert_int_equal(json_string_length(json), strlen(want));
    assert_string_equal(json_string_value(json), want);
    json_decref(json);
}

static void every_byte_and_code_point_comes_back(void **state)
{
    (void)state;
    for (int c = 1; c < 0x80; c++) {
        const char text[] = {'a', (char)c, 'b', '\0'};
        expect(text, 3, text);
    }
    expect("", 0, "");
    expect("Gr\xC3\xBC\xC3\x9F"
           "e \xE4\xB8\x96\xE7\x95\x8C \xF0\x9F\x98\x80",
           19,
           "Gr\xC3\xBC\xC3\x9F"
           "e \xE4\xB8\x96\xE7\x95\x8C \xF0\x9F\x98\x80");
}

static void nul_is_escaped(void **state)
{
    (void)state;
    struct hs_buf out HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(64);
    assert_int_equal(hs_json_quote(&out, "a\0b", 3), HS_OK);
    assert_string_equal(out.data, "\"a\\u0000b\"");
}

static void bytes_that_are_no_utf8_are_replaced(void **state)
{
    (void)state;
    expect("a\xFF"
           "b",
           3,
           "a\xEF\xBF\xBD"
           "b");
    expect("\xE4\xB8", 2, "\xEF\xBF\xBD\xEF\xBF\xBD");
    expect("\xED\xA0\x80", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* a surrogate */
}

static void limits_and_memory(void **state)
{
    (void)state;
    for (size_t max = 0; max < 10; max++) {
        struct hs_buf out = HS_BUF_INIT(max);
        assert_int_equal(hs_json_quote(&out, "a\nb\"c", 5), max < 9 ? HS_LIMIT : HS_OK);
        hs_buf_free(&out);
    }
    struct hs_buf out = HS_BUF_INIT(64);
    hs_mem_fail_after(1);
    assert_int_equal(hs_json_quote(&out, "a", 1), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
    hs_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_and_code_point_comes_back),
        cmocka_unit_test(nul_is_escaped),
        cmocka_unit_test(bytes_that_are_no_utf8_are_replaced),
        cmocka_unit_test(limits_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
