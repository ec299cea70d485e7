/* What lies in the models and sessions folders. */
#include "registry_test.h"

static void test_a_new_registry_finds_what_is_there(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *deep = path_of(paths.models_dir, "hub/org");
    hs_log_set_level(HS_LOG_OFF);
    hs_free(make_model(paths.models_dir, "Tiny One.gguf", "one"));
    hs_free(make_model(deep, "tiny one.GGUF", "two"));
    hs_free(make_model(paths.models_dir, ".hidden.gguf", "three"));
    hs_free(make_model(paths.models_dir, "part-00002-of-00003.gguf", "four"));
    hs_free(make_model(paths.models_dir, "notes.txt", "five"));
    char *broken = path_of(paths.models_dir, "broken.gguf");
    write_file(broken, "GGUF", 4);
    make_saved_session(paths.sessions_dir, "talk");
    char *damaged = path_of(paths.sessions_dir, "bad");
    assert_int_equal(mkdir(damaged, 0700), 0);
    char *damaged_text = path_of(damaged, "session.json");
    write_file(damaged_text, "{", 1);

    hs_registry *registry = open_registry(*state);
    struct hs_registry_model *models = NULL;
    struct hs_registry_session *sessions = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_model_list(registry, &models, &n, NULL), HS_OK);
    assert_int_equal(n, 2);
    assert_string_equal(models[0].name, "tiny-one");
    assert_string_equal(models[1].name, "tiny-one-2");
    assert_string_equal(models[0].source, "found");
    assert_true(models[0].path[0] == '/');
    hs_registry_models_free(models, n);
    assert_int_equal(hs_registry_session_list(registry, &sessions, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(sessions[0].name, "talk");
    assert_int_equal(sessions[0].n_messages, 1);
    assert_int_equal(sessions[0].created_unix_ms, 11);
    assert_int_equal(sessions[0].updated_unix_ms, 22);
    assert_true(sessions[0].size_bytes > 0);
    hs_registry_sessions_free(sessions, n);
    hs_registry_close(registry);
    hs_log_set_level(HS_LOG_WARN);
    hs_free(deep);
    hs_free(broken);
    hs_free(damaged);
    hs_free(damaged_text);
    hs_paths_free(&paths);
}

static void test_find_file(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *deep = path_of(paths.models_dir, "hub/org");
    hs_free(make_model(paths.models_dir, "Tiny One.gguf", "one"));
    hs_free(make_model(deep, "other.GGUF", "two"));
    hs_free(make_model(paths.models_dir, "part-00002-of-00003.gguf", "three"));
    static const struct {
        const char *name, *file; /* file NULL: none */
    } cases[] = {{"tiny-one", "Tiny One.gguf"},
                 {"other", "hub/org/other.GGUF"},
                 {"part", NULL},
                 {"Tiny One", NULL},
                 {"tiny", NULL},
                 {"", NULL}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *found = NULL;
        assert_int_equal(hs_registry_find_file(paths.models_dir, cases[i].name, &found, NULL),
                         HS_OK);
        char *wanted = cases[i].file == NULL ? NULL : path_of(paths.models_dir, cases[i].file);
        assert_true((found == NULL) == (wanted == NULL));
        if (found != NULL)
            assert_string_equal(found, wanted);
        hs_free(found);
        hs_free(wanted);
    }
    char *found = NULL;
    assert_int_equal(hs_registry_find_file("/nowhere/at/all", "x", &found, NULL), HS_OK);
    assert_null(found);
    for (uint64_t nth = 1;; nth++) {
        hs_mem_fail_after(nth);
        hs_status status = hs_registry_find_file(paths.models_dir, "tiny-one", &found, NULL);
        hs_mem_fail_after(0);
        if (status == HS_OK)
            break;
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_null(found);
    }
    hs_free(found);
    hs_free(deep);
    hs_paths_free(&paths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_registry_finds_what_is_there),
        TEST(test_find_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
