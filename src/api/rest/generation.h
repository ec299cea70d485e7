/*
 * generation.h - the answers to one request while they are generated: several engine streams, no
 * thread.
 *
 * The engine's notifications wake the request (hs_http_wake); a step or pull then takes what there
 * is from every stream without waiting. Whole answers are collected and written at the end, streams
 * are written event by event, both in the format of the endpoint. When the request is gone, every
 * stream is cancelled.
 *
 * Owner:   hs_generation_run gives the generation to the request; until then hs_generation_free.
 * Threads: those of a request (api/http.h).
 */
#ifndef API_GENERATION_H
#define API_GENERATION_H

#include "rest.h"
#include "settings.h"

#define HS_ANSWER_TEXT_MAX (64u << 20) /* bytes of a whole answer */

struct hs_generation;

/* One answer. */
struct hs_choice {
    hs_stream *stream;
    bool is_begun; /* something of it was written to the stream */
    bool is_done;
    enum hs_finish finish;
    struct hs_usage usage;
    int32_t reasoning_tokens;
    char *echo;                    /* the prompt, to stand before the text; NULL: not wanted */
    struct hs_buf text, reasoning; /* whole answers only */
    struct hs_buf logprobs[4];     /* the format's lists, JSON without brackets */
    size_t text_offset;            /* code points so far, for the format */
};

/* How an endpoint writes its answers. Each appends to `out`: HS_LIMIT, HS_OUT_OF_MEMORY. */
struct hs_generation_format {
    const char *object, *chunk_object; /* "chat.completion", "chat.completion.chunk" */
    const char *id_prefix;
    /* Add the event's logprobs to choice->logprobs. */
    hs_status (*logprobs)(struct hs_generation *generation, struct hs_choice *choice,
                          const struct hs_event *event, struct hs_error *err);
    /* The element of "choices" in a chunk: the first one, an event (its logprobs are in
     * choice->logprobs), the last one. `first` NULL: there is no first chunk. */
    hs_status (*first)(struct hs_generation *generation, size_t i, struct hs_buf *out);
    hs_status (*event)(struct hs_generation *generation, size_t i, const struct hs_event *event,
                       struct hs_buf *out);
    hs_status (*last)(struct hs_generation *generation, size_t i, struct hs_buf *out);
    /* The element of "choices" in a whole answer. */
    hs_status (*whole)(struct hs_generation *generation, size_t i, struct hs_buf *out);
};

struct hs_generation {
    const struct hs_generation_format *format;
    const struct hs_rest *rest;
    const struct hs_model_info *model;
    hs_http_request *request;
    bool is_streamed, include_usage, wants_logprobs;
    int32_t top_logprobs;
    int32_t n_per_prompt; /* choices i * n_per_prompt and on answer prompt i */
    struct hs_buf head;   /* what every object begins with, up to the model */
    size_t n_choices;
    struct hs_choice choices[];
};

/* A generation without streams. HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_generation_new(const struct hs_generation_format *format,
                                       const struct hs_rest *rest,
                                       const struct hs_model_info *model, hs_http_request *request,
                                       const struct hs_rest_settings *settings, size_t n_choices,
                                       struct hs_generation **ret, struct hs_error *err);
/* Cancels what still runs. NULL is allowed. */
void hs_generation_free(struct hs_generation *generation);
/* Every choice has its stream: answer the request as they come. Takes the generation over. */
void hs_generation_run(struct hs_generation *generation);

/* "stop" or "length" in quotes. */
const char *hs_generation_finish(const struct hs_choice *choice);
/* The text of a token: hs_text_free. */
HS_CHECKED hs_status hs_generation_token_text(const struct hs_generation *generation, int32_t token,
                                              char **ret_text, size_t *ret_len,
                                              struct hs_error *err);
/* A logprob as JSON: finite whatever it is. */
HS_CHECKED hs_status hs_generation_logprob(struct hs_buf *out, float logprob);

#endif
