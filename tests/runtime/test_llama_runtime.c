/*
 * The demo model through our table gives exactly what a plain llama.h loop gives: same prompt
 * tokens, same greedy answer, token by token; also when five sequences run in one batch.
 */
#include "runtime_test.h"

#include <stdio.h>

#include "llama.h"

enum { N_PROMPTS = 5, N_OUT = 48, N_TOKENS_MAX = 256 };

static const char *const prompts[N_PROMPTS] = {
    "Hello",
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "List three prime numbers.",
    "Explain in one sentence why the sky is blue.",
};

struct answer {
    int32_t prompt[N_TOKENS_MAX];
    int32_t n_prompt;
    int32_t tokens[N_OUT];
    int32_t n_tokens;
};

static hs_rt_model *demo;
static struct answer reference[N_PROMPTS];

static int32_t largest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* Nothing of ours: the loop of llama.cpp's simple example. */
static void plain_loop(struct llama_model *model, const char *user, struct answer *ret)
{
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    char text[1024];
    snprintf(text, sizeof(text),
             "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
             "Face<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
             user);
    ret->n_prompt =
        llama_tokenize(vocab, text, (int32_t)strlen(text), ret->prompt, N_TOKENS_MAX, true, true);
    assert_true(ret->n_prompt > 0);
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_threads = 1;
    params.n_threads_batch = 1;
    struct llama_context *context = llama_init_from_model(model, params);
    assert_non_null(context);
    struct llama_batch batch = llama_batch_get_one(ret->prompt, ret->n_prompt);
    ret->n_tokens = 0;
    for (int32_t token = -1; ret->n_tokens < N_OUT; batch = llama_batch_get_one(&token, 1)) {
        assert_int_equal(llama_decode(context, batch), 0);
        token = largest(llama_get_logits_ith(context, -1), llama_vocab_n_tokens(vocab));
        ret->tokens[ret->n_tokens++] = token;
        if (llama_vocab_is_eog(vocab, token)) {
            break;
        }
    }
    llama_free(context);
}

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    struct llama_model *model =
        llama_model_load_from_file(HS_DEMO_MODEL, llama_model_default_params());
    if (!model) {
        print_error("the demo model '%s' is not there\n", HS_DEMO_MODEL);
        return -1;
    }
    for (int i = 0; i < N_PROMPTS; i++) {
        plain_loop(model, prompts[i], &reference[i]);
    }
    llama_model_free(model);
    demo = load(HS_DEMO_MODEL);
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(demo);
    return stop_runtime(state);
}

static struct hs_buf prompt_tokens(const char *user)
{
    struct hs_error err = {0};
    struct hs_message message = {.role = "user", .content = user};
    struct hs_rt_template_params params = {
        .messages = &message, .n_messages = 1, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 16);
    OK(rt->render(demo, &params, &text, &reasoning, &err));
    assert_string_equal(reasoning.start_tag, "");
    return tokens_of(demo, text.data, false, true);
}

static void test_rendered_prompt_has_the_same_tokens(void **state)
{
    (void)state;
    for (int i = 0; i < N_PROMPTS; i++) {
        struct hs_buf tokens = prompt_tokens(prompts[i]);
        assert_int_equal(n_tokens_of(&tokens), reference[i].n_prompt);
        assert_memory_equal(token_at(&tokens), reference[i].prompt, tokens.len);
        hs_buf_free(&tokens);
    }
}

static void test_greedy_answers_one_by_one(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(demo, 512, 1);
    struct hs_sampling sampling = sampling_off();
    for (int i = 0; i < N_PROMPTS; i++) {
        hs_rt_sampler *sampler = new_sampler(demo, &sampling);
        int32_t out[N_OUT];
        int32_t n = generate(context, demo, sampler, 0, 0, reference[i].prompt,
                             reference[i].n_prompt, out, N_OUT);
        assert_int_equal(n, reference[i].n_tokens);
        assert_memory_equal(out, reference[i].tokens, (size_t)n * sizeof(*out));
        rt->sampler_free(sampler);
        rt->kv_clear(context);
    }
    rt->context_free(context);
}

/*
 * All prompts in one batch, then one token of each sequence per step. llama.cpp's kernels round
 * differently for rows at different places of a batch, and this 4-bit model amplifies that: the
 * same prompt at two places of a batch gave logits 0.3 apart in the mean and 1.24 at most (plain
 * llama.h does the same). So the other one of two likely tokens may win; the test demands that such
 * a tie is within that noise and rare, and goes on with the reference's token. That sequences do
 * not see each other is proved exactly in test_llama_context.c.
 */
