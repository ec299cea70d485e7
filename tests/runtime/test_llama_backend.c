/* Starting llama.cpp: once, whoever asks, and again after an end. */
#include "runtime_test.h"

#include <pthread.h>

#include "llama_internal.h"

static void *init_in_thread(void *user)
{
    *(hs_status *)user = hs_llama_init(NULL, NULL);
    return NULL;
}

static void many_may_start_it(void **state)
{
    (void)state;
    pthread_t threads[8];
    hs_status statuses[8];
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, init_in_thread, &statuses[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(statuses[i], HS_OK);
    }
    size_t n_devices = ggml_backend_dev_count();
    assert_true(n_devices > 0);
    const char *version = NULL;
    assert_int_equal(hs_llama_init(&version, NULL), HS_OK);
    assert_true(version != NULL && version[0] != '\0');
    assert_int_equal(ggml_backend_dev_count(), n_devices); /* nothing is registered twice */
}

static void it_starts_again_after_an_end(void **state)
{
    (void)state;
    assert_int_equal(hs_llama_init(NULL, NULL), HS_OK);
    size_t n_devices = ggml_backend_dev_count();
    hs_runtime_llama_shutdown();
    hs_runtime_llama_shutdown();
    assert_int_equal(hs_llama_init(NULL, NULL), HS_OK);
    assert_int_equal(ggml_backend_dev_count(), n_devices);
    hs_runtime_llama_shutdown();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_may_start_it),
        cmocka_unit_test(it_starts_again_after_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
