#include "fake_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

#define FAKE_MAX_CALLS 8

struct hs_engine {
    char *sessions_dir;
    char model_id[HS_ID_MAX], model_path[1024];
    char session[HS_ID_MAX];
    struct hs_session_record record; /* of the open session */
    hs_session_file *file;
};

struct hs_stream {
    bool is_embedding;
    size_t n_left; /* inputs whose embedding is to come */
    int32_t prompt_tokens;
    float values[FAKE_N_EMBEDDING];
    hs_engine *engine;
    const struct fake_answer *answer;
    size_t next;
    atomic_bool cancelled;
    bool is_done, in_session;
    hs_stream_notify_fn notify;
    void *notify_user;
    int32_t n_logprobs;
    struct hs_token_logprob *logprobs; /* of the last event */
    char text[4096];
    struct hs_tool_call calls[FAKE_MAX_CALLS]; /* made so far, for the session */
    int32_t n_calls;
    char id[64], name[64]; /* of the last event */
};

struct fake_engine_script fake_engine;

static const struct fake_piece default_pieces[] = {
    {HS_EVENT_TEXT, "Hello"}, {HS_EVENT_TEXT, " world"}, {HS_EVENT_TEXT, NULL}};
static const struct fake_answer default_answer = {.pieces = default_pieces};

static void free_asked(struct fake_asked *asked)
{
    free(asked->prompt);
    free(asked->model_id);
    for (size_t m = 0; m < asked->n_messages; m++) {
        hs_message_free(&asked->messages[m]);
    }
    for (size_t s = 0; s < 8; s++) {
        free(asked->stop[s]);
        free(asked->breakers[s]);
    }
    free(asked->grammar);
    free(asked->tag);
    free(asked->client);
    free(asked->samplers);
    for (int32_t i = 0; i < asked->params.n_tools; i++) {
        free((char *)asked->params.tools[i].name);
        free((char *)asked->params.tools[i].description);
        free((char *)asked->params.tools[i].parameters);
    }
    free((void *)asked->params.tools);
    free((char *)asked->params.tool_name);
    free((char *)asked->params.json_schema);
    free((char *)asked->params.template_kwargs);
    hs_adapter_refs_free(asked->adapters, asked->n_adapters);
    *asked = (struct fake_asked){0};
}

void fake_engine_reset(void)
{
    for (size_t i = 0; i < fake_engine.n_asked; i++) {
        free_asked(&fake_engine.asked[i]);
    }
    free_asked(&fake_engine.rendered);
    fake_engine = (struct fake_engine_script){.answers = &default_answer, .n_answers = 1};
}

/* ---- defaults and names ---- */

void hs_engine_params_defaults(struct hs_engine_params *params)
{
    *params = (struct hs_engine_params){0};
}

void hs_model_params_defaults(struct hs_model_params *params)
{
    *params = (struct hs_model_params){.n_gpu_layers = -1, .use_mmap = true};
}

void hs_session_params_defaults(struct hs_session_params *params)
{
    *params = (struct hs_session_params){0};
}

void hs_generate_params_defaults(struct hs_generate_params *params)
{
    *params = (struct hs_generate_params){.sampling = {.seed = HS_SEED_RANDOM}};
}

void hs_embed_params_defaults(struct hs_embed_params *params)
{
    *params = (struct hs_embed_params){.normalize = true};
}

const char *hs_finish_name(enum hs_finish finish)
{
    static const char *const names[] = {"none",      "stop",  "length",
                                        "cancelled", "error", "tool_calls"};
    return names[finish];
}

const char *hs_slot_state_name(enum hs_slot_state state)
{
    static const char *const names[] = {"idle", "prefill", "decode"};
    return names[state];
}

hs_status hs_system_info_get(struct hs_system_info *ret_info, struct hs_error *err)
{
    if (fake_engine.system_status) {
        return hs_error_set(err, fake_engine.system_status, "no backends");
    }
    *ret_info = (struct hs_system_info){.llama_version = "b1234", .cpu_features = "AVX AVX2"};
    ret_info->n_devices = 1;
    snprintf(ret_info->devices[0].name, 64, "CPU");
    snprintf(ret_info->devices[0].description, 128, "Fake CPU");
    snprintf(ret_info->devices[0].library, 64, "libfake.so");
    ret_info->devices[0].memory_total_bytes = 2000000000;
    return HS_OK;
}

/* ---- engine and models ---- */

