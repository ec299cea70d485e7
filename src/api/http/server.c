/* server.c - start and stop of a server, and its figures. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "http_internal.h"

#define PEM_MAX (1u << 20)
#define OPENAPI_MAX (4u << 20)
#define HANDLER_GRACE_MS 5000
/* libmicrohttpd keeps headers, and a read buffer of half of it, in one block for a connection. */
#define CONNECTION_EXTRA (32u << 10)
/* Its own limit of connections stays out of reach: 0.9.75 does not release a lock when it is met.
 */
#define CONNECTIONS_EXTRA 1024

void hs_http_limits_defaults(struct hs_http_limits *ret_limits)
{
    *ret_limits = (struct hs_http_limits){
        .body_bytes = 32u << 20,
        .header_bytes = 16u << 10,
        .connections = 512,
        .connections_per_address = 512,
        .idle_ms = 75000,
        .slow_ms = 30000,
        .request_ms = 600000,
        .json_depth = 64,
        .queued_requests = 256,
        .stream_bytes = 1u << 20,
    };
}

void hs_http_config_defaults(struct hs_http_config *ret_config)
{
    *ret_config = (struct hs_http_config){.host = "127.0.0.1"};
    hs_http_limits_defaults(&ret_config->limits);
}

static hs_status check_config(const struct hs_http_config *config, struct hs_error *err)
{
    const struct hs_http_limits *l = &config->limits;
    const char *wrong = NULL;
    if (l->header_bytes < 256 || l->header_bytes > (1u << 20)) {
        wrong = "header_bytes (256 to 1048576)";
    } else if (l->connections < 1 || l->connections > 100000 || l->connections_per_address < 1) {
        wrong = "connections (1 to 100000)";
    } else if (l->idle_ms < 1 || l->slow_ms < 1 || l->request_ms < 0) {
        wrong = "idle_ms, slow_ms or request_ms";
    } else if (l->json_depth < 1 || l->json_depth > 1024) {
        wrong = "json_depth (1 to 1024)";
    } else if (l->queued_requests < 1 || l->stream_bytes < 1 || l->body_bytes < 1 ||
               l->body_bytes > SIZE_MAX / 4) {
        wrong = "queued_requests, stream_bytes or body_bytes";
    } else if (config->port < 0 || config->port > 65535) {
        wrong = "port (0 to 65535)";
    } else if (config->n_workers < 0 || config->n_workers > 1024) {
        wrong = "n_workers (0 to 1024)";
    } else if ((config->tls_cert_file == NULL) != (config->tls_key_file == NULL)) {
        wrong = "TLS files (--tls-cert needs --tls-key, and --tls-key needs --tls-cert)";
    }
    return wrong == NULL ? HS_OK
                         : hs_error_set(err, HS_INVALID_ARGUMENT, "HTTP server: bad %s", wrong);
}

static void give_openapi(hs_http_request *request, void *user)
{
    (void)user;
    const struct hs_buf *text = &request->server->openapi;
    hs_http_respond_static(request, 200, "application/json", text->data, text->len);
}

static hs_status prepare_routes(hs_http_server *server, struct hs_error *err)
{
    const struct hs_http_config *config = &server->config;
    server->routes = hs_calloc(config->n_routes + 1, sizeof *server->routes);
    if (server->routes == NULL) {
        return hs_error_nomem(err, "the routes");
    }
    for (size_t i = 0; i < config->n_routes; i++) {
        server->routes[i] = config->routes[i];
    }
    server->n_routes = config->n_routes;
    if (config->openapi.title != NULL) {
        hs_status status = hs_http_openapi(config, &server->openapi, err);
        if (status != HS_OK) {
            return status;
        }
        server->routes[server->n_routes++] = (struct hs_http_route){
            .method = HS_HTTP_GET, .path = "/openapi.json", .handler = give_openapi};
    }
    return hs_http_routes_check(server->routes, server->n_routes, err);
}

static hs_status read_tls(hs_http_server *server, struct hs_error *err)
{
    const struct hs_http_config *config = &server->config;
    if (config->tls_cert_file == NULL) {
        return HS_OK;
    }
    hs_status status = hs_fs_read(config->tls_cert_file, &server->certificate, err);
    if (status == HS_OK) {
        status = hs_fs_read(config->tls_key_file, &server->key, err);
    }
    if (status == HS_OK && (server->certificate.len == 0 || server->key.len == 0)) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "the certificate or its key is empty");
    }
    return status;
}

__attribute__((format(printf, 2, 0))) static void log_mhd(void *cls, const char *format,
                                                          va_list args)
{
    (void)cls;
    char text[512];
    if (hs_log_level_get() == HS_LOG_DEBUG) {
        vsnprintf(text, sizeof text, format, args);
        hs_log(HS_LOG_DEBUG, "http", "%s", text);
    }
}

