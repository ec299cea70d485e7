/* cmd_adapter_eval.c - `hyprstream adapter eval`: how many questions are answered, by whom. */
#include <string.h>

#include "adapter_eval.h"
#include "api/output.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "chat_adapters.h"
#include "json_out.h"
#include "model_open.h"
#include "params.h"
#include "routing.h"
#include "table.h"

struct command {
    const struct hs_command_args *args;
    hs_registry *registry;
    hs_engine *engine;
    char model_id[HS_ID_MAX];
    struct hs_buf text;
    struct hs_eval_case *cases;
    char *names; /* the adapters', one behind the other */
    const char *adapters[HS_EVAL_ADAPTERS_MAX];
    struct hs_routing routing; /* empty without --routing */
    struct hs_eval eval;
};

static void command_clear(struct command *cmd)
{
    hs_eval_free(&cmd->eval);
    hs_routing_close(&cmd->routing);
    hs_engine_free(cmd->engine);
    hs_registry_close(cmd->registry);
    hs_buf_free(&cmd->text);
    hs_free(cmd->cases);
    hs_free(cmd->names);
}

static bool eval_progress(float fraction, void *user)
{
    const struct hs_command_io *io = ((const struct command *)user)->args->io;
    io->progress(io->self, "answering", fraction, NULL);
    return !io->interrupted(io->self);
}

/* ---- what is asked for ---- */

static hs_status read_cases(struct command *cmd, struct hs_error *err)
{
    const char *path = cmd->args->args[0];
    hs_status status = hs_fs_read(path, &cmd->text, err);
    if (status) {
        return status;
    }
    if (memchr(cmd->text.data == NULL ? "" : cmd->text.data, '\0', cmd->text.len)) {
        return hs_error_set(err, HS_BAD_FORMAT, "'%s' is no text: it holds a NUL byte", path);
    }
    status = hs_buf_append(&cmd->text, "", 0);
    if (status) {
        return hs_error_nomem(err, "questions");
    }
    status = hs_eval_parse(cmd->text.data, &cmd->cases, &cmd->eval.n_cases, err);
    if (status) {
        hs_error_prefix(err, "%s", path);
    }
    return status;
}

static hs_status add_name(struct command *cmd, const char *name, struct hs_error *err)
{
    for (size_t i = 0; i < cmd->eval.n_adapters; i++) {
        if (strcmp(cmd->adapters[i], name) == 0) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "adapter '%.80s' is named twice", name);
        }
    }
    if (cmd->eval.n_adapters == HS_EVAL_ADAPTERS_MAX) {
        return hs_error_set(err, HS_LIMIT, "more than %u adapters", HS_EVAL_ADAPTERS_MAX);
    }
    cmd->adapters[cmd->eval.n_adapters++] = name;
    return HS_OK;
}

/* Names of the flags, of which each may have several with commas. */
static hs_status read_names(struct command *cmd, struct hs_error *err)
{
    const struct hs_config_value *given = &cmd->args->config->values[HS_CFG_ADAPTER];
    struct hs_buf all HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    hs_status status = HS_OK;
    for (size_t i = 0; i < given->n_items && !status; i++) {
        status = hs_buf_printf(&all, "%s%s", i > 0 ? "," : "", given->items[i]);
    }
    status = status ? status : hs_buf_take(&all, &cmd->names, NULL);
    if (status) {
        return hs_error_set(err, status, "the names of the adapters are too long");
    }
    char *rest = cmd->names;
    for (char *name = strsep(&rest, ","); name != NULL && !status; name = strsep(&rest, ",")) {
        status = name[0] == '\0' ? HS_OK : add_name(cmd, name, err);
    }
    return status;
}

/* ---- the engine ---- */

static hs_status load_model(struct command *cmd, struct hs_error *err)
{
    const struct hs_config *config = cmd->args->config;
    struct hs_load_settings settings HS_CLEANUP(hs_load_settings_free) = {0};
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.adapter_budget_bytes = (uint64_t)hs_config_float(config, HS_CFG_ADAPTER_MEMORY);
    hs_status status = hs_load_settings_fill(config, &settings, err);
    status = status ? status : hs_engine_create(&params, &cmd->engine, err);
    return status ? status
                  : hs_model_open(cmd->args, &cmd->registry, cmd->engine, &settings.model,
                                  cmd->model_id, err);
}

