/* What hs_gguf_check_model says of vocabularies. */
#include "gguf_check_test.h"

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

static void tokens(void **state)
{
    (void)state;
    expect_tokens(model_with_token("<0x41>", "<0x42>"), BAD, "tokens 68 and 69 are the same");
    expect_tokens(model_with_token("<0x41>", "<0xZZ>"), BAD, "token 68 is marked as a byte");
    expect_tokens(model_with_token("<0xFF>", "<0xfe>"), BAD, "no token for the byte <0xFF>");
    expect_tokens(model_with_token("<|im_start|>", "\xFF\xFE\xFD__start|>"), HS_OK, "");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocabularies),
        cmocka_unit_test(tokens),
        cmocka_unit_test(numbers_of_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
