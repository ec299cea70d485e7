/* The table of the scalar functions, their types, and the way from DuckDB into them. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_call.h"
#include "fn_table.h"

/*
 * Arguments: t VARCHAR, l VARCHAR[], a anything (options, messages, a schema). The last one of
 * those with `has_options` may be left out.
 */
enum result { TEXT, JSON, TRIED, CLASSES, BOOLEAN, DOUBLE, FLOAT, FLOATS, INTEGER, INTEGERS };

struct function {
    const char *name;
    const char *arguments; /* without the options, which every function takes */
    enum result result;
    hs_fn_run run;
};

static const struct function functions[] = {
    {"generate", "t", TEXT, hs_fn_generate},
    {"try_generate", "t", TRIED, hs_fn_try_generate},
    {"chat", "a", TEXT, hs_fn_chat},
    {"ai_extract", "ta", JSON, hs_fn_extract},
    {"extract", "ta", JSON, hs_fn_extract}, /* in quotes only: EXTRACT is a word of SQL's own */
    {"classify", "tl", CLASSES, hs_fn_classify},
    {"ai_filter", "tt", BOOLEAN, hs_fn_filter},
    {"score", "tt", DOUBLE, hs_fn_score},
    {"embed", "t", FLOATS, hs_fn_embed},
    {"similarity", "tt", FLOAT, hs_fn_similarity},
    {"tokenize", "t", INTEGERS, hs_fn_tokenize},
    {"count_tokens", "t", INTEGER, hs_fn_count_tokens},
};

/* What a registered function knows of its database. */
struct context {
    const struct function *function;
    hs_sql *sql;
    const struct hs_sql_host *host;
};

static const char memo_key; /* its address */

/* ---- calls ---- */

/* The connection of a client context, which ends here; NULL: none of ours. */
static hs_sql_conn *take_conn(const struct context *context, duckdb_client_context client)
{
    hs_sql_conn *conn =
        hs_sql_conn_find(context->sql, duckdb_client_context_get_connection_id(client));
    duckdb_destroy_client_context(&client);
    return conn;
}

/* Once for each call that a statement holds. */
static void bind(duckdb_bind_info info)
{
    const struct context *context = duckdb_scalar_function_bind_get_extra_info(info);
    duckdb_client_context client = NULL;
    duckdb_scalar_function_get_client_context(info, &client);
    hs_sql_conn *conn = take_conn(context, client);
    if (conn != NULL) {
        hs_sql_conn_infers(conn);
    }
}

/* Once for each thread that computes a statement. */
static void init(duckdb_init_info info)
{
    const struct context *context = duckdb_scalar_function_init_get_extra_info(info);
    duckdb_client_context client = NULL;
    duckdb_scalar_function_init_get_client_context(info, &client);
    hs_sql_conn *conn = take_conn(context, client);
    duckdb_scalar_function_init_set_state(info, conn, NULL);
}

static hs_status call_it(const struct context *context, hs_sql_conn *conn, duckdb_data_chunk input,
                         duckdb_vector out, struct hs_error *err)
{
    struct hs_fn_call call = {.conn = conn,
                              .host = context->host,
                              .n_rows = duckdb_data_chunk_get_size(input),
                              .n_arguments = duckdb_data_chunk_get_column_count(input),
                              .out = out};
    for (idx_t i = 0; i < call.n_arguments; i++) {
        call.arguments[i] = duckdb_data_chunk_get_vector(input, i);
    }
    call.memo = hs_sql_conn_memo(conn, &memo_key, hs_fn_memo_new, hs_fn_memo_free, NULL);
    hs_status status =
        call.memo == NULL ? hs_error_nomem(err, "answers") : context->function->run(&call, err);
    if (status != HS_OK) {
        hs_error_prefix(err, "%s", context->function->name);
    }
    return status;
}

static void execute(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector out)
{
    const struct context *context = duckdb_scalar_function_get_extra_info(info);
    hs_sql_conn *conn = duckdb_scalar_function_get_state(info);
    struct hs_error err;
    if (conn == NULL || hs_sql_conn_is_planning(conn)) {
        duckdb_scalar_function_set_error(info, HS_SQL_PLANNING_ERROR);
        return;
    }
    hs_error_clear(&err);
    if (call_it(context, conn, input, out, &err) != HS_OK) {
        hs_sql_conn_fail(conn, &err);
        duckdb_scalar_function_set_error(info, err.message);
    }
}

/* ---- types ---- */

static duckdb_logical_type map_type(void)
{
    duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
    duckdb_logical_type map = duckdb_create_map_type(text, number);
    duckdb_destroy_logical_type(&text);
    duckdb_destroy_logical_type(&number);
    return map;
}

static duckdb_logical_type list_type(duckdb_type item)
{
    duckdb_logical_type type = duckdb_create_logical_type(item);
    duckdb_logical_type list = duckdb_create_list_type(type);
    duckdb_destroy_logical_type(&type);
    return list;
}

static duckdb_logical_type struct_type(duckdb_logical_type *types, const char **names, idx_t n)
{
    duckdb_logical_type type = duckdb_create_struct_type(types, names, n);
    for (idx_t i = 0; i < n; i++) {
        duckdb_destroy_logical_type(&types[i]);
    }
    return type;
}

