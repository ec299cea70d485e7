/*
 * fuzz_http.c - libFuzzer target of what the HTTP core parses itself. The first byte chooses:
 * request target (and the route that it finds), JSON body, file of API keys, Origin and Host. Any
 * bytes give HS_OK with values that keep their promises, or a refusal with a message.
 */
#include <stdlib.h>
#include <string.h>

#include "api/http_keys.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "json_body.h"
#include "origin.h"
#include "route.h"

#define DEPTH_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void handler(hs_http_request *request, void *user)
{
    (void)request;
    (void)user;
}

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_refusal(hs_status status, const struct hs_error *err)
{
    require(status == err->status && err->message[0] != '\0');
    require(hs_utf8_valid(err->message, strlen(err->message)));
}

static void fuzz_target(const char *text)
{
    static const struct hs_http_route routes[] = {
        {.path = "/", .handler = handler},
        {.path = "/a/{x}/{y}", .handler = handler},
        {.path = "/a/b/{y+}", .handler = handler},
        {.method = HS_HTTP_POST, .path = "/{z+}", .handler = handler},
    };
    struct hs_http_target target;
    struct hs_error err = {.message = ""};
    hs_status status = hs_http_target_parse(text, &target, &err);
    if (status != HS_OK) {
        check_refusal(status, &err);
        return;
    }
    require(hs_utf8_valid(target.path, strlen(target.path)));
    for (size_t i = 0; i < target.n_segments; i++) {
        size_t len = strlen(target.segments[i]);
        require(strncmp(target.rests[i], target.segments[i], len) == 0);
        require(target.rests[i] + strlen(target.rests[i]) == target.path + strlen(target.path));
    }
    for (size_t i = 0; i < target.n_query; i++) {
        require(hs_utf8_valid(target.query[i].name, strlen(target.query[i].name)));
        require(hs_utf8_valid(target.query[i].value, strlen(target.query[i].value)));
    }
    struct hs_http_params params;
    unsigned methods;
    const struct hs_http_route *route =
        hs_http_route_find(routes, 4, HS_HTTP_GET, &target, &params, &methods);
    require(route == NULL || (methods & 1u << HS_HTTP_GET) != 0);
    require(route != &routes[2] || hs_http_params_get(&params, "y") != NULL);
    hs_http_target_free(&target);
}

static int depth_of(const json_t *json)
{
    int deepest = 0;
    size_t i;
    const char *key;
    json_t *value;
    json_array_foreach((json_t *)json, i, value)
    {
        int depth = depth_of(value);
        deepest = depth > deepest ? depth : deepest;
    }
    json_object_foreach((json_t *)json, key, value)
    {
        int depth = depth_of(value);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + (json_is_array(json) || json_is_object(json));
}

static void fuzz_json(const char *text, size_t len)
{
    json_t *json = NULL;
    struct hs_error err = {.message = ""};
    hs_status status = hs_http_json_parse(text, len, DEPTH_MAX, &json, &err);
    if (status != HS_OK) {
        check_refusal(status, &err);
        return;
    }
    require(json_is_object(json) && depth_of(json) <= DEPTH_MAX);
    json_decref(json);
}

static void fuzz_keys(const char *text, size_t len)
{
    hs_http_keys *keys = NULL;
    struct hs_error err = {.message = ""};
    hs_status status = hs_http_keys_parse(text, len, &keys, &err);
    if (status != HS_OK) {
        check_refusal(status, &err);
        return;
    }
    struct hs_http_key_info info;
    require(hs_http_keys_count(keys) <= HS_KEYS_MAX);
    require(!hs_http_keys_check(keys, "hs-00000000-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                &info));
    hs_http_keys_free(keys);
}

static void fuzz_origin(const char *text, const char *host)
{
    static const char *const none[] = {"https://app.example"};
    const struct hs_http_origins origins = {
        .allowed = none, .n_allowed = 1, .host_names = none, .n_host_names = 1};
    bool is_allowed = hs_http_origin_is_allowed(&origins, text, "");
    require(!is_allowed || strlen(text) == strlen(none[0]));
    (void)hs_http_origin_is_allowed(&origins, text, host);
    require(host[0] != '\0' || !hs_http_host_is_allowed(&origins, host));
    (void)hs_http_host_is_allowed(&origins, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    char *text = hs_strndup((const char *)data + 1, size - 1);
    require(text != NULL);
    switch (data[0]) {
    case 't':
        fuzz_target(text);
        break;
    case 'j':
        fuzz_json((const char *)data + 1, size - 1);
        break;
    case 'k':
        fuzz_keys((const char *)data + 1, size - 1);
        break;
    default:
        fuzz_origin(text, text + strlen(text) / 2);
        break;
    }
    hs_free(text);
    return 0;
}
