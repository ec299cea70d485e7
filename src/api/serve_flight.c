#include "serve_flight.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#ifdef HS_HAVE_SQL

#include "api/flightsql.h"
#include "sql_service.h"

struct hs_serve_flight {
    hs_flight *flight;
};

static void fill_config(const struct hs_config *config, struct hs_flight_config *ret_config)
{
    const char *cert = hs_config_str(config, HS_CFG_TLS_CERT);
    const char *key = hs_config_str(config, HS_CFG_TLS_KEY);
    hs_flight_config_defaults(ret_config);
    struct hs_grpc_limits *limits = &ret_config->grpc.limits;
    ret_config->max_sessions = (int)hs_config_int(config, HS_CFG_FLIGHT_SESSIONS);
    ret_config->max_handles = (int)hs_config_int(config, HS_CFG_FLIGHT_HANDLES);
    ret_config->session_idle_ms = hs_config_int(config, HS_CFG_FLIGHT_IDLE_TIMEOUT) * 1000;
    ret_config->grpc.host = hs_config_str(config, HS_CFG_HOST);
    ret_config->grpc.port = (int)hs_config_int(config, HS_CFG_FLIGHT_PORT);
    ret_config->grpc.tls_cert_file = cert && *cert ? cert : NULL;
    ret_config->grpc.tls_key_file = key && *key ? key : NULL;
    limits->connections = (int)hs_config_int(config, HS_CFG_MAX_CONNECTIONS);
    limits->connections_per_address = (int)hs_config_int(config, HS_CFG_MAX_PER_ADDRESS);
    limits->streams = (int)hs_config_int(config, HS_CFG_FLIGHT_STREAMS);
    limits->message_bytes = (size_t)hs_config_float(config, HS_CFG_FLIGHT_MAX_MESSAGE);
    if (limits->received_bytes < limits->message_bytes) {
        limits->received_bytes = limits->message_bytes;
    }
}

hs_status hs_serve_flight_start(const struct hs_command_args *args, struct hs_sql_service *service,
                                hs_http_keys *keys, hs_serve_flight **ret_flight,
                                struct hs_error *err)
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
    fill_config(args->config, &config);
    config.keys = keys;
    hs_status status = hs_sql_service_open(service, &config.sql, err);
    if (!status) {
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
        hs_free(flight);
    }
}

#else

hs_status hs_serve_flight_start(const struct hs_command_args *args, struct hs_sql_service *service,
                                hs_http_keys *keys, hs_serve_flight **ret_flight,
                                struct hs_error *err)
{
    (void)service;
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
