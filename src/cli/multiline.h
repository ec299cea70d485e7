/*
 * multiline.h - one message from several input lines.
 *
 * A line that ends in an odd number of backslashes goes on in the next one; the last backslash
 * becomes the line end. Lines between two lines of three double quotes are one message as they are.
 *
 * Owner:   begin with HS_MULTILINE_INIT; hs_multiline_free releases it.
 * Limits:  HS_MULTILINE_MAX_BYTES. Errors: HS_LIMIT, HS_OUT_OF_MEMORY.
 * Threads: none.
 */
#ifndef CLI_MULTILINE_H
#define CLI_MULTILINE_H

#include "base/buf.h"

#define HS_MULTILINE_MAX_BYTES (16u << 20)

struct hs_multiline {
    struct hs_buf text;
    bool in_block;
    bool has_line;
};

#define HS_MULTILINE_INIT                                                                          \
    {                                                                                              \
        .text = HS_BUF_INIT(HS_MULTILINE_MAX_BYTES)                                                \
    }

/* Add a line without its newline. *ret_complete: the message is complete, in `text`. */
HS_CHECKED hs_status hs_multiline_add(struct hs_multiline *message, const char *line,
                                      bool *ret_complete);
/* Add one as it is, whatever it holds. */
HS_CHECKED hs_status hs_multiline_add_plain(struct hs_multiline *message, const char *line);
void hs_multiline_free(struct hs_multiline *message);

#endif
