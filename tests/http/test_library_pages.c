/* What the HTTP library refuses by itself, and what the core refuses of the head: error objects. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "http_test.h"

#define HOST "Host: localhost\r\n"
#define CHUNKED "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

static const struct {
    const char *request;
    int status;
    const char *code;
} refused[] = {
    {"GET /hello\r\n\r\n", 400, "bad_request"},
    {"GET /hello HTTP\r\n\r\n", 400, "bad_request"},
    {"GET /hello http/1.1\r\n" HOST "\r\n", 400, "bad_request"},
    {"GET /hello HTTP/1.10\r\n" HOST "\r\n", 400, "bad_request"},
    {"GET /hello HTTP/2.0\r\n" HOST "\r\n", 505, "bad_version"},
    {"GET /hello HTTP/0.9\r\n\r\n", 505, "bad_version"},
    {"GET /hello HTTP/1.1\r\nHost localhost\r\n\r\n", 400, "bad_request"},
    {"GET /hello HTTP/1.1\r\n" HOST "no colon\r\n\r\n", 400, "bad_request"},
    {CHUNKED "zz\r\n", 400, "bad_framing"},
    {CHUNKED "3\r\nabcd\r\n", 400, "bad_framing"},
    {CHUNKED "fffffffffffffffff\r\n", 413, "body_too_large"},
    {CHUNKED "0\r\nno colon\r\n\r\n", 400, "bad_request"},
    /* of the core itself */
    {"GET /hello HTTP/1.1\r\n\r\n", 400, "bad_framing"},
    {"GET /hello HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, "bad_framing"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\nabc", 400, "bad_framing"},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: \xFF\r\n\r\n", 400, "bad_framing"},
    {"GET /a b HTTP/1.1\r\nConnection: close\r\n" HOST "\r\n", 400, "bad_url"},
    {"GET nowhere HTTP/1.1\r\nConnection: close\r\n" HOST "\r\n", 400, "bad_url"},
};

static json_t *error_of(const struct reply *reply)
{
    char value[512];
    json_t *json =
        json_loadb(reply->body.data == NULL ? "" : reply->body.data, reply->body.len, 0, NULL);
    json_t *error = json_object_get(json, "error");
    if (error == NULL || reply_header(reply, "Content-Type", value) == NULL ||
        strcmp(value, "application/json") != 0) {
        fail_msg("no error object: %s", reply->raw.data == NULL ? "" : reply->raw.data);
    }
    json_incref(error);
    json_decref(json);
    return error;
}

static void expect(const struct reply *reply, int status, const char *code, const char *request)
{
    if (reply->status != status) {
        fail_msg("%s gives %d, not %d", request, reply->status, status);
    }
    json_t *error = error_of(reply);
    const char *type = json_string_value(json_object_get(error, "type"));
    const char *message = json_string_value(json_object_get(error, "message"));
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    assert_string_equal(type, "invalid_request_error");
    assert_true(json_is_null(json_object_get(error, "param")));
    assert_true(message != NULL && *message != '\0');
    json_decref(error);
}

static void check(const hs_http_server *server, const char *text, size_t step, int status,
                  const char *code)
{
    struct reply reply;
    int fd = client_connect(server);
    for (size_t i = 0, len = strlen(text); i < len; i += step) {
        client_send_bytes(fd, text + i, len - i < step ? len - i : step);
    }
    client_reply(fd, &reply, LONG_MS);
    expect(&reply, status, code, text);
    assert_true(client_is_closed(fd, LONG_MS));
    close(fd);
    reply_free(&reply);
}

static void test_refused(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        check(server, refused[i].request, SIZE_MAX, refused[i].status, refused[i].code);
        check(server, refused[i].request, 1, refused[i].status, refused[i].code);
    }
    test_stop(server);
}

