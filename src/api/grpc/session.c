/* session.c - what nghttp2 tells of a connection: frames, headers, data, ends of streams. */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc_internal.h"

/* Frames as large as the client takes them: 16 KiB is nghttp2's default. */
#define FRAME_BYTES (256u << 10)
/* What clients may send in one frame. */
#define FRAME_BYTES_IN (64u << 10)
/* Data that is worth its frame. */
#define DATA_WORTH 1024

static hs_grpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t size, int flags,
                       void *user)
{
    struct hs_grpc_conn *conn = user;
    (void)session;
    (void)flags;
    size_t n = hs_grpc_out_copy(conn->out, data, size);
    return n > 0 ? (ssize_t)n : NGHTTP2_ERR_WOULDBLOCK;
}

/* Frames that cost their reader more than their sender. */
static bool is_control(const nghttp2_frame_hd *head)
{
    switch (head->type) {
    case NGHTTP2_DATA:
        return head->length == 0 && (head->flags & NGHTTP2_FLAG_END_STREAM) == 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
    case NGHTTP2_RST_STREAM:
        return false;
    default:
        return true;
    }
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *user)
{
    struct hs_grpc_conn *conn = user;
    (void)session;
    if (is_control(head) &&
        !hs_grpc_rate_count(&conn->control, conn->server->config.limits.control_per_minute)) {
        hs_grpc_conn_punish(conn, "too many control frames");
    }
    return 0;
}

static bool is_request(const nghttp2_frame *frame)
{
    return frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    if (!is_request(frame)) {
        return 0;
    }
    hs_grpc_call *call = hs_grpc_call_new(user, frame->hd.stream_id);
    if (call == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
    }
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)flags;
    (void)user;
    hs_grpc_call *call = is_request(frame) ? call_of(session, frame->hd.stream_id) : NULL;
    if (call != NULL) {
        hs_grpc_call_add_header(call, name, name_len, value, value_len);
    }
    return 0;
}

static void count_reset(struct hs_grpc_conn *conn)
{
    if (!hs_grpc_rate_count(&conn->resets, conn->server->config.limits.resets_per_minute)) {
        hs_grpc_conn_punish(conn, "too many calls are reset");
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct hs_grpc_conn *conn = user;
    bool is_ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    hs_grpc_call *call;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        call = call_of(session, frame->hd.stream_id);
        if (call != NULL && is_request(frame)) {
            hs_grpc_call_begin(call);
        }
        if (call != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            hs_grpc_call_take_end(call);
        }
        break;
    case NGHTTP2_RST_STREAM:
        count_reset(conn);
        break;
    case NGHTTP2_SETTINGS:
        if (!is_ack && !conn->has_settings) {
            conn->has_settings = true;
            hs_net_loop_at(&conn->server->loop, 0); /* other deadlines count from now on */
        }
        break;
    case NGHTTP2_PING:
        if (is_ack && conn->pinged_ns != 0) {
            conn->pinged_ns = 0;
            hs_net_loop_at(&conn->server->loop, 0);
        }
        break;
    default:
        break;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *user)
{
    struct hs_grpc_conn *conn = user;
    (void)flags;
    if (size >= DATA_WORTH) {
        conn->control.n = 0;
    }
    hs_grpc_call *call = call_of(session, stream_id);
    if (call != NULL) {
        hs_grpc_call_take_data(call, data, size);
        return nghttp2_session_consume_connection(session, size);
    }
    return nghttp2_session_consume(session, stream_id, size);
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct hs_grpc_conn *conn = user;
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
        conn->control.n = 0;
        hs_grpc_call *call = call_of(session, frame->hd.stream_id);
        if (is_end && call != NULL && !call->has_end) { /* RFC 9113, 8.1: send no more */
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                             NGHTTP2_NO_ERROR);
        }
        break;
    }
    case NGHTTP2_DATA:
        conn->control.n = frame->hd.length > 0 ? 0 : conn->control.n;
        break;
    case NGHTTP2_RST_STREAM:
        if (frame->rst_stream.error_code != NGHTTP2_NO_ERROR) {
            count_reset(conn);
        }
        break;
    default:
        break;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    (void)error;
    (void)user;
    hs_grpc_call *call = call_of(session, stream_id);
    if (call != NULL) {
        nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        hs_grpc_call_detach(call);
    }
    return 0;
}

static ssize_t on_read_length(nghttp2_session *session, uint8_t type, int32_t stream_id,
                              int32_t conn_window, int32_t stream_window, uint32_t frame_max,
                              void *user)
{
    (void)session;
    (void)type;
    (void)stream_id;
    (void)conn_window;
    (void)stream_window;
    (void)user;
    return frame_max < FRAME_BYTES ? frame_max : FRAME_BYTES;
}

/* ---- memory ---- */

static void *take(size_t size, void *user)
{
    (void)user;
    return hs_alloc(size);
}

static void give_back(void *p, void *user)
{
    (void)user;
    hs_free(p);
}

static void *take_zeroed(size_t n, size_t size, void *user)
{
    (void)user;
    return hs_calloc(n, size);
}

static void *take_again(void *p, size_t size, void *user)
{
    (void)user;
    return hs_realloc(p, size);
}

/* ---- sessions ---- */

hs_status hs_grpc_session_prepare(hs_grpc_server *server, struct hs_error *err)
{
    server->memory = (nghttp2_mem){NULL, take, give_back, take_zeroed, take_again};
    if (nghttp2_session_callbacks_new(&server->callbacks) != 0 ||
        nghttp2_option_new(&server->option) != 0) {
        return hs_error_nomem(err, "HTTP/2");
    }
    nghttp2_option_set_no_auto_window_update(server->option, 1);
    nghttp2_option_set_no_closed_streams(server->option, 1);
    nghttp2_session_callbacks *c = server->callbacks;
    nghttp2_session_callbacks_set_send_callback(c, on_send);
    nghttp2_session_callbacks_set_send_data_callback(c, hs_grpc_answer_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_read_length);
    nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    return HS_OK;
}

int hs_grpc_session_open(struct hs_grpc_conn *conn)
{
    hs_grpc_server *server = conn->server;
    const struct hs_grpc_limits *limits = &server->config.limits;
    int code = nghttp2_session_server_new3(&conn->session, server->callbacks, conn, server->option,
                                           &server->memory);
    if (code != 0) {
        return code;
    }
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)limits->streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HS_GRPC_WINDOW},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_BYTES_IN},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)limits->header_bytes},
    };
    code = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
                                   sizeof settings / sizeof settings[0]);
    return code != 0 ? code
                     : nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
                                                             HS_GRPC_CONN_WINDOW);
}
