/* Tests of merge_svd.h: matrices with singular values that are known by construction. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "merge_svd.h"
#include "merge_test.h"

/* u_j(i): the cosine basis (DCT-II), orthonormal in n dimensions. */
static double cosine(int64_t i, int64_t j, int64_t n)
{
    double scale = j == 0 ? sqrt(1.0 / (double)n) : sqrt(2.0 / (double)n);
    return scale * cos(M_PI * ((double)i + 0.5) * (double)j / (double)n);
}

/* The sum over j in [from, to) of values[j] u_j v_j^T. */
static void fill(double *matrix, int64_t m, int64_t n, const double *values, int from, int to)
{
    memset(matrix, 0, (size_t)(m * n) * sizeof *matrix);
    for (int64_t i = 0; i < m * n; i++) {
        for (int j = from; j < to; j++) {
            matrix[i] += values[j] * cosine(i / n, j, m) * cosine(i % n, j, n);
        }
    }
}

static void multiply(const struct hs_merge_product *product, double *matrix)
{
    for (int64_t i = 0; i < product->n_rows * product->n_cols; i++) {
        matrix[i] = 0;
        for (int32_t r = 0; r < product->rank; r++) {
            matrix[i] += product->left[i / product->n_cols * product->rank + r] *
                         product->right[r * product->n_cols + i % product->n_cols];
        }
    }
}

static double tail_norm(const double *values, int from, int to)
{
    double square = 0;
    for (int j = from; j < to; j++) {
        square += values[j] * values[j];
    }
    return sqrt(square);
}

static void expect_product(struct hs_merge_product *product, const double *values, int n_values,
                           int64_t m, int64_t n, int32_t rank)
{
    double *expected = calloc((size_t)(m * n), sizeof *expected);
    double *got = calloc((size_t)(m * n), sizeof *got);
    assert_true(expected != NULL && got != NULL);
    assert_int_equal(product->rank, rank);
    fill(expected, m, n, values, 0, rank < n_values ? rank : n_values);
    multiply(product, got);
    expect_near(got, expected, (size_t)(m * n), 1e-8);
    double norm = tail_norm(values, 0, n_values);
    assert_true(fabs(product->norm - norm) < 1e-10 * norm);
    assert_true(fabs(product->error - tail_norm(values, rank, n_values)) < 1e-7 * norm);
    free(expected);
    free(got);
    hs_freep(&product->left);
    hs_freep(&product->right);
}

#define N_VALUES 12
static const double values[N_VALUES] = {9, 8, 5, 3, 2, 1, .5, .2, .1, .05, .02, .01};
static const int64_t shapes[][2] = {{40, 60}, {60, 40}, {12, 12}, {12, 90}, {90, 12}};

static void test_full(void **state)
{
    (void)state;
    static double matrix[60 * 60];
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t m = shapes[s][0];
        int64_t n = shapes[s][1];
        fill(matrix, m, n, values, 0, N_VALUES);
        for (int32_t rank = 1; rank <= N_VALUES; rank++) {
            struct hs_merge_product product;
            assert_int_equal(hs_merge_svd_exact(matrix, m, n, rank, &product, NULL), HS_OK);
            expect_product(&product, values, N_VALUES, m, n, rank);
            assert_int_equal(hs_merge_svd_randomised(matrix, m, n, rank, 3, &product, NULL), HS_OK);
            expect_product(&product, values, N_VALUES, m, n, rank);
        }
    }
}

static void test_rank_beyond_sides(void **state)
{
    (void)state;
    static double matrix[12 * 90];
    struct hs_merge_product product;
    fill(matrix, 12, 90, values, 0, N_VALUES);
    assert_int_equal(hs_merge_svd_exact(matrix, 12, 90, 50, &product, NULL), HS_OK);
    expect_product(&product, values, N_VALUES, 12, 90, 12);
    assert_int_equal(hs_merge_svd_randomised(matrix, 12, 90, 50, 3, &product, NULL), HS_OK);
    expect_product(&product, values, N_VALUES, 12, 90, 12);
}

