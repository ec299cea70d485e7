/* From a path to a loaded model, and what is refused on the way. */
#include "engine_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "model_loader.h"
#include "tiny_gguf.h"

static struct hs_error err;

static hs_engine *bare_engine(void)
{
    hs_engine *engine = NULL;
    assert_int_equal(hs_engine_create_with_runtime(NULL, fake_runtime(), &engine, &err), HS_OK);
    return engine;
}

static hs_status load(hs_engine *engine, const char *path, const char *id,
                      const struct hs_model_params *params)
{
    char got[HS_ID_MAX];
    return hs_engine_load_model(engine, path, id, params, got, &err);
}

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    fclose(file);
}

static bool no_progress(float fraction, void *user)
{
    (void)fraction;
    (void)user;
    return false;
}

/* Each kind of wrong file has its own status, and leaves the engine as it was. */
static void wrong_files_are_told_apart(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = bare_engine();
    char *dir = test_dir_make();
    char path[512];
    snprintf(path, sizeof(path), "%s/no-such-file.gguf", dir);
    assert_int_equal(load(engine, path, "m", NULL), HS_NOT_FOUND);
    assert_int_equal(load(engine, dir, "m", NULL), HS_IS_DIRECTORY);
    snprintf(path, sizeof(path), "%s/wrong.gguf", dir);
    write_file(path, "this is text, not a model at all", 32);
    assert_int_equal(load(engine, path, "m", NULL), HS_BAD_MAGIC);
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_build(&spec, &bytes, &header_len));
    write_file(path, bytes.data, header_len / 2);
    assert_int_equal(load(engine, path, "m", NULL), HS_TRUNCATED);
    bytes.data[4] = 1;
    write_file(path, bytes.data, bytes.len);
    assert_int_equal(load(engine, path, "m", NULL), HS_UNSUPPORTED_VERSION);
    gguf_bytes_free(&bytes);
    if (geteuid() != 0) {
        assert_int_equal(chmod(path, 0), 0);
        assert_int_equal(load(engine, path, "m", NULL), HS_PERMISSION_DENIED);
    }
    assert_true(err.message[0] != '\0' && err.hint[0] != '\0');
    assert_int_equal(test_counters().n_models, 0);
    assert_int_equal(load(engine, test_model_path(), "m", NULL), HS_OK);
    hs_engine_free(engine);
    test_dir_remove(dir);
    test_check_clean();
}

static void failed_loads_leave_nothing(void **state)
{
    (void)state;
    hs_engine *engine = bare_engine();
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.progress = no_progress;
    fake_runtime_reset(NULL);
    assert_int_equal(load(engine, test_model_path(), "m", &params), HS_CANCELLED);
    hs_model_params_defaults(&params);
    params.n_seq_max = 1000;
    assert_int_equal(load(engine, test_model_path(), "m", &params), HS_INVALID_ARGUMENT);
    fake_runtime_reset(&(struct fake_config){.fails_context_new = true});
    assert_int_equal(load(engine, test_model_path(), "m", NULL), HS_MODEL_TOO_LARGE);
    fake_runtime_reset(&(struct fake_config){.is_encoder = true});
    assert_int_equal(load(engine, test_model_path(), "m", NULL), HS_UNSUPPORTED_MODEL);
    fake_runtime_reset(&(struct fake_config){.weights_bytes = (uint64_t)1 << 40,
                                             .available_bytes = (uint64_t)1 << 30});
    assert_int_equal(load(engine, test_model_path(), "m", NULL), HS_MODEL_TOO_LARGE);
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(engine, "m", &info, &err), HS_NOT_FOUND);
    hs_engine_free(engine);
    test_check_clean();
}

static void every_allocation_of_a_load_may_fail(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    test_model_path();
    hs_status status = HS_OUT_OF_MEMORY;
    int n_failed = 0;
    for (uint64_t i = 1; status != HS_OK; i++) {
        hs_engine *engine = NULL;
        hs_mem_fail_after(i);
        status = hs_engine_create_with_runtime(NULL, fake_runtime(), &engine, &err);
        if (status == HS_OK) {
            status = load(engine, test_model_path(), "m", NULL);
        }
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        n_failed += status != HS_OK;
        hs_engine_free(engine);
        test_check_clean();
    }
    assert_true(n_failed > 10);
}

static void what_is_known_of_a_model(void **state)
{
    (void)state;
    fake_runtime_reset(
        &(struct fake_config){.weights_bytes = 1000, .kv_bytes_per_token = 2, .compute_bytes = 7});
    hs_engine *engine = test_engine(NULL, 512, 5);
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(engine, "m", &info, &err), HS_OK);
    assert_string_equal(info.id, "m");
    assert_string_equal(info.path, test_model_path());
    assert_string_equal(info.architecture, "fake");
    assert_int_equal(info.n_ctx, 512);
    assert_int_equal(info.n_ctx_train, 4096);
    assert_int_equal(info.n_seq_max, 5);
    assert_int_equal(info.n_vocab, FAKE_N_VOCAB);
    assert_int_equal(info.memory.weights_bytes, 1000);
    assert_int_equal(info.memory.kv_bytes, 1024);
    assert_int_equal(info.memory.compute_bytes, 7);
    assert_int_equal(strlen(info.fingerprint), 64);
    assert_true(info.has_chat_template);
    hs_engine_free(engine);
    test_check_clean();
}

/* The context of a model of 1 GiB with 1 MiB of KV for each token. */
static int32_t fitted_ctx(uint64_t available_mib, int32_t n_ctx, uint64_t budget_mib)
{
    const uint64_t mib = 1 << 20;
    fake_runtime_reset(&(struct fake_config){.weights_bytes = 1024 * mib,
                                             .kv_bytes_per_token = mib,
                                             .available_bytes = available_mib * mib});
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.adapter_budget_bytes = budget_mib * mib;
    struct hs_model_params model;
    hs_model_params_defaults(&model);
    model.n_ctx = n_ctx;
    hs_engine *engine = test_engine_model(&params, &model);
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(engine, "m", &info, &err), HS_OK);
    hs_engine_free(engine);
    return info.n_ctx;
}

static void a_default_context_leaves_room_for_adapters(void **state)
{
    (void)state;
    /* 4096 - 1024 (weights) - 4096 / 16 (left alone), and what adapters may take */
    assert_int_equal(fitted_ctx(4096, 0, 0), 2816);
    assert_int_equal(fitted_ctx(4096, 0, 1024), (4096 - 1024 - 1024 - 192) / 256 * 256);
    /* Who asks for a size gets it. */
    assert_int_equal(fitted_ctx(4096, 2816, 1024), 2816);
    /* A model is not refused for adapters that may never come. */
    assert_int_equal(fitted_ctx(2048, 0, 1024), 768);
    test_check_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_files_are_told_apart),
        cmocka_unit_test(failed_loads_leave_nothing),
        cmocka_unit_test(every_allocation_of_a_load_may_fail),
        cmocka_unit_test(what_is_known_of_a_model),
        cmocka_unit_test(a_default_context_leaves_room_for_adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
