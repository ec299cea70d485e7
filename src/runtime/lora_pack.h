/*
 * lora_pack.h - what an adapter does to one matrix, in the order in which the kernels read it.
 *
 * Decoding reads every weight once for one row or a few: all that is read lies in one stream, and
 * the parts that different threads take are apart. Sides are padded with zeros, so that kernels
 * never end in the middle of a vector:
 *
 *   low rank   a: [ranks / 4][n_in / 16][4][16], b: [n_out / 64][rank][64] (one column of y after
 *              the other, since y += ax B^T needs no sums across a vector then)
 *   embedding  a: [n_in, rank], one row a word; b as above
 *   strips     sparse, block_rows a multiple of 16: for each 16 rows of the delta its columns that
 *              are kept, each with its 16 values
 *   entries    sparse, any other block: for each row the columns that are kept, each with its value
 *
 * Owner:   hs_lora_packed_new copies everything. Threads: constant once made.
 */
#ifndef RUNTIME_LORA_PACK_H
#define RUNTIME_LORA_PACK_H

#include "base/lora.h"
#include "hyprstream.h"

#define HS_LORA_A_RANKS 4
#define HS_LORA_A_COLUMNS 16
#define HS_LORA_B_COLUMNS 64
#define HS_LORA_STRIP 16
#define HS_LORA_SPARSE_IN_MAX 65536 /* columns of sparse deltas are 16 bits */

enum hs_lora_form {
    HS_LORA_LOW_RANK = 0,
    HS_LORA_STRIPS,
    HS_LORA_ENTRIES,
};

/* Only the kernels look inside. */
struct hs_lora_packed {
    enum hs_lora_form form;
    int64_t n_in, n_out;
    int32_t rank;
    float scale;
    bool is_embedding;
    enum hs_lora_type a_type, b_type; /* of values: b_type */
    const void *a, *b;
    const float *a_factors; /* [rank], of an embedding [n_in]; HS_LORA_I8 only */
    const float *b_factors; /* [n_out, padded]; HS_LORA_I8 only */
    const int64_t *start;   /* strips, entries: [rows + 1], indices into columns */
    const uint16_t *columns;
    const void *values;
    uint64_t n_bytes;
};

/*
 * Errors: HS_INVALID_ARGUMENT (shapes, types or indices that contradict each other), HS_LIMIT (a
 * rank above HS_LORA_RANK_MAX, a sparse delta of more than HS_LORA_SPARSE_IN_MAX inputs),
 * HS_NOT_SUPPORTED (a sparse delta of an embedding), HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_lora_packed_new(const struct hs_lora_target *target,
                                        enum hs_adapter_weights keep,
                                        struct hs_lora_packed **ret_packed, struct hs_error *err);
void hs_lora_packed_free(struct hs_lora_packed *packed);
/* Host memory it takes. */
uint64_t hs_lora_packed_bytes(const struct hs_lora_packed *packed);
/* Floats of scratch that the kernels need for each row. */
int64_t hs_lora_packed_scratch(const struct hs_lora_packed *packed);
/* The matrices of a product of low rank again. Out: a f32[rank, n_in], b f32[n_out, rank]. */
void hs_lora_packed_read(const struct hs_lora_packed *packed, float *a, float *b);

#endif
