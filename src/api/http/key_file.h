/*
 * key_file.h - the file of API keys, in memory and as text.
 *
 * {"version": 1, "keys": [{"id": "8 hex digits", "name": "laptop", "scopes": ["inference"],
 *  "created": 1767225600000, "last4": "x8Qw", "salt": "32 hex digits", "hash": "64 hex digits"}]}
 * created: Unix time in milliseconds; hash: SHA-256 over the salt's 16 bytes and the key's text.
 *
 * Threads: none.
 */
#ifndef HTTP_KEY_FILE_H
#define HTTP_KEY_FILE_H

#include "api/http_keys.h"

#define HS_KEY_SALT_SIZE 16

struct hs_key_row {
    struct hs_http_key_info info;
    char salt[2 * HS_KEY_SALT_SIZE + 1];
    char hash[65];
};

struct hs_key_table {
    struct hs_key_row *rows;
    size_t n;
};

HS_CHECKED hs_status hs_key_table_parse(const char *text, size_t len, struct hs_key_table *ret,
                                        struct hs_error *err);
/* A missing file is an empty table. */
HS_CHECKED hs_status hs_key_table_read(const char *path, struct hs_key_table *ret,
                                       struct hs_error *err);
HS_CHECKED hs_status hs_key_table_write(const struct hs_key_table *table, const char *path,
                                        struct hs_error *err);
void hs_key_table_free(struct hs_key_table *table);

/* The hash of a key under a salt of 32 hex digits. */
HS_CHECKED hs_status hs_key_hash(const char *salt, const char *key, char ret_hex[65]);
bool hs_key_name_is_valid(const char *name);
/* Whether text is `digits` lower-case hex digits. */
bool hs_key_is_hex(const char *text, size_t digits);

#endif
