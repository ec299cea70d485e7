/* A schema of one type, in the keywords that llama-common's converter enforces. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "schema_internal.h"
#include "schema_pattern.h"

#define INTEGER_MAX 999999999999999 /* 15 digits, which a double holds exactly */
#define PATTERN_MAX_BYTES ((size_t)256 << 10)

/* ---- numbers in keywords ---- */

/* A count like minItems; absent: `otherwise`. */
static bool get_count(struct hs_schema_walk *walk, const json_t *node, const char *key,
                      double otherwise, double *ret)
{
    const json_t *value = json_object_get(node, key);
    *ret = value == NULL ? otherwise : json_number_value(value);
    if (value != NULL && (!json_is_number(value) || *ret < 0 || *ret > floor(*ret))) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, key, "is not a count");
        return false;
    }
    return true;
}

/* minItems and maxItems, minLength and maxLength. A larger maximum than can be enforced is lowered.
 */
static bool get_counts(struct hs_schema_walk *walk, const json_t *node, const char *min_key,
                       const char *max_key, double *ret_min, double *ret_max)
{
    if (!get_count(walk, node, min_key, 0, ret_min) ||
        !get_count(walk, node, max_key, INFINITY, ret_max)) {
        return false;
    }
    if (*ret_min > *ret_max) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, min_key, "is above the maximum");
        return false;
    }
    if (*ret_min > HS_SCHEMA_REPEAT_MAX) {
        if (!hs_schema_unsupported(walk, min_key, "is above 2000")) {
            return false;
        }
        *ret_min = 0;
    }
    bool is_huge = !isinf(*ret_max) && *ret_max > HS_SCHEMA_REPEAT_MAX;
    *ret_max = is_huge ? HS_SCHEMA_REPEAT_MAX : *ret_max;
    return true;
}

static bool put_counts(struct hs_schema_walk *walk, json_t *to, const char *min_key,
                       const char *max_key, double min, double max)
{
    return (!(min > 0) || hs_schema_put(walk, to, min_key, json_integer((json_int_t)min))) &&
           (isinf(max) || hs_schema_put(walk, to, max_key, json_integer((json_int_t)max)));
}

static json_t *new_type(struct hs_schema_walk *walk, const char *type)
{
    json_t *to = json_object();
    if (to == NULL) {
        return hs_schema_nomem(walk);
    }
    if (!hs_schema_put(walk, to, "type", json_string(type))) {
        json_decref(to);
        return NULL;
    }
    return to;
}

static json_t *keep_if(json_t *to, bool ok)
{
    if (!ok) {
        json_decref(to);
        return NULL;
    }
    return to;
}

/* ---- objects ---- */

static bool is_open(const json_t *node)
{
    return !json_is_false(json_object_get(node, "additionalProperties"));
}

static bool put_property(struct hs_schema_walk *walk, json_t *properties, const char *key,
                         const char *name, json_t *schema)
{
    if (json_object_size(properties) == HS_SCHEMA_PROPERTIES_MAX) {
        hs_schema_fail(walk, HS_LIMIT, "properties", "has too many members");
        return false;
    }
    /* The converter takes this name for any other property. */
    if (strcmp(name, "*") == 0) {
        return hs_schema_unsupported(walk, "properties", "has a member named '*'");
    }
    json_t *converted = hs_schema_convert_at(walk, key, key[0] == 'p' ? name : NULL, schema, NULL);
    return converted != NULL && hs_schema_put(walk, properties, name, converted);
}

static bool put_properties(struct hs_schema_walk *walk, json_t *node, json_t *properties)
{
    json_t *from = json_object_get(node, "properties");
    if (from != NULL && !json_is_object(from)) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, "properties", "is not an object");
        return false;
    }
    const char *name;
    json_t *schema;
    bool ok = true;
    json_object_foreach(from, name, schema)
    {
        if (ok && !json_is_false(schema)) {
            ok = put_property(walk, properties, "properties", name, schema);
        }
    }
    return ok;
}

