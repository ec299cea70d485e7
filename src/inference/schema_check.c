#include "schema_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "schema_internal.h"
#include "storage/json_memory.h"

#define PATH_MAX_BYTES ((size_t)64 << 10)
#define OUT_MAX_BYTES ((size_t)4 << 20)
#define HOPS_MAX 16 /* references one behind the other */

/* ---- failures ---- */

static const char *path_of(const struct hs_schema_walk *walk)
{
    return walk->path.len > 0 ? walk->path.data : "";
}

json_t *hs_schema_nomem(struct hs_schema_walk *walk)
{
    if (walk->status == HS_OK) {
        walk->status = hs_error_nomem(walk->err, "JSON schema");
    }
    return NULL;
}

json_t *hs_schema_fail(struct hs_schema_walk *walk, hs_status status, const char *keyword,
                       const char *why)
{
    if (walk->status == HS_OK) {
        walk->status =
            hs_error_set(walk->err, status, "\"%.64s\" at \"#%.300s\" of the JSON schema %s",
                         keyword, path_of(walk), why);
    }
    return NULL;
}

bool hs_schema_unsupported(struct hs_schema_walk *walk, const char *keyword, const char *why)
{
    if (walk->use->is_lenient || walk->status != HS_OK) {
        return walk->status == HS_OK;
    }
    walk->status =
        hs_error_set(walk->err, HS_INVALID_ARGUMENT,
                     "\"%.64s\" at \"#%.300s\" of the JSON schema cannot be enforced%s%s", keyword,
                     path_of(walk), why != NULL ? ": it " : "", why != NULL ? why : "");
    hs_error_hint(walk->err, "leave it out of the schema, and check it in the answer");
    return false;
}

bool hs_schema_put(struct hs_schema_walk *walk, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) {
        hs_schema_nomem(walk);
        return false;
    }
    return true;
}

/* ---- references ---- */

/* One name of a JSON pointer in a fragment: "%24defs", "a~1b". false: it does not fit. */
static bool decode_name(const char *text, size_t len, char *name, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned code = (unsigned char)text[i];
        if (code == '%') {
            char hex[3] = {0};
            if (i + 2 >= len) {
                return false;
            }
            memcpy(hex, text + i + 1, 2);
            if (sscanf(hex, "%2x", &code) != 1) {
                return false;
            }
            i += 2;
        } else if (code == '~') {
            if (i + 1 >= len || (text[i + 1] != '0' && text[i + 1] != '1')) {
                return false;
            }
            code = text[++i] == '0' ? '~' : '/';
        }
        if (n + 1 >= size || code == 0) {
            return false;
        }
        name[n++] = (char)code;
    }
    name[n] = '\0';
    return true;
}

static json_t *member(json_t *node, const char *name)
{
    if (json_is_array(node)) {
        size_t len = strspn(name, "0123456789");
        return name[len] == '\0' && len > 0 && len < 10
                   ? json_array_get(node, (size_t)strtoul(name, NULL, 10))
                   : NULL;
    }
    return json_object_get(node, name);
}

/* What "#/$defs/x" points to. */
static json_t *find_target(const struct hs_schema_walk *walk, const char *ref)
{
    if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/')) {
        return NULL;
    }
    json_t *node = walk->root;
    for (const char *p = ref + 1; *p == '/' && node != NULL;) {
        p++;
        size_t len = strcspn(p, "/");
        char name[512];
        node = decode_name(p, len, name, sizeof(name)) ? member(node, name) : NULL;
        p += len;
    }
    return node;
}

json_t *hs_schema_resolve(const struct hs_schema_walk *walk, json_t *node)
{
    for (int i = 0; i < HOPS_MAX; i++) {
        const char *ref = json_string_value(json_object_get(node, "$ref"));
        if (ref == NULL) {
            return node;
        }
        node = find_target(walk, ref);
    }
    return NULL;
}

static bool add_target(struct hs_schema_walk *walk, json_t *target)
{
    if (walk->n_targets == walk->cap_targets) {
        size_t cap = 2 * walk->cap_targets + 8;
        json_t **targets = hs_realloc_array(walk->targets, cap, sizeof(targets[0]));
        if (targets == NULL) {
            hs_schema_nomem(walk);
            return false;
        }
        walk->targets = targets;
        walk->cap_targets = cap;
    }
    walk->targets[walk->n_targets++] = target;
    return true;
}

