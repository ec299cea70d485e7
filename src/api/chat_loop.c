/*
 * chat_loop.c - the conversation on a terminal: messages, and commands that begin with a slash
 * (chat_commands.def).
 */
#include <string.h>

#include "api/nearest.h"
#include "api/output.h"
#include "api/report.h"
#include "base/error.h"
#include "base/mem.h"
#include "chat_adapters.h"
#include "json_out.h"

#define PROMPT "> "
#define ADAPTERS_MAX 64

struct loop {
    struct hs_chat *chat;
    const struct hs_command_io *io;
    bool leaving;
};

typedef hs_status (*chat_command_fn)(struct loop *loop, const char *rest, struct hs_error *err);

struct chat_command {
    const char *name, *args;
    chat_command_fn run;
    const char *text;
};

#define HS_CHAT_COMMAND(name, args, run, text)                                                     \
    static hs_status run(struct loop *loop, const char *rest, struct hs_error *err);
#include "api/chat_commands.def"
#undef HS_CHAT_COMMAND

static const struct chat_command chat_commands[] = {
#define HS_CHAT_COMMAND(name, args, run, text) {name, args, run, text},
#include "api/chat_commands.def"
#undef HS_CHAT_COMMAND
};
#define N_CHAT_COMMANDS (sizeof chat_commands / sizeof chat_commands[0])

/* Settings that /set shows and that act on the next answer. */
static const enum hs_config_id answer_settings[] = {
    HS_CFG_MAX_TOKENS, HS_CFG_TEMP,           HS_CFG_TOP_K,         HS_CFG_TOP_P,
    HS_CFG_MIN_P,      HS_CFG_REPEAT_PENALTY, HS_CFG_REPEAT_LAST_N, HS_CFG_SEED,
    HS_CFG_STOP,       HS_CFG_THINK,          HS_CFG_OVERFLOW,
};
#define N_ANSWER_SETTINGS (sizeof answer_settings / sizeof answer_settings[0])

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- answers ---- */

static hs_status ask(struct loop *loop, const char *prompt, struct hs_error *err)
{
    struct hs_answer answer HS_CLEANUP(hs_answer_free) = {0};
    bool stream = hs_config_bool(loop->chat->args->config, HS_CFG_STREAM);
    hs_status status =
        hs_chat_ask(loop->chat, prompt, stream ? HS_ANSWER_STREAM : HS_ANSWER_WHOLE, &answer, err);
    if (!status && answer.finish == HS_FINISH_CANCELLED) {
        hs_err_printf(loop->io, "[stopped]\n");
    } else if (!status && answer.finish == HS_FINISH_LENGTH) {
        int32_t n = answer.usage.completion_tokens;
        hs_err_printf(loop->io, "[cut off after %d token%s]\n", (int)n, plural(n));
    }
    return status;
}

static hs_status run_regen(struct loop *loop, const char *rest, struct hs_error *err)
{
    (void)rest;
    struct hs_dialogue *conversation = &loop->chat->conversation;
    size_t n = 0;
    hs_status status = hs_dialogue_count(conversation, &n, err);
    struct hs_message last = {0};
    if (!status && n > 0) {
        status = hs_dialogue_message(conversation, n - 1, &last, err);
    }
    if (status) {
        return status;
    }
    bool is_answer = n > 0 && strcmp(last.role, "assistant") == 0;
    bool is_question = n > 0 && strcmp(last.role, "user") == 0;
    hs_message_free(&last);
    if (!is_answer && !is_question) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "there is no answer yet");
    }
    if (is_answer) {
        status = hs_dialogue_truncate(conversation, n - 1, err);
    }
    return status ? status : ask(loop, NULL, err);
}

/* ---- the conversation ---- */

/* The system message, to be freed with hs_message_free; role NULL: there is none. */
static hs_status system_message(struct loop *loop, struct hs_message *ret, struct hs_error *err)
{
    struct hs_message message = {0};
    size_t n = 0;
    hs_status status = hs_dialogue_count(&loop->chat->conversation, &n, err);
    if (!status && n > 0) {
        status = hs_dialogue_message(&loop->chat->conversation, 0, &message, err);
    }
    if (status) {
        return status;
    }
    if (message.role && strcmp(message.role, "system") != 0) {
        hs_message_free(&message);
        message = (struct hs_message){0};
    }
    *ret = message;
    return HS_OK;
}

