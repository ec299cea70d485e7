/* hyprstream adapter sparsify. */
#include "api_test.h"

#include "adapters/adapter_file.h"
#include "adapters/sparse_file.h"

#define TENSOR "blk.0.attn_q.weight"

/* The tiny model, registered, and an adapter of it: a delta whose value at (row, column) is 1 in
 * the first 16 rows of the even columns and 0.5 in those of the odd ones. */
static char *write_adapter(struct api_test *test)
{
    const char *model = api_path(test, "tiny.gguf");
    api_write_model(model, "tiny");
    assert_int_equal(api_run(test, hs_cmd_model_add, model, NULL), HS_OK);
    hs_lora_base *base = NULL;
    assert_int_equal(hs_lora_base_open(model, &base, &test->err), HS_OK);
    struct hs_lora_target target = {.tensor = TENSOR, .scale = 1};
    assert_true(hs_lora_base_find(base, TENSOR, &target.n_in, &target.n_out));
    assert_true(target.n_out % 16 == 0 && target.n_in % 2 == 0);
    int64_t *row_start = calloc((size_t)target.n_out + 1, sizeof *row_start);
    int32_t *columns = calloc((size_t)target.n_in * 16, sizeof *columns);
    float *values = calloc((size_t)target.n_in * 16, sizeof *values);
    assert_true(row_start && columns && values);
    for (int64_t i = 0; i < target.n_in * 16; i++) {
        columns[i] = (int32_t)(i % target.n_in);
        values[i] = columns[i] % 2 == 0 ? 1.0f : 0.5f;
    }
    for (int64_t row = 1; row <= target.n_out; row++) {
        row_start[row] = (row < 16 ? row : 16) * target.n_in;
    }
    target.sparse =
        (struct hs_lora_sparse){HS_LORA_F32, 1, 1, target.n_in * 16, row_start, columns, values};
    char *path = hs_strdup(api_path(test, "adapter.gguf"));
    struct hs_lora lora = {&target, 1};
    if (hs_sparse_file_write(path, &lora, hs_lora_base_architecture(base),
                             hs_lora_base_fingerprint(base), &test->err) != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    free(row_start);
    free(columns);
    free(values);
    hs_lora_base_free(base);
    api_clear_output(test);
    return path;
}

static hs_status sparsify(struct api_test *test, const char *adapter, const char *out)
{
    memset(&test->err, 0, sizeof test->err);
    api_clear_output(test);
    return api_run(test, hs_cmd_adapter_sparsify, adapter, out, NULL);
}

static void keeps_the_largest_blocks(void **state)
{
    struct api_test *test = *state;
    char *adapter = write_adapter(test);
    char *out = hs_strdup(api_path(test, "sparse.gguf"));
    test->options[HS_OPT_MAX_ERROR] = "0.5"; /* the odd columns have a fifth of the energy */
    if (sparsify(test, adapter, out) != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    assert_contains(test->out.data, "sparse.gguf: ");
    assert_contains(test->out.data, TENSOR);
    assert_true(test->n_progress > 0);
    struct hs_adapter_file *file = NULL;
    assert_int_equal(hs_adapter_file_load(out, NULL, &file, &test->err), HS_OK);
    const struct hs_lora_sparse *sparse = &file->lora.targets[0].sparse;
    assert_true(sparse->block_rows == 16 && sparse->block_cols == 1);
    assert_true(sparse->type == HS_LORA_F16);
    assert_int_equal(((const uint16_t *)sparse->values)[0], 0x3c00);
    assert_true(file->base_fingerprint[0] != '\0');
    hs_adapter_file_free(file);
    hs_free(adapter);
    hs_free(out);
}

static void json_says_what_it_cost(void **state)
{
    struct api_test *test = *state;
    char *adapter = write_adapter(test);
    api_flag(test, HS_CFG_JSON, "true");
    test->options[HS_OPT_KEEP] = "1";
    test->options[HS_OPT_BLOCK] = "1x2";
    test->options[HS_OPT_VALUES] = "f32";
    assert_int_equal(sparsify(test, adapter, api_path(test, "sparse.gguf")), HS_OK);
    json_t *object = api_json(test);
    const json_t *target = json_array_get(json_object_get(object, "targets"), 0);
    assert_string_equal(json_string_value(json_object_get(target, "tensor")), TENSOR);
    assert_true(json_number_value(json_object_get(object, "relative_error")) == 0);
    json_int_t n_kept = json_integer_value(json_object_get(object, "n_kept"));
    assert_true(n_kept > 0 && n_kept % 16 == 0); /* 16 rows; blocks of zeros are left out */
    assert_true(json_integer_value(json_object_get(object, "n_blocks")) > n_kept);
    assert_true(json_integer_value(json_object_get(object, "bytes")) > n_kept * 8);
    assert_true(json_integer_value(json_object_get(object, "bytes_before")) > 0);
    json_decref(object);
    hs_free(adapter);
}

static void refuses(struct api_test *test, const char *adapter, enum hs_option_id option,
                    const char *value, const char *what)
{
    const char *before = test->options[option];
    test->options[option] = value;
    hs_status status = sparsify(test, adapter, api_path(test, "sparse.gguf"));
    if (status != HS_INVALID_ARGUMENT || strstr(test->err.message, what) == NULL ||
        test->err.hint[0] == '\0') {
        fail_msg("%d '%s' instead of '%s'", status, test->err.message, what);
    }
    assert_false(api_exists(api_path(test, "sparse.gguf")));
    test->options[option] = before;
}

static void wrong_options(void **state)
{
    struct api_test *test = *state;
    char *adapter = write_adapter(test);
    static const char *const no_numbers[] = {"", "x", "0.1x", "nan", "inf", "0x1"};
    for (size_t i = 0; i < COUNT_OF(no_numbers); i++) {
        refuses(test, adapter, HS_OPT_KEEP, no_numbers[i], "is no number");
        refuses(test, adapter, HS_OPT_MAX_ERROR, no_numbers[i], "is no number");
    }
    refuses(test, adapter, HS_OPT_KEEP, "0", "keeps nothing");
    refuses(test, adapter, HS_OPT_KEEP, "1.01", "density");
    refuses(test, adapter, HS_OPT_KEEP, "-1", "density");
    refuses(test, adapter, HS_OPT_MAX_ERROR, "1", "max_error");
    static const char *const no_blocks[] = {"", "16", "x1", "16x", "16x1x1", "16,1"};
    for (size_t i = 0; i < COUNT_OF(no_blocks); i++) {
        refuses(test, adapter, HS_OPT_BLOCK, no_blocks[i], "is not like 16x1");
    }
    refuses(test, adapter, HS_OPT_BLOCK, "0x1", "1 to 256");
    refuses(test, adapter, HS_OPT_BLOCK, "257x1", "1 to 256");
    refuses(test, adapter, HS_OPT_BLOCK, "3x1", "cannot be cut");
    refuses(test, adapter, HS_OPT_VALUES, "q8_0", "no type of values");
    test->options[HS_OPT_KEEP] = "0.5";
    refuses(test, adapter, HS_OPT_MAX_ERROR, "0.5", "exclude each other");
    hs_free(adapter);
}

static void what_is_not_there(void **state)
{
    struct api_test *test = *state;
    char *adapter = write_adapter(test);
    const char *out = api_path(test, "sparse.gguf");
    assert_int_equal(sparsify(test, "nobody", out), HS_NOT_FOUND);
    assert_contains(test->err.message, "nobody");
    assert_contains(test->err.hint, "adapter list");
    assert_int_equal(sparsify(test, api_path(test, "nothing.gguf"), out), HS_NOT_FOUND);
    assert_int_equal(sparsify(test, adapter, api_path(test, "no/folder/a.gguf")), HS_NOT_FOUND);
    test->interrupt_at = 1;
    assert_int_equal(sparsify(test, adapter, out), HS_CANCELLED);
    assert_false(api_exists(out));
    hs_free(adapter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_the_largest_blocks, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(json_says_what_it_cost, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(wrong_options, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
