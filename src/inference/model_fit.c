#include "model_fit.h"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/machine.h"

#define DEFAULT_N_CTX 4096
#define MAX_N_CTX (1 << 24)
#define MIN_FITTED_CTX 512 /* a smaller context is no use as a default */
#define CTX_STEP 256       /* llama.cpp rounds up to it */
#define MAX_GUESSES 16     /* two are enough where memory grows linearly */
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
        {"lora_engine", params->lora_engine, HS_LORA_ENGINE_AUTO, HS_LORA_ENGINE_NATIVE},
        {"adapter_weights", params->adapter_weights, HS_ADAPTER_WEIGHTS_FILE,
         HS_ADAPTER_WEIGHTS_INT8},
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
        .lora_engine = params->lora_engine,
    };
}

uint64_t hs_model_fit_total(const struct hs_rt_memory *memory)
{
    return memory->weights_bytes + memory->kv_bytes + memory->compute_bytes;
}

static uint64_t device_bytes(const struct hs_rt_memory *memory)
{
    uint64_t total = hs_model_fit_total(memory);
    return total > memory->host_bytes ? total - memory->host_bytes : 0;
}

static bool is_over_limit(const struct hs_fit *fit)
{
    return fit->limit_bytes > 0 && hs_model_fit_total(&fit->memory) > fit->limit_bytes;
}

