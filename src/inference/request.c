#include "request.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define ANSWER_MAX_BYTES ((size_t)256 << 20)
#define PIECE_MAX_BYTES ((size_t)1 << 20)

hs_status hs_generate_params_check(const struct hs_generate_params *params, struct hs_error *err)
{
    if (params->n_logprobs < 0 || params->n_logprobs > HS_LOGPROBS_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "n_logprobs is %d; it must be 0 to %d",
                            params->n_logprobs, HS_LOGPROBS_MAX);
    }
    if (params->deadline_ms < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "deadline_ms is negative");
    }
    if (params->n_stop < 0 || (params->n_stop > 0 && params->stop == NULL)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "n_stop is %d without stop strings",
                            params->n_stop);
    }
    if (params->overflow != HS_OVERFLOW_STOP && params->overflow != HS_OVERFLOW_SHIFT) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "overflow %d is unknown",
                            (int)params->overflow);
    }
    return HS_OK;
}

/* The token of a tag when it is a single one: such tokens may be control tokens without text. */
static int32_t tag_token(const struct hs_model *model, const char *tag)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(4096);
    if (tag[0] == '\0' || model->rt->tokenize(model->rt_model, tag, strlen(tag), false, true,
                                              &tokens, NULL) != HS_OK) {
        return -1;
    }
    int32_t token = -1;
    if (tokens.len == sizeof(token)) {
        memcpy(&token, tokens.data, sizeof(token));
    }
    return token;
}

static hs_status make_processors(struct hs_request *request,
                                 const struct hs_generate_params *params,
                                 const struct hs_prompt *prompt, struct hs_error *err)
{
    struct hs_token_processor_params processor = {
        .stop = params->stop,
        .n_stop = params->n_stop,
        .split_reasoning = params->split_reasoning,
    };
    if (prompt != NULL) {
        processor.reasoning = prompt->reasoning;
        processor.own_stop = hs_model_is_plain(request->model) ? HS_RT_PLAIN_STOP : NULL;
        request->reasoning_tokens[0] = tag_token(request->model, prompt->reasoning.start_tag);
        request->reasoning_tokens[1] = tag_token(request->model, prompt->reasoning.end_tag);
    }
    hs_status status = hs_token_processor_new(&processor, &request->processor, err);
    if (status != HS_OK || params->split_reasoning || processor.reasoning.start_tag[0] == '\0') {
        return status;
    }
    processor.split_reasoning = true;
    return hs_token_processor_new(&processor, &request->splitter, err);
}

static void copy_name(char to[HS_TAG_MAX], const char *name)
{
    if (name != NULL) {
        memcpy(to, name, hs_utf8_clip(name, strlen(name), HS_TAG_MAX - 1));
    }
}

static hs_status take_piece(const struct hs_rt_delta *piece, void *user);

/* Takes the format over, also when it fails. */
static hs_status make_reader(struct hs_request *request, const struct hs_generate_params *params,
                             const struct hs_prompt *prompt, hs_rt_format *format,
                             struct hs_error *err)
{
    bool is_plain = prompt != NULL && hs_model_is_plain(request->model);
    struct hs_answer_reader_params reader = {
        .rt = request->model->rt,
        .format = format,
        .stop = params->stop,
        .n_stop = params->n_stop,
        .own_stop = is_plain ? HS_RT_PLAIN_STOP : NULL,
        .split_reasoning = params->split_reasoning,
        .one_call = !params->parallel_tool_calls,
        .take = take_piece,
        .user = request,
    };
    hs_status status = hs_answer_reader_new(&reader, &request->reader, err);
    if (status != HS_OK) {
        request->model->rt->format_free(format);
    }
    request->n_room = HS_STREAM_CAPACITY_SHAPED;
    return status;
}

