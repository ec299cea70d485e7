/* Tests of peft_weights.c, through adapter_file.h: small files made by hand. What real models make
 * of PEFT's files is compared in test_peft_reference.c. */
#include "adapter_test.h"

#define LAYER "base_model.model.model.layers.0."

static const struct test_matrix matrices[] = {
    {"token_embd.weight", 4, 6},        {"blk.0.attn_q.weight", 4, 8},
    {"blk.0.attn_k.weight", 4, 4},      {"blk.0.attn_v.weight", 4, 4},
    {"blk.0.ffn_up.weight", 4, 5},      {"output.weight", 4, 6},
    {"blk.0.attn_output.weight", 8, 4},
};
#define N_MATRICES (sizeof matrices / sizeof matrices[0])

struct fixture {
    char folder[256];
    struct test_tensors tensors;
    hs_lora_base *base;
};

static void begin(struct fixture *f, const char *architecture)
{
    memset(f, 0, sizeof *f);
    test_folder(f->folder);
    f->base = test_base(architecture, 2, 1, matrices, N_MATRICES, "f00d");
}

static void end(struct fixture *f)
{
    hs_lora_base_free(f->base);
    test_folder_remove(f->folder);
}

/* A of ones times 1..rank, B counting from 0, so that rows can be told apart. */
static void add_pair(struct fixture *f, const char *module, int rank, int n_in, int n_out)
{
    static const char *const kinds[] = {"lora_A.weight", "lora_B.weight"};
    for (int half = 0; half < 2; half++) {
        float values[64];
        char name[160];
        int n = rank * (half == 0 ? n_in : n_out);
        for (int i = 0; i < n; i++) {
            values[i] = half == 0 ? (float)(1 + i / n_in) : (float)i;
        }
        snprintf(name, sizeof name, "%s.%s", module, kinds[half]);
        test_f32(&f->tensors, name, half == 0 ? rank : n_out, half == 0 ? n_in : rank, values);
    }
}

static struct hs_adapter_file *load(struct fixture *f, size_t skew)
{
    test_tensors_write(&f->tensors, f->folder, "adapter_model.safetensors", skew);
    return test_load(f->folder, f->base);
}

static void refused(struct fixture *f, hs_status status, const char *part)
{
    test_tensors_write(&f->tensors, f->folder, "adapter_model.safetensors", 0);
    test_refused(f->folder, f->base, status, part);
}

static float f32_at(const struct hs_lora_matrix *matrix, int64_t row, int64_t col)
{
    assert_int_equal(matrix->type, HS_LORA_F32);
    return ((const float *)matrix->data)[row * matrix->n_cols + col];
}

/* ---- rows and columns ---- */

/* Two heads of 4: rows 0 1 2 3 of a head go to 0 2 1 3, as convert_lora_to_gguf.py permutes. */
static void llama_permutes_q_and_k(void **state)
{
    (void)state;
    static const int permuted[8] = {0, 2, 1, 3, 4, 6, 5, 7};
    for (int is_llama = 0; is_llama < 2; is_llama++) {
        struct fixture f;
        begin(&f, is_llama ? "llama" : "qwen3");
        test_config(f.folder, 1, "");
        add_pair(&f, LAYER "self_attn.q_proj", 1, 4, 8);
        add_pair(&f, LAYER "self_attn.k_proj", 1, 4, 4);
        add_pair(&f, LAYER "self_attn.v_proj", 1, 4, 4);
        struct hs_adapter_file *file = load(&f, 0);
        const struct hs_lora_target *q = test_target(&file->lora, "blk.0.attn_q.weight");
        const struct hs_lora_target *k = test_target(&file->lora, "blk.0.attn_k.weight");
        const struct hs_lora_target *v = test_target(&file->lora, "blk.0.attn_v.weight");
        for (int i = 0; i < 8; i++) {
            assert_true(f32_at(&q->b, i, 0) == (float)(is_llama ? permuted[i] : i));
        }
        for (int i = 0; i < 4; i++) {
            assert_true(f32_at(&k->b, i, 0) == (float)(is_llama ? permuted[i] : i));
            assert_true(f32_at(&v->b, i, 0) == (float)i);
        }
        hs_adapter_file_free(file);
        end(&f);
    }
}

