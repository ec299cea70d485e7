/* The name of a model's weights, computed again here from docs/formats.md; models in parts. */
#include "gguf_test.h"

#define OPENSSL_SUPPRESS_DEPRECATED /* its plain SHA-256 calls */
#include <openssl/sha.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "tiny_gguf.h"

struct folder {
    char path[256];
};

static int make_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof *folder);
    snprintf(folder->path, sizeof folder->path, "%s/gguf-parts-%d", HS_TEST_TMP, (int)getpid());
    *state = folder;
    return mkdir(folder->path, 0700);
}

static const char *const names[] = {"m.gguf", "m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                    "m-00003-of-00003.gguf"};

static int remove_folder(void **state)
{
    struct folder *folder = *state;
    for (size_t i = 0; i < 4; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder->path, names[i]);
        unlink(path);
    }
    int status = rmdir(folder->path);
    free(folder);
    return status;
}

static void write_named(const struct folder *folder, const char *name,
                        const struct gguf_bytes *bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
    fclose(file);
}

static hs_status fingerprint(const struct folder *folder, const char *name, char hex[65],
                             struct hs_error *err)
{
    char path[512];
    hs_gguf *gguf = NULL;
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    hs_status status = hs_gguf_open(path, &gguf, err);
    if (status == HS_OK) {
        status = hs_gguf_fingerprint(gguf, path, hex, err);
    }
    hs_gguf_free(gguf);
    return status;
}

static void to_hex(SHA256_CTX *ctx, char hex[65])
{
    uint8_t digest[32];
    SHA256_Final(digest, ctx);
    for (size_t i = 0; i < 32; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
}

/* Two tensors: "big" of 3000 f32, "small" of 5; data that differs everywhere. */
static void put_two_tensors(struct gguf_writer *w, uint8_t seed)
{
    static uint8_t data[12000];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
    }
    gguf_writer_tensor(w, "big", 1, (uint64_t[]){3000}, 0, data, 12000);
    gguf_writer_tensor(w, "small", 1, (uint64_t[]){5}, 0, data, 20);
}

/* Header without padding, size of the file, 1 KiB from the middle of big, all of small. */
static void hash_two_tensors(SHA256_CTX *ctx, const struct gguf_writer *w,
                             const struct gguf_bytes *bytes, size_t data_at)
{
    uint8_t size[8];
    for (size_t i = 0; i < 8; i++) {
        size[i] = (uint8_t)((uint64_t)bytes->len >> (8 * i));
    }
    SHA256_Update(ctx, bytes->data, 24 + w->kv.len + w->infos.len);
    SHA256_Update(ctx, size, 8);
    SHA256_Update(ctx, bytes->data + data_at + (12000 - 1024) / 2, 1024);
    SHA256_Update(ctx, bytes->data + data_at + 12000, 20);
}

static void it_is_what_the_recipe_says(void **state)
{
    struct gguf_writer w;
    struct gguf_bytes bytes;
    struct hs_error err = {0};
    size_t data_at = 0;
    char expected[65], hex[65] = "";
    SHA256_CTX ctx;
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.name", "two");
    put_two_tensors(&w, 1);
    assert_true(gguf_writer_finish(&w, &bytes, &data_at));
    SHA256_Init(&ctx);
    hash_two_tensors(&ctx, &w, &bytes, data_at);
    to_hex(&ctx, expected);
    write_named(*state, names[0], &bytes);
    assert_int_equal(fingerprint(*state, names[0], hex, &err), HS_OK);
    assert_string_equal(hex, expected);
    gguf_writer_free(&w);
    gguf_bytes_free(&bytes);
}

static void it_tells_models_apart(void **state)
{
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    struct hs_error err = {0};
    char hex[4][65];
    tiny_gguf_defaults(&spec);
    for (size_t i = 0; i < 4; i++) {
        spec.kind = i == 1 ? TINY_GGUF_HISTORY : TINY_GGUF_BIGRAM;
        spec.name = i == 2 ? "other name" : "tiny";
        assert_true(tiny_gguf_build(&spec, &bytes, NULL));
        write_named(*state, names[0], &bytes);
        assert_int_equal(fingerprint(*state, names[0], hex[i], &err), HS_OK);
        gguf_bytes_free(&bytes);
    }
    assert_string_equal(hex[0], hex[3]);
    assert_string_not_equal(hex[0], hex[1]);
    assert_string_not_equal(hex[0], hex[2]);
    assert_string_not_equal(hex[1], hex[2]);
}

static void a_changed_file_is_noticed(void **state)
{
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    struct hs_error err = {0};
    char path[512], hex[65] = "untouched";
    hs_gguf *gguf = NULL;
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    write_named(*state, names[0], &bytes);
    snprintf(path, sizeof path, "%s/%s", ((struct folder *)*state)->path, names[0]);
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_OK);
    assert_int_equal(truncate(path, (off_t)bytes.len - 4), 0);
    assert_int_equal(hs_gguf_fingerprint(gguf, path, hex, &err), HS_MISMATCH);
    assert_non_null(strstr(err.message, path));
    unlink(path);
    assert_int_equal(hs_gguf_fingerprint(gguf, path, hex, &err), HS_NOT_FOUND);
    assert_string_equal(hex, "untouched");
    hs_gguf_free(gguf);
    gguf_bytes_free(&bytes);
}

