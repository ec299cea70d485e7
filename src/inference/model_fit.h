/*
 * model_fit.h - the parameters of a context: the user's, else defaults that fit the machine.
 *
 * Threads: no state.
 */
#ifndef INFERENCE_MODEL_FIT_H
#define INFERENCE_MODEL_FIT_H

#include "runtime/runtime.h"

struct hs_fit {
    struct hs_rt_context_params context;
    int32_t n_gpu_layers;
    struct hs_rt_memory memory; /* as estimated */
    uint64_t limit_bytes;       /* the parameters' */
};

/* Ranges of what the user gave. HS_INVALID_ARGUMENT names the parameter. */
HS_CHECKED hs_status hs_model_params_check(const struct hs_model_params *params,
                                           struct hs_error *err);
/*
 * In:     n_ctx_train: the model's own limit, 0 when it does not say.
 * Errors: HS_MODEL_TOO_LARGE with the numbers: what was asked for, or the smallest context, does
 * not fit; those of the runtime's estimate.
 */
HS_CHECKED hs_status hs_model_fit(const struct hs_runtime *rt, const char *path,
                                  const struct hs_model_params *params, uint64_t n_ctx_train,
                                  struct hs_fit *ret_fit, struct hs_error *err);
/* Weights, KV and compute together. */
uint64_t hs_model_fit_total(const struct hs_rt_memory *memory);
/* Host memory left alone, of what is available. */
uint64_t hs_model_fit_margin(uint64_t available_bytes);

#endif
