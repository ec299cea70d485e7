/*
 * prompt.h - from messages to prompt tokens: the chat template, the tokenizer, and the dropping of
 * the oldest turns when they do not fit.
 *
 * Threads: any; only the model's constant functions are used.
 */
#ifndef INFERENCE_PROMPT_H
#define INFERENCE_PROMPT_H

#include "shape.h"

/* A list of messages that owns its strings. */
struct hs_conversation {
    struct hs_message *messages; /* [n] */
    size_t n, cap;
    size_t n_skipped; /* messages after the system ones that were dropped from the context */
};

void hs_conversation_free(struct hs_conversation *conversation);
HS_CHECKED hs_status hs_conversation_copy(const struct hs_message *messages, size_t n,
                                          struct hs_conversation *ret_conversation);
/* Append a copy. */
HS_CHECKED hs_status hs_conversation_append(struct hs_conversation *conversation,
                                            const struct hs_message *message);
/* Drop the messages from index n on. */
void hs_conversation_truncate(struct hs_conversation *conversation, size_t n);
HS_CHECKED hs_status hs_message_copy(const struct hs_message *from, struct hs_message *to);

struct hs_prompt {
    int32_t *tokens; /* [n_tokens], freed by hs_prompt_free */
    size_t n_tokens;
    size_t checkpoints[2]; /* ascending, where a checkpoint is worth its memory; 0: none */
    size_t n_skipped;      /* messages left out of the context, earlier drops included */
    size_t n_dropped;      /* of them by this call */
    struct hs_rt_reasoning reasoning;
};
void hs_prompt_free(struct hs_prompt *prompt);

struct hs_prompt_params {
    const struct hs_message *messages; /* [n_messages] */
    size_t n_messages;
    size_t n_skipped; /* already dropped before */
    struct hs_shape shape;
    enum hs_overflow overflow;
    size_t n_generated;     /* tokens of the answer so far that will stand behind the prompt */
    bool wants_checkpoints; /* find the places for them */
};

/* Errors: HS_CONTEXT_FULL with the numbers, HS_INVALID_ARGUMENT from the template. */
HS_CHECKED hs_status hs_prompt_build(const struct hs_model *model,
                                     const struct hs_prompt_params *params,
                                     struct hs_prompt *ret_prompt, struct hs_error *err);
/* Errors: HS_CONTEXT_FULL, when n_tokens leave no room for an answer. */
HS_CHECKED hs_status hs_prompt_check_length(const struct hs_model *model, size_t n_tokens,
                                            struct hs_error *err);
/* Errors: HS_INVALID_ARGUMENT, naming the first token that is outside the vocabulary. */
HS_CHECKED hs_status hs_prompt_check_tokens(const struct hs_model *model, const int32_t *tokens,
                                            size_t n_tokens, struct hs_error *err);
/* Every message has a role and content, every call an id, name and arguments that are a JSON
 * object, all of it UTF-8; a message that is to be continued is the assistant's.
 * Errors: HS_INVALID_ARGUMENT, HS_LIMIT (more than HS_CALLS_MAX calls in a message). */
#define HS_CALLS_MAX 256
HS_CHECKED hs_status hs_prompt_check_messages(const struct hs_message *messages, size_t n_messages,
                                              bool continue_final, struct hs_error *err);
/* The rendered text alone. */
HS_CHECKED hs_status hs_prompt_render(const struct hs_model *model,
                                      const struct hs_message *messages, size_t n_messages,
                                      const struct hs_shape *shape, bool add_generation_prompt,
                                      struct hs_buf *text, struct hs_rt_reasoning *ret_reasoning,
                                      struct hs_error *err);

#endif
