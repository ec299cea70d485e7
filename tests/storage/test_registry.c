/* The registry of models and sessions: rows, names, versions, threads, and what the disk refuses.
 */
#include "registry_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <time.h>

#include "base/clock.h"
#include "registry_internal.h"

/* ---- opening ---- */

static void test_open_makes_what_is_missing(void **state)
{
    char *folder = path_of(*state, "a/b/data");
    hs_registry *registry = open_registry(folder);
    static const char *const MADE[] = {"registry.db", "models", "sessions"};
    for (size_t i = 0; i < COUNT_OF(MADE); i++) {
        char *path = path_of(folder, MADE[i]);
        assert_true(is_there(path));
        hs_free(path);
    }
    assert_int_equal(count_models(registry), 0);
    assert_int_equal(count_sessions(registry), 0);
    hs_registry_close(registry);
    hs_registry_close(NULL);
    assert_sql(folder, "PRAGMA journal_mode", "wal");
    assert_sql(folder, "PRAGMA integrity_check", "ok");
    assert_sql(folder, "PRAGMA user_version", "2");
    hs_free(folder);
}

static void test_open_again_keeps_rows(void **state)
{
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 7, NULL), HS_OK);
    hs_registry_close(registry);
    registry = open_registry(*state);
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].name, "s");
    assert_string_equal(rows[0].model_name, "m");
    assert_string_equal(rows[0].fingerprint, "f");
    assert_int_equal(rows[0].n_messages, 7);
    assert_int_equal(rows[0].size_bytes, 3);
    assert_int_equal(rows[0].created_unix_ms, 4);
    assert_int_equal(rows[0].updated_unix_ms, 5);
    hs_registry_sessions_free(rows, n);
    hs_registry_close(registry);
}

static double cpu_ms(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* chat opens it at every start. CPU time: the machine may be busy. */
static void test_opening_is_quick(void **state)
{
    double best_ms = 1e9;
    hs_registry *registry = open_registry(*state);
    for (int i = 0; i < 500; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%d", i);
        assert_int_equal(put_session(registry, name, 1, NULL), HS_OK);
    }
    hs_registry_close(registry);
    for (int i = 0; i < 20; i++) {
        double start = cpu_ms();
        hs_registry_close(open_registry(*state));
        double ms = cpu_ms() - start;
        best_ms = ms < best_ms ? ms : best_ms;
    }
    print_message("open and close with 500 sessions: %.2f ms\n", best_ms);
    assert_true(best_ms < 100);
}

/* The names of models and sessions are nobody else's, whatever the umask; also of older files. */
static void test_files_are_private(void **state)
{
    static const char *const files[] = {"registry.db", "registry.db-wal", "registry.db-shm"};
    mode_t old = umask(0);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT_OF(files); i++) {
            char *path = path_of(*state, files[i]);
            struct stat info;
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_mode & 0777, 0600);
            assert_int_equal(chmod(path, 0666), 0);
            hs_free(path);
        }
        hs_registry *again = open_registry(*state);
        hs_registry_close(registry);
        registry = again;
    }
    hs_registry_close(registry);
    umask(old);
}

/* ---- versions ---- */

static void test_a_newer_registry_is_refused(void **state)
{
    hs_registry *registry = open_registry(*state), *second = NULL;
    struct hs_error err = {0};
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    run_sql(*state, "PRAGMA user_version = 3");
    /* one that is already open notices before it touches anything */
    assert_int_equal(put_session(registry, "t", 1, &err), HS_UNSUPPORTED_VERSION);
    assert_non_null(strstr(err.message, "version 3"));
    assert_true(err.hint[0] != 0);
    hs_registry_close(registry);
    run_sql(*state, "PRAGMA wal_checkpoint(TRUNCATE)");

    char *path = path_of(*state, "registry.db");
    size_t len = 0, len_after = 0;
    char *before = read_file(path, &len);
    assert_int_equal(try_registry(*state, &second, &err), HS_UNSUPPORTED_VERSION);
    assert_non_null(strstr(err.message, "version 3"));
    assert_true(err.hint[0] != 0);
    char *after = read_file(path, &len_after);
    assert_int_equal(len, len_after);
    assert_memory_equal(before, after, len);
    assert_int_equal(count_set_aside(*state, ""), 0);
    hs_free(before);
    hs_free(after);
    hs_free(path);
    assert_sql(*state, "SELECT count(*) FROM sessions", "1");
}

/* What a process leaves that was killed while it made the registry. */
static void test_a_half_made_registry_is_made_anew(void **state)
{
    char *path = path_of(*state, "registry.db.new");
    write_file(path, "half of a database", 18);
    hs_registry_close(open_registry(*state));
    assert_false(is_there(path));
    assert_sql(*state, "PRAGMA user_version", "2");
    assert_int_equal(count_set_aside(*state, ""), 0);
    hs_free(path);
}

static void test_a_registry_without_wal(void **state)
{
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    hs_registry_close(registry);
    run_sql(*state, "PRAGMA journal_mode = DELETE");
    registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 1);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA journal_mode", "wal");
    assert_int_equal(count_set_aside(*state, ""), 0);
}

