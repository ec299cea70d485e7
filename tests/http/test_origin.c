/* Origins and names: what pages of other sites must not reach. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "origin.h"

static void test_origins(void **state)
{
    (void)state;
    static const char *const list[] = {"https://a.example", "HTTP://B.example:8080"};
    static const char *const all[] = {"*"};
    const struct hs_http_origins none = {.host = "127.0.0.1"};
    const struct hs_http_origins some = {.allowed = list, .n_allowed = 2};
    const struct hs_http_origins any = {.allowed = all, .n_allowed = 1};
    static const struct {
        const char *origin, *host;
        bool none, some;
    } cases[] = {
        {"http://localhost", "x", true, false},
        {"http://localhost:3000", "x", true, false},
        {"https://app.localhost:1", "x", true, false},
        {"http://127.0.0.1:80", "x", true, false},
        {"http://127.9.9.9", "x", true, false},
        {"http://[::1]:5", "x", true, false},
        {"http://[::2]:5", "x", false, false},
        {"http://localhost.evil.example", "x", false, false},
        {"http://evillocalhost", "x", false, false},
        {"http://127.0.0.1.evil.example", "x", false, false},
        {"http://localhost:3000@evil.example", "x", false, false},
        {"http://localhost:", "x", true, false},
        {"null", "x", false, false},
        {"", "", false, false},
        {"file://", "", false, false},
        {"chrome-extension://localhost", "x", false, false},
        {"https://a.example", "x", false, true},
        {"https://A.EXAMPLE", "x", false, true},
        {"http://a.example", "x", false, false},
        {"http://b.example:8080", "x", false, true},
        {"http://b.example", "x", false, false},
        {"http://me.example:81", "me.example:81", true, true},
        {"http://me.example:82", "me.example:81", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *origin = cases[i].origin, *host = cases[i].host;
        if (hs_http_origin_is_allowed(&none, origin, host) != cases[i].none ||
            hs_http_origin_is_allowed(&some, origin, host) != cases[i].some ||
            !hs_http_origin_is_allowed(&any, origin, host)) {
            fail_msg("origin '%s', host '%s'", origin, host);
        }
    }
}

static void test_hosts(void **state)
{
    (void)state;
    static const char *const names[] = {"box.lan"};
    static const char *const all[] = {"*"};
    const struct hs_http_origins origins = {
        .host_names = names, .n_host_names = 1, .host = "named.example"};
    const struct hs_http_origins any = {.host_names = all, .n_host_names = 1};
    static const char *const good[] = {"localhost", "LOCALHOST:80", "a.localhost",   "127.0.0.1:1",
                                       "10.0.0.1",  "[::1]:8080",   "[2001:db8::1]", "box.lan:9",
                                       "BOX.LAN",   "named.example"};
    static const char *const bad[] = {"evil.example",
                                      "localhost.evil.example",
                                      "",
                                      ":80",
                                      "[::1",
                                      "[::1]x",
                                      "[evil]",
                                      "localhost:80x",
                                      "box.lan.evil",
                                      "127.0.0.1.evil.example"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!hs_http_host_is_allowed(&origins, good[i])) {
            fail_msg("'%s' is refused", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (hs_http_host_is_allowed(&origins, bad[i])) {
            fail_msg("'%s' is taken", bad[i]);
        }
    }
    assert_true(hs_http_host_is_allowed(&any, "evil.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
