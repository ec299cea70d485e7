/* Tests of rest/ollama.c, ollama_request.c and ollama_answer.c: chat and generate. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rest_test.h"

#define CHAT "POST /api/chat"
#define GENERATE "POST /api/generate"
#define HI "{\"role\":\"user\",\"content\":\"Hi\"}"
#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{"        \
    "\"type\":\"object\"}}}]"
#define MAX_LINES 16

/* The lines of an answer. */
struct lines {
    json_t *items[MAX_LINES];
    size_t n;
};

static void read_lines(const struct rest_test *test, struct lines *ret)
{
    *ret = (struct lines){.n = 0};
    for (const char *p = test->reply.body.data; *p != '\0';) {
        const char *end = strchr(p, '\n');
        assert_non_null(end);
        assert_true(ret->n < MAX_LINES);
        json_t *json = json_loadb(p, (size_t)(end - p), 0, NULL);
        assert_non_null(json);
        ret->items[ret->n++] = json;
        p = end + 1;
    }
}

static void free_lines(struct lines *lines)
{
    for (size_t i = 0; i < lines->n; i++) {
        json_decref(lines->items[i]);
    }
}

/* {"model", "messages": [<messages>], "stream": false, <more>} */
static void chat_with(struct rest_test *test, const char *messages, const char *more, int status)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"model\":\"fake\",\"stream\":false,\"messages\":[%s]%s%s}",
             messages, *more ? "," : "", more);
    rest_ask(test, CHAT, body, status);
}

static void chat(struct rest_test *test, const char *more)
{
    rest_reset();
    chat_with(test, HI, more, 200);
}

/* {"model", "prompt": "Hi", "stream": false, <more>} */
static void generate(struct rest_test *test, const char *more, int status)
{
    char body[4096];
    rest_reset();
    snprintf(body, sizeof body, "{\"model\":\"fake\",\"prompt\":\"Hi\",\"stream\":false%s%s}",
             *more ? "," : "", more);
    rest_ask(test, GENERATE, body, status);
}

static void expect_refused(const struct rest_test *test, const char *named)
{
    const char *message = json_string_value(rest_at(test, "error"));
    assert_int_equal(json_object_size(test->json), 1);
    if (strstr(message, named) == NULL) {
        fail_msg("'%s' does not name %s", message, named);
    }
    assert_int_equal(fake_engine.n_asked, 0);
}

/* 2023-08-04T19:22:45.499127123Z */
static void expect_time(const json_t *json)
{
    int year, month, day, hour, minute, second, n = 0;
    long ns;
    assert_true(json_is_string(json));
    assert_int_equal(sscanf(json_string_value(json), "%4d-%2d-%2dT%2d:%2d:%2d.%9ldZ%n", &year,
                            &month, &day, &hour, &minute, &second, &ns, &n),
                     7);
    assert_int_equal(n, 30);
    assert_in_range(year, 2024, 9999);
}

/* The fake's figures: 12 tokens, 10 ms and 20 ms. */
static void expect_done(const json_t *json, const char *reason)
{
    assert_true(json_is_true(json_object_get(json, "done")));
    assert_string_equal(json_string_value(json_object_get(json, "done_reason")), reason);
    assert_int_equal(json_integer_value(json_object_get(json, "prompt_eval_count")), 12);
    assert_int_equal(json_integer_value(json_object_get(json, "prompt_eval_duration")), 10000000);
    assert_int_equal(json_integer_value(json_object_get(json, "eval_duration")), 20000000);
    assert_true(json_is_integer(json_object_get(json, "load_duration")));
    assert_true(json_integer_value(json_object_get(json, "total_duration")) > 0);
    expect_time(json_object_get(json, "created_at"));
}

/* ---- whole answers ---- */

