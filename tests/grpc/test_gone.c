/* Calls that get over before their handlers are done, and clients that are slower than handlers, or
 * faster. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "grpc_test.h"

static hs_grpc_server *server;
static struct client *client;

static void start(const struct hs_grpc_config *config, uint32_t window)
{
    server = test_start(config);
    client = client_open(server, NULL, window);
}

static int setup(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    start(&config, 0);
    return 0;
}

static int setup_nothing(void **state)
{
    (void)state;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_open_gate();
    client_close(client);
    test_stop(server);
    return 0;
}

static struct reply *begin_blocked(void)
{
    test_close_gate();
    struct reply *reply = client_begin(client, "/toy/Block", NULL, 0, true, NULL);
    double end = now_ms() + LONG_MS;
    while (atomic_load(&counts.n_started) == 0 && now_ms() < end) {
        client_run(client, NULL, 5);
    }
    assert_int_equal(atomic_load(&counts.n_started), 1);
    return reply;
}

static void test_cancel(void **state)
{
    (void)state;
    struct reply *reply = begin_blocked();
    nghttp2_submit_rst_stream(client->session, 0, reply->stream_id, NGHTTP2_CANCEL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    wait_for_int(&counts.n_ended, 1);
    assert_int_equal(atomic_load(&counts.n_over), 1);
    /* the connection is as good as before */
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    struct hs_grpc_stats stats;
    hs_grpc_server_stats(server, &stats);
    assert_int_equal(stats.n_failed, 1);
}

static void test_disconnect(void **state)
{
    (void)state;
    begin_blocked();
    shutdown(client->fd, SHUT_RDWR);
    wait_for_int(&counts.n_ended, 1);
    assert_int_equal(atomic_load(&counts.n_over), 1);
}

static void test_deadline(void **state)
{
    (void)state;
    const struct header extra[] = {{"grpc-timeout", "50m"}, {NULL, NULL}};
    test_close_gate();
    double begin = now_ms();
    struct reply *reply = client_begin(client, "/toy/Block", NULL, 0, false, extra);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_true(now_ms() - begin >= 50);
    assert_int_equal(reply->grpc_status, HS_GRPC_DEADLINE_EXCEEDED);
    assert_string_equal(reply->grpc_message, "the call's deadline passed");
    wait_for_int(&counts.n_ended, 1);
    assert_int_equal(atomic_load(&counts.n_over), 1);
}

static void test_deadline_as_handlers_see_it(void **state)
{
    (void)state;
    assert_message(client_call(client, "/toy/Left", "", NULL), 0, "-1");
    const struct header extra[] = {{"grpc-timeout", "1000S"}, {NULL, NULL}};
    const struct reply *reply = client_call(client, "/toy/Left", "", extra);
    const uint8_t *data;
    size_t size;
    assert_true(reply_message(reply, 0, &data, &size));
    long left = strtol((const char *)data, NULL, 10);
    assert_true(left > 1000000 - LONG_MS && left <= 1000000);
}

/* A call that waits for a thread is over without ever having had one. */
static void test_deadline_in_the_queue(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    config.n_workers = 1;
    start(&config, 0);
    begin_blocked();
    const struct header extra[] = {{"grpc-timeout", "20m"}, {NULL, NULL}};
    struct reply *reply = client_begin(client, "/toy/Block", NULL, 0, false, extra);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(atomic_load(&counts.n_started), 1);
}

/* A reader that stops: the handler waits with two messages queued, one or two more on their way. */
static void test_slow_reader(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    start(&config, 70000);
    client->is_slow = true;
    struct hs_buf body = HS_BUF_INIT(100);
    frame_message(&body, "100 200000", 10);
    struct reply *reply = client_begin(client, "/toy/Flood", body.data, body.len, false, NULL);
    double end = now_ms() + LONG_MS;
    while (reply->n_data < 70000 && now_ms() < end) {
        client_run(client, NULL, 10);
    }
    client_run(client, NULL, 100);
    assert_int_equal(reply->n_data, 70000); /* the window, to the byte */
    assert_in_range(atomic_load(&counts.n_sent), 3, 4);
    assert_int_equal(atomic_load(&counts.n_released), 0);
    client->is_slow = false;
    nghttp2_session_consume(client->session, reply->stream_id, reply->n_data);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->n_data, 100 * 200005);
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    hs_buf_free(&body);
}

/* Everything that the server takes while its handler reads nothing. */
static void run_until_it_stands_still(const struct reply *reply)
{
    size_t before = SIZE_MAX;
    double end = now_ms() + LONG_MS;
    while ((reply->body_sent < 1 << 20 || reply->body_sent != before) && now_ms() < end) {
        before = reply->body_sent;
        client_run(client, NULL, 200);
    }
}

