#include "model_loader.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "embedder.h"
#include "model_fit.h"
#include "models/families.h"
#include "route_inputs.h"
#include "storage/gguf.h"
#include "worker.h"

#define DEFAULT_MAX_QUEUE 256
#define DEFAULT_PREFILL_CHUNK 512
#define DEFAULT_PREFILL_MS 200
/* Longest input that a chat model embeds: more would double the memory of a long context for a use
 * that is rare. */
#define CHAT_EMBED_MAX 8192

hs_status hs_model_id_from_path(const char *path, char ret_id[HS_ID_MAX], struct hs_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".gguf") == 0) {
        len -= 5;
    }
    if (len == 0 || len >= HS_ID_MAX) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' gives no model id of 1 to %d bytes", name,
                     HS_ID_MAX - 1);
        hs_error_hint(err, "name the model when loading it");
        return HS_INVALID_ARGUMENT;
    }
    memcpy(ret_id, name, len);
    ret_id[len] = '\0';
    return HS_OK;
}

/* What the header says, before anything is loaded. */
struct header {
    uint64_t n_ctx_train;
    char fingerprint[65];
    bool is_encoder;   /* a family that does not generate */
    bool says_pooling; /* made for embeddings */
};

/* Out: ret_base, what adapters of this model are checked against. */
static hs_status check_file(const char *path, struct header *ret_header, hs_lora_base **ret_base,
                            struct hs_error *err)
{
    hs_gguf *gguf = NULL;
    hs_status status = hs_gguf_open(path, &gguf, err);
    if (status != HS_OK) {
        return status;
    }
    struct header header = {0};
    status = hs_gguf_check_model(gguf, path, err);
    char *architecture = status == HS_OK ? hs_gguf_strdup(gguf, "general.architecture") : NULL;
    const struct hs_model_family *family =
        architecture == NULL ? NULL : hs_model_family_find(architecture);
    header.is_encoder = family != NULL && !family->is_decoder;
    if (status == HS_OK) {
        status = hs_gguf_fingerprint(gguf, path, header.fingerprint, err);
    }
    if (status == HS_OK) {
        uint64_t pooling = 0;
        (void)hs_gguf_arch_u64(gguf, "context_length", &header.n_ctx_train);
        header.says_pooling = hs_gguf_arch_u64(gguf, "pooling_type", &pooling) && pooling > 0;
        *ret_header = header;
        uint64_t n_parts = 0;
        bool is_split = hs_gguf_u64(gguf, "split.count", &n_parts) && n_parts > 1;
        status = is_split ? hs_lora_base_open(path, ret_base, err)
                          : hs_lora_base_new(gguf, header.fingerprint, ret_base, err);
    }
    hs_free(architecture);
    hs_gguf_free(gguf);
    return status;
}

/* KV of one key is never used under another: weights, those of adapters as they are kept, KV type,
 * attention, library. */
static hs_status make_cache_key(struct hs_model *model, const struct hs_rt_context_params *context,
                                const char *version, struct hs_error *err)
{
    HS_CLEANUP(hs_freep)
    char *text = hs_asprintf("%s|kv=%d|fa=%d|%s %s|adapters=%s", model->info.fingerprint,
                             (int)context->kv_type, (int)context->flash_attn, model->rt->name,
                             version == NULL ? "" : version,
                             hs_adapter_weights_name(model->info.adapter_weights));
    return text == NULL ? hs_error_nomem(err, "cache key")
                        : hs_sha256_text(text, model->cache_key, err);
}

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from);
}

static void fill_info(struct hs_model *model, const struct hs_model_load *load,
                      const struct hs_fit *fit, const struct header *header)
{
    const struct hs_rt_model_info *rt_info = &model->rt_info;
    struct hs_model_info *info = &model->info;
    copy_text(info->path, sizeof(info->path), load->path);
    copy_text(info->architecture, sizeof(info->architecture), rt_info->architecture);
    copy_text(info->description, sizeof(info->description), rt_info->description);
    copy_text(info->backend, sizeof(info->backend), rt_info->backend);
    copy_text(info->fingerprint, sizeof(info->fingerprint), header->fingerprint);
    info->n_params = rt_info->n_params;
    info->n_ctx_train = rt_info->n_ctx_train;
    info->n_vocab = rt_info->n_vocab;
    info->n_embd = rt_info->n_embd;
    info->n_layer = rt_info->n_layer;
    info->n_gpu_layers = rt_info->n_gpu_layers;
    info->has_chat_template = rt_info->has_chat_template;
    info->can_infill = rt_info->can_infill;
    info->can_rank = rt_info->pooling == HS_RT_POOLING_RANK;
    info->n_embedding = rt_info->n_embd_out;
    info->n_seq_max = fit->context.n_seq_max;
    info->n_threads = fit->context.n_threads;
    info->adapter_weights = load->params->adapter_weights;
}

