/* Tests of rest/anthropic*.c: requests as the engine takes them, whole answers, refusals. */
#include <stdio.h>
#include <stdlib.h>

#include "anthropic_request.h"
#include "rest_test.h"

#define MESSAGES "POST /v1/messages"
#define COUNT "POST /v1/messages/count_tokens"
#define HI "{\"role\":\"user\",\"content\":\"Hi\"}"
#define WEATHER                                                                                    \
    "{\"name\":\"weather\",\"description\":\"Tells it\",\"input_schema\":{\"type\":\"object\"}}"

/* {"model", "max_tokens": 100, <fields>, <messages>} */
static void ask_with(struct rest_test *test, const char *fields, const char *messages, int status)
{
    char body[8192];
    snprintf(body, sizeof body, "{\"model\":\"fake\",\"max_tokens\":100,\"messages\":[%s]%s%s}",
             messages, *fields ? "," : "", fields);
    rest_ask(test, MESSAGES, body, status);
}

static void ask(struct rest_test *test, const char *fields)
{
    rest_reset();
    ask_with(test, fields, HI, 200);
}

static void refused(struct rest_test *test, const char *fields, const char *messages,
                    const char *named)
{
    char id[512];
    rest_reset();
    ask_with(test, fields, messages, 400);
    rest_expect_string(test, "type", "error");
    rest_expect_string(test, "error/type", "invalid_request_error");
    const char *message = json_string_value(rest_at(test, "error/message"));
    if (strstr(message, named) == NULL) {
        fail_msg("'%s' does not name %s", message, named);
    }
    rest_expect_string(test, "request_id", reply_header(&test->reply, "request-id", id));
    assert_int_equal(fake_engine.n_asked, 0);
}

static void expect_message(size_t i, const char *role, const char *content)
{
    const struct fake_asked *asked = rest_asked();
    assert_true(i < asked->n_messages);
    assert_string_equal(asked->messages[i].role, role);
    assert_string_equal(asked->messages[i].content, content);
}

/* ---- whole answers ---- */

static void an_answer_has_every_field(void **state)
{
    struct rest_test *test = *state;
    char id[512];
    ask(test, "");
    rest_expect_string(test, "type", "message");
    rest_expect_string(test, "role", "assistant");
    rest_expect_string(test, "model", "fake");
    assert_int_equal(json_array_size(rest_at(test, "content")), 1);
    rest_expect_string(test, "content/0/type", "text");
    rest_expect_string(test, "content/0/text", "Hello world");
    rest_expect_string(test, "stop_reason", "end_turn");
    assert_true(json_is_null(rest_at(test, "stop_sequence")));
    /* 12 tokens of the prompt, 4 of them cached; they add up to the prompt */
    rest_expect_int(test, "usage/input_tokens", 8);
    rest_expect_int(test, "usage/cache_read_input_tokens", 4);
    rest_expect_int(test, "usage/cache_creation_input_tokens", 0);
    rest_expect_int(test, "usage/output_tokens", 2);
    assert_int_equal(strncmp(json_string_value(rest_at(test, "id")), "msg_", 4), 0);
    assert_non_null(reply_header(&test->reply, "request-id", id));
    assert_int_equal(rest_asked()->params.max_tokens, 100);
    expect_message(0, "user", "Hi");
    assert_int_equal(rest_asked()->n_messages, 1);
}

