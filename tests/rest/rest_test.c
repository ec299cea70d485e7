#include "rest_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "fake_fusion.h"
#include "fake_pool.h"
#include "served_models.h"

int rest_setup(void **state)
{
    fake_fusion = (struct fake_fusion){0};
    fake_pool = (struct fake_pool){.is_held = false};
    struct rest_test *test = calloc(1, sizeof *test);
    fake_engine_reset();
    hs_rest_defaults(&test->rest);
    struct hs_engine_params params;
    struct hs_model_params model;
    char id[HS_ID_MAX];
    const char *folder = getenv("TMPDIR");
    snprintf(test->sessions_dir, sizeof test->sessions_dir, "%s/sessions-XXXXXX",
             folder == NULL ? "/tmp" : folder);
    hs_engine_params_defaults(&params);
    params.sessions_dir = test->rest.sessions_dir = mkdtemp(test->sessions_dir);
    hs_model_params_defaults(&model);
    if (hs_engine_create(&params, &test->engine, NULL) != HS_OK ||
        hs_engine_load_model(test->engine, "/models/fake.gguf", "fake", &model, id, NULL) !=
            HS_OK) {
        return -1;
    }
    test->rest.engine = test->engine;
    test->rest.max_messages = 8;
    test->rest.max_choices = 4;
    test->rest.max_inputs = 8;
    test->rest.created_unix_s = 1700000000;
    struct hs_http_config config;
    hs_http_config_defaults(&config);
    config.n_workers = 1; /* so that a handler that waits is noticed */
    config.routes = hs_rest_routes(true, &config.n_routes);
    config.user = &test->rest;
    config.openapi.title = "test";
    config.openapi.version = "1";
    config.openapi.schemas = hs_rest_schemas;
    struct hs_error err = {.message = ""};
    if (hs_rest_add_model(&test->rest, id, &err) != HS_OK ||
        hs_adapter_table_new(test->engine, NULL, test->rest.models, 1, &test->rest.adapters,
                             &err) != HS_OK ||
        hs_http_server_start(&config, &test->server, &err) != HS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    atomic_store(&test->rest.server, test->server);
    *state = test;
    return 0;
}

int rest_teardown(void **state)
{
    struct rest_test *test = *state;
    hs_status status = hs_http_server_stop(test->server, 1000, NULL);
    hs_http_server_free(test->server);
    int n_streams = atomic_load(&fake_engine.n_streams);
    hs_served_models_free(test->rest.served);
    hs_adapter_table_free(test->rest.adapters);
    hs_engine_free(test->engine);
    status = status == HS_OK ? hs_fs_remove_all(test->sessions_dir, NULL) : status;
    reply_free(&test->reply);
    json_decref(test->json);
    free(test);
    fake_engine_reset();
    return status == HS_OK && n_streams == 0 ? 0 : -1;
}

void rest_reset(void)
{
    wait_for_int(&fake_engine.n_streams, 0);
    fake_engine_reset();
}

void rest_ask(struct rest_test *test, const char *line, const char *body, int status)
{
    reply_free(&test->reply);
    json_decref(test->json);
    request(test->server, line, "", body, &test->reply);
    const char *text = test->reply.body.len > 0 ? test->reply.body.data : "";
    test->json = json_loads(text, 0, NULL);
    if (test->reply.status != status) {
        fail_msg("%s %s: status %d instead of %d: %s", line, body, test->reply.status, status,
                 text);
    }
}

void rest_chat(struct rest_test *test, const char *more, int status)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"model\":\"fake\"," USER "%s%s}", *more ? "," : "", more);
    rest_ask(test, "POST /v1/chat/completions", body, status);
}

static char last_answer[65536];

