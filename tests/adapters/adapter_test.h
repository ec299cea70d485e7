/*
 * adapter_test.h - what the tests of adapter files share: folders as PEFT writes them, made by
 * hand, and headers of base models.
 */
#ifndef ADAPTER_TEST_H
#define ADAPTER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "adapters/adapter_file.h"
#include "base/fs.h"
#include "base/mem.h"
#include "gguf_writer.h"

/* ---- folders ---- */

static inline char *test_folder(char path[256])
{
    snprintf(path, 256, HS_TEST_TMP "/adapter-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void test_folder_remove(const char *path)
{
    assert_int_equal(hs_fs_remove_all(path, NULL), HS_OK);
}

static inline void test_write(const char *folder, const char *name, const void *data, size_t len)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* ---- SafeTensors ---- */

struct test_tensors {
    struct gguf_bytes header, data;
};

/* dtype "F32", "F16" or "BF16"; shape "[8,4]". */
static inline void test_tensor(struct test_tensors *out, const char *name, const char *dtype,
                               const char *shape, const void *data, size_t size)
{
    char entry[1024];
    int len = snprintf(
        entry, sizeof entry, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
        out->header.len == 0 ? "{" : ",", name, dtype, shape, out->data.len, out->data.len + size);
    gguf_bytes_put(&out->header, entry, (size_t)len);
    gguf_bytes_put(&out->data, data, size);
}

/* f32[n_rows, n_cols]. */
static inline void test_f32(struct test_tensors *out, const char *name, int n_rows, int n_cols,
                            const float *values)
{
    char shape[32];
    snprintf(shape, sizeof shape, "[%d,%d]", n_rows, n_cols);
    test_tensor(out, name, "F32", shape, values, sizeof(float) * (size_t)(n_rows * n_cols));
}

/* Padded to 8 bytes plus `skew` spaces, which moves the data away from alignment. */
static inline void test_tensors_write(struct test_tensors *out, const char *folder,
                                      const char *name, size_t skew)
{
    struct gguf_bytes file = {0};
    gguf_bytes_put(&out->header, out->header.len == 0 ? "{}" : "}", out->header.len == 0 ? 2 : 1);
    while (out->header.len % 8 != 0) {
        gguf_bytes_put(&out->header, " ", 1);
    }
    for (size_t i = 0; i < skew; i++) {
        gguf_bytes_put(&out->header, " ", 1);
    }
    gguf_bytes_u64(&file, out->header.len);
    gguf_bytes_put(&file, out->header.data, out->header.len);
    gguf_bytes_put(&file, out->data.data, out->data.len);
    assert_false(file.failed);
    test_write(folder, name, file.data, file.len);
    gguf_bytes_free(&file);
    gguf_bytes_free(&out->header);
    gguf_bytes_free(&out->data);
    memset(out, 0, sizeof *out);
}

/* adapter_config.json; more is put behind the usual keys: ",\"use_rslora\":true". */
static inline void test_config(const char *folder, int rank, const char *more)
{
    char text[2048];
    int len = snprintf(text, sizeof text,
                       "{\"peft_type\":\"LORA\",\"base_model_name_or_path\":\"tiny\",\"r\":%d,"
                       "\"lora_alpha\":16,\"bias\":\"none\"%s%s}",
                       rank,
                       strstr(more, "target_modules") != NULL
                           ? ""
                           : ",\"target_modules\":[\"q_proj\",\"k_proj\",\"v_proj\",\"up_proj\","
                             "\"embed_tokens\",\"lm_head\"]",
                       more);
    test_write(folder, "adapter_config.json", text, (size_t)len);
}

/* ---- base models ---- */

struct test_matrix {
    const char *name;
    uint64_t n_in, n_out;
};

/* The header of a model with these matrices, none of whose data is there. */
static inline hs_lora_base *test_base(const char *architecture, uint32_t n_head, uint32_t n_head_kv,
                                      const struct test_matrix *matrices, size_t n,
                                      const char *fingerprint)
{
    struct gguf_writer writer;
    struct gguf_bytes bytes = {0};
    char key[96];
    uint64_t offset = 0;
    size_t header_len = 0;
    hs_gguf *gguf = NULL;
    hs_lora_base *base = NULL;
    struct hs_error err;
    gguf_writer_init(&writer);
    gguf_writer_str(&writer, "general.architecture", architecture);
    snprintf(key, sizeof key, "%s.attention.head_count", architecture);
    gguf_writer_u32(&writer, key, n_head);
    snprintf(key, sizeof key, "%s.attention.head_count_kv", architecture);
    gguf_writer_u32(&writer, key, n_head_kv);
    for (size_t i = 0; i < n; i++) {
        uint64_t dims[2] = {matrices[i].n_in, matrices[i].n_out};
        gguf_writer_tensor_info(&writer, matrices[i].name, 2, dims, 0, offset);
        offset += (matrices[i].n_in * matrices[i].n_out * 4 + 31) / 32 * 32;
    }
    assert_true(gguf_writer_finish(&writer, &bytes, &header_len));
    hs_status status = hs_gguf_open_memory(bytes.data, bytes.len, header_len + offset, &gguf, &err);
    if (status != HS_OK || hs_lora_base_new(gguf, fingerprint, &base, &err) != HS_OK) {
        fail_msg("no base: %s", err.message);
    }
    hs_gguf_free(gguf);
    gguf_bytes_free(&bytes);
    gguf_writer_free(&writer);
    return base;
}

/* ---- loading ---- */

static inline struct hs_adapter_file *test_load(const char *path, const hs_lora_base *base)
{
    struct hs_adapter_file *file = NULL;
    struct hs_error err = {0};
    if (hs_adapter_file_load(path, base, &file, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return file;
}

static inline void test_refused(const char *path, const hs_lora_base *base, hs_status status,
                                const char *part)
{
    struct hs_adapter_file *file = NULL;
    struct hs_error err = {0};
    hs_status found = hs_adapter_file_load(path, base, &file, &err);
    if (found != status || strstr(err.message, part) == NULL || err.hint[0] == '\0') {
        fail_msg("expected %s '%s', found %s '%s' (%s)", hs_status_name(status), part,
                 hs_status_name(found), err.message, err.hint);
    }
    assert_null(file);
}

static inline const struct hs_lora_target *test_target(const struct hs_lora *lora,
                                                       const char *tensor)
{
    for (int32_t i = 0; i < lora->n_targets; i++) {
        if (strcmp(lora->targets[i].tensor, tensor) == 0) {
            return &lora->targets[i];
        }
    }
    fail_msg("no target %s", tensor);
    return NULL;
}

#endif
