/*
 * completion.c - completions for bash, zsh and fish, from the tables of commands, settings and
 * options.
 *
 * The three scripts have one shape: drop options and their values from the words so far, look the
 * rest up among the commands, then offer values, options or arguments. Names of models, adapters
 * and sessions are asked of hyprstream itself when Tab is pressed.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "help.h"

#define SCRIPT_MAX_BYTES (1u << 20)

/* Printf that sticks: after a failure nothing more is appended. */
#define ADD(...) (status = status ? status : hs_buf_printf(text, __VA_ARGS__))

static const char models[] = "hyprstream model list --names 2>/dev/null";
static const char adapters[] = "hyprstream adapter list --names 2>/dev/null";
static const char sessions[] = "hyprstream session list --names 2>/dev/null";

struct shell {
    const char *name;
    hs_status (*write)(struct hs_buf *text);
};

static bool understands(const struct hs_command *command, const char *setting)
{
    return hs_command_list_has(command->settings, setting) ||
           hs_command_list_has(HS_SETTINGS_COMMON, setting);
}

static bool has_option(const struct hs_command *command, int id)
{
    return id == HS_OPT_HELP ||
           hs_command_list_has(command->options, hs_option_row((enum hs_option_id)id)->name);
}

/* `text` for between single quotes, each `special` character after a backslash; "'" becomes
 * `quote`. */
static hs_status add_quoted(struct hs_buf *text, const char *words, const char *special,
                            const char *quote)
{
    hs_status status = HS_OK;
    for (; *words && !status; words++) {
        if (*words == '\'') {
            ADD("%s", quote);
        } else {
            ADD("%s%c", strchr(special, *words) ? "\\" : "", *words);
        }
    }
    return status;
}

/* "--temp|-t|--top-k": the flags that take a value, for a case pattern with `separator`. */
static hs_status add_value_flags(struct hs_buf *text, const char *separator)
{
    hs_status status = HS_OK;
    const char *between = "";
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        if (row->type == HS_CONFIG_BOOL) {
            continue;
        }
        ADD("%s--%s", between, row->name);
        between = separator;
        if (row->short_flag) {
            ADD("%s-%c", separator, row->short_flag);
        }
    }
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        const struct hs_option_row *row = hs_option_row((enum hs_option_id)id);
        if (row->placeholder) {
            ADD("%s--%s", separator, row->name);
        }
    }
    return status;
}

/* What the value of a setting completes to. */
enum value_kind { VALUE_NONE, VALUE_MODEL, VALUE_ADAPTER, VALUE_SESSION, VALUE_FILE, VALUE_CHOICE };

static enum value_kind value_kind(int id)
{
    const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
    if (id == HS_CFG_MODEL) {
        return VALUE_MODEL;
    }
    if (id == HS_CFG_ADAPTER) {
        return VALUE_ADAPTER;
    }
    if (id == HS_CFG_SESSION) {
        return VALUE_SESSION;
    }
    if (row->type == HS_CONFIG_PATH) {
        return VALUE_FILE;
    }
    return row->type == HS_CONFIG_ENUM ? VALUE_CHOICE : VALUE_NONE;
}

/* What prints the names of that kind. */
static const char *names_command(enum value_kind kind)
{
    return kind == VALUE_MODEL ? models : kind == VALUE_ADAPTER ? adapters : sessions;
}

/* "auto|on|off" as "auto on off". */
static hs_status add_choices(struct hs_buf *text, const char *choices)
{
    hs_status status = HS_OK;
    for (; *choices && !status; choices++) {
        ADD("%c", *choices == '|' ? ' ' : *choices);
    }
    return status;
}

/* Call `add` with each first word of a command once, and whether more words follow it. */
static hs_status each_first_word(struct hs_buf *text,
                                 hs_status (*add)(struct hs_buf *text, const char *word, size_t len,
                                                  const struct hs_command *row))
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    hs_status status = HS_OK;
    const char *last = "";
    for (size_t i = 0; i < n && !status; i++) {
        size_t len = strcspn(rows[i].name, " ");
        bool is_new = strncmp(last, rows[i].name, len) != 0 || strcspn(last, " ") != len;
        if (is_new) { /* rows of one first word stand together */
            status = add(text, rows[i].name, len, &rows[i]);
        }
        last = rows[i].name;
    }
    return status;
}

