/*
 * fake_runtime.h - a runtime for tests of the engine: no weights, and the next token is a function
 * of everything its sequence's KV holds, so that wrong KV shows in the answer.
 *
 * Vocabulary: bytes 0..255, FAKE_BOS, FAKE_EOG ("<|end|>"), FAKE_GEN ("<|gen|>"). The template
 * writes "[role]content\n" for every message but the assistant's, "<|gen|>content<|end|>\n" for
 * his, and ends in "<|gen|>" when generation is asked for.
 *
 * Tools come first, as "[tools]name,name\n", then the variables as "[kwargs]{...}\n"; calls stand
 * behind the assistant's content as "<name:arguments>". A message to be continued is left open.
 *
 * Formats: "<name:arguments>" in an answer is a call, with "id0", "id1" ... as ids, unless a schema
 * is asked for; nothing is held back, and FAKE_FORMAT_STOP is the format's stop string.
 *
 * Default next token: 'a' + hash(all tokens) % 26; FAKE_EOG once answer_len tokens follow the last
 * FAKE_GEN (0: never).
 *
 * Memories: plain attention; a sliding window (n_swa: only the last n_swa positions are kept of the
 * part that cannot be cut); recurrent (a state that cannot be cut at all). As with llama.cpp,
 * cutting a window too far back succeeds and is wrong afterwards: the answer then is
 * FAKE_GARBAGE and n_corrupt counts it.
 *
 * Adapters: the first value of their first B is their shift. What a sequence holds of a token is
 * FAKE_MARK(token, effect), the effect being the sum of shift times scale of the adapters it was
 * computed with, and the next token is a function of that: KV of other adapters shows in the
 * answer.
 *
 * Embeddings: FAKE_N_EMBD values of tokens[n]: n, their sum, the sum of (i + 1) * tokens[i], -1.
 *
 * Threads: one configuration per process, set while nothing runs. Counters are atomic. Context
 * functions assert that one thread at a time is inside.
 */
#ifndef SUPPORT_FAKE_RUNTIME_H
#define SUPPORT_FAKE_RUNTIME_H

#include "runtime/runtime.h"

#define FAKE_BOS 256
#define FAKE_EOG 257
#define FAKE_GEN 258
#define FAKE_N_VOCAB 259
#define FAKE_GARBAGE '#'
#define FAKE_FORMAT_STOP "</end>"
#define FAKE_N_EMBD 4
#define FAKE_MARK(token, effect) ((token) | (int32_t)((uint32_t)(effect) << 12))
#define FAKE_TOKEN(mark) ((mark)&0xfff)
/* What the model thinks of a token in an answer with forced ones. */
#define FAKE_FORCED_LOGPROB(token) (-(float)(token) / 64)

typedef int32_t (*fake_next_fn)(const int32_t *tokens, size_t n, void *user);

struct fake_config {
    fake_next_fn next; /* NULL: the default */
    void *next_user;
    int32_t answer_len;
    int32_t n_swa;
    bool is_recurrent;
    bool refuses_cuts;    /* attention that refuses every cut, without saying so beforehand */
    bool has_no_template; /* the model carries none */
    bool is_encoder;
    int32_t hidden_cells; /* cells there really are; 0: n_ctx */
    int32_t decode_us;    /* a decode takes so long, checking for abort */
    int32_t fail_decode;  /* number of the decode call that fails; 0: none */
    int32_t fail_sample;  /* number of the sample call that fails; 0: none */
    bool fails_state_load;
    bool fails_context_new;
    bool generates_nothing; /* context_new: HS_UNSUPPORTED_MODEL */
    /* Embedders. */
    int32_t embed_batch; /* tokens in a call; 0: 16 */
    bool embed_is_whole, is_ranker;
    int32_t nan_token; /* an input with it has NaN in its values; 0: none */
    const char *reasoning_start, *reasoning_end; /* NULL: does not reason */
    uint64_t weights_bytes, kv_bytes_per_token, seq_bytes, compute_bytes, available_bytes;
    uint64_t device_free_bytes;
    bool has_kv_on_device;
};

