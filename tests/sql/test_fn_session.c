/* Rows that are turns of a session. */
#include "fn_test.h"

static struct fn_world world;
static char *dir;

static int open_world(void **state)
{
    (void)state;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    dir = test_dir_make();
    params.sessions_dir = dir;
    fn_open(&world, NULL, &params, 16384, 4);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    fn_close(&world);
    test_check_clean();
    test_dir_remove(dir);
    return 0;
}

static void expect_messages(const char *name, const char *const *texts, size_t n)
{
    struct hs_session_params params;
    struct hs_error err;
    char id[HS_ID_MAX];
    size_t n_messages = 0;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    assert_int_equal(hs_engine_create_session(world.engine, &params, id, &err), HS_OK);
    assert_int_equal(hs_session_message_count(world.engine, id, &n_messages, &err), HS_OK);
    assert_int_equal(n_messages, n);
    for (size_t i = 0; i < n; i++) {
        struct hs_message message;
        assert_int_equal(hs_session_message(world.engine, id, i, &message, &err), HS_OK);
        assert_string_equal(message.content, texts[i]);
        hs_message_free(&message);
    }
    assert_int_equal(hs_engine_close_session(world.engine, id, &err), HS_OK);
}

/* In the order of the rows; the same prompt twice is two turns. */
static void test_turns(void **state)
{
    (void)state;
    fn_expect(
        &world,
        "SELECT generate(x, {session: 'trip', system: 'be kind'}) FROM (SELECT unnest(['one', "
        "'two', NULL, '?system', 'two']) x)",
        "one\ntwo\n~\nbe kind\ntwo\n");
    static const char *const texts[] = {"be kind", "one",     "one", "two", "two",
                                        "?system", "be kind", "two", "two"};
    expect_messages("trip", texts, 9);
    assert_int_equal(world.n_opened, 1);
    assert_int_equal(world.n_closed, 1);
}

static void test_two_sessions(void **state)
{
    (void)state;
    fn_expect(&world,
              "SELECT generate(x, {session: CASE WHEN x < 'c' THEN 'left' ELSE 'right' END}) FROM "
              "(SELECT unnest(['a', 'b', 'c', 'd']) x)",
              "a\nb\nc\nd\n");
    static const char *const left[] = {"a", "a", "b", "b"}, *const right[] = {"c", "c", "d", "d"};
    expect_messages("left", left, 4);
    expect_messages("right", right, 4);
}

static void test_errors(void **state)
{
    (void)state;
    fn_expect_error(&world, "SELECT generate('a', {session: '../x'})", HS_INVALID_ARGUMENT,
                    "generate: ");
    fn_expect(
        &world,
        "SELECT r.text, (r.error IS NULL)::VARCHAR FROM (SELECT try_generate(x, {session: y}) "
        "r FROM (VALUES ('a', '../x'), ('b', 'good')) v(x, y))",
        "~|false\nb|true\n");
    fn_expect_error(&world, "SELECT generate('a', {session: 1})", HS_INVALID_ARGUMENT, "'session'");
    fn_expect_error(&world,
                    "SELECT chat([{role: 'user', content: 'a'}, {role: 'user', content: 'b'}], "
                    "{session: 'good'})",
                    HS_INVALID_ARGUMENT, "one prompt");
    fn_expect_error(&world, "SELECT generate(repeat('x', 20000), {session: 'good'})",
                    HS_CONTEXT_FULL, "generate: ");
    static const char *const texts[] = {"b", "b"};
    expect_messages("good", texts, 2);
    assert_int_equal(world.n_opened, world.n_closed + 2); /* the two that could not be opened */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_two_sessions),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