static void an_answer_has_every_field(void **state)
{
    struct rest_test *test = *state;
    chat(test, "");
    rest_expect_string(test, "model", "fake");
    rest_expect_string(test, "message/role", "assistant");
    rest_expect_string(test, "message/content", "Hello world");
    assert_null(json_object_get(rest_at(test, "message"), "thinking"));
    assert_null(json_object_get(rest_at(test, "message"), "tool_calls"));
    rest_expect_int(test, "eval_count", 2);
    expect_done(test->json, "stop");
    generate(test, "", 200);
    rest_expect_string(test, "response", "Hello world");
    expect_done(test->json, "stop");
}

static const struct fake_piece all_kinds[] = {{HS_EVENT_REASONING, "mm"},
                                              {HS_EVENT_TEXT, "I look."},
                                              FAKE_CALL(0, "a1", "weather", "{\"city\":"),
                                              FAKE_ARGUMENTS(0, "\"Paris\"}"),
                                              FAKE_CALL(1, "a2", "time", "{\"zone\":"),
                                              {HS_EVENT_TEXT, NULL}};

static void thinking_and_calls(void **state)
{
    static const struct fake_answer answer = {.pieces = all_kinds, .finish = HS_FINISH_LENGTH};
    struct rest_test *test = *state;
    fake_engine.answers = &answer;
    chat_with(test, HI, TOOLS, 200);
    rest_expect_string(test, "message/thinking", "mm");
    rest_expect_string(test, "message/content", "I look.");
    /* the call that was cut off is not there */
    assert_int_equal(json_array_size(rest_at(test, "message/tool_calls")), 1);
    rest_expect_string(test, "message/tool_calls/0/function/name", "weather");
    rest_expect_string(test, "message/tool_calls/0/function/arguments/city", "Paris");
    rest_expect_string(test, "done_reason", "length");
    assert_int_equal(rest_asked()->params.n_tools, 1);
    assert_string_equal(rest_asked()->params.tools[0].name, "weather");
}

/* ---- streams ---- */

static void streams_are_the_default(void **state)
{
    struct rest_test *test = *state;
    struct lines lines;
    char type[512];
    rest_ask(test, CHAT, "{\"model\":\"fake:latest\",\"messages\":[" HI "]}", 200);
    assert_string_equal(reply_header(&test->reply, "Content-Type", type), "application/x-ndjson");
    read_lines(test, &lines);
    assert_int_equal(lines.n, 3);
    static const char *const texts[] = {"Hello", " world", ""};
    for (size_t i = 0; i < lines.n; i++) {
        const json_t *message = json_object_get(lines.items[i], "message");
        assert_string_equal(json_string_value(json_object_get(message, "content")), texts[i]);
        assert_string_equal(json_string_value(json_object_get(message, "role")), "assistant");
        assert_string_equal(json_string_value(json_object_get(lines.items[i], "model")),
                            "fake:latest");
        expect_time(json_object_get(lines.items[i], "created_at"));
        assert_true(json_is_boolean(json_object_get(lines.items[i], "done")));
        assert_true(json_is_true(json_object_get(lines.items[i], "done")) == (i == 2));
    }
    expect_done(lines.items[2], "stop");
    free_lines(&lines);
}

static void calls_leave_whole_before_the_end(void **state)
{
    static const struct fake_answer answer = {.pieces = all_kinds};
    struct rest_test *test = *state;
    struct lines lines;
    fake_engine.answers = &answer;
    rest_ask(test, CHAT, "{\"messages\":[" HI "]," TOOLS "}", 200);
    read_lines(test, &lines);
    assert_int_equal(lines.n, 4); /* thinking, text, calls, end */
    const json_t *message = json_object_get(lines.items[0], "message");
    assert_string_equal(json_string_value(json_object_get(message, "thinking")), "mm");
    assert_string_equal(json_string_value(json_object_get(message, "content")), "");
    message = json_object_get(lines.items[2], "message");
    const json_t *calls = json_object_get(message, "tool_calls");
    assert_int_equal(json_array_size(calls), 1);
    assert_true(json_is_false(json_object_get(lines.items[2], "done")));
    expect_done(lines.items[3], "stop");
    free_lines(&lines);
}

