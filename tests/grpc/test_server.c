/* Calls from end to end: messages both ways, statuses, metadata, what is refused. */
#include <stdio.h>
#include <stdlib.h>

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
    client_close(client);
    test_stop(server);
    return 0;
}

static void assert_status(const struct reply *reply, int http_status, int grpc_status,
                          const char *message)
{
    assert_int_equal(reply->http_status, http_status);
    assert_int_equal(reply->grpc_status, grpc_status);
    assert_string_equal(reply->grpc_message, message);
    assert_string_equal(reply->content_type, "application/grpc");
    assert_string_equal(reply->encoding, "identity");
}

static void test_one_message(void **state)
{
    (void)state;
    const struct reply *reply = client_call(client, "/toy/Hello", "", NULL);
    assert_status(reply, 200, HS_GRPC_OK, "");
    assert_message(reply, 0, "hello");
    assert_int_equal(reply->n_heads, 2);
}

static void test_messages_both_ways(void **state)
{
    (void)state;
    struct hs_buf body = HS_BUF_INIT(1 << 20);
    char text[32];
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "%*d", i % 20, i);
        frame_message(&body, text, i == 7 ? 0 : strlen(text));
    }
    struct reply *reply = client_begin(client, "/toy/Echo", body.data, body.len, false, NULL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_int_equal(reply->data.len, body.len);
    assert_memory_equal(reply->data.data, body.data, body.len);
    hs_buf_free(&body);
}

static void test_a_byte_at_a_time(void **state)
{
    (void)state;
    struct hs_buf body = HS_BUF_INIT(1 << 20);
    frame_message(&body, "first", 5);
    frame_message(&body, "", 0);
    frame_message(&body, "second", 6);
    struct reply *reply = client_begin(client, "/toy/Echo", NULL, 0, true, NULL);
    for (size_t i = 0; i < body.len; i++) {
        client_run(client, NULL, 1);
        client_send(reply, body.data + i, 1, i + 1 == body.len);
    }
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_message(reply, 0, "first");
    assert_message(reply, 1, "");
    assert_message(reply, 2, "second");
    hs_buf_free(&body);
}

/* Through windows of 64 KiB, frames of 16 KiB, a queue of two: every byte in its place. */
static void test_large_answers(void **state)
{
    (void)state;
    const struct reply *reply = client_call(client, "/toy/Flood", "9 3000001", NULL);
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    for (size_t i = 0; i < 9; i++) {
        const uint8_t *data;
        size_t size;
        assert_true(reply_message(reply, i, &data, &size));
        assert_int_equal(size, 3000001);
        for (size_t j = 0; j < size; j++) {
            if (data[j] != (uint8_t)(i + j)) {
                fail_msg("message %zu, byte %zu", i, j);
            }
        }
    }
}

static void test_large_requests(void **state)
{
    (void)state;
    struct hs_buf body = HS_BUF_INIT(64u << 20);
    size_t size = 5000003;
    uint8_t *message = malloc(size);
    for (size_t i = 0; i < size; i++) {
        message[i] = (uint8_t)(i * 7);
    }
    for (int i = 0; i < 4; i++) {
        frame_message(&body, message, size);
    }
    struct reply *reply = client_begin(client, "/toy/Echo", body.data, body.len, false, NULL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_int_equal(reply->data.len, body.len);
    assert_memory_equal(reply->data.data, body.data, body.len);
    hs_buf_free(&body);
    free(message);
}

static void check_parts(unsigned n)
{
    char text[16];
    snprintf(text, sizeof text, "%u", n);
    const struct reply *reply = client_call(client, "/toy/Parts", text, NULL);
    const uint8_t *data;
    size_t size, at = 0;
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    assert_true(reply_message(reply, 0, &data, &size));
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < i % 3; j++) {
            assert_int_equal(data[at++], 'a' + i % 26);
        }
    }
    assert_int_equal(at, size);
}

static void test_parts(void **state)
{
    (void)state;
    const unsigned numbers[] = {0, 1, 2, 127, 128, 129, 191, 192, 193, 513, 10000};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        check_parts(numbers[i]);
    }
}

static void test_failures(void **state)
{
    (void)state;
    const struct reply *reply = client_call(client, "/toy/Fail", "", NULL);
    assert_status(reply, 200, HS_GRPC_NOT_FOUND, "no table 'gr%C3%B6%C3%9Fe' at 100%25%0A");
    assert_int_equal(reply->n_heads, 1);
    reply = client_call(client, "/toy/After", "", NULL);
    assert_status(reply, 200, HS_GRPC_ABORTED, "after one");
    assert_int_equal(reply->n_heads, 2);
    assert_message(reply, 0, "one");
    reply = client_call(client, "/toy/Nothing", "", NULL);
    assert_status(reply, 200, HS_GRPC_UNIMPLEMENTED, "unknown method '/toy/Nothing'");
}

