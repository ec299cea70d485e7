#include "sampler_chain.h"

#include <string.h>

#include "base/error.h"
#include "llama_cxx.h"

#define CHAIN_MAX 32
#define MIN_KEEP 1

struct chain_build {
    const struct hs_sampling *sampling;
    const hs_rt_model *model;
    int32_t n_ctx;
    uint32_t seed;
    bool is_adaptive; /* named in `samplers`, or a target is set */
    struct llama_sampler *head, *chain;
};

typedef struct llama_sampler *(*make_fn)(const struct chain_build *build);

/* More history than the context can hold is never seen. */
static int32_t last_n(int32_t value, int32_t n_ctx)
{
    return value < 0 || value > n_ctx ? n_ctx : value;
}

static struct llama_sampler *make_penalties(const struct chain_build *b)
{
    const struct hs_sampling *s = b->sampling;
    return llama_sampler_init_penalties(b->model->n_vocab, last_n(s->repeat_last_n, b->n_ctx),
                                        s->repeat_penalty, s->frequency_penalty,
                                        s->presence_penalty);
}

static struct llama_sampler *make_dry(const struct chain_build *b)
{
    static const char *default_breakers[] = {"\n", ":", "\"", "*"};
    const struct hs_sampling *s = b->sampling;
    const char **breakers = default_breakers;
    size_t n = sizeof(default_breakers) / sizeof(default_breakers[0]);
    if (s->dry_breakers) {
        breakers = (const char **)s->dry_breakers;
        n = (size_t)s->n_dry_breakers;
    }
    return llama_sampler_init_dry(b->model->vocab, s->dry_multiplier, s->dry_base,
                                  s->dry_allowed_length, last_n(s->dry_penalty_last_n, b->n_ctx),
                                  breakers, n);
}

static struct llama_sampler *make_top_n_sigma(const struct chain_build *b)
{
    return llama_sampler_init_top_n_sigma(b->sampling->top_n_sigma);
}

static struct llama_sampler *make_top_k(const struct chain_build *b)
{
    return llama_sampler_init_top_k(b->sampling->top_k);
}

static struct llama_sampler *make_typical(const struct chain_build *b)
{
    return llama_sampler_init_typical(b->sampling->typical_p, MIN_KEEP);
}

static struct llama_sampler *make_top_p(const struct chain_build *b)
{
    return llama_sampler_init_top_p(b->sampling->top_p, MIN_KEEP);
}

static struct llama_sampler *make_min_p(const struct chain_build *b)
{
    return llama_sampler_init_min_p(b->sampling->min_p, MIN_KEEP);
}

static struct llama_sampler *make_xtc(const struct chain_build *b)
{
    return llama_sampler_init_xtc(b->sampling->xtc_probability, b->sampling->xtc_threshold,
                                  MIN_KEEP, b->seed);
}

static struct llama_sampler *make_temperature(const struct chain_build *b)
{
    const struct hs_sampling *s = b->sampling;
    return llama_sampler_init_temp_ext(s->temp, s->dynatemp_range, s->dynatemp_exponent);
}

static struct llama_sampler *make_infill(const struct chain_build *b)
{
    return llama_sampler_init_infill(b->model->vocab);
}

/* Rows without `make` are names that a list may hold although their place is fixed: the grammar
 * comes after the chain, biases before it, adaptive_p at its end. */
static const struct chain_row {
    const char *name;
    const char *alias;
    make_fn make;
    bool is_default;
} chain_rows[] = {
    {"penalties", NULL, make_penalties, true},
    {"dry", NULL, make_dry, true},
    {"top_n_sigma", NULL, make_top_n_sigma, true},
    {"top_k", NULL, make_top_k, true},
    {"typ_p", "typical_p", make_typical, true},
    {"top_p", NULL, make_top_p, true},
    {"min_p", NULL, make_min_p, true},
    {"xtc", NULL, make_xtc, true},
    {"temperature", "temp", make_temperature, true},
    {"infill", NULL, make_infill, false},
    {"adaptive_p", NULL, NULL, false},
    {"grammar", NULL, NULL, false},
    {"logit_bias", NULL, NULL, false},
};
#define N_CHAIN_ROWS (sizeof(chain_rows) / sizeof(chain_rows[0]))