/* A connection that was of use before. */
static void test_after_an_answer(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    struct reply reply;
    int fd = client_connect(server);
    client_send(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    client_send(fd, "GET /hello HTTP/7.0\r\n\r\n");
    client_reply(fd, &reply, LONG_MS);
    expect(&reply, 505, "bad_version", "the second request");
    reply_free(&reply);
    close(fd);
    test_stop(server);
}

/* libmicrohttpd itself would write the head of these answers twice. */
static void test_content_length(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int status;
        const char *code;
    } rows[] = {
        {"x", 400, "bad_framing"},
        {"-1", 400, "bad_framing"},
        {"+1", 400, "bad_framing"},
        {"0x1", 400, "bad_framing"},
        {"3 3", 400, "bad_framing"},
        {"3,3", 400, "bad_framing"},
        {"", 400, "bad_framing"},
        {"\xFF", 400, "bad_framing"},
        {"18446744073709551615", 413, "body_too_large"},
        {"18446744073709551616", 413, "body_too_large"},
        {"99999999999999999999999", 413, "body_too_large"},
    };
    hs_http_server *server = test_start(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[256];
        int n =
            snprintf(text, sizeof text, "POST /echo HTTP/1.1\r\n" HOST "content-LENGTH: %s\r\n\r\n",
                     rows[i].value);
        check(server, text, 1, rows[i].status, rows[i].code);
        snprintf(text + n, sizeof text - (size_t)n, "abc");
        check(server, text, SIZE_MAX, rows[i].status, rows[i].code);
    }
    struct hs_buf out = HS_BUF_INIT(1 << 16);
    int fd = client_connect(server);
    client_send(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: x\r\n\r\n");
    assert_true(client_read_all(fd, &out, LONG_MS));
    assert_null(strstr(strstr(out.data, "HTTP/1.1 ") + 1, "HTTP/1.1 "));
    close(fd);
    hs_buf_free(&out);
    test_stop(server);
}

/* Which the library would parse, and have no room for. */
static void test_cookies(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    hs_http_server *server = test_start(&config);
    struct hs_buf text = HS_BUF_INIT(1 << 16);
    for (size_t size = 1000; size < 3 * config.limits.header_bytes; size *= 2) {
        hs_buf_clear(&text);
        assert_int_equal(hs_buf_append_str(&text, "GET /hello HTTP/1.1\r\n" HOST "Cookie: a="),
                         HS_OK);
        while (text.len < size) {
            assert_int_equal(hs_buf_append_str(&text, "b"), HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&text, "\r\nConnection: close\r\n\r\n"), HS_OK);
        struct hs_buf out = HS_BUF_INIT(1 << 16);
        int fd = client_connect(server);
        client_send(fd, text.data);
        assert_true(client_read_all(fd, &out, LONG_MS));
        bool is_good = text.len <= config.limits.header_bytes;
        assert_int_equal(strncmp(out.data, is_good ? "HTTP/1.1 200" : "HTTP/1.1 431", 12), 0);
        assert_null(strstr(out.data + 1, "HTTP/1.1 "));
        hs_buf_free(&out);
        close(fd);
    }
    hs_buf_free(&text);
    test_stop(server);
}

/* Bit by bit until the library has no more room: what it has not read when it closes the connection
 * would take its answer away. */
static void check_too_long(const hs_http_server *server, const char *begin, int status)
{
    char more[512];
    struct reply reply;
    struct pollfd readable = {.fd = client_connect(server), .events = POLLIN};
    memset(more, 'h', sizeof more);
    client_send(readable.fd, begin);
    for (int i = 0; i < 1000 && poll(&readable, 1, 20) == 0; i++) {
        client_send_bytes(readable.fd, more, sizeof more);
    }
    client_reply(readable.fd, &reply, LONG_MS);
    expect(&reply, status, "headers_too_large", begin);
    close(readable.fd);
    reply_free(&reply);
}

static void test_too_long(void **state)
{
    (void)state;
    struct hs_http_config config;
    test_config(&config);
    config.limits.header_bytes = 512;
    hs_http_server *server = test_start(&config);
    check_too_long(server, "GET /", 414);
    check_too_long(server, "GET /hello HTTP/1.1\r\nX-Long: ", 431);
    test_stop(server);
}

/* What is no request line at all is answered with the end of the connection. */
static void test_no_request_line(void **state)
{
    (void)state;
    static const char *const texts[] = {"GARBAGE\r\n\r\n", "\x16\x03\x01\x02\x01\x01\n"};
    hs_http_server *server = test_start(NULL);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
        int fd = client_connect(server);
        client_send(fd, texts[i]);
        assert_true(client_read_all(fd, &all, LONG_MS));
        assert_int_equal(all.len, 0);
        hs_buf_free(&all);
        close(fd);
    }
    test_stop(server);
}

/* Empty lines in front are no fault. */
static void test_empty_lines_first(void **state)
{
    (void)state;
    hs_http_server *server = test_start(NULL);
    struct reply reply;
    int fd = client_connect(server);
    client_send(fd, "\r\n\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    close(fd);
    test_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),           cmocka_unit_test(test_after_an_answer),
        cmocka_unit_test(test_content_length),    cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_no_request_line),   cmocka_unit_test(test_cookies),
        cmocka_unit_test(test_empty_lines_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