hs_status hs_engine_create(const struct hs_engine_params *params, hs_engine **ret_engine,
                           struct hs_error *err)
{
    hs_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return hs_error_nomem(err, "fake engine");
    }
    engine->sessions_dir = params->sessions_dir ? strdup(params->sessions_dir) : NULL;
    fake_engine.n_engines++;
    *ret_engine = engine;
    return HS_OK;
}

void hs_engine_free(hs_engine *engine)
{
    if (!engine) {
        return;
    }
    fake_engine.n_engines--;
    fake_engine.n_models -= engine->model_id[0] != '\0';
    hs_session_file_close(engine->file);
    hs_session_record_free(&engine->record);
    free(engine->sessions_dir);
    free(engine);
}

hs_status hs_engine_load_model(hs_engine *engine, const char *path, const char *id,
                               const struct hs_model_params *params, char ret_model_id[HS_ID_MAX],
                               struct hs_error *err)
{
    if (fake_engine.load_path_fails && strcmp(path, fake_engine.load_path_fails) == 0) {
        return hs_error_set(err, HS_BAD_MAGIC, "'%s' is not a GGUF file", path);
    }
    if (fake_engine.load_status) {
        hs_error_set(err, fake_engine.load_status, "cannot load '%s'", path);
        hs_error_hint(err, "a hint");
        return fake_engine.load_status;
    }
    if (fake_engine.load_asks_progress && (!params->progress(0.0f, params->progress_user) ||
                                           !params->progress(0.5f, params->progress_user))) {
        return hs_error_set(err, HS_CANCELLED, "stopped");
    }
    if (id && strncmp(id, "route/", 6) == 0) { /* beside the one model, which stays */
        snprintf(ret_model_id, HS_ID_MAX, "%s", id);
        fake_engine.n_loads++;
        return HS_OK;
    }
    const char *slash = strrchr(path, '/');
    snprintf(engine->model_id, HS_ID_MAX, "%s", id ? id : (slash ? slash + 1 : path));
    snprintf(engine->model_path, sizeof engine->model_path, "%s", path);
    snprintf(fake_engine.loaded_path, sizeof fake_engine.loaded_path, "%s", path);
    memcpy(fake_engine.loaded_id, engine->model_id, HS_ID_MAX);
    memcpy(ret_model_id, engine->model_id, HS_ID_MAX);
    fake_engine.load_params = *params;
    fake_engine.n_loads++;
    fake_engine.n_models++;
    return HS_OK;
}

const char *fake_model_id(const hs_engine *engine)
{
    return engine->model_id;
}

struct hs_session_record *fake_session(hs_engine *engine, const char *id)
{
    return strcmp(engine->session, id) == 0 ? &engine->record : NULL;
}

hs_status fake_need_model(const hs_engine *engine, const char *model_id, struct hs_error *err)
{
    return engine->model_id[0] && strcmp(engine->model_id, model_id) == 0
               ? HS_OK
               : hs_error_set(err, HS_NOT_FOUND, "no model '%s' is loaded", model_id);
}

hs_status hs_engine_unload_model(hs_engine *engine, const char *model_id, struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    if (!status && engine->session[0]) {
        status = hs_error_set(err, HS_BUSY, "a session is open");
    }
    if (!status) {
        engine->model_id[0] = '\0';
        fake_engine.n_models--;
    }
    return status;
}

hs_status hs_engine_model_info(hs_engine *engine, const char *model_id,
                               struct hs_model_info *ret_info, struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    if (status) {
        return status;
    }
    *ret_info = (struct hs_model_info){.n_ctx = 2048,
                                       .n_ctx_train = 8192,
                                       .n_threads = 4,
                                       .n_vocab = FAKE_N_VOCAB,
                                       .can_generate = true,
                                       .n_embedding = FAKE_N_EMBEDDING,
                                       .can_infill = fake_engine.can_infill,
                                       .can_rank = fake_engine.can_rank,
                                       .n_seq_max = FAKE_N_SEQ};
    snprintf(ret_info->id, HS_ID_MAX, "%s", model_id);
    snprintf(ret_info->path, sizeof ret_info->path, "%s", engine->model_path);
    snprintf(ret_info->description, sizeof ret_info->description, "fake 1B Q4");
    snprintf(ret_info->backend, sizeof ret_info->backend, "CPU");
    memset(ret_info->fingerprint, 'f', 64);
    ret_info->memory.weights_bytes = 98400000;
    return HS_OK;
}

