/*
 * target.h - the request target (RFC 9112, section 3.2): path segments and query, percent-decoded.
 *
 * Limits:  HS_HTTP_SEGMENTS_MAX, HS_HTTP_QUERY_MAX.
 * Errors:  HS_INVALID_ARGUMENT (a bad escape, a NUL, invalid UTF-8, a fragment, neither "/..." nor
 *          "http://..."), HS_LIMIT, HS_OUT_OF_MEMORY.
 * Threads: none.
 */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include "hyprstream.h"

#define HS_HTTP_SEGMENTS_MAX 24
#define HS_HTTP_QUERY_MAX 64

struct hs_http_target {
    char *path; /* decoded; "*" for OPTIONS * */
    size_t n_segments;
    const char *segments[HS_HTTP_SEGMENTS_MAX]; /* decoded one by one: %2F is no separator */
    const char *rests[HS_HTTP_SEGMENTS_MAX];    /* the decoded path from the segment on */
    size_t n_query;
    struct {
        const char *name, *value;
    } query[HS_HTTP_QUERY_MAX];
    char *text; /* that all of these point into */
};

HS_CHECKED hs_status hs_http_target_parse(const char *raw, struct hs_http_target *ret,
                                          struct hs_error *err);
/* The value of the first parameter of this name; NULL: there is none. */
const char *hs_http_target_query(const struct hs_http_target *target, const char *name);
void hs_http_target_free(struct hs_http_target *target);

#endif
