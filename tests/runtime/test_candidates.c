/*
 * Choosing among preselected candidates gives, token by token, what llama.cpp's own full chain over
 * the whole vocabulary gives: random logits (with many equal ones, too), settings and seeds.
 */
#include "runtime_test.h"

#include <math.h>

#include "candidates.h"
#include "recent_tokens.h"

#define N_VOCAB_MAX 5003 /* not a multiple of anything that the scan works in */

static hs_rt_model *model;
static uint32_t random_state;

static uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static double random_unit(void)
{
    return (double)random_u32() / 4294967296.0;
}

static int32_t random_below(int32_t n)
{
    return (int32_t)(random_unit() * n);
}

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    model = load_tiny(&spec);
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(model);
    return stop_runtime(state);
}

/* ---- llama.cpp's chain over everything ---- */

static struct llama_sampler *full_chain(const hs_rt_model *of, const struct hs_sampling *s)
{
    const char *breakers[] = {"\n", ":", "\"", "*"};
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(
        chain, llama_sampler_init_logit_bias(
                   of->n_vocab, s->n_logit_bias,
                   (const llama_logit_bias[]){{s->logit_bias_tokens[0], s->logit_bias_values[0]},
                                              {s->logit_bias_tokens[1], s->logit_bias_values[1]}}));
    llama_sampler_chain_add(
        chain, llama_sampler_init_penalties(of->n_vocab, s->repeat_last_n, s->repeat_penalty,
                                            s->frequency_penalty, s->presence_penalty));
    llama_sampler_chain_add(chain, llama_sampler_init_dry(of->vocab, s->dry_multiplier, s->dry_base,
                                                          s->dry_allowed_length,
                                                          s->dry_penalty_last_n, breakers, 4));
    llama_sampler_chain_add(chain, llama_sampler_init_top_n_sigma(s->top_n_sigma));
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(s->top_k));
    llama_sampler_chain_add(chain, llama_sampler_init_typical(s->typical_p, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(s->top_p, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p(s->min_p, 1));
    llama_sampler_chain_add(
        chain, llama_sampler_init_xtc(s->xtc_probability, s->xtc_threshold, 1, s->seed));
    llama_sampler_chain_add(
        chain, llama_sampler_init_temp_ext(s->temp, s->dynatemp_range, s->dynatemp_exponent));
    llama_sampler_chain_add(chain, s->temp <= 0 ? llama_sampler_init_greedy()
                                                : llama_sampler_init_dist(s->seed));
    return chain;
}

static int32_t full_choice(struct llama_sampler *chain, const float *logits, int32_t n_vocab)
{
    static llama_token_data data[N_VOCAB_MAX];
    for (int32_t i = 0; i < n_vocab; i++) {
        data[i] = (llama_token_data){.id = i, .logit = logits[i], .p = 0};
    }
    llama_token_data_array array = {.data = data, .size = (size_t)n_vocab, .selected = -1};
    llama_sampler_apply(chain, &array);
    int32_t token = array.data[array.selected].id;
    llama_sampler_accept(chain, token);
    return token;
}

/* ---- random cases ---- */

enum shape { SMOOTH, EQUALS, RISING, FALLING, FLAT, PEAKED, N_SHAPES };

static void make_logits(enum shape shape, float *logits, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        double normal = sqrt(-2 * log(1 - random_unit())) * cos(6.283185307 * random_unit());
        double value = 3 * normal;
        switch (shape) {
        case EQUALS:
            value = round(value);
            break;
        case RISING:
            value = 20.0 * i / n;
            break;
        case FALLING:
            value = -20.0 * i / n;
            break;
        case FLAT:
            value = 1.5;
            break;
        case PEAKED:
            value = i % 997 == 5 ? 25 + normal : value;
            break;
        default:
            break;
        }
        logits[i] = (float)value;
    }
}

