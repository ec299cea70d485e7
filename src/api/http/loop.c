/*
 * loop.c - the transport thread: one epoll over the listening sockets, the wake-ups of other
 * threads, the end of every connection, and libmicrohttpd's own epoll, which is run from here.
 *
 * libmicrohttpd lets a suspended connection out of sight. So every socket is watched here as well,
 * for its end alone (EPOLLRDHUP, which bytes waiting to be read do not hide), and every deadline is
 * kept here, absolute.
 */
#include <sched.h>

#include "base/clock.h"
#include "http_internal.h"

#define EVENTS_MAX 64
/* libmicrohttpd goes on with a connection step by step; after so many the others have a turn. */
#define RUNS_MAX 4

/* ---- connections ---- */

void hs_http_conn_set_deadline(struct hs_http_conn *conn, int64_t deadline_ns)
{
    conn->deadline_ns = deadline_ns;
    hs_net_loop_at(&conn->server->loop, deadline_ns);
}

void hs_http_conn_cut(struct hs_http_conn *conn)
{
    shutdown(conn->fd, SHUT_RDWR);
    conn->is_cut = true;
    hs_http_conn_set_deadline(conn, HS_NET_NEVER);
}

void hs_http_conn_gone(struct hs_http_conn *conn, enum hs_http_gone why)
{
    hs_http_request *request = conn->request;
    if (request == NULL || !request->is_dispatched) {
        return;
    }
    pthread_mutex_lock(&request->lock);
    if (request->gone != 0) {
        pthread_mutex_unlock(&request->lock);
        return;
    }
    request->gone = why;
    atomic_store(&request->is_gone_flag, true);
    bool is_told = request->has_hooks && !request->is_gone_told;
    request->is_gone_told = request->is_gone_told || is_told;
    if (request->work == HS_HTTP_QUEUED && hs_http_pool_remove(&request->server->pool, request)) {
        request->work = HS_HTTP_AT_REST;
    }
    pthread_mutex_unlock(&request->lock);
    if (is_told && request->hooks.on_gone != NULL) {
        request->hooks.on_gone(request, request->hook_data, why);
    }
    if (why == HS_HTTP_DISCONNECTED || conn->phase == HS_HTTP_SENDING) {
        hs_http_conn_cut(conn);
    } else {
        hs_http_conn_set_deadline(conn, hs_clock_ns() + HS_NET_FLUSH_MS * HS_NET_NS_PER_MS);
    }
    pthread_mutex_lock(&request->lock);
    hs_http_request_poke(request);
    pthread_mutex_unlock(&request->lock);
}

/* The client closed its side: the request is gone, unless its answer is on the way as a whole. */
static void take_fin(struct hs_http_conn *conn)
{
    conn->has_fin = true;
    if (conn->phase == HS_HTTP_WORKING || conn->phase == HS_HTTP_STREAMING) {
        hs_http_conn_gone(conn, HS_HTTP_DISCONNECTED);
    }
}

