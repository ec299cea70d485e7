/* Tests of storage/response_store.c: rows, their owners, their limits, damaged files. */
#include "store_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>

#include "base/log.h"
#include "storage/response_store.h"

static const struct hs_response_store_limits WIDE = {.max_responses = 1000};

static char *file_in(void **state)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/responses.db", (const char *)*state);
    return path;
}

static hs_response_store *open_store(const char *path,
                                     const struct hs_response_store_limits *limits)
{
    hs_response_store *store = NULL;
    struct hs_error err = {.message = ""};
    if (hs_response_store_open(path, limits, &store, &err) != HS_OK)
        fail_msg("%s", err.message);
    return store;
}

static void put(hs_response_store *store, const char *id, const char *owner, const char *body)
{
    struct hs_error err = {.message = ""};
    const struct hs_stored_response response = {
        .body = (char *)body, .input = (char *)"[1]", .history = (char *)"[]"};
    if (hs_response_store_put(store, id, owner, &response, &err) != HS_OK)
        fail_msg("%s", err.message);
}

/* The body, "" when there is none. */
static const char *get(hs_response_store *store, const char *id, const char *owner)
{
    static char body[256];
    struct hs_stored_response response;
    struct hs_error err = {.message = ""};
    hs_status status = hs_response_store_get(store, id, owner, &response, &err);
    if (status == HS_NOT_FOUND) {
        assert_non_null(strstr(err.message, id));
        return "";
    }
    assert_int_equal(status, HS_OK);
    assert_string_equal(response.input, "[1]");
    assert_string_equal(response.history, "[]");
    snprintf(body, sizeof body, "%s", response.body);
    hs_stored_response_free(&response);
    return body;
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void rows_come_and_go(void **state)
{
    hs_response_store *store = open_store(file_in(state), &WIDE);
    assert_string_equal(get(store, "a", ""), "");
    put(store, "a", "", "one");
    assert_string_equal(get(store, "a", ""), "one");
    put(store, "a", "", "two");
    assert_string_equal(get(store, "a", ""), "two");
    assert_int_equal(hs_response_store_delete(store, "a", "", NULL), HS_OK);
    assert_string_equal(get(store, "a", ""), "");
    assert_int_equal(hs_response_store_delete(store, "a", "", NULL), HS_NOT_FOUND);
    hs_response_store_close(store);
    hs_response_store_close(NULL);
}

static void a_row_is_its_owners(void **state)
{
    hs_response_store *store = open_store(file_in(state), &WIDE);
    put(store, "a", "k1", "one");
    put(store, "a", "k2", "two");
    put(store, "b", "k2", "three");
    assert_string_equal(get(store, "a", "k1"), "one");
    assert_string_equal(get(store, "a", "k2"), "two");
    assert_string_equal(get(store, "b", "k1"), "");
    assert_string_equal(get(store, "a", ""), "");
    assert_int_equal(hs_response_store_delete(store, "b", "k1", NULL), HS_NOT_FOUND);
    assert_string_equal(get(store, "b", "k2"), "three");
    assert_int_equal(hs_response_store_delete(store, "a", "k1", NULL), HS_OK);
    assert_string_equal(get(store, "a", "k2"), "two");
    hs_response_store_close(store);
}

static void rows_outlive_the_process(void **state)
{
    hs_response_store *store = open_store(file_in(state), &WIDE);
    hs_response_store *other = open_store(file_in(state), &WIDE);
    put(store, "a", "", "one");
    assert_string_equal(get(other, "a", ""), "one");
    hs_response_store_close(store);
    hs_response_store_close(other);
    struct stat info;
    assert_int_equal(stat(file_in(state), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    store = open_store(file_in(state), &WIDE);
    assert_string_equal(get(store, "a", ""), "one");
    hs_response_store_close(store);
}

/* N stay, with N + 1 the oldest leaves. */
static void the_oldest_leave(void **state)
{
    const struct hs_response_store_limits three = {.max_responses = 3};
    hs_response_store *store = open_store(file_in(state), &three);
    static const char *const ids[] = {"a", "b", "c"};
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        put(store, ids[i], i == 1 ? "k" : "", "x");
    assert_string_equal(get(store, "a", ""), "x");
    put(store, "d", "", "x");
    assert_string_equal(get(store, "a", ""), "");
    assert_string_equal(get(store, "b", "k"), "x");
    assert_string_equal(get(store, "d", ""), "x");
    hs_response_store_close(store);
    /* a smaller limit holds from the next put on */
    const struct hs_response_store_limits one = {.max_responses = 1};
    store = open_store(file_in(state), &one);
    put(store, "e", "", "x");
    assert_string_equal(get(store, "d", ""), "");
    assert_string_equal(get(store, "e", ""), "x");
    hs_response_store_close(store);
}

static void the_old_are_not_given_and_leave(void **state)
{
    const struct hs_response_store_limits hour = {.max_responses = 10, .max_age_s = 3600};
    hs_response_store *store = open_store(file_in(state), &hour);
    put(store, "a", "", "x");
    put(store, "b", "", "x");
    run_sql(file_in(state), "UPDATE responses SET created_unix_ms = created_unix_ms - 3500000"
                            " WHERE id = 'a'");
    assert_string_equal(get(store, "a", ""), "x");
    run_sql(file_in(state), "UPDATE responses SET created_unix_ms = created_unix_ms - 101000"
                            " WHERE id = 'a'");
    assert_string_equal(get(store, "a", ""), "");
    put(store, "c", "", "x");
    hs_response_store_close(store);
    store = open_store(file_in(state), &WIDE); /* no limit of age: it would be given */
    assert_string_equal(get(store, "a", ""), "");
    assert_string_equal(get(store, "b", ""), "x");
    hs_response_store_close(store);
}

/* ---- files that are not right ---- */

static int count_set_aside(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += strstr(entry->d_name, ".corrupt-") != NULL && strstr(entry->d_name, "-wal") == NULL &&
             strstr(entry->d_name, "-shm") == NULL;
    closedir(dir);
    return n;
}

static void overwrite(const char *path, long at, const char *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, len, at), (ssize_t)len);
    close(fd);
}

static void a_damaged_file_is_set_aside(void **state)
{
    hs_log_set_level(HS_LOG_OFF);
    hs_response_store *store = open_store(file_in(state), &WIDE);
    char big[9000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\0';
    for (char id[] = "a"; *id <= 'j'; ++*id)
        put(store, id, "", big);
    hs_response_store_close(store);
    char junk[4096];
    memset(junk, 0xA5, sizeof junk);
    overwrite(file_in(state), 4096, junk, sizeof junk);
    store = open_store(file_in(state), &WIDE);
    assert_string_equal(get(store, "a", ""), "");
    put(store, "n", "", "new");
    hs_response_store_close(store);
    assert_int_equal(count_set_aside(*state), 1);
    store = open_store(file_in(state), &WIDE);
    assert_string_equal(get(store, "n", ""), "new");
    hs_response_store_close(store);
    hs_log_set_level(HS_LOG_WARN);
}

static void files_that_are_none_of_ours(void **state)
{
    hs_log_set_level(HS_LOG_OFF);
    overwrite(file_in(state), 0, "this is not a database, and long enough to see that", 51);
    hs_response_store_close(open_store(file_in(state), &WIDE));
    assert_int_equal(count_set_aside(*state), 1);
    assert_int_equal(unlink(file_in(state)), 0);
    run_sql(file_in(state), "CREATE TABLE responses(x)");
    hs_response_store_close(open_store(file_in(state), &WIDE));
    assert_int_equal(count_set_aside(*state), 2);
    hs_log_set_level(HS_LOG_WARN);
}

static void files_that_are_refused(void **state)
{
    hs_response_store *store = open_store(file_in(state), &WIDE);
    hs_response_store_close(store);
    run_sql(file_in(state), "PRAGMA user_version = 2");
    struct hs_error err;
    assert_int_equal(hs_response_store_open(file_in(state), &WIDE, &store, &err),
                     HS_UNSUPPORTED_VERSION);
    assert_true(err.hint[0] != '\0');
    assert_int_equal(count_set_aside(*state), 0);
    assert_int_equal(hs_response_store_open("/nowhere/at/all.db", &WIDE, &store, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_response_store_open(*state, &WIDE, &store, &err), HS_IS_DIRECTORY);
}

/* ---- threads and memory ---- */

static void *put_many(void *user)
{
    for (int i = 0; i < 50; i++) {
        char id[32];
        snprintf(id, sizeof id, "r%d", i);
        put(user, id, "", "x");
    }
    return NULL;
}

static void several_threads(void **state)
{
    hs_response_store *store = open_store(file_in(state), &WIDE);
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, store), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_string_equal(get(store, "r49", ""), "x");
    hs_response_store_close(store);
}

static void without_memory(void **state)
{
    hs_response_store *store = NULL;
    for (uint64_t n = 1;; n++) {
        hs_mem_fail_after(n);
        hs_status status = hs_response_store_open(file_in(state), &WIDE, &store, NULL);
        hs_mem_fail_after(0);
        if (status == HS_OK)
            break;
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
    put(store, "a", "", "x");
    for (uint64_t n = 1;; n++) {
        struct hs_stored_response response;
        hs_mem_fail_after(n);
        hs_status status = hs_response_store_get(store, "a", "", &response, NULL);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            hs_stored_response_free(&response);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
    hs_response_store_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_come_and_go),
        TEST(a_row_is_its_owners),
        TEST(rows_outlive_the_process),
        TEST(the_oldest_leave),
        TEST(the_old_are_not_given_and_leave),
        TEST(a_damaged_file_is_set_aside),
        TEST(files_that_are_none_of_ours),
        TEST(files_that_are_refused),
        TEST(several_threads),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
