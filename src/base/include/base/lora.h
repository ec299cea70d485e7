/*
 * lora.h - the weights of a LoRA adapter in memory: what the readers of adapter files make, merging
 * computes with and the runtime packs.
 *
 * A target is one matrix W of the base model, f32[n_out, n_in] in the order of its GGUF tensor, and
 * what the adapter adds to it: scale * B A, or a sparse delta. All matrices are row-major.
 *
 * Owner:   who made it; views are borrowed. Threads: constant data.
 * Source:  LoRA, arXiv 2106.09685; rsLoRA (scale alpha / sqrt(rank)), arXiv 2312.03732.
 */
#ifndef BASE_LORA_H
#define BASE_LORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HS_LORA_TENSOR_NAME_MAX 64u /* with its NUL, as in GGUF */
#define HS_LORA_RANK_MAX 1024

enum hs_lora_type {
    HS_LORA_F32 = 0,
    HS_LORA_F16,
    HS_LORA_BF16,
    HS_LORA_I8 /* int8 with one f32 factor for each row */
};

struct hs_lora_matrix {
    enum hs_lora_type type;
    int64_t n_rows, n_cols;
    const void *data;     /* [n_rows, n_cols] */
    const float *factors; /* [n_rows], of HS_LORA_I8 only */
};

/*
 * A sparse delta: blocks of block_rows x block_cols values, by rows of blocks (CSR). Block (1, 1)
 * is an ordinary sparse matrix. n_out and n_in are multiples of the block's sides.
 */
struct hs_lora_sparse {
    enum hs_lora_type type; /* F32, F16 or BF16 */
    int32_t block_rows, block_cols;
    int64_t n_blocks;
    const int64_t *row_start;    /* [n_out / block_rows + 1], indices into the blocks */
    const int32_t *block_column; /* [n_blocks], ascending in a row */
    const void *values;          /* [n_blocks, block_rows, block_cols] */
};

struct hs_lora_target {
    char tensor[HS_LORA_TENSOR_NAME_MAX]; /* "blk.3.attn_q.weight" */
    int64_t n_in, n_out;
    int32_t rank;            /* 0: sparse */
    float scale;             /* alpha / rank, or alpha / sqrt(rank); also of a sparse delta */
    bool is_embedding;       /* rows are looked up, not multiplied: a is [n_in, rank], n_in the
                                number of words */
    struct hs_lora_matrix a; /* [rank, n_in] */
    struct hs_lora_matrix b; /* [n_out, rank] */
    struct hs_lora_sparse sparse;
};

struct hs_lora {
    const struct hs_lora_target *targets; /* [n_targets], no tensor twice */
    int32_t n_targets;
};

size_t hs_lora_type_size(enum hs_lora_type type);
/* Values [first, first + n) of data as f32; int8 without a factor. */
void hs_lora_values(enum hs_lora_type type, const void *data, int64_t first, int64_t n,
                    float *ret_values);
/* One row, f32[n_cols]. */
void hs_lora_matrix_row(const struct hs_lora_matrix *matrix, int64_t row, float *ret_values);

#endif
