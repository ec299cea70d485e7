/* Rules of routing as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "route_rules.h"

static void rules_that_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text, *pattern;
        int32_t n;
        struct hs_adapter_ref adapters[3];
    } cases[] = {
        {"french=fr", "french", 1, {{"fr", 1}}},
        {"french=", "french", 0, {{NULL, 0}}},
        {"a=b=fr", "a=b", 1, {{"fr", 1}}},
        {"^(x|y)$=a:0.5+b:-2+c", "^(x|y)$", 3, {{"a", 0.5f}, {"b", -2}, {"c", 1}}},
        {"x=a:1e+2+b:+3", "x", 2, {{"a", 100}, {"b", 3}}},
        {"x=de+e", "x", 2, {{"de", 1}, {"e", 1}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hs_route_rules rules;
        struct hs_error err;
        if (hs_route_rules_parse(&cases[i].text, 1, &rules, &err) != HS_OK) {
            fail_msg("%s: %s", cases[i].text, err.message);
        }
        assert_int_equal(rules.n, 1);
        assert_string_equal(rules.rules[0].pattern, cases[i].pattern);
        assert_int_equal(rules.rules[0].n_adapters, cases[i].n);
        for (int32_t k = 0; k < cases[i].n; k++) {
            assert_string_equal(rules.rules[0].adapters[k].name, cases[i].adapters[k].name);
            assert_true(rules.rules[0].adapters[k].scale >= cases[i].adapters[k].scale &&
                        rules.rules[0].adapters[k].scale <= cases[i].adapters[k].scale);
        }
        hs_route_rules_free(&rules);
    }
    struct hs_route_rules none;
    assert_int_equal(hs_route_rules_parse(NULL, 0, &none, NULL), HS_OK);
    assert_int_equal(none.n, 0);
    hs_route_rules_free(&none);
}

static void rules_that_do_not(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
        hs_status status;
    } cases[] = {
        {"french", "is no rule", HS_INVALID_ARGUMENT},
        {"=fr", "is no rule", HS_INVALID_ARGUMENT},
        {"", "is no rule", HS_INVALID_ARGUMENT},
        {"(=fr", "does not parse", HS_INVALID_ARGUMENT},
        {"x=a+", "ends in '+'", HS_INVALID_ARGUMENT},
        {"x=+a", "not an adapter's name", HS_INVALID_ARGUMENT},
        {"x=a:b", "not an adapter's scale", HS_INVALID_ARGUMENT},
        {"x=a/b", "not an adapter's name", HS_INVALID_ARGUMENT},
        {"x=a+b+c+d+e+f+g+h+i", "more than 8", HS_LIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hs_route_rules rules = {0};
        struct hs_error err;
        assert_int_equal(hs_route_rules_parse(&cases[i].text, 1, &rules, &err), cases[i].status);
        if (strstr(err.message, cases[i].says) == NULL) {
            fail_msg("%s: %s", cases[i].text, err.message);
        }
        assert_null(rules.rules);
    }
    const char *most = "x=a+b+c+d+e+f+g+h";
    struct hs_route_rules rules;
    assert_int_equal(hs_route_rules_parse(&most, 1, &rules, NULL), HS_OK);
    assert_int_equal(rules.rules[0].n_adapters, HS_ROUTE_MAX);
    hs_route_rules_free(&rules);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *texts[] = {"x=a:0.5+b", "y="};
    for (uint64_t fail = 1;; fail++) {
        struct hs_route_rules rules = {0};
        hs_mem_fail_after(fail);
        hs_status status = hs_route_rules_parse(texts, 2, &rules, NULL);
        hs_mem_fail_after(0);
        hs_route_rules_free(&rules);
        if (status == HS_OK) {
            assert_true(fail > 6);
            return;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_that_parse),
        cmocka_unit_test(rules_that_do_not),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
