/* Whole exchanges: answers, errors, keep-alive, pipelining, versions, origins. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "http_test.h"

static void check(const hs_http_server *server, const char *line, const char *headers,
                  const char *body, int status, const char *wanted)
{
    struct reply reply;
    request(server, line, headers, body, &reply);
    if (reply.status != status || !reply.is_whole ||
        (wanted != NULL && strcmp(reply.body.data, wanted) != 0)) {
        fail_msg("%s gives %d, not %d: %s", line, reply.status, status,
                 reply.body.data == NULL ? "" : reply.body.data);
    }
    reply_free(&reply);
}

static void test_answers(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    check(server, "GET /hello", NULL, NULL, 200, "hello");
    check(server, "POST /echo", NULL, "some bytes", 200, "some bytes");
    check(server, "POST /echo", NULL, "", 200, "");
    check(server, "POST /json", NULL, " {\"a\": [1, 2.5, \"\xC3\xA9\"]} ", 200,
          "{\"a\":[1,2.5,\"\xC3\xA9\"]}");
    check(server, "GET /items/7", NULL, NULL, 200, "7");
    check(server, "GET /items/a%2Fb%20c", NULL, NULL, 200, "a/b c");
    check(server, "GET /items/first", NULL, NULL, 200, "literal");
    check(server, "GET /files/a/b%2Fc/d", NULL, NULL, 200, "a/b/c/d");
    check(server, "GET /query?b=1&a=x%20+y&a=z", NULL, NULL, 200, "x  y");
    check(server, "GET /query?a", NULL, NULL, 200, "");
    check(server, "GET /query", NULL, NULL, 200, "(none)");
    check(server, "GET http://localhost/hello", NULL, NULL, 200, "hello");
    check(server, "GET /headers", "X-GIVEN: v\r\n", NULL, 200, "v");
    check(server, "GET /headers", "X-Given: \xFF\r\n", NULL, 200, "(none)");
    check(server, "GET /wait?n=5", NULL, NULL, 200, "waited");
    check(server, "GET /block", NULL, NULL, 200, "unblocked");
    check(server, "GET /nothing", NULL, NULL, 500, NULL);
    test_stop(server);
}

static void test_refusals(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    check(server, "GET /missing", NULL, NULL, 404, NULL);
    check(server, "GET /", NULL, NULL, 404, NULL);
    check(server, "GET /items/", NULL, NULL, 404, NULL);
    check(server, "GET /items/a/b", NULL, NULL, 404, NULL);
    check(server, "GET /hello/", NULL, NULL, 404, NULL);
    check(server, "GET /items/%zz", NULL, NULL, 400, NULL);
    check(server, "GET /items/%", NULL, NULL, 400, NULL);
    check(server, "GET /items/%00", NULL, NULL, 400, NULL);
    check(server, "GET /items/%ff", NULL, NULL, 400, NULL);
    check(server, "GET /query?a=%C3%28", NULL, NULL, 400, NULL);
    check(server, "GET /hello#part", NULL, NULL, 400, NULL);
    check(server, "PUT /hello", NULL, "x", 405, NULL);
    check(server, "BREW /hello", NULL, NULL, 405, NULL);
    check(server, "POST /json", NULL, "", 400, NULL);
    check(server, "POST /json", NULL, "[1]", 400, NULL);
    check(server, "POST /echo", "Transfer-Encoding: gzip\r\n", NULL, 400, NULL);
    check(server, "POST /echo", "Content-Length: 3\r\nContent-Length: 3\r\n", NULL, 400, NULL);
    check(server, "GET /hello", "Host: other\r\n", NULL, 400, NULL);
    test_stop(server);
}

static void test_error_styles(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    check(server, "POST /json", NULL, "{", 400,
          "{\"error\":{\"message\":\"the body is no valid JSON: it ends too early (line 1, column "
          "1)\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}");
    check(
        server, "POST /claude-json", "X-Request-Id: abc\r\n", "{", 400,
        "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"the body "
        "is no valid JSON: it ends too early (line 1, column 1)\"},\"request_id\":\"abc\"}");
    check(server, "POST /ollama-json", NULL, "{", 400,
          "{\"error\":\"the body is no valid JSON: it ends too early (line 1, column 1)\"}");
    test_stop(server);
}

static void test_headers(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    struct reply reply;
    char value[512];
    request(server, "GET /headers", "X-Request-Id: my.id-1\r\n", NULL, &reply);
    assert_string_equal(reply_header(&reply, "X-Request-Id", value), "my.id-1");
    assert_string_equal(reply_header(&reply, "X-Split", value), "a  X-Injected: b");
    assert_null(reply_header(&reply, "X-Injected", value));
    assert_string_equal(reply_header(&reply, "Cache-Control", value), "max-age=60");
    assert_string_equal(reply_header(&reply, "X-Content-Type-Options", value), "nosniff");
    assert_non_null(reply_header(&reply, "Content-Security-Policy", value));
    assert_null(reply_header(&reply, "Access-Control-Allow-Origin", value));
    reply_free(&reply);

    char other[512];
    request(server, "GET /hello", "X-Request-Id: not sane\r\n", NULL, &reply);
    assert_non_null(reply_header(&reply, "X-Request-Id", value));
    assert_memory_equal(value, "req-", 4);
    assert_int_equal(strlen(value), 20);
    reply_free(&reply);
    request(server, "GET /hello", NULL, NULL, &reply);
    assert_string_not_equal(reply_header(&reply, "X-Request-Id", other), value);
    reply_free(&reply);

    request(server, "PUT /items/1", NULL, NULL, &reply);
    assert_string_equal(reply_header(&reply, "Allow", value), "OPTIONS, GET, HEAD, DELETE");
    reply_free(&reply);
    test_stop(server);
}

static void test_head_and_options(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int fd = client_connect(server);
    client_send(fd, "HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    "HEAD /events?n=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
    assert_true(client_read_all(fd, &all, LONG_MS));
    assert_non_null(strstr(all.data, "Content-Length: 5\r\n"));
    assert_null(strstr(all.data, "hello"));
    assert_non_null(strstr(all.data, "text/event-stream"));
    assert_null(strstr(all.data, "data:"));
    hs_buf_free(&all);
    close(fd);

    struct reply reply;
    char value[512];
    request(server, "OPTIONS /items/1", NULL, NULL, &reply);
    assert_int_equal(reply.status, 204);
    assert_string_equal(reply_header(&reply, "Allow", value), "OPTIONS, GET, HEAD, DELETE");
    reply_free(&reply);
    request(server, "OPTIONS *", NULL, NULL, &reply);
    assert_int_equal(reply.status, 204);
    reply_free(&reply);
    test_stop(server);
}

static void test_cors(void **state)
{
    (void)state;
    static const char *const origins[] = {"https://app.example"};
    struct hs_http_config config;
    test_config(&config);
    config.cors_origins = origins;
    config.n_cors_origins = 1;
    hs_http_server *server = test_start(&config);
    struct reply reply;
    char value[512];
    request(server, "OPTIONS /items/1",
            "Origin: https://app.example\r\nAccess-Control-Request-Method: DELETE\r\n"
            "Access-Control-Request-Headers: x-api-key, content-type\r\n",
            NULL, &reply);
    assert_int_equal(reply.status, 204);
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Origin", value),
                        "https://app.example");
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Headers", value),
                        "x-api-key, content-type");
    assert_non_null(strstr(reply_header(&reply, "Access-Control-Allow-Methods", value), "DELETE"));
    reply_free(&reply);
    request(server, "GET /hello", "Origin: https://app.example\r\n", NULL, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Origin", value),
                        "https://app.example");
    assert_string_equal(reply_header(&reply, "Vary", value), "Origin");
    reply_free(&reply);
    check(server, "GET /hello", "Origin: https://evil.example\r\n", NULL, 403, NULL);
    check(server, "GET /hello", "Origin: null\r\n", NULL, 403, NULL);
    request(server, "GET /hello", "Origin: https://evil.example\r\n", NULL, &reply);
    assert_non_null(strstr(reply.body.data, "--cors-origin ORIGIN"));
    reply_free(&reply);
    test_stop(server);

    server = test_start(NULL);
    check(server, "GET /hello", "Origin: http://localhost:3000\r\n", NULL, 200, "hello");
    check(server, "POST /echo", "Origin: https://evil.example\r\n", "x", 403, NULL);
    test_stop(server);
}

static void test_rebinding(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int fd = client_connect(server);
    struct reply reply;
    client_send(fd, "GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 403);
    assert_non_null(strstr(reply.body.data, "--host-name NAME"));
    reply_free(&reply);
    client_send(fd, "GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    close(fd);
    test_stop(server);
}

static void test_keep_alive_and_pipelining(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int fd = client_connect(server);
    struct reply reply;
    for (int i = 0; i < 20; i++) {
        client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
        client_reply(fd, &reply, LONG_MS);
        assert_int_equal(reply.status, 200);
        assert_string_equal(reply.body.data, "abc");
        reply_free(&reply);
    }
    struct hs_http_stats stats;
    wait_until_stats(server, 1, 0);
    hs_http_server_stats(server, &stats);
    assert_int_equal(stats.n_answers[2], 20);

    /* what comes behind a request waits for its answer, also while the request waits */
    client_send(fd, "GET /wait?n=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    "GET /events?n=2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "3\r\nxyz\r\n4;ext=1\r\n1234\r\n0\r\nTrailer: t\r\n\r\n"
                    "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
    assert_true(client_read_all(fd, &all, LONG_MS));
    const char *at = all.data;
    static const char *const wanted[] = {"waited", "data: {\"i\":0}\n\n", "data: {\"i\":1}\n\n",
                                         "\r\n\r\nxyz1234", "\r\n\r\nhello"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        at = strstr(at, wanted[i]);
        assert_non_null(at);
    }
    hs_buf_free(&all);
    close(fd);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void test_versions(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
    int fd = client_connect(server);
    client_send(fd, "GET /hello HTTP/1.0\r\n\r\n");
    assert_true(client_read_all(fd, &all, LONG_MS));
    assert_non_null(strstr(all.data, "\r\n\r\nhello"));
    close(fd);
    hs_buf_clear(&all);
    fd = client_connect(server);
    client_send(fd, "GET /events?n=3 HTTP/1.0\r\n\r\n");
    assert_true(client_read_all(fd, &all, LONG_MS));
    assert_null(strstr(all.data, "chunked"));
    assert_non_null(strstr(all.data, "\r\n\r\ndata: {\"i\":0}\n\ndata: {\"i\":1}\n\ndata: "
                                     "{\"i\":2}\n\n"));
    close(fd);
    hs_buf_free(&all);
    test_stop(server);
}

static void test_continue(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int fd = client_connect(server);
    client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
                    "Expect: 100-continue\r\n\r\n");
    struct hs_buf head = HS_BUF_INIT(SIZE_MAX);
    assert_true(client_read_until(fd, &head, "100 Continue\r\n\r\n", LONG_MS));
    hs_buf_free(&head);
    client_send(fd, "body");
    struct reply reply;
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body.data, "body");
    reply_free(&reply);
    client_send(fd, "POST /missing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
                    "Expect: 100-continue\r\n\r\n");
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 404);
    reply_free(&reply);
    close(fd);
    test_stop(server);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello\r\n\r\n",
        "GET /hello HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost localhost\r\n\r\n",
        "GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Content-Length: 3\r\n\r\n0\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01",
    };
    struct hs_http_config config;
    test_config(&config);
    config.limits.slow_ms = config.limits.idle_ms = 300;
    hs_http_server *server = test_start(&config);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int fd = client_connect(server);
        client_send(fd, bad[i]);
        struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
        if (!client_read_all(fd, &all, LONG_MS)) {
            fail_msg("case %zu keeps its connection", i);
        }
        if (all.len > 0 && strstr(all.data, "HTTP/1.1 4") == NULL &&
            strstr(all.data, "HTTP/1.1 505") == NULL && strstr(all.data, "HTTP/1.0 4") == NULL) {
            fail_msg("case %zu gives %s", i, all.data);
        }
        hs_buf_free(&all);
        close(fd);
    }
    check(server, "GET /hello", NULL, NULL, 200, "hello");
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static char logged[4096];

