/* Defaults that fit the machine, and refusals that say what does. */
#include "engine_test.h"

#include "base/machine.h"
#include "model_fit.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct hs_fit fit;
static struct hs_error err;

static hs_status try_fit(const struct fake_config *config, const struct hs_model_params *changes,
                         uint64_t n_ctx_train)
{
    fake_runtime_reset(config);
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    if (changes != NULL) {
        params.n_ctx = changes->n_ctx;
        params.n_batch = changes->n_batch;
        params.n_ubatch = changes->n_ubatch;
        params.n_seq_max = changes->n_seq_max;
        params.n_threads = changes->n_threads;
        params.n_threads_batch = changes->n_threads_batch;
        params.reserve_bytes = changes->reserve_bytes;
        params.limit_bytes = changes->limit_bytes;
    }
    memset(&fit, 0, sizeof(fit));
    return hs_model_fit(fake_runtime(), "x", &params, n_ctx_train, &fit, &err);
}

static void defaults_are_the_models_and_the_machines(void **state)
{
    (void)state;
    assert_int_equal(try_fit(NULL, NULL, 8192), HS_OK);
    assert_int_equal(fit.context.n_ctx, 8192);
    assert_int_equal(fit.context.n_batch, 2048);
    assert_int_equal(fit.context.n_ubatch, 512);
    assert_int_equal(fit.context.n_seq_max, 64);
    assert_int_equal(fit.context.n_threads, hs_machine_physical_cores());
    assert_int_equal(fit.context.n_threads_batch, fit.context.n_threads);
    assert_int_equal(fit.n_gpu_layers, 0);
    assert_int_equal(try_fit(NULL, NULL, 0), HS_OK);
    assert_int_equal(fit.context.n_ctx, 4096);
}

static void what_is_asked_for_is_taken(void **state)
{
    (void)state;
    struct hs_model_params params = {.n_ctx = 1000,
                                     .n_batch = 100,
                                     .n_ubatch = 50,
                                     .n_seq_max = 7,
                                     .n_threads = 3,
                                     .n_threads_batch = 5};
    assert_int_equal(try_fit(NULL, &params, 8192), HS_OK);
    assert_int_equal(fit.context.n_ctx, 1000);
    assert_int_equal(fit.context.n_batch, 100);
    assert_int_equal(fit.context.n_ubatch, 50);
    assert_int_equal(fit.context.n_seq_max, 7);
    assert_int_equal(fit.context.n_threads, 3);
    assert_int_equal(fit.context.n_threads_batch, 5);
}

static void what_is_reserved_is_not_available(void **state)
{
    (void)state;
    assert_int_equal(try_fit(NULL, NULL, 8192), HS_OK);
    uint64_t available = fit.memory.host_available_bytes;
    uint64_t margin = hs_model_fit_margin(64 * MIB); /* the least there is */
    /* so much that the context still fits, and one byte more */
    struct hs_model_params params = {.n_ctx = 8192};
    params.reserve_bytes = available - fit.memory.host_bytes - margin;
    assert_int_equal(try_fit(NULL, &params, 8192), HS_OK);
    assert_int_equal(fit.memory.host_available_bytes, available - params.reserve_bytes);
    params.reserve_bytes++;
    assert_int_equal(try_fit(NULL, &params, 8192), HS_MODEL_TOO_LARGE);
    params.reserve_bytes = UINT64_MAX;
    assert_int_equal(try_fit(NULL, &params, 8192), HS_MODEL_TOO_LARGE);
}

