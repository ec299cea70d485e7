/*
 * Whether the alternatives of oneOf exclude each other. The converter takes oneOf for anyOf, which
 * is the same only then. Objects are told apart by a property that both require, or by required
 * properties that the other does not name, because only named properties are generated.
 */
#include <string.h>

#include "schema_internal.h"

#define COMPARED_MAX 2000000 /* values and names, in one schema */

enum kind {
    KIND_NULL = 1,
    KIND_BOOLEAN = 2,
    KIND_INTEGER = 4,
    KIND_FRACTION = 8,
    KIND_STRING = 16,
    KIND_ARRAY = 32,
    KIND_OBJECT = 64,
    KIND_ALL = 127
};

static unsigned value_kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return KIND_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return KIND_BOOLEAN;
    case JSON_INTEGER:
        return KIND_INTEGER;
    case JSON_REAL:
        return KIND_INTEGER | KIND_FRACTION;
    case JSON_STRING:
        return KIND_STRING;
    case JSON_ARRAY:
        return KIND_ARRAY;
    case JSON_OBJECT:
        break;
    }
    return KIND_OBJECT;
}

static unsigned type_kind(const char *type)
{
    static const struct {
        const char *name;
        unsigned kind;
    } types[] = {{"null", KIND_NULL},       {"boolean", KIND_BOOLEAN},
                 {"integer", KIND_INTEGER}, {"number", KIND_INTEGER | KIND_FRACTION},
                 {"string", KIND_STRING},   {"array", KIND_ARRAY},
                 {"object", KIND_OBJECT}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (type != NULL && strcmp(type, types[i].name) == 0) {
            return types[i].kind;
        }
    }
    return KIND_ALL;
}

/* Kinds of values that may fit; at least those. */
static unsigned kinds(const json_t *node)
{
    const json_t *type = json_object_get(node, "type");
    const json_t *constant = json_object_get(node, "const");
    const json_t *list = json_object_get(node, "enum");
    unsigned all = KIND_ALL;
    if (json_is_string(type)) {
        all = type_kind(json_string_value(type));
    } else if (json_is_array(type)) {
        all = 0;
        for (size_t i = 0; i < json_array_size(type); i++) {
            all |= type_kind(json_string_value(json_array_get(type, i)));
        }
    }
    if (constant != NULL) {
        return all & value_kind(constant);
    }
    unsigned listed = json_is_array(list) ? 0 : KIND_ALL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        listed |= value_kind(json_array_get(list, i));
    }
    return all & listed;
}

static bool is_same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) {
        return !(json_number_value(a) < json_number_value(b)) &&
               !(json_number_value(a) > json_number_value(b));
    }
    /* Numbers inside objects and lists may be the same and look different. */
    return json_typeof(a) == json_typeof(b) &&
           (json_is_object(a) || json_is_array(a) || json_equal(a, b));
}

/* The values of const or enum; 0: the schema does not list them. */
static size_t listed(const json_t *node, const json_t **ret_constant, const json_t **ret_list)
{
    *ret_constant = json_object_get(node, "const");
    *ret_list = json_object_get(node, "enum");
    return *ret_constant != NULL ? 1 : json_array_size(*ret_list);
}

/* Count work that a hostile schema could multiply. */
static bool may_compare(struct hs_schema_walk *walk, size_t n, size_t m)
{
    walk->n_compared += (uint64_t)(n + 1) * (m + 1);
    return walk->n_compared <= COMPARED_MAX;
}

static bool lists_differ(struct hs_schema_walk *walk, const json_t *a, const json_t *b)
{
    const json_t *constants[2];
    const json_t *lists[2];
    size_t n_a = listed(a, &constants[0], &lists[0]);
    size_t n_b = listed(b, &constants[1], &lists[1]);
    if (!may_compare(walk, n_a, n_b)) {
        return false;
    }
    for (size_t i = 0; i < n_a; i++) {
        for (size_t k = 0; k < n_b; k++) {
            const json_t *x = constants[0] ? constants[0] : json_array_get(lists[0], i);
            const json_t *y = constants[1] ? constants[1] : json_array_get(lists[1], k);
            if (is_same_value(x, y)) {
                return false;
            }
        }
    }
    return n_a > 0 && n_b > 0;
}

static bool is_required(const json_t *node, const char *name)
{
    const json_t *required = json_object_get(node, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *text = json_string_value(json_array_get(required, i));
        if (text != NULL && strcmp(text, name) == 0) {
            return true;
        }
    }
    return false;
}

/* a requires a property that b never has. */
static bool requires_more(const json_t *a, const json_t *b)
{
    const json_t *required = json_object_get(a, "required");
    const json_t *properties = json_object_get(b, "properties");
    if (!json_is_object(properties) || json_object_size(properties) == 0) {
        return false; /* any property may be generated */
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (name != NULL && json_object_get(properties, name) == NULL && !is_required(b, name)) {
            return true;
        }
    }
    return false;
}

static bool objects_differ(struct hs_schema_walk *walk, json_t *a, json_t *b, int depth)
{
    size_t n_required = json_array_size(json_object_get(a, "required")) +
                        json_array_size(json_object_get(b, "required"));
    size_t n_properties = json_object_size(json_object_get(a, "properties"));
    if (!may_compare(walk, n_properties + n_required, n_required)) {
        return false;
    }
    const char *name;
    json_t *property;
    json_object_foreach(json_object_get(a, "properties"), name, property)
    {
        json_t *other = json_object_get(json_object_get(b, "properties"), name);
        if (other != NULL && is_required(a, name) && is_required(b, name) &&
            hs_schema_disjoint(walk, property, other, depth - 1)) {
            return true;
        }
    }
    return requires_more(a, b) && requires_more(b, a);
}

bool hs_schema_disjoint(struct hs_schema_walk *walk, json_t *a, json_t *b, int depth)
{
    a = hs_schema_resolve(walk, a);
    b = hs_schema_resolve(walk, b);
    if (depth == 0 || !may_compare(walk, 0, 0) || !json_is_object(a) || !json_is_object(b)) {
        return false;
    }
    unsigned common = kinds(a) & kinds(b);
    if (common == 0 || lists_differ(walk, a, b)) {
        return true;
    }
    bool has_parts = json_object_get(a, "anyOf") || json_object_get(b, "anyOf") ||
                     json_object_get(a, "oneOf") || json_object_get(b, "oneOf") ||
                     json_object_get(a, "allOf") || json_object_get(b, "allOf");
    return common == KIND_OBJECT && !has_parts && objects_differ(walk, a, b, depth);
}
