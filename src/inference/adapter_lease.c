/* Leases of adapters: who may keep what in memory, and who waits for it. */
#include "adapter_internal.h"

#include <stdio.h>
#include <string.h>

#include "adapters/adapter_ref.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/sha256.h"

/* ---- references ---- */

void hs_adapter_refs_free(struct hs_adapter_ref *refs, size_t n)
{
    for (size_t i = 0; refs != NULL && i < n; i++) {
        hs_free((char *)refs[i].name); /* a copy of ours */
    }
    hs_free(refs);
}

hs_status hs_adapter_refs_copy(const struct hs_adapter_ref *refs, size_t n,
                               struct hs_adapter_ref **ret_copy, struct hs_error *err)
{
    struct hs_adapter_ref *copy = hs_calloc(n, sizeof(copy[0]));
    bool is_whole = copy != NULL;
    for (size_t i = 0; is_whole && i < n; i++) {
        copy[i] = (struct hs_adapter_ref){.name = hs_strdup(refs[i].name), .scale = refs[i].scale};
        is_whole = copy[i].name != NULL;
    }
    if (!is_whole) {
        hs_adapter_refs_free(copy, n);
        return hs_error_nomem(err, "names of adapters");
    }
    *ret_copy = copy;
    return HS_OK;
}

/* ---- memory ---- */

/* Whether it may leave when nobody needs it. */
static bool is_evictable(const struct hs_adapter_version *version)
{
    bool stays = version->entry->is_pinned && version->entry->current == version;
    return version->state == HS_ADAPTER_READY && version->n_pins == 0 && version->path != NULL &&
           !stays;
}

uint64_t hs_adapter_freeable_locked(const hs_adapter_pool *pool)
{
    uint64_t bytes = 0;
    for (const struct hs_adapter_version *v = pool->resident; v != NULL; v = v->next_resident) {
        bytes += is_evictable(v) ? v->bytes : 0;
    }
    return bytes;
}

void hs_adapter_evict_locked(hs_adapter_pool *pool, struct hs_adapter_version *version)
{
    struct hs_adapter_version **place = &pool->resident;
    while (*place != version) {
        place = &(*place)->next_resident;
    }
    *place = version->next_resident;
    pool->used_bytes -= version->bytes;
    hs_adapter_trash_locked(pool, version->packed);
    version->packed = NULL;
    version->state = HS_ADAPTER_REGISTERED;
}

bool hs_adapter_make_room_locked(hs_adapter_pool *pool, uint64_t need)
{
    while (pool->used_bytes + need > pool->p.budget_bytes) {
        struct hs_adapter_version *oldest = NULL;
        for (struct hs_adapter_version *v = pool->resident; v != NULL; v = v->next_resident) {
            if (is_evictable(v) && (oldest == NULL || v->last_used < oldest->last_used)) {
                oldest = v;
            }
        }
        if (oldest == NULL) {
            return false;
        }
        hs_adapter_evict_locked(pool, oldest);
    }
    return true;
}

hs_status hs_adapter_no_room(const hs_adapter_pool *pool, uint64_t need, struct hs_error *err)
{
    const double mib = 1024.0 * 1024.0;
    hs_error_set(err, HS_LIMIT,
                 "the adapter takes %.1f MiB; %.1f of the %.1f MiB for adapters are "
                 "in use",
                 (double)need / mib, (double)pool->used_bytes / mib,
                 (double)pool->p.budget_bytes / mib);
    hs_error_hint(err, "raise --adapter-memory");
    return HS_LIMIT;
}

void hs_adapter_ready_locked(hs_adapter_pool *pool, struct hs_adapter_version *version,
                             hs_rt_adapter *packed, uint64_t bytes)
{
    version->packed = packed;
    version->bytes = bytes;
    version->state = HS_ADAPTER_READY;
    version->last_used = ++pool->tick;
    version->next_resident = pool->resident;
    pool->resident = version;
    pool->used_bytes += bytes;
}

/* ---- granting ---- */

