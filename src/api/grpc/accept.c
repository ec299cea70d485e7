/* accept.c - the listening sockets, and what is let in: limits of connections in all and by
 * address. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "grpc_internal.h"

#define ACCEPT_BURST 64
#define ACCEPT_PAUSE_MS 100

hs_status hs_grpc_listen(hs_grpc_server *server, struct hs_error *err)
{
    struct hs_listener listener;
    hs_status status =
        hs_listener_open(server->config.host, server->config.port, "--flight-port", &listener, err);
    if (status != HS_OK) {
        return status;
    }
    server->port = listener.port;
    server->n_acceptors = listener.n;
    for (int i = 0; i < listener.n; i++) {
        server->acceptors[i] = (struct hs_grpc_acceptor){HS_GRPC_WATCH_LISTEN, listener.fds[i]};
    }
    return HS_OK;
}

static bool has_room(const hs_grpc_server *server, const struct sockaddr *address)
{
    const struct hs_grpc_limits *limits = &server->config.limits;
    if (atomic_load(&server->n_open) >= limits->connections) {
        return false;
    }
    unsigned char key[HS_PEER_KEY_SIZE];
    hs_peer_key(address, key);
    int n = 0;
    for (const struct hs_grpc_conn *i = server->conns; i != NULL; i = i->next) {
        n += memcmp(i->address, key, sizeof key) == 0;
    }
    return n < limits->connections_per_address;
}

void hs_grpc_accept_pause(hs_grpc_server *server, int64_t until_ns)
{
    server->accept_at_ns = until_ns;
    for (int i = 0; i < server->n_acceptors; i++) {
        struct epoll_event event = {.events = until_ns == 0 ? EPOLLIN : 0,
                                    .data.ptr = &server->acceptors[i]};
        epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->acceptors[i].fd, &event);
    }
    if (until_ns != 0) {
        hs_grpc_loop_at(server, until_ns);
    }
}

void hs_grpc_accept(hs_grpc_server *server, int listen_fd)
{
    for (int i = 0; i < ACCEPT_BURST; i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        int fd =
            accept4(listen_fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            bool is_passing = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
            if (!is_passing) {
                hs_log(HS_LOG_WARN, "grpc", "cannot accept a connection: %s", strerror(errno));
                /* out of descriptors: the socket stays readable, so asking at once would spin */
                hs_grpc_accept_pause(server, hs_clock_ns() + ACCEPT_PAUSE_MS * HS_GRPC_NS_PER_MS);
            }
            return;
        }
        if (has_room(server, (const struct sockaddr *)&address)) {
            hs_grpc_conn_open(server, fd, (const struct sockaddr *)&address, len);
        } else {
            atomic_fetch_add(&server->n_refused, 1);
            close(fd);
        }
    }
}
