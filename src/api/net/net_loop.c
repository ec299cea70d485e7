/* net_loop.c - what the transport threads of the servers share. */
#include "api/net_loop.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"

#define ACCEPT_BURST 64
#define ACCEPT_PAUSE_MS 100
/* Cut connections say their last within the time to flush; this is for the thread to notice. */
#define CUT_MS (HS_NET_FLUSH_MS + 500)
#define WAIT_MS_MAX 60000

/* ---- life ---- */

void hs_net_loop_init(struct hs_net_loop *loop, const char *name)
{
    memset(loop, 0, sizeof *loop);
    loop->name = name;
    loop->epoll_fd = loop->wake_fd = -1;
    loop->watch_wake = HS_NET_WATCH_WAKE;
    loop->next_deadline_ns = HS_NET_NEVER;
}

hs_status hs_net_loop_watch(struct hs_net_loop *loop, int fd, uint32_t events, void *watched,
                            struct hs_error *err)
{
    struct epoll_event event = {.events = events, .data.ptr = watched};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return hs_error_errno(err, errno, "watch", "a socket");
    }
    return HS_OK;
}

hs_status hs_net_loop_open(struct hs_net_loop *loop, const char *host, int port,
                           const char *port_flag, struct hs_error *err)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0) {
        return hs_error_errno(err, errno, "open", "an event descriptor");
    }
    struct hs_listener listener;
    hs_status status = hs_listener_open(host, port, port_flag, &listener, err);
    if (status != HS_OK) {
        return status;
    }
    loop->port = listener.port;
    loop->n_acceptors = listener.n;
    for (int i = 0; i < listener.n; i++) {
        loop->acceptors[i] = (struct hs_net_acceptor){HS_NET_WATCH_LISTEN, listener.fds[i]};
    }
    status = hs_net_loop_watch(loop, loop->wake_fd, EPOLLIN | EPOLLET, &loop->watch_wake, err);
    for (int i = 0; status == HS_OK && i < listener.n; i++) {
        status = hs_net_loop_watch(loop, listener.fds[i], EPOLLIN, &loop->acceptors[i], err);
    }
    return status;
}

hs_status hs_net_loop_start(struct hs_net_loop *loop, void *(*run)(void *), void *server,
                            struct hs_error *err)
{
    int code = hs_thread_start(&loop->thread, run, server);
    loop->has_thread = code == 0;
    return code == 0 ? HS_OK : hs_error_errno(err, code, "start", "the transport thread");
}

void hs_net_loop_signal(struct hs_net_loop *loop)
{
    if (!atomic_exchange(&loop->is_signalled, true)) {
        uint64_t one = 1;
        ssize_t n = write(loop->wake_fd, &one, sizeof one);
        (void)n; /* a full counter is a signal, too */
    }
}

void hs_net_loop_stop(struct hs_net_loop *loop, int64_t drain_ms)
{
    if (loop->has_thread && !atomic_exchange(&loop->is_joined, true)) {
        atomic_store(&loop->drain_ms, drain_ms);
        atomic_store(&loop->is_stopping, true);
        hs_net_loop_signal(loop);
        pthread_join(loop->thread, NULL);
    }
}

static void close_acceptors(struct hs_net_loop *loop)
{
    for (int i = 0; i < loop->n_acceptors; i++) {
        close(loop->acceptors[i].fd);
    }
    loop->n_acceptors = 0;
}

void hs_net_loop_close(struct hs_net_loop *loop)
{
    close_acceptors(loop);
    hs_closep(&loop->epoll_fd);
    hs_closep(&loop->wake_fd);
}

/* ---- waiting ---- */

void hs_net_loop_at(struct hs_net_loop *loop, int64_t deadline_ns)
{
    if (deadline_ns < loop->next_deadline_ns) {
        loop->next_deadline_ns = deadline_ns;
    }
}