static void keep_line(enum hs_log_level level, const char *component, const char *request_id,
                      const char *message, void *user)
{
    (void)user;
    if (level == HS_LOG_INFO && strcmp(component, "http") == 0) {
        snprintf(logged, sizeof logged, "%s %s", request_id, message);
    }
}

static void test_access_log(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    hs_log_set_level(HS_LOG_INFO);
    hs_log_set_sink(keep_line, NULL);
    check(server, "GET /items/secret-item?q=secret-query", "X-Request-Id: me\r\n", NULL, 200, NULL);
    wait_until_stats(server, 0, 0);
    assert_memory_equal(logged, "me method=GET route=/items/{id} status=200 end=done in=0 out=11 ",
                        63);
    check(server, "POST /json", NULL, "{\"prompt\":\"secret-text\"", 400, NULL);
    wait_until_stats(server, 0, 0);
    assert_non_null(strstr(logged, "method=POST route=/json status=400 end=done in=23 "));
    assert_null(strstr(logged, "secret"));
    int fd = client_connect(server);
    client_send(fd, "GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for_int(&counts.n_started, 1);
    close(fd);
    wait_until_stats(server, 0, 0);
    assert_non_null(strstr(logged, "route=/silent"));
    assert_non_null(strstr(logged, "end=disconnected"));
    test_stop(server);
    hs_log_set_sink(NULL, NULL);
    hs_log_set_level(HS_LOG_WARN);
}

static void test_many_connections(void **state)
{
    (void)state;
    enum { N = 200 };
    static int fds[N];
    hs_http_server *server = test_start(NULL);
    for (int i = 0; i < N; i++) {
        fds[i] = client_connect(server);
        client_send(fds[i], "GET /events?n=20&gap_us=2000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for (int i = 0; i < N; i++) {
        struct reply reply;
        client_reply(fds[i], &reply, LONG_MS);
        assert_int_equal(reply.status, 200);
        assert_true(reply.is_whole);
        const char *at = reply.body.data;
        for (int k = 0; k < 20; k++) {
            char event[32];
            int len = snprintf(event, sizeof event, "data: {\"i\":%d}\n\n", k);
            assert_memory_equal(at, event, (size_t)len);
            at += len;
        }
        assert_int_equal(*at, 0);
        reply_free(&reply);
        close(fds[i]);
    }
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_error_styles),     cmocka_unit_test(test_headers),
        cmocka_unit_test(test_head_and_options), cmocka_unit_test(test_cors),
        cmocka_unit_test(test_rebinding),        cmocka_unit_test(test_keep_alive_and_pipelining),
        cmocka_unit_test(test_versions),         cmocka_unit_test(test_continue),
        cmocka_unit_test(test_malformed),        cmocka_unit_test(test_access_log),
        cmocka_unit_test(test_many_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
