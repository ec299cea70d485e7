/* Tests of rest/chat_completions.c and generation.c: whole answers and failures. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "rest_test.h"

static void an_answer_has_every_field(void **state)
{
    struct rest_test *test = *state;
    rest_chat(test, "", 200);
    rest_expect_string(test, "object", "chat.completion");
    rest_expect_string(test, "model", "fake");
    rest_expect_string(test, "system_fingerprint", "fp_ffffffffffff");
    rest_expect_int(test, "choices/0/index", 0);
    rest_expect_string(test, "choices/0/message/role", "assistant");
    rest_expect_string(test, "choices/0/message/content", "Hello world");
    assert_true(json_is_null(rest_at(test, "choices/0/message/refusal")));
    assert_true(json_is_null(rest_at(test, "choices/0/logprobs")));
    rest_expect_string(test, "choices/0/finish_reason", "stop");
    /* the fake's figures: 12 prompt tokens, 4 of them cached; a token a piece */
    rest_expect_int(test, "usage/prompt_tokens", 12);
    rest_expect_int(test, "usage/completion_tokens", 2);
    rest_expect_int(test, "usage/total_tokens", 14);
    rest_expect_int(test, "usage/prompt_tokens_details/cached_tokens", 4);
    rest_expect_int(test, "usage/completion_tokens_details/reasoning_tokens", 0);
    const char *id = json_string_value(rest_at(test, "id"));
    assert_int_equal(strncmp(id, "chatcmpl-", 9), 0);
    assert_true(json_integer_value(rest_at(test, "created")) > 1700000000);
    assert_null(json_object_get(rest_at(test, "choices/0/message"), "reasoning_content"));
    char type[512];
    assert_string_equal(reply_header(&test->reply, "Content-Type", type), "application/json");
    char *first = strdup(id);
    rest_chat(test, "", 200);
    assert_string_not_equal(first, json_string_value(rest_at(test, "id")));
    free(first);
}

static void reasoning_is_apart(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_REASONING, "let me "},
                                               {HS_EVENT_REASONING, "see"},
                                               {HS_EVENT_TEXT, "4"},
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces, .finish = HS_FINISH_LENGTH};
    fake_engine.answers = &answer;
    rest_chat(*state, "", 200);
    rest_expect_string(*state, "choices/0/message/content", "4");
    rest_expect_string(*state, "choices/0/message/reasoning_content", "let me see");
    rest_expect_string(*state, "choices/0/finish_reason", "length");
    rest_expect_int(*state, "usage/completion_tokens_details/reasoning_tokens", 2);
}