static void a_limit_holds_whatever_the_machine_has(void **state)
{
    (void)state;
    struct fake_config config = {
        .weights_bytes = GIB, .kv_bytes_per_token = 32768, .compute_bytes = 50 * MIB};
    uint64_t rest = GIB + 50 * MIB;
    struct hs_model_params params = {.limit_bytes = rest + 32768ull * 8192};
    assert_int_equal(try_fit(&config, &params, 8192), HS_OK);
    assert_int_equal(fit.context.n_ctx, 8192);
    params.limit_bytes--;
    assert_int_equal(try_fit(&config, &params, 8192), HS_OK);
    assert_int_equal(fit.context.n_ctx, 8192 - 256);
    params.n_ctx = 8192;
    assert_int_equal(try_fit(&config, &params, 8192), HS_MODEL_TOO_LARGE);
    assert_non_null(strstr(err.message, "0.00 too little"));
    assert_non_null(strstr(err.hint, "--ctx-size 7936"));
    params = (struct hs_model_params){.limit_bytes = rest};
    assert_int_equal(try_fit(&config, &params, 8192), HS_MODEL_TOO_LARGE);
}

static void every_sequence_gets_its_token_in_a_batch(void **state)
{
    (void)state;
    struct hs_model_params params = {.n_batch = 8, .n_seq_max = 40};
    assert_int_equal(try_fit(NULL, &params, 8192), HS_OK);
    assert_int_equal(fit.context.n_batch, 40);
    params = (struct hs_model_params){.n_ctx = 256};
    assert_int_equal(try_fit(NULL, &params, 8192), HS_OK);
    assert_int_equal(fit.context.n_batch, 256);
    assert_int_equal(fit.context.n_ubatch, 256);
}

static bool memory_fits(const struct fake_config *config, int32_t n_ctx)
{
    uint64_t need = config->weights_bytes + config->compute_bytes +
                    config->kv_bytes_per_token * (uint64_t)n_ctx;
    return need + hs_model_fit_margin(config->available_bytes) <= config->available_bytes;
}

static void the_context_shrinks_to_what_fits(void **state)
{
    (void)state;
    for (uint64_t available = 1200 * MIB; available < 6 * GIB; available += 137 * MIB) {
        struct fake_config config = {.weights_bytes = GIB,
                                     .kv_bytes_per_token = 32768,
                                     .compute_bytes = 50 * MIB,
                                     .available_bytes = available};
        assert_int_equal(try_fit(&config, NULL, 131072), HS_OK);
        int32_t n_ctx = fit.context.n_ctx;
        assert_true(memory_fits(&config, n_ctx));
        /* Nothing is given away: one step more would not fit. */
        assert_true(n_ctx == 131072 || !memory_fits(&config, n_ctx + 256));
        assert_true(n_ctx >= 512);
    }
}

/* Free device memory is no help to KV in host memory, nor the other way round. */
static void room_counts_only_where_the_kv_lives(void **state)
{
    (void)state;
    for (uint64_t available = 1200 * MIB; available < 6 * GIB; available += 137 * MIB) {
        struct fake_config config = {.weights_bytes = GIB,
                                     .kv_bytes_per_token = 32768,
                                     .compute_bytes = 50 * MIB,
                                     .available_bytes = available,
                                     .device_free_bytes = 24 * GIB};
        assert_int_equal(try_fit(&config, NULL, 131072), HS_OK);
        int32_t n_ctx = fit.context.n_ctx;
        assert_true(memory_fits(&config, n_ctx));
        assert_true(n_ctx == 131072 || !memory_fits(&config, n_ctx + 256));
        struct hs_model_params params = {.n_ctx = 131072};
        if (n_ctx < 131072) {
            int32_t offered = 0;
            assert_int_equal(try_fit(&config, &params, 131072), HS_MODEL_TOO_LARGE);
            assert_int_equal(sscanf(err.hint, "use --ctx-size %d", &offered), 1);
            assert_int_equal(offered, n_ctx);
        }
    }
    for (uint64_t device = 20 * MIB; device < 5 * GIB; device += 97 * MIB) {
        struct fake_config config = {.weights_bytes = GIB,
                                     .kv_bytes_per_token = 32768,
                                     .available_bytes = 64 * GIB,
                                     .device_free_bytes = device,
                                     .has_kv_on_device = true};
        uint64_t n_fitting = device / 32768 / 256 * 256;
        assert_int_equal(try_fit(&config, NULL, 131072), HS_OK);
        assert_int_equal(fit.context.n_ctx, n_fitting < 131072 ? n_fitting : 131072);
    }
}

