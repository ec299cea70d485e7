#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"
#include "llama_lora.h"

struct progress {
    hs_progress_fn fn;
    void *user;
    bool is_cancelled;
};

struct load_call {
    const char *path;
    struct llama_model_params params;
    struct llama_model *model;
};

static bool report_progress(float fraction, void *user)
{
    struct progress *progress = user;
    if (progress->fn && !progress->fn(fraction, progress->user)) {
        progress->is_cancelled = true;
    }
    return !progress->is_cancelled;
}

static void load_file(void *arg)
{
    struct load_call *call = arg;
    call->model = llama_model_load_from_file(call->path, call->params);
}

struct llama_model_params hs_llama_model_params(const struct hs_model_params *params,
                                                ggml_backend_dev_t *devices, int32_t n_gpu_layers)
{
    struct llama_model_params llama = llama_model_default_params();
    llama.devices = devices;
    llama.n_gpu_layers = n_gpu_layers;
    if (params->use_mmap) {
        llama.load_mode = params->use_mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP;
    } else {
        llama.load_mode = params->use_mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE;
    }
    return llama;
}

/* Turn what llama.cpp logged while it failed into one status and message. */
static hs_status load_error(const char *path, const struct hs_llama_capture *log,
                            struct hs_error *err)
{
    const char *why = hs_llama_capture_essence(log);
    if (hs_llama_capture_has(log, "unknown model architecture") ||
        hs_llama_capture_has(log, "unknown tokenizer") ||
        hs_llama_capture_has(log, "unknown pre-tokenizer") ||
        hs_llama_capture_has(log, "CLIP cannot be used")) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL, "'%s': %s", path, why);
        hs_error_hint(err, "this build has llama.cpp %s; a newer one may know the model",
                      llama_version());
        return HS_UNSUPPORTED_MODEL;
    }
    if (hs_llama_capture_has(log, "unable to allocate") ||
        hs_llama_capture_has(log, "failed to allocate") || hs_llama_capture_has(log, "bad_alloc") ||
        hs_llama_capture_has(log, "out of memory")) {
        hs_error_set(err, HS_OUT_OF_MEMORY, "'%s' does not fit in memory: %s", path, why);
        hs_error_hint(err, "choose a smaller model or quantisation, or offload fewer GPU layers");
        return HS_OUT_OF_MEMORY;
    }
    hs_error_set(err, HS_BAD_FORMAT, "'%s' cannot be loaded: %s", path,
                 *why ? why : "llama.cpp gave no reason");
    hs_error_hint(err, "the file may be damaged: check it with `hyprstream model verify`");
    return HS_BAD_FORMAT;
}

static hs_status load_weights(const char *path, const struct hs_model_params *params,
                              struct load_call *call, struct hs_error *err)
{
    struct progress progress = {.fn = params->progress, .user = params->progress_user};
    call->path = path;
    call->params.progress_callback = report_progress;
    call->params.progress_callback_user_data = &progress;

    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    hs_status status = hs_cxx_guard(load_file, call, "loading the model", err);
    hs_llama_log_capture(NULL);
    if (status != HS_OK) {
        hs_error_prefix(err, "'%s'", path);
        return status;
    }
    if (call->model) {
        return HS_OK;
    }
    if (progress.is_cancelled) {
        return hs_error_set(err, HS_CANCELLED, "loading '%s' was cancelled", path);
    }
    return load_error(path, &log, err);
}

/* llama.cpp names a size after the number of layers, and wrongly: "llama 256M Q4_1" for 135 million
 * parameters. So its text is kept from the second blank on, and the size is counted. */
static void describe(const struct llama_model *llama, struct hs_rt_model_info *info)
{
    char text[128];
    llama_model_desc(llama, text, sizeof text);
    const char *blank = strchr(text, ' ');
    const char *type = blank == NULL ? NULL : strchr(blank + 1, ' ');
    double n = (double)info->n_params;
    const char *unit = "\0KMBT";
    while (n >= 999.5 && unit[1] != '\0') {
        n /= 1000;
        unit++;
    }
    char scale[2] = {*unit, '\0'};
    snprintf(info->description, sizeof info->description, "%s %.*f%s%s", info->architecture,
             n < 9.95 && *unit != '\0' ? 1 : 0, n, scale, type == NULL ? "" : type);
}

