#include "mixed_test.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define N_VOCAB TINY_GGUF_N_VOCAB

uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

int32_t random_below(uint64_t *state, int32_t n)
{
    return (int32_t)(random_next(state) % (uint64_t)n);
}

/* ---- adapters ---- */

static float *random_values(int64_t n, float scale, uint64_t *state)
{
    float *values = malloc((size_t)n * sizeof(*values));
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++) {
        values[i] = scale * (float)((int32_t)random_next(state) / 2147483648.0);
    }
    return values;
}

static void add_target(struct hs_lora *lora, const char *tensor, int32_t rank, float strength,
                       uint64_t *state)
{
    struct hs_lora_target *target = (struct hs_lora_target *)&lora->targets[lora->n_targets++];
    *target = (struct hs_lora_target){.rank = rank, .scale = 0.5f};
    snprintf(target->tensor, sizeof(target->tensor), "%s", tensor);
    target->is_embedding = strcmp(tensor, "token_embd.weight") == 0;
    int64_t n_out = 0, n_in = 0;
    assert_true(tiny_random_shape(tensor, &n_out, &n_in));
    target->n_in = target->is_embedding ? n_out : n_in;
    target->n_out = target->is_embedding ? n_in : n_out;
    float b_scale = 2 * strength * sqrtf(3.0f / (float)rank);
    const float *a = random_values(rank * target->n_in, sqrtf(3.0f / (float)n_in), state);
    const float *b = random_values(rank * target->n_out, b_scale, state);
    target->a = (struct hs_lora_matrix){HS_LORA_F32, rank, target->n_in, a, NULL};
    if (target->is_embedding) {
        target->a = (struct hs_lora_matrix){HS_LORA_F32, target->n_in, rank, a, NULL};
    }
    target->b = (struct hs_lora_matrix){HS_LORA_F32, target->n_out, rank, b, NULL};
}

struct hs_lora *random_lora(int32_t rank, uint64_t seed, unsigned which, float strength)
{
    struct hs_lora *lora = calloc(1, sizeof(*lora));
    assert_non_null(lora);
    lora->targets = calloc(TINY_RANDOM_N_LAYER * 7 + 2, sizeof(*lora->targets));
    assert_non_null(lora->targets);
    char name[64];
    for (unsigned layer = 0;
         which & (LORA_LAYERS | LORA_SOME_LAYERS) && layer < TINY_RANDOM_N_LAYER; layer++) {
        for (size_t i = 0; tiny_random_matrices[i]; i++) {
            snprintf(name, sizeof(name), "blk.%u.%s", layer, tiny_random_matrices[i]);
            if (which & LORA_NO_FFN && strstr(name, ".ffn_")) {
                continue;
            }
            if (which & LORA_LAYERS || random_below(&seed, 3) == 0) {
                add_target(lora, name, rank, strength, &seed);
            }
        }
    }
    if (which & LORA_EMBEDDING) {
        add_target(lora, "token_embd.weight", rank, strength, &seed);
    }
    if (which & LORA_OUTPUT) {
        add_target(lora, "output.weight", rank, strength, &seed);
    }
    return lora;
}

void free_lora(struct hs_lora *lora)
{
    if (lora) {
        for (int32_t i = 0; i < lora->n_targets; i++) {
            free((void *)lora->targets[i].a.data);
            free((void *)lora->targets[i].b.data);
        }
        free((void *)lora->targets);
        free(lora);
    }
}

/* ---- models ---- */

struct merge {
    const struct hs_lora *const *loras;
    const float *scales;
    int32_t n;
};

static void merge_target(const struct hs_lora_target *target, float scale, float *values)
{
    const float *a = target->a.data, *b = target->b.data;
    int64_t n_in = target->n_in, n_out = target->n_out, rank = target->rank;
    for (int64_t out = 0; out < n_out; out++) {
        for (int64_t in = 0; in < n_in; in++) {
            double sum = 0;
            for (int64_t k = 0; k < rank; k++) {
                double factor = target->is_embedding ? a[in * rank + k] : a[k * n_in + in];
                sum += factor * b[out * rank + k];
            }
            float *value = &values[target->is_embedding ? in * n_out + out : out * n_in + in];
            *value = (float)(*value + (double)scale * target->scale * sum);
        }
    }
}

