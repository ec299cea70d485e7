#include "prompt.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define PROMPT_MAX_BYTES ((size_t)1 << 30)
/* After a drop this part of the context is free, so that the next turns keep their prefix. */
#define FREE_AFTER_DROP(n_ctx) ((n_ctx) / 4)

/* ---- conversations ---- */

static void free_text(const char *text)
{
    hs_free((char *)(uintptr_t)text);
}

void hs_message_free(struct hs_message *message)
{
    if (message == NULL) {
        return;
    }
    free_text(message->role);
    free_text(message->content);
    free_text(message->reasoning);
    for (int32_t i = 0; i < message->n_tool_calls; i++) {
        free_text(message->tool_calls[i].id);
        free_text(message->tool_calls[i].name);
        free_text(message->tool_calls[i].arguments);
    }
    hs_free((void *)(uintptr_t)message->tool_calls);
    free_text(message->tool_call_id);
    free_text(message->name);
    *message = (struct hs_message){0};
}

static bool copy_text(const char *from, const char **to)
{
    *to = hs_strdup(from);
    return from == NULL || *to != NULL;
}

static bool copy_calls(const struct hs_message *from, struct hs_message *to)
{
    if (from->n_tool_calls == 0) {
        return true;
    }
    struct hs_tool_call *calls = hs_calloc((size_t)from->n_tool_calls, sizeof(calls[0]));
    to->tool_calls = calls;
    for (int32_t i = 0; calls != NULL && i < from->n_tool_calls; i++) {
        const struct hs_tool_call *call = &from->tool_calls[i];
        to->n_tool_calls = i + 1;
        if (!copy_text(call->id, &calls[i].id) || !copy_text(call->name, &calls[i].name) ||
            !copy_text(call->arguments, &calls[i].arguments)) {
            return false;
        }
    }
    return calls != NULL;
}

hs_status hs_message_copy(const struct hs_message *from, struct hs_message *to)
{
    struct hs_message copy = {0};
    if (!copy_text(from->role, &copy.role) ||
        !copy_text(from->content == NULL ? "" : from->content, &copy.content) ||
        !copy_text(from->reasoning, &copy.reasoning) ||
        !copy_text(from->tool_call_id, &copy.tool_call_id) || !copy_text(from->name, &copy.name) ||
        !copy_calls(from, &copy)) {
        hs_message_free(&copy);
        return HS_OUT_OF_MEMORY;
    }
    *to = copy;
    return HS_OK;
}

void hs_conversation_truncate(struct hs_conversation *conversation, size_t n)
{
    while (conversation->n > n) {
        hs_message_free(&conversation->messages[--conversation->n]);
    }
}

void hs_conversation_free(struct hs_conversation *conversation)
{
    hs_conversation_truncate(conversation, 0);
    hs_free(conversation->messages);
    *conversation = (struct hs_conversation){0};
}

hs_status hs_conversation_append(struct hs_conversation *conversation,
                                 const struct hs_message *message)
{
    if (conversation->n == conversation->cap) {
        size_t cap = conversation->cap * 2 + 8;
        struct hs_message *messages =
            hs_realloc_array(conversation->messages, cap, sizeof(messages[0]));
        if (messages == NULL) {
            return HS_OUT_OF_MEMORY;
        }
        conversation->messages = messages;
        conversation->cap = cap;
    }
    hs_status status = hs_message_copy(message, &conversation->messages[conversation->n]);
    if (status == HS_OK) {
        conversation->n++;
    }
    return status;
}

hs_status hs_conversation_copy(const struct hs_message *messages, size_t n,
                               struct hs_conversation *ret_conversation)
{
    struct hs_conversation conversation = {0};
    for (size_t i = 0; i < n; i++) {
        if (hs_conversation_append(&conversation, &messages[i]) != HS_OK) {
            hs_conversation_free(&conversation);
            return HS_OUT_OF_MEMORY;
        }
    }
    *ret_conversation = conversation;
    return HS_OK;
}

/* ---- one rendering ---- */

