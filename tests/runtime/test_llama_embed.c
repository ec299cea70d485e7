/* Tests of llama_embed.c: embeddings of tiny models whose hidden states are known. */
#include "runtime_test.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "tiny_bert.h"

#define N_BATCH 32
#define MAX_TOKENS 300

static uint32_t pooling_key; /* of the model to be written; 0: none */

static void put_pooling(struct gguf_writer *out, void *arch)
{
    char key[64];
    snprintf(key, sizeof key, "%s.pooling_type", (const char *)arch);
    if (pooling_key != 0) {
        gguf_writer_u32(out, key, pooling_key);
    }
}

static struct tiny_gguf_spec spec_of(enum tiny_gguf_kind kind, enum tiny_gguf_arch arch,
                                     const char *name, uint32_t pooling)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.kind = kind;
    spec.arch = arch;
    spec.extra = put_pooling;
    spec.extra_user = (void *)name;
    pooling_key = pooling;
    return spec;
}

static struct hs_rt_embedder embedder_of(hs_rt_model *model, int32_t n_ctx, int32_t n_ubatch,
                                         int32_t n_seq_max)
{
    struct hs_error err = {0};
    struct hs_rt_context_params params = context_params(n_ctx, n_seq_max);
    params.n_ubatch = n_ubatch;
    struct hs_rt_embedder embedder;
    OK(rt->embedder_new(model, &params, &embedder, &err));
    return embedder;
}

/* Compute tokens[n] of one sequence in calls of at most `chunk`. */
static void embed(const struct hs_rt_embedder *embedder, int32_t seq, const int32_t *tokens,
                  int32_t n, int32_t chunk, float *values)
{
    struct hs_error err = {0};
    struct hs_rt_batch_item items[MAX_TOKENS];
    for (int32_t done = 0; done < n; done += chunk) {
        int32_t here = n - done < chunk ? n - done : chunk;
        for (int32_t i = 0; i < here; i++) {
            items[i] =
                (struct hs_rt_batch_item){.token = tokens[done + i], .pos = done + i, .seq = seq};
        }
        enum hs_rt_decode outcome = HS_RT_DECODE_ABORTED;
        OK(rt->embed(embedder->context, items, here, &outcome, &err));
        assert_int_equal(outcome, HS_RT_DECODE_OK);
    }
    rt->embed_take(embedder->context, seq, values);
}

static void make_tokens(int32_t *tokens, int32_t n, int32_t step)
{
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = i == 0 ? TINY_GGUF_BOS : TINY_GGUF_ANSWER0 + (i * step) % TINY_GGUF_N_ANSWERS;
    }
}

static void expect_near(const float *values, const double *want, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++) {
        if (fabs((double)values[i] - want[i]) > tolerance) {
            fail_msg("value %zu is %g, not %g", i, (double)values[i], want[i]);
        }
    }
}

/* In BIGRAM a position's hidden state is the code word of the token that comes next. */
static void bigram_pooled_by_formula(void **state)
{
    (void)state;
    static const enum hs_rt_pooling poolings[] = {HS_RT_POOLING_MEAN, HS_RT_POOLING_MEAN,
                                                  HS_RT_POOLING_CLS, HS_RT_POOLING_LAST};
    int32_t tokens[100];
    make_tokens(tokens, 100, 37);
    for (uint32_t key = 0; key < 4; key++) {
        struct tiny_gguf_spec spec = spec_of(TINY_GGUF_BIGRAM, TINY_GGUF_LLAMA, "llama", key);
        hs_rt_model *model = load_tiny(&spec);
        struct hs_rt_model_info info;
        rt->model_info(model, &info);
        assert_int_equal(info.pooling, poolings[key]);
        assert_int_equal(info.n_embd_out, TINY_GGUF_N_EMBD);
        struct hs_rt_embedder embedder = embedder_of(model, 128, N_BATCH, 4);
        assert_false(embedder.is_whole);
        assert_int_equal(embedder.n_input_max, 128);
        assert_int_equal(embedder.n_batch, N_BATCH);
        for (int32_t n = 1; n <= 100; n += 33) {
            double want[TINY_GGUF_N_EMBD] = {0};
            int32_t from = poolings[key] == HS_RT_POOLING_LAST ? n - 1 : 0;
            int32_t to = poolings[key] == HS_RT_POOLING_CLS ? 1 : n;
            float values[TINY_GGUF_N_EMBD];
            for (int32_t i = from; i < to; i++) {
                tiny_gguf_bigram_hidden(&spec, tokens[i], values);
                for (int d = 0; d < TINY_GGUF_N_EMBD; d++) {
                    want[d] += (double)values[d] / (to - from);
                }
            }
            embed(&embedder, n % 4, tokens, n, N_BATCH, values);
            expect_near(values, want, TINY_GGUF_N_EMBD, 1e-5);
        }
        rt->context_free(embedder.context);
        rt->model_free(model);
    }
}

