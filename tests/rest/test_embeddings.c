/* Tests of rest/embeddings.c and rest/embed_run.c. */
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "rest_test.h"

static void embed(struct rest_test *test, const char *fields, int status)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"model\":\"fake\",%s}", fields);
    rest_ask(test, "POST /v1/embeddings", body, status);
}

/* Input i of the last request. */
static void expect_tokens(size_t i, const int32_t *want, size_t n)
{
    assert_int_equal(fake_engine.embedding.n_tokens[i], n);
    assert_memory_equal(fake_engine.embedding.tokens[i], want, n * sizeof want[0]);
}

/* The embedding of input i begins with `first`. */
static void expect_values(const struct rest_test *test, size_t i, int first, size_t n)
{
    char path[32];
    snprintf(path, sizeof path, "data/%zu", i);
    const json_t *item = rest_at(test, path);
    assert_string_equal(json_string_value(json_object_get(item, "object")), "embedding");
    assert_int_equal(json_integer_value(json_object_get(item, "index")), i);
    const json_t *values = json_object_get(item, "embedding");
    assert_int_equal(json_array_size(values), n);
    for (size_t v = 0; v < n; v++) {
        double want = first + (double)v / 8;
        assert_true(json_number_value(json_array_get(values, v)) == want);
    }
}

static void every_form_of_input(void **state)
{
    static const struct {
        const char *input;
        size_t n;
        int32_t tokens[2][4];
        size_t n_tokens[2];
        int first[2];
    } rows[] = {
        {"\"Hi\"", 1, {{256, 'H', 'i'}}, {3}, {256}},
        {"[\"Hi\",\"a\"]", 2, {{256, 'H', 'i'}, {256, 'a'}}, {3, 2}, {256, 256}},
        {"[7,8,256]", 1, {{7, 8, 256}}, {3}, {7}},
        {"[[7,8],[9]]", 2, {{7, 8}, {9}}, {2, 1}, {7, 9}},
        {"[\"a\",[9]]", 2, {{256, 'a'}, {9}}, {2, 1}, {256, 9}},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        char fields[256];
        snprintf(fields, sizeof fields, "\"input\":%s,\"user\":\"u\"", rows[r].input);
        embed(*state, fields, 200);
        rest_expect_string(*state, "object", "list");
        rest_expect_string(*state, "model", "fake");
        assert_int_equal(json_array_size(rest_at(*state, "data")), rows[r].n);
        int n_tokens = 0;
        for (size_t i = 0; i < rows[r].n; i++) {
            expect_tokens(i, rows[r].tokens[i], rows[r].n_tokens[i]);
            expect_values(*state, i, rows[r].first[i], FAKE_N_EMBEDDING);
            n_tokens += (int)rows[r].n_tokens[i];
        }
        rest_expect_int(*state, "usage/prompt_tokens", n_tokens);
        rest_expect_int(*state, "usage/total_tokens", n_tokens);
        assert_true(fake_engine.embedding.params.normalize);
        assert_false(fake_engine.embedding.params.truncate);
    }
}

