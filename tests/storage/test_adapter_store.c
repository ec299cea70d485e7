/* Adapters on disk: rows, versions, files, and what is left of them after kills, failures and the
 * loss of the registry. */
#include "registry_test.h"

#include "base/clock.h"
#include "registry_internal.h"

/* A PEFT folder to add from; its weights are `text`. */
static void make_source(const char *folder, const char *text)
{
    char *config = path_of(folder, "adapter_config.json");
    char *weights = path_of(folder, "adapter_model.safetensors");
    assert_int_equal(hs_fs_mkdir_p(folder, NULL), HS_OK);
    write_file(config, "{}", 2);
    write_file(weights, text, strlen(text));
    hs_free(config);
    hs_free(weights);
}

static struct hs_registry_adapter example(const char *name)
{
    return (struct hs_registry_adapter){.name = (char *)name,
                                        .format = (char *)"peft",
                                        .architecture = (char *)"llama",
                                        .fingerprint = (char *)"f00d",
                                        .model_name = (char *)"tiny",
                                        .targets = (char *)"attn_q attn_v",
                                        .sha256 = (char *)"5a",
                                        .content = (char *)"c0",
                                        .source = (char *)"/from/here",
                                        .training = (char *)"{\"epochs\":3}",
                                        .rank = 16,
                                        .alpha = 0.1,
                                        .size_bytes = 12};
}

/* Add from folder/source with weights `text`. */
static hs_status add_adapter(hs_registry *registry, const char *folder, const char *name,
                             const char *text, int64_t n_keep, struct hs_registry_adapter *ret_row,
                             struct hs_error *err)
{
    char *source = path_of(folder, "source");
    make_source(source, text);
    char *config = path_of(source, "adapter_config.json");
    char *weights = path_of(source, "adapter_model.safetensors");
    const struct hs_registry_adapter_file files[] = {{config, "adapter_config.json"},
                                                     {weights, "adapter_model.safetensors"}};
    const struct hs_registry_adapter_add how = {
        .files = files, .n_files = COUNT_OF(files), .replaces = n_keep > 0, .n_keep = n_keep};
    struct hs_registry_adapter row = example(name);
    hs_status status = hs_registry_adapter_add(registry, &row, &how, ret_row, err);
    hs_free(source);
    hs_free(config);
    hs_free(weights);
    return status;
}

static struct hs_registry_adapter get(hs_registry *registry, const char *name)
{
    struct hs_registry_adapter row = {0};
    struct hs_error err = {0};
    if (hs_registry_adapter_get(registry, name, &row, &err) != HS_OK)
        fail_msg("%s", err.message);
    return row;
}

static void assert_weights(const struct hs_registry_adapter *row, const char *text)
{
    char *path = path_of(row->path, "adapter_model.safetensors");
    char *data = read_file(path, NULL);
    assert_string_equal(data, text);
    hs_free(data);
    hs_free(path);
}

static size_t count_adapters(hs_registry *registry)
{
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_adapter_list(registry, &rows, &n, NULL), HS_OK);
    hs_registry_adapters_free(rows, n);
    return n;
}

static size_t count_versions(hs_registry *registry, const char *name)
{
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_adapter_history(registry, name, &rows, &n, NULL), HS_OK);
    hs_registry_adapters_free(rows, n);
    return n;
}

