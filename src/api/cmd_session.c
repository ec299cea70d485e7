/* cmd_session.c - `hyprstream session list|show|rm`: what lies in the sessions folder. */
#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"
#include "storage/session_store.h"
#include "table.h"

struct names {
    char **items;
    size_t n;
};

static void free_names(struct names *names)
{
    hs_session_names_free(names->items, names->n);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

/* ---- list ---- */

static void add_object(json_t **array, const char *name, const struct hs_session_record *record,
                       uint64_t size)
{
    json_t *object = json_object();
    hs_json_set(&object, "name", hs_json_text(name));
    hs_json_set(&object, "model", hs_json_text(record->model_name));
    hs_json_set(&object, "n_messages", json_integer((json_int_t)record->n_messages));
    hs_json_set(&object, "size_bytes", json_integer((json_int_t)size));
    hs_json_set(&object, "created_unix_ms", json_integer(record->created_unix_ms));
    hs_json_set(&object, "updated_unix_ms", json_integer(record->updated_unix_ms));
    hs_json_append(array, object);
}

static void add_row(struct hs_table *table, const char *name,
                    const struct hs_session_record *record, uint64_t size_bytes)
{
    char size[32], time[32];
    hs_table_cell(table, "%s", name);
    hs_table_cell(table, "%s", record->model_name ? record->model_name : "-");
    hs_table_cell(table, "%zu", record->n_messages);
    hs_table_cell(table, "%s", hs_format_bytes(size_bytes, size, sizeof size));
    hs_table_cell(table, "%s", hs_format_time(record->updated_unix_ms, time, sizeof time));
}

/* A session that cannot be read is told of and left out; the others are still worth a list. */
static hs_status print_list(const struct hs_command_args *args, const struct names *names,
                            struct hs_error *err)
{
    bool as_json = hs_config_bool(args->config, HS_CFG_JSON);
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 5, 1u << 2 | 1u << 3, "NAME MODEL MESSAGES SIZE CHANGED");
    json_t *array HS_CLEANUP(hs_json_freep) = json_array();
    for (size_t i = 0; i < names->n; i++) {
        struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
        uint64_t size = 0;
        struct hs_error own;
        if (hs_session_store_read(args->paths->sessions_dir, names->items[i], &record, &size,
                                  &own)) {
            hs_log(HS_LOG_WARN, "sessions", "%s", own.message);
        } else if (as_json) {
            add_object(&array, names->items[i], &record, size);
        } else {
            add_row(&table, names->items[i], &record, size);
        }
    }
    return as_json ? hs_json_print(args->io, array, false, err)
                   : hs_table_print(&table, args->io, err);
}

hs_status hs_cmd_session_list(const struct hs_command_args *args, struct hs_error *err)
{
    struct names names HS_CLEANUP(free_names) = {0};
    hs_status status = hs_names_check(args, err);
    if (!status) {
        status = hs_session_store_list(args->paths->sessions_dir, &names.items, &names.n, err);
    }
    if (status) {
        return status;
    }
    bool as_json = hs_config_bool(args->config, HS_CFG_JSON);
    if (args->options[HS_OPT_NAMES]) {
        for (size_t i = 0; i < names.n && !status; i++) {
            status = hs_out_printf(args->io, err, "%s\n", names.items[i]);
        }
        return status;
    }
    if (!as_json && names.n == 0) {
        hs_err_info(args->io, "no sessions yet; 'hyprstream chat --session NAME' begins one");
        return HS_OK;
    }
    return print_list(args, &names, err);
}

/* ---- show ---- */

static json_t *calls_json(const struct hs_message *message)
{
    json_t *calls = json_array();
    for (int32_t i = 0; i < message->n_tool_calls; i++) {
        json_t *call = json_object();
        hs_json_set(&call, "id", hs_json_text(message->tool_calls[i].id));
        hs_json_set(&call, "name", hs_json_text(message->tool_calls[i].name));
        hs_json_set(&call, "arguments", hs_json_text(message->tool_calls[i].arguments));
        hs_json_append(&calls, call);
    }
    return calls;
}

static hs_status print_json(const struct hs_command_args *args,
                            const struct hs_session_record *record, struct hs_error *err)
{
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "name", hs_json_text(args->args[0]));
    hs_json_set(&object, "model", hs_json_text(record->model_name));
    hs_json_set(&object, "overflow",
                json_string(record->overflow == HS_OVERFLOW_SHIFT ? "shift" : "stop"));
    hs_json_set(&object, "created_unix_ms", json_integer(record->created_unix_ms));
    hs_json_set(&object, "updated_unix_ms", json_integer(record->updated_unix_ms));
    json_t *messages = json_array();
    for (size_t i = 0; i < record->n_messages; i++) {
        const struct hs_message *message = &record->messages[i];
        json_t *entry = json_object();
        hs_json_set(&entry, "role", hs_json_text(message->role));
        hs_json_set(&entry, "content", hs_json_text(message->content));
        if (message->reasoning) {
            hs_json_set(&entry, "reasoning", hs_json_text(message->reasoning));
        }
        if (message->tool_call_id) {
            hs_json_set(&entry, "tool_call_id", hs_json_text(message->tool_call_id));
        }
        if (message->name) {
            hs_json_set(&entry, "name", hs_json_text(message->name));
        }
        if (message->n_tool_calls > 0) {
            hs_json_set(&entry, "tool_calls", calls_json(message));
        }
        hs_json_append(&messages, entry);
    }
    hs_json_set(&object, "messages", messages);
    return hs_json_print(args->io, object, false, err);
}

