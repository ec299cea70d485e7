/* The functions on llama.cpp, with tiny models whose words and logits follow from a formula. */
#include <math.h>
#include <stdlib.h>

#include "fn_test.h"
#include "llama_test.h"

static struct fn_world world;
static struct llama_fixture fixture;
static int32_t next[TINY_GGUF_N_VOCAB];

static void start(const struct tiny_gguf_spec *spec)
{
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    llama_start(&fixture, spec, &params, NULL, 2048, 8);
    fn_open_engine(&world, fixture.engine);
}

/* Log-probability of `token` after `last`. */
static double logprob(const struct tiny_gguf_spec *spec, int32_t last, int32_t token)
{
    double sum = 0;
    for (int32_t k = 0; k < TINY_GGUF_N_VOCAB; k++) {
        sum += exp((double)tiny_gguf_bigram_logit(spec, last, k));
    }
    return (double)tiny_gguf_bigram_logit(spec, last, token) - log(sum);
}

static double number(const char *sql)
{
    static char text[FN_TEXT_MAX];
    struct hs_error err;
    if (fn_query(world.conn, sql, text, &err) != HS_OK) {
        fail_msg("%s: %s", sql, err.message);
    }
    return strtod(text, NULL);
}

static void test_generate_says_it(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_unset(next);
    assert_true(tiny_gguf_spell(next, tiny_gguf_token("!"), " hello world", -1));
    spec.next = next;
    start(&spec);
    fn_expect(&world, "SELECT generate(x) FROM (SELECT unnest(['!', 'a!', NULL]) x)",
              " hello world\n hello world\n~\n");
    fn_expect(&world, "SELECT string_agg(text, '' ORDER BY index) FROM generate_stream('!')",
              " hello world\n");
    fn_expect_error(&world, "SELECT generate('!', {system: 'a'})", HS_NOT_SUPPORTED, "template");
    fn_close(&world);
}

static void test_score(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    int32_t head[64], all[64];
    tiny_gguf_defaults(&spec);
    spec.logit_scale = 0.05f; /* so that probabilities are neither 0 nor 1 */
    start(&spec);
    size_t n_head = llama_tokens(fixture.engine, "ab", true, head);
    size_t n_all = llama_tokens(fixture.engine, "abcd!", true, all);
    double sum = 0;
    assert_memory_equal(head, all, n_head * sizeof head[0]);
    for (size_t i = n_head; i < n_all; i++) {
        sum += logprob(&spec, all[i - 1], all[i]);
    }
    assert_true(fabs(number("SELECT score('ab', 'cd!')::VARCHAR") - sum) < 0.01);
    fn_close(&world);
}

static void test_classify(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    int32_t newline = TINY_GGUF_BYTE0 + '\n';
    int32_t a = tiny_gguf_token("a"), b = tiny_gguf_token("b");
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_default(next);
    next[newline] = b; /* what the assistant says first */
    spec.next = next;
    spec.logit_scale = 0.02f;
    spec.chat_template = tiny_gguf_chatml;
    start(&spec);
    double p = 1 / (1 + exp(logprob(&spec, newline, a) - logprob(&spec, newline, b)));
    fn_expect(&world, "SELECT classify('text', ['a', 'b']).label", "b\n");
    double got = number("SELECT classify('text', ['a', 'b']).probability::VARCHAR");
    assert_true(p > 0.55 && p < 0.999 && fabs(got - p) < 0.01);
    fn_close(&world);
}

static void test_extract(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = tiny_gguf_chatml;
    start(&spec);
    fn_expect(
        &world,
        "SELECT json_valid(x)::VARCHAR, typeof(x), (x->>'kind' IN ('cat', 'dog'))::VARCHAR "
        "FROM (SELECT ai_extract('A dog.', '{\"type\": \"object\", \"properties\": {\"kind\": "
        "{\"enum\": [\"cat\", \"dog\"]}}, \"required\": [\"kind\"], "
        "\"additionalProperties\": false}') x)",
        "true|JSON|true\n");
    fn_expect(&world,
              "SELECT (\"extract\"('A dog.', {type: 'boolean'}) IN ('true', 'false'))::VARCHAR",
              "true\n");
    fn_expect_error(&world, "SELECT ai_extract('a', {enum: ['abcdefgh']}, {max_tokens: 2})",
                    HS_LIMIT, "JSON is not complete");
    fn_expect_error(&world, "SELECT ai_extract('a', {type: 'nothing'})", HS_INVALID_ARGUMENT,
                    "ai_extract: ");
    fn_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate_says_it),
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_classify),
        cmocka_unit_test(test_extract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
