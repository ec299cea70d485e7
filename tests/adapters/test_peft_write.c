/* Tests of adapters/peft_write.h: what PEFT saved, read and written again, must be the same, tensor
 * by tensor and byte by byte. */
#include "adapter_test.h"

#include "adapters/peft_write.h"
#include "storage/safetensors.h"

#define DATA HS_TEST_DATA "/peft/"

static struct hs_buf read_file(const char *folder, const char *name)
{
    struct hs_buf buf = HS_BUF_INIT(1u << 24);
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(hs_fs_read(path, &buf, NULL), HS_OK);
    return buf;
}

static void expect_same_tensors(const char *folder, const char *original)
{
    struct hs_buf ours = read_file(folder, "adapter_model.safetensors");
    struct hs_buf theirs = read_file(original, "adapter_model.safetensors");
    hs_safetensors *a = NULL, *b = NULL;
    assert_int_equal(hs_safetensors_open(ours.data, ours.len, &a, NULL), HS_OK);
    assert_int_equal(hs_safetensors_open(theirs.data, theirs.len, &b, NULL), HS_OK);
    assert_int_equal(hs_safetensors_n(a), hs_safetensors_n(b));
    for (size_t i = 0; i < hs_safetensors_n(a); i++) {
        const struct hs_safetensors_tensor *x = hs_safetensors_at(a, i);
        const struct hs_safetensors_tensor *y = hs_safetensors_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->n_dims, y->n_dims);
        assert_int_equal(x->dims[0], y->dims[0]);
        assert_int_equal(x->dims[1], y->dims[1]);
        assert_memory_equal(x->data, y->data, x->size_bytes);
    }
    assert_string_equal(hs_safetensors_metadata(a, "format"), "pt");
    hs_safetensors_free(a);
    hs_safetensors_free(b);
    hs_buf_free(&ours);
    hs_buf_free(&theirs);
}

static void peft_files_come_back(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"llama", "llama-rslora"},   {"llama", "llama-words"},
                                           {"qwen3", "qwen3-patterns"}, {"gemma3", "gemma3-layers"},
                                           {"gemma3", "gemma3-words"},  {"phi3", "phi3-fused"},
                                           {"gpt2", "gpt2-conv1d"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char folder[256], path[512], original[512];
        hs_lora_base *base = NULL;
        struct hs_error err = {0};
        test_folder(folder);
        snprintf(path, sizeof path, DATA "%s.gguf", cases[i][0]);
        snprintf(original, sizeof original, DATA "%s", cases[i][1]);
        assert_int_equal(hs_lora_base_open(path, &base, &err), HS_OK);
        struct hs_adapter_file *first = test_load(original, base);
        snprintf(path, sizeof path, "%s/deep/er", folder);
        if (hs_peft_write(path, &first->lora, base, "org/name", false, &err) != HS_OK) {
            fail_msg("%s", err.message);
        }
        expect_same_tensors(path, original);
        struct hs_adapter_file *again = test_load(path, base);
        assert_string_equal(again->base_model, "org/name");
        assert_string_equal(again->base_fingerprint, hs_lora_base_fingerprint(base));
        assert_int_equal(again->lora.n_targets, first->lora.n_targets);
        for (int32_t t = 0; t < first->lora.n_targets; t++) {
            assert_string_equal(again->lora.targets[t].tensor, first->lora.targets[t].tensor);
            assert_int_equal(again->lora.targets[t].rank, first->lora.targets[t].rank);
            assert_true(again->lora.targets[t].scale == first->lora.targets[t].scale);
        }
        hs_adapter_file_free(first);
        hs_adapter_file_free(again);
        hs_lora_base_free(base);
        test_folder_remove(folder);
    }
}

/* ---- made by hand ---- */

static const struct test_matrix matrices[] = {{"blk.0.attn_v.weight", 2, 2},
                                              {"blk.0.attn_q.weight", 2, 4}};

static struct hs_lora_target target(const char *tensor, const void *a, const void *b, int64_t n_out)
{
    struct hs_lora_target made = {.n_in = 2, .n_out = n_out, .rank = 1, .scale = 0.1f};
    snprintf(made.tensor, sizeof made.tensor, "%s", tensor);
    made.a = (struct hs_lora_matrix){HS_LORA_F32, 1, 2, a, NULL};
    made.b = (struct hs_lora_matrix){HS_LORA_F32, n_out, 1, b, NULL};
    return made;
}

