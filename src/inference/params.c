/* Defaults of the public parameter structs, and releasing what the engine hands out. */
#include "hyprstream.h"

#include "base/mem.h"

void hs_engine_params_defaults(struct hs_engine_params *params)
{
    *params = (struct hs_engine_params){
        .max_queue = 256,
        .park_budget_bytes = (uint64_t)512 << 20,
        .adapter_budget_bytes = (uint64_t)1 << 30,
        .prefill_chunk = 512,
        .prefill_ms = 200,
    };
}

void hs_model_params_defaults(struct hs_model_params *params)
{
    *params = (struct hs_model_params){
        .n_gpu_layers = -1,
        .use_mmap = true,
        .flash_attn = HS_FLASH_ATTN_AUTO,
        .kv_type = HS_KV_F16,
    };
}

void hs_adapter_params_defaults(struct hs_adapter_params *params)
{
    *params = (struct hs_adapter_params){0};
}

void hs_session_params_defaults(struct hs_session_params *params)
{
    *params = (struct hs_session_params){
        .overflow = HS_OVERFLOW_SAVED,
        .save_kv = true,
    };
}

/* The values of llama.cpp's own tools, so that the same prompt behaves the same. */
static void sampling_defaults(struct hs_sampling *sampling)
{
    *sampling = (struct hs_sampling){
        .seed = HS_SEED_RANDOM,
        .temp = 0.8f,
        .dynatemp_exponent = 1.0f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1.0f,
        .top_n_sigma = -1.0f,
        .xtc_threshold = 0.1f,
        .repeat_penalty = 1.0f,
        .repeat_last_n = 64,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = -1,
        .mirostat_tau = 5.0f,
        .mirostat_eta = 0.1f,
        .adaptive_target = -1.0f,
        .adaptive_decay = 0.9f,
    };
}

void hs_generate_params_defaults(struct hs_generate_params *params)
{
    *params = (struct hs_generate_params){
        .max_tokens = -1,
        .enable_thinking = true,
        .split_reasoning = true,
        .cache_prompt = true,
        .parallel_tool_calls = true,
        .overflow = HS_OVERFLOW_STOP,
    };
    sampling_defaults(&params->sampling);
}

void hs_embed_params_defaults(struct hs_embed_params *params)
{
    *params = (struct hs_embed_params){.normalize = true};
}

void hs_tokens_free(int32_t *tokens)
{
    hs_free(tokens);
}

void hs_text_free(char *text)
{
    hs_free(text);
}

void hs_adapter_infos_free(struct hs_adapter_info *infos)
{
    hs_free(infos);
}

const char *hs_adapter_state_name(enum hs_adapter_state state)
{
    static const char *const names[] = {"registered", "loading", "ready", "failed"};
    return (unsigned)state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

const char *hs_adapter_weights_name(enum hs_adapter_weights weights)
{
    static const char *const names[] = {"file", "f16", "int8"};
    return (unsigned)weights < sizeof(names) / sizeof(names[0]) ? names[weights] : "unknown";
}

const char *hs_lora_engine_name(enum hs_lora_engine engine)
{
    static const char *const names[] = {"auto", "rewrite", "stacked", "native"};
    return (unsigned)engine < sizeof(names) / sizeof(names[0]) ? names[engine] : "unknown";
}
