/* Tests of rest/responses.c, response_answer.c and response_items.c: /v1/responses. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "rest_test.h"

#define FUNCTION "{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}"

static char folder[512];

static int setup(void **state)
{
    snprintf(folder, sizeof folder, HS_TEST_TMP "/responses-XXXXXX");
    if (rest_setup(state) != 0 || mkdtemp(folder) == NULL) {
        return -1;
    }
    struct rest_test *test = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/responses.db", folder);
    const struct hs_response_store_limits limits = {.max_responses = 100};
    test->rest.max_messages = 16;
    return hs_response_store_open(path, &limits, &test->rest.responses, NULL) == HS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct rest_test *test = *state;
    hs_response_store *store = test->rest.responses;
    int failed = rest_teardown(state);
    hs_response_store_close(store);
    return failed != 0 || hs_fs_remove_all(folder, NULL) != HS_OK ? -1 : 0;
}

static void create(struct rest_test *test, const char *fields, int status)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"model\":\"fake\",%s}", fields);
    rest_ask(test, "POST /v1/responses", body, status);
}

/* The id of the last answer; static memory. */
static const char *its_id(const struct rest_test *test)
{
    static char id[128];
    snprintf(id, sizeof id, "%s", json_string_value(rest_at(test, "id")));
    return id;
}

static void ask_for(struct rest_test *test, const char *method, const char *id, const char *more,
                    int status)
{
    char line[512];
    snprintf(line, sizeof line, "%s /v1/responses/%s%s", method, id, more);
    rest_ask(test, line, NULL, status);
}

/* ---- whole answers ---- */

static void an_answer_has_every_field(void **state)
{
    create(*state,
           "\"input\":\"Hi\",\"instructions\":\"Be short\",\"temperature\":0.8,"
           "\"max_output_tokens\":7,\"metadata\":{\"a\":\"b\"},\"user\":\"me\"",
           200);
    rest_expect_string(*state, "object", "response");
    rest_expect_string(*state, "status", "completed");
    rest_expect_string(*state, "model", "fake");
    rest_expect_string(*state, "output/0/type", "message");
    rest_expect_string(*state, "output/0/role", "assistant");
    rest_expect_string(*state, "output/0/status", "completed");
    rest_expect_string(*state, "output/0/content/0/type", "output_text");
    rest_expect_string(*state, "output/0/content/0/text", "Hello world");
    assert_int_equal(json_array_size(rest_at(*state, "output")), 1);
    /* the fake's figures: 12 prompt tokens, 4 of them cached; a token a piece */
    rest_expect_int(*state, "usage/input_tokens", 12);
    rest_expect_int(*state, "usage/input_tokens_details/cached_tokens", 4);
    rest_expect_int(*state, "usage/output_tokens", 2);
    rest_expect_int(*state, "usage/output_tokens_details/reasoning_tokens", 0);
    rest_expect_int(*state, "usage/total_tokens", 14);
    rest_expect_string(*state, "instructions", "Be short");
    rest_expect_string(*state, "metadata/a", "b");
    rest_expect_string(*state, "user", "me");
    rest_expect_string(*state, "truncation", "disabled");
    rest_expect_string(*state, "tool_choice", "auto");
    rest_expect_string(*state, "text/format/type", "text");
    rest_expect_int(*state, "max_output_tokens", 7);
    assert_true(json_real_value(rest_at(*state, "temperature")) == 0.8);
    assert_true(json_is_true(rest_at(*state, "store")));
    assert_true(json_is_true(rest_at(*state, "parallel_tool_calls")));
    static const char *const nulls[] = {"error", "incomplete_details", "previous_response_id"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(json_is_null(rest_at(*state, nulls[i])));
    }
    assert_int_equal(strncmp(its_id(*state), "resp_", 5), 0);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 2);
    assert_string_equal(asked->messages[0].role, "system");
    assert_string_equal(asked->messages[0].content, "Be short");
    assert_string_equal(asked->messages[1].content, "Hi");
    assert_int_equal(asked->params.max_tokens, 7);
    assert_true(asked->params.split_reasoning);
}

