/* Tests of rest/tokens.c. */
#include <stdio.h>

#include "base/buf.h"
#include "rest_test.h"

static void expect_tokens(const struct rest_test *test, const int *want, size_t n)
{
    assert_int_equal(json_array_size(rest_at(test, "tokens")), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(json_integer_value(json_array_get(rest_at(test, "tokens"), i)), want[i]);
    }
}

static void texts_to_tokens(void **state)
{
    rest_ask(*state, "POST /tokenize", "{\"content\":\"Hi\"}", 200);
    expect_tokens(*state, (const int[]){'H', 'i'}, 2);
    rest_ask(*state, "POST /tokenize", "{\"content\":\"Hi\",\"add_special\":true}", 200);
    expect_tokens(*state, (const int[]){256, 'H', 'i'}, 3);
    rest_ask(*state, "POST /tokenize", "{\"content\":\"\"}", 200);
    expect_tokens(*state, NULL, 0);
    rest_ask(*state, "POST /tokenize",
             "{\"content\":\"i\",\"add_special\":true,\"with_pieces\":true}", 200);
    rest_expect_string(*state, "tokens/0/piece", "<s>");
    rest_expect_int(*state, "tokens/1/id", 'i');
    rest_expect_string(*state, "tokens/1/piece", "i");
}

static void tokens_to_text(void **state)
{
    rest_ask(*state, "POST /detokenize", "{\"tokens\":[256,72,105]}", 200);
    rest_expect_string(*state, "content", "<s>Hi");
    rest_ask(*state, "POST /detokenize", "{\"tokens\":[]}", 200);
    rest_expect_string(*state, "content", "");
}

static void messages_to_a_prompt(void **state)
{
    rest_ask(*state, "POST /apply-template", "{" USER "}", 200);
    rest_expect_string(*state, "prompt", "rendered");
    struct rest_test *test = *state;
    test->rest.models[0].has_chat_template = true;
    rest_ask(test, "POST /apply-template",
             "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":[{\"type\":"
             "\"function\",\"function\":{\"name\":\"f\"}}],\"reasoning_effort\":\"low\","
             "\"chat_template_kwargs\":{\"enable_thinking\":true},\"continue_final_message\":true}",
             200);
    const struct hs_generate_params *params = &fake_engine.rendered.params;
    assert_int_equal(params->n_tools, 1);
    assert_string_equal(params->tools[0].name, "f");
    assert_true(params->continue_final);
    assert_true(params->enable_thinking);
    assert_string_equal(params->template_kwargs, "{\"reasoning_effort\":\"low\"}");
    fake_engine.render_status = HS_INVALID_ARGUMENT;
    rest_ask(test, "POST /apply-template", "{" USER "}", 400);
    fake_engine.render_status = HS_OK;
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *line, *body, *param;
    } rows[] = {
        {"POST /tokenize", "{}", "content"},
        {"POST /tokenize", "{\"content\":1}", "content"},
        {"POST /tokenize", "{\"content\":\"a\",\"add_special\":1}", "add_special"},
        {"POST /tokenize", "{\"content\":\"a\",\"with_pieces\":1}", "with_pieces"},
        {"POST /tokenize", "{\"content\":\"a\",\"parse_special\":1}", "parse_special"},
        {"POST /detokenize", "{}", "tokens"},
        {"POST /detokenize", "{\"tokens\":1}", "tokens"},
        {"POST /detokenize", "{\"tokens\":[257]}", "tokens"},
        {"POST /detokenize", "{\"tokens\":[-1]}", "tokens"},
        {"POST /detokenize", "{\"tokens\":[\"a\"]}", "tokens"},
        {"POST /apply-template", "{}", "messages"},
        {"POST /apply-template", "{" USER ",\"enable_thinking\":1}", "enable_thinking"},
        {"POST /apply-template", "{" USER ",\"tools\":1}", "tools"},
        {"POST /apply-template", "{" USER ",\"continue_final_message\":true}",
         "continue_final_message"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_ask(*state, rows[i].line, rows[i].body, 400);
        rest_expect_error(*state, rows[i].param);
    }
    rest_ask(*state, "POST /tokenize", "{\"content\":\"a\",\"model\":\"x\"}", 404);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(texts_to_tokens),
        TEST(tokens_to_text),
        TEST(messages_to_a_prompt),
        TEST(bad_fields_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
