/* out_queue.c - slices that wait to be written. */
#include "out_queue.h"

#include <string.h>

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The part of a message with its prefix that `offset` lies in; the rest of it from there. */
struct place {
    const uint8_t *data;
    size_t size;  /* 0: the end */
    size_t index; /* the part behind it */
};

static struct place find_place(const struct hs_grpc_sent *sent, size_t offset)
{
    if (offset < HS_GRPC_PREFIX) {
        return (struct place){sent->prefix + offset, HS_GRPC_PREFIX - offset, 0};
    }
    offset -= HS_GRPC_PREFIX;
    const struct hs_grpc_message *message = &sent->message;
    for (size_t i = 0; i < message->n_parts; i++) {
        const struct hs_grpc_part *part = &message->parts[i];
        if (offset < part->size) {
            return (struct place){(const uint8_t *)part->data + offset, part->size - offset, i + 1};
        }
        offset -= part->size;
    }
    return (struct place){NULL, 0, message->n_parts};
}

static struct place next_place(const struct hs_grpc_sent *sent, size_t index)
{
    const struct hs_grpc_message *message = &sent->message;
    while (index < message->n_parts && message->parts[index].size == 0) {
        index++;
    }
    if (index == message->n_parts) {
        return (struct place){NULL, 0, index};
    }
    return (struct place){message->parts[index].data, message->parts[index].size, index + 1};
}

static void append(struct hs_grpc_out_queue *queue, const void *data, size_t size)
{
    queue->slices[queue->n++] = (struct iovec){(void *)(uintptr_t)data, size};
    queue->n_appended += size;
}

size_t hs_grpc_out_copy(struct hs_grpc_out_queue *queue, const void *data, size_t size)
{
    size_t n = min_size(size, HS_GRPC_OUT_STAGE - queue->n_staged);
    uint8_t *staged = queue->stage + queue->n_staged;
    struct iovec *last = queue->n > queue->first ? &queue->slices[queue->n - 1] : NULL;
    bool is_next = last != NULL && (uint8_t *)last->iov_base + last->iov_len == staged;
    if (n == 0 || (!is_next && queue->n == HS_GRPC_OUT_SLICES)) {
        return 0;
    }
    memcpy(staged, data, n);
    queue->n_staged += n;
    if (is_next) {
        last->iov_len += n;
        queue->n_appended += n;
    } else {
        append(queue, staged, n);
    }
    return n;
}

bool hs_grpc_out_has_room(const struct hs_grpc_out_queue *queue, size_t head_size)
{
    return queue->n_appended - queue->n_written < HS_GRPC_OUT_FULL &&
           HS_GRPC_OUT_SLICES - queue->n > HS_GRPC_OUT_FRAME_SLICES &&
           HS_GRPC_OUT_STAGE - queue->n_staged >= head_size;
}

void hs_grpc_out_append(struct hs_grpc_out_queue *queue, const struct hs_grpc_sent *sent,
                        size_t offset, size_t size)
{
    for (struct place i = find_place(sent, offset); size > 0; i = next_place(sent, i.index)) {
        size_t n = min_size(size, i.size);
        append(queue, i.data, n);
        size -= n;
    }
}

size_t hs_grpc_out_frame_size(const struct hs_grpc_sent *sent, size_t offset, size_t size)
{
    size_t total = 0;
    struct place place = find_place(sent, offset);
    for (int i = 0; i < HS_GRPC_OUT_FRAME_SLICES && place.size > 0 && total < size; i++) {
        total += place.size;
        place = next_place(sent, place.index);
    }
    return min_size(total, size);
}

static void release_written(struct hs_grpc_out_queue *queue)
{
    while (queue->retired != NULL && queue->retired->out_end <= queue->n_written) {
        struct hs_grpc_sent *next = queue->retired->next;
        hs_grpc_sent_free(queue->retired);
        queue->retired = next;
    }
}

void hs_grpc_out_retire(struct hs_grpc_out_queue *queue, struct hs_grpc_sent *sent)
{
    sent->out_end = queue->n_appended;
    sent->next = NULL;
    if (queue->retired == NULL) {
        queue->retired = sent;
    } else {
        queue->last_retired->next = sent;
    }
    queue->last_retired = sent;
    release_written(queue);
}

bool hs_grpc_out_is_empty(const struct hs_grpc_out_queue *queue)
{
    return queue->first == queue->n;
}

size_t hs_grpc_out_peek(const struct hs_grpc_out_queue *queue, uint8_t *out, size_t max)
{
    size_t size = 0;
    for (size_t i = queue->first; i < queue->n && size < max; i++) {
        size_t n = min_size(queue->slices[i].iov_len, max - size);
        memcpy(out + size, queue->slices[i].iov_base, n);
        size += n;
    }
    return size;
}

void hs_grpc_out_advance(struct hs_grpc_out_queue *queue, size_t size)
{
    queue->n_written += size;
    while (size > 0) {
        struct iovec *slice = &queue->slices[queue->first];
        size_t n = min_size(size, slice->iov_len);
        slice->iov_base = (uint8_t *)slice->iov_base + n;
        slice->iov_len -= n;
        size -= n;
        queue->first += slice->iov_len == 0;
    }
    if (queue->first == queue->n) {
        queue->first = queue->n = queue->n_staged = 0;
    }
    release_written(queue);
}

void hs_grpc_out_free(struct hs_grpc_out_queue *queue)
{
    queue->n_written = queue->n_appended;
    release_written(queue);
}
