/* Stopping: running requests finish, the rest is told, nothing hangs and nothing is left. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/mem.h"
#include "http_test.h"

static int begin_get(const hs_http_server *server, const char *path)
{
    char text[256];
    int fd = client_connect(server);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    client_send(fd, text);
    return fd;
}

struct stopper {
    hs_http_server *server;
    int64_t drain_ms;
    hs_status status;
    double took_ms;
};

static void *stop_main(void *arg)
{
    struct stopper *stopper = arg;
    double begin = now_ms();
    stopper->status = hs_http_server_stop(stopper->server, stopper->drain_ms, NULL);
    stopper->took_ms = now_ms() - begin;
    return NULL;
}

static void test_drain(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int idle = client_connect(server), half = client_connect(server);
    client_send(half, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na");
    int stream = begin_get(server, "/events?n=30&gap_us=10000");
    int wait = begin_get(server, "/wait?n=30&gap_us=10000");
    wait_for_int(&counts.n_started, 2);
    struct stopper stopper = {.server = server, .drain_ms = LONG_MS};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_main, &stopper), 0);
    assert_true(client_is_closed(idle, LONG_MS));
    client_send(half, "bc"); /* arrived too late */
    struct reply reply;
    client_reply(half, &reply, LONG_MS);
    assert_int_equal(reply.status, 503);
    reply_free(&reply);
    client_reply(stream, &reply, LONG_MS);
    assert_true(reply.is_whole);
    assert_non_null(strstr(reply.body.data, "{\"i\":29}"));
    reply_free(&reply);
    char value[512];
    client_reply(wait, &reply, LONG_MS);
    assert_string_equal(reply.body.data, "waited");
    assert_string_equal(reply_header(&reply, "Connection", value), "close");
    reply_free(&reply);
    pthread_join(thread, NULL);
    assert_int_equal(stopper.status, HS_OK);
    assert_true(stopper.took_ms < LONG_MS / 2); /* no longer than the requests took */
    close(idle);
    close(half);
    close(stream);
    close(wait);
    test_stop(server);
    assert_int_equal(atomic_load(&counts.n_gone), 0);
}

static void test_deadline(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    test_close_gate();
    static const char *const paths[] = {"/block",
                                        "/never",
                                        "/silent",
                                        "/events?n=1000000",
                                        "/pooled?n=1000000",
                                        "/flood?bytes=900000000",
                                        "/block",
                                        "/block"};
    enum { N = sizeof paths / sizeof paths[0] };
    int fds[N + 3];
    for (int i = 1; i < N; i++) { /* two threads: the last /block stays in the queue */
        fds[i] = begin_get(server, paths[i]);
        wait_for_int(&counts.n_started, i);
    }
    fds[0] = begin_get(server, paths[0]);
    fds[N] = client_connect(server);
    fds[N + 1] = client_connect(server);
    client_send(fds[N + 1], "GET /hel");
    fds[N + 2] = client_connect(server);
    client_send(fds[N + 2], "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx");
    wait_until_stats(server, N + 3, N);
    double begin = now_ms();
    assert_int_equal(hs_http_server_stop(server, 200, NULL), HS_OK);
    double took = now_ms() - begin;
    assert_true(took > 150 && took < LONG_MS);
    for (int i = 0; i < N + 3; i++) {
        struct reply reply;
        client_reply(fds[i], &reply, LONG_MS);
        if (i == 0 || i == 1 || i == 6 || i == 7) {
            assert_int_equal(reply.status, 503);
        } else if (i >= 2 && i <= 4) {
            assert_true(reply.is_whole);
            assert_non_null(strstr(reply.body.data, "server_stopping"));
        }
        reply_free(&reply);
        close(fds[i]);
    }
    assert_int_equal(atomic_load(&counts.n_gone), N - 1);
    assert_int_equal(atomic_load(&counts.gone_why), HS_HTTP_STOPPED);
    test_stop(server);
}

static void test_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        hs_http_server *server = test_start(NULL);
        int fd = begin_get(server, i % 2 == 0 ? "/events?n=100000&gap_us=100" : "/pooled?n=100000");
        usleep((useconds_t)(i * 700));
        hs_http_server_free(server); /* without a stop before */
        assert_int_equal(atomic_load(&counts.n_started), atomic_load(&counts.n_ended));
        close(fd);
    }
}

static void test_bad_configurations(void **state)
{
    (void)state;
    struct hs_http_config config;
    struct hs_http_route routes[2] = {test_routes[0], test_routes[0]};
    hs_http_server *server = NULL, *other = NULL;
    struct hs_error err;
    test_config(&config);
    config.routes = routes;
    config.n_routes = 2;
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_INVALID_ARGUMENT);
    test_config(&config);
    config.tls_cert_file = "/nonexistent";
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_INVALID_ARGUMENT);
    config.tls_key_file = "/nonexistent";
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_NOT_FOUND);
    test_config(&config);
    config.host = "no-such-host.invalid";
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_NOT_FOUND);
    test_config(&config);
    config.limits.json_depth = 0;
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_INVALID_ARGUMENT);
    server = test_start(NULL);
    test_config(&config);
    config.port = hs_http_server_port(server);
    assert_int_equal(hs_http_server_start(&config, &other, &err), HS_BUSY);
    assert_non_null(strstr(err.hint, "--port"));
    test_stop(server);
    hs_http_server_free(NULL);
}

static void test_start_without_memory(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.openapi.title = "Toys";
    config.openapi.schemas = "{\"Thing\":{}}";
    for (uint64_t n = 1;; n++) {
        hs_http_server *server = NULL;
        struct hs_error err = {.message = ""};
        hs_mem_fail_after(n);
        hs_status status = hs_http_server_start(&config, &server, &err);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            assert_true(n > 3);
            hs_http_server_free(server);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_null(server);
    }
}

/* Whatever allocation fails, the client hears of it or is cut, and the next one is served. */
static void test_requests_without_memory(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n\r\n",
        "GET /items/a%20b?c=d HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /missing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /headers HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n",
        "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    };
    hs_http_server *server = test_start(NULL);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (uint64_t n = 1; n <= 24; n++) {
            char answer[4096] = "";
            struct timeval limit = {.tv_sec = 5};
            hs_mem_fail_after(n);
            int fd = client_connect(server);
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
            client_send(fd, texts[i]);
            ssize_t len = recv(fd, answer, sizeof answer - 1, 0);
            hs_mem_fail_after(0);
            bool is_cut = len == 0 || (len < 0 && errno == ECONNRESET);
            if (!is_cut && (len < 0 || strncmp(answer, "HTTP/1.1 ", 9) != 0)) {
                fail_msg("case %zu, allocation %d: %s", i, (int)n, answer);
            }
            close(fd);
        }
        wait_until_stats(server, 0, 0);
    }
    struct reply reply;
    request(server, "GET /hello", NULL, NULL, &reply);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    test_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_at_once),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_start_without_memory),
        cmocka_unit_test(test_requests_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
