/*
 * listener.h - what servers need of sockets before they read a byte: listening, and who called.
 *
 * Threads: no state.
 */
#ifndef API_LISTENER_H
#define API_LISTENER_H

#include <sys/socket.h>

#include "hyprstream.h"

#define HS_LISTENER_MAX 8
#define HS_PEER_KEY_SIZE 16
#define HS_PEER_TEXT_SIZE 64

struct hs_listener {
    int fds[HS_LISTENER_MAX]; /* non-blocking */
    int n;
    int port;
};

/*
 * Listen on every address of `host` ("" and "*": all interfaces); port 0: one that is free, the
 * same for all. `port_flag` is what the hint names when the port is taken. Errors: HS_BUSY,
 * HS_PERMISSION_DENIED, HS_NOT_FOUND (host), HS_IO, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_listener_open(const char *host, int port, const char *port_flag,
                                      struct hs_listener *ret_listener, struct hs_error *err);
void hs_listener_close(struct hs_listener *listener);

/* What connections are counted by: an IPv4 address whole, of an IPv6 one the network, which is what
 * one party has. */
void hs_peer_key(const struct sockaddr *address, unsigned char ret_key[HS_PEER_KEY_SIZE]);
/* "127.0.0.1:4711", "[::1]:4711" */
void hs_peer_text(const struct sockaddr *address, socklen_t len, char ret_text[HS_PEER_TEXT_SIZE]);
/* No delay; probes that find out when a client's machine vanished. */
void hs_peer_set_options(int fd);

#endif
