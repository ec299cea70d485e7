#include "dialogue.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

static void free_message(struct hs_message *message)
{
    hs_free((char *)message->role);
    hs_free((char *)message->content);
    hs_free((char *)message->reasoning);
    *message = (struct hs_message){0};
}

static hs_status insert(struct hs_dialogue *c, size_t at, const char *role, const char *content,
                        const char *reasoning, struct hs_error *err)
{
    if (c->n_messages == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        struct hs_message *messages = hs_realloc_array(c->messages, capacity, sizeof *messages);
        if (!messages) {
            return hs_error_nomem(err, "messages");
        }
        c->messages = messages;
        c->capacity = capacity;
    }
    struct hs_message message = {
        .role = hs_strdup(role), .content = hs_strdup(content), .reasoning = hs_strdup(reasoning)};
    if (!message.role || !message.content || (reasoning && !message.reasoning)) {
        free_message(&message);
        return hs_error_nomem(err, "messages");
    }
    memmove(c->messages + at + 1, c->messages + at, (c->n_messages - at) * sizeof *c->messages);
    c->messages[at] = message;
    c->n_messages++;
    return HS_OK;
}

static void drop_from(struct hs_dialogue *c, size_t n_keep)
{
    free_message(&c->cut);
    while (c->n_messages > n_keep) {
        free_message(&c->messages[--c->n_messages]);
    }
}

/* The messages as they were before the request; the array has room for what was there. */
static void undo_turn(struct hs_dialogue *c)
{
    if (c->has_question) {
        drop_from(c, c->n_messages - 1);
    } else if (c->cut.role) {
        c->messages[c->n_messages++] = c->cut;
        c->cut = (struct hs_message){0};
    }
    c->has_question = false;
}

hs_status hs_dialogue_open(hs_engine *engine, const char *model_id, const char *name,
                           const char *system, enum hs_overflow overflow, struct hs_dialogue *ret,
                           struct hs_error *err)
{
    struct hs_dialogue c = {.engine = engine};
    memcpy(c.model_id, model_id, strnlen(model_id, sizeof c.model_id - 1));
    hs_status status = HS_OK;
    if (!name) {
        status = system ? insert(&c, 0, "system", system, NULL, err) : HS_OK;
    } else {
        struct hs_session_params params;
        hs_session_params_defaults(&params);
        params.name = name;
        params.model_id = model_id;
        params.system = system;
        params.overflow = overflow;
        params.save_kv = true;
        c.name = hs_strdup(name);
        status = c.name ? hs_engine_create_session(engine, &params, c.session_id, err)
                        : hs_error_nomem(err, "session name");
    }
    if (status) {
        hs_free(c.name);
        hs_free(c.messages);
        return status;
    }
    *ret = c;
    return HS_OK;
}

/* The server's messages instead of those here; takes `list` over. */
static hs_status take_messages(struct hs_dialogue *c, json_t *list, struct hs_error *err)
{
    size_t i;
    const json_t *message;
    hs_status status = HS_OK;
    drop_from(c, 0);
    c->has_question = false;
    json_array_foreach(list, i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role"));
        const char *content = json_string_value(json_object_get(message, "content"));
        const char *reasoning = json_string_value(json_object_get(message, "reasoning_content"));
        status = status ? status
                        : insert(c, i, role ? role : "", content ? content : "", reasoning, err);
    }
    json_decref(list);
    return status;
}

hs_status hs_dialogue_open_remote(hs_remote *remote, const char *name, const char *system,
                                  struct hs_dialogue *ret, struct hs_error *err)
{
    json_t *messages = NULL;
    struct hs_dialogue c = {.remote = remote, .name = hs_strdup(name)};
    memcpy(c.model_id, hs_remote_model(remote), strlen(hs_remote_model(remote)) + 1);
    hs_status status = HS_OK;
    if (!name) {
        status = system ? insert(&c, 0, "system", system, NULL, err) : HS_OK;
    } else if (!c.name) {
        status = hs_error_nomem(err, "session name");
    } else {
        status = hs_remote_session_open(remote, name, system, &messages, err);
        status = status ? status : take_messages(&c, messages, err);
    }
    if (status) {
        hs_dialogue_free(&c);
        return status;
    }
    *ret = c;
    return HS_OK;
}

/* A session of the engine holds its messages itself. */
static bool is_engines(const struct hs_dialogue *c)
{
    return c->name && !c->remote;
}

hs_status hs_dialogue_close(struct hs_dialogue *conversation, struct hs_error *err)
{
    hs_status status = HS_OK;
    if (is_engines(conversation)) {
        status = hs_engine_close_session(conversation->engine, conversation->session_id, err);
    }
    if (!status) {
        hs_dialogue_free(conversation);
    }
    return status;
}

