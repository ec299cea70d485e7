/* stream.c - a call as the transport thread sees it: its headers, what it receives, its end. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc_internal.h"

#define AHEAD_MAX (2u * HS_GRPC_WINDOW)

/* ---- life ---- */

static bool init_locks(hs_grpc_call *call)
{
    if (pthread_mutex_init(&call->lock, NULL) != 0) {
        return false;
    }
    if (pthread_cond_init(&call->changed, NULL) != 0) {
        pthread_mutex_destroy(&call->lock);
        return false;
    }
    if (pthread_mutex_init(&call->over_lock, NULL) != 0) {
        pthread_cond_destroy(&call->changed);
        pthread_mutex_destroy(&call->lock);
        return false;
    }
    return true;
}

hs_grpc_call *hs_grpc_call_new(struct hs_grpc_conn *conn, int32_t stream_id)
{
    hs_grpc_server *server = conn->server;
    hs_grpc_call *call = hs_calloc(1, sizeof *call);
    if (call == NULL || !init_locks(call)) {
        hs_free(call);
        return NULL;
    }
    call->server = server;
    call->conn = conn;
    call->stream_id = stream_id;
    call->start_ns = hs_clock_ns();
    call->deadline_ns = HS_NET_NEVER;
    call->http_status = 200;
    call->ahead.max = AHEAD_MAX;
    call->parser = (struct hs_grpc_parser){.budget = &server->budget,
                                           .message_max = server->config.limits.message_bytes};
    memcpy(call->peer, conn->peer, sizeof call->peer);
    call->connection_id = conn->id;
    atomic_init(&call->n_refs, 1);
    atomic_init(&call->progress_ns, call->start_ns);
    call->next = conn->calls;
    if (call->next != NULL) {
        call->next->prev = call;
    }
    conn->calls = call;
    conn->n_calls++;
    return call;
}

static void drop_queues(hs_grpc_call *call)
{
    while (call->received.head != NULL) {
        struct hs_grpc_received *next = call->received.head->next;
        hs_grpc_received_free(&call->server->budget, call->received.head);
        call->received.head = next;
    }
    while (call->sent.head != NULL) {
        struct hs_grpc_sent *next = call->sent.head->next;
        hs_grpc_sent_free(call->sent.head);
        call->sent.head = next;
    }
}

void hs_grpc_call_unref(hs_grpc_call *call)
{
    if (atomic_fetch_sub(&call->n_refs, 1) > 1) {
        return;
    }
    drop_queues(call);
    hs_grpc_received_free(&call->server->budget, call->reading);
    hs_grpc_parser_free(&call->parser);
    hs_buf_free(&call->ahead);
    hs_grpc_fields_free(call->headers);
    hs_grpc_fields_free(call->answer_headers);
    hs_free(call->path);
    pthread_mutex_destroy(&call->over_lock);
    pthread_cond_destroy(&call->changed);
    pthread_mutex_destroy(&call->lock);
    hs_free(call);
}

static void log_end(const hs_grpc_call *call)
{
    if (hs_log_level_get() <= HS_LOG_INFO) {
        double ms = (double)(hs_clock_ns() - call->start_ns) / 1e6;
        hs_log(HS_LOG_INFO, "grpc", "method=%s status=%d ms=%.1f peer=%s",
               call->method == NULL ? "-" : call->method->path, (int)call->code, ms, call->peer);
    }
}

void hs_grpc_call_detach(hs_grpc_call *call)
{
    struct hs_grpc_conn *conn = call->conn;
    hs_grpc_server *server = call->server;
    if (call->sending != NULL) {
        hs_grpc_out_retire(conn->out, call->sending);
        call->sending = NULL;
    }
    *(call->prev != NULL ? &call->prev->next : &conn->calls) = call->next;
    if (call->next != NULL) {
        call->next->prev = call->prev;
    }
    call->conn = NULL;
    if (--conn->n_calls == 0) {
        conn->idle_ns = hs_clock_ns();
        hs_net_loop_at(&server->loop,
                       conn->idle_ns + server->config.limits.idle_ms * HS_NET_NS_PER_MS);
    }
    hs_grpc_call_stop(call, HS_GRPC_CANCELLED, "the client went away");
    pthread_mutex_lock(&call->lock);
    bool is_good = call->code == HS_GRPC_OK;
    log_end(call);
    pthread_mutex_unlock(&call->lock);
    atomic_fetch_add(&server->n_calls, 1);
    atomic_fetch_add(&server->n_failed, !is_good);
    hs_grpc_call_unref(call);
}