/* In HISTORY each position sees what came before it in its own sequence: dimensions 16 and 17 are
 * the mean of the weights and of <s> so far, beside sixteen signs, under an RMS norm. */
static void history_sees_its_own_sequence(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = spec_of(TINY_GGUF_HISTORY, TINY_GGUF_LLAMA, "llama", 0);
    hs_rt_model *model = load_tiny(&spec);
    struct hs_rt_embedder embedder = embedder_of(model, 256, N_BATCH, 2);
    int32_t tokens[200], other[200];
    make_tokens(tokens, 200, 37);
    make_tokens(other, 200, 91);
    struct hs_rt_batch_item items[N_BATCH];
    for (int32_t done = 0; done < 192; done += N_BATCH / 2) { /* both in every call */
        for (int32_t i = 0; i < N_BATCH; i++) {
            int32_t pos = done + i / 2;
            items[i] = (struct hs_rt_batch_item){
                .token = i % 2 == 0 ? tokens[pos] : other[pos], .pos = pos, .seq = i % 2};
        }
        struct hs_error err = {0};
        enum hs_rt_decode outcome = HS_RT_DECODE_ABORTED;
        OK(rt->embed(embedder.context, items, N_BATCH, &outcome, &err));
        assert_int_equal(outcome, HS_RT_DECODE_OK);
    }
    for (int32_t seq = 0; seq < 2; seq++) {
        double want[2] = {0};
        double sum = 0;
        for (int32_t i = 0; i < 192; i++) {
            sum += tiny_gguf_weight(seq == 0 ? tokens[i] : other[i]);
            double mean = sum / (i + 1), bos = 1.0 / (i + 1);
            double rms = sqrt((16 + mean * mean + bos * bos) / TINY_GGUF_N_EMBD);
            want[0] += mean / rms / 192;
            want[1] += bos / rms / 192;
        }
        float values[TINY_GGUF_N_EMBD];
        rt->embed_take(embedder.context, seq, values);
        expect_near(values + 16, want, 2, 2e-3);
    }
    rt->context_free(embedder.context);
    rt->model_free(model);
}

