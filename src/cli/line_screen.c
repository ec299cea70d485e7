#include "line_screen.h"

#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "cluster.h"

#define BYTES_MAX (64u << 20)
#define TAB_COLUMNS 8
#define UNKNOWN "\xEF\xBF\xBD" /* U+FFFD */

/* What is about to be shown. The terminal's cursor is at `at`. */
struct frame {
    wchar_t *text;
    size_t len, cursor;
    struct hs_line_place *places;
    int columns, rows, top;
    struct hs_line_place at;
    bool is_pending; /* behind a full row, in which the terminal waits to wrap by itself */
    struct hs_buf *bytes;
    bool has_failed;
};

void hs_line_screen_init(struct hs_line_screen *screen, FILE *out, int columns, int rows)
{
    *screen = (struct hs_line_screen){.out = out,
                                      .columns = columns > 0 ? columns : 80,
                                      .rows = rows > 0 ? rows : 24,
                                      .bytes = HS_BUF_INIT(BYTES_MAX)};
}

void hs_line_screen_free(struct hs_line_screen *screen)
{
    hs_line_screen_forget(screen);
    hs_buf_free(&screen->bytes);
}

void hs_line_screen_forget(struct hs_line_screen *screen)
{
    hs_free(screen->text);
    hs_free(screen->places);
    screen->text = NULL;
    screen->places = NULL;
    screen->len = screen->cursor = 0;
    screen->top = 0;
}

/* ---- where things stand ---- */

static void layout(const wchar_t *text, size_t len, int columns, struct hs_line_place *places)
{
    struct hs_line_place at = {0, 0};
    for (size_t i = 0, end; i < len; i = end) {
        end = hs_cluster_end(text, len, i);
        if (text[i] == L'\n') {
            places[i] = at;
            at = (struct hs_line_place){at.row + 1, 0};
            continue;
        }
        bool is_tab = text[i] == L'\t';
        int width =
            is_tab ? TAB_COLUMNS - at.col % TAB_COLUMNS : hs_cluster_width(text + i, end - i);
        if (at.col > 0 && at.col + width > columns) {
            at = (struct hs_line_place){at.row + 1, 0};
            width = is_tab ? TAB_COLUMNS : width;
        }
        for (size_t k = i; k < end; k++) {
            int col = at.col + hs_cluster_width(text + i, k - i);
            places[k] = (struct hs_line_place){at.row, col < columns ? col : columns};
        }
        at.col = at.col + width < columns ? at.col + width : columns;
    }
    places[len] = at.col < columns ? at : (struct hs_line_place){at.row + 1, 0};
}

/* The first row to show, so that the cursor is among them. */
static int choose_top(const struct frame *frame, int old_top)
{
    int n_rows = frame->places[frame->len].row + 1;
    int row = frame->places[frame->cursor].row;
    int top = row < old_top ? row : old_top;
    top = row >= top + frame->rows ? row - frame->rows + 1 : top;
    int last_top = n_rows > frame->rows ? n_rows - frame->rows : 0;
    return top < last_top ? top : last_top;
}

/* ---- what is written ---- */

static void put(struct frame *frame, const char *bytes, size_t len)
{
    frame->has_failed = frame->has_failed || hs_buf_append(frame->bytes, bytes, len) != HS_OK;
}

static void put_text(struct frame *frame, const char *text)
{
    put(frame, text, strlen(text));
}

static void put_code(struct frame *frame, int number, char letter)
{
    frame->has_failed =
        frame->has_failed || hs_buf_printf(frame->bytes, "\033[%d%c", number, letter) != HS_OK;
}

static void put_char(struct frame *frame, wchar_t c)
{
    mbstate_t state = {0};
    char bytes[MB_LEN_MAX];
    if (c < 0x20 || c == 0x7F) {
        bytes[0] = '^';
        bytes[1] = (char)(c ^ 0x40);
        put(frame, bytes, 2);
        return;
    }
    size_t n = wcwidth(c) < 0 ? (size_t)-1 : wcrtomb(bytes, c, &state);
    if (n == (size_t)-1) {
        put_text(frame, UNKNOWN);
    } else {
        put(frame, bytes, n);
    }
}

