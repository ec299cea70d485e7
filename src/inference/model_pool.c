#include "model_pool.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"
#include "base/thread.h"
#include "model_fit.h"

#define DEFAULT_KEEP_ALIVE_MS (5 * 60 * 1000)
#define NS_PER_MS 1000000
#define LEAVE_MS 1000 /* a cancelled request leaves its model within a step */

const char *hs_model_pool_state_name(enum hs_model_pool_state state)
{
    static const char *const names[] = {"cold", "waiting", "loading", "ready", "leaving"};
    size_t i = (size_t)state;
    return i < sizeof names / sizeof names[0] ? names[i] : "unknown";
}

void hs_model_pool_params_defaults(struct hs_model_pool_params *params)
{
    *params = (struct hs_model_pool_params){.keep_alive_ms = DEFAULT_KEEP_ALIVE_MS};
}

/* ---- life ---- */

static hs_status start(hs_model_pool *pool, struct hs_error *err)
{
    int rc = pthread_mutex_init(&pool->mutex, NULL);
    if (rc == 0) {
        rc = hs_cond_init(&pool->work);
        if (rc != 0) {
            pthread_mutex_destroy(&pool->mutex);
        }
    }
    if (rc == 0) {
        rc = hs_cond_init(&pool->changed);
        if (rc == 0) {
            rc = hs_thread_start(&pool->thread, hs_pool_loader_run, pool);
            if (rc != 0) {
                pthread_cond_destroy(&pool->changed);
            }
        }
        if (rc != 0) {
            pthread_cond_destroy(&pool->work);
            pthread_mutex_destroy(&pool->mutex);
        }
    }
    return rc == 0 ? HS_OK
                   : hs_error_set(err, hs_status_from_errno(rc),
                                  "cannot start the thread that loads models: %s", strerror(rc));
}

hs_status hs_model_pool_new(hs_engine *engine, const struct hs_model_pool_params *params,
                            hs_model_pool **ret_pool, struct hs_error *err)
{
    hs_model_pool *pool = hs_calloc(1, sizeof *pool);
    if (pool == NULL) {
        return hs_error_nomem(err, "model pool");
    }
    pool->engine = engine;
    if (params != NULL) {
        pool->params = *params;
    } else {
        hs_model_pool_params_defaults(&pool->params);
    }
    if (pool->params.budget_bytes == 0) {
        pool->params.budget_bytes = hs_machine_memory_available() / 5 * 4;
    }
    hs_status status = start(pool, err);
    if (status != HS_OK) {
        hs_free(pool);
        return status;
    }
    *ret_pool = pool;
    return HS_OK;
}

static void free_member(struct hs_pool_member *member)
{
    if (member != NULL) {
        hs_free(member->path);
        hs_free((char *)member->params.devices);
        hs_free((char *)member->params.rpc_servers);
        hs_free((char *)member->params.chat_template);
        hs_free(member);
    }
}

void hs_model_pool_free(hs_model_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->is_stopping = true;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    pthread_join(pool->thread, NULL);
    for (size_t i = 0; i < pool->n_members; i++) {
        free_member(pool->members[i]);
    }
    hs_free(pool->members);
    pthread_cond_destroy(&pool->changed);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    hs_free(pool);
}

/* ---- members ---- */

/* Called with the mutex held. Index, or n_members. */
static size_t find(const hs_model_pool *pool, const char *id)
{
    size_t i = 0;
    while (i < pool->n_members && strcmp(pool->members[i]->id, id) != 0) {
        i++;
    }
    return i;
}

/* Called with the mutex held. */
static hs_status find_member(const hs_model_pool *pool, const char *id,
                             struct hs_pool_member **ret_member, struct hs_error *err)
{
    size_t i = id == NULL ? pool->n_members : find(pool, id);
    if (i == pool->n_members) {
        return hs_error_set(err, HS_NOT_FOUND, "there is no model '%.100s'", id == NULL ? "" : id);
    }
    *ret_member = pool->members[i];
    return HS_OK;
}

static bool copy_text(const char **text)
{
    const char *given = *text;
    *text = hs_strdup(given);
    return given == NULL || *text != NULL;
}

