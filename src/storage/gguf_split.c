/* gguf_split.c - models in several files: "<name>-00001-of-00003.gguf" and so on, named by part. */
#include "gguf_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define SUFFIX_MAX 40u

/* 0: not a u16, which is the only type that llama.cpp takes. */
static uint32_t split_u16(const hs_gguf *gguf, const char *key, uint32_t missing)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    if (kv == NULL || kv->type != HS_GGUF_UINT16) {
        return missing;
    }
    return hs_gguf_le16(kv->value);
}

uint32_t hs_gguf_split_count(const hs_gguf *gguf)
{
    uint32_t n = split_u16(gguf, "split.count", 1);
    return n == 0 ? 1 : n;
}

hs_status hs_gguf_split_path(const char *path, uint32_t i, uint32_t n, char **ret_path,
                             struct hs_error *err)
{
    char first[SUFFIX_MAX];
    size_t len = strlen(path);
    size_t suffix_len = (size_t)snprintf(first, sizeof first, "-%05d-of-%05u.gguf", 1, n);
    if (len <= suffix_len || strcmp(path + len - suffix_len, first) != 0) {
        hs_error_set(err, HS_NOT_FOUND,
                     "'%s' is the first of %u parts, but its name does not end in '%s'", path, n,
                     first);
        hs_error_hint(err, "give all parts their original names and put them into one folder");
        return HS_NOT_FOUND;
    }
    *ret_path = hs_asprintf("%.*s-%05u-of-%05u.gguf", (int)(len - suffix_len), path, i + 1, n);
    return *ret_path == NULL ? hs_error_nomem(err, "the name of a model's part") : HS_OK;
}

hs_status hs_gguf_split_open(const char *path, uint32_t i, uint32_t n, hs_gguf **ret_gguf,
                             struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *part_path = NULL;
    hs_gguf *part = NULL;
    hs_status status = hs_gguf_split_path(path, i, n, &part_path, err);
    if (status == HS_OK) {
        status = hs_gguf_open(part_path, &part, err);
        if (status == HS_NOT_FOUND) {
            hs_error_set(err, HS_NOT_FOUND, "part %u of %u is missing: '%s'", i + 1, n, part_path);
            hs_error_hint(err, "put all %u parts of the model into one folder", n);
        }
    }
    if (status != HS_OK) {
        return status;
    }
    uint32_t no = split_u16(part, "split.no", UINT32_MAX);
    if (no != i || hs_gguf_split_count(part) != n) {
        hs_gguf_free(part);
        hs_error_set(err, HS_BAD_FORMAT, "'%s' does not say that it is part %u of %u", part_path,
                     i + 1, n);
        hs_error_hint(err, "fetch all parts of the model again, from one place");
        return HS_BAD_FORMAT;
    }
    *ret_gguf = part;
    return HS_OK;
}
