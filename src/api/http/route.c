#include "route.h"

#include <string.h>

#include "base/error.h"

static const char *const method_names[HS_HTTP_METHOD_COUNT] = {"GET", "POST", "PUT", "PATCH",
                                                               "DELETE"};

const char *hs_http_method_name(enum hs_http_method method)
{
    return method_names[method];
}

enum hs_http_method hs_http_method_parse(const char *text)
{
    if (strcmp(text, "HEAD") == 0) {
        return HS_HTTP_GET;
    }
    for (int i = 0; i < HS_HTTP_METHOD_COUNT; i++) {
        if (strcmp(text, method_names[i]) == 0) {
            return (enum hs_http_method)i;
        }
    }
    return HS_HTTP_METHOD_COUNT;
}

/* A segment of a pattern: how it is written, and how it ranks among those that fit. */
enum part { PART_END = 0, PART_REST, PART_PARAM, PART_LITERAL };

struct segment {
    enum part part;
    const char *text; /* the literal, or the name */
    size_t len;
};

/* The segment at *path, which stands behind a slash and moves behind the next one; NULL at the end.
 */
static struct segment next_segment(const char **path)
{
    const char *text = *path;
    if (text == NULL) {
        return (struct segment){.part = PART_END};
    }
    size_t len = strcspn(text, "/");
    *path = text[len] == '/' ? text + len + 1 : NULL;
    if (len > 2 && text[0] == '{' && text[len - 1] == '}') {
        bool is_rest = text[len - 2] == '+';
        return (struct segment){.part = is_rest ? PART_REST : PART_PARAM,
                                .text = text + 1,
                                .len = len - 2 - (is_rest ? 1 : 0)};
    }
    return (struct segment){.part = PART_LITERAL, .text = text, .len = len};
}

static hs_status check_path(const struct hs_http_route *route, struct hs_error *err)
{
    if (route->path == NULL || route->path[0] != '/') {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a route's path does not begin with '/'");
    }
    const char *path = route->path + 1;
    size_t n_params = 0, n_segments = 0;
    for (struct segment s = next_segment(&path); s.part != PART_END; s = next_segment(&path)) {
        bool has_brace = memchr(s.text, '{', s.len) != NULL || memchr(s.text, '}', s.len) != NULL;
        bool is_early_rest = s.part == PART_REST && path != NULL;
        n_params += s.part != PART_LITERAL;
        n_segments++;
        if (has_brace || (s.part != PART_LITERAL && s.len == 0)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "route %s: bad braces", route->path);
        }
        if (is_early_rest || n_params > HS_HTTP_PARAMS_MAX || n_segments > HS_HTTP_SEGMENTS_MAX) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "route %s: {name+} is not last, or there are too many parts",
                                route->path);
        }
    }
    return HS_OK;
}

/* Whether two patterns fit the same paths with the same rank. */
static bool is_same_shape(const char *a, const char *b)
{
    a++;
    b++;
    for (;;) {
        struct segment left = next_segment(&a), right = next_segment(&b);
        if (left.part != right.part) {
            return false;
        }
        if (left.part == PART_END) {
            return true;
        }
        if (left.part == PART_LITERAL &&
            (left.len != right.len || memcmp(left.text, right.text, left.len) != 0)) {
            return false;
        }
    }
}

hs_status hs_http_routes_check(const struct hs_http_route *routes, size_t n_routes,
                               struct hs_error *err)
{
    for (size_t i = 0; i < n_routes; i++) {
        hs_status status = check_path(&routes[i], err);
        if (status != HS_OK) {
            return status;
        }
        if (routes[i].handler == NULL || routes[i].method >= HS_HTTP_METHOD_COUNT) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "route %s has no handler or method",
                                routes[i].path);
        }
        for (size_t k = 0; k < i; k++) {
            if (routes[k].method == routes[i].method &&
                is_same_shape(routes[k].path, routes[i].path)) {
                return hs_error_set(err, HS_INVALID_ARGUMENT, "two routes for %s %s",
                                    method_names[routes[i].method], routes[i].path);
            }
        }
    }
    return HS_OK;
}

/* 0: does not fit. Two bits a segment, the first ones highest: literals before names before rests.
 */
static uint64_t match(const char *pattern, const struct hs_http_target *target,
                      struct hs_http_params *params)
{
    const char *path = pattern + 1;
    uint64_t rank = 0;
    params->n = 0;
    for (size_t i = 0; i < target->n_segments; i++) {
        struct segment s = next_segment(&path);
        const char *value = target->segments[i];
        if (s.part == PART_END || (s.part != PART_LITERAL && value[0] == '\0')) {
            return 0;
        }
        if (s.part == PART_LITERAL &&
            (strlen(value) != s.len || memcmp(value, s.text, s.len) != 0)) {
            return 0;
        }
        rank |= (uint64_t)s.part << (62 - 2 * i);
        if (s.part != PART_LITERAL) {
            params->items[params->n].name = s.text;
            params->items[params->n].name_len = s.len;
            params->items[params->n++].value = s.part == PART_REST ? target->rests[i] : value;
        }
        if (s.part == PART_REST) {
            return rank;
        }
    }
    return path == NULL ? rank : 0;
}

const struct hs_http_route *hs_http_route_find(const struct hs_http_route *routes, size_t n_routes,
                                               enum hs_http_method method,
                                               const struct hs_http_target *target,
                                               struct hs_http_params *ret_params,
                                               unsigned *ret_methods)
{
    const struct hs_http_route *best = NULL;
    uint64_t best_rank = 0;
    *ret_methods = 0;
    ret_params->n = 0;
    for (size_t i = 0; i < n_routes; i++) {
        struct hs_http_params params;
        uint64_t rank = match(routes[i].path, target, &params);
        if (rank == 0) {
            continue;
        }
        *ret_methods |= 1u << routes[i].method;
        if (routes[i].method == method && rank > best_rank) {
            best = &routes[i];
            best_rank = rank;
            *ret_params = params;
        }
    }
    return best;
}

const char *hs_http_params_get(const struct hs_http_params *params, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < params->n; i++) {
        if (params->items[i].name_len == len && memcmp(params->items[i].name, name, len) == 0) {
            return params->items[i].value;
        }
    }
    return NULL;
}
