/*
 * gbnf_check.h - refuses grammars that llama.cpp's parser would not survive or would explain on
 * stderr only.
 *
 * The same syntax as llama.cpp's grammars/README.md, read without building anything: quoted text,
 * [ranges], rule names, (groups), <tokens>, '.', '|' and the repetitions * + ? {m} {m,} {m,n}. What
 * is checked beyond the syntax: every rule and token used is known, the root too, {m,n} has m <= n
 * (llama.cpp would loop), and how large the grammar becomes when groups and repetitions are
 * unfolded.
 *
 * Errors:  HS_INVALID_ARGUMENT with line and column, HS_LIMIT, HS_OUT_OF_MEMORY.
 * Threads: no state.
 * Source:  llama.cpp's grammars/README.md and src/llama-grammar.cpp of the pinned version.
 */
#ifndef RUNTIME_GBNF_CHECK_H
#define RUNTIME_GBNF_CHECK_H

#include "hyprstream.h"

#define HS_GBNF_MAX_BYTES (1u << 20)
#define HS_GBNF_MAX_DEPTH 128   /* nested groups; llama.cpp recurses */
#define HS_GBNF_MAX_RULES 10000 /* after unfolding; llama.cpp recurses over them too */
#define HS_GBNF_MAX_ELEMENTS 1000000
#define HS_GBNF_MAX_REPEAT 2000 /* llama.cpp's MAX_REPETITION_THRESHOLD */

/* Whether the vocabulary has exactly this text, "<|im_end|>", as one token. */
typedef bool (*hs_gbnf_is_token_fn)(const char *text, size_t len, void *user);

/* is_token NULL: any token is taken for known. */
HS_CHECKED hs_status hs_gbnf_check(const char *grammar, const char *root,
                                   hs_gbnf_is_token_fn is_token, void *user, struct hs_error *err);

#endif
