/*
 * Inputs of matrices that are kept, on llama.cpp: in BIGRAM's tiny models the input of a layer's
 * matrices is the code word of each token, so what a direction adds up to is known, and so is how
 * much memory it takes.
 */
#include "route_inputs.h"

#include "llama_test.h"

#include <math.h>

#include "base/mem.h"

#define N_TEXTS 3

static const char *const texts[N_TEXTS] = {". aa aa hh tt", "How do I open a door?", " tt"};
static const char q0[] = "blk.0.attn_q.weight", k0[] = "blk.0.attn_k.weight",
                  v0[] = "blk.0.attn_v.weight", q1[] = "blk.1.attn_q.weight";

static struct hs_error err;
static struct llama_fixture f;
static struct hs_route_reading how;

static void begin(void)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.n_layer = 2;
    llama_start(&f, &spec, NULL, NULL, 1024, 2);
    how = (struct hs_route_reading){.engine = f.engine};
    assert_int_equal(hs_engine_acquire_model(f.engine, "m", &how.model, &err), HS_OK);
}

static void end(void)
{
    hs_engine_release_model(f.engine, how.model);
    llama_stop(&f);
}

/* An adapter whose direction is the code word of " aa", for up to three matrices. */
static hs_arrow *arrow_for(const char *first, const char *second, const char *third)
{
    static const float b[2] = {1, -2};
    const char *tensors[] = {first, second, third};
    float a[TINY_GGUF_N_EMBD];
    struct hs_lora_target targets[3];
    struct hs_lora lora = {.targets = targets};
    hs_arrow *arrow = NULL;
    tiny_gguf_bigram_hidden(&f.spec, tiny_gguf_token(" aa"), a);
    for (int i = 0; i < 3 && tensors[i] != NULL; i++) {
        struct hs_lora_target *target = &targets[lora.n_targets++];
        *target =
            (struct hs_lora_target){.n_in = TINY_GGUF_N_EMBD, .n_out = 2, .rank = 1, .scale = 1};
        strcpy(target->tensor, tensors[i]);
        target->a = (struct hs_lora_matrix){HS_LORA_F32, 1, TINY_GGUF_N_EMBD, a, NULL};
        target->b = (struct hs_lora_matrix){HS_LORA_F32, 2, 1, b, NULL};
    }
    assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
    assert_int_equal(hs_arrow_n_matrices(arrow), lora.n_targets);
    return arrow;
}

/* Rows of a text: all tokens but the first, where there is another. */
static size_t rows_of(const char *text, int32_t *tokens)
{
    size_t n = llama_tokens(f.engine, text, true, tokens);
    assert_true(n > 1);
    memmove(tokens, tokens + 1, (n - 1) * sizeof(tokens[0]));
    return n - 1;
}

/* What one matrix takes, all texts together, 16 bits each. */
static size_t bytes_of_matrix(void)
{
    static int32_t tokens[LLAMA_TOKENS_MAX];
    size_t n = 0;
    for (int t = 0; t < N_TEXTS; t++) {
        n += rows_of(texts[t], tokens) * TINY_GGUF_N_EMBD * 2;
    }
    return n;
}

static hs_status read_for(hs_route_inputs *inputs, const hs_arrow *arrow)
{
    const hs_arrow *arrows[] = {NULL, arrow};
    return hs_route_inputs_read(inputs, &how, texts, N_TEXTS, arrows, 2, &err);
}

/* Code words are +-1, an eighth of that in rows of length 1: exact in 16 bits. */
static void expect(const hs_route_inputs *inputs, const hs_arrow *arrow)
{
    static int32_t tokens[LLAMA_TOKENS_MAX];
    for (int t = 0; t < N_TEXTS; t++) {
        struct hs_arrow_sum sums[3] = {{0}}, wanted = {0};
        float own[TINY_GGUF_N_EMBD], word[TINY_GGUF_N_EMBD];
        tiny_gguf_bigram_hidden(&f.spec, tiny_gguf_token(" aa"), own);
        wanted.n = (int64_t)rows_of(texts[t], tokens);
        for (int64_t k = 0; k < wanted.n; k++) {
            double along = 0;
            tiny_gguf_bigram_hidden(&f.spec, tokens[k], word);
            for (int i = 0; i < TINY_GGUF_N_EMBD; i++) {
                along += (double)own[i] * (double)word[i] / TINY_GGUF_N_EMBD;
            }
            wanted.sum += along;
            wanted.squares += along * along;
        }
        if (hs_route_inputs_see(inputs, t, arrow, sums, &err) != HS_OK) {
            fail_msg("%s", err.message);
        }
        for (int32_t i = 0; i < hs_arrow_n_matrices(arrow); i++) {
            assert_int_equal(sums[i].n, wanted.n);
            /* of a direction the sign is open */
            assert_true(fabs(fabs(sums[i].sum) - fabs(wanted.sum)) < 1e-3);
            assert_true(fabs(sums[i].squares - wanted.squares) < 1e-3);
        }
    }
}

