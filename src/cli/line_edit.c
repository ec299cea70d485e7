#include "line_edit.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster.h"
#include "history.h"
#include "interrupt.h"
#include "line_screen.h"
#include "multiline.h"

#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define CONTINUATION "... "
#define COMPLETIONS_MAX_BYTES (1u << 20)
#define PASTE_MAX (4u << 20) /* characters */

struct hs_line_edit {
    EditLine *el;
    History *history;
    FILE *screen;
    FILE *own_screen; /* opened here, or NULL */
    FILE *nowhere;    /* what libedit draws: it cannot do wide characters and marks; or NULL */
    struct hs_line_screen shown;
    char *history_file;
    const char *prompt;
    hs_complete_fn complete;
    void *complete_user;
    hs_whole_fn is_whole;
    bool is_plain;        /* a terminal without escape codes */
    bool was_interrupted; /* the read ended by a signal */
    mbstate_t decoder;
};

static hs_line_edit *editor_of(EditLine *el)
{
    void *data = NULL;
    el_get(el, EL_CLIENTDATA, &data);
    return data;
}

static char *show_prompt(EditLine *el)
{
    return (char *)editor_of(el)->prompt;
}

static void set_paste_marks(hs_line_edit *editor, bool on)
{
    if (!editor->is_plain) {
        fputs(on ? PASTE_ON : PASTE_OFF, editor->screen);
        fflush(editor->screen);
    }
}

/*
 * Between two reads, while an answer is printed, what is typed is not shown: it waits for the next
 * prompt, and is shown there. The terminal stays in line mode, so that Ctrl-C and Ctrl-Z work.
 */
static void set_echo(bool on)
{
    struct termios modes;
    if (tcgetattr(STDIN_FILENO, &modes) != 0) {
        return;
    }
    struct termios echoing = modes;
    echoing.c_lflag |= ECHO;
    modes.c_lflag &= ~(tcflag_t)ECHO;
    hs_interrupt_set_modes(on ? NULL : &echoing);
    tcsetattr(STDIN_FILENO, TCSADRAIN, on ? &echoing : &modes);
}

/* ---- input ---- */

static struct winsize size_of(const hs_line_edit *editor)
{
    struct winsize size = {.ws_row = 0};
    ioctl(fileno(editor->screen), TIOCGWINSZ, &size);
    return size;
}

/* A terminal without escape codes is left to libedit. */
static void draw(hs_line_edit *editor)
{
    if (!editor->is_plain) {
        const LineInfoW *line = el_wline(editor->el);
        hs_line_screen_draw(&editor->shown, editor->prompt, line->buffer,
                            (size_t)(line->lastchar - line->buffer),
                            (size_t)(line->cursor - line->buffer));
    }
}

/* Draw prompt and text again, from the beginning of the line. */
static void redraw(hs_line_edit *editor)
{
    if (editor->is_plain) {
        fputc('\r', editor->screen);
        fflush(editor->screen);
        el_set(editor->el, EL_REFRESH);
    }
    hs_line_screen_forget(&editor->shown);
    draw(editor);
}

static void resize(hs_line_edit *editor)
{
    struct winsize size = size_of(editor);
    el_resize(editor->el);
    if (!editor->is_plain) {
        hs_line_screen_resize(&editor->shown, size.ws_col, size.ws_row);
    }
    redraw(editor);
}

/* Leave the line for what is printed below it. */
static void leave_line(hs_line_edit *editor)
{
    if (editor->is_plain) {
        fputc('\n', editor->screen);
        fflush(editor->screen);
    } else {
        hs_line_screen_leave(&editor->shown);
    }
}

/* Ctrl-Z: give the terminal back, stop, and take it again when the shell lets us go on. */
static void suspend(hs_line_edit *editor)
{
    set_paste_marks(editor, false);
    el_set(editor->el, EL_PREP_TERM, 0);
    hs_interrupt_hold_stop(false);
    raise(SIGTSTP);
    hs_interrupt_hold_stop(true);
    el_set(editor->el, EL_PREP_TERM, 1);
    set_paste_marks(editor, true);
    redraw(editor);
}

