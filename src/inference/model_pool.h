/*
 * model_pool.h - what model_pool.c (members, leases) and model_pool_loader.c (the thread that loads
 * and unloads) share.
 *
 * Threads: everything is guarded by the pool's mutex. Lock order: the pool's, then the engine's.
 */
#ifndef INFERENCE_MODEL_POOL_H
#define INFERENCE_MODEL_POOL_H

#include <pthread.h>
#include <sys/types.h>

#include "engine_internal.h"
#include "hyprstream/model_pool.h"
#include "runtime/runtime.h"

enum hs_lease_state { HS_LEASE_WAITING = 0, HS_LEASE_GRANTED, HS_LEASE_FAILED };

struct hs_model_lease {
    hs_model_pool *pool;
    struct hs_pool_member *member;
    struct hs_model_lease *prev, *next;
    enum hs_lease_state state;
    void (*notify)(void *user);
    void *user;
    struct hs_error failure;
};

struct hs_pool_member {
    char id[HS_ID_MAX];
    char *path;
    struct hs_model_params params; /* its strings are the member's */
    int64_t own_keep_alive_ms, keep_alive_ms;
    bool is_pinned;
    bool is_leaving_asked; /* somebody needs its room, or wants it gone: no lease is granted */
    int64_t leave_by_ns;   /* he who wants it gone waits so long; 0: nobody does */
    enum hs_model_pool_state state;
    float progress;
    uint64_t turn; /* order among the waiting */
    hs_model_lease *leases;
    int32_t n_granted, n_waiting;
    struct hs_model_info info; /* while it is loaded */
    struct hs_rt_memory need;  /* as estimated; all zero: not known */
    dev_t device;              /* of the file, and which one: those of one file share its pages */
    ino_t inode;
    int64_t unused_ns, retry_ns;          /* last lease ended; unloading is not tried before */
    uint64_t n_uses, n_loads, n_uses_now; /* the last: since it was loaded */
    double load_ms, value;
    struct hs_error failure;
};

struct hs_model_pool {
    hs_engine *engine;
    struct hs_model_pool_params params;
    pthread_mutex_t mutex;
    pthread_cond_t work, changed; /* for the loader; for those who wait for a lease or an unload */
    pthread_t thread;
    bool is_stopping;
    uint64_t last_turn;
    double floor;                    /* L of GDSF */
    struct hs_pool_member **members; /* [n_members] */
    size_t n_members, cap_members;
};

/* The thread, until is_stopping. */
void *hs_pool_loader_run(void *pool);

/* ---- with the mutex held ---- */

/* Bytes of everything that is loaded or being loaded, as measured or estimated. */
uint64_t hs_pool_used(const hs_model_pool *pool);
/* Give the model, or the failure, to all who wait. */
void hs_pool_grant(struct hs_pool_member *member);
void hs_pool_fail(struct hs_pool_member *member, const struct hs_error *failure);
/* When an unused member is to be unloaded; INT64_MAX: not by time. */
int64_t hs_pool_expires_ns(const struct hs_pool_member *member);

#endif
