/* registry_models.c - the rows of models: what a GGUF file says about itself, and where it lies. */
#include "registry_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "gguf_internal.h"

#define NAME_MAX_BYTES 96u

static const char NAME_CHARS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";

void hs_registry_model_free(struct hs_registry_model *model)
{
    if (model == NULL)
        return;
    hs_free(model->name);
    hs_free(model->path);
    hs_free(model->architecture);
    hs_free(model->quantization);
    hs_free(model->fingerprint);
    hs_free(model->sha256);
    hs_free(model->source);
    *model = (struct hs_registry_model){0};
}

void hs_registry_models_free(struct hs_registry_model *rows, size_t n)
{
    for (size_t i = 0; rows != NULL && i < n; i++)
        hs_registry_model_free(&rows[i]);
    hs_free(rows);
}

/* ---- names ---- */

static hs_status check_name(const char *name, struct hs_error *err)
{
    size_t len = strnlen(name, NAME_MAX_BYTES + 1);
    if (len >= 1 && len <= NAME_MAX_BYTES && strspn(name, NAME_CHARS) == len)
        return HS_OK;
    hs_error_set(err, HS_INVALID_ARGUMENT, "'%.120s' cannot name a model", name);
    hs_error_hint(err, "use 1 to %u of A-Z a-z 0-9 . _ : -", NAME_MAX_BYTES);
    return HS_INVALID_ARGUMENT;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static const char PART_SUFFIX[] = "-#####-of-#####";

unsigned long hs_registry_part_number(const char *path)
{
    size_t len = strlen(path), n = sizeof PART_SUFFIX - 1;
    if (len < n + 5 || strcasecmp(path + len - 5, ".gguf") != 0)
        return 0;
    const char *suffix = path + len - 5 - n;
    for (size_t i = 0; i < n; i++)
        if (PART_SUFFIX[i] == '#' ? suffix[i] < '0' || suffix[i] > '9'
                                  : suffix[i] != PART_SUFFIX[i])
            return 0;
    return strtoul(suffix + 1, NULL, 10);
}

char *hs_registry_default_name(const char *path)
{
    const char *stem = base_name(path);
    size_t stem_len = strlen(stem);
    if (stem_len > 5 && strcasecmp(stem + stem_len - 5, ".gguf") == 0)
        stem_len -= 5;
    if (hs_registry_part_number(stem) > 0)
        stem_len -= sizeof PART_SUFFIX - 1;
    char name[NAME_MAX_BYTES + 1];
    size_t len = 0;
    for (size_t i = 0; i < stem_len && len < NAME_MAX_BYTES; i++) {
        char c = lower(stem[i]);
        bool is_odd = c == 0 || strchr(NAME_CHARS, c) == NULL;
        if (!is_odd)
            name[len++] = c;
        else if (len > 0 && name[len - 1] != '-') /* a run of odd ones gives one dash */
            name[len++] = '-';
    }
    while (len > 0 && name[len - 1] == '-')
        len--;
    /* Names must not look like an option. */
    size_t start = 0;
    while (start < len && name[start] == '-')
        start++;
    return len == start ? hs_strdup("model") : hs_strndup(name + start, len - start);
}

/* The absolute path with the folder's symbolic links resolved and the file's own kept: the parts of
 * a split model, or of a cache that links to blobs, lie beside the name and not beside the target.
 */
static hs_status absolute_path(const char *path, char **ret_path, struct hs_error *err)
{
    const char *base = base_name(path);
    HS_CLEANUP(hs_freep)
    char *folder = base == path ? hs_strdup(".") : hs_strndup(path, (size_t)(base - path));
    if (folder == NULL)
        return hs_error_nomem(err, "path of a model");
    HS_CLEANUP(hs_freep) char *resolved = NULL;
    hs_status status = hs_fs_realpath(folder, &resolved, err);
    if (status != HS_OK)
        return status;
    char *joined = hs_fs_join(resolved, base);
    if (joined == NULL)
        return hs_error_nomem(err, "path of a model");
    *ret_path = joined;
    return HS_OK;
}

/* ---- what the file says ---- */

enum { N_TYPES = 256 };

/* Sums over all files of a model. */
struct totals {
    uint64_t bytes[N_TYPES]; /* by tensor type, of tensors with at least two dimensions */
    uint64_t n_params;
    uint64_t size_bytes;
};

static void add_totals(const hs_gguf *gguf, struct totals *totals)
{
    totals->n_params += hs_gguf_n_params(gguf);
    totals->size_bytes += hs_gguf_file_size(gguf);
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        if (tensor->n_dims >= 2 && tensor->type < N_TYPES)
            totals->bytes[tensor->type] += tensor->size_bytes;
    }
}

