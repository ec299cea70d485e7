/*
 * What is drawn, judged by a terminal: one that draws each code point by itself, and one that joins
 * emoji. tests/python/test_line_editing.py asks a real one.
 */
#include "api_test.h"

#include <locale.h>

#include "line_screen.h"

#define ROWS_MAX 40
#define COLUMNS_MAX 80
#define WIDE_END ((wchar_t)-1) /* the second column of a wide character */

struct terminal {
    int columns, rows, row, col;
    bool is_pending, joins;
    wchar_t cells[ROWS_MAX][COLUMNS_MAX];
    wchar_t before; /* the code point written last */
};

static void scroll(struct terminal *t)
{
    memmove(t->cells[0], t->cells[1], sizeof t->cells[0] * (size_t)(t->rows - 1));
    wmemset(t->cells[t->rows - 1], L' ', COLUMNS_MAX);
}

static void line_feed(struct terminal *t)
{
    if (t->row == t->rows - 1) {
        scroll(t);
    } else {
        t->row++;
    }
}

static void write_char(struct terminal *t, wchar_t c)
{
    int width = wcwidth(c);
    bool is_joined = t->joins && t->before == 0x200D;
    t->before = c;
    if (width <= 0 || is_joined) {
        return; /* into the cell before, which is not looked at */
    }
    if (t->is_pending || t->col + width > t->columns) {
        t->col = 0;
        line_feed(t);
        t->is_pending = false;
    }
    t->cells[t->row][t->col] = c;
    if (width == 2) {
        t->cells[t->row][t->col + 1] = WIDE_END;
    }
    t->col += width;
    t->is_pending = t->col == t->columns;
    t->col -= t->is_pending;
}

static const char *control(struct terminal *t, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    n = end == text ? 1 : n;
    t->is_pending = false;
    switch (*end) {
    case 'A':
        t->row = t->row >= n ? t->row - (int)n : 0;
        break;
    case 'B':
        t->row = t->row + n < t->rows ? t->row + (int)n : t->rows - 1;
        break;
    case 'G':
        assert_true(n <= t->columns);
        t->col = (int)n - 1;
        break;
    case 'H':
        t->row = t->col = 0;
        break;
    case 'J':
        wmemset(&t->cells[t->row][t->col], L' ', (size_t)(COLUMNS_MAX - t->col));
        for (int row = t->row + 1; row < t->rows; row++) {
            wmemset(t->cells[row], L' ', COLUMNS_MAX);
        }
        break;
    default:
        fail_msg("a code that nobody knows: %s", end);
    }
    return end + 1;
}

static void terminal_write(struct terminal *t, const char *text, size_t len)
{
    mbstate_t decoder = {0};
    const char *end = text + len;
    while (text < end) {
        wchar_t c;
        if (strncmp(text, "\033[", 2) == 0) {
            text = control(t, text + 2);
            t->before = 0;
            continue;
        }
        size_t n = mbrtowc(&c, text, (size_t)(end - text), &decoder);
        assert_true(n > 0 && n <= MB_CUR_MAX);
        text += n;
        if (c == L'\r') {
            t->col = 0;
            t->is_pending = false;
        } else if (c == L'\n') {
            line_feed(t);
            t->before = 0;
        } else {
            assert_true(c >= 0x20);
            write_char(t, c);
        }
    }
}

static struct terminal *terminal_new(int columns, int rows, bool joins)
{
    struct terminal *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->columns = columns;
    t->rows = rows;
    t->joins = joins;
    wmemset(t->cells[0], L' ', ROWS_MAX * COLUMNS_MAX);
    return t;
}

/* A screen that writes to memory, and the terminal that reads it. */
struct pair {
    struct hs_line_screen screen;
    struct terminal *terminal;
    FILE *out;
    char *bytes;
    size_t n_bytes;
};

static void open_pair(struct pair *pair, int columns, int rows, bool joins)
{
    pair->bytes = NULL;
    pair->out = open_memstream(&pair->bytes, &pair->n_bytes);
    assert_non_null(pair->out);
    hs_line_screen_init(&pair->screen, pair->out, columns, rows);
    pair->terminal = terminal_new(columns, rows, joins);
}

static void transfer(struct pair *pair)
{
    fflush(pair->out);
    terminal_write(pair->terminal, pair->bytes, pair->n_bytes);
    rewind(pair->out);
    fflush(pair->out);
    pair->n_bytes = 0;
}

static void draw(struct pair *pair, const wchar_t *text, size_t cursor)
{
    hs_line_screen_draw(&pair->screen, "> ", text, wcslen(text), cursor);
    transfer(pair);
}

static void close_pair(struct pair *pair)
{
    hs_line_screen_free(&pair->screen);
    fclose(pair->out);
    free(pair->bytes);
    free(pair->terminal);
}

static void expect_row(const struct pair *pair, int row, const wchar_t *want)
{
    wchar_t text[COLUMNS_MAX + 1] = L"";
    size_t len = 0;
    for (int col = 0; col < pair->terminal->columns; col++) {
        wchar_t c = pair->terminal->cells[row][col];
        if (c != WIDE_END) {
            text[len++] = c;
        }
    }
    while (len > 0 && text[len - 1] == L' ') {
        len--;
    }
    text[len] = L'\0';
    if (wcscmp(text, want) != 0) {
        fail_msg("row %d is '%ls', not '%ls'", row, text, want);
    }
}

