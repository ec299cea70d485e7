/* pool.c - the threads that run handlers, and their two queues. */
#include <signal.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "http_internal.h"

static void queue_append(struct hs_http_queue *queue, hs_http_request *request)
{
    request->queue = queue;
    request->queue_next = NULL;
    request->queue_prev = queue->tail;
    if (queue->tail != NULL) {
        queue->tail->queue_next = request;
    } else {
        queue->head = request;
    }
    queue->tail = request;
    queue->n++;
}

static void queue_remove(hs_http_request *request)
{
    struct hs_http_queue *queue = request->queue;
    if (request->queue_prev != NULL) {
        request->queue_prev->queue_next = request->queue_next;
    } else {
        queue->head = request->queue_next;
    }
    if (request->queue_next != NULL) {
        request->queue_next->queue_prev = request->queue_prev;
    } else {
        queue->tail = request->queue_prev;
    }
    queue->n--;
    request->queue = NULL;
}

static void *pool_main(void *arg)
{
    struct hs_http_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        hs_http_request *request =
            pool->going_on.head != NULL ? pool->going_on.head : pool->beginning.head;
        if (request != NULL) {
            queue_remove(request);
            pthread_mutex_unlock(&pool->lock);
            hs_http_request_work(request);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->is_closed) {
            break;
        } else {
            pthread_cond_wait(&pool->has_work, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static hs_status init_locks(struct hs_http_pool *pool, struct hs_error *err)
{
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) {
        return hs_error_nomem(err, "a thread pool");
    }
    int code = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    code = code != 0 ? code : pthread_mutex_init(&pool->lock, NULL);
    code = code != 0 ? code : pthread_cond_init(&pool->has_work, NULL);
    code = code != 0 ? code : pthread_cond_init(&pool->has_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return code == 0 ? HS_OK : hs_error_nomem(err, "a thread pool");
}

hs_status hs_http_pool_start(struct hs_http_pool *pool, int n_threads, struct hs_error *err)
{
    hs_status status = init_locks(pool, err);
    if (status != HS_OK) {
        return status;
    }
    pool->threads = hs_calloc((size_t)n_threads, sizeof *pool->threads);
    if (pool->threads == NULL) {
        return hs_error_nomem(err, "a thread pool");
    }
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
    int code = 0;
    while (code == 0 && pool->n_threads < n_threads) {
        code = pthread_create(&pool->threads[pool->n_threads], NULL, pool_main, pool);
        pool->n_threads += code == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code != 0) {
        hs_http_pool_stop(pool);
        return hs_error_set(err, hs_status_from_errno(code), "cannot start %d threads", n_threads);
    }
    return HS_OK;
}

void hs_http_pool_push(struct hs_http_pool *pool, hs_http_request *request, bool is_beginning)
{
    pthread_mutex_lock(&pool->lock);
    queue_append(is_beginning ? &pool->beginning : &pool->going_on, request);
    pthread_cond_signal(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
}

bool hs_http_pool_remove(struct hs_http_pool *pool, hs_http_request *request)
{
    pthread_mutex_lock(&pool->lock);
    bool is_queued = request->queue != NULL;
    if (is_queued) {
        queue_remove(request);
    }
    pthread_mutex_unlock(&pool->lock);
    return is_queued;
}

int hs_http_pool_n_beginning(struct hs_http_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    int n = pool->beginning.n;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

void hs_http_pool_count(struct hs_http_pool *pool, int change)
{
    pthread_mutex_lock(&pool->lock);
    pool->n_live += change;
    if (pool->n_live == 0) {
        pthread_cond_broadcast(&pool->has_ended);
    }
    pthread_mutex_unlock(&pool->lock);
}

bool hs_http_pool_wait(struct hs_http_pool *pool, int64_t timeout_ms)
{
    struct timespec deadline = hs_clock_deadline(timeout_ms);
    pthread_mutex_lock(&pool->lock);
    int code = 0;
    while (pool->n_live > 0 && code == 0) {
        code = pthread_cond_timedwait(&pool->has_ended, &pool->lock, &deadline);
    }
    bool has_ended = pool->n_live == 0;
    pthread_mutex_unlock(&pool->lock);
    return has_ended;
}

void hs_http_pool_stop(struct hs_http_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->is_closed = true;
    pthread_cond_broadcast(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_threads; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pool->n_threads = 0;
    hs_free(pool->threads);
    pool->threads = NULL;
    pthread_cond_destroy(&pool->has_work);
    pthread_cond_destroy(&pool->has_ended);
    pthread_mutex_destroy(&pool->lock);
}
