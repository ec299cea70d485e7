/* Every limit at N and N + 1, and connections that mean no good. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "grpc_test.h"

static hs_grpc_server *server;
static struct hs_grpc_config config;

static int setup(void **state)
{
    (void)state;
    test_config(&config);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_open_gate();
    test_stop(server);
    return 0;
}

static struct client *start(void)
{
    server = test_start(&config);
    return client_open(server, NULL, 0);
}

static void test_message_size(void **state)
{
    (void)state;
    config.limits.message_bytes = 1000;
    struct client *client = start();
    char message[1002];
    memset(message, 'x', sizeof message);
    message[1000] = '\0';
    const struct reply *reply = client_call(client, "/toy/Late", message, NULL);
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_message(reply, 0, message);
    message[1000] = 'x';
    message[1001] = '\0';
    reply = client_call(client, "/toy/Late", message, NULL);
    assert_int_equal(reply->grpc_status, HS_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(reply->grpc_message, "a message of 1001 bytes; the limit is 1000");
    reply = client_call(client, "/toy/Flood", "1 1000", NULL);
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    reply = client_call(client, "/toy/Flood", "2 1001", NULL);
    assert_int_equal(reply->grpc_status, HS_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(reply->grpc_message,
                        "an answer with a message of 1001 bytes; the limit is 1000");
    client_close(client);
}

/* What calls together may have received and not read. */
static void test_received_bytes(void **state)
{
    (void)state;
    config.limits.message_bytes = 300000;
    config.limits.received_bytes = 500000;
    struct client *client = start();
    struct hs_buf body = HS_BUF_INIT(1 << 20);
    uint8_t *message = calloc(1, 300000);
    frame_message(&body, message, 300000);
    struct reply *first = client_begin(client, "/toy/Read", body.data, body.len, true, NULL);
    double end = now_ms() + LONG_MS;
    while (first->body_sent < body.len && now_ms() < end) {
        client_run(client, NULL, 5);
    }
    struct reply *second = client_begin(client, "/toy/Read", body.data, body.len, true, NULL);
    assert_true(client_run(client, &second->is_closed, LONG_MS));
    assert_int_equal(second->grpc_status, HS_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(second->grpc_message,
                        "the calls together have more than 500000 bytes of messages to read");
    atomic_store(&counts.n_allowed, 100);
    client_send(first, NULL, 0, true);
    assert_true(client_run(client, &first->is_closed, LONG_MS));
    assert_int_equal(first->grpc_status, HS_GRPC_OK);
    hs_buf_free(&body);
    free(message);
    client_close(client);
}

/* Each field counts with 32 bytes on top. */
static void test_header_bytes(void **state)
{
    (void)state;
    config.limits.header_bytes = 1000;
    struct client *client = start();
    /* name, value and 32 of: ":method" "POST", ":scheme" "http", ":path" "/toy/Hello", ":authority"
     * "toy.test", "te" "trailers", "content-type" "application/grpc" */
    size_t standard = 7 + 4 + 7 + 4 + 5 + 10 + 10 + 8 + 2 + 8 + 12 + 16 + 6 * 32;
    char value[1000];
    size_t fits = 1000 - standard - 32 - 1;
    memset(value, 'v', sizeof value);
    value[fits] = '\0';
    const struct header extra[] = {{"x", value}, {NULL, NULL}};
    assert_int_equal(client_call(client, "/toy/Hello", "", extra)->grpc_status, HS_GRPC_OK);
    value[fits] = 'v';
    value[fits + 1] = '\0';
    const struct reply *reply = client_call(client, "/toy/Hello", "", extra);
    assert_int_equal(reply->grpc_status, HS_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(reply->grpc_message, "the call's metadata has more than 1000 bytes");
    client_close(client);
}

static void run_until_started(struct client *client, int n)
{
    double end = now_ms() + LONG_MS;
    while (atomic_load(&counts.n_started) < n && now_ms() < end) {
        client_run(client, NULL, 5);
    }
    assert_int_equal(atomic_load(&counts.n_started), n);
}

static void test_streams(void **state)
{
    (void)state;
    config.limits.streams = 3;
    struct client *client = start();
    test_close_gate();
    for (int i = 0; i < 3; i++) {
        client_begin(client, "/toy/Block", NULL, 0, false, NULL);
    }
    run_until_started(client, 3);
    struct reply *fourth = client_begin(client, "/toy/Hello", NULL, 0, false, NULL);
    client_run(client, NULL, 50); /* nghttp2 keeps it back: it knows the setting */
    assert_int_equal(fourth->http_status, -1);
    test_open_gate();
    assert_true(client_run(client, &fourth->is_closed, LONG_MS));
    assert_int_equal(fourth->grpc_status, HS_GRPC_OK);
    client_close(client);
}

/* Frames as they go over the wire. */
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define SETTINGS_ACK "\0\0\0\4\1\0\0\0\0"
/* :method POST (3), :scheme http (6), :path / (4), content-type x */
#define HEADERS "\x83\x86\x84\x0f\x10\x01x"

static void send_raw(int fd, const void *data, size_t size)
{
    assert_int_equal(send(fd, data, size, MSG_NOSIGNAL), size);
}

/* Frame after frame until the server closes; the error of its GOAWAY, or -1. */
static int64_t read_goaway(int fd)
{
    uint8_t head[9], body[70000];
    int64_t error = -1;
    while (recv(fd, head, 9, MSG_WAITALL) == 9) {
        size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        assert_true(size <= sizeof body);
        if (size > 0 && recv(fd, body, size, MSG_WAITALL) != (ssize_t)size) {
            break;
        }
        if (head[3] == 7) {
            error = (int64_t)body[4] << 24 | body[5] << 16 | body[6] << 8 | body[7];
        }
    }
    return error;
}

static void send_headers(int fd, uint32_t stream_id, uint8_t flags)
{
    uint8_t frame[9 + sizeof HEADERS - 1] = {0, 0, sizeof HEADERS - 1, 1, flags};
    frame[7] = (uint8_t)(stream_id >> 8);
    frame[8] = (uint8_t)stream_id;
    memcpy(frame + 9, HEADERS, sizeof HEADERS - 1);
    send_raw(fd, frame, sizeof frame);
}

static int raw_open(void)
{
    int fd = client_socket(server);
    send_raw(fd, PREFACE SETTINGS SETTINGS_ACK, 24 + 9 + 9);
    return fd;
}

/* A client that does not care for the setting. */
static void test_streams_against_the_setting(void **state)
{
    (void)state;
    config.limits.streams = 2;
    config.limits.queued_calls = 100;
    struct client *client = start();
    client_close(client);
    int fd = raw_open();
    for (uint32_t i = 0; i < 3; i++) {
        send_headers(fd, 1 + 2 * i, 4); /* END_HEADERS, and no end of the stream */
    }
    int64_t error = read_goaway(fd);
    /* the first two may have been refused and closed before the third came */
    assert_true(error == NGHTTP2_PROTOCOL_ERROR || error == -1);
    close(fd);
}

static void test_queued_calls(void **state)
{
    (void)state;
    config.n_workers = 2;
    config.limits.queued_calls = 1;
    struct client *client = start();
    test_close_gate();
    struct reply *replies[4];
    for (int i = 0; i < 2; i++) {
        replies[i] = client_begin(client, "/toy/Block", NULL, 0, false, NULL);
    }
    run_until_started(client, 2);
    replies[2] = client_begin(client, "/toy/Block", NULL, 0, false, NULL);
    replies[3] = client_begin(client, "/toy/Block", NULL, 0, false, NULL);
    assert_true(client_run(client, &replies[3]->is_closed, LONG_MS));
    assert_int_equal(replies[3]->grpc_status, HS_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(replies[3]->grpc_message, "1 calls wait already");
    assert_false(replies[2]->is_closed);
    struct hs_grpc_stats stats;
    hs_grpc_server_stats(server, &stats);
    assert_int_equal(stats.n_active, 2);
    assert_int_equal(stats.n_queued, 1);
    test_open_gate();
    assert_true(client_run(client, &replies[2]->is_closed, LONG_MS));
    assert_int_equal(replies[2]->grpc_status, HS_GRPC_OK);
    client_close(client);
}

static void wait_for_connections(int n)
{
    struct hs_grpc_stats stats;
    double end = now_ms() + LONG_MS;
    do {
        hs_grpc_server_stats(server, &stats);
    } while (stats.n_connections != n && now_ms() < end);
    assert_int_equal(stats.n_connections, n);
}

static void check_connections(void)
{
    struct client *first = start();
    struct client *second = client_open(server, NULL, 0);
    assert_message(client_call(first, "/toy/Hello", "", NULL), 0, "hello");
    assert_message(client_call(second, "/toy/Hello", "", NULL), 0, "hello");
    struct client *third = client_open(server, NULL, 0);
    client_wait_gone(third);
    client_close(third);
    client_close(second);
    wait_for_connections(1);
    third = client_open(server, NULL, 0);
    assert_message(client_call(third, "/toy/Hello", "", NULL), 0, "hello");
    struct hs_grpc_stats stats;
    hs_grpc_server_stats(server, &stats);
    assert_int_equal(stats.n_refused_connections, 1);
    client_close(third);
    client_close(first);
}

static void test_connections(void **state)
{
    (void)state;
    config.limits.connections = 2;
    check_connections();
}

static void test_connections_per_address(void **state)
{
    (void)state;
    config.limits.connections_per_address = 2;
    check_connections();
}

/* CVE-2023-44487: calls that are reset as soon as they begin. */
static void test_resets(void **state)
{
    (void)state;
    config.limits.resets_per_minute = 20;
    struct client *client = start();
    for (int i = 0; i < 20; i++) {
        struct reply *reply = client_begin(client, "/toy/Read", NULL, 0, true, NULL);
        client_run(client, NULL, 1);
        nghttp2_submit_rst_stream(client->session, 0, reply->stream_id, NGHTTP2_CANCEL);
        client_run(client, NULL, 1);
    }
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    struct reply *reply = client_begin(client, "/toy/Read", NULL, 0, true, NULL);
    client_run(client, NULL, 1);
    nghttp2_submit_rst_stream(client->session, 0, reply->stream_id, NGHTTP2_CANCEL);
    client_wait_gone(client);
    assert_int_equal(client->goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
    client_close(client);
    struct hs_grpc_stats stats;
    hs_grpc_server_stats(server, &stats);
    assert_int_equal(stats.n_cut_connections, 1);
    assert_int_equal(stats.n_calls, 22);
}

static void send_frames(int fd, const char *frame, size_t size, int n)
{
    for (int i = 0; i < n; i++) {
        send_raw(fd, frame, size);
    }
}

static void check_flood(const char *frame, size_t size, int n_fit)
{
    int fd = raw_open();
    send_frames(fd, frame, size, n_fit);
    shutdown(fd, SHUT_WR);
    assert_int_equal(read_goaway(fd), -1);
    close(fd);
    fd = raw_open();
    send_frames(fd, frame, size, n_fit + 1);
    assert_int_equal(read_goaway(fd), NGHTTP2_ENHANCE_YOUR_CALM);
    close(fd);
}

/* CVE-2019-9512, -9515, -9518 and the like. raw_open has sent two frames of SETTINGS. */
static void test_control_frames(void **state)
{
    (void)state;
    config.limits.control_per_minute = 50;
    struct client *client = start();
    check_flood("\0\0\10\6\0\0\0\0\0abcdefgh", 17, 48); /* PING */
    check_flood(SETTINGS, 9, 48);
    check_flood("\0\0\5\2\0\0\0\0\1\0\0\0\0\1", 14, 48); /* PRIORITY */
    check_flood("\0\0\4\x8\0\0\0\0\0\0\0\0\1", 13, 48);  /* WINDOW_UPDATE */
    client_close(client);
}

/* A client that measures the way pings while it gets data does nothing wrong. */
static void test_pings_between_answers(void **state)
{
    (void)state;
    config.limits.control_per_minute = 50;
    struct client *client = start();
    for (int i = 0; i < 200; i++) {
        nghttp2_submit_ping(client->session, 0, NULL);
        assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    }
    client_close(client);
}

/* CVE-2024-28182: headers without end. */
static void test_continuation(void **state)
{
    (void)state;
    struct client *client = start();
    client_close(client);
    int fd = raw_open();
    send_headers(fd, 1, 0);
    char frame[9 + 4] = {0, 0, 4, 9, 0, 0, 0, 0, 1, 0x0f, 0x10, 1, 'x'};
    bool is_open = true;
    for (int i = 0; i < 100000 && is_open; i++) {
        is_open = send(fd, frame, sizeof frame, MSG_NOSIGNAL) == (ssize_t)sizeof frame;
    }
    read_goaway(fd); /* it ends: the server closed */
    close(fd);
    wait_for_connections(0);
}

static void test_other_protocols(void **state)
{
    (void)state;
    struct client *client = start();
    int fd = client_socket(server);
    const char *request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    send_raw(fd, request, strlen(request));
    char answer[1000];
    ssize_t n = recv(fd, answer, sizeof answer - 1, MSG_WAITALL);
    assert_true(n > 0);
    answer[n] = '\0';
    assert_memory_equal(answer, "HTTP/1.1 400 ", 13);
    const char *body = strstr(answer, "\r\n\r\n") + 4;
    char length[40];
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    assert_non_null(strstr(answer, length));
    close(fd);
    client_close(client);
}

static void test_handshake_in_time(void **state)
{
    (void)state;
    config.limits.handshake_ms = 50;
    struct client *client = start();
    int fd = client_socket(server);
    send_raw(fd, PREFACE, 10);
    read_goaway(fd); /* it ends: the server closed */
    close(fd);
    client_close(client);
}

static void test_idle(void **state)
{
    (void)state;
    config.limits.idle_ms = 50;
    struct client *client = start();
    client_wait_gone(client);
    assert_true(client->has_goaway);
    assert_int_equal(client->goaway_error, NGHTTP2_NO_ERROR);
    client_close(client);
}

static void test_a_call_is_not_idle(void **state)
{
    (void)state;
    config.limits.idle_ms = 300;
    struct client *client = start();
    test_close_gate();
    struct reply *reply = client_begin(client, "/toy/Block", NULL, 0, true, NULL);
    run_until_started(client, 1);
    client_run(client, NULL, 700);
    assert_false(client->is_gone);
    test_open_gate();
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    client_close(client);
}

static void test_keepalive(void **state)
{
    (void)state;
    config.limits.keepalive_ms = 20;
    struct client *client = start();
    double end = now_ms() + LONG_MS;
    while (client->n_pings < 3 && now_ms() < end) { /* each is answered, or there were no third */
        client_run(client, NULL, 20);
    }
    assert_true(client->n_pings >= 3);
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    client_close(client);
}

static void test_keepalive_without_answer(void **state)
{
    (void)state;
    config.limits.keepalive_ms = 20;
    config.limits.keepalive_wait_ms = 20;
    struct client *client = start();
    client_close(client);
    int fd = raw_open();
    read_goaway(fd); /* it ends: the server closed */
    close(fd);
    wait_for_connections(0);
}

static void check_bad(struct hs_grpc_config bad)
{
    struct hs_error err = {.message = ""};
    hs_grpc_server *none = NULL;
    assert_int_equal(hs_grpc_server_start(&bad, &none, &err), HS_INVALID_ARGUMENT);
    assert_null(none);
    assert_memory_equal(err.message, "gRPC server: bad ", 17);
}

#define BAD(change)                                                                                \
    do {                                                                                           \
        struct hs_grpc_config bad = config;                                                        \
        bad.change;                                                                                \
        check_bad(bad);                                                                            \
    } while (0)

static void test_bad_configurations(void **state)
{
    (void)state;
    BAD(limits.connections = 0);
    BAD(limits.connections_per_address = 0);
    BAD(limits.streams = 0);
    BAD(limits.queued_calls = -1);
    BAD(limits.message_bytes = 0);
    BAD(limits.message_bytes = (size_t)INT32_MAX + 1);
    BAD(limits.received_bytes = config.limits.message_bytes - 1);
    BAD(limits.header_bytes = 255);
    BAD(limits.resets_per_minute = 1001);
    BAD(limits.control_per_minute = 9);
    BAD(limits.handshake_ms = 0);
    BAD(limits.stall_ms = 0);
    BAD(port = 65536);
    BAD(n_workers = 1025);
    BAD(tls_cert_file = "x");
    server = test_start(&config); /* teardown stops it */
    struct hs_grpc_config same = config;
    same.port = hs_grpc_server_port(server);
    struct hs_error err = {.message = ""};
    hs_grpc_server *none = NULL;
    assert_int_equal(hs_grpc_server_start(&same, &none, &err), HS_BUSY);
    assert_non_null(strstr(err.hint, "--flight-port"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_message_size),
        TEST(test_received_bytes),
        TEST(test_header_bytes),
        TEST(test_streams),
        TEST(test_streams_against_the_setting),
        TEST(test_queued_calls),
        TEST(test_connections),
        TEST(test_connections_per_address),
        TEST(test_resets),
        TEST(test_control_frames),
        TEST(test_pings_between_answers),
        TEST(test_continuation),
        TEST(test_other_protocols),
        TEST(test_handshake_in_time),
        TEST(test_idle),
        TEST(test_a_call_is_not_idle),
        TEST(test_keepalive),
        TEST(test_keepalive_without_answer),
        TEST(test_bad_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
