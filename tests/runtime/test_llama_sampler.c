/*
 * Every sampler acts, every parameter has a range, seeds reproduce, grammars bind.
 *
 * The distribution is known: BIGRAM with a small scale gives logits that the spec computes, so that
 * what each sampler must keep follows from its definition.
 */
#include "runtime_test.h"

#include <math.h>

static struct tiny_gguf_spec spec;
static hs_rt_model *model;
static hs_rt_context *context;
static int32_t item;                           /* with logits of the token after `last` */
static const int32_t last = TINY_GGUF_LETTER0; /* " a" */
static double probability[TINY_GGUF_N_VOCAB];
static int32_t ranked[TINY_GGUF_N_VOCAB]; /* likeliest first */

static int by_probability(const void *a, const void *b)
{
    double x = probability[*(const int32_t *)a];
    double y = probability[*(const int32_t *)b];
    return (x < y) - (x > y);
}

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&spec);
    spec.logit_scale = 0.125F;
    model = load_tiny(&spec);
    context = new_context(model, 512, 2);
    item = feed(context, 0, 0, (int32_t[]){TINY_GGUF_BOS, last}, 2);
    double sum = 0;
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        probability[i] = exp((double)tiny_gguf_bigram_logit(&spec, last, i));
        sum += probability[i];
        ranked[i] = i;
    }
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        probability[i] /= sum;
    }
    qsort(ranked, TINY_GGUF_N_VOCAB, sizeof(*ranked), by_probability);
    return 0;
}

static int tear_down(void **state)
{
    rt->context_free(context);
    rt->model_free(model);
    return stop_runtime(state);
}

static int32_t draw(hs_rt_sampler *sampler)
{
    struct hs_error err = {0};
    int32_t token = -1;
    OK(rt->sample(sampler, context, item, 0, &token, NULL, &err));
    return token;
}

/* Draw n times with fresh chains (no history), seeds 0..n-1; how often each token came. */
static void histogram(struct hs_sampling sampling, int n, int *ret_counts)
{
    memset(ret_counts, 0, TINY_GGUF_N_VOCAB * sizeof(*ret_counts));
    for (int i = 0; i < n; i++) {
        sampling.seed = (uint32_t)i;
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        ret_counts[draw(sampler)]++;
        rt->sampler_free(sampler);
    }
}

static int n_seen(const int *counts)
{
    int n = 0;
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        n += counts[i] > 0;
    }
    return n;
}

static struct hs_sampling hot(void)
{
    struct hs_sampling sampling = sampling_off();
    sampling.temp = 1;
    return sampling;
}

static void test_greedy_takes_the_likeliest(void **state)
{
    (void)state;
    assert_true(probability[ranked[0]] > probability[ranked[1]]);
    assert_int_equal(ranked[0], tiny_gguf_next(&spec, &last, 1));
    const float temps[] = {0, -1, -100};
    for (size_t i = 0; i < 3; i++) {
        struct hs_sampling sampling = sampling_off();
        sampling.temp = temps[i];
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        assert_int_equal(draw(sampler), ranked[0]);
        rt->sampler_free(sampler);
    }
}

/* Greedy through the chain is greedy by scanning: a penalty that does nothing forces the chain. */
static void test_greedy_through_the_chain(void **state)
{
    (void)state;
    struct hs_sampling sampling = sampling_off();
    sampling.frequency_penalty = 0.001F;
    sampling.top_k = 40;
    sampling.top_p = 0.5F;
    sampling.min_p = 0.5F;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    assert_int_equal(draw(sampler), ranked[0]);
    rt->sampler_free(sampler);
}

static void test_temperature(void **state)
{
    (void)state;
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    histogram(sampling, 4000, counts);
    double p = probability[ranked[0]];
    double sigma = sqrt(4000 * p * (1 - p));
    assert_true(fabs(counts[ranked[0]] - 4000 * p) < 5 * sigma);
    int at_one = counts[ranked[0]];
    sampling.temp = 0.2F;
    histogram(sampling, 200, counts);
    assert_int_equal(counts[ranked[0]], 200);
    sampling.temp = 10;
    histogram(sampling, 4000, counts);
    assert_true(counts[ranked[0]] < at_one / 4);
}

