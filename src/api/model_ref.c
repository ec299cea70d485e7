#include "model_ref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/nearest.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"

struct model_rows {
    struct hs_registry_model *rows;
    size_t n;
};

static void free_rows(struct model_rows *list)
{
    hs_registry_models_free(list->rows, list->n);
}

hs_status hs_registry_need(const struct hs_paths *paths, hs_registry **registry,
                           struct hs_error *err)
{
    return *registry ? HS_OK : hs_registry_open(paths, registry, err);
}

void hs_model_choice_free(struct hs_model_choice *choice)
{
    hs_free(choice->path);
    hs_free(choice->name);
    *choice = (struct hs_model_choice){0};
}

static hs_status choice_set(const char *path, const char *name, struct hs_model_choice *ret_choice,
                            struct hs_error *err)
{
    struct hs_model_choice choice HS_CLEANUP(hs_model_choice_free) = {.path = hs_strdup(path),
                                                                      .name = hs_strdup(name)};
    if (!choice.path || (name && !choice.name)) {
        return hs_error_nomem(err, "model name");
    }
    *ret_choice = choice;
    choice = (struct hs_model_choice){0};
    return HS_OK;
}

void hs_model_choice_id(const struct hs_model_choice *choice, char ret_id[HS_ID_MAX])
{
    const char *slash = strrchr(choice->path, '/');
    const char *name = choice->name ? choice->name : (slash ? slash + 1 : choice->path);
    size_t len = strlen(name);
    bool has_suffix = !choice->name && len > 5 && strcmp(name + len - 5, ".gguf") == 0;
    len = hs_utf8_clip(name, has_suffix ? len - 5 : len, HS_ID_MAX - 1);
    memcpy(ret_id, name, len);
    ret_id[len] = '\0';
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* "~/x" as settings files have it; the shell has already done it for arguments. */
static char *expand_home(const char *path)
{
    const char *home = getenv("HOME");
    if (strncmp(path, "~/", 2) == 0 && home) {
        return hs_asprintf("%s/%s", home, path + 2);
    }
    return hs_strdup(path);
}

/* HS_NOT_FOUND without a message when neither folder has such a file. A file that was taken from
 * the list and put back is found by the name it had there. */
static hs_status find_file(const struct hs_paths *paths, const char *ref,
                           struct hs_model_choice *ret_choice, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *plain = hs_asprintf("%s/%s", paths->models_dir, ref);
    HS_CLEANUP(hs_freep) char *full = hs_asprintf("%s/%s.gguf", paths->models_dir, ref);
    if (!plain || !full) {
        return hs_error_nomem(err, "model path");
    }
    const char *candidates[] = {plain, full, ref};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        if (is_file(candidates[i])) {
            return choice_set(candidates[i], NULL, ret_choice, err);
        }
    }
    HS_CLEANUP(hs_freep) char *path = NULL;
    hs_status status = hs_registry_find_file(paths->models_dir, ref, &path, err);
    if (status || !path) {
        return status ? status : HS_NOT_FOUND;
    }
    return choice_set(path, NULL, ret_choice, err);
}

static hs_status not_found(hs_registry *registry, const char *ref, struct hs_error *err)
{
    struct model_rows list HS_CLEANUP(free_rows) = {0};
    hs_status status = hs_registry_model_list(registry, &list.rows, &list.n, err);
    if (status) {
        return status;
    }
    struct hs_nearest nearest = {.name = ref};
    for (size_t i = 0; i < list.n; i++) {
        hs_nearest_offer(&nearest, list.rows[i].name);
    }
    status = hs_error_set(err, HS_NOT_FOUND, "no model named '%s'", ref);
    if (nearest.best) {
        hs_error_hint(err,
                      "did you mean '%s'? 'hyprstream model list' shows all, 'hyprstream model add "
                      "PATH' adds one",
                      nearest.best);
    } else {
        hs_error_hint(err, "see 'hyprstream model list', give the path of a GGUF file, or add one "
                           "with 'hyprstream model add PATH'");
    }
    return status;
}

