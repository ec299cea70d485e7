/* Weights of a loaded model, changed and put back. What a model then answers is tested with the
 * whole engine (tests/inference/test_fusion_running.c). */
#include "runtime_test.h"

#include <stdio.h>
#include <unistd.h>

#include "ggml.h"
#include "tiny_random.h"

static char *path;

static int set_up(void **state)
{
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_GEMMA3, .seed = 3, .is_tied = true};
    if (start_runtime(state) != 0) {
        return -1;
    }
    path = temp_path(".gguf");
    return tiny_random_write(&spec, path) ? 0 : -1;
}

static int tear_down(void **state)
{
    unlink(path);
    free(path);
    return stop_runtime(state);
}

static hs_rt_model *load_as(bool use_mmap)
{
    struct hs_model_params params = model_params();
    struct hs_error err = {0};
    hs_rt_model *model = NULL;
    params.use_mmap = use_mmap;
    OK(rt->model_load(path, &params, &model, &err));
    return model;
}

/* Zeros in the embeddings, which are the output matrix, too: all logits are 0. */
static void test_tied_embeddings(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_model *model = load_as(false);
    struct hs_rt_model_info info;
    static const int32_t tokens[] = {1, 300, 301};
    rt->model_info(model, &info);
    hs_rt_context *context = new_context(model, 64, 1);
    const float *logits = rt->logits(context, feed(context, 0, 0, tokens, 3));
    assert_true(logits[7] != 0);
    size_t size = (size_t)info.n_vocab * TINY_RANDOM_N_EMBD * sizeof(float);
    float *zeros = calloc(1, size);
    OK(rt->weights_set(model, "token_embd.weight", GGML_TYPE_F32, zeros, size, &err));
    free(zeros);
    rt->kv_clear(context);
    logits = rt->logits(context, feed(context, 0, 0, tokens, 3));
    for (int32_t i = 0; i < info.n_vocab; i++) {
        assert_true(logits[i] == 0);
    }
    rt->context_free(context);
    rt->model_free(model);
}

static void test_refused(void **state)
{
    (void)state;
    struct hs_error err = {0};
    static const float data[TINY_RANDOM_N_EMBD * TINY_RANDOM_N_FF];
    hs_rt_model *model = load_as(false);
    EXPECT(HS_NOT_FOUND,
           rt->weights_set(model, "blk.9.ffn_up.weight", GGML_TYPE_F32, data, sizeof data, &err));
    EXPECT(HS_MISMATCH,
           rt->weights_set(model, "blk.0.ffn_up.weight", GGML_TYPE_F32, data, 4, &err));
    EXPECT(HS_MISMATCH,
           rt->weights_set(model, "blk.0.ffn_up.weight", GGML_TYPE_F16, data, sizeof data, &err));
    OK(rt->weights_set(model, "blk.0.ffn_up.weight", GGML_TYPE_F32, data, sizeof data, &err));
    rt->model_free(model);
    model = load_as(true);
    EXPECT(HS_NOT_SUPPORTED,
           rt->weights_set(model, "blk.0.ffn_up.weight", GGML_TYPE_F32, data, sizeof data, &err));
    assert_non_null(strstr(err.message, "mapped file"));
    rt->model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tied_embeddings),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
