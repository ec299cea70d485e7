/* sql_info.c - GetSqlInfo: what sql_info.def says, as Arrow's dense union. */
#include <nanoarrow/nanoarrow.h>

#include "base/error.h"
#include "command.h"

#define CONVERT 517 /* the one entry that is a map */
enum { KIND_TEXT, KIND_BOOL, KIND_BIG, KIND_BITS, KIND_LIST, KIND_MAP };

/* Conversions between XDBC's types by CAST: numbers of SqlSupportsConvert. */
static const int32_t convertible[] = {0, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15, 16, 17, 19};
#define N_CONVERTIBLE (sizeof convertible / sizeof *convertible)
enum { CONVERT_CHAR = 3, CONVERT_LONGVARCHAR = 11, CONVERT_VARCHAR = 19 };

static ArrowErrorCode make_schema(struct ArrowSchema *schema)
{
    static const struct {
        const char *name;
        enum ArrowType type;
    } kinds[] = {
        {"string_value", NANOARROW_TYPE_STRING}, {"bool_value", NANOARROW_TYPE_BOOL},
        {"bigint_value", NANOARROW_TYPE_INT64},  {"int32_bitmask", NANOARROW_TYPE_INT32},
        {"string_list", NANOARROW_TYPE_LIST},    {"int32_to_int32_list_map", NANOARROW_TYPE_MAP}};
    ArrowSchemaInit(schema);
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetTypeStruct(schema, 2));
    struct ArrowSchema *id = schema->children[0], *value = schema->children[1];
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetType(id, NANOARROW_TYPE_UINT32));
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetName(id, "info_name"));
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetTypeUnion(value, NANOARROW_TYPE_DENSE_UNION, 6));
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetName(value, "value"));
    id->flags = value->flags = 0;
    for (int i = 0; i < 6; i++) {
        NANOARROW_RETURN_NOT_OK(ArrowSchemaSetType(value->children[i], kinds[i].type));
        NANOARROW_RETURN_NOT_OK(ArrowSchemaSetName(value->children[i], kinds[i].name));
    }
    NANOARROW_RETURN_NOT_OK(
        ArrowSchemaSetType(value->children[KIND_LIST]->children[0], NANOARROW_TYPE_STRING));
    struct ArrowSchema *entry = value->children[KIND_MAP]->children[0];
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetType(entry->children[0], NANOARROW_TYPE_INT32));
    entry->children[0]->flags &= ~ARROW_FLAG_NULLABLE;
    NANOARROW_RETURN_NOT_OK(ArrowSchemaSetType(entry->children[1], NANOARROW_TYPE_LIST));
    return ArrowSchemaSetType(entry->children[1]->children[0], NANOARROW_TYPE_INT32);
}

static bool is_wanted(const uint32_t *ids, size_t n, uint32_t id)
{
    bool found = n == 0;
    for (size_t i = 0; i < n && !found; i++) {
        found = ids[i] == id;
    }
    return found;
}

static ArrowErrorCode end_row(struct ArrowArray *array, uint32_t id, int8_t kind)
{
    NANOARROW_RETURN_NOT_OK(ArrowArrayAppendUInt(array->children[0], id));
    NANOARROW_RETURN_NOT_OK(ArrowArrayFinishUnionElement(array->children[1], kind));
    return ArrowArrayFinishElement(array);
}

static ArrowErrorCode add_text(struct ArrowArray *array, uint32_t id, const char *text)
{
    struct ArrowArray *texts = array->children[1]->children[KIND_TEXT];
    NANOARROW_RETURN_NOT_OK(ArrowArrayAppendString(texts, ArrowCharView(text)));
    return end_row(array, id, KIND_TEXT);
}

static ArrowErrorCode add_number(struct ArrowArray *array, uint32_t id, int8_t kind, int64_t value)
{
    NANOARROW_RETURN_NOT_OK(ArrowArrayAppendInt(array->children[1]->children[kind], value));
    return end_row(array, id, kind);
}

static ArrowErrorCode add_list(struct ArrowArray *array, uint32_t id, const char *const *texts)
{
    struct ArrowArray *list = array->children[1]->children[KIND_LIST];
    for (; *texts; texts++) {
        NANOARROW_RETURN_NOT_OK(ArrowArrayAppendString(list->children[0], ArrowCharView(*texts)));
    }
    NANOARROW_RETURN_NOT_OK(ArrowArrayFinishElement(list));
    return end_row(array, id, KIND_LIST);
}

/* Everything becomes text and back; other pairs are left to CAST's own message. */
static ArrowErrorCode add_conversions(struct ArrowArray *array)
{
    struct ArrowArray *map = array->children[1]->children[KIND_MAP], *entry = map->children[0];
    static const int32_t texts[] = {CONVERT_CHAR, CONVERT_LONGVARCHAR, CONVERT_VARCHAR};
    for (size_t i = 0; i < N_CONVERTIBLE; i++) {
        int32_t from = convertible[i];
        bool is_text =
            from == CONVERT_CHAR || from == CONVERT_LONGVARCHAR || from == CONVERT_VARCHAR;
        size_t n = is_text ? N_CONVERTIBLE : sizeof texts / sizeof *texts;
        NANOARROW_RETURN_NOT_OK(ArrowArrayAppendInt(entry->children[0], from));
        for (size_t k = 0; k < n; k++) {
            NANOARROW_RETURN_NOT_OK(ArrowArrayAppendInt(entry->children[1]->children[0],
                                                        is_text ? convertible[k] : texts[k]));
        }
        NANOARROW_RETURN_NOT_OK(ArrowArrayFinishElement(entry->children[1]));
        NANOARROW_RETURN_NOT_OK(ArrowArrayFinishElement(entry));
    }
    NANOARROW_RETURN_NOT_OK(ArrowArrayFinishElement(map));
    return end_row(array, CONVERT, KIND_MAP);
}

static ArrowErrorCode add_rows(struct ArrowArray *array, const uint32_t *ids, size_t n)
{
#define ROW(id, call)                                                                              \
    if (is_wanted(ids, n, id)) {                                                                   \
        NANOARROW_RETURN_NOT_OK(call);                                                             \
    }
#define TEXT(id, value) ROW(id, add_text(array, id, value))
#define BOOL(id, value) ROW(id, add_number(array, id, KIND_BOOL, value))
#define BIG(id, value) ROW(id, add_number(array, id, KIND_BIG, value))
#define BITS(id, value) ROW(id, add_number(array, id, KIND_BITS, value))
#define LIST(id, ...) ROW(id, add_list(array, id, (const char *const[]){__VA_ARGS__, NULL}))
#include "sql_info.def"
    ROW(CONVERT, add_conversions(array))
    return NANOARROW_OK;
}

hs_status hs_flight_sql_info(const uint32_t *ids, size_t n, struct hs_flight_rows *ret_rows,
                             struct hs_error *err)
{
    struct hs_flight_rows rows = {0};
    ArrowErrorCode code = make_schema(&rows.schema);
    code = code ? code : ArrowArrayInitFromSchema(&rows.whole, &rows.schema, NULL);
    code = code ? code : ArrowArrayStartAppending(&rows.whole);
    code = code ? code : add_rows(&rows.whole, ids, n);
    code = code ? code : ArrowArrayFinishBuildingDefault(&rows.whole, NULL);
    if (code) {
        hs_flight_rows_free(&rows);
        return hs_error_nomem(err, "what the server can do");
    }
    *ret_rows = rows;
    return HS_OK;
}
