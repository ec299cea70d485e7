/* Tests of rest/sessions.c and session_generate.c: /api/v1/sessions. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rest_test.h"
#include "storage/session_store.h"

static void make(struct rest_test *test, const char *fields, int status)
{
    char body[1024];
    snprintf(body, sizeof body, "{%s}", fields);
    rest_ask(test, "POST /api/v1/sessions", body, status);
}

/* A request about the session "a". */
static void about(struct rest_test *test, const char *method, const char *more, const char *body,
                  int status)
{
    char line[256];
    snprintf(line, sizeof line, "%s /api/v1/sessions/a%s", method, more);
    rest_ask(test, line, body, status);
}

static void generate(struct rest_test *test, const char *body, int status)
{
    about(test, "POST", "/generate", body, status);
}

/* "role:content" of each message, with bars between them. */
static void expect_messages(struct rest_test *test, const char *want)
{
    char text[1024] = "";
    size_t len = 0, i;
    json_t *message;
    about(test, "GET", "", NULL, 200);
    json_array_foreach(rest_at(test, "messages"), i, message)
    {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s:%s", i == 0 ? "" : "|",
                                json_string_value(json_object_get(message, "role")),
                                json_string_value(json_object_get(message, "content")));
    }
    assert_string_equal(text, want);
}

/* ---- made, listed, changed, removed ---- */

static void a_session_comes_and_goes(void **state)
{
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\",\"system\":\"Be brief\",\"overflow\":\"shift\"", 201);
    rest_expect_string(test, "id", "a");
    rest_expect_string(test, "object", "session");
    rest_expect_string(test, "model", "fake");
    rest_expect_string(test, "overflow", "shift");
    rest_expect_int(test, "n_messages", 1);
    rest_expect_string(test, "messages/0/role", "system");
    make(test, "\"name\":\"a\"", 409);
    rest_expect_error(test, NULL);
    make(test, "", 201); /* a name is made up; a session without a message is one */
    const char *id = json_string_value(rest_at(test, "id"));
    assert_true(hs_session_name_ok(id));
    rest_expect_int(test, "n_messages", 0);
    rest_ask(test, "GET /api/v1/sessions", NULL, 200);
    assert_int_equal(json_array_size(rest_at(test, "data")), 2);
    rest_expect_string(test, "data/0/id", "a");
    assert_null(json_object_get(rest_at(test, "data/0"), "messages"));
    /* the terminal sees the same */
    struct hs_session_record record;
    assert_int_equal(hs_session_store_read(test->sessions_dir, "a", &record, NULL, NULL), HS_OK);
    assert_string_equal(record.model_name, "fake");
    assert_int_equal(record.overflow, HS_OVERFLOW_SHIFT);
    hs_session_record_free(&record);
    about(test, "DELETE", "", NULL, 200);
    about(test, "DELETE", "", NULL, 404);
    about(test, "GET", "", NULL, 404);
    about(test, "PATCH", "", "{}", 404);
    generate(test, "{\"prompt\":\"Hi\"}", 404);
    rest_ask(test, "GET /api/v1/sessions", NULL, 200);
    assert_int_equal(json_array_size(rest_at(test, "data")), 1);
}

static void settings_change(void **state)
{
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\"", 201);
    about(test, "PATCH", "", "{\"system\":\"one\"}", 200);
    expect_messages(test, "system:one");
    about(test, "POST", "/messages", "{" USER "}", 200);
    about(test, "PATCH", "", "{\"system\":\"two\",\"overflow\":\"shift\"}", 200);
    expect_messages(test, "system:two|user:Hi");
    rest_expect_string(test, "overflow", "shift");
    about(test, "PATCH", "", "{\"system\":\"\",\"overflow\":\"stop\",\"model\":\"fake\"}", 200);
    expect_messages(test, "user:Hi");
    rest_expect_string(test, "overflow", "stop");
    about(test, "PATCH", "", "{\"system\":\"\"}", 200);
    about(test, "PATCH", "", "{}", 200);
    expect_messages(test, "user:Hi");
}

/* A session of the terminal, which calls its models by the names of its list. */
static void write_terminals(struct rest_test *test, const char *model, const char *fingerprint)
{
    hs_session_file *file = NULL;
    const struct hs_session_record record = {.model_name = (char *)model,
                                             .fingerprint = (char *)fingerprint};
    assert_int_equal(hs_session_file_open(test->sessions_dir, "a", true, &file, NULL), HS_OK);
    assert_int_equal(hs_session_file_save(file, &record, NULL), HS_OK);
    hs_session_file_close(file);
}

