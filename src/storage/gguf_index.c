/* gguf_index.c - a seeded hash set of numbered texts, open addressing at most half full. */
#include "gguf_internal.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"

#define NUMBER_MASK 0xFFFFFFFFu
#define AHEAD 32u /* slots on their way from memory while a vocabulary is added */

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const char *data, size_t len)
{
    uint64_t word = 0;
    memcpy(&word, data, len);
    return word;
}

/* The last bytes of a text, overlapping what was read before, so that no length needs a loop. */
static uint64_t load_tail(struct hs_gguf_text text)
{
    const char *end = text.data + text.len;
    if (text.len >= 8) {
        return load(end - 8, 8);
    }
    if (text.len >= 4) {
        return load(text.data, 4) << 32 | load(end - 4, 4);
    }
    if (text.len == 0) {
        return 0;
    }
    return load(text.data, 1) << 16 | load(text.data + text.len / 2, 1) << 8 | load(end - 1, 1);
}

static uint64_t hash_text(uint64_t seed, struct hs_gguf_text text)
{
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    uint64_t h = seed ^ text.len;
    for (size_t at = 0; text.len - at > sizeof(uint64_t); at += sizeof(uint64_t)) {
        h = fold(h ^ load(text.data + at, sizeof(uint64_t)), seed | 1) + odd;
    }
    return fold(h ^ load_tail(text), odd) ^ seed;
}

bool hs_gguf_index_init(struct hs_gguf_index *index, size_t n)
{
    size_t n_slots = 8;
    while (n_slots < 2 * n) {
        n_slots *= 2;
    }
    index->slots = hs_calloc(n_slots, sizeof *index->slots);
    if (index->slots == NULL) {
        return false;
    }
    index->mask = n_slots - 1;
    if (getrandom(&index->seed, sizeof index->seed, GRND_NONBLOCK) != sizeof index->seed) {
        index->seed = (uint64_t)hs_clock_ns() * 0xD6E8FEB86659FD93u ^ (uintptr_t)index->slots;
    }
    return true;
}

void hs_gguf_index_free(struct hs_gguf_index *index)
{
    hs_free(index->slots);
    index->slots = NULL;
}

/* The slot of an equal text, or the empty one where it would go. */
static size_t find_slot(const struct hs_gguf_index *index, uint64_t hash,
                        struct hs_gguf_text wanted, hs_gguf_text_fn text, const void *owner)
{
    size_t at = (size_t)hash & index->mask;
    for (; index->slots[at] != 0; at = (at + 1) & index->mask) {
        if ((index->slots[at] ^ hash) & ~(uint64_t)NUMBER_MASK) {
            continue;
        }
        struct hs_gguf_text own = text(owner, (size_t)(index->slots[at] & NUMBER_MASK) - 1);
        if (own.len == wanted.len && (own.len == 0 || !memcmp(own.data, wanted.data, own.len))) {
            return at;
        }
    }
    return at;
}

static size_t add_hashed(struct hs_gguf_index *index, uint64_t hash, size_t i, hs_gguf_text_fn text,
                         const void *owner)
{
    size_t at = find_slot(index, hash, text(owner, i), text, owner);
    if (index->slots[at] != 0) {
        return (size_t)(index->slots[at] & NUMBER_MASK) - 1;
    }
    index->slots[at] = (hash & ~(uint64_t)NUMBER_MASK) | (uint64_t)(i + 1);
    return HS_GGUF_INDEX_NONE;
}

size_t hs_gguf_index_add(struct hs_gguf_index *index, size_t i, hs_gguf_text_fn text,
                         const void *owner)
{
    return add_hashed(index, hash_text(index->seed, text(owner, i)), i, text, owner);
}

bool hs_gguf_index_add_all(struct hs_gguf_index *index, size_t n, hs_gguf_text_fn text,
                           const void *owner, size_t ret_pair[2])
{
    uint64_t hashes[AHEAD];
    for (size_t first = 0; first < n; first += AHEAD) {
        size_t n_here = n - first < AHEAD ? n - first : AHEAD;
        for (size_t i = 0; i < n_here; i++) {
            hashes[i] = hash_text(index->seed, text(owner, first + i));
            __builtin_prefetch(&index->slots[hashes[i] & index->mask], 1);
        }
        for (size_t i = 0; i < n_here; i++) {
            size_t other = add_hashed(index, hashes[i], first + i, text, owner);
            if (other != HS_GGUF_INDEX_NONE) {
                ret_pair[0] = other;
                ret_pair[1] = first + i;
                return false;
            }
        }
    }
    return true;
}

size_t hs_gguf_index_find(const struct hs_gguf_index *index, struct hs_gguf_text wanted,
                          hs_gguf_text_fn text, const void *owner)
{
    size_t at = find_slot(index, hash_text(index->seed, wanted), wanted, text, owner);
    return index->slots[at] == 0 ? HS_GGUF_INDEX_NONE
                                 : (size_t)(index->slots[at] & NUMBER_MASK) - 1;
}
