/* Sessions in their folders: locks, replacement, damage, listing and removal. */
#include "store_test.h"

#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "storage/session_store.h"

/* ---- a small session ---- */

static struct hs_message MESSAGES[] = {{.role = "user", .content = "Hello"},
                                       {.role = "assistant", .content = "Hi!"}};

static struct hs_session_record small_record(const char *model)
{
    return (struct hs_session_record){.model_name = (char *)model,
                                      .fingerprint = (char *)"f1",
                                      .messages = MESSAGES,
                                      .n_messages = COUNT_OF(MESSAGES),
                                      .created_unix_ms = 1,
                                      .updated_unix_ms = 2};
}

static hs_session_file *open_session(const char *folder, const char *name, bool create)
{
    hs_session_file *file = NULL;
    struct hs_error err = {0};
    if (hs_session_file_open(folder, name, create, &file, &err) != HS_OK)
        fail_msg("%s", err.message);
    return file;
}

static void save_model(hs_session_file *file, const char *model)
{
    struct hs_session_record record = small_record(model);
    struct hs_error err = {0};
    if (hs_session_file_save(file, &record, &err) != HS_OK)
        fail_msg("%s", err.message);
}

static void assert_model(const char *folder, const char *name, const char *model)
{
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    if (hs_session_store_read(folder, name, &record, NULL, &err) != HS_OK)
        fail_msg("%s", err.message);
    assert_string_equal(record.model_name, model);
    assert_int_equal(record.n_messages, COUNT_OF(MESSAGES));
    assert_string_equal(record.messages[1].content, "Hi!");
    hs_session_record_free(&record);
}

static void make_session(const char *folder, const char *name, const char *model)
{
    hs_session_file *file = open_session(folder, name, true);
    save_model(file, model);
    hs_session_file_close(file);
}

static uint8_t STATE[100000];
static int32_t TOKENS[300];

static struct hs_session_kv small_kv(size_t state_len)
{
    for (size_t i = 0; i < sizeof STATE; i++)
        STATE[i] = (uint8_t)(i * i >> 3);
    for (size_t i = 0; i < COUNT_OF(TOKENS); i++)
        TOKENS[i] = (int32_t)(7 * i);
    return (struct hs_session_kv){.fingerprint = "f1",
                                  .cache_key = "k",
                                  .tokens = TOKENS,
                                  .n_tokens = COUNT_OF(TOKENS),
                                  .state = STATE,
                                  .state_len = state_len};
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    char name[67];
    memset(name, 'a', sizeof name);
    name[64] = 0;
    assert_true(hs_session_name_ok(name));
    name[64] = 'a';
    name[65] = 0;
    assert_false(hs_session_name_ok(name));
    static const char *const GOOD[] = {"a", "A-b_c.9", "-", "_", "a.", "a..b", "session.json"};
    static const char *const BAD[] = {"",
                                      ".",
                                      "..",
                                      ".a",
                                      "a/b",
                                      "/",
                                      "a b",
                                      "a\n",
                                      "caf\xc3\xa9",
                                      "a:b",
                                      "a\\b",
                                      "*",
                                      "../../etc/passwd"};
    for (size_t i = 0; i < COUNT_OF(GOOD); i++)
        assert_true(hs_session_name_ok(GOOD[i]));
    for (size_t i = 0; i < COUNT_OF(BAD); i++)
        assert_false(hs_session_name_ok(BAD[i]));
    struct hs_error err;
    assert_int_equal(hs_session_name_check(GOOD[0], &err), HS_OK);
    assert_int_equal(hs_session_name_check(BAD[0], &err), HS_INVALID_ARGUMENT);
    assert_true(err.message[0] != 0 && strstr(err.hint, "64") != NULL);
}

static void test_bad_names_are_refused_everywhere(void **state)
{
    static char long_name[100000];
    memset(long_name, 'x', sizeof long_name - 1);
    const char *const names[] = {"../x", "", long_name};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        hs_session_file *file = NULL;
        struct hs_session_record record = {0};
        struct hs_error err = {0};
        assert_int_equal(hs_session_file_open(*state, names[i], true, &file, &err),
                         HS_INVALID_ARGUMENT);
        assert_true(err.hint[0] != 0);
        assert_int_equal(hs_session_store_read(*state, names[i], &record, NULL, NULL),
                         HS_INVALID_ARGUMENT);
        assert_int_equal(hs_session_store_remove(*state, names[i], NULL), HS_INVALID_ARGUMENT);
    }
}

