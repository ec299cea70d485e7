/*
 * command.h - what a command handler gets and gives; the handlers themselves are rows of
 * commands.def.
 *
 * Handlers (src/api/cmd_*.c) parse, validate, call the engine and format. They never touch a
 * terminal: output, line editing and progress go through struct hs_command_io, which the cli layer
 * implements and tests replace.
 *
 * Threads: a handler runs on the main thread. `interrupted` may be called from any thread.
 */
#ifndef API_COMMAND_H
#define API_COMMAND_H

#include "base/buf.h"
#include "base/config.h"
#include "base/paths.h"

struct hs_command_io {
    void *self;
    /* stdout and stderr; HS_IO when the other end is gone (EPIPE). */
    hs_status (*out)(void *self, const char *text, size_t len);
    hs_status (*err)(void *self, const char *text, size_t len);
    bool in_is_terminal, out_is_terminal, err_is_terminal;
    int columns;               /* of the terminal; 80 when unknown */
    bool color_out, color_err; /* whether escape codes are wanted there */
    /* All of stdin, up to buf->max. */
    hs_status (*read_all)(void *self, struct hs_buf *buf, struct hs_error *err);
    /*
     * One edited input line (or block) without its newline; *ret_line is freed with hs_free and is
     * NULL at the end of input. HS_CANCELLED: Ctrl-C at the prompt.
     */
    hs_status (*read_line)(void *self, const char *prompt, char **ret_line, struct hs_error *err);
    /* Progress on stderr: fraction in [0, 1], text beside it; fraction < 0 ends and clears it. */
    void (*progress)(void *self, const char *text, float fraction, const char *detail);
    /* Whether Ctrl-C came since the last call (reading clears it). */
    bool (*interrupted)(void *self);
};

struct hs_command_args {
    const struct hs_command *command;
    struct hs_config *config; /* flags applied */
    const struct hs_paths *paths;
    int n_args; /* positional arguments after the command's own words */
    char **args;
    bool flag_force; /* --force: commands that remove things without asking */
    const struct hs_command_io *io;
};

/* Returns HS_OK or a status with `err` filled; the caller prints the error and turns it into an
 * exit code. */
typedef hs_status (*hs_command_fn)(const struct hs_command_args *args, struct hs_error *err);

/* One row of commands.def. */
struct hs_command {
    const char *name;       /* "model list" */
    const char *args;       /* "[PROMPT]", "PATH", "" */
    int min_args, max_args; /* max -1: any number */
    hs_command_fn run;
    const char
        *settings; /* space-separated names of config.def rows shown as this command's options */
    const char
        *completes;      /* what positional arguments complete to: "model", "session", "file", "" */
    const char *text;    /* one line */
    const char *details; /* paragraphs for `help COMMAND` and the man page */
};

const struct hs_command *hs_commands(size_t *ret_n);
/* The longest row whose words begin argv; *ret_words is how many it took. NULL: none. */
const struct hs_command *hs_command_find(int argc, char *const *argv, int *ret_words);
/* Process exit code of a status: one table, documented in the man page. 0 only for HS_OK. */
int hs_exit_code(hs_status status);

#endif
