/* merge_operand.c - matrices of adapters as rows of doubles. */
#include "merge_operand.h"

#include <string.h>

#include <cblas.h>

#include "base/error.h"
#include "base/mem.h"

/* *ret_values: f64[n_rows, n_cols], transposed f64[n_cols, n_rows]. */
static hs_status copy_matrix(const struct hs_lora_matrix *matrix, bool is_transposed,
                             double **ret_values, struct hs_error *err)
{
    int64_t n_rows = matrix->n_rows;
    int64_t n_cols = matrix->n_cols;
    double *values = hs_calloc((size_t)(n_rows * n_cols), sizeof *values);
    HS_CLEANUP(hs_freep) float *source = hs_calloc((size_t)n_cols, sizeof *source);
    if (values == NULL || source == NULL) {
        hs_free(values);
        return hs_error_nomem(err, "the factors of an adapter");
    }
    for (int64_t row = 0; row < n_rows; row++) {
        hs_lora_matrix_row(matrix, row, source);
        for (int64_t col = 0; col < n_cols; col++) {
            values[is_transposed ? col * n_rows + row : row * n_cols + col] = (double)source[col];
        }
    }
    *ret_values = values;
    return HS_OK;
}

hs_status hs_merge_operand_matrix(const struct hs_lora_matrix *matrix,
                                  struct hs_merge_operand *ret_operand, struct hs_error *err)
{
    *ret_operand = (struct hs_merge_operand){.n_rows = matrix->n_rows, .n_cols = matrix->n_cols};
    return copy_matrix(matrix, false, &ret_operand->left, err);
}

hs_status hs_merge_operand_delta(const struct hs_lora_target *target,
                                 struct hs_merge_operand *ret_operand, struct hs_error *err)
{
    bool is_embedding = target->is_embedding;
    *ret_operand = (struct hs_merge_operand){
        .n_rows = is_embedding ? target->n_in : target->n_out,
        .n_cols = is_embedding ? target->n_out : target->n_in,
        .rank = target->rank,
        .scale = (double)target->scale,
    };
    if (target->rank == 0) {
        ret_operand->sparse = &target->sparse;
        return HS_OK;
    }
    hs_status status =
        copy_matrix(is_embedding ? &target->a : &target->b, false, &ret_operand->left, err);
    if (status == HS_OK) {
        status = copy_matrix(is_embedding ? &target->b : &target->a, is_embedding,
                             &ret_operand->right, err);
    }
    if (status != HS_OK) {
        hs_merge_operand_clear(ret_operand);
    }
    return status;
}

void hs_merge_operand_clear(struct hs_merge_operand *operand)
{
    hs_freep(&operand->left);
    hs_freep(&operand->right);
}

static void sparse_rows(const struct hs_merge_operand *operand, int64_t first, int64_t n,
                        double *values)
{
    const struct hs_lora_sparse *sparse = operand->sparse;
    int64_t n_cols = operand->n_cols;
    memset(values, 0, (size_t)(n * n_cols) * sizeof *values);
    for (int64_t row = first; row < first + n; row++) {
        double *out = values + (row - first) * n_cols;
        int64_t block_row = row / sparse->block_rows;
        int64_t inside = row % sparse->block_rows;
        for (int64_t i = sparse->row_start[block_row]; i < sparse->row_start[block_row + 1]; i++) {
            int64_t from = (i * sparse->block_rows + inside) * sparse->block_cols;
            int64_t to = (int64_t)sparse->block_column[i] * sparse->block_cols;
            for (int64_t col = 0; col < sparse->block_cols; col++) {
                float value;
                hs_lora_values(sparse->type, sparse->values, from + col, 1, &value);
                out[to + col] = operand->scale * (double)value;
            }
        }
    }
}

void hs_merge_operand_rows(const struct hs_merge_operand *operand, int64_t first, int64_t n,
                           double *values)
{
    if (operand->sparse != NULL) {
        sparse_rows(operand, first, n, values);
    } else if (operand->rank == 0) {
        memcpy(values, operand->left + first * operand->n_cols,
               (size_t)(n * operand->n_cols) * sizeof *values);
    } else {
        int n_cols = (int)operand->n_cols;
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, n_cols, operand->rank,
                    operand->scale, operand->left + first * operand->rank, operand->rank,
                    operand->right, n_cols, 0, values, n_cols);
    }
}

int64_t hs_merge_operand_block_rows(const struct hs_merge_operand *operand)
{
    int64_t n = HS_MERGE_BLOCK_VALUES / operand->n_cols;
    n = n < 1 ? 1 : n;
    return n < operand->n_rows ? n : operand->n_rows;
}

void hs_merge_operand_scan(const struct hs_merge_operand *operand, double *scratch,
                           void (*visit)(const double *values, int64_t n_rows, int64_t n_cols,
                                         void *user),
                           void *user)
{
    int64_t block = hs_merge_operand_block_rows(operand);
    for (int64_t row = 0; row < operand->n_rows; row += block) {
        int64_t n = operand->n_rows - row < block ? operand->n_rows - row : block;
        hs_merge_operand_rows(operand, row, n, scratch);
        visit(scratch, n, operand->n_cols, user);
    }
}
