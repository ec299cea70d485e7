/*
 * origin.h - which web pages may call the server, and under which names it may be called.
 *
 * A browser sends Origin with what a page asks for; a page of another site must not reach a server
 * that listens on loopback without keys, neither with simple requests (Origin) nor by a name that
 * its owner points here (Host, DNS rebinding).
 *
 * Threads: constant data.
 * Source:  Fetch standard, CORS protocol; RFC 6454.
 */
#ifndef HTTP_ORIGIN_H
#define HTTP_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

struct hs_http_origins {
    const char *const *allowed; /* as in struct hs_http_config */
    size_t n_allowed;
    const char *const *host_names;
    size_t n_host_names;
    const char *host; /* that the server was told to listen on */
};

/* `host` is the Host header of the same request, "" without one. */
bool hs_http_origin_is_allowed(const struct hs_http_origins *origins, const char *origin,
                               const char *host);
/* Whether `host` (with or without port) is an address, a localhost name, or one of the names. */
bool hs_http_host_is_allowed(const struct hs_http_origins *origins, const char *host);

#endif
