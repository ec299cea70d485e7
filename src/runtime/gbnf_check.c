#include "gbnf_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

struct name {
    const char *text;
    size_t len;
    bool is_definition;
};

struct check {
    const char *start, *p;
    hs_gbnf_is_token_fn is_token;
    void *user;
    struct hs_error *err;
    hs_status status; /* the first failure */
    int depth;
    uint64_t n_rules, n_elements;
    struct name *names;
    size_t n_names, names_cap;
};

/* The symbol that a repetition applies to. */
struct symbol {
    bool is_there;
    uint64_t n_elements;
    uint64_t n_rules; /* that it stands for; llama.cpp multiplies them over repetitions */
};

static bool fail(struct check *c, const char *at, const char *what)
{
    size_t line = 1;
    const char *line_start = c->start;
    for (const char *p = c->start; p < at; p++) {
        if (*p == '\n') {
            line++;
            line_start = p + 1;
        }
    }
    if (c->status == HS_OK) {
        c->status = hs_error_set(c->err, HS_INVALID_ARGUMENT,
                                 "the grammar does not parse: line %zu, column %zu: %s", line,
                                 (size_t)(at - line_start) + 1, what);
    }
    return false;
}

static bool too_large(struct check *c, const char *what, uint64_t limit)
{
    if (c->status == HS_OK) {
        c->status = hs_error_set(c->err, HS_LIMIT, "the grammar has more than %llu %s",
                                 (unsigned long long)limit, what);
    }
    return false;
}

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool is_word(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '-' || is_digit(ch);
}

static void skip_space(struct check *c, bool newline_ok)
{
    for (;; c->p++) {
        if (*c->p == '#') {
            c->p += strcspn(c->p, "\r\n");
        }
        bool is_newline = *c->p == '\r' || *c->p == '\n';
        if (*c->p != ' ' && *c->p != '\t' && !(is_newline && newline_ok)) {
            return;
        }
    }
}

static bool count(struct check *c, uint64_t n_rules, uint64_t n_elements)
{
    c->n_rules += n_rules;
    c->n_elements += n_elements;
    if (c->n_rules > HS_GBNF_MAX_RULES) {
        return too_large(c, "rules", HS_GBNF_MAX_RULES);
    }
    if (c->n_elements > HS_GBNF_MAX_ELEMENTS) {
        return too_large(c, "elements", HS_GBNF_MAX_ELEMENTS);
    }
    return true;
}

static bool add_name(struct check *c, bool is_definition)
{
    size_t len = 0;
    while (is_word(c->p[len])) {
        len++;
    }
    if (len == 0) {
        return fail(c, c->p, "a rule name is expected");
    }
    if (c->n_names == c->names_cap) {
        size_t cap = c->names_cap ? 2 * c->names_cap : 64;
        struct name *names = hs_realloc_array(c->names, cap, sizeof(*names));
        if (!names) {
            c->status = hs_error_nomem(c->err, "grammar check");
            return false;
        }
        c->names = names;
        c->names_cap = cap;
    }
    c->names[c->n_names++] = (struct name){c->p, len, is_definition};
    c->p += len;
    return true;
}

static bool parse_char(struct check *c)
{
    if (*c->p == '\0') {
        return fail(c, c->p, "it ends inside quotes or brackets");
    }
    if (*c->p != '\\') {
        c->p++;
        while (((unsigned char)*c->p & 0xC0) == 0x80) {
            c->p++;
        }
        return true;
    }
    static const char kinds[] = "xuU";
    static const size_t digits[] = {2, 4, 8};
    const char *kind = c->p[1] ? strchr(kinds, c->p[1]) : NULL;
    if (kind) {
        size_t n = digits[kind - kinds];
        if (strspn(c->p + 2, "0123456789abcdefABCDEF") < n) {
            return fail(c, c->p, "hexadecimal digits are missing");
        }
        c->p += 2 + n;
        return true;
    }
    if (c->p[1] == '\0' || !strchr("trn\\\"[]-", c->p[1])) {
        return fail(c, c->p, "unknown escape");
    }
    c->p += 2;
    return true;
}

static bool parse_literal(struct check *c, struct symbol *symbol)
{
    c->p++;
    while (*c->p != '"') {
        if (!parse_char(c)) {
            return false;
        }
        symbol->n_elements++;
    }
    c->p++;
    /* llama.cpp has nothing to repeat after "". */
    symbol->is_there = symbol->n_elements > 0;
    return count(c, 0, symbol->n_elements);
}