static hs_status add_parts(const hs_gguf *gguf, const char *path, struct totals *totals,
                           struct hs_error *err)
{
    uint32_t n = hs_gguf_split_count(gguf);
    for (uint32_t i = 1; i < n; i++) {
        hs_gguf *part = NULL;
        hs_status status = hs_gguf_split_open(path, i, n, &part, err);
        if (status != HS_OK)
            return status;
        add_totals(part, totals);
        hs_gguf_free(part);
    }
    return HS_OK;
}

/* The type that holds most bytes. */
static const char *main_type(const struct totals *totals)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < N_TYPES; i++)
        if (totals->bytes[i] > totals->bytes[best])
            best = i;
    const struct hs_gguf_tensor_type *type = hs_gguf_tensor_type(best);
    return totals->bytes[best] == 0 || type == NULL ? "" : type->name;
}

static hs_status read_header(const hs_gguf *gguf, const char *path, struct hs_registry_model *model,
                             struct hs_error *err)
{
    struct totals totals = {0};
    add_totals(gguf, &totals);
    hs_status status = add_parts(gguf, path, &totals, err);
    char fingerprint[65] = "";
    if (status == HS_OK)
        status = hs_gguf_fingerprint(gguf, path, fingerprint, err);
    if (status != HS_OK)
        return status;
    uint64_t n_ctx_train = 0;
    if (hs_gguf_arch_u64(gguf, "context_length", &n_ctx_train) && n_ctx_train <= INT64_MAX)
        model->n_ctx_train = (int64_t)n_ctx_train;
    model->n_params = totals.n_params;
    model->size_bytes = totals.size_bytes;
    const struct hs_gguf_kv *architecture = hs_gguf_find(gguf, "general.architecture");
    model->architecture = architecture != NULL && architecture->type == HS_GGUF_STRING
                              ? hs_gguf_strdup(gguf, "general.architecture")
                              : hs_strdup("");
    model->quantization = hs_strdup(main_type(&totals));
    model->fingerprint = hs_strdup(fingerprint);
    if (model->architecture == NULL || model->quantization == NULL || model->fingerprint == NULL)
        return hs_error_nomem(err, "row of a model");
    return HS_OK;
}

static hs_status read_gguf(const char *path, struct hs_registry_model *model, struct hs_error *err)
{
    hs_gguf *gguf = NULL;
    hs_status status = hs_gguf_open(path, &gguf, err);
    if (status != HS_OK)
        return status;
    status = read_header(gguf, path, model, err);
    hs_gguf_free(gguf);
    return status;
}

static hs_status describe(const char *path, const char *source, struct hs_registry_model *model,
                          struct hs_error *err)
{
    hs_status status = absolute_path(path, &model->path, err);
    if (status != HS_OK)
        return status;
    struct stat info;
    if (stat(model->path, &info) != 0)
        return hs_error_errno(err, errno, "find", path);
    model->mtime_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    model->added_unix_ms = hs_clock_unix_ms();
    model->source = hs_strdup(source == NULL ? "" : source);
    model->sha256 = hs_strdup("");
    if (model->source == NULL || model->sha256 == NULL)
        return hs_error_nomem(err, "row of a model");
    return read_gguf(model->path, model, err);
}

hs_status hs_registry_model_describe(const char *path, const char *source,
                                     struct hs_registry_model *ret_model, struct hs_error *err)
{
    struct hs_registry_model model = {0};
    hs_status status = describe(path, source, &model, err);
    if (status != HS_OK) {
        hs_registry_model_free(&model);
        return status;
    }
    *ret_model = model;
    return HS_OK;
}

/* ---- rows ---- */

static hs_status read_row(hs_registry *registry, sqlite3_stmt *row, void *item,
                          struct hs_error *err)
{
    struct hs_registry_model *model = item;
    char **const texts[] = {&model->name,         &model->path,        &model->architecture,
                            &model->quantization, &model->fingerprint, &model->sha256,
                            &model->source};
    enum { N_TEXTS = sizeof texts / sizeof *texts };
    for (int i = 0; i < N_TEXTS; i++) {
        hs_status status = hs_registry_column(registry, row, i, texts[i], err);
        if (status != HS_OK)
            return status;
    }
    model->n_params = (uint64_t)sqlite3_column_int64(row, N_TEXTS);
    model->size_bytes = (uint64_t)sqlite3_column_int64(row, N_TEXTS + 1);
    model->mtime_ns = sqlite3_column_int64(row, N_TEXTS + 2);
    model->n_ctx_train = sqlite3_column_int64(row, N_TEXTS + 3);
    model->added_unix_ms = sqlite3_column_int64(row, N_TEXTS + 4);
    model->used_unix_ms = sqlite3_column_int64(row, N_TEXTS + 5);
    struct stat info;
    model->is_missing = stat(model->path, &info) != 0 || !S_ISREG(info.st_mode);
    return HS_OK;
}

