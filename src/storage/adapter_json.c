/* adapter_json.c - adapter.json: what the registry says of a version, beside its files. */
#include "registry_internal.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "storage/json_memory.h"

#define FORMAT "hyprstream-adapter"
#define VERSION 1
#define BYTES_MAX (16u << 20)

static void decrefp(json_t **json)
{
    json_decref(*json);
}

/* ---- writing ---- */

static int put_texts(json_t *json, const struct hs_registry_adapter *row)
{
    int failed = 0;
    for (size_t i = 0; HS_REGISTRY_ADAPTER_TEXTS[i].name != NULL; i++) {
        const struct hs_registry_field *field = &HS_REGISTRY_ADAPTER_TEXTS[i];
        const char *text = *(char *const *)((const char *)row + field->offset);
        bool is_here = strcmp(field->name, "path") == 0 && !row->is_linked;
        failed |= json_object_set_new(json, field->name,
                                      json_string(text == NULL || is_here ? "" : text));
    }
    return failed;
}

static json_t *to_json(const struct hs_registry_adapter *row)
{
    json_t *json = json_pack("{s:s, s:i, s:b, s:f}", "format_name", FORMAT, "format_version",
                             VERSION, "is_linked", (int)row->is_linked, "alpha", row->alpha);
    int failed = json == NULL ? -1 : put_texts(json, row);
    for (size_t i = 0; HS_REGISTRY_ADAPTER_NUMBERS[i].name != NULL && failed == 0; i++) {
        const struct hs_registry_field *field = &HS_REGISTRY_ADAPTER_NUMBERS[i];
        int64_t number;
        memcpy(&number, (const char *)row + field->offset, sizeof number);
        failed = json_object_set_new(json, field->name, json_integer(number));
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

hs_status hs_adapter_json_write(const char *path, const struct hs_registry_adapter *row,
                                struct hs_error *err)
{
    hs_json_memory_watch();
    HS_CLEANUP(decrefp) json_t *json = to_json(row);
    HS_CLEANUP(hs_freep) char *text = json == NULL ? NULL : json_dumps(json, JSON_INDENT(1));
    if (text == NULL || hs_json_memory_failed())
        return hs_error_nomem(err, "adapter.json");
    return hs_fs_write_atomic(path, text, strlen(text), 0600, err);
}

/* ---- reading ---- */

static hs_status corrupt(const char *path, const char *what, struct hs_error *err)
{
    return hs_error_set(err, HS_CORRUPT, "'%s' is damaged: %s", path, what);
}

static hs_status read_texts(const char *path, const json_t *json, struct hs_registry_adapter *row,
                            struct hs_error *err)
{
    for (size_t i = 0; HS_REGISTRY_ADAPTER_TEXTS[i].name != NULL; i++) {
        const struct hs_registry_field *field = &HS_REGISTRY_ADAPTER_TEXTS[i];
        const char *text = json_string_value(json_object_get(json, field->name));
        if (text == NULL)
            return corrupt(path, field->name, err);
        char *copy = hs_strdup(text);
        if (copy == NULL)
            return hs_error_nomem(err, "adapter.json");
        memcpy((char *)row + field->offset, &copy, sizeof copy);
    }
    return HS_OK;
}

static hs_status read_all(const char *path, const json_t *json, struct hs_registry_adapter *row,
                          struct hs_error *err)
{
    const char *format = json_string_value(json_object_get(json, "format_name"));
    const json_t *version = json_object_get(json, "format_version");
    const json_t *alpha = json_object_get(json, "alpha");
    if (format == NULL || strcmp(format, FORMAT) != 0)
        return corrupt(path, "it is no adapter.json", err);
    if (json_integer_value(version) != VERSION)
        return hs_error_set(err, HS_UNSUPPORTED_VERSION,
                            "'%s' has version %lld; this program knows version %d", path,
                            (long long)json_integer_value(version), VERSION);
    if (!json_is_number(alpha) || !json_is_boolean(json_object_get(json, "is_linked")))
        return corrupt(path, "alpha or is_linked", err);
    row->alpha = json_number_value(alpha);
    row->is_linked = json_is_true(json_object_get(json, "is_linked"));
    for (size_t i = 0; HS_REGISTRY_ADAPTER_NUMBERS[i].name != NULL; i++) {
        const struct hs_registry_field *field = &HS_REGISTRY_ADAPTER_NUMBERS[i];
        const json_t *number = json_object_get(json, field->name);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return corrupt(path, field->name, err);
        int64_t value = json_integer_value(number);
        memcpy((char *)row + field->offset, &value, sizeof value);
    }
    return read_texts(path, json, row, err);
}

hs_status hs_adapter_json_read(const char *path, struct hs_registry_adapter *ret_row,
                               struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(BYTES_MAX);
    hs_status status = hs_fs_read(path, &text, err);
    if (status != HS_OK)
        return status;
    json_error_t where;
    HS_CLEANUP(decrefp)
    json_t *json =
        hs_json_load(text.data == NULL ? "" : text.data, text.len, JSON_REJECT_DUPLICATES, &where);
    if (hs_json_memory_failed())
        return hs_error_nomem(err, "adapter.json");
    if (json == NULL)
        return corrupt(path, where.text, err);
    struct hs_registry_adapter row = {0};
    status = read_all(path, json, &row, err);
    if (status != HS_OK) {
        hs_registry_adapter_free(&row);
        return status;
    }
    *ret_row = row;
    return HS_OK;
}