hs_status hs_prompt_render(const struct hs_model *model, const struct hs_message *messages,
                           size_t n_messages, const struct hs_shape *shape,
                           bool add_generation_prompt, struct hs_buf *text,
                           struct hs_rt_reasoning *ret_reasoning, struct hs_error *err)
{
    struct hs_rt_template_params params = {
        .messages = messages,
        .n_messages = n_messages,
        .add_generation_prompt = add_generation_prompt,
        .enable_thinking = shape->enable_thinking,
        .continue_final = shape->continue_final,
        .tools = shape->tools,
        .n_tools = shape->n_tools,
        .template_kwargs = shape->template_kwargs,
        .chat_template = model->chat_template,
    };
    return model->rt->render(model->rt_model, &params, text, ret_reasoning, err);
}

static hs_status render_tokens(const struct hs_model *model, const struct hs_message *messages,
                               size_t n_messages, const struct hs_shape *shape,
                               bool add_generation_prompt, struct hs_buf *tokens,
                               struct hs_rt_reasoning *reasoning, struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(PROMPT_MAX_BYTES);
    hs_status status = hs_prompt_render(model, messages, n_messages, shape, add_generation_prompt,
                                        &text, reasoning, err);
    if (status != HS_OK) {
        return status;
    }
    return model->rt->tokenize(model->rt_model, text.data == NULL ? "" : text.data, text.len, false,
                               true, tokens, err);
}

void hs_prompt_free(struct hs_prompt *prompt)
{
    hs_free(prompt->tokens);
    *prompt = (struct hs_prompt){0};
}

hs_status hs_prompt_check_length(const struct hs_model *model, size_t n_tokens,
                                 struct hs_error *err)
{
    size_t n_ctx = hs_model_n_ctx(model);
    if (n_tokens < n_ctx) {
        return HS_OK;
    }
    hs_error_set(err, HS_CONTEXT_FULL,
                 "the prompt has %zu tokens; the context of %zu leaves room for %zu", n_tokens,
                 n_ctx, n_ctx - 1);
    int32_t n_ctx_train = model->info.n_ctx_train;
    if (n_ctx_train > 0 && n_tokens >= (size_t)n_ctx_train) {
        hs_error_hint(err, "shorten the prompt; the model itself takes %d tokens", n_ctx_train);
    } else {
        hs_error_hint(err, "shorten the prompt, or load the model with --ctx-size %zu or more",
                      n_tokens + n_tokens / 4 + 64);
    }
    return HS_CONTEXT_FULL;
}

hs_status hs_prompt_check_tokens(const struct hs_model *model, const int32_t *tokens,
                                 size_t n_tokens, struct hs_error *err)
{
    for (size_t i = 0; i < n_tokens; i++) {
        if (tokens[i] < 0 || tokens[i] >= model->info.n_vocab) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "token %d at position %zu is outside the vocabulary of %d",
                                tokens[i], i, model->info.n_vocab);
        }
    }
    return HS_OK;
}

static bool is_text(const char *text)
{
    return text == NULL || hs_utf8_valid(text, strlen(text));
}

static bool is_role(const struct hs_message *message, const char *role)
{
    return message->role != NULL && strcmp(message->role, role) == 0;
}

static hs_status check_calls(const struct hs_message *message, size_t i, struct hs_error *err)
{
    if (message->n_tool_calls < 0 ||
        (message->n_tool_calls > 0 &&
         (message->tool_calls == NULL || !is_role(message, "assistant")))) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "message %zu has tool calls, but only the assistant makes them", i);
    }
    if (message->n_tool_calls > HS_CALLS_MAX) {
        return hs_error_set(err, HS_LIMIT, "message %zu has %d tool calls, more than %d", i,
                            message->n_tool_calls, HS_CALLS_MAX);
    }
    for (int32_t k = 0; k < message->n_tool_calls; k++) {
        const struct hs_tool_call *call = &message->tool_calls[k];
        if (call->id == NULL || call->name == NULL || call->name[0] == '\0') {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "tool call %d of message %zu has no id or name", k, i);
        }
        if (!is_text(call->id) || !is_text(call->name) || !hs_shape_is_object(call->arguments)) {
            return hs_error_set(
                err, HS_INVALID_ARGUMENT,
                "the arguments of tool call %d of message %zu are not a JSON object", k, i);
        }
    }
    return HS_OK;
}

