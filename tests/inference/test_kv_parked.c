/* KV outside the context: parked contexts, checkpoints, exported states. */
#include "kv_test.h"

#define OTHER_KEY "key-b"

static size_t run_with_checkpoint(struct fixture *f, const char *text, size_t place)
{
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(f, KEY, text, &n_reused);
    if (place > n_reused) {
        char part[512];
        snprintf(part, sizeof(part), "%.*s", (int)place, text);
        evaluate(f, slot, part);
        hs_kv_slot_checkpoint(f->cache, slot);
    }
    evaluate(f, slot, text);
    hs_kv_cache_release(f->cache, slot, true);
    return n_reused;
}

static void check_checkpoints(const struct fake_config *config)
{
    struct fixture f;
    start(&f, config, 1024, 3, 1 << 20);
    assert_true(hs_kv_cache_wants_checkpoints(f.cache));
    assert_int_equal(run_with_checkpoint(&f, "system: be brief. user: a question? answer: yes", 35),
                     0);
    /* Going on from the end needs no cut. */
    assert_int_equal(
        run_with_checkpoint(&f, "system: be brief. user: a question? answer: yes. user: b", 0), 47);
    /* The same question with another answer: back to the checkpoint. */
    assert_int_equal(
        run_with_checkpoint(&f, "system: be brief. user: a question? answer: no, never", 0), 35);
    assert_true(test_counters().n_partial_load >= 1);
    /* A cut before the checkpoint: nothing. */
    assert_int_equal(run_with_checkpoint(&f, "system: be brief. user: another question?", 0), 0);
    stop(&f);
}

/* Export a recurrent context with checkpoints after 10, 20 and 30 tokens of text, as a saved
 * session has it; at most max_bytes. */
static struct hs_kv_state export_with_checkpoints(const char *text, size_t max_bytes)
{
    struct fixture f;
    struct hs_kv_state exported = {0};
    struct hs_error err;
    start(&f, &(struct fake_config){.is_recurrent = true}, 256, 1, 1 << 20);
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(&f, KEY, text, &n_reused);
    for (int place = 10; place <= 30; place += 10) {
        char part[64];
        snprintf(part, sizeof(part), "%.*s", place, text);
        evaluate(&f, slot, part);
        hs_kv_slot_checkpoint(f.cache, slot);
    }
    evaluate(&f, slot, text);
    int32_t tokens[64];
    size_t n = fake_tokenize(text, tokens);
    assert_int_equal(hs_kv_cache_export(f.cache, KEY, tokens, n, max_bytes, &exported, &err),
                     HS_OK);
    hs_kv_cache_release(f.cache, slot, true);
    hs_kv_cache_free(f.cache);
    fake_runtime()->context_free(f.context);
    fake_runtime()->model_free(f.model);
    return exported;
}

/* What another cache, with so much budget, reuses of it for `next`. */
static size_t bring(struct hs_kv_state *exported, const char *next, uint64_t budget)
{
    struct fixture f;
    start(&f, &(struct fake_config){.is_recurrent = true}, 256, 1, budget);
    int32_t tokens[64];
    size_t n = fake_tokenize(next, tokens);
    struct hs_kv_match match;
    struct hs_kv_slot *slot = NULL;
    hs_kv_cache_match(f.cache, KEY, tokens, n, exported, &match);
    assert_int_equal(hs_kv_cache_take(f.cache, KEY, &match, &slot), HS_OK);
    hs_kv_state_clear(exported);
    size_t n_reused = slot->content.n_tokens;
    assert_int_equal(hs_kv_cache_host_bytes(f.cache), 16 * slot->content.n_checkpoints);
    assert_true(hs_kv_cache_host_bytes(f.cache) <= budget);
    evaluate(&f, slot, next);
    hs_kv_cache_release(f.cache, slot, true);
    stop(&f);
    return n_reused;
}