static void int8_becomes_f32(void **state)
{
    (void)state;
    const float a[2] = {1, 2}, factors[2] = {0.5f, 0.25f};
    const int8_t b[2] = {3, -4};
    char folder[256];
    hs_lora_base *base = test_base("qwen3", 1, 1, matrices, 2, NULL);
    struct hs_lora_target made = target("blk.0.attn_v.weight", a, b, 2);
    made.b.type = HS_LORA_I8;
    made.b.factors = factors;
    test_folder(folder);
    assert_int_equal(hs_peft_write(folder, &(struct hs_lora){&made, 1}, base, NULL, false, NULL),
                     HS_OK);
    struct hs_adapter_file *file = test_load(folder, base);
    const float *values = file->lora.targets[0].b.data;
    assert_int_equal(file->lora.targets[0].b.type, HS_LORA_F32);
    assert_true(values[0] == 1.5f && values[1] == -1.0f);
    assert_true(file->lora.targets[0].scale == 0.1f);
    assert_null(file->base_model);
    hs_adapter_file_free(file);
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

/* 0.1 rounds to 0x2E66 in binary16; 65504 is the largest number. */
static void f32_becomes_f16_when_asked(void **state)
{
    (void)state;
    const float a[2] = {0.1f, 65504.0f}, large[2] = {1, 65520.0f};
    const uint16_t bf16[2] = {0x3F80, 0x4000};
    char folder[256];
    struct hs_error err = {0};
    hs_lora_base *base = test_base("qwen3", 1, 1, matrices, 2, NULL);
    struct hs_lora_target made = target("blk.0.attn_v.weight", a, bf16, 2);
    const struct hs_lora lora = {&made, 1};
    made.b.type = HS_LORA_BF16;
    test_folder(folder);
    assert_int_equal(hs_peft_write(folder, &lora, base, NULL, true, NULL), HS_OK);
    struct hs_adapter_file *file = test_load(folder, base);
    const uint16_t *values = file->lora.targets[0].a.data;
    assert_int_equal(file->lora.targets[0].a.type, HS_LORA_F16);
    assert_int_equal(file->lora.targets[0].b.type, HS_LORA_BF16);
    assert_int_equal(values[0], 0x2E66);
    assert_int_equal(values[1], 0x7BFF);
    hs_adapter_file_free(file);
    made.a.data = large;
    assert_int_equal(hs_peft_write(folder, &lora, base, NULL, true, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "65520"));
    hs_adapter_file_free(test_load(folder, base)); /* what was there is there */
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

static void what_peft_cannot_hold_is_refused(void **state)
{
    (void)state;
    const float a[4] = {0}, b[4] = {0};
    struct hs_error err = {0};
    hs_lora_base *base = test_base("llama", 4, 4, matrices, 2, NULL);
    hs_lora_base *mamba = test_base("mamba", 4, 4, matrices, 2, NULL);
    struct hs_lora_target made = target("blk.0.attn_v.weight", a, b, 2);
    const struct hs_lora lora = {&made, 1}, none = {NULL, 0};
    assert_int_equal(hs_peft_write("/nowhere", &none, base, NULL, false, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_peft_write("/nowhere", &lora, mamba, NULL, false, &err), HS_NOT_SUPPORTED);
    assert_non_null(strstr(err.message, "mamba"));
    made = target("blk.0.attn_norm.weight", a, b, 2);
    assert_int_equal(hs_peft_write("/nowhere", &lora, base, NULL, false, &err), HS_MISMATCH);
    made = target("blk.0.attn_q.weight", a, b, 4); /* not two values for each of 4 heads */
    assert_int_equal(hs_peft_write("/nowhere", &lora, base, NULL, false, &err), HS_MISMATCH);
    assert_non_null(strstr(err.message, "4 heads"));
    made.rank = 0;
    assert_int_equal(hs_peft_write("/nowhere", &lora, base, NULL, false, &err), HS_NOT_SUPPORTED);
    assert_non_null(strstr(err.message, "sparse"));
    assert_true(err.hint[0] != '\0');
    hs_lora_base_free(base);
    hs_lora_base_free(mamba);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const float a[2] = {1, 2}, b[2] = {3, 4};
    char folder[256];
    hs_lora_base *base = test_base("qwen3", 1, 1, matrices, 2, "f00d");
    struct hs_lora_target made = target("blk.0.attn_v.weight", a, b, 2);
    test_folder(folder);
    for (uint64_t n = 1;; n++) {
        struct hs_error err = {0};
        hs_mem_fail_after(n);
        hs_status status =
            hs_peft_write(folder, &(struct hs_lora){&made, 1}, base, "x", n % 2 == 0, &err);
        bool is_done = hs_mem_count() < n;
        hs_mem_fail_after(0);
        if (is_done) {
            assert_int_equal(status, HS_OK);
            break;
        }
        /* Looking for what a killed writer left behind is done as far as there is memory. */
        if (status != HS_OUT_OF_MEMORY && status != HS_OK) {
            fail_msg("allocation %d: %s", (int)n, err.message);
        }
    }
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peft_files_come_back),
        cmocka_unit_test(int8_becomes_f32),
        cmocka_unit_test(f32_becomes_f16_when_asked),
        cmocka_unit_test(what_peft_cannot_hold_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
