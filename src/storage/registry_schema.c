/* registry_schema.c - the registry's tables, as the steps that lead from one version to the next.
 */
#include "registry_internal.h"

const char *const HS_REGISTRY_STEPS[] = {
    /* 1: models and sessions */
    "CREATE TABLE models ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " path TEXT NOT NULL,"
    " architecture TEXT NOT NULL,"
    " quantization TEXT NOT NULL,"
    " fingerprint TEXT NOT NULL,"
    " sha256 TEXT NOT NULL,"
    " source TEXT NOT NULL,"
    " n_params INTEGER NOT NULL,"
    " size_bytes INTEGER NOT NULL,"
    " mtime_ns INTEGER NOT NULL,"
    " n_ctx_train INTEGER NOT NULL,"
    " added_unix_ms INTEGER NOT NULL,"
    " used_unix_ms INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE sessions ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " model_name TEXT NOT NULL,"
    " fingerprint TEXT NOT NULL,"
    " n_messages INTEGER NOT NULL,"
    " size_bytes INTEGER NOT NULL,"
    " created_unix_ms INTEGER NOT NULL,"
    " updated_unix_ms INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;",
    /* 2: adapters and their versions */
    "CREATE TABLE adapters ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " id TEXT UNIQUE NOT NULL,"
    " version INTEGER NOT NULL,"
    " description TEXT NOT NULL,"
    " tags TEXT NOT NULL,"
    " examples TEXT NOT NULL,"
    " added_unix_ms INTEGER NOT NULL,"
    " updated_unix_ms INTEGER NOT NULL,"
    " used_unix_ms INTEGER NOT NULL,"
    " n_uses INTEGER NOT NULL,"
    " used_ms INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE adapter_versions ("
    " id TEXT NOT NULL,"
    " version INTEGER NOT NULL,"
    " path TEXT NOT NULL,"
    " format TEXT NOT NULL,"
    " architecture TEXT NOT NULL,"
    " fingerprint TEXT NOT NULL,"
    " model_name TEXT NOT NULL,"
    " targets TEXT NOT NULL,"
    " sha256 TEXT NOT NULL,"
    " content TEXT NOT NULL,"
    " source TEXT NOT NULL,"
    " parents TEXT NOT NULL,"
    " training TEXT NOT NULL,"
    " is_linked INTEGER NOT NULL,"
    " rank INTEGER NOT NULL,"
    " alpha REAL NOT NULL,"
    " size_bytes INTEGER NOT NULL,"
    " created_unix_ms INTEGER NOT NULL,"
    " PRIMARY KEY (id, version)"
    ") STRICT, WITHOUT ROWID;",
};

const int HS_REGISTRY_VERSION = sizeof HS_REGISTRY_STEPS / sizeof *HS_REGISTRY_STEPS;

const char *const HS_REGISTRY_PROBES[] = {
    "SELECT " HS_REGISTRY_MODEL_COLUMNS " FROM models",
    "SELECT " HS_REGISTRY_SESSION_COLUMNS " FROM sessions",
    "SELECT " HS_REGISTRY_ADAPTER_COLUMNS " FROM adapters",
    "SELECT " HS_REGISTRY_VERSION_COLUMNS " FROM adapter_versions",
    NULL,
};
