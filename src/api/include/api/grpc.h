/*
 * grpc.h - a gRPC server over HTTP/2: connections, calls, messages. It knows neither Arrow nor SQL.
 *
 * A call is run by a blocking handler on a thread of a bounded pool, never on the transport thread.
 * Both directions hold at most two whole messages for a call: hs_grpc_call_send waits for room, and
 * a client that sends ahead of hs_grpc_call_recv runs out of its window. A call is "over" when its
 * client cancelled it or went away, its deadline passed, it broke a limit or the server stops:
 * waiting functions then return at once, and nothing that is sent or returned later leaves.
 *
 * Messages are not compressed. Metadata whose names end in "-bin" is handed on as it came.
 *
 * Owner:   a call belongs to the server; it is valid for its handler until that returns.
 * Threads: functions of a call belong to its handler, one thread at a time; hs_grpc_call_is_over
 *          and, until the handler returns, hs_grpc_call_fail may be called from any thread. What
 *          hs_grpc_call_on_over names runs on the transport thread, as does on_disconnect; release
 *          of a message on any.
 * Source:  RFC 9113; gRPC over HTTP/2 (PROTOCOL-HTTP2.md); CVE-2023-44487, CVE-2024-28182,
 *          CVE-2019-9511 to 9518 for the limits.
 */
#ifndef API_GRPC_H
#define API_GRPC_H

#include "hyprstream.h"

enum hs_grpc_code {
    HS_GRPC_OK = 0,
    HS_GRPC_CANCELLED,
    HS_GRPC_UNKNOWN,
    HS_GRPC_INVALID_ARGUMENT,
    HS_GRPC_DEADLINE_EXCEEDED,
    HS_GRPC_NOT_FOUND,
    HS_GRPC_ALREADY_EXISTS,
    HS_GRPC_PERMISSION_DENIED,
    HS_GRPC_RESOURCE_EXHAUSTED,
    HS_GRPC_FAILED_PRECONDITION,
    HS_GRPC_ABORTED,
    HS_GRPC_OUT_OF_RANGE,
    HS_GRPC_UNIMPLEMENTED,
    HS_GRPC_INTERNAL,
    HS_GRPC_UNAVAILABLE,
    HS_GRPC_DATA_LOSS,
    HS_GRPC_UNAUTHENTICATED
};

typedef struct hs_grpc_server hs_grpc_server;
typedef struct hs_grpc_call hs_grpc_call;

/* ---- server ---- */

/* Returns the status of the call; hs_grpc_call_fail gives it a text. `user` is that of the
 * configuration. */
typedef enum hs_grpc_code (*hs_grpc_handler)(hs_grpc_call *call, void *user);

struct hs_grpc_method {
    const char *path; /* "/package.Service/Method" */
    hs_grpc_handler handler;
};

/* Each is enforced exactly: N passes, N + 1 does not. hs_grpc_limits_defaults fills them. */
struct hs_grpc_limits {
    int connections;             /* open at once; one more is closed (512) */
    int connections_per_address; /* likewise, for one IPv4 address or IPv6 /64 (512) */
    int streams;                 /* calls at once on a connection; one more is refused (100) */
    int queued_calls;            /* waiting for a thread; one more is RESOURCE_EXHAUSTED (256) */
    size_t message_bytes;        /* of one message, either way; RESOURCE_EXHAUSTED (64 MiB) */
    size_t received_bytes;       /* received and not yet read, of all calls together; the call that
                                    needs more is RESOURCE_EXHAUSTED (1 GiB) */
    size_t header_bytes;       /* of a call's metadata, each with 32 bytes on top, as HPACK counts;
                                  RESOURCE_EXHAUSTED (16 KiB) */
    int resets_per_minute;     /* calls reset by one connection; more ends it (1000) */
    int control_per_minute;    /* pings, settings, empty frames ... of one connection between
                                  which nothing else was sent; more ends it (1000) */
    int64_t handshake_ms;      /* to the end of TLS and the client's first settings (10 s) */
    int64_t idle_ms;           /* a connection without calls (10 min) */
    int64_t stall_ms;          /* a call that waits for its client to take or send (10 min) */
    int64_t keepalive_ms;      /* silence of a connection before it is pinged (60 s), */
    int64_t keepalive_wait_ms; /* and before it is closed when it does not answer (20 s) */
};
void hs_grpc_limits_defaults(struct hs_grpc_limits *ret_limits);

