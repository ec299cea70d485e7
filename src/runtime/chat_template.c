/*
 * Messages to prompt text. Which template: the caller's override, the one given at load, the
 * model's own, else the plain one.
 *
 * Parsing a Jinja template costs about a millisecond, so each model keeps the parsed ones it used
 * last. llama-common's interpreter writes into the parsed program while it renders, hence one lock
 * around both.
 *
 * The plain template, for models that bring none:
 *
 *   <system text>
 *   (empty line)
 *   User: <text>
 *   Assistant: <text>
 *   User: <text>
 *   Assistant:
 *
 * Such models do not know where to stop: HS_RT_PLAIN_STOP, "\nUser:", is the stop string to use.
 * Reasoning of earlier answers is left out; tools it has none. What only Jinja templates can do is
 * refused with the others.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "template_scan.h"

#define CACHE_SIZE 4
#define TEMPLATE_MAX ((size_t)1 << 20)

struct cached_template {
    char *source;
    hs_cxx_template *parsed;
    uint64_t used; /* larger: later */
};

struct hs_chat_templates {
    pthread_mutex_t lock; /* guards all below, and rendering */
    struct cached_template slots[CACHE_SIZE];
    uint64_t clock;
};

hs_status hs_chat_templates_new(struct hs_chat_templates **ret_templates, struct hs_error *err)
{
    struct hs_chat_templates *templates = hs_calloc(1, sizeof(*templates));
    if (!templates) {
        return hs_error_nomem(err, "chat templates");
    }
    pthread_mutex_init(&templates->lock, NULL);
    *ret_templates = templates;
    return HS_OK;
}

static void slot_clear(struct cached_template *slot)
{
    hs_cxx_template_free(slot->parsed);
    hs_free(slot->source);
    *slot = (struct cached_template){0};
}

void hs_chat_templates_free(struct hs_chat_templates *templates)
{
    if (!templates) {
        return;
    }
    for (int i = 0; i < CACHE_SIZE; i++) {
        slot_clear(&templates->slots[i]);
    }
    pthread_mutex_destroy(&templates->lock);
    hs_free(templates);
}

/* The token's text; "" when there is no such token. */
static hs_status special_text(const hs_rt_model *model, int32_t token, struct hs_buf *text,
                              struct hs_error *err)
{
    return token < 0 ? hs_buf_append_str(text, "")
                     : hs_llama_token_piece(model, token, true, text, err);
}

static hs_status parse(const hs_rt_model *model, const char *source, struct cached_template *slot,
                       struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf bos = HS_BUF_INIT(TEMPLATE_MAX);
    HS_CLEANUP(hs_buf_free) struct hs_buf eos = HS_BUF_INIT(TEMPLATE_MAX);
    hs_status status = special_text(model, model->info.bos, &bos, err);
    if (status == HS_OK) {
        status = special_text(model, model->info.eos, &eos, err);
    }
    if (status != HS_OK) {
        return status;
    }
    char *copy = hs_strdup(source);
    if (!copy) {
        return hs_error_nomem(err, "chat template");
    }
    hs_cxx_template *parsed = NULL;
    status = hs_template_scan(source, err);
    if (status == HS_OK) {
        status = hs_cxx_template_new(source, bos.data ? bos.data : "", eos.data ? eos.data : "",
                                     &parsed, err);
    }
    if (status != HS_OK) {
        hs_free(copy);
        return status;
    }
    slot_clear(slot);
    slot->source = copy;
    slot->parsed = parsed;
    return HS_OK;
}

/* The parsed template, from the cache when it was used lately. The lock is held. */
static hs_status find_parsed(const hs_rt_model *model, const char *source,
                             hs_cxx_template **ret_parsed, struct hs_error *err)
{
    struct hs_chat_templates *templates = model->templates;
    struct cached_template *oldest = &templates->slots[0];
    for (int i = 0; i < CACHE_SIZE; i++) {
        struct cached_template *slot = &templates->slots[i];
        if (slot->source && strcmp(slot->source, source) == 0) {
            slot->used = ++templates->clock;
            *ret_parsed = slot->parsed;
            return HS_OK;
        }
        if (slot->used < oldest->used) {
            oldest = slot;
        }
    }
    hs_status status = parse(model, source, oldest, err);
    if (status == HS_OK) {
        oldest->used = ++templates->clock;
        *ret_parsed = oldest->parsed;
    }
    return status;
}