/* ---- making, saving, loading ---- */

static void test_a_session_goes_on(void **state)
{
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    char *folder = path_of(*state, "not/yet/there");
    hs_session_file *file = open_session(folder, "s", true);
    assert_int_equal(hs_session_file_load(file, &record, &err), HS_NOT_FOUND);
    save_model(file, "one");
    save_model(file, "two");
    assert_int_equal(hs_session_file_load(file, &record, NULL), HS_OK);
    assert_string_equal(record.model_name, "two");
    hs_session_record_free(&record);
    hs_session_file_close(file);

    file = open_session(folder, "s", false);
    assert_int_equal(hs_session_file_load(file, &record, NULL), HS_OK);
    assert_string_equal(record.model_name, "two");
    assert_string_equal(record.messages[0].role, "user");
    hs_session_record_free(&record);
    hs_session_file_close(file);
    hs_free(folder);
}

static void test_files_are_private(void **state)
{
    make_session(*state, "s", "m");
    struct stat info;
    char *path = path_of(*state, "s/session.json");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    hs_free(path);
    path = path_of(*state, "s");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    hs_free(path);
}

static void test_not_there(void **state)
{
    hs_session_file *file = NULL;
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    assert_int_equal(hs_session_file_open(*state, "no", false, &file, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "'no'"));
    assert_true(err.hint[0] != 0);
    assert_int_equal(hs_session_store_read(*state, "no", &record, NULL, &err), HS_NOT_FOUND);
    assert_int_equal(hs_session_store_remove(*state, "no", &err), HS_NOT_FOUND);
    char *path = path_of(*state, "no");
    assert_false(is_there(path));
    hs_free(path);
}

static void test_a_session_never_saved_leaves_nothing(void **state)
{
    hs_session_file *file = open_session(*state, "s", true), *second = NULL;
    char *path = path_of(*state, "s");
    assert_true(is_there(path));
    hs_session_file_close(file);
    assert_false(is_there(path));
    hs_session_file_close(NULL);
    /* a folder that holds something else is no session either, and stays */
    assert_int_equal(mkdir(path, 0700), 0);
    char *notes = path_of(path, "notes.txt");
    write_file(notes, "x", 1);
    assert_int_equal(hs_session_file_open(*state, "s", false, &second, NULL), HS_NOT_FOUND);
    assert_true(is_there(notes));
    hs_free(notes);
    hs_free(path);
}

static void test_a_file_where_the_folder_should_be(void **state)
{
    hs_session_file *file = NULL;
    struct hs_error err = {0};
    char *path = path_of(*state, "s");
    write_file(path, "x", 1);
    assert_int_not_equal(hs_session_file_open(*state, "s", true, &file, &err), HS_OK);
    assert_non_null(strstr(err.message, path));
    assert_int_not_equal(hs_session_file_open(*state, "s", false, &file, &err), HS_OK);
    hs_free(path);
}

/* ---- the lock ---- */

static void test_second_opener_is_told_who_has_it(void **state)
{
    char mine[32];
    snprintf(mine, sizeof mine, "process %ld", (long)getpid());
    hs_session_file *first = open_session(*state, "talk", true), *second = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_session_file_open(*state, "talk", true, &second, &err), HS_BUSY);
    assert_non_null(strstr(err.message, "'talk'"));
    assert_non_null(strstr(err.message, mine));
    assert_true(err.hint[0] != 0);
    save_model(first, "m");
    assert_int_equal(hs_session_file_open(*state, "talk", false, &second, &err), HS_BUSY);
    assert_int_equal(hs_session_store_remove(*state, "talk", &err), HS_BUSY);
    assert_non_null(strstr(err.message, mine));
    assert_model(*state, "talk", "m"); /* reading needs no lock */
    hs_session_file_close(first);
    second = open_session(*state, "talk", false);
    hs_session_file_close(second);
}

struct holder {
    const char *folder;
    int ready;
};

static int hold_lock(void *user)
{
    const struct holder *holder = user;
    hs_session_file *file = NULL;
    if (hs_session_file_open(holder->folder, "s", true, &file, NULL) != HS_OK)
        return 1;
    if (write(holder->ready, "x", 1) != 1)
        return 2;
    for (;;)
        pause();
}

