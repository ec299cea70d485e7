#include "sql_service.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "rest/lora.h"
#include "rest/served_models.h"
#include "sql_settings.h"

/* A load, and leases that end before it; the statement cannot be cancelled meanwhile. */
#define HOLD_MS 120000

struct hs_sql_service {
    const struct hs_config *config;
    const struct hs_paths *paths;
    const struct hs_rest *rest;
    struct hs_sql_host host;
    int max_statements;
    hs_sql_sessions *sessions;
    pthread_mutex_t mutex; /* of what follows, and of opening */
    pthread_cond_t changed;
    struct hs_sql_settings settings;
    hs_sql *sql; /* NULL: nobody asked yet */
    int n_statements;
};

/* ---- what SQL may ask of the server ---- */

static hs_status find_served(const struct hs_rest *rest, const char *name, bool is_first,
                             char ret_id[HS_ID_MAX], struct hs_error *err)
{
    for (size_t i = 0; i < rest->n_models; i++) {
        if (!name || !*name || strcmp(rest->models[i].id, name) == 0) {
            memcpy(ret_id, rest->models[i].id, HS_ID_MAX);
            return HS_OK;
        }
    }
    if (rest->served && is_first) {
        hs_served_models_sync(rest->served, false);
        return find_served(rest, name, false, ret_id, err);
    }
    hs_error_set(err, HS_NOT_FOUND, "there is no model '%.100s'", name);
    return hs_error_hint(err, "SELECT id FROM hyprstream.models lists those that there are");
}

static hs_status find_model(void *user, const char *name, char ret_id[HS_ID_MAX],
                            struct hs_error *err)
{
    return find_served(((hs_sql_service *)user)->rest, name, true, ret_id, err);
}

static hs_status hold_model(void *user, const char *model_id, void **ret_hold, struct hs_error *err)
{
    hs_model_lease *lease = NULL;
    hs_status status =
        hs_served_model_hold(((hs_sql_service *)user)->rest, model_id, HOLD_MS, &lease, err);
    if (status == HS_BUSY) {
        hs_error_hint(err, "the models of one statement must fit together: --model-memory");
    }
    *ret_hold = lease;
    return status;
}

static void release_model(void *user, void *hold)
{
    (void)user;
    hs_model_lease_release(hold);
}

static hs_status find_adapter(void *user, const char *model_id, const char *name,
                              struct hs_error *err)
{
    (void)model_id;
    struct hs_adapter_info info;
    return hs_adapter_table_find(((hs_sql_service *)user)->rest->adapters, name, &info, err);
}

static hs_status route(void *user, const char *model_id, const char *text,
                       struct hs_route *ret_route, struct hs_error *err)
{
    return hs_rest_route(((hs_sql_service *)user)->rest, model_id, text, ret_route, err);
}

static hs_status open_session(void *user, const char *name, const char *model_id,
                              char ret_session_id[HS_ID_MAX], struct hs_error *err)
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = model_id;
    return hs_engine_create_session(((hs_sql_service *)user)->rest->engine, &params, ret_session_id,
                                    err);
}

static hs_status close_session(void *user, const char *session_id, struct hs_error *err)
{
    return hs_engine_close_session(((hs_sql_service *)user)->rest->engine, session_id, err);
}

static size_t list_models(void *user, char (*ret_ids)[HS_ID_MAX], size_t max)
{
    const struct hs_rest *rest = ((hs_sql_service *)user)->rest;
    struct hs_model_info info;
    bool is_loaded = false;
    size_t n = 0;
    for (size_t i = 0; hs_served_model_info(rest, i, &info, &is_loaded); i++) {
        if (is_loaded && n < max) {
            memcpy(ret_ids[n], info.id, HS_ID_MAX);
        }
        n += is_loaded;
    }
    return n;
}

/* ---- */