static void generate_streams_and_ends_with_its_context(void **state)
{
    struct rest_test *test = *state;
    struct lines lines;
    rest_ask(test, GENERATE, "{\"prompt\":\"Hi\"}", 200);
    read_lines(test, &lines);
    assert_int_equal(lines.n, 3);
    assert_string_equal(json_string_value(json_object_get(lines.items[0], "response")), "Hello");
    assert_null(json_object_get(lines.items[0], "context"));
    const json_t *context = json_object_get(lines.items[2], "context");
    /* the fake renders "rendered"; tokens are bytes */
    static const char want[] = "renderedHello world";
    assert_int_equal(json_array_size(context), strlen(want));
    for (size_t i = 0; i < strlen(want); i++) {
        assert_int_equal(json_integer_value(json_array_get(context, i)), want[i]);
    }
    free_lines(&lines);
}

static void logprobs_go_with_their_text(void **state)
{
    struct rest_test *test = *state;
    struct lines lines;
    chat(test, "\"logprobs\":true,\"top_logprobs\":2");
    assert_int_equal(rest_asked()->params.n_logprobs, 2);
    assert_int_equal(json_array_size(rest_at(test, "logprobs")), strlen("Hello world"));
    rest_expect_string(test, "logprobs/0/token", "H");
    rest_expect_string(test, "logprobs/0/top_logprobs/1/token", "I");
    /* a stream that keeps its texts, too, gives each of them once */
    rest_reset();
    rest_ask(test, CHAT, "{\"messages\":[" HI "],\"logprobs\":true," TOOLS "}", 200);
    read_lines(test, &lines);
    assert_int_equal(lines.n, 3);
    assert_int_equal(json_array_size(json_object_get(lines.items[0], "logprobs")), 5);
    assert_int_equal(json_array_size(json_object_get(lines.items[1], "logprobs")), 6);
    assert_null(json_object_get(lines.items[2], "logprobs"));
    free_lines(&lines);
}

static void a_failure_in_the_middle_is_a_line(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "half"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {
        .pieces = pieces,
        .finish = HS_FINISH_ERROR,
        .error = {.status = HS_INTERNAL, .message = "the decode failed"}};
    struct rest_test *test = *state;
    struct lines lines;
    fake_engine.answers = &answer;
    rest_ask(test, CHAT, "{\"messages\":[" HI "]}", 200);
    read_lines(test, &lines);
    assert_int_equal(lines.n, 2);
    assert_string_equal(json_string_value(json_object_get(lines.items[1], "error")),
                        "the decode failed");
    free_lines(&lines);
}

/* ---- requests ---- */

static void options_reach_the_engine(void **state)
{
    chat(*state, "\"options\":{\"num_predict\":7,\"temperature\":0.5,\"top_k\":3,\"top_p\":0.25,"
                 "\"min_p\":0.125,\"typical_p\":0.75,\"seed\":9,\"repeat_penalty\":1.5,"
                 "\"repeat_last_n\":11,\"presence_penalty\":0.5,\"frequency_penalty\":-0.5,"
                 "\"mirostat\":2,\"mirostat_tau\":4,\"mirostat_eta\":0.25,\"stop\":[\"x\",\"y\"],"
                 "\"num_ctx\":2048,\"num_gpu\":-1,\"use_mmap\":true,\"num_keep\":0,"
                 "\"unheard_of\":1}");
    const struct hs_generate_params *params = &rest_asked()->params;
    const struct hs_sampling *sampling = &params->sampling;
    assert_int_equal(params->max_tokens, 7);
    assert_float_is(sampling->temp, 0.5);
    assert_int_equal(sampling->top_k, 3);
    assert_float_is(sampling->top_p, 0.25);
    assert_float_is(sampling->min_p, 0.125);
    assert_float_is(sampling->typical_p, 0.75);
    assert_int_equal(sampling->seed, 9);
    assert_float_is(sampling->repeat_penalty, 1.5);
    assert_int_equal(sampling->repeat_last_n, 11);
    assert_float_is(sampling->presence_penalty, 0.5);
    assert_float_is(sampling->frequency_penalty, -0.5);
    assert_int_equal(sampling->mirostat, 2);
    assert_float_is(sampling->mirostat_tau, 4);
    assert_float_is(sampling->mirostat_eta, 0.25);
    assert_int_equal(params->n_stop, 2);
    assert_string_equal(rest_asked()->stop[1], "y");
    assert_true(params->split_reasoning);
    for (int n = -2; n <= 0; n++) {
        char more[64];
        snprintf(more, sizeof more, "\"options\":{\"num_predict\":%d}", n);
        chat(*state, more);
        assert_int_equal(rest_asked()->params.max_tokens, -1);
    }
}