static void test_a_killed_holder_frees_the_lock(void **state)
{
    int ready[2];
    char byte, expected[32];
    struct hs_error err = {0};
    hs_session_file *file = NULL;
    assert_int_equal(pipe(ready), 0);
    struct holder holder = {.folder = *state, .ready = ready[1]};
    pid_t pid = child_start(hold_lock, &holder);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(hs_session_file_open(*state, "s", true, &file, &err), HS_BUSY);
    snprintf(expected, sizeof expected, "process %ld", (long)pid);
    assert_non_null(strstr(err.message, expected));
    child_kill(pid);
    file = open_session(*state, "s", true);
    hs_session_file_close(file);
    close(ready[0]);
    close(ready[1]);
}

static void test_a_strange_lock_file(void **state)
{
    static const char *const TEXTS[] = {"", "no number", "123456789012345678901234567890", "12\n"};
    char *path = path_of(*state, "s");
    assert_int_equal(mkdir(path, 0700), 0);
    char *lock = path_of(path, "lock");
    for (size_t i = 0; i < COUNT_OF(TEXTS); i++) {
        write_file(lock, TEXTS[i], strlen(TEXTS[i]));
        hs_session_file *file = open_session(*state, "s", true), *second = NULL;
        struct hs_error err = {0};
        /* somebody overwrites it while it is held */
        write_file(lock, TEXTS[i], strlen(TEXTS[i]));
        assert_int_equal(hs_session_file_open(*state, "s", true, &second, &err), HS_BUSY);
        assert_non_null(strstr(err.message, i < 2 ? "another process" : "process 12"));
        save_model(file, "m");
        hs_session_file_close(file);
    }
    /* a link must not make us lock, or write into, a file elsewhere */
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(symlink("session.json", lock), 0);
    hs_session_file *file = NULL;
    assert_int_not_equal(hs_session_file_open(*state, "s", true, &file, NULL), HS_OK);
    assert_model(*state, "s", "m");
    hs_free(lock);
    hs_free(path);
}

/* Many processes make, save and remove the same session: one at a time has it, nothing breaks. */
struct contest {
    const char *folder;
    int counter; /* a file: the holder alone may see and leave it at an even number */
};

static int contend(void *user)
{
    const struct contest *contest = user;
    for (int i = 0; i < 60; i++) {
        hs_session_file *file = NULL;
        struct hs_error err = {0};
        hs_status status = HS_BUSY;
        while (status == HS_BUSY)
            status = hs_session_file_open(contest->folder, "s", true, &file, &err);
        if (status != HS_OK)
            return 1;
        char mark = 0;
        if (pread(contest->counter, &mark, 1, 0) != 1 || mark != '-')
            return 2;
        if (pwrite(contest->counter, "+", 1, 0) != 1)
            return 3;
        struct hs_session_record record = small_record("m");
        if (i % 3 == 0 && hs_session_file_save(file, &record, &err) != HS_OK)
            return 4;
        if (pwrite(contest->counter, "-", 1, 0) != 1)
            return 5;
        hs_session_file_close(file);
        if (i % 5 == 0) {
            status = hs_session_store_remove(contest->folder, "s", &err);
            if (status != HS_OK && status != HS_BUSY && status != HS_NOT_FOUND)
                return 6;
        }
    }
    return 0;
}

static void test_only_one_has_it(void **state)
{
    char *path = path_of(*state, "mark");
    write_file(path, "-", 1);
    struct contest contest = {.folder = *state, .counter = open(path, O_RDWR)};
    assert_true(contest.counter >= 0);
    pid_t pids[4];
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        pids[i] = child_start(contend, &contest);
    for (size_t i = 0; i < COUNT_OF(pids); i++)
        child_expect_success(pids[i]);
    close(contest.counter);
    hs_free(path);
}

/* ---- damage ---- */

/* How many files of the session's folder begin with `prefix`; the last one's path in ret_path. */
static int count_files(const char *folder, const char *session, const char *prefix, char **ret_path)
{
    char command[4096], line[4096];
    int n = 0;
    snprintf(command, sizeof command, "ls -A '%s/%s'", folder, session);
    FILE *list = popen(command, "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, prefix, strlen(prefix)) != 0)
            continue;
        n++;
        if (ret_path != NULL) {
            hs_free(*ret_path);
            *ret_path = hs_asprintf("%s/%s/%s", folder, session, line);
        }
    }
    pclose(list);
    return n;
}

