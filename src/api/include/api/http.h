/*
 * http.h - the HTTP core: routes, requests, whole answers and streams. It knows nothing of engines.
 *
 * A server listens, reads whole requests within limits, checks origin and API key, and runs the
 * handler of the matching route on a thread of a bounded pool, never on a transport thread. The
 * handler answers (hs_http_respond_*), starts a stream whose text is pulled while the client takes
 * it (hs_http_stream_start), or waits (hs_http_wait) and is run again after hs_http_wake.
 *
 * When the client goes away, the deadline passes or the server stops, the request is "gone":
 * `on_gone` runs at once, in whatever state the request is, and nothing that is answered later is
 * sent. `on_end` runs exactly once for every request that attached hooks, last of all calls.
 *
 * A client that closes its sending side (FIN) counts as gone: TCP cannot tell it from one that
 * left. A client must keep the connection open until it has the answer, as HTTP libraries do.
 *
 * Owner:   a request belongs to the core; it is valid for a handler while it runs, and with hooks
 *          attached until on_end returns.
 * Threads: a handler, a step (hs_http_wait), a pull and on_end of one request never run at the same
 *          time; on_gone may run beside each of them. hs_http_wake and hs_http_request_is_gone
 *          may be called from any thread until on_end returns; all else by the running handler.
 * Source:  RFC 9110, RFC 9112; server-sent events: WHATWG HTML, section 9.2; NDJSON.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <jansson.h>

#include "api/http_keys.h"
#include "base/buf.h"

typedef struct hs_http_server hs_http_server;
typedef struct hs_http_request hs_http_request;

/* ---- routes ---- */

/* HEAD is answered by the GET route without its body, OPTIONS by the core. */
enum hs_http_method {
    HS_HTTP_GET = 0,
    HS_HTTP_POST,
    HS_HTTP_PUT,
    HS_HTTP_PATCH,
    HS_HTTP_DELETE,
    HS_HTTP_METHOD_COUNT
};

/* How errors look in the bodies and streams of a route. */
enum hs_http_error_style {
    HS_HTTP_ERRORS_OPENAI = 0, /* {"error":{"message","type","param","code"}} */
    HS_HTTP_ERRORS_ANTHROPIC,  /* {"type":"error","error":{"type","message"},"request_id"} */
    HS_HTTP_ERRORS_OLLAMA      /* {"error":"message"} */
};

/* Bits of what a route answers with, for OpenAPI. */
#define HS_HTTP_GIVES_JSON 1u
#define HS_HTTP_GIVES_SSE 2u
#define HS_HTTP_GIVES_NDJSON 4u
#define HS_HTTP_GIVES_TEXT 8u
#define HS_HTTP_GIVES_HTML 16u
#define HS_HTTP_CREATES 32u /* with 201 instead of 200 */
#define HS_HTTP_GIVES_CSV 64u
#define HS_HTTP_GIVES_ARROW 128u

/* Answers with hs_http_respond_* or hs_http_stream_start, or calls hs_http_wait; a handler that
 * returns with none of them done gives the client 500. `user` is that of the configuration. */
typedef void (*hs_http_handler)(hs_http_request *request, void *user);

/*
 * One row of a route table. path: literal segments and {name}; a last segment {name+} takes the
 * rest of the path, slashes included. Literal segments win over {name}, {name} over {name+}.
 */
struct hs_http_route {
    enum hs_http_method method;
    const char *path;
    hs_http_handler handler;
    unsigned scope; /* HS_KEY_INFERENCE, HS_KEY_ADMIN; 0: anybody */
    enum hs_http_error_style errors;
    unsigned gives;              /* HS_HTTP_GIVES_*; 0: JSON */
    const char *tag;             /* OpenAPI's group: "OpenAI", "Ollama", ... */
    const char *request_schema;  /* a name in the configuration's schemas; NULL: no body */
    const char *response_schema; /* likewise; NULL: not described */
    const char *summary;         /* one line */
};

