#include "api/nearest.h"

#include <string.h>

#define NAME_MAX_LEN 63

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NAME_MAX_LEN + 1]; /* of the table: two back, one back, this one */
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_len; j++) {
        last[j] = j;
        before[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = least(change, least(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], before[j - 2] + 1);
            }
        }
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
    }
    return last[b_len];
}

void hs_nearest_offer(struct hs_nearest *nearest, const char *known)
{
    size_t name_len = strlen(nearest->name);
    size_t known_len = strlen(known);
    if (name_len > NAME_MAX_LEN || known_len > NAME_MAX_LEN) {
        return;
    }
    size_t limit = least(3, (known_len + 2) / 3);
    size_t d = distance(nearest->name, name_len, known, known_len);
    if (d <= limit && (!nearest->best || d < nearest->distance)) {
        nearest->best = known;
        nearest->distance = d;
    }
}