static void test_dynamic_temperature(void **state)
{
    (void)state;
    /* Range 2 about 2.5 lets the temperature fall with the entropy: another mixture than 2.5. */
    int fixed[TINY_GGUF_N_VOCAB];
    int dynamic[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.temp = 2.5F;
    histogram(sampling, 2000, fixed);
    sampling.dynatemp_range = 2;
    sampling.dynatemp_exponent = 3;
    histogram(sampling, 2000, dynamic);
    assert_true(dynamic[ranked[0]] > fixed[ranked[0]] + 100);
}

static void test_top_k(void **state)
{
    (void)state;
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.temp = 5;
    sampling.top_k = 1;
    histogram(sampling, 100, counts);
    assert_int_equal(counts[ranked[0]], 100);
    sampling.top_k = 3;
    histogram(sampling, 300, counts);
    assert_int_equal(n_seen(counts), 3);
    sampling.top_k = 0;
    histogram(sampling, 300, counts);
    assert_true(n_seen(counts) > 30);
}

/* The smallest set of likeliest tokens whose probability reaches p. */
static void test_top_p(void **state)
{
    (void)state;
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.top_p = 0.6F;
    double sum = 0;
    int n_kept = 0;
    while (sum < 0.6) {
        sum += probability[ranked[n_kept++]];
    }
    histogram(sampling, 2000, counts);
    int seen = 0;
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        /* Equal probabilities may be kept in any order, so compare by value. */
        assert_true(counts[i] == 0 || probability[i] >= probability[ranked[n_kept - 1]] * 0.999);
        seen += counts[i] > 0;
    }
    assert_true(seen > 0 && seen <= n_kept);
}

static void test_min_p(void **state)
{
    (void)state;
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.min_p = 0.2F;
    histogram(sampling, 2000, counts);
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        assert_true(counts[i] == 0 || probability[i] >= 0.2 * probability[ranked[0]] * 0.999);
    }
    sampling.min_p = 1;
    histogram(sampling, 100, counts);
    assert_int_equal(counts[ranked[0]], 100);
}

/* Tokens by how far their surprise is from the entropy, until their probability reaches p. */
static void test_typical_p(void **state)
{
    (void)state;
    double entropy = 0;
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        entropy -= probability[i] * log(probability[i]);
    }
    int32_t nearest = 0;
    double distance = INFINITY;
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        double d = fabs(-log(probability[i]) - entropy);
        nearest = d < distance ? i : nearest;
        distance = d < distance ? d : distance;
    }
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.typical_p = 0.001F;
    histogram(sampling, 50, counts);
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        assert_true(counts[i] == 0 || fabs(fabs(-log(probability[i]) - entropy) - distance) < 0.01);
    }
    assert_true(counts[ranked[0]] == 0 || nearest == ranked[0]);
}

static void test_top_n_sigma(void **state)
{
    (void)state;
    double mean = 0;
    double variance = 0;
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        mean += (double)tiny_gguf_bigram_logit(&spec, last, i) / TINY_GGUF_N_VOCAB;
    }
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        double d = (double)tiny_gguf_bigram_logit(&spec, last, i) - mean;
        variance += d * d / TINY_GGUF_N_VOCAB;
    }
    double top = (double)tiny_gguf_bigram_logit(&spec, last, ranked[0]);
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.temp = 5;
    sampling.top_n_sigma = 5;
    histogram(sampling, 2000, counts);
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        double logit = (double)tiny_gguf_bigram_logit(&spec, last, i);
        assert_true(counts[i] == 0 || logit >= top - 5 * sqrt(variance) - 0.01);
    }
    sampling.top_n_sigma = 0.01F;
    histogram(sampling, 100, counts);
    assert_int_equal(counts[ranked[0]], 100);
}

/* With certainty 1 XTC takes away all tokens above the threshold but the least likely of them. */
static void test_xtc(void **state)
{
    (void)state;
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.temp = 4; /* applied after xtc by default: put it first so that two pass */
    sampling.xtc_probability = 1;
    sampling.xtc_threshold = (float)probability[ranked[2]] * 0.9F;
    assert_true(sampling.xtc_threshold <= 0.5F);
    histogram(sampling, 500, counts);
    assert_int_equal(counts[ranked[0]], 0);
    sampling.xtc_probability = 0;
    histogram(sampling, 500, counts);
    assert_true(counts[ranked[0]] > 0);
}

