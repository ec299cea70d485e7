/* The functions in every place that SQL has for them, with rows of every shape. */
#include "fn_test.h"

static struct fn_world world;

static int open_world(void **state)
{
    (void)state;
    fn_open(&world, NULL, NULL, 65536, 16);
    fn_run(&world,
           "CREATE TABLE t AS SELECT range i, 'p' || (range % 7) s, CASE WHEN range % 5 = 0 "
           "THEN NULL ELSE 'q' || (range % 3) END n FROM range(5000)");
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    fn_close(&world);
    test_check_clean();
    return 0;
}

/* ---- rows ---- */

/* More than two vectors; what is the same is asked once. */
static void test_many_rows(void **state)
{
    (void)state;
    uint64_t before = fn_n_generated(&world);
    fn_expect(&world,
              "SELECT count(*)::VARCHAR, count(g)::VARCHAR, count(*) FILTER (g = n)::VARCHAR FROM "
              "(SELECT n, generate(n) g FROM t)",
              "5000|4000|4000\n");
    assert_int_equal(fn_n_generated(&world) - before, 3 * 3);
    fn_expect(&world, "SELECT count(*)::VARCHAR FROM t WHERE ai_filter(s, 'x') IS NOT NULL",
              "5000\n");
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM (SELECT n, embed(n) e, tokenize(n) k, "
              "count_tokens(n) c, similarity(n, n) m, score(n, 'a') o, classify(n, ['a', 'b']) l "
              "FROM t) WHERE (n IS NULL) = (e IS NULL) AND (n IS NULL) = (k IS NULL) AND (n IS "
              "NULL) = (c IS NULL) AND (n IS NULL) = (m IS NULL) AND (n IS NULL) = (o IS NULL) "
              "AND (n IS NULL) = (l IS NULL)",
              "5000\n");
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM (SELECT try_generate(n) r, n FROM t) WHERE r.text IS "
              "NOT DISTINCT FROM n AND r.error IS NULL",
              "5000\n");
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM (SELECT chat([{role: 'user', content: s}]) c, s FROM "
              "t) WHERE c = s",
              "5000\n");
}

/* Constants, dictionaries (a join's, a list's), sequences and lists' children, with each other. */
static void test_shapes_of_vectors(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT count(DISTINCT generate('one', {max_tokens: 2}))::VARCHAR, "
              "min(generate(s, NULL)) FROM t",
              "1|p0\n");
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM t JOIN (SELECT 'p' || range s, range k FROM range(3)) "
              "v USING (s) WHERE generate(s) = 'p' || k",
              "2144\n"); /* 715 rows have 0, as have 1, and 714 have 2 */
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM (SELECT s, classify('x', [s, 'b']) c FROM t) WHERE "
              "map_contains(c.probabilities, s)",
              "5000\n");
    fn_expect(&world,
              "SELECT list_distinct(list_transform(range(5000), x -> generate('p' || x % 2)))"
              ".list_sort()::VARCHAR",
              "[p0, p1]\n");
    fn_expect(
        &world,
        "SELECT string_agg(generate(x), ',' ORDER BY x) FROM (SELECT unnest(list(DISTINCT s)) "
        "x FROM t)",
        "p0,p1,p2,p3,p4,p5,p6\n");
    fn_expect(
        &world,
        "SELECT count(*)::VARCHAR FROM (SELECT generate(s, {max_tokens: 1 + i % 2}) g, i FROM "
        "t) WHERE length(g) = 1 + i % 2",
        "5000\n");
}

static void test_texts(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT generate(''), try_generate('').text, chat([{role: 'user', content: ''}]), "
              "count_tokens('')::VARCHAR, tokenize('')::VARCHAR, score('', 'a')::VARCHAR IS NOT "
              "NULL || ''",
              "|||0|[]|true\n");
    fn_expect(&world, "SELECT generate('\u00e4\U0001F600')", "\u00e4\U0001F600\n");
    fn_expect(&world,
              "SELECT length(generate(repeat('x', 30000)))::VARCHAR, "
              "count_tokens(repeat('x', 1000000))::VARCHAR",
              "30000|1000000\n");
}

/* ---- places ---- */

static void test_queries(void **state)
{
    (void)state;
    fn_expect(&world, "WITH a AS (SELECT generate('x') g) SELECT g || generate(g || 'y') FROM a",
              "xxy\n");
    fn_expect(&world,
              "SELECT generate('a') UNION ALL SELECT generate('b') UNION ALL SELECT generate('a')",
              "a\nb\na\n");
    fn_expect(&world, "SELECT generate((SELECT max(s) FROM t))", "p6\n");
    fn_expect(&world, "SELECT generate(generate(generate('deep')))", "deep\n");
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM t WHERE i IN (SELECT i FROM t WHERE i < 9 AND "
              "generate(s) = 'p1')",
              "2\n"); /* 1 and 8 */
    fn_expect(&world, "SELECT generate(s), count(*)::VARCHAR FROM t GROUP BY 1 ORDER BY 1 LIMIT 2",
              "p0|715\np1|715\n");
    fn_expect(&world,
              "SELECT s FROM t GROUP BY s HAVING generate(s) > 'p4' ORDER BY generate(s) DESC",
              "p6\np5\n");
    fn_expect(&world, "SELECT generate(s) FROM t WHERE i < 4 ORDER BY i DESC LIMIT 2", "p3\np2\n");
    fn_expect(&world,
              "SELECT a.s FROM (SELECT DISTINCT s FROM t) a JOIN (SELECT DISTINCT s FROM t) b ON "
              "generate(a.s) = b.s ORDER BY a.s LIMIT 1",
              "p0\n");
    fn_expect(&world, "SELECT first_value(generate(s)) OVER (ORDER BY i) FROM t WHERE i < 2",
              "p0\np0\n");
    fn_run(&world, "EXPLAIN ANALYZE SELECT generate(s) FROM t LIMIT 3");
}

