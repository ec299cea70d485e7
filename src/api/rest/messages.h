/*
 * messages.h - OpenAI's messages and tools of a chat request, as the engine takes them.
 *
 * Owner:   the conversation (conversation.h).
 * Threads: those of the request's handler.
 * Source:  OpenAI's API reference, "Create chat completion".
 */
#ifndef API_MESSAGES_H
#define API_MESSAGES_H

#include "conversation.h"

/* The field "messages". false: the request was answered. */
bool hs_rest_messages_read(const struct hs_fields *fields, struct hs_rest_conversation *ret);
/* "continue_final_message" and "add_generation_prompt", under vLLM's names: whether to go on with
 * the last message, which must be a text of the assistant. */
bool hs_rest_messages_read_continue(const struct hs_fields *fields,
                                    const struct hs_rest_conversation *conversation,
                                    struct hs_generate_params *params);

#endif
