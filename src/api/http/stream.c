/* stream.c - streams: the text is pulled only when the client took what was there before. */
#include <string.h>

#include "api/status_map.h"
#include "base/clock.h"
#include "base/error.h"
#include "error_body.h"
#include "http_internal.h"

/* Room for an error event behind a full buffer. */
#define ERROR_EVENT_MAX 8192

static void append_failure(hs_http_request *request, const struct hs_http_error *error)
{
    request->is_stream_done = true;
    if (request->stream.kind == HS_HTTP_RAW) {
        request->is_stream_cut = true;
        return;
    }
    request->out.max += ERROR_EVENT_MAX;
    if (hs_http_error_event(request->stream.kind, request->route->errors, error, request->id,
                            &request->out) != HS_OK) {
        request->is_stream_cut =
            true; /* no memory even for that: the client sees a broken stream */
    }
}

void hs_http_stream_pull(hs_http_request *request)
{
    pthread_mutex_lock(&request->lock);
    request->is_woken = false;
    pthread_mutex_unlock(&request->lock);
    struct hs_error err = {.message = ""};
    size_t before = request->out.len;
    enum hs_http_pull result =
        request->stream.pull(request, request->hook_data, &request->out, &err);
    if (result == HS_HTTP_FAIL) {
        append_failure(request, &(struct hs_http_error){.status = hs_http_status(err.status),
                                                        .message = err.message});
    }
    pthread_mutex_lock(&request->lock);
    request->is_stream_done = request->is_stream_done || result == HS_HTTP_END;
    if (request->out.len > before || request->is_stream_done) {
        request->is_pull_wanted = false;
        request->is_woken = request->is_woken || result == HS_HTTP_MORE;
    }
    pthread_mutex_unlock(&request->lock);
}

static void end_gone(hs_http_request *request)
{
    bool is_late = request->gone == HS_HTTP_DEADLINE;
    append_failure(request, &(struct hs_http_error){
                                .status = is_late ? 504 : 503,
                                .code = is_late ? "deadline_exceeded" : "server_stopping",
                                .message = is_late ? "the answer was not complete within the "
                                                     "server's time limit"
                                                   : "the server is stopping",
                            });
}

static ssize_t take(hs_http_request *request, char *out, size_t max)
{
    struct hs_http_conn *conn = request->conn;
    size_t n = request->out.len - request->out_sent;
    n = n < max ? n : max;
    memcpy(out, request->out.data + request->out_sent, n);
    request->out_sent += n;
    request->bytes_out += n;
    int64_t ms = request->gone != 0 ? HS_NET_FLUSH_MS : request->server->config.limits.idle_ms;
    int64_t stall_ns = hs_clock_ns() + ms * HS_NET_NS_PER_MS;
    bool is_first = request->gone == 0 && request->deadline_ns < stall_ns;
    hs_http_conn_set_deadline(conn, is_first ? request->deadline_ns : stall_ns);
    return (ssize_t)n;
}

/* Nothing to send: libmicrohttpd lets go of the connection until hs_http_wake. */
static ssize_t park(hs_http_request *request)
{
    struct hs_http_conn *conn = request->conn;
    int64_t now_ns = hs_clock_ns(), deadline_ns = request->deadline_ns;
    if (request->gone != 0) {
        deadline_ns = now_ns + HS_NET_FLUSH_MS * HS_NET_NS_PER_MS;
    } else if (request->stream.ping != NULL &&
               now_ns + request->stream.ping_ms * HS_NET_NS_PER_MS < deadline_ns) {
        deadline_ns = now_ns + request->stream.ping_ms * HS_NET_NS_PER_MS;
    }
    hs_http_conn_set_deadline(conn, deadline_ns);
    request->is_parked = true;
    conn->is_suspended = true;
    MHD_suspend_connection(conn->mhd);
    return 0;
}

/* Without memory for it the client waits for the next one. */
static void append_ping(hs_http_request *request)
{
    request->is_ping_due = false;
    hs_status status = hs_buf_append_str(&request->out, request->stream.ping);
    (void)status;
}

ssize_t hs_http_stream_read(void *cls, uint64_t position, char *out, size_t max)
{
    (void)position;
    hs_http_request *request = cls;
    for (;;) {
        pthread_mutex_lock(&request->lock);
        enum hs_http_gone gone = request->gone;
        bool is_pools = request->stream.on_pool && request->work != HS_HTTP_AT_REST;
        if (gone == HS_HTTP_DISCONNECTED || request->server->is_forced) {
            pthread_mutex_unlock(&request->lock);
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (is_pools) {
            ssize_t none = park(request);
            pthread_mutex_unlock(&request->lock);
            return none;
        }
        if (request->out_sent < request->out.len) {
            pthread_mutex_unlock(&request->lock);
            return take(request, out, max);
        }
        if (request->is_stream_done) {
            pthread_mutex_unlock(&request->lock);
            return request->is_stream_cut ? MHD_CONTENT_READER_END_WITH_ERROR
                                          : MHD_CONTENT_READER_END_OF_STREAM;
        }
        hs_buf_clear(&request->out);
        request->out_sent = 0;
        if (gone != 0) {
            pthread_mutex_unlock(&request->lock);
            end_gone(request);
        } else if (request->stream.on_pool) {
            request->is_pull_wanted = true;
            ssize_t none = park(request);
            hs_http_request_poke(request);
            pthread_mutex_unlock(&request->lock);
            return none;
        } else if (request->is_woken) {
            pthread_mutex_unlock(&request->lock);
            hs_http_stream_pull(request);
        } else if (request->is_ping_due) {
            pthread_mutex_unlock(&request->lock);
            append_ping(request);
        } else {
            ssize_t none = park(request);
            pthread_mutex_unlock(&request->lock);
            return none;
        }
    }
}
