/*
 * sparsify.h - sparse_application: a delta keeps only its largest blocks, and is applied by sparse
 * kernels in the same batch beside dense ones.
 *
 * Blocks are chosen by their Frobenius norm, target by target: the delta with `density` of its
 * blocks that is nearest to the whole one, or the smallest one within `max_error` of it. What is
 * kept has the values of the whole delta. The delta is whatever merge.h computes: of one adapter,
 * of several, of full-rank ones; it is made twice, row by row, and is never in memory as a whole.
 *
 * Errors:  HS_INVALID_ARGUMENT (a parameter out of its range, blocks that do not divide the
 *          matrix), HS_NOT_SUPPORTED (embeddings, whose rows are looked up), HS_LIMIT (values too
 *          large for f16), those of hs_merge_delta_next, HS_OUT_OF_MEMORY.
 * Owner:   the caller frees a target made here with hs_sparsify_clear.
 * Threads: no state.
 */
#ifndef ADAPTERS_SPARSIFY_H
#define ADAPTERS_SPARSIFY_H

#include "adapters/merge.h"

#define HS_SPARSIFY_BLOCK_MAX 256 /* a side of a block */

struct hs_sparsify_params {
    int32_t block_rows, block_cols; /* 16 x 1 suits the kernels best; 1 x 1: single values */
    double density;                 /* (0, 1]; 0: by max_error */
    double max_error;               /* [0, 1), relative to the delta's norm, of each target */
    enum hs_lora_type type;         /* of the values kept: F32, F16 or BF16 */
};
#define HS_SPARSIFY_PARAMS_DEFAULT                                                                 \
    {                                                                                              \
        .block_rows = 16, .block_cols = 1, .density = 0.1, .type = HS_LORA_F16                     \
    }

/* What it cost. */
struct hs_sparsify_report {
    int64_t n_blocks, n_kept; /* zero blocks are never kept */
    double norm;              /* Frobenius norm of the whole delta */
    double error;             /* norm of what is missing, the rounding of values included */
    uint64_t n_bytes;         /* of the sparse delta */
};

/* Out: ret_target, sparse with scale 1; the target of the plan may end as one without blocks. */
HS_CHECKED hs_status hs_sparsify(const hs_merge_plan *plan, int32_t i,
                                 const struct hs_sparsify_params *params,
                                 struct hs_lora_target *ret_target,
                                 struct hs_sparsify_report *ret_report, struct hs_error *err);
void hs_sparsify_clear(struct hs_lora_target *target);

/* All targets of a plan made sparse, ready to be applied or written (sparse_file.h). */
struct hs_sparse_adapter {
    struct hs_lora lora;                /* in the order of the plan */
    struct hs_sparsify_report *reports; /* [lora.n_targets] */
    struct hs_sparsify_report total;    /* norms as of one long vector */
};

/* progress (may be NULL) is called before each target with the share that is done; false ends with
 * HS_CANCELLED. */
HS_CHECKED hs_status hs_sparse_application(const hs_merge_plan *plan,
                                           const struct hs_sparsify_params *params,
                                           bool (*progress)(float fraction, void *user), void *user,
                                           struct hs_sparse_adapter **ret_adapter,
                                           struct hs_error *err);
void hs_sparse_adapter_free(struct hs_sparse_adapter *adapter);

#endif
