/*
 * embed_request.h - one request for embeddings: its inputs, how they are wanted, its stream.
 *
 * Owner:   made by a caller, handed to the embedder, ended by hs_embed_request_complete, which
 *          frees it.
 * Threads: whoever owns it; the stream inside has a lock of its own.
 */
#ifndef INFERENCE_EMBED_REQUEST_H
#define INFERENCE_EMBED_REQUEST_H

#include "client_share.h"
#include "model.h"
#include "stream.h"

struct hs_embed_request {
    struct hs_embed_request *next; /* in the list that holds it */
    int32_t *tokens;               /* of all inputs */
    size_t *ends;                  /* [n_inputs], input i ends before tokens[ends[i]] */
    size_t n_inputs, n_started, n_posted;
    const struct hs_model *model;
    struct hs_embed_params params;
    struct hs_client_place place;                          /* whose it is */
    double submitted_at_ms, started_at_ms, deadline_at_ms; /* monotonic; 0: none */
    bool is_served;                                        /* in this step */
    hs_stream *stream;
    enum hs_finish finish;
    struct hs_usage usage;
    struct hs_error error;
};

/*
 * A copy of the inputs, checked against the model and n_input_max tokens; without a stream.
 * Errors: HS_INVALID_ARGUMENT, HS_CONTEXT_FULL, HS_LIMIT, HS_NOT_SUPPORTED, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_embed_request_new(const struct hs_model *model, int32_t n_input_max,
                                          const struct hs_embed_input *inputs, size_t n_inputs,
                                          const struct hs_embed_params *params,
                                          struct hs_embed_request **ret_request,
                                          struct hs_error *err);
const int32_t *hs_embed_request_input(const struct hs_embed_request *request, size_t i,
                                      size_t *ret_n);
/* It ends like this, unless it is known already how it ends. */
void hs_embed_request_mark(struct hs_embed_request *request, enum hs_finish finish);
/* Cut, normalise and post what the model computed for input i, in place; a failure is the
 * request's. */
void hs_embed_request_post(struct hs_embed_request *request, size_t i, float *values,
                           int32_t n_values);
/* Post HS_EVENT_DONE, let go of the stream, free. */
void hs_embed_request_complete(struct hs_embed_request *request);
/* A request that was never submitted; NULL is allowed. */
void hs_embed_request_free(struct hs_embed_request *request);

#endif