static void the_least_recently_used_is_parked_and_comes_back(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 2, 1 << 20);
    run(&f, KEY, "first conversation");
    run(&f, KEY, "another conversation");
    run(&f, KEY, "yet another conversation");
    assert_int_equal(hs_kv_cache_n_parked(f.cache), 1);
    assert_int_equal(hs_kv_cache_host_bytes(f.cache), 16 + 4 * 18);
    assert_int_equal(run(&f, KEY, "first conversation goes on"), 18);
    assert_int_equal(test_counters().n_state_load, 1);
    /* It was taken back; now the second one is out. */
    assert_int_equal(hs_kv_cache_n_parked(f.cache), 1);
    assert_int_equal(run(&f, KEY, "another conversation, too"), 20);
    stop(&f);
}

static void the_budget_holds_and_the_oldest_goes(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t size = 16 + 4 * 20;
    start(&f, NULL, 512, 1, 2 * size);
    char text[6][21];
    for (int i = 0; i < 6; i++) {
        test_text(text[i], 20, (uint32_t)i + 100);
        text[i][0] = (char)('a' + i);
        run(&f, KEY, text[i]);
        assert_true(hs_kv_cache_host_bytes(f.cache) <= 2 * size);
    }
    assert_int_equal(hs_kv_cache_n_parked(f.cache), 2);
    assert_int_equal(run(&f, KEY, text[4]), 19);
    assert_int_equal(run(&f, KEY, text[0]), 0);
    stop(&f);
}

static void one_byte_too_little_parks_nothing(void **state)
{
    (void)state;
    uint64_t size = 16 + 4 * 20;
    for (int k = 0; k < 2; k++) {
        struct fixture f;
        start(&f, NULL, 512, 1, size - (uint64_t)k);
        run(&f, KEY, "twenty characters...");
        run(&f, KEY, "something else");
        assert_int_equal(hs_kv_cache_n_parked(f.cache), 1 - k);
        stop(&f);
    }
}

static void what_is_held_elsewhere_is_not_parked(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 512, 2, 1 << 20);
    run(&f, KEY, "the same long beginning");
    size_t n_reused = 0;
    struct hs_kv_slot *a = take(&f, KEY, "the same long beginning and more", &n_reused);
    evaluate(&f, a, "the same long beginning and more");
    struct hs_kv_slot *b = take(&f, KEY, "the same long beginning", &n_reused);
    evaluate(&f, b, "the same long beginning");
    hs_kv_cache_release(f.cache, b, true);
    assert_true(hs_kv_cache_evict_idle(f.cache));
    assert_int_equal(hs_kv_cache_n_parked(f.cache), 0);
    assert_false(hs_kv_cache_evict_idle(f.cache));
    hs_kv_cache_release(f.cache, a, true);
    stop(&f);
}

static void short_contexts_are_not_parked(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct fixture f;
        start(&f, NULL, 512, 1, 1 << 20);
        char text[HS_KV_PARK_MIN_TOKENS + 1];
        test_text(text, HS_KV_PARK_MIN_TOKENS - (size_t)k, 3);
        run(&f, KEY, text);
        assert_true(hs_kv_cache_evict_idle(f.cache));
        assert_int_equal(hs_kv_cache_n_parked(f.cache), 1 - k);
        stop(&f);
    }
}

/* The only sequence holds a long conversation; another one shares little: the long one is parked.
 */
static void the_last_sequence_is_parked_before_it_is_cut(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 512, 1, 1 << 20);
    run(&f, KEY, "system:first conversation, a long one");
    assert_int_equal(run(&f, KEY, "system:second"), 7);
    assert_int_equal(hs_kv_cache_n_parked(f.cache), 1);
    assert_int_equal(run(&f, KEY, "system:first conversation, a long one!"), 37);
    stop(&f);
}

static void a_preempted_context_comes_back_whole(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 512, 2, 1 << 20);
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(&f, KEY, "interrupted in the middle", &n_reused);
    evaluate(&f, slot, "interrupted in the middle");
    hs_kv_cache_preempt(f.cache, slot, true);
    assert_int_equal(hs_kv_cache_used_cells(f.cache), 0);
    assert_int_equal(run(&f, KEY, "interrupted in the middle, then on"), 25);
    stop(&f);
}