static void set_state(hs_adapter_lease *lease, enum hs_adapter_lease_state state)
{
    atomic_store(&lease->state, (int)state);
    if (lease->wake != NULL) {
        lease->wake(lease->user);
    }
    pthread_cond_broadcast(&lease->pool->changed);
}

static bool is_loaded(const hs_adapter_lease *lease)
{
    for (int32_t i = 0; i < lease->set.n; i++) {
        if (lease->versions[i]->state != HS_ADAPTER_READY) {
            return false;
        }
    }
    return true;
}

static void make_ready(hs_adapter_lease *lease)
{
    for (int32_t i = 0; i < lease->set.n; i++) {
        lease->uses[i].adapter = lease->versions[i]->packed;
    }
    set_state(lease, HS_ADAPTER_LEASE_READY);
}

static void pin(hs_adapter_lease *lease, int32_t change)
{
    for (int32_t i = 0; i < lease->set.n; i++) {
        lease->versions[i]->n_pins += change;
        lease->versions[i]->last_used = ++lease->pool->tick;
    }
}

/* All it needs stays or is loaded, or nothing happens. One that is alone always may. */
static bool grant(hs_adapter_pool *pool, hs_adapter_lease *lease)
{
    uint64_t need = 0;
    pin(lease, 1);
    for (int32_t i = 0; i < lease->set.n; i++) {
        const struct hs_adapter_version *v = lease->versions[i];
        bool is_used = v->state == HS_ADAPTER_READY || v->state == HS_ADAPTER_LOADING;
        need += is_used ? 0 : v->bytes;
    }
    uint64_t room = pool->p.budget_bytes + hs_adapter_freeable_locked(pool);
    if (pool->used_bytes + need > room && pool->n_granted > 0) {
        pin(lease, -1);
        return false;
    }
    (void)hs_adapter_make_room_locked(pool, need);
    for (int32_t i = 0; i < lease->set.n; i++) {
        struct hs_adapter_version *v = lease->versions[i];
        if (v->state == HS_ADAPTER_REGISTERED || v->state == HS_ADAPTER_FAILED) {
            pool->used_bytes += v->bytes;
            hs_adapter_queue_locked(pool, v);
        }
    }
    lease->is_granted = true;
    pool->n_granted++;
    if (is_loaded(lease)) {
        make_ready(lease);
    } else {
        lease->next = pool->loading;
        pool->loading = lease;
    }
    return true;
}

void hs_adapter_grant_locked(hs_adapter_pool *pool)
{
    hs_adapter_lease *lease;
    while ((lease = pool->waiting_first) != NULL) {
        hs_adapter_lease *next = lease->next;
        if (!grant(pool, lease)) {
            return;
        }
        pool->waiting_first = next;
        if (next == NULL) {
            pool->waiting_last = NULL;
        }
    }
}

static bool has_version(const hs_adapter_lease *lease, const struct hs_adapter_version *version)
{
    int32_t i = 0;
    while (i < lease->set.n && lease->versions[i] != version) {
        i++;
    }
    return i < lease->set.n;
}

void hs_adapter_tell_locked(hs_adapter_pool *pool, const struct hs_adapter_version *version)
{
    hs_adapter_lease **place = &pool->loading;
    while (*place != NULL) {
        hs_adapter_lease *lease = *place;
        bool has_failed = version->state == HS_ADAPTER_FAILED && has_version(lease, version);
        if (!has_failed && !is_loaded(lease)) {
            place = &lease->next;
            continue;
        }
        *place = lease->next;
        if (has_failed) {
            lease->error = version->error;
            set_state(lease, HS_ADAPTER_LEASE_FAILED);
        } else {
            make_ready(lease);
        }
    }
}

/* ---- taking and freeing ---- */

