#include "engine_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "embedder.h"
#include "model_loader.h"
#include "worker.h"

#define TEXT_MAX_BYTES ((size_t)1 << 30)
#define CHECKPOINT_MIN_TOKENS 32 /* shorter prompts are quickly evaluated anew */

/* ---- life ---- */

static hs_status check_params(const struct hs_engine_params *params, struct hs_error *err)
{
    if (params->max_queue < 0 || params->max_queue > 1 << 20) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "max_queue is %d; it must be 0 to %d",
                            params->max_queue, 1 << 20);
    }
    if (params->max_client_queue < 0 || params->max_client_queue > 1 << 20) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "max_client_queue is %d; it must be 0 to %d",
                            params->max_client_queue, 1 << 20);
    }
    if (params->prefill_chunk < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "prefill_chunk is %d; it must not be negative", params->prefill_chunk);
    }
    if (params->prefill_ms < -1) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "prefill_ms is %d; it must be at least -1",
                            params->prefill_ms);
    }
    return HS_OK;
}

hs_status hs_engine_create_with_runtime(const struct hs_engine_params *params,
                                        const struct hs_runtime *rt, hs_engine **ret_engine,
                                        struct hs_error *err)
{
    struct hs_engine_params defaults;
    if (params == NULL) {
        hs_engine_params_defaults(&defaults);
        params = &defaults;
    }
    hs_status status = check_params(params, err);
    if (status != HS_OK) {
        return status;
    }
    hs_engine *engine = hs_calloc(1, sizeof(*engine));
    if (engine == NULL) {
        return hs_error_nomem(err, "engine");
    }
    engine->rt = rt;
    engine->params = *params;
    engine->params.sessions_dir = NULL;
    int rc = pthread_mutex_init(&engine->mutex, NULL);
    if (rc != 0) {
        hs_free(engine);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot make a lock: %s", strerror(rc));
    }
    status = hs_engine_new_adapters(engine, err);
    if (status == HS_OK) {
        status = hs_request_log_new(&engine->log, err);
    }
    if (status == HS_OK) {
        status = hs_session_manager_new(params->sessions_dir, &engine->sessions, err);
    }
    if (status != HS_OK) {
        hs_engine_free_adapters(engine);
        hs_request_log_free(engine->log);
        pthread_mutex_destroy(&engine->mutex);
        hs_free(engine);
        return status;
    }
    *ret_engine = engine;
    return HS_OK;
}

hs_status hs_engine_create(const struct hs_engine_params *params, hs_engine **ret_engine,
                           struct hs_error *err)
{
    return hs_engine_create_with_runtime(params, hs_runtime_llama(), ret_engine, err);
}

void hs_engine_free(hs_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    /* Requests end first, then sessions take their KV from workers that still live. */
    for (size_t i = 0; i < engine->n_models; i++) {
        if (engine->models[i]->worker != NULL) {
            hs_worker_close(engine->models[i]->worker);
        }
        hs_embedder_close(engine->models[i]->embedder);
    }
    hs_session_manager_free(engine->sessions);
    hs_engine_free_adapters(engine);
    for (size_t i = 0; i < engine->n_models; i++) {
        hs_model_unload(engine->models[i]);
        hs_free(engine->models[i]);
    }
    hs_free(engine->models);
    hs_request_log_free(engine->log);
    pthread_mutex_destroy(&engine->mutex);
    hs_free(engine);
}

/* ---- models ---- */

/* Called with the mutex held. Index, or n_models. */
static size_t find_locked(const hs_engine *engine, const char *id)
{
    size_t i = 0;
    while (i < engine->n_models && strcmp(engine->models[i]->info.id, id) != 0) {
        i++;
    }
    return i;
}

hs_status hs_engine_acquire_model(hs_engine *engine, const char *id, struct hs_model **ret_model,
                                  struct hs_error *err)
{
    if (id == NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "no model is named");
    }
    hs_status status = HS_OK;
    pthread_mutex_lock(&engine->mutex);
    size_t i = find_locked(engine, id);
    if (i == engine->n_models || engine->models[i]->is_loading) {
        hs_error_set(err, HS_NOT_FOUND, "no model '%.100s' is loaded", id);
        hs_error_hint(err, "load it first");
        status = HS_NOT_FOUND;
    } else {
        engine->models[i]->n_users++;
        *ret_model = engine->models[i];
    }
    pthread_mutex_unlock(&engine->mutex);
    return status;
}

