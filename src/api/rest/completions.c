/* completions.c - POST /v1/completions: raw text or tokens, without a template. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "infill.h"
#include "json_quote.h"
#include "lora.h"
#include "openai_answer.h"
#include "shape.h"

/* ---- format ---- */

enum { TOKENS, TOKEN_LOGPROBS, TOP_LOGPROBS, TEXT_OFFSETS };

static size_t code_points(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return n;
}

static hs_status comma(struct hs_buf *out)
{
    return out->len > 0 ? hs_buf_append_str(out, ",") : HS_OK;
}

/* The token's text in quotes; *ret_n: its code points. */
static hs_status quote_token(const struct hs_generation *generation, int32_t token,
                             struct hs_buf *out, size_t *ret_n, struct hs_error *err)
{
    char *text = NULL;
    size_t len = 0;
    hs_status status = hs_generation_token_text(generation, token, &text, &len, err);
    if (status != HS_OK) {
        return status;
    }
    *ret_n = code_points(text, len);
    status = hs_json_quote(out, text, len);
    hs_text_free(text);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "logprobs");
}

struct name {
    size_t at, len; /* in quotes, in the list */
};

static bool is_given(const struct hs_buf *out, const struct name *names, size_t n,
                     const struct name *name)
{
    for (size_t i = 0; i < n; i++) {
        if (names[i].len == name->len &&
            memcmp(out->data + names[i].at, out->data + name->at, name->len) == 0) {
            return true;
        }
    }
    return false;
}

/* {"token": logprob, ...} of the likeliest ones; of tokens with the same text, such as parts of
 * characters, the likeliest, as an object has each name once. */
static hs_status add_top(const struct hs_generation *generation,
                         const struct hs_token_logprob *tops, struct hs_buf *out,
                         struct hs_error *err)
{
    struct name names[HS_REST_TOP_LOGPROBS_MAX];
    size_t n = 0;
    hs_status status = comma(out);
    status = status == HS_OK ? hs_buf_append_str(out, "{") : status;
    for (int32_t i = 0; i < generation->top_logprobs && status == HS_OK; i++) {
        size_t before = out->len, ignored;
        status = hs_buf_append_str(out, n == 0 ? "" : ",");
        names[n].at = out->len;
        status =
            status == HS_OK ? quote_token(generation, tops[i].token, out, &ignored, err) : status;
        names[n].len = out->len - names[n].at;
        if (status == HS_OK && is_given(out, names, n, &names[n])) {
            out->len = before;
            out->data[before] = '\0';
            continue;
        }
        n++;
        status = status == HS_OK ? hs_buf_append_str(out, ":") : status;
        status = status == HS_OK ? hs_generation_logprob(out, tops[i].logprob) : status;
    }
    return status == HS_OK ? hs_buf_append_str(out, "}") : status;
}

static hs_status add_token(struct hs_generation *generation, struct hs_choice *choice,
                           const struct hs_token_logprob *row, struct hs_error *err)
{
    struct hs_buf *lists = choice->logprobs;
    size_t n = 0;
    hs_status status = comma(&lists[TOKENS]);
    status =
        status == HS_OK ? quote_token(generation, row->token, &lists[TOKENS], &n, err) : status;
    status = status == HS_OK ? comma(&lists[TOKEN_LOGPROBS]) : status;
    status = status == HS_OK ? hs_generation_logprob(&lists[TOKEN_LOGPROBS], row->logprob) : status;
    status = status == HS_OK ? comma(&lists[TEXT_OFFSETS]) : status;
    status =
        status == HS_OK ? hs_buf_printf(&lists[TEXT_OFFSETS], "%zu", choice->text_offset) : status;
    choice->text_offset += n;
    return status == HS_OK ? add_top(generation, row + 1, &lists[TOP_LOGPROBS], err) : status;
}

static hs_status add_logprobs(struct hs_generation *generation, struct hs_choice *choice,
                              const struct hs_event *event, struct hs_error *err)
{
    size_t n_top = (size_t)generation->top_logprobs;
    size_t stride = 1 + (n_top > 0 ? n_top : 1);
    hs_error_clear(err);
    for (size_t t = 0; t < (size_t)event->n_tokens; t++) {
        hs_status status = add_token(generation, choice, event->logprobs + t * stride, err);
        if (status != HS_OK) {
            return err->status == HS_OK ? hs_error_nomem(err, "logprobs") : status;
        }
    }
    return HS_OK;
}

