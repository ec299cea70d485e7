/*
 * net_loop.h - what the transport threads of the servers share: listening sockets and who is let
 * in, waking up, deadlines, and the steps of stopping. What a connection is, the server knows.
 *
 * Threads: signal and stop are for any thread; the rest is of the thread that opens the loop until
 * that starts the transport thread, and then of the transport thread.
 */
#ifndef API_NET_LOOP_H
#define API_NET_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "api/listener.h"

#define HS_NET_NEVER INT64_MAX
#define HS_NET_NS_PER_MS INT64_C(1000000)
/* How long a connection that is to end may take to send what it has. */
#define HS_NET_FLUSH_MS 2000

/* What an epoll event is about; first member of whatever is watched. */
enum hs_net_watch {
    HS_NET_WATCH_CONN,
    HS_NET_WATCH_LISTEN,
    HS_NET_WATCH_WAKE,
    HS_NET_WATCH_LIBRARY
};

struct hs_net_loop {
    const char *name; /* of the server, in the log; static */
    int port;
    pthread_t thread;
    bool has_thread;

    int epoll_fd, wake_fd;
    enum hs_net_watch watch_wake;
    struct hs_net_acceptor {
        enum hs_net_watch watch;
        int fd;
    } acceptors[HS_LISTENER_MAX];
    int n_acceptors;
    int64_t next_deadline_ns;         /* nothing has an earlier one */
    int64_t accept_at_ns, stop_at_ns; /* accept_at_ns 0: accepting */
    bool is_draining, is_cutting;

    atomic_bool is_signalled, is_stopping, is_joined;
    atomic_llong drain_ms;
};

/* A connection was accepted: `fd` is the server's, `address` its own only for the call. */
typedef void (*hs_net_accepted)(void *server, int fd, const struct sockaddr *address,
                                socklen_t len);

/* Before all others; hs_net_loop_close works from then on. */
void hs_net_loop_init(struct hs_net_loop *loop, const char *name);
/* Listen, as hs_listener_open does, and watch what is to be watched. Errors: its own, HS_IO. */
HS_CHECKED hs_status hs_net_loop_open(struct hs_net_loop *loop, const char *host, int port,
                                      const char *port_flag, struct hs_error *err);
/* Have epoll watch one more; `watched` begins with an enum hs_net_watch. Errors: HS_IO. */
HS_CHECKED hs_status hs_net_loop_watch(struct hs_net_loop *loop, int fd, uint32_t events,
                                       void *watched, struct hs_error *err);
/* Start the transport thread. Errors: of the system. */
HS_CHECKED hs_status hs_net_loop_start(struct hs_net_loop *loop, void *(*run)(void *), void *server,
                                       struct hs_error *err);
/* Have the transport thread look at what changed. */
void hs_net_loop_signal(struct hs_net_loop *loop);
/* Drain, cut and join; the first call counts, whoever makes it. */
void hs_net_loop_stop(struct hs_net_loop *loop, int64_t drain_ms);
/* Close what is open; the thread, if there was one, has ended. */
void hs_net_loop_close(struct hs_net_loop *loop);

/* ---- of the transport thread ---- */

/* Have it look at the clock then. */
void hs_net_loop_at(struct hs_net_loop *loop, int64_t deadline_ns);
/*
 * Wait for events, a signal or a deadline; the number of events. Whoever has something for the
 * thread need not signal while it is awake: has_news(server), asked before it sleeps, says whether
 * there is something.
 */
int hs_net_loop_wait(struct hs_net_loop *loop, bool (*has_news)(void *server), void *server,
                     struct epoll_event *ret_events, int max);
/* Accept what waits at a listening socket of which there is an event; nothing while stopping. Out
 * of descriptors it pauses. */
void hs_net_loop_accept(struct hs_net_loop *loop, const enum hs_net_watch *watched,
                        hs_net_accepted accepted, void *server);
/* Whether a deadline came. Then the server says all of its own again with hs_net_loop_at. */
bool hs_net_loop_is_due(struct hs_net_loop *loop, int64_t now_ns);

enum hs_net_step {
    HS_NET_GO_ON,
    HS_NET_DRAIN, /* once: let nobody begin anything; ask again */
    HS_NET_CUT,   /* once: the time to drain is over; end what is left */
    HS_NET_OVER   /* the thread ends, and with it what connections there still are */
};
/* What stopping asks of the server now. */
enum hs_net_step hs_net_loop_step(struct hs_net_loop *loop, bool has_conns);

#endif
