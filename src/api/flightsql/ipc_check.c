#include "ipc_check.h"

#include <string.h>

enum { MESSAGE_TYPE = 1, MESSAGE_HEADER = 2 };
enum { TYPE_SCHEMA = 1, TYPE_DICTIONARY = 2, TYPE_RECORDS = 3 };
enum { SCHEMA_FIELDS = 1, SCHEMA_METADATA = 2 };
enum { FIELD_TYPE = 3, FIELD_DICTIONARY = 4, FIELD_CHILDREN = 5, FIELD_METADATA = 6 };
enum { DICTIONARY_DATA = 1, ENCODING_INDEX = 1, RECORDS_NODES = 1, RECORDS_BUFFERS = 2 };
enum { RECORDS_LENGTH = 0, NODE_SIZE = 16 };

/* Positions are numbers of bytes from the start; 0, where no table can lie, means: not there. */
struct walk {
    const uint8_t *bytes;
    size_t len;
    size_t n_left; /* fields and pairs that may still be looked at */
};

static uint32_t read32(const struct walk *walk, size_t at)
{
    uint32_t value = 0;
    if (at < walk->len && walk->len - at >= sizeof value) {
        memcpy(&value, walk->bytes + at, sizeof value);
    }
    return value;
}

static uint16_t read16(const struct walk *walk, size_t at)
{
    uint16_t value = 0;
    if (at < walk->len && walk->len - at >= sizeof value) {
        memcpy(&value, walk->bytes + at, sizeof value);
    }
    return value;
}

/* Where a table has its field. */
static size_t find(const struct walk *walk, size_t table, size_t field)
{
    int64_t vtable = (int64_t)table - (int32_t)read32(walk, table);
    if (table == 0 || vtable < 0) {
        return 0;
    }
    size_t entry = 4 + 2 * field;
    uint16_t offset =
        entry < read16(walk, (size_t)vtable) ? read16(walk, (size_t)vtable + entry) : 0;
    return offset ? table + offset : 0;
}

static size_t follow_at(const struct walk *walk, size_t at)
{
    uint32_t offset = at ? read32(walk, at) : 0;
    return offset && at + offset < walk->len ? at + offset : 0;
}

/* The table or vector that a field points to. */
static size_t follow(const struct walk *walk, size_t table, size_t field)
{
    return follow_at(walk, find(walk, table, field));
}

/* The i-th table of a vector, one of those that may be looked at. */
static size_t take_table(struct walk *walk, size_t vector, uint32_t i)
{
    if (walk->n_left == 0) {
        return 0;
    }
    walk->n_left--;
    return follow_at(walk, vector + 4 + 4 * (size_t)i);
}

static bool has_pairs(struct walk *walk, size_t table, size_t field)
{
    size_t pairs = follow(walk, table, field);
    uint32_t n = pairs ? read32(walk, pairs) : 0;
    bool is_whole = pairs || !find(walk, table, field);
    for (uint32_t i = 0; i < n && is_whole; i++) {
        size_t pair = take_table(walk, pairs, i);
        is_whole = find(walk, pair, 0) && find(walk, pair, 1);
    }
    return is_whole;
}

static bool has_fields(struct walk *walk, size_t table, size_t field, int depth)
{
    size_t fields = follow(walk, table, field);
    uint32_t n = fields ? read32(walk, fields) : 0;
    bool is_whole = fields && (depth > 0 || n == 0);
    for (uint32_t i = 0; i < n && is_whole; i++) {
        size_t child = take_table(walk, fields, i);
        size_t encoding = follow(walk, child, FIELD_DICTIONARY);
        is_whole = find(walk, child, FIELD_TYPE) && has_pairs(walk, child, FIELD_METADATA) &&
                   (!encoding || find(walk, encoding, ENCODING_INDEX)) &&
                   (!find(walk, child, FIELD_CHILDREN) ||
                    has_fields(walk, child, FIELD_CHILDREN, depth - 1));
    }
    return is_whole;
}

/* Lengths that the decoder may multiply. */
static bool has_lengths(const struct walk *walk, size_t nodes)
{
    uint32_t n = read32(walk, nodes);
    bool is_fine = n <= (walk->len - nodes) / NODE_SIZE;
    for (uint32_t i = 0; i < n && is_fine; i++) {
        size_t at = nodes + 4 + NODE_SIZE * (size_t)i;
        is_fine = read32(walk, at) <= INT32_MAX && read32(walk, at + 4) == 0;
    }
    return is_fine;
}

static bool is_records(const struct walk *walk, size_t table)
{
    size_t nodes = follow(walk, table, RECORDS_NODES), length = find(walk, table, RECORDS_LENGTH);
    return nodes && has_lengths(walk, nodes) && find(walk, table, RECORDS_BUFFERS) &&
           (!length || (read32(walk, length) <= INT32_MAX && read32(walk, length + 4) == 0));
}

bool hs_ipc_is_complete(const uint8_t *flatbuffer, size_t len)
{
    struct walk walk = {flatbuffer, len, HS_IPC_FIELDS_MAX};
    size_t message = read32(&walk, 0), type = find(&walk, message, MESSAGE_TYPE);
    size_t header = follow(&walk, message, MESSAGE_HEADER);
    if (type == 0 || type >= len || !header) {
        return false;
    }
    switch (flatbuffer[type]) {
    case TYPE_SCHEMA:
        return has_fields(&walk, header, SCHEMA_FIELDS, HS_IPC_DEPTH_MAX) &&
               has_pairs(&walk, header, SCHEMA_METADATA);
    case TYPE_DICTIONARY:
        return is_records(&walk, follow(&walk, header, DICTIONARY_DATA));
    case TYPE_RECORDS:
        return is_records(&walk, header);
    default:
        return true;
    }
}