static hs_status run_clear(struct loop *loop, const char *rest, struct hs_error *err)
{
    (void)rest;
    struct hs_message message = {0};
    hs_status status = system_message(loop, &message, err);
    if (status) {
        return status;
    }
    size_t n_keep = message.role ? 1 : 0;
    hs_message_free(&message);
    status = hs_dialogue_truncate(&loop->chat->conversation, n_keep, err);
    if (!status) {
        hs_err_printf(loop->io, "the messages are forgotten\n");
    }
    return status;
}

static hs_status run_system(struct loop *loop, const char *rest, struct hs_error *err)
{
    if (*rest) {
        const char *text = strcmp(rest, "-") == 0 ? NULL : rest;
        return hs_dialogue_set_system(&loop->chat->conversation, text, err);
    }
    struct hs_message message = {0};
    hs_status status = system_message(loop, &message, err);
    if (status) {
        return status;
    }
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX / 4);
    const char *text = message.role ? message.content : "there is no system message";
    if (hs_safe_text(text, strlen(text), false, &safe)) {
        status = hs_error_nomem(err, "output");
    } else {
        hs_err_printf(loop->io, "%s\n", safe.len ? safe.data : "");
    }
    hs_message_free(&message);
    return status;
}

static hs_status run_session(struct loop *loop, const char *rest, struct hs_error *err)
{
    struct hs_chat *chat = loop->chat;
    if (*rest) {
        hs_status status = hs_chat_switch_session(chat, rest, err);
        if (status) {
            return status;
        }
    }
    if (!chat->conversation.name) {
        hs_err_printf(loop->io, "this conversation is not kept; /save NAME keeps it\n");
        return HS_OK;
    }
    size_t n = 0;
    hs_status status = hs_dialogue_count(&chat->conversation, &n, err);
    if (!status) {
        hs_err_printf(loop->io, "session '%s', %zu message%s\n", chat->conversation.name, n,
                      plural((int64_t)n));
    }
    return status;
}

static hs_status run_save(struct loop *loop, const char *rest, struct hs_error *err)
{
    struct hs_chat *chat = loop->chat;
    if (chat->conversation.name) {
        hs_err_printf(loop->io,
                      "session '%s' is saved after every answer; /session NAME goes to another\n",
                      chat->conversation.name);
        return HS_OK;
    }
    if (!*rest) {
        hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "the session needs a name");
        hs_error_hint(err, "/save NAME");
        return status;
    }
    hs_status status = hs_chat_save_as(chat, rest, err);
    if (!status) {
        hs_err_printf(loop->io, "saved as session '%s'\n", rest);
    }
    return status;
}

static hs_status run_model(struct loop *loop, const char *rest, struct hs_error *err)
{
    if (*rest) {
        return hs_chat_switch_model(loop->chat, rest, err);
    }
    if (loop->chat->remote) {
        hs_err_info(loop->io, "%s of %s", hs_chat_model_name(loop->chat),
                    hs_remote_url(loop->chat->remote));
        return HS_OK;
    }
    struct hs_model_info info;
    hs_status status = hs_engine_model_info(loop->chat->engine, loop->chat->model_id, &info, err);
    if (!status) {
        hs_err_info(loop->io, "%s (%s), context %d, %s", hs_chat_model_name(loop->chat),
                    info.description, (int)info.n_ctx, info.path);
    }
    return status;
}