static hs_status make_member(const struct hs_model_pool_entry *entry,
                             struct hs_pool_member **ret_member, struct hs_error *err)
{
    struct hs_pool_member *member = hs_calloc(1, sizeof *member);
    if (member == NULL) {
        return hs_error_nomem(err, "model of the pool");
    }
    snprintf(member->id, sizeof member->id, "%s", entry->id);
    if (entry->params != NULL) {
        member->params = *entry->params;
    } else {
        hs_model_params_defaults(&member->params);
    }
    member->own_keep_alive_ms = member->keep_alive_ms = entry->keep_alive_ms;
    member->is_pinned = entry->is_pinned;
    member->path = hs_strdup(entry->path);
    /* all three, so that none of them is the caller's */
    bool has_devices = copy_text(&member->params.devices);
    bool has_servers = copy_text(&member->params.rpc_servers);
    bool has_template = copy_text(&member->params.chat_template);
    if (member->path == NULL || !has_devices || !has_servers || !has_template) {
        free_member(member);
        return hs_error_nomem(err, "model of the pool");
    }
    *ret_member = member;
    return HS_OK;
}

static hs_status check_entry(const struct hs_model_pool_entry *entry, struct hs_error *err)
{
    if (entry->id == NULL || entry->id[0] == '\0' || strlen(entry->id) >= HS_ID_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a model id has 1 to %d bytes",
                            HS_ID_MAX - 1);
    }
    struct hs_model_info info;
    if (entry->path == NULL || entry->path[0] == '\0' || strlen(entry->path) >= sizeof info.path) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the path of model '%s' has 1 to %zu bytes",
                            entry->id, sizeof info.path - 1);
    }
    return entry->params == NULL ? HS_OK : hs_model_params_check(entry->params, err);
}

/* Called with the mutex held. */
static hs_status append(hs_model_pool *pool, struct hs_pool_member *member, struct hs_error *err)
{
    if (find(pool, member->id) < pool->n_members) {
        hs_error_set(err, HS_ALREADY_EXISTS, "there is a model '%s' already", member->id);
        return hs_error_hint(err, "give this one another name, or remove the other");
    }
    if (pool->n_members == pool->cap_members) {
        size_t cap = pool->cap_members * 2 + 8;
        struct hs_pool_member **members =
            hs_realloc_array(pool->members, cap, sizeof pool->members[0]);
        if (members == NULL) {
            return hs_error_nomem(err, "list of models");
        }
        pool->members = members;
        pool->cap_members = cap;
    }
    pool->members[pool->n_members++] = member;
    return HS_OK;
}

