/* registry_scan.c - rows for a new registry, from what lies in the models, sessions and adapters
 * folders. */
#include "registry_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/gguf.h"
#include "storage/session_store.h"

#define DEPTH_MAX 4 /* of folders below models/ */

void hs_registry_found_free(struct hs_registry_found *found)
{
    hs_registry_models_free(found->models, found->n_models);
    hs_registry_sessions_free(found->sessions, found->n_sessions);
    hs_registry_adapters_free(found->adapters, found->n_adapters);
    *found = (struct hs_registry_found){0};
}

static bool is_gguf_name(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && strcasecmp(name + len - 5, ".gguf") == 0;
}

static bool is_name_used(const struct hs_registry_found *found, const char *name)
{
    for (size_t i = 0; i < found->n_models; i++)
        if (strcmp(found->models[i].name, name) == 0)
            return true;
    return false;
}

/* The default name, with "-2" and so on for the second file of that name. */
static char *unused_name(const struct hs_registry_found *found, const char *path)
{
    char *name = hs_registry_default_name(path);
    for (int i = 2; name != NULL && is_name_used(found, name); i++) {
        hs_free(name);
        HS_CLEANUP(hs_freep) char *stem = hs_registry_default_name(path);
        name = stem == NULL ? NULL : hs_asprintf("%.80s-%d", stem, i);
    }
    return name;
}

static hs_status check_model(const char *path, struct hs_error *err)
{
    hs_gguf *gguf = NULL;
    hs_status status = hs_gguf_open(path, &gguf, err);
    if (status == HS_OK)
        status = hs_gguf_check_model(gguf, path, err);
    hs_gguf_free(gguf);
    return status;
}

/* A visit_fn for a struct hs_registry_found. */
static hs_status add_model(const char *path, void *user, struct hs_error *err)
{
    struct hs_registry_found *found = user;
    struct hs_registry_model model = {0};
    struct hs_error why = {0};
    hs_status status = check_model(path, &why);
    if (status == HS_OK)
        status = hs_registry_model_describe(path, "found", &model, &why);
    if (status == HS_OUT_OF_MEMORY)
        return hs_error_nomem(err, "list of models");
    if (status != HS_OK) {
        hs_log(HS_LOG_WARN, "storage", "left out of the registry: %s", why.message);
        return HS_OK;
    }
    if (found->n_models == found->models_capacity) {
        size_t capacity = found->models_capacity == 0 ? 8 : 2 * found->models_capacity;
        struct hs_registry_model *models =
            hs_realloc_array(found->models, capacity, sizeof *models);
        if (models != NULL) {
            found->models = models;
            found->models_capacity = capacity;
        }
    }
    model.name = unused_name(found, path);
    if (found->n_models == found->models_capacity || model.name == NULL) {
        hs_registry_model_free(&model);
        return hs_error_nomem(err, "list of models");
    }
    found->models[found->n_models++] = model;
    return HS_OK;
}

/* Called with the path of each GGUF file that may be a model. */
typedef hs_status (*visit_fn)(const char *path, void *user, struct hs_error *err);

static hs_status scan_folder(const char *folder, int depth, visit_fn visit, void *user,
                             struct hs_error *err);

static hs_status scan_entry(const char *folder, const struct dirent *entry, int depth,
                            visit_fn visit, void *user, struct hs_error *err)
{
    if (entry->d_name[0] == '.')
        return HS_OK;
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, entry->d_name);
    if (path == NULL)
        return hs_error_nomem(err, "list of models");
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return depth < DEPTH_MAX ? scan_folder(path, depth + 1, visit, user, err) : HS_OK;
    /* "x-00002-of-00005.gguf" is loaded through its first part and is no model of its own. */
    if (!is_gguf_name(entry->d_name) || hs_registry_part_number(entry->d_name) > 1)
        return HS_OK;
    return visit(path, user, err);
}

static int is_any(const struct dirent *entry)
{
    (void)entry;
    return 1;
}

