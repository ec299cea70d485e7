/*
 * schema_pattern.h - the regular expressions of a JSON schema, rewritten for llama-common's
 * converter.
 *
 * The converter copies what it knows of a pattern into a grammar for the text between the quotes of
 * a JSON string. There '"', '\' and control characters would have to be escaped, and it knows no
 * classes like \d. So a pattern is read here and written anew: one character class for each
 * character, without those that JSON escapes, anchored at both ends. What then is generated fits
 * the pattern; not all that fits is generated.
 *
 * Read:    literals, . \d \w \s \D \W \S, [classes], (groups), |, * + ? {m} {m,} {m,n} also lazy, ^
 *          and $ at the ends. Not: look-around, back references, \b, \p, named groups, flags.
 * Source:  ECMA-262, section 22.2, as JSON Schema (2020-12, core section 6.4) recommends.
 */
#ifndef INFERENCE_SCHEMA_PATTERN_H
#define INFERENCE_SCHEMA_PATTERN_H

#include "base/buf.h"

#define HS_PATTERN_MAX_BYTES 1024
#define HS_PATTERN_DEPTH_MAX 32
#define HS_PATTERN_REPEAT_MAX 2000

struct hs_schema_pattern {
    struct hs_buf text;              /* as the converter takes it; freed by the caller */
    uint64_t min_length, max_length; /* of the texts it stands for; UINT64_MAX: no end */
    const char *why;                 /* of HS_NOT_SUPPORTED: "has a look-around" */
};

/* Errors: HS_NOT_SUPPORTED with why, HS_OUT_OF_MEMORY. `ret->text` is initialised by the caller. */
HS_CHECKED hs_status hs_schema_pattern_read(const char *pattern, struct hs_schema_pattern *ret);

#endif