/* ---- server ---- */

/* Each is enforced exactly: N passes, N + 1 does not. hs_http_limits_defaults fills them. */
struct hs_http_limits {
    size_t body_bytes;           /* of a request; more is 413 (32 MiB) */
    size_t header_bytes;         /* request line and headers; more is 431 (16 KiB) */
    int connections;             /* open at once; one more gets 503 and is closed, with TLS
                                    only closed (512) */
    int connections_per_address; /* likewise, for one IPv4 address or IPv6 /64 (512) */
    int64_t idle_ms;             /* without a request's first line, or without taking any of a
                                    stream that has text for it (75 s) */
    int64_t slow_ms;             /* from a request's first line to its last byte, dribbled or not;
                                    408 (30 s) */
    int64_t request_ms;          /* from the last byte of the request to the last of the answer;
                                    504, or an error event in a stream. 0: none (10 min) */
    int json_depth;              /* of nested arrays and objects in a body; more is 400 (64) */
    int queued_requests;         /* waiting for a pool thread; one more is 503 (256) */
    size_t stream_bytes;         /* that one pull may append (1 MiB) */
};
void hs_http_limits_defaults(struct hs_http_limits *ret_limits);

struct hs_http_config {
    const char *host; /* address or name; every address it resolves to is listened on */
    int port;         /* 0: the system chooses, see hs_http_server_port */
    const char *tls_cert_file, *tls_key_file; /* PEM; both or neither */
    struct hs_http_limits limits;
    int n_workers; /* threads that run handlers; 0: 8 */
    const struct hs_http_route *routes;
    size_t n_routes;
    void *user;         /* for handlers */
    hs_http_keys *keys; /* NULL, or without a single key: everybody may do everything */
    /* Origins (scheme://host[:port]) whose pages may call the server; "*": all; NULL or none: pages
     * of this machine (localhost, 127.0.0.1, [::1]) and of the server itself. Others get 403. */
    const char *const *cors_origins;
    size_t n_cors_origins;
    /* Names the server goes by besides localhost, addresses and `host`: with neither keys nor TLS a
     * request under another Host is refused, which stops DNS rebinding. "*": any. */
    const char *const *host_names;
    size_t n_host_names;
    /* For GET /openapi.json, which the core adds when `title` is there. */
    struct {
        const char *title, *version, *description;
        const char *schemas; /* JSON text: an object of named schemas; NULL: none */
    } openapi;
};

/* Zeroes, the default limits, 127.0.0.1 and port 0. */
void hs_http_config_defaults(struct hs_http_config *ret_config);

/*
 * Listen and start the threads. Strings, routes and keys stay the caller's and must outlive the
 * server; certificate and key are read here.
 * Errors: HS_INVALID_ARGUMENT (a bad route, limit, certificate or schema), HS_NOT_FOUND (host),
 *         HS_BUSY (the port is taken), HS_PERMISSION_DENIED, HS_IO, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_http_server_start(const struct hs_http_config *config,
                                          hs_http_server **ret_server, struct hs_error *err);
int hs_http_server_port(const hs_http_server *server);
bool hs_http_server_has_tls(const hs_http_server *server);

/*
 * Stop accepting, let requests finish for up to drain_ms, then make the rest gone (HS_HTTP_STOPPED)
 * and end their connections. Requests that arrive meanwhile get 503.
 * Errors: HS_TIMEOUT when a handler still runs 5 s after its request was made gone; the server must
 * then not be freed before it returned. Threads: any but a handler's; once, later calls do nothing.
 */
HS_CHECKED hs_status hs_http_server_stop(hs_http_server *server, int64_t drain_ms,
                                         struct hs_error *err);
/* Stops at once when still running; waits for handlers. NULL is allowed. */
void hs_http_server_free(hs_http_server *server);

