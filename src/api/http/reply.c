/* reply.c - answers: kept by whoever gives them, handed to libmicrohttpd by the transport thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/status_map.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "http_internal.h"

#define STREAM_BLOCK_SIZE 16384
#define ERROR_BODY_MAX (64u << 10)

/* ---- giving an answer ---- */

/* False: there is an answer already, or nobody waits for one. */
static bool claim(hs_http_request *request)
{
    pthread_mutex_lock(&request->lock);
    bool is_first = !request->is_claimed && request->gone == 0;
    request->is_claimed = request->is_claimed || is_first;
    pthread_mutex_unlock(&request->lock);
    return is_first;
}

static void publish(hs_http_request *request, enum hs_http_answer_kind kind)
{
    pthread_mutex_lock(&request->lock);
    request->answer_kind = kind;
    pthread_mutex_unlock(&request->lock);
}

/* What stands when there is no memory for the answer meant. */
static void set_out_of_memory(hs_http_request *request)
{
    static const char text[] =
        "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
        "\"param\":null,\"code\":null}}";
    request->status = 500;
    request->content_type = "application/json";
    request->data = text;
    request->data_len = sizeof text - 1;
}

static void set_whole(hs_http_request *request, int status, const char *content_type,
                      const char *data, size_t len)
{
    request->content_type_copy = hs_strdup(content_type);
    request->content_type = request->content_type_copy;
    request->status = status;
    request->data = data;
    request->data_len = len;
    if (request->content_type_copy == NULL) {
        set_out_of_memory(request);
    }
}

void hs_http_set_header(hs_http_request *request, const char *name, const char *value)
{
    pthread_mutex_lock(&request->lock);
    bool is_open = !request->is_claimed && request->gone == 0;
    pthread_mutex_unlock(&request->lock);
    if (!is_open || hs_http_field_add(&request->answer_headers, name, value) != HS_OK) {
        return;
    }
    for (char *c = request->answer_headers->value; *c != '\0'; c++) {
        *c = *c == '\r' || *c == '\n' ? ' ' : *c;
    }
}

void hs_http_respond(hs_http_request *request, int status, const char *content_type,
                     const void *data, size_t len)
{
    if (!claim(request)) {
        return;
    }
    if (hs_buf_append(&request->out, data, len) == HS_OK) {
        set_whole(request, status, content_type, request->out.data, len);
    } else {
        set_out_of_memory(request);
    }
    publish(request, HS_HTTP_WHOLE);
}

void hs_http_respond_static(hs_http_request *request, int status, const char *content_type,
                            const void *data, size_t len)
{
    if (claim(request)) {
        set_whole(request, status, content_type, data, len);
        publish(request, HS_HTTP_WHOLE);
    }
}

void hs_http_respond_buf(hs_http_request *request, int status, const char *content_type,
                         struct hs_buf *body)
{
    if (claim(request)) {
        hs_buf_free(&request->out);
        request->out = *body;
        set_whole(request, status, content_type, request->out.data, request->out.len);
        *body = (struct hs_buf)HS_BUF_INIT(body->max);
        publish(request, HS_HTTP_WHOLE);
    }
}

static int append_json(const char *text, size_t len, void *out)
{
    return hs_buf_append(out, text, len) == HS_OK ? 0 : -1;
}

void hs_http_respond_json(hs_http_request *request, int status, json_t *json)
{
    if (claim(request)) {
        if (json != NULL &&
            json_dump_callback(json, append_json, &request->out, JSON_COMPACT) == 0) {
            set_whole(request, status, "application/json", request->out.data, request->out.len);
        } else {
            set_out_of_memory(request);
        }
        publish(request, HS_HTTP_WHOLE);
    }
    json_decref(json);
}

static enum hs_http_error_style style_of(const hs_http_request *request)
{
    return request->route == NULL ? HS_HTTP_ERRORS_OPENAI : request->route->errors;
}

void hs_http_answer_error(hs_http_request *request, const struct hs_http_error *error)
{
    if (!claim(request)) {
        return;
    }
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", error->retry_after_s);
    hs_buf_clear(&request->out);
    if (hs_http_error_write(style_of(request), error, request->id, &request->out) == HS_OK &&
        (error->retry_after_s == 0 ||
         hs_http_field_add(&request->answer_headers, "Retry-After", seconds) == HS_OK)) {
        set_whole(request, error->status, "application/json", request->out.data, request->out.len);
    } else {
        set_out_of_memory(request);
    }
    publish(request, HS_HTTP_WHOLE);
}

void hs_http_respond_error(hs_http_request *request, const struct hs_http_error *error)
{
    hs_http_answer_error(request, error);
}

void hs_http_respond_failure(hs_http_request *request, const struct hs_error *err,
                             const char *param)
{
    char message[HS_MESSAGE_MAX + HS_HINT_MAX + 2];
    bool has_hint = err->hint[0] != '\0';
    snprintf(message, sizeof message, "%s%s%s", err->message, has_hint ? "; " : "", err->hint);
    int status = hs_http_status(err->status);
    hs_http_answer_error(request, &(struct hs_http_error){
                                      .status = status,
                                      .param = param,
                                      .message = message,
                                      .retry_after_s = status == 429 || status == 503 ? 1 : 0,
                                  });
}

void hs_http_respond_bad_param(hs_http_request *request, const char *param, const char *format, ...)
{
    struct hs_error err = {.status = HS_INVALID_ARGUMENT};
    va_list args;
    va_start(args, format);
    vsnprintf(err.message, sizeof err.message, format, args);
    va_end(args);
    hs_http_respond_failure(request, &err, param);
}