static hs_status render_jinja(const hs_rt_model *model, const char *source,
                              const struct hs_rt_template_params *params, struct hs_buf *text,
                              struct hs_rt_reasoning *ret_reasoning, struct hs_error *err)
{
    pthread_mutex_lock(&model->templates->lock);
    hs_cxx_template *parsed = NULL;
    hs_status status = find_parsed(model, source, &parsed, err);
    if (status == HS_OK) {
        status = hs_cxx_template_apply(parsed, params, text, ret_reasoning, err);
    }
    pthread_mutex_unlock(&model->templates->lock);
    return status;
}

/* Models may bring a second template for conversations with tools. */
static hs_status choose_source(const hs_rt_model *model, const struct hs_rt_template_params *params,
                               const char **ret_source, struct hs_error *err)
{
    const char *source = params->chat_template;
    if (!source) {
        source = model->chat_template;
    }
    if (!source && params->n_tools > 0) {
        source = llama_model_chat_template(model->llama, "tool_use");
    }
    if (!source) {
        source = llama_model_chat_template(model->llama, NULL);
    }
    if (source && strlen(source) > TEMPLATE_MAX) {
        return hs_error_set(err, HS_LIMIT, "a chat template of %zu bytes; at most %zu are allowed",
                            strlen(source), TEMPLATE_MAX);
    }
    *ret_source = source && *source ? source : NULL;
    return HS_OK;
}

static bool is_jinja(const char *source)
{
    return source && hs_cxx_has_templates();
}

static hs_status refuse_simple(const char *what, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_SUPPORTED, "the model has no chat template that can %s", what);
    hs_error_hint(err, "give it one with --chat-template-file");
    return HS_NOT_SUPPORTED;
}

hs_status hs_chat_format_new(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                             const struct hs_rt_format_params *params, hs_cxx_format **ret_format,
                             struct hs_error *err)
{
    const char *source = NULL;
    hs_status status = choose_source(model, prompt, &source, err);
    if (status != HS_OK) {
        return status;
    }
    if (!is_jinja(source)) {
        *ret_format = NULL;
        return prompt->n_tools > 0 ? refuse_simple("call tools", err) : HS_OK;
    }
    pthread_mutex_lock(&model->templates->lock);
    hs_cxx_template *parsed = NULL;
    status = find_parsed(model, source, &parsed, err);
    if (status == HS_OK) {
        status = hs_cxx_format_new(parsed, prompt, params, ret_format, err);
    }
    pthread_mutex_unlock(&model->templates->lock);
    return status;
}

/* Without llama-common: the templates that libllama knows by heart. */
static hs_status render_known(const char *source, const struct hs_rt_template_params *params,
                              struct hs_buf *text, struct hs_error *err)
{
    HS_CLEANUP(hs_freep)
    struct llama_chat_message *chat = hs_calloc(params->n_messages, sizeof(*chat));
    if (!chat) {
        return hs_error_nomem(err, "messages");
    }
    for (size_t i = 0; i < params->n_messages; i++) {
        chat[i].role = params->messages[i].role;
        chat[i].content = params->messages[i].content ? params->messages[i].content : "";
    }
    size_t most = text->max > text->len ? text->max - text->len : 0;
    size_t room = most < 4096 ? most : 4096;
    for (int round = 0; round < 2; round++) {
        hs_status status = hs_buf_reserve(text, room);
        if (status != HS_OK) {
            return hs_error_set(err, status, "the rendered prompt does not fit");
        }
        int32_t n = llama_chat_apply_template(source, chat, params->n_messages,
                                              params->add_generation_prompt, text->data + text->len,
                                              (int32_t)room);
        if (n < 0) {
            hs_error_set(err, HS_NOT_SUPPORTED,
                         "the model's chat template is not one that libllama knows");
            hs_error_hint(err, "build with llama-common, which interprets Jinja templates");
            return HS_NOT_SUPPORTED;
        }
        if ((size_t)n <= room) {
            text->len += (size_t)n;
            text->data[text->len] = '\0';
            return HS_OK;
        }
        room = (size_t)n;
    }
    return hs_error_set(err, HS_INTERNAL, "libllama asked twice for more room for a prompt");
}

