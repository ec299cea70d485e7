/*
 * help.h - help, man page and shell completions, all made from commands.def, options.def,
 * config.def and the exit codes.
 *
 * Errors:  HS_OUT_OF_MEMORY, HS_LIMIT, without a message.
 * Threads: constant data.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "api/command.h"

#define HS_HELP_MAX_BYTES (1u << 20)

/* `columns`: where lines are broken. */
HS_CHECKED hs_status hs_help_overview(struct hs_buf *text, int columns);
HS_CHECKED hs_status hs_help_command(const struct hs_command *command, struct hs_buf *text,
                                     int columns);
/* The help of the command, or group of commands, that the words name; the overview without words.
 * HS_INVALID_ARGUMENT with a message when there is none. */
HS_CHECKED hs_status hs_help_words(int n_words, char *const *words, struct hs_buf *text,
                                   int columns, struct hs_error *err);
/* hyprstream.1 in the man macros of roff. */
HS_CHECKED hs_status hs_man_page(struct hs_buf *text);

/* "bash", "zsh" or "fish"; HS_NOT_FOUND for any other shell. */
HS_CHECKED hs_status hs_completion_script(const char *shell, struct hs_buf *text);

/* "--ctx-size N" or "--[no-]mmap", with the short form before it; returns text. */
const char *hs_help_setting_flag(const struct hs_config_row *row, char *text, size_t size);
const char *hs_help_option_flag(const struct hs_option_row *row, char *text, size_t size);
/* "HYPRSTREAM_CTX_SIZE"; returns text. */
const char *hs_help_variable(const struct hs_config_row *row, char *text, size_t size);

#endif
