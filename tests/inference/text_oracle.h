/*
 * text_oracle.h - what a token processor must give for a whole answer, computed without any
 * streaming: decode everything, find the tags, find the earliest stop.
 */
#ifndef TEXT_ORACLE_H
#define TEXT_ORACLE_H

#include "token_processor.h"

#define ORACLE_MAX 16384

/* A flat answer: text and, beside each byte, 'T' for content or 'R' for reasoning. */
struct oracle_text {
    char text[ORACLE_MAX];
    char type[ORACLE_MAX];
    size_t len;
    bool stopped;
};

/* Replacement decoding of bytes[len] into out; returns the length. */
size_t oracle_decode(const char *bytes, size_t len, char *out);
void oracle_process(const struct hs_token_processor_params *params, const char *bytes, size_t len,
                    struct oracle_text *ret);
/* Append one piece. */
void oracle_append(struct oracle_text *to, char type, const char *text, size_t len);

#endif
