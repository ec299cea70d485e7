/*
 * candidates.h - the tokens that the samplers look at: those of the vocabulary that the first
 * sampler of a chain can keep, found in one pass over the logits instead of by copying and sorting
 * all of them (262,144 for Gemma).
 *
 * What is left gives the same choice as the whole vocabulary, equal logits included: tokens stay in
 * the order of their numbers, and only those are left out that do not exceed the k-th largest
 * before them. A heap of the k largest, which is how std::partial_sort and so llama.cpp's top_k
 * work, never takes these in and therefore looks the same without them.
 *
 * Tokens with a logit of minus infinity are impossible and always left out.
 *
 * Threads: no state.
 */
#ifndef RUNTIME_CANDIDATES_H
#define RUNTIME_CANDIDATES_H

#include "llama_internal.h"

#define HS_KEEP_TOP_K_MAX 128 /* above it llama.cpp sorts by buckets, not with one heap */

enum hs_keep_kind { HS_KEEP_ALL = 0, HS_KEEP_TOP_K, HS_KEEP_MIN_P };

/* What the first sampler that acts keeps. */
struct hs_keep {
    enum hs_keep_kind kind;
    int32_t k;   /* HS_KEEP_TOP_K: 1..HS_KEEP_TOP_K_MAX */
    float min_p; /* HS_KEEP_MIN_P: above 0 */
};

/* The logits of a step, some of them replaced. */
struct hs_logits {
    const float *values; /* f32[n_vocab] */
    int32_t n_vocab;
    const llama_token_data *changed; /* [n_changed] by ascending id */
    size_t n_changed;
};

/*
 * Out:    ret[n_vocab], of which *ret_n are filled, by ascending id.
 * false: some value is not a number, or plus infinity.
 */
bool hs_candidates_keep(const struct hs_logits *logits, const struct hs_keep *keep,
                        llama_token_data *ret, size_t *ret_n);

/* The first token with the largest value; -1: none is possible, or they are not numbers. */
int32_t hs_candidates_largest(const float *values, int32_t n_vocab);

#endif
