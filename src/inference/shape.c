#include "shape.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "schema_check.h"
#include "storage/json_memory.h"

/* ---- a copy ---- */

struct hs_shape hs_shape_of(const struct hs_generate_params *params)
{
    return (struct hs_shape){
        .enable_thinking = params->enable_thinking,
        .continue_final = params->continue_final,
        .tools = params->tools,
        .n_tools = params->n_tools,
        .template_kwargs = params->template_kwargs,
    };
}

static bool copy_text(const char *from, const char **to)
{
    *to = hs_strdup(from);
    return from == NULL || *to != NULL;
}

hs_status hs_shape_copy(const struct hs_shape *from, struct hs_shape *to)
{
    struct hs_shape copy = *from;
    copy.tools = NULL;
    copy.n_tools = 0;
    struct hs_tool *tools = hs_calloc((size_t)from->n_tools, sizeof(tools[0]));
    bool is_whole = copy_text(from->template_kwargs, &copy.template_kwargs) && tools != NULL;
    copy.tools = tools;
    for (int32_t i = 0; is_whole && i < from->n_tools; i++) {
        copy.n_tools = i + 1;
        is_whole = copy_text(from->tools[i].name, &tools[i].name) &&
                   copy_text(from->tools[i].description, &tools[i].description) &&
                   copy_text(from->tools[i].parameters, &tools[i].parameters);
    }
    if (!is_whole) {
        hs_shape_free(&copy);
        return HS_OUT_OF_MEMORY;
    }
    *to = copy;
    return HS_OK;
}

void hs_shape_free(struct hs_shape *shape)
{
    for (int32_t i = 0; i < shape->n_tools; i++) {
        hs_free((char *)(uintptr_t)shape->tools[i].name);
        hs_free((char *)(uintptr_t)shape->tools[i].description);
        hs_free((char *)(uintptr_t)shape->tools[i].parameters);
    }
    hs_free((void *)(uintptr_t)shape->tools);
    hs_free((char *)(uintptr_t)shape->template_kwargs);
    *shape = (struct hs_shape){0};
}

/* ---- checks ---- */

static void json_freep(json_t **value)
{
    json_decref(*value);
}

static bool is_deeper(const json_t *value, int depth)
{
    if (depth == 0) {
        return true;
    }
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (is_deeper(member, depth - 1)) {
            return true;
        }
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (is_deeper(json_array_get(value, i), depth - 1)) {
            return true;
        }
    }
    return false;
}

/* A JSON object of bounded depth. */
static hs_status load_object(const char *text, const char *what, json_t **ret_object,
                             struct hs_error *err)
{
    hs_json_memory_watch();
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    hs_status status = HS_OK;
    if (hs_json_memory_failed()) {
        status = hs_error_nomem(err, what);
    } else if (!json_is_object(object)) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "%s is not a JSON object", what);
    } else if (is_deeper(object, HS_JSON_DEPTH_MAX)) {
        status = hs_error_set(err, HS_LIMIT, "%s nests deeper than %d", what, HS_JSON_DEPTH_MAX);
    }
    if (status != HS_OK) {
        json_decref(object);
        return status;
    }
    *ret_object = object;
    return HS_OK;
}

static hs_status check_object(const char *text, const char *what, struct hs_error *err)
{
    HS_CLEANUP(json_freep) json_t *object = NULL;
    return load_object(text, what, &object, err);
}

bool hs_shape_is_object(const char *text)
{
    return text != NULL && check_object(text, "it", NULL) == HS_OK;
}

