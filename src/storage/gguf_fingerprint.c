/* gguf_fingerprint.c - a quick name for a model's weights; the recipe is in docs/formats.md. */
#include "gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/sha256.h"

#define SAMPLE_BYTES 1024u

static void hash_freep(hs_sha256 **hash)
{
    hs_sha256_free(*hash);
}

static void gguf_freep(hs_gguf **gguf)
{
    hs_gguf_free(*gguf);
}

static hs_status changed(const char *path, struct hs_error *err)
{
    hs_error_set(err, HS_MISMATCH, "'%s' changed while it was read", path);
    hs_error_hint(err, "wait until the file is complete, then try again");
    return HS_MISMATCH;
}

static hs_status read_exactly(int fd, const char *path, uint64_t at, uint8_t *data, size_t len,
                              struct hs_error *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, data + done, len - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) {
            return hs_error_errno(err, errno, "read", path);
        }
        if (n == 0) {
            return changed(path, err);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return HS_OK;
}

static hs_status hash_file(hs_sha256 *hash, const hs_gguf *gguf, const char *path,
                           struct hs_error *err)
{
    struct stat st;
    uint8_t size[8], sample[SAMPLE_BYTES];
    HS_CLEANUP(hs_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        return hs_error_errno(err, errno, "open", path);
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != gguf->file_size) {
        return changed(path, err);
    }
    for (size_t i = 0; i < sizeof size; i++) {
        size[i] = (uint8_t)(gguf->file_size >> (8 * i));
    }
    hs_status status = hs_sha256_update(hash, gguf->data, gguf->header_len);
    if (status == HS_OK) {
        status = hs_sha256_update(hash, size, sizeof size);
    }
    for (size_t i = 0; i < gguf->n_tensors && status == HS_OK; i++) {
        const struct hs_gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t len = tensor->size_bytes < SAMPLE_BYTES ? tensor->size_bytes : SAMPLE_BYTES;
        uint64_t at = gguf->data_offset + tensor->offset + (tensor->size_bytes - len) / 2;
        status = read_exactly(fd, path, at, sample, (size_t)len, err);
        if (status != HS_OK) {
            return status;
        }
        status = hs_sha256_update(hash, sample, (size_t)len);
    }
    return status == HS_OK ? HS_OK : hs_error_set(err, status, "cannot hash '%s'", path);
}

hs_status hs_gguf_fingerprint(const hs_gguf *gguf, const char *path, char ret_hex[65],
                              struct hs_error *err)
{
    HS_CLEANUP(hash_freep) hs_sha256 *hash = NULL;
    uint32_t n = hs_gguf_split_count(gguf);
    hs_status status = hs_sha256_new(&hash, err);
    if (status == HS_OK) {
        status = hash_file(hash, gguf, path, err);
    }
    for (uint32_t i = 1; i < n && status == HS_OK; i++) {
        HS_CLEANUP(gguf_freep) hs_gguf *part = NULL;
        HS_CLEANUP(hs_freep) char *part_path = NULL;
        status = hs_gguf_split_open(path, i, n, &part, err);
        if (status == HS_OK) {
            status = hs_gguf_split_path(path, i, n, &part_path, err);
        }
        if (status == HS_OK) {
            status = hash_file(hash, part, part_path, err);
        }
    }
    if (status != HS_OK) {
        return status;
    }
    status = hs_sha256_final(hash, ret_hex);
    return status == HS_OK ? HS_OK : hs_error_set(err, status, "cannot hash '%s'", path);
}