static void thinking_text_and_calls_are_blocks(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_REASONING, "hmm"},
                                               {HS_EVENT_TEXT, "I look."},
                                               FAKE_CALL(0, "a1", "weather", "{\"city\":"),
                                               FAKE_ARGUMENTS(0, "\"Paris\"}"),
                                               FAKE_CALL(1, "a2", "time", ""),
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    fake_engine.answers = &answer;
    ask_with(test, "", HI, 200);
    assert_int_equal(json_array_size(rest_at(test, "content")), 4);
    rest_expect_string(test, "content/0/type", "thinking");
    rest_expect_string(test, "content/0/thinking", "hmm");
    assert_true(json_string_length(rest_at(test, "content/0/signature")) > 0);
    rest_expect_string(test, "content/1/text", "I look.");
    rest_expect_string(test, "content/2/type", "tool_use");
    rest_expect_string(test, "content/2/id", "a1");
    rest_expect_string(test, "content/2/name", "weather");
    rest_expect_string(test, "content/2/input/city", "Paris");
    rest_expect_string(test, "content/3/name", "time");
    assert_int_equal(json_object_size(rest_at(test, "content/3/input")), 0);
    rest_expect_string(test, "stop_reason", "tool_use");
    rest_expect_int(test, "usage/output_tokens_details/thinking_tokens", 1);
    rest_reset();
    fake_engine.answers = &answer;
    ask_with(test, "\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"}", HI, 200);
    rest_expect_string(test, "content/0/thinking", "");
    rest_expect_string(test, "content/1/text", "I look.");
}

static void an_answer_that_says_nothing_has_no_blocks(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    fake_engine.answers = &answer;
    ask_with(*state, "", HI, 200);
    assert_int_equal(json_array_size(rest_at(*state, "content")), 0);
    rest_expect_string(*state, "stop_reason", "end_turn");
}

