/* What hs_gguf_check_model says of sizes, heads, windows and experts. */
#include "gguf_check_test.h"

static void sizes_of_the_model(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{SET, "llama.block_count", 0, NULL}}, BAD, "block_count' is 0, not from 1 to 512"},
        {{{SET, "llama.block_count", 512, NULL}}, HS_OK, ""},
        {{{SET, "llama.block_count", 513, NULL}}, BAD, "block_count' is 513"},
        {{{TYPE, "llama.block_count", GGUF_W_I32, NULL}}, BAD, "of type i32, not u32"},
        {{{DROP, "llama.block_count", 0, NULL}}, BAD, "block_count' is missing"},
        {{{SET, "llama.context_length", 0, NULL}}, BAD, "context_length"},
        {{{SET, "llama.context_length", 0x80000000u, NULL}}, BAD, "context_length"},
        {{{SET, "llama.context_length", INT32_MAX, NULL}}, HS_OK, ""},
        {{{DROP, "llama.context_length", 0, NULL}}, BAD, "context_length' is missing"},
        {{{SET, "llama.embedding_length", 0, NULL}}, BAD, "embedding_length"},
        {{{SET, "llama.embedding_length", UINT32_MAX, NULL}}, BAD, "embedding_length"},
        {{{SET, "llama.vocab_size", 0, NULL}}, BAD, "vocab_size"},
        {{{SET, "llama.feed_forward_length", UINT32_MAX, NULL}}, BAD, "feed_forward_length"},
        {{{ADD_U32, "llama.nextn_predict_layers", 1, NULL}}, BAD, "all 1 layers"},
        {{{ADD_U32, "llama.pooling_type", 5, NULL}}, BAD, "pooling_type"},
        {{{ADD_U32, "llama.wkv.head_size", 0, NULL}}, BAD, "wkv.head_size"},
        {{{ADD_U32, "llama.wkv.head_size", 48, NULL}}, BAD, "wkv.head_size 48"},
        {{{ADD_U32, "llama.ssm.conv_kernel", 1, NULL}}, BAD, "ssm.conv_kernel"},
        {{{ADD_U32, "llama.ssm.group_count", 0, NULL}}, BAD, "ssm.group_count 0"},
    };
    RUN(cases, 1);
}

static void heads(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{SET, "llama.attention.head_count", 3, NULL},
          {SET, "llama.attention.head_count_kv", 3, NULL}},
         BAD,
         "64 does not divide into 3 heads"},
        {{{SET, "llama.attention.head_count", 1, NULL},
          {SET, "llama.attention.head_count_kv", 1, NULL},
          {SET, "llama.rope.dimension_count", 64, NULL}},
         HS_OK,
         ""},
        {{{SET, "llama.attention.head_count_kv", 1, NULL}}, HS_OK, ""},
        {{{SET, "llama.attention.head_count_kv", 4, NULL}}, BAD, "2 heads cannot share 4"},
        {{{SET, "llama.attention.head_count", 4, NULL},
          {SET, "llama.attention.head_count_kv", 3, NULL}},
         BAD,
         "layer 0: 4 heads cannot share 3"},
        {{{SET, "llama.attention.head_count", UINT32_MAX, NULL}}, BAD, "attention.head_count"},
        {{{TYPE, "llama.attention.head_count", GGUF_W_F32, NULL}},
         BAD,
         "must be a u32 or an array"},
        {{{SET, "llama.rope.dimension_count", 16, NULL}}, BAD, "equal to the head size 32"},
        {{{SET, "llama.rope.dimension_count", 0, NULL}}, BAD, "rope.dimension_count' is 0"},
        {{{SET, "llama.rope.dimension_count", 33, NULL}}, BAD, "rope.dimension_count"},
        {{{SET, "llama.rope.dimension_count", 64, NULL}}, BAD, "rope.dimension_count"},
        {{{ADD_U32, "llama.attention.key_length", 32, NULL},
          {ADD_U32, "llama.attention.value_length", 16, NULL}},
         BAD,
         "equal size, not 32 and 16"},
        {{{ADD_U32, "llama.attention.key_length", 0, NULL}}, BAD, "key_length' is 0"},
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {DROP, "llama.attention.head_count_kv", 0, NULL}},
         HS_OK, /* a model without attention, as far as the numbers go */
         ""},
    };
    RUN(cases, 1);
}

static void numbers_per_layer(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count", 2, "3"}},
         HS_OK,
         ""},
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count", 2, "2"}},
         BAD,
         "an array of 3"},
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count", 2, "4"}},
         BAD,
         "an array of 3"},
        {{{DROP, "llama.attention.head_count_kv", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count_kv", 5, "3"}},
         BAD,
         "cannot share 5"},
        {{{DROP, "llama.feed_forward_length", 0, NULL},
          {ADD_ARRAY, "llama.feed_forward_length", 32, "3"}},
         HS_OK,
         ""},
    };
    RUN(cases, 3);
}

