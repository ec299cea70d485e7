#include "storage/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "storage/json_memory.h"

#define LENGTH_BYTES 8u
#define METADATA "__metadata__"

struct hs_safetensors {
    json_t *header; /* owns the names */
    struct hs_safetensors_tensor *tensors;
    size_t n_tensors;
};

static const struct {
    const char *name;
    uint8_t bytes;
} dtypes[] = {
    [HS_SAFETENSORS_BOOL] = {"BOOL", 1},       [HS_SAFETENSORS_U8] = {"U8", 1},
    [HS_SAFETENSORS_I8] = {"I8", 1},           [HS_SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1},
    [HS_SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1}, [HS_SAFETENSORS_I16] = {"I16", 2},
    [HS_SAFETENSORS_U16] = {"U16", 2},         [HS_SAFETENSORS_F16] = {"F16", 2},
    [HS_SAFETENSORS_BF16] = {"BF16", 2},       [HS_SAFETENSORS_I32] = {"I32", 4},
    [HS_SAFETENSORS_U32] = {"U32", 4},         [HS_SAFETENSORS_F32] = {"F32", 4},
    [HS_SAFETENSORS_I64] = {"I64", 8},         [HS_SAFETENSORS_U64] = {"U64", 8},
    [HS_SAFETENSORS_F64] = {"F64", 8},
};
#define N_DTYPES (sizeof dtypes / sizeof dtypes[0])

static const char damaged_hint[] =
    "the file is damaged or incomplete; copy or download it again, or save it anew";

static hs_status hint(struct hs_error *err, hs_status status)
{
    hs_error_hint(err, "%s", damaged_hint);
    return status;
}

static hs_status bad_tensor(struct hs_error *err, const char *name, const char *what)
{
    hs_error_set(err, HS_BAD_FORMAT, "tensor '%.80s' %s", name, what);
    return hint(err, HS_BAD_FORMAT);
}

/* ---- the header ---- */

static hs_status not_safetensors(const uint8_t *data, size_t len, struct hs_error *err)
{
    const char *what = "something else", *next = "PEFT's save_pretrained writes SafeTensors files";
    if (len >= 4 && memcmp(data, "PK\3\4", 4) == 0) {
        what = "a zip archive or PyTorch checkpoint";
        next = "save it anew with safe_serialization=True";
    } else if (len >= 23 && memcmp(data, "version https://git-lfs", 23) == 0) {
        what = "a Git LFS pointer";
        next = "run `git lfs pull` to get the file itself";
    } else if (len >= 5 && (memcmp(data, "<!DOC", 5) == 0 || memcmp(data, "<html", 5) == 0)) {
        what = "a web page";
        next = "the download went wrong; fetch the file itself";
    } else if (len >= 4 && memcmp(data, "GGUF", 4) == 0) {
        what = "a GGUF file";
        next = "give it a name that ends in .gguf";
    }
    hs_error_set(err, HS_BAD_MAGIC, "not a SafeTensors file but %s", what);
    hs_error_hint(err, "%s", next);
    return HS_BAD_MAGIC;
}

/* Out: the length of the JSON text. */
static hs_status check_length(const uint8_t *data, size_t len, uint64_t *ret_length,
                              struct hs_error *err)
{
    if (len <= LENGTH_BYTES) {
        hs_error_set(err, HS_TRUNCATED, "the file ends too early: it has %zu bytes", len);
        return hint(err, HS_TRUNCATED);
    }
    if (data[LENGTH_BYTES] != '{') {
        return not_safetensors(data, len, err);
    }
    uint64_t length = 0;
    for (unsigned i = 0; i < LENGTH_BYTES; i++) {
        length |= (uint64_t)data[i] << (8 * i);
    }
    if (length > HS_SAFETENSORS_MAX_HEADER_BYTES) {
        hs_error_set(err, HS_LIMIT,
                     "the header is %" PRIu64 " bytes long, more than the limit of %u", length,
                     HS_SAFETENSORS_MAX_HEADER_BYTES);
        return hint(err, HS_LIMIT);
    }
    if (length > len - LENGTH_BYTES) {
        hs_error_set(err, HS_TRUNCATED,
                     "the file ends too early: its header has %" PRIu64 " bytes, the file %zu",
                     length, len);
        return hint(err, HS_TRUNCATED);
    }
    *ret_length = length;
    return HS_OK;
}

