/* Tests of rest/rerank.c. */
#include <stdio.h>

#include "rest_test.h"

static int setup(void **state)
{
    fake_engine_reset();
    int rc = rest_setup(state);
    struct rest_test *test = *state;
    test->rest.models[0].can_rank = true;
    return rc;
}

static void rank(struct rest_test *test, const char *fields, int status)
{
    char body[1024];
    snprintf(body, sizeof body, "{\"model\":\"fake\",%s}", fields);
    rest_ask(test, "POST /v1/rerank", body, status);
}

static void expect(const struct rest_test *test, size_t place, int index)
{
    char path[40];
    snprintf(path, sizeof path, "results/%zu/index", place);
    rest_expect_int(test, path, index);
}

static void the_best_comes_first(void **state)
{
    struct rest_test *test = *state;
    static const float scores[] = {0.5F, -2, 7, 0.5F};
    fake_engine.embedding.scores = scores;
    rank(test, "\"query\":\"q\",\"documents\":[\"aa\",\"b\",\"c\",\"d\"]", 200);
    rest_expect_string(test, "object", "list");
    rest_expect_string(test, "model", "fake");
    assert_int_equal(json_array_size(rest_at(test, "results")), 4);
    static const int order[] = {2, 0, 3, 1}; /* equal ones in order */
    for (size_t i = 0; i < 4; i++) {
        expect(test, i, order[i]);
        char path[48];
        snprintf(path, sizeof path, "results/%zu/relevance_score", i);
        assert_float_is((float)json_number_value(rest_at(test, path)), scores[order[i]]);
    }
    assert_null(json_object_get(rest_at(test, "results/0"), "document"));
    rest_expect_int(test, "usage/prompt_tokens", 4 + 3 + 3 + 3);
    /* what was asked of the engine */
    assert_true(fake_engine.embedding.params.rank);
    assert_false(fake_engine.embedding.params.normalize);
    static const int32_t pair[] = {'q', '|', 'a', 'a'};
    assert_int_equal(fake_engine.embedding.n_tokens[0], 4);
    assert_memory_equal(fake_engine.embedding.tokens[0], pair, sizeof pair);
}

static void some_of_them_with_their_text(void **state)
{
    struct rest_test *test = *state;
    static const float scores[] = {1, 3, 2};
    fake_engine.embedding.scores = scores;
    rank(test,
         "\"query\":\"q\",\"documents\":[\"a\",\"b\",\"c\"],\"top_n\":2,"
         "\"return_documents\":true",
         200);
    assert_int_equal(json_array_size(rest_at(test, "results")), 2);
    expect(test, 0, 1);
    rest_expect_string(test, "results/0/document/text", "b");
    expect(test, 1, 2);
    rank(test, "\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":9", 200);
    assert_int_equal(json_array_size(rest_at(test, "results")), 1);
}

static void bad_fields_are_named(void **state)
{
    static const struct {
        const char *fields, *param;
    } rows[] = {
        {"\"documents\":[\"a\"]", "query"},
        {"\"query\":\"\",\"documents\":[\"a\"]", "query"},
        {"\"query\":1,\"documents\":[\"a\"]", "query"},
        {"\"query\":\"q\"", "documents"},
        {"\"query\":\"q\",\"documents\":\"a\"", "documents"},
        {"\"query\":\"q\",\"documents\":[]", "documents"},
        {"\"query\":\"q\",\"documents\":[\"a\",\"\"]", "documents[1]"},
        {"\"query\":\"q\",\"documents\":[\"a\",1]", "documents[1]"},
        {"\"query\":\"q\",\"documents\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]",
         "documents"},
        {"\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0", "top_n"},
        {"\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":\"1\"", "top_n"},
        {"\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":1", "return_documents"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rank(test, rows[i].fields, 400);
        rest_expect_error(test, rows[i].param);
    }
    test->rest.models[0].can_rank = false;
    rank(test, "\"query\":\"q\",\"documents\":[\"a\"]", 400);
    rest_expect_error(test, "model");
}

static void without_memory(void **state)
{
    rest_without_memory(*state, "POST /rerank",
                        "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"return_documents\":true}",
                        NULL, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_best_comes_first),
        TEST(some_of_them_with_their_text),
        TEST(bad_fields_are_named),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
