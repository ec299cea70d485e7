/*
 * Threads that ask at random, over every kind of memory the fake runtime has: prompts with common
 * beginnings, cancelled, late and slowly read ones, on a context that is too small for all. Every
 * answer must be the formula's, or its beginning where it was cut short.
 */
#include "engine_test.h"

#include <pthread.h>

#include "base/log.h"

#define N_THREADS 5
#define N_REQUESTS 60

struct asker {
    hs_engine *engine;
    uint32_t seed;
    size_t n_ctx;
    int n_wrong; /* cmocka's asserts are for the main thread */
    int n_whole;
};

static uint32_t draw(struct asker *asker, uint32_t n)
{
    asker->seed = asker->seed * 1664525u + 1013904223u;
    return (asker->seed >> 10) % n;
}

static void make_prompt(struct asker *asker, char *prompt, size_t size)
{
    static const char *const stems[] = {"", "the common beginning of many prompts: ",
                                        "the common beginning of some: ", "another one "};
    char tail[64];
    test_text(tail, 1 + draw(asker, 40), draw(asker, 12));
    snprintf(prompt, size, "%s%s<|gen|>", stems[draw(asker, 4)], tail);
}

/* Read to the end; true: the text is what it must be. */
static bool read_answer(struct asker *asker, hs_stream *stream, const char *expected,
                        size_t cancel_after)
{
    char got[4096] = "";
    size_t len = 0;
    bool is_slow = draw(asker, 6) == 0;
    struct hs_event event;
    struct hs_error err;
    for (;;) {
        if (hs_stream_next(stream, 60000, &event, &err) != HS_OK) {
            return false;
        }
        if (event.type == HS_EVENT_DONE) {
            break;
        }
        memcpy(got + len, event.text, event.text_len + 1);
        len += event.text_len;
        if (len > cancel_after) {
            hs_stream_cancel(stream);
        }
        if (is_slow && draw(asker, 8) == 0) {
            test_sleep_ms(1);
        }
    }
    if (event.finish == HS_FINISH_ERROR && event.error.status != HS_TIMEOUT) {
        return false;
    }
    bool is_whole = event.finish == HS_FINISH_STOP || event.finish == HS_FINISH_LENGTH;
    asker->n_whole += is_whole;
    return is_whole ? strcmp(got, expected) == 0 : strncmp(got, expected, len) == 0;
}

static void *ask_at_random(void *arg)
{
    struct asker *asker = arg;
    for (int i = 0; i < N_REQUESTS; i++) {
        char prompt[256];
        char expected[4096];
        int32_t tokens[512];
        make_prompt(asker, prompt, sizeof(prompt));
        size_t n = fake_tokenize(prompt, tokens);
        int32_t max_tokens = 1 + (int32_t)draw(asker, 120);
        fake_answer(tokens, n, (size_t)max_tokens, asker->n_ctx, expected);
        struct hs_generate_params params = test_params(max_tokens);
        params.stream_capacity = 8 + (int32_t)draw(asker, 40);
        params.cache_prompt = draw(asker, 8) != 0;
        params.deadline_ms = draw(asker, 10) == 0 ? 1 + draw(asker, 20) : 0;
        hs_stream *stream = NULL;
        struct hs_error err;
        hs_status status =
            hs_engine_complete(asker->engine, "m", NULL, 0, tokens, n, &params, &stream, &err);
        if (status != HS_OK) {
            asker->n_wrong += status != HS_QUEUE_FULL;
            continue;
        }
        size_t cancel_after = draw(asker, 5) == 0 ? draw(asker, 60) : SIZE_MAX;
        if (draw(asker, 20) == 0) {
            hs_stream_free(stream);
            continue;
        }
        asker->n_wrong += !read_answer(asker, stream, expected, cancel_after);
        hs_stream_free(stream);
    }
    return NULL;
}

static void check(const struct fake_config *config, uint64_t budget, int32_t n_seq_max)
{
    fake_runtime_reset(config);
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.park_budget_bytes = budget;
    params.prefill_chunk = 24;
    hs_engine *engine = test_engine(&params, 200, n_seq_max);
    struct asker askers[N_THREADS];
    pthread_t threads[N_THREADS];
    for (uint32_t i = 0; i < N_THREADS; i++) {
        askers[i] = (struct asker){.engine = engine, .seed = i + 1, .n_ctx = 200};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_at_random, &askers[i]), 0);
    }
    int n_whole = 0;
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(askers[i].n_wrong, 0);
        n_whole += askers[i].n_whole;
    }
    assert_true(n_whole > N_THREADS * N_REQUESTS / 3);
    test_wait_for(engine, 0, 0);
    assert_true(test_stats(engine).parked_bytes <= budget);
    hs_engine_free(engine);
    test_check_clean();
}

static void plain_attention(void **state)
{
    (void)state;
    struct fake_config config = {.answer_len = 100};
    check(&config, 1 << 20, 4);
    check(&config, 1500, 4);
    check(&config, 0, 2);
    check(&config, 1 << 20, 1);
}

static void a_sliding_window(void **state)
{
    (void)state;
    struct fake_config config = {.answer_len = 100, .n_swa = 12};
    check(&config, 1 << 20, 4);
    check(&config, 1500, 3);
    check(&config, 0, 2);
}

static void a_recurrent_state(void **state)
{
    (void)state;
    struct fake_config config = {.answer_len = 100, .is_recurrent = true};
    check(&config, 1 << 20, 4);
    check(&config, 1500, 3);
    check(&config, 0, 2);
}

static void a_memory_that_refuses_cuts(void **state)
{
    (void)state;
    struct fake_config config = {.answer_len = 100, .refuses_cuts = true};
    check(&config, 1 << 20, 4);
    check(&config, 0, 2);
}

static void fewer_cells_than_promised(void **state)
{
    (void)state;
    struct fake_config config = {.answer_len = 60, .hidden_cells = 190};
    check(&config, 1 << 20, 4);
}

int main(void)
{
    hs_log_set_level(HS_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_attention),           cmocka_unit_test(a_sliding_window),
        cmocka_unit_test(a_recurrent_state),         cmocka_unit_test(a_memory_that_refuses_cuts),
        cmocka_unit_test(fewer_cells_than_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