/* Definitions get names of their own: the converter's rules would confuse "a_b" and "a-b". */
static json_t *convert_ref(struct hs_schema_walk *walk, json_t *node)
{
    const char *ref = json_string_value(json_object_get(node, "$ref"));
    if (ref == NULL) { /* it would lead to itself */
        return hs_schema_fail(walk, HS_INVALID_ARGUMENT, "$ref", "must be a string");
    }
    json_t *target = hs_schema_resolve(walk, node);
    if (target == NULL) {
        bool is_remote = ref[0] != '#';
        return hs_schema_fail(walk, HS_INVALID_ARGUMENT, "$ref",
                              is_remote ? "leads out of the schema"
                                        : "leads nowhere, or in a circle");
    }
    size_t i = 0;
    while (i < walk->n_targets && walk->targets[i] != target) {
        i++;
    }
    char name[48];
    snprintf(name, sizeof(name), "r%dx%zu", walk->use->number, i);
    if (i == walk->n_targets) {
        if (!add_target(walk, target)) {
            return NULL;
        }
        json_t *converted = hs_schema_convert_at(walk, "$ref", NULL, target, NULL);
        if (converted == NULL || !hs_schema_put(walk, walk->defs, name, converted)) {
            return NULL;
        }
    }
    json_t *to = json_object();
    if (to == NULL) {
        return hs_schema_nomem(walk);
    }
    char pointer[64];
    snprintf(pointer, sizeof(pointer), "#/$defs/%s", name);
    if (!hs_schema_put(walk, to, "$ref", json_string(pointer))) {
        json_decref(to);
        return NULL;
    }
    return to;
}

/* ---- keywords ---- */

static const char *const combinations[] = {"$ref", "allOf", "anyOf", "oneOf", "const", "enum"};

static const char *const unsupported[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "uniqueItems",
                                          "multipleOf",
                                          "dependencies",
                                          "propertyNames",
                                          "patternProperties",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "dependentRequired",
                                          "dependentSchemas",
                                          "unevaluatedItems",
                                          "unevaluatedProperties"};

/* Keywords by the type of value they are about. */
static const struct {
    const char *keyword, *type;
} typed[] = {
    {"properties", "object"},      {"required", "object"},      {"additionalProperties", "object"},
    {"minProperties", "object"},   {"maxProperties", "object"}, {"items", "array"},
    {"prefixItems", "array"},      {"minItems", "array"},       {"maxItems", "array"},
    {"pattern", "string"},         {"minLength", "string"},     {"maxLength", "string"},
    {"minimum", "number"},         {"maximum", "number"},       {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"}};
#define N_TYPED (sizeof(typed) / sizeof(typed[0]))

/* Written out, but without effect. */
static bool is_idle(const char *keyword, const json_t *value)
{
    bool is_empty = json_is_object(value) && json_object_size(value) == 0;
    return strcmp(keyword, "uniqueItems") == 0         ? json_is_false(value)
           : strcmp(keyword, "multipleOf") == 0        ? false
           : strncmp(keyword, "unevaluated", 11) == 0  ? json_is_true(value)
           : strncmp(keyword, "depend", 6) == 0        ? is_empty
           : strcmp(keyword, "patternProperties") == 0 ? is_empty
           : strcmp(keyword, "propertyNames") == 0     ? is_empty || json_is_true(value)
                                                       : false;
}

static bool check_unsupported(struct hs_schema_walk *walk, const json_t *node)
{
    for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
        const json_t *value = json_object_get(node, unsupported[i]);
        if (value != NULL && !is_idle(unsupported[i], value) &&
            !hs_schema_unsupported(walk, unsupported[i], NULL)) {
            return false;
        }
    }
    return true;
}

/* The converter looks at one of the combinations, and at nothing beside it. */
static bool check_alone(struct hs_schema_walk *walk, const json_t *node, const char *keyword,
                        bool takes_type)
{
    const char *other = NULL;
    for (size_t i = 0; i < sizeof(combinations) / sizeof(combinations[0]); i++) {
        if (strcmp(combinations[i], keyword) != 0 && json_object_get(node, combinations[i])) {
            other = combinations[i];
        }
    }
    for (size_t i = 0; i < N_TYPED; i++) {
        other = json_object_get(node, typed[i].keyword) ? typed[i].keyword : other;
    }
    if (!takes_type && json_object_get(node, "type")) {
        other = "type";
    }
    char why[96];
    snprintf(why, sizeof(why), "stands beside \"%s\"", keyword);
    return other == NULL || hs_schema_unsupported(walk, other, why);
}

/* ---- values that are listed ---- */

bool hs_schema_is_type(const json_t *value, const char *type)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return strcmp(type, "null") == 0;
    case JSON_TRUE:
    case JSON_FALSE:
        return strcmp(type, "boolean") == 0;
    case JSON_INTEGER:
        return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case JSON_REAL:
        return strcmp(type, "number") == 0;
    case JSON_STRING:
        return strcmp(type, "string") == 0;
    case JSON_ARRAY:
        return strcmp(type, "array") == 0;
    case JSON_OBJECT:
        break;
    }
    return strcmp(type, "object") == 0;
}

