/* config.c - the table of settings, the values from variables and flags, and the getters. */
#include "base/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "config_value.h"

#define VARIABLE_PREFIX "HYPRSTREAM_"
#define NAME_MAX_LEN 40u /* longer than every name in the table and every slip in one */
#define NEAREST_MAX 3u

static const struct hs_config_row rows[] = {
#define HS_CONFIG_ROW(id_, name_, short_, type_, default_, min_, max_, choices_, text_)            \
    [HS_CFG_##id_] = {.id = #id_,                                                                  \
                      .name = name_,                                                               \
                      .short_flag = short_,                                                        \
                      .type = type_,                                                               \
                      .default_value = default_,                                                   \
                      .min = min_,                                                                 \
                      .max = max_,                                                                 \
                      .choices = choices_,                                                         \
                      .text = text_},
#include "base/config.def"
#undef HS_CONFIG_ROW
};

extern char **environ;

const struct hs_config_row *hs_config_row(enum hs_config_id id)
{
    return &rows[id];
}

/* Of ASCII only: toupper() of "i" depends on the locale. */
static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* '_' and '-' are the same in names. */
static bool same_name(const char *a, const char *b)
{
    for (;; a++, b++) {
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) {
            return false;
        }
        if (*a == '\0') {
            return true;
        }
    }
}

const struct hs_config_row *hs_config_find(const char *name, enum hs_config_id *ret_id)
{
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        if (same_name(name, rows[id].name)) {
            if (ret_id != NULL) {
                *ret_id = (enum hs_config_id)id;
            }
            return &rows[id];
        }
    }
    return NULL;
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance of two names of at most NAME_MAX_LEN bytes. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_LEN + 1];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + change);
            diagonal = above;
        }
    }
    return row[n];
}

const char *hs_config_nearest(const char *name)
{
    char wanted[NAME_MAX_LEN + 1];
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_LEN) {
        return NULL;
    }
    for (size_t i = 0; i <= len; i++) {
        wanted[i] = name[i] == '_' ? '-' : lower(name[i]);
    }
    /* of a short name, half must be right: "abc" is not a slip in "rpc" */
    size_t best = len / 2 < NEAREST_MAX ? len / 2 + 1 : NEAREST_MAX + 1;
    const char *nearest = NULL;
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        size_t distance = edit_distance(wanted, rows[id].name);
        if (distance < best) {
            best = distance;
            nearest = rows[id].name;
        }
    }
    return nearest;
}

hs_status hs_config_init(struct hs_config *ret_config, struct hs_error *err)
{
    struct hs_config config = {.values = {{.text = NULL}}};
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        struct config_input input = {.id = (enum hs_config_id)id,
                                     .source = HS_CONFIG_DEFAULT,
                                     .origin = "default",
                                     .text = rows[id].default_value};
        hs_status status;
        if (input.text != NULL) {
            status = config_value_set(&config, &input, err);
        } else {
            struct hs_config_value *value = &config.values[id];
            value->text = hs_strdup("");
            value->origin = hs_strdup(input.origin);
            bool has_memory = value->text != NULL && value->origin != NULL;
            status = has_memory ? HS_OK : hs_error_nomem(err, "the settings");
        }
        if (status != HS_OK) {
            hs_config_free(&config);
            return status;
        }
    }
    *ret_config = config;
    return HS_OK;
}

/* "HYPRSTREAM_CTX_SIZE" is the variable of "ctx-size". */
static bool is_variable_of(const char *variable, size_t len, const char *name)
{
    if (len != strlen(name)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (variable[i] != (name[i] == '-' ? '_' : upper(name[i]))) {
            return false;
        }
    }
    return true;
}

/* The setting of variable[len] (without its prefix), or HS_CFG_COUNT. */
static int find_variable(const char *variable, size_t len)
{
    int id = 0;
    while (id < HS_CFG_COUNT && !is_variable_of(variable, len, rows[id].name)) {
        id++;
    }
    return id;
}

static void warn_unknown(const char *name)
{
    char meant[sizeof VARIABLE_PREFIX + NAME_MAX_LEN];
    const char *nearest = hs_config_nearest(name + strlen(VARIABLE_PREFIX));
    size_t n = 0;
    for (; nearest != NULL && nearest[n] != '\0'; n++) {
        meant[n] = nearest[n] == '-' ? '_' : upper(nearest[n]);
    }
    meant[n] = '\0';
    hs_log(HS_LOG_WARN, "config", "the variable %s is none of hyprstream's settings%s%s%s", name,
           nearest == NULL ? "" : "; did you mean " VARIABLE_PREFIX, meant,
           nearest == NULL ? "" : "?");
}

hs_status hs_config_load_env(struct hs_config *config, struct hs_error *err)
{
    const size_t prefix = strlen(VARIABLE_PREFIX);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL || strncmp(*entry, VARIABLE_PREFIX, prefix) != 0) {
            continue;
        }
        HS_CLEANUP(hs_freep) char *name = hs_strndup(*entry, (size_t)(equals - *entry));
        if (name == NULL) {
            return hs_error_nomem(err, "the name of a variable");
        }
        int id = find_variable(name + prefix, strlen(name) - prefix);
        if (id == HS_CFG_COUNT) {
            if (strcmp(name, "HYPRSTREAM_HOME") != 0) {
                warn_unknown(name);
            }
            continue;
        }
        if (equals[1] == '\0') {
            continue; /* an empty variable counts as not set, as in the XDG specification */
        }
        struct config_input input = {.id = (enum hs_config_id)id,
                                     .source = HS_CONFIG_ENV,
                                     .origin = name,
                                     .text = equals + 1};
        hs_status status = config_value_set(config, &input, err);
        if (status != HS_OK) {
            return status;
        }
    }
    return HS_OK;
}

hs_status hs_config_set_flag(struct hs_config *config, enum hs_config_id id, const char *value,
                             struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *origin = hs_asprintf("--%s", rows[id].name);
    return origin == NULL ? hs_error_nomem(err, "the name of a flag")
                          : hs_config_set(config, id, value, origin, err);
}

hs_status hs_config_set(struct hs_config *config, enum hs_config_id id, const char *value,
                        const char *origin, struct hs_error *err)
{
    const struct hs_config_row *row = &rows[id];
    if (value == NULL && row->type != HS_CONFIG_BOOL) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s: setting '%s' needs a value", origin, row->name);
        hs_error_hint(err, "write %s %s", origin, row->choices);
        return HS_INVALID_ARGUMENT;
    }
    struct config_input input = {.id = id,
                                 .source = HS_CONFIG_FLAG,
                                 .origin = origin,
                                 .text = value == NULL ? "true" : value,
                                 .items = &value,
                                 .n_items = 1};
    return config_value_set(config, &input, err);
}

void hs_config_free(struct hs_config *config)
{
    if (config == NULL) {
        return;
    }
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        config_value_free(&config->values[id]);
    }
}

const char *hs_config_str(const struct hs_config *config, enum hs_config_id id)
{
    const struct hs_config_value *value = &config->values[id];
    return value->is_set ? value->text : NULL;
}

int64_t hs_config_int(const struct hs_config *config, enum hs_config_id id)
{
    return (int64_t)config->values[id].number;
}

double hs_config_float(const struct hs_config *config, enum hs_config_id id)
{
    return config->values[id].number;
}

bool hs_config_bool(const struct hs_config *config, enum hs_config_id id)
{
    return config->values[id].number != 0;
}

bool hs_config_is_set(const struct hs_config *config, enum hs_config_id id)
{
    return config->values[id].is_set;
}