static void the_terminals_name_of_a_model(void **state)
{
    struct rest_test *test = *state;
    write_terminals(test, "mine", test->rest.models[0].fingerprint);
    about(test, "GET", "", NULL, 200);
    rest_expect_string(test, "model", "fake"); /* the one of these weights */
    generate(test, "{\"prompt\":\"Hi\"}", 200);
    rest_expect_string(test, "model", "fake");
    write_terminals(test, "mine", "00");
    about(test, "GET", "", NULL, 200);
    rest_expect_string(test, "model", "mine");
    generate(test, "{\"prompt\":\"Hi\"}", 404);
    rest_expect_string(test, "error/param", "model");
    const char *message = json_string_value(rest_at(test, "error/message"));
    assert_non_null(strstr(message, "asks for a model that is not loaded"));
    assert_non_null(strstr(message, "'mine'; there is 'fake'"));
    generate(test, "{\"prompt\":\"Hi\",\"model\":\"fake\"}", 200);
    write_terminals(test, "fake", "00"); /* a name that is there is the one that is meant */
    generate(test, "{\"prompt\":\"Hi\"}", 200);
}

static void messages_are_appended_and_cut_off(void **state)
{
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\"", 201);
    about(test, "POST", "/messages",
          "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\","
          "\"content\":\"Wait\",\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"c\","
          "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
          "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"42\"}]}",
          200);
    expect_messages(test, "user:Hi|assistant:Wait|tool:42");
    about(test, "POST", "/truncate", "{\"n_messages\":2}", 200);
    expect_messages(test, "user:Hi|assistant:Wait");
    rest_expect_string(test, "messages/1/reasoning_content", "hm");
    about(test, "POST", "/truncate", "{\"n_messages\":0}", 200);
    expect_messages(test, "");
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *method, *more, *body, *param;
    } rows[] = {
        {"PATCH", "", "{\"system\":1}", "system"},
        {"PATCH", "", "{\"overflow\":\"x\"}", "overflow"},
        {"PATCH", "", "{\"model\":1}", "model"},
        {"POST", "/messages", "{}", "messages"},
        {"POST", "/messages", "{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
        {"POST", "/truncate", "{}", "n_messages"},
        {"POST", "/truncate", "{\"n_messages\":1}", "n_messages"},
        {"POST", "/truncate", "{\"n_messages\":-1}", "n_messages"},
        {"POST", "/generate", "{\"prompt\":1}", "prompt"},
        {"POST", "/generate", "{\"prompt\":\"a\",\"n\":2}", "n"},
        {"POST", "/generate", "{\"prompt\":\"a\",\"regenerate\":true}", "regenerate"},
        {"POST", "/generate", "{\"prompt\":\"a\",\"temperature\":-1}", "temperature"},
        {"POST", "/generate", "{\"prompt\":\"a\",\"tools\":1}", "tools"},
        {"POST", "/generate", "{\"prompt\":\"a\",\"response_format\":{}}", "response_format.type"},
    };
    static const char *const names[] = {"\"\"", "\".a\"", "\"a b\"", "\"a/b\"", "1"};
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\"", 201);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        about(test, rows[i].method, rows[i].more, rows[i].body, 400);
        rest_expect_error(test, rows[i].param);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char fields[64];
        snprintf(fields, sizeof fields, "\"name\":%s", names[i]);
        make(test, fields, 400);
        rest_expect_error(test, "name");
    }
    make(test, "\"model\":\"other\"", 404);
    rest_expect_string(test, "error/param", "model");
    generate(test, "{\"prompt\":\"a\",\"model\":\"other\"}", 404);
    rest_expect_string(test, "error/param", "model");
    assert_int_equal(fake_engine.n_asked, 0);
    rest_ask(test, "GET /api/v1/sessions/.hidden", NULL, 400);
    rest_ask(test, "GET /api/v1/sessions", NULL, 200);
    assert_int_equal(json_array_size(rest_at(test, "data")), 1);
}

static void limits(void **state)
{
    struct rest_test *test = *state;
    for (int extra = 0; extra <= 1; extra++) {
        char fields[128];
        snprintf(fields, sizeof fields, "\"name\":\"%0*d\"", 64 + extra, 0);
        make(test, fields, extra ? 400 : 201);
    }
    make(test, "\"name\":\"a\"", 201);
    for (int i = 1; i <= 9; i++) { /* the test's server takes 8 */
        about(test, "POST", "/messages", "{" USER "}", i <= 8 ? 200 : 400);
    }
    rest_expect_error(test, "messages");
}

/* ---- answers ---- */

