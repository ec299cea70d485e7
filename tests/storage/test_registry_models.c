/* Rows of models: what they say of a file, names, lists. */
#include "registry_test.h"

#include "base/clock.h"
#include "registry_internal.h"

static void test_a_row_says_what_the_file_is(void **state)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.n_ctx_train = 777;
    char *path = path_of(*state, "My Model.gguf");
    assert_true(tiny_gguf_write(&spec, path));
    char *resolved = NULL;
    assert_int_equal(hs_fs_realpath(path, &resolved, NULL), HS_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    hs_registry *registry = open_registry(*state);
    struct hs_registry_model model = {0}, got = {0};
    int64_t before = hs_clock_unix_ms();
    assert_int_equal(add(registry, path, NULL, &model, NULL), HS_OK);
    int64_t after = hs_clock_unix_ms();
    assert_string_equal(model.name, "my-model");
    assert_string_equal(model.path, resolved);
    assert_string_equal(model.architecture, "llama");
    assert_string_equal(model.source, "added");
    assert_string_equal(model.sha256, "");
    assert_int_equal(strlen(model.fingerprint), 64);
    assert_int_equal(model.size_bytes, info.st_size);
    assert_true(model.mtime_ns == (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec);
    assert_int_equal(model.n_ctx_train, 777);
    assert_true(model.n_params > 0);
    assert_true(model.added_unix_ms >= before && model.added_unix_ms <= after);
    assert_int_equal(model.used_unix_ms, 0);
    assert_false(model.is_missing);

    assert_int_equal(hs_registry_model_get(registry, "my-model", &got, NULL), HS_OK);
    assert_string_equal(got.path, model.path);
    assert_string_equal(got.quantization, model.quantization);
    assert_string_equal(got.fingerprint, model.fingerprint);
    assert_int_equal(got.n_params, model.n_params);
    assert_int_equal(got.n_ctx_train, 777);
    assert_true(got.mtime_ns == model.mtime_ns && got.added_unix_ms == model.added_unix_ms);
    hs_registry_model_free(&got);

    assert_int_equal(unlink(path), 0);
    assert_int_equal(hs_registry_model_get(registry, "my-model", &got, NULL), HS_OK);
    assert_true(got.is_missing);
    hs_registry_model_free(&got);
    hs_registry_model_free(&model);
    hs_registry_close(registry);
    hs_free(resolved);
    hs_free(path);
}

/* The type that holds most bytes among the tensors of two and more dimensions. */
static void test_quantization(void **state)
{
    static const struct {
        uint32_t big_type;
        size_t big_bytes;
        const char *name;
    } CASES[] = {{0, 256 * 4, "F32"},        {1, 256 * 2, "F16"},        {2, 256 / 32 * 18, "Q4_0"},
                 {3, 256 / 32 * 20, "Q4_1"}, {8, 256 / 32 * 34, "Q8_0"}, {12, 144, "Q4_K"}};
    hs_registry *registry = open_registry(*state);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct gguf_writer writer;
        struct gguf_bytes bytes;
        gguf_writer_init(&writer);
        gguf_writer_str(&writer, "general.architecture", "llama");
        /* a vector larger than everything counts for nothing */
        gguf_writer_tensor(&writer, "vector", 1, (uint64_t[]){4096}, 0, NULL, 4096 * 4);
        gguf_writer_tensor(&writer, "small", 2, (uint64_t[]){8, 2}, CASES[i].big_type == 0, NULL,
                           CASES[i].big_type == 0 ? 32 : 64);
        gguf_writer_tensor(&writer, "big", 2, (uint64_t[]){256, 1}, CASES[i].big_type, NULL,
                           CASES[i].big_bytes);
        assert_true(gguf_writer_finish(&writer, &bytes, NULL));
        char *path = path_of(*state, "q.gguf");
        write_file(path, bytes.data, bytes.len);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&writer);
        struct hs_registry_model model = {0};
        struct hs_error err = {0};
        if (add(registry, path, NULL, &model, &err) != HS_OK)
            fail_msg("%s: %s", CASES[i].name, err.message);
        assert_string_equal(model.quantization, CASES[i].name);
        assert_int_equal(model.n_params, 4096 + 16 + 256);
        assert_int_equal(model.n_ctx_train, 0);
        hs_registry_model_free(&model);
        hs_free(path);
    }
    hs_registry_close(registry);
}

