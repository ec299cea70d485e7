/* Tests of the configuration file of base/config.h. */
#include "base_test.h"

#include "base/config.h"
#include "base/log.h"

struct fixture {
    struct hs_config config;
    char *folder;
    int n_warnings;
    char warning[400];
};

static void on_log(enum hs_log_level level, const char *component, const char *request_id,
                   const char *message, void *user)
{
    struct fixture *fixture = user;
    (void)level, (void)component, (void)request_id;
    fixture->n_warnings++;
    snprintf(fixture->warning, sizeof fixture->warning, "%s", message);
}

static int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    void *folder = NULL;
    if (tmp_setup(&folder) != 0 || hs_config_init(&fixture->config, NULL) != HS_OK) {
        return -1;
    }
    fixture->folder = folder;
    hs_log_set_sink(on_log, fixture);
    *state = fixture;
    return 0;
}

static int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    hs_log_set_sink(NULL, NULL);
    hs_config_free(&fixture->config);
    void *folder = fixture->folder;
    free(fixture);
    return tmp_teardown(&folder);
}

static hs_status load(struct fixture *fixture, const char *text, struct hs_error *err)
{
    hs_config_free(&fixture->config);
    assert_int_equal(hs_config_init(&fixture->config, NULL), HS_OK);
    /* a copy of just that size, so that reading past its end is seen */
    size_t len = strlen(text);
    char *copy = malloc(len == 0 ? 1 : len);
    memcpy(copy, text, len);
    hs_status status = hs_config_load_text(&fixture->config, copy, len, "c.toml", err);
    free(copy);
    return status;
}

static void check_system(struct fixture *fixture, const char *text, const char *wanted)
{
    struct hs_error err = {.message = ""};
    if (load(fixture, text, &err) != HS_OK) {
        fail_msg("%s: %s", text, err.message);
    }
    const char *got = hs_config_str(&fixture->config, HS_CFG_SYSTEM);
    if (wanted == NULL) {
        assert_null(got);
    } else {
        assert_non_null(got);
        assert_string_equal(got, wanted);
    }
}

