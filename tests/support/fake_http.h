/*
 * fake_http.h - what handlers call of api/http.h, without a server: one request at a time, on the
 * caller's thread. For fuzzing the handlers; linked in front of hs_http, whose parsers stay real.
 *
 * Owner:   fake_http_free releases what fake_http_run filled.
 * Threads: none.
 */
#ifndef SUPPORT_FAKE_HTTP_H
#define SUPPORT_FAKE_HTTP_H

#include "api/http.h"

struct fake_http_answer {
    const struct hs_http_route *route; /* NULL: none fits, and nothing ran */
    int status;
    char content_type[64];
    struct hs_buf body; /* of a stream, all of its text */
    bool is_stream;
    enum hs_http_stream_kind kind;
};

/*
 * Run the handler of "METHOD /target" to its end: steps after wakes, pulls until the last one, then
 * on_end. Aborts on what would leave a client without an answer: none given, or waiting for a wake
 * that nobody is left to send.
 */
void fake_http_run(const struct hs_http_route *routes, size_t n_routes, void *user,
                   const char *line, const char *body, size_t len,
                   struct fake_http_answer *ret_answer);
void fake_http_free(struct fake_http_answer *answer);

#endif
