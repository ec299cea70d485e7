/*
 * ipc_batch.h - one record batch out of pieces of several arrays of one schema: the body as parts
 * that point into the arrays, and the header that describes it. For ipc_write.c.
 */
#ifndef FLIGHTSQL_IPC_BATCH_H
#define FLIGHTSQL_IPC_BATCH_H

#include <nanoarrow/nanoarrow.h>

#include "api/grpc.h"
#include "base/buf.h"

/* Rows [start, start + n) of an array, counted without its own offset. */
struct hs_ipc_piece {
    const struct ArrowArrayView *view;
    int64_t start, n;
};

struct hs_ipc_copy; /* bytes that had to be made */

struct hs_ipc_batch {
    struct hs_grpc_part *parts; /* part 0 is left for the header */
    size_t n_parts, cap_parts;
    struct hs_buf nodes;   /* {int64 length, null_count}, as in the header */
    struct hs_buf buffers; /* {int64 offset, length} */
    int64_t body_bytes;
    struct hs_ipc_copy *copies;
};

/* On an error the batch is to be freed, too. */
HS_CHECKED hs_status hs_ipc_batch_fill(struct hs_ipc_batch *batch,
                                       const struct hs_ipc_piece *pieces, size_t n_pieces,
                                       struct hs_error *err);
/* Put Flight's fields around it: part 0. */
HS_CHECKED hs_status hs_ipc_batch_finish(struct hs_ipc_batch *batch, int64_t n_rows,
                                         struct hs_error *err);
void hs_ipc_batch_free(struct hs_ipc_batch *batch);

/* ---- shared with schema messages ---- */

#define HS_IPC_TAG_HEADER 0x12 /* FlightData.data_header */
/* A number in protobuf's variable length; returns its bytes, 10 at most. */
size_t hs_ipc_varint(uint8_t *out, uint64_t value);

#endif
