/* Which model a name means, and which one is used without a name. */
#include "api_test.h"

#include "model_ref.h"

static struct hs_model_choice choice;
static struct hs_session_record session;

static hs_status choose(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry = NULL;
    hs_model_choice_free(&choice);
    hs_status status = hs_model_choose(args, &session, &registry, &choice, err);
    hs_registry_close(registry);
    return status;
}

static void add(struct api_test *test, const char *file, const char *name)
{
    hs_registry *registry = NULL;
    api_write_model(api_path(test, file), name);
    assert_int_equal(hs_registry_open(&test->paths, &registry, &test->err), HS_OK);
    assert_int_equal(
        hs_registry_model_add(registry, api_path(test, file), name, "added", NULL, &test->err),
        HS_OK);
    hs_registry_close(registry);
}

static void use(struct api_test *test, const char *name)
{
    hs_registry *registry = NULL;
    assert_int_equal(hs_registry_open(&test->paths, &registry, &test->err), HS_OK);
    assert_int_equal(hs_registry_model_touch(registry, name, &test->err), HS_OK);
    hs_registry_close(registry);
}

static int setup(void **state)
{
    session = (struct hs_session_record){0};
    return api_setup(state);
}

static int teardown(void **state)
{
    hs_model_choice_free(&choice);
    return api_teardown(state);
}

static void paths_are_taken_as_they_are(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "./nowhere/x.gguf");
    assert_int_equal(api_run(test, choose, NULL), HS_OK); /* whoever opens it says what is wrong */
    assert_string_equal(choice.path, "./nowhere/x.gguf");
    assert_null(choice.name);
    assert_false(api_exists(test->paths.registry_file)); /* nothing was looked up */
    setenv("HOME", "/home/u", 1);
    api_flag(test, HS_CFG_MODEL, "~/x.gguf");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.path, "/home/u/x.gguf");
}

static void several_models_are_a_servers(void **state)
{
    struct api_test *test = *state;
    static const char text[] = "model = [\"./one.gguf\", \"./two.gguf\"]\n";
    assert_int_equal(
        hs_config_load_text(&test->config, text, sizeof text - 1, "config.toml", &test->err),
        HS_OK);
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.path, "./one.gguf");
    api_flag(test, HS_CFG_MODEL, "./c.gguf");
    api_flag(test, HS_CFG_MODEL, "./a,b.gguf"); /* a flag is one name, whatever is in it */
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.path, "./a,b.gguf");
}

static void names_of_the_registry_come_first(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "tiny");
    api_write_model(api_path(test, "models/tiny"), "other");
    api_flag(test, HS_CFG_MODEL, "tiny");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "tiny");
    assert_contains(choice.path, "/a.gguf");
}

static void files_of_the_models_folder(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "a"); /* the registry is there before the file */
    api_write_model(api_path(test, "models/here.gguf"), "x");
    api_flag(test, HS_CFG_MODEL, "here");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_contains(choice.path, "models/here.gguf");
    assert_null(choice.name);
    api_flag(test, HS_CFG_MODEL, "here.gguf");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_contains(choice.path, "models/here.gguf");
}

/* Taken from the list, or put there by hand: it has the name that the list would give it. */
static void a_file_has_the_name_it_would_get(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "a");
    api_write_model(api_path(test, "models/Big One-Q4.gguf"), "x");
    api_flag(test, HS_CFG_MODEL, "big-one-q4");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_contains(choice.path, "models/Big One-Q4.gguf");
    session.model_name = (char *)"big-one-q4";
    api_flag(test, HS_CFG_MODEL, "");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_contains(choice.path, "models/Big One-Q4.gguf");
    session.model_name = NULL;
    api_flag(test, HS_CFG_MODEL, "big-one");
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
}

static void unknown_names_get_a_hint(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "smollm");
    api_flag(test, HS_CFG_MODEL, "smolm");
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "'smollm'");
    assert_contains(test->err.hint, "model add PATH");
    api_flag(test, HS_CFG_MODEL, "completely-different");
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "model add");
}

static void without_any_model(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "make chat");
    assert_contains(test->err.hint, "model add PATH");
}

static void the_only_one(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "only");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "only");
    assert_string_equal(choice.note, "");
}

static void the_one_used_last(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "a");
    add(test, "b.gguf", "b");
    add(test, "c.gguf", "c");
    use(test, "b");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "b");
    assert_contains(choice.note, "'b'");
    assert_contains(choice.note, "of 3");
    usleep(2000);
    use(test, "a");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "a");
    unlink(api_path(test, "a.gguf")); /* a model whose file is gone is not chosen */
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "b");
    assert_contains(choice.note, "of 2");
}

static void the_session_decides_before_that(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "a");
    add(test, "b.gguf", "b");
    use(test, "b");
    session.model_name = (char *)"a";
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "a");
    api_flag(test, HS_CFG_MODEL, "b");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "b");
}

static void a_session_whose_model_is_gone(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "a");
    session.model_name = (char *)"lost";
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.message, "session's own model");
    assert_contains(test->err.hint, "model add PATH --name lost");
    assert_contains(test->err.hint, "--model");
}

