/*
 * record_example.h - a session with every field set, each to another value, so that two that are
 * mixed up show.
 */
#ifndef RECORD_EXAMPLE_H
#define RECORD_EXAMPLE_H

#include <float.h>
#include <math.h>

#include "session_store_internal.h"
#include "store_test.h"

static inline hs_status parse(const char *text, struct hs_session_record *ret_record,
                              struct hs_error *err)
{
    return hs_session_record_parse(text, strlen(text), ret_record, err);
}

static const char *const STOPS[] = {"\n\n", "", "</s>\xe2\x82\xac"};
static const char *const BREAKERS[] = {"\n"};
static const int32_t BIAS_TOKENS[] = {0, 5, INT32_MAX};
static const float BIAS_VALUES[] = {-INFINITY, 0.1f, -FLT_MAX};

/* Every field another value, so that two that are mixed up show. */
static inline struct hs_generate_params example_params(void)
{
    return (struct hs_generate_params){.max_tokens = -1,
                                       .stop = STOPS,
                                       .n_stop = COUNT_OF(STOPS),
                                       .ignore_eos = true,
                                       .enable_thinking = false,
                                       .split_reasoning = true,
                                       .cache_prompt = false,
                                       .deadline_ms = 77,
                                       .n_logprobs = 3,
                                       .stream_capacity = 9,
                                       .sampling = {.seed = HS_SEED_RANDOM,
                                                    .temp = 0.1f,
                                                    .dynatemp_range = 0.2f,
                                                    .dynatemp_exponent = 0.3f,
                                                    .top_k = INT32_MIN,
                                                    .top_p = 0.95f,
                                                    .min_p = 1e-30f,
                                                    .typical_p = 0.4f,
                                                    .top_n_sigma = -1.0f,
                                                    .xtc_probability = 0.5f,
                                                    .xtc_threshold = 0.6f,
                                                    .repeat_penalty = 1.1f,
                                                    .frequency_penalty = 0.7f,
                                                    .presence_penalty = FLT_MAX,
                                                    .repeat_last_n = 64,
                                                    .dry_multiplier = 0.8f,
                                                    .dry_base = 1.75f,
                                                    .dry_allowed_length = 2,
                                                    .dry_penalty_last_n = -1,
                                                    .dry_breakers = BREAKERS,
                                                    .n_dry_breakers = 1,
                                                    .mirostat = 2,
                                                    .mirostat_tau = 5.0f,
                                                    .mirostat_eta = 0.9f,
                                                    .adaptive_target = -0.5f,
                                                    .adaptive_decay = FLT_MIN,
                                                    .samplers = "top_k;temperature",
                                                    .grammar = "root ::= \"a\"",
                                                    .grammar_root = NULL,
                                                    .logit_bias_tokens = BIAS_TOKENS,
                                                    .logit_bias_values = BIAS_VALUES,
                                                    .n_logit_bias = COUNT_OF(BIAS_TOKENS)}};
}

static inline void assert_params_equal(const struct hs_generate_params *a,
                                       const struct hs_generate_params *b)
{
    const struct hs_sampling *x = &a->sampling, *y = &b->sampling;
    assert_int_equal(a->max_tokens, b->max_tokens);
    assert_int_equal(a->n_stop, b->n_stop);
    for (int32_t i = 0; i < a->n_stop; i++)
        assert_string_equal(a->stop[i], b->stop[i]);
    assert_true(a->ignore_eos == b->ignore_eos && a->enable_thinking == b->enable_thinking &&
                a->split_reasoning == b->split_reasoning && a->cache_prompt == b->cache_prompt);
    assert_true(x->seed == y->seed && x->temp == y->temp);
    assert_true(x->dynatemp_range == y->dynatemp_range);
    assert_true(x->dynatemp_exponent == y->dynatemp_exponent);
    assert_true(x->top_k == y->top_k && x->top_p == y->top_p && x->min_p == y->min_p);
    assert_true(x->typical_p == y->typical_p && x->top_n_sigma == y->top_n_sigma);
    assert_true(x->xtc_probability == y->xtc_probability && x->xtc_threshold == y->xtc_threshold);
    assert_true(x->repeat_penalty == y->repeat_penalty);
    assert_true(x->frequency_penalty == y->frequency_penalty);
    assert_true(x->presence_penalty == y->presence_penalty);
    assert_true(x->repeat_last_n == y->repeat_last_n && x->dry_multiplier == y->dry_multiplier);
    assert_true(x->dry_base == y->dry_base && x->dry_allowed_length == y->dry_allowed_length);
    assert_true(x->dry_penalty_last_n == y->dry_penalty_last_n);
    assert_int_equal(x->n_dry_breakers, y->n_dry_breakers);
    for (int32_t i = 0; i < x->n_dry_breakers; i++)
        assert_string_equal(x->dry_breakers[i], y->dry_breakers[i]);
    assert_true(x->mirostat == y->mirostat && x->mirostat_tau == y->mirostat_tau);
    assert_true(x->mirostat_eta == y->mirostat_eta && x->adaptive_target == y->adaptive_target);
    assert_true(x->adaptive_decay == y->adaptive_decay);
    assert_string_equal(x->samplers, y->samplers);
    assert_string_equal(x->grammar, y->grammar);
    assert_true(x->grammar_root == NULL && y->grammar_root == NULL);
    assert_int_equal(x->n_logit_bias, y->n_logit_bias);
    for (int32_t i = 0; i < x->n_logit_bias; i++)
        assert_true(x->logit_bias_tokens[i] == y->logit_bias_tokens[i] &&
                    x->logit_bias_values[i] == y->logit_bias_values[i]);
}

static struct hs_message MESSAGES[] = {
    {.role = "system", .content = "You are terse."},
    {.role = "user", .content = "\x01 \x7f \xc2\x80 \xef\xbf\xbf \xf4\x8f\xbf\xbf \\ \" / \r\n\t"},
    {.role = "assistant", .content = "", .reasoning = ""},
};
static struct hs_adapter_ref ADAPTERS[] = {{"poet", 0.1f}, {"\xc3\xa9", -2.0f}};

static inline struct hs_session_record example_record(struct hs_generate_params *params)
{
    return (struct hs_session_record){.model_name = (char *)"smollm2",
                                      .fingerprint = (char *)"ab12",
                                      .adapters = ADAPTERS,
                                      .n_adapters = COUNT_OF(ADAPTERS),
                                      .messages = MESSAGES,
                                      .n_messages = COUNT_OF(MESSAGES),
                                      .overflow = HS_OVERFLOW_SHIFT,
                                      .created_unix_ms = INT64_MIN,
                                      .updated_unix_ms = INT64_MAX,
                                      .params = params};
}

#endif
