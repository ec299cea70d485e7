/*
 * Calls of tools as families of models write them, read through the templates of llama.cpp's own
 * source: what a model says is put together from its format, and comes out as calls however it is
 * cut.
 */
#include <jansson.h>
#include <stdio.h>

#include "base/fs.h"
#include "runtime_test.h"

#define ARGUMENTS "{\"city\": \"Paris\", \"days\": 2}"
#define CALLS_MAX 2

static hs_rt_model *model;
static struct hs_error err;

static const struct hs_tool tools[] = {
    {"get_weather", "Tell the weather",
     "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},"
     "\"days\":{\"type\":\"integer\"}},\"required\":[\"city\",\"days\"]}"},
};
static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},"
    "\"days\":{\"type\":\"integer\"}},\"required\":[\"city\",\"days\"],"
    "\"additionalProperties\":false}"};

/* Without Mistral Small 3.2: of its template with an end token the pinned llama-common makes a
 * format that asks for [ARGS] twice. */
static const struct family {
    const char *file, *said, *reasoning, *text;
    int n_calls;
} families[] = {
    {"meta-llama-Llama-3.1-8B-Instruct",
     "{\"name\": \"get_weather\", \"parameters\": " ARGUMENTS "}", "", "", 1},
    {"meta-llama-Llama-3.2-3B-Instruct",
     "{\"name\": \"get_weather\", \"parameters\": " ARGUMENTS "}", "", "", 1},
    {"meta-llama-Llama-3.3-70B-Instruct",
     "{\"name\": \"get_weather\", \"parameters\": " ARGUMENTS "}", "", "", 1},
    {"mistralai-Mistral-Nemo-Instruct-2407",
     "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": " ARGUMENTS
     ", \"id\": \"123456789\"}]",
     "", "", 1},
    {"meetkai-functionary-medium-v3.1", "<function=get_weather>" ARGUMENTS "</function>", "", "",
     1},
    {"meetkai-functionary-medium-v3.2", "get_weather\n" ARGUMENTS, "", "", 1},
    {"openai-gpt-oss-120b",
     "<|channel|>analysis<|message|>Let me look<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.get_weather <|constrain|>json<|message|>" ARGUMENTS,
     "Let me look", "", 1},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use",
     "<|START_THINKING|>Let me look<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": "
     "\"0\", "
     "\"tool_name\": \"get_weather\", \"parameters\": " ARGUMENTS "}\n]<|END_ACTION|>",
     "Let me look", "", 1},
    {"CohereForAI-c4ai-command-r-plus-tool_use",
     "Action:\n```json\n[{\"tool_name\": \"get_weather\", \"parameters\": " ARGUMENTS "}]\n```", "",
     "", 1},
    {"llama-cpp-deepseek-r1",
     "</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
     "```json\n" ARGUMENTS "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "", "", 1},
    {"Qwen3-Coder",
     "Let me look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
     "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
     "", "Let me look.\n", 1},
    {"Qwen-Qwen3-0.6B",
     "<think>\nLet me look\n</think>\n\n<tool_call>\n{\"name\": \"get_weather\", "
     "\"arguments\": " ARGUMENTS "}\n</tool_call>",
     "Let me look\n", "", 1},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
     "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " ARGUMENTS "}\n</tool_call>\n"
     "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " ARGUMENTS "}\n</tool_call>",
     "", "", 2},
    {"moonshotai-Kimi-K2",
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
     "<|tool_call_argument_begin|>" ARGUMENTS "<|tool_call_end|><|tool_calls_section_end|>",
     "", "", 1},
    {"GLM-4.6",
     "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
     "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
     "", "", 1},
};

struct reading {
    char text[1024], reasoning[1024];
    struct {
        char name[64], arguments[512];
    } calls[CALLS_MAX];
    int n_calls;
};

static void add_delta(struct reading *to, const struct hs_rt_delta *delta)
{
    if (delta->type == HS_EVENT_TEXT) {
        strncat(to->text, delta->text, sizeof to->text - strlen(to->text) - 1);
    } else if (delta->type == HS_EVENT_REASONING) {
        strncat(to->reasoning, delta->text, sizeof to->reasoning - strlen(to->reasoning) - 1);
    } else {
        if (delta->name) {
            assert_true(to->n_calls < CALLS_MAX);
            snprintf(to->calls[to->n_calls++].name, 64, "%s", delta->name);
        }
        assert_true(delta->index < to->n_calls);
        char *arguments = to->calls[delta->index].arguments;
        strncat(arguments, delta->text, 511 - strlen(arguments));
    }
}

static void read_template(const char *file, struct hs_buf *text)
{
    char path[512];
    snprintf(path, sizeof path, HS_LLAMA_TEMPLATES "/%s.jinja", file);
    OK(hs_fs_read(path, text, &err));
}

static const char *answer_schema; /* NULL: text is free */

static hs_status open_format(const char *chat_template, hs_rt_format **ret_format)
{
    static const struct hs_message question[] = {
        {.role = "user", .content = "The weather in Paris?"}};
    struct hs_rt_template_params prompt = {.messages = question,
                                           .n_messages = 1,
                                           .add_generation_prompt = true,
                                           .enable_thinking = true,
                                           .tools = tools,
                                           .n_tools = 1,
                                           .chat_template = chat_template};
    struct hs_rt_format_params params = {.tool_choice = HS_TOOL_CHOICE_AUTO,
                                         .parallel_tool_calls = true,
                                         .tool_schemas = schemas,
                                         .json_schema = answer_schema};
    return rt->format_new(model, &prompt, &params, ret_format, &err);
}

