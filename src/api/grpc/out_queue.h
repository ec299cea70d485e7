/*
 * out_queue.h - what a connection has to write: frame heads, which are copied, and slices of
 * messages, which are borrowed until they are written.
 *
 * A message may be done for its call, or its call be gone, while slices of it wait here: it is
 * retired, and freed once everything that was appended before is written.
 *
 * Threads: of the transport thread.
 */
#ifndef GRPC_OUT_QUEUE_H
#define GRPC_OUT_QUEUE_H

#include <sys/uio.h>

#include "message.h"

#define HS_GRPC_OUT_SLICES 512
/* Slices of messages in one frame. */
#define HS_GRPC_OUT_FRAME_SLICES 128
#define HS_GRPC_OUT_STAGE (16u << 10)
/* No frame begins while so much waits. */
#define HS_GRPC_OUT_FULL (1u << 20)

struct hs_grpc_out_queue {
    struct iovec slices[HS_GRPC_OUT_SLICES];
    size_t first, n;
    uint8_t stage[HS_GRPC_OUT_STAGE]; /* copied bytes */
    size_t n_staged;
    uint64_t n_appended, n_written; /* bytes, ever */
    struct hs_grpc_sent *retired, *last_retired;
};

/* Copy bytes; how many had room. */
size_t hs_grpc_out_copy(struct hs_grpc_out_queue *queue, const void *data, size_t size);
/* Whether a frame with so many bytes of head, and slices of a message, has room. */
bool hs_grpc_out_has_room(const struct hs_grpc_out_queue *queue, size_t head_size);
/* Append [offset, offset + size) of a message with its prefix; there is room. */
void hs_grpc_out_append(struct hs_grpc_out_queue *queue, const struct hs_grpc_sent *sent,
                        size_t offset, size_t size);
/* The most bytes from `offset` on that fit in the slices of one frame, `size` at most. */
size_t hs_grpc_out_frame_size(const struct hs_grpc_sent *sent, size_t offset, size_t size);
/* The queue owns the message from here on. */
void hs_grpc_out_retire(struct hs_grpc_out_queue *queue, struct hs_grpc_sent *sent);
bool hs_grpc_out_is_empty(const struct hs_grpc_out_queue *queue);
/* Copy what comes next, without taking it. */
size_t hs_grpc_out_peek(const struct hs_grpc_out_queue *queue, uint8_t *out, size_t max);
/* `size` bytes are written. */
void hs_grpc_out_advance(struct hs_grpc_out_queue *queue, size_t size);
void hs_grpc_out_free(struct hs_grpc_out_queue *queue);

#endif
