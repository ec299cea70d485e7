/* hyprstream adapter merge, over a fake engine that remembers what it was asked for. */
#include "api_test.h"

#include "adapters/adapter_write.h"
#include "fake_fusion.h"
#include "storage/adapter_store.h"
#include "tiny_adapter.h"
#include "tiny_gguf.h"

/* A model, the adapters "french" and "polite" in the registry, and a GGUF LoRA file "result" for
 * the fake to write. */
static int setup(void **state)
{
    if (api_setup(state)) {
        return -1;
    }
    struct api_test *test = *state;
    char *model = (char *)api_path(test, "tiny.gguf");
    api_write_model(model, "tiny");
    assert_int_equal(api_run(test, hs_cmd_model_add, model, NULL), HS_OK);
    for (int i = 0; i < 2; i++) {
        char *folder = (char *)api_path(test, i == 0 ? "a" : "b");
        assert_true(tiny_adapter_write(folder, TINY_GGUF_N_EMBD, (float)i));
        test->options[HS_OPT_NAME] = i == 0 ? "french" : "polite";
        if (api_run(test, hs_cmd_adapter_add, folder, NULL) != HS_OK) {
            fail_msg("%s", test->err.message);
        }
    }
    test->options[HS_OPT_NAME] = NULL;
    static float values[2 * TINY_GGUF_N_EMBD];
    struct hs_lora_target target = {.tensor = "blk.0.attn_q.weight", .rank = 2, .scale = 1};
    hs_lora_base *base = NULL;
    assert_int_equal(hs_lora_base_open(model, &base, NULL), HS_OK);
    assert_true(hs_lora_base_find(base, target.tensor, &target.n_in, &target.n_out));
    target.a = (struct hs_lora_matrix){HS_LORA_F32, 2, target.n_in, values, NULL};
    target.b = (struct hs_lora_matrix){HS_LORA_F32, target.n_out, 2, values, NULL};
    const struct hs_lora lora = {&target, 1};
    const struct hs_adapter_about about = {.base = base, .name = "result"};
    assert_int_equal(hs_adapter_write_gguf(&lora, &about, api_path(test, "result.gguf"), NULL),
                     HS_OK);
    hs_lora_base_free(base);
    fake_fusion = (struct fake_fusion){0};
    api_clear_output(test);
    return 0;
}

static hs_status merge(struct api_test *test, const char *method)
{
    memset(&test->err, 0, sizeof test->err);
    api_clear_output(test);
    return api_run(test, hs_cmd_adapter_merge, method, NULL);
}

