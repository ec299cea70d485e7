/*
 * library_pages.c - what libmicrohttpd does about requests that it cannot read, and cannot be told
 * to do otherwise: two of its public functions, which it calls itself through the dynamic linker.
 * So the definitions here, in the program, take the place of the library's. Where a libmicrohttpd
 * is built so that they do not (-Bsymbolic-functions), it does as it likes, and the test says so.
 *
 * MHD_create_response_from_buffer: it makes its own short HTML pages with it, and uses it for
 * nothing else; they become error objects. The core itself makes its answers with
 * MHD_create_response_from_buffer_with_free_callback.
 *
 * MHD_lookup_connection_value_n: so it looks for a request's Content-Length and Cookie. Having
 * refused one of these, 0.9.75 writes the head of its answer twice. It never sees a Content-Length
 * that it would refuse, so that the core does it, nor any Cookie, which nobody needs here.
 *
 * Threads: the transport thread.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <microhttpd.h>

#include "http_internal.h"

#define BODY(message, type, code)                                                                  \
    "{\"error\":{\"message\":\"" message "\",\"type\":\"" type                                     \
    "\",\"param\":null,\"code\":\"" code "\"}}"
#define REQUEST "invalid_request_error"

/* The first row whose words stand in the page is the answer; the last one has none. */
static const struct {
    const char *words, *body;
} pages[] = {
    {"header was too big", BODY("the request's line and headers are too large for this server",
                                REQUEST, "headers_too_large")},
    {"chunk size", BODY("a chunk of the body is beyond all limits", REQUEST, "body_too_large")},
    {"chunked encoding", BODY("the body's chunks are malformed", REQUEST, "bad_framing")},
    {"HTTP version", BODY("only HTTP/1.0 and HTTP/1.1 are spoken here", REQUEST, "bad_version")},
    {"syntactically incorrect",
     BODY("the request's line or one of its headers is malformed", REQUEST, "bad_request")},
    {"", BODY("the request could not be answered", "server_error", "internal_error")},
};

static const char *body_of(const char *page)
{
    size_t i = 0;
    while (strstr(page, pages[i].words) == NULL) {
        i++;
    }
    return pages[i].body;
}

__attribute__((visibility("default"))) struct MHD_Response *
MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode)
{
    (void)mode; /* the pages are string literals */
    const char *body = size == 0 ? pages[sizeof pages / sizeof pages[0] - 1].body : body_of(buffer);
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(strlen(body), (void *)body, NULL);
    if (response != NULL &&
        MHD_add_response_header(response, "Content-Type", "application/json") != MHD_YES) {
        MHD_destroy_response(response);
        response = NULL; /* the connection is closed without an answer */
    }
    return response;
}

/* ---- headers ---- */

bool hs_http_length_parse(const char *text, uint64_t *ret_length)
{
    *ret_length = strtoull(text, NULL, 10);
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

struct lookup {
    const char *name;
    size_t name_len;
    const char *value;
    size_t len;
    bool is_found;
};

static enum MHD_Result look(void *data, enum MHD_ValueKind kind, const char *name, size_t name_len,
                            const char *value, size_t len)
{
    struct lookup *lookup = data;
    (void)kind;
    if (name_len != lookup->name_len ||
        (name != lookup->name && (name == NULL || lookup->name == NULL ||
                                  strncasecmp(name, lookup->name, name_len) != 0))) {
        return MHD_YES;
    }
    lookup->value = value;
    lookup->len = len;
    lookup->is_found = true;
    return MHD_NO;
}

static bool is_hidden(const struct lookup *lookup)
{
    uint64_t length;
    return lookup->name != NULL &&
           (strcasecmp(lookup->name, MHD_HTTP_HEADER_COOKIE) == 0 ||
            (strcasecmp(lookup->name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 &&
             (!hs_http_length_parse(lookup->value, &length) || length == UINT64_MAX)));
}

__attribute__((visibility("default"))) enum MHD_Result
MHD_lookup_connection_value_n(struct MHD_Connection *connection, enum MHD_ValueKind kind,
                              const char *key, size_t key_size, const char **value_ptr,
                              size_t *value_size_ptr)
{
    struct lookup lookup = {.name = key, .name_len = key_size};
    MHD_get_connection_values_n(connection, kind, look, &lookup);
    if (!lookup.is_found || is_hidden(&lookup)) {
        return MHD_NO;
    }
    if (value_ptr != NULL) {
        *value_ptr = lookup.value;
    }
    if (value_size_ptr != NULL) {
        *value_size_ptr = lookup.len;
    }
    return MHD_YES;
}
