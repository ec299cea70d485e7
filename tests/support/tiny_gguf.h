/*
 * tiny_gguf.h - complete language models of half a megabyte whose next token is a known function,
 * for exact-output tests on the real llama.cpp.
 *
 * BIGRAM   next token = next[last token], any table.
 * HISTORY  next token = TINY_GGUF_ANSWER0 + 128 + clamp(sum of weight(t) over the whole context,
 *          -128, 127), where every weight is odd (so a token that is missing, doubled or from
 *          another sequence changes the answer), in any context with exactly one <s>.
 *          Exact up to TINY_GGUF_HISTORY_MAX tokens, whatever the order of the tokens, batch
 *          layout, flash attention on or off, KV in f16 or q8_0.
 * Both run with temperature 0 or any other: the winner leads by a wide margin. Architectures:
 *
 * LLAMA    as above.
 * GEMMA3   sliding-window attention in every other layer, so that only parts of the KV can be cut.
 *          HISTORY: ANSWER0 + 8 * (16 + clamp(sum, -16, 15)) + votes, where bit i of votes says
 *          whether at least half of the last n_swa tokens have tiny_gguf_vote(t, i).
 * MAMBA    a recurrent state instead of KV, which cannot be cut at all. HISTORY as with LLAMA, but
 *          without need of <s> and without a limit of length.
 * QWEN3    as LLAMA, under the name of the family that reasons between <think> and </think>.
 *
 * How: one layer. BIGRAM: attention and FFN add exactly zero, the embedding of t is the code word
 * (64 times +-1) of next[t], the output row of n is the code word of n. HISTORY: q = k = 0 makes
 * attention the mean over all positions of (weight, is <s>), which is (S/n, 1/n); output row k is
 * (2k, -k^2), so its logit is (S^2 - (S - k)^2)/n, an integer over n, largest at k = S. All values
 * are powers of two or small integers, exact in f16 and q8_0.
 *
 * Vocabulary (SentencePiece, TINY_GGUF_N_VOCAB tokens): <unk> <s> </s>, 256 bytes, <|im_start|>,
 * <|im_end|> (control, end of generation), <think>, </think> (user-defined), a space and the 94
 * printable ASCII characters, " a".." z", the 256 answer words " aa".." tt", and the steps to
 * " hello", " world", "Hello". Characters beyond ASCII are spelt in bytes, so they arrive as
 * several tokens. Answer words always tokenize back to themselves.
 *
 * Threads: no state.
 */
#ifndef SUPPORT_TINY_GGUF_H
#define SUPPORT_TINY_GGUF_H

#include "gguf_writer.h"

enum tiny_gguf_token {
    TINY_GGUF_UNK = 0,
    TINY_GGUF_BOS = 1,
    TINY_GGUF_EOS = 2,
    TINY_GGUF_BYTE0 = 3, /* <0x00>; byte b is TINY_GGUF_BYTE0 + b */
    TINY_GGUF_IM_START = 259,
    TINY_GGUF_IM_END = 260,
    TINY_GGUF_THINK = 261,
    TINY_GGUF_THINK_END = 262,
    TINY_GGUF_SPACE = 263,
    TINY_GGUF_CHAR0 = 264,   /* '!'; printable c is TINY_GGUF_CHAR0 + c - '!' */
    TINY_GGUF_LETTER0 = 358, /* " a" .. " z" */
    TINY_GGUF_ANSWER0 = 384, /* " aa" .. " tt" */
    TINY_GGUF_N_ANSWERS = 256,
    TINY_GGUF_EXTRA0 = 640,
    TINY_GGUF_N_VOCAB = 652
};

#define TINY_GGUF_N_EMBD 64
#define TINY_GGUF_HISTORY_MAX 1024 /* tokens of context for which HISTORY is exact */

/* ChatML with <s> in front, as the models below carry it when chat_template asks for it. */
extern const char tiny_gguf_chatml[];

enum tiny_gguf_kind { TINY_GGUF_BIGRAM = 0, TINY_GGUF_HISTORY };
enum tiny_gguf_arch { TINY_GGUF_LLAMA = 0, TINY_GGUF_GEMMA3, TINY_GGUF_MAMBA, TINY_GGUF_QWEN3 };

