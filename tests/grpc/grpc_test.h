/*
 * grpc_test.h - a server with toy methods, and a client made of nghttp2 that can misbehave.
 */
#ifndef GRPC_TEST_H
#define GRPC_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <string.h>

#include "api/grpc.h"
#include "base/buf.h"

/* For what must come: only a fault takes so long, on any machine. */
#define LONG_MS 60000

/* ---- server ----
 *
 * /toy/Hello   one message, "hello"
 * /toy/Echo    every message back
 * /toy/Late    all messages are read, then sent back as one
 * /toy/Flood   message "COUNT SIZE": so many messages, message i of SIZE bytes (i + j) & 255
 * /toy/Parts   message "N": one message of N parts, part i with i % 3 bytes 'a' + i % 26
 * /toy/Fail    NOT_FOUND, with text_of_fail
 * /toy/After   one message, then ABORTED
 * /toy/Head    metadata x-answer: yes and no message
 * /toy/Meta    the value of x-question
 * /toy/Block   until the call is over or test_open_gate()
 * /toy/Gate    like Block, but heeds only the gate
 * /toy/Read    messages are counted in counts.n_read, each after counts.n_allowed has grown
 * /toy/Left    milliseconds to the deadline, as text
 * /toy/Where   the number of its connection, as text
 */
struct test_counts {
    atomic_int n_started, n_over, n_ended, n_released, n_sent, n_read, n_allowed;
    atomic_int n_disconnected, last_disconnected;
};
extern struct test_counts counts;
extern const char text_of_fail[];

/* Defaults for tests: 4 workers, the toy methods. */
void test_config(struct hs_grpc_config *ret_config);
hs_grpc_server *test_start(const struct hs_grpc_config *config);
/* Stops within the time, checks that all handlers ended and all messages were released, frees. */
void test_stop(hs_grpc_server *server);
void test_close_gate(void);
void test_open_gate(void);
/* Wait for *value to become `wanted`; fails the test otherwise. */
void wait_for_int(atomic_int *value, int wanted);
void sleep_ms(int ms);
double now_ms(void);

/* ---- client ---- */

#define REPLIES_MAX 2100

struct reply {
    int32_t stream_id;
    int http_status, grpc_status; /* -1: none */
    int n_heads;                  /* 1: head and trailers in one */
    char grpc_message[4096];
    char content_type[64], encoding[64], answer[64];
    struct hs_buf data;
    size_t n_data; /* bytes of data, also of those not kept */
    bool is_closed;
    uint32_t reset; /* error of the stream's end */
    struct client *client;
    /* the request's body */
    const uint8_t *body;
    size_t body_size, body_sent;
    bool is_open; /* no END_STREAM behind it */
};

struct client {
    int fd;
    SSL *ssl;
    nghttp2_session *session;
    struct reply *replies;
    size_t n_replies;
    bool is_gone; /* the server closed */
    bool has_goaway;
    uint32_t goaway_error;
    int32_t goaway_last;
    int n_pings;
    bool is_slow; /* takes no data: gives no window back */
    bool drops;   /* data is counted, not kept */
};

struct header {
    const char *name, *value;
};

/* A socket to the server. */
int client_socket(const hs_grpc_server *server);
/* Connection with settings exchanged; window: of streams and connection, 0: default. */
struct client *client_open(const hs_grpc_server *server, SSL_CTX *tls, uint32_t window);
void client_close(struct client *client);
/* Begin a call whose body is body[size] as it is; `extra` ends with {NULL, NULL}, or is NULL; one
 * with the name of a standard header replaces it, with the value NULL drops it. */
struct reply *client_begin(struct client *client, const char *path, const void *body, size_t size,
                           bool is_open, const struct header *extra);
/* Read and write for a while, until *flag (NULL: the time is over); whether it came. */
bool client_run(struct client *client, const bool *flag, int timeout_ms);
/* Run until the server closes the connection. */
void client_wait_gone(struct client *client);
/* Begin a call with one message, and run it to its end. */
struct reply *client_call(struct client *client, const char *path, const char *message,
                          const struct header *extra);
/* Add bytes to the body of an open call; end: END_STREAM behind. `body` stays valid. */
void client_send(struct reply *reply, const void *body, size_t size, bool is_end);
/* The n-th message of the answer; false: there is none. */
bool reply_message(const struct reply *reply, size_t n, const uint8_t **ret_data, size_t *ret_size);
void assert_message(const struct reply *reply, size_t n, const char *text);
/* Frame a message behind what `buf` has. */
void frame_message(struct hs_buf *buf, const void *data, size_t size);

#endif
