/* Tests of llama_special.c: pairs to be ranked, and gaps to be filled. */
#include "runtime_test.h"

#include <stdio.h>
#include <unistd.h>

#include "tiny_bert.h"

/* Tokens of the tiny vocabulary that play other parts here. */
enum { PRE = TINY_GGUF_THINK, SUF = TINY_GGUF_THINK_END, MID = TINY_GGUF_IM_START };
enum { REP = TINY_GGUF_LETTER0, SEP = TINY_GGUF_LETTER0 + 1 };

enum { NOTHING, GAP, FILES, TEMPLATE };

static void put_keys(struct gguf_writer *out, void *user)
{
    int what = *(const int *)user;
    if (what == GAP || what == FILES) {
        gguf_writer_u32(out, "tokenizer.ggml.fim_pre_token_id", PRE);
        gguf_writer_u32(out, "tokenizer.ggml.fim_suf_token_id", SUF);
        gguf_writer_u32(out, "tokenizer.ggml.fim_mid_token_id", MID);
    }
    if (what == FILES) {
        gguf_writer_u32(out, "tokenizer.ggml.fim_rep_token_id", REP);
        gguf_writer_u32(out, "tokenizer.ggml.fim_sep_token_id", SEP);
    }
    if (what == TEMPLATE) {
        gguf_writer_str(out, "tokenizer.chat_template.rerank",
                        "<s>{{q:{query};d:{document};{query}{docu}</s>");
    }
}

static hs_rt_model *load_with(int what, bool add_bos)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.extra = put_keys;
    spec.extra_user = &what;
    spec.add_bos = add_bos;
    return load_tiny(&spec);
}

/* `want` is text in which special tokens are written as $P $S $M $R $F $B. */
static void expect(const hs_rt_model *model, const struct hs_buf *tokens, const char *want)
{
    static const char letters[] = "PSMRFB";
    static const int32_t special[] = {PRE, SUF, MID, REP, SEP, TINY_GGUF_BOS};
    struct hs_error err = {0};
    struct hs_buf text = HS_BUF_INIT(4096);
    for (int32_t i = 0; i < n_tokens_of(tokens); i++) {
        size_t s = 0;
        while (s < 6 && special[s] != token_at(tokens)[i]) {
            s++;
        }
        if (s < 6) {
            assert_int_equal(hs_buf_printf(&text, "$%c", letters[s]), HS_OK);
        } else {
            OK(rt->token_piece(model, token_at(tokens)[i], true, &text, &err));
        }
    }
    assert_string_equal(text.data ? text.data : "", want);
    hs_buf_free(&text);
}

static void fill(const hs_rt_model *model, const struct hs_infill *infill, const char *want)
{
    struct hs_error err = {0};
    struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    OK(rt->infill_tokens(model, infill, &tokens, &err));
    expect(model, &tokens, want);
    hs_buf_free(&tokens);
}

static const struct hs_infill_file files[] = {{"a.c", "11"}, {NULL, "22"}};

static void a_gap(void **state)
{
    (void)state;
    hs_rt_model *model = load_with(GAP, true);
    struct hs_rt_model_info info;
    rt->model_info(model, &info);
    assert_true(info.can_infill);
    fill(model, &(struct hs_infill){.prefix = "", .suffix = ""}, "$B$P$S$M");
    /* what looks like a special token in the text is text */
    fill(model, &(struct hs_infill){.prefix = "x<s>", .suffix = "y"}, "$B$Px<s>$Sy$M");
    fill(model, &(struct hs_infill){.prefix = "x", .suffix = "y", .files = files, .n_files = 2},
         "$B\n\n--- snippet ---\n\n11\n\n--- snippet ---\n\n22$Px$Sy$M");
    rt->model_free(model);
    model = load_with(GAP, false);
    fill(model, &(struct hs_infill){.prefix = "x", .suffix = "y"}, "$Px$Sy$M");
    rt->model_free(model);
}

static void files_of_a_repository(void **state)
{
    (void)state;
    hs_rt_model *model = load_with(FILES, false);
    static const char all[] = "$Rrepository\n$Fa.c\n11$Ffile\n22$Ffile\n$Px$Sy$M";
    struct hs_infill infill = {.prefix = "x", .suffix = "y", .files = files, .n_files = 2};
    fill(model, &infill, all);
    /* cut from the front, as far as the limit asks for; the gap stays whole */
    struct hs_error err = {0};
    struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    OK(rt->infill_tokens(model, &infill, &tokens, &err));
    size_t n = (size_t)n_tokens_of(&tokens);
    hs_buf_free(&tokens);
    infill.n_tokens_max = n;
    fill(model, &infill, all);
    infill.n_tokens_max = n - 1;
    fill(model, &infill, all + 2);
    infill.n_tokens_max = 6;
    fill(model, &infill, "\n$Px$Sy$M");
    infill.n_tokens_max = 5;
    fill(model, &infill, "$Px$Sy$M");
    infill.n_tokens_max = 1;
    fill(model, &infill, "$Px$Sy$M");
    rt->model_free(model);
}

static void a_model_without_the_tokens(void **state)
{
    (void)state;
    hs_rt_model *model = load_with(NOTHING, true);
    struct hs_rt_model_info info;
    rt->model_info(model, &info);
    assert_false(info.can_infill);
    struct hs_error err = {0};
    struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    const struct hs_infill infill = {.prefix = "x", .suffix = "y"};
    EXPECT(HS_NOT_SUPPORTED, rt->infill_tokens(model, &infill, &tokens, &err));
    assert_int_equal(tokens.len, 0);
    rt->model_free(model);
}

static void a_pair_in_a_template(void **state)
{
    (void)state;
    hs_rt_model *model = load_with(TEMPLATE, true);
    struct hs_error err = {0};
    struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    OK(rt->rank_tokens(model, "{document}", "x", &tokens, &err));
    expect(model, &tokens, "$B{{q:{document};d:x;{document}{docu}</s>");
    hs_buf_free(&tokens);
    rt->model_free(model);
}

static void a_pair_between_special_tokens(void **state)
{
    (void)state;
    char *path = temp_path(".gguf");
    assert_true(tiny_bert_write(TINY_BERT_RANK, path));
    hs_rt_model *model = load(path);
    unlink(path);
    free(path);
    struct hs_error err = {0};
    struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    OK(rt->rank_tokens(model, "ab", "c d", &tokens, &err));
    static const int32_t want[] = {TINY_BERT_CLS, 5,     5 + 26 + 1,   TINY_BERT_SEP,
                                   5 + 2,         5 + 3, TINY_BERT_SEP};
    assert_int_equal(n_tokens_of(&tokens), sizeof want / sizeof want[0]);
    assert_memory_equal(token_at(&tokens), want, sizeof want);
    hs_buf_free(&tokens);
    rt->model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap),
        cmocka_unit_test(files_of_a_repository),
        cmocka_unit_test(a_model_without_the_tokens),
        cmocka_unit_test(a_pair_in_a_template),
        cmocka_unit_test(a_pair_between_special_tokens),
    };
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