hs_status hs_sql_service_new(const struct hs_config *config, const struct hs_paths *paths,
                             const struct hs_rest *rest, hs_registry *registry,
                             hs_sql_service **ret_service, struct hs_error *err)
{
    hs_sql_service *service = hs_calloc(1, sizeof *service);
    if (!service) {
        return hs_error_nomem(err, "SQL");
    }
    service->config = config;
    service->paths = paths;
    service->rest = rest;
    service->host = (struct hs_sql_host){.user = service,
                                         .engine = rest->engine,
                                         .defaults = &rest->defaults,
                                         .find_model = find_model,
                                         .hold_model = hold_model,
                                         .release_model = release_model,
                                         .find_adapter = find_adapter,
                                         .route = route,
                                         .open_session = open_session,
                                         .close_session = close_session,
                                         .list_models = list_models,
                                         .registry = registry,
                                         .sessions_dir = rest->sessions_dir};
    service->max_statements = (int)hs_config_int(config, HS_CFG_SQL_STATEMENTS);
    hs_status status = hs_sql_sessions_new((int)hs_config_int(config, HS_CFG_SQL_SESSIONS),
                                           hs_config_int(config, HS_CFG_SQL_IDLE_TIMEOUT) * 1000,
                                           &service->sessions, err);
    if (status) {
        hs_free(service);
        return status;
    }
    pthread_mutex_init(&service->mutex, NULL);
    pthread_cond_init(&service->changed, NULL);
    *ret_service = service;
    return HS_OK;
}

void hs_sql_service_free(hs_sql_service *service)
{
    if (!service) {
        return;
    }
    pthread_mutex_lock(&service->mutex);
    while (service->n_statements > 0) {
        pthread_cond_wait(&service->changed, &service->mutex);
    }
    pthread_mutex_unlock(&service->mutex);
    hs_sql_sessions_free(service->sessions);
    hs_sql_close(service->sql);
    hs_sql_settings_free(&service->settings);
    pthread_cond_destroy(&service->changed);
    pthread_mutex_destroy(&service->mutex);
    hs_free(service);
}

/* With the mutex held. */
static hs_status open_database(hs_sql_service *service, struct hs_error *err)
{
    struct hs_sql_settings *settings = &service->settings;
    hs_status status = hs_sql_settings_fill(service->config, service->paths, settings, err);
    if (!status) {
        settings->params.host = &service->host;
        status = hs_sql_open(&settings->params, &service->sql, err);
        if (status) {
            hs_sql_settings_free(settings);
        }
    }
    return status;
}

hs_status hs_sql_service_open(hs_sql_service *service, hs_sql **ret_sql, struct hs_error *err)
{
    pthread_mutex_lock(&service->mutex);
    hs_status status = service->sql ? HS_OK : open_database(service, err);
    *ret_sql = service->sql;
    pthread_mutex_unlock(&service->mutex);
    return status;
}

hs_sql_sessions *hs_sql_service_sessions(hs_sql_service *service)
{
    return service->sessions;
}

size_t hs_sql_service_list(hs_sql_service *service, struct hs_sql_running *ret_items, size_t max)
{
    pthread_mutex_lock(&service->mutex);
    hs_sql *sql = service->sql;
    pthread_mutex_unlock(&service->mutex);
    return sql ? hs_sql_list(sql, ret_items, max) : 0;
}

hs_status hs_sql_service_check(const hs_sql_service *service, struct hs_error *err)
{
    return service->max_statements > 0
               ? HS_OK
               : hs_error_set(err, HS_NOT_FOUND,
                              "this server answers no SQL (sql-statements is 0)");
}

hs_status hs_sql_service_enter(hs_sql_service *service, struct hs_error *err)
{
    hs_status status = hs_sql_service_check(service, err);
    if (status) {
        return status;
    }
    pthread_mutex_lock(&service->mutex);
    bool has_room = service->n_statements < service->max_statements;
    service->n_statements += has_room;
    pthread_mutex_unlock(&service->mutex);
    return has_room ? HS_OK
                    : hs_error_set(err, HS_QUEUE_FULL,
                                   "%d statements run already, which is the limit "
                                   "(sql-statements)",
                                   service->max_statements);
}

void hs_sql_service_leave(hs_sql_service *service)
{
    pthread_mutex_lock(&service->mutex);
    service->n_statements--;
    pthread_cond_signal(&service->changed);
    pthread_mutex_unlock(&service->mutex);
}
