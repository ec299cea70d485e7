/* metadata.c - catalogs, schemas, tables, keys and types: questions in SQL over DuckDB's own
 * tables.
 */
#include <nanoarrow/nanoarrow.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "command.h"
#include "ipc_write.h"
#include "message.h"

#define TEXT_MAX (1 << 20)

/* ---- text ---- */

static hs_status add_literal(struct hs_buf *text, const char *value)
{
    hs_status status = hs_buf_append_str(text, "'");
    for (; *value && !status; value++) {
        status = hs_buf_append(text, *value == '\'' ? "''" : value, *value == '\'' ? 2 : 1);
    }
    return status ? status : hs_buf_append_str(text, "'");
}

/* " AND <column> <operator> '<value>'", when there is a value. */
static hs_status add_filter(struct hs_buf *text, bool is_given, const char *condition,
                            const char *value, const char *after)
{
    if (!is_given) {
        return HS_OK;
    }
    hs_status status = hs_buf_printf(text, " AND %s ", condition);
    status = status ? status : add_literal(text, value);
    return status ? status : hs_buf_append_str(text, after);
}

#define LIKE_END " ESCAPE '\\'"
#define USER_CATALOGS                                                                              \
    "(SELECT database_name FROM duckdb_databases() WHERE NOT internal OR database_name = 'temp')"

typedef hs_status (*text_maker)(const ProtobufCBinaryData *value, struct hs_buf *text,
                                struct hs_error *err);

static hs_status malformed(struct hs_error *err)
{
    return hs_error_set(err, HS_INVALID_ARGUMENT, "the command is malformed" HS_FLIGHT_OR_TEXT);
}

/* ---- commands ---- */

static hs_status catalogs(const ProtobufCBinaryData *value, struct hs_buf *text,
                          struct hs_error *err)
{
    (void)value;
    (void)err;
    return hs_buf_append_str(text, "SELECT database_name AS catalog_name FROM duckdb_databases() "
                                   "WHERE NOT internal ORDER BY 1");
}

static hs_status table_types(const ProtobufCBinaryData *value, struct hs_buf *text,
                             struct hs_error *err)
{
    (void)value;
    (void)err;
    return hs_buf_append_str(text,
                             "SELECT unnest(['LOCAL TEMPORARY', 'TABLE', 'VIEW']) AS table_type");
}

static hs_status db_schemas(const ProtobufCBinaryData *value, struct hs_buf *text,
                            struct hs_error *err)
{
    Fs__CommandGetDbSchemas *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_db_schemas__descriptor, value->data, value->len);
    if (!command) {
        return malformed(err);
    }
    hs_status status =
        hs_buf_append_str(text, "SELECT DISTINCT catalog_name, schema_name AS db_schema_name FROM "
                                "information_schema.schemata WHERE catalog_name IN " USER_CATALOGS);
    status = status ? status
                    : add_filter(text, command->opt_catalog_case,
                                 "catalog_name =", command->catalog, "");
    status = status ? status
                    : add_filter(text, command->opt_schema_case, "schema_name LIKE",
                                 command->db_schema_filter_pattern, LIKE_END);
    return status ? status : hs_buf_append_str(text, " ORDER BY 1, 2");
}

static hs_status add_tables(const Fs__CommandGetTables *command, struct hs_buf *text)
{
    hs_status status = hs_buf_append_str(
        text,
        "SELECT * FROM (SELECT table_catalog AS catalog_name, table_schema AS db_schema_name, "
        "table_name, CASE table_type WHEN 'BASE TABLE' THEN 'TABLE' ELSE table_type END AS "
        "table_type FROM information_schema.tables) WHERE catalog_name IN " USER_CATALOGS);
    status = status ? status
                    : add_filter(text, command->opt_catalog_case,
                                 "catalog_name =", command->catalog, "");
    status = status ? status
                    : add_filter(text, command->opt_schema_case, "db_schema_name LIKE",
                                 command->db_schema_filter_pattern, LIKE_END);
    status = status ? status
                    : add_filter(text, command->opt_table_case, "table_name LIKE",
                                 command->table_name_filter_pattern, LIKE_END);
    for (size_t i = 0; i < command->n_table_types && !status; i++) {
        status = hs_buf_append_str(text, i == 0 ? " AND table_type IN (" : ", ");
        status = status ? status : add_literal(text, command->table_types[i]);
    }
    if (command->n_table_types > 0) {
        status = status ? status : hs_buf_append_str(text, ")");
    }
    return status ? status : hs_buf_append_str(text, " ORDER BY 1, 2, 3, 4");
}

