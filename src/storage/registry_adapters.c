/* registry_adapters.c - the rows of adapters and of their versions. */
#include "registry_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(struct hs_registry_adapter, name)                                          \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

const struct hs_registry_field HS_REGISTRY_ADAPTER_TEXTS[] = {FIELD(name),
                                                              FIELD(id),
                                                              FIELD(path),
                                                              FIELD(format),
                                                              FIELD(architecture),
                                                              FIELD(fingerprint),
                                                              FIELD(model_name),
                                                              FIELD(targets),
                                                              FIELD(sha256),
                                                              FIELD(content),
                                                              FIELD(source),
                                                              FIELD(parents),
                                                              FIELD(training),
                                                              FIELD(description),
                                                              FIELD(tags),
                                                              FIELD(examples),
                                                              END};
const struct hs_registry_field HS_REGISTRY_ADAPTER_NUMBERS[] = {
    FIELD(version),       FIELD(rank),
    FIELD(size_bytes),    FIELD(created_unix_ms),
    FIELD(added_unix_ms), FIELD(updated_unix_ms),
    FIELD(used_unix_ms),  FIELD(n_uses),
    FIELD(used_ms),       END};

static char **text_of(struct hs_registry_adapter *row, size_t i)
{
    return (char **)((char *)row + HS_REGISTRY_ADAPTER_TEXTS[i].offset);
}

void hs_registry_adapter_free(struct hs_registry_adapter *row)
{
    if (row == NULL)
        return;
    for (size_t i = 0; HS_REGISTRY_ADAPTER_TEXTS[i].name != NULL; i++)
        hs_free(*text_of(row, i));
    *row = (struct hs_registry_adapter){0};
}

void hs_registry_adapters_free(struct hs_registry_adapter *rows, size_t n)
{
    for (size_t i = 0; rows != NULL && i < n; i++)
        hs_registry_adapter_free(&rows[i]);
    hs_free(rows);
}

/* ---- reading ---- */

/* The columns of a query in the order of the two tables above, then is_linked and alpha. */
#define SELECT                                                                                     \
    "SELECT a.name, a.id, v.path, v.format, v.architecture, v.fingerprint, v.model_name, "         \
    "v.targets, v.sha256, v.content, v.source, v.parents, v.training, a.description, a.tags, "     \
    "a.examples, "                                                                                 \
    "v.version, v.rank, v.size_bytes, v.created_unix_ms, a.added_unix_ms, a.updated_unix_ms, "     \
    "a.used_unix_ms, a.n_uses, a.used_ms, v.is_linked, v.alpha "                                   \
    "FROM adapters a JOIN adapter_versions v ON v.id = a.id "
#define CURRENT "AND v.version = a.version "

/* Only a link's path is stored, so that the data folder may move. */
static hs_status resolve_path(const hs_registry *registry, struct hs_registry_adapter *row,
                              struct hs_error *err)
{
    struct stat info;
    if (!row->is_linked) {
        bool is_file = strcmp(row->format, "gguf") == 0;
        char *path = hs_adapter_store_path(registry->adapters_dir, row->id, row->version,
                                           is_file ? HS_REGISTRY_ADAPTER_GGUF : NULL);
        if (path == NULL)
            return hs_error_nomem(err, "path of an adapter");
        hs_free(row->path);
        row->path = path;
    }
    row->is_missing = stat(row->path, &info) != 0;
    return HS_OK;
}

static hs_status read_row(hs_registry *registry, sqlite3_stmt *statement, void *item,
                          struct hs_error *err)
{
    struct hs_registry_adapter *row = item;
    int column = 0;
    for (size_t i = 0; HS_REGISTRY_ADAPTER_TEXTS[i].name != NULL; i++) {
        hs_status status = hs_registry_column(registry, statement, column++, text_of(row, i), err);
        if (status != HS_OK)
            return status;
    }
    for (size_t i = 0; HS_REGISTRY_ADAPTER_NUMBERS[i].name != NULL; i++) {
        int64_t number = sqlite3_column_int64(statement, column++);
        memcpy((char *)row + HS_REGISTRY_ADAPTER_NUMBERS[i].offset, &number, sizeof number);
    }
    row->is_linked = sqlite3_column_int64(statement, column++) != 0;
    row->alpha = sqlite3_column_double(statement, column);
    return resolve_path(registry, row, err);
}

struct query {
    const char *sql;
    const char *key; /* NULL: the statement has no parameters */
    int64_t version; /* its second parameter; 0: it has none */
    struct hs_registry_rows rows;
};

