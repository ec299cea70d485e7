#include "json_out.h"

#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

void hs_json_freep(json_t **json)
{
    json_decref(*json);
}

/* A copy in which every byte that is not part of UTF-8 is U+FFFD. */
static json_t *repaired_text(const char *text, size_t len)
{
    struct hs_buf buf HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX / 4);
    hs_status status = HS_OK;
    for (size_t i = 0; i < len && !status;) {
        size_t n = 1;
        while (n < 4 && i + n <= len && !hs_utf8_valid(text + i, n)) {
            n++;
        }
        if (i + n <= len && hs_utf8_valid(text + i, n)) {
            status = hs_buf_append(&buf, text + i, n);
            i += n;
        } else {
            status = hs_buf_append(&buf, "\xEF\xBF\xBD", 3);
            i++;
        }
    }
    return status ? NULL : json_stringn_nocheck(buf.len ? buf.data : "", buf.len);
}

json_t *hs_json_text(const char *text)
{
    if (!text) {
        return json_null();
    }
    size_t len = strlen(text);
    return hs_utf8_valid(text, len) ? json_stringn_nocheck(text, len) : repaired_text(text, len);
}

void hs_json_set(json_t **object, const char *key, json_t *value)
{
    /* json_object_set_new releases the value when it fails, and also when *object is NULL */
    if (json_object_set_new_nocheck(*object, key, value) != 0) {
        json_decref(*object);
        *object = NULL;
    }
}

void hs_json_append(json_t **array, json_t *value)
{
    if (json_array_append_new(*array, value) != 0) {
        json_decref(*array);
        *array = NULL;
    }
}

static int append_bytes(const char *text, size_t len, void *user)
{
    return hs_buf_append(user, text, len) ? -1 : 0;
}

hs_status hs_json_dump(const json_t *json, bool compact, struct hs_buf *text)
{
    size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(6) |
                   (compact ? (size_t)JSON_COMPACT : (size_t)JSON_INDENT(2));
    if (!json || json_dump_callback(json, append_bytes, text, flags) != 0) {
        return HS_OUT_OF_MEMORY;
    }
    return hs_buf_append(text, "\n", 1);
}

hs_status hs_json_print(const struct hs_command_io *io, const json_t *json, bool compact,
                        struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX / 4);
    if (hs_json_dump(json, compact, &text)) {
        return hs_error_nomem(err, "JSON output");
    }
    return hs_out_text(io, text.data, text.len, err);
}

hs_status hs_names_check(const struct hs_command_args *args, struct hs_error *err)
{
    bool asks_json = args->config->values[HS_CFG_JSON].source == HS_CONFIG_FLAG &&
                     hs_config_bool(args->config, HS_CFG_JSON);
    if (!args->options[HS_OPT_NAMES] || !asks_json) {
        return HS_OK;
    }
    hs_status status =
        hs_error_set(err, HS_INVALID_ARGUMENT, "--names and --json do not go together");
    hs_error_hint(err, "the objects of --json have a \"name\"");
    return status;
}
