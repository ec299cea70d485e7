#include "sql_local.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model_ref.h"
#include "params.h"
#include "rest/adapter_table.h"

#define MODELS_MAX 8

struct hs_sql_local {
    const struct hs_command_args *args;
    struct hs_sql_host host;
    struct hs_generate_params defaults;
    hs_registry *registry;
    pthread_mutex_t mutex; /* of what follows, and of loading */
    struct hs_model_info models[MODELS_MAX];
    size_t n_models;
    bool has_default; /* the first one was loaded without a name */
};

/* ---- models: with the mutex held ---- */

static const struct hs_model_info *loaded(const hs_sql_local *local, const char *name)
{
    for (size_t i = 0; i < local->n_models; i++) {
        if (strcmp(local->models[i].id, name) == 0) {
            return &local->models[i];
        }
    }
    return NULL;
}

static hs_status load(hs_sql_local *local, const char *name, struct hs_error *err)
{
    struct hs_model_choice choice HS_CLEANUP(hs_model_choice_free) = {0};
    struct hs_load_settings settings HS_CLEANUP(hs_load_settings_free) = {0};
    char wanted[HS_ID_MAX], id[HS_ID_MAX];
    if (local->n_models == MODELS_MAX) {
        return hs_error_set(err, HS_LIMIT, "statements may use %d models", MODELS_MAX);
    }
    hs_status status =
        name != NULL ? hs_model_resolve(local->args->paths, name, &local->registry, &choice, err)
                     : hs_model_choose(local->args, NULL, &local->registry, &choice, err);
    if (status) {
        return status;
    }
    hs_model_choice_id(&choice, wanted);
    if (loaded(local, wanted) != NULL) {
        return HS_OK;
    }
    status = hs_load_settings_fill(local->args->config, &settings, err);
    status = status ? status
                    : hs_engine_load_model(local->host.engine, choice.path, wanted, &settings.model,
                                           id, err);
    status =
        status ? status
               : hs_engine_model_info(local->host.engine, id, &local->models[local->n_models], err);
    local->n_models += status == HS_OK;
    return status;
}

static hs_status find_model(void *user, const char *name, char ret_id[HS_ID_MAX],
                            struct hs_error *err)
{
    hs_sql_local *local = user;
    if (name != NULL && *name == '\0') {
        name = NULL;
    }
    pthread_mutex_lock(&local->mutex);
    hs_status status = HS_OK;
    const struct hs_model_info *model = NULL;
    if (name != NULL) {
        model = loaded(local, name);
    } else if (local->has_default) {
        model = &local->models[0];
    }
    if (model == NULL) {
        bool is_first = local->n_models == 0;
        status = load(local, name, err);
        local->has_default = local->has_default || (is_first && name == NULL && !status);
        model = &local->models[local->n_models > 0 ? local->n_models - 1 : 0];
    }
    if (!status) {
        memcpy(ret_id, model->id, HS_ID_MAX);
    }
    pthread_mutex_unlock(&local->mutex);
    return status;
}

static size_t list_models(void *user, char (*ret_ids)[HS_ID_MAX], size_t max)
{
    hs_sql_local *local = user;
    pthread_mutex_lock(&local->mutex);
    size_t n = local->n_models;
    for (size_t i = 0; i < n && i < max; i++) {
        memcpy(ret_ids[i], local->models[i].id, HS_ID_MAX);
    }
    pthread_mutex_unlock(&local->mutex);
    return n;
}

/* ---- adapters and sessions ---- */

static hs_status find_adapter(void *user, const char *model_id, const char *name,
                              struct hs_error *err)
{
    hs_sql_local *local = user;
    hs_adapter_table *table;
    struct hs_adapter_info info;
    if (hs_engine_adapter_info(local->host.engine, name, &info, NULL) == HS_OK) {
        return HS_OK;
    }
    pthread_mutex_lock(&local->mutex);
    const struct hs_model_info *model = loaded(local, model_id);
    hs_status status = model != NULL ? hs_adapter_table_new(local->host.engine, local->registry,
                                                            model, 1, &table, err)
                                     : hs_error_set(err, HS_NOT_FOUND, "no model %s", model_id);
    if (!status) {
        status = hs_adapter_table_find(table, name, &info, err);
        hs_adapter_table_free(table);
    }
    pthread_mutex_unlock(&local->mutex);
    return status;
}

static hs_status open_session(void *user, const char *name, const char *model_id,
                              char ret_session_id[HS_ID_MAX], struct hs_error *err)
{
    hs_sql_local *local = user;
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = model_id;
    return hs_engine_create_session(local->host.engine, &params, ret_session_id, err);
}

static hs_status close_session(void *user, const char *session_id, struct hs_error *err)
{
    hs_sql_local *local = user;
    return hs_engine_close_session(local->host.engine, session_id, err);
}

/* ---- opening ---- */

hs_status hs_sql_local_open(const struct hs_command_args *args, hs_sql_local **ret_local,
                            struct hs_error *err)
{
    hs_sql_local *local = hs_calloc(1, sizeof *local);
    if (local == NULL || pthread_mutex_init(&local->mutex, NULL) != 0) {
        hs_free(local);
        return hs_error_nomem(err, "SQL");
    }
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = args->paths->sessions_dir;
    params.adapter_budget_bytes = (uint64_t)hs_config_float(args->config, HS_CFG_ADAPTER_MEMORY);
    local->args = args;
    hs_generate_params_fill(args->config, NULL, &local->defaults);
    hs_status status = hs_registry_need(args->paths, &local->registry, err);
    status = status ? status : hs_engine_create(&params, &local->host.engine, err);
    if (status) {
        hs_sql_local_close(local);
        return status;
    }
    local->host.user = local;
    local->host.defaults = &local->defaults;
    local->host.find_model = find_model;
    local->host.find_adapter = find_adapter;
    local->host.open_session = open_session;
    local->host.close_session = close_session;
    local->host.list_models = list_models;
    local->host.registry = local->registry;
    local->host.sessions_dir = args->paths->sessions_dir;
    *ret_local = local;
    return HS_OK;
}

void hs_sql_local_close(hs_sql_local *local)
{
    if (local != NULL) {
        hs_engine_free(local->host.engine);
        hs_registry_close(local->registry);
        pthread_mutex_destroy(&local->mutex);
        hs_free(local);
    }
}

const struct hs_sql_host *hs_sql_local_host(const hs_sql_local *local)
{
    return &local->host;
}
