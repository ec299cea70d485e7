/*
 * answer.h - reading an answer to its end and printing it as it comes.
 *
 * The answer goes to standard output, its reasoning dimmed to standard error when that is a
 * terminal. Ctrl-C cancels it; what came until then stays.
 *
 * Owner:   hs_answer_free releases the texts.
 * Threads: none.
 */
#ifndef API_ANSWER_H
#define API_ANSWER_H

#include "api/command.h"
#include "token_source.h"

#define HS_ANSWER_MAX_BYTES (64u << 20)

enum hs_answer_mode {
    HS_ANSWER_STREAM, /* print text as it comes */
    HS_ANSWER_WHOLE,  /* print the text at the end */
    HS_ANSWER_QUIET,  /* print nothing */
    HS_ANSWER_EVENTS  /* print one JSON object for each event but the last */
};

struct hs_answer {
    struct hs_buf text, reasoning; /* NUL-terminated, never NULL after hs_answer_read */
    enum hs_finish finish;
    struct hs_usage usage;
    struct hs_error error; /* when finish is HS_FINISH_ERROR */
};

/*
 * Read until HS_EVENT_DONE. A generation that failed is HS_OK here and stands in ret->error.
 * Out:    ret, also on failure as far as it came.
 * Errors: HS_IO when standard output is gone (the source is then cancelled and read to its end),
 *         HS_LIMIT, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_answer_read(const struct hs_command_io *io,
                                    const struct hs_token_source *source, enum hs_answer_mode mode,
                                    struct hs_answer *ret, struct hs_error *err);
void hs_answer_free(struct hs_answer *answer);

#endif
