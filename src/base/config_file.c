/*
 * config_file.c - the configuration file: UTF-8, at most 1 MiB, one setting a line.
 *
 *   line    = [ key '=' value ] [ '#' comment ]
 *   key     = letters, digits, '-', '_'
 *   value   = bare text without '"' and '#', blanks around it not counted
 *           | '"' text '"' with the escapes \b \t \n \f \r \" \\ \uXXXX \UXXXXXXXX
 *           | '[' '"' text '"' ',' ... ']' for lists, on one line
 *
 * What both understand means the same as in TOML 1.0. A setting that stands twice is a mistake in
 * TOML; here the last one wins and the log warns.
 */
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "config_value.h"

#define FILE_MAX (1u << 20)
#define ITEMS_MAX 1024u

/* Where the parser stands. */
struct parser {
    struct hs_config *config;
    const char *path;
    const char *at;  /* the rest of the line */
    const char *end; /* of the line */
    int line;
    int seen[HS_CFG_COUNT];       /* the line that set it, 0: none */
    struct hs_buf text;           /* what was read of the value */
    size_t starts[ITEMS_MAX + 1]; /* of list items in `text`, each with its NUL */
    size_t n_items;
};

static hs_status fail(const struct parser *p, struct hs_error *err, const char *what)
{
    return hs_error_set(err, HS_INVALID_ARGUMENT, "%s:%d: %s", p->path, p->line, what);
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t')) {
        p->at++;
    }
}

/* Whether nothing but blanks and a comment are left. */
static bool at_line_end(struct parser *p)
{
    skip_blanks(p);
    return p->at == p->end || *p->at == '#';
}

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static hs_status parse_key(struct parser *p, enum hs_config_id *ret_id, struct hs_error *err)
{
    const char *start = p->at;
    while (p->at < p->end && is_key_char(*p->at)) {
        p->at++;
    }
    int len = (int)(p->at - start);
    skip_blanks(p);
    if (len == 0 || p->at == p->end || *p->at != '=') {
        hs_status status =
            fail(p, err,
                 *start == '[' ? "tables are not supported" : "this is not a 'name = value' line");
        hs_error_hint(err, "write one setting a line, for example: temp = 0.7");
        return status;
    }
    p->at++;
    HS_CLEANUP(hs_freep) char *key = hs_strndup(start, (size_t)len);
    if (key == NULL) {
        return hs_error_nomem(err, "the name of a setting");
    }
    if (hs_config_find(key, ret_id) == NULL) {
        const char *nearest = hs_config_nearest(key);
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s:%d: there is no setting '%.64s'", p->path,
                     p->line, key);
        hs_error_hint(err,
                      nearest == NULL ? "'hyprstream help config show' lists the settings%s"
                                      : "did you mean '%s'?",
                      nearest == NULL ? "" : nearest);
        return HS_INVALID_ARGUMENT;
    }
    if (*ret_id == HS_CFG_CONFIG) {
        return fail(p, err, "setting 'config' cannot stand in a configuration file");
    }
    return HS_OK;
}