static hs_status render_plain(const struct hs_rt_template_params *params, struct hs_buf *text,
                              struct hs_error *err)
{
    static const struct {
        const char *role, *prefix, *suffix;
    } roles[] = {
        {"system", "", "\n\n"},
        {"user", "User: ", "\n"},
        {"assistant", "Assistant: ", "\n"},
        {"tool", "Tool: ", "\n"},
    };
    hs_status status = HS_OK;
    for (size_t i = 0; i < params->n_messages && status == HS_OK; i++) {
        const struct hs_message *message = &params->messages[i];
        size_t r = 0;
        while (r < sizeof(roles) / sizeof(roles[0]) && strcmp(roles[r].role, message->role) != 0) {
            r++;
        }
        if (r == sizeof(roles) / sizeof(roles[0])) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "message %zu has an unknown role '%.32s'",
                                i, message->role);
        }
        status = hs_buf_printf(text, "%s%s%s", roles[r].prefix,
                               message->content ? message->content : "", roles[r].suffix);
    }
    if (status == HS_OK && params->add_generation_prompt && params->continue_final) {
        text->len--; /* the newline behind the last message */
        text->data[text->len] = '\0';
    } else if (status == HS_OK && params->add_generation_prompt) {
        status = hs_buf_append_str(text, "Assistant:");
    }
    return status == HS_OK ? HS_OK : hs_error_set(err, status, "the rendered prompt does not fit");
}

/* Put BOS in front when the model wants one and the template did not write it. */
static hs_status ensure_bos(const hs_rt_model *model, struct hs_buf *text, size_t start,
                            struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf bos = HS_BUF_INIT(TEMPLATE_MAX);
    hs_status status = special_text(model, model->info.bos, &bos, err);
    if (status != HS_OK) {
        return status;
    }
    size_t len = text->len - start;
    if (bos.len == 0 || (len >= bos.len && memcmp(text->data + start, bos.data, bos.len) == 0)) {
        return HS_OK;
    }
    status = hs_buf_reserve(text, bos.len);
    if (status != HS_OK) {
        return hs_error_set(err, status, "the rendered prompt does not fit");
    }
    memmove(text->data + start + bos.len, text->data + start, len + 1);
    memcpy(text->data + start, bos.data, bos.len);
    text->len += bos.len;
    return HS_OK;
}

hs_status hs_llama_render(const hs_rt_model *model, const struct hs_rt_template_params *params,
                          struct hs_buf *text, struct hs_rt_reasoning *ret_reasoning,
                          struct hs_error *err)
{
    const char *source = NULL;
    hs_status status = choose_source(model, params, &source, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_rt_reasoning reasoning = {0};
    size_t start = text->len;
    if (is_jinja(source)) {
        status = render_jinja(model, source, params, text, &reasoning, err);
    } else if (params->n_tools > 0) {
        status = refuse_simple("show tools", err);
    } else if (params->template_kwargs) {
        status = refuse_simple("take variables", err);
    } else if (!source) {
        status = render_plain(params, text, err);
    } else if (params->continue_final) {
        status = refuse_simple("leave the last message open", err);
    } else {
        status = render_known(source, params, text, err);
    }
    if (status == HS_OK) {
        status = hs_buf_append_str(text, "");
    }
    if (status == HS_OK && model->info.add_bos) {
        status = ensure_bos(model, text, start, err);
    }
    if (status != HS_OK) {
        text->len = start;
        if (text->data) {
            text->data[start] = '\0';
        }
        return status;
    }
    *ret_reasoning = reasoning;
    return HS_OK;
}