struct hs_http_stats {
    int n_connections;
    int n_queued;  /* requests waiting for a pool thread */
    int n_active;  /* requests whose answer is not complete, queued ones included */
    int n_streams; /* of them streams */
    uint64_t n_requests, n_refused_connections, n_gone;
    uint64_t n_answers[6];        /* by hundreds of the status: [2] is 2xx */
    uint64_t bytes_in, bytes_out; /* bodies */
};
void hs_http_server_stats(hs_http_server *server, struct hs_http_stats *ret_stats);

/* ---- requests ---- */

/* The X-Request-Id that the client gave ([A-Za-z0-9._:-]{1,64}), or one made here. */
const char *hs_http_request_id(const hs_http_request *request);
const struct hs_http_route *hs_http_request_route(const hs_http_request *request);
/* Percent-decoded, valid UTF-8 without NUL. */
const char *hs_http_request_path(const hs_http_request *request);
/* Of {name} in the route's path; NULL when the route has no such part. */
const char *hs_http_request_param(const hs_http_request *request, const char *name);
/* The first of that name, decoded like paths, "" without a value; NULL: not there. */
const char *hs_http_request_query(const hs_http_request *request, const char *name);
/* The first of that name in any case, valid UTF-8; NULL: not there. */
const char *hs_http_request_header(const hs_http_request *request, const char *name);
/* All of it, NUL-terminated; "" without one. */
const char *hs_http_request_body(const hs_http_request *request, size_t *ret_len);
/* The key that came with the request; NULL: none was needed or given. */
const struct hs_http_key_info *hs_http_request_key(const hs_http_request *request);
/* "192.0.2.1:4711" or "[2001:db8::1]:4711" */
const char *hs_http_request_peer(const hs_http_request *request);
/* Milliseconds left of limits.request_ms, at least 0; INT64_MAX: no limit. */
int64_t hs_http_request_left_ms(const hs_http_request *request);
bool hs_http_request_is_gone(const hs_http_request *request);

/*
 * The body as a JSON object, parsed once and borrowed from the request. NULL: it is none, and the
 * client was told so (400, naming line and column); the handler just returns. Refused are invalid
 * UTF-8, NaN and infinities, duplicate keys, \u0000, numbers out of range, text behind the object,
 * and nesting beyond the limit. The Content-Type is not looked at, as curl -d gives a wrong one.
 */
json_t *hs_http_request_json(hs_http_request *request);

/* ---- whole answers ----
 *
 * The first answer counts, later ones are dropped, as are those of gone requests. None of these
 * fail: without memory the client gets 500.
 */

/* For the answer that follows. CR and LF in a value become spaces. */
void hs_http_set_header(hs_http_request *request, const char *name, const char *value);

void hs_http_respond(hs_http_request *request, int status, const char *content_type,
                     const void *data, size_t len);
/* Without a copy: `data` must outlive the server. */
void hs_http_respond_static(hs_http_request *request, int status, const char *content_type,
                            const void *data, size_t len);
/* Takes the text out of `body`, which is empty afterwards. */
void hs_http_respond_buf(hs_http_request *request, int status, const char *content_type,
                         struct hs_buf *body);
/* Takes the reference `json` (NULL: there was no memory for it). */
void hs_http_respond_json(hs_http_request *request, int status, json_t *json);

struct hs_http_error {
    int status;          /* 400 */
    const char *type;    /* NULL: what fits the status, such as "invalid_request_error" */
    const char *param;   /* the field it is about, "messages[2].role"; NULL: none */
    const char *code;    /* "model_not_found"; NULL: none */
    const char *message; /* for people, with what to do next */
    int retry_after_s;   /* 0: no Retry-After */
};
void hs_http_respond_error(hs_http_request *request, const struct hs_http_error *error);
/* From a status of a lower layer (hs_http_status, status_map.h) and its message and hint. */
void hs_http_respond_failure(hs_http_request *request, const struct hs_error *err,
                             const char *param);
