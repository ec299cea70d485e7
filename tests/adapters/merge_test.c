/* merge_test.c - adapters for tests. */
#include "merge_test.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"

struct hs_merge_params test_params(void)
{
    struct hs_merge_params params;
    hs_merge_params_defaults(&params);
    return params;
}

static float next_value(uint32_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (float)(*state >> 8) * 0x1p-24f - 0.5f;
    }
    return sum;
}

static void *values_new(enum hs_lora_type type, int64_t n, uint32_t *state)
{
    char *data = calloc((size_t)n, hs_lora_type_size(type));
    assert_non_null(data);
    for (int64_t i = 0; i < n; i++) {
        float value = next_value(state);
        if (type == HS_LORA_F32) {
            ((float *)(void *)data)[i] = value;
        } else if (type == HS_LORA_I8) {
            ((int8_t *)data)[i] = (int8_t)lrintf(value * 60);
        } else {
            ((uint16_t *)(void *)data)[i] =
                type == HS_LORA_F16 ? hs_f16_from_f32(value) : hs_bf16_from_f32(value);
        }
    }
    return data;
}

static struct hs_lora_matrix matrix_new(enum hs_lora_type type, int64_t n_rows, int64_t n_cols,
                                        uint32_t *state)
{
    struct hs_lora_matrix matrix = {.type = type, .n_rows = n_rows, .n_cols = n_cols};
    matrix.data = values_new(type, n_rows * n_cols, state);
    if (type == HS_LORA_I8) {
        float *factors = calloc((size_t)n_rows, sizeof *factors);
        assert_non_null(factors);
        for (int64_t i = 0; i < n_rows; i++) {
            factors[i] = 0.01f + 0.001f * (float)(i % 7);
        }
        matrix.factors = factors;
    }
    return matrix;
}

/* Every other block of 2 x 2. */
static void sparse_new(struct hs_lora_target *target, enum hs_lora_type type, uint32_t *state)
{
    int64_t n_rows = target->n_out / 2;
    int64_t n_cols = target->n_in / 2;
    int64_t *row_start = calloc((size_t)n_rows + 1, sizeof *row_start);
    int32_t *block_column = calloc((size_t)(n_rows * n_cols), sizeof *block_column);
    int64_t n = 0;
    assert_true(row_start != NULL && block_column != NULL);
    for (int64_t row = 0; row < n_rows; row++) {
        for (int32_t col = (int32_t)(row % 2); col < n_cols; col += 2) {
            block_column[n++] = col;
        }
        row_start[row + 1] = n;
    }
    target->sparse = (struct hs_lora_sparse){.type = type,
                                             .block_rows = 2,
                                             .block_cols = 2,
                                             .n_blocks = n,
                                             .row_start = row_start,
                                             .block_column = block_column,
                                             .values = values_new(type, 4 * n, state)};
}

struct hs_lora *test_lora_new(const struct test_shape *shapes, int32_t n, float scale,
                              uint32_t seed)
{
    struct hs_lora *lora = calloc(1, sizeof *lora);
    struct hs_lora_target *targets = calloc((size_t)n + 1, sizeof *targets);
    assert_true(lora != NULL && targets != NULL);
    for (int32_t i = 0; i < n; i++) {
        const struct test_shape *shape = &shapes[i];
        struct hs_lora_target *target = &targets[i];
        strncpy(target->tensor, shape->tensor, sizeof target->tensor - 1);
        target->n_in = shape->n_in;
        target->n_out = shape->n_out;
        target->rank = shape->rank;
        target->scale = scale;
        target->is_embedding = shape->is_embedding;
        if (shape->rank == 0) {
            sparse_new(target, shape->type, &seed);
            continue;
        }
        target->a = shape->is_embedding ? matrix_new(shape->type, shape->n_in, shape->rank, &seed)
                                        : matrix_new(shape->type, shape->rank, shape->n_in, &seed);
        target->b = matrix_new(shape->type, shape->n_out, shape->rank, &seed);
    }
    lora->targets = targets;
    lora->n_targets = n;
    return lora;
}

static void free_const(const void *p)
{
    free((void *)(uintptr_t)p);
}

void test_lora_free(struct hs_lora *lora)
{
    for (int32_t i = 0; i < lora->n_targets; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        free_const(target->a.data);
        free_const(target->a.factors);
        free_const(target->b.data);
        free_const(target->b.factors);
        free_const(target->sparse.row_start);
        free_const(target->sparse.block_column);
        free_const(target->sparse.values);
    }
    free_const(lora->targets);
    free(lora);
}

