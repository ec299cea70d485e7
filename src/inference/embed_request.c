#include "embed_request.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "prompt.h"

static hs_status check_params(const struct hs_model *model, const struct hs_embed_params *params,
                              struct hs_error *err)
{
    int32_t n_values = model->rt_info.n_embd_out;
    bool is_rank = model->rt_info.pooling == HS_RT_POOLING_RANK;
    if (is_rank != params->rank) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     is_rank ? "model '%s' ranks documents; it has no embeddings"
                             : "model '%s' does not rank documents",
                     model->info.id);
        hs_error_hint(err, is_rank ? "use an embedding model" : "use a reranking model");
        return HS_NOT_SUPPORTED;
    }
    if (params->dimensions < 0 || params->dimensions > n_values) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "dimensions is %d; it must be 0 to %d",
                            params->dimensions, n_values);
    }
    if (params->deadline_ms < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "deadline_ms is negative");
    }
    return HS_OK;
}

static hs_status check_input(const struct hs_model *model, int32_t n_input_max, size_t i,
                             const struct hs_embed_input *input, bool truncate,
                             struct hs_error *err)
{
    if (input->n_tokens == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "input %zu is empty", i);
    }
    if (input->n_tokens > (size_t)n_input_max && !truncate) {
        hs_error_set(err, HS_CONTEXT_FULL,
                     "input %zu has %zu tokens; model '%s' takes at most %d in one input", i,
                     input->n_tokens, model->info.id, n_input_max);
        hs_error_hint(err, "split it, or use a model with a longer context");
        return HS_CONTEXT_FULL;
    }
    hs_status status = hs_prompt_check_tokens(model, input->tokens, input->n_tokens, err);
    if (status != HS_OK) {
        hs_error_prefix(err, "input %zu", i);
    }
    return status;
}

/* Of an input that is too long the last token stays: models end their inputs with one. */
static size_t copy_input(const struct hs_embed_input *input, size_t n_input_max, int32_t *to)
{
    size_t n = input->n_tokens < n_input_max ? input->n_tokens : n_input_max;
    memcpy(to, input->tokens, n * sizeof(to[0]));
    to[n - 1] = input->tokens[input->n_tokens - 1];
    return n;
}

static hs_status copy_inputs(struct hs_embed_request *request, const struct hs_embed_input *inputs,
                             size_t n_input_max, struct hs_error *err)
{
    size_t n_tokens = 0;
    for (size_t i = 0; i < request->n_inputs; i++) {
        n_tokens += inputs[i].n_tokens < n_input_max ? inputs[i].n_tokens : n_input_max;
        if (n_tokens > INT32_MAX) {
            return hs_error_set(err, HS_LIMIT, "the inputs have more than %d tokens", INT32_MAX);
        }
    }
    request->tokens = hs_alloc(n_tokens * sizeof(request->tokens[0]));
    request->ends = hs_calloc(request->n_inputs, sizeof(request->ends[0]));
    if (request->tokens == NULL || request->ends == NULL) {
        return hs_error_nomem(err, "inputs to embed");
    }
    size_t end = 0;
    for (size_t i = 0; i < request->n_inputs; i++) {
        end += copy_input(&inputs[i], n_input_max, request->tokens + end);
        request->ends[i] = end;
    }
    request->usage.prompt_tokens = (int32_t)n_tokens;
    return HS_OK;
}

