/*
 * output.h - formatted output of handlers, and text from outside made harmless for a terminal.
 *
 * Threads: none; handlers run on one thread.
 */
#ifndef API_OUTPUT_H
#define API_OUTPUT_H

#include "api/command.h"

/* printf to standard output. HS_IO, HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_out_printf(const struct hs_command_io *io, struct hs_error *err,
                                   const char *format, ...) __attribute__((format(printf, 3, 4)));
/* printf to standard error; what does not fit in memory is lost. */
void hs_err_printf(const struct hs_command_io *io, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* One line for a person, with a newline added: only when standard error is a terminal or the log
 * level is info or finer. With --log-json it is a line of the log, as all of standard error is. */
void hs_err_info(const struct hs_command_io *io, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Append text[len] with control characters other than newline and tab replaced by visible ones: C0
 * by U+2400 + c, DEL by U+2421, C1 and bytes that are no UTF-8 by U+FFFD. `one_line` replaces
 * newline and tab as well. Source:  Unicode 15, Control Pictures; ECMA-48 for what a terminal
 * obeys.
 */
HS_CHECKED hs_status hs_safe_text(const char *text, size_t len, bool one_line, struct hs_buf *buf);

/* The same text as standard output wants it: safe on a terminal, unchanged otherwise. */
HS_CHECKED hs_status hs_out_text(const struct hs_command_io *io, const char *text, size_t len,
                                 struct hs_error *err);

/* "98.4 MB" (powers of 1000) into text[size]; returns text. */
const char *hs_format_bytes(uint64_t bytes, char *text, size_t size);
/* "134.5M", "7.2B" parameters; returns text. */
const char *hs_format_count(uint64_t count, char *text, size_t size);
/* "2026-11-23 09:05" in local time, "-" for 0; returns text. */
const char *hs_format_time(int64_t unix_ms, char *text, size_t size);

#endif