static void test_penalties(void **state)
{
    (void)state;
    const struct {
        float repeat, frequency, presence;
    } ways[] = {{50, 0, 0}, {1, 100, 0}, {1, 0, 100}};
    for (size_t i = 0; i < 3; i++) {
        struct hs_sampling sampling = sampling_off();
        sampling.repeat_penalty = ways[i].repeat;
        sampling.frequency_penalty = ways[i].frequency;
        sampling.presence_penalty = ways[i].presence;
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        assert_int_equal(draw(sampler), ranked[0]);
        assert_int_not_equal(draw(sampler), ranked[0]);
        rt->sampler_free(sampler);
        /* Prompt tokens count as well, up to repeat_last_n back. */
        sampler = new_sampler(model, &sampling);
        rt->sampler_accept_prompt(sampler, ranked[0]);
        assert_int_not_equal(draw(sampler), ranked[0]);
        rt->sampler_free(sampler);
        sampling.repeat_last_n = 2;
        sampler = new_sampler(model, &sampling);
        rt->sampler_accept_prompt(sampler, ranked[0]);
        rt->sampler_accept_prompt(sampler, 5);
        rt->sampler_accept_prompt(sampler, 6);
        assert_int_equal(draw(sampler), ranked[0]);
        rt->sampler_free(sampler);
        sampling.repeat_last_n = 0;
        sampler = new_sampler(model, &sampling);
        rt->sampler_accept_prompt(sampler, ranked[0]);
        assert_int_equal(draw(sampler), ranked[0]);
        rt->sampler_free(sampler);
    }
}

/* A repeated run "x y z x y" makes z, which would continue it, unlikely; a breaker ends the run. */
static void test_dry(void **state)
{
    (void)state;
    const int32_t x = TINY_GGUF_LETTER0 + 5;
    const int32_t y = TINY_GGUF_LETTER0 + 6;
    const int32_t z = ranked[0];
    static const char *const breaker[] = {" g"}; /* y itself */
    for (int way = 0; way < 3; way++) {
        struct hs_sampling sampling = sampling_off();
        sampling.dry_multiplier = way == 0 ? 0 : 100;
        sampling.dry_allowed_length = 2;
        sampling.dry_penalty_last_n = -1;
        sampling.dry_breakers = way == 2 ? breaker : NULL;
        sampling.n_dry_breakers = way == 2;
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        const int32_t prompt[] = {x, y, z, x, y};
        for (size_t i = 0; i < 5; i++) {
            rt->sampler_accept_prompt(sampler, prompt[i]);
        }
        int32_t token = draw(sampler);
        if (way == 1) {
            assert_int_not_equal(token, z);
        } else {
            assert_int_equal(token, z);
        }
        rt->sampler_free(sampler);
    }
}

static void test_mirostat(void **state)
{
    (void)state;
    int low[TINY_GGUF_N_VOCAB];
    int high[TINY_GGUF_N_VOCAB];
    for (int32_t version = 1; version <= 2; version++) {
        struct hs_sampling sampling = hot();
        sampling.mirostat = version;
        sampling.mirostat_tau = 0.5F;
        histogram(sampling, 500, low);
        sampling.mirostat_tau = 10;
        histogram(sampling, 500, high);
        /* A low target surprise keeps to the likeliest tokens. */
        assert_true(n_seen(low) < n_seen(high));
        assert_true(low[ranked[0]] > high[ranked[0]]);
    }
}

