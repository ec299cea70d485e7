/* Tests of merge_keep.h: exact counts, ties, matrices larger than the table, probabilities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "merge_keep.h"
#include "merge_test.h"

/* values is given row by row, one row at a time, as merging does; the result replaces it. */
static void keep(enum hs_merge_keep how, const struct hs_merge_params *params, double *values,
                 int64_t n_rows, int64_t n_cols, uint64_t stream)
{
    struct hs_merge_operand operand = {.n_rows = n_rows, .n_cols = n_cols};
    struct hs_merge_keeper keeper;
    operand.left = malloc((size_t)(n_rows * n_cols) * sizeof(double));
    assert_non_null(operand.left);
    memcpy(operand.left, values, (size_t)(n_rows * n_cols) * sizeof(double));
    assert_int_equal(hs_merge_keeper_init(&keeper, how, params, &operand, stream, NULL), HS_OK);
    for (int64_t row = 0; row < n_rows; row++) {
        hs_merge_keeper_next(&keeper, values + row * n_cols, 1, n_cols);
    }
    hs_merge_keeper_clear(&keeper);
    free(operand.left);
}

static void test_ties_by_position(void **state)
{
    (void)state;
    /* in order: 0, then the ones by position, then the twos by position, then 3 */
    static const double input[] = {1, -2, 1, 2, -1, 0, 2, 3};
    static const double largest[][8] = {{0, 0, 0, 0, 0, 0, 0, 3},   {0, 0, 0, 0, 0, 0, 2, 3},
                                        {0, 0, 0, 2, 0, 0, 2, 3},   {0, -2, 0, 2, 0, 0, 2, 3},
                                        {0, -2, 0, 2, -1, 0, 2, 3}, {0, -2, 1, 2, -1, 0, 2, 3}};
    for (int n = 1; n <= 6; n++) {
        struct hs_merge_params params = test_params();
        double values[8];
        params.density = n / 8.0;
        memcpy(values, input, sizeof values);
        keep(KEEP_LARGEST, &params, values, 2, 4, 0);
        assert_memory_equal(values, largest[n - 1], sizeof values);
    }
    /* two of the middle when two of the top go: the 2 at 3 is out, the ones at 4 and -2 stay */
    static const double middle[] = {0, -2, 0, 0, -1, 0, 0, 0};
    struct hs_merge_params params = {.density = 0.25, .gamma = 0.375};
    double values[8];
    memcpy(values, input, sizeof values);
    keep(KEEP_MIDDLE, &params, values, 4, 2, 0);
    assert_memory_equal(values, middle, sizeof values);
    /* all of one magnitude: positions alone decide */
    static const double ones[] = {1, -1, 1, -1, 1, -1, 1, -1};
    static const double some[] = {0, 0, 0, -1, 1, 0, 0, 0};
    memcpy(values, ones, sizeof values);
    keep(KEEP_MIDDLE, &params, values, 8, 1, 0);
    assert_memory_equal(values, some, sizeof values);
}

static void test_none_and_all(void **state)
{
    (void)state;
    struct hs_merge_params params = {.density = 0.05};
    double values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    double nothing[8] = {0};
    double copy[8];
    memcpy(copy, values, sizeof copy);
    params.density = 1;
    for (int how = KEEP_ALL; how <= KEEP_LIKELY; how++) {
        keep((enum hs_merge_keep)how, &params, values, 2, 4, 9);
        assert_memory_equal(values, copy, sizeof values);
    }
    params.density = 0.05; /* less than one value */
    keep(KEEP_LARGEST, &params, values, 2, 4, 0);
    assert_memory_equal(values, nothing, sizeof values);
}

/* 200,000 values that are a permutation of 1..n, so that ranks are known; the table holds 65,536.
 */
static void test_larger_than_the_table(void **state)
{
    (void)state;
    enum { N = 200000, COLS = 400 };
    double *values = malloc(N * sizeof *values);
    assert_non_null(values);
    static const double scales[] = {1, 1e-300, 0x1p-1074};
    for (int s = 0; s < 3; s++) {
        for (int64_t i = 0; i < N; i++) {
            double rank = (double)(i * 77773 % N + 1); /* 77773 is prime to N */
            values[i] = (i % 2 == 0 ? rank : -rank) * scales[s];
        }
        struct hs_merge_params params = {.density = 0.3, .gamma = 0.1};
        keep(KEEP_MIDDLE, &params, values, N / COLS, COLS, 0);
        for (int64_t i = 0; i < N; i++) {
            int64_t rank = i * 77773 % N + 1;
            bool is_kept = rank > 120000 && rank <= 180000;
            assert_true((values[i] != 0) == is_kept);
        }
    }
    /* more equal values than the table has room for */
    for (int64_t i = 0; i < N; i++) {
        values[i] = i < 1000 ? 2 : 1;
    }
    struct hs_merge_params params = {.density = 0.5};
    keep(KEEP_LARGEST, &params, values, N / COLS, COLS, 0);
    for (int64_t i = 0; i < N; i++) {
        assert_true((values[i] != 0) == (i < 1000 || i >= N - 99000));
    }
    free(values);
}

/* Shares within five standard deviations of what they should be. */
static void test_random_share(void **state)
{
    (void)state;
    enum { N = 100000, COLS = 100 };
    double *values = malloc(N * sizeof *values);
    assert_non_null(values);
    static const double densities[] = {0.1, 0.5, 0.9};
    for (int d = 0; d < 3; d++) {
        struct hs_merge_params params = {.density = densities[d]};
        int64_t n_kept = 0;
        for (int64_t i = 0; i < N; i++) {
            values[i] = 1;
        }
        keep(KEEP_RANDOM, &params, values, N / COLS, COLS, hs_merge_stream(1, "t", 0, d));
        for (int64_t i = 0; i < N; i++) {
            n_kept += values[i] != 0 ? 1 : 0;
            assert_true(values[i] == 0 || values[i] == 1 / densities[d]);
        }
        double p = densities[d];
        assert_true(fabs((double)n_kept - p * N) < 5 * sqrt(p * (1 - p) * N));
    }
    /* by rank in the row: the smallest with 0.3, the largest with 0.7 */
    struct hs_merge_params params = {.density = 0.5, .epsilon = 0.2};
    for (int64_t i = 0; i < N; i++) {
        values[i] = (double)(i % COLS + 1);
    }
    keep(KEEP_LIKELY, &params, values, N / COLS, COLS, 4);
    for (int64_t col = 0; col < COLS; col++) {
        double p = 0.3 + 0.4 * (double)col / (COLS - 1);
        double n_kept = 0;
        for (int64_t row = 0; row < N / COLS; row++) {
            n_kept += values[row * COLS + col] != 0 ? 1 : 0;
        }
        assert_true(fabs(n_kept - p * 1000) < 5 * sqrt(p * (1 - p) * 1000));
    }
    free(values);
}

static void test_streams_differ(void **state)
{
    (void)state;
    uint64_t all[] = {hs_merge_stream(1, "a", 0, 0), hs_merge_stream(2, "a", 0, 0),
                      hs_merge_stream(1, "b", 0, 0), hs_merge_stream(1, "a", 1, 0),
                      hs_merge_stream(1, "a", 0, 1)};
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = i + 1; j < 5; j++) {
            assert_true(all[i] != all[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ties_by_position),      cmocka_unit_test(test_none_and_all),
        cmocka_unit_test(test_larger_than_the_table), cmocka_unit_test(test_random_share),
        cmocka_unit_test(test_streams_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
