#include "adapter_add.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adapters/adapter_file.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "json_out.h"

#define FILES_MAX 3

static void free_base(hs_lora_base **base)
{
    hs_lora_base_free(*base);
}

static void free_file(struct hs_adapter_file **file)
{
    hs_adapter_file_free(*file);
}

/* ---- names ---- */

/* The last component without its suffix, in characters that a name may have. */
static char *default_name(const char *path)
{
    HS_CLEANUP(hs_freep) char *copy = hs_strdup(path);
    for (size_t len = copy == NULL ? 0 : strlen(copy); len > 1 && copy[len - 1] == '/'; len--) {
        copy[len - 1] = '\0';
    }
    const char *slash = copy == NULL ? NULL : strrchr(copy, '/');
    const char *base = copy == NULL ? "" : slash == NULL ? copy : slash + 1;
    static const char *const suffixes[] = {".gguf", ".safetensors", ".json"};
    size_t len = strlen(base);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t n = strlen(suffixes[i]);
        len -= len > n && strcmp(base + len - n, suffixes[i]) == 0 ? n : 0;
    }
    len = len > HS_REGISTRY_ADAPTER_NAME_MAX ? HS_REGISTRY_ADAPTER_NAME_MAX : len;
    char *name = hs_strndup(base, len);
    for (size_t i = 0; name != NULL && i < len; i++) {
        bool is_plain = strchr("._-", name[i]) != NULL || (name[i] >= '0' && name[i] <= '9') ||
                        (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z');
        name[i] = is_plain && !(i == 0 && name[i] == '.') ? name[i] : '-';
    }
    return name;
}

static hs_status check_model_names(hs_registry *registry, const char *name, struct hs_error *err)
{
    struct hs_registry_model model = {0};
    hs_status status = hs_registry_model_get(registry, name, &model, err);
    hs_registry_model_free(&model);
    if (status == HS_NOT_FOUND) {
        return HS_OK;
    }
    if (status == HS_OK) {
        status = hs_error_set(err, HS_ALREADY_EXISTS, "there is a model called '%s'", name);
        hs_error_hint(err, "requests name models and adapters alike: give another name with "
                           "--name");
    }
    return status;
}

/* ---- files ---- */

struct files {
    struct hs_registry_adapter_file items[FILES_MAX];
    char *paths[FILES_MAX];
    size_t n;
};

static void free_files(struct files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        hs_free(files->paths[i]);
    }
}

/* `name` in the folder of `weights`; left out when it is not there and need not be. */
static hs_status add_file(struct files *files, const char *weights, const char *name,
                          bool is_needed, struct hs_error *err)
{
    const char *slash = strrchr(weights, '/');
    int folder = slash == NULL ? 0 : (int)(slash - weights) + 1;
    char *path = hs_asprintf("%.*s%s", folder, weights, name);
    if (path == NULL) {
        return hs_error_nomem(err, "path of an adapter");
    }
    if (!is_needed && access(path, F_OK) != 0) {
        hs_free(path);
        return HS_OK;
    }
    files->paths[files->n] = path;
    files->items[files->n++] = (struct hs_registry_adapter_file){path, name};
    return HS_OK;
}

/* What is copied for it, under the names that hs_adapter_file_load looks for. */
static hs_status list_files(const struct hs_adapter_file *file, struct files *files,
                            struct hs_error *err)
{
    files->items[0] = (struct hs_registry_adapter_file){
        file->path,
        file->format == HS_ADAPTER_GGUF ? HS_REGISTRY_ADAPTER_GGUF : "adapter_model.safetensors"};
    files->n = 1;
    if (file->format == HS_ADAPTER_GGUF) {
        return HS_OK;
    }
    hs_status status = add_file(files, file->path, "adapter_config.json", true, err);
    return status == HS_OK ? add_file(files, file->path, "trainer_state.json", false, err) : status;
}

static hs_status load(const struct hs_adapter_add *add, struct hs_adapter_file **ret_file,
                      char ret_fingerprint[65], struct hs_error *err)
{
    hs_lora_base *base HS_CLEANUP(free_base) = NULL;
    hs_status status = hs_lora_base_open(add->model_path, &base, err);
    if (status != HS_OK) {
        hs_error_prefix(err, "the model of the adapter");
        return status;
    }
    snprintf(ret_fingerprint, 65, "%s", hs_lora_base_fingerprint(base));
    return hs_adapter_file_load(add->path, base, ret_file, err);
}

