/*
 * generation.h - the answers to one request while they are generated: several engine streams, no
 * thread.
 *
 * The engine's notifications wake the request (hs_http_wake); a step or pull then takes what there
 * is from every stream without waiting. Whole answers are collected and written at the end, streams
 * are written event by event. What stands on the wire is the format's business alone; errors look
 * as the route says. When the request is gone, every stream is cancelled.
 *
 * Owner:   hs_generation_run gives the generation to the request; until then hs_generation_free.
 * Threads: those of a request (api/http.h).
 */
#ifndef API_GENERATION_H
#define API_GENERATION_H

#include "rest.h"
#include "settings.h"

#define HS_ANSWER_TEXT_MAX (64u << 20) /* bytes of a whole answer, its tool calls included */

struct hs_generation;

/* A tool call of an answer. */
struct hs_choice_call {
    char *id, *name;
    struct hs_buf arguments; /* JSON as text; data is NULL while there is none of it */
};

/* One answer. */
struct hs_choice {
    hs_stream *stream;
    bool is_begun; /* for the format: something of it was written to the stream */
    bool is_done;  /* finish and usage are there */
    enum hs_finish finish;
    struct hs_usage usage; /* with the times it took */
    int32_t reasoning_tokens;
    char *echo; /* the prompt, to stand before the text; NULL: not wanted */
    /* Whole answers, and streams of a format that keeps them. An event is kept before it is
     * written. */
    struct hs_buf text, reasoning;
    struct hs_choice_call *calls;
    size_t n_calls;
    struct hs_buf logprobs[4]; /* the format's lists, JSON without brackets; of the event in streams
                                  of a format that does not keep them */
    size_t text_offset;        /* code points so far, for the format */
};

/* How an endpoint answers. The writers append complete wire text to `out` and return HS_OK,
 * HS_LIMIT or HS_OUT_OF_MEMORY. */
struct hs_generation_format {
    enum hs_http_stream_kind kind;
    const char *id_prefix;
    const void *own;    /* the format's, for its writers */
    bool keeps_streams; /* collect texts and calls of streams, too */
    const char *ping;   /* sent after rest->ping_ms of silence; NULL: nothing. Not when is_slow */
    bool is_slow;       /* writers or `done` may take more than 50 microseconds an event */
    /* Add the event's logprobs to choice->logprobs; NULL: there are none. */
    hs_status (*logprobs)(struct hs_generation *generation, struct hs_choice *choice,
                          const struct hs_event *event, struct hs_error *err);
    /* A whole answer: the body. */
    hs_status (*whole)(struct hs_generation *generation, struct hs_buf *out);
    /* A stream: what stands before the first event, the events of answer i (HS_EVENT_DONE is one;
     * texts that are empty and have no logprobs are not), what stands behind the last one. Start
     * and end may be NULL. */
    hs_status (*start)(struct hs_generation *generation, struct hs_buf *out);
    hs_status (*event)(struct hs_generation *generation, size_t i, const struct hs_event *event,
                       struct hs_buf *out);
    hs_status (*end)(struct hs_generation *generation, struct hs_buf *out);
    /* Instead of the route's error event; the stream then ends. NULL: the route's. */
    hs_status (*failed)(struct hs_generation *generation, const struct hs_error *err,
                        struct hs_buf *out);
    /* Every answer is there, before `whole` or `end`: keep what is to be kept. A failure is the
     * request's. Not called when an answer failed or the client left. NULL: nothing to do. */
    hs_status (*done)(struct hs_generation *generation, struct hs_error *err);
    /* Before a failure is told and before the streams are freed, so twice at times: end what must
     * not outlive the request; may wait for the streams when the format is_slow. NULL: nothing to
     * do. */
    void (*leave)(struct hs_generation *generation);
    /* Frees generation->data, last of all calls, after the streams; NULL: nothing to free. */
    void (*free_data)(void *data);
};

struct hs_generation {
    const struct hs_generation_format *format;
    void *data; /* the endpoint's, set after hs_generation_new */
    const struct hs_rest *rest;
    const struct hs_model_info *model;
    const char *model_name; /* as the client called it */
    hs_http_request *request;
    char id[96];            /* prefix and random digits */
    int64_t created_unix_s; /* when the request came */
    double created_ms;      /* the same by hs_clock_ms, for durations */
    bool is_streamed, include_usage, wants_logprobs;
    bool is_started; /* `start` was written */
    int32_t top_logprobs;
    int32_t n_per_prompt; /* choices i * n_per_prompt and on answer prompt i */
    struct hs_buf head;   /* the format's: what every object begins with, made once */
    size_t n_choices;
    struct hs_choice choices[];
};

/* A generation without streams. HS_OUT_OF_MEMORY, HS_IO (no random numbers). */
HS_CHECKED hs_status hs_generation_new(const struct hs_generation_format *format,
                                       const struct hs_rest *rest,
                                       const struct hs_model_info *model, hs_http_request *request,
                                       const struct hs_rest_settings *settings, size_t n_choices,
                                       struct hs_generation **ret, struct hs_error *err);
/* Cancels what still runs. NULL is allowed. */
void hs_generation_free(struct hs_generation *generation);
/* Every choice has its stream: answer the request as they come. Takes the generation over. */
void hs_generation_run(struct hs_generation *generation);

/* ---- for formats ---- */

#define HS_GENERATION_ID_DIGITS 24
/* prefix and random hex digits. HS_IO. */
HS_CHECKED hs_status hs_generation_make_id(const char *prefix, char *ret_id, size_t size,
                                           struct hs_error *err);

/* Sums over all answers; of several answers to one prompt the first one's prompt counts. */
struct hs_generation_usage {
    int64_t prompt, cached, completion, reasoning; /* tokens */
};
struct hs_generation_usage hs_generation_usage(const struct hs_generation *generation);
/* Whether the call's arguments are a whole JSON object, which an answer that was cut off does not
 * give. Without any they are not. HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_generation_call_is_whole(const struct hs_choice_call *call,
                                                 bool *ret_is_whole);
/* The text of a token: hs_text_free. */
HS_CHECKED hs_status hs_generation_token_text(const struct hs_generation *generation, int32_t token,
                                              char **ret_text, size_t *ret_len,
                                              struct hs_error *err);
/* A logprob as JSON: finite whatever it is. */
HS_CHECKED hs_status hs_generation_logprob(struct hs_buf *out, float logprob);

#endif
