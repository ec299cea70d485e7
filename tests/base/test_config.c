/* Tests of base/config.h: the table, values of every type, sources and their order. The file's
 * grammar is in test_config_file.c. */
#include "config_test.h"

#include <float.h>
#include <locale.h>

#include "base/log.h"

/* ---- the table ---- */

static void test_rows(void **state)
{
    (void)state;
    static bool used_flags[256];
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        char from_name[64];
        size_t n = 0;
        for (; row->name[n] != '\0'; n++) {
            assert_true((row->name[n] >= 'a' && row->name[n] <= 'z') || row->name[n] == '-');
            from_name[n] = row->name[n] == '-' ? '_' : row->name[n];
        }
        from_name[n] = '\0';
        enum hs_config_id found = HS_CFG_COUNT;
        assert_ptr_equal(hs_config_find(row->name, &found), row);
        assert_int_equal(found, id);
        assert_ptr_equal(hs_config_find(from_name, NULL), row);
        assert_true(n <= 40); /* hs_config_nearest's limit */
        assert_true(strlen(row->text) > 0);
        assert_true(row->type == HS_CONFIG_BOOL || row->choices != NULL);
        assert_true(row->min <= row->max);
        if (row->short_flag != 0) {
            assert_false(used_flags[(unsigned char)row->short_flag]);
            used_flags[(unsigned char)row->short_flag] = true;
        }
    }
    assert_string_equal(hs_config_row(HS_CFG_CTX_SIZE)->id, "CTX_SIZE");
    assert_string_equal(hs_config_row(HS_CFG_CTX_SIZE)->name, "ctx-size");
    assert_null(hs_config_find("nothing", NULL));
    assert_null(hs_config_find("", NULL));
    assert_null(hs_config_find("ctx-size ", NULL));
    assert_null(hs_config_find("CTX-SIZE", NULL));
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"tmep", "temp"},
        {"ctxsize", "ctx-size"},
        {"context-size", NULL},
        {"ctx_sise", "ctx-size"},
        {"top_k", "top-k"},
        {"TOP-P", "top-p"},
        {"repeatpenalty", "repeat-penalty"},
        {"sed", "seed"},
        {"abc", NULL},
        {"x", NULL},
        {"", NULL},
        {"gpu-layer", "gpu-layers"},
        {"chat-template", NULL}, /* "-file" is five away */
        {"stoop", "stop"},
        {"overflowxxx", "overflow"},
        {"overflowxxxx", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *nearest = hs_config_nearest(rows[i][0]);
        if (rows[i][1] == NULL) {
            assert_null(nearest);
        } else {
            assert_non_null(nearest);
            assert_string_equal(nearest, rows[i][1]);
        }
    }
    char longest[42];
    memset(longest, 'x', sizeof longest);
    longest[41] = '\0';
    assert_null(hs_config_nearest(longest));
    longest[40] = '\0';
    assert_null(hs_config_nearest(longest));
}

static void test_defaults(void **state)
{
    const struct hs_config *config = *state;
    for (int i = 0; i < HS_CFG_COUNT; i++) {
        enum hs_config_id id = (enum hs_config_id)i;
        const struct hs_config_row *row = hs_config_row(id);
        const struct hs_config_value *value = &config->values[i];
        assert_int_equal(value->source, HS_CONFIG_DEFAULT);
        assert_string_equal(value->origin, "default");
        assert_int_equal(value->is_set, row->default_value != NULL);
        assert_string_equal(value->text, row->default_value == NULL ? "" : row->default_value);
        assert_int_equal(hs_config_is_set(config, id), row->default_value != NULL);
        if (row->default_value == NULL) {
            assert_null(hs_config_str(config, id));
            assert_int_equal(value->n_items, 0);
        }
    }
    assert_int_equal(hs_config_int(config, HS_CFG_MAX_TOKENS), -1);
    assert_true(hs_config_float(config, HS_CFG_TEMP) == 0.8);
    assert_true(hs_config_bool(config, HS_CFG_MMAP));
    assert_false(hs_config_bool(config, HS_CFG_MLOCK));
    assert_int_equal(hs_config_int(config, HS_CFG_PARK_BUDGET), 512 << 20);
    assert_int_equal(hs_config_int(config, HS_CFG_COLOR), 0);
    assert_string_equal(hs_config_str(config, HS_CFG_COLOR), "auto");
}

