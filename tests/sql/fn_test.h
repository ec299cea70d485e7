/*
 * fn_test.h - SQL functions over a real engine: a database with a host, and results as text.
 *
 * With the fake runtime a model with a chat template answers with what the user said last, or, to
 * "?system", with the system message: so answers are known, and each costs one token for a byte and
 * one for the end.
 *
 * Owner:   one world at a time; fn_close frees all of it.
 * Threads: the main one, but fn_run_on.
 */
#ifndef TESTS_SQL_FN_TEST_H
#define TESTS_SQL_FN_TEST_H

#include "engine_test.h"

#include "api/sql.h"

struct fn_world {
    hs_engine *engine;
    struct hs_generate_params defaults;
    struct hs_sql_host host;
    hs_sql *sql;
    hs_sql_conn *conn;
    int n_opened, n_closed; /* sessions */
    char model_id[HS_ID_MAX];
};

/* Answers that say what was said. fake may be NULL. */
void fn_open(struct fn_world *world, const struct fake_config *fake,
             const struct hs_engine_params *params, int32_t n_ctx, int32_t n_seq_max);
/* The engine is there already; its model "m". */
void fn_open_engine(struct fn_world *world, hs_engine *engine);
void fn_close(struct fn_world *world);

#define FN_TEXT_MAX 65536
/* Rows of texts (cast what is none): "a|b\n" for each, NULL as "~". The status of what fails. */
hs_status fn_query(hs_sql_conn *conn, const char *sql, char ret_text[FN_TEXT_MAX],
                   struct hs_error *err);
/* What must succeed, and gives this. */
void fn_expect(struct fn_world *world, const char *sql, const char *text);
/* What must fail with a message that has this part. */
void fn_expect_error(struct fn_world *world, const char *sql, hs_status status, const char *part);
/* Run statements whose rows do not matter. */
void fn_run(struct fn_world *world, const char *sql);
/* Tokens that the model gave so far. */
uint64_t fn_n_generated(struct fn_world *world);

#endif
