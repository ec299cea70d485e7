/* metadata.c - fields of requests and answers. */
#include "metadata.h"

#include <ctype.h>
#include <string.h>

#include "base/mem.h"

#define HPACK_OVERHEAD 32
#define TIMEOUT_DIGITS_MAX 8

bool hs_grpc_field_add(struct hs_grpc_field **list, const void *name, size_t name_len,
                       const void *value, size_t value_len)
{
    struct hs_grpc_field *field = hs_alloc(sizeof *field + name_len + value_len + 2);
    if (field == NULL) {
        return false;
    }
    char *text = (char *)(field + 1);
    *field = (struct hs_grpc_field){.next = *list,
                                    .name = text,
                                    .value = text + name_len + 1,
                                    .name_len = name_len,
                                    .value_len = value_len};
    memcpy(field->name, name, name_len);
    memcpy(field->value, value, value_len);
    field->name[name_len] = field->value[value_len] = '\0';
    *list = field;
    return true;
}

const char *hs_grpc_field_find(const struct hs_grpc_field *list, const char *name)
{
    const char *value = NULL;
    for (const struct hs_grpc_field *i = list; i != NULL; i = i->next) {
        value = strcmp(i->name, name) == 0 ? i->value : value;
    }
    return value;
}

void hs_grpc_fields_free(struct hs_grpc_field *list)
{
    while (list != NULL) {
        struct hs_grpc_field *next = list->next;
        hs_free(list);
        list = next;
    }
}

size_t hs_grpc_field_cost(size_t name_len, size_t value_len)
{
    return name_len + value_len + HPACK_OVERHEAD;
}

bool hs_grpc_content_type_fits(const char *value)
{
    static const char wanted[] = "application/grpc";
    if (strncmp(value, wanted, sizeof wanted - 1) != 0) {
        return false;
    }
    char behind = value[sizeof wanted - 1];
    return behind == '\0' || behind == '+' || behind == ';';
}

bool hs_grpc_timeout_parse(const char *text, int64_t *ret_ms)
{
    int64_t value = 0;
    size_t n = 0;
    for (; isdigit((unsigned char)text[n]); n++) {
        if (n == TIMEOUT_DIGITS_MAX) {
            return false;
        }
        value = 10 * value + (text[n] - '0');
    }
    if (n == 0 || text[n] == '\0' || text[n + 1] != '\0') {
        return false;
    }
    switch (text[n]) {
    case 'H':
        *ret_ms = value * 3600000;
        return true;
    case 'M':
        *ret_ms = value * 60000;
        return true;
    case 'S':
        *ret_ms = value * 1000;
        return true;
    case 'm':
        *ret_ms = value;
        return true;
    case 'u':
        *ret_ms = (value + 999) / 1000;
        return true;
    case 'n':
        *ret_ms = (value + 999999) / 1000000;
        return true;
    default:
        return false;
    }
}

void hs_grpc_text_encode(const char *text, char *ret_text, size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const char *i = text; *i != '\0'; i++) {
        unsigned char c = (unsigned char)*i;
        bool is_plain = c >= 0x20 && c <= 0x7E && c != '%';
        if (n + (is_plain ? 1 : 3) >= size) {
            break;
        }
        if (is_plain) {
            ret_text[n++] = *i;
        } else {
            ret_text[n++] = '%';
            ret_text[n++] = hex[c >> 4];
            ret_text[n++] = hex[c & 15];
        }
    }
    ret_text[n] = '\0';
}
