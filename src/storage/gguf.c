/* gguf.c - opens GGUF files and answers questions about them. */
#include "gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define FIRST_READ_BYTES (1u << 20)

static hs_status open_hint(struct hs_error *err, hs_status status)
{
    if (status == HS_NOT_FOUND) {
        hs_error_hint(err, "check the path; `hyprstream model list` shows the models known");
    } else if (status == HS_PERMISSION_DENIED) {
        hs_error_hint(err, "make the file readable, e.g. with `chmod u+r`");
    }
    return status;
}

static hs_status open_regular(const char *path, int *ret_fd, uint64_t *ret_size,
                              struct hs_error *err)
{
    struct stat st;
    HS_CLEANUP(hs_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return open_hint(err, hs_error_errno(err, errno, "open", path));
    }
    if (fstat(fd, &st) != 0) {
        return hs_error_errno(err, errno, "look at", path);
    }
    if (S_ISDIR(st.st_mode)) {
        hs_error_set(err, HS_IS_DIRECTORY, "'%s' is a folder, not a model file", path);
        hs_error_hint(err, "name the .gguf file inside it (of a split model the first part)");
        return HS_IS_DIRECTORY;
    }
    if (!S_ISREG(st.st_mode)) {
        hs_error_set(err, HS_BAD_FORMAT, "'%s' is not a regular file", path);
        hs_error_hint(err, "copy the model into a file first");
        return HS_BAD_FORMAT;
    }
    *ret_size = (uint64_t)st.st_size;
    *ret_fd = fd;
    fd = -1;
    return HS_OK;
}

/* Extend gguf->owned to `len` bytes of the file; a file that shrank meanwhile is truncated. */
static hs_status read_header(struct hs_gguf *gguf, int fd, const char *path, size_t len,
                             struct hs_error *err)
{
    uint8_t *data = hs_realloc(gguf->owned, len > 0 ? len : 1);
    if (data == NULL) {
        return hs_error_nomem(err, "the header of a GGUF file");
    }
    gguf->owned = data;
    gguf->data = data;
    while (gguf->len < len) {
        ssize_t n = pread(fd, data + gguf->len, len - gguf->len, (off_t)gguf->len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return hs_error_errno(err, errno, "read", path);
        }
        if (n == 0) {
            gguf->file_size = gguf->len;
            return HS_OK;
        }
        gguf->len += (size_t)n;
    }
    return HS_OK;
}

static hs_status read_and_parse(struct hs_gguf *gguf, int fd, const char *path,
                                struct hs_error *err)
{
    size_t len = FIRST_READ_BYTES;
    for (;;) {
        if (len > gguf->file_size) {
            len = (size_t)gguf->file_size;
        }
        hs_status status = read_header(gguf, fd, path, len, err);
        if (status != HS_OK) {
            return status;
        }
        uint64_t want = 0;
        status = hs_gguf_parse(gguf, &want, err);
        if (want == 0 || want <= gguf->len) {
            return status;
        }
        len = want > 2 * gguf->len ? (size_t)want : 2 * gguf->len;
        len = len > HS_GGUF_MAX_HEADER_BYTES ? HS_GGUF_MAX_HEADER_BYTES : len;
    }
}

hs_status hs_gguf_open(const char *path, hs_gguf **ret_gguf, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = -1;
    uint64_t size = 0;
    hs_status status = open_regular(path, &fd, &size, err);
    if (status != HS_OK) {
        return status;
    }
    hs_gguf *gguf = hs_calloc(1, sizeof *gguf);
    if (gguf == NULL) {
        return hs_error_nomem(err, "a GGUF reader");
    }
    gguf->file_size = size;
    status = read_and_parse(gguf, fd, path, err);
    if (status != HS_OK) {
        hs_gguf_free(gguf);
        hs_error_prefix(err, "%s", path);
        return status;
    }
    *ret_gguf = gguf;
    return HS_OK;
}

hs_status hs_gguf_open_memory(const void *data, size_t len, uint64_t file_size, hs_gguf **ret_gguf,
                              struct hs_error *err)
{
    if (file_size < len || file_size > INT64_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a file of %llu bytes cannot have %zu in memory",
                            (unsigned long long)file_size, len);
    }
    hs_gguf *gguf = hs_calloc(1, sizeof *gguf);
    if (gguf == NULL) {
        return hs_error_nomem(err, "a GGUF reader");
    }
    uint64_t want = 0;
    gguf->data = data;
    gguf->len = len > HS_GGUF_MAX_HEADER_BYTES ? HS_GGUF_MAX_HEADER_BYTES : len;
    gguf->file_size = file_size;
    hs_status status = hs_gguf_parse(gguf, &want, err);
    if (status != HS_OK) {
        hs_gguf_free(gguf);
        return status;
    }
    *ret_gguf = gguf;
    return HS_OK;
}