struct tiny_gguf_spec {
    enum tiny_gguf_kind kind;
    enum tiny_gguf_arch arch;
    const int32_t *next; /* BIGRAM: i32[TINY_GGUF_N_VOCAB], -1: eos; NULL: the default table */
    const char *chat_template; /* NULL: none in the file */
    const char *name;          /* general.name */
    uint32_t n_ctx_train;
    uint32_t n_layer;      /* the first one (two of GEMMA3) acts, others add zero; 0: just those */
    uint32_t n_swa;        /* GEMMA3: tokens in the window */
    int32_t eos;           /* tokenizer.ggml.eos_token_id; <|im_end|> and </s> end anyway */
    bool add_bos;          /* tokenizer.ggml.add_bos_token */
    bool add_space_prefix; /* a space before the text, as SentencePiece models do */
    bool history_stops;    /* HISTORY: a sum of 0 gives <|im_end|> instead of its answer word */
    float logit_scale;     /* BIGRAM: logit of n is scale * (64 - 2 * differing signs) */
    /* Adds more keys or tensors before the file is put together; may be NULL. */
    void (*extra)(struct gguf_writer *writer, void *user);
    void *extra_user;
};

/* LLAMA, BIGRAM with the default table, no template, context 4096, a window of 32, add_bos, no
 * space prefix, scale 2. */
void tiny_gguf_defaults(struct tiny_gguf_spec *spec);

bool tiny_gguf_write(const struct tiny_gguf_spec *spec, const char *path);
/* Out: the file's bytes (gguf_bytes_free), the length of its header. */
bool tiny_gguf_build(const struct tiny_gguf_spec *spec, struct gguf_bytes *ret_bytes,
                     size_t *ret_header_len);

/* The next token after tokens[n], n >= 1, by the formula; -1 where HISTORY is not defined (LLAMA
 * and GEMMA3: not exactly one <s>, or too long). */
int32_t tiny_gguf_next(const struct tiny_gguf_spec *spec, const int32_t *tokens, size_t n);
/* HISTORY with the default spec. */
int32_t tiny_gguf_history_next(const int32_t *tokens, size_t n);
/* The same with adapters, whose shifts times scales add up to `shift`, an integer. */
int32_t tiny_gguf_history_next_with(int32_t shift, const int32_t *tokens, size_t n);
/*
 * Write a GGUF LoRA for HISTORY of LLAMA: it adds scale * shift to what <s> gives to the sum, so it
 * acts through the KV of <s>. shift / rank must be an integer below 2048.
 */
bool tiny_gguf_adapter_write(const char *path, int32_t shift, uint32_t rank);
/* What a token adds to the sum of HISTORY: +-1, for answer words +-1, 3, 5 or 7 towards zero. */
int32_t tiny_gguf_weight(int32_t token);
/* GEMMA3: whether the token speaks for bit i (0..2) of its window. */
bool tiny_gguf_vote(int32_t token, int i);
/* BIGRAM's logit of `token` after `last`. */
float tiny_gguf_bigram_logit(const struct tiny_gguf_spec *spec, int32_t last, int32_t token);

/* BIGRAM's hidden state at a position with `last`: 1 and -1. */
void tiny_gguf_bigram_hidden(const struct tiny_gguf_spec *spec, int32_t last,
                             float hidden[TINY_GGUF_N_EMBD]);

/* Bytes a token stands for (" aa", "<|im_end|>", one byte for byte tokens); false when out of
 * range. text[16]. */
bool tiny_gguf_text(int32_t token, char *text, size_t *ret_len);
/* The token whose text is exactly this (special tokens included, byte tokens not); -1: none. */
int32_t tiny_gguf_token(const char *text);

/* Tables for BIGRAM. default: every token leads into the cycle of the answer words, " aa" to " ab"
 * and so on. unset: all -1. */
void tiny_gguf_next_default(int32_t *next);
void tiny_gguf_next_unset(int32_t *next);
/*
 * Make the model say `text` after token `from`, then `to` (-1: eos): entries of next are set along
 * the text, with tokens that are still unset (longest first; a character that was used already is
 * spelt as its byte). false: the text needs a token twice.
 */
bool tiny_gguf_spell(int32_t *next, int32_t from, const char *text, int32_t to);

#endif
