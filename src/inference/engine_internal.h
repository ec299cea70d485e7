/*
 * engine_internal.h - what engine.c (models, requests, sessions) and engine_adapters.c share, and
 * the engine over any runtime: tests put a fake one there.
 */
#ifndef INFERENCE_ENGINE_INTERNAL_H
#define INFERENCE_ENGINE_INTERNAL_H

#include <pthread.h>

#include "adapter_pool.h"
#include "lora_router.h"
#include "request_log.h"
#include "session_manager.h"

struct hs_engine {
    const struct hs_runtime *rt;
    struct hs_engine_params params; /* sessions_dir is the manager's */
    hs_session_manager *sessions;
    hs_adapter_pool *adapters;
    hs_lora_router *router;
    hs_request_log *log;
    pthread_mutex_t mutex;
    struct hs_model **models; /* [n_models], guarded by the mutex, as are their counts */
    size_t n_models, cap_models;
};

/* As hs_engine_create; the table must outlive the engine. */
HS_CHECKED hs_status hs_engine_create_with_runtime(const struct hs_engine_params *params,
                                                   const struct hs_runtime *rt,
                                                   hs_engine **ret_engine, struct hs_error *err);
/* Make engine->adapters and engine->router; free them. */
HS_CHECKED hs_status hs_engine_new_adapters(hs_engine *engine, struct hs_error *err);
void hs_engine_free_adapters(hs_engine *engine);

/* A loaded model, which stays loaded until it is released. HS_NOT_FOUND. */
HS_CHECKED hs_status hs_engine_acquire_model(hs_engine *engine, const char *id,
                                             struct hs_model **ret_model, struct hs_error *err);
/* The same; HS_UNSUPPORTED_MODEL: it does not generate. */
HS_CHECKED hs_status hs_engine_acquire_generator(hs_engine *engine, const char *id,
                                                 struct hs_model **ret_model, struct hs_error *err);
void hs_engine_release_model(hs_engine *engine, struct hs_model *model);

#endif
