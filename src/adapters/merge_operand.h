/*
 * merge_operand.h - a matrix that takes part in a merge: a factor of an adapter, or what an adapter
 * adds to one matrix of the model, made row by row from its factors or its sparse blocks.
 *
 * A delta is in the order of its GGUF tensor: [n_out, n_in], of an embedding [n_in, n_out].
 *
 * Owner:   clear frees the copies of the factors; sparse blocks are borrowed.
 * Threads: constant once made.
 */
#ifndef MERGE_OPERAND_H
#define MERGE_OPERAND_H

#include "base/lora.h"
#include "hyprstream.h"

struct hs_merge_operand {
    int64_t n_rows, n_cols;
    int32_t rank;  /* 0: no product */
    double scale;  /* of a delta */
    double *left;  /* f64[n_rows, rank], without a product f64[n_rows, n_cols]; NULL: sparse */
    double *right; /* f64[rank, n_cols] */
    const struct hs_lora_sparse *sparse;
};

/* Rows that are handled at once: of about so many values. */
#define HS_MERGE_BLOCK_VALUES 65536

HS_CHECKED hs_status hs_merge_operand_matrix(const struct hs_lora_matrix *matrix,
                                             struct hs_merge_operand *ret_operand,
                                             struct hs_error *err);
HS_CHECKED hs_status hs_merge_operand_delta(const struct hs_lora_target *target,
                                            struct hs_merge_operand *ret_operand,
                                            struct hs_error *err);
void hs_merge_operand_clear(struct hs_merge_operand *operand);

/* Out: values f64[n, n_cols], rows first to first + n. */
void hs_merge_operand_rows(const struct hs_merge_operand *operand, int64_t first, int64_t n,
                           double *values);
int64_t hs_merge_operand_block_rows(const struct hs_merge_operand *operand);
/* All rows in order, block by block. scratch: f64[block_rows, n_cols]. */
void hs_merge_operand_scan(const struct hs_merge_operand *operand, double *scratch,
                           void (*visit)(const double *values, int64_t n_rows, int64_t n_cols,
                                         void *user),
                           void *user);

#endif
