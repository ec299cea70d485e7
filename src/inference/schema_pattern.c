#include "schema_pattern.h"

#include <stdlib.h>
#include <string.h>

#define CODE_POINT_MAX 0x10FFFFu
#define RANGES_MAX 128

struct range {
    uint32_t first, last;
};

struct set {
    struct range ranges[RANGES_MAX];
    size_t n;
    bool is_negated;
};

struct length {
    uint64_t min, max;
};

struct reader {
    const char *p;
    struct hs_schema_pattern *out;
    hs_status status; /* the first failure */
    int depth;
};

/* What a JSON string writes with a backslash, and DEL, which the converter's strings leave out. */
static const struct range escaped[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0x7F, 0x7F}};
static const struct range digits[] = {{'0', '9'}};
static const struct range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct range spaces[] = {{0, 0x1F}, {' ', ' '}};
/* \D and its like stand for all that ECMA-262 says, but implementations differ beyond ASCII. */
static const struct range no_digits[] = {{' ', '/'}, {':', '~'}};
static const struct range no_words[] = {{' ', '/'}, {':', '@'}, {'[', '^'}, {'`', '`'}, {'{', '~'}};
static const struct range no_spaces[] = {{'!', '~'}};

static bool refuse(struct reader *r, const char *why)
{
    if (r->status == HS_OK) {
        r->status = HS_NOT_SUPPORTED;
        r->out->why = why;
    }
    return false;
}

static bool write_text(struct reader *r, const char *text)
{
    hs_status status = hs_buf_append_str(&r->out->text, text);
    if (status == HS_LIMIT) {
        return refuse(r, "is too long");
    }
    r->status = r->status == HS_OK ? status : r->status;
    return status == HS_OK;
}

/* ---- sets of characters ---- */

static bool set_add(struct reader *r, struct set *set, uint32_t first, uint32_t last)
{
    if (set->n == RANGES_MAX) {
        return refuse(r, "has a class that is too large");
    }
    set->ranges[set->n++] = (struct range){first, last};
    return true;
}

static bool set_add_all(struct reader *r, struct set *set, const struct range *ranges, size_t n)
{
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        ok = set_add(r, set, ranges[i].first, ranges[i].last);
    }
    return ok;
}

/* Take what JSON escapes out of the set. */
static bool set_remove_escaped(struct reader *r, struct set *set)
{
    for (size_t e = 0; e < sizeof(escaped) / sizeof(escaped[0]); e++) {
        size_t n = set->n;
        for (size_t i = 0; i < n; i++) {
            struct range *range = &set->ranges[i];
            if (range->first > escaped[e].last || range->last < escaped[e].first) {
                continue;
            }
            if (range->last > escaped[e].last &&
                !set_add(r, set, escaped[e].last + 1, range->last)) {
                return false;
            }
            if (range->first < escaped[e].first) {
                range->last = escaped[e].first - 1;
            } else {
                *range = (struct range){1, 0}; /* empty */
            }
        }
    }
    return true;
}

static bool write_set(struct reader *r, struct set *set)
{
    bool ok = set->is_negated ? set_add_all(r, set, escaped, sizeof(escaped) / sizeof(escaped[0]))
                              : set_remove_escaped(r, set);
    bool is_empty = true;
    ok = ok && write_text(r, set->is_negated ? "[^" : "[");
    for (size_t i = 0; ok && i < set->n; i++) {
        const struct range *range = &set->ranges[i];
        if (range->first <= range->last) {
            is_empty = false;
            hs_status status =
                hs_buf_printf(&r->out->text, "\\U%08X-\\U%08X", range->first, range->last);
            ok = status == HS_OK ||
                 (status == HS_LIMIT ? refuse(r, "is too long") : (r->status = status, false));
        }
    }
    if (ok && is_empty) {
        return refuse(r, "asks for a character that JSON escapes");
    }
    return ok && write_text(r, "]");
}

/* ---- characters and escapes ---- */

/* The code point at p; the pattern is valid UTF-8. */
static uint32_t take_code_point(struct reader *r)
{
    const unsigned char *p = (const unsigned char *)r->p;
    size_t n = *p < 0x80 ? 1 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : 4;
    uint32_t code = n == 1 ? *p : *p & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        code = code << 6 | (p[i] & 0x3Fu);
    }
    r->p += n;
    return code;
}

