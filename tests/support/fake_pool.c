#include "fake_pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define MODELS_MAX 16

struct fake_pool fake_pool;

struct hs_model_lease {
    hs_model_pool *pool;
    struct hs_model_lease *next;
    int model;
    void (*notify)(void *user);
    void *user;
    bool is_waiting;
    struct hs_error failure; /* HS_OK: granted */
};

struct hs_model_pool {
    hs_engine *engine;
    struct hs_model_pool_params params;
    pthread_mutex_t mutex;
    struct hs_model_pool_status models[MODELS_MAX];
    struct hs_model_info infos[MODELS_MAX];
    int64_t keep_alive_ms[MODELS_MAX];
    int n;
    hs_model_lease *leases;
};

const char *hs_model_pool_state_name(enum hs_model_pool_state state)
{
    static const char *const names[] = {"cold", "waiting", "loading", "ready", "leaving"};
    return names[state];
}

hs_status hs_model_pool_new(hs_engine *engine, const struct hs_model_pool_params *params,
                            hs_model_pool **ret_pool, struct hs_error *err)
{
    hs_model_pool *pool = calloc(1, sizeof *pool);
    if (!pool) {
        return hs_error_nomem(err, "fake pool");
    }
    pool->engine = engine;
    pool->params = *params;
    pthread_mutex_init(&pool->mutex, NULL);
    *ret_pool = pool;
    return HS_OK;
}

void hs_model_pool_free(hs_model_pool *pool)
{
    if (pool) {
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
    }
}

static int find(const hs_model_pool *pool, const char *id)
{
    int i = 0;
    while (i < pool->n && strcmp(pool->models[i].id, id) != 0) {
        i++;
    }
    return i;
}

static hs_status need(const hs_model_pool *pool, const char *id, int *ret, struct hs_error *err)
{
    *ret = find(pool, id);
    return *ret < pool->n ? HS_OK : hs_error_set(err, HS_NOT_FOUND, "there is no model '%s'", id);
}

hs_status hs_model_pool_add(hs_model_pool *pool, const struct hs_model_pool_entry *entry,
                            struct hs_error *err)
{
    if (find(pool, entry->id) < pool->n || pool->n == MODELS_MAX) {
        return hs_error_set(err, HS_ALREADY_EXISTS, "there is a model '%s' already", entry->id);
    }
    struct hs_model_pool_status *model = &pool->models[pool->n];
    *model = (struct hs_model_pool_status){
        .is_pinned = entry->is_pinned, .unused_ms = -1, .expires_ms = -1};
    pool->keep_alive_ms[pool->n] = HS_KEEP_ALIVE_DEFAULT;
    snprintf(model->id, sizeof model->id, "%s", entry->id);
    snprintf(model->path, sizeof model->path, "%s", entry->path);
    pool->n++;
    return HS_OK;
}

/* ---- loading, with the mutex held, which is free for the hooks ---- */

static int granted(const hs_model_pool *pool, int model)
{
    int n = 0;
    for (const hs_model_lease *lease = pool->leases; lease; lease = lease->next) {
        n += lease->model == model && !lease->is_waiting && lease->failure.status == HS_OK;
    }
    return n;
}

static hs_status load(hs_model_pool *pool, int model, struct hs_error *err)
{
    for (int i = 0; i < pool->n; i++) {
        if (pool->models[i].state == HS_MODEL_POOL_READY && i != model) {
            if (granted(pool, i) > 0) {
                return hs_error_set(err, HS_MODEL_TOO_LARGE, "'%s' takes all the room",
                                    pool->models[i].id);
            }
            pool->models[i].state = HS_MODEL_POOL_COLD;
            pthread_mutex_unlock(&pool->mutex);
            pool->params.unloaded(pool->params.user, pool->models[i].id);
            pthread_mutex_lock(&pool->mutex);
        }
    }
    struct hs_model_pool_status *now = &pool->models[model];
    struct hs_model_params params;
    memset(&params, 0, sizeof params);
    char id[HS_ID_MAX];
    hs_status status = hs_engine_load_model(pool->engine, now->path, now->id, &params, id, err);
    status = status ? status : hs_engine_model_info(pool->engine, id, &pool->infos[model], err);
    if (status == HS_OK) {
        pthread_mutex_unlock(&pool->mutex);
        pool->params.loaded(pool->params.user, &pool->infos[model]);
        pthread_mutex_lock(&pool->mutex);
        now->state = HS_MODEL_POOL_READY;
        now->n_loads++;
    } else {
        now->failure = *err;
    }
    return status;
}

static void decide(hs_model_lease *lease)
{
    hs_model_pool *pool = lease->pool;
    bool is_ready = pool->models[lease->model].state == HS_MODEL_POOL_READY;
    lease->failure.status = HS_OK;
    if (!is_ready) {
        (void)!load(pool, lease->model, &lease->failure);
    }
    lease->is_waiting = false;
    pool->models[lease->model].n_uses++;
}

