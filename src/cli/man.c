/*
 * man.c - the manual page, hyprstream.1.
 *
 * Source:  man(7) of groff and mandoc. Text is escaped: '\' as \e, '-' as \-, and a '.' or "'" at
 * the beginning of a line gets \& before it.
 */
#include <stdio.h>
#include <string.h>

#include "api/status_map.h"
#include "help.h"

/* Text inside a line; `at_start`: a line begins with it. */
static hs_status append_escaped(struct hs_buf *page, const char *text, size_t len, bool at_start)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < len && !status; i++) {
        if (at_start && i == 0 && (text[i] == '.' || text[i] == '\'')) {
            status = hs_buf_append_str(page, "\\&");
        }
        if (status) {
            return status;
        }
        switch (text[i]) {
        case '\\':
            status = hs_buf_append_str(page, "\\e");
            break;
        case '-':
            status = hs_buf_append_str(page, "\\-");
            break;
        case '\'':
            status = hs_buf_append_str(page, "\\(aq");
            break;
        case '~':
            status = hs_buf_append_str(page, "\\(ti");
            break;
        case '^':
            status = hs_buf_append_str(page, "\\(ha");
            break;
        case '`':
            status = hs_buf_append_str(page, "\\(ga");
            break;
        default:
            status = hs_buf_append(page, text + i, 1);
        }
    }
    return status;
}

static hs_status append_line(struct hs_buf *page, const char *text, size_t len)
{
    hs_status status = append_escaped(page, text, len, true);
    return status ? status : hs_buf_append(page, "\n", 1);
}

/* A tagged paragraph: the tag in bold. */
static hs_status tagged(struct hs_buf *page, const char *tag, const char *text)
{
    while (*tag == ' ') {
        tag++;
    }
    hs_status status = hs_buf_append_str(page, ".TP\n\\fB");
    status = status ? status : append_escaped(page, tag, strlen(tag), false);
    status = status ? status : hs_buf_append_str(page, "\\fR\n");
    return status ? status : append_line(page, text, strlen(text));
}

/* Paragraphs of `details`; lines that begin with a blank become an example. */
static hs_status paragraphs(struct hs_buf *page, const char *details)
{
    bool in_example = false, is_new = true;
    hs_status status = HS_OK;
    while (*details && !status) {
        size_t len = strcspn(details, "\n");
        bool is_example = details[0] == ' ';
        if (len == 0) {
            is_new = true;
        } else {
            if (is_example && !in_example) {
                status = hs_buf_append_str(page, ".PP\n.RS 4\n.nf\n");
            } else if (!is_example && in_example) {
                status = hs_buf_append_str(page, ".fi\n.RE\n.PP\n");
            } else if (is_new && !is_example) {
                status = hs_buf_append_str(page, ".PP\n");
            }
            size_t skip = is_example ? strspn(details, " ") : 0;
            status = status ? status : append_line(page, details + skip, len - skip);
            in_example = is_example;
            is_new = false;
        }
        details += len + (details[len] == '\n');
    }
    return status || !in_example ? status : hs_buf_append_str(page, ".fi\n.RE\n");
}

static hs_status command_section(struct hs_buf *page)
{
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    hs_status status = hs_buf_append_str(page, ".SH COMMANDS\n");
    for (size_t i = 0; i < n && !status; i++) {
        status = hs_buf_append_str(page, ".SS \"hyprstream ");
        status = status ? status : append_escaped(page, rows[i].name, strlen(rows[i].name), false);
        status = status ? status : hs_buf_append(page, " ", rows[i].args[0] ? 1 : 0);
        status = status ? status : append_escaped(page, rows[i].args, strlen(rows[i].args), false);
        status = status ? status : hs_buf_append_str(page, "\"\n");
        char text[256];
        snprintf(text, sizeof text, "%c%s.", rows[i].text[0] - 'a' + 'A', rows[i].text + 1);
        status = status ? status : append_line(page, text, strlen(text));
        status = status ? status : paragraphs(page, rows[i].details);
        for (int id = 0; id < HS_OPT_COUNT && !status; id++) {
            const struct hs_option_row *row = hs_option_row((enum hs_option_id)id);
            if (hs_command_list_has(rows[i].options, row->name)) {
                char flag[128];
                status = tagged(page, hs_help_option_flag(row, flag, sizeof flag), row->text);
            }
        }
    }
    return status;
}

