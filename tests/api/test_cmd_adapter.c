/* hyprstream adapter add|pull|list|show|history|rm|rename|tag. */
#include "api_test.h"

#include "base/log.h"
#include "storage/adapter_store.h"
#include "tiny_adapter.h"
#include "tiny_gguf.h"

#define N_IN TINY_GGUF_N_EMBD

static char *make_adapter(const struct api_test *test, const char *name, int n_in, float seed)
{
    char *folder = (char *)api_path(test, name);
    assert_true(tiny_adapter_write(folder, n_in, seed));
    return folder;
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* A model "tiny" in the registry; setup of most tests. */
static int setup(void **state)
{
    if (api_setup(state)) {
        return -1;
    }
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "tiny.gguf");
    api_write_model(path, "tiny");
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    api_clear_output(test);
    return 0;
}

static void add(struct api_test *test, const char *name, float seed, hs_status want)
{
    char *folder = make_adapter(test, "source", N_IN, seed);
    test->options[HS_OPT_NAME] = name;
    if (api_run(test, hs_cmd_adapter_add, folder, NULL) != want) {
        fail_msg("%s (%s)", test->err.message, test->err.hint);
    }
    test->options[HS_OPT_NAME] = NULL;
}

static json_t *run_json(struct api_test *test, hs_command_fn run, const char *name)
{
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    if (api_run(test, run, name, NULL) != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    api_flag(test, HS_CFG_JSON, "false");
    json_t *json = api_json(test);
    api_clear_output(test);
    return json;
}

static void an_empty_list(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_adapter_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "");
    assert_contains(test->err_out.data, "adapter add PATH");
    json_t *list = run_json(test, hs_cmd_adapter_list, NULL);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

static void add_list_and_show(void **state)
{
    struct api_test *test = *state;
    test->options[HS_OPT_DESCRIPTION] = "writes French";
    test->options[HS_OPT_TAG] = "language,short\nlast";
    test->options[HS_OPT_EXAMPLE] = "Say hello, in French\nAnd goodbye";
    add(test, "french", 0.5F, HS_OK);
    memset(test->options, 0, sizeof test->options);
    assert_contains(test->out.data, "french version 1 (for tiny, rank 2, ");
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_adapter_list, NULL), HS_OK);
    assert_contains(test->out.data, "NAME    VERSION  MODEL  RANK");
    assert_contains(test->out.data, "french        1  tiny      2");
    api_clear_output(test);
    test->options[HS_OPT_NAMES] = "";
    assert_int_equal(api_run(test, hs_cmd_adapter_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "french\n");
    test->options[HS_OPT_NAMES] = NULL;
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_adapter_show, "french", NULL), HS_OK);
    assert_contains(test->out.data, "targets       attn_q\n");
    assert_contains(test->out.data, "rank, alpha   2, 16\n");
    assert_contains(test->out.data, "examples      Say hello, in French\n");
    json_t *row = run_json(test, hs_cmd_adapter_show, "french");
    assert_string_equal(text(row, "model"), "tiny");
    assert_string_equal(text(row, "architecture"), "llama");
    assert_string_equal(text(row, "description"), "writes French");
    assert_int_equal(json_array_size(json_object_get(row, "tags")), 3);
    assert_string_equal(json_string_value(json_array_get(json_object_get(row, "examples"), 1)),
                        "And goodbye");
    assert_int_equal(strlen(text(row, "sha256")), 64);
    assert_true(api_exists(text(row, "path")));
    assert_non_null(strstr(text(row, "path"), test->home)); /* copied */
    json_decref(row);
}

static void versions(void **state)
{
    struct api_test *test = *state;
    add(test, "a", 0, HS_OK);
    add(test, "a", 1, HS_ALREADY_EXISTS);
    assert_contains(test->err.hint, "--replace");
    test->options[HS_OPT_REPLACE] = "";
    api_flag(test, HS_CFG_ADAPTER_VERSIONS, "2");
    add(test, "a", 1, HS_OK);
    add(test, "a", 2, HS_OK);
    test->options[HS_OPT_REPLACE] = NULL;
    json_t *list = run_json(test, hs_cmd_adapter_history, "a");
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "version")), 3);
    assert_string_not_equal(text(json_array_get(list, 0), "sha256"),
                            text(json_array_get(list, 1), "sha256"));
    json_decref(list);
    assert_int_equal(api_run(test, hs_cmd_adapter_history, "a", NULL), HS_OK);
    assert_contains(test->out.data, "VERSION  ADDED");
}

static void a_linked_one_stays_where_it_is(void **state)
{
    struct api_test *test = *state;
    test->options[HS_OPT_LINK] = "";
    add(test, "a", 0, HS_OK);
    test->options[HS_OPT_LINK] = NULL;
    json_t *row = run_json(test, hs_cmd_adapter_show, "a");
    assert_string_equal(text(row, "path"), api_path(test, "source"));
    assert_true(json_is_true(json_object_get(row, "linked")));
    json_decref(row);
    test->options[HS_OPT_FORCE] = "";
    assert_int_equal(api_run(test, hs_cmd_adapter_rm, "a", NULL), HS_OK);
    assert_true(api_exists(api_path(test, "source/adapter_model.safetensors")));
}

