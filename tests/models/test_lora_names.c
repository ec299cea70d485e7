/* Tests of models/lora_names.h. The names are compared with llama.cpp's own table in
 * tests/python/test_lora_names.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "models/lora_names.h"

static void expect_tensor(const char *architecture, const char *module, const char *tensor,
                          enum hs_lora_rows rows)
{
    char name[HS_LORA_TENSOR_SIZE];
    enum hs_lora_rows found;
    if (!hs_model_lora_tensor(hs_model_family_find(architecture), module, name, &found)) {
        fail_msg("%s has no module %s", architecture, module);
    }
    assert_string_equal(name, tensor);
    assert_int_equal(found, rows);
}

static void modules_become_tensors(void **state)
{
    (void)state;
    expect_tensor("llama", "model.layers.0.self_attn.q_proj", "blk.0.attn_q.weight",
                  HS_LORA_ROWS_Q);
    expect_tensor("llama", "model.layers.31.self_attn.k_proj", "blk.31.attn_k.weight",
                  HS_LORA_ROWS_K);
    expect_tensor("llama", "model.layers.31.self_attn.v_proj", "blk.31.attn_v.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("llama", "lm_head", "output.weight", HS_LORA_ROWS_SAME);
    expect_tensor("llama", "model.embed_tokens", "token_embd.weight", HS_LORA_ROWS_SAME);
    expect_tensor("qwen3", "model.layers.5.self_attn.q_proj", "blk.5.attn_q.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("phi3", "model.layers.7.self_attn.qkv_proj", "blk.7.attn_qkv.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("phi3", "model.layers.7.mlp.gate_up_proj", "blk.7.ffn_up.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("gpt2", "transformer.h.11.attn.c_attn", "blk.11.attn_qkv.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("gemma3", "model.language_model.layers.3.mlp.down_proj", "blk.3.ffn_down.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("gemma3", "language_model.model.layers.3.mlp.up_proj", "blk.3.ffn_up.weight",
                  HS_LORA_ROWS_SAME);
    expect_tensor("gemma-embedding", "layers.3.mlp.gate_proj", "blk.3.ffn_gate.weight",
                  HS_LORA_ROWS_SAME);
}

static void other_modules_have_no_tensor(void **state)
{
    (void)state;
    const char *const modules[] = {"",
                                   "q_proj",
                                   "model.layers.x.self_attn.q_proj",
                                   "model.layers..self_attn.q_proj",
                                   "model.layers.01.self_attn.q_proj",
                                   "model.layers.999999.self_attn.q_proj",
                                   "model.layers.0.self_attn.q_proj.more",
                                   "model.layers.0.mlp.experts.1.up_proj",
                                   "model.vision_tower.layers.0.self_attn.q_proj",
                                   "model.norm"};
    char name[HS_LORA_TENSOR_SIZE], module[HS_LORA_MODULE_SIZE], wide[200];
    enum hs_lora_rows rows;
    const struct hs_model_family *llama = hs_model_family_find("llama");
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        assert_false(hs_model_lora_tensor(llama, modules[i], name, &rows));
    }
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    assert_false(hs_model_lora_tensor(llama, wide, name, &rows));
    assert_false(hs_model_lora_tensor(NULL, "lm_head", name, &rows));
    assert_false(hs_model_lora_tensor(hs_model_family_find("mamba"), "lm_head", name, &rows));
    assert_false(hs_model_lora_module(NULL, "output.weight", module, &rows));
    assert_false(
        hs_model_lora_module(hs_model_family_find("mamba"), "output.weight", module, &rows));
    assert_false(hs_model_lora_module(llama, "blk.0.attn_norm.weight", module, &rows));
    assert_false(hs_model_lora_module(llama, "blk.0.attn_qkv.weight", module, &rows));
}

/* Each family's own targets go to a tensor and come back. */
static void targets_of_all_families_go_both_ways(void **state)
{
    (void)state;
    size_t n = 0;
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        const struct hs_model_family *family = hs_model_family_at(i);
        const char *const kinds[] = {"attn_q",      "attn_k",   "attn_v", "attn_qkv",
                                     "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            char tensor[HS_LORA_TENSOR_SIZE], back[HS_LORA_TENSOR_SIZE];
            char module[HS_LORA_MODULE_SIZE];
            enum hs_lora_rows rows, rows_back;
            snprintf(tensor, sizeof tensor, "blk.17.%s.weight", kinds[k]);
            if (!hs_model_lora_module(family, tensor, module, &rows)) {
                continue;
            }
            assert_true(hs_model_lora_tensor(family, module, back, &rows_back));
            assert_string_equal(back, tensor);
            assert_int_equal(rows, rows_back);
            assert_non_null(strstr(family->lora_targets, strrchr(module, '.') + 1));
            n++;
        }
    }
    assert_true(n > 150);
}

/* LlamaModel.permute: reshape(n_head, 2, d / 2), swap the last two, reshape. */
static void rows_are_permuted_as_llama_cpp_does(void **state)
{
    (void)state;
    const int64_t n_head = 3, half = 4, n = n_head * 2 * half;
    for (int64_t h = 0; h < n_head; h++) {
        for (int64_t s = 0; s < 2; s++) {
            for (int64_t j = 0; j < half; j++) {
                int64_t from = (h * 2 + s) * half + j;
                int64_t to = (h * half + j) * 2 + s;
                assert_int_equal(hs_model_lora_row(from, n, (uint32_t)n_head), to);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_become_tensors),
        cmocka_unit_test(other_modules_have_no_tensor),
        cmocka_unit_test(targets_of_all_families_go_both_ways),
        cmocka_unit_test(rows_are_permuted_as_llama_cpp_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