/* A of PEFT has a column for each word. */
static void embeddings_have_a_row_for_each_word(void **state)
{
    (void)state;
    struct fixture f;
    const float a[2 * 6] = {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15};
    const float b[4 * 2] = {0, 1, 2, 3, 4, 5, 6, 7};
    begin(&f, "llama");
    test_config(f.folder, 2, "");
    test_f32(&f.tensors, "base_model.model.model.embed_tokens.lora_embedding_A.default", 2, 6, a);
    test_f32(&f.tensors, "base_model.model.model.embed_tokens.lora_embedding_B.default", 4, 2, b);
    add_pair(&f, "base_model.model.lm_head", 2, 4, 6);
    struct hs_adapter_file *file = load(&f, 0);
    const struct hs_lora_target *words = test_target(&file->lora, "token_embd.weight");
    assert_true(words->is_embedding);
    assert_int_equal(words->n_in, 6);
    assert_int_equal(words->n_out, 4);
    assert_int_equal(words->a.n_rows, 6);
    assert_int_equal(words->a.n_cols, 2);
    for (int word = 0; word < 6; word++) {
        assert_true(f32_at(&words->a, word, 0) == (float)word);
        assert_true(f32_at(&words->a, word, 1) == (float)(10 + word));
    }
    assert_true(f32_at(&words->b, 3, 1) == 7);
    assert_false(test_target(&file->lora, "output.weight")->is_embedding);
    assert_string_equal(file->targets, "output,token_embd");
    hs_adapter_file_free(file);
    end(&f);
}

/* ---- names, types, places ---- */

static void names_of_adapters_are_skipped(void **state)
{
    (void)state;
    struct fixture f;
    const float values[16] = {1, 2, 3, 4};
    begin(&f, "qwen3");
    test_config(f.folder, 1, "");
    test_f32(&f.tensors, LAYER "self_attn.v_proj.lora_A.default.weight", 1, 4, values);
    test_f32(&f.tensors, LAYER "self_attn.v_proj.lora_B.default.weight", 4, 1, values);
    test_f32(&f.tensors, "model.language_model.layers.0.self_attn.k_proj.lora_A.weight", 1, 4,
             values);
    test_f32(&f.tensors, "model.language_model.layers.0.self_attn.k_proj.lora_B.weight", 4, 1,
             values);
    struct hs_adapter_file *file = load(&f, 0);
    assert_int_equal(file->lora.n_targets, 2);
    assert_string_equal(file->lora.targets[0].tensor, "blk.0.attn_k.weight");
    assert_string_equal(file->architecture, "qwen3");
    hs_adapter_file_free(file);
    end(&f);
}

/* Data at every distance from alignment, in all three types: bits of 1.5 by IEEE 754. */
static void values_are_read_wherever_they_lie(void **state)
{
    (void)state;
    static const struct {
        const char *dtype;
        enum hs_lora_type type;
        uint32_t bits;
        size_t size;
    } types[] = {{"F32", HS_LORA_F32, 0x3FC00000, 4},
                 {"F16", HS_LORA_F16, 0x3E00, 2},
                 {"BF16", HS_LORA_BF16, 0x3FC0, 2}};
    for (size_t t = 0; t < 3; t++) {
        for (size_t skew = 0; skew < 4; skew++) {
            struct fixture f;
            uint8_t values[16] = {0};
            for (size_t i = 0; i < 4; i++) {
                memcpy(values + i * types[t].size, &types[t].bits, types[t].size);
            }
            begin(&f, "qwen3");
            test_config(f.folder, 1, "");
            test_tensor(&f.tensors, LAYER "self_attn.v_proj.lora_A.weight", types[t].dtype, "[1,4]",
                        values, 4 * types[t].size);
            test_tensor(&f.tensors, LAYER "self_attn.v_proj.lora_B.weight", types[t].dtype, "[4,1]",
                        values, 4 * types[t].size);
            struct hs_adapter_file *file = load(&f, skew);
            float row[4];
            assert_int_equal(file->lora.targets[0].a.type, types[t].type);
            assert_int_equal((uintptr_t)file->lora.targets[0].a.data % 4, 0);
            hs_lora_matrix_row(&file->lora.targets[0].a, 0, row);
            assert_true(row[0] == 1.5f && row[3] == 1.5f);
            hs_adapter_file_free(file);
            end(&f);
        }
    }
}

static void patterns_decide_rank_and_scale(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "qwen3");
    test_config(f.folder, 2,
                ",\"rank_pattern\":{\"v_proj\":4},\"alpha_pattern\":{\"layers.0.mlp.up_proj\":1},"
                "\"fan_in_fan_out\":true");
    add_pair(&f, LAYER "self_attn.v_proj", 4, 4, 4);
    add_pair(&f, LAYER "mlp.up_proj", 2, 4, 5);
    struct hs_adapter_file *file = load(&f, 0);
    assert_int_equal(file->rank, 4);
    assert_int_equal(test_target(&file->lora, "blk.0.attn_v.weight")->rank, 4);
    assert_true(test_target(&file->lora, "blk.0.attn_v.weight")->scale == 4.0f);
    assert_true(test_target(&file->lora, "blk.0.ffn_up.weight")->scale == 0.5f);
    hs_adapter_file_free(file);
    end(&f);
}

/* ---- what does not fit ---- */

