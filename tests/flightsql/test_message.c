/* What is refused of protobuf's messages. */
#include "message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "flight.pb-c.h"

#define ACTION &fl__action__descriptor /* type = 1: string, body = 2: bytes */

static bool unpacks(const ProtobufCMessageDescriptor *type, const char *bytes, size_t len)
{
    char *copy = hs_alloc(len + (len == 0)); /* its own end, for sanitizers */
    memcpy(copy, bytes, len);
    void *message = hs_flight_unpack(type, copy, len);
    hs_flight_message_free(message);
    hs_free(copy);
    return message != NULL;
}
#define UNPACKS(type, literal) unpacks(type, literal, sizeof literal - 1)

static void test_texts(void **state)
{
    (void)state;
    assert_true(UNPACKS(ACTION, ""));
    assert_true(UNPACKS(ACTION, "\x0A\x00"));
    assert_true(UNPACKS(ACTION, "\x0A\x02\xC3\xA9"));
    assert_false(UNPACKS(ACTION, "\x0A\x01\xC3"));
    assert_false(UNPACKS(ACTION, "\x0A\x01\x00"));
    assert_false(UNPACKS(ACTION, "\x0A\x03"
                                 "a\x00z"));
    assert_true(UNPACKS(ACTION, "\x12\x03\x00\xFF\xC3"));   /* bytes may be anything */
    assert_false(UNPACKS(ACTION, "\x0A\x01z\x0A\x01\xFF")); /* the last one counts, all are read */
    assert_false(UNPACKS(ACTION, "\x0A\x01\xFF\x0A\x01z"));
    assert_false(UNPACKS(ACTION, "\x8A\x00\x01\xFF")); /* the number 1 in two bytes */
}

static void test_unknown_fields(void **state)
{
    (void)state;
    assert_true(UNPACKS(ACTION, "\x18\x96\x01"));                         /* 3: a number */
    assert_true(UNPACKS(ACTION, "\x19\x00\xFF\x00\xFF\x00\xFF\x00\xFF")); /* 8 bytes */
    assert_true(UNPACKS(ACTION, "\x1D\x00\xFF\x00\xFF"));                 /* 4 */
    assert_true(UNPACKS(ACTION, "\x1A\x02\x00\xFF"));                     /* bytes */
    assert_false(UNPACKS(ACTION, "\x1B"));                                /* a group */
    assert_false(UNPACKS(ACTION, "\x1E"));                                /* no such kind */
}

static void test_nested(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *type = &fl__set_session_options_request__descriptor;
    assert_true(UNPACKS(type, "\x0A\x08\x0A\x01k\x12\x03\x0A\x01v"));
    assert_false(UNPACKS(type, "\x0A\x08\x0A\x01\xFF\x12\x03\x0A\x01v"));
    assert_false(UNPACKS(type, "\x0A\x08\x0A\x01k\x12\x03\x0A\x01\x00"));
    assert_false(UNPACKS(type, "\x0A\x08\x0A\x01k\x12\x04\x0A\x01v")); /* beyond its parent */
}

static void test_cut_off(void **state)
{
    (void)state;
    static const char whole[] = "\x0A\x04text\x19\x01\x02\x03\x04\x05\x06\x07\x08\x12\x02xy";
    for (size_t len = 0; len < sizeof whole; len++) {
        bool is_whole = len == 0 || len == 6 || len == 15 || len == 19;
        assert_int_equal(unpacks(ACTION, whole, len), is_whole);
    }
    assert_false(UNPACKS(ACTION, "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"));
    assert_false(UNPACKS(ACTION, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"));
    assert_null(hs_flight_unpack(ACTION, "\x0A", 1));
    void *empty = hs_flight_unpack(ACTION, NULL, 0);
    assert_non_null(empty);
    hs_flight_message_free(empty);
}

static void test_memory_fails(void **state)
{
    (void)state;
    void *message = NULL;
    for (uint64_t n = 1; !message; n++) {
        hs_mem_fail_after(n);
        message = hs_flight_unpack(ACTION, "\x0A\x01z\x12\x02xy", 7);
        hs_mem_fail_after(0);
    }
    hs_flight_message_free(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_nested),       cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_memory_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
