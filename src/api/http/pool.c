/* pool.c - the threads that run handlers, and their two queues. */
#include "base/error.h"
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
    pthread_mutex_lock(&pool->threads.lock);
    for (;;) {
        hs_http_request *request =
            pool->going_on.head != NULL ? pool->going_on.head : pool->beginning.head;
        if (request != NULL) {
            queue_remove(request);
            pthread_mutex_unlock(&pool->threads.lock);
            hs_http_request_work(request);
            pthread_mutex_lock(&pool->threads.lock);
        } else if (pool->threads.is_closed) {
            break;
        } else {
            pthread_cond_wait(&pool->threads.has_work, &pool->threads.lock);
        }
    }
    pthread_mutex_unlock(&pool->threads.lock);
    return NULL;
}

hs_status hs_http_pool_start(struct hs_http_pool *pool, int n_threads, struct hs_error *err)
{
    hs_status status = hs_net_pool_open(&pool->threads, n_threads, pool_main, pool, err);
    if (status != HS_OK) {
        return status;
    }
    int code = 0;
    pthread_mutex_lock(&pool->threads.lock);
    for (int i = 0; i < n_threads && code == 0; i++) {
        code = hs_net_pool_grow(&pool->threads);
    }
    pthread_mutex_unlock(&pool->threads.lock);
    if (code != 0) {
        hs_net_pool_close(&pool->threads);
        return hs_error_set(err, hs_status_from_errno(code), "cannot start %d threads", n_threads);
    }
    return HS_OK;
}

void hs_http_pool_push(struct hs_http_pool *pool, hs_http_request *request, bool is_beginning)
{
    pthread_mutex_lock(&pool->threads.lock);
    queue_append(is_beginning ? &pool->beginning : &pool->going_on, request);
    pthread_cond_signal(&pool->threads.has_work);
    pthread_mutex_unlock(&pool->threads.lock);
}

bool hs_http_pool_remove(struct hs_http_pool *pool, hs_http_request *request)
{
    pthread_mutex_lock(&pool->threads.lock);
    bool is_queued = request->queue != NULL;
    if (is_queued) {
        queue_remove(request);
    }
    pthread_mutex_unlock(&pool->threads.lock);
    return is_queued;
}

int hs_http_pool_n_beginning(struct hs_http_pool *pool)
{
    pthread_mutex_lock(&pool->threads.lock);
    int n = pool->beginning.n;
    pthread_mutex_unlock(&pool->threads.lock);
    return n;
}

void hs_http_pool_count(struct hs_http_pool *pool, int change)
{
    pthread_mutex_lock(&pool->threads.lock);
    pool->n_live += change;
    if (pool->n_live == 0) {
        pthread_cond_broadcast(&pool->threads.has_ended);
    }
    pthread_mutex_unlock(&pool->threads.lock);
}

static bool has_ended(const void *pool)
{
    return ((const struct hs_http_pool *)pool)->n_live == 0;
}

bool hs_http_pool_wait(struct hs_http_pool *pool, int64_t timeout_ms)
{
    return hs_net_pool_wait(&pool->threads, has_ended, timeout_ms);
}