/* Windows and recurrent states: neither the parts nor who was there before change anything. */
static void parts_make_no_difference(void **state)
{
    (void)state;
    static const struct {
        enum tiny_gguf_arch arch;
        const char *name;
    } rows[] = {
        {TINY_GGUF_GEMMA3, "gemma3"}, {TINY_GGUF_MAMBA, "mamba"}, {TINY_GGUF_QWEN3, "qwen3"}};
    int32_t tokens[200], other[200];
    make_tokens(tokens, 200, 37);
    make_tokens(other, 200, 91);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct tiny_gguf_spec spec = spec_of(TINY_GGUF_HISTORY, rows[r].arch, rows[r].name, 0);
        hs_rt_model *model = load_tiny(&spec);
        struct hs_rt_embedder parts = embedder_of(model, 256, N_BATCH, 1);
        struct hs_rt_embedder whole = embedder_of(model, 256, 256, 1);
        float first[TINY_GGUF_N_EMBD], second[TINY_GGUF_N_EMBD], unlike[TINY_GGUF_N_EMBD];
        embed(&whole, 0, tokens, 200, 256, first);
        embed(&parts, 0, other, 200, 7, unlike);
        embed(&parts, 0, tokens, 200, 7, second);
        double want[TINY_GGUF_N_EMBD];
        double distance = 0;
        for (int d = 0; d < TINY_GGUF_N_EMBD; d++) {
            want[d] = (double)first[d];
            distance += fabs((double)first[d] - (double)unlike[d]);
        }
        expect_near(second, want, TINY_GGUF_N_EMBD, 1e-3);
        assert_true(distance > 0.01);
        rt->context_free(parts.context);
        rt->context_free(whole.context);
        rt->model_free(model);
    }
}

static hs_rt_model *load_bert(enum tiny_bert_pooling pooling)
{
    char *path = temp_path(".gguf");
    assert_true(tiny_bert_write(pooling, path));
    hs_rt_model *model = load(path);
    unlink(path);
    free(path);
    return model;
}

static double cosine(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < TINY_BERT_N_EMBD; d++) {
        ab += (double)a[d] * (double)b[d];
        aa += (double)a[d] * (double)a[d];
        bb += (double)b[d] * (double)b[d];
    }
    return ab / sqrt(aa * bb);
}

static void an_encoder_takes_inputs_as_a_whole(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_model *model = load_bert(TINY_BERT_CLS_POOLING);
    struct hs_rt_context_params params = context_params(256, 2);
    hs_rt_context *context = NULL;
    EXPECT(HS_UNSUPPORTED_MODEL, rt->context_new(model, &params, &context, &err));
    struct hs_rt_embedder embedder = embedder_of(model, 4096, 128, 4);
    assert_true(embedder.is_whole);
    assert_int_equal(embedder.n_input_max, TINY_BERT_N_CTX); /* it knows no more positions */
    assert_true(embedder.n_batch >= 128);
    int32_t tokens[2][TINY_BERT_N_CTX];
    struct hs_rt_batch_item items[2 * TINY_BERT_N_CTX];
    float alone[2][TINY_BERT_N_EMBD], together[2][TINY_BERT_N_EMBD];
    for (int32_t seq = 0; seq < 2; seq++) {
        for (int32_t i = 0; i < TINY_BERT_N_CTX; i++) {
            tokens[seq][i] = i == 0 ? TINY_BERT_CLS : 5 + (i * (7 + 4 * seq)) % 52;
            items[seq * TINY_BERT_N_CTX + i] =
                (struct hs_rt_batch_item){.token = tokens[seq][i], .pos = i, .seq = seq};
        }
        embed(&embedder, seq, tokens[seq], TINY_BERT_N_CTX, TINY_BERT_N_CTX, alone[seq]);
    }
    enum hs_rt_decode outcome = HS_RT_DECODE_ABORTED;
    OK(rt->embed(embedder.context, items, 2 * TINY_BERT_N_CTX, &outcome, &err));
    for (int32_t seq = 0; seq < 2; seq++) {
        rt->embed_take(embedder.context, seq, together[seq]);
        assert_true(cosine(alone[seq], together[seq]) > 0.99999);
    }
    assert_true(cosine(alone[0], alone[1]) < 0.999);
    struct hs_rt_memory memory;
    rt->context_memory(embedder.context, &memory);
    assert_int_equal(memory.kv_bytes, 0);
    assert_true(memory.compute_bytes > 0);
    rt->context_free(embedder.context);
    rt->model_free(model);
}

