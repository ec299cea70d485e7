/* Every limit at N and at N + 1, and clients that dribble. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "http_test.h"

static void expect_reply(int fd, int status, const char *code)
{
    struct reply reply;
    client_reply(fd, &reply, LONG_MS);
    if (reply.status != status ||
        (code != NULL && (reply.body.data == NULL || strstr(reply.body.data, code) == NULL))) {
        fail_msg("%d, not %d %s: %s", reply.status, status, code == NULL ? "" : code,
                 reply.raw.data == NULL ? "" : reply.raw.data);
    }
    reply_free(&reply);
}

static void get(int fd, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    client_send(fd, text);
}

static void send_body(int fd, size_t n, const char *headers, bool is_chunked)
{
    char head[256], *body = hs_alloc(n + 1);
    memset(body, 'b', n);
    body[n] = '\0';
    if (is_chunked) {
        snprintf(head, sizeof head,
                 "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "%zx\r\n",
                 n);
    } else {
        snprintf(head, sizeof head,
                 "POST /echo HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", headers,
                 n);
    }
    client_send(fd, head);
    client_send_bytes(fd, body, n);
    if (is_chunked) {
        client_send(fd, "\r\n0\r\n\r\n");
    }
    hs_free(body);
}

static void test_body(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct hs_http_config config;
    test_config(&config);
    config.limits.body_bytes = N;
    hs_http_server *server = test_start(&config);
    int fd = client_connect(server);
    for (int chunked = 0; chunked < 2; chunked++) {
        struct reply reply;
        send_body(fd, N, "", chunked);
        client_reply(fd, &reply, LONG_MS);
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.body.len, N);
        reply_free(&reply);
        send_body(fd, N + 1, "", chunked); /* read to its end, so the connection goes on */
        expect_reply(fd, 413, "body_too_large");
        get(fd, "/hello");
        expect_reply(fd, 200, NULL);
    }
    client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100001\r\n"
                    "Expect: 100-continue\r\n\r\n");
    expect_reply(fd, 413, "body_too_large");
    close(fd);
    fd = client_connect(server); /* so long that it is not worth reading */
    client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n");
    expect_reply(fd, 413, "body_too_large");
    assert_true(client_is_closed(fd, LONG_MS));
    close(fd);
    fd = client_connect(server); /* a chunked body without end */
    client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    static char chunk[65536 + 16];
    int len = snprintf(chunk, sizeof chunk, "10000\r\n");
    memset(chunk + len, 'c', 65536);
    memcpy(chunk + len + 65536, "\r\n", 2);
    for (int i = 0; i < 64; i++) {
        client_send_bytes(fd, chunk, (size_t)len + 65536 + 2);
    }
    assert_true(client_is_closed(fd, LONG_MS));
    close(fd);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void send_head(int fd, size_t n_bytes)
{
    char *text = hs_alloc(n_bytes + 1);
    int len = snprintf(text, n_bytes, "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
    memset(text + len, 'h', n_bytes - (size_t)len - 4);
    memcpy(text + n_bytes - 4, "\r\n\r\n", 5);
    client_send_bytes(fd, text, n_bytes);
    hs_free(text);
}

static void test_header_bytes(void **state)
{
    (void)state;
    static const size_t limits[] = {512, 16384, 200000};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct hs_http_config config;
        test_config(&config);
        config.limits.header_bytes = limits[i];
        hs_http_server *server = test_start(&config);
        int fd = client_connect(server);
        send_head(fd, limits[i]);
        expect_reply(fd, 200, NULL);
        send_head(fd, limits[i] + 1);
        expect_reply(fd, 431, "headers_too_large");
        close(fd);
        fd = client_connect(server); /* what libmicrohttpd itself refuses */
        send_head(fd, 4 * limits[i] + 200000);
        struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
        (void)client_read_all(fd, &all, LONG_MS);
        assert_true(all.len == 0 || strstr(all.data, " 431 ") != NULL);
        hs_buf_free(&all);
        close(fd);
        test_stop(server);
    }
}

