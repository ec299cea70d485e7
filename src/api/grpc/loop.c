/* loop.c - the transport thread: one epoll over the listening sockets, every connection, and the
 * wake-ups of handlers. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "grpc_internal.h"

#define EVENTS_MAX 64

void hs_grpc_loop_signal(hs_grpc_server *server)
{
    if (!atomic_exchange(&server->is_signalled, true)) {
        uint64_t one = 1;
        ssize_t n = write(server->wake_fd, &one, sizeof one);
        (void)n; /* a full counter is a signal, too */
    }
}

void hs_grpc_loop_notify(hs_grpc_call *call)
{
    hs_grpc_server *server = call->server;
    pthread_mutex_lock(&server->ready_lock);
    if (!call->is_ready) {
        call->is_ready = true;
        atomic_fetch_add(&call->n_refs, 1);
        call->ready_next = server->ready;
        server->ready = call;
    }
    pthread_mutex_unlock(&server->ready_lock);
    hs_grpc_loop_signal(server);
}

void hs_grpc_loop_at(hs_grpc_server *server, int64_t deadline_ns)
{
    if (deadline_ns < server->next_deadline_ns) {
        server->next_deadline_ns = deadline_ns;
    }
}

static hs_grpc_call *next_ready(hs_grpc_server *server)
{
    pthread_mutex_lock(&server->ready_lock);
    hs_grpc_call *call = server->ready;
    if (call != NULL) {
        server->ready = call->ready_next;
        call->is_ready = false;
    }
    pthread_mutex_unlock(&server->ready_lock);
    return call;
}

static void advance_ready(hs_grpc_server *server)
{
    for (hs_grpc_call *i = next_ready(server); i != NULL; i = next_ready(server)) {
        hs_grpc_call_advance(i);
        hs_grpc_call_unref(i);
    }
}

static void flush_dirty(hs_grpc_server *server)
{
    struct hs_grpc_conn *conn = server->dirty;
    server->dirty = NULL;
    while (conn != NULL) {
        struct hs_grpc_conn *next = conn->dirty_next;
        conn->is_dirty = false;
        if (!conn->is_dead) {
            hs_grpc_conn_flush(conn);
        }
        conn = next;
    }
}

/* At the end of a turn, when nobody has an event of it in hand. */
static void bury_dead(hs_grpc_server *server)
{
    struct hs_grpc_conn **link = &server->dirty;
    while (*link != NULL) {
        if ((*link)->is_dead) {
            *link = (*link)->dirty_next;
        } else {
            link = &(*link)->dirty_next;
        }
    }
    for (struct hs_grpc_conn *i = server->conns, *next; i != NULL; i = next) {
        next = i->next;
        if (i->is_dead) {
            hs_grpc_conn_destroy(i);
        }
    }
}

static void expire_all(hs_grpc_server *server)
{
    int64_t now_ns = hs_clock_ns();
    if (now_ns < server->next_deadline_ns) {
        return;
    }
    server->next_deadline_ns = HS_GRPC_NEVER;
    for (struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        hs_grpc_loop_at(server, hs_grpc_conn_expire(i, now_ns));
    }
    if (server->accept_at_ns != 0) {
        if (now_ns >= server->accept_at_ns) {
            hs_grpc_accept_pause(server, 0);
        } else {
            hs_grpc_loop_at(server, server->accept_at_ns);
        }
    }
    if (server->is_draining) {
        hs_grpc_loop_at(server, server->stop_at_ns);
    }
}

/* ---- stopping ---- */

static void begin_drain(hs_grpc_server *server)
{
    server->is_draining = true;
    server->stop_at_ns = hs_clock_ns() + atomic_load(&server->drain_ms) * HS_GRPC_NS_PER_MS;
    server->accept_at_ns = 0;
    for (int i = 0; i < server->n_acceptors; i++) {
        close(server->acceptors[i].fd);
    }
    server->n_acceptors = 0;
    for (struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        hs_grpc_conn_drain(i);
    }
    hs_grpc_loop_at(server, server->stop_at_ns);
}

