/* net_pool.c - threads of a server, from the first to the last. */
#include "api/net_pool.h"

#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

static int init_locks(struct hs_net_pool *pool)
{
    int code = pthread_mutex_init(&pool->lock, NULL);
    code = code != 0 ? code : hs_cond_init(&pool->has_work);
    return code != 0 ? code : hs_cond_init(&pool->has_ended);
}

hs_status hs_net_pool_open(struct hs_net_pool *pool, int n_threads_max, void *(*run)(void *),
                           void *user, struct hs_error *err)
{
    pool->threads = hs_calloc((size_t)n_threads_max, sizeof *pool->threads);
    if (pool->threads == NULL || init_locks(pool) != 0) {
        hs_free(pool->threads);
        pool->threads = NULL;
        return hs_error_nomem(err, "a thread pool");
    }
    pool->run = run;
    pool->user = user;
    pool->n_threads_max = n_threads_max;
    pool->is_ready = true;
    return HS_OK;
}

int hs_net_pool_grow(struct hs_net_pool *pool)
{
    if (pool->n_threads >= pool->n_threads_max) {
        return EAGAIN;
    }
    int code = hs_thread_start(&pool->threads[pool->n_threads], pool->run, pool->user);
    pool->n_threads += code == 0;
    return code;
}

bool hs_net_pool_wait(struct hs_net_pool *pool, bool (*has_ended)(const void *user),
                      int64_t timeout_ms)
{
    struct timespec deadline = hs_clock_deadline(timeout_ms);
    pthread_mutex_lock(&pool->lock);
    int code = 0;
    while (!has_ended(pool->user) && code == 0) {
        code = pthread_cond_timedwait(&pool->has_ended, &pool->lock, &deadline);
    }
    bool is_over = has_ended(pool->user);
    pthread_mutex_unlock(&pool->lock);
    return is_over;
}

void hs_net_pool_close(struct hs_net_pool *pool)
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
    pool->threads = NULL;
    pool->n_threads = 0;
    pthread_cond_destroy(&pool->has_work);
    pthread_cond_destroy(&pool->has_ended);
    pthread_mutex_destroy(&pool->lock);
    pool->is_ready = false;
}