/* Words as texts of adapters; "off" alone: none; "auto" alone: as each question asks for. */
static hs_status run_adapter(struct loop *loop, const char *rest, struct hs_error *err)
{
    static const char blanks[] = " \t\n";
    const char *texts[ADAPTERS_MAX];
    size_t n = 0;
    HS_CLEANUP(hs_freep) char *words = hs_strdup(rest);
    if (!words) {
        return hs_error_nomem(err, "command");
    }
    if (!*words) {
        return hs_chat_adapters_print(loop->chat, err);
    }
    char *at = words;
    while (*at && n < ADAPTERS_MAX) {
        texts[n++] = at;
        at += strcspn(at, blanks);
        if (*at) {
            *at++ = '\0';
            at += strspn(at, blanks);
        }
    }
    if (*at) {
        return hs_error_set(err, HS_LIMIT, "at most %d adapters at a time", ADAPTERS_MAX);
    }
    bool is_off = n == 1 && strcmp(texts[0], "off") == 0;
    hs_status status = hs_chat_adapters_set(loop->chat, texts, is_off ? 0 : n, err);
    if (!status && is_off) {
        hs_err_printf(loop->io, "the model alone answers\n");
    } else if (!status && n == 1 && strcmp(texts[0], "auto") == 0) {
        hs_err_printf(loop->io, "adapters are chosen for each question\n");
    } else if (!status) {
        hs_err_printf(loop->io, "answering with %zu adapter%s\n", n, plural((int64_t)n));
    }
    return status;
}

/* ---- settings and figures ---- */

static hs_status run_set(struct loop *loop, const char *rest, struct hs_error *err)
{
    struct hs_config *config = loop->chat->args->config;
    if (!*rest) {
        for (size_t i = 0; i < N_ANSWER_SETTINGS; i++) {
            const struct hs_config_value *value = &config->values[answer_settings[i]];
            hs_err_printf(loop->io, "%-15s %s\n", hs_config_row(answer_settings[i])->name,
                          value->is_set ? value->text : "-");
        }
        return HS_OK;
    }
    size_t name_len = strcspn(rest, " \t");
    const char *value = rest + name_len + strspn(rest + name_len, " \t");
    HS_CLEANUP(hs_freep) char *name = hs_strndup(rest, name_len);
    enum hs_config_id id;
    if (!name) {
        return hs_error_nomem(err, "setting");
    }
    if (!hs_config_find(name, &id)) {
        hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "there is no setting '%s'", name);
        const char *nearest = hs_config_nearest(name);
        hs_error_hint(err, "%s%s%s", nearest ? "did you mean '" : "/set shows them",
                      nearest ? nearest : "", nearest ? "'?" : "");
        return status;
    }
    if (!*value) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' needs a value", name);
    }
    hs_status status = hs_config_set(config, id, value, "/set", err);
    if (!status && id == HS_CFG_OVERFLOW && loop->chat->conversation.name) {
        status = hs_chat_reopen(loop->chat, err); /* a session has its own, set when it is opened */
    }
    bool acts_now = false;
    for (size_t i = 0; i < N_ANSWER_SETTINGS; i++) {
        acts_now = acts_now || answer_settings[i] == id;
    }
    if (!status && loop->chat->remote && (!acts_now || id == HS_CFG_OVERFLOW) &&
        id != HS_CFG_STREAM) {
        hs_err_printf(loop->io, "'%s' is up to the server\n", name);
    } else if (!status && !acts_now && id != HS_CFG_STREAM) {
        hs_err_printf(loop->io, "'%s' is used the next time a model is loaded (/model)\n", name);
    }
    return status;
}

static double per_second(int32_t n, double ms)
{
    return ms > 0 ? n * 1000.0 / ms : 0;
}

static void print_usage(const struct loop *loop)
{
    const struct hs_usage *usage = &loop->chat->usage;
    int32_t n_read = usage->prompt_tokens - usage->cached_tokens;
    hs_err_printf(loop->io,
                  "prompt   %d tokens (%d reused), %.0f ms, %.1f tokens/s\n"
                  "answer   %d tokens, %.0f ms, %.1f tokens/s",
                  (int)usage->prompt_tokens, (int)usage->cached_tokens, usage->prefill_ms,
                  per_second(n_read, usage->prefill_ms), (int)usage->completion_tokens,
                  usage->decode_ms, per_second(usage->completion_tokens, usage->decode_ms));
    if (usage->seed != HS_SEED_RANDOM) { /* a server does not tell which one it took */
        hs_err_printf(loop->io, ", seed %u", (unsigned)usage->seed);
    }
    hs_err_printf(loop->io, "\n");
}

