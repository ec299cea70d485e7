/*
 * shape.h - what an answer must look like: tools and the choice among them, JSON schemas.
 *
 * Owner:   texts belong to the conversation, which must outlive the parameters.
 * Threads: those of the request's handler.
 * Source:  OpenAI's API reference, "Create chat completion" and "Create a model response";
 *          llama.cpp's server for json_schema.
 */
#ifndef API_SHAPE_H
#define API_SHAPE_H

#include "conversation.h"

/* How the two APIs of OpenAI write the same thing. */
enum hs_rest_dialect {
    HS_REST_CHAT = 0, /* {"type":"function","function":{"name":...}} */
    HS_REST_RESPONSES /* {"type":"function","name":...} */
};

/* "tools", "tool_choice" and "parallel_tool_calls". false: the request was answered. */
bool hs_rest_tools_read(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                        struct hs_rest_conversation *conversation,
                        struct hs_generate_params *params);
/* An object of the field `name`, "response_format" or "format": {"type": "text", "json_object" or
 * "json_schema", ...}. */
bool hs_rest_format_read(const struct hs_fields *fields, const char *name,
                         enum hs_rest_dialect dialect, struct hs_rest_conversation *conversation,
                         struct hs_generate_params *params);
/* llama.cpp's "json_schema": the schema itself. */
bool hs_rest_schema_read(const struct hs_fields *fields, const char *name,
                         struct hs_rest_conversation *conversation,
                         struct hs_generate_params *params);
/*
 * The answer to what the engine refused: a schema that cannot be enforced is told under the field
 * that holds it. `prompt` is the field that holds the messages.
 */
void hs_rest_shape_respond_failure(const struct hs_fields *fields, enum hs_rest_dialect dialect,
                                   const struct hs_rest_conversation *conversation,
                                   const struct hs_error *err, const char *prompt);

#endif
