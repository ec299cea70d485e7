/* One step of a worker: plan, make room, decode, sample, post. */
#include "worker_internal.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#define TOLD_AT_ONCE 32

/* ---- ending requests ---- */

static void fill_usage(struct hs_request *request)
{
    double now_ms = hs_clock_ms();
    double admitted = request->admitted_at_ms > 0 ? request->admitted_at_ms : now_ms;
    double first = request->first_token_at_ms > 0 ? request->first_token_at_ms : now_ms;
    request->usage.queue_ms = admitted - request->submitted_at_ms;
    request->usage.prefill_ms = request->admitted_at_ms > 0 ? first - admitted : 0;
    request->usage.decode_ms = request->first_token_at_ms > 0 ? now_ms - first : 0;
}

static void show_slots(hs_worker *worker)
{
    for (size_t i = 0; i < worker->n_running; i++) {
        const struct hs_request *request = worker->running[i];
        struct hs_slot *slot = &worker->busy[i];
        size_t n_evaluated = request->slot->content.n_tokens;
        bool is_decoding =
            request->n_tokens > request->n_prompt && request->n_tokens - n_evaluated <= 1;
        slot->id = request->slot->seq;
        slot->state = is_decoding ? HS_SLOT_DECODE : HS_SLOT_PREFILL;
        slot->request = request->number + 1;
        slot->n_prompt = (int32_t)request->n_prompt;
        slot->n_evaluated = (int32_t)n_evaluated;
        slot->n_generated = (int32_t)(request->n_tokens - request->n_prompt);
        slot->age_ms = request->submitted_at_ms;
        memcpy(slot->tag, request->tag, sizeof slot->tag);
    }
}

static void show_adapters(hs_worker *worker)
{
    if (worker->rt->lora_stats == NULL || !worker->p.model->context_params.has_adapters) {
        return;
    }
    struct hs_rt_lora_stats stats = {0};
    worker->rt->lora_stats(worker->p.context, &stats);
    struct hs_model_stats *figures = &worker->figures;
    figures->lora_engine = stats.engine;
    memcpy(figures->lora_reason, stats.reason, sizeof(figures->lora_reason));
    figures->n_lora_decodes = stats.n_decodes;
    figures->n_lora_decodes_mixed = stats.n_decodes_mixed;
    figures->n_lora_sets_max = stats.n_sets_max;
    figures->n_lora_nodes = stats.n_nodes;
    /* Which way it is shows with the first decode that has adapters. */
    worker->takes_one_set = stats.is_one_set || stats.engine == HS_LORA_ENGINE_AUTO;
}

void hs_worker_publish(hs_worker *worker, int32_t n_done)
{
    struct hs_model_stats *figures = &worker->figures;
    figures->n_running = (int32_t)worker->n_running;
    figures->n_kv_used = hs_kv_cache_used_cells(worker->cache);
    figures->n_parked = hs_kv_cache_n_parked(worker->cache);
    figures->parked_bytes = hs_kv_cache_host_bytes(worker->cache);
    show_adapters(worker);
    pthread_mutex_lock(&worker->mutex);
    worker->stats = *figures;
    show_slots(worker);
    /* A memory may turn out to refuse cuts only when one is tried. */
    worker->wants_checkpoints = hs_kv_cache_wants_checkpoints(worker->cache);
    worker->n_requests -= n_done;
    if (n_done > 0 && worker->n_requests == 0) {
        pthread_cond_broadcast(&worker->changed);
    }
    pthread_mutex_unlock(&worker->mutex);
}

static void export_kv(hs_worker *worker, struct hs_request *request)
{
    if (request->wants_kv_bytes == 0 || request->finish == HS_FINISH_ERROR ||
        request->slot == NULL) {
        return;
    }
    struct hs_error error;
    hs_status status =
        hs_kv_cache_export(worker->cache, request->key, request->tokens, request->n_tokens,
                           request->wants_kv_bytes, &request->kv, &error);
    if (status != HS_OK && status != HS_LIMIT && status != HS_NOT_FOUND) {
        hs_log(HS_LOG_WARN, "inference", "KV was not saved: %s", error.message);
    }
}