hs_status hs_adapter_add(hs_registry *registry, const struct hs_adapter_add *add,
                         struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    struct hs_adapter_file *file HS_CLEANUP(free_file) = NULL;
    HS_CLEANUP(hs_freep)
    char *name = add->name != NULL ? hs_strdup(add->name) : default_name(add->path);
    HS_CLEANUP(hs_freep) char *path = NULL;
    struct files files HS_CLEANUP(free_files) = {.n = 0};
    char fingerprint[65] = "";
    if (name == NULL) {
        return hs_error_nomem(err, "name of an adapter");
    }
    hs_status status = check_model_names(registry, name, err);
    status = status == HS_OK ? load(add, &file, fingerprint, err) : status;
    status = status == HS_OK ? hs_fs_realpath(add->path, &path, err) : status;
    status = status == HS_OK && !add->is_linked ? list_files(file, &files, err) : status;
    if (status != HS_OK) {
        return status;
    }
    const struct hs_registry_adapter row = {
        .name = name,
        .path = path,
        .format = file->format == HS_ADAPTER_GGUF ? (char *)"gguf" : (char *)"peft",
        .architecture = file->architecture,
        .fingerprint = fingerprint,
        .model_name = (char *)add->model_name,
        .targets = file->targets,
        .sha256 = file->sha256,
        .content = file->version,
        .source = add->source != NULL ? (char *)add->source : path,
        .parents = (char *)add->parents,
        .training = file->training,
        .description = (char *)add->description,
        .tags = (char *)add->tags,
        .examples = (char *)add->examples,
        .rank = file->rank,
        .alpha = (double)file->alpha,
        .size_bytes = (int64_t)file->size_bytes,
    };
    const struct hs_registry_adapter_add how = {
        .files = files.items, .n_files = files.n, .replaces = add->replaces, .n_keep = add->n_keep};
    return hs_registry_adapter_add(registry, &row, &how, ret_row, err);
}

/* ---- JSON ---- */

/* Text that is JSON itself; null when it is none. */
static json_t *parsed(const char *text)
{
    json_t *json = text == NULL || *text == '\0' ? NULL : json_loads(text, 0, NULL);
    return json == NULL ? json_null() : json;
}

json_t *hs_adapter_row_json(const struct hs_registry_adapter *row, bool with_path)
{
    json_t *object = json_object();
    hs_json_set(&object, "name", hs_json_text(row->name));
    hs_json_set(&object, "id", hs_json_text(row->id));
    hs_json_set(&object, "version", json_integer(row->version));
    hs_json_set(&object, "model", hs_json_text(row->model_name));
    hs_json_set(&object, "architecture", hs_json_text(row->architecture));
    hs_json_set(&object, "model_fingerprint", hs_json_text(row->fingerprint));
    hs_json_set(&object, "format", hs_json_text(row->format));
    hs_json_set(&object, "rank", json_integer(row->rank));
    hs_json_set(&object, "alpha", json_real(row->alpha));
    hs_json_set(&object, "targets", hs_json_text(row->targets));
    hs_json_set(&object, "size_bytes", json_integer(row->size_bytes));
    hs_json_set(&object, "sha256", hs_json_text(row->sha256));
    hs_json_set(&object, "content_sha256", hs_json_text(row->content));
    hs_json_set(&object, "description", hs_json_text(row->description));
    hs_json_set(&object, "tags", parsed(row->tags));
    hs_json_set(&object, "examples", parsed(row->examples));
    hs_json_set(&object, "parents", parsed(row->parents));
    hs_json_set(&object, "training", parsed(row->training));
    if (with_path) {
        hs_json_set(&object, "path", hs_json_text(row->path));
        hs_json_set(&object, "source", hs_json_text(row->source));
    }
    hs_json_set(&object, "linked", json_boolean(row->is_linked));
    hs_json_set(&object, "missing", json_boolean(row->is_missing));
    hs_json_set(&object, "created_unix_ms", json_integer(row->created_unix_ms));
    hs_json_set(&object, "added_unix_ms", json_integer(row->added_unix_ms));
    hs_json_set(&object, "updated_unix_ms", json_integer(row->updated_unix_ms));
    hs_json_set(&object, "used_unix_ms", json_integer(row->used_unix_ms));
    hs_json_set(&object, "n_uses", json_integer(row->n_uses));
    hs_json_set(&object, "mean_ms",
                row->n_uses == 0 ? json_null()
                                 : json_real((double)row->used_ms / (double)row->n_uses));
    return object;
}

char *hs_adapter_lines_json(const char *lines)
{
    json_t *list HS_CLEANUP(hs_json_freep) = json_array();
    for (const char *at = lines; *at != '\0';) {
        size_t len = strcspn(at, "\n");
        HS_CLEANUP(hs_freep) char *line = hs_strndup(at, len);
        if (len > 0) {
            hs_json_append(&list, line == NULL ? NULL : hs_json_text(line));
        }
        at += len + (at[len] == '\n');
    }
    return list == NULL ? NULL : json_dumps(list, JSON_COMPACT);
}
