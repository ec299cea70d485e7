/* Tokens and text: the tiny model's vocabulary is spelt out, the demo model's must round-trip. */
#include "runtime_test.h"

static struct tiny_gguf_spec spec;
static hs_rt_model *model, *demo;

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&spec);
    model = load_tiny(&spec);
    demo = load(HS_DEMO_MODEL);
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(model);
    rt->model_free(demo);
    return stop_runtime(state);
}

static void expect_tokens(const char *text, bool add_special, bool parse_special,
                          const int32_t *wanted, int32_t n)
{
    struct hs_buf tokens = tokens_of(model, text, add_special, parse_special);
    assert_int_equal(n_tokens_of(&tokens), n);
    if (n > 0) {
        assert_memory_equal(token_at(&tokens), wanted, (size_t)n * sizeof(*wanted));
    }
    hs_buf_free(&tokens);
}

static void test_known_tokens(void **state)
{
    (void)state;
    const int32_t im[] = {TINY_GGUF_BOS, TINY_GGUF_IM_START, TINY_GGUF_CHAR0 + 'u' - '!'};
    expect_tokens("<|im_start|>u", true, true, im, 3);
    expect_tokens("<|im_start|>u", false, true, &im[1], 2);
    expect_tokens("", true, true, im, 1);
    expect_tokens("", false, true, NULL, 0);
    const int32_t spelt = TINY_GGUF_CHAR0 + '<' - '!';
    struct hs_buf tokens = tokens_of(model, "<|im_start|>", false, false);
    assert_int_equal(token_at(&tokens)[0], spelt);
    hs_buf_free(&tokens);
    /* Bytes that no token spells arrive as byte tokens. */
    const int32_t bytes[] = {TINY_GGUF_BYTE0 + 0xC3, TINY_GGUF_BYTE0 + 0xA9};
    expect_tokens("\xC3\xA9", false, true, bytes, 2);
}

static void test_every_token_has_its_text(void **state)
{
    (void)state;
    struct hs_error err = {0};
    for (int32_t token = 0; token < TINY_GGUF_N_VOCAB; token++) {
        char wanted[16];
        size_t len = 0;
        assert_true(tiny_gguf_text(token, wanted, &len));
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1000);
        OK(rt->token_piece(model, token, true, &text, &err));
        bool is_unknown = token == TINY_GGUF_UNK;
        if (!is_unknown) {
            assert_int_equal(text.len, len);
            assert_memory_equal(text.data, wanted, len);
        }
        hs_buf_clear(&text);
        OK(rt->token_piece(model, token, false, &text, &err));
        bool is_control =
            token <= TINY_GGUF_EOS || token == TINY_GGUF_IM_START || token == TINY_GGUF_IM_END;
        assert_int_equal(text.len, is_control ? 0 : len);
    }
}

static void test_detokenize(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const int32_t tokens[] = {TINY_GGUF_BOS, TINY_GGUF_IM_START, TINY_GGUF_CHAR0 + 'u' - '!',
                              TINY_GGUF_ANSWER0};
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1000);
    OK(rt->detokenize(model, tokens, 4, true, &text, &err));
    assert_string_equal(text.data, "<s><|im_start|>u aa");
    hs_buf_clear(&text);
    OK(rt->detokenize(model, tokens, 4, false, &text, &err));
    assert_string_equal(text.data, "u aa");
    /* Appends. */
    OK(rt->detokenize(model, &tokens[2], 1, false, &text, &err));
    assert_string_equal(text.data, "u aau");
    OK(rt->detokenize(model, NULL, 0, false, &text, &err));
    assert_string_equal(text.data, "u aau");
}

static void test_tokens_out_of_range(void **state)
{
    (void)state;
    struct hs_error err = {0};
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1000);
    const int32_t bad[] = {-1, INT32_MIN, TINY_GGUF_N_VOCAB, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        EXPECT(HS_INVALID_ARGUMENT, rt->token_piece(model, bad[i], true, &text, &err));
        EXPECT(HS_INVALID_ARGUMENT, rt->detokenize(model, &bad[i], 1, true, &text, &err));
        assert_false(rt->is_eog(model, bad[i]));
    }
    assert_int_equal(text.len, 0);
    assert_true(rt->is_eog(model, TINY_GGUF_EOS));
    assert_true(rt->is_eog(model, TINY_GGUF_IM_END));
    assert_false(rt->is_eog(model, TINY_GGUF_BOS));
}