static void formats_and_thinking(void **state)
{
    chat(*state, "\"format\":\"\"");
    assert_null(rest_asked()->params.json_schema);
    chat(*state, "\"format\":\"json\"");
    assert_string_equal(rest_asked()->params.json_schema, "{\"type\":\"object\"}");
    chat(*state, "\"format\":{\"type\":\"integer\"}");
    assert_string_equal(rest_asked()->params.json_schema, "{\"type\":\"integer\"}");
    chat(*state, "\"think\":false");
    assert_false(rest_asked()->params.enable_thinking);
    chat(*state, "\"think\":true");
    assert_true(rest_asked()->params.enable_thinking);
    chat(*state, "\"think\":\"low\"");
    assert_true(rest_asked()->params.enable_thinking);
}

static void messages_and_calls_without_ids(void **state)
{
    struct rest_test *test = *state;
    chat_with(test,
              "{\"role\":\"system\",\"content\":\"S\"}," HI
              ",{\"role\":\"assistant\",\"thinking\":\"t\",\"tool_calls\":[{\"function\":{\"name\":"
              "\"a\",\"arguments\":{\"x\":1}}},{\"id\":\"own\",\"function\":{\"name\":\"b\"}},"
              "{\"function\":{\"name\":\"a\",\"arguments\":{}}}]},"
              "{\"role\":\"tool\",\"content\":\"1\",\"tool_name\":\"b\"},"
              "{\"role\":\"tool\",\"content\":\"2\"},{\"role\":\"tool\",\"content\":\"3\","
              "\"tool_name\":\"a\"},{\"role\":\"tool\",\"content\":\"4\"}",
              "", 200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 7);
    assert_string_equal(asked->messages[0].role, "system");
    const struct hs_message *assistant = &asked->messages[2];
    assert_string_equal(assistant->content, "");
    assert_string_equal(assistant->reasoning, "t");
    assert_int_equal(assistant->n_tool_calls, 3);
    assert_string_equal(assistant->tool_calls[0].id, "call_0");
    assert_string_equal(assistant->tool_calls[0].arguments, "{\"x\":1}");
    assert_string_equal(assistant->tool_calls[1].id, "own");
    assert_string_equal(assistant->tool_calls[1].arguments, "{}");
    assert_string_equal(assistant->tool_calls[2].id, "call_2");
    static const char *const answered[] = {"own", "call_0", "call_2"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(asked->messages[3 + i].role, "tool");
        assert_string_equal(asked->messages[3 + i].tool_call_id, answered[i]);
    }
    assert_string_equal(asked->messages[4].name, "a");
    assert_null(asked->messages[6].tool_call_id); /* nothing is left to be answered */
}

