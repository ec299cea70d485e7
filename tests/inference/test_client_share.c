/* Tests of client_share.c: how many places a client gets. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "client_share.h"

static void n_and_not_n_plus_one(void **state)
{
    (void)state;
    struct hs_client_share share = {.max = 3};
    struct hs_client_place places[8];
    struct hs_error err;
    static const char *const clients[] = {"a", "b", "a", "a", "a", "b", NULL, ""};
    for (int i = 0; i < 8; i++) {
        hs_client_place_init(&places[i], clients[i]);
        hs_status want = i == 4 ? HS_QUEUE_FULL : HS_OK;
        assert_int_equal(hs_client_share_enter(&share, &places[i], &err), want);
    }
    assert_non_null(strstr(err.message, "'a' has 3"));
    assert_true(err.hint[0] != '\0');
    hs_client_share_leave(&share, &places[2]); /* from the middle, the end, the beginning */
    assert_int_equal(hs_client_share_enter(&share, &places[4], &err), HS_OK);
    hs_client_share_leave(&share, &places[0]);
    hs_client_share_leave(&share, &places[4]);
    assert_int_equal(hs_client_share_enter(&share, &places[0], &err), HS_OK);
    assert_int_equal(hs_client_share_enter(&share, &places[4], &err), HS_OK);
    assert_int_equal(hs_client_share_enter(&share, &places[2], &err), HS_QUEUE_FULL);
}

static void nobody_is_everybody(void **state)
{
    (void)state;
    struct hs_client_share share = {.max = 1};
    struct hs_client_place places[3];
    for (int i = 0; i < 3; i++) {
        hs_client_place_init(&places[i], i == 1 ? NULL : "");
        assert_int_equal(hs_client_share_enter(&share, &places[i], NULL), HS_OK);
    }
    for (int i = 0; i < 3; i++) {
        hs_client_share_leave(&share, &places[i]);
    }
    assert_null(share.first);
}

static void long_names_are_cut_between_characters(void **state)
{
    (void)state;
    struct hs_client_place place;
    char name[HS_TAG_MAX + 8];
    memset(name, 'x', sizeof name);
    memcpy(name + HS_TAG_MAX - 2, "\xC3\xA9", 3); /* its second byte would be the last's place */
    hs_client_place_init(&place, name);
    assert_int_equal(strlen(place.client), HS_TAG_MAX - 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(n_and_not_n_plus_one),
        cmocka_unit_test(nobody_is_everybody),
        cmocka_unit_test(long_names_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
