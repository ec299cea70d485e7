#include "api/http_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "key_file.h"

#define SECRET_SIZE 32

struct hs_http_keys {
    pthread_rwlock_t lock; /* held for writing while `table` is replaced */
    char *path;            /* NULL: of hs_http_keys_parse */
    struct hs_key_table table;
};

/* ---- the file ---- */

static hs_status random_bytes(void *out, size_t len, struct hs_error *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = getrandom((char *)out + done, len - done, 0);
        if (n < 0 && errno != EINTR) {
            return hs_error_errno(err, errno, "read", "the system's random source");
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return HS_OK;
}

static void hex(char *out, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

/* 43 characters of base64url for 32 bytes. */
static void base64url(char *out, const unsigned char *bytes, size_t n)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = (bits << 8 | bytes[i]) & 0xFFFFu;
        for (n_bits += 8; n_bits >= 6; n_bits -= 6) {
            *out++ = alphabet[bits >> (n_bits - 6) & 63];
        }
    }
    if (n_bits > 0) {
        *out++ = alphabet[bits << (6 - n_bits) & 63];
    }
    *out = '\0';
}

static hs_status make_key(const char *name, unsigned scopes, struct hs_key_row *row,
                          char ret_key[HS_KEY_TEXT_MAX], struct hs_error *err)
{
    unsigned char bytes[4 + HS_KEY_SALT_SIZE + SECRET_SIZE];
    hs_status status = random_bytes(bytes, sizeof bytes, err);
    if (status != HS_OK) {
        return status;
    }
    *row = (struct hs_key_row){.info = {.scopes = scopes, .created_unix_ms = hs_clock_unix_ms()}};
    char secret[48], key[HS_KEY_TEXT_MAX];
    hex(row->info.id, bytes, 4);
    hex(row->salt, bytes + 4, HS_KEY_SALT_SIZE);
    base64url(secret, bytes + 4 + HS_KEY_SALT_SIZE, SECRET_SIZE);
    int len = snprintf(key, sizeof key, "hs-%s-%s", row->info.id, secret);
    memcpy(row->info.last4, key + len - 4, 5);
    memcpy(row->info.name, name, strlen(name) + 1);
    if (hs_key_hash(row->salt, key, row->hash) != HS_OK) {
        return hs_error_nomem(err, "an API key");
    }
    memcpy(ret_key, key, sizeof key);
    return HS_OK;
}

/* An exclusive lock beside the file, which is itself replaced at each change. */
static hs_status lock_file(const char *path, int *ret_fd, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *folder = hs_strdup(path);
    HS_CLEANUP(hs_freep) char *lock = hs_asprintf("%s.lock", path);
    if (folder == NULL || lock == NULL) {
        return hs_error_nomem(err, "the file of API keys");
    }
    char *slash = strrchr(folder, '/');
    if (slash != NULL && slash != folder) {
        *slash = '\0';
        hs_status status = hs_fs_mkdir_p(folder, err);
        if (status != HS_OK) {
            return status;
        }
    }
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return hs_error_errno(err, errno, "open", lock);
    }
    while (flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            hs_status status = hs_error_errno(err, errno, "lock", lock);
            close(fd);
            return status;
        }
    }
    *ret_fd = fd;
    return HS_OK;
}

static hs_status add_key(const char *path, const struct hs_key_row *row, struct hs_error *err)
{
    HS_CLEANUP(hs_key_table_free) struct hs_key_table table = {.n = 0};
    hs_status status = hs_key_table_read(path, &table, err);
    if (status != HS_OK) {
        return status;
    }
    if (table.n >= HS_KEYS_MAX) {
        hs_error_set(err, HS_LIMIT, "there are %zu keys, the most there can be", table.n);
        return hs_error_hint(err, "revoke one with `hyprstream key revoke NAME`");
    }
    for (size_t i = 0; i < table.n; i++) {
        if (strcmp(table.rows[i].info.name, row->info.name) == 0) {
            hs_error_set(err, HS_ALREADY_EXISTS, "there is a key named '%s'", row->info.name);
            return hs_error_hint(err, "choose another name, or revoke that key first");
        }
        if (strcmp(table.rows[i].info.id, row->info.id) == 0) {
            return hs_error_set(err, HS_BUSY, "the key's random id is taken; please try again");
        }
    }
    struct hs_key_row *rows = hs_realloc_array(table.rows, table.n + 1, sizeof *rows);
    if (rows == NULL) {
        return hs_error_nomem(err, "API keys");
    }
    table.rows = rows;
    table.rows[table.n++] = *row;
    return hs_key_table_write(&table, path, err);
}