static hs_route_inputs *make(size_t max_bytes)
{
    hs_route_inputs *inputs = NULL;
    assert_int_equal(hs_route_inputs_new(max_bytes, &inputs, &err), HS_OK);
    return inputs;
}

static void kept_ones_say_the_same(void **state)
{
    (void)state;
    begin();
    hs_arrow *q = arrow_for(q0, NULL, NULL), *all = arrow_for(q0, q1, NULL);
    hs_route_inputs *inputs = make(1 << 20);
    assert_int_equal(read_for(inputs, q), HS_OK);
    expect(inputs, q);
    assert_int_equal(read_for(inputs, all), HS_OK); /* the one that is new */
    expect(inputs, all);
    expect(inputs, q);
    assert_int_equal(read_for(inputs, NULL), HS_OK);
    hs_route_inputs_free(inputs);
    hs_route_inputs_free(NULL);
    hs_arrow_free(q);
    hs_arrow_free(all);
    end();
}

/* q, k and v get the same: they take the room of one. */
static void the_limit_is_exact(void **state)
{
    (void)state;
    begin();
    size_t n_bytes = bytes_of_matrix();
    hs_arrow *q = arrow_for(q0, NULL, NULL), *qkv = arrow_for(q0, k0, v0);
    hs_arrow *arrows[] = {q, qkv};
    for (int i = 0; i < 2; i++) {
        hs_route_inputs *inputs = make(n_bytes);
        if (read_for(inputs, arrows[i]) != HS_OK) {
            fail_msg("%s", err.message);
        }
        expect(inputs, arrows[i]);
        hs_route_inputs_free(inputs);
        inputs = make(n_bytes - 1);
        assert_int_equal(read_for(inputs, arrows[i]), HS_LIMIT);
        char limit[64];
        snprintf(limit, sizeof limit, "more than %zu bytes", n_bytes - 1);
        assert_non_null(strstr(err.message, limit));
        hs_route_inputs_free(inputs);
    }
    hs_arrow_free(q);
    hs_arrow_free(qkv);
    end();
}

/* What was kept before stays, and what is too much is not read again. */
static void too_much_leaves_what_there_is(void **state)
{
    (void)state;
    begin();
    hs_arrow *q = arrow_for(q0, NULL, NULL), *both = arrow_for(q0, q1, NULL);
    hs_route_inputs *inputs = make(bytes_of_matrix() + 10);
    assert_int_equal(read_for(inputs, q), HS_OK);
    assert_int_equal(read_for(inputs, both), HS_LIMIT);
    expect(inputs, q);
    how.deadline_at_ms = 1; /* long ago: a reading would say so */
    assert_int_equal(read_for(inputs, both), HS_LIMIT);
    assert_int_equal(read_for(inputs, q), HS_OK);
    hs_route_inputs_free(inputs);
    inputs = make(1 << 20);
    assert_int_equal(read_for(inputs, q), HS_TIMEOUT);
    how.deadline_at_ms = 0;
    assert_int_equal(read_for(inputs, q), HS_OK);
    expect(inputs, q);
    hs_route_inputs_free(inputs);
    hs_arrow_free(q);
    hs_arrow_free(both);
    end();
}

static void a_lack_of_memory_keeps_nothing_half(void **state)
{
    (void)state;
    begin();
    hs_arrow *q = arrow_for(q0, q1, NULL);
    hs_route_inputs *inputs = make(1 << 20);
    int n_failed = 0;
    for (uint64_t fail = 1;; fail++, n_failed++) {
        hs_mem_fail_after(fail);
        hs_status status = read_for(inputs, q);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
    assert_true(n_failed > 2 * N_TEXTS);
    expect(inputs, q);
    struct hs_arrow_sum sums[2] = {{0}};
    hs_mem_fail_after(1);
    hs_status status = hs_route_inputs_see(inputs, 0, q, sums, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
    hs_route_inputs_free(inputs);
    hs_mem_fail_after(1);
    status = hs_route_inputs_new(1, &inputs, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
    hs_arrow_free(q);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_ones_say_the_same),
        cmocka_unit_test(the_limit_is_exact),
        cmocka_unit_test(too_much_leaves_what_there_is),
        cmocka_unit_test(a_lack_of_memory_keeps_nothing_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