/* ---- values ---- */

static void test_flag_needs_value(void **state)
{
    for (int i = 0; i < HS_CFG_COUNT; i++) {
        enum hs_config_id id = (enum hs_config_id)i;
        struct hs_error err;
        bool is_bool = hs_config_row(id)->type == HS_CONFIG_BOOL;
        hs_status wanted = is_bool ? HS_OK : HS_INVALID_ARGUMENT;
        assert_int_equal(hs_config_set_flag(*state, id, NULL, &err), wanted);
        if (!is_bool) {
            assert_non_null(strstr(err.message, "needs a value"));
            assert_non_null(strstr(err.hint, hs_config_row(id)->choices));
        }
    }
}

/* ---- sources ---- */

static void load_text(struct hs_config *config, const char *text)
{
    struct hs_error err = {.message = ""};
    if (hs_config_load_text(config, text, strlen(text), "f", &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static void load_env(struct hs_config *config, char *entry)
{
    char *entries[] = {"PATH=/bin", entry, NULL};
    environ = entries;
    assert_int_equal(hs_config_load_env(config, NULL), HS_OK);
    environ = no_environment;
}

static void check_temp(const struct hs_config *config, enum hs_config_source source, double number,
                       const char *origin)
{
    const struct hs_config_value *value = &config->values[HS_CFG_TEMP];
    assert_int_equal(value->source, source);
    assert_true(value->number == number);
    assert_string_equal(value->origin, origin);
}

/* The highest source wins in all six orders of loading. */
static void test_layers_in_any_order(void **state)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int present = 0; present < 8; present++) {
        for (size_t o = 0; o < COUNT_OF(orders); o++) {
            hs_config_free(*state);
            assert_int_equal(hs_config_init(*state, NULL), HS_OK);
            for (int k = 0; k < 3; k++) {
                int source = orders[o][k];
                if ((present & 1 << source) == 0) {
                    continue;
                }
                if (source == 0) {
                    load_text(*state, "temp = 0.1");
                } else if (source == 1) {
                    load_env(*state, "HYPRSTREAM_TEMP=0.2");
                } else {
                    assert_int_equal(hs_config_set_flag(*state, HS_CFG_TEMP, "0.3", NULL), HS_OK);
                }
            }
            if ((present & 4) != 0) {
                check_temp(*state, HS_CONFIG_FLAG, 0.3, "--temp");
            } else if ((present & 2) != 0) {
                check_temp(*state, HS_CONFIG_ENV, 0.2, "HYPRSTREAM_TEMP");
            } else if ((present & 1) != 0) {
                check_temp(*state, HS_CONFIG_FILE, 0.1, "f:1");
            } else {
                check_temp(*state, HS_CONFIG_DEFAULT, 0.8, "default");
            }
        }
    }
}

static void test_wrong_values_of_lower_sources_are_errors(void **state)
{
    struct hs_error err;
    assert_int_equal(hs_config_set_flag(*state, HS_CFG_TEMP, "0.3", NULL), HS_OK);
    assert_int_equal(hs_config_load_text(*state, "temp = x", 8, "f", &err), HS_INVALID_ARGUMENT);
    check_temp(*state, HS_CONFIG_FLAG, 0.3, "--temp");
}

static void check_items(const struct hs_config *config, enum hs_config_id id, const char *joined,
                        size_t n)
{
    const struct hs_config_value *value = &config->values[id];
    char text[200] = "";
    for (size_t i = 0; i < value->n_items; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i == 0 ? "" : ";",
                 value->items[i]);
    }
    assert_int_equal(value->n_items, n);
    assert_string_equal(text, joined);
    assert_int_equal(value->is_set, n > 0);
}

