#include "memory_bound.h"

#define CELL_PAD 256u /* llama.cpp rounds the number of cells up to this */

static uint64_t kv_bytes(const struct hs_gguf_skim *skim, uint64_t n_cells, enum hs_kv_type type)
{
    uint64_t n_values = skim->n_head_kv_sum * (skim->key_length + skim->value_length) * n_cells;
    /* q8_0: 34 bytes for 32 values. */
    return type == HS_KV_Q8_0 ? n_values / 32 * 34 : n_values * 2;
}

/* Largest set of tensors one micro-batch needs at once, rounded up rather than modelled. */
static uint64_t compute_bytes(const struct hs_gguf_skim *skim, uint64_t n_cells,
                              const struct hs_rt_context_params *context)
{
    uint64_t n_ubatch = (uint64_t)context->n_ubatch;
    n_ubatch = n_ubatch < (uint64_t)context->n_batch ? n_ubatch : (uint64_t)context->n_batch;
    n_ubatch = n_ubatch < n_cells ? n_ubatch : n_cells;
    uint64_t n_outputs = context->has_embeddings ? n_ubatch : (uint64_t)context->n_seq_max;
    uint64_t n_ff = skim->n_ff ? skim->n_ff : 4 * skim->n_embd;
    uint64_t activations = n_ubatch * (6 * skim->n_embd + 3 * n_ff) * 4;
    uint64_t mask = n_ubatch * n_cells * 4;
    uint64_t scores =
        context->flash_attn == HS_FLASH_ATTN_OFF ? n_ubatch * n_cells * skim->n_head * 4 : 0;
    /* In the graph, and once more in the buffer that is read. */
    uint64_t logits = 2 * n_outputs * skim->n_vocab * 4;
    return activations + mask + scores + logits;
}

void hs_memory_bound(const struct hs_gguf_skim *skim, const struct hs_rt_context_params *context,
                     struct hs_rt_memory *ret_memory)
{
    ret_memory->weights_bytes = skim->weights_bytes;
    ret_memory->kv_bytes = 0;
    ret_memory->compute_bytes = 0;
    if (!context) {
        return;
    }
    uint64_t n_cells = (uint64_t)context->n_ctx;
    n_cells = (n_cells + CELL_PAD - 1) / CELL_PAD * CELL_PAD;
    ret_memory->kv_bytes = kv_bytes(skim, n_cells, context->kv_type);
    ret_memory->compute_bytes = compute_bytes(skim, n_cells, context);
}

int32_t hs_memory_gpu_layers(const struct hs_gguf_skim *skim, const struct hs_rt_memory *memory,
                             int32_t wanted)
{
    int32_t all = (int32_t)skim->n_layer + 1;
    if (memory->device_free_bytes == 0) {
        return 0;
    }
    if (wanted >= 0) {
        return wanted < all ? wanted : all;
    }
    uint64_t usable = memory->device_free_bytes - memory->device_free_bytes / 10;
    if (usable <= memory->compute_bytes) {
        return 0;
    }
    usable -= memory->compute_bytes;
    uint64_t per_layer = (memory->weights_bytes + memory->kv_bytes) / (uint64_t)all + 1;
    uint64_t fitting = usable / per_layer;
    return fitting < (uint64_t)all ? (int32_t)fitting : all;
}

uint64_t hs_memory_host_share(const struct hs_gguf_skim *skim, const struct hs_rt_memory *memory,
                              int32_t n_gpu_layers)
{
    uint64_t all = skim->n_layer + 1;
    uint64_t on_host = all - (uint64_t)(n_gpu_layers > 0 ? n_gpu_layers : 0);
    uint64_t layers = (memory->weights_bytes + memory->kv_bytes) / all * on_host;
    return on_host == all ? memory->weights_bytes + memory->kv_bytes + memory->compute_bytes
                          : layers + (on_host > 0 ? memory->compute_bytes : 0);
}
