/* Models in several files. */
#include "gguf_test.h"

#include "base/fs.h"
#include "base/mem.h"
#include "gguf_internal.h"

static void names_of_parts(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint32_t i, n;
        const char *part; /* NULL: HS_NOT_FOUND */
    } cases[] = {
        {"m-00001-of-00003.gguf", 2, 3, "m-00003-of-00003.gguf"},
        {"/a b/m-00001-of-00002.gguf", 1, 2, "/a b/m-00002-of-00002.gguf"},
        {"m-00001-of-65535.gguf", 65534, 65535, "m-65535-of-65535.gguf"},
        {"m-00001-of-00003.gguf", 0, 3, "m-00001-of-00003.gguf"},
        {"-00001-of-00003.gguf", 1, 3, NULL},  /* no name before it */
        {"m-00002-of-00003.gguf", 1, 3, NULL}, /* not the first */
        {"m-00001-of-00003.gguf", 1, 4, NULL}, /* another number of parts */
        {"m-00001-of-00003.GGUF", 1, 3, NULL},
        {"m.gguf", 1, 3, NULL},
        {"", 1, 3, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *part = NULL;
        struct hs_error err = {0};
        hs_status status = hs_gguf_split_path(cases[i].path, cases[i].i, cases[i].n, &part, &err);
        assert_int_equal(status, cases[i].part == NULL ? HS_NOT_FOUND : HS_OK);
        if (cases[i].part != NULL) {
            assert_string_equal(part, cases[i].part);
        } else {
            assert_non_null(strstr(err.hint, "original names"));
        }
        hs_free(part);
    }
    char *part = NULL;
    hs_mem_fail_after(1);
    hs_status status = hs_gguf_split_path("m-00001-of-00003.gguf", 1, 3, &part, NULL);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
}

/* A file that says it is part `no` of `count`, as u16 or as another type. */
static void write_part(const char *path, uint16_t no, uint16_t count, bool is_u16)
{
    struct gguf_writer writer;
    struct gguf_bytes bytes;
    gguf_writer_init(&writer);
    if (is_u16) {
        gguf_writer_key(&writer, "split.no", GGUF_W_U16);
        gguf_bytes_u16(&writer.kv, no);
        gguf_writer_key(&writer, "split.count", GGUF_W_U16);
        gguf_bytes_u16(&writer.kv, count);
    } else {
        gguf_writer_u32(&writer, "split.no", no);
        gguf_writer_u32(&writer, "split.count", count);
    }
    assert_true(gguf_writer_finish(&writer, &bytes, NULL));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    assert_int_equal(fclose(file), 0);
    gguf_bytes_free(&bytes);
    gguf_writer_free(&writer);
}

static void a_part_must_say_what_it_is(void **state)
{
    (void)state;
    char folder[] = HS_TEST_TMP "/split-XXXXXX", first[200], second[200];
    assert_non_null(mkdtemp(folder));
    snprintf(first, sizeof first, "%s/m-00001-of-00002.gguf", folder);
    snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", folder);
    static const struct {
        uint16_t no, count;
        bool is_u16;
        hs_status status;
    } cases[] = {
        {1, 2, true, HS_OK},         {0, 2, true, HS_BAD_FORMAT},  {1, 3, true, HS_BAD_FORMAT},
        {1, 0, true, HS_BAD_FORMAT}, {1, 2, false, HS_BAD_FORMAT},
    };
    hs_gguf *part = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_gguf_split_open(first, 1, 2, &part, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "part 2 of 2 is missing"));
    assert_non_null(strstr(err.message, second));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_part(second, cases[i].no, cases[i].count, cases[i].is_u16);
        assert_int_equal(hs_gguf_split_open(first, 1, 2, &part, &err), cases[i].status);
        if (cases[i].status == HS_OK) {
            assert_int_equal(hs_gguf_split_count(part), 2);
            hs_gguf_free(part);
        }
        part = NULL;
    }
    assert_int_equal(hs_fs_remove_all(folder, NULL), HS_OK);
}

/* A file that says nothing, or nothing that counts, is a model of its own. */
static void a_model_in_one_file(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct gguf_writer writer;
        struct gguf_bytes bytes;
        struct gguf_test test;
        gguf_writer_init(&writer);
        if (how == 1) {
            gguf_writer_u32(&writer, "split.count", 5); /* llama.cpp takes a u16 only */
        } else if (how == 2) {
            gguf_writer_key(&writer, "split.count", GGUF_W_U16);
            gguf_bytes_u16(&writer.kv, 0);
        }
        assert_true(gguf_writer_finish(&writer, &bytes, NULL));
        assert_int_equal(gguf_test_open(&test, bytes.data, bytes.len), HS_OK);
        assert_int_equal(hs_gguf_split_count(test.gguf), 1);
        gguf_test_close(&test);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_parts),
        cmocka_unit_test(a_part_must_say_what_it_is),
        cmocka_unit_test(a_model_in_one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
