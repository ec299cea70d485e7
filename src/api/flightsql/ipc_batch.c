/* ipc_batch.c - the record batch's body and its flatbuffer. */
#include "ipc_batch.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define DEPTH_MAX 64
#define HEADER_FIXED 72 /* of the flatbuffer, before the nodes */

struct hs_ipc_copy {
    struct hs_ipc_copy *next;
    uint8_t bytes[];
};

/* ---- parts ---- */

static hs_status add_part(struct hs_ipc_batch *batch, const void *data, int64_t size,
                          struct hs_error *err)
{
    if (size == 0) {
        return HS_OK;
    }
    if (batch->n_parts == batch->cap_parts) {
        size_t cap = batch->cap_parts ? batch->cap_parts * 2 : 32;
        struct hs_grpc_part *parts = hs_realloc_array(batch->parts, cap, sizeof *parts);
        if (!parts) {
            return hs_error_nomem(err, "a record batch");
        }
        batch->parts = parts;
        batch->cap_parts = cap;
    }
    batch->parts[batch->n_parts++] = (struct hs_grpc_part){data, (size_t)size};
    batch->body_bytes += size;
    return HS_OK;
}

/* Zeroed bytes that live as long as the batch. */
static uint8_t *copy_new(struct hs_ipc_batch *batch, int64_t size)
{
    struct hs_ipc_copy *copy = hs_calloc(1, sizeof *copy + (size_t)size);
    if (!copy) {
        return NULL;
    }
    copy->next = batch->copies;
    batch->copies = copy;
    return copy->bytes;
}

/* Describe what was added since `offset`, and pad it. */
static hs_status end_buffer(struct hs_ipc_batch *batch, int64_t offset, struct hs_error *err)
{
    static const uint8_t zeros[8];
    const int64_t entry[2] = {offset, batch->body_bytes - offset};
    hs_status status = hs_buf_append(&batch->buffers, entry, sizeof entry);
    if (status) {
        return hs_error_nomem(err, "a record batch");
    }
    return add_part(batch, zeros, -batch->body_bytes & 7, err);
}

static hs_status put_copy(struct hs_ipc_batch *batch, const uint8_t *bytes, int64_t size,
                          struct hs_error *err)
{
    int64_t offset = batch->body_bytes;
    hs_status status = add_part(batch, bytes, size, err);
    return status ? status : end_buffer(batch, offset, err);
}

/* ---- buffers ---- */

/* Position of a piece in the buffers of its array. */
static int64_t first_of(const struct hs_ipc_piece *piece)
{
    return piece->view->offset + piece->start;
}

static const uint8_t *bits_of(const struct hs_ipc_piece *piece, int i)
{
    const struct ArrowBufferView *buffer = &piece->view->buffer_views[i];
    return buffer->size_bytes > 0 ? buffer->data.as_uint8 : NULL;
}

/* A bitmap; a piece without one has all bits set. */
static hs_status put_bits(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                          size_t n_pieces, int i, int64_t n_rows, struct hs_error *err)
{
    bool is_aligned = true;
    for (size_t k = 0; k < n_pieces; k++) {
        is_aligned = is_aligned && bits_of(&pieces[k], i) && first_of(&pieces[k]) % 8 == 0 &&
                     (k + 1 == n_pieces || pieces[k].n % 8 == 0);
    }
    if (!is_aligned) {
        uint8_t *bits = copy_new(batch, (n_rows + 7) / 8);
        if (!bits) {
            return hs_error_nomem(err, "a record batch");
        }
        int64_t at = 0;
        for (size_t k = 0; k < n_pieces; k++) {
            const uint8_t *from = bits_of(&pieces[k], i);
            for (int64_t j = 0; j < pieces[k].n; j++, at++) {
                ArrowBitSetTo(bits, at, !from || ArrowBitGet(from, first_of(&pieces[k]) + j));
            }
        }
        return put_copy(batch, bits, (n_rows + 7) / 8, err);
    }
    int64_t offset = batch->body_bytes;
    hs_status status = HS_OK;
    for (size_t k = 0; k < n_pieces && !status; k++) {
        status = add_part(batch, bits_of(&pieces[k], i) + first_of(&pieces[k]) / 8,
                          (pieces[k].n + 7) / 8, err);
    }
    return status ? status : end_buffer(batch, offset, err);
}

