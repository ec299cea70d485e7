/* The registry of models and sessions: rows, names, versions, threads, and what the disk refuses.
 */
#include "registry_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <time.h>

#include "base/clock.h"
#include "registry_internal.h"

static hs_status add(hs_registry *registry, const char *path, const char *name,
                     struct hs_registry_model *ret_model, struct hs_error *err)
{
    return hs_registry_model_add(registry, path, name, "added", ret_model, err);
}

/* ---- opening ---- */

static void test_open_makes_what_is_missing(void **state)
{
    char *folder = path_of(*state, "a/b/data");
    hs_registry *registry = open_registry(folder);
    static const char *const MADE[] = {"registry.db", "models", "sessions"};
    for (size_t i = 0; i < COUNT_OF(MADE); i++) {
        char *path = path_of(folder, MADE[i]);
        assert_true(is_there(path));
        hs_free(path);
    }
    assert_int_equal(count_models(registry), 0);
    assert_int_equal(count_sessions(registry), 0);
    hs_registry_close(registry);
    hs_registry_close(NULL);
    assert_sql(folder, "PRAGMA journal_mode", "wal");
    assert_sql(folder, "PRAGMA integrity_check", "ok");
    assert_sql(folder, "PRAGMA user_version", "1");
    hs_free(folder);
}

static void test_open_again_keeps_rows(void **state)
{
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 7, NULL), HS_OK);
    hs_registry_close(registry);
    registry = open_registry(*state);
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].name, "s");
    assert_string_equal(rows[0].model_name, "m");
    assert_string_equal(rows[0].fingerprint, "f");
    assert_int_equal(rows[0].n_messages, 7);
    assert_int_equal(rows[0].size_bytes, 3);
    assert_int_equal(rows[0].created_unix_ms, 4);
    assert_int_equal(rows[0].updated_unix_ms, 5);
    hs_registry_sessions_free(rows, n);
    hs_registry_close(registry);
}

static void test_a_new_registry_finds_what_is_there(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *deep = path_of(paths.models_dir, "hub/org");
    hs_log_set_level(HS_LOG_OFF);
    hs_free(make_model(paths.models_dir, "Tiny One.gguf", "one"));
    hs_free(make_model(deep, "tiny one.GGUF", "two"));
    hs_free(make_model(paths.models_dir, ".hidden.gguf", "three"));
    hs_free(make_model(paths.models_dir, "part-00002-of-00003.gguf", "four"));
    hs_free(make_model(paths.models_dir, "notes.txt", "five"));
    char *broken = path_of(paths.models_dir, "broken.gguf");
    write_file(broken, "GGUF", 4);
    make_saved_session(paths.sessions_dir, "talk");
    char *damaged = path_of(paths.sessions_dir, "bad");
    assert_int_equal(mkdir(damaged, 0700), 0);
    char *damaged_text = path_of(damaged, "session.json");
    write_file(damaged_text, "{", 1);

    hs_registry *registry = open_registry(*state);
    struct hs_registry_model *models = NULL;
    struct hs_registry_session *sessions = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_model_list(registry, &models, &n, NULL), HS_OK);
    assert_int_equal(n, 2);
    assert_string_equal(models[0].name, "tiny-one");
    assert_string_equal(models[1].name, "tiny-one-2");
    assert_string_equal(models[0].source, "found");
    assert_true(models[0].path[0] == '/');
    hs_registry_models_free(models, n);
    assert_int_equal(hs_registry_session_list(registry, &sessions, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(sessions[0].name, "talk");
    assert_int_equal(sessions[0].n_messages, 1);
    assert_int_equal(sessions[0].created_unix_ms, 11);
    assert_int_equal(sessions[0].updated_unix_ms, 22);
    assert_true(sessions[0].size_bytes > 0);
    hs_registry_sessions_free(sessions, n);
    hs_registry_close(registry);
    hs_log_set_level(HS_LOG_WARN);
    hs_free(deep);
    hs_free(broken);
    hs_free(damaged);
    hs_free(damaged_text);
    hs_paths_free(&paths);
}

static double cpu_ms(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* chat opens it at every start. CPU time: the machine may be busy. */
static void test_opening_is_quick(void **state)
{
    double best_ms = 1e9;
    hs_registry *registry = open_registry(*state);
    for (int i = 0; i < 500; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%d", i);
        assert_int_equal(put_session(registry, name, 1, NULL), HS_OK);
    }
    hs_registry_close(registry);
    for (int i = 0; i < 20; i++) {
        double start = cpu_ms();
        hs_registry_close(open_registry(*state));
        double ms = cpu_ms() - start;
        best_ms = ms < best_ms ? ms : best_ms;
    }
    print_message("open and close with 500 sessions: %.2f ms\n", best_ms);
    assert_true(best_ms < 100);
}

/* The names of models and sessions are nobody else's, whatever the umask; also of older files. */
static void test_files_are_private(void **state)
{
    static const char *const files[] = {"registry.db", "registry.db-wal", "registry.db-shm"};
    mode_t old = umask(0);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT_OF(files); i++) {
            char *path = path_of(*state, files[i]);
            struct stat info;
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_mode & 0777, 0600);
            assert_int_equal(chmod(path, 0666), 0);
            hs_free(path);
        }
        hs_registry *again = open_registry(*state);
        hs_registry_close(registry);
        registry = again;
    }
    hs_registry_close(registry);
    umask(old);
}