/* ---- parts ---- */

static void put_u16(struct gguf_writer *w, const char *key, uint16_t value)
{
    gguf_writer_key(w, key, GGUF_W_U16);
    gguf_bytes_u16(&w->kv, value);
}

static void put_split(struct gguf_writer *w, uint16_t no, uint16_t count, uint32_t n_tensors)
{
    put_u16(w, "split.no", no);
    put_u16(w, "split.count", count);
    gguf_writer_key(w, "split.tensors.count", GGUF_W_I32);
    gguf_bytes_u32(&w->kv, n_tensors);
}

struct first_part {
    uint16_t no, count;
    uint32_t n_tensors;
};

static void extra_split(struct gguf_writer *w, void *user)
{
    const struct first_part *part = user;
    put_split(w, part->no, part->count, part->n_tensors);
}

static void write_first(const struct folder *folder, struct first_part part)
{
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    tiny_gguf_defaults(&spec);
    spec.extra = extra_split;
    spec.extra_user = &part;
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    write_named(folder, names[1], &bytes);
    gguf_bytes_free(&bytes);
}

static void write_part(const struct folder *folder, size_t i, uint16_t no, uint16_t count,
                       uint8_t seed)
{
    struct gguf_writer w;
    struct gguf_bytes bytes;
    gguf_writer_init(&w);
    put_split(&w, no, count, 16);
    put_two_tensors(&w, seed);
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    write_named(folder, names[i + 1], &bytes);
    gguf_writer_free(&w);
    gguf_bytes_free(&bytes);
}

static void judge(const struct folder *folder, const char *name, hs_status expected,
                  const char *text)
{
    char path[512];
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    assert_int_equal(hs_gguf_open(path, &gguf, &err), HS_OK);
    hs_status status = hs_gguf_check_model(gguf, path, &err);
    hs_gguf_free(gguf);
    if (status != expected || (expected != HS_OK && strstr(err.message, text) == NULL)) {
        fail_msg("%s: '%s' instead of '%s'", hs_status_name(status), err.message, text);
    }
    assert_true(status == HS_OK || strlen(err.hint) > 8);
}

static void parts_must_fit(void **state)
{
    const struct folder *folder = *state;
    const struct first_part right = {0, 3, 16}; /* twelve tensors and twice two */
    write_first(folder, right);
    judge(folder, names[1], HS_NOT_FOUND, "part 2 of 3 is missing");
    write_part(folder, 1, 1, 3, 1);
    judge(folder, names[1], HS_NOT_FOUND, "part 3 of 3 is missing");
    write_part(folder, 2, 2, 3, 2);
    judge(folder, names[1], HS_OK, "");
    judge(folder, names[2], HS_UNSUPPORTED_MODEL, "part 2 of a split model");
    write_part(folder, 2, 1, 3, 2);
    judge(folder, names[1], HS_BAD_FORMAT, "does not say that it is part 3 of 3");
    write_part(folder, 2, 2, 4, 2);
    judge(folder, names[1], HS_BAD_FORMAT, "does not say that it is part 3 of 3");
    write_part(folder, 2, 2, 3, 2);
    write_first(folder, (struct first_part){0, 3, 15});
    judge(folder, names[1], HS_BAD_FORMAT, "hold 16 tensors, not the 15");
    char from[512], to[512];
    write_first(folder, right);
    snprintf(from, sizeof from, "%s/%s", folder->path, names[1]);
    snprintf(to, sizeof to, "%s/%s", folder->path, names[0]);
    assert_int_equal(rename(from, to), 0);
    judge(folder, names[0], HS_NOT_FOUND, "does not end in '-00001-of-00003.gguf'");
}

static void a_fingerprint_covers_all_parts(void **state)
{
    const struct folder *folder = *state;
    struct hs_error err = {0};
    char first[65], second[65], again[65];
    write_first(folder, (struct first_part){0, 3, 16});
    write_part(folder, 1, 1, 3, 1);
    write_part(folder, 2, 2, 3, 2);
    assert_int_equal(fingerprint(folder, names[1], first, &err), HS_OK);
    write_part(folder, 2, 2, 3, 3);
    assert_int_equal(fingerprint(folder, names[1], second, &err), HS_OK);
    assert_string_not_equal(first, second);
    write_part(folder, 2, 2, 3, 2);
    assert_int_equal(fingerprint(folder, names[1], again, &err), HS_OK);
    assert_string_equal(first, again);
    for (uint64_t n = 1;; n++) {
        hs_mem_fail_after(n);
        hs_status status = fingerprint(folder, names[1], again, &err);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            assert_string_equal(first, again);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_what_the_recipe_says, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(it_tells_models_apart, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_changed_file_is_noticed, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(parts_must_fit, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_fingerprint_covers_all_parts, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
