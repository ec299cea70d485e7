/* What goes into a model's matrices: of BIGRAM it is known, as its layers add nothing. */
#include "runtime_test.h"

#include <math.h>

#define N_TOKENS 7

struct seen {
    int32_t tokens[N_TOKENS];
    int32_t n;
    const struct tiny_gguf_spec *spec;
    int n_calls, n_others;
};

static bool wants_q(void *user, const char *tensor)
{
    struct seen *seen = user;
    bool is_q = strcmp(tensor, "blk.0.attn_q.weight") == 0;
    seen->n_others += !is_q;
    return is_q;
}

static bool wants_nothing(void *user, const char *tensor)
{
    (void)user;
    (void)tensor;
    return false;
}

/* Behind the norm the embedding of a token is its hidden state, up to a factor. */
static void check_rows(void *user, const char *tensor, const float *rows, int64_t n_rows,
                       int64_t n_in)
{
    struct seen *seen = user;
    seen->n_calls++;
    assert_string_equal(tensor, "blk.0.attn_q.weight");
    assert_int_equal(n_rows, seen->n);
    assert_int_equal(n_in, TINY_GGUF_N_EMBD);
    for (int64_t k = 0; k < n_rows; k++) {
        float wanted[TINY_GGUF_N_EMBD];
        tiny_gguf_bigram_hidden(seen->spec, seen->tokens[k], wanted);
        double along = 0, squares = 0;
        for (int i = 0; i < TINY_GGUF_N_EMBD; i++) {
            along += (double)rows[k * n_in + i] * (double)wanted[i];
            squares += (double)rows[k * n_in + i] * (double)rows[k * n_in + i];
        }
        assert_true(fabs(along / sqrt(squares * TINY_GGUF_N_EMBD) - 1) < 1e-4);
    }
}

static void shows_the_inputs(void **state)
{
    (void)state;
    struct hs_error err;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    hs_rt_model *model = load_tiny(&spec);
    struct seen seen = {.n = N_TOKENS, .spec = &spec};
    for (int i = 0; i < N_TOKENS; i++) {
        seen.tokens[i] = i == 0 ? TINY_GGUF_BOS : TINY_GGUF_ANSWER0 + 31 * i;
    }
    struct hs_rt_observer observer = {wants_q, check_rows, &seen};
    OK(rt->observe(model, seen.tokens, N_TOKENS, 1, &observer, &err));
    assert_int_equal(seen.n_calls, 1);
    assert_true(seen.n_others > 3);
    seen.n = 1; /* a single token */
    OK(rt->observe(model, seen.tokens, 1, 2, &observer, &err));
    assert_int_equal(seen.n_calls, 2);
    observer.wants = wants_nothing;
    OK(rt->observe(model, seen.tokens, N_TOKENS, 1, &observer, &err));
    assert_int_equal(seen.n_calls, 2);
    rt->model_free(model);
}

static void a_lack_of_memory_is_an_error(void **state)
{
    (void)state;
    struct hs_error err;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    hs_rt_model *model = load_tiny(&spec);
    struct seen seen = {.tokens = {TINY_GGUF_BOS}, .n = 1, .spec = &spec};
    const struct hs_rt_observer observer = {wants_q, check_rows, &seen};
    hs_mem_fail_after(1);
    hs_status status = rt->observe(model, seen.tokens, 1, 1, &observer, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
    assert_int_equal(seen.n_calls, 0);
    rt->model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_the_inputs),
        cmocka_unit_test(a_lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