static void a_recurrent_state_goes_back_to_checkpoints(void **state)
{
    (void)state;
    check_checkpoints(&(struct fake_config){.is_recurrent = true});
}

static void a_window_goes_back_to_checkpoints(void **state)
{
    (void)state;
    check_checkpoints(&(struct fake_config){.n_swa = 4});
}

static void a_parked_recurrent_state_keeps_its_checkpoints(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, &(struct fake_config){.is_recurrent = true}, 256, 1, 1 << 20);
    assert_int_equal(run_with_checkpoint(&f, "a long question, then its answer", 16), 0);
    run(&f, KEY, "something else altogether");
    assert_int_equal(run(&f, KEY, "a long question, then another answer"), 16);
    stop(&f);
}

static void checkpoints_are_limited(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, &(struct fake_config){.is_recurrent = true}, 512, 1, 1 << 20);
    char text[201];
    test_text(text, 200, 8);
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(&f, KEY, text, &n_reused);
    for (size_t n = 10; n <= 10 * (HS_KV_CHECKPOINTS_MAX + 2); n += 10) {
        char part[201];
        snprintf(part, sizeof(part), "%.*s", (int)n, text);
        evaluate(&f, slot, part);
        hs_kv_slot_checkpoint(f.cache, slot);
        hs_kv_slot_checkpoint(f.cache, slot); /* the same place counts once */
    }
    assert_int_equal(slot->content.n_checkpoints, HS_KV_CHECKPOINTS_MAX);
    assert_int_equal(hs_kv_cache_host_bytes(f.cache), 16 * HS_KV_CHECKPOINTS_MAX);
    assert_int_equal(slot->content.checkpoints[0]->n_tokens, 10);
    assert_int_equal(slot->content.checkpoints[1]->n_tokens, 40);
    hs_kv_cache_release(f.cache, slot, false);
    assert_int_equal(hs_kv_cache_host_bytes(f.cache), 0);
    stop(&f);
}

static void an_exported_state_serves_another_cache(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 2, 1 << 20);
    run(&f, KEY, "a conversation to keep");
    int32_t tokens[64];
    size_t n = fake_tokenize("a conversation to keep, with an answer", tokens);
    struct hs_kv_state exported = {0};
    struct hs_error err;
    assert_int_equal(hs_kv_cache_export(f.cache, OTHER_KEY, tokens, n, SIZE_MAX, &exported, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_kv_cache_export(f.cache, KEY, tokens, n, 16 + 4 * 22 - 1, &exported, &err),
                     HS_LIMIT);
    assert_int_equal(hs_kv_cache_export(f.cache, KEY, tokens, n, 16 + 4 * 22, &exported, &err),
                     HS_OK);
    assert_int_equal(exported.content.n_tokens, 22);
    struct fixture g;
    const struct hs_runtime *rt = fake_runtime();
    hs_kv_cache_free(f.cache);
    rt->context_free(f.context);
    rt->model_free(f.model);
    start(&g, NULL, 256, 2, 0);
    struct hs_kv_match match;
    hs_kv_cache_match(g.cache, KEY, tokens, n, &exported, &match);
    assert_int_equal(match.source, HS_KV_STATE);
    assert_int_equal(match.n_reuse, 22);
    struct hs_kv_slot *slot = NULL;
    assert_int_equal(hs_kv_cache_take(g.cache, KEY, &match, &slot), HS_OK);
    hs_kv_state_clear(&exported);
    evaluate(&g, slot, "a conversation to keep, with an answer");
    hs_kv_cache_release(g.cache, slot, true);
    stop(&g);
}

