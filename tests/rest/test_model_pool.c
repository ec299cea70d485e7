/* Models that load when they are asked for: waiting requests, failures, lists, load and unload. */
#include "rest_test.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "fake_pool.h"
#include "served_models.h"

static struct hs_error err;

/* The fake model and "second", which takes its place; nothing is loaded yet but "fake". */
static int setup(void **state)
{
    if (rest_setup(state) != 0) {
        return -1;
    }
    struct rest_test *test = *state;
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    const struct hs_served_params served = {
        .rest = &test->rest, .budget_bytes = 1000000000, .keep_alive_ms = 5000, .model = &params};
    atomic_store(&test->rest.n_models, 0);
    bool is_good = hs_served_models_new(&served, &err) == HS_OK &&
                   hs_served_models_add(test->rest.served, "fake", "/models/fake.gguf", &params,
                                        &err) == HS_OK &&
                   hs_served_models_load(test->rest.served, "fake", NULL, NULL, &err) == HS_OK &&
                   hs_served_models_add(test->rest.served, "second", "/models/second.gguf", &params,
                                        &err) == HS_OK;
    return is_good ? 0 : -1;
}

static void expect_status(struct rest_test *test, const char *id, const char *want)
{
    char line[64];
    snprintf(line, sizeof line, "GET /v1/models/%s", id);
    rest_ask(test, line, "", 200);
    rest_expect_string(test, "id", id);
    rest_expect_string(test, "status/value", want);
}

static void a_model_is_loaded_for_the_request_that_names_it(void **state)
{
    struct rest_test *test = *state;
    expect_status(test, "fake", "loaded");
    expect_status(test, "second", "unloaded");
    rest_ask(test, "POST /v1/chat/completions", "{\"model\":\"second\"," USER "}", 200);
    rest_expect_string(test, "model", "second");
    assert_string_equal(rest_asked()->model_id, "second");
    expect_status(test, "second", "loaded");
    expect_status(test, "fake", "unloaded");
    rest_ask(test, "POST /v1/chat/completions", "{" USER "}", 200); /* the default model */
    rest_expect_string(test, "model", "fake");
    rest_ask(test, "POST /v1/chat/completions", "{\"model\":\"third\"," USER "}", 404);
}

struct waiting {
    pthread_t thread;
    struct rest_test *test;
    const char *body;
    struct reply reply;
};

static void *ask(void *user)
{
    struct waiting *waiting = user;
    request(waiting->test->server, "POST /v1/chat/completions", "", waiting->body, &waiting->reply);
    return NULL;
}

static void wait_until_asked(struct rest_test *test, int n)
{
    int64_t end = hs_clock_ns() + INT64_C(60000000000);
    while (fake_pool_waiting(hs_served_models_pool(test->rest.served)) < n) {
        assert_true(hs_clock_ns() < end);
        sched_yield();
    }
}

static void requests_wait_for_a_load_without_a_thread(void **state)
{
    struct rest_test *test = *state;
    struct waiting waiting[3];
    fake_pool.is_held = true;
    for (int i = 0; i < 3; i++) {
        waiting[i] = (struct waiting){.test = test, .body = "{\"model\":\"second\"," USER "}"};
        assert_int_equal(pthread_create(&waiting[i].thread, NULL, ask, &waiting[i]), 0);
    }
    wait_until_asked(test, 3);
    /* the server has one thread for handlers, and it is free; the other model goes on */
    rest_ask(test, "POST /v1/chat/completions", "{" USER "}", 200);
    rest_ask(test, "GET /api/v1/models?model=second", "", 200);
    assert_int_equal(fake_pool_go(hs_served_models_pool(test->rest.served)), 3);
    for (int i = 0; i < 3; i++) {
        pthread_join(waiting[i].thread, NULL);
        assert_int_equal(waiting[i].reply.status, 200);
        assert_non_null(strstr(waiting[i].reply.body.data, "\"second\""));
        reply_free(&waiting[i].reply);
    }
    rest_ask(test, "GET /api/v1/models?model=second", "", 200);
    rest_expect_int(test, "loads", 1);
}

