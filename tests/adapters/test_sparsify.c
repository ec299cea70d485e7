/* Tests of adapters/sparsify.h against the whole delta, computed by three loops, and all its blocks
 * in order of their norms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "adapters/lora_check.h"
#include "adapters/sparsify.h"
#include "base/error.h"
#include "base/mem.h"
#include "merge_test.h"

#define N_OUT 48
#define N_IN 20
#define N_VALUES ((size_t)N_OUT * N_IN)

static const struct test_shape shape = {"blk.0.attn_q.weight", N_OUT, N_IN, 5, false, HS_LORA_F32};

static hs_merge_plan *plan_of(const struct hs_lora *lora)
{
    const struct hs_merge_input input = {lora, "a", 1.0};
    struct hs_merge_params params = test_params();
    params.method = HS_MERGE_TASK_ARITHMETIC;
    params.rank = 1; /* of factors, which nobody asks for */
    return test_plan(&input, 1, &params);
}

static struct hs_lora_target sparsify(const hs_merge_plan *plan,
                                      const struct hs_sparsify_params *params,
                                      struct hs_sparsify_report *report)
{
    struct hs_error err;
    struct hs_lora_target target = {0};
    hs_error_clear(&err);
    if (hs_sparsify(plan, 0, params, &target, report, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(hs_lora_check(&(struct hs_lora){&target, 1}, NULL, NULL), HS_OK);
    return target;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

/* Squares of the norms of all blocks, the largest first. */
static double *block_energies(const double *delta, const struct hs_sparsify_params *params,
                              size_t *ret_n)
{
    size_t rows = (size_t)params->block_rows, cols = (size_t)params->block_cols;
    *ret_n = N_VALUES / (rows * cols);
    double *energies = calloc(*ret_n, sizeof *energies);
    assert_non_null(energies);
    for (size_t i = 0; i < N_VALUES; i++) {
        energies[i / N_IN / rows * (N_IN / cols) + i % N_IN / cols] += delta[i] * delta[i];
    }
    qsort(energies, *ret_n, sizeof *energies, descending);
    return energies;
}

static double norm(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += values[i] * values[i];
    }
    return sqrt(sum);
}

/* Sparsify the adapter and compare with the n_wanted largest blocks of its delta. */
static void check(const struct hs_lora *lora, const struct hs_sparsify_params *params,
                  size_t n_wanted, double rounding)
{
    hs_merge_plan *plan = plan_of(lora);
    struct hs_sparsify_report report;
    struct hs_lora_target target = sparsify(plan, params, &report);
    double *whole = test_delta(&lora->targets[0], N_VALUES), *kept = test_delta(&target, N_VALUES);
    size_t n_blocks;
    double *energies = block_energies(whole, params, &n_blocks);
    assert_int_equal(report.n_blocks, n_blocks);
    assert_int_equal(report.n_kept, n_wanted);
    assert_int_equal(target.sparse.n_blocks, n_wanted);

    double missing[N_VALUES], lost = 0;
    for (size_t i = 0; i < N_VALUES; i++) {
        missing[i] = whole[i] - kept[i];
        assert_true(kept[i] == 0 || fabs(missing[i]) <= fabs(whole[i]) * rounding + 1e-7);
    }
    for (size_t i = n_wanted; i < n_blocks; i++) {
        lost += energies[i];
    }
    double whole_norm = norm(whole, N_VALUES), error = norm(missing, N_VALUES);
    assert_true(fabs(report.norm - whole_norm) <= 1e-6 * whole_norm);
    assert_true(fabs(report.error - error) <= 1e-5 * whole_norm);
    assert_true(fabs(error - sqrt(lost)) <= (rounding + 1e-5) * whole_norm); /* no better choice */
    free(whole);
    free(kept);
    free(energies);
    hs_sparsify_clear(&target);
    hs_merge_plan_free(plan);
}

static void test_density(void **state)
{
    (void)state;
    static const int32_t sides[][2] = {{16, 1}, {1, 1}, {4, 4}, {48, 20}, {3, 5}};
    static const double densities[] = {1e-9, 0.1, 0.37, 0.5, 1};
    struct hs_lora *lora = test_lora_new(&shape, 1, 0.5f, 1);
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        for (size_t k = 0; k < sizeof densities / sizeof densities[0]; k++) {
            struct hs_sparsify_params params = {sides[i][0], sides[i][1], densities[k], 0,
                                                HS_LORA_F32};
            double n_blocks = (double)N_VALUES / (sides[i][0] * sides[i][1]);
            check(lora, &params, (size_t)ceil(densities[k] * n_blocks), 0x1p-23);
        }
    }
    test_lora_free(lora);
}

static void test_types(void **state)
{
    (void)state;
    struct hs_lora *lora = test_lora_new(&shape, 1, 0.5f, 2);
    struct hs_sparsify_params params = HS_SPARSIFY_PARAMS_DEFAULT;
    params.density = 0.25;
    check(lora, &params, 15, 0x1p-11);
    params.type = HS_LORA_BF16;
    check(lora, &params, 15, 0x1p-8);
    test_lora_free(lora);
}

/* The fewest of the largest blocks that leave no more than the error out. */
static void test_error(void **state)
{
    (void)state;
    static const double errors[] = {0, 0.01, 0.3, 0.9, 0.999};
    struct hs_lora *lora = test_lora_new(&shape, 1, 2, 3);
    double *whole = test_delta(&lora->targets[0], N_VALUES);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct hs_sparsify_params params = {16, 1, 0, errors[i], HS_LORA_F32};
        size_t n_blocks, n = 0;
        double *energies = block_energies(whole, &params, &n_blocks), lost = 0;
        for (size_t b = 0; b < n_blocks; b++) {
            lost += energies[b];
        }
        for (double total = lost; n < n_blocks && lost > errors[i] * errors[i] * total * 1.000001;
             n++) {
            lost -= energies[n];
        }
        free(energies);
        check(lora, &params, n, 0x1p-23);
    }
    free(whole);
    test_lora_free(lora);
}

