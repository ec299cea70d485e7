/* Tests of gguf_lora.c, through adapter_file.h: files as llama.cpp writes them, made by hand. */
#include "adapter_test.h"

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30 };

static const struct test_matrix matrices[] = {{"token_embd.weight", 32, 6},
                                              {"blk.0.attn_q.weight", 32, 64},
                                              {"blk.10.attn_q.weight", 32, 64},
                                              {"blk.2.attn_q.weight", 32, 64}};

static void begin(struct gguf_writer *writer, float alpha)
{
    gguf_writer_init(writer);
    gguf_writer_str(writer, "general.type", "adapter");
    gguf_writer_str(writer, "general.architecture", "llama");
    gguf_writer_str(writer, "adapter.type", "lora");
    gguf_writer_f32(writer, "adapter.lora.alpha", alpha);
}

/* All values 1.5; data of the type given. */
static void put(struct gguf_writer *writer, const char *name, uint64_t n_cols, uint64_t n_rows,
                uint32_t type)
{
    const uint64_t dims[2] = {n_cols, n_rows};
    const uint32_t f32 = 0x3FC00000;
    const uint16_t f16 = type == F16 ? 0x3E00 : 0x3FC0;
    const uint8_t q8[34] = {0x00, 0x38}; /* a factor of 0.5, then the 32 values */
    struct gguf_bytes data = {0};
    for (uint64_t i = 0; i < n_cols * n_rows; i++) {
        if (type == Q8_0 && i % 32 == 0) {
            uint8_t block[34];
            memcpy(block, q8, sizeof block);
            memset(block + 2, 3, 32);
            gguf_bytes_put(&data, block, sizeof block);
        } else if (type == F32) {
            gguf_bytes_put(&data, &f32, 4);
        } else if (type == F16 || type == BF16) {
            gguf_bytes_put(&data, &f16, 2);
        } else if (type == Q4_0 && i % 32 == 0) {
            gguf_bytes_zero(&data, 18);
        }
    }
    gguf_writer_tensor(writer, name, 2, dims, type, data.data, data.len);
    gguf_bytes_free(&data);
}

static void put_pair(struct gguf_writer *writer, const char *tensor, uint32_t type)
{
    char name[80];
    snprintf(name, sizeof name, "%s.lora_a", tensor);
    put(writer, name, 32, 32, type);
    snprintf(name, sizeof name, "%s.lora_b", tensor);
    put(writer, name, 32, 64, type);
}

static void write_file(struct gguf_writer *writer, const char *folder, const char *name)
{
    struct gguf_bytes bytes = {0};
    assert_true(gguf_writer_finish(writer, &bytes, NULL));
    test_write(folder, name, bytes.data, bytes.len);
    gguf_bytes_free(&bytes);
    gguf_writer_free(writer);
}