static void test_find_file(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *deep = path_of(paths.models_dir, "hub/org");
    hs_free(make_model(paths.models_dir, "Tiny One.gguf", "one"));
    hs_free(make_model(deep, "other.GGUF", "two"));
    hs_free(make_model(paths.models_dir, "part-00002-of-00003.gguf", "three"));
    static const struct {
        const char *name, *file; /* file NULL: none */
    } cases[] = {{"tiny-one", "Tiny One.gguf"},
                 {"other", "hub/org/other.GGUF"},
                 {"part", NULL},
                 {"Tiny One", NULL},
                 {"tiny", NULL},
                 {"", NULL}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *found = NULL;
        assert_int_equal(hs_registry_find_file(paths.models_dir, cases[i].name, &found, NULL),
                         HS_OK);
        char *wanted = cases[i].file == NULL ? NULL : path_of(paths.models_dir, cases[i].file);
        assert_true((found == NULL) == (wanted == NULL));
        if (found != NULL)
            assert_string_equal(found, wanted);
        hs_free(found);
        hs_free(wanted);
    }
    char *found = NULL;
    assert_int_equal(hs_registry_find_file("/nowhere/at/all", "x", &found, NULL), HS_OK);
    assert_null(found);
    for (uint64_t nth = 1;; nth++) {
        hs_mem_fail_after(nth);
        hs_status status = hs_registry_find_file(paths.models_dir, "tiny-one", &found, NULL);
        hs_mem_fail_after(0);
        if (status == HS_OK)
            break;
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_null(found);
    }
    hs_free(found);
    hs_free(deep);
    hs_paths_free(&paths);
}

/* ---- models ---- */

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

/* ---- versions ---- */

static void test_a_newer_registry_is_refused(void **state)
{
    hs_registry *registry = open_registry(*state), *second = NULL;
    struct hs_error err = {0};
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    run_sql(*state, "PRAGMA user_version = 2");
    /* one that is already open notices before it touches anything */
    assert_int_equal(put_session(registry, "t", 1, &err), HS_UNSUPPORTED_VERSION);
    assert_non_null(strstr(err.message, "version 2"));
    assert_true(err.hint[0] != 0);
    hs_registry_close(registry);
    run_sql(*state, "PRAGMA wal_checkpoint(TRUNCATE)");

    char *path = path_of(*state, "registry.db");
    size_t len = 0, len_after = 0;
    char *before = read_file(path, &len);
    assert_int_equal(try_registry(*state, &second, &err), HS_UNSUPPORTED_VERSION);
    assert_non_null(strstr(err.message, "version 2"));
    assert_true(err.hint[0] != 0);
    char *after = read_file(path, &len_after);
    assert_int_equal(len, len_after);
    assert_memory_equal(before, after, len);
    assert_int_equal(count_set_aside(*state, ""), 0);
    hs_free(before);
    hs_free(after);
    hs_free(path);
    assert_sql(*state, "SELECT count(*) FROM sessions", "1");
}

