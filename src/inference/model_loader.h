/*
 * model_loader.h - from a path to a model that runs: validation, defaults, what fits into memory.
 *
 * Threads: one load at a time per struct hs_model; several models may load at once.
 */
#ifndef INFERENCE_MODEL_LOADER_H
#define INFERENCE_MODEL_LOADER_H

#include "model.h"

struct hs_model_load {
    const struct hs_runtime *rt;
    const char *path;
    const struct hs_model_params *params;
    const struct hs_engine_params *engine;
};

/*
 * Fill a model whose info.id is set.
 * Errors: those of hs_engine_load_model; the model is then as before.
 */
HS_CHECKED hs_status hs_model_load(const struct hs_model_load *load, struct hs_model *model,
                                   struct hs_error *err);
/* What the model would take. Errors: those of a load that come before the weights are read. */
HS_CHECKED hs_status hs_model_estimate(const struct hs_model_load *load,
                                       struct hs_rt_memory *ret_memory, struct hs_error *err);
/* Stop the worker and free what hs_model_load made. */
void hs_model_unload(struct hs_model *model);

/* Errors: HS_UNSUPPORTED_MODEL, when the model is here for embeddings only. */
HS_CHECKED hs_status hs_model_check_generates(const struct hs_model *model, struct hs_error *err);

/* The id a path gives: its last part without ".gguf". HS_INVALID_ARGUMENT when nothing is left or
 * it is too long. */
HS_CHECKED hs_status hs_model_id_from_path(const char *path, char ret_id[HS_ID_MAX],
                                           struct hs_error *err);

#endif
