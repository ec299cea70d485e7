/* The functions as SQL calls them: texts, types, and how often the model is asked. */
#include "fn_test.h"

static struct fn_world world;

static int open_world(void **state)
{
    (void)state;
    fn_open(&world, NULL, NULL, 65536, 16);
    fn_run(&world, "CREATE TABLE t AS SELECT range i, printf('p%05d', range) s FROM range(100000)");
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    fn_close(&world);
    test_check_clean();
    return 0;
}

static void test_sql_generate(void **state)
{
    (void)state;
    fn_expect(&world, "SELECT generate('hello')", "hello\n");
    fn_expect(&world, "SELECT generate(NULL), generate('a', NULL)", "~|a\n");
    fn_expect(&world, "SELECT generate(s) FROM t WHERE i IN (3, 70000) ORDER BY i",
              "p00003\np70000\n");
    fn_expect(&world, "SELECT generate('abcdef', {max_tokens: 3})", "abc\n");
    fn_expect(&world, "SELECT generate('abcdef', '{\"max_tokens\": 2, \"model\": \"m\"}')", "ab\n");
    fn_expect(&world, "SELECT generate('abcdef', {stop: 'd'}), generate('abc', {stop: ['x', 'c']})",
              "abc|ab\n");
    fn_expect(&world, "SELECT generate('?system', {system: 'be kind'})", "be kind\n");
    fn_expect(&world, "SELECT generate('x', {temperature: 0.7, seed: 3})", "x\n");
    fn_expect(&world, "SELECT generate('', MAP {'max_tokens': 3})", "\n");
    /* Options may differ from row to row, and be NULL in some. */
    fn_expect(&world,
              "SELECT generate('abcd', CASE WHEN i > 0 THEN {max_tokens: i} END) FROM t WHERE i < 4"
              " ORDER BY i",
              "abcd\na\nab\nabc\n");
    fn_expect(&world, "SELECT upper(generate(x)) FROM (SELECT unnest(['a', NULL, 'b']) x)",
              "A\n~\nB\n");
    fn_expect(&world, "SELECT list_transform(['a', 'b'], x -> generate(x))::VARCHAR", "[a, b]\n");
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        hs_status status;
        const char *part;
    } rows[] = {
        {"SELECT generate('a', {model: 'n'})", HS_NOT_FOUND, "generate: there is no model 'n'"},
        {"SELECT generate('a', {tokens: 1})", HS_INVALID_ARGUMENT, "there is no option 'tokens'"},
        {"SELECT generate('a', {max_tokens: 0})", HS_INVALID_ARGUMENT, "from 1 to"},
        {"SELECT generate('a', {max_tokens: 'x'})", HS_INVALID_ARGUMENT, "'max_tokens'"},
        {"SELECT generate('a', {seed: -1})", HS_INVALID_ARGUMENT, "'seed'"},
        {"SELECT generate('a', {seed: 4294967296})", HS_INVALID_ARGUMENT, "'seed'"},
        {"SELECT generate('a', {temperature: -0.1})", HS_INVALID_ARGUMENT, "'temperature'"},
        {"SELECT generate('a', {temperature: 100.1})", HS_INVALID_ARGUMENT, "'temperature'"},
        {"SELECT generate('a', {stop: ''})", HS_INVALID_ARGUMENT, "'stop'"},
        {"SELECT generate('a', {stop: [1]})", HS_INVALID_ARGUMENT, "'stop'"},
        {"SELECT generate('a', {stop: list_transform(range(65), x -> x::VARCHAR)})",
         HS_INVALID_ARGUMENT, "'stop'"},
        {"SELECT generate('a', {system: 1})", HS_INVALID_ARGUMENT, "'system'"},
        {"SELECT generate('a', {adapters: ['x'], adapter: 'y'})", HS_INVALID_ARGUMENT, "both"},
        {"SELECT generate('a', {adapter: {name: 'x', scale: 1001}})", HS_INVALID_ARGUMENT, "scale"},
        {"SELECT generate('a', {adapter: 'nobody'})", HS_NOT_FOUND, "nobody"},
        {"SELECT generate('a', '{')", HS_INVALID_ARGUMENT, "not JSON"},
        {"SELECT generate('a', '[]')", HS_INVALID_ARGUMENT, "struct or a JSON object"},
        {"SELECT generate('a', {max_tokens: '1 day'::INTERVAL})", HS_INVALID_ARGUMENT, "a type"},
        {"SELECT generate('a' || chr(0) || 'b')", HS_INVALID_ARGUMENT, "zero byte"},
        {"SELECT chat([])", HS_INVALID_ARGUMENT, "at least one"},
        {"SELECT chat([{role: 'user'}])", HS_INVALID_ARGUMENT, "message 1"},
        {"SELECT classify('a', [])", HS_INVALID_ARGUMENT, "1 to 256"},
        {"SELECT classify('a', ['b', NULL])", HS_INVALID_ARGUMENT, "label 2 is NULL"},
        {"SELECT classify('a', ['b', ''])", HS_INVALID_ARGUMENT, "label 2 is empty"},
        {"SELECT classify('a', ['b', 'c', 'b'])", HS_INVALID_ARGUMENT, "labels 1 and 3"},
        {"SELECT \"extract\"('a', NULL)", HS_INVALID_ARGUMENT, "schema is NULL"},
        {"SELECT generate()", HS_INVALID_ARGUMENT, "Candidate"},
        {"VALUES (generate('a'))", HS_INVALID_ARGUMENT, "write SELECT"},
        {"SELECT * FROM generate_stream(NULL)", HS_INVALID_ARGUMENT, "NULL"},
        {"SELECT * FROM generate_stream('a', options := {x: 1})", HS_INVALID_ARGUMENT, "'x'"},
        {"SELECT * FROM generate_stream('a', options := {session: 'x'})", HS_INVALID_ARGUMENT,
         "session"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fn_expect_error(&world, rows[i].sql, rows[i].status, rows[i].part);
    }
    fn_expect(&world, "SELECT generate('still there')", "still there\n");
}

