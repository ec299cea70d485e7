#include "fn_table.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_call.h"
#include "fn_value.h"

/* What a registered function knows of its database. */
struct context {
    const struct hs_fn_table *table;
    hs_sql *sql;
    const struct hs_sql_host *host;
};

/* A statement's call. */
struct bound {
    const struct context *context;
    hs_sql_conn *conn;
    char *prompt;
    json_t *options;
};

struct reading {
    const struct context *context;
    struct hs_fn_scan scan;
};

static const char memo_key; /* its address */

/* ---- arguments ---- */

static void free_bound(void *user)
{
    struct bound *bound = user;
    if (bound != NULL) {
        duckdb_free(bound->prompt);
        json_decref(bound->options);
        hs_free(bound);
    }
}

static hs_status read_options(duckdb_bind_info info, struct bound *bound, struct hs_error *err)
{
    duckdb_value value = duckdb_bind_get_named_parameter(info, "options");
    bound->options = json_null();
    if (value == NULL || duckdb_is_null_value(value)) {
        duckdb_destroy_value(&value);
        return HS_OK;
    }
    duckdb_vector vector = duckdb_create_vector(duckdb_get_value_type(value), 1);
    duckdb_vector_reference_value(vector, value);
    hs_status status = hs_fn_json(vector, 0, &bound->options, err);
    duckdb_destroy_vector(&vector);
    duckdb_destroy_value(&value);
    return status;
}

static hs_status read_arguments(duckdb_bind_info info, struct bound *bound, struct hs_error *err)
{
    duckdb_value prompt = duckdb_bind_get_parameter(info, 0);
    bool is_null = duckdb_is_null_value(prompt);
    bound->prompt = is_null ? NULL : duckdb_get_varchar(prompt);
    duckdb_destroy_value(&prompt);
    return is_null ? hs_error_set(err, HS_INVALID_ARGUMENT, "the prompt is NULL")
                   : read_options(info, bound, err);
}

static void bind(duckdb_bind_info info)
{
    const struct context *context = duckdb_bind_get_extra_info(info);
    struct bound *bound = hs_calloc(1, sizeof *bound);
    struct hs_error err;
    if (bound == NULL) {
        duckdb_bind_set_error(info, "out of memory");
        return;
    }
    duckdb_client_context client = NULL;
    duckdb_table_function_get_client_context(info, &client);
    bound->context = context;
    bound->conn = hs_sql_conn_find(context->sql, duckdb_client_context_get_connection_id(client));
    duckdb_destroy_client_context(&client);
    if (bound->conn != NULL) {
        hs_sql_conn_infers(bound->conn);
    }
    duckdb_bind_set_bind_data(info, bound, free_bound);
    if (read_arguments(info, bound, &err) != HS_OK) {
        hs_error_prefix(&err, "%s", context->table->name);
        duckdb_bind_set_error(info, err.message);
        return;
    }
    for (size_t i = 0; context->table->columns[i].name != NULL; i++) {
        duckdb_logical_type type = duckdb_create_logical_type(context->table->columns[i].type);
        duckdb_bind_add_result_column(info, context->table->columns[i].name, type);
        duckdb_destroy_logical_type(&type);
    }
}

/* ---- rows ---- */

static void free_reading(void *user)
{
    struct reading *reading = user;
    if (reading != NULL) {
        reading->context->table->end(&reading->scan);
        hs_free(reading);
    }
}

static void init(duckdb_init_info info)
{
    const struct bound *bound = duckdb_init_get_bind_data(info);
    struct reading *reading = hs_calloc(1, sizeof *reading);
    if (reading == NULL) {
        duckdb_init_set_error(info, "out of memory");
        return;
    }
    reading->context = bound->context;
    reading->scan.prompt = bound->prompt;
    reading->scan.batch = (struct hs_fn_batch){.conn = bound->conn, .host = bound->context->host};
    duckdb_init_set_init_data(info, reading, free_reading);
    duckdb_init_set_max_threads(info, 1);
}

static hs_status read_rows(const struct bound *bound, struct reading *reading,
                           duckdb_data_chunk out, struct hs_error *err)
{
    struct hs_fn_scan *scan = &reading->scan;
    if (bound->conn == NULL) {
        return hs_error_set(err, HS_INTERNAL, "the connection is not known");
    }
    if (scan->target == NULL) {
        scan->batch.memo =
            hs_sql_conn_memo(bound->conn, &memo_key, hs_fn_memo_new, hs_fn_memo_free, NULL);
        hs_status status = scan->batch.memo == NULL
                               ? hs_error_nomem(err, "answers")
                               : hs_fn_memo_target(scan->batch.memo, scan->batch.host,
                                                   bound->options, NULL, &scan->target, err);
        if (status != HS_OK) {
            return status;
        }
    }
    return bound->context->table->next(scan, out, err);
}

static void execute(duckdb_function_info info, duckdb_data_chunk out)
{
    const struct bound *bound = duckdb_function_get_bind_data(info);
    struct reading *reading = duckdb_function_get_init_data(info);
    struct hs_error err;
    duckdb_data_chunk_set_size(out, 0);
    if (read_rows(bound, reading, out, &err) != HS_OK) {
        hs_error_prefix(&err, "%s", bound->context->table->name);
        if (bound->conn != NULL) {
            hs_sql_conn_fail(bound->conn, &err);
        }
        duckdb_function_set_error(info, err.message);
    }
}

/* ---- registration ---- */

hs_status hs_fn_table_register(hs_sql *sql, duckdb_connection connection,
                               const struct hs_sql_host *host, const struct hs_fn_table *table,
                               struct hs_error *err)
{
    struct context *context = hs_alloc(sizeof *context);
    if (context == NULL) {
        return hs_error_nomem(err, "SQL functions");
    }
    *context = (struct context){table, sql, host};
    duckdb_table_function function = duckdb_create_table_function();
    duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type any = duckdb_create_logical_type(DUCKDB_TYPE_ANY);
    duckdb_table_function_set_name(function, table->name);
    duckdb_table_function_add_parameter(function, text);
    duckdb_table_function_add_named_parameter(function, "options", any);
    duckdb_table_function_set_extra_info(function, context, hs_free);
    duckdb_table_function_set_bind(function, bind);
    duckdb_table_function_set_init(function, init);
    duckdb_table_function_set_function(function, execute);
    hs_status status = HS_OK;
    if (duckdb_register_table_function(connection, function) != DuckDBSuccess) {
        status = hs_error_set(err, HS_INTERNAL, "the SQL function %s is refused", table->name);
    }
    duckdb_destroy_logical_type(&any);
    duckdb_destroy_logical_type(&text);
    duckdb_destroy_table_function(&function);
    return status;
}
