/*
 * gguf_check_vocab.c - the vocabulary, so that llama.cpp neither asserts nor throws while it loads
 * it (src/llama-vocab.cpp) or later when it tokenizes.
 */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define MAX_TOKENS (1u << 22)
#define TYPE_BYTE 6u /* LLAMA_TOKEN_TYPE_BYTE */

struct vocab {
    const hs_gguf *gguf;
    struct hs_error *err;
    struct hs_gguf_text *tokens; /* [n] */
    size_t n;
    struct hs_gguf_index index;
    char (*empty_names)[24]; /* what llama.cpp calls tokens without a text, [n_empty] */
};

/* What llama.cpp assumes for a tokenizer where the file says nothing. */
struct tokenizer {
    const char *model;
    uint32_t bos, eos; /* UINT32_MAX: none */
    bool adds_bos, adds_eos;
    bool needs_bytes; /* every byte must have a token */
};

static const struct tokenizer tokenizers[] = {
    {"llama", 1, 2, true, false, true},
    {"gpt2", 11, 11, false, false, false},
    {"bert", 101, UINT32_MAX, true, false, false},
    {"t5", UINT32_MAX, 1, false, true, false},
    {"rwkv", UINT32_MAX, UINT32_MAX, false, false, false},
    {"plamo2", 1, 2, false, false, false},
};

static hs_status bad(const struct vocab *vocab)
{
    hs_error_hint(vocab->err,
                  "the model is damaged or was converted wrongly; fetch or convert it again");
    return HS_BAD_FORMAT;
}

static struct hs_gguf_text token_text(const void *owner, size_t i)
{
    return ((const struct vocab *)owner)->tokens[i];
}

static void vocab_release(struct vocab *vocab)
{
    hs_gguf_index_free(&vocab->index);
    hs_free(vocab->tokens);
    hs_free(vocab->empty_names);
}

static hs_status check_tokens(struct vocab *vocab)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(vocab->gguf, "tokenizer.ggml.tokens");
    if (kv == NULL || kv->type != HS_GGUF_ARRAY || kv->item_type != HS_GGUF_STRING ||
        kv->n_items == 0) {
        hs_error_set(vocab->err, HS_BAD_FORMAT,
                     "the model has no vocabulary (tokenizer.ggml.tokens, an array of strings)");
        return bad(vocab);
    }
    if (kv->n_items > MAX_TOKENS) {
        hs_error_set(vocab->err, HS_LIMIT,
                     "a vocabulary of %" PRIu64 " tokens is more than the limit of %u", kv->n_items,
                     MAX_TOKENS);
        bad(vocab);
        return HS_LIMIT;
    }
    vocab->n = (size_t)kv->n_items;
    vocab->tokens = hs_calloc(vocab->n, sizeof *vocab->tokens);
    if (vocab->tokens == NULL || !hs_gguf_index_init(&vocab->index, vocab->n)) {
        return hs_error_nomem(vocab->err, "the vocabulary");
    }
    size_t n_empty = 0;
    for (size_t i = 0, at = 0; i < vocab->n; i++) {
        vocab->tokens[i] = hs_gguf_next_string(kv, &at);
        n_empty += vocab->tokens[i].len == 0;
    }
    if (n_empty == 0) {
        return HS_OK;
    }
    vocab->empty_names = hs_calloc(n_empty, sizeof *vocab->empty_names);
    if (vocab->empty_names == NULL) {
        return hs_error_nomem(vocab->err, "the vocabulary");
    }
    for (size_t i = 0; i < vocab->n; i++) {
        if (vocab->tokens[i].len == 0) {
            char *name = vocab->empty_names[--n_empty];
            int len = snprintf(name, sizeof *vocab->empty_names, "[EMPTY_%zu]", i);
            vocab->tokens[i] = (struct hs_gguf_text){name, (size_t)len};
        }
    }
    return HS_OK;
}

