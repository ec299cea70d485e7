/*
 * library_pages.c - libmicrohttpd's own answers to what it cannot read, as error objects.
 *
 * libmicrohttpd answers broken requests itself, with a short HTML page, and has no option to say
 * something else. It makes these pages through its public MHD_create_response_from_buffer, calls it
 * through the dynamic linker, and uses it for nothing else: so the definition here, in the program,
 * takes the place of the library's. Where a libmicrohttpd is built so that it does not
 * (-Bsymbolic-functions), clients see the HTML pages, and the test says so.
 *
 * The core itself makes its answers with MHD_create_response_from_buffer_with_free_callback.
 *
 * Threads: the transport thread.
 */
#include <string.h>

#include <microhttpd.h>

#define BODY(message, type, code)                                                                  \
    "{\"error\":{\"message\":\"" message "\",\"type\":\"" type                                     \
    "\",\"param\":null,\"code\":\"" code "\"}}"
#define REQUEST "invalid_request_error"

/*
 * The first row whose words stand in the page is the answer; the last one has none. Behind a bad
 * Content-Length libmicrohttpd 0.9.75 writes the head of its answer twice, and a client takes the
 * second one for the body: these have no body, so that what follows is nobody's.
 */
static const struct {
    const char *words, *body;
} pages[] = {
    {"header was too big", BODY("the request's line and headers are too large for this server",
                                REQUEST, "headers_too_large")},
    {"<b>Content-Length</b>", ""},
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
