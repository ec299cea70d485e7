/*
 * Rendered prompts against transformers' (tests/references/render_chat_templates.py), reasoning
 * tags, BOS, the plain template, and templates that complain.
 */
#include "runtime_test.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fs.h"

#define MESSAGES_MAX 32
#define TOOLS_MAX 4

static struct tiny_gguf_spec spec;
static hs_rt_model *model;     /* BOS <s>, not added; no template */
static hs_rt_model *bos_model; /* the same, BOS is to be added */

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&spec);
    bos_model = load_tiny(&spec);
    spec.add_bos = false;
    model = load_tiny(&spec);
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(model);
    rt->model_free(bos_model);
    return stop_runtime(state);
}

static char *read_file(const char *folder, const char *name)
{
    struct hs_error err = {0};
    char *path = hs_fs_join(folder, name);
    struct hs_buf text = HS_BUF_INIT(1 << 24);
    hs_status status = hs_fs_read(path, &text, &err);
    hs_free(path);
    if (status != HS_OK) {
        hs_buf_free(&text);
        return NULL;
    }
    char *data = NULL;
    size_t len = 0;
    OK(hs_buf_take(&text, &data, &len));
    return data;
}

/* Ours are committed; those of llama.cpp lie in its source, when that is there. */
static char *read_template(const char *name)
{
    char *source = read_file(HS_TEST_DATA "/templates", name);
    return source ? source : read_file(HS_LLAMA_TEMPLATES, name);
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static int32_t calls_of(const json_t *list, struct hs_tool_call *ret)
{
    size_t i;
    json_t *call;
    assert_true(json_array_size(list) <= TOOLS_MAX);
    json_array_foreach(list, i, call)
    {
        const json_t *function = json_object_get(call, "function");
        ret[i] = (struct hs_tool_call){text_at(call, "id"), text_at(function, "name"),
                                       text_at(function, "arguments")};
    }
    return (int32_t)json_array_size(list);
}

static size_t messages_of(const json_t *list, struct hs_message *ret,
                          struct hs_tool_call ret_calls[][TOOLS_MAX])
{
    size_t n = json_array_size(list);
    assert_true(n <= MESSAGES_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *from = json_array_get(list, i);
        ret[i].role = text_at(from, "role");
        ret[i].content = text_at(from, "content");
        ret[i].reasoning = text_at(from, "reasoning_content");
        ret[i].tool_call_id = text_at(from, "tool_call_id");
        ret[i].tool_calls = ret_calls[i];
        ret[i].n_tool_calls = calls_of(json_object_get(from, "tool_calls"), ret_calls[i]);
    }
    return n;
}

/* `parameters` of each is to be released. */
static int32_t tools_of(const json_t *list, struct hs_tool *ret)
{
    size_t i;
    json_t *tool;
    assert_true(json_array_size(list) <= TOOLS_MAX);
    json_array_foreach(list, i, tool)
    {
        char *parameters = json_dumps(json_object_get(tool, "parameters"), JSON_COMPACT);
        assert_non_null(parameters);
        ret[i] = (struct hs_tool){text_at(tool, "name"), text_at(tool, "description"), parameters};
    }
    return (int32_t)json_array_size(list);
}

static struct hs_buf render(const hs_rt_model *on, const struct hs_rt_template_params *params,
                            struct hs_rt_reasoning *ret_reasoning)
{
    struct hs_error err = {0};
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    OK(rt->render(on, params, &text, ret_reasoning, &err));
    return text;
}

static bool check_case(const json_t *row)
{
    const char *file = text_at(row, "template"), *expected = text_at(row, "expected");
    char *source = read_template(file);
    if (!source) {
        return false;
    }
    struct hs_message messages[MESSAGES_MAX] = {0};
    struct hs_tool_call calls[MESSAGES_MAX][TOOLS_MAX] = {0};
    struct hs_tool tools[TOOLS_MAX] = {0};
    struct hs_rt_template_params params = {
        .messages = messages,
        .n_messages = messages_of(json_object_get(row, "messages"), messages, calls),
        .tools = tools,
        .n_tools = tools_of(json_object_get(row, "tools"), tools),
        .continue_final = json_is_true(json_object_get(row, "continue_final")),
        .add_generation_prompt = json_is_true(json_object_get(row, "add_generation_prompt")),
        .enable_thinking = json_is_true(json_object_get(row, "enable_thinking")),
        .chat_template = source,
    };
    struct hs_rt_reasoning reasoning;
    struct hs_buf text = render(model, &params, &reasoning);
    if (strcmp(text.data, expected) != 0) {
        print_error("%s, %s, thinking %d:\n[%s]\ninstead of\n[%s]\n", file,
                    text_at(row, "conversation"), params.enable_thinking, text.data, expected);
        fail();
    }
    hs_buf_free(&text);
    /* With a BOS to add it is there exactly once. */
    text = render(bos_model, &params, &reasoning);
    bool has_bos = strncmp(expected, "<s>", 3) == 0;
    assert_memory_equal(text.data, "<s>", 3);
    assert_string_equal(text.data + (has_bos ? 0 : 3), expected);
    hs_buf_free(&text);
    for (int32_t i = 0; i < params.n_tools; i++) {
        free((char *)tools[i].parameters);
    }
    hs_free(source);
    return true;
}

static void test_same_as_transformers(void **state)
{
    (void)state;
    char *json = read_file(HS_TEST_DATA, "chat_templates.json");
    assert_non_null(json);
    json_error_t error;
    json_t *rows = json_loads(json, 0, &error);
    assert_true(json_is_array(rows));
    size_t n_checked = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        n_checked += check_case(json_array_get(rows, i));
    }
    print_message("%zu of %zu cases; the others need llama.cpp's sources\n", n_checked,
                  json_array_size(rows));
    assert_true(n_checked >= 40);
    json_decref(rows);
    hs_free(json);
}