hs_status hs_prompt_check_messages(const struct hs_message *messages, size_t n_messages,
                                   bool continue_final, struct hs_error *err)
{
    for (size_t i = 0; i < n_messages; i++) {
        const struct hs_message *message = &messages[i];
        if (message->role == NULL || message->role[0] == '\0' || message->content == NULL) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "message %zu has no role or content", i);
        }
        if (!is_text(message->role) || !is_text(message->content) || !is_text(message->reasoning) ||
            !is_text(message->tool_call_id) || !is_text(message->name)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "message %zu is not valid UTF-8", i);
        }
        hs_status status = check_calls(message, i, err);
        if (status != HS_OK) {
            return status;
        }
    }
    const struct hs_message *last = n_messages > 0 ? &messages[n_messages - 1] : NULL;
    if (continue_final && (last == NULL || !is_role(last, "assistant") || last->n_tool_calls > 0)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "only a last message of the assistant without tool calls can go on");
    }
    return HS_OK;
}

/* ---- dropping turns ---- */

/* What of a conversation goes into the context: the system messages and [start, n). */
struct window {
    const struct hs_message *messages;
    size_t n_messages;
    size_t n_system;
    size_t start;
};

static bool is_system(const struct hs_message *message)
{
    return is_role(message, "system") || is_role(message, "developer");
}

/* Index of the k-th user message at or after the window's start, k >= 1; n_messages: none. */
static size_t window_turn(const struct window *window, size_t k)
{
    for (size_t i = window->start + 1; i < window->n_messages; i++) {
        if (is_role(&window->messages[i], "user") && --k == 0) {
            return i;
        }
    }
    return window->n_messages;
}

static size_t window_count_turns(const struct window *window)
{
    size_t n = 0;
    while (window_turn(window, n + 1) < window->n_messages) {
        n++;
    }
    return n;
}

static hs_status window_tokens(const struct hs_model *model, const struct window *window,
                               size_t start, const struct hs_shape *shape, struct hs_buf *tokens,
                               struct hs_rt_reasoning *reasoning, struct hs_error *err)
{
    hs_buf_clear(tokens);
    size_t n = window->n_system + window->n_messages - start;
    HS_CLEANUP(hs_freep) struct hs_message *view = hs_alloc((n + 1) * sizeof(view[0]));
    if (view == NULL) {
        return hs_error_nomem(err, "list of messages");
    }
    for (size_t i = 0; i < n; i++) {
        view[i] = window->messages[i < window->n_system ? i : i - window->n_system + start];
    }
    return render_tokens(model, view, n, shape, true, tokens, reasoning, err);
}

/*
 * Find the fewest turns to drop so that the prompt takes at most `target` tokens, by bisection:
 * rendering and tokenizing is the costly part. All but the last turn go when even that is too much.
 */
static hs_status drop_turns(const struct hs_model *model, const struct hs_prompt_params *params,
                            const struct window *window, size_t target, struct hs_buf *tokens,
                            struct hs_rt_reasoning *reasoning, size_t *ret_start,
                            struct hs_error *err)
{
    size_t low = 1;
    size_t high = window_count_turns(window);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        hs_status status = window_tokens(model, window, window_turn(window, middle), &params->shape,
                                         tokens, reasoning, err);
        if (status != HS_OK) {
            return status;
        }
        if (tokens->len / sizeof(int32_t) <= target) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    *ret_start = window_turn(window, low);
    return window_tokens(model, window, *ret_start, &params->shape, tokens, reasoning, err);
}

static hs_status fit_window(const struct hs_model *model, const struct hs_prompt_params *params,
                            struct window *window, struct hs_buf *tokens,
                            struct hs_rt_reasoning *reasoning, struct hs_error *err)
{
    size_t n_ctx = hs_model_n_ctx(model);
    hs_status status =
        window_tokens(model, window, window->start, &params->shape, tokens, reasoning, err);
    size_t n_tokens = tokens->len / sizeof(int32_t) + params->n_generated;
    if (status != HS_OK || n_tokens < n_ctx || params->overflow != HS_OVERFLOW_SHIFT ||
        window_count_turns(window) == 0) {
        return status;
    }
    size_t room = n_ctx - FREE_AFTER_DROP(n_ctx);
    size_t target = room > params->n_generated ? room - params->n_generated : 0;
    return drop_turns(model, params, window, target, tokens, reasoning, &window->start, err);
}

