/*
 * How much memory a load takes, before and after.
 *
 * Before: a bound from the header's numbers, cheap enough for every start. KV is exact for plain
 * attention (a window makes it smaller, and is not counted); the compute buffer is bounded from
 * above by what one micro-batch holds at a time. Only when the bound does not fit, or cannot be
 * computed, is llama.cpp asked to lay everything out without allocating it, which costs as much as
 * a small model's load.
 *
 * After: llama.cpp's own figures where they can be had (built with its sources), else the bound.
 */
#include <string.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"
#include "gguf_skim.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"
#include "memory_bound.h"

/* What llama.cpp keeps about a cell is allocated even when the cell is not. */
#define BYTES_ABOUT_A_CELL 128u

struct layout_call {
    const char *path;
    struct llama_model_params model_params;
    struct llama_context_params context_params;
    struct hs_rt_memory memory;
    bool is_known;
};

static void lay_out(void *arg)
{
    struct layout_call *call = arg;
    struct llama_model *model = llama_model_load_from_file(call->path, call->model_params);
    if (!model) {
        return;
    }
    struct llama_context *context = llama_init_from_model(model, call->context_params);
    call->is_known = context && hs_cxx_memory(context, &call->memory);
    llama_free(context);
    llama_model_free(model);
}

/* Figures as llama.cpp would allocate them; false when it does not say. */
static bool measure_layout(const char *path, const struct hs_model_params *params,
                           const struct hs_rt_context_params *context, ggml_backend_dev_t *devices,
                           int32_t n_gpu_layers, struct hs_rt_memory *ret_memory)
{
    struct layout_call call = {.path = path,
                               .model_params = hs_llama_model_params(params, devices, n_gpu_layers),
                               .context_params = hs_llama_context_params(context)};
    call.model_params.no_alloc = true;
    call.model_params.load_mode = LLAMA_LOAD_MODE_NONE;
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    hs_status status = hs_cxx_guard(lay_out, &call, "memory layout", NULL);
    hs_llama_log_capture(NULL);
    if (status != HS_OK || !call.is_known) {
        return false;
    }
    ret_memory->weights_bytes = call.memory.weights_bytes;
    ret_memory->kv_bytes = call.memory.kv_bytes;
    ret_memory->compute_bytes = call.memory.compute_bytes;
    ret_memory->host_bytes = call.memory.host_bytes;
    return true;
}

hs_status hs_llama_estimate(const char *path, const struct hs_model_params *params,
                            const struct hs_rt_context_params *context,
                            struct hs_rt_memory *ret_memory, int32_t *ret_n_ctx_train,
                            int32_t *ret_n_gpu_layers, struct hs_error *err)
{
    struct hs_gguf_skim skim;
    hs_status status = hs_gguf_skim(path, &skim, err);
    if (status == HS_OK) {
        status = hs_llama_init(NULL, err);
    }
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_freep) ggml_backend_dev_t *devices = NULL;
    status = hs_llama_devices(params->devices, &devices, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_rt_memory memory = {0};
    hs_memory_bound(&skim, context, &memory);
    memory.host_available_bytes = hs_machine_memory_available();
    memory.device_free_bytes = hs_llama_gpu_free(devices);
    int32_t n_gpu_layers = hs_memory_gpu_layers(&skim, &memory, params->n_gpu_layers);
    memory.host_bytes = hs_memory_host_share(&skim, &memory, n_gpu_layers);
    bool is_doubtful = skim.has_other_state || memory.host_bytes > memory.host_available_bytes;
    bool can_lay_out =
        context && (uint64_t)context->n_ctx * BYTES_ABOUT_A_CELL < memory.host_available_bytes / 8;
    if (is_doubtful && can_lay_out) {
        measure_layout(path, params, context, devices, n_gpu_layers, &memory);
    }
    *ret_memory = memory;
    if (ret_n_ctx_train) {
        *ret_n_ctx_train = skim.n_ctx_train <= INT32_MAX ? (int32_t)skim.n_ctx_train : INT32_MAX;
    }
    if (ret_n_gpu_layers) {
        *ret_n_gpu_layers = n_gpu_layers;
    }
    return HS_OK;
}

/* The header's numbers as the loaded model tells them. */
static struct hs_gguf_skim skim_of(const hs_rt_model *model)
{
    const struct hs_rt_model_info *info = &model->info;
    uint64_t n_head = (uint64_t)llama_model_n_head(model->llama);
    uint64_t head_size = n_head ? (uint64_t)info->n_embd / n_head : 0;
    return (struct hs_gguf_skim){
        .weights_bytes = info->weights_bytes,
        .n_layer = (uint64_t)info->n_layer,
        .n_embd = (uint64_t)info->n_embd,
        .n_head = n_head,
        .n_vocab = (uint64_t)info->n_vocab,
        .n_head_kv_sum = (uint64_t)llama_model_n_head_kv(model->llama) * (uint64_t)info->n_layer,
        .key_length = head_size,
        .value_length = head_size,
    };
}

static hs_status no_room(const struct hs_rt_context_params *params, uint64_t needed,
                         uint64_t available, struct hs_error *err)
{
    const uint64_t mib = 1u << 20;
    hs_error_set(err, HS_MODEL_TOO_LARGE,
                 "a context of %d tokens needs %llu MiB; the machine has %llu MiB left",
                 params->n_ctx, (unsigned long long)(needed / mib),
                 (unsigned long long)(available / mib));
    hs_error_hint(err, "lower --ctx-size, or use KV type q8_0");
    return HS_MODEL_TOO_LARGE;
}

hs_status hs_llama_check_room(const hs_rt_model *model, const struct hs_rt_context_params *params,
                              struct hs_error *err)
{
    uint64_t available = hs_machine_memory_available();
    uint64_t about_cells = (uint64_t)params->n_ctx * BYTES_ABOUT_A_CELL;
    struct hs_gguf_skim skim = skim_of(model);
    struct hs_rt_memory memory = {0};
    hs_memory_bound(&skim, params, &memory);
    memory.host_bytes = hs_memory_host_share(&skim, &memory, model->info.n_gpu_layers);
    if (available == 0 || memory.host_bytes + about_cells <= available) {
        return HS_OK;
    }
    if (about_cells > available / 8) {
        return no_room(params, about_cells + memory.kv_bytes, available, err);
    }
    /* The bound says no; a window or compressed KV may still fit. */
    struct hs_model_params load = {.use_mmap = true};
    if (!measure_layout(model->path, &load, params, NULL, model->info.n_gpu_layers, &memory)) {
        return HS_OK;
    }
    /* Weights are in memory already. */
    uint64_t needed =
        memory.host_bytes > memory.weights_bytes ? memory.host_bytes - memory.weights_bytes : 0;
    return needed > available ? no_room(params, needed, available, err) : HS_OK;
}

void hs_llama_context_memory(const hs_rt_context *context, struct hs_rt_memory *ret_memory)
{
    struct hs_rt_memory memory = {0};
    if (!hs_cxx_memory(context->llama, &memory)) {
        struct hs_gguf_skim skim = skim_of(context->model);
        hs_memory_bound(&skim, &context->params, &memory);
        memory.host_bytes = hs_memory_host_share(&skim, &memory, context->model->info.n_gpu_layers);
    }
    memory.host_available_bytes = hs_machine_memory_available();
    memory.device_free_bytes = hs_llama_gpu_free(NULL);
    *ret_memory = memory;
}
