/* The grammar check: the same verdict as llama.cpp's parser on good and bad grammars, and limits.
 */
#include "gbnf_check.h"

#include <stdio.h>

#include "base/log.h"
#include "llama.h"
#include "runtime_test.h"

static struct llama_model *llama;

static int set_up(void **state)
{
    hs_log_set_level(HS_LOG_OFF);
    if (start_runtime(state) != 0) {
        return -1;
    }
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    char *path = temp_path(".gguf");
    assert_true(tiny_gguf_write(&spec, path));
    llama = llama_model_load_from_file(path, llama_model_default_params());
    remove(path);
    free(path);
    return llama ? 0 : -1;
}

static int tear_down(void **state)
{
    llama_model_free(llama);
    return stop_runtime(state);
}

static bool llama_accepts(const char *grammar)
{
    struct llama_sampler *sampler =
        llama_sampler_init_grammar(llama_model_get_vocab(llama), grammar, "root");
    if (sampler) {
        llama_sampler_free(sampler);
    }
    return sampler != NULL;
}

static void test_good_grammars(void **state)
{
    (void)state;
    static const char *const good[] = {
        "root ::= \"yes\" | \"no\"",
        "root ::= \"yes\"\n",
        "\n\n# a comment\nroot ::= \"x\" # behind\n",
        "root::=\"x\"",
        "root ::= a b\na ::= \"a\"\nb ::= \"b\"\n",
        "root ::=\n  \"x\"",
        "root ::= (\n \"a\" |\n \"b\"\n)",
        "root ::= [a-z] [^\\n] [\\x41-\\x5A] [\\u00e9] [\\U0001F600-\\U0001F64F] [\\]\\[\\-\\\\]",
        "root ::= \"\\\"\\\\\\t\\r\\n\\x41\"",
        "root ::= \"a\"* \"b\"+ \"c\"? \"d\"{3} \"e\"{2,} \"f\"{0,4} \"g\"{ 1 , 2 }",
        "root ::= (\"a\" \"b\"){2,3}",
        "root ::= ((((\"a\"))))*",
        "root ::= .",
        "root ::= . {2}",
        "root ::= <|im_start|> !<|im_end|> <[5]>",
        "root ::= \"\" | \"a\"",
        "root ::=",
        "root ::= a-b-1\na-b-1 ::= \"x\"",
        "root ::= \"Gr\xC3\xBC\xC3\x9F"
        "e\"",
        "root ::= \"a\"{0}",
        "root ::= \"a\"{2000}",
        "root ::= [a-]",
        "root ::= \"a\"\r\nb ::= \"b\"\r\n",
        "root ::= \"a\"\nroot ::= \"b\"",
        "root ::= object\nobject ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws "
        "value)*)? \"}\" ws\nvalue ::= object | string | (\"true\" | \"false\") ws\nstring ::= "
        "\"\\\"\" ([^\"\\\\] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4}))* \"\\\"\" ws\nws "
        "::= [ \\t\\n]*\n",
    };
    struct hs_error err = {0};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        bool theirs = llama_accepts(good[i]);
        hs_status ours = hs_gbnf_check(good[i], "root", NULL, NULL, &err);
        if (!theirs || ours != HS_OK) {
            print_error("theirs %d, ours %s: %s\n%s\n", theirs, hs_status_name(ours), err.message,
                        good[i]);
            fail();
        }
    }
}

static void test_bad_grammars(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where;
    } bad[] = {
        {"root", "line 1, column 5"},
        {"root ::= \"a", "line 1"},
        {"root ::= [a", "line 1"},
        {"root ::= \"a\"\nother := \"b\"", "line 2, column 7"},
        {"root ::= \"a\" )", "line 1, column 14"},
        {"root ::= (\"a\"", "not closed"},
        {"root ::= *", "nothing to repeat"},
        {"root ::= \"\"*", "nothing to repeat"},
        {"root ::= \"a\"{", "number"},
        {"root ::= \"a\"{x}", "number"},
        {"root ::= \"a\"{1;2}", "'}'"},
        {"root ::= \"a\"{1,2", "'}'"},
        {"root ::= \"\\q\"", "escape"},
        {"root ::= \"\\x4\"", "hexadecimal"},
        {"root ::= missing", "not defined"},
        {"other ::= \"a\"", "root"},
        {"# only a comment", "root"},
        {"root ::= <", "'>'"},
        {"root ::= <[x]>", "token"},
        {"root ::= !\"a\"", "'<'"},
        {"root ::= \"a\"{2001}", "2000"},
        {"root ::= (\"a\"{0,100}){100}", "2000"},
        {"_root ::= \"a\"", "column 1"},
    };
    struct hs_error err = {0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT(HS_INVALID_ARGUMENT, hs_gbnf_check(bad[i].text, "root", NULL, NULL, &err));
        if (!strstr(err.message, bad[i].where)) {
            print_error("'%s' does not say '%s'\n%s\n", err.message, bad[i].where, bad[i].text);
            fail();
        }
        if (llama_accepts(bad[i].text)) {
            print_error("llama.cpp accepts\n%s\n", bad[i].text);
            fail();
        }
    }
    /* llama.cpp would loop for ever, or read past the end of a quote. */
    EXPECT(HS_INVALID_ARGUMENT, hs_gbnf_check("root ::= \"a\"{3,2}", "root", NULL, NULL, &err));
    EXPECT(HS_INVALID_ARGUMENT, hs_gbnf_check("root ::= \"\xC3\"", "root", NULL, NULL, &err));
    EXPECT(HS_INVALID_ARGUMENT, hs_gbnf_check("root ::= \"\\", "root", NULL, NULL, &err));
}

