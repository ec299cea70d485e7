/*
 * grpc_internal.h - what the files of the gRPC server share: server, connection and call.
 *
 * One transport thread owns every connection, its TLS and its nghttp2 session; a pool of threads
 * runs handlers, which may wait. A call passes between them: what both touch is under call->lock.
 * Lock order: call->over_lock, call->lock, then pool or loop. on_over functions run under over_lock
 * alone, release functions of messages under none.
 */
#ifndef GRPC_INTERNAL_H
#define GRPC_INTERNAL_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <pthread.h>

#include "api/net_loop.h"
#include "api/net_pool.h"
#include "base/buf.h"
#include "message.h"
#include "metadata.h"
#include "out_queue.h"

#define HS_GRPC_TEXT_MAX 1024
#define HS_GRPC_READ_BYTES (128u << 10)
/* What a client may send ahead of a handler, for each call and for all of a connection. */
#define HS_GRPC_WINDOW (1 << 20)
#define HS_GRPC_CONN_WINDOW (4 << 20)
/* Messages of a call that wait: two, or more when they are small. */
#define HS_GRPC_QUEUE_MESSAGES 2
#define HS_GRPC_QUEUE_BYTES (64u << 10)

struct hs_grpc_rate {
    int64_t since_ns;
    int n;
};

struct hs_grpc_conn { /* of the transport thread alone */
    enum hs_net_watch watch;
    hs_grpc_server *server;
    struct hs_grpc_conn *prev, *next, *dirty_next;
    uint64_t id;
    int fd;
    uint32_t events; /* that epoll watches for */
    SSL *ssl;        /* NULL: plain */
    nghttp2_session *session;
    struct hs_grpc_out_queue *out;
    uint8_t *record; /* one TLS record that is being written */
    size_t record_size;
    hs_grpc_call *calls;
    int n_calls;
    bool is_secured, has_settings, is_dirty, is_dead;
    bool has_spoken;   /* the client first: who speaks HTTP/1 gets an answer in HTTP/1 */
    bool is_leaving;   /* no more calls: the last GOAWAY is submitted */
    bool is_closing;   /* all is said; what still comes is dropped */
    bool has_input;    /* more than one turn reads */
    int64_t opened_ns; /* accepted */
    int64_t read_ns;   /* last bytes */
    int64_t idle_ns;   /* since when there are no calls */
    int64_t pinged_ns; /* 0: no answer is due */
    int64_t goaway_ns; /* when to say which calls are the last */
    int64_t cut_ns;    /* when to end whatever is left */
    struct hs_grpc_rate resets, control;
    unsigned char address[HS_PEER_KEY_SIZE]; /* what connections are counted by */
    char peer[HS_PEER_TEXT_SIZE];
};

struct hs_grpc_pool {
    struct hs_net_pool threads;
    hs_grpc_call *head, *tail;
    int n_queued, n_queued_max;
    int n_idle; /* threads that wait, or were told to look */
    int n_running;
};

struct hs_grpc_server {
    struct hs_grpc_config config;
    struct hs_grpc_budget budget;
    struct hs_grpc_pool pool;
    SSL_CTX *tls;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_mem memory;
    struct hs_net_loop loop;

    /* of the transport thread */
    struct hs_grpc_conn *conns, *dirty;
    uint64_t last_conn_id;
    uint8_t *input;

    pthread_mutex_t ready_lock;
    hs_grpc_call *ready; /* with something for the transport thread */

    atomic_int n_open;
    atomic_ullong n_calls, n_failed, n_refused, n_cut, bytes_in, bytes_out;
};

struct hs_grpc_received_queue {
    struct hs_grpc_received *head, *tail;
    int n;
    size_t size;
};

struct hs_grpc_sent_queue {
    struct hs_grpc_sent *head, *tail;
    int n;
    size_t size;
};

struct hs_grpc_call {
    hs_grpc_server *server;
    atomic_int n_refs; /* the transport thread's, the pool's, the ready list's */

    /* Filled by the transport thread before the pool sees the call. */
    char peer[HS_PEER_TEXT_SIZE];
    uint64_t connection_id;
    char *path;
    const struct hs_grpc_method *method;
    struct hs_grpc_field *headers;
    int64_t start_ns, deadline_ns;

    /* Of the transport thread. */
    struct hs_grpc_conn *conn; /* NULL: the stream is closed */
    hs_grpc_call *prev, *next; /* in conn->calls */
    int32_t stream_id;
    size_t header_bytes;
    bool is_post, is_header_lost, is_begun, is_deferred, is_answered, has_end;
    int http_status;
    struct hs_grpc_parser parser;
    struct hs_buf ahead; /* received while the queue was full, not yet given back to the window */
    size_t ahead_taken;
    struct hs_grpc_sent *sending;
    size_t sent_offset;
    int64_t reset_ns; /* 0: not ended by this thread; when it is reset */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct hs_grpc_received_queue received;
    struct hs_grpc_sent_queue sent;
    bool is_input_ended;
    bool is_waiting;   /* the handler, for the client */
    bool is_full;      /* the transport thread has bytes in `ahead` */
    bool is_committed; /* the answer's metadata is fixed */
    bool is_finished;  /* the status is decided and may leave */
    enum hs_grpc_code code;
    char text[HS_GRPC_TEXT_MAX + 1];
    struct hs_grpc_field *answer_headers;
    size_t answer_header_bytes;
    atomic_bool is_over;
    atomic_llong progress_ns; /* when the client last took or sent something */

