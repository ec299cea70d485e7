#include <limits.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_internal.h"

/* Bytes of text in one call: llama.cpp counts in int32_t, and a token is never longer than text. */
#define TEXT_MAX ((size_t)1 << 30)

static size_t room_left(const struct hs_buf *buf)
{
    return buf->max > buf->len ? buf->max - buf->len : 0;
}

struct tokenize_call {
    const struct llama_vocab *vocab;
    const char *text;
    int32_t len;
    bool add_special, parse_special;
    llama_token *tokens;
    int32_t capacity;
    int32_t n;
};

static void tokenize(void *arg)
{
    struct tokenize_call *call = arg;
    call->n = llama_tokenize(call->vocab, call->text, call->len, call->tokens, call->capacity,
                             call->add_special, call->parse_special);
}

/* llama.cpp aborts when the vocabulary wants a BOS or EOS that it does not have. */
static bool wants_missing_special(const hs_rt_model *model)
{
    const struct llama_vocab *vocab = model->vocab;
    enum llama_vocab_type type = llama_vocab_type(vocab);
    bool needs_bos = llama_vocab_get_add_bos(vocab) || type == LLAMA_VOCAB_TYPE_WPM;
    bool needs_eos = llama_vocab_get_add_eos(vocab);
    bool needs_sep = llama_vocab_get_add_sep(vocab) || type == LLAMA_VOCAB_TYPE_WPM;
    return (needs_bos && llama_vocab_bos(vocab) < 0) || (needs_eos && llama_vocab_eos(vocab) < 0) ||
           (needs_sep && type == LLAMA_VOCAB_TYPE_WPM && llama_vocab_sep(vocab) < 0);
}

hs_status hs_llama_tokenize(const hs_rt_model *model, const char *text, size_t len,
                            bool add_special, bool parse_special, struct hs_buf *tokens,
                            struct hs_error *err)
{
    if (len > TEXT_MAX) {
        return hs_error_set(err, HS_LIMIT, "text of %zu bytes; at most %zu can be tokenized", len,
                            TEXT_MAX);
    }
    struct tokenize_call call = {.vocab = model->vocab,
                                 .text = text,
                                 .len = (int32_t)len,
                                 .add_special = add_special && !wants_missing_special(model),
                                 .parse_special = parse_special};
    /* Most tokenizers need two bytes a token or more; the second round is exact. */
    size_t room = len / 2 + 16;
    size_t most = room_left(tokens) / sizeof(llama_token);
    room = room < most ? room : most;
    for (int round = 0; round < 2; round++) {
        hs_status status = hs_buf_reserve(tokens, room * sizeof(llama_token));
        if (status != HS_OK) {
            return hs_error_set(err, status, "the tokens of a text of %zu bytes do not fit", len);
        }
        call.tokens = (llama_token *)(void *)(tokens->data + tokens->len);
        call.capacity = (int32_t)room;
        status = hs_cxx_guard(tokenize, &call, "the text cannot be tokenized", err);
        if (status != HS_OK) {
            return status;
        }
        if (call.n >= 0) {
            tokens->len += (size_t)call.n * sizeof(llama_token);
            tokens->data[tokens->len] = '\0';
            return HS_OK;
        }
        if (call.n == INT32_MIN) {
            break;
        }
        room = (size_t)-call.n;
    }
    return hs_error_set(err, HS_LIMIT, "a text of %zu bytes has too many tokens", len);
}

struct piece_call {
    const struct llama_vocab *vocab;
    const llama_token *tokens;
    int32_t n_tokens;
    bool special;
    char *text;
    int32_t capacity;
    int32_t n;
};

static void piece(void *arg)
{
    struct piece_call *call = arg;
    call->n = llama_token_to_piece(call->vocab, call->tokens[0], call->text, call->capacity, 0,
                                   call->special);
}

static void detokenize(void *arg)
{
    struct piece_call *call = arg;
    call->n = llama_detokenize(call->vocab, call->tokens, call->n_tokens, call->text,
                               call->capacity, false, call->special);
}

static hs_status check_token(const hs_rt_model *model, int32_t token, struct hs_error *err)
{
    if (token < 0 || token >= model->n_vocab) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "token %d is outside the vocabulary [0, %d)",
                            token, model->n_vocab);
    }
    return HS_OK;
}

/* Run `fn` with `room` bytes, and once more with what it asked for. */
static hs_status append_text(void (*fn)(void *), struct piece_call *call, size_t room,
                             struct hs_buf *text, struct hs_error *err)
{
    size_t most = room_left(text);
    room = room < most ? room : most;
    for (int round = 0; round < 2; round++) {
        hs_status status = room <= INT32_MAX ? hs_buf_reserve(text, room) : HS_LIMIT;
        if (status != HS_OK) {
            return hs_error_set(err, status, "text of %zu bytes does not fit", room);
        }
        call->text = text->data + text->len;
        call->capacity = (int32_t)room;
        status = hs_cxx_guard(fn, call, "the token has no text", err);
        if (status != HS_OK) {
            return status;
        }
        if (call->n >= 0) {
            text->len += (size_t)call->n;
            text->data[text->len] = '\0';
            return HS_OK;
        }
        room = (size_t) - (int64_t)call->n;
    }
    return hs_error_set(err, HS_INTERNAL, "llama.cpp asked twice for more room for a text");
}

hs_status hs_llama_token_piece(const hs_rt_model *model, int32_t token, bool special,
                               struct hs_buf *text, struct hs_error *err)
{
    hs_status status = check_token(model, token, err);
    if (status != HS_OK) {
        return status;
    }
    struct piece_call call = {
        .vocab = model->vocab, .tokens = &token, .n_tokens = 1, .special = special};
    return append_text(piece, &call, 64, text, err);
}

hs_status hs_llama_detokenize(const hs_rt_model *model, const int32_t *tokens, size_t n_tokens,
                              bool unparse_special, struct hs_buf *text, struct hs_error *err)
{
    if (n_tokens > TEXT_MAX / 16) {
        return hs_error_set(err, HS_LIMIT, "%zu tokens; at most %zu can be turned into text",
                            n_tokens, TEXT_MAX / 16);
    }
    for (size_t i = 0; i < n_tokens; i++) {
        hs_status status = check_token(model, tokens[i], err);
        if (status != HS_OK) {
            return status;
        }
    }
    struct piece_call call = {.vocab = model->vocab,
                              .tokens = tokens,
                              .n_tokens = (int32_t)n_tokens,
                              .special = unparse_special};
    return append_text(detokenize, &call, n_tokens * 8 + 16, text, err);
}

bool hs_llama_is_eog(const hs_rt_model *model, int32_t token)
{
    return token >= 0 && token < model->n_vocab && llama_vocab_is_eog(model->vocab, token);
}
