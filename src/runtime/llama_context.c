#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"
#include "llama_lora.h"

struct context_call {
    struct llama_model *model;
    struct llama_context_params params;
    struct llama_context *context;
};

static void init_context(void *arg)
{
    struct context_call *call = arg;
    call->context = llama_init_from_model(call->model, call->params);
}

struct llama_context_params hs_llama_context_params(const struct hs_rt_context_params *params)
{
    struct llama_context_params llama = llama_context_default_params();
    llama.n_ctx = (uint32_t)params->n_ctx;
    llama.n_batch = (uint32_t)params->n_batch;
    llama.n_ubatch = (uint32_t)params->n_ubatch;
    llama.n_seq_max = (uint32_t)params->n_seq_max;
    /* One output per sequence; more would make logits and graph buffers grow with the batch. */
    llama.n_outputs_max = (uint32_t)(params->has_embeddings ? params->n_batch : params->n_seq_max);
    llama.embeddings = params->has_embeddings;
    llama.n_threads = params->n_threads;
    llama.n_threads_batch = params->n_threads_batch;
    llama.flash_attn_type =
        params->flash_attn == HS_FLASH_ATTN_AUTO
            ? LLAMA_FLASH_ATTN_TYPE_AUTO
            : (params->flash_attn == HS_FLASH_ATTN_ON ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                                                      : LLAMA_FLASH_ATTN_TYPE_DISABLED);
    llama.type_k = params->kv_type == HS_KV_Q8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    llama.type_v = llama.type_k;
    llama.offload_kqv = true;
    llama.op_offload = true;
    llama.no_perf = true;
    /* Sequences share one pool of cells, so that one long context may use what others leave. */
    llama.kv_unified = true;
    /* A window's worth of cells is what makes such models cheap; the price is that their KV cannot
     * be cut far back, for which the caller keeps partial states. */
    llama.swa_full = false;
    return llama;
}

static hs_status out_of_range(const char *name, int64_t value, int64_t min, int64_t max,
                              struct hs_error *err)
{
    return hs_error_set(err, HS_INVALID_ARGUMENT, "%s %lld is outside [%lld, %lld]", name,
                        (long long)value, (long long)min, (long long)max);
}

static hs_status check_params(const struct hs_rt_context_params *params, struct hs_error *err)
{
    const int64_t seq_max = (int64_t)llama_max_parallel_sequences();
    const struct {
        const char *name;
        int64_t value, min, max;
    } ranges[] = {
        {"context size", params->n_ctx, 1, INT32_MAX - 256},
        {"batch size", params->n_batch, 1, INT32_MAX / 2},
        {"micro-batch size", params->n_ubatch, 1, INT32_MAX / 2},
        {"number of sequences", params->n_seq_max, 1, seq_max},
        {"number of threads", params->n_threads, 1, GGML_MAX_N_THREADS},
        {"number of prefill threads", params->n_threads_batch, 1, GGML_MAX_N_THREADS},
        {"flash attention", params->flash_attn, HS_FLASH_ATTN_AUTO, HS_FLASH_ATTN_ON},
        {"KV type", params->kv_type, HS_KV_F16, HS_KV_Q8_0},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max) {
            return out_of_range(ranges[i].name, ranges[i].value, ranges[i].min, ranges[i].max, err);
        }
    }
    if (params->kv_type != HS_KV_F16 && params->flash_attn == HS_FLASH_ATTN_OFF) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "a q8_0 KV cache needs flash attention, which is switched off");
        hs_error_hint(err, "allow flash attention, or use KV type f16");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

static hs_status no_generator(const hs_rt_model *model, struct hs_error *err)
{
    hs_error_set(err, HS_UNSUPPORTED_MODEL, "'%s' models do not generate text here",
                 model->info.architecture);
    hs_error_hint(err, "use a decoder-only language model");
    return HS_UNSUPPORTED_MODEL;
}

/* A decoder behind an encoder would be run without the encoder's output. */
static hs_status check_kind(const hs_rt_model *model, const struct hs_rt_context_params *params,
                            struct hs_error *err)
{
    bool is_decoder = model->info.has_decoder && !model->info.has_encoder;
    return is_decoder || params->has_embeddings ? HS_OK : no_generator(model, err);
}

