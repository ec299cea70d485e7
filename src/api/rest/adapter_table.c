#include "adapter_table.h"

#include <jansson.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#define LOOK_MS 1000

/* An adapter that this server has or had. */
struct entry {
    struct hs_adapter_number number;
    char version[HS_ADAPTER_NAME_SIZE]; /* as registered from the registry; "": not from there */
    int64_t updated_unix_ms;            /* the row whose examples the engine has; 0: none */
    bool is_there;                      /* in the engine, when it was last looked at */
    bool is_seen;                       /* scratch of one look */
    uint64_t n_uses;                    /* that the registry knows of */
    double used_ms;
};

struct hs_adapter_table {
    pthread_mutex_t looking; /* whoever reads the registry or loads adapters, which may take time */
    pthread_mutex_t mutex;   /* of the entries; taken inside `looking` by whoever changes them */
    hs_engine *engine;
    hs_registry *registry;
    struct hs_served_id *models; /* [n_models] */
    size_t n_models;
    int64_t stamp; /* of the registry when it was read */
    bool is_read;
    double look_ms;
    struct entry *entries; /* by number */
    size_t n_entries, capacity;
};

hs_status hs_adapter_table_new(hs_engine *engine, hs_registry *registry,
                               const struct hs_model_info *models, size_t n_models,
                               hs_adapter_table **ret_table, struct hs_error *err)
{
    hs_adapter_table *table = hs_calloc(1, sizeof *table);
    if (table == NULL || pthread_mutex_init(&table->mutex, NULL) != 0) {
        hs_free(table);
        return hs_error_nomem(err, "table of adapters");
    }
    if (pthread_mutex_init(&table->looking, NULL) != 0) {
        pthread_mutex_destroy(&table->mutex);
        hs_free(table);
        return hs_error_nomem(err, "table of adapters");
    }
    table->engine = engine;
    table->registry = registry;
    table->models = hs_calloc(n_models + 1, sizeof table->models[0]);
    if (table->models == NULL) {
        hs_adapter_table_free(table);
        return hs_error_nomem(err, "table of adapters");
    }
    for (size_t i = 0; i < n_models; i++) {
        memcpy(table->models[i].id, models[i].id, sizeof models[i].id);
        memcpy(table->models[i].fingerprint, models[i].fingerprint, sizeof models[i].fingerprint);
    }
    table->n_models = n_models;
    *ret_table = table;
    return HS_OK;
}

void hs_adapter_table_free(hs_adapter_table *table)
{
    if (table != NULL) {
        pthread_mutex_destroy(&table->looking);
        pthread_mutex_destroy(&table->mutex);
        hs_free(table->models);
        hs_free(table->entries);
        hs_free(table);
    }
}

hs_registry *hs_adapter_table_registry(const hs_adapter_table *table)
{
    return table->registry;
}

/* ---- entries: with `looking` held ---- */

static struct entry *find_entry(hs_adapter_table *table, const char *name)
{
    for (size_t i = 0; i < table->n_entries; i++) {
        if (strcmp(table->entries[i].number.name, name) == 0) {
            return &table->entries[i];
        }
    }
    return NULL;
}

/* With the mutex held. NULL: no memory. */
static struct entry *make_entry(hs_adapter_table *table, const char *name)
{
    if (table->n_entries == table->capacity) {
        size_t capacity = table->capacity == 0 ? 16 : 2 * table->capacity;
        struct entry *entries = hs_realloc_array(table->entries, capacity, sizeof *entries);
        if (entries == NULL) {
            return NULL;
        }
        table->entries = entries;
        table->capacity = capacity;
    }
    struct entry *entry = &table->entries[table->n_entries];
    *entry = (struct entry){.is_there = false};
    size_t len = strnlen(name, HS_ADAPTER_NAME_SIZE - 1);
    memcpy(entry->number.name, name, len);
    table->n_entries++;
    return entry;
}

/* Valid until the next call. NULL: no memory. */
static struct entry *need_entry(hs_adapter_table *table, const char *name)
{
    struct entry *entry = find_entry(table, name);
    if (entry == NULL) {
        pthread_mutex_lock(&table->mutex);
        entry = make_entry(table, name);
        pthread_mutex_unlock(&table->mutex);
    }
    return entry;
}

/* ---- the registry ---- */