/* The counts are right before anybody can see that the request is done. */
void hs_worker_end(hs_worker *worker, struct hs_request *request)
{
    bool is_answer = request->finish == HS_FINISH_LENGTH || request->finish == HS_FINISH_CANCELLED;
    if (is_answer && hs_request_flush(request) != HS_OK) {
        request->finish = HS_FINISH_ERROR;
    }
    fill_usage(request);
    hs_adapter_lease_free(request->lease, request->admitted_at_ms > 0 ? &request->usage : NULL);
    request->lease = NULL;
    export_kv(worker, request);
    if (request->slot != NULL) {
        hs_kv_cache_release(worker->cache, request->slot, request->cache_prompt);
        request->slot = NULL;
    }
    pthread_mutex_lock(&worker->mutex);
    hs_client_share_leave(&worker->share, &request->place);
    pthread_mutex_unlock(&worker->mutex);
    hs_worker_publish(worker, 1);
    if (request->on_done != NULL) {
        request->on_done(request, request->on_done_user);
    } else {
        hs_request_complete(request);
    }
}

void hs_worker_reap(hs_worker *worker)
{
    size_t i = 0;
    while (i < worker->n_running) {
        struct hs_request *request = worker->running[i];
        if (request->finish == HS_FINISH_NONE) {
            i++;
            continue;
        }
        memmove(&worker->running[i], &worker->running[i + 1],
                (worker->n_running - i - 1) * sizeof(worker->running[0]));
        worker->n_running--;
        worker->should_admit = true;
        worker->is_holding = false;
        hs_worker_end(worker, request);
    }
}

/* ---- planning ---- */

/* Tokens a request could evaluate now: up to the next checkpoint, when this memory needs them. */
static int32_t next_want(const hs_worker *worker, const struct hs_request *request)
{
    size_t n_past = request->slot->content.n_tokens;
    size_t want = request->n_tokens - n_past;
    if (request->cache_prompt && hs_kv_cache_wants_checkpoints(worker->cache)) {
        for (int i = 0; i < 2; i++) {
            size_t place = request->checkpoints[i];
            if (place > n_past && place < request->n_tokens && place - n_past < want) {
                want = place - n_past;
            }
        }
    }
    return want > INT32_MAX ? INT32_MAX : (int32_t)want;
}

static int32_t collect(hs_worker *worker)
{
    int32_t n = 0;
    for (size_t i = 0; i < worker->n_running; i++) {
        struct hs_request *request = worker->running[i];
        bool was_lagging = request->is_lagging;
        request->is_lagging = !hs_stream_has_room(request->stream, request->n_room);
        /* What it holds may now be taken by those who wait. */
        worker->should_admit |= request->is_lagging && !was_lagging;
        if (!request->is_lagging) {
            worker->owners[n] = i;
            worker->wants[n] = next_want(worker, request);
            n++;
        }
    }
    return n;
}

/*
 * Where a decode takes one set of adapters only: keep those who have the set that was served
 * longest ago, so that the sets take turns. Owners stay in their order.
 */
static int32_t keep_one_set(hs_worker *worker, int32_t n)
{
    if (!worker->takes_one_set || n == 0) {
        return n;
    }
    const struct hs_request *next = worker->running[worker->owners[0]];
    for (int32_t i = 1; i < n; i++) {
        const struct hs_request *request = worker->running[worker->owners[i]];
        next = request->served_at < next->served_at ? request : next;
    }
    int32_t n_kept = 0;
    for (int32_t i = 0; i < n; i++) {
        struct hs_request *request = worker->running[worker->owners[i]];
        if (strcmp(request->key, next->key) == 0) {
            request->served_at = worker->turn;
            worker->owners[n_kept] = worker->owners[i];
            worker->wants[n_kept++] = worker->wants[i];
        }
    }
    return n_kept;
}