static bool fits_type(const json_t *value, const json_t *type, const char *outer)
{
    bool fits = type == NULL;
    if (json_is_string(type)) {
        fits = hs_schema_is_type(value, json_string_value(type));
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        const char *name = json_string_value(json_array_get(type, i));
        fits |= name != NULL && hs_schema_is_type(value, name);
    }
    return fits && (outer == NULL || hs_schema_is_type(value, outer));
}

static bool add_value(struct hs_schema_walk *walk, json_t *list, const json_t *node, json_t *value,
                      const char *outer)
{
    if (fits_type(value, json_object_get(node, "type"), outer) &&
        json_array_append(list, value) != 0) {
        hs_schema_nomem(walk);
        return false;
    }
    return true;
}

static json_t *convert_values(struct hs_schema_walk *walk, json_t *node, const char *keyword,
                              const char *outer)
{
    if (!check_alone(walk, node, keyword, true)) {
        return NULL;
    }
    json_t *values = json_object_get(node, keyword);
    json_t *to = json_object();
    json_t *list = json_array();
    bool ok = to != NULL && list != NULL;
    if (!ok) {
        hs_schema_nomem(walk);
    } else if (strcmp(keyword, "const") == 0) {
        ok = add_value(walk, list, node, values, outer);
    } else {
        for (size_t i = 0; ok && i < json_array_size(values); i++) {
            ok = add_value(walk, list, node, json_array_get(values, i), outer);
        }
    }
    if (ok && json_array_size(list) == 0) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, keyword, "has no value of the type");
        ok = false;
    }
    ok = ok && hs_schema_put(walk, to, "enum", json_incref(list));
    json_decref(list);
    if (!ok) {
        json_decref(to);
        return NULL;
    }
    return to;
}

/* ---- combinations ---- */

static bool check_overlap(struct hs_schema_walk *walk, json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        for (size_t k = 0; k < i; k++) {
            if (!hs_schema_disjoint(walk, json_array_get(list, i), json_array_get(list, k), 8)) {
                return hs_schema_unsupported(walk, "oneOf",
                                             "has alternatives that may fit at once; use anyOf");
            }
        }
    }
    return true;
}

static json_t *convert_alternatives(struct hs_schema_walk *walk, json_t *node, const char *keyword,
                                    const char *outer)
{
    json_t *list = json_object_get(node, keyword);
    const json_t *type = json_object_get(node, "type");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return hs_schema_fail(walk, HS_INVALID_ARGUMENT, keyword, "is not a list of schemas");
    }
    if (!check_alone(walk, node, keyword, json_is_string(type)) ||
        (strcmp(keyword, "oneOf") == 0 && !check_overlap(walk, list))) {
        return NULL;
    }
    outer = json_is_string(type) ? json_string_value(type) : outer;
    json_t *to = json_object();
    json_t *alternatives = json_array();
    bool ok = to != NULL && alternatives != NULL;
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        char index[24];
        snprintf(index, sizeof(index), "%zu", i);
        json_t *item = json_array_get(list, i);
        if (json_is_false(item)) {
            continue;
        }
        json_t *converted = hs_schema_convert_at(walk, keyword, index, item, outer);
        ok = converted != NULL && json_array_append_new(alternatives, converted) == 0;
    }
    ok = ok && json_object_set(to, "anyOf", alternatives) == 0;
    json_decref(alternatives);
    if (!ok) {
        json_decref(to);
        return hs_schema_nomem(walk);
    }
    return to;
}

