/*
 * adapter_internal.h - what adapter_pool.c (names and versions), adapter_lease.c (leases and
 * memory) and adapter_load.c (reading, in the background) share. "locked" in a name: called with
 * the pool's mutex held.
 */
#ifndef INFERENCE_ADAPTER_INTERNAL_H
#define INFERENCE_ADAPTER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "adapter_pool.h"

#define HS_ADAPTER_LOADERS_MAX 4 /* so that one slow file does not hold up the others */

/* A name; its versions come and go. */
struct hs_adapter_entry {
    char name[HS_ADAPTER_NAME_SIZE];
    const struct hs_model *model;
    struct hs_adapter_version *current;    /* NULL: the name is gone */
    struct hs_adapter_entry *next_removed; /* those whose name is gone */
    int32_t n_versions;                    /* alive */
    int32_t n_leases;
    bool is_pinned;
    uint64_t n_uses, n_loads;
    double load_ms;
    int64_t registered_unix_ms, last_used_unix_ms;
    uint64_t n_prompt_tokens, n_generated_tokens;
    double queue_ms, prefill_ms, decode_ms;
};

struct hs_adapter_version {
    struct hs_adapter_entry *entry;
    char label[HS_ADAPTER_NAME_SIZE];
    char content[65]; /* names its content in cache keys */
    char *path;       /* NULL: made in memory */
    char stamp[65];   /* of the file when it was registered */
    enum hs_adapter_state state;
    hs_rt_adapter *packed; /* READY only */
    uint64_t bytes;        /* by all that is known; used while LOADING (reserved) and READY */
    int32_t n_leases;
    int32_t n_pins;  /* granted leases: it must stay */
    bool is_in_load; /* a thread reads it */
    uint64_t last_used;
    struct hs_error error;                    /* of FAILED */
    struct hs_adapter_version *next_queued;   /* LOADING, and no thread has begun */
    struct hs_adapter_version *next_resident; /* READY */
};

struct hs_adapter_lease {
    hs_adapter_pool *pool;
    char key[HS_CACHE_KEY_MAX];
    struct hs_adapter_version **versions; /* [set.n] */
    struct hs_rt_adapter_use *uses;       /* [set.n] */
    struct hs_rt_adapter_set set;
    bool is_granted;
    atomic_int state; /* enum hs_adapter_lease_state */
    struct hs_error error;
    void (*wake)(void *user);
    void *user;
    hs_adapter_lease *next; /* among those that wait for memory, or for loads */
};

struct hs_adapter_pool {
    struct hs_adapter_pool_params p;
    pthread_mutex_t prepare; /* one model at a time finds out how it applies adapters */
    pthread_mutex_t mutex;
    pthread_cond_t work;               /* loaders wait here */
    pthread_cond_t changed;            /* a lease's state, a load or a freeing that has ended */
    struct hs_adapter_entry **entries; /* [n_entries], by name */
    size_t n_entries, cap_entries;
    struct hs_adapter_entry *removed; /* with versions alive */
    uint64_t n_made;                  /* versions made in memory */

    struct hs_adapter_version *resident;            /* READY ones */
    hs_adapter_lease *waiting_first, *waiting_last; /* for memory */
    hs_adapter_lease *loading;                      /* granted, for loads */
    int32_t n_granted;
    uint64_t used_bytes, tick;

    struct hs_adapter_version *queue_first, *queue_last; /* [n_queued] */
    int32_t n_queued;
    hs_rt_adapter **trash; /* [n_trash] to be freed by a loader: it takes a while */
    size_t n_trash, cap_trash;
    int32_t n_freeing;
    pthread_t loaders[HS_ADAPTER_LOADERS_MAX];
    int32_t n_loaders, n_idle;
    bool is_stopping;
};

/* ---- adapter_pool.c ---- */

HS_CHECKED hs_status hs_adapter_resolve_locked(hs_adapter_pool *pool, const struct hs_model *model,
                                               const char *name,
                                               struct hs_adapter_entry **ret_entry,
                                               struct hs_error *err);
/* Free the version unless somebody holds it, it is loaded, or it is its name's current one. */
void hs_adapter_version_drop_locked(hs_adapter_pool *pool, struct hs_adapter_version *version);

/* ---- adapter_lease.c ---- */

/* Its weights leave memory; nobody uses them. */
void hs_adapter_evict_locked(hs_adapter_pool *pool, struct hs_adapter_version *version);
/* Bytes of those that could leave. */
uint64_t hs_adapter_freeable_locked(const hs_adapter_pool *pool);
/* Let the least recently used leave until `need` more bytes fit. false: they do not. */
bool hs_adapter_make_room_locked(hs_adapter_pool *pool, uint64_t need);
/* HS_LIMIT: so many bytes do not fit. */
HS_CHECKED hs_status hs_adapter_no_room(const hs_adapter_pool *pool, uint64_t bytes,
                                        struct hs_error *err);
/* The version is in memory: READY, its bytes used. */
void hs_adapter_ready_locked(hs_adapter_pool *pool, struct hs_adapter_version *version,
                             hs_rt_adapter *packed, uint64_t bytes);
/* Tell leases that wait for this version what came of its load. */
void hs_adapter_tell_locked(hs_adapter_pool *pool, const struct hs_adapter_version *version);
/* Memory may be free: grant the leases that wait for it, in their order. */
void hs_adapter_grant_locked(hs_adapter_pool *pool);

/* ---- adapter_load.c ---- */

struct hs_adapter_load {
    hs_rt_adapter *packed;
    uint64_t bytes;
    double ms;
};
/* Read the version's file, or weights when not NULL, and pack it; called without the mutex. */
HS_CHECKED hs_status hs_adapter_load(hs_adapter_pool *pool, const struct hs_model *model,
                                     const struct hs_adapter_version *version,
                                     const struct hs_lora *weights,
                                     struct hs_adapter_load *ret_load, struct hs_error *err);
/* Queue a version for the loaders; there is one. */
void hs_adapter_queue_locked(hs_adapter_pool *pool, struct hs_adapter_version *version);
void hs_adapter_trash_locked(hs_adapter_pool *pool, hs_rt_adapter *packed);
/* Free what is in the trash and wait for who does so. */
void hs_adapter_flush_locked(hs_adapter_pool *pool);
/* There is a loader. Errors: those of starting a thread. */
HS_CHECKED hs_status hs_adapter_loader_locked(hs_adapter_pool *pool, struct hs_error *err);
/* Join the loaders. */
void hs_adapter_loaders_stop(hs_adapter_pool *pool);
/* What an adapter's files are: hex SHA-256 of who, how large and when changed, and their size. */
HS_CHECKED hs_status hs_adapter_stamp(const char *path, char ret_stamp[65], uint64_t *ret_bytes,
                                      struct hs_error *err);

#endif
