/* Tests of the atomic replacement in base/fs.h, kill -9 included. */
#include "base_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define N_KILLS 200
#define CONTENT_MAX 40000u

static char *at(void **state, const char *name)
{
    static char paths[4][600];
    static size_t next;
    char *path = paths[next++ % COUNT_OF(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", (char *)*state, name);
    return path;
}

static void check_content(const char *path, const char *wanted)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_fs_read(path, &buf, NULL), HS_OK);
    assert_string_equal(buf.data, wanted);
}

/* Entries of a folder; *ret_n_tmp of them carry a temporary name. */
static size_t count_entries(const char *folder, size_t *ret_n_tmp)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t n = 0;
    *ret_n_tmp = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            n++;
            *ret_n_tmp += entry->d_name[0] == '.' && strstr(entry->d_name, ".tmp-") != NULL;
        }
    }
    closedir(dir);
    return n;
}

static void check_only_file(void **state)
{
    size_t n_tmp;
    assert_int_equal(count_entries(*state, &n_tmp), 1);
    assert_int_equal(n_tmp, 0);
}

static void test_write(void **state)
{
    struct stat info;
    mode_t old = umask(0);
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "one", 3, 0640, NULL), HS_OK);
    check_content(at(state, "f"), "one");
    assert_int_equal(stat(at(state, "f"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "", 0, 0600, NULL), HS_OK);
    check_content(at(state, "f"), "");
    assert_int_equal(stat(at(state, "f"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    umask(old);
    check_only_file(state);
}

static void test_write_relative(void **state)
{
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(hs_fs_write_atomic("f", "here", 4, 0600, NULL), HS_OK);
    assert_int_equal(chdir(before), 0);
    check_content(at(state, "f"), "here");
    check_only_file(state);
}

static void test_steps(void **state)
{
    struct hs_fs_atomic file;
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "old", 3, 0600, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_begin(at(state, "f"), 0600, &file, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_write(&file, "ne", 2, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_write(&file, "", 0, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_write(&file, "w!", 2, NULL), HS_OK);
    check_content(at(state, "f"), "old");
    size_t n_tmp;
    assert_int_equal(count_entries(*state, &n_tmp), 2);
    assert_int_equal(n_tmp, 1);
    assert_int_equal(hs_fs_atomic_commit(&file, NULL), HS_OK);
    hs_fs_atomic_abort(&file);
    check_content(at(state, "f"), "new!");
    check_only_file(state);
}

static void test_abort(void **state)
{
    struct hs_fs_atomic file;
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "old", 3, 0600, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_begin(at(state, "f"), 0600, &file, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_write(&file, "new", 3, NULL), HS_OK);
    hs_fs_atomic_abort(&file);
    hs_fs_atomic_abort(&file);
    check_content(at(state, "f"), "old");
    check_only_file(state);
    hs_fs_atomic_abort(&(struct hs_fs_atomic){.fd = -1}); /* one that never began */
}

static void test_errors(void **state)
{
    struct hs_error err;
    assert_int_equal(hs_fs_write_atomic(at(state, "no/f"), "x", 1, 0600, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, at(state, "no/f")));
    assert_int_equal(hs_fs_write_atomic(*state, "x", 1, 0600, &err), HS_IS_DIRECTORY);
    assert_int_equal(hs_fs_write_atomic(at(state, ""), "x", 1, 0600, &err), HS_IS_DIRECTORY);
    assert_int_equal(hs_fs_write_atomic("", "x", 1, 0600, &err), HS_NOT_FOUND);
    assert_int_equal(mkdir(at(state, "folder"), 0700), 0);
    struct hs_fs_atomic file;
    assert_int_equal(hs_fs_atomic_begin(at(state, "late"), 0600, &file, NULL), HS_OK);
    assert_int_equal(mkdir(at(state, "late"), 0700), 0); /* appears while we write */
    assert_int_equal(hs_fs_atomic_commit(&file, &err), HS_IS_DIRECTORY);
    size_t n_tmp;
    assert_int_equal(count_entries(*state, &n_tmp), 2);
    assert_int_equal(n_tmp, 0);
}

static void test_full_disk(void **state)
{
    struct hs_error err;
    struct hs_fs_atomic file;
    assert_int_equal(hs_fs_atomic_begin(at(state, "f"), 0600, &file, NULL), HS_OK);
    int full = open("/dev/full", O_WRONLY);
    assert_int_equal(dup2(full, file.fd), file.fd);
    close(full);
    assert_int_equal(hs_fs_atomic_write(&file, "x", 1, &err), HS_IO);
    assert_non_null(strstr(err.message, at(state, "f")));
    assert_non_null(strstr(err.hint, "space"));
    hs_fs_atomic_abort(&file);
    size_t n_tmp;
    assert_int_equal(count_entries(*state, &n_tmp), 0);
}

/* A file that may not grow any further: the write fails half-way, and the old content stays. */
static void test_file_size_limit(void **state)
{
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "old", 3, 0600, NULL), HS_OK);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {.rlim_cur = 1000, .rlim_max = 1000};
        static char data[100000];
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit((int)hs_fs_write_atomic(at(state, "f"), data, sizeof data, 0600, NULL));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), HS_IO);
    check_content(at(state, "f"), "old");
    check_only_file(state);
}

/* A name of NAME_MAX bytes leaves no room for more in the temporary one. */
static void test_longest_name(void **state)
{
    char name[NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_MAX] = '\0';
    assert_int_equal(hs_fs_write_atomic(at(state, name), "x", 1, 0600, NULL), HS_OK);
    check_content(at(state, name), "x");
    name[NAME_MAX] = 'n';
    name[NAME_MAX + 1] = '\0';
    assert_int_equal(hs_fs_write_atomic(at(state, name), "x", 1, 0600, NULL), HS_IO);
    check_only_file(state);
}

/* A link is replaced, what it leads to stays. */
static void test_link(void **state)
{
    struct stat info;
    assert_int_equal(hs_fs_write_atomic(at(state, "target"), "t", 1, 0600, NULL), HS_OK);
    assert_int_equal(symlink("target", at(state, "link")), 0);
    assert_int_equal(hs_fs_write_atomic(at(state, "link"), "l", 1, 0600, NULL), HS_OK);
    assert_int_equal(lstat(at(state, "link"), &info), 0);
    assert_true(S_ISREG(info.st_mode));
    check_content(at(state, "target"), "t");
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Left-overs of the same file go; everything that only looks alike stays. */
static void test_sweep(void **state)
{
    static const char *const stay[] = {
        ".f.tmp-12-0123456789abcde",   ".f.tmp-12-0123456789abcdeff", ".f.tmp--0123456789abcdef",
        ".f.tmp-12-0123456789abcdeX",  ".g.tmp-12-0123456789abcdef",  "f.tmp-12-0123456789abcdef",
        ".ff.tmp-12-0123456789abcdef", ".f.tmp-12-0123456789abcdefX", ".f.tmp-12",
    };
    for (size_t i = 0; i < COUNT_OF(stay); i++) {
        touch(at(state, stay[i]));
    }
    touch(at(state, ".f.tmp-12-0123456789abcdef"));
    touch(at(state, ".f.tmp-1-0000000000000000"));
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "x", 1, 0600, NULL), HS_OK);
    for (size_t i = 0; i < COUNT_OF(stay); i++) {
        assert_true(exists(at(state, stay[i])));
    }
    assert_false(exists(at(state, ".f.tmp-12-0123456789abcdef")));
    assert_false(exists(at(state, ".f.tmp-1-0000000000000000")));
}