static bool is_name(const char *name)
{
    size_t len = name == NULL ? 0 : strnlen(name, 65);
    return len >= 1 && len <= 64 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

static bool is_text(const char *text)
{
    return text == NULL || hs_utf8_valid(text, strlen(text));
}

static hs_status check_tool(const struct hs_generate_params *params, int32_t i, size_t *n_bytes,
                            struct hs_error *err)
{
    const struct hs_tool *tool = &params->tools[i];
    if (!is_name(tool->name)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "the name of tool %d is not valid", i);
        hs_error_hint(err, "a name has 1 to 64 of the characters A-Z a-z 0-9 _ . -");
        return HS_INVALID_ARGUMENT;
    }
    for (int32_t k = 0; k < i; k++) {
        if (strcmp(params->tools[k].name, tool->name) == 0) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "two tools have the name '%s'",
                                tool->name);
        }
    }
    if (!is_text(tool->description) || !is_text(tool->parameters)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "tool '%s' is not valid UTF-8", tool->name);
    }
    *n_bytes += (tool->description == NULL ? 0 : strlen(tool->description)) +
                (tool->parameters == NULL ? 0 : strlen(tool->parameters));
    if (*n_bytes > HS_TOOLS_MAX_BYTES) {
        return hs_error_set(err, HS_LIMIT, "the tools have more than %zu bytes of text",
                            HS_TOOLS_MAX_BYTES);
    }
    if (tool->parameters == NULL) {
        return HS_OK;
    }
    hs_status status = check_object(tool->parameters, "the schema of the parameters", err);
    if (status != HS_OK) {
        hs_error_prefix(err, "tool '%s'", tool->name);
    }
    return status;
}

static hs_status check_choice(const struct hs_generate_params *params, struct hs_error *err)
{
    if (params->tool_choice < HS_TOOL_CHOICE_AUTO ||
        params->tool_choice > HS_TOOL_CHOICE_REQUIRED) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "tool_choice %d is unknown",
                            (int)params->tool_choice);
    }
    if (params->tool_choice == HS_TOOL_CHOICE_REQUIRED && params->n_tools == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a tool must be called, but there is none");
    }
    if (params->tool_name == NULL) {
        return HS_OK;
    }
    if (params->tool_choice != HS_TOOL_CHOICE_REQUIRED) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a tool is named, but no call of it is required");
    }
    for (int32_t i = 0; i < params->n_tools; i++) {
        if (strcmp(params->tools[i].name, params->tool_name) == 0) {
            return HS_OK;
        }
    }
    return hs_error_set(err, HS_INVALID_ARGUMENT, "there is no tool '%.64s'", params->tool_name);
}

/* What the engine itself gives the template cannot be replaced. */
static hs_status check_kwargs(const char *kwargs, struct hs_error *err)
{
    static const char *const reserved[] = {"messages", "tools", "add_generation_prompt",
                                           "bos_token", "eos_token"};
    if (strlen(kwargs) > HS_KWARGS_MAX_BYTES) {
        return hs_error_set(err, HS_LIMIT, "the template's variables have more than %zu bytes",
                            HS_KWARGS_MAX_BYTES);
    }
    HS_CLEANUP(json_freep) json_t *object = NULL;
    hs_status status = load_object(kwargs, "the list of the template's variables", &object, err);
    for (size_t i = 0; status == HS_OK && i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (json_object_get(object, reserved[i]) != NULL) {
            status = hs_error_set(err, HS_INVALID_ARGUMENT,
                                  "the template's variable '%s' cannot be set", reserved[i]);
        }
    }
    return status;
}

static bool can_call(const struct hs_generate_params *params)
{
    return params->n_tools > 0 && params->tool_choice != HS_TOOL_CHOICE_NONE;
}