static void floats_and_rope(void **state)
{
    (void)state;
    const char *eps = "llama.attention.layer_norm_rms_epsilon";
    const struct check_case cases[] = {
        {{{SET, eps, NAN_BITS, NULL}}, BAD, "finite f32"},
        {{{SET, eps, INF_BITS, NULL}}, BAD, "finite f32"},
        {{{SET, eps, MINUS_ONE, NULL}}, BAD, "not negative"},
        {{{SET, eps, 0, NULL}}, HS_OK, ""},
        {{{TYPE, eps, GGUF_W_U32, NULL}}, BAD, "(u32)"},
        {{{ADD_F32, "llama.rope.freq_base", NAN_BITS, NULL}}, BAD, "rope.freq_base"},
        {{{ADD_F32, "llama.attention.scale", MINUS_ONE, NULL}}, HS_OK, ""},
        {{{ADD_F32, "llama.attention.scale", NAN_BITS, NULL}}, BAD, "attention.scale"},
        {{{ADD_STR, "llama.rope.scaling.type", 0, "yarn"}}, HS_OK, ""},
        {{{ADD_STR, "llama.rope.scaling.type", 0, "other"}}, BAD, "rope.scaling.type"},
        {{{ADD_STR, "llama.rope.scaling.type", 0, ""}}, BAD, "rope.scaling.type"},
        {{{ADD_U32, "llama.rope.scaling.type", 1, NULL}}, BAD, "rope.scaling.type"},
    };
    RUN(cases, 1);
}

static void windows(void **state)
{
    (void)state;
    const char *size = "llama.attention.sliding_window";
    const char *pattern = "llama.attention.sliding_window_pattern";
    const struct check_case cases[] = {
        {{{ADD_U32, size, 32, NULL}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_U32, pattern, 2, NULL}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_U32, pattern, 1, NULL}}, BAD, "no layer with a window"},
        {{{ADD_U32, size, 0, NULL}, {ADD_U32, pattern, 1, NULL}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_ARRAY, pattern, 1, "2"}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_ARRAY, pattern, 0, "2"}}, BAD, "no layer with a window"},
        {{{ADD_U32, size, 32, NULL}, {ADD_ARRAY, pattern, 1, "0"}}, BAD, "no layer with a window"},
        {{{ADD_U32, size, 32, NULL}, {ADD_STR, pattern, 0, "x"}}, BAD, "no layer with a window"},
    };
    RUN(cases, 2);
}

static void experts(void **state)
{
    (void)state;
    const char *count = "llama.expert_count", *used = "llama.expert_used_count";
    const char *groups = "llama.expert_group_count";
    const char *groups_used = "llama.expert_group_used_count";
    const struct check_case cases[] = {
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 2, NULL}}, HS_OK, ""},
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 8, NULL}}, HS_OK, ""},
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 9, NULL}}, BAD, "9 experts used of 8"},
        {{{ADD_U32, count, 8, NULL}}, BAD, "0 experts used of 8"},
        {{{ADD_U32, used, 1, NULL}}, BAD, "1 experts used of 0"},
        {{{ADD_U32, count, 1024, NULL}, {ADD_U32, used, 1, NULL}}, HS_OK, ""},
        {{{ADD_U32, count, 1025, NULL}, {ADD_U32, used, 1, NULL}}, BAD, "expert_count' is 1025"},
        {{{ADD_U32, groups, 1, NULL}}, BAD, "1 groups"},
        {{{ADD_U32, count, 8, NULL},
          {ADD_U32, used, 2, NULL},
          {ADD_U32, groups, 4, NULL},
          {ADD_U32, groups_used, 2, NULL}},
         HS_OK,
         ""},
        {{{ADD_U32, count, 8, NULL},
          {ADD_U32, used, 2, NULL},
          {ADD_U32, groups, 3, NULL},
          {ADD_U32, groups_used, 2, NULL}},
         BAD,
         "3 groups"},
        {{{ADD_U32, count, 8, NULL},
          {ADD_U32, used, 2, NULL},
          {ADD_U32, groups, 4, NULL},
          {ADD_U32, groups_used, 4, NULL}},
         BAD,
         "of which 4 are used"},
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 2, NULL}, {ADD_U32, groups, 8, NULL}},
         BAD,
         "8 groups"},
    };
    RUN(cases, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_the_model),
        cmocka_unit_test(heads),
        cmocka_unit_test(numbers_per_layer),
        cmocka_unit_test(floats_and_rope),
        cmocka_unit_test(windows),
        cmocka_unit_test(experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