static void generate_takes_system_raw_and_context(void **state)
{
    struct rest_test *test = *state;
    generate(test, "\"system\":\"S\"", 200);
    assert_int_equal(rest_asked()->n_messages, 2);
    assert_string_equal(rest_asked()->messages[0].content, "S");
    assert_string_equal(rest_asked()->messages[1].content, "Hi");
    /* as it is, with the tokens that the model wants in front; then there is no context */
    generate(test, "\"raw\":true", 200);
    assert_int_equal(rest_asked()->n_messages, 0);
    assert_int_equal(rest_asked()->n_tokens, 3);
    assert_int_equal(rest_asked()->tokens[0], 256);
    assert_int_equal(rest_asked()->tokens[1], 'H');
    assert_null(json_object_get(test->json, "context"));
    generate(test, "\"context\":[65,256]", 200);
    assert_int_equal(rest_asked()->n_tokens, 2 + strlen("rendered"));
    assert_int_equal(rest_asked()->tokens[0], 65);
    assert_int_equal(rest_asked()->tokens[1], 256);
    assert_int_equal(rest_asked()->tokens[2], 'r');
    assert_int_equal(json_array_size(rest_at(test, "context")),
                     2 + strlen("rendered") + strlen("Hello world"));
}

static void a_suffix_makes_a_gap(void **state)
{
    struct rest_test *test = *state;
    test->rest.models[0].can_infill = true;
    generate(test, "\"suffix\":\"yz\"", 200);
    static const char want[] = "<Hi>yz_"; /* the fake's form of it */
    assert_int_equal(rest_asked()->n_tokens, strlen(want));
    for (size_t i = 0; i < strlen(want); i++) {
        assert_int_equal(rest_asked()->tokens[i], want[i]);
    }
    rest_expect_string(test, "response", "Hello world");
    assert_null(json_object_get(test->json, "context"));
    rest_reset();
    rest_ask(test, GENERATE, "{\"suffix\":\"yz\",\"stream\":false}", 200);
    assert_int_equal(rest_asked()->n_tokens, strlen("<>yz_"));
    generate(test, "\"suffix\":\"end\",\"raw\":true", 400);
    expect_refused(test, "suffix");
    generate(test, "\"suffix\":\"end\",\"context\":[1]", 400);
    expect_refused(test, "context");
}

