/*
 * adapter_pool.h - the adapters an engine knows: names, their present versions, and the packed
 * weights of those in use, loaded in the background and kept in memory as far as a budget goes.
 *
 * A request takes a lease on the versions its names stand for at that moment. A lease is granted
 * when what it needs fits beside the leases granted before; its versions then stay in memory until
 * it is freed. Leases that wait for memory are granted in the order they came, so that none
 * starves and none holds what another waits for. Versions that nobody leases stay until the room
 * is needed, the least recently used leave first. One that was replaced or whose name is gone
 * lives as long as its leases.
 *
 * What names the content of a version in cache keys is more than its label: the file's identity,
 * size and time of change, checked again when it is read, so that no KV outlives its weights.
 *
 * Owner:   the pool owns versions and weights; models are borrowed until hs_adapter_pool_drop.
 * Threads: any; one mutex guards everything, never held while a file is read. Wake functions are
 * called with it held: they must not call the pool.
 */
#ifndef INFERENCE_ADAPTER_POOL_H
#define INFERENCE_ADAPTER_POOL_H

#include "model.h"

#define HS_ADAPTERS_MAX 16384 /* registered ones */
#define HS_ADAPTER_PATH_SIZE 1024

typedef struct hs_adapter_pool hs_adapter_pool;
typedef struct hs_adapter_lease hs_adapter_lease;

/* What reads adapter files; tests put a slow or failing one here. From several threads at once. */
struct hs_adapter_reader {
    /* Errors: those of hs_engine_load_adapter. Out: ret_lora lives until close(ret_handle). */
    hs_status (*read)(void *user, const struct hs_model *model, const char *path,
                      struct hs_lora *ret_lora, void **ret_handle, struct hs_error *err);
    void (*close)(void *handle);
    void *user;
};

struct hs_adapter_pool_params {
    const struct hs_runtime *rt;
    uint64_t budget_bytes; /* 0: nothing can be registered */
    struct hs_adapter_reader reader;
};

HS_CHECKED hs_status hs_adapter_pool_new(const struct hs_adapter_pool_params *params,
                                         hs_adapter_pool **ret_pool, struct hs_error *err);
/* No lease may be left. */
void hs_adapter_pool_free(hs_adapter_pool *pool);
/* Before anything is registered. */
void hs_adapter_pool_set_reader(hs_adapter_pool *pool, const struct hs_adapter_reader *reader);

/* Find out how adapters are applied to the model, which takes some decodes the first time; nothing
 * when none can be registered. Errors: those of lora_prepare in runtime.h. */
HS_CHECKED hs_status hs_adapter_pool_prepare(hs_adapter_pool *pool, const struct hs_model *model,
                                             struct hs_error *err);
/* As the functions of hyprstream.h that are called alike; the model is params->model_id's, loaded
 * and in use by the caller. */
HS_CHECKED hs_status hs_adapter_pool_register(hs_adapter_pool *pool, const struct hs_model *model,
                                              const struct hs_adapter_params *params,
                                              struct hs_error *err);
HS_CHECKED hs_status hs_adapter_pool_replace(hs_adapter_pool *pool, const struct hs_model *model,
                                             const struct hs_adapter_params *params,
                                             struct hs_error *err);
HS_CHECKED hs_status hs_adapter_pool_load(hs_adapter_pool *pool, const struct hs_model *model,
                                          const char *name, struct hs_error *err);
HS_CHECKED hs_status hs_adapter_pool_unload(hs_adapter_pool *pool, const char *name,
                                            struct hs_error *err);
HS_CHECKED hs_status hs_adapter_pool_unregister(hs_adapter_pool *pool, const char *name,
                                                struct hs_error *err);
HS_CHECKED hs_status hs_adapter_pool_info(hs_adapter_pool *pool, const char *name,
                                          struct hs_adapter_info *ret_info, struct hs_error *err);
HS_CHECKED hs_status hs_adapter_pool_list(hs_adapter_pool *pool, const char *model_id,
                                          struct hs_adapter_info **ret_infos, size_t *ret_n,
                                          struct hs_error *err);
/* The fields about adapters' memory. */
void hs_adapter_pool_stats(hs_adapter_pool *pool, const struct hs_model *model,
                           struct hs_model_stats *stats);
/* Forget a model's adapters, which have no leases; waits for loads under way. */
void hs_adapter_pool_drop(hs_adapter_pool *pool, const struct hs_model *model);

/* To be freed by hs_adapter_refs_free. */
HS_CHECKED hs_status hs_adapter_refs_copy(const struct hs_adapter_ref *refs, size_t n,
                                          struct hs_adapter_ref **ret_copy, struct hs_error *err);
/* Whether a request could name them now. Errors: those of hs_adapter_lease_take. */
HS_CHECKED hs_status hs_adapter_pool_check(hs_adapter_pool *pool, const struct hs_model *model,
                                           const struct hs_adapter_ref *refs, int32_t n,
                                           struct hs_error *err);

enum hs_adapter_lease_state {
    HS_ADAPTER_LEASE_WAITING = 0, /* for memory, or for a load */
    HS_ADAPTER_LEASE_READY,
    HS_ADAPTER_LEASE_FAILED
};

/*
 * Lease the present versions of refs[n], those of scale 0 left out, and begin to load what is not
 * in memory.
 * In:     wake(user): called when the state changes.
 * Out:    ret_lease, NULL when no adapter is left.
 * Errors: HS_NOT_FOUND (with the names that fit), HS_MISMATCH, HS_INVALID_ARGUMENT, HS_LIMIT,
 * HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_adapter_lease_take(hs_adapter_pool *pool, const struct hs_model *model,
                                           const struct hs_adapter_ref *refs, int32_t n,
                                           void (*wake)(void *user), void *user,
                                           hs_adapter_lease **ret_lease, struct hs_error *err);
/* usage: of the request that has ended, for the figures; NULL: there was none. */
void hs_adapter_lease_free(hs_adapter_lease *lease, const struct hs_usage *usage);
enum hs_adapter_lease_state hs_adapter_lease_state(const hs_adapter_lease *lease);
/* Of a failed one. */
const struct hs_error *hs_adapter_lease_error(const hs_adapter_lease *lease);
/* Of one that is ready; lives as long as the lease. */
const struct hs_rt_adapter_set *hs_adapter_lease_set(const hs_adapter_lease *lease);
/* What KV computed with it is kept under. */
const char *hs_adapter_lease_key(const hs_adapter_lease *lease);
/* Write "name:scale+name:scale", cut behind the last one that fits. */
void hs_adapter_lease_text(const hs_adapter_lease *lease, char *ret_text, size_t size);

#endif
