/* openapi.c - the description of the routes (OpenAPI 3.1) from the table that serves them. */
#include <string.h>

#include "api/http.h"
#include "base/error.h"
#include "route.h"

#define PATH_MAX_BYTES 512

/* A reference to a named schema. */
static json_t *schema_ref(const char *name)
{
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", name));
}

static json_t *content_of(const char *type, json_t *schema)
{
    return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *success(const struct hs_http_route *route)
{
    static const struct {
        unsigned bit;
        const char *type;
    } types[] = {
        {HS_HTTP_GIVES_JSON, "application/json"},
        {HS_HTTP_GIVES_SSE, "text/event-stream"},
        {HS_HTTP_GIVES_NDJSON, "application/x-ndjson"},
        {HS_HTTP_GIVES_TEXT, "text/plain"},
        {HS_HTTP_GIVES_HTML, "text/html"},
        {HS_HTTP_GIVES_CSV, "text/csv"},
        {HS_HTTP_GIVES_ARROW, "application/vnd.apache.arrow.stream"},
    };
    unsigned gives = route->gives == 0 ? HS_HTTP_GIVES_JSON : route->gives;
    json_t *content = json_object();
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        bool is_json = types[i].bit == HS_HTTP_GIVES_JSON;
        if ((gives & types[i].bit) != 0) {
            json_t *schema = json_object();
            if (is_json) {
                json_decref(schema);
                schema = route->response_schema != NULL ? schema_ref(route->response_schema)
                                                        : json_pack("{s:s}", "type", "object");
            }
            json_object_set_new(content, types[i].type, json_pack("{s:o}", "schema", schema));
        }
    }
    return json_pack("{s:s, s:o}", "description", "success", "content", content);
}

static json_t *error_answer(const char *description, const char *schema)
{
    return json_pack("{s:s, s:o}", "description", description, "content",
                     content_of("application/json", schema_ref(schema)));
}

static json_t *responses(const struct hs_http_route *route)
{
    static const char *const schemas[] = {"HttpError", "HttpErrorAnthropic", "HttpErrorOllama"};
    const char *schema = schemas[route->errors];
    json_t *all = json_pack(
        "{s:o, s:o, s:o}", (route->gives & HS_HTTP_CREATES) != 0 ? "201" : "200", success(route),
        "4XX", error_answer("the request was refused; `message` says why", schema), "5XX",
        error_answer("the server could not answer", schema));
    return all;
}

/* Parameters of the path, and the path as OpenAPI writes it, without '+'. */
static json_t *parameters(const char *path, char ret_path[PATH_MAX_BYTES])
{
    json_t *list = json_array();
    size_t len = 0;
    for (const char *p = path; *p != '\0' && len + 1 < PATH_MAX_BYTES; p++) {
        if (*p == '+' && p[1] == '}') {
            continue;
        }
        ret_path[len++] = *p;
        if (*p == '{') {
            size_t n = strcspn(p + 1, "+}");
            json_array_append_new(list,
                                  json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", p + 1, n, "in",
                                            "path", "required", 1, "schema", "type", "string"));
        }
    }
    ret_path[len] = '\0';
    return list;
}

/* "post_v1_chat_completions" */
static json_t *operation_id(const struct hs_http_route *route)
{
    char text[PATH_MAX_BYTES];
    size_t len = 0;
    for (const char *p = hs_http_method_name(route->method); *p != '\0'; p++) {
        text[len++] = (char)(*p | 0x20);
    }
    for (const char *p = route->path; *p != '\0' && len + 1 < sizeof text; p++) {
        bool is_word = strchr("/-.{}+", *p) == NULL;
        if (is_word || text[len - 1] != '_') {
            text[len++] = is_word ? *p : '_';
        }
    }
    while (text[len - 1] == '_') {
        len--;
    }
    return json_stringn(text, len);
}

static json_t *operation(const struct hs_http_route *route, json_t *params)
{
    json_t *op = json_pack("{s:o, s:s, s:o, s:o}", "operationId", operation_id(route), "summary",
                           route->summary == NULL ? "" : route->summary, "responses",
                           responses(route), "parameters", params);
    if (route->tag != NULL) {
        json_object_set_new(op, "tags", json_pack("[s]", route->tag));
    }
    if (route->request_schema != NULL) {
        json_object_set_new(
            op, "requestBody",
            json_pack("{s:b, s:o}", "required", 1, "content",
                      content_of("application/json", schema_ref(route->request_schema))));
    }
    if (route->scope != 0) {
        json_object_set_new(op, "security", json_pack("[{s:[]}, {s:[]}]", "bearer", "apiKey"));
    } else {
        json_object_set_new(op, "security", json_array());
    }
    return op;
}

static json_t *paths(const struct hs_http_config *config)
{
    json_t *all = json_object();
    for (size_t i = 0; i < config->n_routes; i++) {
        const struct hs_http_route *route = &config->routes[i];
        char path[PATH_MAX_BYTES], method[8] = "";
        json_t *params = parameters(route->path, path);
        json_t *item = json_object_get(all, path);
        if (item == NULL) {
            json_object_set_new(all, path, json_object());
            item = json_object_get(all, path);
        }
        const char *name = hs_http_method_name(route->method);
        for (size_t k = 0; name[k] != '\0'; k++) {
            method[k] = (char)(name[k] | 0x20);
        }
        json_object_set_new(item, method, operation(route, params));
    }
    return all;
}

