/*
 * gguf_parse.c - the header of a GGUF file, read front to back.
 *
 *   "GGUF", u32 version, u64 n_tensors, u64 n_kv,
 *   n_kv times     string key, u32 type, value
 *   n_tensors times string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset
 *   padding to the alignment, then the data section, tensor after tensor, each padded.
 * string: u64 length, bytes. array value: u32 item type, u64 count, items.
 */
#include "gguf_internal.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define MIN_KV_BYTES 14u     /* a key of one letter and a value of one byte */
#define MIN_TENSOR_BYTES 33u /* a name of one letter and one dimension */

struct cursor {
    const uint8_t *data;
    size_t len; /* bytes in memory */
    uint64_t file_size;
    size_t pos;
    uint64_t want; /* not 0: the file goes on, but memory does not */
    struct hs_error *err;
};

static hs_status truncated(struct cursor *cur, uint64_t n, const char *what)
{
    uint64_t left = cur->file_size - cur->pos;
    if (n <= left) {
        cur->want = cur->pos + n;
    }
    if (cur->file_size == 0) {
        hs_error_set(cur->err, HS_TRUNCATED, "the file is empty");
        hs_error_hint(cur->err, "copy or download it again");
        return HS_TRUNCATED;
    }
    hs_error_set(cur->err, HS_TRUNCATED,
                 "the file ends too early: %s needs %" PRIu64 " bytes at %zu, of %" PRIu64
                 " in all",
                 what, n, cur->pos, cur->file_size);
    hs_error_hint(cur->err, "the file is incomplete; copy or download it again");
    return HS_TRUNCATED;
}

static hs_status bad_hint(struct cursor *cur, hs_status status)
{
    hs_error_hint(cur->err, "the file is damaged or was not written for llama.cpp; fetch it again "
                            "or convert it anew");
    return status;
}

static hs_status take(struct cursor *cur, uint64_t n, const char *what, const uint8_t **ret_data)
{
    if (n > cur->len - cur->pos) {
        return truncated(cur, n, what);
    }
    *ret_data = cur->data + cur->pos;
    cur->pos += (size_t)n;
    return HS_OK;
}

static hs_status take_u32(struct cursor *cur, const char *what, uint32_t *ret_value)
{
    const uint8_t *p = NULL;
    hs_status status = take(cur, 4, what, &p);
    if (status == HS_OK) {
        *ret_value = hs_gguf_le32(p);
    }
    return status;
}

static hs_status take_u64(struct cursor *cur, const char *what, uint64_t *ret_value)
{
    const uint8_t *p = NULL;
    hs_status status = take(cur, 8, what, &p);
    if (status == HS_OK) {
        *ret_value = hs_gguf_le64(p);
    }
    return status;
}

static hs_status take_string(struct cursor *cur, const char *what, uint64_t max,
                             struct hs_gguf_text *ret_text)
{
    uint64_t len = 0;
    const uint8_t *p = NULL;
    hs_status status = take_u64(cur, what, &len);
    if (status == HS_OK && len > max) {
        hs_error_set(cur->err, HS_LIMIT,
                     "%s at %zu is %" PRIu64 " bytes long, more than the limit of %" PRIu64, what,
                     cur->pos - 8, len, max);
        return bad_hint(cur, HS_LIMIT);
    }
    if (status == HS_OK) {
        status = take(cur, len, what, &p);
    }
    if (status == HS_OK) {
        *ret_text = (struct hs_gguf_text){(const char *)p, (size_t)len};
    }
    return status;
}

/* A count whose entries are at least min_bytes each must fit in what the file has left. */
static hs_status check_count(struct cursor *cur, const char *what, uint64_t n, uint64_t max,
                             uint64_t min_bytes)
{
    if (n > max) {
        hs_error_set(cur->err, HS_LIMIT, "%" PRIu64 " %s are more than the limit of %" PRIu64, n,
                     what, max);
        return bad_hint(cur, HS_LIMIT);
    }
    if (n * min_bytes > cur->file_size - cur->pos) {
        hs_error_set(cur->err, HS_TRUNCATED,
                     "the file ends too early: %" PRIu64 " %s cannot lie in the %" PRIu64
                     " bytes from %zu on",
                     n, what, cur->file_size - cur->pos, cur->pos);
        hs_error_hint(cur->err, "the file is incomplete; copy or download it again");
        return HS_TRUNCATED;
    }
    return HS_OK;
}

