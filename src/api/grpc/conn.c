/* conn.c - a connection: its bytes, its deadlines, its end. */
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc_internal.h"

#define RECORD_BYTES (16u << 10)
/* One connection reads and writes so often before others have a turn. */
#define ROUNDS_MAX 16
/* Between "no new calls, please" and the number of the last one that is answered. */
#define GOAWAY_MS 100
#define RATE_MS 60000

bool hs_grpc_rate_count(struct hs_grpc_rate *rate, int max)
{
    int64_t now_ns = hs_clock_ns();
    if (rate->n == 0 || now_ns - rate->since_ns >= RATE_MS * HS_NET_NS_PER_MS) {
        *rate = (struct hs_grpc_rate){.since_ns = now_ns};
    }
    return ++rate->n <= max;
}

/* ---- life ---- */

static bool prepare(struct hs_grpc_conn *conn)
{
    conn->out = hs_calloc(1, sizeof *conn->out);
    if (conn->out == NULL || hs_grpc_session_open(conn) != 0) {
        return false;
    }
    if (conn->server->tls == NULL) {
        conn->is_secured = true;
        return true;
    }
    conn->record = hs_alloc(RECORD_BYTES);
    conn->ssl = SSL_new(conn->server->tls);
    return conn->record != NULL && conn->ssl != NULL && SSL_set_fd(conn->ssl, conn->fd) == 1;
}

static bool has_room(const hs_grpc_server *server, const unsigned char key[HS_PEER_KEY_SIZE])
{
    const struct hs_grpc_limits *limits = &server->config.limits;
    if (atomic_load(&server->n_open) >= limits->connections) {
        return false;
    }
    int n = 0;
    for (const struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        n += memcmp(i->address, key, HS_PEER_KEY_SIZE) == 0;
    }
    return n < limits->connections_per_address;
}

