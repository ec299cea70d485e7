/* main.c - from the command line to a handler, and from its status to an exit code. */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "api/output.h"
#include "api/report.h"
#include "api/status_map.h"
#include "args.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "help.h"
#include "interrupt.h"
#include "terminal.h"

/* The settings in their order: default, file, environment, flag. */
static hs_status load_config(const struct hs_args *args, const struct hs_paths *paths,
                             bool read_layers, struct hs_config *config, struct hs_error *err)
{
    const char *flag = hs_args_setting_value(args, HS_CFG_CONFIG);
    const char *variable = getenv("HYPRSTREAM_CONFIG");
    const char *chosen = flag ? flag : (variable && *variable ? variable : NULL);
    hs_status status = HS_OK;
    if (read_layers) {
        status =
            hs_config_load_file(config, chosen ? chosen : paths->config_file, chosen != NULL, err);
        status = status ? status : hs_config_load_env(config, err);
    }
    for (int i = 0; i < args->n_settings && !status; i++) {
        status = hs_config_set_flag(config, args->settings[i].id, args->settings[i].value, err);
    }
    return status;
}

static void apply_config(const struct hs_config *config, struct hs_terminal *terminal)
{
    enum hs_log_level level;
    const char *text = hs_config_str(config, HS_CFG_LOG_LEVEL);
    if (text && hs_log_level_parse(text, &level)) {
        hs_log_set_level(level);
    }
    hs_log_set_json(hs_config_bool(config, HS_CFG_LOG_JSON));
    const char *color = hs_config_str(config, HS_CFG_COLOR);
    hs_terminal_set_color(terminal, color ? color : "auto");
}

static hs_status run_command(const struct hs_command *command, const struct hs_args *args,
                             int n_words, struct hs_terminal *terminal, struct hs_error *err)
{
    struct hs_paths paths HS_CLEANUP(hs_paths_free) = {0};
    struct hs_config config HS_CLEANUP(hs_config_free) = {0};
    hs_status status = hs_args_check(args, command, n_words, err);
    bool reads_settings = !(command->flags & HS_COMMAND_NO_CONFIG);
    if (!status) {
        status = hs_paths_load(&paths, err);
        /* help and version work on a machine that has no home for our files */
        status = status && !reads_settings ? HS_OK : status;
    }
    status = status ? status : hs_config_init(&config, err);
    status = status ? status : load_config(args, &paths, reads_settings, &config, err);
    if (status) {
        return status;
    }
    apply_config(&config, terminal);
    terminal->history_file = paths.history_file;
    struct hs_command_args command_args = {.command = command,
                                           .config = &config,
                                           .paths = &paths,
                                           .n_args = args->n_words - n_words,
                                           .args = args->words + n_words,
                                           .io = &terminal->io};
    memcpy(command_args.options, args->options, sizeof command_args.options);
    status = command->run(&command_args, err);
    hs_terminal_free(terminal); /* before the paths that it borrows */
    return status;
}

static hs_status print_help(const struct hs_args *args, struct hs_terminal *terminal,
                            struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_HELP_MAX_BYTES);
    hs_status status = hs_help_words(args->n_words, args->words, &text, terminal->io.columns, err);
    return status ? status : terminal->io.out(terminal, text.data, text.len, err);
}

static hs_status run(int argc, char **argv, struct hs_terminal *terminal, struct hs_error *err)
{
    struct hs_args args HS_CLEANUP(hs_args_free) = {0};
    hs_status status = hs_args_parse(argc - 1, argv + 1, &args, err);
    if (status) {
        return status;
    }
    if (args.options[HS_OPT_VERSION]) {
        return hs_out_printf(&terminal->io, err, "hyprstream %s\n", hs_version());
    }
    if (args.n_words == 0 || args.options[HS_OPT_HELP]) {
        return print_help(&args, terminal, err);
    }
    int n_words = 0;
    const struct hs_command *command = hs_command_find(args.n_words, args.words, &n_words);
    return command ? run_command(command, &args, n_words, terminal, err)
                   : hs_args_unknown_command(&args, err);
}

/* UTF-8 whatever the environment says: that is what models and files speak. */
static void set_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

static bool asks_for_json(int argc, char **argv)
{
    bool asks = false;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        asks = asks || strcmp(argv[i], "--json") == 0;
    }
    return asks;
}

int main(int argc, char **argv)
{
    set_locale();
    signal(SIGPIPE, SIG_IGN);
    struct hs_terminal terminal;
    hs_terminal_init(&terminal);
    struct hs_error err;
    hs_error_clear(&err);
    hs_status status = run(argc, argv, &terminal, &err);
    hs_terminal_free(&terminal);
    if (hs_interrupt_end_signal()) {
        return 128 + hs_interrupt_end_signal();
    }
    if (terminal.out_errno == EPIPE) {
        return HS_EXIT_PIPE_CLOSED;
    }
    if (status) {
        bool as_json = asks_for_json(argc, argv) || hs_log_is_json();
        hs_error_report(&terminal.io, status, &err, as_json);
    }
    return hs_exit_code(status);
}