static void dimensions_and_base64(void **state)
{
    embed(*state, "\"input\":[[2]],\"dimensions\":1", 200);
    expect_values(*state, 0, 2, 1);
    embed(*state, "\"input\":[[2]],\"dimensions\":3,\"encoding_format\":\"float\"", 200);
    expect_values(*state, 0, 2, 3);
    /* 2, 2.125 and 2.25 are 00 00 00 40, 00 00 08 40 and 00 00 10 40; by Python's base64 module */
    embed(*state, "\"input\":[[2]],\"encoding_format\":\"base64\"", 200);
    rest_expect_string(*state, "data/0/embedding", "AAAAQAAACEAAABBA");
    embed(*state, "\"input\":[[2]],\"encoding_format\":\"base64\",\"dimensions\":2", 200);
    rest_expect_string(*state, "data/0/embedding", "AAAAQAAACEA=");
    embed(*state, "\"input\":[[2]],\"encoding_format\":\"base64\",\"dimensions\":1", 200);
    rest_expect_string(*state, "data/0/embedding", "AAAAQA==");
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *fields, *param;
    } rows[] = {
        {"\"x\":1", "input"},
        {"\"input\":null", "input"},
        {"\"input\":1", "input"},
        {"\"input\":{}", "input"},
        {"\"input\":true", "input"},
        {"\"input\":\"\"", "input"},
        {"\"input\":[]", "input"},
        {"\"input\":[1.5]", "input"},
        {"\"input\":[257]", "input"},
        {"\"input\":[-1]", "input"},
        {"\"input\":[1,\"a\"]", "input"},
        {"\"input\":[null]", "input"},
        {"\"input\":[\"a\",\"\"]", "input[1]"},
        {"\"input\":[\"a\",1]", "input[1]"},
        {"\"input\":[\"a\",null]", "input[1]"},
        {"\"input\":[[1],[]]", "input[1]"},
        {"\"input\":[[1],[1],[257]]", "input[2]"},
        {"\"input\":[[1],[[1]]]", "input[1]"},
        {"\"input\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]", "input"},
        {"\"input\":\"a\",\"encoding_format\":\"int8\"", "encoding_format"},
        {"\"input\":\"a\",\"encoding_format\":1", "encoding_format"},
        {"\"input\":\"a\",\"dimensions\":0", "dimensions"},
        {"\"input\":\"a\",\"dimensions\":4", "dimensions"},
        {"\"input\":\"a\",\"dimensions\":1.5", "dimensions"},
        {"\"input\":\"a\",\"dimensions\":\"2\"", "dimensions"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        embed(*state, rows[i].fields, 400);
        rest_expect_error(*state, rows[i].param);
    }
    assert_int_equal(fake_engine.embedding.n_asked, 0);
    embed(*state, "\"input\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]", 200);
    rest_ask(*state, "POST /v1/embeddings", "{\"model\":\"x\",\"input\":\"a\"}", 404);
}

static void what_the_engine_refuses(void **state)
{
    static const struct {
        hs_status status;
        int http;
        const char *code;
    } rows[] = {
        {HS_CONTEXT_FULL, 400, "context_length_exceeded"},
        {HS_QUEUE_FULL, 429, "queue_full"},
        {HS_NOT_SUPPORTED, 400, NULL},
        {HS_MODEL_TOO_LARGE, 503, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        fake_engine.embedding.refuse = rows[i].status;
        snprintf(fake_engine.embedding.error.message, HS_MESSAGE_MAX, "about input 0");
        embed(*state, "\"input\":\"a\"", rows[i].http);
        if (rows[i].code != NULL) {
            rest_expect_string(*state, "error/code", rows[i].code);
        }
    }
    /* and what fails later */
    rest_reset();
    fake_engine.embedding.error = (struct hs_error){HS_INTERNAL, "NaN for input 0", ""};
    embed(*state, "\"input\":[\"a\",\"b\"]", 500);
    rest_expect_string(*state, "error/message", "NaN for input 0");
}

static void a_client_that_leaves_cancels(void **state)
{
    struct rest_test *test = *state;
    fake_engine.embedding.waits = true;
    struct hs_http_stats stats;
    int socket = client_connect(test->server);
    client_send(socket, "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n"
                        "\r\n{\"input\":[[1],[2]]}");
    wait_for_int(&fake_engine.n_streams, 1);
    close(socket);
    wait_for_int(&fake_engine.n_streams, 0);
    assert_true(atomic_load(&fake_engine.was_cancelled));
    hs_http_server_stats(test->server, &stats);
    assert_int_equal(stats.n_gone, 1);
}

static void without_memory(void **state)
{
    rest_without_memory(*state, "POST /v1/embeddings",
                        "{\"input\":[\"a\",[1,2]],\"encoding_format\":\"base64\"}", NULL, 0);
    rest_without_memory(*state, "POST /v1/embeddings", "{\"input\":\"a\"}", NULL, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_form_of_input),          TEST(dimensions_and_base64),
        TEST(bad_fields_are_named),         TEST(what_the_engine_refuses),
        TEST(a_client_that_leaves_cancels), TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
