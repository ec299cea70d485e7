/* cmd_model.c - `hyprstream model list|show|add`: the registry of models and what a file says. */
#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/log.h"
#include "json_out.h"
#include "model_ref.h"
#include "models/families.h"
#include "storage/gguf.h"
#include "table.h"

#define MAX_TENSOR_TYPES 64

struct model_rows {
    struct hs_registry_model *rows;
    size_t n;
};

static void free_rows(struct model_rows *list)
{
    hs_registry_models_free(list->rows, list->n);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static void free_gguf(hs_gguf **gguf)
{
    hs_gguf_free(*gguf);
}

/* ---- list ---- */

static json_t *row_object(const struct hs_registry_model *row)
{
    json_t *object = json_object();
    hs_json_set(&object, "name", hs_json_text(row->name));
    hs_json_set(&object, "path", hs_json_text(row->path));
    hs_json_set(&object, "architecture", hs_json_text(row->architecture));
    hs_json_set(&object, "quantization", hs_json_text(row->quantization));
    hs_json_set(&object, "n_params", json_integer((json_int_t)row->n_params));
    hs_json_set(&object, "size_bytes", json_integer((json_int_t)row->size_bytes));
    hs_json_set(&object, "n_ctx_train", json_integer(row->n_ctx_train));
    hs_json_set(&object, "fingerprint", hs_json_text(row->fingerprint));
    bool has_hash = row->sha256 && *row->sha256;
    hs_json_set(&object, "sha256", hs_json_text(has_hash ? row->sha256 : NULL));
    hs_json_set(&object, "source", hs_json_text(row->source));
    hs_json_set(&object, "added_unix_ms", json_integer(row->added_unix_ms));
    hs_json_set(&object, "used_unix_ms", json_integer(row->used_unix_ms));
    hs_json_set(&object, "missing", json_boolean(row->is_missing));
    return object;
}

static hs_status print_table(const struct hs_command_io *io, const struct model_rows *list,
                             struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 6, 1u << 2 | 1u << 4, "NAME ARCHITECTURE PARAMS TYPE SIZE USED");
    for (size_t i = 0; i < list->n; i++) {
        const struct hs_registry_model *row = &list->rows[i];
        char params[32], size[32], used[32];
        hs_table_cell(&table, "%s", row->name);
        hs_table_cell(&table, "%s", row->architecture);
        hs_table_cell(&table, "%s", hs_format_count(row->n_params, params, sizeof params));
        hs_table_cell(&table, "%s", row->quantization);
        hs_table_cell(&table, "%s", hs_format_bytes(row->size_bytes, size, sizeof size));
        hs_format_time(row->used_unix_ms, used, sizeof used);
        hs_table_cell(&table, "%s", row->is_missing ? "file is missing" : used);
    }
    return hs_table_print(&table, io, err);
}

hs_status hs_cmd_model_list(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct model_rows list HS_CLEANUP(free_rows) = {0};
    hs_status status = hs_names_check(args, err);
    if (!status) {
        status = hs_registry_need(args->paths, &registry, err);
    }
    if (!status) {
        status = hs_registry_model_list(registry, &list.rows, &list.n, err);
    }
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON) && !args->options[HS_OPT_NAMES]) {
        json_t *array HS_CLEANUP(hs_json_freep) = json_array();
        for (size_t i = 0; i < list.n; i++) {
            hs_json_append(&array, row_object(&list.rows[i]));
        }
        return hs_json_print(args->io, array, false, err);
    }
    if (args->options[HS_OPT_NAMES]) {
        for (size_t i = 0; i < list.n && !status; i++) {
            status = hs_out_printf(args->io, err, "%s\n", list.rows[i].name);
        }
        return status;
    }
    if (list.n == 0) {
        hs_err_info(args->io, "no models yet; 'hyprstream model add PATH' adds one");
        return HS_OK;
    }
    return print_table(args->io, &list, err);
}

/* ---- show ---- */

struct type_count {
    uint32_t type;
    size_t n_tensors;
    uint64_t size_bytes;
};

static size_t count_types(const hs_gguf *gguf, struct type_count counts[MAX_TENSOR_TYPES])
{
    size_t n = 0;
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        size_t at = 0;
        while (at < n && counts[at].type != tensor->type) {
            at++;
        }
        if (at == n && n < MAX_TENSOR_TYPES) {
            counts[n++] = (struct type_count){.type = tensor->type};
        }
        if (at < n) {
            counts[at].n_tensors++;
            counts[at].size_bytes += tensor->size_bytes;
        }
    }
    return n;
}