static void end_all(hs_grpc_server *server)
{
    server->is_cutting = true;
    server->stop_at_ns = hs_clock_ns() + (HS_GRPC_FLUSH_MS + 500) * HS_GRPC_NS_PER_MS;
    hs_grpc_loop_at(server, server->stop_at_ns);
    for (struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        for (hs_grpc_call *call = i->calls; call != NULL; call = call->next) {
            hs_grpc_call_end(call, HS_GRPC_UNAVAILABLE, "the server stops");
        }
        i->goaway_ns = i->goaway_ns != 0 ? hs_clock_ns() : 0;
        hs_grpc_loop_at(server, 0);
    }
}

static bool is_over(hs_grpc_server *server)
{
    if (!atomic_load(&server->is_stopping)) {
        return false;
    }
    if (!server->is_draining) {
        begin_drain(server);
    }
    if (server->conns == NULL) {
        return true;
    }
    if (hs_clock_ns() < server->stop_at_ns) {
        return false;
    }
    if (!server->is_cutting) {
        end_all(server);
        return false;
    }
    return true;
}

/* ---- the loop ---- */

static void handle_event(hs_grpc_server *server, const struct epoll_event *event)
{
    enum hs_grpc_watch *watch = event->data.ptr;
    switch (*watch) {
    case HS_GRPC_WATCH_CONN:
        hs_grpc_conn_event((struct hs_grpc_conn *)(void *)watch, event->events);
        break;
    case HS_GRPC_WATCH_LISTEN:
        if (!server->is_draining) {
            hs_grpc_accept(server, ((struct hs_grpc_acceptor *)(void *)watch)->fd);
        }
        break;
    case HS_GRPC_WATCH_WAKE: /* edge-triggered: the counter is never read */
        break;
    }
}

/* Whoever has something for this thread need not signal while it is awake: it looks again before it
 * sleeps. true: there is something. */
static bool has_news(hs_grpc_server *server)
{
    atomic_store(&server->is_signalled, false);
    pthread_mutex_lock(&server->ready_lock);
    bool has_ready = server->ready != NULL;
    pthread_mutex_unlock(&server->ready_lock);
    return has_ready || server->dirty != NULL ||
           (atomic_load(&server->is_stopping) && !server->is_draining);
}

static int timeout_ms(const hs_grpc_server *server)
{
    if (server->next_deadline_ns == HS_GRPC_NEVER) {
        return -1;
    }
    int64_t left_ns = server->next_deadline_ns - hs_clock_ns();
    if (left_ns <= 0) {
        return 0;
    }
    int64_t left_ms = (left_ns + HS_GRPC_NS_PER_MS - 1) / HS_GRPC_NS_PER_MS;
    return left_ms > 60000 ? 60000 : (int)left_ms;
}

void *hs_grpc_loop_main(void *arg)
{
    hs_grpc_server *server = arg;
    struct epoll_event events[EVENTS_MAX];
    while (!is_over(server)) {
        int timeout = has_news(server) ? 0 : timeout_ms(server);
        int n = epoll_wait(server->epoll_fd, events, EVENTS_MAX, timeout);
        atomic_store(&server->is_signalled, true);
        if (n < 0 && errno != EINTR) {
            hs_log(HS_LOG_ERROR, "grpc", "waiting for connections failed: %s", strerror(errno));
            atomic_store(&server->is_stopping, true);
        }
        for (int i = 0; i < n; i++) {
            handle_event(server, &events[i]);
        }
        advance_ready(server);
        flush_dirty(server); /* first: what is sent in time has not stalled */
        expire_all(server);
        flush_dirty(server);
        bury_dead(server);
    }
    while (server->conns != NULL) {
        hs_grpc_conn_destroy(server->conns);
    }
    return NULL;
}
