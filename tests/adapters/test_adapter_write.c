/* Tests of adapter_write.h: what is written is read back by the reader of foreign files. */
#include "adapter_test.h"

#include <math.h>

#include "adapters/adapter_write.h"
#include "base/half.h"
#include "merge_test.h"

static const struct test_matrix matrices[] = {
    {"token_embd.weight", 32, 6}, {"blk.0.attn_q.weight", 32, 64}, {"blk.2.ffn_up.weight", 48, 20}};

/* The reader's order: words first, then by layer. */
static const struct test_shape shapes[] = {{"token_embd.weight", 32, 6, 3, true, HS_LORA_F32},
                                           {"blk.0.attn_q.weight", 64, 32, 5, false, HS_LORA_F16},
                                           {"blk.2.ffn_up.weight", 20, 48, 2, false, HS_LORA_I8}};

static hs_lora_base *base;
static char folder[256];
static char path[300];

static int set_up(void **state)
{
    (void)state;
    base = test_base("llama", 2, 2, matrices, 3, NULL);
    test_folder(folder);
    snprintf(path, sizeof path, "%s/written.gguf", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove(folder);
    hs_lora_base_free(base);
    return 0;
}

static void expect_round_trip(bool is_f16)
{
    struct hs_lora *lora = test_lora_new(shapes, 3, 0.75f, 3);
    const struct hs_adapter_about about = {
        .base = base, .name = "mine", .description = "a test", .is_f16 = is_f16};
    struct hs_adapter_file *file = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_adapter_write_gguf(lora, &about, path, &err), HS_OK);
    assert_int_equal(hs_adapter_file_load(path, base, &file, &err), HS_OK);
    assert_string_equal(file->architecture, "llama");
    assert_int_equal(file->rank, 5);
    assert_int_equal(file->lora.n_targets, 3);
    for (int32_t i = 0; i < 3; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        const struct hs_lora_target *back = NULL;
        for (int32_t j = 0; j < 3; j++) {
            if (strcmp(file->lora.targets[j].tensor, target->tensor) == 0) {
                back = &file->lora.targets[j];
            }
        }
        assert_non_null(back);
        assert_int_equal(back->rank, target->rank);
        assert_int_equal(back->is_embedding, target->is_embedding);
        assert_int_equal(back->a.type, is_f16 ? HS_LORA_F16 : HS_LORA_F32);
        size_t n = (size_t)(target->n_in * target->n_out);
        double *wanted = test_delta(target, n);
        double *got = test_delta(back, n);
        expect_near(got, wanted, n, is_f16 ? 2e-3 : 1e-6);
        free(wanted);
        free(got);
    }
    hs_adapter_file_free(file);
    test_lora_free(lora);
}

static void test_round_trip(void **state)
{
    (void)state;
    expect_round_trip(false);
    expect_round_trip(true);
}

static hs_status write_with(struct hs_lora *lora, bool is_f16, struct hs_error *err)
{
    const struct hs_adapter_about about = {.base = base, .name = "mine", .is_f16 = is_f16};
    unlink(path);
    hs_status status = hs_adapter_write_gguf(lora, &about, path, err);
    assert_int_equal(access(path, F_OK) == 0, status == HS_OK);
    return status;
}

static void test_writer_refuses(void **state)
{
    (void)state;
    struct hs_error err;
    struct test_shape shape = shapes[1];
    struct hs_lora *lora = test_lora_new(&shape, 1, 1, 3);
    char *name = ((struct hs_lora_target *)(uintptr_t)lora->targets)->tensor;
    memset(name, 'x', 56); /* with ".lora_a" that is the 63 bytes of a name */
    name[56] = '\0';
    assert_int_equal(write_with(lora, true, &err), HS_OK);
    memset(name, 'x', 57);
    name[57] = '\0';
    assert_int_equal(write_with(lora, true, &err), HS_LIMIT);
    test_lora_free(lora);

    lora = test_lora_new(&shape, 1, 1, 3);
    struct hs_lora_target *target = (struct hs_lora_target *)(uintptr_t)lora->targets;
    target->scale = 1e6f;
    assert_int_equal(write_with(lora, true, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "f16 cannot hold"));
    assert_int_equal(write_with(lora, false, &err), HS_OK);
    test_lora_free(lora);

    shape.rank = 0;
    lora = test_lora_new(&shape, 1, 1, 3);
    assert_int_equal(write_with(lora, true, &err), HS_NOT_SUPPORTED);
    assert_non_null(strstr(err.message, "sparse"));
    test_lora_free(lora);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_lora *lora = test_lora_new(shapes, 3, 0.75f, 3);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_mem_fail_after(n);
        status = write_with(lora, true, NULL);
        hs_mem_fail_after(0);
    }
    assert_int_equal(status, HS_OK);
    test_lora_free(lora);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
