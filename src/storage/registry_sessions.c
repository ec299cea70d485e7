/* registry_sessions.c - the rows of sessions: a list of what the sessions folder holds. */
#include "registry_internal.h"

#include "base/error.h"
#include "base/mem.h"
#include "storage/session_store.h"

static void session_free(struct hs_registry_session *session)
{
    hs_free(session->name);
    hs_free(session->model_name);
    hs_free(session->fingerprint);
    *session = (struct hs_registry_session){0};
}

void hs_registry_sessions_free(struct hs_registry_session *rows, size_t n)
{
    for (size_t i = 0; rows != NULL && i < n; i++)
        session_free(&rows[i]);
    hs_free(rows);
}

hs_status hs_registry_session_write(hs_registry *registry,
                                    const struct hs_registry_session *session, struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status =
        hs_registry_prepare(registry,
                            "INSERT OR REPLACE INTO sessions (" HS_REGISTRY_SESSION_COLUMNS
                            ") VALUES (?, ?, ?, ?, ?, ?, ?)",
                            &statement, err, "sssiiii", session->name, session->model_name,
                            session->fingerprint, session->n_messages, session->size_bytes,
                            session->created_unix_ms, session->updated_unix_ms);
    if (status != HS_OK)
        return status;
    bool has_row = false;
    return hs_registry_step(registry, statement, &has_row, err);
}

static hs_status work_put(hs_registry *registry, void *user, struct hs_error *err)
{
    return hs_registry_session_write(registry, user, err);
}

hs_status hs_registry_session_put(hs_registry *registry, const struct hs_registry_session *row,
                                  struct hs_error *err)
{
    if (row->name == NULL || !hs_session_name_ok(row->name))
        return hs_error_set(err, HS_INVALID_ARGUMENT, "'%.80s' cannot name a session",
                            row->name == NULL ? "" : row->name);
    struct hs_registry_session copy = *row; /* `work` takes no const */
    return hs_registry_run(registry, true, work_put, &copy, err);
}

static hs_status read_row(hs_registry *registry, sqlite3_stmt *row, void *item,
                          struct hs_error *err)
{
    struct hs_registry_session *session = item;
    session->n_messages = sqlite3_column_int64(row, 3);
    session->size_bytes = sqlite3_column_int64(row, 4);
    session->created_unix_ms = sqlite3_column_int64(row, 5);
    session->updated_unix_ms = sqlite3_column_int64(row, 6);
    hs_status status = hs_registry_column(registry, row, 0, &session->name, err);
    if (status == HS_OK)
        status = hs_registry_column(registry, row, 1, &session->model_name, err);
    if (status == HS_OK)
        status = hs_registry_column(registry, row, 2, &session->fingerprint, err);
    return status;
}

static hs_status work_list(hs_registry *registry, void *user, struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    struct hs_registry_rows rows = {0};
    hs_status status = hs_registry_prepare(
        registry, "SELECT " HS_REGISTRY_SESSION_COLUMNS " FROM sessions ORDER BY name", &statement,
        err, "");
    if (status == HS_OK)
        status = hs_registry_read_rows(registry, statement, sizeof(struct hs_registry_session),
                                       read_row, &rows, err);
    if (status != HS_OK) {
        hs_registry_sessions_free(rows.items, rows.n);
        return status;
    }
    *(struct hs_registry_rows *)user = rows;
    return HS_OK;
}

hs_status hs_registry_session_list(hs_registry *registry, struct hs_registry_session **ret_rows,
                                   size_t *ret_n, struct hs_error *err)
{
    struct hs_registry_rows rows = {0};
    hs_status status = hs_registry_run(registry, false, work_list, &rows, err);
    if (status != HS_OK)
        return status;
    *ret_rows = rows.items;
    *ret_n = rows.n;
    return HS_OK;
}

static hs_status work_remove(hs_registry *registry, void *user, struct hs_error *err)
{
    const char *const *name = user;
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(registry, "DELETE FROM sessions WHERE name = ?",
                                           &statement, err, "s", *name);
    bool has_row = false;
    if (status == HS_OK)
        status = hs_registry_step(registry, statement, &has_row, err);
    if (status != HS_OK || sqlite3_changes(registry->db) > 0)
        return status;
    hs_error_set(err, HS_NOT_FOUND, "there is no session named '%.80s'", *name);
    hs_error_hint(err, "run `hyprstream session list` to see the names");
    return HS_NOT_FOUND;
}

hs_status hs_registry_session_remove(hs_registry *registry, const char *name, struct hs_error *err)
{
    return hs_registry_run(registry, true, work_remove, &name, err);
}