static void test_to_a_file(void **state)
{
    struct api_test *test = *state;
    char *folder = hs_strdup(api_path(test, "b"));
    HS_CLEANUP(hs_freep) char *path = hs_asprintf("%s:-0.25", folder);
    api_flag(test, HS_CFG_ADAPTER, "french:0.7");
    api_flag(test, HS_CFG_ADAPTER, path);
    api_flag(test, HS_CFG_SEED, "11");
    test->options[HS_OPT_OUTPUT] = "/tmp/none.gguf";
    test->options[HS_OPT_DENSITY] = "0.25";
    test->options[HS_OPT_RANK] = "12";
    test->options[HS_OPT_MAJORITY_SIGN] = "frequency";
    test->options[HS_OPT_SVD] = "randomised";
    test->options[HS_OPT_TYPE] = "F32";
    if (merge(test, "dare_ties_svd") != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    const struct fake_fusion *f = &fake_fusion;
    assert_int_equal(f->n_sources, 2);
    assert_string_equal(f->base, api_path(test, "tiny.gguf"));
    assert_string_equal(f->names[0], "french");
    assert_contains(f->paths[0], "/adapters/");
    assert_string_equal(f->paths[1], folder);
    assert_true(f->weights[0] == (double)0.7f && f->weights[1] == -0.25);
    assert_string_equal(hs_merge_method_name(f->params.method), "dare_ties_svd");
    assert_true(f->params.density == 0.25 && f->params.gamma == 0.01);
    assert_int_equal(f->params.rank, 12);
    assert_int_equal(f->params.seed, 11);
    assert_int_equal(f->params.majority_sign, HS_MERGE_SIGN_FREQUENCY);
    assert_int_equal(f->params.svd, HS_MERGE_SVD_RANDOMISED);
    assert_false(f->is_f16);
    assert_string_equal(f->out, "/tmp/none.gguf");
    assert_contains(test->out.data, "dare_ties_svd of 2 adapters: /tmp/none.gguf\n"
                                    "2 matrices, rank 9, relative error 0.2\n"
                                    "largest error 0.25, in blk.1.attn_q.weight\n"
                                    "seed 11\n");
    assert_true(test->n_progress > 0);
    hs_free(folder);
}

static void test_json(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_ADAPTER, "french");
    api_flag(test, HS_CFG_JSON, "true");
    test->options[HS_OPT_OUTPUT] = "x.gguf";
    assert_int_equal(merge(test, "svd"), HS_OK);
    assert_true(fake_fusion.weights[0] == 1 && fake_fusion.is_f16);
    json_t *json = api_json(test);
    assert_string_equal(json_string_value(json_object_get(json, "method")), "svd");
    assert_true(json_is_null(json_object_get(json, "seed")));
    assert_true(json_number_value(json_object_get(json, "relative_error")) == 0.2);
    const json_t *target = json_array_get(json_object_get(json, "targets"), 1);
    assert_string_equal(json_string_value(json_object_get(target, "tensor")),
                        "blk.1.attn_q.weight");
    assert_true(json_number_value(json_object_get(target, "relative_error")) == 0.25);
    json_decref(json);
}

static void test_into_the_list(void **state)
{
    struct api_test *test = *state;
    HS_CLEANUP(hs_freep) char *result = hs_strdup(api_path(test, "result.gguf"));
    fake_fusion.file = result;
    api_flag(test, HS_CFG_ADAPTER, "french:0.5");
    api_flag(test, HS_CFG_ADAPTER, "polite:-2");
    test->options[HS_OPT_NAME] = "both";
    if (merge(test, "ties") != HS_OK) {
        fail_msg("%s (%s)", test->err.message, test->err.hint);
    }
    assert_contains(test->out.data, "ties of 2 adapters: both version 1\n");
    assert_false(api_exists(fake_fusion.out)); /* the way it took */
    assert_int_equal(merge(test, "ties"), HS_ALREADY_EXISTS);
    assert_false(api_exists(fake_fusion.out));
    test->options[HS_OPT_REPLACE] = "";
    fake_fusion.n_calls = 0;
    hs_status status = merge(test, "ties"); /* the same bytes may count as no new version */
    assert_int_equal(status, HS_OK);
    test->options[HS_OPT_NAME] = test->options[HS_OPT_REPLACE] = NULL;
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_adapter_show, "both", NULL), HS_OK);
    json_t *row = api_json(test);
    assert_string_equal(json_string_value(json_object_get(row, "description")),
                        "ties of french:0.5 + polite:-2");
    assert_string_equal(json_string_value(json_object_get(row, "source")), "merged");
    const json_t *parents = json_object_get(row, "parents");
    assert_string_equal(json_string_value(json_array_get(parents, 0)), "french@1");
    assert_string_equal(json_string_value(json_array_get(parents, 1)), "polite@1");
    json_decref(row);
}

static void test_into_a_model(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_ADAPTER, "french");
    test->options[HS_OPT_INTO_MODEL] = "merged.gguf";
    assert_int_equal(merge(test, "cat"), HS_OK);
    assert_string_equal(fake_fusion.out, "merged.gguf");
    assert_string_equal(fake_fusion.type, "");
    assert_string_equal(test->out.data, "cat of 1 adapters: merged.gguf\n");
    test->options[HS_OPT_TYPE] = "Q4_K_M";
    assert_int_equal(merge(test, "cat"), HS_OK);
    assert_string_equal(fake_fusion.type, "Q4_K_M");
    fake_fusion.status = HS_MISMATCH;
    assert_int_equal(merge(test, "cat"), HS_MISMATCH);
}

