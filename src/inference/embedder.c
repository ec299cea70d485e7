#include "embedder.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "embedder_internal.h"

#define STREAM_CAPACITY_MAX 256

/* ---- the inbox ---- */

/* For streams: look again. */
static void wake(void *user)
{
    hs_embedder *embedder = user;
    atomic_fetch_add(&embedder->kicks, 1);
    pthread_mutex_lock(&embedder->mutex);
    pthread_cond_signal(&embedder->work);
    pthread_mutex_unlock(&embedder->mutex);
}

/* Called with the mutex held. */
static bool is_woken(const hs_embedder *embedder)
{
    return embedder->inbox_first != NULL || embedder->kicks_seen != atomic_load(&embedder->kicks) ||
           (embedder->is_stopping && embedder->n_requests == 0);
}

/* Called with the mutex held. */
static void wait_for_work(hs_embedder *embedder)
{
    int rc = 0;
    while (!is_woken(embedder) && rc == 0) {
        if (embedder->next_deadline_ms > 0) {
            double left_ms = embedder->next_deadline_ms - hs_clock_ms();
            struct timespec until = hs_clock_deadline(left_ms > 0 ? (int64_t)left_ms + 1 : 0);
            rc = pthread_cond_timedwait(&embedder->work, &embedder->mutex, &until);
        } else {
            rc = pthread_cond_wait(&embedder->work, &embedder->mutex);
        }
    }
}

/* Wait when there is nothing to do and take in what came. false: the thread ends. */
static bool pull(hs_embedder *embedder)
{
    pthread_mutex_lock(&embedder->mutex);
    if (!embedder->has_work) {
        wait_for_work(embedder);
    }
    embedder->kicks_seen = atomic_load(&embedder->kicks);
    struct hs_embed_request *inbox = embedder->inbox_first;
    embedder->inbox_first = embedder->inbox_last = NULL;
    bool is_over = embedder->is_stopping && embedder->n_requests == 0;
    pthread_mutex_unlock(&embedder->mutex);
    struct hs_embed_request **last = &embedder->first;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = inbox;
    return !is_over;
}

/* ---- the thread ---- */

/* Cancelled and late requests end. */
static void sweep(hs_embedder *embedder)
{
    bool is_giving_up = atomic_load(&embedder->is_giving_up);
    double now_ms = hs_clock_ms();
    embedder->next_deadline_ms = 0;
    for (struct hs_embed_request *r = embedder->first; r != NULL; r = r->next) {
        if (is_giving_up || hs_stream_is_cancelled(r->stream)) {
            hs_embed_request_mark(r, HS_FINISH_CANCELLED);
        } else if (r->deadline_at_ms > 0 && now_ms >= r->deadline_at_ms) {
            hs_error_set(&r->error, HS_TIMEOUT, "the request missed its deadline of %.0f ms",
                         r->deadline_at_ms - r->submitted_at_ms);
            hs_embed_request_mark(r, HS_FINISH_ERROR);
        } else if (r->deadline_at_ms > 0 && (embedder->next_deadline_ms <= 0 ||
                                             r->deadline_at_ms < embedder->next_deadline_ms)) {
            embedder->next_deadline_ms = r->deadline_at_ms;
        }
    }
    hs_embedder_reap(embedder);
}

static void *embedder_main(void *arg)
{
    hs_embedder *embedder = arg;
    while (pull(embedder)) {
        sweep(embedder);
        embedder->has_work = hs_embedder_step(embedder);
    }
    return NULL;
}

/* True when nobody waits for the batch under way any more. */
static bool should_abort(void *user)
{
    hs_embedder *embedder = user;
    unsigned kicks = atomic_load(&embedder->kicks);
    if (kicks == atomic_load(&embedder->abort_seen)) {
        return false;
    }
    atomic_store(&embedder->abort_seen, kicks);
    if (atomic_load(&embedder->is_giving_up)) {
        return true;
    }
    for (int32_t i = 0; i < embedder->batch.n_spans; i++) {
        const struct hs_embed_slot *slot = &embedder->slots[embedder->batch.spans[i].owner];
        if (!hs_stream_is_cancelled(slot->request->stream)) {
            return false;
        }
    }
    return true;
}

/* ---- opening ---- */

