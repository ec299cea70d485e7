/* What a connection writes: copies and slices in order, messages freed when they are written. */
#include "out_queue.h"

#include <stdlib.h>

#include "base/mem.h"
#include "grpc_test.h"

static struct hs_grpc_out_queue *queue;
static int n_released;

static int setup(void **state)
{
    (void)state;
    n_released = 0;
    queue = hs_calloc(1, sizeof *queue);
    return queue == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    hs_grpc_out_free(queue);
    hs_free(queue);
    return 0;
}

static void count_release(void *user)
{
    (void)user;
    n_released++;
}

static struct hs_grpc_sent *make(const struct hs_grpc_part *parts, size_t n)
{
    struct hs_grpc_message message = {parts, n, count_release, NULL};
    return hs_grpc_sent_new(&message, hs_grpc_message_size(&message));
}

static void assert_next(const char *bytes, size_t size)
{
    uint8_t out[100];
    assert_int_equal(hs_grpc_out_peek(queue, out, size), size);
    assert_memory_equal(out, bytes, size);
}

static void test_order(void **state)
{
    (void)state;
    const struct hs_grpc_part parts[] = {{"ab", 2}, {NULL, 0}, {"cde", 3}};
    struct hs_grpc_sent *sent = make(parts, 3);
    assert_int_equal(hs_grpc_out_copy(queue, "1", 1), 1);
    assert_int_equal(hs_grpc_out_copy(queue, "23", 2), 2);
    assert_int_equal(queue->n, 1); /* what is copied in a row is one slice */
    hs_grpc_out_append(queue, sent, 0, 6);
    assert_int_equal(hs_grpc_out_copy(queue, "45", 2), 2);
    hs_grpc_out_append(queue, sent, 6, 4);
    hs_grpc_out_retire(queue, sent);
    assert_next("123\0\0\0\0\5a45bcde", 15);
    for (int i = 0; i < 14; i++) {
        hs_grpc_out_advance(queue, 1);
        assert_int_equal(n_released, 0);
    }
    assert_next("e", 1);
    hs_grpc_out_advance(queue, 1);
    assert_int_equal(n_released, 1);
    assert_true(hs_grpc_out_is_empty(queue));
}

static void test_frames(void **state)
{
    (void)state;
    struct hs_grpc_part parts[300];
    for (size_t i = 0; i < 300; i++) {
        parts[i] = (struct hs_grpc_part){"xyz", i % 2}; /* 150 of one byte */
    }
    struct hs_grpc_sent *sent = make(parts, 300);
    assert_int_equal(sent->size, 155);
    assert_int_equal(hs_grpc_out_frame_size(sent, 0, 4), 4);
    /* the prefix and 127 parts */
    assert_int_equal(hs_grpc_out_frame_size(sent, 0, 1000), 5 + HS_GRPC_OUT_FRAME_SLICES - 1);
    assert_int_equal(hs_grpc_out_frame_size(sent, 5, 1000), HS_GRPC_OUT_FRAME_SLICES);
    assert_int_equal(hs_grpc_out_frame_size(sent, 100, 1000), 55);
    assert_int_equal(hs_grpc_out_frame_size(sent, 154, 1000), 1);
    hs_grpc_sent_free(sent);
}

static void test_room(void **state)
{
    (void)state;
    const struct hs_grpc_part part = {"x", 1};
    struct hs_grpc_sent *sent = make(&part, 1);
    while (hs_grpc_out_has_room(queue, 9)) {
        assert_int_equal(hs_grpc_out_copy(queue, "frame head", 9), 9);
        hs_grpc_out_append(queue, sent, 0, 6);
    }
    assert_true(queue->n + HS_GRPC_OUT_FRAME_SLICES >= HS_GRPC_OUT_SLICES);
    assert_true(queue->n <= HS_GRPC_OUT_SLICES);
    hs_grpc_out_retire(queue, sent);
    hs_grpc_out_advance(queue, queue->n_appended);
    assert_true(hs_grpc_out_has_room(queue, 9));
}

static void test_full_stage(void **state)
{
    (void)state;
    char *bytes = calloc(1, HS_GRPC_OUT_STAGE + 1);
    assert_int_equal(hs_grpc_out_copy(queue, bytes, HS_GRPC_OUT_STAGE + 1), HS_GRPC_OUT_STAGE);
    assert_int_equal(hs_grpc_out_copy(queue, "x", 1), 0);
    assert_false(hs_grpc_out_has_room(queue, 1));
    hs_grpc_out_advance(queue, HS_GRPC_OUT_STAGE);
    assert_int_equal(hs_grpc_out_copy(queue, "x", 1), 1);
    free(bytes);
}

static void test_full(void **state)
{
    (void)state;
    const struct hs_grpc_part part = {NULL, HS_GRPC_OUT_FULL};
    struct hs_grpc_sent *sent = make(&part, 1);
    hs_grpc_out_append(queue, sent, HS_GRPC_PREFIX, HS_GRPC_OUT_FULL - 1);
    assert_true(hs_grpc_out_has_room(queue, 9));
    hs_grpc_out_append(queue, sent, HS_GRPC_PREFIX + HS_GRPC_OUT_FULL - 1, 1);
    assert_false(hs_grpc_out_has_room(queue, 9));
    hs_grpc_out_retire(queue, sent);
    assert_int_equal(n_released, 0);
    hs_grpc_out_free(queue); /* a connection that ends releases what it had */
    assert_int_equal(n_released, 1);
}

/* Retired although nothing of it waits: at once, unless others come before. */
static void test_retire(void **state)
{
    (void)state;
    const struct hs_grpc_part part = {"x", 1};
    hs_grpc_out_retire(queue, make(&part, 1));
    assert_int_equal(n_released, 1);
    hs_grpc_out_copy(queue, "12", 2);
    hs_grpc_out_retire(queue, make(&part, 1));
    hs_grpc_out_retire(queue, make(&part, 1));
    hs_grpc_out_advance(queue, 1);
    assert_int_equal(n_released, 1);
    hs_grpc_out_advance(queue, 1);
    assert_int_equal(n_released, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),      TEST(test_frames), TEST(test_room),
        TEST(test_full_stage), TEST(test_full),   TEST(test_retire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