/* The same tables, and of each column in a fifth one whether it may be NULL: "101" and the like. */
static hs_status add_tables_with_nullability(const Fs__CommandGetTables *command,
                                             struct hs_buf *text)
{
    hs_status status = hs_buf_append_str(text, "SELECT t.*, flags FROM (");
    status = status ? status : add_tables(command, text);
    return status ? status
                  : hs_buf_append_str(
                        text, ") t LEFT JOIN (SELECT database_name, schema_name, table_name, "
                              "string_agg(is_nullable::INTEGER::VARCHAR, '' ORDER BY column_index) "
                              "AS flags FROM duckdb_columns() GROUP BY ALL) c "
                              "ON database_name = catalog_name AND schema_name = db_schema_name "
                              "AND c.table_name = t.table_name ORDER BY 1, 2, 3, 4");
}

static hs_status primary_keys(const ProtobufCBinaryData *value, struct hs_buf *text,
                              struct hs_error *err)
{
    Fs__CommandGetKeys *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_keys__descriptor, value->data, value->len);
    if (!command) {
        return malformed(err);
    }
    hs_status status = hs_buf_append_str(
        text, "SELECT database_name AS catalog_name, schema_name AS db_schema_name, table_name, "
              "unnest(constraint_column_names) AS column_name, "
              "generate_subscripts(constraint_column_names, 1)::INTEGER AS key_sequence, "
              "constraint_name AS key_name "
              "FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'");
    status = status ? status : add_filter(text, true, "table_name =", command->table, "");
    status = status ? status
                    : add_filter(text, command->opt_catalog_case,
                                 "database_name =", command->catalog, "");
    status = status ? status
                    : add_filter(text, command->opt_schema_case,
                                 "schema_name =", command->db_schema, "");
    return status ? status : hs_buf_append_str(text, " ORDER BY 1, 2, 3, 6, 5");
}

/* DuckDB's foreign keys refer to tables of their own schema, and take no action. */
#define FOREIGN_KEYS                                                                               \
    "SELECT * FROM (SELECT database_name AS pk_catalog_name, schema_name AS pk_db_schema_name, "   \
    "referenced_table AS pk_table_name, unnest(referenced_column_names) AS pk_column_name, "       \
    "database_name AS fk_catalog_name, schema_name AS fk_db_schema_name, table_name AS "           \
    "fk_table_name, unnest(constraint_column_names) AS fk_column_name, "                           \
    "generate_subscripts(constraint_column_names, 1)::INTEGER AS key_sequence, "                   \
    "constraint_name AS fk_key_name, NULL::VARCHAR AS pk_key_name, 3::UTINYINT AS update_rule, "   \
    "3::UTINYINT AS delete_rule FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY') " \
    "WHERE true"

static hs_status foreign_keys(const ProtobufCBinaryData *value, bool is_exported,
                              struct hs_buf *text, struct hs_error *err)
{
    Fs__CommandGetKeys *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_keys__descriptor, value->data, value->len);
    if (!command) {
        return malformed(err);
    }
    hs_status status = hs_buf_append_str(text, FOREIGN_KEYS);
    status = status ? status
                    : add_filter(text, true, is_exported ? "pk_table_name =" : "fk_table_name =",
                                 command->table, "");
    status = status ? status
                    : add_filter(text, command->opt_catalog_case,
                                 "pk_catalog_name =", command->catalog, "");
    status = status ? status
                    : add_filter(text, command->opt_schema_case,
                                 "pk_db_schema_name =", command->db_schema, "");
    return status ? status
                  : hs_buf_append_str(text, is_exported ? " ORDER BY 5, 6, 7, 10, 9"
                                                        : " ORDER BY 1, 2, 3, 11, 9");
}

