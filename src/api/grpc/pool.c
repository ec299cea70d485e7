/* pool.c - the threads that run handlers; each is started when a call finds none that is idle. */
#include <signal.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc_internal.h"

static void queue_remove(struct hs_grpc_pool *pool, hs_grpc_call *call)
{
    *(call->queue_prev != NULL ? &call->queue_prev->queue_next : &pool->head) = call->queue_next;
    *(call->queue_next != NULL ? &call->queue_next->queue_prev : &pool->tail) = call->queue_prev;
    call->is_queued = false;
    pool->n_queued--;
}

static void *pool_main(void *arg)
{
    struct hs_grpc_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    while (pool->head != NULL || !pool->is_closed) {
        hs_grpc_call *call = pool->head;
        if (call == NULL) {
            pthread_cond_wait(&pool->has_work, &pool->lock);
            continue;
        }
        queue_remove(pool, call);
        pool->n_idle--;
        pool->n_running++;
        pthread_mutex_unlock(&pool->lock);
        hs_grpc_call_run(call);
        hs_grpc_call_unref(call);
        pthread_mutex_lock(&pool->lock);
        pool->n_running--;
        pool->n_idle++;
        if (pool->n_running == 0) {
            pthread_cond_broadcast(&pool->has_ended);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* 0, or an errno. */
static int start_thread(struct hs_grpc_pool *pool)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
    int code = pthread_create(&pool->threads[pool->n_threads], NULL, pool_main, pool);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code == 0) {
        pool->n_threads++;
        pool->n_idle++;
    }
    return code;
}

static int init_locks(struct hs_grpc_pool *pool)
{
    pthread_condattr_t monotonic;
    int code = pthread_condattr_init(&monotonic);
    if (code != 0) {
        return code;
    }
    code = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    code = code != 0 ? code : pthread_mutex_init(&pool->lock, NULL);
    code = code != 0 ? code : pthread_cond_init(&pool->has_work, NULL);
    code = code != 0 ? code : pthread_cond_init(&pool->has_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return code;
}

hs_status hs_grpc_pool_start(struct hs_grpc_pool *pool, int n_threads, int n_queued_max,
                             struct hs_error *err)
{
    pool->threads = hs_calloc((size_t)n_threads, sizeof *pool->threads);
    if (pool->threads == NULL || init_locks(pool) != 0) {
        hs_free(pool->threads);
        pool->threads = NULL;
        return hs_error_nomem(err, "a thread pool");
    }
    pool->is_ready = true;
    pool->n_threads_max = n_threads;
    pool->n_queued_max = n_queued_max;
    pthread_mutex_lock(&pool->lock);
    int code = start_thread(pool);
    pthread_mutex_unlock(&pool->lock);
    return code == 0 ? HS_OK : hs_error_errno(err, code, "start", "a thread for calls");
}

bool hs_grpc_pool_push(struct hs_grpc_pool *pool, hs_grpc_call *call)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->n_queued >= pool->n_idle && pool->n_threads < pool->n_threads_max) {
        int code = start_thread(pool);
        if (code != 0) {
            hs_log(HS_LOG_WARN, "grpc", "there are only %d threads for calls: error %d",
                   pool->n_threads, code);
        }
    }
    bool has_room = pool->n_queued - pool->n_idle < pool->n_queued_max;
    if (has_room) {
        atomic_fetch_add(&call->n_refs, 1);
        call->queue_prev = pool->tail;
        call->queue_next = NULL;
        *(pool->tail != NULL ? &pool->tail->queue_next : &pool->head) = call;
        pool->tail = call;
        call->is_queued = true;
        pool->n_queued++;
        pthread_cond_signal(&pool->has_work);
    }
    pthread_mutex_unlock(&pool->lock);
    return has_room;
}

bool hs_grpc_pool_remove(struct hs_grpc_pool *pool, hs_grpc_call *call)
{
    pthread_mutex_lock(&pool->lock);
    bool is_queued = call->is_queued;
    if (is_queued) {
        queue_remove(pool, call);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_queued) {
        hs_grpc_call_unref(call);
    }
    return is_queued;
}

void hs_grpc_pool_count(struct hs_grpc_pool *pool, int *ret_n_queued, int *ret_n_running)
{
    pthread_mutex_lock(&pool->lock);
    *ret_n_queued = pool->n_queued;
    *ret_n_running = pool->n_running;
    pthread_mutex_unlock(&pool->lock);
}

bool hs_grpc_pool_wait(struct hs_grpc_pool *pool, int64_t timeout_ms)
{
    struct timespec deadline = hs_clock_deadline(timeout_ms);
    pthread_mutex_lock(&pool->lock);
    int code = 0;
    while (pool->n_running + pool->n_queued > 0 && code == 0) {
        code = pthread_cond_timedwait(&pool->has_ended, &pool->lock, &deadline);
    }
    bool has_ended = pool->n_running + pool->n_queued == 0;
    pthread_mutex_unlock(&pool->lock);
    return has_ended;
}

void hs_grpc_pool_stop(struct hs_grpc_pool *pool)
{
    if (!pool->is_ready) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_closed = true;
    pthread_cond_broadcast(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_threads; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    hs_free(pool->threads);
    pthread_cond_destroy(&pool->has_work);
    pthread_cond_destroy(&pool->has_ended);
    pthread_mutex_destroy(&pool->lock);
    pool->is_ready = false;
}