/* Zeros are never kept; of equal blocks as many as are wanted, the first ones. */
static void test_zeros_and_ties(void **state)
{
    (void)state;
    float a[N_IN] = {1, -1, 0, 1, 1}, b[N_OUT];
    for (int i = 0; i < N_OUT; i++) {
        b[i] = i < 32 ? 1 : 0;
    }
    struct hs_lora_target dense = {
        .tensor = "blk.0.attn_q.weight",
        .n_in = N_IN,
        .n_out = N_OUT,
        .rank = 1,
        .scale = 1,
        .a = {HS_LORA_F32, 1, N_IN, a, NULL},
        .b = {HS_LORA_F32, N_OUT, 1, b, NULL},
    };
    const struct hs_lora lora = {&dense, 1};
    struct hs_sparsify_params params = {16, 1, 1, 0, HS_LORA_F32};
    check(&lora, &params, 8, 0);
    params.density = 5.0 / 60;
    check(&lora, &params, 5, 0);
    hs_merge_plan *plan = plan_of(&lora);
    struct hs_sparsify_report report;
    struct hs_lora_target target = sparsify(plan, &params, &report);
    assert_memory_equal(target.sparse.block_column, ((const int32_t[]){0, 1, 3, 4, 0}), 20);
    assert_memory_equal(target.sparse.row_start, ((const int64_t[]){0, 4, 5, 5}), 32);
    assert_int_equal(report.n_bytes, 5 * 16 * 4 + 5 * 4 + 4 * 8);
    hs_sparsify_clear(&target);
    hs_merge_plan_free(plan);

    memset(a, 0, sizeof a);
    check(&lora, &params, 0, 0);
}

/* A sparse delta is made sparser; all its blocks with density 1 are the same delta. */
static void test_of_a_sparse_delta(void **state)
{
    (void)state;
    struct test_shape sparse = shape;
    sparse.rank = 0;
    struct hs_lora *lora = test_lora_new(&sparse, 1, 0.5f, 4);
    struct hs_sparsify_params params = {2, 2, 0, 0, HS_LORA_F32};
    check(lora, &params, (size_t)lora->targets[0].sparse.n_blocks, 0x1p-23);
    params.density = 0.1;
    check(lora, &params, 24, 0x1p-23);
    test_lora_free(lora);
}

static void refuse(const hs_merge_plan *plan, struct hs_sparsify_params params, hs_status wanted,
                   const char *what)
{
    struct hs_error err;
    struct hs_lora_target target = {0};
    struct hs_sparsify_report report;
    hs_error_clear(&err);
    hs_status status = hs_sparsify(plan, 0, &params, &target, &report, &err);
    if (status != wanted || strstr(err.message, what) == NULL || err.hint[0] == '\0' ||
        target.sparse.values != NULL) {
        fail_msg("status %d '%s' instead of %d '%s'", status, err.message, wanted, what);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct hs_lora *lora = test_lora_new(&shape, 1, 1e6f, 5);
    hs_merge_plan *plan = plan_of(lora);
    const struct hs_sparsify_params good = HS_SPARSIFY_PARAMS_DEFAULT;
    struct hs_sparsify_params p = good;
    static const int32_t sides[] = {0, -1, HS_SPARSIFY_BLOCK_MAX + 1};
    for (int i = 0; i < 3; i++) {
        p.block_rows = sides[i];
        refuse(plan, p, HS_INVALID_ARGUMENT, "1 to 256");
        p = good;
        p.block_cols = sides[i];
        refuse(plan, p, HS_INVALID_ARGUMENT, "1 to 256");
        p = good;
    }
    p.block_rows = HS_SPARSIFY_BLOCK_MAX;
    refuse(plan, p, HS_INVALID_ARGUMENT, "cannot be cut into blocks of 256 x 1");
    static const double wrong[] = {-0.1, 1.0001, NAN};
    for (int i = 0; i < 3; i++) {
        p = good;
        p.density = wrong[i];
        refuse(plan, p, HS_INVALID_ARGUMENT, "density");
        p = good;
        p.max_error = i == 1 ? 1 : wrong[i];
        refuse(plan, p, HS_INVALID_ARGUMENT, "max_error");
    }
    p = good;
    p.type = HS_LORA_I8;
    refuse(plan, p, HS_INVALID_ARGUMENT, "type");
    refuse(plan, good, HS_LIMIT, "too large for 16 bits");
    hs_merge_plan_free(plan);
    test_lora_free(lora);

    struct test_shape embedding = shape;
    embedding.is_embedding = true;
    lora = test_lora_new(&embedding, 1, 1, 6);
    plan = plan_of(lora);
    refuse(plan, good, HS_NOT_SUPPORTED, "embeddings");
    hs_merge_plan_free(plan);
    test_lora_free(lora);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    struct hs_lora *lora = test_lora_new(&shape, 1, 1, 7);
    hs_merge_plan *plan = plan_of(lora);
    const struct hs_sparsify_params params = HS_SPARSIFY_PARAMS_DEFAULT;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        struct hs_lora_target target = {0};
        struct hs_sparsify_report report;
        assert_in_range(nth, 1, 100);
        hs_mem_fail_after(nth);
        status = hs_sparsify(plan, 0, &params, &target, &report, NULL);
        hs_mem_fail_after(0);
        assert_int_equal(status, target.sparse.values == NULL ? HS_OUT_OF_MEMORY : HS_OK);
        hs_sparsify_clear(&target);
    }
    hs_merge_plan_free(plan);
    test_lora_free(lora);
}

