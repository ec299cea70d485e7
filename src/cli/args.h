/*
 * args.h - the command line: words, settings and options in any order.
 *
 * "--x VALUE", "--x=VALUE", "-x VALUE", "-xVALUE"; "--x" and "--no-x" for switches; "--" ends them
 * and
 * "-" alone is a word. Names come from config.def and options.def.
 *
 * Errors:  HS_INVALID_ARGUMENT with the nearest name as hint.
 * Owner:   strings are borrowed from argv, or released with the lists by hs_args_free.
 * Threads: none.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "api/command.h"

struct hs_args_setting {
    enum hs_config_id id;
    const char *value; /* NULL: a switch without a value */
};

struct hs_args {
    struct hs_args_setting *settings; /* [n_settings], in the order given */
    int n_settings;
    const char *options[HS_OPT_COUNT]; /* as in struct hs_command_args */
    char *joined[HS_OPT_COUNT];        /* of those that were given again */
    char **words;                      /* [n_words] */
    int n_words;
};

/* argv without the program's name. */
HS_CHECKED hs_status hs_args_parse(int argc, char *const *argv, struct hs_args *ret_args,
                                   struct hs_error *err);
/* Whether the command understands everything that was given: settings, options, number of arguments
 * (n_words_taken words name the command itself). */
HS_CHECKED hs_status hs_args_check(const struct hs_args *args, const struct hs_command *command,
                                   int n_words_taken, struct hs_error *err);
/* The value given for a setting last, or NULL. */
const char *hs_args_setting_value(const struct hs_args *args, enum hs_config_id id);
void hs_args_free(struct hs_args *args);

/* HS_INVALID_ARGUMENT: no command begins with these words; says which is near, or what may follow.
 */
hs_status hs_args_unknown_command(const struct hs_args *args, struct hs_error *err);

#endif