ptrdiff_t hs_worker_victim(const hs_worker *worker, size_t keep)
{
    ptrdiff_t youngest = -1;
    for (size_t i = 0; i < worker->n_running; i++) {
        if (i == keep || worker->running[i]->slot->content.n_tokens == 0) {
            continue;
        }
        if (worker->running[i]->is_lagging) {
            return (ptrdiff_t)i;
        }
        youngest = (ptrdiff_t)i;
    }
    return youngest;
}

static int32_t plan(hs_worker *worker, int32_t n, int32_t n_free)
{
    const struct hs_worker_params *p = &worker->p;
    int32_t n_prompts = 0;
    for (int32_t i = 0; i < n; i++) {
        n_prompts += worker->wants[i] > 1;
    }
    struct hs_batch_limits limits = {
        .n_batch = worker->batch_limit,
        .prefill_chunk = p->prefill_ms < 0 ? p->prefill_chunk
                                           : hs_batch_chunk(p->prefill_chunk, p->prefill_ms,
                                                            worker->token_ms, n_prompts),
        .n_free = n_free,
    };
    return hs_batch_plan(&limits, worker->wants, n, worker->turn, worker->quotas);
}

/* Cells without which a step is not worth its while: every decode token, and the oldest's. */
static int32_t least_cells(const hs_worker *worker, int32_t n)
{
    int32_t n_decode = 0;
    for (int32_t i = 0; i < n; i++) {
        n_decode += worker->wants[i] == 1;
    }
    n_decode = n_decode < worker->batch_limit ? n_decode : worker->batch_limit;
    return n_decode + (worker->wants[0] > 1 && n_decode < worker->batch_limit);
}

/*
 * Decide the quotas, taking room from idle KV and at last from the youngest request.
 * Returns how many may compute; 0: the running requests changed, plan again.
 */
static int32_t plan_with_room(hs_worker *worker, int32_t n)
{
    int32_t wanted = plan(worker, n, INT32_MAX);
    while (hs_kv_cache_free_cells(worker->cache) < wanted &&
           hs_kv_cache_evict_idle(worker->cache)) {
    }
    int32_t n_free = hs_kv_cache_free_cells(worker->cache);
    if (n_free < least_cells(worker, n)) {
        ptrdiff_t victim = hs_worker_victim(worker, worker->owners[0]);
        if (victim >= 0) {
            hs_worker_preempt(worker, (size_t)victim);
            return 0;
        }
    }
    if (plan(worker, n, n_free) == 0) {
        hs_request_mark(worker->running[worker->owners[0]], HS_FINISH_LENGTH);
        hs_worker_reap(worker);
        return 0;
    }
    return n;
}

/* false: a request had to end for want of memory. */
static bool fill_batch(hs_worker *worker, int32_t n)
{
    hs_batch_clear(&worker->batch);
    bool is_filled = true;
    int32_t n_decode = 0;
    for (int32_t i = 0; i < n; i++) {
        if (worker->quotas[i] == 0) {
            continue;
        }
        struct hs_request *request = worker->running[worker->owners[i]];
        struct hs_kv_slot *slot = request->slot;
        size_t n_past = slot->content.n_tokens;
        if (hs_kv_slot_reserve(slot, (size_t)worker->quotas[i]) != HS_OK) {
            hs_error_nomem(&request->error, "context cache");
            hs_request_mark(request, HS_FINISH_ERROR);
            is_filled = false;
            continue;
        }
        bool is_last = n_past + (size_t)worker->quotas[i] == request->n_tokens;
        n_decode += worker->wants[i] == 1;
        hs_batch_add(&worker->batch, worker->owners[i], slot->seq, (int32_t)n_past,
                     request->tokens + n_past, worker->quotas[i], is_last,
                     request->lease == NULL ? NULL : hs_adapter_lease_set(request->lease));
    }
    worker->n_prefill = worker->batch.n_items - n_decode;
    worker->is_abortable = worker->n_prefill > 0;
    return is_filled;
}

