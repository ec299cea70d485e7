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

/* DuckDB draws the place under the line: here it is the words that stand there. */
static hs_status set_with_place(struct hs_error *err, const char *message)
{
    hs_status status = status_of(message);
    const char *line = strstr(message, "\n\nLINE ");
    const char *text = line != NULL ? strchr(line + 2, ':') : NULL;
    const char *mark = text != NULL ? strchr(text, '\n') : NULL;
    const char *caret = mark != NULL ? strchr(mark, '^') : NULL;
    if (caret == NULL || caret - mark > mark - (line + 2)) {
        return hs_error_set(err, status, "%s", message);
    }
    const char *at = line + 2 + (caret - mark - 1);
    int n_line = (int)(text - (line + 7));
    return hs_error_set(err, status, "%.*s (line %.*s, at \"%.*s\")", (int)(line - message),
                        message, n_line, line + 7, (int)(mark - at), at);
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
    return set_with_place(err, message);
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
