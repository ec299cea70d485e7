/* Slots, prefixes, cells, parked contexts and checkpoints, against the fake runtime's memory. */
#include "kv_test.h"

#define OTHER_KEY "key-b"

static void the_longest_prefix_is_reused(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 4, 0);
    assert_int_equal(run(&f, KEY, "abcdefgh"), 0);
    assert_int_equal(run(&f, KEY, "abcdefghij"), 8);
    /* One token is always left to evaluate. */
    assert_int_equal(run(&f, KEY, "abcdefghij"), 9);
    assert_int_equal(run(&f, KEY, "abcdefg"), 6);
    assert_int_equal(run(&f, KEY, "xyz"), 0);
    stop(&f);
}

static void keys_are_never_mixed(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 4, 0);
    assert_int_equal(run(&f, KEY, "abcdefgh"), 0);
    assert_int_equal(run(&f, OTHER_KEY, "abcdefgh"), 0);
    assert_int_equal(run(&f, OTHER_KEY, "abcdefghi"), 8);
    assert_int_equal(run(&f, KEY, "abcdefghk"), 8);
    stop(&f);
}

static void a_short_prefix_is_copied_and_the_rest_kept(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 4, 0);
    run(&f, KEY, "system:first conversation, a long one");
    assert_int_equal(run(&f, KEY, "system:second"), 7);
    assert_int_equal(test_counters().n_copy, 1);
    /* Cells of the shared prefix count once. */
    assert_int_equal(hs_kv_cache_used_cells(f.cache), 37 + 6);
    assert_int_equal(run(&f, KEY, "system:first conversation, a long one!"), 37);
    stop(&f);
}

static void a_running_request_shares_its_prefix(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 4, 0);
    size_t n_reused = 0;
    struct hs_kv_slot *a = take(&f, KEY, "system:one", &n_reused);
    evaluate(&f, a, "system:one");
    struct hs_kv_slot *b = take(&f, KEY, "system:two", &n_reused);
    assert_int_equal(n_reused, 7);
    assert_ptr_not_equal(a, b);
    assert_int_equal(hs_kv_cache_active_cells(f.cache), 10);
    evaluate(&f, b, "system:two");
    evaluate(&f, a, "system:one and more");
    assert_int_equal(hs_kv_cache_active_cells(f.cache), 10 + 3 + 9);
    hs_kv_cache_release(f.cache, a, false);
    assert_int_equal(hs_kv_cache_used_cells(f.cache), 10);
    evaluate(&f, b, "system:two goes on");
    hs_kv_cache_release(f.cache, b, true);
    assert_int_equal(hs_kv_cache_active_cells(f.cache), 0);
    stop(&f);
}

static void every_sequence_may_be_in_use(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 2, 0);
    size_t n_reused = 0;
    struct hs_kv_slot *a = take(&f, KEY, "abc", &n_reused);
    struct hs_kv_slot *b = take(&f, KEY, "def", &n_reused);
    struct hs_kv_slot *c = NULL;
    assert_int_equal(hs_kv_cache_take(f.cache, KEY, NULL, &c), HS_UNAVAILABLE);
    hs_kv_cache_release(f.cache, a, true);
    assert_int_equal(hs_kv_cache_take(f.cache, KEY, NULL, &c), HS_OK);
    hs_kv_cache_release(f.cache, b, true);
    hs_kv_cache_release(f.cache, c, true);
    stop(&f);
}

static void a_state_that_does_not_load_is_evaluated_anew(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, &(struct fake_config){.fails_state_load = true}, 512, 1, 1 << 20);
    run(&f, KEY, "first conversation");
    run(&f, KEY, "another conversation");
    int32_t tokens[64];
    size_t n = fake_tokenize("first conversation!", tokens);
    struct hs_kv_match match;
    hs_kv_cache_match(f.cache, KEY, tokens, n, NULL, &match);
    assert_int_equal(match.source, HS_KV_PARKED);
    struct hs_kv_slot *slot = NULL;
    assert_int_equal(hs_kv_cache_take(f.cache, KEY, &match, &slot), HS_OK);
    assert_int_equal(slot->content.n_tokens, 0);
    evaluate(&f, slot, "first conversation!");
    hs_kv_cache_release(f.cache, slot, true);
    stop(&f);
}

/* ---- memories that cannot be cut ---- */