static hs_status scan_folder(const char *folder, int depth, visit_fn visit, void *user,
                             struct hs_error *err)
{
    struct dirent **entries = NULL;
    /* Sorted, so that names given to files of the same stem do not depend on the file system. */
    int n = scandir(folder, &entries, is_any, alphasort);
    if (n < 0 && errno == ENOMEM)
        return hs_error_nomem(err, "list of models");
    if (n < 0) {
        if (errno != ENOENT)
            hs_log(HS_LOG_WARN, "storage", "cannot look for models in '%s': %s", folder,
                   strerror(errno));
        return HS_OK;
    }
    hs_status status = HS_OK;
    for (int i = 0; i < n; i++) {
        if (status == HS_OK)
            status = scan_entry(folder, entries[i], depth, visit, user, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

struct search {
    const char *name;
    char *path;
};

static hs_status match_name(const char *path, void *user, struct hs_error *err)
{
    struct search *search = user;
    HS_CLEANUP(hs_freep) char *name = hs_registry_default_name(path);
    if (name != NULL && search->path == NULL && strcmp(name, search->name) == 0) {
        search->path = hs_strdup(path);
        return search->path == NULL ? hs_error_nomem(err, "model path") : HS_OK;
    }
    return name == NULL ? hs_error_nomem(err, "model name") : HS_OK;
}

hs_status hs_registry_find_file(const char *models_dir, const char *name, char **ret_path,
                                struct hs_error *err)
{
    struct search search = {.name = name};
    hs_status status = scan_folder(models_dir, 0, match_name, &search, err);
    if (status != HS_OK) {
        hs_free(search.path);
        return status;
    }
    *ret_path = search.path;
    return HS_OK;
}

static hs_status read_session(const char *sessions_dir, const char *name,
                              struct hs_registry_session *session, struct hs_error *err)
{
    struct hs_session_record record = {0};
    uint64_t size_bytes = 0;
    hs_status status = hs_session_store_read(sessions_dir, name, &record, &size_bytes, err);
    if (status != HS_OK)
        return status;
    session->name = hs_strdup(name);
    session->model_name = record.model_name;
    session->fingerprint = record.fingerprint;
    record.model_name = NULL;
    record.fingerprint = NULL;
    session->n_messages = (int64_t)record.n_messages;
    session->size_bytes = (int64_t)size_bytes;
    session->created_unix_ms = record.created_unix_ms;
    session->updated_unix_ms = record.updated_unix_ms;
    hs_session_record_free(&record);
    return session->name == NULL ? hs_error_nomem(err, "list of sessions") : HS_OK;
}

static hs_status scan_sessions(const char *sessions_dir, struct hs_registry_found *found,
                               struct hs_error *err)
{
    char **names = NULL;
    size_t n = 0;
    struct hs_error why = {0};
    hs_status status = hs_session_store_list(sessions_dir, &names, &n, &why);
    if (status == HS_OK) {
        found->sessions = hs_calloc(n, sizeof *found->sessions);
        if (found->sessions == NULL)
            status = HS_OUT_OF_MEMORY;
    } else if (status != HS_OUT_OF_MEMORY) {
        hs_log(HS_LOG_WARN, "storage", "cannot look for sessions: %s", why.message);
        return HS_OK;
    }
    for (size_t i = 0; status == HS_OK && i < n; i++) {
        struct hs_registry_session *session = &found->sessions[found->n_sessions];
        status = read_session(sessions_dir, names[i], session, &why);
        if (status == HS_OK || status == HS_OUT_OF_MEMORY) {
            found->n_sessions++;
            continue;
        }
        hs_log(HS_LOG_WARN, "storage", "left out of the registry: %s", why.message);
        status = HS_OK;
    }
    hs_session_names_free(names, n);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "list of sessions");
}

hs_status hs_registry_scan(const hs_registry *registry, struct hs_registry_found *ret_found,
                           struct hs_error *err)
{
    struct hs_registry_found found = {0};
    hs_status status = scan_folder(registry->models_dir, 0, add_model, &found, err);
    if (status == HS_OK)
        status = scan_sessions(registry->sessions_dir, &found, err);
    if (status == HS_OK)
        status =
            hs_adapter_store_scan(registry->adapters_dir, &found.adapters, &found.n_adapters, err);
    if (status != HS_OK) {
        hs_registry_found_free(&found);
        return status;
    }
    *ret_found = found;
    return HS_OK;
}
