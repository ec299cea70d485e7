#include "type_text.h"

#include <stdio.h>

#include "base/error.h"

/* Types in types. */
#define DEPTH_MAX 32

static const char *const names[] = {
    [DUCKDB_TYPE_BOOLEAN] = "BOOLEAN",
    [DUCKDB_TYPE_TINYINT] = "TINYINT",
    [DUCKDB_TYPE_SMALLINT] = "SMALLINT",
    [DUCKDB_TYPE_INTEGER] = "INTEGER",
    [DUCKDB_TYPE_BIGINT] = "BIGINT",
    [DUCKDB_TYPE_UTINYINT] = "UTINYINT",
    [DUCKDB_TYPE_USMALLINT] = "USMALLINT",
    [DUCKDB_TYPE_UINTEGER] = "UINTEGER",
    [DUCKDB_TYPE_UBIGINT] = "UBIGINT",
    [DUCKDB_TYPE_FLOAT] = "FLOAT",
    [DUCKDB_TYPE_DOUBLE] = "DOUBLE",
    [DUCKDB_TYPE_TIMESTAMP] = "TIMESTAMP",
    [DUCKDB_TYPE_DATE] = "DATE",
    [DUCKDB_TYPE_TIME] = "TIME",
    [DUCKDB_TYPE_INTERVAL] = "INTERVAL",
    [DUCKDB_TYPE_HUGEINT] = "HUGEINT",
    [DUCKDB_TYPE_UHUGEINT] = "UHUGEINT",
    [DUCKDB_TYPE_VARCHAR] = "VARCHAR",
    [DUCKDB_TYPE_BLOB] = "BLOB",
    [DUCKDB_TYPE_TIMESTAMP_S] = "TIMESTAMP_S",
    [DUCKDB_TYPE_TIMESTAMP_MS] = "TIMESTAMP_MS",
    [DUCKDB_TYPE_TIMESTAMP_NS] = "TIMESTAMP_NS",
    [DUCKDB_TYPE_UUID] = "UUID",
    [DUCKDB_TYPE_BIT] = "BIT",
    [DUCKDB_TYPE_TIME_TZ] = "TIME WITH TIME ZONE",
    [DUCKDB_TYPE_TIMESTAMP_TZ] = "TIMESTAMP WITH TIME ZONE",
    [DUCKDB_TYPE_SQLNULL] = "INTEGER", /* as CREATE TABLE AS SELECT NULL has it */
    [DUCKDB_TYPE_BIGNUM] = "BIGNUM",
    [DUCKDB_TYPE_TIME_NS] = "TIME_NS",
};

static hs_status no_room(hs_status status, struct hs_error *err)
{
    return status ? hs_error_set(err, status, "the text of the columns is too long") : HS_OK;
}

hs_status hs_sql_write_name(struct hs_buf *out, const char *name, struct hs_error *err)
{
    hs_status status = hs_buf_append(out, "\"", 1);
    for (const char *c = name; *c != '\0' && !status; c++) {
        status = *c == '"' ? hs_buf_append(out, "\"\"", 2) : hs_buf_append(out, c, 1);
    }
    return no_room(status ? status : hs_buf_append(out, "\"", 1), err);
}

static hs_status write_type(struct hs_buf *out, duckdb_logical_type type, int depth,
                            struct hs_error *err);

/* A type inside of another, which is freed. */
static hs_status write_part(struct hs_buf *out, duckdb_logical_type part, const char *end,
                            int depth, struct hs_error *err)
{
    hs_status status = write_type(out, part, depth + 1, err);
    duckdb_destroy_logical_type(&part);
    return status ? status : no_room(hs_buf_append_str(out, end), err);
}

static hs_status write_struct(struct hs_buf *out, duckdb_logical_type type, int depth,
                              struct hs_error *err)
{
    hs_status status = no_room(hs_buf_append_str(out, "STRUCT("), err);
    idx_t n = duckdb_struct_type_child_count(type);
    for (idx_t i = 0; i < n && !status; i++) {
        char *name = duckdb_struct_type_child_name(type, i);
        status = name != NULL ? hs_sql_write_name(out, name, err)
                              : hs_error_nomem(err, "name of a field");
        duckdb_free(name);
        status = status ? status : no_room(hs_buf_append_str(out, " "), err);
        status = status ? status
                        : write_part(out, duckdb_struct_type_child_type(type, i),
                                     i + 1 < n ? ", " : ")", depth, err);
    }
    return status;
}

static hs_status write_type(struct hs_buf *out, duckdb_logical_type type, int depth,
                            struct hs_error *err)
{
    if (depth > DEPTH_MAX) {
        return hs_error_set(err, HS_LIMIT, "types may lie in types %d deep", DEPTH_MAX);
    }
    duckdb_type id = duckdb_get_type_id(type);
    char end[32];
    hs_status status;
    switch (id) {
    case DUCKDB_TYPE_DECIMAL:
        return no_room(hs_buf_printf(out, "DECIMAL(%d, %d)", duckdb_decimal_width(type),
                                     duckdb_decimal_scale(type)),
                       err);
    case DUCKDB_TYPE_LIST:
        return write_part(out, duckdb_list_type_child_type(type), "[]", depth, err);
    case DUCKDB_TYPE_ARRAY:
        (void)snprintf(end, sizeof end, "[%llu]",
                       (unsigned long long)duckdb_array_type_array_size(type));
        return write_part(out, duckdb_array_type_child_type(type), end, depth, err);
    case DUCKDB_TYPE_STRUCT:
        return write_struct(out, type, depth, err);
    case DUCKDB_TYPE_MAP:
        status = no_room(hs_buf_append_str(out, "MAP("), err);
        status =
            status ? status : write_part(out, duckdb_map_type_key_type(type), ", ", depth, err);
        return status ? status : write_part(out, duckdb_map_type_value_type(type), ")", depth, err);
    default:
        if ((size_t)id >= sizeof names / sizeof names[0] || names[id] == NULL) {
            return hs_error_set(err, HS_NOT_SUPPORTED,
                                "no table is made with a column of DuckDB's type %d", (int)id);
        }
        return no_room(hs_buf_append_str(out, names[id]), err);
    }
}

hs_status hs_sql_write_type(struct hs_buf *out, duckdb_logical_type type, struct hs_error *err)
{
    return write_type(out, type, 0, err);
}