static void several_answers(void **state)
{
    static const struct fake_piece one[] = {{HS_EVENT_TEXT, "one"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece two[] = {
        {HS_EVENT_TEXT, "t"}, {HS_EVENT_TEXT, "wo"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answers[] = {{.pieces = one}, {.pieces = two}};
    fake_engine.answers = answers;
    fake_engine.n_answers = 2;
    rest_chat(*state, "\"n\":2,\"seed\":5", 200);
    assert_int_equal(fake_engine.n_asked, 2);
    assert_int_equal(fake_engine.asked[0].params.sampling.seed, 5);
    assert_int_equal(fake_engine.asked[1].params.sampling.seed, 6);
    rest_expect_string(*state, "choices/0/message/content", "one");
    rest_expect_int(*state, "choices/1/index", 1);
    rest_expect_string(*state, "choices/1/message/content", "two");
    /* the prompt counts once */
    rest_expect_int(*state, "usage/prompt_tokens", 12);
    rest_expect_int(*state, "usage/completion_tokens", 3);
}

static void logprobs_of_each_token(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "a\xC3\xA9"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    fake_engine.answers = &answer;
    rest_chat(*state, "\"logprobs\":true,\"top_logprobs\":2", 200);
    assert_int_equal(rest_asked()->params.n_logprobs, 2);
    const json_t *list = rest_at(*state, "choices/0/logprobs/content");
    assert_int_equal(json_array_size(list), 3);
    rest_expect_string(*state, "choices/0/logprobs/content/0/token", "a");
    rest_expect_int(*state, "choices/0/logprobs/content/0/bytes/0", 'a');
    assert_true(json_number_value(rest_at(*state, "choices/0/logprobs/content/0/logprob")) == -0.5);
    assert_int_equal(json_array_size(rest_at(*state, "choices/0/logprobs/content/0/top_logprobs")),
                     2);
    rest_expect_string(*state, "choices/0/logprobs/content/0/top_logprobs/1/token", "b");
    assert_true(json_number_value(rest_at(
                    *state, "choices/0/logprobs/content/0/top_logprobs/1/logprob")) == -1.5);
    /* half a code point: the text is U+FFFD, the bytes are true */
    rest_expect_string(*state, "choices/0/logprobs/content/1/token", "\xEF\xBF\xBD");
    rest_expect_int(*state, "choices/0/logprobs/content/1/bytes/0", 0xC3);
    assert_true(json_is_null(rest_at(*state, "choices/0/logprobs/refusal")));
    rest_reset();
    rest_chat(*state, "\"logprobs\":true", 200);
    assert_int_equal(rest_asked()->params.n_logprobs, 1);
    assert_int_equal(json_array_size(rest_at(*state, "choices/0/logprobs/content/0/top_logprobs")),
                     0);
}

static void what_the_engine_refuses(void **state)
{
    static const struct {
        hs_status status;
        int http;
        const char *param, *code;
    } rows[] = {
        {HS_QUEUE_FULL, 429, NULL, "queue_full"},
        {HS_CONTEXT_FULL, 400, "messages", "context_length_exceeded"},
        {HS_INVALID_ARGUMENT, 400, NULL, NULL},
        {HS_OUT_OF_MEMORY, 500, NULL, NULL},
        {HS_UNAVAILABLE, 503, NULL, NULL},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_reset();
        const struct fake_answer answer = {.refuse = rows[i].status,
                                           .error = {.message = "because"}};
        fake_engine.answers = &answer;
        for (int streamed = 0; streamed <= 1; streamed++) {
            rest_chat(test, streamed ? "\"stream\":true" : "", rows[i].http);
            rest_expect_string(test, "error/message", "because");
            assert_int_equal(json_is_null(rest_at(test, "error/param")), rows[i].param == NULL);
            if (rows[i].code != NULL) {
                rest_expect_string(test, "error/code", rows[i].code);
            }
            char value[512];
            bool may_retry = rows[i].http == 429 || rows[i].http == 503;
            assert_int_equal(reply_header(&test->reply, "Retry-After", value) != NULL, may_retry);
        }
    }
    rest_reset();
}

/* The second of two is refused: the first one is given up. */
static void a_refused_sibling_ends_the_request(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, FAKE_WAIT}};
    static const struct fake_answer answers[] = {
        {.pieces = pieces}, {.refuse = HS_QUEUE_FULL, .error = {.message = "full"}}};
    fake_engine.answers = answers;
    fake_engine.n_answers = 2;
    rest_chat(*state, "\"n\":2", 429);
    wait_for_int(&fake_engine.n_streams, 0);
}

static void an_answer_that_fails(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "half"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {
        .pieces = pieces,
        .finish = HS_FINISH_ERROR,
        .error = {.status = HS_INTERNAL, .message = "the decode failed"}};
    fake_engine.answers = &answer;
    rest_chat(*state, "", 500);
    rest_expect_string(*state, "error/message", "the decode failed");
    rest_expect_string(*state, "error/type", "server_error");
}

static void a_client_that_leaves_cancels(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "a"}, {HS_EVENT_TEXT, FAKE_WAIT}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    for (int streamed = 0; streamed <= 1; streamed++) {
        rest_reset();
        fake_engine.answers = &answer;
        char text[512];
        const char *body = streamed ? "{" USER ",\"stream\":true,\"n\":2}" : "{" USER ",\"n\":2}";
        snprintf(text, sizeof text,
                 "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
        int fd = client_connect(test->server);
        client_send(fd, text);
        wait_for_int(&fake_engine.n_streams, 2);
        close(fd);
        wait_for_int(&fake_engine.n_streams, 0);
        assert_true(atomic_load(&fake_engine.was_cancelled));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_has_every_field), TEST(reasoning_is_apart),
        TEST(several_answers),           TEST(logprobs_of_each_token),
        TEST(what_the_engine_refuses),   TEST(a_refused_sibling_ends_the_request),
        TEST(an_answer_that_fails),      TEST(a_client_that_leaves_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