static void test_adaptive_p(void **state)
{
    (void)state;
    int plain[TINY_GGUF_N_VOCAB];
    int adaptive[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    histogram(sampling, 1000, plain);
    sampling.adaptive_target = 0.01F;
    histogram(sampling, 1000, adaptive);
    /* Tokens near probability 0.01 are favoured over the top one. */
    assert_true(adaptive[ranked[0]] < plain[ranked[0]] / 2);
    /* Named without a target it is an ordinary draw; not named, the target is ignored. */
    sampling.samplers = "temperature";
    histogram(sampling, 1000, adaptive);
    assert_true(adaptive[ranked[0]] > plain[ranked[0]] / 2);
}

static void test_logit_bias(void **state)
{
    (void)state;
    const int32_t tokens[] = {TINY_GGUF_CHAR0 + 7, ranked[0]};
    const float values[] = {1000, -INFINITY};
    struct hs_sampling sampling = sampling_off();
    sampling.logit_bias_tokens = tokens;
    sampling.logit_bias_values = values;
    sampling.n_logit_bias = 1;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    assert_int_equal(draw(sampler), tokens[0]);
    rt->sampler_free(sampler);
    sampling.logit_bias_tokens = &tokens[1];
    sampling.logit_bias_values = &values[1];
    sampler = new_sampler(model, &sampling);
    assert_int_equal(draw(sampler), ranked[1]);
    rt->sampler_free(sampler);
}

static void test_everything_excluded(void **state)
{
    (void)state;
    struct hs_error err = {0};
    int32_t tokens[TINY_GGUF_N_VOCAB];
    float values[TINY_GGUF_N_VOCAB];
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        tokens[i] = i;
        values[i] = -INFINITY;
    }
    for (int way = 0; way < 2; way++) {
        struct hs_sampling sampling = way ? hot() : sampling_off();
        sampling.logit_bias_tokens = tokens;
        sampling.logit_bias_values = values;
        sampling.n_logit_bias = TINY_GGUF_N_VOCAB;
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        int32_t token = -1;
        EXPECT(HS_INVALID_ARGUMENT, rt->sample(sampler, context, item, 0, &token, NULL, &err));
        assert_int_equal(token, -1);
        rt->sampler_free(sampler);
    }
}

static void test_ignore_eos(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const int32_t tokens[] = {TINY_GGUF_EOS, TINY_GGUF_IM_END};
    const float values[] = {1000, 999};
    struct hs_sampling sampling = sampling_off();
    sampling.logit_bias_tokens = tokens;
    sampling.logit_bias_values = values;
    sampling.n_logit_bias = 2;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    assert_true(rt->is_eog(model, draw(sampler)));
    rt->sampler_free(sampler);
    OK(rt->sampler_new(model, &sampling, NULL, true, 512, &sampler, &err));
    assert_int_equal(draw(sampler), ranked[0]);
    rt->sampler_free(sampler);
}

static void test_seeds(void **state)
{
    (void)state;
    struct hs_sampling sampling = hot();
    sampling.temp = 3;
    int32_t runs[3][20];
    for (int run = 0; run < 3; run++) {
        sampling.seed = run < 2 ? 42 : 43;
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        assert_int_equal(rt->sampler_seed(sampler), sampling.seed);
        for (int i = 0; i < 20; i++) {
            runs[run][i] = draw(sampler);
        }
        rt->sampler_free(sampler);
    }
    assert_memory_equal(runs[0], runs[1], sizeof(runs[0]));
    assert_memory_not_equal(runs[0], runs[2], sizeof(runs[0]));
    sampling.seed = HS_SEED_RANDOM;
    hs_rt_sampler *a = new_sampler(model, &sampling);
    hs_rt_sampler *b = new_sampler(model, &sampling);
    uint32_t seed = rt->sampler_seed(a);
    assert_int_not_equal(seed, HS_SEED_RANDOM);
    assert_int_not_equal(seed, rt->sampler_seed(b));
    sampling.seed = seed;
    hs_rt_sampler *again = new_sampler(model, &sampling);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(draw(a), draw(again));
    }
    rt->sampler_free(a);
    rt->sampler_free(b);
    rt->sampler_free(again);
}

