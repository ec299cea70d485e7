#include "chat.h"

#include <string.h>

#include "api/output.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "chat_adapters.h"
#include "params.h"

static bool load_progress(float fraction, void *user)
{
    const struct hs_chat *chat = user;
    const struct hs_command_io *io = chat->args->io;
    io->progress(io->self, "loading", fraction, hs_chat_model_name(chat));
    return !io->interrupted(io->self);
}

const char *hs_chat_model_name(const struct hs_chat *chat)
{
    if (chat->model.name) {
        return chat->model.name;
    }
    if (chat->model_id[0] || !chat->model.path) {
        return chat->model_id;
    }
    const char *slash = strrchr(chat->model.path, '/');
    return slash ? slash + 1 : chat->model.path;
}

static void print_load(struct hs_chat *chat)
{
    struct hs_model_info info;
    struct hs_error err;
    if (hs_engine_model_info(chat->engine, chat->model_id, &info, &err)) {
        hs_log(HS_LOG_WARN, "chat", "%s", err.message);
        return;
    }
    hs_err_info(chat->args->io, "model %s (%s), %d threads, %d GPU layers on %s, context %d of %d",
                hs_chat_model_name(chat), info.description, (int)info.n_threads,
                (int)info.n_gpu_layers, info.backend, (int)info.n_ctx, (int)info.n_ctx_train);
}

static hs_status load_model(struct hs_chat *chat, struct hs_error *err)
{
    const struct hs_command_io *io = chat->args->io;
    char id[HS_ID_MAX];
    struct hs_load_settings settings HS_CLEANUP(hs_load_settings_free) = {0};
    hs_status status = hs_load_settings_fill(chat->args->config, &settings, err);
    if (status) {
        return status;
    }
    if (settings.model.n_seq_max == 0) {
        settings.model.n_seq_max = 1; /* there is one conversation here */
    }
    settings.model.progress = load_progress;
    settings.model.progress_user = chat;
    hs_adapter_table_free(chat->routing.table); /* of the model before */
    chat->routing.table = NULL;
    chat->model_id[0] = '\0';
    hs_model_choice_id(&chat->model, id);
    status = hs_engine_load_model(chat->engine, chat->model.path, id, &settings.model,
                                  chat->model_id, err);
    io->progress(io->self, "", -1, NULL);
    if (!status) {
        print_load(chat);
    }
    return status;
}

/* A session that does not exist yet leaves the record empty. */
static hs_status read_record(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    hs_session_record_free(&chat->record);
    chat->record = (struct hs_session_record){0};
    hs_status status =
        hs_session_store_read(chat->args->paths->sessions_dir, name, &chat->record, NULL, err);
    return status == HS_NOT_FOUND ? HS_OK : status;
}

static hs_status open_conversation(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    const struct hs_config *config = chat->args->config;
    if (chat->remote) {
        return hs_dialogue_open_remote(chat->remote, name, hs_config_str(config, HS_CFG_SYSTEM),
                                       &chat->conversation, err);
    }
    bool is_given = config->values[HS_CFG_OVERFLOW].source != HS_CONFIG_DEFAULT;
    hs_status status = name ? hs_chat_adapters_restore(chat, err) : HS_OK;
    if (status) {
        return status;
    }
    return hs_dialogue_open(
        chat->engine, chat->model_id, name, hs_config_str(config, HS_CFG_SYSTEM),
        is_given ? hs_config_overflow(config) : HS_OVERFLOW_SAVED, &chat->conversation, err);
}

static void take_remote_model(struct hs_chat *chat)
{
    const char *id = hs_remote_model(chat->remote);
    memcpy(chat->model_id, id, strlen(id) + 1);
    memcpy(chat->conversation.model_id, id, strlen(id) + 1);
    hs_err_info(chat->args->io, "model %s of %s", id, hs_remote_url(chat->remote));
}

/* Those of the settings; without any a session keeps its own. */
static hs_status take_adapters(struct hs_chat *chat, struct hs_error *err)
{
    const struct hs_config_value *given = &chat->args->config->values[HS_CFG_ADAPTER];
    bool is_said = given->n_items > 0;
    return is_said
               ? hs_chat_adapters_set(chat, (const char *const *)given->items, given->n_items, err)
               : HS_OK;
}

static hs_status open_remote(struct hs_chat *chat, struct hs_error *err)
{
    hs_status status = hs_remote_open(chat->args, &chat->remote, err);
    if (!status) {
        const char *session = hs_config_str(chat->args->config, HS_CFG_SESSION);
        status = open_conversation(chat, session && *session ? session : NULL, err);
    }
    if (!status) {
        take_remote_model(chat);
    }
    return status ? status : take_adapters(chat, err);
}