/* A line for each call: "-> look({"a": 1})". */
static hs_status print_calls(const struct hs_command_io *io, const struct hs_message *message,
                             struct hs_error *err)
{
    hs_status status = HS_OK;
    for (int32_t i = 0; i < message->n_tool_calls && !status; i++) {
        const struct hs_tool_call *call = &message->tool_calls[i];
        const char *const parts[] = {i == 0 && message->content[0] == '\0' ? "-> " : "\n-> ",
                                     call->name, "(", call->arguments, ")"};
        for (size_t k = 0; k < sizeof parts / sizeof *parts && !status; k++) {
            status = hs_out_text(io, parts[k], strlen(parts[k]), err);
        }
    }
    return status;
}

static hs_status print_message(const struct hs_command_io *io, const struct hs_message *message,
                               bool is_first, struct hs_error *err)
{
    struct hs_buf role HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    if (hs_safe_text(message->role, strlen(message->role), true, &role)) {
        return hs_error_nomem(err, "output");
    }
    hs_status status =
        hs_out_printf(io, err, "%s%s%s:%s\n", is_first ? "" : "\n", io->color_out ? "\033[1m" : "",
                      role.len ? role.data : "", io->color_out ? "\033[0m" : "");
    if (!status) {
        status = hs_out_text(io, message->content, strlen(message->content), err);
    }
    if (!status) {
        status = print_calls(io, message, err);
    }
    return status ? status : io->out(io->self, "\n", 1, err);
}

hs_status hs_cmd_session_show(const struct hs_command_args *args, struct hs_error *err)
{
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    hs_status status =
        hs_session_store_read(args->paths->sessions_dir, args->args[0], &record, NULL, err);
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        return print_json(args, &record, err);
    }
    for (size_t i = 0; i < record.n_messages && !status; i++) {
        status = print_message(args->io, &record.messages[i], i == 0, err);
    }
    return status;
}

/* ---- rm ---- */

static hs_status may_remove(const struct hs_command_args *args, bool *ret_yes, struct hs_error *err)
{
    const char *name = args->args[0];
    *ret_yes = args->options[HS_OPT_FORCE] != NULL;
    if (*ret_yes) {
        return HS_OK;
    }
    if (!args->io->in_is_terminal) {
        hs_status status =
            hs_error_set(err, HS_INVALID_ARGUMENT, "session '%s' would be removed", name);
        hs_error_hint(err, "say --force to remove it without a question");
        return status;
    }
    HS_CLEANUP(hs_freep) char *question = hs_asprintf("Remove session '%s'?", name);
    return question ? args->io->confirm(args->io->self, question, ret_yes, err)
                    : hs_error_nomem(err, "question");
}

/* The folder first: a row without a folder is repaired by the next list, not the other way round.
 */
static hs_status remove_session(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    hs_status status = hs_session_store_remove(args->paths->sessions_dir, args->args[0], err);
    if (!status) {
        status = hs_registry_need(args->paths, &registry, err);
    }
    if (!status) {
        status = hs_registry_session_remove(registry, args->args[0], err);
        status = status == HS_NOT_FOUND ? HS_OK : status; /* it was never indexed */
    }
    return status;
}

hs_status hs_cmd_session_rm(const struct hs_command_args *args, struct hs_error *err)
{
    struct hs_session_record record HS_CLEANUP(hs_session_record_free) = {0};
    hs_status status =
        hs_session_store_read(args->paths->sessions_dir, args->args[0], &record, NULL, err);
    if (status == HS_NOT_FOUND || status == HS_INVALID_ARGUMENT) {
        return status; /* before anything is asked; a damaged one can be removed */
    }
    bool yes = false;
    status = may_remove(args, &yes, err);
    if (!status && !yes) {
        hs_err_printf(args->io, "nothing was removed\n");
        return HS_OK;
    }
    if (!status) {
        status = remove_session(args, err);
    }
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = json_object();
        hs_json_set(&object, "removed", hs_json_text(args->args[0]));
        return hs_json_print(args->io, object, false, err);
    }
    return hs_out_printf(args->io, err, "removed session %s\n", args->args[0]);
}
