#include "template_scan.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

struct scan {
    const char *at;
    size_t n_blocks; /* open ones, and every elif so far */
};

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static const char *skip_string(const char *at)
{
    char quote = *at++;
    while (*at && *at != quote) {
        at += at[0] == '\\' && at[1] ? 2 : 1;
    }
    return *at ? at + 1 : at;
}

static bool word_is(const char *word, size_t len, const char *wanted)
{
    return strlen(wanted) == len && memcmp(word, wanted, len) == 0;
}

/* The first word of a statement opens a block, closes one or neither. `set` opens one only without
 * a value; counting it always would refuse templates that only assign, so its end is looked at. */
static void count_block(struct scan *scan, const char *word, size_t len, bool has_value)
{
    static const char *const openers[] = {"if", "elif", "for", "macro", "call", "filter"};
    static const char *const closers[] = {"endif",   "endfor",    "endmacro",
                                          "endcall", "endfilter", "endset"};
    for (size_t i = 0; i < sizeof(openers) / sizeof(openers[0]); i++) {
        scan->n_blocks += word_is(word, len, openers[i]);
    }
    scan->n_blocks += word_is(word, len, "set") && !has_value;
    for (size_t i = 0; i < sizeof(closers) / sizeof(closers[0]); i++) {
        scan->n_blocks -= scan->n_blocks > 0 && word_is(word, len, closers[i]);
    }
}

static hs_status too_much(const char *what, size_t max, struct hs_error *err)
{
    hs_error_set(err, HS_LIMIT, "the chat template %s; at most %zu are allowed", what, max);
    hs_error_hint(err, "use another template with --chat-template-file");
    return HS_LIMIT;
}

/* Whether the tag ends here. An object's closing braces are not its end. */
static bool ends_tag(const char *at, size_t n_curly)
{
    return (at[0] == '%' && at[1] == '}') || (at[0] == '}' && at[1] == '}' && n_curly == 0);
}

/* From behind "{%" or "{{" to behind the tag's end. */
static hs_status scan_tag(struct scan *scan, bool is_statement, struct hs_error *err)
{
    const char *at = scan->at;
    const char *first = NULL;
    size_t first_len = 0;
    size_t n_tokens = 0;
    size_t n_open = 0;
    size_t n_curly = 0;
    bool has_value = false;
    while (*at && !ends_tag(at, n_curly)) {
        if (isspace((unsigned char)*at)) {
            at++;
            continue;
        }
        const char *start = at;
        if (*at == '"' || *at == '\'') {
            at = skip_string(at);
        } else if (is_word(*at)) {
            while (is_word(*at)) {
                at++;
            }
            first_len = first ? first_len : (size_t)(at - start);
            first = first ? first : start;
        } else {
            bool is_open = strchr("([{", *at) != NULL;
            n_open += is_open;
            n_open -= n_open > 0 && strchr(")]}", *at) != NULL;
            n_curly += *at == '{';
            n_curly -= n_curly > 0 && *at == '}';
            has_value = has_value || (*at == '=' && n_open == 0);
            at++;
        }
        if (n_open > HS_TEMPLATE_DEPTH_MAX) {
            return too_much("has brackets in brackets", HS_TEMPLATE_DEPTH_MAX, err);
        }
        if (++n_tokens > HS_TEMPLATE_TAG_MAX) {
            return too_much("has a tag of too many words and signs", HS_TEMPLATE_TAG_MAX, err);
        }
    }
    scan->at = *at ? at + 2 : at;
    if (is_statement && first) {
        count_block(scan, first, first_len, has_value);
    }
    return scan->n_blocks > HS_TEMPLATE_DEPTH_MAX
               ? too_much("has blocks in blocks", HS_TEMPLATE_DEPTH_MAX, err)
               : HS_OK;
}

hs_status hs_template_scan(const char *source, struct hs_error *err)
{
    struct scan scan = {.at = source};
    while ((scan.at = strchr(scan.at, '{')) != NULL) {
        char kind = scan.at[1];
        if (kind == '#') {
            const char *end = strstr(scan.at + 2, "#}");
            if (!end) {
                return HS_OK;
            }
            scan.at = end + 2;
        } else if (kind == '%' || kind == '{') {
            scan.at += 2;
            hs_status status = scan_tag(&scan, kind == '%', err);
            if (status != HS_OK) {
                return status;
            }
        } else {
            scan.at++;
        }
    }
    return HS_OK;
}
