/* Tests of adapter_eval.h with the fake engine: what is asked, and what is made of the answers. */
#include "api_test.h"

#include "adapter_eval.h"

static char model_id[HS_ID_MAX];

static void parse(const char *text, size_t n, hs_status want, const char *part)
{
    char *copy = strdup(text);
    struct hs_eval_case *cases = NULL;
    struct hs_error err = {0};
    size_t found = 0;
    assert_int_equal(hs_eval_parse(copy, &cases, &found, &err), want);
    if (want == HS_OK) {
        assert_int_equal(found, n);
        assert_string_equal(cases[n - 1].question, "q");
        assert_string_equal(cases[n - 1].expected, part);
    } else {
        assert_non_null(strstr(err.message, part));
        assert_true(err.hint[0] != '\0');
    }
    hs_free(cases);
    free(copy);
}

static void files_are_questions_and_answers(void **state)
{
    (void)state;
    parse("q\ta", 1, HS_OK, "a");
    parse("first\tone\n\nq\tan answer\n", 2, HS_OK, "an answer");
    parse("x\ty\r\nq\ta\r\n\r\n", 2, HS_OK, "a");
    parse("", 0, HS_INVALID_ARGUMENT, "no questions");
    parse("\n\n", 0, HS_INVALID_ARGUMENT, "no questions");
    parse("a\tb\n\nno tab", 0, HS_BAD_FORMAT, "line 3");
    parse("\tb", 0, HS_BAD_FORMAT, "line 1");
    parse("a\t", 0, HS_BAD_FORMAT, "line 1");
    parse("a\tb\tc", 0, HS_BAD_FORMAT, "line 1");
}

static void questions_are_limited(void **state)
{
    (void)state;
    for (size_t n = HS_EVAL_CASES_MAX; n <= HS_EVAL_CASES_MAX + 1; n++) {
        char *text = malloc(n * 4 + 1);
        assert_non_null(text);
        for (size_t i = 0; i < n; i++) {
            memcpy(text + i * 4, "q\ta\n", 5);
        }
        parse(text, n, n == HS_EVAL_CASES_MAX ? HS_OK : HS_LIMIT,
              n == HS_EVAL_CASES_MAX ? "a" : "more than 10000 questions");
        free(text);
    }
}

/* ---- runs ---- */

static hs_engine *start(const char *const *adapters, size_t n)
{
    struct hs_engine_params params;
    struct hs_model_params model;
    struct hs_error err = {0};
    hs_engine *engine = NULL;
    fake_engine_reset();
    hs_engine_params_defaults(&params);
    hs_model_params_defaults(&model);
    params.adapter_budget_bytes = 1u << 20;
    assert_int_equal(hs_engine_create(&params, &engine, &err), HS_OK);
    assert_int_equal(hs_engine_load_model(engine, "m.gguf", "m", &model, model_id, &err), HS_OK);
    for (size_t i = 0; i < n; i++) {
        struct hs_adapter_params adapter;
        hs_adapter_params_defaults(&adapter);
        adapter.name = adapters[i];
        adapter.model_id = model_id;
        adapter.path = "/";
        assert_int_equal(hs_engine_register_adapter(engine, &adapter, &err), HS_OK);
    }
    return engine;
}

static const struct fake_piece yes[] = {{HS_EVENT_TEXT, " y"}, {HS_EVENT_TEXT, "es "}, {0}};
static const struct fake_piece no[] = {{HS_EVENT_TEXT, " no"}, {0}};

static void answers_are_compared(void **state)
{
    (void)state;
    const char *const adapters[] = {"a"};
    const struct hs_eval_case cases[] = {{"one", "yes"}, {"two", " yes "}};
    const struct fake_answer script[] = {
        {.pieces = no}, {.pieces = yes}, {.pieces = yes}, {.pieces = yes}};
    struct hs_eval eval = {.cases = cases, .n_cases = 2, .adapters = adapters, .n_adapters = 1};
    struct hs_error err = {0};
    eval.engine = start(adapters, 1);
    eval.model_id = model_id;
    fake_engine.answers = script;
    fake_engine.n_answers = 4;
    assert_int_equal(hs_eval_run(&eval, NULL, NULL, &err), HS_OK);
    assert_string_equal(eval.answers[0].text, "no"); /* the model alone */
    assert_false(eval.answers[0].is_exact);
    assert_string_equal(eval.answers[1].text, "yes");
    assert_true(eval.answers[1].is_exact);
    assert_true(eval.answers[2].is_exact && eval.answers[3].is_exact); /* with the adapter */
    assert_int_equal(eval.answers[2].n_scored, 0);
    assert_int_equal(fake_engine.n_asked, 4);
    for (size_t i = 0; i < 4; i++) { /* a question goes to each, then the next one */
        const struct fake_asked *asked = &fake_engine.asked[i];
        const char *prompt = i < 2 ? "Q: one\nA:" : "Q: two\nA:";
        assert_int_equal(asked->n_tokens, 1 + strlen(prompt));
        for (size_t t = 0; t < strlen(prompt); t++) {
            assert_int_equal(asked->tokens[1 + t], (unsigned char)prompt[t]);
        }
        assert_int_equal(asked->n_adapters, i % 2);
        assert_true(asked->params.sampling.temp <= 0);
        assert_string_equal(asked->stop[0], "\n");
    }
    hs_eval_free(&eval);
    hs_engine_free(eval.engine);
}

