/* sha256.c - SHA-256 through libcrypto's EVP interface. */
#include "base/sha256.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

#define DIGEST_SIZE 32u
#define CHUNK_SIZE (256u << 10)

struct hs_sha256 {
    EVP_MD_CTX *ctx;
    bool is_final;
};

hs_status hs_sha256_new(hs_sha256 **ret_hash, struct hs_error *err)
{
    hs_sha256 *hash = hs_calloc(1, sizeof *hash);
    if (hash == NULL) {
        return hs_error_nomem(err, "a SHA-256 hash");
    }
    hash->ctx = EVP_MD_CTX_new();
    if (hash->ctx == NULL) {
        hs_sha256_free(hash);
        return hs_error_nomem(err, "a SHA-256 hash");
    }
    if (EVP_DigestInit_ex(hash->ctx, EVP_sha256(), NULL) != 1) {
        hs_sha256_free(hash);
        return hs_error_set(err, HS_INTERNAL, "libcrypto refuses to compute SHA-256");
    }
    *ret_hash = hash;
    return HS_OK;
}

hs_status hs_sha256_update(hs_sha256 *hash, const void *data, size_t len)
{
    if (hash->is_final) {
        return HS_INVALID_ARGUMENT;
    }
    return EVP_DigestUpdate(hash->ctx, data, len) == 1 ? HS_OK : HS_INTERNAL;
}

hs_status hs_sha256_final(hs_sha256 *hash, char ret_hex[65])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (hash->is_final) {
        return HS_INVALID_ARGUMENT;
    }
    hash->is_final = true;
    if (EVP_DigestFinal_ex(hash->ctx, digest, NULL) != 1) {
        return HS_INTERNAL;
    }
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[2 * DIGEST_SIZE] = '\0';
    return HS_OK;
}

void hs_sha256_free(hs_sha256 *hash)
{
    if (hash != NULL) {
        EVP_MD_CTX_free(hash->ctx);
        hs_free(hash);
    }
}

static void hash_freep(hs_sha256 **hash)
{
    hs_sha256_free(*hash);
}

static bool report(hs_progress_fn progress, void *user, uint64_t done, uint64_t size)
{
    if (progress == NULL) {
        return true;
    }
    return progress(done >= size ? 1.0f : (float)((double)done / (double)size), user);
}

/* Hash the rest of fd, whose size was `size` when it was opened. */
static hs_status hash_fd(hs_sha256 *hash, int fd, uint64_t size, const char *path,
                         hs_progress_fn progress, void *user, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) unsigned char *chunk = hs_alloc(CHUNK_SIZE);
    if (chunk == NULL) {
        return hs_error_nomem(err, "a buffer for hashing");
    }
    uint64_t done = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK_SIZE);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return hs_error_errno(err, errno, "read", path);
        }
        if (n == 0) {
            return HS_OK;
        }
        hs_status status = hs_sha256_update(hash, chunk, (size_t)n);
        if (status != HS_OK) {
            return hs_error_set(err, status, "cannot compute the SHA-256 of '%s'", path);
        }
        done += (uint64_t)n;
        if (!report(progress, user, done, size)) {
            return hs_error_set(err, HS_CANCELLED, "the check of '%s' was cancelled", path);
        }
    }
}

hs_status hs_sha256_text(const char *text, char ret_hex[65], struct hs_error *err)
{
    hs_sha256 *hash = NULL;
    hs_status status = hs_sha256_new(&hash, err);
    if (status == HS_OK) {
        status = hs_sha256_update(hash, text, strlen(text));
    }
    if (status == HS_OK) {
        status = hs_sha256_final(hash, ret_hex);
    }
    hs_sha256_free(hash);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "hash");
}

hs_status hs_sha256_file(const char *path, hs_progress_fn progress, void *user, char ret_hex[65],
                         struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = -1;
    struct stat info;
    HS_CLEANUP(hash_freep) hs_sha256 *hash = NULL;
    hs_status status = hs_fs_open(path, &fd, &info, err);
    if (status == HS_OK) {
        status = hs_sha256_new(&hash, err);
    }
    if (status == HS_OK) {
        status = hash_fd(hash, fd, (uint64_t)info.st_size, path, progress, user, err);
    }
    if (status != HS_OK) {
        return status;
    }
    status = hs_sha256_final(hash, ret_hex);
    if (status != HS_OK) {
        return hs_error_set(err, status, "cannot compute the SHA-256 of '%s'", path);
    }
    return HS_OK;
}
