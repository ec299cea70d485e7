/* server.c - start and stop of a server, and its figures. */
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc_internal.h"

#define HANDLER_GRACE_MS 5000
#define WORKERS_DEFAULT 64
#define WORKERS_MAX 1024

void hs_grpc_limits_defaults(struct hs_grpc_limits *ret_limits)
{
    *ret_limits = (struct hs_grpc_limits){
        .connections = 512,
        .connections_per_address = 512,
        .streams = 100,
        .queued_calls = 256,
        .message_bytes = 64u << 20,
        .received_bytes = 1u << 30,
        .header_bytes = 16u << 10,
        .resets_per_minute = 1000,
        .control_per_minute = 1000,
        .handshake_ms = 10000,
        .idle_ms = 600000,
        .stall_ms = 600000,
        .keepalive_ms = 60000,
        .keepalive_wait_ms = 20000,
    };
}

void hs_grpc_config_defaults(struct hs_grpc_config *ret_config)
{
    *ret_config = (struct hs_grpc_config){.host = "127.0.0.1"};
    hs_grpc_limits_defaults(&ret_config->limits);
}

static hs_status check_config(const struct hs_grpc_config *config, struct hs_error *err)
{
    const struct hs_grpc_limits *l = &config->limits;
    const char *wrong = NULL;
    if (l->connections < 1 || l->connections > 100000 || l->connections_per_address < 1) {
        wrong = "connections (1 to 100000)";
    } else if (l->streams < 1 || l->streams > 100000) {
        wrong = "streams (1 to 100000)";
    } else if (l->queued_calls < 0 || l->queued_calls > 1000000) {
        wrong = "queued_calls (0 to 1000000)";
    } else if (l->message_bytes < 1 || l->message_bytes > (size_t)INT32_MAX ||
               l->received_bytes < l->message_bytes) {
        wrong = "message_bytes or received_bytes (1 to 2147483647, and the latter no less)";
    } else if (l->header_bytes < 256 || l->header_bytes > (1u << 20)) {
        wrong = "header_bytes (256 to 1048576)";
    } else if (l->resets_per_minute < 1 || l->resets_per_minute > 1000) {
        wrong = "resets_per_minute (1 to 1000)"; /* the library has 1000 of its own */
    } else if (l->control_per_minute < 10) {
        wrong = "control_per_minute (10 or more)";
    } else if (l->handshake_ms < 1 || l->idle_ms < 1 || l->stall_ms < 1 || l->keepalive_ms < 1 ||
               l->keepalive_wait_ms < 1) {
        wrong = "handshake_ms, idle_ms, stall_ms, keepalive_ms or keepalive_wait_ms";
    } else if (config->port < 0 || config->port > 65535) {
        wrong = "port (0 to 65535)";
    } else if (config->n_workers < 0 || config->n_workers > WORKERS_MAX) {
        wrong = "n_workers (0 to 1024)";
    } else if ((config->tls_cert_file == NULL) != (config->tls_key_file == NULL)) {
        wrong = "TLS files (--tls-cert needs --tls-key, and --tls-key needs --tls-cert)";
    }
    return wrong == NULL ? HS_OK
                         : hs_error_set(err, HS_INVALID_ARGUMENT, "gRPC server: bad %s", wrong);
}

static hs_status start(hs_grpc_server *server, struct hs_error *err)
{
    const struct hs_grpc_config *config = &server->config;
    hs_status status = check_config(config, err);
    if (status == HS_OK && config->tls_cert_file != NULL) {
        status = hs_grpc_tls_open(config->tls_cert_file, config->tls_key_file, &server->tls, err);
    }
    if (status == HS_OK) {
        status = hs_grpc_session_prepare(server, err);
    }
    if (status == HS_OK) {
        int n = config->n_workers == 0 ? WORKERS_DEFAULT : config->n_workers;
        status = hs_grpc_pool_start(&server->pool, n, config->limits.queued_calls, err);
    }
    if (status == HS_OK) {
        status = hs_net_loop_open(&server->loop, config->host, config->port, "--flight-port", err);
    }
    return status == HS_OK ? hs_net_loop_start(&server->loop, hs_grpc_loop_main, server, err)
                           : status;
}

hs_status hs_grpc_server_start(const struct hs_grpc_config *config, hs_grpc_server **ret_server,
                               struct hs_error *err)
{
    hs_grpc_server *server = hs_calloc(1, sizeof *server);
    uint8_t *input = hs_alloc(HS_GRPC_READ_BYTES);
    if (server == NULL || input == NULL || pthread_mutex_init(&server->ready_lock, NULL) != 0) {
        hs_free(server);
        hs_free(input);
        return hs_error_nomem(err, "the gRPC server");
    }
    server->config = *config;
    server->input = input;
    server->budget.max = config->limits.received_bytes;
    hs_net_loop_init(&server->loop, "grpc");
    hs_status status = start(server, err);
    if (status != HS_OK) {
        hs_grpc_server_free(server);
        return status;
    }
    *ret_server = server;
    return HS_OK;
}

int hs_grpc_server_port(const hs_grpc_server *server)
{
    return server->loop.port;
}

bool hs_grpc_server_has_tls(const hs_grpc_server *server)
{
    return server->tls != NULL;
}

hs_status hs_grpc_server_stop(hs_grpc_server *server, int64_t drain_ms, struct hs_error *err)
{
    if (!server->loop.has_thread) {
        return HS_OK;
    }
    hs_net_loop_stop(&server->loop, drain_ms);
    if (!hs_grpc_pool_wait(&server->pool, HANDLER_GRACE_MS)) {
        return hs_error_set(err, HS_TIMEOUT, "a handler still runs %d s after its call ended",
                            HANDLER_GRACE_MS / 1000);
    }
    return HS_OK;
}

void hs_grpc_server_free(hs_grpc_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->loop.has_thread && hs_grpc_server_stop(server, 0, NULL) != HS_OK) {
        hs_log(HS_LOG_ERROR, "grpc", "a handler does not return; waiting for it");
    }
    hs_net_pool_close(&server->pool.threads);
    while (server->ready != NULL) { /* handlers that returned after the transport thread */
        hs_grpc_call *next = server->ready->ready_next;
        hs_grpc_call_unref(server->ready);
        server->ready = next;
    }
    hs_net_loop_close(&server->loop);
    nghttp2_session_callbacks_del(server->callbacks);
    nghttp2_option_del(server->option);
    SSL_CTX_free(server->tls);
    pthread_mutex_destroy(&server->ready_lock);
    hs_free(server->input);
    hs_free(server);
}

void hs_grpc_server_stats(hs_grpc_server *server, struct hs_grpc_stats *ret_stats)
{
    struct hs_grpc_stats stats = {
        .n_connections = atomic_load(&server->n_open),
        .n_calls = atomic_load(&server->n_calls),
        .n_failed = atomic_load(&server->n_failed),
        .n_refused_connections = atomic_load(&server->n_refused),
        .n_cut_connections = atomic_load(&server->n_cut),
        .bytes_in = atomic_load(&server->bytes_in),
        .bytes_out = atomic_load(&server->bytes_out),
    };
    hs_grpc_pool_count(&server->pool, &stats.n_queued, &stats.n_active);
    *ret_stats = stats;
}
