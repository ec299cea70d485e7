/* What hs_gguf_check_model says about models that are well-formed files but wrong in content. */
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

static void add_keys(struct gguf_writer *w, void *user)
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

static struct gguf_bytes edited_model(const struct edit *edits, uint32_t n_layer)
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

static void run_cases(const struct check_case *cases, size_t n, uint32_t n_layer)
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

static void what_kind_of_file_it_is(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{0}}, HS_OK, ""},
        {{{DROP, "general.type", 0, NULL}}, HS_OK, ""},
        {{{DROP, "general.architecture", 0, NULL}}, NO, "general.architecture"},
        {{{DROP, "general.type", 0, NULL}, {ADD_STR, "general.type", 0, "adapter"}},
         NO,
         "an adapter"},
        {{{DROP, "general.type", 0, NULL}, {ADD_STR, "general.type", 0, "mmproj"}}, NO, "'mmproj'"},
        {{{DROP, "general.type", 0, NULL}, {ADD_U32, "general.type", 1, NULL}}, NO, "no model"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, "clip"}},
         NO,
         "encoder"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, ""}},
         NO,
         "1 to 63"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, "a b"}},
         NO,
         "1 to 63"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, "other"}},
         BAD,
         "'other.block_count' is missing"},
    };
    RUN(cases, 1);
}

static void sizes_of_the_model(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{SET, "llama.block_count", 0, NULL}}, BAD, "block_count' is 0, not from 1 to 512"},
        {{{SET, "llama.block_count", 512, NULL}}, HS_OK, ""},
        {{{SET, "llama.block_count", 513, NULL}}, BAD, "block_count' is 513"},
        {{{TYPE, "llama.block_count", GGUF_W_I32, NULL}}, BAD, "of type i32, not u32"},
        {{{DROP, "llama.block_count", 0, NULL}}, BAD, "block_count' is missing"},
        {{{SET, "llama.context_length", 0, NULL}}, BAD, "context_length"},
        {{{SET, "llama.context_length", 0x80000000u, NULL}}, BAD, "context_length"},
        {{{SET, "llama.context_length", INT32_MAX, NULL}}, HS_OK, ""},
        {{{DROP, "llama.context_length", 0, NULL}}, BAD, "context_length' is missing"},
        {{{SET, "llama.embedding_length", 0, NULL}}, BAD, "embedding_length"},
        {{{SET, "llama.embedding_length", UINT32_MAX, NULL}}, BAD, "embedding_length"},
        {{{SET, "llama.vocab_size", 0, NULL}}, BAD, "vocab_size"},
        {{{SET, "llama.feed_forward_length", UINT32_MAX, NULL}}, BAD, "feed_forward_length"},
        {{{ADD_U32, "llama.nextn_predict_layers", 1, NULL}}, BAD, "all 1 layers"},
        {{{ADD_U32, "llama.pooling_type", 5, NULL}}, BAD, "pooling_type"},
        {{{ADD_U32, "llama.wkv.head_size", 0, NULL}}, BAD, "wkv.head_size"},
        {{{ADD_U32, "llama.wkv.head_size", 48, NULL}}, BAD, "wkv.head_size 48"},
        {{{ADD_U32, "llama.ssm.conv_kernel", 1, NULL}}, BAD, "ssm.conv_kernel"},
        {{{ADD_U32, "llama.ssm.group_count", 0, NULL}}, BAD, "ssm.group_count 0"},
    };
    RUN(cases, 1);
}

