/* A damaged registry is reported, set aside and rebuilt from disk: at any byte, at any length,
 * while others have it open, and after a kill in the middle of the repair. */
#include "registry_test.h"

#include <fcntl.h>

static struct warnings warnings;

static int corrupt_setup(void **state)
{
    warnings = (struct warnings){0};
    hs_log_set_sink(keep_warning, &warnings);
    return tmp_setup(state);
}

static int corrupt_teardown(void **state)
{
    hs_log_set_sink(NULL, NULL);
    return tmp_teardown(state);
}

/* Two models in the models folder, one elsewhere, two sessions on disk, one only in the registry.
 */
static void fill(const char *folder)
{
    struct hs_paths paths = paths_in(folder);
    hs_free(make_model(paths.models_dir, "one.gguf", "one"));
    hs_free(make_model(paths.models_dir, "two.gguf", "two"));
    make_saved_session(paths.sessions_dir, "s1");
    make_saved_session(paths.sessions_dir, "s2");
    char *elsewhere = make_model(folder, "elsewhere.gguf", "three");
    hs_registry *registry = open_registry(folder);
    assert_int_equal(count_models(registry), 2);
    assert_int_equal(hs_registry_model_add(registry, elsewhere, NULL, "added", NULL, NULL), HS_OK);
    assert_int_equal(put_session(registry, "only-a-row", 1, NULL), HS_OK);
    hs_registry_close(registry);
    run_sql(folder, "PRAGMA wal_checkpoint(TRUNCATE)");
    hs_free(elsewhere);
    hs_paths_free(&paths);
}

static void assert_rebuilt(const char *folder)
{
    hs_registry *registry = open_registry(folder);
    assert_int_equal(count_models(registry), 2);
    assert_int_equal(count_sessions(registry), 2);
    struct hs_registry_model model = {0};
    assert_int_equal(hs_registry_model_get(registry, "elsewhere", &model, NULL), HS_NOT_FOUND);
    assert_int_equal(hs_registry_model_get(registry, "two", &model, NULL), HS_OK);
    hs_registry_model_free(&model);
    assert_int_equal(put_session(registry, "works", 1, NULL), HS_OK);
    assert_int_equal(hs_registry_session_remove(registry, "works", NULL), HS_OK);
    hs_registry_close(registry);
    assert_sql(folder, "PRAGMA integrity_check", "ok");
}

static void test_garbage_is_set_aside(void **state)
{
    fill(*state);
    char *path = path_of(*state, "registry.db"), *wal = path_of(*state, "registry.db-wal");
    static char garbage[10000];
    memset(garbage, 'g', sizeof garbage);
    write_file(path, garbage, sizeof garbage);
    write_file(wal, "old log", 7);
    assert_rebuilt(*state);
    assert_int_equal(warnings.n, 1);
    assert_non_null(strstr(warnings.last, "damaged"));
    assert_non_null(strstr(warnings.last, "registry.db.corrupt-"));
    assert_non_null(strstr(warnings.last, "2 models, 2 sessions and 0 versions of adapters"));
    assert_non_null(strstr(warnings.last, "model add"));
    assert_int_equal(count_set_aside(*state, ""), 1);
    assert_int_equal(count_set_aside(*state, "-wal"), 1);
    /* twice in one second: nothing that was set aside is overwritten */
    write_file(path, garbage, sizeof garbage);
    assert_rebuilt(*state);
    write_file(path, garbage, sizeof garbage);
    assert_rebuilt(*state);
    assert_int_equal(count_set_aside(*state, ""), 3);
    hs_free(path);
    hs_free(wal);
}

static void test_a_foreign_database(void **state)
{
    fill(*state);
    char *path = path_of(*state, "registry.db");
    assert_int_equal(unlink(path), 0);
    run_sql(*state, "CREATE TABLE music (title TEXT); INSERT INTO music VALUES ('x')");
    assert_rebuilt(*state);
    assert_int_equal(warnings.n, 1);
    assert_int_equal(count_set_aside(*state, ""), 1);
    hs_free(path);
}

