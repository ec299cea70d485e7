/* hyprstream adapter eval, with the fake engine: arguments, the table, JSON, refusals. */
#include "api_test.h"

#include "adapter_eval.h"
#include "tiny_adapter.h"
#include "tiny_gguf.h"

static const struct fake_piece yes[] = {{HS_EVENT_TEXT, " yes"}, {0}};
static const struct fake_piece no[] = {{HS_EVENT_TEXT, " no"}, {0}};
static const struct fake_answer script[] = {{.pieces = no}, {.pieces = yes}};

/* A model "tiny" and adapters "a" and "b" in the registry; the model alone says no. */
static int setup(void **state)
{
    if (api_setup(state)) {
        return -1;
    }
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "tiny.gguf");
    api_write_model(path, "tiny");
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    const char *const names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        char *folder = (char *)api_path(test, "source");
        assert_true(tiny_adapter_write(folder, TINY_GGUF_N_EMBD, (float)i));
        test->options[HS_OPT_NAME] = names[i];
        assert_int_equal(api_run(test, hs_cmd_adapter_add, folder, NULL), HS_OK);
    }
    test->options[HS_OPT_NAME] = NULL;
    api_clear_output(test);
    fake_engine.answers = script;
    fake_engine.n_answers = 2;
    return 0;
}

static const char *questions(const struct api_test *test, const char *text, size_t len)
{
    const char *path = api_path(test, "q.tsv");
    assert_int_equal(hs_fs_write_atomic(path, text, len, 0600, NULL), HS_OK);
    return path;
}

static hs_status run(struct api_test *test, const char *text)
{
    return api_run(test, hs_cmd_adapter_eval, questions(test, text, strlen(text)), NULL);
}

static void refused(struct api_test *test, const char *text, hs_status status, const char *part)
{
    assert_int_equal(run(test, text), status);
    if (strstr(test->err.message, part) == NULL) {
        fail_msg("'%s' is not in '%s'", part, test->err.message);
    }
}

static void a_table_is_printed(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_ADAPTER, "a");
    assert_int_equal(run(test, "q\tyes\n"), HS_OK);
    assert_string_equal(test->out.data, "ADAPTER  EXACT  OF\n"
                                        "(none)       0   1\n"
                                        "a            1   1\n");
    assert_int_equal(fake_engine.n_engines, 0);
}

/* The fake chooses the adapters whose names stand in the question. */
static void routing_has_a_row_of_its_own(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_ADAPTER, "a");
    test->options[HS_OPT_ROUTING] = "";
    assert_int_equal(run(test, "q a\tyes\n"), HS_OK);
    assert_string_equal(test->out.data, "ADAPTER        EXACT  OF\n"
                                        "(none)             0   1\n"
                                        "a                  1   1\n"
                                        "(routed)           1   1\n"
                                        "(best choice)      1   1\n");
    assert_int_equal(fake_engine.n_asked, 3);
    assert_int_equal(fake_engine.asked[2].n_adapters, 1);
    assert_string_equal(fake_engine.asked[2].adapters[0].name, "a");
    fake_engine_reset();
    fake_engine.answers = script;
    fake_engine.n_answers = 1;
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(run(test, "q\tyes\n"), HS_OK);
    json_t *json = api_json(test);
    const json_t *routed = json_array_get(json_object_get(json, "results"), 2);
    assert_true(json_is_true(json_object_get(routed, "routed")));
    assert_true(json_is_null(json_object_get(routed, "adapter")));
    assert_int_equal(json_integer_value(json_object_get(routed, "best_choice")), 0);
    const json_t *item = json_array_get(json_object_get(routed, "cases"), 0);
    assert_int_equal(json_array_size(json_object_get(item, "adapters")), 0);
    assert_string_equal(json_string_value(json_object_get(item, "reason")), "because of its name");
    json_decref(json);
    api_flag(test, HS_CFG_ROUTE, "no rule");
    assert_int_equal(run(test, "q\tyes\n"), HS_INVALID_ARGUMENT);
}

static void likelihoods_are_printed(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece byte[] = {{HS_EVENT_TEXT, "y"}, {0}};
    static const struct fake_answer answers[] = {{.pieces = no}, {.pieces = byte}};
    fake_engine.answers = answers;
    test->options[HS_OPT_LIKELIHOOD] = "";
    assert_int_equal(run(test, "q\tyes\n"), HS_OK);
    assert_string_equal(test->out.data, "ADAPTER  EXACT  OF  LOG-LIKELIHOOD  PER-TOKEN\n"
                                        "(none)       0   1            -2.0     -0.500\n");
}