static hs_status make_parts(hs_embedder *embedder, struct hs_error *err)
{
    const struct hs_rt_embedder *made = &embedder->made;
    const struct hs_model *model = embedder->p.model;
    embedder->share.max = made->n_seq_max + embedder->p.max_client_queue;
    embedder->slots = hs_calloc((size_t)made->n_seq_max, sizeof(embedder->slots[0]));
    embedder->values = hs_calloc((size_t)model->rt_info.n_embd_out, sizeof(embedder->values[0]));
    if (embedder->slots == NULL || embedder->values == NULL ||
        hs_batch_init(&embedder->batch, made->n_batch, made->n_seq_max) != HS_OK) {
        return hs_error_nomem(err, "embeddings of a model");
    }
    struct hs_rt_memory memory = {0};
    embedder->rt->context_memory(made->context, &memory);
    embedder->memory.kv_bytes = memory.kv_bytes;
    embedder->memory.compute_bytes = memory.compute_bytes;
    return HS_OK;
}

static void free_parts(hs_embedder *embedder)
{
    hs_batch_free(&embedder->batch);
    hs_free(embedder->slots);
    hs_free(embedder->values);
    embedder->slots = NULL;
    embedder->values = NULL;
    if (embedder->made.context != NULL) {
        embedder->rt->context_free(embedder->made.context);
        embedder->made.context = NULL;
    }
}

static hs_status start(hs_embedder *embedder, struct hs_error *err)
{
    hs_status status = embedder->rt->embedder_new(embedder->p.model->rt_model, &embedder->p.context,
                                                  &embedder->made, err);
    if (status == HS_OK) {
        status = make_parts(embedder, err);
    }
    if (status == HS_OK) {
        embedder->rt->set_abort(embedder->made.context, should_abort, embedder);
        int rc = pthread_create(&embedder->thread, NULL, embedder_main, embedder);
        if (rc != 0) {
            status = hs_error_set(err, hs_status_from_errno(rc),
                                  "cannot start a thread for embeddings: %s", strerror(rc));
        }
    }
    if (status != HS_OK) {
        free_parts(embedder);
        return status;
    }
    hs_log(HS_LOG_INFO, "inference",
           "model '%s' is ready for embeddings: inputs of %d tokens, KV %.0f MiB, compute %.0f MiB",
           embedder->p.model->info.id, embedder->made.n_input_max,
           (double)embedder->memory.kv_bytes / 1048576.0,
           (double)embedder->memory.compute_bytes / 1048576.0);
    return HS_OK;
}

/* Whether new requests are taken; makes thread and context when they are not there. */
static hs_status open_embedder(hs_embedder *embedder, struct hs_error *err)
{
    pthread_mutex_lock(&embedder->open_mutex);
    pthread_mutex_lock(&embedder->mutex);
    bool is_open = embedder->is_open;
    bool is_closing = embedder->is_closing;
    pthread_mutex_unlock(&embedder->mutex);
    hs_status status = HS_OK;
    if (is_closing) {
        status = hs_error_set(err, HS_UNAVAILABLE, "model '%s' is being unloaded",
                              embedder->p.model->info.id);
    } else if (!is_open) {
        status = start(embedder, err);
        pthread_mutex_lock(&embedder->mutex);
        embedder->is_open = status == HS_OK;
        pthread_mutex_unlock(&embedder->mutex);
    }
    pthread_mutex_unlock(&embedder->open_mutex);
    return status;
}

/* ---- life ---- */

static int init_locks(hs_embedder *embedder)
{
    int rc = hs_cond_init(&embedder->work);
    /* These cannot fail here: without attributes they allocate nothing. */
    pthread_cond_init(&embedder->changed, NULL);
    pthread_mutex_init(&embedder->mutex, NULL);
    pthread_mutex_init(&embedder->open_mutex, NULL);
    return rc;
}

hs_status hs_embedder_new(const struct hs_embedder_params *params, hs_embedder **ret_embedder,
                          struct hs_error *err)
{
    hs_embedder *embedder = hs_calloc(1, sizeof(*embedder));
    if (embedder == NULL) {
        return hs_error_nomem(err, "embeddings of a model");
    }
    embedder->p = *params;
    embedder->rt = params->model->rt;
    embedder->partial = -1;
    int rc = init_locks(embedder);
    if (rc != 0) {
        hs_free(embedder);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot make a lock: %s", strerror(rc));
    }
    *ret_embedder = embedder;
    return HS_OK;
}

