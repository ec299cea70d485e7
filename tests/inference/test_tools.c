/* Answers with tools and schemas through the engine: events, log probabilities, ends, sessions. */
#include "engine_test.h"

#include <stdlib.h>

#include "base/error.h"

static struct hs_error err;
static const struct hs_tool tools[] = {{"look", "Look around", "{\"type\":\"object\"}"},
                                       {"go", NULL, NULL}};
static const struct hs_message question = {.role = "user", .content = "Hi"};

/* The model says this after each <|gen|>, then ends. */
static int32_t say(const int32_t *tokens, size_t n, void *user)
{
    const char *text = user;
    size_t start = n;
    while (start > 0 && tokens[start - 1] != FAKE_GEN) {
        start--;
    }
    size_t i = n - start;
    return i < strlen(text) ? (unsigned char)text[i] : FAKE_EOG;
}

static hs_engine *start(const char *text, int32_t n_ctx)
{
    struct fake_config config = {.next = say, .next_user = (void *)(uintptr_t)text};
    fake_runtime_reset(&config);
    return test_engine(NULL, n_ctx, 4);
}

static struct hs_generate_params with_tools(int32_t max_tokens)
{
    struct hs_generate_params params = test_params(max_tokens);
    params.tools = tools;
    params.n_tools = 2;
    params.parallel_tool_calls = true;
    return params;
}

/* What came, in order: "T:text C0:id0:look:{} ..." with equal neighbours joined. */
struct heard {
    char text[2048];
    int32_t n_tokens, n_logprobs;
    enum hs_finish finish;
    struct hs_usage usage;
    struct hs_error error;
    struct hs_token_logprob tokens[256]; /* the chosen ones that came with log probabilities */
};

static void hear_event(const struct hs_event *event, int32_t n_top, struct heard *heard,
                       enum hs_event_type *last, int32_t *last_index)
{
    size_t len = strlen(heard->text);
    char *to = heard->text + len;
    size_t room = sizeof(heard->text) - len;
    bool is_same =
        len > 0 && event->type == *last && event->index == *last_index && event->tool_name == NULL;
    *last = event->type;
    *last_index = event->index;
    if (is_same) {
        snprintf(to, room, "%s", event->text);
    } else if (event->type == HS_EVENT_TOOL_CALL) {
        snprintf(to, room, " C%d:%s:%s:%s", event->index,
                 event->tool_call_id == NULL ? "-" : event->tool_call_id,
                 event->tool_name == NULL ? "-" : event->tool_name, event->text);
    } else {
        snprintf(to, room, " %c:%s", event->type == HS_EVENT_TEXT ? 'T' : 'R', event->text);
    }
    heard->n_tokens += event->n_tokens;
    for (int32_t i = 0; event->logprobs != NULL && i < event->n_tokens; i++) {
        heard->tokens[heard->n_logprobs++] = event->logprobs[i * (n_top + 1)];
    }
}

static struct heard hear(hs_stream *stream, int32_t n_top)
{
    struct heard heard = {0};
    enum hs_event_type last = HS_EVENT_DONE;
    int32_t last_index = 0;
    struct hs_event event;
    do {
        assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
        if (event.type != HS_EVENT_DONE) {
            hear_event(&event, n_top, &heard, &last, &last_index);
        }
    } while (event.type != HS_EVENT_DONE);
    heard.finish = event.finish;
    heard.usage = event.usage;
    heard.error = event.error;
    hs_stream_free(stream);
    return heard;
}

static struct heard chat(hs_engine *engine, const struct hs_generate_params *params)
{
    hs_stream *stream = NULL;
    if (hs_engine_chat(engine, "m", NULL, 0, &question, 1, params, &stream, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return hear(stream, params->n_logprobs);
}

static void refuse(hs_engine *engine, const struct hs_generate_params *params, hs_status status,
                   const char *what)
{
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &question, 1, params, &stream, &err),
                     status);
    if (strstr(err.message, what) == NULL) {
        fail_msg("'%s' instead of '%s'", err.message, what);
    }
}

static void stop(hs_engine *engine)
{
    hs_engine_free(engine);
    test_check_clean();
}