static void test_list_layers(void **state)
{
    struct hs_config *config = *state;
    load_text(config, "stop = a, b");
    check_items(config, HS_CFG_STOP, "a;b", 2);
    load_env(config, "HYPRSTREAM_STOP=c , d,e\tf");
    check_items(config, HS_CFG_STOP, "c;d;e\tf", 3);
    load_text(config, "stop = later");
    check_items(config, HS_CFG_STOP, "c;d;e\tf", 3);
    /* the first flag replaces, the next ones append; a flag's commas are its own */
    assert_int_equal(hs_config_set_flag(config, HS_CFG_STOP, "x,y", NULL), HS_OK);
    check_items(config, HS_CFG_STOP, "x,y", 1);
    assert_int_equal(hs_config_set_flag(config, HS_CFG_STOP, " z ", NULL), HS_OK);
    check_items(config, HS_CFG_STOP, "x,y; z ", 2);
    assert_string_equal(hs_config_str(config, HS_CFG_STOP), "x,y, z ");
    load_env(config, "HYPRSTREAM_STOP=c");
    check_items(config, HS_CFG_STOP, "x,y; z ", 2);
    /* an empty one clears, and the next begins anew */
    assert_int_equal(hs_config_set_flag(config, HS_CFG_STOP, "", NULL), HS_OK);
    check_items(config, HS_CFG_STOP, "", 0);
    assert_null(hs_config_str(config, HS_CFG_STOP));
    assert_int_equal(hs_config_set_flag(config, HS_CFG_STOP, "n", NULL), HS_OK);
    check_items(config, HS_CFG_STOP, "n", 1);
    assert_string_equal(hs_config_str(config, HS_CFG_STOP), "n");
}

static void test_list_empty_items(void **state)
{
    static const char *const wrong[] = {"HYPRSTREAM_STOP=a,,b", "HYPRSTREAM_STOP=,",
                                        "HYPRSTREAM_STOP=a,",
                                        "HYPRSTREAM_STOP= ", "HYPRSTREAM_STOP=,a"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char entry[64];
        struct hs_error err;
        snprintf(entry, sizeof entry, "%s", wrong[i]);
        char *entries[] = {entry, NULL};
        environ = entries;
        assert_int_equal(hs_config_load_env(*state, &err), HS_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "HYPRSTREAM_STOP: setting 'stop'"));
        environ = no_environment;
        check_items(*state, HS_CFG_STOP, "", 0);
    }
}

static void test_empty_unsets(void **state)
{
    struct hs_config *config = *state;
    load_text(config, "system = \"be brief\"\nchat-template-file = t.jinja\n");
    load_env(config, "HYPRSTREAM_SYSTEM="); /* an empty variable is one that is not there */
    assert_string_equal(hs_config_str(config, HS_CFG_SYSTEM), "be brief");
    assert_int_equal(hs_config_set_flag(config, HS_CFG_SYSTEM, "", NULL), HS_OK);
    assert_null(hs_config_str(config, HS_CFG_SYSTEM));
    assert_false(hs_config_is_set(config, HS_CFG_SYSTEM));
    assert_int_equal(config->values[HS_CFG_SYSTEM].source, HS_CONFIG_FLAG);
    assert_string_equal(config->values[HS_CFG_SYSTEM].text, "");
    assert_int_equal(hs_config_set_flag(config, HS_CFG_CHAT_TEMPLATE_FILE, "", NULL), HS_OK);
    assert_null(hs_config_str(config, HS_CFG_CHAT_TEMPLATE_FILE));
}

static void test_repeated_flag(void **state)
{
    accept(*state, HS_CFG_TEMP, "0.1", 0.1);
    accept(*state, HS_CFG_TEMP, "0.2", 0.2);
    accept(*state, HS_CFG_SYSTEM, "a", 0);
    accept(*state, HS_CFG_SYSTEM, "b", 0);
}

/* ---- environment ---- */

struct warnings {
    int n;
    char last[400];
};

static void on_log(enum hs_log_level level, const char *component, const char *request_id,
                   const char *message, void *user)
{
    struct warnings *warnings = user;
    (void)request_id;
    assert_int_equal(level, HS_LOG_WARN);
    assert_string_equal(component, "config");
    warnings->n++;
    snprintf(warnings->last, sizeof warnings->last, "%s", message);
}