/* Every adapter of the list that was made for the model may be chosen. */
static hs_status open_routing(struct command *cmd, struct hs_error *err)
{
    if (cmd->args->options[HS_OPT_ROUTING] == NULL) {
        return HS_OK;
    }
    hs_status status = hs_routing_read(cmd->args->config, &cmd->routing, err);
    cmd->eval.routing = &cmd->routing.params;
    return status ? status
                  : hs_routing_open(cmd->args, cmd->engine, cmd->model_id, &cmd->registry,
                                    &cmd->routing, err);
}

static hs_status answer(struct command *cmd, struct hs_error *err)
{
    const struct hs_command_args *args = cmd->args;
    hs_status status = open_routing(cmd, err);
    for (size_t i = 0; i < cmd->eval.n_adapters && !status; i++) {
        status = hs_adapter_bring(cmd->engine, cmd->model_id, args->paths, &cmd->registry,
                                  cmd->adapters[i], err);
    }
    if (status) {
        return status;
    }
    cmd->eval.engine = cmd->engine;
    cmd->eval.model_id = cmd->model_id;
    cmd->eval.cases = cmd->cases;
    cmd->eval.adapters = cmd->adapters;
    cmd->eval.with_likelihood = args->options[HS_OPT_LIKELIHOOD] != NULL;
    status = hs_eval_run(&cmd->eval, eval_progress, cmd, err);
    args->io->progress(args->io->self, "", -1, NULL);
    return status;
}

/* ---- the result ---- */

struct totals {
    size_t n_exact;
    double log_likelihood; /* of all expected answers */
    int64_t n_scored;
};

static struct totals add_up(const struct hs_eval_answer *answers, size_t n)
{
    struct totals totals = {0};
    for (size_t i = 0; i < n; i++) {
        totals.n_exact += answers[i].is_exact;
        totals.log_likelihood += answers[i].log_likelihood;
        totals.n_scored += answers[i].n_scored;
    }
    return totals;
}

static const char *column_name(const struct hs_eval *eval, size_t column)
{
    return column == 0                 ? "(none)"
           : column > eval->n_adapters ? "(routed)"
                                       : eval->adapters[column - 1];
}

/* Questions that the model alone or one of the named adapters answers: no choice does better. */
static size_t count_oracle(const struct hs_eval *eval)
{
    size_t n = 0;
    for (size_t row = 0; row < eval->n_cases; row++) {
        bool is_exact = false;
        for (size_t column = 0; column <= eval->n_adapters; column++) {
            is_exact |= eval->answers[column * eval->n_cases + row].is_exact;
        }
        n += is_exact;
    }
    return n;
}

static void add_oracle(const struct hs_eval *eval, struct hs_table *table)
{
    hs_table_cell(table, "%s", "(best choice)");
    hs_table_cell(table, "%zu", count_oracle(eval));
    hs_table_cell(table, "%zu", eval->n_cases);
    for (int i = 0; eval->with_likelihood && i < 2; i++) {
        hs_table_cell(table, "%s", "-");
    }
}

static hs_status print_table(const struct command *cmd, struct hs_error *err)
{
    const struct hs_eval *eval = &cmd->eval;
    struct hs_table table HS_CLEANUP(hs_table_free) = {0};
    bool with_likelihood = eval->with_likelihood;
    hs_table_init(&table, with_likelihood ? 5 : 3, with_likelihood ? 0x1E : 0x6,
                  with_likelihood ? "ADAPTER EXACT OF LOG-LIKELIHOOD PER-TOKEN"
                                  : "ADAPTER EXACT OF");
    for (size_t i = 0; i < hs_eval_n_columns(eval); i++) {
        struct totals totals = add_up(eval->answers + i * eval->n_cases, eval->n_cases);
        hs_table_cell(&table, "%s", column_name(eval, i));
        hs_table_cell(&table, "%zu", totals.n_exact);
        hs_table_cell(&table, "%zu", eval->n_cases);
        if (with_likelihood) {
            hs_table_cell(&table, "%.1f", totals.log_likelihood);
            hs_table_cell(&table, "%.3f", totals.log_likelihood / (double)totals.n_scored);
        }
    }
    if (eval->routing != NULL) {
        add_oracle(eval, &table);
    }
    return hs_table_print(&table, cmd->args->io, err);
}