static void test_versions_that_cannot_be(void **state)
{
    static const char *const DAMAGES[] = {"PRAGMA user_version = -1",
                                          "PRAGMA user_version = 2147483647",
                                          "PRAGMA user_version = 0",
                                          "PRAGMA application_id = 1",
                                          "DROP TABLE sessions",
                                          "ALTER TABLE models RENAME COLUMN path TO pbth",
                                          "DROP TABLE models; CREATE TABLE models (name TEXT)"};
    fill(*state);
    for (size_t i = 0; i < COUNT_OF(DAMAGES); i++) {
        run_sql(*state, DAMAGES[i]);
        assert_rebuilt(*state);
        assert_int_equal(warnings.n, i + 1);
    }
    assert_int_equal(count_set_aside(*state, ""), COUNT_OF(DAMAGES));
}

/* The pristine file, to damage copies of it. */
struct pristine {
    char *path;
    char *data;
    size_t len;
};

static struct pristine pristine_of(const char *folder)
{
    struct pristine pristine = {.path = path_of(folder, "registry.db")};
    pristine.data = read_file(pristine.path, &pristine.len);
    return pristine;
}

static void pristine_free(struct pristine *pristine)
{
    hs_free(pristine->path);
    hs_free(pristine->data);
}

static void clear_companions(const char *folder)
{
    char *wal = path_of(folder, "registry.db-wal"), *shm = path_of(folder, "registry.db-shm");
    unlink(wal);
    unlink(shm);
    hs_free(wal);
    hs_free(shm);
}

struct outcome {
    int n_unnoticed, n_rebuilt, n_refused;
};

/*
 * Open what now lies there and use all of it. Allowed: rows as they were (SQLite has no check
 * values, so a letter may differ), a rebuilt registry, or, when the version number was hit, a
 * refusal. Never allowed: a crash, an error, or a registry that is unsound afterwards.
 */
static void use_damaged(const char *folder, struct outcome *outcome)
{
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    int n_warnings = warnings.n;
    hs_status status = try_registry(folder, &registry, &err);
    if (status == HS_UNSUPPORTED_VERSION) {
        outcome->n_refused++;
        return;
    }
    if (status != HS_OK)
        fail_msg("open: %s", err.message);
    size_t n_models = count_models(registry), n_sessions = count_sessions(registry);
    assert_int_equal(put_session(registry, "works", 1, &err), HS_OK);
    assert_int_equal(count_sessions(registry), n_sessions + 1);
    assert_int_equal(hs_registry_session_remove(registry, "works", &err), HS_OK);
    hs_registry_close(registry);
    assert_sql(folder, "PRAGMA integrity_check", "ok");
    if (warnings.n > n_warnings) {
        assert_int_equal(n_models, 2);
        assert_int_equal(n_sessions, 2);
        outcome->n_rebuilt++;
    } else {
        outcome->n_unnoticed++;
    }
}

static void remove_set_aside(const char *folder)
{
    char command[4096];
    snprintf(command, sizeof command, "rm -f '%s'/registry.db.corrupt-*", folder);
    assert_int_equal(system(command), 0);
}

static void test_cut_off_anywhere(void **state)
{
    fill(*state);
    struct pristine pristine = pristine_of(*state);
    struct outcome outcome = {0};
    size_t step = pristine.len / 40;
    for (size_t len = 0; len < pristine.len; len += len < 110 ? 5 : step) {
        int n_unnoticed = outcome.n_unnoticed;
        clear_companions(*state);
        write_file(pristine.path, pristine.data, len);
        use_damaged(*state, &outcome);
        remove_set_aside(*state);
        /* SQLite fills up a last page that is cut with zeros, which may hit the end of a text
         * only. A file that lost a page is always noticed. */
        if (outcome.n_unnoticed > n_unnoticed && len <= pristine.len - 4096)
            fail_msg("cut off after %zu of %zu bytes and not noticed", len, pristine.len);
    }
    print_message("cut off: %d rebuilt, %d not noticed, %d refused\n", outcome.n_rebuilt,
                  outcome.n_unnoticed, outcome.n_refused);
    assert_int_equal(outcome.n_refused, 0);
    pristine_free(&pristine);
}

