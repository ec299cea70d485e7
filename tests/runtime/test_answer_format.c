/* How answers with tools or a schema are read: the same deltas wherever the text is cut. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime_test.h"

static hs_rt_model *model;
static char *hermes;
static struct hs_error err;

static const struct hs_tool tools[] = {
    {"get_weather", "Tell the weather",
     "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},"
     "\"days\":{\"type\":\"integer\"}},\"required\":[\"city\"]}"},
    {"get_time", NULL, NULL},
};
static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},"
    "\"days\":{\"type\":\"integer\"}},\"required\":[\"city\"],\"additionalProperties\":false}",
    NULL};
static const struct hs_message question[] = {{.role = "user", .content = "The weather in Paris?"}};

static struct hs_rt_template_params prompt_params(void)
{
    return (struct hs_rt_template_params){.messages = question,
                                          .n_messages = 1,
                                          .add_generation_prompt = true,
                                          .enable_thinking = true,
                                          .tools = tools,
                                          .n_tools = 2,
                                          .chat_template = hermes};
}

static const char *answer_schema; /* NULL: text is free */

static hs_rt_format *new_format(const struct hs_rt_template_params *prompt,
                                enum hs_tool_choice choice, const char *name)
{
    struct hs_rt_format_params params = {.tool_choice = choice,
                                         .tool_name = name,
                                         .parallel_tool_calls = true,
                                         .tool_schemas = schemas,
                                         .json_schema = answer_schema};
    hs_rt_format *format = NULL;
    OK(rt->format_new(model, prompt, &params, &format, &err));
    return format;
}

/* An answer as its reader sees it: "text|R:reasoning|name(arguments)". */
struct reading {
    char text[1024], reasoning[1024];
    struct {
        char id[64], name[64], arguments[512];
    } calls[4];
    int32_t n_calls, n_deltas;
};

static void add_delta(struct reading *to, const struct hs_rt_delta *delta)
{
    assert_int_equal(delta->len, strlen(delta->text));
    to->n_deltas++;
    if (delta->type == HS_EVENT_TEXT) {
        strcat(to->text, delta->text);
    } else if (delta->type == HS_EVENT_REASONING) {
        strcat(to->reasoning, delta->text);
    } else {
        assert_int_equal(delta->name != NULL, delta->index == to->n_calls);
        if (delta->name) {
            snprintf(to->calls[to->n_calls].id, 64, "%s", delta->id);
            snprintf(to->calls[to->n_calls++].name, 64, "%s", delta->name);
        }
        assert_true(delta->index < to->n_calls);
        strcat(to->calls[delta->index].arguments, delta->text);
    }
}

static void feed_part(hs_rt_format *format, const char *text, size_t len, bool is_end,
                      struct reading *to)
{
    struct hs_rt_delta deltas[HS_RT_DELTAS_MAX];
    int32_t n = 0;
    OK(rt->format_feed(format, text, len, is_end, deltas, &n, &err));
    for (int32_t i = 0; i < n; i++) {
        add_delta(to, &deltas[i]);
    }
}

static struct reading read_in_parts(enum hs_tool_choice choice, const char *text, size_t part)
{
    struct hs_rt_template_params prompt = prompt_params();
    hs_rt_format *format = new_format(&prompt, choice, NULL);
    struct reading reading = {0};
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at += part) {
        feed_part(format, text + at, part < len - at ? part : len - at, false, &reading);
    }
    feed_part(format, "", 0, true, &reading);
    rt->format_free(format);
    return reading;
}

static const char two_calls[] =
    "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": "
    "\"Paris \\\"<>{}\\u00e9\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_time\", "
    "\"arguments\": {}}\n</tool_call>";

static void check_two_calls(const struct reading *reading)
{
    assert_string_equal(reading->text, "Let me see.\n");
    assert_string_equal(reading->reasoning, "");
    assert_int_equal(reading->n_calls, 2);
    assert_string_equal(reading->calls[0].name, "get_weather");
    assert_string_equal(reading->calls[0].arguments,
                        "{\"city\": \"Paris \\\"<>{}\\u00e9\", \"days\": 2}");
    assert_string_equal(reading->calls[1].name, "get_time");
    assert_string_equal(reading->calls[1].arguments, "{}");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(strncmp(reading->calls[i].id, "call_", 5), 0);
        assert_int_equal(strlen(reading->calls[i].id), 29);
    }
    assert_string_not_equal(reading->calls[0].id, reading->calls[1].id);
}