hs_status hs_http_key_create(const char *path, const char *name, unsigned scopes,
                             char ret_key[HS_KEY_TEXT_MAX], struct hs_http_key_info *ret_info,
                             struct hs_error *err)
{
    if (!hs_key_name_is_valid(name)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a key's name has 1 to %d letters, digits, spaces or . _ @ -",
                            HS_KEY_NAME_MAX);
    }
    if (scopes == 0 || (scopes & ~(HS_KEY_INFERENCE | HS_KEY_ADMIN)) != 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a key needs a scope: inference or admin");
    }
    struct hs_key_row row;
    char key[HS_KEY_TEXT_MAX];
    hs_status status = make_key(name, scopes, &row, key, err);
    HS_CLEANUP(hs_closep) int fd = -1;
    if (status == HS_OK) {
        status = lock_file(path, &fd, err);
    }
    if (status == HS_OK) {
        status = add_key(path, &row, err);
    }
    if (status != HS_OK) {
        return status;
    }
    memcpy(ret_key, key, sizeof key);
    *ret_info = row.info;
    return HS_OK;
}

hs_status hs_http_key_list(const char *path, struct hs_http_key_info **ret_infos, size_t *ret_n,
                           struct hs_error *err)
{
    HS_CLEANUP(hs_key_table_free) struct hs_key_table table = {.n = 0};
    hs_status status = hs_key_table_read(path, &table, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_http_key_info *infos = hs_calloc(table.n + 1, sizeof *infos);
    if (infos == NULL) {
        return hs_error_nomem(err, "API keys");
    }
    for (size_t i = 0; i < table.n; i++) {
        infos[i] = table.rows[i].info;
    }
    *ret_infos = infos;
    *ret_n = table.n;
    return HS_OK;
}

hs_status hs_http_key_revoke(const char *path, const char *name_or_id, struct hs_error *err)
{
    HS_CLEANUP(hs_key_table_free) struct hs_key_table table = {.n = 0};
    HS_CLEANUP(hs_closep) int fd = -1;
    hs_status status = lock_file(path, &fd, err);
    if (status == HS_OK) {
        status = hs_key_table_read(path, &table, err);
    }
    if (status != HS_OK) {
        return status;
    }
    /* A name may look like another key's id: names win. */
    size_t at = table.n;
    for (size_t i = 0; i < table.n; i++) {
        bool is_name = strcmp(table.rows[i].info.name, name_or_id) == 0;
        if (is_name || (at == table.n && strcmp(table.rows[i].info.id, name_or_id) == 0)) {
            at = i;
        }
        if (is_name) {
            break;
        }
    }
    if (at == table.n) {
        hs_error_set(err, HS_NOT_FOUND, "no API key is named '%s'", name_or_id);
        return hs_error_hint(err, "`hyprstream key list` shows the keys");
    }
    memmove(&table.rows[at], &table.rows[at + 1], (table.n - at - 1) * sizeof *table.rows);
    table.n--;
    return hs_key_table_write(&table, path, err);
}

hs_status hs_http_key_scopes_parse(const char *text, unsigned *ret_scopes, struct hs_error *err)
{
    unsigned scopes = 0;
    for (const char *p = text;;) {
        size_t len = strcspn(p, ",");
        if (len == 9 && memcmp(p, "inference", 9) == 0) {
            scopes |= HS_KEY_INFERENCE;
        } else if (len == 5 && memcmp(p, "admin", 5) == 0) {
            scopes |= HS_KEY_ADMIN;
        } else {
            hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' is no list of scopes", text);
            return hs_error_hint(err, "the scopes are inference and admin");
        }
        if (p[len] == '\0') {
            break;
        }
        p += len + 1;
    }
    *ret_scopes = scopes;
    return HS_OK;
}

const char *hs_http_key_scopes_text(unsigned scopes)
{
    static const char *const texts[] = {"", "inference", "admin", "inference,admin"};
    return texts[scopes & 3u];
}

/* ---- in the server ---- */

static hs_status keys_new(const char *path, struct hs_key_table *table, hs_http_keys **ret_keys,
                          struct hs_error *err)
{
    hs_http_keys *keys = hs_calloc(1, sizeof *keys);
    char *copy = path == NULL ? NULL : hs_strdup(path);
    if (keys == NULL || (path != NULL && copy == NULL) ||
        pthread_rwlock_init(&keys->lock, NULL) != 0) {
        hs_free(keys);
        hs_free(copy);
        hs_key_table_free(table);
        return hs_error_nomem(err, "API keys");
    }
    keys->path = copy;
    keys->table = *table;
    *ret_keys = keys;
    return HS_OK;
}

hs_status hs_http_keys_open(const char *path, hs_http_keys **ret_keys, struct hs_error *err)
{
    struct hs_key_table table = {.n = 0};
    hs_status status = hs_key_table_read(path, &table, err);
    return status == HS_OK ? keys_new(path, &table, ret_keys, err) : status;
}

hs_status hs_http_keys_parse(const char *text, size_t len, hs_http_keys **ret_keys,
                             struct hs_error *err)
{
    struct hs_key_table table = {.n = 0};
    hs_status status = hs_key_table_parse(text, len, &table, err);
    return status == HS_OK ? keys_new(NULL, &table, ret_keys, err) : status;
}

hs_status hs_http_keys_reload(hs_http_keys *keys, struct hs_error *err)
{
    struct hs_key_table table = {.n = 0};
    hs_status status = keys->path == NULL ? HS_OK : hs_key_table_read(keys->path, &table, err);
    if (status != HS_OK || keys->path == NULL) {
        return status;
    }
    pthread_rwlock_wrlock(&keys->lock);
    struct hs_key_table old = keys->table;
    keys->table = table;
    pthread_rwlock_unlock(&keys->lock);
    hs_key_table_free(&old);
    return HS_OK;
}

size_t hs_http_keys_count(hs_http_keys *keys)
{
    pthread_rwlock_rdlock(&keys->lock);
    size_t n = keys->table.n;
    pthread_rwlock_unlock(&keys->lock);
    return n;
}

/* Takes as long for any two texts of 64 bytes. */
static bool is_same_hash(const char *a, const char *b)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < 64; i++) {
        difference |= (unsigned char)(a[i] ^ b[i]);
    }
    return difference == 0;
}

