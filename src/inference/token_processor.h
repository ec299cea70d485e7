/*
 * token_processor.h - turns the bytes of generated tokens into text events: whole UTF-8 code
 * points, stop strings cut out wherever token borders fall, reasoning blocks split from content.
 *
 * One processor serves one request. Bytes are held back only while they may still become part of a
 * stop string, a reasoning tag or a code point; the hold-back is at most the longest of these, so
 * streaming stays smooth. Bytes that can never become UTF-8 leave as U+FFFD (one per maximal
 * invalid subpart, Unicode 15 section 3.9).
 *
 * Rules:   stop strings are looked for in content only, not in reasoning, after invalid bytes were
 * replaced; the match that begins earliest ends the text, the match itself and what follows is
 * dropped; of matches that begin at one place the first listed wins, and a start tag before them
 * all. A reasoning block counts only at the start of the answer, with nothing but white space
 * before it; later tags are content, as all tags are when reasoning is not split. White space right
 * after the end tag is dropped, as is one newline right after the start tag or at the start of an
 * answer that starts in reasoning. Limits:  HS_STOP_MAX stop strings of HS_STOP_MAX_BYTES each;
 * empty ones, ones that are not UTF-8 and a start tag without an end tag are HS_INVALID_ARGUMENT.
 * Errors:  HS_INVALID_ARGUMENT, HS_LIMIT, HS_OUT_OF_MEMORY (nothing was taken, push again).
 * Threads: one thread at a time.
 */
#ifndef INFERENCE_TOKEN_PROCESSOR_H
#define INFERENCE_TOKEN_PROCESSOR_H

#include "base/buf.h"
#include "runtime/runtime.h"

#define HS_STOP_MAX 64
#define HS_STOP_MAX_BYTES 1024

typedef struct hs_token_processor hs_token_processor;

struct hs_token_processor_params {
    const char *const *stop; /* [n_stop] */
    int32_t n_stop;
    const char *own_stop; /* the template's, one more; NULL: none */
    bool split_reasoning;
    struct hs_rt_reasoning reasoning; /* tags; empty start_tag: no reasoning to split */
};

/* One piece of output; text is valid until the next call on the processor. */
struct hs_text_piece {
    enum hs_event_type type; /* HS_EVENT_TEXT or HS_EVENT_REASONING */
    const char *text;
    size_t len;
};
#define HS_PIECES_MAX 4 /* one push can give: end of reasoning, content, and tags between */

struct hs_token_output {
    struct hs_text_piece pieces[HS_PIECES_MAX];
    int32_t n_pieces;
    bool stopped;       /* a stop string was found: generation is over */
    int32_t stopped_by; /* 1 + its index in params.stop; 0: none of them */
};

HS_CHECKED hs_status hs_token_processor_new(const struct hs_token_processor_params *params,
                                            hs_token_processor **ret_processor,
                                            struct hs_error *err);
void hs_token_processor_free(hs_token_processor *processor);
/* Bytes of the next token, any number of them, invalid UTF-8 allowed. After a stop: nothing more
 * comes. HS_INVALID_ARGUMENT after finish. */
HS_CHECKED hs_status hs_token_processor_push(hs_token_processor *processor, const char *bytes,
                                             size_t len, struct hs_token_output *ret_output);
/* What was held back leaves, as if it were the end; more may be pushed. */
HS_CHECKED hs_status hs_token_processor_flush(hs_token_processor *processor,
                                              struct hs_token_output *ret_output);
/* The end: what was held back leaves (a cut-off code point as U+FFFD). */
HS_CHECKED hs_status hs_token_processor_finish(hs_token_processor *processor,
                                               struct hs_token_output *ret_output);

#endif