static struct hs_sampling random_sampling(int32_t n_vocab, int32_t *tokens, float *values)
{
    static const int32_t ks[] = {1, 2, 40, 127, 128, 129, 1000, 100000, 0, -1};
    struct hs_sampling s = sampling_off();
    s.seed = random_u32();
    s.temp = random_below(5) == 0 ? 0 : (float)(0.1 + 2 * random_unit());
    s.top_k = ks[random_below(10)];
    s.top_p = random_below(2) ? 1 : (float)random_unit();
    s.min_p = random_below(2) ? 0 : (float)random_unit() / 4;
    s.typical_p = random_below(4) ? 1 : (float)random_unit();
    s.top_n_sigma = random_below(6) ? -1 : (float)(0.5 + random_unit());
    s.xtc_probability = random_below(4) ? 0 : 0.5F;
    s.xtc_threshold = 0.1F;
    s.dynatemp_range = random_below(4) ? 0 : 0.3F;
    s.repeat_last_n = random_below(3) ? 64 : random_below(4);
    s.repeat_penalty = random_below(2) ? 1 : (float)(0.5 + random_unit());
    s.frequency_penalty = random_below(2) ? 0 : (float)(4 * random_unit() - 2);
    s.presence_penalty = random_below(2) ? 0 : (float)(8 * random_unit() - 4);
    s.dry_multiplier = random_below(3) ? 0 : 2;
    s.dry_base = 1.75F;
    s.dry_allowed_length = 1;
    s.dry_penalty_last_n = 100;
    tokens[0] = random_below(n_vocab);
    values[0] = (float)(20 * random_unit() - 10);
    tokens[1] = random_below(n_vocab);
    values[1] = -5;
    s.logit_bias_tokens = tokens;
    s.logit_bias_values = values;
    s.n_logit_bias = random_below(3);
    return s;
}

static void check_case(const hs_rt_model *of, const struct hs_sampling *s, enum shape shape)
{
    static float logits[N_VOCAB_MAX];
    static llama_token_data scratch[N_VOCAB_MAX];
    struct hs_error err = {0};
    struct llama_sampler *full = full_chain(of, s);
    hs_rt_sampler *ours = NULL;
    OK(hs_llama_sampler_new(of, s, NULL, false, 512, &ours, &err));
    /* Tokens that come again and again give the penalties and DRY work. */
    for (int i = 0; i < 30; i++) {
        int32_t token = i % 7 * 3;
        llama_sampler_accept(full, token);
        hs_llama_sampler_accept_prompt(ours, token);
    }
    for (int step = 0; step < 4; step++) {
        make_logits(shape, logits, of->n_vocab);
        int32_t token = -1;
        OK(hs_llama_choose(ours, logits, scratch, &token, &err));
        assert_int_equal(token, full_choice(full, logits, of->n_vocab));
    }
    hs_llama_sampler_free(ours);
    llama_sampler_free(full);
}

static void test_choices_are_those_of_the_full_chain(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 63, 64, 65, TINY_GGUF_N_VOCAB, N_VOCAB_MAX};
    random_state = 20261123;
    int32_t tokens[2];
    float values[2];
    for (int i = 0; i < 1500; i++) {
        hs_rt_model sized = *model;
        sized.n_vocab = sizes[i % 6];
        struct hs_sampling s = random_sampling(sized.n_vocab, tokens, values);
        enum shape shape = (enum shape)random_below(N_SHAPES);
        if (s.temp <= 0 && (shape == EQUALS || shape == FLAT)) {
            /* Plain greedy takes the first of equal ones, a sorted chain any; not plain, then. */
            s.repeat_last_n = 64;
            s.frequency_penalty = 0.5F;
        }
        check_case(&sized, &s, shape);
    }
}

/* ---- what is kept ---- */

static size_t keep_some(const float *values, int32_t n, const llama_token_data *changed,
                        size_t n_changed, struct hs_keep keep, llama_token_data *ret)
{
    struct hs_logits logits = {
        .values = values, .n_vocab = n, .changed = changed, .n_changed = n_changed};
    size_t n_kept = 0;
    assert_true(hs_candidates_keep(&logits, &keep, ret, &n_kept));
    return n_kept;
}

