/* Clients that leave: in the queue, in a handler, while it waits, in a silent and in a full stream.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http_test.h"

/* Ends are noticed within some 10 ms: on a busy machine the quickest of several is. */
#define PROMPT_MS 250.0

static void send_get(int fd, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    client_send(fd, text);
}

static void reset_on_close(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

enum leave { LEAVE_CLOSE, LEAVE_RESET, LEAVE_HALF, LEAVE_PIPELINED };

/* Leaves in one of the ways; returns when. */
static double leave(int fd, enum leave how)
{
    if (how == LEAVE_PIPELINED) { /* unread bytes must not hide the end */
        send_get(fd, "/hello");
        sleep_ms(20);
    }
    double at = (double)hs_clock_ns() / 1e6;
    if (how == LEAVE_HALF) {
        shutdown(fd, SHUT_WR);
        return at;
    }
    if (how == LEAVE_RESET) {
        reset_on_close(fd);
    }
    close(fd);
    return at;
}

/* Returns how long that took to be noticed. */
static double expect_gone(double left_at)
{
    wait_for_int(&counts.n_gone, 1);
    double took = (double)atomic_load(&counts.gone_ns) / 1e6 - left_at;
    assert_int_equal(atomic_load(&counts.gone_why), HS_HTTP_DISCONNECTED);
    wait_for_int(&counts.n_ended, 1);
    return took;
}

static void leaves_during(const char *path, bool is_gated, int settle_ms)
{
    double best_ms = LONG_MS;
    for (enum leave how = LEAVE_CLOSE; how <= LEAVE_PIPELINED; how++) {
        hs_http_server *server = test_start(NULL);
        if (is_gated) {
            test_close_gate();
        }
        int fd = client_connect(server);
        send_get(fd, path);
        wait_for_int(&counts.n_started, 1);
        sleep_ms(settle_ms);
        double at = leave(fd, how);
        double took_ms = expect_gone(at);
        best_ms = took_ms < best_ms ? took_ms : best_ms;
        if (how == LEAVE_HALF) {
            assert_true(client_is_closed(fd, LONG_MS));
            close(fd);
        }
        wait_until_stats(server, 0, 0);
        test_stop(server);
        assert_int_equal(atomic_load(&counts.n_gone), 1);
    }
    if (best_ms > PROMPT_MS) {
        fail_msg("noticed after %.1f ms at best", best_ms);
    }
}

static void test_in_handler(void **state)
{
    (void)state;
    leaves_during("/block", true, 20);
}

static void test_while_waiting(void **state)
{
    (void)state;
    leaves_during("/never", false, 20);
}

static void test_in_silent_stream(void **state)
{
    (void)state;
    leaves_during("/silent", false, 20);
}

static void test_between_events(void **state)
{
    (void)state;
    leaves_during("/events?n=100000&gap_us=3000", false, 50);
    leaves_during("/pooled?n=100000&gap_us=3000", false, 50);
}

static void test_in_blocked_stream(void **state)
{
    (void)state;
    leaves_during("/flood?bytes=500000000", false, 100);
}

static void test_in_queue(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    test_close_gate();
    int holders[2], waiting[3];
    for (int i = 0; i < 2; i++) {
        holders[i] = client_connect(server);
        send_get(holders[i], "/block");
    }
    wait_for_int(&counts.n_started, 2);
    for (int i = 0; i < 3; i++) {
        waiting[i] = client_connect(server);
        send_get(waiting[i], "/block");
    }
    wait_until_stats(server, 5, 5);
    struct hs_http_stats stats;
    hs_http_server_stats(server, &stats);
    assert_int_equal(stats.n_queued, 3);
    close(waiting[1]);
    wait_until_stats(server, 4, 4);
    hs_http_server_stats(server, &stats);
    assert_int_equal(stats.n_queued, 2);
    test_open_gate();
    for (int i = 0; i < 2; i++) {
        struct reply reply;
        client_reply(holders[i], &reply, LONG_MS);
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
        close(holders[i]);
        client_reply(waiting[2 * i], &reply, LONG_MS);
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
        close(waiting[2 * i]);
    }
    wait_until_stats(server, 0, 0);
    test_stop(server);
    assert_int_equal(atomic_load(&counts.n_started), 4); /* its handler never ran */
    assert_int_equal(atomic_load(&counts.n_gone), 0);
}

static void test_during_body(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    int fd = client_connect(server);
    client_send(fd, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf");
    sleep_ms(20);
    close(fd);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

/* Many that leave at random moments: every hook ends, nobody is forgotten. */
static void test_at_random(void **state)
{
    (void)state;
    static const char *const paths[] = {"/events?n=50&gap_us=500",
                                        "/pooled?n=50&gap_us=500",
                                        "/never",
                                        "/silent",
                                        "/flood?bytes=3000000",
                                        "/block",
                                        "/wait?n=20",
                                        "/broken?n=9&after=3&gap_us=300"};
    hs_http_server *server = test_start(NULL);
    unsigned seed = 7;
    for (int i = 0; i < 400; i++) {
        int fd = client_connect(server);
        send_get(fd, paths[(size_t)rand_r(&seed) % (sizeof paths / sizeof paths[0])]);
        usleep((useconds_t)(rand_r(&seed) % 4000));
        if (rand_r(&seed) % 2 == 0) {
            reset_on_close(fd);
        }
        close(fd);
    }
    wait_until_stats(server, 0, 0);
    struct reply reply;
    request(server, "GET /hello", NULL, NULL, &reply);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    test_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_handler),        cmocka_unit_test(test_while_waiting),
        cmocka_unit_test(test_in_silent_stream),  cmocka_unit_test(test_between_events),
        cmocka_unit_test(test_in_blocked_stream), cmocka_unit_test(test_in_queue),
        cmocka_unit_test(test_during_body),       cmocka_unit_test(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