/* All rows that match; `key` is bound when the statement has a parameter. */
static hs_status select_rows(hs_registry *registry, const char *sql, const char *key,
                             struct hs_registry_rows *ret_rows, struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    struct hs_registry_rows rows = {0};
    hs_status status =
        hs_registry_prepare(registry, sql, &statement, err, key == NULL ? "" : "s", key);
    if (status == HS_OK)
        status = hs_registry_read_rows(registry, statement, sizeof(struct hs_registry_model),
                                       read_row, &rows, err);
    if (status != HS_OK) {
        hs_registry_models_free(rows.items, rows.n);
        return status;
    }
    *ret_rows = rows;
    return HS_OK;
}

static hs_status not_found(const char *name, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_FOUND, "there is no model named '%.120s'", name);
    hs_error_hint(err, "run `hyprstream model list` to see the names");
    return HS_NOT_FOUND;
}

/* The first match; HS_NOT_FOUND when there is none. */
static hs_status select_one(hs_registry *registry, const char *sql, const char *key,
                            struct hs_registry_model *ret_model, struct hs_error *err)
{
    struct hs_registry_rows rows = {0};
    hs_status status = select_rows(registry, sql, key, &rows, err);
    if (status != HS_OK)
        return status;
    if (rows.n == 0)
        return not_found(key, err);
    struct hs_registry_model *first = rows.items;
    *ret_model = *first;
    *first = (struct hs_registry_model){0};
    hs_registry_models_free(rows.items, rows.n);
    return HS_OK;
}

static const char SELECT_ALL[] = "SELECT " HS_REGISTRY_MODEL_COLUMNS " FROM models ORDER BY name";
static const char SELECT_BY_NAME[] =
    "SELECT " HS_REGISTRY_MODEL_COLUMNS " FROM models WHERE name = ?";
static const char SELECT_BY_PATH[] =
    "SELECT " HS_REGISTRY_MODEL_COLUMNS " FROM models WHERE path = ? ORDER BY name LIMIT 1";

/* Run a statement that gives no rows. */
static hs_status finish(hs_registry *registry, sqlite3_stmt *statement, struct hs_error *err)
{
    bool has_row = false;
    return hs_registry_step(registry, statement, &has_row, err);
}

hs_status hs_registry_model_write(hs_registry *registry, const struct hs_registry_model *model,
                                  struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(
        registry,
        "INSERT OR REPLACE INTO models (" HS_REGISTRY_MODEL_COLUMNS
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &statement, err, "sssssssiiiiii", model->name, model->path, model->architecture,
        model->quantization, model->fingerprint, model->sha256, model->source,
        (int64_t)model->n_params, (int64_t)model->size_bytes, model->mtime_ns, model->n_ctx_train,
        model->added_unix_ms, model->used_unix_ms);
    if (status != HS_OK)
        return status;
    return finish(registry, statement, err);
}

/* ---- adding ---- */

struct add {
    struct hs_registry_model *model; /* name NULL: to be chosen */
    bool is_named;
};

static hs_status name_taken(const struct hs_registry_model *by, struct hs_error *err)
{
    hs_error_set(err, HS_ALREADY_EXISTS, "the name '%s' belongs to another file, '%s'", by->name,
                 by->path);
    hs_error_hint(err, "choose another name with --name, or run `hyprstream model rm %s` first",
                  by->name);
    return HS_ALREADY_EXISTS;
}

/* What the row of the same file knew and is still true. */
static void inherit(struct hs_registry_model *model, struct hs_registry_model *old)
{
    bool is_same = strcmp(model->fingerprint, old->fingerprint) == 0 &&
                   model->size_bytes == old->size_bytes && model->mtime_ns == old->mtime_ns;
    char *name = model->name;
    model->name = old->name;
    old->name = name;
    model->added_unix_ms = old->added_unix_ms;
    model->used_unix_ms = old->used_unix_ms;
    if (is_same) {
        char *sha256 = model->sha256;
        model->sha256 = old->sha256;
        old->sha256 = sha256;
    }
}

/* A row that a scan made gives way to the name that somebody gives the file. */
static hs_status forget_found(hs_registry *registry, const struct hs_registry_model *model,
                              struct hs_error *err)
{
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = hs_registry_prepare(
        registry,
        "DELETE FROM models WHERE path = ? AND name <> ? AND source = 'found' AND "
        "used_unix_ms = 0",
        &statement, err, "ss", model->path, model->name);
    return status == HS_OK ? finish(registry, statement, err) : status;
}