/* A client that sends ahead of its handler: what the server takes has an end. */
static void test_fast_writer(void **state)
{
    (void)state;
    size_t n = 100, size = 100000;
    struct hs_buf body = HS_BUF_INIT(20u << 20);
    uint8_t *message = calloc(1, size);
    for (size_t i = 0; i < n; i++) {
        frame_message(&body, message, size);
    }
    struct reply *reply = client_begin(client, "/toy/Read", body.data, body.len, false, NULL);
    run_until_it_stands_still(reply);
    /* two messages, and a window of a MiB behind them */
    assert_in_range(reply->body_sent, 1 << 20, (1 << 20) + 4 * size);
    assert_int_equal(atomic_load(&counts.n_read), 0);
    atomic_store(&counts.n_allowed, (int)n + 1);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_int_equal(atomic_load(&counts.n_read), n);
    hs_buf_free(&body);
    free(message);
}

/* Messages of no bytes at all are bounded as well. */
static void test_fast_writer_of_nothing(void **state)
{
    (void)state;
    size_t n = 300000;
    uint8_t *body = calloc(n, 5);
    struct reply *reply = client_begin(client, "/toy/Read", body, 5 * n, false, NULL);
    run_until_it_stands_still(reply);
    assert_in_range(reply->body_sent, 1 << 20, (1 << 20) + 20000);
    atomic_store(&counts.n_allowed, (int)n + 1);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_int_equal(atomic_load(&counts.n_read), n);
    free(body);
}

static void test_stalled_reader(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    config.limits.stall_ms = 100;
    start(&config, 70000);
    client->is_slow = true;
    struct hs_buf body = HS_BUF_INIT(100);
    frame_message(&body, "100 200000", 10);
    struct reply *reply = client_begin(client, "/toy/Flood", body.data, body.len, false, NULL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->reset, NGHTTP2_CANCEL); /* in the middle of a message */
    client->is_slow = false;
    nghttp2_session_consume_connection(client->session, reply->n_data);
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    hs_buf_free(&body);
}

static void test_stalled_writer(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    config.limits.stall_ms = 100;
    start(&config, 0);
    struct reply *reply = client_begin(client, "/toy/Echo", NULL, 0, true, NULL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_CANCELLED);
    assert_string_equal(reply->grpc_message,
                        "the client neither took nor sent anything for 100 ms");
}

/* A handler that computes is not stalled. */
static void test_long_work_is_no_stall(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    config.limits.stall_ms = 20;
    start(&config, 0);
    struct reply *reply = begin_blocked();
    client_run(client, NULL, 200);
    assert_false(reply->is_closed);
    test_open_gate();
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
}

/* The client's body goes on although the answer is complete: it is told to stop. */
static void test_answer_before_the_end_of_the_request(void **state)
{
    (void)state;
    struct reply *reply = client_begin(client, "/toy/Hello", NULL, 0, true, NULL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_int_equal(reply->reset, NGHTTP2_NO_ERROR);
    assert_message(reply, 0, "hello");
}

/* A number is of one connection only, unlike a port. */
static void test_disconnect_is_told(void **state)
{
    (void)state;
    assert_message(client_call(client, "/toy/Where", "", NULL), 0, "1");
    assert_message(client_call(client, "/toy/Where", "", NULL), 0, "1");
    for (int i = 2; i < 5; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", i);
        struct client *other = client_open(server, NULL, 0);
        assert_message(client_call(other, "/toy/Where", "", NULL), 0, text);
        assert_int_equal(atomic_load(&counts.n_disconnected), i - 2);
        client_close(other);
        wait_for_int(&counts.last_disconnected, i);
    }
    assert_message(client_call(client, "/toy/Where", "", NULL), 0, "1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_WITH_CONFIG(name) cmocka_unit_test_setup_teardown(name, setup_nothing, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cancel),
        TEST(test_disconnect),
        TEST(test_deadline),
        TEST(test_deadline_as_handlers_see_it),
        TEST_WITH_CONFIG(test_deadline_in_the_queue),
        TEST_WITH_CONFIG(test_slow_reader),
        TEST(test_fast_writer),
        TEST(test_fast_writer_of_nothing),
        TEST_WITH_CONFIG(test_stalled_reader),
        TEST_WITH_CONFIG(test_stalled_writer),
        TEST_WITH_CONFIG(test_long_work_is_no_stall),
        TEST(test_answer_before_the_end_of_the_request),
        TEST(test_disconnect_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
