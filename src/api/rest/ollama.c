/* ollama.c - POST /api/chat and /api/generate. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "infill.h"
#include "lora.h"
#include "ollama_answer.h"
#include "shape.h"

/* ---- chat ---- */

static void start_chat(const struct hs_fields *fields, const struct hs_rest *rest,
                       const struct hs_model_info *model, struct hs_ollama_request *asked)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    hs_status status =
        hs_rest_lora_route(rest, model, fields->request, hs_rest_lora_text(&asked->conversation),
                           &asked->settings.lora, &err);
    if (status == HS_OK) {
        status = hs_ollama_answer_new(rest, model, fields->request, asked, NULL, &generation, &err);
    }
    if (status == HS_OK) {
        status = hs_engine_chat(rest->engine, model->id, asked->settings.lora.refs,
                                asked->settings.lora.n, asked->conversation.messages,
                                asked->conversation.n_messages, &asked->settings.params,
                                &generation->choices[0].stream, &err);
    }
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_shape_respond_failure(fields, HS_REST_CHAT, &asked->conversation, &err, "messages");
        return;
    }
    hs_generation_run(generation);
}

void hs_rest_ollama_chat(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    struct hs_ollama_request asked HS_CLEANUP(hs_ollama_request_free) = {.is_unload = false};
    const struct hs_model_info *model = hs_ollama_open(rest, request, &fields, &asked.model_name);
    if (model == NULL || !hs_ollama_request_read(rest, model, &fields, &asked)) {
        return;
    }
    if (asked.conversation.n_messages == 0) {
        hs_ollama_respond_loaded(request, &asked, true);
        return;
    }
    start_chat(&fields, rest, model, &asked);
}

/* ---- generate ---- */

/* What the request says, and its prompt as tokens: the context's, then the prompt's. */
struct generate {
    struct hs_ollama_request asked;
    const char *prompt, *suffix; /* behind the gap that is to be filled; NULL: there is none */
    bool is_raw;
    struct hs_ollama_context context;
    bool has_context; /* the client gave one */
};

static void generate_free(struct generate *generate)
{
    hs_ollama_request_free(&generate->asked);
    hs_free(generate->context.tokens);
}

static bool read_context(const struct hs_fields *fields, const struct hs_model_info *model,
                         struct generate *ret)
{
    const json_t *list = hs_field_get(fields, "context");
    size_t n = json_array_size(list);
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "context", "must be an array of token numbers");
    }
    if (n == 0) {
        return true;
    }
    if (ret->is_raw || ret->suffix != NULL) {
        return hs_field_refuse(fields, "context", "excludes raw and suffix");
    }
    ret->context.tokens = hs_calloc(n, sizeof ret->context.tokens[0]);
    if (ret->context.tokens == NULL) {
        struct hs_error err;
        hs_error_nomem(&err, "context");
        hs_rest_respond_failure(fields->request, &err, NULL);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        ret->context.tokens[i] = hs_field_token(json_array_get(list, i), model->n_vocab);
        if (ret->context.tokens[i] < 0) {
            return hs_field_refuse(fields, "context", "must hold token numbers from 0 to %d",
                                   (int)model->n_vocab - 1);
        }
    }
    ret->context.n = n;
    ret->has_context = true;
    return true;
}

static bool read_suffix(const struct hs_fields *fields, const struct hs_model_info *model,
                        struct generate *ret)
{
    const char *suffix = "";
    if (!hs_field_string(fields, "suffix", &suffix)) {
        return false;
    }
    ret->suffix = *suffix == '\0' ? NULL : suffix;
    if (ret->suffix != NULL && ret->is_raw) {
        return hs_field_refuse(fields, "suffix", "and raw exclude each other");
    }
    return ret->suffix == NULL || hs_rest_infill_check(model, fields, "suffix");
}

static bool read_prompt(const struct hs_fields *fields, struct generate *ret)
{
    struct hs_rest_conversation *conversation = &ret->asked.conversation;
    const char *system = NULL;
    if (!hs_field_string(fields, "prompt", &ret->prompt) ||
        !hs_field_string(fields, "system", &system)) {
        return false;
    }
    if (system != NULL && *system != '\0') {
        struct hs_message *message = hs_rest_conversation_add(conversation, "system");
        if (message == NULL) {
            return false;
        }
        message->content = system;
    }
    struct hs_message *message = hs_rest_conversation_add(conversation, "user");
    if (message != NULL) {
        message->content = ret->prompt;
    }
    return message != NULL;
}

static bool read_generate(const struct hs_rest *rest, const struct hs_model_info *model,
                          const struct hs_fields *fields, struct generate *ret)
{
    static const struct hs_unsupported_field unsupported[] = {
        {"images", NULL}, {"template", NULL}, {"tools", NULL}, {"messages", NULL}};
    ret->prompt = "";
    return hs_fields_refuse_unsupported(fields, unsupported,
                                        sizeof unsupported / sizeof unsupported[0]) &&
           hs_ollama_request_read(rest, model, fields, &ret->asked) &&
           hs_field_bool(fields, "raw", &ret->is_raw) && read_suffix(fields, model, ret) &&
           read_context(fields, model, ret) && read_prompt(fields, ret);
}

