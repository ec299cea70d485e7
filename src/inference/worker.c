#include "worker_internal.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

#define ADMIT_MARGIN 8 /* cells each running request should still be able to take */

struct export_command {
    struct export_command *next;
    const char *key;
    const int32_t *tokens;
    size_t n_tokens, max_bytes;
    struct hs_kv_state *state;
    struct hs_error *err;
    hs_status status;
    bool is_done;
};

/* ---- the inbox ---- */

void hs_worker_wake(void *user)
{
    hs_worker *worker = user;
    atomic_fetch_add(&worker->kicks, 1);
    if (atomic_load(&worker->is_waiting)) {
        pthread_mutex_lock(&worker->mutex);
        pthread_cond_signal(&worker->work);
        pthread_mutex_unlock(&worker->mutex);
    }
}

hs_status hs_worker_submit(hs_worker *worker, struct hs_request *request, struct hs_error *err)
{
    hs_status status = HS_OK;
    pthread_mutex_lock(&worker->mutex);
    if (worker->is_closing) {
        status = hs_error_set(err, HS_UNAVAILABLE, "model '%s' is being unloaded",
                              worker->p.model->info.id);
    } else if (worker->n_requests >= worker->p.n_seq_max + worker->p.max_queue) {
        status = hs_error_set(err, HS_QUEUE_FULL, "%d requests wait for model '%s' already",
                              worker->p.max_queue, worker->p.model->info.id);
        hs_error_hint(err, "try again later, or start with a longer queue");
    } else if (hs_client_share_enter(&worker->share, &request->place, err) != HS_OK) {
        status = HS_QUEUE_FULL;
    } else {
        worker->n_requests++;
        request->next = NULL;
        if (worker->inbox_last == NULL) {
            worker->inbox_first = request;
        } else {
            worker->inbox_last->next = request;
        }
        worker->inbox_last = request;
        pthread_cond_signal(&worker->work);
    }
    pthread_mutex_unlock(&worker->mutex);
    return status;
}

void hs_worker_stats(hs_worker *worker, struct hs_model_stats *ret_stats)
{
    pthread_mutex_lock(&worker->mutex);
    *ret_stats = worker->stats;
    ret_stats->n_queued = worker->n_requests - worker->stats.n_running;
    pthread_mutex_unlock(&worker->mutex);
}

size_t hs_worker_slots(hs_worker *worker, struct hs_slot *slots, size_t max)
{
    size_t n = (size_t)worker->p.n_seq_max < max ? (size_t)worker->p.n_seq_max : max;
    for (size_t i = 0; i < n; i++) {
        slots[i] = (struct hs_slot){.id = (int32_t)i};
    }
    double now_ms = hs_clock_ms();
    pthread_mutex_lock(&worker->mutex);
    for (int32_t i = 0; i < worker->stats.n_running; i++) {
        const struct hs_slot *busy = &worker->busy[i];
        if ((size_t)busy->id < n) {
            slots[busy->id] = *busy;
            slots[busy->id].age_ms = now_ms > busy->age_ms ? now_ms - busy->age_ms : 0;
        }
    }
    pthread_mutex_unlock(&worker->mutex);
    return n;
}

bool hs_worker_wants_checkpoints(hs_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool wants_checkpoints = worker->wants_checkpoints;
    pthread_mutex_unlock(&worker->mutex);
    return wants_checkpoints;
}

bool hs_worker_is_busy(hs_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool is_busy = worker->n_requests > 0;
    pthread_mutex_unlock(&worker->mutex);
    return is_busy;
}

hs_status hs_worker_export_kv(hs_worker *worker, const char *key, const int32_t *tokens,
                              size_t n_tokens, size_t max_bytes, struct hs_kv_state *ret_state,
                              struct hs_error *err)
{
    struct export_command command = {
        .key = key,
        .tokens = tokens,
        .n_tokens = n_tokens,
        .max_bytes = max_bytes,
        .state = ret_state,
        .err = err,
    };
    pthread_mutex_lock(&worker->mutex);
    command.next = worker->commands;
    worker->commands = &command;
    pthread_cond_signal(&worker->work);
    while (!command.is_done) {
        pthread_cond_wait(&worker->changed, &worker->mutex);
    }
    pthread_mutex_unlock(&worker->mutex);
    return command.status;
}

