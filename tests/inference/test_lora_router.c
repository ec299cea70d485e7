/* Routing through the engine: whose examples are closest under the fake's embeddings, rules, and
 * what is forgotten. */
#include "engine_test.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"

static hs_engine *engine;
static struct hs_error err;
static struct fake_weights weights[4];

static void add(const char *name)
{
    static size_t n;
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    params.version = "1";
    params.weights = fake_lora(&weights[n++ % 4], 1);
    if (hs_engine_register_adapter(engine, &params, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static void begin(void)
{
    fake_runtime_reset(NULL);
    fake_lora_reset(NULL);
    engine = test_engine(NULL, 2048, 4);
    add("short");
    add("long");
}

static void end(void)
{
    hs_engine_free(engine);
    test_check_clean();
}

static void set(const char *name, const char *text)
{
    if (hs_engine_set_adapter_examples(engine, name, &text, text != NULL, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static struct hs_route route(const char *text, const struct hs_route_params *params)
{
    struct hs_route_params defaults;
    hs_route_params_defaults(&defaults);
    struct hs_route result;
    if (hs_engine_route(engine, "m", text, params != NULL ? params : &defaults, &result, &err) !=
        HS_OK) {
        fail_msg("%s", err.message);
    }
    return result;
}

/* The fake's embeddings tell how many tokens there are, what their sums are, and a constant: tokens
 * of low numbers are far from all of the background. */
static const char far_text[] = "\1\1\1\1";
static const char plain[] = "What is the weather like tomorrow?";

static void an_example_is_closest_to_itself(void **state)
{
    (void)state;
    begin();
    struct hs_route result = route("x", NULL);
    assert_int_equal(result.n_choices, 0);
    assert_string_equal(result.closest, "");
    assert_string_equal(result.reason, "no adapter of this model has examples");
    set("short", "x");
    set("long", far_text);
    result = route("x", NULL);
    assert_int_equal(result.n_choices, 1);
    assert_string_equal(result.choices[0].name, "short");
    assert_true(result.choices[0].scale == 1);
    assert_true(fabs((double)result.closeness - 1) < 1e-5);
    assert_non_null(strstr(result.reason, "'short'"));
    struct hs_route_params params;
    hs_route_params_defaults(&params);
    params.scale = -0.5f;
    params.max_adapters = HS_ROUTE_MAX;
    result = route(far_text, &params);
    assert_string_equal(result.choices[0].name, "long");
    float sum = 0;
    for (int32_t i = 0; i < result.n_choices; i++) {
        sum += result.choices[i].scale;
    }
    assert_true(fabsf(sum + 0.5f) < 1e-6f);
    set("long", NULL);
    result = route(plain, NULL);
    assert_int_equal(result.n_choices, 0);
    assert_non_null(strstr(result.reason, "nothing is close enough"));
    assert_true(result.closeness < result.background);
    end();
}

static void examples_change_and_go(void **state)
{
    (void)state;
    begin();
    set("short", "x");
    assert_int_equal(route("x", NULL).n_choices, 1);
    set("short", far_text);
    assert_int_equal(route(plain, NULL).n_choices, 0);
    assert_string_equal(route(far_text, NULL).choices[0].name, "short");
    set("short", NULL);
    assert_string_equal(route(far_text, NULL).closest, "");
    set("long", far_text);
    assert_string_equal(route(far_text, NULL).choices[0].name, "long");
    assert_int_equal(hs_engine_unregister_adapter(engine, "long", &err), HS_OK);
    assert_int_equal(route(far_text, NULL).n_choices, 0);
    add("long");
    assert_string_equal(route(far_text, NULL).closest, "");
    /* Embeddings of a model go with it. */
    set("long", far_text);
    assert_int_equal(route(far_text, NULL).n_choices, 1);
    assert_int_equal(hs_engine_unload_model(engine, "m", &err), HS_OK);
    struct hs_route result;
    struct hs_route_params params;
    hs_route_params_defaults(&params);
    assert_int_equal(hs_engine_route(engine, "m", "x", &params, &result, &err), HS_NOT_FOUND);
    end();
}

static void a_rule_goes_first(void **state)
{
    (void)state;
    begin();
    set("short", "x");
    const char *texts[] = {"^no =", "in (french|german)=long:0.5+short:-1", "gone=gone",
                           "french=gone"};
    hs_route_rules *rules = NULL;
    assert_int_equal(hs_route_rules_parse(texts, 4, &rules, &err), HS_OK);
    struct hs_route_params params;
    hs_route_params_defaults(&params);
    params.rules = rules;
    struct hs_route result = route("Say it in FRENCH", &params);
    assert_int_equal(result.n_choices, 2);
    assert_string_equal(result.choices[0].name, "long");
    assert_true(result.choices[0].scale == 0.5f);
    assert_string_equal(result.choices[1].name, "short");
    assert_true(result.choices[1].scale == -1);
    assert_non_null(strstr(result.reason, "in (french|german)"));
    assert_int_equal(route("No adapter in german", &params).n_choices, 0);
    assert_string_equal(route("x", &params).choices[0].name, "short");
    assert_int_equal(hs_engine_route(engine, "m", "gone", &params, &result, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "'gone'"));
    hs_route_rules_free(rules);
    end();
}

static void refuses_what_is_out_of_range(void **state)
{
    (void)state;
    begin();
    struct hs_route result;
    struct hs_route_params params;
    const int32_t numbers[] = {0, -1, HS_ROUTE_MAX + 1};
    for (int i = 0; i < 3; i++) {
        hs_route_params_defaults(&params);
        params.max_adapters = numbers[i];
        assert_int_equal(hs_engine_route(engine, "m", "x", &params, &result, &err),
                         HS_INVALID_ARGUMENT);
    }
    hs_route_params_defaults(&params);
    params.scale = NAN;
    assert_int_equal(hs_engine_route(engine, "m", "x", &params, &result, &err),
                     HS_INVALID_ARGUMENT);
    hs_route_params_defaults(&params);
    params.embed_model_id = "other";
    assert_int_equal(hs_engine_route(engine, "m", "x", &params, &result, &err), HS_NOT_FOUND);
    const char *texts[257];
    for (int i = 0; i < 257; i++) {
        texts[i] = "x";
    }
    assert_int_equal(hs_engine_set_adapter_examples(engine, "short", texts, 256, &err), HS_OK);
    assert_int_equal(hs_engine_set_adapter_examples(engine, "short", texts, 257, &err), HS_LIMIT);
    assert_int_equal(route("x", NULL).n_choices, 1);
    assert_int_equal(hs_engine_set_adapter_examples(engine, "gone", texts, 1, &err), HS_NOT_FOUND);
    texts[1] = "";
    assert_int_equal(hs_engine_set_adapter_examples(engine, "short", texts, 2, &err),
                     HS_INVALID_ARGUMENT);
    char *big = malloc((64 << 10) + 2);
    memset(big, 'x', (64 << 10) + 1);
    big[(64 << 10) + 1] = '\0';
    texts[0] = big;
    assert_int_equal(hs_engine_set_adapter_examples(engine, "short", texts, 1, &err), HS_LIMIT);
    texts[0] = big + 1;
    assert_int_equal(hs_engine_set_adapter_examples(engine, "short", texts, 1, &err), HS_OK);
    assert_string_equal(route(big + 1, NULL).closest, "short");
    free(big);
    end();
}

static void setting_survives_a_lack_of_memory(void **state)
{
    (void)state;
    begin();
    const char *texts[] = {"x", "y"};
    for (uint64_t fail = 1;; fail++) {
        hs_mem_fail_after(fail);
        hs_status status = hs_engine_set_adapter_examples(engine, "short", texts, 2, &err);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            assert_true(fail > 3);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
    assert_int_equal(route("x", NULL).n_choices, 1);
    end();
}

static void *keep_changing(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++) {
        struct hs_error own;
        const char *text = i % 2 == 0 ? "x" : far_text;
        if (hs_engine_set_adapter_examples(engine, "short", &text, 1, &own) != HS_OK) {
            return "set failed";
        }
    }
    return NULL;
}

static void *keep_routing(void *unused)
{
    (void)unused;
    struct hs_route_params params;
    hs_route_params_defaults(&params);
    for (int i = 0; i < 100; i++) {
        struct hs_error own;
        struct hs_route result;
        if (hs_engine_route(engine, "m", far_text, &params, &result, &own) != HS_OK ||
            result.n_choices != 1) {
            return "route failed";
        }
    }
    return NULL;
}

static void many_route_while_one_changes(void **state)
{
    (void)state;
    begin();
    set("long", far_text);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, i == 0 ? keep_changing : keep_routing, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failure = NULL;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_example_is_closest_to_itself),
        cmocka_unit_test(examples_change_and_go),
        cmocka_unit_test(a_rule_goes_first),
        cmocka_unit_test(refuses_what_is_out_of_range),
        cmocka_unit_test(setting_survives_a_lack_of_memory),
        cmocka_unit_test(many_route_while_one_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