/* What a process leaves that was killed while it made the registry. */
static void test_a_half_made_registry_is_made_anew(void **state)
{
    char *path = path_of(*state, "registry.db.new");
    write_file(path, "half of a database", 18);
    hs_registry_close(open_registry(*state));
    assert_false(is_there(path));
    assert_sql(*state, "PRAGMA user_version", "1");
    assert_int_equal(count_set_aside(*state, ""), 0);
    hs_free(path);
}

static void test_a_registry_without_wal(void **state)
{
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    hs_registry_close(registry);
    run_sql(*state, "PRAGMA journal_mode = DELETE");
    registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 1);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA journal_mode", "wal");
    assert_int_equal(count_set_aside(*state, ""), 0);
}

static void test_steps_lead_to_the_version(void **state)
{
    (void)state;
    assert_int_equal(HS_REGISTRY_VERSION, 1);
    for (int i = 0; i < HS_REGISTRY_VERSION; i++)
        assert_non_null(HS_REGISTRY_STEPS[i]);
}

/* ---- several at once ---- */

struct worker {
    hs_registry *registry;
    int number;
    int n_failed;
};

static void *work_in_thread(void *user)
{
    struct worker *worker = user;
    for (int i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d-%d", worker->number, i);
        worker->n_failed += put_session(worker->registry, name, i, NULL) != HS_OK;
        struct hs_registry_session *rows = NULL;
        size_t n = 0;
        worker->n_failed += hs_registry_session_list(worker->registry, &rows, &n, NULL) != HS_OK;
        hs_registry_sessions_free(rows, n);
        if (i % 2 == 0)
            worker->n_failed += hs_registry_session_remove(worker->registry, name, NULL) != HS_OK;
    }
    return NULL;
}

static void test_threads_share_one(void **state)
{
    struct worker workers[4];
    pthread_t threads[COUNT_OF(workers)];
    hs_registry *registry = open_registry(*state);
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (struct worker){.registry = registry, .number = (int)i};
        assert_int_equal(pthread_create(&threads[i], NULL, work_in_thread, &workers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].n_failed, 0);
    }
    assert_int_equal(count_sessions(registry), 4 * 25);
    hs_registry_close(registry);
}

static int hammer(void *user)
{
    const char *folder = user;
    for (int round = 0; round < 10; round++) {
        hs_registry *registry = NULL;
        if (try_registry(folder, &registry, NULL) != HS_OK)
            return 1;
        for (int i = 0; i < 20; i++) {
            char name[64];
            snprintf(name, sizeof name, "p%ld-%d-%d", (long)getpid(), round, i);
            if (put_session(registry, name, i, NULL) != HS_OK)
                return 2;
            if (put_session(registry, "shared", i, NULL) != HS_OK)
                return 3;
            struct hs_registry_session *rows = NULL;
            size_t n = 0;
            if (hs_registry_session_list(registry, &rows, &n, NULL) != HS_OK)
                return 4;
            hs_registry_sessions_free(rows, n);
            if (i % 4 == 3 && hs_registry_session_remove(registry, name, NULL) != HS_OK)
                return 5;
        }
        hs_registry_close(registry);
    }
    return 0;
}

/* Also the very first opening is a race: nobody has made the file yet. */
static void test_processes_share_one(void **state)
{
    pid_t pids[4];
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        pids[i] = child_start(hammer, *state);
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        child_expect_success(pids[i]);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 4 * 10 * 15 + 1);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA integrity_check", "ok");
    assert_int_equal(count_set_aside(*state, ""), 0);
}