static void why_it_stopped(void **state)
{
    static const struct fake_piece pieces[] = {
        {HS_EVENT_TEXT, "a"}, {HS_EVENT_TEXT, "b"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece cut[] = {FAKE_CALL(0, "a1", "weather", "{\"city\":\"Pa"),
                                            {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer length = {.pieces = pieces, .finish = HS_FINISH_LENGTH};
    static const struct fake_answer stop = {.pieces = pieces, .stopped_by = 2};
    static const struct fake_answer in_call = {.pieces = cut, .finish = HS_FINISH_LENGTH};
    struct rest_test *test = *state;
    fake_engine.answers = &length;
    rest_ask(test, MESSAGES, "{\"max_tokens\":2,\"messages\":[" HI "]}", 200);
    rest_expect_string(test, "stop_reason", "max_tokens");
    rest_ask(test, MESSAGES, "{\"max_tokens\":3,\"messages\":[" HI "]}", 200);
    rest_expect_string(test, "stop_reason", "model_context_window_exceeded");
    rest_reset();
    fake_engine.answers = &stop;
    ask_with(test, "\"stop_sequences\":[\"x\",\"y\\n\\\"\"]", HI, 200);
    assert_int_equal(rest_asked()->params.n_stop, 2);
    assert_string_equal(rest_asked()->stop[1], "y\n\"");
    rest_expect_string(test, "stop_reason", "stop_sequence");
    rest_expect_string(test, "stop_sequence", "y\n\"");
    rest_reset();
    fake_engine.answers = &in_call;
    rest_ask(test, MESSAGES, "{\"max_tokens\":1,\"messages\":[" HI "]}", 200);
    rest_expect_string(test, "stop_reason", "max_tokens");
    rest_expect_string(test, "content/0/name", "weather");
    assert_int_equal(json_object_size(rest_at(test, "content/0/input")), 0);
}

/* ---- requests ---- */

static void system_and_blocks_become_messages(void **state)
{
    struct rest_test *test = *state;
    ask(test, "\"system\":\"Be brief\"");
    expect_message(0, "system", "Be brief");
    expect_message(1, "user", "Hi");
    ask(test, "\"system\":[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{\"type\":"
              "\"ephemeral\"}},{\"type\":\"text\",\"text\":\"b\"}]");
    expect_message(0, "system", "a\nb");
    ask(test, "\"system\":\"\"");
    assert_int_equal(rest_asked()->n_messages, 1);
    rest_reset();
    ask_with(test, "",
             "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"},"
             "{\"type\":\"text\",\"text\":\"two\"}]},"
             "{\"role\":\"user\",\"content\":\"three\"},"
             "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"mm\","
             "\"signature\":\"x\"},{\"type\":\"redacted_thinking\",\"data\":\"y\"},"
             "{\"type\":\"text\",\"text\":\"four\"}]},"
             "{\"role\":\"system\",\"content\":\"five\"},"
             "{\"role\":\"user\",\"content\":[]}",
             200);
    assert_int_equal(rest_asked()->n_messages, 4);
    expect_message(0, "user", "one\ntwo\nthree");
    expect_message(1, "assistant", "four");
    assert_string_equal(rest_asked()->messages[1].reasoning, "mm");
    expect_message(2, "system", "five");
    expect_message(3, "user", "");
    assert_false(rest_asked()->params.continue_final);
}

static void calls_and_their_results(void **state)
{
    struct rest_test *test = *state;
    ask_with(test, "\"tools\":[" WEATHER "]",
             HI ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"wait\"},"
                "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"weather\",\"input\":{\"a\":1}},"
                "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"time\",\"input\":{}}]},"
                "{\"role\":\"user\",\"content\":["
                "{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"rain\"},"
                "{\"type\":\"tool_result\",\"tool_use_id\":\"t2\",\"is_error\":true,\"content\":"
                "[{\"type\":\"text\",\"text\":\"no\"},{\"type\":\"text\",\"text\":\"clock\"}]},"
                "{\"type\":\"text\",\"text\":\"And now?\"},"
                "{\"type\":\"tool_result\",\"tool_use_id\":\"t2\"}]}",
             200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 6);
    expect_message(1, "assistant", "wait");
    assert_int_equal(asked->messages[1].n_tool_calls, 2);
    assert_string_equal(asked->messages[1].tool_calls[0].id, "t1");
    assert_string_equal(asked->messages[1].tool_calls[0].name, "weather");
    assert_string_equal(asked->messages[1].tool_calls[0].arguments, "{\"a\":1}");
    assert_string_equal(asked->messages[1].tool_calls[1].arguments, "{}");
    expect_message(2, "tool", "rain");
    assert_string_equal(asked->messages[2].tool_call_id, "t1");
    assert_string_equal(asked->messages[2].name, "weather");
    expect_message(3, "tool", "Error:\nno\nclock");
    assert_string_equal(asked->messages[3].name, "time");
    expect_message(4, "user", "And now?");
    expect_message(5, "tool", "");
    assert_int_equal(asked->params.n_tools, 1);
    assert_string_equal(asked->params.tools[0].name, "weather");
    assert_string_equal(asked->params.tools[0].description, "Tells it");
    assert_string_equal(asked->params.tools[0].parameters, "{\"type\":\"object\"}");
    assert_int_equal(asked->params.tool_choice, HS_TOOL_CHOICE_AUTO);
    assert_true(asked->params.parallel_tool_calls);
}

static void tool_choices(void **state)
{
    static const struct {
        const char *choice;
        enum hs_tool_choice want;
        const char *name;
        bool parallel;
    } rows[] = {
        {"{\"type\":\"auto\"}", HS_TOOL_CHOICE_AUTO, NULL, true},
        {"{\"type\":\"auto\",\"disable_parallel_tool_use\":true}", HS_TOOL_CHOICE_AUTO, NULL,
         false},
        {"{\"type\":\"none\"}", HS_TOOL_CHOICE_NONE, NULL, true},
        {"{\"type\":\"any\"}", HS_TOOL_CHOICE_REQUIRED, NULL, true},
        {"{\"type\":\"tool\",\"name\":\"weather\"}", HS_TOOL_CHOICE_REQUIRED, "weather", true},
    };
    char fields[512];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(fields, sizeof fields, "\"tools\":[" WEATHER "],\"tool_choice\":%s",
                 rows[i].choice);
        ask(*state, fields);
        assert_int_equal(rest_asked()->params.tool_choice, rows[i].want);
        assert_true(rest_asked()->params.parallel_tool_calls == rows[i].parallel);
        if (rows[i].name == NULL) {
            assert_null(rest_asked()->params.tool_name);
        } else {
            assert_string_equal(rest_asked()->params.tool_name, rows[i].name);
        }
    }
}

static void sampling_and_shape(void **state)
{
    struct rest_test *test = *state;
    ask(test, "\"temperature\":0.25,\"top_p\":0.5,\"top_k\":7,\"min_p\":0.125,\"seed\":3,"
              "\"metadata\":{\"user_id\":\"u\"},\"service_tier\":\"auto\"");
    const struct fake_asked *asked = rest_asked();
    assert_float_is(asked->params.sampling.temp, 0.25);
    assert_float_is(asked->params.sampling.top_p, 0.5);
    assert_float_is(asked->params.sampling.min_p, 0.125);
    assert_int_equal(asked->params.sampling.top_k, 7);
    assert_int_equal(asked->params.sampling.seed, 3);
    assert_true(asked->params.split_reasoning);
    assert_null(asked->params.json_schema);
    ask(test, "\"output_config\":{\"effort\":\"low\",\"format\":{\"type\":\"json_schema\","
              "\"schema\":{\"type\":\"integer\"}}}");
    assert_string_equal(rest_asked()->params.json_schema, "{\"type\":\"integer\"}");
    ask(test, "\"output_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"null\"}}");
    assert_string_equal(rest_asked()->params.json_schema, "{\"type\":\"null\"}");
    ask(test, "\"stop_sequences\":[]");
    assert_int_equal(rest_asked()->params.n_stop, 0);
}

static void thinking_is_switched(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, MESSAGES,
             "{\"max_tokens\":1025,\"messages\":[" HI "],\"thinking\":{\"type\":\"enabled\","
             "\"budget_tokens\":1024}}",
             200);
    assert_true(rest_asked()->params.enable_thinking);
    ask(test, "\"thinking\":{\"type\":\"disabled\"}");
    assert_false(rest_asked()->params.enable_thinking);
    ask(test, "\"thinking\":{\"type\":\"adaptive\"}");
    assert_true(rest_asked()->params.enable_thinking);
}

static void an_answer_that_began_goes_on(void **state)
{
    ask_with(*state, "", HI ",{\"role\":\"assistant\",\"content\":\"The answer is (\"}", 200);
    assert_true(rest_asked()->params.continue_final);
    expect_message(1, "assistant", "The answer is (");
}

/* ---- refusals ---- */

static void bad_fields_are_named(void **state)
{
    static const char *const rows[][2] = {
        {"\"system\":3", "system"},
        {"\"system\":[{\"type\":\"image\"}]", "system[0].type"},
        {"\"temperature\":1.01", "temperature"},
        {"\"temperature\":\"hot\"", "temperature"},
        {"\"top_p\":-0.1", "top_p"},
        {"\"top_k\":1.5", "top_k"},
        {"\"stop_sequences\":\"x\"", "stop_sequences"},
        {"\"stop_sequences\":[\"\"]", "stop_sequences"},
        {"\"stream\":1", "stream"},
        {"\"metadata\":\"m\"", "metadata"},
        {"\"mcp_servers\":[{}]", "mcp_servers"},
        {"\"container\":\"c\"", "container"},
        {"\"tools\":{}", "tools"},
        {"\"tools\":[1]", "tools"},
        {"\"tools\":[{\"name\":\"a\"}]", "tools[0].input_schema"},
        {"\"tools\":[{\"name\":\"a b\",\"input_schema\":{}}]", "tools[0].name"},
        {"\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]",
         "web_search_20250305"},
        {"\"tool_choice\":\"any\"", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"any\"}", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"all\"}", "tool_choice.type"},
        {"\"tools\":[" WEATHER "],\"tool_choice\":{\"type\":\"tool\"}", "tool_choice.name"},
        {"\"tools\":[" WEATHER "],\"tool_choice\":{\"type\":\"tool\",\"name\":\"x\"}", "'x'"},
        {"\"thinking\":true", "thinking"},
        {"\"thinking\":{\"type\":\"some\"}", "thinking.type"},
        {"\"thinking\":{\"type\":\"enabled\"}", "thinking.budget_tokens"},
        {"\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1023}", "thinking.budget_tokens"},
        {"\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}", "max_tokens"},
        {"\"thinking\":{\"type\":\"adaptive\",\"display\":\"x\"}", "thinking.display"},
        {"\"output_config\":{\"effort\":\"none\"}", "output_config.effort"},
        {"\"output_config\":{\"format\":{\"type\":\"text\"}}", "output_config.format.type"},
        {"\"output_config\":{\"format\":{\"type\":\"json_schema\"}}",
         "output_config.format.schema"},
        {"\"output_format\":{\"type\":\"json_schema\",\"schema\":1}", "output_format.schema"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        refused(*state, rows[i][0], HI, rows[i][1]);
    }
}

static void bad_messages_are_named(void **state)
{
    static const char *const rows[][2] = {
        {"", "messages"},
        {"3", "messages"},
        {"{\"content\":\"x\"}", "messages[0].role"},
        {"{\"role\":\"tool\",\"content\":\"x\"}", "messages[0].role"},
        {"{\"role\":\"user\"}", "messages[0].content"},
        {"{\"role\":\"user\",\"content\":3}", "messages[0].content"},
        {"{\"role\":\"user\",\"content\":[\"x\"]}", "messages[0].content"},
        {"{\"role\":\"user\",\"content\":[{}]}", "messages[0].content[0].type"},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}", "messages[0].content[0].text"},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}", "text only"},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"document\"}]}", "text only"},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t\"}]}",
         "messages[0].content[0].tool_use_id"},
        {"{\"role\":\"assistant\",\"content\":[{\"type\":\"image\"}]}", "'image'"},
        {"{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":"
         "\"n\"}]}",
         "messages[0].content[0].input"},
        {"{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":"
         "\"n\",\"input\":{}}]}",
         "tool_result"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        refused(*state, "", rows[i][0], rows[i][1]);
    }
}