static void a_ranker_gives_one_score(void **state)
{
    (void)state;
    hs_rt_model *model = load_bert(TINY_BERT_RANK);
    struct hs_rt_model_info info;
    rt->model_info(model, &info);
    assert_int_equal(info.pooling, HS_RT_POOLING_RANK);
    assert_int_equal(info.n_embd_out, 1);
    struct hs_rt_embedder embedder = embedder_of(model, 64, 64, 2);
    float first = 0, second = 0, again = 0;
    embed(&embedder, 0, (int32_t[]){TINY_BERT_CLS, 9, TINY_BERT_SEP, 10}, 4, 4, &first);
    embed(&embedder, 1, (int32_t[]){TINY_BERT_CLS, 9, TINY_BERT_SEP, 20}, 4, 4, &second);
    embed(&embedder, 1, (int32_t[]){TINY_BERT_CLS, 9, TINY_BERT_SEP, 10}, 4, 4, &again);
    assert_true(fabsf(first - again) < 1e-6F && fabsf(first - second) > 1e-4F);
    rt->context_free(embedder.context);
    rt->model_free(model);
}

static bool always(void *user)
{
    (void)user;
    return true;
}

static void an_abort_and_bad_tokens_leave_it_usable(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_gguf_spec spec = spec_of(TINY_GGUF_BIGRAM, TINY_GGUF_LLAMA, "llama", 0);
    hs_rt_model *model = load_tiny(&spec);
    struct hs_rt_embedder embedder = embedder_of(model, 64, N_BATCH, 2);
    struct hs_rt_batch_item item = {.token = TINY_GGUF_N_VOCAB};
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    EXPECT(HS_INVALID_ARGUMENT, rt->embed(embedder.context, &item, 1, &outcome, &err));
    item.token = TINY_GGUF_BOS;
    rt->set_abort(embedder.context, always, NULL);
    OK(rt->embed(embedder.context, &item, 1, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_ABORTED);
    rt->set_abort(embedder.context, NULL, NULL);
    rt->embed_take(embedder.context, 0, NULL);
    float values[TINY_GGUF_N_EMBD], want[TINY_GGUF_N_EMBD];
    embed(&embedder, 0, &item.token, 1, 1, values);
    tiny_gguf_bigram_hidden(&spec, TINY_GGUF_BOS, want);
    assert_memory_equal(values, want, sizeof want);
    rt->context_free(embedder.context);
    rt->model_free(model);
}

static void without_memory_there_is_no_embedder(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = spec_of(TINY_GGUF_BIGRAM, TINY_GGUF_LLAMA, "llama", 0);
    hs_rt_model *const models[] = {load_bert(TINY_BERT_MEAN), load_tiny(&spec), NULL};
    for (size_t m = 0; models[m]; m++) {
        struct hs_rt_context_params params = context_params(64, 2);
        uint64_t n_made = 0, n_failed = 0;
        for (uint64_t n = 1; n <= n_made + 1; n++) {
            struct hs_error err = {0};
            struct hs_rt_embedder embedder = {0};
            hs_mem_fail_after(n);
            hs_status status = rt->embedder_new(models[m], &params, &embedder, &err);
            n_made = hs_mem_count();
            hs_mem_fail_after(0);
            if (status == HS_OK) { /* a log line that was not kept, say */
                rt->context_free(embedder.context);
            } else {
                assert_int_equal(status, HS_OUT_OF_MEMORY);
                assert_null(embedder.context);
                n_failed++;
            }
        }
        assert_true(n_failed >= 4); /* context, batch, pool */
        rt->model_free(models[m]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bigram_pooled_by_formula),
        cmocka_unit_test(history_sees_its_own_sequence),
        cmocka_unit_test(parts_make_no_difference),
        cmocka_unit_test(an_encoder_takes_inputs_as_a_whole),
        cmocka_unit_test(a_ranker_gives_one_score),
        cmocka_unit_test(an_abort_and_bad_tokens_leave_it_usable),
        cmocka_unit_test(without_memory_there_is_no_embedder),
    };
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