hs_status hs_model_pool_lease(hs_model_pool *pool, const char *id, void (*notify)(void *user),
                              void *user, hs_model_lease **ret_lease, struct hs_error *err)
{
    hs_model_lease *lease = calloc(1, sizeof *lease);
    pthread_mutex_lock(&pool->mutex);
    hs_status status = need(pool, id, &lease->model, err);
    if (status == HS_OK) {
        lease->pool = pool;
        lease->notify = notify;
        lease->user = user;
        lease->is_waiting = true;
        lease->next = pool->leases;
        pool->leases = lease;
        bool is_ready = pool->models[lease->model].state == HS_MODEL_POOL_READY;
        if (is_ready || !fake_pool.is_held) {
            decide(lease);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    if (status) {
        free(lease);
        return status;
    }
    *ret_lease = lease;
    return HS_OK;
}

int fake_pool_waiting(hs_model_pool *pool)
{
    int n = 0;
    pthread_mutex_lock(&pool->mutex);
    for (const hs_model_lease *lease = pool->leases; lease; lease = lease->next) {
        n += lease->is_waiting;
    }
    pthread_mutex_unlock(&pool->mutex);
    return n;
}

int fake_pool_go(hs_model_pool *pool)
{
    int n = 0;
    pthread_mutex_lock(&pool->mutex);
    for (hs_model_lease *lease = pool->leases; lease; lease = lease->next) {
        if (lease->is_waiting) {
            decide(lease);
            n++;
            if (lease->notify) {
                lease->notify(lease->user);
            }
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return n;
}

hs_status hs_model_lease_state(hs_model_lease *lease, struct hs_model_info *ret_info,
                               struct hs_error *err)
{
    pthread_mutex_lock(&lease->pool->mutex);
    hs_status status = lease->is_waiting ? HS_BUSY : lease->failure.status;
    if (status == HS_BUSY) {
        hs_error_set(err, HS_BUSY, "loading");
    } else if (status != HS_OK && err) {
        *err = lease->failure;
    } else if (ret_info) {
        *ret_info = lease->pool->infos[lease->model];
    }
    pthread_mutex_unlock(&lease->pool->mutex);
    return status;
}

hs_status hs_model_lease_wait(hs_model_lease *lease, int64_t timeout_ms,
                              struct hs_model_info *ret_info, struct hs_error *err)
{
    (void)timeout_ms;
    return hs_model_lease_state(lease, ret_info, err);
}

void hs_model_lease_keep_alive(hs_model_lease *lease, int64_t keep_alive_ms)
{
    lease->pool->keep_alive_ms[lease->model] = keep_alive_ms;
}

void hs_model_lease_release(hs_model_lease *lease)
{
    if (!lease) {
        return;
    }
    hs_model_pool *pool = lease->pool;
    pthread_mutex_lock(&pool->mutex);
    hs_model_lease **at = &pool->leases;
    while (*at != lease) {
        at = &(*at)->next;
    }
    *at = lease->next;
    pthread_mutex_unlock(&pool->mutex);
    free(lease);
}

/* ---- the rest ---- */

hs_status hs_model_pool_pin(hs_model_pool *pool, const char *id, bool is_pinned,
                            struct hs_error *err)
{
    int i;
    hs_status status = need(pool, id, &i, err);
    if (status == HS_OK) {
        pool->models[i].is_pinned = is_pinned;
    }
    return status;
}

hs_status hs_model_pool_unload(hs_model_pool *pool, const char *id, struct hs_error *err)
{
    int i;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = need(pool, id, &i, err);
    bool is_ready = status == HS_OK && pool->models[i].state == HS_MODEL_POOL_READY;
    if (status == HS_OK && granted(pool, i) > 0) {
        status = hs_error_set(err, HS_BUSY, "model '%s' is in use", id);
    } else if (is_ready) {
        status = hs_engine_unload_model(pool->engine, id, err);
        pool->models[i].state = HS_MODEL_POOL_COLD;
    }
    pthread_mutex_unlock(&pool->mutex);
    if (status == HS_OK && is_ready) {
        pool->params.unloaded(pool->params.user, id);
    }
    return status;
}

static void describe(const hs_model_pool *pool, int i, struct hs_model_pool_status *ret)
{
    int64_t keep_alive_ms = pool->keep_alive_ms[i];
    *ret = pool->models[i];
    ret->n_leases = granted(pool, i);
    if (ret->state == HS_MODEL_POOL_READY) {
        ret->memory = pool->infos[i].memory;
        ret->unused_ms = ret->n_leases > 0 ? -1 : 0;
        ret->expires_ms = keep_alive_ms >= 0 ? keep_alive_ms : -1;
    }
}

void hs_model_pool_list(hs_model_pool *pool, struct hs_model_pool_status *ret_models, size_t max,
                        size_t *ret_n)
{
    pthread_mutex_lock(&pool->mutex);
    for (int i = 0; i < pool->n && (size_t)i < max; i++) {
        describe(pool, i, &ret_models[i]);
    }
    *ret_n = (size_t)pool->n;
    pthread_mutex_unlock(&pool->mutex);
}

hs_status hs_model_pool_get(hs_model_pool *pool, const char *id,
                            struct hs_model_pool_status *ret_status, struct hs_error *err)
{
    int i;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = need(pool, id, &i, err);
    if (status == HS_OK) {
        describe(pool, i, ret_status);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

void hs_model_pool_memory(hs_model_pool *pool, struct hs_pool_memory *ret_memory)
{
    *ret_memory = (struct hs_pool_memory){.budget_bytes = pool->params.budget_bytes};
    for (int i = 0; i < pool->n; i++) {
        bool is_ready = pool->models[i].state == HS_MODEL_POOL_READY;
        ret_memory->used_bytes += is_ready ? pool->infos[i].memory.weights_bytes : 0;
    }
}