static int timeout_ms(const struct hs_net_loop *loop)
{
    if (loop->next_deadline_ns == HS_NET_NEVER) {
        return -1;
    }
    int64_t left_ns = loop->next_deadline_ns - hs_clock_ns();
    if (left_ns <= 0) {
        return 0;
    }
    int64_t left_ms = (left_ns + HS_NET_NS_PER_MS - 1) / HS_NET_NS_PER_MS;
    return left_ms > WAIT_MS_MAX ? WAIT_MS_MAX : (int)left_ms;
}

int hs_net_loop_wait(struct hs_net_loop *loop, bool (*has_news)(void *server), void *server,
                     struct epoll_event *ret_events, int max)
{
    atomic_store(&loop->is_signalled, false);
    bool is_to_stop = atomic_load(&loop->is_stopping) && !loop->is_draining;
    int timeout = has_news(server) || is_to_stop ? 0 : timeout_ms(loop);
    int n = epoll_wait(loop->epoll_fd, ret_events, max, timeout);
    atomic_store(&loop->is_signalled, true);
    if (n < 0 && errno != EINTR) {
        hs_log(HS_LOG_ERROR, loop->name, "waiting for connections failed: %s", strerror(errno));
        atomic_store(&loop->is_stopping, true);
    }
    return n;
}

/* Accept nothing until then; 0: accept again. */
static void pause_accepting(struct hs_net_loop *loop, int64_t until_ns)
{
    loop->accept_at_ns = until_ns;
    for (int i = 0; i < loop->n_acceptors; i++) {
        struct epoll_event event = {.events = until_ns == 0 ? EPOLLIN : 0,
                                    .data.ptr = &loop->acceptors[i]};
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, loop->acceptors[i].fd, &event);
    }
    if (until_ns != 0) {
        hs_net_loop_at(loop, until_ns);
    }
}

void hs_net_loop_accept(struct hs_net_loop *loop, const enum hs_net_watch *watched,
                        hs_net_accepted accepted, void *server)
{
    int listen_fd = ((const struct hs_net_acceptor *)(const void *)watched)->fd;
    for (int i = 0; i < ACCEPT_BURST && !loop->is_draining; i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        int fd =
            accept4(listen_fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            bool is_passing = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
            if (!is_passing) {
                hs_log(HS_LOG_WARN, loop->name, "cannot accept a connection: %s", strerror(errno));
                /* out of descriptors: the socket stays readable, so asking at once would spin */
                pause_accepting(loop, hs_clock_ns() + ACCEPT_PAUSE_MS * HS_NET_NS_PER_MS);
            }
            return;
        }
        accepted(server, fd, (const struct sockaddr *)&address, len);
    }
}

bool hs_net_loop_is_due(struct hs_net_loop *loop, int64_t now_ns)
{
    if (now_ns < loop->next_deadline_ns) {
        return false;
    }
    loop->next_deadline_ns = HS_NET_NEVER;
    if (loop->accept_at_ns != 0) {
        pause_accepting(loop, now_ns >= loop->accept_at_ns ? 0 : loop->accept_at_ns);
    }
    if (loop->is_draining) {
        hs_net_loop_at(loop, loop->stop_at_ns);
    }
    return true;
}

/* ---- stopping ---- */

static enum hs_net_step begin(struct hs_net_loop *loop, bool *is_begun, int64_t ms,
                              enum hs_net_step step)
{
    *is_begun = true;
    loop->stop_at_ns = hs_clock_ns() + ms * HS_NET_NS_PER_MS;
    hs_net_loop_at(loop, 0); /* the deadlines are others now */
    return step;
}

enum hs_net_step hs_net_loop_step(struct hs_net_loop *loop, bool has_conns)
{
    if (!atomic_load(&loop->is_stopping)) {
        return HS_NET_GO_ON;
    }
    if (!loop->is_draining) {
        close_acceptors(loop);
        loop->accept_at_ns = 0;
        return begin(loop, &loop->is_draining, atomic_load(&loop->drain_ms), HS_NET_DRAIN);
    }
    if (!has_conns) {
        return HS_NET_OVER;
    }
    if (hs_clock_ns() < loop->stop_at_ns) {
        return HS_NET_GO_ON;
    }
    return loop->is_cutting ? HS_NET_OVER : begin(loop, &loop->is_cutting, CUT_MS, HS_NET_CUT);
}