static void who_leaves_while_he_waits_leaves_nothing(void **state)
{
    struct rest_test *test = *state;
    fake_pool.is_held = true;
    int fd = client_connect(test->server);
    static const char body[] = "{\"model\":\"second\"," USER "}";
    char text[512];
    int len = snprintf(text, sizeof text,
                       "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       sizeof body - 1, body);
    assert_int_equal(send(fd, text, (size_t)len, MSG_NOSIGNAL), len);
    wait_until_asked(test, 1);
    close(fd);
    int64_t end = hs_clock_ns() + INT64_C(60000000000);
    while (fake_pool_waiting(hs_served_models_pool(test->rest.served)) > 0) {
        assert_true(hs_clock_ns() < end);
        sched_yield();
    }
}

static void a_model_that_does_not_load_says_why(void **state)
{
    struct rest_test *test = *state;
    fake_engine.load_path_fails = "/models/second.gguf";
    rest_ask(test, "POST /v1/chat/completions", "{\"model\":\"second\"," USER "}", 422);
    assert_non_null(strstr(json_string_value(rest_at(test, "error/message")), "is not a GGUF"));
    rest_ask(test, "GET /api/v1/models?model=second", "", 200);
    rest_expect_string(test, "state", "cold");
    assert_non_null(strstr(json_string_value(rest_at(test, "error")), "is not a GGUF"));
    fake_engine.load_path_fails = NULL;
    fake_engine.load_status = HS_MODEL_TOO_LARGE;
    rest_ask(test, "POST /v1/chat/completions", "{\"model\":\"second\"," USER "}", 503);
    fake_engine.load_status = HS_OK;
}

static void models_are_loaded_and_unloaded_by_hand(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /api/v1/models/load",
             "{\"model\":\"second\",\"pin\":true,\"keep_alive\":60}", 200);
    rest_expect_string(test, "state", "ready");
    rest_expect_int(test, "expires_ms", 60000);
    assert_true(json_is_true(rest_at(test, "pinned")));
    rest_ask(test, "POST /api/v1/models/unload", "{\"model\":\"second\"}", 200);
    rest_expect_string(test, "state", "cold");
    rest_ask(test, "POST /api/v1/models/unload", "{\"model\":\"second\"}", 200);
    rest_ask(test, "POST /api/v1/models/unload", "{}", 400);
    rest_expect_error(test, "model");
    rest_ask(test, "POST /api/v1/models/unload", "{\"model\":\"third\"}", 404);
    rest_ask(test, "POST /api/v1/models/load", "{\"model\":\"third\"}", 404);
    rest_ask(test, "POST /api/v1/models/load", "{\"keep_alive\":\"x\"}", 400);
    rest_expect_error(test, "keep_alive");
    rest_ask(test, "POST /api/v1/models/load", "{\"pin\":1}", 400);
    rest_expect_error(test, "pin");
    rest_ask(test, "GET /api/v1/models", "", 200);
    rest_expect_int(test, "budget_bytes", 1000000000);
    rest_expect_string(test, "models/0/id", "fake");
    rest_expect_string(test, "models/1/id", "second");
}

static void ollama_says_how_long_a_model_stays(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /api/chat",
             "{\"model\":\"second\",\"stream\":false,\"keep_alive\":\"1h\"," USER "}", 200);
    rest_ask(test, "GET /api/v1/models?model=second", "", 200);
    rest_expect_int(test, "expires_ms", 3600000);
    rest_ask(test, "GET /api/ps", "", 200);
    rest_expect_string(test, "models/0/name", "second:latest");
    assert_int_equal(json_array_size(rest_at(test, "models")), 1);
    assert_null(strstr(json_string_value(rest_at(test, "models/0/expires_at")), "2318"));
    rest_ask(test, "GET /api/tags", "", 200);
    assert_int_equal(json_array_size(rest_at(test, "models")), 2);
    rest_ask(test, "POST /api/generate",
             "{\"model\":\"second\",\"stream\":false,\"keep_alive\":-1,\"prompt\":\"a\"}", 200);
    rest_ask(test, "GET /api/v1/models?model=second", "", 200);
    rest_expect_int(test, "expires_ms", -1);
}

static void figures_name_loaded_models_only(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "GET /api/v1/status", "", 200);
    assert_int_equal(json_array_size(rest_at(test, "models")), 1);
    rest_expect_string(test, "pool/models/1/state", "cold");
    rest_ask(test, "GET /metrics", "", 200);
    const char *text = test->reply.body.data;
    assert_non_null(strstr(text, "hyprstream_model_loaded{model=\"fake\"} 1\n"));
    assert_non_null(strstr(text, "hyprstream_model_loaded{model=\"second\"} 0\n"));
    assert_non_null(strstr(text, "hyprstream_model_memory_bytes{kind=\"budget\"} 1000000000\n"));
    assert_null(strstr(text, "requests_running{model=\"second\"}"));
}

static void without_a_pool_models_stay(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /api/v1/models/load", "{\"model\":\"fake\"}", 409);
    rest_ask(test, "POST /api/v1/models/unload", "{\"model\":\"fake\"}", 409);
    rest_ask(test, "GET /api/v1/models?model=fake", "", 409);
    rest_ask(test, "GET /api/v1/status", "", 200);
    assert_true(json_is_null(rest_at(test, "pool")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_model_is_loaded_for_the_request_that_names_it),
        TEST(requests_wait_for_a_load_without_a_thread),
        TEST(who_leaves_while_he_waits_leaves_nothing),
        TEST(a_model_that_does_not_load_says_why),
        TEST(models_are_loaded_and_unloaded_by_hand),
        TEST(ollama_says_how_long_a_model_stays),
        TEST(figures_name_loaded_models_only),
        cmocka_unit_test_setup_teardown(without_a_pool_models_stay, rest_setup, rest_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
