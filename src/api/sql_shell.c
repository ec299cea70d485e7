#include "sql_shell.h"

#include <errno.h>
#include <string.h>

#include "api/nearest.h"
#include "api/output.h"
#include "api/report.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "prompt.h"

#define PROMPT "sql> "
#define DEPTH_MAX 8
#define BLANKS " \t\r\n"

#define HS_SQL_COMMAND(name, alias, args, run, text)                                               \
    static hs_status run(struct hs_sql_shell *shell, const char *rest, struct hs_error *err);
#include "api/sql_commands.def"
#undef HS_SQL_COMMAND

static const struct hs_sql_command commands[] = {
#define HS_SQL_COMMAND(name, alias, args, run, text) {name, alias, args, run, text},
#include "api/sql_commands.def"
#undef HS_SQL_COMMAND
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

const struct hs_sql_command *hs_sql_commands(size_t *ret_n)
{
    *ret_n = N_COMMANDS;
    return commands;
}

/* ---- where rows go ---- */

static hs_status no_write(struct hs_error *err)
{
    return hs_error_set(err, HS_IO, "the file of .output cannot be written: %s", strerror(errno));
}

static hs_status write_file(void *self, const char *text, size_t len, struct hs_error *err)
{
    struct hs_sql_shell *shell = self;
    return fwrite(text, 1, len, shell->file) == len ? HS_OK : no_write(err);
}

static hs_status close_file(struct hs_sql_shell *shell, struct hs_error *err)
{
    FILE *file = shell->file;
    shell->file = NULL;
    shell->out = *shell->io;
    return file == NULL || fclose(file) == 0 ? HS_OK : no_write(err);
}

void hs_sql_shell_init(struct hs_sql_shell *shell, const struct hs_command_io *io,
                       hs_sql_runner *runner, enum hs_sql_format format)
{
    *shell = (struct hs_sql_shell){.io = io, .runner = runner, .format = format, .out = *io};
}

hs_status hs_sql_shell_close(struct hs_sql_shell *shell, struct hs_error *err)
{
    return close_file(shell, err);
}

/* ---- statements ---- */

static hs_status run_statement(struct hs_sql_shell *shell, const char *text, size_t len,
                               struct hs_error *err)
{
    int64_t n = -1;
    if (shell->format == HS_SQL_FORMAT_ARROW && shell->is_interactive && shell->file == NULL &&
        shell->io->out_is_terminal) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "Arrow's bytes are not for a terminal");
        return hs_error_hint(err, ".output FILE writes them to a file, .mode table shows rows");
    }
    double began_ms = hs_clock_ms();
    hs_status status =
        hs_sql_runner_run(shell->runner, &shell->out, text, len, shell->format, &n, err);
    if (!status && n >= 0) {
        hs_err_info(shell->io, "%lld row%s", (long long)n, n == 1 ? "" : "s");
    }
    if (!status && shell->file != NULL && fflush(shell->file) != 0) {
        status = no_write(err);
    }
    if (shell->has_timer) {
        hs_err_printf(shell->io, "time %.3f s\n", (hs_clock_ms() - began_ms) / 1000);
    }
    return status;
}

/* A statement with a text put into it at each @, as a string of SQL. */
static hs_status ask(struct hs_sql_shell *shell, const char *format, const char *word,
                     struct hs_error *err)
{
    struct hs_buf quoted HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    hs_status status = hs_buf_reserve(&quoted, 0);
    for (const char *c = word; *c != '\0' && !status; c++) {
        status = hs_buf_append(&quoted, "''", *c == '\'' ? 2 : 0);
        status = status || *c == '\'' ? status : hs_buf_append(&quoted, c, 1);
    }
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    for (const char *at = format; !status && *at != '\0';) {
        size_t len = strcspn(at, "@");
        status = hs_buf_append(&text, at, len);
        at += len;
        if (!status && *at == '@') {
            status = hs_buf_append_str(&text, quoted.len > 0 ? quoted.data : "");
            at++;
        }
    }
    return status ? hs_error_nomem(err, "a statement")
                  : run_statement(shell, text.data, text.len, err);
}

/* ---- commands ---- */

static hs_status run_help(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    (void)rest;
    hs_status status = HS_OK;
    for (size_t i = 0; i < N_COMMANDS && !status; i++) {
        const struct hs_sql_command *command = &commands[i];
        int pad = 18 - (int)strlen(command->name) - (int)strlen(command->args);
        status = hs_out_printf(&shell->out, err, "%s %s%*s %-8s %s\n", command->name, command->args,
                               pad > 0 ? pad : 0, "", command->alias, command->text);
    }
    return status ? status
                  : hs_out_printf(&shell->out, err,
                                  "A statement goes on to its semicolon. Ctrl-C stops one that "
                                  "runs, or clears what was typed; Tab completes words.\n");
}

