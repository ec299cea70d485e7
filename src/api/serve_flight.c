#include "serve_flight.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#ifdef HS_HAVE_SQL

#include "api/flightsql.h"
#include "sql_settings.h"

struct hs_serve_flight {
    const struct hs_rest *rest;
    struct hs_sql_settings settings;
    struct hs_sql_host host;
    hs_sql *sql;
    hs_flight *flight;
};

/* ---- what SQL may ask of the server ---- */

static hs_status find_model(void *user, const char *name, char ret_id[HS_ID_MAX],
                            struct hs_error *err)
{
    const struct hs_rest *rest = ((hs_serve_flight *)user)->rest;
    for (size_t i = 0; i < rest->n_models; i++) {
        if (!name || !*name || strcmp(rest->models[i].id, name) == 0) {
            memcpy(ret_id, rest->models[i].id, HS_ID_MAX);
            return HS_OK;
        }
    }
    hs_error_set(err, HS_NOT_FOUND, "no model '%s' is loaded", name);
    return hs_error_hint(err, "SELECT id FROM hyprstream.models WHERE loaded lists those that are");
}

static hs_status find_adapter(void *user, const char *model_id, const char *name,
                              struct hs_error *err)
{
    (void)model_id;
    struct hs_adapter_info info;
    return hs_adapter_table_find(((hs_serve_flight *)user)->rest->adapters, name, &info, err);
}

static hs_status open_session(void *user, const char *name, const char *model_id,
                              char ret_session_id[HS_ID_MAX], struct hs_error *err)
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = model_id;
    return hs_engine_create_session(((hs_serve_flight *)user)->rest->engine, &params,
                                    ret_session_id, err);
}

static hs_status close_session(void *user, const char *session_id, struct hs_error *err)
{
    return hs_engine_close_session(((hs_serve_flight *)user)->rest->engine, session_id, err);
}

static size_t list_models(void *user, char (*ret_ids)[HS_ID_MAX], size_t max)
{
    const struct hs_rest *rest = ((hs_serve_flight *)user)->rest;
    for (size_t i = 0; i < rest->n_models && i < max; i++) {
        memcpy(ret_ids[i], rest->models[i].id, HS_ID_MAX);
    }
    return rest->n_models;
}

/* ---- */

static void fill_config(const struct hs_config *config, struct hs_flight_config *ret_config)
{
    const char *cert = hs_config_str(config, HS_CFG_TLS_CERT);
    const char *key = hs_config_str(config, HS_CFG_TLS_KEY);
    hs_flight_config_defaults(ret_config);
    ret_config->max_sessions = (int)hs_config_int(config, HS_CFG_FLIGHT_SESSIONS);
    ret_config->grpc.host = hs_config_str(config, HS_CFG_HOST);
    ret_config->grpc.port = (int)hs_config_int(config, HS_CFG_FLIGHT_PORT);
    ret_config->grpc.tls_cert_file = cert && *cert ? cert : NULL;
    ret_config->grpc.tls_key_file = key && *key ? key : NULL;
    ret_config->grpc.limits.connections = (int)hs_config_int(config, HS_CFG_MAX_CONNECTIONS);
    ret_config->grpc.limits.connections_per_address =
        (int)hs_config_int(config, HS_CFG_MAX_PER_ADDRESS);
}

hs_status hs_serve_flight_start(const struct hs_command_args *args, const struct hs_rest *rest,
                                hs_registry *registry, hs_http_keys *keys,
                                hs_serve_flight **ret_flight, struct hs_error *err)
{
    struct hs_flight_config config;
    *ret_flight = NULL;
    if (hs_config_int(args->config, HS_CFG_FLIGHT_PORT) < 0) {
        return HS_OK;
    }
    hs_serve_flight *flight = hs_calloc(1, sizeof *flight);
    if (!flight) {
        return hs_error_nomem(err, "Flight SQL");
    }
    flight->rest = rest;
    flight->host = (struct hs_sql_host){.user = flight,
                                        .engine = rest->engine,
                                        .defaults = &rest->defaults,
                                        .routing = &rest->routing,
                                        .find_model = find_model,
                                        .find_adapter = find_adapter,
                                        .open_session = open_session,
                                        .close_session = close_session,
                                        .list_models = list_models,
                                        .registry = registry,
                                        .sessions_dir = rest->sessions_dir};
    hs_status status = hs_sql_settings_fill(args->config, args->paths, &flight->settings, err);
    flight->settings.params.host = &flight->host;
    status = status ? status : hs_sql_open(&flight->settings.params, &flight->sql, err);
    if (!status) {
        fill_config(args->config, &config);
        config.sql = flight->sql;
        config.keys = keys;
        status = hs_flight_start(&config, &flight->flight, err);
        if (status) {
            hs_error_prefix(err, "--flight-port");
        }
    }
    if (status) {
        hs_serve_flight_free(flight);
        return status;
    }
    *ret_flight = flight;
    return HS_OK;
}

int hs_serve_flight_port(const hs_serve_flight *flight)
{
    return hs_grpc_server_port(hs_flight_server(flight->flight));
}

hs_status hs_serve_flight_stop(hs_serve_flight *flight, int64_t drain_ms, struct hs_error *err)
{
    return flight ? hs_flight_stop(flight->flight, drain_ms, err) : HS_OK;
}

void hs_serve_flight_free(hs_serve_flight *flight)
{
    if (flight) {
        hs_flight_free(flight->flight);
        hs_sql_close(flight->sql);
        hs_sql_settings_free(&flight->settings);
        hs_free(flight);
    }
}

#else

hs_status hs_serve_flight_start(const struct hs_command_args *args, const struct hs_rest *rest,
                                hs_registry *registry, hs_http_keys *keys,
                                hs_serve_flight **ret_flight, struct hs_error *err)
{
    (void)rest;
    (void)registry;
    (void)keys;
    *ret_flight = NULL;
    if (hs_config_int(args->config, HS_CFG_FLIGHT_PORT) < 0) {
        return HS_OK;
    }
    hs_error_set(err, HS_NOT_SUPPORTED, "--flight-port: this program was built without Flight SQL");
    return hs_error_hint(err, "`make build` builds it with it");
}

int hs_serve_flight_port(const hs_serve_flight *flight)
{
    (void)flight;
    return -1;
}

hs_status hs_serve_flight_stop(hs_serve_flight *flight, int64_t drain_ms, struct hs_error *err)
{
    (void)flight;
    (void)drain_ms;
    (void)err;
    return HS_OK;
}

void hs_serve_flight_free(hs_serve_flight *flight)
{
    (void)flight;
}

#endif