static void requests_that_ask_nothing_load(void **state)
{
    static const struct {
        const char *line, *body, *field, *reason;
    } rows[] = {
        {CHAT, "{\"model\":\"fake\"}", "message/content", "load"},
        {CHAT, "{\"messages\":[],\"keep_alive\":\"5m\"}", "message/content", "load"},
        {CHAT, "{\"messages\":[],\"keep_alive\":0}", "message/content", "unload"},
        {GENERATE, "{\"model\":\"fake\"}", "response", "load"},
        {GENERATE, "{\"prompt\":\"\",\"keep_alive\":\"0s\"}", "response", "unload"},
        {GENERATE, "{\"keep_alive\":\"0\"}", "response", "unload"},
        {GENERATE, "{\"keep_alive\":-1}", "response", "load"},
        {GENERATE, "{\"keep_alive\":\"-1m\"}", "response", "load"},
        {GENERATE, "{\"keep_alive\":\"1h0m0.5s\"}", "response", "load"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_ask(test, rows[i].line, rows[i].body, 200);
        rest_expect_string(test, rows[i].field, "");
        rest_expect_string(test, "done_reason", rows[i].reason);
        assert_true(json_is_true(rest_at(test, "done")));
        expect_time(rest_at(test, "created_at"));
    }
    assert_int_equal(fake_engine.n_asked, 0);
}

/* ---- refusals ---- */

static void bad_fields_are_named(void **state)
{
    static const char *const rows[][2] = {
        {"\"options\":[]", "options"},
        {"\"options\":{\"temperature\":\"hot\"}", "options.temperature"},
        {"\"options\":{\"temperature\":-1}", "options.temperature"},
        {"\"options\":{\"top_p\":2}", "options.top_p"},
        {"\"options\":{\"num_predict\":-3}", "options.num_predict"},
        {"\"options\":{\"num_ctx\":\"big\"}", "options.num_ctx"},
        {"\"options\":{\"use_mmap\":1}", "options.use_mmap"},
        {"\"options\":{\"stop\":[\"\"]}", "options.stop"},
        {"\"options\":{\"grammar\":\"root ::= []\"},\"format\":\"json\"", "format"},
        {"\"format\":\"xml\"", "format"},
        {"\"format\":3", "format"},
        {"\"think\":\"hard\"", "think"},
        {"\"think\":1", "think"},
        {"\"keep_alive\":\"5\"", "keep_alive"},
        {"\"keep_alive\":\"m\"", "keep_alive"},
        {"\"keep_alive\":\"5 m\"", "keep_alive"},
        {"\"keep_alive\":\"5y\"", "keep_alive"},
        {"\"keep_alive\":\"\"", "keep_alive"},
        {"\"keep_alive\":true", "keep_alive"},
        {"\"logprobs\":1", "logprobs"},
        {"\"top_logprobs\":21", "top_logprobs"},
    };
    static const char *const generate_rows[][2] = {
        {"\"system\":1", "system"},          {"\"raw\":\"yes\"", "raw"},
        {"\"context\":\"x\"", "context"},    {"\"context\":[257]", "context"},
        {"\"context\":[-1]", "context"},     {"\"context\":[1],\"raw\":true", "context"},
        {"\"suffix\":1", "suffix"},          {"\"suffix\":\"end\"", "suffix"},
        {"\"images\":[\"aGk=\"]", "images"}, {"\"template\":\"{{ .Prompt }}\"", "template"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        chat_with(test, HI, rows[i][0], 400);
        expect_refused(test, rows[i][1]);
        generate(test, rows[i][0], 400);
        expect_refused(test, rows[i][1]);
    }
    for (size_t i = 0; i < sizeof generate_rows / sizeof generate_rows[0]; i++) {
        generate(test, generate_rows[i][0], 400);
        expect_refused(test, generate_rows[i][1]);
    }
    rest_ask(test, GENERATE, "{\"prompt\":[\"Hi\"]}", 400);
    expect_refused(test, "prompt");
    rest_ask(test, GENERATE, "{\"prompt\":\"Hi\",\"stream\":\"yes\"}", 400);
    expect_refused(test, "stream");
}

static void bad_messages_are_named(void **state)
{
    static const char *const rows[][2] = {
        {"3", "messages"},
        {"{\"content\":\"x\"}", "messages[0].role"},
        {"{\"role\":\"boss\"}", "messages[0].role"},
        {"{\"role\":\"user\",\"content\":[]}", "messages[0].content"},
        {"{\"role\":\"user\",\"content\":\"x\",\"images\":[\"aGk=\"]}", "messages[0].images"},
        {"{\"role\":\"assistant\",\"tool_calls\":{}}", "messages[0].tool_calls"},
        {"{\"role\":\"assistant\",\"tool_calls\":[1]}", "messages[0].tool_calls"},
        {"{\"role\":\"assistant\",\"tool_calls\":[{}]}", "messages[0].tool_calls[0].function.name"},
        {"{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"a\",\"arguments\":"
         "\"x\"}}]}",
         "messages[0].tool_calls[0].function.arguments"},
        {"{\"role\":\"assistant\",\"thinking\":1}", "messages[0].thinking"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        chat_with(test, rows[i][0], "", 400);
        expect_refused(test, rows[i][1]);
    }
    rest_ask(test, CHAT, "{\"messages\":{}}", 400);
    expect_refused(test, "messages");
    char messages[1024] = HI;
    for (int32_t i = 1; i < test->rest.max_messages; i++) {
        strcat(messages, "," HI);
    }
    chat_with(test, messages, "", 200);
    strcat(messages, "," HI);
    rest_reset();
    chat_with(test, messages, "", 400);
    expect_refused(test, "messages");
}

static void names_of_models(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, CHAT, "{\"stream\":false,\"messages\":[" HI "]}", 200);
    rest_expect_string(test, "model", "fake");
    rest_ask(test, CHAT, "{\"name\":\"fake:latest\",\"messages\":[]}", 200);
    rest_expect_string(test, "model", "fake:latest");
    static const char *const wrong[] = {"no", "fake:7b", ":latest", "fak"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"model\":\"%s\"}", wrong[i]);
        rest_ask(test, CHAT, body, 404);
        assert_non_null(strstr(json_string_value(rest_at(test, "error")), wrong[i]));
    }
    rest_ask(test, CHAT, "{\"model\":\"fak:latest\"}", 404);
    rest_reset();
    rest_ask(test, CHAT, "{\"model\":3}", 400);
    expect_refused(test, "model");
}

static void what_the_engine_refuses(void **state)
{
    static const struct {
        hs_status status;
        int http;
    } rows[] = {{HS_CONTEXT_FULL, 400},
                {HS_QUEUE_FULL, 429},
                {HS_NOT_SUPPORTED, 400},
                {HS_OUT_OF_MEMORY, 500},
                {HS_UNAVAILABLE, 503}};
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fake_answer answer = {.refuse = rows[i].status,
                                           .error = {.message = "because"}};
        rest_reset();
        fake_engine.answers = &answer;
        chat_with(test, HI, "", rows[i].http);
        rest_expect_string(test, "error", "because");
        rest_ask(test, GENERATE, "{\"prompt\":\"Hi\"}", rows[i].http);
        rest_expect_string(test, "error", "because");
        rest_reset();
    }
    fake_engine.render_status = HS_INVALID_ARGUMENT;
    rest_ask(test, GENERATE, "{\"prompt\":\"Hi\"}", 400);
    fake_engine.render_status = HS_OK;
}

