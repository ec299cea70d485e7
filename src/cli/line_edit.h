/*
 * line_edit.h - reading messages from a terminal: editing, history, completion, pasted text.
 *
 * Over libedit, whose bindings and ~/.editrc apply. Text pasted into a terminal that marks it
 * (bracketed paste) is inserted as it is, line ends included; Enter then sends it.
 *
 * Owner:   hs_line_edit_free restores the terminal and releases everything.
 * Threads: one thread, the one that has the terminal. Signals: interrupt.h must be installed.
 */
#ifndef CLI_LINE_EDIT_H
#define CLI_LINE_EDIT_H

#include "api/command.h"

typedef struct hs_line_edit hs_line_edit;

/* history_file may be NULL. Errors: HS_OUT_OF_MEMORY, HS_IO (no terminal). */
HS_CHECKED hs_status hs_line_edit_new(const char *history_file, hs_line_edit **ret_editor,
                                      struct hs_error *err);
void hs_line_edit_free(hs_line_edit *editor);
void hs_line_edit_set_completer(hs_line_edit *editor, hs_complete_fn complete, void *user);
/* As set_whole of struct hs_command_io. */
void hs_line_edit_set_whole(hs_line_edit *editor, hs_whole_fn is_whole);
/* As read_line of struct hs_command_io. */
HS_CHECKED hs_status hs_line_edit_read(hs_line_edit *editor, const char *prompt, char **ret_line,
                                       struct hs_error *err);

#endif
