#include "help.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define MIN_COLUMNS 40
#define MAX_COLUMNS 100 /* longer lines are hard to read */
#define FLAG_COLUMNS 28

const char *hs_help_setting_flag(const struct hs_config_row *row, char *text, size_t size)
{
    char letter[5] = "    ";
    if (row->short_flag) {
        snprintf(letter, sizeof letter, "-%c, ", row->short_flag);
    }
    if (row->type == HS_CONFIG_BOOL) {
        snprintf(text, size, "%s--[no-]%s", letter, row->name);
    } else {
        snprintf(text, size, "%s--%s %s", letter, row->name, row->choices ? row->choices : "VALUE");
    }
    return text;
}

const char *hs_help_option_flag(const struct hs_option_row *row, char *text, size_t size)
{
    char letter[5] = "    ";
    if (row->short_flag) {
        snprintf(letter, sizeof letter, "-%c, ", row->short_flag);
    }
    snprintf(text, size, "%s--%s%s%s", letter, row->name, row->placeholder ? " " : "",
             row->placeholder ? row->placeholder : "");
    return text;
}

const char *hs_help_variable(const struct hs_config_row *row, char *text, size_t size)
{
    snprintf(text, size, "HYPRSTREAM_%s", row->name);
    for (char *c = text; *c; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
    return text;
}

/* Append words[len] broken into lines; `indent` before each line but the first. */
static hs_status wrap(struct hs_buf *text, const char *words, size_t len, size_t indent,
                      size_t columns)
{
    size_t at = indent;
    hs_status status = HS_OK;
    for (size_t i = 0; i < len && !status;) {
        size_t word = 0;
        while (i + word < len && words[i + word] != ' ') {
            word++;
        }
        size_t width = hs_utf8_columns(words + i, word);
        if (at > indent && at + 1 + width > columns) {
            status = hs_buf_printf(text, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            status = hs_buf_append(text, " ", 1);
            at++;
        }
        status = status ? status : hs_buf_append(text, words + i, word);
        at += width;
        i += word;
        while (i < len && words[i] == ' ') {
            i++;
        }
    }
    return status ? status : hs_buf_append(text, "\n", 1);
}

/* A flag or command and what it does, in two columns. */
static hs_status entry(struct hs_buf *text, const char *name, const char *words, size_t columns)
{
    int pad = FLAG_COLUMNS - (int)strlen(name);
    hs_status status;
    if (pad > 0) {
        status = hs_buf_printf(text, "  %s%*s", name, pad, "");
    } else {
        status = hs_buf_printf(text, "  %s\n%*s", name, FLAG_COLUMNS + 2, "");
    }
    return status ? status : wrap(text, words, strlen(words), FLAG_COLUMNS + 2, columns);
}

static size_t line_columns(int columns)
{
    return columns < MIN_COLUMNS ? MIN_COLUMNS
                                 : (columns > MAX_COLUMNS ? MAX_COLUMNS : (size_t)columns);
}

/* Paragraphs; lines that begin with a blank are kept as they are. */
static hs_status paragraphs(struct hs_buf *text, const char *details, size_t columns)
{
    hs_status status = HS_OK;
    while (*details && !status) {
        size_t len = strcspn(details, "\n");
        if (len == 0 || details[0] == ' ') {
            status = hs_buf_printf(text, "%.*s\n", (int)len, details);
        } else {
            status = wrap(text, details, len, 0, columns);
        }
        details += len + (details[len] == '\n');
    }
    return status;
}

hs_status hs_help_overview(struct hs_buf *text, int columns)
{
    size_t width = line_columns(columns);
    hs_status status =
        hs_buf_printf(text,
                      "hyprstream %s - local language models in your terminal\n\n"
                      "usage: hyprstream COMMAND [ARGUMENTS] [OPTIONS]\n\ncommands:\n",
                      hs_version());
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    for (size_t i = 0; i < n && !status; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s %s", rows[i].name, rows[i].args);
        status = entry(text, name, rows[i].text, width);
    }
    return status ? status
                  : hs_buf_append_str(text, "\n'hyprstream help COMMAND' shows its options;\n"
                                            "'hyprstream help --man | man -l -' has everything.\n");
}

static hs_status command_options(const struct hs_command *command, struct hs_buf *text,
                                 size_t width)
{
    char flag[128];
    hs_status status = HS_OK;
    for (int id = 0; id < HS_OPT_COUNT && !status; id++) {
        const struct hs_option_row *row = hs_option_row((enum hs_option_id)id);
        if (id == HS_OPT_HELP || hs_command_list_has(command->options, row->name)) {
            status = entry(text, hs_help_option_flag(row, flag, sizeof flag), row->text, width);
        }
    }
    for (int id = 0; id < HS_CFG_COUNT && !status; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        if (!hs_command_list_has(command->settings, row->name) &&
            !hs_command_list_has(HS_SETTINGS_COMMON, row->name)) {
            continue;
        }
        HS_CLEANUP(hs_freep)
        char *words = row->default_value && row->type != HS_CONFIG_BOOL
                          ? hs_asprintf("%s [%s]", row->text, row->default_value)
                          : hs_strdup(row->text);
        status = words ? entry(text, hs_help_setting_flag(row, flag, sizeof flag), words, width)
                       : HS_OUT_OF_MEMORY;
    }
    return status;
}

hs_status hs_help_command(const struct hs_command *command, struct hs_buf *text, int columns)
{
    size_t width = line_columns(columns);
    hs_status status = hs_buf_printf(text, "usage: hyprstream %s%s%s [OPTIONS]\n\n", command->name,
                                     command->args[0] ? " " : "", command->args);
    if (!status) {
        status = hs_buf_printf(text, "%c%s.\n", toupper((unsigned char)command->text[0]),
                               command->text + 1);
    }
    if (!status && command->details[0]) {
        status = hs_buf_append(text, "\n", 1);
        status = status ? status : paragraphs(text, command->details, width);
    }
    status = status ? status : hs_buf_append_str(text, "\noptions:\n");
    return status ? status : command_options(command, text, width);
}

/* All commands that begin with a first word, such as "model". */
static hs_status help_group(const char *first, struct hs_buf *text, int columns, size_t *ret_n)
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    size_t len = strlen(first);
    hs_status status = HS_OK;
    *ret_n = 0;
    for (size_t i = 0; i < n && !status; i++) {
        if (strncmp(rows[i].name, first, len) == 0 && rows[i].name[len] == ' ') {
            char name[64];
            snprintf(name, sizeof name, "%s %s", rows[i].name, rows[i].args);
            if (*ret_n == 0) {
                status = hs_buf_printf(
                    text, "usage: hyprstream %s COMMAND [OPTIONS]\n\ncommands:\n", first);
            }
            status = status ? status : entry(text, name, rows[i].text, line_columns(columns));
            ++*ret_n;
        }
    }
    return status;
}

hs_status hs_help_words(int n_words, char *const *words, struct hs_buf *text, int columns,
                        struct hs_error *err)
{
    int n_taken = 0;
    size_t n_group = 0;
    const struct hs_command *command = hs_command_find(n_words, words, &n_taken);
    hs_status status;
    if (n_words == 0) {
        status = hs_help_overview(text, columns);
    } else if (command) {
        status = hs_help_command(command, text, columns);
    } else {
        status = help_group(words[0], text, columns, &n_group);
        if (!status && (n_group == 0 || n_words > 1)) {
            bool is_group = n_group > 0;
            status = hs_error_set(err, HS_INVALID_ARGUMENT, "there is no command '%s%s%s'",
                                  words[0], is_group ? " " : "", is_group ? words[1] : "");
            hs_error_hint(err, "'hyprstream help%s%s' lists the commands", is_group ? " " : "",
                          is_group ? words[0] : "");
            return status;
        }
    }
    return status ? hs_error_nomem(err, "help") : HS_OK;
}

hs_status hs_cmd_help(const struct hs_command_args *args, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_HELP_MAX_BYTES);
    hs_status status = HS_OK;
    int n_taken = 0;
    const struct hs_command *command = hs_command_find(args->n_args, args->args, &n_taken);
    if (args->options[HS_OPT_MAN] && args->n_args > 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "--man takes no command: it has them all");
    }
    if (command && n_taken < args->n_args) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "there is no command '%s %s'",
                              command->name, args->args[n_taken]);
        hs_error_hint(err, "'hyprstream help %s' describes that one", command->name);
        return status;
    }
    if (args->options[HS_OPT_MAN]) {
        status = hs_man_page(&text) ? hs_error_nomem(err, "man page") : HS_OK;
    } else {
        status = hs_help_words(args->n_args, args->args, &text, args->io->columns, err);
    }
    return status ? status : args->io->out(args->io->self, text.data, text.len, err);
}