static hs_status parse_header(const uint8_t *text, size_t len, json_t **ret_header,
                              struct hs_error *err)
{
    json_error_t why;
    json_t *header = hs_json_load((const char *)text, len, JSON_REJECT_DUPLICATES, &why);
    if (hs_json_memory_failed()) {
        return hs_error_nomem(err, "the header of a SafeTensors file");
    }
    if (header == NULL) {
        /* jansson's texts quote the input, which may be cut inside a code point. */
        hs_error_set(err, HS_BAD_FORMAT, "the header is no valid JSON (%s, byte %d)",
                     json_error_code(&why) == json_error_duplicate_key ? "a name occurs twice"
                                                                       : "a syntax error",
                     why.position);
        return hint(err, HS_BAD_FORMAT);
    }
    *ret_header = header;
    return HS_OK;
}

static hs_status check_metadata(json_t *metadata, struct hs_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        return bad_tensor(err, METADATA, "is no object of texts");
    }
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value)) {
            return bad_tensor(err, METADATA, "has a value that is no text");
        }
    }
    return HS_OK;
}

/* ---- tensors ---- */

static bool read_u64(const json_t *value, uint64_t *ret_value)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *ret_value = (uint64_t)json_integer_value(value);
    return true;
}

static hs_status read_dtype(const json_t *value, struct hs_safetensors_tensor *tensor,
                            struct hs_error *err)
{
    const char *name = json_string_value(value);
    for (size_t i = 0; name != NULL && i < N_DTYPES; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            tensor->dtype = (enum hs_safetensors_dtype)i;
            return HS_OK;
        }
    }
    return bad_tensor(err, tensor->name, "has no dtype that this version knows");
}

/* Out: the size that dtype and shape make. */
static hs_status read_shape(const json_t *shape, struct hs_safetensors_tensor *tensor,
                            uint64_t *ret_bytes, struct hs_error *err)
{
    size_t n = json_array_size(shape);
    if (!json_is_array(shape)) {
        return bad_tensor(err, tensor->name, "has no shape");
    }
    if (n > HS_SAFETENSORS_MAX_DIMS) {
        hs_error_set(err, HS_LIMIT, "tensor '%.80s' has %zu dimensions, more than the limit of %u",
                     tensor->name, n, HS_SAFETENSORS_MAX_DIMS);
        return hint(err, HS_LIMIT);
    }
    uint64_t bytes = dtypes[tensor->dtype].bytes;
    tensor->n_dims = (uint32_t)n;
    for (size_t d = 0; d < n; d++) {
        if (!read_u64(json_array_get(shape, d), &tensor->dims[d]) ||
            __builtin_mul_overflow(bytes, tensor->dims[d], &bytes)) {
            return bad_tensor(err, tensor->name, "has an impossible shape");
        }
    }
    *ret_bytes = bytes;
    return HS_OK;
}

static hs_status read_tensor(json_t *value, const uint8_t *data, uint64_t n_data,
                             struct hs_safetensors_tensor *tensor, struct hs_error *err)
{
    const json_t *offsets = json_object_get(value, "data_offsets");
    uint64_t begin = 0, end = 0;
    if (tensor->name[0] == '\0' || strlen(tensor->name) > HS_SAFETENSORS_MAX_NAME_BYTES) {
        hs_error_set(err, HS_LIMIT, "a tensor's name has %zu bytes, not 1 to %u",
                     strlen(tensor->name), HS_SAFETENSORS_MAX_NAME_BYTES);
        return hint(err, HS_LIMIT);
    }
    hs_status status = read_dtype(json_object_get(value, "dtype"), tensor, err);
    if (status == HS_OK) {
        status = read_shape(json_object_get(value, "shape"), tensor, &tensor->size_bytes, err);
    }
    if (status != HS_OK) {
        return status;
    }
    if (json_array_size(offsets) != 2 || !read_u64(json_array_get(offsets, 0), &begin) ||
        !read_u64(json_array_get(offsets, 1), &end) || begin > end) {
        return bad_tensor(err, tensor->name, "has no valid data_offsets");
    }
    if (end - begin != tensor->size_bytes) {
        return bad_tensor(err, tensor->name, "has not the size that its dtype and shape make");
    }
    if (end > n_data) {
        hs_error_set(err, HS_TRUNCATED,
                     "the file ends too early: tensor '%.80s' ends at %" PRIu64 " of %" PRIu64
                     " bytes of data",
                     tensor->name, end, n_data);
        return hint(err, HS_TRUNCATED);
    }
    tensor->data = data + begin;
    return HS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct hs_safetensors_tensor *x = a, *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct hs_safetensors_tensor *)a)->name,
                  ((const struct hs_safetensors_tensor *)b)->name);
}

