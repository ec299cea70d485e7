/*
 * prompt.h - the text that a command works on: arguments, standard input, or both.
 *
 * Limits:  HS_PROMPT_MAX_BYTES.
 * Errors:  HS_INVALID_ARGUMENT when it is no UTF-8, holds a NUL byte or is empty; HS_LIMIT; HS_IO.
 * Threads: none.
 */
#ifndef API_PROMPT_H
#define API_PROMPT_H

#include "api/command.h"

#define HS_PROMPT_MAX_BYTES (16u << 20)

/*
 * Arguments joined by spaces, each "-" replaced by standard input on lines of its own; without
 * arguments standard input alone. One newline at the end of the input is dropped.
 * Out:    ret_text, to be freed with hs_free.
 */
HS_CHECKED hs_status hs_prompt_read(const struct hs_command_args *args, char **ret_text,
                                    struct hs_error *err);

#endif
