/* Request targets: escapes, segments, queries, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "target.h"

static void parse(const char *raw, struct hs_http_target *target)
{
    struct hs_error err;
    if (hs_http_target_parse(raw, target, &err) != HS_OK) {
        fail_msg("%s: %s", raw, err.message);
    }
}

static void test_paths(void **state)
{
    (void)state;
    struct hs_http_target target;
    parse("/a/b%2Fc//%C3%A9?x", &target);
    assert_string_equal(target.path, "/a/b/c//\xC3\xA9");
    assert_int_equal(target.n_segments, 4);
    assert_string_equal(target.segments[1], "b/c");
    assert_string_equal(target.segments[2], "");
    assert_string_equal(target.segments[3], "\xC3\xA9");
    assert_string_equal(target.rests[0], "a/b/c//\xC3\xA9");
    assert_string_equal(target.rests[1], "b/c//\xC3\xA9");
    assert_string_equal(target.rests[3], "\xC3\xA9");
    hs_http_target_free(&target);
    parse("/", &target);
    assert_int_equal(target.n_segments, 1);
    assert_string_equal(target.segments[0], "");
    hs_http_target_free(&target);
    parse("https://host:1/p+q?a=b", &target);
    assert_string_equal(target.path, "/p+q");
    hs_http_target_free(&target);
    parse("http://host?a=b", &target);
    assert_string_equal(target.path, "/");
    assert_string_equal(target.query[0].value, "b");
    hs_http_target_free(&target);
    parse("*", &target);
    assert_string_equal(target.path, "*");
    assert_int_equal(target.n_segments, 0);
    hs_http_target_free(&target);
}

static void test_queries(void **state)
{
    (void)state;
    struct hs_http_target target;
    parse("/?a=1&&b&c=&=d&e=f=g&h+i=%2B+", &target);
    static const char *const wanted[][2] = {{"a", "1"}, {"b", ""},    {"c", ""},
                                            {"", "d"},  {"e", "f=g"}, {"h i", "+ "}};
    assert_int_equal(target.n_query, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(target.query[i].name, wanted[i][0]);
        assert_string_equal(target.query[i].value, wanted[i][1]);
        assert_string_equal(hs_http_target_query(&target, wanted[i][0]), wanted[i][1]);
    }
    assert_null(hs_http_target_query(&target, "unheard-of"));
    hs_http_target_free(&target);
    parse("/?a=first&a=second", &target);
    assert_string_equal(hs_http_target_query(&target, "a"), "first");
    hs_http_target_free(&target);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",      "a",       "http:/a",    "ftp://h/a", "/%",
                                      "/%4",   "/%4g",    "/%g4",       "/a%00b",    "/?%00",
                                      "/%80",  "/%C0%AF", "/%ED%A0%80", "/?a=%FF",   "/a#b",
                                      "/\xFF", "/?%",     "/?a=%1",     "#"};
    struct hs_http_target target;
    struct hs_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (hs_http_target_parse(bad[i], &target, &err) != HS_INVALID_ARGUMENT) {
            fail_msg("'%s' is taken", bad[i]);
        }
    }
}

static void test_limits(void **state)
{
    (void)state;
    char path[512] = "", query[1024] = "/?";
    struct hs_http_target target;
    struct hs_error err;
    for (int i = 0; i < HS_HTTP_SEGMENTS_MAX; i++) {
        memcpy(path + strlen(path), "/s", 3);
    }
    parse(path, &target);
    assert_int_equal(target.n_segments, HS_HTTP_SEGMENTS_MAX);
    hs_http_target_free(&target);
    memcpy(path + strlen(path), "/", 2);
    assert_int_equal(hs_http_target_parse(path, &target, &err), HS_LIMIT);
    for (int i = 0; i < HS_HTTP_QUERY_MAX; i++) {
        memcpy(query + strlen(query), "q&", 3);
    }
    parse(query, &target);
    assert_int_equal(target.n_query, HS_HTTP_QUERY_MAX);
    hs_http_target_free(&target);
    memcpy(query + strlen(query), "q", 2);
    assert_int_equal(hs_http_target_parse(query, &target, &err), HS_LIMIT);
    hs_mem_fail_after(1);
    assert_int_equal(hs_http_target_parse("/a", &target, &err), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