static void test_sweep_spares_living_writers(void **state)
{
    struct hs_fs_atomic first, second;
    assert_int_equal(hs_fs_atomic_begin(at(state, "f"), 0600, &first, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_begin(at(state, "f"), 0600, &second, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_write(&first, "first", 5, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_write(&second, "second", 6, NULL), HS_OK);
    assert_int_equal(hs_fs_atomic_commit(&second, NULL), HS_OK);
    check_content(at(state, "f"), "second");
    assert_int_equal(hs_fs_atomic_commit(&first, NULL), HS_OK);
    check_content(at(state, "f"), "first");
    check_only_file(state);
}

static void test_no_memory(void **state)
{
    hs_status status;
    assert_int_equal(hs_fs_write_atomic(at(state, "f"), "old", 3, 0600, NULL), HS_OK);
    for (uint64_t nth = 1;; nth++) {
        hs_mem_fail_after(nth);
        status = hs_fs_write_atomic(at(state, "f"), "new", 3, 0600, NULL);
        bool is_over = hs_mem_count() < nth;
        hs_mem_fail_after(0);
        check_only_file(state);
        if (is_over) {
            break;
        }
        /* sweeping can do without memory, writing cannot; either way the file is whole */
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        check_content(at(state, "f"), status == HS_OK ? "new" : "old");
        assert_int_equal(hs_fs_write_atomic(at(state, "f"), "old", 3, 0600, NULL), HS_OK);
    }
    assert_int_equal(status, HS_OK);
    check_content(at(state, "f"), "new");
}

/* Content number k: "<k> <len>\n" and then `len` bytes that k decides. */
static size_t make_content(unsigned k, char *ret)
{
    unsigned len = k * 7919u % CONTENT_MAX;
    size_t head = (size_t)sprintf(ret, "%u %u\n", k, len);
    memset(ret + head, 'a' + (int)(k % 26), len);
    return head + len;
}

static void check_whole(const char *path)
{
    static char wanted[CONTENT_MAX + 64];
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(sizeof wanted);
    assert_int_equal(hs_fs_read(path, &buf, NULL), HS_OK);
    unsigned k = 0;
    assert_int_equal(sscanf(buf.data, "%u", &k), 1);
    size_t len = make_content(k, wanted);
    assert_int_equal(buf.len, len);
    assert_memory_equal(buf.data, wanted, len);
}

static void rewrite_for_ever(const char *path, unsigned k)
{
    static char content[CONTENT_MAX + 64];
    for (;; k++) {
        size_t len = make_content(k, content);
        if (hs_fs_write_atomic(path, content, len, 0600, NULL) != HS_OK) {
            _exit(1);
        }
    }
}

static void test_kill_9(void **state)
{
    char *path = at(state, "f");
    char content[CONTENT_MAX + 64];
    unsigned seed = (unsigned)getpid();
    size_t n_tmp, n_leftover = 0;
    assert_int_equal(hs_fs_write_atomic(path, content, make_content(1, content), 0600, NULL),
                     HS_OK);
    for (unsigned i = 0; i < N_KILLS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            rewrite_for_ever(path, i * 100000);
        }
        seed = seed * 1103515245u + 12345u;
        nanosleep(&(struct timespec){.tv_nsec = 100000 + (seed >> 8) % 5000000}, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* it never failed by itself */
        check_whole(path);
        count_entries(*state, &n_tmp);
        n_leftover += n_tmp;
        assert_true(n_tmp <= 1); /* each run swept what the one before left */
    }
    print_message("%zu of %d kills hit a write\n", n_leftover, N_KILLS);
    assert_int_equal(hs_fs_write_atomic(path, content, make_content(2, content), 0600, NULL),
                     HS_OK);
    check_only_file(state);
}

static void test_concurrent_writers(void **state)
{
    char *path = at(state, "f");
    pid_t pids[4];
    for (unsigned w = 0; w < COUNT_OF(pids); w++) {
        pids[w] = fork();
        assert_true(pids[w] >= 0);
        if (pids[w] == 0) {
            static char content[CONTENT_MAX + 64];
            for (unsigned i = 0; i < 50; i++) {
                size_t len = make_content(w * 1000 + i, content);
                if (hs_fs_write_atomic(path, content, len, 0600, NULL) != HS_OK) {
                    _exit(1);
                }
            }
            _exit(0);
        }
    }
    for (unsigned w = 0; w < COUNT_OF(pids); w++) {
        int status = 0;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        assert_int_equal(status, 0);
        check_whole(path);
    }
    check_only_file(state);
}

#define FS_TEST(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_TEST(test_write),
        FS_TEST(test_write_relative),
        FS_TEST(test_steps),
        FS_TEST(test_abort),
        FS_TEST(test_errors),
        FS_TEST(test_full_disk),
        FS_TEST(test_file_size_limit),
        FS_TEST(test_longest_name),
        FS_TEST(test_link),
        FS_TEST(test_sweep),
        FS_TEST(test_sweep_spares_living_writers),
        FS_TEST(test_no_memory),
        FS_TEST(test_kill_9),
        FS_TEST(test_concurrent_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