static void test_another_process_is_writing(void **state)
{
    hs_registry *registry = open_registry(*state);
    char *path = path_of(*state, "registry.db");
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    /* readers, and another opening, are served although the lock is held to the end */
    assert_int_equal(count_sessions(registry), 0);
    hs_registry_close(open_registry(*state));
    /* a writer waits, and then says so */
    struct hs_error err = {0};
    double start = hs_clock_ms();
    assert_int_equal(put_session(registry, "s", 1, &err), HS_BUSY);
    assert_true(hs_clock_ms() - start >= HS_REGISTRY_BUSY_MS / 2);
    assert_non_null(strstr(err.message, "locked"));
    assert_true(err.hint[0] != 0);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    sqlite3_close(db);
    hs_registry_close(registry);
    hs_free(path);
}

/* Somebody is making, migrating or rebuilding it: openers wait, and then say so. */
static void test_another_process_repairs(void **state)
{
    hs_registry_close(open_registry(*state));
    char *path = path_of(*state, "registry.lock");
    int lock = open(path, O_RDWR | O_CLOEXEC);
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(try_registry(*state, &registry, &err), HS_BUSY);
    assert_true(err.message[0] != 0 && err.hint[0] != 0);
    assert_int_equal(flock(lock, LOCK_SH), 0); /* somebody is only opening it */
    hs_registry_close(open_registry(*state));
    close(lock);
    hs_free(path);
}

/* ---- when the disk says no ---- */

static int open_without_permission(void *user)
{
    drop_root();
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    if (try_registry(user, &registry, &err) != HS_PERMISSION_DENIED)
        return 1;
    return err.hint[0] != 0 ? 0 : 2;
}

static void test_read_only_folder(void **state)
{
    assert_int_equal(chmod(*state, 0555), 0);
    child_expect_success(child_start(open_without_permission, *state)); /* cannot be made */
    assert_int_equal(chmod(*state, 0755), 0);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(put_session(registry, "s", 1, NULL), HS_OK);
    hs_registry_close(registry);
    assert_int_equal(chmod(*state, 0555), 0);
    child_expect_success(child_start(open_without_permission, *state)); /* cannot be opened */
    assert_int_equal(chmod(*state, 0755), 0);
    registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 1);
    hs_registry_close(registry);
    assert_int_equal(count_set_aside(*state, ""), 0);
}

static int fill_disk(void *user)
{
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    if (try_registry(user, &registry, NULL) != HS_OK || put_session(registry, "first", 1, NULL))
        return 1;
    limit_file_size(60000);
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%d", i);
        hs_status status = put_session(registry, name, 1, &err);
        if (status == HS_OK)
            continue;
        if (status != HS_IO || err.message[0] == 0 || err.hint[0] == 0)
            return 2;
        /* what was there can still be read */
        struct hs_registry_session *rows = NULL;
        size_t n = 0;
        if (hs_registry_session_list(registry, &rows, &n, NULL) != HS_OK || n != (size_t)i + 1)
            return 3;
        hs_registry_sessions_free(rows, n);
        hs_registry_close(registry);
        return 0;
    }
    return 4;
}

static int make_on_full_disk(void *user)
{
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    limit_file_size(3000);
    return try_registry(user, &registry, &err) == HS_IO ? 0 : 1;
}

static void test_full_disk(void **state)
{
    child_expect_success(child_start(make_on_full_disk, *state));
    child_expect_success(child_start(fill_disk, *state));
    hs_registry *registry = open_registry(*state);
    assert_true(count_sessions(registry) > 1);
    assert_int_equal(put_session(registry, "again", 1, NULL), HS_OK);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA integrity_check", "ok");
    assert_int_equal(count_set_aside(*state, ""), 0);
}

/* ---- out of memory ---- */