/* Wait until there is input. false: a signal asks to stop. */
static bool wait_for_input(hs_line_edit *editor)
{
    for (;;) {
        if (hs_interrupt_is_pending()) {
            editor->was_interrupted = true;
            return false;
        }
        if (hs_interrupt_take_resize()) {
            resize(editor);
        }
        if (hs_interrupt_take_stop()) {
            suspend(editor);
        }
        struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                {.fd = hs_interrupt_fd(), .events = POLLIN}};
        int n = poll(fds, 2, 0);
        if (n == 0) { /* what was typed faster than it can be drawn is drawn at once */
            draw(editor);
            n = poll(fds, 2, -1);
        }
        if (n > 0 && fds[1].revents) {
            hs_interrupt_drain();
        }
        if (n > 0 && fds[0].revents) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return false;
        }
    }
}

/* libedit's source of characters: 1, 0 at the end of input, -1. */
static int read_char(EditLine *el, wchar_t *ret_char)
{
    hs_line_edit *editor = editor_of(el);
    for (;;) {
        if (!wait_for_input(editor)) {
            errno = EINTR;
            return -1;
        }
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0) {
            if (n < 0 && errno == EINTR) {
                continue;
            }
            return n < 0 && errno != EIO ? -1 : 0; /* EIO: the terminal is gone */
        }
        size_t used = mbrtowc(ret_char, &byte, 1, &editor->decoder);
        if (used == (size_t)-2) {
            continue;
        }
        if (used == (size_t)-1) { /* not a character here: drop it */
            memset(&editor->decoder, 0, sizeof editor->decoder);
            continue;
        }
        if (used == 0) {
            *ret_char = L'\0';
        }
        return 1;
    }
}

/* ---- keys ---- */

static bool ends_paste(const wchar_t *text, size_t n)
{
    static const wchar_t mark[] = L"\033[201~";
    size_t len = wcslen(mark);
    return n >= len && wmemcmp(text + n - len, mark, len) == 0;
}

/* What a terminal wraps in paste marks goes into the line as it is, without control characters. */
static unsigned char on_paste(EditLine *el, int key)
{
    (void)key;
    size_t n = 0, capacity = 256;
    HS_CLEANUP(hs_freep) wchar_t *text = hs_alloc(capacity * sizeof *text);
    while (text && !ends_paste(text, n)) {
        if (n + 1 >= capacity) {
            capacity *= 2;
            wchar_t *grown =
                capacity > PASTE_MAX ? NULL : hs_realloc_array(text, capacity, sizeof *text);
            if (!grown) {
                return CC_ERROR;
            }
            text = grown;
        }
        if (el_wgetc(el, &text[n]) != 1) {
            return CC_EOF;
        }
        n++;
    }
    if (!text) {
        return CC_ERROR;
    }
    n -= wcslen(L"\033[201~");
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        wchar_t c = text[i];
        bool is_line_end = c == L'\r' || c == L'\n';
        bool follows_cr = c == L'\n' && i > 0 && text[i - 1] == L'\r';
        if (is_line_end && !follows_cr) {
            text[kept++] = L'\n';
        } else if (c == L'\t' || (c >= L' ' && c != 0x7F && (c < 0x80 || c >= 0xA0))) {
            text[kept++] = c;
        }
    }
    while (kept > 0 && text[kept - 1] == L'\n') {
        kept--;
    }
    text[kept] = L'\0';
    return kept == 0 || el_winsertstr(el, text) == 0 ? CC_REFRESH : CC_ERROR;
}

static void list_words(hs_line_edit *editor, const struct hs_buf *words)
{
    leave_line(editor);
    for (size_t i = 0; i < words->len; i += strlen(words->data + i) + 1) {
        fprintf(editor->screen, "%s%s", i > 0 ? "  " : "", words->data + i);
    }
    fputc('\n', editor->screen);
    fflush(editor->screen);
}

/* Bytes that all words begin with. */
static size_t common_prefix(const struct hs_buf *words)
{
    size_t common = strlen(words->data);
    for (size_t i = common + 1; i < words->len; i += strlen(words->data + i) + 1) {
        size_t n = 0;
        while (n < common && words->data[n] == words->data[i + n]) {
            n++;
        }
        common = n;
    }
    return common;
}

