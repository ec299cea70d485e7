/*
 * model.h - a loaded model: what the loader makes, prompts read and the registry holds.
 *
 * Threads: constant after the load, except the counts, which the engine's mutex guards, and the
 * cache key, which changes with it held and nobody using the model.
 */
#ifndef INFERENCE_MODEL_H
#define INFERENCE_MODEL_H

#include "adapters/lora_base.h"
#include "kv_cache.h"
#include "request_log.h"

typedef struct hs_worker hs_worker;
typedef struct hs_embedder hs_embedder;

/* A tensor whose weights are not the file's. */
struct hs_fused_tensor {
    char name[64];
};

struct hs_model {
    const struct hs_runtime *rt;
    hs_rt_model *rt_model;
    hs_worker *worker; /* NULL: the model does not generate */
    hs_embedder *embedder;
    hs_request_log *log; /* the engine's; NULL: none */
    struct hs_model_info info;
    struct hs_rt_model_info rt_info;
    hs_lora_base *lora_base;          /* what adapters are checked against */
    char *chat_template;              /* used instead of the model's own; NULL: the model's */
    char cache_key[HS_CACHE_KEY_MAX]; /* of the model without adapters */
    char plain_key[HS_CACHE_KEY_MAX]; /* the same before adapters were merged into the weights */
    struct hs_fused_tensor *fused;    /* [n_fused], guarded by the engine's mutex */
    int32_t n_fused;
    struct hs_route_inputs *route_inputs; /* guarded by the router's lock for learning; or NULL */
    struct hs_rt_context_params context_params; /* of the worker's context */
    bool is_loading;                            /* the id is taken, nothing else is there yet */
    int32_t n_users;                            /* calls under way */
    int32_t n_sessions;
};

/* Tokens that a context has room for. */
static inline size_t hs_model_n_ctx(const struct hs_model *model)
{
    return (size_t)model->info.n_ctx;
}

/* Prompted with the plain template: neither the user nor the file brought one. */
static inline bool hs_model_is_plain(const struct hs_model *model)
{
    return model->chat_template == NULL ? !model->rt_info.has_chat_template
                                        : model->chat_template[0] == '\0';
}

#endif