static void expect_cursor(const struct pair *pair, int row, int col)
{
    if (pair->terminal->row != row || pair->terminal->col != col || pair->terminal->is_pending) {
        fail_msg("the cursor is in %d %d, not %d %d", pair->terminal->row, pair->terminal->col, row,
                 col);
    }
}

/* ---- examples ---- */

static void rows_that_are_full(void **state)
{
    (void)state;
    struct pair pair;
    open_pair(&pair, 10, 6, false);
    draw(&pair, L"", 0);
    expect_cursor(&pair, 0, 2);
    draw(&pair, L"12345678", 8); /* the next character comes on the next row */
    expect_row(&pair, 0, L"> 12345678");
    expect_cursor(&pair, 1, 0);
    draw(&pair, L"123456789", 9);
    expect_row(&pair, 1, L"9");
    expect_cursor(&pair, 1, 1);
    draw(&pair, L"12345678", 8);
    expect_row(&pair, 1, L"");
    expect_cursor(&pair, 1, 0);
    draw(&pair, L"1234567", 0);
    expect_row(&pair, 0, L"> 1234567");
    expect_cursor(&pair, 0, 2);
    hs_line_screen_leave(&pair.screen);
    transfer(&pair);
    expect_cursor(&pair, 1, 0);
    close_pair(&pair);
}

static void wide_characters_at_the_end_of_a_row(void **state)
{
    (void)state;
    struct pair pair;
    open_pair(&pair, 9, 6, false);
    draw(&pair, L"\u65E5\u672C\u8A9E", 3); /* one column is left: */
    expect_row(&pair, 0, L"> \u65E5\u672C\u8A9E");
    draw(&pair, L"\u65E5\u672C\u8A9E\u65E5", 4);
    expect_row(&pair, 0, L"> \u65E5\u672C\u8A9E");
    expect_row(&pair, 1, L"\u65E5");
    expect_cursor(&pair, 1, 2);
    draw(&pair, L"x\u65E5\u672C\u8A9E\u65E5", 1); /* now none */
    expect_row(&pair, 0, L"> x\u65E5\u672C\u8A9E");
    expect_row(&pair, 1, L"\u65E5");
    expect_cursor(&pair, 0, 3);
    draw(&pair, L"\u65E5\u672C\u8A9E\u65E5", 0);
    expect_row(&pair, 0, L"> \u65E5\u672C\u8A9E");
    expect_row(&pair, 1, L"\u65E5");
    expect_cursor(&pair, 0, 2);
    close_pair(&pair);
}

static void joined_emoji(void **state)
{
    (void)state;
    static const wchar_t family[] = L"\U0001F469\u200D\U0001F469\u200D\U0001F467";
    wchar_t text[16];
    for (int joins = 0; joins < 2; joins++) {
        struct pair pair;
        open_pair(&pair, 12, 6, joins != 0);
        swprintf(text, COUNT_OF(text), L"a%lsb", family);
        draw(&pair, text, 7);
        expect_cursor(&pair, 0, 10); /* "> a", three times two columns, "b" */
        assert_int_equal(pair.terminal->cells[0][9], L'b');
        draw(&pair, text, 1);
        expect_cursor(&pair, 0, 3);
        swprintf(text, COUNT_OF(text), L"12345%lsb", family); /* stays whole, on the next row */
        draw(&pair, text, 11);
        expect_row(&pair, 0, L"> 12345");
        assert_int_equal(pair.terminal->cells[1][6], L'b');
        expect_cursor(&pair, 1, 7);
        close_pair(&pair);
    }
}

static void marks_tabs_and_control_characters(void **state)
{
    (void)state;
    struct pair pair;
    open_pair(&pair, 20, 6, false);
    draw(&pair, L"e", 1);
    draw(&pair, L"e\u0301", 2);
    expect_cursor(&pair, 0, 3);
    draw(&pair, L"e\u0301x", 3);
    expect_row(&pair, 0, L"> ex");
    draw(&pair, L"a\tb\001", 4);
    expect_row(&pair, 0, L"> a     b^A");
    expect_cursor(&pair, 0, 11);
    draw(&pair, L"one\ntwo", 7);
    expect_row(&pair, 0, L"> one");
    expect_row(&pair, 1, L"two");
    expect_cursor(&pair, 1, 3);
    draw(&pair, L"one\x85", 4); /* nobody knows how wide: a sign instead */
    expect_row(&pair, 0, L"> one\uFFFD");
    expect_row(&pair, 1, L"");
    close_pair(&pair);
}