static void json_has_every_answer(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_ADAPTER, "a,b");
    api_flag(test, HS_CFG_JSON, "true");
    fake_engine.stats.lora_engine = HS_LORA_ENGINE_REWRITE;
    fake_engine.stats.n_lora_decodes_mixed = 5;
    fake_engine.stats.n_lora_sets_max = 3;
    assert_int_equal(run(test, "q\tyes\n"), HS_OK);
    json_t *json = api_json(test);
    const char *engine = NULL, *adapter = NULL, *answer = NULL, *question = NULL;
    int mixed = 0, sets = 0, exact = -1, of = 0, is_exact = -1;
    assert_int_equal(json_unpack(json, "{s:s, s:i, s:i}", "lora_engine", &engine, "mixed_batches",
                                 &mixed, "most_sets_in_a_batch", &sets),
                     0);
    assert_string_equal(engine, "rewrite");
    assert_int_equal(mixed, 5);
    assert_int_equal(sets, 3);
    json_t *results = json_object_get(json, "results");
    assert_int_equal(json_array_size(results), 3);
    assert_true(json_is_null(json_object_get(json_array_get(results, 0), "adapter")));
    assert_int_equal(json_unpack(json_array_get(results, 2), "{s:s, s:i, s:i, s:[{s:s, s:s, s:b}]}",
                                 "adapter", &adapter, "exact", &exact, "of", &of, "cases",
                                 "question", &question, "answer", &answer, "exact", &is_exact),
                     0);
    assert_string_equal(adapter, "b");
    assert_string_equal(question, "q");
    assert_string_equal(answer, "yes");
    assert_true(exact == 1 && of == 1 && is_exact == 1);
    json_decref(json);
}

static void what_is_wrong_is_said(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_adapter_eval, "/nowhere.tsv", NULL), HS_NOT_FOUND);
    refused(test, "no tab\n", HS_BAD_FORMAT, "q.tsv: line 1");
    refused(test, "", HS_INVALID_ARGUMENT, "no questions");
    assert_int_equal(api_run(test, hs_cmd_adapter_eval, questions(test, "a\tb\0c", 5), NULL),
                     HS_BAD_FORMAT);
    api_flag(test, HS_CFG_ADAPTER, "zzz");
    refused(test, "q\ta\n", HS_NOT_FOUND, "'zzz'");
    api_flag(test, HS_CFG_ADAPTER, "a,zzz"); /* one more */
    refused(test, "q\ta\n", HS_INVALID_ARGUMENT, "'zzz' is named twice");
    assert_int_equal(fake_engine.n_engines, 0);
}

static void adapters_are_limited(void **state)
{
    struct api_test *test = *state;
    char names[8 * HS_EVAL_ADAPTERS_MAX] = "";
    for (unsigned i = 0; i < HS_EVAL_ADAPTERS_MAX; i++) {
        sprintf(names + strlen(names), "%sx%u", i > 0 ? "," : "", i);
    }
    api_flag(test, HS_CFG_ADAPTER, names);
    refused(test, "q\ta\n", HS_NOT_FOUND, "'x0'"); /* so many are looked up */
    api_flag(test, HS_CFG_ADAPTER, "one-more");
    refused(test, "q\ta\n", HS_LIMIT, "more than 32 adapters");
}

static void ctrl_c_stops(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece waits[] = {{HS_EVENT_TEXT, FAKE_WAIT}, {0}};
    static const struct fake_answer answers[] = {{.pieces = waits}};
    fake_engine.answers = answers;
    fake_engine.n_answers = 1;
    test->interrupt_at = 3;
    refused(test, "q\ta\n", HS_CANCELLED, "stopped");
    assert_int_equal(fake_engine.n_streams, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_table_is_printed, setup, api_teardown),
        cmocka_unit_test_setup_teardown(routing_has_a_row_of_its_own, setup, api_teardown),
        cmocka_unit_test_setup_teardown(likelihoods_are_printed, setup, api_teardown),
        cmocka_unit_test_setup_teardown(json_has_every_answer, setup, api_teardown),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_said, setup, api_teardown),
        cmocka_unit_test_setup_teardown(adapters_are_limited, setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_stops, setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
