/* cmd_sql.c - `hyprstream sql`: statements in this process, or by a server. */
#include "api/command.h"

#include "base/error.h"

#ifdef HS_HAVE_SQL

#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "prompt.h"
#include "sql_shell.h"

static hs_status read_format(const struct hs_command_args *args, enum hs_sql_format *ret_format,
                             struct hs_error *err)
{
    const char *name = args->options[HS_OPT_FORMAT];
    *ret_format =
        hs_config_bool(args->config, HS_CFG_JSON) ? HS_SQL_FORMAT_JSON : HS_SQL_FORMAT_TABLE;
    return name != NULL ? hs_sql_format_read(name, ret_format, err) : HS_OK;
}

/* The statements, for hs_free. */
static hs_status read_text(const struct hs_command_args *args, char **ret_text,
                           struct hs_error *err)
{
    const char *file = args->options[HS_OPT_FILE];
    if (file == NULL) {
        return hs_prompt_read(args, ret_text, err);
    }
    if (args->n_args > 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a statement and --file were given: it is one or the other");
    }
    struct hs_buf text = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    hs_status status = hs_fs_read(file, &text, err);
    if (!status && hs_buf_take(&text, ret_text, NULL) != HS_OK) {
        status = hs_error_nomem(err, "statements");
    }
    hs_buf_free(&text);
    return status;
}

/* A single statement needs nothing that outlives it; a command may read a file of many. */
static bool has_several(const char *text)
{
    size_t next;
    if (strchr(".\\", text[strspn(text, " \t\r\n")]) != NULL) {
        return true;
    }
    if (hs_sql_statement_len(text, strlen(text), &next) > 0) {
        text += next;
    }
    return hs_sql_statement_len(text, strlen(text), &next) > 0;
}

hs_status hs_cmd_sql(const struct hs_command_args *args, struct hs_error *err)
{
    bool is_interactive =
        args->n_args == 0 && args->options[HS_OPT_FILE] == NULL && args->io->in_is_terminal;
    HS_CLEANUP(hs_freep) char *text = NULL;
    enum hs_sql_format format;
    hs_sql_runner *runner;
    hs_status status = read_format(args, &format, err);
    status = status || is_interactive ? status : read_text(args, &text, err);
    bool is_session = is_interactive || (!status && has_several(text));
    status = status ? status : hs_sql_runner_open(args, is_session, &runner, err);
    if (status) {
        return status;
    }
    struct hs_sql_shell shell;
    hs_sql_shell_init(&shell, args->io, runner, format);
    shell.goes_on = args->options[HS_OPT_CONTINUE_ON_ERROR] != NULL;
    shell.is_json = hs_config_bool(args->config, HS_CFG_JSON) || hs_log_is_json();
    status = is_interactive ? hs_sql_shell_loop(&shell, err) : hs_sql_shell_run(&shell, text, err);
    hs_status closed = hs_sql_shell_close(&shell, status ? NULL : err);
    hs_sql_runner_close(runner);
    return status ? status : closed;
}

#else

hs_status hs_cmd_sql(const struct hs_command_args *args, struct hs_error *err)
{
    (void)args;
    hs_error_set(err, HS_NOT_SUPPORTED, "this hyprstream was built without SQL");
    hs_error_hint(err, "build it with HS_FLIGHT=ON, as 'make build' does");
    return HS_NOT_SUPPORTED;
}

#endif
