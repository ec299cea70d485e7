#include "shape.h"

#include <stdio.h>
#include <string.h>

/* ---- tools ---- */

/* One element of "tools" or of the allowed ones: the fields of the function itself. */
static bool open_function(const struct hs_fields *fields, enum hs_rest_dialect dialect, char *path,
                          size_t size, struct hs_fields *ret)
{
    const char *type = NULL;
    if (!hs_field_string(fields, "type", &type)) {
        return false;
    }
    if (type == NULL || strcmp(type, "function") != 0) {
        return hs_field_refuse(fields, "type",
                               "must be \"function\"; other kinds of tools are not there");
    }
    if (dialect == HS_REST_RESPONSES) {
        *ret = *fields;
        return true;
    }
    if (!hs_field_object(fields, "function", path, size, ret)) {
        return false;
    }
    return ret->object != NULL || hs_field_refuse(fields, "function", "is missing");
}

/* Element i of a list of tools: its function. `paths` holds both paths. */
struct element {
    char path[128], function_path[160];
    struct hs_fields function;
};

static bool open_element(const struct hs_fields *fields, const char *name, size_t i,
                         enum hs_rest_dialect dialect, struct element *ret)
{
    snprintf(ret->path, sizeof ret->path, "%s%s[%zu].", fields->path, name, i);
    struct hs_fields item = {fields->request, json_array_get(hs_field_get(fields, name), i),
                             ret->path};
    if (!json_is_object(item.object)) {
        return hs_field_refuse(fields, name, "must hold objects");
    }
    return open_function(&item, dialect, ret->function_path, sizeof ret->function_path,
                         &ret->function);
}

static bool open_list(const struct hs_fields *fields, const char *name,
                      const struct hs_rest_conversation *conversation, size_t *ret_n)
{
    const json_t *list = hs_field_get(fields, name);
    *ret_n = json_array_size(list);
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, name, "must be an array");
    }
    return hs_rest_conversation_check_tools(conversation, fields, name, *ret_n);
}

