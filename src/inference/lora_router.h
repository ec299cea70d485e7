/*
 * lora_router.h - dynamic_routing: the adapters that a text is for, by rules and by examples.
 *
 * Keeps the example texts of adapters and their embeddings, one table (adapters/route_table.h) for
 * each model that embeds. What is not embedded yet is embedded by the call that needs it.
 *
 * Owner:   the engine. Threads: any; a mutex guards texts and tables, and is not held while a model
 *          computes.
 */
#ifndef INFERENCE_LORA_ROUTER_H
#define INFERENCE_LORA_ROUTER_H

#include "hyprstream.h"

typedef struct hs_lora_router hs_lora_router;

HS_CHECKED hs_status hs_lora_router_new(hs_lora_router **ret_router, struct hs_error *err);
void hs_lora_router_free(hs_lora_router *router);
/* As hs_engine_set_adapter_examples, for an adapter that is registered. */
HS_CHECKED hs_status hs_lora_router_set(hs_lora_router *router, const char *name,
                                        const char *const *texts, size_t n_texts,
                                        struct hs_error *err);
/* The adapter is gone, or the model whose embeddings are kept. */
void hs_lora_router_forget_adapter(hs_lora_router *router, const char *name);
void hs_lora_router_forget_model(hs_lora_router *router, const char *model_id);
/* As hs_engine_route. */
HS_CHECKED hs_status hs_lora_router_route(hs_lora_router *router, hs_engine *engine,
                                          const char *model_id, const char *text,
                                          const struct hs_route_params *params,
                                          struct hs_route *ret_route, struct hs_error *err);

#endif
