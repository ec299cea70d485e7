/* Tests of rest/completions.c: prompts of every form, echo, logprobs. */
#include <stdio.h>

#include "base/buf.h"
#include "rest_test.h"

static void complete(struct rest_test *test, const char *fields, int status)
{
    char body[1024];
    snprintf(body, sizeof body, "{%s}", fields);
    rest_ask(test, "POST /v1/completions", body, status);
}

static void a_text(void **state)
{
    complete(*state, "\"prompt\":\"ab\",\"max_tokens\":3", 200);
    /* the fake's tokens: <s>, then the bytes */
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_tokens, 3);
    assert_int_equal(asked->tokens[0], 256);
    assert_int_equal(asked->tokens[2], 'b');
    assert_int_equal(asked->params.max_tokens, 3);
    rest_expect_string(*state, "object", "text_completion");
    rest_expect_string(*state, "choices/0/text", "Hello world");
    rest_expect_string(*state, "choices/0/finish_reason", "stop");
    assert_true(json_is_null(rest_at(*state, "choices/0/logprobs")));
    rest_expect_int(*state, "usage/prompt_tokens", 12);
}

static void tokens_are_taken_as_they_are(void **state)
{
    complete(*state, "\"prompt\":[72,105,256],\"echo\":true", 200);
    assert_int_equal(rest_asked()->n_tokens, 3);
    assert_int_equal(rest_asked()->tokens[0], 72);
    assert_int_equal(rest_asked()->tokens[2], 256);
    rest_expect_string(*state, "choices/0/text", "HiHello world");
}

static void several_prompts_with_several_answers(void **state)
{
    complete(*state, "\"prompt\":[\"a\",[98,99]],\"n\":2,\"echo\":true", 200);
    assert_int_equal(fake_engine.n_asked, 4);
    assert_int_equal(fake_engine.asked[2].n_tokens, 2);
    static const char *const want[] = {"aHello world", "aHello world", "bcHello world",
                                       "bcHello world"};
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "choices/%zu/text", i);
        rest_expect_string(*state, path, want[i]);
        snprintf(path, sizeof path, "choices/%zu/index", i);
        rest_expect_int(*state, path, (json_int_t)i);
    }
    /* two prompts of 12 tokens, each counted once */
    rest_expect_int(*state, "usage/prompt_tokens", 24);
    rest_expect_int(*state, "usage/completion_tokens", 8);
}

static void logprobs_as_lists(void **state)
{
    static const struct fake_piece pieces[] = {
        {HS_EVENT_TEXT, "ab"}, {HS_EVENT_TEXT, "c"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    fake_engine.answers = &answer;
    complete(*state, "\"prompt\":\"x\",\"logprobs\":2", 200);
    assert_int_equal(rest_asked()->params.n_logprobs, 2);
    rest_expect_string(*state, "choices/0/logprobs/tokens/0", "a");
    rest_expect_string(*state, "choices/0/logprobs/tokens/2", "c");
    assert_int_equal(json_array_size(rest_at(*state, "choices/0/logprobs/token_logprobs")), 3);
    rest_expect_int(*state, "choices/0/logprobs/text_offset/2", 2);
    assert_true(json_number_value(rest_at(*state, "choices/0/logprobs/top_logprobs/0/b")) == -1.5);
    rest_reset();
    complete(*state, "\"prompt\":\"x\",\"logprobs\":0", 200);
    assert_int_equal(json_object_size(rest_at(*state, "choices/0/logprobs/top_logprobs/0")), 0);
    rest_reset();
    complete(*state, "\"prompt\":\"x\",\"logprobs\":false", 200);
    assert_int_equal(rest_asked()->params.n_logprobs, 0);
}

/* "\xC3\xA9" is two tokens here, and neither is text by itself: both would go by the same name. */
static void likeliest_tokens_of_one_text(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "\xC3\xA9"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    fake_engine.answers = &answer;
    complete(test, "\"prompt\":\"x\",\"logprobs\":2", 200);
    json_t *json = json_loads(test->reply.body.data, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_decref(json);
    const json_t *top = rest_at(test, "choices/0/logprobs/top_logprobs/0");
    assert_int_equal(json_object_size(top), 1);
    assert_true(json_number_value(json_object_get(top, "\xEF\xBF\xBD")) == -0.5);
}

static void without_memory(void **state)
{
    static const struct fake_piece pieces[] = {
        {HS_EVENT_TEXT, "a"}, {HS_EVENT_TEXT, "b"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    static const char *const bodies[] = {
        "{\"prompt\":[\"x\",\"y\"],\"echo\":true,\"stop\":[\"s\"],\"logit_bias\":{\"7\":1}}",
        "{\"prompt\":[1,2],\"n\":2,\"stream\":true,\"logprobs\":1,"
        "\"stream_options\":{\"include_usage\":true}}",
    };
    for (size_t i = 0; i < 2; i++) {
        rest_without_memory(*state, "POST /v1/completions", bodies[i], &answer, 1);
    }
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *fields, *param;
    } rows[] = {
        {"\"model\":\"fake\"", "prompt"},
        {"\"prompt\":null", "prompt"},
        {"\"prompt\":5", "prompt"},
        {"\"prompt\":[]", "prompt"},
        {"\"prompt\":[[]]", "prompt"},
        {"\"prompt\":[1.5]", "prompt"},
        {"\"prompt\":[1,\"a\"]", "prompt"},
        {"\"prompt\":[-1]", "prompt"},
        {"\"prompt\":[257]", "prompt"},
        {"\"prompt\":[1,4294967297]", "prompt"},
        {"\"prompt\":[\"a\",[300]]", "prompt"},
        {"\"prompt\":[\"a\",\"b\",\"c\",\"d\",\"e\"]", "prompt"},
        {"\"prompt\":[\"a\",\"b\",\"c\"],\"n\":2", "prompt"},
        {"\"prompt\":\"a\",\"echo\":1", "echo"},
        {"\"prompt\":\"a\",\"echo\":true,\"logprobs\":1", "echo"},
        {"\"prompt\":\"a\",\"logprobs\":true", "logprobs"},
        {"\"prompt\":\"a\",\"logprobs\":21", "logprobs"},
        {"\"prompt\":\"a\",\"suffix\":\"b\"", "suffix"},
        {"\"prompt\":\"a\",\"best_of\":2", "best_of"},
        {"\"prompt\":\"a\",\"best_of\":0", "best_of"},
        {"\"prompt\":\"a\",\"lora\":[{\"id\":1}]", "lora[0].id"},
        {"\"prompt\":\"a\",\"temperature\":[]", "temperature"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        complete(*state, rows[i].fields, 400);
        rest_expect_error(*state, rows[i].param);
    }
    assert_int_equal(fake_engine.n_asked, 0);
    complete(*state, "\"prompt\":\"a\",\"model\":\"x\"", 404);
    rest_expect_string(*state, "error/param", "model");
}

static void a_prompt_that_is_too_long(void **state)
{
    static const struct fake_answer answer = {.refuse = HS_CONTEXT_FULL,
                                              .error = {.message = "too long"}};
    fake_engine.answers = &answer;
    complete(*state, "\"prompt\":\"a\"", 400);
    rest_expect_string(*state, "error/param", "prompt");
    rest_expect_string(*state, "error/code", "context_length_exceeded");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_text),
        TEST(tokens_are_taken_as_they_are),
        TEST(several_prompts_with_several_answers),
        TEST(logprobs_as_lists),
        TEST(likeliest_tokens_of_one_text),
        TEST(without_memory),
        TEST(bad_fields_are_named),
        TEST(a_prompt_that_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
