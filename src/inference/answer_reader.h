/*
 * answer_reader.h - the bytes of generated tokens, read by the format of an answer with tools or a
 * JSON schema: text, reasoning and calls. Answers without go through token_processor.h alone.
 *
 * Rules:   the caller's stop strings are looked for in what the format reads as text; the format's
 *          own stop string in all that the model writes. Text held back for a stop string leaves
 *          before a call begins.
 * Owner:   hs_answer_reader_free, which frees the format. Threads: one thread at a time.
 */
#ifndef INFERENCE_ANSWER_READER_H
#define INFERENCE_ANSWER_READER_H

#include "token_processor.h"

/* Pieces that one push or finish can give. */
#define HS_ANSWER_PIECES_MAX (HS_RT_DELTAS_MAX + 4)

typedef struct hs_answer_reader hs_answer_reader;

/* Takes a piece; its pointers are valid during the call. A failure ends the push with it. */
typedef hs_status (*hs_answer_piece_fn)(const struct hs_rt_delta *piece, void *user);

struct hs_answer_reader_params {
    const struct hs_runtime *rt;
    hs_rt_format *format;    /* taken over on HS_OK */
    const char *const *stop; /* [n_stop] */
    int32_t n_stop;
    const char *own_stop; /* the template's; NULL: the format's, if any */
    bool split_reasoning; /* false: reasoning comes as text */
    bool one_call;        /* a second call stops the answer, and is not given */
    hs_answer_piece_fn take;
    void *user;
};

HS_CHECKED hs_status hs_answer_reader_new(const struct hs_answer_reader_params *params,
                                          hs_answer_reader **ret_reader, struct hs_error *err);
void hs_answer_reader_free(hs_answer_reader *reader);
/*
 * Bytes of the next token; is_end: there is none, what was held back leaves.
 * Out:    ret_stop->stopped and stopped_by as hs_token_processor_push says; no pieces.
 */
HS_CHECKED hs_status hs_answer_reader_push(hs_answer_reader *reader, const char *bytes, size_t len,
                                           bool is_end, struct hs_token_output *ret_stop,
                                           struct hs_error *err);

#endif