static void calls_are_events(void **state)
{
    (void)state;
    hs_engine *engine = start("Hm. <look:{\"a\":1}> <go:{}>", 512);
    struct hs_generate_params params = with_tools(-1);
    struct heard heard = chat(engine, &params);
    assert_string_equal(heard.text, " T:Hm.  C0:id0:look:{\"a\":1} T:  C1:id1:go:{}");
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    /* One call where calls are not parallel. */
    params.parallel_tool_calls = false;
    heard = chat(engine, &params);
    assert_string_equal(heard.text, " T:Hm.  C0:id0:look:{\"a\":1} T: ");
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    /* Calls that may not be made are text. */
    params.tool_choice = HS_TOOL_CHOICE_NONE;
    heard = chat(engine, &params);
    assert_string_equal(heard.text, " T:Hm. <look:{\"a\":1}> <go:{}>");
    assert_int_equal(heard.finish, HS_FINISH_STOP);
    stop(engine);
}

static void an_answer_that_is_cut_gives_what_is_there(void **state)
{
    (void)state;
    static const char text[] = "a<look:{\"b\":2}>";
    hs_engine *engine = start(text, 512);
    for (int32_t n = 1; n < (int32_t)strlen(text); n++) {
        struct hs_generate_params params = with_tools(n);
        struct heard heard = chat(engine, &params);
        assert_int_equal(heard.finish, HS_FINISH_LENGTH);
        assert_int_equal(heard.usage.completion_tokens, n);
        assert_int_equal(strncmp(heard.text, " T:a C0:id0:look:{\"b\":2}", strlen(heard.text)), 0);
    }
    stop(engine);
}

static void stop_strings_count_in_text(void **state)
{
    (void)state;
    const char *const stops[] = {"Hm", "b\""};
    hs_engine *engine = start("H<look:{\"b\":1}>mHm.", 512);
    struct hs_generate_params params = with_tools(-1);
    params.stop = stops;
    params.n_stop = 2;
    /* Text held back leaves before the call; no stop string spans it, or lies in arguments. */
    struct heard heard = chat(engine, &params);
    assert_string_equal(heard.text, " T:H C0:id0:look:{\"b\":1} T:m");
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    assert_int_equal(heard.usage.stopped_by, 1);
    stop(engine);
    /* The format's own. */
    engine = start("a" FAKE_FORMAT_STOP "b", 512);
    params = with_tools(-1);
    heard = chat(engine, &params);
    assert_string_equal(heard.text, " T:a");
    assert_int_equal(heard.finish, HS_FINISH_STOP);
    assert_int_equal(heard.usage.stopped_by, 0);
    stop(engine);
}

/* Every token's log probabilities reach exactly one event, whatever the token was for. */
static void log_probabilities_of_all_tokens_arrive(void **state)
{
    (void)state;
    static const char text[] = "a<look:{\"b\":2}>c<go:{}>";
    hs_engine *engine = start(text, 512);
    struct hs_generate_params params = with_tools(-1);
    params.n_logprobs = 2;
    struct heard heard = chat(engine, &params);
    assert_int_equal(heard.n_tokens, strlen(text));
    assert_int_equal(heard.n_logprobs, strlen(text));
    for (size_t i = 0; i < strlen(text); i++) {
        assert_int_equal(heard.tokens[i].token, (unsigned char)text[i]);
    }
    stop(engine);
}

static void schemas_are_checked(void **state)
{
    (void)state;
    hs_engine *engine = start("{\"a\":\"<x:y>\"}", 512);
    struct hs_generate_params params = test_params(-1);
    params.json_schema = "{}";
    struct heard heard = chat(engine, &params);
    assert_string_equal(heard.text, " T:{\"a\":\"<x:y>\"}");
    assert_int_equal(heard.finish, HS_FINISH_STOP);
    /* Raw prompts, too. */
    int32_t prompt[] = {'x', FAKE_GEN};
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, prompt, 2, &params, &stream, &err),
                     HS_OK);
    heard = hear(stream, 0);
    assert_string_equal(heard.text, " T:{\"a\":\"<x:y>\"}");
    params.json_schema = "{\"type\":\"array\",\"uniqueItems\":true}";
    refuse(engine, &params, HS_INVALID_ARGUMENT, "\"uniqueItems\" at \"#\"");
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, prompt, 2, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    params = with_tools(-1);
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, prompt, 2, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    stop(engine);
}

