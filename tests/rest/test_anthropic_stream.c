/* Tests of rest/anthropic_answer.c: the events of a stream, their order and their names. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rest_test.h"

#define MAX_EVENTS 32
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define BODY(more) "{\"max_tokens\":100,\"stream\":true," HI more "}"

struct events {
    json_t *items[MAX_EVENTS];
    size_t n;
};

/* Every event has a name, which is also its data's "type". */
static void ask(struct rest_test *test, const struct fake_answer *answer, const char *body,
                struct events *ret)
{
    rest_reset();
    if (answer != NULL) {
        fake_engine.answers = answer;
        fake_engine.n_answers = 1;
    }
    rest_ask(test, "POST /v1/messages", body, 200);
    *ret = (struct events){.n = 0};
    for (const char *p = test->reply.body.data; *p != '\0';) {
        char name[64];
        int n = 0;
        assert_int_equal(sscanf(p, "event: %63[a-z_]\ndata: %n", name, &n), 1);
        assert_true(n > 0 && ret->n < MAX_EVENTS);
        const char *end = strstr(p, "\n\n");
        assert_non_null(end);
        json_t *json = json_loadb(p + n, (size_t)(end - p) - (size_t)n, 0, NULL);
        assert_non_null(json);
        assert_string_equal(json_string_value(json_object_get(json, "type")), name);
        ret->items[ret->n++] = json;
        p = end + 2;
    }
}

static void free_events(struct events *events)
{
    for (size_t i = 0; i < events->n; i++) {
        json_decref(events->items[i]);
    }
}

/* The types in order, with the index of their block: "content_block_start 0" */
static void expect_order(const struct events *events, const char *const *want)
{
    for (size_t i = 0; i < events->n || want[i] != NULL; i++) {
        assert_true(i < events->n && want[i] != NULL);
        char got[80];
        const json_t *index = json_object_get(events->items[i], "index");
        const char *type = json_string_value(json_object_get(events->items[i], "type"));
        snprintf(got, sizeof got, "%s", type);
        if (index != NULL) {
            snprintf(got, sizeof got, "%s %d", type, (int)json_integer_value(index));
        }
        assert_string_equal(got, want[i]);
    }
}

/* A string of event i: "delta", "text" */
static void expect(const struct events *events, size_t i, const char *object, const char *field,
                   const char *want)
{
    const json_t *json = json_object_get(json_object_get(events->items[i], object), field);
    assert_true(json_is_string(json));
    assert_string_equal(json_string_value(json), want);
}

static json_int_t usage_of(const json_t *object, const char *field)
{
    const json_t *json = json_object_get(json_object_get(object, "usage"), field);
    assert_true(json_is_integer(json));
    return json_integer_value(json);
}

static void text_comes_in_one_block(void **state)
{
    static const char *const order[] = {"message_start",
                                        "ping",
                                        "content_block_start 0",
                                        "content_block_delta 0",
                                        "content_block_delta 0",
                                        "content_block_stop 0",
                                        "message_delta",
                                        "message_stop",
                                        NULL};
    struct rest_test *test = *state;
    struct events events;
    char value[512];
    ask(test, NULL, BODY(), &events);
    expect_order(&events, order);
    assert_string_equal(reply_header(&test->reply, "Content-Type", value),
                        "text/event-stream; charset=utf-8");
    assert_non_null(reply_header(&test->reply, "request-id", value));
    const json_t *message = json_object_get(events.items[0], "message");
    assert_int_equal(strncmp(json_string_value(json_object_get(message, "id")), "msg_", 4), 0);
    assert_string_equal(json_string_value(json_object_get(message, "model")), "fake");
    assert_string_equal(json_string_value(json_object_get(message, "role")), "assistant");
    assert_true(json_is_array(json_object_get(message, "content")));
    assert_int_equal(json_array_size(json_object_get(message, "content")), 0);
    assert_true(json_is_null(json_object_get(message, "stop_reason")));
    assert_int_equal(usage_of(message, "input_tokens"), FAKE_PROMPT_TOKENS);
    assert_int_equal(usage_of(message, "output_tokens"), 0);
    expect(&events, 2, "content_block", "type", "text");
    expect(&events, 2, "content_block", "text", "");
    expect(&events, 3, "delta", "type", "text_delta");
    expect(&events, 3, "delta", "text", "Hello");
    expect(&events, 4, "delta", "text", " world");
    expect(&events, 6, "delta", "stop_reason", "end_turn");
    assert_int_equal(usage_of(events.items[6], "input_tokens"), 8);
    assert_int_equal(usage_of(events.items[6], "cache_read_input_tokens"), 4);
    assert_int_equal(usage_of(events.items[6], "output_tokens"), 2);
    free_events(&events);
}

static const struct fake_piece all_kinds[] = {{HS_EVENT_REASONING, "let me "},
                                              {HS_EVENT_REASONING, "see"},
                                              {HS_EVENT_TEXT, "line\n\n\"one\"\r"},
                                              FAKE_CALL(0, "a1", "weather", "{\"city\":"),
                                              FAKE_ARGUMENTS(0, "\"Paris\"}"),
                                              FAKE_CALL(1, "a2", "time", ""),
                                              {HS_EVENT_TEXT, NULL}};

