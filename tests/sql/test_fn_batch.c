/* Many questions at once: a full queue, failures, interruptions, several threads. */
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "fn_test.h"

static struct fn_world world;

static void close_clean(void)
{
    fn_close(&world);
    test_check_clean();
}

/* More rows than may wait: they wait here instead, and fill every sequence. */
static void test_full_queue(void **state)
{
    (void)state;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.max_queue = 3;
    params.max_client_queue = 2;
    fn_open(&world, NULL, &params, 16384, 8);
    fn_expect(&world,
              "SELECT count(*)::VARCHAR FROM (SELECT range i, generate('row ' || i) g "
              "FROM range(3000)) WHERE g = 'row ' || i",
              "3000\n");
    assert_int_equal(test_counters().max_seqs, 8);
    close_clean();
}

/* The queue is full of somebody else's requests. */
static void test_queue_of_others(void **state)
{
    (void)state;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.max_queue = 1;
    fn_open(&world, NULL, &params, 4096, 1);
    struct hs_generate_params generate = test_params(3);
    fake_runtime_pause();
    hs_stream *streams[2];
    streams[0] = test_complete(world.engine, "one", &generate);
    fake_runtime_wait_held();
    streams[1] = test_complete(world.engine, "two", &generate);
    struct hs_error err;
    hs_stream *refused = NULL;
    const int32_t token = 'x';
    assert_int_equal(
        hs_engine_complete(world.engine, "m", NULL, 0, &token, 1, &generate, &refused, &err),
        HS_QUEUE_FULL);
    fake_runtime_resume();
    fn_expect(&world, "SELECT generate('a'), embed('b')::VARCHAR IS NOT NULL || ''", "a|true\n");
    for (size_t i = 0; i < 2; i++) {
        struct answer answer;
        test_collect(streams[i], &answer);
    }
    close_clean();
}

/* Rows of two threads of DuckDB share their answers. */
static void test_threads(void **state)
{
    (void)state;
    fn_open(&world, NULL, NULL, 16384, 8);
    fn_run(&world, "CREATE TABLE t AS SELECT printf('p%05d', range % 50) s FROM range(400000)");
    fn_expect(&world, "SELECT count(DISTINCT generate(s))::VARCHAR FROM t", "50\n");
    assert_int_equal(fn_n_generated(&world), 50 * 7);
    close_clean();
}

static double cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The model computes, whoever of DuckDB's threads waits for it: often enough another one. */
static void test_waiting_is_idle(void **state)
{
    (void)state;
    struct fake_config config = {.decode_us = 4000};
    fn_open(&world, &config, NULL, 16384, 8);
    double begun_ms = hs_clock_ms(), begun_cpu_ms = cpu_ms();
    for (int i = 0; i < 8; i++) {
        fn_run(&world, "SELECT generate('p' || range) FROM range(16)");
    }
    double used_ms = cpu_ms() - begun_cpu_ms, passed_ms = hs_clock_ms() - begun_ms;
    print_message("%.1f ms of the CPU in %.1f ms\n", used_ms, passed_ms);
    assert_true(used_ms < passed_ms / 4);
    close_clean();
}

static double process_cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* 50 rows of many vectors, for several threads: whoever waits for the rows behind the first does
 * not turn round meanwhile. The fake model sleeps as it computes. */
static void test_waiting_behind_rows_is_idle(void **state)
{
    (void)state;
    struct fake_config config = {.decode_us = 2000};
    fn_open(&world, &config, NULL, 16384, 8);
    fn_run(&world, "CREATE TABLE t AS SELECT range i, 'row ' || range s FROM range(400000)");
    double begun_ms = hs_clock_ms(), begun_cpu_ms = process_cpu_ms();
    fn_run(&world, "SELECT generate(s) FROM t WHERE i % 8000 = 0");
    double used_ms = process_cpu_ms() - begun_cpu_ms, passed_ms = hs_clock_ms() - begun_ms;
    print_message("%.1f ms of the CPU in %.1f ms\n", used_ms, passed_ms);
    assert_true(used_ms < passed_ms / 4);
    close_clean();
}

