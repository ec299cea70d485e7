/*
 * Greedy answers of the demo model against a plain loop over llama.h, which evaluates the prompt in
 * one call and then token by token, alone in its context.
 *
 * How texts are compared: floating-point sums depend on how many rows are computed at once, so two
 * tokens whose logits nearly tie may change places when the batch is laid out differently. One by
 * one and without reuse the engine makes the same calls as the loop: then texts must be identical.
 * With reuse or side by side they must be identical, or at the first differing token the loop's own
 * logits of the two candidates must lie within epsilon. Epsilon is measured, not chosen: twice the
 * largest change of the lead of the best token over the next seven when the loop evaluates the same
 * prompts in pieces and several of them in one batch.
 * Such cases are llama.cpp's own: a plain loop that evaluates the same 20 prompts in one batch
 * parts from the one-by-one loop too. How often it does is counted in the same run; side by side
 * the engine may part as often and SLACK times more, as its batches are laid out differently again.
 * Reuse only cuts a prompt in two, one request at a time: half as often, and SLACK.
 */
#include "engine_test.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "llama.h"

#define N_PROMPTS 20
#define N_OUT 24
#define N_CTX 4096
#define N_BESIDE 5 /* prompts in one batch when noise is measured */
#define SLACK 4    /* as many answers may part beyond those of the plain loop in one batch */

static const char *const questions[N_PROMPTS] = {
    "Hello",
    "What is the capital of France?",
    "Name three colours.",
    "Write one sentence about the sea.",
    "What is 2 + 2?",
    "Translate 'good morning' into Spanish.",
    "Who wrote Hamlet?",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "List the days of the week.",
    "What is a prime number?",
    "Tell me a joke about cats.",
    "How do bees make honey?",
    "What is the largest planet in our solar system? Answer with its name, and then explain at "
    "some length how we know, who measured it first, and with what kind of instrument.",
    "Summarise in one sentence: The quick brown fox jumps over the lazy dog, and then it sleeps.",
    "What comes after Monday?",
    "Write a haiku about rain.",
    "Explain what a computer is to a child.",
    "How many legs has a spider?",
    "Goodbye",
};

struct reference {
    int32_t *prompt;
    size_t n_prompt;
    int32_t out[N_OUT];
    size_t n_out;
    float *logits; /* [n_out][n_vocab], at the choice of each */
    char *text;
};

static hs_engine *engine;
static struct llama_model *model;
static struct llama_context *context;
static int32_t n_vocab;
static struct reference references[N_PROMPTS];
static float epsilon;
static int n_plain_ties; /* answers of the plain loop that part when it takes all at once */
static struct hs_error err;

/* ---- the plain loop ---- */

static void decode(const int32_t *tokens, size_t n, size_t pos)
{
    struct llama_batch batch = llama_batch_init((int32_t)n, 0, 1);
    for (size_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = (int32_t)(pos + i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = i == n - 1;
    }
    batch.n_tokens = (int32_t)n;
    assert_int_equal(llama_decode(context, batch), 0);
    llama_batch_free(batch);
}

/* The best token that is not among others[n]. */
static int32_t best_but(const float *logits, const int32_t *others, int n)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n_vocab; i++) {
        bool is_other = false;
        for (int k = 0; k < n; k++) {
            is_other |= others[k] == i;
        }
        if (!is_other && (best < 0 || logits[i] > logits[best])) {
            best = i;
        }
    }
    return best;
}

/* The best token that ends an answer. */
static int32_t best_end(const float *logits)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n_vocab; i++) {
        bool is_end = llama_vocab_is_eog(llama_model_get_vocab(model), i);
        if (is_end && (best < 0 || logits[i] > logits[best])) {
            best = i;
        }
    }
    return best;
}

static void run_reference(struct reference *reference)
{
    llama_memory_clear(llama_get_memory(context), true);
    decode(reference->prompt, reference->n_prompt, 0);
    for (size_t i = 0; i < N_OUT; i++) {
        const float *logits = llama_get_logits_ith(context, -1);
        memcpy(reference->logits + i * (size_t)n_vocab, logits, (size_t)n_vocab * sizeof(float));
        int32_t token = best_but(logits, NULL, 0);
        reference->out[reference->n_out++] = token;
        if (llama_vocab_is_eog(llama_model_get_vocab(model), token)) {
            break;
        }
        decode(&token, 1, reference->n_prompt + i);
    }
    size_t n_text = reference->n_out;
    if (llama_vocab_is_eog(llama_model_get_vocab(model), reference->out[n_text - 1])) {
        n_text--;
    }
    size_t len = 0;
    assert_int_equal(hs_engine_detokenize(engine, "m", reference->out, n_text, false,
                                          &reference->text, &len, &err),
                     HS_OK);
}

/* Twice the largest change of a lead among the best tokens is what a tie may be apart. */
#define N_BEST 8
static void widen_epsilon(const struct reference *reference, const float *logits)
{
    int32_t best[N_BEST];
    for (int k = 0; k < N_BEST; k++) {
        best[k] = best_but(reference->logits, best, k);
        float lead = reference->logits[best[0]] - reference->logits[best[k]];
        float difference = fabsf(logits[best[0]] - logits[best[k]] - lead);
        epsilon = difference * 2 > epsilon ? difference * 2 : epsilon;
    }
}

