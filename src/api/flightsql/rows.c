#include "rows.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "ipc_write.h"
#include "message.h"

#define VECTOR_ROWS 2048 /* fewer at a time: more may take a while */
#define SOON_MS 2.0

void hs_flight_rows_free(struct hs_flight_rows *rows)
{
    hs_sql_result_free(rows->result);
    hs_sql_stmt_free(rows->stmt);
    if (rows->whole.release) {
        rows->whole.release(&rows->whole);
    }
    if (rows->schema.release) {
        rows->schema.release(&rows->schema);
    }
}

static hs_status next_array(struct hs_flight_rows *rows, struct ArrowArray *ret_array,
                            struct hs_error *err)
{
    if (rows->result) {
        return hs_sql_result_next(rows->result, ret_array, err);
    }
    *ret_array = rows->whole;
    rows->whole.release = NULL;
    return HS_OK;
}

/* Send what the writer has; false: the call is over. */
static hs_status flush(hs_grpc_call *call, hs_ipc_writer *writer, struct hs_error *err)
{
    hs_status status = HS_OK;
    while (!status && hs_ipc_writer_n_rows(writer) > 0) {
        struct hs_grpc_message message;
        status = hs_ipc_writer_take(writer, &message, err);
        if (!status && !hs_grpc_call_send(call, &message)) {
            status = hs_error_set(err, HS_CANCELLED, "the call is over");
        }
    }
    return status;
}

/* Arrays are joined while they are full and come fast: nobody waits for the rows before, nor for
 * the first ones. */
static hs_status send_arrays(hs_grpc_call *call, struct hs_flight_rows *rows, hs_ipc_writer *writer,
                             struct ArrowArray *array, struct hs_error *err)
{
    hs_status status = HS_OK;
    bool is_slow = true;
    while (!status && array->release) {
        is_slow = is_slow || array->length < VECTOR_ROWS;
        status = hs_ipc_writer_add(writer, array, err);
        if (!status && (is_slow || hs_ipc_writer_is_full(writer))) {
            status = flush(call, writer, err);
        }
        double started = hs_clock_ms();
        status = status ? status : next_array(rows, array, err);
        is_slow = hs_clock_ms() - started > SOON_MS;
    }
    return status ? status : flush(call, writer, err);
}

enum hs_grpc_code hs_flight_rows_send(hs_grpc_call *call, struct hs_flight_rows *rows)
{
    struct hs_grpc_message message;
    struct ArrowArray first = {.release = NULL};
    struct hs_error err;
    hs_ipc_writer *writer = NULL;
    hs_status status = hs_ipc_writer_new(&rows->schema, &writer, &err);
    /* a statement begins with its first rows there, or nearly: they go out with the schema */
    status = status ? status : next_array(rows, &first, &err);
    status = status ? status : hs_ipc_schema_message(&rows->schema, &message, &err);
    if (!status && !hs_grpc_call_send(call, &message)) {
        status = hs_error_set(&err, HS_CANCELLED, "the call is over");
    }
    if (status && first.release) {
        first.release(&first);
    }
    status = status ? status : send_arrays(call, rows, writer, &first, &err);
    hs_ipc_writer_free(writer);
    return status ? hs_flight_fail(call, &err) : HS_GRPC_OK;
}

hs_status hs_flight_rows_query(hs_sql_conn *conn, const char *text, uint64_t not_null,
                               struct hs_flight_rows *ret_rows, struct hs_error *err)
{
    struct hs_flight_rows rows = {0};
    hs_status status = hs_sql_prepare(conn, text, strlen(text), &rows.stmt, err);
    status = status ? status : hs_sql_execute(rows.stmt, &rows.result, err);
    status = status ? status : hs_sql_result_schema(rows.result, &rows.schema, err);
    for (int64_t i = 0; !status && i < rows.schema.n_children; i++) {
        rows.schema.children[i]->flags &= ~(int64_t)((not_null >> i & 1) * ARROW_FLAG_NULLABLE);
    }
    if (status) {
        hs_flight_rows_free(&rows);
        return status;
    }
    *ret_rows = rows;
    return HS_OK;
}