static struct hs_rt_reasoning reasoning_of(const char *file, bool enable_thinking,
                                           bool add_generation_prompt)
{
    struct hs_rt_reasoning reasoning = {0};
    char *source = read_template(file);
    if (!source) {
        return reasoning;
    }
    struct hs_message message = {.role = "user", .content = "Hello"};
    struct hs_rt_template_params params = {.messages = &message,
                                           .n_messages = 1,
                                           .add_generation_prompt = add_generation_prompt,
                                           .enable_thinking = enable_thinking,
                                           .chat_template = source};
    struct hs_buf text = render(model, &params, &reasoning);
    hs_buf_free(&text);
    hs_free(source);
    return reasoning;
}

static void test_reasoning_tags(void **state)
{
    (void)state;
    for (int thinking = 0; thinking < 2; thinking++) {
        struct hs_rt_reasoning r = reasoning_of("think.jinja", thinking, true);
        assert_string_equal(r.start_tag, "<think>");
        assert_string_equal(r.end_tag, "</think>");
        assert_false(r.starts_in_reasoning);
        r = reasoning_of("think-open.jinja", thinking, true);
        assert_string_equal(r.start_tag, "<think>");
        assert_string_equal(r.end_tag, "</think>");
        assert_int_equal(r.starts_in_reasoning, thinking);
        r = reasoning_of("smollm2.jinja", thinking, true);
        assert_string_equal(r.start_tag, "");
        assert_string_equal(r.end_tag, "");
        assert_false(r.starts_in_reasoning);
    }
    assert_false(reasoning_of("think-open.jinja", true, false).starts_in_reasoning);
}

static void test_reasoning_tags_of_known_models(void **state)
{
    (void)state;
    char *source = read_template("Qwen-Qwen3-0.6B.jinja");
    if (!source) {
        skip();
    }
    hs_free(source);
    assert_string_equal(reasoning_of("Qwen-Qwen3-0.6B.jinja", true, true).start_tag, "<think>");
    assert_false(reasoning_of("Qwen-Qwen3-0.6B.jinja", true, true).starts_in_reasoning);
    assert_false(reasoning_of("Qwen-Qwen3-0.6B.jinja", false, true).starts_in_reasoning);
    assert_true(reasoning_of("Qwen-QwQ-32B.jinja", true, true).starts_in_reasoning);
    assert_true(reasoning_of("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", true, true)
                    .starts_in_reasoning);
    assert_string_equal(reasoning_of("Qwen-Qwen2.5-7B-Instruct.jinja", true, true).start_tag, "");
}

