/*
 * llama_test.h - what tests of the engine on llama.cpp share: tiny models whose answers are known.
 *
 * Threads: none.
 */
#ifndef TESTS_LLAMA_TEST_H
#define TESTS_LLAMA_TEST_H

#include "engine_test.h"
#include "tiny_gguf.h"

#define LLAMA_TOKENS_MAX 4096

struct llama_fixture {
    hs_engine *engine;
    struct tiny_gguf_spec spec;
};

/* An engine with one tiny model "m". model_params and engine_params NULL: defaults with n_ctx and
 * n_seq_max. */
void llama_start(struct llama_fixture *f, const struct tiny_gguf_spec *spec,
                 const struct hs_engine_params *engine_params,
                 const struct hs_model_params *model_params, int32_t n_ctx, int32_t n_seq_max);
void llama_stop(struct llama_fixture *f);

size_t llama_tokens(hs_engine *engine, const char *text, bool add_special, int32_t *tokens);
/* Prompt tokens of a session's messages [first, n) as the chat template renders them. */
size_t llama_session_prompt(hs_engine *engine, const char *id, size_t first, size_t n,
                            int32_t *tokens);
hs_stream *llama_complete(hs_engine *engine, const int32_t *tokens, size_t n,
                          const struct hs_generate_params *params);
/*
 * The text that must come out after tokens[n]: at most max_tokens tokens, at most until n_ctx stand
 * in the context. Returns the number of tokens, the end token included; text has room. tokens is
 * continued with them, the end token included.
 */
size_t llama_answer(const struct tiny_gguf_spec *spec, int32_t *tokens, size_t n, size_t max_tokens,
                    size_t n_ctx, char *text);

#endif
