/* cmd_adapter_route.c - `hyprstream adapter route`: which adapters a text would be answered with.
 */
#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"
#include "rest/adapter_table.h"
#include "route_rules.h"

#define ROUTE_N_CTX 1024 /* nothing is generated; texts are looked at so far */

static void free_engine(hs_engine **engine)
{
    hs_engine_free(*engine);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static void free_table(hs_adapter_table **table)
{
    hs_adapter_table_free(*table);
}

static bool load_progress(float fraction, void *user)
{
    const struct hs_command_io *io = user;
    io->progress(io->self, "loading", fraction, NULL);
    return !io->interrupted(io->self);
}

/* The model, and in the engine every adapter of the registry that was made for it. */
static hs_status load(const struct hs_command_args *args, hs_registry **registry, hs_engine *engine,
                      struct hs_model_info *ret_info, struct hs_error *err)
{
    struct hs_model_choice model HS_CLEANUP(hs_model_choice_free) = {0};
    hs_status status = hs_model_choose(args, NULL, registry, &model, err);
    if (status) {
        return status;
    }
    if (model.note[0]) {
        hs_err_info(args->io, "%s", model.note);
    }
    char id[HS_ID_MAX];
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_ctx = ROUTE_N_CTX;
    params.n_seq_max = 1;
    params.n_threads = (int32_t)hs_config_int(args->config, HS_CFG_THREADS);
    params.progress = load_progress;
    params.progress_user = (void *)args->io;
    status = hs_engine_load_model(engine, model.path, model.name, &params, id, err);
    args->io->progress(args->io->self, "", -1, NULL);
    return status ? status : hs_engine_model_info(engine, id, ret_info, err);
}

static hs_status print_json(const struct hs_command_args *args, const struct hs_route *route,
                            struct hs_error *err)
{
    json_t *adapters = json_array();
    for (int32_t i = 0; i < route->n_choices; i++) {
        const struct hs_route_choice *choice = &route->choices[i];
        json_t *item = json_object();
        hs_json_set(&item, "name", json_string(choice->name));
        hs_json_set(&item, "scale", json_real((double)choice->scale));
        hs_json_set(&item, "closeness", json_real((double)choice->closeness));
        hs_json_append(&adapters, item);
    }
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "adapters", adapters);
    hs_json_set(&object, "reason", json_string(route->reason));
    hs_json_set(&object, "closest", json_string(route->closest));
    hs_json_set(&object, "closeness", json_real((double)route->closeness));
    hs_json_set(&object, "background", json_real((double)route->background));
    return hs_json_print(args->io, object, false, err);
}

static hs_status print(const struct hs_command_args *args, const struct hs_route *route,
                       struct hs_error *err)
{
    hs_status status = HS_OK;
    for (int32_t i = 0; i < route->n_choices && !status; i++) {
        status = hs_out_printf(args->io, err, "%s:%g\n", route->choices[i].name,
                               (double)route->choices[i].scale);
    }
    hs_err_info(args->io, "%s%s", route->n_choices == 0 ? "no adapter: " : "", route->reason);
    return status;
}

hs_status hs_cmd_adapter_route(const struct hs_command_args *args, struct hs_error *err)
{
    hs_engine *engine HS_CLEANUP(free_engine) = NULL;
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    hs_adapter_table *table HS_CLEANUP(free_table) = NULL;
    struct hs_route_rules rules HS_CLEANUP(hs_route_rules_free) = {0};
    const struct hs_config_value *given = &args->config->values[HS_CFG_ROUTE];
    struct hs_model_info info;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.adapter_budget_bytes = 1; /* none is loaded */
    hs_status status =
        hs_route_rules_parse((const char *const *)given->items, given->n_items, &rules, err);
    status = status ? status : hs_registry_need(args->paths, &registry, err);
    status = status ? status : hs_engine_create(&params, &engine, err);
    status = status ? status : load(args, &registry, engine, &info, err);
    status = status ? status : hs_adapter_table_new(engine, registry, &info, 1, &table, err);
    if (status) {
        return status;
    }
    hs_adapter_table_sync(table, true);
    struct hs_route_params how;
    struct hs_route route;
    hs_route_params_defaults(&how);
    how.max_adapters = (int32_t)hs_config_int(args->config, HS_CFG_ROUTE_ADAPTERS);
    how.rules = rules.rules;
    how.n_rules = rules.n;
    status = hs_engine_route(engine, info.id, args->args[0], &how, &route, err);
    if (status) {
        return status;
    }
    return hs_config_bool(args->config, HS_CFG_JSON) ? print_json(args, &route, err)
                                                     : print(args, &route, err);
}