hs_status hs_model_resolve(const struct hs_paths *paths, const char *ref, hs_registry **registry,
                           struct hs_model_choice *ret_choice, struct hs_error *err)
{
    if (strchr(ref, '/')) {
        HS_CLEANUP(hs_freep) char *path = expand_home(ref);
        for (size_t len = path ? strlen(path) : 0; len > 1 && path[len - 1] == '/'; len--) {
            path[len - 1] = '\0'; /* whoever opens it says that it is a folder */
        }
        return path ? choice_set(path, NULL, ret_choice, err) : hs_error_nomem(err, "model path");
    }
    hs_status status = hs_registry_need(paths, registry, err);
    if (status) {
        return status;
    }
    struct hs_registry_model row = {0};
    status = hs_registry_model_get(*registry, ref, &row, err);
    if (!status) {
        status = choice_set(row.path, row.name, ret_choice, err);
        hs_registry_model_free(&row);
        return status;
    }
    if (status == HS_NOT_FOUND) {
        status = find_file(paths, ref, ret_choice, err);
    }
    return status == HS_NOT_FOUND ? not_found(*registry, ref, err) : status;
}

static hs_status no_model(struct hs_error *err)
{
    hs_status status = hs_error_set(err, HS_NOT_FOUND, "there is no model to use");
    hs_error_hint(err,
                  "add one with 'hyprstream model add PATH', name a GGUF file with --model, or, "
                  "in a checkout of hyprstream, run 'make chat' to get the demo model");
    return status;
}

/* All that are in the list are gone. */
static hs_status none_left(const struct model_rows *list, struct hs_error *err)
{
    const struct hs_registry_model *row = &list->rows[0];
    if (list->n == 1) {
        hs_error_set(err, HS_NOT_FOUND, "the file of the only model, '%s', is not there: %s",
                     row->name, row->path);
    } else {
        hs_error_set(err, HS_NOT_FOUND, "the files of all %zu models are not there, such as %s",
                     list->n, row->path);
    }
    return hs_error_hint(err,
                         "put it back, or tell where it is now with 'hyprstream model add PATH' "
                         "after 'hyprstream model rm %s'",
                         row->name);
}

static hs_status choose_demo(const char *path, hs_registry *registry,
                             struct hs_model_choice *ret_choice, struct hs_error *err)
{
    if (!is_file(path)) {
        return no_model(err);
    }
    struct hs_registry_model row = {0};
    hs_status status = hs_registry_model_add(registry, path, NULL, "demo", &row, err);
    if (status) {
        return status;
    }
    status = choice_set(row.path, row.name, ret_choice, err);
    if (!status) {
        /* the pinned hash, so that 'model verify' has something to compare with */
        status = hs_registry_model_set_sha256(registry, row.name, HS_DEMO_SHA256, err);
    }
    hs_registry_model_free(&row);
    return status;
}

/* A new registry has found the demo model in its folder, without knowing what it is. */
static bool is_unmarked_demo(const struct hs_registry_model *row)
{
    const char *slash = strrchr(row->path, '/');
    return slash && strcmp(slash + 1, HS_DEMO_FILE) == 0 && strcmp(row->source, "found") == 0;
}

static hs_status choose_default(const struct hs_paths *paths, hs_registry *registry,
                                struct hs_model_choice *ret_choice, struct hs_error *err)
{
    struct model_rows list HS_CLEANUP(free_rows) = {0};
    hs_status status = hs_registry_model_list(registry, &list.rows, &list.n, err);
    if (status) {
        return status;
    }
    const struct hs_registry_model *best = NULL;
    size_t n_present = 0;
    for (size_t i = 0; i < list.n; i++) {
        const struct hs_registry_model *row = &list.rows[i];
        if (row->is_missing) {
            continue;
        }
        n_present++;
        bool later =
            best &&
            (row->used_unix_ms > best->used_unix_ms ||
             (row->used_unix_ms == best->used_unix_ms && row->added_unix_ms > best->added_unix_ms));
        best = !best || later ? row : best;
    }
    if (!best || (n_present == 1 && is_unmarked_demo(best))) {
        HS_CLEANUP(hs_freep) char *path = hs_fs_join(paths->models_dir, HS_DEMO_FILE);
        if (!path) {
            return hs_error_nomem(err, "model path");
        }
        return !best && list.n > 0 && !is_file(path)
                   ? none_left(&list, err)
                   : choose_demo(best ? best->path : path, registry, ret_choice, err);
    }
    status = choice_set(best->path, best->name, ret_choice, err);
    if (!status && n_present > 1) {
        snprintf(ret_choice->note, sizeof ret_choice->note,
                 "using '%s', the model %s of %zu; --model chooses another", best->name,
                 best->used_unix_ms > 0 ? "used last" : "added last", n_present);
    }
    return status;
}