static void an_answer_joins(void **state)
{
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\",\"system\":\"Be brief\"", 201);
    generate(test, "{\"prompt\":\"Hi\",\"max_tokens\":5}", 200);
    rest_expect_string(test, "session", "a");
    rest_expect_string(test, "model", "fake");
    rest_expect_string(test, "message/role", "assistant");
    rest_expect_string(test, "message/content", "Hello world");
    rest_expect_string(test, "finish_reason", "stop");
    rest_expect_int(test, "usage/prompt_tokens", 12);
    rest_expect_int(test, "usage/cached_tokens", 4);
    rest_expect_int(test, "usage/seed", 42);
    assert_int_equal(rest_asked()->params.max_tokens, 5);
    assert_string_equal(rest_asked()->prompt, "Hi");
    expect_messages(test, "system:Be brief|user:Hi|assistant:Hello world");
    generate(test, "{\"prompt\":\"And?\",\"model\":\"fake\"}", 200);
    expect_messages(
        test, "system:Be brief|user:Hi|assistant:Hello world|user:And?|assistant:Hello world");
}

static void an_answer_is_given_anew(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "Other"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer other = {.pieces = pieces};
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\"", 201);
    generate(test, "{\"prompt\":\"Hi\"}", 200);
    rest_reset();
    fake_engine.answers = &other;
    generate(test, "{\"regenerate\":true}", 200);
    assert_null(rest_asked()->prompt);
    assert_int_equal(rest_asked()->n_messages, 1);
    expect_messages(test, "user:Hi|assistant:Other");
    rest_reset();
}

static void tools_take_part(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_REASONING, "hm"},
                                               FAKE_CALL(0, "c", "f", "{\"a\""),
                                               FAKE_ARGUMENTS(0, ":1}"),
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer calling = {.pieces = pieces};
    static const char tools[] =
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"stream\":%s}";
    struct rest_test *test = *state;
    char body[256];
    make(test, "\"name\":\"a\"", 201);
    fake_engine.answers = &calling;
    size_t len = (size_t)snprintf(body, sizeof body, "{\"prompt\":\"Hi\",");
    snprintf(body + len, sizeof body - len, tools, "false");
    generate(test, body, 200);
    rest_expect_string(test, "finish_reason", "tool_calls");
    rest_expect_string(test, "message/reasoning_content", "hm");
    rest_expect_string(test, "message/tool_calls/0/function/arguments", "{\"a\":1}");
    about(test, "POST", "/messages",
          "{\"messages\":[{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"42\"}]}", 200);
    snprintf(body + 1, sizeof body - 1, tools, "true");
    generate(test, body, 200);
    assert_string_equal(
        strstr(test->reply.body.data, "event: reasoning"),
        "event: reasoning\ndata: {\"text\":\"hm\"}\n\n"
        "event: tool_call\ndata: "
        "{\"index\":0,\"id\":\"c\",\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}"
        "\n\n"
        "event: tool_call\ndata: {\"index\":0,\"arguments\":\":1}\"}\n\n"
        "event: done\ndata: {\"finish_reason\":\"tool_calls\",\"usage\":{\"prompt_tokens\":12,"
        "\"cached_tokens\":4,\"completion_tokens\":3,\"dropped_messages\":0,\"seed\":42,"
        "\"queue_ms\":0.000,\"prefill_ms\":10.000,\"decode_ms\":20.000}}\n\n");
    rest_reset();
}

static void a_stream(void **state)
{
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\"", 201);
    generate(test, "{\"prompt\":\"Hi\",\"stream\":true}", 200);
    static const char want[] = "event: start\ndata: {\"session\":\"a\",\"model\":\"fake\"}\n\n"
                               "event: text\ndata: {\"text\":\"Hello\"}\n\n"
                               "event: text\ndata: {\"text\":\" world\"}\n\n"
                               "event: done\ndata: {\"finish_reason\":\"stop\",";
    assert_int_equal(strncmp(test->reply.body.data, want, sizeof want - 1), 0);
    /* the session is free at once */
    expect_messages(test, "user:Hi|assistant:Hello world");
    generate(test, "{\"prompt\":\"And?\"}", 200);
}

static void what_fails_leaves_no_trace(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "half"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer broken = {
        .pieces = pieces,
        .finish = HS_FINISH_ERROR,
        .error = {.status = HS_INTERNAL, .message = "the decode failed"}};
    static const struct fake_answer full = {.refuse = HS_QUEUE_FULL,
                                            .error = {.message = "the queue is full"}};
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\",\"system\":\"x\"", 201);
    fake_engine.answers = &broken;
    generate(test, "{\"prompt\":\"Hi\"}", 500);
    generate(test, "{\"prompt\":\"Hi\",\"stream\":true}", 200);
    assert_non_null(strstr(test->reply.body.data, "data: {\"error\":"));
    assert_null(strstr(test->reply.body.data, "event: done"));
    rest_reset();
    fake_engine.answers = &full;
    generate(test, "{\"prompt\":\"Hi\"}", 429);
    rest_reset();
    expect_messages(test, "system:x");
}