static void an_asked_for_context_that_does_not_fit_is_refused_with_one_that_does(void **state)
{
    (void)state;
    struct fake_config config = {.weights_bytes = GIB,
                                 .kv_bytes_per_token = 65536,
                                 .compute_bytes = 0,
                                 .available_bytes = 2 * GIB};
    struct hs_model_params params = {.n_ctx = 100000};
    assert_int_equal(try_fit(&config, &params, 131072), HS_MODEL_TOO_LARGE);
    assert_non_null(strstr(err.message, "100000 tokens"));
    assert_non_null(strstr(err.message, "weights 1.00"));
    assert_non_null(strstr(err.message, "2.00 GiB are available"));
    int32_t offered = 0;
    assert_int_equal(sscanf(err.hint, "use --ctx-size %d", &offered), 1);
    params.n_ctx = offered;
    assert_int_equal(try_fit(&config, &params, 131072), HS_OK);
    params.n_ctx = offered + 512;
    assert_int_equal(try_fit(&config, &params, 131072), HS_MODEL_TOO_LARGE);
}

static void weights_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct fake_config config = {
        .weights_bytes = 3 * GIB, .kv_bytes_per_token = 65536, .available_bytes = 2 * GIB};
    assert_int_equal(try_fit(&config, NULL, 8192), HS_MODEL_TOO_LARGE);
    assert_non_null(strstr(err.message, "weights 3.00"));
    assert_non_null(strstr(err.hint, "smaller"));
    struct hs_model_params params = {.n_ctx = 512};
    assert_int_equal(try_fit(&config, &params, 8192), HS_MODEL_TOO_LARGE);
    assert_non_null(strstr(err.hint, "smaller"));
}

static void states_of_recurrent_models_cost_sequences(void **state)
{
    (void)state;
    struct fake_config config = {
        .weights_bytes = GIB, .seq_bytes = 100 * MIB, .available_bytes = 3 * GIB};
    assert_int_equal(try_fit(&config, NULL, 8192), HS_OK);
    assert_int_equal(fit.context.n_seq_max, 8);
    struct hs_model_params params = {.n_seq_max = 64};
    assert_int_equal(try_fit(&config, &params, 8192), HS_MODEL_TOO_LARGE);
}

static void ranges_are_checked_and_named(void **state)
{
    (void)state;
    struct hs_model_params good;
    hs_model_params_defaults(&good);
    assert_int_equal(hs_model_params_check(&good, &err), HS_OK);
    struct hs_model_params params = good;
    params.n_seq_max = 256;
    assert_int_equal(hs_model_params_check(&params, &err), HS_OK);
    params.n_seq_max = 257;
    assert_int_equal(hs_model_params_check(&params, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "n_seq_max is 257"));
    params = good;
    params.n_ctx = -1;
    assert_int_equal(hs_model_params_check(&params, &err), HS_INVALID_ARGUMENT);
    params = good;
    params.n_gpu_layers = -2;
    assert_int_equal(hs_model_params_check(&params, &err), HS_INVALID_ARGUMENT);
    params = good;
    params.kv_type = (enum hs_kv_type)2;
    assert_int_equal(hs_model_params_check(&params, &err), HS_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_models_and_the_machines),
        cmocka_unit_test(what_is_asked_for_is_taken),
        cmocka_unit_test(what_is_reserved_is_not_available),
        cmocka_unit_test(a_limit_holds_whatever_the_machine_has),
        cmocka_unit_test(every_sequence_gets_its_token_in_a_batch),
        cmocka_unit_test(the_context_shrinks_to_what_fits),
        cmocka_unit_test(room_counts_only_where_the_kv_lives),
        cmocka_unit_test(an_asked_for_context_that_does_not_fit_is_refused_with_one_that_does),
        cmocka_unit_test(weights_that_do_not_fit_are_refused),
        cmocka_unit_test(states_of_recurrent_models_cost_sequences),
        cmocka_unit_test(ranges_are_checked_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
