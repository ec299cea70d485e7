#include "served_models.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "adapter_table.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#define KEPT_MAX 4 /* models of one request */
#define LOAD_LOOK_MS 100

struct hs_served_models {
    struct hs_served_params params;
    struct hs_model_params model;
    hs_model_pool *pool;
    pthread_mutex_t mutex; /* of rest->models and is_loaded, and of looking into the registry */
    bool is_loaded[HS_REST_MODELS_MAX];
    int64_t stamp;
    bool is_read;
};

/* What a request keeps. */
struct kept {
    struct kept_model {
        size_t i;
        hs_model_lease *lease;
    } models[KEPT_MAX];
    size_t n;
};

/* ---- what the pool tells ---- */

static size_t find(const struct hs_rest *rest, const char *id)
{
    size_t i = 0, n = rest->n_models;
    while (i < n && strcmp(rest->models[i].id, id) != 0) {
        i++;
    }
    return i;
}

/* The table of adapters knows the loaded models. */
static void tell_adapters(hs_served_models *served)
{
    const struct hs_rest *rest = served->params.rest;
    if (rest->adapters == NULL) {
        return;
    }
    struct hs_served_id *ids HS_CLEANUP(hs_freep) = hs_calloc(HS_REST_MODELS_MAX, sizeof *ids);
    size_t n = 0;
    if (ids == NULL) {
        hs_log(HS_LOG_WARN, "models", "out of memory: adapters of a model");
        return;
    }
    pthread_mutex_lock(&served->mutex);
    for (size_t i = 0; i < rest->n_models; i++) {
        if (served->is_loaded[i]) {
            memcpy(ids[n].id, rest->models[i].id, sizeof ids[n].id);
            memcpy(ids[n].fingerprint, rest->models[i].fingerprint, sizeof ids[n].fingerprint);
            n++;
        }
    }
    pthread_mutex_unlock(&served->mutex);
    hs_adapter_table_set_models(rest->adapters, ids, n);
}

static void on_loaded(void *user, const struct hs_model_info *info)
{
    hs_served_models *served = user;
    struct hs_rest *rest = served->params.rest;
    pthread_mutex_lock(&served->mutex);
    struct hs_model_info *model = &rest->models[find(rest, info->id)];
    /* all but the id, which others are reading */
    memcpy(model->path, info->path, sizeof *info - offsetof(struct hs_model_info, path));
    served->is_loaded[model - rest->models] = true;
    pthread_mutex_unlock(&served->mutex);
    tell_adapters(served);
}

static void on_unloaded(void *user, const char *model_id)
{
    hs_served_models *served = user;
    pthread_mutex_lock(&served->mutex);
    served->is_loaded[find(served->params.rest, model_id)] = false;
    pthread_mutex_unlock(&served->mutex);
    tell_adapters(served);
}

/* ---- life ---- */

hs_status hs_served_models_new(const struct hs_served_params *params, struct hs_error *err)
{
    hs_served_models *served = hs_calloc(1, sizeof *served);
    if (served == NULL) {
        return hs_error_nomem(err, "models of a server");
    }
    served->params = *params;
    served->model = *params->model;
    struct hs_model_pool_params pool = {.budget_bytes = params->budget_bytes,
                                        .keep_alive_ms = params->keep_alive_ms,
                                        .loaded = on_loaded,
                                        .unloaded = on_unloaded,
                                        .user = served};
    if (pthread_mutex_init(&served->mutex, NULL) != 0) {
        hs_free(served);
        return hs_error_nomem(err, "models of a server");
    }
    hs_status status = hs_model_pool_new(params->rest->engine, &pool, &served->pool, err);
    if (status != HS_OK) {
        pthread_mutex_destroy(&served->mutex);
        hs_free(served);
        return status;
    }
    params->rest->served = served;
    return HS_OK;
}

void hs_served_models_free(hs_served_models *served)
{
    if (served != NULL) {
        hs_model_pool_free(served->pool);
        served->params.rest->served = NULL;
        pthread_mutex_destroy(&served->mutex);
        hs_free(served);
    }
}

hs_model_pool *hs_served_models_pool(hs_served_models *served)
{
    return served->pool;
}

/* ---- which models ---- */

