/* Tests of merge_target.c and its steps: every method against its formula in plain loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "merge_keep.h"
#include "merge_test.h"

#define N_OUT 24
#define N_IN 36
#define N ((size_t)N_OUT * N_IN)
#define N_ADAPTERS 3
#define F32_NOISE 1e-6 /* factors come out as f32 */

/* Three adapters of one target each; ranks 4, or 4, 7 and 2. */
struct fixture {
    struct hs_lora *loras[N_ADAPTERS];
    struct hs_merge_input inputs[N_ADAPTERS];
    double *deltas[N_ADAPTERS];
};

static const double weights[N_ADAPTERS] = {0.7, -0.4, 1.3};

static void setup(struct fixture *f, bool has_equal_ranks, bool is_embedding)
{
    static const int32_t ranks[N_ADAPTERS] = {4, 7, 2};
    static const enum hs_lora_type types[N_ADAPTERS] = {HS_LORA_F32, HS_LORA_F16, HS_LORA_I8};
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        struct test_shape shape = {.tensor = "blk.0.ffn_up.weight",
                                   .n_out = N_OUT,
                                   .n_in = N_IN,
                                   .rank = has_equal_ranks ? 4 : ranks[k],
                                   .is_embedding = is_embedding,
                                   .type = types[k]};
        f->loras[k] = test_lora_new(&shape, 1, 0.5f + (float)k, 77u + (uint32_t)k);
        f->inputs[k] = (struct hs_merge_input){f->loras[k], "abc", weights[k]};
        f->deltas[k] = test_delta(&f->loras[k]->targets[0], N);
    }
}

static void teardown(struct fixture *f)
{
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        test_lora_free(f->loras[k]);
        free(f->deltas[k]);
    }
}

/* Both ways to get the result of a full-rank merge, against `expected`. */
static void expect_merged(const struct fixture *f, int32_t n, struct hs_merge_params *params,
                          const double *expected, double tolerance)
{
    params->rank = N_OUT;
    hs_merge_plan *plan = test_plan(f->inputs, n, params);
    assert_int_equal(hs_merge_plan_n_targets(plan), 1);
    double *factors = test_merged(plan, 0);
    double *rows = test_merged_rows(plan, 0);
    expect_near(factors, expected, N, tolerance);
    expect_near(rows, expected, N, 1e-12);
    free(factors);
    free(rows);
    hs_merge_plan_free(plan);
}

/* ---- sums ---- */

static void weighted_sum(const struct fixture *f, double *sum)
{
    memset(sum, 0, N * sizeof *sum);
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        for (size_t i = 0; i < N; i++) {
            sum[i] += weights[k] * f->deltas[k][i];
        }
    }
}

static void test_sums(void **state)
{
    (void)state;
    static const int32_t methods[] = {HS_MERGE_CAT, HS_MERGE_SVD, HS_MERGE_TASK_ARITHMETIC};
    for (int variant = 0; variant < 4; variant++) {
        struct fixture f;
        double sum[N];
        setup(&f, variant % 2 == 0, variant >= 2);
        weighted_sum(&f, sum);
        for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
            struct hs_merge_params params = test_params();
            params.method = methods[m];
            expect_merged(&f, N_ADAPTERS, &params, sum, F32_NOISE);
        }
        teardown(&f);
    }
}

static void test_cat_adds_ranks(void **state)
{
    (void)state;
    struct fixture f;
    struct hs_merge_factors factors;
    struct hs_merge_params params = test_params();
    params.method = HS_MERGE_CAT;
    setup(&f, false, false);
    hs_merge_plan *plan = test_plan(f.inputs, N_ADAPTERS, &params);
    assert_int_equal(hs_merge_factors(plan, 0, &factors, NULL), HS_OK);
    assert_int_equal(factors.target.rank, 4 + 7 + 2);
    assert_true(factors.error == 0);
    double sum[N];
    double square = 0;
    weighted_sum(&f, sum);
    for (size_t i = 0; i < N; i++) {
        square += sum[i] * sum[i];
    }
    assert_true(fabs(factors.norm - sqrt(square)) < 1e-9 * factors.norm);
    hs_merge_factors_clear(&factors);
    hs_merge_plan_free(plan);
    teardown(&f);
}

