/* utf8.c - UTF-8 by the table of well-formed byte sequences (RFC 3629, section 4). */
#include "base/utf8.h"

#include <locale.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>

/*
 * Bytes of the sequence at s[len] that fit the grammar, 0 when the first byte does not start one;
 * *ret_length is what the whole sequence takes.
 */
static size_t sequence_match(const unsigned char *s, size_t len, size_t *ret_length)
{
    unsigned char low = 0x80, high = 0xBF; /* allowed range of the second byte */
    if (s[0] < 0x80) {
        *ret_length = 1;
        return 1;
    }
    if (s[0] < 0xC2 || s[0] > 0xF4) {
        return 0;
    }
    *ret_length = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    switch (s[0]) {
    case 0xE0:
        low = 0xA0;
        break;
    case 0xED:
        high = 0x9F;
        break;
    case 0xF0:
        low = 0x90;
        break;
    case 0xF4:
        high = 0x8F;
        break;
    default:
        break;
    }
    size_t n = 1;
    while (n < *ret_length && n < len && s[n] >= low && s[n] <= high) {
        low = 0x80;
        high = 0xBF;
        n++;
    }
    return n;
}

/* Length of the well-formed sequence at s[len], or 0. */
static size_t sequence_whole(const unsigned char *s, size_t len)
{
    size_t length = 0;
    size_t n = sequence_match(s, len, &length);
    return n > 0 && n == length ? n : 0;
}

size_t hs_utf8_complete(const char *s, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)s;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        size_t length = 0;
        size_t n = sequence_match(bytes + len - back, back, &length);
        if (n == back && n < length) {
            return len - back;
        }
        if (n > 0) {
            break;
        }
    }
    return len;
}

bool hs_utf8_valid(const char *s, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)s;
    size_t i = 0;
    while (i < len) {
        size_t n = sequence_whole(bytes + i, len - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

size_t hs_utf8_clip(const char *s, size_t len, size_t max)
{
    if (len <= max) {
        return len;
    }
    const unsigned char *bytes = (const unsigned char *)s;
    for (size_t back = 1; back <= 3 && back <= max; back++) {
        size_t start = max - back;
        if (sequence_whole(bytes + start, len - start) > back) {
            return start;
        }
    }
    return max;
}

void hs_utf8_scrub(char *s)
{
    char *out = s;
    size_t len = strlen(s);
    while (len > 0) {
        size_t length = 1;
        size_t n = sequence_match((const unsigned char *)s, len, &length);
        if (n == length) {
            memmove(out, s, n);
            out += n;
        } else {
            *out++ = '?';
        }
        s += n > 0 ? n : 1;
        len -= n > 0 ? n : 1;
    }
    *out = '\0';
}

static locale_t width_locale;

static void width_locale_make(void)
{
    width_locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

static uint32_t sequence_decode(const unsigned char *s, size_t n)
{
    static const unsigned char mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t point = s[0] & mask[n];
    for (size_t i = 1; i < n; i++) {
        point = point << 6 | (s[i] & 0x3Fu);
    }
    return point;
}

size_t hs_utf8_columns(const char *s, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, width_locale_make);
    /* wcwidth asks the locale of the thread, which is "C" in a program that embeds us */
    locale_t old = width_locale == (locale_t)0 ? (locale_t)0 : uselocale(width_locale);
    const unsigned char *bytes = (const unsigned char *)s;
    size_t columns = 0, i = 0;
    while (i < len) {
        size_t n = sequence_whole(bytes + i, len - i);
        if (n == 0) {
            columns++;
            i++;
            continue;
        }
        int width = wcwidth((wchar_t)sequence_decode(bytes + i, n));
        columns += width > 0 ? (size_t)width : 0;
        i += n;
    }
    if (old != (locale_t)0) {
        uselocale(old);
    }
    return columns;
}