static void fill_info(hs_rt_model *model, const ggml_backend_dev_t *devices, int32_t n_gpu_layers)
{
    struct hs_rt_model_info *info = &model->info;
    const struct llama_model *llama = model->llama;
    llama_model_meta_val_str(llama, "general.architecture", info->architecture,
                             sizeof(info->architecture));
    info->n_params = llama_model_n_params(llama);
    describe(llama, info);
    info->weights_bytes = llama_model_size(llama);
    info->n_ctx_train = llama_model_n_ctx_train(llama);
    info->n_vocab = model->n_vocab;
    info->n_embd = llama_model_n_embd(llama);
    info->n_layer = llama_model_n_layer(llama);
    info->n_swa = llama_model_n_swa(llama);
    /* llama.cpp counts the output layer as one more. */
    int32_t n_all = info->n_layer + 1;
    if (hs_llama_gpu_free(devices) == 0) {
        info->n_gpu_layers = 0;
    } else {
        info->n_gpu_layers = n_gpu_layers < n_all ? n_gpu_layers : n_all;
    }
    hs_llama_device_names(devices, info->n_gpu_layers, info->n_layer, info->backend,
                          sizeof(info->backend));
    info->bos = llama_vocab_bos(model->vocab);
    info->eos = llama_vocab_eos(model->vocab);
    info->eot = llama_vocab_eot(model->vocab);
    info->add_bos = llama_vocab_get_add_bos(model->vocab) && info->bos >= 0;
    info->add_eos = llama_vocab_get_add_eos(model->vocab) && info->eos >= 0;
    info->is_recurrent = llama_model_is_recurrent(llama) || llama_model_is_hybrid(llama);
    info->has_encoder = llama_model_has_encoder(llama);
    info->has_decoder = llama_model_has_decoder(llama);
    const char *source = llama_model_chat_template(llama, NULL);
    hs_llama_embed_info(llama, info);
    info->can_infill = hs_llama_can_infill(model->vocab);
    info->has_chat_template = model->chat_template || (source && *source);
}

/* What llama.cpp would answer with an abort later must be refused here. */
static hs_status check_vocab(const char *path, const struct llama_vocab *vocab,
                             struct hs_error *err)
{
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE || llama_vocab_n_tokens(vocab) <= 0) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL, "'%s' has no vocabulary to make text with", path);
        hs_error_hint(err, "use a language model with its tokenizer inside the file");
        return HS_UNSUPPORTED_MODEL;
    }
    return HS_OK;
}

static hs_status resolve_gpu_layers(const char *path, const struct hs_model_params *params,
                                    int32_t *ret_n_gpu_layers, struct hs_error *err)
{
    if (params->n_gpu_layers >= 0) {
        *ret_n_gpu_layers = params->n_gpu_layers;
        return HS_OK;
    }
    struct hs_rt_memory memory;
    return hs_llama_estimate(path, params, NULL, &memory, NULL, ret_n_gpu_layers, err);
}

/* Looked for once: llama.cpp's answer for one token is a search. */
static hs_status list_eog(hs_rt_model *model, struct hs_error *err)
{
    struct hs_buf eog = HS_BUF_INIT(sizeof(int32_t) * (size_t)model->n_vocab);
    for (int32_t token = 0; token < model->n_vocab; token++) {
        if (llama_vocab_is_eog(model->vocab, token) &&
            hs_buf_append(&eog, &token, sizeof(token)) != HS_OK) {
            hs_buf_free(&eog);
            return hs_error_nomem(err, "end tokens");
        }
    }
    model->n_eog = (int32_t)(eog.len / sizeof(int32_t));
    model->eog = (int32_t *)(void *)eog.data;
    return HS_OK;
}

static hs_status load_model(const char *path, const struct hs_model_params *params,
                            hs_rt_model *model, struct hs_error *err)
{
    hs_status status = hs_llama_rpc_servers(params->rpc_servers, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_freep) ggml_backend_dev_t *devices = NULL;
    status = hs_llama_devices(params->devices, &devices, err);
    if (status != HS_OK) {
        return status;
    }
    int32_t n_gpu_layers = 0;
    status = resolve_gpu_layers(path, params, &n_gpu_layers, err);
    if (status != HS_OK) {
        return status;
    }
    struct load_call call = {.params = hs_llama_model_params(params, devices, n_gpu_layers)};
    status = load_weights(path, params, &call, err);
    if (status != HS_OK) {
        return status;
    }
    model->llama = call.model;
    model->vocab = llama_model_get_vocab(model->llama);
    status = check_vocab(path, model->vocab, err);
    if (status != HS_OK) {
        return status;
    }
    model->n_vocab = llama_vocab_n_tokens(model->vocab);
    model->path = hs_strdup(path);
    model->chat_template = hs_strdup(params->chat_template);
    if (!model->path || (params->chat_template && !model->chat_template)) {
        return hs_error_nomem(err, "model");
    }
    status = list_eog(model, err);
    if (status != HS_OK) {
        return status;
    }
    fill_info(model, devices, n_gpu_layers);
    status = hs_llama_lora_new(model, params->adapter_weights, err);
    if (status != HS_OK) {
        return status;
    }
    return hs_chat_templates_new(&model->templates, err);
}

hs_status hs_llama_model_load(const char *path, const struct hs_model_params *params,
                              hs_rt_model **ret_model, struct hs_error *err)
{
    hs_status status = hs_llama_init(NULL, err);
    if (status != HS_OK) {
        return status;
    }
    hs_rt_model *model = hs_calloc(1, sizeof(*model));
    if (!model) {
        return hs_error_nomem(err, "model");
    }
    status = load_model(path, params, model, err);
    if (status != HS_OK) {
        hs_llama_model_free(model);
        return status;
    }
    *ret_model = model;
    return HS_OK;
}

void hs_llama_model_free(hs_rt_model *model)
{
    if (!model) {
        return;
    }
    hs_chat_templates_free(model->templates);
    llama_model_free(model->llama);
    hs_llama_lora_free(model->lora);
    hs_free(model->chat_template);
    hs_free(model->eog);
    hs_free(model->path);
    hs_free(model);
}

void hs_llama_model_info(const hs_rt_model *model, struct hs_rt_model_info *ret_info)
{
    *ret_info = model->info;
}