/* NULL: it was not checked against a model of this server. */
static const struct hs_served_id *model_of(const hs_adapter_table *table,
                                           const struct hs_registry_adapter *row)
{
    for (size_t i = 0; i < table->n_models; i++) {
        if (row->fingerprint[0] != '\0' &&
            strcmp(table->models[i].fingerprint, row->fingerprint) == 0) {
            return &table->models[i];
        }
    }
    return NULL;
}

/* What routing knows of it: its examples, else its description. */
static hs_status tell_examples(hs_adapter_table *table, const struct hs_registry_adapter *row,
                               struct entry *entry, struct hs_error *err)
{
    if (entry->updated_unix_ms == row->updated_unix_ms) {
        return HS_OK;
    }
    json_t *list = json_loads(row->examples, 0, NULL);
    size_t n = json_array_size(list), n_texts = 0;
    HS_CLEANUP(hs_freep) const char **texts = hs_calloc(n + 1, sizeof *texts);
    for (size_t i = 0; texts != NULL && i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text != NULL && *text != '\0') {
            texts[n_texts++] = text;
        }
    }
    if (texts != NULL && n_texts == 0 && row->description[0] != '\0') {
        texts[n_texts++] = row->description;
    }
    hs_status status = texts == NULL ? hs_error_nomem(err, "examples of an adapter")
                                     : hs_engine_set_adapter_examples(table->engine, row->name,
                                                                      texts, n_texts, err);
    json_decref(list);
    if (status == HS_OK) {
        entry->updated_unix_ms = row->updated_unix_ms;
    }
    return status;
}

/* One row into the engine, unless it is there. */
static hs_status take_row(hs_adapter_table *table, const struct hs_registry_adapter *row,
                          struct hs_error *err)
{
    const struct hs_served_id *model = model_of(table, row);
    struct entry *entry = model == NULL ? NULL : need_entry(table, row->name);
    if (model == NULL || entry == NULL) {
        return model == NULL ? HS_OK : hs_error_nomem(err, "table of adapters");
    }
    entry->is_seen = true;
    if (strcmp(entry->version, row->content) == 0) {
        return tell_examples(table, row, entry, err);
    }
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = row->name;
    params.model_id = model->id;
    params.path = row->path;
    params.version = row->content;
    hs_status status = entry->version[0] == '\0'
                           ? HS_NOT_FOUND
                           : hs_engine_replace_adapter(table->engine, &params, err);
    if (status == HS_NOT_FOUND) {
        status = hs_engine_register_adapter(table->engine, &params, err);
        entry->updated_unix_ms = 0; /* it has no examples yet */
    }
    if (status == HS_OK) {
        memset(entry->version, 0, sizeof entry->version);
        memcpy(entry->version, row->content, strnlen(row->content, sizeof entry->version - 1));
        status = tell_examples(table, row, entry, err);
    }
    return status;
}

/* What the registry had and has no more. */
static void drop_unseen(hs_adapter_table *table)
{
    for (size_t i = 0; i < table->n_entries; i++) {
        struct entry *entry = &table->entries[i];
        struct hs_error err;
        if (entry->version[0] == '\0' || entry->is_seen) {
            continue;
        }
        if (hs_engine_unregister_adapter(table->engine, entry->number.name, &err) != HS_OK) {
            hs_log(HS_LOG_INFO, "adapters", "%s", err.message);
        }
        entry->version[0] = '\0';
    }
}

static void read_registry(hs_adapter_table *table)
{
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    int64_t stamp = 0;
    struct hs_error err;
    hs_status status = hs_registry_stamp(table->registry, &stamp, &err);
    if (status == HS_OK && table->is_read && stamp == table->stamp) {
        return;
    }
    status = status == HS_OK ? hs_registry_adapter_list(table->registry, &rows, &n, &err) : status;
    if (status != HS_OK) {
        hs_log(HS_LOG_WARN, "adapters", "%s", err.message);
        return;
    }
    for (size_t i = 0; i < table->n_entries; i++) {
        table->entries[i].is_seen = false;
    }
    for (size_t i = 0; i < n; i++) {
        status = take_row(table, &rows[i], &err);
        if (status == HS_NOT_SUPPORTED) { /* none of them: there is no memory for adapters */
            hs_log(HS_LOG_INFO, "adapters", "%s", err.message);
            break;
        }
        if (status != HS_OK) {
            hs_log(HS_LOG_WARN, "adapters", "adapter '%s' of the registry: %s", rows[i].name,
                   err.message);
        }
    }
    hs_registry_adapters_free(rows, n);
    if (status != HS_NOT_SUPPORTED) {
        drop_unseen(table);
    }
    table->stamp = stamp;
    table->is_read = true;
}