static unsigned char on_tab(EditLine *el, int key)
{
    (void)key;
    hs_line_edit *editor = editor_of(el);
    const LineInfo *line = el_line(el);
    size_t len = (size_t)(line->cursor - line->buffer);
    struct hs_buf words HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(COMPLETIONS_MAX_BYTES);
    size_t start = SIZE_MAX;
    hs_status status = HS_OK;
    if (editor->complete) {
        status = editor->complete(line->buffer, len, &start, &words, editor->complete_user);
    }
    if (start == SIZE_MAX) {
        return el_insertstr(el, "\t") == 0 ? CC_REFRESH : CC_ERROR;
    }
    if (status || words.len == 0) {
        return CC_ERROR;
    }
    bool is_one = strlen(words.data) + 1 == words.len;
    size_t typed = len - start;
    size_t common = common_prefix(&words);
    if (common <= typed && !is_one) {
        list_words(editor, &words);
        return CC_REDISPLAY;
    }
    HS_CLEANUP(hs_freep)
    char *rest =
        hs_asprintf("%.*s%s", (int)(common - typed), words.data + typed, is_one ? " " : "");
    return rest && el_insertstr(el, rest) == 0 ? CC_REFRESH : CC_ERROR;
}

/* A cluster is one step for the cursor, and goes as a whole. */
static unsigned char on_left(EditLine *el, int key)
{
    (void)key;
    const LineInfoW *line = el_wline(el);
    size_t i = (size_t)(line->cursor - line->buffer);
    size_t len = (size_t)(line->lastchar - line->buffer);
    if (i == 0) {
        return CC_ERROR;
    }
    el_cursor(el, (int)hs_cluster_begin(line->buffer, len, i) - (int)i);
    return CC_CURSOR;
}

static unsigned char on_right(EditLine *el, int key)
{
    (void)key;
    const LineInfoW *line = el_wline(el);
    size_t i = (size_t)(line->cursor - line->buffer);
    size_t len = (size_t)(line->lastchar - line->buffer);
    if (i == len) {
        return CC_ERROR;
    }
    el_cursor(el, (int)(hs_cluster_end(line->buffer, len, i) - i));
    return CC_CURSOR;
}

static unsigned char on_erase(EditLine *el, int key)
{
    const wchar_t *before = el_wline(el)->cursor;
    if (on_left(el, key) == CC_ERROR) {
        return CC_ERROR;
    }
    size_t n = (size_t)(before - el_wline(el)->cursor);
    el_cursor(el, (int)n);
    el_wdeletestr(el, (int)n);
    return CC_REFRESH;
}

static unsigned char on_delete(EditLine *el, int key)
{
    return on_right(el, key) == CC_ERROR ? CC_ERROR : on_erase(el, key);
}

static unsigned char on_clear(EditLine *el, int key)
{
    (void)key;
    hs_line_edit *editor = editor_of(el);
    if (!editor->is_plain) {
        hs_line_screen_clear(&editor->shown);
    }
    return CC_REFRESH;
}

/* ---- history ---- */

static void load_history(hs_line_edit *editor)
{
    char **entries = NULL;
    size_t n = 0;
    struct hs_error err;
    if (!editor->history_file) {
        return;
    }
    if (hs_history_load(editor->history_file, &entries, &n, &err)) {
        hs_log(HS_LOG_WARN, "history", "%s", err.message);
        return;
    }
    HistEvent event;
    for (size_t i = 0; i < n; i++) {
        history(editor->history, &event, H_ENTER, entries[i]);
    }
    hs_history_free(entries, n);
}

static void remember(hs_line_edit *editor, const char *message)
{
    HistEvent event;
    if (message[strspn(message, " \t\n")] == '\0') {
        return;
    }
    bool is_last =
        history(editor->history, &event, H_FIRST) == 0 && strcmp(event.str, message) == 0;
    struct hs_error err;
    history(editor->history, &event, H_ENTER, message);
    if (!is_last && editor->history_file &&
        hs_history_append(editor->history_file, message, &err)) {
        hs_log(HS_LOG_WARN, "history", "%s", err.message);
    }
}