static void test_views_and_macros(void **state)
{
    (void)state;
    fn_run(&world, "CREATE VIEW answers AS SELECT i, generate(s) g FROM t");
    fn_run(&world, "CREATE VIEW chosen AS SELECT g FROM answers WHERE g LIKE 'p%'");
    fn_expect(&world, "SELECT g FROM chosen LIMIT 1", "p0\n");
    fn_run(&world, "CREATE MACRO shout(x) AS upper(generate(x, {max_tokens: 2}))");
    fn_expect(&world, "SELECT shout('abc')", "AB\n");
    fn_run(&world, "DROP VIEW chosen; DROP VIEW answers; DROP MACRO shout");
}

static void test_tables(void **state)
{
    (void)state;
    fn_run(&world, "CREATE TABLE made AS SELECT i, generate(s) g FROM t WHERE i < 3000");
    fn_expect(&world, "SELECT count(*)::VARCHAR, min(g), max(g) FROM made", "3000|p0|p6\n");
    fn_run(&world, "INSERT INTO made SELECT i, generate(s) FROM t WHERE i >= 3000");
    fn_run(&world, "UPDATE made SET g = generate('n' || (i % 2)) WHERE i < 2500");
    fn_expect(&world, "SELECT g, count(*)::VARCHAR FROM made WHERE i < 2500 GROUP BY g ORDER BY g",
              "n0|1250\nn1|1250\n");
    fn_run(&world, "DELETE FROM made WHERE generate(g) = 'n0'");
    fn_expect(&world, "SELECT count(*)::VARCHAR FROM made", "3750\n");
    fn_expect(&world, "INSERT INTO made SELECT -1, generate('back') RETURNING g", "back\n");
    fn_run(&world, "BEGIN; UPDATE made SET g = generate('lost'); ROLLBACK");
    fn_expect(&world, "SELECT count(*)::VARCHAR FROM made WHERE g = 'lost'", "0\n");
    /* a row that fails leaves the table as it was */
    fn_expect_error(
        &world, "UPDATE made SET g = generate('new', {model: CASE WHEN i > 4000 THEN 'no' END})",
        HS_NOT_FOUND, "no");
    fn_expect(&world, "SELECT count(*)::VARCHAR FROM made WHERE g = 'new'", "0\n");
    fn_run(&world, "DROP TABLE made");
}

static void test_prepared(void **state)
{
    (void)state;
    fn_run(&world, "PREPARE ask AS SELECT generate($1, {max_tokens: $2})");
    fn_expect(&world, "EXECUTE ask('abcdef', 3)", "abc\n");
    fn_expect(&world, "EXECUTE ask(NULL, 3)", "~\n");
    fn_expect_error(&world, "EXECUTE ask('abc', 0)", HS_INVALID_ARGUMENT, "'max_tokens'");
    fn_run(&world, "DEALLOCATE ask");
}

/* ---- options ---- */

static void test_options(void **state)
{
    (void)state;
    static const struct {
        const char *options, *name;
    } wrong[] = {
        {"{model: 1}", "'model'"},
        {"{adapter: 1}", "'adapter'"},
        {"{adapters: 1}", "'adapters'"},
        {"{adapters: [1]}", "'adapters'"},
        {"{system: [1]}", "'system'"},
        {"{max_tokens: 1.5}", "'max_tokens'"},
        {"{temperature: 'x'}", "'temperature'"},
        {"{seed: 'x'}", "'seed'"},
        {"{stop: 1}", "'stop'"},
        {"{session: [1]}", "'session'"},
        {"{\"MAX_TOKENS\": true}", "MAX_TOKENS"},
    };
    fn_expect(&world,
              "SELECT generate('a', {model: NULL, adapter: NULL, system: NULL, max_tokens: NULL, "
              "temperature: NULL, seed: NULL, stop: NULL, session: NULL})",
              "a\n");
    fn_expect(&world, "SELECT generate('a', '{}'), generate('b', 'null')", "a|b\n");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char sql[256];
        snprintf(sql, sizeof sql, "SELECT generate('a', %s)", wrong[i].options);
        fn_expect_error(&world, sql, HS_INVALID_ARGUMENT, wrong[i].name);
    }
    fn_expect(&world,
              "SELECT string_agg(text, '') FROM generate_stream('abc', options := "
              "{max_tokens: 2})",
              "ab\n");
    fn_expect_error(&world, "SELECT extract('a', '{}')", HS_INVALID_ARGUMENT, "syntax error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_shapes_of_vectors),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_views_and_macros),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_prepared),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
