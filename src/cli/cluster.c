#include "cluster.h"

#define JOINER 0x200D
#define AS_EMOJI 0xFE0F /* the variation selector that asks for a picture */

static bool is_control(wchar_t c)
{
    return c < 0x20 || c == 0x7F;
}

static bool is_flag_letter(wchar_t c)
{
    return c >= 0x1F1E6 && c <= 0x1F1FF;
}

static bool is_emoji(wchar_t c)
{
    return (c >= 0x2190 && c <= 0x2BFF) || (c >= 0x1F000 && c <= 0x1FAFF && !is_flag_letter(c));
}

/* A colour of skin. */
static bool is_modifier(wchar_t c)
{
    return c >= 0x1F3FB && c <= 0x1F3FF;
}

size_t hs_cluster_end(const wchar_t *text, size_t len, size_t i)
{
    wchar_t base = text[i++];
    if (is_control(base)) {
        return i;
    }
    if (is_flag_letter(base) && i < len && is_flag_letter(text[i])) {
        i++;
    }
    while (i < len) {
        bool is_joined = text[i - 1] == JOINER && is_emoji(base) && is_emoji(text[i]);
        bool is_coloured = is_modifier(text[i]) && is_emoji(base);
        if (!is_joined && !is_coloured && (is_control(text[i]) || wcwidth(text[i]) != 0)) {
            break;
        }
        i++;
    }
    return i;
}

size_t hs_cluster_begin(const wchar_t *text, size_t len, size_t i)
{
    size_t from = i - 1; /* flags and joined emoji need what stands before: begin at plain ASCII */
    while (from > 0 && (text[from] < 0x20 || text[from] >= 0x7F)) {
        from--;
    }
    for (size_t end; (end = hs_cluster_end(text, len, from)) < i;) {
        from = end;
    }
    return from;
}

int hs_cluster_width(const wchar_t *text, size_t n)
{
    int width = 0;
    for (size_t i = 0; i < n; i++) {
        int own = is_control(text[i]) ? 2 : wcwidth(text[i]);
        width += own < 0 ? 1 : own;
        width += text[i] == AS_EMOJI && width == 1;
    }
    return width;
}

bool hs_cluster_is_odd(const wchar_t *text, size_t n)
{
    return n > 1 || text[0] >= 0x1F000 || (!is_control(text[0]) && wcwidth(text[0]) <= 0);
}