/* ---- after the decode ---- */

static void fail_request(struct hs_request *request, hs_status status)
{
    if (request->error.status == HS_OK) {
        hs_error_set(&request->error, status, "generation failed: %s", hs_status_text(status));
    }
    hs_request_mark(request, HS_FINISH_ERROR);
}

/* The context is full: shorten the conversation, or say so. */
static void overflow(hs_worker *worker, struct hs_request *request)
{
    bool is_shifted = false;
    hs_status status = hs_request_shift(request, &is_shifted);
    if (status != HS_OK) {
        fail_request(request, status);
    } else if (!is_shifted) {
        hs_request_mark(request, HS_FINISH_LENGTH);
    } else {
        const struct hs_kv_content *content = &request->slot->content;
        size_t n = hs_tokens_common(content->tokens, content->n_tokens, request->tokens,
                                    request->n_tokens - 1);
        hs_kv_slot_cut(worker->cache, request->slot, n);
        hs_log(HS_LOG_INFO, "inference", "context full: %d messages dropped, %zu tokens kept",
               request->usage.dropped_messages, request->n_tokens);
    }
}

static void take_token(hs_worker *worker, struct hs_request *request, int32_t token,
                       const struct hs_token_logprob *logprobs)
{
    if (request->first_token_at_ms <= 0) {
        request->first_token_at_ms = hs_clock_ms();
    }
    request->usage.completion_tokens++;
    worker->figures.n_generated_tokens++;
    hs_status status = hs_request_push_token(request, token);
    bool is_stopped = false;
    bool is_eog = !request->ignore_eos && worker->rt->is_eog(request->model->rt_model, token);
    if (status == HS_OK) {
        status = is_eog ? hs_request_flush(request)
                        : hs_request_emit(request, token, logprobs, &is_stopped);
    }
    if (status != HS_OK) {
        fail_request(request, status);
    } else if (is_eog || is_stopped) {
        hs_request_mark_stop(request);
    } else if (request->max_tokens > 0 && request->usage.completion_tokens >= request->max_tokens) {
        hs_request_mark(request, HS_FINISH_LENGTH);
    } else if (request->n_tokens >= worker->n_ctx) {
        overflow(worker, request);
    }
}

/* Readers are told of new tokens in groups: their thread wakes up once for each. */
static void tell_readers(hs_worker *worker, int32_t from, int32_t to)
{
    for (int32_t k = from; k < to; k++) {
        hs_stream_tell(worker->running[worker->batch.spans[k].owner]->stream);
    }
}

static void commit(hs_worker *worker)
{
    int32_t n_told = 0;
    struct hs_token_logprob logprobs[1 + HS_LOGPROBS_MAX];
    for (int32_t k = 0; k < worker->batch.n_spans; k++) {
        const struct hs_batch_span *span = &worker->batch.spans[k];
        struct hs_request *request = worker->running[span->owner];
        size_t n_past = request->slot->content.n_tokens;
        hs_kv_slot_append(worker->cache, request->slot, request->tokens + n_past, (size_t)span->n);
        if (n_past < request->n_prompt) {
            size_t n_left = request->n_prompt - n_past;
            worker->figures.n_prompt_tokens += n_left < (size_t)span->n ? n_left : (size_t)span->n;
        }
        n_past += (size_t)span->n;
        if (request->cache_prompt &&
            (n_past == request->checkpoints[0] || n_past == request->checkpoints[1])) {
            hs_kv_slot_checkpoint(worker->cache, request->slot);
        }
    }
    for (int32_t k = 0; k < worker->batch.n_spans; k++) {
        const struct hs_batch_span *span = &worker->batch.spans[k];
        if (!span->wants_logits) {
            continue;
        }
        struct hs_request *request = worker->running[span->owner];
        int32_t token = 0;
        hs_status status =
            worker->rt->sample(request->sampler, worker->p.context, span->first + span->n - 1,
                               request->n_logprobs, &token, logprobs, &request->error);
        if (status == HS_OK) {
            take_token(worker, request, token, logprobs);
        } else {
            fail_request(request, status);
        }
        if (k + 1 - n_told >= TOLD_AT_ONCE) {
            tell_readers(worker, n_told, k + 1);
            n_told = k + 1;
        }
    }
    tell_readers(worker, n_told, worker->batch.n_spans);
}

