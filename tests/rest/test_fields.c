/* Tests of rest/fields.c, settings.c and messages.c: each field that works, each that is refused.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rest_test.h"

#define SAMPLING(field) offsetof(struct hs_sampling, field)

/* ---- fields that work ---- */

static void every_number_reaches_the_engine(void **state)
{
    static const struct {
        const char *name, *value;
        size_t offset;
        bool is_int;
    } rows[] = {
        {"temperature", "0.25", SAMPLING(temp), false},
        {"dynatemp_range", "0.5", SAMPLING(dynatemp_range), false},
        {"dynatemp_exponent", "2", SAMPLING(dynatemp_exponent), false},
        {"top_p", "0.75", SAMPLING(top_p), false},
        {"min_p", "0.125", SAMPLING(min_p), false},
        {"typical_p", "0.5", SAMPLING(typical_p), false},
        {"top_n_sigma", "1.5", SAMPLING(top_n_sigma), false},
        {"xtc_probability", "0.5", SAMPLING(xtc_probability), false},
        {"xtc_threshold", "0.25", SAMPLING(xtc_threshold), false},
        {"repeat_penalty", "1.25", SAMPLING(repeat_penalty), false},
        {"frequency_penalty", "-1.5", SAMPLING(frequency_penalty), false},
        {"presence_penalty", "1.5", SAMPLING(presence_penalty), false},
        {"dry_multiplier", "0.75", SAMPLING(dry_multiplier), false},
        {"dry_base", "1.5", SAMPLING(dry_base), false},
        {"mirostat_tau", "4", SAMPLING(mirostat_tau), false},
        {"mirostat_eta", "0.5", SAMPLING(mirostat_eta), false},
        {"adaptive_target", "0.5", SAMPLING(adaptive_target), false},
        {"adaptive_decay", "0.5", SAMPLING(adaptive_decay), false},
        {"top_k", "7", SAMPLING(top_k), true},
        {"repeat_last_n", "-1", SAMPLING(repeat_last_n), true},
        {"dry_allowed_length", "3", SAMPLING(dry_allowed_length), true},
        {"dry_penalty_last_n", "9", SAMPLING(dry_penalty_last_n), true},
        {"mirostat", "2", SAMPLING(mirostat), true},
        {"seed", "77", SAMPLING(seed), true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char more[128];
        rest_reset();
        snprintf(more, sizeof more, "\"%s\":%s", rows[i].name, rows[i].value);
        rest_chat(*state, more, 200);
        const char *base = (const char *)&rest_asked()->params.sampling;
        if (rows[i].is_int) {
            int32_t got;
            memcpy(&got, base + rows[i].offset, sizeof got);
            assert_int_equal(got, strtol(rows[i].value, NULL, 10));
        } else {
            float got;
            memcpy(&got, base + rows[i].offset, sizeof got);
            assert_float_is(got, strtod(rows[i].value, NULL));
        }
    }
}

static void null_and_unknown_fields_change_nothing(void **state)
{
    struct rest_test *test = *state;
    test->rest.defaults.sampling.temp = 0.5F;
    test->rest.defaults.max_tokens = 9;
    rest_chat(test,
              "\"temperature\":null,\"max_tokens\":null,\"stop\":null,\"n\":null,\"tools\":null,"
              "\"response_format\":null,\"stream_options\":null,\"logprobs\":null,"
              "\"user\":\"me\",\"metadata\":{\"a\":1},\"whatever\":[1]",
              200);
    assert_float_is(rest_asked()->params.sampling.temp, 0.5);
    assert_int_equal(rest_asked()->params.max_tokens, 9);
    assert_int_equal(rest_asked()->params.n_stop, 0);
}

static void lengths(void **state)
{
    static const struct {
        const char *fields;
        int32_t want;
    } rows[] = {
        {"\"max_tokens\":5", 5},
        {"\"max_completion_tokens\":6", 6},
        {"\"max_completion_tokens\":6,\"max_tokens\":5", 6},
        {"\"n_predict\":4", 4},
        {"\"max_tokens\":-1", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        rest_chat(*state, rows[i].fields, 200);
        assert_int_equal(rest_asked()->params.max_tokens, rows[i].want);
    }
}

static void seeds_of_64_bits(void **state)
{
    static const struct {
        const char *text;
        uint32_t want;
    } rows[] = {
        {"0", 0},
        {"-1", HS_SEED_RANDOM},
        {"4294967295", HS_SEED_RANDOM - 1}, /* not "any", as the client means this one */
        {"4294967296", 1},                  /* 1 << 32 folds to 1 */
        {"9223372036854775807", 0x80000000u},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char more[64];
        rest_reset();
        snprintf(more, sizeof more, "\"seed\":%s", rows[i].text);
        rest_chat(*state, more, 200);
        assert_int_equal(rest_asked()->params.sampling.seed, rows[i].want);
    }
}

static void lists_and_texts(void **state)
{
    rest_chat(*state,
              "\"stop\":[\"a\",\"b c\"],\"logit_bias\":{\"7\":-100,\"256\":1.5},"
              "\"samplers\":[\"top_k\",\"temperature\"],\"grammar\":\"root ::= [a]\","
              "\"dry_sequence_breakers\":[\"x\"],\"ignore_eos\":true,\"cache_prompt\":false",
              200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->params.n_stop, 2);
    assert_string_equal(asked->stop[0], "a");
    assert_string_equal(asked->stop[1], "b c");
    assert_int_equal(asked->params.sampling.n_logit_bias, 2);
    assert_int_equal(asked->bias_tokens[0], 7);
    assert_float_is(asked->bias_values[0], -100);
    assert_int_equal(asked->bias_tokens[1], 256);
    assert_float_is(asked->bias_values[1], 1.5);
    assert_string_equal(asked->samplers, "top_k;temperature");
    assert_string_equal(asked->grammar, "root ::= [a]");
    assert_int_equal(asked->params.sampling.n_dry_breakers, 1);
    assert_string_equal(asked->breakers[0], "x");
    assert_true(asked->params.ignore_eos);
    assert_false(asked->params.cache_prompt);
    rest_reset();
    rest_chat(*state, "\"stop\":\"one\",\"grammar\":\"\"", 200);
    assert_string_equal(rest_asked()->stop[0], "one");
    assert_null(rest_asked()->grammar);
}

static void reasoning_is_switched_by_any_name(void **state)
{
    static const struct {
        const char *fields;
        bool thinks;
    } rows[] = {
        {"\"enable_thinking\":false", false},
        {"\"reasoning_effort\":\"none\"", false},
        {"\"chat_template_kwargs\":{\"enable_thinking\":false}", false},
        {"\"reasoning_effort\":\"high\"", true},
        {"\"enable_thinking\":true", true},
        {"\"reasoning_format\":\"deepseek\"", true},
    };
    struct rest_test *test = *state;
    test->rest.defaults.enable_thinking = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        rest_chat(test, rows[i].fields, 200);
        assert_int_equal(rest_asked()->params.enable_thinking, rows[i].thinks);
        assert_true(rest_asked()->params.split_reasoning);
    }
    rest_reset();
    rest_chat(test, "\"reasoning_format\":\"none\"", 200);
    assert_false(rest_asked()->params.split_reasoning);
}

/* ---- messages ---- */

static void roles_and_parts(void **state)
{
    rest_ask(*state, "POST /v1/chat/completions",
             "{\"messages\":[{\"role\":\"developer\",\"content\":\"rules\"},"
             "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
             "{\"type\":\"text\",\"text\":\"b\"}]},"
             "{\"role\":\"assistant\",\"content\":\"c\",\"reasoning_content\":\"why\","
             "\"tool_calls\":[],\"refusal\":null},{\"role\":\"user\",\"content\":[]}]}",
             200);
    const struct fake_asked *asked = rest_asked();
    assert_int_equal(asked->n_messages, 4);
    assert_string_equal(asked->messages[0].role, "system");
    assert_string_equal(asked->messages[0].content, "rules");
    assert_string_equal(asked->messages[1].role, "user");
    assert_string_equal(asked->messages[1].content, "a\nb");
    assert_string_equal(asked->messages[2].role, "assistant");
    assert_string_equal(asked->messages[2].reasoning, "why");
    assert_string_equal(asked->messages[3].content, "");
}

static void bad_messages_are_named(void **state)
{
    static const struct {
        const char *messages, *param;
    } rows[] = {
        {"null", "messages"},
        {"[]", "messages"},
        {"{}", "messages"},
        {"\"Hi\"", "messages"},
        {"[1]", "messages[0]"},
        {"[{\"content\":\"a\"}]", "messages[0].role"},
        {"[{\"role\":1,\"content\":\"a\"}]", "messages[0].role"},
        {"[{\"role\":\"king\",\"content\":\"a\"}]", "messages[0].role"},
        {"[{\"role\":\"tool\",\"content\":\"a\"}]", "messages[0].tool_call_id"},
        {"[{\"role\":\"user\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":1}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":[\"a\"]}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":[{}]}]", "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}]",
         "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
         "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]",
         "messages[0].content[1].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]",
         "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\","
         "\"tool_calls\":[{\"id\":\"x\"}]}]",
         "messages[1].tool_calls[0].function"},
        {"[{\"role\":\"assistant\",\"content\":\"b\",\"reasoning_content\":2}]",
         "messages[0].reasoning_content"},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[1]}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]",
         "messages[0].tool_calls[0].id"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\",\"type\":\"custom\"}]}]",
         "messages[0].tool_calls[0].type"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\",\"function\":{}}]}]",
         "messages[0].tool_calls[0].function.name"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\","
         "\"arguments\":\"{\"}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\","
         "\"arguments\":\"[1]\"}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\","
         "\"arguments\":7}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
        {"[{\"role\":\"tool\",\"tool_call_id\":\"x\"}]", "messages[0].content"},
        {"[{\"role\":\"function\",\"content\":\"x\"}]", "messages[0].name"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"messages\":%s}", rows[i].messages);
        rest_ask(*state, "POST /v1/chat/completions", body, 400);
        rest_expect_error(*state, rows[i].param);
    }
    rest_ask(*state, "POST /v1/chat/completions", "{}", 400);
    rest_expect_error(*state, "messages");
    assert_int_equal(fake_engine.n_asked, 0);
}

