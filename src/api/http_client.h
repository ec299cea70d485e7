/*
 * http_client.h - a client of a running server: whole answers in JSON, and streams of events.
 *
 * One request at a time, on the caller's thread, which looks for Ctrl-C meanwhile. Redirects are
 * not followed: the API key is for one server.
 *
 * Owner:   a client belongs to who made it and outlives its stream.
 * Threads: none.
 * Errors:  HS_UNAVAILABLE (nobody listens, no such host, the server is stopping), HS_NOT_FOUND (no
 *          such path or model), HS_PERMISSION_DENIED (the key, the certificate), HS_TIMEOUT, HS_IO
 *          (the connection broke, the answer is not HTTP or no JSON), HS_LIMIT (it is too long),
 *          HS_CANCELLED (Ctrl-C), HS_INVALID_ARGUMENT (the URL; what the server refused),
 *          HS_QUEUE_FULL, HS_CONTEXT_FULL, HS_BUSY (a session somebody else has open); messages are
 * the server's where it gave one.
 */
#ifndef API_HTTP_CLIENT_H
#define API_HTTP_CLIENT_H

#include <jansson.h>

#include "api/command.h"

typedef struct hs_http_client hs_http_client;
typedef struct hs_http_events hs_http_events;
typedef struct hs_http_body hs_http_body;

#define HS_HTTP_CLIENT_ANSWER_MAX (64u << 20) /* bytes of a whole answer */
#define HS_HTTP_CLIENT_EVENT_MAX (16u << 20)  /* bytes of one event */

/*
 * A client of the server that the settings name: server (else host and port of a server here),
 * api-key, tls-ca, tls-insecure.
 */
HS_CHECKED hs_status hs_http_client_new(const struct hs_command_args *args,
                                        hs_http_client **ret_client, struct hs_error *err);
void hs_http_client_free(hs_http_client *client);
/* "http://127.0.0.1:8080", for messages. */
const char *hs_http_client_url(const hs_http_client *client);

/*
 * One request and its whole answer, within ten seconds. method "GET", or "POST" or "PATCH" with
 * `body`, JSON text (NULL: none). `ret_json`, to be released, may be NULL: the answer is dropped.
 */
HS_CHECKED hs_status hs_http_client_ask(hs_http_client *client, const char *method,
                                        const char *path, const char *body, json_t **ret_json,
                                        struct hs_error *err);

/* POST a body whose answer is a stream of events; returns before there is one. */
HS_CHECKED hs_status hs_http_client_stream(hs_http_client *client, const char *path,
                                           const char *body, hs_http_events **ret_events,
                                           struct hs_error *err);
/*
 * Wait up to timeout_ms for the next event.
 * Out:    ret_data and ret_event, its name or "" (NULL: of no interest), valid until the next call.
 * Errors: HS_TIMEOUT: none yet; HS_NOT_FOUND with an empty message: the stream ended well.
 */
HS_CHECKED hs_status hs_http_events_next(hs_http_events *events, int timeout_ms,
                                         const char **ret_event, const char **ret_data,
                                         struct hs_error *err);
/* Ends the connection when the stream is not at its end. NULL is allowed. */
void hs_http_events_free(hs_http_events *events);

/* POST a body whose answer may be long bytes of any kind; returns when the first of them came, or
 * the answer was empty. An answer other than 200 is an error. */
HS_CHECKED hs_status hs_http_client_post(hs_http_client *client, const char *path, const char *body,
                                         hs_http_body **ret_body, struct hs_error *err);
/* A header of the answer, valid as long as the body; NULL: there is none. */
const char *hs_http_body_header(const hs_http_body *body, const char *name);
/* Wait for the next `len` bytes; *ret_n is less only at the end of the answer. */
HS_CHECKED hs_status hs_http_body_read(hs_http_body *body, void *data, size_t len, size_t *ret_n,
                                       struct hs_error *err);
/* Ends the connection when the answer is not at its end. NULL is allowed. */
void hs_http_body_free(hs_http_body *body);

#endif
