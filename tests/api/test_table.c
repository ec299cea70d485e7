/* Aligned columns. */
#include "api_test.h"

#include "table.h"

static void columns_line_up(void **state)
{
    struct api_test *test = *state;
    struct hs_table table;
    hs_table_init(&table, 3, 1u << 1, "NAME SIZE USED");
    hs_table_cell(&table, "a");
    hs_table_cell(&table, "%d", 12345);
    hs_table_cell(&table, "x");
    hs_table_cell(&table, "l\xC3\xA4nger"); /* 6 columns, 7 bytes */
    hs_table_cell(&table, "1");
    hs_table_cell(&table, "two words");
    assert_int_equal(hs_table_print(&table, &test->io, &test->err), HS_OK);
    assert_string_equal(test->out.data, "NAME     SIZE  USED\n"
                                        "a       12345  x\n"
                                        "l\xC3\xA4nger      1  two words\n");
    hs_table_free(&table);
}

static void wide_characters_count_twice(void **state)
{
    struct api_test *test = *state;
    struct hs_table table;
    hs_table_init(&table, 2, 0, NULL);
    const char *cells[] = {"\xE4\xBD\xA0\xE5\xA5\xBD", "x", "abcd", "y"}; /* two ideographs */
    for (size_t i = 0; i < 4; i++) {
        hs_table_cell(&table, "%s", cells[i]);
    }
    assert_int_equal(hs_table_print(&table, &test->io, &test->err), HS_OK);
    assert_string_equal(test->out.data, "\xE4\xBD\xA0\xE5\xA5\xBD  x\nabcd  y\n");
    hs_table_free(&table);
}

static void cells_are_one_safe_line(void **state)
{
    struct api_test *test = *state;
    struct hs_table table;
    hs_table_init(&table, 1, 0, NULL);
    hs_table_cell(&table, "a\nb\033c");
    assert_int_equal(hs_table_print(&table, &test->io, &test->err), HS_OK);
    assert_string_equal(test->out.data, "a\xE2\x90\x8A"
                                        "b\xE2\x90\x9B"
                                        "c\n");
    hs_table_free(&table);
}

static void many_rows_and_none(void **state)
{
    struct api_test *test = *state;
    struct hs_table table;
    hs_table_init(&table, 1, 0, NULL);
    assert_int_equal(hs_table_print(&table, &test->io, &test->err), HS_OK);
    assert_string_equal(test->out.data, "");
    for (int i = 0; i < 1000; i++) {
        hs_table_cell(&table, "%d", i);
    }
    assert_int_equal(hs_table_print(&table, &test->io, &test->err), HS_OK);
    assert_contains(test->out.data, "\n999\n");
    hs_table_free(&table);
}

static void memory_failures_are_reported(void **state)
{
    struct api_test *test = *state;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 1000);
        hs_mem_fail_after(nth);
        struct hs_table table;
        hs_table_init(&table, 2, 0, "A B");
        for (int i = 0; i < 40; i++) {
            hs_table_cell(&table, "cell %d", i);
        }
        status = hs_table_print(&table, &test->io, &test->err);
        hs_mem_fail_after(0);
        hs_table_free(&table);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(columns_line_up, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(wide_characters_count_twice, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(cells_are_one_safe_line, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(many_rows_and_none, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures_are_reported, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
