/* ollama_models.c - what Ollama's clients ask of models: GET /api/tags, /api/ps, /api/version,
 * POST /api/show, and the endpoints that change models, which are not there. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "ollama_answer.h"
#include "served_models.h"

/* Clients look at it for what they may ask: the version of Ollama whose API this is. */
#define OLLAMA_VERSION "0.13.0"
#define NEVER "2318-01-01T00:00:00Z"

#define NAME_BYTES (HS_ID_MAX + sizeof HS_OLLAMA_TAG)

/* As Ollama lists it: with a tag. */
static void write_name(const struct hs_model_info *model, char ret_name[NAME_BYTES])
{
    bool has_tag = strchr(model->id, ':') != NULL;
    snprintf(ret_name, NAME_BYTES, "%s%s", model->id, has_tag ? "" : HS_OLLAMA_TAG);
}

/* "135M", "7.2B" as Ollama rounds it */
static void write_size(uint64_t n, char ret_text[24])
{
    double billions = (double)n / 1e9, millions = (double)n / 1e6;
    if (n >= UINT64_C(1000000000)) {
        snprintf(ret_text, 24, n % UINT64_C(1000000000) == 0 ? "%.0fB" : "%.1fB", billions);
    } else if (n >= UINT64_C(1000000)) {
        snprintf(ret_text, 24, n % UINT64_C(1000000) == 0 ? "%.0fM" : "%.2fM", millions);
    } else if (n >= UINT64_C(1000)) {
        snprintf(ret_text, 24, "%.0fK", (double)n / 1e3);
    } else {
        snprintf(ret_text, 24, "%d", (int)n);
    }
}

/* The description is "architecture size quantisation". */
static const char *quantization(const struct hs_model_info *model)
{
    const char *space = strchr(model->description, ' ');
    space = space == NULL ? NULL : strchr(space + 1, ' ');
    return space == NULL ? "unknown" : space + 1;
}

static json_t *details(const struct hs_model_info *model)
{
    char size[24];
    write_size(model->n_params, size);
    return json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s}", "parent_model", "", "format", "gguf",
                     "family", model->architecture, "families", model->architecture,
                     "parameter_size", size, "quantization_level", quantization(model));
}

static json_t *describe(const struct hs_rest *rest, const struct hs_model_info *model)
{
    char name[NAME_BYTES], time[HS_OLLAMA_TIME_BYTES];
    write_name(model, name);
    hs_ollama_time(rest->created_unix_s * 1000000000, time);
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "name", name, "model", name, "modified_at",
                     time, "size", (json_int_t)model->memory.weights_bytes, "digest",
                     model->fingerprint, "details", details(model));
}

/* When it is unloaded unless somebody uses it. */
static void write_expiry(const struct hs_rest *rest, const struct hs_model_info *model,
                         char ret_time[HS_OLLAMA_TIME_BYTES])
{
    struct hs_model_pool_status status = {.expires_ms = -1};
    if (rest->served != NULL &&
        hs_model_pool_get(hs_served_models_pool(rest->served), model->id, &status, NULL) != HS_OK) {
        status.expires_ms = -1;
    }
    if (status.expires_ms < 0) {
        memcpy(ret_time, NEVER, sizeof NEVER);
    } else {
        hs_ollama_time((hs_clock_unix_ms() + status.expires_ms) * 1000000, ret_time);
    }
}

static json_t *describe_running(const struct hs_rest *rest, const struct hs_model_info *model)
{
    json_t *json = describe(rest, model);
    const struct hs_memory *memory = &model->memory;
    char expires[HS_OLLAMA_TIME_BYTES];
    write_expiry(rest, model, expires);
    json_t *more =
        json_pack("{s:s, s:I, s:I, s:i}", "expires_at", expires, "size",
                  (json_int_t)(memory->weights_bytes + memory->kv_bytes + memory->compute_bytes),
                  "size_vram", (json_int_t)0, "context_length", (int)model->n_ctx);
    if (json == NULL || more == NULL || json_object_update(json, more) != 0) {
        json_decref(json);
        json = NULL;
    }
    json_decref(more);
    return json;
}

