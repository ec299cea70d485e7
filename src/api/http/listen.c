/* listen.c - the listening sockets, and what is let in: limits of connections in all and by
 * address.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "http_internal.h"

#define LINGER_MS 500
#define ACCEPT_BURST 64
#define ACCEPT_PAUSE_MS 100

/* ---- listening ---- */

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    char port[8] = "";
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, port, sizeof port, NI_NUMERICSERV) !=
            0) {
        return 0;
    }
    return (int)strtol(port, NULL, 10);
}

/* errno of the failure, 0: listening. */
static int listen_on(hs_http_server *server, const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int code = errno;
        close(fd);
        return code;
    }
    server->listeners[server->n_listeners++] =
        (struct hs_http_listener){.watch = HS_HTTP_WATCH_LISTEN, .fd = fd};
    server->port = server->port == 0 ? port_of(fd) : server->port;
    return 0;
}

static void set_port(struct addrinfo *address, int port)
{
    if (address->ai_family == AF_INET) {
        ((struct sockaddr_in *)(void *)address->ai_addr)->sin_port = htons((uint16_t)port);
    } else if (address->ai_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)address->ai_addr)->sin6_port = htons((uint16_t)port);
    }
}

static hs_status listen_error(int code, const char *host, int port, struct hs_error *err)
{
    hs_status status = code == EADDRINUSE ? HS_BUSY : code == EACCES ? HS_PERMISSION_DENIED : HS_IO;
    hs_error_set(err, status, "cannot listen on %s, port %d: %s", host, port, strerror(code));
    if (code == EADDRINUSE) {
        return hs_error_hint(err, "stop the other program, or choose another port with --port");
    }
    return hs_error_hint(err, "check the address, and whether the port is one you may use");
}

hs_status hs_http_listen(hs_http_server *server, struct hs_error *err)
{
    const char *host = server->config.host;
    bool is_any = host[0] == '\0' || strcmp(host, "*") == 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(is_any ? NULL : host, "0", &hints, &list);
    if (code != 0) {
        hs_error_set(err, code == EAI_MEMORY ? HS_OUT_OF_MEMORY : HS_NOT_FOUND,
                     "no address is known for the host '%s': %s", host, gai_strerror(code));
        return hs_error_hint(err, "give an address, such as 127.0.0.1");
    }
    server->port = server->config.port;
    int failed = 0;
    for (struct addrinfo *i = list; i != NULL && server->n_listeners < HS_HTTP_LISTEN_MAX;
         i = i->ai_next) {
        set_port(i, server->port);
        code = listen_on(server, i);
        /* a machine without IPv6 still resolves names to ::1 */
        bool is_absent = code == EAFNOSUPPORT || code == EADDRNOTAVAIL;
        failed = code != 0 && (!is_absent || failed == 0) ? code : failed;
        if (code != 0 && !is_absent) {
            break;
        }
    }
    freeaddrinfo(list);
    bool is_absent = failed == EAFNOSUPPORT || failed == EADDRNOTAVAIL;
    if (server->n_listeners == 0 || (failed != 0 && !is_absent)) {
        return listen_error(failed, host, server->config.port, err);
    }
    return HS_OK;
}

/* ---- accepting ---- */

/* An IPv4 address whole, of an IPv6 one the network: what one party has. */
static void address_key(const struct sockaddr *address, unsigned char ret_key[16])
{
    memset(ret_key, 0, 16);
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        ret_key[10] = ret_key[11] = 0xFF;
        memcpy(ret_key + 12, &v4.sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        bool is_mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
        memcpy(ret_key, v6.sin6_addr.s6_addr, is_mapped ? 16 : 8);
    }
}