static void merge(const char *tensor, float *values, int64_t n_out, int64_t n_in, void *user)
{
    (void)n_out;
    (void)n_in;
    const struct merge *merge = user;
    for (int32_t i = 0; i < merge->n; i++) {
        for (int32_t k = 0; k < merge->loras[i]->n_targets; k++) {
            if (strcmp(merge->loras[i]->targets[k].tensor, tensor) == 0) {
                merge_target(&merge->loras[i]->targets[k], merge->scales[i], values);
            }
        }
    }
}

hs_rt_model *load_random(const struct tiny_random_spec *spec)
{
    char *path = temp_path(".gguf");
    assert_true(tiny_random_write(spec, path));
    hs_rt_model *model = load(path);
    unlink(path);
    free(path);
    return model;
}

hs_rt_model *load_merged(const struct tiny_random_spec *spec, const struct hs_lora *const *loras,
                         const float *scales, int32_t n)
{
    struct merge user = {loras, scales, n};
    struct tiny_random_spec merged = *spec;
    merged.change = merge;
    merged.change_user = &user;
    return load_random(&merged);
}

hs_rt_adapter *new_adapter(const hs_rt_model *model, const struct hs_lora *lora)
{
    struct hs_error err = {0};
    hs_rt_adapter *adapter = NULL;
    OK(rt->adapter_new(model, lora, &adapter, &err));
    return adapter;
}

hs_rt_context *new_lora_context(hs_rt_model *model, enum hs_lora_engine engine, int32_t n_threads)
{
    struct hs_error err = {0};
    struct hs_rt_context_params params = context_params(SCHEDULE_N_CTX, SCHEDULE_SEQS);
    params.has_adapters = true;
    params.lora_engine = engine;
    params.n_threads = params.n_threads_batch = n_threads;
    hs_rt_context *context = NULL;
    OK(rt->context_new(model, &params, &context, &err));
    return context;
}

/* ---- schedules ---- */

static void random_set(struct schedule *schedule, int32_t seq, const hs_rt_adapter *const *adapters,
                       int32_t n, uint64_t *state)
{
    struct hs_rt_adapter_set *set = &schedule->sets[seq];
    *set = (struct hs_rt_adapter_set){schedule->uses[seq], random_below(state, 4)};
    int32_t first = random_below(state, n);
    for (int32_t i = 0; i < set->n; i++) {
        static const float scales[] = {1, 1, 0.5f, -0.75f, 1.5f};
        schedule->uses[seq][i] =
            (struct hs_rt_adapter_use){adapters[(first + i) % n], scales[random_below(state, 5)]};
    }
}

void random_schedule(struct schedule *schedule, const hs_rt_adapter *const *adapters, int32_t n,
                     uint64_t *state)
{
    int32_t n_done[SCHEDULE_SEQS] = {0}, n_left[SCHEDULE_SEQS];
    *schedule = (struct schedule){.n_seqs = 2 + random_below(state, SCHEDULE_SEQS - 1)};
    for (int32_t s = 0; s < schedule->n_seqs; s++) {
        random_set(schedule, s, adapters, n, state);
        n_left[s] = 2 + random_below(state, 4); /* spans */
        for (int32_t i = 0; i < SCHEDULE_TOKENS; i++) {
            schedule->tokens[s][i] = random_below(state, N_VOCAB);
        }
    }
    for (int32_t batch = 0; batch < 8; batch++) {
        for (int32_t s = 0; s < schedule->n_seqs && schedule->n_spans < SCHEDULE_SPANS; s++) {
            if (n_left[s] == 0 || random_below(state, 4) == 0) {
                continue;
            }
            int32_t span =
                n_done[s] == 0 || random_below(state, 4) == 0 ? 1 + random_below(state, 14) : 1;
            span = span < SCHEDULE_TOKENS - n_done[s] ? span : 1;
            n_done[s] += span;
            n_left[s] -= 1;
            schedule->spans[schedule->n_spans++] = (struct schedule_span){batch, s, span};
        }
    }
}

struct countdown {
    int32_t n;
};

static bool count_down(void *user)
{
    struct countdown *countdown = user;
    return countdown->n-- <= 0;
}