hs_status hs_engine_model_stats(hs_engine *engine, const char *model_id,
                                struct hs_model_stats *ret_stats, struct hs_error *err)
{
    *ret_stats = fake_engine.stats;
    ret_stats->n_kv_used = 7;
    return fake_need_model(engine, model_id, err);
}

hs_status hs_engine_model_slots(hs_engine *engine, const char *model_id, struct hs_slot *ret_slots,
                                size_t max, size_t *ret_n, struct hs_error *err)
{
    for (size_t i = 0; i < max && i < FAKE_N_SEQ; i++) {
        ret_slots[i] = fake_engine.slots[i];
        ret_slots[i].id = (int32_t)i;
    }
    *ret_n = max < FAKE_N_SEQ ? max : FAKE_N_SEQ;
    return fake_need_model(engine, model_id, err);
}

hs_status hs_engine_requests(hs_engine *engine, uint64_t after,
                             struct hs_request_record *ret_records, size_t max, size_t *ret_n,
                             struct hs_error *err)
{
    (void)engine;
    (void)err;
    size_t n = 0;
    for (size_t i = after; i < fake_engine.n_records && n < max; i++) {
        ret_records[n++] = fake_engine.records[i];
    }
    *ret_n = n;
    return HS_OK;
}

hs_status hs_engine_tokenize(hs_engine *engine, const char *model_id, const char *text,
                             size_t text_len, bool add_special, bool parse_special,
                             int32_t **ret_tokens, size_t *ret_n, struct hs_error *err)
{
    (void)parse_special;
    hs_status status = fake_need_model(engine, model_id, err);
    int32_t *tokens = status ? NULL : malloc((text_len + 1) * sizeof *tokens);
    if (!tokens) {
        return status ? status : hs_error_nomem(err, "tokens");
    }
    size_t n = 0;
    if (add_special) {
        tokens[n++] = 256;
    }
    for (size_t i = 0; i < text_len; i++) {
        tokens[n++] = (unsigned char)text[i];
    }
    *ret_tokens = tokens;
    *ret_n = n;
    return HS_OK;
}

static hs_status bytes_of(const char *text, int32_t **ret_tokens, size_t *ret_n)
{
    *ret_n = strlen(text);
    *ret_tokens = malloc((*ret_n + 1) * sizeof **ret_tokens);
    for (size_t i = 0; *ret_tokens && i < *ret_n; i++) {
        (*ret_tokens)[i] = (unsigned char)text[i];
    }
    return *ret_tokens ? HS_OK : HS_OUT_OF_MEMORY;
}

hs_status hs_engine_rank_tokens(hs_engine *engine, const char *model_id, const char *query,
                                const char *document, int32_t **ret_tokens, size_t *ret_n,
                                struct hs_error *err)
{
    char text[256];
    snprintf(text, sizeof text, "%s|%s", query, document);
    hs_status status = fake_need_model(engine, model_id, err);
    return status ? status : bytes_of(text, ret_tokens, ret_n);
}

hs_status hs_engine_infill_tokens(hs_engine *engine, const char *model_id,
                                  const struct hs_infill *infill, int32_t **ret_tokens,
                                  size_t *ret_n, struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    if (status) {
        return status;
    }
    fake_engine.infill_max = infill->n_tokens_max;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1u << 20);
    for (size_t i = 0; i < infill->n_files && !status; i++) {
        const char *name = infill->files[i].name;
        status = hs_buf_printf(&text, "{%s%s}", name ? name : "", infill->files[i].text);
    }
    status = status ? status : hs_buf_printf(&text, "<%s>%s_", infill->prefix, infill->suffix);
    return status ? hs_error_set(err, status, "the gap is too long")
                  : bytes_of(text.data, ret_tokens, ret_n);
}

hs_status hs_engine_detokenize(hs_engine *engine, const char *model_id, const int32_t *tokens,
                               size_t n_tokens, bool unparse_special, char **ret_text,
                               size_t *ret_len, struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    char *text = status ? NULL : calloc(4 * n_tokens + 1, 1);
    if (!text) {
        return status ? status : hs_error_nomem(err, "text");
    }
    size_t len = 0;
    for (size_t i = 0; i < n_tokens; i++) {
        if (tokens[i] < 256) {
            text[len++] = (char)tokens[i];
        } else if (unparse_special) {
            memcpy(text + len, "<s>", 3);
            len += 3;
        }
    }
    *ret_text = text;
    *ret_len = len;
    return HS_OK;
}

void hs_tokens_free(int32_t *tokens)
{
    free(tokens);
}

