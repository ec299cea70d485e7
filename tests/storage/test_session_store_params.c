/* The params object of a session.json, and copies of it. */
#include "record_example.h"

#include <jansson.h>

/* Every missing or ill-typed parameter is noticed by name; optional texts may be missing. */
static void test_json_params_are_checked(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    json_t *root = json_loadb(text.data, text.len, 0, NULL);
    json_t *object = json_object_get(root, "params");
    /* 6 settings and 29 of sampling; the example has no grammar_root */
    assert_int_equal(json_object_size(object), 6 + 29 - 1);
    static const char *const OPTIONAL = "stop dry_breakers samplers grammar logit_bias";
    json_t *copy = json_copy(object);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(copy, key, value)
    {
        for (int change = 0; change < 2; change++) {
            if (change == 0)
                json_object_del(object, key);
            else
                json_object_set_new(object, key, json_object());
            char *changed = json_dumps(root, 0);
            struct hs_session_record back = {0};
            struct hs_error err = {0};
            hs_status status = parse(changed, &back, &err);
            bool is_fine = change == 0 && strstr(OPTIONAL, key) != NULL;
            if (status != (is_fine ? HS_OK : HS_CORRUPT))
                fail_msg("params without a good \"%s\" give %d", key, (int)status);
            if (!is_fine)
                assert_non_null(strstr(err.message, key));
            hs_session_record_free(&back);
            free(changed);
            json_object_set(object, key, value);
        }
    }
    json_decref(copy);
    json_decref(root);
    hs_buf_free(&text);
}

static void test_json_params_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        double value;
        bool is_real;
        hs_status status;
    } CASES[] = {
        {"top_k", 2147483647.0, false, HS_OK},
        {"top_k", 2147483648.0, false, HS_CORRUPT},
        {"top_k", -2147483648.0, false, HS_OK},
        {"top_k", -2147483649.0, false, HS_CORRUPT},
        {"top_k", 1.0, true, HS_CORRUPT},
        {"seed", 4294967295.0, false, HS_OK},
        {"seed", 4294967296.0, false, HS_CORRUPT},
        {"seed", -1, false, HS_CORRUPT},
        {"temp", 1, false, HS_OK},
        {"temp", 1e39, true, HS_CORRUPT},
        {"temp", -1e39, true, HS_CORRUPT},
    };
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        json_t *root = json_loadb(text.data, text.len, 0, NULL);
        json_t *object = json_object_get(root, "params");
        json_t *number =
            CASES[i].is_real ? json_real(CASES[i].value) : json_integer((json_int_t)CASES[i].value);
        json_object_set_new(object, CASES[i].key, number);
        char *changed = json_dumps(root, 0);
        struct hs_session_record back = {0};
        assert_int_equal(parse(changed, &back, NULL), CASES[i].status);
        hs_session_record_free(&back);
        free(changed);
        json_decref(root);
    }
    hs_buf_free(&text);
}

static void test_params_copy(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params(), *copy = NULL;
    assert_int_equal(hs_session_params_copy(&params, &copy, NULL), HS_OK);
    assert_params_equal(copy, &params);
    assert_ptr_not_equal(copy->stop, params.stop);
    assert_ptr_not_equal(copy->sampling.grammar, params.sampling.grammar);
    assert_true(copy->deadline_ms == 0 && copy->n_logprobs == 0 && copy->stream_capacity == 0);
    hs_session_params_free(copy);
    hs_status status = HS_OK;
    for (uint64_t i = 1; i == 1 || status != HS_OK; i++) {
        hs_mem_fail_after(i);
        status = hs_session_params_copy(&params, &copy, NULL);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    hs_session_params_free(copy);
    /* What cannot be saved is not taken. */
    struct hs_error err = {0};
    params.sampling.min_p = NAN;
    assert_int_equal(hs_session_params_copy(&params, &copy, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "min_p"));
    params = example_params();
    const char *const bad_stops[] = {"a", "\xff", "b"};
    params.stop = bad_stops;
    assert_int_equal(hs_session_params_copy(&params, &copy, NULL), HS_INVALID_ARGUMENT);
    params = example_params();
    const float bad_bias[] = {0, INFINITY, 0};
    params.sampling.logit_bias_values = bad_bias;
    assert_int_equal(hs_session_params_copy(&params, &copy, NULL), HS_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_params_are_checked),
        cmocka_unit_test(test_json_params_ranges),
        cmocka_unit_test(test_params_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
