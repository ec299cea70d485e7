/*
 * rows.h - rows on their way to a client: of a statement, or made here.
 *
 * Threads: those of the call.
 */
#ifndef FLIGHTSQL_ROWS_H
#define FLIGHTSQL_ROWS_H

#include "session.h"

struct hs_flight_rows {
    struct ArrowSchema schema;
    hs_sql_stmt *stmt;       /* to be freed with the rows; NULL: it is somebody's */
    hs_sql_result *result;   /* NULL: `whole` is all there is */
    struct ArrowArray whole; /* release NULL: nothing */
};

void hs_flight_rows_free(struct hs_flight_rows *rows);
/* The schema, then the rows in batches, each as soon as it is there. */
enum hs_grpc_code hs_flight_rows_send(hs_grpc_call *call, struct hs_flight_rows *rows);

/* Run a text of our own; bit i of not_null: column i has no nulls. */
HS_CHECKED hs_status hs_flight_rows_query(hs_sql_conn *conn, const char *text, uint64_t not_null,
                                          struct hs_flight_rows *ret_rows, struct hs_error *err);

#endif
