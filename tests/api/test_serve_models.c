/* Which models a server has, what they are called, and whether they fit beside each other. */
#include "api_test.h"

#include <sys/stat.h>

#include "serve_models.h"

#define GIB ((uint64_t)1 << 30)

static struct hs_serve_models models;

static hs_status choose(const struct hs_command_args *args, struct hs_error *err)
{
    hs_serve_models_free(&models);
    return hs_serve_models_choose(args, &models, err);
}

static int teardown(void **state)
{
    hs_serve_models_free(&models);
    return api_teardown(state);
}

static const char *file(struct api_test *test, const char *name)
{
    api_write_model(api_path(test, name), name);
    return api_path(test, name);
}

static void one_model_and_its_alias(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "/nowhere/big.gguf"); /* the engine says what is wrong with it */
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_int_equal(models.n, 1);
    assert_string_equal(models.items[0].id, "big");
    api_flag(test, HS_CFG_ALIAS, "gpt-4o:mini/x");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(models.items[0].id, "gpt-4o:mini/x");
    api_flag(test, HS_CFG_ALIAS, "two");
    assert_int_equal(api_run(test, choose, NULL), HS_INVALID_ARGUMENT);
    assert_string_equal(test->err.message, "there are 2 aliases and 1 model");
}

static void the_default_model(void **state)
{
    struct api_test *test = *state;
    file(test, "models/only.gguf"); /* found when the registry is made */
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(models.items[0].id, "only");
    assert_int_equal(models.items[0].bytes, 0);
    unlink(api_path(test, "models/only.gguf"));
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_int_equal(models.n, 0);
}

static void several_models_in_order(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, file(test, "a.gguf"));
    api_flag(test, HS_CFG_MODEL, file(test, "b.gguf"));
    api_flag(test, HS_CFG_ALIAS, "first");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_int_equal(models.n, 2);
    assert_string_equal(models.items[0].id, "first");
    assert_string_equal(models.items[1].id, "b");
    struct stat st;
    assert_int_equal(stat(api_path(test, "b.gguf"), &st), 0);
    assert_int_equal(models.items[1].bytes, st.st_size);
    api_flag(test, HS_CFG_MODEL, "/nowhere/c.gguf"); /* before anything is loaded */
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.message, "c: ");
}

static void ids_are_unique(void **state)
{
    struct api_test *test = *state;
    const char *path = file(test, "a.gguf");
    api_flag(test, HS_CFG_MODEL, path);
    api_flag(test, HS_CFG_MODEL, path);
    assert_int_equal(api_run(test, choose, NULL), HS_ALREADY_EXISTS);
    assert_contains(test->err.message, "'a'");
    assert_contains(test->err.hint, "--alias");
    api_flag(test, HS_CFG_ALIAS, "other"); /* the same file twice is allowed */
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(models.items[1].id, "a");
    api_flag(test, HS_CFG_ALIAS, "other");
    assert_int_equal(api_run(test, choose, NULL), HS_ALREADY_EXISTS);
}

static int64_t used_unix_ms(struct api_test *test, const char *name)
{
    hs_registry *registry = NULL;
    struct hs_registry_model row;
    assert_int_equal(hs_registry_open(&test->paths, &registry, NULL), HS_OK);
    int64_t used = -1;
    if (hs_registry_model_get(registry, name, &row, NULL) == HS_OK) {
        used = row.used_unix_ms;
        hs_registry_model_free(&row);
    }
    hs_registry_close(registry);
    return used;
}

static void what_is_served_is_in_the_list(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, file(test, "a.gguf"));
    api_flag(test, HS_CFG_MODEL, file(test, "b.gguf"));
    api_flag(test, HS_CFG_ALIAS, "first");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_int_equal(used_unix_ms(test, "a"), -1); /* not before it is loaded */
    hs_serve_models_mark_used(&test->paths, &models);
    assert_true(used_unix_ms(test, "a") > 0 && used_unix_ms(test, "b") > 0);
    assert_int_equal(used_unix_ms(test, "first"), -1);
    assert_string_equal(models.items[0].id, "first");
    unlink(models.items[1].choice.path); /* the list cannot be kept: nothing else happens */
    hs_model_choice_free(&models.items[1].choice);
    models.items[1].choice.path = hs_strdup("/nowhere/b.gguf");
    hs_serve_models_mark_used(&test->paths, &models);
}

