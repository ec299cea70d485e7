/*
 * http_test.h - a server with toy handlers, and a client of raw sockets that can misbehave.
 */
#ifndef HTTP_TEST_H
#define HTTP_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>

#include "api/http.h"

/* ---- server ----
 *
 * GET  /hello             "hello"
 * POST /echo              the body; POST /json: parsed, as compact JSON
 * GET  /items/{id}        the id; /items/first: "literal"
 * GET  /files/{path+}     the path
 * GET  /query?a=          the value of a, or "(none)"
 * GET  /infer, /admin     what these scopes may have; the key's name
 * GET  /nothing           a handler that gives no answer
 * GET  /block             until test_open_gate() or, without ?hold=1, gone
 * GET  /wait?n=           n wakes from another thread, then "waited"
 * GET  /never             waits for a wake that does not come
 * GET  /events?n=&gap_us= n SSE events, woken by another thread
 * GET  /ndjson, /pooled   the same as NDJSON, and with pulls on the pool
 * GET  /silent?ping=      a stream that never has anything, with a ping after so many ms
 * GET  /flood?bytes=      that many bytes, in pulls of 16 KiB
 * GET  /broken?after=     fails after so many events
 * GET  /claude-broken, /ollama-broken   in other styles
 * GET  /cut               a raw stream that fails after one piece
 * ...&gated=1 on /events: the next event is made when counts.n_allowed grows
 * GET  /big?bytes=        a whole answer of that many 'x'
 */
struct test_counts {
    atomic_int n_started, n_gone, n_ended, n_gone_twice, n_pulls, n_allowed;
    atomic_llong gone_ns; /* when the last on_gone ran */
    atomic_int gone_why;
};
extern struct test_counts counts;

extern const struct hs_http_route test_routes[];
extern const size_t n_test_routes;

/* Defaults for tests: 2 workers, the toy routes. */
void test_config(struct hs_http_config *ret_config);
hs_http_server *test_start(const struct hs_http_config *config);
/* Stops within the time, checks that every hook that was attached ended, frees. */
void test_stop(hs_http_server *server);
void test_close_gate(void);
void test_open_gate(void);
/* Wait up to 5 s for *value to become `wanted`; fails the test otherwise. */
void wait_for_int(atomic_int *value, int wanted);
void wait_until_stats(hs_http_server *server, int n_connections, int n_active);

/* ---- client ---- */

int client_connect(const hs_http_server *server);
void client_send(int fd, const char *text);
void client_send_bytes(int fd, const void *data, size_t len);
/* Bytes until the peer closes or the time is over, NUL-terminated; false: the time was over. */
bool client_read_all(int fd, struct hs_buf *out, int timeout_ms);
/* Read until `out` holds `text`; false: closed or over. */
bool client_read_until(int fd, struct hs_buf *out, const char *text, int timeout_ms);
/* Whether the peer closes within the time; what it sends is dropped. */
bool client_is_closed(int fd, int timeout_ms);

struct reply {
    int status;
    struct hs_buf raw;  /* head and body as they came */
    struct hs_buf body; /* chunks joined */
    bool is_whole;      /* the end of the body was there */
};
/* One answer from fd, which may stay open. */
void client_reply(int fd, struct reply *ret_reply, int timeout_ms);
void reply_free(struct reply *reply);
/* Whether the head has this header with this value (NULL: any); returns the value's start. */
const char *reply_header(const struct reply *reply, const char *name, char ret_value[512]);

/* A connection of its own, one request ("GET /hello" and headers, each ending in \r\n), one answer.
 */
void request(const hs_http_server *server, const char *line, const char *headers, const char *body,
             struct reply *ret_reply);

double now_ms(void);
void sleep_ms(int ms);
/* For what must come: only a fault takes so long, on any machine. */
#define LONG_MS 60000

#endif