static hs_status run_tables(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    return ask(shell,
               "SELECT CASE WHEN table_schema = 'main' THEN '' ELSE table_schema || '.' END || "
               "table_name AS name, CASE table_type WHEN 'VIEW' THEN 'view' WHEN 'LOCAL TEMPORARY' "
               "THEN 'temporary table' ELSE 'table' END AS kind FROM information_schema.tables "
               "WHERE contains(lower(name), lower('@')) ORDER BY ALL",
               rest, err);
}

static hs_status run_columns(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *text = NULL;
    if (*rest == '\0') {
        return run_tables(shell, rest, err);
    }
    text = hs_asprintf("DESCRIBE %s", rest);
    return text != NULL ? run_statement(shell, text, strlen(text), err)
                        : hs_error_nomem(err, "a statement");
}

static hs_status run_schema(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    return ask(shell,
               "SELECT sql FROM (SELECT schema_name AS s, table_name AS n, sql FROM "
               "duckdb_tables() UNION ALL SELECT schema_name, view_name, sql FROM duckdb_views() "
               "WHERE NOT internal) WHERE '@' IN ('', n, s || '.' || n) ORDER BY s, n",
               rest, err);
}

static hs_status run_mode(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    if (*rest == '\0') {
        return hs_out_printf(&shell->out, err, "%s\n", hs_sql_format_names()[shell->format]);
    }
    return hs_sql_format_read(rest, &shell->format, err);
}

static hs_status run_timer(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    bool is_on = strcmp(rest, "on") == 0, is_turn = *rest == '\0';
    if (!is_on && !is_turn && strcmp(rest, "off") != 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, ".timer takes on or off, not '%s'", rest);
    }
    shell->has_timer = is_turn ? !shell->has_timer : is_on;
    return HS_OK;
}

static hs_status run_output(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    hs_status status = close_file(shell, err);
    if (status || *rest == '\0') {
        return status;
    }
    FILE *file = fopen(rest, "we");
    if (file == NULL) {
        return hs_error_errno(err, errno, "write", rest);
    }
    shell->file = file;
    shell->out = (struct hs_command_io){.self = shell, .out = write_file, .columns = 80};
    return HS_OK;
}

static hs_status run_quit(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    (void)rest;
    (void)err;
    shell->is_leaving = true;
    return HS_OK;
}

/* text[len] is one line, the command at its begin. */
static hs_status run_command(struct hs_sql_shell *shell, const char *text, size_t len,
                             struct hs_error *err)
{
    while (len > 0 && strchr(BLANKS, text[len - 1])) {
        len--;
    }
    HS_CLEANUP(hs_freep) char *name = hs_strndup(text, len);
    if (name == NULL) {
        return hs_error_nomem(err, "a command");
    }
    char *rest = name + strcspn(name, BLANKS);
    char *words = rest + strspn(rest, BLANKS);
    *rest = '\0';
    struct hs_nearest nearest = {.name = name};
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const struct hs_sql_command *command = &commands[i];
        if (strcmp(command->name, name) != 0 && strcmp(command->alias, name) != 0) {
            hs_nearest_offer(&nearest, command->name);
            continue;
        }
        bool takes_any = *command->args != '\0', needs_one = takes_any && *command->args != '[';
        if ((*words != '\0' && !takes_any) || (*words == '\0' && needs_one)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "%s %s", name,
                                needs_one ? "needs a FILE" : "takes nothing after it");
        }
        return command->run(shell, words, err);
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "unknown command %s", name);
    return hs_error_hint(err, "%s%s%s.help lists the commands", nearest.best ? "did you mean " : "",
                         nearest.best ? nearest.best : "", nearest.best ? "? " : "");
}

/* ---- texts ---- */

/* No statement begins so. */
static bool is_command(const char *text)
{
    return *text == '.' || *text == '\\';
}

static size_t line_of(const char *text, const char *at)
{
    size_t line = 1;
    for (const char *c = text; c < at; c++) {
        line += *c == '\n';
    }
    return line;
}

static bool is_broken(const struct hs_sql_shell *shell)
{
    return shell->io->out(shell->io->self, "", 0, NULL) != HS_OK;
}