static void parameters_that_make_no_sense(void **state)
{
    (void)state;
    hs_engine *engine = start("x", 512);
    struct hs_generate_params params = with_tools(-1);
    params.sampling.grammar = "root ::= \"a\"";
    refuse(engine, &params, HS_INVALID_ARGUMENT, "grammar");
    params = with_tools(-1);
    params.tool_name = "go";
    refuse(engine, &params, HS_INVALID_ARGUMENT, "required");
    params.tool_choice = HS_TOOL_CHOICE_REQUIRED;
    (void)chat(engine, &params);
    params.tool_name = "fly";
    refuse(engine, &params, HS_INVALID_ARGUMENT, "no tool 'fly'");
    params.tool_name = NULL;
    params.n_tools = 0;
    refuse(engine, &params, HS_INVALID_ARGUMENT, "there is none");
    params = with_tools(-1);
    params.tool_choice = (enum hs_tool_choice)9;
    refuse(engine, &params, HS_INVALID_ARGUMENT, "tool_choice 9");
    params = with_tools(-1);
    params.n_tools = -1;
    refuse(engine, &params, HS_INVALID_ARGUMENT, "n_tools is -1");
    params.n_tools = 257;
    refuse(engine, &params, HS_LIMIT, "257 tools");
    static const struct hs_tool bad[][2] = {{{"a b", NULL, NULL}, {"x", NULL, NULL}},
                                            {{"x", NULL, NULL}, {"x", NULL, NULL}},
                                            {{"x", NULL, "[]"}, {"y", NULL, NULL}},
                                            {{"x", "\xff", NULL}, {"y", NULL, NULL}}};
    static const char *const why[] = {"name of tool 0", "two tools", "not a JSON object", "UTF-8"};
    for (int i = 0; i < 4; i++) {
        params = with_tools(-1);
        params.tools = bad[i];
        refuse(engine, &params, HS_INVALID_ARGUMENT, why[i]);
    }
    params = test_params(-1);
    params.template_kwargs = "[]";
    refuse(engine, &params, HS_INVALID_ARGUMENT, "variables");
    params.template_kwargs = "{\"messages\":[]}";
    refuse(engine, &params, HS_INVALID_ARGUMENT, "'messages'");
    params.template_kwargs = NULL;
    params.continue_final = true;
    refuse(engine, &params, HS_INVALID_ARGUMENT, "assistant");
    stop(engine);
}

static void prompts_show_everything(void **state)
{
    (void)state;
    hs_engine *engine = start("three", 512);
    const struct hs_tool_call call = {"c1", "look", "{\"a\":1}"};
    const struct hs_message messages[] = {
        {.role = "user", .content = "Hi"},
        {.role = "assistant", .content = "", .tool_calls = &call, .n_tool_calls = 1},
        {.role = "tool", .content = "seen", .tool_call_id = "c1", .name = "look"},
        {.role = "assistant", .content = "One, two, "}};
    struct hs_generate_params params = with_tools(-1);
    params.template_kwargs = "{\"x\":1}";
    params.continue_final = true;
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(hs_engine_render(engine, "m", messages, 4, &params, &text, &len, &err), HS_OK);
    assert_string_equal(text, "[tools]look,go\n[kwargs]{\"x\":1}\n[user]Hi\n"
                              "<|gen|><look:{\"a\":1}><|end|>\n[tool]seen\n<|gen|>One, two, ");
    hs_text_free(text);
    struct hs_message bad = messages[1];
    const struct hs_tool_call broken = {"c1", "look", "{"};
    bad.tool_calls = &broken;
    assert_int_equal(hs_engine_render(engine, "m", &bad, 1, &params, &text, &len, &err),
                     HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "arguments of tool call 0 of message 0"));
    bad = messages[1];
    bad.role = "user";
    assert_int_equal(hs_engine_render(engine, "m", &bad, 1, &params, &text, &len, &err),
                     HS_INVALID_ARGUMENT);
    stop(engine);
}