static void test_overwritten_anywhere(void **state)
{
    fill(*state);
    struct pristine pristine = pristine_of(*state);
    struct outcome outcome = {0};
    uint64_t seed = 20261123;
    char *copy = malloc(pristine.len);
    assert_non_null(copy);
    for (size_t i = 0; i < 250; i++) {
        /* every byte of the header once, then random places with random lengths */
        size_t offset = i < 100 ? i : next_random(&seed) % pristine.len;
        size_t len = i < 100 ? 1 : 1 + next_random(&seed) % 200;
        memcpy(copy, pristine.data, pristine.len);
        for (size_t j = offset; j < offset + len && j < pristine.len; j++)
            copy[j] = (char)(i % 4 == 0 ? 0 : i % 4 == 1 ? 0xff : next_random(&seed));
        clear_companions(*state);
        write_file(pristine.path, copy, pristine.len);
        use_damaged(*state, &outcome);
        remove_set_aside(*state);
    }
    print_message("overwritten: %d rebuilt, %d not noticed, %d refused\n", outcome.n_rebuilt,
                  outcome.n_unnoticed, outcome.n_refused);
    assert_true(outcome.n_rebuilt > 30);
    free(copy);
    pristine_free(&pristine);
}

/* A log or index that is garbage costs at most what was in it. */
static void test_damaged_companions(void **state)
{
    fill(*state);
    struct outcome outcome = {0};
    uint64_t seed = 7;
    for (int i = 0; i < 60; i++) {
        hs_registry *registry = open_registry(*state);
        assert_int_equal(put_session(registry, "in-the-log", i, NULL), HS_OK);
        hs_registry_close(registry);
        char *path = path_of(*state, i % 2 == 0 ? "registry.db-wal" : "registry.db-shm");
        size_t len = 0;
        char *data = read_file(path, &len);
        for (int j = 0; j < 50 && len > 0; j++)
            data[next_random(&seed) % len] = (char)next_random(&seed);
        write_file(path, data, i % 6 < 2 ? len / 3 : len);
        use_damaged(*state, &outcome);
        hs_free(data);
        hs_free(path);
    }
    assert_int_equal(outcome.n_refused, 0);
    /* the rows that had been merged before are there, or the registry was rebuilt */
    hs_registry *registry = open_registry(*state);
    assert_true(count_models(registry) >= 2);
    hs_registry_close(registry);
}

/* ---- while it is open ---- */

/* Damage to a page that only shows when it is read. */
static void damage_tables(const char *folder)
{
    run_sql(folder, "PRAGMA wal_checkpoint(TRUNCATE)");
    char *path = path_of(folder, "registry.db");
    int fd = open(path, O_RDWR);
    static char garbage[4096];
    memset(garbage, 0xa5, sizeof garbage);
    assert_true(fd >= 0);
    for (off_t page = 1; page < 3; page++)
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, page * 4096), sizeof garbage);
    close(fd);
    /* what SQLite remembers of a page is void once the file has changed under it */
    hs_free(path);
}

static void test_damage_shows_while_open(void **state)
{
    fill(*state);
    hs_registry *registry = open_registry(*state);
    damage_tables(*state);
    assert_int_equal(count_models(registry), 2);
    assert_int_equal(count_sessions(registry), 2);
    assert_int_equal(warnings.n, 1);
    assert_int_equal(count_set_aside(*state, ""), 1);
    assert_int_equal(put_session(registry, "works", 1, NULL), HS_OK);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA integrity_check", "ok");
    assert_sql(*state, "SELECT count(*) FROM sessions", "3");
}

/* One repairs it; the other, which has the old file open, goes over to the new one and loses
 * nothing, also when it is in the middle of its work. */
static void test_another_handle_follows(void **state)
{
    fill(*state);
    hs_registry *first = open_registry(*state), *second = open_registry(*state);
    assert_int_equal(put_session(second, "before", 1, NULL), HS_OK);
    damage_tables(*state);
    assert_int_equal(count_models(first), 2);
    assert_int_equal(warnings.n, 1);
    assert_int_equal(put_session(second, "after", 1, NULL), HS_OK);
    assert_int_equal(count_sessions(first), 3);
    assert_int_equal(count_sessions(second), 3);
    assert_int_equal(warnings.n, 1); /* it was set aside once */
    assert_int_equal(count_set_aside(*state, ""), 1);
    hs_registry_close(second);
    assert_int_equal(put_session(first, "later", 1, NULL), HS_OK);
    hs_registry_close(first);
    assert_sql(*state, "SELECT count(*) FROM sessions", "4");
    assert_sql(*state, "PRAGMA integrity_check", "ok");
}

