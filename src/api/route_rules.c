#include "route_rules.h"

#include <regex.h>
#include <string.h>

#include "adapters/adapter_ref.h"
#include "base/error.h"
#include "base/mem.h"

void hs_route_rules_free(struct hs_route_rules *rules)
{
    for (int32_t i = 0; i < rules->n; i++) {
        struct hs_route_rule *rule = &rules->rules[i];
        for (int32_t k = 0; k < rule->n_adapters; k++) {
            hs_adapter_ref_clear((struct hs_adapter_ref *)&rule->adapters[k]);
        }
        hs_free((void *)rule->adapters);
        hs_free((void *)rule->pattern);
    }
    hs_free(rules->rules);
    *rules = (struct hs_route_rules){0};
}

static hs_status check_pattern(const char *pattern, struct hs_error *err)
{
    regex_t regex;
    int rc = regcomp(&regex, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB);
    if (rc == 0) {
        regfree(&regex);
        return HS_OK;
    }
    char why[100];
    regerror(rc, &regex, why, sizeof why);
    hs_error_set(err, HS_INVALID_ARGUMENT, "the pattern '%.100s' of a rule does not parse: %s",
                 pattern, why);
    return hs_error_hint(err, "write a POSIX extended regular expression");
}

/* "a:0.5+b" */
static hs_status parse_names(const char *names, struct hs_route_rule *rule, struct hs_error *err)
{
    struct hs_adapter_ref *refs = hs_calloc(HS_ROUTE_MAX, sizeof *refs);
    rule->adapters = refs;
    if (refs == NULL) {
        return hs_error_nomem(err, "rules");
    }
    while (*names != '\0') {
        /* A '+' belongs to a number behind ':', 'e' or 'E' as in 1e+2. */
        size_t len = strcspn(names, "+");
        while (names[len] == '+' && len > 0 && strchr(":eE", names[len - 1]) != NULL &&
               memchr(names, ':', len) != NULL) {
            len += 1 + strcspn(names + len + 1, "+");
        }
        if (rule->n_adapters == HS_ROUTE_MAX) {
            return hs_error_set(err, HS_LIMIT, "a rule names more than %d adapters", HS_ROUTE_MAX);
        }
        HS_CLEANUP(hs_freep) char *name = hs_strndup(names, len);
        if (name == NULL) {
            return hs_error_nomem(err, "rules");
        }
        hs_status status = hs_adapter_ref_parse(name, &refs[rule->n_adapters], err);
        if (status != HS_OK) {
            return status;
        }
        rule->n_adapters++;
        names += len;
        if (*names == '+' && names[1] == '\0') {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "a rule ends in '+'");
        }
        names += *names == '+';
    }
    return HS_OK;
}

static hs_status parse(const char *text, struct hs_route_rule *rule, struct hs_error *err)
{
    const char *equals = strrchr(text, '=');
    if (equals == NULL || equals == text) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "'%.100s' is no rule", text);
        return hs_error_hint(err, "write REGEX=ADAPTER, for example 'in french=french'");
    }
    rule->pattern = hs_strndup(text, (size_t)(equals - text));
    if (rule->pattern == NULL) {
        return hs_error_nomem(err, "rules");
    }
    hs_status status = check_pattern(rule->pattern, err);
    return status != HS_OK ? status : parse_names(equals + 1, rule, err);
}

hs_status hs_route_rules_parse(const char *const *texts, size_t n_texts,
                               struct hs_route_rules *ret_rules, struct hs_error *err)
{
    struct hs_route_rules rules = {.rules = hs_calloc(n_texts, sizeof *rules.rules)};
    if (rules.rules == NULL) {
        return hs_error_nomem(err, "rules");
    }
    for (size_t i = 0; i < n_texts; i++) {
        hs_status status = parse(texts[i], &rules.rules[rules.n++], err);
        if (status != HS_OK) {
            hs_route_rules_free(&rules);
            return status;
        }
    }
    *ret_rules = rules;
    return HS_OK;
}
