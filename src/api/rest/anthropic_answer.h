/*
 * anthropic_answer.h - answers as Anthropic's Messages API writes them: a message of content
 * blocks, or its events.
 *
 * What the model thinks is a block of the type "thinking", text is "text", a call of a tool
 * "tool_use". Blocks follow each other in the order in which the model made them; whole answers
 * have them in that order of types. The event message_start knows the tokens of the prompt, but not
 * yet how many of them were cached, which is found when the request gets its sequence:
 * message_delta does. Silence, as while a long prompt is evaluated, has a ping every rest->ping_ms.
 *
 * Owner:   as generation.h says.
 * Threads: those of a request.
 * Source:  Anthropic's API reference, "Create a Message" and "Streaming Messages".
 */
#ifndef API_ANTHROPIC_ANSWER_H
#define API_ANTHROPIC_ANSWER_H

#include "generation.h"

/* omits_thinking: blocks of thinking are there, but empty. HS_OUT_OF_MEMORY, HS_IO. */
HS_CHECKED hs_status hs_anthropic_answer_new(const struct hs_rest *rest,
                                             const struct hs_model_info *model,
                                             hs_http_request *request,
                                             const struct hs_rest_settings *settings,
                                             bool omits_thinking, struct hs_generation **ret,
                                             struct hs_error *err);

#endif
