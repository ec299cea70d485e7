/*
 * http_keys.h - API keys: made here, kept as hashes in one file, checked for each request.
 *
 * A key is "hs-<id>-<secret>": 8 hex digits that name it, and 32 bytes from the system's random
 * source in base64url. The file (mode 0600) has name, id, scopes, time, salt, SHA-256(salt || key)
 * and the last four characters; the key itself is shown once. A fast hash is right here: a secret
 * of 256 random bits cannot be guessed, slow hashes only protect what people choose.
 *
 * Errors:  HS_INVALID_ARGUMENT, HS_NOT_FOUND, HS_ALREADY_EXISTS, HS_CORRUPT (file), HS_LIMIT
 *          (HS_KEYS_MAX), errors of files, HS_OUT_OF_MEMORY.
 * Threads: hs_http_keys may be used from any number of threads. Functions that take a path lock
 *          the file, so that two programs cannot lose each other's changes.
 */
#ifndef API_HTTP_KEYS_H
#define API_HTTP_KEYS_H

#include "base/buf.h"

#define HS_KEYS_FILE "keys.json" /* in the data folder */
#define HS_KEYS_MAX 1024
#define HS_KEY_NAME_MAX 64 /* bytes */
#define HS_KEY_TEXT_MAX 64 /* bytes of a key with its NUL */

/* Bits of a key's scopes. */
#define HS_KEY_INFERENCE 1u
#define HS_KEY_ADMIN 2u /* has inference, too */

struct hs_http_key_info {
    char id[9];
    char name[HS_KEY_NAME_MAX + 1]; /* [A-Za-z0-9._@ -], unique */
    char last4[5];
    unsigned scopes;
    int64_t created_unix_ms;
};

/* ---- the file ---- */

/* Out: ret_key, to be shown once. Makes the file and its folder when they are not there. */
HS_CHECKED hs_status hs_http_key_create(const char *path, const char *name, unsigned scopes,
                                        char ret_key[HS_KEY_TEXT_MAX],
                                        struct hs_http_key_info *ret_info, struct hs_error *err);
/* In order of creation; ret_infos is freed with hs_free. A missing file has none. */
HS_CHECKED hs_status hs_http_key_list(const char *path, struct hs_http_key_info **ret_infos,
                                      size_t *ret_n, struct hs_error *err);
HS_CHECKED hs_status hs_http_key_revoke(const char *path, const char *name_or_id,
                                        struct hs_error *err);
/* "inference", "admin", both with a comma. */
HS_CHECKED hs_status hs_http_key_scopes_parse(const char *text, unsigned *ret_scopes,
                                              struct hs_error *err);
const char *hs_http_key_scopes_text(unsigned scopes);

/* ---- in the server ---- */

typedef struct hs_http_keys hs_http_keys;

/* A missing file has no keys. */
HS_CHECKED hs_status hs_http_keys_open(const char *path, hs_http_keys **ret_keys,
                                       struct hs_error *err);
/* The file's text[len], for tests. */
HS_CHECKED hs_status hs_http_keys_parse(const char *text, size_t len, hs_http_keys **ret_keys,
                                        struct hs_error *err);
/* Read the file again; on an error the keys stay as they were. */
HS_CHECKED hs_status hs_http_keys_reload(hs_http_keys *keys, struct hs_error *err);
size_t hs_http_keys_count(hs_http_keys *keys);
/* Whether `key` is one of them; in constant time for keys of one id. */
bool hs_http_keys_check(hs_http_keys *keys, const char *key, struct hs_http_key_info *ret_info);
void hs_http_keys_free(hs_http_keys *keys);

#endif