static hs_status put_fixed(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                           size_t n_pieces, int i, struct hs_error *err)
{
    int64_t offset = batch->body_bytes;
    hs_status status = HS_OK;
    for (size_t k = 0; k < n_pieces && !status; k++) {
        int64_t width = pieces[k].view->layout.element_size_bits[i] / 8;
        status = add_part(
            batch, pieces[k].view->buffer_views[i].data.as_uint8 + first_of(&pieces[k]) * width,
            pieces[k].n * width, err);
    }
    return status ? status : end_buffer(batch, offset, err);
}

static int64_t offset_at(const struct hs_ipc_piece *piece, int i, int64_t row)
{
    const struct ArrowBufferView *buffer = &piece->view->buffer_views[i];
    if (buffer->size_bytes == 0) {
        return 0; /* an array without rows may have no offsets */
    }
    row += first_of(piece);
    return piece->view->layout.element_size_bits[i] == 64 ? buffer->data.as_int64[row]
                                                          : buffer->data.as_int32[row];
}

/* The offsets behind a piece's first one, each plus `delta`; those of 32 bits wrap around where the
 * caller refuses them. */
static void shift_offsets(const struct hs_ipc_piece *piece, int i, int64_t delta, void *out)
{
    const struct ArrowBufferView *buffer = &piece->view->buffer_views[i];
    int64_t n = piece->n;
    if (buffer->size_bytes == 0) {
        return; /* an array without rows */
    }
    if (piece->view->layout.element_size_bits[i] == 64) {
        const int64_t *from = buffer->data.as_int64 + first_of(piece) + 1;
        int64_t *to = out;
        for (int64_t j = 0; j < n; j++) {
            to[j] = from[j] + delta;
        }
    } else {
        const int32_t *from = buffer->data.as_int32 + first_of(piece) + 1;
        int32_t *to = out;
        for (int64_t j = 0; j < n; j++) {
            to[j] = (int32_t)((uint32_t)from[j] + (uint32_t)delta);
        }
    }
}

static hs_status put_offsets(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                             size_t n_pieces, int i, int64_t n_rows, struct hs_error *err)
{
    int64_t width = pieces[0].view->layout.element_size_bits[i] / 8;
    if (n_pieces == 1 && n_rows > 0 && offset_at(pieces, i, 0) == 0) {
        return put_copy(batch,
                        pieces[0].view->buffer_views[i].data.as_uint8 + first_of(pieces) * width,
                        (n_rows + 1) * width, err);
    }
    uint8_t *bytes = copy_new(batch, (n_rows + 1) * width);
    if (!bytes) {
        return hs_error_nomem(err, "a record batch");
    }
    int64_t base = 0, at = 0;
    for (size_t k = 0; k < n_pieces; k++) {
        int64_t first = offset_at(&pieces[k], i, 0);
        shift_offsets(&pieces[k], i, base - first, bytes + (at + 1) * width);
        at += pieces[k].n;
        base += offset_at(&pieces[k], i, pieces[k].n) - first;
    }
    if (width == 4 && base > INT32_MAX) {
        return hs_error_set(err, HS_LIMIT, "a column's texts are too long for one batch");
    }
    return put_copy(batch, bytes, (n_rows + 1) * width, err);
}

/* Texts and bytes, found by the offsets in the buffer before. */
static hs_status put_bytes(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                           size_t n_pieces, int i, struct hs_error *err)
{
    int64_t offset = batch->body_bytes;
    hs_status status = HS_OK;
    for (size_t k = 0; k < n_pieces && !status; k++) {
        int64_t first = offset_at(&pieces[k], i - 1, 0);
        int64_t size = offset_at(&pieces[k], i - 1, pieces[k].n) - first;
        const uint8_t *data = pieces[k].view->buffer_views[i].data.as_uint8;
        status = size > 0 ? add_part(batch, data + first, size, err) : HS_OK;
    }
    return status ? status : end_buffer(batch, offset, err);
}

/* ---- nodes ---- */

static int64_t nulls_of(const struct hs_ipc_piece *piece)
{
    const struct ArrowArrayView *view = piece->view;
    if (view->storage_type == NANOARROW_TYPE_NA) {
        return piece->n;
    }
    if (view->layout.buffer_type[0] != NANOARROW_BUFFER_TYPE_VALIDITY || !bits_of(piece, 0) ||
        view->null_count == 0) {
        return 0;
    }
    return piece->n - ArrowBitCountSet(bits_of(piece, 0), first_of(piece), piece->n);
}