static void put_cluster(struct frame *frame, size_t i, size_t end)
{
    if (frame->text[i] == L'\t') {
        put(frame, "        ", (size_t)(TAB_COLUMNS - frame->places[i].col % TAB_COLUMNS));
        return;
    }
    for (size_t k = i; k < end; k++) {
        put_char(frame, frame->text[k]);
    }
}

static void move_to(struct frame *frame, struct hs_line_place to)
{
    int col = to.col < frame->columns ? to.col : frame->columns - 1;
    if (to.row == frame->at.row && col == frame->at.col) {
        return;
    }
    if (to.row != frame->at.row) {
        int n = to.row - frame->at.row;
        put_code(frame, n < 0 ? -n : n, n < 0 ? 'A' : 'B');
    }
    if (col == 0) {
        put_text(frame, "\r");
    } else {
        put_code(frame, col + 1, 'G');
    }
    frame->at = (struct hs_line_place){to.row, col};
    frame->is_pending = false;
}

static void next_row(struct frame *frame)
{
    put_text(frame, "\r\n");
    frame->at = (struct hs_line_place){frame->at.row + 1, 0};
    frame->is_pending = false;
}

/* Write from text[i] on, which belongs where the cursor is or on the row below, as far as the
 * terminal's last row. */
static void put_rest(struct frame *frame, size_t i)
{
    int end_row = frame->top + frame->rows;
    for (size_t end; i < frame->len && frame->places[i].row < end_row; i = end) {
        const wchar_t *text = frame->text + i;
        end = hs_cluster_end(frame->text, frame->len, i);
        if (*text == L'\n') {
            if (frame->at.row + 1 < end_row) {
                next_row(frame);
            }
            continue;
        }
        bool is_odd = hs_cluster_is_odd(text, end - i);
        if (frame->places[i].row > frame->at.row && frame->is_pending && !is_odd) {
            frame->at = (struct hs_line_place){frame->at.row + 1, 0}; /* the terminal wraps */
        } else if (frame->places[i].row > frame->at.row) {
            next_row(frame);
        }
        put_cluster(frame, i, end);
        int width = *text == L'\t' ? TAB_COLUMNS - frame->at.col % TAB_COLUMNS
                                   : hs_cluster_width(text, end - i);
        frame->at.col += width;
        frame->is_pending = frame->at.col == frame->columns && !is_odd;
        if (is_odd && frame->at.col < frame->columns) {
            put_code(frame, frame->at.col + 1, 'G');
        }
    }
    int last_row = frame->places[frame->len].row;
    if (i == frame->len && last_row > frame->at.row && last_row < end_row) {
        if (frame->is_pending) { /* wrapped by the terminal, which so knows that it is one line */
            put_text(frame, " ");
            frame->at.row++;
            frame->at.col = 1;
            move_to(frame, (struct hs_line_place){frame->at.row, 0});
        } else {
            next_row(frame);
        }
    }
}

/* ---- frames ---- */

static bool frame_init(const struct hs_line_screen *screen, const char *prompt, const wchar_t *text,
                       size_t len, size_t cursor, struct frame *frame)
{
    size_t n_prompt = strlen(prompt);
    frame->len = n_prompt + len;
    frame->cursor = n_prompt + cursor;
    frame->text = hs_alloc((frame->len + 1) * sizeof frame->text[0]);
    frame->places = hs_calloc(frame->len + 1, sizeof frame->places[0]);
    if (!frame->text || !frame->places) {
        hs_free(frame->text);
        hs_free(frame->places);
        return false;
    }
    for (size_t i = 0; i < n_prompt; i++) {
        frame->text[i] = (wchar_t)prompt[i];
    }
    wmemcpy(frame->text + n_prompt, text, len);
    layout(frame->text, frame->len, screen->columns, frame->places);
    frame->top = choose_top(frame, screen->top);
    return true;
}

/* The index from which old and new differ, or an earlier one where both begin a cluster and the
 * cursor can be set. */
static size_t first_change(const struct hs_line_screen *screen, const struct frame *frame)
{
    size_t shorter = screen->len < frame->len ? screen->len : frame->len;
    size_t i = 0;
    while (i < shorter && screen->text[i] == frame->text[i]) {
        i++;
    }
    bool is_plain =
        (i == screen->len || screen->text[i] < 0x7F) && (i == frame->len || frame->text[i] < 0x7F);
    while (i > 0 && (!is_plain || screen->places[i].col >= screen->columns ||
                     frame->places[i].col >= screen->columns)) {
        i = hs_cluster_begin(frame->text, frame->len, i);
        is_plain = true;
    }
    return i;
}