static hs_status exported_keys(const ProtobufCBinaryData *value, struct hs_buf *text,
                               struct hs_error *err)
{
    return foreign_keys(value, true, text, err);
}

static hs_status imported_keys(const ProtobufCBinaryData *value, struct hs_buf *text,
                               struct hs_error *err)
{
    return foreign_keys(value, false, text, err);
}

static hs_status cross_reference(const ProtobufCBinaryData *value, struct hs_buf *text,
                                 struct hs_error *err)
{
    Fs__CommandGetCrossReference *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_cross_reference__descriptor, value->data, value->len);
    if (!command) {
        return malformed(err);
    }
    const struct {
        bool is_given;
        const char *condition, *value;
    } filters[] = {
        {true, "pk_table_name =", command->pk_table},
        {true, "fk_table_name =", command->fk_table},
        {command->opt_pk_catalog_case, "pk_catalog_name =", command->pk_catalog},
        {command->opt_pk_schema_case, "pk_db_schema_name =", command->pk_db_schema},
        {command->opt_fk_catalog_case, "fk_catalog_name =", command->fk_catalog},
        {command->opt_fk_schema_case, "fk_db_schema_name =", command->fk_db_schema},
    };
    hs_status status = hs_buf_append_str(text, FOREIGN_KEYS);
    for (size_t i = 0; i < sizeof filters / sizeof *filters && !status; i++) {
        status = add_filter(text, filters[i].is_given, filters[i].condition, filters[i].value, "");
    }
    return status ? status : hs_buf_append_str(text, " ORDER BY 1, 2, 3, 11, 9");
}

/* name, XDBC type, size, what encloses a literal, unsigned, fixed scale, largest scale, generic
 * type, subcode, radix */
static const char type_info[] =
    "SELECT n AS type_name, t::INTEGER AS data_type, size::INTEGER AS column_size, "
    "q AS literal_prefix, q AS literal_suffix, "
    "CASE n WHEN 'DECIMAL' THEN ['precision', 'scale'] END AS create_params, "
    "1::INTEGER AS nullable, (t = 12) AS case_sensitive, 3::INTEGER AS searchable, "
    "u AS unsigned_attribute, false AS fixed_prec_scale, "
    "CASE WHEN u IS NULL THEN NULL ELSE false END AS auto_increment, n AS local_type_name, "
    "CASE WHEN scale IS NULL THEN NULL ELSE 0 END::INTEGER AS minimum_scale, "
    "scale::INTEGER AS maximum_scale, coalesce(generic, t)::INTEGER AS sql_data_type, "
    "sub::INTEGER AS datetime_subcode, radix::INTEGER AS num_prec_radix, "
    "NULL::INTEGER AS interval_precision FROM (VALUES "
    "('BOOLEAN', -7, 1, NULL, NULL, NULL, NULL, NULL, NULL), "
    "('TINYINT', -6, 3, NULL, false, 0, NULL, NULL, 10), "
    "('UTINYINT', -6, 3, NULL, true, 0, NULL, NULL, 10), "
    "('SMALLINT', 5, 5, NULL, false, 0, NULL, NULL, 10), "
    "('USMALLINT', 5, 5, NULL, true, 0, NULL, NULL, 10), "
    "('INTEGER', 4, 10, NULL, false, 0, NULL, NULL, 10), "
    "('UINTEGER', 4, 10, NULL, true, 0, NULL, NULL, 10), "
    "('BIGINT', -5, 19, NULL, false, 0, NULL, NULL, 10), "
    "('UBIGINT', -5, 20, NULL, true, 0, NULL, NULL, 10), "
    "('DECIMAL', 3, 38, NULL, false, 38, NULL, NULL, 10), "
    "('FLOAT', 7, 24, NULL, false, NULL, NULL, NULL, 2), "
    "('DOUBLE', 8, 53, NULL, false, NULL, NULL, NULL, 2), "
    "('VARCHAR', 12, 2147483647, '''', NULL, NULL, NULL, NULL, NULL), "
    "('UUID', 12, 36, '''', NULL, NULL, NULL, NULL, NULL), "
    "('BLOB', -3, 2147483647, '''', NULL, NULL, NULL, NULL, NULL), "
    "('DATE', 91, 10, '''', NULL, NULL, 9, 1, NULL), "
    "('TIME', 92, 15, '''', NULL, 6, 9, 2, NULL), "
    "('TIMESTAMP', 93, 26, '''', NULL, 6, 9, 3, NULL), "
    "('TIMESTAMP WITH TIME ZONE', 93, 32, '''', NULL, 6, 9, 5, NULL)) "
    "v(n, t, size, q, u, scale, generic, sub, radix) WHERE true";