static bool take_hex(struct reader *r, size_t n, uint32_t *ret)
{
    char text[9] = {0};
    if (strspn(r->p, "0123456789abcdefABCDEF") < n) {
        return refuse(r, "has an escape without its hexadecimal digits");
    }
    memcpy(text, r->p, n);
    *ret = (uint32_t)strtoul(text, NULL, 16);
    r->p += n;
    return *ret < 0xD800 || *ret > 0xDFFF || refuse(r, "has half of a surrogate pair");
}

/* Behind a backslash: one character. */
static bool take_escape(struct reader *r, uint32_t *ret)
{
    static const char names[] = "tnrvf0";
    static const char values[] = "\t\n\r\v\f";
    char c = *r->p;
    const char *name = c ? strchr(names, c) : NULL;
    if (c == 'x' || c == 'u') {
        r->p++;
        return take_hex(r, c == 'x' ? 2 : 4, ret);
    }
    if (name) {
        r->p++;
        *ret = (unsigned char)values[name - names];
        return true;
    }
    if (c == '\0' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) {
        return refuse(r, "has an escape that is not supported");
    }
    *ret = take_code_point(r);
    return true;
}

/* \d and its like, at the letter. false: none of them. */
static bool take_named_set(struct reader *r, struct set *set)
{
    static const struct {
        char name;
        const struct range *ranges;
        size_t n;
    } sets[] = {{'d', digits, 1},    {'w', words, 4},    {'s', spaces, 2},
                {'D', no_digits, 2}, {'W', no_words, 5}, {'S', no_spaces, 1}};
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        if (*r->p == sets[i].name) {
            r->p++;
            return set_add_all(r, set, sets[i].ranges, sets[i].n);
        }
    }
    return false;
}

static bool read_class_end(struct reader *r, uint32_t *ret)
{
    if (*r->p != '\\') {
        *ret = take_code_point(r);
        return true;
    }
    r->p++;
    if (*r->p == 'b') {
        return refuse(r, "has a backspace");
    }
    return take_escape(r, ret);
}

static bool read_class(struct reader *r)
{
    struct set set = {0};
    r->p++;
    bool is_negated = *r->p == '^';
    bool has_named = false;
    r->p += is_negated;
    while (*r->p != ']') {
        if (*r->p == '\0') {
            return refuse(r, "has a class without its end");
        }
        if (*r->p == '\\' && r->p[1] != '\0' && strchr("dwsDWS", r->p[1])) {
            r->p++;
            if (is_negated && strchr("DWS", *r->p)) {
                return refuse(r, "has a negated class inside another");
            }
            if (!take_named_set(r, &set)) {
                return false;
            }
            has_named = true;
            continue;
        }
        uint32_t first = 0;
        uint32_t last = 0;
        if (!read_class_end(r, &first)) {
            return false;
        }
        last = first;
        if (*r->p == '-' && r->p[1] != ']' && r->p[1] != '\0') {
            r->p++;
            if (!read_class_end(r, &last)) {
                return false;
            }
        }
        if (last < first) {
            return refuse(r, "has a range whose ends are exchanged");
        }
        if (!set_add(r, &set, first, last)) {
            return false;
        }
    }
    r->p++;
    set.is_negated = is_negated;
    if (is_negated && has_named && !set_add(r, &set, 0x80, CODE_POINT_MAX)) {
        return false;
    }
    return write_set(r, &set);
}

/* ---- structure ---- */

static bool read_alternatives(struct reader *r, struct length *length);

static bool read_group(struct reader *r, struct length *length)
{
    if (++r->depth > HS_PATTERN_DEPTH_MAX) {
        return refuse(r, "nests too deeply");
    }
    r->p++;
    if (*r->p == '?') {
        if (r->p[1] != ':') {
            return refuse(r, "has a look-around, a named group or a flag");
        }
        r->p += 2;
    }
    if (!write_text(r, "(") || !read_alternatives(r, length)) {
        return false;
    }
    if (*r->p != ')') {
        return refuse(r, "has a group without its end");
    }
    r->p++;
    r->depth--;
    return write_text(r, ")");
}

