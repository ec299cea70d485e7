/* loop.c - the transport thread: one epoll over the listening sockets, every connection, and the
 * wake-ups of handlers. */
#include "base/clock.h"
#include "grpc_internal.h"

#define EVENTS_MAX 64

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
    hs_net_loop_signal(&server->loop);
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
    if (hs_net_loop_is_due(&server->loop, now_ns)) {
        for (struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
            hs_net_loop_at(&server->loop, hs_grpc_conn_expire(i, now_ns));
        }
    }
}

/* ---- stopping ---- */

static void drain_all(hs_grpc_server *server)
{
    for (struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        hs_grpc_conn_drain(i);
    }
}

static void end_all(hs_grpc_server *server)
{
    for (struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        for (hs_grpc_call *call = i->calls; call != NULL; call = call->next) {
            hs_grpc_call_end(call, HS_GRPC_UNAVAILABLE, "the server stops");
        }
        i->goaway_ns = i->goaway_ns != 0 ? hs_clock_ns() : 0;
    }
}

static bool is_over(hs_grpc_server *server)
{
    enum hs_net_step step;
    while ((step = hs_net_loop_step(&server->loop, server->conns != NULL)) == HS_NET_DRAIN) {
        drain_all(server);
    }
    if (step == HS_NET_CUT) {
        end_all(server);
    }
    return step == HS_NET_OVER;
}

/* ---- the loop ---- */

static void handle_event(hs_grpc_server *server, const struct epoll_event *event)
{
    enum hs_net_watch *watch = event->data.ptr;
    switch (*watch) {
    case HS_NET_WATCH_CONN:
        hs_grpc_conn_event((struct hs_grpc_conn *)(void *)watch, event->events);
        break;
    case HS_NET_WATCH_LISTEN:
        hs_net_loop_accept(&server->loop, watch, hs_grpc_conn_accept, server);
        break;
    case HS_NET_WATCH_WAKE: /* edge-triggered: the counter is never read */
    case HS_NET_WATCH_LIBRARY:
        break;
    }
}

static bool has_news(void *arg)
{
    hs_grpc_server *server = arg;
    pthread_mutex_lock(&server->ready_lock);
    bool has_ready = server->ready != NULL;
    pthread_mutex_unlock(&server->ready_lock);
    return has_ready || server->dirty != NULL;
}

void *hs_grpc_loop_main(void *arg)
{
    hs_grpc_server *server = arg;
    struct epoll_event events[EVENTS_MAX];
    while (!is_over(server)) {
        int n = hs_net_loop_wait(&server->loop, has_news, server, events, EVENTS_MAX);
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