/* Add properties and required of one schema of allOf to `to`. */
static bool merge_object(struct hs_schema_walk *walk, json_t *part, json_t *to, int depth)
{
    part = hs_schema_resolve(walk, part);
    const json_t *type = json_object_get(part, "type");
    bool is_object =
        type == NULL || (json_is_string(type) && strcmp(json_string_value(type), "object") == 0);
    const json_t *others = json_object_get(part, "additionalProperties");
    if (depth == 0 || walk->n_nodes++ >= HS_SCHEMA_NODES_MAX || !json_is_object(part) ||
        !is_object || (others != NULL && !json_is_true(others))) {
        return false;
    }
    const char *key;
    json_t *value;
    json_t *properties = json_object_get(to, "properties");
    json_object_foreach(json_object_get(part, "properties"), key, value)
    {
        json_t *known = json_object_get(properties, key);
        if ((known != NULL && !json_equal(known, value)) ||
            json_object_set(properties, key, value) != 0) {
            return false;
        }
    }
    json_t *required = json_object_get(part, "required");
    if (required != NULL && json_array_extend(json_object_get(to, "required"), required) != 0) {
        return false;
    }
    for (size_t i = 5; i < N_TYPED; i++) {
        if (json_object_get(part, typed[i].keyword)) {
            return false;
        }
    }
    if (json_object_get(part, "anyOf") || json_object_get(part, "oneOf") ||
        json_object_get(part, "const") || json_object_get(part, "enum")) {
        return false;
    }
    json_t *all = json_object_get(part, "allOf");
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (!merge_object(walk, json_array_get(all, i), to, depth - 1)) {
            return false;
        }
    }
    return true;
}

static bool has_assertion(const json_t *node)
{
    bool has = json_object_get(node, "type") != NULL;
    for (size_t i = 0; i < sizeof(combinations) / sizeof(combinations[0]); i++) {
        has |= strcmp(combinations[i], "allOf") != 0 && json_object_get(node, combinations[i]);
    }
    for (size_t i = 0; i < N_TYPED; i++) {
        has |= json_object_get(node, typed[i].keyword) != NULL;
    }
    return has;
}

static json_t *convert_all(struct hs_schema_walk *walk, json_t *node, const char *outer)
{
    json_t *list = json_object_get(node, "allOf");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return hs_schema_fail(walk, HS_INVALID_ARGUMENT, "allOf", "is not a list of schemas");
    }
    if (json_array_size(list) == 1 && !has_assertion(node)) {
        return hs_schema_convert_at(walk, "allOf", "0", json_array_get(list, 0), outer);
    }
    json_t *merged = json_pack("{s:s, s:{}, s:[]}", "type", "object", "properties", "required");
    if (merged == NULL || json_array_append_new(walk->merged, merged) != 0) {
        return hs_schema_nomem(walk);
    }
    if (!merge_object(walk, node, merged, 8)) {
        if (!hs_schema_unsupported(walk, "allOf", "has parts that cannot be made one object")) {
            return NULL;
        }
    }
    return hs_schema_convert_at(walk, "allOf", NULL, merged, NULL);
}

/* ---- the walk ---- */