void hs_engine_release_model(hs_engine *engine, struct hs_model *model)
{
    pthread_mutex_lock(&engine->mutex);
    model->n_users--;
    pthread_mutex_unlock(&engine->mutex);
}

static hs_status add_locked(hs_engine *engine, struct hs_model *model, struct hs_error *err)
{
    if (find_locked(engine, model->info.id) < engine->n_models) {
        hs_error_set(err, HS_ALREADY_EXISTS, "a model '%s' is loaded already", model->info.id);
        hs_error_hint(err, "give this one another id, or unload the other");
        return HS_ALREADY_EXISTS;
    }
    if (engine->n_models == engine->cap_models) {
        size_t cap = engine->cap_models * 2 + 4;
        struct hs_model **models = hs_realloc_array(engine->models, cap, sizeof(models[0]));
        if (models == NULL) {
            return hs_error_nomem(err, "list of models");
        }
        engine->models = models;
        engine->cap_models = cap;
    }
    engine->models[engine->n_models++] = model;
    return HS_OK;
}

static void remove_model(hs_engine *engine, struct hs_model *model)
{
    pthread_mutex_lock(&engine->mutex);
    size_t i = find_locked(engine, model->info.id);
    engine->models[i] = engine->models[--engine->n_models];
    pthread_mutex_unlock(&engine->mutex);
}

static hs_status make_model(const char *path, const char *id, struct hs_model **ret_model,
                            struct hs_error *err)
{
    struct hs_model *model = hs_calloc(1, sizeof(*model));
    if (model == NULL) {
        return hs_error_nomem(err, "model");
    }
    hs_status status = HS_OK;
    if (id == NULL) {
        status = hs_model_id_from_path(path, model->info.id, err);
    } else if (id[0] == '\0' || strlen(id) >= HS_ID_MAX) {
        status =
            hs_error_set(err, HS_INVALID_ARGUMENT, "a model id has 1 to %d bytes", HS_ID_MAX - 1);
    } else {
        snprintf(model->info.id, sizeof(model->info.id), "%s", id);
    }
    if (status != HS_OK) {
        hs_free(model);
        return status;
    }
    model->is_loading = true;
    *ret_model = model;
    return HS_OK;
}

hs_status hs_engine_load_model(hs_engine *engine, const char *path, const char *id,
                               const struct hs_model_params *params, char ret_model_id[HS_ID_MAX],
                               struct hs_error *err)
{
    struct hs_model_params defaults;
    if (params == NULL) {
        hs_model_params_defaults(&defaults);
        params = &defaults;
    }
    if (path == NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "no model file is named");
    }
    struct hs_model *model = NULL;
    hs_status status = make_model(path, id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    model->log = engine->log;
    pthread_mutex_lock(&engine->mutex);
    status = add_locked(engine, model, err);
    pthread_mutex_unlock(&engine->mutex);
    if (status != HS_OK) {
        hs_free(model);
        return status;
    }
    struct hs_model_load load = {
        .rt = engine->rt, .path = path, .params = params, .engine = &engine->params};
    status = hs_model_load(&load, model, err);
    if (status != HS_OK) {
        remove_model(engine, model);
        hs_free(model);
        return status;
    }
    memcpy(ret_model_id, model->info.id, sizeof(model->info.id));
    pthread_mutex_lock(&engine->mutex);
    model->is_loading = false;
    pthread_mutex_unlock(&engine->mutex);
    return HS_OK;
}

/* Called with the mutex held. */
static hs_status check_unused(struct hs_model *model, struct hs_error *err)
{
    if (model->n_sessions > 0) {
        hs_error_set(err, HS_BUSY, "model '%s' has %d open sessions", model->info.id,
                     model->n_sessions);
        hs_error_hint(err, "close them first");
        return HS_BUSY;
    }
    bool is_busy = (model->worker != NULL && hs_worker_is_busy(model->worker)) ||
                   hs_embedder_is_busy(model->embedder);
    if (model->n_users > 0 || is_busy) {
        hs_error_set(err, HS_BUSY, "model '%s' is in use", model->info.id);
        hs_error_hint(err, "wait for its requests, or cancel them");
        return HS_BUSY;
    }
    return HS_OK;
}

