/* Who gets how many tokens in a step. */
#include "engine_test.h"

#include "batch.h"

static const struct hs_batch_limits roomy = {.n_batch = 64, .prefill_chunk = 16, .n_free = 1000};

static void nobody_gets_nothing(void **state)
{
    (void)state;
    assert_int_equal(hs_batch_plan(&roomy, NULL, 0, 0, NULL), 0);
}

static void a_lone_prompt_gets_the_whole_batch(void **state)
{
    (void)state;
    int32_t wants[] = {500};
    int32_t quotas[1];
    assert_int_equal(hs_batch_plan(&roomy, wants, 1, 0, quotas), 64);
    assert_int_equal(quotas[0], 64);
}

static void a_short_prompt_gets_all_it_wants(void **state)
{
    (void)state;
    int32_t wants[] = {10};
    int32_t quotas[1];
    assert_int_equal(hs_batch_plan(&roomy, wants, 1, 3, quotas), 10);
}

static void prompts_get_the_small_chunk_while_others_decode(void **state)
{
    (void)state;
    int32_t wants[] = {1, 500, 1};
    int32_t quotas[3];
    assert_int_equal(hs_batch_plan(&roomy, wants, 3, 0, quotas), 18);
    assert_int_equal(quotas[0], 1);
    assert_int_equal(quotas[1], 16);
    assert_int_equal(quotas[2], 1);
}

static void prompts_share_evenly_and_pass_on_what_is_left(void **state)
{
    (void)state;
    int32_t wants[] = {500, 5, 500, 500};
    int32_t quotas[4];
    assert_int_equal(hs_batch_plan(&roomy, wants, 4, 0, quotas), 64);
    assert_int_equal(quotas[1], 5);
    for (int i = 0; i < 4; i++) {
        assert_true(i == 1 || quotas[i] >= 16);
    }
    assert_int_equal(quotas[0] + quotas[2] + quotas[3], 59);
}

/* 64 prompts of 60 tokens in a batch of 2048: even shares would end none of them, in order of
 * arrival 34 could end; a sixteenth of the room is for those that cannot, so 32 do. */
static void prompts_that_can_end_do(void **state)
{
    (void)state;
    struct hs_batch_limits limits = {.n_batch = 2048, .prefill_chunk = 64, .n_free = 10000};
    int32_t wants[64];
    int32_t quotas[64];
    for (int i = 0; i < 64; i++) {
        wants[i] = 60;
    }
    assert_int_equal(hs_batch_plan(&limits, wants, 64, 5, quotas), 2048);
    for (int i = 0; i < 64; i++) {
        assert_true(i < 32 ? quotas[i] == 60 : quotas[i] == 4);
    }
    /* A long prompt beside short ones that keep coming gets its part of every step. */
    int32_t mixed[] = {4000, 1, 20, 70, 30};
    assert_int_equal(hs_batch_plan(&limits, mixed, 5, 0, quotas), 65);
    assert_int_equal(quotas[1], 1);
    assert_int_equal(quotas[2], 20);
    assert_int_equal(quotas[4], 30);
    assert_in_range(quotas[0], 4, 14);
    assert_in_range(quotas[3], 4, 14);
    assert_int_equal(quotas[0] + quotas[3], 14);
}

static void who_gets_the_rest_rotates(void **state)
{
    (void)state;
    struct hs_batch_limits limits = {.n_batch = 3, .prefill_chunk = 3, .n_free = 1000};
    int32_t wants[] = {100, 100};
    int32_t sums[2] = {0};
    for (uint64_t turn = 0; turn < 10; turn++) {
        int32_t quotas[2];
        assert_int_equal(hs_batch_plan(&limits, wants, 2, turn, quotas), 3);
        sums[0] += quotas[0];
        sums[1] += quotas[1];
    }
    assert_int_equal(sums[0], 15);
    assert_int_equal(sums[1], 15);
}

static void decoders_rotate_when_the_batch_is_too_small(void **state)
{
    (void)state;
    struct hs_batch_limits limits = {.n_batch = 2, .prefill_chunk = 8, .n_free = 1000};
    int32_t wants[] = {1, 1, 1, 50};
    int32_t sums[4] = {0};
    for (uint64_t turn = 0; turn < 12; turn++) {
        int32_t quotas[4];
        assert_int_equal(hs_batch_plan(&limits, wants, 4, turn, quotas), 2);
        for (int i = 0; i < 4; i++) {
            sums[i] += quotas[i];
        }
    }
    assert_int_equal(sums[0] + sums[1] + sums[2], 24);
    for (int i = 0; i < 3; i++) {
        assert_in_range(sums[i], 6, 10);
    }
}

static void the_oldest_come_first_when_cells_are_short(void **state)
{
    (void)state;
    struct hs_batch_limits limits = {.n_batch = 64, .prefill_chunk = 16, .n_free = 2};
    int32_t wants[] = {1, 1, 1};
    for (uint64_t turn = 0; turn < 5; turn++) {
        int32_t quotas[3];
        assert_int_equal(hs_batch_plan(&limits, wants, 3, turn, quotas), 2);
        assert_int_equal(quotas[2], 0);
    }
}

static void no_cells_no_tokens(void **state)
{
    (void)state;
    struct hs_batch_limits limits = {.n_batch = 64, .prefill_chunk = 16, .n_free = 0};
    int32_t wants[] = {1, 30};
    int32_t quotas[2];
    assert_int_equal(hs_batch_plan(&limits, wants, 2, 0, quotas), 0);
}