static hs_status check_places(struct hs_safetensors *reader, const uint8_t *data, uint64_t n_data,
                              struct hs_error *err)
{
    const uint8_t *end = data;
    qsort(reader->tensors, reader->n_tensors, sizeof *reader->tensors, by_place);
    for (size_t i = 0; i < reader->n_tensors; i++) {
        if (reader->tensors[i].data != end) {
            return bad_tensor(err, reader->tensors[i].name,
                              reader->tensors[i].data < end ? "overlaps the one before it"
                                                            : "has a hole before it");
        }
        end += reader->tensors[i].size_bytes;
    }
    uint64_t left = n_data - (uint64_t)(end - data);
    if (left > 0) {
        hs_error_set(err, HS_BAD_FORMAT, "%" PRIu64 " bytes behind the last tensor belong to none",
                     left);
        return hint(err, HS_BAD_FORMAT);
    }
    qsort(reader->tensors, reader->n_tensors, sizeof *reader->tensors, by_name);
    return HS_OK;
}

static hs_status read_tensors(struct hs_safetensors *reader, const uint8_t *data, uint64_t n_data,
                              struct hs_error *err)
{
    size_t n = json_object_size(reader->header);
    const char *name;
    json_t *value;
    if (n > HS_SAFETENSORS_MAX_TENSORS + (json_object_get(reader->header, METADATA) != NULL)) {
        hs_error_set(err, HS_LIMIT, "%zu tensors are more than the limit of %u", n,
                     HS_SAFETENSORS_MAX_TENSORS);
        return hint(err, HS_LIMIT);
    }
    reader->tensors = hs_calloc(n, sizeof *reader->tensors);
    if (reader->tensors == NULL) {
        return hs_error_nomem(err, "the tensors of a SafeTensors file");
    }
    json_object_foreach(reader->header, name, value)
    {
        struct hs_safetensors_tensor *tensor = &reader->tensors[reader->n_tensors];
        bool is_tensor = strcmp(name, METADATA) != 0;
        tensor->name = name;
        hs_status status =
            is_tensor ? read_tensor(value, data, n_data, tensor, err) : check_metadata(value, err);
        if (status != HS_OK) {
            return status;
        }
        reader->n_tensors += is_tensor;
    }
    return check_places(reader, data, n_data, err);
}

hs_status hs_safetensors_open(const void *data, size_t len, hs_safetensors **ret_reader,
                              struct hs_error *err)
{
    const uint8_t *bytes = data;
    uint64_t length = 0;
    hs_status status = check_length(bytes, len, &length, err);
    if (status != HS_OK) {
        return status;
    }
    hs_safetensors *reader = hs_calloc(1, sizeof *reader);
    if (reader == NULL) {
        return hs_error_nomem(err, "a SafeTensors reader");
    }
    status = parse_header(bytes + LENGTH_BYTES, (size_t)length, &reader->header, err);
    if (status == HS_OK) {
        size_t start = LENGTH_BYTES + (size_t)length;
        status = read_tensors(reader, bytes + start, len - start, err);
    }
    if (status != HS_OK) {
        hs_safetensors_free(reader);
        return status;
    }
    *ret_reader = reader;
    return HS_OK;
}

void hs_safetensors_free(hs_safetensors *reader)
{
    if (reader != NULL) {
        json_decref(reader->header);
        hs_free(reader->tensors);
        hs_free(reader);
    }
}

size_t hs_safetensors_n(const hs_safetensors *reader)
{
    return reader->n_tensors;
}

const struct hs_safetensors_tensor *hs_safetensors_at(const hs_safetensors *reader, size_t i)
{
    return i < reader->n_tensors ? &reader->tensors[i] : NULL;
}

const struct hs_safetensors_tensor *hs_safetensors_find(const hs_safetensors *reader,
                                                        const char *name)
{
    struct hs_safetensors_tensor wanted = {.name = name};
    return bsearch(&wanted, reader->tensors, reader->n_tensors, sizeof wanted, by_name);
}

const char *hs_safetensors_metadata(const hs_safetensors *reader, const char *key)
{
    return json_string_value(json_object_get(json_object_get(reader->header, METADATA), key));
}

const char *hs_safetensors_dtype_name(enum hs_safetensors_dtype dtype)
{
    return (size_t)dtype < N_DTYPES ? dtypes[dtype].name : "unknown";
}