/* PEFT: A and B each get the root of weight * scale, the sign goes to A. */
static void linear_formula(const struct fixture *f, int32_t n, double *product)
{
    double a[4 * N_IN] = {0};
    double b[N_OUT * 4] = {0};
    for (int32_t k = 0; k < n; k++) {
        const struct hs_lora_target *target = &f->loras[k]->targets[0];
        double w = weights[k] * (double)target->scale;
        float row[N_IN];
        for (int64_t r = 0; r < 4; r++) {
            hs_lora_matrix_row(&target->a, r, row);
            for (int64_t i = 0; i < N_IN; i++) {
                a[r * N_IN + i] += copysign(sqrt(fabs(w)), w) * (double)row[i];
            }
        }
        for (int64_t o = 0; o < N_OUT; o++) {
            hs_lora_matrix_row(&target->b, o, row);
            for (int64_t r = 0; r < 4; r++) {
                b[o * 4 + r] += sqrt(fabs(w)) * (double)row[r];
            }
        }
    }
    for (size_t i = 0; i < N; i++) {
        product[i] = 0;
        for (size_t r = 0; r < 4; r++) {
            product[i] += b[i / N_IN * 4 + r] * a[r * N_IN + i % N_IN];
        }
    }
}

static void test_linear(void **state)
{
    (void)state;
    struct fixture f;
    double product[N];
    struct hs_merge_params params = test_params();
    params.method = HS_MERGE_LINEAR;
    setup(&f, true, false);
    linear_formula(&f, N_ADAPTERS, product);
    expect_merged(&f, N_ADAPTERS, &params, product, F32_NOISE);
    teardown(&f);
}

/* One adapter alone is weighted, whatever the method of PEFT's. */
static void test_one_adapter(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, false, true);
    for (int m = 0; m <= HS_MERGE_MAGNITUDE_PRUNE_SVD; m++) {
        struct hs_merge_params params = test_params();
        params.method = m;
        params.density = 0.2;
        double expected[N];
        for (size_t i = 0; i < N; i++) {
            expected[i] = weights[1] * f.deltas[1][i];
        }
        hs_merge_plan *plan = test_plan(&f.inputs[1], 1, &params);
        double *merged = test_merged(plan, 0);
        expect_near(merged, expected, N, F32_NOISE);
        free(merged);
        hs_merge_plan_free(plan);
    }
    teardown(&f);
}

static void test_weight_zero(void **state)
{
    (void)state;
    struct fixture f;
    struct hs_merge_params params = test_params();
    double nothing[N] = {0};
    setup(&f, true, false);
    f.inputs[0].weight = f.inputs[1].weight = f.inputs[2].weight = 0;
    for (int m = 0; m < HS_MERGE_COUNT; m++) {
        params.method = m;
        expect_merged(&f, m == HS_MERGE_SLERP ? 2 : N_ADAPTERS, &params, nothing, 0);
    }
    teardown(&f);
}

/* ---- what is left out, and elections ---- */

static int compare_magnitude(const void *a, const void *b)
{
    double x = fabs(*(const double *)a);
    double y = fabs(*(const double *)b);
    return (x > y) - (x < y);
}

/* Zero all but the ranks [first, first + n) by magnitude; no two magnitudes are equal. */
static void keep_ranks(double *values, size_t first, size_t n)
{
    double sorted[N];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, N, sizeof sorted[0], compare_magnitude);
    double low = n > 0 ? fabs(sorted[first]) : (double)INFINITY;
    double high = n > 0 ? fabs(sorted[first + n - 1]) : 0;
    for (size_t i = 0; i < N; i++) {
        if (fabs(values[i]) < low || fabs(values[i]) > high) {
            values[i] = 0;
        }
    }
}

/* The number at a position as merge_keep.h defines it, written anew. */
static double number_at(uint64_t seed, const char *tensor, int32_t input, uint64_t position)
{
    uint64_t hash = 14695981039346656037u;
    for (; *tensor != '\0'; tensor++) {
        hash ^= (uint8_t)*tensor;
        hash *= 1099511628211u;
    }
    uint64_t z[2] = {hash + 4 * (uint64_t)input, 0};
    for (int round = 0; round < 3; round++) {
        uint64_t v = z[0];
        v ^= v >> 30;
        v *= 0xbf58476d1ce4e5b9u;
        v ^= v >> 27;
        v *= 0x94d049bb133111ebu;
        v ^= v >> 31;
        z[0] = round == 0 ? seed ^ v : round == 1 ? v + (position + 1) * 0x9e3779b97f4a7c15u : v;
    }
    return (double)(z[0] >> 11) / 9007199254740992.0;
}

static void keep_random(double *values, int32_t input, double density)
{
    for (size_t i = 0; i < N; i++) {
        double number = number_at(5, "blk.0.ffn_up.weight", input, i);
        values[i] = number < density ? values[i] / density : 0;
    }
}

