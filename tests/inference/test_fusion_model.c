/* Tests of merged models: every tensor of the file against the base's, and what is added to it. */
#include "fusion_test.h"

#include <dirent.h>
#include <math.h>

#include "runtime/runtime.h"
#include "storage/gguf.h"

enum { F32 = 0, F16 = 1, Q8_0 = 8 };

static struct fusion_test test;
static const struct hs_runtime *rt;

static int set_up(void **state)
{
    (void)state;
    const char *version;
    rt = hs_runtime_llama();
    assert_int_equal(rt->init(&version, NULL), HS_OK);
    fusion_test_new(&test);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fusion_test_free(&test);
    hs_runtime_llama_shutdown();
    return 0;
}

static struct hs_merge_params sum_params(void)
{
    struct hs_merge_params params = test_params();
    params.n_threads = 1;
    return params;
}

struct model {
    hs_gguf *gguf;
    struct hs_buf bytes;
};

static void open_model(const char *path, struct model *model)
{
    *model = (struct model){.bytes = HS_BUF_INIT(64 << 20)};
    assert_int_equal(hs_fs_read(path, &model->bytes, NULL), HS_OK);
    assert_int_equal(hs_gguf_open(path, &model->gguf, NULL), HS_OK);
}

static void close_model(struct model *model)
{
    hs_gguf_free(model->gguf);
    hs_buf_free(&model->bytes);
}

static const char *tensor_bytes(const struct model *model, const struct hs_gguf_tensor *tensor)
{
    return model->bytes.data + hs_gguf_data_offset(model->gguf) + tensor->offset;
}

/* f32 values of a tensor of any type; to be freed with free. */
static float *tensor_values(const struct model *model, const struct hs_gguf_tensor *tensor)
{
    size_t n = (size_t)(tensor->dims[0] * tensor->dims[1]);
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    assert_int_equal(
        rt->dequantise(tensor->type, tensor_bytes(model, tensor), (int64_t)n, values, NULL), HS_OK);
    return values;
}

