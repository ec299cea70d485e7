/* The loop that servers share: who is let in, what wakes it, deadlines, and the steps of its end.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/net_loop.h"
#include "base/clock.h"
#include "base/error.h"

#define EVENTS_MAX 8
#define CLIENTS_MAX 80
#define LONG_NS (INT64_C(60) * 1000 * HS_NET_NS_PER_MS)

struct server {
    struct hs_net_loop loop;
    bool has_news;
    int n_asked;
    int n_accepted;
    int fds[CLIENTS_MAX];
    atomic_int n_turns, n_drained, n_cut, n_conns;
};

static bool has_news(void *arg)
{
    struct server *server = arg;
    server->n_asked++;
    return server->has_news;
}

static void accepted(void *arg, int fd, const struct sockaddr *address, socklen_t len)
{
    struct server *server = arg;
    assert_int_equal(address->sa_family, AF_INET);
    assert_true(len >= sizeof(struct sockaddr_in));
    assert_true(server->n_accepted < CLIENTS_MAX);
    server->fds[server->n_accepted++] = fd;
}

static void open_server(struct server *server)
{
    *server = (struct server){.n_asked = 0};
    hs_net_loop_init(&server->loop, "test");
    assert_int_equal(hs_net_loop_open(&server->loop, "127.0.0.1", 0, "--port", NULL), HS_OK);
    assert_true(server->loop.port > 0);
    assert_int_equal(server->loop.n_acceptors, 1);
}

static void close_server(struct server *server)
{
    for (int i = 0; i < server->n_accepted; i++) {
        close(server->fds[i]);
    }
    hs_net_loop_close(&server->loop);
    hs_net_loop_close(&server->loop); /* nothing is closed twice */
}

static int connect_to(const struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)server->loop.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* One turn, which at the latest ends when the test has failed. */
static int turn(struct server *server)
{
    struct epoll_event events[EVENTS_MAX];
    hs_net_loop_at(&server->loop, hs_clock_ns() + LONG_NS);
    int n = hs_net_loop_wait(&server->loop, has_news, server, events, EVENTS_MAX);
    for (int i = 0; i < n; i++) {
        const enum hs_net_watch *watched = events[i].data.ptr;
        if (*watched == HS_NET_WATCH_LISTEN) {
            hs_net_loop_accept(&server->loop, watched, accepted, server);
        } else {
            assert_int_equal(*watched, HS_NET_WATCH_WAKE);
        }
    }
    return n;
}

/* More than one turn takes, too. */
static void everybody_is_let_in(void **state)
{
    (void)state;
    struct server server;
    open_server(&server);
    int clients[CLIENTS_MAX];
    for (int i = 0; i < CLIENTS_MAX; i++) {
        clients[i] = connect_to(&server);
    }
    while (server.n_accepted < CLIENTS_MAX) {
        assert_int_equal(turn(&server), 1);
    }
    for (int i = 0; i < CLIENTS_MAX; i++) {
        close(clients[i]);
    }
    close_server(&server);
}

static void a_port_that_is_taken(void **state)
{
    (void)state;
    struct server server, other;
    struct hs_error err;
    open_server(&server);
    hs_net_loop_init(&other.loop, "other");
    assert_int_equal(
        hs_net_loop_open(&other.loop, "127.0.0.1", server.loop.port, "--other-port", &err),
        HS_BUSY);
    assert_non_null(strstr(err.hint, "--other-port"));
    hs_net_loop_close(&other.loop);
    close_server(&server);
}

static void a_signal_wakes_it_once(void **state)
{
    (void)state;
    struct server server;
    open_server(&server);
    server.has_news = true; /* it sleeps not at all */
    assert_int_equal(turn(&server), 0);
    hs_net_loop_signal(&server.loop); /* while it is awake, it is not told */
    assert_int_equal(turn(&server), 0);
    server.has_news = false;
    atomic_store(&server.loop.is_signalled, false); /* as it is while it sleeps */
    hs_net_loop_signal(&server.loop);
    hs_net_loop_signal(&server.loop);
    assert_int_equal(turn(&server), 1);
    server.has_news = true;
    assert_int_equal(turn(&server), 0);
    assert_int_equal(server.n_asked, 4);
    close_server(&server);
}

static void deadlines(void **state)
{
    (void)state;
    struct server server;
    open_server(&server);
    int64_t now_ns = hs_clock_ns();
    assert_false(hs_net_loop_is_due(&server.loop, now_ns)); /* there is none */
    hs_net_loop_at(&server.loop, now_ns + 10);
    hs_net_loop_at(&server.loop, now_ns + 20); /* a later one changes nothing */
    assert_false(hs_net_loop_is_due(&server.loop, now_ns + 9));
    assert_true(hs_net_loop_is_due(&server.loop, now_ns + 10));
    assert_false(hs_net_loop_is_due(&server.loop, now_ns + 20)); /* it was to be said again */
    hs_net_loop_at(&server.loop, hs_clock_ns() + 5 * HS_NET_NS_PER_MS);
    int64_t deadline_ns = server.loop.next_deadline_ns;
    assert_int_equal(turn(&server), 0);
    assert_true(hs_clock_ns() >= deadline_ns);
    assert_true(hs_net_loop_is_due(&server.loop, hs_clock_ns()));
    close_server(&server);
}