static hs_status make_key(hs_adapter_lease *lease, const struct hs_model *model,
                          const struct hs_adapter_ref *refs, int32_t n, struct hs_error *err)
{
    const char *contents[HS_ADAPTER_SET_MAX];
    struct hs_adapter_ref used[HS_ADAPTER_SET_MAX];
    size_t n_used = 0;
    for (int32_t i = 0; i < n; i++) {
        if (refs[i].scale != 0.0f) {
            contents[n_used] = lease->versions[n_used]->content;
            used[n_used++] = refs[i];
        }
    }
    HS_CLEANUP(hs_freep) char *set = NULL;
    HS_CLEANUP(hs_freep) char *text = NULL;
    hs_status status = hs_adapter_set_key(used, contents, n_used, &set, err);
    if (status == HS_OK) {
        text = hs_asprintf("%s|%s", model->cache_key, set);
        status =
            text == NULL ? hs_error_nomem(err, "cache key") : hs_sha256_text(text, lease->key, err);
    }
    return status;
}

/* The present versions of those that are not absent. Called with the mutex held. */
static hs_status hold(hs_adapter_lease *lease, const struct hs_model *model,
                      const struct hs_adapter_ref *refs, int32_t n, struct hs_error *err)
{
    hs_adapter_pool *pool = lease->pool;
    int64_t now_ms = hs_clock_unix_ms();
    for (int32_t i = 0; i < n; i++) {
        struct hs_adapter_entry *entry = NULL;
        hs_status status = hs_adapter_resolve_locked(pool, model, refs[i].name, &entry, err);
        if (status != HS_OK) {
            return status;
        }
        if (refs[i].scale != 0.0f) {
            lease->uses[lease->set.n] = (struct hs_rt_adapter_use){.scale = refs[i].scale};
            lease->versions[lease->set.n++] = entry->current;
            entry->current->n_leases++;
            entry->n_leases++;
            entry->last_used_unix_ms = now_ms;
        }
    }
    return HS_OK;
}

static hs_status new_lease(hs_adapter_pool *pool, int32_t n, hs_adapter_lease **ret_lease,
                           struct hs_error *err)
{
    hs_adapter_lease *lease = hs_calloc(1, sizeof(*lease));
    if (lease == NULL) {
        return hs_error_nomem(err, "adapters of a request");
    }
    lease->pool = pool;
    lease->versions = hs_calloc((size_t)n, sizeof(struct hs_adapter_version *));
    lease->uses = hs_calloc((size_t)n, sizeof(lease->uses[0]));
    lease->set.uses = lease->uses;
    if (lease->versions == NULL || lease->uses == NULL) {
        hs_adapter_lease_free(lease, NULL);
        return hs_error_nomem(err, "adapters of a request");
    }
    *ret_lease = lease;
    return HS_OK;
}

/* Whoever came first is granted first, also when a later one would need no more memory. */
static void enter(hs_adapter_pool *pool, hs_adapter_lease *lease)
{
    if (pool->waiting_last == NULL) {
        pool->waiting_first = lease;
    } else {
        pool->waiting_last->next = lease;
    }
    pool->waiting_last = lease;
    hs_adapter_grant_locked(pool);
}

static hs_status check_refs(const struct hs_adapter_ref *refs, int32_t n, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *key = NULL;
    if (n < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "%d adapters", n);
    }
    return hs_adapter_set_key(refs, NULL, (size_t)n, &key, err);
}

