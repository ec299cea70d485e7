/* lora_test.c - see lora_test.h. */
#include "lora_test.h"

#include <math.h>

#include "base/half.h"
#include "base/mem.h"

#define FILLER 12345.0f

static uint64_t series = 1;

void lora_test_seed(uint64_t seed)
{
    series = seed * 0x9e3779b97f4a7c15u + 1;
}

uint32_t lora_test_random(uint32_t n)
{
    series = series * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(series >> 33) % n;
}

float lora_test_value(void)
{
    return (float)lora_test_random(1u << 20) / (float)(1u << 19) - 1.0f;
}

static void *random_values(enum hs_lora_type type, int64_t n)
{
    char *values = malloc((size_t)n * hs_lora_type_size(type) + 1);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++) {
        switch (type) {
        case HS_LORA_F32:
            ((float *)values)[i] = lora_test_value();
            break;
        case HS_LORA_F16:
            ((uint16_t *)values)[i] = hs_f16_from_f32(lora_test_value());
            break;
        case HS_LORA_BF16:
            ((uint16_t *)values)[i] = hs_bf16_from_f32(lora_test_value());
            break;
        case HS_LORA_I8:
            ((int8_t *)values)[i] = (int8_t)((int)lora_test_random(255) - 127);
            break;
        }
    }
    return values;
}

static struct hs_lora_matrix random_matrix(enum hs_lora_type type, int64_t n_rows, int64_t n_cols)
{
    struct hs_lora_matrix matrix = {type, n_rows, n_cols, random_values(type, n_rows * n_cols),
                                    NULL};
    if (type == HS_LORA_I8) {
        matrix.factors = random_values(HS_LORA_F32, n_rows);
    }
    return matrix;
}

struct hs_lora_target lora_test_target(int64_t n_in, int64_t n_out, int32_t rank,
                                       enum hs_lora_type a_type, enum hs_lora_type b_type)
{
    return (struct hs_lora_target){
        .tensor = "blk.0.ffn_up.weight",
        .n_in = n_in,
        .n_out = n_out,
        .rank = rank,
        .scale = 0.75f,
        .a = random_matrix(a_type, rank, n_in),
        .b = random_matrix(b_type, n_out, rank),
    };
}

struct hs_lora_target lora_test_sparse(int64_t n_in, int64_t n_out, int32_t block_rows,
                                       int32_t block_cols, enum hs_lora_type type, double density)
{
    int64_t n_rows = n_out / block_rows, n_cols = n_in / block_cols, n = 0;
    int64_t *start = calloc((size_t)n_rows + 1, sizeof *start);
    int32_t *columns = malloc((size_t)(n_rows * n_cols) * sizeof *columns + 1);
    assert_true(start != NULL && columns != NULL);
    for (int64_t row = 0; row < n_rows; row++) {
        for (int32_t column = 0; column < n_cols; column++) {
            if (lora_test_random(10000) < density * 10000) {
                columns[n++] = column;
            }
        }
        start[row + 1] = n;
    }
    return (struct hs_lora_target){
        .tensor = "blk.0.ffn_up.weight",
        .n_in = n_in,
        .n_out = n_out,
        .scale = -1.25f,
        .sparse = {type, block_rows, block_cols, n, start, columns,
                   random_values(type, n * block_rows * block_cols)},
    };
}

void lora_test_target_free(struct hs_lora_target *target)
{
    const struct hs_lora_matrix *matrices[] = {&target->a, &target->b};
    for (size_t i = 0; i < COUNT_OF(matrices); i++) {
        free((void *)matrices[i]->data);
        free((void *)matrices[i]->factors);
    }
    free((void *)target->sparse.row_start);
    free((void *)target->sparse.block_column);
    free((void *)target->sparse.values);
}

/* n_rows rows of n values with `more` floats between them, none behind the last. */
static float *random_rows(int32_t n_rows, int64_t n, size_t more)
{
    size_t n_floats = (size_t)n_rows * ((size_t)n + more) - more;
    float *rows = malloc(n_floats * sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < n_floats; i++) {
        rows[i] = i % ((size_t)n + more) < (size_t)n ? lora_test_value() : FILLER;
    }
    return rows;
}

struct lora_test_batch lora_test_batch(int32_t n_rows, int64_t n_in, int64_t n_out,
                                       size_t stride_more)
{
    return (struct lora_test_batch){
        .n_rows = n_rows,
        .n_in = n_in,
        .n_out = n_out,
        .x_stride = (size_t)n_in + stride_more,
        .y_stride = (size_t)n_out + stride_more,
        .x = random_rows(n_rows, n_in, stride_more),
        .y = random_rows(n_rows, n_out, stride_more),
    };
}

void lora_test_group(struct lora_test_batch *batch, struct hs_lora_target target, int32_t n_rows,
                     enum hs_adapter_weights keep)
{
    assert_true(batch->n_groups < LORA_TEST_GROUPS_MAX && n_rows <= batch->n_rows);
    batch->targets[batch->n_groups] = target;
    struct hs_lora_group *group = &batch->groups[batch->n_groups++];
    struct hs_lora_packed *weights = NULL;
    assert_int_equal(hs_lora_packed_new(&target, keep, &weights, NULL), HS_OK);
    int32_t *rows = malloc((size_t)batch->n_rows * sizeof *rows);
    float *scales = malloc((size_t)batch->n_rows * sizeof *scales);
    size_t n_ax = (size_t)n_rows * (size_t)hs_lora_packed_scratch(weights);
    float *ax = malloc(n_ax * sizeof *ax + 1);
    assert_true(rows != NULL && scales != NULL && ax != NULL);
    for (int32_t i = 0; i < batch->n_rows; i++) {
        rows[i] = i;
        scales[i] = lora_test_value() * 2;
    }
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t other = i + (int32_t)lora_test_random((uint32_t)(batch->n_rows - i));
        int32_t row = rows[i];
        rows[i] = rows[other];
        rows[other] = row;
    }
    for (size_t i = 0; i < n_ax; i++) {
        ax[i] = NAN; /* whatever was in the scratch memory must not matter */
    }
    *group = (struct hs_lora_group){weights, rows, scales, n_rows, ax};
}

