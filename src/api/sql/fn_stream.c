/* generate_stream: one row for each piece of an answer, as it comes. */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_call.h"
#include "fn_table.h"

#define RETRY_NS 20000000 /* until the engine's full queue is asked again */

struct state {
    hs_stream *stream; /* NULL: the answer is over */
    struct hs_sql_work work;
    int64_t n_rows;
};

static void cancel(void *stream)
{
    hs_stream_cancel(stream);
}

static void end(struct hs_fn_scan *scan)
{
    struct state *state = scan->state;
    if (state != NULL && state->stream != NULL) {
        hs_sql_work_end(scan->batch.conn, &state->work);
        hs_stream_free(state->stream);
    }
    hs_free(state);
    scan->state = NULL;
}

static hs_status interrupted(struct hs_error *err)
{
    return hs_error_set(err, HS_CANCELLED, "the statement was interrupted");
}

static struct hs_fn_entry *make_question(const struct hs_fn_scan *scan, struct hs_error *err)
{
    struct hs_buf input HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    if (hs_fn_add_message(&input, "user", scan->prompt, err) != HS_OK) {
        return NULL;
    }
    struct hs_fn_entry *entry = hs_calloc(1, sizeof *entry + input.len);
    if (entry == NULL) {
        hs_error_nomem(err, "a prompt");
        return NULL;
    }
    entry->target = scan->target;
    entry->input_len = input.len;
    memcpy(entry->input, input.data, input.len);
    return entry;
}

static hs_status begin(struct hs_fn_scan *scan, struct state *state, struct hs_error *err)
{
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    hs_stream *stream = NULL;
    if (scan->target->session != NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "an answer in pieces cannot be a session's");
    }
    struct hs_fn_entry *entry = make_question(scan, err);
    if (entry == NULL) {
        return err->status;
    }
    hs_status status;
    while ((status = hs_fn_submit(&scan->batch, entry, &stream, err)) == HS_QUEUE_FULL) {
        if (hs_sql_conn_is_interrupted(scan->batch.conn)) {
            status = interrupted(err);
            break;
        }
        nanosleep(&pause, NULL);
    }
    hs_fn_entry_free(entry);
    if (status != HS_OK) {
        return status;
    }
    state->work = (struct hs_sql_work){.cancel = cancel, .user = stream};
    if (!hs_sql_work_begin(scan->batch.conn, &state->work)) {
        hs_stream_free(stream);
        return interrupted(err);
    }
    state->stream = stream;
    return HS_OK;
}

static hs_status finish(const struct hs_fn_scan *scan, struct state *state,
                        const struct hs_event *event, struct hs_error *err)
{
    hs_status status = HS_OK;
    if (event->finish == HS_FINISH_ERROR) {
        *err = event->error;
        status = event->error.status;
    } else if (event->finish == HS_FINISH_CANCELLED) {
        status = hs_sql_conn_is_interrupted(scan->batch.conn)
                     ? interrupted(err)
                     : hs_error_set(err, HS_UNAVAILABLE, "the answer was stopped");
    }
    hs_sql_work_end(scan->batch.conn, &state->work);
    hs_stream_free(state->stream);
    state->stream = NULL;
    return status;
}

/* Waits for the first row only. */
static hs_status next(struct hs_fn_scan *scan, duckdb_data_chunk out, struct hs_error *err)
{
    struct state *state = scan->state;
    if (state == NULL) {
        state = scan->state = hs_calloc(1, sizeof *state);
        hs_status status =
            state == NULL ? hs_error_nomem(err, "an answer") : begin(scan, state, err);
        if (status != HS_OK) {
            return status;
        }
    }
    int64_t *indices = duckdb_vector_get_data(duckdb_data_chunk_get_vector(out, 0));
    duckdb_vector texts = duckdb_data_chunk_get_vector(out, 1);
    idx_t n = 0;
    hs_status status = HS_OK;
    while (state->stream != NULL && n < duckdb_vector_size() && status == HS_OK) {
        struct hs_event event;
        status = hs_stream_next(state->stream, n == 0 ? -1 : 0, &event, err);
        if (status == HS_TIMEOUT) {
            status = HS_OK;
            break;
        }
        if (status == HS_OK && event.type == HS_EVENT_DONE) {
            status = finish(scan, state, &event, err);
        } else if (status == HS_OK && event.type == HS_EVENT_TEXT && event.text_len > 0) {
            indices[n] = state->n_rows++;
            duckdb_vector_assign_string_element_len(texts, n++, event.text, event.text_len);
        }
    }
    duckdb_data_chunk_set_size(out, n);
    return status;
}

const struct hs_fn_table hs_fn_stream_table = {
    .name = "generate_stream",
    .columns = {{"index", DUCKDB_TYPE_BIGINT}, {"text", DUCKDB_TYPE_VARCHAR}},
    .next = next,
    .end = end,
};
