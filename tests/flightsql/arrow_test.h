/*
 * arrow_test.h - arrays whose every value follows from its row's number, so that what was cut and
 * joined on its way can be told from what was not.
 */
#ifndef ARROW_TEST_H
#define ARROW_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <nanoarrow/nanoarrow.h>

#include "api/grpc.h"
#include "base/buf.h"

/* Columns of every kind of layout: numbers, bool, texts, lists, structs, maps, null, union. */
void arrow_test_schema(struct ArrowSchema *schema);
/* Rows [first, first + n) */
void arrow_test_array(const struct ArrowSchema *schema, int64_t first, int64_t n,
                      struct ArrowArray *array);
void arrow_test_equal(const struct ArrowSchema *schema, const struct ArrowArray *actual,
                      const struct ArrowArray *expected);

/* The parts of Flight's message, joined and taken apart. */
struct flight_data {
    struct hs_buf whole;
    const uint8_t *header, *body;
    size_t header_len, body_len;
    bool has_body;
};
void flight_data_take(struct hs_grpc_message *message, struct flight_data *ret_data);

#endif
