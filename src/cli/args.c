#include "args.h"

#include <string.h>

#include "api/nearest.h"
#include "base/error.h"
#include "base/mem.h"

/* What one "--name" or "-x" turned out to be. */
struct flag {
    bool is_option;
    bool negated;  /* --no-name */
    int id;        /* of the setting or option */
    char text[64]; /* as it was written, for messages */
};

static bool takes_value(const struct flag *flag)
{
    if (flag->is_option) {
        return hs_option_row((enum hs_option_id)flag->id)->placeholder != NULL;
    }
    return hs_config_row((enum hs_config_id)flag->id)->type != HS_CONFIG_BOOL;
}

static bool find_long(const char *name, struct flag *flag)
{
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        if (strcmp(hs_option_row((enum hs_option_id)id)->name, name) == 0) {
            flag->is_option = true;
            flag->id = id;
            return true;
        }
    }
    enum hs_config_id id;
    if (hs_config_find(name, &id)) {
        flag->id = (int)id;
        return true;
    }
    if (strncmp(name, "no-", 3) == 0 && hs_config_find(name + 3, &id) &&
        hs_config_row(id)->type == HS_CONFIG_BOOL) {
        flag->id = (int)id;
        flag->negated = true;
        return true;
    }
    return false;
}

static bool find_short(char letter, struct flag *flag)
{
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        if (hs_option_row((enum hs_option_id)id)->short_flag == letter) {
            flag->is_option = true;
            flag->id = id;
            return true;
        }
    }
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        if (hs_config_row((enum hs_config_id)id)->short_flag == letter) {
            flag->id = id;
            return true;
        }
    }
    return false;
}

static bool understands_setting(const struct hs_command *command, const char *name)
{
    return hs_command_list_has(command->settings, name) ||
           hs_command_list_has(HS_SETTINGS_COMMON, name);
}

static bool understands_option(const struct hs_command *command, int id)
{
    return id == HS_OPT_HELP || id == HS_OPT_VERSION ||
           hs_command_list_has(command->options, hs_option_row((enum hs_option_id)id)->name);
}

/* Options of the command that was named before it; of all commands when none was. */
static hs_status unknown_flag(const struct hs_args *args, const char *text, struct hs_error *err)
{
    int n_words = 0;
    const struct hs_command *command = hs_command_find(args->n_words, args->words, &n_words);
    size_t len = strcspn(text, "=");
    hs_status status =
        hs_error_set(err, HS_INVALID_ARGUMENT, "unknown option '%.*s'", (int)len, text);
    HS_CLEANUP(hs_freep) char *name = hs_strndup(text, len);
    const char *topic = command ? command->name : "COMMAND";
    if (!name || strncmp(name, "--", 2) != 0) {
        hs_error_hint(err,
                      "'hyprstream help %s' lists the options; '--' before text that begins "
                      "with '-'",
                      topic);
        return status;
    }
    struct hs_nearest nearest = {.name = name + 2};
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        if (!command || understands_option(command, id)) {
            hs_nearest_offer(&nearest, hs_option_row((enum hs_option_id)id)->name);
        }
    }
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const char *setting = hs_config_row((enum hs_config_id)id)->name;
        if (!command || understands_setting(command, setting)) {
            hs_nearest_offer(&nearest, setting);
        }
    }
    if (nearest.best) {
        hs_error_hint(err, "did you mean '--%s'?", nearest.best);
    } else {
        hs_error_hint(err, "'hyprstream help %s' lists the options", topic);
    }
    return status;
}

/* A repeatable one keeps all its values, one a line. */
static hs_status take_option(struct hs_args *args, int id, const char *value, struct hs_error *err)
{
    bool is_list = id == HS_OPT_TAG || id == HS_OPT_EXAMPLE;
    if (!is_list || !args->options[id]) {
        args->options[id] = value;
        return HS_OK;
    }
    char *joined = hs_asprintf("%s\n%s", args->options[id], value);
    if (!joined) {
        return hs_error_nomem(err, "arguments");
    }
    hs_free(args->joined[id]);
    args->options[id] = args->joined[id] = joined;
    return HS_OK;
}

static hs_status take(struct hs_args *args, const struct flag *flag, const char *value,
                      struct hs_error *err)
{
    if (flag->is_option) {
        if (value && !takes_value(flag)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "%s takes no value", flag->text);
        }
        return take_option(args, flag->id, value ? value : "", err);
    }
    if (flag->negated && value) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "%s takes no value", flag->text);
    }
    args->settings[args->n_settings++] = (struct hs_args_setting){
        .id = (enum hs_config_id)flag->id, .value = flag->negated ? "false" : value};
    return HS_OK;
}

/* Find the flag in `text` and the value that is glued to it (NULL: none). */
static bool find_flag(const char *text, struct flag *flag, const char **ret_value)
{
    *flag = (struct flag){0};
    *ret_value = NULL;
    if (text[1] != '-') {
        flag->text[0] = '-';
        flag->text[1] = text[1];
        if (!find_short(text[1], flag)) {
            return false;
        }
        const char *rest = text[2] == '=' ? text + 3 : text + 2;
        *ret_value = text[2] ? rest : NULL;
        return true;
    }
    size_t len = strcspn(text, "=");
    if (len >= sizeof flag->text) {
        return false;
    }
    memcpy(flag->text, text, len);
    *ret_value = text[len] ? text + len + 1 : NULL;
    return find_long(flag->text + 2, flag);
}