/* Cells that are not ours to count (sliding windows) ran out: give way, in this order. */
static void find_room(hs_worker *worker)
{
    struct hs_batch *batch = &worker->batch;
    size_t oldest = batch->spans[0].owner;
    ptrdiff_t victim;
    if (hs_kv_cache_evict_idle(worker->cache)) {
        return;
    }
    if (batch->n_items > batch->n_spans) {
        worker->batch_limit = batch->n_items / 2;
    } else if ((victim = hs_worker_victim(worker, oldest)) >= 0) {
        hs_worker_preempt(worker, (size_t)victim);
        worker->is_holding = true;
    } else {
        hs_request_mark(worker->running[oldest], HS_FINISH_LENGTH);
        hs_worker_reap(worker);
    }
}

static void fail_batch(hs_worker *worker, const struct hs_error *error)
{
    hs_log(HS_LOG_ERROR, "inference", "decode failed: %s", error->message);
    for (int32_t k = 0; k < worker->batch.n_spans; k++) {
        struct hs_request *request = worker->running[worker->batch.spans[k].owner];
        request->error = *error;
        hs_kv_slot_clear(worker->cache, request->slot);
        hs_request_mark(request, HS_FINISH_ERROR);
    }
    hs_worker_reap(worker);
}

/* Steps with few prompt tokens say little about what a prompt token takes. */
static void note_speed(hs_worker *worker, double took_ms)
{
    if (worker->n_prefill >= HS_BATCH_CHUNK_MIN) {
        double token_ms = took_ms / worker->batch.n_items;
        worker->token_ms = worker->token_ms > 0 ? (worker->token_ms + token_ms) / 2 : token_ms;
    }
}

static void worker_decode(hs_worker *worker)
{
    struct hs_batch *batch = &worker->batch;
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    struct hs_error error = {0};
    worker->figures.n_decode_calls++;
    double begin_ms = hs_clock_ms();
    hs_status status =
        worker->rt->decode(worker->p.context, batch->items, batch->n_items, &outcome, &error);
    if (status != HS_OK) {
        fail_batch(worker, &error);
    } else if (outcome == HS_RT_DECODE_NO_ROOM) {
        find_room(worker);
    } else if (outcome == HS_RT_DECODE_ABORTED) {
        for (int32_t k = 0; k < batch->n_spans; k++) {
            hs_kv_slot_resync(worker->cache, worker->running[batch->spans[k].owner]->slot);
        }
    } else {
        worker->batch_limit = worker->p.n_batch;
        note_speed(worker, hs_clock_ms() - begin_ms);
        commit(worker);
        hs_worker_reap(worker);
    }
}

bool hs_worker_step(hs_worker *worker)
{
    worker->turn++;
    int32_t n = keep_one_set(worker, collect(worker));
    if (n == 0) {
        worker->should_admit |= worker->is_holding;
        worker->is_holding = false;
        hs_worker_publish(worker, 0);
        return worker->should_admit && worker->waiting != NULL;
    }
    if (plan_with_room(worker, n) == 0) {
        return true;
    }
    if (fill_batch(worker, n)) {
        worker_decode(worker);
    } else {
        hs_worker_reap(worker);
    }
    hs_worker_publish(worker, 0);
    return true;
}
