/*
 * A request's sampler: checks of its parameters, the chain in the order asked for, and the choice
 * of a token.
 *
 * Three paths, cheapest first. Plain greedy scans the logits. Otherwise biases and penalties are
 * applied to the few tokens they concern, the tokens that the first sampler can keep become
 * candidates (candidates.h), and the rest of the chain chooses among them. With a grammar the
 * choice is checked against it, and only when it is refused do all possible tokens become
 * candidates, the grammar is applied to them and the chain run again (llama.cpp's common_sampler
 * does the same).
 *
 * Samplers that throw or abort are kept from doing so: everything runs behind hs_cxx_guard, a token
 * reaches the grammar's accept only after the grammar allowed it, and candidates with a logit of
 * minus infinity never reach the chain (typical sampling would compare NaNs).
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_grammar.h"
#include "llama_internal.h"
#include "llama_log.h"
#include "logprobs.h"
#include "recent_tokens.h"
#include "sampler_chain.h"

#define BIAS_MAX 65536

struct hs_rt_sampler {
    const hs_rt_model *model;
    struct hs_sampler_chain chain;
    struct hs_llama_grammar *grammar; /* NULL: none */
    llama_logit_bias *biases;         /* by token */
    int32_t n_biases;
    int32_t *forced;           /* [n_forced] */
    int32_t n_forced, n_given; /* how many of them were given already */
    struct hs_recent_tokens recent;
    llama_token_data *changed; /* [n_biases + recent.cap] */
    uint32_t seed;
    bool is_plain_greedy; /* the largest logit is what the chain would choose */
};

/* ---- parameters ---- */

struct float_range {
    const char *name;
    size_t offset;
    float min, max;
};

#define FIELD(name) offsetof(struct hs_sampling, name)

static const struct float_range float_ranges[] = {
    {"temp", FIELD(temp), -FLT_MAX, 100},
    {"dynatemp_range", FIELD(dynatemp_range), 0, 100},
    {"dynatemp_exponent", FIELD(dynatemp_exponent), 0, 100},
    {"top_p", FIELD(top_p), 0, 1},
    {"min_p", FIELD(min_p), 0, 1},
    {"typical_p", FIELD(typical_p), 0, 1},
    {"top_n_sigma", FIELD(top_n_sigma), -FLT_MAX, 1000},
    {"xtc_probability", FIELD(xtc_probability), 0, 1},
    {"xtc_threshold", FIELD(xtc_threshold), 0, 1},
    {"repeat_penalty", FIELD(repeat_penalty), 0.01F, 100},
    {"frequency_penalty", FIELD(frequency_penalty), -100, 100},
    {"presence_penalty", FIELD(presence_penalty), -100, 100},
    {"dry_multiplier", FIELD(dry_multiplier), 0, 100},
    {"dry_base", FIELD(dry_base), 0, 100},
    {"mirostat_tau", FIELD(mirostat_tau), 0, 100},
    {"mirostat_eta", FIELD(mirostat_eta), 0, 10},
    {"adaptive_target", FIELD(adaptive_target), -FLT_MAX, 1},
    {"adaptive_decay", FIELD(adaptive_decay), 0, 0.99F},
};

static const struct {
    const char *name;
    size_t offset;
    int32_t min, max;
} int_ranges[] = {
    {"top_k", FIELD(top_k), INT32_MIN, INT32_MAX},
    {"repeat_last_n", FIELD(repeat_last_n), -1, INT32_MAX},
    {"dry_allowed_length", FIELD(dry_allowed_length), 0, INT32_MAX},
    {"dry_penalty_last_n", FIELD(dry_penalty_last_n), -1, INT32_MAX},
    {"n_dry_breakers", FIELD(n_dry_breakers), 0, 256},
    {"mirostat", FIELD(mirostat), 0, 2},
    {"n_logit_bias", FIELD(n_logit_bias), 0, BIAS_MAX},
    {"n_forced", FIELD(n_forced), 0, INT32_MAX},
};

static hs_status check_numbers(const struct hs_sampling *sampling, struct hs_error *err)
{
    const char *base = (const char *)sampling;
    for (size_t i = 0; i < sizeof(float_ranges) / sizeof(float_ranges[0]); i++) {
        const struct float_range *range = &float_ranges[i];
        float value;
        memcpy(&value, base + range->offset, sizeof(value));
        /* Written so that NaN fails. */
        if (!(value >= range->min && value <= range->max)) {
            return range->min == -FLT_MAX
                       ? hs_error_set(err, HS_INVALID_ARGUMENT, "%s %g is not at most %g",
                                      range->name, (double)value, (double)range->max)
                       : hs_error_set(err, HS_INVALID_ARGUMENT, "%s %g is outside [%g, %g]",
                                      range->name, (double)value, (double)range->min,
                                      (double)range->max);
        }
    }
    for (size_t i = 0; i < sizeof(int_ranges) / sizeof(int_ranges[0]); i++) {
        int32_t value;
        memcpy(&value, base + int_ranges[i].offset, sizeof(value));
        if (value < int_ranges[i].min || value > int_ranges[i].max) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "%s %d is outside [%d, %d]",
                                int_ranges[i].name, value, int_ranges[i].min, int_ranges[i].max);
        }
    }
    return HS_OK;
}

