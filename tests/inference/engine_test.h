/*
 * engine_test.h - what tests of the engine share: an engine over the fake runtime, whole answers.
 *
 * Threads: none; cmocka's asserts run on the main thread.
 */
#ifndef TESTS_ENGINE_TEST_H
#define TESTS_ENGINE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine_internal.h"
#include "fake_runtime.h"

#define ANSWER_MAX 16384

struct answer {
    char text[ANSWER_MAX];
    char reasoning[ANSWER_MAX];
    size_t len, reasoning_len;
    int32_t n_events, n_tokens;
    enum hs_finish finish;
    struct hs_usage usage;
    struct hs_error error;
};

/* A file that passes validation; written once a process. */
const char *test_model_path(void);
/* A folder for this test, empty; made by this, removed by test_dir_remove. */
char *test_dir_make(void);
void test_dir_remove(char *dir);

/* An engine over the fake runtime with one model "m". params NULL: defaults. */
hs_engine *test_engine(const struct hs_engine_params *params, int32_t n_ctx, int32_t n_seq_max);
/* The same with everything of the model chosen. */
hs_engine *test_engine_model(const struct hs_engine_params *params,
                             const struct hs_model_params *model);
/* Greedy, max_tokens. */
struct hs_generate_params test_params(int32_t max_tokens);

/* Submit text as raw tokens; fails the test when it is refused. */
hs_stream *test_complete(hs_engine *engine, const char *text,
                         const struct hs_generate_params *params);
hs_stream *test_generate(hs_engine *engine, const char *session, const char *prompt,
                         const struct hs_generate_params *params);
/* Read the stream to its end and free it. */
void test_collect(hs_stream *stream, struct answer *answer);
/* test_complete and test_collect; the answer must be what the fake's formula says. */
void test_run(hs_engine *engine, const char *text, int32_t max_tokens, struct answer *answer);
/* Compare an answer's text with the formula for a prompt of raw text. */
void test_expect(const struct answer *answer, const char *prompt, size_t max_tokens, size_t n_ctx);
struct hs_model_stats test_stats(hs_engine *engine);
struct fake_counters test_counters(void);
/* Wait, at most a minute, until as many requests run and wait. */
void test_wait_for(hs_engine *engine, int32_t n_running, int32_t n_queued);
/* No violation, no wrong KV, nothing left alive. Call after hs_engine_free. */
void test_check_clean(void);
void test_sleep_ms(int32_t ms);

/* An adapter of model "m" from a file. */
struct hs_adapter_params test_adapter_params(const char *name, const char *path);
/* A text of n characters that depends on the seed. */
void test_text(char *text, size_t n, uint32_t seed);

#endif
