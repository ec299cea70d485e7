/* Tests of base/paths.h: the rules of the XDG Base Directory Specification. */
#include "base_test.h"

#include "base/paths.h"

/* Variables of one case; NULL: not set. */
struct environment {
    const char *home, *hyprstream_home, *config, *data, *cache, *state;
};

static void set(const char *name, const char *value)
{
    assert_int_equal(value == NULL ? unsetenv(name) : setenv(name, value, 1), 0);
}

static void enter(const struct environment *env)
{
    set("HOME", env->home);
    set("HYPRSTREAM_HOME", env->hyprstream_home);
    set("XDG_CONFIG_HOME", env->config);
    set("XDG_DATA_HOME", env->data);
    set("XDG_CACHE_HOME", env->cache);
    set("XDG_STATE_HOME", env->state);
}

static void check(const struct environment *env, const char *config, const char *data,
                  const char *cache, const char *history)
{
    struct hs_paths paths;
    char below[200];
    enter(env);
    assert_int_equal(hs_paths_load(&paths, NULL), HS_OK);
    assert_string_equal(paths.config_file, config);
    assert_string_equal(paths.data_dir, data);
    assert_string_equal(paths.cache_dir, cache);
    assert_string_equal(paths.history_file, history);
    snprintf(below, sizeof below, "%s/models", data);
    assert_string_equal(paths.models_dir, below);
    snprintf(below, sizeof below, "%s/sessions", data);
    assert_string_equal(paths.sessions_dir, below);
    snprintf(below, sizeof below, "%s/adapters", data);
    assert_string_equal(paths.adapters_dir, below);
    snprintf(below, sizeof below, "%s/registry.db", data);
    assert_string_equal(paths.registry_file, below);
    hs_paths_free(&paths);
    assert_null(paths.config_file);
    hs_paths_free(&paths);
}

static void test_defaults_below_home(void **state)
{
    (void)state;
    check(&(struct environment){.home = "/home/u"}, "/home/u/.config/hyprstream/config.toml",
          "/home/u/.local/share/hyprstream", "/home/u/.cache/hyprstream",
          "/home/u/.local/state/hyprstream/history");
    check(&(struct environment){.home = "/"}, "/.config/hyprstream/config.toml",
          "/.local/share/hyprstream", "/.cache/hyprstream", "/.local/state/hyprstream/history");
}

static void test_xdg_variables(void **state)
{
    (void)state;
    check(
        &(struct environment){
            .home = "/home/u", .config = "/c", .data = "/d", .cache = "/k", .state = "/s"},
        "/c/hyprstream/config.toml", "/d/hyprstream", "/k/hyprstream", "/s/hyprstream/history");
    /* without HOME they are enough */
    check(&(struct environment){.config = "/c/", .data = "/d", .cache = "/k", .state = "/s"},
          "/c/hyprstream/config.toml", "/d/hyprstream", "/k/hyprstream", "/s/hyprstream/history");
    /* one alone moves one folder */
    check(&(struct environment){.home = "/h", .data = "/d"}, "/h/.config/hyprstream/config.toml",
          "/d/hyprstream", "/h/.cache/hyprstream", "/h/.local/state/hyprstream/history");
}

/* "All paths set in these environment variables must be absolute. If an implementation encounters a
 * relative path ... it should consider the path invalid and ignore it." Empty is unset. */
static void test_relative_and_empty_are_ignored(void **state)
{
    (void)state;
    check(&(struct environment){.home = "/h",
                                .hyprstream_home = "",
                                .config = "",
                                .data = "rel",
                                .cache = "./x",
                                .state = "~/s"},
          "/h/.config/hyprstream/config.toml", "/h/.local/share/hyprstream", "/h/.cache/hyprstream",
          "/h/.local/state/hyprstream/history");
}

static void test_hyprstream_home_wins(void **state)
{
    (void)state;
    check(&(struct environment){.home = "/h",
                                .hyprstream_home = "/all",
                                .config = "/c",
                                .data = "/d",
                                .cache = "/k",
                                .state = "/s"},
          "/all/config.toml", "/all", "/all/cache", "/all/history");
    check(&(struct environment){.hyprstream_home = "rel/dir"}, "rel/dir/config.toml", "rel/dir",
          "rel/dir/cache", "rel/dir/history");
}

static void test_nowhere(void **state)
{
    (void)state;
    static const struct environment cases[] = {
        {.home = NULL},
        {.home = ""},
        {.home = "relative"},
        {.config = "/c", .data = "/d", .state = "/s"},
        {.config = "/c", .cache = "/k", .state = "/s"},
        {.config = "/c", .cache = "/k", .data = "/d"},
        {.cache = "/k", .data = "/d", .state = "/s"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct hs_error err;
        struct hs_paths paths;
        enter(&cases[i]);
        assert_int_equal(hs_paths_load(&paths, &err), HS_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "HOME"));
        assert_non_null(strstr(err.hint, "HYPRSTREAM_HOME"));
        assert_int_equal(hs_paths_load(&paths, NULL), HS_INVALID_ARGUMENT);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    static const struct environment cases[] = {{.home = "/h"}, {.hyprstream_home = "/a"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct hs_paths paths;
        struct hs_error err;
        hs_status status;
        enter(&cases[i]);
        WITH_EVERY_ALLOCATION_FAILING(
            status, { status = hs_paths_load(&paths, &err); },
            { assert_int_equal(err.status, HS_OUT_OF_MEMORY); });
        hs_paths_free(&paths);
    }
    hs_paths_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_below_home),
        cmocka_unit_test(test_xdg_variables),
        cmocka_unit_test(test_relative_and_empty_are_ignored),
        cmocka_unit_test(test_hyprstream_home_wins),
        cmocka_unit_test(test_nowhere),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
