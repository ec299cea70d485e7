#include "adapters/route_rules.h"

#include <regex.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

struct compiled {
    struct hs_route_rule rule;
    regex_t regex;
    bool has_regex;
};

struct hs_route_rules {
    size_t n;
    struct compiled items[];
};

void hs_route_rules_free(hs_route_rules *rules)
{
    for (size_t i = 0; rules != NULL && i < rules->n; i++) {
        struct compiled *item = &rules->items[i];
        for (int32_t k = 0; k < item->rule.n_adapters; k++) {
            hs_adapter_ref_clear(&item->rule.adapters[k]);
        }
        hs_free(item->rule.pattern);
        if (item->has_regex) {
            regfree(&item->regex);
        }
    }
    hs_free(rules);
}

static hs_status compile(struct compiled *item, struct hs_error *err)
{
    int rc = regcomp(&item->regex, item->rule.pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB);
    item->has_regex = rc == 0;
    if (rc == 0) {
        return HS_OK;
    }
    char why[100];
    regerror(rc, &item->regex, why, sizeof why);
    hs_error_set(err, rc == REG_ESPACE ? HS_OUT_OF_MEMORY : HS_INVALID_ARGUMENT,
                 "the pattern '%.100s' of a rule does not parse: %s", item->rule.pattern, why);
    return hs_error_hint(err, "write a POSIX extended regular expression");
}

/* "a:0.5+b" */
static hs_status parse_names(const char *names, struct hs_route_rule *rule, struct hs_error *err)
{
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
        hs_status status = hs_adapter_ref_parse(name, &rule->adapters[rule->n_adapters], err);
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

static hs_status parse(const char *text, struct compiled *item, struct hs_error *err)
{
    const char *equals = strrchr(text, '=');
    if (equals == NULL || equals == text) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "'%.100s' is no rule", text);
        return hs_error_hint(err, "write REGEX=ADAPTER, for example 'in french=french'");
    }
    item->rule.pattern = hs_strndup(text, (size_t)(equals - text));
    if (item->rule.pattern == NULL) {
        return hs_error_nomem(err, "rules");
    }
    hs_status status = compile(item, err);
    return status != HS_OK ? status : parse_names(equals + 1, &item->rule, err);
}

hs_status hs_route_rules_parse(const char *const *texts, size_t n_texts, hs_route_rules **ret_rules,
                               struct hs_error *err)
{
    hs_route_rules *rules = hs_calloc(1, sizeof *rules + n_texts * sizeof rules->items[0]);
    if (rules == NULL) {
        return hs_error_nomem(err, "rules");
    }
    for (size_t i = 0; i < n_texts; i++) {
        hs_status status = parse(texts[i], &rules->items[rules->n++], err);
        if (status != HS_OK) {
            hs_route_rules_free(rules);
            return status;
        }
    }
    *ret_rules = rules;
    return HS_OK;
}

const struct hs_route_rule *hs_route_rules_match(const hs_route_rules *rules, const char *text)
{
    for (size_t i = 0; rules != NULL && i < rules->n; i++) {
        if (regexec(&rules->items[i].regex, text, 0, NULL, 0) == 0) {
            return &rules->items[i].rule;
        }
    }
    return NULL;
}
