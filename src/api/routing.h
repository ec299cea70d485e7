/*
 * routing.h - how adapters are chosen, from the settings, and for a command that chooses itself the
 * adapters to choose from.
 *
 * Owner:   hs_routing_close releases what is in it, before the engine and the registry go.
 * Threads: constant once opened.
 */
#ifndef API_ROUTING_H
#define API_ROUTING_H

#include "api/command.h"
#include "rest/adapter_table.h"

struct hs_routing {
    struct hs_route_params params; /* borrows the rules and the id */
    hs_route_rules *rules;
    char embed_model_id[HS_ID_MAX]; /* of --route-model; clients do not know it */
    struct hs_model_info model;     /* this and the table: hs_routing_open only */
    hs_adapter_table *table;
};

/* The settings alone. Errors: those of hs_route_rules_parse. */
HS_CHECKED hs_status hs_routing_read(const struct hs_config *config, struct hs_routing *routing,
                                     struct hs_error *err);
/* Load the model of --route-model, if there is one and it is not loaded, beside the others.
 * *registry as hs_registry_need. Errors: those of hs_model_resolve and hs_engine_load_model. */
HS_CHECKED hs_status hs_routing_load_model(const struct hs_command_args *args, hs_engine *engine,
                                           hs_registry **registry, struct hs_routing *routing,
                                           struct hs_error *err);
/* The same, and every adapter of the registry that was made for the model into the engine. */
HS_CHECKED hs_status hs_routing_open(const struct hs_command_args *args, hs_engine *engine,
                                     const char *model_id, hs_registry **registry,
                                     struct hs_routing *routing, struct hs_error *err);
void hs_routing_close(struct hs_routing *routing);

#endif