/* With the mutex held. */
static hs_status add(hs_served_models *served, const struct hs_model_pool_entry *entry,
                     const struct hs_model_info *info, struct hs_error *err)
{
    struct hs_rest *rest = served->params.rest;
    size_t n = rest->n_models;
    if (n == HS_REST_MODELS_MAX) {
        return hs_error_set(err, HS_LIMIT, "a server has at most %d models", HS_REST_MODELS_MAX);
    }
    hs_status status = hs_model_pool_add(served->pool, entry, err);
    if (status == HS_OK) {
        rest->models[n] = *info;
        snprintf(rest->models[n].id, sizeof rest->models[n].id, "%s", entry->id);
        snprintf(rest->models[n].path, sizeof rest->models[n].path, "%s", entry->path);
        atomic_store(&rest->n_models, n + 1);
    }
    return status;
}

hs_status hs_served_models_add(hs_served_models *served, const char *id, const char *path,
                               const struct hs_model_params *params, struct hs_error *err)
{
    const struct hs_model_info info = {.id = ""};
    const struct hs_model_pool_entry entry = {
        .id = id, .path = path, .params = params, .keep_alive_ms = -1, .is_pinned = true};
    pthread_mutex_lock(&served->mutex);
    hs_status status = add(served, &entry, &info, err);
    pthread_mutex_unlock(&served->mutex);
    return status;
}

/* What the registry knows of a file is what is told of it before it is loaded. */
static void add_row(hs_served_models *served, const struct hs_registry_model *row)
{
    struct hs_rest *rest = served->params.rest;
    if (row->is_missing || find(rest, row->name) < rest->n_models) {
        return;
    }
    for (size_t i = 0; i < rest->n_models; i++) { /* one with an alias */
        if (strcmp(rest->models[i].path, row->path) == 0) {
            return;
        }
    }
    struct hs_model_info info = {.n_params = row->n_params,
                                 .n_ctx_train = (int32_t)row->n_ctx_train,
                                 .memory = {.weights_bytes = row->size_bytes}};
    snprintf(info.architecture, sizeof info.architecture, "%s", row->architecture);
    snprintf(info.fingerprint, sizeof info.fingerprint, "%s", row->fingerprint);
    snprintf(info.description, sizeof info.description, "%s ? %s", row->architecture,
             row->quantization);
    const struct hs_model_pool_entry entry = {.id = row->name,
                                              .path = row->path,
                                              .params = &served->model,
                                              .keep_alive_ms = HS_KEEP_ALIVE_DEFAULT};
    struct hs_error err;
    if (add(served, &entry, &info, &err) != HS_OK) {
        hs_log(HS_LOG_WARN, "models", "model '%s' is not served: %s", row->name, err.message);
    }
}

void hs_served_models_sync(hs_served_models *served, bool is_changed)
{
    struct hs_registry_model *rows = NULL;
    size_t n = 0;
    struct hs_error err;
    int64_t stamp = 0;
    if (served->params.registry == NULL || !served->params.is_on_demand) {
        return;
    }
    pthread_mutex_lock(&served->mutex);
    hs_status status = hs_registry_stamp(served->params.registry, &stamp, &err);
    if (status == HS_OK && (is_changed || !served->is_read || stamp != served->stamp)) {
        status = hs_registry_model_list(served->params.registry, &rows, &n, &err);
        for (size_t i = 0; i < n && status == HS_OK; i++) {
            add_row(served, &rows[i]);
        }
        hs_registry_models_free(rows, n);
        served->is_read = status == HS_OK;
        served->stamp = stamp;
    }
    pthread_mutex_unlock(&served->mutex);
    if (status != HS_OK) {
        hs_log(HS_LOG_WARN, "models", "%s", err.message);
    }
}

bool hs_served_model_info(const struct hs_rest *rest, size_t i, struct hs_model_info *ret_info,
                          bool *ret_is_loaded)
{
    hs_served_models *served = rest->served;
    if (i >= rest->n_models) {
        return false;
    }
    if (served != NULL) {
        pthread_mutex_lock(&served->mutex);
    }
    *ret_info = rest->models[i];
    *ret_is_loaded = served == NULL || served->is_loaded[i];
    if (served != NULL) {
        pthread_mutex_unlock(&served->mutex);
    }
    return true;
}

size_t hs_served_model_of_adapter(const struct hs_rest *rest, const char *name)
{
    hs_served_models *served = rest->served;
    struct hs_registry_adapter row;
    size_t n = rest->n_models, found = n;
    if (served == NULL || served->params.registry == NULL ||
        hs_registry_adapter_get(served->params.registry, name, &row, NULL) != HS_OK) {
        return n;
    }
    pthread_mutex_lock(&served->mutex);
    for (size_t i = 0; i < n && found == n && row.fingerprint[0] != '\0'; i++) {
        found = strcmp(rest->models[i].fingerprint, row.fingerprint) == 0 ? i : found;
    }
    pthread_mutex_unlock(&served->mutex);
    hs_registry_adapter_free(&row);
    return found;
}