static void peer_text(const struct sockaddr *address, socklen_t len, char ret[64])
{
    char host[48] = "?", port[8] = "?";
    getnameinfo(address, len, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(ret, 64, address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static bool has_room(const hs_http_server *server, const unsigned char key[16])
{
    const struct hs_http_limits *limits = &server->config.limits;
    if (atomic_load(&server->n_open) >= limits->connections) {
        return false;
    }
    int n = 0;
    for (const struct hs_http_conn *i = server->conns; i != NULL; i = i->next) {
        n += memcmp(i->address, key, 16) == 0;
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
    int64_t deadline = hs_clock_ns() + LINGER_MS * HS_HTTP_NS_PER_MS;
    server->lingering[server->n_lingering].fd = fd;
    server->lingering[server->n_lingering++].deadline_ns = deadline;
    if (deadline < server->next_deadline_ns) {
        server->next_deadline_ns = deadline;
    }
}

void hs_http_linger_expire(hs_http_server *server, int64_t now_ns)
{
    for (int i = 0; i < server->n_lingering;) {
        if (server->lingering[i].deadline_ns <= now_ns) {
            close(server->lingering[i].fd);
            server->lingering[i] = server->lingering[--server->n_lingering];
        } else {
            if (server->lingering[i].deadline_ns < server->next_deadline_ns) {
                server->next_deadline_ns = server->lingering[i].deadline_ns;
            }
            i++;
        }
    }
}

static void set_socket_options(int fd)
{
    int on = 1, idle_s = 60, interval_s = 10, n_probes = 6;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* a client whose machine vanished sends no FIN */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &n_probes, sizeof n_probes);
}

static void admit(hs_http_server *server, int fd, const struct sockaddr *address, socklen_t len,
                  const unsigned char key[16])
{
    struct hs_http_conn *conn = hs_calloc(1, sizeof *conn);
    /* edge-triggered and for the end only: data that arrives wakes nobody here */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = conn};
    if (conn == NULL || epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        hs_free(conn);
        close(fd);
        return;
    }
    *conn = (struct hs_http_conn){.watch = HS_HTTP_WATCH_CONN, .server = server, .fd = fd};
    memcpy(conn->address, key, 16);
    peer_text(address, len, conn->peer);
    set_socket_options(fd);
    conn->next = server->conns;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    atomic_fetch_add(&server->n_open, 1);
    hs_http_conn_set_deadline(conn,
                              hs_clock_ns() + server->config.limits.idle_ms * HS_HTTP_NS_PER_MS);
    server->accepting = conn;
    /* it takes the descriptor, also when it fails; then `accepting` says whether it told us */
    if (MHD_add_connection(server->mhd, fd, address, len) != MHD_YES && server->accepting != NULL) {
        hs_log(HS_LOG_WARN, "http", "a connection of %s could not be taken", conn->peer);
        void *context = conn;
        hs_http_on_connection(server, NULL, &context, MHD_CONNECTION_NOTIFY_CLOSED);
    }
    server->accepting = NULL;
}

void hs_http_accept_pause(hs_http_server *server, int64_t until_ns)
{
    server->accept_at_ns = until_ns;
    for (int i = 0; i < server->n_listeners; i++) {
        struct epoll_event event = {.events = until_ns == 0 ? EPOLLIN : 0,
                                    .data.ptr = &server->listeners[i]};
        epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listeners[i].fd, &event);
    }
    if (until_ns != 0 && until_ns < server->next_deadline_ns) {
        server->next_deadline_ns = until_ns;
    }
}

void hs_http_accept(hs_http_server *server, int listen_fd)
{
    for (int i = 0; i < ACCEPT_BURST; i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        int fd =
            accept4(listen_fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            bool is_passing = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
            if (!is_passing) {
                hs_log(HS_LOG_WARN, "http", "cannot accept a connection: %s", strerror(errno));
                /* out of descriptors: the socket stays readable, so asking at once would spin */
                hs_http_accept_pause(server, hs_clock_ns() + ACCEPT_PAUSE_MS * HS_HTTP_NS_PER_MS);
            }
            return;
        }
        unsigned char key[16];
        address_key((const struct sockaddr *)&address, key);
        if (has_room(server, key)) {
            admit(server, fd, (const struct sockaddr *)&address, len, key);
        } else {
            refuse_connection(server, fd);
        }
    }
}
