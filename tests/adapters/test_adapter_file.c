/* Tests of adapters/adapter_file.h: finding the files, and two real adapters of Gemma 3 270M. */
#include "adapter_test.h"

#define REAL(name) HS_TEST_DATA "/adapters/" name

/* The model's sides, from its configuration: width 640, 4 heads of 256, one of k and v, FFN 2048.
 */
static hs_lora_base *gemma(uint64_t n_embd)
{
    static const struct {
        const char *kind;
        uint64_t n_in, n_out;
    } kinds[] = {{"attn_q", 640, 1024},      {"attn_k", 640, 256},    {"attn_v", 640, 256},
                 {"attn_output", 1024, 640}, {"ffn_gate", 640, 2048}, {"ffn_up", 640, 2048},
                 {"ffn_down", 2048, 640}};
    struct test_matrix matrices[18 * 7 + 1] = {{"token_embd.weight", 640, 262144}};
    char names[18 * 7][64];
    for (size_t i = 0; i < 18 * 7; i++) {
        uint64_t n_in = kinds[i % 7].n_in, n_out = kinds[i % 7].n_out;
        snprintf(names[i], sizeof names[i], "blk.%zu.%s.weight", i / 7, kinds[i % 7].kind);
        matrices[i + 1] = (struct test_matrix){names[i], n_in == 640 ? n_embd : n_in,
                                               n_out == 640 ? n_embd : n_out};
    }
    return test_base("gemma3", 4, 1, matrices, 18 * 7 + 1, NULL);
}

static uint16_t f16_at(const struct hs_lora_matrix *matrix, int64_t row, int64_t col)
{
    assert_int_equal(matrix->type, HS_LORA_F16);
    return ((const uint16_t *)matrix->data)[row * matrix->n_cols + col];
}

/* Hashes by sha256sum, bits of values by Python's struct module, offsets from the header. */
static void real_adapters_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *path, *sha256, *version;
        uint16_t k_b, down_a, q_a;
    } real[] = {
        {REAL("json"), "982309c742609026da943d0938556672fedb0e68e3b80d58f342b39edc08898a",
         "27670cdb816908854f81fc4e9c4d944cc8035fe91293d472da0fa5172c48aa83", 0x9739, 0x209d,
         0x2098},
        {REAL("pirate"), "0d35198b08c39bd3aab6f0f8280792517deda0f594a4d3d2e6200e3819c70689",
         "c7ff3dbf7a1837e7525171e346ada5a7a0950be709c62ed277e6c020221dc7e8", 0xa37e, 0x254a,
         0x22b3},
    };
    hs_lora_base *base = gemma(640);
    for (size_t i = 0; i < 2; i++) {
        struct hs_adapter_file *file = test_load(real[i].path, base);
        assert_int_equal(file->format, HS_ADAPTER_PEFT);
        assert_int_equal(file->lora.n_targets, 126);
        assert_int_equal(file->rank, 8);
        assert_true(file->alpha == 16);
        assert_string_equal(file->architecture, "gemma3");
        assert_string_equal(file->base_model, "gemma-3-270m");
        assert_string_equal(file->base_fingerprint, "");
        assert_string_equal(file->targets,
                            "attn_k,attn_output,attn_q,attn_v,ffn_down,ffn_gate,ffn_up");
        assert_int_equal(file->size_bytes, 3829456);
        assert_string_equal(file->sha256, real[i].sha256);
        assert_string_equal(file->version, real[i].version);
        assert_null(file->training);
        assert_string_equal(file->lora.targets[0].tensor, "blk.0.attn_k.weight");
        assert_string_equal(file->lora.targets[125].tensor, "blk.17.ffn_up.weight");
        const struct hs_lora_target *k = test_target(&file->lora, "blk.17.attn_k.weight");
        assert_int_equal(k->n_in, 640);
        assert_int_equal(k->n_out, 256);
        assert_true(k->scale == 2);
        assert_int_equal(f16_at(&k->b, 255, 7), real[i].k_b);
        assert_int_equal(f16_at(&test_target(&file->lora, "blk.0.ffn_down.weight")->a, 0, 0),
                         real[i].down_a);
        assert_int_equal(f16_at(&test_target(&file->lora, "blk.9.attn_q.weight")->a, 7, 639),
                         real[i].q_a);
        hs_adapter_file_free(file);
    }
    hs_lora_base_free(base);
}