static bool is_target(const char *name)
{
    for (int32_t i = 0; i < FUSION_N_TARGETS; i++) {
        if (strcmp(fusion_tensors[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The base's values and the sum, as f32. */
static float *expected_values(const struct model *base, const struct hs_gguf_tensor *tensor)
{
    size_t n = (size_t)(tensor->dims[0] * tensor->dims[1]);
    float *values = tensor_values(base, tensor);
    double *sum = fusion_sum(&test, tensor->name, n);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)((double)values[i] + sum[i]);
    }
    free(sum);
    return values;
}

/* Tensors as in the base but for the targets, which have the values expected, in their own type. */
static void expect_model(const char *base_path)
{
    struct model base;
    struct model merged;
    open_model(base_path, &base);
    open_model(test.out, &merged);
    size_t n_tensors = hs_gguf_n_tensors(base.gguf);
    assert_int_equal(hs_gguf_n_tensors(merged.gguf), n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(base.gguf, i);
        const struct hs_gguf_tensor *other = hs_gguf_tensor_at(merged.gguf, i);
        assert_string_equal(other->name, tensor->name);
        assert_int_equal(other->type, tensor->type);
        assert_int_equal(other->size_bytes, tensor->size_bytes);
        if (!is_target(tensor->name)) {
            assert_memory_equal(tensor_bytes(&merged, other), tensor_bytes(&base, tensor),
                                tensor->size_bytes);
            continue;
        }
        size_t n = (size_t)(tensor->dims[0] * tensor->dims[1]);
        float *values = expected_values(&base, tensor);
        float *got = tensor_values(&merged, other);
        for (size_t j = 0; j < n; j += 32) { /* Q8_0: half a step, and a scale in f16 */
            double largest = 0;
            for (size_t k = j; k < j + 32; k++) {
                largest = fmax(largest, fabs((double)values[k]));
            }
            double tolerance =
                tensor->type == F32 ? 1e-6 * largest : (0.5 / 127 + 0x1p-11) * largest;
            for (size_t k = j; k < j + 32; k++) {
                assert_true(fabs((double)got[k] - (double)values[k]) <= tolerance);
            }
        }
        free(values);
        free(got);
    }
    close_model(&base);
    close_model(&merged);
}

static void merge_into(const char *base_path, const char *type)
{
    struct hs_merge_params params = sum_params();
    struct hs_error err = {0};
    hs_status status =
        hs_merge_into_model(base_path, test.sources, 2, &params, test.out, type, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, HS_OK);
}

static void test_types_of_the_base(void **state)
{
    (void)state;
    char quantised[320];
    merge_into(test.base, NULL);
    expect_model(test.base);
    snprintf(quantised, sizeof quantised, "%s/q8.gguf", test.folder);
    assert_int_equal(rt->model_quantise(test.base, quantised, "Q8_0", 1, NULL), HS_OK);
    struct hs_error err = {0};
    struct hs_merge_params params = sum_params();
    assert_int_equal(hs_merge_into_model(quantised, test.sources, 2, &params, test.out, NULL, &err),
                     HS_MISMATCH); /* they say that they are for the other file */
    fusion_test_write(&test, quantised);
    merge_into(quantised, NULL);
    expect_model(quantised);
    fusion_test_write(&test, test.base);
    unlink(quantised);
}

static void test_metadata(void **state)
{
    (void)state;
    struct model base;
    struct model merged;
    merge_into(test.base, NULL);
    open_model(test.base, &base);
    open_model(test.out, &merged);
    for (size_t i = 0; i < hs_gguf_n_kv(base.gguf); i++) {
        const struct hs_gguf_kv *kv = hs_gguf_kv_at(base.gguf, i);
        HS_CLEANUP(hs_freep) char *key = hs_strndup(kv->key, kv->key_len);
        const struct hs_gguf_kv *other = hs_gguf_find(merged.gguf, key);
        assert_non_null(other);
        if (strcmp(key, "general.name") != 0) {
            assert_int_equal(other->type, kv->type);
            assert_int_equal(other->value_len, kv->value_len);
            assert_memory_equal(other->value, kv->value, kv->value_len);
        }
    }
    HS_CLEANUP(hs_freep) char *name = hs_gguf_strdup(merged.gguf, "general.name");
    HS_CLEANUP(hs_freep) char *recipe = hs_gguf_strdup(merged.gguf, "hyprstream.merge.recipe");
    assert_non_null(strstr(name, "with svd of one:0.8 + two:-0.5"));
    assert_string_equal(recipe, "svd of one:0.8 + two:-0.5");
    close_model(&base);
    close_model(&merged);
}

/* Another type for all: near in values, and the model loads. */
static void test_other_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t type;
        double tolerance; /* of the largest value */
    } types[] = {{"F16", F16, 1e-3}, {"Q8_0", Q8_0, 5e-3}, {"F32", F32, 1e-6}};
    for (size_t t = 0; t < 3; t++) {
        struct model base;
        struct model merged;
        hs_rt_model *model = NULL;
        struct hs_model_params params;
        merge_into(test.base, types[t].name);
        open_model(test.base, &base);
        open_model(test.out, &merged);
        for (int32_t i = 0; i < FUSION_N_TARGETS; i++) {
            const struct hs_gguf_tensor *tensor = hs_gguf_find_tensor(base.gguf, fusion_tensors[i]);
            const struct hs_gguf_tensor *other =
                hs_gguf_find_tensor(merged.gguf, fusion_tensors[i]);
            /* rows that are no whole blocks become F16 */
            uint32_t type =
                types[t].type == Q8_0 && tensor->dims[0] % 32 != 0 ? F16 : types[t].type;
            assert_int_equal(other->type, type);
            size_t n = (size_t)(tensor->dims[0] * tensor->dims[1]);
            double *wanted = calloc(n, sizeof *wanted);
            double *got = calloc(n, sizeof *got);
            float *values = expected_values(&base, tensor);
            float *written = tensor_values(&merged, other);
            for (size_t j = 0; j < n; j++) {
                wanted[j] = (double)values[j];
                got[j] = (double)written[j];
            }
            expect_near(got, wanted, n, types[t].tolerance);
            free(values);
            free(written);
            free(wanted);
            free(got);
        }
        close_model(&base);
        close_model(&merged);
        hs_model_params_defaults(&params);
        assert_int_equal(rt->model_load(test.out, &params, &model, NULL), HS_OK);
        rt->model_free(model);
    }
}

static int n_files(void)
{
    int n = 0;
    DIR *folder = opendir(test.folder);
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n;
}

static bool stop_at_half(float fraction, void *user)
{
    (void)user;
    return fraction < 0.5f;
}

static void test_failures_leave_nothing(void **state)
{
    (void)state;
    struct hs_merge_params params = sum_params();
    struct hs_error err;
    unlink(test.out);
    int n = n_files();
    assert_int_equal(
        hs_merge_into_model(test.base, test.sources, 2, &params, test.base, NULL, &err),
        HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "the model itself"));
    assert_int_equal(hs_merge_into_model(test.base, test.sources, 2, &params, test.out, "Q9", &err),
                     HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.hint, "Q4_K_M"));
    assert_int_equal(
        hs_merge_into_model(test.base, test.sources, 2, &params, "/nowhere/x.gguf", NULL, &err),
        HS_NOT_FOUND);
    params.progress = stop_at_half;
    assert_int_equal(hs_merge_into_model(test.base, test.sources, 2, &params, test.out, NULL, &err),
                     HS_CANCELLED);
    assert_int_equal(
        hs_merge_into_model(test.base, test.sources, 2, &params, test.out, "F16", &err),
        HS_CANCELLED);
    params.progress = NULL;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t i = 1; status == HS_OUT_OF_MEMORY; i++) {
        hs_mem_fail_after(i);
        status = hs_merge_into_model(test.base, test.sources, 2, &params, test.out, NULL, NULL);
        hs_mem_fail_after(0);
        assert_int_equal(n_files(), n + (status == HS_OK ? 1 : 0));
    }
    assert_int_equal(status, HS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_of_the_base),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_failures_leave_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