static void test_the_models_own_template(void **state)
{
    (void)state;
    char *source = read_template("smollm2.jinja");
    struct tiny_gguf_spec with = spec;
    with.chat_template = source;
    hs_rt_model *own = load_tiny(&with);
    struct hs_rt_model_info info;
    rt->model_info(own, &info);
    assert_true(info.has_chat_template);
    struct hs_message message = {.role = "user", .content = "Hello"};
    struct hs_rt_template_params params = {
        .messages = &message, .n_messages = 1, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    struct hs_buf a = render(own, &params, &reasoning);
    params.chat_template = source;
    struct hs_buf b = render(model, &params, &reasoning);
    assert_string_equal(a.data, b.data);
    hs_buf_free(&a);
    hs_buf_free(&b);
    rt->model_free(own);

    /* One given at load counts before the file's, one given with the call before both. */
    struct hs_error err = {0};
    char *path = temp_path(".gguf");
    assert_true(tiny_gguf_write(&with, path));
    struct hs_model_params load_params = model_params();
    load_params.chat_template = "load:{{ messages[0].content }}";
    OK(rt->model_load(path, &load_params, &own, &err));
    unlink(path);
    free(path);
    params.chat_template = NULL;
    a = render(own, &params, &reasoning);
    assert_string_equal(a.data, "load:Hello");
    hs_buf_free(&a);
    params.chat_template = "call:{{ messages[0].content }}";
    a = render(own, &params, &reasoning);
    assert_string_equal(a.data, "call:Hello");
    hs_buf_free(&a);
    rt->model_free(own);
    hs_free(source);
}

static void test_plain_template(void **state)
{
    (void)state;
    struct hs_rt_model_info info;
    rt->model_info(model, &info);
    assert_false(info.has_chat_template);
    const struct hs_message messages[] = {
        {.role = "system", .content = "Be brief."},
        {.role = "user", .content = "2 + 2?"},
        {.role = "assistant", .content = "4", .reasoning = "thought"},
        {.role = "user", .content = "And 3 + 3?"}};
    struct hs_rt_template_params params = {
        .messages = messages, .n_messages = 4, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    struct hs_buf text = render(model, &params, &reasoning);
    const char *wanted = "Be brief.\n\nUser: 2 + 2?\nAssistant: 4\nUser: And 3 + 3?\nAssistant:";
    assert_string_equal(text.data, wanted);
    assert_string_equal(reasoning.start_tag, "");
    hs_buf_free(&text);
    text = render(bos_model, &params, &reasoning);
    assert_memory_equal(text.data, "<s>", 3);
    assert_string_equal(text.data + 3, wanted);
    hs_buf_free(&text);
    params.add_generation_prompt = false;
    text = render(model, &params, &reasoning);
    assert_non_null(strstr(text.data, "3 + 3?\n"));
    assert_null(strstr(text.data, "Assistant:\n"));
    hs_buf_free(&text);
    params.n_messages = 0;
    text = render(model, &params, &reasoning);
    assert_string_equal(text.data, "");
    hs_buf_free(&text);
    struct hs_error err = {0};
    struct hs_message odd = {.role = "narrator", .content = "x"};
    params.messages = &odd;
    params.n_messages = 1;
    HS_CLEANUP(hs_buf_free) struct hs_buf none = HS_BUF_INIT(100);
    EXPECT(HS_INVALID_ARGUMENT, rt->render(model, &params, &none, &reasoning, &err));
    assert_non_null(strstr(err.message, "narrator"));
    assert_int_equal(none.len, 0);
}

/* HS_RT_PLAIN_STOP is what follows an answer: a model that goes on with the pattern of the prompt
 * writes it before it speaks for the user. */
static void test_plain_stop_begins_the_next_turn(void **state)
{
    (void)state;
    const struct hs_message messages[] = {{.role = "user", .content = "2 + 2?"},
                                          {.role = "assistant", .content = "4"},
                                          {.role = "user", .content = "And 3 + 3?"}};
    struct hs_rt_template_params params = {
        .messages = messages, .n_messages = 1, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    struct hs_buf asked = render(model, &params, &reasoning);
    params.n_messages = 3;
    struct hs_buf whole = render(model, &params, &reasoning);
    assert_null(strstr(asked.data, HS_RT_PLAIN_STOP));
    assert_memory_equal(whole.data, asked.data, asked.len);
    const char *rest = whole.data + asked.len;
    const char *stop = strstr(rest, HS_RT_PLAIN_STOP);
    assert_non_null(stop);
    assert_int_equal(stop - rest, strlen(" 4"));
    assert_memory_equal(rest, " 4", 2);
    assert_null(strstr(stop + 1, HS_RT_PLAIN_STOP));
    hs_buf_free(&asked);
    hs_buf_free(&whole);
}

static void test_complaints(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const struct hs_message twice[] = {{.role = "user", .content = "a"},
                                       {.role = "user", .content = "b"}};
    char *source = read_template("raise.jinja");
    struct hs_rt_template_params params = {
        .messages = twice, .n_messages = 2, .chat_template = source};
    struct hs_rt_reasoning reasoning;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1000);
    OK(hs_buf_append_str(&text, "before"));
    EXPECT(HS_INVALID_ARGUMENT, rt->render(model, &params, &text, &reasoning, &err));
    assert_non_null(strstr(err.message, "roles must alternate"));
    assert_string_equal(text.data, "before");
    hs_free(source);
    static const char *const broken[] = {"{% for m in messages %}", "{{ messages[0] ",
                                         "{% endif %}", "{{ 1 +* 2 }}", "{% bogus %}"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        params.chat_template = broken[i];
        EXPECT(HS_INVALID_ARGUMENT, rt->render(model, &params, &text, &reasoning, &err));
        assert_string_equal(text.data, "before");
    }
    char *long_template = malloc((1 << 20) + 2);
    assert_non_null(long_template);
    memset(long_template, 'x', (1 << 20) + 1);
    long_template[(1 << 20) + 1] = '\0';
    params.chat_template = long_template;
    EXPECT(HS_LIMIT, rt->render(model, &params, &text, &reasoning, &err));
    free(long_template);
    /* The result does not fit the caller's buffer. */
    HS_CLEANUP(hs_buf_free) struct hs_buf small = HS_BUF_INIT(10);
    params.chat_template = "twelve bytes";
    EXPECT(HS_LIMIT, rt->render(model, &params, &small, &reasoning, &err));
}

static void test_more_templates_than_are_kept(void **state)
{
    (void)state;
    struct hs_message message = {.role = "user", .content = "x"};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 9; i++) {
            char source[64];
            char wanted[64];
            snprintf(source, sizeof(source), "%d-{{ messages[0].content }}", i);
            snprintf(wanted, sizeof(wanted), "%d-x", i);
            struct hs_rt_template_params params = {
                .messages = &message, .n_messages = 1, .chat_template = source};
            struct hs_rt_reasoning reasoning;
            struct hs_buf text = render(model, &params, &reasoning);
            assert_string_equal(text.data, wanted);
            hs_buf_free(&text);
        }
    }
}