/* Prompts of six bytes: an answer costs seven tokens. */
static void expect_calls(const char *sql, uint64_t n_calls)
{
    uint64_t before = fn_n_generated(&world);
    fn_run(&world, sql);
    uint64_t n_tokens = fn_n_generated(&world) - before;
    if (n_tokens != 7 * n_calls) {
        fail_msg("%s: %llu tokens", sql, (unsigned long long)n_tokens);
    }
}

/* What is filtered out, cut off or only explained is not computed; what is the same is not twice.
 */
static void test_calls(void **state)
{
    (void)state;
    expect_calls("EXPLAIN SELECT generate('p12345')", 0);
    expect_calls("EXPLAIN SELECT generate(s) FROM t", 0);
    expect_calls("PREPARE once AS SELECT generate('p12345')", 0);
    expect_calls("EXECUTE once", 1);
    expect_calls("EXECUTE once", 1);
    expect_calls("CREATE OR REPLACE VIEW v AS SELECT i, generate(s) g FROM t", 0);
    expect_calls("SELECT g FROM v WHERE i < 7", 7);
    expect_calls("SELECT generate(s) FROM t WHERE i BETWEEN 10 AND 14", 5);
    expect_calls("SELECT generate(s) FROM t LIMIT 10", 10);
    expect_calls("SELECT generate(s) FROM t ORDER BY i DESC LIMIT 10", 10);
    expect_calls("SELECT i, generate(s) FROM t ORDER BY s LIMIT 10", 10);
    expect_calls("SELECT generate(s) FROM t ORDER BY i LIMIT 10 OFFSET 50", 10);
    expect_calls("SELECT generate(s) FROM t WHERE i < 20 AND generate(s) <> 'p00003'", 20);
    expect_calls("SELECT generate(s), generate(s) || '!' FROM t LIMIT 4", 4);
    expect_calls("SELECT generate('p' || printf('%05d', i % 3)) FROM t LIMIT 3000", 3);
    expect_calls("SELECT generate('p12345') FROM t LIMIT 3000", 1);
    expect_calls("SELECT CASE WHEN i < 3 THEN generate(s) END FROM t LIMIT 100", 3);
    expect_calls("SELECT try_generate(s).text, generate(s) FROM t LIMIT 4", 4);
    expect_calls("SELECT i FROM t WHERE i < 30 ORDER BY generate(s) LIMIT 3", 30);
}

