/* The client of a server that answers well, badly, or not at all. */
#include "api_test.h"

#include "http_client.h"
#include "script_server.h"

static struct script_server server;
static bool is_running;
static hs_http_client *client;
static json_t *json;

static void serve(const struct script_reply *replies, size_t n)
{
    assert_true(script_server_start(&server, replies, n));
    is_running = true;
}

/* The one reply again and again. */
static void serve_text(const char *text)
{
    static struct script_reply reply;
    reply = (struct script_reply){.text = text};
    serve(&reply, 1);
}

static void stop(void)
{
    if (is_running) {
        script_server_stop(&server);
    }
    is_running = false;
}

static int teardown(void **state)
{
    json_decref(json);
    json = NULL;
    hs_http_client_free(client);
    client = NULL;
    stop();
    return api_teardown(state);
}

static hs_status make(const struct hs_command_args *args, struct hs_error *err)
{
    hs_http_client_free(client);
    client = NULL;
    return hs_http_client_new(args, &client, err);
}

static void open_client(struct api_test *test)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", server.port);
    api_flag(test, HS_CFG_SERVER, url);
    assert_int_equal(api_run(test, make, NULL), HS_OK);
}

static hs_status ask(struct api_test *test, const char *body)
{
    json_decref(json);
    json = NULL;
    hs_error_clear(&test->err);
    return hs_http_client_ask(client, body ? "POST" : "GET", "/x", body, &json, &test->err);
}

static void urls_come_from_the_settings(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, make, NULL), HS_OK);
    assert_string_equal(hs_http_client_url(client), "http://127.0.0.1:8080");
    api_flag(test, HS_CFG_PORT, "9");
    api_flag(test, HS_CFG_HOST, "0.0.0.0");
    assert_int_equal(api_run(test, make, NULL), HS_OK);
    assert_string_equal(hs_http_client_url(client), "http://127.0.0.1:9");
    api_flag(test, HS_CFG_HOST, "::");
    api_flag(test, HS_CFG_TLS_CERT, "cert.pem");
    assert_int_equal(api_run(test, make, NULL), HS_OK);
    assert_string_equal(hs_http_client_url(client), "https://[::1]:9");
    api_flag(test, HS_CFG_SERVER, "gpu.example:1/");
    assert_int_equal(api_run(test, make, NULL), HS_OK);
    assert_string_equal(hs_http_client_url(client), "http://gpu.example:1");
    api_flag(test, HS_CFG_API_KEY, "a\r\nX: y");
    assert_int_equal(api_run(test, make, NULL), HS_INVALID_ARGUMENT);
}

static void whole_answers(void **state)
{
    struct api_test *test = *state;
    serve_text(SCRIPT_JSON("200 OK") "{\"a\": [1]}");
    api_flag(test, HS_CFG_API_KEY, "hs-secret");
    open_client(test);
    assert_int_equal(ask(test, NULL), HS_OK);
    assert_int_equal(json_array_size(json_object_get(json, "a")), 1);
    assert_int_equal(strncmp(server.requests[0], "GET /x HTTP/1.1\r\n", 17), 0);
    assert_contains(server.requests[0], "\r\nAuthorization: Bearer hs-secret\r\n");
    assert_int_equal(ask(test, "{\"b\": 2}"), HS_OK);
    assert_int_equal(strncmp(server.requests[1], "POST /x HTTP/1.1\r\n", 18), 0);
    assert_contains(server.requests[1], "\r\nContent-Type: application/json\r\n");
    assert_contains(server.requests[1], "\r\n\r\n{\"b\": 2}");
    assert_null(strstr(server.requests[1], "Expect"));
}