static hs_status work_select(hs_registry *registry, void *user, struct hs_error *err)
{
    struct query *query = user;
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    struct hs_registry_rows rows = {0};
    const char *types = query->key == NULL ? "" : query->version == 0 ? "s" : "si";
    hs_status status = hs_registry_prepare(registry, query->sql, &statement, err, types, query->key,
                                           query->version);
    if (status == HS_OK)
        status = hs_registry_read_rows(registry, statement, sizeof(struct hs_registry_adapter),
                                       read_row, &rows, err);
    if (status != HS_OK) {
        hs_registry_adapters_free(rows.items, rows.n);
        return status;
    }
    query->rows = rows;
    return HS_OK;
}

static hs_status not_found(const char *name, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_FOUND, "there is no adapter named '%.80s'", name);
    hs_error_hint(err, "run `hyprstream adapter list` to see the names");
    return HS_NOT_FOUND;
}

/* The one row; HS_NOT_FOUND when there is none. */
static hs_status select_one(hs_registry *registry, struct query *query,
                            struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    hs_status status = hs_registry_run(registry, false, work_select, query, err);
    if (status != HS_OK)
        return status;
    if (query->rows.n == 0)
        return not_found(query->key, err);
    struct hs_registry_adapter *first = query->rows.items;
    *ret_row = *first;
    *first = (struct hs_registry_adapter){0};
    hs_registry_adapters_free(query->rows.items, query->rows.n);
    return HS_OK;
}

static hs_status select_all(hs_registry *registry, struct query *query,
                            struct hs_registry_adapter **ret_rows, size_t *ret_n,
                            struct hs_error *err)
{
    hs_status status = hs_registry_run(registry, false, work_select, query, err);
    if (status != HS_OK)
        return status;
    *ret_rows = query->rows.items;
    *ret_n = query->rows.n;
    return HS_OK;
}

hs_status hs_registry_adapter_get(hs_registry *registry, const char *name,
                                  struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    struct query query = {.sql = SELECT CURRENT "WHERE a.name = ?", .key = name};
    return select_one(registry, &query, ret_row, err);
}

hs_status hs_registry_adapter_version(hs_registry *registry, const char *id, int64_t version,
                                      struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    struct query query = {
        .sql = SELECT "WHERE v.id = ? AND v.version = ?", .key = id, .version = version};
    return select_one(registry, &query, ret_row, err);
}

hs_status hs_registry_adapter_list(hs_registry *registry, struct hs_registry_adapter **ret_rows,
                                   size_t *ret_n, struct hs_error *err)
{
    struct query query = {.sql = SELECT CURRENT "ORDER BY a.name"};
    return select_all(registry, &query, ret_rows, ret_n, err);
}

hs_status hs_registry_adapter_history(hs_registry *registry, const char *name,
                                      struct hs_registry_adapter **ret_rows, size_t *ret_n,
                                      struct hs_error *err)
{
    struct query query = {.sql = SELECT "WHERE a.name = ? ORDER BY v.version DESC", .key = name};
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    hs_status status = select_all(registry, &query, &rows, &n, err);
    if (status != HS_OK || n == 0)
        return status != HS_OK ? status : not_found(name, err);
    *ret_rows = rows;
    *ret_n = n;
    return HS_OK;
}

/* ---- writing ---- */

static hs_status finish(hs_registry *registry, sqlite3_stmt *statement, struct hs_error *err)
{
    bool has_row = false;
    return hs_registry_step(registry, statement, &has_row, err);
}

/* Counters are those of the adapter; a version that comes later keeps them. */
static hs_status write_adapter(hs_registry *registry, const struct hs_registry_adapter *row,
                               struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(
        registry,
        "INSERT INTO adapters (" HS_REGISTRY_ADAPTER_COLUMNS
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "name = excluded.name, version = excluded.version, description = excluded.description, "
        "tags = excluded.tags, examples = excluded.examples, "
        "updated_unix_ms = excluded.updated_unix_ms",
        &statement, err, "ssisssiiiii", row->name, row->id, row->version, row->description,
        row->tags, row->examples, row->added_unix_ms, row->updated_unix_ms, row->used_unix_ms,
        row->n_uses, row->used_ms);
    return status == HS_OK ? finish(registry, statement, err) : status;
}