static hs_status check_name(struct cursor *cur, const char *what, struct hs_gguf_text text)
{
    const char *wrong = NULL;
    if (text.len == 0) {
        wrong = "is empty";
    } else if (memchr(text.data, 0, text.len) != NULL) {
        wrong = "contains a zero byte";
    } else if (!hs_utf8_valid(text.data, text.len)) {
        wrong = "is not UTF-8";
    }
    if (wrong == NULL) {
        return HS_OK;
    }
    hs_error_set(cur->err, HS_BAD_FORMAT, "the %s that ends at %zu %s", what, cur->pos, wrong);
    return bad_hint(cur, HS_BAD_FORMAT);
}

/* How much of a name goes into a message. */
static int shown(size_t len)
{
    return len > 80 ? 80 : (int)len;
}

static hs_status check_bools(struct cursor *cur, const struct hs_gguf_kv *kv)
{
    for (size_t i = 0; i < kv->value_len; i++) {
        if (kv->value[i] > 1) {
            hs_error_set(cur->err, HS_BAD_FORMAT, "key '%.*s' has the truth value %u, not 0 or 1",
                         shown(kv->key_len), kv->key, kv->value[i]);
            return bad_hint(cur, HS_BAD_FORMAT);
        }
    }
    return HS_OK;
}

static hs_status bad_type(struct cursor *cur, const struct hs_gguf_kv *kv, uint32_t type)
{
    hs_error_set(
        cur->err, HS_BAD_FORMAT, "key '%.*s' has %s %" PRIu32, shown(kv->key_len), kv->key,
        type == HS_GGUF_ARRAY ? "an array of arrays as its value, type" : "the unknown type", type);
    return bad_hint(cur, HS_BAD_FORMAT);
}

static hs_status parse_array(struct cursor *cur, struct hs_gguf_kv *kv)
{
    uint32_t item_type = 0;
    uint64_t n = 0;
    hs_status status = take_u32(cur, "an array's item type", &item_type);
    if (status == HS_OK) {
        status = take_u64(cur, "an array's length", &n);
    }
    if (status != HS_OK) {
        return status;
    }
    size_t item_bytes = hs_gguf_type_bytes(item_type);
    if (item_bytes == 0 && item_type != HS_GGUF_STRING) {
        return bad_type(cur, kv, item_type);
    }
    status = check_count(cur, "array items", n, HS_GGUF_MAX_ARRAY_ITEMS,
                         item_type == HS_GGUF_STRING ? 8 : item_bytes);
    if (status != HS_OK) {
        return status;
    }
    kv->item_type = (enum hs_gguf_type)item_type;
    kv->n_items = n;
    kv->value = cur->data + cur->pos;
    if (item_type != HS_GGUF_STRING) {
        status = take(cur, n * item_bytes, "an array", &kv->value);
        kv->value_len = (size_t)(n * item_bytes);
        return status;
    }
    for (uint64_t i = 0; i < n && status == HS_OK; i++) {
        struct hs_gguf_text text;
        status = take_string(cur, "a string", HS_GGUF_MAX_STRING_BYTES, &text);
    }
    kv->value_len = (size_t)(cur->data + cur->pos - kv->value);
    return status;
}

static hs_status parse_value(struct cursor *cur, struct hs_gguf_kv *kv, uint32_t type)
{
    hs_status status;
    struct hs_gguf_text text = {"", 0};
    kv->type = (enum hs_gguf_type)type;
    kv->item_type = kv->type;
    kv->n_items = 1;
    if (type == HS_GGUF_ARRAY) {
        status = parse_array(cur, kv);
    } else if (type == HS_GGUF_STRING) {
        status = take_string(cur, "a string", HS_GGUF_MAX_STRING_BYTES, &text);
        kv->value = (const uint8_t *)text.data;
        kv->value_len = text.len;
    } else {
        kv->value_len = hs_gguf_type_bytes(type);
        if (kv->value_len == 0) {
            return bad_type(cur, kv, type);
        }
        status = take(cur, kv->value_len, "a value", &kv->value);
    }
    if (status == HS_OK && kv->item_type == HS_GGUF_BOOL) {
        status = check_bools(cur, kv);
    }
    return status;
}