static void heads(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{SET, "llama.attention.head_count", 3, NULL},
          {SET, "llama.attention.head_count_kv", 3, NULL}},
         BAD,
         "64 does not divide into 3 heads"},
        {{{SET, "llama.attention.head_count", 1, NULL},
          {SET, "llama.attention.head_count_kv", 1, NULL},
          {SET, "llama.rope.dimension_count", 64, NULL}},
         HS_OK,
         ""},
        {{{SET, "llama.attention.head_count_kv", 1, NULL}}, HS_OK, ""},
        {{{SET, "llama.attention.head_count_kv", 4, NULL}}, BAD, "2 heads cannot share 4"},
        {{{SET, "llama.attention.head_count", 4, NULL},
          {SET, "llama.attention.head_count_kv", 3, NULL}},
         BAD,
         "layer 0: 4 heads cannot share 3"},
        {{{SET, "llama.attention.head_count", UINT32_MAX, NULL}}, BAD, "attention.head_count"},
        {{{TYPE, "llama.attention.head_count", GGUF_W_F32, NULL}},
         BAD,
         "must be a u32 or an array"},
        {{{SET, "llama.rope.dimension_count", 16, NULL}}, BAD, "equal to the head size 32"},
        {{{SET, "llama.rope.dimension_count", 0, NULL}}, BAD, "rope.dimension_count' is 0"},
        {{{SET, "llama.rope.dimension_count", 33, NULL}}, BAD, "rope.dimension_count"},
        {{{SET, "llama.rope.dimension_count", 64, NULL}}, BAD, "rope.dimension_count"},
        {{{ADD_U32, "llama.attention.key_length", 32, NULL},
          {ADD_U32, "llama.attention.value_length", 16, NULL}},
         BAD,
         "equal size, not 32 and 16"},
        {{{ADD_U32, "llama.attention.key_length", 0, NULL}}, BAD, "key_length' is 0"},
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {DROP, "llama.attention.head_count_kv", 0, NULL}},
         HS_OK, /* a model without attention, as far as the numbers go */
         ""},
    };
    RUN(cases, 1);
}

static void numbers_per_layer(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count", 2, "3"}},
         HS_OK,
         ""},
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count", 2, "2"}},
         BAD,
         "an array of 3"},
        {{{DROP, "llama.attention.head_count", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count", 2, "4"}},
         BAD,
         "an array of 3"},
        {{{DROP, "llama.attention.head_count_kv", 0, NULL},
          {ADD_ARRAY, "llama.attention.head_count_kv", 5, "3"}},
         BAD,
         "cannot share 5"},
        {{{DROP, "llama.feed_forward_length", 0, NULL},
          {ADD_ARRAY, "llama.feed_forward_length", 32, "3"}},
         HS_OK,
         ""},
    };
    RUN(cases, 3);
}

static void floats_and_rope(void **state)
{
    (void)state;
    const char *eps = "llama.attention.layer_norm_rms_epsilon";
    const struct check_case cases[] = {
        {{{SET, eps, NAN_BITS, NULL}}, BAD, "finite f32"},
        {{{SET, eps, INF_BITS, NULL}}, BAD, "finite f32"},
        {{{SET, eps, MINUS_ONE, NULL}}, BAD, "not negative"},
        {{{SET, eps, 0, NULL}}, HS_OK, ""},
        {{{TYPE, eps, GGUF_W_U32, NULL}}, BAD, "(u32)"},
        {{{ADD_F32, "llama.rope.freq_base", NAN_BITS, NULL}}, BAD, "rope.freq_base"},
        {{{ADD_F32, "llama.attention.scale", MINUS_ONE, NULL}}, HS_OK, ""},
        {{{ADD_F32, "llama.attention.scale", NAN_BITS, NULL}}, BAD, "attention.scale"},
        {{{ADD_STR, "llama.rope.scaling.type", 0, "yarn"}}, HS_OK, ""},
        {{{ADD_STR, "llama.rope.scaling.type", 0, "other"}}, BAD, "rope.scaling.type"},
        {{{ADD_STR, "llama.rope.scaling.type", 0, ""}}, BAD, "rope.scaling.type"},
        {{{ADD_U32, "llama.rope.scaling.type", 1, NULL}}, BAD, "rope.scaling.type"},
    };
    RUN(cases, 1);
}

static void windows(void **state)
{
    (void)state;
    const char *size = "llama.attention.sliding_window";
    const char *pattern = "llama.attention.sliding_window_pattern";
    const struct check_case cases[] = {
        {{{ADD_U32, size, 32, NULL}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_U32, pattern, 2, NULL}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_U32, pattern, 1, NULL}}, BAD, "no layer with a window"},
        {{{ADD_U32, size, 0, NULL}, {ADD_U32, pattern, 1, NULL}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_ARRAY, pattern, 1, "2"}}, HS_OK, ""},
        {{{ADD_U32, size, 32, NULL}, {ADD_ARRAY, pattern, 0, "2"}}, BAD, "no layer with a window"},
        {{{ADD_U32, size, 32, NULL}, {ADD_ARRAY, pattern, 1, "0"}}, BAD, "no layer with a window"},
        {{{ADD_U32, size, 32, NULL}, {ADD_STR, pattern, 0, "x"}}, BAD, "no layer with a window"},
    };
    RUN(cases, 2);
}