/* Names compare with '-' and '_' as the same letter. */
static bool is_name(const char *name, const char *text, size_t len)
{
    if (!name || strlen(name) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((text[i] == '-' ? '_' : text[i]) != name[i]) {
            return false;
        }
    }
    return true;
}

static const struct chain_row *find_row(const char *text, size_t len)
{
    for (size_t i = 0; i < N_CHAIN_ROWS; i++) {
        if (is_name(chain_rows[i].name, text, len) || is_name(chain_rows[i].alias, text, len)) {
            return &chain_rows[i];
        }
    }
    return NULL;
}

/* The rows of a request in order; `samplers` NULL: the default ones. */
static hs_status choose_rows(const char *samplers, const struct chain_row *rows[CHAIN_MAX],
                             int *ret_n, struct hs_error *err)
{
    int n = 0;
    for (size_t i = 0; !samplers && i < N_CHAIN_ROWS; i++) {
        if (chain_rows[i].is_default) {
            rows[n++] = &chain_rows[i];
        }
    }
    for (const char *p = samplers; p && *p;) {
        size_t len = strcspn(p, ";");
        const struct chain_row *row = find_row(p, len);
        if (len > 0 && !row) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "unknown sampler '%.*s'",
                         len > 64 ? 64 : (int)len, p);
            hs_error_hint(err, "samplers: penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;"
                               "temperature;infill;adaptive_p");
            return HS_INVALID_ARGUMENT;
        }
        if (len > 0) {
            if (n == CHAIN_MAX) {
                return hs_error_set(err, HS_INVALID_ARGUMENT, "more than %d samplers", CHAIN_MAX);
            }
            rows[n++] = row;
        }
        p += len + (p[len] == ';');
    }
    *ret_n = n;
    return HS_OK;
}

struct chain_call {
    struct chain_build build;
    const struct chain_row *rows[CHAIN_MAX];
    int n_rows;
    int n_head; /* of them in the head */
};

static bool has_rows(const struct hs_sampling *s)
{
    return s->mirostat == 0 || s->temp <= 0;
}

static bool has_penalty(const struct hs_sampling *s)
{
    return s->repeat_last_n != 0 &&
           (s->repeat_penalty != 1.0F || s->frequency_penalty != 0 || s->presence_penalty != 0);
}

static bool has_dry(const struct hs_sampling *s)
{
    return s->dry_multiplier != 0 && s->dry_base >= 1 && s->dry_penalty_last_n != 0;
}

static int count_head(const struct chain_call *call)
{
    int n = 0;
    while (n < call->n_rows &&
           (call->rows[n]->make == make_penalties || call->rows[n]->make == make_dry)) {
        n++;
    }
    return has_rows(call->build.sampling) ? n : 0;
}

/* How many of the last tokens the head looks at. */
static size_t count_recent(const struct chain_call *call)
{
    const struct hs_sampling *s = call->build.sampling;
    int32_t n = 0;
    for (int i = 0; i < call->n_head; i++) {
        bool is_dry = call->rows[i]->make == make_dry;
        int32_t n_row =
            last_n(is_dry ? s->dry_penalty_last_n : s->repeat_last_n, call->build.n_ctx);
        if (is_dry ? has_dry(s) : has_penalty(s)) {
            n = n_row > n ? n_row : n;
        }
    }
    return (size_t)n;
}

/* Rows that are switched off give the next one everything. */
static struct hs_keep choose_keep(const struct chain_call *call)
{
    const struct hs_sampling *s = call->build.sampling;
    struct hs_keep all = {.kind = HS_KEEP_ALL};
    for (int i = call->n_head; has_rows(s) && i < call->n_rows; i++) {
        make_fn make = call->rows[i]->make;
        if (make == make_top_k && s->top_k > 0) {
            return s->top_k <= HS_KEEP_TOP_K_MAX
                       ? (struct hs_keep){.kind = HS_KEEP_TOP_K, .k = s->top_k}
                       : all;
        }
        if (make == make_min_p && s->min_p > 0) {
            return (struct hs_keep){.kind = HS_KEEP_MIN_P, .min_p = s->min_p};
        }
        bool is_off = make == NULL || (make == make_top_n_sigma && s->top_n_sigma <= 0) ||
                      make == make_top_k || (make == make_typical && s->typical_p >= 1) ||
                      (make == make_top_p && s->top_p >= 1) || make == make_min_p ||
                      (make == make_xtc && s->xtc_probability <= 0);
        if (!is_off) {
            return all;
        }
    }
    return all;
}

