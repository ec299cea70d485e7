/* Tests of rest/models.c, status.c and the route table. */
#include <stdio.h>

#include "base/buf.h"
#include "rest_test.h"

static void models(void **state)
{
    rest_ask(*state, "GET /v1/models", "", 200);
    rest_expect_string(*state, "object", "list");
    assert_int_equal(json_array_size(rest_at(*state, "data")), 1);
    rest_expect_string(*state, "data/0/id", "fake");
    rest_expect_string(*state, "data/0/object", "model");
    rest_expect_int(*state, "data/0/created", 1700000000);
    rest_expect_string(*state, "data/0/owned_by", "hyprstream");
    rest_expect_int(*state, "data/0/meta/n_ctx", 2048);
    rest_ask(*state, "GET /v1/models/fake", "", 200);
    rest_expect_string(*state, "id", "fake");
    rest_ask(*state, "GET /v1/models/other", "", 404);
    rest_expect_string(*state, "error/code", "model_not_found");
}

static void health(void **state)
{
    rest_ask(*state, "GET /health", "", 200);
    rest_expect_string(*state, "status", "ok");
}

static void props(void **state)
{
    rest_ask(*state, "GET /props", "", 200);
    rest_expect_int(*state, "total_slots", 4);
    rest_expect_int(*state, "default_generation_settings/n_ctx", 2048);
    rest_expect_string(*state, "model_alias", "fake");
    rest_expect_string(*state, "model_path", "fake.gguf"); /* not where it lies */
    rest_ask(*state, "GET /props?model=x", "", 404);
}

static void slots(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "GET /slots", "", 200);
    assert_int_equal(json_array_size(test->json), 4);
    rest_expect_int(test, "3/id", 3);
    assert_true(json_is_false(rest_at(test, "0/is_processing")));
}

static void slots_say_which_request_they_have(void **state)
{
    struct rest_test *test = *state;
    fake_engine.slots[2] = (struct hs_slot){.state = HS_SLOT_PREFILL,
                                            .request = 7,
                                            .n_prompt = 30,
                                            .n_evaluated = 12,
                                            .age_ms = 1.5,
                                            .tag = "req-1"};
    rest_ask(test, "GET /slots", "", 200);
    assert_int_equal(json_array_size(test->json), 4);
    rest_expect_int(test, "0/id_task", -1);
    rest_expect_string(test, "0/state", "idle");
    assert_true(json_is_true(rest_at(test, "2/is_processing")));
    rest_expect_string(test, "2/state", "prefill");
    rest_expect_int(test, "2/id_task", 7);
    rest_expect_int(test, "2/n_prompt_tokens", 30);
    rest_expect_int(test, "2/n_kv_tokens", 12);
    rest_expect_int(test, "2/n_decoded", 0);
    rest_expect_string(test, "2/request_id", "req-1");
    rest_ask(test, "GET /slots?model=x", "", 404);
}

static void status_has_everything(void **state)
{
    struct rest_test *test = *state;
    fake_engine.slots[1] = (struct hs_slot){.state = HS_SLOT_DECODE, .request = 1};
    rest_ask(test, "GET /api/v1/status", "", 200);
    rest_expect_string(test, "version", hs_version());
    rest_expect_int(test, "started", 1700000000);
    assert_true(json_integer_value(rest_at(test, "resident_bytes")) > 0);
    rest_expect_int(test, "http/active", 1); /* this request */
    rest_expect_string(test, "models/0/id", "fake");
    rest_expect_int(test, "models/0/n_ctx", 2048);
    rest_expect_int(test, "models/0/n_sequences", 4);
    rest_expect_int(test, "models/0/kv_cells_used", 7);
    assert_int_equal(json_array_size(rest_at(test, "models/0/busy")), 1);
    rest_expect_int(test, "models/0/busy/0/id", 1);
    rest_expect_string(test, "models/0/busy/0/state", "decode");
    atomic_store(&test->rest.server, NULL);
    rest_ask(test, "GET /api/v1/status", "", 200);
    rest_expect_int(test, "http/active", 0);
}

static void requests_carry_their_id_to_the_engine(void **state)
{
    struct rest_test *test = *state;
    reply_free(&test->reply);
    request(test->server, "POST /v1/chat/completions", "X-Request-Id: mine\r\n", "{" USER "}",
            &test->reply);
    assert_int_equal(test->reply.status, 200);
    assert_string_equal(rest_asked()->tag, "mine");
    /* Without keys an address is a client, whatever its port. */
    assert_string_equal(rest_asked()->client, "127.0.0.1");
}

static void metrics(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "GET /metrics", "", 200);
    char type[512];
    assert_string_equal(reply_header(&test->reply, "Content-Type", type),
                        "text/plain; version=0.0.4; charset=utf-8");
    const char *text = test->reply.body.data;
    assert_non_null(strstr(text, "# TYPE hyprstream_kv_cells_used gauge\n"
                                 "hyprstream_kv_cells_used{model=\"fake\"} 7\n"));
    assert_non_null(strstr(text, "# TYPE hyprstream_http_requests_total counter\n"));
    atomic_store(&test->rest.server, NULL);
    rest_ask(test, "GET /metrics", "", 200);
    assert_null(strstr(test->reply.body.data, "http_requests"));
}

static void every_route_is_described(void **state)
{
    size_t n = 0;
    const struct hs_http_route *routes = hs_rest_routes(true, &n);
    rest_ask(*state, "GET /openapi.json", "", 200);
    json_t *schemas = json_loads(hs_rest_schemas, 0, NULL);
    assert_non_null(schemas);
    for (size_t i = 0; i < n; i++) {
        assert_non_null(routes[i].summary);
        assert_non_null(routes[i].tag);
        const char *names[] = {routes[i].request_schema, routes[i].response_schema};
        for (size_t k = 0; k < 2; k++) {
            assert_true(names[k] == NULL || json_object_get(schemas, names[k]) != NULL);
        }
        bool has_body = routes[i].method == HS_HTTP_POST || routes[i].method == HS_HTTP_PATCH;
        assert_int_equal(has_body, routes[i].request_schema != NULL);
        bool is_open = strcmp(routes[i].path, "/health") == 0 || strcmp(routes[i].tag, "Page") == 0;
        bool is_kept =
            strcmp(routes[i].tag, "Adapters") == 0 || strcmp(routes[i].tag, "Models") == 0;
        bool is_admins = is_kept && routes[i].method != HS_HTTP_GET;
        assert_int_equal(routes[i].scope, is_open     ? 0
                                          : is_admins ? HS_KEY_ADMIN
                                                      : HS_KEY_INFERENCE);
    }
    json_decref(schemas);
}

static void unknown_paths_and_methods(void **state)
{
    rest_ask(*state, "GET /v1/chat/completions", "", 405);
    rest_ask(*state, "POST /v1/nothing", "{}", 404);
    rest_expect_error(*state, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(models),
        TEST(health),
        TEST(props),
        TEST(slots),
        TEST(slots_say_which_request_they_have),
        TEST(status_has_everything),
        TEST(requests_carry_their_id_to_the_engine),
        TEST(metrics),
        TEST(every_route_is_described),
        TEST(unknown_paths_and_methods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
