/* machine_test.h - faked files of /proc and /sys, below a root folder. */
#ifndef MACHINE_TEST_H
#define MACHINE_TEST_H

#include "base_test.h"

#include "base/machine.h"
#include "machine_probe.h"

#define GIB (1024ull * 1024 * 1024)

static inline void put(const char *root, const char *path, const char *text)
{
    char full[1200];
    snprintf(full, sizeof full, "%s%s", root, path);
    char *slash = strrchr(full, '/');
    *slash = '\0';
    assert_int_equal(hs_fs_mkdir_p(full, NULL), HS_OK);
    *slash = '/';
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static inline void put_meminfo(const char *root, uint64_t total, uint64_t available)
{
    char text[400];
    snprintf(text, sizeof text,
             "MemTotal:       %8llu kB\nMemFree:          1000 kB\nMemAvailable:   %8llu kB\n"
             "Buffers:          2000 kB\nCached:           4000 kB\nSwapCached:    9999999 kB\n",
             (unsigned long long)total / 1024, (unsigned long long)available / 1024);
    put(root, "/proc/meminfo", text);
}

#define V2_MOUNT "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"

#define FAKE(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

#endif
