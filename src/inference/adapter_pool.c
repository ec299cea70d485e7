/* The names of adapters and their versions. */
#include "adapter_internal.h"

#include <stdio.h>
#include <string.h>

#include "adapters/adapter_ref.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/sha256.h"

#define SHOWN_NAMES_BYTES 300 /* of a message */

_Static_assert(HS_ADAPTER_NAME_SIZE == HS_ADAPTER_NAME_MAX + 1, "one limit in two headers");

/* ---- the pool ---- */

static int init_locks(hs_adapter_pool *pool)
{
    int rc = pthread_mutex_init(&pool->prepare, NULL);
    if (rc != 0) {
        return rc;
    }
    rc = pthread_mutex_init(&pool->mutex, NULL);
    if (rc != 0) {
        pthread_mutex_destroy(&pool->prepare);
        return rc;
    }
    rc = pthread_cond_init(&pool->work, NULL);
    if (rc == 0) {
        rc = pthread_cond_init(&pool->changed, NULL);
        if (rc != 0) {
            pthread_cond_destroy(&pool->work);
        }
    }
    if (rc != 0) {
        pthread_mutex_destroy(&pool->mutex);
        pthread_mutex_destroy(&pool->prepare);
    }
    return rc;
}

hs_status hs_adapter_pool_new(const struct hs_adapter_pool_params *params,
                              hs_adapter_pool **ret_pool, struct hs_error *err)
{
    hs_adapter_pool *pool = hs_calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return hs_error_nomem(err, "adapters");
    }
    pool->p = *params;
    int rc = init_locks(pool);
    if (rc != 0) {
        hs_free(pool);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot make a lock: %s", strerror(rc));
    }
    *ret_pool = pool;
    return HS_OK;
}

void hs_adapter_pool_set_reader(hs_adapter_pool *pool, const struct hs_adapter_reader *reader)
{
    pool->p.reader = *reader;
}

static void remove_locked(hs_adapter_pool *pool, size_t i)
{
    struct hs_adapter_entry *entry = pool->entries[i];
    struct hs_adapter_version *version = entry->current;
    memmove(&pool->entries[i], &pool->entries[i + 1],
            (--pool->n_entries - i) * sizeof(pool->entries[0]));
    entry->next_removed = pool->removed;
    pool->removed = entry;
    entry->current = NULL;
    hs_adapter_version_drop_locked(pool, version);
}

void hs_adapter_pool_drop(hs_adapter_pool *pool, const struct hs_model *model)
{
    pthread_mutex_lock(&pool->mutex);
    for (size_t i = pool->n_entries; i-- > 0;) {
        if (pool->entries[i]->model == model) {
            remove_locked(pool, i);
        }
    }
    const struct hs_adapter_entry *entry = pool->removed;
    while (entry != NULL) {
        if (entry->model == model) {
            pthread_cond_wait(&pool->changed, &pool->mutex);
            entry = pool->removed;
        } else {
            entry = entry->next_removed;
        }
    }
    hs_adapter_flush_locked(pool);
    pthread_mutex_unlock(&pool->mutex);
}

void hs_adapter_pool_free(hs_adapter_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->n_entries > 0) {
        hs_adapter_pool_drop(pool, pool->entries[0]->model);
    }
    hs_adapter_loaders_stop(pool);
    hs_free(pool->entries);
    pthread_cond_destroy(&pool->changed);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    pthread_mutex_destroy(&pool->prepare);
    hs_free(pool);
}

/* ---- versions ---- */

static void version_free(struct hs_adapter_version *version)
{
    hs_free(version->path);
    hs_free(version);
}

void hs_adapter_version_drop_locked(hs_adapter_pool *pool, struct hs_adapter_version *version)
{
    struct hs_adapter_entry *entry = version->entry;
    if (version->n_leases > 0 || version->state == HS_ADAPTER_LOADING ||
        entry->current == version) {
        return;
    }
    if (version->state == HS_ADAPTER_READY) {
        hs_adapter_evict_locked(pool, version);
    }
    version_free(version);
    if (--entry->n_versions == 0) {
        struct hs_adapter_entry **place = &pool->removed;
        while (*place != entry) {
            place = &(*place)->next_removed;
        }
        *place = entry->next_removed;
        hs_free(entry);
    }
}