static void names_without_one(void **state)
{
    struct api_test *test = *state;
    add(test, NULL, 0, HS_OK);
    assert_contains(test->out.data, "source version 1");
    char *folder = make_adapter(test, ".odd name", N_IN, 0);
    assert_int_equal(api_run(test, hs_cmd_adapter_add, folder, NULL), HS_OK);
    assert_contains(test->out.data, "-odd-name version 1");
    char file[1100];
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", folder);
    assert_int_equal(api_run(test, hs_cmd_adapter_add, file, NULL), HS_OK);
    assert_contains(test->out.data, "adapter_model version 1");
}

static void what_add_refuses(void **state)
{
    struct api_test *test = *state;
    add(test, "tiny", 0, HS_ALREADY_EXISTS); /* a model's */
    assert_contains(test->err.message, "model");
    add(test, "a:b", 0, HS_INVALID_ARGUMENT);
    char *folder = make_adapter(test, "wide", N_IN / 2, 0);
    assert_int_equal(api_run(test, hs_cmd_adapter_add, folder, NULL), HS_MISMATCH);
    assert_contains(test->err.message, "attn_q");
    assert_int_equal(api_run(test, hs_cmd_adapter_add, api_path(test, "nothing"), NULL),
                     HS_NOT_FOUND);
    api_flag(test, HS_CFG_MODEL, "no-such-model");
    add(test, "a", 0, HS_NOT_FOUND);
    json_t *list = run_json(test, hs_cmd_adapter_list, NULL);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

static void pull_says_what_to_do(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_adapter_pull, "someone/something", NULL),
                     HS_NOT_SUPPORTED);
    assert_contains(test->err.message, "Hugging Face");
    assert_contains(test->err.hint, "adapter add");
}

static void rename_and_tag(void **state)
{
    struct api_test *test = *state;
    add(test, "a", 0, HS_OK);
    add(test, "b", 0, HS_OK);
    assert_int_equal(api_run(test, hs_cmd_adapter_rename, "a", "b", NULL), HS_ALREADY_EXISTS);
    assert_int_equal(api_run(test, hs_cmd_adapter_rename, "a", "tiny", NULL), HS_ALREADY_EXISTS);
    assert_int_equal(api_run(test, hs_cmd_adapter_rename, "x", "y", NULL), HS_NOT_FOUND);
    assert_int_equal(api_run(test, hs_cmd_adapter_rename, "a", "c", NULL), HS_OK);
    assert_int_equal(api_run(test, hs_cmd_adapter_tag, "c", NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(api_run(test, hs_cmd_adapter_tag, "c", "one", "two", NULL), HS_OK);
    test->options[HS_OPT_DESCRIPTION] = "d";
    assert_int_equal(api_run(test, hs_cmd_adapter_tag, "c", NULL), HS_OK);
    test->options[HS_OPT_DESCRIPTION] = NULL;
    json_t *row = run_json(test, hs_cmd_adapter_show, "c");
    assert_string_equal(text(row, "description"), "d");
    assert_int_equal(json_array_size(json_object_get(row, "tags")), 2);
    json_decref(row);
    assert_int_equal(api_run(test, hs_cmd_adapter_tag, "c", "-", NULL), HS_OK);
    row = run_json(test, hs_cmd_adapter_show, "c");
    assert_int_equal(json_array_size(json_object_get(row, "tags")), 0);
    json_decref(row);
}

static void show_suggests(void **state)
{
    struct api_test *test = *state;
    add(test, "french", 0, HS_OK);
    assert_int_equal(api_run(test, hs_cmd_adapter_show, "frnech", NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "'french'");
    assert_int_equal(api_run(test, hs_cmd_adapter_history, "x", NULL), HS_NOT_FOUND);
}

static void rm_asks(void **state)
{
    struct api_test *test = *state;
    add(test, "a", 0, HS_OK);
    assert_int_equal(api_run(test, hs_cmd_adapter_rm, "b", NULL), HS_NOT_FOUND);
    assert_int_equal(api_run(test, hs_cmd_adapter_rm, "a", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.hint, "--force");
    test->io.in_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_adapter_rm, "a", NULL), HS_OK);
    assert_contains(test->question, "adapter 'a' (1 version) and its files");
    assert_contains(test->err_out.data, "nothing was removed");
    test->confirms = true;
    assert_int_equal(api_run(test, hs_cmd_adapter_rm, "a", NULL), HS_OK);
    assert_contains(test->out.data, "removed adapter a");
    assert_int_equal(api_run(test, hs_cmd_adapter_rm, "a", NULL), HS_NOT_FOUND);
}

/* Whatever allocation fails: an error, and then either all of it or nothing. */
static void without_memory(void **state)
{
    struct api_test *test = *state;
    char *folder = make_adapter(test, "source", N_IN, 0);
    test->options[HS_OPT_NAME] = "a";
    test->options[HS_OPT_REPLACE] = "";
    test->options[HS_OPT_TAG] = "x,y";
    bool over = false;
    hs_log_set_level(HS_LOG_OFF); /* what is left to the next change is told */
    for (uint64_t n = 1; !over; n++) {
        hs_mem_fail_after(n);
        char *args[] = {folder};
        hs_status status = api_run_args(test, hs_cmd_adapter_add, 1, args);
        over = hs_mem_count() < n;
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || !over);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    json_t *row = run_json(test, hs_cmd_adapter_show, "a");
    assert_true(api_exists(text(row, "path")));
    json_decref(row);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_list),
        TEST(add_list_and_show),
        TEST(versions),
        TEST(a_linked_one_stays_where_it_is),
        TEST(names_without_one),
        TEST(what_add_refuses),
        TEST(pull_says_what_to_do),
        TEST(rename_and_tag),
        TEST(show_suggests),
        TEST(rm_asks),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
