/*
 * net_pool.h - the threads that run a server's handlers, without their queue, which is the
 * server's.
 *
 * Threads: n_threads, is_closed and all that the server adds are under `lock`.
 */
#ifndef API_NET_POOL_H
#define API_NET_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "hyprstream.h"

struct hs_net_pool {
    pthread_mutex_t lock;
    pthread_cond_t has_work;  /* signalled by whoever adds work */
    pthread_cond_t has_ended; /* broadcast by whoever ended the last of it */
    void *(*run)(void *);     /* a thread: until is_closed and nothing is left to do */
    void *user;
    pthread_t *threads;
    int n_threads, n_threads_max;
    bool is_closed, is_ready;
};

/* No thread is started. `pool` is all zero. Errors: HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_net_pool_open(struct hs_net_pool *pool, int n_threads_max,
                                      void *(*run)(void *), void *user, struct hs_error *err);
/* Start one more of at most n_threads_max; under the lock. 0, or an errno. */
HS_CHECKED int hs_net_pool_grow(struct hs_net_pool *pool);
/* Whether `has_ended(user)`, which is asked under the lock, came true within the time. */
bool hs_net_pool_wait(struct hs_net_pool *pool, bool (*has_ended)(const void *user),
                      int64_t timeout_ms);
/* Wait for the threads; a pool that was never opened has none. */
void hs_net_pool_close(struct hs_net_pool *pool);

#endif
