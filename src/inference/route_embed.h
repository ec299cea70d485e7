/*
 * route_embed.h - embeddings of texts, for routing: through the engine's public functions, waited
 * for.
 *
 * Owner:   hs_embeddings_free releases what was made. Threads: any.
 */
#ifndef INFERENCE_ROUTE_EMBED_H
#define INFERENCE_ROUTE_EMBED_H

#include "hyprstream.h"

struct hs_embeddings {
    float *values; /* [n, n_dims] */
    int32_t n_dims;
};
void hs_embeddings_free(struct hs_embeddings *embeddings);

/* Who computes, and until when. */
struct hs_route_embedder {
    hs_engine *engine;
    const char *model_id;
    double deadline_at_ms; /* of hs_clock_ms; 0: none */
};

/* Texts longer than some hundred tokens are cut. Errors: those of hs_engine_embed. */
HS_CHECKED hs_status hs_route_embed(const struct hs_route_embedder *how, const char *const *texts,
                                    size_t n, struct hs_embeddings *out, struct hs_error *err);

#endif
