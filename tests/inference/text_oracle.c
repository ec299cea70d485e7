#include "text_oracle.h"

#include <string.h>

void oracle_append(struct oracle_text *to, char type, const char *text, size_t len)
{
    memcpy(to->text + to->len, text, len);
    memset(to->type + to->len, type, len);
    to->len += len;
}

/* Unicode 15, table 3-7: the ranges of the bytes of each well-formed sequence. */
static const struct {
    unsigned char range[4][2];
    size_t len;
} rows[] = {
    {{{0x00, 0x7F}}, 1},
    {{{0xC2, 0xDF}, {0x80, 0xBF}}, 2},
    {{{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}, 3},
    {{{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}, 3},
    {{{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}, 3},
    {{{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}, 3},
    {{{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}, 4},
    {{{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}, 4},
    {{{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}, 4},
};

/* How many bytes of the row's sequence lie at s[len]. */
static size_t row_prefix(size_t row, const unsigned char *s, size_t len)
{
    size_t n = 0;
    while (n < rows[row].len && n < len && s[n] >= rows[row].range[n][0] &&
           s[n] <= rows[row].range[n][1]) {
        n++;
    }
    return n;
}

size_t oracle_decode(const char *bytes, size_t len, char *out)
{
    size_t n_out = 0;
    for (size_t i = 0; i < len;) {
        size_t longest = 0;
        bool is_whole = false;
        for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
            size_t n = row_prefix(row, (const unsigned char *)bytes + i, len - i);
            if (n > longest) {
                longest = n;
                is_whole = n == rows[row].len;
            }
        }
        if (is_whole) {
            memcpy(out + n_out, bytes + i, longest);
            n_out += longest;
        } else {
            memcpy(out + n_out, "\xEF\xBF\xBD", 3);
            n_out += 3;
        }
        i += longest > 0 ? longest : 1;
    }
    return n_out;
}

static size_t skip_space(const char *text, size_t from, size_t len)
{
    while (from < len && memchr(" \t\n\v\f\r", text[from], 6) != NULL) {
        from++;
    }
    return from;
}

/* Place of the first occurrence of any stop string from `from` on, or len. */
static size_t find_stop(const struct hs_token_processor_params *params, const char *text,
                        size_t from, size_t len)
{
    size_t first = len;
    for (int32_t i = 0; i < params->n_stop; i++) {
        const char *at = memmem(text + from, len - from, params->stop[i], strlen(params->stop[i]));
        if (at != NULL && (size_t)(at - text) < first) {
            first = (size_t)(at - text);
        }
    }
    return first;
}

/* Place of a start tag with nothing but white space before it, or len. */
static size_t find_start_tag(const char *tag, const char *text, size_t len)
{
    const char *at = memmem(text, len, tag, strlen(tag));
    if (at == NULL) {
        return len;
    }
    size_t place = (size_t)(at - text);
    return skip_space(text, 0, place) == place ? place : len;
}

void oracle_process(const struct hs_token_processor_params *params, const char *bytes, size_t len,
                    struct oracle_text *ret)
{
    static char text[ORACLE_MAX];
    size_t n = oracle_decode(bytes, len, text);
    const struct hs_rt_reasoning *tags = &params->reasoning;
    bool splits = params->split_reasoning && tags->start_tag[0] != '\0';
    size_t from = 0;
    size_t stop;
    ret->len = 0;
    ret->stopped = false;
    if (splits) {
        bool is_inside = tags->starts_in_reasoning;
        if (!is_inside) {
            size_t tag = find_start_tag(tags->start_tag, text, n);
            stop = find_stop(params, text, 0, n);
            if (tag < n && tag <= stop) {
                oracle_append(ret, 'T', text, tag);
                from = tag + strlen(tags->start_tag);
                is_inside = true;
            }
        }
        if (is_inside) {
            from += from < n && text[from] == '\n' ? 1 : 0;
            const char *end = memmem(text + from, n - from, tags->end_tag, strlen(tags->end_tag));
            size_t reasoning_len = end == NULL ? n - from : (size_t)(end - text) - from;
            oracle_append(ret, 'R', text + from, reasoning_len);
            from =
                end == NULL ? n : skip_space(text, from + reasoning_len + strlen(tags->end_tag), n);
        }
    }
    stop = find_stop(params, text, from, n);
    ret->stopped = stop < n;
    oracle_append(ret, 'T', text + from, stop - from);
}
