/*
 * shape.h - what a request says of its prompt and answer beside messages and sampling: tools, the
 * template's variables, continuing, and the JSON schema of the answer.
 *
 * Limits:  HS_TOOLS_MAX tools, HS_TOOLS_MAX_BYTES of their texts, HS_KWARGS_MAX_BYTES of variables.
 * Threads: no state; any.
 */
#ifndef INFERENCE_SHAPE_H
#define INFERENCE_SHAPE_H

#include "model.h"

#define HS_TOOLS_MAX 256
#define HS_TOOLS_MAX_BYTES ((size_t)1 << 20)
#define HS_KWARGS_MAX_BYTES ((size_t)64 << 10)
#define HS_JSON_DEPTH_MAX 64 /* of variables, and of a tool's parameters */

/* What the chat template renders beside the messages. */
struct hs_shape {
    bool enable_thinking, continue_final;
    const struct hs_tool *tools; /* [n_tools] */
    int32_t n_tools;
    const char *template_kwargs; /* NULL: none */
};

/* Borrows what params points to. */
struct hs_shape hs_shape_of(const struct hs_generate_params *params);
HS_CHECKED hs_status hs_shape_copy(const struct hs_shape *from, struct hs_shape *to);
/* A copy. */
void hs_shape_free(struct hs_shape *shape);

/* HS_INVALID_ARGUMENT or HS_LIMIT, naming what is wrong. */
HS_CHECKED hs_status hs_shape_check(const struct hs_generate_params *params, struct hs_error *err);
/* The same for a request without a template, which takes a JSON schema alone. */
HS_CHECKED hs_status hs_shape_check_raw(const struct hs_generate_params *params,
                                        struct hs_error *err);

/* Whether the text is a JSON object of bounded depth. */
bool hs_shape_is_object(const char *text);

/*
 * How the answer is constrained and read; *ret_format NULL: it is plain text.
 * In:     messages[n_messages] that are rendered; n_messages 0: no template.
 * Errors: HS_INVALID_ARGUMENT naming a keyword of a schema that cannot be enforced,
 * HS_NOT_SUPPORTED, HS_LIMIT.
 */
HS_CHECKED hs_status hs_shape_format(const struct hs_model *model,
                                     const struct hs_generate_params *params,
                                     const struct hs_message *messages, size_t n_messages,
                                     hs_rt_format **ret_format, struct hs_error *err);

#endif