static json_t *error_schemas(void)
{
    const char *text = "type", *string = "string", *object = "object";
    json_t *nullable = json_pack("{s:[s, s]}", text, string, "null");
    json_t *openai =
        json_pack("{s:s, s:[s], s:{s:{s:s, s:[s, s], s:{s:{s:s}, s:{s:s}, s:O, s:O}}}}", text,
                  object, "required", "error", "properties", "error", text, object, "required",
                  "message", "type", "properties", "message", text, string, "type", text, string,
                  "param", nullable, "code", nullable);
    json_decref(nullable);
    json_t *anthropic = json_pack(
        "{s:s, s:[s, s], s:{s:{s:s}, s:{s:s}, s:{s:s, s:{s:{s:s}, s:{s:s}}}}}", text, object,
        "required", "type", "error", "properties", "type", text, string, "request_id", text, string,
        "error", text, object, "properties", "type", text, string, "message", text, string);
    json_t *ollama = json_pack("{s:s, s:[s], s:{s:{s:s}}}", text, object, "required", "error",
                               "properties", "error", text, string);
    return json_pack("{s:o, s:o, s:o}", "HttpError", openai, "HttpErrorAnthropic", anthropic,
                     "HttpErrorOllama", ollama);
}

static bool holds(const json_t *list, const char *text)
{
    bool found = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *value = json_string_value(json_array_get(list, i));
        found = found || (value != NULL && strcmp(value, text) == 0);
    }
    return found;
}

static void allow_null(json_t *schema)
{
    json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");
    if (json_is_string(type)) {
        json_object_set_new(schema, "type", json_pack("[s, s]", json_string_value(type), "null"));
    } else if (json_is_array(type) && !holds(type, "null")) {
        json_array_append_new(type, json_string("null"));
    }
    if (values != NULL) {
        json_array_append_new(values, json_null());
    }
}

/* A field that is null counts as left out: what a request need not have may be null. */
static void allow_null_fields(json_t *schema)
{
    const json_t *required = json_object_get(schema, "required");
    const char *name;
    json_t *field;
    json_object_foreach(json_object_get(schema, "properties"), name, field)
    {
        if (!holds(required, name)) {
            allow_null(field);
        }
        allow_null_fields(field);
    }
    json_t *items = json_object_get(schema, "items");
    if (items != NULL) {
        allow_null_fields(items);
    }
}

static hs_status components(const struct hs_http_config *config, json_t **ret, struct hs_error *err)
{
    json_t *schemas = error_schemas();
    if (config->openapi.schemas != NULL) {
        json_error_t why;
        json_t *own = json_loads(config->openapi.schemas, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(own)) {
            json_decref(own);
            json_decref(schemas);
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "the API's schemas are no JSON object: line %d, column %d",
                                why.line, why.column);
        }
        for (size_t i = 0; i < config->n_routes; i++) {
            const char *name = config->routes[i].request_schema;
            json_t *request = name == NULL ? NULL : json_object_get(own, name);
            /* routes share schemas: once is enough */
            if (request != NULL && json_object_get(schemas, name) == NULL) {
                allow_null_fields(request);
                json_object_set(schemas, name, request);
            }
        }
        json_object_update(schemas, own);
        json_decref(own);
    }
    *ret = json_pack("{s:o, s:{s:{s:s, s:s}, s:{s:s, s:s, s:s}}}", "schemas", schemas,
                     "securitySchemes", "bearer", "type", "http", "scheme", "bearer", "apiKey",
                     "type", "apiKey", "in", "header", "name", "x-api-key");
    return HS_OK;
}

/* Every schema that a route names must be there. */
static hs_status check_names(const struct hs_http_config *config, const json_t *schemas,
                             struct hs_error *err)
{
    for (size_t i = 0; i < config->n_routes; i++) {
        const char *names[] = {config->routes[i].request_schema, config->routes[i].response_schema};
        for (size_t k = 0; k < 2; k++) {
            if (names[k] != NULL && json_object_get(schemas, names[k]) == NULL) {
                return hs_error_set(err, HS_INVALID_ARGUMENT, "route %s names no schema: '%s'",
                                    config->routes[i].path, names[k]);
            }
        }
    }
    return HS_OK;
}

hs_status hs_http_openapi(const struct hs_http_config *config, struct hs_buf *out,
                          struct hs_error *err)
{
    json_t *parts = NULL;
    hs_status status = components(config, &parts, err);
    if (status == HS_OK) {
        status = check_names(config, json_object_get(parts, "schemas"), err);
    }
    if (status != HS_OK) {
        json_decref(parts);
        return status;
    }
    const char *title = config->openapi.title, *version = config->openapi.version;
    const char *description = config->openapi.description;
    json_t *root = json_pack(
        "{s:s, s:{s:s, s:s, s:s}, s:o, s:o}", "openapi", "3.1.0", "info", "title",
        title == NULL ? "" : title, "version", version == NULL ? "0" : version, "description",
        description == NULL ? "" : description, "paths", paths(config), "components", parts);
    char *text = root == NULL ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    status =
        text == NULL ? hs_error_nomem(err, "the API's description") : hs_buf_append_str(out, text);
    free(text);
    return status;
}
