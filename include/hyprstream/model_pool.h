/*
 * model_pool.h - a pool of models: more than fit into memory at a time.
 *
 * Models that load when somebody asks for them and leave when others need their room. A lease keeps
 * its model loaded; whoever uses a model of the pool holds one meanwhile.
 *
 * One thread of the pool loads and unloads, so that nobody's stream waits for it. Models that wait
 * are loaded in the order in which they were asked for, once for everybody who asked. When the
 * memory of the loaded ones and the next exceeds the budget, what is not used leaves, the least
 * valuable first: value = L + uses * load time / bytes, L being the value of what left last (GDSF,
 * Cherkasova 1998: Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching). When
 * that is not enough, the least valuable ones in use leave as soon as their leases have ended, and
 * new ones for them wait behind, so that nobody starves. Nobody may wait for a lease while he holds
 * one. Pinned models stay.
 *
 * Memory is what was measured after a load, before it what is estimated; mapped weights of one file
 * count once. A context whose size is not asked for is fitted to what the budget and the machine
 * leave beside pinned models.
 *
 * Owner:   hs_model_pool_free, with no lease left, before the engine; the engine must not unload
 *          models of the pool by itself.
 * Threads: any; hooks run on the pool's thread.
 */
#ifndef HYPRSTREAM_MODEL_POOL_H
#define HYPRSTREAM_MODEL_POOL_H

#include "hyprstream.h"

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct hs_model_pool hs_model_pool;
typedef struct hs_model_lease hs_model_lease;

#define HS_KEEP_ALIVE_DEFAULT INT64_MIN

struct hs_model_pool_params {
    uint64_t budget_bytes; /* weights, KV and compute of all loaded models; 0: 80 % of the memory
                              that is available when the pool is made */
    int64_t
        keep_alive_ms; /* that a model stays after its last use; < 0: until its room is needed */
    /* After a load, before anybody gets the model; after an unload. May be NULL. They may use the
     * engine, but not the pool. */
    void (*loaded)(void *user, const struct hs_model_info *info);
    void (*unloaded)(void *user, const char *model_id);
    void *user;
};

struct hs_model_pool_entry {
    const char *id;                       /* as requests name it; unique */
    const char *path;                     /* of the GGUF file */
    const struct hs_model_params *params; /* NULL: defaults; progress is the pool's */
    int64_t keep_alive_ms;                /* HS_KEEP_ALIVE_DEFAULT: the pool's */
    bool is_pinned;                       /* once loaded, it stays */
};

enum hs_model_pool_state {
    HS_MODEL_POOL_COLD = 0, /* not loaded */
    HS_MODEL_POOL_WAITING,  /* for its turn to load, or for room */
    HS_MODEL_POOL_LOADING,
    HS_MODEL_POOL_READY,
    HS_MODEL_POOL_LEAVING
};
/* "cold", "waiting", "loading", "ready", "leaving" */
HS_API const char *hs_model_pool_state_name(enum hs_model_pool_state state);

struct hs_model_pool_status {
    char id[HS_ID_MAX];
    char path[1024];
    enum hs_model_pool_state state;
    bool is_pinned;
    float progress;   /* while it loads, 0 to 1 */
    int32_t n_leases; /* that have the model */
    int32_t n_waiting;
    struct hs_memory memory; /* measured; zero while it is not loaded */
    int64_t unused_ms;       /* since the last lease ended; -1: in use, or not loaded */
    int64_t expires_ms;      /* until it is unloaded; -1: not by time */
    uint64_t n_uses, n_loads;
    double load_ms;          /* the last load took */
    struct hs_error failure; /* of the last load; status HS_OK: it succeeded, or there was none */
};

struct hs_pool_memory {
    uint64_t budget_bytes, used_bytes;
};

HS_API void hs_model_pool_params_defaults(struct hs_model_pool_params *params);
HS_API HS_CHECKED hs_status hs_model_pool_new(hs_engine *engine,
                                              const struct hs_model_pool_params *params,
                                              hs_model_pool **ret_pool, struct hs_error *err);
HS_API void hs_model_pool_free(hs_model_pool *pool);

/* Tell the pool of a model; nothing is loaded, nothing read. HS_ALREADY_EXISTS, HS_INVALID_ARGUMENT
 * (an id or path that is too long or empty, bad parameters). */
HS_API HS_CHECKED hs_status hs_model_pool_add(hs_model_pool *pool,
                                              const struct hs_model_pool_entry *entry,
                                              struct hs_error *err);
/* HS_NOT_FOUND; HS_BUSY unless it is cold. */
HS_API HS_CHECKED hs_status hs_model_pool_remove(hs_model_pool *pool, const char *id,
                                                 struct hs_error *err);
/* HS_NOT_FOUND. A model that is pinned is not loaded by that. */
HS_API HS_CHECKED hs_status hs_model_pool_pin(hs_model_pool *pool, const char *id, bool is_pinned,
                                              struct hs_error *err);
/* Unload now, pinned or not; returns when it is gone. HS_NOT_FOUND; HS_BUSY while it is in use, is
 * asked for, or has open sessions. */
HS_API HS_CHECKED hs_status hs_model_pool_unload(hs_model_pool *pool, const char *id,
                                                 struct hs_error *err);

/*
 * Ask for a model; never waits.
 * In:     notify: called once when the lease has its model or failed, unless that is so on return,
 *         with the pool locked: it must neither block nor call the pool. NULL: none.
 * Errors: HS_NOT_FOUND, HS_OUT_OF_MEMORY.
 */
HS_API HS_CHECKED hs_status hs_model_pool_lease(hs_model_pool *pool, const char *id,
                                                void (*notify)(void *user), void *user,
                                                hs_model_lease **ret_lease, struct hs_error *err);
/* HS_OK: it is loaded, and ret_info (may be NULL) says how. HS_BUSY: not yet, and the message says
 * what it waits for. Else what the load failed with: HS_MODEL_TOO_LARGE says how much is missing.
 */
HS_API HS_CHECKED hs_status hs_model_lease_state(hs_model_lease *lease,
                                                 struct hs_model_info *ret_info,
                                                 struct hs_error *err);
/* The same after at most so long (< 0: without an end); HS_BUSY: still not. */
HS_API HS_CHECKED hs_status hs_model_lease_wait(hs_model_lease *lease, int64_t timeout_ms,
                                                struct hs_model_info *ret_info,
                                                struct hs_error *err);
/* How long the model stays once it is unused, until the next such call; < 0: until its room is
 * needed, 0: not at all, HS_KEEP_ALIVE_DEFAULT: as it was added. */
HS_API void hs_model_lease_keep_alive(hs_model_lease *lease, int64_t keep_alive_ms);
/* NULL is allowed. After it, `notify` is not called. A load that nobody waits for any more stops.
 */
HS_API void hs_model_lease_release(hs_model_lease *lease);

/* The models in the order of adding: the first `max`. ret_n: all there are. */
HS_API void hs_model_pool_list(hs_model_pool *pool, struct hs_model_pool_status *ret_models,
                               size_t max, size_t *ret_n);
HS_API HS_CHECKED hs_status hs_model_pool_get(hs_model_pool *pool, const char *id,
                                              struct hs_model_pool_status *ret_status,
                                              struct hs_error *err);
HS_API void hs_model_pool_memory(hs_model_pool *pool, struct hs_pool_memory *ret_memory);

#if defined(__cplusplus)
}
#endif

#endif
