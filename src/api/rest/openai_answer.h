/*
 * openai_answer.h - the objects around OpenAI's "choices", for chat and completions: whole answers
 * and chunks.
 *
 * A format sets .event = hs_openai_event, .end = hs_openai_end, .whole = hs_openai_whole and .own =
 * its struct hs_openai_choices; what these write is the elements of "choices".
 *
 * Owner:   nothing to free. Threads: those of a request.
 * Source:  OpenAI's API reference, "The chat completion chunk object", "The completion object".
 */
#ifndef API_OPENAI_ANSWER_H
#define API_OPENAI_ANSWER_H

#include "generation.h"

struct hs_openai_choices {
    const char *object, *chunk_object; /* "chat.completion", "chat.completion.chunk" */
    /* The element in a chunk: the first one (NULL: there is none), of an event whose logprobs are
     * in choice->logprobs, the last one. */
    hs_status (*first)(struct hs_generation *generation, size_t i, struct hs_buf *out);
    hs_status (*event)(struct hs_generation *generation, size_t i, const struct hs_event *event,
                       struct hs_buf *out);
    hs_status (*last)(struct hs_generation *generation, size_t i, struct hs_buf *out);
    /* The element in a whole answer. */
    hs_status (*whole)(struct hs_generation *generation, size_t i, struct hs_buf *out);
};

HS_CHECKED hs_status hs_openai_event(struct hs_generation *generation, size_t i,
                                     const struct hs_event *event, struct hs_buf *out);
HS_CHECKED hs_status hs_openai_end(struct hs_generation *generation, struct hs_buf *out);
HS_CHECKED hs_status hs_openai_whole(struct hs_generation *generation, struct hs_buf *out);

/* "stop", "length" or "tool_calls". */
const char *hs_openai_finish(const struct hs_choice *choice);
/* {"token":...,"logprob":...,"bytes":[...],"top_logprobs":[...]} for each token of the event, added
 * to choice->logprobs[0]; what chat and responses share. */
HS_CHECKED hs_status hs_openai_add_logprobs(struct hs_generation *generation,
                                            struct hs_choice *choice, const struct hs_event *event,
                                            struct hs_error *err);

#endif
