/*
 * http_internal.h - what the files of the HTTP core share: server, connection and request.
 *
 * One transport thread owns libmicrohttpd, every connection and the sockets; a pool of threads runs
 * handlers. A request passes between them: what both touch is under request->lock. Lock order:
 * request, then pool or loop; no callback of a handler runs under a lock.
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "api/http.h"
#include "api/net_loop.h"
#include "api/net_pool.h"
#include "origin.h"
#include "route.h"
#include "target.h"

#define HS_HTTP_LINGER_MAX 64

enum hs_http_phase {
    HS_HTTP_IDLE = 0,  /* between requests */
    HS_HTTP_RECEIVING, /* from the request line to the end of the body */
    HS_HTTP_WORKING,   /* the pool has it */
    HS_HTTP_SENDING,   /* a whole answer */
    HS_HTTP_STREAMING
};

struct hs_http_conn { /* of the transport thread alone */
    enum hs_net_watch watch;
    enum hs_http_phase phase;
    hs_http_server *server;
    struct hs_http_conn *prev, *next;
    struct MHD_Connection *mhd;
    hs_http_request *request;
    int fd;
    bool has_fin, is_suspended, is_cut;
    int64_t deadline_ns;
    unsigned char address[HS_PEER_KEY_SIZE]; /* what connections are counted by */
    char peer[HS_PEER_TEXT_SIZE];
};

struct hs_http_pool {
    struct hs_net_pool threads;
    /* Requests that go on, and those that begin: the former first, so that streams keep pace. */
    struct hs_http_queue {
        hs_http_request *head, *tail;
        int n;
    } going_on, beginning;
    int n_live; /* requests that exist */
};

struct hs_http_server {
    struct hs_http_config config;
    struct hs_http_origins origins;
    struct hs_http_route *routes; /* with the core's own behind the configuration's */
    size_t n_routes;
    struct hs_buf openapi, certificate, key;
    struct MHD_Daemon *mhd;
    struct hs_http_pool pool;
    struct hs_net_loop loop;

    /* of the transport thread */
    enum hs_net_watch watch_mhd;
    struct hs_http_conn *conns;
    struct hs_http_conn *accepting; /* while MHD_add_connection runs */

    struct {
        int fd;
        int64_t deadline_ns;
    } lingering[HS_HTTP_LINGER_MAX]; /* refused, waiting for their 503 to be read */
    int n_lingering;
    bool is_mhd_busy; /* more than one turn runs */
    bool is_forced;   /* nothing waits any more: connections end as they are */

    pthread_mutex_t ready_lock;
    hs_http_request *ready; /* to be resumed */

    atomic_int n_active, n_streams, n_open;
    atomic_ullong n_requests, n_refused, n_gone, n_answers[6], bytes_in, bytes_out;
    atomic_ullong id_counter;
    uint64_t id_seed;
};

enum hs_http_answer_kind { HS_HTTP_NO_ANSWER = 0, HS_HTTP_WHOLE, HS_HTTP_STREAM };

struct hs_http_field {
    char *name, *value;
    struct hs_http_field *next;
};

struct hs_http_request {
    hs_http_server *server;
    struct hs_http_conn *conn; /* transport thread */

    /* Filled by the transport thread before the pool sees the request. */
    char id[65];
    char peer[HS_PEER_TEXT_SIZE];
    struct hs_http_target target;
    const struct hs_http_route *route; /* NULL: none fits */
    struct hs_http_params params;
    struct hs_http_field *headers; /* in reverse order */
    struct hs_buf body;
    size_t body_seen;
    struct hs_http_key_info key;
    bool has_key, is_begun, is_body_unwanted, is_dispatched, is_head, is_close, is_cors;
    int64_t start_ns, deadline_ns;

    /* Answer, of whoever sets answer_kind; afterwards of the transport thread. */
    int status;
    const char *content_type;
    char *content_type_copy;
    const char *data; /* static, or body_out.data */
    size_t data_len;
    struct hs_buf out; /* the whole answer's text, or what a pull appended */
    size_t out_sent;
    struct hs_http_field *answer_headers;
    struct hs_http_stream stream;
    json_t *json;

    /* Of the transport thread. */
    int sent_status;
    uint64_t bytes_out;
    bool is_streaming, is_ping_due;