static hs_status append(struct parser *p, const char *text, size_t len, struct hs_error *err)
{
    return hs_buf_append(&p->text, text, len) == HS_OK ? HS_OK : hs_error_nomem(err, "a setting");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The code point of n_digits hexadecimal digits as UTF-8. */
static hs_status parse_code_point(struct parser *p, int n_digits, struct hs_error *err)
{
    unsigned long point = 0;
    for (int i = 0; i < n_digits; i++, p->at++) {
        int digit = p->at < p->end ? hex_digit(*p->at) : -1;
        if (digit < 0) {
            return fail(p, err, "\\u wants four hexadecimal digits, \\U eight");
        }
        point = point << 4 | (unsigned long)digit;
    }
    if (point == 0 || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
        return fail(p, err, "the number behind \\u or \\U is not a character");
    }
    char utf8[4];
    size_t len = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--) {
        utf8[i] = (char)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    utf8[0] = (char)(lead[len] | point);
    return append(p, utf8, len, err);
}

/* p->at is behind the backslash. */
static hs_status parse_escape(struct parser *p, struct hs_error *err)
{
    static const char letters[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
    char c = p->at < p->end ? *p->at : '\0';
    const char *known = c == '\0' ? NULL : strchr(letters, c);
    if (known != NULL) {
        p->at++;
        return append(p, &values[known - letters], 1, err);
    }
    if (c == 'u' || c == 'U') {
        p->at++;
        return parse_code_point(p, c == 'u' ? 4 : 8, err);
    }
    fail(p, err, "a backslash must be followed by one of b t n f r u U \" \\");
    hs_error_hint(err, "write \\\\ for a backslash");
    return HS_INVALID_ARGUMENT;
}

/* p->at is at the opening quote; appends the text to p->text. */
static hs_status parse_quoted(struct parser *p, struct hs_error *err)
{
    p->at++;
    while (p->at < p->end && *p->at != '"') {
        hs_status status;
        if (*p->at == '\\') {
            p->at++;
            status = parse_escape(p, err);
        } else if ((unsigned char)*p->at < 0x20 && *p->at != '\t') {
            return fail(p, err, "there is a control character in the text");
        } else {
            status = append(p, p->at, 1, err);
            p->at++;
        }
        if (status != HS_OK) {
            return status;
        }
    }
    if (p->at == p->end) {
        return fail(p, err, "the closing \" is missing");
    }
    p->at++;
    return HS_OK;
}

/* p->at is at '['; the items follow each other in p->text, each with its NUL. */
static hs_status parse_array(struct parser *p, struct hs_error *err)
{
    p->at++;
    for (;;) {
        skip_blanks(p);
        if (p->at < p->end && *p->at == ']') {
            p->at++;
            return HS_OK;
        }
        if (p->at == p->end || *p->at != '"') {
            return fail(p, err, "a list is written [\"a\", \"b\"], on one line");
        }
        if (p->n_items == ITEMS_MAX) {
            return fail(p, err, "the list has more than 1024 items");
        }
        p->starts[p->n_items++] = p->text.len;
        hs_status status = parse_quoted(p, err);
        if (status == HS_OK && p->text.len == p->starts[p->n_items - 1]) {
            status = fail(p, err, "the list has an empty item");
        }
        if (status == HS_OK) {
            status = append(p, "", 1, err);
        }
        if (status != HS_OK) {
            return status;
        }
        skip_blanks(p);
        if (p->at < p->end && *p->at == ',') {
            p->at++;
        } else if (p->at == p->end || *p->at != ']') {
            return fail(p, err, "a comma or ] is missing in the list");
        }
    }
}

static hs_status parse_bare(struct parser *p, struct hs_error *err)
{
    const char *start = p->at;
    while (p->at < p->end && *p->at != '#') {
        if (*p->at == '"' || ((unsigned char)*p->at < 0x20 && *p->at != '\t')) {
            fail(p, err, "a value with \" or control characters in it must be quoted as a whole");
            hs_error_hint(err, "write it as \"...\", with \\\" for a quote");
            return HS_INVALID_ARGUMENT;
        }
        p->at++;
    }
    const char *stop = p->at;
    while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t')) {
        stop--;
    }
    if (stop == start || *start == '\'') {
        fail(p, err, stop == start ? "the value is missing" : "' does not quote values");
        hs_error_hint(err, "write texts as \"...\"; \"\" is the empty one");
        return HS_INVALID_ARGUMENT;
    }
    return append(p, start, (size_t)(stop - start), err);
}

/* The items with commas between them. */
static char *join_items(const struct parser *p)
{
    if (p->n_items == 0) {
        return hs_strdup("");
    }
    char *joined = hs_alloc(p->text.len);
    if (joined == NULL) {
        return NULL;
    }
    memcpy(joined, p->text.data, p->text.len);
    for (size_t i = 1; i < p->n_items; i++) {
        joined[p->starts[i] - 1] = ',';
    }
    return joined;
}

static hs_status store_array(struct parser *p, struct config_input *input, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *joined = join_items(p);
    HS_CLEANUP(hs_freep) const char **items = hs_alloc(p->n_items * sizeof *items);
    if (joined == NULL || items == NULL) {
        return hs_error_nomem(err, "a list of settings");
    }
    for (size_t i = 0; i < p->n_items; i++) {
        items[i] = p->text.data + p->starts[i];
    }
    input->text = joined;
    input->items = items;
    input->n_items = p->n_items;
    return config_value_set(p->config, input, err);
}

static hs_status store(struct parser *p, enum hs_config_id id, bool is_array, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *origin = hs_asprintf("%s:%d", p->path, p->line);
    if (origin == NULL) {
        return hs_error_nomem(err, "a setting");
    }
    struct config_input input = {
        .id = id, .source = HS_CONFIG_FILE, .origin = origin, .text = p->text.data};
    return is_array ? store_array(p, &input, err) : config_value_set(p->config, &input, err);
}

static hs_status parse_line(struct parser *p, struct hs_error *err)
{
    if (at_line_end(p)) {
        return HS_OK;
    }
    enum hs_config_id id;
    hs_status status = parse_key(p, &id, err);
    if (status != HS_OK) {
        return status;
    }
    hs_buf_clear(&p->text);
    p->n_items = 0;
    skip_blanks(p);
    char first = p->at < p->end ? *p->at : '\0';
    bool is_array = first == '[' && hs_config_row(id)->type == HS_CONFIG_LIST;
    status = append(p, "", 0, err);
    if (status == HS_OK) {
        status = first == '"' ? parse_quoted(p, err)
                 : is_array   ? parse_array(p, err)
                              : parse_bare(p, err);
    }
    if (status == HS_OK && !at_line_end(p)) {
        status = fail(p, err, "there is something behind the value");
        hs_error_hint(err, "one setting a line; a comment begins with #");
    }
    if (status == HS_OK) {
        status = store(p, id, is_array, err);
    }
    if (status == HS_OK && p->seen[id] != 0) {
        hs_log(HS_LOG_WARN, "config",
               "%s:%d: setting '%s' was already set in line %d; this one "
               "is used",
               p->path, p->line, hs_config_row(id)->name, p->seen[id]);
    }
    p->seen[id] = p->line;
    return status;
}

hs_status hs_config_load_text(struct hs_config *config, const char *text, size_t len,
                              const char *origin, struct hs_error *err)
{
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    if (len > FILE_MAX) {
        return hs_error_set(err, HS_LIMIT, "%s: longer than the limit of %u bytes", origin,
                            FILE_MAX);
    }
    struct parser p = {.config = config, .path = origin, .text = HS_BUF_INIT(FILE_MAX)};
    const char *end = text + len;
    const char *next = len >= 3 && memcmp(text, byte_order_mark, 3) == 0 ? text + 3 : text;
    hs_status status = HS_OK;
    while (next < end && status == HS_OK) {
        const char *newline = memchr(next, '\n', (size_t)(end - next));
        p.line++;
        p.at = next;
        p.end = newline == NULL ? end : newline;
        next = newline == NULL ? end : newline + 1;
        if (p.end > p.at && p.end[-1] == '\r') {
            p.end--;
        }
        status = hs_utf8_valid(p.at, (size_t)(p.end - p.at)) ? parse_line(&p, err)
                                                             : fail(&p, err, "not UTF-8 text");
    }
    hs_buf_free(&p.text);
    return status;
}

hs_status hs_config_load_file(struct hs_config *config, const char *path, bool must_exist,
                              struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf file = HS_BUF_INIT(FILE_MAX);
    struct hs_error local = {.status = HS_OK};
    hs_status status = hs_fs_read(path, &file, &local);
    if (status == HS_OK) {
        return hs_config_load_text(config, file.data, file.len, path, err);
    }
    if (status == HS_NOT_FOUND && !must_exist) {
        return HS_OK;
    }
    if (err != NULL) {
        *err = local;
        hs_error_prefix(err, "configuration file");
    }
    return status;
}
