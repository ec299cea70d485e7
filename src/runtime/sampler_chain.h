/*
 * sampler_chain.h - the table of llama.cpp's samplers, and the chain of a request made from it.
 *
 * The default order is llama.cpp's: penalties; dry; top_n_sigma; top_k; typ_p; top_p; min_p; xtc;
 * temperature. The last sampler chooses: greedy when temp <= 0, mirostat (after the temperature
 * only), adaptive_p, or a draw from the distribution.
 *
 * The chain comes in two parts. `head` holds the penalties and DRY at its beginning: they change
 * the logits of recent tokens alone, each by itself. `llama` is the rest, which chooses.
 *
 * Owner:   the caller frees `head` and `llama` with llama_sampler_free; the model must outlive
 * them. Threads: one at a time. Errors:  HS_INVALID_ARGUMENT for an unknown name or too many of
 * them.
 */
#ifndef RUNTIME_SAMPLER_CHAIN_H
#define RUNTIME_SAMPLER_CHAIN_H

#include "candidates.h"

struct hs_sampler_chain {
    struct llama_sampler *head; /* NULL: changes nothing */
    struct llama_sampler *llama;
    size_t n_recent;     /* last tokens whose logits the head may change */
    struct hs_keep keep; /* what the first sampler of `llama` that acts keeps */
    bool keeps_largest;  /* no row can remove or overtake the token with the largest logit */
};

/* Numbers in `sampling` are within their ranges; repeat and DRY histories are cut to n_ctx. */
HS_CHECKED hs_status hs_sampler_chain_new(const hs_rt_model *model,
                                          const struct hs_sampling *sampling, uint32_t seed,
                                          int32_t n_ctx, struct hs_sampler_chain *ret_chain,
                                          struct hs_error *err);

#endif