void hs_grpc_call_end(hs_grpc_call *call, enum hs_grpc_code code, const char *format, ...)
{
    char text[HS_GRPC_TEXT_MAX + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    call->reset_ns = hs_clock_ns() + HS_NET_FLUSH_MS * HS_NET_NS_PER_MS;
    hs_net_loop_at(&call->server->loop, call->reset_ns);
    if (hs_grpc_call_stop(call, code, text)) {
        hs_grpc_answer_advance(call);
    }
}

static void reset(hs_grpc_call *call)
{
    call->reset_ns = HS_NET_NEVER;
    nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                              NGHTTP2_CANCEL);
    hs_grpc_conn_touch(call->conn);
}

int64_t hs_grpc_call_expire(hs_grpc_call *call, int64_t now_ns)
{
    if (call->reset_ns != 0) { /* it has ended, and its status has so long to leave */
        if (now_ns >= call->reset_ns) {
            reset(call);
        }
        return call->reset_ns;
    }
    int64_t stall_ms = call->server->config.limits.stall_ms;
    int64_t stall_ns = atomic_load(&call->progress_ns) + stall_ms * HS_NET_NS_PER_MS;
    if (now_ns >= call->deadline_ns) {
        hs_grpc_call_end(call, HS_GRPC_DEADLINE_EXCEEDED, "the call's deadline passed");
        return call->reset_ns;
    }
    if (now_ns >= stall_ns) {
        pthread_mutex_lock(&call->lock);
        bool is_stalled = call->sending != NULL || call->sent.n > 0 || call->is_waiting;
        pthread_mutex_unlock(&call->lock);
        if (is_stalled) {
            hs_grpc_call_end(call, HS_GRPC_CANCELLED,
                             "the client neither took nor sent anything for %lld ms",
                             (long long)stall_ms);
            return call->reset_ns;
        }
        atomic_store(&call->progress_ns, now_ns);
        stall_ns = now_ns + stall_ms * HS_NET_NS_PER_MS;
    }
    return stall_ns < call->deadline_ns ? stall_ns : call->deadline_ns;
}

/* ---- headers ---- */

void hs_grpc_call_add_header(hs_grpc_call *call, const uint8_t *name, size_t name_len,
                             const uint8_t *value, size_t value_len)
{
    static const char post[] = "POST";
    call->header_bytes += hs_grpc_field_cost(name_len, value_len);
    if (call->header_bytes > call->server->config.limits.header_bytes) {
        call->is_header_lost = true;
        return;
    }
    if (name_len == 7 && memcmp(name, ":method", 7) == 0) {
        call->is_post = value_len == 4 && memcmp(value, post, 4) == 0;
    } else if (name_len == 5 && memcmp(name, ":path", 5) == 0) {
        hs_free(call->path);
        call->path = hs_strndup((const char *)value, value_len);
    } else if (name_len > 0 && name[0] != ':' &&
               !hs_grpc_field_add(&call->headers, name, name_len, value, value_len)) {
        call->is_header_lost = true;
    }
}

static const struct hs_grpc_method *find_method(const hs_grpc_server *server, const char *path)
{
    for (size_t i = 0; i < server->config.n_methods; i++) {
        if (strcmp(server->config.methods[i].path, path) == 0) {
            return &server->config.methods[i];
        }
    }
    return NULL;
}

static void refuse_http(hs_grpc_call *call, int http_status, const char *text)
{
    call->http_status = http_status;
    hs_grpc_call_end(call, HS_GRPC_INVALID_ARGUMENT, "%s", text);
}