/* A context that is not asked for leaves room for adapters, unless the model then fits no more. */
static hs_status fit_context(const struct hs_model_load *load, const struct header *header,
                             struct hs_fit *ret_fit, struct hs_error *err)
{
    struct hs_model_params params = *load->params;
    if (params.n_ctx == 0 && load->engine->adapter_budget_bytes > 0) {
        struct hs_error error;
        params.reserve_bytes += load->engine->adapter_budget_bytes;
        hs_status status =
            hs_model_fit(load->rt, load->path, &params, header->n_ctx_train, ret_fit, &error);
        if (status == HS_OK) {
            return HS_OK;
        }
    }
    return hs_model_fit(load->rt, load->path, load->params, header->n_ctx_train, ret_fit, err);
}

hs_status hs_model_estimate(const struct hs_model_load *load, struct hs_rt_memory *ret_memory,
                            struct hs_error *err)
{
    hs_gguf *gguf = NULL;
    struct header header = {0};
    const char *version = NULL;
    struct hs_fit fit = {0};
    hs_status status = hs_gguf_open(load->path, &gguf, err);
    if (status == HS_OK) {
        status = hs_gguf_check_model(gguf, load->path, err);
        (void)hs_gguf_arch_u64(gguf, "context_length", &header.n_ctx_train);
        hs_gguf_free(gguf);
    }
    status = status != HS_OK ? status : load->rt->init(&version, err);
    status = status != HS_OK ? status : fit_context(load, &header, &fit, err);
    if (status == HS_OK) {
        *ret_memory = fit.memory;
    }
    return status;
}

static hs_status load_weights(const struct hs_model_load *load, const struct hs_fit *fit,
                              struct hs_model *model, struct hs_error *err)
{
    struct hs_model_params params = *load->params;
    params.n_gpu_layers = fit->n_gpu_layers;
    hs_status status = model->rt->model_load(load->path, &params, &model->rt_model, err);
    if (status != HS_OK) {
        return status;
    }
    model->rt->model_info(model->rt_model, &model->rt_info);
    if (model->rt_info.has_encoder && model->rt_info.has_decoder) {
        return hs_error_set(err, HS_UNSUPPORTED_MODEL,
                            "'%s' models have an encoder before their decoder, which is not "
                            "supported",
                            model->rt_info.architecture);
    }
    if (load->params->chat_template != NULL) {
        model->chat_template = hs_strdup(load->params->chat_template);
        if (model->chat_template == NULL) {
            return hs_error_nomem(err, "chat template");
        }
    }
    return HS_OK;
}

static int32_t queue_of(const struct hs_engine_params *engine)
{
    return engine->max_queue > 0 ? engine->max_queue : DEFAULT_MAX_QUEUE;
}

/* Half of the queue, rounded up, unless it is told. */
static int32_t client_queue_of(const struct hs_engine_params *engine)
{
    return engine->max_client_queue > 0 ? engine->max_client_queue : (queue_of(engine) + 1) / 2;
}

