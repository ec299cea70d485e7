/* merge_field.c - sums, elections of signs, and the arc between two matrices. */
#include "merge_field.h"

#include <math.h>
#include <string.h>

#include <cblas.h>

#include "base/error.h"
#include "base/mem.h"

#define ARC_PARALLEL 0.9995 /* cosine */
#define ARC_NORM_MIN 1e-8

static double sign_of(double value)
{
    return (double)((value > 0) - (value < 0));
}

/* Of ties: signs are elected by the values, weights come after. */
static double elect(const struct hs_merge_field *field, const double *first, int64_t stride)
{
    double votes = 0;
    for (int32_t k = 0; k < field->n; k++) {
        double value = first[k * stride];
        votes += field->majority_sign == HS_MERGE_SIGN_TOTAL ? value : sign_of(value);
    }
    double majority = votes >= 0 ? 1 : -1;
    double sum = 0;
    int32_t n_agree = 0;
    for (int32_t k = 0; k < field->n; k++) {
        double value = first[k * stride];
        if (sign_of(value) == majority) {
            sum += field->weights[k] * value;
            n_agree++;
        }
    }
    return n_agree > 1 ? sum / n_agree : sum;
}

/* Of della: signs are elected by the weighted values, and the weights divide the sum. */
static double elect_weighted(const struct hs_merge_field *field, const double *first,
                             int64_t stride)
{
    double votes = 0;
    for (int32_t k = 0; k < field->n; k++) {
        votes += field->weights[k] * first[k * stride];
    }
    double majority = votes >= 0 ? 1 : -1;
    double sum = 0;
    double divisor = 0;
    for (int32_t k = 0; k < field->n; k++) {
        double value = field->weights[k] * first[k * stride];
        if (sign_of(value) == majority) {
            sum += value;
            divisor += field->weights[k];
        }
    }
    return divisor != 0 ? sum / divisor : sum;
}

static double weighted_sum(const struct hs_merge_field *field, const double *first, int64_t stride)
{
    double sum = 0;
    for (int32_t k = 0; k < field->n; k++) {
        sum += field->weights[k] * first[k * stride];
    }
    return sum;
}

/* n rows, at most a block */
static void next_block(struct hs_merge_field *field, int64_t n, double *values)
{
    int64_t stride = field->block_rows * field->n_cols;
    for (int32_t k = 0; k < field->n; k++) {
        double *block = field->blocks + k * stride;
        hs_merge_operand_rows(&field->operands[k], field->row, n, block);
        hs_merge_keeper_next(&field->keepers[k], block, n, field->n_cols);
    }
    for (int64_t i = 0; i < n * field->n_cols; i++) {
        if (field->combine == ELECT) {
            values[i] = elect(field, field->blocks + i, stride);
        } else if (field->combine == ELECT_WEIGHTED) {
            values[i] = elect_weighted(field, field->blocks + i, stride);
        } else {
            values[i] = weighted_sum(field, field->blocks + i, stride);
        }
    }
    field->row += n;
}

hs_status hs_merge_field_next(struct hs_merge_field *field, int64_t n, double *values,
                              struct hs_error *err)
{
    if (field->blocks == NULL) {
        field->block_rows = hs_merge_operand_block_rows(&field->operands[0]);
        field->blocks = hs_calloc((size_t)(field->n * field->block_rows * field->n_cols),
                                  sizeof *field->blocks);
        if (field->blocks == NULL) {
            return hs_error_nomem(err, "rows of adapters");
        }
    }
    while (n > 0) {
        int64_t n_block = n < field->block_rows ? n : field->block_rows;
        next_block(field, n_block, values);
        values += n_block * field->n_cols;
        n -= n_block;
    }
    return HS_OK;
}

void hs_merge_field_clear(struct hs_merge_field *field)
{
    for (int32_t k = 0; k < field->n; k++) {
        hs_merge_operand_clear(&field->operands[k]);
        hs_merge_keeper_clear(&field->keepers[k]);
    }
    field->n = 0;
    hs_freep(&field->blocks);
}

hs_status hs_merge_arc(const struct hs_merge_operand *operands, const double *weights, double t,
                       double *ret_weights, struct hs_error *err)
{
    int64_t n_cols = operands[0].n_cols;
    HS_CLEANUP(hs_freep) double *rows = hs_calloc((size_t)n_cols, 2 * sizeof *rows);
    if (rows == NULL) {
        return hs_error_nomem(err, "rows of adapters");
    }
    double dot = 0;
    double squares[2] = {0, 0};
    for (int64_t row = 0; row < operands[0].n_rows; row++) {
        hs_merge_operand_rows(&operands[0], row, 1, rows);
        hs_merge_operand_rows(&operands[1], row, 1, rows + n_cols);
        dot += cblas_ddot((int)n_cols, rows, 1, rows + n_cols, 1);
        squares[0] += cblas_ddot((int)n_cols, rows, 1, rows, 1);
        squares[1] += cblas_ddot((int)n_cols, rows + n_cols, 1, rows + n_cols, 1);
    }
    dot *= weights[0] * weights[1];
    for (int32_t k = 0; k < 2; k++) {
        double norm = fabs(weights[k]) * sqrt(squares[k]);
        dot /= norm > ARC_NORM_MIN ? norm : 1;
    }
    double angle = acos(fmin(1, fmax(-1, dot)));
    bool is_line = fabs(dot) > ARC_PARALLEL;
    ret_weights[0] = weights[0] * (is_line ? 1 - t : sin((1 - t) * angle) / sin(angle));
    ret_weights[1] = weights[1] * (is_line ? t : sin(t * angle) / sin(angle));
    return HS_OK;
}