void hs_text_free(char *text)
{
    free(text);
}

/* ---- sessions ---- */

static char *copy(const char *text)
{
    return hs_strdup(text);
}

static struct hs_message copy_message(const struct hs_message *from)
{
    struct hs_message to = {.role = copy(from->role),
                            .content = copy(from->content),
                            .reasoning = copy(from->reasoning),
                            .tool_call_id = copy(from->tool_call_id),
                            .name = copy(from->name)};
    if (from->n_tool_calls > 0) {
        struct hs_tool_call *calls = hs_calloc((size_t)from->n_tool_calls, sizeof *calls);
        for (int32_t i = 0; calls && i < from->n_tool_calls; i++) {
            calls[i] =
                (struct hs_tool_call){copy(from->tool_calls[i].id), copy(from->tool_calls[i].name),
                                      copy(from->tool_calls[i].arguments)};
        }
        to.tool_calls = calls;
        to.n_tool_calls = calls ? from->n_tool_calls : 0;
    }
    return to;
}

static void push_message(struct hs_session_record *record, const struct hs_message *message)
{
    struct hs_message *messages =
        hs_realloc_array(record->messages, record->n_messages + 1, sizeof *messages);
    if (messages) {
        messages[record->n_messages++] = copy_message(message);
        record->messages = messages;
    }
}

static void push(struct hs_session_record *record, const char *role, const char *content)
{
    struct hs_message message = {.role = role, .content = content};
    push_message(record, &message);
}

void hs_message_free(struct hs_message *message)
{
    hs_free((char *)message->role);
    hs_free((char *)message->content);
    hs_free((char *)message->reasoning);
    for (int32_t i = 0; i < message->n_tool_calls; i++) {
        hs_free((char *)message->tool_calls[i].id);
        hs_free((char *)message->tool_calls[i].name);
        hs_free((char *)message->tool_calls[i].arguments);
    }
    hs_free((void *)message->tool_calls);
    hs_free((char *)message->tool_call_id);
    hs_free((char *)message->name);
    *message = (struct hs_message){0};
}

hs_status hs_engine_create_session(hs_engine *engine, const struct hs_session_params *params,
                                   char ret_session_id[HS_ID_MAX], struct hs_error *err)
{
    int nth = ++fake_engine.n_sessions;
    if (fake_engine.session_status &&
        (fake_engine.session_fails_at == 0 || fake_engine.session_fails_at == nth)) {
        return hs_error_set(err, fake_engine.session_status, "session '%s' is in use",
                            params->name);
    }
    hs_session_file *file = NULL;
    hs_status status = hs_session_file_open(engine->sessions_dir, params->name, true, &file, err);
    if (status) {
        return status;
    }
    if (engine->file && engine->record.n_messages > 0) { /* the fake knows one open session */
        status = hs_session_file_save(engine->file, &engine->record, err);
    }
    hs_session_file_close(engine->file);
    hs_session_record_free(&engine->record);
    engine->record = (struct hs_session_record){0};
    engine->file = file;
    status = status ? status : hs_session_file_load(engine->file, &engine->record, err);
    if (status && status != HS_NOT_FOUND) {
        hs_session_file_close(engine->file);
        engine->file = NULL;
        return status;
    }
    hs_free(engine->record.model_name);
    hs_free(engine->record.fingerprint);
    engine->record.model_name = copy(params->model_id);
    engine->record.fingerprint = copy("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
                                      "ffff");
    engine->record.created_unix_ms = 1000;
    engine->record.updated_unix_ms = 2000;
    snprintf(engine->session, HS_ID_MAX, "%s", params->name);
    memcpy(ret_session_id, engine->session, HS_ID_MAX);
    if (params->n_adapters > 0) {
        status = hs_engine_apply_lora_weights(engine, engine->session, params->adapters,
                                              params->n_adapters, err);
    } else {
        status = HS_OK;
    }
    if (status) {
        return status;
    }
    return params->system ? hs_session_set_system(engine, engine->session, params->system, err)
                          : HS_OK;
}

hs_status hs_engine_close_session(hs_engine *engine, const char *session_id, struct hs_error *err)
{
    if (strcmp(engine->session, session_id) != 0) {
        return HS_OK; /* it made room for another one */
    }
    if (fake_engine.close_status) {
        return hs_error_set(err, fake_engine.close_status, "session '%s' cannot be saved",
                            session_id);
    }
    hs_status status = engine->record.n_messages > 0
                           ? hs_session_file_save(engine->file, &engine->record, err)
                           : HS_OK;
    hs_session_file_close(engine->file);
    engine->file = NULL;
    engine->session[0] = '\0';
    return status;
}