struct fake_counters {
    int32_t n_decode, n_items;   /* successful calls, and tokens computed */
    int32_t max_batch, max_seqs; /* largest batch; most sequences in one */
    int32_t n_no_room, n_aborted;
    int32_t n_state_save, n_state_load, n_partial_save, n_partial_load, n_copy;
    int32_t n_corrupt;    /* answers from KV that was not what it should be */
    int32_t n_violations; /* misuse: positions with gaps, two threads inside, too many logits */
    int32_t n_models, n_contexts, n_samplers; /* alive */
    int32_t n_prompt_accepted;
};

/* Zero counters and set the configuration; NULL: all defaults. */
void fake_runtime_reset(const struct fake_config *config);
const struct hs_runtime *fake_runtime(void);
void fake_runtime_counters(struct fake_counters *ret_counters);

/*
 * Hold decode calls: each waits for a credit. fake_runtime_step gives n credits and returns when
 * they are used up and the next call waits; when none comes for a minute, the program is aborted.
 */
void fake_runtime_pause(void);
void fake_runtime_step(int32_t n);
void fake_runtime_resume(void);
/* Wait until a decode call is held. */
void fake_runtime_wait_held(void);
/* Tokens of sequence seq in the i-th successful decode call since the reset. */
#define FAKE_LOG_CALLS 4096
#define FAKE_LOG_SEQS 64
int32_t fake_runtime_logged(int32_t i, int32_t seq);

/* ---- adapters (fake_lora.c) ---- */

struct fake_lora_config {
    uint64_t bytes; /* of each; 0: 100 */
    bool fails_new, fails_prepare;
    bool is_one_set; /* decode takes one set only */
};
struct fake_lora_counters {
    int32_t n_alive, n_made, n_prepared;
    int32_t n_misused; /* freed ones, scales of 0, mixed sets where that cannot be */
};
/* NULL: all defaults. */
void fake_lora_reset(const struct fake_lora_config *config);
void fake_lora_counters(struct fake_lora_counters *ret_counters);
struct fake_weights {
    float shift;
    struct hs_lora_target target;
    struct hs_lora lora;
};
/* Weights that shift, in the memory given. */
const struct hs_lora *fake_lora(struct fake_weights *weights, float shift);
int32_t fake_effect(const struct hs_rt_adapter_set *set);
/* A decode with these items succeeded. */
void fake_lora_count(const struct hs_rt_batch_item *items, int32_t n_items);
hs_status fake_adapter_new(const hs_rt_model *model, const struct hs_lora *lora,
                           hs_rt_adapter **ret_adapter, struct hs_error *err);
void fake_adapter_free(hs_rt_adapter *adapter);
uint64_t fake_adapter_bytes(const hs_rt_adapter *adapter);
hs_status fake_lora_prepare(hs_rt_model *model, enum hs_lora_engine wanted,
                            const struct hs_rt_context_params *params, struct hs_error *err);
void fake_lora_stats(const hs_rt_context *context, struct hs_rt_lora_stats *ret_stats);

/* What fake_format.c adds to the table. */
hs_status fake_render_tools(const struct hs_rt_template_params *params, struct hs_buf *text);
hs_status fake_render_assistant(const struct hs_message *message, bool is_open,
                                struct hs_buf *text);
hs_status fake_format_new(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                          const struct hs_rt_format_params *params, hs_rt_format **ret_format,
                          struct hs_error *err);
void fake_format_free(hs_rt_format *format);
const char *fake_format_stop(const hs_rt_format *format);
hs_status fake_format_feed(hs_rt_format *format, const char *text, size_t len, bool is_end,
                           struct hs_rt_delta *ret_deltas, int32_t *ret_n, struct hs_error *err);

/* The next token after tokens[n] under the present configuration. */
int32_t fake_next(const int32_t *tokens, size_t n);
/* The values of an input, as computed. */
void fake_embedding(const int32_t *tokens, size_t n, float values[FAKE_N_EMBD]);
/* Tokens of text, special ones included. Returns their number; tokens has room. */
size_t fake_tokenize(const char *text, int32_t *tokens);
/*
 * The text that must come out for a prompt: at most max_tokens tokens (counting an end), at most
 * until n_ctx tokens stand in the context. Returns the number of tokens generated.
 */
size_t fake_answer(const int32_t *prompt, size_t n_prompt, size_t max_tokens, size_t n_ctx,
                   char *text);
/* The same with adapters of this effect. */
size_t fake_answer_with(int32_t effect, const int32_t *prompt, size_t n_prompt, size_t max_tokens,
                        size_t n_ctx, char *text);

#endif