static void draw_whole(const struct hs_line_screen *screen, struct frame *frame)
{
    move_to(frame, (struct hs_line_place){screen->top, 0});
    put_text(frame, "\r\033[J");
    frame->at = (struct hs_line_place){frame->top, 0};
    size_t i = 0;
    while (i < frame->len && frame->places[i].row < frame->top) {
        i++;
    }
    put_rest(frame, i);
}

static void draw_change(const struct hs_line_screen *screen, struct frame *frame)
{
    size_t from = first_change(screen, frame);
    if (from == screen->len && from == frame->len) {
        return;
    }
    struct hs_line_place old = screen->places[from], new = frame->places[from];
    move_to(frame, new.row < old.row ? new : old);
    if (from < screen->len) {
        put_text(frame, "\033[J");
    }
    put_rest(frame, from);
}

void hs_line_screen_draw(struct hs_line_screen *screen, const char *prompt, const wchar_t *text,
                         size_t len, size_t cursor)
{
    struct frame frame = {
        .columns = screen->columns, .rows = screen->rows, .bytes = &screen->bytes};
    if (!frame_init(screen, prompt, text, len, cursor, &frame)) {
        return;
    }
    hs_buf_clear(&screen->bytes);
    bool is_first = !screen->text;
    frame.at = is_first ? frame.at : screen->places[screen->cursor];
    if (frame.at.col >= frame.columns) {
        frame.at.col = frame.columns - 1;
    }
    bool is_high = frame.places[frame.len].row >= frame.rows ||
                   (!is_first && screen->places[screen->len].row >= frame.rows);
    bool is_same = !is_first && screen->len == frame.len &&
                   wmemcmp(screen->text, frame.text, frame.len) == 0 && screen->top == frame.top;
    if (is_first) {
        put_rest(&frame, 0);
    } else if (is_high && !is_same) {
        draw_whole(screen, &frame);
    } else if (!is_same) {
        draw_change(screen, &frame);
    }
    move_to(&frame, frame.places[frame.cursor]);
    if (frame.has_failed) {
        hs_free(frame.text);
        hs_free(frame.places);
        return;
    }
    fwrite(screen->bytes.data, 1, screen->bytes.len, screen->out);
    fflush(screen->out);
    hs_line_screen_forget(screen);
    screen->text = frame.text;
    screen->places = frame.places;
    screen->len = frame.len;
    screen->cursor = frame.cursor;
    screen->top = frame.top;
}

/* ---- the end of a line, and other sizes ---- */

void hs_line_screen_leave(struct hs_line_screen *screen)
{
    bool is_fresh = false;
    if (screen->text) {
        struct hs_line_place end = screen->places[screen->len];
        int last = screen->top + screen->rows - 1;
        int n_down = (end.row < last ? end.row : last) - screen->places[screen->cursor].row;
        is_fresh = end.col == 0 && end.row <= last && screen->text[screen->len - 1] != L'\n';
        if (n_down > 0) {
            fprintf(screen->out, "\033[%dB", n_down);
        }
    }
    fputs(is_fresh ? "\r" : "\r\n", screen->out);
    fflush(screen->out);
    hs_line_screen_forget(screen);
}

void hs_line_screen_clear(struct hs_line_screen *screen)
{
    fputs("\033[H\033[J", screen->out);
    fflush(screen->out);
    hs_line_screen_forget(screen);
}

void hs_line_screen_resize(struct hs_line_screen *screen, int columns, int rows)
{
    screen->columns = columns > 0 ? columns : 80;
    screen->rows = rows > 0 ? rows : 24;
    if (!screen->text) {
        return;
    }
    layout(screen->text, screen->len, screen->columns, screen->places);
    if (screen->top > 0 || screen->places[screen->len].row >= screen->rows) {
        hs_line_screen_clear(screen);
        return;
    }
    int n_up = screen->places[screen->cursor].row;
    if (n_up > 0) {
        fprintf(screen->out, "\033[%dA", n_up);
    }
    fputs("\r\033[J", screen->out);
    fflush(screen->out);
    hs_line_screen_forget(screen);
}
