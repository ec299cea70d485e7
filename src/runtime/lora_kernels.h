/*
 * lora_kernels.h - adapters applied to the rows of a batch: y[row] += scale * x[row] A^T B^T, for
 * many adapters in one call.
 *
 * Two steps with a barrier between them, each run by nth threads: thread ith of nth calls with the
 * same arguments. A row may stand in several groups, and in a group once.
 *
 *   hs_lora_shrink  ax = scale * x A^T. Threads own ranks and rows of ax
 *   hs_lora_expand  y += ax B^T, or a sparse delta's product. Threads own columns of y
 *
 * All groups of one call belong to the same matrix of the base: n_in and n_out are equal.
 *
 * Threads: no state, no locks, no allocation.
 * Source:  the two steps are those of Punica, arXiv 2310.18547, and S-LoRA, arXiv 2311.03285.
 */
#ifndef RUNTIME_LORA_KERNELS_H
#define RUNTIME_LORA_KERNELS_H

#include <stddef.h>

#include "lora_pack.h"

/* The rows of a batch that use the same weights. */
struct hs_lora_group {
    const struct hs_lora_packed *weights;
    const int32_t *rows; /* [n_rows], of x and y */
    const float *scales; /* [n_rows], times the weights' own */
    int32_t n_rows;
    float *ax; /* scratch, f32[n_rows, hs_lora_packed_scratch(weights)] */
};

/* One set of kernels. Strides are in floats, at least n_in and n_out. */
struct hs_lora_kernels {
    const char *name; /* "avx512", "avx2", "neon", "portable" */
    void (*shrink)(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                   size_t x_stride, int ith, int nth);
    void (*expand)(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                   size_t x_stride, float *y, size_t y_stride, int ith, int nth);
};

/* The sets that this CPU runs, the fastest first, the portable one last; NULL after it. */
const struct hs_lora_kernels *hs_lora_kernels_at(size_t i);
extern const struct hs_lora_kernels hs_lora_kernels_avx512, hs_lora_kernels_avx2,
    hs_lora_kernels_neon, hs_lora_kernels_portable;

/* Those of the fastest set. */
void hs_lora_shrink(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                    size_t x_stride, int ith, int nth);
/* In place of shrink for is_embedding: tokens[row], below n_in, is the word of a row. */
void hs_lora_lookup(const struct hs_lora_group *groups, int32_t n_groups, const int32_t *tokens,
                    int ith, int nth);
/* x is only read for sparse deltas. */
void hs_lora_expand(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                    size_t x_stride, float *y, size_t y_stride, int ith, int nth);

#endif