static void add_rows(struct llama_sampler *chain, const struct chain_call *call, int first, int end)
{
    for (int i = first; i < end; i++) {
        if (call->rows[i]->make) {
            llama_sampler_chain_add(chain, call->rows[i]->make(&call->build));
        }
    }
}

static void build_chain(void *arg)
{
    struct chain_call *call = arg;
    struct chain_build *b = &call->build;
    const struct hs_sampling *s = b->sampling;
    struct llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = true;
    if (count_recent(call) > 0) {
        b->head = llama_sampler_chain_init(params);
        add_rows(b->head, call, 0, call->n_head);
    }
    b->chain = llama_sampler_chain_init(params);
    bool is_greedy = s->temp <= 0;
    if (has_rows(s)) {
        add_rows(b->chain, call, call->n_head, call->n_rows);
    } else {
        llama_sampler_chain_add(b->chain, llama_sampler_init_temp(s->temp));
    }
    struct llama_sampler *last;
    if (is_greedy) {
        last = llama_sampler_init_greedy();
    } else if (s->mirostat == 1) {
        last = llama_sampler_init_mirostat(b->model->n_vocab, b->seed, s->mirostat_tau,
                                           s->mirostat_eta, 100);
    } else if (s->mirostat == 2) {
        last = llama_sampler_init_mirostat_v2(b->seed, s->mirostat_tau, s->mirostat_eta);
    } else if (b->is_adaptive) {
        last = llama_sampler_init_adaptive_p(s->adaptive_target, s->adaptive_decay, b->seed);
    } else {
        last = llama_sampler_init_dist(b->seed);
    }
    llama_sampler_chain_add(b->chain, last);
}

/* Whether no row of the chain can prefer another token than the one with the largest logit. */
static bool keeps_largest(const struct hs_sampling *s, const struct chain_call *call)
{
    for (int i = 0; i < call->n_rows; i++) {
        make_fn make = call->rows[i]->make;
        if ((make == make_penalties && has_penalty(s)) ||
            (make == make_dry && s->dry_multiplier != 0) ||
            (make == make_typical && s->typical_p < 1) ||
            (make == make_xtc && s->xtc_probability > 0) || make == make_infill) {
            return false;
        }
    }
    return true;
}

hs_status hs_sampler_chain_new(const hs_rt_model *model, const struct hs_sampling *sampling,
                               uint32_t seed, int32_t n_ctx, struct hs_sampler_chain *ret_chain,
                               struct hs_error *err)
{
    struct chain_call call = {
        .build = {.sampling = sampling,
                  .model = model,
                  .n_ctx = n_ctx > 0 ? n_ctx : 1,
                  .seed = seed,
                  .is_adaptive = !sampling->samplers && sampling->adaptive_target >= 0}};
    hs_status status = choose_rows(sampling->samplers, call.rows, &call.n_rows, err);
    if (status != HS_OK) {
        return status;
    }
    for (int i = 0; i < call.n_rows; i++) {
        call.build.is_adaptive |= strcmp(call.rows[i]->name, "adaptive_p") == 0;
    }
    call.n_head = count_head(&call);
    status = hs_cxx_guard(build_chain, &call, "the samplers cannot be made", err);
    if (status != HS_OK) {
        llama_sampler_free(call.build.head);
        llama_sampler_free(call.build.chain);
        return status;
    }
    ret_chain->head = call.build.head;
    ret_chain->llama = call.build.chain;
    ret_chain->n_recent = count_recent(&call);
    ret_chain->keep = choose_keep(&call);
    ret_chain->keeps_largest = keeps_largest(sampling, &call);
    return HS_OK;
}