hs_status hs_session_message_count(hs_engine *engine, const char *session_id, size_t *ret_n,
                                   struct hs_error *err)
{
    (void)session_id;
    (void)err;
    *ret_n = engine->record.n_messages;
    return HS_OK;
}

hs_status hs_session_message(hs_engine *engine, const char *session_id, size_t i,
                             struct hs_message *ret_message, struct hs_error *err)
{
    (void)session_id;
    if (i >= engine->record.n_messages) {
        return hs_error_set(err, HS_NOT_FOUND, "no message %zu", i);
    }
    struct hs_message message = copy_message(&engine->record.messages[i]);
    if (!message.role || !message.content) {
        hs_message_free(&message);
        return hs_error_nomem(err, "fake message");
    }
    *ret_message = message;
    return HS_OK;
}

hs_status hs_session_append(hs_engine *engine, const char *session_id,
                            const struct hs_message *message, struct hs_error *err)
{
    if (strcmp(engine->session, session_id) != 0) {
        return hs_error_set(err, HS_NOT_FOUND, "no session '%s' is open", session_id);
    }
    push_message(&engine->record, message);
    return HS_OK;
}

hs_status hs_session_truncate(hs_engine *engine, const char *session_id, size_t n_keep,
                              struct hs_error *err)
{
    (void)session_id;
    (void)err;
    while (engine->record.n_messages > n_keep) {
        hs_message_free(&engine->record.messages[--engine->record.n_messages]);
    }
    return HS_OK;
}

hs_status hs_session_set_system(hs_engine *engine, const char *session_id, const char *system,
                                struct hs_error *err)
{
    (void)session_id;
    (void)err;
    struct hs_session_record *record = &engine->record;
    if (record->n_messages > 0 && strcmp(record->messages[0].role, "system") == 0) {
        hs_message_free(&record->messages[0]);
        record->n_messages--;
        memmove(record->messages, record->messages + 1,
                record->n_messages * sizeof *record->messages);
    }
    if (system) {
        push(record, "system", system);
        struct hs_message last = record->messages[record->n_messages - 1];
        memmove(record->messages + 1, record->messages,
                (record->n_messages - 1) * sizeof *record->messages);
        record->messages[0] = last;
    }
    return HS_OK;
}

/* ---- generating ---- */

static char *own(const char *text)
{
    return text ? strdup(text) : NULL;
}

static void copy_shape(struct hs_generate_params *params)
{
    struct hs_tool *tools = calloc((size_t)params->n_tools + 1, sizeof *tools);
    if (!tools) {
        abort();
    }
    for (int32_t i = 0; i < params->n_tools; i++) {
        tools[i] = (struct hs_tool){own(params->tools[i].name), own(params->tools[i].description),
                                    own(params->tools[i].parameters)};
    }
    params->tools = tools;
    params->tool_name = own(params->tool_name);
    params->json_schema = own(params->json_schema);
    params->template_kwargs = own(params->template_kwargs);
}

static void fill_asked(struct fake_asked *asked, const char *model_id, const char *prompt,
                       const struct hs_message *messages, size_t n_messages,
                       const struct hs_generate_params *params)
{
    asked->prompt = prompt ? strdup(prompt) : NULL;
    asked->model_id = strdup(model_id);
    asked->params = *params;
    copy_shape(&asked->params);
    for (int32_t i = 0; i < params->n_stop && i < 8; i++) {
        asked->stop[i] = strdup(params->stop[i]);
    }
    const struct hs_sampling *sampling = &params->sampling;
    asked->grammar = sampling->grammar ? strdup(sampling->grammar) : NULL;
    asked->tag = params->tag ? strdup(params->tag) : NULL;
    asked->client = params->client ? strdup(params->client) : NULL;
    asked->samplers = sampling->samplers ? strdup(sampling->samplers) : NULL;
    for (int32_t i = 0; i < sampling->n_dry_breakers && i < 8; i++) {
        asked->breakers[i] = strdup(sampling->dry_breakers[i]);
    }
    for (int32_t i = 0; i < sampling->n_logit_bias && i < 8; i++) {
        asked->bias_tokens[i] = sampling->logit_bias_tokens[i];
        asked->bias_values[i] = sampling->logit_bias_values[i];
    }
    for (size_t i = 0; i < n_messages && i < FAKE_MAX_MESSAGES; i++) {
        asked->messages[asked->n_messages++] = copy_message(&messages[i]);
    }
}

