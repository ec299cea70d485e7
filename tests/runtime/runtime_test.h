/* runtime_test.h - what the tests of LlamaCppEngine share: short ways to a model, a context, a
 * sampler and an answer. Every helper fails the running test when the runtime does. */
#ifndef RUNTIME_TEST_H
#define RUNTIME_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "runtime/runtime.h"
#include "tiny_gguf.h"

extern const struct hs_runtime *rt;

/* Prints the error when status is not the wanted one. */
void expect_status(hs_status status, hs_status wanted, const struct hs_error *err,
                   const char *what);
#define EXPECT(wanted, call) expect_status((call), (wanted), &err, #call)
#define OK(call) EXPECT(HS_OK, call)

/* A unique path below HS_TEST_TMP; to be freed with free. */
char *temp_path(const char *suffix);

struct hs_model_params model_params(void);
struct hs_rt_context_params context_params(int32_t n_ctx, int32_t n_seq_max);
/* Every sampler off, greedy, seed 1. */
struct hs_sampling sampling_off(void);

hs_rt_model *load(const char *path);
/* A tiny model of this spec, loaded; its file is gone when this returns. */
hs_rt_model *load_tiny(const struct tiny_gguf_spec *spec);
hs_rt_context *new_context(hs_rt_model *model, int32_t n_ctx, int32_t n_seq_max);
hs_rt_sampler *new_sampler(const hs_rt_model *model, const struct hs_sampling *sampling);

/* Tokens of text; to be freed with hs_buf_free. */
struct hs_buf tokens_of(const hs_rt_model *model, const char *text, bool add_special,
                        bool parse_special);
static inline const int32_t *token_at(const struct hs_buf *tokens)
{
    return (const int32_t *)(const void *)tokens->data;
}
static inline int32_t n_tokens_of(const struct hs_buf *tokens)
{
    return (int32_t)(tokens->len / sizeof(int32_t));
}

/* Decode tokens[n] of one sequence from position pos on; logits of the last one. Returns its item.
 */
int32_t feed(hs_rt_context *context, int32_t seq, int32_t pos, const int32_t *tokens, int32_t n);
/* Feed and generate n_out tokens into out, stopping behind an end token. Returns how many. */
int32_t generate(hs_rt_context *context, const hs_rt_model *model, hs_rt_sampler *sampler,
                 int32_t seq, int32_t pos, const int32_t *tokens, int32_t n, int32_t *out,
                 int32_t n_out);

/* cmocka group set-up and tear-down: the backends. */
int start_runtime(void **state);
int stop_runtime(void **state);

#endif
