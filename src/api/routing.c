#include "routing.h"

#include "model_ref.h"

hs_status hs_routing_read(const struct hs_config *config, struct hs_routing *routing,
                          struct hs_error *err)
{
    const struct hs_config_value *rules = &config->values[HS_CFG_ROUTE];
    hs_route_params_defaults(&routing->params);
    routing->params.max_adapters = (int32_t)hs_config_int(config, HS_CFG_ROUTE_ADAPTERS);
    hs_status status = hs_route_rules_parse((const char *const *)rules->items, rules->n_items,
                                            &routing->rules, err);
    routing->params.rules = routing->rules;
    return status;
}

hs_status hs_routing_open(const struct hs_command_args *args, hs_engine *engine,
                          const char *model_id, hs_registry **registry, struct hs_routing *routing,
                          struct hs_error *err)
{
    hs_status status = hs_registry_need(args->paths, registry, err);
    status = status ? status : hs_engine_model_info(engine, model_id, &routing->model, err);
    status =
        status ? status
               : hs_adapter_table_new(engine, *registry, &routing->model, 1, &routing->table, err);
    if (!status) {
        hs_adapter_table_sync(routing->table, true);
    }
    return status;
}

void hs_routing_close(struct hs_routing *routing)
{
    hs_adapter_table_free(routing->table);
    hs_route_rules_free(routing->rules);
}
