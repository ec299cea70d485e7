/*
 * registry_internal.h - what the registry's own files share: the database handle, transactions,
 * prepared statements and the schema.
 *
 * registry.c opens and closes; registry_repair.c makes, migrates and rebuilds; registry_schema.c
 * holds the schema's versions; registry_sql.c runs statements and transactions; registry_models.c,
 * registry_sessions.c and registry_adapters.c hold the rows; adapter_store.c keeps the adapters'
 * files; registry_scan.c rebuilds rows from disk.
 *
 * Threads: everything that takes an hs_registry and is not public runs with its mutex held.
 */
#ifndef REGISTRY_INTERNAL_H
#define REGISTRY_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <sys/types.h>

#include "storage/adapter_store.h"

#define HS_REGISTRY_APPLICATION_ID 0x48537231 /* "HSr1" */
#define HS_REGISTRY_BUSY_MS 5000

struct hs_registry {
    pthread_mutex_t mutex;
    sqlite3 *db; /* NULL after a repair that failed: the next call tries again */
    dev_t dev;   /* which file `db` is: another process may have set it aside since */
    ino_t ino;
    char *file;
    char *lock_file;
    char *models_dir;
    char *sessions_dir;
    char *adapters_dir;
};

/* The schema, one step per version: SQL that leads from version i to i + 1. Steps that were
 * released never change; a later version adds a row. */
extern const char *const HS_REGISTRY_STEPS[];
extern const int HS_REGISTRY_VERSION; /* the number of steps */

/* The columns of each table, in the order in which the code reads them. */
#define HS_REGISTRY_MODEL_COLUMNS                                                                  \
    "name, path, architecture, quantization, fingerprint, sha256, source, n_params, size_bytes, "  \
    "mtime_ns, n_ctx_train, added_unix_ms, used_unix_ms"
#define HS_REGISTRY_SESSION_COLUMNS                                                                \
    "name, model_name, fingerprint, n_messages, size_bytes, created_unix_ms, updated_unix_ms"
#define HS_REGISTRY_ADAPTER_COLUMNS                                                                \
    "name, id, version, description, tags, examples, added_unix_ms, updated_unix_ms, "             \
    "used_unix_ms, n_uses, used_ms"
#define HS_REGISTRY_VERSION_COLUMNS                                                                \
    "id, version, path, format, architecture, fingerprint, model_name, targets, sha256, content, " \
    "source, parents, training, is_linked, rank, alpha, size_bytes, created_unix_ms"

/* Statements that a file of the current version can prepare; ends with NULL. One row per table. */
extern const char *const HS_REGISTRY_PROBES[];

/* ---- registry_sql.c ---- */

/* The error of a failed SQLite call, e.g. action "open"; HS_CORRUPT only for damage to the file. */
hs_status hs_registry_sql_error(const hs_registry *registry, int rc, const char *action,
                                struct hs_error *err);
HS_CHECKED hs_status hs_registry_exec(hs_registry *registry, const char *sql, struct hs_error *err);
/* The first column of the first row, which must be there. */
HS_CHECKED hs_status hs_registry_query_int(hs_registry *registry, const char *sql,
                                           int64_t *ret_value, struct hs_error *err);
/*
 * A prepared statement with its parameters bound: one letter of `types` for each argument, 's' a
 * const char * (which must outlive the statement; NULL counts as ""), 'i' an int64_t, 'd' a double.
 */
HS_CHECKED hs_status hs_registry_prepare(hs_registry *registry, const char *sql,
                                         sqlite3_stmt **ret_statement, struct hs_error *err,
                                         const char *types, ...);
/* Step: ret_has_row false at the end. */
HS_CHECKED hs_status hs_registry_step(hs_registry *registry, sqlite3_stmt *statement,
                                      bool *ret_has_row, struct hs_error *err);
/* Row structs of one type. */
struct hs_registry_rows {
    void *items;
    size_t n, capacity;
};
/* Fill item `item`, which is zeroed. */
typedef hs_status (*hs_registry_read_fn)(hs_registry *registry, sqlite3_stmt *row, void *item,
                                         struct hs_error *err);
/* Read all rows of a statement, each into `item_size` bytes. After a failure `rows` has what was
 * read, the item that failed half-way included, for the caller to release. */
HS_CHECKED hs_status hs_registry_read_rows(hs_registry *registry, sqlite3_stmt *statement,
                                           size_t item_size, hs_registry_read_fn read,
                                           struct hs_registry_rows *rows, struct hs_error *err);
/* A copy of a text column, to be freed with hs_free. */
HS_CHECKED hs_status hs_registry_column(hs_registry *registry, sqlite3_stmt *statement, int column,
                                        char **ret_text, struct hs_error *err);
void hs_registry_finalizep(sqlite3_stmt **statement); /* for HS_CLEANUP */

/*
 * Run `work` in a transaction, with the mutex held. When the file turns out to be corrupt, or
 * another process has replaced it, `work` is run once more on the new one: it must set its outputs
 * only when it succeeds and leave nothing behind when it fails.
 */
typedef hs_status (*hs_registry_work)(hs_registry *registry, void *user, struct hs_error *err);
HS_CHECKED hs_status hs_registry_run(hs_registry *registry, bool writes, hs_registry_work work,
                                     void *user, struct hs_error *err);

/* Merge the write-ahead log and wait until it is on the disk. Best effort: the change is made
 * already, and only a power failure could take it back. Takes the mutex. */
void hs_registry_sync(hs_registry *registry);

/* ---- registry.c ---- */

enum hs_registry_verdict {
    HS_REGISTRY_READY,
    HS_REGISTRY_OUTDATED, /* an older version, or not in WAL mode */
    HS_REGISTRY_DAMAGED,
    HS_REGISTRY_MISSING
};