/* ---- the editor ---- */

static void bind_keys(EditLine *el)
{
    static const char *const keys[][2] = {
        {"\\e[200~", "hs-paste"},     {"\t", "hs-complete"},        {"^B", "hs-left"},
        {"\\e[D", "hs-left"},         {"\\eOD", "hs-left"},         {"^F", "hs-right"},
        {"\\e[C", "hs-right"},        {"\\eOC", "hs-right"},        {"^H", "hs-erase"},
        {"^?", "hs-erase"},           {"\\e[3~", "hs-delete"},      {"^L", "hs-clear"},
        {"^R", "em-inc-search-prev"}, {"\\e[A", "ed-prev-history"}, {"\\e[B", "ed-next-history"},
        {"\\e[H", "ed-move-to-beg"},  {"\\e[F", "ed-move-to-end"},  {"\\e[1~", "ed-move-to-beg"},
        {"\\e[4~", "ed-move-to-end"}, {"\\e[1;5C", "em-next-word"}, {"\\e[1;5D", "ed-prev-word"},
    };
    /* el_set would copy these and never free them */
    el_wset(el, EL_ADDFN, L"hs-paste", L"insert pasted text", on_paste);
    el_wset(el, EL_ADDFN, L"hs-complete", L"complete a command", on_tab);
    el_wset(el, EL_ADDFN, L"hs-left", L"move left", on_left);
    el_wset(el, EL_ADDFN, L"hs-right", L"move right", on_right);
    el_wset(el, EL_ADDFN, L"hs-erase", L"erase what is before the cursor", on_erase);
    el_wset(el, EL_ADDFN, L"hs-delete", L"erase what is at the cursor", on_delete);
    el_wset(el, EL_ADDFN, L"hs-clear", L"clear the terminal", on_clear);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    }
}

static FILE *choose_screen(hs_line_edit *editor)
{
    if (!isatty(STDERR_FILENO)) {
        editor->own_screen = fopen("/dev/tty", "we");
    }
    return editor->own_screen ? editor->own_screen : stderr;
}

static hs_status start(hs_line_edit *editor, struct hs_error *err)
{
    const char *terminal = getenv("TERM");
    editor->is_plain = !terminal || !*terminal || strcmp(terminal, "dumb") == 0;
    editor->screen = choose_screen(editor);
    editor->history = history_init();
    editor->nowhere = editor->is_plain ? NULL : fopen("/dev/null", "we");
    FILE *drawn = editor->is_plain ? editor->screen : editor->nowhere;
    int fd = fileno(editor->screen);
    editor->el =
        drawn ? el_init_fd("hyprstream", stdin, drawn, editor->screen, STDIN_FILENO, fd, fd) : NULL;
    struct winsize size = size_of(editor);
    hs_line_screen_init(&editor->shown, editor->screen, size.ws_col, size.ws_row);
    if (!editor->history || !editor->el) {
        hs_status status = hs_error_set(err, HS_IO, "the terminal cannot be used for editing");
        hs_error_hint(err, "give the prompt as an argument or through standard input");
        return status;
    }
    HistEvent event;
    history(editor->history, &event, H_SETSIZE, HS_HISTORY_MAX);
    history(editor->history, &event, H_SETUNIQUE, 1);
    el_set(editor->el, EL_CLIENTDATA, editor);
    el_set(editor->el, EL_GETCFN, read_char);
    el_set(editor->el, EL_PROMPT, show_prompt);
    el_set(editor->el, EL_EDITOR, "emacs");
    el_set(editor->el, EL_SIGNAL, 0);
    el_set(editor->el, EL_HIST, history, editor->history);
    bind_keys(editor->el);
    el_source(editor->el, NULL);
    load_history(editor);
    return HS_OK;
}

hs_status hs_line_edit_new(const char *history_file, hs_line_edit **ret_editor,
                           struct hs_error *err)
{
    hs_line_edit *editor = hs_calloc(1, sizeof *editor);
    if (!editor) {
        return hs_error_nomem(err, "line editor");
    }
    editor->history_file = hs_strdup(history_file);
    hs_status status = history_file && !editor->history_file ? hs_error_nomem(err, "line editor")
                                                             : start(editor, err);
    if (status) {
        hs_line_edit_free(editor);
        return status;
    }
    *ret_editor = editor;
    return HS_OK;
}