static hs_status open_all(struct hs_chat *chat, struct hs_error *err)
{
    const struct hs_command_args *args = chat->args;
    if (hs_config_str(args->config, HS_CFG_SERVER)) {
        return open_remote(chat, err);
    }
    const char *session = hs_config_str(args->config, HS_CFG_SESSION);
    session = session && *session ? session : NULL;
    hs_status status = session ? read_record(chat, session, err) : HS_OK;
    if (!status) {
        status = hs_model_choose(args, &chat->record, &chat->registry, &chat->model, err);
    }
    if (!status && session) {
        status = hs_model_register(args->paths, &chat->registry, &chat->model, err);
    }
    if (status) {
        return status;
    }
    if (chat->model.note[0]) {
        hs_err_info(args->io, "%s", chat->model.note);
    }
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = args->paths->sessions_dir;
    params.park_budget_bytes = (uint64_t)hs_config_float(args->config, HS_CFG_PARK_BUDGET);
    params.adapter_budget_bytes = (uint64_t)hs_config_float(args->config, HS_CFG_ADAPTER_MEMORY);
    status = hs_engine_create(&params, &chat->engine, err);
    if (!status) {
        status = load_model(chat, err);
    }
    status = status ? status : open_conversation(chat, session, err);
    return status ? status : take_adapters(chat, err);
}

hs_status hs_chat_open(const struct hs_command_args *args, struct hs_chat *ret_chat,
                       struct hs_error *err)
{
    struct hs_chat chat = {.args = args};
    hs_status status = open_all(&chat, err);
    if (status) {
        struct hs_error ignored; /* the first failure is the one to tell */
        hs_status close_status = hs_chat_close(&chat, &ignored);
        (void)close_status;
        return status;
    }
    *ret_chat = chat;
    return HS_OK;
}

/* The registry's row is an index of what lies in the sessions folder. */
static hs_status index_session(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    const struct hs_paths *paths = chat->args->paths;
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    uint64_t size = 0;
    hs_status status = hs_session_store_read(paths->sessions_dir, name, &record, &size, err);
    if (status == HS_NOT_FOUND) {
        return HS_OK; /* nothing was said in it */
    }
    if (!status) {
        status = hs_registry_need(paths, &chat->registry, err);
    }
    if (status) {
        return status;
    }
    struct hs_registry_session row = {.name = (char *)name,
                                      .model_name = record.model_name,
                                      .fingerprint = record.fingerprint,
                                      .n_messages = (int64_t)record.n_messages,
                                      .size_bytes = (int64_t)size,
                                      .created_unix_ms = record.created_unix_ms,
                                      .updated_unix_ms = record.updated_unix_ms};
    return hs_registry_session_put(chat->registry, &row, err);
}

/* A session that cannot be saved stays open: conversation.engine tells. */
static hs_status close_conversation(struct hs_chat *chat, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *name = hs_strdup(chat->conversation.name);
    hs_status status = hs_dialogue_close(&chat->conversation, err);
    if (!status && name && !chat->remote) {
        status = index_session(chat, name, err);
    }
    return status;
}

hs_status hs_chat_close(struct hs_chat *chat, struct hs_error *err)
{
    hs_status status = close_conversation(chat, err);
    bool was_used = chat->model.name && chat->model_id[0];
    if (!status && was_used) {
        status = hs_registry_need(chat->args->paths, &chat->registry, err);
        status = status ? status : hs_registry_model_touch(chat->registry, chat->model.name, err);
    }
    hs_dialogue_free(&chat->conversation);
    hs_routing_close(&chat->routing);
    hs_engine_free(chat->engine);
    hs_remote_close(chat->remote);
    hs_registry_close(chat->registry);
    hs_model_choice_free(&chat->model);
    hs_session_record_free(&chat->record);
    *chat = (struct hs_chat){0};
    return status;
}

hs_status hs_chat_ask(struct hs_chat *chat, const char *prompt, enum hs_answer_mode mode,
                      struct hs_answer *ret_answer, struct hs_error *err)
{
    *ret_answer = (struct hs_answer){0};
    struct hs_generate_params params;
    hs_generate_params_fill(chat->args->config, chat->record.params, &params);
    struct hs_token_source source;
    hs_status status = hs_chat_adapters_route(chat, prompt, err);
    if (status) {
        return status;
    }
    status = hs_dialogue_generate(&chat->conversation, prompt, &params, &source, err);
    if (status) {
        return status;
    }
    status = hs_answer_read(chat->args->io, &source, mode, ret_answer, err);
    source.free(source.self);
    const char *text = ret_answer->text.data ? ret_answer->text.data : "";
    hs_status kept = hs_dialogue_answered(&chat->conversation, ret_answer->finish, text,
                                          ret_answer->reasoning.data, status ? NULL : err);
    status = status ? status : kept;
    if (!status && ret_answer->finish == HS_FINISH_ERROR) {
        status = hs_error_set(err, ret_answer->error.status, "%s", ret_answer->error.message);
        hs_error_hint(err, "%s", ret_answer->error.hint);
    }
    if (!status) {
        chat->usage = ret_answer->usage;
        chat->has_usage = true;
    }
    return status;
}

