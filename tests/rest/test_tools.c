/* Tests of rest/shape.c and conversation.c, through /v1/chat/completions: tools, what of them
 * reaches the engine, calls in answers; JSON schemas; continued messages. */
#include <stdio.h>

#include "base/buf.h"
#include "rest_test.h"

#define TOOL(name, more) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"" more "}}"
#define WEATHER                                                                                    \
    TOOL("weather", ",\"description\":\"Tells it\",\"strict\":true,\"parameters\":{\"type\":"      \
                    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}")
#define TOOLS "\"tools\":[" WEATHER "," TOOL("time", "") "]"

static const struct fake_piece two_calls[] = {{HS_EVENT_TEXT, "Wait."},
                                              FAKE_CALL(0, "call_a", "weather", ""),
                                              FAKE_ARGUMENTS(0, "{\"city\":"),
                                              FAKE_ARGUMENTS(0, "\"Rome\"}"),
                                              FAKE_CALL(1, "call_b", "time", "{}"),
                                              {HS_EVENT_TEXT, NULL}};
static const struct fake_answer calling = {.pieces = two_calls};

/* ---- what reaches the engine ---- */

static void tools_reach_the_engine(void **state)
{
    rest_chat(*state, TOOLS, 200);
    const struct hs_generate_params *params = &rest_asked()->params;
    assert_int_equal(params->n_tools, 2);
    assert_string_equal(params->tools[0].name, "weather");
    assert_string_equal(params->tools[0].description, "Tells it");
    assert_string_equal(params->tools[0].parameters,
                        "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}");
    assert_string_equal(params->tools[1].name, "time");
    assert_null(params->tools[1].description);
    assert_null(params->tools[1].parameters);
    assert_int_equal(params->tool_choice, HS_TOOL_CHOICE_AUTO);
    assert_true(params->parallel_tool_calls); /* OpenAI's default */
}