static void test_damaged_text_is_reported_and_kept(void **state)
{
    static const char DAMAGE[] = "{\"format\":\"hyprstream-session\",\"ver";
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    hs_log_set_level(HS_LOG_OFF);
    make_session(*state, "s", "m");
    char *path = path_of(*state, "s/session.json");
    write_file(path, DAMAGE, sizeof DAMAGE - 1);

    assert_int_equal(hs_session_store_read(*state, "s", &record, NULL, &err), HS_CORRUPT);
    assert_non_null(strstr(err.message, "'s'"));
    hs_session_file *file = open_session(*state, "s", true);
    assert_int_equal(hs_session_file_load(file, &record, &err), HS_CORRUPT);
    assert_non_null(strstr(err.message, "'s'"));
    assert_non_null(strstr(err.hint, "session rm"));
    struct hs_session_record other = small_record("other");
    assert_int_equal(hs_session_file_save(file, &other, &err), HS_CORRUPT);
    assert_non_null(strstr(err.hint, "session rm"));
    hs_session_file_close(file);
    file = open_session(*state, "s", false); /* not even asked to read it */
    assert_int_equal(hs_session_file_save(file, &other, &err), HS_CORRUPT);
    hs_session_file_close(file);
    /* nobody touched it */
    assert_int_equal(count_files(*state, "s", "session.json", NULL), 1);
    size_t len = 0;
    char *kept = read_file(path, &len);
    assert_int_equal(len, sizeof DAMAGE - 1);
    assert_memory_equal(kept, DAMAGE, len);
    hs_free(kept);
    hs_free(path);
    /* and what the hint says helps */
    assert_int_equal(hs_session_store_remove(*state, "s", NULL), HS_OK);
    make_session(*state, "s", "new");
    assert_model(*state, "s", "new");
    hs_log_set_level(HS_LOG_WARN);
}

static void test_newer_text_is_never_replaced(void **state)
{
    static const char NEWER[] = "{\"format\":\"hyprstream-session\",\"version\":3}";
    struct hs_session_record record = small_record("m"), back = {0};
    struct hs_error err = {0};
    make_session(*state, "s", "m");
    char *path = path_of(*state, "s/session.json");
    write_file(path, NEWER, sizeof NEWER - 1);
    hs_session_file *file = open_session(*state, "s", true);
    assert_int_equal(hs_session_file_load(file, &back, &err), HS_UNSUPPORTED_VERSION);
    assert_int_equal(hs_session_file_save(file, &record, &err), HS_UNSUPPORTED_VERSION);
    assert_true(err.message[0] != 0 && err.hint[0] != 0);
    hs_session_file_close(file);
    char *kept = read_file(path, NULL);
    assert_string_equal(kept, NEWER);
    hs_free(kept);
    hs_free(path);
}

static void test_text_at_its_limit(void **state)
{
    struct hs_session_record record = {0};
    make_session(*state, "s", "m");
    char *path = path_of(*state, "s/session.json");
    assert_int_equal(truncate(path, (off_t)HS_SESSION_MAX_JSON + 1), 0);
    assert_int_equal(hs_session_store_read(*state, "s", &record, NULL, NULL), HS_LIMIT);
    assert_int_equal(truncate(path, (off_t)HS_SESSION_MAX_JSON), 0); /* zeros follow the text */
    assert_int_equal(hs_session_store_read(*state, "s", &record, NULL, NULL), HS_CORRUPT);
    hs_free(path);
}

