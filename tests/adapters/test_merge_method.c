/* Tests of the table of merge methods and of the ranges of parameters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "merge_internal.h"
#include "merge_test.h"

static void test_names(void **state)
{
    (void)state;
    /* PEFT's combination_type, then those on full deltas, as issue and manual list them */
    static const char *const names[] = {"linear",
                                        "cat",
                                        "svd",
                                        "ties",
                                        "ties_svd",
                                        "dare_linear",
                                        "dare_ties",
                                        "dare_linear_svd",
                                        "dare_ties_svd",
                                        "magnitude_prune",
                                        "magnitude_prune_svd",
                                        "task_arithmetic",
                                        "breadcrumbs",
                                        "della",
                                        "slerp"};
    assert_int_equal(HS_MERGE_COUNT, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < HS_MERGE_COUNT; i++) {
        int32_t method = hs_merge_method_find(names[i]);
        assert_true(method >= 0 && method < hs_merge_n_methods());
        assert_string_equal(hs_merge_method_name(method), names[i]);
        assert_true(strlen(hs_merge_method_text(method)) > 10);
        assert_int_equal(strstr(hs_merge_method_params(method), "rank") != NULL,
                         hs_merge_row(method)->operand == DELTAS);
    }
    assert_int_equal(hs_merge_method_find("Linear"), -1);
    assert_int_equal(hs_merge_method_find(""), -1);
}

static void expect(struct hs_merge_params params, hs_status status, const char *part)
{
    struct hs_error err = {0};
    assert_int_equal(hs_merge_params_check(&params, &err), status);
    assert_non_null(strstr(err.message, part));
    assert_int_equal(err.hint[0] != '\0', status != HS_OK);
    assert_int_equal(hs_merge_params_check(&params, NULL), status);
}

static void test_ranges(void **state)
{
    (void)state;
    const struct hs_merge_params usual = test_params();
    struct hs_merge_params p = usual;
    static const double bad_shares[] = {0, -0.1, 1.0000001, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 5; i++) {
        p = usual;
        p.density = bad_shares[i];
        expect(p, HS_INVALID_ARGUMENT, "density");
        p = usual;
        p.t = i == 0 ? -1e-9 : bad_shares[i];
        expect(p, HS_INVALID_ARGUMENT, "t is");
        p = usual;
        p.gamma = i == 0 ? 1 : bad_shares[i];
        expect(p, HS_INVALID_ARGUMENT, "gamma");
        p = usual;
        p.epsilon = i == 0 ? 0.5 : bad_shares[i];
        expect(p, HS_INVALID_ARGUMENT, "epsilon");
    }
    p = usual;
    p.density = 1;
    p.t = 1;
    p.gamma = 0;
    p.epsilon = 0;
    p.rank = HS_LORA_RANK_MAX;
    expect(p, HS_OK, "");
    p.rank++;
    expect(p, HS_INVALID_ARGUMENT, "rank 1025");
    p.rank = -1;
    expect(p, HS_INVALID_ARGUMENT, "rank -1");
    p = usual;
    p.method = HS_MERGE_COUNT;
    expect(p, HS_INVALID_ARGUMENT, "method");
    p.method = -1;
    expect(p, HS_INVALID_ARGUMENT, "method");
}

static void test_della_probabilities(void **state)
{
    (void)state;
    struct hs_merge_params p = test_params();
    p.method = HS_MERGE_DELLA;
    p.density = 0.15;
    expect(p, HS_INVALID_ARGUMENT, "density 0.15 with epsilon 0.15");
    p.density = 0.16;
    expect(p, HS_OK, "");
    p.density = 0.85;
    expect(p, HS_INVALID_ARGUMENT, "density 0.85");
    p.density = 1;
    expect(p, HS_OK, "");
    p.method = HS_MERGE_TIES;
    p.density = 0.85;
    expect(p, HS_OK, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_della_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
