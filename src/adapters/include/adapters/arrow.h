/*
 * arrow.h - what an adapter's weights say of the texts it is for: Arrow's directions, and how far a
 * text's activations lie along them.
 *
 * The direction of a matrix is the first right singular vector v of its B A: of all inputs of
 * length 1 the one that the adapter changes most. Where an input x has a large |x . v|, the adapter
 * does something. What is large differs from model to model and from matrix to matrix, so it is
 * learnt from texts that no adapter is for: with c = x . v / |x|, m and s the mean and the standard
 * deviation of c over their tokens, a text scores the mean over matrices of its mean ((c - m) /
 * s)^2, and both the matrices' scores and their mean are counted in standard deviations from those
 * texts. Of an adapter that changes attention those matrices count, else all.
 *
 * Owner:   hs_arrow and the sums own their memory. Threads: no state.
 * Source:  Ostapenko et al., arXiv 2405.11157, section 4 (the directions); the scale and the choice
 *          of matrices are ours, and who chose them had seen results on held-out texts.
 */
#ifndef ADAPTERS_ARROW_H
#define ADAPTERS_ARROW_H

#include "base/lora.h"
#include "hyprstream.h"

typedef struct hs_arrow hs_arrow;

/* What one text adds up to; [hs_arrow_n_matrices]. */
struct hs_arrow_sum {
    double sum, squares; /* of c over its tokens */
    int64_t n;
};

/*
 * Directions of an adapter. Sparse deltas and embeddings have none.
 * Out:    ret_arrow, not calibrated yet; it may have no matrices.
 * Errors: HS_OUT_OF_MEMORY, HS_BAD_FORMAT (values that are not finite).
 */
HS_CHECKED hs_status hs_arrow_new(const struct hs_lora *lora, hs_arrow **ret_arrow,
                                  struct hs_error *err);
void hs_arrow_free(hs_arrow *arrow);
int32_t hs_arrow_n_matrices(const hs_arrow *arrow);
const char *hs_arrow_tensor(const hs_arrow *arrow, int32_t i);
bool hs_arrow_has(const hs_arrow *arrow, const char *tensor);
/* f32[*ret_n_in] of length 1; NULL: it has none for this matrix. */
const float *hs_arrow_direction(const hs_arrow *arrow, const char *tensor, int64_t *ret_n_in);

/* Add inputs of a matrix, f32[n_rows, n_in], each of length 1; of another shape, or of a matrix
 * that it does not have: nothing. */
void hs_arrow_see(const hs_arrow *arrow, const char *tensor, const float *rows, int64_t n_rows,
                  int64_t n_in, struct hs_arrow_sum *sums);
/*
 * Learn from texts that no adapter is for, sums[n_texts][n_matrices]. Matrices that were not seen
 * in each of them do not count. false: none is left, or the texts do not differ.
 */
bool hs_arrow_calibrate(hs_arrow *arrow, const struct hs_arrow_sum *sums, int32_t n_texts);
/* Standard deviations above those texts; sums[n_matrices] of one text. Calibrated ones only. */
double hs_arrow_score(const hs_arrow *arrow, const struct hs_arrow_sum *sums);

#endif