static void run_commands(hs_worker *worker, struct export_command *commands)
{
    while (commands != NULL) {
        struct export_command *command = commands;
        commands = command->next;
        hs_status status =
            hs_kv_cache_export(worker->cache, command->key, command->tokens, command->n_tokens,
                               command->max_bytes, command->state, command->err);
        pthread_mutex_lock(&worker->mutex);
        command->status = status;
        command->is_done = true;
        pthread_cond_broadcast(&worker->changed);
        pthread_mutex_unlock(&worker->mutex);
    }
}

/* ---- waiting ---- */

static bool is_before(const struct hs_request *a, const struct hs_request *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->number < b->number;
}

static void wait_insert(hs_worker *worker, struct hs_request *request)
{
    struct hs_request **place = &worker->waiting;
    while (*place != NULL && is_before(*place, request)) {
        place = &(*place)->next;
    }
    request->next = *place;
    *place = request;
}

static void wait_remove(hs_worker *worker, struct hs_request *request)
{
    struct hs_request **place = &worker->waiting;
    while (*place != request) {
        place = &(*place)->next;
    }
    *place = request->next;
}

static bool is_woken(const hs_worker *worker)
{
    return worker->inbox_first != NULL || worker->commands != NULL ||
           atomic_load(&worker->kicks) != worker->kicks_seen ||
           (worker->is_stopping && worker->n_requests == 0);
}

/* Called with the mutex held. */
static void wait_for_work(hs_worker *worker)
{
    atomic_store(&worker->is_waiting, true);
    int rc = 0;
    while (!is_woken(worker) && rc == 0) {
        if (worker->next_deadline_ms > 0) {
            double left_ms = worker->next_deadline_ms - hs_clock_ms();
            struct timespec until = hs_clock_deadline(left_ms > 0 ? (int64_t)left_ms + 1 : 0);
            rc = pthread_cond_timedwait(&worker->work, &worker->mutex, &until);
        } else {
            rc = pthread_cond_wait(&worker->work, &worker->mutex);
        }
    }
    atomic_store(&worker->is_waiting, false);
}

static void note_deadline(hs_worker *worker, const struct hs_request *request)
{
    double deadline = request->deadline_at_ms;
    if (deadline > 0 && (worker->next_deadline_ms <= 0 || deadline < worker->next_deadline_ms)) {
        worker->next_deadline_ms = deadline;
    }
}

/* The next place behind the client's other requests, but not before what was admitted already. */
static uint64_t next_rank(const hs_worker *worker, const char *client)
{
    uint64_t rank = worker->rank;
    if (client[0] == '\0') {
        return rank;
    }
    for (const struct hs_request *r = worker->waiting; r != NULL; r = r->next) {
        rank = r->rank >= rank && strcmp(r->place.client, client) == 0 ? r->rank + 1 : rank;
    }
    for (size_t i = 0; i < worker->n_running; i++) {
        const struct hs_request *r = worker->running[i];
        rank = r->rank >= rank && strcmp(r->place.client, client) == 0 ? r->rank + 1 : rank;
    }
    return rank;
}

static void take_inbox(hs_worker *worker, struct hs_request *inbox)
{
    while (inbox != NULL) {
        struct hs_request *request = inbox;
        inbox = request->next;
        request->number = worker->next_number++;
        request->rank = next_rank(worker, request->place.client);
        note_deadline(worker, request);
        wait_insert(worker, request);
        worker->should_admit = true;
        if (request->lease != NULL) {
            atomic_fetch_add(&worker->kicks, 1); /* its load may have failed before it came */
        }
    }
}

/* Wait when there is nothing to do and take in what came. false: the thread ends. */
static bool worker_pull(hs_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    if (!worker->has_work) {
        wait_for_work(worker);
    }
    struct hs_request *inbox = worker->inbox_first;
    worker->inbox_first = worker->inbox_last = NULL;
    struct export_command *commands = worker->commands;
    worker->commands = NULL;
    bool is_over = worker->is_stopping && worker->n_requests == 0 && commands == NULL;
    pthread_mutex_unlock(&worker->mutex);
    take_inbox(worker, inbox);
    run_commands(worker, commands);
    return !is_over;
}

