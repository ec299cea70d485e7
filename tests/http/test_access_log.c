/* One line for each request, and what it never says. */
#include "http_test.h"

#include "base/clock.h"
#include "base/log.h"
#include "http_internal.h"

static struct {
    char text[512], id[80];
    int n;
} line;

static void keep(enum hs_log_level level, const char *component, const char *request_id,
                 const char *message, void *user)
{
    (void)user;
    assert_int_equal(level, HS_LOG_INFO);
    assert_string_equal(component, "http");
    snprintf(line.text, sizeof line.text, "%s", message);
    snprintf(line.id, sizeof line.id, "%s", request_id);
    line.n++;
}

static int set_up(void **state)
{
    (void)state;
    line.n = 0;
    hs_log_set_level(HS_LOG_INFO);
    hs_log_set_sink(keep, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    hs_log_set_sink(NULL, NULL);
    hs_log_set_level(HS_LOG_WARN);
    return 0;
}

static hs_http_request finished(const struct hs_http_route *route)
{
    hs_http_request request = {.route = route,
                               .id = "req-1",
                               .peer = "127.0.0.1",
                               .sent_status = 200,
                               .body_seen = 12,
                               .bytes_out = 34,
                               .is_begun = true};
    request.start_ns = hs_clock_ns();
    return request;
}

#define HAS(part) assert_non_null(strstr(line.text, part))

static void the_line(void **state)
{
    (void)state;
    const struct hs_http_route route = {.method = HS_HTTP_POST, .path = "/v1/{id}"};
    hs_http_request request = finished(&route);
    request.has_key = true;
    snprintf(request.key.name, sizeof request.key.name, "laptop");
    hs_http_access_log(&request);
    assert_int_equal(line.n, 1);
    assert_string_equal(line.id, "req-1");
    HAS("method=POST route=/v1/{id} status=200 end=done in=12 out=34 ms=");
    HAS("key=\"laptop\" peer=127.0.0.1");
    request.is_head = true;
    hs_http_access_log(&request);
    HAS("method=HEAD ");
}

/* The route, not the path: what a client wrote there stays out of the log. */
static void how_it_ended(void **state)
{
    (void)state;
    static const struct {
        enum hs_http_gone gone;
        bool is_begun;
        const char *end;
    } cases[] = {{0, true, "end=done "},
                 {0, false, "end=malformed "},
                 {HS_HTTP_DISCONNECTED, true, "end=disconnected "},
                 {HS_HTTP_DEADLINE, true, "end=deadline "},
                 {HS_HTTP_STOPPED, true, "end=stopped "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hs_http_request request = finished(NULL);
        request.gone = cases[i].gone;
        request.is_begun = cases[i].is_begun;
        hs_http_access_log(&request);
        HAS("method=- route=- ");
        HAS(cases[i].end);
        HAS("key=\"\" ");
    }
}

static void it_can_be_silent(void **state)
{
    (void)state;
    hs_http_request request = finished(NULL);
    hs_log_set_level(HS_LOG_WARN);
    hs_http_access_log(&request);
    assert_int_equal(line.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(how_it_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_can_be_silent, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