static hs_status xdbc_types(const ProtobufCBinaryData *value, struct hs_buf *text,
                            struct hs_error *err)
{
    Fs__CommandGetXdbcTypeInfo *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_xdbc_type_info__descriptor, value->data, value->len);
    if (!command) {
        return malformed(err);
    }
    hs_status status = hs_buf_append_str(text, type_info);
    if (!status && command->opt_data_type_case) {
        status = hs_buf_printf(text, " AND t = %d", command->data_type);
    }
    return status ? status : hs_buf_append_str(text, " ORDER BY 2, 1");
}

/* ---- GetTables, with each table's schema when it is asked for ---- */

static hs_status add_name(struct hs_buf *text, struct ArrowStringView name)
{
    hs_status status = hs_buf_append_str(text, "\"");
    for (int64_t i = 0; i < name.size_bytes && !status; i++) {
        bool is_quote = name.data[i] == '"';
        status = hs_buf_append(text, is_quote ? "\"\"" : &name.data[i], is_quote ? 2 : 1);
    }
    return status ? status : hs_buf_append_str(text, "\"");
}

/* What clients show of a column beyond its Arrow type. */
static hs_status describe(struct ArrowSchema *column, struct ArrowStringView names[3],
                          struct hs_error *err)
{
    static const char *const keys[] = {"ARROW:FLIGHT:SQL:CATALOG_NAME",
                                       "ARROW:FLIGHT:SQL:DB_SCHEMA_NAME",
                                       "ARROW:FLIGHT:SQL:TABLE_NAME"};
    struct ArrowBuffer metadata;
    ArrowErrorCode code = ArrowMetadataBuilderInit(&metadata, column->metadata);
    for (int i = 0; i < 3 && !code; i++) {
        code = ArrowMetadataBuilderSet(&metadata, ArrowCharView(keys[i]), names[i]);
    }
    static const char *const flags[][2] = {{"ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT", "0"},
                                           {"ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE", "0"},
                                           {"ARROW:FLIGHT:SQL:IS_SEARCHABLE", "1"}};
    for (int i = 0; i < 3 && !code; i++) {
        code = ArrowMetadataBuilderSet(&metadata, ArrowCharView(flags[i][0]),
                                       ArrowCharView(flags[i][1]));
    }
    code = code ? code : ArrowSchemaSetMetadata(column, (const char *)metadata.data);
    ArrowBufferReset(&metadata);
    return code ? hs_error_nomem(err, "a table's schema") : HS_OK;
}

/* The schema of SELECT * has no column that is NOT NULL; `names` end with that: '0' for each. */
static hs_status table_schema(hs_sql_conn *conn, struct ArrowStringView names[5],
                              struct hs_buf *out, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX);
    hs_sql_stmt *stmt = NULL;
    struct ArrowSchema schema, copy;
    hs_status status = hs_buf_append_str(&text, "SELECT * FROM ");
    for (int i = 0; i < 3 && !status; i++) {
        status = i > 0 ? hs_buf_append_str(&text, ".") : HS_OK;
        status = status ? status : add_name(&text, names[i]);
    }
    if (status) {
        return hs_error_nomem(err, "a table's schema");
    }
    status = hs_sql_prepare(conn, text.data, text.len, &stmt, err);
    status = status ? status : hs_sql_stmt_result_schema(stmt, &schema, err);
    hs_sql_stmt_free(stmt);
    if (status) {
        return status;
    }
    ArrowErrorCode code = ArrowSchemaDeepCopy(&schema, &copy); /* one that can be changed */
    schema.release(&schema);
    if (code) {
        return hs_error_nomem(err, "a table's schema");
    }
    for (int64_t i = 0; i < copy.n_children && !status; i++) {
        status = describe(copy.children[i], names, err);
        if (i < names[4].size_bytes && names[4].data[i] == '0') {
            copy.children[i]->flags &= ~ARROW_FLAG_NULLABLE;
        }
    }
    status = status ? status : hs_ipc_schema(&copy, true, out, err);
    copy.release(&copy);
    return status;
}