hs_status hs_model_pool_add(hs_model_pool *pool, const struct hs_model_pool_entry *entry,
                            struct hs_error *err)
{
    struct hs_pool_member *member = NULL;
    hs_status status = check_entry(entry, err);
    status = status != HS_OK ? status : make_member(entry, &member, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    if (member->own_keep_alive_ms == HS_KEEP_ALIVE_DEFAULT) {
        member->own_keep_alive_ms = member->keep_alive_ms = pool->params.keep_alive_ms;
    }
    status = append(pool, member, err);
    pthread_mutex_unlock(&pool->mutex);
    if (status != HS_OK) {
        free_member(member);
    }
    return status;
}

hs_status hs_model_pool_remove(hs_model_pool *pool, const char *id, struct hs_error *err)
{
    struct hs_pool_member *member = NULL;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_member(pool, id, &member, err);
    if (status == HS_OK && (member->state != HS_MODEL_POOL_COLD || member->leases != NULL)) {
        hs_error_set(err, HS_BUSY, "model '%s' is %s", id, hs_model_pool_state_name(member->state));
        status = hs_error_hint(err, "unload it first");
    }
    if (status == HS_OK) {
        size_t i = find(pool, id);
        pool->n_members--;
        memmove(pool->members + i, pool->members + i + 1,
                (pool->n_members - i) * sizeof pool->members[0]);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (status == HS_OK) {
        free_member(member);
    }
    return status;
}

hs_status hs_model_pool_pin(hs_model_pool *pool, const char *id, bool is_pinned,
                            struct hs_error *err)
{
    struct hs_pool_member *member = NULL;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_member(pool, id, &member, err);
    if (status == HS_OK) {
        member->is_pinned = is_pinned;
        for (size_t i = 0; i < pool->n_members; i++) { /* there may be more or less room for them */
            pool->members[i]->need = (struct hs_rt_memory){0};
        }
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

static hs_status in_use(const struct hs_pool_member *member, struct hs_error *err)
{
    hs_error_set(err, HS_BUSY, "model '%s' is in use", member->id);
    return hs_error_hint(err, "wait for its requests and close its sessions, or cancel them");
}

hs_status hs_model_pool_unload(hs_model_pool *pool, const char *id, struct hs_error *err)
{
    struct hs_pool_member *member = NULL;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_member(pool, id, &member, err);
    if (status == HS_OK && (member->leases != NULL || member->state == HS_MODEL_POOL_LOADING)) {
        status = in_use(member, err);
    }
    if (status == HS_OK && member->state == HS_MODEL_POOL_READY) {
        uint64_t n_loads = member->n_loads;
        member->is_leaving_asked = true;
        member->leave_by_ns = hs_clock_ns() + LEAVE_MS * NS_PER_MS;
        member->retry_ns = 0;
        pthread_cond_signal(&pool->work);
        while (member->n_loads == n_loads && member->leave_by_ns != 0) {
            pthread_cond_wait(&pool->changed, &pool->mutex);
        }
        if (member->n_loads == n_loads && member->state == HS_MODEL_POOL_READY) {
            status = in_use(member, err);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* ---- leases ---- */

static void link_lease(hs_model_lease *lease)
{
    struct hs_pool_member *member = lease->member;
    lease->next = member->leases;
    if (lease->next != NULL) {
        lease->next->prev = lease;
    }
    member->leases = lease;
}

static void unlink_lease(hs_model_lease *lease)
{
    struct hs_pool_member *member = lease->member;
    *(lease->prev != NULL ? &lease->prev->next : &member->leases) = lease->next;
    if (lease->next != NULL) {
        lease->next->prev = lease->prev;
    }
}

/* L + uses * cost / size, each time it is used; in milliseconds for a MiB. */
static void count_use(struct hs_pool_member *member)
{
    member->n_uses++;
    member->n_uses_now++;
    double size = (double)(member->info.memory.weights_bytes + member->info.memory.kv_bytes +
                           member->info.memory.compute_bytes + 1);
    member->value = member->leases->pool->floor +
                    (double)member->n_uses_now * member->load_ms * (double)(1 << 20) / size;
}

static void grant(hs_model_lease *lease)
{
    lease->state = HS_LEASE_GRANTED;
    lease->member->n_granted++;
    count_use(lease->member);
}

static void tell(hs_model_lease *lease)
{
    if (lease->notify != NULL) {
        lease->notify(lease->user);
    }
}

void hs_pool_grant(struct hs_pool_member *member)
{
    for (hs_model_lease *lease = member->leases; lease != NULL; lease = lease->next) {
        if (lease->state == HS_LEASE_WAITING) {
            member->n_waiting--;
            grant(lease);
            tell(lease);
        }
    }
}

void hs_pool_fail(struct hs_pool_member *member, const struct hs_error *failure)
{
    for (hs_model_lease *lease = member->leases; lease != NULL; lease = lease->next) {
        if (lease->state == HS_LEASE_WAITING) {
            member->n_waiting--;
            lease->state = HS_LEASE_FAILED;
            lease->failure = *failure;
            tell(lease);
        }
    }
}

hs_status hs_model_pool_lease(hs_model_pool *pool, const char *id, void (*notify)(void *user),
                              void *user, hs_model_lease **ret_lease, struct hs_error *err)
{
    hs_model_lease *lease = hs_calloc(1, sizeof *lease);
    if (lease == NULL) {
        return hs_error_nomem(err, "lease of a model");
    }
    lease->pool = pool;
    lease->notify = notify;
    lease->user = user;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_member(pool, id, &lease->member, err);
    if (status == HS_OK) {
        struct hs_pool_member *member = lease->member;
        link_lease(lease);
        if (member->state == HS_MODEL_POOL_READY && !member->is_leaving_asked) {
            grant(lease);
        } else {
            member->n_waiting++;
            if (member->state == HS_MODEL_POOL_COLD) {
                member->state = HS_MODEL_POOL_WAITING;
                member->turn = ++pool->last_turn;
            }
            pthread_cond_signal(&pool->work);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    if (status != HS_OK) {
        hs_free(lease);
        return status;
    }
    *ret_lease = lease;
    return HS_OK;
}

/* Called with the mutex held. */
static hs_status state_of(const hs_model_lease *lease, struct hs_model_info *ret_info,
                          struct hs_error *err)
{
    const struct hs_pool_member *member = lease->member;
    if (lease->state == HS_LEASE_GRANTED) {
        if (ret_info != NULL) {
            *ret_info = member->info;
        }
        return HS_OK;
    }
    if (lease->state == HS_LEASE_FAILED) {
        if (err != NULL) {
            *err = lease->failure;
        }
        return lease->failure.status;
    }
    if (member->state == HS_MODEL_POOL_LOADING) {
        return hs_error_set(err, HS_BUSY, "model '%s' is loading, %d %%", member->id,
                            (int)(member->progress * 100));
    }
    return hs_error_set(err, HS_BUSY, "model '%s' waits for others to load or leave", member->id);
}

hs_status hs_model_lease_state(hs_model_lease *lease, struct hs_model_info *ret_info,
                               struct hs_error *err)
{
    pthread_mutex_lock(&lease->pool->mutex);
    hs_status status = state_of(lease, ret_info, err);
    pthread_mutex_unlock(&lease->pool->mutex);
    return status;
}

hs_status hs_model_lease_wait(hs_model_lease *lease, int64_t timeout_ms,
                              struct hs_model_info *ret_info, struct hs_error *err)
{
    hs_model_pool *pool = lease->pool;
    struct timespec deadline = hs_clock_deadline(timeout_ms > 0 ? timeout_ms : 0);
    pthread_mutex_lock(&pool->mutex);
    int rc = 0;
    while (lease->state == HS_LEASE_WAITING && rc == 0) {
        rc = timeout_ms < 0 ? pthread_cond_wait(&pool->changed, &pool->mutex)
                            : pthread_cond_timedwait(&pool->changed, &pool->mutex, &deadline);
    }
    hs_status status = state_of(lease, ret_info, err);
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

void hs_model_lease_keep_alive(hs_model_lease *lease, int64_t keep_alive_ms)
{
    struct hs_pool_member *member = lease->member;
    pthread_mutex_lock(&lease->pool->mutex);
    member->keep_alive_ms =
        keep_alive_ms == HS_KEEP_ALIVE_DEFAULT ? member->own_keep_alive_ms : keep_alive_ms;
    pthread_mutex_unlock(&lease->pool->mutex);
}

void hs_model_lease_release(hs_model_lease *lease)
{
    if (lease == NULL) {
        return;
    }
    hs_model_pool *pool = lease->pool;
    struct hs_pool_member *member = lease->member;
    pthread_mutex_lock(&pool->mutex);
    unlink_lease(lease);
    member->n_waiting -= lease->state == HS_LEASE_WAITING;
    if (lease->state == HS_LEASE_GRANTED) {
        member->n_granted--;
        member->unused_ns = hs_clock_ns();
    }
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    hs_free(lease);
}

/* ---- what there is ---- */

int64_t hs_pool_expires_ns(const struct hs_pool_member *member)
{
    bool stays = member->state != HS_MODEL_POOL_READY || member->leases != NULL ||
                 member->is_pinned || member->keep_alive_ms < 0 ||
                 member->keep_alive_ms > INT64_MAX / (2 * NS_PER_MS);
    return stays ? INT64_MAX : member->unused_ns + member->keep_alive_ms * NS_PER_MS;
}

static void describe(hs_model_pool *pool, const struct hs_pool_member *member,
                     struct hs_model_pool_status *ret)
{
    *ret = (struct hs_model_pool_status){
        .state = member->state,
        .is_pinned = member->is_pinned,
        .progress = member->progress,
        .n_leases = member->n_granted,
        .n_waiting = member->n_waiting,
        .unused_ms = -1,
        .expires_ms = -1,
        .n_uses = member->n_uses,
        .n_loads = member->n_loads,
        .load_ms = member->load_ms,
        .failure = member->failure,
    };
    snprintf(ret->id, sizeof ret->id, "%s", member->id);
    snprintf(ret->path, sizeof ret->path, "%s", member->path);
    if (member->state == HS_MODEL_POOL_READY) {
        struct hs_model_info info;
        bool is_there = hs_engine_model_info(pool->engine, member->id, &info, NULL) == HS_OK;
        ret->memory = is_there ? info.memory : member->info.memory;
        int64_t now = hs_clock_ns(), expires = hs_pool_expires_ns(member);
        ret->unused_ms = member->n_granted > 0 ? -1 : (now - member->unused_ns) / NS_PER_MS;
        if (expires != INT64_MAX) {
            ret->expires_ms = expires > now ? (expires - now) / NS_PER_MS : 0;
        }
    }
}

void hs_model_pool_list(hs_model_pool *pool, struct hs_model_pool_status *ret_models, size_t max,
                        size_t *ret_n)
{
    pthread_mutex_lock(&pool->mutex);
    for (size_t i = 0; i < pool->n_members && i < max; i++) {
        describe(pool, pool->members[i], &ret_models[i]);
    }
    *ret_n = pool->n_members;
    pthread_mutex_unlock(&pool->mutex);
}

hs_status hs_model_pool_get(hs_model_pool *pool, const char *id,
                            struct hs_model_pool_status *ret_status, struct hs_error *err)
{
    struct hs_pool_member *member = NULL;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_member(pool, id, &member, err);
    if (status == HS_OK) {
        describe(pool, member, ret_status);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

void hs_model_pool_memory(hs_model_pool *pool, struct hs_pool_memory *ret_memory)
{
    pthread_mutex_lock(&pool->mutex);
    ret_memory->budget_bytes = pool->params.budget_bytes;
    ret_memory->used_bytes = hs_pool_used(pool);
    pthread_mutex_unlock(&pool->mutex);
}