static hs_status write_logprobs(const struct hs_choice *choice, struct hs_buf *out)
{
    static const char *const names[] = {",\"logprobs\":{\"tokens\":[", "],\"token_logprobs\":[",
                                        "],\"top_logprobs\":[", "],\"text_offset\":["};
    if (choice->logprobs[TOKENS].len == 0) {
        return hs_buf_append_str(out, ",\"logprobs\":null");
    }
    hs_status status = HS_OK;
    for (size_t i = 0; i < 4 && status == HS_OK; i++) {
        status = hs_buf_append_str(out, names[i]);
        status = status == HS_OK ? hs_buf_append_str(out, choice->logprobs[i].data) : status;
    }
    return status == HS_OK ? hs_buf_append_str(out, "]}") : status;
}

static hs_status write_choice(const struct hs_choice *choice, size_t i, const char *before,
                              const char *text, size_t len, const char *finish, struct hs_buf *out)
{
    struct hs_buf whole HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(2 * (size_t)HS_ANSWER_TEXT_MAX);
    if (before != NULL) {
        hs_status status = hs_buf_append_str(&whole, before);
        status = status == HS_OK && len > 0 ? hs_buf_append(&whole, text, len) : status;
        if (status != HS_OK) {
            return status;
        }
        text = whole.data;
        len = whole.len;
    }
    hs_status status = hs_buf_printf(out, "{\"index\":%zu,\"text\":", i);
    status = status == HS_OK ? hs_json_quote(out, text, len) : status;
    status = status == HS_OK ? write_logprobs(choice, out) : status;
    return status == HS_OK ? hs_buf_printf(out, ",\"finish_reason\":%s}", finish) : status;
}

static hs_status write_first(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    static const struct hs_choice nothing;
    return write_choice(&nothing, i, generation->choices[i].echo, "", 0, "null", out);
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    return write_choice(&generation->choices[i], i, NULL, event->text, event->text_len, "null",
                        out);
}

static hs_status write_last(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[i];
    return write_choice(choice, i, NULL, "", 0, hs_openai_finish(choice), out);
}

static hs_status write_whole(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[i];
    return write_choice(choice, i, choice->echo, choice->text.data, choice->text.len,
                        hs_openai_finish(choice), out);
}

static const struct hs_openai_choices choices = {
    .object = "text_completion",
    .chunk_object = "text_completion",
    .event = write_event,
    .last = write_last,
    .whole = write_whole,
};

/* The same with a first chunk: the prompt. */
static const struct hs_openai_choices echo_choices = {
    .object = "text_completion",
    .chunk_object = "text_completion",
    .first = write_first,
    .event = write_event,
    .last = write_last,
    .whole = write_whole,
};

#define FORMAT(its_choices)                                                                        \
    {                                                                                              \
        .kind = HS_HTTP_SSE, .id_prefix = "cmpl-", .own = &(its_choices),                          \
        .logprobs = add_logprobs, .whole = hs_openai_whole, .event = hs_openai_event,              \
        .end = hs_openai_end                                                                       \
    }
static const struct hs_generation_format format = FORMAT(choices);
static const struct hs_generation_format echo_format = FORMAT(echo_choices);

/* ---- request ---- */

#define PROMPT_RULE                                                                                \
    "must be a string, or an array of strings, of token numbers or of arrays of token numbers"

struct prompts {
    const json_t *json;
    size_t n;
    bool is_list; /* of prompts; else json is the one prompt */
    bool echo;
    const char *suffix; /* what stands behind the gap to be filled; NULL: nothing */
};

/* Text, or token numbers of this model. */
static bool check_prompt(const struct hs_fields *fields, const json_t *prompt, int32_t n_vocab)
{
    if (json_is_string(prompt)) {
        return true;
    }
    size_t n = json_array_size(prompt);
    if (!json_is_array(prompt) || n == 0) {
        return hs_field_refuse(fields, "prompt", PROMPT_RULE);
    }
    for (size_t i = 0; i < n; i++) {
        if (hs_field_token(json_array_get(prompt, i), n_vocab) < 0) {
            return hs_field_refuse(fields, "prompt",
                                   "has something that is no token number from 0 to %d",
                                   (int)n_vocab - 1);
        }
    }
    return true;
}

