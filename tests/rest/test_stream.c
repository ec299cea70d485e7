/* Tests of streamed answers: the events of Server-Sent Events, one by one. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "rest_test.h"

#define MAX_EVENTS 32

/* The data of each event of the last reply; JSON, but for [DONE] which is NULL. */
struct events {
    json_t *items[MAX_EVENTS];
    size_t n;
    bool is_done; /* [DONE] came, and came last */
};

static void read_events(const struct rest_test *test, struct events *ret)
{
    *ret = (struct events){.n = 0};
    const char *p = test->reply.body.data;
    while (*p != '\0') {
        const char *end = strstr(p, "\n\n");
        assert_non_null(end);
        assert_int_equal(strncmp(p, "data: ", 6), 0);
        assert_false(ret->is_done);
        if (strncmp(p + 6, "[DONE]", 6) == 0) {
            ret->is_done = true;
        } else {
            assert_true(ret->n < MAX_EVENTS);
            json_t *json = json_loadb(p + 6, (size_t)(end - p) - 6, 0, NULL);
            assert_non_null(json);
            ret->items[ret->n++] = json;
        }
        p = end + 2;
    }
}

static void free_events(struct events *events)
{
    for (size_t i = 0; i < events->n; i++) {
        json_decref(events->items[i]);
    }
}

static const json_t *choice(const struct events *events, size_t i)
{
    const json_t *list = json_object_get(events->items[i], "choices");
    assert_int_equal(json_array_size(list), 1);
    return json_array_get(list, 0);
}

static void expect_delta(const struct events *events, size_t i, const char *name, const char *want)
{
    const json_t *delta = json_object_get(choice(events, i), "delta");
    assert_string_equal(json_string_value(json_object_get(delta, name)), want);
    assert_true(json_is_null(json_object_get(choice(events, i), "finish_reason")));
}

static void role_texts_end_and_done(void **state)
{
    struct rest_test *test = *state;
    struct events events;
    rest_chat(test, "\"stream\":true", 200);
    char type[512];
    assert_string_equal(reply_header(&test->reply, "Content-Type", type),
                        "text/event-stream; charset=utf-8");
    read_events(test, &events);
    assert_true(events.is_done);
    assert_int_equal(events.n, 4);
    expect_delta(&events, 0, "role", "assistant");
    expect_delta(&events, 1, "content", "Hello");
    expect_delta(&events, 2, "content", " world");
    assert_int_equal(json_object_size(json_object_get(choice(&events, 3), "delta")), 0);
    assert_string_equal(json_string_value(json_object_get(choice(&events, 3), "finish_reason")),
                        "stop");
    const char *id = json_string_value(json_object_get(events.items[0], "id"));
    for (size_t i = 0; i < events.n; i++) {
        assert_string_equal(json_string_value(json_object_get(events.items[i], "id")), id);
        assert_string_equal(json_string_value(json_object_get(events.items[i], "object")),
                            "chat.completion.chunk");
        assert_string_equal(json_string_value(json_object_get(events.items[i], "model")), "fake");
        assert_null(json_object_get(events.items[i], "usage"));
    }
    free_events(&events);
}

static void usage_comes_last_when_asked_for(void **state)
{
    struct events events;
    rest_chat(*state, "\"stream\":true,\"stream_options\":{\"include_usage\":true}", 200);
    read_events(*state, &events);
    assert_true(events.is_done);
    assert_int_equal(events.n, 5);
    for (size_t i = 0; i < 4; i++) {
        assert_true(json_is_null(json_object_get(events.items[i], "usage")));
    }
    const json_t *last = events.items[4];
    assert_int_equal(json_array_size(json_object_get(last, "choices")), 0);
    assert_true(json_is_array(json_object_get(last, "choices")));
    const json_t *usage = json_object_get(last, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 12);
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 2);
    free_events(&events);
}

static void reasoning_and_odd_texts(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_REASONING, "why"},
                                               {HS_EVENT_TEXT, ""},
                                               {HS_EVENT_TEXT, "a\n\r\n\"b\\\t\x01"},
                                               {HS_EVENT_TEXT, "\n\ndata: [DONE]\n\n"},
                                               {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces, .finish = HS_FINISH_LENGTH};
    struct events events;
    fake_engine.answers = &answer;
    rest_chat(*state, "\"stream\":true", 200);
    read_events(*state, &events);
    assert_true(events.is_done);
    assert_int_equal(events.n, 5); /* role, reasoning, two texts, end: no empty text */
    expect_delta(&events, 1, "reasoning_content", "why");
    expect_delta(&events, 2, "content", "a\n\r\n\"b\\\t\x01");
    expect_delta(&events, 3, "content", "\n\ndata: [DONE]\n\n");
    assert_string_equal(json_string_value(json_object_get(choice(&events, 4), "finish_reason")),
                        "length");
    free_events(&events);
}