static void test_few_are_kept(void **state)
{
    (void)state;
    static float values[262144];
    static llama_token_data kept[262144];
    random_state = 7;
    make_logits(SMOOTH, values, 262144);
    struct hs_keep top_k = {.kind = HS_KEEP_TOP_K, .k = 40};
    /* About k (1 + ln(n / k)) of them, 391, in random order. */
    size_t n = keep_some(values, 262144, NULL, 0, top_k, kept);
    assert_in_range(n, 300, 500);
    assert_int_equal(keep_some(values, 262144, NULL, 0, (struct hs_keep){0}, kept), 262144);
    /* Every sampler that draws from this would take the same: the largest is among them. */
    int32_t best = hs_candidates_largest(values, 262144);
    n = keep_some(values, 262144, NULL, 0, (struct hs_keep){.kind = HS_KEEP_TOP_K, .k = 1}, kept);
    assert_int_equal(kept[n - 1].id, best);
}

static void test_changed_logits_count(void **state)
{
    (void)state;
    float values[200] = {0};
    llama_token_data kept[200];
    values[70] = 5;
    values[199] = 6;
    const llama_token_data changed[] = {{70, -INFINITY, 0}, {100, 7, 0}};
    struct hs_keep one = {.kind = HS_KEEP_TOP_K, .k = 1};
    size_t n = keep_some(values, 200, changed, 2, one, kept);
    assert_int_equal(n, 2);
    assert_int_equal(kept[0].id, 0);
    assert_int_equal(kept[1].id, 100);
    assert_true(kept[1].logit == 7);
    /* Impossible ones are never candidates. */
    assert_int_equal(keep_some(values, 200, changed, 2, (struct hs_keep){0}, kept), 199);
    for (int i = 0; i < 200; i++) {
        values[i] = -INFINITY;
    }
    assert_int_equal(keep_some(values, 200, NULL, 0, one, kept), 0);
    assert_int_equal(hs_candidates_largest(values, 200), -1);
}

static void test_min_p_keeps_its_limit(void **state)
{
    (void)state;
    float values[3] = {2.0F, 2.0F + logf(0.25F), 2.0F + 2 * logf(0.25F)};
    llama_token_data kept[3];
    struct hs_keep keep = {.kind = HS_KEEP_MIN_P, .min_p = 0.25F};
    assert_int_equal(keep_some(values, 3, NULL, 0, keep, kept), 2);
    assert_int_equal(kept[1].id, 1);
}

static void test_values_that_are_not_numbers(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY};
    float values[130] = {0};
    llama_token_data kept[130];
    for (int32_t at = 0; at < 130; at++) {
        for (int b = 0; b < 2; b++) {
            values[at] = bad[b];
            struct hs_logits logits = {.values = values, .n_vocab = 130};
            size_t n = 0;
            assert_false(hs_candidates_keep(
                &logits, &(struct hs_keep){.kind = HS_KEEP_TOP_K, .k = 3}, kept, &n));
            assert_int_equal(hs_candidates_largest(values, 130), -1);
            values[at] = 0;
        }
    }
}

/* ---- recent tokens ---- */

static void test_recent_tokens_are_the_last_ones(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_recent_tokens recent;
    int32_t all[300];
    random_state = 3;
    OK(hs_recent_tokens_init(&recent, 17, &err));
    for (int n = 0; n < 300; n++) {
        all[n] = random_below(12);
        hs_recent_tokens_push(&recent, all[n]);
        int counts[12] = {0};
        for (int i = n > 16 ? n - 16 : 0; i <= n; i++) {
            counts[all[i]]++;
        }
        size_t at = 0;
        for (int32_t token = 0; token < 12; token++) {
            if (counts[token] > 0) {
                assert_int_equal(recent.distinct[at], token);
                assert_int_equal(recent.counts[at], counts[token]);
                at++;
            }
        }
        assert_int_equal(recent.n_distinct, at);
    }
    hs_recent_tokens_free(&recent);
    OK(hs_recent_tokens_init(&recent, 0, &err));
    hs_recent_tokens_push(&recent, 1);
    assert_int_equal(recent.n_distinct, 0);
    for (uint64_t n = 1; n <= 3; n++) {
        hs_mem_fail_after(n);
        hs_status status = hs_recent_tokens_init(&recent, 5, &err);
        hs_mem_fail_after(0);
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices_are_those_of_the_full_chain),
        cmocka_unit_test(test_few_are_kept),
        cmocka_unit_test(test_changed_logits_count),
        cmocka_unit_test(test_min_p_keeps_its_limit),
        cmocka_unit_test(test_values_that_are_not_numbers),
        cmocka_unit_test(test_recent_tokens_are_the_last_ones),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