/* ---- several at once ---- */

struct worker {
    hs_registry *registry;
    int number;
    int n_failed;
};

static void *work_in_thread(void *user)
{
    struct worker *worker = user;
    for (int i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d-%d", worker->number, i);
        worker->n_failed += put_session(worker->registry, name, i, NULL) != HS_OK;
        struct hs_registry_session *rows = NULL;
        size_t n = 0;
        worker->n_failed += hs_registry_session_list(worker->registry, &rows, &n, NULL) != HS_OK;
        hs_registry_sessions_free(rows, n);
        if (i % 2 == 0)
            worker->n_failed += hs_registry_session_remove(worker->registry, name, NULL) != HS_OK;
    }
    return NULL;
}

static void test_threads_share_one(void **state)
{
    struct worker workers[4];
    pthread_t threads[COUNT_OF(workers)];
    hs_registry *registry = open_registry(*state);
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (struct worker){.registry = registry, .number = (int)i};
        assert_int_equal(pthread_create(&threads[i], NULL, work_in_thread, &workers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].n_failed, 0);
    }
    assert_int_equal(count_sessions(registry), 4 * 25);
    hs_registry_close(registry);
}

static int hammer(void *user)
{
    const char *folder = user;
    for (int round = 0; round < 10; round++) {
        hs_registry *registry = NULL;
        if (try_registry(folder, &registry, NULL) != HS_OK)
            return 1;
        for (int i = 0; i < 20; i++) {
            char name[64];
            snprintf(name, sizeof name, "p%ld-%d-%d", (long)getpid(), round, i);
            if (put_session(registry, name, i, NULL) != HS_OK)
                return 2;
            if (put_session(registry, "shared", i, NULL) != HS_OK)
                return 3;
            struct hs_registry_session *rows = NULL;
            size_t n = 0;
            if (hs_registry_session_list(registry, &rows, &n, NULL) != HS_OK)
                return 4;
            hs_registry_sessions_free(rows, n);
            if (i % 4 == 3 && hs_registry_session_remove(registry, name, NULL) != HS_OK)
                return 5;
        }
        hs_registry_close(registry);
    }
    return 0;
}

/* Also the very first opening is a race: nobody has made the file yet. */
static void test_processes_share_one(void **state)
{
    pid_t pids[4];
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        pids[i] = child_start(hammer, *state);
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        child_expect_success(pids[i]);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 4 * 10 * 15 + 1);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA integrity_check", "ok");
    assert_int_equal(count_set_aside(*state, ""), 0);
}

static void test_another_process_is_writing(void **state)
{
    hs_registry *registry = open_registry(*state);
    char *path = path_of(*state, "registry.db");
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    /* readers, and another opening, are served although the lock is held to the end */
    assert_int_equal(count_sessions(registry), 0);
    hs_registry_close(open_registry(*state));
    /* a writer waits, and then says so */
    struct hs_error err = {0};
    double start = hs_clock_ms();
    assert_int_equal(put_session(registry, "s", 1, &err), HS_BUSY);
    assert_true(hs_clock_ms() - start >= HS_REGISTRY_BUSY_MS / 2);
    assert_non_null(strstr(err.message, "locked"));
    assert_true(err.hint[0] != 0);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    sqlite3_close(db);
    hs_registry_close(registry);
    hs_free(path);
}

/* Somebody is making, migrating or rebuilding it: openers wait, and then say so. */
static void test_another_process_repairs(void **state)
{
    hs_registry_close(open_registry(*state));
    char *path = path_of(*state, "registry.lock");
    int lock = open(path, O_RDWR | O_CLOEXEC);
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(try_registry(*state, &registry, &err), HS_BUSY);
    assert_true(err.message[0] != 0 && err.hint[0] != 0);
    assert_int_equal(flock(lock, LOCK_SH), 0); /* somebody is only opening it */
    hs_registry_close(open_registry(*state));
    close(lock);
    hs_free(path);
}

/* ---- when the disk says no ---- */

static int open_without_permission(void *user)
{
    drop_root();
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    if (try_registry(user, &registry, &err) != HS_PERMISSION_DENIED)
        return 1;
    return err.hint[0] != 0 ? 0 : 2;
}

static void test_read_only_folder(void **state)
{
    assert_int_equal(chmod(*state, 0555), 0);
    child_expect_success(child_start(open_without_permission, *state)); /* cannot be made */
    assert_int_equal(chmod(*state, 0755), 0);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    hs_registry_close(registry);
    assert_int_equal(chmod(*state, 0555), 0);
    child_expect_success(child_start(open_without_permission, *state)); /* cannot be opened */
    assert_int_equal(chmod(*state, 0755), 0);
    registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 1);
    hs_registry_close(registry);
    assert_int_equal(count_set_aside(*state, ""), 0);
}