static void every_choice_of_tools(void **state)
{
    static const struct {
        const char *fields;
        enum hs_tool_choice choice;
        const char *name, *tools; /* the tools that are left */
    } rows[] = {
        {"", HS_TOOL_CHOICE_AUTO, NULL, "weather time"},
        {",\"tool_choice\":\"auto\"", HS_TOOL_CHOICE_AUTO, NULL, "weather time"},
        {",\"tool_choice\":\"none\"", HS_TOOL_CHOICE_NONE, NULL, "weather time"},
        {",\"tool_choice\":\"required\"", HS_TOOL_CHOICE_REQUIRED, NULL, "weather time"},
        {",\"tool_choice\":" TOOL("time", ""), HS_TOOL_CHOICE_REQUIRED, "time", "weather time"},
        {",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"auto\","
         "\"tools\":[" TOOL("time", "") "]}}",
         HS_TOOL_CHOICE_AUTO, NULL, "time"},
        {",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"required\","
         "\"tools\":[" TOOL("time", "") "," TOOL("weather", "") "," TOOL("time", "") "]}}",
         HS_TOOL_CHOICE_REQUIRED, NULL, "time weather"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char fields[2048], names[128] = "";
        snprintf(fields, sizeof fields, TOOLS "%s,\"parallel_tool_calls\":false", rows[i].fields);
        rest_reset();
        rest_chat(*state, fields, 200);
        const struct hs_generate_params *params = &rest_asked()->params;
        assert_int_equal(params->tool_choice, rows[i].choice);
        assert_false(params->parallel_tool_calls);
        if (rows[i].name == NULL) {
            assert_null(params->tool_name);
        } else {
            assert_string_equal(params->tool_name, rows[i].name);
        }
        for (int32_t t = 0; t < params->n_tools; t++) {
            size_t len = strlen(names);
            snprintf(names + len, sizeof names - len, "%s%s", t == 0 ? "" : " ",
                     params->tools[t].name);
        }
        assert_string_equal(names, rows[i].tools);
    }
}

static void a_round_trip_of_messages(void **state)
{
    rest_ask(*state, "POST /v1/chat/completions",
             "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
             "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
             "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
             "\"{\\\"a\\\": 1}\"}},"
             "{\"id\":\"c2\",\"function\":{\"name\":\"g\",\"arguments\":{\"b\":[2]}}},"
             "{\"id\":\"c3\",\"function\":{\"name\":\"h\",\"arguments\":\"\"}}]},"
             "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"two\"},"
             "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"name\":\"mine\",\"content\":"
             "[{\"type\":\"text\",\"text\":\"one\"}]},"
             "{\"role\":\"assistant\",\"function_call\":{\"name\":\"old\",\"arguments\":\"{}\"}},"
             "{\"role\":\"function\",\"name\":\"old\",\"content\":\"three\"}]}",
             200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 6);
    const struct hs_message *called = &asked->messages[1];
    assert_string_equal(called->content, "");
    assert_int_equal(called->n_tool_calls, 3);
    assert_string_equal(called->tool_calls[0].id, "c1");
    assert_string_equal(called->tool_calls[0].name, "f");
    assert_string_equal(called->tool_calls[0].arguments, "{\"a\": 1}");
    assert_string_equal(called->tool_calls[1].arguments, "{\"b\":[2]}");
    assert_string_equal(called->tool_calls[2].arguments, "{}");
    assert_string_equal(asked->messages[2].role, "tool");
    assert_string_equal(asked->messages[2].tool_call_id, "c2");
    assert_string_equal(asked->messages[2].name, "g"); /* found by the id */
    assert_string_equal(asked->messages[3].name, "mine");
    assert_string_equal(asked->messages[3].content, "one");
    assert_string_equal(asked->messages[4].tool_calls[0].name, "old");
    assert_string_equal(asked->messages[5].role, "tool");
    assert_string_equal(asked->messages[5].name, "old");
}

/* ---- calls in answers ---- */

static void whole_answers_with_calls(void **state)
{
    fake_engine.answers = &calling;
    rest_chat(*state, TOOLS, 200);
    rest_expect_string(*state, "choices/0/finish_reason", "tool_calls");
    rest_expect_string(*state, "choices/0/message/content", "Wait.");
    assert_int_equal(json_array_size(rest_at(*state, "choices/0/message/tool_calls")), 2);
    rest_expect_string(*state, "choices/0/message/tool_calls/0/id", "call_a");
    rest_expect_string(*state, "choices/0/message/tool_calls/0/type", "function");
    rest_expect_string(*state, "choices/0/message/tool_calls/0/function/name", "weather");
    rest_expect_string(*state, "choices/0/message/tool_calls/0/function/arguments",
                       "{\"city\":\"Rome\"}");
    rest_expect_string(*state, "choices/0/message/tool_calls/1/function/arguments", "{}");
    rest_reset();
    static const struct fake_piece one_call[] = {FAKE_CALL(0, "c", "time", ""),
                                                 {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer only = {.pieces = one_call};
    fake_engine.answers = &only;
    rest_chat(*state, TOOLS ",\"logprobs\":true", 200);
    assert_true(json_is_null(rest_at(*state, "choices/0/message/content")));
    rest_expect_string(*state, "choices/0/message/tool_calls/0/function/arguments", "");
}

/* The pieces of a stream, as a client puts them together: "[index:id:name]" begins a call. */
static void join_deltas(const struct rest_test *test, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (const char *p = test->reply.body.data; (p = strstr(p, "data: {")) != NULL; p++) {
        json_t *json = json_loads(p + 6, JSON_DISABLE_EOF_CHECK, NULL);
        const json_t *choice = json_array_get(json_object_get(json, "choices"), 0);
        const json_t *delta = json_object_get(choice, "delta");
        const json_t *call = json_array_get(json_object_get(delta, "tool_calls"), 0);
        const json_t *function = json_object_get(call, "function");
        const char *text = json_string_value(json_object_get(delta, "content"));
        const char *arguments = json_string_value(json_object_get(function, "arguments"));
        const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
        if (json_object_get(call, "id") != NULL) {
            assert_string_equal(json_string_value(json_object_get(call, "type")), "function");
            len += (size_t)snprintf(out + len, size - len, "[%d:%s:%s]",
                                    (int)json_integer_value(json_object_get(call, "index")),
                                    json_string_value(json_object_get(call, "id")),
                                    json_string_value(json_object_get(function, "name")));
        }
        len += (size_t)snprintf(out + len, size - len, "%s%s%s%s", text == NULL ? "" : text,
                                arguments == NULL ? "" : arguments, finish == NULL ? "" : "|",
                                finish == NULL ? "" : finish);
        json_decref(json);
    }
}

static void streamed_answers_with_calls(void **state)
{
    char text[512];
    fake_engine.answers = &calling;
    rest_chat(*state, TOOLS ",\"stream\":true", 200);
    join_deltas(*state, text, sizeof text);
    assert_string_equal(text, "Wait.[0:call_a:weather]{\"city\":\"Rome\"}[1:call_b:time]{}"
                              "|tool_calls");
}

/* ---- JSON ---- */

static void schemas_reach_the_engine(void **state)
{
    static const struct {
        const char *fields, *want;
    } rows[] = {
        {"\"response_format\":{\"type\":\"text\"}", NULL},
        {"\"response_format\":{\"type\":\"json_object\"}", "{\"type\":\"object\"}"},
        {"\"response_format\":{\"type\":\"json_object\",\"schema\":{\"type\":\"array\"}}",
         "{\"type\":\"array\"}"},
        {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\","
         "\"strict\":false,\"schema\":{\"type\":\"object\"}}}",
         "{\"type\":\"object\"}"},
        {"\"json_schema\":{\"const\":1}", "{\"const\":1}"},
        {"\"json_schema\":{}", "{}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int raw = 0; raw <= 1; raw++) {
            char body[512];
            snprintf(body, sizeof body, "{%s,%s}", raw ? "\"prompt\":\"x\"" : USER, rows[i].fields);
            rest_reset();
            rest_ask(*state, raw ? "POST /v1/completions" : "POST /v1/chat/completions", body, 200);
            const char *schema = rest_asked()->params.json_schema;
            assert_int_equal(schema == NULL, rows[i].want == NULL);
            if (schema != NULL) {
                assert_string_equal(schema, rows[i].want);
            }
        }
    }
}

/* Tools and a schema reach the engine together; a template that cannot have both is 400. */
static void tools_beside_a_schema(void **state)
{
    struct rest_test *test = *state;
    static const char both[] =
        TOOLS ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\","
              "\"schema\":{\"type\":\"object\"}}}";
    rest_reset();
    rest_chat(test, both, 200);
    assert_string_equal(rest_asked()->params.json_schema, "{\"type\":\"object\"}");
    assert_int_equal(rest_asked()->params.n_tools, 2);
    struct fake_answer answer = {.refuse = HS_NOT_SUPPORTED};
    snprintf(answer.error.message, sizeof answer.error.message,
             "the model's chat template cannot tell a call from an answer by a JSON schema");
    rest_reset();
    fake_engine.answers = &answer;
    rest_chat(test, both, 400);
    rest_expect_error(test, "response_format.json_schema.schema");
    rest_reset();
}

/* What the engine says of a schema is told under the schema's own field. */
static void refused_schemas_are_named(void **state)
{
    static const struct {
        const char *message, *fields, *param;
    } rows[] = {
        {"\"not\" at \"#/x\" of the JSON schema cannot be enforced",
         "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\","
         "\"schema\":{}}}",
         "response_format.json_schema.schema"},
        {"\"not\" at \"#/x\" of the JSON schema cannot be enforced", "\"json_schema\":{}",
         "json_schema"},
        {"tool 'time': \"not\" at \"#\" of the JSON schema cannot be enforced", TOOLS,
         "tools[1].function.parameters"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fake_answer answer = {.refuse = HS_INVALID_ARGUMENT};
        snprintf(answer.error.message, sizeof answer.error.message, "%s", rows[i].message);
        rest_reset();
        fake_engine.answers = &answer;
        rest_chat(*state, rows[i].fields, 400);
        rest_expect_error(*state, rows[i].param);
        rest_reset();
    }
}

static void limits_of_tools_and_schemas(void **state)
{
    struct rest_test *test = *state;
    test->rest.max_tools = 1;
    rest_chat(test, "\"tools\":[" WEATHER "]", 200);
    rest_chat(test, TOOLS, 400);
    rest_expect_error(test, "tools");
    static const char schema[] = "{\"type\":\"object\"}";
    for (size_t extra = 0; extra <= 1; extra++) {
        test->rest.max_schema_bytes = sizeof schema - 1 - extra;
        int status = extra ? 400 : 200;
        rest_chat(test, "\"json_schema\":{\"type\":\"object\"}", status);
        rest_chat(test, "\"tools\":[" TOOL("a", ",\"parameters\":{\"type\":\"object\"}") "]",
                  status);
    }
    rest_expect_error(test, "tools[0].function.parameters");
    static const char name64[] = "0123456789012345678901234567890123456789012345678901234567890123";
    for (int extra = 0; extra <= 1; extra++) {
        char fields[256];
        snprintf(fields, sizeof fields, "\"tools\":[" TOOL("%s%s", "") "]", name64,
                 extra ? "4" : "");
        rest_chat(test, fields, extra ? 400 : 200);
    }
    rest_expect_error(test, "tools[0].function.name");
}

/* ---- the template ---- */

static void variables_of_the_template(void **state)
{
    static const struct {
        const char *fields, *want;
    } rows[] = {
        {"\"chat_template_kwargs\":{\"enable_thinking\":false}", NULL},
        {"\"chat_template_kwargs\":{\"enable_thinking\":false,\"x\":[1,\"y\"]}",
         "{\"x\":[1,\"y\"]}"},
        {"\"reasoning_effort\":\"low\"", "{\"reasoning_effort\":\"low\"}"},
        {"\"reasoning_effort\":\"low\",\"chat_template_kwargs\":{\"reasoning_effort\":\"high\"}",
         "{\"reasoning_effort\":\"high\"}"},
        {"\"reasoning_effort\":\"none\"", NULL},
    };
    struct rest_test *test = *state;
    test->rest.models[0].has_chat_template = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        rest_chat(test, rows[i].fields, 200);
        const char *kwargs = rest_asked()->params.template_kwargs;
        assert_int_equal(kwargs == NULL, rows[i].want == NULL);
        if (kwargs != NULL) {
            assert_string_equal(kwargs, rows[i].want);
        }
    }
    rest_reset();
    test->rest.models[0].has_chat_template = false; /* nothing that could know the level */
    rest_chat(test, "\"reasoning_effort\":\"low\"", 200);
    assert_null(rest_asked()->params.template_kwargs);
}

static void a_message_is_continued(void **state)
{
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
                               "{\"role\":\"assistant\",\"content\":\"I th\"}],"
                               "\"continue_final_message\":true,\"add_generation_prompt\":false}";
    rest_ask(*state, "POST /v1/chat/completions", body, 200);
    assert_true(rest_asked()->params.continue_final);
    assert_int_equal(rest_asked()->n_messages, 2);
    rest_reset();
    rest_chat(*state, "\"add_generation_prompt\":true", 200);
    assert_false(rest_asked()->params.continue_final);
}

/* ---- memory ---- */

static void without_memory(void **state)
{
    char body[4096];
    for (int streamed = 0; streamed <= 1; streamed++) {
        snprintf(
            body, sizeof body,
            "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
            "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"tool_calls\":["
            "{\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
            "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"x\"}]," TOOLS
            ",\"json_schema\":{\"type\":\"object\"},\"stop\":[\"z\"],\"logprobs\":true,"
            "\"stream\":%s}",
            streamed ? "true" : "false");
        rest_without_memory(*state, "POST /v1/chat/completions", body, &calling, 1);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tools_reach_the_engine),      TEST(every_choice_of_tools),
        TEST(a_round_trip_of_messages),    TEST(whole_answers_with_calls),
        TEST(streamed_answers_with_calls), TEST(schemas_reach_the_engine),
        TEST(tools_beside_a_schema),       TEST(refused_schemas_are_named),
        TEST(limits_of_tools_and_schemas), TEST(variables_of_the_template),
        TEST(a_message_is_continued),      TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
