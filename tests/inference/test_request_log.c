/* Tests of request_log.c: the last requests, and which of them are new. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "request_log.h"

static void add(hs_request_log *log, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++) {
        struct hs_request_record record = {.number = 77, .started_unix_ms = (int64_t)i};
        hs_request_log_add(log, &record);
    }
}

static void assert_range(hs_request_log *log, uint64_t after, size_t max, uint64_t first, size_t n)
{
    struct hs_request_record *records = calloc(max + 1, sizeof *records);
    assert_int_equal(hs_request_log_read(log, after, records, max), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(records[i].number, first + i);
        assert_int_equal(records[i].started_unix_ms, first + i);
    }
    free(records);
}

static void the_last_ones_are_kept(void **state)
{
    (void)state;
    hs_request_log *log;
    assert_int_equal(hs_request_log_new(&log, NULL), HS_OK);
    assert_range(log, 0, 10, 1, 0);
    add(log, 1, 100);
    assert_range(log, 0, 200, 1, 100);
    assert_range(log, 0, 5, 1, 5);
    assert_range(log, 98, 5, 99, 2);
    assert_range(log, 100, 5, 0, 0);
    assert_range(log, 1000, 5, 0, 0);
    add(log, 101, HS_REQUEST_RECORDS_MAX);
    assert_range(log, 0, HS_REQUEST_RECORDS_MAX, 1, HS_REQUEST_RECORDS_MAX);
    add(log, HS_REQUEST_RECORDS_MAX + 1, HS_REQUEST_RECORDS_MAX + 3);
    assert_range(log, 0, HS_REQUEST_RECORDS_MAX, 4, HS_REQUEST_RECORDS_MAX);
    assert_range(log, 2, 2, 4, 2);
    hs_request_log_free(log);
    hs_request_log_free(NULL);
    hs_request_log_add(NULL, &(struct hs_request_record){.number = 1});
}

static void a_long_error_is_cut_at_a_code_point(void **state)
{
    (void)state;
    struct hs_error error = {.status = HS_INTERNAL};
    struct hs_request_record record = {.number = 1};
    memset(error.message, 'a', sizeof record.error - 2);
    memcpy(error.message + sizeof record.error - 2, "\xC3\xA4", 3);
    hs_request_record_fail(&record, &error);
    assert_int_equal(strlen(record.error), sizeof record.error - 2);
}

static void without_memory_a_request_goes_unrecorded(void **state)
{
    (void)state;
    hs_request_log *log;
    hs_mem_fail_after(1);
    assert_int_equal(hs_request_log_new(&log, NULL), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
    assert_int_equal(hs_request_log_new(&log, NULL), HS_OK);
    hs_mem_fail_after(1);
    add(log, 1, 1);
    hs_mem_fail_after(0);
    assert_range(log, 0, 5, 1, 0);
    add(log, 1, 1);
    assert_range(log, 0, 5, 1, 1);
    hs_request_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_ones_are_kept),
        cmocka_unit_test(a_long_error_is_cut_at_a_code_point),
        cmocka_unit_test(without_memory_a_request_goes_unrecorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