static void record_asked(const char *model_id, const char *prompt,
                         const struct hs_message *messages, size_t n_messages,
                         const struct hs_generate_params *params)
{
    if (fake_engine.n_asked == FAKE_MAX_ASKED) {
        abort(); /* the test asks more than the fake was made for */
    }
    fill_asked(&fake_engine.asked[fake_engine.n_asked++], model_id, prompt, messages, n_messages,
               params);
}

static void record_adapters(const struct hs_adapter_ref *adapters, size_t n)
{
    struct fake_asked *asked = &fake_engine.asked[fake_engine.n_asked - 1];
    asked->adapters = fake_adapters_copy(adapters, n);
    asked->n_adapters = n;
}

static hs_status new_stream(hs_engine *engine, bool in_session, hs_stream **ret_stream,
                            struct hs_error *err)
{
    size_t i = fake_engine.n_asked - 1;
    i = i < fake_engine.n_answers ? i : fake_engine.n_answers - 1;
    const struct fake_answer *answer = &fake_engine.answers[i];
    if (answer->refuse) {
        hs_error_set(err, answer->refuse, "%s", answer->error.message);
        return answer->refuse;
    }
    hs_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return hs_error_nomem(err, "fake stream");
    }
    stream->engine = engine;
    stream->answer = answer;
    stream->in_session = in_session;
    stream->n_logprobs = fake_engine.asked[fake_engine.n_asked - 1].params.n_logprobs;
    fake_engine.was_cancelled = false;
    fake_engine.n_streams++;
    *ret_stream = stream;
    return HS_OK;
}

hs_status hs_engine_generate(hs_engine *engine, const char *session_id, const char *prompt,
                             const struct hs_generate_params *params, hs_stream **ret_stream,
                             struct hs_error *err)
{
    (void)session_id;
    if (prompt) {
        push(&engine->record, "user", prompt);
    }
    record_asked(engine->model_id, prompt, engine->record.messages, engine->record.n_messages,
                 params);
    record_adapters(engine->record.adapters, engine->record.n_adapters);
    hs_status status = new_stream(engine, true, ret_stream, err);
    if (status && prompt) {
        hs_message_free(&engine->record.messages[--engine->record.n_messages]);
    }
    return status;
}

hs_status hs_engine_chat(hs_engine *engine, const char *model_id,
                         const struct hs_adapter_ref *adapters, int32_t n_adapters,
                         const struct hs_message *messages, size_t n_messages,
                         const struct hs_generate_params *params, hs_stream **ret_stream,
                         struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    status = status ? status : fake_adapters_take(model_id, adapters, n_adapters, err);
    if (status) {
        return status;
    }
    record_asked(model_id, NULL, messages, n_messages, params);
    record_adapters(adapters, (size_t)n_adapters);
    return new_stream(engine, false, ret_stream, err);
}

hs_status hs_engine_complete(hs_engine *engine, const char *model_id,
                             const struct hs_adapter_ref *adapters, int32_t n_adapters,
                             const int32_t *tokens, size_t n_tokens,
                             const struct hs_generate_params *params, hs_stream **ret_stream,
                             struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    status = status ? status : fake_adapters_take(model_id, adapters, n_adapters, err);
    if (status) {
        return status;
    }
    record_asked(model_id, NULL, NULL, 0, params);
    record_adapters(adapters, (size_t)n_adapters);
    struct fake_asked *asked = &fake_engine.asked[fake_engine.n_asked - 1];
    asked->n_tokens = n_tokens < 64 ? n_tokens : 64;
    for (size_t i = 0; i < asked->n_tokens; i++) {
        asked->tokens[i] = tokens[i];
    }
    return new_stream(engine, false, ret_stream, err);
}

hs_status hs_engine_render(hs_engine *engine, const char *model_id,
                           const struct hs_message *messages, size_t n_messages,
                           const struct hs_generate_params *params, char **ret_text,
                           size_t *ret_len, struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    if (status) {
        return status;
    }
    free_asked(&fake_engine.rendered);
    fill_asked(&fake_engine.rendered, model_id, NULL, messages, n_messages, params);
    fake_engine.n_rendered++;
    if (fake_engine.render_status) {
        return hs_error_set(err, fake_engine.render_status, "it cannot be rendered");
    }
    *ret_text = strdup("rendered");
    *ret_len = strlen("rendered");
    return HS_OK;
}

