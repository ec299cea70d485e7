/*
 * sql_shell.h - statements one after the other, and commands between them that begin with a dot
 * (sql_commands.def): of a text, or typed on a terminal.
 *
 * Rows are printed for each statement that has some. The first error ends a text, unless it is to
 * go on; on a terminal errors are told and the next statement is asked for.
 *
 * Owner:   begin with hs_sql_shell_init; hs_sql_shell_close.
 * Threads: none.
 */
#ifndef API_SQL_SHELL_H
#define API_SQL_SHELL_H

#include <stdio.h>

#include "sql_runner.h"

struct hs_sql_shell {
    const struct hs_command_io *io; /* of the terminal */
    hs_sql_runner *runner;          /* borrowed */
    enum hs_sql_format format;
    bool goes_on; /* after errors, which are reported at once */
    bool is_json; /* how they are reported */
    bool is_interactive, has_timer, is_leaving;
    int depth;                /* of files that read files */
    FILE *file;               /* where rows go; NULL: standard output */
    struct hs_command_io out; /* `io`, or one that writes to `file` */
    size_t n_statements, n_failed;
    hs_status first_failure;
};

void hs_sql_shell_init(struct hs_sql_shell *shell, const struct hs_command_io *io,
                       hs_sql_runner *runner, enum hs_sql_format format);
/* Errors: HS_IO, the file of .output could not be written to its end. */
HS_CHECKED hs_status hs_sql_shell_close(struct hs_sql_shell *shell, struct hs_error *err);

/* All statements and commands of a text. With goes_on the status is that of the first that failed,
 * and its message how many did. */
HS_CHECKED hs_status hs_sql_shell_run(struct hs_sql_shell *shell, const char *text,
                                      struct hs_error *err);
/* Ask for statements until the end. */
HS_CHECKED hs_status hs_sql_shell_loop(struct hs_sql_shell *shell, struct hs_error *err);

/* The words for the Tab key; as hs_complete_fn, of a shell. */
hs_status hs_sql_shell_complete(const char *line, size_t len, size_t *ret_start,
                                struct hs_buf *words, void *shell);

/* What the shell understands besides SQL. */
struct hs_sql_command {
    const char *name, *alias, *args;
    hs_status (*run)(struct hs_sql_shell *shell, const char *rest, struct hs_error *err);
    const char *text;
};
const struct hs_sql_command *hs_sql_commands(size_t *ret_n);

#endif
