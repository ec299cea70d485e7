/*
 * worker.h - the thread that owns a model's context: admits requests, batches them, posts tokens.
 *
 * Owner:   hs_worker_start takes the context over when it succeeds; hs_worker_free joins the thread
 * and frees it. A submitted request belongs to the worker.
 * Threads: every function may be called from any thread, start and free by one.
 */
#ifndef INFERENCE_WORKER_H
#define INFERENCE_WORKER_H

#include "request.h"

struct hs_worker_params {
    const struct hs_model *model; /* outlives the worker */
    hs_rt_context *context;
    int32_t n_batch;
    int32_t n_seq_max;
    int32_t max_queue, max_client_queue;
    int32_t prefill_chunk;
    int32_t prefill_ms; /* < 0: prefill_chunk always */
    uint64_t park_budget_bytes;
};

HS_CHECKED hs_status hs_worker_start(const struct hs_worker_params *params, hs_worker **ret_worker,
                                     struct hs_error *err);
/*
 * Queue a request whose prompt and stream are set.
 * Errors: HS_QUEUE_FULL: max_queue requests wait beyond the n_seq_max that may run, or
 * max_client_queue of the same client; HS_UNAVAILABLE: the model is being unloaded. The request
 * stays the caller's then.
 */
HS_CHECKED hs_status hs_worker_submit(hs_worker *worker, struct hs_request *request,
                                      struct hs_error *err);
/* For streams: look again. `worker` is a hs_worker. */
void hs_worker_wake(void *worker);
void hs_worker_stats(hs_worker *worker, struct hs_model_stats *ret_stats);
/* Fill slots[n] by sequence, n the lesser of max and n_seq_max. */
size_t hs_worker_slots(hs_worker *worker, struct hs_slot *slots, size_t max);
/* Whether prompts should name places for checkpoints: this model's memory cannot be cut anywhere.
 */
bool hs_worker_wants_checkpoints(hs_worker *worker);
/* Whether requests are queued or running. */
bool hs_worker_is_busy(hs_worker *worker);
/* hs_kv_cache_export on the worker's thread; waits for the step under way. */
HS_CHECKED hs_status hs_worker_export_kv(hs_worker *worker, const char *key, const int32_t *tokens,
                                         size_t n_tokens, size_t max_bytes,
                                         struct hs_kv_state *ret_state, struct hs_error *err);
/* Refuse new requests, cancel all others, return when the last one is done. KV can still be
 * exported. */
void hs_worker_close(hs_worker *worker);
void hs_worker_free(hs_worker *worker);

#endif