static void test_prepare_asks_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"SELECT generate('p12345')",
                                        "SELECT i FROM t WHERE generate('p12345') = 'a' LIMIT 1",
                                        "SELECT classify('a', ['b', 'c']), embed('a')"};
    uint64_t before = fn_n_generated(&world);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct hs_error err;
        hs_sql_stmt *stmt = NULL;
        assert_int_equal(hs_sql_prepare(world.conn, texts[i], strlen(texts[i]), &stmt, &err),
                         HS_OK);
        hs_sql_stmt_free(stmt);
    }
    assert_int_equal(fn_n_generated(&world), before);
    assert_int_equal(test_stats(world.engine).n_embedded, 0);
}

static void test_try_generate(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT r.text, r.error, r.prompt_tokens::VARCHAR, r.completion_tokens::VARCHAR, "
              "(r.ms >= 0)::VARCHAR FROM (SELECT try_generate('abc') r)",
              "abc|~|11|4|true\n"); /* "[user]abc\n" and the tag; three bytes and the end */
    fn_expect(&world,
              "SELECT x, r.text, r.error, r.prompt_tokens::VARCHAR FROM (SELECT x, try_generate(x, "
              "CASE x WHEN 'b' THEN {model: 'n'} ELSE {model: 'm'} END) r FROM "
              "(SELECT unnest(['a', 'b', NULL, 'c']) x))",
              "a|a|~|9\nb|~|there is no model 'n'|~\n~|~|~|~\nc|c|~|9\n");
    /* What the engine refuses. */
    fn_expect(&world,
              "SELECT r.text, (r.error LIKE '%context%')::VARCHAR FROM "
              "(SELECT try_generate(repeat('x', 70000)) r)",
              "~|true\n");
    fn_expect_error(&world, "SELECT generate(repeat('x', 70000))", HS_CONTEXT_FULL, "generate: ");
    fn_expect(&world, "SELECT (try_generate(NULL) IS NULL)::VARCHAR", "true\n");
    fn_expect(&world, "SELECT TRY(generate(x, {model: x})) FROM (SELECT unnest(['n', 'm']) x)",
              "~\nm\n");
}