static duckdb_logical_type tried_type(void)
{
    const char *names[] = {"text", "error", "prompt_tokens", "completion_tokens", "ms"};
    const duckdb_type kinds[] = {DUCKDB_TYPE_VARCHAR, DUCKDB_TYPE_VARCHAR, DUCKDB_TYPE_INTEGER,
                                 DUCKDB_TYPE_INTEGER, DUCKDB_TYPE_DOUBLE};
    duckdb_logical_type types[5];
    for (size_t i = 0; i < 5; i++) {
        types[i] = duckdb_create_logical_type(kinds[i]);
    }
    return struct_type(types, names, 5);
}

static duckdb_logical_type result_type(enum result result)
{
    static const duckdb_type plain[] = {
        [TEXT] = DUCKDB_TYPE_VARCHAR,    [JSON] = DUCKDB_TYPE_VARCHAR,
        [BOOLEAN] = DUCKDB_TYPE_BOOLEAN, [DOUBLE] = DUCKDB_TYPE_DOUBLE,
        [FLOAT] = DUCKDB_TYPE_FLOAT,     [INTEGER] = DUCKDB_TYPE_INTEGER,
    };
    if (result == TRIED) {
        return tried_type();
    }
    if (result == CLASSES) {
        const char *names[] = {"label", "probability", "probabilities"};
        duckdb_logical_type types[] = {duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR),
                                       duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE), map_type()};
        return struct_type(types, names, 3);
    }
    if (result == FLOATS || result == INTEGERS) {
        return list_type(result == FLOATS ? DUCKDB_TYPE_FLOAT : DUCKDB_TYPE_INTEGER);
    }
    duckdb_logical_type type = duckdb_create_logical_type(plain[result]);
    if (result == JSON) {
        duckdb_logical_type_set_alias(type, "JSON");
    }
    return type;
}

static duckdb_logical_type argument_type(char letter)
{
    return letter == 'l'   ? list_type(DUCKDB_TYPE_VARCHAR)
           : letter == 'a' ? duckdb_create_logical_type(DUCKDB_TYPE_ANY)
                           : duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
}

/* ---- registration ---- */

static void add_argument(duckdb_scalar_function function, char letter)
{
    duckdb_logical_type type = argument_type(letter);
    duckdb_scalar_function_add_parameter(function, type);
    duckdb_destroy_logical_type(&type);
}

/* One form of a function, with options or without. NULL: no memory. */
static duckdb_scalar_function make(hs_sql *sql, const struct hs_sql_host *host,
                                   const struct function *row, bool has_options)
{
    struct context *context = hs_alloc(sizeof *context);
    if (context == NULL) {
        return NULL;
    }
    *context = (struct context){row, sql, host};
    duckdb_scalar_function function = duckdb_create_scalar_function();
    duckdb_scalar_function_set_name(function, row->name);
    for (const char *letter = row->arguments; *letter != '\0'; letter++) {
        add_argument(function, *letter);
    }
    if (has_options) {
        add_argument(function, 'a');
    }
    duckdb_logical_type type = result_type(row->result);
    duckdb_scalar_function_set_return_type(function, type);
    duckdb_destroy_logical_type(&type);
    duckdb_scalar_function_set_special_handling(function); /* NULL options are no NULL row */
    duckdb_scalar_function_set_extra_info(function, context, hs_free);
    duckdb_scalar_function_set_bind(function, bind);
    duckdb_scalar_function_set_init(function, init);
    duckdb_scalar_function_set_function(function, execute);
    return function;
}

static hs_status add(hs_sql *sql, duckdb_connection connection, const struct hs_sql_host *host,
                     const struct function *row, struct hs_error *err)
{
    duckdb_scalar_function_set set = duckdb_create_scalar_function_set(row->name);
    hs_status status = HS_OK;
    for (int has_options = 0; has_options < 2 && status == HS_OK; has_options++) {
        duckdb_scalar_function function = make(sql, host, row, has_options != 0);
        if (function == NULL || duckdb_add_scalar_function_to_set(set, function) != DuckDBSuccess) {
            status = hs_error_nomem(err, "SQL functions");
        }
        duckdb_destroy_scalar_function(&function);
    }
    if (status == HS_OK && duckdb_register_scalar_function_set(connection, set) != DuckDBSuccess) {
        status = hs_error_set(err, HS_INTERNAL, "the SQL function %s is refused", row->name);
    }
    duckdb_destroy_scalar_function_set(&set);
    return status;
}

hs_status hs_sql_functions_register(hs_sql *sql, duckdb_connection connection,
                                    const struct hs_sql_host *host, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0] && status == HS_OK; i++) {
        status = add(sql, connection, host, &functions[i], err);
    }
    status = status == HS_OK ? hs_fn_table_register(sql, connection, host, &hs_fn_stream_table, err)
                             : status;
    return status == HS_OK ? hs_fn_table_register(sql, connection, host, &hs_fn_route_table, err)
                           : status;
}

/*
 * The rows of a table whose text in a column is closest to a query. A macro: only SQL can read a
 * table. It is the connection's, so that it does not lie in the users' file.
 */
static const char search[] =
    "CREATE OR REPLACE TEMP MACRO search(table_name, column_name, query, k := 10) AS TABLE "
    "SELECT *, similarity(COLUMNS(lambda c: c = column_name)::VARCHAR, query) AS similarity "
    "FROM query_table(table_name) ORDER BY similarity DESC LIMIT k";

hs_status hs_sql_functions_connect(hs_sql_conn *conn, struct hs_error *err)
{
    return hs_sql_conn_run(conn, search, err);
}
