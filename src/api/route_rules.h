/*
 * route_rules.h - rules of routing as users write them: "REGEX=NAME[:SCALE][+NAME[:SCALE]...]",
 * with nothing behind the '=' for the base alone. The last '=' divides.
 *
 * Owner:   hs_route_rules_free. Threads: constant once made.
 */
#ifndef API_ROUTE_RULES_H
#define API_ROUTE_RULES_H

#include "hyprstream.h"

struct hs_route_rules {
    struct hs_route_rule *rules; /* [n] */
    int32_t n;
};

/* Errors: HS_INVALID_ARGUMENT (no '=', a pattern or a name that does not parse), HS_LIMIT (more
 * than HS_ROUTE_MAX names), HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_route_rules_parse(const char *const *texts, size_t n_texts,
                                          struct hs_route_rules *ret_rules, struct hs_error *err);
void hs_route_rules_free(struct hs_route_rules *rules);

#endif
