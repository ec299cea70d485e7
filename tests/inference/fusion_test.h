/*
 * fusion_test.h - a tiny random model on disk, and two adapters for it in GGUF files.
 *
 * Owner:   fusion_test_free removes the folder with all of it.
 */
#ifndef FUSION_TEST_H
#define FUSION_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "adapters/adapter_write.h"
#include "base/fs.h"
#include "base/mem.h"
#include "merge_test.h"
#include "tiny_random.h"

#define FUSION_N_TARGETS 4
static const char *const fusion_tensors[FUSION_N_TARGETS] = {
    "blk.0.attn_q.weight", "blk.1.ffn_down.weight", "blk.3.attn_v.weight", "token_embd.weight"};
static const double fusion_weights[2] = {0.8, -0.5};

struct fusion_test {
    char folder[256], base[300], out[300], paths[2][300];
    struct hs_lora *loras[2];
    struct hs_merge_source sources[2];
};

/* Write both adapters anew, for the model at base_path. */
static inline void fusion_test_write(struct fusion_test *test, const char *base_path)
{
    hs_lora_base *base = NULL;
    assert_int_equal(hs_lora_base_open(base_path, &base, NULL), HS_OK);
    for (int32_t k = 0; k < 2; k++) {
        const struct hs_adapter_about about = {.base = base, .name = test->sources[k].name};
        assert_int_equal(hs_adapter_write_gguf(test->loras[k], &about, test->paths[k], NULL),
                         HS_OK);
    }
    hs_lora_base_free(base);
}

/* The first adapter has targets 0 to 2, the second 1 to 3; ranks 4 and 3. */
static inline void fusion_test_new(struct fusion_test *test)
{
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 5};
    snprintf(test->folder, sizeof test->folder, HS_TEST_TMP "/fusion-XXXXXX");
    assert_non_null(mkdtemp(test->folder));
    snprintf(test->base, sizeof test->base, "%s/base.gguf", test->folder);
    snprintf(test->out, sizeof test->out, "%s/merged.gguf", test->folder);
    assert_true(tiny_random_write(&spec, test->base));
    for (int32_t k = 0; k < 2; k++) {
        struct test_shape shapes[3];
        for (int32_t i = 0; i < 3; i++) {
            const char *tensor = fusion_tensors[k + i];
            int64_t n_out;
            int64_t n_in;
            bool is_embedding = strcmp(tensor, "token_embd.weight") == 0;
            assert_true(tiny_random_shape(tensor, &n_out, &n_in));
            shapes[i] = (struct test_shape){.tensor = tensor,
                                            .n_out = (int32_t)(is_embedding ? n_in : n_out),
                                            .n_in = (int32_t)(is_embedding ? n_out : n_in),
                                            .rank = 4 - k,
                                            .is_embedding = is_embedding};
        }
        const char *name = k == 0 ? "one" : "two";
        test->loras[k] = test_lora_new(shapes, 3, 0.1f, 40u + (uint32_t)k);
        snprintf(test->paths[k], sizeof test->paths[k], "%s/%s.gguf", test->folder, name);
        test->sources[k] = (struct hs_merge_source){test->paths[k], name, fusion_weights[k]};
    }
    fusion_test_write(test, test->base);
}

static inline void fusion_test_free(struct fusion_test *test)
{
    assert_int_equal(hs_fs_remove_all(test->folder, NULL), HS_OK);
    test_lora_free(test->loras[0]);
    test_lora_free(test->loras[1]);
}

/* The weighted sum of both deltas, f64[n] in the order of the tensor; to be freed with free. */
static inline double *fusion_sum(const struct fusion_test *test, const char *tensor, size_t n)
{
    double *sum = calloc(n, sizeof *sum);
    assert_non_null(sum);
    for (int32_t k = 0; k < 2; k++) {
        for (int32_t i = 0; i < 3; i++) {
            const struct hs_lora_target *target = &test->loras[k]->targets[i];
            double *delta = strcmp(target->tensor, tensor) == 0 ? test_delta(target, n) : NULL;
            for (size_t j = 0; delta != NULL && j < n; j++) {
                sum[j] += fusion_weights[k] * delta[j];
            }
            free(delta);
        }
    }
    return sum;
}

#endif