static void test_text_that_is_no_file(void **state)
{
    struct hs_session_record record = {0};
    make_session(*state, "s", "m");
    char *path = path_of(*state, "s/session.json");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* reading it would wait for ever */
    assert_int_equal(hs_session_store_read(*state, "s", &record, NULL, NULL), HS_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(hs_session_store_read(*state, "s", &record, NULL, NULL), HS_CORRUPT);
    assert_int_equal(hs_session_store_remove(*state, "s", NULL), HS_IS_DIRECTORY);
    hs_free(path);
}

/* ---- KV state ---- */

static void test_kv_comes_back(void **state)
{
    hs_session_file *file = open_session(*state, "s", true);
    struct hs_session_kv kv = small_kv(sizeof STATE), back = {0};
    struct hs_error err = {0};
    assert_int_equal(hs_session_file_load_kv(file, &back, &err), HS_NOT_FOUND);
    assert_int_equal(hs_session_file_drop_kv(file, &err), HS_OK);
    assert_int_equal(hs_session_file_save_kv(file, &kv, NULL), HS_OK);
    assert_int_equal(hs_session_file_load_kv(file, &back, NULL), HS_OK);
    assert_string_equal(back.fingerprint, "f1");
    assert_string_equal(back.cache_key, "k");
    assert_int_equal(back.n_tokens, COUNT_OF(TOKENS));
    assert_memory_equal(back.tokens, TOKENS, sizeof TOKENS);
    assert_int_equal(back.state_len, sizeof STATE);
    assert_memory_equal(back.state, STATE, sizeof STATE);
    hs_session_kv_free(&back);
    assert_int_equal(hs_session_file_drop_kv(file, NULL), HS_OK);
    assert_int_equal(hs_session_file_load_kv(file, &back, NULL), HS_NOT_FOUND);
    hs_session_file_close(file);
}

static void test_kv_larger_than_its_buffer(void **state)
{
    size_t len = ((size_t)5 << 20) + 3;
    uint8_t *bytes = malloc(len);
    uint64_t seed = 5;
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)next_random(&seed);
    struct hs_session_kv kv = small_kv(0), back = {0};
    kv.state = bytes;
    kv.state_len = len;
    hs_session_file *file = open_session(*state, "s", true);
    assert_int_equal(hs_session_file_save_kv(file, &kv, NULL), HS_OK);
    assert_int_equal(hs_session_file_load_kv(file, &back, NULL), HS_OK);
    assert_int_equal(back.state_len, len);
    assert_memory_equal(back.state, bytes, len);
    hs_session_kv_free(&back);
    hs_session_file_close(file);
    free(bytes);
}

static void test_damaged_kv(void **state)
{
    make_session(*state, "s", "m");
    hs_session_file *file = open_session(*state, "s", false);
    struct hs_session_kv kv = small_kv(1000), back = {0};
    struct hs_error err = {0};
    char *path = path_of(*state, "s/kv.bin");
    assert_int_equal(hs_session_file_save_kv(file, &kv, NULL), HS_OK);
    assert_int_equal(truncate(path, 1500), 0);
    assert_int_equal(hs_session_file_load_kv(file, &back, &err), HS_CORRUPT);
    assert_non_null(strstr(err.message, "'s'"));
    assert_true(err.hint[0] != 0);
    /* a new one takes its place */
    assert_int_equal(hs_session_file_save_kv(file, &kv, NULL), HS_OK);
    assert_int_equal(hs_session_file_load_kv(file, &back, NULL), HS_OK);
    hs_session_kv_free(&back);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(hs_session_file_load_kv(file, &back, NULL), HS_CORRUPT);
    hs_session_file_close(file);
    assert_model(*state, "s", "m");
    hs_free(path);
}

static void test_leftovers_are_removed(void **state)
{
    make_session(*state, "s", "m");
    char *path = path_of(*state, "s/kv.bin.tmp");
    write_file(path, "x", 1);
    hs_session_file_close(open_session(*state, "s", false));
    assert_false(is_there(path));
    hs_free(path);
}

/* ---- the list ---- */

static void test_list(void **state)
{
    char **names = NULL;
    size_t n = 99;
    char *missing = path_of(*state, "missing");
    assert_int_equal(hs_session_store_list(missing, &names, &n, NULL), HS_OK);
    assert_int_equal(n, 0);
    hs_session_names_free(names, n);

    static const char *const MADE[] = {"b", "a", "B", "a.b", "a-b"};
    static const char *const SORTED[] = {"B", "a", "a-b", "a.b", "b"};
    for (size_t i = 0; i < COUNT_OF(MADE); i++)
        make_session(*state, MADE[i], "m");
    char *path = path_of(*state, "a file");
    write_file(path, "x", 1);
    hs_free(path);
    path = path_of(*state, "empty");
    assert_int_equal(mkdir(path, 0700), 0);
    hs_free(path);
    path = path_of(*state, ".hidden");
    assert_int_equal(mkdir(path, 0700), 0);
    hs_free(path);
    path = path_of(*state, ".hidden/session.json");
    write_file(path, "{}", 2);
    hs_free(path);
    assert_int_equal(hs_session_store_list(*state, &names, &n, NULL), HS_OK);
    assert_int_equal(n, COUNT_OF(SORTED));
    for (size_t i = 0; i < n; i++)
        assert_string_equal(names[i], SORTED[i]);
    hs_session_names_free(names, n);
    hs_free(missing);
}

