/*
 * config.h - settings from one table (config.def): flag over environment variable over file over
 * default.
 *
 * A row gives name ("ctx-size"), type, default, range and text; from it come the flag --ctx-size,
 * the variable HYPRSTREAM_CTX_SIZE, the key `ctx-size` of the file, the help text, the man page and
 * the completions. File: `key = value` lines, '#' comments, values bare or in double quotes (a
 * subset of TOML 1.0, no tables), lists also as ["a", "b"]; UTF-8, at most 1 MiB. A setting that
 * stands twice: the last one wins and the log warns. An empty STRING, PATH or LIST unsets what a
 * lower source says; an empty variable counts as not there. Sources may be loaded in any order.
 *
 * Owner:   struct hs_config holds its values; hs_config_free releases them.
 * Threads: filled by one thread, then read-only.
 * Errors:  HS_INVALID_ARGUMENT naming the setting, where it came from (file and line, variable or
 * flag), the value and the range; unknown keys likewise, with the nearest known name as hint.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include "hyprstream.h"

enum hs_config_type {
    HS_CONFIG_STRING,
    HS_CONFIG_PATH,
    HS_CONFIG_INT,
    HS_CONFIG_FLOAT,
    HS_CONFIG_BOOL, /* true/false, yes/no, on/off, 1/0; a flag without value is true, --no-NAME is
                       false */
    HS_CONFIG_ENUM, /* one of `choices`, '|'-separated */
    HS_CONFIG_LIST, /* strings; a flag repeats, file and variable are comma-separated */
    HS_CONFIG_SIZE  /* bytes, with optional K, M, G, T (powers of 1024) */
};

enum hs_config_source { HS_CONFIG_DEFAULT, HS_CONFIG_FILE, HS_CONFIG_ENV, HS_CONFIG_FLAG };

/* One row. Ids are HS_CFG_<ID>, in table order. */
struct hs_config_row {
    const char *id;   /* "CTX_SIZE" */
    const char *name; /* "ctx-size" */
    char short_flag;  /* 0: none */
    enum hs_config_type type;
    const char *default_value; /* as written in a file; NULL: unset */
    double min, max;           /* for numbers */
    const char *choices; /* for enums; for others the placeholder shown in help, e.g. "FILE" */
    const char *text;    /* one line of help */
};

enum hs_config_id {
#define HS_CONFIG_ROW(id, name, short_flag, type, default_value, min, max, choices, text)          \
    HS_CFG_##id,
#include "base/config.def"
#undef HS_CONFIG_ROW
    HS_CFG_COUNT
};

struct hs_config_value {
    enum hs_config_source source;
    bool is_set;   /* false: no default and nobody set it */
    char *text;    /* as given; "" when not set */
    char *origin;  /* "config.toml:12", "HYPRSTREAM_TEMP", "--temp", "default" */
    double number; /* INT, FLOAT, SIZE; BOOL as 0 or 1; ENUM as index */
    char **items;  /* LIST */
    size_t n_items;
};

struct hs_config {
    struct hs_config_value values[HS_CFG_COUNT];
};

const struct hs_config_row *hs_config_row(enum hs_config_id id);
/* By "ctx-size" or "ctx_size"; NULL when there is no such setting. */
const struct hs_config_row *hs_config_find(const char *name, enum hs_config_id *ret_id);
/* The known name nearest to `name` (edit distance at most 3), or NULL. */
const char *hs_config_nearest(const char *name);

HS_CHECKED hs_status hs_config_init(struct hs_config *ret_config,
                                    struct hs_error *err); /* defaults */
/* A missing file is HS_OK unless `must_exist`. */
HS_CHECKED hs_status hs_config_load_file(struct hs_config *config, const char *path,
                                         bool must_exist, struct hs_error *err);
/* The same for text[len] that was read from `origin`. */
HS_CHECKED hs_status hs_config_load_text(struct hs_config *config, const char *text, size_t len,
                                         const char *origin, struct hs_error *err);
HS_CHECKED hs_status hs_config_load_env(struct hs_config *config, struct hs_error *err);
/* value NULL: the flag stood alone (BOOL only). LIST flags append to earlier flags, replace lower
 * sources. */
HS_CHECKED hs_status hs_config_set_flag(struct hs_config *config, enum hs_config_id id,
                                        const char *value, struct hs_error *err);
/* Likewise, and as strong as a flag, with a name of its own in messages: "/set". */
HS_CHECKED hs_status hs_config_set(struct hs_config *config, enum hs_config_id id,
                                   const char *value, const char *origin, struct hs_error *err);
void hs_config_free(struct hs_config *config);

const char *hs_config_str(const struct hs_config *config,
                          enum hs_config_id id); /* NULL when not set */
int64_t hs_config_int(const struct hs_config *config, enum hs_config_id id);
double hs_config_float(const struct hs_config *config, enum hs_config_id id);
bool hs_config_bool(const struct hs_config *config, enum hs_config_id id);
bool hs_config_is_set(const struct hs_config *config, enum hs_config_id id);

#endif
