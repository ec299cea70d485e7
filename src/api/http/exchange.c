/* exchange.c - what libmicrohttpd calls: a request's line, its headers, its body, its end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "http_internal.h"

/* A body that nobody wants is read to its end, so that the client reads the answer, up to so much
 * over the limit. */
#define DRAIN_EXTRA (1u << 20)

static struct hs_http_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void refuse(hs_http_request *request, int status, const char *code, const char *message)
{
    hs_http_answer_error(
        request, &(struct hs_http_error){.status = status, .code = code, .message = message});
}

void *hs_http_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    hs_http_server *server = cls;
    struct hs_http_conn *conn = conn_of(mhd);
    hs_http_request *request = conn == NULL ? NULL : hs_http_request_new(server, conn);
    if (request == NULL) {
        return NULL; /* the access callback ends the connection */
    }
    conn->request = request;
    conn->phase = HS_HTTP_RECEIVING;
    hs_http_conn_set_deadline(conn,
                              request->start_ns + server->config.limits.slow_ms * HS_NET_NS_PER_MS);
    struct hs_error err;
    hs_status status = hs_http_target_parse(uri == NULL ? "" : uri, &request->target, &err);
    if (status != HS_OK) {
        refuse(request, status == HS_OUT_OF_MEMORY ? 500 : 400, "bad_url", err.message);
    }
    return request;
}

/* ---- the head ---- */

static enum MHD_Result keep_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    hs_http_request *request = cls;
    return hs_http_field_add(&request->headers, name, value == NULL ? "" : value) == HS_OK ? MHD_YES
                                                                                           : MHD_NO;
}

static int count_header(const hs_http_request *request, const char *name)
{
    int n = 0;
    for (const struct hs_http_field *i = request->headers; i != NULL; i = i->next) {
        n += strcasecmp(i->name, name) == 0;
    }
    return n;
}

static bool is_sane_id(const char *id)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._:-";
    size_t len = strlen(id);
    return len > 0 && len <= 64 && strspn(id, allowed) == len;
}

/* A name that another reader takes for a different one, such as "Content-Length ", is refused. */
static bool has_odd_name(const hs_http_request *request)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    bool is_odd = false;
    for (const struct hs_http_field *i = request->headers; i != NULL; i = i->next) {
        is_odd |= i->name[0] == '\0' || i->name[strspn(i->name, token)] != '\0';
    }
    return is_odd;
}

/* 0: none was given. */
static uint64_t given_length(const hs_http_request *request)
{
    const char *text = hs_http_request_header(request, "Content-Length");
    uint64_t length;
    return text != NULL && hs_http_length_parse(text, &length) ? length : 0;
}

static bool check_framing(hs_http_request *request, const char *version)
{
    /* Two readings of where a request ends would let one be smuggled in another's body. */
    const char *coding = hs_http_request_header(request, "Transfer-Encoding");
    int n_lengths = count_header(request, "Content-Length");
    int n_codings = count_header(request, "Transfer-Encoding");
    int n_hosts = count_header(request, "Host");
    const char *length = hs_http_request_header(request, "Content-Length");
    uint64_t n;
    bool is_chunked = coding != NULL && strcasecmp(coding, "chunked") == 0;
    const char *message = NULL;
    if (n_hosts > 1 || n_lengths + n_codings > 1 || (n_codings == 1 && !is_chunked)) {
        message = "Host, Content-Length and Transfer-Encoding may stand once, only one of the "
                  "latter two, and the only coding known is chunked";
    } else if (n_lengths == 1 && (length == NULL || !hs_http_length_parse(length, &n))) {
        message = "the Content-Length header is no number";
    } else if (has_odd_name(request)) {
        message = "a header's name has a character that names do not have";
    } else if (n_hosts == 0 && strcmp(version, "HTTP/1.0") != 0) {
        message = "the Host header is missing";
    }
    if (message != NULL) {
        request->is_close = true;
        refuse(request, 400, "bad_framing", message);
    }
    return message == NULL;
}

