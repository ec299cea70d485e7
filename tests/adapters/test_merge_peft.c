/*
 * Tests of merging against PEFT and mergekit: ../data/merge_cases.bin, which
 * ../references/merge_adapters.py writes. Little-endian:
 *
 *   "HSMERGE1", u32 n_sets, each: u32 n_adapters, each: u32 n_targets, each:
 *     char tensor[64], u32 n_out, n_in, rank, is_embedding, is_f16, f32 scale, then A and B in the
 *     order of base/lora.h
 *   u32 n_cases, each: u32 set, char method[64], u32 n, u32 adapters[n], f64 weights[n], f64
 *     density, gamma, epsilon, t, u32 majority_sign, rank, u64 seed, u32 n_targets, each:
 *     char tensor[64], u32 n_rows, n_cols, is_projected, f32 the delta in the order of its GGUF
 *     tensor, or its products with three vectors
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "merge_test.h"

#define TOLERANCE 1e-5
#define SETS_MAX 4
#define ADAPTERS_MAX 4
#define TARGETS_MAX 4
#define N_PROJECTIONS 3

struct adapter {
    struct hs_lora lora;
    struct hs_lora_target targets[TARGETS_MAX];
};

static struct hs_buf file = HS_BUF_INIT(4 << 20);
static size_t at;
static struct adapter sets[SETS_MAX][ADAPTERS_MAX];

static const void *take(size_t n)
{
    assert_true(n <= file.len - at);
    at += n;
    return file.data + at - n;
}

static uint32_t take_u32(void)
{
    uint32_t value;
    memcpy(&value, take(4), 4);
    return value;
}

static double take_f64(void)
{
    double value;
    memcpy(&value, take(8), 8);
    return value;
}

/* A copy, since the numbers in the file are not aligned. */
static void *take_copy(size_t n)
{
    void *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, take(n), n);
    return copy;
}

static void read_target(struct hs_lora_target *target)
{
    memcpy(target->tensor, take(64), 64);
    target->n_out = take_u32();
    target->n_in = take_u32();
    target->rank = (int32_t)take_u32();
    target->is_embedding = take_u32() != 0;
    enum hs_lora_type type = take_u32() != 0 ? HS_LORA_F16 : HS_LORA_F32;
    size_t size = hs_lora_type_size(type) * (size_t)target->rank;
    memcpy(&target->scale, take(4), 4);
    target->a = (struct hs_lora_matrix){
        .type = type,
        .n_rows = target->is_embedding ? target->n_in : target->rank,
        .n_cols = target->is_embedding ? target->rank : target->n_in,
        .data = take_copy(size * (size_t)target->n_in),
    };
    target->b = (struct hs_lora_matrix){
        .type = type,
        .n_rows = target->n_out,
        .n_cols = target->rank,
        .data = take_copy(size * (size_t)target->n_out),
    };
}

static void read_sets(void)
{
    uint32_t n_sets = take_u32();
    assert_true(n_sets <= SETS_MAX);
    for (uint32_t s = 0; s < n_sets; s++) {
        uint32_t n_adapters = take_u32();
        assert_true(n_adapters <= ADAPTERS_MAX);
        for (uint32_t k = 0; k < n_adapters; k++) {
            struct adapter *adapter = &sets[s][k];
            adapter->lora.targets = adapter->targets;
            adapter->lora.n_targets = (int32_t)take_u32();
            assert_true(adapter->lora.n_targets <= TARGETS_MAX);
            for (int32_t i = 0; i < adapter->lora.n_targets; i++) {
                read_target(&adapter->targets[i]);
            }
        }
    }
}

