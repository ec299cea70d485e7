/* Defaults of every parameter structure. */
#include "engine_test.h"

static void defaults_are_what_the_header_says(void **state)
{
    (void)state;
    struct hs_generate_params generate;
    hs_generate_params_defaults(&generate);
    assert_true(generate.cache_prompt && generate.split_reasoning && generate.enable_thinking);
    assert_true(generate.max_tokens <= 0);
    assert_true(generate.sampling.temp > 0.79f && generate.sampling.temp < 0.81f);
    assert_int_equal(generate.sampling.top_k, 40);
    assert_int_equal(generate.sampling.seed, HS_SEED_RANDOM);
    struct hs_engine_params engine;
    hs_engine_params_defaults(&engine);
    assert_int_equal(engine.max_queue, 256);
    assert_int_equal(engine.prefill_chunk, 512);
    assert_int_equal(engine.prefill_ms, 200);
    struct hs_model_params model;
    hs_model_params_defaults(&model);
    assert_int_equal(model.n_gpu_layers, -1);
    assert_true(model.use_mmap);
    struct hs_session_params session;
    hs_session_params_defaults(&session);
    assert_null(session.name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_what_the_header_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