/* Whether the next statement is to be run after one that failed. */
static bool forgives(struct hs_sql_shell *shell, hs_status status, const struct hs_error *err)
{
    if (!shell->goes_on || status == HS_CANCELLED || is_broken(shell)) {
        return false;
    }
    shell->first_failure = shell->n_failed++ == 0 ? status : shell->first_failure;
    hs_error_report(shell->io, status, err, shell->is_json);
    return true;
}

static hs_status run_text(struct hs_sql_shell *shell, const char *text, struct hs_error *err)
{
    const char *end = text + strlen(text), *at = text;
    while (!shell->is_leaving) {
        at += strspn(at, BLANKS ";");
        bool is_dot = is_command(at);
        size_t next = strcspn(at, "\n");
        size_t len = is_dot ? next : hs_sql_statement_len(at, (size_t)(end - at), &next);
        if (len == 0) {
            return HS_OK;
        }
        shell->n_statements++;
        hs_status status =
            is_dot ? run_command(shell, at, len, err) : run_statement(shell, at, len, err);
        size_t line = status ? line_of(text, at) : 1;
        if (line > 1 && status != HS_CANCELLED) {
            hs_error_prefix(err, "statement at line %zu", line);
        }
        if (status && !forgives(shell, status, err)) {
            return status;
        }
        at += next;
    }
    return HS_OK;
}

static hs_status run_read(struct hs_sql_shell *shell, const char *rest, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    if (shell->depth == DEPTH_MAX) {
        return hs_error_set(err, HS_LIMIT, "files of statements read each other more than %d deep",
                            DEPTH_MAX);
    }
    hs_status status = hs_fs_read(rest, &text, err);
    if (!status && text.len > 0 && memchr(text.data, '\0', text.len) != NULL) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "%s holds a NUL byte", rest);
    }
    if (!status && text.len > 0) {
        shell->depth++;
        status = run_text(shell, text.data, err);
        shell->depth--;
        if (status && status != HS_CANCELLED) {
            hs_error_prefix(err, "%s", rest);
        }
    }
    return status;
}

hs_status hs_sql_shell_run(struct hs_sql_shell *shell, const char *text, struct hs_error *err)
{
    hs_status status = run_text(shell, text, err);
    if (!status && shell->n_statements == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "there is no statement");
    }
    if (!status && shell->n_failed > 0) {
        return hs_error_set(err, shell->first_failure, "%zu of %zu statements failed",
                            shell->n_failed, shell->n_statements);
    }
    return status;
}

/* ---- a terminal ---- */

static bool is_whole(const char *text, size_t len)
{
    const char *start = text + strspn(text, BLANKS);
    return is_command(start) || hs_sql_is_complete(text, len);
}

static hs_status handle(struct hs_sql_shell *shell, const char *text, struct hs_error *err)
{
    struct hs_error own;
    hs_error_clear(&own);
    shell->io->interrupted(shell->io->self); /* a Ctrl-C from before is not meant for this one */
    hs_status status = run_text(shell, text, &own);
    if (status && is_broken(shell)) {
        *err = own;
        return status;
    }
    if (status == HS_CANCELLED) {
        hs_err_printf(shell->io, "[stopped]\n");
    } else if (status) {
        hs_error_tell(shell->io, &own);
    }
    return HS_OK;
}

hs_status hs_sql_shell_loop(struct hs_sql_shell *shell, struct hs_error *err)
{
    const struct hs_command_io *io = shell->io;
    const char *url = hs_sql_runner_url(shell->runner);
    hs_err_info(io, "hyprstream %s%s%s; .help lists the commands, Ctrl-D leaves", hs_version(),
                url != NULL ? ", SQL of " : "", url != NULL ? url : "");
    shell->is_interactive = true;
    io->set_completer(io->self, hs_sql_shell_complete, shell);
    io->set_whole(io->self, is_whole);
    hs_status status = HS_OK;
    while (!shell->is_leaving && !status) {
        HS_CLEANUP(hs_freep) char *text = NULL;
        status = io->read_line(io->self, PROMPT, &text, err);
        if (status == HS_CANCELLED) {
            hs_err_printf(io, "(Ctrl-D leaves)\n");
            status = HS_OK;
        } else if (!status && text == NULL) {
            shell->is_leaving = true;
        } else if (!status) {
            status = handle(shell, text, err);
        }
    }
    io->set_whole(io->self, NULL);
    io->set_completer(io->self, NULL, NULL);
    return status;
}