void hs_http_stream_start(hs_http_request *request, int status, const struct hs_http_stream *stream)
{
    static const char *const types[] = {"text/event-stream; charset=utf-8", "application/x-ndjson"};
    if (!claim(request)) {
        return;
    }
    request->stream = *stream;
    request->status = status;
    request->content_type =
        stream->kind == HS_HTTP_RAW ? stream->content_type : types[stream->kind];
    request->out.max = request->server->config.limits.stream_bytes;
    request->is_woken = true; /* for the first pull */
    publish(request, HS_HTTP_STREAM);
}

/* ---- handing it over ---- */

static bool add_header(struct MHD_Response *response, const char *name, const char *value)
{
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool has_field(const struct hs_http_field *list, const char *name)
{
    for (; list != NULL; list = list->next) {
        if (strcasecmp(list->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Headers of the core that the handler did not set itself; `own` NULL: none did. */
static bool add_common(const hs_http_request *request, const struct hs_http_field *own,
                       struct MHD_Response *response)
{
    static const char *const common[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
        {"Cache-Control", "no-store"},
    };
    bool ok = add_header(response, "X-Request-Id", request->id);
    if (request->route != NULL && request->route->errors == HS_HTTP_ERRORS_ANTHROPIC) {
        ok = ok && add_header(response, "request-id", request->id); /* its clients read this one */
    }
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++) {
        ok = ok &&
             (has_field(own, common[i][0]) || add_header(response, common[i][0], common[i][1]));
    }
    if (request->is_cors) {
        const char *origin = hs_http_request_header(request, "Origin");
        ok = ok && add_header(response, "Access-Control-Allow-Origin", origin) &&
             add_header(response, "Access-Control-Expose-Headers",
                        "X-Request-Id, request-id, Retry-After");
    }
    ok = ok && add_header(response, "Vary", "Origin");
    if (request->is_close || request->server->loop.is_draining || request->gone != 0) {
        ok = ok && add_header(response, "Connection", "close");
    }
    return ok;
}

static bool add_headers(const hs_http_request *request, struct MHD_Response *response)
{
    bool ok = request->content_type == NULL ||
              add_header(response, "Content-Type", request->content_type);
    for (const struct hs_http_field *i = request->answer_headers; ok && i != NULL; i = i->next) {
        ok = add_header(response, i->name, i->value);
    }
    return ok && add_common(request, request->answer_headers, response);
}

static void set_phase(struct hs_http_conn *conn, enum hs_http_phase phase)
{
    const struct hs_http_limits *limits = &conn->server->config.limits;
    conn->phase = phase;
    int64_t deadline = hs_clock_ns() + limits->idle_ms * HS_NET_NS_PER_MS;
    if (conn->request->gone != 0) {
        deadline = hs_clock_ns() + HS_NET_FLUSH_MS * HS_NET_NS_PER_MS;
    } else if (phase == HS_HTTP_STREAMING && conn->request->deadline_ns < deadline) {
        deadline = conn->request->deadline_ns;
    }
    hs_http_conn_set_deadline(conn, deadline);
}

/* The answer to a request whose handler has not given one in time; nothing that the handler may
 * still write to is read. */
static enum MHD_Result queue_gone(struct hs_http_conn *conn, hs_http_request *request)
{
    struct hs_buf body = HS_BUF_INIT(ERROR_BODY_MAX);
    bool is_late = request->gone == HS_HTTP_DEADLINE;
    struct hs_http_error error = {
        .status = is_late ? 504 : 503,
        .code = is_late ? "deadline_exceeded" : "server_stopping",
        .message = is_late ? "the answer was not complete within the server's time limit"
                           : "the server is stopping",
    };
    struct MHD_Response *response = NULL;
    request->sent_status = error.status;
    if (hs_http_error_write(style_of(request), &error, request->id, &body) == HS_OK) {
        request->bytes_out = body.len;
        response = MHD_create_response_from_buffer_with_free_callback(body.len, body.data, hs_free);
    }
    if (response == NULL) {
        hs_buf_free(&body);
        return MHD_NO;
    }
    enum MHD_Result result = MHD_NO;
    if (add_header(response, "Content-Type", "application/json") &&
        add_header(response, "Retry-After", "1") && add_common(request, NULL, response)) {
        set_phase(conn, HS_HTTP_SENDING);
        result = MHD_queue_response(conn->mhd, (unsigned)error.status, response);
    }
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result hs_http_reply_queue(struct hs_http_conn *conn, hs_http_request *request)
{
    pthread_mutex_lock(&request->lock);
    bool is_gone = request->gone != 0;
    request->is_announced = !is_gone;
    pthread_mutex_unlock(&request->lock);
    if (is_gone) {
        return queue_gone(conn, request);
    }
    bool is_stream = request->answer_kind == HS_HTTP_STREAM;
    struct MHD_Response *response =
        is_stream ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_SIZE,
                                                      hs_http_stream_read, request, NULL)
                  : MHD_create_response_from_buffer_with_free_callback(request->data_len,
                                                                       (void *)request->data, NULL);
    if (response == NULL) {
        return MHD_NO;
    }
    enum MHD_Result result = MHD_NO;
    if (add_headers(request, response)) {
        request->is_streaming = is_stream;
        atomic_fetch_add(&request->server->n_streams, is_stream ? 1 : 0);
        request->sent_status = request->status;
        request->bytes_out = is_stream || request->is_head ? 0 : request->data_len;
        set_phase(conn, is_stream ? HS_HTTP_STREAMING : HS_HTTP_SENDING);
        result = MHD_queue_response(conn->mhd, (unsigned)request->status, response);
    }
    MHD_destroy_response(response);
    return result;
}