/* ---- sweep: cancelled and late requests ---- */

static bool is_over(const hs_worker *worker, struct hs_request *request, double now_ms,
                    enum hs_finish *ret_finish)
{
    if (atomic_load(&worker->is_giving_up) || hs_stream_is_cancelled(request->stream)) {
        *ret_finish = HS_FINISH_CANCELLED;
        return true;
    }
    if (request->deadline_at_ms > 0 && now_ms >= request->deadline_at_ms) {
        hs_error_set(&request->error, HS_TIMEOUT, "the request missed its deadline of %.0f ms",
                     request->deadline_at_ms - request->submitted_at_ms);
        *ret_finish = HS_FINISH_ERROR;
        return true;
    }
    if (request->lease != NULL &&
        hs_adapter_lease_state(request->lease) == HS_ADAPTER_LEASE_FAILED) {
        request->error = *hs_adapter_lease_error(request->lease);
        *ret_finish = HS_FINISH_ERROR;
        return true;
    }
    return false;
}

static void worker_sweep(hs_worker *worker)
{
    unsigned kicks = atomic_load(&worker->kicks);
    double now_ms = worker->next_deadline_ms > 0 ? hs_clock_ms() : 0;
    bool is_late = worker->next_deadline_ms > 0 && now_ms >= worker->next_deadline_ms;
    /* Giving up is looked for every time: a request may come in after the kick that told of it. */
    if (kicks == worker->kicks_seen && !is_late && !atomic_load(&worker->is_giving_up)) {
        return;
    }
    worker->kicks_seen = kicks;
    worker->should_admit = true;
    worker->next_deadline_ms = 0;
    enum hs_finish finish = HS_FINISH_NONE;
    for (size_t i = 0; i < worker->n_running; i++) {
        struct hs_request *request = worker->running[i];
        if (is_over(worker, request, now_ms, &finish)) {
            hs_request_mark(request, finish);
        } else {
            note_deadline(worker, request);
        }
    }
    hs_worker_reap(worker);
    struct hs_request **place = &worker->waiting;
    while (*place != NULL) {
        struct hs_request *request = *place;
        if (is_over(worker, request, now_ms, &finish)) {
            *place = request->next;
            hs_request_mark(request, finish);
            hs_worker_end(worker, request);
        } else {
            note_deadline(worker, request);
            place = &request->next;
        }
    }
}

/* ---- admission ---- */

static size_t pending_tokens(const hs_worker *worker)
{
    size_t n = 0;
    for (size_t i = 0; i < worker->n_running; i++) {
        const struct hs_request *request = worker->running[i];
        n += request->n_tokens - request->slot->content.n_tokens;
    }
    return n;
}

static bool has_cells_for(const hs_worker *worker, const struct hs_request *request,
                          const struct hs_kv_match *match)
{
    if (worker->n_running == 0) {
        return true;
    }
    size_t need = request->n_tokens - (match->is_shared ? match->n_reuse : 0);
    size_t margin = ADMIT_MARGIN * worker->n_running;
    margin = margin < worker->n_ctx / 8 ? margin : worker->n_ctx / 8;
    size_t held = (size_t)hs_kv_cache_active_cells(worker->cache) + pending_tokens(worker);
    return held + need + margin <= worker->n_ctx;
}

static void running_insert(hs_worker *worker, struct hs_request *request)
{
    size_t i = worker->n_running++;
    while (i > 0 && worker->running[i - 1]->number > request->number) {
        worker->running[i] = worker->running[i - 1];
        i--;
    }
    worker->running[i] = request;
    request->next = NULL;
    request->is_lagging = false;
}

