/* cmd_adapter_route.c - `hyprstream adapter route`: which adapters a text would be answered with.
 */
#include "api/output.h"
#include "json_out.h"
#include "model_open.h"
#include "routing.h"

#define ROUTE_N_CTX 1024 /* nothing is generated; texts are looked at so far */

struct command {
    hs_registry *registry;
    hs_engine *engine;
    struct hs_routing routing;
};

static void command_clear(struct command *cmd)
{
    hs_routing_close(&cmd->routing);
    hs_engine_free(cmd->engine);
    hs_registry_close(cmd->registry);
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
        hs_json_set(&item, "arrow", json_real((double)choice->arrow));
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
    struct command cmd HS_CLEANUP(command_clear) = {0};
    struct hs_engine_params params;
    struct hs_model_params load;
    struct hs_route route;
    char id[HS_ID_MAX];
    hs_engine_params_defaults(&params);
    params.adapter_budget_bytes = 1; /* none is loaded */
    hs_model_params_defaults(&load);
    load.n_ctx = ROUTE_N_CTX;
    load.n_seq_max = 1;
    load.n_threads = (int32_t)hs_config_int(args->config, HS_CFG_THREADS);
    hs_status status = hs_routing_read(args->config, &cmd.routing, err);
    status = status ? status : hs_engine_create(&params, &cmd.engine, err);
    status = status ? status : hs_model_open(args, &cmd.registry, cmd.engine, &load, id, err);
    status =
        status ? status : hs_routing_open(args, cmd.engine, id, &cmd.registry, &cmd.routing, err);
    status = status
                 ? status
                 : hs_engine_route(cmd.engine, id, args->args[0], &cmd.routing.params, &route, err);
    if (status) {
        return status;
    }
    return hs_config_bool(args->config, HS_CFG_JSON) ? print_json(args, &route, err)
                                                     : print(args, &route, err);
}