static struct hs_request *new_request(const struct hs_model *model,
                                      const struct hs_generate_params *params,
                                      const struct hs_prompt *prompt)
{
    struct hs_request *request = hs_calloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    request->model = model;
    memcpy(request->key, model->cache_key, sizeof(request->key));
    copy_name(request->tag, params->tag);
    hs_client_place_init(&request->place, params->client);
    request->max_tokens = params->max_tokens;
    request->n_logprobs = params->n_logprobs;
    request->ignore_eos = params->ignore_eos;
    request->cache_prompt = params->cache_prompt;
    request->overflow = params->overflow;
    request->reasoning_tokens[0] = request->reasoning_tokens[1] = -1;
    request->content = (struct hs_buf)HS_BUF_INIT(ANSWER_MAX_BYTES);
    request->reasoning = (struct hs_buf)HS_BUF_INIT(ANSWER_MAX_BYTES);
    request->piece = (struct hs_buf)HS_BUF_INIT(PIECE_MAX_BYTES);
    request->n_room = HS_STREAM_CAPACITY_MIN;
    request->submitted_at_ms = hs_clock_ms();
    if (params->deadline_ms > 0) {
        request->deadline_at_ms = request->submitted_at_ms + (double)params->deadline_ms;
    }
    if (prompt != NULL) {
        memcpy(request->checkpoints, prompt->checkpoints, sizeof(request->checkpoints));
        request->usage.dropped_messages = (int32_t)prompt->n_dropped;
    }
    return request;
}

hs_status hs_request_new(const struct hs_model *model, const struct hs_generate_params *params,
                         const struct hs_prompt *prompt, hs_rt_format *format,
                         struct hs_request **ret_request, struct hs_error *err)
{
    hs_status status = hs_generate_params_check(params, err);
    struct hs_request *request = status == HS_OK ? new_request(model, params, prompt) : NULL;
    if (request == NULL) {
        if (format != NULL) {
            model->rt->format_free(format);
        }
        return status == HS_OK ? hs_error_nomem(err, "request") : status;
    }
    status = format == NULL ? make_processors(request, params, prompt, err)
                            : make_reader(request, params, prompt, format, err);
    if (status == HS_OK) {
        status =
            model->rt->sampler_new(model->rt_model, &params->sampling, format, params->ignore_eos,
                                   model->info.n_ctx, &request->sampler, err);
    }
    if (status != HS_OK) {
        hs_request_free(request);
        return status;
    }
    request->usage.seed = model->rt->sampler_seed(request->sampler);
    *ret_request = request;
    return HS_OK;
}

hs_status hs_request_set_prompt(struct hs_request *request, int32_t *tokens, size_t n,
                                struct hs_error *err)
{
    const struct hs_model *model = request->model;
    hs_status status = hs_prompt_check_tokens(model, tokens, n, err);
    if (status != HS_OK) {
        hs_free(tokens);
        return status;
    }
    request->tokens = tokens;
    request->n_tokens = request->cap = request->n_prompt = n;
    request->usage.prompt_tokens = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        model->rt->sampler_accept_prompt(request->sampler, tokens[i]);
    }
    return HS_OK;
}

hs_status hs_request_open_stream(struct hs_request *request, int32_t capacity,
                                 hs_stream_wake_fn wake, void *wake_user, hs_stream **ret_stream,
                                 struct hs_error *err)
{
    if (request->reader != NULL && capacity > 0 && capacity < HS_STREAM_CAPACITY_SHAPED) {
        capacity = HS_STREAM_CAPACITY_SHAPED;
    }
    hs_status status = hs_stream_new(capacity, wake, wake_user, &request->stream, err);
    if (status == HS_OK) {
        hs_stream_set_prompt_tokens(request->stream, (int32_t)request->n_prompt);
        *ret_stream = request->stream;
    }
    return status;
}

void hs_request_free(struct hs_request *request)
{
    if (request == NULL) {
        return;
    }
    if (request->stream != NULL) {
        hs_stream_detach(request->stream);
        hs_stream_unref(request->stream);
    }
    hs_adapter_lease_free(request->lease, NULL);
    if (request->sampler != NULL) {
        request->model->rt->sampler_free(request->sampler);
    }
    hs_token_processor_free(request->processor);
    hs_token_processor_free(request->splitter);
    hs_answer_reader_free(request->reader);
    hs_conversation_free(&request->conversation);
    hs_shape_free(&request->shape);
    for (int32_t i = 0; request->calls != NULL && i < request->n_calls; i++) {
        hs_free(request->calls[i].id);
        hs_free(request->calls[i].name);
        hs_buf_free(&request->calls[i].arguments);
    }
    hs_free(request->calls);
    hs_kv_state_clear(&request->brought);
    hs_kv_state_clear(&request->kv);
    hs_buf_free(&request->content);
    hs_buf_free(&request->reasoning);
    hs_buf_free(&request->piece);
    hs_free(request->logprobs);
    hs_free(request->tokens);
    hs_free(request);
}