/* Somebody else has it open: this process' lock counts like another's. */
static void a_session_in_use_is_409(void **state)
{
    struct rest_test *test = *state;
    hs_session_file *file = NULL;
    make(test, "\"name\":\"a\"", 201);
    assert_int_equal(hs_session_file_open(test->sessions_dir, "a", false, &file, NULL), HS_OK);
    generate(test, "{\"prompt\":\"Hi\"}", 409);
    about(test, "PATCH", "", "{}", 409);
    about(test, "POST", "/truncate", "{\"n_messages\":0}", 409);
    about(test, "DELETE", "", NULL, 409);
    about(test, "GET", "", NULL, 200); /* reading needs no lock */
    hs_session_file_close(file);
    generate(test, "{\"prompt\":\"Hi\"}", 200);
}

/* A client that leaves: what was said joins, and the session is free again. */
static void a_client_that_leaves(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "some"}, {HS_EVENT_TEXT, FAKE_WAIT}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\"", 201);
    for (int streamed = 0; streamed <= 1; streamed++) {
        fake_engine.answers = &answer;
        char text[512], body[128];
        snprintf(body, sizeof body, "{\"prompt\":\"Hi\",\"stream\":%s}",
                 streamed ? "true" : "false");
        snprintf(text, sizeof text,
                 "POST /api/v1/sessions/a/generate HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
        int fd = client_connect(test->server);
        client_send(fd, text);
        wait_for_int(&fake_engine.n_streams, 1);
        struct hs_buf got HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(4096);
        assert_true(!streamed || client_read_until(fd, &got, "some", 5000));
        close(fd);
        wait_for_int(&fake_engine.n_streams, 0);
        wait_until_stats(test->server, 0, 0);
        rest_reset();
    }
    about(test, "GET", "", NULL, 200);
    rest_expect_int(test, "n_messages", 4);
    rest_expect_string(test, "messages/3/content", "some");
    generate(test, "{\"prompt\":\"And?\"}", 200);
}

static void without_sessions(void **state)
{
    struct rest_test *test = *state;
    test->rest.sessions_dir = NULL;
    rest_ask(test, "GET /api/v1/sessions", NULL, 404);
    make(test, "\"name\":\"a\"", 404);
    about(test, "GET", "", NULL, 404);
    generate(test, "{\"prompt\":\"Hi\"}", 404);
}

/* One with a system message, whatever a request before made of it. */
static void make_anew(struct rest_test *test)
{
    struct reply reply;
    request(test->server, "DELETE /api/v1/sessions/a", "", NULL, &reply);
    reply_free(&reply);
    make(test, "\"name\":\"a\",\"system\":\"x\"", 201);
}

static void changes_without_memory(void **state)
{
    rest_without_memory_after(*state, make_anew, "POST /api/v1/sessions/a/messages",
                              "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
                              "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\","
                              "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}");
    expect_messages(*state, "system:x|user:Hi|assistant:a\nb");
    rest_without_memory_after(*state, make_anew, "DELETE /api/v1/sessions/a", "");
    about(*state, "GET", "", NULL, 404);
}

static void without_memory(void **state)
{
    struct rest_test *test = *state;
    make(test, "\"name\":\"a\",\"system\":\"x\"", 201);
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "b"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    generate(test, "{\"prompt\":\"Hi\"}", 200);
    rest_without_memory(test, "PATCH /api/v1/sessions/a", "{\"system\":\"y\"}", &answer, 1);
    rest_without_memory(test, "POST /api/v1/sessions/a/truncate", "{\"n_messages\":2}", &answer, 1);
    rest_without_memory(test, "GET /api/v1/sessions", "", &answer, 1);
    rest_without_memory(test, "GET /api/v1/sessions/a", "", &answer, 1);
    rest_without_memory(test, "POST /api/v1/sessions/a/generate",
                        "{\"regenerate\":true,\"stream\":true}", &answer, 1);
    rest_without_memory(test, "POST /api/v1/sessions", "{\"system\":\"y\"}", &answer, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_comes_and_goes),
        TEST(settings_change),
        TEST(the_terminals_name_of_a_model),
        TEST(messages_are_appended_and_cut_off),
        TEST(bad_fields_are_named),
        TEST(limits),
        TEST(an_answer_joins),
        TEST(an_answer_is_given_anew),
        TEST(tools_take_part),
        TEST(a_stream),
        TEST(what_fails_leaves_no_trace),
        TEST(a_session_in_use_is_409),
        TEST(a_client_that_leaves),
        TEST(without_sessions),
        TEST(without_memory),
        TEST(changes_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