static double stored(const struct hs_lora_matrix *matrix, int64_t row, int64_t column)
{
    float value;
    hs_lora_values(matrix->type, matrix->data, row * matrix->n_cols + column, 1, &value);
    return matrix->factors == NULL ? (double)value : (double)value * (double)matrix->factors[row];
}

static double gamma_of(double n)
{
    return n * 0x1p-24 / (1 - n * 0x1p-24);
}

/* One value of y with what one group adds: the sum, the sum of magnitudes, and the error that comes
 * from ax. */
struct expected {
    double value, magnitude, carried, n_terms;
};

static void add_low_rank(const struct hs_lora_target *target, const float *x, double scale,
                         int64_t column, struct expected *y)
{
    for (int64_t k = 0; k < target->rank; k++) {
        double ax = 0, magnitude = 0, b = stored(&target->b, column, k);
        for (int64_t i = 0; i < target->n_in; i++) {
            double product = stored(&target->a, k, i) * (double)x[i] * scale;
            ax += product;
            magnitude += fabs(product);
        }
        double error = gamma_of((double)target->n_in + 4) * magnitude;
        y->value += ax * b;
        y->magnitude += (fabs(ax) + error) * fabs(b);
        y->carried += error * fabs(b);
    }
    y->n_terms += target->rank + 2;
}

static void add_sparse(const struct hs_lora_target *target, const float *x, double scale,
                       int64_t column, struct expected *y)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    int64_t block_row = column / sparse->block_rows, row = column % sparse->block_rows;
    for (int64_t i = sparse->row_start[block_row]; i < sparse->row_start[block_row + 1]; i++) {
        for (int64_t c = 0; c < sparse->block_cols; c++) {
            float value;
            hs_lora_values(sparse->type, sparse->values,
                           (i * sparse->block_rows + row) * sparse->block_cols + c, 1, &value);
            double product =
                (double)value * (double)x[sparse->block_column[i] * sparse->block_cols + c] * scale;
            y->value += product;
            y->magnitude += fabs(product);
            y->n_terms++;
        }
    }
    y->n_terms += 4;
}

/* What y must become, in the order of its rows. */
static struct expected *expect(const struct lora_test_batch *batch)
{
    size_t n = (size_t)batch->n_rows * (size_t)batch->n_out;
    struct expected *all = calloc(n, sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < n; i++) {
        size_t row = i / (size_t)batch->n_out, column = i % (size_t)batch->n_out;
        all[i].value = (double)batch->y[row * batch->y_stride + column];
        all[i].magnitude = fabs(all[i].value);
    }
    for (int32_t g = 0; g < batch->n_groups; g++) {
        const struct hs_lora_target *target = &batch->targets[g];
        for (int32_t r = 0; r < batch->groups[g].n_rows; r++) {
            int32_t row = batch->groups[g].rows[r];
            double scale = (double)batch->groups[g].scales[r] * (double)target->scale;
            const float *x = batch->x + (size_t)row * batch->x_stride;
            for (int64_t column = 0; column < batch->n_out; column++) {
                (target->rank > 0 ? add_low_rank : add_sparse)(
                    target, x, scale, column, &all[(int64_t)row * batch->n_out + column]);
            }
        }
    }
    return all;
}

void lora_test_check(struct lora_test_batch *batch, const struct hs_lora_kernels *kernels, int nth)
{
    struct expected *all = expect(batch);
    for (int ith = nth - 1; ith >= 0; ith--) {
        kernels->shrink(batch->groups, batch->n_groups, batch->x, batch->x_stride, ith, nth);
    }
    for (int ith = 0; ith < nth; ith++) {
        kernels->expand(batch->groups, batch->n_groups, batch->x, batch->x_stride, batch->y,
                        batch->y_stride, ith, nth);
    }
    size_t n_floats = ((size_t)batch->n_rows - 1) * batch->y_stride + (size_t)batch->n_out;
    for (size_t i = 0; i < n_floats; i++) {
        size_t row = i / batch->y_stride, column = i % batch->y_stride;
        if (column >= (size_t)batch->n_out) {
            assert_true(batch->y[i] == FILLER);
            continue;
        }
        struct expected *y = &all[row * (size_t)batch->n_out + column];
        double bound = y->carried + gamma_of(y->n_terms + 1) * (y->magnitude + y->carried);
        if (!(fabs((double)batch->y[i] - y->value) <= bound)) {
            fail_msg("%s, %d threads, row %zu, column %zu: %.9g instead of %.9g, bound %.3g",
                     kernels->name, nth, row, column, (double)batch->y[i], y->value, bound);
        }
    }
    free(all);
}

void lora_test_batch_free(struct lora_test_batch *batch)
{
    for (int32_t g = 0; g < batch->n_groups; g++) {
        lora_test_target_free(&batch->targets[g]);
        hs_lora_packed_free((struct hs_lora_packed *)batch->groups[g].weights);
        free((void *)batch->groups[g].rows);
        free((void *)batch->groups[g].scales);
        free(batch->groups[g].ax);
    }
    free(batch->x);
    free(batch->y);
}
