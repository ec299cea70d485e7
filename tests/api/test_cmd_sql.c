/* `hyprstream sql`: where statements come from, how rows are printed, where tables are kept. */
#include "api_test.h"
#include "storage/registry.h"

static hs_status sql(struct api_test *test, const char *text)
{
    char *args[] = {(char *)text, NULL};
    api_clear_output(test);
    return api_run_args(test, hs_cmd_sql, text ? 1 : 0, args);
}

static void assert_prints(struct api_test *test, const char *text, const char *wanted)
{
    if (sql(test, text) != HS_OK) {
        fail_msg("%s: %s", text, test->err.message);
    }
    assert_string_equal(test->out.data ? test->out.data : "", wanted);
}

static void test_formats(void **state)
{
    struct api_test *test = *state;
    static const char text[] =
        "SELECT 7 AS n, 'a,\"b\"' AS s, '' AS e, NULL AS u, [1, NULL] AS l, {'x': 0.5::DOUBLE} AS "
        "o,"
        " DATE '2000-01-02' AS d UNION ALL SELECT 10, 'c', 'f', NULL, [], {'x': 'inf'::DOUBLE}, "
        "DATE '2000-01-03' ORDER BY n";
    assert_prints(test, text,
                  " n  s      e     u  l          o           d\n"
                  " 7  a,\"b\"     NULL  [1, NULL]  {'x': 0.5}  2000-01-02\n"
                  "10  c      f  NULL  []         {'x': inf}  2000-01-03\n");
    test->options[HS_OPT_FORMAT] = "csv";
    assert_prints(test, text,
                  "n,s,e,u,l,o,d\r\n"
                  "7,\"a,\"\"b\"\"\",\"\",,\"[1, NULL]\",{'x': 0.5},2000-01-02\r\n"
                  "10,c,f,,[],{'x': inf},2000-01-03\r\n");
    test->options[HS_OPT_FORMAT] = "json";
    assert_prints(test, text,
                  "[\n {\"n\":7,\"s\":\"a,\\\"b\\\"\",\"e\":\"\",\"u\":null,\"l\":[1,null],"
                  "\"o\":{\"x\":0.5},\"d\":\"2000-01-02\"},\n"
                  " {\"n\":10,\"s\":\"c\",\"e\":\"f\",\"u\":null,\"l\":[],\"o\":{\"x\":null},"
                  "\"d\":\"2000-01-03\"}\n]\n");
    assert_prints(test, "SELECT 1 WHERE false", "[]\n");
    test->options[HS_OPT_FORMAT] = "arrow";
    assert_int_equal(sql(test, "SELECT 1"), HS_OK);
    assert_memory_equal(test->out.data, "\xFF\xFF\xFF\xFF", 4);             /* a message */
    assert_memory_equal(test->out.data + test->out.len - 4, "\0\0\0\0", 4); /* the end */
    test->options[HS_OPT_FORMAT] = "xml";
    assert_int_equal(sql(test, "SELECT 1"), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(test->err.hint, "arrow"));
}

static void test_statements_come_from_input_or_a_file(void **state)
{
    struct api_test *test = *state;
    test->in = "SELECT 1 AS a;\nSELECT 2 AS b;\n";
    assert_prints(test, NULL, "a\n1\nb\n2\n");
    char path[600];
    snprintf(path, sizeof path, "%s/q.sql", test->home);
    assert_int_equal(hs_fs_write_atomic(path, "SELECT 3 AS c", 13, 0600, NULL), HS_OK);
    test->options[HS_OPT_FILE] = path;
    assert_prints(test, NULL, "c\n3\n");
    assert_int_equal(sql(test, "SELECT 1"), HS_INVALID_ARGUMENT);
    test->options[HS_OPT_FILE] = "/nowhere/q.sql";
    assert_int_equal(sql(test, NULL), HS_NOT_FOUND);
}

static void test_tables_are_kept(void **state)
{
    struct api_test *test = *state;
    assert_prints(test, "CREATE TABLE t (n INT); INSERT INTO t VALUES (1), (2)", "");
    assert_prints(test, "SELECT count(*) AS n FROM t", "n\n2\n");
    char path[600];
    snprintf(path, sizeof path, "%s/tables.duckdb", test->paths.data_dir);
    assert_int_equal(access(path, F_OK), 0);
    api_flag(test, HS_CFG_SQL_FILE, ":memory:");
    assert_int_equal(sql(test, "SELECT count(*) FROM t"), HS_INVALID_ARGUMENT);
}

