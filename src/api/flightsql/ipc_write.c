/* ipc_write.c - schemas as messages; arrays collected into batches. */
#include "ipc_write.h"

#include <nanoarrow/nanoarrow_ipc.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "ipc_batch.h"

#define CHUNKS_MAX 64
#define SCHEMA_BYTES_MAX (16 << 20)

/* ---- schemas ---- */

static hs_status from_arrow(ArrowErrorCode code, const struct ArrowError *error, hs_status other,
                            struct hs_error *err)
{
    if (code == ENOMEM) {
        return hs_error_nomem(err, "Arrow data");
    }
    return hs_error_set(err, code == ENOTSUP ? HS_NOT_SUPPORTED : other, "Arrow: %s",
                        error->message);
}

hs_status hs_ipc_schema(const struct ArrowSchema *schema, bool is_encapsulated, struct hs_buf *out,
                        struct hs_error *err)
{
    struct ArrowIpcEncoder encoder;
    struct ArrowError error = {{0}};
    struct ArrowBuffer bytes;
    ArrowErrorCode code = ArrowIpcEncoderInit(&encoder);
    if (code) {
        return hs_error_nomem(err, "a schema");
    }
    ArrowBufferInit(&bytes);
    code = ArrowIpcEncoderEncodeSchema(&encoder, schema, &error);
    code = code ? code : ArrowIpcEncoderFinalizeBuffer(&encoder, is_encapsulated, &bytes);
    hs_status status = code ? from_arrow(code, &error, HS_NOT_SUPPORTED, err) : HS_OK;
    if (!status && (status = hs_buf_append(out, bytes.data, (size_t)bytes.size_bytes)) != HS_OK) {
        hs_error_set(err, status, "no room for a schema of %lld bytes",
                     (long long)bytes.size_bytes);
    }
    ArrowBufferReset(&bytes);
    ArrowIpcEncoderReset(&encoder);
    return status;
}

hs_status hs_ipc_schema_message(const struct ArrowSchema *schema,
                                struct hs_grpc_message *ret_message, struct hs_error *err)
{
    struct hs_buf header HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SCHEMA_BYTES_MAX);
    hs_status status = hs_ipc_schema(schema, false, &header, err);
    if (status) {
        return status;
    }
    struct hs_grpc_part *part = hs_alloc(sizeof *part + 16 + header.len);
    if (!part) {
        return hs_error_nomem(err, "a schema");
    }
    uint8_t *bytes = (uint8_t *)(part + 1);
    size_t at = 0;
    bytes[at++] = HS_IPC_TAG_HEADER;
    at += hs_ipc_varint(bytes + at, header.len);
    memcpy(bytes + at, header.data, header.len);
    *part = (struct hs_grpc_part){bytes, at + header.len};
    *ret_message = (struct hs_grpc_message){part, 1, hs_free, part};
    return HS_OK;
}

/* ---- batches ---- */

/* An array that the writer and messages in flight share. */
struct shared {
    struct ArrowArray array;
    atomic_int n_users;
};

struct chunk {
    struct shared *shared;
    struct ArrowArrayView view;
    int64_t start;     /* rows before have left */
    int64_t row_bytes; /* on average */
};

struct hs_ipc_writer {
    const struct ArrowSchema *schema;
    bool is_indivisible; /* has a type whose arrays cannot be cut nor joined */
    struct chunk chunks[CHUNKS_MAX];
    size_t n_chunks;
    int64_t n_rows, bytes;
};

/* What a message holds. */
struct sent {
    struct hs_ipc_batch batch;
    size_t n_shared;
    struct shared *shared[];
};

static void shared_drop(struct shared *shared)
{
    if (atomic_fetch_sub(&shared->n_users, 1) == 1) {
        shared->array.release(&shared->array);
        hs_free(shared);
    }
}

static bool has_dense_union(const struct ArrowSchema *schema)
{
    bool found = strncmp(schema->format, "+ud:", 4) == 0;
    for (int64_t i = 0; i < schema->n_children && !found; i++) {
        found = has_dense_union(schema->children[i]);
    }
    return found;
}

hs_status hs_ipc_writer_new(const struct ArrowSchema *schema, hs_ipc_writer **ret_writer,
                            struct hs_error *err)
{
    hs_ipc_writer *writer = hs_calloc(1, sizeof *writer);
    if (!writer) {
        return hs_error_nomem(err, "a result");
    }
    writer->schema = schema;
    writer->is_indivisible = has_dense_union(schema);
    *ret_writer = writer;
    return HS_OK;
}

static int64_t view_bytes(const struct ArrowArrayView *view)
{
    int64_t bytes = 0;
    for (int i = 0; i < NANOARROW_MAX_FIXED_BUFFERS; i++) {
        bytes += view->buffer_views[i].size_bytes;
    }
    for (int64_t i = 0; i < view->n_children; i++) {
        bytes += view_bytes(view->children[i]);
    }
    return bytes;
}

static void drop_chunk(struct chunk *chunk)
{
    ArrowArrayViewReset(&chunk->view);
    shared_drop(chunk->shared);
}