static void test_chat(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT chat([{role: 'user', content: 'one'}, {role: 'assistant', content: 'two'}, "
              "{role: 'user', content: 'three'}])",
              "three\n");
    fn_expect(&world,
              "SELECT chat([{role: 'system', content: 'sys'}, {role: 'user', content: '?system'}])",
              "sys\n");
    fn_expect(&world, "SELECT chat('[{\"role\": \"user\", \"content\": \"json\"}]'::JSON)",
              "json\n");
    fn_expect(&world, "SELECT chat(NULL), chat([{role: 'user', content: 'ab'}], {max_tokens: 1})",
              "~|a\n");
}

static void test_tokens(void **state)
{
    (void)state;
    fn_expect(&world, "SELECT tokenize('ab')::VARCHAR, tokenize(NULL)::VARCHAR", "[97, 98]|~\n");
    fn_expect(&world, "SELECT count_tokens(s)::VARCHAR FROM (SELECT unnest(['', 'abc', NULL]) s)",
              "0\n3\n~\n");
    fn_expect(&world, "SELECT sum(count_tokens(s))::VARCHAR FROM t", "600000\n");
}

/* The fake's embedding of tokens[n] is (n, their sum, the sum of (i + 1) * tokens[i], -1); <s>,
 * which is 256, comes first. */
static void test_embeddings(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT list_transform(embed('ab'), x -> round(x * sqrt(9 + 451^2 + 744^2 + 1), 1))"
              "::VARCHAR",
              "[3.0, 451.0, 744.0, -1.0]\n");
    fn_expect(&world,
              "SELECT round(similarity('ab', 'ab'), 5)::VARCHAR, (embed(NULL) IS NULL)"
              "::VARCHAR, similarity('a', NULL)::VARCHAR",
              "1.0|true|~\n");
    fn_expect(&world,
              "SELECT round(similarity('a', 'b') - (5 + 353 * 354 + 450 * 452) / "
              "(sqrt(5 + 353^2 + 450^2) * sqrt(5 + 354^2 + 452^2)), 6)::VARCHAR",
              "0.0\n");
    /* Each text once. */
    uint64_t before = test_stats(world.engine).n_embedded;
    fn_run(&world, "SELECT embed('text ' || (i % 100)) FROM t LIMIT 5000");
    assert_int_equal(test_stats(world.engine).n_embedded - before, 100);
    /* And not again by a later statement, which asks only for what is new. */
    fn_run(&world, "SELECT embed('text ' || (i % 101)) FROM t LIMIT 5000");
    assert_int_equal(test_stats(world.engine).n_embedded - before, 101);
}

/* Each forced token has the log-probability -token / 64 in the fake. */
static void test_scores(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT (score('ab', 'cd') * 64)::VARCHAR, score('ab', '')::VARCHAR, "
              "score(NULL, 'a')::VARCHAR",
              "-199.0|0.0|~\n");
    /* 'a' is 97, 'b' 98: the difference is 1/64 between labels of one token. */
    fn_expect(&world,
              "SELECT c.label, round(c.probability - 1 / (1 + exp(-1 / 64)), 6)::VARCHAR, "
              "round(c.probabilities['b'] + c.probability, 6)::VARCHAR "
              "FROM (SELECT classify('text', ['b', 'a']) c)",
              "a|0.0|1.0\n");
    /* Of unequal length: the mean of its tokens counts, 97 against (97 + 32) / 2 and less. */
    fn_expect(&world,
              "SELECT c.label, round(c.probability - 1 / (1 + exp(-32.5 / 64)), 6)::VARCHAR "
              "FROM (SELECT classify('text', ['a', 'a ']) c)",
              "a |0.0\n");
    fn_expect(&world,
              "SELECT (classify(NULL, ['a']) IS NULL)::VARCHAR, "
              "(classify('a', NULL) IS NULL)::VARCHAR",
              "true|true\n");
    /* "yes" is 121, 101, 115, "no" 110, 111: their means are 112.3 and 110.5. */
    fn_expect(&world, "SELECT ai_filter('x', 'y')::VARCHAR, ai_filter('x', NULL)::VARCHAR",
              "false|~\n");
}

static void test_classify_many(void **state)
{
    (void)state;
    uint64_t before = fn_n_generated(&world);
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM (SELECT classify(s, ['a', 'b', 'c']) c FROM t "
              "LIMIT 100) WHERE c.label = 'a'",
              "100\n");
    assert_int_equal(fn_n_generated(&world) - before, 300);
}

/* DuckDB gathers rows before it hands them on, but not those that take inference. The setting is
 * the last statement's when the one that asks for it is planned. */
static void test_rows_wait_only_where_they_are_cheap(void **state)
{
    (void)state;
    static const char setting[] = "SELECT current_setting('streaming_buffer_size')";
    static const char *const slow[] = {"SELECT generate('a')", "SELECT 1 FROM generate_stream('a')",
                                       "SELECT count(score('a', 'b')) FROM range(3)",
                                       "PREPARE p AS SELECT 1; EXECUTE p"};
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) {
        fn_run(&world, slow[i]);
        fn_expect(&world, setting, "3 bytes\n");
        fn_expect(&world, setting, "976.5 KiB\n");
    }
    fn_run(&world, "SELECT 1");
    fn_expect(&world, setting, "976.5 KiB\n");
}