static struct hs_gguf_text kv_text(const void *owner, size_t i)
{
    const struct hs_gguf *gguf = owner;
    return (struct hs_gguf_text){gguf->kv[i].key, gguf->kv[i].key_len};
}

static struct hs_gguf_text tensor_text(const void *owner, size_t i)
{
    const struct hs_gguf *gguf = owner;
    return (struct hs_gguf_text){gguf->tensors[i].name, strlen(gguf->tensors[i].name)};
}

const struct hs_gguf_kv *hs_gguf_find(const hs_gguf *gguf, const char *key)
{
    struct hs_gguf_text wanted = {key, strlen(key)};
    size_t i = hs_gguf_index_find(&gguf->kv_index, wanted, kv_text, gguf);
    return i == HS_GGUF_INDEX_NONE ? NULL : &gguf->kv[i];
}

const struct hs_gguf_tensor *hs_gguf_find_tensor(const hs_gguf *gguf, const char *name)
{
    struct hs_gguf_text wanted = {name, strlen(name)};
    size_t i = hs_gguf_index_find(&gguf->tensor_index, wanted, tensor_text, gguf);
    return i == HS_GGUF_INDEX_NONE ? NULL : &gguf->tensors[i];
}

static hs_status duplicate(struct cursor *cur, const char *what, struct hs_gguf_text text)
{
    hs_error_set(cur->err, HS_BAD_FORMAT, "%s '%.*s' occurs twice", what, shown(text.len),
                 text.data);
    return bad_hint(cur, HS_BAD_FORMAT);
}

static hs_status parse_kvs(struct cursor *cur, struct hs_gguf *gguf, size_t n)
{
    gguf->kv = hs_calloc(n, sizeof *gguf->kv);
    if (gguf->kv == NULL || !hs_gguf_index_init(&gguf->kv_index, n)) {
        return hs_error_nomem(cur->err, "the keys of a GGUF file");
    }
    for (size_t i = 0; i < n; i++) {
        struct hs_gguf_kv *kv = &gguf->kv[i];
        struct hs_gguf_text key = {NULL, 0};
        uint32_t type = 0;
        hs_status status = take_string(cur, "a key", HS_GGUF_MAX_KEY_BYTES, &key);
        if (status == HS_OK) {
            status = check_name(cur, "key", key);
        }
        if (status == HS_OK) {
            status = take_u32(cur, "a value's type", &type);
        }
        if (status == HS_OK) {
            kv->key = key.data;
            kv->key_len = key.len;
            status = parse_value(cur, kv, type);
        }
        if (status != HS_OK) {
            return status;
        }
        if (hs_gguf_index_add(&gguf->kv_index, i, kv_text, gguf) != HS_GGUF_INDEX_NONE) {
            return duplicate(cur, "key", key);
        }
        gguf->n_kv++;
    }
    return HS_OK;
}

static hs_status read_alignment(struct cursor *cur, struct hs_gguf *gguf)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, "general.alignment");
    gguf->alignment = HS_GGUF_DEFAULT_ALIGNMENT;
    if (kv == NULL) {
        return HS_OK;
    }
    uint32_t value = kv->type == HS_GGUF_UINT32 ? hs_gguf_le32(kv->value) : 0;
    if (value < 8 || value > HS_GGUF_MAX_ALIGNMENT || (value & (value - 1)) != 0) {
        hs_error_set(cur->err, HS_BAD_FORMAT,
                     "general.alignment (%s, value %" PRIu32
                     ") must be a u32 and a power of two from 8 to %u",
                     hs_gguf_type_name(kv->type), value, HS_GGUF_MAX_ALIGNMENT);
        return bad_hint(cur, HS_BAD_FORMAT);
    }
    gguf->alignment = value;
    return HS_OK;
}

