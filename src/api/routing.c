#include "routing.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model_open.h"

#define EMBED_N_CTX 1024 /* texts are compared by their first words */

static enum hs_route_method method_of(const char *name)
{
    enum hs_route_method method = HS_ROUTE_ARROW;
    while (method > HS_ROUTE_BOTH && strcmp(hs_route_method_name(method), name) != 0) {
        method--;
    }
    return method;
}

hs_status hs_routing_read(const struct hs_config *config, struct hs_routing *routing,
                          struct hs_error *err)
{
    const struct hs_config_value *rules = &config->values[HS_CFG_ROUTE];
    hs_route_params_defaults(&routing->params);
    routing->params.max_adapters = (int32_t)hs_config_int(config, HS_CFG_ROUTE_ADAPTERS);
    routing->params.method = method_of(hs_config_str(config, HS_CFG_ROUTE_METHOD));
    hs_status status = hs_route_rules_parse((const char *const *)rules->items, rules->n_items,
                                            &routing->rules, err);
    routing->params.rules = routing->rules;
    return status;
}

hs_status hs_routing_load_model(const struct hs_command_args *args, hs_engine *engine,
                                hs_registry **registry, struct hs_routing *routing,
                                struct hs_error *err)
{
    struct hs_model_choice choice HS_CLEANUP(hs_model_choice_free) = {0};
    const char *ref = hs_config_str(args->config, HS_CFG_ROUTE_MODEL);
    char name[HS_ID_MAX], id[HS_ID_MAX + sizeof "route/"];
    struct hs_model_params params;
    if (ref == NULL || *ref == '\0' || routing->embed_model_id[0] != '\0') {
        return HS_OK;
    }
    hs_status status = hs_model_resolve(args->paths, ref, registry, &choice, err);
    if (!status) {
        hs_model_params_defaults(&params);
        params.n_ctx = EMBED_N_CTX;
        params.n_seq_max = 1;
        params.n_threads = (int32_t)hs_config_int(args->config, HS_CFG_THREADS);
        hs_model_choice_id(&choice, name);
        snprintf(id, sizeof id, "route/%s", name);
        id[HS_ID_MAX - 1] = '\0';
        status = hs_model_open_as(args, &choice, id, engine, &params, routing->embed_model_id, err);
    }
    if (status) {
        hs_error_prefix(err, "--route-model");
        return status;
    }
    routing->params.embed_model_id = routing->embed_model_id;
    return HS_OK;
}

hs_status hs_routing_open(const struct hs_command_args *args, hs_engine *engine,
                          const char *model_id, hs_registry **registry, struct hs_routing *routing,
                          struct hs_error *err)
{
    hs_status status = hs_routing_load_model(args, engine, registry, routing, err);
    status = status ? status : hs_registry_need(args->paths, registry, err);
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
    *routing = (struct hs_routing){0};
}