/* 400 about one field of the request. */
void hs_http_respond_bad_param(hs_http_request *request, const char *param, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The error as a body of that style. */
HS_CHECKED hs_status hs_http_error_write(enum hs_http_error_style style,
                                         const struct hs_http_error *error, const char *request_id,
                                         struct hs_buf *out);

/* ---- answers that come later ---- */

enum hs_http_gone {
    HS_HTTP_DISCONNECTED = 1, /* the client went away, or did not take its stream */
    HS_HTTP_DEADLINE,         /* limits.request_ms passed */
    HS_HTTP_STOPPED           /* the server stops */
};

struct hs_http_hooks {
    /* At most once, on a transport thread (or inside hs_http_attach when the request is gone
     * already): must not block; cancels the work. */
    void (*on_gone)(hs_http_request *request, void *data, enum hs_http_gone why);
    /* Exactly once, on a pool thread, after every other call: frees the work. Nothing may call
     * hs_http_wake once it returned. */
    void (*on_end)(void *data);
};
/* Give the request its work; once, before waiting or streaming. Either hook may be NULL. */
void hs_http_attach(hs_http_request *request, const struct hs_http_hooks *hooks, void *data);
void *hs_http_request_data(const hs_http_request *request);

/* Something that the request keeps to its end: `drop` runs after on_end, on a pool thread. Once;
 * it may be given before hooks are attached, and hs_http_wake may be called until `drop` returns.
 */
void hs_http_keep(hs_http_request *request, void (*drop)(void *data), void *data);
void *hs_http_kept(const hs_http_request *request); /* NULL: nothing */

/* Run `step` on a pool thread after each wake (wakes that come together count once, and one that
 * came before this call counts), until there is an answer. */
void hs_http_wait(hs_http_request *request, hs_http_handler step);

/* There is something for the request's step or pull. Any thread; does not block or allocate. */
void hs_http_wake(hs_http_request *request);

/* ---- streams ---- */

enum hs_http_pull {
    HS_HTTP_MORE = 0, /* appended something; called again when the client took it */
    HS_HTTP_NOT_YET,  /* there is no more, besides what was appended; called again after
                         hs_http_wake */
    HS_HTTP_END,      /* that was all, what was appended now included */
    HS_HTTP_FAIL      /* err says why: an error event in the route's style ends the stream */
};

enum hs_http_stream_kind {
    HS_HTTP_SSE = 0, /* text/event-stream */
    HS_HTTP_NDJSON,  /* application/x-ndjson */
    HS_HTTP_RAW      /* `content_type`; a failure cuts the connection */
};

struct hs_http_stream {
    enum hs_http_stream_kind kind;
    const char *content_type; /* RAW only; static */
    /* Append what there is, at most limits.stream_bytes, without blocking. `data` is what was
     * attached. */
    enum hs_http_pull (*pull)(hs_http_request *request, void *data, struct hs_buf *out,
                              struct hs_error *err);
    /* Pulls take more than some 50 microseconds: run them on the pool, not on the transport
     * thread, which serves all other streams too. */
    bool on_pool;
    /* Sent whenever there was nothing to send for so long, until the end; static. NULL: nothing.
     * Not with on_pool. */
    const char *ping;
    int64_t ping_ms;
};
/* 200 unless `status` says otherwise. The first pull comes without a wake. */
void hs_http_stream_start(hs_http_request *request, int status,
                          const struct hs_http_stream *stream);

/* Append "event: <event>\n" (unless NULL) and `text` as data lines of one event. */
HS_CHECKED hs_status hs_http_sse_append(struct hs_buf *out, const char *event, const char *text,
                                        size_t len);

/* ---- OpenAPI ---- */

/* The description (OpenAPI 3.1, JSON) of config->routes; what /openapi.json gives. */
HS_CHECKED hs_status hs_http_openapi(const struct hs_http_config *config, struct hs_buf *out,
                                     struct hs_error *err);

#endif