void hs_line_edit_free(hs_line_edit *editor)
{
    if (!editor) {
        return;
    }
    if (editor->el) {
        set_echo(true);
        el_end(editor->el);
    }
    if (editor->history) {
        history_end(editor->history);
    }
    hs_line_screen_free(&editor->shown);
    hs_fclosep(&editor->nowhere);
    hs_fclosep(&editor->own_screen);
    hs_free(editor->history_file);
    hs_free(editor);
}

void hs_line_edit_set_completer(hs_line_edit *editor, hs_complete_fn complete, void *user)
{
    editor->complete = complete;
    editor->complete_user = user;
}

void hs_line_edit_set_whole(hs_line_edit *editor, hs_whole_fn is_whole)
{
    editor->is_whole = is_whole;
}

/* The line as it was sent: without its newline, and with all that was typed at last. */
static void draw_end(hs_line_edit *editor)
{
    const LineInfoW *line = el_wline(editor->el);
    size_t len = (size_t)(line->lastchar - line->buffer);
    len -= len > 0 && line->buffer[len - 1] == L'\n';
    if (!editor->is_plain) {
        hs_line_screen_draw(&editor->shown, editor->prompt, line->buffer, len, len);
    }
}

/* One line without its newline; NULL at the end of input. */
static hs_status read_one(hs_line_edit *editor, const char *prompt, char **ret_line,
                          struct hs_error *err)
{
    int n = 0;
    editor->prompt = prompt;
    editor->was_interrupted = false;
    hs_interrupt_hold_stop(true);
    set_echo(true); /* for libedit, which takes over the modes it finds */
    set_paste_marks(editor, true);
    /* before the prompt, so that nobody answers it while the terminal still echoes by itself */
    el_set(editor->el, EL_PREP_TERM, 1);
    const char *line = el_gets(editor->el, &n);
    bool has_line = !editor->was_interrupted && line && n > 0;
    if (has_line) {
        draw_end(editor);
    }
    if (!has_line || !editor->is_plain) { /* libedit leaves a line itself */
        leave_line(editor);
    }
    set_paste_marks(editor, false);
    set_echo(false);
    hs_interrupt_hold_stop(false);
    if (editor->was_interrupted) {
        *ret_line = NULL;
        hs_interrupt_take();
        return hs_interrupt_end_signal() ? HS_OK : HS_CANCELLED;
    }
    if (!has_line) {
        *ret_line = NULL;
        return HS_OK;
    }
    size_t len = strlen(line);
    *ret_line = hs_strndup(line, len > 0 && line[len - 1] == '\n' ? len - 1 : len);
    return *ret_line ? HS_OK : hs_error_nomem(err, "input line");
}

hs_status hs_line_edit_read(hs_line_edit *editor, const char *prompt, char **ret_line,
                            struct hs_error *err)
{
    struct hs_multiline message HS_CLEANUP(hs_multiline_free) = HS_MULTILINE_INIT;
    bool is_complete = false;
    while (!is_complete) {
        HS_CLEANUP(hs_freep) char *line = NULL;
        hs_status status = read_one(editor, prompt, &line, err);
        bool ends_block = !status && !line && message.has_line && !hs_interrupt_end_signal();
        if (ends_block) {
            break; /* Ctrl-D ends an open block as a shell's here-document: what was typed is kept
                    */
        }
        if (status || !line) {
            *ret_line = NULL;
            return status;
        }
        status = editor->is_whole ? hs_multiline_add_plain(&message, line)
                                  : hs_multiline_add(&message, line, &is_complete);
        if (status) {
            return hs_error_set(err, status, "the message is longer than %u MiB",
                                HS_MULTILINE_MAX_BYTES >> 20);
        }
        is_complete =
            editor->is_whole ? editor->is_whole(message.text.data, message.text.len) : is_complete;
        prompt = CONTINUATION;
    }
    remember(editor, message.text.data);
    return hs_buf_take(&message.text, ret_line, NULL) ? hs_error_nomem(err, "message") : HS_OK;
}
