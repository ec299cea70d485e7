/*
 * embedder.h - the thread that computes a model's embeddings, in a context of its own beside the
 * one that generates.
 *
 * Thread and context are made with the first request. Each step takes the next inputs of all
 * requests in turn and computes them in one batch; an input longer than that is computed in parts,
 * one such input at a time, while others share the batch.
 *
 * Owner:   the model; hs_embedder_free joins the thread and frees the context.
 * Threads: every function may be called from any thread, new and free by one.
 */
#ifndef INFERENCE_EMBEDDER_H
#define INFERENCE_EMBEDDER_H

#include "model.h"

struct hs_embedder_params {
    const struct hs_model *model;        /* outlives the embedder */
    struct hs_rt_context_params context; /* n_ctx is the longest input wanted */
    int32_t max_queue, max_client_queue;
};

HS_CHECKED hs_status hs_embedder_new(const struct hs_embedder_params *params,
                                     hs_embedder **ret_embedder, struct hs_error *err);
/* As hs_engine_embed. */
HS_CHECKED hs_status hs_embedder_submit(hs_embedder *embedder, const struct hs_embed_input *inputs,
                                        size_t n_inputs, const struct hs_embed_params *params,
                                        hs_stream **ret_stream, struct hs_error *err);
/* Adds what it does and takes to the figures of the model. */
void hs_embedder_add_stats(hs_embedder *embedder, struct hs_model_stats *stats);
void hs_embedder_add_memory(hs_embedder *embedder, struct hs_memory *memory);
/* Whether requests are queued or running. */
bool hs_embedder_is_busy(hs_embedder *embedder);
/* Refuse new requests, cancel all others, return when the last one is done. NULL is allowed. */
void hs_embedder_close(hs_embedder *embedder);
void hs_embedder_free(hs_embedder *embedder);

#endif