static bool read_tools(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                       struct hs_rest_conversation *conversation)
{
    size_t n = 0;
    if (!open_list(fields, "tools", conversation, &n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct element element;
        bool strict = false; /* or not: arguments always fit the schema */
        if (!open_element(fields, "tools", i, dialect, &element) ||
            !hs_field_bool(&element.function, "strict", &strict) ||
            !hs_rest_conversation_add_tool(conversation, &element.function, "parameters")) {
            return false;
        }
    }
    return true;
}

/* ---- the choice among them ---- */

/* The index of the tool that the field "name" names. */
static bool find_tool(const struct hs_fields *fields,
                      const struct hs_rest_conversation *conversation, size_t *ret_i)
{
    const char *name = NULL;
    if (!hs_field_string(fields, "name", &name)) {
        return false;
    }
    if (name == NULL) {
        return hs_field_refuse(fields, "name", "is missing");
    }
    const struct hs_tool *tool = hs_rest_conversation_tool(conversation, name);
    if (tool == NULL) {
        return hs_field_refuse(fields, "name", "'%.64s' is none of the tools", name);
    }
    *ret_i = (size_t)(tool - conversation->tools);
    return true;
}

/* {"mode", "tools"}: the tools that are not among these are left out. */
static bool read_allowed(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                         struct hs_rest_conversation *conversation,
                         struct hs_generate_params *params)
{
    const char *mode = NULL;
    size_t n = 0, n_allowed = 0;
    if (!hs_field_string(fields, "mode", &mode) || !open_list(fields, "tools", conversation, &n)) {
        return false;
    }
    if (mode == NULL || (strcmp(mode, "auto") != 0 && strcmp(mode, "required") != 0)) {
        return hs_field_refuse(fields, "mode", "must be \"auto\" or \"required\"");
    }
    for (size_t i = 0; i < n; i++) {
        struct element element;
        size_t at = 0;
        if (!open_element(fields, "tools", i, dialect, &element) ||
            !find_tool(&element.function, conversation, &at)) {
            return false;
        }
        if (at >= n_allowed) { /* not named before */
            struct hs_tool tool = conversation->tools[at];
            memmove(conversation->tools + n_allowed + 1, conversation->tools + n_allowed,
                    (at - n_allowed) * sizeof tool);
            conversation->tools[n_allowed++] = tool;
        }
    }
    conversation->n_tools = n_allowed;
    bool is_required = strcmp(mode, "required") == 0;
    if (n_allowed == 0) {
        return hs_field_refuse(fields, "tools", "must name at least one of the tools");
    }
    params->tool_choice = is_required ? HS_TOOL_CHOICE_REQUIRED : HS_TOOL_CHOICE_AUTO;
    return true;
}

static bool read_choice_object(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                               struct hs_rest_conversation *conversation,
                               struct hs_generate_params *params)
{
    char path[64], inner[96];
    struct hs_fields choice, allowed;
    const char *type = NULL;
    if (!hs_field_object(fields, "tool_choice", path, sizeof path, &choice) ||
        !hs_field_string(&choice, "type", &type)) {
        return false;
    }
    if (type != NULL && strcmp(type, "allowed_tools") == 0) {
        allowed = choice;
        if (dialect == HS_REST_CHAT &&
            !hs_field_object(&choice, "allowed_tools", inner, sizeof inner, &allowed)) {
            return false;
        }
        return read_allowed(&allowed, dialect, conversation, params);
    }
    struct hs_fields function;
    size_t at = 0;
    if (!open_function(&choice, dialect, inner, sizeof inner, &function) ||
        !find_tool(&function, conversation, &at)) {
        return false;
    }
    params->tool_choice = HS_TOOL_CHOICE_REQUIRED;
    params->tool_name = conversation->tools[at].name;
    return true;
}

static bool read_choice(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                        struct hs_rest_conversation *conversation,
                        struct hs_generate_params *params)
{
    const json_t *json = hs_field_get(fields, "tool_choice");
    const char *word = json_string_value(json);
    params->tool_choice = HS_TOOL_CHOICE_AUTO;
    params->tool_name = NULL;
    if (json == NULL || (word != NULL && strcmp(word, "auto") == 0)) {
        return true;
    }
    if (word != NULL && strcmp(word, "none") == 0) {
        params->tool_choice = HS_TOOL_CHOICE_NONE;
        return true;
    }
    bool is_required = word != NULL && strcmp(word, "required") == 0;
    if (!is_required && !json_is_object(json)) {
        return hs_field_refuse(fields, "tool_choice",
                               "must be \"auto\", \"none\", \"required\" or an object");
    }
    if (conversation->n_tools == 0) {
        return hs_field_refuse(fields, "tool_choice", "needs tools");
    }
    if (is_required) {
        params->tool_choice = HS_TOOL_CHOICE_REQUIRED;
        return true;
    }
    return read_choice_object(fields, dialect, conversation, params);
}

bool hs_rest_tools_read(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                        struct hs_rest_conversation *conversation,
                        struct hs_generate_params *params)
{
    params->parallel_tool_calls = true;
    if (!read_tools(fields, dialect, conversation) ||
        !hs_field_bool(fields, "parallel_tool_calls", &params->parallel_tool_calls) ||
        !read_choice(fields, dialect, conversation, params)) {
        return false;
    }
    params->tools = conversation->tools;
    params->n_tools = (int32_t)conversation->n_tools;
    return true;
}

/* ---- JSON ---- */

bool hs_rest_schema_read(const struct hs_fields *fields, const char *name,
                         struct hs_rest_conversation *conversation,
                         struct hs_generate_params *params)
{
    const json_t *schema = hs_field_get(fields, name);
    if (schema == NULL) {
        return true;
    }
    if (!json_is_object(schema)) {
        return hs_field_refuse(fields, name, "must be a JSON Schema, an object");
    }
    if (params->sampling.grammar != NULL) {
        return hs_field_refuse(fields, name, "and grammar cannot be enforced together");
    }
    params->json_schema = hs_rest_conversation_json(conversation, schema);
    if (params->json_schema == NULL) {
        return false;
    }
    snprintf(conversation->schema_field, sizeof conversation->schema_field, "%s%s", fields->path,
             name);
    size_t len = strlen(params->json_schema), max = conversation->rest->max_schema_bytes;
    return len <= max ||
           hs_field_refuse(fields, name, "has %zu bytes; at most %zu are allowed", len, max);
}

/* {"name", "strict", "schema"} */
static bool read_named_schema(const struct hs_fields *fields,
                              struct hs_rest_conversation *conversation,
                              struct hs_generate_params *params)
{
    const char *name = NULL;
    bool strict = true; /* or not: the answer always fits the schema */
    if (!hs_field_string(fields, "name", &name) || !hs_field_bool(fields, "strict", &strict)) {
        return false;
    }
    if (name == NULL || *name == '\0') {
        return hs_field_refuse(fields, "name", "is missing");
    }
    if (hs_field_get(fields, "schema") == NULL) {
        return hs_field_refuse(fields, "schema", "is missing");
    }
    return hs_rest_schema_read(fields, "schema", conversation, params);
}

bool hs_rest_format_read(const struct hs_fields *fields, const char *name,
                         enum hs_rest_dialect dialect, struct hs_rest_conversation *conversation,
                         struct hs_generate_params *params)
{
    char path[64], inner[96];
    struct hs_fields format, schema;
    const char *type = NULL;
    if (!hs_field_object(fields, name, path, sizeof path, &format) ||
        !hs_field_string(&format, "type", &type)) {
        return false;
    }
    if (format.object == NULL || (type != NULL && strcmp(type, "text") == 0)) {
        return true;
    }
    if (type != NULL && strcmp(type, "json_object") == 0) {
        if (params->sampling.grammar != NULL) {
            return hs_field_refuse(fields, name, "and grammar cannot be enforced together");
        }
        params->json_schema = "{\"type\":\"object\"}";
        return hs_rest_schema_read(&format, "schema", conversation, params);
    }
    if (type == NULL || strcmp(type, "json_schema") != 0) {
        return hs_field_refuse(&format, "type",
                               "must be \"text\", \"json_object\" or \"json_schema\"");
    }
    if (dialect == HS_REST_RESPONSES) {
        return read_named_schema(&format, conversation, params);
    }
    if (!hs_field_object(&format, "json_schema", inner, sizeof inner, &schema)) {
        return false;
    }
    if (schema.object == NULL) {
        return hs_field_refuse(&format, "json_schema", "is missing");
    }
    return read_named_schema(&schema, conversation, params);
}

/* ---- refused by the engine ---- */

/* Whether the message is about this tool: the engine then begins it so. */
static bool is_about(const struct hs_error *err, const char *name)
{
    char start[96];
    snprintf(start, sizeof start, "tool '%s'", name);
    return strncmp(err->message, start, strlen(start)) == 0;
}

/* The field of the schema that the engine refused; false: it refused something else. */
static bool find_refused(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                         const struct hs_rest_conversation *conversation,
                         const struct hs_error *err, char *ret_param, size_t size)
{
    const json_t *list = hs_field_get(fields, "tools");
    bool is_chat = dialect == HS_REST_CHAT;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *tool = json_array_get(list, i);
        tool = is_chat ? json_object_get(tool, "function") : tool;
        if (is_about(err, json_string_value(json_object_get(tool, "name")))) {
            snprintf(ret_param, size, "tools[%zu].%sparameters", i, is_chat ? "function." : "");
            return true;
        }
    }
    snprintf(ret_param, size, "%s", conversation->schema_field);
    return ret_param[0] != '\0' && strstr(err->message, "JSON schema") != NULL;
}

void hs_rest_shape_respond_failure(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                                   const struct hs_rest_conversation *conversation,
                                   const struct hs_error *err, const char *prompt)
{
    char param[128];
    bool is_the_clients = err->status == HS_INVALID_ARGUMENT || err->status == HS_LIMIT ||
                          err->status == HS_NOT_SUPPORTED;
    if (is_the_clients && find_refused(fields, dialect, conversation, err, param, sizeof param)) {
        bool has_hint = err->hint[0] != '\0';
        hs_http_respond_bad_param(fields->request, param, "%s: %s%s%s", param, err->message,
                                  has_hint ? "; " : "", err->hint);
        return;
    }
    hs_rest_respond_failure(fields->request, err, prompt);
}