/* HS_UNAVAILABLE: not now. */
static hs_status admit_one(hs_worker *worker, struct hs_request *request)
{
    struct hs_kv_match match = {0};
    if (request->cache_prompt) {
        hs_kv_cache_match(worker->cache, request->key, request->tokens, request->n_tokens,
                          request->brought.state == NULL ? NULL : &request->brought, &match);
    }
    if (worker->n_running >= (size_t)worker->p.n_seq_max ||
        !has_cells_for(worker, request, &match)) {
        return HS_UNAVAILABLE;
    }
    hs_status status = hs_kv_cache_take(worker->cache, request->key, &match, &request->slot);
    if (status != HS_OK) {
        return status;
    }
    hs_kv_state_clear(&request->brought);
    if (request->admitted_at_ms <= 0) {
        request->admitted_at_ms = hs_clock_ms();
        request->usage.cached_tokens = (int32_t)request->slot->content.n_tokens;
        worker->figures.n_cached_tokens += request->slot->content.n_tokens;
    }
    wait_remove(worker, request);
    running_insert(worker, request);
    worker->rank = request->rank > worker->rank ? request->rank : worker->rank;
    return HS_OK;
}

/* Sequences and cells that a lagging reader holds go to those who can use them. */
static bool preempt_lagging(hs_worker *worker)
{
    for (size_t i = worker->n_running; i-- > 0;) {
        if (worker->running[i]->is_lagging) {
            hs_worker_preempt(worker, i);
            return true;
        }
    }
    return false;
}

/* One whose adapters are not there yet is passed over: whoever loads them wakes the worker. */
static struct hs_request *next_admissible(hs_worker *worker)
{
    for (struct hs_request *r = worker->waiting; r != NULL; r = r->next) {
        bool was_running = r->admitted_at_ms > 0;
        bool is_ready =
            r->lease == NULL || hs_adapter_lease_state(r->lease) == HS_ADAPTER_LEASE_READY;
        if (is_ready && (!was_running || hs_stream_has_room(r->stream, HS_STREAM_CAPACITY_MIN))) {
            return r;
        }
    }
    return NULL;
}

static void worker_admit(hs_worker *worker)
{
    if (!worker->should_admit || worker->is_holding) {
        return;
    }
    worker->should_admit = false;
    struct hs_request *request;
    while ((request = next_admissible(worker)) != NULL) {
        hs_status status = admit_one(worker, request);
        if (status == HS_UNAVAILABLE && !preempt_lagging(worker)) {
            break;
        }
        if (status != HS_OK && status != HS_UNAVAILABLE) {
            wait_remove(worker, request);
            hs_error_set(&request->error, status, "no memory to admit a request");
            hs_request_mark(request, HS_FINISH_ERROR);
            hs_worker_end(worker, request);
        }
    }
    hs_worker_publish(worker, 0);
}

void hs_worker_preempt(hs_worker *worker, size_t index)
{
    struct hs_request *request = worker->running[index];
    memmove(&worker->running[index], &worker->running[index + 1],
            (worker->n_running - index - 1) * sizeof(worker->running[0]));
    worker->n_running--;
    hs_kv_cache_preempt(worker->cache, request->slot, request->cache_prompt);
    request->slot = NULL;
    request->rank = 0;
    wait_insert(worker, request);
    worker->should_admit = true;
}

/* ---- the thread ---- */

static void *worker_main(void *arg)
{
    hs_worker *worker = arg;
    while (worker_pull(worker)) {
        worker_sweep(worker);
        worker_admit(worker);
        worker->has_work = hs_worker_step(worker);
    }
    return NULL;
}

static bool should_abort(void *user)
{
    hs_worker *worker = user;
    if (!worker->is_abortable) {
        return false;
    }
    unsigned kicks = atomic_load(&worker->kicks);
    if (kicks == atomic_load(&worker->abort_seen)) {
        return false;
    }
    atomic_store(&worker->abort_seen, kicks);
    if (atomic_load(&worker->is_giving_up)) {
        return true;
    }
    for (int32_t i = 0; i < worker->batch.n_spans; i++) {
        if (!hs_stream_is_cancelled(worker->running[worker->batch.spans[i].owner]->stream)) {
            return false;
        }
    }
    return true;
}

