/* The description of the API is the table that is served. */
#include "http_test.h"

static const char schemas[] = "{\"Thing\":{\"type\":\"object\"}}";

static const json_t *get(const json_t *json, const char *a, const char *b, const char *c)
{
    json = json_object_get(json, a);
    json = b == NULL ? json : json_object_get(json, b);
    return c == NULL ? json : json_object_get(json, c);
}

static void test_served(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.openapi.title = "Toys";
    config.openapi.version = "1.2";
    config.openapi.schemas = schemas;
    hs_http_server *server = test_start(&config);
    struct reply reply;
    request(server, "GET /openapi.json", NULL, NULL, &reply);
    assert_int_equal(reply.status, 200);
    json_t *root = json_loadb(reply.body.data, reply.body.len, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(get(root, "openapi", NULL, NULL)), "3.1.0");
    assert_string_equal(json_string_value(get(root, "info", "title", NULL)), "Toys");
    const json_t *paths = get(root, "paths", NULL, NULL);
    size_t n_operations = 0;
    const char *path;
    json_t *item;
    json_object_foreach((json_t *)paths, path, item)
    {
        n_operations += json_object_size(item);
        assert_null(strchr(path, '+'));
    }
    assert_int_equal(n_operations, n_test_routes);
    const json_t *op = get(paths, "/json", "post", NULL);
    assert_string_equal(json_string_value(get(get(op, "requestBody", "content", "application/json"),
                                              "schema", "$ref", NULL)),
                        "#/components/schemas/Thing");
    assert_string_equal(json_string_value(get(op, "summary", NULL, NULL)), "The body back");
    const json_t *param = json_array_get(get(paths, "/files/{path}", "get", "parameters"), 0);
    assert_string_equal(json_string_value(json_object_get(param, "name")), "path");
    const json_t *content = get(get(paths, "/events", "get", "responses"), "200", "content", NULL);
    assert_non_null(json_object_get(content, "text/event-stream"));
    assert_non_null(json_object_get(content, "application/json"));
    assert_int_equal(json_array_size(get(paths, "/infer", "get", "security")), 2);
    assert_int_equal(json_array_size(get(paths, "/hello", "get", "security")), 0);
    assert_non_null(
        get(get(root, "components", "schemas", "HttpError"), "properties", "error", NULL));
    json_decref(root);
    reply_free(&reply);
    test_stop(server);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {NULL, "{}", "{\"Thing\":1", "[]"};
    struct hs_http_config config;
    struct hs_error err;
    test_config(&config);
    for (size_t i = 0; i < 4; i++) {
        struct hs_buf out = HS_BUF_INIT(1u << 20);
        config.openapi.schemas = bad[i];
        assert_int_equal(hs_http_openapi(&config, &out, &err), HS_INVALID_ARGUMENT);
        hs_buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_served),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