static void print_room(const struct loop *loop, int64_t n_used, int64_t n_ctx,
                       const struct hs_memory *memory)
{
    char weights[32], kv[32], compute[32];
    hs_err_printf(loop->io,
                  "context  %lld of %lld cells used\n"
                  "memory   weights %s, context %s, computation %s\n",
                  (long long)n_used, (long long)n_ctx,
                  hs_format_bytes(memory->weights_bytes, weights, sizeof weights),
                  hs_format_bytes(memory->kv_bytes, kv, sizeof kv),
                  hs_format_bytes(memory->compute_bytes, compute, sizeof compute));
}

/* The server's figures are of all its clients together. */
static void print_remote_room(const struct loop *loop)
{
    json_t *model HS_CLEANUP(hs_json_freep) = hs_remote_status(loop->chat->remote);
    if (!model) {
        hs_err_printf(loop->io, "%s tells no more\n", hs_remote_url(loop->chat->remote));
        return;
    }
    const json_t *bytes = json_object_get(model, "memory");
    const struct hs_memory memory = {
        (uint64_t)json_integer_value(json_object_get(bytes, "weights_bytes")),
        (uint64_t)json_integer_value(json_object_get(bytes, "kv_bytes")),
        (uint64_t)json_integer_value(json_object_get(bytes, "compute_bytes"))};
    print_room(loop, json_integer_value(json_object_get(model, "kv_cells_used")),
               json_integer_value(json_object_get(model, "n_ctx")), &memory);
    hs_err_printf(loop->io, "server   %lld requests running, %lld waiting\n",
                  (long long)json_integer_value(json_object_get(model, "running")),
                  (long long)json_integer_value(json_object_get(model, "queued")));
}

static hs_status run_stats(struct loop *loop, const char *rest, struct hs_error *err)
{
    (void)rest;
    struct hs_chat *chat = loop->chat;
    struct hs_model_info info;
    struct hs_model_stats stats;
    hs_status status = HS_OK;
    if (!chat->remote) {
        status = hs_engine_model_info(chat->engine, chat->model_id, &info, err);
        status = status ? status : hs_engine_model_stats(chat->engine, chat->model_id, &stats, err);
    }
    if (status) {
        return status;
    }
    if (chat->has_usage) {
        print_usage(loop);
    }
    if (chat->remote) {
        print_remote_room(loop);
    } else {
        print_room(loop, stats.n_kv_used, info.n_ctx, &info.memory);
    }
    return HS_OK;
}

static hs_status run_help(struct loop *loop, const char *rest, struct hs_error *err)
{
    (void)rest;
    (void)err;
    for (size_t i = 0; i < N_CHAT_COMMANDS; i++) {
        const struct chat_command *command = &chat_commands[i];
        int pad = 22 - (int)strlen(command->name) - (int)strlen(command->args);
        hs_err_printf(loop->io, "/%s %s%*s %s\n", command->name, command->args, pad > 0 ? pad : 0,
                      "", command->text);
    }
    hs_err_printf(loop->io, "A line that ends in \\ goes on; \"\"\" begins and ends a block of "
                            "lines. Ctrl-C stops an answer.\n");
    return HS_OK;
}

static hs_status run_exit(struct loop *loop, const char *rest, struct hs_error *err)
{
    (void)rest;
    (void)err;
    loop->leaving = true;
    return HS_OK;
}

/* ---- completion ---- */

static hs_status offer(struct hs_buf *words, const char *typed, size_t len, const char *prefix,
                       const char *name)
{
    HS_CLEANUP(hs_freep) char *word = hs_asprintf("%s%s", prefix, name);
    if (!word) {
        return HS_OUT_OF_MEMORY;
    }
    return strncmp(word, typed, len) == 0 ? hs_buf_append(words, word, strlen(word) + 1) : HS_OK;
}