static hs_status make_parts(hs_worker *worker, struct hs_error *err)
{
    const struct hs_worker_params *p = &worker->p;
    size_t n_seq = (size_t)p->n_seq_max;
    struct hs_kv_cache_params cache = {
        .rt = worker->rt,
        .context = p->context,
        .n_seq_max = p->n_seq_max,
        .n_swa = p->model->rt_info.n_swa,
        .is_recurrent = p->model->rt_info.is_recurrent,
        .park_budget_bytes = p->park_budget_bytes,
    };
    hs_status status = hs_kv_cache_new(&cache, &worker->cache, err);
    if (status != HS_OK) {
        return status;
    }
    worker->wants_checkpoints = hs_kv_cache_wants_checkpoints(worker->cache);
    worker->share.max = p->n_seq_max + p->max_client_queue;
    worker->running = hs_calloc(n_seq, sizeof(struct hs_request *));
    worker->busy = hs_calloc(n_seq, sizeof(worker->busy[0]));
    worker->owners = hs_calloc(n_seq, sizeof(worker->owners[0]));
    worker->wants = hs_calloc(n_seq, sizeof(worker->wants[0]));
    worker->quotas = hs_calloc(n_seq, sizeof(worker->quotas[0]));
    if (worker->running == NULL || worker->busy == NULL || worker->owners == NULL ||
        worker->wants == NULL || worker->quotas == NULL ||
        hs_batch_init(&worker->batch, p->n_batch, p->n_seq_max)) {
        return hs_error_nomem(err, "worker of a model");
    }
    return HS_OK;
}

static void free_parts(hs_worker *worker)
{
    hs_batch_free(&worker->batch);
    hs_kv_cache_free(worker->cache);
    hs_free(worker->running);
    hs_free(worker->busy);
    hs_free(worker->owners);
    hs_free(worker->wants);
    hs_free(worker->quotas);
    hs_free(worker);
}

static int init_locks(hs_worker *worker)
{
    int rc = hs_cond_init(&worker->work);
    if (rc != 0) {
        return rc;
    }
    rc = pthread_cond_init(&worker->changed, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&worker->work);
        return rc;
    }
    rc = pthread_mutex_init(&worker->mutex, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&worker->changed);
        pthread_cond_destroy(&worker->work);
    }
    return rc;
}

static void destroy_locks(hs_worker *worker)
{
    pthread_mutex_destroy(&worker->mutex);
    pthread_cond_destroy(&worker->work);
    pthread_cond_destroy(&worker->changed);
}

hs_status hs_worker_start(const struct hs_worker_params *params, hs_worker **ret_worker,
                          struct hs_error *err)
{
    hs_worker *worker = hs_calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return hs_error_nomem(err, "worker of a model");
    }
    worker->p = *params;
    worker->rt = params->model->rt;
    worker->n_ctx = (size_t)worker->rt->context_n_ctx(params->context);
    worker->batch_limit = params->n_batch;
    hs_status status = make_parts(worker, err);
    if (status != HS_OK) {
        free_parts(worker);
        return status;
    }
    int rc = init_locks(worker);
    if (rc == 0) {
        if (worker->rt->set_abort != NULL) {
            worker->rt->set_abort(params->context, should_abort, worker);
        }
        rc = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (rc != 0) {
            destroy_locks(worker);
        }
    }
    if (rc != 0) {
        free_parts(worker);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot start a worker thread: %s",
                            strerror(rc));
    }
    *ret_worker = worker;
    return HS_OK;
}

void hs_worker_close(hs_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->is_closing = true;
    pthread_mutex_unlock(&worker->mutex);
    atomic_store(&worker->is_giving_up, true);
    hs_worker_wake(worker);
    pthread_mutex_lock(&worker->mutex);
    while (worker->n_requests > 0) {
        pthread_cond_wait(&worker->changed, &worker->mutex);
    }
    pthread_mutex_unlock(&worker->mutex);
}

void hs_worker_free(hs_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    hs_worker_close(worker);
    pthread_mutex_lock(&worker->mutex);
    worker->is_stopping = true;
    pthread_cond_signal(&worker->work);
    pthread_mutex_unlock(&worker->mutex);
    pthread_join(worker->thread, NULL);
    hs_rt_context *context = worker->p.context;
    const struct hs_runtime *rt = worker->rt;
    destroy_locks(worker);
    free_parts(worker);
    rt->context_free(context);
}