static hs_status check_params(const hs_adapter_pool *pool, const struct hs_adapter_params *params,
                              struct hs_error *err)
{
    if (pool->p.budget_bytes == 0 || pool->p.rt->adapter_new == NULL) {
        hs_error_set(err, HS_NOT_SUPPORTED, "there is no memory for adapters");
        hs_error_hint(err, "start with --adapter-memory above 0");
        return HS_NOT_SUPPORTED;
    }
    if ((params->path == NULL) == (params->weights == NULL)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "an adapter has either a path or weights in memory");
    }
    if (params->path != NULL && strlen(params->path) >= HS_ADAPTER_PATH_SIZE) {
        return hs_error_set(err, HS_LIMIT, "the path of an adapter has at most %d bytes",
                            HS_ADAPTER_PATH_SIZE - 1);
    }
    hs_status status = hs_adapter_name_check("name", params->name, err);
    return status == HS_OK && params->version != NULL
               ? hs_adapter_name_check("version", params->version, err)
               : status;
}

/* What is made in memory is like nothing else, in this process or another. */
static hs_status stamp_memory(hs_adapter_pool *pool, struct hs_adapter_version *version,
                              struct hs_error *err)
{
    pthread_mutex_lock(&pool->mutex);
    uint64_t n = ++pool->n_made;
    pthread_mutex_unlock(&pool->mutex);
    char text[128];
    snprintf(text, sizeof(text), "%llu %lld %lld %p", (unsigned long long)n,
             (long long)hs_clock_unix_ms(), (long long)hs_clock_ns(), (void *)version);
    return hs_sha256_text(text, version->stamp, err);
}

static hs_status name_content(struct hs_adapter_version *version, const char *label,
                              struct hs_error *err)
{
    char text[2 * 65 + 2];
    snprintf(text, sizeof(text), "%s %s", label == NULL ? "" : label, version->stamp);
    hs_status status = hs_sha256_text(text, version->content, err);
    /* A short one is enough to be looked at. */
    snprintf(version->label, sizeof(version->label), "%.*s", label == NULL ? 16 : 64,
             label == NULL ? version->stamp : label);
    return status;
}