#define NEAR_TIE 1.5F
#define TIES_MAX (N_PROMPTS * N_OUT / 10)
static void test_greedy_answers_side_by_side(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_context *context = new_context(demo, 1024, N_PROMPTS);
    struct hs_sampling sampling = sampling_off();
    hs_rt_sampler *sampler = new_sampler(demo, &sampling);
    struct hs_rt_batch_item items[512];
    int32_t last_item[N_PROMPTS];
    int32_t n_items = 0;
    for (int s = 0; s < N_PROMPTS; s++) {
        for (int32_t i = 0; i < reference[s].n_prompt; i++) {
            last_item[s] = n_items;
            items[n_items++] = (struct hs_rt_batch_item){reference[s].prompt[i], i, s,
                                                         i == reference[s].n_prompt - 1, NULL};
        }
    }
    int32_t n_done[N_PROMPTS] = {0};
    int n_ties = 0;
    while (n_items > 0) {
        enum hs_rt_decode outcome;
        OK(rt->decode(context, items, n_items, &outcome, &err));
        assert_int_equal(outcome, HS_RT_DECODE_OK);
        n_items = 0;
        for (int s = 0; s < N_PROMPTS; s++) {
            if (n_done[s] == reference[s].n_tokens) {
                continue;
            }
            int32_t token = -1;
            OK(rt->sample(sampler, context, last_item[s], 0, &token, NULL, &err));
            int32_t wanted = reference[s].tokens[n_done[s]];
            const float *logits = rt->logits(context, last_item[s]);
            if (token != wanted) {
                n_ties++;
                print_message("sequence %d, token %d: %d is %.4f above %d\n", s, n_done[s], token,
                              (double)(logits[token] - logits[wanted]), wanted);
                assert_true(logits[token] - logits[wanted] < NEAR_TIE);
            }
            if (++n_done[s] < reference[s].n_tokens) {
                last_item[s] = n_items;
                items[n_items++] = (struct hs_rt_batch_item){
                    wanted, reference[s].n_prompt + n_done[s] - 1, s, true, NULL};
            }
        }
    }
    assert_true(n_ties <= TIES_MAX);
    rt->sampler_free(sampler);
    rt->context_free(context);
}

/* A state saved in the middle goes on with the same tokens in a new context. */
static void test_saved_state_goes_on(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_sampling sampling = sampling_off();
    const struct answer *ref = &reference[1];
    hs_rt_context *context = new_context(demo, 512, 2);
    feed(context, 0, 0, ref->prompt, ref->n_prompt);
    size_t size = rt->state_size(context, 0, HS_RT_STATE_WHOLE);
    uint8_t *data = malloc(size);
    assert_non_null(data);
    size_t written = 0;
    OK(rt->state_save(context, 0, HS_RT_STATE_WHOLE, data, size, &written, &err));
    rt->context_free(context);
    context = new_context(demo, 512, 2);
    OK(rt->state_load(context, 1, HS_RT_STATE_WHOLE, data, written, &err));
    hs_rt_sampler *sampler = new_sampler(demo, &sampling);
    int32_t out[N_OUT];
    int32_t n =
        generate(context, demo, sampler, 1, ref->n_prompt, ref->tokens, 1, out, ref->n_tokens - 1);
    assert_int_equal(n, ref->n_tokens - 1);
    assert_memory_equal(out, &ref->tokens[1], (size_t)n * sizeof(*out));
    rt->sampler_free(sampler);
    rt->context_free(context);
    free(data);
}

/* With a shift the conversation goes on: positions move, and the model still answers in words. */
static void test_context_shift_on_the_demo_model(void **state)
{
    (void)state;
    const struct answer *ref = &reference[0];
    hs_rt_context *context = new_context(demo, 512, 1);
    struct hs_sampling sampling = sampling_off();
    feed(context, 0, 0, ref->prompt, ref->n_prompt);
    /* Cut ten tokens out of the system message and close the gap. */
    assert_true(rt->kv_remove(context, 0, 4, 14));
    assert_true(rt->kv_shift(context, 0, 14, -1, -10));
    assert_int_equal(rt->kv_pos_max(context, 0), ref->n_prompt - 11);
    hs_rt_sampler *sampler = new_sampler(demo, &sampling);
    int32_t out[4];
    int32_t n = generate(context, demo, sampler, 0, ref->n_prompt - 10, ref->tokens, 1, out, 4);
    assert_true(n > 0);
    rt->sampler_free(sampler);
    rt->context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rendered_prompt_has_the_same_tokens),
        cmocka_unit_test(test_greedy_answers_one_by_one),
        cmocka_unit_test(test_greedy_answers_side_by_side),
        cmocka_unit_test(test_saved_state_goes_on),
        cmocka_unit_test(test_context_shift_on_the_demo_model),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