static void test_list_of_many(void **state)
{
    enum { N = 100 };
    char **names = NULL;
    size_t n = 0;
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%03d", (i * 37) % N);
        make_session(*state, name, "m");
    }
    assert_int_equal(hs_session_store_list(*state, &names, &n, NULL), HS_OK);
    assert_int_equal(n, N);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%03d", i);
        assert_string_equal(names[i], name);
    }
    hs_session_names_free(names, n);
}

static void test_size_counts_both_files(void **state)
{
    hs_session_file *file = open_session(*state, "s", true);
    struct hs_session_kv kv = small_kv(1234);
    struct hs_session_record record = {0};
    uint64_t size = 0;
    struct stat info;
    char *path = path_of(*state, "s/session.json");
    save_model(file, "m");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(hs_session_store_read(*state, "s", &record, &size, NULL), HS_OK);
    assert_int_equal(size, info.st_size);
    hs_session_record_free(&record);
    assert_int_equal(hs_session_file_save_kv(file, &kv, NULL), HS_OK);
    assert_int_equal(hs_session_store_read(*state, "s", &record, &size, NULL), HS_OK);
    assert_int_equal(size, info.st_size + 224 + 4 * (int)COUNT_OF(TOKENS) + 1234 + 16);
    hs_session_record_free(&record);
    hs_session_file_close(file);
    hs_free(path);
}

static void test_remove_takes_everything(void **state)
{
    make_session(*state, "s", "m");
    char *folder = path_of(*state, "s");
    for (int i = 0; i < 300; i++) { /* more than one buffer of readdir */
        char name[64];
        snprintf(name, sizeof name, "something-else-%d", i);
        char *path = path_of(folder, name);
        write_file(path, "x", 1);
        hs_free(path);
    }
    char *inner = path_of(folder, "inner");
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_int_equal(hs_session_store_remove(*state, "s", NULL), HS_OK);
    assert_false(is_there(folder));
    assert_int_equal(hs_session_store_remove(*state, "s", NULL), HS_NOT_FOUND);
    hs_free(inner);
    hs_free(folder);
}

/* ---- when the disk says no ---- */

static int save_on_full_disk(void *user)
{
    hs_session_file *file = NULL;
    if (hs_session_file_open(user, "s", false, &file, NULL) != HS_OK)
        return 1;
    struct hs_session_kv kv = small_kv(sizeof STATE);
    struct hs_session_record record = small_record("other");
    struct hs_error err = {0};
    limit_file_size(1000);
    static char text[2000];
    memset(text, 'x', sizeof text - 1);
    struct hs_message message = {.role = "user", .content = text};
    record.messages = &message;
    record.n_messages = 1;
    if (hs_session_file_save(file, &record, &err) != HS_IO || strstr(err.message, "'s'") == NULL)
        return 2;
    if (hs_session_file_save_kv(file, &kv, &err) != HS_IO || strstr(err.message, "'s'") == NULL)
        return 3;
    hs_session_file_close(file);
    return 0;
}

static void test_full_disk_keeps_what_was_saved(void **state)
{
    make_session(*state, "s", "m");
    hs_session_file *file = open_session(*state, "s", false);
    struct hs_session_kv kv = small_kv(100), back = {0};
    assert_int_equal(hs_session_file_save_kv(file, &kv, NULL), HS_OK);
    hs_session_file_close(file);
    child_expect_success(child_start(save_on_full_disk, *state));
    assert_model(*state, "s", "m");
    file = open_session(*state, "s", false);
    assert_int_equal(hs_session_file_load_kv(file, &back, NULL), HS_OK);
    assert_int_equal(back.state_len, 100);
    hs_session_kv_free(&back);
    hs_session_file_close(file);
    assert_int_equal(count_files(*state, "s", "kv.bin", NULL), 1);
    assert_int_equal(count_files(*state, "s", ".session", NULL), 0);
    assert_int_equal(count_files(*state, "s", "session.json", NULL), 1);
}