static hs_status put_buffer(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                            size_t n_pieces, int i, const int64_t node[2], struct hs_error *err)
{
    const struct ArrowLayout *layout = &pieces[0].view->layout;
    switch (layout->buffer_type[i]) {
    case NANOARROW_BUFFER_TYPE_VALIDITY:
        return node[1] == 0 ? end_buffer(batch, batch->body_bytes, err)
                            : put_bits(batch, pieces, n_pieces, i, node[0], err);
    case NANOARROW_BUFFER_TYPE_DATA_OFFSET:
        return put_offsets(batch, pieces, n_pieces, i, node[0], err);
    case NANOARROW_BUFFER_TYPE_DATA:
        if (layout->buffer_type[1] == NANOARROW_BUFFER_TYPE_DATA_OFFSET) {
            return put_bytes(batch, pieces, n_pieces, i, err);
        }
        return layout->element_size_bits[i] == 1
                   ? put_bits(batch, pieces, n_pieces, i, node[0], err)
                   : put_fixed(batch, pieces, n_pieces, i, err);
    case NANOARROW_BUFFER_TYPE_TYPE_ID:
    case NANOARROW_BUFFER_TYPE_UNION_OFFSET:
        return put_fixed(batch, pieces, n_pieces, i, err);
    default:
        return hs_error_set(err, HS_NOT_SUPPORTED, "an Arrow type with views cannot be sent");
    }
}

/* The piece of child `c` that belongs to a piece of its parent. */
static struct hs_ipc_piece child_piece(const struct hs_ipc_piece *piece, int64_t c)
{
    const struct ArrowArrayView *view = piece->view, *child = view->children[c];
    int64_t first = first_of(piece), n = piece->n;
    switch (view->storage_type) {
    case NANOARROW_TYPE_LIST:
    case NANOARROW_TYPE_LARGE_LIST:
    case NANOARROW_TYPE_MAP:
        first = offset_at(piece, 1, 0);
        n = offset_at(piece, 1, piece->n) - first;
        break;
    case NANOARROW_TYPE_FIXED_SIZE_LIST:
        first *= view->layout.child_size_elements;
        n *= view->layout.child_size_elements;
        break;
    case NANOARROW_TYPE_DENSE_UNION: /* the only piece, as ipc_write.c sees to */
        first = 0;
        n = child->length;
        break;
    default: /* structs and sparse unions have a row for a row */
        break;
    }
    return (struct hs_ipc_piece){child, first, n};
}

static hs_status put_array(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                           size_t n_pieces, int depth, struct hs_error *err)
{
    const struct ArrowArrayView *view = pieces[0].view;
    if (view->storage_type == NANOARROW_TYPE_STRING_VIEW ||
        view->storage_type == NANOARROW_TYPE_BINARY_VIEW) {
        return hs_error_set(err, HS_NOT_SUPPORTED, "an Arrow type with views cannot be sent");
    }
    if (depth > DEPTH_MAX || view->dictionary) {
        return hs_error_set(err, HS_NOT_SUPPORTED, "%s cannot be sent",
                            depth > DEPTH_MAX ? "a type nested so deeply" : "a dictionary");
    }
    int64_t node[2] = {0, 0};
    for (size_t k = 0; k < n_pieces; k++) {
        node[0] += pieces[k].n;
        node[1] += nulls_of(&pieces[k]);
    }
    hs_status status = HS_OK;
    if (depth > 0) { /* the rows themselves are no column */
        status = hs_buf_append(&batch->nodes, node, sizeof node)
                     ? hs_error_nomem(err, "a record batch")
                     : HS_OK;
        for (int i = 0; i < NANOARROW_MAX_FIXED_BUFFERS && !status; i++) {
            if (view->layout.buffer_type[i] != NANOARROW_BUFFER_TYPE_NONE) {
                status = put_buffer(batch, pieces, n_pieces, i, node, err);
            }
        }
    }
    struct hs_ipc_piece *below HS_CLEANUP(hs_freep) = hs_calloc(n_pieces, sizeof *below);
    if (!below) {
        return hs_error_nomem(err, "a record batch");
    }
    for (int64_t c = 0; c < view->n_children && !status; c++) {
        for (size_t k = 0; k < n_pieces; k++) {
            below[k] = child_piece(&pieces[k], c);
        }
        status = put_array(batch, below, n_pieces, depth + 1, err);
    }
    return status;
}

