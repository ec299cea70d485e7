/*
 * sql_test.h - a database for each test, statements in one call, and rows as text.
 *
 * A failure of what a test did not ask about ends the test.
 */
#ifndef SQL_TEST_H
#define SQL_TEST_H

#include "api/sql.h"

struct sql_test {
    hs_sql *sql;
    hs_sql_conn *conn;
    struct hs_error err;
    char folder[256]; /* exists, empty, allowed to be read */
    char text[4096];  /* what the last sql_test_query gave */
    int64_t n_changed;
};

/* For cmocka_unit_test_setup_teardown; tables in memory. */
int sql_test_open(void **state);
int sql_test_close(void **state);

/* Run a text; its rows go to test->text as "1|a;2|b" through a cast to VARCHAR of each column's
 * values, NULL as "NULL". The status of the first thing that failed. */
hs_status sql_test_run(struct sql_test *test, const char *text);
/* The same for a text that works; returns test->text. */
const char *sql_test_query(struct sql_test *test, const char *text);
/* It fails with this status, and the message holds `part`. */
void sql_test_fails(struct sql_test *test, const char *text, hs_status status, const char *part);
/* The first rows of a query as Arrow, both to be released. */
void sql_test_take(struct sql_test *test, const char *text, struct ArrowSchema *ret_schema,
                   struct ArrowArray *ret_rows);

#endif