/*
 * Checkpoints: where the last user message begins (an edited or repeated question) and where the
 * messages end before the generation prompt (the next turn, whatever the template makes of the
 * answer). Found by rendering less and comparing tokens.
 */
static hs_status find_checkpoints(const struct hs_model *model,
                                  const struct hs_prompt_params *params,
                                  const struct window *window, struct hs_prompt *prompt)
{
    size_t n_view = window->n_system + window->n_messages - window->start;
    size_t last_user = window->n_messages;
    while (last_user > window->start && !is_role(&window->messages[last_user - 1], "user")) {
        last_user--;
    }
    size_t ends[2] = {
        last_user > window->start ? window->n_system + last_user - 1 - window->start : 0, n_view};
    HS_CLEANUP(hs_freep) struct hs_message *view = hs_alloc((n_view + 1) * sizeof(view[0]));
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(PROMPT_MAX_BYTES);
    if (view == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < n_view; i++) {
        view[i] = window->messages[i < window->n_system ? i : i - window->n_system + window->start];
    }
    for (int k = 0; k < 2; k++) {
        struct hs_rt_reasoning reasoning;
        hs_buf_clear(&tokens);
        /* Some templates refuse a conversation that ends there: then there is no checkpoint. */
        if (ends[k] > 0 && render_tokens(model, view, ends[k], &params->shape, false, &tokens,
                                         &reasoning, NULL) == HS_OK) {
            size_t n =
                hs_tokens_common((const int32_t *)(const void *)tokens.data,
                                 tokens.len / sizeof(int32_t), prompt->tokens, prompt->n_tokens);
            prompt->checkpoints[k] = n < prompt->n_tokens ? n : prompt->n_tokens - 1;
        }
    }
    return HS_OK;
}

static hs_status take_tokens(struct hs_buf *tokens, struct hs_prompt *prompt, struct hs_error *err)
{
    size_t len = 0;
    char *data = NULL;
    if (hs_buf_take(tokens, &data, &len) != HS_OK) {
        return hs_error_nomem(err, "prompt tokens");
    }
    prompt->tokens = (int32_t *)(void *)data;
    prompt->n_tokens = len / sizeof(int32_t);
    return HS_OK;
}

hs_status hs_prompt_build(const struct hs_model *model, const struct hs_prompt_params *params,
                          struct hs_prompt *ret_prompt, struct hs_error *err)
{
    struct window window = {.messages = params->messages, .n_messages = params->n_messages};
    while (window.n_system < window.n_messages && is_system(&window.messages[window.n_system])) {
        window.n_system++;
    }
    window.start = window.n_system + params->n_skipped;
    if (window.start >= window.n_messages) {
        window.start = window.n_system;
    }
    size_t start = window.start;
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(PROMPT_MAX_BYTES);
    struct hs_prompt prompt = {0};
    hs_status status = fit_window(model, params, &window, &tokens, &prompt.reasoning, err);
    if (status != HS_OK) {
        return status;
    }
    prompt.n_skipped = window.start - window.n_system;
    prompt.n_dropped = window.start - start;
    status = hs_prompt_check_length(model, tokens.len / sizeof(int32_t) + params->n_generated, err);
    if (status == HS_OK && tokens.len == 0) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "the prompt is empty");
    }
    if (status == HS_OK) {
        status = take_tokens(&tokens, &prompt, err);
    }
    if (status == HS_OK && params->wants_checkpoints &&
        find_checkpoints(model, params, &window, &prompt) != HS_OK) {
        hs_prompt_free(&prompt);
        status = hs_error_nomem(err, "prompt");
    }
    if (status == HS_OK) {
        *ret_prompt = prompt;
    }
    return status;
}
