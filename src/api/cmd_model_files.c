/* cmd_model_files.c - `hyprstream model verify|rm`: the commands that read or remove whole files.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/output.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "json_out.h"
#include "model_ref.h"
#include "storage/gguf.h"

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static void free_gguf(hs_gguf **gguf)
{
    hs_gguf_free(*gguf);
}

/* ---- verify ---- */

static bool hash_progress(float fraction, void *user)
{
    const struct hs_command_args *args = user;
    args->io->progress(args->io->self, "verifying", fraction, args->args[0]);
    return !args->io->interrupted(args->io->self);
}

static hs_status damaged(struct hs_error *err, const char *path, const char *what, const char *is,
                         const char *recorded)
{
    hs_status status = hs_error_set(
        err, HS_CORRUPT, "'%s' is not the file that was recorded: its %s is %s, recorded is %s",
        path, what, is, recorded);
    hs_error_hint(err, "get the file again; if it was replaced on purpose, 'hyprstream model add' "
                       "records it anew");
    return status;
}

static hs_status check_header(const char *path, const struct hs_registry_model *row,
                              struct hs_error *err)
{
    hs_gguf *gguf HS_CLEANUP(free_gguf) = NULL;
    hs_status status = hs_gguf_open(path, &gguf, err);
    if (!status) {
        status = hs_gguf_check_model(gguf, path, err);
    }
    if (!status && row->size_bytes && hs_gguf_file_size(gguf) != row->size_bytes) {
        char is[32], was[32];
        snprintf(is, sizeof is, "%llu bytes", (unsigned long long)hs_gguf_file_size(gguf));
        snprintf(was, sizeof was, "%llu bytes", (unsigned long long)row->size_bytes);
        status = damaged(err, path, "size", is, was);
    }
    return status;
}

static hs_status print_verified(const struct hs_command_args *args, const char *path,
                                const char *hash, const char *verdict, struct hs_error *err)
{
    if (!hs_config_bool(args->config, HS_CFG_JSON)) {
        return hs_out_printf(args->io, err, "%s  %s (%s)\n", hash, path, verdict);
    }
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "path", hs_json_text(path));
    hs_json_set(&object, "sha256", json_string(hash));
    hs_json_set(&object, "result", json_string(verdict));
    return hs_json_print(args->io, object, false, err);
}

static hs_status verify_row(const struct hs_command_args *args, hs_registry *registry,
                            const char *path, const struct hs_registry_model *row,
                            struct hs_error *err)
{
    hs_status status = check_header(path, row, err);
    if (status) {
        return status;
    }
    char hash[65];
    status = hs_sha256_file(path, hash_progress, (void *)args, hash, err);
    args->io->progress(args->io->self, "", -1, NULL);
    if (status) {
        return status;
    }
    if (!row->name) {
        return print_verified(args, path, hash, "not registered, nothing to compare with", err);
    }
    if (!row->sha256 || !*row->sha256) {
        status = hs_registry_model_set_sha256(registry, row->name, hash, err);
        return status ? status : print_verified(args, path, hash, "recorded", err);
    }
    if (strcmp(row->sha256, hash) != 0) {
        return damaged(err, path, "SHA-256", hash, row->sha256);
    }
    return print_verified(args, path, hash, "as recorded", err);
}

hs_status hs_cmd_model_verify(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_model_choice model HS_CLEANUP(hs_model_choice_free) = {0};
    struct hs_registry_model row = {0};
    hs_status status = hs_model_resolve(args->paths, args->args[0], &registry, &model, err);
    if (!status && model.name) {
        status = hs_registry_model_get(registry, model.name, &row, err);
    }
    if (!status) {
        status = verify_row(args, registry, model.path, &row, err);
    }
    hs_registry_model_free(&row);
    return status;
}

/* ---- rm ---- */

/* Whether the file itself, wherever links lead, lies below our models folder. */
static bool is_ours(const struct hs_paths *paths, const char *file)
{
    HS_CLEANUP(hs_freep) char *folder = NULL;
    HS_CLEANUP(hs_freep) char *path = NULL;
    if (hs_fs_realpath(paths->models_dir, &folder, NULL) || hs_fs_realpath(file, &path, NULL)) {
        return false;
    }
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && path[len] == '/';
}

