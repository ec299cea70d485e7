/*
 * route.h - finding the row of the route table that a method and a path belong to.
 *
 * Threads: none.
 */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include "api/http.h"
#include "target.h"

#define HS_HTTP_PARAMS_MAX 8

struct hs_http_params {
    size_t n;
    struct {
        const char *name; /* in the route's path, not NUL-terminated */
        size_t name_len;
        const char *value;
    } items[HS_HTTP_PARAMS_MAX];
};

const char *hs_http_method_name(enum hs_http_method method);
/* HS_HTTP_METHOD_COUNT: none of them. HEAD gives GET. */
enum hs_http_method hs_http_method_parse(const char *text);

/*
 * Errors: HS_INVALID_ARGUMENT for a path that does not begin with '/', has bad braces, '{name+}'
 * before its end or more than HS_HTTP_PARAMS_MAX of them, a row without handler, and two rows that
 * match the same.
 */
HS_CHECKED hs_status hs_http_routes_check(const struct hs_http_route *routes, size_t n_routes,
                                          struct hs_error *err);

/*
 * The row that fits best, or NULL.
 * Out: ret_methods, bits (1u << method) of the rows whose path fits; ret_params, into `target`.
 */
const struct hs_http_route *hs_http_route_find(const struct hs_http_route *routes, size_t n_routes,
                                               enum hs_http_method method,
                                               const struct hs_http_target *target,
                                               struct hs_http_params *ret_params,
                                               unsigned *ret_methods);
const char *hs_http_params_get(const struct hs_http_params *params, const char *name);

#endif
