/*
 * memory_bound.h - arithmetic of memory: an upper bound from a header's numbers, and how many
 * layers fit a GPU. Threads: no state.
 */
#ifndef RUNTIME_MEMORY_BOUND_H
#define RUNTIME_MEMORY_BOUND_H

#include "gguf_skim.h"
#include "runtime/runtime.h"

/*
 * weights, kv and compute of a load with all sequences sharing context->n_ctx cells (rounded up to
 * 256, as llama.cpp does); the other fields of ret_memory stay. context NULL: weights only.
 */
void hs_memory_bound(const struct hs_gguf_skim *skim, const struct hs_rt_context_params *context,
                     struct hs_rt_memory *ret_memory);

/*
 * Layers to offload: `wanted` when it is not negative (at most all), else as many as leave a tenth
 * of memory->device_free_bytes free; 0 without a GPU. The output layer counts as one, so that all
 * is n_layer + 1.
 */
int32_t hs_memory_gpu_layers(const struct hs_gguf_skim *skim, const struct hs_rt_memory *memory,
                             int32_t wanted);

/* Bytes of `memory` that stay on the host with so many layers offloaded. */
uint64_t hs_memory_host_share(const struct hs_gguf_skim *skim, const struct hs_rt_memory *memory,
                              int32_t n_gpu_layers);

#endif