/* An empty one asks for nothing. */
static bool read_suffix(const struct hs_model_info *model, const struct hs_fields *fields,
                        struct prompts *prompts)
{
    const char *suffix = NULL;
    if (!hs_field_string(fields, "suffix", &suffix)) {
        return false;
    }
    if (suffix == NULL || suffix[0] == '\0') {
        return true;
    }
    prompts->suffix = suffix;
    for (size_t i = 0; i < prompts->n; i++) {
        if (!json_is_string(prompts->is_list ? json_array_get(prompts->json, i) : prompts->json)) {
            return hs_field_refuse(fields, "suffix", "needs prompts that are strings");
        }
    }
    return hs_rest_infill_check(model, fields, "suffix");
}

static bool read_prompts(const struct hs_rest *rest, const struct hs_model_info *model,
                         const struct hs_fields *fields, int32_t n, struct prompts *ret)
{
    ret->json = hs_field_get(fields, "prompt");
    ret->is_list = json_is_array(ret->json) && !json_is_integer(json_array_get(ret->json, 0));
    ret->n = ret->is_list ? json_array_size(ret->json) : 1;
    if (ret->n > (size_t)(rest->max_choices / n)) {
        return hs_field_refuse(fields, "prompt",
                               "asks for %zu times %d answers; at most %d are allowed", ret->n,
                               (int)n, (int)rest->max_choices);
    }
    for (size_t i = 0; i < ret->n; i++) {
        const json_t *prompt = ret->is_list ? json_array_get(ret->json, i) : ret->json;
        if (!check_prompt(fields, prompt, model->n_vocab)) {
            return false;
        }
    }
    if (ret->n == 0) {
        return hs_field_refuse(fields, "prompt", PROMPT_RULE);
    }
    return hs_field_bool(fields, "echo", &ret->echo) && read_suffix(model, fields, ret);
}

static bool read_logprobs(const struct hs_fields *fields, struct hs_rest_settings *settings)
{
    int64_t top = -1;
    int64_t n_probs = 0; /* llama.cpp's name */
    bool is_off = json_is_false(hs_field_get(fields, "logprobs"));
    if ((!is_off && !hs_field_int(fields, "logprobs", 0, HS_REST_TOP_LOGPROBS_MAX, &top)) ||
        !hs_field_int(fields, "n_probs", 0, HS_REST_TOP_LOGPROBS_MAX, &n_probs)) {
        return false;
    }
    top = top < 0 && n_probs > 0 ? n_probs : top;
    if (top >= 0) {
        hs_rest_settings_set_logprobs(settings, (int32_t)top);
    }
    return true;
}

static bool read(const struct hs_rest *rest, const struct hs_model_info *model,
                 const struct hs_fields *fields, struct hs_rest_settings *settings,
                 struct prompts *prompts, struct hs_rest_conversation *schema)
{
    int64_t best_of = 0;
    if (!hs_rest_settings_read(rest, model, fields, settings) ||
        !read_prompts(rest, model, fields, settings->n, prompts) ||
        !read_logprobs(fields, settings) ||
        !hs_rest_format_read(fields, "response_format", HS_REST_CHAT, schema, &settings->params) ||
        !hs_rest_schema_read(fields, "json_schema", schema, &settings->params) ||
        !hs_field_int(fields, "best_of", 1, rest->max_choices, &best_of)) {
        return false;
    }
    if (best_of > settings->n) {
        return hs_field_refuse(fields, "best_of", "above n is not supported yet");
    }
    if (prompts->echo && settings->logprobs) {
        return hs_field_refuse(fields, "echo", "together with logprobs is not supported yet");
    }
    return true;
}

