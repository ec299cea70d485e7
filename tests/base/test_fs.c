/* Tests of base/fs.h without the atomic replacement, which test_fs_atomic.c has. */
#include "base_test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char *at(void **state, const char *name)
{
    static char paths[4][600];
    static size_t next;
    char *path = paths[next++ % COUNT_OF(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", (char *)*state, name);
    return path;
}

static void put(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Run fn as a user without rights, in a process of its own; what it returns. */
static int unprivileged(int (*fn)(const char *path), const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(99);
        }
        _exit(fn(path));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_mkdir_p(void **state)
{
    struct stat info;
    assert_int_equal(hs_fs_mkdir_p(at(state, "a/b//c/"), NULL), HS_OK);
    assert_int_equal(stat(at(state, "a/b/c"), &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(hs_fs_mkdir_p(at(state, "a/b/c"), NULL), HS_OK);
    assert_int_equal(hs_fs_mkdir_p("/", NULL), HS_OK);
    assert_int_equal(hs_fs_mkdir_p(".", NULL), HS_OK);
    /* what is there keeps its mode */
    assert_int_equal(chmod(at(state, "a"), 0755), 0);
    assert_int_equal(hs_fs_mkdir_p(at(state, "a/new"), NULL), HS_OK);
    assert_int_equal(stat(at(state, "a"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0755);
    /* a link to a folder is as good as one */
    assert_int_equal(symlink("a", at(state, "link")), 0);
    assert_int_equal(hs_fs_mkdir_p(at(state, "link/x"), NULL), HS_OK);
    assert_true(exists(at(state, "a/x")));
}

static void test_mkdir_p_relative(void **state)
{
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(hs_fs_mkdir_p("rel/ative", NULL), HS_OK);
    assert_int_equal(hs_fs_mkdir_p("one", NULL), HS_OK);
    assert_int_equal(chdir(before), 0);
    assert_true(exists(at(state, "rel/ative")) && exists(at(state, "one")));
}

static int make_below(const char *path)
{
    char below[700];
    snprintf(below, sizeof below, "%s/x", path);
    struct hs_error err;
    hs_status status = hs_fs_mkdir_p(below, &err);
    return err.hint[0] != '\0' ? (int)status : 100;
}

static void test_mkdir_p_errors(void **state)
{
    struct hs_error err;
    put(at(state, "file"), "x", 1);
    assert_int_equal(hs_fs_mkdir_p("", &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_fs_mkdir_p(at(state, "file"), &err), HS_ALREADY_EXISTS);
    assert_int_equal(hs_fs_mkdir_p(at(state, "file/b/c"), &err), HS_ALREADY_EXISTS);
    assert_non_null(strstr(err.message, "not a folder"));
    assert_non_null(strstr(err.message, at(state, "file/b/c")));
    char name[300] = "";
    memset(name, 'n', 256); /* one more than NAME_MAX */
    assert_int_equal(hs_fs_mkdir_p(at(state, name), &err), HS_IO);
    assert_int_equal(mkdir(at(state, "closed"), 0500), 0);
    assert_int_equal(unprivileged(make_below, at(state, "closed")), HS_PERMISSION_DENIED);
}

/* Somebody makes and removes the folder all the time: making it never fails for that. */
static void test_mkdir_p_while_it_is_removed(void **state)
{
    char *path = at(state, "coming/going");
    assert_int_equal(hs_fs_mkdir_p(at(state, "coming"), NULL), HS_OK);
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            if (mkdir(path, 0700) != 0 || rmdir(path) != 0) {
                continue; /* the other one was quicker */
            }
        }
    }
    assert_true(pid > 0);
    for (int i = 0; i < 2000; i++) {
        struct hs_error err = {.message = ""};
        if (hs_fs_mkdir_p(path, &err) != HS_OK) {
            kill(pid, SIGKILL);
            fail_msg("%s", err.message);
        }
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_read(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4095, 65536, 65537, 1000000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t size = sizes[i];
        char *data = malloc(size + 1);
        for (size_t k = 0; k < size; k++) {
            data[k] = (char)(k * 13 + k / 256);
        }
        put(at(state, "f"), data, size);
        HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(size + 3);
        assert_int_equal(hs_buf_append_str(&buf, "pre"), HS_OK);
        assert_int_equal(hs_fs_read(at(state, "f"), &buf, NULL), HS_OK);
        assert_int_equal(buf.len, size + 3);
        assert_memory_equal(buf.data, "pre", 3);
        assert_memory_equal(buf.data + 3, data, size);
        assert_int_equal(buf.data[buf.len], '\0');
        if (size > 0) {
            struct hs_error err;
            HS_CLEANUP(hs_buf_free) struct hs_buf small = HS_BUF_INIT(size + 2);
            assert_int_equal(hs_buf_append_str(&small, "pre"), HS_OK);
            assert_int_equal(hs_fs_read(at(state, "f"), &small, &err), HS_LIMIT);
            assert_string_equal(small.data, "pre");
            assert_int_equal(small.len, 3);
            assert_non_null(strstr(err.message, "limit"));
        }
        free(data);
    }
}

/* Files whose size nobody knows beforehand: a pipe, /proc, and one without an end. */
static void test_read_streams(void **state)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf zeros = HS_BUF_INIT(100000);
    assert_int_equal(hs_fs_read("/dev/zero", &zeros, NULL), HS_LIMIT);
    assert_int_equal(zeros.len, 0);
    HS_CLEANUP(hs_buf_free) struct hs_buf proc = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_fs_read("/proc/self/status", &proc, NULL), HS_OK);
    assert_non_null(strstr(proc.data, "Pid:"));
    assert_int_equal(mkfifo(at(state, "fifo"), 0600), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(at(state, "fifo"), O_WRONLY);
        char data[1000];
        memset(data, 'q', sizeof data);
        for (int i = 0; i < 100; i++) {
            if (write(fd, data, sizeof data) != sizeof data) {
                _exit(1);
            }
        }
        _exit(0);
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf piped = HS_BUF_INIT(100000);
    assert_int_equal(hs_fs_read(at(state, "fifo"), &piped, NULL), HS_OK);
    assert_int_equal(piped.len, 100000);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int read_it(const char *path)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(100);
    return (int)hs_fs_read(path, &buf, NULL);
}

static void test_read_errors(void **state)
{
    struct hs_error err;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(100);
    assert_int_equal(hs_fs_read(at(state, "none"), &buf, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, at(state, "none")));
    assert_int_equal(hs_fs_read(*state, &buf, &err), HS_IS_DIRECTORY);
    put(at(state, "plain"), "x", 1);
    assert_int_equal(hs_fs_read(at(state, "plain/none"), &buf, &err), HS_NOT_FOUND);
    put(at(state, "secret"), "x", 1);
    assert_int_equal(chmod(*state, 0711), 0);
    assert_int_equal(chmod(at(state, "secret"), 0000), 0);
    assert_int_equal(unprivileged(read_it, at(state, "secret")), HS_PERMISSION_DENIED);
    assert_int_equal(hs_fs_read("", &buf, &err), HS_NOT_FOUND);
    assert_null(buf.data);
    assert_int_equal(hs_buf_append_str(&buf, "pre"), HS_OK);
    assert_int_equal(hs_fs_read("/proc/self/mem", &buf, &err), HS_IO); /* address 0: EIO */
    assert_string_equal(buf.data, "pre");
}

static void make_tree(void **state)
{
    assert_int_equal(hs_fs_mkdir_p(at(state, "tree/a/b/c"), NULL), HS_OK);
    assert_int_equal(hs_fs_mkdir_p(at(state, "tree/empty"), NULL), HS_OK);
    put(at(state, "tree/x"), "x", 1);
    put(at(state, "tree/a/.hidden"), "x", 1);
    put(at(state, "tree/a/b/c/read-only"), "x", 1);
    assert_int_equal(chmod(at(state, "tree/a/b/c/read-only"), 0400), 0);
    assert_int_equal(mkfifo(at(state, "tree/fifo"), 0600), 0);
}

static void test_remove_all(void **state)
{
    make_tree(state);
    for (int i = 0; i < 300; i++) {
        char name[40];
        snprintf(name, sizeof name, "tree/a/file-%d", i);
        put(at(state, name), "x", 1);
    }
    assert_int_equal(hs_fs_remove_all(at(state, "tree"), NULL), HS_OK);
    assert_false(exists(at(state, "tree")));
    assert_int_equal(hs_fs_remove_all(at(state, "tree"), NULL), HS_OK);
    put(at(state, "single"), "x", 1);
    assert_int_equal(hs_fs_remove_all(at(state, "single"), NULL), HS_OK);
    assert_false(exists(at(state, "single")));
    assert_int_equal(hs_fs_remove_all(at(state, "none/at/all"), NULL), HS_OK);
}

static void test_remove_all_keeps_link_targets(void **state)
{
    make_tree(state);
    assert_int_equal(hs_fs_mkdir_p(at(state, "links"), NULL), HS_OK);
    assert_int_equal(symlink("../tree", at(state, "links/to-tree")), 0);
    assert_int_equal(symlink("nowhere", at(state, "links/dangling")), 0);
    assert_int_equal(hs_fs_remove_all(at(state, "links"), NULL), HS_OK);
    assert_false(exists(at(state, "links")));
    assert_true(exists(at(state, "tree/a/.hidden")));
    assert_int_equal(symlink("tree", at(state, "link")), 0);
    assert_int_equal(hs_fs_remove_all(at(state, "link/"), NULL), HS_OK);
    assert_false(exists(at(state, "link")));
    assert_true(exists(at(state, "tree/a/.hidden")));
}

static void test_remove_all_refuses(void **state)
{
    static const char *const paths[] = {"", "/", "//", ".", "..", "./", "x/..", "/tmp/."};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct hs_error err;
        assert_int_equal(hs_fs_remove_all(paths[i], &err), HS_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "refusing"));
    }
}

static int remove_it(const char *path)
{
    return (int)hs_fs_remove_all(path, NULL);
}

static void test_remove_all_without_permission(void **state)
{
    make_tree(state);
    assert_int_equal(chmod(*state, 0711), 0);
    assert_int_equal(chmod(at(state, "tree"), 0555), 0);
    assert_int_equal(unprivileged(remove_it, at(state, "tree")), HS_PERMISSION_DENIED);
    assert_int_equal(hs_fs_mkdir_p(at(state, "open/closed/x"), NULL), HS_OK);
    assert_int_equal(chmod(at(state, "open"), 0777), 0);
    assert_int_equal(chmod(at(state, "open/closed"), 0000), 0);
    assert_int_equal(unprivileged(remove_it, at(state, "open")), HS_PERMISSION_DENIED);
    assert_int_equal(chmod(at(state, "open/closed"), 0700), 0);
    assert_true(exists(at(state, "open/closed/x")));
    assert_int_equal(chmod(at(state, "tree"), 0700), 0);
    assert_true(exists(at(state, "tree/x")));
}

/* Folders nested `depth` deep below state/deep. */
static void make_deep(void **state, int depth)
{
    int fd = open(*state, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i <= depth; i++) {
        assert_int_equal(mkdirat(fd, "deep", 0700), 0);
        int below = openat(fd, "deep", O_RDONLY | O_DIRECTORY);
        assert_true(below >= 0);
        close(fd);
        fd = below;
    }
    close(fd);
}

static void test_remove_all_depth(void **state)
{
    make_deep(state, 256);
    assert_int_equal(hs_fs_remove_all(at(state, "deep"), NULL), HS_OK);
    make_deep(state, 257);
    struct hs_error err;
    assert_int_equal(hs_fs_remove_all(at(state, "deep"), &err), HS_LIMIT);
    assert_int_equal(rename(at(state, "deep/deep"), at(state, "shallower")), 0);
    assert_int_equal(hs_fs_remove_all(at(state, "shallower"), NULL), HS_OK);
    assert_int_equal(hs_fs_remove_all(at(state, "deep"), NULL), HS_OK);
}

static void test_join(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"},          {"a", "/b", "/b"},
        {"", "b", "b"},    {"a", "", "a"},     {"a/b", "c/d", "a/b/c/d"}, {"", "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        HS_CLEANUP(hs_freep) char *joined = hs_fs_join(rows[i][0], rows[i][1]);
        assert_string_equal(joined, rows[i][2]);
        hs_mem_fail_after(1);
        assert_null(hs_fs_join(rows[i][0], rows[i][1]));
        hs_mem_fail_after(0);
    }
}

static void test_realpath(void **state)
{
    char wanted[PATH_MAX], command[PATH_MAX + 32];
    put(at(state, "target"), "x", 1);
    assert_int_equal(symlink("target", at(state, "link")), 0);
    snprintf(command, sizeof command, "readlink -f '%s'", at(state, "link"));
    FILE *pipe = popen(command, "r");
    assert_non_null(fgets(wanted, sizeof wanted, pipe));
    assert_int_equal(pclose(pipe), 0);
    wanted[strcspn(wanted, "\n")] = '\0';
    HS_CLEANUP(hs_freep) char *path = NULL;
    assert_int_equal(hs_fs_realpath(at(state, "./link"), &path, NULL), HS_OK);
    assert_string_equal(path, wanted);
    struct hs_error err;
    char *none = NULL;
    assert_int_equal(hs_fs_realpath(at(state, "none"), &none, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, at(state, "none")));
    hs_mem_fail_after(1);
    assert_int_equal(hs_fs_realpath(at(state, "link"), &none, &err), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
    assert_null(none);
}

static void test_no_memory(void **state)
{
    hs_status status;
    HS_CLEANUP(hs_buf_free) struct hs_buf buf = HS_BUF_INIT(200000);
    char *content = calloc(1, 100000);
    put(at(state, "big"), content, 100000);
    WITH_EVERY_ALLOCATION_FAILING(
        status, { status = hs_fs_read(at(state, "big"), &buf, NULL); },
        { assert_int_equal(buf.len, 0); });
    assert_int_equal(buf.len, 100000);
    free(content);
    make_tree(state);
    hs_mem_fail_after(1);
    assert_int_equal(hs_fs_remove_all(at(state, "tree"), NULL), HS_OUT_OF_MEMORY);
    assert_int_equal(hs_fs_mkdir_p(at(state, "new/folder"), NULL), HS_OK);
    hs_mem_fail_after(1);
    assert_int_equal(hs_fs_mkdir_p(at(state, "new/er/folder"), NULL), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(2); /* the sync of the parent is left to the kernel then */
    assert_int_equal(hs_fs_mkdir_p(at(state, "new/er/folder"), NULL), HS_OK);
    hs_mem_fail_after(0);
}

#define FS_TEST(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_TEST(test_mkdir_p),
        FS_TEST(test_mkdir_p_relative),
        FS_TEST(test_mkdir_p_errors),
        FS_TEST(test_mkdir_p_while_it_is_removed),
        FS_TEST(test_read),
        FS_TEST(test_read_streams),
        FS_TEST(test_read_errors),
        FS_TEST(test_remove_all),
        FS_TEST(test_remove_all_keeps_link_targets),
        FS_TEST(test_remove_all_refuses),
        FS_TEST(test_remove_all_without_permission),
        FS_TEST(test_remove_all_depth),
        FS_TEST(test_join),
        FS_TEST(test_realpath),
        FS_TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