static bool parse_range(struct check *c, struct symbol *symbol)
{
    c->p += c->p[1] == '^' ? 2 : 1;
    while (*c->p != ']') {
        if (!parse_char(c)) {
            return false;
        }
        symbol->n_elements++;
        if (c->p[0] == '-' && c->p[1] != ']') {
            c->p++;
            if (!parse_char(c)) {
                return false;
            }
            symbol->n_elements++;
        }
    }
    c->p++;
    symbol->is_there = symbol->n_elements > 0;
    return count(c, 0, symbol->n_elements);
}

/* <text> or <[number]>. */
static bool parse_token(struct check *c, struct symbol *symbol)
{
    const char *at = c->p;
    c->p += *c->p == '!';
    if (*c->p != '<') {
        return fail(c, at, "'<' is expected behind '!'");
    }
    c->p++;
    if (*c->p == '[') {
        size_t n = strspn(c->p + 1, "0123456789");
        if (n == 0 || n > 9 || c->p[1 + n] != ']' || c->p[2 + n] != '>') {
            return fail(c, at, "a token is written <[number]>");
        }
        c->p += n + 3;
    } else {
        const char *text = c->p - 1;
        c->p += strcspn(c->p, ">");
        if (*c->p != '>') {
            return fail(c, at, "the token has no '>'");
        }
        c->p++;
        if (c->is_token && !c->is_token(text, (size_t)(c->p - text), c->user)) {
            return fail(c, at, "the vocabulary does not have this token");
        }
    }
    symbol->is_there = true;
    symbol->n_elements = 1;
    return count(c, 0, 1);
}

static bool parse_number(struct check *c, uint64_t *ret)
{
    const char *at = c->p;
    *ret = 0;
    for (; is_digit(*c->p); c->p++) {
        *ret = *ret * 10 + (uint64_t)(*c->p - '0');
        if (*ret > HS_GBNF_MAX_REPEAT) {
            return fail(c, at, "at most 2000 repetitions are allowed");
        }
    }
    return c->p > at || fail(c, at, "a number is expected");
}

static bool parse_repeat(struct check *c, struct symbol *symbol, bool is_nested)
{
    const char *at = c->p;
    char kind = *c->p++;
    uint64_t min = kind == '+';
    uint64_t max = kind == '?';
    bool has_max = kind == '?';
    if (kind == '{') {
        skip_space(c, is_nested);
        if (!parse_number(c, &min)) {
            return false;
        }
        skip_space(c, is_nested);
        max = min;
        has_max = true;
        if (*c->p == ',') {
            c->p++;
            skip_space(c, is_nested);
            has_max = is_digit(*c->p);
            if (has_max && !parse_number(c, &max)) {
                return false;
            }
            skip_space(c, is_nested);
        }
        if (*c->p != '}') {
            return fail(c, c->p, "'}' is expected");
        }
        c->p++;
    }
    if (!symbol->is_there) {
        return fail(c, at, "there is nothing to repeat");
    }
    if (has_max && max < min) {
        return fail(c, at, "the repetition's maximum is below its minimum");
    }
    uint64_t times = has_max && max > 0 ? max : (min > 0 ? min : 1);
    if (symbol->n_rules * times > HS_GBNF_MAX_REPEAT) {
        return fail(c, at, "the repetitions multiply to more than 2000");
    }
    symbol->n_rules *= times;
    /* One rule for each optional repetition, or one that refers to itself. */
    uint64_t n_optional = has_max ? max - min : 1;
    if (!count(c, n_optional, (symbol->n_elements + 3) * (times + 1))) {
        return false;
    }
    /* llama.cpp leaves the unfolded symbol in place; {0} leaves nothing. */
    symbol->n_elements = symbol->n_elements * min + (n_optional > 0);
    symbol->is_there = symbol->n_elements > 0;
    return true;
}

static bool parse_alternates(struct check *c, bool is_nested);

