/* Tests of rest/infill.c, and of the suffix of /v1/completions. */
#include <stdio.h>

#include "rest_test.h"

static int setup(void **state)
{
    int rc = rest_setup(state);
    struct rest_test *test = *state;
    test->rest.models[0].can_infill = true;
    return rc;
}

static void expect_prompt(const char *want)
{
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_tokens, strlen(want));
    for (size_t i = 0; i < asked->n_tokens; i++) {
        assert_int_equal(asked->tokens[i], (unsigned char)want[i]);
    }
}

static void a_gap_is_filled(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /infill",
             "{\"input_prefix\":\"ab\",\"input_suffix\":\"yz\",\"prompt\":\"c\",\"n_predict\":48,"
             "\"input_extra\":[{\"filename\":\"f\",\"text\":\"1\"},{\"text\":\"2\"}]}",
             200);
    expect_prompt("{f1}{2}<abc>yz_");
    assert_int_equal(fake_engine.infill_max, 2048 - 48);
    assert_int_equal(rest_asked()->params.max_tokens, 48);
    rest_expect_string(test, "content", "Hello world");
    assert_true(json_is_true(rest_at(test, "stop")));
    rest_expect_string(test, "stop_type", "eos");
    rest_expect_string(test, "model", "fake");
    rest_expect_int(test, "tokens_predicted", 2);
    rest_expect_int(test, "tokens_evaluated", 12);
    rest_reset();
    rest_ask(test, "POST /infill", "{}", 200);
    expect_prompt("<>_");
}

static void how_it_ended(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "x"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answers[] = {
        {.pieces = pieces, .finish = HS_FINISH_LENGTH},
        {.pieces = pieces, .stopped_by = 1},
    };
    static const char *const words[] = {"limit", "word"};
    for (size_t i = 0; i < 2; i++) {
        rest_reset();
        fake_engine.answers = &answers[i];
        rest_ask(*state, "POST /infill", "{\"input_prefix\":\"a\"}", 200);
        rest_expect_string(*state, "stop_type", words[i]);
    }
}

static void streamed(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /infill", "{\"input_prefix\":\"a\",\"stream\":true}", 200);
    const char *body = test->reply.body.data;
    static const char begin[] = "data: {\"content\":\"Hello\",\"index\":0,\"stop\":false}\n\n"
                                "data: {\"content\":\" world\",\"index\":0,\"stop\":false}\n\n"
                                "data: {\"content\":\"\",\"index\":0,\"stop\":true,";
    assert_int_equal(strncmp(body, begin, strlen(begin)), 0);
    assert_string_equal(body + strlen(body) - 3, "}\n\n");
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *body, *param;
    } rows[] = {
        {"{\"input_prefix\":1}", "input_prefix"},
        {"{\"input_suffix\":[]}", "input_suffix"},
        {"{\"prompt\":[1]}", "prompt"},
        {"{\"input_extra\":1}", "input_extra"},
        {"{\"input_extra\":[1]}", "input_extra[0]"},
        {"{\"input_extra\":[{\"text\":\"a\"},{}]}", "input_extra[1].text"},
        {"{\"input_extra\":[{\"text\":1}]}", "input_extra[0].text"},
        {"{\"input_extra\":[{\"text\":\"a\",\"filename\":1}]}", "input_extra[0].filename"},
        {"{\"n_predict\":\"a\"}", "n_predict"},
        {"{\"n\":2}", "n"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_ask(test, "POST /infill", rows[i].body, 400);
        rest_expect_error(test, rows[i].param);
    }
    test->rest.models[0].can_infill = false;
    rest_ask(test, "POST /infill", "{\"input_prefix\":\"a\"}", 400);
    rest_expect_error(test, "model");
    rest_ask(test, "POST /v1/completions", "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400);
    rest_expect_error(test, "suffix");
}

static void a_suffix_of_a_completion(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /v1/completions", "{\"prompt\":[\"a\"],\"suffix\":\"b\"}", 200);
    expect_prompt("<a>b_");
    rest_expect_string(test, "choices/0/text", "Hello world");
    rest_reset();
    rest_ask(test, "POST /v1/completions", "{\"prompt\":\"a\",\"suffix\":\"\"}", 200);
    assert_int_equal(rest_asked()->n_tokens, 2); /* <s> a */
    rest_ask(test, "POST /v1/completions", "{\"prompt\":[1,2],\"suffix\":\"b\"}", 400);
    rest_expect_error(test, "suffix");
    rest_ask(test, "POST /v1/completions", "{\"prompt\":\"a\",\"suffix\":1}", 400);
    rest_expect_error(test, "suffix");
}

static void without_memory(void **state)
{
    struct rest_test *test = *state;
    test->rest.models[0].can_infill = true;
    rest_without_memory(test, "POST /v1/completions", "{\"prompt\":\"a\",\"suffix\":\"b\"}",
                        fake_engine.answers, fake_engine.n_answers);
    rest_without_memory(test, "POST /infill",
                        "{\"input_prefix\":\"a\",\"input_extra\":[{\"text\":\"b\"}]}",
                        fake_engine.answers, fake_engine.n_answers);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_gap_is_filled),
        TEST(how_it_ended),
        TEST(streamed),
        TEST(bad_fields_are_named),
        TEST(a_suffix_of_a_completion),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