static bool count(float fraction, void *user)
{
    *(int *)user += 1;
    return fraction >= 0 && *(int *)user < 2;
}

static void failures_end_the_run(void **state)
{
    (void)state;
    const struct hs_eval_case cases[] = {{"one", "yes"}};
    const struct fake_piece waits[] = {{HS_EVENT_TEXT, FAKE_WAIT}, {0}};
    const struct fake_answer broken[] = {
        {.pieces = yes, .finish = HS_FINISH_ERROR, .error = {HS_IO, "it broke", ""}}};
    const struct fake_answer endless[] = {{.pieces = waits}};
    struct hs_eval eval = {.cases = cases, .n_cases = 1};
    struct hs_error err = {0};
    int n = 0;
    eval.engine = start(NULL, 0);
    eval.model_id = model_id;
    fake_engine.answers = broken;
    fake_engine.n_answers = 1;
    assert_int_equal(hs_eval_run(&eval, NULL, NULL, &err), HS_IO);
    assert_non_null(strstr(err.message, "it broke"));
    hs_eval_free(&eval);
    hs_engine_free(eval.engine);
    eval.engine = start(NULL, 0);
    fake_engine.answers = endless;
    fake_engine.n_answers = 1;
    assert_int_equal(hs_eval_run(&eval, count, &n, &err), HS_CANCELLED);
    assert_int_equal(n, 2);
    hs_eval_free(&eval);
    hs_engine_free(eval.engine);
}

/* Each byte is a token of the fake engine, as likely as e^-0.5. */
static void expected_answers_are_scored(void **state)
{
    (void)state;
    const struct hs_eval_case cases[] = {{"one", "yes"}};
    static const struct fake_piece pieces[4][2] = {{{HS_EVENT_TEXT, " "}, {0}},
                                                   {{HS_EVENT_TEXT, "y"}, {0}},
                                                   {{HS_EVENT_TEXT, "e"}, {0}},
                                                   {{HS_EVENT_TEXT, "s"}, {0}}};
    const struct fake_answer script[] = {{.pieces = yes},
                                         {.pieces = pieces[0]},
                                         {.pieces = pieces[1]},
                                         {.pieces = pieces[2]},
                                         {.pieces = pieces[3]}};
    struct hs_eval eval = {.cases = cases, .n_cases = 1, .with_likelihood = true};
    struct hs_error err = {0};
    eval.engine = start(NULL, 0);
    eval.model_id = model_id;
    fake_engine.answers = script;
    fake_engine.n_answers = 5;
    assert_int_equal(hs_eval_run(&eval, NULL, NULL, &err), HS_OK);
    assert_true(eval.answers[0].is_exact);
    assert_int_equal(eval.answers[0].n_scored, 4);
    assert_true(eval.answers[0].log_likelihood == -2.0);
    assert_int_equal(fake_engine.n_asked, 5);
    for (size_t i = 1; i < 5; i++) { /* the prompt and what went before; one token, forced */
        const struct fake_asked *asked = &fake_engine.asked[i];
        assert_int_equal(asked->n_tokens, 1 + strlen("Q: one\nA:") + i - 1);
        assert_int_equal(asked->params.max_tokens, 1);
        assert_int_equal(asked->params.sampling.n_logit_bias, 1);
        assert_int_equal(asked->bias_tokens[0], " yes"[i - 1]);
        assert_true(asked->bias_values[0] >= 1e6f);
    }
    hs_eval_free(&eval);
    hs_engine_free(eval.engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_questions_and_answers),
        cmocka_unit_test(questions_are_limited),
        cmocka_unit_test(answers_are_compared),
        cmocka_unit_test(failures_end_the_run),
        cmocka_unit_test(expected_answers_are_scored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
