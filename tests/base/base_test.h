/* base_test.h - what the tests of base share: cmocka with its headers, and a folder per test. */
#ifndef BASE_TEST_H
#define BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Run `body` again and again, each time with another allocation failing, until it needs no more.
 * body sets `status`; `check` runs after every run that failed for want of memory.
 */
#define WITH_EVERY_ALLOCATION_FAILING(status, body, check)                                         \
    for (uint64_t nth = 1, over = 0; !over; nth++) {                                               \
        hs_mem_fail_after(nth);                                                                    \
        body;                                                                                      \
        over = hs_mem_count() < nth;                                                               \
        hs_mem_fail_after(0);                                                                      \
        assert_true(nth < 10000);                                                                  \
        if (over) {                                                                                \
            assert_int_equal(status, HS_OK);                                                       \
            assert_true(nth > 1);                                                                  \
        } else {                                                                                   \
            assert_int_equal(status, HS_OUT_OF_MEMORY);                                            \
            check;                                                                                 \
        }                                                                                          \
    }

/* cmocka set-up: *state becomes the path of a new folder; tmp_teardown removes it. */
static inline int tmp_setup(void **state)
{
    char *folder = strdup(HS_TEST_TMP "/base-XXXXXX");
    *state = folder;
    return folder != NULL && mkdtemp(folder) != NULL ? 0 : -1;
}

static inline int tmp_teardown(void **state)
{
    hs_status status = hs_fs_remove_all(*state, NULL);
    free(*state);
    return status == HS_OK ? 0 : -1;
}

#endif