static const struct fake_piece everything[] = {
    {HS_EVENT_REASONING, "hm"}, {HS_EVENT_TEXT, "Wait"},
    {HS_EVENT_TEXT, "."},       FAKE_CALL(0, "call_a", "f", "{\"a\""),
    FAKE_ARGUMENTS(0, ":1}"),   FAKE_CALL(1, "call_b", "f", "{}"),
    {HS_EVENT_TEXT, NULL}};
static const struct fake_answer all_kinds = {.pieces = everything};

static void expect_all_kinds(const struct rest_test *test, const char *root)
{
    static const struct {
        const char *path, *want;
    } rows[] = {{"0/type", "reasoning"},
                {"0/content/0/text", "hm"},
                {"0/content/0/type", "reasoning_text"},
                {"1/type", "message"},
                {"1/content/0/text", "Wait."},
                {"2/type", "function_call"},
                {"2/call_id", "call_a"},
                {"2/name", "f"},
                {"2/arguments", "{\"a\":1}"},
                {"3/call_id", "call_b"},
                {"3/arguments", "{}"},
                {"0/status", "completed"},
                {"3/status", "completed"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", root, rows[i].path);
        rest_expect_string(test, path, rows[i].want);
    }
    assert_int_equal(json_array_size(rest_at(test, root)), 4);
}

static void items_of_every_kind(void **state)
{
    fake_engine.answers = &all_kinds;
    create(*state, "\"input\":\"Hi\",\"tools\":[" FUNCTION "]", 200);
    expect_all_kinds(*state, "output");
    rest_expect_string(*state, "status", "completed");
    rest_expect_int(*state, "usage/output_tokens_details/reasoning_tokens", 1);
    assert_int_equal(rest_asked()->params.n_tools, 1);
    assert_string_equal(rest_asked()->params.tools[0].name, "f");
}

static void a_cut_answer_is_incomplete(void **state)
{
    static const struct fake_piece text[] = {{HS_EVENT_TEXT, "Hel"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece thought[] = {{HS_EVENT_REASONING, "h"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece nothing[] = {{HS_EVENT_TEXT, NULL}};
    static const struct {
        struct fake_answer answer;
        const char *type, *status;
    } rows[] = {
        {{.pieces = text, .finish = HS_FINISH_LENGTH}, "message", "incomplete"},
        {{.pieces = thought, .finish = HS_FINISH_LENGTH}, "reasoning", "incomplete"},
        {{.pieces = nothing, .finish = HS_FINISH_LENGTH}, "message", "incomplete"},
        {{.pieces = nothing}, "message", "completed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        fake_engine.answers = &rows[i].answer;
        create(*state, "\"input\":\"Hi\"", 200);
        rest_expect_string(*state, "status", rows[i].status);
        rest_expect_string(*state, "output/0/type", rows[i].type);
        rest_expect_string(*state, "output/0/status", rows[i].status);
        assert_int_equal(json_array_size(rest_at(*state, "output")), 1);
        if (i < 3) {
            rest_expect_string(*state, "incomplete_details/reason", "max_output_tokens");
        }
    }
    rest_reset();
}

static void logprobs_of_the_message(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_REASONING, "x"},
                                               {HS_EVENT_TEXT, "ab"},
                                               FAKE_CALL(0, "c", "f", "{}"),
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    fake_engine.answers = &answer;
    create(*state,
           "\"input\":\"Hi\",\"top_logprobs\":2,\"include\":[\"message.output_text.logprobs\","
           "\"reasoning.encrypted_content\"]",
           200);
    assert_int_equal(rest_asked()->params.n_logprobs, 2);
    assert_int_equal(json_array_size(rest_at(*state, "output/1/content/0/logprobs")), 2);
    rest_expect_string(*state, "output/1/content/0/logprobs/0/token", "a");
    rest_expect_string(*state, "output/1/content/0/logprobs/1/top_logprobs/1/token", "c");
}

/* ---- input ---- */

static void items_become_messages(void **state)
{
    create(*state,
           "\"input\":[{\"role\":\"developer\",\"content\":\"rules\"},"
           "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
           "\"text\":\"a\"},{\"type\":\"input_text\",\"text\":\"b\"}]},"
           "{\"type\":\"reasoning\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\","
           "\"text\":\"why\"}]},"
           "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
           "\"text\":\"Wait.\"}]},"
           "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{}\"},"
           "{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"g\",\"arguments\":\"\"},"
           "{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":\"two\"},"
           "{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"so\"}]},"
           "{\"role\":\"assistant\",\"content\":\"Done.\"},"
           "{\"role\":\"user\",\"content\":\"Thanks\"}]",
           200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 6);
    assert_string_equal(asked->messages[0].role, "system");
    assert_string_equal(asked->messages[1].content, "a\nb");
    /* what the model said in one go is one message */
    assert_string_equal(asked->messages[2].role, "assistant");
    assert_string_equal(asked->messages[2].reasoning, "why");
    assert_string_equal(asked->messages[2].content, "Wait.");
    assert_int_equal(asked->messages[2].n_tool_calls, 2);
    assert_string_equal(asked->messages[2].tool_calls[1].name, "g");
    assert_string_equal(asked->messages[3].role, "tool");
    assert_string_equal(asked->messages[3].content, "two");
    assert_string_equal(asked->messages[3].tool_call_id, "c2");
    assert_string_equal(asked->messages[3].name, "g");
    assert_string_equal(asked->messages[4].reasoning, "so");
    assert_string_equal(asked->messages[4].content, "Done.");
    assert_string_equal(asked->messages[5].content, "Thanks");
}

static void settings_reach_the_engine(void **state)
{
    struct rest_test *test = *state;
    test->rest.models[0].has_chat_template = true;
    create(test,
           "\"input\":\"Hi\",\"truncation\":\"auto\",\"top_p\":0.5,\"reasoning\":{\"effort\":"
           "\"low\",\"summary\":\"auto\"},\"tools\":[" FUNCTION "],\"tool_choice\":{\"type\":"
           "\"function\",\"name\":\"f\"},\"parallel_tool_calls\":false,\"text\":{\"format\":{"
           "\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{\"type\":\"object\"}}}",
           200);
    const struct hs_generate_params *params = &rest_asked()->params;
    assert_int_equal(params->overflow, HS_OVERFLOW_SHIFT);
    assert_float_is(params->sampling.top_p, 0.5);
    assert_string_equal(params->template_kwargs, "{\"reasoning_effort\":\"low\"}");
    assert_int_equal(params->tool_choice, HS_TOOL_CHOICE_REQUIRED);
    assert_string_equal(params->tool_name, "f");
    assert_false(params->parallel_tool_calls);
    assert_string_equal(params->json_schema, "{\"type\":\"object\"}");
    rest_expect_string(test, "tool_choice/name", "f");
    rest_expect_string(test, "tools/0/name", "f");
    rest_reset();
    test->rest.defaults.enable_thinking = true;
    create(test,
           "\"input\":\"Hi\",\"reasoning\":{\"effort\":\"none\"},\"tools\":[" FUNCTION
           "],\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"required\",\"tools\":[{"
           "\"type\":\"function\",\"name\":\"f\"}]}",
           200);
    assert_false(rest_asked()->params.enable_thinking);
    assert_int_equal(rest_asked()->params.tool_choice, HS_TOOL_CHOICE_REQUIRED);
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *fields, *param;
    } rows[] = {
        {"\"x\":1", "input"},
        {"\"input\":[]", "input"},
        {"\"input\":7", "input"},
        {"\"input\":[7]", "input"},
        {"\"input\":[{}]", "input[0].role"},
        {"\"input\":[{\"role\":\"tool\",\"content\":\"a\"}]", "input[0].role"},
        {"\"input\":[{\"role\":\"user\"}]", "input[0].content"},
        {"\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]",
         "input[0].content[0].type"},
        {"\"input\":[{\"type\":\"computer_call\"}]", "input[0].type"},
        {"\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]", "input[0].type"},
        {"\"input\":[{\"type\":\"function_call\",\"name\":\"f\"}]", "input[0].call_id"},
        {"\"input\":[{\"type\":\"function_call\",\"call_id\":\"c\"}]", "input[0].name"},
        {"\"input\":[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":"
         "\"x\"}]",
         "input[0].arguments"},
        {"\"input\":[{\"type\":\"function_call_output\",\"output\":\"x\"}]", "input[0].call_id"},
        {"\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"x\"}]", "input[0].output"},
        {"\"input\":[{\"type\":\"reasoning\",\"content\":1}]", "input[0].content"},
        {"\"input\":\"Hi\",\"instructions\":1", "instructions"},
        {"\"input\":\"Hi\",\"store\":1", "store"},
        {"\"input\":\"Hi\",\"stream\":1", "stream"},
        {"\"input\":\"Hi\",\"max_output_tokens\":0", "max_output_tokens"},
        {"\"input\":\"Hi\",\"temperature\":-1", "temperature"},
        {"\"input\":\"Hi\",\"top_logprobs\":21", "top_logprobs"},
        {"\"input\":\"Hi\",\"include\":1", "include"},
        {"\"input\":\"Hi\",\"include\":[\"file_search_call.results\"]", "include"},
        {"\"input\":\"Hi\",\"truncation\":\"maybe\"", "truncation"},
        {"\"input\":\"Hi\",\"metadata\":1", "metadata"},
        {"\"input\":\"Hi\",\"metadata\":{\"a\":1}", "metadata"},
        {"\"input\":\"Hi\",\"reasoning\":1", "reasoning"},
        {"\"input\":\"Hi\",\"reasoning\":{\"effort\":\"huge\"}", "reasoning.effort"},
        {"\"input\":\"Hi\",\"text\":1", "text"},
        {"\"input\":\"Hi\",\"text\":{\"format\":{\"type\":\"xml\"}}", "text.format.type"},
        {"\"input\":\"Hi\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\"}}",
         "text.format.schema"},
        {"\"input\":\"Hi\",\"tools\":[{\"type\":\"web_search\"}]", "tools[0].type"},
        {"\"input\":\"Hi\",\"tools\":[{\"type\":\"function\"}]", "tools[0].name"},
        {"\"input\":\"Hi\",\"tools\":[" FUNCTION "],\"tool_choice\":{\"type\":\"function\","
         "\"name\":\"g\"}",
         "tool_choice.name"},
        {"\"input\":\"Hi\",\"tools\":[" FUNCTION "],\"tool_choice\":{\"type\":\"mcp\"}",
         "tool_choice.type"},
        {"\"input\":\"Hi\",\"background\":true", "background"},
        {"\"input\":\"Hi\",\"conversation\":\"conv_1\"", "conversation"},
        {"\"input\":\"Hi\",\"prompt\":{\"id\":\"p\"}", "prompt"},
        {"\"input\":\"Hi\",\"previous_response_id\":1", "previous_response_id"},
        {"\"input\":\"Hi\",\"previous_response_id\":\"resp_none\"", "previous_response_id"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        create(*state, rows[i].fields, 400);
        rest_expect_error(*state, rows[i].param);
    }
    rest_expect_string(*state, "error/code", "previous_response_not_found");
    assert_int_equal(fake_engine.n_asked, 0);
    create(*state, "\"input\":\"Hi\",\"background\":false,\"conversation\":null", 200);
}

static void limits(void **state)
{
    for (int extra = 0; extra <= 1; extra++) {
        struct hs_buf fields HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(4096);
        assert_int_equal(hs_buf_append_str(&fields, "\"input\":["), HS_OK);
        for (int i = 0; i < 16 + extra; i++) {
            assert_int_equal(hs_buf_printf(&fields, "%s{\"role\":\"user\",\"content\":\"a\"}",
                                           i == 0 ? "" : ","),
                             HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&fields, "]"), HS_OK);
        create(*state, fields.data, extra ? 400 : 200);
        hs_buf_clear(&fields);
        assert_int_equal(hs_buf_append_str(&fields, "\"input\":\"a\",\"metadata\":{"), HS_OK);
        for (int i = 0; i < 16 + extra; i++) {
            assert_int_equal(hs_buf_printf(&fields, "%s\"k%d\":\"\"", i == 0 ? "" : ",", i), HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&fields, "}"), HS_OK);
        create(*state, fields.data, extra ? 400 : 200);
        static const int sizes[2] = {64, 512};
        for (int which = 0; which < 2; which++) {
            hs_buf_clear(&fields);
            assert_int_equal(hs_buf_printf(&fields,
                                           "\"input\":\"a\",\"metadata\":{\"%0*d\":\"%0*d\"}",
                                           which == 0 ? sizes[0] + extra : 1, 0,
                                           which == 1 ? sizes[1] + extra : 1, 0),
                             HS_OK);
            create(*state, fields.data, extra ? 400 : 200);
        }
    }
    rest_expect_error(*state, "metadata");
}

/* ---- what is kept ---- */

static void a_conversation_goes_on(void **state)
{
    struct rest_test *test = *state;
    char fields[512], first[128];
    fake_engine.answers = &all_kinds;
    create(test, "\"input\":\"Hi\",\"instructions\":\"old\",\"tools\":[" FUNCTION "]", 200);
    snprintf(first, sizeof first, "%s", its_id(test));
    rest_reset();
    snprintf(fields, sizeof fields,
             "\"previous_response_id\":\"%s\",\"instructions\":\"new\",\"input\":[{\"type\":"
             "\"function_call_output\",\"call_id\":\"call_a\",\"output\":\"42\"}]",
             first);
    create(test, fields, 200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 4);
    assert_string_equal(asked->messages[0].content, "new");
    assert_string_equal(asked->messages[1].content, "Hi");
    assert_string_equal(asked->messages[2].content, "Wait.");
    assert_string_equal(asked->messages[2].reasoning, "hm");
    assert_int_equal(asked->messages[2].n_tool_calls, 2);
    assert_string_equal(asked->messages[2].tool_calls[0].arguments, "{\"a\":1}");
    assert_string_equal(asked->messages[3].content, "42");
    assert_string_equal(asked->messages[3].name, "f");
    rest_expect_string(test, "previous_response_id", first);
    /* and on from there, although the first one is deleted */
    char second[128];
    snprintf(second, sizeof second, "%s", its_id(test));
    ask_for(test, "DELETE", first, "", 200);
    rest_reset();
    snprintf(fields, sizeof fields, "\"previous_response_id\":\"%s\",\"input\":\"And?\"", second);
    create(test, fields, 200);
    assert_int_equal(rest_asked()->n_messages, 5);
    assert_string_equal(rest_asked()->messages[3].content, "Hello world");
    assert_string_equal(rest_asked()->messages[4].content, "And?");
}

static void kept_ones_are_given_and_deleted(void **state)
{
    struct rest_test *test = *state;
    char id[128];
    create(test, "\"input\":\"Hi\"", 200);
    snprintf(id, sizeof id, "%s", its_id(test));
    char *body = strdup(test->reply.body.data);
    ask_for(test, "GET", id, "", 200);
    body[strcspn(body, "\n")] = '\0';
    assert_string_equal(test->reply.body.data, body);
    free(body);
    ask_for(test, "GET", id, "?stream=true", 400);
    rest_expect_error(test, "stream");
    ask_for(test, "DELETE", id, "", 200);
    rest_expect_string(test, "id", id);
    assert_true(json_is_true(rest_at(test, "deleted")));
    ask_for(test, "GET", id, "", 404);
    ask_for(test, "DELETE", id, "", 404);
    ask_for(test, "GET", id, "/input_items", 404);
    create(test, "\"input\":\"Hi\",\"store\":false", 200);
    assert_true(json_is_false(rest_at(test, "store")));
    ask_for(test, "GET", its_id(test), "", 404);
}

static void nothing_is_kept_without_a_store(void **state)
{
    struct rest_test *test = *state;
    hs_response_store *store = test->rest.responses;
    test->rest.responses = NULL;
    create(test, "\"input\":\"Hi\"", 200);
    assert_true(json_is_false(rest_at(test, "store")));
    ask_for(test, "GET", its_id(test), "", 404);
    ask_for(test, "DELETE", "x", "", 404);
    create(test, "\"input\":\"Hi\",\"previous_response_id\":\"x\"", 400);
    rest_expect_error(test, "previous_response_id");
    rest_reset();
    test->rest.responses = store;
}

static void the_items_are_listed(void **state)
{
    struct rest_test *test = *state;
    char id[128], fields[256], after[160];
    create(test, "\"input\":\"one\"", 200);
    snprintf(fields, sizeof fields,
             "\"previous_response_id\":\"%s\",\"input\":[{\"role\":\"user\",\"content\":\"two\"},"
             "{\"role\":\"user\",\"id\":\"mine\",\"content\":\"three\"}]",
             its_id(test));
    create(test, fields, 200);
    snprintf(id, sizeof id, "%s", its_id(test));
    /* one, its answer, two, three; the newest first */
    ask_for(test, "GET", id, "/input_items", 200);
    rest_expect_string(test, "object", "list");
    assert_int_equal(json_array_size(rest_at(test, "data")), 4);
    rest_expect_string(test, "data/0/id", "mine");
    rest_expect_string(test, "data/0/type", "message");
    rest_expect_string(test, "data/0/content/0/type", "input_text");
    rest_expect_string(test, "data/0/content/0/text", "three");
    rest_expect_string(test, "data/2/content/0/text", "Hello world");
    rest_expect_string(test, "first_id", "mine");
    assert_true(json_is_false(rest_at(test, "has_more")));
    ask_for(test, "GET", id, "/input_items?order=asc&limit=3", 200);
    rest_expect_string(test, "data/0/content/0/text", "one");
    assert_true(json_is_true(rest_at(test, "has_more")));
    snprintf(after, sizeof after, "/input_items?order=asc&after=%s",
             json_string_value(rest_at(test, "last_id")));
    ask_for(test, "GET", id, after, 200);
    assert_int_equal(json_array_size(rest_at(test, "data")), 1);
    rest_expect_string(test, "data/0/id", "mine");
    ask_for(test, "GET", id, "/input_items?after=nobody", 200);
    assert_int_equal(json_array_size(rest_at(test, "data")), 0);
    assert_true(json_is_null(rest_at(test, "first_id")));
    static const char *const bad[] = {"limit=0", "limit=101", "limit=x", "limit=", "order=up"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(after, sizeof after, "/input_items?%s", bad[i]);
        ask_for(test, "GET", id, after, 400);
    }
    ask_for(test, "GET", id, "/input_items?limit=100", 200);
}

/* ---- streams ---- */

/* One line an event: its type without "response.", and what it says. */
static void list_events(const struct rest_test *test, char *out, size_t size)
{
    json_int_t sequence = 0;
    size_t len = 0;
    out[0] = '\0';
    for (const char *p = test->reply.body.data; *p != '\0';) {
        char type[96];
        assert_int_equal(sscanf(p, "event: %95s", type), 1);
        p = strstr(p, "\ndata: ");
        assert_non_null(p);
        json_t *json = json_loads(p + 7, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(json);
        assert_string_equal(json_string_value(json_object_get(json, "type")), type);
        assert_int_equal(json_integer_value(json_object_get(json, "sequence_number")), sequence++);
        const json_t *index = json_object_get(json, "output_index");
        const json_t *item = json_object_get(json, "item");
        static const char *const names[] = {"delta", "text", "arguments"};
        len += (size_t)snprintf(out + len, size - len, "%s", strchr(type, '.') + 1);
        if (index != NULL) {
            len += (size_t)snprintf(out + len, size - len, " %d", (int)json_integer_value(index));
        }
        for (size_t i = 0; i < 3; i++) {
            const char *text = json_string_value(json_object_get(json, names[i]));
            len += (size_t)snprintf(out + len, size - len, "%s%s", text == NULL ? "" : " ",
                                    text == NULL ? "" : text);
        }
        if (item != NULL) {
            len += (size_t)snprintf(out + len, size - len, " %s %s",
                                    json_string_value(json_object_get(item, "type")),
                                    json_string_value(json_object_get(item, "status")));
        }
        len += (size_t)snprintf(out + len, size - len, "\n");
        json_decref(json);
        p = strstr(p, "\n\n");
        assert_non_null(p);
        p += 2;
    }
}

/* The data of the last event becomes the test's JSON. */
static void open_last_event(struct rest_test *test)
{
    const char *last = NULL;
    for (const char *p = test->reply.body.data; (p = strstr(p, "\ndata: ")) != NULL; p++) {
        last = p;
    }
    assert_non_null(last);
    json_decref(test->json);
    test->json = json_loads(last + 7, JSON_DISABLE_EOF_CHECK, NULL);
}

static void events_come_in_order(void **state)
{
    struct rest_test *test = *state;
    char events[4096], id[128];
    fake_engine.answers = &all_kinds;
    create(test, "\"input\":\"Hi\",\"stream\":true,\"tools\":[" FUNCTION "]", 200);
    list_events(test, events, sizeof events);
    assert_string_equal(events, "created\n"
                                "in_progress\n"
                                "output_item.added 0 reasoning in_progress\n"
                                "content_part.added 0\n"
                                "reasoning_text.delta 0 hm\n"
                                "reasoning_text.done 0 hm\n"
                                "content_part.done 0\n"
                                "output_item.done 0 reasoning completed\n"
                                "output_item.added 1 message in_progress\n"
                                "content_part.added 1\n"
                                "output_text.delta 1 Wait\n"
                                "output_text.delta 1 .\n"
                                "output_text.done 1 Wait.\n"
                                "content_part.done 1\n"
                                "output_item.done 1 message completed\n"
                                "output_item.added 2 function_call in_progress\n"
                                "function_call_arguments.delta 2 {\"a\"\n"
                                "function_call_arguments.delta 2 :1}\n"
                                "function_call_arguments.done 2 {\"a\":1}\n"
                                "output_item.done 2 function_call completed\n"
                                "output_item.added 3 function_call in_progress\n"
                                "function_call_arguments.delta 3 {}\n"
                                "function_call_arguments.done 3 {}\n"
                                "output_item.done 3 function_call completed\n"
                                "completed\n");
    open_last_event(test);
    expect_all_kinds(test, "response/output");
    rest_expect_int(test, "response/usage/output_tokens", 6);
    snprintf(id, sizeof id, "%s", json_string_value(rest_at(test, "response/id")));
    ask_for(test, "GET", id, "", 200);
    expect_all_kinds(test, "output");
}

/* A text behind a call is an item of its own, with its own logprobs only. */
static void a_text_behind_a_call(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "ab"},
                                               FAKE_CALL(0, "c", "f", "{}"),
                                               {HS_EVENT_TEXT, "cd"},
                                               {HS_EVENT_TEXT, "e"},
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    fake_engine.answers = &answer;
    create(test, "\"input\":\"Hi\",\"stream\":true,\"include\":[\"message.output_text.logprobs\"]",
           200);
    open_last_event(test);
    rest_expect_string(test, "response/output/0/content/0/text", "ab");
    rest_expect_string(test, "response/output/0/content/0/logprobs/1/token", "b");
    rest_expect_string(test, "response/output/2/content/0/text", "cde");
    rest_expect_string(test, "response/output/2/content/0/logprobs/0/token", "c");
    assert_int_equal(json_array_size(rest_at(test, "response/output/2/content/0/logprobs")), 3);
}

static void streams_that_end_early(void **state)
{
    static const struct fake_piece text[] = {{HS_EVENT_TEXT, "Hel"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece nothing[] = {{HS_EVENT_TEXT, NULL}};
    static const struct {
        struct fake_answer answer;
        const char *events;
    } rows[] = {
        {{.pieces = text, .finish = HS_FINISH_LENGTH},
         "created\nin_progress\noutput_item.added 0 message in_progress\ncontent_part.added 0\n"
         "output_text.delta 0 Hel\noutput_text.done 0 Hel\ncontent_part.done 0\n"
         "output_item.done 0 message incomplete\nincomplete\n"},
        {{.pieces = nothing},
         "created\nin_progress\noutput_item.added 0 message in_progress\ncontent_part.added 0\n"
         "output_text.done 0 \ncontent_part.done 0\noutput_item.done 0 message completed\n"
         "completed\n"},
        {{.pieces = text,
          .finish = HS_FINISH_ERROR,
          .error = {.status = HS_INTERNAL, .message = "the decode failed"}},
         "created\nin_progress\noutput_item.added 0 message in_progress\ncontent_part.added 0\n"
         "output_text.delta 0 Hel\nfailed\n"},
    };
    struct rest_test *test = *state;
    char events[2048];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        fake_engine.answers = &rows[i].answer;
        create(test, "\"input\":\"Hi\",\"stream\":true", 200);
        list_events(test, events, sizeof events);
        assert_string_equal(events, rows[i].events);
    }
    open_last_event(test);
    rest_expect_string(test, "response/status", "failed");
    rest_expect_string(test, "response/error/message", "the decode failed");
    /* what failed is not kept */
    char id[128];
    snprintf(id, sizeof id, "%s", json_string_value(rest_at(test, "response/id")));
    ask_for(test, "GET", id, "", 404);
    rest_reset();
}

static void what_the_engine_refuses(void **state)
{
    struct fake_answer answer = {
        .refuse = HS_INVALID_ARGUMENT,
        .error = {.message = "tool 'f': \"not\" at \"#\" of the JSON schema"}};
    fake_engine.answers = &answer;
    create(*state, "\"input\":\"Hi\",\"tools\":[" FUNCTION "]", 400);
    rest_expect_error(*state, "tools[0].parameters");
    rest_reset();
    answer.refuse = HS_CONTEXT_FULL;
    fake_engine.answers = &answer;
    create(*state, "\"input\":\"Hi\",\"stream\":true", 400);
    rest_expect_string(*state, "error/param", "input");
    rest_reset();
}

static void without_memory(void **state)
{
    static const char *const streams[] = {"false", "true"};
    char body[1024];
    for (size_t i = 0; i < 2; i++) {
        snprintf(body, sizeof body,
                 "{\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"type\":\"function_call\","
                 "\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"}],\"tools\":[" FUNCTION
                 "],\"stream\":%s,\"include\":[\"message.output_text.logprobs\"]}",
                 streams[i]);
        rest_without_memory(*state, "POST /v1/responses", body, &all_kinds, 1);
    }
    struct rest_test *test = *state;
    create(test, "\"input\":\"Hi\"", 200);
    char line[256];
    snprintf(line, sizeof line, "GET /v1/responses/%s", its_id(test));
    rest_without_memory(test, line, "", &all_kinds, 1);
    snprintf(line, sizeof line, "GET /v1/responses/%s/input_items", its_id(test));
    rest_without_memory(test, line, "", &all_kinds, 1);
    snprintf(body, sizeof body, "{\"input\":\"a\",\"previous_response_id\":\"%s\"}", its_id(test));
    rest_without_memory(test, "POST /v1/responses", body, &all_kinds, 1);
}

static void put_one(struct rest_test *test)
{
    const struct hs_stored_response response = {.body = "{}", .input = "[]", .history = "[]"};
    assert_int_equal(hs_response_store_put(test->rest.responses, "resp_1", "", &response, NULL),
                     HS_OK);
}

static void deleted_without_memory(void **state)
{
    rest_without_memory_after(*state, put_one, "DELETE /v1/responses/resp_1", "");
    ask_for(*state, "GET", "resp_1", "", 404);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_has_every_field),
        TEST(items_of_every_kind),
        TEST(a_cut_answer_is_incomplete),
        TEST(logprobs_of_the_message),
        TEST(items_become_messages),
        TEST(settings_reach_the_engine),
        TEST(bad_fields_are_named),
        TEST(limits),
        TEST(a_conversation_goes_on),
        TEST(kept_ones_are_given_and_deleted),
        TEST(nothing_is_kept_without_a_store),
        TEST(the_items_are_listed),
        TEST(events_come_in_order),
        TEST(a_text_behind_a_call),
        TEST(streams_that_end_early),
        TEST(what_the_engine_refuses),
        TEST(without_memory),
        TEST(deleted_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