static int32_t add_items(const struct schedule *schedule, int32_t seq, int32_t as_seq,
                         int32_t first, int32_t n, bool is_base, struct hs_rt_batch_item *items)
{
    for (int32_t i = 0; i < n; i++) {
        items[i] = (struct hs_rt_batch_item){.token = schedule->tokens[seq][first + i],
                                             .pos = first + i,
                                             .seq = as_seq,
                                             .want_logits = i + 1 == n,
                                             .adapters = is_base ? NULL : &schedule->sets[seq]};
    }
    return n;
}

/* A cancelled batch is gone; where it took a window with it, the sequence is fed again. */
static void cancel_once(hs_rt_context *context, const struct schedule *schedule, bool is_base,
                        const struct hs_rt_batch_item *items, int32_t n_items,
                        const int32_t *n_done, uint64_t *state)
{
    struct hs_error err = {0};
    enum hs_rt_decode outcome;
    struct countdown countdown = {random_below(state, 120)};
    rt->set_abort(context, count_down, &countdown);
    OK(rt->decode(context, items, n_items, &outcome, &err));
    rt->set_abort(context, NULL, NULL);
    for (int32_t i = 0; i < n_items; i++) {
        int32_t seq = items[i].seq;
        if (i > 0 && items[i - 1].seq == seq) {
            continue;
        }
        if (outcome == HS_RT_DECODE_OK) {
            rt->kv_remove(context, seq, -1, -1);
        }
        if (n_done[seq] > 0 && rt->kv_pos_max(context, seq) < n_done[seq] - 1) {
            struct hs_rt_batch_item again[SCHEDULE_TOKENS];
            int32_t n = add_items(schedule, seq, seq, 0, n_done[seq], is_base, again);
            rt->kv_remove(context, seq, -1, -1);
            OK(rt->decode(context, again, n, &outcome, &err));
            assert_int_equal(outcome, HS_RT_DECODE_OK);
        }
    }
}

void run_schedule(hs_rt_context *context, const struct schedule *schedule, int32_t only,
                  bool is_base, uint64_t *abort_state, float *logits)
{
    struct hs_error err = {0};
    int32_t n_done[SCHEDULE_SEQS] = {0};
    rt->kv_clear(context);
    for (int32_t at = 0; at < schedule->n_spans;) {
        struct hs_rt_batch_item items[SCHEDULE_SEQS * SCHEDULE_TOKENS];
        int32_t last[SCHEDULE_SPANS], n = 0, end = at;
        for (; end < schedule->n_spans && schedule->spans[end].batch == schedule->spans[at].batch;
             end++) {
            const struct schedule_span *span = &schedule->spans[end];
            if (only < 0 || only == span->seq) {
                n += add_items(schedule, span->seq, only < 0 ? span->seq : 0, n_done[span->seq],
                               span->n, is_base, items + n);
            }
            last[end] = n - 1;
        }
        if (abort_state && n > 0 && random_below(abort_state, 5) == 0) {
            cancel_once(context, schedule, is_base, items, n, n_done, abort_state);
        }
        enum hs_rt_decode outcome = HS_RT_DECODE_OK;
        if (n > 0) {
            OK(rt->decode(context, items, n, &outcome, &err));
        }
        assert_int_equal(outcome, HS_RT_DECODE_OK);
        for (; at < end; at++) {
            const struct schedule_span *span = &schedule->spans[at];
            n_done[span->seq] += span->n;
            if (only < 0 || only == span->seq) {
                memcpy(logits + (size_t)at * N_VOCAB, rt->logits(context, last[at]),
                       N_VOCAB * sizeof(*logits));
            }
        }
    }
}

void run_alone(hs_rt_context *context, const struct schedule *schedule, bool is_base, float *logits)
{
    for (int32_t s = 0; s < schedule->n_seqs; s++) {
        run_schedule(context, schedule, s, is_base, NULL, logits);
    }
}

float largest_difference(const struct schedule *schedule, const float *a, const float *b)
{
    float largest = 0;
    for (size_t i = 0; i < (size_t)schedule->n_spans * N_VOCAB; i++) {
        float difference = fabsf(a[i] - b[i]);
        largest = difference > largest || isnan(difference) ? difference : largest;
    }
    return largest;
}