static void every_file_of_a_folder_leads_to_it(void **state)
{
    (void)state;
    const char *const paths[] = {REAL("json"), REAL("json/"), REAL("json/adapter_config.json"),
                                 REAL("json/adapter_model.safetensors")};
    for (size_t i = 0; i < 4; i++) {
        struct hs_adapter_file *file = test_load(paths[i], NULL);
        assert_int_equal(file->lora.n_targets, 0);
        assert_string_equal(file->targets,
                            "down_proj,gate_proj,k_proj,o_proj,q_proj,up_proj,v_proj");
        assert_string_equal(file->architecture, "");
        assert_int_equal(file->rank, 8);
        hs_adapter_file_free(file);
    }
    hs_adapter_file_free(NULL);
}

static void weights_alone_are_the_same_weights(void **state)
{
    (void)state;
    hs_lora_base *base = gemma(640);
    struct hs_adapter_file *whole = test_load(REAL("json"), base);
    struct hs_adapter_file *file = NULL;
    assert_int_equal(hs_adapter_file_load_weights(REAL("json"), base, &file, NULL), HS_OK);
    assert_string_equal(file->sha256, "");
    assert_string_equal(file->version, "");
    assert_null(file->training);
    assert_int_equal(file->lora.n_targets, whole->lora.n_targets);
    for (int32_t i = 0; i < file->lora.n_targets; i++) {
        const struct hs_lora_target *a = &file->lora.targets[i];
        const struct hs_lora_target *b = &whole->lora.targets[i];
        assert_string_equal(a->tensor, b->tensor);
        assert_true(a->scale == b->scale);
        assert_memory_equal(a->a.data, b->a.data, (size_t)(a->a.n_rows * a->a.n_cols) * 2);
        assert_memory_equal(a->b.data, b->b.data, (size_t)(a->b.n_rows * a->b.n_cols) * 2);
    }
    hs_adapter_file_free(file);
    hs_adapter_file_free(whole);
    hs_lora_base_free(base);
}

static void another_model_is_refused(void **state)
{
    (void)state;
    hs_lora_base *base = gemma(512);
    struct hs_adapter_file *file = NULL;
    struct hs_error err;
    assert_int_equal(hs_adapter_file_load(REAL("json"), base, &file, &err), HS_MISMATCH);
    assert_non_null(strstr(err.message, "blk.0.attn_k.weight: made for 640 inputs and 256 outputs, "
                                        "the model has 512 and 256"));
    assert_non_null(strstr(err.message, "(126 in all)"));
    hs_lora_base_free(base);
    const struct test_matrix none = {"token_embd.weight", 640, 100};
    base = test_base("gemma3", 4, 1, &none, 1, NULL);
    test_refused(REAL("json"), base, HS_MISMATCH, "blk.0.attn_k.weight: the model has no such");
    hs_lora_base_free(base);
    base = test_base("mamba", 4, 1, &none, 1, NULL);
    test_refused(REAL("json"), base, HS_NOT_SUPPORTED, "names of the modules of mamba models");
    hs_lora_base_free(base);
}

/* ---- folders that are not whole ---- */

static void missing_files_are_named(void **state)
{
    (void)state;
    char folder[256], path[512];
    test_folder(folder);
    test_refused("/nowhere/at/all", NULL, HS_NOT_FOUND, "/nowhere/at/all");
    test_refused(folder, NULL, HS_NOT_FOUND, "no .gguf file");
    test_write(folder, "a.gguf", "GGUX", 4);
    test_refused(folder, NULL, HS_BAD_MAGIC, "not a GGUF file");
    test_write(folder, "b.gguf", "GGUX", 4);
    test_refused(folder, NULL, HS_NOT_FOUND, "more than one");
    test_config(folder, 8, "");
    test_refused(folder, NULL, HS_NOT_FOUND, "adapter_model.safetensors");
    test_write(folder, "adapter_model.bin", "PK", 2);
    test_refused(folder, NULL, HS_NOT_SUPPORTED, "adapter_model.bin");
    test_write(folder, "adapter_model.safetensors", "", 0);
    test_refused(folder, NULL, HS_TRUNCATED, "0 bytes");
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    test_refused(path, NULL, HS_NOT_FOUND, "adapter_config.json");
    assert_int_equal(chmod(path, 0), 0);
    if (geteuid() != 0) {
        test_refused(path, NULL, HS_PERMISSION_DENIED, "adapter_model.safetensors");
    }
    test_folder_remove(folder);
}