static const char *type_name(uint32_t number)
{
    const struct hs_gguf_tensor_type *type = hs_gguf_tensor_type(number);
    return type ? type->name : "?";
}

/* Keys of the file that `show` prints; arch: "<architecture>." stands before the key. */
static const struct {
    const char *title, *json_key, *key;
    bool is_number, is_arch;
} shown_keys[] = {
    {"name", "general_name", "general.name", false, false},
    {"licence", "license", "general.license", false, false},
    {"licence link", "license_link", "general.license.link", false, false},
    {"context", "n_ctx_train", "context_length", true, true},
    {"layers", "n_layer", "block_count", true, true},
    {"embedding", "n_embd", "embedding_length", true, true},
    {"heads", "n_head", "attention.head_count", true, true},
    {"KV heads", "n_head_kv", "attention.head_count_kv", true, true},
    {"tokenizer", "tokenizer", "tokenizer.ggml.model", false, false},
    {"chat template", "chat_template", "tokenizer.chat_template", false, false},
};

static json_t *show_object(const struct hs_model_choice *model, const hs_gguf *gguf)
{
    json_t *object = json_object();
    HS_CLEANUP(hs_freep) char *architecture = hs_gguf_strdup(gguf, "general.architecture");
    hs_json_set(&object, "name", hs_json_text(model->name));
    hs_json_set(&object, "path", hs_json_text(model->path));
    hs_json_set(&object, "size_bytes", json_integer((json_int_t)hs_gguf_file_size(gguf)));
    hs_json_set(&object, "gguf_version", json_integer(hs_gguf_version(gguf)));
    hs_json_set(&object, "architecture", hs_json_text(architecture));
    hs_json_set(&object, "n_params", json_integer((json_int_t)hs_gguf_n_params(gguf)));
    hs_json_set(&object, "weights_bytes", json_integer((json_int_t)hs_gguf_weights_bytes(gguf)));
    for (size_t i = 0; i < sizeof shown_keys / sizeof shown_keys[0]; i++) {
        uint64_t number = 0;
        json_t *value = NULL;
        if (shown_keys[i].is_number) {
            bool found = hs_gguf_arch_u64(gguf, shown_keys[i].key, &number);
            value = found ? json_integer((json_int_t)number) : json_null();
        } else {
            HS_CLEANUP(hs_freep) char *text = hs_gguf_strdup(gguf, shown_keys[i].key);
            value = hs_json_text(text);
        }
        hs_json_set(&object, shown_keys[i].json_key, value);
    }
    struct type_count counts[MAX_TENSOR_TYPES];
    size_t n_types = count_types(gguf, counts);
    json_t *types = json_array();
    for (size_t i = 0; i < n_types; i++) {
        json_t *type = json_object();
        hs_json_set(&type, "type", json_string(type_name(counts[i].type)));
        hs_json_set(&type, "n_tensors", json_integer((json_int_t)counts[i].n_tensors));
        hs_json_set(&type, "size_bytes", json_integer((json_int_t)counts[i].size_bytes));
        hs_json_append(&types, type);
    }
    hs_json_set(&object, "tensors", types);
    return object;
}

static void add_row(struct hs_table *table, const char *title, const char *text)
{
    hs_table_cell(table, "%s", title);
    hs_table_cell(table, "%s", text);
}

static void add_file_rows(struct hs_table *table, const struct hs_model_choice *model,
                          const hs_gguf *gguf)
{
    char text[64];
    HS_CLEANUP(hs_freep) char *architecture = hs_gguf_strdup(gguf, "general.architecture");
    if (model->name) {
        add_row(table, "model", model->name);
    }
    add_row(table, "file", model->path);
    add_row(table, "size", hs_format_bytes(hs_gguf_file_size(gguf), text, sizeof text));
    add_row(table, "architecture", architecture ? architecture : "-");
    add_row(table, "parameters", hs_format_count(hs_gguf_n_params(gguf), text, sizeof text));
}

