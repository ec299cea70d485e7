/* Errors in the styles of the three APIs: types as their documentation has them. */
#include "http_test.h"

#include "base/error.h"
#include "error_body.h"

static json_t *written(enum hs_http_error_style style, const struct hs_http_error *error)
{
    struct hs_buf out = HS_BUF_INIT(4096);
    assert_int_equal(hs_http_error_write(style, error, "req_1", &out), HS_OK);
    json_t *object = json_loads(out.data, 0, NULL);
    assert_non_null(object);
    hs_buf_free(&out);
    return object;
}

static const char *text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* platform.openai.com/docs/guides/error-codes and docs.anthropic.com/en/api/errors */
static void types_of_statuses(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *openai, *anthropic;
    } cases[] = {
        {400, "invalid_request_error", "invalid_request_error"},
        {401, "authentication_error", "authentication_error"},
        {403, "permission_error", "permission_error"},
        {404, "invalid_request_error", "not_found_error"},
        {413, "invalid_request_error", "request_too_large"},
        {422, "invalid_request_error", "invalid_request_error"},
        {429, "rate_limit_error", "rate_limit_error"},
        {500, "server_error", "api_error"},
        {503, "server_error", "overloaded_error"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct hs_http_error error = {.status = cases[i].status, .message = "m"};
        json_t *openai = written(HS_HTTP_ERRORS_OPENAI, &error);
        json_t *anthropic = written(HS_HTTP_ERRORS_ANTHROPIC, &error);
        assert_string_equal(text(json_object_get(openai, "error"), "type"), cases[i].openai);
        assert_string_equal(text(json_object_get(anthropic, "error"), "type"), cases[i].anthropic);
        json_decref(openai);
        json_decref(anthropic);
    }
}

static void the_forms(void **state)
{
    (void)state;
    const struct hs_http_error error = {
        .status = 400, .message = "a \"b\"\n", .param = "model", .code = "wrong", .type = "own"};
    json_t *object = written(HS_HTTP_ERRORS_OPENAI, &error);
    const json_t *inner = json_object_get(object, "error");
    assert_int_equal(json_object_size(object), 1);
    assert_int_equal(json_object_size(inner), 4);
    assert_string_equal(text(inner, "message"), "a \"b\"\n");
    assert_string_equal(text(inner, "type"), "own");
    assert_string_equal(text(inner, "param"), "model");
    assert_string_equal(text(inner, "code"), "wrong");
    json_decref(object);
    object = written(HS_HTTP_ERRORS_ANTHROPIC, &error);
    assert_string_equal(text(object, "type"), "error");
    assert_string_equal(text(object, "request_id"), "req_1");
    json_decref(object);
    object = written(HS_HTTP_ERRORS_OLLAMA, &error);
    assert_int_equal(json_object_size(object), 1);
    assert_string_equal(text(object, "error"), "a \"b\"\n");
    json_decref(object);
    const struct hs_http_error bare = {.status = 500};
    object = written(HS_HTTP_ERRORS_OPENAI, &bare);
    inner = json_object_get(object, "error");
    assert_string_equal(text(inner, "message"), "");
    assert_true(json_is_null(json_object_get(inner, "param")));
    assert_true(json_is_null(json_object_get(inner, "code")));
    json_decref(object);
}

static void as_the_last_event(void **state)
{
    (void)state;
    static const struct {
        enum hs_http_stream_kind kind;
        enum hs_http_error_style style;
        const char *begin, *end;
    } cases[] = {
        {HS_HTTP_SSE, HS_HTTP_ERRORS_OPENAI, "data: {\"error\":", "}\n\n"},
        {HS_HTTP_SSE, HS_HTTP_ERRORS_ANTHROPIC, "event: error\ndata: {", "}\n\n"},
        {HS_HTTP_NDJSON, HS_HTTP_ERRORS_OLLAMA, "{\"error\":\"late\"", "}\n"},
    };
    const struct hs_http_error error = {.status = 500, .message = "late"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hs_buf out = HS_BUF_INIT(4096);
        assert_int_equal(hs_http_error_event(cases[i].kind, cases[i].style, &error, "r", &out),
                         HS_OK);
        assert_memory_equal(out.data, cases[i].begin, strlen(cases[i].begin));
        assert_string_equal(out.data + out.len - strlen(cases[i].end), cases[i].end);
        hs_buf_free(&out);
    }
}

/* An event that does not fit leaves nothing of it behind. */
static void no_half_events(void **state)
{
    (void)state;
    for (size_t max = 4; max < 40; max++) {
        struct hs_buf out = HS_BUF_INIT(max);
        assert_int_equal(hs_buf_append(&out, "abc", 3), HS_OK);
        hs_status status = hs_http_sse_append(&out, "name", "one\ntwo", 7);
        assert_int_equal(status == HS_OK,
                         max >= 3 + strlen("event: name\ndata: one\ndata: two\n\n"));
        if (status != HS_OK) {
            assert_string_equal(out.data, "abc");
        }
        hs_buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_of_statuses),
        cmocka_unit_test(the_forms),
        cmocka_unit_test(as_the_last_event),
        cmocka_unit_test(no_half_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