/* Paths and queries are decoded by target.c. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static hs_status start_mhd(hs_http_server *server, struct hs_error *err)
{
    const struct hs_http_limits *limits = &server->config.limits;
    bool has_tls = server->certificate.len > 0;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET |
                     MHD_USE_ERROR_LOG | (has_tls ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, server->certificate.data},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, server->key.data},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL},
    };
    server->mhd = MHD_start_daemon(
        flags, 0, NULL, NULL, hs_http_on_access, server, MHD_OPTION_EXTERNAL_LOGGER, log_mhd, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, hs_http_on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        hs_http_on_connection, server, MHD_OPTION_URI_LOG_CALLBACK, hs_http_on_uri, server,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        2 * limits->header_bytes + CONNECTION_EXTRA, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(limits->connections + CONNECTIONS_EXTRA),
        has_tls ? MHD_OPTION_ARRAY : MHD_OPTION_END, tls, MHD_OPTION_END);
    if (server->mhd != NULL) {
        return HS_OK;
    }
    if (!has_tls) {
        return hs_error_set(err, HS_IO, "the HTTP library could not be started");
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "the TLS certificate '%s' or its key cannot be used",
                 server->config.tls_cert_file);
    return hs_error_hint(err, "both must be PEM files that belong together, the key without a "
                              "password");
}

static hs_status start_loop(hs_http_server *server, struct hs_error *err)
{
    const struct hs_http_config *config = &server->config;
    hs_status status = hs_net_loop_open(&server->loop, config->host, config->port, "--port", err);
    if (status == HS_OK) {
        status = start_mhd(server, err);
    }
    if (status == HS_OK) {
        server->watch_mhd = HS_NET_WATCH_LIBRARY;
        int fd = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
        status = hs_net_loop_watch(&server->loop, fd, EPOLLIN, &server->watch_mhd, err);
    }
    return status == HS_OK ? hs_net_loop_start(&server->loop, hs_http_loop_main, server, err)
                           : status;
}

static hs_status start(hs_http_server *server, struct hs_error *err)
{
    hs_status status = check_config(&server->config, err);
    if (status == HS_OK) {
        status = prepare_routes(server, err);
    }
    if (status == HS_OK) {
        status = read_tls(server, err);
    }
    if (status == HS_OK) {
        int n = server->config.n_workers == 0 ? 8 : server->config.n_workers;
        status = hs_http_pool_start(&server->pool, n, err);
    }
    return status == HS_OK ? start_loop(server, err) : status;
}

hs_status hs_http_server_start(const struct hs_http_config *config, hs_http_server **ret_server,
                               struct hs_error *err)
{
    hs_http_server *server = hs_calloc(1, sizeof *server);
    if (server == NULL) {
        return hs_error_nomem(err, "the HTTP server");
    }
    if (pthread_mutex_init(&server->ready_lock, NULL) != 0) {
        hs_free(server);
        return hs_error_nomem(err, "the HTTP server");
    }
    server->config = *config;
    hs_net_loop_init(&server->loop, "http");
    server->certificate.max = server->key.max = PEM_MAX;
    server->openapi.max = OPENAPI_MAX;
    server->origins =
        (struct hs_http_origins){config->cors_origins, config->n_cors_origins, config->host_names,
                                 config->n_host_names, config->host};
    if (getrandom(&server->id_seed, sizeof server->id_seed, 0) != sizeof server->id_seed) {
        server->id_seed = (uint64_t)hs_clock_ns(); /* ids need not be secret, only different */
    }
    hs_status status = start(server, err);
    if (status != HS_OK) {
        hs_http_server_free(server);
        return status;
    }
    *ret_server = server;
    return HS_OK;
}

int hs_http_server_port(const hs_http_server *server)
{
    return server->loop.port;
}

bool hs_http_server_has_tls(const hs_http_server *server)
{
    return server->certificate.len > 0;
}

hs_status hs_http_server_stop(hs_http_server *server, int64_t drain_ms, struct hs_error *err)
{
    if (!server->loop.has_thread) {
        return HS_OK;
    }
    hs_net_loop_stop(&server->loop, drain_ms);
    if (!hs_http_pool_wait(&server->pool, HANDLER_GRACE_MS)) {
        return hs_error_set(err, HS_TIMEOUT, "a handler still runs %d s after its request ended",
                            HANDLER_GRACE_MS / 1000);
    }
    return HS_OK;
}

void hs_http_server_free(hs_http_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->loop.has_thread && hs_http_server_stop(server, 0, NULL) != HS_OK) {
        hs_log(HS_LOG_ERROR, "http", "a handler does not return; waiting for it");
    }
    hs_net_pool_close(&server->pool.threads);
    if (server->mhd != NULL) {
        MHD_stop_daemon(server->mhd);
    }
    for (int i = 0; i < server->n_lingering; i++) {
        close(server->lingering[i].fd);
    }
    hs_net_loop_close(&server->loop);
    hs_buf_free(&server->openapi);
    hs_buf_free(&server->certificate);
    if (server->key.data != NULL) {
        explicit_bzero(server->key.data, server->key.len);
    }
    hs_buf_free(&server->key);
    hs_free(server->routes);
    pthread_mutex_destroy(&server->ready_lock);
    hs_free(server);
}

void hs_http_server_stats(hs_http_server *server, struct hs_http_stats *ret_stats)
{
    struct hs_http_stats stats = {
        .n_connections = atomic_load(&server->n_open),
        .n_queued = hs_http_pool_n_beginning(&server->pool),
        .n_active = atomic_load(&server->n_active),
        .n_streams = atomic_load(&server->n_streams),
        .n_requests = atomic_load(&server->n_requests),
        .n_refused_connections = atomic_load(&server->n_refused),
        .n_gone = atomic_load(&server->n_gone),
        .bytes_in = atomic_load(&server->bytes_in),
        .bytes_out = atomic_load(&server->bytes_out),
    };
    for (int i = 0; i < 6; i++) {
        stats.n_answers[i] = atomic_load(&server->n_answers[i]);
    }
    *ret_stats = stats;
}
