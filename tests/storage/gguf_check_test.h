/*
 * gguf_check_test.h - tables of changes to the tiny model and what hs_gguf_check_model says of
 * each.
 */
#ifndef GGUF_CHECK_TEST_H
#define GGUF_CHECK_TEST_H

#include "gguf_test.h"

#include "base/mem.h"
#include "gguf_internal.h"
#include "tiny_gguf.h"

enum op { END = 0, SET, TYPE, DROP, ADD_U32, ADD_F32, ADD_STR, ADD_ARRAY };

/* One change of the tiny model: SET and TYPE overwrite the 32 bits of a value or its type number,
 * DROP renames a key, ADD_* append one; ADD_ARRAY repeats value `text` times as u32. */
struct edit {
    enum op op;
    const char *key;
    uint32_t value;
    const char *text;
};

struct check_case {
    struct edit edits[4];
    hs_status status;
    const char *text; /* part of the message */
};

static inline void add_keys(struct gguf_writer *w, void *user)
{
    for (const struct edit *edit = user; edit->op != END; edit++) {
        if (edit->op == ADD_U32) {
            gguf_writer_u32(w, edit->key, edit->value);
        } else if (edit->op == ADD_F32) {
            gguf_writer_key(w, edit->key, GGUF_W_F32);
            gguf_bytes_u32(&w->kv, edit->value);
        } else if (edit->op == ADD_STR) {
            gguf_writer_str(w, edit->key, edit->text);
        } else if (edit->op == ADD_ARRAY) {
            gguf_writer_array(w, edit->key, GGUF_W_U32, (uint64_t)atoi(edit->text));
            for (int i = 0; i < atoi(edit->text); i++) {
                gguf_bytes_u32(&w->kv, edit->value);
            }
        }
    }
}

static inline struct gguf_bytes edited_model(const struct edit *edits, uint32_t n_layer)
{
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    struct edit copy[5] = {{END, NULL, 0, NULL}};
    memcpy(copy, edits, 4 * sizeof *edits);
    tiny_gguf_defaults(&spec);
    spec.n_layer = n_layer;
    spec.extra = add_keys;
    spec.extra_user = copy;
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    for (const struct edit *edit = copy; edit->op != END; edit++) {
        uint8_t *at = gguf_test_find(&bytes, edit->key);
        assert_non_null(at);
        if (edit->op == SET) {
            gguf_test_put32(at + 4, edit->value);
        } else if (edit->op == TYPE) {
            gguf_test_put32(at, edit->value);
        } else if (edit->op == DROP) {
            at[-1] = '_';
        }
    }
    return bytes;
}

static inline void run_cases(const struct check_case *cases, size_t n, uint32_t n_layer)
{
    for (size_t i = 0; i < n; i++) {
        struct gguf_bytes bytes = edited_model(cases[i].edits, n_layer);
        struct gguf_test t;
        assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
        hs_status status = hs_gguf_check_model(t.gguf, NULL, &t.err);
        if (status != cases[i].status ||
            (status != HS_OK && strstr(t.err.message, cases[i].text) == NULL)) {
            fail_msg("case %zu ('%s'): %s, '%s'", i, cases[i].text, hs_status_name(status),
                     t.err.message);
        }
        assert_true(status == HS_OK || strlen(t.err.hint) > 8);
        gguf_test_close(&t);
        gguf_bytes_free(&bytes);
    }
}

#define RUN(cases, n_layer) run_cases(cases, sizeof(cases) / sizeof((cases)[0]), n_layer)
#define BAD HS_BAD_FORMAT
#define NO HS_UNSUPPORTED_MODEL
#define NAN_BITS 0x7FC00000u
#define INF_BITS 0x7F800000u
#define MINUS_ONE 0xBF800000u

static inline struct gguf_bytes model_with_token(const char *token, const char *becomes)
{
    struct gguf_bytes bytes = edited_model((struct edit[4]){{0}}, 1);
    size_t len = strlen(token);
    uint8_t *at = memmem(bytes.data, bytes.len, token, len);
    assert_non_null(at);
    assert_int_equal(strlen(becomes), len);
    memcpy(at, becomes, len);
    return bytes;
}

static inline void expect_tokens(struct gguf_bytes bytes, hs_status expected, const char *text)
{
    struct gguf_test t;
    assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
    assert_int_equal(hs_gguf_check_model(t.gguf, NULL, &t.err), expected);
    if (expected != HS_OK) {
        assert_non_null(strstr(t.err.message, text));
    }
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
}

/* A whole vocabulary written anew: `n` tokens, tok(i), with an embedding table to match. */
struct words {
    const char *tokenizer;
    uint32_t n, n_rows;
    bool is_numbered; /* "t<i>", else all empty */
    const char *first;
};

static inline void put_words(struct gguf_writer *w, void *user)
{
    const struct words *words = user;
    gguf_writer_str(w, "tokenizer.ggml.model", words->tokenizer);
    gguf_writer_array(w, "tokenizer.ggml.tokens", GGUF_W_STRING, words->n);
    for (uint32_t i = 0; i < words->n; i++) {
        char text[16];
        snprintf(text, sizeof text, "t%u", i);
        gguf_bytes_str(&w->kv, i == 0 ? words->first : words->is_numbered ? text : "");
    }
    gguf_writer_tensor(w, "token_embd.weight", 2, (uint64_t[]){64, words->n_rows}, 24, NULL,
                       (size_t)64 * words->n_rows);
}

static inline struct gguf_bytes model_of_words(const char *arch, const struct words *words)
{
    struct gguf_writer w;
    struct gguf_bytes bytes;
    char key[64];
    const char *const sizes[] = {"block_count", "context_length", "embedding_length"};
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", arch);
    for (size_t i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, sizes[i]);
        gguf_writer_u32(&w, key, 64);
    }
    put_words(&w, (void *)words);
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    gguf_writer_free(&w);
    return bytes;
}

static inline void expect_words(const struct words *words, hs_status expected, const char *text)
{
    expect_tokens(model_of_words("gpt2", words), expected, text);
}

#endif
