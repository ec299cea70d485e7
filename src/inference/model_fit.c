#include "model_fit.h"

#include "base/error.h"
#include "base/log.h"
#include "base/machine.h"

#define DEFAULT_N_CTX 4096
#define MAX_N_CTX (1 << 24)
#define MIN_FITTED_CTX 512 /* a smaller context is no use as a default */
#define CTX_STEP 256       /* llama.cpp rounds up to it */
#define DEFAULT_N_BATCH 2048
#define DEFAULT_N_UBATCH 512
#define DEFAULT_N_SEQ 64
#define MAX_N_SEQ 256
#define MIB ((uint64_t)1 << 20)

uint64_t hs_model_fit_margin(uint64_t available_bytes)
{
    uint64_t part = available_bytes / 16;
    return part > 64 * MIB ? part : 64 * MIB;
}

hs_status hs_model_params_check(const struct hs_model_params *params, struct hs_error *err)
{
    const struct {
        const char *name;
        int64_t value, min, max;
    } ranges[] = {
        {"n_ctx", params->n_ctx, 0, MAX_N_CTX},
        {"n_batch", params->n_batch, 0, 1 << 20},
        {"n_ubatch", params->n_ubatch, 0, 1 << 20},
        {"n_seq_max", params->n_seq_max, 0, MAX_N_SEQ},
        {"n_threads", params->n_threads, 0, 1024},
        {"n_threads_batch", params->n_threads_batch, 0, 1024},
        {"n_gpu_layers", params->n_gpu_layers, -1, 1 << 16},
        {"flash_attn", params->flash_attn, HS_FLASH_ATTN_AUTO, HS_FLASH_ATTN_ON},
        {"kv_type", params->kv_type, HS_KV_F16, HS_KV_Q8_0},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "%s is %lld; it must be %lld to %lld",
                                ranges[i].name, (long long)ranges[i].value,
                                (long long)ranges[i].min, (long long)ranges[i].max);
        }
    }
    return HS_OK;
}

static int32_t or_default(int32_t value, int32_t fallback)
{
    return value > 0 ? value : fallback;
}

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static void set_context(const struct hs_model_params *params, int32_t n_ctx, int32_t n_seq_max,
                        struct hs_rt_context_params *context)
{
    int32_t n_threads = or_default(params->n_threads, hs_machine_physical_cores());
    int32_t n_batch = or_default(params->n_batch, DEFAULT_N_BATCH);
    /* Every sequence should get its token in one call. */
    n_batch = n_batch < n_seq_max ? n_seq_max : n_batch;
    n_batch = min_i32(n_batch, n_ctx);
    *context = (struct hs_rt_context_params){
        .n_ctx = n_ctx,
        .n_batch = n_batch,
        .n_ubatch = min_i32(or_default(params->n_ubatch, DEFAULT_N_UBATCH), n_batch),
        .n_seq_max = n_seq_max,
        .n_threads = n_threads,
        .n_threads_batch = or_default(params->n_threads_batch, n_threads),
        .flash_attn = params->flash_attn,
        .kv_type = params->kv_type,
    };
}

