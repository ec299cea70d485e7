/* Tests of base/mem.h. */
#include "base_test.h"

#include <errno.h>
#include <fcntl.h>

static void test_sizes(void **state)
{
    (void)state;
    char *p = hs_alloc(0);
    assert_non_null(p);
    p = hs_realloc(p, 16);
    assert_non_null(p);
    memset(p, 1, 16);
    hs_free(p);
    unsigned char *zeroed = hs_calloc(100, 7);
    for (size_t i = 0; i < 700; i++) {
        assert_int_equal(zeroed[i], 0);
    }
    hs_free(zeroed);
    p = hs_calloc(0, 5);
    assert_non_null(p);
    hs_free(p);
    hs_free(NULL);
}

static void test_overflow(void **state)
{
    (void)state;
    assert_null(hs_calloc(SIZE_MAX / 2, 3));
    assert_null(hs_realloc_array(NULL, SIZE_MAX / 2, 3));
    char *p = hs_alloc(8);
    errno = 0;
    assert_null(hs_realloc_array(p, SIZE_MAX, 2)); /* p is still there */
    assert_int_equal(errno, ENOMEM);
    p = hs_realloc_array(p, 4, 4);
    assert_non_null(p);
    hs_free(p);
}

static void test_strings(void **state)
{
    (void)state;
    HS_CLEANUP(hs_freep) char *copy = hs_strdup("abc");
    assert_string_equal(copy, "abc");
    assert_null(hs_strdup(NULL));
    assert_null(hs_strndup(NULL, 3));
    HS_CLEANUP(hs_freep) char *part = hs_strndup("abcdef", 3);
    assert_string_equal(part, "abc");
    HS_CLEANUP(hs_freep) char *whole = hs_strndup("abc", 100);
    assert_string_equal(whole, "abc");
    const char unterminated[2] = {'x', 'y'};
    HS_CLEANUP(hs_freep) char *two = hs_strndup(unterminated, 2);
    assert_string_equal(two, "xy");
    HS_CLEANUP(hs_freep) char *text = hs_asprintf("%d-%s", 42, "x");
    assert_string_equal(text, "42-x");
}

static void test_cleanup(void **state)
{
    (void)state;
    char *p = hs_alloc(4);
    hs_freep(&p);
    assert_null(p);
    hs_freep(&p);
    int fd = open("/dev/null", O_RDONLY);
    int copy = fd;
    errno = EEXIST;
    hs_closep(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(fcntl(copy, F_GETFD), -1);
    hs_closep(&fd);
    FILE *file = fopen("/dev/null", "r");
    hs_fclosep(&file);
    assert_null(file);
    hs_fclosep(&file);
}

static void *allocate(int kind, char *old)
{
    switch (kind) {
    case 0:
        return hs_alloc(3);
    case 1:
        return hs_calloc(2, 2);
    case 2:
        return hs_realloc(old, 32);
    case 3:
        return hs_realloc_array(old, 3, 8);
    case 4:
        return hs_strdup("x");
    case 5:
        return hs_strndup("xyz", 2);
    default:
        return hs_asprintf("%d", 1);
    }
}

/* Exactly the n-th call fails, whichever it is; those before and behind it do not. */
static void test_failure_hook(void **state)
{
    (void)state;
    for (int kind = 0; kind <= 6; kind++) {
        for (uint64_t failing = 1; failing <= 3; failing++) {
            hs_mem_fail_after(failing);
            for (uint64_t i = 1; i <= 4; i++) {
                char *old = kind == 2 || kind == 3 ? malloc(1) : NULL;
                errno = 0;
                void *p = allocate(kind, old);
                assert_int_equal(p == NULL, i == failing);
                assert_int_equal(errno == ENOMEM, i == failing);
                assert_int_equal(hs_mem_count(), i);
                free(p == NULL ? old : p);
            }
        }
    }
    hs_mem_fail_after(0);
    for (uint64_t i = 1; i <= 10; i++) {
        void *p = hs_alloc(1);
        assert_non_null(p);
        hs_free(p);
        assert_int_equal(hs_mem_count(), i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_strings),      cmocka_unit_test(test_cleanup),
        cmocka_unit_test(test_failure_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