/* f64[n_rows, N_PROJECTIONS]: the delta times vectors that the script makes alike. */
static double *project(const double *delta, uint32_t n_rows, uint32_t n_cols)
{
    double *out = calloc((size_t)n_rows * N_PROJECTIONS, sizeof *out);
    assert_non_null(out);
    uint32_t state = 1;
    for (uint32_t p = 0; p < N_PROJECTIONS; p++) {
        for (uint32_t col = 0; col < n_cols; col++) {
            state = state * 1664525u + 1013904223u;
            double x = (double)(state >> 8) * 0x1p-23 - 1;
            for (uint32_t row = 0; row < n_rows; row++) {
                out[row * N_PROJECTIONS + p] += x * delta[row * n_cols + col];
            }
        }
    }
    return out;
}

static void expect_target(const hs_merge_plan *plan)
{
    char tensor[64];
    memcpy(tensor, take(64), 64);
    uint32_t n_rows = take_u32();
    uint32_t n_cols = take_u32();
    bool is_projected = take_u32() != 0;
    int32_t i = hs_merge_plan_find(plan, tensor);
    assert_true(i >= 0);
    double *merged = test_merged(plan, i);
    size_t n = (size_t)n_rows * (is_projected ? N_PROJECTIONS : n_cols);
    if (is_projected) {
        double *projected = project(merged, n_rows, n_cols);
        free(merged);
        merged = projected;
    }
    double *expected = calloc(n, sizeof *expected);
    assert_non_null(expected);
    for (size_t j = 0; j < n; j++) {
        float value;
        memcpy(&value, take(4), 4);
        expected[j] = (double)value;
    }
    expect_near(merged, expected, n, TOLERANCE);
    free(expected);
    free(merged);
}

static void expect_case(void)
{
    struct hs_merge_input inputs[ADAPTERS_MAX];
    struct hs_merge_params params = test_params();
    uint32_t set = take_u32();
    const char *method = take(64);
    uint32_t n = take_u32();
    assert_true(set < SETS_MAX && n <= ADAPTERS_MAX);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t adapter = take_u32();
        assert_true(adapter < ADAPTERS_MAX);
        inputs[k] = (struct hs_merge_input){&sets[set][adapter].lora, "adapter", 0};
    }
    for (uint32_t k = 0; k < n; k++) {
        inputs[k].weight = take_f64();
    }
    params.method = hs_merge_method_find(method);
    params.density = take_f64();
    params.gamma = take_f64();
    params.epsilon = take_f64();
    params.t = take_f64();
    params.majority_sign = take_u32() != 0 ? HS_MERGE_SIGN_FREQUENCY : HS_MERGE_SIGN_TOTAL;
    params.rank = (int32_t)take_u32();
    memcpy(&params.seed, take(8), 8);
    print_message("%s of %u in set %u\n", method, n, set);
    hs_merge_plan *plan = test_plan(inputs, (int32_t)n, &params);
    uint32_t n_targets = take_u32();
    assert_int_equal(n_targets, hs_merge_plan_n_targets(plan));
    for (uint32_t i = 0; i < n_targets; i++) {
        expect_target(plan);
    }
    hs_merge_plan_free(plan);
}

static void test_cases(void **state)
{
    (void)state;
    assert_int_equal(hs_fs_read(HS_TEST_DATA "/merge_cases.bin", &file, NULL), HS_OK);
    assert_memory_equal(take(8), "HSMERGE1", 8);
    read_sets();
    uint32_t n_cases = take_u32();
    assert_true(n_cases >= 80);
    for (uint32_t i = 0; i < n_cases; i++) {
        expect_case();
    }
    assert_int_equal(at, file.len);
    for (size_t i = 0; i < (size_t)SETS_MAX * ADAPTERS_MAX; i++) {
        struct adapter *adapter = &sets[i / ADAPTERS_MAX][i % ADAPTERS_MAX];
        for (int32_t j = 0; j < adapter->lora.n_targets; j++) {
            free((void *)(uintptr_t)adapter->targets[j].a.data);
            free((void *)(uintptr_t)adapter->targets[j].b.data);
        }
    }
    hs_buf_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
