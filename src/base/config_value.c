/* config_value.c - texts of settings to values, and which source wins. */
#include "config_value.h"

#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define SHOWN_MAX 64u /* bytes of a wrong value in a message */

static locale_t c_locale; /* decimal points stay points, whatever the program's locale */

static void c_locale_make(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static void enter_c_locale(locale_t *ret_old)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, c_locale_make);
    *ret_old = c_locale == (locale_t)0 ? (locale_t)0 : uselocale(c_locale);
}

static void leave_c_locale(const locale_t *old)
{
    if (*old != (locale_t)0) {
        uselocale(*old);
    }
}

/* A wrong value for a message: shortened, and without control characters. */
static void shown(char ret[SHOWN_MAX + 4], const char *text)
{
    size_t len = strlen(text);
    size_t n = hs_utf8_clip(text, len, SHOWN_MAX);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        ret[i] = c < 0x20 || c == 0x7F ? '?' : text[i];
    }
    memcpy(ret + n, n < len ? "..." : "", n < len ? 4 : 1);
}

static const char *unit(enum hs_config_type type)
{
    switch (type) {
    case HS_CONFIG_INT:
        return "a whole number";
    case HS_CONFIG_SIZE:
        return "a number of bytes (with K, M, G or T behind it if you like)";
    default:
        return "a number";
    }
}

static hs_status refuse(const struct config_input *input, const char *wanted, struct hs_error *err)
{
    char text[SHOWN_MAX + 4];
    shown(text, input->text);
    return hs_error_set(err, HS_INVALID_ARGUMENT, "%s: setting '%s' cannot be '%s': it must be %s",
                        input->origin, hs_config_row(input->id)->name, text, wanted);
}

static hs_status refuse_number(const struct config_input *input, struct hs_error *err)
{
    const struct hs_config_row *row = hs_config_row(input->id);
    HS_CLEANUP(leave_c_locale) locale_t old;
    enter_c_locale(&old);
    char wanted[160];
    snprintf(wanted, sizeof wanted, "%s from %.15g to %.15g", unit(row->type), row->min, row->max);
    return refuse(input, wanted, err);
}

/* The whole text as an integer; false for anything else, overflow included. */
static bool parse_int(const char *text, double *ret)
{
    const char *digits = text[0] == '-' || text[0] == '+' ? text + 1 : text;
    if (digits[0] < '0' || digits[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    *ret = (double)value;
    return errno == 0 && *end == '\0';
}

/* The whole text as a finite decimal number. */
static bool parse_float(const char *text, double *ret)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') {
        return false; /* also keeps out what strtod knows beyond decimals: nan, inf, 0x1p3, blanks
                       */
    }
    HS_CLEANUP(leave_c_locale) locale_t old;
    enter_c_locale(&old);
    char *end;
    *ret = strtod(text, &end);
    return *end == '\0' && end != text; /* infinity is outside of every range */
}

static bool parse_size(const char *text, double *ret)
{
    static const char suffixes[] = "kKmMgGtT";
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    double factor = 1;
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end++);
        if (suffix == NULL) {
            return false;
        }
        for (long i = 0; i <= (suffix - suffixes) / 2; i++) {
            factor *= 1024;
        }
    }
    *ret = (double)value * factor;
    return errno == 0 && *end == '\0';
}

static bool parse_bool(const char *text, double *ret)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret = (double)(i % 2);
            return true;
        }
    }
    return false;
}

/* Index of text among '|'-separated choices. */
static bool parse_enum(const char *choices, const char *text, double *ret)
{
    size_t len = strlen(text);
    double index = 0;
    for (const char *choice = choices;; index++) {
        size_t n = strcspn(choice, "|");
        if (n == len && memcmp(choice, text, len) == 0) {
            *ret = index;
            return true;
        }
        if (choice[n] == '\0') {
            return false;
        }
        choice += n + 1;
    }
}

static hs_status parse_number(const struct config_input *input, double *ret, struct hs_error *err)
{
    const struct hs_config_row *row = hs_config_row(input->id);
    bool is_ok;
    switch (row->type) {
    case HS_CONFIG_INT:
        is_ok = parse_int(input->text, ret);
        break;
    case HS_CONFIG_FLOAT:
        is_ok = parse_float(input->text, ret);
        break;
    case HS_CONFIG_SIZE:
        is_ok = parse_size(input->text, ret);
        break;
    case HS_CONFIG_BOOL:
        is_ok = parse_bool(input->text, ret);
        return is_ok ? HS_OK : refuse(input, "true or false (yes, no, on, off, 1, 0)", err);
    case HS_CONFIG_ENUM:
        is_ok = parse_enum(row->choices, input->text, ret);
        if (is_ok) {
            return HS_OK;
        }
        char wanted[128];
        snprintf(wanted, sizeof wanted, "one of %s", row->choices);
        return refuse(input, wanted, err);
    default:
        return HS_OK;
    }
    return is_ok && *ret >= row->min && *ret <= row->max ? HS_OK : refuse_number(input, err);
}

