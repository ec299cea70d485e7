/*
 * terminal.h - struct hs_command_io over the process's standard streams.
 *
 * Owner:   hs_terminal_free ends editing and clears a progress bar.
 * Threads: one thread; `interrupted` from any.
 */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include "api/command.h"
#include "line_edit.h"

struct hs_terminal {
    struct hs_command_io io;
    int out_errno;            /* why writing to standard output failed; 0: it did not */
    const char *history_file; /* borrowed; NULL: none */
    hs_line_edit *editor;     /* made with the first line that is read */
    hs_complete_fn complete;
    void *complete_user;
    hs_whole_fn is_whole;
    double progress_since_ms; /* 0: none is under way */
    double progress_drawn_ms; /* 0: not on the screen */
};

/* Looks at the streams and the environment (TERM, NO_COLOR, COLUMNS). */
void hs_terminal_init(struct hs_terminal *terminal);
/* What the settings say: color "auto", "always" or "never". */
void hs_terminal_set_color(struct hs_terminal *terminal, const char *color);
void hs_terminal_free(struct hs_terminal *terminal);

#endif