static void experts(void **state)
{
    (void)state;
    const char *count = "llama.expert_count", *used = "llama.expert_used_count";
    const char *groups = "llama.expert_group_count";
    const char *groups_used = "llama.expert_group_used_count";
    const struct check_case cases[] = {
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 2, NULL}}, HS_OK, ""},
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 8, NULL}}, HS_OK, ""},
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 9, NULL}}, BAD, "9 experts used of 8"},
        {{{ADD_U32, count, 8, NULL}}, BAD, "0 experts used of 8"},
        {{{ADD_U32, used, 1, NULL}}, BAD, "1 experts used of 0"},
        {{{ADD_U32, count, 1024, NULL}, {ADD_U32, used, 1, NULL}}, HS_OK, ""},
        {{{ADD_U32, count, 1025, NULL}, {ADD_U32, used, 1, NULL}}, BAD, "expert_count' is 1025"},
        {{{ADD_U32, groups, 1, NULL}}, BAD, "1 groups"},
        {{{ADD_U32, count, 8, NULL},
          {ADD_U32, used, 2, NULL},
          {ADD_U32, groups, 4, NULL},
          {ADD_U32, groups_used, 2, NULL}},
         HS_OK,
         ""},
        {{{ADD_U32, count, 8, NULL},
          {ADD_U32, used, 2, NULL},
          {ADD_U32, groups, 3, NULL},
          {ADD_U32, groups_used, 2, NULL}},
         BAD,
         "3 groups"},
        {{{ADD_U32, count, 8, NULL},
          {ADD_U32, used, 2, NULL},
          {ADD_U32, groups, 4, NULL},
          {ADD_U32, groups_used, 4, NULL}},
         BAD,
         "of which 4 are used"},
        {{{ADD_U32, count, 8, NULL}, {ADD_U32, used, 2, NULL}, {ADD_U32, groups, 8, NULL}},
         BAD,
         "8 groups"},
    };
    RUN(cases, 1);
}

static void vocabularies(void **state)
{
    (void)state;
    const char *model = "tokenizer.ggml.model", *bos = "tokenizer.ggml.bos_token_id";
    const char *eos = "tokenizer.ggml.eos_token_id", *types = "tokenizer.ggml.token_type";
    const struct check_case cases[] = {
        {{{DROP, model, 0, NULL}}, BAD, "tokenizer.ggml.model"},
        {{{DROP, model, 0, NULL}, {ADD_STR, model, 0, "no_vocab"}}, NO, "no tokenizer"},
        {{{DROP, model, 0, NULL}, {ADD_STR, model, 0, "gpt2"}}, HS_OK, ""},
        {{{DROP, "tokenizer.ggml.tokens", 0, NULL}}, BAD, "no vocabulary"},
        {{{DROP, "tokenizer.ggml.tokens", 0, NULL}, {ADD_ARRAY, "tokenizer.ggml.tokens", 1, "652"}},
         BAD,
         "no vocabulary"},
        {{{DROP, "tokenizer.ggml.scores", 0, NULL}, {ADD_ARRAY, "tokenizer.ggml.scores", 0, "652"}},
         BAD,
         "at least 652 f32"},
        {{{DROP, "tokenizer.ggml.scores", 0, NULL}}, HS_OK, ""},
        {{{DROP, types, 0, NULL}, {ADD_ARRAY, types, 1, "652"}}, BAD, "at least 652 i32"},
        {{{DROP, types, 0, NULL}}, HS_OK, ""},
        {{{SET, bos, TINY_GGUF_N_VOCAB - 1, NULL}}, HS_OK, ""},
        {{{SET, bos, TINY_GGUF_N_VOCAB, NULL}}, BAD, "not a token"},
        {{{SET, eos, UINT32_MAX, NULL}}, BAD, "not a token"},
        {{{TYPE, bos, GGUF_W_I32, NULL}}, BAD, "not a token"},
        {{{DROP, bos, 0, NULL}, {DROP, eos, 0, NULL}}, HS_OK, ""},
        {{{SET, "tokenizer.ggml.unknown_token_id", 9999, NULL}}, HS_OK, ""}, /* llama.cpp warns */
        {{{ADD_STR, "tokenizer.ggml.merges", 0, "x"}}, BAD, "merges"},
    };
    RUN(cases, 1);
}

/* ---- tokens ---- */