static void a_client_that_leaves_cancels(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "begun"},
                                               {HS_EVENT_TEXT, FAKE_WAIT}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    static const char body[] = "{\"prompt\":\"Hi\"}";
    char text[1024];
    fake_engine.answers = &answer;
    snprintf(text, sizeof text,
             "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    int fd = client_connect(test->server);
    struct hs_buf out HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    client_send(fd, text);
    assert_true(client_read_until(fd, &out, "begun", 5000));
    close(fd);
    wait_for_int(&fake_engine.n_streams, 0);
    assert_true(fake_engine.was_cancelled);
}

static void every_allocation_fails_once(void **state)
{
    static const struct fake_answer answer = {.pieces = all_kinds};
    static const char body[] =
        "{\"model\":\"fake:latest\",\"options\":{\"stop\":[\"x\"]},\"format\":{\"type\":\"object\"}"
        ","
        "\"messages\":[" HI ",{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":"
        "\"weather\",\"arguments\":{\"x\":1}}}]},{\"role\":\"tool\",\"content\":\"3\"}]," TOOLS "}";
    rest_without_memory(*state, CHAT, body, &answer, 1);
    rest_without_memory(*state, GENERATE,
                        "{\"prompt\":\"Hi\",\"system\":\"S\",\"context\":[65],\"stream\":false}",
                        &answer, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_has_every_field),
        TEST(thinking_and_calls),
        TEST(streams_are_the_default),
        TEST(calls_leave_whole_before_the_end),
        TEST(generate_streams_and_ends_with_its_context),
        TEST(logprobs_go_with_their_text),
        TEST(a_failure_in_the_middle_is_a_line),
        TEST(options_reach_the_engine),
        TEST(formats_and_thinking),
        TEST(messages_and_calls_without_ids),
        TEST(generate_takes_system_raw_and_context),
        TEST(a_suffix_makes_a_gap),
        TEST(requests_that_ask_nothing_load),
        TEST(bad_fields_are_named),
        TEST(bad_messages_are_named),
        TEST(names_of_models),
        TEST(what_the_engine_refuses),
        TEST(a_client_that_leaves_cancels),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