/* A model that only its context tells to be none that generates is here for embeddings, too. */
static hs_status start_worker(const struct hs_model_load *load, const struct hs_fit *fit,
                              bool is_encoder, struct hs_model *model, struct hs_error *err)
{
    const struct hs_engine_params *engine = load->engine;
    hs_rt_context *context = NULL;
    hs_status status = is_encoder
                           ? HS_UNSUPPORTED_MODEL
                           : model->rt->context_new(model->rt_model, &fit->context, &context, err);
    if (status == HS_UNSUPPORTED_MODEL) {
        int32_t n_ctx_train = model->info.n_ctx_train;
        model->info.memory.weights_bytes = model->rt_info.weights_bytes;
        model->info.n_ctx =
            n_ctx_train > 0 && n_ctx_train < fit->context.n_ctx ? n_ctx_train : fit->context.n_ctx;
        return HS_OK;
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_rt_memory memory = {0};
    model->rt->context_memory(context, &memory);
    model->info.memory = (struct hs_memory){.weights_bytes = memory.weights_bytes,
                                            .kv_bytes = memory.kv_bytes,
                                            .compute_bytes = memory.compute_bytes};
    model->info.n_ctx = model->rt->context_n_ctx(context);
    struct hs_worker_params params = {
        .model = model,
        .context = context,
        .n_batch = fit->context.n_batch,
        .n_seq_max = fit->context.n_seq_max,
        .max_queue = queue_of(engine),
        .max_client_queue = client_queue_of(engine),
        .prefill_chunk = engine->prefill_chunk > 0 ? engine->prefill_chunk : DEFAULT_PREFILL_CHUNK,
        .prefill_ms = engine->prefill_ms != 0 ? engine->prefill_ms : DEFAULT_PREFILL_MS,
        .park_budget_bytes = engine->park_budget_bytes,
    };
    status = hs_worker_start(&params, &model->worker, err);
    if (status != HS_OK) {
        model->rt->context_free(context);
    }
    model->info.can_generate = status == HS_OK;
    return status;
}

static hs_status start_embedder(const struct hs_model_load *load, const struct hs_fit *fit,
                                const struct header *header, struct hs_model *model,
                                struct hs_error *err)
{
    struct hs_embedder_params params = {
        .model = model,
        .context = fit->context,
        .max_queue = queue_of(load->engine),
        .max_client_queue = client_queue_of(load->engine),
    };
    bool is_chat = model->info.can_generate && !header->says_pooling;
    int32_t n_ctx = model->info.n_ctx;
    params.context.n_ctx = is_chat && n_ctx > CHAT_EMBED_MAX ? CHAT_EMBED_MAX : n_ctx;
    return hs_embedder_new(&params, &model->embedder, err);
}

static void log_loaded(const struct hs_model *model)
{
    const struct hs_model_info *info = &model->info;
    const double mib = 1024.0 * 1024.0;
    hs_log(HS_LOG_INFO, "inference",
           "model '%s' (%s) on %s: context %d, %d sequences, %d threads, %d GPU layers; "
           "weights %.0f MiB, KV %.0f MiB, compute %.0f MiB",
           info->id, info->description, info->backend, info->n_ctx, info->n_seq_max,
           info->n_threads, info->n_gpu_layers, (double)info->memory.weights_bytes / mib,
           (double)info->memory.kv_bytes / mib, (double)info->memory.compute_bytes / mib);
    if (!info->can_generate) {
        hs_log(HS_LOG_INFO, "inference", "model '%s' does not generate text: it embeds or ranks",
               info->id);
    } else if (hs_model_is_plain(model) && model->chat_template == NULL) {
        hs_log(HS_LOG_WARN, "inference",
               "'%s' has no chat template: a plain one is used, answers may be poor", info->id);
    }
    if (info->n_ctx_train > 0 && info->n_ctx > (info->n_ctx_train + 255) / 256 * 256) {
        hs_log(HS_LOG_WARN, "inference",
               "the context of %d is beyond the %d tokens model '%s' was trained with", info->n_ctx,
               info->n_ctx_train, info->id);
    }
}

hs_status hs_model_load(const struct hs_model_load *load, struct hs_model *model,
                        struct hs_error *err)
{
    model->rt = load->rt;
    const char *version = NULL;
    struct header header = {0};
    struct hs_fit fit = {0};
    hs_status status = hs_model_params_check(load->params, err);
    if (status == HS_OK) {
        status = check_file(load->path, &header, &model->lora_base, err);
    }
    if (status == HS_OK) {
        status = load->rt->init(&version, err);
    }
    if (status == HS_OK) {
        status = fit_context(load, &header, &fit, err);
    }
    if (status == HS_OK) {
        status = load_weights(load, &fit, model, err);
    }
    if (status == HS_OK) {
        fit.context.has_adapters =
            load->engine->adapter_budget_bytes > 0 && load->rt->adapter_new != NULL;
        model->context_params = fit.context;
        fill_info(model, load, &fit, &header);
        status = make_cache_key(model, &fit.context, version, err);
    }
    if (status == HS_OK) {
        status = start_worker(load, &fit, header.is_encoder, model, err);
    }
    if (status == HS_OK) {
        status = start_embedder(load, &fit, &header, model, err);
    }
    if (status != HS_OK) {
        hs_model_unload(model);
        return status;
    }
    log_loaded(model);
    return HS_OK;
}

hs_status hs_model_check_generates(const struct hs_model *model, struct hs_error *err)
{
    if (model->worker != NULL) {
        return HS_OK;
    }
    hs_error_set(err, HS_UNSUPPORTED_MODEL, "model '%s' (%s) does not generate text",
                 model->info.id, model->info.architecture);
    hs_error_hint(err, model->info.can_rank ? "use it to rank documents (POST /v1/rerank)"
                                            : "use it for embeddings (POST /v1/embeddings)");
    return HS_UNSUPPORTED_MODEL;
}

void hs_model_unload(struct hs_model *model)
{
    hs_embedder_free(model->embedder);
    model->embedder = NULL;
    hs_worker_free(model->worker);
    model->worker = NULL;
    if (model->rt_model != NULL) {
        model->rt->model_free(model->rt_model);
        model->rt_model = NULL;
    }
    hs_lora_base_free(model->lora_base);
    model->lora_base = NULL;
    hs_free(model->chat_template);
    model->chat_template = NULL;
    hs_free(model->fused);
    model->fused = NULL;
    hs_route_inputs_free(model->route_inputs);
    model->route_inputs = NULL;
}