static hs_status offer_models(struct hs_chat *chat, const char *typed, size_t len,
                              struct hs_buf *words)
{
    struct hs_registry_model *rows = NULL;
    size_t n = 0;
    hs_status status = HS_OK;
    if (chat->remote) {
        const char *id;
        for (size_t i = 0; (id = hs_remote_model_at(chat->remote, i)) != NULL && !status; i++) {
            status = offer(words, typed, len, "", id);
        }
        return status;
    }
    status = hs_registry_need(chat->args->paths, &chat->registry, NULL);
    if (!status) {
        status = hs_registry_model_list(chat->registry, &rows, &n, NULL);
    }
    for (size_t i = 0; i < n && !status; i++) {
        status = offer(words, typed, len, "", rows[i].name);
    }
    hs_registry_models_free(rows, n);
    return status;
}

static hs_status offer_sessions(struct hs_chat *chat, const char *typed, size_t len,
                                struct hs_buf *words)
{
    char **names = NULL;
    size_t n = 0;
    hs_status status = HS_OK;
    if (chat->remote) {
        json_t *list HS_CLEANUP(hs_json_freep) = hs_remote_session_names(chat->remote);
        for (; n < json_array_size(list) && !status; n++) {
            const char *name = json_string_value(json_array_get(list, n));
            status = name ? offer(words, typed, len, "", name) : HS_OK;
        }
        return status;
    }
    status = hs_session_store_list(chat->args->paths->sessions_dir, &names, &n, NULL);
    for (size_t i = 0; i < n && !status; i++) {
        status = offer(words, typed, len, "", names[i]);
    }
    hs_session_names_free(names, n);
    return status;
}

static hs_status offer_adapters(struct hs_chat *chat, const char *typed, size_t len,
                                struct hs_buf *words)
{
    json_t *names HS_CLEANUP(hs_json_freep) = hs_chat_adapters_names(chat);
    hs_status status = offer(words, typed, len, "", "auto");
    for (size_t i = 0; i < json_array_size(names) && !status; i++) {
        status = offer(words, typed, len, "", json_string_value(json_array_get(names, i)));
    }
    return status;
}

static hs_status complete(const char *line, size_t len, size_t *ret_start, struct hs_buf *words,
                          void *user)
{
    struct hs_chat *chat = user;
    hs_status status = HS_OK;
    if (len == 0 || line[0] != '/') {
        return HS_OK;
    }
    const char *space = memchr(line, ' ', len);
    if (!space) {
        *ret_start = 0;
        for (size_t i = 0; i < N_CHAT_COMMANDS && !status; i++) {
            status = offer(words, line, len, "/", chat_commands[i].name);
        }
        return status;
    }
    size_t start = (size_t)(space - line) + 1;
    *ret_start = start;
    if (start == strlen("/model ") && strncmp(line, "/model ", start) == 0) {
        return offer_models(chat, line + start, len - start, words);
    }
    if (start == strlen("/adapter ") && strncmp(line, "/adapter ", start) == 0) {
        return offer_adapters(chat, line + start, len - start, words);
    }
    if (start == strlen("/session ") && strncmp(line, "/session ", start) == 0) {
        return offer_sessions(chat, line + start, len - start, words);
    }
    bool is_set = start == strlen("/set ") && strncmp(line, "/set ", start) == 0;
    for (size_t i = 0; is_set && i < N_ANSWER_SETTINGS && !status; i++) {
        status =
            offer(words, line + start, len - start, "", hs_config_row(answer_settings[i])->name);
    }
    return status;
}

/* ---- the loop ---- */