static bool fits(const struct hs_fit *fit)
{
    const struct hs_rt_memory *memory = &fit->memory;
    uint64_t available = memory->host_available_bytes;
    uint64_t margin = hs_model_fit_margin(available);
    return memory->host_bytes + margin <= available &&
           device_bytes(memory) <= memory->device_free_bytes && !is_over_limit(fit);
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static hs_status too_large(const struct hs_fit *fit, bool asked, int32_t n_ctx_that_fits,
                           struct hs_error *err)
{
    const struct hs_rt_memory *memory = &fit->memory;
    char room[160];
    if (is_over_limit(fit)) {
        snprintf(room, sizeof(room), "%.2f GiB are left for it, %.2f too little",
                 gib(fit->limit_bytes), gib(hs_model_fit_total(memory) - fit->limit_bytes));
    } else {
        snprintf(room, sizeof(room), "%.2f GiB are available, of which %.2f are left alone",
                 gib(memory->host_available_bytes + memory->device_free_bytes),
                 gib(hs_model_fit_margin(memory->host_available_bytes)));
    }
    hs_error_set(err, HS_MODEL_TOO_LARGE,
                 "the model needs %.2f GiB (weights %.2f, KV %.2f for %d tokens, compute %.2f); %s",
                 gib(hs_model_fit_total(memory)), gib(memory->weights_bytes), gib(memory->kv_bytes),
                 fit->context.n_ctx, gib(memory->compute_bytes), room);
    if (asked && n_ctx_that_fits >= MIN_FITTED_CTX) {
        hs_error_hint(err, "use --ctx-size %d, or --kv-type q8_0", n_ctx_that_fits);
    } else {
        hs_error_hint(err, "use a smaller quantisation or model, or free memory");
    }
    return HS_MODEL_TOO_LARGE;
}

static hs_status try_fit(const struct hs_runtime *rt, const char *path,
                         const struct hs_model_params *params, int32_t n_ctx, int32_t n_seq_max,
                         struct hs_fit *fit, bool *ret_fits, struct hs_error *err)
{
    set_context(params, n_ctx, n_seq_max, &fit->context);
    fit->limit_bytes = params->limit_bytes;
    hs_status status =
        rt->estimate(path, params, &fit->context, &fit->memory, NULL, &fit->n_gpu_layers, err);
    uint64_t *available = &fit->memory.host_available_bytes;
    *available -= *available < params->reserve_bytes ? *available : params->reserve_bytes;
    *ret_fits = status == HS_OK && fits(fit);
    return status;
}

/* How far along the way from `low`, which fits, to `high`, which does not, this place is full. */
static double part_until_full(uint64_t low, uint64_t high, uint64_t room)
{
    return high <= room || high <= low ? 1.0 : (double)(room - low) / (double)(high - low);
}

/*
 * A context between one that fits and one that does not, where host or device would be full if
 * both grew linearly: KV lives on either, and free memory of the other is no help.
 */
static int32_t guess_between(const struct hs_fit *low, const struct hs_fit *high)
{
    uint64_t available = low->memory.host_available_bytes;
    double host = part_until_full(low->memory.host_bytes, high->memory.host_bytes,
                                  available - hs_model_fit_margin(available));
    double device = part_until_full(device_bytes(&low->memory), device_bytes(&high->memory),
                                    low->memory.device_free_bytes);
    double part = host < device ? host : device;
    if (low->limit_bytes > 0) {
        double total = part_until_full(hs_model_fit_total(&low->memory),
                                       hs_model_fit_total(&high->memory), low->limit_bytes);
        part = part < total ? part : total;
    }
    double way = (double)(high->context.n_ctx - low->context.n_ctx);
    int32_t n_ctx = (low->context.n_ctx + (int32_t)(part * way)) / CTX_STEP * CTX_STEP;
    return min_i32(n_ctx, (high->context.n_ctx - 1) / CTX_STEP * CTX_STEP);
}

/*
 * The largest context below high's that fits with its number of sequences.
 * Out:    ret_fit, when ret_fits; else not even the smallest does.
 */
static hs_status fit_below(const struct hs_runtime *rt, const char *path,
                           const struct hs_model_params *params, struct hs_fit high,
                           struct hs_fit *ret_fit, bool *ret_fits, struct hs_error *err)
{
    *ret_fits = false;
    if (high.context.n_ctx <= MIN_FITTED_CTX) {
        return HS_OK;
    }
    struct hs_fit low = {0};
    int32_t n_seq_max = high.context.n_seq_max;
    hs_status status = try_fit(rt, path, params, MIN_FITTED_CTX, n_seq_max, &low, ret_fits, err);
    for (int i = 0; i < MAX_GUESSES && status == HS_OK && *ret_fits; i++) {
        int32_t n_ctx = guess_between(&low, &high);
        if (n_ctx <= low.context.n_ctx) {
            break;
        }
        struct hs_fit guess = {0};
        bool is_fitting = false;
        status = try_fit(rt, path, params, n_ctx, n_seq_max, &guess, &is_fitting, err);
        *(is_fitting ? &low : &high) = guess;
    }
    *ret_fit = low;
    return status;
}

/* No size was asked for: smaller contexts, then (states of recurrent models) fewer sequences. */
static hs_status fit_smaller(const struct hs_runtime *rt, const char *path,
                             const struct hs_model_params *params, struct hs_fit *fit,
                             struct hs_error *err)
{
    struct hs_fit high = *fit;
    struct hs_fit found = {0};
    bool is_fitting = false;
    hs_status status = fit_below(rt, path, params, high, &found, &is_fitting, err);
    while (status == HS_OK && !is_fitting && params->n_seq_max == 0 && high.context.n_seq_max > 1) {
        int32_t n_seq_max = high.context.n_seq_max > 8 ? 8 : 1;
        status = try_fit(rt, path, params, fit->context.n_ctx, n_seq_max, &high, &is_fitting, err);
        if (status == HS_OK && is_fitting) {
            found = high;
        } else if (status == HS_OK) {
            status = fit_below(rt, path, params, high, &found, &is_fitting, err);
        }
    }
    if (status != HS_OK) {
        return status;
    }
    if (!is_fitting) {
        return too_large(fit, false, 0, err);
    }
    if (found.context.n_ctx < fit->context.n_ctx) {
        hs_log(HS_LOG_INFO, "inference", "context of %d tokens instead of %d: that is what fits",
               found.context.n_ctx, fit->context.n_ctx);
    }
    *fit = found;
    return HS_OK;
}

/* A size was asked for that does not fit: say so, and which one does. */
static hs_status refuse_asked(const struct hs_runtime *rt, const char *path,
                              const struct hs_model_params *params, const struct hs_fit *fit,
                              struct hs_error *err)
{
    struct hs_fit found = {0};
    bool is_fitting = false;
    hs_status status = fit_below(rt, path, params, *fit, &found, &is_fitting, err);
    if (status != HS_OK) {
        return status;
    }
    return too_large(fit, true, is_fitting ? found.context.n_ctx : 0, err);
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
        status = params->n_ctx > 0 ? refuse_asked(rt, path, params, &fit, err)
                                   : fit_smaller(rt, path, params, &fit, err);
    }
    if (status == HS_OK) {
        *ret_fit = fit;
    }
    return status;
}