static void keep_likely(double *values, int32_t input, double density, double epsilon)
{
    double before = 0;
    double after = 0;
    double kept[N];
    for (size_t i = 0; i < N; i++) {
        size_t rank = 0;
        for (size_t j = i / N_IN * N_IN; j < (i / N_IN + 1) * N_IN; j++) {
            rank += fabs(values[j]) < fabs(values[i]) ? 1 : 0;
        }
        double p = density - epsilon + (double)rank / (N_IN - 1) * 2 * epsilon;
        kept[i] = number_at(5, "blk.0.ffn_up.weight", input, i) < p ? values[i] : 0;
        before += fabs(values[i]);
        after += fabs(kept[i]);
    }
    for (size_t i = 0; i < N; i++) {
        values[i] = kept[i] * before / after;
    }
}

static void elect_formula(const struct fixture *f, bool is_total, double *out)
{
    for (size_t i = 0; i < N; i++) {
        double votes = 0;
        double sum = 0;
        int n = 0;
        for (int k = 0; k < N_ADAPTERS; k++) {
            double v = f->deltas[k][i];
            votes += is_total ? v : (double)((v > 0) - (v < 0));
        }
        for (int k = 0; k < N_ADAPTERS; k++) {
            double v = f->deltas[k][i];
            if (v != 0 && (v > 0) == (votes >= 0)) {
                sum += weights[k] * v;
                n++;
            }
        }
        out[i] = n > 0 ? sum / n : 0;
    }
}

static void test_ties(void **state)
{
    (void)state;
    static const double densities[] = {1, 0.35, 0.0001};
    for (int variant = 0; variant < 6; variant++) {
        struct fixture f;
        double expected[N];
        struct hs_merge_params params = test_params();
        params.method = HS_MERGE_TIES_SVD;
        params.majority_sign = variant % 2 == 0 ? HS_MERGE_SIGN_TOTAL : HS_MERGE_SIGN_FREQUENCY;
        params.density = densities[variant / 2];
        setup(&f, false, false);
        for (int k = 0; k < N_ADAPTERS; k++) {
            size_t n = (size_t)(params.density * N);
            keep_ranks(f.deltas[k], N - n, n);
        }
        elect_formula(&f, variant % 2 == 0, expected);
        expect_merged(&f, N_ADAPTERS, &params, expected, F32_NOISE);
        teardown(&f);
    }
}

static void test_prunes(void **state)
{
    (void)state;
    struct fixture f;
    double expected[N];
    struct hs_merge_params params = test_params();
    params.method = HS_MERGE_MAGNITUDE_PRUNE_SVD;
    params.density = 0.25;
    setup(&f, false, false);
    for (int k = 0; k < N_ADAPTERS; k++) {
        keep_ranks(f.deltas[k], N - N / 4, N / 4);
    }
    weighted_sum(&f, expected);
    expect_merged(&f, N_ADAPTERS, &params, expected, F32_NOISE);
    teardown(&f);

    params.method = HS_MERGE_BREADCRUMBS;
    params.gamma = 0.1; /* 86 of 864 values */
    setup(&f, false, false);
    for (int k = 0; k < N_ADAPTERS; k++) {
        keep_ranks(f.deltas[k], N - N / 4 - 86, N / 4);
    }
    weighted_sum(&f, expected);
    expect_merged(&f, N_ADAPTERS, &params, expected, F32_NOISE);
    teardown(&f);

    params.density = 0.95; /* there is no room to leave out a tenth: what is left out is the top */
    setup(&f, false, false);
    for (int k = 0; k < N_ADAPTERS; k++) {
        keep_ranks(f.deltas[k], 0, (size_t)(0.95 * N));
    }
    weighted_sum(&f, expected);
    expect_merged(&f, N_ADAPTERS, &params, expected, F32_NOISE);
    teardown(&f);
}

static void test_dare(void **state)
{
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        struct fixture f;
        double expected[N];
        struct hs_merge_params params = test_params();
        params.method = variant == 0 ? HS_MERGE_DARE_LINEAR_SVD : HS_MERGE_DARE_TIES_SVD;
        params.majority_sign = variant == 1 ? HS_MERGE_SIGN_TOTAL : HS_MERGE_SIGN_FREQUENCY;
        params.density = 0.6;
        params.seed = 5;
        setup(&f, false, false);
        for (int k = 0; k < N_ADAPTERS; k++) {
            keep_random(f.deltas[k], k, 0.6);
        }
        if (variant == 0) {
            weighted_sum(&f, expected);
        } else {
            elect_formula(&f, variant == 1, expected);
        }
        expect_merged(&f, N_ADAPTERS, &params, expected, F32_NOISE);
        teardown(&f);
    }
}