static void record(const struct hs_request *request)
{
    double total_ms = request->submitted_at_ms > 0 ? hs_clock_ms() - request->submitted_at_ms : 0;
    struct hs_request_record record = {.started_unix_ms = hs_clock_unix_ms() - (int64_t)total_ms,
                                       .total_ms = total_ms,
                                       .finish = request->finish,
                                       .usage = request->usage};
    memcpy(record.model_id, request->model->info.id, sizeof(record.model_id));
    memcpy(record.client, request->place.client, sizeof(record.client));
    memcpy(record.tag, request->tag, sizeof(record.tag));
    if (request->lease != NULL) {
        hs_adapter_lease_text(request->lease, record.adapters, sizeof(record.adapters));
    }
    if (request->finish == HS_FINISH_ERROR) {
        hs_request_record_fail(&record, &request->error);
    }
    hs_request_log_add(request->model->log, &record);
}

void hs_request_complete(struct hs_request *request)
{
    record(request); /* before its reader knows, who may look for it */
    hs_stream_finish(request->stream, request->finish, &request->usage,
                     request->finish == HS_FINISH_ERROR ? &request->error : NULL);
    hs_request_free(request);
}

/* ---- tokens to events ---- */

hs_status hs_request_push_token(struct hs_request *request, int32_t token)
{
    if (request->n_tokens == request->cap) {
        size_t cap = request->cap + request->cap / 2 + 64;
        int32_t *tokens = hs_realloc_array(request->tokens, cap, sizeof(tokens[0]));
        if (tokens == NULL) {
            return hs_error_nomem(&request->error, "tokens of a request");
        }
        request->tokens = tokens;
        request->cap = cap;
    }
    request->tokens[request->n_tokens++] = token;
    return HS_OK;
}

static hs_status keep_text(struct hs_request *request, const struct hs_token_output *output)
{
    for (int32_t i = 0; i < output->n_pieces; i++) {
        const struct hs_text_piece *piece = &output->pieces[i];
        bool is_reasoning = piece->type == HS_EVENT_REASONING;
        hs_status status = hs_buf_append(is_reasoning ? &request->reasoning : &request->content,
                                         piece->text, piece->len);
        if (status != HS_OK) {
            return hs_error_set(&request->error, status, "the answer is too long to keep");
        }
    }
    return HS_OK;
}

/* A cancelled reader takes nothing any more, so a full stream is no error. */
static hs_status post_pieces(struct hs_request *request, const struct hs_token_output *output)
{
    size_t per_token = (size_t)request->n_logprobs + 1;
    for (int32_t i = 0; i < output->n_pieces; i++) {
        const struct hs_text_piece *piece = &output->pieces[i];
        bool has_logprobs = request->n_logprobs > 0 && request->n_pending > 0;
        hs_status status =
            hs_stream_put(request->stream, piece->type, piece->text, piece->len,
                          (int32_t)request->n_pending, has_logprobs ? request->logprobs : NULL,
                          has_logprobs ? request->n_pending * per_token : 0);
        if (status == HS_OUT_OF_MEMORY) {
            return hs_error_nomem(&request->error, "event of a token stream");
        }
        request->n_pending = 0;
    }
    return HS_OK;
}

