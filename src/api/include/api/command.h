/*
 * command.h - what a command handler gets and gives; the handlers themselves are rows of
 * commands.def.
 *
 * Handlers (src/api/cmd_*.c) parse, validate, call the engine and format. They never touch a
 * terminal: output, line editing and progress go through struct hs_command_io, which the cli layer
 * implements and tests replace.
 *
 * Errors:  a handler returns HS_OK or a status with `err` filled; the caller prints the error and
 *          turns it into an exit code (status_map.h).
 * Threads: a handler runs on the main thread. `interrupted` may be called from any thread.
 */
#ifndef API_COMMAND_H
#define API_COMMAND_H

#include "base/buf.h"
#include "base/config.h"
#include "base/paths.h"

/* Appends the words that could stand at the end of line[0, len), each NUL-terminated, to `words`.
 * *ret_start: where in the line the word begins that they would replace; left as
 * it is where nothing is completed, and the key stands for itself. */
typedef hs_status (*hs_complete_fn)(const char *line, size_t len, size_t *ret_start,
                                    struct hs_buf *words, void *user);

/* Whether what was typed is a whole message, or goes on in the next line. */
typedef bool (*hs_whole_fn)(const char *text, size_t len);

struct hs_command_io {
    void *self;
    /* To stdout. HS_IO when it cannot be written, a closed pipe included. */
    hs_status (*out)(void *self, const char *text, size_t len, struct hs_error *err);
    /* To stderr; what cannot be written there is lost. */
    void (*err)(void *self, const char *text, size_t len);
    bool in_is_terminal, out_is_terminal, err_is_terminal;
    int columns;               /* of the terminal; 80 when unknown */
    bool color_out, color_err; /* whether escape codes are wanted there */
    /* All of stdin, up to buf->max (HS_LIMIT). */
    hs_status (*read_all)(void *self, struct hs_buf *buf, struct hs_error *err);
    /*
     * One edited message of one or more lines without its last newline; *ret_line is freed with
     * hs_free and is NULL at the end of input. HS_CANCELLED: Ctrl-C at the prompt.
     */
    hs_status (*read_line)(void *self, const char *prompt, char **ret_line, struct hs_error *err);
    /* What the Tab key offers in read_line from now on; NULL: nothing. */
    void (*set_completer)(void *self, hs_complete_fn complete, void *user);
    /* What ends a message of read_line from now on; NULL: its line, unless that ends in a
     * backslash or opens a block of lines. */
    void (*set_whole)(void *self, hs_whole_fn is_whole);
    /* A yes-or-no question, no being the default. HS_CANCELLED: Ctrl-C. */
    hs_status (*confirm)(void *self, const char *question, bool *ret_yes, struct hs_error *err);
    /* Progress on stderr when that is a terminal: fraction in [0, 1], detail (may be NULL) beside
     * it; fraction < 0 ends and clears it. */
    void (*progress)(void *self, const char *text, float fraction, const char *detail);
    /* Whether Ctrl-C came since the last call; reading clears it. */
    bool (*interrupted)(void *self);
};

/* Options that are no settings (options.def). */
enum hs_option_id {
#define HS_OPTION(id, name, short_flag, placeholder, text) HS_OPT_##id,
#include "api/options.def"
#undef HS_OPTION
    HS_OPT_COUNT
};

struct hs_option_row {
    const char *name;
    char short_flag;         /* 0: none */
    const char *placeholder; /* of its value; NULL: takes none */
    const char *text;
};
const struct hs_option_row *hs_option_row(enum hs_option_id id);

struct hs_command_args {
    const struct hs_command *command;
    struct hs_config *config; /* flags applied */
    const struct hs_paths *paths;
    int n_args; /* positional arguments after the command's own words */
    char **args;
    const char *options[HS_OPT_COUNT]; /* value given, of a repeatable one all of them, one a line;
                                          "" for one without a value; NULL: not given */
    const struct hs_command_io *io;
};

typedef hs_status (*hs_command_fn)(const struct hs_command_args *args, struct hs_error *err);

/* Bits of a command's flags. */
#define HS_COMMAND_NO_CONFIG 1u /* works without reading the settings */

/* One row of commands.def. */
struct hs_command {
    const char *name;       /* "model list" */
    const char *args;       /* "[PROMPT...]", "PATH", "" */
    int min_args, max_args; /* max -1: any number */
    hs_command_fn run;
    const char *settings; /* space-separated names of config.def rows that it understands */
    const char *options;  /* likewise of options.def */
    const char
        *completes; /* "model", "adapter", "session", "file", "command", words in braces, or "" */
    unsigned flags;
    const char *text;    /* one line */
    const char *details; /* paragraphs, separated by empty lines; a line that begins with a space is
                            an example */
};

/* Declares every handler. */
#define HS_COMMAND(name, args, min, max, run, settings, options, completes, flags, text, details)  \
    hs_status run(const struct hs_command_args *args_, struct hs_error *err);
#include "api/commands.def"
#undef HS_COMMAND

/* Handlers that need the table itself live in the layer that holds it (cli). */
const struct hs_command *hs_commands(size_t *ret_n);
/* The longest row whose words begin argv; *ret_words is how many it took. NULL: none. */
const struct hs_command *hs_command_find(int argc, char *const *argv, int *ret_words);

/* Settings that every command understands besides its own. */
#define HS_SETTINGS_COMMON "color log-level log-json config"

/* Whether `name` is one of the space-separated names in `list`; "*" has every name. */
bool hs_command_list_has(const char *list, const char *name);

#endif