static void *render_often(void *arg)
{
    const char *word = arg;
    struct hs_message message = {.role = "user", .content = word};
    for (int i = 0; i < 100; i++) {
        char source[64];
        char wanted[64];
        snprintf(source, sizeof(source), "%d+{{ messages[0].content }}", i % 6);
        snprintf(wanted, sizeof(wanted), "%d+%s", i % 6, word);
        struct hs_rt_template_params params = {
            .messages = &message, .n_messages = 1, .chat_template = source};
        struct hs_rt_reasoning reasoning;
        struct hs_error err = {0};
        struct hs_buf text = HS_BUF_INIT(1000);
        struct hs_buf tokens = HS_BUF_INIT(1000);
        bool ok = rt->render(model, &params, &text, &reasoning, &err) == HS_OK &&
                  strcmp(text.data, wanted) == 0 &&
                  rt->tokenize(model, text.data, text.len, true, true, &tokens, &err) == HS_OK;
        hs_buf_free(&text);
        hs_buf_free(&tokens);
        if (!ok) {
            return arg;
        }
    }
    return NULL;
}

/* A model's functions are called from any thread. */
static void test_threads(void **state)
{
    (void)state;
    static char words[4][8] = {"one", "two", "three", "four"};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, words[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_message message = {.role = "user", .content = "x"};
    struct hs_rt_template_params params = {
        .messages = &message, .n_messages = 1, .chat_template = "new {{ messages[0].content }}"};
    struct hs_rt_reasoning reasoning;
    for (uint64_t n = 1;; n++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1000);
        hs_mem_fail_after(n);
        hs_status status = rt->render(bos_model, &params, &text, &reasoning, &err);
        bool failed = hs_mem_count() >= n;
        hs_mem_fail_after(0);
        if (!failed) {
            assert_int_equal(status, HS_OK);
            assert_string_equal(text.data, "<s>new x");
            assert_true(n > 3);
            return;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_int_equal(text.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_transformers),
        cmocka_unit_test(test_reasoning_tags),
        cmocka_unit_test(test_reasoning_tags_of_known_models),
        cmocka_unit_test(test_the_models_own_template),
        cmocka_unit_test(test_plain_template),
        cmocka_unit_test(test_plain_stop_begins_the_next_turn),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_more_templates_than_are_kept),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