static void messages_at_the_limit(void **state)
{
    for (int n = 8; n <= 9; n++) {
        struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(8192);
        assert_int_equal(hs_buf_append_str(&body, "{\"messages\":["), HS_OK);
        for (int i = 0; i < n; i++) {
            assert_int_equal(
                hs_buf_printf(&body, "%s{\"role\":\"user\",\"content\":\"a\"}", i == 0 ? "" : ","),
                HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&body, "]}"), HS_OK);
        rest_ask(*state, "POST /v1/chat/completions", body.data, n == 8 ? 200 : 400);
    }
    rest_expect_error(*state, "messages");
}

/* ---- fields that are refused ---- */

#define TOOL(name, more) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"" more "}}"

static const struct {
    const char *fields, *param;
} bad_fields[] = {
    {"\"temperature\":\"hot\"", "temperature"},
    {"\"temperature\":-0.5", "temperature"},
    {"\"temperature\":100.5", "temperature"},
    {"\"temperature\":true", "temperature"},
    {"\"top_p\":1.5", "top_p"},
    {"\"top_p\":-0.1", "top_p"},
    {"\"min_p\":2", "min_p"},
    {"\"top_k\":1.5", "top_k"},
    {"\"top_k\":-2", "top_k"},
    {"\"mirostat\":3", "mirostat"},
    {"\"repeat_penalty\":0", "repeat_penalty"},
    {"\"frequency_penalty\":2.5", "frequency_penalty"},
    {"\"presence_penalty\":-2.5", "presence_penalty"},
    {"\"seed\":\"x\"", "seed"},
    {"\"seed\":1.5", "seed"},
    {"\"max_tokens\":0", "max_tokens"},
    {"\"max_tokens\":-2", "max_tokens"},
    {"\"max_tokens\":2147483648", "max_tokens"},
    {"\"max_completion_tokens\":\"5\"", "max_completion_tokens"},
    {"\"n\":0", "n"},
    {"\"n\":5", "n"},
    {"\"n\":\"2\"", "n"},
    {"\"stop\":1", "stop"},
    {"\"stop\":[1]", "stop"},
    {"\"stop\":[\"\"]", "stop"},
    {"\"stop\":\"\"", "stop"},
    {"\"logit_bias\":[]", "logit_bias"},
    {"\"logit_bias\":{\"257\":1}", "logit_bias"},
    {"\"logit_bias\":{\"-1\":1}", "logit_bias"},
    {"\"logit_bias\":{\"1x\":1}", "logit_bias"},
    {"\"logit_bias\":{\"\":1}", "logit_bias"},
    {"\"logit_bias\":{\"1\":101}", "logit_bias"},
    {"\"logit_bias\":{\"1\":\"2\"}", "logit_bias"},
    {"\"samplers\":\"top_k\"", "samplers"},
    {"\"grammar\":1", "grammar"},
    {"\"ignore_eos\":1", "ignore_eos"},
    {"\"cache_prompt\":\"no\"", "cache_prompt"},
    {"\"stream\":1", "stream"},
    {"\"stream_options\":{\"include_usage\":true}", "stream_options"},
    {"\"stream\":true,\"stream_options\":1", "stream_options"},
    {"\"stream\":true,\"stream_options\":{\"include_usage\":1}", "stream_options.include_usage"},
    {"\"logprobs\":5", "logprobs"},
    {"\"top_logprobs\":2", "top_logprobs"},
    {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
    {"\"logprobs\":true,\"top_logprobs\":-1", "top_logprobs"},
    {"\"reasoning_effort\":\"lots\"", "reasoning_effort"},
    {"\"reasoning_effort\":1", "reasoning_effort"},
    {"\"reasoning_format\":\"x\"", "reasoning_format"},
    {"\"enable_thinking\":1", "enable_thinking"},
    {"\"chat_template_kwargs\":1", "chat_template_kwargs"},
    {"\"chat_template_kwargs\":{\"enable_thinking\":1}", "chat_template_kwargs.enable_thinking"},
    {"\"modalities\":[\"text\",\"audio\"]", "modalities"},
    {"\"modalities\":1", "modalities"},
    {"\"response_format\":{\"type\":\"xml\"}", "response_format.type"},
    {"\"response_format\":{\"type\":\"json_schema\"}", "response_format.json_schema"},
    {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":1}",
     "response_format.json_schema"},
    {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}",
     "response_format.json_schema.name"},
    {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\"}}",
     "response_format.json_schema.schema"},
    {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":[]}"
     "}",
     "response_format.json_schema.schema"},
    {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":{},"
     "\"strict\":1}}",
     "response_format.json_schema.strict"},
    {"\"response_format\":{\"type\":\"json_object\",\"schema\":1}", "response_format.schema"},
    {"\"response_format\":{\"type\":\"json_object\"},\"grammar\":\"root ::= [a]\"",
     "response_format"},
    {"\"response_format\":{}", "response_format.type"},
    {"\"response_format\":1", "response_format"},
    {"\"json_schema\":{\"type\":\"object\"},\"grammar\":\"root ::= [a]\"", "json_schema"},
    {"\"json_schema\":\"x\"", "json_schema"},
    {"\"tools\":{}", "tools"},
    {"\"tools\":[1]", "tools"},
    {"\"tools\":[{}]", "tools[0].type"},
    {"\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"x\"}}]", "tools[0].type"},
    {"\"tools\":[{\"type\":\"function\"}]", "tools[0].function"},
    {"\"tools\":[{\"type\":\"function\",\"function\":{}}]", "tools[0].function.name"},
    {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"\"}}]", "tools[0].function.name"},
    {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]",
     "tools[0].function.name"},
    {"\"tools\":[" TOOL("a", "") "," TOOL("a", "") "]", "tools[1].function.name"},
    {"\"tools\":[" TOOL("a", ",\"description\":1") "]", "tools[0].function.description"},
    {"\"tools\":[" TOOL("a", ",\"parameters\":1") "]", "tools[0].function.parameters"},
    {"\"tools\":[" TOOL("a", ",\"strict\":1") "]", "tools[0].function.strict"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":\"must\"", "tool_choice"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":1", "tool_choice"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":{}", "tool_choice.type"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":{\"type\":\"custom\"}", "tool_choice.type"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":{\"type\":\"function\"}",
     "tool_choice.function"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":" TOOL("b", ""), "tool_choice.function.name"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":{\"type\":\"allowed_tools\"}",
     "tool_choice.allowed_tools.mode"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":{\"type\":\"allowed_tools\","
                                 "\"allowed_tools\":{\"mode\":\"auto\",\"tools\":[]}}",
     "tool_choice.allowed_tools.tools"},
    {"\"tools\":[" TOOL("a", "") "],\"tool_choice\":{\"type\":\"allowed_tools\","
                                 "\"allowed_tools\":{\"mode\":\"auto\",\"tools\":[" TOOL("b",
                                                                                         "") "]}}",
     "tool_choice.allowed_tools.tools[0].function.name"},
    {"\"tools\":[" TOOL("a", "") "],\"parallel_tool_calls\":1", "parallel_tool_calls"},
    {"\"tool_choice\":\"required\"", "tool_choice"},
    {"\"tool_choice\":{\"type\":\"function\"}", "tool_choice"},
    {"\"functions\":[{}]", "functions"},
    {"\"function_call\":{\"name\":\"a\"}", "function_call"},
    {"\"lora\":[{\"id\":0}]", "lora[0].id"},
    {"\"audio\":{\"voice\":\"x\"}", "audio"},
    {"\"continue_final_message\":true", "continue_final_message"},
    {"\"continue_final_message\":1", "continue_final_message"},
    {"\"continue_final_message\":true,\"add_generation_prompt\":true", "continue_final_message"},
    {"\"add_generation_prompt\":false", "add_generation_prompt"},
    {"\"n_probs\":21", "n_probs"},
};