static void test_files_are_read_where_it_is_allowed(void **state)
{
    struct api_test *test = *state;
    char path[600], text[800];
    snprintf(path, sizeof path, "%s/r.csv", test->home);
    assert_int_equal(hs_fs_write_atomic(path, "a,b\n1,x\n", 8, 0600, NULL), HS_OK);
    snprintf(text, sizeof text, "SELECT * FROM '%s'", path);
    assert_int_equal(sql(test, text), HS_PERMISSION_DENIED);
    api_flag(test, HS_CFG_SQL_ALLOW, test->home);
    assert_prints(test, text, "a  b\n1  x\n");
    assert_int_equal(sql(test, "ATTACH 'x'"), HS_PERMISSION_DENIED);
    api_flag(test, HS_CFG_SQL_ALLOW, "/nowhere");
    assert_int_equal(sql(test, "SELECT 1"), HS_NOT_FOUND);
}

/* ---- the schema hyprstream ---- */

static void test_views_show_the_program(void **state)
{
    struct api_test *test = *state;
    api_write_model(api_path(test, "one.gguf"), "One");
    hs_registry *registry;
    assert_int_equal(hs_registry_open(&test->paths, &registry, NULL), HS_OK);
    struct hs_registry_model model;
    assert_int_equal(
        hs_registry_model_add(registry, api_path(test, "one.gguf"), "one", "added", &model, NULL),
        HS_OK);
    hs_registry_model_free(&model);
    hs_registry_close(registry);
    fake_engine.records[0] = (struct hs_request_record){.number = 1,
                                                        .started_unix_ms = 1000,
                                                        .total_ms = 2.5,
                                                        .model_id = "m",
                                                        .client = "ann",
                                                        .adapters = "a:1+b:0.5",
                                                        .finish = HS_FINISH_LENGTH,
                                                        .usage = {.completion_tokens = 7}};
    fake_engine.records[1] = (struct hs_request_record){
        .number = 2, .model_id = "m", .finish = HS_FINISH_ERROR, .error = "no room"};
    fake_engine.n_records = 2;
    test->options[HS_OPT_FORMAT] = "csv";
    assert_prints(test, "SELECT name, is_loaded, architecture FROM hyprstream.models",
                  "name,is_loaded,architecture\r\none,false,llama\r\n");
    assert_prints(test,
                  "SELECT epoch_ms(started_at), \"user\", adapters, completion_tokens, total_ms, "
                  "finish, error FROM hyprstream.requests ORDER BY number",
                  "epoch_ms(started_at),user,adapters,completion_tokens,total_ms,finish,error\r\n"
                  "1000,ann,a:1+b:0.5,7,2.5,length,\r\n"
                  ",,,0,0.0,error,no room\r\n");
    static const char *const empty[] = {"adapters", "adapter_history", "sessions",
                                        "messages", "slots",           "metrics"};
    for (size_t i = 0; i < COUNT_OF(empty); i++) {
        char text[100];
        snprintf(text, sizeof text, "SELECT count(*) AS n FROM hyprstream.%s", empty[i]);
        assert_prints(test, text, "n\r\n0\r\n");
    }
}

static void test_views_have_comments_and_cannot_be_lost(void **state)
{
    struct api_test *test = *state;
    test->options[HS_OPT_FORMAT] = "csv";
    assert_prints(test,
                  "SELECT count(*) AS n FROM duckdb_columns() WHERE schema_name = 'hyprstream' AND "
                  "comment IS NULL",
                  "n\r\n0\r\n");
    assert_int_equal(sql(test, "INSERT INTO hyprstream.metrics VALUES ('m', 'x', 1)"),
                     HS_INVALID_ARGUMENT);
    assert_prints(test, "DROP VIEW hyprstream.metrics", "");
    assert_prints(test, "SELECT count(*) AS n FROM hyprstream.metrics", "n\r\n0\r\n");
}

static void test_a_statement_sees_itself(void **state)
{
    struct api_test *test = *state;
    test->options[HS_OPT_FORMAT] = "csv";
    assert_prints(test,
                  "SELECT n_asked, age_ms >= 0 AS ok,\n\t statement FROM hyprstream.statements",
                  "n_asked,ok,statement\r\n"
                  "0,true,\"SELECT n_asked, age_ms >= 0 AS ok, statement FROM hyprstream\"\r\n");
}

static void test_interruption_ends_it(void **state)
{
    struct api_test *test = *state;
    test->interrupt_at = 2;
    assert_int_equal(sql(test, "SELECT count(*) FROM range(100000000000) a, range(10) b"),
                     HS_CANCELLED);
}

static void test_output_that_fails_is_told(void **state)
{
    struct api_test *test = *state;
    static const char *const formats[] = {"table", "csv", "json", "arrow"};
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        test->options[HS_OPT_FORMAT] = formats[i];
        test->out_fails = true;
        assert_int_equal(sql(test, "SELECT 1"), HS_IO);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_formats),
        TEST(test_statements_come_from_input_or_a_file),
        TEST(test_tables_are_kept),
        TEST(test_files_are_read_where_it_is_allowed),
        TEST(test_views_show_the_program),
        TEST(test_views_have_comments_and_cannot_be_lost),
        TEST(test_a_statement_sees_itself),
        TEST(test_interruption_ends_it),
        TEST(test_output_that_fails_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