static void all_types_are_read(void **state)
{
    (void)state;
    static const uint32_t types[] = {F32, F16, BF16, Q8_0};
    char folder[256];
    hs_lora_base *base = test_base("llama", 2, 2, matrices, 4, NULL);
    test_folder(folder);
    for (size_t t = 0; t < 4; t++) {
        struct gguf_writer writer;
        begin(&writer, 64);
        put_pair(&writer, "blk.10.attn_q.weight", types[t]);
        put_pair(&writer, "blk.2.attn_q.weight", types[t]);
        write_file(&writer, folder, "a.gguf");
        struct hs_adapter_file *file = test_load(folder, base);
        assert_int_equal(file->format, HS_ADAPTER_GGUF);
        assert_string_equal(file->architecture, "llama");
        assert_string_equal(file->sha256, file->version);
        assert_int_equal(file->lora.n_targets, 2);
        const struct hs_lora_target *target = &file->lora.targets[0];
        assert_string_equal(target->tensor, "blk.2.attn_q.weight"); /* layers in their order */
        assert_int_equal(target->rank, 32);
        assert_int_equal(target->n_in, 32);
        assert_int_equal(target->n_out, 64);
        assert_true(target->scale == 2);
        float row[32];
        hs_lora_matrix_row(&target->b, 63, row);
        for (int i = 0; i < 32; i++) {
            assert_true(row[i] == 1.5f);
        }
        hs_adapter_file_free(file);
    }
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

static void keys_are_read(void **state)
{
    (void)state;
    char folder[256], path[512];
    struct gguf_writer writer;
    test_folder(folder);
    snprintf(path, sizeof path, "%s/noname", folder);
    gguf_writer_init(&writer);
    gguf_writer_str(&writer, "general.type", "adapter");
    gguf_writer_str(&writer, "general.architecture", "gemma3");
    gguf_writer_str(&writer, "adapter.type", "lora");
    gguf_writer_str(&writer, "general.base_model.0.name", "Gemma 3");
    gguf_writer_str(&writer, "hyprstream.base_fingerprint", "cafe");
    put(&writer, "token_embd.weight.lora_a", 32, 6, F32);
    put(&writer, "token_embd.weight.lora_b", 32, 32, F32);
    write_file(&writer, folder, "noname");
    struct hs_adapter_file *file = test_load(path, NULL);
    assert_string_equal(file->base_model, "Gemma 3");
    assert_string_equal(file->base_fingerprint, "cafe");
    assert_string_equal(file->targets, "token_embd");
    assert_true(file->alpha == 0);
    const struct hs_lora_target *words = &file->lora.targets[0];
    assert_true(words->is_embedding);
    assert_int_equal(words->n_in, 6);
    assert_int_equal(words->n_out, 32);
    assert_true(words->scale == 1); /* without alpha */
    hs_adapter_file_free(file);
    hs_lora_base *base = test_base("llama", 2, 2, matrices, 4, NULL);
    test_refused(path, base, HS_MISMATCH, "it is for gemma3 models, this one is llama");
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

#define REFUSED(status, part, ...)                                                                 \
    do {                                                                                           \
        struct gguf_writer writer;                                                                 \
        begin(&writer, 1);                                                                         \
        __VA_ARGS__;                                                                               \
        write_file(&writer, folder, "a.gguf");                                                     \
        test_refused(folder, base, status, part);                                                  \
    } while (0)

static void wrong_files_are_refused(void **state)
{
    (void)state;
    char folder[256];
    hs_lora_base *base = test_base("llama", 2, 2, matrices, 4, NULL);
    const uint64_t dims[4] = {32, 2, 2, 1};
    test_folder(folder);
    REFUSED(HS_BAD_FORMAT, "no weights");
    REFUSED(HS_BAD_FORMAT, "no adapter but a model", gguf_writer_free(&writer);
            gguf_writer_init(&writer); gguf_writer_str(&writer, "general.type", "model"));
    REFUSED(HS_BAD_FORMAT, "no LoRA adapter", gguf_writer_free(&writer); gguf_writer_init(&writer);
            gguf_writer_str(&writer, "general.type", "adapter");
            gguf_writer_str(&writer, "adapter.type", "control"));
    REFUSED(HS_NOT_SUPPORTED, "activated LoRA",
            gguf_writer_array(&writer, "adapter.alora.invocation_tokens", GGUF_W_U32, 0));
    REFUSED(HS_BAD_FORMAT, "has no lora_b", put(&writer, "blk.0.attn_q.weight.lora_a", 32, 4, F32));
    REFUSED(HS_BAD_FORMAT, "has no lora_a", put(&writer, "blk.0.attn_q.weight.lora_b", 32, 4, F32));
    REFUSED(HS_NOT_SUPPORTED, "'blk.0.attn_norm.weight' is no weight of LoRA",
            put(&writer, "blk.0.attn_norm.weight", 32, 1, F32));
    REFUSED(HS_NOT_SUPPORTED, "is Q4_0, not F32, F16, BF16 or Q8_0",
            put_pair(&writer, "blk.0.attn_q.weight", Q4_0));
    REFUSED(HS_NOT_SUPPORTED, "is no matrix",
            gguf_writer_tensor(&writer, "blk.0.attn_q.weight.lora_a", 3, dims, F32, NULL, 512);
            put(&writer, "blk.0.attn_q.weight.lora_b", 2, 64, F32));
    REFUSED(
        HS_NOT_SUPPORTED, "'blk.0.ffn_up_exps.weight.lora_a' is for the experts of a mixture",
        gguf_writer_tensor(&writer, "blk.0.ffn_up_exps.weight.lora_a", 3, dims, F32, NULL, 512);
        gguf_writer_tensor(&writer, "blk.0.ffn_up_exps.weight.lora_b", 3, dims, F32, NULL, 512));
    REFUSED(HS_MISMATCH, "blk.9.attn_q.weight: the model has no such matrix",
            put_pair(&writer, "blk.9.attn_q.weight", F16));
    REFUSED(HS_BAD_FORMAT, "blk.0.attn_q.weight: A is 8 x 32, not 4 x 32",
            put(&writer, "blk.0.attn_q.weight.lora_a", 32, 8, F32);
            put(&writer, "blk.0.attn_q.weight.lora_b", 4, 64, F32));
    REFUSED(HS_LIMIT, "rank 1025", put(&writer, "blk.0.attn_q.weight.lora_a", 32, 1025, F16);
            put(&writer, "blk.0.attn_q.weight.lora_b", 1025, 64, F16));
    struct gguf_writer writer;
    begin(&writer, 1);
    put(&writer, "blk.0.attn_q.weight.lora_a", 32, 1024, F16);
    put(&writer, "blk.0.attn_q.weight.lora_b", 1024, 64, F16);
    write_file(&writer, folder, "a.gguf");
    struct hs_adapter_file *file = test_load(folder, base);
    assert_int_equal(file->rank, HS_LORA_RANK_MAX);
    hs_adapter_file_free(file);
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    char folder[256];
    struct gguf_writer writer;
    hs_lora_base *base = test_base("llama", 2, 2, matrices, 4, NULL);
    test_folder(folder);
    begin(&writer, 1);
    gguf_writer_str(&writer, "general.base_model.0.name", "x");
    put_pair(&writer, "blk.0.attn_q.weight", Q8_0);
    write_file(&writer, folder, "a.gguf");
    for (uint64_t n = 1;; n++) {
        struct hs_adapter_file *file = NULL;
        struct hs_error err;
        hs_mem_fail_after(n);
        hs_status status = hs_adapter_file_load(folder, base, &file, &err);
        bool is_done = hs_mem_count() < n;
        hs_mem_fail_after(0);
        if (is_done) {
            assert_int_equal(status, HS_OK);
            hs_adapter_file_free(file);
            break;
        }
        if (status != HS_OUT_OF_MEMORY) {
            fail_msg("allocation %d: %s", (int)n, err.message);
        }
    }
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_are_read),
        cmocka_unit_test(keys_are_read),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
