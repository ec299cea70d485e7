/* store_test.h - what the tests of the session store and the registry share. */
#ifndef STORE_TEST_H
#define STORE_TEST_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* cmocka set-up: *state becomes the path of a new folder; tmp_teardown removes it. */
static inline int tmp_setup(void **state)
{
    char *folder = strdup(HS_TEST_TMP "/store-XXXXXX");
    *state = folder;
    return folder != NULL && mkdtemp(folder) != NULL ? 0 : -1;
}

static inline int tmp_teardown(void **state)
{
    hs_status status = hs_fs_remove_all(*state, NULL);
    free(*state);
    return status == HS_OK ? 0 : -1;
}

/* Run `body` in a child process; it returns the child's exit code, 0 for success. */
typedef int (*child_body)(void *user);

static inline pid_t child_start(child_body body, void *user)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(body(user));
    assert_true(pid > 0);
    return pid;
}

static inline void child_expect_success(pid_t pid)
{
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
        fail_msg("child %ld: exit %d, signal %d", (long)pid, WIFEXITED(how) ? WEXITSTATUS(how) : -1,
                 WIFSIGNALED(how) ? WTERMSIG(how) : 0);
}

static inline void child_kill(pid_t pid)
{
    int how = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    /* A child that ended by itself found something wrong. */
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

/* For children: writing beyond `bytes` into any file fails as on a full disk. */
static inline void limit_file_size(rlim_t bytes)
{
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(100);
}

/* For children: root may write anywhere, so become somebody else. */
static inline void drop_root(void)
{
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(101);
}

static inline char *path_of(const char *folder, const char *name)
{
    char *path = hs_fs_join(folder, name);
    assert_non_null(path);
    return path;
}

static inline void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* The whole file, to be freed with hs_free; *ret_len may be NULL. */
static inline char *read_file(const char *path, size_t *ret_len)
{
    struct hs_buf buf = HS_BUF_INIT((size_t)1 << 30);
    char *data = NULL;
    size_t len = 0;
    assert_int_equal(hs_fs_read(path, &buf, NULL), HS_OK);
    assert_int_equal(hs_buf_take(&buf, &data, &len), HS_OK);
    if (ret_len != NULL)
        *ret_len = len;
    return data;
}

static inline bool is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Rounds of the kill tests: HS_KILL_ROUNDS in the environment makes them longer. */
static inline int kill_rounds(int usual)
{
    const char *text = getenv("HS_KILL_ROUNDS");
    return text == NULL ? usual : atoi(text);
}

/* A repeatable sequence (an LCG of Knuth's); the seed is printed by whoever uses it. */
static inline uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/*
 * Run `body` again and again, each time with another allocation failing, until it needs no more.
 * body sets `status`, which may be HS_OK nevertheless (sweeping up leftovers is best effort);
 * `check` runs after every run and says whether the outcome is what the status promises.
 */
#define WITH_EVERY_ALLOCATION_FAILING(status, body, check)                                         \
    for (uint64_t nth = 1, over = 0; !over; nth++) {                                               \
        hs_mem_fail_after(nth);                                                                    \
        body;                                                                                      \
        over = hs_mem_count() < nth;                                                               \
        hs_mem_fail_after(0);                                                                      \
        assert_true(nth < 100000);                                                                 \
        assert_true(status == HS_OK || (!over && status == HS_OUT_OF_MEMORY));                     \
        check;                                                                                     \
    }

#endif