/* The order counts: cutting to one token before raising the temperature, or the other way. */
static void test_sampler_list(void **state)
{
    (void)state;
    struct hs_error err = {0};
    int counts[TINY_GGUF_N_VOCAB];
    struct hs_sampling sampling = hot();
    sampling.temp = 100;
    sampling.min_p = 0.9F;
    sampling.samplers = "min_p;temperature";
    histogram(sampling, 100, counts);
    assert_int_equal(counts[ranked[0]], 100);
    sampling.samplers = "temperature;min_p";
    histogram(sampling, 100, counts);
    assert_true(n_seen(counts) > 10);
    static const char *const good[] = {
        "",
        ";;",
        "top-k;top-p;min-p;typ-p;typical_p;top-n-sigma;temp;xtc;dry;penalties",
        "grammar;logit_bias;top_k",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        sampling.samplers = good[i];
        hs_rt_sampler *sampler = new_sampler(model, &sampling);
        draw(sampler);
        rt->sampler_free(sampler);
    }
    static const char *const bad[] = {"top_q", "top_k;", "top_k;Top_P", " top_k", "temperatur"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (i == 1) {
            continue; /* a semicolon at the end is allowed */
        }
        sampling.samplers = bad[i];
        hs_rt_sampler *sampler = NULL;
        EXPECT(HS_INVALID_ARGUMENT,
               rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
        assert_non_null(strstr(err.hint, "top_k"));
    }
    char many[33 * 6 + 1] = "";
    for (int i = 0; i < 33; i++) {
        strcat(many, "top_k;");
        hs_rt_sampler *sampler = NULL;
        sampling.samplers = many;
        EXPECT(i < 32 ? HS_OK : HS_INVALID_ARGUMENT,
               rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
        rt->sampler_free(sampler);
    }
}

/* Infill picks the end token when little else is likely; here it must at least run. */
static void test_infill_runs(void **state)
{
    (void)state;
    struct hs_sampling sampling = hot();
    sampling.top_k = 10;
    sampling.samplers = "top_k;infill";
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    int32_t token = draw(sampler);
    assert_in_range(token, 0, TINY_GGUF_N_VOCAB - 1);
    rt->sampler_free(sampler);
}

#define OUT_OF_RANGE(field, value, name)                                                           \
    do {                                                                                           \
        struct hs_sampling sampling = hot();                                                       \
        sampling.field = (value);                                                                  \
        hs_rt_sampler *sampler = NULL;                                                             \
        EXPECT(HS_INVALID_ARGUMENT,                                                                \
               rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));               \
        assert_null(sampler);                                                                      \
        assert_non_null(strstr(err.message, name));                                                \
    } while (0)

static void test_numbers_out_of_range(void **state)
{
    (void)state;
    struct hs_error err = {0};
    OUT_OF_RANGE(temp, NAN, "temp");
    OUT_OF_RANGE(temp, INFINITY, "temp");
    OUT_OF_RANGE(temp, 101, "temp");
    OUT_OF_RANGE(dynatemp_range, -1, "dynatemp_range");
    OUT_OF_RANGE(dynatemp_exponent, NAN, "dynatemp_exponent");
    OUT_OF_RANGE(top_p, 1.01F, "top_p");
    OUT_OF_RANGE(top_p, -0.01F, "top_p");
    OUT_OF_RANGE(min_p, 1.01F, "min_p");
    OUT_OF_RANGE(typical_p, NAN, "typical_p");
    OUT_OF_RANGE(top_n_sigma, NAN, "top_n_sigma");
    OUT_OF_RANGE(xtc_probability, 2, "xtc_probability");
    OUT_OF_RANGE(xtc_threshold, -1, "xtc_threshold");
    OUT_OF_RANGE(repeat_penalty, 0, "repeat_penalty");
    OUT_OF_RANGE(repeat_penalty, -1, "repeat_penalty");
    OUT_OF_RANGE(frequency_penalty, INFINITY, "frequency_penalty");
    OUT_OF_RANGE(presence_penalty, -101, "presence_penalty");
    OUT_OF_RANGE(dry_multiplier, -1, "dry_multiplier");
    OUT_OF_RANGE(dry_base, NAN, "dry_base");
    OUT_OF_RANGE(mirostat_tau, -1, "mirostat_tau");
    OUT_OF_RANGE(mirostat_eta, 11, "mirostat_eta");
    OUT_OF_RANGE(adaptive_target, 1.01F, "adaptive_target");
    OUT_OF_RANGE(adaptive_decay, 1, "adaptive_decay");
    OUT_OF_RANGE(repeat_last_n, -2, "repeat_last_n");
    OUT_OF_RANGE(dry_penalty_last_n, -2, "dry_penalty_last_n");
    OUT_OF_RANGE(dry_allowed_length, -1, "dry_allowed_length");
    OUT_OF_RANGE(n_dry_breakers, 257, "n_dry_breakers");
    OUT_OF_RANGE(mirostat, 3, "mirostat");
    OUT_OF_RANGE(n_logit_bias, -1, "n_logit_bias");
}

static void test_biases_out_of_range(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const struct {
        int32_t token;
        float value;
    } bad[] = {{-1, 1}, {TINY_GGUF_N_VOCAB, 1}, {5, NAN}, {5, INFINITY}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hs_sampling sampling = hot();
        sampling.logit_bias_tokens = &bad[i].token;
        sampling.logit_bias_values = &bad[i].value;
        sampling.n_logit_bias = 1;
        hs_rt_sampler *sampler = NULL;
        EXPECT(HS_INVALID_ARGUMENT,
               rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
    }
}

/* Histories larger than the context are cut to it instead of being allocated. */
static void test_huge_histories(void **state)
{
    (void)state;
    struct hs_sampling sampling = hot();
    sampling.repeat_last_n = INT32_MAX;
    sampling.repeat_penalty = 2;
    sampling.dry_penalty_last_n = INT32_MAX;
    sampling.dry_multiplier = 1;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    draw(sampler);
    rt->sampler_free(sampler);
}

static void test_grammar(void **state)
{
    (void)state;
    const float temps[] = {0, 5};
    for (size_t way = 0; way < 2; way++) {
        for (uint32_t seed = 0; seed < 20; seed++) {
            struct hs_sampling sampling = sampling_off();
            sampling.temp = temps[way];
            sampling.seed = seed;
            sampling.grammar = "answer ::= \" yes\" | \" no\"";
            sampling.grammar_root = "answer";
            hs_rt_sampler *sampler = new_sampler(model, &sampling);
            struct hs_error err = {0};
            HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(100);
            int32_t token = draw(sampler);
            while (!rt->is_eog(model, token)) {
                OK(rt->token_piece(model, token, false, &text, &err));
                token = draw(sampler);
            }
            assert_true(strcmp(text.data, " yes") == 0 || strcmp(text.data, " no") == 0);
            rt->sampler_free(sampler);
        }
    }
}

/* The grammar asks for what biases forbid: an error, where llama.cpp would abort. */
static void test_grammar_with_nothing_left(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_sampling sampling = hot();
    sampling.grammar = "root ::= \"A\"";
    const int32_t tokens[] = {TINY_GGUF_CHAR0 + 'A' - '!', TINY_GGUF_BYTE0 + 'A'};
    const float values[] = {-INFINITY, -INFINITY};
    sampling.logit_bias_tokens = tokens;
    sampling.logit_bias_values = values;
    sampling.n_logit_bias = 2;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    int32_t token = -1;
    EXPECT(HS_INVALID_ARGUMENT, rt->sample(sampler, context, item, 0, &token, NULL, &err));
    assert_non_null(strstr(err.message, "no token"));
    rt->sampler_free(sampler);
    /* Finished, and the end is forbidden. */
    OK(rt->sampler_new(model,
                       &(struct hs_sampling){.grammar = "root ::= \"A\"",
                                             .repeat_penalty = 1,
                                             .top_p = 1,
                                             .typical_p = 1,
                                             .top_n_sigma = -1,
                                             .adaptive_target = -1},
                       NULL, true, 512, &sampler, &err));
    OK(rt->sample(sampler, context, item, 0, &token, NULL, &err));
    EXPECT(HS_INVALID_ARGUMENT, rt->sample(sampler, context, item, 0, &token, NULL, &err));
    rt->sampler_free(sampler);
}

static void test_bad_grammars(void **state)
{
    (void)state;
    struct hs_error err = {0};
    static const char *const bad[] = {
        "root ::= (",  "root ::= other",      "nothing",
        "a ::= \"x\"", "root ::= root \"x\"", "root ::= <no-such-token>"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hs_sampling sampling = hot();
        sampling.grammar = bad[i];
        hs_rt_sampler *sampler = NULL;
        EXPECT(HS_INVALID_ARGUMENT,
               rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
        assert_non_null(strstr(err.message, "grammar"));
    }
}

static void test_logprobs(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const int32_t token = TINY_GGUF_CHAR0;
    const float value = 1000;
    struct hs_sampling sampling = sampling_off();
    sampling.logit_bias_tokens = &token;
    sampling.logit_bias_values = &value;
    sampling.n_logit_bias = 1;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    struct hs_token_logprob top[6];
    int32_t chosen = -1;
    OK(rt->sample(sampler, context, item, 5, &chosen, top, &err));
    /* The chosen one was biased; the distribution is the model's own all the same. */
    assert_int_equal(chosen, token);
    assert_int_equal(top[0].token, token);
    assert_true(fabs((double)top[0].logprob - log(probability[token])) < 0.01);
    for (int k = 1; k <= 5; k++) {
        assert_true(fabs((double)top[k].logprob - log(probability[ranked[k - 1]])) < 0.01);
    }
    EXPECT(HS_INVALID_ARGUMENT, rt->sample(sampler, context, 0, 0, &chosen, NULL, &err));
    EXPECT(HS_INVALID_ARGUMENT, rt->sample(sampler, context, 99, 0, &chosen, NULL, &err));
    rt->sampler_free(sampler);
    rt->sampler_free(NULL);
}

/* They come in order, with the model's own opinion of them, then the model chooses. */
static void test_forced(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const int32_t forced[] = {TINY_GGUF_CHAR0 + 5, TINY_GGUF_LETTER0};
    struct hs_sampling sampling = sampling_off();
    sampling.forced = forced;
    sampling.n_forced = 2;
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    for (int i = 0; i < 3; i++) {
        struct hs_token_logprob top[2];
        int32_t chosen = -1, wanted = i < 2 ? forced[i] : ranked[0];
        OK(rt->sample(sampler, context, item, 1, &chosen, top, &err));
        assert_int_equal(chosen, wanted);
        assert_int_equal(top[0].token, wanted);
        assert_true(fabs((double)top[0].logprob - log(probability[wanted])) < 0.01);
        assert_int_equal(top[1].token, ranked[0]);
    }
    rt->sampler_free(sampler);
    const int32_t bad[] = {-1, TINY_GGUF_N_VOCAB};
    for (size_t i = 0; i < 2; i++) {
        sampling.forced = &bad[i];
        sampling.n_forced = 1;
        EXPECT(HS_INVALID_ARGUMENT,
               rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
        assert_non_null(strstr(err.message, "outside the vocabulary"));
    }
    sampling.forced = forced;
    sampling.n_forced = -1;
    EXPECT(HS_INVALID_ARGUMENT,
           rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
    sampling.n_forced = 2;
    sampling.grammar = "root ::= \"a\"";
    EXPECT(HS_INVALID_ARGUMENT,
           rt->sampler_new(model, &sampling, NULL, false, 512, &sampler, &err));
    assert_non_null(strstr(err.message, "grammar"));
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const int32_t token = 5;
    const float value = 1;
    struct hs_sampling sampling = hot();
    sampling.grammar = "root ::= [a-z ]*";
    sampling.logit_bias_tokens = &token;
    sampling.logit_bias_values = &value;
    sampling.n_logit_bias = 1;
    for (uint64_t n = 1;; n++) {
        hs_rt_sampler *sampler = NULL;
        int32_t chosen = -1;
        hs_mem_fail_after(n);
        hs_status status = rt->sampler_new(model, &sampling, NULL, true, 512, &sampler, &err);
        if (status == HS_OK) {
            status = rt->sample(sampler, context, item, 0, &chosen, NULL, &err);
        }
        bool failed = hs_mem_count() >= n;
        hs_mem_fail_after(0);
        rt->sampler_free(sampler);
        if (!failed) {
            assert_int_equal(status, HS_OK);
            return;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_likeliest),
        cmocka_unit_test(test_greedy_through_the_chain),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_dynamic_temperature),
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_typical_p),
        cmocka_unit_test(test_top_n_sigma),
        cmocka_unit_test(test_xtc),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_dry),
        cmocka_unit_test(test_mirostat),
        cmocka_unit_test(test_adaptive_p),
        cmocka_unit_test(test_logit_bias),
        cmocka_unit_test(test_everything_excluded),
        cmocka_unit_test(test_ignore_eos),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_sampler_list),
        cmocka_unit_test(test_infill_runs),
        cmocka_unit_test(test_numbers_out_of_range),
        cmocka_unit_test(test_biases_out_of_range),
        cmocka_unit_test(test_huge_histories),
        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_grammar_with_nothing_left),
        cmocka_unit_test(test_bad_grammars),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