/* A reader that lags sits out, and loses nothing. */
static void a_slow_reader_gets_every_call(void **state)
{
    (void)state;
    static char text[4096];
    static char expected[4096];
    text[0] = expected[0] = '\0';
    for (int i = 0; i < 150; i++) {
        strcat(text, "<go:1>");
        snprintf(expected + strlen(expected), 32, " C%d:id%d:go:1", i, i);
    }
    hs_engine *engine = start(text, 2048);
    struct hs_generate_params params = with_tools(-1);
    params.stream_capacity = 1;
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &question, 1, &params, &stream, &err),
                     HS_OK);
    test_sleep_ms(50);
    static struct heard heard;
    heard = hear(stream, 0);
    assert_int_equal(strncmp(heard.text, expected, sizeof(heard.text) - 1), 0);
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    stop(engine);
}

static void open_session(hs_engine *engine, const char *name, enum hs_overflow overflow)
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    params.overflow = overflow;
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_create_session(engine, &params, id, &err), HS_OK);
}

static void expect_call(hs_engine *engine, size_t i)
{
    struct hs_message message;
    assert_int_equal(hs_session_message(engine, "s", i, &message, &err), HS_OK);
    assert_string_equal(message.role, "assistant");
    assert_string_equal(message.content, "Well ");
    assert_int_equal(message.n_tool_calls, 1);
    assert_string_equal(message.tool_calls[0].id, "id0");
    assert_string_equal(message.tool_calls[0].name, "look");
    assert_string_equal(message.tool_calls[0].arguments, "{\"a\":1}");
    hs_message_free(&message);
}

static void sessions_keep_calls_and_their_answers(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.sessions_dir = dir;
    struct fake_config config = {.next = say, .next_user = (void *)"Well <look:{\"a\":1}>"};
    fake_runtime_reset(&config);
    hs_engine *engine = test_engine(&engine_params, 512, 4);
    open_session(engine, "s", HS_OVERFLOW_STOP);
    struct hs_generate_params params = with_tools(-1);
    struct heard heard = hear(test_generate(engine, "s", "Hi", &params), 0);
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    expect_call(engine, 1);
    const struct hs_message seen = {
        .role = "tool", .content = "seen", .tool_call_id = "id0", .name = "look"};
    assert_int_equal(hs_session_append(engine, "s", &seen, &err), HS_OK);
    heard = hear(test_generate(engine, "s", NULL, &params), 0);
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    hs_engine_free(engine);
    /* Another process. */
    engine = test_engine(&engine_params, 512, 4);
    open_session(engine, "s", HS_OVERFLOW_STOP);
    size_t n = 0;
    assert_int_equal(hs_session_message_count(engine, "s", &n, &err), HS_OK);
    assert_int_equal(n, 4);
    expect_call(engine, 1);
    expect_call(engine, 3);
    struct hs_message message;
    assert_int_equal(hs_session_message(engine, "s", 2, &message, &err), HS_OK);
    assert_string_equal(message.tool_call_id, "id0");
    assert_string_equal(message.name, "look");
    hs_message_free(&message);
    struct hs_message bad = {.role = "tool"};
    assert_int_equal(hs_session_append(engine, "s", &bad, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_session_append(engine, "none", &seen, &err), HS_NOT_FOUND);
    params.continue_final = true;
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_generate(engine, "s", NULL, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    stop(engine);
    test_dir_remove(dir);
}

static void a_call_that_is_cut_does_not_join(void **state)
{
    (void)state;
    hs_engine *engine = start("Well <look:{\"a\":1}>", 512);
    open_session(engine, "s", HS_OVERFLOW_STOP);
    struct hs_generate_params params = with_tools((int32_t)strlen("Well <look:{\"a\""));
    struct heard heard = hear(test_generate(engine, "s", "Hi", &params), 0);
    assert_int_equal(heard.finish, HS_FINISH_LENGTH);
    assert_string_equal(heard.text, " T:Well  C0:id0:look:{\"a\"");
    struct hs_message message;
    assert_int_equal(hs_session_message(engine, "s", 1, &message, &err), HS_OK);
    assert_string_equal(message.content, "Well ");
    assert_int_equal(message.n_tool_calls, 0);
    hs_message_free(&message);
    stop(engine);
}

/* What leaves a full context leaves with whole turns: a tool's answer never loses its call. */
static void a_shift_keeps_calls_and_answers_together(void **state)
{
    (void)state;
    hs_engine *engine = start("ok", 256);
    const struct hs_tool_call call = {"c", "go", "{}"};
    struct hs_message messages[64];
    size_t n = 0;
    for (int turn = 0; turn < 12; turn++) {
        messages[n++] = (struct hs_message){.role = "user", .content = "question"};
        messages[n++] = (struct hs_message){
            .role = "assistant", .content = "", .tool_calls = &call, .n_tool_calls = 1};
        messages[n++] = (struct hs_message){.role = "tool", .content = "seen", .tool_call_id = "c"};
        messages[n++] = (struct hs_message){.role = "assistant", .content = "fine"};
    }
    messages[n++] = (struct hs_message){.role = "user", .content = "last"};
    struct hs_generate_params params = with_tools(-1);
    params.overflow = HS_OVERFLOW_SHIFT;
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, messages, n, &params, &stream, &err),
                     HS_OK);
    struct heard heard = hear(stream, 0);
    assert_string_equal(heard.text, " T:ok");
    assert_true(heard.usage.dropped_messages > 0);
    assert_int_equal(heard.usage.dropped_messages % 4, 0);
    stop(engine);
}