/* The first row with this path or, path NULL, whose file is there and has these weights.
 * HS_NOT_FOUND without a message. */
static hs_status find_row(hs_registry *registry, const char *path, const char *fingerprint,
                          struct hs_model_choice *ret_choice, struct hs_error *err)
{
    struct model_rows list HS_CLEANUP(free_rows) = {0};
    hs_status status = hs_registry_model_list(registry, &list.rows, &list.n, err);
    for (size_t i = 0; i < list.n && !status; i++) {
        const struct hs_registry_model *row = &list.rows[i];
        if (path ? strcmp(row->path, path) == 0
                 : !row->is_missing && strcmp(row->fingerprint, fingerprint) == 0) {
            return choice_set(row->path, row->name, ret_choice, err);
        }
    }
    return status ? status : HS_NOT_FOUND;
}

/* A server's alias is no name here; the weights tell which model it was. */
static hs_status choose_for_session(const struct hs_command_args *args,
                                    const struct hs_session_record *session, hs_registry **registry,
                                    struct hs_model_choice *ret_choice, struct hs_error *err)
{
    const char *name = session->model_name;
    hs_status status = hs_model_resolve(args->paths, name, registry, ret_choice, err);
    if (status != HS_NOT_FOUND) {
        return status;
    }
    if (session->fingerprint && *session->fingerprint) {
        struct hs_error own;
        status = find_row(*registry, NULL, session->fingerprint, ret_choice, &own);
        if (status && status != HS_NOT_FOUND) {
            return hs_error_set(err, status, "%s", own.message);
        }
    }
    if (!status) {
        snprintf(ret_choice->note, sizeof ret_choice->note,
                 "the session's model '%.100s' is called '%s' here", name, ret_choice->name);
    }
    if (status == HS_NOT_FOUND) {
        hs_error_prefix(err, "the session's own model");
        hs_error_hint(err,
                      "bring it back with 'hyprstream model add PATH --name %s', or choose another "
                      "with --model (the name may be a server's --alias)",
                      name);
    }
    return status;
}

hs_status hs_model_choose(const struct hs_command_args *args,
                          const struct hs_session_record *session, hs_registry **registry,
                          struct hs_model_choice *ret_choice, struct hs_error *err)
{
    const struct hs_config_value *models = &args->config->values[HS_CFG_MODEL];
    if (models->n_items > 0) {
        size_t i = models->source == HS_CONFIG_FLAG ? models->n_items - 1 : 0;
        return hs_model_resolve(args->paths, models->items[i], registry, ret_choice, err);
    }
    if (session && session->model_name && *session->model_name) {
        return choose_for_session(args, session, registry, ret_choice, err);
    }
    hs_status status = hs_registry_need(args->paths, registry, err);
    return status ? status : choose_default(args->paths, *registry, ret_choice, err);
}

hs_status hs_model_register(const struct hs_paths *paths, hs_registry **registry,
                            struct hs_model_choice *choice, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = NULL;
    hs_status status = choice->name ? HS_OK : hs_fs_realpath(choice->path, &path, err);
    if (status || choice->name) {
        return status;
    }
    status = hs_registry_need(paths, registry, err);
    struct hs_model_choice known = {0};
    status = status ? status : find_row(*registry, path, NULL, &known, err);
    if (!status) {
        hs_model_choice_free(choice);
        *choice = known;
    }
    if (status != HS_NOT_FOUND) {
        return status;
    }
    struct hs_registry_model row = {0};
    status = hs_registry_model_add(*registry, path, NULL, "added", &row, err);
    if (status == HS_ALREADY_EXISTS) {
        hs_error_hint(err, "give this file a name: 'hyprstream model add %s --name NAME'", path);
    }
    if (status) {
        return status;
    }
    choice->name = row.name;
    row.name = NULL;
    hs_registry_model_free(&row);
    hs_log(HS_LOG_INFO, "models", "'%s' was added to the list of models", choice->name);
    return HS_OK;
}