static void test_json_depth(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.json_depth = 3;
    hs_http_server *server = test_start(&config);
    struct reply reply;
    request(server, "POST /json", NULL, "{\"a\":[{}]}", &reply);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    request(server, "POST /json", NULL, "{\"a\":[[[]]]}", &reply);
    assert_int_equal(reply.status, 400);
    reply_free(&reply);
    test_stop(server);
}

static void expect_refused(const hs_http_server *server)
{
    int fd = client_connect(server);
    expect_reply(fd, 503, "too_many_connections");
    assert_true(client_is_closed(fd, LONG_MS));
    close(fd);
}

static void check_connections(const struct hs_http_config *config, int n)
{
    int fds[8];
    hs_http_server *server = test_start(config);
    for (int i = 0; i < n; i++) {
        fds[i] = client_connect(server);
        get(fds[i], "/hello");
        expect_reply(fds[i], 200, NULL);
    }
    expect_refused(server);
    close(fds[0]);
    wait_until_stats(server, n - 1, 0);
    fds[0] = client_connect(server);
    get(fds[0], "/hello");
    expect_reply(fds[0], 200, NULL);
    expect_refused(server);
    for (int i = 0; i < n; i++) {
        close(fds[i]);
    }
    struct hs_http_stats stats;
    hs_http_server_stats(server, &stats);
    assert_int_equal(stats.n_refused_connections, 2);
    test_stop(server);
}

static void test_connections(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.connections = 4;
    check_connections(&config, 4);
    test_config(&config);
    config.limits.connections_per_address = 3;
    check_connections(&config, 3);
}

static void test_queue(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.n_workers = 1;
    config.limits.queued_requests = 2;
    hs_http_server *server = test_start(&config);
    test_close_gate();
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = client_connect(server);
        get(fds[i], "/block");
        if (i == 0) {
            wait_for_int(&counts.n_started, 1);
        } else if (i < 3) {
            wait_until_stats(server, i + 1, i + 1);
        }
    }
    struct reply reply;
    char value[512];
    client_reply(fds[3], &reply, LONG_MS);
    assert_int_equal(reply.status, 503);
    assert_string_equal(reply_header(&reply, "Retry-After", value), "1");
    reply_free(&reply);
    test_open_gate();
    for (int i = 0; i < 3; i++) {
        expect_reply(fds[i], 200, NULL);
    }
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    test_stop(server);
}

/* Sends `text` a byte each 20 ms until the server closes; returns how long that took. */
static double dribble(int fd, const char *text, struct hs_buf *out)
{
    double begin = now_ms();
    for (const char *p = text; now_ms() - begin < LONG_MS; p += p[1] != '\0') {
        client_send_bytes(fd, p, 1);
        if (client_read_all(fd, out, 20)) {
            break;
        }
    }
    double took = now_ms() - begin;
    close(fd);
    return took;
}

