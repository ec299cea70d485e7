/* gguf_index.c - a seeded hash set of numbered texts, open addressing at most half full. */
#include "gguf_internal.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"

#define NUMBER_MASK 0xFFFFFFFFu

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_text(uint64_t seed, struct hs_gguf_text text)
{
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    uint64_t h = seed ^ text.len;
    size_t at = 0;
    for (; text.len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, text.data + at, sizeof word);
        h = fold(h ^ word, seed | 1) + odd;
    }
    uint64_t rest = 0;
    if (at < text.len) {
        memcpy(&rest, text.data + at, text.len - at);
    }
    return fold(h ^ rest, odd) ^ seed;
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

size_t hs_gguf_index_add(struct hs_gguf_index *index, size_t i, hs_gguf_text_fn text,
                         const void *owner)
{
    struct hs_gguf_text own = text(owner, i);
    uint64_t hash = hash_text(index->seed, own);
    size_t at = find_slot(index, hash, own, text, owner);
    if (index->slots[at] != 0) {
        return (size_t)(index->slots[at] & NUMBER_MASK) - 1;
    }
    index->slots[at] = (hash & ~(uint64_t)NUMBER_MASK) | (uint64_t)(i + 1);
    return HS_GGUF_INDEX_NONE;
}

size_t hs_gguf_index_find(const struct hs_gguf_index *index, struct hs_gguf_text wanted,
                          hs_gguf_text_fn text, const void *owner)
{
    size_t at = find_slot(index, hash_text(index->seed, wanted), wanted, text, owner);
    return index->slots[at] == 0 ? HS_GGUF_INDEX_NONE
                                 : (size_t)(index->slots[at] & NUMBER_MASK) - 1;
}