static struct gguf_bytes model_with_token(const char *token, const char *becomes)
{
    struct gguf_bytes bytes = edited_model((struct edit[4]){{0}}, 1);
    size_t len = strlen(token);
    uint8_t *at = memmem(bytes.data, bytes.len, token, len);
    assert_non_null(at);
    assert_int_equal(strlen(becomes), len);
    memcpy(at, becomes, len);
    return bytes;
}

static void expect_tokens(struct gguf_bytes bytes, hs_status expected, const char *text)
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

static void tokens(void **state)
{
    (void)state;
    expect_tokens(model_with_token("<0x41>", "<0x42>"), BAD, "tokens 68 and 69 are the same");
    expect_tokens(model_with_token("<0x41>", "<0xZZ>"), BAD, "token 68 is marked as a byte");
    expect_tokens(model_with_token("<0xFF>", "<0xfe>"), BAD, "no token for the byte <0xFF>");
    expect_tokens(model_with_token("<|im_start|>", "\xFF\xFE\xFD__start|>"), HS_OK, "");
}

/* A whole vocabulary written anew: `n` tokens, tok(i), with an embedding table to match. */
struct words {
    const char *tokenizer;
    uint32_t n, n_rows;
    bool is_numbered; /* "t<i>", else all empty */
    const char *first;
};

static void put_words(struct gguf_writer *w, void *user)
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

static struct gguf_bytes model_of_words(const char *arch, const struct words *words)
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

static void expect_words(const struct words *words, hs_status expected, const char *text)
{
    expect_tokens(model_of_words("gpt2", words), expected, text);
}

static void numbers_of_tokens(void **state)
{
    (void)state;
    /* "must not be of type I8" is the last check of all: everything before it passed. */
    const char *passed = "must not be of type I8";
    expect_words(&(struct words){"gpt2", 20, 20, true, "x"}, BAD, passed);
    expect_words(&(struct words){"gpt2", 20, 21, true, "x"}, BAD, "21 rows for a vocabulary of 20");
    expect_words(&(struct words){"gpt2", 20, 20, false, "x"}, BAD, passed); /* empty, yet unlike */
    expect_words(&(struct words){"gpt2", 20, 20, false, "[EMPTY_7]"}, BAD, "are the same");
    expect_words(&(struct words){"gpt2", 0, 20, true, "x"}, BAD, "no vocabulary");
    expect_words(&(struct words){"llama", 20, 20, true, "x"}, BAD, "no token for the byte <0x00>");
    expect_words(&(struct words){"bert", 20, 20, true, "x"}, BAD, "bos_token_id' is missing");
    expect_words(&(struct words){"t5", 1, 1, true, "x"}, BAD, "eos_token_id' is missing");
    uint32_t most = 1u << 22;
    expect_words(&(struct words){"gpt2", most, most, true, "x"}, BAD, passed);
    expect_words(&(struct words){"gpt2", most + 1, 1, true, "x"}, HS_LIMIT, "4194305 tokens");
}

/* ---- tensors ---- */

static void add_bad_tensor(struct gguf_writer *w, void *user)
{
    const struct hs_gguf_tensor *tensor = user;
    gguf_writer_tensor(w, tensor->name, tensor->n_dims, tensor->dims, tensor->type, NULL,
                       tensor->size_bytes);
}

static void expect_tensor(const char *name, uint32_t n_dims, uint32_t type, size_t size,
                          hs_status expected)
{
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    struct hs_gguf_tensor tensor = {.name = name, .n_dims = n_dims, .dims = {256, 2, 1, 1}};
    tensor.type = type;
    tensor.size_bytes = size;
    tiny_gguf_defaults(&spec);
    spec.extra = add_bad_tensor;
    spec.extra_user = &tensor;
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    expect_tokens(bytes, expected, name);
}

static void tensor_types(void **state)
{
    (void)state;
    expect_tensor("x.bias", 1, 0, 1024, HS_OK);
    expect_tensor("x.bias", 1, 1, 512, BAD);         /* F16 */
    expect_tensor("x_norm.weight", 1, 30, 512, BAD); /* BF16 */
    expect_tensor("x.weight", 1, 8, 272, BAD);       /* a vector in blocks */
    expect_tensor("x.weight", 2, 8, 544, HS_OK);
    expect_tensor("x.weight", 2, 15, 584, BAD);  /* Q8_K */
    expect_tensor("x.weight", 2, 24, 512, BAD);  /* I8 */
    expect_tensor("x.weight", 2, 26, 2048, BAD); /* I32 */
    expect_tensor("ffn_gate_tid2eid.weight", 2, 26, 2048, HS_OK);
    expect_tensor("ffn_gate_tid2eid.weight", 2, 0, 2048, BAD);
    expect_tensor("ssm_a", 2, 1, 1024, BAD); /* F16 */
    expect_tensor("ssm_a", 2, 0, 2048, HS_OK);
    expect_tensor("x.weight", 2, 28, 4096, BAD); /* F64 */
}