/* Every adapter of the engine has a number. */
static void number_all(hs_adapter_table *table)
{
    struct hs_adapter_info *infos = NULL;
    size_t n = 0;
    if (hs_engine_list_adapters(table->engine, NULL, &infos, &n, NULL) != HS_OK) {
        return; /* without memory: the next look tries again */
    }
    pthread_mutex_lock(&table->mutex);
    for (size_t i = 0; i < table->n_entries; i++) {
        table->entries[i].is_there = false;
    }
    for (size_t i = 0; i < n; i++) {
        struct entry *entry = find_entry(table, infos[i].name);
        entry = entry != NULL ? entry : make_entry(table, infos[i].name);
        if (entry != NULL) {
            entry->is_there = true;
        }
    }
    pthread_mutex_unlock(&table->mutex);
    hs_adapter_infos_free(infos);
}

/* With `looking` held. */
static void look(hs_adapter_table *table, bool now)
{
    double time_ms = hs_clock_ms();
    if (!now && table->is_read && time_ms - table->look_ms < LOOK_MS) {
        return;
    }
    table->look_ms = time_ms;
    if (table->registry != NULL) {
        read_registry(table);
    } else {
        table->is_read = true;
    }
    number_all(table);
}

/* A request whose adapter is known does not wait for whoever looks or loads. */
void hs_adapter_table_sync(hs_adapter_table *table, bool now)
{
    if (now) {
        pthread_mutex_lock(&table->looking);
    } else if (pthread_mutex_trylock(&table->looking) != 0) {
        return;
    }
    look(table, now);
    pthread_mutex_unlock(&table->looking);
}

void hs_adapter_table_changed(hs_adapter_table *table)
{
    pthread_mutex_lock(&table->looking);
    table->is_read = false;
    look(table, true);
    pthread_mutex_unlock(&table->looking);
}

/* What left with its model is not there any more, whatever the registry's version. */
static void forget_lost(hs_adapter_table *table)
{
    number_all(table);
    for (size_t i = 0; i < table->n_entries; i++) {
        if (!table->entries[i].is_there) {
            table->entries[i].version[0] = '\0';
            table->entries[i].updated_unix_ms = 0;
        }
    }
}

void hs_adapter_table_set_models(hs_adapter_table *table, const struct hs_served_id *models,
                                 size_t n)
{
    struct hs_served_id *copy = hs_calloc(n + 1, sizeof *copy);
    if (copy == NULL) {
        hs_log(HS_LOG_WARN, "adapters", "out of memory: adapters of a model");
        return;
    }
    memcpy(copy, models, n * sizeof *copy);
    pthread_mutex_lock(&table->looking);
    hs_free(table->models);
    table->models = copy;
    table->n_models = n;
    forget_lost(table);
    table->is_read = false;
    look(table, true);
    pthread_mutex_unlock(&table->looking);
}

hs_status hs_adapter_table_find(hs_adapter_table *table, const char *name,
                                struct hs_adapter_info *ret_info, struct hs_error *err)
{
    hs_adapter_table_sync(table, false);
    hs_status status = hs_engine_adapter_info(table->engine, name, ret_info, err);
    if (status == HS_NOT_FOUND) {
        hs_adapter_table_sync(table, true);
        status = hs_engine_adapter_info(table->engine, name, ret_info, err);
    }
    return status;
}

/* ---- by path ---- */

static hs_status check_new_name(hs_adapter_table *table, const char *name, bool replaces,
                                bool *ret_is_there, struct hs_error *err)
{
    struct hs_adapter_info info;
    for (size_t i = 0; i < table->n_models; i++) {
        if (strcmp(table->models[i].id, name) == 0) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' is the name of a model", name);
        }
    }
    hs_status status = hs_engine_adapter_info(table->engine, name, &info, err);
    *ret_is_there = status == HS_OK;
    if (status == HS_OK && !replaces) {
        return hs_error_set(err, HS_ALREADY_EXISTS, "there is an adapter '%s' already", name);
    }
    return status == HS_NOT_FOUND ? HS_OK : status;
}

