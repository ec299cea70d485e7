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
    struct hs_route_params params; /* borrows the rules */
    hs_route_rules *rules;
    struct hs_model_info model;
    hs_adapter_table *table; /* hs_routing_open only */
};

/* The settings alone. Errors: those of hs_route_rules_parse. */
HS_CHECKED hs_status hs_routing_read(const struct hs_config *config, struct hs_routing *routing,
                                     struct hs_error *err);
/* Also every adapter of the registry that was made for the model, into the engine. *registry as
 * hs_registry_need. */
HS_CHECKED hs_status hs_routing_open(const struct hs_command_args *args, hs_engine *engine,
                                     const char *model_id, hs_registry **registry,
                                     struct hs_routing *routing, struct hs_error *err);
void hs_routing_close(struct hs_routing *routing);

#endif
