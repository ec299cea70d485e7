/*
 * tiny_random.h - small language models of real architectures with random weights in f32, for tests
 * that compare logits: several layers, grouped heads, and in Gemma a sliding window in every other
 * layer. Same parameters and seed: the same model. The vocabulary is tiny_gguf.h's.
 *
 * Threads: no state.
 */
#ifndef SUPPORT_TINY_RANDOM_H
#define SUPPORT_TINY_RANDOM_H

#include "gguf_writer.h"

enum tiny_random_arch {
    TINY_RANDOM_LLAMA = 0,
    TINY_RANDOM_QWEN3,
    TINY_RANDOM_GEMMA3,
    TINY_RANDOM_QWEN3MOE, /* a mixture: every expert has a say, so logits have no jumps */
};

#define TINY_RANDOM_N_EMBD 64
#define TINY_RANDOM_N_HEAD 4
#define TINY_RANDOM_N_HEAD_KV 2
#define TINY_RANDOM_HEAD 24 /* values of a head; not n_embd / n_head */
#define TINY_RANDOM_N_FF 112
#define TINY_RANDOM_N_LAYER 4
#define TINY_RANDOM_N_SWA 8
#define TINY_RANDOM_N_EXPERT 3

struct tiny_random_spec {
    enum tiny_random_arch arch;
    uint64_t seed;
    bool is_tied; /* no output matrix of its own */
    /* May change values f32[n_out, n_in] of a matrix before they are written; may be NULL. Tied
     * models get an output matrix of their own, called with the embedding's values. */
    void (*change)(const char *tensor, float *values, int64_t n_out, int64_t n_in, void *user);
    void *change_user;
};

/* The shape of a matrix of layers (a mixture has its own in the place of ffn_*), or of
 * token_embd.weight (n_in values for each of n_out words) and output.weight; false: there is none
 * of this name. */
bool tiny_random_shape(const char *tensor, int64_t *ret_n_out, int64_t *ret_n_in);
/* Names of a layer's matrices without "blk.<layer>.", NULL at the end. */
extern const char *const tiny_random_matrices[];

bool tiny_random_write(const struct tiny_random_spec *spec, const char *path);

#endif
