#include "lora_router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/route_rules.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "route_examples.h"

struct hs_lora_router {
    hs_route_examples *examples;
};

void hs_route_params_defaults(struct hs_route_params *params)
{
    *params = (struct hs_route_params){.max_adapters = 1, .scale = 1};
}

hs_status hs_lora_router_new(hs_lora_router **ret_router, struct hs_error *err)
{
    hs_lora_router *router = hs_calloc(1, sizeof(*router));
    hs_status status = router == NULL ? hs_error_nomem(err, "router")
                                      : hs_route_examples_new(&router->examples, err);
    if (status != HS_OK) {
        hs_free(router);
        return status;
    }
    *ret_router = router;
    return HS_OK;
}

void hs_lora_router_free(hs_lora_router *router)
{
    if (router != NULL) {
        hs_route_examples_free(router->examples);
        hs_free(router);
    }
}

hs_status hs_lora_router_set(hs_lora_router *router, const char *name, const char *const *texts,
                             size_t n_texts, struct hs_error *err)
{
    return hs_route_examples_set(router->examples, name, texts, n_texts, err);
}

void hs_lora_router_forget_adapter(hs_lora_router *router, const char *name)
{
    hs_route_examples_forget(router->examples, name);
}

void hs_lora_router_forget_model(hs_lora_router *router, const char *model_id)
{
    hs_route_examples_forget_model(router->examples, model_id);
}

/* ---- choosing ---- */

/* The adapters that a choice may name, by name. */
struct candidates {
    struct hs_adapter_info *infos;
    size_t n;
};

static void clear_candidates(struct candidates *candidates)
{
    hs_adapter_infos_free(candidates->infos);
}

static int compare_name(const void *name, const void *info)
{
    return strcmp(name, ((const struct hs_adapter_info *)info)->name);
}

static bool is_candidate(const char *name, void *user)
{
    const struct candidates *candidates = user;
    return candidates->n > 0 && bsearch(name, candidates->infos, candidates->n,
                                        sizeof(candidates->infos[0]), compare_name) != NULL;
}

static hs_status check_params(const struct hs_route_params *params, struct hs_error *err)
{
    if (params->max_adapters < 1 || params->max_adapters > HS_ROUTE_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "max_adapters is %d; it must be 1 to %d",
                            params->max_adapters, HS_ROUTE_MAX);
    }
    if (!(params->scale >= -100 && params->scale <= 100)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the scale of routed adapters is %g; it must be -100 to 100",
                            (double)params->scale);
    }
    return HS_OK;
}

static hs_status take_rule(const struct hs_route_rule *rule, const struct candidates *candidates,
                           struct hs_route *route, struct hs_error *err)
{
    for (int32_t i = 0; i < rule->n_adapters; i++) {
        const struct hs_adapter_ref *ref = &rule->adapters[i];
        if (!is_candidate(ref->name, (void *)candidates)) {
            hs_error_set(
                err, HS_NOT_FOUND,
                "the rule '%.60s' names adapter '%.64s', which is not there for this model",
                rule->pattern, ref->name);
            return hs_error_hint(err, "add it with `hyprstream adapter add`, or change the rule");
        }
        struct hs_route_choice *choice = &route->choices[route->n_choices++];
        snprintf(choice->name, sizeof(choice->name), "%s", ref->name);
        choice->scale = ref->scale;
    }
    snprintf(route->reason, sizeof(route->reason), "the rule '%.200s' matches", rule->pattern);
    return HS_OK;
}

static void give_reason(struct hs_route *route)
{
    size_t size = sizeof(route->reason);
    if (route->closest[0] == '\0') {
        snprintf(route->reason, size, "no adapter of this model has examples");
    } else if (route->n_choices == 0) {
        snprintf(route->reason, size,
                 "nothing is close enough: '%s' is at %.3f, other texts are at %.3f",
                 route->closest, (double)route->closeness, (double)route->background);
    } else {
        snprintf(route->reason, size,
                 "closest to the examples of '%s': %.3f, other texts are at %.3f", route->closest,
                 (double)route->closeness, (double)route->background);
    }
}

hs_status hs_lora_router_route(hs_lora_router *router, hs_engine *engine, const char *model_id,
                               const char *text, const struct hs_route_params *params,
                               struct hs_route *ret_route, struct hs_error *err)
{
    hs_status status = check_params(params, err);
    HS_CLEANUP(clear_candidates) struct candidates candidates = {0};
    if (status == HS_OK) {
        status = hs_engine_list_adapters(engine, model_id, &candidates.infos, &candidates.n, err);
    }
    struct hs_route route = {0};
    const struct hs_route_rule *rule = hs_route_rules_match(params->rules, text);
    if (status == HS_OK && rule != NULL) {
        status = take_rule(rule, &candidates, &route, err);
    } else if (status == HS_OK) {
        const struct hs_route_embedder how = {
            .engine = engine,
            .model_id = params->embed_model_id != NULL ? params->embed_model_id : model_id,
            .deadline_at_ms =
                params->deadline_ms > 0 ? hs_clock_ms() + (double)params->deadline_ms : 0,
        };
        status = hs_route_examples_choose(router->examples, &how, text, params, is_candidate,
                                          &candidates, &route, err);
        give_reason(&route);
    }
    if (status == HS_OK) {
        *ret_route = route;
    }
    return status;
}
