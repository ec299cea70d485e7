/* The route table: which row fits best, parameters, methods, and tables that are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

#include "route.h"

static void handler(hs_http_request *request, void *user)
{
    (void)request;
    (void)user;
}

#define ROW(method_, path_)                                                                        \
    {                                                                                              \
        .method = method_, .path = path_, .handler = handler                                       \
    }
static const struct hs_http_route routes[] = {
    ROW(HS_HTTP_GET, "/"),
    ROW(HS_HTTP_GET, "/v1/models"),
    ROW(HS_HTTP_GET, "/v1/models/{id+}"),
    ROW(HS_HTTP_DELETE, "/v1/models/{id}"),
    ROW(HS_HTTP_GET, "/s/{a}/x"),
    ROW(HS_HTTP_GET, "/s/{a}/{b}"),
    ROW(HS_HTTP_GET, "/s/y/{b}"),
    ROW(HS_HTTP_POST, "/s/y/x"),
};
enum { N_ROUTES = sizeof routes / sizeof routes[0] };

static const char *find(enum hs_http_method method, const char *raw, struct hs_http_params *params,
                        unsigned *methods)
{
    struct hs_http_target target;
    struct hs_error err;
    static char values[64];
    assert_int_equal(hs_http_target_parse(raw, &target, &err), HS_OK);
    const struct hs_http_route *route =
        hs_http_route_find(routes, N_ROUTES, method, &target, params, methods);
    values[0] = '\0';
    for (size_t i = 0; i < params->n; i++) {
        size_t len = strlen(values);
        memcpy(values + len, params->items[i].value, strlen(params->items[i].value) + 1);
        params->items[i].value = values + len;
    }
    hs_http_target_free(&target);
    return route == NULL ? NULL : route->path;
}

static void test_find(void **state)
{
    (void)state;
    static const struct {
        enum hs_http_method method;
        const char *raw, *wanted;
    } cases[] = {
        {HS_HTTP_GET, "/", "/"},
        {HS_HTTP_GET, "/v1/models", "/v1/models"},
        {HS_HTTP_GET, "/v1/models/", NULL},
        {HS_HTTP_GET, "/v1/models/a", "/v1/models/{id+}"},
        {HS_HTTP_GET, "/v1/models/a/b:c", "/v1/models/{id+}"},
        {HS_HTTP_DELETE, "/v1/models/a", "/v1/models/{id}"},
        {HS_HTTP_DELETE, "/v1/models/a/b", NULL},
        {HS_HTTP_GET, "/s/z/x", "/s/{a}/x"},
        {HS_HTTP_GET, "/s/z/w", "/s/{a}/{b}"},
        {HS_HTTP_GET, "/s/y/x", "/s/y/{b}"}, /* the earlier literal wins */
        {HS_HTTP_POST, "/s/y/x", "/s/y/x"},
        {HS_HTTP_GET, "/S/y/x", NULL},
        {HS_HTTP_GET, "/s", NULL},
        {HS_HTTP_GET, "/s/y/x/z", NULL},
        {HS_HTTP_GET, "*", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hs_http_params params;
        unsigned methods;
        const char *found = find(cases[i].method, cases[i].raw, &params, &methods);
        if (cases[i].wanted == NULL ? found != NULL
                                    : found == NULL || strcmp(found, cases[i].wanted) != 0) {
            fail_msg("%s gives %s", cases[i].raw, found == NULL ? "nothing" : found);
        }
    }
}

static void test_params(void **state)
{
    (void)state;
    struct hs_http_params params;
    unsigned methods;
    find(HS_HTTP_GET, "/v1/models/org/name%3Aq4", &params, &methods);
    assert_string_equal(hs_http_params_get(&params, "id"), "org/name:q4");
    assert_null(hs_http_params_get(&params, "i"));
    assert_null(hs_http_params_get(&params, "id+"));
    assert_int_equal(methods, 1u << HS_HTTP_GET);
    find(HS_HTTP_POST, "/v1/models/a", &params, &methods);
    assert_int_equal(methods, 1u << HS_HTTP_GET | 1u << HS_HTTP_DELETE);
    assert_int_equal(hs_http_method_parse("HEAD"), HS_HTTP_GET);
    assert_int_equal(hs_http_method_parse("get"), HS_HTTP_METHOD_COUNT);
    assert_int_equal(hs_http_method_parse("TRACE"), HS_HTTP_METHOD_COUNT);
}

static void test_check(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "a",         "/{a",         "/a}",
                                      "/x{a}",   "/{}",       "/{a+}/b",     "/{+}",
                                      "/{a}{b}", "/a/{b}c/d", "/{a}/{b+}/c", "/{{a}}"};
    struct hs_error err;
    assert_int_equal(hs_http_routes_check(routes, N_ROUTES, &err), HS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct hs_http_route row = ROW(HS_HTTP_GET, bad[i]);
        if (hs_http_routes_check(&row, 1, &err) != HS_INVALID_ARGUMENT) {
            fail_msg("'%s' is taken", bad[i]);
        }
    }
    struct hs_http_route twice[] = {ROW(HS_HTTP_GET, "/a/{b}"), ROW(HS_HTTP_GET, "/a/{c}")};
    assert_int_equal(hs_http_routes_check(twice, 2, &err), HS_INVALID_ARGUMENT);
    twice[1].method = HS_HTTP_POST;
    assert_int_equal(hs_http_routes_check(twice, 2, &err), HS_OK);
    twice[1].handler = NULL;
    assert_int_equal(hs_http_routes_check(twice, 2, &err), HS_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