/* What is typed after a slash. */
static hs_status conversation_section(struct hs_buf *page)
{
    static const struct {
        const char *tag, *text;
    } rows[] = {
#define HS_CHAT_COMMAND(name, args, run, text) {args[0] ? "/" name " " args : "/" name, text},
#include "api/chat_commands.def"
#undef HS_CHAT_COMMAND
    };
    hs_status status = hs_buf_append_str(page, ".SH \"IN A CONVERSATION\"\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !status; i++) {
        status = tagged(page, rows[i].tag, rows[i].text);
    }
    return status;
}

static hs_status settings_section(struct hs_buf *page)
{
    hs_status status = hs_buf_append_str(
        page,
        ".SH SETTINGS\n"
        "Each is an option, a line of the configuration file (name = value) and an environment\n"
        "variable, with one name. An option wins over a variable, a variable over the file.\n"
        "\\fBhyprstream help \\fICOMMAND\\fR lists what a command understands.\n");
    for (int id = 0; id < HS_CFG_COUNT && !status; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        char flag[128], variable[64], text[512];
        snprintf(text, sizeof text, "%s. Default: %s. Variable: %s.", row->text,
                 row->default_value ? row->default_value : "not set",
                 hs_help_variable(row, variable, sizeof variable));
        status = tagged(page, hs_help_setting_flag(row, flag, sizeof flag), text);
    }
    return status;
}

static hs_status exit_section(struct hs_buf *page)
{
    size_t n = 0;
    const struct hs_exit_code_row *rows = hs_exit_code_rows(&n);
    hs_status status = hs_buf_append_str(page, ".SH \"EXIT STATUS\"\n");
    for (size_t i = 0; i < n && !status; i++) {
        char code[16];
        snprintf(code, sizeof code, "%d", rows[i].exit_code);
        status = tagged(page, code, rows[i].text);
    }
    char code[16];
    snprintf(code, sizeof code, "%d", HS_EXIT_PIPE_CLOSED);
    status =
        status ? status : tagged(page, code, "the reader of standard output went away (a pipe)");
    return status ? status : tagged(page, "128+N", "ended by signal N, such as 143 after SIGTERM");
}

static const char *const opening =
    ".SH NAME\n"
    "hyprstream \\- local language models in your terminal\n"
    ".SH SYNOPSIS\n"
    ".B hyprstream\n"
    ".I COMMAND\n"
    "[\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]\n"
    ".SH DESCRIPTION\n"
    "Runs language models from GGUF files on this machine, with llama.cpp. Options may stand\n"
    "anywhere after the command; \\fB\\-\\-\\fR ends them.\n";

static const char *const closing =
    ".SH ENVIRONMENT\n"
    ".TP\n.B HYPRSTREAM_HOME\n"
    "A folder that holds all state: config.toml, models, sessions, registry.db, history, cache.\n"
    ".TP\n.BR XDG_CONFIG_HOME \", \" XDG_DATA_HOME \", \" XDG_STATE_HOME \", \" XDG_CACHE_HOME\n"
    "Where state lies otherwise.\n"
    ".TP\n.B NO_COLOR\n"
    "When set and not empty: no colours, unless \\-\\-color=always is given.\n"
    ".TP\n.B HYPRSTREAM_*\n"
    "Every setting above.\n"
    ".SH FILES\n"
    ".TP\n.I $XDG_CONFIG_HOME/hyprstream/config.toml\n"
    "Configuration: lines of name = value, # begins a comment.\n"
    ".TP\n.I $XDG_DATA_HOME/hyprstream/\n"
    "The folders models and sessions, and registry.db, the list of both.\n"
    ".TP\n.I $XDG_STATE_HOME/hyprstream/history\n"
    "What was typed in conversations.\n"
    ".PP\n"
    "\\fBhyprstream config path \\-\\-json\\fR prints where they are.\n"
    ".SH ERRORS\n"
    "Errors are printed on standard error, with a second line that says what to do next. With\n"
    "\\-\\-json they are one line of JSON there: an object \"error\" with \"status\", "
    "\"message\",\n"
    "\"hint\" and \"exit_code\".\n";

hs_status hs_man_page(struct hs_buf *text)
{
    hs_status status = hs_buf_printf(text,
                                     ".TH HYPRSTREAM 1 \"\" \"hyprstream %s\" "
                                     "\"User Commands\"\n",
                                     hs_version());
    status = status ? status : hs_buf_append_str(text, opening);
    status = status ? status : command_section(text);
    status = status ? status : conversation_section(text);
    status = status ? status : settings_section(text);
    status = status ? status : exit_section(text);
    return status ? status : hs_buf_append_str(text, closing);
}