static void measure_in_pieces(const struct reference *reference, size_t piece)
{
    llama_memory_clear(llama_get_memory(context), true);
    for (size_t pos = 0; pos < reference->n_prompt; pos += piece) {
        size_t n = reference->n_prompt - pos < piece ? reference->n_prompt - pos : piece;
        decode(reference->prompt + pos, n, pos);
    }
    widen_epsilon(reference, llama_get_logits_ith(context, -1));
}

static void batch_add(struct llama_batch *batch, int32_t token, size_t pos, int32_t seq,
                      bool is_last)
{
    int32_t k = batch->n_tokens++;
    batch->token[k] = token;
    batch->pos[k] = (int32_t)pos;
    batch->n_seq_id[k] = 1;
    batch->seq_id[k][0] = seq;
    batch->logits[k] = is_last;
}

/* Prompts first, first + stride ... in one batch, a sequence each. */
static void measure_side_by_side(int first, int stride)
{
    int32_t last[N_BESIDE];
    llama_memory_clear(llama_get_memory(context), true);
    struct llama_batch batch = llama_batch_init(N_CTX, 0, 1);
    for (int s = 0; s < N_BESIDE; s++) {
        const struct reference *reference = &references[(first + s * stride) % N_PROMPTS];
        for (size_t i = 0; i < reference->n_prompt; i++) {
            batch_add(&batch, reference->prompt[i], i, s, i == reference->n_prompt - 1);
        }
        last[s] = batch.n_tokens - 1;
    }
    assert_int_equal(llama_decode(context, batch), 0);
    for (int s = 0; s < N_BESIDE; s++) {
        widen_epsilon(&references[(first + s * stride) % N_PROMPTS],
                      llama_get_logits_ith(context, last[s]));
    }
    llama_batch_free(batch);
}

/* All prompts at once, greedily, as long as each keeps to its own answer. */
static int count_plain_ties(void)
{
    int n_ties = 0;
    int32_t place[N_PROMPTS]; /* in the batch, of the logits wanted; -1: done */
    llama_memory_clear(llama_get_memory(context), true);
    struct llama_batch batch = llama_batch_init(N_CTX, 0, 1);
    for (int s = 0; s < N_PROMPTS; s++) {
        for (size_t i = 0; i < references[s].n_prompt; i++) {
            batch_add(&batch, references[s].prompt[i], i, s, i == references[s].n_prompt - 1);
        }
        place[s] = batch.n_tokens - 1;
    }
    for (size_t k = 0; batch.n_tokens > 0; k++) {
        assert_int_equal(llama_decode(context, batch), 0);
        batch.n_tokens = 0;
        for (int s = 0; s < N_PROMPTS; s++) {
            const struct reference *reference = &references[s];
            if (place[s] < 0) {
                continue;
            }
            int32_t token = best_but(llama_get_logits_ith(context, place[s]), NULL, 0);
            bool is_tie = token != reference->out[k];
            n_ties += is_tie;
            place[s] = -1;
            if (!is_tie && k + 1 < reference->n_out) {
                place[s] = batch.n_tokens;
                batch_add(&batch, token, reference->n_prompt + k, s, true);
            }
        }
    }
    llama_batch_free(batch);
    return n_ties;
}

static void make_prompt(struct reference *reference, const char *question)
{
    struct hs_message message = {.role = "user", .content = question};
    char *text = NULL;
    size_t len = 0;
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    assert_int_equal(hs_engine_render(engine, "m", &message, 1, &params, &text, &len, &err), HS_OK);
    assert_int_equal(hs_engine_tokenize(engine, "m", text, len, false, true, &reference->prompt,
                                        &reference->n_prompt, &err),
                     HS_OK);
    hs_text_free(text);
    reference->logits = hs_alloc((size_t)N_OUT * (size_t)n_vocab * sizeof(float));
    assert_non_null(reference->logits);
}

static int setup(void **state)
{
    (void)state;
    if (access(HS_DEMO_MODEL, R_OK) != 0) {
        return 0;
    }
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_ctx = N_CTX;
    params.n_seq_max = 32;
    params.n_gpu_layers = 0;
    params.n_threads = 1; /* threads that wait for each other crawl on a busy machine */
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_create(NULL, &engine, &err), HS_OK);
    assert_int_equal(hs_engine_load_model(engine, HS_DEMO_MODEL, "m", &params, id, &err), HS_OK);
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model = llama_model_load_from_file(HS_DEMO_MODEL, model_params);
    assert_non_null(model);
    n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = N_CTX;
    context_params.n_batch = 2048;
    context_params.n_ubatch = 512;
    context_params.n_seq_max = N_PROMPTS;
    context_params.kv_unified = true;
    context_params.n_threads = 1;
    context_params.n_threads_batch = 1;
    context = llama_init_from_model(model, context_params);
    assert_non_null(context);
    for (int i = 0; i < N_PROMPTS; i++) {
        make_prompt(&references[i], questions[i]);
        run_reference(&references[i]);
        if (i % 5 == 0) {
            measure_in_pieces(&references[i], 1);
            measure_in_pieces(&references[i], 7);
        }
    }
    for (int i = 0; i < N_PROMPTS; i += N_BESIDE) {
        measure_side_by_side(i, 1);
        measure_side_by_side(i / N_BESIDE, N_PROMPTS / N_BESIDE);
    }
    n_plain_ties = count_plain_ties();
    print_message("epsilon measured: %g; the plain loop parts %d times of %d\n", (double)epsilon,
                  n_plain_ties, N_PROMPTS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < N_PROMPTS; i++) {
        hs_tokens_free(references[i].prompt);
        hs_text_free(references[i].text);
        hs_free(references[i].logits);
    }
    hs_engine_free(engine);
    llama_free(context);
    llama_model_free(model);
    return 0;
}

