/* Tests of page/page.c: how the page's files are served. What they do is tested in tests/page. */
#include <stdio.h>
#include <unistd.h>

#include "page/page.h"
#include "rest_test.h"

static const char *header(struct rest_test *test, const char *name)
{
    static char value[512];
    return reply_header(&test->reply, name, value);
}

static void the_page_may_run_its_own_scripts_only(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "GET /", "", 200);
    assert_string_equal(header(test, "Content-Type"), "text/html; charset=utf-8");
    assert_string_equal(header(test, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(header(test, "Referrer-Policy"), "no-referrer");
    assert_string_equal(header(test, "Cache-Control"), "no-cache");
    assert_string_equal(
        header(test, "Content-Security-Policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'");
    assert_int_equal(strncmp(test->reply.body.data, "<!doctype html>", 15), 0);
}

static void every_file_is_there(void **state)
{
    struct rest_test *test = *state;
    assert_string_equal(hs_page_files[0].name, "index.html");
    for (size_t i = 0; i < hs_page_n_files; i++) {
        const struct hs_page_file *file = &hs_page_files[i];
        char line[128];
        snprintf(line, sizeof line, "GET /page/%s", file->name);
        rest_ask(test, line, "", 200);
        assert_string_equal(header(test, "Content-Type"), file->content_type);
        assert_string_equal(header(test, "ETag"), file->etag);
        assert_int_equal(test->reply.body.len, file->len);
        assert_memory_equal(test->reply.body.data, file->data, file->len);
    }
}

/* What the bytes are is tested with another implementation in tests/python. */
static void it_is_compressed_for_who_takes_it(void **state)
{
    static const struct {
        const char *accept;
        bool is_gzip;
    } rows[] = {
        {"gzip", true},          {"deflate, gzip, br", true},    {"br,GZIP ; q=0.5", true},
        {"gzip;q=1.0", true},    {"gzip;q=0.001,br", true},      {"", false},
        {"gzip;q=0", false},     {"deflate, gzip;q=0.0", false}, {"br", false},
        {"xgzip, gzipx", false}, {"gzip;q=0 , gzip-not", false},
    };
    struct rest_test *test = *state;
    const struct hs_page_file *file = &hs_page_files[0];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char headers[128], encoding[512];
        reply_free(&test->reply);
        snprintf(headers, sizeof headers, "Accept-Encoding: %s\r\n", rows[i].accept);
        request(test->server, "GET /", headers, "", &test->reply);
        assert_int_equal(test->reply.status, 200);
        assert_string_equal(header(test, "Vary"), "Accept-Encoding");
        bool is_gzip = reply_header(&test->reply, "Content-Encoding", encoding) != NULL;
        if (is_gzip != rows[i].is_gzip) {
            fail_msg("'%s'", rows[i].accept);
        }
        assert_string_equal(header(test, "ETag"), is_gzip ? file->gzip_etag : file->etag);
        assert_int_equal(test->reply.body.len, is_gzip ? file->gzip_len : file->len);
        assert_memory_equal(test->reply.body.data, is_gzip ? file->gzip : file->data,
                            test->reply.body.len);
    }
    assert_string_not_equal(file->gzip_etag, file->etag);
    assert_true(file->gzip_len < file->len / 2);
}

static void script_and_style_have_their_types(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "GET /page/app.js", "", 200);
    assert_string_equal(header(test, "Content-Type"), "text/javascript; charset=utf-8");
    rest_ask(test, "GET /page/style.css", "", 200);
    assert_string_equal(header(test, "Content-Type"), "text/css; charset=utf-8");
}

static void other_files_are_not(void **state)
{
    static const char *const lines[] = {"GET /page/", "GET /page/page.c", "GET /page/..%2fpage.c",
                                        "GET /page/app.js.map", "GET /page/a/app.js"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        rest_ask(*state, lines[i], "", 404);
    }
    rest_ask(*state, "POST /", "{}", 405);
}

/* A client that has the file, and the request behind it on the same connection. */
static void known_files_are_not_sent_again(void **state)
{
    struct rest_test *test = *state;
    char text[512];
    int fd = client_connect(test->server);
    snprintf(text, sizeof text,
             "GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: W/\"x\", W/%s\r\n\r\n"
             "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
             "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             hs_page_files[0].etag);
    client_send(fd, text);
    struct hs_buf out = HS_BUF_INIT(1 << 20);
    assert_true(client_read_all(fd, &out, 5000));
    assert_non_null(strstr(out.data, "HTTP/1.1 304 "));
    const char *head = strstr(out.data, "\r\n\r\nHTTP/1.1 200 ");
    assert_non_null(head);
    assert_non_null(strstr(head + 4, "\r\n\r\nHTTP/1.1 200 "));
    assert_null(strstr(out.data, "<!doctype"));
    assert_non_null(strstr(out.data, "{\"status\":\"ok\"}"));
    hs_buf_free(&out);
    close(fd);
}

static void changed_files_are(void **state)
{
    struct rest_test *test = *state;
    reply_free(&test->reply);
    request(test->server, "GET /", "If-None-Match: \"0123\"\r\n", "", &test->reply);
    assert_int_equal(test->reply.status, 200);
    int fd = client_connect(test->server);
    client_send(fd, "GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: *\r\n"
                    "Connection: close\r\n\r\n");
    struct hs_buf out = HS_BUF_INIT(1 << 20);
    assert_true(client_read_all(fd, &out, 5000));
    assert_non_null(strstr(out.data, "HTTP/1.1 304 "));
    hs_buf_free(&out);
    close(fd);
}

static void it_can_be_left_out(void **state)
{
    (void)state;
    size_t n_with, n_without;
    const struct hs_http_route *routes = hs_rest_routes(true, &n_with);
    assert_ptr_equal(hs_rest_routes(false, &n_without), routes);
    for (size_t i = 0; i < n_with; i++) {
        assert_int_equal(routes[i].handler == hs_page_get, i >= n_without);
    }
    assert_true(n_without < n_with);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_page_may_run_its_own_scripts_only),
        TEST(every_file_is_there),
        TEST(script_and_style_have_their_types),
        TEST(other_files_are_not),
        TEST(it_is_compressed_for_who_takes_it),
        TEST(known_files_are_not_sent_again),
        TEST(changed_files_are),
        cmocka_unit_test(it_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