static json_t *chosen_json(const struct hs_route *route)
{
    json_t *names = json_array();
    for (int32_t i = 0; i < route->n_choices; i++) {
        hs_json_append(&names, hs_json_text(route->choices[i].name));
    }
    return names;
}

static json_t *case_json(const struct hs_eval *eval, size_t column, size_t row)
{
    const struct hs_eval_answer *given = &eval->answers[column * eval->n_cases + row];
    json_t *object = json_object();
    hs_json_set(&object, "question", hs_json_text(eval->cases[row].question));
    hs_json_set(&object, "expected", hs_json_text(eval->cases[row].expected));
    hs_json_set(&object, "answer", hs_json_text(given->text));
    hs_json_set(&object, "exact", json_boolean(given->is_exact));
    if (eval->with_likelihood) {
        hs_json_set(&object, "log_likelihood", json_real(given->log_likelihood));
        hs_json_set(&object, "n_tokens", json_integer(given->n_scored));
    }
    if (column > eval->n_adapters) {
        hs_json_set(&object, "adapters", chosen_json(&eval->routes[row]));
        hs_json_set(&object, "reason", hs_json_text(eval->routes[row].reason));
    }
    return object;
}

static json_t *column_json(const struct hs_eval *eval, size_t column)
{
    struct totals totals = add_up(eval->answers + column * eval->n_cases, eval->n_cases);
    json_t *object = json_object(), *cases = json_array();
    for (size_t row = 0; row < eval->n_cases; row++) {
        hs_json_append(&cases, case_json(eval, column, row));
    }
    bool is_routed = column > eval->n_adapters;
    hs_json_set(&object, "adapter",
                hs_json_text(column == 0 || is_routed ? NULL : eval->adapters[column - 1]));
    hs_json_set(&object, "routed", json_boolean(is_routed));
    if (is_routed) {
        hs_json_set(&object, "best_choice", json_integer((json_int_t)count_oracle(eval)));
    }
    hs_json_set(&object, "exact", json_integer((json_int_t)totals.n_exact));
    hs_json_set(&object, "of", json_integer((json_int_t)eval->n_cases));
    if (eval->with_likelihood) {
        hs_json_set(&object, "log_likelihood", json_real(totals.log_likelihood));
        hs_json_set(&object, "n_tokens", json_integer(totals.n_scored));
    }
    hs_json_set(&object, "cases", cases);
    return object;
}

static hs_status print_json(const struct command *cmd, struct hs_error *err)
{
    struct hs_model_stats stats;
    hs_status status = hs_engine_model_stats(cmd->engine, cmd->model_id, &stats, err);
    if (status) {
        return status;
    }
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    json_t *results = json_array();
    for (size_t i = 0; i < hs_eval_n_columns(&cmd->eval); i++) {
        hs_json_append(&results, column_json(&cmd->eval, i));
    }
    hs_json_set(&object, "model", hs_json_text(cmd->model_id));
    hs_json_set(&object, "lora_engine", hs_json_text(hs_lora_engine_name(stats.lora_engine)));
    hs_json_set(&object, "mixed_batches", json_integer((json_int_t)stats.n_lora_decodes_mixed));
    hs_json_set(&object, "most_sets_in_a_batch", json_integer(stats.n_lora_sets_max));
    hs_json_set(&object, "results", results);
    return hs_json_print(cmd->args->io, object, false, err);
}

hs_status hs_cmd_adapter_eval(const struct hs_command_args *args, struct hs_error *err)
{
    struct command cmd HS_CLEANUP(command_clear) = {.args = args,
                                                    .text = HS_BUF_INIT(HS_EVAL_FILE_MAX)};
    hs_status status = read_cases(&cmd, err);
    status = status ? status : read_names(&cmd, err);
    status = status ? status : load_model(&cmd, err);
    status = status ? status : answer(&cmd, err);
    if (status) {
        return status;
    }
    return hs_config_bool(args->config, HS_CFG_JSON) ? print_json(&cmd, err)
                                                     : print_table(&cmd, err);
}