static void limits_hold_at_n_and_n_plus_1(void **state)
{
    struct rest_test *test = *state;
    char messages[1024] = HI;
    for (int32_t i = 1; i < test->rest.max_messages; i++) {
        strcat(messages, "," HI);
    }
    ask_with(test, "", messages, 200);
    strcat(messages, "," HI);
    refused(test, "", messages, "messages");
    rest_ask(test, MESSAGES, "{\"max_tokens\":1,\"messages\":[" HI "]}", 200);
    rest_ask(test, MESSAGES, "{\"max_tokens\":0,\"messages\":[" HI "]}", 400);
    rest_ask(test, MESSAGES, "{\"messages\":[" HI "]}", 400);
    assert_non_null(strstr(test->reply.body.data, "max_tokens"));
    ask(test, "\"temperature\":1");
    test->rest.max_tools = 1;
    ask(test, "\"tools\":[" WEATHER "]");
    refused(test, "\"tools\":[" WEATHER ",{\"name\":\"b\",\"input_schema\":{}}]", HI, "tools");
    test->rest.max_schema_bytes = strlen("{\"type\":\"object\"}");
    ask(test, "\"output_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}");
    test->rest.max_schema_bytes--;
    refused(test, "\"output_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}",
            HI, "output_format.schema");
}