static void higher_than_the_terminal(void **state)
{
    (void)state;
    struct pair pair;
    wchar_t text[64];
    open_pair(&pair, 10, 3, false);
    for (size_t i = 0; i < 48;
         i++) { /* 50 columns with the prompt: rows 0 to 4, and an empty one */
        text[i] = (wchar_t)(L'a' + (wchar_t)(i + 2) / 10);
        text[i + 1] = L'\0';
        draw(&pair, text, i + 1);
    }
    expect_row(&pair, 0, L"dddddddddd");
    expect_row(&pair, 1, L"eeeeeeeeee");
    expect_cursor(&pair, 2, 0);
    draw(&pair, text, 0);
    expect_row(&pair, 0, L"> aaaaaaaa");
    expect_row(&pair, 2, L"cccccccccc");
    expect_cursor(&pair, 0, 2);
    draw(&pair, text, 40);
    expect_row(&pair, 0, L"cccccccccc");
    expect_cursor(&pair, 2, 2);
    draw(&pair, L"short", 5);
    expect_row(&pair, 0, L"> short");
    expect_row(&pair, 1, L"");
    expect_cursor(&pair, 0, 7);
    close_pair(&pair);
}

static void another_size(void **state)
{
    (void)state;
    struct pair pair;
    open_pair(&pair, 20, 6, false);
    draw(&pair, L"1234567890123456", 16);
    /* what a terminal that wraps anew makes of it */
    pair.terminal->columns = 10;
    wmemcpy(pair.terminal->cells[1], pair.terminal->cells[0] + 10, 10);
    pair.terminal->row = 1;
    pair.terminal->col = 8;
    hs_line_screen_resize(&pair.screen, 10, 6);
    draw(&pair, L"1234567890123456", 16);
    expect_row(&pair, 0, L"> 12345678");
    expect_row(&pair, 1, L"90123456");
    expect_row(&pair, 2, L"");
    expect_cursor(&pair, 1, 8);
    close_pair(&pair);
}

/* ---- any text after any other ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void change(wchar_t *text, size_t *cursor, uint32_t *seed)
{
    static const wchar_t *const pieces[] = {
        L"a",      L"bc",           L"\u65E5",           L"\u672C\u8A9E",
        L"\u0301", L"\U0001F600",   L"\u200D\U0001F525", L"\n",
        L"\t",     L"\u2764\uFE0F", L"long words",       L"\U0001F1E9\U0001F1EA"};
    size_t len = wcslen(text), at = next_random(seed) % (len + 1);
    if (next_random(seed) % 3 == 0) {
        size_t n = next_random(seed) % (len - at + 1) % 4;
        wmemmove(text + at, text + at + n, len - at - n + 1);
    } else if (len < 100) {
        const wchar_t *piece = pieces[next_random(seed) % COUNT_OF(pieces)];
        size_t n = wcslen(piece);
        wmemmove(text + at + n, text + at, len - at + 1);
        wmemcpy(text + at, piece, n);
        at += n;
    }
    *cursor = next_random(seed) % 2 == 0 ? at : next_random(seed) % (wcslen(text) + 1);
}

/* Drawn change by change, or at once on an empty terminal: it looks the same. */
static void changes_look_like_the_whole(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t seed = round;
        int columns = 8 + (int)round % 12, rows = round % 3 == 0 ? 4 : 30;
        wchar_t text[256] = L"";
        size_t cursor = 0;
        struct pair pair, whole;
        open_pair(&pair, columns, rows, round % 2 == 0);
        draw(&pair, text, 0);
        for (int i = 0; i < 80; i++) {
            change(text, &cursor, &seed);
            draw(&pair, text, cursor);
            open_pair(&whole, columns, rows, round % 2 == 0);
            whole.screen.top = pair.screen.top;
            draw(&whole, text, cursor);
            int n_rows = whole.screen.places[whole.screen.len].row - whole.screen.top + 1;
            for (int row = 0; row < rows && (row < n_rows || rows > 4); row++) {
                if (wmemcmp(pair.terminal->cells[row], whole.terminal->cells[row],
                            (size_t)columns) != 0) {
                    fail_msg("round %u, change %d, row %d: '%ls'", (unsigned)round, i, row, text);
                }
            }
            expect_cursor(&pair, whole.terminal->row, whole.terminal->col);
            close_pair(&whole);
        }
        close_pair(&pair);
    }
}

static void without_memory(void **state)
{
    (void)state;
    struct pair pair;
    open_pair(&pair, 20, 6, false);
    draw(&pair, L"one", 3);
    for (uint64_t nth = 1; nth <= 4; nth++) {
        hs_mem_fail_after(nth);
        hs_line_screen_draw(&pair.screen, "> ", L"one and two and three", 21, 21);
        hs_mem_fail_after(0);
        transfer(&pair);
        bool is_drawn = pair.screen.len > 5;
        expect_cursor(&pair, is_drawn ? 1 : 0, is_drawn ? 3 : 5);
        draw(&pair, L"one", 3);
        expect_row(&pair, 0, L"> one");
    }
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_are_full),
        cmocka_unit_test(wide_characters_at_the_end_of_a_row),
        cmocka_unit_test(joined_emoji),
        cmocka_unit_test(marks_tabs_and_control_characters),
        cmocka_unit_test(higher_than_the_terminal),
        cmocka_unit_test(another_size),
        cmocka_unit_test(changes_look_like_the_whole),
        cmocka_unit_test(without_memory),
    };
    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