static void test_della(void **state)
{
    (void)state;
    struct fixture f;
    double expected[N];
    struct hs_merge_params params = test_params();
    params.method = HS_MERGE_DELLA;
    params.density = 0.6;
    params.epsilon = 0.2;
    params.seed = 5;
    setup(&f, false, false);
    for (int k = 0; k < N_ADAPTERS; k++) {
        keep_likely(f.deltas[k], k, 0.6, 0.2);
    }
    for (size_t i = 0; i < N; i++) {
        double votes = 0;
        double sum = 0;
        double divisor = 0;
        for (int k = 0; k < N_ADAPTERS; k++) {
            votes += weights[k] * f.deltas[k][i];
        }
        for (int k = 0; k < N_ADAPTERS; k++) {
            double v = weights[k] * f.deltas[k][i];
            if (v != 0 && (v > 0) == (votes >= 0)) {
                sum += v;
                divisor += weights[k];
            }
        }
        expected[i] = divisor != 0 ? sum / divisor : sum;
    }
    expect_merged(&f, N_ADAPTERS, &params, expected, F32_NOISE);
    teardown(&f);
}

static void test_slerp(void **state)
{
    (void)state;
    struct fixture f;
    double expected[N];
    setup(&f, false, false);
    double dot = 0;
    double squares[2] = {0};
    for (size_t i = 0; i < N; i++) {
        dot += weights[0] * f.deltas[0][i] * weights[1] * f.deltas[1][i];
        squares[0] += pow(weights[0] * f.deltas[0][i], 2);
        squares[1] += pow(weights[1] * f.deltas[1][i], 2);
    }
    double angle = acos(dot / sqrt(squares[0] * squares[1]));
    for (int step = 0; step <= 4; step++) {
        struct hs_merge_params params = test_params();
        params.method = HS_MERGE_SLERP;
        params.t = step / 4.0;
        for (size_t i = 0; i < N; i++) {
            expected[i] = (sin((1 - params.t) * angle) * weights[0] * f.deltas[0][i] +
                           sin(params.t * angle) * weights[1] * f.deltas[1][i]) /
                          sin(angle);
        }
        expect_merged(&f, 2, &params, expected, F32_NOISE);
    }
    /* the same direction: a straight line */
    f.inputs[1] = f.inputs[0];
    f.inputs[1].weight = 3;
    struct hs_merge_params params = test_params();
    params.method = HS_MERGE_SLERP;
    params.t = 0.25;
    for (size_t i = 0; i < N; i++) {
        expected[i] = (0.75 * weights[0] + 0.25 * 3) * f.deltas[0][i];
    }
    expect_merged(&f, 2, &params, expected, F32_NOISE);
    teardown(&f);
}

/* ---- ranks, mixtures, errors ---- */

/* The rank that is asked for, the error that is told, and nothing better than it: Eckart and Young
 * say that the error is what the smaller singular values hold. */
static void test_truncation(void **state)
{
    (void)state;
    struct fixture f;
    double sum[N];
    setup(&f, false, false);
    weighted_sum(&f, sum);
    double last = (double)INFINITY;
    for (int32_t rank = 1; rank <= 14; rank++) {
        struct hs_merge_params params = test_params();
        struct hs_merge_factors factors;
        params.rank = rank;
        hs_merge_plan *plan = test_plan(f.inputs, N_ADAPTERS, &params);
        assert_int_equal(hs_merge_factors(plan, 0, &factors, NULL), HS_OK);
        assert_int_equal(factors.target.rank, rank < 13 ? rank : 13);
        double *cut = test_delta(&factors.target, N);
        double square = 0;
        for (size_t i = 0; i < N; i++) {
            square += (cut[i] - sum[i]) * (cut[i] - sum[i]);
        }
        assert_true(fabs(sqrt(square) - factors.error) < 1e-5 * factors.norm);
        assert_true(rank <= 13 ? factors.error < last : factors.error == 0);
        last = factors.error;
        free(cut);
        hs_merge_factors_clear(&factors);
        hs_merge_plan_free(plan);
    }
    teardown(&f);
}