hs_status hs_adapter_pool_check(hs_adapter_pool *pool, const struct hs_model *model,
                                const struct hs_adapter_ref *refs, int32_t n, struct hs_error *err)
{
    hs_status status = check_refs(refs, n, err);
    pthread_mutex_lock(&pool->mutex);
    for (int32_t i = 0; status == HS_OK && i < n; i++) {
        struct hs_adapter_entry *entry = NULL;
        status = hs_adapter_resolve_locked(pool, model, refs[i].name, &entry, err);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

hs_status hs_adapter_lease_take(hs_adapter_pool *pool, const struct hs_model *model,
                                const struct hs_adapter_ref *refs, int32_t n,
                                void (*wake)(void *user), void *user, hs_adapter_lease **ret_lease,
                                struct hs_error *err)
{
    hs_adapter_lease *lease = NULL;
    hs_status status = check_refs(refs, n, err);
    if (status == HS_OK) {
        status = new_lease(pool, n, &lease, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    status = hold(lease, model, refs, n, err);
    pthread_mutex_unlock(&pool->mutex);
    if (status == HS_OK && lease->set.n > 0) {
        status = make_key(lease, model, refs, n, err);
    }
    if (status != HS_OK || lease->set.n == 0) {
        hs_adapter_lease_free(lease, NULL);
        *ret_lease = status == HS_OK ? NULL : *ret_lease;
        return status;
    }
    lease->wake = wake;
    lease->user = user;
    pthread_mutex_lock(&pool->mutex);
    for (int32_t i = 0; i < lease->set.n; i++) {
        lease->versions[i]->entry->n_uses++;
    }
    enter(pool, lease);
    pthread_mutex_unlock(&pool->mutex);
    *ret_lease = lease;
    return HS_OK;
}

static void count_use(struct hs_adapter_entry *entry, const struct hs_usage *usage)
{
    entry->last_used_unix_ms = hs_clock_unix_ms();
    entry->n_prompt_tokens += (uint64_t)usage->prompt_tokens;
    entry->n_generated_tokens += (uint64_t)usage->completion_tokens;
    entry->queue_ms += usage->queue_ms;
    entry->prefill_ms += usage->prefill_ms;
    entry->decode_ms += usage->decode_ms;
}

static void list_remove(hs_adapter_lease **first, const hs_adapter_lease *lease)
{
    while (*first != NULL && *first != lease) {
        first = &(*first)->next;
    }
    if (*first != NULL) {
        *first = lease->next;
    }
}

/* Called with the mutex held. */
static void leave(hs_adapter_lease *lease)
{
    hs_adapter_pool *pool = lease->pool;
    if (lease->is_granted) {
        list_remove(&pool->loading, lease);
        pin(lease, -1);
        pool->n_granted--;
        return;
    }
    list_remove(&pool->waiting_first, lease);
    hs_adapter_lease *last = pool->waiting_first;
    while (last != NULL && last->next != NULL) {
        last = last->next;
    }
    pool->waiting_last = last;
}

void hs_adapter_lease_free(hs_adapter_lease *lease, const struct hs_usage *usage)
{
    if (lease == NULL) {
        return;
    }
    hs_adapter_pool *pool = lease->pool;
    pthread_mutex_lock(&pool->mutex);
    leave(lease);
    for (int32_t i = 0; i < lease->set.n; i++) {
        struct hs_adapter_version *version = lease->versions[i];
        version->n_leases--;
        version->entry->n_leases--;
        if (usage != NULL) {
            count_use(version->entry, usage);
        }
        hs_adapter_version_drop_locked(pool, version);
    }
    (void)hs_adapter_make_room_locked(pool, 0); /* when others were granted on low estimates */
    hs_adapter_grant_locked(pool);
    pthread_mutex_unlock(&pool->mutex);
    hs_free(lease->versions);
    hs_free(lease->uses);
    hs_free(lease);
}

enum hs_adapter_lease_state hs_adapter_lease_state(const hs_adapter_lease *lease)
{
    return (enum hs_adapter_lease_state)atomic_load(&lease->state);
}

const struct hs_error *hs_adapter_lease_error(const hs_adapter_lease *lease)
{
    return &lease->error;
}

const struct hs_rt_adapter_set *hs_adapter_lease_set(const hs_adapter_lease *lease)
{
    return &lease->set;
}

const char *hs_adapter_lease_key(const hs_adapter_lease *lease)
{
    return lease->key;
}

void hs_adapter_lease_text(const hs_adapter_lease *lease, char *ret_text, size_t size)
{
    size_t len = 0;
    ret_text[0] = '\0';
    for (int32_t i = 0; i < lease->set.n; i++) {
        char item[HS_ADAPTER_NAME_SIZE + 32];
        int n = snprintf(item, sizeof(item), "%s%s:%g", i > 0 ? "+" : "",
                         lease->versions[i]->entry->name, (double)lease->uses[i].scale);
        if (n < 0 || len + (size_t)n >= size) {
            return;
        }
        memcpy(ret_text + len, item, (size_t)n + 1);
        len += (size_t)n;
    }
}