/* Version folders below adapters/, of all ids. */
static int count_folders(const char *folder)
{
    char command[4096], line[64];
    snprintf(command, sizeof command,
             "find '%s/adapters' -mindepth 2 -maxdepth 2 2>/dev/null | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof line, pipe));
    pclose(pipe);
    return atoi(line);
}

static void test_a_row_and_its_files(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_registry_adapter added = {0};
    int64_t before = hs_clock_unix_ms();
    struct hs_error err = {0};
    if (add_adapter(registry, *state, "poet", "one", 0, &added, &err) != HS_OK)
        fail_msg("%s", err.message);
    struct hs_registry_adapter row = get(registry, "poet");
    assert_string_equal(row.id, added.id);
    assert_int_equal(strlen(row.id), 16);
    assert_int_equal(row.version, 1);
    assert_string_equal(row.path, added.path);
    assert_string_equal(row.format, "peft");
    assert_string_equal(row.architecture, "llama");
    assert_string_equal(row.fingerprint, "f00d");
    assert_string_equal(row.model_name, "tiny");
    assert_string_equal(row.targets, "attn_q attn_v");
    assert_string_equal(row.sha256, "5a");
    assert_string_equal(row.content, "c0");
    assert_string_equal(row.source, "/from/here");
    assert_string_equal(row.training, "{\"epochs\":3}");
    assert_string_equal(row.parents, "[]");
    assert_string_equal(row.tags, "[]");
    assert_string_equal(row.description, "");
    assert_true(row.rank == 16 && row.alpha == 0.1 && row.size_bytes == 12);
    assert_true(row.created_unix_ms >= before && row.added_unix_ms == row.created_unix_ms);
    assert_true(row.used_unix_ms == 0 && row.n_uses == 0);
    assert_false(row.is_linked || row.is_missing);
    assert_weights(&row, "one");
    assert_int_equal(hs_fs_remove_all(row.path, NULL), HS_OK);
    hs_registry_adapter_free(&row);
    row = get(registry, "poet");
    assert_true(row.is_missing);
    hs_registry_adapter_free(&row);
    hs_registry_adapter_free(&added);
    hs_registry_close(registry);
}

static void test_a_gguf_is_a_file(void **state)
{
    hs_registry *registry = open_registry(*state);
    char *source = path_of(*state, "x.gguf");
    write_file(source, "GGUF", 4);
    const struct hs_registry_adapter_file file = {source, HS_REGISTRY_ADAPTER_GGUF};
    struct hs_registry_adapter_add how = {.files = &file, .n_files = 1, .n_keep = 1};
    struct hs_registry_adapter row = example("g"), got = {0};
    row.format = (char *)"gguf";
    assert_int_equal(hs_registry_adapter_add(registry, &row, &how, &got, NULL), HS_OK);
    char *data = read_file(got.path, NULL);
    assert_string_equal(data, "GGUF");
    assert_string_equal(strrchr(got.path, '/'), "/adapter.gguf");
    hs_free(data);
    hs_registry_adapter_free(&got);

    /* linked: the file stays where it is, and goes on being there */
    how = (struct hs_registry_adapter_add){.n_keep = 1};
    row.name = (char *)"linked";
    row.path = source;
    assert_int_equal(hs_registry_adapter_add(registry, &row, &how, &got, NULL), HS_OK);
    assert_true(got.is_linked && !got.is_missing);
    assert_string_equal(got.path, source);
    assert_int_equal(hs_registry_adapter_remove(registry, "linked", NULL), HS_OK);
    assert_true(is_there(source));
    hs_registry_adapter_free(&got);
    hs_registry_close(registry);
    hs_free(source);
}

static void test_versions(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    assert_int_equal(add_adapter(registry, *state, "a", "one", 0, NULL, &err), HS_OK);
    assert_int_equal(
        hs_registry_adapter_describe(registry, "a", "what it is", "[\"t\"]", NULL, NULL), HS_OK);
    assert_int_equal(hs_registry_adapter_count(registry, "a", 2, 30, 99, NULL), HS_OK);
    assert_int_equal(add_adapter(registry, *state, "a", "two", 0, NULL, &err), HS_ALREADY_EXISTS);
    assert_non_null(strstr(err.hint, "--replace"));
    struct hs_registry_adapter first = get(registry, "a");
    for (int i = 2; i <= 4; i++) {
        char text[16];
        snprintf(text, sizeof text, "v%d", i);
        assert_int_equal(add_adapter(registry, *state, "a", text, 3, NULL, &err), HS_OK);
    }
    struct hs_registry_adapter row = get(registry, "a");
    assert_int_equal(row.version, 4);
    assert_string_equal(row.id, first.id);
    assert_true(row.added_unix_ms == first.added_unix_ms);
    assert_string_equal(row.description, "what it is"); /* the adapter's, not the version's */
    assert_string_equal(row.tags, "[\"t\"]");
    assert_true(row.n_uses == 2 && row.used_ms == 30 && row.used_unix_ms == 99);
    assert_weights(&row, "v4");
    assert_int_equal(count_adapters(registry), 1);

    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_adapter_history(registry, "a", &rows, &n, NULL), HS_OK);
    assert_int_equal(n, 3); /* the first one made room */
    for (size_t i = 0; i < n; i++)
        assert_int_equal(rows[i].version, 4 - i);
    assert_weights(&rows[2], "v2");
    assert_true(!is_there(first.path));
    hs_registry_adapters_free(rows, n);
    assert_int_equal(count_folders(*state), 3);
    assert_int_equal(add_adapter(registry, *state, "a", "v5", 1, NULL, &err), HS_OK);
    assert_int_equal(count_folders(*state), 1);
    hs_registry_adapter_free(&row);
    hs_registry_adapter_free(&first);
    hs_registry_close(registry);
}