/* Sizes from type and dimensions, every product checked. */
static hs_status measure_tensor(struct cursor *cur, struct hs_gguf_tensor *tensor,
                                uint64_t *ret_n_items)
{
    const struct hs_gguf_tensor_type *type = hs_gguf_tensor_type(tensor->type);
    if (type == NULL) {
        hs_error_set(cur->err, HS_BAD_FORMAT, "tensor '%s' has the unknown type %" PRIu32,
                     tensor->name, tensor->type);
        hs_error_hint(cur->err, "the file was made for a newer llama.cpp, or is damaged");
        return HS_BAD_FORMAT;
    }
    int64_t n = 1;
    for (uint32_t d = 0; d < tensor->n_dims; d++) {
        if (tensor->dims[d] == 0 || tensor->dims[d] > INT64_MAX ||
            __builtin_mul_overflow(n, (int64_t)tensor->dims[d], &n)) {
            hs_error_set(cur->err, HS_BAD_FORMAT,
                         "tensor '%s' has the impossible size %" PRIu64 " in dimension %" PRIu32,
                         tensor->name, tensor->dims[d], d);
            return bad_hint(cur, HS_BAD_FORMAT);
        }
    }
    if (tensor->dims[0] % type->block_size != 0) {
        hs_error_set(cur->err, HS_BAD_FORMAT,
                     "tensor '%s' of type %s has rows of %" PRIu64 ", not a multiple of %" PRIu32,
                     tensor->name, type->name, tensor->dims[0], type->block_size);
        return bad_hint(cur, HS_BAD_FORMAT);
    }
    uint64_t n_blocks = (uint64_t)n / type->block_size;
    if (__builtin_mul_overflow(n_blocks, (uint64_t)type->block_bytes, &tensor->size_bytes)) {
        tensor->size_bytes = UINT64_MAX; /* more than any file has; the range check says so */
    }
    *ret_n_items = (uint64_t)n;
    return HS_OK;
}

static hs_status parse_tensor(struct cursor *cur, struct hs_gguf_tensor *tensor, char *name)
{
    struct hs_gguf_text text = {NULL, 0};
    hs_status status = take_string(cur, "a tensor's name", HS_GGUF_MAX_NAME_BYTES, &text);
    if (status == HS_OK) {
        status = check_name(cur, "tensor name", text);
    }
    if (status != HS_OK) {
        return status;
    }
    memcpy(name, text.data, text.len);
    name[text.len] = '\0';
    tensor->name = name;
    status = take_u32(cur, "a tensor's dimensions", &tensor->n_dims);
    if (status == HS_OK && (tensor->n_dims == 0 || tensor->n_dims > HS_GGUF_MAX_DIMS)) {
        hs_error_set(cur->err, HS_BAD_FORMAT, "tensor '%s' has %" PRIu32 " dimensions, not 1 to %u",
                     name, tensor->n_dims, HS_GGUF_MAX_DIMS);
        return bad_hint(cur, HS_BAD_FORMAT);
    }
    for (uint32_t d = 0; d < HS_GGUF_MAX_DIMS && status == HS_OK; d++) {
        tensor->dims[d] = 1;
        if (d < tensor->n_dims) {
            status = take_u64(cur, "a tensor's dimensions", &tensor->dims[d]);
        }
    }
    if (status == HS_OK) {
        status = take_u32(cur, "a tensor's type", &tensor->type);
    }
    if (status == HS_OK) {
        status = take_u64(cur, "a tensor's offset", &tensor->offset);
    }
    return status;
}

/* ggml accepts only tensors that follow each other without gaps, which also excludes overlap. */
static hs_status place_tensor(struct cursor *cur, struct hs_gguf *gguf,
                              const struct hs_gguf_tensor *tensor, uint64_t *end)
{
    uint64_t align = gguf->alignment;
    uint64_t expected = (*end + align - 1) / align * align;
    if (tensor->offset != expected) {
        hs_error_set(cur->err, HS_BAD_FORMAT,
                     "tensor '%s' has offset %" PRIu64 ", expected %" PRIu64
                     " right behind the one before it",
                     tensor->name, tensor->offset, expected);
        return bad_hint(cur, HS_BAD_FORMAT);
    }
    uint64_t room = cur->file_size > gguf->data_offset ? cur->file_size - gguf->data_offset : 0;
    if (expected > room || tensor->size_bytes > room - expected) {
        hs_error_set(cur->err, HS_TRUNCATED,
                     "the file ends too early: tensor '%s' (%" PRIu64 " bytes at %" PRIu64
                     ") lies beyond the end at %" PRIu64,
                     tensor->name, tensor->size_bytes, gguf->data_offset + expected,
                     cur->file_size);
        hs_error_hint(cur->err, "the file is incomplete; copy or download it again");
        return HS_TRUNCATED;
    }
    *end = expected + tensor->size_bytes;
    return HS_OK;
}

