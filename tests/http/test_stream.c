/* Streams: kinds, failures, wake-ups, order, and how long an event takes. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "error_body.h"
#include "http_test.h"

static void expect_body(const hs_http_server *server, const char *line, const char *wanted)
{
    struct reply reply;
    request(server, line, NULL, NULL, &reply);
    assert_int_equal(reply.status, 200);
    assert_true(reply.is_whole);
    assert_string_equal(reply.body.data, wanted);
    reply_free(&reply);
}

/* Again and again, and neither the client nor the deadline is forgotten. */
static void test_pings(void **state)
{
    (void)state;
    static const char text[] = "GET /silent?ping=20 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    hs_http_server *server = test_start(NULL);
    struct hs_buf out = HS_BUF_INIT(SIZE_MAX);
    int fd = client_connect(server);
    client_send(fd, text);
    for (int i = 0; i < 3; i++) {
        assert_true(client_read_until(fd, &out, ": ping\n\n", LONG_MS));
        hs_buf_clear(&out);
    }
    close(fd);
    wait_until_stats(server, 0, 0);
    test_stop(server);
    assert_int_equal(atomic_load(&counts.gone_why), HS_HTTP_DISCONNECTED);

    struct hs_http_config config;
    test_config(&config);
    config.limits.request_ms = 200;
    server = test_start(&config);
    fd = client_connect(server);
    client_send(fd, text);
    assert_true(client_read_until(fd, &out, "deadline_exceeded", LONG_MS));
    assert_non_null(strstr(out.data, ": ping\n\n"));
    close(fd);
    hs_buf_free(&out);
    test_stop(server);
}

static void test_kinds(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    expect_body(server, "GET /events?n=2", "data: {\"i\":0}\n\ndata: {\"i\":1}\n\n");
    expect_body(server, "GET /pooled?n=2", "data: {\"i\":0}\n\ndata: {\"i\":1}\n\n");
    expect_body(server, "GET /ndjson?n=2", "{\"i\":0}\n{\"i\":1}\n");
    expect_body(server, "GET /events?n=0", "");
    expect_body(server, "GET /flood?bytes=0", "");
    struct reply reply;
    char value[512];
    request(server, "GET /ndjson?n=1", NULL, NULL, &reply);
    assert_string_equal(reply_header(&reply, "Content-Type", value), "application/x-ndjson");
    reply_free(&reply);
    request(server, "GET /flood?bytes=3000001", NULL, NULL, &reply);
    assert_int_equal(reply.body.len, 3000001);
    assert_true(reply.is_whole);
    reply_free(&reply);
    test_stop(server);
    assert_int_equal(atomic_load(&counts.n_gone), 0);
}

static void test_failures(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    expect_body(server, "GET /broken?after=1",
                "data: {\"i\":0}\n\ndata: {\"error\":{\"message\":\"it \\\"broke\\\"\",\"type\":"
                "\"server_error\",\"param\":null,\"code\":null}}\n\n");
    struct reply reply;
    request(server, "GET /claude-broken?after=0", "X-Request-Id: r1\r\n", NULL, &reply);
    assert_string_equal(reply.body.data,
                        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
                        "\"message\":\"it \\\"broke\\\"\"},\"request_id\":\"r1\"}\n\n");
    reply_free(&reply);
    expect_body(server, "GET /ollama-broken?after=1",
                "{\"i\":0}\n{\"error\":\"it \\\"broke\\\"\"}\n");
    request(server, "GET /cut", NULL, NULL, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body.data, "piece");
    assert_false(reply.is_whole);
    reply_free(&reply);
    test_stop(server);
}

/* The head of a stream goes out before its first event, and each event when it is made. */
static void test_nothing_is_held_back(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    static const char *const paths[] = {"/events", "/pooled"};
    for (int i = 0; i < 2; i++) {
        int fd = client_connect(server);
        char text[128];
        snprintf(text, sizeof text, "GET %s?n=3&gated=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 paths[i]);
        atomic_store(&counts.n_allowed, 0);
        struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
        client_send(fd, text);
        assert_true(client_read_until(fd, &all, "\r\n\r\n", LONG_MS));
        for (int k = 0; k < 3; k++) {
            atomic_store(&counts.n_allowed, k + 1); /* the next is made only after this one came */
            snprintf(text, sizeof text, "{\"i\":%d}", k);
            assert_true(client_read_until(fd, &all, text, LONG_MS));
        }
        assert_true(client_read_until(fd, &all, "0\r\n\r\n", LONG_MS));
        hs_buf_free(&all);
        close(fd);
    }
    test_stop(server);
}

/* A stream with nobody reading does not hold up another. */
static void test_slow_reader_alone(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int stuck = client_connect(server);
    client_send(stuck, "GET /flood?bytes=100000000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    sleep_ms(100);
    struct reply reply;
    request(server, "GET /events?n=100&gap_us=1000", NULL, NULL, &reply);
    assert_true(reply.is_whole);
    reply_free(&reply);
    close(stuck);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void append(struct hs_buf *out, const char *event, const char *text)
{
    assert_int_equal(hs_http_sse_append(out, event, text, strlen(text)), HS_OK);
}

static void test_sse_lines(void **state)
{
    (void)state;
    struct hs_buf out = HS_BUF_INIT(200);
    append(&out, NULL, "one");
    append(&out, "name", "a\nb\r\nc\rd");
    append(&out, NULL, "");
    append(&out, NULL, "end\n");
    assert_string_equal(out.data, "data: one\n\n"
                                  "event: name\ndata: a\ndata: b\ndata: c\ndata: d\n\n"
                                  "data: \n\n"
                                  "data: end\ndata: \n\n");
    size_t before = out.len;
    char text[200];
    memset(text, 'x', sizeof text);
    assert_int_equal(hs_http_sse_append(&out, NULL, text, sizeof text), HS_LIMIT);
    assert_int_equal(out.len, before);
    hs_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_nothing_is_held_back),
        cmocka_unit_test(test_pings),
        cmocka_unit_test(test_slow_reader_alone),
        cmocka_unit_test(test_sse_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
