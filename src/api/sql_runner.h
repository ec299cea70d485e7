/*
 * sql_runner.h - where the statements of `hyprstream sql` run: this process, or a server.
 *
 * Errors:  those of api/sql.h, or of sql_remote.h. A session that the server ended is an error
 *          once; the next statement begins another.
 * Owner:   hs_sql_runner_close.
 * Threads: none.
 */
#ifndef API_SQL_RUNNER_H
#define API_SQL_RUNNER_H

#include "sql_print.h"

typedef struct hs_sql_runner hs_sql_runner;

/* What args, which are borrowed, name: --server's, or this process. is_session: statements share a
 * connection, of a server, too. */
HS_CHECKED hs_status hs_sql_runner_open(const struct hs_command_args *args, bool is_session,
                                        hs_sql_runner **ret_runner, struct hs_error *err);
void hs_sql_runner_close(hs_sql_runner *runner); /* NULL is allowed */
/* URL of the server; NULL: this process. */
const char *hs_sql_runner_url(const hs_sql_runner *runner);
/* Run text[len] and print the rows of its last statement to `out`. ret_n_changed: as
 * hs_sql_result_n_changed. Ctrl-C ends it: HS_CANCELLED. */
HS_CHECKED hs_status hs_sql_runner_run(hs_sql_runner *runner, const struct hs_command_io *out,
                                       const char *text, size_t len, enum hs_sql_format format,
                                       int64_t *ret_n_changed, struct hs_error *err);

#endif
