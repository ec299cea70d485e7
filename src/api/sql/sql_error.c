#include "sql_error.h"

#include <string.h>

#include "base/error.h"

static const struct {
    const char *prefix;
    hs_status status;
} kinds[] = {
    {"INTERRUPT Error", HS_CANCELLED},         {"Permission Error", HS_PERMISSION_DENIED},
    {"Out of Memory Error", HS_OUT_OF_MEMORY}, {"IO Error: Could not set lock", HS_BUSY},
    {"IO Error: The file", HS_BAD_FORMAT},     {"IO Error", HS_IO},
    {"HTTP Error", HS_PERMISSION_DENIED},      {"FATAL Error", HS_INTERNAL},
    {"INTERNAL Error", HS_INTERNAL},           {"Serialization Error", HS_CORRUPT},
};

static hs_status status_of(const char *message)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strncmp(message, kinds[i].prefix, strlen(kinds[i].prefix)) == 0) {
            return kinds[i].status;
        }
    }
    return HS_INVALID_ARGUMENT;
}

hs_status hs_sql_error(const hs_sql_conn *conn, const char *message, struct hs_error *err)
{
    struct hs_error failure;
    if (conn != NULL && hs_sql_conn_failure(conn, &failure)) {
        if (err != NULL) {
            *err = failure;
        }
        return failure.status;
    }
    if (message == NULL || *message == '\0') {
        return hs_error_set(err, HS_INTERNAL, "the SQL engine failed without a message");
    }
    if (conn != NULL && hs_sql_conn_is_interrupted(conn)) {
        return hs_error_set(err, HS_CANCELLED, "the statement was cancelled");
    }
    return hs_error_set(err, status_of(message), "%s", message);
}

hs_status hs_sql_error_data(const hs_sql_conn *conn, duckdb_error_data data, struct hs_error *err)
{
    hs_status status = HS_OK;
    if (data != NULL && duckdb_error_data_has_error(data)) {
        status = hs_sql_error(conn, duckdb_error_data_message(data), err);
    }
    duckdb_destroy_error_data(&data);
    return status;
}
