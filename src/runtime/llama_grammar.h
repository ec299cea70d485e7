/*
 * llama_grammar.h - the grammar of one request: the caller's own, or that of the format its answer
 * must have.
 *
 * A grammar of tool calls waits until the model begins one; the caller's and a schema's bind from
 * the first token. When a token that begins a call goes on in a way the grammar forbids, the
 * grammar is given up: the answer then is read without its help.
 *
 * Owner:   hs_llama_grammar_free; the format must outlive it. Threads: as the sampler's.
 */
#ifndef RUNTIME_LLAMA_GRAMMAR_H
#define RUNTIME_LLAMA_GRAMMAR_H

#include "llama_internal.h"

struct hs_llama_grammar;

/* *ret_grammar NULL: the answer is free. */
HS_CHECKED hs_status hs_llama_grammar_new(const hs_rt_model *model,
                                          const struct hs_sampling *sampling,
                                          const hs_rt_format *format,
                                          struct hs_llama_grammar **ret_grammar,
                                          struct hs_error *err);
void hs_llama_grammar_free(struct hs_llama_grammar *grammar);
/* What restricts the next token; NULL: nothing, or nothing yet. `grammar` may be NULL. */
struct llama_sampler *hs_llama_grammar_active(const struct hs_llama_grammar *grammar);
/* Whether the text goes on as UTF-8 with this token. llama.cpp's grammars take any bytes for a
 * character; what a schema allows has real ones. */
bool hs_llama_grammar_is_text(const struct hs_llama_grammar *grammar, int32_t token);
/* Advance by a token; one that an active grammar allows. May throw. `grammar` may be NULL. */
void hs_llama_grammar_accept(struct hs_llama_grammar *grammar, int32_t token);

#endif
