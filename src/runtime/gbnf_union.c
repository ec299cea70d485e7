#include "gbnf_union.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define IS " ::= "
#define SUFFIX "-2"

struct rule {
    const char *name, *body;
    size_t name_len, body_len;
};

struct rules {
    struct rule *items; /* by name */
    size_t n;
};

static void rules_free(struct rules *rules)
{
    hs_free(rules->items);
}

static int compare(const void *a, const void *b)
{
    const struct rule *x = a, *y = b;
    size_t len = x->name_len < y->name_len ? x->name_len : y->name_len;
    int order = memcmp(x->name, y->name, len);
    return order != 0 ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static hs_status read_rules(const char *text, struct rules *rules, struct hs_error *err)
{
    size_t n_lines = 1;
    for (const char *c = text; *c != '\0'; c++) {
        n_lines += *c == '\n';
    }
    rules->items = hs_calloc(n_lines, sizeof rules->items[0]);
    if (rules->items == NULL) {
        return hs_error_nomem(err, "rules of a grammar");
    }
    for (const char *line = text; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        const char *is = strstr(line, IS);
        if (len > 0 && (is == NULL || is >= line + len)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "a line of the grammar is no rule");
        }
        if (len > 0) {
            const char *body = is + strlen(IS);
            rules->items[rules->n++] =
                (struct rule){line, body, (size_t)(is - line), (size_t)(line + len - body)};
        }
        line += len + (line[len] == '\n');
    }
    qsort(rules->items, rules->n, sizeof rules->items[0], compare);
    return HS_OK;
}

static const struct rule *find(const struct rules *rules, const char *name, size_t len)
{
    const struct rule key = {.name = name, .name_len = len};
    return bsearch(&key, rules->items, rules->n, sizeof key, compare);
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

/* Bytes of the piece at body[0, len): a quoted text, a [range], a <token>, a {repetition}, a name
 * (*ret_is_name), or one character. */
static size_t piece_len(const char *body, size_t len, bool *ret_is_name)
{
    static const char open[] = "\"[<{", close[] = "\"]>}";
    const char *at = strchr(open, body[0]);
    size_t n = 1;
    *ret_is_name = at == NULL && is_name_char(body[0]);
    if (*ret_is_name) {
        while (n < len && is_name_char(body[n])) {
            n++;
        }
    } else if (at != NULL && body[0] != '\0') {
        while (n < len && body[n] != close[at - open]) {
            n += body[n] == '\\' && n + 1 < len ? 2 : 1;
        }
        n += n < len;
    }
    return n;
}

static bool has_names(const struct rule *rule)
{
    bool is_name = false;
    for (size_t i = 0; i < rule->body_len && !is_name;) {
        i += piece_len(rule->body + i, rule->body_len - i, &is_name);
    }
    return is_name;
}

static bool is_same(const struct rule *a, const struct rule *b)
{
    return a->body_len == b->body_len && memcmp(a->body, b->body, a->body_len) == 0;
}

static bool is_root(const struct rule *rule)
{
    return rule->name_len == 4 && memcmp(rule->name, "root", 4) == 0;
}

/* Whether a name of the second grammar is another one in the union. */
static bool is_renamed(const struct rules *first, const struct rule *rule)
{
    const struct rule *other = find(first, rule->name, rule->name_len);
    return other != NULL && (is_root(rule) || has_names(rule) || !is_same(other, rule));
}

static hs_status append_name(const struct rules *first, const struct rules *second,
                             const char *name, size_t len, struct hs_buf *out)
{
    const struct rule *rule = find(second, name, len);
    hs_status status = hs_buf_append(out, name, len);
    return status == HS_OK && rule != NULL && is_renamed(first, rule)
               ? hs_buf_append_str(out, SUFFIX)
               : status;
}

static hs_status append_second(const struct rules *first, const struct rules *second,
                               const struct rule *rule, struct hs_buf *out)
{
    if (find(first, rule->name, rule->name_len) != NULL && !is_renamed(first, rule)) {
        return HS_OK;
    }
    hs_status status = append_name(first, second, rule->name, rule->name_len, out);
    status = status == HS_OK ? hs_buf_append_str(out, IS) : status;
    for (size_t i = 0; i < rule->body_len && status == HS_OK;) {
        bool is_name;
        size_t n = piece_len(rule->body + i, rule->body_len - i, &is_name);
        status = is_name ? append_name(first, second, rule->body + i, n, out)
                         : hs_buf_append(out, rule->body + i, n);
        i += n;
    }
    return status == HS_OK ? hs_buf_append(out, "\n", 1) : status;
}

/* The names of the union are each rule's own. */
static hs_status check_names(const struct rules *first, const struct rules *second,
                             struct hs_error *err)
{
    for (size_t i = 0; i < first->n + second->n; i++) {
        const struct rules *from = i < first->n ? first : second;
        const struct rule *rule = &from->items[i < first->n ? i : i - first->n];
        size_t len = rule->name_len, more = strlen(SUFFIX);
        const struct rule *plain = len > more && memcmp(rule->name + len - more, SUFFIX, more) == 0
                                       ? find(second, rule->name, len - more)
                                       : NULL;
        if (plain != NULL && is_renamed(first, plain)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "the grammars have a rule '%.*s' too many",
                                (int)(len > 64 ? 64 : len), rule->name);
        }
    }
    if (find(first, "root", 4) == NULL || find(second, "root", 4) == NULL ||
        find(first, "root-1", 6) != NULL || find(second, "root-1", 6) != NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a grammar has no rule 'root', or a 'root-1'");
    }
    return HS_OK;
}

hs_status hs_gbnf_union(const char *first, const char *second, struct hs_buf *out,
                        struct hs_error *err)
{
    static const char both[] = "root ::= root-1 | root-2\n";
    HS_CLEANUP(rules_free) struct rules a = {0};
    HS_CLEANUP(rules_free) struct rules b = {0};
    hs_status status = read_rules(first, &a, err);
    status = status == HS_OK ? read_rules(second, &b, err) : status;
    if (status != HS_OK) {
        return status;
    }
    status = check_names(&a, &b, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_buf_append(out, both, sizeof both - 1);
    for (size_t i = 0; i < a.n && status == HS_OK; i++) {
        const struct rule *rule = &a.items[i];
        status = hs_buf_append(out, rule->name, rule->name_len);
        status = status == HS_OK ? hs_buf_append_str(out, is_root(rule) ? "-1" IS : IS) : status;
        status = status == HS_OK ? hs_buf_append(out, rule->body, rule->body_len) : status;
        status = status == HS_OK ? hs_buf_append(out, "\n", 1) : status;
    }
    for (size_t i = 0; i < b.n && status == HS_OK; i++) {
        status = append_second(&a, &b, &b.items[i], out);
    }
    return status == HS_OK ? HS_OK : hs_error_set(err, status, "the answer's grammar is too large");
}