/* ---- the commands, for bash and zsh ---- */

/* Call `add` with each row whose name begins with word[len] and a blank. */
static hs_status each_second_word(struct hs_buf *text, const char *word, size_t len,
                                  hs_status (*add)(struct hs_buf *text, const char *word,
                                                   size_t len, const struct hs_command *row))
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        if (strncmp(rows[i].name, word, len) == 0 && rows[i].name[len] == ' ') {
            const char *second = rows[i].name + len + 1;
            status = add(text, second, strlen(second), &rows[i]);
        }
    }
    return status;
}

/* How one of these shells writes what the other writes, too. */
struct dialect {
    const char *open, *close;             /* around a list of words */
    const char *names_open, *names_close; /* around a command that prints names */
    const char *bare;                     /* the list for words without descriptions */
    const char *top_flags;                /* when there is no command yet */
    /* what offers the values of a flag: some words, files, what a command prints, nothing */
    const char *choices_open, *choices_close, *files, *values_open, *values_close, *no_values;
    hs_status (*word)(struct hs_buf *text, const char *word, size_t len,
                      const struct hs_command *row);
    hs_status (*flags)(struct hs_buf *text, const struct hs_command *row);
};

static hs_status add_arguments(struct hs_buf *text, const struct dialect *dialect,
                               const char *completes)
{
    hs_status status = HS_OK;
    if (strcmp(completes, "model") == 0) {
        ADD("; names=%s%s%s", dialect->names_open, models, dialect->names_close);
    } else if (strcmp(completes, "adapter") == 0) {
        ADD("; names=%s%s%s", dialect->names_open, adapters, dialect->names_close);
    } else if (strcmp(completes, "session") == 0) {
        ADD("; names=%s%s%s", dialect->names_open, sessions, dialect->names_close);
    } else if (strcmp(completes, "file") == 0) {
        ADD("; files=1");
    } else if (completes[0] == '{') {
        ADD("; %s=%s%.*s%s", dialect->bare, dialect->open, (int)strlen(completes) - 2,
            completes + 1, dialect->close);
    }
    return status;
}

/* "model") offers list, show and so on; `before` is "" or "help ". */
static hs_status add_groups(struct hs_buf *text, const struct dialect *dialect, const char *before)
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        size_t len = strcspn(rows[i].name, " ");
        bool is_new = i == 0 || strncmp(rows[i - 1].name, rows[i].name, len + 1) != 0;
        if (rows[i].name[len] == ' ' && is_new) {
            ADD("    \"%s%.*s\") offer=%s", before, (int)len, rows[i].name, dialect->open);
            status = status ? status : each_second_word(text, rows[i].name, len, dialect->word);
            ADD("%s ;;\n", dialect->close);
        }
    }
    return status;
}

/* A command whose arguments are a command's words: first ones, then second ones. */
static hs_status add_command_words(struct hs_buf *text, const struct dialect *dialect,
                                   const struct hs_command *row)
{
    hs_status status = HS_OK;
    ADD("    \"%s\") flags=%s", row->name, dialect->open);
    status = status ? status : dialect->flags(text, row);
    ADD("%s; offer=%s", dialect->close, dialect->open);
    status = status ? status : each_first_word(text, dialect->word);
    ADD("%s ;;\n", dialect->close);
    HS_CLEANUP(hs_freep) char *before = hs_asprintf("%s ", row->name);
    if (status) {
        return status;
    }
    return before ? add_groups(text, dialect, before) : HS_OUT_OF_MEMORY;
}