static void test_environment(void **state)
{
    char *entries[] = {"HYPRSTREAM_CTX_SIZE=4096",
                       "HYPRSTREAM_MMAP=off",
                       "HYPRSTREAM_HOME=/x",
                       "HYPRSTREAM",
                       "HYPRSTREA_TEMP=9",
                       "XHYPRSTREAM_TEMP=9",
                       "HYPRSTREAM_MODEL=a=b=c",
                       "HYPRSTREAM_TOP_P=",
                       NULL};
    struct warnings warnings = {.n = 0};
    hs_log_set_sink(on_log, &warnings);
    environ = entries;
    assert_int_equal(hs_config_load_env(*state, NULL), HS_OK);
    environ = no_environment;
    hs_log_set_sink(NULL, NULL);
    assert_int_equal(warnings.n, 0);
    assert_int_equal(hs_config_int(*state, HS_CFG_CTX_SIZE), 4096);
    assert_false(hs_config_bool(*state, HS_CFG_MMAP));
    assert_string_equal(hs_config_str(*state, HS_CFG_MODEL), "a=b=c");
    assert_true(hs_config_float(*state, HS_CFG_TOP_P) == 0.95);
    check_temp(*state, HS_CONFIG_DEFAULT, 0.8, "default");
}

static void test_environment_errors(void **state)
{
    struct hs_error err;
    char *entries[] = {"HYPRSTREAM_TEMP=hot", NULL};
    environ = entries;
    assert_int_equal(hs_config_load_env(*state, &err), HS_INVALID_ARGUMENT);
    environ = no_environment;
    assert_string_equal(err.message, "HYPRSTREAM_TEMP: setting 'temp' cannot be 'hot': it must be "
                                     "a number from 0 to 100");
}

static void test_unknown_variables_warn(void **state)
{
    struct warnings warnings = {.n = 0};
    hs_log_set_sink(on_log, &warnings);
    load_env(*state, "HYPRSTREAM_TMEP=1");
    assert_int_equal(warnings.n, 1);
    assert_non_null(strstr(warnings.last, "HYPRSTREAM_TMEP"));
    assert_non_null(strstr(warnings.last, "HYPRSTREAM_TEMP"));
    load_env(*state, "HYPRSTREAM_=1");
    assert_int_equal(warnings.n, 2);
    load_env(*state, "HYPRSTREAM_ctx_size=1");
    assert_int_equal(warnings.n, 3);
    load_env(*state, "HYPRSTREAM_CTX-SIZE=1");
    assert_int_equal(warnings.n, 4);
    hs_log_set_sink(NULL, NULL);
    assert_int_equal(hs_config_int(*state, HS_CFG_CTX_SIZE), 0);
}

/* ---- memory ---- */

static hs_status use_everything(struct hs_error *err)
{
    struct hs_config config;
    hs_status status = hs_config_init(&config, err);
    if (status != HS_OK) {
        return status;
    }
    static const char text[] = "stop = [\"a\", \"b\"]\ntemp = 0.5\ndevice = x, y\n";
    status = hs_config_load_text(&config, text, sizeof text - 1, "f", err);
    if (status == HS_OK) {
        status = hs_config_load_env(&config, err);
    }
    for (int i = 0; i < 2 && status == HS_OK; i++) {
        status = hs_config_set_flag(&config, HS_CFG_STOP, "item", err);
    }
    if (status == HS_OK) {
        check_items(&config, HS_CFG_STOP, "item;item", 2);
        check_items(&config, HS_CFG_DEVICES, "x;y", 2);
    }
    hs_config_free(&config);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    char *entries[] = {"HYPRSTREAM_RPC=a,b", "HYPRSTREAM_TOP_K=5", NULL};
    environ = entries;
    struct hs_error err;
    hs_status status;
    WITH_EVERY_ALLOCATION_FAILING(
        status, { status = use_everything(&err); },
        { assert_int_equal(err.status, HS_OUT_OF_MEMORY); });
    environ = no_environment;
    hs_config_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(test_rows),
        CONFIG_TEST(test_nearest),
        CONFIG_TEST(test_defaults),
        CONFIG_TEST(test_flag_needs_value),
        CONFIG_TEST(test_layers_in_any_order),
        CONFIG_TEST(test_wrong_values_of_lower_sources_are_errors),
        CONFIG_TEST(test_list_layers),
        CONFIG_TEST(test_list_empty_items),
        CONFIG_TEST(test_empty_unsets),
        CONFIG_TEST(test_repeated_flag),
        CONFIG_TEST(test_environment),
        CONFIG_TEST(test_environment_errors),
        CONFIG_TEST(test_unknown_variables_warn),
        CONFIG_TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
