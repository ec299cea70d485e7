/* Settings become the engine's parameters, each where it belongs. */
#include "api_test.h"

#include "params.h"

static void every_sampling_setting_arrives(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_TEMP, "0.5");
    api_flag(test, HS_CFG_TOP_K, "7");
    api_flag(test, HS_CFG_TOP_P, "0.25");
    api_flag(test, HS_CFG_MIN_P, "0.125");
    api_flag(test, HS_CFG_REPEAT_PENALTY, "1.5");
    api_flag(test, HS_CFG_REPEAT_LAST_N, "11");
    api_flag(test, HS_CFG_SEED, "4294967294");
    api_flag(test, HS_CFG_MAX_TOKENS, "13");
    api_flag(test, HS_CFG_STOP, "END");
    api_flag(test, HS_CFG_STOP, "a,b");
    api_flag(test, HS_CFG_THINK, "false");
    api_flag(test, HS_CFG_OVERFLOW, "shift");
    struct hs_generate_params params;
    hs_generate_params_fill(&test->config, NULL, &params);
    assert_true(params.sampling.temp == 0.5f);
    assert_int_equal(params.sampling.top_k, 7);
    assert_true(params.sampling.top_p == 0.25f);
    assert_true(params.sampling.min_p == 0.125f);
    assert_true(params.sampling.repeat_penalty == 1.5f);
    assert_int_equal(params.sampling.repeat_last_n, 11);
    assert_int_equal(params.sampling.seed, 4294967294u);
    assert_int_equal(params.max_tokens, 13);
    assert_int_equal(params.n_stop, 2);
    assert_string_equal(params.stop[0], "END");
    assert_string_equal(params.stop[1], "a,b"); /* a flag is one text, commas and all */
    assert_false(params.enable_thinking);
    assert_int_equal(params.overflow, HS_OVERFLOW_SHIFT);
    assert_true(params.split_reasoning && params.cache_prompt);
}

static void defaults_are_those_of_the_table(void **state)
{
    struct api_test *test = *state;
    struct hs_generate_params params;
    hs_generate_params_fill(&test->config, NULL, &params);
    assert_true(params.sampling.temp == 0.8f);
    assert_int_equal(params.sampling.seed, HS_SEED_RANDOM); /* -1 in the table */
    assert_true(params.max_tokens <= 0);
    assert_int_equal(params.n_stop, 0);
    assert_int_equal(params.overflow, HS_OVERFLOW_STOP);
}

static void a_session_keeps_its_sampling(void **state)
{
    struct api_test *test = *state;
    struct hs_generate_params saved = {
        .max_tokens = 5,
        .sampling = {.temp = 0.125f, .top_k = 3, .seed = 9, .xtc_probability = 0.5f}};
    api_flag(test, HS_CFG_TOP_K, "40"); /* given, though it is the default */
    struct hs_generate_params params;
    hs_generate_params_fill(&test->config, &saved, &params);
    assert_true(params.sampling.temp == 0.125f);
    assert_int_equal(params.sampling.top_k, 40);
    assert_int_equal(params.sampling.seed, 9);
    assert_true(params.sampling.xtc_probability == 0.5f);
    assert_true(params.max_tokens <= 0); /* a length belongs to the call it was given for */
}

static void every_loading_setting_arrives(void **state)
{
    struct api_test *test = *state;
    static const struct {
        enum hs_config_id id;
        const char *value;
    } flags[] = {
        {HS_CFG_CTX_SIZE, "1024"},       {HS_CFG_BATCH_SIZE, "33"},
        {HS_CFG_UBATCH_SIZE, "34"},      {HS_CFG_THREADS, "3"},
        {HS_CFG_THREADS_BATCH, "5"},     {HS_CFG_GPU_LAYERS, "6"},
        {HS_CFG_MMAP, "false"},          {HS_CFG_MLOCK, "true"},
        {HS_CFG_FLASH_ATTN, "on"},       {HS_CFG_KV_TYPE, "q8_0"},
        {HS_CFG_DEVICES, "CUDA0"},       {HS_CFG_DEVICES, "CUDA1"},
        {HS_CFG_RPC, "host:50052"},      {HS_CFG_MAX_SEQUENCES, "8"},
        {HS_CFG_LORA_ENGINE, "stacked"}, {HS_CFG_ADAPTER_WEIGHTS, "int8"},
    };
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        api_flag(test, flags[i].id, flags[i].value);
    }
    struct hs_load_settings settings;
    assert_int_equal(hs_load_settings_fill(&test->config, &settings, &test->err), HS_OK);
    const struct hs_model_params *model = &settings.model;
    assert_int_equal(model->n_ctx, 1024);
    assert_int_equal(model->n_batch, 33);
    assert_int_equal(model->n_ubatch, 34);
    assert_int_equal(model->n_threads, 3);
    assert_int_equal(model->n_threads_batch, 5);
    assert_int_equal(model->n_gpu_layers, 6);
    assert_false(model->use_mmap);
    assert_true(model->use_mlock);
    assert_int_equal(model->flash_attn, HS_FLASH_ATTN_ON);
    assert_int_equal(model->kv_type, HS_KV_Q8_0);
    assert_string_equal(model->devices, "CUDA0,CUDA1");
    assert_string_equal(model->rpc_servers, "host:50052");
    assert_int_equal(model->n_seq_max, 8);
    assert_int_equal(model->lora_engine, HS_LORA_ENGINE_STACKED);
    assert_int_equal(model->adapter_weights, HS_ADAPTER_WEIGHTS_INT8);
    assert_null(model->chat_template);
    hs_load_settings_free(&settings);
}

static void chat_template_file(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "template.jinja");
    api_flag(test, HS_CFG_CHAT_TEMPLATE_FILE, path);
    struct hs_load_settings settings = {0};
    assert_int_equal(hs_load_settings_fill(&test->config, &settings, &test->err), HS_NOT_FOUND);
    assert_contains(test->err.message, "--chat-template-file");
    api_write_file(path, "{{ messages }}", 14);
    assert_int_equal(hs_load_settings_fill(&test->config, &settings, &test->err), HS_OK);
    assert_string_equal(settings.model.chat_template, "{{ messages }}");
    hs_load_settings_free(&settings);
    api_write_file(path, "a\0b", 3);
    assert_int_equal(hs_load_settings_fill(&test->config, &settings, &test->err), HS_BAD_FORMAT);
    char *big = calloc(1, (1u << 20) + 1);
    memset(big, 'x', (1u << 20) + 1);
    api_write_file(path, big, 1u << 20);
    assert_int_equal(hs_load_settings_fill(&test->config, &settings, &test->err), HS_OK);
    hs_load_settings_free(&settings);
    api_write_file(path, big, (1u << 20) + 1);
    assert_int_equal(hs_load_settings_fill(&test->config, &settings, &test->err), HS_LIMIT);
    free(big);
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "template.jinja");
    api_write_file(path, "{{ messages }}", 14);
    api_flag(test, HS_CFG_CHAT_TEMPLATE_FILE, path);
    api_flag(test, HS_CFG_DEVICES, "CPU");
    api_flag(test, HS_CFG_RPC, "a:1");
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 100);
        struct hs_load_settings settings = {0};
        hs_mem_fail_after(nth);
        status = hs_load_settings_fill(&test->config, &settings, &test->err);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_load_settings_free(&settings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_sampling_setting_arrives, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(defaults_are_those_of_the_table, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_session_keeps_its_sampling, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(every_loading_setting_arrives, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(chat_template_file, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
