/* logprobs.h - log-probabilities of the most likely tokens. Threads: no state. */
#ifndef RUNTIME_LOGPROBS_H
#define RUNTIME_LOGPROBS_H

#include "hyprstream.h"

/*
 * In:     logits f32[n_vocab], the chosen token, n_top >= 0.
 * Out:    ret[1 + n_top]: the chosen token, then the n_top most likely ones, likeliest first, equal
 *         ones by token; log-softmax over all logits. Beyond n_vocab entries: token -1, -infinity.
 */
void hs_logprobs(const float *logits, int32_t n_vocab, int32_t token, int32_t n_top,
                 struct hs_token_logprob *ret);

#endif