static void answer_slow(struct hs_http_conn *conn)
{
    static const char text[] =
        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: 120\r\n"
        "Connection: close\r\n\r\n"
        "{\"error\":{\"message\":\"the request took too long to arrive\",\"type\":"
        "\"timeout_error\",\"param\":null,\"code\":\"request_timeout\"}}";
    if (conn->server->certificate.len == 0) {
        ssize_t n = send(conn->fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n; /* whoever does not take it is cut all the same */
    }
    if (conn->request != NULL) {
        conn->request->sent_status = 408;
    }
}

/* Whether the stream had nothing to send for so long that it pings; it goes on, then. */
static bool ping(struct hs_http_conn *conn, int64_t now_ns)
{
    hs_http_request *request = conn->request;
    pthread_mutex_lock(&request->lock);
    bool is_due = conn->phase == HS_HTTP_STREAMING && request->gone == 0 && request->is_parked &&
                  request->stream.ping != NULL && now_ns < request->deadline_ns;
    if (is_due) {
        request->is_ping_due = true;
        request->is_parked = false;
    }
    pthread_mutex_unlock(&request->lock);
    if (is_due) {
        conn->is_suspended = false;
        hs_http_conn_set_deadline(conn, request->deadline_ns);
        MHD_resume_connection(conn->mhd);
    }
    return is_due;
}

static void expire(struct hs_http_conn *conn, int64_t now_ns)
{
    hs_http_request *request = conn->request;
    switch (conn->phase) {
    case HS_HTTP_RECEIVING:
        answer_slow(conn);
        hs_http_conn_cut(conn);
        break;
    case HS_HTTP_WORKING:
    case HS_HTTP_STREAMING:
        /* past the request's deadline its client still hears of it; else it took nothing */
        if (request->gone == 0 && now_ns >= request->deadline_ns) {
            hs_http_conn_gone(conn, HS_HTTP_DEADLINE);
        } else if (!ping(conn, now_ns)) {
            hs_http_conn_gone(conn, HS_HTTP_DISCONNECTED);
            hs_http_conn_cut(conn);
        }
        break;
    case HS_HTTP_IDLE:
    case HS_HTTP_SENDING:
        hs_http_conn_cut(conn);
        break;
    }
}

static void expire_all(hs_http_server *server)
{
    int64_t now_ns = hs_clock_ns();
    if (!hs_net_loop_is_due(&server->loop, now_ns)) {
        return;
    }
    for (struct hs_http_conn *i = server->conns; i != NULL; i = i->next) {
        if (now_ns >= i->deadline_ns) {
            expire(i, now_ns);
        }
        hs_net_loop_at(&server->loop, i->deadline_ns);
    }
    hs_http_linger_expire(server, now_ns);
}

/* ---- stopping ---- */

static void drain_all(hs_http_server *server)
{
    for (struct hs_http_conn *i = server->conns; i != NULL; i = i->next) {
        if (i->phase == HS_HTTP_IDLE) {
            hs_http_conn_cut(i);
        }
    }
}

static void cut_all(hs_http_server *server)
{
    for (struct hs_http_conn *i = server->conns; i != NULL; i = i->next) {
        if (i->phase == HS_HTTP_WORKING || i->phase == HS_HTTP_STREAMING) {
            hs_http_conn_gone(i, HS_HTTP_STOPPED);
        } else if (i->phase != HS_HTTP_SENDING) {
            hs_http_conn_cut(i);
        } else {
            hs_http_conn_set_deadline(i, hs_clock_ns() + HS_NET_FLUSH_MS * HS_NET_NS_PER_MS);
        }
    }
}

static bool is_over(hs_http_server *server)
{
    enum hs_net_step step;
    while ((step = hs_net_loop_step(&server->loop, server->conns != NULL)) == HS_NET_DRAIN) {
        drain_all(server);
    }
    if (step == HS_NET_CUT) {
        cut_all(server);
    }
    return step == HS_NET_OVER;
}

/* libmicrohttpd must not be stopped with suspended connections. */
static void resume_all(hs_http_server *server)
{
    server->is_forced = true;
    for (struct hs_http_conn *i = server->conns; i != NULL; i = i->next) {
        hs_http_conn_gone(i, HS_HTTP_STOPPED);
        hs_http_conn_cut(i);
        if (i->is_suspended) {
            i->is_suspended = false;
            MHD_resume_connection(i->mhd);
        }
    }
    MHD_run(server->mhd);
    MHD_stop_daemon(server->mhd);
    server->mhd = NULL;
}

/* ---- the loop ---- */

static hs_http_request *next_ready(hs_http_server *server)
{
    pthread_mutex_lock(&server->ready_lock);
    hs_http_request *request = server->ready;
    if (request != NULL) {
        server->ready = request->ready_next;
        request->is_ready = false;
    }
    pthread_mutex_unlock(&server->ready_lock);
    return request;
}

static void resume_ready(hs_http_server *server)
{
    for (hs_http_request *i = next_ready(server); i != NULL; i = next_ready(server)) {
        struct hs_http_conn *conn = i->conn;
        pthread_mutex_lock(&i->lock);
        i->is_parked = false;
        pthread_mutex_unlock(&i->lock);
        if (conn->is_suspended) {
            conn->is_suspended = false;
            MHD_resume_connection(conn->mhd);
        }
    }
}

static void handle_event(hs_http_server *server, const struct epoll_event *event)
{
    enum hs_net_watch *watch = event->data.ptr;
    switch (*watch) {
    case HS_NET_WATCH_CONN:
        take_fin((struct hs_http_conn *)(void *)watch);
        break;
    case HS_NET_WATCH_LISTEN:
        hs_net_loop_accept(&server->loop, watch, hs_http_accept, server);
        break;
    case HS_NET_WATCH_WAKE: /* edge-triggered: the counter is never read */
        /* whoever woke this thread has more streams to wake, and may wait for its processor */
        sched_yield();
        break;
    case HS_NET_WATCH_LIBRARY:
        break;
    }
}

/* Whether libmicrohttpd has more to do at once. */
static bool run_mhd(hs_http_server *server)
{
    for (int i = 0; i < RUNS_MAX; i++) {
        MHD_UNSIGNED_LONG_LONG wait_ms;
        MHD_run(server->mhd);
        if (MHD_get_timeout(server->mhd, &wait_ms) != MHD_YES || wait_ms > 0) {
            return false;
        }
    }
    return true;
}

static bool has_news(void *arg)
{
    hs_http_server *server = arg;
    pthread_mutex_lock(&server->ready_lock);
    bool has_ready = server->ready != NULL;
    pthread_mutex_unlock(&server->ready_lock);
    return has_ready || server->is_mhd_busy;
}

void *hs_http_loop_main(void *arg)
{
    hs_http_server *server = arg;
    struct epoll_event events[EVENTS_MAX];
    while (!is_over(server)) {
        int n = hs_net_loop_wait(&server->loop, has_news, server, events, EVENTS_MAX);
        for (int i = 0; i < n; i++) {
            handle_event(server, &events[i]);
        }
        resume_ready(server);
        expire_all(server);
        server->is_mhd_busy = run_mhd(server);
    }
    resume_all(server);
    return NULL;
}
