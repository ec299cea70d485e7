/* Tests of the status names and texts and of the version in hyprstream.h. */
#include "base_test.h"

static void test_names_and_texts(void **state)
{
    (void)state;
    assert_string_equal(hs_status_name(HS_OK), "HS_OK");
    assert_string_equal(hs_status_text(HS_OK), "success");
    assert_string_equal(hs_status_name(HS_NOT_FOUND), "HS_NOT_FOUND");
    assert_string_equal(hs_status_text(HS_NOT_FOUND), "not found");
    assert_string_equal(hs_status_name(HS_MISMATCH), "HS_MISMATCH");
}

static void test_all_rows_differ(void **state)
{
    (void)state;
    static const struct {
        hs_status status;
        int value;
        const char *name;
    } rows[] = {
#define HS_STATUS(name, value, text) {HS_##name, value, "HS_" #name},
#include "hyprstream/status.def"
#undef HS_STATUS
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal((int)rows[i].status, rows[i].value);
        assert_int_equal(rows[i].value, (int)i); /* the embedding API's numbers have no gaps */
        assert_string_equal(hs_status_name(rows[i].status), rows[i].name);
        assert_true(strlen(hs_status_text(rows[i].status)) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(hs_status_text(rows[i].status), hs_status_text(rows[j].status));
        }
    }
}

static void test_foreign_values(void **state)
{
    (void)state;
    assert_string_equal(hs_status_name((hs_status)9999), "HS_UNKNOWN");
    assert_string_equal(hs_status_text((hs_status)9999), "unknown status");
}

static void test_version(void **state)
{
    (void)state;
    assert_string_equal(hs_version(), PINNED_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_texts),
        cmocka_unit_test(test_all_rows_differ),
        cmocka_unit_test(test_foreign_values),
        cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
