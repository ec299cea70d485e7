#include "lora_router.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/route_rules.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "route_arrows.h"
#include "route_examples.h"

#define ARROW_ALONE 2.5 /* of an adapter without examples (bench/calibrate_routing) */

struct hs_lora_router {
    hs_route_examples *examples;
    hs_route_arrows *arrows;
};

void hs_route_params_defaults(struct hs_route_params *params)
{
    *params = (struct hs_route_params){.max_adapters = 1, .scale = 1};
}

const char *hs_route_method_name(enum hs_route_method method)
{
    static const char *const names[] = {"both", "examples", "arrow"};
    return (size_t)method < sizeof(names) / sizeof(names[0]) ? names[method] : "";
}

hs_status hs_lora_router_new(hs_lora_router **ret_router, struct hs_error *err)
{
    hs_lora_router *router = hs_calloc(1, sizeof(*router));
    hs_status status = router == NULL ? hs_error_nomem(err, "router")
                                      : hs_route_examples_new(&router->examples, err);
    if (status == HS_OK) {
        status = hs_route_arrows_new(&router->arrows, err);
    }
    if (status != HS_OK) {
        hs_lora_router_free(router);
        return status;
    }
    *ret_router = router;
    return HS_OK;
}

void hs_lora_router_free(hs_lora_router *router)
{
    if (router != NULL) {
        hs_route_examples_free(router->examples);
        hs_route_arrows_free(router->arrows);
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
    hs_route_arrows_forget(router->arrows, name);
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

static const struct hs_adapter_info *find_candidate(const struct candidates *candidates,
                                                    const char *name)
{
    return candidates->n == 0 ? NULL
                              : bsearch(name, candidates->infos, candidates->n,
                                        sizeof(candidates->infos[0]), compare_name);
}

static bool is_candidate(const char *name, void *user)
{
    return find_candidate(user, name) != NULL;
}

static hs_status check_params(const struct hs_route_params *params, struct hs_error *err)
{
    if (params->max_adapters < 1 || params->max_adapters > HS_ROUTE_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "max_adapters is %d; it must be 1 to %d",
                            params->max_adapters, HS_ROUTE_MAX);
    }
    if (hs_route_method_name(params->method)[0] == '\0') {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "there is no method %d of routing",
                            (int)params->method);
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
        if (find_candidate(candidates, ref->name) == NULL) {
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

/* ---- by closeness ---- */

/* One call of route. */
struct call {
    hs_lora_router *router;
    struct hs_route_embedder embedder;
    const char *model_id, *text;
    const struct hs_route_params *params;
    struct candidates candidates;
    struct hs_route_found found; /* by examples */
    /* Those whose weights are asked: first what was found, then others. */
    const struct hs_adapter_info **asked; /* [n_asked] */
    double *scores;                       /* [n_asked] */
    size_t n_asked;
};

static void clear_call(struct call *call)
{
    clear_candidates(&call->candidates);
    hs_free(call->asked);
    hs_free(call->scores);
}

static hs_status look_at_examples(struct call *call, struct hs_error *err)
{
    if (call->params->method == HS_ROUTE_ARROW) {
        return HS_OK;
    }
    double floor = call->params->method == HS_ROUTE_BOTH ? HS_ROUTE_FLOOR_SEEN : HS_ROUTE_FLOOR;
    return hs_route_examples_match(call->router->examples, &call->embedder, call->text, floor,
                                   is_candidate, &call->candidates, &call->found, err);
}

/* Of all adapters only those that examples are close for, and those without examples. */
static hs_status look_at_weights(struct call *call, struct hs_error *err)
{
    enum hs_route_method method = call->params->method;
    size_t n_most = call->candidates.n + HS_ROUTE_MATCHES_MAX;
    if (method == HS_ROUTE_EXAMPLES) {
        return HS_OK;
    }
    call->asked = hs_calloc(n_most, sizeof(*call->asked));
    call->scores = hs_calloc(n_most, sizeof(*call->scores));
    if (call->asked == NULL || call->scores == NULL) {
        return hs_error_nomem(err, "routing");
    }
    for (int32_t i = 0; i < call->found.matches.n; i++) {
        call->asked[call->n_asked++] =
            find_candidate(&call->candidates, call->found.matches.items[i].name);
    }
    for (size_t i = 0; i < call->candidates.n; i++) {
        const struct hs_adapter_info *info = &call->candidates.infos[i];
        if (method == HS_ROUTE_ARROW ||
            !hs_route_examples_has(call->router->examples, info->name)) {
            call->asked[call->n_asked++] = info;
        }
    }
    return hs_route_arrows_score(call->router->arrows, call->embedder.engine, call->model_id,
                                 call->asked, call->n_asked, call->text,
                                 call->embedder.deadline_at_ms, call->scores, err);
}

/* What is left of a match's margin when its weights have had their say; those that say nothing
 * leave it to the examples, which then have to be closer. */
static double margin_of(const struct call *call, int32_t i)
{
    double margin = call->found.matches.items[i].margin;
    if (call->params->method == HS_ROUTE_EXAMPLES) {
        return margin;
    }
    if (isnan(call->scores[i])) {
        return margin - (HS_ROUTE_FLOOR - HS_ROUTE_FLOOR_SEEN);
    }
    return margin - HS_ROUTE_STEP * fmax(0, HS_ROUTE_AGREES - call->scores[i]);
}

static bool has_scores(const struct call *call)
{
    for (size_t i = 0; i < call->n_asked; i++) {
        if (!isnan(call->scores[i])) {
            return true;
        }
    }
    return false;
}

static float arrow_of(const struct call *call, size_t i)
{
    return call->scores == NULL || isnan(call->scores[i]) ? 0 : (float)call->scores[i];
}

/* What is close by examples and not refused by weights. */
static void choose_by_examples(struct call *call, struct hs_route *route)
{
    struct hs_route_matches *matches = &call->found.matches;
    int32_t n = 0;
    for (int32_t i = 0; i < matches->n; i++) {
        struct hs_route_match match = matches->items[i];
        match.margin = margin_of(call, i);
        match.arrow = arrow_of(call, (size_t)i);
        if (match.margin > 0) {
            matches->items[n++] = match;
        }
    }
    matches->n = n;
    hs_route_matches_weigh(matches, call->params->max_adapters);
    for (int32_t i = 0; i < matches->n; i++) {
        struct hs_route_choice *choice = &route->choices[route->n_choices++];
        snprintf(choice->name, sizeof(choice->name), "%s", matches->items[i].name);
        choice->scale = (float)matches->items[i].weight * call->params->scale;
        choice->closeness = (float)matches->items[i].closeness;
        choice->arrow = (float)matches->items[i].arrow;
    }
}

/* The highest scores of adapters without examples, weighed by softmax as Arrow does. */
static void choose_by_weights(const struct call *call, size_t first, struct hs_route *route)
{
    struct hs_route_choice *choices = route->choices;
    for (size_t i = first; i < call->n_asked; i++) {
        if (!(call->scores[i] > ARROW_ALONE)) {
            continue;
        }
        struct hs_route_choice choice = {.arrow = arrow_of(call, i)};
        snprintf(choice.name, sizeof(choice.name), "%s", call->asked[i]->name);
        int32_t at =
            route->n_choices < call->params->max_adapters ? route->n_choices++ : route->n_choices;
        for (; at > 0 && choices[at - 1].arrow < choice.arrow; at--) {
            if (at < route->n_choices) {
                choices[at] = choices[at - 1];
            }
        }
        if (at < route->n_choices) {
            choices[at] = choice;
        }
    }
    double sum = 0;
    for (int32_t i = 0; i < route->n_choices; i++) {
        sum += exp((double)(choices[i].arrow - choices[0].arrow));
    }
    for (int32_t i = 0; i < route->n_choices; i++) {
        choices[i].scale =
            (float)(exp((double)(choices[i].arrow - choices[0].arrow)) / sum) * call->params->scale;
    }
}

static void give_reason(const struct call *call, double refused, struct hs_route *route)
{
    size_t size = sizeof(route->reason);
    const struct hs_route_choice *first = &route->choices[0];
    bool is_chosen = route->n_choices > 0;
    if (is_chosen && first->closeness == 0) {
        snprintf(route->reason, size,
                 "its weights answer to the text: '%s' is %.1f deviations above other texts",
                 first->name, (double)first->arrow);
    } else if (is_chosen) {
        int n = snprintf(route->reason, size,
                         "closest to the examples of '%s': %.3f, other texts are at %.3f",
                         first->name, (double)first->closeness, (double)route->background);
        if (first->arrow != 0 && n > 0 && (size_t)n < size) {
            snprintf(route->reason + n, size - (size_t)n, "; its weights %s: %.1f deviations",
                     (double)first->arrow >= HS_ROUTE_AGREES ? "agree" : "do not, but it is close",
                     (double)first->arrow);
        }
    } else if (!isnan(refused)) {
        snprintf(route->reason, size,
                 "nothing is close enough: '%s' is at %.3f, other texts are at %.3f, but its "
                 "weights do not agree: %.1f deviations",
                 route->closest, (double)route->closeness, (double)route->background, refused);
    } else if (route->closest[0] != '\0') {
        snprintf(route->reason, size,
                 "nothing is close enough: '%s' is at %.3f, other texts are at %.3f",
                 route->closest, (double)route->closeness, (double)route->background);
    } else {
        snprintf(route->reason, size, "%s",
                 has_scores(call) ? "nothing is close enough: the weights of no adapter answer to "
                                    "the text more than to others"
                                  : "no adapter of this model has examples");
    }
}

static hs_status choose(struct call *call, struct hs_route *route, struct hs_error *err)
{
    hs_status status = look_at_examples(call, err);
    status = status == HS_OK ? look_at_weights(call, err) : status;
    if (status != HS_OK) {
        return status;
    }
    const struct hs_route_matches *matches = &call->found.matches;
    size_t n_found = (size_t)matches->n;
    if (matches->best.name != NULL) {
        snprintf(route->closest, sizeof(route->closest), "%s", matches->best.name);
        route->closeness = (float)matches->best.closeness;
    }
    route->background = (float)matches->background;
    double refused = n_found > 0 && call->scores != NULL ? call->scores[0] : (double)NAN;
    choose_by_examples(call, route);
    if (route->n_choices == 0 && call->scores != NULL) {
        choose_by_weights(call, n_found, route);
    }
    give_reason(call, refused, route);
    return HS_OK;
}

hs_status hs_lora_router_route(hs_lora_router *router, hs_engine *engine, const char *model_id,
                               const char *text, const struct hs_route_params *params,
                               struct hs_route *ret_route, struct hs_error *err)
{
    HS_CLEANUP(clear_call)
    struct call call = {
        .router = router,
        .embedder = {.engine = engine,
                     .model_id = params->embed_model_id != NULL ? params->embed_model_id : model_id,
                     .deadline_at_ms =
                         params->deadline_ms > 0 ? hs_clock_ms() + (double)params->deadline_ms : 0},
        .model_id = model_id,
        .text = text,
        .params = params,
    };
    struct hs_route route = {0};
    hs_status status = check_params(params, err);
    if (status == HS_OK) {
        status = hs_engine_list_adapters(engine, model_id, &call.candidates.infos,
                                         &call.candidates.n, err);
    }
    const struct hs_route_rule *rule = hs_route_rules_match(params->rules, text);
    if (status == HS_OK) {
        status = rule != NULL ? take_rule(rule, &call.candidates, &route, err)
                              : choose(&call, &route, err);
    }
    if (status == HS_OK) {
        *ret_route = route;
    }
    return status;
}