static int fill_disk(void *user)
{
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    if (try_registry(user, &registry, NULL) != HS_OK || put_session(registry, "first", 1, NULL))
        return 1;
    limit_file_size(60000);
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%d", i);
        hs_status status = put_session(registry, name, 1, &err);
        if (status == HS_OK)
            continue;
        if (status != HS_IO || err.message[0] == 0 || err.hint[0] == 0)
            return 2;
        /* what was there can still be read */
        struct hs_registry_session *rows = NULL;
        size_t n = 0;
        if (hs_registry_session_list(registry, &rows, &n, NULL) != HS_OK || n != (size_t)i + 1)
            return 3;
        hs_registry_sessions_free(rows, n);
        hs_registry_close(registry);
        return 0;
    }
    return 4;
}

static int make_on_full_disk(void *user)
{
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    limit_file_size(3000);
    return try_registry(user, &registry, &err) == HS_IO ? 0 : 1;
}

static void test_full_disk(void **state)
{
    child_expect_success(child_start(make_on_full_disk, *state));
    child_expect_success(child_start(fill_disk, *state));
    hs_registry *registry = open_registry(*state);
    assert_true(count_sessions(registry) > 1);
    assert_int_equal(put_session(registry, "again", 1, NULL), HS_OK);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA integrity_check", "ok");
    assert_int_equal(count_set_aside(*state, ""), 0);
}

/* ---- out of memory ---- */

static hs_status whole_life(const struct hs_paths *paths, const char *model_path)
{
    hs_registry *registry = NULL;
    struct hs_registry_model model = {0}, *models = NULL;
    struct hs_registry_session *sessions = NULL;
    size_t n = 0;
    hs_status status = hs_registry_open(paths, &registry, NULL);
    if (status == HS_OK)
        status = add(registry, model_path, NULL, &model, NULL);
    if (status == HS_OK) /* nothing is left out for want of memory */
        assert_true(strcmp(model.architecture, "llama") == 0 && strlen(model.fingerprint) == 64 &&
                    model.quantization[0] != 0 && model.n_ctx_train == 4096);
    hs_registry_model_free(&model);
    if (status == HS_OK)
        status = hs_registry_model_get(registry, "m", &model, NULL);
    hs_registry_model_free(&model);
    if (status == HS_OK)
        status = put_session(registry, "s", 1, NULL);
    if (status == HS_OK) {
        status = hs_registry_model_list(registry, &models, &n, NULL);
        if (status == HS_OK)
            hs_registry_models_free(models, n);
    }
    if (status == HS_OK) {
        status = hs_registry_session_list(registry, &sessions, &n, NULL);
        if (status == HS_OK)
            hs_registry_sessions_free(sessions, n);
    }
    if (status == HS_OK)
        status = hs_registry_model_touch(registry, "m", NULL);
    hs_registry_close(registry);
    return status;
}

static void remove_registry(const char *folder)
{
    static const char *const FILES[] = {"registry.db", "registry.db-wal", "registry.db-shm"};
    for (size_t i = 0; i < COUNT_OF(FILES); i++) {
        char *path = path_of(folder, FILES[i]);
        unlink(path);
        hs_free(path);
    }
}

static void test_out_of_memory(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *path = make_model(paths.models_dir, "m.gguf", "one");
    make_saved_session(paths.sessions_dir, "talk");
    hs_status status = HS_OK;
    WITH_EVERY_ALLOCATION_FAILING(status, status = whole_life(&paths, path), {
        assert_int_equal(count_set_aside(*state, ""), 0);
        remove_registry(*state);
    });
    WITH_EVERY_ALLOCATION_FAILING(status, status = whole_life(&paths, path),
                                  assert_int_equal(count_set_aside(*state, ""), 0));
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_models(registry), 1);
    hs_registry_close(registry);
    hs_free(path);
    hs_paths_free(&paths);
}

/* SQLite's own memory: what it cannot get is no damage either. */
static void test_sqlite_out_of_memory(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *path = make_model(paths.models_dir, "m.gguf", "one");
    assert_int_equal(whole_life(&paths, path), HS_OK);
    sqlite3_int64 least = sqlite3_memory_used();
    int n_failed = 0;
    for (sqlite3_int64 bytes = 2000; bytes < 400000; bytes += 1500) {
        sqlite3_hard_heap_limit64(least + bytes);
        hs_status status = whole_life(&paths, path);
        sqlite3_hard_heap_limit64(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        n_failed += status == HS_OUT_OF_MEMORY;
    }
    assert_true(n_failed > 5);
    assert_int_equal(whole_life(&paths, path), HS_OK);
    assert_int_equal(count_set_aside(*state, ""), 0);
    hs_free(path);
    hs_paths_free(&paths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open_makes_what_is_missing),
        TEST(test_open_again_keeps_rows),
        TEST(test_files_are_private),
        TEST(test_opening_is_quick),
        TEST(test_a_newer_registry_is_refused),
        TEST(test_a_half_made_registry_is_made_anew),
        TEST(test_a_registry_without_wal),
        TEST(test_threads_share_one),
        TEST(test_processes_share_one),
        TEST(test_another_process_is_writing),
        TEST(test_another_process_repairs),
        TEST(test_read_only_folder),
        TEST(test_full_disk),
        TEST(test_out_of_memory),
        TEST(test_sqlite_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
