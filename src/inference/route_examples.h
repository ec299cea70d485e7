/*
 * route_examples.h - example texts of adapters and their embeddings, one table
 * (adapters/route_table.h) for each model that embeds. What is not embedded yet is embedded by the
 * call that needs it.
 *
 * Owner:   the router. Threads: any; a mutex guards texts and tables, and is not held while a model
 *          computes.
 */
#ifndef INFERENCE_ROUTE_EXAMPLES_H
#define INFERENCE_ROUTE_EXAMPLES_H

#include "adapters/route_table.h"
#include "route_embed.h"

typedef struct hs_route_examples hs_route_examples;

HS_CHECKED hs_status hs_route_examples_new(hs_route_examples **ret_examples, struct hs_error *err);
void hs_route_examples_free(hs_route_examples *all);
/* As hs_engine_set_adapter_examples, for an adapter that is registered. */
HS_CHECKED hs_status hs_route_examples_set(hs_route_examples *all, const char *name,
                                           const char *const *texts, size_t n_texts,
                                           struct hs_error *err);
/* The adapter is gone, or the model whose embeddings are kept. */
void hs_route_examples_forget(hs_route_examples *all, const char *name);
void hs_route_examples_forget_model(hs_route_examples *all, const char *model_id);
/* Texts that no adapter is for: route_background.def. */
#define HS_ROUTE_BACKGROUND_MAX 256
extern const char *const hs_route_background[];
extern const int32_t hs_route_n_background;

/* What a text is close to; names that outlive the tables. */
struct hs_route_found {
    struct hs_route_matches matches;
    char names[HS_ROUTE_MATCHES_MAX + 1][HS_ADAPTER_NAME_SIZE]; /* the best's last */
};

bool hs_route_examples_has(hs_route_examples *all, const char *name);
/* The adapters whose examples a text is close to, of those that are wanted. Errors: those of
 * embedding; HS_NOT_FOUND (the model was unloaded meanwhile). */
HS_CHECKED hs_status hs_route_examples_match(hs_route_examples *all,
                                             const struct hs_route_embedder *how, const char *text,
                                             double floor,
                                             bool (*is_wanted)(const char *name, void *user),
                                             void *user, struct hs_route_found *found,
                                             struct hs_error *err);

#endif