static void test_calls_are_the_same_wherever_the_text_is_cut(void **state)
{
    (void)state;
    for (size_t part = 1; part <= sizeof(two_calls); part++) {
        struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, two_calls, part);
        check_two_calls(&reading);
    }
    /* One character at a time: arguments are streamed, not kept back. */
    struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, two_calls, 1);
    assert_true(reading.n_deltas > 40);
}

static void test_every_cut_end_gives_what_is_there(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(two_calls); len++) {
        char text[sizeof(two_calls)];
        memcpy(text, two_calls, len);
        text[len] = '\0';
        struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, text, 7);
        /* A call whose name is not there yet is text. */
        assert_int_equal(strncmp(reading.text, text, strlen(reading.text)), 0);
        if (reading.n_calls > 0) {
            assert_string_equal(reading.text, "Let me see.\n");
            size_t n = strlen(reading.calls[0].arguments);
            assert_int_equal(strncmp("{\"city\": \"Paris \\\"<>{}\\u00e9\", \"days\": 2}",
                                     reading.calls[0].arguments, n),
                             0);
        }
    }
}

static void test_text_alone_is_text(void **state)
{
    (void)state;
    static const char *const texts[] = {"Hello", "a < b <tool", "x <tool_ca y", "{\"name\": 1}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t part = 1; part < 12; part++) {
            struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, texts[i], part);
            assert_string_equal(reading.text, texts[i]);
            assert_int_equal(reading.n_calls, 0);
        }
    }
}

/* What the parser refuses is not lost. */
static void test_what_cannot_be_read_is_text(void **state)
{
    (void)state;
    static const char *const rests[] = {"<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}",
                                        "<tool_call>\nnonsense</tool_call>"};
    for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "Well. %s", rests[i]);
        for (size_t part = 1; part < 40; part += 6) {
            struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, text, part);
            assert_string_equal(reading.text, text);
            assert_int_equal(reading.n_calls, 0);
        }
        snprintf(text, sizeof(text), "%s\n%s", two_calls, rests[i]);
        struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, text, 5);
        assert_int_equal(reading.n_calls, 2);
        assert_non_null(strstr(reading.text, "Let me see.\n"));
        assert_non_null(strstr(reading.text, rests[i]));
    }
}

static const char answer_schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"],"
    "\"additionalProperties\":false}";

static void test_calls_beside_a_schema(void **state)
{
    (void)state;
    static const char *const answers[][2] = {
        {"{\"city\": \"<tool_call> {}\"}", "{\"city\": \"<tool_call> {}\"}"},
        {" {\"city\": \"Paris\"}\n", "{\"city\": \"Paris\"}"},
        {"```json\n{\"city\": \"Paris\"}\n```", "{\"city\": \"Paris\"}"},
        {"{\"city\": \"Par", "{\"city\": \"Par"},
    };
    answer_schema = answer_schema_text;
    const char *calls = strchr(two_calls, '<');
    for (size_t part = 1; part <= sizeof(two_calls); part++) {
        struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, calls, part);
        assert_string_equal(reading.text, "");
        snprintf(reading.text, sizeof reading.text, "Let me see.\n");
        check_two_calls(&reading);
        for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
            reading = read_in_parts(HS_TOOL_CHOICE_AUTO, answers[i][0], part);
            assert_string_equal(reading.text, answers[i][1]);
            assert_int_equal(reading.n_calls, 0);
        }
        if (part > 20) {
            part += 10;
        }
    }
    for (size_t len = 1; len < strlen(calls); len++) {
        char text[sizeof(two_calls)];
        snprintf(text, sizeof text, "%.*s", (int)len, calls);
        struct reading reading = read_in_parts(HS_TOOL_CHOICE_AUTO, text, 7);
        assert_true(reading.n_calls == 0 || reading.text[0] == '\0');
    }
    /* a call that is required leaves no room for an answer */
    struct reading reading = read_in_parts(HS_TOOL_CHOICE_REQUIRED, calls, 3);
    assert_int_equal(reading.n_calls, 2);
    answer_schema = NULL;
}

static void test_prompts_show_tools_calls_and_answers(void **state)
{
    (void)state;
    const struct hs_tool_call call = {"call_1", "get_weather", "{\"city\": \"Paris\"}"};
    const struct hs_message messages[] = {
        {.role = "user", .content = "Weather?"},
        {.role = "assistant", .content = "", .tool_calls = &call, .n_tool_calls = 1},
        {.role = "tool", .content = "sunny", .tool_call_id = "call_1", .name = "get_weather"},
    };
    struct hs_rt_template_params prompt = prompt_params();
    prompt.messages = messages;
    prompt.n_messages = 3;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
    struct hs_rt_reasoning reasoning;
    OK(rt->render(model, &prompt, &text, &reasoning, &err));
    assert_non_null(strstr(text.data, "\"description\": \"Tell the weather\""));
    assert_non_null(strstr(text.data,
                           "<|im_start|>assistant\n<tool_call>\n{\"name\": "
                           "\"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n"
                           "</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n"
                           "sunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"));
}