static void aliases_that_are_no_ids(void **state)
{
    struct api_test *test = *state;
    char longest[HS_ID_MAX + 1];
    memset(longest, 'x', sizeof longest);
    longest[HS_ID_MAX] = '\0';
    const char *const bad[] = {"a b", "a\n", "\x7F", "\xFF", longest};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct hs_config config;
        assert_int_equal(hs_config_init(&config, &test->err), HS_OK);
        hs_config_free(&test->config);
        test->config = config;
        api_flag(test, HS_CFG_MODEL, "./m.gguf");
        api_flag(test, HS_CFG_ALIAS, bad[i]);
        assert_int_equal(api_run(test, choose, NULL), HS_INVALID_ARGUMENT);
    }
    hs_config_free(&test->config);
    assert_int_equal(hs_config_init(&test->config, &test->err), HS_OK);
    longest[HS_ID_MAX - 1] = '\0';
    api_flag(test, HS_CFG_MODEL, "./m.gguf");
    api_flag(test, HS_CFG_ALIAS, longest);
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(models.items[0].id, longest);
}

static void as_many_as_a_server_takes(void **state)
{
    struct api_test *test = *state;
    const char *path = file(test, "m.gguf");
    for (int i = 0; i < HS_REST_MODELS_MAX; i++) {
        char alias[16];
        snprintf(alias, sizeof alias, "m%d", i);
        api_flag(test, HS_CFG_MODEL, path);
        api_flag(test, HS_CFG_ALIAS, alias);
    }
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_int_equal(models.n, HS_REST_MODELS_MAX);
    api_flag(test, HS_CFG_MODEL, path);
    assert_int_equal(api_run(test, choose, NULL), HS_LIMIT);
    assert_contains(test->err.message, "at most 128 models");
}

static void their_sum_has_to_fit(void **state)
{
    struct api_test *test = *state;
    struct hs_serve_models two = {.n = 2, .items = {{.bytes = 2 * GIB}, {.bytes = 3 * GIB}}};
    assert_int_equal(hs_serve_models_check(&two, 5 * GIB, &test->err), HS_OK);
    assert_int_equal(hs_serve_models_check(&two, 5 * GIB - 1, &test->err), HS_MODEL_TOO_LARGE);
    assert_contains(test->err.message, "5.00 GiB");
}

/* With 20 GiB for weights of 2, 3 and 5, contexts get (20 - 10) / 3 each. */
static void each_leaves_room_to_the_others(void **state)
{
    (void)state;
    struct hs_serve_models three = {
        .n = 3, .items = {{.bytes = 2 * GIB}, {.bytes = 3 * GIB}, {.bytes = 5 * GIB}}};
    uint64_t share = 10 * GIB / 3;
    assert_int_equal(hs_serve_models_reserve(&three, 0, true, 20 * GIB), 8 * GIB + 2 * share);
    assert_int_equal(hs_serve_models_reserve(&three, 0, false, 20 * GIB), 8 * GIB + 2 * share);
    /* the first context is taken; its mapped weights still count as available */
    assert_int_equal(hs_serve_models_reserve(&three, 1, true, 20 * GIB - share),
                     7 * GIB + (10 * GIB - share) / 2);
    assert_int_equal(hs_serve_models_reserve(&three, 1, false, 18 * GIB - share),
                     5 * GIB + (10 * GIB - share) / 2);
    assert_int_equal(hs_serve_models_reserve(&three, 2, true, 20 * GIB - 2 * share), 5 * GIB);
    assert_int_equal(hs_serve_models_reserve(&three, 2, false, 15 * GIB - 2 * share), 0);
    assert_int_equal(hs_serve_models_reserve(&three, 0, true, GIB), 8 * GIB); /* no room at all */
}

static void without_memory(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, file(test, "a.gguf"));
    api_flag(test, HS_CFG_MODEL, file(test, "b.gguf"));
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY && n < 1000; n++) {
        hs_mem_fail_after(n);
        status = api_run(test, choose, NULL);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    assert_int_equal(status, HS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_model_and_its_alias),        TEST(the_default_model),
        TEST(several_models_in_order),        TEST(ids_are_unique),
        TEST(what_is_served_is_in_the_list),  TEST(aliases_that_are_no_ids),
        TEST(as_many_as_a_server_takes),      TEST(their_sum_has_to_fit),
        TEST(each_leaves_room_to_the_others), TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