hs_status hs_engine_embed(hs_engine *engine, const char *model_id,
                          const struct hs_embed_input *inputs, size_t n_inputs,
                          const struct hs_embed_params *params, hs_stream **ret_stream,
                          struct hs_error *err)
{
    struct fake_embedding *script = &fake_engine.embedding;
    hs_status status = fake_need_model(engine, model_id, err);
    if (status) {
        return status;
    }
    script->n_asked++;
    script->n_inputs = n_inputs;
    script->params = *params;
    if (script->refuse) {
        *err = script->error;
        return err->status = script->refuse;
    }
    hs_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return hs_error_nomem(err, "fake stream");
    }
    for (size_t i = 0; i < n_inputs; i++) {
        stream->prompt_tokens += (int32_t)inputs[i].n_tokens;
        for (size_t t = 0; i < FAKE_MAX_INPUTS && t < inputs[i].n_tokens && t < 64; t++) {
            script->tokens[i][t] = inputs[i].tokens[t];
        }
        script->n_tokens[i < FAKE_MAX_INPUTS ? i : FAKE_MAX_INPUTS - 1] = inputs[i].n_tokens;
    }
    stream->is_embedding = true;
    stream->n_left = n_inputs;
    fake_engine.was_cancelled = false;
    fake_engine.n_streams++;
    *ret_stream = stream;
    return HS_OK;
}

static hs_status next_embedding(hs_stream *stream, struct hs_event *event, struct hs_error *err)
{
    const struct fake_embedding *script = &fake_engine.embedding;
    bool has_begun = stream->n_left < script->n_inputs;
    bool fails = script->error.status != HS_OK;
    if (has_begun && script->waits && !stream->cancelled) {
        return hs_error_set(err, HS_TIMEOUT, "nothing yet");
    }
    if (stream->n_left == 0 || stream->cancelled || (has_begun && fails)) {
        enum hs_finish how = fails ? HS_FINISH_ERROR : HS_FINISH_STOP;
        *event = (struct hs_event){.type = HS_EVENT_DONE,
                                   .text = "",
                                   .finish = stream->cancelled ? HS_FINISH_CANCELLED : how,
                                   .usage = {.prompt_tokens = stream->prompt_tokens},
                                   .error = script->error};
        stream->is_done = true;
        return HS_OK;
    }
    size_t i = --stream->n_left;
    int32_t n = script->params.dimensions > 0 ? script->params.dimensions : FAKE_N_EMBEDDING;
    n = script->scores ? 1 : n;
    for (int32_t v = 0; v < n; v++) {
        stream->values[v] = script->scores
                                ? script->scores[i]
                                : (float)script->tokens[i % FAKE_MAX_INPUTS][0] + (float)v / 8;
    }
    *event = (struct hs_event){.type = HS_EVENT_EMBEDDING,
                               .text = "",
                               .index = (int32_t)i,
                               .values = stream->values,
                               .n_values = n};
    return HS_OK;
}

static void finish(hs_stream *stream, struct hs_event *event)
{
    const struct fake_answer *answer = stream->answer;
    enum hs_finish how = stream->n_calls > 0 ? HS_FINISH_TOOL_CALLS : HS_FINISH_STOP;
    how = answer->finish ? answer->finish : how;
    how = stream->cancelled ? HS_FINISH_CANCELLED : how;
    *event = (struct hs_event){.type = HS_EVENT_DONE, .text = "", .finish = how};
    event->usage = (struct hs_usage){.prompt_tokens = FAKE_PROMPT_TOKENS,
                                     .cached_tokens = 4,
                                     .completion_tokens = (int32_t)stream->next,
                                     .stopped_by = answer->stopped_by,
                                     .seed = 42,
                                     .prefill_ms = 10,
                                     .decode_ms = 20};
    event->error = answer->error;
    stream->is_done = true;
    struct hs_session_record *record = &stream->engine->record;
    if (stream->in_session && how == HS_FINISH_ERROR) {
        hs_message_free(&record->messages[--record->n_messages]);
    } else if (stream->in_session) {
        struct hs_message message = {.role = "assistant",
                                     .content = stream->text,
                                     .tool_calls = stream->calls,
                                     .n_tool_calls = stream->n_calls};
        push_message(record, &message);
    }
}

