#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "grpc_test.h"

#define STANDARD_HEADERS 6
#define HEADERS_MAX 40
#define KEPT_MAX (256u << 20)

static struct reply *reply_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static bool has_name(const uint8_t *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct reply *reply = reply_of(session, frame->hd.stream_id);
    char text[4096];
    (void)flags;
    (void)user;
    snprintf(text, sizeof text, "%.*s", (int)value_len, (const char *)value);
    if (has_name(name, name_len, ":status")) {
        reply->http_status = (int)strtol(text, NULL, 10);
    } else if (has_name(name, name_len, "grpc-status")) {
        reply->grpc_status = (int)strtol(text, NULL, 10);
    } else if (has_name(name, name_len, "grpc-message")) {
        snprintf(reply->grpc_message, sizeof reply->grpc_message, "%s", text);
    } else if (has_name(name, name_len, "content-type")) {
        snprintf(reply->content_type, sizeof reply->content_type, "%.60s", text);
    } else if (has_name(name, name_len, "grpc-accept-encoding")) {
        snprintf(reply->encoding, sizeof reply->encoding, "%.60s", text);
    } else if (has_name(name, name_len, "x-answer")) {
        snprintf(reply->answer, sizeof reply->answer, "%.60s", text);
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct client *client = user;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        reply_of(session, frame->hd.stream_id)->n_heads++;
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->has_goaway = true;
        client->goaway_error = frame->goaway.error_code;
        client->goaway_last = frame->goaway.last_stream_id;
    } else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
        client->n_pings++;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *user)
{
    struct client *client = user;
    struct reply *reply = reply_of(session, stream_id);
    (void)flags;
    reply->n_data += size;
    if (!client->drops) {
        assert_int_equal(hs_buf_append(&reply->data, data, size), HS_OK);
    }
    return client->is_slow ? 0 : nghttp2_session_consume(session, stream_id, size);
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    struct reply *reply = reply_of(session, stream_id);
    (void)user;
    reply->is_closed = true;
    reply->reset = error;
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct reply *reply = source->ptr;
    (void)session;
    (void)stream_id;
    (void)user;
    size_t n = reply->body_size - reply->body_sent;
    n = n < max ? n : max;
    if (n == 0 && reply->is_open) {
        return NGHTTP2_ERR_DEFERRED;
    }
    memcpy(out, reply->body == NULL ? (const uint8_t *)"" : reply->body + reply->body_sent, n);
    reply->body_sent += n;
    if (reply->body_sent == reply->body_size && !reply->is_open) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* ---- connections ---- */

int client_socket(const hs_grpc_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)hs_grpc_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static nghttp2_session *make_session(struct client *client)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *session;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(option, REPLIES_MAX);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    assert_int_equal(nghttp2_session_client_new2(&session, callbacks, client, option), 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return session;
}

struct client *client_open(const hs_grpc_server *server, SSL_CTX *tls, uint32_t window)
{
    struct client *client = calloc(1, sizeof *client);
    assert_non_null(client);
    client->replies = calloc(REPLIES_MAX, sizeof *client->replies);
    assert_non_null(client->replies);
    client->fd = client_socket(server);
    if (tls != NULL) {
        client->ssl = SSL_new(tls);
        SSL_set_fd(client->ssl, client->fd);
        assert_int_equal(SSL_connect(client->ssl), 1);
    }
    client->session = make_session(client);
    nghttp2_settings_entry setting = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};
    assert_int_equal(nghttp2_submit_settings(client->session, 0, &setting, window != 0), 0);
    if (window != 0) {
        nghttp2_session_set_local_window_size(client->session, 0, 0, (int32_t)window);
    }
    return client;
}

void client_close(struct client *client)
{
    for (size_t i = 0; i < client->n_replies; i++) {
        hs_buf_free(&client->replies[i].data);
    }
    nghttp2_session_del(client->session);
    SSL_free(client->ssl);
    close(client->fd);
    free(client->replies);
    free(client);
}

static void write_all(struct client *client)
{
    const uint8_t *data;
    ssize_t size;
    while (!client->is_gone && (size = nghttp2_session_mem_send(client->session, &data)) > 0) {
        while (size > 0 && !client->is_gone) {
            ssize_t n = client->ssl != NULL ? SSL_write(client->ssl, data, (int)size)
                                            : send(client->fd, data, (size_t)size, MSG_NOSIGNAL);
            client->is_gone = n <= 0;
            data += n > 0 ? n : 0;
            size -= n > 0 ? n : 0;
        }
    }
}

static bool is_readable(struct client *client, int timeout_ms)
{
    struct pollfd fd = {.fd = client->fd, .events = POLLIN};
    return (client->ssl != NULL && SSL_pending(client->ssl) > 0) || poll(&fd, 1, timeout_ms) > 0;
}