static void test_limits_of_the_buffer(void **state)
{
    (void)state;
    struct hs_error err = {0};
    /* "aaa" is three tokens: room for exactly three, then for two. */
    for (size_t n = 3; n >= 2; n--) {
        HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(n * sizeof(int32_t));
        EXPECT(n == 3 ? HS_OK : HS_LIMIT,
               rt->tokenize(model, "aaa", 3, false, true, &tokens, &err));
        assert_int_equal(tokens.len, n == 3 ? 12 : 0);
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(n);
        const int32_t a[] = {TINY_GGUF_ANSWER0};
        EXPECT(n == 3 ? HS_OK : HS_LIMIT, rt->token_piece(model, a[0], false, &text, &err));
        assert_int_equal(text.len, n == 3 ? 3 : 0);
        EXPECT(HS_LIMIT,
               rt->detokenize(model, (const int32_t[]){a[0], a[0]}, 2, false, &text, &err));
    }
}

static void test_texts_with_nul_and_bad_utf8(void **state)
{
    (void)state;
    struct hs_error err = {0};
    static const char *const texts[] = {"\xFF\xFE",         "\xC3",         "a\xE2\x82",
                                        "\xF0\x9F\x98\x80", "\xED\xA0\x80", "\xF8\x88\x80\x80\x80"};
    hs_rt_model *const models[] = {model, demo};
    for (size_t m = 0; m < 2; m++) {
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            /* Whatever the tokens are: no crash, and an answer. */
            struct hs_buf tokens = tokens_of(models[m], texts[i], true, true);
            hs_buf_free(&tokens);
        }
        HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(1000);
        OK(rt->tokenize(models[m], "a\0b", 3, false, true, &tokens, &err));
    }
}

static void test_demo_round_trips(void **state)
{
    (void)state;
    struct hs_error err = {0};
    static const char *const texts[] = {
        "Hello, world!",
        "  leading and trailing  ",
        "line\nbreaks\r\n\ttabs",
        "int main(void) { return 0; }",
        "Gr\xC3\xBC\xC3\x9F"
        "e aus K\xC3\xB6ln",
        "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C",
        "\xF0\x9F\x98\x80\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
        "1234567890 3.14159 -1e-9",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct hs_buf tokens = tokens_of(demo, texts[i], false, false);
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(10000);
        OK(rt->detokenize(demo, token_at(&tokens), (size_t)n_tokens_of(&tokens), true, &text,
                          &err));
        assert_string_equal(text.data, texts[i]);
        /* Pieces one by one give the same bytes. */
        hs_buf_clear(&text);
        for (int32_t t = 0; t < n_tokens_of(&tokens); t++) {
            OK(rt->token_piece(demo, token_at(&tokens)[t], true, &text, &err));
        }
        assert_string_equal(text.data, texts[i]);
        hs_buf_free(&tokens);
    }
}

static void test_a_long_text(void **state)
{
    (void)state;
    size_t len = 300000;
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++) {
        text[i] = "word and more, "[i % 15];
    }
    text[len] = '\0';
    struct hs_buf tokens = tokens_of(demo, text, false, true);
    assert_true(n_tokens_of(&tokens) > 50000);
    struct hs_error err = {0};
    HS_CLEANUP(hs_buf_free) struct hs_buf back = HS_BUF_INIT(1 << 20);
    OK(rt->detokenize(demo, token_at(&tokens), (size_t)n_tokens_of(&tokens), true, &back, &err));
    assert_string_equal(back.data, text);
    hs_buf_free(&tokens);
    free(text);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_error err = {0};
    for (uint64_t n = 1; n <= 2; n++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(10000);
        hs_mem_fail_after(n);
        hs_status status = rt->tokenize(model, "aaaaaaaa", 8, true, true, &tokens, &err);
        hs_mem_fail_after(0);
        assert_int_equal(status, n == 1 ? HS_OUT_OF_MEMORY : HS_OK);
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(10000);
        hs_mem_fail_after(n);
        status = rt->token_piece(model, 300, true, &text, &err);
        hs_mem_fail_after(0);
        assert_int_equal(status, n == 1 ? HS_OUT_OF_MEMORY : HS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_tokens),
        cmocka_unit_test(test_every_token_has_its_text),
        cmocka_unit_test(test_detokenize),
        cmocka_unit_test(test_tokens_out_of_range),
        cmocka_unit_test(test_limits_of_the_buffer),
        cmocka_unit_test(test_texts_with_nul_and_bad_utf8),
        cmocka_unit_test(test_demo_round_trips),
        cmocka_unit_test(test_a_long_text),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
