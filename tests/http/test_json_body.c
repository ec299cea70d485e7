/* JSON bodies: what is refused, where it says so, and how deep they may be. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

#include "json_body.h"

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "empty"},
        {"{", "ends too early"},
        {"{\"a\":1,}", "line 1"},
        {"{\"a\":1,\n\"a\":2}", "same key twice (line 2"},
        {"{\"a\":NaN}", "misplaced"},
        {"{\"a\":Infinity}", "misplaced"},
        {"{\"a\":-Infinity}", "misplaced"},
        {"{\"a\":1e999}", "out of range"},
        {"{\"a\":99999999999999999999}", "out of range"},
        {"{\"a\":\"\\u0000\"}", "\\u0000"},
        {"{\"a\\u0000\":1}", "\\u0000"},
        {"{\"a\":\"\xFF\"}", "UTF-8"},
        {"{\"a\":\"\xED\xA0\x80\"}", "UTF-8"},
        {"{\"a\":\"\\ud800\"}", "misplaced"},
        {"{} x", "behind its end"},
        {"{}{}", "behind its end"},
        {"[1]", "must be a JSON object"},
        {"\"x\"", "must be a JSON object"},
        {"null", "must be a JSON object"},
        {"{a:1}", "misplaced"},
        {"{'a':1}", "misplaced"},
        {"// comment\n{}", "misplaced"},
        {"\xEF\xBB\xBF{}", "misplaced"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *json = NULL;
        struct hs_error err;
        hs_status status = hs_http_json_parse(cases[i].text, strlen(cases[i].text), 8, &json, &err);
        if (status != HS_INVALID_ARGUMENT || strstr(err.message, cases[i].part) == NULL) {
            fail_msg("%s: %d %s", cases[i].text, status, err.message);
        }
    }
}

static void test_depth(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        hs_status wanted; /* at a depth of 3 */
    } cases[] = {
        {"{\"a\":[{}]}", HS_OK},
        {"{\"a\":[{\"b\":[]}]}", HS_LIMIT},
        {"{\"a\":\"[[[[[\",\"b\":\"\\\"[[[[\"}", HS_OK},
        {"{\"a\":[[]],\"b\":[[]],\"c\":{\"d\":{}}}", HS_OK},
        {"{\"a\":[[[", HS_LIMIT},
        {"]]]]{\"a\":[[]]}", HS_INVALID_ARGUMENT},
        {"{\"\\", HS_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *json = NULL;
        struct hs_error err;
        hs_status status = hs_http_json_parse(cases[i].text, strlen(cases[i].text), 3, &json, &err);
        if (status != cases[i].wanted) {
            fail_msg("%s: %d", cases[i].text, status);
        }
        json_decref(json);
    }
    static char deep[100000];
    memset(deep, '[', sizeof deep);
    json_t *json = NULL;
    struct hs_error err;
    assert_int_equal(hs_http_json_parse(deep, sizeof deep, 1024, &json, &err), HS_LIMIT);
}

static void test_text_with_nul(void **state)
{
    (void)state;
    json_t *json = NULL;
    struct hs_error err;
    assert_int_equal(hs_http_json_parse("{}\0", 3, 8, &json, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_http_json_parse("{\"a\0\":1}", 8, 8, &json, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_http_json_parse("{\"a\":1}", 7, 8, &json, &err), HS_OK);
    assert_int_equal(json_integer_value(json_object_get(json, "a")), 1);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_text_with_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