static hs_status check_biases(const struct hs_sampling *sampling, int32_t n_vocab,
                              struct hs_error *err)
{
    for (int32_t i = 0; i < sampling->n_logit_bias; i++) {
        int32_t token = sampling->logit_bias_tokens[i];
        if (token < 0 || token >= n_vocab) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "logit bias for token %d, outside the vocabulary [0, %d)", token,
                                n_vocab);
        }
        float value = sampling->logit_bias_values[i];
        if (isnan(value) || value == INFINITY) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "logit bias of token %d is neither a number nor -infinity", token);
        }
    }
    return HS_OK;
}

/* ---- new and free ---- */

static uint32_t draw_seed(void)
{
    uint32_t seed = HS_SEED_RANDOM;
    while (seed == HS_SEED_RANDOM) {
        if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
            seed = (uint32_t)hs_clock_ns() & 0x7FFFFFFFu;
        }
    }
    return seed;
}

static int compare_biases(const void *a, const void *b)
{
    const llama_logit_bias *x = a, *y = b;
    return x->token != y->token ? (x->token > y->token) - (x->token < y->token)
                                : (x->bias > y->bias) - (x->bias < y->bias);
}

/* The request's biases, the model's suppressed tokens, and every end token when it must go on. */
static hs_status make_biases(hs_rt_sampler *sampler, const struct hs_sampling *s, bool ignore_eos,
                             struct hs_error *err)
{
    const hs_rt_model *model = sampler->model;
    int32_t n_suppressed = 0;
    const llama_token *suppressed = llama_vocab_get_suppress_tokens(model->vocab, &n_suppressed);
    int32_t n_eog = ignore_eos ? model->n_eog : 0;
    int32_t n = s->n_logit_bias + n_suppressed + n_eog;
    if (n == 0) {
        return HS_OK;
    }
    sampler->biases = hs_calloc((size_t)n, sizeof(*sampler->biases));
    if (!sampler->biases) {
        return hs_error_nomem(err, "logit biases");
    }
    llama_logit_bias *to = sampler->biases;
    for (int32_t i = 0; i < s->n_logit_bias; i++) {
        *to++ = (llama_logit_bias){s->logit_bias_tokens[i], s->logit_bias_values[i]};
    }
    for (int32_t i = 0; i < n_suppressed; i++) {
        *to++ = (llama_logit_bias){suppressed[i], -INFINITY};
    }
    for (int32_t i = 0; i < n_eog; i++) {
        *to++ = (llama_logit_bias){model->eog[i], -INFINITY};
    }
    qsort(sampler->biases, (size_t)n, sizeof(*sampler->biases), compare_biases);
    sampler->n_biases = n;
    return HS_OK;
}

static hs_status copy_forced(hs_rt_sampler *sampler, const struct hs_sampling *s,
                             struct hs_error *err)
{
    int32_t n_vocab = sampler->model->n_vocab;
    if (s->n_forced > 0 && sampler->grammar != NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "an answer cannot have forced tokens and a grammar");
    }
    sampler->forced = s->n_forced > 0 ? hs_calloc((size_t)s->n_forced, sizeof(int32_t)) : NULL;
    if (s->n_forced > 0 && sampler->forced == NULL) {
        return hs_error_nomem(err, "forced tokens");
    }
    for (int32_t i = 0; i < s->n_forced; i++) {
        if (s->forced[i] < 0 || s->forced[i] >= n_vocab) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "forced token %d is outside the vocabulary [0, %d)", s->forced[i],
                                n_vocab);
        }
        sampler->forced[i] = s->forced[i];
    }
    sampler->n_forced = s->n_forced;
    return HS_OK;
}

static hs_status make_chain(hs_rt_sampler *sampler, const struct hs_sampling *s, int32_t n_ctx,
                            struct hs_error *err)
{
    struct hs_sampler_chain *chain = &sampler->chain;
    hs_status status = hs_sampler_chain_new(sampler->model, s, sampler->seed, n_ctx, chain, err);
    if (status == HS_OK) {
        status = hs_recent_tokens_init(&sampler->recent, chain->n_recent, err);
    }
    size_t n_changed = (size_t)sampler->n_biases + chain->n_recent;
    if (status == HS_OK && n_changed > 0) {
        sampler->changed = hs_calloc(n_changed, sizeof(*sampler->changed));
        status = sampler->changed ? HS_OK : hs_error_nomem(err, "changed logits");
    }
    sampler->is_plain_greedy =
        chain->keeps_largest && s->temp <= 0 && !sampler->grammar && sampler->n_biases == 0;
    return status;
}