    /* Of the handler. */
    struct hs_grpc_received *reading;

    pthread_mutex_t over_lock;
    void (*over_fn)(void *user);
    void *over_user;

    hs_grpc_call *queue_prev, *queue_next; /* pool.lock */
    bool is_queued;
    hs_grpc_call *ready_next; /* ready_lock */
    bool is_ready;
};

/* ---- tls.c ---- */

HS_CHECKED hs_status hs_grpc_tls_open(const char *cert_file, const char *key_file,
                                      SSL_CTX **ret_tls, struct hs_error *err);
/* Whether the handshake may go on or is done; conn->is_secured says which. */
bool hs_grpc_tls_handshake(struct hs_grpc_conn *conn);
/* Bytes; 0: would block; -1: the connection ended or is broken. */
ssize_t hs_grpc_io_read(struct hs_grpc_conn *conn, uint8_t *out, size_t max);
/* Write what the queue has; likewise, and 0 also when there is nothing. */
ssize_t hs_grpc_io_write(struct hs_grpc_conn *conn);

/* ---- loop.c ---- */

void *hs_grpc_loop_main(void *server);
/* Have the transport thread look at a call; any thread. */
void hs_grpc_loop_notify(hs_grpc_call *call);

/* ---- conn.c: the transport thread ---- */

/* What was accepted: a connection, when the limits allow one more. */
void hs_grpc_conn_accept(void *server, int fd, const struct sockaddr *address, socklen_t len);
void hs_grpc_conn_event(struct hs_grpc_conn *conn, uint32_t events);
/* Write at the end of this turn. */
void hs_grpc_conn_touch(struct hs_grpc_conn *conn);
/* Send what there is to send; afterwards the connection may be dead. */
void hs_grpc_conn_flush(struct hs_grpc_conn *conn);
/* Say GOAWAY with this HTTP/2 error, and end. */
void hs_grpc_conn_end(struct hs_grpc_conn *conn, uint32_t error);
/* The same because a limit was broken. */
void hs_grpc_conn_punish(struct hs_grpc_conn *conn, const char *what);
/* Count one more in this minute; false: more than `max`. */
bool hs_grpc_rate_count(struct hs_grpc_rate *rate, int max);
/* Look at the deadlines of a connection and its calls; the earliest of those to come. */
int64_t hs_grpc_conn_expire(struct hs_grpc_conn *conn, int64_t now_ns);
void hs_grpc_conn_drain(struct hs_grpc_conn *conn);
void hs_grpc_conn_destroy(struct hs_grpc_conn *conn);

/* ---- session.c: what nghttp2 calls ---- */

HS_CHECKED hs_status hs_grpc_session_prepare(hs_grpc_server *server, struct hs_error *err);
/* 0, or an error of nghttp2. */
int hs_grpc_session_open(struct hs_grpc_conn *conn);

/* ---- stream.c: a call, as the transport thread sees it ---- */

hs_grpc_call *hs_grpc_call_new(struct hs_grpc_conn *conn, int32_t stream_id);
void hs_grpc_call_unref(hs_grpc_call *call);
/* A header field of the request; one that does not fit the limit refuses the call. */
void hs_grpc_call_add_header(hs_grpc_call *call, const uint8_t *name, size_t name_len,
                             const uint8_t *value, size_t value_len);
/* All headers are there. */
void hs_grpc_call_begin(hs_grpc_call *call);
void hs_grpc_call_take_data(hs_grpc_call *call, const uint8_t *data, size_t size);
void hs_grpc_call_take_end(hs_grpc_call *call);
/* Do what the handler made possible. */
void hs_grpc_call_advance(hs_grpc_call *call);
/* The call is over, with this status for the client. */
void hs_grpc_call_end(hs_grpc_call *call, enum hs_grpc_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The stream is closed. */
void hs_grpc_call_detach(hs_grpc_call *call);
/* The deadline to come. */
int64_t hs_grpc_call_expire(hs_grpc_call *call, int64_t now_ns);

/* ---- answer.c: nghttp2's questions about what to send ---- */

/* Submit the head of the answer when there is something to answer, and wake its data. */
void hs_grpc_answer_advance(hs_grpc_call *call);
int hs_grpc_answer_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                             size_t size, nghttp2_data_source *source, void *conn);

/* ---- call.c ---- */

/* The handler's thread runs the call. */
void hs_grpc_call_run(hs_grpc_call *call);
/* Mark it over and wake whoever waits. false: it was, or its status is decided. */
bool hs_grpc_call_stop(hs_grpc_call *call, enum hs_grpc_code code, const char *text);
bool hs_grpc_received_has_room(const struct hs_grpc_received_queue *queue);

/* ---- pool.c ---- */

HS_CHECKED hs_status hs_grpc_pool_start(struct hs_grpc_pool *pool, int n_threads, int n_queued_max,
                                        struct hs_error *err);
/* false: too many wait. The call is referenced until it ran. */
bool hs_grpc_pool_push(struct hs_grpc_pool *pool, hs_grpc_call *call);
/* Take it out again; false: a thread has it, or it is done. */
bool hs_grpc_pool_remove(struct hs_grpc_pool *pool, hs_grpc_call *call);
void hs_grpc_pool_count(struct hs_grpc_pool *pool, int *ret_n_queued, int *ret_n_running);
/* Whether all handlers returned within the time. */
bool hs_grpc_pool_wait(struct hs_grpc_pool *pool, int64_t timeout_ms);

#endif
