/* hyprstream model verify|rm: what touches the files themselves. */
#include "api_test.h"

#include "base/sha256.h"

static char *add_model(struct api_test *test, const char *file, const char *name)
{
    char *path = (char *)api_path(test, file);
    api_write_model(path, name);
    test->options[HS_OPT_NAME] = name;
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    test->options[HS_OPT_NAME] = NULL;
    api_clear_output(test);
    return path;
}

static void verify_records_and_compares(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "tiny.gguf", "tiny"));
    char hash[65];
    assert_int_equal(hs_sha256_file(path, NULL, NULL, hash, NULL), HS_OK);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_OK);
    assert_contains(test->out.data, hash);
    assert_contains(test->out.data, "(recorded)");
    assert_true(test->n_progress > 0);
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_OK);
    assert_contains(test->out.data, "(as recorded)");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_verify, path, NULL), HS_OK);
    assert_contains(test->out.data, "not registered");
    hs_free(path);
}

static void verify_finds_damage(void **state)
{
    struct api_test *test = *state;
    char *path = add_model(test, "tiny.gguf", "tiny");
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_OK);
    FILE *file = fopen(path, "r+b");
    assert_int_equal(fseek(file, -1, SEEK_END), 0); /* the last byte of the weights */
    int last = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    fputc(last ^ 1, file);
    fclose(file);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_CORRUPT);
    assert_contains(test->err.message, "SHA-256");
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_TRUNCATED);
    api_write_model(path, "a longer name than before, so that the size differs by some blocks");
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_CORRUPT);
    assert_contains(test->err.message, "size");
}

static void ctrl_c_stops_verify(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny.gguf", "tiny");
    test->interrupt_at = 1;
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_CANCELLED);
}

static void rm_leaves_files_of_others(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "tiny.gguf", "tiny"));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_OK);
    assert_contains(test->out.data, "its file stays");
    assert_true(api_exists(path));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "model list");
    hs_free(path);
}

static void rm_asks_about_our_files(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "models/tiny.gguf", "tiny"));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.hint, "--force");
    test->io.in_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_OK);
    assert_contains(test->question, "tiny.gguf");
    assert_contains(test->err_out.data, "nothing was removed");
    assert_true(api_exists(path));
    test->confirms = true;
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_OK);
    assert_false(api_exists(path));
    hs_free(path);
    path = hs_strdup(add_model(test, "models/two.gguf", "two"));
    test->io.in_is_terminal = false;
    test->options[HS_OPT_FORCE] = "";
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_rm, "two", NULL), HS_OK);
    assert_contains(test->out.data, "\"file_removed\": true");
    assert_false(api_exists(path));
    hs_free(path);
}

static void rm_sees_through_links(void **state)
{
    struct api_test *test = *state;
    char *real = hs_strdup(api_path(test, "elsewhere.gguf"));
    api_write_model(real, "x");
    assert_int_equal(symlink(real, api_path(test, "models/link.gguf")), 0);
    assert_int_equal(
        api_run(test, hs_cmd_model_add, (char *)api_path(test, "models/link.gguf"), NULL), HS_OK);
    api_clear_output(test);
    test->options[HS_OPT_FORCE] = "";
    assert_int_equal(api_run(test, hs_cmd_model_rm, "elsewhere", NULL), HS_OK);
    assert_true(api_exists(real)); /* the file itself is not in our folder */
    hs_free(real);
}

static void rm_keeps_a_file_with_another_name(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "models/twice.gguf", "first"));
    test->options[HS_OPT_NAME] = "second";
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    test->options[HS_OPT_NAME] = NULL;
    test->options[HS_OPT_FORCE] = "";
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_model_rm, "first", NULL), HS_OK);
    assert_contains(test->out.data, "its file stays");
    assert_true(api_exists(path));
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_model_rm, "second", NULL), HS_OK);
    assert_contains(test->out.data, "and its file"); /* nothing else stands for it */
    assert_false(api_exists(path));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "twice", NULL), HS_NOT_FOUND);
    hs_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(verify_records_and_compares, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(verify_finds_damage, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_stops_verify, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_leaves_files_of_others, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_asks_about_our_files, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_keeps_a_file_with_another_name, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_sees_through_links, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