static hs_status items_add(struct hs_config_value *value, const char *item, size_t len,
                           struct hs_error *err)
{
    char **items = hs_realloc_array(value->items, value->n_items + 1, sizeof *items);
    if (items == NULL) {
        return hs_error_nomem(err, "a list of settings");
    }
    value->items = items;
    items[value->n_items] = hs_strndup(item, len);
    if (items[value->n_items] == NULL) {
        return hs_error_nomem(err, "a list of settings");
    }
    value->n_items++;
    return HS_OK;
}

/* "a, b" as "a" and "b": blanks around an item do not belong to it, an empty item is a mistake. */
static hs_status items_split(struct hs_config_value *value, const struct config_input *input,
                             struct hs_error *err)
{
    const char *text = input->text;
    for (;;) {
        text += strspn(text, " \t");
        size_t span = strcspn(text, ",");
        size_t len = span;
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t')) {
            len--;
        }
        if (len == 0) {
            return refuse(input, "a list of texts with commas between them, none of them empty",
                          err);
        }
        hs_status status = items_add(value, text, len, err);
        if (status != HS_OK || text[span] == '\0') {
            return status;
        }
        text += span + 1;
    }
}

/* Fill the items of `value`, after those of `earlier`. */
static hs_status items_fill(struct hs_config_value *value, const struct hs_config_value *earlier,
                            const struct config_input *input, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < earlier->n_items && status == HS_OK; i++) {
        status = items_add(value, earlier->items[i], strlen(earlier->items[i]), err);
    }
    if (status == HS_OK && input->items == NULL) {
        return items_split(value, input, err);
    }
    for (size_t i = 0; i < input->n_items && status == HS_OK; i++) {
        status = items_add(value, input->items[i], strlen(input->items[i]), err);
    }
    return status;
}

void config_value_free(struct hs_config_value *value)
{
    for (size_t i = 0; i < value->n_items; i++) {
        hs_free(value->items[i]);
    }
    hs_free(value->items);
    hs_free(value->text);
    hs_free(value->origin);
    *value = (struct hs_config_value){.text = NULL};
}

/* The value that `input` gives, after the items of `earlier`. */
static hs_status value_make(struct hs_config_value *ret, const struct hs_config_value *earlier,
                            const struct config_input *input, struct hs_error *err)
{
    enum hs_config_type type = hs_config_row(input->id)->type;
    bool may_be_empty =
        type == HS_CONFIG_STRING || type == HS_CONFIG_PATH || type == HS_CONFIG_LIST;
    ret->source = input->source;
    ret->is_set = input->text[0] != '\0' || !may_be_empty;
    bool is_appended = ret->is_set && earlier->n_items > 0;
    ret->text =
        is_appended ? hs_asprintf("%s,%s", earlier->text, input->text) : hs_strdup(input->text);
    ret->origin = hs_strdup(input->origin);
    if (ret->text == NULL || ret->origin == NULL) {
        return hs_error_nomem(err, "a setting");
    }
    if (type == HS_CONFIG_LIST) {
        return ret->is_set ? items_fill(ret, earlier, input, err) : HS_OK;
    }
    return parse_number(input, &ret->number, err);
}

hs_status config_value_set(struct hs_config *config, const struct config_input *input,
                           struct hs_error *err)
{
    static const struct hs_config_value nothing = {.text = NULL};
    struct hs_config_value *current = &config->values[input->id];
    bool is_repeated = input->source == HS_CONFIG_FLAG && current->source == HS_CONFIG_FLAG;
    struct hs_config_value value = {.text = NULL};
    hs_status status = value_make(&value, is_repeated ? current : &nothing, input, err);
    if (status != HS_OK) {
        config_value_free(&value);
        return status;
    }
    if (current->source > input->source) { /* checked all the same: a mistake is one anywhere */
        config_value_free(&value);
        return HS_OK;
    }
    config_value_free(current);
    *current = value;
    return HS_OK;
}