/* ---- the engine beside it ---- */

struct result {
    int32_t out[N_OUT];
    size_t n_out;
    char text[4096];
    int32_t cached_tokens;
    bool has_ended; /* with a token that ends the answer, which no event tells */
};

static hs_stream *ask(const char *question, bool cache_prompt)
{
    struct hs_generate_params params = test_params(N_OUT);
    params.cache_prompt = cache_prompt;
    params.n_logprobs = 1; /* tells the tokens */
    struct hs_message message = {.role = "user", .content = question};
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &message, 1, &params, &stream, &err),
                     HS_OK);
    return stream;
}

static void read_result(hs_stream *stream, struct result *result)
{
    memset(result, 0, sizeof(*result));
    struct hs_event event;
    size_t len = 0;
    for (;;) {
        assert_int_equal(hs_stream_next(stream, 300000, &event, &err), HS_OK);
        if (event.type == HS_EVENT_DONE) {
            break;
        }
        for (int32_t i = 0; i < event.n_tokens; i++) {
            result->out[result->n_out++] = event.logprobs[i * 2].token;
        }
        memcpy(result->text + len, event.text, event.text_len + 1);
        len += event.text_len;
    }
    assert_int_not_equal(event.finish, HS_FINISH_ERROR);
    result->has_ended = event.finish == HS_FINISH_STOP;
    result->cached_tokens = event.usage.cached_tokens;
    hs_stream_free(stream);
}

/* true: identical; false: they part at a tie within epsilon. */
static bool compare(const struct reference *reference, const struct result *result, int i)
{
    if (strcmp(reference->text, result->text) == 0) {
        return true;
    }
    size_t k = 0;
    while (k < reference->n_out && k < result->n_out && reference->out[k] == result->out[k]) {
        k++;
    }
    assert_true(k < reference->n_out && (k < result->n_out || result->has_ended));
    const float *logits = reference->logits + k * (size_t)n_vocab;
    int32_t choice = k < result->n_out ? result->out[k] : best_end(logits);
    float gap = logits[reference->out[k]] - logits[choice];
    print_message("prompt %d parts at token %zu: %d and %d, %g apart\n", i, k, reference->out[k],
                  choice, (double)gap);
    assert_true(gap <= epsilon);
    return false;
}

static void skip_without_model(void)
{
    if (engine == NULL) {
        print_message("the demo model is not there: skipped\n");
        skip();
    }
}

static void one_by_one_texts_are_identical(void **state)
{
    (void)state;
    skip_without_model();
    for (int i = 0; i < N_PROMPTS; i++) {
        struct result result;
        read_result(ask(questions[i], false), &result);
        assert_int_equal(result.cached_tokens, 0);
        assert_string_equal(result.text, references[i].text);
    }
}

static void reuse_changes_nothing_but_near_ties(void **state)
{
    (void)state;
    skip_without_model();
    int n_ties = 0;
    int n_cached = 0;
    for (int i = 0; i < N_PROMPTS; i++) {
        struct result result;
        read_result(ask(questions[i], true), &result);
        n_ties += !compare(&references[i], &result, i);
        n_cached += result.cached_tokens > 0;
    }
    print_message("with reuse: %d of %d part at a near-tie\n", n_ties, N_PROMPTS);
    assert_int_equal(n_cached, N_PROMPTS - 1);
    assert_in_range(n_ties, 0, n_plain_ties / 2 + SLACK);
}

static void side_by_side_changes_nothing_but_near_ties(void **state)
{
    (void)state;
    skip_without_model();
    hs_stream *streams[N_PROMPTS];
    for (int i = 0; i < N_PROMPTS; i++) {
        streams[i] = ask(questions[i], false);
    }
    int n_ties = 0;
    for (int i = 0; i < N_PROMPTS; i++) {
        struct result result;
        read_result(streams[i], &result);
        n_ties += !compare(&references[i], &result, i);
    }
    print_message("side by side: %d of %d part at a near-tie\n", n_ties, N_PROMPTS);
    assert_in_range(n_ties, 0, n_plain_ties + SLACK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_by_one_texts_are_identical),
        cmocka_unit_test(reuse_changes_nothing_but_near_ties),
        cmocka_unit_test(side_by_side_changes_nothing_but_near_ties),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
