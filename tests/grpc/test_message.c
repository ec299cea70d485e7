/* Messages in any cut of their bytes, at their limits, and without memory. */
#include "message.h"

#include "base/mem.h"
#include "grpc_test.h"

static struct hs_grpc_budget budget;

static struct hs_grpc_parser parser_of(size_t message_max)
{
    budget = (struct hs_grpc_budget){.max = 1 << 20};
    return (struct hs_grpc_parser){.budget = &budget, .message_max = message_max};
}

/* Feed text[size] in pieces of `step` bytes and join what comes out, each with a '|' behind. */
static void feed_all(const char *text, size_t size, size_t step, char *out)
{
    struct hs_grpc_parser parser = parser_of(100);
    out[0] = '\0';
    for (size_t at = 0; at < size;) {
        size_t n = size - at < step ? size - at : step, used = 0;
        struct hs_grpc_received *message = NULL;
        enum hs_grpc_parsed parsed =
            hs_grpc_parser_feed(&parser, (const uint8_t *)text + at, n, &used, &message);
        assert_true(used > 0 && used <= n);
        if (parsed == HS_GRPC_PARSED_MESSAGE) {
            strncat(out, (const char *)message->data, message->size);
            strcat(out, "|");
            hs_grpc_received_free(&budget, message);
            assert_true(hs_grpc_parser_is_between(&parser));
        } else {
            assert_int_equal(parsed, HS_GRPC_PARSED_PART);
            assert_int_equal(used, n);
            assert_false(hs_grpc_parser_is_between(&parser));
        }
        at += used;
    }
    hs_grpc_parser_free(&parser);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void test_any_cut(void **state)
{
    (void)state;
    static const char text[] = "\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\1d\0\0\0\0\12efghijklmn";
    char out[64];
    for (size_t step = 1; step <= sizeof text - 1; step++) {
        feed_all(text, sizeof text - 1, step, out);
        assert_string_equal(out, "abc||d|efghijklmn|");
    }
    feed_all(text, 10, 3, out); /* the end in the middle of a prefix */
    assert_string_equal(out, "abc|");
}

static enum hs_grpc_parsed feed(struct hs_grpc_parser *parser, const char *text, size_t size)
{
    size_t used;
    struct hs_grpc_received *message = NULL;
    enum hs_grpc_parsed parsed =
        hs_grpc_parser_feed(parser, (const uint8_t *)text, size, &used, &message);
    hs_grpc_received_free(parser->budget, message);
    hs_grpc_parser_free(parser);
    return parsed;
}

static void test_refusals(void **state)
{
    (void)state;
    struct hs_grpc_parser parser = parser_of(5);
    assert_int_equal(feed(&parser, "\0\0\0\0\5abcde", 10), HS_GRPC_PARSED_MESSAGE);
    parser = parser_of(5);
    assert_int_equal(feed(&parser, "\0\0\0\0\6", 5), HS_GRPC_PARSED_TOO_LARGE);
    parser = parser_of(5);
    assert_int_equal(feed(&parser, "\0\1\0\0\0", 5), HS_GRPC_PARSED_TOO_LARGE);
    parser = parser_of(5);
    assert_int_equal(feed(&parser, "\1\0\0\0\0", 5), HS_GRPC_PARSED_COMPRESSED);
    parser = parser_of(5);
    assert_int_equal(feed(&parser, "\2\0\0\0\0", 5), HS_GRPC_PARSED_MALFORMED);
    parser = parser_of(5);
    assert_int_equal(feed(&parser, "\377\0\0\0\0", 5), HS_GRPC_PARSED_MALFORMED);
}

/* The prefix announces a MiB; what is paid for follows the bytes that came. */
static void test_budget(void **state)
{
    (void)state;
    struct hs_grpc_parser parser = parser_of(1 << 30);
    size_t used;
    struct hs_grpc_received *message = NULL;
    const uint8_t prefix[] = {0, 0, 0x10, 0, 0}, bytes[8192] = {0};
    assert_int_equal(hs_grpc_parser_feed(&parser, prefix, 5, &used, &message), HS_GRPC_PARSED_PART);
    assert_true(atomic_load(&budget.used) < 8192);
    size_t fed = 0;
    enum hs_grpc_parsed parsed = HS_GRPC_PARSED_PART;
    while (parsed == HS_GRPC_PARSED_PART && fed < 1 << 20) {
        parsed = hs_grpc_parser_feed(&parser, bytes, sizeof bytes, &used, &message);
        fed += used;
        assert_true(atomic_load(&budget.used) <= budget.max);
        assert_true(atomic_load(&budget.used) <= 2 * fed + 8192);
    }
    assert_int_equal(parsed, HS_GRPC_PARSED_NO_ROOM); /* the message and its head are more */
    hs_grpc_parser_free(&parser);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct hs_grpc_parser parser = parser_of(100);
    hs_mem_fail_after(1);
    assert_int_equal(feed(&parser, "\0\0\0\0\3abc", 8), HS_GRPC_PARSED_NO_MEMORY);
    const struct hs_grpc_message message = {.n_parts = 0};
    hs_mem_fail_after(1);
    assert_null(hs_grpc_sent_new(&message, 0));
    hs_mem_fail_after(0);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void count_release(void *user)
{
    ++*(int *)user;
}

static void test_sent(void **state)
{
    (void)state;
    int n_released = 0;
    struct hs_grpc_part parts[] = {{"ab", 2}, {NULL, 0}, {"c", 0x010203}};
    struct hs_grpc_message message = {parts, 3, count_release, &n_released};
    assert_int_equal(hs_grpc_message_size(&message), 0x010205);
    struct hs_grpc_sent *sent = hs_grpc_sent_new(&message, 0x010205);
    assert_memory_equal(sent->prefix, "\0\0\1\2\5", 5);
    assert_int_equal(sent->size, 0x010205 + 5);
    hs_grpc_sent_free(sent);
    assert_int_equal(n_released, 1);
    parts[1].size = SIZE_MAX - 2; /* overflows with the third */
    assert_int_equal(hs_grpc_message_size(&message), SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_budget),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