static void refuse(struct api_test *test, const char *method, const char *message, const char *hint)
{
    assert_int_equal(merge(test, method), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, message);
    assert_contains(test->err.hint, hint);
    assert_int_equal(fake_fusion.n_calls, 0);
}

static void refuse_option(struct api_test *test, enum hs_option_id id, const char *value,
                          const char *method, const char *message)
{
    const char *before = test->options[id];
    test->options[id] = value;
    refuse(test, method, message, "");
    test->options[id] = before;
}

static void test_refused(void **state)
{
    struct api_test *test = *state;
    refuse(test, "svd", "nothing says where", "--into-model FILE");
    test->options[HS_OPT_OUTPUT] = "x.gguf";
    refuse_option(test, HS_OPT_NAME, "a", "svd", "more than one option");
    refuse(test, "svd", "no adapters", "--adapter NAME[:WEIGHT]");
    api_flag(test, HS_CFG_ADAPTER, "french");
    refuse(test, "tie", "no merge method 'tie'", "ties_svd");
    refuse_option(test, HS_OPT_TYPE, "Q4_K_M", "svd", "cannot be written as 'Q4_K_M'");
    refuse_option(test, HS_OPT_DENSITY, "0.5", "svd", "svd does not take --density");
    refuse_option(test, HS_OPT_T, "1", "ties", "ties does not take --t");
    refuse_option(test, HS_OPT_RANK, "8", "cat", "cat does not take --rank");
    refuse_option(test, HS_OPT_DENSITY, "half", "ties", "'half' is not a number");
    static const char *const ranks[] = {"0", "1025", "2.5", "-1"};
    for (size_t i = 0; i < COUNT_OF(ranks); i++) {
        refuse_option(test, HS_OPT_RANK, ranks[i], "svd", "whole number from 1 to 1024");
    }
    refuse_option(test, HS_OPT_MAJORITY_SIGN, "most", "ties", "--majority-sign 'most'");
    refuse_option(test, HS_OPT_SVD, "fast", "svd", "--svd 'fast'");
    api_flag(test, HS_CFG_ADAPTER, "polite:much");
    refuse(test, "svd", "the weight in 'polite:much'", "french:0.7");
}

static void test_unknown_adapter(void **state)
{
    struct api_test *test = *state;
    test->options[HS_OPT_OUTPUT] = "x.gguf";
    api_flag(test, HS_CFG_ADAPTER, "german:2");
    assert_int_equal(merge(test, "svd"), HS_NOT_FOUND);
    assert_contains(test->err.message, "german");
    assert_contains(test->err.hint, "adapter list");
}

static void test_interrupt(void **state)
{
    struct api_test *test = *state;
    test->options[HS_OPT_OUTPUT] = "x.gguf";
    api_flag(test, HS_CFG_ADAPTER, "french");
    test->interrupt_at = 1;
    assert_int_equal(merge(test, "svd"), HS_CANCELLED);
    assert_string_equal(test->out.len == 0 ? "" : test->out.data, "");
}

static void test_allocation_failures(void **state)
{
    struct api_test *test = *state;
    HS_CLEANUP(hs_freep) char *result = hs_strdup(api_path(test, "result.gguf"));
    fake_fusion.file = result;
    api_flag(test, HS_CFG_ADAPTER, "french:0.5");
    api_flag(test, HS_CFG_ADAPTER, "polite");
    test->options[HS_OPT_NAME] = "both";
    test->options[HS_OPT_REPLACE] = "";
    char *args[] = {(char *)"ties"};
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status != HS_OK; n++) {
        api_clear_output(test);
        hs_mem_fail_after(n);
        status = api_run_args(test, hs_cmd_adapter_merge, 1, args);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        assert_true(n < 5000);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, api_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_to_a_file),     TEST(test_json),
        TEST(test_into_the_list), TEST(test_refused),
        TEST(test_into_a_model),  TEST(test_unknown_adapter),
        TEST(test_interrupt),     TEST(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