/* A row of FAKE_CALL: the one with a name opens the call, the later ones add to its arguments. */
static void add_call(hs_stream *stream, struct hs_event *event)
{
    int32_t at = event->index = event->text[0] - '0';
    const char *id = strchr(event->text, '\t') + 1;
    const char *name = strchr(id, '\t') + 1;
    const char *arguments = strchr(name, '\t') + 1;
    snprintf(stream->id, sizeof stream->id, "%.*s", (int)(name - id - 1), id);
    snprintf(stream->name, sizeof stream->name, "%.*s", (int)(arguments - name - 1), name);
    event->text = arguments;
    event->text_len = strlen(arguments);
    int32_t n_calls = stream->n_calls + (stream->name[0] != '\0');
    if (at >= n_calls || n_calls > FAKE_MAX_CALLS) {
        abort(); /* a call that the script did not begin, or too many */
    }
    if (stream->name[0]) {
        event->tool_call_id = stream->id;
        event->tool_name = stream->name;
        stream->calls[stream->n_calls++] =
            (struct hs_tool_call){own(stream->id), own(stream->name), own("")};
    }
    struct hs_tool_call *call = &stream->calls[at];
    size_t len = strlen(call->arguments);
    char *all = realloc((char *)call->arguments, len + event->text_len + 1);
    if (!all) {
        abort();
    }
    memcpy(all + len, arguments, event->text_len + 1);
    call->arguments = all;
}

static void add_logprobs(hs_stream *stream, struct hs_event *event)
{
    size_t stride = (size_t)stream->n_logprobs + 1;
    struct hs_token_logprob *rows = calloc(event->text_len * stride + 1, sizeof *rows);
    if (!rows) {
        abort();
    }
    for (size_t t = 0; t < event->text_len; t++) {
        int32_t token = (unsigned char)event->text[t];
        rows[t * stride] = (struct hs_token_logprob){token, -0.5f};
        for (int32_t i = 0; i < stream->n_logprobs; i++) {
            rows[t * stride + 1 + (size_t)i] =
                (struct hs_token_logprob){(token + i) % 256, -0.5f - (float)i};
        }
    }
    free(stream->logprobs);
    stream->logprobs = rows;
    event->logprobs = rows;
    event->n_tokens = (int32_t)event->text_len;
}

hs_status hs_stream_next(hs_stream *stream, int timeout_ms, struct hs_event *ret_event,
                         struct hs_error *err)
{
    (void)timeout_ms;
    if (stream->is_done) {
        return hs_error_set(err, HS_NOT_FOUND, "the stream is over");
    }
    if (stream->is_embedding) {
        return next_embedding(stream, ret_event, err);
    }
    const struct fake_piece *piece = &stream->answer->pieces[stream->next];
    if (piece->text && strcmp(piece->text, FAKE_WAIT) == 0) {
        if (!stream->cancelled) {
            return hs_error_set(err, HS_TIMEOUT, "nothing yet");
        }
        finish(stream, ret_event);
        return HS_OK;
    }
    if (!piece->text || stream->cancelled) {
        finish(stream, ret_event);
        return HS_OK;
    }
    stream->next++;
    if (piece->type == HS_EVENT_TEXT) {
        strncat(stream->text, piece->text, sizeof stream->text - strlen(stream->text) - 1);
    }
    *ret_event = (struct hs_event){
        .type = piece->type, .text = piece->text, .text_len = strlen(piece->text), .n_tokens = 1};
    if (piece->type == HS_EVENT_TOOL_CALL) {
        add_call(stream, ret_event);
    }
    if (stream->n_logprobs > 0) {
        add_logprobs(stream, ret_event);
    }
    return HS_OK;
}

int32_t hs_stream_prompt_tokens(const hs_stream *stream)
{
    (void)stream;
    return FAKE_PROMPT_TOKENS;
}

void hs_stream_cancel(hs_stream *stream)
{
    stream->cancelled = true;
    fake_engine.was_cancelled = true;
    if (stream->notify) {
        stream->notify(stream->notify_user);
    }
}

/* Everything is there from the start, but for what FAKE_WAIT holds back. */
void hs_stream_set_notify(hs_stream *stream, hs_stream_notify_fn notify, void *user)
{
    stream->notify_user = user;
    stream->notify = notify;
    if (notify) {
        notify(user);
    }
}

void hs_stream_free(hs_stream *stream)
{
    if (stream) {
        fake_engine.n_streams--;
        for (int32_t i = 0; i < stream->n_calls; i++) {
            free((char *)stream->calls[i].id);
            free((char *)stream->calls[i].name);
            free((char *)stream->calls[i].arguments);
        }
        free(stream->logprobs);
        free(stream);
    }
}
