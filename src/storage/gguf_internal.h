/*
 * gguf_internal.h - what the parts of the GGUF reader share: the reader's object, the index of its
 * texts and the checks of a model.
 *
 * gguf.c opens files and answers questions, gguf_parse.c reads the header, gguf_index.c finds
 * texts, gguf_types.c is the table of tensor types, gguf_split.c opens the parts of a model,
 * gguf_check*.c judge a model, gguf_fingerprint.c names its weights.
 */
#ifndef GGUF_INTERNAL_H
#define GGUF_INTERNAL_H

#include "storage/gguf.h"

#define HS_GGUF_DEFAULT_ALIGNMENT 32u

/*
 * A set of texts that are known by their number, with expected constant time for each insertion
 * and search whatever the texts are: the hash is seeded at random, so a file cannot prepare
 * collisions.
 */
struct hs_gguf_index {
    uint64_t *slots; /* number + 1 in the low 32 bits, a part of the hash above; 0: empty */
    size_t mask;
    uint64_t seed;
};

struct hs_gguf_text {
    const char *data;
    size_t len;
};
typedef struct hs_gguf_text (*hs_gguf_text_fn)(const void *owner, size_t i);

#define HS_GGUF_INDEX_NONE SIZE_MAX

/* Room for `n` texts; false without memory. */
bool hs_gguf_index_init(struct hs_gguf_index *index, size_t n);
void hs_gguf_index_free(struct hs_gguf_index *index);
/* Add text i; the number of an equal text that is there already, else HS_GGUF_INDEX_NONE. */
size_t hs_gguf_index_add(struct hs_gguf_index *index, size_t i, hs_gguf_text_fn text,
                         const void *owner);
/* Add texts 0..n-1; false at the first that is there already, with the numbers of both. */
bool hs_gguf_index_add_all(struct hs_gguf_index *index, size_t n, hs_gguf_text_fn text,
                           const void *owner, size_t ret_pair[2]);
size_t hs_gguf_index_find(const struct hs_gguf_index *index, struct hs_gguf_text wanted,
                          hs_gguf_text_fn text, const void *owner);

struct hs_gguf {
    const uint8_t *data; /* [len], at least the whole header once open */
    size_t len;
    uint8_t *owned; /* data when it is ours, else NULL */
    uint64_t file_size;
    uint32_t version;
    uint32_t alignment;
    size_t header_len; /* without the padding before the data section */
    uint64_t data_offset;
    struct hs_gguf_kv *kv;
    size_t n_kv;
    struct hs_gguf_tensor *tensors;
    size_t n_tensors;
    char *names; /* of all tensors, each with its NUL */
    struct hs_gguf_index kv_index;
    struct hs_gguf_index tensor_index;
    uint64_t n_params;
    uint64_t weights_bytes;
};

/*
 * Read the header in gguf->data[len].
 * Out:    ret_want: 0, or how many bytes must be in memory to go on, at most the file size; the
 *         status is then HS_TRUNCATED and err says what was expected.
 * On failure everything but data is released, so that it can be called again with more.
 */
HS_CHECKED hs_status hs_gguf_parse(struct hs_gguf *gguf, uint64_t *ret_want, struct hs_error *err);
void hs_gguf_release(struct hs_gguf *gguf);

/* Bytes of one value of this type; 0 for strings, arrays and unknown numbers. */
size_t hs_gguf_type_bytes(uint32_t type);
const char *hs_gguf_type_name(enum hs_gguf_type type); /* "u32", "string" */

uint16_t hs_gguf_le16(const uint8_t *p);
uint32_t hs_gguf_le32(const uint8_t *p);
uint64_t hs_gguf_le64(const uint8_t *p);

/* Walk the strings of an array: *at is an offset into kv->value, 0 at first. */
struct hs_gguf_text hs_gguf_next_string(const struct hs_gguf_kv *kv, size_t *at);

/* The path of part i (from 0), which HS_NOT_FOUND says when `path` is not named like part 0. Free
 * with hs_free. */
HS_CHECKED hs_status hs_gguf_split_path(const char *path, uint32_t i, uint32_t n, char **ret_path,
                                        struct hs_error *err);

/* Parts of hs_gguf_check_model. */
HS_CHECKED hs_status hs_gguf_check_hparams(const hs_gguf *gguf, const char *arch,
                                           struct hs_error *err);
HS_CHECKED hs_status hs_gguf_check_vocab(const hs_gguf *gguf, struct hs_error *err);
HS_CHECKED hs_status hs_gguf_check_tensors(const hs_gguf *gguf, struct hs_error *err);

#endif
