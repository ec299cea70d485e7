/*
 * request.h - one generation: its tokens, sampler, token processor, stream, and the text so far.
 *
 * Owner:   made by a caller, handed to the worker by hs_worker_submit, ended by
 * hs_request_complete, which frees it. on_done, when set, gets it instead (a session's turn) and
 * completes it.
 * Threads: whoever owns it; the stream inside has a lock of its own.
 */
#ifndef INFERENCE_REQUEST_H
#define INFERENCE_REQUEST_H

#include "adapter_pool.h"
#include "answer_reader.h"
#include "client_share.h"
#include "prompt.h"
#include "stream.h"
#include "token_processor.h"

#define HS_LOGPROBS_MAX 20

struct hs_request;
typedef void (*hs_request_done_fn)(struct hs_request *request, void *user);

/* A call of the answer so far. */
struct hs_kept_call {
    char *id, *name;
    struct hs_buf arguments;
};

struct hs_request {
    struct hs_request *next;      /* in the list that holds it */
    uint64_t number;              /* order of arrival */
    uint64_t rank;                /* its place among its client's; clients take turns by it */
    struct hs_client_place place; /* whose it is */
    const struct hs_model *model;
    char key[HS_CACHE_KEY_MAX];
    hs_adapter_lease *lease; /* NULL: the model alone */
    char tag[HS_TAG_MAX];

    /* The prompt, then what was generated; see README.md, invariant 1. */
    int32_t *tokens;
    size_t n_tokens, cap;
    size_t n_prompt;
    size_t checkpoints[2];

    /* What was asked for. */
    int32_t max_tokens; /* <= 0: no limit */
    int32_t n_logprobs;
    bool ignore_eos, cache_prompt;
    enum hs_overflow overflow;
    double deadline_at_ms;               /* monotonic; 0: none */
    struct hs_conversation conversation; /* for HS_OVERFLOW_SHIFT, as is the shape; else empty */
    struct hs_shape shape;
    struct hs_kv_state brought; /* KV from a saved session */

    hs_stream *stream;
    hs_rt_sampler *sampler;
    hs_token_processor *processor; /* NULL: the answer is read by */
    hs_answer_reader *reader;
    int32_t n_room; /* events that a step and the end can post */
    int32_t n_calls;
    int32_t reasoning_tokens[2]; /* start and end tag when each is one token; else -1 */

    /* A session's turn. */
    hs_request_done_fn on_done;
    void *on_done_user;
    bool wants_text;              /* keep the answer */
    size_t wants_kv_bytes;        /* export KV of at most this size when done; 0: no */
    hs_token_processor *splitter; /* splits reasoning for the session when the stream does not */
    struct hs_buf content, reasoning;
    struct hs_kept_call *calls; /* [n_calls] when the answer is kept */
    struct hs_kv_state kv;      /* the exported KV */

    /* The worker's. */
    struct hs_kv_slot *slot;
    bool is_lagging;
    uint64_t served_at; /* the last step that was for its set of adapters */
    struct hs_buf piece;
    struct hs_token_logprob *logprobs; /* of tokens whose text has not left yet */
    size_t n_pending, cap_pending;     /* tokens */
    double submitted_at_ms, admitted_at_ms, first_token_at_ms;

    enum hs_finish finish;
    struct hs_usage usage;
    struct hs_error error;
};

/* Everything but the tokens and the stream. `prompt` NULL: raw tokens, no reasoning. The format,
 * NULL for plain text, is taken over, also when it fails. */
HS_CHECKED hs_status hs_request_new(const struct hs_model *model,
                                    const struct hs_generate_params *params,
                                    const struct hs_prompt *prompt, hs_rt_format *format,
                                    struct hs_request **ret_request, struct hs_error *err);
/* Take over tokens[n] as the prompt, also when it fails; feeds the sampler. */
HS_CHECKED hs_status hs_request_set_prompt(struct hs_request *request, int32_t *tokens, size_t n,
                                           struct hs_error *err);
/* Make the stream; the request holds the worker's reference, ret_stream the reader's. */
HS_CHECKED hs_status hs_request_open_stream(struct hs_request *request, int32_t capacity,
                                            hs_stream_wake_fn wake, void *wake_user,
                                            hs_stream **ret_stream, struct hs_error *err);
/* Free a request that was never submitted; its stream, when open, is not finished. */
void hs_request_free(struct hs_request *request);
/* Post HS_EVENT_DONE, let go of the stream, free. */
void hs_request_complete(struct hs_request *request);

/* ---- for the worker ---- */

HS_CHECKED hs_status hs_request_push_token(struct hs_request *request, int32_t token);
/*
 * Turn a generated token into events. The stream has room (HS_STREAM_CAPACITY_MIN).
 * Out:    ret_stopped: a stop string was found.
 */
HS_CHECKED hs_status hs_request_emit(struct hs_request *request, int32_t token,
                                     const struct hs_token_logprob *logprobs, bool *ret_stopped);
/* It ends because the model or a stop string says so. */
void hs_request_mark_stop(struct hs_request *request);
/* It ends like this, unless it is known already how it ends. */
void hs_request_mark(struct hs_request *request, enum hs_finish finish);
/* What the processor holds back leaves. */
HS_CHECKED hs_status hs_request_flush(struct hs_request *request);
/*
 * The context is full: drop the oldest turns and put the answer so far behind the new prompt.
 * false: there is nothing to drop, or it did not help. Errors end the request.
 */
HS_CHECKED hs_status hs_request_shift(struct hs_request *request, bool *ret_shifted);

HS_CHECKED hs_status hs_generate_params_check(const struct hs_generate_params *params,
                                              struct hs_error *err);

#endif