void hs_gguf_free(hs_gguf *gguf)
{
    if (gguf != NULL) {
        hs_gguf_release(gguf);
        hs_free(gguf->owned);
        hs_free(gguf);
    }
}

uint32_t hs_gguf_version(const hs_gguf *gguf)
{
    return gguf->version;
}

uint64_t hs_gguf_file_size(const hs_gguf *gguf)
{
    return gguf->file_size;
}

uint64_t hs_gguf_data_offset(const hs_gguf *gguf)
{
    return gguf->data_offset;
}

uint32_t hs_gguf_alignment(const hs_gguf *gguf)
{
    return gguf->alignment;
}

size_t hs_gguf_n_kv(const hs_gguf *gguf)
{
    return gguf->n_kv;
}

const struct hs_gguf_kv *hs_gguf_kv_at(const hs_gguf *gguf, size_t i)
{
    return i < gguf->n_kv ? &gguf->kv[i] : NULL;
}

size_t hs_gguf_n_tensors(const hs_gguf *gguf)
{
    return gguf->n_tensors;
}

const struct hs_gguf_tensor *hs_gguf_tensor_at(const hs_gguf *gguf, size_t i)
{
    return i < gguf->n_tensors ? &gguf->tensors[i] : NULL;
}

uint64_t hs_gguf_n_params(const hs_gguf *gguf)
{
    return gguf->n_params;
}

uint64_t hs_gguf_weights_bytes(const hs_gguf *gguf)
{
    return gguf->weights_bytes;
}

static bool integer_value(const struct hs_gguf_kv *kv, uint64_t *ret_value)
{
    int64_t value;
    switch (kv->type) {
    case HS_GGUF_UINT8:
        *ret_value = kv->value[0];
        return true;
    case HS_GGUF_UINT16:
        *ret_value = hs_gguf_le16(kv->value);
        return true;
    case HS_GGUF_UINT32:
        *ret_value = hs_gguf_le32(kv->value);
        return true;
    case HS_GGUF_UINT64:
        *ret_value = hs_gguf_le64(kv->value);
        return true;
    case HS_GGUF_INT8:
        value = (int8_t)kv->value[0];
        break;
    case HS_GGUF_INT16:
        value = (int16_t)hs_gguf_le16(kv->value);
        break;
    case HS_GGUF_INT32:
        value = (int32_t)hs_gguf_le32(kv->value);
        break;
    case HS_GGUF_INT64:
        value = (int64_t)hs_gguf_le64(kv->value);
        break;
    default:
        return false;
    }
    if (value >= 0) {
        *ret_value = (uint64_t)value;
    }
    return value >= 0;
}

bool hs_gguf_u64(const hs_gguf *gguf, const char *key, uint64_t *ret_value)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    return kv != NULL && integer_value(kv, ret_value);
}

bool hs_gguf_f64(const hs_gguf *gguf, const char *key, double *ret_value)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    if (kv != NULL && kv->type == HS_GGUF_FLOAT32) {
        uint32_t bits = hs_gguf_le32(kv->value);
        float value;
        memcpy(&value, &bits, sizeof value);
        *ret_value = (double)value;
        return true;
    }
    if (kv != NULL && kv->type == HS_GGUF_FLOAT64) {
        uint64_t bits = hs_gguf_le64(kv->value);
        memcpy(ret_value, &bits, sizeof bits);
        return true;
    }
    return false;
}

char *hs_gguf_strdup(const hs_gguf *gguf, const char *key)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    if (kv == NULL || kv->type != HS_GGUF_STRING) {
        return NULL;
    }
    char *copy = hs_alloc(kv->value_len + 1);
    if (copy != NULL) {
        if (kv->value_len > 0) {
            memcpy(copy, kv->value, kv->value_len);
        }
        copy[kv->value_len] = '\0';
    }
    return copy;
}

bool hs_gguf_arch_u64(const hs_gguf *gguf, const char *suffix, uint64_t *ret_value)
{
    char key[256];
    const struct hs_gguf_kv *arch = hs_gguf_find(gguf, "general.architecture");
    if (arch == NULL || arch->type != HS_GGUF_STRING || arch->value_len > 63) {
        return false;
    }
    int len = snprintf(key, sizeof key, "%.*s.%s", (int)arch->value_len, (const char *)arch->value,
                       suffix);
    return len > 0 && (size_t)len < sizeof key && hs_gguf_u64(gguf, key, ret_value);
}

struct hs_gguf_text hs_gguf_next_string(const struct hs_gguf_kv *kv, size_t *at)
{
    size_t len = (size_t)hs_gguf_le64(kv->value + *at);
    struct hs_gguf_text text = {(const char *)kv->value + *at + 8, len};
    *at += 8 + len;
    return text;
}