/* A client waits at the door until there are descriptors again; the loop sleeps meanwhile. */
static void out_of_descriptors(void **state)
{
    (void)state;
    struct server server;
    struct rlimit before, none;
    open_server(&server);
    int client = connect_to(&server);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)client; /* no number below it is free but those of others' closing */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int n_free = 0, held[64];
    while (n_free < 64 && (held[n_free] = dup(0)) >= 0) {
        n_free++;
    }
    while (server.loop.accept_at_ns == 0) {
        turn(&server);
    }
    assert_int_equal(server.n_accepted, 0);
    while (n_free > 0) {
        close(held[--n_free]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    int64_t until_ns = server.loop.accept_at_ns;
    assert_true(hs_net_loop_is_due(&server.loop, until_ns)); /* as if it were then */
    assert_int_equal(server.loop.accept_at_ns, 0);
    while (server.n_accepted == 0) {
        turn(&server);
    }
    close(client);
    close_server(&server);
}

static void steps_of_the_end(void **state)
{
    (void)state;
    struct server server;
    open_server(&server);
    struct hs_net_loop *loop = &server.loop;
    assert_int_equal(hs_net_loop_step(loop, false), HS_NET_GO_ON);
    atomic_store(&loop->drain_ms, 3600000);
    atomic_store(&loop->is_stopping, true);
    assert_int_equal(hs_net_loop_step(loop, true), HS_NET_DRAIN);
    assert_int_equal(loop->n_acceptors, 0);
    assert_int_equal(hs_net_loop_step(loop, true), HS_NET_GO_ON);
    assert_true(hs_net_loop_is_due(loop, hs_clock_ns())); /* deadlines are others now */
    assert_true(loop->next_deadline_ns == loop->stop_at_ns);
    loop->stop_at_ns = hs_clock_ns();
    assert_int_equal(hs_net_loop_step(loop, true), HS_NET_CUT);
    assert_true(loop->stop_at_ns >= hs_clock_ns() + HS_NET_FLUSH_MS / 2 * HS_NET_NS_PER_MS);
    assert_int_equal(hs_net_loop_step(loop, true), HS_NET_GO_ON);
    assert_int_equal(hs_net_loop_step(loop, false), HS_NET_OVER);
    loop->stop_at_ns = hs_clock_ns();
    assert_int_equal(hs_net_loop_step(loop, true), HS_NET_OVER); /* they took too long */
    close_server(&server);
}

/* The steps as a server takes them: one connection ends when it is told to drain, one when it is
 * cut. */
static void *run(void *arg)
{
    struct server *server = arg;
    struct epoll_event events[EVENTS_MAX];
    enum hs_net_step step;
    while ((step = hs_net_loop_step(&server->loop, atomic_load(&server->n_conns) > 0)) !=
           HS_NET_OVER) {
        if (step == HS_NET_DRAIN) {
            atomic_fetch_add(&server->n_drained, 1);
            atomic_fetch_sub(&server->n_conns, 1);
            continue;
        }
        if (step == HS_NET_CUT) {
            atomic_fetch_add(&server->n_cut, 1);
            atomic_fetch_sub(&server->n_conns, 1);
        }
        (void)hs_net_loop_wait(&server->loop, has_news, server, events, EVENTS_MAX);
        (void)hs_net_loop_is_due(&server->loop, hs_clock_ns());
        atomic_fetch_add(&server->n_turns, 1);
    }
    return NULL;
}

static void a_thread_stops(void **state)
{
    (void)state;
    for (int n_conns = 1; n_conns <= 2; n_conns++) {
        struct server server;
        open_server(&server);
        atomic_store(&server.n_conns, n_conns);
        assert_int_equal(hs_net_loop_start(&server.loop, run, &server, NULL), HS_OK);
        hs_net_loop_stop(&server.loop, 1);
        hs_net_loop_stop(&server.loop, 1);
        assert_int_equal(atomic_load(&server.n_drained), 1);
        assert_int_equal(atomic_load(&server.n_cut), n_conns - 1);
        close_server(&server);
    }
    struct server server;
    open_server(&server);
    hs_net_loop_stop(&server.loop, 0); /* without a thread there is nothing to wait for */
    close_server(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_is_let_in),    cmocka_unit_test(a_port_that_is_taken),
        cmocka_unit_test(a_signal_wakes_it_once), cmocka_unit_test(deadlines),
        cmocka_unit_test(out_of_descriptors),     cmocka_unit_test(steps_of_the_end),
        cmocka_unit_test(a_thread_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
