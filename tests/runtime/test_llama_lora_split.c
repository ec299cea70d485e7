/* Which thread gets which rows, for batches of adapters whose sizes are known. */
#include "runtime_test.h"

#include "llama_lora.h"

#define N_ITEMS 64
#define THREADS_MAX 8

static const struct hs_rt_batch_item items[N_ITEMS];
static struct hs_rt_adapter adapters[N_ITEMS];
static struct hs_lora_member members[N_ITEMS];
static int32_t rows[N_ITEMS][N_ITEMS];
static int32_t cuts[THREADS_MAX + 1];
static float row_costs[N_ITEMS], thread_costs[THREADS_MAX];
static struct hs_lora_plan plan;
static struct hs_lora_split split;

static void begin(int32_t n_rows)
{
    memset(members, 0, sizeof(members));
    split = (struct hs_lora_split){.cuts = cuts};
    plan = (struct hs_lora_plan){.items = items,
                                 .n_items = N_ITEMS,
                                 .members = members,
                                 .n_rows = n_rows,
                                 .row_costs = row_costs,
                                 .thread_costs = thread_costs};
}

/* An adapter of so many bytes for n rows from `first` on. */
static void add(uint64_t bytes, int32_t first, int32_t n)
{
    int32_t i = plan.n_members++;
    adapters[i].n_bytes = bytes;
    for (int32_t k = 0; k < n; k++) {
        rows[i][k] = first + k;
    }
    members[i] = (struct hs_lora_member){.adapter = &adapters[i], .all = {rows[i], NULL, n}};
}

static void make(int32_t n_threads)
{
    hs_lora_split_make(&plan, false, n_threads, &split);
    assert_int_equal(split.n_threads, n_threads);
    assert_int_equal(cuts[0], 0);
    assert_int_equal(cuts[n_threads], plan.n_rows);
    for (int32_t i = 0; i < n_threads; i++) {
        assert_true(cuts[i] <= cuts[i + 1]);
    }
}

static void equal_adapters_are_shared_equally(void **state)
{
    (void)state;
    begin(16);
    for (int32_t row = 0; row < 16; row++) {
        add(1000000, row, 1);
    }
    make(2);
    assert_true(split.is_by_rows);
    assert_int_equal(cuts[1], 8);
    make(4);
    assert_true(split.is_by_rows);
    assert_int_equal(cuts[1], 4);
    assert_int_equal(cuts[3], 12);
    make(1);
    assert_true(split.is_by_rows);
}

/* Rows without adapters cost nothing, one with an adapter four times as large counts for four. */
static void rows_count_by_what_they_read(void **state)
{
    (void)state;
    begin(40);
    for (int32_t row = 0; row < 4; row++) {
        add(1000000, 20 + row, 1);
    }
    add(4000000, 30, 1);
    make(2);
    assert_true(split.is_by_rows);
    assert_int_equal(cuts[1], 24);
}

static void a_lone_row_is_not_left_to_one_thread(void **state)
{
    (void)state;
    begin(1);
    add(1000000, 0, 1);
    make(2);
    assert_false(split.is_by_rows);
    begin(3);
    for (int32_t row = 0; row < 3; row++) {
        add(1000000, row, 1);
    }
    make(2);
    assert_false(split.is_by_rows);
}

/* Waiting for each other once more in every product costs more than a small adapter. */
static void a_small_adapter_is_left_to_one_thread(void **state)
{
    (void)state;
    begin(1);
    add(1000000, 0, 1);
    plan.n_products = 100;
    make(2);
    assert_true(split.is_by_rows);
    begin(1);
    add(100000000, 0, 1);
    plan.n_products = 100;
    make(2);
    assert_false(split.is_by_rows);
}

/* Each thread would read the one adapter, which is little beside the rows when they are many. */
static void one_adapter_for_all_rows(void **state)
{
    (void)state;
    begin(2);
    add(1000000, 0, 2);
    make(2);
    assert_false(split.is_by_rows);
    begin(64);
    add(1000000, 0, 64);
    plan.n_products = 50;
    make(2);
    assert_true(split.is_by_rows);
    assert_int_equal(cuts[1], 32);
}

static void outputs_are_shared_by_themselves(void **state)
{
    (void)state;
    begin(8);
    for (int32_t i = 0; i < 2; i++) {
        add(1000000, 4 * i, 4);
        members[i].outputs = (struct hs_lora_rows){&rows[2][i], NULL, 1};
        rows[2][i] = i;
    }
    plan.n_outputs = 2;
    hs_lora_split_make(&plan, true, 2, &split);
    assert_true(split.is_by_rows);
    assert_int_equal(cuts[1], 1);
    assert_int_equal(cuts[2], 2);
}

static void nothing_to_share(void **state)
{
    (void)state;
    begin(5);
    make(4);
    begin(0);
    make(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_adapters_are_shared_equally),
        cmocka_unit_test(rows_count_by_what_they_read),
        cmocka_unit_test(a_lone_row_is_not_left_to_one_thread),
        cmocka_unit_test(a_small_adapter_is_left_to_one_thread),
        cmocka_unit_test(one_adapter_for_all_rows),
        cmocka_unit_test(outputs_are_shared_by_themselves),
        cmocka_unit_test(nothing_to_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
