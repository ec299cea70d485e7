/* tiny_internal.h - the layout of the tiny models, shared by tiny_gguf.c and tiny_layers.c. */
#ifndef SUPPORT_TINY_INTERNAL_H
#define SUPPORT_TINY_INTERNAL_H

#include "tiny_gguf.h"

#define N_EMBD TINY_GGUF_N_EMBD
#define N_HEAD 2 /* heads of 32: llama.cpp rotates wider ones in a quantised cache, inexactly */
#define N_FF 32
#define N_VOCAB TINY_GGUF_N_VOCAB

/* Mamba: channels, states of each, rank of the time step, taps of the convolution. */
#define N_INNER (2 * N_EMBD)
#define N_STATE 16
#define N_RANK 4
#define N_CONV 4

/*
 * Dimensions of HISTORY's residual stream: sixteen signs, so that the root mean square of every
 * embedding is exactly 1/2 (times 8 in Gemma), then what the layers add.
 */
enum {
    DIM_W1,
    DIM_W2,
    DIM_W4,
    DIM_BOS,
    DIM_ONE,
    DIM_VOTE, /* and the two behind it */
    N_SIGNS = 16,
    DIM_SUM = 16,
    DIM_COUNT = 17,
    DIM_WINDOW = 18 /* and the two behind it */
};

#define TINY_WINDOW_SCALE (1.0f / (1 << 20))

/* Write all tensors of layer `i`; only the first ones act, the others add zero. */
void tiny_layers_put(const struct tiny_gguf_spec *spec, uint32_t i, struct gguf_writer *out);
/* The two matrices of an adapter; false: not of this rank. */
bool tiny_adapter_fill(struct gguf_writer *out, int32_t shift, uint32_t rank);
void tiny_put_matrix(struct gguf_writer *out, const char *name, uint64_t n_in, uint64_t n_out,
                     const void *data);
/* The words, with what the spec says about them. */
void tiny_put_vocab(const struct tiny_gguf_spec *spec, struct gguf_writer *out);
/* A vector of N_EMBD equal values. */
void tiny_put_norm(struct gguf_writer *out, const char *name, float value);

#endif