/* ---- whole adapters ---- */

static const struct test_shape shapes[] = {
    {"blk.0.attn_q.weight", 32, 8, 2, false, HS_LORA_F32},
    {"blk.0.attn_v.weight", 16, 8, 3, false, HS_LORA_F16},
    {"blk.1.attn_q.weight", 32, 8, 2, false, HS_LORA_F32},
};

struct steps {
    int n, n_max;
    float last;
};

static bool count_step(float fraction, void *user)
{
    struct steps *steps = user;
    assert_true(fraction >= steps->last && fraction < 1);
    steps->last = fraction;
    return ++steps->n <= steps->n_max;
}

static void test_whole_adapter(void **state)
{
    (void)state;
    struct hs_lora *lora = test_lora_new(shapes, 3, 1, 8);
    hs_merge_plan *plan = plan_of(lora);
    struct hs_sparsify_params params = HS_SPARSIFY_PARAMS_DEFAULT;
    params.density = 0.25;
    struct hs_sparse_adapter *adapter = NULL;
    struct steps steps = {0, 3, 0};
    assert_int_equal(hs_sparse_application(plan, &params, count_step, &steps, &adapter, NULL),
                     HS_OK);
    assert_int_equal(steps.n, 3);
    assert_int_equal(adapter->lora.n_targets, 3);
    assert_int_equal(hs_lora_check(&adapter->lora, NULL, NULL), HS_OK);
    assert_int_equal(adapter->total.n_blocks, 16 + 8 + 16);
    assert_int_equal(adapter->total.n_kept, 4 + 2 + 4);
    double norms = 0, errors = 0;
    uint64_t n_bytes = 0;
    for (int i = 0; i < 3; i++) {
        const struct hs_lora_target *dense = &lora->targets[i];
        assert_string_equal(adapter->lora.targets[i].tensor, dense->tensor);
        size_t n = (size_t)(dense->n_in * dense->n_out);
        double *whole = test_delta(dense, n), *kept = test_delta(&adapter->lora.targets[i], n);
        for (size_t k = 0; k < n; k++) {
            norms += whole[k] * whole[k];
            errors += (whole[k] - kept[k]) * (whole[k] - kept[k]);
        }
        n_bytes += adapter->reports[i].n_bytes;
        free(whole);
        free(kept);
    }
    assert_true(fabs(adapter->total.norm - sqrt(norms)) <= 1e-6 * sqrt(norms));
    assert_true(fabs(adapter->total.error - sqrt(errors)) <= 1e-5 * sqrt(norms));
    assert_int_equal(adapter->total.n_bytes, n_bytes);
    hs_sparse_adapter_free(adapter);
    hs_sparse_adapter_free(NULL);

    struct hs_error err;
    steps = (struct steps){0, 1, 0};
    assert_int_equal(hs_sparse_application(plan, &params, count_step, &steps, &adapter, &err),
                     HS_CANCELLED);
    assert_int_equal(steps.n, 2);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_in_range(nth, 1, 500);
        adapter = NULL;
        hs_mem_fail_after(nth);
        status = hs_sparse_application(plan, &params, NULL, NULL, &adapter, NULL);
        hs_mem_fail_after(0);
        assert_int_equal(status, adapter == NULL ? HS_OUT_OF_MEMORY : HS_OK);
    }
    hs_sparse_adapter_free(adapter);
    hs_merge_plan_free(plan);
    test_lora_free(lora);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_density),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_zeros_and_ties),
        cmocka_unit_test(test_of_a_sparse_delta),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_allocations_fail),
        cmocka_unit_test(test_whole_adapter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
