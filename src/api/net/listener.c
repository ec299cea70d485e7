/* listener.c - sockets that listen, and who is at the other end of one. */
#include "api/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

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
static int listen_on(struct hs_listener *listener, const struct addrinfo *address)
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
    listener->fds[listener->n++] = fd;
    listener->port = listener->port == 0 ? port_of(fd) : listener->port;
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

static hs_status listen_error(int code, const char *host, int port, const char *port_flag,
                              struct hs_error *err)
{
    hs_status status = code == EADDRINUSE ? HS_BUSY : code == EACCES ? HS_PERMISSION_DENIED : HS_IO;
    hs_error_set(err, status, "cannot listen on %s, port %d: %s", host, port, strerror(code));
    if (code == EADDRINUSE) {
        return hs_error_hint(err, "stop the other program, or choose another port with %s",
                             port_flag);
    }
    return hs_error_hint(err, "check the address, and whether the port is one you may use");
}

hs_status hs_listener_open(const char *host, int port, const char *port_flag,
                           struct hs_listener *ret_listener, struct hs_error *err)
{
    bool is_any = host[0] == '\0' || strcmp(host, "*") == 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(is_any ? NULL : host, "0", &hints, &list);
    if (code != 0) {
        hs_error_set(err, code == EAI_MEMORY ? HS_OUT_OF_MEMORY : HS_NOT_FOUND,
                     "no address is known for the host '%s': %s", host, gai_strerror(code));
        return hs_error_hint(err, "give an address, such as 127.0.0.1");
    }
    struct hs_listener listener = {.port = port};
    int failed = 0;
    for (struct addrinfo *i = list; i != NULL && listener.n < HS_LISTENER_MAX; i = i->ai_next) {
        set_port(i, listener.port);
        code = listen_on(&listener, i);
        /* a machine without IPv6 still resolves names to ::1 */
        bool is_absent = code == EAFNOSUPPORT || code == EADDRNOTAVAIL;
        failed = code != 0 && (!is_absent || failed == 0) ? code : failed;
        if (code != 0 && !is_absent) {
            break;
        }
    }
    freeaddrinfo(list);
    bool is_absent = failed == EAFNOSUPPORT || failed == EADDRNOTAVAIL;
    if (listener.n == 0 || (failed != 0 && !is_absent)) {
        hs_listener_close(&listener);
        return listen_error(failed, host, port, port_flag, err);
    }
    *ret_listener = listener;
    return HS_OK;
}

void hs_listener_close(struct hs_listener *listener)
{
    for (int i = 0; i < listener->n; i++) {
        close(listener->fds[i]);
    }
    listener->n = 0;
}

void hs_peer_key(const struct sockaddr *address, unsigned char ret_key[HS_PEER_KEY_SIZE])
{
    memset(ret_key, 0, HS_PEER_KEY_SIZE);
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

void hs_peer_text(const struct sockaddr *address, socklen_t len, char ret_text[HS_PEER_TEXT_SIZE])
{
    char host[48] = "?", port[8] = "?";
    getnameinfo(address, len, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(ret_text, HS_PEER_TEXT_SIZE, address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
             host, port);
}

void hs_peer_set_options(int fd)
{
    int on = 1, idle_s = 60, interval_s = 10, n_probes = 6;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &n_probes, sizeof n_probes);
}