/* The tokens of the prompt alone when it is raw or has a gap, else through the template. */
static hs_status tokenize_prompt(const struct hs_rest *rest, const struct hs_model_info *model,
                                 const struct generate *generate, int32_t **ret_tokens,
                                 size_t *ret_n, struct hs_error *err)
{
    const struct hs_rest_conversation *conversation = &generate->asked.conversation;
    if (generate->suffix != NULL) {
        const struct hs_infill gap = {.prefix = generate->prompt, .suffix = generate->suffix};
        return hs_engine_infill_tokens(rest->engine, model->id, &gap, ret_tokens, ret_n, err);
    }
    if (generate->is_raw) {
        return hs_engine_tokenize(rest->engine, model->id, generate->prompt,
                                  strlen(generate->prompt), true, true, ret_tokens, ret_n, err);
    }
    char *text = NULL;
    size_t len = 0;
    hs_status status =
        hs_engine_render(rest->engine, model->id, conversation->messages, conversation->n_messages,
                         &generate->asked.settings.params, &text, &len, err);
    if (status == HS_OK) {
        status = hs_engine_tokenize(rest->engine, model->id, text, len, false, true, ret_tokens,
                                    ret_n, err);
        hs_text_free(text);
    }
    return status;
}

/* Behind the context stands the prompt. */
static hs_status add_prompt(const struct hs_rest *rest, const struct hs_model_info *model,
                            struct generate *generate, struct hs_error *err)
{
    struct hs_ollama_context *context = &generate->context;
    int32_t *tokens = NULL;
    size_t n = 0;
    hs_status status = tokenize_prompt(rest, model, generate, &tokens, &n, err);
    if (status != HS_OK) {
        return status;
    }
    int32_t *all = hs_realloc_array(context->tokens, context->n + n + 1, sizeof *all);
    if (all != NULL) {
        memcpy(all + context->n, tokens, n * sizeof *all);
        context->tokens = all;
        context->n += n;
    }
    hs_tokens_free(tokens);
    return all == NULL ? hs_error_nomem(err, "prompt") : HS_OK;
}

/* Whether the answer goes on from tokens, which are no conversation that could be gone on with. */
static bool is_plain(const struct generate *generate)
{
    return generate->is_raw || generate->suffix != NULL;
}

/* Without a context the engine renders the prompt itself, and so knows where thinking begins. */
static hs_status submit(const struct hs_rest *rest, const struct hs_model_info *model,
                        const struct generate *generate, hs_stream **ret_stream,
                        struct hs_error *err)
{
    const struct hs_rest_conversation *conversation = &generate->asked.conversation;
    const struct hs_generate_params *params = &generate->asked.settings.params;
    const struct hs_rest_lora *lora = &generate->asked.settings.lora;
    if (is_plain(generate) || generate->has_context) {
        return hs_engine_complete(rest->engine, model->id, lora->refs, lora->n,
                                  generate->context.tokens, generate->context.n, params, ret_stream,
                                  err);
    }
    return hs_engine_chat(rest->engine, model->id, lora->refs, lora->n, conversation->messages,
                          conversation->n_messages, params, ret_stream, err);
}

static void start_generate(const struct hs_fields *fields, const struct hs_rest *rest,
                           const struct hs_model_info *model, struct generate *generate)
{
    struct hs_generation *generation = NULL;
    hs_stream *stream = NULL;
    struct hs_error err;
    hs_status status = add_prompt(rest, model, generate, &err);
    if (status == HS_OK) {
        status = hs_rest_lora_route(rest, model, fields->request,
                                    hs_rest_lora_text(&generate->asked.conversation),
                                    &generate->asked.settings.lora, &err);
    }
    status = status == HS_OK ? submit(rest, model, generate, &stream, &err) : status;
    if (status == HS_OK) {
        if (is_plain(generate)) {
            hs_free(generate->context.tokens);
            generate->context = (struct hs_ollama_context){0};
        }
        struct hs_ollama_context context = generate->context;
        generate->context = (struct hs_ollama_context){0};
        status = hs_ollama_answer_new(rest, model, fields->request, &generate->asked, &context,
                                      &generation, &err);
    }
    if (status != HS_OK) {
        hs_stream_free(stream);
        hs_rest_shape_respond_failure(fields, HS_REST_CHAT, &generate->asked.conversation, &err,
                                      "prompt");
        return;
    }
    generation->choices[0].stream = stream;
    hs_generation_run(generation);
}

void hs_rest_ollama_generate(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    struct generate generate HS_CLEANUP(generate_free) = {.is_raw = false};
    const struct hs_model_info *model =
        hs_ollama_open(rest, request, &fields, &generate.asked.model_name);
    if (model == NULL || !read_generate(rest, model, &fields, &generate)) {
        return;
    }
    if (*generate.prompt == '\0' && generate.suffix == NULL) {
        hs_ollama_respond_loaded(request, &generate.asked, false);
        return;
    }
    start_generate(&fields, rest, model, &generate);
}