struct hs_grpc_config {
    const char *host; /* address or name; every address it resolves to is listened on */
    int port;         /* 0: the system chooses, see hs_grpc_server_port */
    const char *tls_cert_file, *tls_key_file; /* PEM; both or neither */
    struct hs_grpc_limits limits;
    int n_workers;                        /* threads at most, each with one call in hand; 0: 64 */
    const struct hs_grpc_method *methods; /* borrowed */
    size_t n_methods;
    /* NULL, or called once for each connection that ended, after its calls got over (their handlers
     * may still run); must not block. */
    void (*on_disconnect)(uint64_t connection_id, void *user);
    void *user; /* for handlers and on_disconnect */
};
/* 127.0.0.1, port 0 and the default limits. */
void hs_grpc_config_defaults(struct hs_grpc_config *ret_config);

/*
 * Errors: HS_INVALID_ARGUMENT (limits, TLS files), HS_BUSY (port), HS_PERMISSION_DENIED,
 *         HS_NOT_FOUND (host, file), HS_IO, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_grpc_server_start(const struct hs_grpc_config *config,
                                          hs_grpc_server **ret_server, struct hs_error *err);
int hs_grpc_server_port(const hs_grpc_server *server);
bool hs_grpc_server_has_tls(const hs_grpc_server *server);

/*
 * Stop listening and tell clients to go (GOAWAY), let calls end for drain_ms, then end them with
 * UNAVAILABLE. HS_TIMEOUT: a handler still runs 5 s later; hs_grpc_server_free waits for it.
 */
hs_status hs_grpc_server_stop(hs_grpc_server *server, int64_t drain_ms, struct hs_error *err);
void hs_grpc_server_free(hs_grpc_server *server); /* stops it when nobody did */

struct hs_grpc_stats {
    int n_connections, n_queued, n_active;             /* now; active: with a handler that runs */
    uint64_t n_calls, n_failed;                        /* ended calls; failed: not with OK */
    uint64_t n_refused_connections, n_cut_connections; /* cut: for breaking a limit */
    uint64_t bytes_in, bytes_out;                      /* of connections, as HTTP/2 */
};
void hs_grpc_server_stats(hs_grpc_server *server, struct hs_grpc_stats *ret_stats);

/* ---- a call, for its handler ---- */

/* Wait for the next message. 1: there is one, valid until the next hs_grpc_call_recv; 0: the client
 * has no more; -1: the call is over. */
int hs_grpc_call_recv(hs_grpc_call *call, const uint8_t **ret_data, size_t *ret_size);

struct hs_grpc_part {
    const void *data;
    size_t size;
};

/* The parts are sent one behind the other without being copied: they and their array are borrowed
 * until release(user), which is called exactly once (NULL: they live longer than the call). */
struct hs_grpc_message {
    const struct hs_grpc_part *parts;
    size_t n_parts;
    void (*release)(void *user);
    void *user;
};

/* Wait for room, and queue the message. false: the call is over, or is now because the message is
 * larger than the limit or memory ran out. The message is released in any case. */
bool hs_grpc_call_send(hs_grpc_call *call, const struct hs_grpc_message *message);

/* Metadata of the request, names in lower case; the first of this name, or NULL. */
const char *hs_grpc_call_header(const hs_grpc_call *call, const char *name);
/* Metadata of the answer, before the first message is sent. HS_INVALID_ARGUMENT: not a name or
 * value of HTTP, or too late; HS_LIMIT: more than 16 KiB; HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_grpc_call_set_header(hs_grpc_call *call, const char *name,
                                             const char *value, struct hs_error *err);
const char *hs_grpc_call_path(const hs_grpc_call *call);
const char *hs_grpc_call_peer(const hs_grpc_call *call); /* "127.0.0.1:4711" */
/* Of the connection that the call came on: never 0, and of no other connection of this server. */
uint64_t hs_grpc_call_connection_id(const hs_grpc_call *call);
/* Milliseconds until the deadline, 0 past it; -1: the client gave none. */
int64_t hs_grpc_call_deadline_ms(const hs_grpc_call *call);

/* Note the text that the client gets with a status that is not OK (1,024 bytes are kept); returns
 * `code`: return hs_grpc_call_fail(call, HS_GRPC_NOT_FOUND, "no table '%s'", name); */
enum hs_grpc_code hs_grpc_call_fail(hs_grpc_call *call, enum hs_grpc_code code, const char *format,
                                    ...) __attribute__((format(printf, 3, 4)));

bool hs_grpc_call_is_over(const hs_grpc_call *call);
/*
 * Have fn(user) called once when the call gets over, at once when it is; fn must not block, nor
 * call functions of the call. NULL: nothing any more; afterwards the earlier fn does not run. The
 * end of the handler does the same.
 */
void hs_grpc_call_on_over(hs_grpc_call *call, void (*fn)(void *user), void *user);

#endif