static struct reading read_in_parts(const char *chat_template, const char *text, size_t part)
{
    struct reading reading = {.n_calls = 0};
    hs_rt_format *format = NULL;
    OK(open_format(chat_template, &format));
    size_t len = strlen(text);
    for (size_t at = 0; at <= len; at += part) {
        struct hs_rt_delta deltas[HS_RT_DELTAS_MAX];
        int32_t n = 0;
        size_t n_bytes = part < len - at ? part : len - at;
        OK(rt->format_feed(format, text + at, n_bytes, at + part > len, deltas, &n, &err));
        for (int32_t i = 0; i < n; i++) {
            add_delta(&reading, &deltas[i]);
        }
    }
    rt->format_free(format);
    return reading;
}

static void expect_arguments(const struct family *family, const char *text)
{
    json_t *got = json_loads(text, 0, NULL), *want = json_loads(ARGUMENTS, 0, NULL);
    if (!json_equal(got, want)) {
        fail_msg("%s: the arguments are %s", family->file, text);
    }
    json_decref(got);
    json_decref(want);
}

static void check(const struct family *family, const struct reading *reading)
{
    if (reading->n_calls != family->n_calls || strcmp(reading->text, family->text) != 0 ||
        strcmp(reading->reasoning, family->reasoning) != 0) {
        fail_msg("%s: %d calls, text \"%s\", reasoning \"%s\"", family->file, reading->n_calls,
                 reading->text, reading->reasoning);
    }
    for (int i = 0; i < reading->n_calls; i++) {
        assert_string_equal(reading->calls[i].name, "get_weather");
        expect_arguments(family, reading->calls[i].arguments);
    }
}

static void calls_of_every_family(void **state)
{
    (void)state;
    static const size_t parts[] = {1, 7, 4096};
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
        read_template(families[f].file, &text);
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            struct reading reading = read_in_parts(text.data, families[f].said, parts[p]);
            check(&families[f], &reading);
        }
    }
}

/* Beside a schema for answers without a call: the same calls, or a refusal where calls begin as
 * JSON does, or by a pattern. */
static void calls_beside_a_schema(void **state)
{
    (void)state;
    static const struct {
        const char *file, *before; /* the answer, which R1's prompt leaves in its reasoning */
    } able[] = {
        {"meetkai-functionary-medium-v3.1", ""},
        {"CohereForAI-c4ai-command-r7b-12-2024-tool_use", ""},
        {"CohereForAI-c4ai-command-r-plus-tool_use", ""},
        {"llama-cpp-deepseek-r1", "</think>"},
        {"Qwen3-Coder", ""},
        {"Qwen-Qwen3-0.6B", ""},
        {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", ""},
        {"GLM-4.6", ""},
    };
    static const char object[] = "{\"sunny\": true}";
    answer_schema = "{\"type\":\"object\",\"properties\":{\"sunny\":{\"type\":\"boolean\"}},"
                    "\"required\":[\"sunny\"],\"additionalProperties\":false}";
    for (size_t f = 0, i = 0; f < sizeof families / sizeof families[0]; f++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
        hs_rt_format *format = NULL;
        read_template(families[f].file, &text);
        if (i == sizeof able / sizeof able[0] || strcmp(able[i].file, families[f].file) != 0) {
            EXPECT(HS_NOT_SUPPORTED, open_format(text.data, &format));
            continue;
        }
        char answer[64];
        snprintf(answer, sizeof answer, "%s%s", able[i++].before, object);
        for (size_t part = 1; part < 100; part *= 9) {
            struct reading reading = read_in_parts(text.data, families[f].said, part);
            check(&families[f], &reading);
            reading = read_in_parts(text.data, answer, part);
            assert_string_equal(reading.text, object);
            assert_int_equal(reading.n_calls, 0);
        }
    }
    answer_schema = NULL;
}

/* Their own templates leave tools out of the prompt: a model would never hear of them. */
static void templates_that_leave_tools_out(void **state)
{
    (void)state;
    static const char *const files[] = {"deepseek-ai-DeepSeek-V3.1",
                                        "fireworks-ai-llama-3-firefunction-v2",
                                        "google-gemma-2-2b-it", "microsoft-Phi-3.5-mini-instruct"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
        hs_rt_format *format = NULL;
        read_template(files[i], &text);
        EXPECT(HS_NOT_SUPPORTED, open_format(text.data, &format));
        assert_non_null(strstr(err.hint, "--chat-template-file"));
    }
}

static int start(void **state)
{
    struct tiny_gguf_spec spec;
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&spec);
    model = load_tiny(&spec);
    return 0;
}

static int stop(void **state)
{
    rt->model_free(model);
    return stop_runtime(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(calls_of_every_family),
                                       cmocka_unit_test(calls_beside_a_schema),
                                       cmocka_unit_test(templates_that_leave_tools_out)};
    return cmocka_run_group_tests(tests, start, stop);
}