static hs_status parse_tensors(struct cursor *cur, struct hs_gguf *gguf, size_t n)
{
    hs_status status = check_count(cur, "tensors", n, HS_GGUF_MAX_TENSORS, MIN_TENSOR_BYTES);
    if (status != HS_OK) {
        return status;
    }
    size_t name_bytes = HS_GGUF_MAX_NAME_BYTES + 1;
    gguf->tensors = hs_calloc(n, sizeof *gguf->tensors);
    gguf->names = hs_calloc(n, name_bytes);
    if (gguf->tensors == NULL || gguf->names == NULL ||
        !hs_gguf_index_init(&gguf->tensor_index, n)) {
        return hs_error_nomem(cur->err, "the tensor table of a GGUF file");
    }
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        status = parse_tensor(cur, &gguf->tensors[i], gguf->names + i * name_bytes);
        if (status == HS_OK &&
            hs_gguf_index_add(&gguf->tensor_index, i, tensor_text, gguf) != HS_GGUF_INDEX_NONE) {
            status = duplicate(cur, "tensor", tensor_text(gguf, i));
        }
        gguf->n_tensors += status == HS_OK;
    }
    if (status != HS_OK) {
        return status;
    }
    gguf->header_len = cur->pos;
    gguf->data_offset =
        (cur->pos + (uint64_t)gguf->alignment - 1) / gguf->alignment * gguf->alignment;
    uint64_t end = 0;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        uint64_t n_items = 0;
        status = measure_tensor(cur, &gguf->tensors[i], &n_items);
        if (status == HS_OK) {
            status = place_tensor(cur, gguf, &gguf->tensors[i], &end);
        }
        gguf->n_params += n_items;
        gguf->weights_bytes += gguf->tensors[i].size_bytes;
    }
    return status;
}

struct foreign {
    const char *bytes;
    size_t len;
    const char *what, *hint;
};

/* What people take for a GGUF file most often. */
static const struct foreign foreigns[] = {
    {"version https://git-lfs", 23, "a Git LFS pointer",
     "run `git lfs pull` to get the file itself"},
    {"PK\3\4", 4, "a zip archive or PyTorch checkpoint", NULL},
    {"<!DOCTYPE", 9, "a web page", "the download went wrong; fetch the file itself"},
    {"<html", 5, "a web page", "the download went wrong; fetch the file itself"},
    {"lmgg", 4, "an old GGML file", NULL},
    {"fmgg", 4, "an old GGMF file", NULL},
    {"tjgg", 4, "an old GGJT file", NULL},
    {"algg", 4, "an old GGLA adapter", NULL},
};

static const char other_format_hint[] =
    "models are GGUF files; llama.cpp's convert_hf_to_gguf.py makes them";

static hs_status bad_magic(struct cursor *cur)
{
    const char *what = "something else";
    const char *hint = NULL;
    for (size_t i = 0; i < sizeof foreigns / sizeof foreigns[0]; i++) {
        if (cur->len >= foreigns[i].len && !memcmp(cur->data, foreigns[i].bytes, foreigns[i].len)) {
            what = foreigns[i].what;
            hint = foreigns[i].hint;
        }
    }
    if (cur->len > 9 && cur->data[8] == '{') {
        what = "a safetensors file";
    }
    hs_error_set(cur->err, HS_BAD_MAGIC,
                 "not a GGUF file but %s (it begins with %02x %02x %02x %02x)", what, cur->data[0],
                 cur->data[1], cur->data[2], cur->data[3]);
    hs_error_hint(cur->err, "%s", hint ? hint : other_format_hint);
    return HS_BAD_MAGIC;
}

