/*
 * gguf_dump FILE - all that our reader sees in a GGUF file, one line each, for comparison with
 * another reader (tests/python/test_gguf_reader.py):
 *
 *   file <version> <alignment> <data offset> <fingerprint>
 *   key <name> <type> <item type> <items> <SHA-256 of the value's bytes>
 *   tensor <name> <type> <type name> <offset> <bytes> <dimensions...>
 *
 * gguf_dump --tiny FILE bigram|history - write a tiny model instead.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "storage/gguf.h"
#include "tiny_gguf.h"

static int dump_key(const struct hs_gguf_kv *kv)
{
    hs_sha256 *hash = NULL;
    char hex[65] = "";
    if (hs_sha256_new(&hash, NULL) != HS_OK ||
        hs_sha256_update(hash, kv->value, kv->value_len) != HS_OK ||
        hs_sha256_final(hash, hex) != HS_OK) {
        return 1;
    }
    hs_sha256_free(hash);
    printf("key %.*s %d %d %" PRIu64 " %s\n", (int)kv->key_len, kv->key, (int)kv->type,
           (int)kv->item_type, kv->n_items, hex);
    return 0;
}

static void dump_tensor(const struct hs_gguf_tensor *tensor)
{
    printf("tensor %s %" PRIu32 " %s %" PRIu64 " %" PRIu64, tensor->name, tensor->type,
           hs_gguf_tensor_type(tensor->type)->name, tensor->offset, tensor->size_bytes);
    for (uint32_t d = 0; d < tensor->n_dims; d++) {
        printf(" %" PRIu64, tensor->dims[d]);
    }
    printf("\n");
}

static int dump(const char *path)
{
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    char fingerprint[65] = "";
    if (hs_gguf_open(path, &gguf, &err) != HS_OK ||
        hs_gguf_fingerprint(gguf, path, fingerprint, &err) != HS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    int failed = 0;
    printf("file %" PRIu32 " %" PRIu32 " %" PRIu64 " %s\n", hs_gguf_version(gguf),
           hs_gguf_alignment(gguf), hs_gguf_data_offset(gguf), fingerprint);
    for (size_t i = 0; i < hs_gguf_n_kv(gguf); i++) {
        failed |= dump_key(hs_gguf_kv_at(gguf, i));
    }
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        dump_tensor(hs_gguf_tensor_at(gguf, i));
    }
    hs_gguf_free(gguf);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--tiny") == 0) {
        struct tiny_gguf_spec spec;
        tiny_gguf_defaults(&spec);
        spec.kind = strcmp(argv[3], "history") == 0 ? TINY_GGUF_HISTORY : TINY_GGUF_BIGRAM;
        spec.chat_template = tiny_gguf_chatml;
        return tiny_gguf_write(&spec, argv[2]) ? 0 : 1;
    }
    return argc == 2 ? dump(argv[1]) : 2;
}