static hs_status run_command(struct loop *loop, const char *line, struct hs_error *err)
{
    static const char blanks[] = " \t\n";
    size_t len = strlen(line);
    while (strchr(blanks, line[len - 1])) {
        len--; /* completion leaves a blank behind a word */
    }
    HS_CLEANUP(hs_freep) char *name = hs_strndup(line + 1, len - 1);
    if (!name) {
        return hs_error_nomem(err, "command");
    }
    char *rest = name + strcspn(name, blanks);
    char *words = rest + strspn(rest, blanks);
    *rest = '\0';
    rest = words;
    struct hs_nearest nearest = {.name = name};
    for (size_t i = 0; i < N_CHAT_COMMANDS; i++) {
        if (strcmp(chat_commands[i].name, name) == 0) {
            if (*rest && !*chat_commands[i].args) {
                hs_status status =
                    hs_error_set(err, HS_INVALID_ARGUMENT, "'/%s' takes nothing after it", name);
                hs_error_hint(err, "a message can begin with a blank and '/'");
                return status;
            }
            return chat_commands[i].run(loop, rest, err);
        }
        hs_nearest_offer(&nearest, chat_commands[i].name);
    }
    hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "unknown command '/%s'", name);
    if (nearest.best) {
        hs_error_hint(err, "did you mean '/%s'? /help lists the commands", nearest.best);
    } else {
        hs_error_hint(err, "/help lists the commands; a message can begin with a blank and '/'");
    }
    return status;
}

/* Whether the conversation cannot go on: nobody reads the answers, or there is no model. */
static bool is_over(const struct loop *loop)
{
    return !loop->chat->model_id[0] || loop->io->out(loop->io->self, "", 0, NULL) != HS_OK;
}

/* "/help me" is a command, "/usr/bin" is not. */
static bool is_command(const char *line)
{
    size_t len = line[0] == '/' ? strcspn(line + 1, " \t\n") : 0;
    return len > 0 && strspn(line + 1, "abcdefghijklmnopqrstuvwxyz") >= len;
}

static hs_status handle(struct loop *loop, const char *line, struct hs_error *err)
{
    bool is_blank = line[strspn(line, " \t\n")] == '\0';
    if (is_blank) {
        return HS_OK;
    }
    struct hs_error own;
    hs_error_clear(&own);
    loop->io->interrupted(loop->io->self); /* a Ctrl-C from before is not meant for this answer */
    hs_status status = is_command(line) ? run_command(loop, line, &own) : ask(loop, line, &own);
    if (status && is_over(loop)) {
        *err = own;
        return status;
    }
    if (status) {
        hs_error_tell(loop->io, &own);
    }
    return HS_OK;
}

static hs_status tell_session(const struct loop *loop, struct hs_error *err)
{
    const struct hs_dialogue *conversation = &loop->chat->conversation;
    size_t n = 0;
    hs_status status = conversation->name ? hs_dialogue_count(conversation, &n, err) : HS_OK;
    if (status || !conversation->name) {
        return status;
    }
    size_t n_before = loop->chat->remote ? n : loop->chat->record.n_messages;
    if (n_before == 0) {
        hs_err_info(loop->io, "session '%s' is new", conversation->name);
    } else {
        hs_err_info(loop->io, "session '%s', %zu message%s", conversation->name, n,
                    plural((int64_t)n));
    }
    return HS_OK;
}

hs_status hs_chat_loop(struct hs_chat *chat, struct hs_error *err)
{
    const struct hs_command_io *io = chat->args->io;
    struct loop loop = {.chat = chat, .io = io};
    hs_err_info(io, "hyprstream %s; /help lists the commands, Ctrl-D leaves", hs_version());
    hs_status status = tell_session(&loop, err);
    if (status) {
        return status;
    }
    io->set_completer(io->self, complete, chat);
    bool was_interrupted = false;
    while (!loop.leaving && !status) {
        HS_CLEANUP(hs_freep) char *line = NULL;
        status = io->read_line(io->self, PROMPT, &line, err);
        if (status == HS_CANCELLED) {
            loop.leaving = was_interrupted;
            hs_err_printf(io, "%s", was_interrupted ? "" : "(Ctrl-C again or Ctrl-D leaves)\n");
            was_interrupted = true;
            status = HS_OK;
            continue;
        }
        was_interrupted = false;
        if (!status && !line) {
            loop.leaving = true;
        } else if (!status) {
            status = handle(&loop, line, err);
        }
    }
    io->set_completer(io->self, NULL, NULL);
    return status;
}
