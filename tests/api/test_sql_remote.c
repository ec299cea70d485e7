/* Statements of a server that answers with no stream of Arrow's; what a real one answers is in
 * tests/python/test_sql_server.py. */
#include "api_test.h"
#include "script_server.h"

#define ARROW SCRIPT_HEAD("200 OK", "application/vnd.apache.arrow.stream")

static hs_status ask(struct api_test *test, const char *answer)
{
    struct script_server server;
    const struct script_reply reply = {.text = answer};
    char url[64];
    assert_true(script_server_start(&server, &reply, 1));
    snprintf(url, sizeof url, "127.0.0.1:%d", server.port);
    api_flag(test, HS_CFG_SERVER, url);
    char *args[] = {"SELECT 'x'", NULL};
    api_clear_output(test);
    hs_status status = api_run_args(test, hs_cmd_sql, 1, args);
    if (server.n_requests > 0) {
        assert_contains(server.requests[0], "POST /api/v1/sql ");
        assert_contains(server.requests[0], "\"query\":\"SELECT 'x'\"");
    }
    script_server_stop(&server);
    return status;
}

static void test_what_is_no_stream(void **state)
{
    struct api_test *test = *state;
    static const char *const answers[] = {
        ARROW,
        ARROW "ABC",
        ARROW "<html>hello</html>",
        ARROW "\xff\xff\xff\xff\x10",
        ARROW "\xff\xff\xff\xff\xff\xff\xff\x7f", /* a header of 2 GiB */
        ARROW "\xff\xff\xff\xff\x10\x01\x01\x01 too short",
    };
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        assert_int_equal(ask(test, answers[i]), HS_IO);
        assert_contains(test->err.message, "Arrow");
    }
    assert_int_equal(ask(test, ARROW "{\"error\":"), HS_IO); /* and no more */
}

static void test_errors_of_the_server(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(ask(test, SCRIPT_JSON("400 Bad Request") "{\"error\":{\"message\":\"nix\"}}"),
                     HS_INVALID_ARGUMENT);
    assert_string_equal(test->err.message, "nix");
    assert_int_equal(ask(test, SCRIPT_JSON("403 Forbidden") "{\"error\":{\"message\":\"no\"}}"),
                     HS_PERMISSION_DENIED);
    assert_int_equal(ask(test, SCRIPT_JSON("501 No") "{\"error\":{\"message\":\"without\"}}"),
                     HS_NOT_SUPPORTED);
    /* after a stream has begun */
    assert_int_equal(ask(test, ARROW "{\"error\":{\"message\":\"it broke\"}}"), HS_IO);
    assert_string_equal(test->err.message, "it broke");
}

static void test_settings_of_this_process_are_refused(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SQL_FILE, ":memory:");
    assert_int_equal(ask(test, ARROW), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "--sql-file");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_no_stream),
        TEST(test_errors_of_the_server),
        TEST(test_settings_of_this_process_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