static hs_status whole_life(const struct hs_paths *paths, const char *model_path)
{
    hs_registry *registry = NULL;
    struct hs_registry_model model = {0}, *models = NULL;
    struct hs_registry_session *sessions = NULL;
    size_t n = 0;
    hs_status status = hs_registry_open(paths, &registry, NULL);
    if (status == HS_OK)
        status = add(registry, model_path, NULL, &model, NULL);
    if (status == HS_OK) /* nothing is left out for want of memory */
        assert_true(strcmp(model.architecture, "llama") == 0 && strlen(model.fingerprint) == 64 &&
                    model.quantization[0] != 0 && model.n_ctx_train == 4096);
    hs_registry_model_free(&model);
    if (status == HS_OK)
        status = hs_registry_model_get(registry, "m", &model, NULL);
    hs_registry_model_free(&model);
    if (status == HS_OK)
        status = put_session(registry, "s", 1, NULL);
    if (status == HS_OK) {
        status = hs_registry_model_list(registry, &models, &n, NULL);
        if (status == HS_OK)
            hs_registry_models_free(models, n);
    }
    if (status == HS_OK) {
        status = hs_registry_session_list(registry, &sessions, &n, NULL);
        if (status == HS_OK)
            hs_registry_sessions_free(sessions, n);
    }
    if (status == HS_OK)
        status = hs_registry_model_touch(registry, "m", NULL);
    hs_registry_close(registry);
    return status;
}

static void remove_registry(const char *folder)
{
    static const char *const FILES[] = {"registry.db", "registry.db-wal", "registry.db-shm"};
    for (size_t i = 0; i < COUNT_OF(FILES); i++) {
        char *path = path_of(folder, FILES[i]);
        unlink(path);
        hs_free(path);
    }
}

static void test_out_of_memory(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *path = make_model(paths.models_dir, "m.gguf", "one");
    make_saved_session(paths.sessions_dir, "talk");
    hs_status status = HS_OK;
    WITH_EVERY_ALLOCATION_FAILING(status, status = whole_life(&paths, path), {
        assert_int_equal(count_set_aside(*state, ""), 0);
        remove_registry(*state);
    });
    WITH_EVERY_ALLOCATION_FAILING(status, status = whole_life(&paths, path),
                                  assert_int_equal(count_set_aside(*state, ""), 0));
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_models(registry), 1);
    hs_registry_close(registry);
    hs_free(path);
    hs_paths_free(&paths);
}

/* SQLite's own memory: what it cannot get is no damage either. */
static void test_sqlite_out_of_memory(void **state)
{
    struct hs_paths paths = paths_in(*state);
    char *path = make_model(paths.models_dir, "m.gguf", "one");
    assert_int_equal(whole_life(&paths, path), HS_OK);
    sqlite3_int64 least = sqlite3_memory_used();
    int n_failed = 0;
    for (sqlite3_int64 bytes = 2000; bytes < 400000; bytes += 1500) {
        sqlite3_hard_heap_limit64(least + bytes);
        hs_status status = whole_life(&paths, path);
        sqlite3_hard_heap_limit64(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        n_failed += status == HS_OUT_OF_MEMORY;
    }
    assert_true(n_failed > 5);
    assert_int_equal(whole_life(&paths, path), HS_OK);
    assert_int_equal(count_set_aside(*state, ""), 0);
    hs_free(path);
    hs_paths_free(&paths);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open_makes_what_is_missing),
        TEST(test_open_again_keeps_rows),
        TEST(test_a_new_registry_finds_what_is_there),
        TEST(test_files_are_private),
        TEST(test_find_file),
        TEST(test_opening_is_quick),
        TEST(test_a_row_says_what_the_file_is),
        TEST(test_quantization),
        TEST(test_a_split_model_is_one),
        cmocka_unit_test(test_default_names),
        TEST(test_names_given),
        TEST(test_the_same_file_again),
        TEST(test_a_name_that_is_taken),
        TEST(test_files_that_are_no_models),
        TEST(test_links_and_relative_paths),
        TEST(test_list_is_sorted),
        TEST(test_sha256_and_touch),
        TEST(test_a_newer_registry_is_refused),
        TEST(test_a_half_made_registry_is_made_anew),
        TEST(test_a_registry_without_wal),
        cmocka_unit_test(test_steps_lead_to_the_version),
        TEST(test_threads_share_one),
        TEST(test_processes_share_one),
        TEST(test_another_process_is_writing),
        TEST(test_another_process_repairs),
        TEST(test_read_only_folder),
        TEST(test_full_disk),
        TEST(test_out_of_memory),
        TEST(test_sqlite_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