/* The same while it answers: tools and variables are rendered again. */
static void a_shift_in_mid_answer_goes_on(void **state)
{
    (void)state;
    static char text[300];
    memset(text, 'x', 200);
    strcpy(text + 200, "<go:{}>");
    hs_engine *engine = start(text, 300);
    struct hs_message messages[16];
    size_t n = 0;
    for (int turn = 0; turn < 6; turn++) {
        messages[n++] = (struct hs_message){.role = "user", .content = "question"};
        messages[n++] = (struct hs_message){.role = "assistant", .content = "fine"};
    }
    messages[n++] = (struct hs_message){.role = "user", .content = "last"};
    struct hs_generate_params params = with_tools(-1);
    params.overflow = HS_OVERFLOW_SHIFT;
    params.template_kwargs = "{\"x\":1}";
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, messages, n, &params, &stream, &err),
                     HS_OK);
    struct heard heard = hear(stream, 0);
    assert_int_equal(heard.finish, HS_FINISH_TOOL_CALLS);
    assert_int_equal(strlen(heard.text), strlen(" T: C0:id0:go:{}") + 200);
    assert_true(heard.usage.dropped_messages > 0);
    stop(engine);
}

static void allocation_failures(void **state)
{
    (void)state;
    hs_engine *engine = start("a<look:{\"b\":2}>c", 512);
    struct hs_generate_params params = with_tools(-1);
    params.n_logprobs = 1;
    params.overflow = HS_OVERFLOW_SHIFT;
    params.template_kwargs = "{\"x\":1}";
    bool is_over = false;
    for (uint64_t n = 1; !is_over; n++) {
        hs_stream *stream = NULL;
        hs_mem_fail_after(n);
        hs_status status =
            hs_engine_chat(engine, "m", NULL, 0, &question, 1, &params, &stream, &err);
        if (status == HS_OK) {
            struct heard heard = hear(stream, 1);
            is_over = hs_mem_count() < n;
            bool is_fine = heard.finish == HS_FINISH_TOOL_CALLS;
            assert_true(is_fine || heard.error.status == HS_OUT_OF_MEMORY);
            assert_true(is_fine || !is_over);
        } else {
            assert_int_equal(status, HS_OUT_OF_MEMORY);
        }
        hs_mem_fail_after(0);
    }
    stop(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_events),
        cmocka_unit_test(an_answer_that_is_cut_gives_what_is_there),
        cmocka_unit_test(stop_strings_count_in_text),
        cmocka_unit_test(log_probabilities_of_all_tokens_arrive),
        cmocka_unit_test(schemas_are_checked),
        cmocka_unit_test(parameters_that_make_no_sense),
        cmocka_unit_test(prompts_show_everything),
        cmocka_unit_test(a_slow_reader_gets_every_call),
        cmocka_unit_test(sessions_keep_calls_and_their_answers),
        cmocka_unit_test(a_call_that_is_cut_does_not_join),
        cmocka_unit_test(a_shift_keeps_calls_and_answers_together),
        cmocka_unit_test(a_shift_in_mid_answer_goes_on),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
