/* hyprstream ps against a server whose answers are scripted. */
#include "api_test.h"

#include "script_server.h"

#define STATUS(tokens, busy)                                                                       \
    SCRIPT_JSON("200 OK")                                                                          \
    "{\"version\":\"9\",\"started\":0,\"resident_bytes\":5000000,\"http\":{},\"models\":[{\"id\":" \
    "\"m\",\"n_ctx\":4096,\"n_sequences\":64,\"running\":1,\"queued\":2,\"kv_cells_used\":33,"     \
    "\"contexts_parked\":4,\"parked_bytes\":1000000,\"generated_tokens\":" tokens ",\"memory\":{"  \
    "\"weights_bytes\":7000000,\"kv_bytes\":2000000,\"compute_bytes\":0},\"busy\":[" busy "]}]}"

static struct script_server server;

static void serve(struct api_test *test, const struct script_reply *replies, size_t n)
{
    char url[64];
    assert_true(script_server_start(&server, replies, n));
    snprintf(url, sizeof url, "127.0.0.1:%d", server.port);
    api_flag(test, HS_CFG_SERVER, url);
}

static const struct script_reply idle[] = {{.text = STATUS("500", "")}};

static void a_line_for_each_model(void **state)
{
    struct api_test *test = *state;
    serve(test, idle, 1);
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_OK);
    assert_string_equal(test->out.data,
                        "MODEL  CONTEXT  BUSY  KV  QUEUE  PARKED  TOKENS   MEMORY\n"
                        "m         4096  1/64  33      2       4     500  10.0 MB\n");
    assert_contains(server.requests[0], "GET /api/v1/status HTTP/1.1\r\n");
    script_server_stop(&server);
}

static void a_line_for_each_request(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply busy[] = {
        {.text = STATUS("1", "{\"id\":3,\"state\":\"decode\",\"n_prompt_tokens\":20,"
                             "\"n_kv_tokens\":30,\"n_decoded\":11,\"age_ms\":1234.5,"
                             "\"request_id\":\"req-\\u001b[2J\"}")}};
    serve(test, busy, 1);
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_OK);
    assert_contains(test->out.data, "\n\nMODEL  SEQ  STATE   PROMPT  KV  ANSWER  SECONDS  REQUEST\n"
                                    "m        3  decode      20  30      11      1.2  req-");
    assert_null(strchr(test->out.data, '\033')); /* what comes from outside cannot paint */
    script_server_stop(&server);
}

static void json_is_the_servers(void **state)
{
    struct api_test *test = *state;
    serve(test, idle, 1);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_OK);
    json_t *json = api_json(test);
    assert_string_equal(json_string_value(json_object_get(json, "version")), "9");
    json_decref(json);
    script_server_stop(&server);
}

static void watching_shows_the_pace(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {{.text = STATUS("500", "")},
                                                  {.text = STATUS("700", "{\"id\":3}")}};
    serve(test, replies, 2);
    test->options[HS_OPT_WATCH] = "";
    test->interrupt_when = "SEQ"; /* the second time there is a request */
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_OK);
    assert_contains(test->out.data, "TOKENS/S");
    assert_contains(test->out.data, "4         -  10.0 MB\n"); /* the first time there is none */
    const char *first = strstr(test->out.data, "\nm ");
    assert_non_null(first);
    const char *second = strstr(first + 1, "\nm ");
    assert_non_null(second);
    double pace = 0;
    assert_int_equal(sscanf(second, " m 4096 1/64 33 2 4 %lf", &pace), 1);
    assert_true(pace > 0 && pace <= 200); /* 200 tokens in a second or, on a busy machine, more */
    script_server_stop(&server);
}

static void checking_is_for_programs(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = SCRIPT_JSON("200 OK") "{\"status\":\"ok\"}"},
        {.text = SCRIPT_JSON("503 No") "{\"error\":{\"message\":\"stopping\"}}"}};
    serve(test, replies, 2);
    test->options[HS_OPT_CHECK] = "";
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_OK);
    assert_int_equal(test->out.len, 0);
    assert_contains(server.requests[0], "GET /health HTTP/1.1\r\n");
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_UNAVAILABLE);
    script_server_stop(&server);
    assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_UNAVAILABLE);
}

static void other_servers(void **state)
{
    struct api_test *test = *state;
    const struct script_reply replies[] = {{.text = SCRIPT_JSON("404 No") "{}"},
                                           {.text = SCRIPT_JSON("200 OK") "[]"}};
    serve(test, replies, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(api_run(test, hs_cmd_ps, NULL), HS_NOT_SUPPORTED);
        assert_contains(test->err.message, "no server of hyprstream");
    }
    script_server_stop(&server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_for_each_model),   TEST(a_line_for_each_request),  TEST(json_is_the_servers),
        TEST(watching_shows_the_pace), TEST(checking_is_for_programs), TEST(other_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
