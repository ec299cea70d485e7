/* The tiny models against the real llama.cpp: greedy decoding must equal their formula. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "llama.h"
#include "tiny_gguf.h"

#define MAX_TOKENS 1100

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int load_backends(void **state)
{
    (void)state;
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(HS_LLAMA_BACKENDS);
    llama_backend_init();
    return 0;
}

static int free_backends(void **state)
{
    (void)state;
    llama_backend_free();
    return 0;
}

static struct llama_model *load(const struct tiny_gguf_spec *spec)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/tiny-%d.gguf", HS_TEST_TMP, (int)getpid());
    assert_true(tiny_gguf_write(spec, path));
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    struct llama_model *model = llama_model_load_from_file(path, params);
    unlink(path);
    assert_non_null(model);
    return model;
}

static struct llama_context *new_context(struct llama_model *model, bool flash, bool q8)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 4096;
    params.n_batch = 512;
    params.n_ubatch = 64;
    params.n_seq_max = 8;
    params.kv_unified = true;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    if (q8) {
        params.type_k = params.type_v = GGML_TYPE_Q8_0;
    }
    struct llama_context *context = llama_init_from_model(model, params);
    assert_non_null(context);
    return context;
}

/* Ensures the lead of the winner is wide, so that rounding could never change it. */
static int32_t argmax(const float *logits)
{
    int32_t best = 0;
    float second = -1e30f;
    for (int32_t t = 1; t < TINY_GGUF_N_VOCAB; t++) {
        if (logits[t] > logits[best]) {
            second = logits[best];
            best = t;
        } else if (logits[t] > second) {
            second = logits[t];
        }
    }
    assert_true(logits[best] - second > 4.0f);
    return best;
}

struct sequence {
    int32_t tokens[MAX_TOKENS];
    int32_t n, n_done;
};

/* One decode of everything that is new in all sequences, at most `chunk` tokens each. */
static void step(struct llama_context *context, const struct tiny_gguf_spec *spec,
                 struct sequence *seqs, int32_t n_seqs, int32_t chunk)
{
    struct llama_batch batch = llama_batch_init(n_seqs * chunk, 0, 1);
    int32_t at[8];
    for (int32_t s = 0; s < n_seqs; s++) {
        at[s] = -1;
        for (int32_t i = 0; i < chunk && seqs[s].n_done < seqs[s].n; i++, seqs[s].n_done++) {
            int32_t b = batch.n_tokens++;
            batch.token[b] = seqs[s].tokens[seqs[s].n_done];
            batch.pos[b] = seqs[s].n_done;
            batch.n_seq_id[b] = 1;
            batch.seq_id[b][0] = s;
            batch.logits[b] = seqs[s].n_done == seqs[s].n - 1;
            at[s] = batch.logits[b] ? b : -1;
        }
    }
    assert_int_equal(llama_decode(context, batch), 0);
    for (int32_t s = 0; s < n_seqs; s++) {
        if (at[s] >= 0) {
            int32_t token = argmax(llama_get_logits_ith(context, at[s]));
            assert_int_equal(token, tiny_gguf_next(spec, seqs[s].tokens, (size_t)seqs[s].n));
            seqs[s].tokens[seqs[s].n++] = token;
        }
    }
    llama_batch_free(batch);
}

static struct sequence *make_prompt(uint32_t seed, int32_t n)
{
    struct sequence *seq = calloc(1, sizeof(*seq));
    assert_non_null(seq);
    seq->tokens[0] = TINY_GGUF_BOS;
    for (int32_t i = 1; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        seq->tokens[i] = 2 + (int32_t)((seed >> 8) % (TINY_GGUF_N_VOCAB - 2));
    }
    seq->n = n;
    return seq;
}