static bool read_headers(hs_http_request *request, struct MHD_Connection *mhd, const char *version)
{
    int n = MHD_get_connection_values(mhd, MHD_HEADER_KIND, NULL, NULL);
    if (MHD_get_connection_values(mhd, MHD_HEADER_KIND, keep_header, request) != n) {
        refuse(request, 500, NULL, "out of memory");
        return false;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *id = hs_http_request_header(request, "X-Request-Id");
    if (id != NULL && is_sane_id(id)) {
        memcpy(request->id, id, strlen(id) + 1);
    }
    if (info != NULL && info->header_size > request->server->config.limits.header_bytes) {
        char message[96];
        snprintf(message, sizeof message, "the request's line and headers are over %zu bytes",
                 request->server->config.limits.header_bytes);
        refuse(request, 431, "headers_too_large", message);
        return false;
    }
    return check_framing(request, version);
}

static bool check_origin(hs_http_request *request)
{
    hs_http_server *server = request->server;
    const char *origin = hs_http_request_header(request, "Origin");
    const char *host = hs_http_request_header(request, "Host");
    bool is_open = server->config.keys == NULL || hs_http_keys_count(server->config.keys) == 0;
    if (is_open && server->certificate.len == 0 && host != NULL &&
        !hs_http_host_is_allowed(&server->origins, host)) {
        refuse(request, 403, "host_not_allowed",
               "the server does not go by the name in the Host header; start it with --host-name "
               "NAME to add one");
        return false;
    }
    if (origin != NULL &&
        !hs_http_origin_is_allowed(&server->origins, origin, host == NULL ? "" : host)) {
        refuse(request, 403, "origin_not_allowed",
               "pages of this origin may not use the server; start it with --cors-origin ORIGIN to "
               "let them");
        return false;
    }
    request->is_cors = origin != NULL;
    return true;
}

static void list_methods(unsigned methods, char ret_text[64])
{
    size_t len = (size_t)snprintf(ret_text, 64, "OPTIONS");
    for (unsigned i = 0; i < HS_HTTP_METHOD_COUNT; i++) {
        if ((methods & 1u << i) != 0) {
            const char *name = hs_http_method_name((enum hs_http_method)i);
            len += (size_t)snprintf(ret_text + len, 64 - len, ", %s%s", name,
                                    i == HS_HTTP_GET ? ", HEAD" : "");
        }
    }
}

static void answer_options(hs_http_request *request, unsigned methods)
{
    char text[64];
    list_methods(methods, text);
    hs_http_set_header(request, "Allow", text);
    const char *headers = hs_http_request_header(request, "Access-Control-Request-Headers");
    if (request->is_cors && hs_http_request_header(request, "Access-Control-Request-Method")) {
        hs_http_set_header(request, "Access-Control-Allow-Methods", text);
        hs_http_set_header(request, "Access-Control-Max-Age", "600");
        if (headers != NULL) {
            hs_http_set_header(request, "Access-Control-Allow-Headers", headers);
        }
        if (hs_http_request_header(request, "Access-Control-Request-Private-Network") != NULL) {
            hs_http_set_header(request, "Access-Control-Allow-Private-Network", "true");
        }
    }
    hs_http_respond_static(request, 204, "text/plain", "", 0);
}

static bool find_route(hs_http_request *request, const char *method_text)
{
    hs_http_server *server = request->server;
    enum hs_http_method method = hs_http_method_parse(method_text);
    bool is_options = strcmp(method_text, "OPTIONS") == 0;
    unsigned methods;
    request->is_head = strcmp(method_text, "HEAD") == 0;
    request->route = hs_http_route_find(server->routes, server->n_routes, method, &request->target,
                                        &request->params, &methods);
    if (is_options && (methods != 0 || strcmp(request->target.path, "*") == 0)) {
        answer_options(request, methods);
        return false;
    }
    if (methods == 0) {
        refuse(request, 404, "not_found", "there is nothing under this path");
        return false;
    }
    if (request->route == NULL) {
        char allowed[64];
        list_methods(methods, allowed);
        hs_http_set_header(request, "Allow", allowed);
        refuse(request, 405, "method_not_allowed",
               "this path is there, but not with this method; see the Allow header");
        return false;
    }
    return true;
}

static const char *given_key(const hs_http_request *request)
{
    const char *text = hs_http_request_header(request, "Authorization");
    if (text != NULL && strncasecmp(text, "Bearer ", 7) == 0) {
        return text + 7 + strspn(text + 7, " ");
    }
    return hs_http_request_header(request, "x-api-key");
}

static bool check_key(hs_http_request *request)
{
    hs_http_keys *keys = request->server->config.keys;
    unsigned scope = request->route->scope;
    if (keys == NULL || hs_http_keys_count(keys) == 0) {
        return true;
    }
    const char *key = given_key(request);
    request->has_key = key != NULL && hs_http_keys_check(keys, key, &request->key);
    unsigned has = !request->has_key                           ? 0
                   : (request->key.scopes & HS_KEY_ADMIN) != 0 ? HS_KEY_ADMIN | HS_KEY_INFERENCE
                                                               : request->key.scopes;
    if ((scope & ~has) == 0) {
        return true;
    }
    if (request->has_key) {
        refuse(request, 403, "insufficient_scope",
               "this needs an API key with the scope admin ('hyprstream key create NAME --scopes "
               "admin')");
        return false;
    }
    hs_http_set_header(request, "WWW-Authenticate", "Bearer");
    refuse(request, 401, key == NULL ? "missing_api_key" : "invalid_api_key",
           key == NULL ? "an API key is needed: send it as Authorization: Bearer KEY, or x-api-key"
                       : "the API key is not known here; it may have been revoked");
    return false;
}

static void refuse_body(hs_http_request *request)
{
    char message[96];
    snprintf(message, sizeof message, "the body is over the limit of %zu bytes",
             request->server->config.limits.body_bytes);
    refuse(request, 413, "body_too_large", message);
    hs_buf_free(&request->body);
}

/* Reads the head; afterwards the request either has its answer or waits for its body. */
static void begin(hs_http_request *request, struct MHD_Connection *mhd, const char *method,
                  const char *version)
{
    request->is_begun = true;
    if (!read_headers(request, mhd, version) || request->is_claimed || !check_origin(request) ||
        !find_route(request, method) || !check_key(request)) {
        return;
    }
    if (given_length(request) > request->server->config.limits.body_bytes) {
        refuse_body(request);
    }
}

/* Whether the client should hear at once that its body is not wanted. */
static bool is_body_hopeless(const hs_http_request *request)
{
    size_t most = request->server->config.limits.body_bytes + DRAIN_EXTRA;
    return request->is_close || hs_http_request_header(request, "Expect") != NULL ||
           given_length(request) > most;
}

/* ---- body and handler ---- */

static enum MHD_Result take_body(hs_http_request *request, const char *upload, size_t *upload_size)
{
    size_t n = *upload_size;
    *upload_size = 0;
    request->body_seen += n;
    atomic_fetch_add(&request->server->bytes_in, n);
    if (request->is_claimed) {
        return request->body_seen > 2 * request->body.max + DRAIN_EXTRA ? MHD_NO : MHD_YES;
    }
    hs_status status = hs_buf_append(&request->body, upload, n);
    if (status == HS_LIMIT) {
        refuse_body(request);
    } else if (status != HS_OK) {
        refuse(request, 500, NULL, "out of memory");
    }
    return MHD_YES;
}

/* Let go of the connection until the request is ready. Under the lock. */
static void park(struct hs_http_conn *conn, hs_http_request *request)
{
    request->is_parked = true;
    conn->is_suspended = true;
    MHD_suspend_connection(conn->mhd);
}

static void dispatch(struct hs_http_conn *conn, hs_http_request *request)
{
    hs_http_server *server = request->server;
    const struct hs_http_limits *limits = &server->config.limits;
    if (limits->request_ms > 0) {
        request->deadline_ns = hs_clock_ns() + limits->request_ms * HS_NET_NS_PER_MS;
    }
    request->is_dispatched = true;
    atomic_fetch_add(&server->n_active, 1);
    conn->phase = HS_HTTP_WORKING;
    hs_http_conn_set_deadline(conn, request->deadline_ns);
    pthread_mutex_lock(&request->lock);
    park(conn, request);
    hs_http_request_poke(request);
    pthread_mutex_unlock(&request->lock);
}

static enum MHD_Result whole_request(struct hs_http_conn *conn, hs_http_request *request)
{
    hs_http_server *server = request->server;
    if (!request->is_claimed && server->loop.is_draining) {
        refuse(request, 503, "server_stopping", "the server is stopping");
    }
    if (!request->is_claimed &&
        hs_http_pool_n_beginning(&server->pool) >= server->config.limits.queued_requests) {
        hs_http_answer_error(request, &(struct hs_http_error){
                                          .status = 503,
                                          .code = "server_busy",
                                          .message = "too many requests are waiting",
                                          .retry_after_s = 1,
                                      });
    }
    if (request->is_claimed) {
        return hs_http_reply_queue(conn, request);
    }
    if (conn->has_fin) {
        return MHD_NO;
    }
    dispatch(conn, request);
    return MHD_YES;
}

enum MHD_Result hs_http_on_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **context)
{
    (void)cls;
    (void)url;
    hs_http_request *request = *context;
    if (request == NULL || request->server->is_forced) {
        return MHD_NO;
    }
    struct hs_http_conn *conn = request->conn;
    if (!request->is_begun) {
        begin(request, mhd, method, version);
        if (request->is_claimed && is_body_hopeless(request)) {
            request->is_close = true;
            return hs_http_reply_queue(conn, request);
        }
        return MHD_YES;
    }
    if (*upload_size > 0) {
        return take_body(request, upload, upload_size);
    }
    if (!request->is_dispatched) {
        return whole_request(conn, request);
    }
    pthread_mutex_lock(&request->lock);
    bool is_lost = request->gone == HS_HTTP_DISCONNECTED;
    bool is_ready = hs_http_request_is_ready(request);
    if (!is_lost && !is_ready) {
        park(conn, request);
    }
    pthread_mutex_unlock(&request->lock);
    if (is_lost) {
        return MHD_NO;
    }
    return is_ready ? hs_http_reply_queue(conn, request) : MHD_YES;
}

