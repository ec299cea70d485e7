/*
 * route_rules.h - rules of routing, compiled: which of them a text matches. Parsing them is public
 * (hyprstream.h).
 */
#ifndef ADAPTERS_ROUTE_RULES_H
#define ADAPTERS_ROUTE_RULES_H

#include "adapters/adapter_ref.h"

struct hs_route_rule {
    char *pattern; /* as it was written */
    struct hs_adapter_ref adapters[HS_ROUTE_MAX];
    int32_t n_adapters;
};

/* The first rule that matches; NULL: none does. rules NULL: there are none. */
const struct hs_route_rule *hs_route_rules_match(const hs_route_rules *rules, const char *text);

#endif