static bool read_atom(struct reader *r, struct length *length)
{
    struct set set = {0};
    *length = (struct length){1, 1};
    if (*r->p == '(') {
        return read_group(r, length);
    }
    if (*r->p == '[') {
        return read_class(r);
    }
    if (*r->p == '.') {
        r->p++;
        set.is_negated = true;
        return write_set(r, &set);
    }
    uint32_t code = 0;
    if (*r->p == '\\') {
        r->p++;
        if (*r->p != '\0' && strchr("dwsDWS", *r->p)) {
            return take_named_set(r, &set) && write_set(r, &set);
        }
        if (!take_escape(r, &code)) {
            return false;
        }
    } else if (strchr("*+?{}]^$", *r->p)) {
        return refuse(r, *r->p == '^' || *r->p == '$' ? "has an anchor inside"
                                                      : "has a misplaced quantifier or bracket");
    } else {
        code = take_code_point(r);
    }
    return set_add(r, &set, code, code) && write_set(r, &set);
}

static bool take_number(struct reader *r, uint64_t *ret)
{
    size_t n = strspn(r->p, "0123456789");
    if (n == 0 || n > 4) {
        return refuse(r, n == 0 ? "has braces without a number" : "repeats too often");
    }
    *ret = strtoul(r->p, NULL, 10);
    r->p += n;
    return *ret <= HS_PATTERN_REPEAT_MAX || refuse(r, "repeats too often");
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    if (a == 0 || b == 0) {
        return 0;
    }
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static bool read_quantifier(struct reader *r, struct length *length)
{
    const char *start = r->p;
    uint64_t min = *r->p == '+';
    uint64_t max = *r->p == '?' ? 1 : UINT64_MAX;
    r->p++;
    if (*start == '{') {
        if (!take_number(r, &min)) {
            return false;
        }
        max = min;
        if (*r->p == ',') {
            r->p++;
            max = UINT64_MAX;
            if (*r->p != '}' && !take_number(r, &max)) {
                return false;
            }
        }
        if (*r->p != '}') {
            return refuse(r, "has braces without their end");
        }
        r->p++;
    }
    if (max < min) {
        return refuse(r, "has a repetition whose maximum is below its minimum");
    }
    if (max == 0) {
        return refuse(r, "repeats something no time");
    }
    hs_status status = hs_buf_append(&r->out->text, start, (size_t)(r->p - start));
    if (status != HS_OK) {
        return status == HS_LIMIT ? refuse(r, "is too long") : (r->status = status, false);
    }
    r->p += *r->p == '?'; /* lazy: the same texts */
    if (*r->p != '\0' && strchr("*+?{", *r->p)) {
        return refuse(r, "repeats a repetition");
    }
    *length = (struct length){times(length->min, min), times(length->max, max)};
    return true;
}

static bool read_sequence(struct reader *r, struct length *length)
{
    *length = (struct length){0, 0};
    bool is_top = r->depth == 0;
    /* Anchored or not: only whole matches are generated. */
    r->p += is_top && *r->p == '^';
    while (*r->p != '\0' && *r->p != '|' && *r->p != ')') {
        if (is_top && *r->p == '$' && (r->p[1] == '\0' || r->p[1] == '|')) {
            r->p++;
            break;
        }
        struct length atom;
        if (!read_atom(r, &atom)) {
            return false;
        }
        if (*r->p != '\0' && strchr("*+?{", *r->p) && !read_quantifier(r, &atom)) {
            return false;
        }
        length->min = plus(length->min, atom.min);
        length->max = plus(length->max, atom.max);
    }
    return true;
}

static bool read_alternatives(struct reader *r, struct length *length)
{
    if (!read_sequence(r, length)) {
        return false;
    }
    while (*r->p == '|') {
        r->p++;
        struct length other;
        if (!write_text(r, "|") || !read_sequence(r, &other)) {
            return false;
        }
        length->min = other.min < length->min ? other.min : length->min;
        length->max = other.max > length->max ? other.max : length->max;
    }
    return true;
}

hs_status hs_schema_pattern_read(const char *pattern, struct hs_schema_pattern *ret)
{
    struct reader r = {.p = pattern, .out = ret, .status = HS_OK};
    struct length length = {0, 0};
    if (strlen(pattern) > HS_PATTERN_MAX_BYTES) {
        refuse(&r, "is too long");
    }
    if (r.status == HS_OK && write_text(&r, "^") && read_alternatives(&r, &length)) {
        if (*r.p == ')') {
            refuse(&r, "closes a group that is not open");
        } else if (length.max == 0) {
            refuse(&r, "stands for the empty text alone");
        } else {
            write_text(&r, "$");
        }
    }
    ret->min_length = length.min;
    ret->max_length = length.max;
    return r.status;
}