static void test_slow(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.idle_ms = 300;
    hs_http_server *server = test_start(&config);
    struct hs_buf out = HS_BUF_INIT(SIZE_MAX);
    /* a first line that never ends, of a connection's first request or a later one: idle_ms */
    static const char *const lines[] = {"GET /helloooooooooooooooooooooooooooooooooooooooo",
                                        "nospacenospacenospacenospacenospacenospacenospace",
                                        "\r\n\r\n\r\n\r\n"};
    double took;
    for (size_t i = 0; i < 6; i++) {
        int line_fd = client_connect(server);
        if (i >= 3) {
            get(line_fd, "/hello");
            expect_reply(line_fd, 200, NULL);
        }
        took = dribble(line_fd, lines[i % 3], &out);
        assert_true(took > 250 && took < LONG_MS);
        assert_int_equal(out.len, 0);
    }
    test_stop(server);

    /* headers, then a body, that never end: slow_ms from the first line, however steady */
    test_config(&config);
    config.limits.slow_ms = 500;
    server = test_start(&config);
    double begin = now_ms();
    int fd = client_connect(server);
    client_send(fd, "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    while (now_ms() - begin < LONG_MS && !client_read_all(fd, &out, 20)) {
        client_send(fd, "x");
    }
    took = now_ms() - begin;
    assert_true(took > 450 && took < LONG_MS);
    assert_non_null(strstr(out.data, "HTTP/1.1 408 "));
    close(fd);
    hs_buf_clear(&out);
    begin = now_ms();
    fd = client_connect(server);
    client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    while (now_ms() - begin < LONG_MS && !client_read_all(fd, &out, 20)) {
        client_send(fd, "x");
    }
    took = now_ms() - begin;
    assert_true(took > 450 && took < LONG_MS);
    assert_non_null(strstr(out.data, "request_timeout"));
    close(fd);
    hs_buf_free(&out);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void test_idle(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.idle_ms = 1000;
    hs_http_server *server = test_start(&config);
    int silent = client_connect(server), used = client_connect(server);
    sleep_ms(200);
    double begin = now_ms();
    get(used, "/hello");
    expect_reply(used, 200, NULL);
    assert_true(client_is_closed(silent, LONG_MS));
    assert_true(client_is_closed(used, LONG_MS));
    assert_true(now_ms() - begin > 900);
    close(silent);
    close(used);
    /* a request at work is not idle, nor is a stream without news */
    int fd = client_connect(server);
    get(fd, "/silent");
    struct hs_buf head = HS_BUF_INIT(SIZE_MAX);
    assert_true(client_read_until(fd, &head, "\r\n\r\n", LONG_MS));
    assert_false(client_read_all(fd, &head, 1500));
    hs_buf_free(&head);
    close(fd);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void test_reader_that_stops(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.idle_ms = 400;
    hs_http_server *server = test_start(&config);
    int fd = client_connect(server);
    get(fd, "/flood?bytes=400000000");
    wait_for_int(&counts.n_started, 1);
    wait_for_int(&counts.n_gone, 1);
    assert_true(atomic_load(&counts.n_pulls) < 1000); /* nothing piles up */
    wait_until_stats(server, 0, 0);
    close(fd);
    fd = client_connect(server);
    get(fd, "/big?bytes=50000000");
    sleep_ms(600);
    wait_until_stats(server, 0, 0);
    close(fd);
    test_stop(server);
}

static void test_request_deadline(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.request_ms = 1000;
    config.n_workers = 1;
    hs_http_server *server = test_start(&config);
    test_close_gate();
    double begin = now_ms();
    int blocked = client_connect(server), queued = client_connect(server);
    get(blocked, "/block?hold=1");
    wait_for_int(&counts.n_started, 1);
    get(queued, "/hello");
    expect_reply(blocked, 504, "deadline_exceeded"); /* although its handler still runs */
    expect_reply(queued, 504, "deadline_exceeded");
    assert_true(now_ms() - begin > 900 && now_ms() - begin < LONG_MS);
    test_open_gate();
    wait_for_int(&counts.n_ended, 1);
    assert_int_equal(atomic_load(&counts.gone_why), HS_HTTP_DEADLINE);
    close(blocked);
    close(queued);

    static const char *const paths[] = {"/never", "/silent", "/events?n=100000",
                                        "/pooled?n=100000"};
    for (int i = 0; i < 4; i++) {
        int fd = client_connect(server);
        get(fd, paths[i]);
        struct reply reply;
        client_reply(fd, &reply, LONG_MS);
        assert_int_equal(reply.status, i == 0 ? 504 : 200);
        assert_true(reply.is_whole);
        assert_non_null(strstr(reply.body.data, "deadline_exceeded"));
        reply_free(&reply);
        close(fd);
    }
    wait_until_stats(server, 0, 0);
    assert_int_equal(atomic_load(&counts.n_gone), 5);
    test_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_header_bytes),
        cmocka_unit_test(test_json_depth),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_reader_that_stops),
        cmocka_unit_test(test_request_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