/* The branches of a case over the words so far. */
static hs_status add_commands(struct hs_buf *text, const struct dialect *dialect)
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    hs_status status = HS_OK;
    ADD("    \"\") offer=%s", dialect->open);
    status = status ? status : each_first_word(text, dialect->word);
    ADD("%s; flags=%s%s%s ;;\n", dialect->close, dialect->open, dialect->top_flags, dialect->close);
    status = status ? status : add_groups(text, dialect, "");
    for (size_t i = 0; i < n && !status; i++) {
        if (strcmp(rows[i].completes, "command") == 0) {
            status = add_command_words(text, dialect, &rows[i]);
            continue;
        }
        ADD("    \"%s\"|\"%s \"*) flags=%s", rows[i].name, rows[i].name, dialect->open);
        status = status ? status : dialect->flags(text, &rows[i]);
        ADD("%s", dialect->close);
        status = status ? status : add_arguments(text, dialect, rows[i].completes);
        ADD(" ;;\n");
    }
    return status;
}

/* The cases of a flag's values, by the flag that stands before. */
static hs_status add_values(struct hs_buf *text, const struct dialect *dialect)
{
    hs_status status = HS_OK;
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        enum value_kind kind = value_kind(id);
        if (kind == VALUE_NONE) {
            continue;
        }
        ADD("    --%s", row->name);
        if (row->short_flag) {
            ADD("|-%c", row->short_flag);
        }
        if (kind == VALUE_CHOICE) {
            ADD(") %s", dialect->choices_open);
            status = status ? status : add_choices(text, row->choices);
            ADD("%s; return ;;\n", dialect->choices_close);
        } else if (kind == VALUE_FILE) {
            ADD(") %s; return ;;\n", dialect->files);
        } else {
            ADD(") %s%s%s; return ;;\n", dialect->values_open, names_command(kind),
                dialect->values_close);
        }
    }
    ADD("    ");
    status = status ? status : add_value_flags(text, "|");
    ADD(") %s ;;\n", dialect->no_values);
    return status;
}

/* ---- bash ---- */

static hs_status bash_word(struct hs_buf *text, const char *word, size_t len,
                           const struct hs_command *row)
{
    (void)row;
    return hs_buf_printf(text, "%.*s ", (int)len, word);
}

static hs_status bash_flags(struct hs_buf *text, const struct hs_command *row)
{
    hs_status status = HS_OK;
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        if (has_option(row, id)) {
            ADD("--%s ", hs_option_row((enum hs_option_id)id)->name);
        }
    }
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const struct hs_config_row *setting = hs_config_row((enum hs_config_id)id);
        if (understands(row, setting->name)) {
            ADD("--%s ", setting->name);
            if (setting->type == HS_CONFIG_BOOL) {
                ADD("--no-%s ", setting->name);
            }
        }
    }
    return status;
}

static const struct dialect bash = {
    .open = "\"",
    .close = "\"",
    .names_open = "$(",
    .names_close = ")",
    .bare = "offer",
    .top_flags = "--help --version",
    .choices_open = "COMPREPLY=($(compgen -W \"",
    .choices_close = "\" -- \"$cur\"))",
    .files = "_hyprstream_files",
    .values_open = "_hyprstream_names \"$(",
    .values_close = ")\"",
    .no_values = "return",
    .word = bash_word,
    .flags = bash_flags,
};