static hs_status parse_flag(struct hs_args *args, int argc, char *const *argv, int *i,
                            struct hs_error *err)
{
    struct flag flag;
    const char *value;
    if (!find_flag(argv[*i], &flag, &value)) {
        return unknown_flag(args, argv[*i], err);
    }
    if (!value && takes_value(&flag)) {
        if (*i + 1 >= argc) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "%s needs a value", flag.text);
        }
        value = argv[++*i];
    }
    return take(args, &flag, value, err);
}

hs_status hs_args_parse(int argc, char *const *argv, struct hs_args *ret_args, struct hs_error *err)
{
    struct hs_args args HS_CLEANUP(hs_args_free) = {0};
    args.settings = hs_calloc((size_t)argc + 1, sizeof *args.settings);
    args.words = hs_calloc((size_t)argc + 1, sizeof *args.words);
    if (!args.settings || !args.words) {
        return hs_error_nomem(err, "arguments");
    }
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (only_words || argv[i][0] != '-' || argv[i][1] == '\0') {
            args.words[args.n_words++] = argv[i];
        } else {
            hs_status status = parse_flag(&args, argc, argv, &i, err);
            if (status) {
                return status;
            }
        }
    }
    *ret_args = args;
    args = (struct hs_args){0};
    return HS_OK;
}

static hs_status not_understood(const struct hs_command *command, const char *name,
                                struct hs_error *err)
{
    hs_status status =
        hs_error_set(err, HS_INVALID_ARGUMENT, "--%s is no option of '%s'", name, command->name);
    hs_error_hint(err, "'hyprstream help %s' lists its options", command->name);
    return status;
}

static hs_status check_count(const struct hs_command *command, int n, struct hs_error *err)
{
    if (n >= command->min_args && (command->max_args < 0 || n <= command->max_args)) {
        return HS_OK;
    }
    bool too_few = n < command->min_args;
    hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' %s", command->name,
                                    too_few                  ? "needs an argument"
                                    : command->max_args == 0 ? "takes no arguments"
                                                             : "was given too many arguments");
    hs_error_hint(err, "usage: hyprstream %s%s%s", command->name, command->args[0] ? " " : "",
                  command->args);
    return status;
}

hs_status hs_args_check(const struct hs_args *args, const struct hs_command *command,
                        int n_words_taken, struct hs_error *err)
{
    for (int i = 0; i < args->n_settings; i++) {
        const char *name = hs_config_row(args->settings[i].id)->name;
        if (!understands_setting(command, name)) {
            return not_understood(command, name, err);
        }
    }
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        if (args->options[id] && !understands_option(command, id)) {
            return not_understood(command, hs_option_row((enum hs_option_id)id)->name, err);
        }
    }
    return check_count(command, args->n_words - n_words_taken, err);
}

const char *hs_args_setting_value(const struct hs_args *args, enum hs_config_id id)
{
    const char *value = NULL;
    for (int i = 0; i < args->n_settings; i++) {
        value = args->settings[i].id == id ? args->settings[i].value : value;
    }
    return value;
}

void hs_args_free(struct hs_args *args)
{
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        hs_free(args->joined[id]);
    }
    hs_free(args->settings);
    hs_free(args->words);
    *args = (struct hs_args){0};
}

/* "list, show, verify" for "model": the second words of the commands that begin with it. */
static hs_status second_words(const char *first, struct hs_buf *words)
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    size_t len = strlen(first);
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        if (strncmp(rows[i].name, first, len) == 0 && rows[i].name[len] == ' ') {
            status = hs_buf_printf(words, "%s%s", words->len ? ", " : "", rows[i].name + len + 1);
        }
    }
    return status;
}

hs_status hs_args_unknown_command(const struct hs_args *args, struct hs_error *err)
{
    struct hs_buf words HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1024);
    const char *first = args->words[0];
    const char *second = args->n_words > 1 ? args->words[1] : NULL;
    if (second_words(first, &words)) {
        return hs_error_nomem(err, "commands");
    }
    if (words.len > 0 && !second) {
        hs_status status =
            hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' needs a second word", first);
        hs_error_hint(err, "one of: %s", words.data);
        return status;
    }
    HS_CLEANUP(hs_freep)
    char *typed = words.len > 0 ? hs_asprintf("%s %s", first, second) : hs_strdup(first);
    if (!typed) {
        return hs_error_nomem(err, "commands");
    }
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    struct hs_nearest nearest = {.name = typed};
    for (size_t i = 0; i < n; i++) {
        hs_nearest_offer(&nearest, rows[i].name);
    }
    hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "unknown command '%s'", typed);
    if (nearest.best) {
        hs_error_hint(err, "did you mean 'hyprstream %s'?", nearest.best);
    } else if (words.len > 0) {
        hs_error_hint(err, "after '%s' comes one of: %s", first, words.data);
    } else {
        hs_error_hint(err, "'hyprstream help' lists the commands");
    }
    return status;
}