static void test_a_message_is_left_open(void **state)
{
    (void)state;
    const struct hs_message messages[] = {{.role = "user", .content = "Hi"},
                                          {.role = "assistant", .content = "One, two,"}};
    struct hs_rt_template_params prompt = {.messages = messages,
                                           .n_messages = 2,
                                           .add_generation_prompt = true,
                                           .continue_final = true,
                                           .chat_template = hermes};
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
    struct hs_rt_reasoning reasoning;
    OK(rt->render(model, &prompt, &text, &reasoning, &err));
    assert_string_equal(text.data, "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
                                   "One, two,");
    prompt.chat_template = NULL;
    hs_buf_clear(&text);
    OK(rt->render(model, &prompt, &text, &reasoning, &err));
    assert_string_equal(text.data, "<s>User: Hi\nAssistant: One, two,");
}

static void test_a_continued_answer_has_the_new_text_alone(void **state)
{
    (void)state;
    const struct hs_message messages[] = {{.role = "user", .content = "Hi"},
                                          {.role = "assistant", .content = "One, two,"}};
    struct hs_rt_template_params prompt = prompt_params();
    prompt.messages = messages;
    prompt.n_messages = 2;
    prompt.continue_final = true;
    hs_rt_format *format = new_format(&prompt, HS_TOOL_CHOICE_AUTO, NULL);
    struct reading reading = {0};
    feed_part(format, " three", 6, false, &reading);
    feed_part(format, "", 0, true, &reading);
    assert_string_equal(reading.text, " three");
    rt->format_free(format);
}

static void test_variables_reach_the_template(void **state)
{
    (void)state;
    struct hs_rt_template_params prompt = prompt_params();
    prompt.n_tools = 0;
    prompt.chat_template =
        "{{ messages[0].content }} {{ mood }} {{ deep.a[1] }} {{ enable_thinking }}";
    prompt.template_kwargs = "{\"mood\": \"good\", \"deep\": {\"a\": [1, 2]}, "
                             "\"enable_thinking\": false}";
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
    struct hs_rt_reasoning reasoning;
    OK(rt->render(model, &prompt, &text, &reasoning, &err));
    assert_string_equal(text.data, "<s>The weather in Paris? good 2 False");
    /* Nothing but Jinja has variables. */
    prompt.chat_template = NULL;
    EXPECT(HS_NOT_SUPPORTED, rt->render(model, &prompt, &text, &reasoning, &err));
}

static void test_templates_without_tools_say_so(void **state)
{
    (void)state;
    struct hs_rt_template_params prompt = prompt_params();
    struct hs_rt_format_params params = {.tool_schemas = schemas};
    struct hs_rt_reasoning reasoning;
    const char *const sources[] = {NULL, tiny_gguf_chatml};
    for (int i = 0; i < 2; i++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
        hs_rt_format *format = NULL;
        prompt.chat_template = sources[i];
        EXPECT(HS_NOT_SUPPORTED, rt->render(model, &prompt, &text, &reasoning, &err));
        assert_non_null(strstr(err.hint, "--chat-template-file"));
        EXPECT(HS_NOT_SUPPORTED, rt->format_new(model, &prompt, &params, &format, &err));
    }
}

static int start(void **state)
{
    size_t len = 0;
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    if (start_runtime(state) != 0 ||
        hs_fs_read(HS_TEST_DATA "/templates/hermes.jinja", &text, &err) != HS_OK ||
        hs_buf_take(&text, &hermes, &len) != HS_OK) {
        return -1;
    }
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    model = load_tiny(&spec);
    return 0;
}

static int stop(void **state)
{
    hs_free(hermes);
    rt->model_free(model);
    return stop_runtime(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_are_the_same_wherever_the_text_is_cut),
        cmocka_unit_test(test_every_cut_end_gives_what_is_there),
        cmocka_unit_test(test_text_alone_is_text),
        cmocka_unit_test(test_what_cannot_be_read_is_text),
        cmocka_unit_test(test_calls_beside_a_schema),
        cmocka_unit_test(test_prompts_show_tools_calls_and_answers),
        cmocka_unit_test(test_a_message_is_left_open),
        cmocka_unit_test(test_a_continued_answer_has_the_new_text_alone),
        cmocka_unit_test(test_variables_reach_the_template),
        cmocka_unit_test(test_templates_without_tools_say_so),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