/* Targets that not all have, and sparse deltas, with the methods on deltas. */
static void test_mixed_targets(void **state)
{
    (void)state;
    const struct test_shape one[] = {{"x", 8, 12, 3, false, HS_LORA_F32},
                                     {"y", 6, 10, 0, false, HS_LORA_F16}};
    const struct test_shape two[] = {{"y", 6, 10, 2, false, HS_LORA_BF16},
                                     {"z", 4, 5, 2, true, HS_LORA_F32}};
    struct hs_lora *a = test_lora_new(one, 2, 2, 1);
    struct hs_lora *b = test_lora_new(two, 2, 0.5f, 2);
    struct hs_merge_input inputs[] = {{a, "a", 2}, {b, "b", -1}};
    struct hs_merge_params params = test_params();
    params.rank = 8;
    hs_merge_plan *plan = test_plan(inputs, 2, &params);
    assert_int_equal(hs_merge_plan_n_targets(plan), 3);
    static const char *const names[] = {"x", "y", "z"};
    static const size_t sizes[] = {96, 60, 20};
    const struct hs_lora_target *parts[3][2] = {
        {&a->targets[0], NULL}, {&a->targets[1], &b->targets[0]}, {NULL, &b->targets[1]}};
    for (int32_t i = 0; i < 3; i++) {
        assert_string_equal(hs_merge_plan_target(plan, i)->tensor, names[i]);
        assert_int_equal(hs_merge_plan_find(plan, names[i]), i);
        double *first = test_delta(parts[i][0], sizes[i]);
        double *second = test_delta(parts[i][1], sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++) {
            first[j] = 2 * first[j] - second[j];
        }
        double *merged = test_merged(plan, i);
        double *rows = test_merged_rows(plan, i);
        expect_near(merged, first, sizes[i], F32_NOISE);
        expect_near(rows, first, sizes[i], 1e-12);
        free(first);
        free(second);
        free(merged);
        free(rows);
    }
    assert_int_equal(hs_merge_plan_find(plan, "w"), -1);
    hs_merge_plan_free(plan);
    test_lora_free(a);
    test_lora_free(b);
}

static void test_not_finite(void **state)
{
    (void)state;
    struct fixture f;
    struct hs_error err;
    struct hs_merge_factors factors;
    setup(&f, true, false);
    static const int32_t methods[] = {HS_MERGE_SVD, HS_MERGE_TIES_SVD, HS_MERGE_CAT};
    for (size_t m = 0; m < 3; m++) {
        struct hs_merge_params params = test_params();
        params.method = methods[m];
        f.inputs[0].weight = 1e300;
        ((float *)(uintptr_t)f.loras[0]->targets[0].a.data)[3] = m < 2 ? INFINITY : 1;
        hs_merge_plan *plan = test_plan(f.inputs, 2, &params);
        assert_int_equal(hs_merge_factors(plan, 0, &factors, &err), HS_BAD_FORMAT);
        assert_non_null(strstr(err.message, "not finite"));
        hs_merge_plan_free(plan);
    }
    teardown(&f);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, true, true);
    for (int m = 0; m < HS_MERGE_COUNT; m++) {
        struct hs_merge_params params = test_params();
        params.method = m;
        for (int svd = HS_MERGE_SVD_EXACT; svd <= HS_MERGE_SVD_RANDOMISED; svd++) {
            params.svd = (enum hs_merge_svd)svd;
            hs_status status = HS_OUT_OF_MEMORY;
            for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
                hs_merge_plan *plan = NULL;
                struct hs_merge_factors factors;
                hs_mem_fail_after(n);
                status = hs_merge_plan_new(f.inputs, 2, &params, &plan, NULL);
                if (status == HS_OK) {
                    status = hs_merge_factors(plan, 0, &factors, NULL);
                }
                hs_mem_fail_after(0);
                if (status == HS_OK) {
                    hs_merge_factors_clear(&factors);
                }
                hs_merge_plan_free(plan);
                assert_true(n < 1000);
            }
            assert_int_equal(status, HS_OK);
        }
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),        cmocka_unit_test(test_cat_adds_ranks),
        cmocka_unit_test(test_linear),      cmocka_unit_test(test_one_adapter),
        cmocka_unit_test(test_weight_zero), cmocka_unit_test(test_ties),
        cmocka_unit_test(test_prunes),      cmocka_unit_test(test_dare),
        cmocka_unit_test(test_della),       cmocka_unit_test(test_slerp),
        cmocka_unit_test(test_truncation),  cmocka_unit_test(test_mixed_targets),
        cmocka_unit_test(test_not_finite),  cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