bool hs_http_keys_check(hs_http_keys *keys, const char *key, struct hs_http_key_info *ret_info)
{
    static const char no_salt[] = "00000000000000000000000000000000";
    static const char no_hash[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    if (strlen(key) >= HS_KEY_TEXT_MAX || strncmp(key, "hs-", 3) != 0) {
        return false;
    }
    pthread_rwlock_rdlock(&keys->lock);
    const struct hs_key_row *row = NULL;
    for (size_t i = 0; i < keys->table.n && row == NULL; i++) {
        const char *id = keys->table.rows[i].info.id;
        row = strncmp(key + 3, id, 8) == 0 && key[11] == '-' ? &keys->table.rows[i] : NULL;
    }
    /* an unknown id costs the same */
    char hash[65];
    bool is_known = hs_key_hash(row == NULL ? no_salt : row->salt, key, hash) == HS_OK &&
                    is_same_hash(hash, row == NULL ? no_hash : row->hash) && row != NULL;
    if (is_known) {
        *ret_info = row->info;
    }
    pthread_rwlock_unlock(&keys->lock);
    return is_known;
}

void hs_http_keys_free(hs_http_keys *keys)
{
    if (keys == NULL) {
        return;
    }
    pthread_rwlock_destroy(&keys->lock);
    hs_key_table_free(&keys->table);
    hs_free(keys->path);
    hs_free(keys);
}
