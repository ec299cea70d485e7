/*
 * cluster.h - characters that a person sees as one: a letter and its marks, emoji joined by U+200D,
 * a flag of two letters.
 *
 * Widths are those of a terminal that draws each code point by itself; one that joins emoji needs
 * fewer columns.
 *
 * Source:  UAX #29, extended grapheme clusters, as far as wcwidth and the ranges of emoji go.
 * Threads: no state.
 */
#ifndef CLI_CLUSTER_H
#define CLI_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>

/* Where the cluster that begins at text[i], i < len, ends. */
size_t hs_cluster_end(const wchar_t *text, size_t len, size_t i);
/* Where the cluster begins that text[i - 1], 0 < i <= len, belongs to. */
size_t hs_cluster_begin(const wchar_t *text, size_t len, size_t i);
/* Columns of text[n], one cluster or its beginning; control characters count as drawn ("^A"), what
 * cannot be drawn as one. */
int hs_cluster_width(const wchar_t *text, size_t n);
/* Whether terminals do not agree on its width. */
bool hs_cluster_is_odd(const wchar_t *text, size_t n);

#endif