static void check_alone(const struct tiny_gguf_spec *spec, bool flash, bool q8)
{
    struct llama_model *model = load(spec);
    assert_int_equal(llama_vocab_n_tokens(llama_model_get_vocab(model)), TINY_GGUF_N_VOCAB);
    const int32_t lengths[] = {1, 2, 17, 65, 500, 990};
    for (uint32_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct llama_context *context = new_context(model, flash, q8);
        struct sequence *seq = make_prompt(i + 1, lengths[i]);
        while (seq->n < lengths[i] + 16) {
            step(context, spec, seq, 1, 100);
        }
        free(seq);
        llama_free(context);
    }
    llama_model_free(model);
}

static void check_together(const struct tiny_gguf_spec *spec, bool flash)
{
    struct llama_model *model = load(spec);
    struct llama_context *context = new_context(model, flash, false);
    struct sequence *seqs = calloc(8, sizeof(*seqs));
    assert_non_null(seqs);
    for (uint32_t s = 0; s < 8; s++) {
        struct sequence *seq = make_prompt(100 + s, (int32_t)(1 + s * s * 7));
        seqs[s] = *seq;
        free(seq);
    }
    for (int i = 0; i < 40; i++) {
        step(context, spec, seqs, 8, 23);
    }
    free(seqs);
    llama_free(context);
    llama_model_free(model);
}

static void bigram_equals_its_table(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    int32_t next[TINY_GGUF_N_VOCAB];
    tiny_gguf_defaults(&spec);
    check_alone(&spec, true, false);
    check_together(&spec, false);
    for (int32_t t = 0; t < TINY_GGUF_N_VOCAB; t++) {
        next[t] = (t * 31 + 5) % TINY_GGUF_N_VOCAB;
    }
    spec.next = next;
    spec.n_layer = 3;
    check_alone(&spec, false, false);
    check_together(&spec, true);
}

static void bigram_logits_are_known(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.logit_scale = 0.25f;
    struct llama_model *model = load(&spec);
    struct llama_context *context = new_context(model, true, false);
    int32_t token = TINY_GGUF_CHAR0;
    assert_int_equal(llama_decode(context, llama_batch_get_one(&token, 1)), 0);
    const float *logits = llama_get_logits_ith(context, 0);
    for (int32_t t = 0; t < TINY_GGUF_N_VOCAB; t += 7) {
        float expected = tiny_gguf_bigram_logit(&spec, token, t);
        assert_true(logits[t] - expected < 1e-3f && expected - logits[t] < 1e-3f);
    }
    llama_free(context);
    llama_model_free(model);
}

static void history_equals_its_formula(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    check_alone(&spec, true, false);
    check_alone(&spec, false, false);
    check_alone(&spec, true, true);
    spec.n_layer = 2;
    spec.history_stops = true;
    check_together(&spec, true);
    check_together(&spec, false);
}

static void other_architectures(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    for (int kind = TINY_GGUF_BIGRAM; kind <= TINY_GGUF_HISTORY; kind++) {
        tiny_gguf_defaults(&spec);
        spec.kind = (enum tiny_gguf_kind)kind;
        spec.arch = TINY_GGUF_GEMMA3;
        check_alone(&spec, true, false);
        check_alone(&spec, false, false);
        spec.n_swa = 7;
        spec.n_layer = 3;
        check_alone(&spec, true, true);
        check_together(&spec, true);
        spec.arch = TINY_GGUF_MAMBA;
        check_alone(&spec, false, false);
        check_together(&spec, false);
        spec.arch = TINY_GGUF_QWEN3;
        check_alone(&spec, true, true);
    }
}

/* One token less, or one more, must change the answer wherever the sum is in range. */
static void history_notices_every_token(void **state)
{
    (void)state;
    struct sequence *seq = make_prompt(9, 300);
    int32_t whole = tiny_gguf_history_next(seq->tokens, 300);
    assert_in_range(whole, TINY_GGUF_ANSWER0 + 8, TINY_GGUF_ANSWER0 + 247);
    for (size_t cut = 1; cut < 300; cut++) {
        int32_t rest[300];
        memcpy(rest, seq->tokens, cut * sizeof(int32_t));
        memcpy(rest + cut, seq->tokens + cut + 1, (299 - cut) * sizeof(int32_t));
        assert_int_not_equal(tiny_gguf_history_next(rest, 299), whole);
        seq->tokens[300] = seq->tokens[cut];
        assert_int_not_equal(tiny_gguf_history_next(seq->tokens, 301), whole);
    }
    assert_int_equal(tiny_gguf_history_next(seq->tokens + 1, 299), -1);
    free(seq);
}

