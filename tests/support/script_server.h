/*
 * script_server.h - a server on this machine that answers connections from a script, well or badly,
 * and keeps what it was sent.
 *
 * Threads: one of its own; the requests may be looked at once their answer came.
 */
#ifndef SUPPORT_SCRIPT_SERVER_H
#define SUPPORT_SCRIPT_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#define SCRIPT_REQUESTS_MAX 32

struct script_reply {
    const char *text; /* head and body as they go over the wire */
    bool holds;       /* the connection stays open until the client leaves */
};

struct script_server {
    int port;
    int listen_fd;
    const struct script_reply *replies; /* one a connection, the last one again and again */
    size_t n_replies;
    size_t n_requests;
    char *requests[SCRIPT_REQUESTS_MAX]; /* head and body */
    bool has_left[SCRIPT_REQUESTS_MAX];  /* of replies that hold: the client went away */
    unsigned long thread;
};

/* false: it could not listen. */
bool script_server_start(struct script_server *server, const struct script_reply *replies,
                         size_t n_replies);
/* Waits for the connection under way. */
void script_server_stop(struct script_server *server);

/* A head for a body whose end is the connection's. */
#define SCRIPT_HEAD(status, type) "HTTP/1.1 " status "\r\nContent-Type: " type "\r\n\r\n"
#define SCRIPT_JSON(status) SCRIPT_HEAD(status, "application/json")
#define SCRIPT_EVENTS SCRIPT_HEAD("200 OK", "text/event-stream")

#endif
