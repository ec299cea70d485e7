/*
 * registry.h - the SQLite registry of models, sessions and adapters (adapter_store.h), shared
 * by several processes.
 *
 * WAL mode, busy time-out, numbered migrations (PRAGMA user_version), every change in one
 * transaction. A file that SQLite finds corrupt is reported, set aside as
 * registry.db.corrupt-<time>, and rebuilt from what lies in the models and sessions folders; so is
 * one that is not there. A registry of a newer version is refused (HS_UNSUPPORTED_VERSION), never
 * changed. Damage that shows only later is handled in the same way, in the call that meets it.
 *
 * Errors:  every call may also give HS_BUSY (locked for 5 s), HS_PERMISSION_DENIED, HS_IO,
 *          HS_OUT_OF_MEMORY, HS_UNSUPPORTED_VERSION; HS_CORRUPT only when a repair fails.
 * Owner:   row structs hold their strings; hs_registry_*_free releases them.
 * Threads: one hs_registry may be used from any number of threads (a mutex inside).
 */
#ifndef STORAGE_REGISTRY_H
#define STORAGE_REGISTRY_H

#include <stdbool.h>

#include "base/paths.h"

typedef struct hs_registry hs_registry;

struct hs_registry_model {
    char *name; /* unique */
    char *path; /* absolute, of the GGUF file, the first part when split */
    char *architecture;
    char *quantization; /* "Q4_1": the type most weights have */
    char *fingerprint;  /* hs_gguf_fingerprint */
    char *sha256;       /* of the whole file; "" until somebody asked (verify) */
    char *source;       /* "added", "demo", "found" (by a rebuild), later "hf:..." */
    uint64_t n_params;  /* of all parts, as is size_bytes */
    uint64_t size_bytes;
    int64_t mtime_ns;
    int64_t n_ctx_train;
    int64_t added_unix_ms;
    int64_t used_unix_ms; /* 0: never */
    bool is_missing;      /* the file is not there any more (looked at when listing) */
};

struct hs_registry_session {
    char *name; /* unique */
    char *model_name;
    char *fingerprint;
    int64_t n_messages;
    int64_t size_bytes; /* text and KV on disk */
    int64_t created_unix_ms;
    int64_t updated_unix_ms;
};

/* Open or create; rebuilds when corrupt (a warning in the log). Folders are made as needed. */
HS_CHECKED hs_status hs_registry_open(const struct hs_paths *paths, hs_registry **ret_registry,
                                      struct hs_error *err);
void hs_registry_close(hs_registry *registry);

/*
 * Add a GGUF file that was checked; `name` [A-Za-z0-9._:-]{1,96}; NULL: the one it has already,
 * else from the file's stem. HS_ALREADY_EXISTS when the name is taken by another file; the same
 * file under the same name updates its row (its sha256 is kept while fingerprint, size and time are
 * the same), under another name it gets a second row; one that was only found, and never used, then
 * goes. The row is returned (may be NULL).
 */
HS_CHECKED hs_status hs_registry_model_add(hs_registry *registry, const char *path,
                                           const char *name, const char *source,
                                           struct hs_registry_model *ret_model,
                                           struct hs_error *err);
HS_CHECKED hs_status hs_registry_model_get(hs_registry *registry, const char *name,
                                           struct hs_registry_model *ret_model,
                                           struct hs_error *err);
/* Sorted by name, bytewise. rows[n] to be freed with hs_registry_models_free. */
HS_CHECKED hs_status hs_registry_model_list(hs_registry *registry,
                                            struct hs_registry_model **ret_rows, size_t *ret_n,
                                            struct hs_error *err);
/* The first GGUF file in the models folder that would get this name when added without one; NULL:
 * there is none. To be freed with hs_free. Changes nothing. */
HS_CHECKED hs_status hs_registry_find_file(const char *models_dir, const char *name,
                                           char **ret_path, struct hs_error *err);
/* The row only, never the file. */
HS_CHECKED hs_status hs_registry_model_remove(hs_registry *registry, const char *name,
                                              struct hs_error *err);
/* 64 lower-case hex digits, or "" to forget it. */
HS_CHECKED hs_status hs_registry_model_set_sha256(hs_registry *registry, const char *name,
                                                  const char *sha256, struct hs_error *err);
/* It was used now. */
HS_CHECKED hs_status hs_registry_model_touch(hs_registry *registry, const char *name,
                                             struct hs_error *err);
void hs_registry_model_free(struct hs_registry_model *model);
void hs_registry_models_free(struct hs_registry_model *rows, size_t n);

/* Insert or replace; texts that are NULL count as "". */
HS_CHECKED hs_status hs_registry_session_put(hs_registry *registry,
                                             const struct hs_registry_session *row,
                                             struct hs_error *err);
/* Sorted by name. rows[n] to be freed with hs_registry_sessions_free. */
HS_CHECKED hs_status hs_registry_session_list(hs_registry *registry,
                                              struct hs_registry_session **ret_rows, size_t *ret_n,
                                              struct hs_error *err);
HS_CHECKED hs_status hs_registry_session_remove(hs_registry *registry, const char *name,
                                                struct hs_error *err);
void hs_registry_sessions_free(struct hs_registry_session *rows, size_t n);

#endif