static void read_some(struct client *client)
{
    uint8_t bytes[65536];
    ssize_t n = client->ssl != NULL ? SSL_read(client->ssl, bytes, sizeof bytes)
                                    : recv(client->fd, bytes, sizeof bytes, 0);
    client->is_gone = n <= 0 || nghttp2_session_mem_recv(client->session, bytes, (size_t)n) < 0;
    if (client->is_gone) {
        shutdown(client->fd, SHUT_RDWR);
    }
}

bool client_run(struct client *client, const bool *flag, int timeout_ms)
{
    double end = now_ms() + timeout_ms;
    do {
        write_all(client);
        if (flag != NULL && *flag) {
            return true;
        }
        if (!client->is_gone && is_readable(client, 5)) {
            read_some(client);
        }
    } while (now_ms() < end && !client->is_gone);
    return flag != NULL && *flag;
}

void client_wait_gone(struct client *client)
{
    client_run(client, &client->is_gone, LONG_MS);
    assert_true(client->is_gone);
}

/* ---- calls ---- */

static nghttp2_nv to_field(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static size_t make_headers(const char *path, const struct header *extra, nghttp2_nv *fields)
{
    static const struct header none[] = {{NULL, NULL}};
    const struct header standard[STANDARD_HEADERS] = {
        {":method", "POST"},        {":scheme", "http"}, {":path", path},
        {":authority", "toy.test"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
    size_t n = 0;
    extra = extra == NULL ? none : extra;
    for (size_t i = 0; i < STANDARD_HEADERS; i++) {
        const char *value = standard[i].value;
        for (const struct header *j = extra; j->name != NULL; j++) {
            value = strcmp(j->name, standard[i].name) == 0 ? j->value : value;
        }
        if (value != NULL) {
            fields[n++] = to_field(standard[i].name, value);
        }
    }
    for (const struct header *j = extra; j->name != NULL; j++) {
        bool is_standard = false;
        for (size_t i = 0; i < STANDARD_HEADERS; i++) {
            is_standard = is_standard || strcmp(j->name, standard[i].name) == 0;
        }
        assert_true(n < HEADERS_MAX);
        if (!is_standard) {
            fields[n++] = to_field(j->name, j->value);
        }
    }
    return n;
}

struct reply *client_begin(struct client *client, const char *path, const void *body, size_t size,
                           bool is_open, const struct header *extra)
{
    assert_true(client->n_replies < REPLIES_MAX);
    struct reply *reply = &client->replies[client->n_replies++];
    *reply = (struct reply){.http_status = -1,
                            .grpc_status = -1,
                            .data = HS_BUF_INIT(KEPT_MAX),
                            .client = client,
                            .body = body,
                            .body_size = size,
                            .is_open = is_open};
    nghttp2_nv fields[HEADERS_MAX];
    size_t n = make_headers(path, extra, fields);
    nghttp2_data_provider provider = {.source.ptr = reply, .read_callback = read_body};
    reply->stream_id = nghttp2_submit_request(client->session, NULL, fields, n, &provider, reply);
    assert_true(reply->stream_id > 0);
    return reply;
}

void client_send(struct reply *reply, const void *body, size_t size, bool is_end)
{
    assert_int_equal(reply->body_sent, reply->body_size);
    reply->body = body;
    reply->body_size = size;
    reply->body_sent = 0;
    reply->is_open = !is_end;
    nghttp2_session_resume_data(reply->client->session, reply->stream_id);
}

struct reply *client_call(struct client *client, const char *path, const char *message,
                          const struct header *extra)
{
    struct hs_buf body = HS_BUF_INIT(KEPT_MAX);
    frame_message(&body, message, strlen(message));
    struct reply *reply = client_begin(client, path, body.data, body.len, false, extra);
    client_run(client, &reply->is_closed, LONG_MS);
    assert_true(reply->is_closed);
    hs_buf_free(&body);
    reply->body = NULL;
    return reply;
}

void frame_message(struct hs_buf *buf, const void *data, size_t size)
{
    const uint8_t prefix[5] = {0, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                               (uint8_t)(size >> 8), (uint8_t)size};
    assert_int_equal(hs_buf_append(buf, prefix, sizeof prefix), HS_OK);
    assert_int_equal(hs_buf_append(buf, data, size), HS_OK);
}

bool reply_message(const struct reply *reply, size_t n, const uint8_t **ret_data, size_t *ret_size)
{
    const uint8_t *data = (const uint8_t *)reply->data.data;
    size_t left = reply->data.len;
    for (size_t i = 0; left >= 5; i++) {
        size_t size =
            (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
        assert_int_equal(data[0], 0);
        assert_true(size <= left - 5);
        if (i == n) {
            *ret_data = data + 5;
            *ret_size = size;
            return true;
        }
        data += 5 + size;
        left -= 5 + size;
    }
    assert_int_equal(left, 0);
    return false;
}

void assert_message(const struct reply *reply, size_t n, const char *text)
{
    const uint8_t *data = NULL;
    size_t size = 0;
    assert_true(reply_message(reply, n, &data, &size));
    assert_int_equal(size, strlen(text));
    assert_memory_equal(data, text, size);
}