static void test_names(void **state)
{
    static const char *const BAD[] = {"", ".a", "a b", "a/b", "a:b", "a+b", "\xc3\xa9"};
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    for (size_t i = 0; i < COUNT_OF(BAD); i++)
        assert_int_equal(add_adapter(registry, *state, BAD[i], "x", 0, NULL, &err),
                         HS_INVALID_ARGUMENT);
    char name[HS_REGISTRY_ADAPTER_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[HS_REGISTRY_ADAPTER_NAME_MAX + 1] = 0;
    assert_int_equal(add_adapter(registry, *state, name, "x", 0, NULL, &err), HS_INVALID_ARGUMENT);
    name[HS_REGISTRY_ADAPTER_NAME_MAX] = 0;
    assert_int_equal(add_adapter(registry, *state, name, "x", 0, NULL, &err), HS_OK);
    assert_int_equal(add_adapter(registry, *state, "b", "x", 0, NULL, &err), HS_OK);
    assert_int_equal(hs_registry_adapter_rename(registry, "none", "c", &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_adapter_rename(registry, "b", name, &err), HS_ALREADY_EXISTS);
    assert_int_equal(hs_registry_adapter_rename(registry, "b", "a b", &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_registry_adapter_rename(registry, "b", "b", &err), HS_OK);
    assert_int_equal(hs_registry_adapter_rename(registry, "b", "c", &err), HS_OK);
    assert_int_equal(hs_registry_adapter_get(registry, "b", NULL, &err), HS_NOT_FOUND);
    struct hs_registry_adapter row = get(registry, "c");
    assert_weights(&row, "x");
    hs_registry_adapter_free(&row);
    assert_int_equal(hs_registry_adapter_describe(registry, "b", "x", NULL, NULL, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_registry_adapter_history(registry, "b", NULL, NULL, &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_adapter_remove(registry, "b", &err), HS_NOT_FOUND);
    assert_int_equal(hs_registry_adapter_remove(registry, "c", &err), HS_OK);
    assert_int_equal(hs_registry_adapter_count(registry, "c", 1, 1, 1, &err), HS_OK);
    assert_int_equal(count_adapters(registry), 1);
    assert_int_equal(count_folders(*state), 1);
    hs_registry_close(registry);
}

static void test_a_source_that_fails_leaves_nothing(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    char *missing = path_of(*state, "missing");
    const struct hs_registry_adapter_file files[] = {{missing, "a"}};
    const struct hs_registry_adapter_add how = {.files = files, .n_files = 1, .n_keep = 1};
    struct hs_registry_adapter row = example("a");
    assert_int_equal(hs_registry_adapter_add(registry, &row, &how, NULL, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, missing));
    assert_int_equal(count_adapters(registry), 0);
    assert_int_equal(count_folders(*state), 0);
    hs_registry_close(registry);
    hs_free(missing);
}

/* ---- the registry made anew ---- */

static void test_a_registry_without_adapters_gets_them(void **state)
{
    char sql[4096];
    snprintf(sql, sizeof sql,
             "PRAGMA journal_mode = WAL; BEGIN; %s PRAGMA application_id = %d; "
             "PRAGMA user_version = 1; INSERT INTO sessions VALUES ('s', 'm', 'f', 1, 2, 3, 4); "
             "COMMIT",
             HS_REGISTRY_STEPS[0], HS_REGISTRY_APPLICATION_ID);
    run_sql(*state, sql);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 1);
    assert_int_equal(count_adapters(registry), 0);
    assert_int_equal(add_adapter(registry, *state, "a", "one", 0, NULL, NULL), HS_OK);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA user_version", "2");
}

static void lose_registry(const char *folder)
{
    char command[4096];
    snprintf(command, sizeof command, "rm -f '%s'/registry.*", folder);
    assert_int_equal(system(command), 0);
}

static void test_the_folders_are_the_truth(void **state)
{
    hs_registry *registry = open_registry(*state);
    struct hs_error err = {0};
    assert_int_equal(add_adapter(registry, *state, "a", "one", 0, NULL, &err), HS_OK);
    assert_int_equal(add_adapter(registry, *state, "a", "two", 5, NULL, &err), HS_OK);
    assert_int_equal(add_adapter(registry, *state, "b", "bee", 0, NULL, &err), HS_OK);
    assert_int_equal(hs_registry_adapter_describe(registry, "a", "d", "[\"x\"]", "[\"hi\"]", NULL),
                     HS_OK);
    assert_int_equal(hs_registry_adapter_rename(registry, "a", "new-name", NULL), HS_OK);
    struct hs_registry_adapter a = get(registry, "new-name");
    hs_registry_close(registry);
    lose_registry(*state);
    registry = open_registry(*state);
    assert_int_equal(count_adapters(registry), 2);
    assert_int_equal(count_versions(registry, "new-name"), 2);
    struct hs_registry_adapter row = get(registry, "new-name");
    assert_int_equal(row.version, 2);
    assert_string_equal(row.id, a.id);
    assert_string_equal(row.path, a.path);
    assert_string_equal(row.description, "d");
    assert_string_equal(row.tags, "[\"x\"]");
    assert_string_equal(row.examples, "[\"hi\"]");
    assert_true(row.alpha == 0.1 && row.added_unix_ms == a.added_unix_ms);
    assert_weights(&row, "two");
    hs_registry_adapter_free(&row);
    hs_registry_adapter_free(&a);
    hs_registry_close(registry);
}

static const char *const DAMAGE[] = {
    "",
    "{",
    "[]",
    "{\"format_name\":\"hyprstream-session\"}",
    "{\"format_name\":\"hyprstream-adapter\"}",
    "{\"format_name\":\"hyprstream-adapter\",\"format_version\":2}",
    "{\"format_name\":\"hyprstream-adapter\",\"format_version\":1,"
    "\"alpha\":1,\"is_linked\":false}",
    "{\"format_name\":\"hyprstream-adapter\",\"format_version\":1,"
    "\"alpha\":1,\"is_linked\":false,\"version\":-1}"};

static void test_damaged_descriptions_are_left_out(void **state)
{
    struct warnings warnings = {0};
    hs_registry *registry = open_registry(*state);
    assert_int_equal(add_adapter(registry, *state, "a", "one", 0, NULL, NULL), HS_OK);
    assert_int_equal(add_adapter(registry, *state, "b", "two", 0, NULL, NULL), HS_OK);
    struct hs_registry_adapter a = get(registry, "a");
    hs_registry_close(registry);
    char *path = path_of(a.path, "adapter.json");
    char *whole = read_file(path, NULL);
    hs_log_set_sink(keep_warning, &warnings);
    for (size_t i = 0; i < COUNT_OF(DAMAGE); i++) {
        warnings.n = 0;
        write_file(path, DAMAGE[i], strlen(DAMAGE[i]));
        lose_registry(*state);
        registry = open_registry(*state);
        assert_int_equal(count_adapters(registry), 1);
        assert_int_equal(warnings.n, 1);
        assert_non_null(strstr(warnings.last, path));
        assert_weights(&a, "one"); /* what cannot be read is not touched */
        hs_registry_close(registry);
    }
    hs_log_set_sink(NULL, NULL);
    /* of another folder */
    char *other = hs_strdup(whole);
    char *at = other == NULL ? NULL : strstr(other, a.id);
    assert_non_null(at);
    *at = *at == '0' ? '1' : '0';
    write_file(path, other, strlen(other));
    lose_registry(*state);
    registry = open_registry(*state);
    assert_int_equal(count_adapters(registry), 1);
    hs_registry_close(registry);
    hs_free(other);
    hs_free(whole);
    hs_free(path);
    hs_registry_adapter_free(&a);
}

/* As a rename that was killed before its adapter.json leaves it. */
static void test_two_of_one_name_both_stay(void **state)
{
    hs_registry *registry = open_registry(*state);
    assert_int_equal(add_adapter(registry, *state, "a", "one", 0, NULL, NULL), HS_OK);
    struct hs_registry_adapter a = get(registry, "a");
    char *path = path_of(a.path, "adapter.json");
    char *before = read_file(path, NULL);
    assert_int_equal(hs_registry_adapter_rename(registry, "a", "b", NULL), HS_OK);
    assert_int_equal(add_adapter(registry, *state, "a", "two", 0, NULL, NULL), HS_OK);
    hs_registry_close(registry);
    write_file(path, before, strlen(before));
    lose_registry(*state);
    registry = open_registry(*state);
    assert_int_equal(count_adapters(registry), 2);
    hs_registry_close(registry);
    hs_free(before);
    hs_free(path);
    hs_registry_adapter_free(&a);
}

/* ---- kills and failures ---- */

/* Every adapter is whole: its row, its files, its seal; and nothing else lies there once a change
 * has swept. */
static void check_whole(const char *folder)
{
    hs_registry *registry = open_registry(folder);
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0, n_versions = 0;
    hs_status status = hs_registry_adapter_remove(registry, "nobody", NULL); /* sweeps */
    assert_int_equal(status, HS_NOT_FOUND);
    assert_int_equal(hs_registry_adapter_list(registry, &rows, &n, NULL), HS_OK);
    for (size_t i = 0; i < n; i++) {
        struct hs_registry_adapter *versions = NULL;
        size_t n_of_it = 0;
        assert_int_equal(
            hs_registry_adapter_history(registry, rows[i].name, &versions, &n_of_it, NULL), HS_OK);
        for (size_t v = 0; v < n_of_it; v++) {
            char *sealed = path_of(versions[v].path, "adapter.json");
            assert_true(is_there(sealed));
            assert_false(versions[v].is_missing);
            assert_weights(&versions[v], "weights");
            hs_free(sealed);
        }
        n_versions += n_of_it;
        hs_registry_adapters_free(versions, n_of_it);
    }
    hs_registry_adapters_free(rows, n);
    hs_registry_close(registry);
    assert_int_equal(count_folders(folder), n_versions);
}

static int change_for_ever(void *user)
{
    hs_registry *registry = NULL;
    const char *folder = user;
    char own[128], name[32];
    snprintf(own, sizeof own, "own-%ld", (long)getpid());
    char *source = path_of(folder, own);
    if (hs_fs_mkdir_p(source, NULL) != HS_OK || try_registry(folder, &registry, NULL) != HS_OK)
        return 1;
    for (int i = 0;; i++) {
        snprintf(name, sizeof name, "n%d", i % 3);
        char *path = path_of(source, "w");
        write_file(path, "weights", 7);
        const struct hs_registry_adapter_file file = {path, "adapter_model.safetensors"};
        const struct hs_registry_adapter_add how = {
            .files = &file, .n_files = 1, .replaces = true, .n_keep = 2};
        struct hs_registry_adapter row = example(name);
        hs_status status = hs_registry_adapter_add(registry, &row, &how, NULL, NULL);
        if (status == HS_OK && i % 4 == 3)
            status = hs_registry_adapter_remove(registry, name, NULL);
        hs_free(path);
        if (status != HS_OK && status != HS_NOT_FOUND)
            return 2;
    }
}

static void test_killed_at_any_moment(void **state)
{
    uint64_t seed = 11;
    int n_rounds = kill_rounds(40);
    hs_registry_close(open_registry(*state));
    for (int i = 0; i < n_rounds; i++) {
        pid_t pids[2];
        for (size_t p = 0; p < COUNT_OF(pids); p++)
            pids[p] = child_start(change_for_ever, *state);
        usleep(10000 + next_random(&seed) % 40000);
        for (size_t p = 0; p < COUNT_OF(pids); p++)
            child_kill(pids[p]);
        check_whole(*state);
    }
}

static int add_twenty(void *user)
{
    hs_registry *registry = NULL;
    const char *folder = user;
    char own[64];
    snprintf(own, sizeof own, "p%ld", (long)getpid());
    char *mine = path_of(folder, own);
    if (try_registry(folder, &registry, NULL) != HS_OK)
        return 1;
    char *path = path_of(folder, own);
    write_file(path, "weights", 7);
    for (int i = 0; i < 20; i++) {
        const struct hs_registry_adapter_file file = {path, "adapter_model.safetensors"};
        const struct hs_registry_adapter_add how = {
            .files = &file, .n_files = 1, .replaces = true, .n_keep = 1000};
        struct hs_registry_adapter row = example("shared");
        if (hs_registry_adapter_add(registry, &row, &how, NULL, NULL) != HS_OK)
            return 2;
    }
    hs_registry_close(registry);
    hs_free(path);
    hs_free(mine);
    return 0;
}

static void test_several_processes(void **state)
{
    pid_t pids[3];
    hs_registry *registry = open_registry(*state);
    int64_t before = 0, after = 0;
    assert_int_equal(hs_registry_stamp(registry, &before, NULL), HS_OK);
    assert_int_equal(hs_registry_stamp(registry, &after, NULL), HS_OK);
    assert_true(before == after);
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        pids[i] = child_start(add_twenty, *state);
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        child_expect_success(pids[i]);
    assert_int_equal(count_versions(registry, "shared"), 60); /* none lost, none twice */
    assert_int_equal(hs_registry_stamp(registry, &after, NULL), HS_OK);
    assert_true(before != after);
    hs_registry_close(registry);
    check_whole(*state);
}

static void test_without_memory(void **state)
{
    hs_registry *registry = open_registry(*state);
    hs_status status = HS_OK;
    char *source = path_of(*state, "source");
    make_source(source, "weights");
    char *weights = path_of(source, "adapter_model.safetensors");
    const struct hs_registry_adapter_file file = {weights, "adapter_model.safetensors"};
    const struct hs_registry_adapter_add how = {
        .files = &file, .n_files = 1, .replaces = true, .n_keep = 2};
    struct hs_registry_adapter row = example("a");
    struct warnings warnings = {0};
    hs_log_set_sink(keep_warning, &warnings); /* what is left to the next change is told */
    WITH_EVERY_ALLOCATION_FAILING(
        status, status = hs_registry_adapter_add(registry, &row, &how, NULL, NULL),
        assert_true(count_folders(*state) >= (int)count_adapters(registry)));
    WITH_EVERY_ALLOCATION_FAILING(
        status, status = hs_registry_adapter_describe(registry, "a", "d", "[]", "[]", NULL),
        assert_int_equal(count_adapters(registry), 1));
    WITH_EVERY_ALLOCATION_FAILING(
        status,
        {
            struct hs_registry_adapter *rows = NULL;
            size_t n = 0;
            status = hs_registry_adapter_history(registry, "a", &rows, &n, NULL);
            hs_registry_adapters_free(rows, n);
        },
        assert_int_equal(count_adapters(registry), 1));
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    WITH_EVERY_ALLOCATION_FAILING(
        status,
        {
            status = hs_adapter_store_scan(registry->adapters_dir, &rows, &n, NULL);
            if (status == HS_OK)
                hs_registry_adapters_free(rows, n);
        },
        assert_int_equal(count_adapters(registry), 1));
    hs_log_set_sink(NULL, NULL);
    hs_registry_close(registry);
    check_whole(*state);
    hs_free(weights);
    hs_free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_row_and_its_files),
        TEST(test_a_gguf_is_a_file),
        TEST(test_versions),
        TEST(test_names),
        TEST(test_a_source_that_fails_leaves_nothing),
        TEST(test_a_registry_without_adapters_gets_them),
        TEST(test_the_folders_are_the_truth),
        TEST(test_damaged_descriptions_are_left_out),
        TEST(test_two_of_one_name_both_stay),
        TEST(test_killed_at_any_moment),
        TEST(test_several_processes),
        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