/* A required property that "properties" does not name is whatever the others are. */
static bool put_required(struct hs_schema_walk *walk, json_t *node, json_t *properties,
                         json_t *required)
{
    json_t *from = json_object_get(node, "required");
    if (from != NULL && !json_is_array(from)) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, "required", "is not a list");
        return false;
    }
    json_t *others = json_object_get(node, "additionalProperties");
    for (size_t i = 0; i < json_array_size(from); i++) {
        const char *name = json_string_value(json_array_get(from, i));
        if (name == NULL) {
            hs_schema_fail(walk, HS_INVALID_ARGUMENT, "required", "has a member that is no string");
            return false;
        }
        bool is_known = json_object_get(properties, name) != NULL;
        if (!is_known && (!is_open(node) || json_is_false(json_object_get(
                                                json_object_get(node, "properties"), name)))) {
            if (!hs_schema_unsupported(walk, "required", "names a property that is not allowed")) {
                return false;
            }
            continue;
        }
        if (!is_known && !put_property(walk, properties, "additionalProperties", name,
                                       others != NULL ? others : json_true())) {
            return false;
        }
        if (json_array_append_new(required, json_string(name)) != 0) {
            hs_schema_nomem(walk);
            return false;
        }
    }
    return true;
}

/* Between the required and all of the properties the model is free. */
static bool check_number_of_properties(struct hs_schema_walk *walk, const json_t *node,
                                       size_t n_required, size_t n_properties, bool is_map)
{
    double min = 0;
    double max = INFINITY;
    if (!get_count(walk, node, "minProperties", 0, &min) ||
        !get_count(walk, node, "maxProperties", INFINITY, &max)) {
        return false;
    }
    if (min > (double)n_required && !hs_schema_unsupported(walk, "minProperties", NULL)) {
        return false;
    }
    bool is_bound = !isinf(max) && (is_map || max < (double)n_properties);
    return !is_bound || hs_schema_unsupported(walk, "maxProperties", NULL);
}

static json_t *convert_object(struct hs_schema_walk *walk, json_t *node)
{
    json_t *to = new_type(walk, "object");
    json_t *properties = json_object();
    json_t *required = json_array();
    json_t *others = json_object_get(node, "additionalProperties");
    bool ok = to != NULL;
    if (ok && (properties == NULL || required == NULL)) {
        hs_schema_nomem(walk);
        ok = false;
    }
    ok = ok && put_properties(walk, node, properties) &&
         put_required(walk, node, properties, required);
    bool is_map = ok && json_object_size(properties) == 0 && is_open(node);
    ok = ok && check_number_of_properties(walk, node, json_array_size(required),
                                          json_object_size(properties), is_map);
    if (ok && is_map && json_is_object(others) && json_object_size(others) > 0) {
        json_t *value = hs_schema_convert_at(walk, "additionalProperties", NULL, others, NULL);
        ok = value != NULL && hs_schema_put(walk, to, "additionalProperties", value);
    } else if (ok && !is_map) {
        ok = hs_schema_put(walk, to, "properties", json_incref(properties)) &&
             hs_schema_put(walk, to, "required", json_incref(required)) &&
             hs_schema_put(walk, to, "additionalProperties", json_false());
    }
    json_decref(properties);
    json_decref(required);
    return keep_if(to, ok);
}

/* ---- arrays ---- */

/* The items that come first are all there are. */
static json_t *convert_tuple(struct hs_schema_walk *walk, const char *key, json_t *items)
{
    json_t *to = new_type(walk, "array");
    json_t *list = json_array();
    bool ok = to != NULL && list != NULL;
    for (size_t i = 0; ok && i < json_array_size(items); i++) {
        char index[24];
        snprintf(index, sizeof(index), "%zu", i);
        json_t *item = hs_schema_convert_at(walk, key, index, json_array_get(items, i), NULL);
        ok = item != NULL && json_array_append_new(list, item) == 0;
    }
    if (!ok && walk->status == HS_OK) {
        hs_schema_nomem(walk);
    }
    ok = ok && hs_schema_put(walk, to, "prefixItems", json_incref(list));
    json_decref(list);
    return keep_if(to, ok);
}