/* Three parts, of which the last holds most of the weights. */
static void test_a_split_model_is_one(void **state)
{
    static const size_t ROWS[] = {1, 2, 40};
    char *first = NULL;
    uint64_t size_bytes = 0;
    for (uint16_t i = 0; i < 3; i++) {
        struct gguf_writer writer;
        struct gguf_bytes bytes;
        char file[64], tensor[16];
        gguf_writer_init(&writer);
        gguf_writer_str(&writer, "general.architecture", "llama");
        gguf_writer_key(&writer, "split.count", GGUF_W_U16);
        gguf_bytes_u16(&writer.kv, 3);
        gguf_writer_key(&writer, "split.no", GGUF_W_U16);
        gguf_bytes_u16(&writer.kv, i);
        snprintf(tensor, sizeof tensor, "t%d", i);
        gguf_writer_tensor(&writer, tensor, 2, (uint64_t[]){32, ROWS[i]}, i == 2 ? 8 : 0, NULL,
                           ROWS[i] * (i == 2 ? 34 : 128));
        assert_true(gguf_writer_finish(&writer, &bytes, NULL));
        snprintf(file, sizeof file, "Big-%05d-of-00003.gguf", i + 1);
        char *path = path_of(*state, file);
        write_file(path, bytes.data, bytes.len);
        size_bytes += bytes.len;
        if (i == 0)
            first = path;
        else
            hs_free(path);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&writer);
    }
    hs_registry *registry = open_registry(*state);
    struct hs_registry_model model = {0};
    struct hs_error err = {0};
    if (add(registry, first, NULL, &model, &err) != HS_OK)
        fail_msg("%s", err.message);
    assert_string_equal(model.name, "big");
    assert_string_equal(model.quantization, "Q8_0");
    assert_int_equal(model.size_bytes, size_bytes);
    assert_int_equal(model.n_params, 32 * (1 + 2 + 40));
    hs_registry_model_free(&model);
    char *second = path_of(*state, "Big-00002-of-00003.gguf");
    assert_int_equal(unlink(second), 0);
    assert_int_equal(add(registry, first, NULL, NULL, &err), HS_NOT_FOUND);
    hs_registry_close(registry);
    hs_free(second);
    hs_free(first);
}

