/*
 * session_store_internal.h - the two file formats of a session, apart from the folder they lie in.
 *
 * Everything that reads foreign bytes is here, so that a fuzzer can reach it without a folder.
 * The formats are described in docs/formats.md, "Session files".
 *
 * Owner:   parsed records and states own their memory; hs_session_record_free and
 * hs_session_kv_free release them. Nothing is left allocated after an error. Threads: no state.
 */
#ifndef SESSION_STORE_INTERNAL_H
#define SESSION_STORE_INTERNAL_H

#include "base/buf.h"
#include "storage/session_store.h"

#define HS_SESSION_JSON_VERSION 2 /* 1: without what tools need, which is still written then */
#define HS_SESSION_KV_VERSION 2u  /* 1: without checkpoints, which is still written then */
#define HS_SESSION_KV_CHECKPOINT_BYTES 16u
#define HS_SESSION_KV_HEADER_BYTES 224u
#define HS_SESSION_KV_TAG_BYTES 16u
#define HS_SESSION_KV_MAX_TOKENS (1u << 24) /* the largest context size there is */

/*
 * Parse the text of a session.json.
 * Errors: HS_CORRUPT (what is wrong, and where), HS_UNSUPPORTED_VERSION, HS_LIMIT,
 * HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_session_record_parse(const char *text, size_t len,
                                             struct hs_session_record *ret_record,
                                             struct hs_error *err);
/*
 * Append the text of a session.json to `text`.
 * Errors: HS_INVALID_ARGUMENT (a string that is missing or not UTF-8, a number that is not finite),
 * HS_LIMIT past text->max, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_session_record_format(const struct hs_session_record *record,
                                              struct hs_buf *text, struct hs_error *err);

/* The params object of a session.json; `object` is a jansson value. */
struct json_t;
HS_CHECKED hs_status hs_session_params_parse(struct json_t *object,
                                             struct hs_generate_params **ret_params,
                                             struct hs_error *err);
HS_CHECKED hs_status hs_session_params_format(const struct hs_generate_params *params,
                                              struct json_t **ret_object, struct hs_error *err);

/* Where the bytes of a kv.bin come from: an open file, or memory when fd is -1. */
struct hs_session_kv_source {
    int fd;
    const uint8_t *data;
    uint64_t len;      /* of all of it */
    uint64_t position; /* bytes read so far */
};

/*
 * Read a kv.bin. Every length is checked against the source's before anything is allocated.
 * Errors: HS_CORRUPT, HS_UNSUPPORTED_VERSION, HS_OUT_OF_MEMORY, HS_IO, HS_NOT_SUPPORTED (libcrypto
 * without Poly1305).
 */
HS_CHECKED hs_status hs_session_kv_read(struct hs_session_kv_source *source,
                                        struct hs_session_kv *ret_kv, struct hs_error *err);
/* Write a kv.bin to `fd` from its current position. HS_INVALID_ARGUMENT, HS_IO, HS_NOT_SUPPORTED.
 */
HS_CHECKED hs_status hs_session_kv_write(int fd, const struct hs_session_kv *kv,
                                         struct hs_error *err);
/* The check value that ends a kv.bin, over data[len]. */
HS_CHECKED hs_status hs_session_kv_checksum(const void *data, size_t len,
                                            uint8_t ret_tag[HS_SESSION_KV_TAG_BYTES],
                                            struct hs_error *err);

#endif