static hs_status context_error(const struct hs_rt_context_params *params,
                               const struct hs_llama_capture *log, struct hs_error *err)
{
    const char *why = hs_llama_capture_essence(log);
    if (hs_llama_capture_has(log, "requires Flash Attention") ||
        hs_llama_capture_has(log, "requires flash_attn")) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "a q8_0 KV cache needs flash attention, which this model or device lacks");
        hs_error_hint(err, "use KV type f16");
        return HS_INVALID_ARGUMENT;
    }
    if (hs_llama_capture_has(log, "failed to allocate") ||
        hs_llama_capture_has(log, "failed to reserve") ||
        hs_llama_capture_has(log, "unable to allocate") || hs_llama_capture_has(log, "bad_alloc")) {
        hs_error_set(err, HS_MODEL_TOO_LARGE, "a context of %d tokens does not fit in memory: %s",
                     params->n_ctx, why);
        hs_error_hint(err, "lower --ctx-size, or use KV type q8_0");
        return HS_MODEL_TOO_LARGE;
    }
    return hs_error_set(err, HS_INVALID_ARGUMENT, "the model cannot run: %s",
                        *why ? why : "llama.cpp gave no reason");
}

static bool abort_asked(void *user)
{
    const hs_rt_context *context = user;
    bool has_failed = context->lora && context->lora->mismatch[0];
    return has_failed || (context->should_abort && context->should_abort(context->abort_user));
}

static hs_status init_llama(hs_rt_context *context, struct llama_model *model, struct hs_error *err)
{
    struct context_call call = {.model = model,
                                .params = hs_llama_context_params(&context->params)};
    call.params.abort_callback = abort_asked;
    call.params.abort_callback_data = context;
    if (context->lora) {
        call.params.cb_eval = hs_lora_eval;
        call.params.cb_eval_user_data = context->lora;
    }
    if (context->params.has_embeddings) {
        call.params.cb_eval = hs_llama_drop_logits;
        /* Other poolings of llama.cpp end at the border of a micro-batch. */
        call.params.pooling_type = context->model->info.pooling == HS_RT_POOLING_RANK
                                       ? LLAMA_POOLING_TYPE_RANK
                                       : LLAMA_POOLING_TYPE_NONE;
    }
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    pthread_mutex_lock(&context->model->lora->llama_lock);
    hs_status status = hs_cxx_guard(init_context, &call, "making a context", err);
    pthread_mutex_unlock(&context->model->lora->llama_lock);
    hs_llama_log_capture(NULL);
    if (status == HS_OK && !call.context) {
        status = context_error(&context->params, &log, err);
    }
    context->llama = call.context;
    return status;
}

hs_status hs_llama_context_new(hs_rt_model *model, const struct hs_rt_context_params *params,
                               hs_rt_context **ret_context, struct hs_error *err)
{
    hs_status status = check_params(params, err);
    if (status == HS_OK) {
        status = check_kind(model, params, err);
    }
    if (status == HS_OK) {
        status = hs_llama_check_room(model, params, err);
    }
    if (status != HS_OK) {
        return status;
    }
    hs_rt_context *context = hs_calloc(1, sizeof(*context));
    if (!context) {
        return hs_error_nomem(err, "context");
    }
    context->model = model;
    context->params = *params;
    status = params->has_adapters ? hs_lora_run_new(context, err) : HS_OK;
    if (status == HS_OK) {
        status = init_llama(context, model->llama, err);
    }
    if (status != HS_OK) {
        hs_llama_context_free(context);
        return status;
    }
    context->memory = llama_get_memory(context->llama);
    context->n_batch = (int32_t)llama_n_batch(context->llama);
    if (!context->memory && !params->has_embeddings) {
        hs_llama_context_free(context);
        return no_generator(model, err);
    }
    context->batch = llama_batch_init(context->n_batch, 0, 1);
    context->has_logits = hs_calloc((size_t)context->n_batch, sizeof(*context->has_logits));
    if (!context->has_logits || !context->batch.token) {
        hs_llama_context_free(context);
        return hs_error_nomem(err, "batch");
    }
    *ret_context = context;
    return HS_OK;
}