static hs_status write_bash(struct hs_buf *text)
{
    hs_status status = HS_OK;
    ADD("# bash completion of hyprstream, written by 'hyprstream completion bash'\n"
        "_hyprstream_names() {\n"
        "    local IFS=$'\\n'\n"
        "    COMPREPLY=($(compgen -W \"$1\" -- \"$cur\"))\n"
        "}\n"
        "_hyprstream_files() {\n"
        "    local IFS=$'\\n'\n"
        "    compopt -o filenames 2>/dev/null\n"
        "    COMPREPLY=($(compgen -f -- \"$cur\"))\n"
        "}\n"
        "_hyprstream() {\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    local words= word skip= offer= flags= names= files= i\n"
        "    COMPREPLY=()\n"
        "    if [[ $cur == '=' ]]; then\n"
        "        cur=\n"
        "    elif [[ $prev == '=' && $COMP_CWORD -ge 2 ]]; then\n"
        "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
        "    fi\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        word=${COMP_WORDS[i]}\n"
        "        if [[ $word == '=' ]]; then skip=1; continue; fi\n"
        "        if [[ $skip ]]; then skip=; continue; fi\n"
        "        case $word in\n"
        "        ");
    status = status ? status : add_value_flags(text, "|");
    ADD(") skip=1 ;;\n"
        "        -*) ;;\n"
        "        *) words=\"${words:+$words }$word\" ;;\n"
        "        esac\n"
        "    done\n"
        "    case $prev in\n");
    status = status ? status : add_values(text, &bash);
    ADD("    esac\n"
        "    case \"$words\" in\n");
    status = status ? status : add_commands(text, &bash);
    ADD("    esac\n"
        "    if [[ $cur == -* ]]; then\n"
        "        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
        "    elif [[ $names ]]; then\n"
        "        _hyprstream_names \"$names\"\n"
        "    elif [[ $files ]]; then\n"
        "        _hyprstream_files\n"
        "    elif [[ $offer ]]; then\n"
        "        COMPREPLY=($(compgen -W \"$offer\" -- \"$cur\"))\n"
        "    fi\n"
        "}\n"
        "complete -F _hyprstream hyprstream\n");
    return status;
}

/* ---- zsh ---- */

/* 'name:what it does' */
static hs_status zsh_entry(struct hs_buf *text, const char *prefix, const char *name, size_t len,
                           const char *words)
{
    hs_status status = HS_OK;
    ADD("'%s%.*s:", prefix, (int)len, name);
    status = status ? status : add_quoted(text, words, "\\:", "'\\''");
    ADD("' ");
    return status;
}

static hs_status zsh_word(struct hs_buf *text, const char *word, size_t len,
                          const struct hs_command *row)
{
    bool is_group = word == row->name && row->name[len] == ' ';
    return zsh_entry(text, "", word, len, is_group ? "more commands" : row->text);
}

static hs_status zsh_flags(struct hs_buf *text, const struct hs_command *row)
{
    hs_status status = HS_OK;
    for (int id = 0; id < HS_OPT_COUNT && !status; id++) {
        const struct hs_option_row *option = hs_option_row((enum hs_option_id)id);
        if (has_option(row, id)) {
            status = zsh_entry(text, "--", option->name, strlen(option->name), option->text);
        }
    }
    for (int id = 0; id < HS_CFG_COUNT && !status; id++) {
        const struct hs_config_row *setting = hs_config_row((enum hs_config_id)id);
        if (!understands(row, setting->name)) {
            continue;
        }
        status = zsh_entry(text, "--", setting->name, strlen(setting->name), setting->text);
        if (setting->type == HS_CONFIG_BOOL && !status) {
            status = zsh_entry(text, "--no-", setting->name, strlen(setting->name), "the opposite");
        }
    }
    return status;
}

static const struct dialect zsh = {
    .open = "(",
    .close = ")",
    .names_open = "(${(f)\"$(",
    .names_close = ")\"})",
    .bare = "names",
    .top_flags = "'--help:show the help' '--version:show the version'",
    .choices_open = "compadd -- ",
    .choices_close = "",
    .files = "_files",
    .values_open = "compadd -- ${(f)\"$(",
    .values_close = ")\"}",
    .no_values = "return 1",
    .word = zsh_word,
    .flags = zsh_flags,
};