/* ---- a request's models ---- */

static void drop(void *data)
{
    struct kept *kept = data;
    for (size_t i = 0; i < kept->n; i++) {
        hs_model_lease_release(kept->models[i].lease);
    }
    hs_free(kept);
}

static void wake(void *request)
{
    hs_http_wake(request);
}

static struct kept_model *find_kept(const hs_http_request *request, size_t i)
{
    struct kept *kept = hs_http_kept(request);
    for (size_t k = 0; kept != NULL && k < kept->n; k++) {
        if (kept->models[k].i == i) {
            return &kept->models[k];
        }
    }
    return NULL;
}

static hs_status lease(const struct hs_rest *rest, hs_http_request *request, size_t i,
                       struct kept_model **ret_model, struct hs_error *err)
{
    struct kept *kept = hs_http_kept(request);
    if (kept == NULL) {
        kept = hs_calloc(1, sizeof *kept);
        if (kept == NULL) {
            return hs_error_nomem(err, "models of a request");
        }
        hs_http_keep(request, drop, kept);
    }
    if (kept->n == KEPT_MAX) {
        return hs_error_set(err, HS_LIMIT, "a request uses at most %d models", KEPT_MAX);
    }
    struct kept_model *model = &kept->models[kept->n];
    hs_status status = hs_model_pool_lease(rest->served->pool, rest->models[i].id, wake, request,
                                           &model->lease, err);
    if (status == HS_OK) {
        model->i = i;
        kept->n++;
        *ret_model = model;
    }
    return status;
}

const struct hs_model_info *hs_served_model_take(const struct hs_rest *rest,
                                                 hs_http_request *request, size_t i)
{
    if (rest->served == NULL) {
        return &rest->models[i];
    }
    struct hs_error err;
    struct kept_model *model = find_kept(request, i);
    hs_status status = model != NULL ? HS_OK : lease(rest, request, i, &model, &err);
    bool is_asked = status == HS_OK;
    status = is_asked ? hs_model_lease_state(model->lease, NULL, &err) : status;
    if (status == HS_OK) {
        return &rest->models[i];
    }
    if (is_asked && status == HS_BUSY) {
        hs_http_wait(request, hs_http_request_route(request)->handler);
    } else {
        hs_rest_respond_failure(request, &err, NULL);
    }
    return NULL;
}

void hs_served_model_keep_alive(hs_http_request *request, int64_t keep_alive_ms)
{
    struct kept *kept = hs_http_kept(request);
    for (size_t k = 0; kept != NULL && k < kept->n; k++) {
        hs_model_lease_keep_alive(kept->models[k].lease, keep_alive_ms);
    }
}

void hs_served_model_pin(const struct hs_rest *rest, const char *id)
{
    struct hs_error err;
    if (rest->served != NULL && hs_model_pool_pin(rest->served->pool, id, true, &err) != HS_OK) {
        hs_log(HS_LOG_WARN, "models", "%s", err.message);
    }
}

/* ---- without a request ---- */

hs_status hs_served_model_hold(const struct hs_rest *rest, const char *id, int64_t timeout_ms,
                               hs_model_lease **ret_lease, struct hs_error *err)
{
    *ret_lease = NULL;
    if (rest->served == NULL) {
        return HS_OK;
    }
    hs_model_lease *held = NULL;
    hs_status status = hs_model_pool_lease(rest->served->pool, id, NULL, NULL, &held, err);
    status = status == HS_OK ? hs_model_lease_wait(held, timeout_ms, NULL, err) : status;
    if (status != HS_OK) {
        hs_model_lease_release(held);
        return status;
    }
    *ret_lease = held;
    return HS_OK;
}

hs_status hs_served_models_load(hs_served_models *served, const char *id, hs_progress_fn progress,
                                void *user, struct hs_error *err)
{
    hs_model_lease *held = NULL;
    struct hs_model_pool_status now;
    hs_status status = hs_model_pool_lease(served->pool, id, NULL, NULL, &held, err);
    while (status == HS_OK || status == HS_BUSY) {
        status = hs_model_lease_wait(held, LOAD_LOOK_MS, NULL, err);
        if (status != HS_BUSY) {
            break;
        }
        status = hs_model_pool_get(served->pool, id, &now, err);
        if (status == HS_OK && progress != NULL && !progress(now.progress, user)) {
            status = hs_error_set(err, HS_CANCELLED, "loading was stopped");
        }
    }
    hs_model_lease_release(held);
    return status;
}
