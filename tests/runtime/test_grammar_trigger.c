/* When the grammar of tool calls begins: the same wherever tokens end, and not while reasoning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grammar_trigger.h"

static const char *const words[] = {"<tool_call>", "<tools>"};

static hs_grammar_trigger *new_trigger(bool thinks, bool starts_thinking)
{
    struct hs_grammar_trigger_params params = {.words = words,
                                               .n_words = 2,
                                               .think_start = thinks ? "<think>" : "",
                                               .think_end = thinks ? "</think>" : "",
                                               .starts_thinking = starts_thinking};
    hs_grammar_trigger *trigger = NULL;
    struct hs_error err;
    assert_int_equal(hs_grammar_trigger_new(&params, &trigger, &err), HS_OK);
    return trigger;
}

/*
 * Push text in tokens of `part` bytes, whose numbers are the places where they begin, until a word
 * is complete. Returns where the first token that is handed back begins; -1: no word.
 */
static int push_all(hs_grammar_trigger *trigger, const char *text, size_t part, size_t *ret_end)
{
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at += part) {
        size_t n = part < len - at ? part : len - at;
        const int32_t *tokens = NULL;
        size_t n_tokens = 0;
        assert_int_equal(
            hs_grammar_trigger_push(trigger, (int32_t)at, text + at, n, &tokens, &n_tokens), HS_OK);
        for (size_t i = 0; i < n_tokens; i++) {
            assert_int_equal(tokens[i], tokens[0] + (int32_t)(i * part));
        }
        if (n_tokens > 0) {
            *ret_end = at + n;
            return tokens[0];
        }
    }
    return -1;
}

static void check(const char *text, bool thinks, bool starts_thinking)
{
    /* The word that counts stands behind a '|', which is no part of the text. */
    char plain[256];
    const char *mark = strchr(text, '|');
    snprintf(plain, sizeof(plain), "%.*s%s", mark ? (int)(mark - text) : 0, text,
             mark ? mark + 1 : text);
    int word = mark ? (int)(mark - text) : -1;
    for (size_t part = 1; part < 40; part++) {
        hs_grammar_trigger *trigger = new_trigger(thinks, starts_thinking);
        size_t end = 0;
        int begin = push_all(trigger, plain, part, &end);
        if (word < 0) {
            assert_int_equal(begin, -1);
        } else {
            assert_int_equal(begin, word - word % (int)part);
            assert_true(end >= (size_t)word + strlen("<tools>"));
        }
        hs_grammar_trigger_free(trigger);
    }
}

static void test_words_are_found(void **state)
{
    (void)state;
    check("|<tool_call>{}", false, false);
    check("Let me see. |<tool_call>{}", false, false);
    check("a <tool_cal b |<tools>", false, false);
    check("<<tool_<too|<tool_call>", false, false);
    check("nothing <tool_call", false, false);
    check("", false, false);
}

static void test_reasoning_does_not_count(void **state)
{
    (void)state;
    check("<think>I could <tool_call> it</think>|<tool_call>", true, false);
    check(" \n<think><tools></think> x |<tools>", true, false);
    check("a <tool_call></think>|<tool_call>", true, true);
    check("<think><tool_call>", true, false);
    /* Only at the start of an answer. */
    check("x <think>|<tool_call></think>", true, false);
    check("<thi|<tools>", true, false);
}

/* What cannot be part of a word any more is forgotten. */
static void test_long_texts_cost_no_memory(void **state)
{
    (void)state;
    hs_grammar_trigger *trigger = new_trigger(false, false);
    const int32_t *tokens = NULL;
    size_t n = 0;
    for (int32_t i = 0; i < 1000000; i++) {
        assert_int_equal(hs_grammar_trigger_push(trigger, i, "word ", 5, &tokens, &n), HS_OK);
        assert_int_equal(n, 0);
    }
    size_t before = hs_mem_count();
    assert_int_equal(hs_grammar_trigger_push(trigger, 7, "<tools>", 7, &tokens, &n), HS_OK);
    assert_int_equal(n, 1);
    assert_int_equal(tokens[0], 7);
    assert_int_equal(hs_mem_count(), before);
    hs_grammar_trigger_free(trigger);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    bool is_over = false;
    for (uint64_t n = 1; !is_over; n++) {
        struct hs_grammar_trigger_params params = {
            .words = words, .n_words = 2, .think_start = "", .think_end = ""};
        hs_grammar_trigger *trigger = NULL;
        const int32_t *tokens = NULL;
        size_t n_tokens = 0;
        hs_mem_fail_after(n);
        hs_status status = hs_grammar_trigger_new(&params, &trigger, NULL);
        for (int32_t i = 0; i < 8 && status == HS_OK; i++) {
            status = hs_grammar_trigger_push(trigger, i, "<tool_", 6, &tokens, &n_tokens);
        }
        is_over = hs_mem_count() < n;
        hs_mem_fail_after(0);
        assert_int_equal(status, is_over ? HS_OK : HS_OUT_OF_MEMORY);
        hs_grammar_trigger_free(trigger);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_found),
        cmocka_unit_test(test_reasoning_does_not_count),
        cmocka_unit_test(test_long_texts_cost_no_memory),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