hs_status hs_ipc_batch_fill(struct hs_ipc_batch *batch, const struct hs_ipc_piece *pieces,
                            size_t n_pieces, struct hs_error *err)
{
    *batch =
        (struct hs_ipc_batch){.nodes = HS_BUF_INIT(16 << 20), .buffers = HS_BUF_INIT(48 << 20)};
    hs_status status = add_part(batch, "", 1, err);
    batch->body_bytes = 0;
    return status ? status : put_array(batch, pieces, n_pieces, 0, err);
}

/* ---- the header ---- */

size_t hs_ipc_varint(uint8_t *out, uint64_t value)
{
    size_t n = 0;
    for (; value > 127; value >>= 7) {
        out[n++] = (uint8_t)(value | 128);
    }
    out[n++] = (uint8_t)value;
    return n;
}

static void put16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, int64_t value)
{
    memcpy(at, &value, sizeof value);
}

static uint32_t header_size(const struct hs_ipc_batch *batch)
{
    return (uint32_t)(HEADER_FIXED + batch->nodes.len + 8 + batch->buffers.len);
}

/*
 * The flatbuffer Message{version V5, header RecordBatch{length, nodes, buffers}, bodyLength}:
 *
 *    0 root: 16         4 vtable of Message: 12 bytes, table of 20, fields at 16, 18, 4, 8
 *   16 Message: vtable 12 back, header at 48, bodyLength, version 4 (V5), type 3 (RecordBatch)
 *   36 vtable of RecordBatch: 10 bytes, table of 20, fields at 8, 4, 16
 *   48 RecordBatch: vtable 12 back, nodes at 68, length, buffers behind the nodes
 *   68 number of nodes, nodes; 4 bytes of padding, number of buffers, buffers
 */
static void write_header(const struct hs_ipc_batch *batch, int64_t n_rows, uint8_t *out)
{
    static const uint16_t message[] = {12, 20, 16, 18, 4, 8}, record[] = {10, 20, 8, 4, 16};
    uint32_t buffers = (uint32_t)(HEADER_FIXED + batch->nodes.len + 4);
    memset(out, 0, header_size(batch));
    put32(out, 16);
    for (size_t i = 0; i < sizeof message / sizeof *message; i++) {
        put16(out + 4 + 2 * i, message[i]);
    }
    put32(out + 16, 12);
    put32(out + 20, 48 - 20);
    put64(out + 24, batch->body_bytes);
    put16(out + 32, 4);
    out[34] = 3;
    for (size_t i = 0; i < sizeof record / sizeof *record; i++) {
        put16(out + 36 + 2 * i, record[i]);
    }
    put32(out + 48, 12);
    put32(out + 52, 68 - 52);
    put64(out + 56, n_rows);
    put32(out + 64, buffers - 64);
    put32(out + 68, (uint32_t)(batch->nodes.len / 16));
    if (batch->nodes.len > 0) {
        memcpy(out + HEADER_FIXED, batch->nodes.data, batch->nodes.len);
    }
    put32(out + buffers, (uint32_t)(batch->buffers.len / 16));
    if (batch->buffers.len > 0) {
        memcpy(out + buffers + 4, batch->buffers.data, batch->buffers.len);
    }
}

hs_status hs_ipc_batch_finish(struct hs_ipc_batch *batch, int64_t n_rows, struct hs_error *err)
{
    uint32_t size = header_size(batch);
    uint8_t *out = copy_new(batch, (int64_t)size + 32);
    if (!out) {
        return hs_error_nomem(err, "a record batch");
    }
    size_t at = 0;
    out[at++] = HS_IPC_TAG_HEADER;
    at += hs_ipc_varint(out + at, size);
    write_header(batch, n_rows, out + at);
    at += size;
    at += hs_ipc_varint(out + at, 1000 << 3 | 2); /* FlightData.data_body; empty ones, too */
    at += hs_ipc_varint(out + at, (uint64_t)batch->body_bytes);
    batch->parts[0] = (struct hs_grpc_part){out, at};
    return HS_OK;
}

void hs_ipc_batch_free(struct hs_ipc_batch *batch)
{
    while (batch->copies) {
        struct hs_ipc_copy *copy = batch->copies;
        batch->copies = copy->next;
        hs_free(copy);
    }
    hs_free(batch->parts);
    hs_buf_free(&batch->nodes);
    hs_buf_free(&batch->buffers);
    *batch = (struct hs_ipc_batch){0};
}
