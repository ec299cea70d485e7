/* Rules of routing as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "adapters/route_rules.h"
#include "base/mem.h"

static void rules_that_parse(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *text, *pattern;
        int32_t n;
        struct hs_adapter_ref adapters[3];
    } cases[] = {
        {"french=fr", "In French", "french", 1, {{"fr", 1}}},
        {"french=", "FRENCH", "french", 0, {{NULL, 0}}},
        {"a=b=fr", "is a=b?", "a=b", 1, {{"fr", 1}}},
        {"^(x|y)$=a:0.5+b:-2+c", "y", "^(x|y)$", 3, {{"a", 0.5f}, {"b", -2}, {"c", 1}}},
        {"x=a:1e+2+b:+3", "x", "x", 2, {{"a", 100}, {"b", 3}}},
        {"x=de+e", "ax", "x", 2, {{"de", 1}, {"e", 1}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hs_route_rules *rules = NULL;
        struct hs_error err;
        if (hs_route_rules_parse(&cases[i].rule, 1, &rules, &err) != HS_OK) {
            fail_msg("%s: %s", cases[i].rule, err.message);
        }
        const struct hs_route_rule *rule = hs_route_rules_match(rules, cases[i].text);
        assert_non_null(rule);
        assert_string_equal(rule->pattern, cases[i].pattern);
        assert_int_equal(rule->n_adapters, cases[i].n);
        for (int32_t k = 0; k < cases[i].n; k++) {
            assert_string_equal(rule->adapters[k].name, cases[i].adapters[k].name);
            assert_true(rule->adapters[k].scale >= cases[i].adapters[k].scale &&
                        rule->adapters[k].scale <= cases[i].adapters[k].scale);
        }
        assert_null(hs_route_rules_match(rules, "good morning"));
        hs_route_rules_free(rules);
    }
}

static void the_first_that_matches(void **state)
{
    (void)state;
    static const char *const texts[] = {"^one=a", "one=b", "two="};
    hs_route_rules *rules = NULL;
    assert_int_equal(hs_route_rules_parse(texts, 3, &rules, NULL), HS_OK);
    assert_string_equal(hs_route_rules_match(rules, "one two")->pattern, "^one");
    assert_string_equal(hs_route_rules_match(rules, "two one")->pattern, "one");
    assert_string_equal(hs_route_rules_match(rules, "two\nthree")->pattern, "two");
    assert_null(hs_route_rules_match(rules, ""));
    hs_route_rules_free(rules);
    assert_int_equal(hs_route_rules_parse(NULL, 0, &rules, NULL), HS_OK);
    assert_null(hs_route_rules_match(rules, "one"));
    hs_route_rules_free(rules);
    assert_null(hs_route_rules_match(NULL, "one"));
    hs_route_rules_free(NULL);
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
        hs_route_rules *rules = NULL;
        struct hs_error err;
        assert_int_equal(hs_route_rules_parse(&cases[i].text, 1, &rules, &err), cases[i].status);
        if (strstr(err.message, cases[i].says) == NULL) {
            fail_msg("%s: %s", cases[i].text, err.message);
        }
        assert_null(rules);
    }
    const char *most = "x=a+b+c+d+e+f+g+h";
    hs_route_rules *rules = NULL;
    assert_int_equal(hs_route_rules_parse(&most, 1, &rules, NULL), HS_OK);
    assert_int_equal(hs_route_rules_match(rules, "x")->n_adapters, HS_ROUTE_MAX);
    hs_route_rules_free(rules);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *texts[] = {"x=a:0.5+b", "y="};
    for (uint64_t fail = 1;; fail++) {
        hs_route_rules *rules = NULL;
        hs_mem_fail_after(fail);
        hs_status status = hs_route_rules_parse(texts, 2, &rules, NULL);
        hs_mem_fail_after(0);
        hs_route_rules_free(rules);
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
        cmocka_unit_test(the_first_that_matches),
        cmocka_unit_test(rules_that_do_not),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