static void a_window_that_is_still_there_is_cut(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, &(struct fake_config){.n_swa = 8}, 256, 2, 0);
    assert_int_equal(run(&f, KEY, "abcdefg"), 0);
    assert_int_equal(run(&f, KEY, "abcdeXY"), 5); /* position 0 is still in the window */
    run(&f, KEY, "abcdeXYZabcdefghijkl");
    assert_int_equal(run(&f, KEY, "abcdeXYZabc!"), 0);
    stop(&f);
}

/* A memory that refuses cuts without having said so: learned at the first refusal. */
static void a_refused_cut_is_learned(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, &(struct fake_config){.refuses_cuts = true}, 256, 2, 1 << 20);
    assert_false(hs_kv_cache_wants_checkpoints(f.cache));
    run(&f, KEY, "abcdefghijkl");
    int32_t tokens[64];
    size_t n = fake_tokenize("abcdefghiXX", tokens);
    struct hs_kv_match match;
    hs_kv_cache_match(f.cache, KEY, tokens, n, NULL, &match);
    assert_int_equal(match.n_reuse, 9);
    struct hs_kv_slot *slot = NULL;
    assert_int_equal(hs_kv_cache_take(f.cache, KEY, &match, &slot), HS_OK);
    assert_int_equal(slot->content.n_tokens, 0);
    assert_true(hs_kv_cache_wants_checkpoints(f.cache));
    evaluate(&f, slot, "abcdefghiXX");
    hs_kv_cache_release(f.cache, slot, true);
    assert_int_equal(run(&f, KEY, "abcdefghiXXY"), 11);
    assert_int_equal(run(&f, KEY, "abcdefghiZ"), 0);
    stop(&f);
}

/* ---- the truth after a failed decode ---- */

/* A window that is not whole is as good as none. */
static void resync_asks_for_the_window(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, &(struct fake_config){.n_swa = 4}, 256, 2, 0);
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(&f, KEY, "abcdefgh", &n_reused);
    evaluate(&f, slot, "abcdefgh");
    hs_kv_slot_resync(f.cache, slot);
    assert_int_equal(slot->content.n_tokens, 8);
    /* Two more than we know of have pushed two out that the ninth would look at. */
    for (int32_t i = 8; i < 10; i++) {
        struct hs_rt_batch_item item = {'x', i, slot->seq, true, NULL};
        enum hs_rt_decode outcome;
        struct hs_error err;
        assert_int_equal(fake_runtime()->decode(f.context, &item, 1, &outcome, &err), HS_OK);
    }
    hs_kv_slot_resync(f.cache, slot);
    assert_int_equal(slot->content.n_tokens, 0);
    assert_int_equal(fake_runtime()->kv_pos_max(f.context, slot->seq), -1);
    hs_kv_cache_release(f.cache, slot, true);
    stop(&f);
}

static void resync_believes_the_context(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, 256, 2, 0);
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(&f, KEY, "abcdef", &n_reused);
    evaluate(&f, slot, "abcdef");
    hs_kv_slot_resync(f.cache, slot);
    assert_int_equal(slot->content.n_tokens, 6);
    /* The context holds more than we know of. */
    struct hs_rt_batch_item item = {'x', 6, slot->seq, true, NULL};
    enum hs_rt_decode outcome;
    struct hs_error err;
    assert_int_equal(fake_runtime()->decode(f.context, &item, 1, &outcome, &err), HS_OK);
    hs_kv_slot_resync(f.cache, slot);
    assert_int_equal(slot->content.n_tokens, 6);
    assert_int_equal(fake_runtime()->kv_pos_max(f.context, slot->seq), 5);
    /* It holds less. */
    assert_true(fake_runtime()->kv_remove(f.context, slot->seq, 3, -1));
    hs_kv_slot_resync(f.cache, slot);
    assert_int_equal(slot->content.n_tokens, 0);
    assert_int_equal(fake_runtime()->kv_pos_max(f.context, slot->seq), -1);
    hs_kv_cache_release(f.cache, slot, true);
    stop(&f);
}

