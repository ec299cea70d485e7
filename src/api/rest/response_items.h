/*
 * response_items.h - the items of /v1/responses: as they are kept, and as the engine takes them.
 *
 * Owner:   a new json_t is the caller's; conversations borrow the items' texts.
 * Threads: those of the request's handler.
 * Source:  OpenAI's API reference, "Create a model response", "The response object".
 */
#ifndef API_RESPONSE_ITEMS_H
#define API_RESPONSE_ITEMS_H

#include "conversation.h"
#include "generation.h"

/* The field "input" as an array of items, each with "type" and "id", contents as lists of parts.
 * NULL: the request was answered. */
json_t *hs_response_items_open(const struct hs_fields *fields);
/* Add items to the conversation; `name` is what errors call the array. What the model said in one
 * go (reasoning, text, calls) becomes one message. false: the request was answered. */
bool hs_response_items_read(const struct hs_fields *fields, const char *name, const json_t *items,
                            struct hs_rest_conversation *conversation);

/* ---- items of an answer; NULL: no memory ---- */

#define HS_RESPONSE_ID_MAX 64

json_t *hs_response_reasoning_item(const char *id, const char *status, const char *text,
                                   size_t len);
/* `logprobs`: JSON of a list's elements, [len]. */
json_t *hs_response_message_item(const char *id, const char *status, const char *text, size_t len,
                                 const char *logprobs, size_t logprobs_len);
json_t *hs_response_call_item(const char *id, const char *status,
                              const struct hs_choice_call *call);

#endif
