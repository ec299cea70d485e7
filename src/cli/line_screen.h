/*
 * line_screen.h - what a line editor shows: a prompt and a text that may fill many rows of the
 * terminal, with wide characters, marks and joined emoji in it.
 *
 * A cluster (cluster.h) stands on one row. Behind those that terminals draw in different widths the
 * column is set, so that the cursor is always where it is believed to be. Only what changed is
 * drawn; of a text that is higher than the terminal the part around the cursor.
 *
 * Owner:   hs_line_screen_free releases it; `out` is the caller's.
 * Threads: none.
 * Source:  ECMA-48: CUU, CUD, CHA, ED.
 */
#ifndef CLI_LINE_SCREEN_H
#define CLI_LINE_SCREEN_H

#include <stdio.h>
#include <wchar.h>

#include "base/buf.h"

struct hs_line_place {
    int row, col; /* from where the prompt begins; col == columns: behind a full row */
};

struct hs_line_screen {
    FILE *out;
    int columns, rows;            /* of the terminal */
    wchar_t *text;                /* as drawn, the prompt included */
    size_t len, capacity, cursor; /* cursor: the index it stands before */
    struct hs_line_place *places; /* [len + 1] */
    int top;                      /* the first row that is shown */
    struct hs_buf bytes;
};

void hs_line_screen_init(struct hs_line_screen *screen, FILE *out, int columns, int rows);
void hs_line_screen_free(struct hs_line_screen *screen);

/* Show prompt and text[len] with the cursor before text[cursor]. Without memory nothing changes on
 * the terminal. */
void hs_line_screen_draw(struct hs_line_screen *screen, const char *prompt, const wchar_t *text,
                         size_t len, size_t cursor);
/* Go to the beginning of the line behind the text; the next draw begins there. */
void hs_line_screen_leave(struct hs_line_screen *screen);
/* The next draw begins where the cursor is, in the first column. */
void hs_line_screen_forget(struct hs_line_screen *screen);
/* The terminal has another size and has wrapped its rows anew, as terminals do: what is there is
 * removed, for the next draw. */
void hs_line_screen_resize(struct hs_line_screen *screen, int columns, int rows);
/* The whole terminal becomes empty. */
void hs_line_screen_clear(struct hs_line_screen *screen);

#endif
