/*
 * batch.h - who gets how many tokens in a step, and the batch made of it.
 *
 * Planning is arithmetic on counts, so that fairness can be tested without a model.
 *
 * Threads: the worker's thread only.
 */
#ifndef INFERENCE_BATCH_H
#define INFERENCE_BATCH_H

#include "runtime/runtime.h"

struct hs_batch_limits {
    int32_t n_batch;       /* tokens in one decode call */
    int32_t prefill_chunk; /* prompt tokens of a step in which somebody decodes */
    int32_t n_free;        /* KV cells */
};

/*
 * Share a step among requests, oldest first.
 * In:     wants[n]: tokens each could evaluate now; 1 is a decode step and goes before prompts.
 *         turn: number of the step; whoever comes first rotates with it.
 * Out:    quotas[n], 0 <= quotas[i] <= wants[i].
 * Rules:  every decode step gets its token (in rotation when n_batch is too small for all; the
 *         oldest when cells are). Prompts share what is left of n_batch, or of prefill_chunk while
 *         somebody decodes: first the shortest that can end in the step, from fifteen sixteenths
 *         of it, then the others evenly; what one does not need goes to the next.
 * Returns the sum of the quotas.
 */
int32_t hs_batch_plan(const struct hs_batch_limits *limits, const int32_t *wants, int32_t n,
                      uint64_t turn, int32_t *quotas);

#define HS_BATCH_CHUNK_MIN 16

/*
 * Prompt tokens that fit into a step beside decoding ones: as many as take budget_ms at token_ms
 * each (<= 0: not measured yet), at least HS_BATCH_CHUNK_MIN and at most `most`. Every second of
 * n_prompts brings a budget of its own: a pause costs the streams the same, however many first
 * tokens come of it.
 */
int32_t hs_batch_chunk(int32_t most, double budget_ms, double token_ms, int32_t n_prompts);

/* The part of a batch that belongs to one request. */
struct hs_batch_span {
    size_t owner; /* index among the running requests */
    int32_t first, n;
    bool wants_logits; /* of the last item */
};

struct hs_batch {
    struct hs_rt_batch_item *items; /* [cap_items] */
    struct hs_batch_span *spans;    /* [cap_spans] */
    int32_t n_items, cap_items;
    int32_t n_spans, cap_spans;
};

HS_CHECKED hs_status hs_batch_init(struct hs_batch *batch, int32_t cap_items, int32_t cap_spans);
void hs_batch_free(struct hs_batch *batch);
void hs_batch_clear(struct hs_batch *batch);
/* tokens[n] of sequence seq from position pos on; there is room. */
void hs_batch_add(struct hs_batch *batch, size_t owner, int32_t seq, int32_t pos,
                  const int32_t *tokens, int32_t n, bool wants_logits,
                  const struct hs_rt_adapter_set *adapters);

#endif
