/* anthropic.c - POST /v1/messages and /v1/messages/count_tokens. */
#include <stdio.h>
#include <string.h>

#include "anthropic_answer.h"
#include "anthropic_request.h"
#include "api/command.h"
#include "base/error.h"
#include "base/mem.h"
#include "lora.h"

/* The header may be left out. */
static bool check_version(hs_http_request *request)
{
    const char *version = hs_http_request_header(request, "anthropic-version");
    if (version == NULL || hs_command_list_has(HS_ANTHROPIC_VERSIONS, version)) {
        return true;
    }
    hs_http_respond_bad_param(
        request, "anthropic-version",
        "the header anthropic-version must be one of: " HS_ANTHROPIC_VERSIONS);
    return false;
}

static const struct hs_model_info *open_request(const struct hs_rest *rest,
                                                hs_http_request *request, struct hs_fields *fields)
{
    return check_version(request) ? hs_rest_open(rest, request, fields) : NULL;
}

static void start(const struct hs_rest *rest, const struct hs_model_info *model,
                  hs_http_request *request, struct hs_anthropic_request *asked)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    hs_status status = hs_rest_lora_route(
        rest, model, request, hs_rest_lora_text(&asked->conversation), &asked->settings.lora, &err);
    if (status == HS_OK) {
        status = hs_anthropic_answer_new(rest, model, request, &asked->settings,
                                         asked->omits_thinking, &generation, &err);
    }
    if (status == HS_OK) {
        status = hs_engine_chat(rest->engine, model->id, asked->settings.lora.refs,
                                asked->settings.lora.n, asked->conversation.messages,
                                asked->conversation.n_messages, &asked->settings.params,
                                &generation->choices[0].stream, &err);
    }
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_respond_failure(request, &err, "messages");
        return;
    }
    hs_generation_run(generation);
}

void hs_rest_anthropic_messages(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = open_request(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    struct hs_anthropic_request asked HS_CLEANUP(hs_anthropic_request_free) = {.omits_thinking =
                                                                                   false};
    if (hs_anthropic_request_read(rest, model, &fields, false, &asked)) {
        start(rest, model, request, &asked);
    }
}

/* The tokens of the prompt that the engine would make of it. */
static hs_status count(const struct hs_rest *rest, const struct hs_model_info *model,
                       const struct hs_anthropic_request *asked, size_t *ret_n,
                       struct hs_error *err)
{
    char *text = NULL;
    size_t len = 0;
    hs_status status =
        hs_engine_render(rest->engine, model->id, asked->conversation.messages,
                         asked->conversation.n_messages, &asked->settings.params, &text, &len, err);
    if (status != HS_OK) {
        return status;
    }
    int32_t *tokens = NULL;
    status =
        hs_engine_tokenize(rest->engine, model->id, text, len, false, true, &tokens, ret_n, err);
    hs_text_free(text);
    if (status == HS_OK) {
        hs_tokens_free(tokens);
    }
    return status;
}

void hs_rest_anthropic_count_tokens(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = open_request(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    struct hs_anthropic_request asked HS_CLEANUP(hs_anthropic_request_free) = {.omits_thinking =
                                                                                   false};
    if (!hs_anthropic_request_read(rest, model, &fields, true, &asked)) {
        return;
    }
    struct hs_error err;
    size_t n = 0;
    if (count(rest, model, &asked, &n, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, "messages");
        return;
    }
    hs_http_respond_json(request, 200, json_pack("{s:I}", "input_tokens", (json_int_t)n));
}