static void open_conn(hs_grpc_server *server, int fd, const struct sockaddr *address, socklen_t len)
{
    struct hs_grpc_conn *conn = hs_calloc(1, sizeof *conn);
    if (conn == NULL) {
        close(fd);
        return;
    }
    int64_t now_ns = hs_clock_ns();
    *conn = (struct hs_grpc_conn){.watch = HS_NET_WATCH_CONN,
                                  .server = server,
                                  .id = ++server->last_conn_id,
                                  .fd = fd,
                                  .events = EPOLLIN,
                                  .opened_ns = now_ns,
                                  .read_ns = now_ns,
                                  .idle_ns = now_ns};
    hs_peer_key(address, conn->address);
    hs_peer_text(address, len, conn->peer);
    hs_peer_set_options(fd);
    conn->next = server->conns;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    atomic_fetch_add(&server->n_open, 1);
    struct epoll_event event = {.events = conn->events, .data.ptr = conn};
    if (!prepare(conn) || epoll_ctl(server->loop.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        hs_log(HS_LOG_WARN, "grpc", "a connection of %s could not be taken", conn->peer);
        hs_grpc_conn_destroy(conn);
        return;
    }
    hs_net_loop_at(&server->loop, 0); /* its deadlines */
}

void hs_grpc_conn_destroy(struct hs_grpc_conn *conn)
{
    hs_grpc_server *server = conn->server;
    while (conn->calls != NULL) {
        hs_grpc_call_detach(conn->calls);
    }
    if (conn->out != NULL) {
        hs_grpc_out_free(conn->out);
    }
    nghttp2_session_del(conn->session);
    SSL_free(conn->ssl);
    close(conn->fd);
    *(conn->prev != NULL ? &conn->prev->next : &server->conns) = conn->next;
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    if (server->config.on_disconnect != NULL) {
        server->config.on_disconnect(conn->id, server->config.user);
    }
    atomic_fetch_sub(&server->n_open, 1);
    hs_free(conn->out);
    hs_free(conn->record);
    hs_free(conn);
}

void hs_grpc_conn_accept(void *arg, int fd, const struct sockaddr *address, socklen_t len)
{
    hs_grpc_server *server = arg;
    unsigned char key[HS_PEER_KEY_SIZE];
    hs_peer_key(address, key);
    if (has_room(server, key)) {
        open_conn(server, fd, address, len);
    } else {
        atomic_fetch_add(&server->n_refused, 1);
        close(fd);
    }
}

void hs_grpc_conn_touch(struct hs_grpc_conn *conn)
{
    if (!conn->is_dirty) {
        conn->is_dirty = true;
        conn->dirty_next = conn->server->dirty;
        conn->server->dirty = conn;
    }
}

static void cut_after(struct hs_grpc_conn *conn, int64_t ms)
{
    conn->cut_ns = hs_clock_ns() + ms * HS_NET_NS_PER_MS;
    hs_net_loop_at(&conn->server->loop, conn->cut_ns);
}

void hs_grpc_conn_end(struct hs_grpc_conn *conn, uint32_t error)
{
    if (!conn->is_leaving || error != NGHTTP2_NO_ERROR) {
        conn->is_leaving = true;
        if (nghttp2_session_terminate_session(conn->session, error) != 0) {
            conn->is_dead = true;
        }
    }
    if (conn->cut_ns == 0) {
        cut_after(conn, HS_NET_FLUSH_MS);
    }
    hs_grpc_conn_touch(conn);
}

void hs_grpc_conn_punish(struct hs_grpc_conn *conn, const char *what)
{
    if (conn->cut_ns == 0) {
        atomic_fetch_add(&conn->server->n_cut, 1);
        hs_log(HS_LOG_INFO, "grpc", "the connection of %s ends: %s", conn->peer, what);
        hs_grpc_conn_end(conn, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

void hs_grpc_conn_drain(struct hs_grpc_conn *conn)
{
    if (!conn->has_settings) {
        conn->is_dead = true;
    } else if (nghttp2_submit_shutdown_notice(conn->session) == 0) {
        conn->goaway_ns = hs_clock_ns() + GOAWAY_MS * HS_NET_NS_PER_MS;
        hs_net_loop_at(&conn->server->loop, conn->goaway_ns);
    } else {
        conn->is_dead = true;
    }
    hs_grpc_conn_touch(conn);
}

/* ---- bytes ---- */

/* All is said. Closing at once could lose it: bytes of the client that nobody read reset the
 * connection. */
static void close_gently(struct hs_grpc_conn *conn)
{
    conn->is_closing = true;
    if (conn->ssl != NULL) {
        SSL_shutdown(conn->ssl);
    }
    shutdown(conn->fd, SHUT_WR);
    if (conn->cut_ns == 0) {
        cut_after(conn, HS_NET_FLUSH_MS);
    }
}

/* Somebody speaks another protocol; HTTP/1 is told so. */
static void refuse_protocol(struct hs_grpc_conn *conn)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 40\r\nConnection: close\r\n\r\n"
                               "this port speaks gRPC over HTTP/2 only.\n";
    conn->is_dead = true;
    if (conn->ssl == NULL && send(conn->fd, text, sizeof text - 1, MSG_NOSIGNAL) > 0) {
        conn->is_dead = false;
        close_gently(conn);
    }
}

static void take_input(struct hs_grpc_conn *conn, const uint8_t *data, size_t size)
{
    conn->read_ns = hs_clock_ns();
    conn->has_spoken = true;
    atomic_fetch_add(&conn->server->bytes_in, size);
    if (conn->is_closing) {
        return;
    }
    ssize_t code = nghttp2_session_mem_recv(conn->session, data, size);
    if (code == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
        refuse_protocol(conn);
    } else if (code == NGHTTP2_ERR_FLOODED) {
        hs_grpc_conn_punish(conn, "it takes no answers");
    } else if (code < 0) {
        hs_log(HS_LOG_INFO, "grpc", "the connection of %s ends: %s", conn->peer,
               nghttp2_strerror((int)code));
        conn->is_dead = true;
    }
}

static void read_all(struct hs_grpc_conn *conn)
{
    conn->has_input = false;
    for (int i = 0; i < ROUNDS_MAX && !conn->is_dead; i++) {
        ssize_t n = hs_grpc_io_read(conn, conn->server->input, HS_GRPC_READ_BYTES);
        if (n == 0) {
            return;
        }
        if (n < 0) {
            conn->is_dead = true;
            return;
        }
        take_input(conn, conn->server->input, (size_t)n);
        if (conn->ssl == NULL && n < (ssize_t)HS_GRPC_READ_BYTES) {
            return; /* that was all; TLS gives one record at a time */
        }
    }
    conn->has_input = true;
}

void hs_grpc_conn_event(struct hs_grpc_conn *conn, uint32_t events)
{
    hs_grpc_conn_touch(conn);
    if (conn->is_dead) {
        return;
    }
    if (!conn->is_secured && !hs_grpc_tls_handshake(conn)) {
        conn->is_dead = true;
    } else if (conn->is_secured && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        read_all(conn);
    }
}

/* Write all there is; whether the socket takes no more. */
static bool write_all(struct hs_grpc_conn *conn)
{
    while (!hs_grpc_out_is_empty(conn->out)) {
        ssize_t n = hs_grpc_io_write(conn);
        if (n <= 0) {
            conn->is_dead = n < 0;
            return true;
        }
    }
    return false;
}

static void watch(struct hs_grpc_conn *conn, bool is_blocked)
{
    bool wants_input = conn->is_closing || nghttp2_session_want_read(conn->session) != 0;
    uint32_t events = (wants_input ? EPOLLIN : 0u) | (is_blocked ? EPOLLOUT : 0u);
    if (events != conn->events) {
        struct epoll_event event = {.events = events, .data.ptr = conn};
        epoll_ctl(conn->server->loop.epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
        conn->events = events;
    }
}

void hs_grpc_conn_flush(struct hs_grpc_conn *conn)
{
    bool is_blocked = false;
    if (conn->has_input) {
        read_all(conn);
    }
    for (int i = 0; conn->has_spoken && !conn->is_closing && !conn->is_dead && !is_blocked; i++) {
        if (i == ROUNDS_MAX) {
            hs_grpc_conn_touch(conn);
            break;
        }
        if (nghttp2_session_send(conn->session) != 0) {
            conn->is_dead = true;
        } else if (hs_grpc_out_is_empty(conn->out)) {
            break;
        } else {
            is_blocked = write_all(conn);
        }
    }
    if (conn->is_dead || !conn->has_spoken) {
        return;
    }
    if (!conn->is_closing && hs_grpc_out_is_empty(conn->out) &&
        nghttp2_session_want_read(conn->session) == 0 &&
        nghttp2_session_want_write(conn->session) == 0) {
        close_gently(conn);
    }
    if (conn->has_input) {
        hs_grpc_conn_touch(conn);
    }
    watch(conn, is_blocked);
}

/* ---- time ---- */

static int64_t min_ns(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Ping a silent client; when to look again. */
static int64_t keep_alive(struct hs_grpc_conn *conn, int64_t now_ns)
{
    const struct hs_grpc_limits *limits = &conn->server->config.limits;
    if (conn->pinged_ns != 0) {
        int64_t end_ns = conn->pinged_ns + limits->keepalive_wait_ms * HS_NET_NS_PER_MS;
        conn->is_dead = conn->is_dead || now_ns >= end_ns;
        return end_ns;
    }
    int64_t ping_ns = conn->read_ns + limits->keepalive_ms * HS_NET_NS_PER_MS;
    if (now_ns < ping_ns) {
        return ping_ns;
    }
    conn->pinged_ns = now_ns;
    conn->is_dead = nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL) != 0;
    hs_grpc_conn_touch(conn);
    return now_ns + limits->keepalive_wait_ms * HS_NET_NS_PER_MS;
}

/* Name the last call that is answered. */
static void say_last_call(struct hs_grpc_conn *conn)
{
    int32_t last = nghttp2_session_get_last_proc_stream_id(conn->session);
    conn->goaway_ns = 0;
    conn->is_leaving = true;
    conn->is_dead = nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR,
                                          NULL, 0) != 0;
    hs_grpc_conn_touch(conn);
}

int64_t hs_grpc_conn_expire(struct hs_grpc_conn *conn, int64_t now_ns)
{
    const struct hs_grpc_limits *limits = &conn->server->config.limits;
    int64_t next_ns = HS_NET_NEVER;
    if (conn->cut_ns != 0) {
        conn->is_dead = conn->is_dead || now_ns >= conn->cut_ns;
        next_ns = conn->cut_ns;
    } else if (!conn->has_settings) {
        next_ns = conn->opened_ns + limits->handshake_ms * HS_NET_NS_PER_MS;
        conn->is_dead = conn->is_dead || now_ns >= next_ns;
    } else {
        next_ns = keep_alive(conn, now_ns);
        if (conn->n_calls == 0 && !conn->is_leaving) {
            int64_t idle_ns = conn->idle_ns + limits->idle_ms * HS_NET_NS_PER_MS;
            if (now_ns >= idle_ns) {
                hs_grpc_conn_end(conn, NGHTTP2_NO_ERROR);
            }
            next_ns = min_ns(next_ns, idle_ns);
        }
    }
    if (conn->goaway_ns != 0) {
        if (now_ns >= conn->goaway_ns) {
            say_last_call(conn);
        } else {
            next_ns = min_ns(next_ns, conn->goaway_ns);
        }
    }
    for (hs_grpc_call *i = conn->calls; i != NULL; i = i->next) {
        next_ns = min_ns(next_ns, hs_grpc_call_expire(i, now_ns));
    }
    if (conn->is_dead) {
        hs_grpc_conn_touch(conn);
    }
    return next_ns;
}
