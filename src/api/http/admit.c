/* admit.c - what is let in: limits of connections in all and by address. */
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "http_internal.h"

#define LINGER_MS 500

static bool has_room(const hs_http_server *server, const unsigned char key[HS_PEER_KEY_SIZE])
{
    const struct hs_http_limits *limits = &server->config.limits;
    if (atomic_load(&server->n_open) >= limits->connections) {
        return false;
    }
    int n = 0;
    for (const struct hs_http_conn *i = server->conns; i != NULL; i = i->next) {
        n += memcmp(i->address, key, HS_PEER_KEY_SIZE) == 0;
    }
    return n < limits->connections_per_address;
}

/* Says why, where that can be said, and leaves the client time to read it. */
static void refuse_connection(hs_http_server *server, int fd)
{
    static const char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        "Content-Length: 109\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        "{\"error\":{\"message\":\"too many connections\",\"type\":\"server_error\","
        "\"param\":null,\"code\":\"too_many_connections\"}}";
    atomic_fetch_add(&server->n_refused, 1);
    bool is_plain = server->certificate.len == 0;
    if (!is_plain || server->n_lingering == HS_HTTP_LINGER_MAX ||
        send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        close(fd);
        return;
    }
    shutdown(fd, SHUT_WR);
    int64_t deadline = hs_clock_ns() + LINGER_MS * HS_NET_NS_PER_MS;
    server->lingering[server->n_lingering].fd = fd;
    server->lingering[server->n_lingering++].deadline_ns = deadline;
    hs_net_loop_at(&server->loop, deadline);
}

void hs_http_linger_expire(hs_http_server *server, int64_t now_ns)
{
    for (int i = 0; i < server->n_lingering;) {
        if (server->lingering[i].deadline_ns <= now_ns) {
            close(server->lingering[i].fd);
            server->lingering[i] = server->lingering[--server->n_lingering];
        } else {
            hs_net_loop_at(&server->loop, server->lingering[i++].deadline_ns);
        }
    }
}

static void admit(hs_http_server *server, int fd, const struct sockaddr *address, socklen_t len,
                  const unsigned char key[HS_PEER_KEY_SIZE])
{
    struct hs_http_conn *conn = hs_calloc(1, sizeof *conn);
    /* edge-triggered and for the end only: data that arrives wakes nobody here */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = conn};
    if (conn == NULL || epoll_ctl(server->loop.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        hs_free(conn);
        close(fd);
        return;
    }
    *conn = (struct hs_http_conn){.watch = HS_NET_WATCH_CONN, .server = server, .fd = fd};
    memcpy(conn->address, key, HS_PEER_KEY_SIZE);
    hs_peer_text(address, len, conn->peer);
    hs_peer_set_options(fd);
    conn->next = server->conns;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    atomic_fetch_add(&server->n_open, 1);
    hs_http_conn_set_deadline(conn,
                              hs_clock_ns() + server->config.limits.idle_ms * HS_NET_NS_PER_MS);
    server->accepting = conn;
    /* it takes the descriptor, also when it fails; then `accepting` says whether it told us */
    if (MHD_add_connection(server->mhd, fd, address, len) != MHD_YES && server->accepting != NULL) {
        hs_log(HS_LOG_WARN, "http", "a connection of %s could not be taken", conn->peer);
        void *context = conn;
        hs_http_on_connection(server, NULL, &context, MHD_CONNECTION_NOTIFY_CLOSED);
    }
    server->accepting = NULL;
}

void hs_http_accept(void *arg, int fd, const struct sockaddr *address, socklen_t len)
{
    hs_http_server *server = arg;
    unsigned char key[HS_PEER_KEY_SIZE];
    hs_peer_key(address, key);
    if (has_room(server, key)) {
        admit(server, fd, address, len, key);
    } else {
        refuse_connection(server, fd);
    }
}