static bool is_known(const char *text, size_t len, void *user)
{
    *(int *)user += 1;
    return len == 7 && memcmp(text, "<known>", 7) == 0;
}

static void test_tokens(void **state)
{
    (void)state;
    struct hs_error err = {0};
    int n_asked = 0;
    OK(hs_gbnf_check("root ::= <known> !<known> <[3]>", "root", is_known, &n_asked, &err));
    assert_int_equal(n_asked, 2);
    EXPECT(HS_INVALID_ARGUMENT,
           hs_gbnf_check("root ::= <known> | <other>", "root", is_known, &n_asked, &err));
    assert_non_null(strstr(err.message, "column 20"));
}

static void fill(char *to, const char *piece, int n)
{
    for (int i = 0; i < n; i++) {
        strcat(to, piece);
        to += strlen(piece);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct hs_error err = {0};
    size_t size = HS_GBNF_MAX_BYTES + 64;
    char *text = calloc(1, size);
    assert_non_null(text);
    /* Nested groups, at the limit and one more. */
    for (int extra = 0; extra < 2; extra++) {
        strcpy(text, "root ::= ");
        fill(text, "(", HS_GBNF_MAX_DEPTH + extra);
        strcat(text, "\"a\"");
        fill(text, ")", HS_GBNF_MAX_DEPTH + extra);
        EXPECT(extra ? HS_LIMIT : HS_OK, hs_gbnf_check(text, "root", NULL, NULL, &err));
    }
    /* Rules: the root and n - 1 groups. */
    for (int extra = 0; extra < 2; extra++) {
        strcpy(text, "root ::= ");
        fill(text, "(\"a\")", HS_GBNF_MAX_RULES - 1 + extra);
        EXPECT(extra ? HS_LIMIT : HS_OK, hs_gbnf_check(text, "root", NULL, NULL, &err));
    }
    /* Bytes. */
    memset(text, ' ', size);
    memcpy(text, "root ::= \"a\"", 12);
    text[HS_GBNF_MAX_BYTES] = '\0';
    OK(hs_gbnf_check(text, "root", NULL, NULL, &err));
    text[HS_GBNF_MAX_BYTES] = ' ';
    text[HS_GBNF_MAX_BYTES + 1] = '\0';
    EXPECT(HS_LIMIT, hs_gbnf_check(text, "root", NULL, NULL, &err));
    /* A long literal repeated: unfolded it would take gigabytes. */
    memset(text, 0, size);
    strcpy(text, "root ::= \"");
    memset(text + strlen(text), 'a', 10000);
    strcat(text, "\"{2000}");
    EXPECT(HS_LIMIT, hs_gbnf_check(text, "root", NULL, NULL, &err));
    free(text);
}

/* No byte string crashes the check, and what it lets through does not crash llama.cpp. */
static void test_random_bytes(void **state)
{
    (void)state;
    static const char alphabet[] = "root ::=|()[]{}*+?.<>!\"\\ab12,-^#\n";
    uint32_t seed = 12345;
    for (int i = 0; i < 20000; i++) {
        char text[48] = "root ::= ";
        size_t len = 9 + (size_t)(i % 38);
        for (size_t k = 9; k < len; k++) {
            seed = seed * 1664525u + 1013904223u;
            text[k] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
        }
        text[len] = '\0';
        struct hs_error err = {0};
        if (hs_gbnf_check(text, "root", NULL, NULL, &err) == HS_OK) {
            llama_accepts(text);
        } else {
            assert_string_not_equal(err.message, "");
        }
    }
}

static void test_allocation_failure(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_mem_fail_after(1);
    hs_status status = hs_gbnf_check("root ::= \"a\"", "root", NULL, NULL, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_grammars), cmocka_unit_test(test_bad_grammars),
        cmocka_unit_test(test_tokens),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_random_bytes),  cmocka_unit_test(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