static void test_metadata(void **state)
{
    (void)state;
    const struct header question[] = {{"x-question", "why"}, {"x-bytes-bin", "AAEC"}, {NULL, NULL}};
    assert_message(client_call(client, "/toy/Meta", "", question), 0, "why");
    const struct reply *reply = client_call(client, "/toy/Head", "", NULL);
    assert_status(reply, 200, HS_GRPC_OK, "");
    assert_string_equal(reply->answer, "yes");
    assert_int_equal(reply->n_heads, 2); /* initial metadata, not trailers */
}

static void check_refusal(const char *name, const char *value, int http_status, int grpc_status,
                          const char *message)
{
    const struct header extra[] = {{name, value}, {NULL, NULL}};
    const struct reply *reply = client_call(client, "/toy/Hello", "", extra);
    assert_status(reply, http_status, grpc_status, message);
    assert_int_equal(reply->n_heads, 1);
}

static void test_headers_that_are_refused(void **state)
{
    (void)state;
    const char *type = "the content-type of a gRPC call is application/grpc";
    check_refusal("content-type", "application/json", 415, HS_GRPC_INVALID_ARGUMENT, type);
    check_refusal("content-type", "application/grpc-web", 415, HS_GRPC_INVALID_ARGUMENT, type);
    check_refusal("content-type", NULL, 415, HS_GRPC_INVALID_ARGUMENT, type);
    check_refusal(":method", "PUT", 405, HS_GRPC_INVALID_ARGUMENT, "a gRPC call is a POST");
    check_refusal("grpc-encoding", "gzip", 200, HS_GRPC_UNIMPLEMENTED,
                  "compressed messages (gzip) are not supported");
    check_refusal("grpc-timeout", "5", 200, HS_GRPC_INVALID_ARGUMENT, "bad grpc-timeout '5'");
}

static void test_headers_that_pass(void **state)
{
    (void)state;
    const struct header extra[][3] = {
        {{"content-type", "application/grpc+proto"}, {NULL, NULL}},
        {{"content-type", "application/grpc;charset=utf-8"}, {NULL, NULL}},
        {{"grpc-encoding", "identity"}, {"grpc-timeout", "1H"}, {NULL, NULL}},
    };
    for (size_t i = 0; i < 3; i++) {
        assert_status(client_call(client, "/toy/Hello", "", extra[i]), 200, HS_GRPC_OK, "");
    }
}

static void check_body(const char *body, size_t size, int status, const char *message)
{
    struct reply *reply = client_begin(client, "/toy/Echo", body, size, false, NULL);
    assert_true(client_run(client, &reply->is_closed, LONG_MS));
    assert_status(reply, 200, status, message);
}

static void test_malformed_bodies(void **state)
{
    (void)state;
    check_body("\1\0\0\0\0", 5, HS_GRPC_INTERNAL,
               "a compressed message, and no grpc-encoding that names how");
    check_body("\2\0\0\0\0", 5, HS_GRPC_INTERNAL, "a malformed message");
    check_body("\0\0\0\0\5abc", 8, HS_GRPC_INTERNAL, "the call's last message is not whole");
    check_body("\0\0\0", 3, HS_GRPC_INTERNAL, "the call's last message is not whole");
    check_body("\0\377\377\377\377", 5, HS_GRPC_RESOURCE_EXHAUSTED,
               "a message of 4294967295 bytes; the limit is 67108864");
    check_body("", 0, HS_GRPC_OK, "");
}

static void test_many_calls_on_one_connection(void **state)
{
    (void)state;
    struct hs_buf body = HS_BUF_INIT(100);
    frame_message(&body, "3 100000", 8);
    struct reply *replies[50];
    for (int i = 0; i < 50; i++) {
        replies[i] = client_begin(client, "/toy/Flood", body.data, body.len, false, NULL);
    }
    for (int i = 0; i < 50; i++) {
        assert_true(client_run(client, &replies[i]->is_closed, LONG_MS));
        assert_int_equal(replies[i]->grpc_status, HS_GRPC_OK);
        assert_int_equal(replies[i]->n_data, 3 * 100005);
    }
    hs_buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_byte_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(test_headers_that_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_headers_that_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_calls_on_one_connection, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
