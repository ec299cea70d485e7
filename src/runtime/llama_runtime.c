/* The table of LlamaCppEngine: one row per function of runtime.h. */
#include "llama_internal.h"

const struct hs_runtime *hs_runtime_llama(void)
{
    static const struct hs_runtime table = {
        .name = "llama.cpp",
        .init = hs_llama_init,
        .model_load = hs_llama_model_load,
        .model_free = hs_llama_model_free,
        .model_info = hs_llama_model_info,
        .estimate = hs_llama_estimate,
        .tokenize = hs_llama_tokenize,
        .token_piece = hs_llama_token_piece,
        .detokenize = hs_llama_detokenize,
        .is_eog = hs_llama_is_eog,
        .render = hs_llama_render,
        .format_new = hs_llama_format_new,
        .format_free = hs_llama_format_free,
        .format_stop = hs_llama_format_stop,
        .format_feed = hs_llama_format_feed,
        .context_new = hs_llama_context_new,
        .context_free = hs_llama_context_free,
        .context_n_ctx = hs_llama_context_n_ctx,
        .context_memory = hs_llama_context_memory,
        .set_abort = hs_llama_set_abort,
        .decode = hs_llama_decode,
        .logits = hs_llama_logits,
        .embedder_new = hs_llama_embedder_new,
        .embed = hs_llama_embed,
        .embed_take = hs_llama_embed_take,
        .kv_remove = hs_llama_kv_remove,
        .kv_copy = hs_llama_kv_copy,
        .kv_shift = hs_llama_kv_shift,
        .kv_pos_min = hs_llama_kv_pos_min,
        .kv_pos_max = hs_llama_kv_pos_max,
        .kv_clear = hs_llama_kv_clear,
        .state_size = hs_llama_state_size,
        .state_save = hs_llama_state_save,
        .state_load = hs_llama_state_load,
        .sampler_new = hs_llama_sampler_new,
        .sampler_free = hs_llama_sampler_free,
        .sampler_seed = hs_llama_sampler_seed,
        .sampler_accept_prompt = hs_llama_sampler_accept_prompt,
        .sample = hs_llama_sample,
    };
    return &table;
}