static hs_status register_for(hs_adapter_table *table, const struct hs_adapter_params *params,
                              struct hs_error *err)
{
    struct hs_error ignored;
    hs_status status = hs_engine_register_adapter(table->engine, params, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_engine_load_adapter(table->engine, params->name, err);
    if (status != HS_OK && hs_engine_unregister_adapter(table->engine, params->name, &ignored)) {
        hs_log(HS_LOG_WARN, "adapters", "%s", ignored.message);
    }
    return status;
}

static hs_status add_by_path(hs_adapter_table *table, const char *name, const char *path,
                             bool replaces, struct hs_error *err)
{
    bool is_there = false;
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.path = path;
    hs_status status = check_new_name(table, name, replaces, &is_there, err);
    if (status != HS_OK) {
        return status;
    }
    status = HS_MISMATCH;
    for (size_t i = 0; i < table->n_models && status == HS_MISMATCH; i++) {
        params.model_id = table->models[i].id;
        status = is_there ? hs_engine_replace_adapter(table->engine, &params, err)
                          : register_for(table, &params, err);
    }
    if (status == HS_OK) {
        number_all(table);
    }
    return status;
}

hs_status hs_adapter_table_add(hs_adapter_table *table, const char *name, const char *path,
                               bool replaces, struct hs_error *err)
{
    pthread_mutex_lock(&table->looking);
    hs_status status = add_by_path(table, name, path, replaces, err);
    pthread_mutex_unlock(&table->looking);
    return status;
}

hs_status hs_adapter_table_drop(hs_adapter_table *table, const char *name, struct hs_error *err)
{
    pthread_mutex_lock(&table->looking);
    hs_status status = hs_engine_unregister_adapter(table->engine, name, err);
    if (status == HS_OK) {
        number_all(table);
    }
    pthread_mutex_unlock(&table->looking);
    return status;
}

/* ---- counters ---- */

static void save_count(hs_adapter_table *table, const struct hs_adapter_info *info)
{
    struct entry *entry = find_entry(table, info->name);
    double used_ms = info->queue_ms + info->prefill_ms + info->decode_ms;
    struct hs_error err;
    if (entry == NULL || entry->version[0] == '\0' || info->n_uses == entry->n_uses) {
        return;
    }
    /* a name that was taken out and added again counts from 0 */
    uint64_t n_known = info->n_uses < entry->n_uses ? 0 : entry->n_uses;
    double ms_known = used_ms < entry->used_ms ? 0 : entry->used_ms;
    if (hs_registry_adapter_count(table->registry, info->name, (int64_t)(info->n_uses - n_known),
                                  (int64_t)(used_ms - ms_known), info->last_used_unix_ms,
                                  &err) != HS_OK) {
        hs_log(HS_LOG_WARN, "adapters", "%s", err.message);
        return;
    }
    entry->n_uses = info->n_uses;
    entry->used_ms = used_ms;
}

void hs_adapter_table_save_counts(hs_adapter_table *table)
{
    struct hs_adapter_info *infos = NULL;
    size_t n = 0;
    if (table->registry == NULL ||
        hs_engine_list_adapters(table->engine, NULL, &infos, &n, NULL) != HS_OK) {
        return; /* the next call tries again */
    }
    pthread_mutex_lock(&table->looking);
    for (size_t i = 0; i < n; i++) {
        save_count(table, &infos[i]);
    }
    pthread_mutex_unlock(&table->looking);
    hs_adapter_infos_free(infos);
}

/* ---- numbers and scales ---- */

bool hs_adapter_table_number(hs_adapter_table *table, size_t number, struct hs_adapter_number *ret)
{
    pthread_mutex_lock(&table->mutex);
    bool is_there = number < table->n_entries && table->entries[number].is_there;
    if (is_there) {
        *ret = table->entries[number].number;
    }
    pthread_mutex_unlock(&table->mutex);
    return is_there;
}

size_t hs_adapter_table_count(hs_adapter_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t n = table->n_entries;
    pthread_mutex_unlock(&table->mutex);
    return n;
}

void hs_adapter_table_set_scales(hs_adapter_table *table, const float *scales, size_t n)
{
    pthread_mutex_lock(&table->mutex);
    for (size_t i = 0; i < table->n_entries; i++) {
        table->entries[i].number.scale = i < n ? scales[i] : 0;
    }
    pthread_mutex_unlock(&table->mutex);
}