/* The types a schema is about: what it says, else what its keywords are about. */
static bool find_types(struct hs_schema_walk *walk, const json_t *node, const char *outer,
                       const char *types[8], size_t *ret_n)
{
    const json_t *type = json_object_get(node, "type");
    size_t n = 0;
    bool are_texts = true;
    if (json_is_string(type)) {
        types[n++] = json_string_value(type);
    }
    for (size_t i = 0; i < json_array_size(type) && n < 8; i++) {
        types[n] = json_string_value(json_array_get(type, i));
        are_texts = are_texts && types[n++] != NULL;
    }
    if (type != NULL && (n == 0 || !are_texts)) {
        hs_schema_fail(walk, HS_INVALID_ARGUMENT, "type", "is not a type or a list of types");
        return false;
    }
    for (size_t i = 0; type == NULL && outer == NULL && i < N_TYPED; i++) {
        if (json_object_get(node, typed[i].keyword) &&
            (n == 0 || strcmp(types[n - 1], typed[i].type) != 0)) {
            types[n++] = typed[i].type;
        }
    }
    if (outer != NULL && type != NULL && (n != 1 || strcmp(types[0], outer) != 0) &&
        !hs_schema_unsupported(walk, "type", "differs from that of the schema around it")) {
        return false;
    }
    if (type == NULL && outer != NULL) {
        types[n++] = outer;
    }
    *ret_n = n;
    return true;
}

static json_t *convert_typed(struct hs_schema_walk *walk, json_t *node, const char *outer)
{
    const char *types[8];
    size_t n = 0;
    if (!find_types(walk, node, outer, types, &n)) {
        return NULL;
    }
    if (n == 1) {
        return hs_schema_convert_type(walk, node, types[0]);
    }
    json_t *to = json_object();
    json_t *list = json_array();
    bool ok = to != NULL && list != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        json_t *one = hs_schema_convert_type(walk, node, types[i]);
        ok = one != NULL && json_array_append_new(list, one) == 0;
    }
    ok = ok && (n == 0 || json_object_set(to, "anyOf", list) == 0);
    json_decref(list);
    if (!ok) {
        json_decref(to);
        return hs_schema_nomem(walk);
    }
    return to;
}

static json_t *convert_node(struct hs_schema_walk *walk, json_t *node, const char *outer)
{
    if (!check_unsupported(walk, node)) {
        return NULL;
    }
    if (json_object_get(node, "$ref")) {
        json_t *target = hs_schema_resolve(walk, node);
        const char *type = json_string_value(json_object_get(target, "type"));
        bool is_outer = outer == NULL || (type != NULL && strcmp(type, outer) == 0);
        return check_alone(walk, node, "$ref", false) &&
                       (is_outer || hs_schema_unsupported(walk, "$ref", "stands below a \"type\""))
                   ? convert_ref(walk, node)
                   : NULL;
    }
    if (json_object_get(node, "allOf")) {
        return convert_all(walk, node, outer);
    }
    if (json_object_get(node, "const")) {
        return convert_values(walk, node, "const", outer);
    }
    if (json_object_get(node, "enum")) {
        return convert_values(walk, node, "enum", outer);
    }
    if (json_object_get(node, "anyOf")) {
        return convert_alternatives(walk, node, "anyOf", outer);
    }
    if (json_object_get(node, "oneOf")) {
        return convert_alternatives(walk, node, "oneOf", outer);
    }
    return convert_typed(walk, node, outer);
}

json_t *hs_schema_convert(struct hs_schema_walk *walk, json_t *node, const char *type)
{
    if (json_is_true(node)) {
        json_t *any = json_object();
        return any != NULL ? any : hs_schema_nomem(walk);
    }
    if (!json_is_object(node)) {
        return hs_schema_fail(walk, HS_INVALID_ARGUMENT, json_is_false(node) ? "false" : "schema",
                              json_is_false(node) ? "allows nothing" : "is not an object");
    }
    if (walk->depth == HS_SCHEMA_DEPTH_MAX || walk->n_nodes >= HS_SCHEMA_NODES_MAX) {
        return hs_schema_fail(walk, HS_LIMIT, "schema",
                              walk->depth == HS_SCHEMA_DEPTH_MAX ? "nests too deeply"
                                                                 : "is one of too many");
    }
    walk->depth++;
    walk->n_nodes++;
    json_t *to = convert_node(walk, node, type);
    walk->depth--;
    return to;
}