static void add_key_rows(struct hs_table *table, const hs_gguf *gguf)
{
    for (size_t i = 0; i < sizeof shown_keys / sizeof shown_keys[0]; i++) {
        uint64_t number = 0;
        HS_CLEANUP(hs_freep) char *text = NULL;
        if (!shown_keys[i].is_number) {
            text = hs_gguf_strdup(gguf, shown_keys[i].key);
        } else if (hs_gguf_arch_u64(gguf, shown_keys[i].key, &number)) {
            text = hs_asprintf("%llu", (unsigned long long)number);
        }
        if (strcmp(shown_keys[i].json_key, "chat_template") == 0) {
            add_row(table, shown_keys[i].title, text ? "yes (below)" : "none");
        } else if (text) {
            add_row(table, shown_keys[i].title, text);
        }
    }
}

static hs_status print_show(const struct hs_command_io *io, const struct hs_model_choice *model,
                            const hs_gguf *gguf, struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 2, 0, NULL);
    add_file_rows(&table, model, gguf);
    add_key_rows(&table, gguf);
    struct type_count counts[MAX_TENSOR_TYPES];
    size_t n_types = count_types(gguf, counts);
    for (size_t i = 0; i < n_types; i++) {
        char size[32];
        hs_table_cell(&table, "%s", i == 0 ? "tensors" : "");
        hs_table_cell(&table, "%zu of type %s, %s", counts[i].n_tensors, type_name(counts[i].type),
                      hs_format_bytes(counts[i].size_bytes, size, sizeof size));
    }
    hs_status status = hs_table_print(&table, io, err);
    HS_CLEANUP(hs_freep) char *chat_template = hs_gguf_strdup(gguf, "tokenizer.chat_template");
    if (!status && chat_template) {
        status = hs_out_printf(io, err, "\nchat template:\n");
    }
    if (!status && chat_template) {
        status = hs_out_text(io, chat_template, strlen(chat_template), err);
    }
    return !status && chat_template ? io->out(io->self, "\n", 1, err) : status;
}

hs_status hs_cmd_model_show(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_model_choice model HS_CLEANUP(hs_model_choice_free) = {0};
    hs_gguf *gguf HS_CLEANUP(free_gguf) = NULL;
    hs_status status = hs_model_resolve(args->paths, args->args[0], &registry, &model, err);
    if (!status) {
        status = hs_gguf_open(model.path, &gguf, err);
    }
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = show_object(&model, gguf);
        return hs_json_print(args->io, object, false, err);
    }
    return print_show(args->io, &model, gguf, err);
}

/* ---- add ---- */

static hs_status check_file(const char *path, struct hs_error *err)
{
    hs_gguf *gguf HS_CLEANUP(free_gguf) = NULL;
    hs_status status = hs_gguf_open(path, &gguf, err);
    status = status ? status : hs_gguf_check_model(gguf, path, err);
    if (status) {
        return status;
    }
    /* only llama.cpp knows all that it can run, and it is asked when a model is loaded */
    HS_CLEANUP(hs_freep) char *architecture = hs_gguf_strdup(gguf, "general.architecture");
    if (architecture && !hs_model_family_find(architecture)) {
        hs_log(HS_LOG_WARN, "model",
               "architecture '%s' is not in the table of known ones: whether llama.cpp can run it "
               "shows at the first use",
               architecture);
    }
    return HS_OK;
}

hs_status hs_cmd_model_add(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    HS_CLEANUP(hs_freep) char *path = NULL;
    hs_status status = hs_fs_realpath(args->args[0], &path, err);
    if (status == HS_NOT_FOUND) {
        return hs_error_hint(err, "give the path of a GGUF file on this machine; 'hyprstream model "
                                  "list' shows the models that are known");
    }
    status = status ? status : check_file(path, err);
    if (!status) {
        status = hs_registry_need(args->paths, &registry, err);
    }
    if (status) {
        return status;
    }
    struct hs_registry_model row = {0};
    status = hs_registry_model_add(registry, path, args->options[HS_OPT_NAME], "added", &row, err);
    if (status == HS_ALREADY_EXISTS && !(err && err->hint[0])) {
        hs_error_hint(err, "choose another name with --name");
    }
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = row_object(&row);
        status = hs_json_print(args->io, object, false, err);
    } else {
        char params[32];
        status =
            hs_out_printf(args->io, err, "%s (%s, %s parameters, %s)\n", row.name, row.architecture,
                          hs_format_count(row.n_params, params, sizeof params), row.quantization);
    }
    hs_registry_model_free(&row);
    return status;
}