static void respond_list(hs_http_request *request, const struct hs_rest *rest, bool only_loaded,
                         json_t *(*one)(const struct hs_rest *rest,
                                        const struct hs_model_info *model))
{
    json_t *list = json_array();
    struct hs_model_info model;
    bool is_loaded = false;
    for (size_t i = 0; list != NULL && hs_served_model_info(rest, i, &model, &is_loaded); i++) {
        if ((is_loaded || !only_loaded) && json_array_append_new(list, one(rest, &model)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    hs_http_respond_json(request, 200, list == NULL ? NULL : json_pack("{s:o}", "models", list));
}

void hs_rest_ollama_tags(hs_http_request *request, void *user)
{
    struct hs_rest *rest = user;
    if (rest->served != NULL) {
        hs_served_models_sync(rest->served, false);
    }
    respond_list(request, rest, false, describe);
}

void hs_rest_ollama_ps(hs_http_request *request, void *user)
{
    respond_list(request, user, true, describe_running);
}

void hs_rest_ollama_version(hs_http_request *request, void *user)
{
    (void)user;
    hs_http_respond_json(
        request, 200,
        json_pack("{s:s, s:s}", "version", OLLAMA_VERSION, "hyprstream", hs_version()));
}

/* GGUF's keys, as Ollama shows them. */
static json_t *model_info(const struct hs_model_info *model)
{
    static const char *const names[] = {"context_length", "embedding_length", "block_count"};
    const int values[] = {(int)model->n_ctx_train, (int)model->n_embd, (int)model->n_layer};
    json_t *json = json_pack("{s:s, s:I}", "general.architecture", model->architecture,
                             "general.parameter_count", (json_int_t)model->n_params);
    for (size_t i = 0; i < sizeof names / sizeof names[0] && json != NULL; i++) {
        char key[96];
        snprintf(key, sizeof key, "%s.%s", model->architecture, names[i]);
        if (json_object_set_new(json, key, json_integer(values[i])) != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    return json;
}

/* A question as the template shows it; NULL: it cannot. */
static char *render(const struct hs_rest *rest, const struct hs_model_info *model, bool has_tool,
                    bool enable_thinking)
{
    static const struct hs_message question = {.role = "user", .content = "?"};
    static const struct hs_tool tool = {.name = "tool"};
    struct hs_generate_params params = rest->defaults;
    char *text = NULL;
    size_t len = 0;
    params.enable_thinking = enable_thinking;
    params.tools = &tool;
    params.n_tools = has_tool;
    struct hs_error ignored; /* what it cannot do is the answer */
    return hs_engine_render(rest->engine, model->id, &question, 1, &params, &text, &len,
                            &ignored) == HS_OK
               ? text
               : NULL;
}

/* Nobody says what a template can do, so it is tried. */
static json_t *capabilities(const struct hs_rest *rest, const struct hs_model_info *model)
{
    if (!model->can_generate) {
        return json_pack("[s]", "embedding");
    }
    char *with_tool = render(rest, model, true, true);
    char *thinking = render(rest, model, false, true);
    char *brief = render(rest, model, false, false);
    bool thinks = thinking != NULL && brief != NULL && strcmp(thinking, brief) != 0;
    json_t *json = json_pack("[s, s*, s*, s*]", "completion", model->can_infill ? "insert" : NULL,
                             with_tool != NULL ? "tools" : NULL, thinks ? "thinking" : NULL);
    hs_text_free(with_tool);
    hs_text_free(thinking);
    hs_text_free(brief);
    return json;
}

void hs_rest_ollama_show(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_ollama_open(rest, request, &fields, NULL);
    if (model == NULL) {
        return;
    }
    char time[HS_OLLAMA_TIME_BYTES];
    hs_ollama_time(rest->created_unix_s * 1000000000, time);
    hs_http_respond_json(request, 200,
                         json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "modelfile", "",
                                   "parameters", "", "template", "", "modified_at", time, "details",
                                   details(model), "model_info", model_info(model), "capabilities",
                                   capabilities(rest, model)));
}

void hs_rest_ollama_unavailable(hs_http_request *request, void *user)
{
    (void)user;
    hs_http_respond_error(
        request,
        &(struct hs_http_error){
            .status = 403,
            .message = "models are not changed over HTTP; use 'hyprstream model add' on the "
                       "server's machine and start it with --model"});
}