void hs_llama_context_free(hs_rt_context *context)
{
    if (!context) {
        return;
    }
    if (context->batch.token) {
        llama_batch_free(context->batch);
    }
    llama_free(context->llama);
    hs_lora_run_free(context->lora);
    hs_free(context->has_logits);
    hs_free(context->candidates);
    hs_free(context->pooled);
    hs_free(context->n_pooled);
    hs_free(context);
}

int32_t hs_llama_context_n_ctx(const hs_rt_context *context)
{
    return (int32_t)llama_n_ctx(context->llama);
}

void hs_llama_set_abort(hs_rt_context *context, bool (*should_abort)(void *user), void *user)
{
    context->should_abort = should_abort;
    context->abort_user = user;
}

/* ---- decode ---- */

static hs_status check_item(const hs_rt_context *context, const struct hs_rt_batch_item *item,
                            int32_t i, struct hs_error *err)
{
    if (item->token < 0 || item->token >= context->model->n_vocab) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "batch item %d: token %d is outside the vocabulary [0, %d)", i,
                            item->token, context->model->n_vocab);
    }
    if (item->seq < 0 || item->seq >= context->params.n_seq_max) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "batch item %d: sequence %d is outside [0, %d)", i, item->seq,
                            context->params.n_seq_max);
    }
    if (item->pos < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "batch item %d: position %d is negative", i,
                            item->pos);
    }
    return HS_OK;
}

static hs_status fill_batch(hs_rt_context *context, const struct hs_rt_batch_item *items,
                            int32_t n_items, struct hs_error *err)
{
    if (n_items < 1 || n_items > context->n_batch) {
        return out_of_range("number of batch items", n_items, 1, context->n_batch, err);
    }
    struct llama_batch *batch = &context->batch;
    int32_t n_outputs = 0;
    for (int32_t i = 0; i < n_items; i++) {
        hs_status status = check_item(context, &items[i], i, err);
        if (status != HS_OK) {
            return status;
        }
        batch->token[i] = items[i].token;
        batch->pos[i] = items[i].pos;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = items[i].seq;
        batch->logits[i] = items[i].want_logits || context->params.has_embeddings;
        n_outputs += items[i].want_logits;
    }
    batch->n_tokens = n_items;
    if (n_outputs > context->params.n_seq_max && !context->params.has_embeddings) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "%d batch items want logits; at most one per sequence, %d", n_outputs,
                            context->params.n_seq_max);
    }
    return HS_OK;
}

/* Whether the token behind the end would see its whole window; see has_window. */
static bool end_has_window(const hs_rt_context *context, int32_t seq)
{
    int32_t n_swa = context->model->info.n_swa;
    int32_t end = llama_memory_seq_pos_max(context->memory, seq) + 1;
    int32_t needed = end > n_swa ? end - n_swa : 0;
    return n_swa <= 0 || end == 0 || llama_memory_seq_pos_min(context->memory, seq) <= needed;
}

/* After an abort or a failure some micro-batches may have been kept: take the whole batch back. */
static void remove_batch(hs_rt_context *context, const struct hs_rt_batch_item *items,
                         int32_t n_items)
{
    for (int32_t i = 0; i < n_items; i++) {
        int32_t last = llama_memory_seq_pos_max(context->memory, items[i].seq);
        if (last < items[i].pos) {
            continue;
        }
        if (!llama_memory_seq_rm(context->memory, items[i].seq, items[i].pos, -1) ||
            !end_has_window(context, items[i].seq)) {
            /* A recurrent state cannot step back, and a window that moved on has dropped the cells
             * before it; an empty sequence is the honest rest. */
            llama_memory_seq_rm(context->memory, items[i].seq, -1, -1);
        }
    }
}

struct decode_call {
    struct llama_context *context;
    struct llama_batch batch;
    bool is_encoder;
    int32_t result;
};

static void decode(void *arg)
{
    struct decode_call *call = arg;
    call->result = call->is_encoder ? llama_encode(call->context, call->batch)
                                    : llama_decode(call->context, call->batch);
}

static hs_status decode_error(int32_t result, const struct hs_llama_capture *log,
                              struct hs_error *err)
{
    const char *why = hs_llama_capture_essence(log);
    switch (result) {
    case -1:
        return hs_error_set(err, HS_INVALID_ARGUMENT, "llama.cpp refuses the batch: %s", why);
    case -2:
        return hs_error_set(err, HS_OUT_OF_MEMORY, "no memory to compute the batch: %s", why);
    default:
        return hs_error_set(err, HS_INTERNAL, "computing the batch failed (%d): %s", result, why);
    }
}

