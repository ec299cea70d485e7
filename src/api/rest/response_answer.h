/*
 * response_answer.h - the answer of POST /v1/responses while it is made: its object, its items, the
 * typed events of its stream, and what is kept of it.
 *
 * Owner:   hs_response_answer_free; a generation takes it as its data (hs_response_format frees
 * it). Threads: those of a request. Source:  OpenAI's API reference, "The response object",
 * "Streaming events".
 */
#ifndef API_RESPONSE_ANSWER_H
#define API_RESPONSE_ANSWER_H

#include "response_items.h"

enum hs_response_part {
    HS_RESPONSE_NOTHING = 0,
    HS_RESPONSE_REASONING,
    HS_RESPONSE_MESSAGE,
    HS_RESPONSE_CALL
};

struct hs_response_answer {
    json_t *object;          /* the response; its output is added when it is whole */
    json_t *history, *input; /* items before this request, and of it */
    json_t *output;          /* items that are whole */
    bool is_kept;            /* in the store */
    char owner[16];          /* for the store */
    int64_t sequence;        /* of the next event */
    /* The item that is open in the stream: its texts begin there in the choice's. */
    enum hs_response_part part;
    char item_id[HS_RESPONSE_ID_MAX];
    size_t text_at, logprobs_at;
    size_t logprobs_seen; /* sent with events before */
    size_t call;          /* of the choice, HS_RESPONSE_CALL only */
};

void hs_response_answer_free(struct hs_response_answer *answer);
/* The format of answers that are kept or not; the generation's data is the answer. */
const struct hs_generation_format *hs_response_format(bool is_kept);

#endif
