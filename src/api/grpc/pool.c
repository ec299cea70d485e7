/* pool.c - the threads that run handlers; each is started when a call finds none that is idle. */
#include "base/error.h"
#include "base/log.h"
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
    pthread_mutex_lock(&pool->threads.lock);
    while (pool->head != NULL || !pool->threads.is_closed) {
        hs_grpc_call *call = pool->head;
        if (call == NULL) {
            pthread_cond_wait(&pool->threads.has_work, &pool->threads.lock);
            continue;
        }
        queue_remove(pool, call);
        pool->n_idle--;
        pool->n_running++;
        pthread_mutex_unlock(&pool->threads.lock);
        hs_grpc_call_run(call);
        hs_grpc_call_unref(call);
        pthread_mutex_lock(&pool->threads.lock);
        pool->n_running--;
        pool->n_idle++;
        if (pool->n_running == 0) {
            pthread_cond_broadcast(&pool->threads.has_ended);
        }
    }
    pthread_mutex_unlock(&pool->threads.lock);
    return NULL;
}

/* 0, or an errno. */
static int start_thread(struct hs_grpc_pool *pool)
{
    int code = hs_net_pool_grow(&pool->threads);
    pool->n_idle += code == 0;
    return code;
}

hs_status hs_grpc_pool_start(struct hs_grpc_pool *pool, int n_threads, int n_queued_max,
                             struct hs_error *err)
{
    hs_status status = hs_net_pool_open(&pool->threads, n_threads, pool_main, pool, err);
    if (status != HS_OK) {
        return status;
    }
    pool->n_queued_max = n_queued_max;
    pthread_mutex_lock(&pool->threads.lock);
    int code = start_thread(pool);
    pthread_mutex_unlock(&pool->threads.lock);
    return code == 0 ? HS_OK : hs_error_errno(err, code, "start", "a thread for calls");
}

bool hs_grpc_pool_push(struct hs_grpc_pool *pool, hs_grpc_call *call)
{
    pthread_mutex_lock(&pool->threads.lock);
    if (pool->n_queued >= pool->n_idle && pool->threads.n_threads < pool->threads.n_threads_max) {
        int code = start_thread(pool);
        if (code != 0) {
            hs_log(HS_LOG_WARN, "grpc", "there are only %d threads for calls: error %d",
                   pool->threads.n_threads, code);
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
        pthread_cond_signal(&pool->threads.has_work);
    }
    pthread_mutex_unlock(&pool->threads.lock);
    return has_room;
}

bool hs_grpc_pool_remove(struct hs_grpc_pool *pool, hs_grpc_call *call)
{
    pthread_mutex_lock(&pool->threads.lock);
    bool is_queued = call->is_queued;
    if (is_queued) {
        queue_remove(pool, call);
    }
    pthread_mutex_unlock(&pool->threads.lock);
    if (is_queued) {
        hs_grpc_call_unref(call);
    }
    return is_queued;
}

void hs_grpc_pool_count(struct hs_grpc_pool *pool, int *ret_n_queued, int *ret_n_running)
{
    pthread_mutex_lock(&pool->threads.lock);
    *ret_n_queued = pool->n_queued;
    *ret_n_running = pool->n_running;
    pthread_mutex_unlock(&pool->threads.lock);
}

static bool has_ended(const void *arg)
{
    const struct hs_grpc_pool *pool = arg;
    return pool->n_running + pool->n_queued == 0;
}

bool hs_grpc_pool_wait(struct hs_grpc_pool *pool, int64_t timeout_ms)
{
    return hs_net_pool_wait(&pool->threads, has_ended, timeout_ms);
}