/* Unload what is loaded, load `choice`, and take it over; after a failure there is no model. */
static hs_status replace_model(struct hs_chat *chat, struct hs_model_choice *choice,
                               struct hs_error *err)
{
    hs_status status = HS_OK;
    if (chat->model_id[0]) {
        status = hs_engine_unload_model(chat->engine, chat->model_id, err);
    }
    if (status) {
        return status;
    }
    struct hs_model_choice old = chat->model;
    chat->model = *choice;
    status = load_model(chat, err);
    if (status) {
        chat->model = old;
        return status;
    }
    hs_model_choice_free(&old);
    *choice = (struct hs_model_choice){0};
    memcpy(chat->conversation.model_id, chat->model_id, sizeof chat->conversation.model_id);
    return HS_OK;
}

/* After replace_model failed with `failure`. */
static hs_status load_former_model(struct hs_chat *chat, const struct hs_error *failure,
                                   struct hs_error *err)
{
    struct hs_error again;
    hs_error_clear(&again);
    if (load_model(chat, &again)) {
        hs_error_set(err, failure->status, "%s; the former model cannot be loaded again either: %s",
                     failure->message, again.message);
        return hs_error_hint(err, "%s", again.hint);
    }
    memcpy(chat->conversation.model_id, chat->model_id, sizeof chat->conversation.model_id);
    return HS_OK;
}

/* Open `name` again or, when that fails, go on with `messages`, which it takes over, and tell. */
static hs_status reopen(struct hs_chat *chat, const char *name, struct hs_dialogue *messages,
                        struct hs_error *err)
{
    struct hs_error own;
    hs_error_clear(&own);
    hs_status status = open_conversation(chat, name, &own);
    if (!status) {
        hs_dialogue_free(messages);
        return HS_OK;
    }
    chat->conversation = *messages;
    memcpy(chat->conversation.model_id, chat->model_id, sizeof chat->conversation.model_id);
    *messages = (struct hs_dialogue){0};
    hs_error_set(err, status,
                 "session '%s' cannot be opened again: %s; the conversation goes on without it",
                 name, own.message);
    hs_error_hint(err, "/save NAME keeps it under another name");
    return status;
}

hs_status hs_chat_reopen(struct hs_chat *chat, struct hs_error *err)
{
    struct hs_dialogue messages = {0};
    HS_CLEANUP(hs_freep) char *session = hs_strdup(chat->conversation.name);
    hs_status status = session ? hs_dialogue_copy(&chat->conversation, &messages, err)
                               : hs_error_nomem(err, "session name");
    if (!status) {
        status = close_conversation(chat, err);
        if (status && !chat->conversation.engine) { /* closed, but not in the index */
            hs_log(HS_LOG_WARN, "chat", "%s", err->message);
            status = HS_OK;
        }
    }
    status = status ? status : reopen(chat, session, &messages, err);
    hs_dialogue_free(&messages);
    return status;
}

/* Close the session around the change of models, as an open one holds its model. */
static hs_status replace_in_session(struct hs_chat *chat, const char *session,
                                    struct hs_model_choice *choice, struct hs_error *err)
{
    struct hs_dialogue messages = {0};
    struct hs_error own, told;
    hs_error_clear(&own);
    hs_error_clear(&told);
    hs_status status = session ? hs_dialogue_copy(&chat->conversation, &messages, err) : HS_OK;
    if (status) {
        return status;
    }
    status = session ? close_conversation(chat, &own) : HS_OK;
    bool is_closed = session && !chat->conversation.engine;
    if (status && is_closed) { /* saved, but not in the index: no reason to keep the old model */
        hs_log(HS_LOG_WARN, "chat", "%s", own.message);
        hs_error_clear(&own);
        status = HS_OK;
    }
    status = status ? status : replace_model(chat, choice, &own);
    if (status && !chat->model_id[0] && load_former_model(chat, &own, err)) {
        hs_dialogue_free(&messages);
        return status;
    }
    hs_status opened = is_closed ? reopen(chat, session, &messages, &told) : HS_OK;
    hs_dialogue_free(&messages);
    if (opened && status) {
        hs_error_set(err, status, "%s; %s", own.message, told.message);
        return hs_error_hint(err, "%s", told.hint);
    }
    const struct hs_error *first = status ? &own : &told;
    if (first->status) {
        hs_error_set(err, first->status, "%s", first->message);
        hs_error_hint(err, "%s", first->hint);
    }
    return first->status;
}

