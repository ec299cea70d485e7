/*
 * sql_remote.h - statements that a running server runs, by its /api/v1/sql.
 *
 * Rows come as Arrow's IPC stream, which is checked before anybody sees it, and are printed as
 * those of this process are.
 *
 * Errors:  those of http_client.h; HS_IO also when the answer is no such stream.
 * Threads: none.
 */
#ifndef API_SQL_REMOTE_H
#define API_SQL_REMOTE_H

#include "http_client.h"
#include "sql_print.h"

/* Begin a session on the server; ret_id is freed with hs_free. */
HS_CHECKED hs_status hs_sql_remote_session_new(hs_http_client *client, char **ret_id,
                                               struct hs_error *err);
/* Whether the server has it still; a server that does not answer may. */
bool hs_sql_remote_session_is_there(hs_http_client *client, const char *id);
/* End it, if the server still answers. */
void hs_sql_remote_session_end(hs_http_client *client, const char *id);
/* Run the statements of a text and print the rows of the last. ret_n_changed: rows that it
 * inserted, changed or deleted; -1: it was no such statement. session: NULL: none. Ctrl-C ends
 * it. */
HS_CHECKED hs_status hs_sql_remote_run(hs_http_client *client, const struct hs_command_io *io,
                                       const char *text, const char *session,
                                       enum hs_sql_format format, int64_t *ret_n_changed,
                                       struct hs_error *err);

#endif