static hs_status write_zsh(struct hs_buf *text)
{
    hs_status status = HS_OK;
    ADD("#compdef hyprstream\n"
        "# zsh completion of hyprstream, written by 'hyprstream completion zsh'\n"
        "_hyprstream() {\n"
        "    local cur=$words[CURRENT] prev=$words[CURRENT-1] taken= word skip= files= i\n"
        "    local -a offer flags names\n"
        "    for ((i = 2; i < CURRENT; i++)); do\n"
        "        word=$words[i]\n"
        "        if [[ -n $skip ]]; then skip=; continue; fi\n"
        "        case $word in\n"
        "        ");
    status = status ? status : add_value_flags(text, "|");
    ADD(") skip=1 ;;\n"
        "        -*) ;;\n"
        "        *) taken=\"${taken:+$taken }$word\" ;;\n"
        "        esac\n"
        "    done\n"
        "    case $prev in\n");
    status = status ? status : add_values(text, &zsh);
    ADD("    esac\n"
        "    case \"$taken\" in\n");
    status = status ? status : add_commands(text, &zsh);
    ADD("    esac\n"
        "    if [[ $cur == -* ]]; then\n"
        "        _describe -o option flags\n"
        "    elif [[ -n $files ]]; then\n"
        "        _files\n"
        "    elif (( $#names )); then\n"
        "        compadd -- $names\n"
        "    elif (( $#offer )); then\n"
        "        _describe command offer\n"
        "    fi\n"
        "}\n"
        "if [[ $funcstack[1] == _hyprstream ]]; then\n"
        "    _hyprstream \"$@\"\n"
        "else\n"
        "    compdef _hyprstream hyprstream\n"
        "fi\n");
    return status;
}

/* ---- fish ---- */

static hs_status fish_description(struct hs_buf *text, const char *words)
{
    hs_status status = HS_OK;
    ADD(" -d '");
    status = status ? status : add_quoted(text, words, "\\", "\\'");
    ADD("'\n");
    return status;
}

static hs_status fish_word(struct hs_buf *text, const char *word, size_t len,
                           const struct hs_command *row)
{
    hs_status status = HS_OK;
    ADD("complete -c hyprstream -n __hyprstream_exactly -a %.*s", (int)len, word);
    bool is_group = row->name[len] == ' ';
    return status ? status : fish_description(text, is_group ? "more commands" : row->text);
}

static hs_status fish_help_word(struct hs_buf *text, const char *word, size_t len,
                                const struct hs_command *row)
{
    (void)row;
    return hs_buf_printf(text, "%.*s ", (int)len, word);
}

static hs_status fish_setting(struct hs_buf *text, const struct hs_command *row, int id)
{
    const struct hs_config_row *setting = hs_config_row((enum hs_config_id)id);
    hs_status status = HS_OK;
    ADD("complete -c hyprstream -n '__hyprstream_begins %s' -l %s", row->name, setting->name);
    if (setting->short_flag) {
        ADD(" -s %c", setting->short_flag);
    }
    switch (value_kind(id)) {
    case VALUE_MODEL:
        ADD(" -x -a '(%s)'", models);
        break;
    case VALUE_ADAPTER:
    case VALUE_SESSION:
        ADD(" -x -a '(%s)'", names_command(value_kind(id)));
        break;
    case VALUE_FILE:
        ADD(" -r -F");
        break;
    case VALUE_CHOICE:
        ADD(" -x -a '");
        status = status ? status : add_choices(text, setting->choices);
        ADD("'");
        break;
    case VALUE_NONE:
        ADD("%s", setting->type == HS_CONFIG_BOOL ? "" : " -x");
        break;
    }
    status = status ? status : fish_description(text, setting->text);
    if (setting->type == HS_CONFIG_BOOL) {
        ADD("complete -c hyprstream -n '__hyprstream_begins %s' -l no-%s -d 'the opposite'\n",
            row->name, setting->name);
    }
    return status;
}

static hs_status fish_command_words(struct hs_buf *text, const char *after)
{
    hs_status status = HS_OK;
    ADD("complete -c hyprstream -n '__hyprstream_exactly %s' -a '", after);
    status = status ? status : each_first_word(text, fish_help_word);
    ADD("'\n");
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    for (size_t i = 0; i < n && !status; i++) {
        const char *second = strchr(rows[i].name, ' ');
        if (second) {
            ADD("complete -c hyprstream -n '__hyprstream_exactly %s %.*s' -a %s\n", after,
                (int)(second - rows[i].name), rows[i].name, second + 1);
        }
    }
    return status;
}