static void the_version_is_checked_when_it_is_there(void **state)
{
    static const char body[] = "{\"max_tokens\":9,\"messages\":[" HI "]}";
    static const struct {
        const char *header;
        int status;
    } rows[] = {{"anthropic-version: 2023-06-01\r\n", 200},
                {"anthropic-version: 2026-10-21\r\n", 200},
                {"anthropic-version: \r\n", 400},
                {"anthropic-version: 2023-06-01 2026-10-21\r\n", 400},
                {"anthropic-version: 2023-01-01\r\n", 400},
                {"anthropic-version: x\r\n", 400}};
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct reply reply;
        request(test->server, MESSAGES, rows[i].header, body, &reply);
        assert_int_equal(reply.status, rows[i].status);
        assert_true(reply.status == 200 || strstr(reply.body.data, HS_ANTHROPIC_VERSIONS) != NULL);
        reply_free(&reply);
    }
}

static void what_the_engine_refuses(void **state)
{
    static const struct {
        hs_status status;
        int http;
        const char *type;
    } rows[] = {
        {HS_CONTEXT_FULL, 400, "invalid_request_error"},  {HS_QUEUE_FULL, 429, "rate_limit_error"},
        {HS_NOT_SUPPORTED, 400, "invalid_request_error"}, {HS_OUT_OF_MEMORY, 500, "api_error"},
        {HS_UNAVAILABLE, 503, "overloaded_error"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        const struct fake_answer answer = {.refuse = rows[i].status,
                                           .error = {.message = "because"}};
        fake_engine.answers = &answer;
        ask_with(test, "", HI, rows[i].http);
        rest_expect_string(test, "error/type", rows[i].type);
        rest_expect_string(test, "error/message", "because");
    }
    rest_ask(test, MESSAGES, "{\"model\":\"no\",\"max_tokens\":1,\"messages\":[" HI "]}", 404);
    rest_expect_string(test, "error/type", "not_found_error");
}

/* ---- counting ---- */

static void tokens_are_counted_as_rendered(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, COUNT,
             "{\"model\":\"fake\",\"system\":\"S\",\"messages\":[" HI "],\"tools\":[" WEATHER
             "],\"tool_choice\":{\"type\":\"any\"},\"thinking\":{\"type\":\"enabled\","
             "\"budget_tokens\":5000}}",
             200);
    /* the fake renders "rendered", and its tokens are bytes */
    rest_expect_int(test, "input_tokens", (json_int_t)strlen("rendered"));
    assert_int_equal(json_object_size(test->json), 1);
    assert_int_equal(fake_engine.rendered.n_messages, 2);
    assert_int_equal(fake_engine.rendered.params.n_tools, 1);
    assert_int_equal(fake_engine.rendered.params.tool_choice, HS_TOOL_CHOICE_REQUIRED);
    assert_true(fake_engine.rendered.params.enable_thinking);
    rest_ask(test, COUNT, "{\"messages\":[]}", 400);
    rest_ask(test, COUNT, "{\"model\":\"no\",\"messages\":[" HI "]}", 404);
    fake_engine.render_status = HS_INVALID_ARGUMENT;
    rest_ask(test, COUNT, "{\"messages\":[" HI "]}", 400);
    fake_engine.render_status = HS_OK;
}