/* A slowly falling spectrum, the hard case: near the best, and the error is true. */
static void test_randomised_error(void **state)
{
    (void)state;
    enum { M = 90, N = 120, RANK = 8 };
    static double matrix[M * N];
    static double got[M * N];
    double slow[M];
    for (int j = 0; j < M; j++) {
        slow[j] = 1 / sqrt(1.0 + j);
    }
    fill(matrix, M, N, slow, 0, M);
    struct hs_merge_product product;
    assert_int_equal(hs_merge_svd_randomised(matrix, M, N, RANK, 1, &product, NULL), HS_OK);
    multiply(&product, got);
    double square = 0;
    for (int i = 0; i < M * N; i++) {
        square += (matrix[i] - got[i]) * (matrix[i] - got[i]);
    }
    assert_true(fabs(product.error - sqrt(square)) < 1e-8 * product.norm);
    double best = tail_norm(slow, RANK, M);
    assert_true(product.error >= best * (1 - 1e-12) && product.error < 1.02 * best);
    hs_freep(&product.left);
    hs_freep(&product.right);
}

static void test_product(void **state)
{
    (void)state;
    static double left[60 * N_VALUES];
    static double right[N_VALUES * 60];
    for (int64_t rank = 1; rank <= N_VALUES + 2; rank++) {
        for (int64_t i = 0; i < 60; i++) {
            for (int j = 0; j < N_VALUES; j++) {
                left[i * N_VALUES + j] = 10 * cosine(i, j, 60);
                right[j * 40 + i % 40] = values[j] / 10 * cosine(i % 40, j, 40);
            }
        }
        struct hs_merge_product product;
        assert_int_equal(
            hs_merge_svd_product(left, right, 60, 40, N_VALUES, (int32_t)rank, &product, NULL),
            HS_OK);
        expect_product(&product, values, N_VALUES, 60, 40,
                       (int32_t)(rank < N_VALUES ? rank : N_VALUES));
    }
}

/* Columns that depend on each other, and nothing at all. */
static void test_product_of_low_rank(void **state)
{
    (void)state;
    double left[20 * 4];
    double right[4 * 30];
    for (int64_t i = 0; i < 20; i++) {
        for (int j = 0; j < 4; j++) {
            left[i * 4 + j] = cosine(i, 0, 20) * (j + 1);
        }
    }
    for (int64_t i = 0; i < 120; i++) {
        right[i] = cosine(i % 30, 2, 30);
    }
    struct hs_merge_product product;
    assert_int_equal(hs_merge_svd_product(left, right, 20, 30, 4, 4, &product, NULL), HS_OK);
    assert_int_equal(product.rank, 1);
    assert_true(fabs(product.norm - 10) < 1e-12 && product.error < 1e-13);
    hs_freep(&product.left);
    hs_freep(&product.right);
    memset(left, 0, sizeof left);
    assert_int_equal(hs_merge_svd_product(left, right, 20, 30, 4, 4, &product, NULL), HS_OK);
    assert_true(product.rank == 1 && product.norm == 0 && product.left[0] == 0);
    hs_freep(&product.left);
    hs_freep(&product.right);
}

static void test_failures(void **state)
{
    (void)state;
    static double matrix[40 * 60];
    struct hs_merge_product product;
    fill(matrix, 40, 60, values, 0, N_VALUES);
    for (int way = 0; way < 3; way++) {
        hs_status status = HS_OUT_OF_MEMORY;
        for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
            hs_mem_fail_after(n);
            status = way == 0 ? hs_merge_svd_exact(matrix, 40, 60, 3, &product, NULL)
                     : way == 1
                         ? hs_merge_svd_randomised(matrix, 40, 60, 3, 1, &product, NULL)
                         : hs_merge_svd_product(matrix, matrix, 40, 60, 6, 3, &product, NULL);
            hs_mem_fail_after(0);
        }
        assert_int_equal(status, HS_OK);
        hs_freep(&product.left);
        hs_freep(&product.right);
    }
    matrix[77] = (double)NAN;
    assert_int_equal(hs_merge_svd_exact(matrix, 40, 60, 3, &product, NULL), HS_BAD_FORMAT);
    assert_int_equal(hs_merge_svd_randomised(matrix, 40, 60, 3, 1, &product, NULL), HS_BAD_FORMAT);
    assert_int_equal(hs_merge_svd_product(matrix, matrix, 40, 60, 6, 3, &product, NULL),
                     HS_BAD_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_rank_beyond_sides),
        cmocka_unit_test(test_randomised_error),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_product_of_low_rank),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
