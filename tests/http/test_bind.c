/* Where a server may listen with and without keys. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

#include "api/http_bind.h"

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool is_local;
    } cases[] = {
        {"127.0.0.1", true},
        {"127.255.255.254", true},
        {"128.0.0.1", false},
        {"126.255.255.255", false},
        {"0.0.0.0", false},
        {"10.0.0.1", false},
        {"::1", true},
        {"::", false},
        {"::ffff:127.0.0.1", true},
        {"::ffff:10.0.0.1", false},
        {"2001:db8::1", false},
        {"fe80::1", false},
        {"::2", false},
        {"localhost", true},
        {"", false},
        {"*", false},
        {"127.1", true},
        {"2130706433", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool is_local = !cases[i].is_local;
        struct hs_error err;
        hs_status status = hs_http_host_is_loopback(cases[i].host, &is_local, &err);
        if (status != HS_OK || is_local != cases[i].is_local) {
            fail_msg("'%s': %d", cases[i].host, is_local);
        }
        assert_int_equal(hs_http_bind_check(cases[i].host, 0, false, &err),
                         cases[i].is_local ? HS_OK : HS_PERMISSION_DENIED);
        assert_int_equal(hs_http_bind_check(cases[i].host, 1, false, &err), HS_OK);
        assert_int_equal(hs_http_bind_check(cases[i].host, 0, true, &err), HS_OK);
    }
}

static void test_texts(void **state)
{
    (void)state;
    struct hs_error err;
    assert_int_equal(hs_http_bind_check("0.0.0.0", 0, false, &err), HS_PERMISSION_DENIED);
    assert_non_null(strstr(err.hint, "key create"));
    assert_non_null(strstr(err.hint, "--insecure"));
    assert_int_equal(hs_http_bind_check("no-such-host.invalid", 1, true, &err), HS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