static hs_status fish_arguments(struct hs_buf *text, const struct hs_command *row)
{
    hs_status status = HS_OK;
    if (row->completes[0] == '\0') {
        return HS_OK;
    }
    if (strcmp(row->completes, "command") == 0) {
        return fish_command_words(text, row->name);
    }
    ADD("complete -c hyprstream -n '__hyprstream_begins %s' ", row->name);
    if (strcmp(row->completes, "model") == 0) {
        ADD("-a '(%s)'\n", models);
    } else if (strcmp(row->completes, "adapter") == 0) {
        ADD("-a '(%s)'\n", adapters);
    } else if (strcmp(row->completes, "session") == 0) {
        ADD("-a '(%s)'\n", sessions);
    } else if (strcmp(row->completes, "file") == 0) {
        ADD("-F\n");
    } else {
        ADD("-a '%.*s'\n", (int)strlen(row->completes) - 2, row->completes + 1);
    }
    return status;
}

static hs_status fish_command(struct hs_buf *text, const struct hs_command *row)
{
    hs_status status = HS_OK;
    const char *second = strchr(row->name, ' ');
    if (second) {
        ADD("complete -c hyprstream -n '__hyprstream_exactly %.*s' -a %s",
            (int)(second - row->name), row->name, second + 1);
        status = status ? status : fish_description(text, row->text);
    }
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        const struct hs_option_row *option = hs_option_row((enum hs_option_id)id);
        if (has_option(row, id)) {
            ADD("complete -c hyprstream -n '__hyprstream_begins %s' -l %s%s", row->name,
                option->name, option->placeholder ? " -x" : "");
            status = status ? status : fish_description(text, option->text);
        }
    }
    for (int id = 0; id < HS_CFG_COUNT && !status; id++) {
        if (understands(row, hs_config_row((enum hs_config_id)id)->name)) {
            status = fish_setting(text, row, id);
        }
    }
    return status ? status : fish_arguments(text, row);
}

static hs_status write_fish(struct hs_buf *text)
{
    hs_status status = HS_OK;
    ADD("# fish completion of hyprstream, written by 'hyprstream completion fish'\n"
        "function __hyprstream_words\n"
        "    set -l skip 0\n"
        "    for word in (commandline -opc)[2..-1]\n"
        "        if test $skip = 1\n"
        "            set skip 0\n"
        "            continue\n"
        "        end\n"
        "        switch $word\n"
        "            case ");
    status = status ? status : add_value_flags(text, " ");
    ADD("\n"
        "                set skip 1\n"
        "            case '-*'\n"
        "            case '*'\n"
        "                echo $word\n"
        "        end\n"
        "    end\n"
        "end\n"
        "function __hyprstream_exactly\n"
        "    set -l have (__hyprstream_words)\n"
        "    test \"$have\" = \"$argv\"\n"
        "end\n"
        "function __hyprstream_begins\n"
        "    set -l have (__hyprstream_words)\n"
        "    test (count $have) -ge (count $argv)\n"
        "    and test \"$have[1..\"(count $argv)\"]\" = \"$argv\"\n"
        "end\n"
        "complete -c hyprstream -f\n"
        "complete -c hyprstream -n __hyprstream_exactly -l version -d 'show the version'\n");
    status = status ? status : each_first_word(text, fish_word);
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    for (size_t i = 0; i < n && !status; i++) {
        status = fish_command(text, &rows[i]);
    }
    return status;
}

/* ---- the command ---- */

static const struct shell shells[] = {
    {"bash", write_bash}, {"zsh", write_zsh}, {"fish", write_fish}};

hs_status hs_completion_script(const char *shell, struct hs_buf *text)
{
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        if (strcmp(shells[i].name, shell) == 0) {
            return shells[i].write(text);
        }
    }
    return HS_NOT_FOUND;
}

hs_status hs_cmd_completion(const struct hs_command_args *args, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SCRIPT_MAX_BYTES);
    hs_status status = hs_completion_script(args->args[0], &text);
    if (status == HS_NOT_FOUND) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "there are no completions for '%s'",
                              args->args[0]);
        hs_error_hint(err, "bash, zsh and fish are supported");
        return status;
    }
    return status ? hs_error_nomem(err, "completions")
                  : args->io->out(args->io->self, text.data, text.len, err);
}