static void each_of_several_answers_is_whole(void **state)
{
    static const struct fake_piece one[] = {{HS_EVENT_TEXT, "one"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece two[] = {
        {HS_EVENT_TEXT, "t"}, {HS_EVENT_TEXT, "wo"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answers[] = {{.pieces = one}, {.pieces = two}};
    struct events events;
    char texts[2][16] = {"", ""};
    int n_roles[2] = {0}, n_ends[2] = {0};
    fake_engine.answers = answers;
    fake_engine.n_answers = 2;
    rest_chat(*state, "\"stream\":true,\"n\":2", 200);
    read_events(*state, &events);
    assert_true(events.is_done);
    for (size_t i = 0; i < events.n; i++) {
        const json_t *part = choice(&events, i);
        json_int_t index = json_integer_value(json_object_get(part, "index"));
        assert_in_range(index, 0, 1);
        const json_t *delta = json_object_get(part, "delta");
        const char *content = json_string_value(json_object_get(delta, "content"));
        assert_int_equal(n_ends[index], 0);
        n_roles[index] += json_object_get(delta, "role") != NULL;
        assert_int_equal(n_roles[index], 1);
        n_ends[index] += json_is_string(json_object_get(part, "finish_reason"));
        strncat(texts[index], content == NULL ? "" : content, 8);
    }
    assert_string_equal(texts[0], "one");
    assert_string_equal(texts[1], "two");
    assert_int_equal(n_ends[0] + n_ends[1], 2);
    free_events(&events);
}

static void logprobs_go_with_their_text(void **state)
{
    struct events events;
    rest_chat(*state, "\"stream\":true,\"logprobs\":true,\"top_logprobs\":1", 200);
    read_events(*state, &events);
    assert_int_equal(events.n, 4);
    assert_true(json_is_null(json_object_get(choice(&events, 0), "logprobs")));
    const json_t *list =
        json_object_get(json_object_get(choice(&events, 2), "logprobs"), "content");
    assert_int_equal(json_array_size(list), strlen(" world"));
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "token")), "w");
    free_events(&events);
}

static void a_failure_in_the_middle_is_an_event(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "half"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {
        .pieces = pieces,
        .finish = HS_FINISH_ERROR,
        .error = {.status = HS_INTERNAL, .message = "the decode failed"}};
    struct events events;
    fake_engine.answers = &answer;
    rest_chat(*state, "\"stream\":true", 200);
    read_events(*state, &events);
    assert_false(events.is_done);
    assert_int_equal(events.n, 3);
    expect_delta(&events, 1, "content", "half");
    const json_t *error = json_object_get(events.items[2], "error");
    assert_string_equal(json_string_value(json_object_get(error, "message")), "the decode failed");
    assert_string_equal(json_string_value(json_object_get(error, "type")), "server_error");
    free_events(&events);
}

/* More text than one pull gives. */
static void long_answers_are_whole(void **state)
{
    static struct fake_piece pieces[4001];
    for (size_t i = 0; i < 4000; i++) {
        pieces[i] = (struct fake_piece){HS_EVENT_TEXT, "0123456789"};
    }
    const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    fake_engine.answers = &answer;
    rest_chat(test, "\"stream\":true", 200);
    size_t n = 0;
    for (const char *p = test->reply.body.data; (p = strstr(p, "0123456789")) != NULL; p++) {
        n++;
    }
    assert_int_equal(n, 4000);
    assert_non_null(strstr(test->reply.body.data, "data: [DONE]\n\n"));
    rest_chat(test, "", 200);
    assert_int_equal(json_string_length(rest_at(test, "choices/0/message/content")), 40000);
}

static void completions_have_their_own_chunks(void **state)
{
    struct events events;
    rest_ask(*state, "POST /v1/completions", "{\"prompt\":\"Once\",\"stream\":true,\"echo\":true}",
             200);
    read_events(*state, &events);
    assert_true(events.is_done);
    static const char *const want[] = {"Once", "Hello", " world", ""};
    assert_int_equal(events.n, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(json_string_value(json_object_get(events.items[i], "object")),
                            "text_completion");
        assert_string_equal(json_string_value(json_object_get(choice(&events, i), "text")),
                            want[i]);
    }
    free_events(&events);
    rest_ask(*state, "POST /v1/completions", "{\"prompt\":\"Once\",\"stream\":true}", 200);
    read_events(*state, &events);
    assert_int_equal(events.n, 3);
    free_events(&events);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(role_texts_end_and_done),     TEST(usage_comes_last_when_asked_for),
        TEST(reasoning_and_odd_texts),     TEST(each_of_several_answers_is_whole),
        TEST(logprobs_go_with_their_text), TEST(a_failure_in_the_middle_is_an_event),
        TEST(long_answers_are_whole),      TEST(completions_have_their_own_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