static void every_allocation_fails_once(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_REASONING, "mm"},
                                               {HS_EVENT_TEXT, "Hello"},
                                               FAKE_CALL(0, "a1", "weather", "{}"),
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    static const char body[] =
        "{\"max_tokens\":9,\"system\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
        "\"text\":\"b\"}],\"tools\":[" WEATHER "],\"stop_sequences\":[\"x\"],\"messages\":[" HI
        "," HI ",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\"},"
        "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"weather\",\"input\":{\"a\":1}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":"
        "\"tool_result\",\"tool_use_id\":\"t1\",\"is_error\":true,\"content\":\"no\"}]}]}";
    rest_without_memory(*state, MESSAGES, body, &answer, 1);
    rest_without_memory(*state, COUNT, body, &answer, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_has_every_field),
        TEST(thinking_text_and_calls_are_blocks),
        TEST(an_answer_that_says_nothing_has_no_blocks),
        TEST(why_it_stopped),
        TEST(system_and_blocks_become_messages),
        TEST(calls_and_their_results),
        TEST(tool_choices),
        TEST(sampling_and_shape),
        TEST(thinking_is_switched),
        TEST(an_answer_that_began_goes_on),
        TEST(bad_fields_are_named),
        TEST(bad_messages_are_named),
        TEST(limits_hold_at_n_and_n_plus_1),
        TEST(the_version_is_checked_when_it_is_there),
        TEST(what_the_engine_refuses),
        TEST(tokens_are_counted_as_rendered),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