/* The file is gone: somebody removed it by hand. */
static void test_removed_while_open(void **state)
{
    fill(*state);
    hs_registry *registry = open_registry(*state);
    char *path = path_of(*state, "registry.db");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(put_session(registry, "s3", 1, NULL), HS_OK);
    assert_int_equal(count_models(registry), 2);
    assert_int_equal(count_sessions(registry), 3);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA integrity_check", "ok");
    hs_free(path);
}

static int use_and_damage(void *user)
{
    const char *folder = user;
    uint64_t seed = (uint64_t)getpid();
    hs_log_set_level(HS_LOG_OFF);
    hs_registry *registry = NULL;
    if (try_registry(folder, &registry, NULL) != HS_OK)
        return 1;
    for (int i = 0; i < 60; i++) {
        char name[64];
        struct hs_error err = {0};
        snprintf(name, sizeof name, "p%ld-%d", (long)getpid(), i);
        hs_status status = put_session(registry, name, 1, &err);
        if (status != HS_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 2;
        }
        if (i % 15 == 7) { /* garbage over the whole file, past SQLite */
            char path[4096], garbage[512];
            snprintf(path, sizeof path, "%s/registry.db", folder);
            for (size_t j = 0; j < sizeof garbage; j++)
                garbage[j] = (char)next_random(&seed);
            int fd = open(path, O_RDWR);
            for (off_t at = 0; fd >= 0 && at < 12288; at += (off_t)sizeof garbage)
                if (pwrite(fd, garbage, sizeof garbage, at) < 0)
                    return 3;
            close(fd);
        }
    }
    hs_registry_close(registry);
    return 0;
}

static void test_many_use_it_while_it_is_damaged(void **state)
{
    fill(*state);
    pid_t pids[3];
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        pids[i] = child_start(use_and_damage, *state);
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        child_expect_success(pids[i]);
    struct outcome outcome = {0};
    use_damaged(*state, &outcome);
    assert_int_equal(outcome.n_refused, 0);
    assert_true(count_set_aside(*state, "") >= 1);
}

/* ---- a repair that was cut short ---- */

static void test_companions_without_their_database(void **state)
{
    static const char *const LEFT[] = {"registry.db-wal", "registry.db-shm"};
    fill(*state);
    for (size_t i = 0; i < COUNT_OF(LEFT); i++) {
        char *path = path_of(*state, "registry.db"), *left = path_of(*state, LEFT[i]);
        clear_companions(*state);
        assert_int_equal(unlink(path), 0);
        write_file(left, "left by a killed repair", 23);
        assert_rebuilt(*state);
        assert_int_equal(count_set_aside(*state, i == 0 ? "-wal" : "-shm"), 1);
        hs_free(path);
        hs_free(left);
    }
}

static int repair(void *user)
{
    hs_registry *registry = NULL;
    hs_log_set_level(HS_LOG_OFF);
    if (try_registry(user, &registry, NULL) != HS_OK)
        return 1;
    for (;;)
        pause();
}

static void test_killed_while_it_repairs(void **state)
{
    fill(*state);
    char *path = path_of(*state, "registry.db");
    static char garbage[20000];
    uint64_t seed = 99;
    int n_rounds = kill_rounds(100);
    memset(garbage, 0x5a, sizeof garbage);
    for (int i = 0; i < n_rounds; i++) {
        write_file(path, garbage, sizeof garbage);
        pid_t pid = child_start(repair, *state);
        usleep(next_random(&seed) % 30000);
        child_kill(pid);
        assert_rebuilt(*state);
        remove_set_aside(*state);
    }
    hs_free(path);
}

#define QUIET_TEST(name) cmocka_unit_test_setup_teardown(name, corrupt_setup, corrupt_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUIET_TEST(test_garbage_is_set_aside),
        QUIET_TEST(test_a_foreign_database),
        QUIET_TEST(test_versions_that_cannot_be),
        QUIET_TEST(test_cut_off_anywhere),
        QUIET_TEST(test_overwritten_anywhere),
        QUIET_TEST(test_damaged_companions),
        QUIET_TEST(test_damage_shows_while_open),
        QUIET_TEST(test_another_handle_follows),
        QUIET_TEST(test_removed_while_open),
        QUIET_TEST(test_many_use_it_while_it_is_damaged),
        QUIET_TEST(test_companions_without_their_database),
        QUIET_TEST(test_killed_while_it_repairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