/* ---- ends ---- */

static void count_end(hs_http_request *request)
{
    hs_http_server *server = request->server;
    int hundreds = request->sent_status / 100;
    if (hundreds >= 1 && hundreds <= 5) {
        atomic_fetch_add(&server->n_answers[hundreds], 1);
    }
    atomic_fetch_add(&server->bytes_out, request->bytes_out);
    if (request->gone != 0) {
        atomic_fetch_add(&server->n_gone, 1);
    }
    if (request->is_dispatched) {
        atomic_fetch_sub(&server->n_active, 1);
    }
    if (request->is_streaming) {
        atomic_fetch_sub(&server->n_streams, 1);
    }
}

void hs_http_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_RequestTerminationCode code)
{
    hs_http_server *server = cls;
    (void)mhd;
    hs_http_request *request = *context;
    if (request == NULL) {
        return;
    }
    *context = NULL;
    struct hs_http_conn *conn = request->conn;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && request->is_dispatched) {
        hs_http_conn_gone(conn, HS_HTTP_DISCONNECTED);
    }
    conn->request = NULL;
    conn->phase = HS_HTTP_IDLE;
    if (server->loop.is_draining) {
        hs_http_conn_cut(conn);
    } else {
        hs_http_conn_set_deadline(conn,
                                  hs_clock_ns() + server->config.limits.idle_ms * HS_NET_NS_PER_MS);
    }
    hs_http_access_log(request);
    count_end(request);
    hs_http_request_release(request);
}

void hs_http_on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                           enum MHD_ConnectionNotificationCode code)
{
    hs_http_server *server = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        server->accepting->mhd = mhd;
        *context = server->accepting;
        server->accepting = NULL;
        return;
    }
    struct hs_http_conn *conn = *context;
    *context = NULL;
    epoll_ctl(server->loop.epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        server->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    atomic_fetch_sub(&server->n_open, 1);
    hs_free(conn);
}