/* f64[n_rows, n_cols] */
static double *matrix_values(const struct hs_lora_matrix *matrix)
{
    size_t n = (size_t)(matrix->n_rows * matrix->n_cols);
    double *values = calloc(n, sizeof *values);
    float *row = calloc((size_t)matrix->n_cols, sizeof *row);
    assert_true(values != NULL && row != NULL);
    for (int64_t i = 0; i < matrix->n_rows; i++) {
        hs_lora_matrix_row(matrix, i, row);
        for (int64_t j = 0; j < matrix->n_cols; j++) {
            values[i * matrix->n_cols + j] = (double)row[j];
        }
    }
    free(row);
    return values;
}

static void add_product(const struct hs_lora_target *target, double *values)
{
    double *a = matrix_values(&target->a);
    double *b = matrix_values(&target->b);
    int64_t rank = target->rank;
    int64_t n_in = target->n_in;
    for (int64_t i = 0; i < target->n_out * n_in; i++) {
        int64_t out = target->is_embedding ? i % target->n_out : i / n_in;
        int64_t in = target->is_embedding ? i / target->n_out : i % n_in;
        for (int64_t r = 0; r < rank; r++) {
            values[i] +=
                b[out * rank + r] * a[target->is_embedding ? in * rank + r : r * n_in + in];
        }
        values[i] *= (double)target->scale;
    }
    free(a);
    free(b);
}

static void add_blocks(const struct hs_lora_target *target, double *values)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    int64_t n_rows = sparse->block_rows, n_cols = sparse->block_cols;
    for (int64_t row = 0; row < target->n_out / n_rows; row++) {
        for (int64_t i = sparse->row_start[row]; i < sparse->row_start[row + 1]; i++) {
            for (int64_t j = 0; j < n_rows * n_cols; j++) {
                float value;
                hs_lora_values(sparse->type, sparse->values, n_rows * n_cols * i + j, 1, &value);
                int64_t col = n_cols * sparse->block_column[i] + j % n_cols;
                values[(n_rows * row + j / n_cols) * target->n_in + col] =
                    (double)target->scale * (double)value;
            }
        }
    }
}

double *test_delta(const struct hs_lora_target *target, size_t n)
{
    double *values = calloc(n, sizeof *values);
    assert_non_null(values);
    if (target != NULL && target->rank == 0) {
        add_blocks(target, values);
    } else if (target != NULL) {
        add_product(target, values);
    }
    return values;
}

double *test_merged(const hs_merge_plan *plan, int32_t i)
{
    struct hs_merge_factors factors;
    struct hs_error err = {0};
    hs_status status = hs_merge_factors(plan, i, &factors, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, HS_OK);
    assert_true(factors.target.scale == 1.0f && factors.target.rank >= 1);
    double *values =
        test_delta(&factors.target, (size_t)(factors.target.n_in * factors.target.n_out));
    hs_merge_factors_clear(&factors);
    return values;
}

double *test_merged_rows(const hs_merge_plan *plan, int32_t i)
{
    hs_merge_delta *delta = NULL;
    assert_int_equal(hs_merge_delta_new(plan, i, &delta, NULL), HS_OK);
    int64_t n_rows = hs_merge_delta_n_rows(delta);
    int64_t n_cols = hs_merge_delta_n_cols(delta);
    double *values = calloc((size_t)(n_rows * n_cols), sizeof *values);
    assert_non_null(values);
    for (int64_t row = 0, step = 1; row < n_rows; row += step, step++) {
        step = step < n_rows - row ? step : n_rows - row;
        assert_int_equal(hs_merge_delta_next(delta, step, values + row * n_cols, NULL), HS_OK);
    }
    hs_merge_delta_free(delta);
    return values;
}

hs_merge_plan *test_plan(const struct hs_merge_input *inputs, int32_t n,
                         const struct hs_merge_params *params)
{
    hs_merge_plan *plan = NULL;
    struct hs_error err = {0};
    hs_status status = hs_merge_plan_new(inputs, n, params, &plan, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, HS_OK);
    return plan;
}

void expect_near(const double *a, const double *b, size_t n, double tolerance)
{
    double largest = 0;
    double difference = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(b[i]));
        difference = fmax(difference, fabs(a[i] - b[i]));
    }
    if (!(difference <= tolerance * largest)) {
        print_error("largest difference %g of %g\n", difference, largest);
    }
    assert_true(difference <= tolerance * largest);
}
