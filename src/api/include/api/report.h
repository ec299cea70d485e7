/*
 * report.h - telling the user why a command failed.
 *
 * For people "hyprstream: message" and the hint on a second line; with `as_json` one line with an
 * object "error" of "status", "message", "hint" and "exit_code". Both on standard error, so that
 * standard output holds answers only. HS_CANCELLED is told of in JSON only: who pressed Ctrl-C
 * knows.
 *
 * Threads: none.
 */
#ifndef API_REPORT_H
#define API_REPORT_H

#include "api/command.h"

void hs_error_report(const struct hs_command_io *io, hs_status status, const struct hs_error *error,
                     bool as_json);

/* In a conversation on the terminal, which goes on: the message and the hint, without more. */
void hs_error_tell(const struct hs_command_io *io, const struct hs_error *error);

#endif