/* Whether the headers are those of a call that can be answered; else it is ended. */
static bool check_headers(hs_grpc_call *call)
{
    const char *type = hs_grpc_field_find(call->headers, "content-type");
    const char *encoding = hs_grpc_field_find(call->headers, "grpc-encoding");
    const char *timeout = hs_grpc_field_find(call->headers, "grpc-timeout");
    int64_t timeout_ms = 0;
    size_t header_max = call->server->config.limits.header_bytes;
    if (call->is_header_lost) {
        bool is_large = call->header_bytes > header_max;
        hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED,
                         is_large ? "the call's metadata has more than %zu bytes"
                                  : "no memory for %zu bytes of metadata",
                         header_max);
    } else if (!call->is_post) {
        refuse_http(call, 405, "a gRPC call is a POST");
    } else if (type == NULL || !hs_grpc_content_type_fits(type)) {
        refuse_http(call, 415, "the content-type of a gRPC call is application/grpc");
    } else if (call->path == NULL) {
        hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED, "no memory for the method's name");
    } else if (encoding != NULL && strcmp(encoding, "identity") != 0) {
        hs_grpc_call_end(call, HS_GRPC_UNIMPLEMENTED,
                         "compressed messages (%.32s) are not supported", encoding);
    } else if (timeout != NULL && !hs_grpc_timeout_parse(timeout, &timeout_ms)) {
        hs_grpc_call_end(call, HS_GRPC_INVALID_ARGUMENT, "bad grpc-timeout '%.32s'", timeout);
    } else {
        if (timeout != NULL) {
            call->deadline_ns = call->start_ns + timeout_ms * HS_NET_NS_PER_MS;
        }
        return true;
    }
    return false;
}

void hs_grpc_call_begin(hs_grpc_call *call)
{
    hs_grpc_server *server = call->server;
    call->is_begun = true;
    if (!check_headers(call)) {
        return;
    }
    call->method = find_method(server, call->path);
    if (call->method == NULL) {
        hs_grpc_call_end(call, HS_GRPC_UNIMPLEMENTED, "unknown method '%.256s'", call->path);
    } else if (!hs_grpc_pool_push(&server->pool, call)) {
        hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED, "%d calls wait already",
                         server->config.limits.queued_calls);
    } else {
        int64_t stall_ns = call->start_ns + server->config.limits.stall_ms * HS_NET_NS_PER_MS;
        hs_net_loop_at(&server->loop, call->deadline_ns < stall_ns ? call->deadline_ns : stall_ns);
    }
}

/* ---- data ---- */

static void refuse_message(hs_grpc_call *call, enum hs_grpc_parsed parsed)
{
    switch (parsed) {
    case HS_GRPC_PARSED_COMPRESSED:
        hs_grpc_call_end(call, HS_GRPC_INTERNAL,
                         "a compressed message, and no grpc-encoding that names how");
        break;
    case HS_GRPC_PARSED_TOO_LARGE:
        hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED,
                         "a message of %zu bytes; the limit is %zu", call->parser.length,
                         call->parser.message_max);
        break;
    case HS_GRPC_PARSED_NO_ROOM:
        hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED,
                         "the calls together have more than %zu bytes of messages to read",
                         call->server->budget.max);
        break;
    case HS_GRPC_PARSED_NO_MEMORY:
        hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED, "no memory for a message");
        break;
    default:
        hs_grpc_call_end(call, HS_GRPC_INTERNAL, "a malformed message");
        break;
    }
}

/* Give the handler a message; whether it may get another one. */
static bool deliver(hs_grpc_call *call, struct hs_grpc_received *message)
{
    struct hs_grpc_received_queue *queue = &call->received;
    pthread_mutex_lock(&call->lock);
    bool is_over = atomic_load(&call->is_over) || call->is_finished;
    if (!is_over) {
        *(queue->head == NULL ? &queue->head : &queue->tail->next) = message;
        queue->tail = message;
        queue->n++;
        queue->size += sizeof *message + message->size;
        pthread_cond_broadcast(&call->changed);
    }
    call->is_full = !hs_grpc_received_has_room(queue);
    bool has_room = !call->is_full;
    pthread_mutex_unlock(&call->lock);
    if (is_over) {
        hs_grpc_received_free(&call->server->budget, message);
        return true;
    }
    return has_room;
}