/* Over all small cases: limits hold, nobody gets more than asked, nothing is left unused. */
static void the_rules_hold_everywhere(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        int32_t wants[6];
        int32_t quotas[6];
        int32_t n = 1 + round % 6;
        int32_t n_decode = 0;
        int32_t n_prompt = 0;
        for (int32_t i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            wants[i] = 1 + (int32_t)((seed >> 20) % 40) * (int32_t)((seed >> 10) % 2);
            n_decode += wants[i] == 1;
            n_prompt += wants[i] > 1 ? wants[i] : 0;
        }
        struct hs_batch_limits limits = {.n_batch = 1 + (int32_t)(seed >> 8) % 50,
                                         .prefill_chunk = 1 + (int32_t)(seed >> 12) % 20,
                                         .n_free = (int32_t)(seed >> 16) % 60};
        int32_t sum = hs_batch_plan(&limits, wants, n, (uint64_t)round, quotas);
        int32_t total = 0;
        for (int32_t i = 0; i < n; i++) {
            assert_in_range(quotas[i], 0, wants[i]);
            total += quotas[i];
        }
        assert_int_equal(sum, total);
        int32_t room = limits.n_batch < limits.n_free ? limits.n_batch : limits.n_free;
        int32_t decoded = n_decode < room ? n_decode : room;
        int32_t rest = room - decoded;
        rest = decoded > 0 && limits.prefill_chunk < rest ? limits.prefill_chunk : rest;
        assert_int_equal(sum, decoded + (n_prompt < rest ? n_prompt : rest));
    }
}

static void a_batch_holds_spans_in_order(void **state)
{
    (void)state;
    struct hs_batch batch;
    assert_int_equal(hs_batch_init(&batch, 8, 2), HS_OK);
    int32_t tokens[] = {5, 6, 7};
    struct hs_rt_adapter_set set = {0};
    hs_batch_add(&batch, 3, 9, 100, tokens, 3, true, &set);
    hs_batch_add(&batch, 1, 4, 0, tokens, 2, false, NULL);
    assert_int_equal(batch.n_items, 5);
    assert_int_equal(batch.n_spans, 2);
    assert_int_equal(batch.items[2].pos, 102);
    assert_int_equal(batch.items[2].token, 7);
    assert_int_equal(batch.items[2].seq, 9);
    assert_ptr_equal(batch.items[0].adapters, &set);
    assert_ptr_equal(batch.items[2].adapters, &set);
    assert_null(batch.items[3].adapters);
    assert_true(batch.items[2].want_logits);
    assert_false(batch.items[1].want_logits);
    assert_false(batch.items[4].want_logits);
    assert_int_equal(batch.spans[1].first, 3);
    assert_int_equal(batch.spans[1].owner, 1);
    hs_batch_clear(&batch);
    assert_int_equal(batch.n_items, 0);
    hs_batch_free(&batch);
    hs_batch_free(&batch);
}

static void a_batch_needs_memory(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 2; i++) {
        struct hs_batch batch;
        hs_mem_fail_after(i);
        assert_int_equal(hs_batch_init(&batch, 8, 2), HS_OUT_OF_MEMORY);
        hs_mem_fail_after(0);
    }
}

static void a_chunk_fits_its_time(void **state)
{
    (void)state;
    /* 200 ms at 2 ms a token are 100 tokens, within [16, most]. */
    assert_int_equal(hs_batch_chunk(512, 200, 2, 1), 100);
    assert_int_equal(hs_batch_chunk(100, 200, 2, 1), 100);
    assert_int_equal(hs_batch_chunk(99, 200, 2, 1), 99);
    assert_int_equal(hs_batch_chunk(512, 200, 200.0 / 17, 1), 17);
    assert_int_equal(hs_batch_chunk(512, 200, 200.0 / 16, 1), 16);
    assert_int_equal(hs_batch_chunk(512, 200, 1000, 1), 16);
    assert_int_equal(hs_batch_chunk(512, 200, 1e300, 1), 16);
    assert_int_equal(hs_batch_chunk(512, 200, 1e-300, 1), 512);
    assert_int_equal(hs_batch_chunk(8, 200, 1000, 1), 8);
    /* Not measured yet: a careful guess. */
    assert_int_equal(hs_batch_chunk(512, 200, 0, 1), 64);
    assert_int_equal(hs_batch_chunk(32, 200, 0, 1), 32);
    /* A budget for every second prompt. */
    assert_int_equal(hs_batch_chunk(512, 200, 2, 0), 100);
    assert_int_equal(hs_batch_chunk(512, 200, 2, 3), 100);
    assert_int_equal(hs_batch_chunk(512, 200, 2, 4), 200);
    assert_int_equal(hs_batch_chunk(512, 200, 2, 11), 500);
    assert_int_equal(hs_batch_chunk(512, 200, 2, 12), 512);
    assert_int_equal(hs_batch_chunk(512, 200, 0, 4), 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_fits_its_time),
        cmocka_unit_test(nobody_gets_nothing),
        cmocka_unit_test(a_lone_prompt_gets_the_whole_batch),
        cmocka_unit_test(a_short_prompt_gets_all_it_wants),
        cmocka_unit_test(prompts_get_the_small_chunk_while_others_decode),
        cmocka_unit_test(prompts_share_evenly_and_pass_on_what_is_left),
        cmocka_unit_test(prompts_that_can_end_do),
        cmocka_unit_test(who_gets_the_rest_rotates),
        cmocka_unit_test(decoders_rotate_when_the_batch_is_too_small),
        cmocka_unit_test(the_oldest_come_first_when_cells_are_short),
        cmocka_unit_test(no_cells_no_tokens),
        cmocka_unit_test(the_rules_hold_everywhere),
        cmocka_unit_test(a_batch_holds_spans_in_order),
        cmocka_unit_test(a_batch_needs_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