/* What tomllib of Python gives for the same lines, but for the bare texts, which TOML has not. */
static void test_values(void **state)
{
    static const char *const rows[][2] = {
        {"system = \"a b\"", "a b"},
        {"system=\"a\"", "a"},
        {"\t system \t=\t \"a\" \t", "a"},
        {"system = \"a # b\" # c", "a # b"},
        {"system = \"\"", NULL},
        {"system = \"\\b\\t\\n\\f\\r\\\"\\\\\"", "\b\t\n\f\r\"\\"},
        {"system = \"\\u00e9\\u20AC\\U0001F600\\u0041\"", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"
                                                          "A"},
        {"system = \"\\u007f\\u0080\\u07ff\\u0800\\uffff\\U00010000\\U0010FFFF\"",
         "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
        {"system = \"tab\there\"", "tab\there"},
        {"system = \"it's\"", "it's"},
        {"system = bare", "bare"},
        {"system = two words \t", "two words"},
        {"system = bare # comment", "bare"},
        {"system = bare#comment", "bare"},
        {"system = it's\\n = x", "it's\\n = x"},
        {"system = \xC3\xA9", "\xC3\xA9"},
        {"\xEF\xBB\xBFsystem = bom", "bom"},
        {"system = crlf\r\n\r\n", "crlf"},
        {"\n\n# only\n   # comments\n\nsystem = x\n", "x"},
        {"", NULL},
        {"\n", NULL},
        {"#", NULL},
        {"# no newline at the end", NULL},
        {"\xEF\xBB\xBF", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        check_system(*state, rows[i][0], rows[i][1]);
    }
}

static void test_origin_and_numbers(void **state)
{
    struct fixture *fixture = *state;
    static const char text[] = "# first\n\nctx_size = 4096\ntemp=0.5\npark-budget = \"1G\"\n"
                               "mmap = no\nlog-level = debug\n";
    assert_int_equal(load(fixture, text, NULL), HS_OK);
    const struct hs_config *config = &fixture->config;
    assert_string_equal(config->values[HS_CFG_CTX_SIZE].origin, "c.toml:3");
    assert_string_equal(config->values[HS_CFG_LOG_LEVEL].origin, "c.toml:7");
    assert_int_equal(hs_config_int(config, HS_CFG_CTX_SIZE), 4096);
    assert_true(hs_config_float(config, HS_CFG_TEMP) == 0.5);
    assert_int_equal(hs_config_int(config, HS_CFG_PARK_BUDGET), 1 << 30);
    assert_false(hs_config_bool(config, HS_CFG_MMAP));
    assert_int_equal(hs_config_int(config, HS_CFG_LOG_LEVEL), 0);
    assert_int_equal(config->values[HS_CFG_TEMP].source, HS_CONFIG_FILE);
}

static void check_list(struct fixture *fixture, const char *text, const char *joined)
{
    struct hs_error err = {.message = ""};
    if (load(fixture, text, &err) != HS_OK) {
        fail_msg("%s: %s", text, err.message);
    }
    const struct hs_config_value *value = &fixture->config.values[HS_CFG_STOP];
    char got[200] = "";
    for (size_t i = 0; i < value->n_items; i++) {
        snprintf(got + strlen(got), sizeof got - strlen(got), "<%s>", value->items[i]);
    }
    assert_string_equal(got, joined);
    assert_int_equal(value->is_set, joined[0] != '\0');
}

static void test_lists(void **state)
{
    check_list(*state, "stop = a", "<a>");
    check_list(*state, "stop = a,b , c", "<a><b><c>");
    check_list(*state, "stop = \"a, b\"", "<a><b>");
    check_list(*state, "stop = \"\\n\"", "<\n>");
    check_list(*state, "stop = []", "");
    check_list(*state, "stop = \"\"", "");
    check_list(*state, "stop = [\"a\"]", "<a>");
    check_list(*state, "stop=[ \"a, b\" , \" c \",\"\\\"\" ]# x", "<a, b>< c ><\">");
    check_list(*state, "stop = [\"a\",]", "<a>"); /* TOML allows a last comma */
    check_list(*state, "stop = [\"]#\", \"[\"]", "<]#><[>");
    assert_string_equal(hs_config_str(&((struct fixture *)*state)->config, HS_CFG_STOP), "]#,[");
}

static void test_list_limit(void **state)
{
    for (int over = 0; over <= 1; over++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
        assert_int_equal(hs_buf_append_str(&text, "stop = ["), HS_OK);
        for (int i = 0; i < 1024 + over; i++) {
            assert_int_equal(hs_buf_printf(&text, "\"%d\",", i), HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&text, "]"), HS_OK);
        struct fixture *fixture = *state;
        struct hs_error err;
        hs_status wanted = over ? HS_INVALID_ARGUMENT : HS_OK;
        assert_int_equal(load(fixture, text.data, &err), wanted);
        assert_int_equal(fixture->config.values[HS_CFG_STOP].n_items, over ? 0 : 1024);
    }
}

static void test_syntax_errors(void **state)
{
    static const char *const rows[][2] = {
        {"system", "name = value"},
        {"system \"x\"", "name = value"},
        {"= x", "name = value"},
        {"\"system\" = x", "name = value"},
        {"a.b = x", "name = value"},
        {"[section]", "tables"},
        {"[[array]]", "tables"},
        {"system =", "missing"},
        {"system =   # comment", "missing"},
        {"system = 'x'", "'"},
        {"system = \"x", "closing"},
        {"system = \"x\\\"", "closing"},
        {"system = \"x\\", "backslash"},
        {"system = \"a\" b", "behind"},
        {"system = \"a\"b", "behind"},
        {"system = \"\"\"x\"\"\"", "behind"},
        {"system = a \"b\"", "quoted"},
        {"system = \"\\x41\"", "backslash"},
        {"system = \"\\ \"", "backslash"},
        {"system = \"\\u12\"", "hexadecimal"},
        {"system = \"\\u12G4\"", "hexadecimal"},
        {"system = \"\\U0001F60\"", "hexadecimal"},
        {"system = \"\\u0000\"", "character"},
        {"system = \"\\ud800\"", "character"},
        {"system = \"\\uDFFF\"", "character"},
        {"system = \"\\U00110000\"", "character"},
        {"system = \"\\UFFFFFFFF\"", "character"},
        {"system = \"a\x01\"", "control"},
        {"system = a\x01", "control"},
        {"system = a\rb", "control"},
        {"system = \xFF", "UTF-8"},
        {"# \xC3", "UTF-8"},
        {"system = \"\xED\xA0\x80\"", "UTF-8"},
        {"stop = [\"a\"", "missing"},
        {"stop = [", "list"},
        {"stop = [a]", "list"},
        {"stop = [1]", "list"},
        {"stop = [\"a\" \"b\"]", "missing"},
        {"stop = [\"a\",,\"b\"]", "list"},
        {"stop = [\"\"]", "empty"},
        {"stop = [\"a\"] x", "behind"},
        {"stop = [\"a", "closing"},
        {"system = [\"a\"]", "quoted"},
        {"config = other.toml", "cannot stand"},
        {"temp = warm", "a number from 0 to 100"},
        {"temp = \"0.5 \"", "a number from 0 to 100"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct hs_error err = {.message = ""};
        char text[200];
        snprintf(text, sizeof text, "# one\ntop-k = 1\n%s\ntop-k = nonsense\n", rows[i][0]);
        if (load(*state, text, &err) != HS_INVALID_ARGUMENT) {
            fail_msg("accepted: %s", rows[i][0]);
        }
        assert_memory_equal(err.message, "c.toml:3: ", 10);
        if (strstr(err.message, rows[i][1]) == NULL) {
            fail_msg("%s: %s", rows[i][0], err.message);
        }
        assert_int_equal(load(*state, text, NULL), HS_INVALID_ARGUMENT);
    }
}

static void test_unknown_key(void **state)
{
    struct hs_error err;
    assert_int_equal(load(*state, "\ntmep = 1\n", &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "c.toml:2: there is no setting 'tmep'");
    assert_string_equal(err.hint, "did you mean 'temp'?");
    assert_int_equal(load(*state, "wholly-different = 1\n", &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.hint, "help config show"));
    char text[3000];
    memset(text, 'k', sizeof text);
    strcpy(text + sizeof text - 5, " = 1");
    assert_int_equal(load(*state, text, &err), HS_INVALID_ARGUMENT);
    assert_true(strlen(err.message) < 120);
}

static void test_twice(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(load(fixture, "temp = 0.1\n\ntemp = 0.2\n", NULL), HS_OK);
    assert_true(hs_config_float(&fixture->config, HS_CFG_TEMP) == 0.2);
    assert_int_equal(fixture->n_warnings, 1);
    assert_non_null(strstr(fixture->warning, "c.toml:3"));
    assert_non_null(strstr(fixture->warning, "'temp'"));
    assert_non_null(strstr(fixture->warning, "line 1"));
    /* lists do not add up, as they do for flags */
    check_list(fixture, "stop = a\nstop = b\n", "<b>");
    assert_int_equal(fixture->n_warnings, 2);
    assert_int_equal(load(fixture, "temp = 0.1\ntop-k = 3\n", NULL), HS_OK);
    assert_int_equal(fixture->n_warnings, 2);
}

static void write_file(const char *path, const char *head, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(head, file);
    for (size_t i = strlen(head); i < size; i++) {
        fputc('#', file);
    }
    assert_int_equal(fclose(file), 0);
}

static void test_files(void **state)
{
    struct fixture *fixture = *state;
    struct hs_config *config = &fixture->config;
    struct hs_error err;
    char path[512], origin[520];
    snprintf(path, sizeof path, "%s/config.toml", fixture->folder);
    assert_int_equal(hs_config_load_file(config, path, false, &err), HS_OK);
    assert_int_equal(hs_config_load_file(config, path, true, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "configuration file"));
    assert_non_null(strstr(err.message, path));
    assert_int_equal(hs_config_load_file(config, path, true, NULL), HS_NOT_FOUND);
    assert_int_equal(hs_config_load_file(config, fixture->folder, false, &err), HS_IS_DIRECTORY);
    write_file(path, "top-k = 9\n", 1 << 20);
    assert_int_equal(hs_config_load_file(config, path, true, &err), HS_OK);
    assert_int_equal(hs_config_int(config, HS_CFG_TOP_K), 9);
    snprintf(origin, sizeof origin, "%s:1", path);
    assert_string_equal(config->values[HS_CFG_TOP_K].origin, origin);
    write_file(path, "top-k = 8\n", (1 << 20) + 1);
    assert_int_equal(hs_config_load_file(config, path, true, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "1048576"));
    assert_int_equal(hs_config_int(config, HS_CFG_TOP_K), 9);
    write_file(path, "", 0);
    assert_int_equal(hs_config_load_file(config, path, true, &err), HS_OK);
}

/* The longest text there can be, and one byte more. */
static void test_text_limit(void **state)
{
    struct fixture *fixture = *state;
    size_t max = 1 << 20;
    char *text = malloc(max + 2);
    memset(text, 'x', max);
    memcpy(text, "system = ", 9);
    strcpy(text + max, "#");
    struct hs_error err;
    assert_int_equal(hs_config_load_text(&fixture->config, text, max + 1, "f", &err), HS_LIMIT);
    assert_null(hs_config_str(&fixture->config, HS_CFG_SYSTEM));
    assert_int_equal(hs_config_load_text(&fixture->config, text, max, "f", &err), HS_OK);
    assert_int_equal(strlen(hs_config_str(&fixture->config, HS_CFG_SYSTEM)), max - 9);
    free(text);
}

static void test_nul_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct hs_error err;
    static const struct {
        const char *text;
        size_t len;
    } lines[] = {
        {"system = a\0b", 12}, {"system = \"a\0b\"", 14}, {"sys\0em = a", 10}, {"system\0= a", 10}};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        assert_int_equal(
            hs_config_load_text(&fixture->config, lines[i].text, lines[i].len, "c.toml", &err),
            HS_INVALID_ARGUMENT);
        assert_null(hs_config_str(&fixture->config, HS_CFG_SYSTEM));
    }
}

/* Whatever a prefix of a good file gives, it gives an answer. */
static void test_every_prefix(void **state)
{
    static const char text[] = "# \xC3\xA9\nsystem = \"a\\u00e9\\n\" # c\nstop = [\"a\", \"b\"]\n"
                               "temp = 0.5\npark_budget = 1G\n\ndevice = x, y\n";
    char prefix[sizeof text];
    for (size_t len = 0; len < sizeof text; len++) {
        struct hs_error err = {.message = ""};
        memcpy(prefix, text, len);
        prefix[len] = '\0';
        hs_status status = load(*state, prefix, &err);
        assert_true(status == HS_OK || status == HS_INVALID_ARGUMENT);
        assert_int_equal(status == HS_OK, err.message[0] == '\0');
        if (len > 0 && text[len - 1] == '\n') {
            assert_int_equal(status, HS_OK);
        }
    }
}

static void test_no_memory(void **state)
{
    struct fixture *fixture = *state;
    char path[512];
    struct hs_error err;
    hs_status status;
    snprintf(path, sizeof path, "%s/config.toml", fixture->folder);
    FILE *file = fopen(path, "w");
    fputs("stop = [\"a\", \"b\"]\nstop = []\nsystem = \"\\u00e9\"\ntop-k = 3\n", file);
    fclose(file);
    WITH_EVERY_ALLOCATION_FAILING(
        status, { status = hs_config_load_file(&fixture->config, path, true, &err); },
        { assert_int_equal(err.status, HS_OUT_OF_MEMORY); });
    assert_int_equal(hs_config_int(&fixture->config, HS_CFG_TOP_K), 3);
    /* also on the way to an unknown setting */
    hs_mem_fail_after(1);
    assert_int_equal(hs_config_load_text(&fixture->config, "nn = 1", 6, "f", &err),
                     HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_values),        FILE_TEST(test_origin_and_numbers),
        FILE_TEST(test_lists),         FILE_TEST(test_list_limit),
        FILE_TEST(test_syntax_errors), FILE_TEST(test_unknown_key),
        FILE_TEST(test_twice),         FILE_TEST(test_files),
        FILE_TEST(test_text_limit),    FILE_TEST(test_nul_bytes),
        FILE_TEST(test_every_prefix),  FILE_TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