static void each_kind_has_a_block_of_its_own(void **state)
{
    static const char *const order[] = {"message_start",
                                        "ping",
                                        "content_block_start 0",
                                        "content_block_delta 0", /* thinking */
                                        "content_block_delta 0",
                                        "content_block_delta 0", /* its signature */
                                        "content_block_stop 0",
                                        "content_block_start 1",
                                        "content_block_delta 1",
                                        "content_block_stop 1",
                                        "content_block_start 2",
                                        "content_block_delta 2", /* the first call */
                                        "content_block_delta 2",
                                        "content_block_stop 2",
                                        "content_block_start 3",
                                        "content_block_stop 3",
                                        "message_delta",
                                        "message_stop",
                                        NULL};
    static const struct fake_answer answer = {.pieces = all_kinds};
    struct events events;
    ask(*state, &answer, BODY(), &events);
    expect_order(&events, order);
    expect(&events, 2, "content_block", "type", "thinking");
    expect(&events, 2, "content_block", "thinking", "");
    expect(&events, 2, "content_block", "signature", "");
    expect(&events, 3, "delta", "type", "thinking_delta");
    expect(&events, 3, "delta", "thinking", "let me ");
    expect(&events, 5, "delta", "type", "signature_delta");
    assert_true(json_string_length(
                    json_object_get(json_object_get(events.items[5], "delta"), "signature")) > 0);
    expect(&events, 8, "delta", "text", "line\n\n\"one\"\r");
    expect(&events, 10, "content_block", "type", "tool_use");
    expect(&events, 10, "content_block", "id", "a1");
    expect(&events, 10, "content_block", "name", "weather");
    const json_t *block = json_object_get(events.items[10], "content_block");
    assert_int_equal(json_object_size(json_object_get(block, "input")), 0);
    expect(&events, 11, "delta", "type", "input_json_delta");
    expect(&events, 11, "delta", "partial_json", "{\"city\":");
    expect(&events, 12, "delta", "partial_json", "\"Paris\"}");
    expect(&events, 14, "content_block", "name", "time");
    expect(&events, 16, "delta", "stop_reason", "tool_use");
    free_events(&events);
}

static void thinking_that_nobody_reads_has_a_signature_only(void **state)
{
    static const char *const order[] = {"message_start",
                                        "ping",
                                        "content_block_start 0",
                                        "content_block_delta 0",
                                        "content_block_stop 0",
                                        "content_block_start 1",
                                        "content_block_delta 1",
                                        "content_block_stop 1",
                                        "message_delta",
                                        "message_stop",
                                        NULL};
    static const struct fake_piece pieces[] = {
        {HS_EVENT_REASONING, "mm"}, {HS_EVENT_TEXT, "4"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct events events;
    ask(*state, &answer, BODY(",\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"}"),
        &events);
    expect_order(&events, order);
    expect(&events, 3, "delta", "type", "signature_delta");
    free_events(&events);
}

static void an_empty_answer_has_no_blocks(void **state)
{
    static const char *const order[] = {"message_start", "ping", "message_delta", "message_stop",
                                        NULL};
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, ""}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces, .stopped_by = 1};
    struct events events;
    ask(*state, &answer, BODY(",\"stop_sequences\":[\"s\\\"\"]"), &events);
    expect_order(&events, order);
    expect(&events, 2, "delta", "stop_reason", "stop_sequence");
    expect(&events, 2, "delta", "stop_sequence", "s\"");
    free_events(&events);
}

static void a_failure_in_the_middle_is_an_event(void **state)
{
    static const char *const order[] = {"message_start",         "ping",  "content_block_start 0",
                                        "content_block_delta 0", "error", NULL};
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "half"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {
        .pieces = pieces,
        .finish = HS_FINISH_ERROR,
        .error = {.status = HS_INTERNAL, .message = "the decode failed"}};
    struct events events;
    ask(*state, &answer, BODY(), &events);
    expect_order(&events, order);
    expect(&events, 4, "error", "type", "api_error");
    expect(&events, 4, "error", "message", "the decode failed");
    free_events(&events);
}

/* While the prompt is evaluated, too: nothing came of the engine yet. */
static void silence_has_pings(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, FAKE_WAIT}};
    static const struct fake_answer answer = {.pieces = pieces};
    static const char body[] = BODY();
    struct rest_test *test = *state;
    char text[1024];
    test->rest.ping_ms = 20;
    fake_engine.answers = &answer;
    snprintf(text, sizeof text,
             "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    int fd = client_connect(test->server);
    struct hs_buf out HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    client_send(fd, text);
    for (int i = 0; i < 3; i++) { /* the first one stands behind message_start in any case */
        assert_true(
            client_read_until(fd, &out, "event: ping\ndata: {\"type\":\"ping\"}\n\n", LONG_MS));
        hs_buf_clear(&out);
    }
    close(fd);
    wait_for_int(&fake_engine.n_streams, 0);
}

static void a_client_that_leaves_cancels(void **state)
{
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "begun"},
                                               {HS_EVENT_TEXT, FAKE_WAIT}};
    static const struct fake_answer answer = {.pieces = pieces};
    struct rest_test *test = *state;
    static const char body[] = BODY();
    char text[1024];
    fake_engine.answers = &answer;
    snprintf(text, sizeof text,
             "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    int fd = client_connect(test->server);
    struct hs_buf out HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    client_send(fd, text);
    assert_true(client_read_until(fd, &out, "begun", 5000));
    close(fd);
    wait_for_int(&fake_engine.n_streams, 0);
    assert_true(fake_engine.was_cancelled);
}

static void every_allocation_fails_once(void **state)
{
    static const struct fake_answer answer = {.pieces = all_kinds};
    rest_without_memory(*state, "POST /v1/messages", BODY(), &answer, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(text_comes_in_one_block),
        TEST(each_kind_has_a_block_of_its_own),
        TEST(thinking_that_nobody_reads_has_a_signature_only),
        TEST(an_empty_answer_has_no_blocks),
        TEST(a_failure_in_the_middle_is_an_event),
        TEST(silence_has_pings),
        TEST(a_client_that_leaves_cancels),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
