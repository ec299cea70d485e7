/* Starting and stopping: calls that end in time, calls that do not, handlers that heed nothing. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "grpc_test.h"

static hs_grpc_server *server;
static struct client *client;

static int setup(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    server = test_start(&config);
    client = client_open(server, NULL, 0);
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

struct stopper {
    pthread_t thread;
    int64_t drain_ms;
    hs_status status;
    bool is_done;
};

static void *stop_main(void *arg)
{
    struct stopper *stopper = arg;
    stopper->status = hs_grpc_server_stop(server, stopper->drain_ms, NULL);
    return NULL;
}

static void begin_stop(struct stopper *stopper, int64_t drain_ms)
{
    *stopper = (struct stopper){.drain_ms = drain_ms};
    assert_int_equal(pthread_create(&stopper->thread, NULL, stop_main, stopper), 0);
}

static hs_status end_stop(struct stopper *stopper)
{
    pthread_join(stopper->thread, NULL);
    return stopper->status;
}

static struct reply *begin_call(const char *path)
{
    test_close_gate();
    struct reply *reply = client_begin(client, path, NULL, 0, true, NULL);
    double end = now_ms() + LONG_MS;
    while (atomic_load(&counts.n_started) == 0 && now_ms() < end) {
        client_run(client, NULL, 5);
    }
    assert_int_equal(atomic_load(&counts.n_started), 1);
    return reply;
}

static void test_nothing_to_drain(void **state)
{
    (void)state;
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    struct stopper stopper;
    begin_stop(&stopper, LONG_MS);
    client_wait_gone(client);
    assert_true(client->has_goaway);
    assert_int_equal(client->goaway_error, NGHTTP2_NO_ERROR);
    assert_int_equal(end_stop(&stopper), HS_OK);
    assert_int_equal(hs_grpc_server_stop(server, 0, NULL), HS_OK); /* again: nothing to do */
}

static void test_calls_end_in_time(void **state)
{
    (void)state;
    struct reply *reply = begin_call("/toy/Block");
    struct stopper stopper;
    begin_stop(&stopper, LONG_MS);
    assert_true(client_run(client, &client->has_goaway, LONG_MS));
    assert_int_equal(client->goaway_last, INT32_MAX); /* first only the wish */
    double end = now_ms() + LONG_MS;
    while (client->goaway_last == INT32_MAX && now_ms() < end) {
        client_run(client, NULL, 5);
    }
    assert_int_equal(client->goaway_last, reply->stream_id);
    assert_false(reply->is_closed);
    test_open_gate();
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    client_wait_gone(client);
    assert_int_equal(end_stop(&stopper), HS_OK);
    assert_int_equal(atomic_load(&counts.n_over), 0);
}

static void test_calls_are_ended(void **state)
{
    (void)state;
    struct reply *reply = begin_call("/toy/Block");
    struct stopper stopper;
    begin_stop(&stopper, 20);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_UNAVAILABLE);
    assert_string_equal(reply->grpc_message, "the server stops");
    client_wait_gone(client);
    assert_int_equal(end_stop(&stopper), HS_OK);
    assert_int_equal(atomic_load(&counts.n_over), 1);
}

/* A client that does not read any more cannot hold the server. */
static void test_a_reader_that_stopped(void **state)
{
    (void)state;
    client->is_slow = true;
    struct hs_buf body = HS_BUF_INIT(100);
    frame_message(&body, "1000 200000", 11);
    struct reply *reply = client_begin(client, "/toy/Flood", body.data, body.len, false, NULL);
    double end = now_ms() + LONG_MS;
    while (reply->n_data == 0 && now_ms() < end) {
        client_run(client, NULL, 5);
    }
    double begin = now_ms();
    assert_int_equal(hs_grpc_server_stop(server, 20, NULL), HS_OK);
    assert_true(now_ms() - begin < LONG_MS / 2);
    hs_buf_free(&body);
}

static void test_a_handler_that_heeds_nothing(void **state)
{
    (void)state;
    begin_call("/toy/Gate");
    struct hs_error err = {.message = ""};
    assert_int_equal(hs_grpc_server_stop(server, 0, &err), HS_TIMEOUT);
    assert_string_equal(err.message, "a handler still runs 5 s after its call ended");
    assert_int_equal(atomic_load(&counts.n_ended), 0);
    test_open_gate(); /* freeing waits for it */
    hs_grpc_server_free(server);
    assert_int_equal(atomic_load(&counts.n_ended), 1);
    struct hs_grpc_config config;
    test_config(&config);
    server = test_start(&config); /* for the teardown */
}

static void test_port_is_free_again(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    config.port = hs_grpc_server_port(server);
    client_close(client);
    test_stop(server);
    server = test_start(&config);
    assert_int_equal(hs_grpc_server_port(server), config.port);
    client = client_open(server, NULL, 0);
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
}

/* Every allocation fails once, in whichever thread makes it: a call then fails, or its connection
 * ends, and the server goes on. */
static bool run_once(uint64_t failing)
{
    struct hs_grpc_config config;
    test_config(&config);
    hs_mem_fail_after(failing);
    struct hs_error err = {.message = ""};
    hs_grpc_server *mine = NULL;
    if (hs_grpc_server_start(&config, &mine, &err) != HS_OK) {
        assert_int_equal(err.status, HS_OUT_OF_MEMORY);
        assert_null(mine);
        return true;
    }
    struct client *other = client_open(mine, NULL, 0);
    other->drops = true; /* keeping needs memory */
    const uint8_t prefix[] = {0, 0, 0, 0x4E, 0x20};
    const struct header extra[] = {{"x-question", "why"}, {NULL, NULL}};
    uint8_t bytes[20005] = {0};
    memcpy(bytes, prefix, sizeof prefix);
    struct reply *echo = client_begin(other, "/toy/Echo", bytes, sizeof bytes, false, extra);
    client_run(other, &echo->is_closed, LONG_MS);
    struct reply *head = client_begin(other, "/toy/Head", NULL, 0, false, extra);
    client_run(other, &head->is_closed, LONG_MS);
    bool is_whole = head->grpc_status == HS_GRPC_OK && echo->grpc_status == HS_GRPC_OK &&
                    echo->n_data == sizeof bytes;
    assert_true(other->is_gone || (echo->is_closed && head->is_closed));
    bool has_failed = hs_mem_count() >= failing;
    hs_mem_fail_after(0);
    client_close(other);
    other = client_open(mine, NULL, 0);
    assert_message(client_call(other, "/toy/Hello", "", NULL), 0, "hello");
    client_close(other);
    test_stop(mine);
    assert_true(is_whole || has_failed);
    return has_failed;
}

static void test_memory(void **state)
{
    (void)state;
    uint64_t n = 1;
    while (run_once(n)) {
        n++;
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_to_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls_end_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls_are_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_that_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_handler_that_heeds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_is_free_again, setup, teardown),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
