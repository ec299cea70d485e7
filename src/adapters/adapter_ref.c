#include "adapters/adapter_ref.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

#define NAME_CHARACTERS                                                                            \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"                               \
    "._-"
#define SCALE_MAX_CHARACTERS 64u

bool hs_adapter_name_ok(const char *name)
{
    size_t len = strspn(name, NAME_CHARACTERS);
    return len >= 1 && len <= HS_ADAPTER_NAME_MAX && name[len] == '\0' && name[0] != '.';
}

hs_status hs_adapter_name_check(const char *what, const char *name, struct hs_error *err)
{
    if (name != NULL && hs_adapter_name_ok(name)) {
        return HS_OK;
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "'%.80s' is not an adapter's %s",
                 name == NULL ? "" : name, what);
    hs_error_hint(err, "use 1 to %u letters, digits, '.', '_' and '-', not beginning with '.'",
                  HS_ADAPTER_NAME_MAX);
    return HS_INVALID_ARGUMENT;
}

/* strtof takes more (white space, "inf", hexadecimal), none of which is meant here. */
static bool is_decimal(const char *text)
{
    const char *at = text + strspn(text, "+-");
    size_t n_digits = strspn(at, "0123456789");
    if (at - text > 1) {
        return false;
    }
    at += n_digits;
    if (*at == '.') {
        size_t n_more = strspn(++at, "0123456789");
        n_digits += n_more;
        at += n_more;
    }
    if (n_digits > 0 && (*at == 'e' || *at == 'E')) {
        at += at[1] == '+' || at[1] == '-' ? 2 : 1;
        n_digits = strspn(at, "0123456789");
        at += n_digits;
    }
    return n_digits > 0 && *at == '\0' && (size_t)(at - text) <= SCALE_MAX_CHARACTERS;
}

static hs_status parse_scale(const char *text, float *ret_scale, struct hs_error *err)
{
    if (is_decimal(text)) {
        locale_t c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
        if (c_locale == (locale_t)0) {
            return hs_error_nomem(err, "number parser");
        }
        float scale = strtof_l(text, NULL, c_locale);
        freelocale(c_locale);
        if (isfinite(scale)) {
            *ret_scale = scale;
            return HS_OK;
        }
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "'%.80s' is not an adapter's scale", text);
    hs_error_hint(err, "write a number such as 1, 0.5 or -0.25 behind the colon");
    return HS_INVALID_ARGUMENT;
}

hs_status hs_adapter_ref_parse(const char *text, struct hs_adapter_ref *ret_ref,
                               struct hs_error *err)
{
    float scale = 1.0f;
    const char *colon = strchr(text, ':');
    if (colon != NULL) {
        hs_status status = parse_scale(colon + 1, &scale, err);
        if (status != HS_OK) {
            return status;
        }
    }
    char *name = colon == NULL ? hs_strdup(text) : hs_strndup(text, (size_t)(colon - text));
    if (name == NULL) {
        return hs_error_nomem(err, "adapter name");
    }
    hs_status status = hs_adapter_name_check("name", name, err);
    if (status != HS_OK) {
        hs_free(name);
        return status;
    }
    *ret_ref = (struct hs_adapter_ref){.name = name, .scale = scale};
    return HS_OK;
}

void hs_adapter_ref_clear(struct hs_adapter_ref *ref)
{
    hs_free((char *)ref->name); /* made by hs_adapter_ref_parse */
    ref->name = NULL;
}

/* ---- the key of a set ---- */

struct member {
    const char *name;
    const char *version;
    float scale;
};

static int compare_member(const void *a, const void *b)
{
    return strcmp(((const struct member *)a)->name, ((const struct member *)b)->name);
}

static hs_status check_member(const struct member *member, struct hs_error *err)
{
    hs_status status = hs_adapter_name_check("name", member->name, err);
    if (status == HS_OK && member->version != NULL) {
        status = hs_adapter_name_check("version", member->version, err);
    }
    if (status != HS_OK) {
        return status;
    }
    if (!isfinite(member->scale)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "the scale of adapter '%s' is not finite",
                     member->name);
        hs_error_hint(err, "give a number such as 1 or 0.5");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

static hs_status append_member(struct hs_buf *key, const struct member *member)
{
    uint32_t bits = 0;
    memcpy(&bits, &member->scale, sizeof(bits));
    return hs_buf_printf(key, "%s%s@%s*%08x", key->len > 0 ? "+" : "", member->name,
                         member->version == NULL ? "" : member->version, bits);
}

static hs_status append_members(struct hs_buf *key, const struct member *members, size_t n,
                                struct hs_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && strcmp(members[i - 1].name, members[i].name) == 0) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "adapter '%s' is named twice", members[i].name);
            hs_error_hint(err, "name it once, with the scale you want");
            return HS_INVALID_ARGUMENT;
        }
        if (members[i].scale != 0.0f && append_member(key, &members[i]) != HS_OK) {
            return hs_error_nomem(err, "adapter set key");
        }
    }
    return HS_OK;
}

hs_status hs_adapter_set_key(const struct hs_adapter_ref *refs, const char *const *versions,
                             size_t n, char **ret_key, struct hs_error *err)
{
    struct member members[HS_ADAPTER_SET_MAX];
    HS_CLEANUP(hs_buf_free)
    struct hs_buf key = HS_BUF_INIT(HS_ADAPTER_SET_MAX * (2 * HS_ADAPTER_NAME_MAX + 16));
    if (n > HS_ADAPTER_SET_MAX) {
        hs_error_set(err, HS_LIMIT, "%zu adapters are more than the limit of %u", n,
                     HS_ADAPTER_SET_MAX);
        hs_error_hint(err, "merge some of them into one");
        return HS_LIMIT;
    }
    for (size_t i = 0; i < n; i++) {
        members[i] = (struct member){.name = refs[i].name,
                                     .version = versions == NULL ? NULL : versions[i],
                                     .scale = refs[i].scale};
        hs_status status = check_member(&members[i], err);
        if (status != HS_OK) {
            return status;
        }
    }
    qsort(members, n, sizeof(members[0]), compare_member);
    hs_status status = append_members(&key, members, n, err);
    if (status != HS_OK) {
        return status;
    }
    size_t len = 0;
    if (hs_buf_take(&key, ret_key, &len) != HS_OK) {
        return hs_error_nomem(err, "adapter set key");
    }
    return HS_OK;
}