static hs_status path_push(struct hs_buf *path, const char *name)
{
    hs_status status = hs_buf_append_str(path, "/");
    for (; *name && status == HS_OK; name++) {
        status = *name == '~'   ? hs_buf_append_str(path, "~0")
                 : *name == '/' ? hs_buf_append_str(path, "~1")
                                : hs_buf_append(path, name, 1);
    }
    return status;
}

json_t *hs_schema_convert_at(struct hs_schema_walk *walk, const char *key, const char *key2,
                             json_t *node, const char *type)
{
    size_t len = walk->path.len;
    hs_status status = path_push(&walk->path, key);
    if (status == HS_OK && key2 != NULL) {
        status = path_push(&walk->path, key2);
    }
    json_t *to = NULL;
    if (status == HS_LIMIT) {
        hs_schema_fail(walk, HS_LIMIT, key, "has too long names");
    } else if (status != HS_OK) {
        hs_schema_nomem(walk);
    } else {
        to = hs_schema_convert(walk, node, type);
    }
    if (walk->path.data != NULL) {
        walk->path.len = len;
        walk->path.data[len] = '\0';
    }
    return to;
}

static int write_out(const char *data, size_t len, void *user)
{
    return hs_buf_append(user, data, len) == HS_OK ? 0 : -1;
}

static json_t *convert_root(struct hs_schema_walk *walk)
{
    json_t *node = hs_schema_resolve(walk, walk->root);
    json_t *to = node == NULL ? hs_schema_fail(walk, HS_INVALID_ARGUMENT, "$ref",
                                               "leads nowhere, or in a circle")
                              : hs_schema_convert(walk, node, NULL);
    if (to == NULL) {
        return NULL;
    }
    bool is_free =
        json_object_size(to) == 0 && (walk->use->is_object || json_object_size(walk->root) == 0);
    bool ok = !is_free || hs_schema_put(walk, to, "type", json_string("object"));
    ok = ok && (json_object_size(walk->defs) == 0 ||
                hs_schema_put(walk, to, "$defs", json_incref(walk->defs)));
    if (!ok) {
        json_decref(to);
        return NULL;
    }
    return to;
}

static hs_status load(const char *schema, json_t **ret_root, struct hs_error *err)
{
    if (strlen(schema) > HS_SCHEMA_MAX_BYTES) {
        return hs_error_set(err, HS_LIMIT, "a JSON schema of %zu bytes; at most %zu are allowed",
                            strlen(schema), HS_SCHEMA_MAX_BYTES);
    }
    json_error_t error;
    hs_json_memory_watch();
    *ret_root = json_loads(schema, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (hs_json_memory_failed()) {
        json_decref(*ret_root);
        return hs_error_nomem(err, "JSON schema");
    }
    return *ret_root != NULL
               ? HS_OK
               : hs_error_set(err, HS_INVALID_ARGUMENT,
                              "the JSON schema is not valid JSON at line %d, column %d", error.line,
                              error.column);
}

hs_status hs_schema_check(const char *schema, const struct hs_schema_use *use, char **ret_schema,
                          struct hs_error *err)
{
    struct hs_schema_walk walk = {
        .use = use, .path = HS_BUF_INIT(PATH_MAX_BYTES), .err = err, .status = HS_OK};
    walk.status = load(schema, &walk.root, err);
    if (walk.status != HS_OK) {
        return walk.status;
    }
    walk.defs = json_object();
    walk.merged = json_array();
    json_t *to =
        walk.defs != NULL && walk.merged != NULL ? convert_root(&walk) : hs_schema_nomem(&walk);
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(OUT_MAX_BYTES);
    if (to != NULL &&
        json_dump_callback(to, write_out, &text, JSON_COMPACT | JSON_ENCODE_ANY) != 0) {
        hs_schema_nomem(&walk);
    }
    if (to != NULL && hs_json_memory_failed()) {
        hs_schema_nomem(&walk);
    }
    json_decref(to);
    json_decref(walk.defs);
    json_decref(walk.merged);
    json_decref(walk.root);
    hs_free(walk.targets);
    hs_buf_free(&walk.path);
    size_t len = 0;
    if (walk.status == HS_OK && hs_buf_take(&text, ret_schema, &len) != HS_OK) {
        walk.status = hs_error_nomem(err, "JSON schema");
    }
    return walk.status;
}
