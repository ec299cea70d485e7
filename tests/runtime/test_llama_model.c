/* Loading: what a model says of itself, and every way in which a load fails. */
#include "runtime_test.h"

#include <stdio.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "llama.h"

static struct tiny_gguf_spec spec;
static char *path;

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&spec);
    path = temp_path(".gguf");
    return tiny_gguf_write(&spec, path) ? 0 : -1;
}

static int tear_down(void **state)
{
    unlink(path);
    free(path);
    return stop_runtime(state);
}

static void test_info(void **state)
{
    (void)state;
    hs_rt_model *model = load(path);
    struct hs_rt_model_info info;
    rt->model_info(model, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.backend, "CPU");
    assert_int_equal(info.n_vocab, TINY_GGUF_N_VOCAB);
    assert_int_equal(info.n_ctx_train, spec.n_ctx_train);
    assert_int_equal(info.n_layer, 1);
    assert_int_equal(info.bos, TINY_GGUF_BOS);
    assert_true(info.add_bos);
    assert_false(info.add_eos);
    assert_false(info.is_recurrent);
    assert_true(info.has_decoder);
    assert_false(info.has_encoder);
    assert_false(info.has_chat_template);
    assert_int_equal(info.n_swa, 0);
    assert_int_equal(info.n_gpu_layers, 0);
    assert_true(info.weights_bytes > 0);
    assert_true(info.n_params > 0);
    rt->model_free(model);
    rt->model_free(NULL);
    assert_string_equal(rt->name, "llama.cpp");
}

static void expect_load_error(const char *file, const struct hs_model_params *params,
                              hs_status wanted, const char *message)
{
    struct hs_error err = {0};
    hs_rt_model *model = NULL;
    EXPECT(wanted, rt->model_load(file, params, &model, &err));
    assert_null(model);
    if (!strstr(err.message, message)) {
        print_error("'%s' does not say '%s'\n", err.message, message);
        fail();
    }
}

static void test_every_way_to_load(void **state)
{
    (void)state;
    struct hs_error err = {0};
    for (int way = 0; way < 4; way++) {
        struct hs_model_params params = model_params();
        params.use_mmap = way & 1;
        params.use_mlock = way & 2;
        hs_rt_model *model = NULL;
        OK(rt->model_load(path, &params, &model, &err));
        rt->model_free(model);
    }
}

static bool stop_at_once(float fraction, void *user)
{
    (void)fraction;
    *(int *)user += 1;
    return false;
}

static bool go_on(float fraction, void *user)
{
    assert_true(fraction >= 0 && fraction <= 1);
    *(int *)user += 1;
    return true;
}

static void test_progress(void **state)
{
    (void)state;
    int calls = 0;
    struct hs_model_params params = model_params();
    params.progress = stop_at_once;
    params.progress_user = &calls;
    expect_load_error(path, &params, HS_CANCELLED, path);
    assert_int_equal(calls, 1);
    params.progress = go_on;
    struct hs_error err = {0};
    hs_rt_model *model = NULL;
    OK(rt->model_load(path, &params, &model, &err));
    assert_true(calls > 1);
    rt->model_free(model);
}

static void test_devices(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_model *model = NULL;
    struct hs_model_params params = model_params();
    static const char *const good[] = {"CPU", " CPU , CPU ", "cpu", "", ","};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        params.devices = good[i];
        params.n_gpu_layers = -1;
        OK(rt->model_load(path, &params, &model, &err));
        rt->model_free(model);
        model = NULL;
    }
    params.devices = "CPU,CUDA7";
    EXPECT(HS_INVALID_ARGUMENT, rt->model_load(path, &params, &model, &err));
    assert_non_null(strstr(err.message, "CUDA7"));
    assert_non_null(strstr(err.hint, "CPU"));
    char name[300];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    params.devices = name;
    expect_load_error(path, &params, HS_INVALID_ARGUMENT, "there is no device");
}

static void test_rpc(void **state)
{
    (void)state;
    struct hs_model_params params = model_params();
    params.rpc_servers = "127.0.0.1:1";
    if (llama_supports_rpc()) {
        expect_load_error(path, &params, HS_INVALID_ARGUMENT, "127.0.0.1:1");
    } else {
        expect_load_error(path, &params, HS_NOT_SUPPORTED, "127.0.0.1:1");
    }
}

/* A file of our writer that is a valid GGUF but not a model llama.cpp can run. */
static char *write_odd(const char *architecture, bool with_vocab)
{
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    gguf_writer_str(&writer, "general.architecture", architecture);
    char key[64];
    snprintf(key, sizeof(key), "%s.block_count", architecture);
    gguf_writer_u32(&writer, key, 1);
    if (with_vocab) {
        gguf_writer_str(&writer, "tokenizer.ggml.model", "klingon");
    }
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    assert_true(gguf_writer_finish(&writer, &bytes, &header_len));
    char *odd = temp_path(".gguf");
    FILE *file = fopen(odd, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    fclose(file);
    gguf_bytes_free(&bytes);
    gguf_writer_free(&writer);
    return odd;
}

static void test_unknown_architecture(void **state)
{
    (void)state;
    struct hs_model_params params = model_params();
    char *odd = write_odd("marvin", false);
    expect_load_error(odd, &params, HS_UNSUPPORTED_MODEL, "marvin");
    unlink(odd);
    free(odd);
    odd = write_odd("clip", false);
    expect_load_error(odd, &params, HS_UNSUPPORTED_MODEL, "CLIP");
    unlink(odd);
    free(odd);
}

static void test_missing_parts(void **state)
{
    (void)state;
    struct hs_model_params params = model_params();
    char *odd = write_odd("llama", false);
    expect_load_error(odd, &params, HS_BAD_FORMAT, "context_length");
    unlink(odd);
    free(odd);
    expect_load_error("/nonexistent/model.gguf", &params, HS_BAD_FORMAT, "/nonexistent");
    expect_load_error("/dev/null", &params, HS_BAD_FORMAT, "/dev/null");
    expect_load_error("/", &params, HS_BAD_FORMAT, "'/'");
}

/* The file's data section is cut: half a model must not load. */
static void test_truncated_weights(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    assert_true(tiny_gguf_build(&spec, &bytes, &header_len));
    struct hs_model_params params = model_params();
    const size_t cuts[] = {bytes.len - 1, header_len + 10, header_len, header_len / 2, 4, 0};
    char *cut = temp_path(".gguf");
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        FILE *file = fopen(cut, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes.data, 1, cuts[i], file), cuts[i]);
        fclose(file);
        expect_load_error(cut, &params, HS_BAD_FORMAT, cut);
    }
    unlink(cut);
    free(cut);
    gguf_bytes_free(&bytes);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    params.devices = "CPU";
    params.n_gpu_layers = -1;
    params.chat_template = "x";
    for (uint64_t n = 1;; n++) {
        hs_rt_model *model = NULL;
        hs_mem_fail_after(n);
        hs_status status = rt->model_load(path, &params, &model, &err);
        bool failed = hs_mem_count() >= n;
        hs_mem_fail_after(0);
        if (!failed) {
            assert_int_equal(status, HS_OK);
            assert_true(n > 4);
            rt->model_free(model);
            return;
        }
        /* What the machine has is only asked, and may stay unanswered. */
        assert_true(status == HS_OUT_OF_MEMORY || status == HS_OK);
        assert_int_equal(status == HS_OK, model != NULL);
        rt->model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_every_way_to_load),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_rpc),
        cmocka_unit_test(test_unknown_architecture),
        cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_truncated_weights),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
