/*
 * grammar_trigger.h - waits for the words with which a model begins to call tools.
 *
 * A grammar for tool calls binds only from such a word on. llama.cpp's own waiting keeps the whole
 * text and searches all of it with every token; this one keeps as little as the longest word needs.
 * Words in a block of reasoning at the start of the answer do not count.
 *
 * Owner:   hs_grammar_trigger_free. Threads: one at a time.
 */
#ifndef RUNTIME_GRAMMAR_TRIGGER_H
#define RUNTIME_GRAMMAR_TRIGGER_H

#include "base/buf.h"

typedef struct hs_grammar_trigger hs_grammar_trigger;

struct hs_grammar_trigger_params {
    const char *const *words; /* [n_words]; borrowed, as all texts are; none: reasoning alone */
    int32_t n_words;
    const char *think_start, *think_end; /* "": the model does not reason */
    bool starts_thinking;                /* the prompt ends inside the block */
};

HS_CHECKED hs_status hs_grammar_trigger_new(const struct hs_grammar_trigger_params *params,
                                            hs_grammar_trigger **ret_trigger, struct hs_error *err);
void hs_grammar_trigger_free(hs_grammar_trigger *trigger);
/*
 * The next token and its text.
 * Out:    ret_tokens[*ret_n]: when a word is complete, the tokens from the one in which it begins;
 *         else *ret_n is 0. Valid until the next call.
 * Errors: HS_OUT_OF_MEMORY, HS_LIMIT for an absurdly long token.
 */
HS_CHECKED hs_status hs_grammar_trigger_push(hs_grammar_trigger *trigger, int32_t token,
                                             const char *piece, size_t len,
                                             const int32_t **ret_tokens, size_t *ret_n);
/* Whether the text stands inside the block of reasoning. */
bool hs_grammar_trigger_is_thinking(const hs_grammar_trigger *trigger);

#endif