static void a_parked_context_can_be_exported(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 1, 1 << 20);
    run(&f, KEY, "a conversation to keep");
    run(&f, KEY, "another one");
    int32_t tokens[64];
    size_t n = fake_tokenize("a conversation to keep", tokens);
    struct hs_kv_state exported = {0};
    struct hs_error err;
    assert_int_equal(hs_kv_cache_export(f.cache, KEY, tokens, n, SIZE_MAX, &exported, &err), HS_OK);
    assert_int_equal(exported.content.n_tokens, 22);
    assert_int_equal(exported.state_len, 16 + 4 * 22);
    hs_kv_state_clear(&exported);
    stop(&f);
}

static void an_exported_state_has_its_checkpoints(void **state)
{
    (void)state;
    const char *text = "a question to ask, then what was answered";
    struct hs_kv_state exported = export_with_checkpoints(text, SIZE_MAX);
    assert_int_equal(exported.content.n_checkpoints, 3);
    assert_int_equal(exported.content.checkpoints[2]->n_tokens, 30);
    assert_int_equal(bring(&exported, "a question to ask, then another answer", 1 << 20), 20);
    exported = export_with_checkpoints(text, SIZE_MAX);
    assert_int_equal(bring(&exported, "a question to ask, then what was answered!", 1 << 20), 41);
    /* budget for the last two, for the last one, for none: the earlier ones are not there */
    static const size_t reused[] = {0, 0, 20, 20};
    for (uint64_t budget = 0; budget < 4; budget++) {
        exported = export_with_checkpoints(text, SIZE_MAX);
        assert_int_equal(bring(&exported, "a question to ask, then another answer", 16 * budget),
                         reused[budget]);
    }
    /* a limit that has room for the state and two, and one byte less */
    exported = export_with_checkpoints(text, SIZE_MAX);
    size_t len = exported.state_len + 2 * exported.content.checkpoints[0]->state_len;
    hs_kv_state_clear(&exported);
    exported = export_with_checkpoints(text, len);
    assert_int_equal(exported.content.n_checkpoints, 2);
    assert_int_equal(exported.content.checkpoints[0]->n_tokens, 20);
    hs_kv_state_clear(&exported);
    exported = export_with_checkpoints(text, len - 1);
    assert_int_equal(exported.content.n_checkpoints, 1);
    hs_kv_state_clear(&exported);
}

static void checkpoints_that_are_brought_along_have_a_limit(void **state)
{
    (void)state;
    struct hs_kv_state brought = {0};
    for (size_t i = 1; i <= HS_KV_CHECKPOINTS_MAX; i++) {
        assert_true(hs_kv_state_add_checkpoint(&brought, i, (const uint8_t *)"x", 1));
    }
    assert_false(hs_kv_state_add_checkpoint(&brought, 99, (const uint8_t *)"x", 1));
    hs_kv_state_clear(&brought);
    hs_mem_fail_after(1);
    assert_false(hs_kv_state_add_checkpoint(&brought, 1, (const uint8_t *)"x", 1));
    hs_mem_fail_after(0);
    hs_kv_state_clear(&brought);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_recently_used_is_parked_and_comes_back),
        cmocka_unit_test(the_budget_holds_and_the_oldest_goes),
        cmocka_unit_test(one_byte_too_little_parks_nothing),
        cmocka_unit_test(what_is_held_elsewhere_is_not_parked),
        cmocka_unit_test(short_contexts_are_not_parked),
        cmocka_unit_test(the_last_sequence_is_parked_before_it_is_cut),
        cmocka_unit_test(a_preempted_context_comes_back_whole),
        cmocka_unit_test(a_recurrent_state_goes_back_to_checkpoints),
        cmocka_unit_test(a_window_goes_back_to_checkpoints),
        cmocka_unit_test(a_parked_recurrent_state_keeps_its_checkpoints),
        cmocka_unit_test(checkpoints_are_limited),
        cmocka_unit_test(an_exported_state_serves_another_cache),
        cmocka_unit_test(a_parked_context_can_be_exported),
        cmocka_unit_test(an_exported_state_has_its_checkpoints),
        cmocka_unit_test(checkpoints_that_are_brought_along_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
