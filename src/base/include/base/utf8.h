/* utf8.h - the little that is needed of UTF-8 (RFC 3629). Threads: no state. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the longest prefix of s[len] that does not end inside a code point. Invalid bytes count
 * as whole. */
size_t hs_utf8_complete(const char *s, size_t len);
/* Whether s[len] is well-formed: no surrogates, no over-long forms, nothing above U+10FFFF. */
bool hs_utf8_valid(const char *s, size_t len);
/* The longest prefix of s[len] of at most `max` bytes that does not cut a code point. */
size_t hs_utf8_clip(const char *s, size_t len, size_t max);
/* Put '?' for each maximal part of the string s that is not well-formed (Unicode 3.9, U+FFFD
 * substitution of maximal subparts), in place; s never grows. */
void hs_utf8_scrub(char *s);
/* Columns on a terminal (wcwidth of each code point; invalid bytes count 1, control characters 0),
 * in any locale. */
size_t hs_utf8_columns(const char *s, size_t len);

#endif