static void test_default_names(void **state)
{
    (void)state;
    static const struct {
        const char *path, *name;
    } CASES[] = {
        {"SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"},
        {"/a/b.c/Qwen3 0.6B (chat).GGUF", "qwen3-0.6b-chat"},
        {"caf\xc3\xa9  x.gguf", "caf-x"},
        {"no-suffix", "no-suffix"},
        {".gguf", ".gguf"},
        {"---.gguf", "model"},
        {"\xff\xff.gguf", "model"},
        {"--a--.gguf", "a"},
        {"a:b_c.gguf", "a:b_c"},
        {"a.gguf.gguf", "a.gguf"},
        {"Big-00001-of-00005.gguf", "big"},
        {"/x/-00001-of-00005.gguf", "model"},
        {"big-00001-of-0005.gguf", "big-00001-of-0005"},
        {"big-00001-of-00005", "big-00001-of-00005"},
        {"", "model"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        char *name = hs_registry_default_name(CASES[i].path);
        assert_string_equal(name, CASES[i].name);
        hs_free(name);
    }
    char stem[301];
    memset(stem, 'A', 300);
    stem[300] = 0;
    char *name = hs_registry_default_name(stem);
    assert_int_equal(strlen(name), 96);
    assert_int_equal(strspn(name, "a"), 96);
    hs_free(name);
}

static void test_names_given(void **state)
{
    char good[98];
    memset(good, 'x', sizeof good);
    good[96] = 0;
    char *path = make_model(*state, "m.gguf", "one");
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    assert_int_equal(add(registry, path, good, NULL, NULL), HS_OK);
    good[96] = 'x';
    good[97] = 0;
    const char *const bad[] = {"", good, "a b", "a/b", "caf\xc3\xa9", "a\n", "';DROP TABLE models"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(add(registry, path, bad[i], NULL, &err), HS_INVALID_ARGUMENT);
        assert_true(err.hint[0] != 0);
    }
    assert_int_equal(add(registry, path, "AZaz09._:-", NULL, NULL), HS_OK);
    /* looking for hostile names is harmless */
    struct hs_registry_model model = {0};
    static char huge[1 << 20];
    memset(huge, '\'', sizeof huge - 1);
    assert_int_equal(hs_registry_model_get(registry, huge, &model, &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_model_get(registry, "' OR 1 --", &model, &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_model_get(registry, "%", &model, &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_model_remove(registry, "%", &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_session_remove(registry, "%", &err), HS_NOT_FOUND);
    assert_int_equal(put_session(registry, "a/b", 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(put_session(registry, NULL, 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(count_models(registry), 2);
    hs_registry_close(registry);
    hs_free(path);
}

static void test_the_same_file_again(void **state)
{
    char *path = make_model(*state, "m.gguf", "one");
    char sha256[65];
    memset(sha256, 'a', 64);
    sha256[64] = 0;
    hs_registry *registry = open_registry(*state);
    struct hs_registry_model first = {0}, again = {0};
    assert_int_equal(add(registry, path, "given", &first, NULL), HS_OK);
    assert_int_equal(hs_registry_model_set_sha256(registry, "given", sha256, NULL), HS_OK);
    assert_int_equal(hs_registry_model_touch(registry, "given", NULL), HS_OK);

    /* unnamed: it keeps its name, its dates and, being unchanged, its hash */
    assert_int_equal(add(registry, path, NULL, &again, NULL), HS_OK);
    assert_string_equal(again.name, "given");
    assert_string_equal(again.sha256, sha256);
    assert_true(again.added_unix_ms == first.added_unix_ms && again.used_unix_ms > 0);
    assert_int_equal(count_models(registry), 1);
    hs_registry_model_free(&again);

    /* changed content: the hash is void */
    hs_free(make_model(*state, "m.gguf", "another"));
    assert_int_equal(add(registry, path, "given", &again, NULL), HS_OK);
    assert_string_equal(again.sha256, "");
    assert_string_not_equal(again.fingerprint, first.fingerprint);
    assert_int_equal(count_models(registry), 1);
    hs_registry_model_free(&again);

    /* a second name for the same file is a second row */
    assert_int_equal(add(registry, path, "alias", &again, NULL), HS_OK);
    assert_string_equal(again.path, first.path);
    assert_int_equal(count_models(registry), 2);
    hs_registry_model_free(&again);
    hs_registry_model_free(&first);
    hs_registry_close(registry);
    hs_free(path);
}

/* A file that lay in the models folder when the registry was made has a row under its own name,
 * until somebody gives it another; not once that name was used. */
static void test_what_was_found_is_named(void **state)
{
    struct hs_registry_model model = {0};
    hs_registry *registry = open_registry(*state);
    char *path = make_model(*state, "m.gguf", "one");
    assert_int_equal(hs_registry_model_add(registry, path, NULL, "found", &model, NULL), HS_OK);
    assert_string_equal(model.name, "m");
    hs_registry_model_free(&model);
    assert_int_equal(add(registry, path, "mine", NULL, NULL), HS_OK);
    assert_int_equal(count_models(registry), 1);
    assert_int_equal(hs_registry_model_get(registry, "m", &model, NULL), HS_NOT_FOUND);
    assert_int_equal(hs_registry_model_add(registry, path, "m", "found", NULL, NULL), HS_OK);
    assert_int_equal(hs_registry_model_touch(registry, "m", NULL), HS_OK);
    assert_int_equal(add(registry, path, "mine", NULL, NULL), HS_OK);
    assert_int_equal(count_models(registry), 2);
    hs_registry_close(registry);
    hs_free(path);
}

static void test_a_name_that_is_taken(void **state)
{
    char *other_folder = path_of(*state, "other");
    char *path = make_model(*state, "m.gguf", "one"),
         *other = make_model(other_folder, "M.gguf", "2");
    hs_registry *registry = open_registry(*state);
    struct hs_registry_model model = {0};
    struct hs_error err = {0};
    assert_int_equal(add(registry, path, NULL, NULL, NULL), HS_OK);
    assert_int_equal(add(registry, other, NULL, &model, &err), HS_ALREADY_EXISTS);
    assert_non_null(strstr(err.message, "'m'"));
    assert_true(err.hint[0] != 0);
    assert_int_equal(add(registry, other, "m", NULL, &err), HS_ALREADY_EXISTS);
    assert_int_equal(add(registry, other, "m2", NULL, NULL), HS_OK);
    assert_int_equal(hs_registry_model_remove(registry, "m", NULL), HS_OK);
    assert_int_equal(hs_registry_model_remove(registry, "m", &err), HS_NOT_FOUND);
    assert_true(err.hint[0] != 0);
    assert_int_equal(add(registry, other, "m", NULL, NULL), HS_OK);
    assert_true(is_there(path)); /* removing a row removes no file */
    hs_registry_close(registry);
    hs_free(other_folder);
    hs_free(path);
    hs_free(other);
}

static void test_files_that_are_no_models(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    char *path = path_of(*state, "x.gguf");
    assert_int_equal(add(registry, path, NULL, NULL, &err), HS_NOT_FOUND);
    write_file(path, "no model at all, but long enough for a header", 45);
    assert_int_equal(add(registry, path, NULL, NULL, &err), HS_BAD_MAGIC);
    assert_int_equal(add(registry, *state, NULL, NULL, &err), HS_IS_DIRECTORY);
    assert_int_equal(count_models(registry), 0);
    hs_registry_close(registry);
    hs_free(path);
}

static void test_links_and_relative_paths(void **state)
{
    char *blobs = path_of(*state, "blobs"), *link = path_of(*state, "Nice Name.gguf");
    char *blob = make_model(blobs, "0123abcd", "one");
    assert_int_equal(symlink("blobs/0123abcd", link), 0);
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    hs_registry *registry = open_registry(*state);
    struct hs_registry_model model = {0};
    struct stat info;
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(add(registry, "Nice Name.gguf", NULL, &model, NULL), HS_OK);
    assert_int_equal(chdir(here), 0);
    /* the name and place of the link, the size of what it leads to */
    assert_string_equal(model.name, "nice-name");
    assert_true(model.path[0] == '/');
    assert_string_equal(strrchr(model.path, '/'), "/Nice Name.gguf");
    assert_int_equal(stat(blob, &info), 0);
    assert_int_equal(model.size_bytes, info.st_size);
    hs_registry_model_free(&model);
    hs_registry_close(registry);
    hs_free(blobs);
    hs_free(link);
    hs_free(blob);
}

static void test_list_is_sorted(void **state)
{
    static const char *const NAMES[] = {"b", "a", "C", "a.b", "aa"};
    static const char *const SORTED[] = {"C", "a", "a.b", "aa", "b"};
    char *path = make_model(*state, "m.gguf", "one");
    hs_registry *registry = open_registry(*state);
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        assert_int_equal(add(registry, path, NAMES[i], NULL, NULL), HS_OK);
        assert_int_equal(put_session(registry, NAMES[i], 1, NULL), HS_OK);
    }
    struct hs_registry_model *models = NULL;
    struct hs_registry_session *sessions = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_model_list(registry, &models, &n, NULL), HS_OK);
    assert_int_equal(n, COUNT_OF(SORTED));
    for (size_t i = 0; i < n; i++)
        assert_string_equal(models[i].name, SORTED[i]);
    hs_registry_models_free(models, n);
    assert_int_equal(hs_registry_session_list(registry, &sessions, &n, NULL), HS_OK);
    assert_int_equal(n, COUNT_OF(SORTED));
    for (size_t i = 0; i < n; i++)
        assert_string_equal(sessions[i].name, SORTED[i]);
    hs_registry_sessions_free(sessions, n);
    assert_int_equal(hs_registry_session_remove(registry, "a", NULL), HS_OK);
    assert_int_equal(hs_registry_session_remove(registry, "a", NULL), HS_NOT_FOUND);
    assert_int_equal(count_sessions(registry), COUNT_OF(SORTED) - 1);
    hs_registry_close(registry);
    hs_free(path);
}

static void test_sha256_and_touch(void **state)
{
    char *path = make_model(*state, "m.gguf", "one");
    hs_registry *registry = open_registry(*state);
    struct hs_registry_model model = {0};
    char sha256[66];
    memset(sha256, '0', sizeof sha256);
    sha256[64] = 0;
    assert_int_equal(add(registry, path, "m", NULL, NULL), HS_OK);
    assert_int_equal(hs_registry_model_set_sha256(registry, "m", sha256, NULL), HS_OK);
    assert_int_equal(hs_registry_model_set_sha256(registry, "n", sha256, NULL), HS_NOT_FOUND);
    assert_int_equal(hs_registry_model_touch(registry, "n", NULL), HS_NOT_FOUND);
    sha256[64] = '0';
    sha256[65] = 0;
    const char *const bad[] = {sha256, "abc", "x"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(hs_registry_model_set_sha256(registry, "m", bad[i], NULL),
                         HS_INVALID_ARGUMENT);
    int64_t before = hs_clock_unix_ms();
    assert_int_equal(hs_registry_model_touch(registry, "m", NULL), HS_OK);
    assert_int_equal(hs_registry_model_get(registry, "m", &model, NULL), HS_OK);
    sha256[64] = 0;
    assert_string_equal(model.sha256, sha256);
    assert_true(model.used_unix_ms >= before && model.used_unix_ms <= hs_clock_unix_ms());
    hs_registry_model_free(&model);
    assert_int_equal(hs_registry_model_set_sha256(registry, "m", "", NULL), HS_OK);
    assert_int_equal(hs_registry_model_get(registry, "m", &model, NULL), HS_OK);
    assert_string_equal(model.sha256, "");
    hs_registry_model_free(&model);
    hs_registry_close(registry);
    hs_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_row_says_what_the_file_is),
        TEST(test_quantization),
        TEST(test_a_split_model_is_one),
        cmocka_unit_test(test_default_names),
        TEST(test_names_given),
        TEST(test_the_same_file_again),
        TEST(test_what_was_found_is_named),
        TEST(test_a_name_that_is_taken),
        TEST(test_files_that_are_no_models),
        TEST(test_links_and_relative_paths),
        TEST(test_list_is_sorted),
        TEST(test_sha256_and_touch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