hs_status hs_engine_unload_model(hs_engine *engine, const char *model_id, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&engine->mutex);
    model->n_users--;
    status = check_unused(model, err);
    if (status == HS_OK) {
        /* Nobody finds it any more, its id stays taken until it is gone. */
        model->is_loading = true;
    }
    pthread_mutex_unlock(&engine->mutex);
    if (status == HS_OK) {
        hs_adapter_pool_drop(engine->adapters, model);
        hs_lora_router_forget_model(engine->router, model_id);
        hs_model_unload(model);
        remove_model(engine, model);
        hs_free(model);
    }
    return status;
}

hs_status hs_engine_model_info(hs_engine *engine, const char *model_id,
                               struct hs_model_info *ret_info, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status == HS_OK) {
        *ret_info = model->info;
        hs_embedder_add_memory(model->embedder, &ret_info->memory);
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_model_stats(hs_engine *engine, const char *model_id,
                                struct hs_model_stats *ret_stats, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status == HS_OK) {
        *ret_stats = (struct hs_model_stats){0};
        if (model->worker != NULL) {
            hs_worker_stats(model->worker, ret_stats);
        }
        hs_embedder_add_stats(model->embedder, ret_stats);
        hs_adapter_pool_stats(engine->adapters, model, ret_stats);
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_model_slots(hs_engine *engine, const char *model_id, struct hs_slot *ret_slots,
                                size_t max, size_t *ret_n, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status == HS_OK) {
        *ret_n = model->worker == NULL ? 0 : hs_worker_slots(model->worker, ret_slots, max);
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_requests(hs_engine *engine, uint64_t after,
                             struct hs_request_record *ret_records, size_t max, size_t *ret_n,
                             struct hs_error *err)
{
    (void)err;
    *ret_n = hs_request_log_read(engine->log, after, ret_records, max);
    return HS_OK;
}

hs_status hs_engine_acquire_generator(hs_engine *engine, const char *id,
                                      struct hs_model **ret_model, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, id, &model, err);
    if (status == HS_OK) {
        status = hs_model_check_generates(model, err);
        if (status != HS_OK) {
            hs_engine_release_model(engine, model);
            return status;
        }
        *ret_model = model;
    }
    return status;
}

/* ---- text and tokens ---- */

static hs_status take_tokens(struct hs_buf *tokens, int32_t **ret_tokens, size_t *ret_n,
                             struct hs_error *err)
{
    char *data = NULL;
    size_t len = 0;
    if (hs_buf_take(tokens, &data, &len) != HS_OK) {
        return hs_error_nomem(err, "tokens");
    }
    *ret_tokens = (int32_t *)(void *)data;
    *ret_n = len / sizeof(int32_t);
    return HS_OK;
}

hs_status hs_engine_tokenize(hs_engine *engine, const char *model_id, const char *text,
                             size_t text_len, bool add_special, bool parse_special,
                             int32_t **ret_tokens, size_t *ret_n, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(TEXT_MAX_BYTES);
    status = engine->rt->tokenize(model->rt_model, text, text_len, add_special, parse_special,
                                  &tokens, err);
    hs_engine_release_model(engine, model);
    return status == HS_OK ? take_tokens(&tokens, ret_tokens, ret_n, err) : status;
}

hs_status hs_engine_rank_tokens(hs_engine *engine, const char *model_id, const char *query,
                                const char *document, int32_t **ret_tokens, size_t *ret_n,
                                struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(TEXT_MAX_BYTES);
    status = engine->rt->rank_tokens(model->rt_model, query, document, &tokens, err);
    hs_engine_release_model(engine, model);
    return status == HS_OK ? take_tokens(&tokens, ret_tokens, ret_n, err) : status;
}

hs_status hs_engine_infill_tokens(hs_engine *engine, const char *model_id,
                                  const struct hs_infill *infill, int32_t **ret_tokens,
                                  size_t *ret_n, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(TEXT_MAX_BYTES);
    status = engine->rt->infill_tokens(model->rt_model, infill, &tokens, err);
    hs_engine_release_model(engine, model);
    return status == HS_OK ? take_tokens(&tokens, ret_tokens, ret_n, err) : status;
}

static hs_status take_text(struct hs_buf *text, char **ret_text, size_t *ret_len,
                           struct hs_error *err)
{
    if (hs_buf_take(text, ret_text, ret_len) != HS_OK) {
        return hs_error_nomem(err, "text");
    }
    return HS_OK;
}

hs_status hs_engine_detokenize(hs_engine *engine, const char *model_id, const int32_t *tokens,
                               size_t n_tokens, bool unparse_special, char **ret_text,
                               size_t *ret_len, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(TEXT_MAX_BYTES);
    status = hs_prompt_check_tokens(model, tokens, n_tokens, err);
    if (status == HS_OK) {
        status =
            engine->rt->detokenize(model->rt_model, tokens, n_tokens, unparse_special, &text, err);
    }
    hs_engine_release_model(engine, model);
    return status == HS_OK ? take_text(&text, ret_text, ret_len, err) : status;
}

hs_status hs_engine_render(hs_engine *engine, const char *model_id,
                           const struct hs_message *messages, size_t n_messages,
                           const struct hs_generate_params *params, char **ret_text,
                           size_t *ret_len, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_prompt_check_messages(messages, n_messages, params->continue_final, err);
    if (status == HS_OK) {
        status = hs_shape_check(params, err);
    }
    if (status == HS_OK) {
        status = hs_engine_acquire_model(engine, model_id, &model, err);
    }
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(TEXT_MAX_BYTES);
    struct hs_rt_reasoning reasoning;
    struct hs_shape shape = hs_shape_of(params);
    status = hs_prompt_render(model, messages, n_messages, &shape, true, &text, &reasoning, err);
    hs_engine_release_model(engine, model);
    return status == HS_OK ? take_text(&text, ret_text, ret_len, err) : status;
}

/* ---- generation ---- */

/* The present versions of the adapters that the request names are its own from now on. */
static hs_status lease_adapters(hs_engine *engine, struct hs_request *request,
                                const struct hs_adapter_ref *adapters, int32_t n_adapters,
                                struct hs_error *err)
{
    if (n_adapters == 0) {
        return HS_OK;
    }
    const struct hs_model *model = request->model;
    hs_status status = hs_adapter_lease_take(engine->adapters, model, adapters, n_adapters,
                                             hs_worker_wake, model->worker, &request->lease, err);
    if (status == HS_OK && request->lease != NULL) {
        memcpy(request->key, hs_adapter_lease_key(request->lease), sizeof(request->key));
    }
    return status;
}

static hs_status submit(struct hs_model *model, struct hs_request *request,
                        const struct hs_generate_params *params, hs_stream **ret_stream,
                        struct hs_error *err)
{
    hs_stream *stream = NULL;
    if (params->max_prompt_tokens > 0 && request->n_prompt > (size_t)params->max_prompt_tokens) {
        return hs_error_set(err, HS_CONTEXT_FULL,
                            "the prompt has %zu tokens; at most %d are allowed", request->n_prompt,
                            params->max_prompt_tokens);
    }
    hs_status status = hs_request_open_stream(request, params->stream_capacity, hs_worker_wake,
                                              model->worker, &stream, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_worker_submit(model->worker, request, err);
    if (status != HS_OK) {
        hs_stream_free(stream);
        return status;
    }
    *ret_stream = stream;
    return HS_OK;
}

/* What a context shift needs of the conversation. */
static hs_status keep_conversation(struct hs_request *request, const struct hs_message *messages,
                                   size_t n_messages, size_t n_skipped,
                                   const struct hs_generate_params *params, struct hs_error *err)
{
    struct hs_shape shape = hs_shape_of(params);
    hs_status status = hs_shape_copy(&shape, &request->shape);
    if (status == HS_OK) {
        status = hs_conversation_copy(messages, n_messages, &request->conversation);
    }
    request->conversation.n_skipped = n_skipped;
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "copy of a conversation");
}

/* A request with its prompt for a conversation; ret_n_skipped: messages the prompt leaves out. */
static hs_status make_chat(const struct hs_model *model, const struct hs_message *messages,
                           size_t n_messages, size_t n_skipped,
                           const struct hs_generate_params *params, struct hs_request **ret_request,
                           size_t *ret_n_skipped, struct hs_error *err)
{
    struct hs_prompt_params prompt_params = {
        .messages = messages,
        .n_messages = n_messages,
        .n_skipped = n_skipped,
        .shape = hs_shape_of(params),
        .overflow = params->overflow,
        .wants_checkpoints = params->cache_prompt && hs_worker_wants_checkpoints(model->worker),
    };
    struct hs_prompt prompt = {0};
    hs_rt_format *format = NULL;
    struct hs_request *request = NULL;
    hs_status status = hs_shape_check(params, err);
    if (status == HS_OK) {
        status = hs_prompt_build(model, &prompt_params, &prompt, err);
    }
    if (status == HS_OK) {
        status = hs_shape_format(model, params, messages, n_messages, &format, err);
    }
    if (status == HS_OK) {
        status = hs_request_new(model, params, &prompt, format, &request, err);
    }
    if (status == HS_OK && params->overflow == HS_OVERFLOW_SHIFT) {
        status = keep_conversation(request, messages, n_messages, prompt.n_skipped, params, err);
    }
    if (status == HS_OK) {
        *ret_n_skipped = prompt.n_skipped;
        int32_t *tokens = prompt.tokens;
        prompt.tokens = NULL;
        status = hs_request_set_prompt(request, tokens, prompt.n_tokens, err);
    }
    hs_prompt_free(&prompt);
    if (status != HS_OK) {
        hs_request_free(request);
        return status;
    }
    *ret_request = request;
    return HS_OK;
}

hs_status hs_engine_chat(hs_engine *engine, const char *model_id,
                         const struct hs_adapter_ref *adapters, int32_t n_adapters,
                         const struct hs_message *messages, size_t n_messages,
                         const struct hs_generate_params *params, hs_stream **ret_stream,
                         struct hs_error *err)
{
    hs_status status =
        n_messages == 0
            ? hs_error_set(err, HS_INVALID_ARGUMENT, "there are no messages to answer")
            : hs_prompt_check_messages(messages, n_messages, params->continue_final, err);
    struct hs_model *model = NULL;
    if (status == HS_OK) {
        status = hs_engine_acquire_generator(engine, model_id, &model, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_request *request = NULL;
    size_t n_skipped = 0;
    status = make_chat(model, messages, n_messages, 0, params, &request, &n_skipped, err);
    if (status == HS_OK) {
        status = lease_adapters(engine, request, adapters, n_adapters, err);
    }
    if (status == HS_OK) {
        status = submit(model, request, params, ret_stream, err);
    }
    if (status != HS_OK) {
        hs_request_free(request);
    }
    hs_engine_release_model(engine, model);
    return status;
}

static hs_status make_completion(const struct hs_model *model, const int32_t *tokens,
                                 size_t n_tokens, const struct hs_generate_params *params,
                                 struct hs_request **ret_request, struct hs_error *err)
{
    hs_status status = hs_prompt_check_length(model, n_tokens, err);
    if (status == HS_OK && n_tokens == 0) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "the prompt is empty");
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_request *request = NULL;
    hs_rt_format *format = NULL;
    status = hs_shape_check_raw(params, err);
    if (status == HS_OK) {
        status = hs_shape_format(model, params, NULL, 0, &format, err);
    }
    if (status == HS_OK) {
        status = hs_request_new(model, params, NULL, format, &request, err);
    }
    if (status != HS_OK) {
        return status;
    }
    int32_t *copy = hs_alloc(n_tokens * sizeof(copy[0]));
    if (copy == NULL) {
        status = hs_error_nomem(err, "prompt tokens");
    } else {
        memcpy(copy, tokens, n_tokens * sizeof(copy[0]));
        status = hs_request_set_prompt(request, copy, n_tokens, err);
    }
    if (status != HS_OK) {
        hs_request_free(request);
        return status;
    }
    if (params->cache_prompt && hs_worker_wants_checkpoints(model->worker) &&
        n_tokens >= CHECKPOINT_MIN_TOKENS) {
        request->checkpoints[1] = n_tokens - 1;
    }
    *ret_request = request;
    return HS_OK;
}

hs_status hs_engine_complete(hs_engine *engine, const char *model_id,
                             const struct hs_adapter_ref *adapters, int32_t n_adapters,
                             const int32_t *tokens, size_t n_tokens,
                             const struct hs_generate_params *params, hs_stream **ret_stream,
                             struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_generator(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_request *request = NULL;
    status = make_completion(model, tokens, n_tokens, params, &request, err);
    if (status == HS_OK) {
        status = lease_adapters(engine, request, adapters, n_adapters, err);
    }
    if (status == HS_OK) {
        status = submit(model, request, params, ret_stream, err);
    }
    if (status != HS_OK) {
        hs_request_free(request);
    }
    hs_engine_release_model(engine, model);
    return status;
}

hs_status hs_engine_embed(hs_engine *engine, const char *model_id,
                          const struct hs_embed_input *inputs, size_t n_inputs,
                          const struct hs_embed_params *params, hs_stream **ret_stream,
                          struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status == HS_OK) {
        status = hs_embedder_submit(model->embedder, inputs, n_inputs, params, ret_stream, err);
        hs_engine_release_model(engine, model);
    }
    return status;
}

/* ---- sessions ---- */

hs_status hs_engine_create_session(hs_engine *engine, const struct hs_session_params *params,
                                   char ret_session_id[HS_ID_MAX], struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_generator(engine, params->model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    status =
        hs_adapter_pool_check(engine->adapters, model, params->adapters, params->n_adapters, err);
    if (status == HS_OK) {
        status = hs_session_open(engine->sessions, model, params, ret_session_id, err);
    }
    pthread_mutex_lock(&engine->mutex);
    model->n_users--;
    model->n_sessions += status == HS_OK;
    pthread_mutex_unlock(&engine->mutex);
    return status;
}

hs_status hs_engine_close_session(hs_engine *engine, const char *session_id, struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_session_close(engine->sessions, session_id, &model, err);
    if (status == HS_OK) {
        pthread_mutex_lock(&engine->mutex);
        model->n_sessions--;
        pthread_mutex_unlock(&engine->mutex);
    }
    return status;
}

hs_status hs_session_message_count(hs_engine *engine, const char *session_id, size_t *ret_n,
                                   struct hs_error *err)
{
    return hs_session_count(engine->sessions, session_id, ret_n, err);
}

hs_status hs_session_message(hs_engine *engine, const char *session_id, size_t i,
                             struct hs_message *ret_message, struct hs_error *err)
{
    return hs_session_get(engine->sessions, session_id, i, ret_message, err);
}

hs_status hs_session_truncate(hs_engine *engine, const char *session_id, size_t n_keep,
                              struct hs_error *err)
{
    return hs_session_keep(engine->sessions, session_id, n_keep, err);
}

hs_status hs_session_append(hs_engine *engine, const char *session_id,
                            const struct hs_message *message, struct hs_error *err)
{
    hs_status status = hs_prompt_check_messages(message, 1, false, err);
    return status == HS_OK ? hs_session_add(engine->sessions, session_id, message, err) : status;
}

hs_status hs_session_set_system(hs_engine *engine, const char *session_id, const char *system,
                                struct hs_error *err)
{
    return hs_session_system(engine->sessions, session_id, system, err);
}

hs_status hs_engine_generate(hs_engine *engine, const char *session_id, const char *prompt,
                             const struct hs_generate_params *params, hs_stream **ret_stream,
                             struct hs_error *err)
{
    hs_session *session = NULL;
    struct hs_model *model = NULL;
    if (params->continue_final) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a session's answers cannot be continued; continue_final is for "
                            "conversations that the caller holds");
    }
    hs_status status =
        hs_session_begin(engine->sessions, session_id, prompt, &session, &model, err);
    if (status != HS_OK) {
        return status;
    }
    /* Nobody may merge into the model's weights while a request is made with its key. */
    pthread_mutex_lock(&engine->mutex);
    model->n_users++;
    pthread_mutex_unlock(&engine->mutex);
    struct hs_generate_params own = *params;
    own.overflow = hs_session_overflow(session);
    const struct hs_conversation *conversation = hs_session_conversation(session);
    struct hs_request *request = NULL;
    size_t n_skipped = 0;
    status = make_chat(model, conversation->messages, conversation->n, conversation->n_skipped,
                       &own, &request, &n_skipped, err);
    if (status == HS_OK) {
        int32_t n_adapters = 0;
        const struct hs_adapter_ref *adapters = hs_session_refs(session, &n_adapters);
        status = lease_adapters(engine, request, adapters, n_adapters, err);
    }
    if (status == HS_OK) {
        status = hs_session_attach(session, request, n_skipped, &own, err);
    }
    if (status == HS_OK) {
        status = submit(model, request, &own, ret_stream, err);
    }
    if (status != HS_OK) {
        hs_session_revert(session, request);
        hs_request_free(request);
    }
    hs_engine_release_model(engine, model);
    return status;
}