/* Room for one more call of the answer, with its id and name. */
static hs_status add_call(struct hs_request *request, const struct hs_rt_delta *piece)
{
    struct hs_kept_call *calls =
        hs_realloc_array(request->calls, (size_t)request->n_calls + 1, sizeof(calls[0]));
    if (calls == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    request->calls = calls;
    struct hs_kept_call *call = &calls[request->n_calls];
    *call = (struct hs_kept_call){.id = hs_strdup(piece->id),
                                  .name = hs_strdup(piece->name),
                                  .arguments = HS_BUF_INIT(ANSWER_MAX_BYTES)};
    if (call->id == NULL || call->name == NULL) {
        hs_free(call->id);
        hs_free(call->name);
        return HS_OUT_OF_MEMORY;
    }
    return HS_OK;
}

static hs_status keep_piece(struct hs_request *request, const struct hs_rt_delta *piece)
{
    hs_status status = HS_OK;
    if (piece->type == HS_EVENT_TOOL_CALL && piece->name != NULL) {
        status = request->wants_text ? add_call(request, piece) : HS_OK;
        request->n_calls += status == HS_OK;
    }
    if (status == HS_OK && request->wants_text) {
        struct hs_buf *to = piece->type == HS_EVENT_TEXT ? &request->content
                            : piece->type == HS_EVENT_REASONING
                                ? &request->reasoning
                                : &request->calls[piece->index].arguments;
        status = hs_buf_append(to, piece->text, piece->len);
    }
    return status == HS_OK ? HS_OK
                           : hs_error_set(&request->error, status, "the answer cannot be kept");
}

/* A piece of an answer that a format reads. */
static hs_status take_piece(const struct hs_rt_delta *piece, void *user)
{
    struct hs_request *request = user;
    hs_status status = keep_piece(request, piece);
    if (status != HS_OK) {
        return status;
    }
    bool has_logprobs = request->n_logprobs > 0 && request->n_pending > 0;
    const struct hs_token_logprob *logprobs = has_logprobs ? request->logprobs : NULL;
    size_t n = has_logprobs ? request->n_pending * ((size_t)request->n_logprobs + 1) : 0;
    status =
        piece->type == HS_EVENT_TOOL_CALL
            ? hs_stream_post_call(request->stream, piece->index, piece->id, piece->name,
                                  piece->text, piece->len, (int32_t)request->n_pending, logprobs, n)
            : hs_stream_post(request->stream, piece->type, piece->text, piece->len,
                             (int32_t)request->n_pending, logprobs, n);
    if (status == HS_OUT_OF_MEMORY) {
        return hs_error_nomem(&request->error, "event of a token stream");
    }
    request->n_pending = 0;
    return HS_OK;
}

/* Bytes of a token for the format; is_end: there is none. */
static hs_status read_answer(struct hs_request *request, const char *bytes, size_t len, bool is_end,
                             bool *ret_stopped)
{
    struct hs_token_output output = {0};
    hs_status status =
        hs_answer_reader_push(request->reader, bytes, len, is_end, &output, &request->error);
    if (status != HS_OK) {
        return request->error.status != HS_OK
                   ? status
                   : hs_error_set(&request->error, status, "cannot cut a token into text");
    }
    request->usage.stopped_by = output.stopped_by;
    *ret_stopped = output.stopped;
    if (is_end && request->n_logprobs > 0 && request->n_pending > 0) {
        /* The last tokens said nothing, "</tool_call>" for one. */
        struct hs_rt_delta empty = {.type =
                                        request->n_calls > 0 ? HS_EVENT_TOOL_CALL : HS_EVENT_TEXT,
                                    .text = "",
                                    .index = request->n_calls > 0 ? request->n_calls - 1 : 0};
        return take_piece(&empty, request);
    }
    return HS_OK;
}

static hs_status add_pending(struct hs_request *request, const struct hs_token_logprob *logprobs)
{
    size_t per_token = (size_t)request->n_logprobs + 1;
    if (request->n_logprobs > 0) {
        if (request->n_pending == request->cap_pending) {
            size_t cap = request->cap_pending * 2 + 4;
            struct hs_token_logprob *grown =
                hs_realloc_array(request->logprobs, cap * per_token, sizeof(grown[0]));
            if (grown == NULL) {
                return hs_error_nomem(&request->error, "log probabilities");
            }
            request->logprobs = grown;
            request->cap_pending = cap;
        }
        memcpy(&request->logprobs[request->n_pending * per_token], logprobs,
               per_token * sizeof(logprobs[0]));
    }
    request->n_pending++;
    return HS_OK;
}

static hs_status keep_split(struct hs_request *request, const struct hs_token_output *output,
                            const char *bytes, size_t len)
{
    if (!request->wants_text) {
        return HS_OK;
    }
    if (request->splitter == NULL) {
        return keep_text(request, output);
    }
    struct hs_token_output split = {0};
    hs_status status = bytes == NULL
                           ? hs_token_processor_finish(request->splitter, &split)
                           : hs_token_processor_push(request->splitter, bytes, len, &split);
    if (status != HS_OK) {
        return hs_error_nomem(&request->error, "text of an answer");
    }
    return keep_text(request, &split);
}

hs_status hs_request_emit(struct hs_request *request, int32_t token,
                          const struct hs_token_logprob *logprobs, bool *ret_stopped)
{
    const struct hs_model *model = request->model;
    /* A format tells calls and reasoning by control tokens, too; a schema binds their text. */
    bool is_shown = request->reader != NULL || token == request->reasoning_tokens[0] ||
                    token == request->reasoning_tokens[1];
    hs_buf_clear(&request->piece);
    hs_status status =
        model->rt->token_piece(model->rt_model, token, is_shown, &request->piece, &request->error);
    if (status == HS_OK) {
        status = add_pending(request, logprobs);
    }
    if (status != HS_OK) {
        return status;
    }
    const char *bytes = request->piece.data == NULL ? "" : request->piece.data;
    if (request->reader != NULL) {
        return read_answer(request, bytes, request->piece.len, false, ret_stopped);
    }
    struct hs_token_output output = {0};
    status = hs_token_processor_push(request->processor, bytes, request->piece.len, &output);
    if (status != HS_OK) {
        return hs_error_set(&request->error, status, "cannot cut a token into text");
    }
    status = keep_split(request, &output, bytes, request->piece.len);
    if (status == HS_OK) {
        status = post_pieces(request, &output);
    }
    *ret_stopped = output.stopped;
    request->usage.stopped_by = output.stopped_by;
    return status;
}

void hs_request_mark_stop(struct hs_request *request)
{
    hs_request_mark(request, request->n_calls > 0 ? HS_FINISH_TOOL_CALLS : HS_FINISH_STOP);
}

void hs_request_mark(struct hs_request *request, enum hs_finish finish)
{
    if (request->finish == HS_FINISH_NONE) {
        request->finish = finish;
    }
}

hs_status hs_request_flush(struct hs_request *request)
{
    bool is_stopped = false;
    if (request->reader != NULL) {
        return read_answer(request, "", 0, true, &is_stopped);
    }
    struct hs_token_output output = {0};
    hs_status status = hs_token_processor_finish(request->processor, &output);
    if (status != HS_OK) {
        return hs_error_set(&request->error, status, "cannot finish the text of an answer");
    }
    request->usage.stopped_by = output.stopped_by;
    status = keep_split(request, &output, NULL, 0);
    return status == HS_OK ? post_pieces(request, &output) : status;
}

hs_status hs_request_shift(struct hs_request *request, bool *ret_shifted)
{
    *ret_shifted = false;
    if (request->overflow != HS_OVERFLOW_SHIFT || request->conversation.n == 0) {
        return HS_OK;
    }
    size_t n_generated = request->n_tokens - request->n_prompt;
    struct hs_prompt_params params = {
        .messages = request->conversation.messages,
        .n_messages = request->conversation.n,
        .n_skipped = request->conversation.n_skipped,
        .shape = request->shape,
        .overflow = HS_OVERFLOW_SHIFT,
        .n_generated = n_generated,
    };
    struct hs_prompt prompt = {0};
    struct hs_error error;
    hs_status status = hs_prompt_build(request->model, &params, &prompt, &error);
    if (status == HS_CONTEXT_FULL) {
        return HS_OK;
    }
    if (status != HS_OK) {
        request->error = error;
        return status;
    }
    size_t n = prompt.n_tokens + n_generated;
    int32_t *tokens =
        prompt.n_dropped == 0 ? NULL : hs_realloc_array(prompt.tokens, n + 64, sizeof(tokens[0]));
    if (tokens == NULL) {
        status =
            prompt.n_dropped == 0 ? HS_OK : hs_error_nomem(&request->error, "tokens of a request");
        hs_prompt_free(&prompt);
        return status;
    }
    memcpy(tokens + prompt.n_tokens, request->tokens + request->n_prompt,
           n_generated * sizeof(tokens[0]));
    hs_free(request->tokens);
    request->tokens = tokens;
    request->n_tokens = n;
    request->cap = n + 64;
    request->n_prompt = prompt.n_tokens;
    request->checkpoints[0] = request->checkpoints[1] = 0;
    request->conversation.n_skipped = prompt.n_skipped;
    request->usage.dropped_messages += (int32_t)prompt.n_dropped;
    *ret_shifted = true;
    return HS_OK;
}