static void test_stream(void **state)
{
    (void)state;
    fn_expect(&world, "SELECT index::VARCHAR, text FROM generate_stream('abc')", "0|a\n1|b\n2|c\n");
    fn_expect(&world,
              "SELECT string_agg(text, '' ORDER BY index) FROM generate_stream('abcdef', "
              "options := {max_tokens: 4})",
              "abcd\n");
    fn_expect(&world, "SELECT text FROM generate_stream('abc') LIMIT 1", "a\n");
    fn_expect(&world, "SELECT text FROM generate_stream('')", "");
    uint64_t before = fn_n_generated(&world);
    fn_run(&world, "EXPLAIN SELECT * FROM generate_stream('abc')");
    assert_int_equal(fn_n_generated(&world), before);
}

static void test_route(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT adapter, scale::VARCHAR, (length(reason) > 0)::VARCHAR FROM route('text')",
              "~|~|true\n");
}

static struct hs_route_params route_params;

static hs_status route_by_rules(void *user, const char *model_id, const char *text,
                                struct hs_route *ret_route, struct hs_error *err)
{
    (void)user;
    return hs_engine_route(world.host.engine, model_id, text, &route_params, ret_route, err);
}

static void test_route_rules(void **state)
{
    (void)state;
    static const char *const texts[] = {"^plain=", "pirates?=nobody"};
    struct hs_error err;
    hs_route_rules *rules = NULL;
    assert_int_equal(hs_route_rules_parse(texts, 2, &rules, &err), HS_OK);
    hs_route_params_defaults(&route_params);
    route_params.rules = rules;
    world.host.route = route_by_rules;
    fn_expect(
        &world,
        "SELECT adapter, (reason LIKE '%^plain%')::VARCHAR FROM route('Plain words of pirates')",
        "~|true\n");
    fn_expect_error(&world, "FROM route('a song of pirates')", HS_NOT_FOUND, "nobody");
    world.host.route = NULL;
    hs_route_rules_free(rules);
}

static void test_search(void **state)
{
    (void)state;
    fn_run(&world, "CREATE TABLE docs AS SELECT * FROM (VALUES (1, 'aaa'), (2, 'zzz'), (3, NULL), "
                   "(4, 'aab')) v(id, body)");
    fn_expect(&world,
              "SELECT id::VARCHAR, body, round(similarity, 4)::VARCHAR FROM "
              "search('docs', 'body', 'aaa', 1)",
              "1|aaa|1.0\n");
    fn_expect(&world,
              "SELECT id::VARCHAR FROM search('docs', 'body', 'aaa') ORDER BY similarity "
              "DESC NULLS LAST",
              "1\n4\n2\n3\n");
    fn_expect_error(&world, "FROM search('docs', 'nothing', 'a', 1)", HS_INVALID_ARGUMENT,
                    "COLUMNS");
    fn_expect_error(&world, "FROM search('nothing', 'body', 'a', 1)", HS_INVALID_ARGUMENT,
                    "nothing");
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "SELECT generate('a', {max_tokens: 1}), try_generate('b').text",
        "SELECT embed('a')::VARCHAR",
        "SELECT classify('a', ['b', 'c']).label",
        "SELECT text FROM generate_stream('ab')",
    };
    static char text[FN_TEXT_MAX];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (uint64_t n = 1;; n++) {
            struct hs_error err = {0};
            hs_mem_fail_after(n);
            hs_status status = fn_query(world.conn, texts[i], text, &err);
            bool has_failed = hs_mem_count() >= n;
            hs_mem_fail_after(0);
            if (!has_failed) {
                assert_int_equal(status, HS_OK);
                break;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sql_generate),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_prepare_asks_nothing),
        cmocka_unit_test(test_try_generate),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_classify_many),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_rows_wait_only_where_they_are_cheap),
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_route_rules),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