static void bad_fields_are_named(void **state)
{
    for (size_t i = 0; i < sizeof bad_fields / sizeof bad_fields[0]; i++) {
        rest_chat(*state, bad_fields[i].fields, 400);
        rest_expect_error(*state, bad_fields[i].param);
    }
    assert_int_equal(fake_engine.n_asked, 0);
}

static void fields_that_ask_for_nothing_pass(void **state)
{
    rest_chat(*state,
              "\"tools\":[],\"tool_choice\":\"auto\",\"parallel_tool_calls\":true,"
              "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],\"lora\":[],"
              "\"n_probs\":0,\"continue_final_message\":false,\"store\":true",
              200);
    rest_chat(*state, "\"tool_choice\":\"none\"", 200);
}

/* A limit holds at N and not at N + 1. */
static void lists_at_their_limits(void **state)
{
    for (int extra = 0; extra <= 1; extra++) {
        struct hs_buf stop HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(8192);
        assert_int_equal(hs_buf_append_str(&stop, "\"stop\":["), HS_OK);
        for (int i = 0; i < 64 + extra; i++) {
            assert_int_equal(hs_buf_printf(&stop, "%s\"s%d\"", i == 0 ? "" : ",", i), HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&stop, "]"), HS_OK);
        rest_chat(*state, stop.data, extra ? 400 : 200);
        hs_buf_clear(&stop);
        assert_int_equal(hs_buf_printf(&stop, "\"stop\":\"%0*d\"", 1024 + extra, 0), HS_OK);
        rest_chat(*state, stop.data, extra ? 400 : 200);
    }
    rest_expect_error(*state, "stop");
}

