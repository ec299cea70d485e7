/* Tests of base/sha256.h: NIST's examples for FIPS 180-4, and sha256sum(1). */
#include "base_test.h"

#include <sys/stat.h>

#include "base/sha256.h"

static void check_text(const char *text, size_t repeat, size_t piece, const char *wanted)
{
    hs_sha256 *hash = NULL;
    char hex[65];
    size_t len = strlen(text);
    assert_int_equal(hs_sha256_new(&hash, NULL), HS_OK);
    for (size_t i = 0; i < repeat; i++) {
        for (size_t at = 0; at < len; at += piece) {
            size_t n = len - at < piece ? len - at : piece;
            assert_int_equal(hs_sha256_update(hash, text + at, n), HS_OK);
        }
    }
    assert_int_equal(hs_sha256_final(hash, hex), HS_OK);
    assert_string_equal(hex, wanted);
    hs_sha256_free(hash);
}

static void test_nist_examples(void **state)
{
    (void)state;
    static const char b448[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const char b896[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                               "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    static const char *const thousand = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    check_text("", 1, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (size_t piece = 1; piece < 70; piece++) {
        check_text("abc", 1, piece,
                   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        check_text(b448, 1, piece,
                   "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        check_text(b896, 1, piece,
                   "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    }
    char hex[65];
    assert_int_equal(hs_sha256_text("abc", hex, NULL), HS_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_text(thousand, 1000000 / strlen(thousand), 50,
               "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_final_ends_it(void **state)
{
    (void)state;
    hs_sha256 *hash = NULL;
    char hex[65], again[65] = "untouched";
    assert_int_equal(hs_sha256_new(&hash, NULL), HS_OK);
    assert_int_equal(hs_sha256_final(hash, hex), HS_OK);
    assert_int_equal(hs_sha256_update(hash, "a", 1), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_sha256_final(hash, again), HS_INVALID_ARGUMENT);
    assert_string_equal(again, "untouched");
    hs_sha256_free(hash);
    hs_sha256_free(NULL);
}

static void write_pattern(const char *path, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++) {
        fputc((int)(i * 7 + i / 251) & 0xFF, file);
    }
    assert_int_equal(fclose(file), 0);
}

static void sha256sum(const char *path, char ret_hex[65])
{
    char command[600];
    snprintf(command, sizeof command, "sha256sum < '%s'", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%64s", ret_hex), 1);
    assert_int_equal(pclose(pipe), 0);
}

static void test_files_like_sha256sum(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 262143, 262144, 262145, 1000000};
    char path[512];
    snprintf(path, sizeof path, "%s/file", (char *)*state);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char wanted[65], got[65];
        write_pattern(path, sizes[i]);
        sha256sum(path, wanted);
        assert_int_equal(hs_sha256_file(path, NULL, NULL, got, NULL), HS_OK);
        assert_string_equal(got, wanted);
    }
}

struct progress {
    int n_calls, stop_at;
    float last;
};

static bool on_progress(float fraction, void *user)
{
    struct progress *progress = user;
    assert_true(fraction >= progress->last && fraction <= 1.0f);
    progress->last = fraction;
    progress->n_calls++;
    return progress->n_calls != progress->stop_at;
}

static void test_progress(void **state)
{
    char path[512], hex[65] = "untouched";
    struct hs_error err;
    snprintf(path, sizeof path, "%s/file", (char *)*state);
    write_pattern(path, 1000000);
    struct progress all = {.stop_at = -1};
    assert_int_equal(hs_sha256_file(path, on_progress, &all, hex, NULL), HS_OK);
    assert_true(all.n_calls >= 2 && all.last == 1.0f);
    for (int stop = 1; stop <= all.n_calls; stop++) {
        struct progress some = {.stop_at = stop};
        char none[65] = "untouched";
        assert_int_equal(hs_sha256_file(path, on_progress, &some, none, &err), HS_CANCELLED);
        assert_int_equal(some.n_calls, stop);
        assert_string_equal(none, "untouched");
        assert_non_null(strstr(err.message, path));
    }
}

static void test_file_errors(void **state)
{
    char path[512], hex[65];
    struct hs_error err;
    snprintf(path, sizeof path, "%s/missing", (char *)*state);
    assert_int_equal(hs_sha256_file(path, NULL, NULL, hex, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(hs_sha256_file(*state, NULL, NULL, hex, &err), HS_IS_DIRECTORY);
    assert_non_null(strstr(err.message, *state));
    assert_int_equal(hs_sha256_file("/proc/self/mem", NULL, NULL, hex, &err), HS_IO);
}

static void test_no_memory(void **state)
{
    char path[512], hex[65];
    hs_status status;
    snprintf(path, sizeof path, "%s/file", (char *)*state);
    write_pattern(path, 1000);
    WITH_EVERY_ALLOCATION_FAILING(status, { status = hs_sha256_file(path, NULL, NULL, hex, NULL); },
                                  {});
    hs_sha256 *hash = NULL;
    WITH_EVERY_ALLOCATION_FAILING(
        status, { status = hs_sha256_new(&hash, NULL); }, { assert_null(hash); });
    hs_sha256_free(hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nist_examples),        cmocka_unit_test(test_final_ends_it),
        cmocka_unit_test(test_files_like_sha256sum), cmocka_unit_test(test_progress),
        cmocka_unit_test(test_file_errors),          cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, tmp_setup, tmp_teardown);
}