/* Open `file` and look at it, changing nothing; it stays open when it is READY or OUTDATED. */
HS_CHECKED hs_status hs_registry_try_open(hs_registry *registry,
                                          enum hs_registry_verdict *ret_verdict,
                                          struct hs_error *err);
HS_CHECKED hs_status hs_registry_db_open(hs_registry *registry, const char *path, bool create,
                                         struct hs_error *err);
void hs_registry_db_close(hs_registry *registry);
HS_CHECKED hs_status hs_registry_is_wal(hs_registry *registry, bool *ret_is_wal,
                                        struct hs_error *err);
/* Open the database again; `damaged`: the file that is open now was found corrupt. */
HS_CHECKED hs_status hs_registry_reopen(hs_registry *registry, bool damaged, struct hs_error *err);
/* Whether `file` is another file than the one that is open. */
bool hs_registry_has_moved(const hs_registry *registry);

/* ---- registry_repair.c: with registry.lock held exclusively ---- */

/* Open what is there, or bring it up to date, or rebuild it. `damaged` as for reopen. */
HS_CHECKED hs_status hs_registry_open_exclusive(hs_registry *registry, bool damaged,
                                                struct hs_error *err);
/* Whether the database is empty, or companions lie there without it: what a power failure, or a
 * kill during a repair, leaves. SQLite would take it for new and drop a log that may still matter.
 * Needs no lock. */
bool hs_registry_is_hollow(const hs_registry *registry);

/* ---- registry_models.c, registry_sessions.c ---- */

/* Fill a row from the GGUF file at `path`; name is left NULL. On errors the row is empty. */
HS_CHECKED hs_status hs_registry_model_describe(const char *path, const char *source,
                                                struct hs_registry_model *ret_model,
                                                struct hs_error *err);
/* Which part of a split model a file is by its name, "x-00002-of-00005.gguf"; 0: of none. */
unsigned long hs_registry_part_number(const char *path);
/* A name made of the file's stem. NULL without memory. */
char *hs_registry_default_name(const char *path);
/* In a transaction: insert or replace the row of this name. */
HS_CHECKED hs_status hs_registry_model_write(hs_registry *registry,
                                             const struct hs_registry_model *model,
                                             struct hs_error *err);
HS_CHECKED hs_status hs_registry_session_write(hs_registry *registry,
                                               const struct hs_registry_session *session,
                                               struct hs_error *err);

/* ---- registry_adapters.c: with adapters_dir's lock held, outside of transactions ---- */

/* Texts and numbers of a row by name, for the columns and for adapter.json. */
struct hs_registry_field {
    const char *name;
    size_t offset;
};
extern const struct hs_registry_field HS_REGISTRY_ADAPTER_TEXTS[]; /* each ends with name NULL */
extern const struct hs_registry_field HS_REGISTRY_ADAPTER_NUMBERS[];

/* In a transaction: insert or replace this version, and the adapter with it as its current one. */
HS_CHECKED hs_status hs_registry_adapter_write(hs_registry *registry,
                                               const struct hs_registry_adapter *row,
                                               struct hs_error *err);
HS_CHECKED hs_status hs_registry_adapter_insert(hs_registry *registry,
                                                const struct hs_registry_adapter *row,
                                                struct hs_error *err);
/* Forget version `version` of an id, or with 0 the adapter with all its versions. */
HS_CHECKED hs_status hs_registry_adapter_forget(hs_registry *registry, const char *id,
                                                int64_t version, struct hs_error *err);
/* Give the row's name, texts for people and updated_unix_ms to the adapter of the row's id. */
HS_CHECKED hs_status hs_registry_adapter_update(hs_registry *registry,
                                                const struct hs_registry_adapter *row,
                                                struct hs_error *err);
/* The row of a version; HS_NOT_FOUND without a message. */
HS_CHECKED hs_status hs_registry_adapter_version(hs_registry *registry, const char *id,
                                                 int64_t version,
                                                 struct hs_registry_adapter *ret_row,
                                                 struct hs_error *err);

/* ---- adapter_json.c ---- */

/* adapter.json in the folder of a version, replaced atomically; and read, with `path` NULL when the
 * files lie beside it. HS_CORRUPT, errors of files. */
HS_CHECKED hs_status hs_adapter_json_write(const char *path, const struct hs_registry_adapter *row,
                                           struct hs_error *err);
HS_CHECKED hs_status hs_adapter_json_read(const char *path, struct hs_registry_adapter *ret_row,
                                          struct hs_error *err);

/* ---- adapter_store.c ---- */

/* Where a version's folder, or a file in it (NULL: none), lies: hs_free. NULL without memory. */
char *hs_adapter_store_path(const char *adapters_dir, const char *id, int64_t version,
                            const char *file);
/* Every version that lies in the folder with its adapter.json, of one id in ascending order. */
HS_CHECKED hs_status hs_adapter_store_scan(const char *adapters_dir,
                                           struct hs_registry_adapter **ret_rows, size_t *ret_n,
                                           struct hs_error *err);

/* ---- registry_scan.c ---- */

/* What lies in the models, sessions and adapters folders. */
struct hs_registry_found {
    struct hs_registry_model *models;
    size_t n_models, models_capacity;
    struct hs_registry_session *sessions;
    size_t n_sessions;
    struct hs_registry_adapter *adapters; /* versions */
    size_t n_adapters;
};

/* Files and sessions that cannot be read are left out, with a line in the log. */
HS_CHECKED hs_status hs_registry_scan(const hs_registry *registry,
                                      struct hs_registry_found *ret_found, struct hs_error *err);
void hs_registry_found_free(struct hs_registry_found *found);

#endif