static int open_without_permission(void *user)
{
    drop_root();
    hs_session_file *file = NULL;
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    if (hs_session_file_open(user, "new", true, &file, &err) != HS_PERMISSION_DENIED)
        return 1;
    if (hs_session_file_open(user, "s", false, &file, &err) == HS_OK || err.message[0] == 0)
        return 2;
    if (hs_session_store_read(user, "s", &record, NULL, &err) != HS_PERMISSION_DENIED)
        return 3;
    return 0;
}

static void test_no_permission(void **state)
{
    make_session(*state, "s", "m");
    assert_int_equal(chmod(*state, 0500), 0);
    child_expect_success(child_start(open_without_permission, *state));
    assert_int_equal(chmod(*state, 0700), 0);
    assert_model(*state, "s", "m");
}

/* ---- out of memory ---- */

static hs_status whole_life(const char *folder)
{
    hs_session_file *file = NULL;
    struct hs_session_record record = small_record("m"), back = {0};
    struct hs_session_kv kv = small_kv(100), kv_back = {0};
    char **names = NULL;
    size_t n = 0;
    hs_status status = hs_session_file_open(folder, "s", true, &file, NULL);
    if (status == HS_OK)
        status = hs_session_file_save(file, &record, NULL);
    if (status == HS_OK)
        status = hs_session_file_load(file, &back, NULL);
    hs_session_record_free(&back);
    if (status == HS_OK)
        status = hs_session_file_save_kv(file, &kv, NULL);
    if (status == HS_OK)
        status = hs_session_file_load_kv(file, &kv_back, NULL);
    hs_session_kv_free(&kv_back);
    hs_session_file_close(file);
    if (status == HS_OK)
        status = hs_session_store_list(folder, &names, &n, NULL);
    hs_session_names_free(names, n);
    if (status == HS_OK)
        status = hs_session_store_read(folder, "s", &back, NULL, NULL);
    hs_session_record_free(&back);
    if (status == HS_OK)
        status = hs_session_store_remove(folder, "s", NULL);
    return status;
}

static void test_out_of_memory(void **state)
{
    hs_status status = HS_OK;
    WITH_EVERY_ALLOCATION_FAILING(status, status = whole_life(*state), {
        /* whatever was there can be read and removed */
        hs_status removed = hs_session_store_remove(*state, "s", NULL);
        assert_true(removed == HS_OK || removed == HS_NOT_FOUND);
    });
}

/* Lack of memory must not be taken for damage when a session is saved anew. */
static void test_out_of_memory_is_no_damage(void **state)
{
    make_session(*state, "s", "m");
    hs_status status = HS_OK;
    hs_session_file *file = NULL;
    struct hs_session_record record = small_record("m");
    WITH_EVERY_ALLOCATION_FAILING(
        status,
        {
            file = NULL;
            status = hs_session_file_open(*state, "s", false, &file, NULL);
            if (status == HS_OK)
                status = hs_session_file_save(file, &record, NULL);
            hs_session_file_close(file);
        },
        {
            assert_model(*state, "s", "m");
            assert_int_equal(count_files(*state, "s", "session.json", NULL), 1);
        });
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        TEST(test_bad_names_are_refused_everywhere),
        TEST(test_a_session_goes_on),
        TEST(test_files_are_private),
        TEST(test_not_there),
        TEST(test_a_session_never_saved_leaves_nothing),
        TEST(test_a_file_where_the_folder_should_be),
        TEST(test_second_opener_is_told_who_has_it),
        TEST(test_a_killed_holder_frees_the_lock),
        TEST(test_a_strange_lock_file),
        TEST(test_only_one_has_it),
        TEST(test_damaged_text_is_reported_and_kept),
        TEST(test_newer_text_is_never_replaced),
        TEST(test_text_at_its_limit),
        TEST(test_text_that_is_no_file),
        TEST(test_kv_comes_back),
        TEST(test_kv_larger_than_its_buffer),
        TEST(test_damaged_kv),
        TEST(test_leftovers_are_removed),
        TEST(test_list),
        TEST(test_list_of_many),
        TEST(test_size_counts_both_files),
        TEST(test_remove_takes_everything),
        TEST(test_full_disk_keeps_what_was_saved),
        TEST(test_no_permission),
        TEST(test_out_of_memory),
        TEST(test_out_of_memory_is_no_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
