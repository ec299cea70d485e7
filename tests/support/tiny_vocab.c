#include "tiny_gguf.h"

#include <stdio.h>
#include <string.h>

#define N_EXTRA (TINY_GGUF_N_VOCAB - TINY_GGUF_EXTRA0)

static const char answer_letters[] = "abdeghiklmnoprst";

/* SentencePiece joins pairs, so each step towards a word must itself be a token. */
static const char *const extras[N_EXTRA] = {" hel",   " hell", " hello", " wo",  " wor",  " worl",
                                            " world", "He",    "Hel",    "Hell", "Hello", "42"};

const char tiny_gguf_chatml[] =
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

static const char *special_text(int32_t token)
{
    switch (token) {
    case TINY_GGUF_UNK:
        return "<unk>";
    case TINY_GGUF_BOS:
        return "<s>";
    case TINY_GGUF_EOS:
        return "</s>";
    case TINY_GGUF_IM_START:
        return "<|im_start|>";
    case TINY_GGUF_IM_END:
        return "<|im_end|>";
    case TINY_GGUF_THINK:
        return "<think>";
    case TINY_GGUF_THINK_END:
        return "</think>";
    case TINY_GGUF_SPACE:
        return " ";
    default:
        return NULL;
    }
}

bool tiny_gguf_text(int32_t token, char *text, size_t *ret_len)
{
    const char *special = special_text(token);
    int len = 1;
    if (token < 0 || token >= TINY_GGUF_N_VOCAB) {
        return false;
    } else if (special) {
        len = snprintf(text, 16, "%s", special);
    } else if (token < TINY_GGUF_BYTE0 + 256) {
        text[0] = (char)(token - TINY_GGUF_BYTE0);
        text[1] = '\0';
    } else if (token < TINY_GGUF_LETTER0) {
        len = snprintf(text, 16, "%c", '!' + token - TINY_GGUF_CHAR0);
    } else if (token < TINY_GGUF_ANSWER0) {
        len = snprintf(text, 16, " %c", 'a' + token - TINY_GGUF_LETTER0);
    } else if (token < TINY_GGUF_EXTRA0) {
        int32_t a = token - TINY_GGUF_ANSWER0;
        len = snprintf(text, 16, " %c%c", answer_letters[a / 16], answer_letters[a % 16]);
    } else {
        len = snprintf(text, 16, "%s", extras[token - TINY_GGUF_EXTRA0]);
    }
    if (ret_len) {
        *ret_len = (size_t)len;
    }
    return true;
}

static bool is_byte(int32_t token)
{
    return token >= TINY_GGUF_BYTE0 && token < TINY_GGUF_BYTE0 + 256;
}

int32_t tiny_gguf_token(const char *text)
{
    for (int32_t token = 0; token < TINY_GGUF_N_VOCAB; token++) {
        char own[16];
        if (!is_byte(token) && tiny_gguf_text(token, own, NULL) && strcmp(own, text) == 0) {
            return token;
        }
    }
    return -1;
}

void tiny_gguf_next_unset(int32_t *next)
{
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        next[i] = -1;
    }
}

void tiny_gguf_next_default(int32_t *next)
{
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        next[i] = TINY_GGUF_ANSWER0 + (i * 7 + 3) % TINY_GGUF_N_ANSWERS;
    }
    for (int32_t a = 0; a < TINY_GGUF_N_ANSWERS; a++) {
        next[TINY_GGUF_ANSWER0 + a] = TINY_GGUF_ANSWER0 + (a + 1) % TINY_GGUF_N_ANSWERS;
    }
}

/* The longest token that begins `text` and can still be given a successor; -1: none. */
static int32_t longest_free(const int32_t *next, int32_t from, const char *text, size_t *ret_len)
{
    int32_t best = -1;
    size_t best_len = 0;
    for (int32_t token = 0; token < TINY_GGUF_N_VOCAB; token++) {
        char own[16];
        size_t len = 0;
        if (token == from || next[token] >= 0 || !tiny_gguf_text(token, own, &len) || len == 0) {
            continue;
        }
        bool is_better = len > best_len || (len == best_len && is_byte(best));
        if (is_better && strncmp(text, own, len) == 0) {
            best = token;
            best_len = len;
        }
    }
    *ret_len = best_len;
    return best;
}

bool tiny_gguf_spell(int32_t *next, int32_t from, const char *text, int32_t to)
{
    while (*text) {
        size_t len = 0;
        int32_t token = longest_free(next, from, text, &len);
        if (token < 0) {
            return false;
        }
        next[from] = token;
        from = token;
        text += len;
    }
    next[from] = to < 0 ? TINY_GGUF_EOS : to;
    return true;
}