/* Bytes to messages, until the handler has enough of them; how many bytes were taken. */
static size_t parse(hs_grpc_call *call, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    bool has_room = true;
    while (has_room && taken < size) {
        struct hs_grpc_received *message = NULL;
        size_t n;
        enum hs_grpc_parsed parsed =
            hs_grpc_parser_feed(&call->parser, data + taken, size - taken, &n, &message);
        taken += n;
        if (parsed == HS_GRPC_PARSED_MESSAGE) {
            has_room = deliver(call, message);
        } else if (parsed != HS_GRPC_PARSED_PART) {
            refuse_message(call, parsed);
            return size;
        }
    }
    return taken;
}

static bool takes_input(hs_grpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool takes = call->is_begun && !call->is_finished && !atomic_load(&call->is_over);
    pthread_mutex_unlock(&call->lock);
    return takes;
}

static void give_window(hs_grpc_call *call, size_t size)
{
    if (size > 0 && call->conn != NULL) {
        nghttp2_session_consume_stream(call->conn->session, call->stream_id, size);
        hs_grpc_conn_touch(call->conn);
    }
}

void hs_grpc_call_take_data(hs_grpc_call *call, const uint8_t *data, size_t size)
{
    atomic_store(&call->progress_ns, hs_clock_ns());
    size_t taken = size;
    if (takes_input(call)) {
        pthread_mutex_lock(&call->lock);
        bool is_full = call->is_full;
        pthread_mutex_unlock(&call->lock);
        bool is_behind = is_full || call->ahead.len > 0;
        taken = is_behind ? 0 : parse(call, data, size);
        if (taken < size && hs_buf_append(&call->ahead, data + taken, size - taken) != HS_OK) {
            hs_grpc_call_end(call, HS_GRPC_RESOURCE_EXHAUSTED, "no memory for a message");
            taken = size;
        }
    }
    give_window(call, taken);
}

/* No more input will come: say so behind the last message. */
static void finish_input(hs_grpc_call *call)
{
    if (call->ahead.len > 0) {
        return;
    }
    if (!hs_grpc_parser_is_between(&call->parser)) {
        hs_grpc_call_end(call, HS_GRPC_INTERNAL, "the call's last message is not whole");
        return;
    }
    pthread_mutex_lock(&call->lock);
    call->is_input_ended = true;
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
}

void hs_grpc_call_take_end(hs_grpc_call *call)
{
    call->has_end = true;
    if (takes_input(call)) {
        finish_input(call);
    }
}

/* What came while the queue was full. */
static void take_ahead(hs_grpc_call *call)
{
    size_t size = call->ahead.len - call->ahead_taken;
    if (size == 0) {
        return;
    }
    size_t taken = size;
    if (takes_input(call)) {
        taken = parse(call, (const uint8_t *)call->ahead.data + call->ahead_taken, size);
    }
    call->ahead_taken += taken;
    if (call->ahead_taken == call->ahead.len) {
        hs_buf_free(&call->ahead);
        call->ahead_taken = 0;
    } else if (call->ahead_taken > call->ahead.len / 2) {
        hs_buf_consume(&call->ahead, call->ahead_taken);
        call->ahead_taken = 0;
    }
    give_window(call, taken);
    if (call->has_end && takes_input(call)) {
        finish_input(call);
    }
}

void hs_grpc_call_advance(hs_grpc_call *call)
{
    if (call->conn == NULL) {
        return;
    }
    pthread_mutex_lock(&call->lock);
    bool has_room = !call->is_full || call->is_finished || atomic_load(&call->is_over);
    pthread_mutex_unlock(&call->lock);
    if (has_room) {
        take_ahead(call);
    }
    hs_grpc_answer_advance(call);
}