void hs_dialogue_free(struct hs_dialogue *conversation)
{
    drop_from(conversation, 0);
    hs_dialogue_adapters_free(conversation->adapters, conversation->n_adapters);
    hs_free(conversation->messages);
    hs_free(conversation->name);
    *conversation = (struct hs_dialogue){0};
}

/* ---- adapters ---- */

void hs_dialogue_adapters_free(struct hs_adapter_ref *refs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hs_free((char *)refs[i].name);
    }
    hs_free(refs);
}

static hs_status copy_adapters(const struct hs_adapter_ref *from, size_t n,
                               struct hs_adapter_ref **ret, struct hs_error *err)
{
    struct hs_adapter_ref *refs = hs_calloc(n + 1, sizeof *refs);
    for (size_t i = 0; refs && i < n; i++) {
        refs[i] = (struct hs_adapter_ref){hs_strdup(from[i].name), from[i].scale};
        if (!refs[i].name) {
            hs_dialogue_adapters_free(refs, i);
            refs = NULL;
        }
    }
    if (!refs) {
        return hs_error_nomem(err, "adapters");
    }
    *ret = refs;
    return HS_OK;
}

hs_status hs_dialogue_set_adapters(struct hs_dialogue *conversation,
                                   const struct hs_adapter_ref *refs, size_t n,
                                   struct hs_error *err)
{
    struct hs_dialogue *c = conversation;
    struct hs_adapter_ref *copy = NULL;
    if (is_engines(c)) {
        return hs_engine_apply_lora_weights(c->engine, c->session_id, refs, (int32_t)n, err);
    }
    hs_status status = copy_adapters(refs, n, &copy, err);
    if (!status) {
        hs_dialogue_adapters_free(c->adapters, c->n_adapters);
        c->adapters = copy;
        c->n_adapters = n;
    }
    return status;
}

hs_status hs_dialogue_adapters(const struct hs_dialogue *conversation,
                               struct hs_adapter_ref **ret_refs, size_t *ret_n,
                               struct hs_error *err)
{
    const struct hs_dialogue *c = conversation;
    struct hs_adapter_ref *refs = NULL;
    size_t n = 0;
    if (!is_engines(c)) {
        hs_status status = copy_adapters(c->adapters, c->n_adapters, ret_refs, err);
        *ret_n = status ? *ret_n : c->n_adapters;
        return status;
    }
    hs_status status = hs_session_adapters(c->engine, c->session_id, &refs, &n, err);
    if (status) {
        return status;
    }
    status = copy_adapters(refs, n, ret_refs, err);
    *ret_n = status ? *ret_n : n;
    hs_adapter_refs_free(refs, n);
    return status;
}

hs_status hs_dialogue_set_routed(struct hs_dialogue *conversation, bool is_routed,
                                 struct hs_error *err)
{
    if (is_engines(conversation)) {
        return hs_engine_route_session(conversation->engine, conversation->session_id, is_routed,
                                       err);
    }
    conversation->is_routed = is_routed;
    return HS_OK;
}

hs_status hs_dialogue_is_routed(const struct hs_dialogue *conversation, bool *ret_is_routed,
                                struct hs_error *err)
{
    if (is_engines(conversation)) {
        return hs_session_is_routed(conversation->engine, conversation->session_id, ret_is_routed,
                                    err);
    }
    *ret_is_routed = conversation->is_routed;
    return HS_OK;
}

hs_status hs_dialogue_copy(const struct hs_dialogue *conversation, struct hs_dialogue *ret,
                           struct hs_error *err)
{
    struct hs_dialogue c = {.engine = conversation->engine};
    memcpy(c.model_id, conversation->model_id, sizeof c.model_id);
    size_t n = 0;
    hs_status status = hs_dialogue_count(conversation, &n, err);
    for (size_t i = 0; i < n && !status; i++) {
        struct hs_message message = {0};
        status = hs_dialogue_message(conversation, i, &message, err);
        if (!status) {
            status = insert(&c, i, message.role, message.content, message.reasoning, err);
            hs_message_free(&message);
        }
    }
    status = status ? status : hs_dialogue_adapters(conversation, &c.adapters, &c.n_adapters, err);
    status = status ? status : hs_dialogue_is_routed(conversation, &c.is_routed, err);
    if (status) {
        hs_dialogue_free(&c);
        return status;
    }
    *ret = c;
    return HS_OK;
}

hs_status hs_dialogue_count(const struct hs_dialogue *conversation, size_t *ret_n,
                            struct hs_error *err)
{
    if (is_engines(conversation)) {
        return hs_session_message_count(conversation->engine, conversation->session_id, ret_n, err);
    }
    *ret_n = conversation->n_messages;
    return HS_OK;
}