#define REFUSED(status, part, ...)                                                                 \
    do {                                                                                           \
        struct fixture f;                                                                          \
        begin(&f, "llama");                                                                        \
        test_config(f.folder, 1, "");                                                              \
        __VA_ARGS__;                                                                               \
        refused(&f, status, part);                                                                 \
        end(&f);                                                                                   \
    } while (0)

static void wrong_weights_are_named(void **state)
{
    (void)state;
    const float one[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const float nan[4] = {1, 1, 1, __builtin_nanf("")};
    REFUSED(HS_BAD_FORMAT, "no weights");
    REFUSED(HS_NOT_SUPPORTED, "'model.norm.weight' is no weight of LoRA",
            test_f32(&f.tensors, "model.norm.weight", 1, 4, one));
    REFUSED(HS_NOT_SUPPORTED, "lora_magnitude_vector",
            test_f32(&f.tensors, LAYER "self_attn.q_proj.lora_magnitude_vector", 1, 4, one));
    REFUSED(HS_NOT_SUPPORTED, "lora_B.bias",
            test_f32(&f.tensors, LAYER "self_attn.q_proj.lora_B.bias", 1, 4, one));
    REFUSED(HS_NOT_SUPPORTED, "lora_C", test_f32(&f.tensors, "x.lora_C.weight", 1, 4, one));
    REFUSED(
        HS_NOT_SUPPORTED, "is no matrix",
        test_tensor(&f.tensors, LAYER "self_attn.q_proj.lora_A.weight", "F32", "[1,4,1]", one, 16));
    REFUSED(
        HS_NOT_SUPPORTED, "is I32, not F32",
        test_tensor(&f.tensors, LAYER "self_attn.q_proj.lora_A.weight", "I32", "[1,4]", one, 16));
    REFUSED(HS_BAD_FORMAT, "has not one A and one B",
            test_f32(&f.tensors, LAYER "self_attn.q_proj.lora_A.weight", 1, 4, one));
    REFUSED(HS_BAD_FORMAT, "has not one A and one B",
            test_f32(&f.tensors, LAYER "self_attn.q_proj.lora_B.weight", 8, 1, one));
    REFUSED(HS_BAD_FORMAT, "has not one A and one B",
            add_pair(&f, LAYER "self_attn.q_proj", 1, 4, 8);
            test_f32(&f.tensors, LAYER "self_attn.q_proj.lora_A.x.weight", 1, 4, one));
    REFUSED(HS_BAD_FORMAT, "has ranks 2 and 2, the configuration says 1",
            add_pair(&f, LAYER "self_attn.q_proj", 2, 4, 8));
    REFUSED(HS_BAD_FORMAT, "the configuration does not name it",
            add_pair(&f, LAYER "self_attn.o_proj", 1, 8, 4));
    REFUSED(HS_BAD_FORMAT, "blk.0.attn_v.weight: A has a NaN",
            test_f32(&f.tensors, LAYER "self_attn.v_proj.lora_A.weight", 1, 4, nan);
            test_f32(&f.tensors, LAYER "self_attn.v_proj.lora_B.weight", 4, 1, one));
    REFUSED(HS_BAD_FORMAT, "blk.0.attn_v.weight has two pairs",
            add_pair(&f, LAYER "self_attn.v_proj", 1, 4, 4);
            add_pair(&f, "model.language_model.layers.0.self_attn.v_proj", 1, 4, 4));
}

static void another_base_is_named(void **state)
{
    (void)state;
    REFUSED(HS_MISMATCH, "llama models have no module 'model.layers.0.cross_attn.q_proj'",
            add_pair(&f, LAYER "cross_attn.q_proj", 1, 4, 8));
    REFUSED(HS_NOT_SUPPORTED, "'model.layers.0.mlp.experts.7.up_proj' is for the experts of a mix",
            add_pair(&f, LAYER "mlp.experts.7.up_proj", 1, 4, 8));
    REFUSED(HS_MISMATCH, "blk.1.attn_q.weight: the model has no such matrix",
            add_pair(&f, "base_model.model.model.layers.1.self_attn.q_proj", 1, 4, 8));
    REFUSED(HS_MISMATCH, "10 outputs do not go with 2 heads",
            add_pair(&f, LAYER "self_attn.q_proj", 1, 4, 10));
    REFUSED(HS_MISMATCH, "made for 5 inputs and 8 outputs, the model has 4 and 8",
            add_pair(&f, LAYER "self_attn.q_proj", 1, 5, 8));
    REFUSED(HS_MISMATCH, "'model.embed_tokens' is a linear layer in the adapter only",
            add_pair(&f, "base_model.model.model.embed_tokens", 1, 4, 6));
    REFUSED(HS_MISMATCH, "blk.0.ffn_up.weight: made for 5 inputs",
            add_pair(&f, LAYER "self_attn.q_proj", 1, 5, 8);
            add_pair(&f, LAYER "self_attn.k_proj", 1, 5, 4);
            add_pair(&f, LAYER "self_attn.v_proj", 1, 5, 4);
            add_pair(&f, LAYER "mlp.up_proj", 1, 5, 5));
}

/* Where a base has one matrix, and the adapter's had several, or the other way round. */
static void fused_matrices_are_named(void **state)
{
    (void)state;
    static const struct test_matrix fused[] = {{"blk.0.attn_qkv.weight", 4, 16},
                                               {"blk.0.attn_output.weight", 8, 4},
                                               {"blk.0.ffn_up.weight", 4, 10},
                                               {"blk.0.ffn_down.weight", 5, 4}};
    static const struct {
        const char *module, *part;
        int n_out;
    } cases[] = {
        {"self_attn.q_proj", "blk.0.attn_q.weight: the model has no such matrix (its q, k and v",
         8},
        {"self_attn.k_proj", "(its q, k and v are one matrix, attn_qkv)", 4},
        {"self_attn.v_proj", "(its q, k and v are one matrix, attn_qkv)", 4},
        {"mlp.gate_proj", "(its gate and up projections are one matrix, ffn_up)", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        char module[96];
        begin(&f, "phi3");
        hs_lora_base_free(f.base);
        f.base = test_base("phi3", 2, 1, fused, 4, NULL);
        test_config(f.folder, 1, ",\"target_modules\":\"all-linear\"");
        snprintf(module, sizeof module, LAYER "%s", cases[i].module);
        add_pair(&f, module, 1, 4, cases[i].n_out);
        refused(&f, HS_MISMATCH, cases[i].part);
        end(&f);
    }
    struct fixture f;
    begin(&f, "llama");
    test_config(f.folder, 1, ",\"target_modules\":\"all-linear\"");
    add_pair(&f, LAYER "self_attn.qkv_proj", 1, 4, 16);
    refused(&f, HS_MISMATCH, "no such matrix (its q, k and v are three matrices)");
    end(&f);
}

/* Converters change the matrices of these in ways of their own. */
static void families_without_names_are_refused(void **state)
{
    (void)state;
    static const char *const families[] = {"chatglm", "deepseek2", "falcon",    "glm4",
                                           "llama4",  "mamba",     "unheard-of"};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        char part[128];
        struct fixture f;
        begin(&f, families[i]);
        test_config(f.folder, 1, "");
        add_pair(&f, LAYER "self_attn.q_proj", 1, 4, 8);
        snprintf(part, sizeof part, "names of the modules of %s models are not known", families[i]);
        refused(&f, HS_NOT_SUPPORTED, part);
        end(&f);
    }
}

static void the_head_of_a_tied_model_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "llama");
    hs_lora_base_free(f.base);
    f.base = test_base("llama", 2, 1, matrices, 5, NULL); /* without output.weight */
    test_config(f.folder, 1, "");
    add_pair(&f, "base_model.model.lm_head", 1, 4, 6);
    refused(&f, HS_MISMATCH, "its embeddings serve as its output");
    end(&f);
}