static hs_status new_version(hs_adapter_pool *pool, const struct hs_adapter_params *params,
                             struct hs_adapter_version **ret_version, struct hs_error *err)
{
    hs_status status = check_params(pool, params, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_adapter_version *version = hs_calloc(1, sizeof(*version));
    if (version == NULL) {
        return hs_error_nomem(err, "adapter");
    }
    if (params->path == NULL) {
        status = stamp_memory(pool, version, err);
    } else {
        version->path = hs_strdup(params->path);
        status = version->path == NULL
                     ? hs_error_nomem(err, "adapter")
                     : hs_adapter_stamp(params->path, version->stamp, &version->bytes, err);
    }
    if (status == HS_OK) {
        status = name_content(version, params->version, err);
    }
    if (status != HS_OK) {
        version_free(version);
        return status;
    }
    *ret_version = version;
    return HS_OK;
}

/* ---- names ---- */

/* The place of a name, or where it would stand. */
static size_t place_of(const hs_adapter_pool *pool, const char *name, bool *ret_is_there)
{
    size_t low = 0;
    size_t high = pool->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(pool->entries[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_is_there = low < pool->n_entries && strcmp(pool->entries[low]->name, name) == 0;
    return low;
}

/* "a, b and 12 more": a model's adapters, as far as they fit. */
static void list_names(const hs_adapter_pool *pool, const struct hs_model *model,
                       char text[SHOWN_NAMES_BYTES])
{
    size_t len = 0;
    size_t n_more = 0;
    text[0] = '\0';
    for (size_t i = 0; i < pool->n_entries; i++) {
        const char *name = pool->entries[i]->name;
        if (pool->entries[i]->model != model) {
            continue;
        }
        if (n_more > 0 || len + strlen(name) + 32 > SHOWN_NAMES_BYTES) {
            n_more++;
            continue;
        }
        len += (size_t)snprintf(text + len, SHOWN_NAMES_BYTES - len, "%s%s", len > 0 ? ", " : "",
                                name);
    }
    if (n_more > 0) {
        snprintf(text + len, SHOWN_NAMES_BYTES - len, " and %zu more", n_more);
    }
}

static hs_status not_found(const hs_adapter_pool *pool, const struct hs_model *model,
                           const char *name, struct hs_error *err)
{
    char names[SHOWN_NAMES_BYTES];
    if (model == NULL) {
        hs_error_set(err, HS_NOT_FOUND, "there is no adapter '%.64s'", name);
        hs_error_hint(err, "register it first");
        return HS_NOT_FOUND;
    }
    list_names(pool, model, names);
    hs_error_set(err, HS_NOT_FOUND, "there is no adapter '%.64s' for model '%.64s'%s%s", name,
                 model->info.id, names[0] == '\0' ? "; it has none" : "; it has ", names);
    hs_error_hint(err, names[0] == '\0' ? "register it first" : "name one of those");
    return HS_NOT_FOUND;
}

/* model NULL: any. */
static hs_status find_locked(const hs_adapter_pool *pool, const struct hs_model *model,
                             const char *name, size_t *ret_place, struct hs_error *err)
{
    bool is_there = false;
    *ret_place = name == NULL ? 0 : place_of(pool, name, &is_there);
    return is_there ? HS_OK : not_found(pool, model, name == NULL ? "" : name, err);
}

hs_status hs_adapter_resolve_locked(hs_adapter_pool *pool, const struct hs_model *model,
                                    const char *name, struct hs_adapter_entry **ret_entry,
                                    struct hs_error *err)
{
    size_t place = 0;
    hs_status status = find_locked(pool, model, name, &place, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_adapter_entry *entry = pool->entries[place];
    if (entry->model != model) {
        hs_error_set(err, HS_MISMATCH, "adapter '%s' was registered for model '%s', not '%s'", name,
                     entry->model->info.id, model->info.id);
        hs_error_hint(err, "use it with model '%.100s'", entry->model->info.id);
        return HS_MISMATCH;
    }
    *ret_entry = entry;
    return HS_OK;
}

/* ---- registering ---- */

static hs_status insert_locked(hs_adapter_pool *pool, struct hs_adapter_entry *entry,
                               struct hs_error *err)
{
    bool is_there = false;
    size_t place = place_of(pool, entry->name, &is_there);
    if (is_there) {
        hs_error_set(err, HS_ALREADY_EXISTS, "there is an adapter '%s' already, for model '%s'",
                     entry->name, pool->entries[place]->model->info.id);
        hs_error_hint(err, "choose another name, or replace it");
        return HS_ALREADY_EXISTS;
    }
    if (pool->n_entries == HS_ADAPTERS_MAX) {
        hs_error_set(err, HS_LIMIT, "%d adapters are registered, which is the limit",
                     HS_ADAPTERS_MAX);
        hs_error_hint(err, "unregister some that are not used");
        return HS_LIMIT;
    }
    hs_status status = hs_adapter_loader_locked(pool, err);
    if (status != HS_OK) {
        return status;
    }
    if (pool->n_entries == pool->cap_entries) {
        size_t cap = pool->cap_entries * 2 + 16;
        struct hs_adapter_entry **entries =
            hs_realloc_array(pool->entries, cap, sizeof(struct hs_adapter_entry *));
        if (entries == NULL) {
            return hs_error_nomem(err, "list of adapters");
        }
        pool->entries = entries;
        pool->cap_entries = cap;
    }
    memmove(&pool->entries[place + 1], &pool->entries[place],
            (pool->n_entries++ - place) * sizeof(pool->entries[0]));
    pool->entries[place] = entry;
    return HS_OK;
}

/* leaves: bytes that will be free whatever their state. */
static bool has_room(const hs_adapter_pool *pool, uint64_t need, uint64_t leaves)
{
    uint64_t freeable = hs_adapter_freeable_locked(pool) + leaves;
    return pool->used_bytes + need <= pool->p.budget_bytes + freeable;
}

/* Weights that only memory has are there from the beginning, or not at all. */
static hs_status add_locked(hs_adapter_pool *pool, struct hs_adapter_entry *entry,
                            const struct hs_adapter_load *load, struct hs_error *err)
{
    if (load->packed != NULL && !has_room(pool, load->bytes, 0)) {
        return hs_adapter_no_room(pool, load->bytes, err);
    }
    hs_status status = insert_locked(pool, entry, err);
    if (status == HS_OK && load->packed != NULL) {
        (void)hs_adapter_make_room_locked(pool, load->bytes);
        hs_adapter_ready_locked(pool, entry->current, load->packed, load->bytes);
        entry->n_loads = 1;
        entry->load_ms = load->ms;
    }
    return status;
}

hs_status hs_adapter_pool_register(hs_adapter_pool *pool, const struct hs_model *model,
                                   const struct hs_adapter_params *params, struct hs_error *err)
{
    struct hs_adapter_version *version = NULL;
    struct hs_adapter_load load = {0};
    hs_status status = new_version(pool, params, &version, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_adapter_entry *entry = hs_calloc(1, sizeof(*entry));
    if (entry == NULL) {
        status = hs_error_nomem(err, "adapter");
    } else if (params->weights != NULL) {
        status = hs_adapter_load(pool, model, version, params->weights, &load, err);
    }
    if (status == HS_OK) {
        snprintf(entry->name, sizeof(entry->name), "%s", params->name);
        entry->model = model;
        entry->is_pinned = params->is_pinned;
        entry->registered_unix_ms = hs_clock_unix_ms();
        entry->current = version;
        entry->n_versions = 1;
        version->entry = entry;
        pthread_mutex_lock(&pool->mutex);
        status = add_locked(pool, entry, &load, err);
        pthread_mutex_unlock(&pool->mutex);
    }
    if (status != HS_OK) {
        if (load.packed != NULL) {
            pool->p.rt->adapter_free(load.packed);
        }
        version_free(version);
        hs_free(entry);
    }
    return status;
}

/* Out: ret_kept, whether the packed weights were taken over. */
static hs_status swap_locked(hs_adapter_pool *pool, const struct hs_model *model,
                             const struct hs_adapter_params *params,
                             struct hs_adapter_version *version, const struct hs_adapter_load *load,
                             bool *ret_kept, struct hs_error *err)
{
    struct hs_adapter_entry *entry = NULL;
    hs_status status = hs_adapter_resolve_locked(pool, model, params->name, &entry, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_adapter_version *old = entry->current;
    uint64_t leaves = old->path == NULL && old->n_leases == 0 ? old->bytes : 0;
    entry->current = version;
    if (params->weights != NULL && !has_room(pool, load->bytes, leaves)) {
        entry->current = old;
        return hs_adapter_no_room(pool, load->bytes, err);
    }
    version->entry = entry;
    entry->n_versions++;
    entry->is_pinned = params->is_pinned;
    entry->n_loads++;
    entry->load_ms = load->ms;
    hs_adapter_version_drop_locked(pool, old);
    version->bytes = load->bytes;
    *ret_kept = params->weights != NULL || hs_adapter_make_room_locked(pool, load->bytes);
    if (*ret_kept) {
        (void)hs_adapter_make_room_locked(pool, load->bytes);
        hs_adapter_ready_locked(pool, version, load->packed, load->bytes);
    }
    hs_adapter_grant_locked(pool);
    return HS_OK;
}

hs_status hs_adapter_pool_replace(hs_adapter_pool *pool, const struct hs_model *model,
                                  const struct hs_adapter_params *params, struct hs_error *err)
{
    struct hs_adapter_version *version = NULL;
    struct hs_adapter_entry *entry = NULL;
    struct hs_adapter_load load = {0};
    hs_status status = new_version(pool, params, &version, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    status = hs_adapter_resolve_locked(pool, model, params->name, &entry, err);
    pthread_mutex_unlock(&pool->mutex);
    bool is_kept = false;
    if (status == HS_OK) {
        /* On this thread, so that no slow load is in the way. */
        status = hs_adapter_load(pool, model, version, params->weights, &load, err);
    }
    if (status == HS_OK) {
        pthread_mutex_lock(&pool->mutex);
        status = swap_locked(pool, model, params, version, &load, &is_kept, err);
        pthread_mutex_unlock(&pool->mutex);
    }
    if (load.packed != NULL && !is_kept) {
        pool->p.rt->adapter_free(load.packed);
    }
    if (status != HS_OK) {
        version_free(version);
    }
    return status;
}

hs_status hs_adapter_pool_unregister(hs_adapter_pool *pool, const char *name, struct hs_error *err)
{
    size_t place = 0;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_locked(pool, NULL, name, &place, err);
    if (status == HS_OK) {
        remove_locked(pool, place);
        hs_adapter_grant_locked(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* ---- in and out of memory ---- */

hs_status hs_adapter_pool_load(hs_adapter_pool *pool, const struct hs_model *model,
                               const char *name, struct hs_error *err)
{
    struct hs_adapter_ref ref = {.name = name, .scale = 1.0f};
    hs_adapter_lease *lease = NULL;
    hs_status status = hs_adapter_name_check("name", name, err);
    if (status == HS_OK) {
        status = hs_adapter_lease_take(pool, model, &ref, 1, NULL, NULL, &lease, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    lease->versions[0]->entry->n_uses--; /* nobody asked it anything */
    while (hs_adapter_lease_state(lease) == HS_ADAPTER_LEASE_WAITING) {
        pthread_cond_wait(&pool->changed, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (hs_adapter_lease_state(lease) == HS_ADAPTER_LEASE_FAILED) {
        status = lease->error.status;
        if (err != NULL) {
            *err = lease->error;
        }
    }
    hs_adapter_lease_free(lease, NULL);
    return status;
}

hs_status hs_adapter_pool_unload(hs_adapter_pool *pool, const char *name, struct hs_error *err)
{
    size_t place = 0;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_locked(pool, NULL, name, &place, err);
    struct hs_adapter_version *version = status == HS_OK ? pool->entries[place]->current : NULL;
    if (status == HS_OK && (version->n_leases > 0 || version->path == NULL)) {
        status = hs_error_set(err, HS_BUSY,
                              version->path == NULL ? "adapter '%s' was made in memory"
                                                    : "adapter '%s' is in use",
                              name);
        hs_error_hint(err, version->path == NULL ? "unregister it" : "wait for its requests");
    } else if (status == HS_OK && version->state == HS_ADAPTER_READY) {
        hs_adapter_evict_locked(pool, version);
        hs_adapter_grant_locked(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* ---- figures ---- */

static void fill_info(const struct hs_adapter_entry *entry, struct hs_adapter_info *info)
{
    const struct hs_adapter_version *version = entry->current;
    *info = (struct hs_adapter_info){
        .state = version->state,
        .is_pinned = entry->is_pinned,
        .bytes = version->state == HS_ADAPTER_READY ? version->bytes : 0,
        .n_active = entry->n_leases,
        .n_uses = entry->n_uses,
        .n_loads = entry->n_loads,
        .load_ms = entry->load_ms,
        .registered_unix_ms = entry->registered_unix_ms,
        .last_used_unix_ms = entry->last_used_unix_ms,
        .n_prompt_tokens = entry->n_prompt_tokens,
        .n_generated_tokens = entry->n_generated_tokens,
        .queue_ms = entry->queue_ms,
        .prefill_ms = entry->prefill_ms,
        .decode_ms = entry->decode_ms,
    };
    memcpy(info->name, entry->name, sizeof(info->name));
    memcpy(info->version, version->label, sizeof(info->version));
    memcpy(info->model_id, entry->model->info.id, sizeof(info->model_id));
    snprintf(info->path, sizeof(info->path), "%s", version->path == NULL ? "" : version->path);
    if (version->state == HS_ADAPTER_FAILED) {
        info->error = version->error;
    }
}

hs_status hs_adapter_pool_info(hs_adapter_pool *pool, const char *name,
                               struct hs_adapter_info *ret_info, struct hs_error *err)
{
    size_t place = 0;
    pthread_mutex_lock(&pool->mutex);
    hs_status status = find_locked(pool, NULL, name, &place, err);
    if (status == HS_OK) {
        fill_info(pool->entries[place], ret_info);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

hs_status hs_adapter_pool_list(hs_adapter_pool *pool, const char *model_id,
                               struct hs_adapter_info **ret_infos, size_t *ret_n,
                               struct hs_error *err)
{
    pthread_mutex_lock(&pool->mutex);
    struct hs_adapter_info *infos = hs_calloc(pool->n_entries + 1, sizeof(infos[0]));
    size_t n = 0;
    for (size_t i = 0; infos != NULL && i < pool->n_entries; i++) {
        const struct hs_adapter_entry *entry = pool->entries[i];
        if (model_id == NULL || strcmp(entry->model->info.id, model_id) == 0) {
            fill_info(entry, &infos[n++]);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    if (infos == NULL) {
        return hs_error_nomem(err, "list of adapters");
    }
    *ret_infos = infos;
    *ret_n = n;
    return HS_OK;
}

void hs_adapter_pool_stats(hs_adapter_pool *pool, const struct hs_model *model,
                           struct hs_model_stats *stats)
{
    pthread_mutex_lock(&pool->mutex);
    for (size_t i = 0; i < pool->n_entries; i++) {
        const struct hs_adapter_entry *entry = pool->entries[i];
        stats->n_adapters += entry->model == model;
        stats->n_adapters_ready +=
            entry->model == model && entry->current->state == HS_ADAPTER_READY;
    }
    for (const struct hs_adapter_version *v = pool->resident; v != NULL; v = v->next_resident) {
        stats->adapter_bytes += v->entry->model == model ? v->bytes : 0;
    }
    pthread_mutex_unlock(&pool->mutex);
}