hs_status hs_llama_decode(hs_rt_context *context, const struct hs_rt_batch_item *items,
                          int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err)
{
    context->n_items = 0;
    hs_status status = fill_batch(context, items, n_items, err);
    if (status == HS_OK) {
        status = hs_lora_decode_begin(context, items, n_items, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct decode_call call = {
        .context = context->llama, .batch = context->batch, .is_encoder = context->is_encoder};
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    status = hs_cxx_guard(decode, &call, "computing the batch failed", err);
    hs_llama_log_capture(NULL);
    status = hs_lora_decode_end(context, status == HS_OK && call.result == 0, status, err);
    if (status == HS_OK && call.result == 0) {
        memcpy(context->has_logits, context->batch.logits, (size_t)n_items);
        context->n_items = n_items;
        *ret_outcome = HS_RT_DECODE_OK;
        return HS_OK;
    }
    if (status == HS_OK && call.result == 1) {
        *ret_outcome = HS_RT_DECODE_NO_ROOM;
        return HS_OK;
    }
    if (context->memory && (status != HS_OK || call.result != -1)) {
        remove_batch(context, items, n_items);
    }
    if (status == HS_OK && call.result == 2) {
        *ret_outcome = HS_RT_DECODE_ABORTED;
        return HS_OK;
    }
    return status != HS_OK ? status : decode_error(call.result, &log, err);
}

const float *hs_llama_logits(const hs_rt_context *context, int32_t i)
{
    if (i < 0 || i >= context->n_items || !context->has_logits[i]) {
        return NULL;
    }
    return llama_get_logits_ith(context->llama, i);
}

/* ---- KV ---- */

static bool is_seq(const hs_rt_context *context, int32_t seq)
{
    return seq >= 0 && seq < context->params.n_seq_max;
}

/*
 * Whether the token after a cut at p0 would still see its whole window. llama.cpp drops cells that
 * left the window of the last token, and cuts without asking for them.
 */
static bool has_window(const hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1)
{
    int32_t n_swa = context->model->info.n_swa;
    int32_t last = llama_memory_seq_pos_max(context->memory, seq);
    bool is_tail = p1 < 0 || p1 > last;
    if (n_swa <= 0 || p0 <= 0 || p0 > last || !is_tail) {
        return true;
    }
    int32_t needed = p0 > n_swa ? p0 - n_swa : 0;
    return llama_memory_seq_pos_min(context->memory, seq) <= needed;
}

bool hs_llama_kv_remove(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1)
{
    return is_seq(context, seq) && has_window(context, seq, p0, p1) &&
           llama_memory_seq_rm(context->memory, seq, p0, p1);
}

void hs_llama_kv_copy(hs_rt_context *context, int32_t seq_from, int32_t seq_to, int32_t p0,
                      int32_t p1)
{
    if (is_seq(context, seq_from) && is_seq(context, seq_to) && seq_from != seq_to) {
        llama_memory_seq_cp(context->memory, seq_from, seq_to, p0, p1);
    }
}

bool hs_llama_kv_shift(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1, int32_t delta)
{
    if (!is_seq(context, seq) || !llama_memory_can_shift(context->memory)) {
        return false;
    }
    /* llama.cpp would drop cells that a shift moves below zero. */
    int32_t first = llama_memory_seq_pos_min(context->memory, seq);
    int32_t from = p0 > first ? p0 : first;
    if (delta < 0 && first >= 0 && (int64_t)from + delta < 0) {
        return false;
    }
    llama_memory_seq_add(context->memory, seq, p0, p1, delta);
    return true;
}

int32_t hs_llama_kv_pos_min(const hs_rt_context *context, int32_t seq)
{
    return is_seq(context, seq) ? llama_memory_seq_pos_min(context->memory, seq) : -1;
}

int32_t hs_llama_kv_pos_max(const hs_rt_context *context, int32_t seq)
{
    return is_seq(context, seq) ? llama_memory_seq_pos_max(context->memory, seq) : -1;
}

void hs_llama_kv_clear(hs_rt_context *context)
{
    llama_memory_clear(context->memory, false);
}
