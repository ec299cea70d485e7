/* Tests of plans: what is refused before any arithmetic, and what the messages say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "merge_test.h"

static const struct test_shape rank_4 = {"blk.0.attn_q.weight", 8, 8, 4, false, HS_LORA_F32};
static const struct test_shape rank_2 = {"blk.0.attn_q.weight", 8, 8, 2, false, HS_LORA_F32};
static const struct test_shape wide = {"blk.0.attn_q.weight", 8, 10, 4, false, HS_LORA_F32};
static const struct test_shape embedding = {"blk.0.attn_q.weight", 8, 8, 4, true, HS_LORA_F32};
static const struct test_shape sparse = {"blk.0.attn_q.weight", 8, 8, 0, false, HS_LORA_F32};

/* Two adapters of one target each; part NULL: the plan is made. */
static void expect_pair(const struct test_shape *first, const struct test_shape *second,
                        struct hs_merge_params params, hs_status status, const char *part,
                        const char *hint)
{
    struct hs_lora *a = test_lora_new(first, 1, 1, 1);
    struct hs_lora *b = test_lora_new(second, 1, 1, 2);
    struct hs_merge_input inputs[] = {{a, "first", 1}, {b, "second", 1}};
    hs_merge_plan *plan = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_merge_plan_new(inputs, 2, &params, &plan, &err), status);
    assert_non_null(strstr(err.message, part));
    assert_non_null(strstr(err.hint, hint));
    assert_int_equal(plan != NULL, status == HS_OK);
    hs_merge_plan_free(plan);
    test_lora_free(a);
    test_lora_free(b);
}

static void test_unequal_ranks(void **state)
{
    (void)state;
    static const struct {
        int32_t method;
        const char *better; /* NULL: takes any ranks */
    } cases[] = {{HS_MERGE_LINEAR, "use svd,"},
                 {HS_MERGE_TIES, "use ties_svd,"},
                 {HS_MERGE_DARE_LINEAR, "use dare_linear_svd,"},
                 {HS_MERGE_DARE_TIES, "use dare_ties_svd,"},
                 {HS_MERGE_MAGNITUDE_PRUNE, "use magnitude_prune_svd,"},
                 {HS_MERGE_CAT, NULL},
                 {HS_MERGE_SVD, NULL},
                 {HS_MERGE_TIES_SVD, NULL},
                 {HS_MERGE_SLERP, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hs_merge_params params = test_params();
        params.method = cases[i].method;
        if (cases[i].better != NULL) {
            expect_pair(&rank_4, &rank_2, params, HS_MISMATCH,
                        "rank 2 in adapter 'second' and 4 in 'first'", cases[i].better);
        } else {
            expect_pair(&rank_4, &rank_2, params, HS_OK, "", "");
        }
        expect_pair(&rank_4, &rank_4, params, HS_OK, "", "");
    }
}

static void test_other_models(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    expect_pair(&rank_4, &wide, params, HS_MISMATCH, "8 x 10 in adapter 'second' and 8 x 8",
                "same base");
    expect_pair(&rank_4, &embedding, params, HS_MISMATCH, "different models", "same base");
}

static void test_sparse(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    expect_pair(&sparse, &rank_4, params, HS_INVALID_ARGUMENT, "no rank", "which rank");
    params.rank = 3;
    expect_pair(&sparse, &rank_4, params, HS_OK, "", "");
    params.method = HS_MERGE_TIES;
    expect_pair(&rank_4, &sparse, params, HS_NOT_SUPPORTED, "'second' is sparse", "use ties_svd");
    params.method = HS_MERGE_CAT;
    expect_pair(&sparse, &rank_4, params, HS_NOT_SUPPORTED, "'first' is sparse", "use svd");
}

static hs_status plan_of(struct hs_lora *lora, int32_t n, struct hs_merge_params params,
                         double weight, struct hs_error *err)
{
    struct hs_merge_input inputs[HS_MERGE_INPUTS_MAX + 1];
    hs_merge_plan *plan = NULL;
    for (int32_t k = 0; k <= HS_MERGE_INPUTS_MAX; k++) {
        inputs[k] = (struct hs_merge_input){lora, "same", weight};
    }
    hs_status status = hs_merge_plan_new(inputs, n, &params, &plan, err);
    hs_merge_plan_free(plan);
    return status;
}

static void test_limits(void **state)
{
    (void)state;
    struct hs_lora *lora = test_lora_new(&rank_4, 1, 1, 1);
    struct hs_merge_params params = test_params();
    struct hs_error err;
    assert_int_equal(plan_of(lora, 0, params, 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(plan_of(lora, HS_MERGE_INPUTS_MAX, params, 1, &err), HS_OK);
    assert_int_equal(plan_of(lora, HS_MERGE_INPUTS_MAX + 1, params, 1, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "65 adapters"));
    assert_int_equal(plan_of(lora, 1, params, (double)NAN, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(plan_of(lora, 1, params, (double)INFINITY, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "'same'"));
    params.density = 2;
    assert_int_equal(plan_of(lora, 1, params, 1, &err), HS_INVALID_ARGUMENT);
    params.density = 0.5;
    params.method = HS_MERGE_SLERP;
    assert_int_equal(plan_of(lora, 1, params, 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(plan_of(lora, 3, params, 1, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "two adapters, not 3"));
    assert_int_equal(plan_of(lora, 2, params, 1, &err), HS_OK);
    test_lora_free(lora);
}

/* 1024 = 64 times 16 is the limit of cat. */
static void test_rank_of_cat(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    struct hs_error err;
    struct test_shape shape = rank_4;
    params.method = HS_MERGE_CAT;
    shape.rank = 16;
    struct hs_lora *lora = test_lora_new(&shape, 1, 1, 1);
    assert_int_equal(plan_of(lora, 64, params, 1, &err), HS_OK);
    test_lora_free(lora);
    shape.rank = 17;
    lora = test_lora_new(&shape, 1, 1, 1);
    assert_int_equal(plan_of(lora, 60, params, 1, &err), HS_OK);
    assert_int_equal(plan_of(lora, 61, params, 1, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "add up to 1037"));
    test_lora_free(lora);
}

static void test_nothing_to_merge(void **state)
{
    (void)state;
    struct hs_lora nothing = {0};
    struct hs_merge_params params = test_params();
    struct hs_error err;
    assert_int_equal(plan_of(&nothing, 2, params, 1, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "change nothing"));
    hs_merge_plan_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unequal_ranks), cmocka_unit_test(test_other_models),
        cmocka_unit_test(test_sparse),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_rank_of_cat),   cmocka_unit_test(test_nothing_to_merge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