static void test_failure(void **state)
{
    (void)state;
    struct fake_config config = {.fail_sample = 5};
    fn_open(&world, &config, NULL, 16384, 4);
    fn_expect_error(&world, "SELECT generate('text ' || range) FROM range(100)", HS_INTERNAL,
                    "generate: ");
    test_wait_for(world.engine, 0, 0);
    close_clean();
    config.fail_sample = 5;
    fn_open(&world, &config, NULL, 16384, 4);
    fn_expect(&world,
              "SELECT count(r.text)::VARCHAR, count(r.error)::VARCHAR FROM (SELECT "
              "try_generate('text ' || range) r FROM range(100))",
              "99|1\n");
    close_clean();
}

/* ---- interruption ---- */

struct runner {
    const char *sql;
    hs_status status;
    char text[FN_TEXT_MAX];
};

static void *run_query(void *user)
{
    struct runner *runner = user;
    struct hs_error err;
    runner->status = fn_query(world.conn, runner->sql, runner->text, &err);
    return NULL;
}

static void test_interrupt(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "SELECT generate('a long text, number ' || range) FROM range(100)",
        "SELECT try_generate('a long text, number ' || range).text FROM range(100)",
        "SELECT text FROM generate_stream('a long text')",
        "SELECT generate('a long text', {session: 's'})",
        "SELECT score('text', 'another text')::VARCHAR",
    };
    static struct runner runner;
    fn_open(&world, NULL, NULL, 16384, 8);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        pthread_t thread;
        runner.sql = texts[i];
        fake_runtime_pause();
        assert_int_equal(pthread_create(&thread, NULL, run_query, &runner), 0);
        fake_runtime_wait_held();
        hs_sql_interrupt(world.conn);
        fake_runtime_resume();
        pthread_join(thread, NULL);
        assert_int_equal(runner.status, HS_CANCELLED);
        test_wait_for(world.engine, 0, 0);
        fn_expect(&world, "SELECT generate('on')", "on\n");
    }
    assert_int_equal(world.n_opened, world.n_closed);
    close_clean();
}

/* ---- what runs ---- */

static void test_running(void **state)
{
    (void)state;
    static struct runner runner;
    static const struct {
        const char *sql, *shown;
        uint64_t n_asked;
    } rows[] = {
        {" SELECT\n\tgenerate('n' || range)  FROM range(20)",
         "SELECT generate('n' || range) FROM range(20)", 20},
        {"SELECT generate('x', {session: 's'}), '\xC3\xA4\xC3\xA4\xC3\xA4 is cut after the "
         "sixtieth one'",
         "SELECT generate('x', {session: 's'}), '\xC3\xA4\xC3\xA4\xC3\xA4 is cut after the ", 1},
    };
    struct hs_sql_running items[2];
    fn_open(&world, NULL, NULL, 16384, 32);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        pthread_t thread;
        runner.sql = rows[i].sql;
        assert_int_equal(hs_sql_list(world.sql, items, 2), 0);
        fake_runtime_pause();
        assert_int_equal(pthread_create(&thread, NULL, run_query, &runner), 0);
        fake_runtime_wait_held();
        assert_int_equal(hs_sql_list(world.sql, items, 0), 0);
        assert_int_equal(hs_sql_list(world.sql, items, 2), 1);
        assert_string_equal(items[0].user, "tester");
        assert_string_equal(items[0].text, rows[i].shown);
        assert_true(items[0].ms >= 0);
        assert_int_equal(items[0].n_asked, rows[i].n_asked);
        assert_int_equal(items[0].n_answered, 0);
        hs_sql_interrupt(world.conn);
        fake_runtime_resume();
        pthread_join(thread, NULL);
        assert_int_equal(runner.status, HS_CANCELLED);
        test_wait_for(world.engine, 0, 0); /* its sequences are free */
        assert_int_equal(hs_sql_list(world.sql, items, 2), 0);
    }
    close_clean();
}

/* ---- rows as they come ---- */

#define STEPS_MAX 90