static void the_fingerprint_of_the_base_is_compared(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        hs_status status;
    } cases[] = {{"f00d", HS_OK}, {"beef", HS_MISMATCH}};
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        char metadata[128];
        int len =
            snprintf(metadata, sizeof metadata,
                     "{\"__metadata__\":{\"hyprstream.base_fingerprint\":\"%s\"}", cases[i].text);
        begin(&f, "qwen3");
        test_config(f.folder, 1, "");
        gguf_bytes_put(&f.tensors.header, metadata, (size_t)len);
        add_pair(&f, LAYER "self_attn.v_proj", 1, 4, 4);
        if (cases[i].status == HS_OK) {
            struct hs_adapter_file *file = load(&f, 0);
            assert_string_equal(file->base_fingerprint, "f00d");
            hs_adapter_file_free(file);
        } else {
            refused(&f, HS_MISMATCH, "made for the model beef..., this one is f00d...");
        }
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_permutes_q_and_k),
        cmocka_unit_test(embeddings_have_a_row_for_each_word),
        cmocka_unit_test(names_of_adapters_are_skipped),
        cmocka_unit_test(values_are_read_wherever_they_lie),
        cmocka_unit_test(patterns_decide_rank_and_scale),
        cmocka_unit_test(wrong_weights_are_named),
        cmocka_unit_test(another_base_is_named),
        cmocka_unit_test(fused_matrices_are_named),
        cmocka_unit_test(families_without_names_are_refused),
        cmocka_unit_test(the_head_of_a_tied_model_is_refused),
        cmocka_unit_test(the_fingerprint_of_the_base_is_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
