#include "params.h"

#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

#define TEMPLATE_MAX_BYTES (1u << 20)

static hs_status join_items(const struct hs_config_value *value, char **ret_text,
                            struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    hs_status status = HS_OK;
    for (size_t i = 0; i < value->n_items && !status; i++) {
        status = hs_buf_printf(&text, "%s%s", i > 0 ? "," : "", value->items[i]);
    }
    if (!status && value->n_items > 0) {
        status = hs_buf_take(&text, ret_text, NULL);
    }
    return status ? hs_error_nomem(err, "settings") : HS_OK;
}

static hs_status read_template(const char *path, char **ret_text, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEMPLATE_MAX_BYTES);
    hs_status status = hs_fs_read(path, &text, err);
    if (!status && strlen(text.len ? text.data : "") != text.len) {
        status = hs_error_set(err, HS_BAD_FORMAT, "'%s' holds a NUL byte", path);
    }
    if (status) {
        hs_error_prefix(err, "--chat-template-file");
        return status;
    }
    return hs_buf_take(&text, ret_text, NULL) ? hs_error_nomem(err, "chat template") : HS_OK;
}

static enum hs_flash_attn flash_attn(const struct hs_config *config)
{
    const char *text = hs_config_str(config, HS_CFG_FLASH_ATTN);
    if (text && strcmp(text, "on") == 0) {
        return HS_FLASH_ATTN_ON;
    }
    return text && strcmp(text, "off") == 0 ? HS_FLASH_ATTN_OFF : HS_FLASH_ATTN_AUTO;
}

static enum hs_lora_engine lora_engine(const struct hs_config *config)
{
    const char *text = hs_config_str(config, HS_CFG_LORA_ENGINE);
    enum hs_lora_engine engine = HS_LORA_ENGINE_NATIVE;
    while (text && engine > HS_LORA_ENGINE_AUTO && strcmp(hs_lora_engine_name(engine), text) != 0) {
        engine--;
    }
    return text ? engine : HS_LORA_ENGINE_AUTO;
}

static enum hs_adapter_weights adapter_weights(const struct hs_config *config)
{
    const char *text = hs_config_str(config, HS_CFG_ADAPTER_WEIGHTS);
    enum hs_adapter_weights weights = HS_ADAPTER_WEIGHTS_INT8;
    while (text && weights > HS_ADAPTER_WEIGHTS_FILE &&
           strcmp(hs_adapter_weights_name(weights), text) != 0) {
        weights--;
    }
    return text ? weights : HS_ADAPTER_WEIGHTS_FILE;
}

hs_status hs_load_settings_fill(const struct hs_config *config, struct hs_load_settings *ret,
                                struct hs_error *err)
{
    struct hs_load_settings s HS_CLEANUP(hs_load_settings_free) = {0};
    hs_status status = join_items(&config->values[HS_CFG_DEVICES], &s.devices, err);
    if (!status) {
        status = join_items(&config->values[HS_CFG_RPC], &s.rpc_servers, err);
    }
    const char *template_file = hs_config_str(config, HS_CFG_CHAT_TEMPLATE_FILE);
    if (!status && template_file && *template_file) {
        status = read_template(template_file, &s.chat_template, err);
    }
    if (status) {
        return status;
    }
    hs_model_params_defaults(&s.model);
    s.model.n_ctx = (int32_t)hs_config_int(config, HS_CFG_CTX_SIZE);
    s.model.n_batch = (int32_t)hs_config_int(config, HS_CFG_BATCH_SIZE);
    s.model.n_ubatch = (int32_t)hs_config_int(config, HS_CFG_UBATCH_SIZE);
    s.model.n_seq_max = (int32_t)hs_config_int(config, HS_CFG_MAX_SEQUENCES);
    s.model.n_threads = (int32_t)hs_config_int(config, HS_CFG_THREADS);
    s.model.n_threads_batch = (int32_t)hs_config_int(config, HS_CFG_THREADS_BATCH);
    s.model.n_gpu_layers = (int32_t)hs_config_int(config, HS_CFG_GPU_LAYERS);
    s.model.use_mmap = hs_config_bool(config, HS_CFG_MMAP);
    s.model.use_mlock = hs_config_bool(config, HS_CFG_MLOCK);
    s.model.flash_attn = flash_attn(config);
    s.model.lora_engine = lora_engine(config);
    s.model.adapter_weights = adapter_weights(config);
    const char *kv_type = hs_config_str(config, HS_CFG_KV_TYPE);
    s.model.kv_type = kv_type && strcmp(kv_type, "q8_0") == 0 ? HS_KV_Q8_0 : HS_KV_F16;
    s.model.devices = s.devices;
    s.model.rpc_servers = s.rpc_servers;
    s.model.chat_template = s.chat_template;
    *ret = s;
    s = (struct hs_load_settings){0};
    return HS_OK;
}