hs_status hs_llama_sampler_new(const hs_rt_model *model, const struct hs_sampling *sampling,
                               const hs_rt_format *format, bool ignore_eos, int32_t n_ctx,
                               hs_rt_sampler **ret_sampler, struct hs_error *err)
{
    hs_status status = check_numbers(sampling, err);
    if (status == HS_OK) {
        status = check_biases(sampling, model->n_vocab, err);
    }
    if (status != HS_OK) {
        return status;
    }
    hs_rt_sampler *sampler = hs_calloc(1, sizeof(*sampler));
    if (!sampler) {
        return hs_error_nomem(err, "sampler");
    }
    sampler->model = model;
    sampler->seed = sampling->seed == HS_SEED_RANDOM ? draw_seed() : sampling->seed;
    status = hs_llama_grammar_new(model, sampling, format, &sampler->grammar, err);
    if (status == HS_OK) {
        status = copy_forced(sampler, sampling, err);
    }
    if (status == HS_OK) {
        status = make_biases(sampler, sampling, ignore_eos, err);
    }
    if (status == HS_OK) {
        status = make_chain(sampler, sampling, n_ctx, err);
    }
    if (status != HS_OK) {
        hs_llama_sampler_free(sampler);
        return status;
    }
    *ret_sampler = sampler;
    return HS_OK;
}

void hs_llama_sampler_free(hs_rt_sampler *sampler)
{
    if (!sampler) {
        return;
    }
    llama_sampler_free(sampler->chain.head);
    llama_sampler_free(sampler->chain.llama);
    hs_llama_grammar_free(sampler->grammar);
    hs_recent_tokens_free(&sampler->recent);
    hs_free(sampler->changed);
    hs_free(sampler->forced);
    hs_free(sampler->biases);
    hs_free(sampler);
}

uint32_t hs_llama_sampler_seed(const hs_rt_sampler *sampler)
{
    return sampler->seed;
}

static void accept_token(hs_rt_sampler *sampler, int32_t token)
{
    llama_sampler_accept(sampler->chain.head, token);
    llama_sampler_accept(sampler->chain.llama, token);
    hs_recent_tokens_push(&sampler->recent, token);
}

void hs_llama_sampler_accept_prompt(hs_rt_sampler *sampler, int32_t token)
{
    if (!sampler->is_plain_greedy && token >= 0 && token < sampler->model->n_vocab) {
        accept_token(sampler, token);
    }
}

/* ---- choosing ---- */

struct choice {
    hs_rt_sampler *sampler;
    const float *logits;
    llama_token_data *candidates; /* [n_vocab] scratch */
    int32_t token;                /* -1: nothing can be chosen */
    bool is_broken;               /* the logits are not numbers */
};

/* Biased and recent tokens with what biases and the head of the chain make of their logits. */
static size_t change_logits(hs_rt_sampler *sampler, const float *logits)
{
    const struct hs_recent_tokens *recent = &sampler->recent;
    llama_token_data *changed = sampler->changed;
    size_t n = 0, r = 0;
    int32_t b = 0;
    while (r < recent->n_distinct || b < sampler->n_biases) {
        bool is_recent = r < recent->n_distinct &&
                         (b == sampler->n_biases || recent->distinct[r] < sampler->biases[b].token);
        int32_t id = is_recent ? recent->distinct[r] : sampler->biases[b].token;
        float logit = logits[id];
        for (; b < sampler->n_biases && sampler->biases[b].token == id; b++) {
            logit += sampler->biases[b].bias;
        }
        r += r < recent->n_distinct && recent->distinct[r] == id;
        changed[n++] = (llama_token_data){.id = id, .logit = logit, .p = 0};
    }
    if (sampler->chain.head && n > 0) {
        llama_token_data_array array = {.data = changed, .size = n, .selected = -1};
        llama_sampler_apply(sampler->chain.head, &array);
    }
    return n;
}

static bool grammar_allows(hs_rt_sampler *sampler, int32_t token)
{
    llama_token_data one = {.id = token, .logit = 1, .p = 0};
    llama_token_data_array array = {.data = &one, .size = 1, .selected = -1, .sorted = false};
    llama_sampler_apply(hs_llama_grammar_active(sampler->grammar), &array);
    return one.logit > -INFINITY && hs_llama_grammar_is_text(sampler->grammar, token);
}

