/*
 * stream.h - the bounded queue of events between a worker and one reader; the inside of hs_stream.
 *
 * The worker (producer) never blocks: it asks hs_stream_has_room before it computes a token for
 * this request, and a request whose reader lags is left out of the batch until there is room.
 * hs_stream_finish always succeeds: its event has a place of its own. The reader waits on a
 * monotonic condition variable.
 *
 * Owner:   reference counted, one reference each for worker and reader; the last hs_stream_unref
 * frees. hs_stream_free (hyprstream.h) is the reader's: cancel, then unref. Threads: one producer,
 * one reader, hs_stream_cancel from any thread. The mutex inside guards everything; the `wake`
 * callback runs outside it.
 */
#ifndef INFERENCE_STREAM_H
#define INFERENCE_STREAM_H

#include "hyprstream.h"

/* Called when the worker should look again: the reader made room, or cancelled. Any thread. */
typedef void (*hs_stream_wake_fn)(void *user);

/* Capacity in events; smaller ones count as the least, which is what one step and its end can post
 * (twice HS_PIECES_MAX of token_processor.h). */
#define HS_STREAM_CAPACITY_MIN 8
#define HS_STREAM_CAPACITY_MAX 65536
/* The same for an answer with tools or a schema (twice HS_ANSWER_PIECES_MAX, and what carries the
 * last log probabilities). */
#define HS_STREAM_CAPACITY_SHAPED 80

/* capacity 0: 256. HS_INVALID_ARGUMENT outside 0..HS_STREAM_CAPACITY_MAX. */
HS_CHECKED hs_status hs_stream_new(int32_t capacity, hs_stream_wake_fn wake, void *user,
                                   hs_stream **ret_stream, struct hs_error *err);
/* What hs_stream_prompt_tokens says; before the reader has the stream. */
void hs_stream_set_prompt_tokens(hs_stream *stream, int32_t n_tokens);
/* A worker that lets go of a stream it did not finish leaves its reader an HS_INTERNAL error. */
void hs_stream_unref(hs_stream *stream);
/* The worker goes away before the stream: no more wake calls after this returns. It waits for calls
 * under way, so hold no lock that `wake` takes. */
void hs_stream_detach(hs_stream *stream);

/* n_events <= the capacity. false: `wake` is called as soon as there is that much room.
 */
bool hs_stream_has_room(hs_stream *stream, int32_t n_events);
bool hs_stream_is_cancelled(hs_stream *stream);
/*
 * Queue a text event; text is copied. logprobs: [n_tokens * (1 + n_top)] or NULL, copied.
 * HS_LIMIT when there was no room, HS_OUT_OF_MEMORY, HS_INVALID_ARGUMENT for HS_EVENT_DONE and
 * after hs_stream_finish; nothing is queued then.
 */
HS_CHECKED hs_status hs_stream_post(hs_stream *stream, enum hs_event_type type, const char *text,
                                    size_t len, int32_t n_tokens,
                                    const struct hs_token_logprob *logprobs, size_t n_logprobs);
/* The same, without the reader's callback until hs_stream_tell or the end; hs_stream_next sees it.
 */
HS_CHECKED hs_status hs_stream_put(hs_stream *stream, enum hs_event_type type, const char *text,
                                   size_t len, int32_t n_tokens,
                                   const struct hs_token_logprob *logprobs, size_t n_logprobs);
/* Call the reader's callback when something was put since its last call. */
void hs_stream_tell(hs_stream *stream);
/* The same for HS_EVENT_EMBEDDING: values[n_values] are copied. */
HS_CHECKED hs_status hs_stream_post_embedding(hs_stream *stream, int32_t index, const float *values,
                                              int32_t n_values);
/* The same for HS_EVENT_TOOL_CALL; id and name of the call's first event are copied, else NULL. */
HS_CHECKED hs_status hs_stream_post_call(hs_stream *stream, int32_t index, const char *id,
                                         const char *name, const char *text, size_t len,
                                         int32_t n_tokens, const struct hs_token_logprob *logprobs,
                                         size_t n_logprobs);
/* Queue HS_EVENT_DONE, once; error may be NULL. Never fails. */
void hs_stream_finish(hs_stream *stream, enum hs_finish finish, const struct hs_usage *usage,
                      const struct hs_error *error);

#endif