void hs_embedder_close(hs_embedder *embedder)
{
    if (embedder == NULL) {
        return;
    }
    pthread_mutex_lock(&embedder->mutex);
    embedder->is_closing = true;
    pthread_mutex_unlock(&embedder->mutex);
    atomic_store(&embedder->is_giving_up, true);
    wake(embedder);
    pthread_mutex_lock(&embedder->mutex);
    while (embedder->n_requests > 0) {
        pthread_cond_wait(&embedder->changed, &embedder->mutex);
    }
    pthread_mutex_unlock(&embedder->mutex);
}

void hs_embedder_free(hs_embedder *embedder)
{
    if (embedder == NULL) {
        return;
    }
    hs_embedder_close(embedder);
    if (embedder->is_open) {
        pthread_mutex_lock(&embedder->mutex);
        embedder->is_stopping = true;
        pthread_cond_signal(&embedder->work);
        pthread_mutex_unlock(&embedder->mutex);
        pthread_join(embedder->thread, NULL);
    }
    free_parts(embedder);
    pthread_mutex_destroy(&embedder->open_mutex);
    pthread_mutex_destroy(&embedder->mutex);
    pthread_cond_destroy(&embedder->work);
    pthread_cond_destroy(&embedder->changed);
    hs_free(embedder);
}

/* ---- requests and figures ---- */

static hs_status enqueue(hs_embedder *embedder, struct hs_embed_request *request,
                         struct hs_error *err)
{
    hs_status status = HS_OK;
    pthread_mutex_lock(&embedder->mutex);
    if (embedder->is_closing) {
        status = hs_error_set(err, HS_UNAVAILABLE, "model '%s' is being unloaded",
                              embedder->p.model->info.id);
    } else if (embedder->n_requests >= embedder->made.n_seq_max + embedder->p.max_queue) {
        status = hs_error_set(err, HS_QUEUE_FULL,
                              "%d requests wait for embeddings of model '%s' already",
                              embedder->p.max_queue, embedder->p.model->info.id);
        hs_error_hint(err, "try again later, or start with a longer queue");
    } else if (hs_client_share_enter(&embedder->share, &request->place, err) != HS_OK) {
        status = HS_QUEUE_FULL;
    } else {
        embedder->n_requests++;
        if (embedder->inbox_last == NULL) {
            embedder->inbox_first = request;
        } else {
            embedder->inbox_last->next = request;
        }
        embedder->inbox_last = request;
        pthread_cond_signal(&embedder->work);
    }
    pthread_mutex_unlock(&embedder->mutex);
    return status;
}

hs_status hs_embedder_submit(hs_embedder *embedder, const struct hs_embed_input *inputs,
                             size_t n_inputs, const struct hs_embed_params *params,
                             hs_stream **ret_stream, struct hs_error *err)
{
    struct hs_embed_request *request = NULL;
    hs_status status = open_embedder(embedder, err);
    if (status == HS_OK) {
        status = hs_embed_request_new(embedder->p.model, embedder->made.n_input_max, inputs,
                                      n_inputs, params, &request, err);
    }
    if (status != HS_OK) {
        return status;
    }
    hs_stream *stream = NULL;
    size_t capacity = n_inputs < STREAM_CAPACITY_MAX ? n_inputs : STREAM_CAPACITY_MAX;
    status = hs_stream_new((int32_t)capacity, wake, embedder, &stream, err);
    if (status == HS_OK) {
        request->stream = stream;
        status = enqueue(embedder, request, err);
    }
    if (status != HS_OK) {
        hs_embed_request_free(request);
        hs_stream_free(stream);
        return status;
    }
    *ret_stream = stream;
    return HS_OK;
}

void hs_embedder_add_stats(hs_embedder *embedder, struct hs_model_stats *stats)
{
    pthread_mutex_lock(&embedder->mutex);
    stats->n_embed_requests += embedder->n_requests;
    stats->n_embedded += embedder->n_embedded;
    stats->n_embed_tokens += embedder->n_tokens;
    pthread_mutex_unlock(&embedder->mutex);
}

void hs_embedder_add_memory(hs_embedder *embedder, struct hs_memory *memory)
{
    pthread_mutex_lock(&embedder->mutex);
    if (embedder->is_open) {
        memory->kv_bytes += embedder->memory.kv_bytes;
        memory->compute_bytes += embedder->memory.compute_bytes;
    }
    pthread_mutex_unlock(&embedder->mutex);
}

bool hs_embedder_is_busy(hs_embedder *embedder)
{
    pthread_mutex_lock(&embedder->mutex);
    bool is_busy = embedder->n_requests > 0;
    pthread_mutex_unlock(&embedder->mutex);
    return is_busy;
}