/* What the grammar forbids is as impossible as a logit of minus infinity. */
static size_t apply_grammar(hs_rt_sampler *sampler, llama_token_data *data, size_t n_data)
{
    llama_token_data_array array = {.data = data, .size = n_data, .selected = -1};
    llama_sampler_apply(hs_llama_grammar_active(sampler->grammar), &array);
    size_t n = 0;
    for (size_t i = 0; i < n_data; i++) {
        if (data[i].logit > -INFINITY && hs_llama_grammar_is_text(sampler->grammar, data[i].id)) {
            data[n++] = data[i];
        }
    }
    return n;
}

static int32_t run_chain(struct choice *choice, bool with_grammar)
{
    static const struct hs_keep all = {.kind = HS_KEEP_ALL};
    hs_rt_sampler *sampler = choice->sampler;
    struct hs_logits logits = {.values = choice->logits,
                               .n_vocab = sampler->model->n_vocab,
                               .changed = sampler->changed,
                               .n_changed = change_logits(sampler, choice->logits)};
    llama_token_data_array array = {.data = choice->candidates, .selected = -1};
    choice->is_broken = !hs_candidates_keep(&logits, with_grammar ? &all : &sampler->chain.keep,
                                            array.data, &array.size);
    if (with_grammar && !choice->is_broken) {
        array.size = apply_grammar(sampler, array.data, array.size);
    }
    if (array.size == 0 || choice->is_broken) {
        return -1;
    }
    llama_sampler_apply(sampler->chain.llama, &array);
    bool is_chosen = array.selected >= 0 && (size_t)array.selected < array.size &&
                     array.data[array.selected].logit > -INFINITY;
    return is_chosen ? array.data[array.selected].id : -1;
}

static void choose(void *arg)
{
    struct choice *choice = arg;
    hs_rt_sampler *sampler = choice->sampler;
    bool is_bound = hs_llama_grammar_active(sampler->grammar) != NULL;
    choice->token = run_chain(choice, false);
    if (is_bound && !choice->is_broken &&
        (choice->token < 0 || !grammar_allows(sampler, choice->token))) {
        choice->token = run_chain(choice, true);
    }
    /* Biases cannot have brought back what the grammar forbids, but accept would abort. */
    if (choice->token >= 0 && is_bound && !grammar_allows(sampler, choice->token)) {
        choice->token = -1;
    }
    if (choice->token >= 0) {
        hs_llama_grammar_accept(sampler->grammar, choice->token);
        accept_token(sampler, choice->token);
    }
}

hs_status hs_llama_choose(hs_rt_sampler *sampler, const float *logits, llama_token_data *scratch,
                          int32_t *ret_token, struct hs_error *err)
{
    struct choice choice = {
        .sampler = sampler, .logits = logits, .candidates = scratch, .token = -1};
    if (sampler->is_plain_greedy) {
        choice.token = hs_candidates_largest(logits, sampler->model->n_vocab);
        choice.is_broken = choice.token < 0;
    } else {
        hs_status status = hs_cxx_guard(choose, &choice, "choosing a token failed", err);
        if (status != HS_OK) {
            return status;
        }
    }
    if (choice.is_broken) {
        hs_error_set(err, HS_INTERNAL, "the model computed values that are not numbers");
        hs_error_hint(err, "the file may be damaged: check it with `hyprstream model verify`");
        return HS_INTERNAL;
    }
    if (choice.token < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "no token is left to choose: grammar and biases exclude all of them");
    }
    *ret_token = choice.token;
    return HS_OK;
}

hs_status hs_llama_sample(hs_rt_sampler *sampler, hs_rt_context *context, int32_t i,
                          int32_t n_logprobs, int32_t *ret_token,
                          struct hs_token_logprob *ret_logprobs, struct hs_error *err)
{
    const float *logits = hs_llama_logits(context, i);
    if (!logits) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "item %d of the last batch has no logits", i);
    }
    if (sampler->n_given < sampler->n_forced) {
        int32_t forced = sampler->forced[sampler->n_given++];
        hs_llama_sampler_accept_prompt(sampler, forced);
        *ret_token = forced;
        if (n_logprobs > 0) {
            hs_logprobs(logits, sampler->model->n_vocab, forced, n_logprobs, ret_logprobs);
        }
        return HS_OK;
    }
    if (!context->candidates) {
        size_t n_vocab = (size_t)sampler->model->n_vocab;
        context->candidates = hs_calloc(n_vocab, sizeof(*context->candidates));
        if (!context->candidates) {
            return hs_error_nomem(err, "candidate tokens");
        }
    }
    int32_t token = -1;
    hs_status status = hs_llama_choose(sampler, logits, context->candidates, &token, err);
    if (status != HS_OK) {
        return status;
    }
    if (n_logprobs > 0) {
        hs_logprobs(logits, sampler->model->n_vocab, token, n_logprobs, ret_logprobs);
    }
    *ret_token = token;
    return HS_OK;
}