static json_t *convert_array(struct hs_schema_walk *walk, json_t *node)
{
    double min = 0;
    double max = INFINITY;
    if (!get_counts(walk, node, "minItems", "maxItems", &min, &max)) {
        return NULL;
    }
    json_t *items = json_object_get(node, "items");
    json_t *first = json_object_get(node, "prefixItems");
    const char *key = first != NULL ? "prefixItems" : "items";
    first = first != NULL ? first : items;
    if (json_is_array(first) && json_array_size(first) > 0) {
        double n = (double)json_array_size(first);
        if ((n < min || n > max) &&
            !hs_schema_unsupported(walk, key, "is as long as no list may be")) {
            return NULL;
        }
        return convert_tuple(walk, key, first);
    }
    if (json_is_false(items)) {
        if (min > 0 && !hs_schema_unsupported(walk, "items", "forbids what minItems asks for")) {
            return NULL;
        }
        max = 0;
    }
    json_t *to = new_type(walk, "array");
    bool ok = to != NULL;
    if (ok && json_is_object(items)) {
        json_t *item = hs_schema_convert_at(walk, "items", NULL, items, NULL);
        ok = item != NULL && hs_schema_put(walk, to, "items", item);
    } else if (ok && items != NULL && !json_is_boolean(items) && !json_is_array(items)) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, "items", "is not a schema");
        ok = false;
    }
    return keep_if(to, ok && put_counts(walk, to, "minItems", "maxItems", min, max));
}

/* ---- strings ---- */

/* Formats that the converter enforces, and how long their texts are. */
static const struct format {
    const char *name;
    double min, max;
} formats[] = {{"date", 10, 10}, {"time", 9, 18}, {"date-time", 20, 29}, {"uuid", 36, 36}};

static const struct format *find_format(const json_t *node)
{
    const char *name = json_string_value(json_object_get(node, "format"));
    for (size_t i = 0; name != NULL && i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(name, formats[i].name) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

/* Lengths beside a pattern or format are not enforced: they must follow from it. */
static bool check_lengths(struct hs_schema_walk *walk, double min, double max, double least,
                          double most)
{
    if (min > least &&
        !hs_schema_unsupported(walk, "minLength", "stands beside a pattern or format")) {
        return false;
    }
    return max >= most ||
           hs_schema_unsupported(walk, "maxLength", "stands beside a pattern or format");
}

static bool put_pattern(struct hs_schema_walk *walk, json_t *to, const json_t *node, double min,
                        double max)
{
    const char *text = json_string_value(json_object_get(node, "pattern"));
    if (text == NULL) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, "pattern", "is not a string");
        return false;
    }
    struct hs_schema_pattern pattern = {.text = HS_BUF_INIT(PATTERN_MAX_BYTES)};
    hs_status status = hs_schema_pattern_read(text, &pattern);
    bool ok = status == HS_OK;
    if (status == HS_NOT_SUPPORTED) {
        ok = hs_schema_unsupported(walk, "pattern", pattern.why);
    } else if (!ok) {
        hs_schema_nomem(walk);
    } else {
        double most = pattern.max_length == UINT64_MAX ? INFINITY : (double)pattern.max_length;
        ok = check_lengths(walk, min, max, (double)pattern.min_length, most) &&
             hs_schema_put(walk, to, "pattern", json_string(pattern.text.data));
    }
    hs_buf_free(&pattern.text);
    return ok;
}