hs_status hs_dialogue_message(const struct hs_dialogue *conversation, size_t i,
                              struct hs_message *ret_message, struct hs_error *err)
{
    if (is_engines(conversation)) {
        return hs_session_message(conversation->engine, conversation->session_id, i, ret_message,
                                  err);
    }
    if (i >= conversation->n_messages) {
        return hs_error_set(err, HS_NOT_FOUND, "there is no message %zu", i);
    }
    const struct hs_message *from = &conversation->messages[i];
    struct hs_message copy = {.role = hs_strdup(from->role),
                              .content = hs_strdup(from->content),
                              .reasoning = hs_strdup(from->reasoning)};
    if (!copy.role || !copy.content || (from->reasoning && !copy.reasoning)) {
        free_message(&copy);
        return hs_error_nomem(err, "message");
    }
    *ret_message = copy;
    return HS_OK;
}

hs_status hs_dialogue_truncate(struct hs_dialogue *conversation, size_t n_keep,
                               struct hs_error *err)
{
    if (is_engines(conversation)) {
        return hs_session_truncate(conversation->engine, conversation->session_id, n_keep, err);
    }
    struct hs_dialogue *c = conversation;
    struct hs_message last = {0};
    bool is_answer = c->n_messages > 0 && n_keep == c->n_messages - 1 &&
                     strcmp(c->messages[n_keep].role, "assistant") == 0;
    if (c->name && !is_answer) { /* an answer is dropped there once a new one stands */
        hs_status status = hs_remote_session_truncate(c->remote, c->name, n_keep, err);
        if (status) {
            return status;
        }
    }
    if (is_answer) {
        last = c->messages[--c->n_messages];
    }
    drop_from(c, n_keep);
    c->cut = last;
    return HS_OK;
}

hs_status hs_dialogue_set_system(struct hs_dialogue *conversation, const char *system,
                                 struct hs_error *err)
{
    struct hs_dialogue *c = conversation;
    if (is_engines(c)) {
        return hs_session_set_system(c->engine, c->session_id, system, err);
    }
    hs_status status =
        c->name ? hs_remote_session_set_system(c->remote, c->name, system, err) : HS_OK;
    if (status) {
        return status;
    }
    status = system ? insert(c, 0, "system", system, NULL, err) : HS_OK;
    if (!status) {
        free_message(&c->cut); /* it answered under another one */
    }
    size_t old = system ? 1 : 0; /* where the one before lies now */
    if (!status && old < c->n_messages && strcmp(c->messages[old].role, "system") == 0) {
        free_message(&c->messages[old]);
        c->n_messages--;
        memmove(c->messages + old, c->messages + old + 1,
                (c->n_messages - old) * sizeof *c->messages);
    }
    return status;
}

hs_status hs_dialogue_generate(struct hs_dialogue *conversation, const char *prompt,
                               const struct hs_generate_params *params,
                               struct hs_token_source *ret_source, struct hs_error *err)
{
    struct hs_dialogue *c = conversation;
    hs_stream *stream = NULL;
    hs_status status = HS_OK;
    if (is_engines(c)) {
        status = hs_engine_generate(c->engine, c->session_id, prompt, params, &stream, err);
    } else {
        status = prompt ? insert(c, c->n_messages, "user", prompt, NULL, err) : HS_OK;
        c->has_question = prompt && !status;
    }
    if (!status && c->remote && c->name) {
        status = hs_remote_session_generate(c->remote, c->name, prompt, c->cut.role != NULL,
                                            ret_source, err);
    } else if (!status && c->remote) {
        status = hs_remote_chat(c->remote, c->messages, c->n_messages, ret_source, err);
    } else if (!status && !c->name) {
        status = hs_engine_chat(c->engine, c->model_id, c->adapters, (int32_t)c->n_adapters,
                                c->messages, c->n_messages, params, &stream, err);
    }
    if (status && !is_engines(c)) {
        undo_turn(c);
    }
    if (!status && stream) {
        *ret_source = hs_token_source_of(stream);
    }
    return status;
}

hs_status hs_dialogue_answered(struct hs_dialogue *conversation, enum hs_finish finish,
                               const char *answer, const char *reasoning, struct hs_error *err)
{
    struct hs_dialogue *c = conversation;
    if (is_engines(c)) {
        return HS_OK;
    }
    bool is_cut = finish == HS_FINISH_CANCELLED || finish == HS_FINISH_ERROR;
    json_t *messages = NULL;
    if (c->name && is_cut &&
        hs_remote_session_settle(c->remote, c->name, &messages, NULL) == HS_OK) {
        return take_messages(c, messages, err);
    }
    bool is_thought = reasoning && *reasoning;
    bool is_empty = !*answer && !is_thought;
    bool has_old_one = !c->has_question && c->cut.role;
    bool is_none =
        finish == HS_FINISH_ERROR || (finish == HS_FINISH_CANCELLED && (is_empty || has_old_one));
    hs_status status = HS_OK;
    if (!is_none) {
        status = insert(c, c->n_messages, "assistant", answer, is_thought ? reasoning : NULL, err);
    }
    if (is_none || status) {
        undo_turn(c);
        return status;
    }
    free_message(&c->cut);
    c->has_question = false;
    return HS_OK;
}