/* Without the helpers' buffers, whose allocations would be counted, too. 0: cut. */
static int ask_raw(const struct rest_test *test, const char *text)
{
    char *answer = last_answer;
    size_t len = 0;
    struct timeval limit = {.tv_sec = 5};
    int fd = client_connect(test->server);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    client_send(fd, text);
    for (ssize_t n = 1; n > 0; len += n > 0 ? (size_t)n : 0) {
        n = recv(fd, answer + len, sizeof last_answer - 1 - len, 0);
        if (n < 0 && errno != ECONNRESET) {
            fail_msg("no answer within 5 s");
        }
    }
    close(fd);
    answer[len] = '\0';
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

static void run_without_memory(struct rest_test *test, void (*prepare)(struct rest_test *test),
                               const char *line, const char *body,
                               const struct fake_answer *answers, size_t n_answers)
{
    char text[8192];
    snprintf(text, sizeof text,
             "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
             line, strlen(body), body);
    int n_failed = 0;
    for (uint64_t n = 1;; n++) {
        rest_reset();
        if (prepare != NULL) {
            prepare(test);
            wait_until_stats(test->server, 0, 0); /* allocations of another request would count */
        }
        fake_engine.answers = answers;
        fake_engine.n_answers = n_answers;
        hs_mem_fail_after(n);
        int status = ask_raw(test, text);
        uint64_t n_allocations = hs_mem_count();
        hs_mem_fail_after(0);
        /* jansson takes some failed allocations for bad JSON */
        bool is_jansson = status == 400 && strstr(last_answer, "no valid JSON") != NULL;
        if (status != 0 && status / 100 != 2 && status != 500 && status != 503 && !is_jansson) {
            fail_msg("allocation %d of %s: status %d: %s", (int)n, line, status, last_answer);
        }
        if (n_allocations < n) {
            assert_int_equal(status / 100, 2);
            break;
        }
        n_failed += status / 100 != 2;
    }
    assert_true(n_failed > 3);
    rest_reset();
}

void rest_without_memory(struct rest_test *test, const char *line, const char *body,
                         const struct fake_answer *answers, size_t n_answers)
{
    run_without_memory(test, NULL, line, body, answers, n_answers);
}

void rest_without_memory_after(struct rest_test *test, void (*prepare)(struct rest_test *test),
                               const char *line, const char *body)
{
    run_without_memory(test, prepare, line, body, NULL, 0);
}

const json_t *rest_at(const struct rest_test *test, const char *path)
{
    const json_t *json = test->json;
    char part[64];
    for (const char *p = path; json != NULL && *p != '\0';) {
        size_t n = strcspn(p, "/");
        snprintf(part, sizeof part, "%.*s", (int)n, p);
        json = json_is_array(json) ? json_array_get(json, (size_t)strtol(part, NULL, 10))
                                   : json_object_get(json, part);
        p += n + (p[n] == '/');
    }
    if (json == NULL) {
        fail_msg("no %s in %s", path, test->reply.body.len > 0 ? test->reply.body.data : "");
    }
    return json;
}

void rest_expect_string(const struct rest_test *test, const char *path, const char *want)
{
    const json_t *json = rest_at(test, path);
    if (!json_is_string(json)) {
        fail_msg("%s is no string", path);
    }
    assert_string_equal(json_string_value(json), want);
}

void rest_expect_int(const struct rest_test *test, const char *path, json_int_t want)
{
    const json_t *json = rest_at(test, path);
    assert_true(json_is_integer(json));
    assert_int_equal(json_integer_value(json), want);
}

void rest_expect_error(const struct rest_test *test, const char *param)
{
    assert_true(json_is_string(rest_at(test, "error/message")));
    assert_true(json_is_string(rest_at(test, "error/type")));
    rest_at(test, "error/code");
    if (param == NULL) {
        assert_true(json_is_null(rest_at(test, "error/param")));
    } else {
        rest_expect_string(test, "error/param", param);
        /* people read the message only */
        assert_non_null(strstr(json_string_value(rest_at(test, "error/message")), param));
    }
}

const struct fake_asked *rest_asked(void)
{
    assert_true(fake_engine.n_asked > 0);
    return &fake_engine.asked[0];
}
