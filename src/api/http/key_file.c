#include "key_file.h"

#include <jansson.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sha256.h"

#define FILE_MAX (1u << 20)
#define FILE_VERSION 1

bool hs_key_is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

bool hs_key_name_is_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._@ -";
    size_t len = strlen(name);
    return len > 0 && len <= HS_KEY_NAME_MAX && strspn(name, allowed) == len && name[0] != ' ' &&
           name[len - 1] != ' ';
}

hs_status hs_key_hash(const char *salt, const char *key, char ret_hex[65])
{
    unsigned char bytes[HS_KEY_SALT_SIZE];
    for (size_t i = 0; i < sizeof bytes; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *high = strchr(digits, salt[2 * i]), *low = strchr(digits, salt[2 * i + 1]);
        bytes[i] = (unsigned char)((high - digits) * 16 + (low - digits));
    }
    hs_sha256 *hash = NULL;
    hs_status status = hs_sha256_new(&hash, NULL);
    if (status == HS_OK) {
        status = hs_sha256_update(hash, bytes, sizeof bytes);
    }
    if (status == HS_OK) {
        status = hs_sha256_update(hash, key, strlen(key));
    }
    if (status == HS_OK) {
        status = hs_sha256_final(hash, ret_hex);
    }
    hs_sha256_free(hash);
    return status;
}

/* Copies the text of a member; false: it is missing, no text, or longer than size - 1. */
static bool get_text(const json_t *row, const char *name, char *ret, size_t size)
{
    const char *text = json_string_value(json_object_get(row, name));
    if (text == NULL || strlen(text) >= size) {
        return false;
    }
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

static bool get_scopes(const json_t *row, unsigned *ret_scopes)
{
    const json_t *list = json_object_get(row, "scopes"), *item;
    size_t i;
    unsigned scopes = 0;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(item);
        unsigned scope = 0;
        if (name == NULL || strchr(name, ',') != NULL ||
            hs_http_key_scopes_parse(name, &scope, NULL) != HS_OK) {
            return false;
        }
        scopes |= scope;
    }
    *ret_scopes = scopes;
    return scopes != 0;
}

static bool parse_row(const json_t *json, struct hs_key_row *row)
{
    const json_t *created = json_object_get(json, "created");
    bool is_whole = get_text(json, "id", row->info.id, sizeof row->info.id) &&
                    get_text(json, "name", row->info.name, sizeof row->info.name) &&
                    get_text(json, "last4", row->info.last4, sizeof row->info.last4) &&
                    get_text(json, "salt", row->salt, sizeof row->salt) &&
                    get_text(json, "hash", row->hash, sizeof row->hash) &&
                    get_scopes(json, &row->info.scopes) && json_is_integer(created);
    row->info.created_unix_ms = json_integer_value(created);
    return is_whole && hs_key_name_is_valid(row->info.name) && hs_key_is_hex(row->info.id, 8) &&
           hs_key_is_hex(row->salt, 2 * HS_KEY_SALT_SIZE) && hs_key_is_hex(row->hash, 64);
}

static bool is_taken(const struct hs_key_table *table, const struct hs_key_row *row)
{
    for (size_t i = 0; i < table->n; i++) {
        if (strcmp(table->rows[i].info.id, row->info.id) == 0 ||
            strcmp(table->rows[i].info.name, row->info.name) == 0) {
            return true;
        }
    }
    return false;
}

static hs_status fill_table(const json_t *list, struct hs_key_table *table, struct hs_error *err)
{
    size_t n = json_array_size(list);
    if (n > HS_KEYS_MAX) {
        return hs_error_set(err, HS_LIMIT, "%zu keys; at most %d are allowed", n, HS_KEYS_MAX);
    }
    table->rows = hs_calloc(n + 1, sizeof *table->rows);
    if (table->rows == NULL) {
        return hs_error_nomem(err, "API keys");
    }
    for (size_t i = 0; i < n; i++) {
        struct hs_key_row *row = &table->rows[i];
        if (!parse_row(json_array_get(list, i), row) || is_taken(table, row)) {
            return hs_error_set(err, HS_CORRUPT, "key %zu is damaged, or there twice", i + 1);
        }
        table->n++;
    }
    return HS_OK;
}

hs_status hs_key_table_parse(const char *text, size_t len, struct hs_key_table *ret,
                             struct hs_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    const json_t *version = json_object_get(root, "version"), *list = json_object_get(root, "keys");
    struct hs_key_table table = {.n = 0};
    hs_status status;
    if (root == NULL) {
        status = hs_error_set(err, HS_CORRUPT, "no JSON: line %d, column %d", why.line, why.column);
    } else if (!json_is_integer(version) || !json_is_array(list)) {
        status = hs_error_set(err, HS_CORRUPT, "it has no \"version\" or no \"keys\"");
    } else if (json_integer_value(version) != FILE_VERSION) {
        status = hs_error_set(err, HS_UNSUPPORTED_VERSION,
                              "it is of version %lld; this program reads %d",
                              (long long)json_integer_value(version), FILE_VERSION);
    } else {
        status = fill_table(list, &table, err);
    }
    json_decref(root);
    if (status != HS_OK) {
        hs_key_table_free(&table);
        return status;
    }
    *ret = table;
    return HS_OK;
}

hs_status hs_key_table_read(const char *path, struct hs_key_table *ret, struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(FILE_MAX);
    hs_status status = hs_fs_read(path, &text, err);
    if (status == HS_NOT_FOUND) {
        hs_error_clear(err);
        *ret = (struct hs_key_table){.n = 0};
        return HS_OK;
    }
    if (status != HS_OK) {
        return status;
    }
    status = hs_key_table_parse(text.data == NULL ? "" : text.data, text.len, ret, err);
    if (status != HS_OK) {
        hs_error_prefix(err, "the file of API keys '%s'", path);
        hs_error_hint(err, "restore it from a backup, or delete it and make new keys");
    }
    return status;
}

static json_t *row_json(const struct hs_key_row *row)
{
    bool has_both = row->info.scopes == (HS_KEY_INFERENCE | HS_KEY_ADMIN);
    json_t *scopes = has_both ? json_pack("[s, s]", "inference", "admin")
                              : json_pack("[s]", hs_http_key_scopes_text(row->info.scopes));
    return json_pack("{s:s, s:s, s:o, s:I, s:s, s:s, s:s}", "id", row->info.id, "name",
                     row->info.name, "scopes", scopes, "created",
                     (json_int_t)row->info.created_unix_ms, "last4", row->info.last4, "salt",
                     row->salt, "hash", row->hash);
}

hs_status hs_key_table_write(const struct hs_key_table *table, const char *path,
                             struct hs_error *err)
{
    json_t *list = json_array();
    bool is_whole = list != NULL;
    for (size_t i = 0; is_whole && i < table->n; i++) {
        is_whole = json_array_append_new(list, row_json(&table->rows[i])) == 0;
    }
    json_t *root = json_pack("{s:i, s:o}", "version", FILE_VERSION, "keys", list);
    char *text = is_whole && root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    hs_status status = text == NULL ? hs_error_nomem(err, "the file of API keys")
                                    : hs_fs_write_atomic(path, text, strlen(text), 0600, err);
    json_decref(root);
    free(text);
    return status;
}

void hs_key_table_free(struct hs_key_table *table)
{
    hs_free(table->rows);
    *table = (struct hs_key_table){.n = 0};
}
