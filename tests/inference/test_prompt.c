/* Messages to tokens, and which of them stay when they do not fit. */
#include "engine_test.h"

#include "prompt.h"

static struct hs_model model;

static void make_model(int32_t n_ctx)
{
    fake_runtime_reset(NULL);
    model = (struct hs_model){.rt = fake_runtime()};
    model.info.n_ctx = n_ctx;
}

static struct hs_message say(const char *role, const char *content)
{
    return (struct hs_message){.role = role, .content = content};
}

/* The prompt must be the rendering of these messages. */
static void expect_prompt(const struct hs_prompt *prompt, const char *text)
{
    int32_t tokens[4096];
    size_t n = fake_tokenize(text, tokens);
    assert_int_equal(prompt->n_tokens, n);
    assert_memory_equal(prompt->tokens, tokens, n * sizeof(tokens[0]));
}

static hs_status build(const struct hs_message *messages, size_t n, enum hs_overflow overflow,
                       size_t n_skipped, struct hs_prompt *prompt, struct hs_error *err)
{
    struct hs_prompt_params params = {
        .messages = messages, .n_messages = n, .n_skipped = n_skipped, .overflow = overflow};
    return hs_prompt_build(&model, &params, prompt, err);
}

static void a_prompt_that_fits_is_left_alone(void **state)
{
    (void)state;
    make_model(256);
    struct hs_message messages[] = {say("system", "s"), say("user", "q1"), say("assistant", "a1"),
                                    say("user", "q2")};
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(build(messages, 4, HS_OVERFLOW_SHIFT, 0, &prompt, &err), HS_OK);
    expect_prompt(&prompt, "[system]s\n[user]q1\n<|gen|>a1<|end|>\n[user]q2\n<|gen|>");
    assert_int_equal(prompt.n_dropped, 0);
    hs_prompt_free(&prompt);
}

/* "[user]XXXXX\n" is 12 tokens, "<|gen|>YYYYY<|end|>\n" 8, "[system]s\n" 10, "<|gen|>" 1. */
static struct hs_message turns[42];
static size_t make_turns(int n_turns)
{
    static char texts[20][16];
    size_t n = 0;
    turns[n++] = say("system", "s");
    for (int i = 0; i < n_turns; i++) {
        snprintf(texts[i], sizeof(texts[i]), "qa-%02d", i);
        turns[n++] = say("user", texts[i]);
        turns[n++] = say("assistant", texts[i]);
    }
    turns[n++] = say("user", "final");
    return n;
}

static void the_last_token_that_fits(void **state)
{
    (void)state;
    size_t n = make_turns(5);
    int32_t n_tokens = 10 + 5 * 20 + 12 + 1;
    struct hs_prompt prompt;
    struct hs_error err;
    make_model(n_tokens + 1);
    assert_int_equal(build(turns, n, HS_OVERFLOW_STOP, 0, &prompt, &err), HS_OK);
    assert_int_equal(prompt.n_tokens, n_tokens);
    hs_prompt_free(&prompt);
    make_model(n_tokens);
    assert_int_equal(build(turns, n, HS_OVERFLOW_STOP, 0, &prompt, &err), HS_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "123 tokens"));
    assert_non_null(strstr(err.message, "leaves room for 122"));
    assert_true(err.hint[0] != '\0');
}

/* Dropping turns leaves a quarter of the context free, and no more turns go than that needs. */
static void turns_go_until_a_quarter_is_free(void **state)
{
    (void)state;
    struct hs_error err;
    for (int n_turns = 1; n_turns < 15; n_turns++) {
        size_t n = make_turns(n_turns);
        for (int32_t n_ctx = 40; n_ctx < 330; n_ctx += 7) {
            make_model(n_ctx);
            int32_t all = 23 + 20 * n_turns;
            int n_dropped = 0;
            if (all >= n_ctx) {
                n_dropped = 1;
                while (n_dropped < n_turns && all - 20 * n_dropped > n_ctx - n_ctx / 4) {
                    n_dropped++;
                }
            }
            struct hs_prompt prompt;
            assert_int_equal(build(turns, n, HS_OVERFLOW_SHIFT, 0, &prompt, &err), HS_OK);
            assert_int_equal(prompt.n_dropped, 2 * n_dropped);
            assert_int_equal(prompt.n_skipped, 2 * n_dropped);
            assert_int_equal(prompt.n_tokens, all - 20 * n_dropped);
            hs_prompt_free(&prompt);
        }
    }
}