/* In memory of our own: hs_free. */
static hs_status tokens_of(const struct hs_rest *rest, const struct hs_model_info *model,
                           const json_t *prompt, const char *suffix, int32_t **ret_tokens,
                           size_t *ret_n, struct hs_error *err)
{
    int32_t *engines = NULL;
    size_t n = json_array_size(prompt);
    hs_status status = HS_OK;
    if (suffix != NULL) {
        const struct hs_infill gap = {.prefix = json_string_value(prompt), .suffix = suffix};
        status = hs_engine_infill_tokens(rest->engine, model->id, &gap, &engines, &n, err);
    } else if (json_is_string(prompt)) {
        status = hs_engine_tokenize(rest->engine, model->id, json_string_value(prompt),
                                    json_string_length(prompt), true, true, &engines, &n, err);
    }
    if (status != HS_OK) {
        return status;
    }
    int32_t *tokens = hs_calloc(n + 1, sizeof *tokens);
    for (size_t i = 0; tokens != NULL && i < n; i++) {
        tokens[i] =
            engines != NULL ? engines[i] : (int32_t)json_integer_value(json_array_get(prompt, i));
    }
    hs_tokens_free(engines);
    *ret_tokens = tokens;
    *ret_n = n;
    return tokens != NULL ? HS_OK : hs_error_nomem(err, "prompt");
}

static hs_status echo_of(const struct hs_generation *generation, const json_t *prompt,
                         const int32_t *tokens, size_t n_tokens, char **ret_echo,
                         struct hs_error *err)
{
    char *text = NULL;
    size_t len = 0;
    if (json_is_string(prompt)) {
        *ret_echo = hs_strdup(json_string_value(prompt));
        return *ret_echo != NULL ? HS_OK : hs_error_nomem(err, "prompt");
    }
    hs_status status = hs_engine_detokenize(generation->rest->engine, generation->model->id, tokens,
                                            n_tokens, false, &text, &len, err);
    if (status == HS_OK) {
        *ret_echo = hs_strndup(text, len);
        hs_text_free(text);
        status = *ret_echo != NULL ? HS_OK : hs_error_nomem(err, "prompt");
    }
    return status;
}

/* Every answer to one prompt. */
static hs_status start_prompt(struct hs_generation *generation, hs_http_request *request,
                              struct hs_rest_settings *settings, const struct prompts *prompts,
                              size_t p, struct hs_error *err)
{
    const json_t *prompt = prompts->is_list ? json_array_get(prompts->json, p) : prompts->json;
    int32_t *tokens = NULL;
    size_t n_tokens = 0;
    hs_status status = hs_rest_lora_route(generation->rest, generation->model, request,
                                          json_string_value(prompt), &settings->lora, err);
    if (status == HS_OK) {
        status = tokens_of(generation->rest, generation->model, prompt, prompts->suffix, &tokens,
                           &n_tokens, err);
    }
    for (int32_t i = 0; i < settings->n && status == HS_OK; i++) {
        struct hs_choice *choice = &generation->choices[p * (size_t)settings->n + (size_t)i];
        struct hs_generate_params params = hs_rest_settings_of(settings, i);
        if (prompts->echo) {
            status = echo_of(generation, prompt, tokens, n_tokens, &choice->echo, err);
        }
        if (status == HS_OK) {
            status = hs_engine_complete(generation->rest->engine, generation->model->id,
                                        settings->lora.refs, settings->lora.n, tokens, n_tokens,
                                        &params, &choice->stream, err);
        }
    }
    hs_free(tokens);
    return status;
}

static void start(const struct hs_rest *rest, const struct hs_model_info *model,
                  const struct hs_fields *fields, struct hs_rest_settings *settings,
                  const struct prompts *prompts, const struct hs_rest_conversation *schema)
{
    struct hs_generation *generation = NULL;
    struct hs_error err;
    hs_status status =
        hs_generation_new(prompts->echo ? &echo_format : &format, rest, model, fields->request,
                          settings, prompts->n * (size_t)settings->n, &generation, &err);
    for (size_t p = 0; p < prompts->n && status == HS_OK; p++) {
        status = start_prompt(generation, fields->request, settings, prompts, p, &err);
    }
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_shape_respond_failure(fields, HS_REST_CHAT, schema, &err, "prompt");
        return;
    }
    hs_generation_run(generation);
}

void hs_rest_completions(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    struct hs_rest_settings settings = {0};
    struct prompts prompts = {0};
    struct hs_rest_conversation schema; /* no messages: only the schema's text */
    hs_rest_conversation_init(&schema, rest, request);
    if (read(rest, model, &fields, &settings, &prompts, &schema)) {
        start(rest, model, &fields, &settings, &prompts, &schema);
    }
    hs_rest_conversation_free(&schema);
    hs_rest_settings_free(&settings);
}