/* Rows with the schemas of their tables as a fifth column. */
struct with_schemas {
    struct ArrowSchema schema;
    struct ArrowArray array;
};

static hs_status add_table(hs_sql_conn *conn, const struct ArrowArrayView *view, int64_t row,
                           struct ArrowArray *array, struct hs_error *err)
{
    struct hs_buf bytes HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    struct ArrowStringView names[5];
    struct hs_error own;
    ArrowErrorCode code = NANOARROW_OK;
    for (int i = 0; i < 5; i++) {
        names[i] = ArrowArrayViewGetStringUnsafe(view->children[i], row);
    }
    for (int i = 0; i < 4 && !code; i++) {
        code = ArrowArrayAppendString(array->children[i], names[i]);
    }
    /* a view may be broken: it is listed, without columns */
    if (!code && table_schema(conn, names, &bytes, &own)) {
        struct ArrowSchema empty;
        ArrowSchemaInit(&empty);
        hs_buf_clear(&bytes);
        code = ArrowSchemaSetTypeStruct(&empty, 0);
        code = code || hs_ipc_schema(&empty, true, &bytes, &own) ? ENOMEM : NANOARROW_OK;
        empty.release(&empty);
    }
    const struct ArrowBufferView view_of = {{.data = bytes.data}, (int64_t)bytes.len};
    code = code ? code : ArrowArrayAppendBytes(array->children[4], view_of);
    code = code ? code : ArrowArrayFinishElement(array);
    return code ? hs_error_nomem(err, "the list of tables") : HS_OK;
}

static hs_status begin_tables(struct ArrowSchema *schema, struct ArrowArray *array)
{
    static const char *const names[] = {"catalog_name", "db_schema_name", "table_name",
                                        "table_type", "table_schema"};
    ArrowSchemaInit(schema);
    ArrowErrorCode code = ArrowSchemaSetTypeStruct(schema, 5);
    for (int i = 0; i < 5 && !code; i++) {
        code = ArrowSchemaSetType(schema->children[i],
                                  i == 4 ? NANOARROW_TYPE_BINARY : NANOARROW_TYPE_STRING);
        code = code ? code : ArrowSchemaSetName(schema->children[i], names[i]);
        if (i >= 2) {
            schema->children[i]->flags = 0;
        }
    }
    code = code ? code : ArrowArrayInitFromSchema(array, schema, NULL);
    code = code ? code : ArrowArrayStartAppending(array);
    return code ? HS_OUT_OF_MEMORY : HS_OK;
}

/* All names first: the tables' statements would end this one. Out: arrays, also when it fails. */
static hs_status read_names(hs_sql_result *result, struct hs_buf *list, struct hs_error *err)
{
    struct ArrowArray array;
    hs_status status = hs_sql_result_next(result, &array, err);
    while (!status && array.release) {
        if (hs_buf_append(list, &array, sizeof array)) {
            array.release(&array);
            return hs_error_nomem(err, "the list of tables");
        }
        status = hs_sql_result_next(result, &array, err);
    }
    return status;
}