/* Random conversations over few sequences and cells: KV is always right, cells add up. */
static void check_random(const struct fake_config *config, uint64_t budget)
{
    struct fixture f;
    start(&f, config, 200, 3, budget);
    uint32_t seed = 12345;
    static const char *const stems[] = {"alpha beta gamma ", "alpha beta delta ", "alphabet soup "};
    for (int round = 0; round < 3000; round++) {
        char text[128];
        seed = seed * 1664525u + 1013904223u;
        char tail[64];
        test_text(tail, 1 + (seed >> 26) % 40, (seed >> 8) % 7);
        snprintf(text, sizeof(text), "%s%s", stems[(seed >> 16) % 3], tail);
        int32_t tokens[128];
        size_t n = fake_tokenize(text, tokens);
        struct hs_kv_match match;
        hs_kv_cache_match(f.cache, KEY, tokens, n, NULL, &match);
        struct hs_kv_slot *slot = NULL;
        assert_int_equal(hs_kv_cache_take(f.cache, KEY, &match, &slot), HS_OK);
        while ((size_t)hs_kv_cache_free_cells(f.cache) < n) {
            assert_true(hs_kv_cache_evict_idle(f.cache));
        }
        if (slot->content.n_tokens < 8) {
            char part[16];
            snprintf(part, sizeof(part), "%.8s", text);
            evaluate(&f, slot, part);
            hs_kv_slot_checkpoint(f.cache, slot);
        }
        evaluate(&f, slot, text);
        hs_kv_cache_release(f.cache, slot, (seed >> 5) % 8 != 0);
        assert_int_equal(hs_kv_cache_active_cells(f.cache), 0);
        assert_true(hs_kv_cache_host_bytes(f.cache) <= budget);
    }
    while (hs_kv_cache_evict_idle(f.cache)) {
    }
    assert_int_equal(hs_kv_cache_used_cells(f.cache), 0);
    stop(&f);
}

static void random_conversations(void **state)
{
    (void)state;
    check_random(NULL, 0);
    check_random(NULL, 1000);
    check_random(&(struct fake_config){.is_recurrent = true}, 2000);
    check_random(&(struct fake_config){.n_swa = 10}, 2000);
    check_random(&(struct fake_config){.refuses_cuts = true}, 2000);
}

/* Out of memory anywhere: an error or less reuse, never wrong KV. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t i = 1; i < 60; i++) {
        struct fixture f;
        start(&f, &(struct fake_config){.is_recurrent = i % 2 == 0}, 256, 2, 1 << 20);
        run(&f, KEY, "a first conversation");
        run(&f, KEY, "second conversation!");
        hs_mem_fail_after(i);
        int32_t tokens[64];
        size_t n = fake_tokenize("a first con, but another one", tokens);
        struct hs_kv_match match;
        struct hs_kv_slot *slot = NULL;
        hs_kv_cache_match(f.cache, KEY, tokens, n, NULL, &match);
        hs_status status = hs_kv_cache_take(f.cache, KEY, &match, &slot);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            evaluate(&f, slot, "a first con, but another one");
            hs_mem_fail_after(i);
            hs_kv_slot_checkpoint(f.cache, slot);
            hs_kv_cache_preempt(f.cache, slot, true);
            hs_kv_cache_evict_idle(f.cache);
            hs_mem_fail_after(0);
        }
        run(&f, KEY, "a first conversation goes on");
        stop(&f);
    }
    for (uint64_t i = 1; i <= 5; i++) {
        fake_runtime_reset(NULL);
        struct fixture f;
        start(&f, NULL, 256, 2, 0);
        struct hs_kv_cache_params params = {
            .rt = fake_runtime(), .context = f.context, .n_seq_max = 2};
        hs_kv_cache *cache = NULL;
        struct hs_error err;
        hs_mem_fail_after(i);
        assert_int_equal(hs_kv_cache_new(&params, &cache, &err), HS_OUT_OF_MEMORY);
        hs_mem_fail_after(0);
        stop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_prefix_is_reused),
        cmocka_unit_test(keys_are_never_mixed),
        cmocka_unit_test(a_short_prefix_is_copied_and_the_rest_kept),
        cmocka_unit_test(a_running_request_shares_its_prefix),
        cmocka_unit_test(every_sequence_may_be_in_use),
        cmocka_unit_test(a_state_that_does_not_load_is_evaluated_anew),
        cmocka_unit_test(a_window_that_is_still_there_is_cut),
        cmocka_unit_test(a_refused_cut_is_learned),
        cmocka_unit_test(resync_believes_the_context),
        cmocka_unit_test(resync_asks_for_the_window),
        cmocka_unit_test(random_conversations),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
