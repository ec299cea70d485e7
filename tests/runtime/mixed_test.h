/* mixed_test.h - random adapters of the tiny random models, and schedules of batches that use them:
 * which tokens of which sequences are decoded together. Helpers fail the running test. */
#ifndef RUNTIME_MIXED_TEST_H
#define RUNTIME_MIXED_TEST_H

#include "runtime_test.h"
#include "tiny_random.h"

/* splitmix64 */
uint64_t random_next(uint64_t *state);
int32_t random_below(uint64_t *state, int32_t n);

/* Which matrices a random adapter changes. */
enum {
    LORA_LAYERS = 1,
    LORA_SOME_LAYERS = 2,
    LORA_EMBEDDING = 4,
    LORA_OUTPUT = 8,
    LORA_NO_FFN = 16, /* of layers the attention only */
};

/* Weights of an adapter, all in one piece of memory; free_lora takes NULL. strength: what it adds,
 * in units of the model's weights. */
struct hs_lora *random_lora(int32_t rank, uint64_t seed, unsigned which, float strength);
void free_lora(struct hs_lora *lora);

hs_rt_model *load_random(const struct tiny_random_spec *spec);
/* The same model with scale[i] * loras[i] in its weights, computed in f64. */
hs_rt_model *load_merged(const struct tiny_random_spec *spec, const struct hs_lora *const *loras,
                         const float *scales, int32_t n);
hs_rt_adapter *new_adapter(const hs_rt_model *model, const struct hs_lora *lora);
hs_rt_context *new_lora_context(hs_rt_model *model, enum hs_lora_engine engine, int32_t n_threads);

#define SCHEDULE_SEQS 6
#define SCHEDULE_TOKENS 40
#define SCHEDULE_SPANS 64
#define SCHEDULE_N_CTX 512

struct schedule_span {
    int32_t batch; /* spans of one batch have the same number */
    int32_t seq, n;
};

struct schedule {
    int32_t n_seqs, n_spans;
    struct schedule_span spans[SCHEDULE_SPANS]; /* by batch */
    int32_t tokens[SCHEDULE_SEQS][SCHEDULE_TOKENS];
    struct hs_rt_adapter_set sets[SCHEDULE_SEQS];
    struct hs_rt_adapter_use uses[SCHEDULE_SEQS][3];
};

/* Prompts of several lengths, some cut in two, and single tokens, mixed at random; each sequence
 * with none to three of adapters[n], scaled. */
void random_schedule(struct schedule *schedule, const hs_rt_adapter *const *adapters, int32_t n,
                     uint64_t *state);

/*
 * Logits behind each span, f32[n_spans][n_vocab].
 * In:     only: -1: all sequences together; else this one alone, without the spans of others.
 *         is_base: without their adapters. abort_state: not NULL: some decodes are cancelled at a
 *         random node and done again.
 */
void run_schedule(hs_rt_context *context, const struct schedule *schedule, int32_t only,
                  bool is_base, uint64_t *abort_state, float *logits);
/* Each alone. */
void run_alone(hs_rt_context *context, const struct schedule *schedule, bool is_base,
               float *logits);

/* The largest difference between two logits of the same span. */
float largest_difference(const struct schedule *schedule, const float *a, const float *b);

#endif