static void whole_messages_stay_in_order(void **state)
{
    (void)state;
    size_t n = make_turns(3);
    make_model(70);
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(build(turns, n, HS_OVERFLOW_SHIFT, 0, &prompt, &err), HS_OK);
    expect_prompt(&prompt, "[system]s\n[user]qa-02\n<|gen|>qa-02<|end|>\n[user]final\n<|gen|>");
    hs_prompt_free(&prompt);
}

static void earlier_drops_stay_dropped(void **state)
{
    (void)state;
    size_t n = make_turns(3);
    make_model(1000);
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(build(turns, n, HS_OVERFLOW_SHIFT, 2, &prompt, &err), HS_OK);
    assert_int_equal(prompt.n_tokens, 23 + 40);
    assert_int_equal(prompt.n_skipped, 2);
    assert_int_equal(prompt.n_dropped, 0);
    hs_prompt_free(&prompt);
    /* More dropped than there is: the conversation was cut meanwhile. */
    assert_int_equal(build(turns, 2, HS_OVERFLOW_SHIFT, 9, &prompt, &err), HS_OK);
    assert_int_equal(prompt.n_skipped, 0);
    hs_prompt_free(&prompt);
}

static void the_last_turn_alone_may_be_too_long(void **state)
{
    (void)state;
    char text[301];
    test_text(text, 300, 1);
    struct hs_message messages[] = {say("user", "q"), say("assistant", "a"), say("user", text)};
    make_model(307);
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(build(messages, 3, HS_OVERFLOW_SHIFT, 0, &prompt, &err), HS_CONTEXT_FULL);
    make_model(309);
    assert_int_equal(build(messages, 3, HS_OVERFLOW_SHIFT, 0, &prompt, &err), HS_OK);
    assert_int_equal(prompt.n_tokens, 308);
    assert_int_equal(prompt.n_dropped, 2);
    hs_prompt_free(&prompt);
}

static void a_turn_is_all_up_to_the_next_question(void **state)
{
    (void)state;
    struct hs_message messages[] = {
        say("system", "s"),    say("developer", "d"), say("assistant", "welcome"),
        say("user", "first"),  say("assistant", "x"), say("tool", "result of a tool"),
        say("assistant", "y"), say("user", "last"),   say("tool", "more"),
    };
    make_model(60);
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(build(messages, 9, HS_OVERFLOW_SHIFT, 0, &prompt, &err), HS_OK);
    expect_prompt(&prompt, "[system]s\n[developer]d\n[user]last\n[tool]more\n<|gen|>");
    assert_int_equal(prompt.n_dropped, 5);
    hs_prompt_free(&prompt);
}

static void room_for_the_answer_so_far_is_kept(void **state)
{
    (void)state;
    size_t n = make_turns(5);
    make_model(200);
    struct hs_prompt_params params = {
        .messages = turns, .n_messages = n, .overflow = HS_OVERFLOW_SHIFT, .n_generated = 77};
    struct hs_prompt prompt;
    struct hs_error err;
    /* 123 + 77 = 200 is one too many; 150 - 77 = 73 leaves 2 turns. */
    assert_int_equal(hs_prompt_build(&model, &params, &prompt, &err), HS_OK);
    assert_int_equal(prompt.n_tokens, 63);
    hs_prompt_free(&prompt);
    params.n_generated = 76;
    assert_int_equal(hs_prompt_build(&model, &params, &prompt, &err), HS_OK);
    assert_int_equal(prompt.n_dropped, 0);
    hs_prompt_free(&prompt);
}