void hs_load_settings_free(struct hs_load_settings *settings)
{
    hs_free(settings->devices);
    hs_free(settings->rpc_servers);
    hs_free(settings->chat_template);
    *settings = (struct hs_load_settings){0};
}

enum hs_overflow hs_config_overflow(const struct hs_config *config)
{
    const char *text = hs_config_str(config, HS_CFG_OVERFLOW);
    return text && strcmp(text, "shift") == 0 ? HS_OVERFLOW_SHIFT : HS_OVERFLOW_STOP;
}

/* Whether the settings decide: somebody gave it, or the session has nothing to say. */
static bool decides(const struct hs_config *config, enum hs_config_id id, bool has_saved)
{
    return !has_saved || config->values[id].source != HS_CONFIG_DEFAULT;
}

static void fill_sampling(const struct hs_config *config, bool has_saved,
                          struct hs_sampling *sampling)
{
    if (decides(config, HS_CFG_TEMP, has_saved)) {
        sampling->temp = (float)hs_config_float(config, HS_CFG_TEMP);
    }
    if (decides(config, HS_CFG_TOP_K, has_saved)) {
        sampling->top_k = (int32_t)hs_config_int(config, HS_CFG_TOP_K);
    }
    if (decides(config, HS_CFG_TOP_P, has_saved)) {
        sampling->top_p = (float)hs_config_float(config, HS_CFG_TOP_P);
    }
    if (decides(config, HS_CFG_MIN_P, has_saved)) {
        sampling->min_p = (float)hs_config_float(config, HS_CFG_MIN_P);
    }
    if (decides(config, HS_CFG_REPEAT_PENALTY, has_saved)) {
        sampling->repeat_penalty = (float)hs_config_float(config, HS_CFG_REPEAT_PENALTY);
    }
    if (decides(config, HS_CFG_REPEAT_LAST_N, has_saved)) {
        sampling->repeat_last_n = (int32_t)hs_config_int(config, HS_CFG_REPEAT_LAST_N);
    }
    if (decides(config, HS_CFG_SEED, has_saved)) {
        int64_t seed = hs_config_int(config, HS_CFG_SEED);
        sampling->seed = seed < 0 ? HS_SEED_RANDOM : (uint32_t)seed;
    }
}

void hs_generate_params_fill(const struct hs_config *config, const struct hs_generate_params *saved,
                             struct hs_generate_params *ret_params)
{
    hs_generate_params_defaults(ret_params);
    if (saved) {
        ret_params->sampling = saved->sampling;
    }
    fill_sampling(config, saved != NULL, &ret_params->sampling);
    const struct hs_config_value *stop = &config->values[HS_CFG_STOP];
    ret_params->stop = (const char *const *)stop->items;
    ret_params->n_stop = (int32_t)stop->n_items;
    ret_params->max_tokens = (int32_t)hs_config_int(config, HS_CFG_MAX_TOKENS);
    ret_params->enable_thinking = hs_config_bool(config, HS_CFG_THINK);
    ret_params->split_reasoning = true;
    ret_params->cache_prompt = true;
    ret_params->overflow = hs_config_overflow(config);
}