/* A config of exactly the limit, spaces at its end, and one byte more; a file of zeros that takes
 * no room on the disk. */
static void sizes_are_limited(void **state)
{
    (void)state;
    char folder[256], path[512];
    static char text[HS_ADAPTER_CONFIG_MAX_BYTES + 1];
    const char *config = "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1,"
                         "\"target_modules\":[\"a\"]}";
    const float one = 1;
    struct test_tensors tensors = {0};
    test_folder(folder);
    test_f32(&tensors, "a.lora_A.weight", 1, 1, &one);
    test_f32(&tensors, "a.lora_B.weight", 1, 1, &one);
    test_tensors_write(&tensors, folder, "adapter_model.safetensors", 0);
    memset(text, ' ', sizeof text);
    memcpy(text, config, strlen(config));
    test_write(folder, "adapter_config.json", text, sizeof text - 1);
    hs_adapter_file_free(test_load(folder, NULL));
    test_write(folder, "adapter_config.json", text, sizeof text);
    struct hs_adapter_file *file = NULL;
    assert_int_equal(hs_adapter_file_load(folder, NULL, &file, NULL), HS_LIMIT);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    assert_int_equal(truncate(path, (off_t)HS_ADAPTER_FILE_MAX_BYTES + 1), 0);
    test_refused(path, NULL, HS_LIMIT, "more than the limit of 4294967296");
    test_folder_remove(folder);
}

static void training_is_told(void **state)
{
    (void)state;
    char folder[256];
    const float one = 1;
    const char *trainer = "{\"global_step\":2,\"log_history\":[{\"step\":1,\"loss\":0.5}]}";
    struct test_tensors tensors = {0};
    test_folder(folder);
    test_config(folder, 1, "");
    test_f32(&tensors, "x.q_proj.lora_A.weight", 1, 1, &one);
    test_f32(&tensors, "x.q_proj.lora_B.weight", 1, 1, &one);
    test_tensors_write(&tensors, folder, "adapter_model.safetensors", 0);
    test_write(folder, "trainer_state.json", trainer, strlen(trainer));
    struct hs_adapter_file *file = test_load(folder, NULL);
    assert_string_equal(file->training, "{\"steps\":2,\"history\":[{\"step\":1,\"loss\":0.5}]}");
    hs_adapter_file_free(file);
    test_write(folder, "trainer_state.json", "{", 1);
    file = test_load(folder, NULL);
    assert_null(file->training);
    hs_adapter_file_free(file);
    test_folder_remove(folder);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    char folder[256];
    const float values[] = {1, 2, 3, 4};
    const struct test_matrix matrices[] = {{"blk.0.attn_q.weight", 2, 2},
                                           {"token_embd.weight", 2, 2}};
    hs_lora_base *base = test_base("llama", 1, 1, matrices, 2, NULL);
    struct test_tensors tensors = {0};
    test_folder(folder);
    test_config(folder, 2, ",\"rank_pattern\":{\"q_proj\":2},\"use_rslora\":true");
    test_f32(&tensors, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 2, 2,
             values);
    test_f32(&tensors, "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", 2, 2,
             values);
    test_f32(&tensors, "base_model.model.model.embed_tokens.lora_embedding_A", 2, 2, values);
    test_f32(&tensors, "base_model.model.model.embed_tokens.lora_embedding_B", 2, 2, values);
    test_tensors_write(&tensors, folder, "adapter_model.safetensors", 1);
    test_write(folder, "trainer_state.json", "{\"global_step\":2}", 17);
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
        assert_null(file);
    }
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_adapters_are_read),
        cmocka_unit_test(every_file_of_a_folder_leads_to_it),
        cmocka_unit_test(weights_alone_are_the_same_weights),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(training_is_told),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