struct reader {
    hs_sql_stmt *stmt;
    hs_status status;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool has_rows; /* some came */
    char text[FN_TEXT_MAX];
};

static void *read_texts(void *user)
{
    struct reader *reader = user;
    struct hs_error err;
    struct ArrowArray rows;
    hs_sql_result *result = NULL;
    size_t len = 0;
    reader->status = hs_sql_execute(reader->stmt, &result, &err);
    while (reader->status == HS_OK) {
        reader->status = hs_sql_result_next(result, &rows, &err);
        if (reader->status != HS_OK || rows.release == NULL) {
            break;
        }
        const struct ArrowArray *texts = rows.children[0];
        size_t n_bytes = (size_t)((const int32_t *)texts->buffers[1])[rows.length];
        memcpy(reader->text + len, texts->buffers[2], n_bytes);
        len += n_bytes;
        rows.release(&rows);
        pthread_mutex_lock(&reader->mutex);
        reader->has_rows = true;
        pthread_cond_signal(&reader->changed);
        pthread_mutex_unlock(&reader->mutex);
    }
    hs_sql_result_free(result);
    return NULL;
}

static bool wait_rows(struct reader *reader)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (until.tv_nsec + 100000000) / 1000000000;
    until.tv_nsec = (until.tv_nsec + 100000000) % 1000000000;
    pthread_mutex_lock(&reader->mutex);
    for (int waited = 0; !reader->has_rows && waited == 0;) {
        waited = pthread_cond_timedwait(&reader->changed, &reader->mutex, &until);
    }
    bool has_rows = reader->has_rows;
    pthread_mutex_unlock(&reader->mutex);
    return has_rows;
}

/* The first pieces of an answer of 100 are read while the model still computes others. */
static void test_pieces_come_early(void **state)
{
    (void)state;
    static const char sql[] = "SELECT text FROM generate_stream(repeat('0123456789', 10))";
    static struct reader reader = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                   .changed = PTHREAD_COND_INITIALIZER};
    struct hs_error err;
    pthread_t thread;
    bool has_rows = false;
    fn_open(&world, NULL, NULL, 16384, 1);
    assert_int_equal(hs_sql_prepare(world.conn, sql, strlen(sql), &reader.stmt, &err), HS_OK);
    fake_runtime_pause();
    assert_int_equal(pthread_create(&thread, NULL, read_texts, &reader), 0);
    for (int i = 0; i < STEPS_MAX && !has_rows; i++) {
        fake_runtime_step(1);
        has_rows = wait_rows(&reader);
    }
    fake_runtime_resume();
    pthread_join(thread, NULL);
    hs_sql_stmt_free(reader.stmt);
    assert_int_equal(reader.status, HS_OK);
    assert_int_equal(strlen(reader.text), 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(reader.text[i], '0' + i % 10);
    }
    assert_true(has_rows);
    close_clean();
}

/* Rows that are computed ahead, and not read any more. */
static void test_result_left(void **state)
{
    (void)state;
    static const char sql[] = "SELECT generate('text ' || range) FROM range(20000)";
    struct hs_error err;
    struct ArrowArray rows;
    hs_sql_stmt *stmt = NULL;
    hs_sql_result *result = NULL;
    fn_open(&world, NULL, NULL, 16384, 8);
    assert_int_equal(hs_sql_prepare(world.conn, sql, strlen(sql), &stmt, &err), HS_OK);
    assert_int_equal(hs_sql_execute(stmt, &result, &err), HS_OK);
    assert_int_equal(hs_sql_result_next(result, &rows, &err), HS_OK);
    assert_true(rows.length > 0 && rows.length < 20000);
    rows.release(&rows);
    fake_runtime_pause();
    hs_sql_result_free(result);
    fake_runtime_resume();
    hs_sql_stmt_free(stmt);
    test_wait_for(world.engine, 0, 0);
    fn_expect(&world, "SELECT generate('on')", "on\n");
    close_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_queue_of_others),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_waiting_is_idle),
        cmocka_unit_test(test_waiting_behind_rows_is_idle),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_pieces_come_early),
        cmocka_unit_test(test_result_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
