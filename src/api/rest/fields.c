#include "fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/command.h"

#define NAME_MAX_BYTES 160
#define MESSAGE_MAX_BYTES 512

const json_t *hs_field_get(const struct hs_fields *fields, const char *name)
{
    const json_t *value = json_object_get(fields->object, name);
    return json_is_null(value) ? NULL : value;
}

bool hs_field_refuse(const struct hs_fields *fields, const char *name, const char *format, ...)
{
    char message[MESSAGE_MAX_BYTES];
    char param[NAME_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    snprintf(param, sizeof param, "%s%s", fields->path, name);
    hs_http_respond_bad_param(fields->request, param, "%s %s", param, message);
    return false;
}

int32_t hs_field_token(const json_t *item, int32_t n_vocab)
{
    json_int_t token = json_integer_value(item);
    return json_is_integer(item) && token >= 0 && token < n_vocab ? (int32_t)token : -1;
}

bool hs_field_bool(const struct hs_fields *fields, const char *name, bool *value)
{
    const json_t *json = hs_field_get(fields, name);
    if (json == NULL) {
        return true;
    }
    if (!json_is_boolean(json)) {
        return hs_field_refuse(fields, name, "must be true or false");
    }
    *value = json_is_true(json);
    return true;
}

bool hs_field_int(const struct hs_fields *fields, const char *name, int64_t min, int64_t max,
                  int64_t *value)
{
    const json_t *json = hs_field_get(fields, name);
    if (json == NULL) {
        return true;
    }
    if (!json_is_integer(json)) {
        return hs_field_refuse(fields, name, "must be an integer");
    }
    json_int_t number = json_integer_value(json);
    if (number < min || number > max) {
        return hs_field_refuse(fields, name, "is %lld; it must be from %lld to %lld",
                               (long long)number, (long long)min, (long long)max);
    }
    *value = number;
    return true;
}

bool hs_field_float(const struct hs_fields *fields, const char *name, double min, double max,
                    float *value)
{
    const json_t *json = hs_field_get(fields, name);
    if (json == NULL) {
        return true;
    }
    if (!json_is_number(json)) {
        return hs_field_refuse(fields, name, "must be a number");
    }
    double number = json_number_value(json);
    if (!(number >= min && number <= max)) {
        return hs_field_refuse(fields, name, "is %g; it must be from %g to %g", number, min, max);
    }
    *value = (float)number;
    return true;
}

bool hs_field_string(const struct hs_fields *fields, const char *name, const char **value)
{
    const json_t *json = hs_field_get(fields, name);
    if (json == NULL) {
        return true;
    }
    if (!json_is_string(json)) {
        return hs_field_refuse(fields, name, "must be a string");
    }
    *value = json_string_value(json);
    return true;
}

bool hs_field_object(const struct hs_fields *fields, const char *name, char *path, size_t size,
                     struct hs_fields *ret)
{
    const json_t *json = hs_field_get(fields, name);
    if (json != NULL && !json_is_object(json)) {
        return hs_field_refuse(fields, name, "must be an object");
    }
    snprintf(path, size, "%s%s.", fields->path, name);
    *ret = (struct hs_fields){.request = fields->request, .object = json, .path = path};
    return true;
}

static bool says_nothing(const json_t *json, const char *words)
{
    switch (json_typeof(json)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_OBJECT:
        return json_object_size(json) == 0;
    case JSON_ARRAY:
        return json_array_size(json) == 0;
    case JSON_INTEGER:
        return json_integer_value(json) == 0;
    case JSON_STRING:
        return json_string_length(json) == 0 ||
               (words != NULL && hs_command_list_has(words, json_string_value(json)));
    case JSON_TRUE:
    case JSON_REAL:
        break;
    }
    return false;
}

bool hs_fields_refuse_unsupported(const struct hs_fields *fields,
                                  const struct hs_unsupported_field *rows, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++) {
        const json_t *json = hs_field_get(fields, rows[i].name);
        if (json != NULL && !says_nothing(json, rows[i].words)) {
            return hs_field_refuse(fields, rows[i].name, "is not supported yet; leave it out");
        }
    }
    return true;
}