static json_t *convert_string(struct hs_schema_walk *walk, json_t *node)
{
    double min = 0;
    double max = INFINITY;
    if (!get_counts(walk, node, "minLength", "maxLength", &min, &max)) {
        return NULL;
    }
    json_t *to = new_type(walk, "string");
    const struct format *format = find_format(node);
    bool ok = to != NULL;
    if (ok && json_object_get(node, "pattern") != NULL) {
        ok = put_pattern(walk, to, node, min, max);
    } else if (ok && format != NULL) {
        ok = check_lengths(walk, min, max, format->min, format->max) &&
             hs_schema_put(walk, to, "format", json_string(format->name));
    } else if (ok) {
        ok = put_counts(walk, to, "minLength", "maxLength", min, max);
    }
    return keep_if(to, ok);
}

/* ---- numbers ---- */

static bool get_bound(struct hs_schema_walk *walk, const json_t *node, const char *key,
                      double otherwise, double *ret)
{
    const json_t *value = json_object_get(node, key);
    *ret = json_is_number(value) ? json_number_value(value) : otherwise;
    if (value != NULL && !json_is_number(value) && !json_is_boolean(value)) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, key, "is not a number");
        return false;
    }
    return true;
}

/* Whether a bound of draft 4 is made exclusive by `true` beside it. */
static bool is_exclusive(const json_t *node, const char *key)
{
    return json_is_true(json_object_get(node, key));
}

static json_t *convert_integer(struct hs_schema_walk *walk, json_t *node)
{
    double min, max, above, below;
    if (!get_bound(walk, node, "minimum", -INFINITY, &min) ||
        !get_bound(walk, node, "maximum", INFINITY, &max) ||
        !get_bound(walk, node, "exclusiveMinimum", -INFINITY, &above) ||
        !get_bound(walk, node, "exclusiveMaximum", INFINITY, &below)) {
        return NULL;
    }
    above = is_exclusive(node, "exclusiveMinimum") ? min : above;
    below = is_exclusive(node, "exclusiveMaximum") ? max : below;
    min = fmax(ceil(min), floor(above) + 1);
    max = fmin(floor(max), ceil(below) - 1);
    if (min > max || min > INTEGER_MAX || max < -INTEGER_MAX) {
        return hs_schema_unsupported(walk, "minimum", "leaves no integer")
                   ? new_type(walk, "integer")
                   : NULL;
    }
    json_t *to = new_type(walk, "integer");
    bool is_free = isinf(min) && isinf(max);
    /* The converter is right only where both bounds are known. */
    min = fmax(min, -INTEGER_MAX);
    max = fmin(max, INTEGER_MAX);
    bool ok = to != NULL;
    if (ok && !is_free) {
        ok = hs_schema_put(walk, to, "minimum", json_integer((json_int_t)min)) &&
             hs_schema_put(walk, to, "maximum", json_integer((json_int_t)max));
    }
    return keep_if(to, ok);
}

static json_t *convert_number(struct hs_schema_walk *walk, json_t *node)
{
    static const char *const keys[] = {"minimum", "maximum", "exclusiveMinimum",
                                       "exclusiveMaximum"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const json_t *value = json_object_get(node, keys[i]);
        if (value != NULL && !json_is_false(value) &&
            !hs_schema_unsupported(walk, keys[i], "is enforced for integers only")) {
            return NULL;
        }
    }
    return new_type(walk, "number");
}

json_t *hs_schema_convert_type(struct hs_schema_walk *walk, json_t *node, const char *type)
{
    static const struct {
        const char *name;
        json_t *(*convert)(struct hs_schema_walk *walk, json_t *node);
    } types[] = {{"object", convert_object},
                 {"array", convert_array},
                 {"string", convert_string},
                 {"integer", convert_integer},
                 {"number", convert_number},
                 {"boolean", NULL},
                 {"null", NULL}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i].name) == 0) {
            return types[i].convert ? types[i].convert(walk, node) : new_type(walk, type);
        }
    }
    return hs_schema_fail(walk, HS_INVALID_ARGUMENT, "type", "is unknown");
}