static bool parse_group(struct check *c, struct symbol *symbol)
{
    const char *at = c->p;
    uint64_t rules_before = c->n_rules;
    if (++c->depth > HS_GBNF_MAX_DEPTH) {
        return too_large(c, "nested groups", HS_GBNF_MAX_DEPTH);
    }
    c->p++;
    skip_space(c, true);
    if (!count(c, 1, 2) || !parse_alternates(c, true)) {
        return false;
    }
    if (*c->p != ')') {
        return fail(c, *c->p ? c->p : at, *c->p ? "')' is expected" : "the group is not closed");
    }
    c->p++;
    c->depth--;
    symbol->is_there = true;
    symbol->n_elements = 1;
    symbol->n_rules = c->n_rules - rules_before;
    return true;
}

static bool parse_sequence(struct check *c, bool is_nested)
{
    struct symbol symbol = {0};
    for (;;) {
        char ch = *c->p;
        bool is_repeat = ch && strchr("*+?{", ch);
        if (!is_repeat) {
            symbol = (struct symbol){.n_rules = 1};
        }
        bool ok;
        if (is_repeat) {
            ok = parse_repeat(c, &symbol, is_nested);
        } else if (ch == '"') {
            ok = parse_literal(c, &symbol);
        } else if (ch == '[') {
            ok = parse_range(c, &symbol);
        } else if (ch == '<' || ch == '!') {
            ok = parse_token(c, &symbol);
        } else if (ch == '(') {
            ok = parse_group(c, &symbol);
        } else if (ch == '.' || is_word(ch)) {
            symbol.is_there = true;
            symbol.n_elements = 1;
            ok = count(c, 0, 1) && (ch == '.' ? (c->p++, true) : add_name(c, false));
        } else {
            return true;
        }
        if (!ok) {
            return false;
        }
        skip_space(c, is_nested);
    }
}

static bool parse_alternates(struct check *c, bool is_nested)
{
    for (;;) {
        if (!parse_sequence(c, is_nested) || !count(c, 0, 1)) {
            return false;
        }
        if (*c->p != '|') {
            return true;
        }
        c->p++;
        skip_space(c, true);
    }
}

static bool parse_rule(struct check *c)
{
    if (!add_name(c, true)) {
        return false;
    }
    skip_space(c, false);
    if (strncmp(c->p, "::=", 3) != 0) {
        return fail(c, c->p, "'::=' is expected");
    }
    c->p += 3;
    skip_space(c, true);
    if (!count(c, 1, 1) || !parse_alternates(c, false)) {
        return false;
    }
    if (*c->p != '\0' && *c->p != '\r' && *c->p != '\n') {
        return fail(c, c->p, "the end of the line is expected");
    }
    skip_space(c, true);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a;
    const struct name *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->text, y->text, len);
    if (order == 0) {
        order = (x->len > y->len) - (x->len < y->len);
    }
    /* Definitions first, so that a name's run of entries begins with one. */
    return order ? order : (int)y->is_definition - (int)x->is_definition;
}

static bool is_same(const struct name *a, const struct name *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void check_names(struct check *c, const char *root)
{
    if (c->n_names > 0) {
        qsort(c->names, c->n_names, sizeof(*c->names), compare_names);
    }
    struct name root_name = {root, strlen(root), true};
    bool has_root = false;
    for (size_t i = 0; i < c->n_names; i++) {
        has_root = has_root || is_same(&c->names[i], &root_name);
        bool is_first = i == 0 || !is_same(&c->names[i], &c->names[i - 1]);
        if (is_first && !c->names[i].is_definition) {
            fail(c, c->names[i].text, "this rule is not defined");
            return;
        }
    }
    if (!has_root) {
        c->status =
            hs_error_set(c->err, HS_INVALID_ARGUMENT, "the grammar has no rule '%.64s'", root);
    }
}

hs_status hs_gbnf_check(const char *grammar, const char *root, hs_gbnf_is_token_fn is_token,
                        void *user, struct hs_error *err)
{
    size_t len = strlen(grammar);
    if (len > HS_GBNF_MAX_BYTES) {
        return hs_error_set(err, HS_LIMIT, "a grammar of %zu bytes; at most %u are allowed", len,
                            HS_GBNF_MAX_BYTES);
    }
    if (!hs_utf8_valid(grammar, len)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the grammar is not valid UTF-8");
    }
    struct check c = {.start = grammar,
                      .p = grammar,
                      .is_token = is_token,
                      .user = user,
                      .err = err,
                      .status = HS_OK};
    skip_space(&c, true);
    bool ok = true;
    while (ok && *c.p) {
        ok = parse_rule(&c);
    }
    if (ok) {
        check_names(&c, root);
    }
    hs_free(c.names);
    return c.status;
}
