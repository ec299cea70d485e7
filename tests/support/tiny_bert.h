/*
 * tiny_bert.h - an encoder of 50 kilobytes with weights that look random, for embeddings and for
 * ranking. What it computes is told by BERT's definition: see tests/python/bert.py, which reads the
 * weights from the file.
 *
 * Two layers, N_EMBD values, two heads, a context of TINY_BERT_N_CTX. Vocabulary (WordPiece):
 * [PAD] [UNK] [CLS] [SEP] [MASK], the letters at the start of a word, the letters within one.
 *
 * Threads: no state.
 */
#ifndef SUPPORT_TINY_BERT_H
#define SUPPORT_TINY_BERT_H

#include "gguf_writer.h"

#define TINY_BERT_N_EMBD 32
#define TINY_BERT_N_CTX 64
#define TINY_BERT_N_VOCAB (5 + 26 + 26)
#define TINY_BERT_CLS 2
#define TINY_BERT_SEP 3

/* llama.cpp's numbers of <arch>.pooling_type; RANK has a classification head with one output. */
enum tiny_bert_pooling {
    TINY_BERT_SAYS_NOTHING = -1,
    TINY_BERT_MEAN = 1,
    TINY_BERT_CLS_POOLING = 2,
    TINY_BERT_LAST = 3,
    TINY_BERT_RANK = 4
};

/* Out: the file's bytes (gguf_bytes_free), the length of its header (may be NULL). */
bool tiny_bert_build(enum tiny_bert_pooling pooling, struct gguf_bytes *ret_bytes,
                     size_t *ret_header_len);
bool tiny_bert_write(enum tiny_bert_pooling pooling, const char *path);

#endif