static hs_status add_schemas(hs_sql_conn *conn, struct hs_flight_rows *plain,
                             struct hs_flight_rows *ret_rows, struct hs_error *err)
{
    struct hs_buf list HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    hs_status status = read_names(plain->result, &list, err);
    struct ArrowArray *arrays = (struct ArrowArray *)(void *)list.data;
    size_t n_arrays = list.len / sizeof *arrays;
    ret_rows->whole.release = NULL;
    if (!status && begin_tables(&ret_rows->schema, &ret_rows->whole)) {
        status = hs_error_nomem(err, "the list of tables");
    }
    for (size_t i = 0; i < n_arrays; i++) {
        struct ArrowArrayView view;
        ArrowErrorCode code = ArrowArrayViewInitFromSchema(&view, &plain->schema, NULL);
        code = code ? code : ArrowArrayViewSetArray(&view, &arrays[i], NULL);
        status = !status && code ? hs_error_nomem(err, "the list of tables") : status;
        for (int64_t row = 0; row < arrays[i].length && !status; row++) {
            status = add_table(conn, &view, row, &ret_rows->whole, err);
        }
        ArrowArrayViewReset(&view);
        arrays[i].release(&arrays[i]);
    }
    if (!status && ArrowArrayFinishBuildingDefault(&ret_rows->whole, NULL)) {
        status = hs_error_nomem(err, "the list of tables");
    }
    return status;
}

static hs_status get_tables(const ProtobufCBinaryData *value, hs_sql_conn *conn,
                            struct hs_flight_rows *ret_rows, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX);
    struct hs_flight_rows plain = {0};
    Fs__CommandGetTables *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_tables__descriptor, value->data, value->len);
    if (!command) {
        return malformed(err);
    }
    hs_status status = command->include_schema ? add_tables_with_nullability(command, &text)
                                               : add_tables(command, &text);
    if (status) {
        return hs_error_set(err, status, "the filters are too long");
    }
    if (!command->include_schema) {
        return hs_flight_rows_query(conn, text.data, 0xC, ret_rows, err);
    }
    status = hs_flight_rows_query(conn, text.data, 0xC, &plain, err);
    status = status ? status : add_schemas(conn, &plain, ret_rows, err);
    hs_flight_rows_free(&plain);
    return status;
}

/* ---- the table of commands ---- */

static const struct {
    const char *name;
    text_maker make;
    uint64_t not_null; /* a bit for each column without nulls */
} commands[] = {
    {"CommandGetCatalogs", catalogs, 0x1},
    {"CommandGetDbSchemas", db_schemas, 0x2},
    {"CommandGetTableTypes", table_types, 0x1},
    {"CommandGetPrimaryKeys", primary_keys, 0x1C},
    {"CommandGetExportedKeys", exported_keys, 0x19CC},
    {"CommandGetImportedKeys", imported_keys, 0x19CC},
    {"CommandGetCrossReference", cross_reference, 0x19CC},
    {"CommandGetXdbcTypeInfo", xdbc_types, 0x85C3},
};

static hs_status query(size_t i, const ProtobufCBinaryData *value, hs_sql_conn *conn,
                       struct hs_flight_rows *ret_rows, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX);
    hs_error_clear(err);
    hs_status status = commands[i].make(value, &text, err);
    if (status && err->status == HS_OK) {
        return hs_error_set(err, status, "the filters are too long");
    }
    return status ? status
                  : hs_flight_rows_query(conn, text.data, commands[i].not_null, ret_rows, err);
}

static hs_status sql_info(const ProtobufCBinaryData *value, struct hs_flight_rows *ret_rows,
                          struct hs_error *err)
{
    Fs__CommandGetSqlInfo *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_get_sql_info__descriptor, value->data, value->len);
    return command ? hs_flight_sql_info(command->info, command->n_info, ret_rows, err)
                   : malformed(err);
}

bool hs_flight_metadata(struct hs_flight_context *context, const char *name,
                        const ProtobufCBinaryData *value, hs_sql_conn *conn,
                        struct hs_flight_rows *ret_rows, enum hs_grpc_code *ret_code)
{
    struct hs_error err;
    hs_status status = HS_NOT_FOUND;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            status = query(i, value, conn, ret_rows, &err);
            *ret_code = status ? hs_flight_fail(context->call, &err) : HS_GRPC_OK;
            return true;
        }
    }
    if (strcmp(name, "CommandGetTables") == 0) {
        status = get_tables(value, conn, ret_rows, &err);
    } else if (strcmp(name, "CommandGetSqlInfo") == 0) {
        status = sql_info(value, ret_rows, &err);
    } else {
        return false;
    }
    *ret_code = status ? hs_flight_fail(context->call, &err) : HS_GRPC_OK;
    return true;
}