/* A server calls models as it likes; the weights tell which one it was. */
static void a_session_under_a_servers_alias(void **state)
{
    struct api_test *test = *state;
    hs_registry *registry = NULL;
    struct hs_registry_model row;
    add(test, "a.gguf", "a");
    add(test, "b.gguf", "b");
    use(test, "a");
    assert_int_equal(hs_registry_open(&test->paths, &registry, NULL), HS_OK);
    assert_int_equal(hs_registry_model_get(registry, "b", &row, NULL), HS_OK);
    hs_registry_close(registry);
    session.model_name = (char *)"alias";
    session.fingerprint = row.fingerprint;
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "b");
    assert_contains(choice.note, "'alias' is called 'b' here");
    session.model_name = (char *)"a"; /* a name that is known is the one that is meant */
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_string_equal(choice.name, "a");
    session.model_name = (char *)"alias";
    unlink(api_path(test, "b.gguf"));
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.message, "session's own model: no model named 'alias'");
    assert_contains(test->err.hint, "--alias");
    hs_registry_model_free(&row);
}

static void models_whose_files_are_gone(void **state)
{
    struct api_test *test = *state;
    add(test, "a.gguf", "only");
    unlink(api_path(test, "a.gguf"));
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.message, "the only model, 'only', is not there: /");
    assert_contains(test->err.hint, "model add PATH");
    assert_contains(test->err.hint, "model rm only");
    add(test, "b.gguf", "second");
    unlink(api_path(test, "b.gguf"));
    assert_int_equal(api_run(test, choose, NULL), HS_NOT_FOUND);
    assert_contains(test->err.message, "all 2 models");
    char demo[256]; /* which then is the one to use */
    snprintf(demo, sizeof demo, "models/%s", HS_TEST_DEMO_FILE);
    api_write_model(api_path(test, demo), "demo");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_contains(choice.path, HS_TEST_DEMO_FILE);
}

static void the_demo_model_is_registered(void **state)
{
    struct api_test *test = *state; /* without a registry, which then finds the file by itself */
    char name[256];
    snprintf(name, sizeof name, "models/%s", HS_TEST_DEMO_FILE);
    api_write_model(api_path(test, name), "demo");
    assert_int_equal(api_run(test, choose, NULL), HS_OK);
    assert_contains(choice.path, HS_TEST_DEMO_FILE);
    hs_registry *registry = NULL;
    struct hs_registry_model row;
    assert_int_equal(hs_registry_open(&test->paths, &registry, NULL), HS_OK);
    assert_int_equal(hs_registry_model_get(registry, choice.name, &row, NULL), HS_OK);
    assert_string_equal(row.source, "demo");
    assert_string_equal(row.sha256, HS_TEST_DEMO_SHA256);
    hs_registry_model_free(&row);
    hs_registry_close(registry);
    assert_int_equal(api_run(test, choose, NULL), HS_OK); /* and is then the only one */
}

static void registering_a_path(void **state)
{
    struct api_test *test = *state;
    hs_registry *registry = NULL;
    add(test, "a.gguf", "known");
    api_write_model(api_path(test, "fresh.gguf"), "x");
    api_write_model(api_path(test, "models/fresh.gguf"), "another file of the name");
    struct hs_model_choice known = {.path = hs_strdup(api_path(test, "a.gguf"))};
    assert_int_equal(hs_model_register(&test->paths, &registry, &known, &test->err), HS_OK);
    assert_string_equal(known.name, "known");
    struct hs_model_choice fresh = {.path = hs_strdup(api_path(test, "fresh.gguf"))};
    assert_int_equal(hs_model_register(&test->paths, &registry, &fresh, &test->err), HS_OK);
    assert_string_equal(fresh.name, "fresh");
    struct hs_model_choice other = {.path = hs_strdup(api_path(test, "models/fresh.gguf"))};
    assert_int_equal(hs_model_register(&test->paths, &registry, &other, &test->err),
                     HS_ALREADY_EXISTS);
    assert_contains(test->err.hint, "--name");
    struct hs_model_choice gone = {.path = hs_strdup("/nowhere/x.gguf")};
    assert_int_equal(hs_model_register(&test->paths, &registry, &gone, &test->err), HS_NOT_FOUND);
    hs_model_choice_free(&known);
    hs_model_choice_free(&fresh);
    hs_model_choice_free(&other);
    hs_model_choice_free(&gone);
    hs_registry_close(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(paths_are_taken_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(several_models_are_a_servers, setup, teardown),
        cmocka_unit_test_setup_teardown(names_of_the_registry_come_first, setup, teardown),
        cmocka_unit_test_setup_teardown(files_of_the_models_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_has_the_name_it_would_get, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_names_get_a_hint, setup, teardown),
        cmocka_unit_test_setup_teardown(without_any_model, setup, teardown),
        cmocka_unit_test_setup_teardown(the_only_one, setup, teardown),
        cmocka_unit_test_setup_teardown(the_one_used_last, setup, teardown),
        cmocka_unit_test_setup_teardown(the_session_decides_before_that, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_whose_model_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_under_a_servers_alias, setup, teardown),
        cmocka_unit_test_setup_teardown(models_whose_files_are_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(the_demo_model_is_registered, setup, teardown),
        cmocka_unit_test_setup_teardown(registering_a_path, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