    pthread_mutex_t lock;
    enum hs_http_answer_kind answer_kind;
    enum { HS_HTTP_AT_REST = 0, HS_HTTP_QUEUED, HS_HTTP_RUNNING } work;
    enum hs_http_gone gone; /* 0: no */
    hs_http_handler step;
    struct hs_http_hooks hooks;
    void *hook_data;
    void (*drop_kept)(void *data);
    void *kept; /* NULL: nothing */
    bool has_hooks, is_gone_told, is_started, is_claimed, is_woken, is_announced, is_parked,
        is_released;
    bool is_pull_wanted, is_stream_done, is_stream_cut;
    atomic_bool is_gone_flag; /* gone != 0, for hs_http_request_is_gone */

    hs_http_request *queue_prev, *queue_next; /* pool.lock */
    struct hs_http_queue *queue;
    hs_http_request *ready_next; /* ready_lock */
    bool is_ready;
};

/* ---- server.c, loop.c ---- */

void *hs_http_loop_main(void *server);
void hs_http_conn_set_deadline(struct hs_http_conn *conn, int64_t deadline_ns);
/* End the connection; libmicrohttpd then notices. */
void hs_http_conn_cut(struct hs_http_conn *conn);
void hs_http_conn_gone(struct hs_http_conn *conn, enum hs_http_gone why);

/* ---- admit.c ---- */

/* What was accepted: a connection, when the limits allow one more. */
void hs_http_accept(void *server, int fd, const struct sockaddr *address, socklen_t len);
void hs_http_linger_expire(hs_http_server *server, int64_t now_ns);

/* ---- exchange.c: callbacks of libmicrohttpd ---- */

void *hs_http_on_uri(void *server, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result hs_http_on_access(void *server, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request);
void hs_http_on_completed(void *server, struct MHD_Connection *mhd, void **request,
                          enum MHD_RequestTerminationCode code);
void hs_http_on_connection(void *server, struct MHD_Connection *mhd, void **context,
                           enum MHD_ConnectionNotificationCode code);

/* ---- request.c ---- */

hs_http_request *hs_http_request_new(hs_http_server *server, struct hs_http_conn *conn);
void hs_http_request_destroy(hs_http_request *request);
HS_CHECKED hs_status hs_http_field_add(struct hs_http_field **list, const char *name,
                                       const char *value);
void hs_http_fields_free(struct hs_http_field *list);
/* Whether the transport thread can go on with it. Under request->lock. */
bool hs_http_request_is_ready(const hs_http_request *request);
/* Tell the pool or the transport thread, whoever has something to do. Under request->lock. */
void hs_http_request_poke(hs_http_request *request);
/* The transport thread is done with it. */
void hs_http_request_release(hs_http_request *request);
/* One turn on a pool thread. */
void hs_http_request_work(hs_http_request *request);

/* ---- pool.c ---- */

HS_CHECKED hs_status hs_http_pool_start(struct hs_http_pool *pool, int n_threads,
                                        struct hs_error *err);
/* Under request->lock. */
void hs_http_pool_push(struct hs_http_pool *pool, hs_http_request *request, bool is_beginning);
/* Take it out again; false: a thread has it. Under request->lock. */
bool hs_http_pool_remove(struct hs_http_pool *pool, hs_http_request *request);
int hs_http_pool_n_beginning(struct hs_http_pool *pool);
void hs_http_pool_count(struct hs_http_pool *pool, int change);
/* Whether all requests ended within the time. */
bool hs_http_pool_wait(struct hs_http_pool *pool, int64_t timeout_ms);

/* ---- reply.c: on the transport thread ---- */

/* Hand the answer that is there to libmicrohttpd. */
enum MHD_Result hs_http_reply_queue(struct hs_http_conn *conn, hs_http_request *request);
/* Make `error` the answer unless there is one. Any thread, not under the lock. */
void hs_http_answer_error(hs_http_request *request, const struct hs_http_error *error);

/* ---- stream.c ---- */

ssize_t hs_http_stream_read(void *request, uint64_t position, char *out, size_t max);
/* Run one pull and note its result; the lock is not held. */
void hs_http_stream_pull(hs_http_request *request);

/* ---- library_pages.c ---- */

/* Whether `text` is a Content-Length; beyond 64 bits it is UINT64_MAX. */
bool hs_http_length_parse(const char *text, uint64_t *ret_length);

/* ---- access_log.c ---- */

void hs_http_access_log(const hs_http_request *request);

#endif