hs_status hs_embed_request_new(const struct hs_model *model, int32_t n_input_max,
                               const struct hs_embed_input *inputs, size_t n_inputs,
                               const struct hs_embed_params *params,
                               struct hs_embed_request **ret_request, struct hs_error *err)
{
    hs_status status = check_params(model, params, err);
    if (status == HS_OK && n_inputs == 0) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "there is no input to embed");
    }
    for (size_t i = 0; i < n_inputs && status == HS_OK; i++) {
        status = check_input(model, n_input_max, i, &inputs[i], params->truncate, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_embed_request *request = hs_calloc(1, sizeof(*request));
    if (request == NULL) {
        return hs_error_nomem(err, "request");
    }
    request->n_inputs = n_inputs;
    request->model = model;
    request->params = *params;
    hs_client_place_init(&request->place, params->client);
    request->submitted_at_ms = hs_clock_ms();
    if (params->deadline_ms > 0) {
        request->deadline_at_ms = request->submitted_at_ms + (double)params->deadline_ms;
    }
    status = copy_inputs(request, inputs, (size_t)n_input_max, err);
    if (status != HS_OK) {
        hs_embed_request_free(request);
        return status;
    }
    *ret_request = request;
    return HS_OK;
}

const int32_t *hs_embed_request_input(const struct hs_embed_request *request, size_t i,
                                      size_t *ret_n)
{
    size_t start = i == 0 ? 0 : request->ends[i - 1];
    *ret_n = request->ends[i] - start;
    return request->tokens + start;
}

void hs_embed_request_mark(struct hs_embed_request *request, enum hs_finish finish)
{
    if (request->finish == HS_FINISH_NONE) {
        request->finish = finish;
    }
}

static void fail(struct hs_embed_request *request)
{
    hs_embed_request_mark(request, HS_FINISH_ERROR);
}

void hs_embed_request_post(struct hs_embed_request *request, size_t i, float *values,
                           int32_t n_values)
{
    if (request->params.dimensions > 0) {
        n_values = request->params.dimensions;
    }
    double squares = 0;
    for (int32_t v = 0; v < n_values; v++) {
        squares += (double)values[v] * (double)values[v];
    }
    if (!isfinite(squares)) {
        hs_error_set(&request->error, HS_INTERNAL,
                     "the model computed NaN or infinity for input %zu", i);
        hs_error_hint(&request->error, "check the model with `hyprstream model verify`");
        fail(request);
        return;
    }
    double scale = request->params.normalize && squares > 0 ? 1.0 / sqrt(squares) : 1.0;
    for (int32_t v = 0; v < n_values; v++) {
        values[v] = (float)((double)values[v] * scale);
    }
    if (hs_stream_post_embedding(request->stream, (int32_t)i, values, n_values) != HS_OK) {
        hs_error_nomem(&request->error, "embedding");
        fail(request);
        return;
    }
    request->n_posted++;
    if (request->n_posted == request->n_inputs) {
        hs_embed_request_mark(request, HS_FINISH_STOP);
    }
}

static void record(const struct hs_embed_request *request, double now_ms)
{
    double total_ms = request->submitted_at_ms > 0 ? now_ms - request->submitted_at_ms : 0;
    struct hs_request_record record = {.started_unix_ms = hs_clock_unix_ms() - (int64_t)total_ms,
                                       .total_ms = total_ms,
                                       .is_embedding = true,
                                       .finish = request->finish,
                                       .usage = request->usage};
    memcpy(record.model_id, request->model->info.id, sizeof(record.model_id));
    memcpy(record.client, request->place.client, sizeof(record.client));
    if (request->finish == HS_FINISH_ERROR) {
        hs_request_record_fail(&record, &request->error);
    }
    hs_request_log_add(request->model->log, &record);
}

void hs_embed_request_complete(struct hs_embed_request *request)
{
    double now_ms = hs_clock_ms();
    double started = request->started_at_ms > 0 ? request->started_at_ms : now_ms;
    request->usage.queue_ms = started - request->submitted_at_ms;
    request->usage.prefill_ms = now_ms - started;
    record(request, now_ms);
    hs_stream_finish(request->stream, request->finish, &request->usage,
                     request->finish == HS_FINISH_ERROR ? &request->error : NULL);
    hs_embed_request_free(request);
}

void hs_embed_request_free(struct hs_embed_request *request)
{
    if (request == NULL) {
        return;
    }
    if (request->stream != NULL) {
        hs_stream_detach(request->stream);
        hs_stream_unref(request->stream);
    }
    hs_free(request->tokens);
    hs_free(request->ends);
    hs_free(request);
}
