/*
 * adapter_store.h - adapters that this machine knows: their files, versions and rows in the
 * registry.
 *
 * An adapter has a name, which people may change, and an id, which stays. Each change of its
 * weights is a version, from 1 upwards, and never changes again: adapters/<id>/<version>/ holds
 * its files and adapter.json, which says all that the registry says of it, so that the registry can
 * be made anew. A linked adapter's files stay where they are.
 *
 * A version is made beside its place, renamed, entered into the registry, and sealed with its
 * adapter.json; what a kill left in between is removed or sealed by the next change. Changes of
 * several processes follow each other (a lock on adapters/lock); reading needs no lock.
 *
 * Errors:  those of the registry; HS_NOT_FOUND (no such adapter), HS_ALREADY_EXISTS (the name),
 *          HS_INVALID_ARGUMENT (a name), HS_BUSY (another process changes adapters for 30 s).
 * Owner:   rows hold their strings; hs_registry_adapter_free releases them.
 * Threads: as the registry.
 * Formats: docs/formats.md, "Adapters".
 */
#ifndef STORAGE_ADAPTER_STORE_H
#define STORAGE_ADAPTER_STORE_H

#include "storage/registry.h"

#define HS_REGISTRY_ADAPTER_NAME_MAX 64u
#define HS_REGISTRY_ADAPTER_VERSIONS 5 /* kept unless the caller says otherwise */

struct hs_registry_adapter {
    char *name; /* unique: [A-Za-z0-9._-]{1,64}, no '.' first */
    char *id;   /* 16 hex digits */
    int64_t version;
    char *path;   /* absolute: the folder of a PEFT adapter, or a .gguf file */
    char *format; /* "peft", "gguf" */
    char *architecture;
    char *fingerprint; /* hs_gguf_fingerprint of the model it was checked against; "": of none */
    char *model_name;  /* that model's name, for people; "" */
    char *targets;     /* "attn_q attn_v" */
    char *sha256;      /* of the weights' file */
    char *content;     /* names what it computes: SHA-256 of all that decides it */
    char *source;      /* where it came from: a path, "uploaded" */
    char *parents;     /* JSON array: "name@version" of those it was made of */
    char *training;    /* JSON object: its training history; "" */
    char *description; /* "" */
    char *tags;        /* JSON array of strings */
    char *examples;    /* JSON array of strings: prompts that it is for */
    bool is_linked;
    int64_t rank; /* the largest of its targets */
    double alpha;
    int64_t size_bytes;
    int64_t created_unix_ms; /* this version */
    int64_t added_unix_ms;   /* the adapter */
    int64_t updated_unix_ms;
    int64_t used_unix_ms; /* 0: never */
    int64_t n_uses;       /* requests */
    int64_t used_ms;      /* that they took, all together */
    bool is_missing;      /* nothing is at `path` any more (looked at when read) */
};

void hs_registry_adapter_free(struct hs_registry_adapter *row);
void hs_registry_adapters_free(struct hs_registry_adapter *rows, size_t n);

#define HS_REGISTRY_ADAPTER_GGUF "adapter.gguf" /* what a GGUF file is called in its folder */

/* A file of a new version: copied from `path`, called `name` there. */
struct hs_registry_adapter_file {
    const char *path, *name;
};

struct hs_registry_adapter_add {
    const struct hs_registry_adapter_file
        *files; /* [n_files]; none: linked, row->path says where */
    size_t n_files;
    bool replaces;  /* a new version when the name is there; otherwise HS_ALREADY_EXISTS */
    int64_t n_keep; /* versions, the new one included; at least 1 */
};

/*
 * Add an adapter or a version of one.
 * In:     row: name and what is known of the weights; NULL texts count as "", but description, tags
 * and examples that are NULL stay as the version before had them. Its id, version, path and times
 * are chosen here.
 * Out:    ret_row, the row as it is now (may be NULL).
 */
HS_CHECKED hs_status hs_registry_adapter_add(hs_registry *registry,
                                             const struct hs_registry_adapter *row,
                                             const struct hs_registry_adapter_add *how,
                                             struct hs_registry_adapter *ret_row,
                                             struct hs_error *err);
/* The current version. */
HS_CHECKED hs_status hs_registry_adapter_get(hs_registry *registry, const char *name,
                                             struct hs_registry_adapter *ret_row,
                                             struct hs_error *err);
/* The current versions, sorted by name. rows[n] to be freed with hs_registry_adapters_free. */
HS_CHECKED hs_status hs_registry_adapter_list(hs_registry *registry,
                                              struct hs_registry_adapter **ret_rows, size_t *ret_n,
                                              struct hs_error *err);
/* All versions of one, the newest first. */
HS_CHECKED hs_status hs_registry_adapter_history(hs_registry *registry, const char *name,
                                                 struct hs_registry_adapter **ret_rows,
                                                 size_t *ret_n, struct hs_error *err);
/* With all its versions; files of linked ones stay. */
HS_CHECKED hs_status hs_registry_adapter_remove(hs_registry *registry, const char *name,
                                                struct hs_error *err);
HS_CHECKED hs_status hs_registry_adapter_rename(hs_registry *registry, const char *name,
                                                const char *new_name, struct hs_error *err);
/* Change what people say of it; NULL: stays. Tags and examples as JSON arrays of strings. */
HS_CHECKED hs_status hs_registry_adapter_describe(hs_registry *registry, const char *name,
                                                  const char *description, const char *tags,
                                                  const char *examples, struct hs_error *err);
/* It was used: add to its counters. One that is gone meanwhile is no error. */
HS_CHECKED hs_status hs_registry_adapter_count(hs_registry *registry, const char *name,
                                               int64_t n_uses, int64_t used_ms,
                                               int64_t used_unix_ms, struct hs_error *err);
/* A number that differs from the last one given when another process, or another handle, changed
 * the registry since. */
HS_CHECKED hs_status hs_registry_stamp(hs_registry *registry, int64_t *ret_stamp,
                                       struct hs_error *err);

#endif