static void checkpoints_stand_where_the_next_turns_will_differ(void **state)
{
    (void)state;
    make_model(500);
    struct hs_message messages[] = {say("system", "s"), say("user", "q1"), say("assistant", "a1"),
                                    say("user", "q2")};
    struct hs_prompt_params params = {
        .messages = messages, .n_messages = 4, .wants_checkpoints = true};
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(hs_prompt_build(&model, &params, &prompt, &err), HS_OK);
    int32_t tokens[256];
    assert_int_equal(prompt.checkpoints[0],
                     fake_tokenize("[system]s\n[user]q1\n<|gen|>a1<|end|>\n", tokens));
    assert_int_equal(prompt.checkpoints[1],
                     fake_tokenize("[system]s\n[user]q1\n<|gen|>a1<|end|>\n[user]q2\n", tokens));
    hs_prompt_free(&prompt);
}

static void what_the_template_says_is_passed_on(void **state)
{
    (void)state;
    make_model(500);
    struct hs_message messages[] = {say("bad", "x")};
    struct hs_prompt prompt;
    struct hs_error err;
    assert_int_equal(build(messages, 1, HS_OVERFLOW_STOP, 0, &prompt, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "no role 'bad'"));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    size_t n = make_turns(5);
    make_model(100);
    struct hs_prompt_params params = {.messages = turns,
                                      .n_messages = n,
                                      .overflow = HS_OVERFLOW_SHIFT,
                                      .wants_checkpoints = true};
    hs_status status = HS_OUT_OF_MEMORY;
    uint64_t i = 0;
    while (status != HS_OK) {
        struct hs_prompt prompt;
        struct hs_error err;
        hs_mem_fail_after(++i);
        status = hs_prompt_build(&model, &params, &prompt, &err);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            hs_prompt_free(&prompt);
        } else {
            assert_int_equal(status, HS_OUT_OF_MEMORY);
        }
    }
    assert_true(i > 5);
}

static void conversations_own_their_strings(void **state)
{
    (void)state;
    struct hs_message message = {.role = "assistant", .content = "c", .reasoning = "r"};
    struct hs_conversation conversation;
    assert_int_equal(hs_conversation_copy(&message, 1, &conversation), HS_OK);
    assert_ptr_not_equal(conversation.messages[0].content, message.content);
    assert_string_equal(conversation.messages[0].reasoning, "r");
    for (int i = 0; i < 40; i++) {
        assert_int_equal(hs_conversation_append(&conversation, &message), HS_OK);
    }
    hs_conversation_truncate(&conversation, 3);
    assert_int_equal(conversation.n, 3);
    hs_conversation_free(&conversation);
    struct hs_message list[3] = {message, message, message};
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t i = 1; status != HS_OK; i++) {
        hs_mem_fail_after(i);
        status = hs_conversation_copy(list, 3, &conversation);
        hs_mem_fail_after(0);
    }
    hs_conversation_free(&conversation);
    hs_message_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_that_fits_is_left_alone),
        cmocka_unit_test(the_last_token_that_fits),
        cmocka_unit_test(turns_go_until_a_quarter_is_free),
        cmocka_unit_test(whole_messages_stay_in_order),
        cmocka_unit_test(earlier_drops_stay_dropped),
        cmocka_unit_test(the_last_turn_alone_may_be_too_long),
        cmocka_unit_test(a_turn_is_all_up_to_the_next_question),
        cmocka_unit_test(room_for_the_answer_so_far_is_kept),
        cmocka_unit_test(checkpoints_stand_where_the_next_turns_will_differ),
        cmocka_unit_test(what_the_template_says_is_passed_on),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(conversations_own_their_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