static hs_status may_remove(const struct hs_command_args *args, const char *file, bool *ret_yes,
                            struct hs_error *err)
{
    *ret_yes = args->options[HS_OPT_FORCE] != NULL;
    if (*ret_yes) {
        return HS_OK;
    }
    if (!args->io->in_is_terminal) {
        hs_status status =
            hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' would be removed with its file", file);
        hs_error_hint(err, "say --force to remove it without a question");
        return status;
    }
    HS_CLEANUP(hs_freep) char *question = hs_asprintf("Remove the file '%s'?", file);
    return question ? args->io->confirm(args->io->self, question, ret_yes, err)
                    : hs_error_nomem(err, "question");
}

/* All files of a model in parts, NAME-00001-of-00003.gguf, or the one file. */
static hs_status remove_files(const char *path, struct hs_error *err)
{
    size_t len = strlen(path);
    int part = 0, n_parts = 1, end = 0;
    const size_t tail = strlen("-00001-of-00003.gguf");
    bool in_parts = len > tail &&
                    sscanf(path + len - tail, "-%5d-of-%5d.gguf%n", &part, &n_parts, &end) == 2 &&
                    (size_t)end == tail && part == 1;
    if (!in_parts) {
        return unlink(path) == 0 ? HS_OK : hs_error_errno(err, errno, "remove", path);
    }
    for (int i = 1; i <= n_parts; i++) {
        HS_CLEANUP(hs_freep)
        char *file = hs_asprintf("%.*s-%05d-of-%05d.gguf", (int)(len - tail), path, i, n_parts);
        if (!file) {
            return hs_error_nomem(err, "path");
        }
        if (unlink(file) != 0 && errno != ENOENT) {
            return hs_error_errno(err, errno, "remove", file);
        }
    }
    return HS_OK;
}

/* Whether the file goes with the row: it is ours, and no other name stands for it. */
static hs_status goes_with_file(const struct hs_command_args *args, hs_registry *registry,
                                const struct hs_registry_model *row, bool *ret_yes,
                                struct hs_error *err)
{
    struct hs_registry_model *rows = NULL;
    size_t n = 0, n_names = 0;
    hs_status status = hs_registry_model_list(registry, &rows, &n, err);
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        n_names += strcmp(rows[i].path, row->path) == 0;
    }
    hs_registry_models_free(rows, n);
    *ret_yes = is_ours(args->paths, row->path) && n_names == 1;
    return status;
}

static hs_status remove_row(const struct hs_command_args *args, hs_registry *registry,
                            const struct hs_registry_model *row, struct hs_error *err)
{
    bool with_file = false, yes = true;
    hs_status status = goes_with_file(args, registry, row, &with_file, err);
    status = status == HS_OK && with_file ? may_remove(args, row->path, &yes, err) : status;
    if (status) {
        return status;
    }
    if (!yes) {
        hs_err_printf(args->io, "nothing was removed\n");
        return HS_OK;
    }
    status = with_file ? remove_files(row->path, err) : HS_OK;
    if (!status) {
        status = hs_registry_model_remove(registry, row->name, err);
    }
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = json_object();
        hs_json_set(&object, "removed", hs_json_text(row->name));
        hs_json_set(&object, "file_removed", json_boolean(with_file));
        return hs_json_print(args->io, object, false, err);
    }
    return hs_out_printf(args->io, err, "removed %s%s\n", row->name,
                         with_file ? " and its file" : " from the list; its file stays");
}

hs_status hs_cmd_model_rm(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_registry_model row = {0};
    hs_status status = hs_registry_need(args->paths, &registry, err);
    if (!status) {
        status = hs_registry_model_get(registry, args->args[0], &row, err);
    }
    if (status == HS_NOT_FOUND) {
        hs_error_hint(err, "'hyprstream model list' shows the names");
    }
    if (!status) {
        status = remove_row(args, registry, &row, err);
    }
    hs_registry_model_free(&row);
    return status;
}