static void errors_of_the_server(void **state)
{
    struct api_test *test = *state;
    static const struct {
        const char *text;
        hs_status status;
        const char *message;
    } rows[] = {
        {SCRIPT_JSON("401 No") "{\"error\":{\"message\":\"who?\"}}", HS_PERMISSION_DENIED, "who?"},
        {SCRIPT_JSON("403 No") "{\"error\":{\"message\":\"scope\"}}", HS_PERMISSION_DENIED,
         "scope"},
        {SCRIPT_JSON("404 No") "{\"error\":{\"message\":\"no model\"}}", HS_NOT_FOUND, "no model"},
        {SCRIPT_JSON("400 No") "{\"error\":{\"message\":\"bad n\"}}", HS_INVALID_ARGUMENT, "bad n"},
        {SCRIPT_JSON("400 No") "{\"error\":{\"message\":\"long\","
                               "\"code\":\"context_length_exceeded\"}}",
         HS_CONTEXT_FULL, "long"},
        {SCRIPT_JSON("409 No") "{\"error\":{\"message\":\"open\"}}", HS_BUSY, "open"},
        {SCRIPT_JSON("413 No") "{}", HS_LIMIT, "413"},
        {SCRIPT_JSON("429 No") "{\"error\":{\"message\":\"full\"}}", HS_QUEUE_FULL, "full"},
        {SCRIPT_JSON("500 No") "<html>oops</html>", HS_IO, "500: <html>oops"},
        {SCRIPT_JSON("501 No") "", HS_NOT_SUPPORTED, "501"},
        {SCRIPT_JSON("503 No") "{\"error\":{\"message\":\"busy\"}}", HS_UNAVAILABLE, "busy"},
        {SCRIPT_JSON("504 No") "{\"error\":{\"message\":\"late\"}}", HS_TIMEOUT, "late"},
        {SCRIPT_HEAD("302 Go", "text/html\r\nLocation: http://127.0.0.1:1/"), HS_IO, "302"},
        {SCRIPT_JSON("200 OK") "{\"a\"", HS_IO, "no JSON"},
        {SCRIPT_JSON("200 OK"), HS_IO, "no JSON"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", HS_IO, "broke"},
        {"nonsense", HS_IO, "broke"},
        {"", HS_IO, "broke"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        serve_text(rows[i].text);
        open_client(test);
        hs_status status = ask(test, NULL);
        if (status != rows[i].status || !strstr(test->err.message, rows[i].message)) {
            fail_msg("row %zu: %s, '%s'", i, hs_status_name(status), test->err.message);
        }
        assert_int_equal(strlen(test->err.hint) > 0 && i == 0, i == 0); /* 401 says what to do */
        stop();
    }
    assert_int_equal(ask(test, NULL), HS_UNAVAILABLE); /* nobody listens any more */
    assert_contains(test->err.message, "nothing answers at http://127.0.0.1:");
    assert_contains(test->err.hint, "hyprstream serve");
}

static void addresses_that_are_none(void **state)
{
    struct api_test *test = *state;
    const char *const urls[] = {"ftp://127.0.0.1/", "http://a b/", "http://", "http://a:b", "//"};
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        api_flag(test, HS_CFG_SERVER, urls[i]);
        assert_int_equal(api_run(test, make, NULL), HS_INVALID_ARGUMENT);
        assert_contains(test->err.hint, "http://127.0.0.1:8080");
    }
}

static void ctrl_c_ends_the_wait(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply holds[] = {{.text = "HTTP/1.1 200 OK\r\n", .holds = true}};
    serve(holds, 1);
    open_client(test);
    test->interrupt_at = 10;
    assert_int_equal(ask(test, NULL), HS_CANCELLED);
    stop();
    assert_true(server.n_requests == 0 || server.has_left[0]);
}

static void expect_events(struct api_test *test, const char *const *want, hs_status end)
{
    hs_http_events *events = NULL;
    const char *data = NULL;
    assert_int_equal(hs_http_client_stream(client, "/s", "{}", &events, &test->err), HS_OK);
    hs_status status;
    while ((status = hs_http_events_next(events, 10000, NULL, &data, &test->err)) == HS_OK) {
        assert_non_null(*want);
        assert_string_equal(data, *want++);
    }
    assert_int_equal(status, end);
    assert_null(*want);
    hs_http_events_free(events);
}

static void streams(void **state)
{
    struct api_test *test = *state;
    serve_text(SCRIPT_EVENTS "data: a\n\nevent: x\ndata: b\n\ndata:\n\n");
    open_client(test);
    expect_events(test, (const char *const[]){"a", "b", "", NULL}, HS_NOT_FOUND);
    assert_string_equal(test->err.message, "");
    stop();
    serve_text(SCRIPT_JSON("429 No") "{\"error\":{\"message\":\"full\"}}");
    open_client(test);
    expect_events(test, (const char *const[]){NULL}, HS_QUEUE_FULL);
    assert_string_equal(test->err.message, "full");
    stop();
    serve_text(SCRIPT_JSON("200 OK") "{}");
    open_client(test);
    expect_events(test, (const char *const[]){NULL}, HS_IO);
    stop();
    serve_text("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n"
               "data: a\n\ndata: b");
    open_client(test);
    expect_events(test, (const char *const[]){"a", NULL}, HS_IO);
    assert_contains(test->err.message, "broke");
    stop();
    open_client(test);
    expect_events(test, (const char *const[]){NULL}, HS_UNAVAILABLE);
}

static void a_stream_that_is_left(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply holds[] = {
        {.text = SCRIPT_EVENTS "data: a\n\ndata: b", .holds = true}};
    serve(holds, 1);
    open_client(test);
    hs_http_events *events = NULL;
    const char *data = NULL;
    assert_int_equal(hs_http_client_stream(client, "/s", "{}", &events, &test->err), HS_OK);
    assert_int_equal(hs_http_events_next(events, 10000, NULL, &data, &test->err), HS_OK);
    assert_string_equal(data, "a");
    assert_int_equal(hs_http_events_next(events, 10, NULL, &data, &test->err), HS_TIMEOUT);
    hs_http_events_free(events);
    stop();
    assert_true(server.has_left[0]);
}

/* More than is read ahead, in one event and in many. */
static void long_streams(void **state)
{
    struct api_test *test = *state;
    const size_t n = 3u << 20;
    char *text = malloc(n + 4096);
    assert_non_null(text);
    size_t len = (size_t)sprintf(text, "%sdata: ", SCRIPT_EVENTS);
    memset(text + len, 'x', n);
    strcpy(text + len + n, "\n\ndata: end\n\n");
    serve_text(text);
    open_client(test);
    hs_http_events *events = NULL;
    const char *data = NULL;
    assert_int_equal(hs_http_client_stream(client, "/s", "{}", &events, &test->err), HS_OK);
    assert_int_equal(hs_http_events_next(events, 10000, NULL, &data, &test->err), HS_OK);
    assert_int_equal(strlen(data), n);
    assert_int_equal(hs_http_events_next(events, 10000, NULL, &data, &test->err), HS_OK);
    assert_string_equal(data, "end");
    hs_http_events_free(events);
    stop();
    len = strlen(SCRIPT_EVENTS);
    size_t n_events = 0;
    for (; len < n; n_events++) {
        len += (size_t)sprintf(text + len, "data: %zu\n\n", n_events);
    }
    serve_text(text);
    open_client(test);
    assert_int_equal(hs_http_client_stream(client, "/s", "{}", &events, &test->err), HS_OK);
    for (size_t i = 0; i < n_events; i++) {
        char want[32];
        snprintf(want, sizeof want, "%zu", i);
        assert_int_equal(hs_http_events_next(events, 10000, NULL, &data, &test->err), HS_OK);
        assert_string_equal(data, want);
    }
    assert_int_equal(hs_http_events_next(events, 10000, NULL, &data, &test->err), HS_NOT_FOUND);
    hs_http_events_free(events);
    stop(); /* it sends from there */
    free(text);
}

static void bytes(void **state)
{
    struct api_test *test = *state;
    hs_http_body *body = NULL;
    char data[16];
    size_t n = 0;
    serve_text("HTTP/1.1 200 OK\r\nX-Kind: odd\r\n\r\nabcdefg");
    open_client(test);
    assert_int_equal(hs_http_client_post(client, "/b", "{}", &body, &test->err), HS_OK);
    assert_string_equal(hs_http_body_header(body, "x-kind"), "odd");
    assert_null(hs_http_body_header(body, "x-other"));
    assert_int_equal(hs_http_body_read(body, data, 4, &n, &test->err), HS_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(data, "abcd", 4);
    assert_int_equal(hs_http_body_read(body, data, 4, &n, &test->err), HS_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(data, "efg", 3);
    assert_int_equal(hs_http_body_read(body, data, 4, &n, &test->err), HS_OK);
    assert_int_equal(n, 0);
    hs_http_body_free(body);
    stop();
    serve_text("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"); /* cut */
    open_client(test);
    assert_int_equal(hs_http_client_post(client, "/b", "{}", &body, &test->err), HS_OK);
    assert_int_equal(hs_http_body_read(body, data, 9, &n, &test->err), HS_IO);
    hs_http_body_free(body);
    stop();
    serve_text(SCRIPT_JSON("403 No") "{\"error\":{\"message\":\"not you\"}}");
    open_client(test);
    assert_int_equal(hs_http_client_post(client, "/b", "{}", &body, &test->err),
                     HS_PERMISSION_DENIED);
    assert_string_equal(test->err.message, "not you");
}

static void without_memory(void **state)
{
    struct api_test *test = *state;
    serve_text(SCRIPT_EVENTS "data: a\n\n");
    open_client(test);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status == HS_OUT_OF_MEMORY && nth < 20; nth++) {
        hs_http_events *events = NULL;
        const char *data = NULL;
        hs_mem_fail_after(nth);
        status = hs_http_client_stream(client, "/s", "{}", &events, &test->err);
        status = status ? status : hs_http_events_next(events, 10000, NULL, &data, &test->err);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_http_events_free(events);
    }
    assert_int_equal(status, HS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(urls_come_from_the_settings),
        TEST(whole_answers),
        TEST(errors_of_the_server),
        TEST(addresses_that_are_none),
        TEST(ctrl_c_ends_the_wait),
        TEST(streams),
        TEST(a_stream_that_is_left),
        TEST(long_streams),
        TEST(bytes),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
