/* Tests of merge_adapters: adapters from disk to fused weights, and these on disk again. */
#include "fusion_test.h"

#include "adapters/adapter_file.h"

static struct fusion_test test;

static int set_up(void **state)
{
    (void)state;
    fusion_test_new(&test);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fusion_test_free(&test);
    return 0;
}

static hs_fused_weights *merge(const struct hs_merge_params *params)
{
    hs_fused_weights *fused = NULL;
    struct hs_error err = {0};
    hs_status status = hs_merge_adapters(test.base, test.sources, 2, params, &fused, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, HS_OK);
    return fused;
}

static void expect_sums(const struct hs_lora *lora)
{
    assert_int_equal(lora->n_targets, FUSION_N_TARGETS);
    for (int32_t i = 0; i < FUSION_N_TARGETS; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        size_t n = (size_t)(target->n_in * target->n_out);
        double *wanted = fusion_sum(&test, target->tensor, n);
        double *got = test_delta(target, n);
        expect_near(got, wanted, n, 1e-5);
        free(wanted);
        free(got);
    }
}

static void test_sum_on_disk(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    params.rank = 7;
    hs_fused_weights *fused = merge(&params);
    struct hs_adapter_file *file = NULL;
    hs_lora_base *base = NULL;
    assert_int_equal(hs_fused_weights_n_targets(fused), FUSION_N_TARGETS);
    expect_sums(hs_fused_weights_lora(fused));
    assert_int_equal(hs_fused_weights_write(fused, test.out, "both", false, NULL), HS_OK);
    char folder[520];
    snprintf(folder, sizeof folder, "%s.peft/", test.out);
    assert_int_equal(hs_fused_weights_write(fused, folder, "both", false, NULL), HS_OK);
    hs_fused_weights_free(fused);
    assert_int_equal(hs_lora_base_open(test.base, &base, NULL), HS_OK);
    const char *const paths[] = {test.out, folder};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hs_adapter_file_load(paths[i], base, &file, NULL), HS_OK);
        assert_int_equal(file->format, i == 0 ? HS_ADAPTER_GGUF : HS_ADAPTER_PEFT);
        expect_sums(&file->lora);
        assert_string_equal(file->base_fingerprint, hs_lora_base_fingerprint(base));
        hs_adapter_file_free(file);
    }
    assert_int_equal(hs_fs_remove_all(folder, NULL), HS_OK);
    hs_lora_base_free(base);
}

/* What is reported is what a look at the result shows. */
static void test_report(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    params.rank = 2;
    hs_fused_weights *fused = merge(&params);
    const struct hs_lora *lora = hs_fused_weights_lora(fused);
    for (int32_t i = 0; i < FUSION_N_TARGETS; i++) {
        struct hs_merge_target report;
        double norm = 0;
        double error = 0;
        const struct hs_lora_target *target = &lora->targets[i];
        size_t n = (size_t)(target->n_in * target->n_out);
        double *wanted = fusion_sum(&test, target->tensor, n);
        double *got = test_delta(target, n);
        hs_fused_weights_target(fused, i, &report);
        for (size_t j = 0; j < n; j++) {
            norm += wanted[j] * wanted[j];
            error += (wanted[j] - got[j]) * (wanted[j] - got[j]);
        }
        assert_string_equal(report.tensor, target->tensor);
        assert_int_equal(report.rank, 2);
        assert_true(report.norm * report.norm > norm * 0.9999 &&
                    report.norm * report.norm < norm * 1.0001);
        assert_true(report.error * report.error > error * 0.999 &&
                    report.error * report.error < error * 1.001);
        free(wanted);
        free(got);
    }
    hs_fused_weights_free(fused);
}

static void test_threads_give_the_same(void **state)
{
    (void)state;
    static const int32_t methods[] = {HS_MERGE_DARE_TIES_SVD, HS_MERGE_DELLA, HS_MERGE_CAT};
    for (size_t m = 0; m < 3; m++) {
        struct hs_merge_params params = test_params();
        params.method = methods[m];
        params.n_threads = 1;
        hs_fused_weights *one = merge(&params);
        params.n_threads = 100; /* more than it starts, and than there are targets */
        hs_fused_weights *many = merge(&params);
        for (int32_t i = 0; i < FUSION_N_TARGETS; i++) {
            const struct hs_lora_target *a = &hs_fused_weights_lora(one)->targets[i];
            const struct hs_lora_target *b = &hs_fused_weights_lora(many)->targets[i];
            assert_int_equal(a->rank, b->rank);
            assert_memory_equal(a->b.data, b->b.data,
                                sizeof(float) * (size_t)(b->b.n_rows * b->b.n_cols));
        }
        hs_fused_weights_free(one);
        hs_fused_weights_free(many);
    }
}

struct counter {
    int n_calls, n_allowed;
    float last;
};

static bool count_calls(float fraction, void *user)
{
    struct counter *counter = user;
    assert_true(fraction > counter->last && fraction <= 1);
    counter->last = fraction;
    return ++counter->n_calls < counter->n_allowed;
}

static void test_progress(void **state)
{
    (void)state;
    struct counter counter = {.n_allowed = 1000};
    struct hs_merge_params params = test_params();
    hs_fused_weights *fused = NULL;
    params.progress = count_calls;
    params.progress_user = &counter;
    params.n_threads = 2;
    hs_fused_weights_free(merge(&params));
    assert_true(counter.n_calls == FUSION_N_TARGETS && counter.last == 1);
    counter = (struct counter){.n_allowed = 2};
    assert_int_equal(hs_merge_adapters(test.base, test.sources, 2, &params, &fused, NULL),
                     HS_CANCELLED);
    assert_null(fused);
}

static void test_errors(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    struct hs_error err;
    hs_fused_weights *fused = NULL;
    struct hs_merge_source sources[HS_MERGE_INPUTS_MAX + 1];
    for (int32_t i = 0; i <= HS_MERGE_INPUTS_MAX; i++) {
        sources[i] = test.sources[0];
    }
    assert_int_equal(
        hs_merge_adapters(test.base, sources, HS_MERGE_INPUTS_MAX + 1, &params, &fused, &err),
        HS_LIMIT);
    assert_int_equal(hs_merge_adapters(test.base, sources, 0, &params, &fused, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_merge_adapters("/nowhere.gguf", sources, 2, &params, &fused, &err),
                     HS_NOT_FOUND);
    sources[1].path = "/nowhere.gguf";
    sources[1].name = "lost";
    assert_int_equal(hs_merge_adapters(test.base, sources, 2, &params, &fused, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "adapter 'lost'"));
    sources[1] = test.sources[1];
    params.method = HS_MERGE_LINEAR;
    assert_int_equal(hs_merge_adapters(test.base, sources, 2, &params, &fused, &err), HS_MISMATCH);
    params.method = HS_MERGE_TIES_SVD;
    params.density = 0;
    assert_int_equal(hs_merge_adapters(test.base, sources, 2, &params, &fused, &err),
                     HS_INVALID_ARGUMENT);
    hs_fused_weights_free(NULL);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    params.n_threads = 1;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_fused_weights *fused = NULL;
        hs_mem_fail_after(n);
        status = hs_merge_adapters(test.base, test.sources, 2, &params, &fused, NULL);
        hs_mem_fail_after(0);
        hs_fused_weights_free(fused);
    }
    assert_int_equal(status, HS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_on_disk),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_threads_give_the_same),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