static hs_status work_add(hs_registry *registry, void *user, struct hs_error *err)
{
    struct add *add = user;
    struct hs_registry_model old = {0};
    hs_status status = HS_NOT_FOUND;
    if (!add->is_named)
        status = select_one(registry, SELECT_BY_PATH, add->model->path, &old, err);
    if (status == HS_NOT_FOUND)
        status = select_one(registry, SELECT_BY_NAME, add->model->name, &old, err);
    if (status == HS_OK && strcmp(old.path, add->model->path) != 0)
        status = name_taken(&old, err);
    else if (status == HS_OK)
        inherit(add->model, &old);
    else if (status == HS_NOT_FOUND)
        status = HS_OK;
    hs_registry_model_free(&old);
    if (status == HS_OK)
        status = hs_registry_model_write(registry, add->model, err);
    if (status == HS_OK && add->is_named)
        status = forget_found(registry, add->model, err);
    return status;
}

hs_status hs_registry_model_add(hs_registry *registry, const char *path, const char *name,
                                const char *source, struct hs_registry_model *ret_model,
                                struct hs_error *err)
{
    struct hs_registry_model model = {0};
    struct add add = {.model = &model, .is_named = name != NULL};
    hs_status status = name == NULL ? HS_OK : check_name(name, err);
    if (status == HS_OK)
        status = hs_registry_model_describe(path, source, &model, err);
    if (status != HS_OK)
        return status;
    model.name = name == NULL ? hs_registry_default_name(path) : hs_strdup(name);
    if (model.name == NULL)
        status = hs_error_nomem(err, "row of a model");
    else
        status = hs_registry_run(registry, true, work_add, &add, err);
    if (status == HS_OK)
        hs_registry_sync(registry);
    if (status != HS_OK || ret_model == NULL)
        hs_registry_model_free(&model);
    else
        *ret_model = model;
    return status;
}

/* ---- the other calls ---- */

struct get {
    const char *name;
    struct hs_registry_model *ret_model;
};

static hs_status work_get(hs_registry *registry, void *user, struct hs_error *err)
{
    const struct get *get = user;
    return select_one(registry, SELECT_BY_NAME, get->name, get->ret_model, err);
}

hs_status hs_registry_model_get(hs_registry *registry, const char *name,
                                struct hs_registry_model *ret_model, struct hs_error *err)
{
    struct get get = {.name = name, .ret_model = ret_model};
    return hs_registry_run(registry, false, work_get, &get, err);
}

static hs_status work_list(hs_registry *registry, void *user, struct hs_error *err)
{
    return select_rows(registry, SELECT_ALL, NULL, user, err);
}

hs_status hs_registry_model_list(hs_registry *registry, struct hs_registry_model **ret_rows,
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

struct change {
    const char *sql; /* its last parameter is the name */
    const char *name;
    const char *text;
    int64_t time_ms;
};

static hs_status work_change(hs_registry *registry, void *user, struct hs_error *err)
{
    const struct change *change = user;
    HS_CLEANUP(hs_registry_finalizep) sqlite3_stmt *statement = NULL;
    hs_status status = HS_OK;
    if (change->text != NULL)
        status = hs_registry_prepare(registry, change->sql, &statement, err, "ss", change->text,
                                     change->name);
    else if (change->time_ms != 0)
        status = hs_registry_prepare(registry, change->sql, &statement, err, "is", change->time_ms,
                                     change->name);
    else
        status = hs_registry_prepare(registry, change->sql, &statement, err, "s", change->name);
    if (status == HS_OK)
        status = finish(registry, statement, err);
    if (status == HS_OK && sqlite3_changes(registry->db) == 0)
        status = not_found(change->name, err);
    return status;
}

hs_status hs_registry_model_remove(hs_registry *registry, const char *name, struct hs_error *err)
{
    struct change change = {.sql = "DELETE FROM models WHERE name = ?", .name = name};
    return hs_registry_run(registry, true, work_change, &change, err);
}

hs_status hs_registry_model_set_sha256(hs_registry *registry, const char *name, const char *sha256,
                                       struct hs_error *err)
{
    size_t len = strlen(sha256);
    if ((len != 64 && len != 0) || strspn(sha256, "0123456789abcdef") != len)
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a SHA-256 has 64 lower-case hex digits, not '%.80s'", sha256);
    struct change change = {
        .sql = "UPDATE models SET sha256 = ? WHERE name = ?", .name = name, .text = sha256};
    return hs_registry_run(registry, true, work_change, &change, err);
}

hs_status hs_registry_model_touch(hs_registry *registry, const char *name, struct hs_error *err)
{
    struct change change = {.sql = "UPDATE models SET used_unix_ms = ? WHERE name = ?",
                            .name = name,
                            .time_ms = hs_clock_unix_ms()};
    return hs_registry_run(registry, true, work_change, &change, err);
}
