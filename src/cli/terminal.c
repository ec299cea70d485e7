#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "api/output.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "interrupt.h"

#define PROGRESS_AFTER_MS 300 /* what is quicker needs no bar */
#define PROGRESS_EVERY_MS 80
#define BAR_COLUMNS 24
#define ANSWER_MAX 64

/* ---- writing ---- */

/* 0 or an errno. */
static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n >= 0) {
            text += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) { /* somebody made the pipe non-blocking */
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

static void clear_progress(struct hs_terminal *terminal)
{
    if (terminal->progress_drawn_ms > 0) {
        write_all(STDERR_FILENO, "\r\033[K", strlen("\r\033[K"));
        terminal->progress_drawn_ms = 0;
    }
}

static hs_status out(void *self, const char *text, size_t len, struct hs_error *err)
{
    struct hs_terminal *terminal = self;
    clear_progress(terminal);
    if (terminal->out_errno == 0) {
        terminal->out_errno = write_all(STDOUT_FILENO, text, len);
    }
    if (terminal->out_errno == 0) {
        return HS_OK;
    }
    hs_error_set(err, HS_IO, "cannot write to standard output: %s", strerror(terminal->out_errno));
    return HS_IO;
}

static void err_out(void *self, const char *text, size_t len)
{
    clear_progress(self);
    write_all(STDERR_FILENO, text, len); /* there is nobody left to tell */
}

static void progress(void *self, const char *text, float fraction, const char *detail)
{
    struct hs_terminal *terminal = self;
    if (!terminal->io.err_is_terminal || !terminal->io.color_err) {
        return; /* a bar is drawn with escape codes */
    }
    double now = hs_clock_ms();
    if (fraction < 0) {
        clear_progress(terminal);
        terminal->progress_since_ms = 0;
        return;
    }
    if (terminal->progress_since_ms <= 0) {
        terminal->progress_since_ms = now;
    }
    bool too_early = now - terminal->progress_since_ms < PROGRESS_AFTER_MS;
    if (too_early || now - terminal->progress_drawn_ms < PROGRESS_EVERY_MS) {
        return;
    }
    int filled = (int)(fraction * BAR_COLUMNS + 0.5f);
    filled = filled > BAR_COLUMNS ? BAR_COLUMNS : filled;
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(4096);
    int room = terminal->io.columns - (int)strlen(text) - BAR_COLUMNS - 12;
    if (detail && room > 0 && hs_safe_text(detail, strlen(detail), true, &safe)) {
        return;
    }
    size_t shown = safe.len ? hs_utf8_clip(safe.data, safe.len, (size_t)room) : 0;
    static const char bar[] = "########################";
    HS_CLEANUP(hs_freep)
    char *line =
        hs_asprintf("\r%s [%.*s%*s] %3d%% %.*s\033[K", text, filled, bar, BAR_COLUMNS - filled, "",
                    (int)(fraction * 100), (int)shown, safe.len ? safe.data : "");
    if (line) {
        write_all(STDERR_FILENO, line, strlen(line));
        terminal->progress_drawn_ms = now;
    }
}

/* ---- reading ---- */

static hs_status read_all(void *self, struct hs_buf *buf, struct hs_error *err)
{
    (void)self;
    char chunk[65536];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n == 0) {
            return HS_OK;
        }
        if (n < 0 && errno != EINTR) {
            return hs_error_errno(err, errno, "read", "standard input");
        }
        if (n < 0 && hs_interrupt_take()) {
            return hs_error_set(err, HS_CANCELLED, "reading standard input was stopped");
        }
        hs_status status = n > 0 ? hs_buf_append(buf, chunk, (size_t)n) : HS_OK;
        if (status) {
            return hs_error_set(err, status, "standard input is longer than %zu bytes", buf->max);
        }
    }
}

static hs_status read_line(void *self, const char *prompt, char **ret_line, struct hs_error *err)
{
    struct hs_terminal *terminal = self;
    hs_interrupt_install();
    if (!terminal->editor) {
        hs_status status = hs_line_edit_new(terminal->history_file, &terminal->editor, err);
        if (status) {
            return status;
        }
    }
    hs_line_edit_set_completer(terminal->editor, terminal->complete, terminal->complete_user);
    hs_line_edit_set_whole(terminal->editor, terminal->is_whole);
    return hs_line_edit_read(terminal->editor, prompt, ret_line, err);
}

static void set_completer(void *self, hs_complete_fn complete, void *user)
{
    struct hs_terminal *terminal = self;
    terminal->complete = complete;
    terminal->complete_user = user;
}

static void set_whole(void *self, hs_whole_fn is_whole)
{
    struct hs_terminal *terminal = self;
    terminal->is_whole = is_whole;
}

static hs_status confirm(void *self, const char *question, bool *ret_yes, struct hs_error *err)
{
    hs_interrupt_install();
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(65536);
    if (hs_safe_text(question, strlen(question), true, &safe) ||
        hs_buf_append_str(&safe, " [y/N] ")) {
        return hs_error_nomem(err, "question");
    }
    err_out(self, safe.data, safe.len);
    char answer[ANSWER_MAX];
    size_t len = 0;
    for (;;) {
        char c;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR && !hs_interrupt_take()) {
            continue;
        }
        if (n < 0) {
            err_out(self, "\n", 1);
            return hs_error_set(err, HS_CANCELLED, "stopped at a question");
        }
        if (n == 0 || c == '\n') {
            break;
        }
        if (len < sizeof answer - 1) {
            answer[len++] = c;
        }
    }
    answer[len] = '\0';
    *ret_yes = strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
    return HS_OK;
}

static bool interrupted(void *self)
{
    (void)self;
    hs_interrupt_install(); /* from the first question on, Ctrl-C is ours to handle */
    return hs_interrupt_take();
}

/* ---- what the terminal is ---- */

static int terminal_columns(void)
{
    struct winsize size;
    if ((ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) ||
        (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)) {
        return size.ws_col;
    }
    const char *columns = getenv("COLUMNS");
    long n = columns ? strtol(columns, NULL, 10) : 0;
    return n > 0 && n < 10000 ? (int)n : 80;
}

static bool wants_color(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    bool is_dumb = !terminal || !*terminal || strcmp(terminal, "dumb") == 0;
    return !is_dumb && !(no_color && *no_color);
}

void hs_terminal_init(struct hs_terminal *terminal)
{
    *terminal = (struct hs_terminal){.io = {.out = out,
                                            .err = err_out,
                                            .read_all = read_all,
                                            .read_line = read_line,
                                            .set_completer = set_completer,
                                            .set_whole = set_whole,
                                            .confirm = confirm,
                                            .progress = progress,
                                            .interrupted = interrupted,
                                            .columns = terminal_columns(),
                                            .in_is_terminal = isatty(STDIN_FILENO),
                                            .out_is_terminal = isatty(STDOUT_FILENO),
                                            .err_is_terminal = isatty(STDERR_FILENO)}};
    terminal->io.self = terminal;
    hs_terminal_set_color(terminal, "auto");
}

void hs_terminal_set_color(struct hs_terminal *terminal, const char *color)
{
    struct hs_command_io *io = &terminal->io;
    bool always = strcmp(color, "always") == 0;
    bool automatic = strcmp(color, "auto") == 0 && wants_color();
    io->color_out = always || (automatic && io->out_is_terminal);
    io->color_err = always || (automatic && io->err_is_terminal);
}

void hs_terminal_free(struct hs_terminal *terminal)
{
    clear_progress(terminal);
    hs_line_edit_free(terminal->editor);
    terminal->editor = NULL;
}