hs_status hs_shape_check(const struct hs_generate_params *params, struct hs_error *err)
{
    if (params->n_tools < 0 || (params->n_tools > 0 && params->tools == NULL)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "n_tools is %d without tools",
                            params->n_tools);
    }
    if (params->n_tools > HS_TOOLS_MAX) {
        return hs_error_set(err, HS_LIMIT, "%d tools are more than the limit of %d",
                            params->n_tools, HS_TOOLS_MAX);
    }
    hs_status status = HS_OK;
    size_t n_bytes = 0;
    for (int32_t i = 0; i < params->n_tools && status == HS_OK; i++) {
        status = check_tool(params, i, &n_bytes, err);
    }
    if (status == HS_OK) {
        status = check_choice(params, err);
    }
    if (status == HS_OK && params->template_kwargs != NULL) {
        status = check_kwargs(params->template_kwargs, err);
    }
    const char *grammar = params->sampling.grammar;
    if (status == HS_OK && grammar != NULL && grammar[0] != '\0' &&
        (params->json_schema != NULL || can_call(params))) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a grammar cannot be combined with tools or a JSON schema");
    }
    return status;
}

hs_status hs_shape_check_raw(const struct hs_generate_params *params, struct hs_error *err)
{
    if (params->n_tools > 0 || params->template_kwargs != NULL || params->continue_final) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "a prompt without a chat template has no tools, variables or messages");
        hs_error_hint(err, "ask with messages instead");
        return HS_INVALID_ARGUMENT;
    }
    return hs_shape_check(params, err);
}

/* ---- the format of the answer ---- */

struct schemas {
    char **tools; /* [n] */
    int32_t n;
    char *answer;
};

static void schemas_free(struct schemas *schemas)
{
    for (int32_t i = 0; i < schemas->n; i++) {
        hs_free(schemas->tools[i]);
    }
    hs_free(schemas->tools);
    hs_free(schemas->answer);
}

static hs_status convert_tools(const struct hs_generate_params *params, struct schemas *schemas,
                               struct hs_error *err)
{
    schemas->tools = hs_calloc((size_t)params->n_tools, sizeof(schemas->tools[0]));
    if (schemas->tools == NULL) {
        return hs_error_nomem(err, "tools");
    }
    hs_status status = HS_OK;
    for (int32_t i = 0; i < params->n_tools && status == HS_OK; i++) {
        const struct hs_tool *tool = &params->tools[i];
        bool is_used = params->tool_name == NULL || strcmp(params->tool_name, tool->name) == 0;
        struct hs_schema_use use = {
            .is_lenient = params->tool_choice != HS_TOOL_CHOICE_REQUIRED,
            .is_object = true,
            .number = i,
        };
        schemas->n = i + 1;
        if (is_used && tool->parameters != NULL) {
            status = hs_schema_check(tool->parameters, &use, &schemas->tools[i], err);
        }
        if (status != HS_OK) {
            hs_error_prefix(err, "tool '%s'", tool->name);
        }
    }
    return status;
}

hs_status hs_shape_format(const struct hs_model *model, const struct hs_generate_params *params,
                          const struct hs_message *messages, size_t n_messages,
                          hs_rt_format **ret_format, struct hs_error *err)
{
    *ret_format = NULL;
    if (!can_call(params) && params->json_schema == NULL) {
        return HS_OK;
    }
    HS_CLEANUP(schemas_free) struct schemas schemas = {0};
    hs_status status = convert_tools(params, &schemas, err);
    if (status == HS_OK && params->json_schema != NULL) {
        struct hs_schema_use use = {.number = params->n_tools};
        status = hs_schema_check(params->json_schema, &use, &schemas.answer, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_rt_template_params prompt = {
        .messages = messages,
        .n_messages = n_messages,
        .add_generation_prompt = true,
        .enable_thinking = params->enable_thinking,
        .continue_final = params->continue_final,
        .tools = params->tools,
        .n_tools = params->n_tools,
        .template_kwargs = params->template_kwargs,
        .chat_template = model->chat_template,
    };
    struct hs_rt_format_params format = {
        .tool_choice = params->tool_choice,
        .tool_name = params->tool_name,
        .parallel_tool_calls = params->parallel_tool_calls,
        .tool_schemas = (const char *const *)schemas.tools,
        .json_schema = schemas.answer,
    };
    return model->rt->format_new(model->rt_model, n_messages > 0 ? &prompt : NULL, &format,
                                 ret_format, err);
}