hs_status hs_chat_switch_model(struct hs_chat *chat, const char *ref, struct hs_error *err)
{
    if (chat->remote) {
        hs_status chosen = hs_remote_set_model(chat->remote, ref, err);
        if (!chosen) {
            take_remote_model(chat);
        }
        return chosen;
    }
    const struct hs_paths *paths = chat->args->paths;
    struct hs_model_choice choice HS_CLEANUP(hs_model_choice_free) = {0};
    HS_CLEANUP(hs_freep) char *session = hs_strdup(chat->conversation.name);
    if (chat->conversation.name && !session) {
        return hs_error_nomem(err, "session name");
    }
    hs_status status = hs_model_resolve(paths, ref, &chat->registry, &choice, err);
    if (!status && session) {
        status = hs_model_register(paths, &chat->registry, &choice, err);
    }
    /* they were made for the model that goes */
    status = status ? status : hs_dialogue_set_adapters(&chat->conversation, NULL, 0, err);
    return status ? status : replace_in_session(chat, session, &choice, err);
}

/* The server has saved the one that is left. */
static hs_status switch_remote_session(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    struct hs_dialogue before = chat->conversation;
    hs_status status = open_conversation(chat, name, err);
    if (!status) {
        hs_dialogue_free(&before);
        if (strcmp(chat->model_id, hs_remote_model(chat->remote)) != 0) {
            take_remote_model(chat);
        }
    }
    return status;
}

hs_status hs_chat_switch_session(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    if (chat->conversation.name && strcmp(chat->conversation.name, name) == 0) {
        return HS_OK;
    }
    if (chat->remote) {
        return switch_remote_session(chat, name, err);
    }
    struct hs_session_record old = chat->record;
    chat->record = (struct hs_session_record){0};
    hs_status status = read_record(chat, name, err);
    if (!status) {
        status = hs_model_register(chat->args->paths, &chat->registry, &chat->model, err);
    }
    struct hs_dialogue before = chat->conversation;
    if (!status) {
        status = open_conversation(chat, name, err);
    }
    if (status) {
        hs_session_record_free(&chat->record);
        chat->record = old;
        return status;
    }
    struct hs_dialogue opened = chat->conversation;
    chat->conversation = before;
    status = close_conversation(chat, err);
    if (chat->conversation.engine) { /* what cannot be saved is not left */
        struct hs_error ignored;
        hs_status closed = hs_dialogue_close(&opened, &ignored);
        (void)closed; /* nothing was said in it here */
        hs_dialogue_free(&opened);
        hs_session_record_free(&chat->record);
        chat->record = old;
        return status;
    }
    hs_session_record_free(&old);
    chat->conversation = opened;
    return status;
}

/* Write the messages as a new session, for the engine to open. */
static hs_status write_session(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    struct hs_model_info info;
    hs_status status = hs_engine_model_info(chat->engine, chat->model_id, &info, err);
    if (status) {
        return status;
    }
    hs_session_file *file = NULL;
    status = hs_session_file_open(chat->args->paths->sessions_dir, name, true, &file, err);
    if (status) {
        return status;
    }
    struct hs_generate_params params;
    hs_generate_params_fill(chat->args->config, chat->record.params, &params);
    int64_t now = hs_clock_unix_ms();
    struct hs_session_record record = {.model_name = chat->model.name,
                                       .fingerprint = info.fingerprint,
                                       .messages = chat->conversation.messages,
                                       .n_messages = chat->conversation.n_messages,
                                       .adapters = chat->conversation.adapters,
                                       .n_adapters = chat->conversation.n_adapters,
                                       .is_routed = chat->conversation.is_routed,
                                       .overflow = hs_config_overflow(chat->args->config),
                                       .created_unix_ms = now,
                                       .updated_unix_ms = now,
                                       .params = &params};
    status = hs_session_file_save(file, &record, err);
    hs_session_file_close(file);
    return status;
}

hs_status hs_chat_save_as(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    if (chat->remote) {
        const struct hs_dialogue *here = &chat->conversation;
        hs_status made =
            hs_remote_session_create(chat->remote, name, here->messages, here->n_messages, err);
        return made ? made : switch_remote_session(chat, name, err);
    }
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    if (!hs_session_name_ok(name)) {
        return read_record(chat, name, err); /* says what a name may be */
    }
    hs_status status =
        hs_session_store_read(chat->args->paths->sessions_dir, name, &record, NULL, err);
    if (status != HS_NOT_FOUND) {
        status =
            status ? status
                   : hs_error_set(err, HS_ALREADY_EXISTS, "there is a session '%s' already", name);
        hs_error_hint(err, "choose another name, or remove it with 'hyprstream session rm %s'",
                      name);
        return status;
    }
    status = hs_model_register(chat->args->paths, &chat->registry, &chat->model, err);
    if (!status) {
        status = write_session(chat, name, err);
    }
    return status ? status : hs_chat_switch_session(chat, name, err);
}