static hs_status write_version(hs_registry *registry, const struct hs_registry_adapter *row,
                               struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(
        registry,
        "INSERT OR REPLACE INTO adapter_versions (" HS_REGISTRY_VERSION_COLUMNS
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &statement, err, "sisssssssssssiidii", row->id, row->version,
        row->is_linked ? row->path : "", row->format, row->architecture, row->fingerprint,
        row->model_name, row->targets, row->sha256, row->content, row->source, row->parents,
        row->training, (int64_t)row->is_linked, row->rank, row->alpha, row->size_bytes,
        row->created_unix_ms);
    return status == HS_OK ? finish(registry, statement, err) : status;
}

hs_status hs_registry_adapter_write(hs_registry *registry, const struct hs_registry_adapter *row,
                                    struct hs_error *err)
{
    hs_status status = write_version(registry, row, err);
    return status == HS_OK ? write_adapter(registry, row, err) : status;
}

static hs_status work_write(hs_registry *registry, void *user, struct hs_error *err)
{
    const struct hs_registry_adapter *const *row = user;
    return hs_registry_adapter_write(registry, *row, err);
}

hs_status hs_registry_adapter_insert(hs_registry *registry, const struct hs_registry_adapter *row,
                                     struct hs_error *err)
{
    return hs_registry_run(registry, true, work_write, &row, err);
}

struct forget {
    const char *id;
    int64_t version;
};

static hs_status run_sql(hs_registry *registry, const char *sql, const struct forget *forget,
                         struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status =
        hs_registry_prepare(registry, sql, &statement, err, forget->version == 0 ? "s" : "si",
                            forget->id, forget->version);
    return status == HS_OK ? finish(registry, statement, err) : status;
}

static hs_status work_forget(hs_registry *registry, void *user, struct hs_error *err)
{
    const struct forget *forget = user;
    if (forget->version != 0)
        return run_sql(registry, "DELETE FROM adapter_versions WHERE id = ? AND version = ?",
                       forget, err);
    hs_status status = run_sql(registry, "DELETE FROM adapter_versions WHERE id = ?", forget, err);
    return status == HS_OK ? run_sql(registry, "DELETE FROM adapters WHERE id = ?", forget, err)
                           : status;
}

hs_status hs_registry_adapter_forget(hs_registry *registry, const char *id, int64_t version,
                                     struct hs_error *err)
{
    struct forget forget = {.id = id, .version = version};
    return hs_registry_run(registry, true, work_forget, &forget, err);
}

static hs_status work_update(hs_registry *registry, void *user, struct hs_error *err)
{
    const struct hs_registry_adapter *const *row = user;
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status =
        hs_registry_prepare(registry,
                            "UPDATE adapters SET name = ?, description = ?, tags = ?, examples = "
                            "?, updated_unix_ms = ? WHERE id = ?",
                            &statement, err, "ssssis", (*row)->name, (*row)->description,
                            (*row)->tags, (*row)->examples, (*row)->updated_unix_ms, (*row)->id);
    return status == HS_OK ? finish(registry, statement, err) : status;
}

hs_status hs_registry_adapter_update(hs_registry *registry, const struct hs_registry_adapter *row,
                                     struct hs_error *err)
{
    return hs_registry_run(registry, true, work_update, &row, err);
}

struct count {
    const char *name;
    int64_t n_uses, used_ms, used_unix_ms;
};

static hs_status work_count(hs_registry *registry, void *user, struct hs_error *err)
{
    const struct count *count = user;
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(
        registry,
        "UPDATE adapters SET n_uses = n_uses + ?, used_ms = used_ms + ?, "
        "used_unix_ms = max(used_unix_ms, ?) WHERE name = ?",
        &statement, err, "iiis", count->n_uses, count->used_ms, count->used_unix_ms, count->name);
    return status == HS_OK ? finish(registry, statement, err) : status;
}

hs_status hs_registry_adapter_count(hs_registry *registry, const char *name, int64_t n_uses,
                                    int64_t used_ms, int64_t used_unix_ms, struct hs_error *err)
{
    struct count count = {name, n_uses, used_ms, used_unix_ms};
    return hs_registry_run(registry, true, work_count, &count, err);
}

/* ---- changes by others ---- */

static hs_status work_stamp(hs_registry *registry, void *user, struct hs_error *err)
{
    int64_t *ret_stamp = user, stamp = 0;
    hs_status status = hs_registry_query_int(registry, "PRAGMA data_version", &stamp, err);
    /* that number belongs to a connection; the file's tells of another one */
    if (status == HS_OK)
        *ret_stamp = (int64_t)registry->ino << 32 ^ stamp;
    return status;
}

hs_status hs_registry_stamp(hs_registry *registry, int64_t *ret_stamp, struct hs_error *err)
{
    return hs_registry_run(registry, false, work_stamp, ret_stamp, err);
}