static hs_status check_unique(struct vocab *vocab)
{
    size_t pair[2];
    if (!hs_gguf_index_add_all(&vocab->index, vocab->n, token_text, vocab, pair)) {
        hs_error_set(vocab->err, HS_BAD_FORMAT, "tokens %zu and %zu are the same", pair[0],
                     pair[1]);
        return bad(vocab);
    }
    return HS_OK;
}

/* An array beside the tokens must be at least as long. */
static hs_status check_beside(const struct vocab *vocab, const char *key, bool is_float)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(vocab->gguf, key);
    if (kv == NULL) {
        return HS_OK;
    }
    bool is_ok = kv->type == HS_GGUF_ARRAY &&
                 (kv->item_type == HS_GGUF_INT32 || (is_float && kv->item_type == HS_GGUF_FLOAT32));
    if (!is_ok || kv->n_items < vocab->n) {
        hs_error_set(vocab->err, HS_BAD_FORMAT,
                     "'%s' must be an array of at least %zu %s, one for each token", key, vocab->n,
                     is_float ? "f32 or i32" : "i32");
        return bad(vocab);
    }
    return HS_OK;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}

static hs_status check_byte_types(const struct vocab *vocab)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(vocab->gguf, "tokenizer.ggml.token_type");
    for (size_t i = 0; kv != NULL && i < vocab->n; i++) {
        struct hs_gguf_text text = vocab->tokens[i];
        if (hs_gguf_le32(kv->value + 4 * i) == TYPE_BYTE &&
            (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || !is_hex(text.data[3]) ||
             !is_hex(text.data[4]) || text.data[5] != '>')) {
            hs_error_set(vocab->err, HS_BAD_FORMAT,
                         "token %zu is marked as a byte but not written like <0x41>", i);
            return bad(vocab);
        }
    }
    return HS_OK;
}

static bool has_token(const struct vocab *vocab, const char *text, size_t len)
{
    return hs_gguf_index_find(&vocab->index, (struct hs_gguf_text){text, len}, token_text, vocab) !=
           HS_GGUF_INDEX_NONE;
}

static hs_status check_all_bytes(const struct vocab *vocab)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        char self = (char)byte;
        int len = snprintf(name, sizeof name, "<0x%02X>", byte);
        if (!has_token(vocab, name, (size_t)len) && !has_token(vocab, &self, byte != 0)) {
            hs_error_set(vocab->err, HS_BAD_FORMAT, "the vocabulary has no token for the byte %s",
                         name);
            return bad(vocab);
        }
    }
    return HS_OK;
}

static bool flag(const hs_gguf *gguf, const char *key, bool missing)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    return kv == NULL || kv->type != HS_GGUF_BOOL ? missing : kv->value[0] != 0;
}

/* A special token that is named must exist, and one that is added to prompts must be known. */
static hs_status check_special(const struct vocab *vocab, const char *id_key, const char *add_key,
                               uint32_t assumed, bool adds)
{
    uint64_t id = 0;
    const struct hs_gguf_kv *kv = hs_gguf_find(vocab->gguf, id_key);
    if (kv != NULL &&
        (kv->type != HS_GGUF_UINT32 || !hs_gguf_u64(vocab->gguf, id_key, &id) || id >= vocab->n)) {
        hs_error_set(vocab->err, HS_BAD_FORMAT,
                     "'%s' (%s, value %" PRIu64 ") is not a token of the vocabulary of %zu", id_key,
                     hs_gguf_type_name(kv->type), id, vocab->n);
        return bad(vocab);
    }
    if (kv == NULL && assumed >= vocab->n && flag(vocab->gguf, add_key, adds)) {
        hs_error_set(vocab->err, HS_BAD_FORMAT, "'%s' is missing, though '%s' asks for the token",
                     id_key, add_key);
        return bad(vocab);
    }
    return HS_OK;
}

