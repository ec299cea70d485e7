/* Rows of sessions. */
#include "registry_test.h"

static void names_and_texts(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    static const char *const bad[] = {"", ".hidden", "a/b", "a b"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(put_session(registry, bad[i], 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(put_session(registry, NULL, 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(count_sessions(registry), 0);
    struct hs_registry_session row = {.name = (char *)"bare"}; /* texts that are NULL count as "" */
    assert_int_equal(hs_registry_session_put(registry, &row, NULL), HS_OK);
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].model_name, "");
    assert_string_equal(rows[0].fingerprint, "");
    hs_registry_sessions_free(rows, n);
    hs_registry_close(registry);
}

static void a_row_is_replaced_and_comes_back(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_registry_session row = {.name = (char *)"talk",
                                      .model_name = (char *)"it's \"quoted\"; --",
                                      .fingerprint = (char *)"f1",
                                      .n_messages = INT64_MAX,
                                      .size_bytes = 1,
                                      .created_unix_ms = 2,
                                      .updated_unix_ms = 3};
    assert_int_equal(put_session(registry, "talk", 7, NULL), HS_OK);
    assert_int_equal(hs_registry_session_put(registry, &row, NULL), HS_OK);
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].model_name, row.model_name);
    assert_string_equal(rows[0].fingerprint, "f1");
    assert_true(rows[0].n_messages == INT64_MAX && rows[0].size_bytes == 1 &&
                rows[0].created_unix_ms == 2 && rows[0].updated_unix_ms == 3);
    hs_registry_sessions_free(rows, n);
    hs_registry_close(registry);
}

/* More rows than the list first has room for. */
static void the_list_is_sorted(void **state)
{
    hs_registry *registry = open_registry(*state);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%02d", (i * 7) % 40);
        assert_int_equal(put_session(registry, name, i, NULL), HS_OK);
    }
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, NULL), HS_OK);
    assert_int_equal(n, 40);
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%02zu", i);
        assert_string_equal(rows[i].name, name);
    }
    hs_registry_sessions_free(rows, n);
    hs_registry_close(registry);
}

static void what_is_removed_is_gone(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    assert_int_equal(put_session(registry, "a", 1, NULL), HS_OK);
    assert_int_equal(put_session(registry, "b", 1, NULL), HS_OK);
    assert_int_equal(hs_registry_session_remove(registry, "a", NULL), HS_OK);
    assert_int_equal(count_sessions(registry), 1);
    assert_int_equal(hs_registry_session_remove(registry, "a", &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "'a'"));
    assert_non_null(strstr(err.hint, "session list"));
    hs_registry_close(registry);
}

static void memory_failures(void **state)
{
    hs_registry *registry = open_registry(*state);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%d", i);
        assert_int_equal(put_session(registry, name, 1, NULL), HS_OK);
    }
    for (uint64_t nth = 1;; nth++) {
        struct hs_registry_session *rows = NULL;
        size_t n = 0;
        hs_mem_fail_after(nth);
        hs_status status = hs_registry_session_list(registry, &rows, &n, NULL);
        hs_mem_fail_after(0);
        hs_registry_sessions_free(rows, n);
        if (status == HS_OK)
            break;
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_null(rows);
    }
    hs_registry_close(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_and_texts),    TEST(a_row_is_replaced_and_comes_back),
        TEST(the_list_is_sorted), TEST(what_is_removed_is_gone),
        TEST(memory_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