static int32_t tokenize(const struct llama_model *model, const char *text, bool add_special,
                        int32_t *tokens)
{
    return llama_tokenize(llama_model_get_vocab(model), text, (int32_t)strlen(text), tokens, 512,
                          add_special, true);
}

static void vocabulary_is_as_documented(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = tiny_gguf_chatml;
    struct llama_model *model = load(&spec);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int32_t tokens[512];
    for (int32_t t = TINY_GGUF_IM_START; t < TINY_GGUF_N_VOCAB; t++) {
        char text[16], piece[32];
        size_t len = 0;
        assert_true(tiny_gguf_text(t, text, &len));
        assert_int_equal(tokenize(model, text, false, tokens), 1);
        assert_int_equal(tokens[0], t);
        assert_int_equal(tiny_gguf_token(text), t);
        assert_int_equal(llama_token_to_piece(vocab, t, piece, 32, 0, true), len);
        assert_memory_equal(piece, text, len);
    }
    assert_int_equal(tokenize(model, "\xC3\xA9\n", true, tokens), 4);
    assert_int_equal(tokens[0], TINY_GGUF_BOS);
    assert_int_equal(tokens[1], TINY_GGUF_BYTE0 + 0xC3);
    assert_int_equal(tokens[2], TINY_GGUF_BYTE0 + 0xA9);
    assert_int_equal(tokens[3], TINY_GGUF_BYTE0 + '\n');
    assert_int_equal(tokenize(model, " ab tt hello world", false, tokens), 4);
    assert_int_equal(tokens[3], tiny_gguf_token(" world"));
    assert_true(llama_vocab_is_eog(vocab, TINY_GGUF_IM_END));
    assert_true(llama_vocab_is_eog(vocab, TINY_GGUF_EOS));
    assert_false(llama_vocab_is_eog(vocab, TINY_GGUF_IM_START));
    assert_true(llama_vocab_is_control(vocab, TINY_GGUF_IM_START));
    assert_string_equal(llama_model_chat_template(model, NULL), tiny_gguf_chatml);
    llama_model_free(model);
}

static void spelled_text_comes_out(void **state)
{
    (void)state;
    const char *text = "Hello w\xC3\xB6rld, it is \xF0\x9F\x98\x80!";
    struct tiny_gguf_spec spec;
    int32_t next[TINY_GGUF_N_VOCAB];
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_unset(next);
    assert_true(tiny_gguf_spell(next, TINY_GGUF_BOS, text, TINY_GGUF_IM_END));
    char out[128] = "";
    size_t n = 0;
    for (int32_t t = next[TINY_GGUF_BOS]; t != TINY_GGUF_IM_END; t = next[t]) {
        char piece[16];
        size_t len = 0;
        assert_true(t >= 0 && n < 100 && tiny_gguf_text(t, piece, &len));
        memcpy(out + n, piece, len);
        n += len;
    }
    assert_string_equal(out, text);
    tiny_gguf_next_unset(next);
    assert_false(tiny_gguf_spell(next, TINY_GGUF_BOS, "\xC3\xB6\xC3\xA9", -1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bigram_equals_its_table),
        cmocka_unit_test(bigram_logits_are_known),
        cmocka_unit_test(history_equals_its_formula),
        cmocka_unit_test(other_architectures),
        cmocka_unit_test(history_notices_every_token),
        cmocka_unit_test(vocabulary_is_as_documented),
        cmocka_unit_test(spelled_text_comes_out),
    };
    return cmocka_run_group_tests(tests, load_backends, free_backends);
}