static hs_status check_tokenizer(const struct vocab *vocab, const struct tokenizer *tokenizer)
{
    hs_status status = HS_OK;
    const struct hs_gguf_kv *merges = hs_gguf_find(vocab->gguf, "tokenizer.ggml.merges");
    if (merges != NULL && (merges->type != HS_GGUF_ARRAY || merges->item_type != HS_GGUF_STRING)) {
        hs_error_set(vocab->err, HS_BAD_FORMAT, "tokenizer.ggml.merges is not an array of strings");
        return bad(vocab);
    }
    if (tokenizer->needs_bytes) {
        status = check_all_bytes(vocab);
    }
    if (status == HS_OK) {
        status = check_special(vocab, "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token",
                               tokenizer->bos, tokenizer->adds_bos);
    }
    if (status == HS_OK) {
        status = check_special(vocab, "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_eos_token",
                               tokenizer->eos, tokenizer->adds_eos);
    }
    return status;
}

static hs_status check_embedding(const struct vocab *vocab)
{
    const struct hs_gguf_tensor *embd = hs_gguf_find_tensor(vocab->gguf, "token_embd.weight");
    if (embd == NULL && hs_gguf_split_count(vocab->gguf) > 1) {
        return HS_OK; /* it lies in another part */
    }
    if (embd == NULL) {
        hs_error_set(vocab->err, HS_BAD_FORMAT, "tensor 'token_embd.weight' is missing");
        return bad(vocab);
    }
    if (embd->dims[1] != vocab->n) {
        hs_error_set(vocab->err, HS_BAD_FORMAT,
                     "'token_embd.weight' has %" PRIu64 " rows for a vocabulary of %zu tokens",
                     embd->dims[1], vocab->n);
        return bad(vocab);
    }
    return HS_OK;
}

static const struct tokenizer *find_tokenizer(const struct vocab *vocab)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(vocab->gguf, "tokenizer.ggml.model");
    for (size_t i = 0; i < sizeof tokenizers / sizeof tokenizers[0]; i++) {
        const char *name = tokenizers[i].model;
        if (kv->value_len == strlen(name) && memcmp(kv->value, name, kv->value_len) == 0) {
            return &tokenizers[i];
        }
    }
    return NULL;
}

static hs_status check_model_name(const struct vocab *vocab)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(vocab->gguf, "tokenizer.ggml.model");
    if (kv == NULL || kv->type != HS_GGUF_STRING) {
        hs_error_set(vocab->err, HS_BAD_FORMAT,
                     "the model does not name its tokenizer (tokenizer.ggml.model)");
        return bad(vocab);
    }
    bool is_none = (kv->value_len == 4 && memcmp(kv->value, "none", 4) == 0) ||
                   (kv->value_len == 8 && memcmp(kv->value, "no_vocab", 8) == 0);
    if (is_none) {
        hs_error_set(vocab->err, HS_UNSUPPORTED_MODEL, "the model has no tokenizer of its own");
        hs_error_hint(vocab->err, "use a GGUF file that was converted with its vocabulary");
        return HS_UNSUPPORTED_MODEL;
    }
    return HS_OK;
}

static hs_status check(struct vocab *vocab)
{
    hs_status status = check_model_name(vocab);
    if (status == HS_OK) {
        status = check_tokens(vocab);
    }
    if (status == HS_OK) {
        status = check_unique(vocab);
    }
    if (status == HS_OK) {
        status = check_beside(vocab, "tokenizer.ggml.scores", true);
    }
    if (status == HS_OK) {
        status = check_beside(vocab, "tokenizer.ggml.token_type", false);
    }
    if (status == HS_OK) {
        status = check_byte_types(vocab);
    }
    const struct tokenizer *tokenizer = status == HS_OK ? find_tokenizer(vocab) : NULL;
    if (tokenizer != NULL) {
        status = check_tokenizer(vocab, tokenizer);
    }
    return status == HS_OK ? check_embedding(vocab) : status;
}

hs_status hs_gguf_check_vocab(const hs_gguf *gguf, struct hs_error *err)
{
    struct vocab vocab = {.gguf = gguf, .err = err};
    hs_status status = check(&vocab);
    vocab_release(&vocab);
    return status;
}