static bool fits(const struct hs_rt_memory *memory)
{
    uint64_t total = memory->weights_bytes + memory->kv_bytes + memory->compute_bytes;
    uint64_t device = total > memory->host_bytes ? total - memory->host_bytes : 0;
    uint64_t available = memory->host_available_bytes;
    uint64_t margin = hs_model_fit_margin(available);
    return memory->host_bytes + margin <= available && device <= memory->device_free_bytes;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static hs_status too_large(const struct hs_fit *fit, bool asked, int32_t n_ctx_that_fits,
                           struct hs_error *err)
{
    const struct hs_rt_memory *memory = &fit->memory;
    hs_error_set(err, HS_MODEL_TOO_LARGE,
                 "the model needs %.2f GiB (weights %.2f, KV %.2f for %d tokens, compute %.2f); "
                 "%.2f GiB are available, of which %.2f are left alone",
                 gib(memory->weights_bytes + memory->kv_bytes + memory->compute_bytes),
                 gib(memory->weights_bytes), gib(memory->kv_bytes), fit->context.n_ctx,
                 gib(memory->compute_bytes),
                 gib(memory->host_available_bytes + memory->device_free_bytes),
                 gib(hs_model_fit_margin(memory->host_available_bytes)));
    if (asked && n_ctx_that_fits >= MIN_FITTED_CTX) {
        hs_error_hint(err, "use --ctx-size %d, or --kv-type q8_0", n_ctx_that_fits);
    } else {
        hs_error_hint(err, "use a smaller quantisation or model, or free memory");
    }
    return HS_MODEL_TOO_LARGE;
}

/* The largest context whose KV fits into what weights and compute leave; KV grows linearly. */
static int32_t shrink(const struct hs_fit *fit)
{
    const struct hs_rt_memory *memory = &fit->memory;
    uint64_t room = memory->host_available_bytes + memory->device_free_bytes;
    uint64_t fixed = memory->weights_bytes + memory->compute_bytes +
                     hs_model_fit_margin(memory->host_available_bytes);
    if (memory->kv_bytes == 0 || room <= fixed) {
        return 0;
    }
    double ratio = (double)(room - fixed) / (double)memory->kv_bytes;
    double n_ctx = ratio * (double)fit->context.n_ctx;
    double limit = (double)(fit->context.n_ctx - CTX_STEP);
    n_ctx = n_ctx < limit ? n_ctx : limit;
    return n_ctx < CTX_STEP ? 0 : (int32_t)n_ctx / CTX_STEP * CTX_STEP;
}

static hs_status try_fit(const struct hs_runtime *rt, const char *path,
                         const struct hs_model_params *params, int32_t n_ctx, int32_t n_seq_max,
                         struct hs_fit *fit, bool *ret_fits, struct hs_error *err)
{
    set_context(params, n_ctx, n_seq_max, &fit->context);
    hs_status status =
        rt->estimate(path, params, &fit->context, &fit->memory, NULL, &fit->n_gpu_layers, err);
    *ret_fits = status == HS_OK && fits(&fit->memory);
    return status;
}

/* No size was asked for: smaller contexts, then (states of recurrent models) fewer sequences. */
static hs_status fit_smaller(const struct hs_runtime *rt, const char *path,
                             const struct hs_model_params *params, struct hs_fit *fit,
                             struct hs_error *err)
{
    struct hs_fit first = *fit;
    int32_t n_seq_max = fit->context.n_seq_max;
    int32_t n_ctx = fit->context.n_ctx;
    bool is_fitting = false;
    for (int round = 0; round < 8 && !is_fitting; round++) {
        int32_t smaller = shrink(fit);
        if (smaller < MIN_FITTED_CTX && params->n_seq_max == 0 && n_seq_max > 1) {
            n_seq_max = n_seq_max > 8 ? 8 : 1;
        } else if (smaller < MIN_FITTED_CTX) {
            break;
        } else {
            n_ctx = smaller;
        }
        hs_status status = try_fit(rt, path, params, n_ctx, n_seq_max, fit, &is_fitting, err);
        if (status != HS_OK) {
            return status;
        }
    }
    if (!is_fitting) {
        *fit = first;
        return too_large(fit, false, 0, err);
    }
    hs_log(HS_LOG_INFO, "inference", "context of %d tokens instead of %d: that is what fits",
           fit->context.n_ctx, first.context.n_ctx);
    return HS_OK;
}

hs_status hs_model_fit(const struct hs_runtime *rt, const char *path,
                       const struct hs_model_params *params, uint64_t n_ctx_train,
                       struct hs_fit *ret_fit, struct hs_error *err)
{
    int32_t n_ctx = params->n_ctx;
    if (n_ctx == 0) {
        n_ctx = DEFAULT_N_CTX;
        if (n_ctx_train > 0) {
            n_ctx = n_ctx_train < MAX_N_CTX ? (int32_t)n_ctx_train : MAX_N_CTX;
        }
    }
    struct hs_fit fit = {0};
    bool is_fitting = false;
    hs_status status =
        try_fit(rt, path, params, n_ctx, or_default(params->n_seq_max, DEFAULT_N_SEQ), &fit,
                &is_fitting, err);
    if (status == HS_OK && !is_fitting) {
        status = params->n_ctx > 0 ? too_large(&fit, true, shrink(&fit), err)
                                   : fit_smaller(rt, path, params, &fit, err);
    }
    if (status == HS_OK) {
        *ret_fit = fit;
    }
    return status;
}
