/*
 * workers.h - the threads that compute statements beside those that read their rows.
 *
 * DuckDB's own threads take whatever there is to be computed, and a thread that reads rows turns
 * round until they have some for it: with a model behind the rows, a core is kept busy for nothing.
 * So the threads are started here, and pause while a statement asks a model: the one that reads its
 * rows computes them, too, and sleeps where it waits for the model, which has the cores.
 *
 * Threads: any.
 */
#ifndef API_SQL_WORKERS_H
#define API_SQL_WORKERS_H

#include <duckdb.h>

#include "hyprstream.h"

struct hs_sql_workers;

/* n threads, which may be 0, for a database that starts none of its own. Errors: HS_OUT_OF_MEMORY,
 * HS_IO. */
HS_CHECKED hs_status hs_sql_workers_start(duckdb_database database, int32_t n,
                                          struct hs_sql_workers **ret_workers,
                                          struct hs_error *err);
/* They begin nothing new until as many calls of resume. */
void hs_sql_workers_pause(struct hs_sql_workers *workers);
void hs_sql_workers_resume(struct hs_sql_workers *workers);
/* Before the database is closed. NULL is allowed. */
void hs_sql_workers_free(struct hs_sql_workers *workers);

#endif