static void limits_of_the_settings(void **state)
{
    struct rest_test *test = *state;
    test->rest.max_stop = 2;
    test->rest.max_schema_bytes = 12;
    rest_chat(test, "\"stop\":[\"a\",\"b\"],\"grammar\":\"root ::= [a]\"", 200);
    rest_chat(test, "\"stop\":[\"a\",\"b\",\"c\"]", 400);
    rest_expect_error(test, "stop");
    rest_chat(test, "\"grammar\":\"root ::= [ab]\"", 400);
    rest_expect_error(test, "grammar");
    test->rest.max_stop = 0;
    rest_chat(test, "\"stop\":\"a\"", 400);
    rest_expect_error(test, "stop");
    rest_chat(test, "\"stop\":[]", 200);
}

static void unknown_models_are_404_and_list_the_known(void **state)
{
    rest_ask(*state, "POST /v1/chat/completions", "{\"model\":\"gpt-4\"," USER "}", 404);
    rest_expect_string(*state, "error/code", "model_not_found");
    rest_expect_string(*state, "error/param", "model");
    const char *message = json_string_value(rest_at(*state, "error/message"));
    assert_non_null(strstr(message, "'gpt-4'"));
    assert_non_null(strstr(message, "'fake'"));
    rest_ask(*state, "POST /v1/chat/completions", "{\"model\":7," USER "}", 400);
    rest_expect_error(*state, "model");
    rest_ask(*state, "POST /v1/chat/completions", "{\"model\":\"\"," USER "}", 200);
    rest_ask(*state, "POST /v1/chat/completions", "{" USER "}", 200);
}

static void bodies_that_are_no_object(void **state)
{
    static const char *const bodies[] = {"", "[", "[]", "{\"messages\":NaN}", "{\"a\":\"\xFF\"}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        rest_ask(*state, "POST /v1/chat/completions", bodies[i], 400);
        rest_expect_error(*state, NULL);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_number_reaches_the_engine),
        TEST(null_and_unknown_fields_change_nothing),
        TEST(lengths),
        TEST(seeds_of_64_bits),
        TEST(lists_and_texts),
        TEST(reasoning_is_switched_by_any_name),
        TEST(roles_and_parts),
        TEST(bad_messages_are_named),
        TEST(messages_at_the_limit),
        TEST(bad_fields_are_named),
        TEST(fields_that_ask_for_nothing_pass),
        TEST(lists_at_their_limits),
        TEST(limits_of_the_settings),
        TEST(unknown_models_are_404_and_list_the_known),
        TEST(bodies_that_are_no_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