static hs_status check_version(struct cursor *cur, uint32_t version)
{
    uint32_t swapped = __builtin_bswap32(version);
    if (version == 2 || version == 3) {
        return HS_OK;
    }
    if (swapped > 0 && swapped <= 16) {
        hs_error_set(cur->err, HS_UNSUPPORTED_VERSION,
                     "a big-endian GGUF file (version %" PRIu32
                     "); only little-endian ones are read",
                     swapped);
    } else {
        hs_error_set(cur->err, HS_UNSUPPORTED_VERSION,
                     "GGUF version %" PRIu32 "; versions 2 and 3 are read", version);
    }
    hs_error_hint(cur->err, "%s",
                  version == 1 || swapped <= 16
                      ? "convert the model again with a current llama.cpp"
                      : "get the model as GGUF version 3, or update hyprstream");
    return HS_UNSUPPORTED_VERSION;
}

static hs_status parse_magic(struct cursor *cur, struct hs_gguf *gguf)
{
    const uint8_t *p = NULL;
    if (cur->len > 0 && cur->len < 4 && memcmp(cur->data, "GGUF", cur->len) != 0) {
        hs_error_set(cur->err, HS_BAD_MAGIC, "not a GGUF file: only %zu bytes long", cur->len);
        hs_error_hint(cur->err, "%s", other_format_hint);
        return HS_BAD_MAGIC;
    }
    hs_status status = take(cur, 4, "the file's magic", &p);
    if (status == HS_OK && memcmp(p, "FUGG", 4) == 0) {
        hs_error_set(cur->err, HS_UNSUPPORTED_VERSION,
                     "a big-endian GGUF file; only little-endian ones are read");
        hs_error_hint(cur->err, "convert the model again with a current llama.cpp");
        return HS_UNSUPPORTED_VERSION;
    }
    if (status == HS_OK && memcmp(p, "GGUF", 4) != 0) {
        return bad_magic(cur);
    }
    if (status == HS_OK) {
        status = take_u32(cur, "the version", &gguf->version);
    }
    return status == HS_OK ? check_version(cur, gguf->version) : status;
}

void hs_gguf_release(struct hs_gguf *gguf)
{
    hs_gguf_index_free(&gguf->kv_index);
    hs_gguf_index_free(&gguf->tensor_index);
    hs_free(gguf->kv);
    hs_free(gguf->tensors);
    hs_free(gguf->names);
    gguf->kv = NULL;
    gguf->tensors = NULL;
    gguf->names = NULL;
    gguf->n_kv = gguf->n_tensors = 0;
    gguf->n_params = gguf->weights_bytes = 0;
}

hs_status hs_gguf_parse(struct hs_gguf *gguf, uint64_t *ret_want, struct hs_error *err)
{
    struct cursor cur = {gguf->data, gguf->len, gguf->file_size, 0, 0, err};
    uint64_t n_tensors = 0, n_kv = 0;
    hs_status status = parse_magic(&cur, gguf);
    if (status == HS_OK) {
        status = take_u64(&cur, "the tensor count", &n_tensors);
    }
    if (status == HS_OK) {
        status = take_u64(&cur, "the key count", &n_kv);
    }
    if (status == HS_OK) {
        status = check_count(&cur, "tensors", n_tensors, HS_GGUF_MAX_TENSORS, MIN_TENSOR_BYTES);
    }
    if (status == HS_OK) {
        status = check_count(&cur, "keys", n_kv, HS_GGUF_MAX_KV, MIN_KV_BYTES);
    }
    if (status == HS_OK) {
        status = parse_kvs(&cur, gguf, (size_t)n_kv);
    }
    if (status == HS_OK) {
        status = read_alignment(&cur, gguf);
    }
    if (status == HS_OK) {
        status = parse_tensors(&cur, gguf, (size_t)n_tensors);
    }
    if (cur.want > HS_GGUF_MAX_HEADER_BYTES) {
        cur.want = 0;
        status = hs_error_set(err, HS_LIMIT, "the header is longer than the limit of %u bytes",
                              HS_GGUF_MAX_HEADER_BYTES);
        bad_hint(&cur, status);
    }
    *ret_want = cur.want;
    if (status != HS_OK) {
        hs_gguf_release(gguf);
    }
    return status;
}
