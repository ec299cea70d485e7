/* Arithmetic of memory: the bound's terms by hand, and how many layers fit. */
#include "memory_bound.h"
#include "runtime_test.h"

static const struct hs_gguf_skim skim = {.weights_bytes = 1000000000,
                                         .n_ctx_train = 4096,
                                         .n_layer = 30,
                                         .n_embd = 576,
                                         .n_ff = 1536,
                                         .n_head = 9,
                                         .n_vocab = 49152,
                                         .n_head_kv_sum = 90, /* 3 in each layer */
                                         .key_length = 64,
                                         .value_length = 64};

static void test_kv_is_exact(void **state)
{
    (void)state;
    struct hs_rt_context_params context = context_params(8192, 1);
    struct hs_rt_memory memory = {0};
    hs_memory_bound(&skim, &context, &memory);
    /* 8192 cells, 30 layers, 3 heads, 64 values for K and for V, two bytes. */
    assert_true(memory.kv_bytes == 8192ull * 30 * 3 * 64 * 2 * 2);
    assert_true(memory.weights_bytes == skim.weights_bytes);
    context.kv_type = HS_KV_Q8_0;
    hs_memory_bound(&skim, &context, &memory);
    assert_true(memory.kv_bytes == 8192ull * 30 * 3 * 64 * 2 / 32 * 34);
    /* 257 cells become 512. */
    context = context_params(257, 1);
    hs_memory_bound(&skim, &context, &memory);
    assert_true(memory.kv_bytes == 512ull * 30 * 3 * 64 * 2 * 2);
    hs_memory_bound(&skim, NULL, &memory);
    assert_true(memory.kv_bytes == 0 && memory.compute_bytes == 0);
}

static void test_compute_grows_with_what_it_should(void **state)
{
    (void)state;
    struct hs_rt_context_params context = context_params(4096, 1);
    struct hs_rt_memory base = {0};
    struct hs_rt_memory more = {0};
    hs_memory_bound(&skim, &context, &base);
    context.n_seq_max = 65;
    hs_memory_bound(&skim, &context, &more);
    /* 64 more rows of logits, in the graph and outside. */
    assert_true(more.compute_bytes - base.compute_bytes == 2ull * 64 * 49152 * 4);
    context.n_seq_max = 1;
    context.flash_attn = HS_FLASH_ATTN_OFF;
    hs_memory_bound(&skim, &context, &more);
    /* One score per head, position and token of the micro-batch. */
    assert_true(more.compute_bytes - base.compute_bytes == 4096ull * 512 * 9 * 4);
    context.flash_attn = HS_FLASH_ATTN_AUTO;
    context.n_batch = 64;
    hs_memory_bound(&skim, &context, &more);
    assert_true(more.compute_bytes < base.compute_bytes / 4);
}

static void test_layers_on_a_gpu(void **state)
{
    (void)state;
    struct hs_rt_memory memory = {
        .weights_bytes = 31000000000, .kv_bytes = 0, .compute_bytes = 1000000000};
    assert_int_equal(hs_memory_gpu_layers(&skim, &memory, -1), 0);
    assert_int_equal(hs_memory_gpu_layers(&skim, &memory, 10), 0);
    /* A gigabyte a layer, 31 with the output; a tenth stays free, one goes to computing. */
    const struct {
        uint64_t free_gigabytes;
        int32_t layers;
    } ways[] = {{1, 0}, {2, 0}, {4, 2}, {20, 16}, {24, 20}, {40, 31}, {80, 31}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        memory.device_free_bytes = ways[i].free_gigabytes * 1000000000;
        assert_int_equal(hs_memory_gpu_layers(&skim, &memory, -1), ways[i].layers);
    }
    assert_int_equal(hs_memory_gpu_layers(&skim, &memory, 0), 0);
    assert_int_equal(hs_memory_gpu_layers(&skim, &memory, 7), 7);
    assert_int_equal(hs_memory_gpu_layers(&skim, &memory, 31), 31);
    assert_int_equal(hs_memory_gpu_layers(&skim, &memory, 32), 31);
}

static void test_host_share(void **state)
{
    (void)state;
    struct hs_rt_memory memory = {.weights_bytes = 31000, .kv_bytes = 3100, .compute_bytes = 500};
    assert_true(hs_memory_host_share(&skim, &memory, 0) == 34600);
    assert_true(hs_memory_host_share(&skim, &memory, 31) == 0);
    assert_true(hs_memory_host_share(&skim, &memory, 30) == 1100 + 500);
    assert_true(hs_memory_host_share(&skim, &memory, -1) == 34600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_is_exact),
        cmocka_unit_test(test_compute_grows_with_what_it_should),
        cmocka_unit_test(test_layers_on_a_gpu),
        cmocka_unit_test(test_host_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