static void weights_must_be_there_and_aligned(void **state)
{
    (void)state;
    struct gguf_writer w;
    struct gguf_bytes bytes;
    struct edit align[4] = {{ADD_U32, "general.alignment", 32, NULL}};
    expect_tokens(edited_model(align, 1), HS_OK, "");
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", "gpt2");
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    expect_tokens(bytes, NO, "no weights");
    gguf_writer_free(&w);
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", "gpt2");
    gguf_writer_u32(&w, "gpt2.block_count", 1);
    gguf_writer_u32(&w, "gpt2.context_length", 64);
    gguf_writer_u32(&w, "gpt2.embedding_length", 64);
    gguf_writer_u32(&w, "general.alignment", 16);
    w.alignment = 16;
    put_words(&w, &(struct words){"gpt2", 20, 20, true, "x"});
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    expect_tokens(bytes, BAD, "general.alignment 16 is below 32");
    gguf_writer_free(&w);
}

static void embeddings_must_be_there(void **state)
{
    (void)state;
    struct edit missing[4] = {{DROP, "token_embd.weight", 0, NULL}};
    expect_tokens(edited_model(missing, 1), BAD, "'token_embd.weight' is missing");
    /* An architecture of a later llama.cpp: only the general rules apply. */
    expect_tokens(model_of_words("newer", &(struct words){"gpt2", 20, 20, true, "x"}), BAD,
                  "must not be of type I8");
}

static void dimensions_fit_an_int(void **state)
{
    (void)state;
    for (uint64_t over = 0; over <= 1; over++) {
        struct gguf_writer w;
        struct gguf_bytes bytes;
        struct gguf_test t;
        gguf_writer_init(&w);
        gguf_writer_tensor_info(&w, "long.weight", 2, (uint64_t[]){INT32_MAX + over, 2}, 0, 0);
        assert_true(gguf_writer_finish(&w, &bytes, NULL));
        assert_int_equal(gguf_test_open_claimed(&t, bytes.data, bytes.len, UINT64_C(1) << 40),
                         HS_OK);
        assert_int_equal(hs_gguf_check_tensors(t.gguf, &t.err), over ? BAD : HS_OK);
        assert_true(!over || strstr(t.err.message, "2147483648 in dimension 0") != NULL);
        gguf_test_close(&t);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&w);
    }
}

/* The last status of a check with one allocation after the other failing. */
static hs_status check_without_memory(struct gguf_bytes bytes)
{
    struct gguf_test t;
    hs_status status = HS_OUT_OF_MEMORY;
    assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_mem_fail_after(n);
        status = hs_gguf_check_model(t.gguf, NULL, &t.err);
        hs_mem_fail_after(0);
        assert_true(n < 100);
    }
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
    return status;
}

static void allocation_failures_are_told(void **state)
{
    (void)state;
    const struct words empty = {"gpt2", 20, 20, false, "x"};
    assert_int_equal(check_without_memory(edited_model((struct edit[4]){{0}}, 1)), HS_OK);
    assert_int_equal(check_without_memory(model_of_words("gpt2", &empty)), BAD); /* its I8 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_kind_of_file_it_is),
        cmocka_unit_test(sizes_of_the_model),
        cmocka_unit_test(heads),
        cmocka_unit_test(numbers_per_layer),
        cmocka_unit_test(floats_and_rope),
        cmocka_unit_test(experts),
        cmocka_unit_test(windows),
        cmocka_unit_test(vocabularies),
        cmocka_unit_test(tokens),
        cmocka_unit_test(numbers_of_tokens),
        cmocka_unit_test(tensor_types),
        cmocka_unit_test(weights_must_be_there_and_aligned),
        cmocka_unit_test(embeddings_must_be_there),
        cmocka_unit_test(dimensions_fit_an_int),
        cmocka_unit_test(allocation_failures_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