hs_status hs_ipc_writer_add(hs_ipc_writer *writer, struct ArrowArray *array, struct hs_error *err)
{
    struct shared *shared = hs_alloc(sizeof *shared);
    if (!shared || array->length == 0 || writer->n_chunks == CHUNKS_MAX) {
        bool is_full = shared && array->length > 0;
        hs_status status = shared ? HS_OK : hs_error_nomem(err, "a result");
        hs_free(shared);
        array->release(array);
        return is_full ? hs_error_set(err, HS_INTERNAL, "too many arrays for one batch") : status;
    }
    shared->array = *array;
    atomic_init(&shared->n_users, 1);
    struct chunk *chunk = &writer->chunks[writer->n_chunks];
    *chunk = (struct chunk){.shared = shared};
    struct ArrowError error = {{0}};
    ArrowErrorCode code = ArrowArrayViewInitFromSchema(&chunk->view, writer->schema, &error);
    code = code ? code : ArrowArrayViewSetArray(&chunk->view, &shared->array, &error);
    if (code) {
        drop_chunk(chunk);
        return from_arrow(code, &error, HS_INTERNAL, err);
    }
    int64_t bytes = view_bytes(&chunk->view);
    chunk->row_bytes = bytes / shared->array.length + 1;
    writer->n_chunks++;
    writer->n_rows += shared->array.length;
    writer->bytes += bytes;
    return HS_OK;
}

bool hs_ipc_writer_is_full(const hs_ipc_writer *writer)
{
    return writer->n_chunks == CHUNKS_MAX || writer->bytes >= HS_IPC_BODY_FULL ||
           (writer->n_rows > 0 && writer->is_indivisible);
}

int64_t hs_ipc_writer_n_rows(const hs_ipc_writer *writer)
{
    return writer->n_rows;
}

static int64_t rows_left(const struct chunk *chunk)
{
    return chunk->shared->array.length - chunk->start;
}

/* The pieces that a batch of about HS_IPC_BODY_MAX bytes has room for; one at least. */
static size_t choose(const hs_ipc_writer *writer, struct hs_ipc_piece *pieces)
{
    int64_t room = HS_IPC_BODY_MAX;
    size_t n = 0;
    for (; n < writer->n_chunks && (n == 0 || !writer->is_indivisible); n++) {
        const struct chunk *chunk = &writer->chunks[n];
        int64_t fits = room / chunk->row_bytes, rows = rows_left(chunk);
        if (n == 0 && fits == 0) {
            fits = 1;
        }
        bool is_cut = rows > fits && !writer->is_indivisible;
        if (is_cut && n > 0) {
            break;
        }
        pieces[n] = (struct hs_ipc_piece){&chunk->view, chunk->start, is_cut ? fits : rows};
        room -= pieces[n].n * chunk->row_bytes;
        if (is_cut) {
            return n + 1;
        }
    }
    return n;
}

static void advance(hs_ipc_writer *writer, const struct hs_ipc_piece *pieces, size_t n_pieces)
{
    size_t n_done = 0;
    for (size_t k = 0; k < n_pieces; k++) {
        struct chunk *chunk = &writer->chunks[k];
        chunk->start += pieces[k].n;
        writer->n_rows -= pieces[k].n;
        if (rows_left(chunk) == 0) {
            drop_chunk(chunk);
            n_done++;
        }
    }
    writer->n_chunks -= n_done;
    memmove(writer->chunks, writer->chunks + n_done, writer->n_chunks * sizeof *writer->chunks);
    writer->bytes = writer->n_rows == 0 ? 0 : writer->bytes;
}

static void release_sent(void *user)
{
    struct sent *sent = user;
    for (size_t k = 0; k < sent->n_shared; k++) {
        shared_drop(sent->shared[k]);
    }
    hs_ipc_batch_free(&sent->batch);
    hs_free(sent);
}

hs_status hs_ipc_writer_take(hs_ipc_writer *writer, struct hs_grpc_message *ret_message,
                             struct hs_error *err)
{
    struct hs_ipc_piece pieces[CHUNKS_MAX];
    size_t n_pieces = choose(writer, pieces);
    struct sent *sent = hs_calloc(1, sizeof *sent + n_pieces * sizeof *sent->shared);
    if (!sent) {
        return hs_error_nomem(err, "a record batch");
    }
    hs_status status = hs_ipc_batch_fill(&sent->batch, pieces, n_pieces, err);
    /* rows differ in size: the average may have promised too much */
    while (!status && sent->batch.body_bytes > HS_IPC_BODY_MAX && !writer->is_indivisible &&
           (n_pieces > 1 || pieces[0].n > 1)) {
        if (n_pieces > 1) {
            n_pieces /= 2;
        } else {
            pieces[0].n /= 2;
        }
        hs_ipc_batch_free(&sent->batch);
        status = hs_ipc_batch_fill(&sent->batch, pieces, n_pieces, err);
    }
    int64_t n_rows = 0;
    for (size_t k = 0; k < n_pieces; k++) {
        n_rows += pieces[k].n;
    }
    status = status ? status : hs_ipc_batch_finish(&sent->batch, n_rows, err);
    if (status) {
        release_sent(sent);
        return status;
    }
    for (size_t k = 0; k < n_pieces; k++) {
        sent->shared[k] = writer->chunks[k].shared;
        atomic_fetch_add(&sent->shared[k]->n_users, 1);
    }
    sent->n_shared = n_pieces;
    *ret_message =
        (struct hs_grpc_message){sent->batch.parts, sent->batch.n_parts, release_sent, sent};
    advance(writer, pieces, n_pieces);
    return HS_OK;
}

void hs_ipc_writer_free(hs_ipc_writer *writer)
{
    if (!writer) {
        return;
    }
    for (size_t k = 0; k < writer->n_chunks; k++) {
        drop_chunk(&writer->chunks[k]);
    }
    hs_free(writer);
}
