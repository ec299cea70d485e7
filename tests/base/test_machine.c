/* Tests of base/machine.h on this machine and on faked ones (machine_probe.h). */
#include "base_test.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/machine.h"
#include "machine_probe.h"

#define GIB (1024ull * 1024 * 1024)

static void put(const char *root, const char *path, const char *text)
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

static void put_cpu(const char *root, int cpu, const char *file, const char *siblings)
{
    char path[200];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, file);
    put(root, path, siblings);
}

static void put_meminfo(const char *root, uint64_t total, uint64_t available)
{
    char text[400];
    snprintf(text, sizeof text,
             "MemTotal:       %8llu kB\nMemFree:          1000 kB\nMemAvailable:   %8llu kB\n"
             "Buffers:          2000 kB\nCached:           4000 kB\nSwapCached:    9999999 kB\n",
             (unsigned long long)total / 1024, (unsigned long long)available / 1024);
    put(root, "/proc/meminfo", text);
}

static int32_t cores_from_to(const char *root, int first, int last)
{
    int cpus[256];
    size_t n = 0;
    for (int cpu = first; cpu <= last; cpu++) {
        cpus[n++] = cpu;
    }
    return hs_machine_probe_cores(root, cpus, n);
}

/* Two sockets of 32 cores with two threads each: cpu n and n + 64 are one core. */
static void test_64_cores_two_sockets(void **state)
{
    for (int cpu = 0; cpu < 128; cpu++) {
        char siblings[32];
        snprintf(siblings, sizeof siblings, "%d,%d\n", cpu % 64, cpu % 64 + 64);
        put_cpu(*state, cpu, "core_cpus_list", siblings);
    }
    assert_int_equal(cores_from_to(*state, 0, 127), 64);
    assert_int_equal(cores_from_to(*state, 0, 63), 64);
    assert_int_equal(cores_from_to(*state, 64, 127), 64); /* only the second threads */
    assert_int_equal(cores_from_to(*state, 60, 67), 8);
    int pair[] = {5, 69};
    assert_int_equal(hs_machine_probe_cores(*state, pair, 2), 1);
    int mixed[] = {127, 0, 64, 1, 63};
    assert_int_equal(hs_machine_probe_cores(*state, mixed, 5), 3);
}

/* Before Linux 5.3 the file was called thread_siblings_list; neighbours are written "0-1". */
static void test_older_kernel(void **state)
{
    static const char *const siblings[] = {"0-1\n", "0-1\n", "2-3\n", "2-3\n"};
    for (int cpu = 0; cpu < 4; cpu++) {
        put_cpu(*state, cpu, "thread_siblings_list", siblings[cpu]);
    }
    assert_int_equal(cores_from_to(*state, 0, 3), 2);
}

/* Eight threads on four large cores, and four small cores without threads. */
static void test_hybrid(void **state)
{
    for (int cpu = 0; cpu < 12; cpu++) {
        char siblings[32];
        int first = cpu < 8 ? cpu / 2 * 2 : cpu;
        if (cpu < 8) {
            snprintf(siblings, sizeof siblings, "%d-%d\n", first, first + 1);
        } else {
            snprintf(siblings, sizeof siblings, "%d\n", first);
        }
        put_cpu(*state, cpu, "core_cpus_list", siblings);
    }
    assert_int_equal(cores_from_to(*state, 0, 11), 8);
}

static void test_no_sysfs(void **state)
{
    assert_int_equal(cores_from_to(*state, 0, 7), 8);
    assert_int_equal(cores_from_to(*state, 3, 3), 1);
    assert_int_equal(hs_machine_probe_cores(*state, NULL, 0), 1);
    put_cpu(*state, 0, "core_cpus_list", "nonsense\n");
    put_cpu(*state, 1, "core_cpus_list", "");
    assert_int_equal(cores_from_to(*state, 0, 7), 8);
    assert_true(hs_machine_probe_quota(*state) == HS_MACHINE_UNLIMITED);
    struct hs_machine_memory memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, 0);
}

static void test_limit(void **state)
{
    (void)state;
    static const struct {
        int32_t n_cores;
        uint64_t quota_milli;
        int32_t wanted;
    } rows[] = {
        {8, HS_MACHINE_UNLIMITED, 8},
        {8, 1500, 2},
        {8, 1000, 1},
        {8, 1001, 2},
        {8, 100, 1},
        {8, 8000, 8},
        {8, 7001, 8},
        {8, 7000, 7},
        {8, 1000000, 8},
        {1, 500, 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(hs_machine_probe_limit(rows[i].n_cores, rows[i].quota_milli),
                         rows[i].wanted);
    }
}

#define V2_MOUNT "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"

/* A container of its own cgroup namespace: 1.5 CPUs and 2 GiB on a machine of 64 GiB. */
static void test_container_v2(void **state)
{
    put_meminfo(*state, 64 * GIB, 60 * GIB);
    put(*state, "/proc/self/cgroup", "0::/\n");
    put(*state, "/proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT "40 22 0:5 / /proc rw - proc proc rw\n");
    put(*state, "/sys/fs/cgroup/cpu.max", "150000 100000\n");
    put(*state, "/sys/fs/cgroup/memory.max", "2147483648\n");
    put(*state, "/sys/fs/cgroup/memory.high", "max\n");
    put(*state, "/sys/fs/cgroup/memory.current", "1073741824\n");
    put(*state, "/sys/fs/cgroup/memory.stat",
        "anon 1000\nfile 700000000\ninactive_file 268435456\nactive_file 134217728\n"
        "slab_reclaimable 134217728\nslab 999\n");
    assert_int_equal(hs_machine_probe_quota(*state), 1500);
    struct hs_machine_memory memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, 2 * GIB);
    /* 2 GiB - (1 GiB - 512 MiB of caches) */
    assert_int_equal(memory.available_bytes, GIB + GIB / 2);
    put(*state, "/sys/fs/cgroup/memory.high", "1610612736\n");
    memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, GIB + GIB / 2);
    assert_int_equal(memory.available_bytes, GIB);
    put(*state, "/sys/fs/cgroup/memory.current", "3000000000\n");
    assert_int_equal(hs_machine_probe_memory(*state).available_bytes, 0);
}

static void test_unlimited_v2(void **state)
{
    put_meminfo(*state, 8 * GIB, 5 * GIB);
    put(*state, "/proc/self/cgroup", "0::/user.slice\n");
    put(*state, "/proc/self/mountinfo", V2_MOUNT);
    put(*state, "/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    put(*state, "/sys/fs/cgroup/user.slice/memory.max", "max\n");
    assert_true(hs_machine_probe_quota(*state) == HS_MACHINE_UNLIMITED);
    struct hs_machine_memory memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, 8 * GIB);
    assert_int_equal(memory.available_bytes, 5 * GIB);
}

/* The tightest limit counts, wherever between our group and the root it stands. */
static void test_limits_of_ancestors_v2(void **state)
{
    put_meminfo(*state, 64 * GIB, 60 * GIB);
    put(*state, "/proc/self/cgroup", "1:name=systemd:/other\n0::/a/b/c\n");
    put(*state, "/proc/self/mountinfo", V2_MOUNT);
    put(*state, "/sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n");
    put(*state, "/sys/fs/cgroup/a/b/cpu.max", "300000 100000\n");
    put(*state, "/sys/fs/cgroup/a/cpu.max", "25000 10000\n");
    put(*state, "/sys/fs/cgroup/cpu.max", "900000 100000\n");
    put(*state, "/sys/fs/cgroup/other/cpu.max", "1000 100000\n");
    put(*state, "/sys/fs/cgroup/a/b/c/memory.max", "8589934592\n");
    put(*state, "/sys/fs/cgroup/a/b/c/memory.current", "0\n");
    put(*state, "/sys/fs/cgroup/a/memory.max", "17179869184\n");
    put(*state, "/sys/fs/cgroup/a/memory.current", "16106127360\n");
    assert_int_equal(hs_machine_probe_quota(*state), 2500);
    struct hs_machine_memory memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, 8 * GIB);
    assert_int_equal(memory.available_bytes, GIB); /* 16 - 15 in the parent */
}

/* Version 1 as Docker has it without a cgroup namespace: the mount begins at our group. */
static void test_container_v1(void **state)
{
    put_meminfo(*state, 64 * GIB, 60 * GIB);
    put(*state, "/proc/self/cgroup",
        "9:cpuset:/docker/abc\n8:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n");
    put(*state, "/proc/self/mountinfo",
        "50 49 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "51 49 0:31 /docker/abc /sys/fs/cgroup/memory ro master:1 - cgroup cgroup rw,memory\n"
        "52 49 0:32 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n");
    put(*state, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n");
    put(*state, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put(*state, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    put(*state, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n");
    put(*state, "/sys/fs/cgroup/memory/memory.stat",
        "cache 5\ninactive_file 7\ntotal_inactive_file 268435456\ntotal_active_file 268435456\n");
    assert_int_equal(hs_machine_probe_quota(*state), 1500);
    struct hs_machine_memory memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, 2 * GIB);
    assert_int_equal(memory.available_bytes, GIB + GIB / 2);
}

static void test_unlimited_v1(void **state)
{
    put_meminfo(*state, 8 * GIB, 5 * GIB);
    put(*state, "/proc/self/cgroup", "8:memory:/x\n4:cpu,cpuacct:/x\n");
    put(*state, "/proc/self/mountinfo",
        "50 49 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "51 49 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put(*state, "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
    put(*state, "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    put(*state, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(hs_machine_probe_quota(*state) == HS_MACHINE_UNLIMITED);
    assert_int_equal(hs_machine_probe_memory(*state).total_bytes, 8 * GIB);
    put(*state, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n"); /* on the root's level */
    put(*state, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(hs_machine_probe_quota(*state), 4000);
}

/* A group outside of what is mounted: the mount itself is the nearest that can be seen. */
static void test_group_outside_of_mount(void **state)
{
    put(*state, "/proc/self/cgroup", "0::/../sibling\n");
    put(*state, "/proc/self/mountinfo",
        "35 24 0:30 /lxc/me /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw\n");
    put(*state, "/sys/fs/cg roup/cpu.max", "200000 100000\n");
    assert_int_equal(hs_machine_probe_quota(*state), 2000);
    /* "/lxc/message" is not below "/lxc/me" */
    put(*state, "/proc/self/cgroup", "0::/lxc/message\n");
    put(*state, "/sys/fs/cg roup/ssage/cpu.max", "100000 100000\n");
    assert_int_equal(hs_machine_probe_quota(*state), 2000);
}

static void test_malformed(void **state)
{
    static const char *const cpu_max[] = {"",         "\n",         "max",  "x y\n",
                                          "100000\n", "100000 0\n", "0 5\n"};
    put_meminfo(*state, 8 * GIB, 5 * GIB);
    put(*state, "/proc/self/mountinfo",
        "\n - \n1 2\nx - cgroup2\n35 24 0:30 /\n" V2_MOUNT "35 24 0:30 / - cgroup2 cgroup2 rw");
    put(*state, "/proc/self/cgroup", "\n::\nx\n0:\n0::/a\n");
    for (size_t i = 0; i < COUNT_OF(cpu_max); i++) {
        put(*state, "/sys/fs/cgroup/a/cpu.max", cpu_max[i]);
        put(*state, "/sys/fs/cgroup/a/memory.max", cpu_max[i][0] == '1' ? "-5" : cpu_max[i]);
        assert_true(hs_machine_probe_quota(*state) == HS_MACHINE_UNLIMITED);
    }
    put(*state, "/proc/meminfo", "MemTotal: \nMemAvailable 77 kB\n");
    assert_int_equal(hs_machine_probe_memory(*state).total_bytes, 0);
    put(*state, "/proc/meminfo", "");
    assert_int_equal(hs_machine_probe_memory(*state).total_bytes, 0);
}

/* Linux before 3.14 has no MemAvailable. */
static void test_meminfo_without_available(void **state)
{
    put(*state, "/proc/meminfo",
        "MemTotal: 8000 kB\nMemFree: 1000 kB\nBuffers: 200 kB\nCached: 300 kB\nSwapCached: 9 kB\n");
    struct hs_machine_memory memory = hs_machine_probe_memory(*state);
    assert_int_equal(memory.total_bytes, 8000 * 1024);
    assert_int_equal(memory.available_bytes, 1500 * 1024);
}

static void test_no_memory(void **state)
{
    put_meminfo(*state, 8 * GIB, 5 * GIB);
    put(*state, "/proc/self/cgroup", "0::/a\n");
    put(*state, "/proc/self/mountinfo", V2_MOUNT);
    put(*state, "/sys/fs/cgroup/a/cpu.max", "100000 100000\n");
    put(*state, "/sys/fs/cgroup/a/memory.max", "1073741824\n");
    for (uint64_t nth = 1, is_over = 0; !is_over; nth++) {
        hs_mem_fail_after(nth);
        int32_t n_cores = cores_from_to(*state, 0, 3);
        uint64_t quota = hs_machine_probe_quota(*state);
        struct hs_machine_memory memory = hs_machine_probe_memory(*state);
        is_over = hs_mem_count() < nth;
        hs_mem_fail_after(0);
        assert_true(n_cores >= 1 && n_cores <= 4);
        assert_true(quota == 1000 || quota == HS_MACHINE_UNLIMITED);
        assert_true(memory.total_bytes == 0 || memory.total_bytes == GIB ||
                    memory.total_bytes == 8 * GIB);
        if (is_over) {
            assert_int_equal(n_cores, 4);
            assert_int_equal(quota, 1000);
            assert_int_equal(memory.total_bytes, GIB);
        }
    }
}

static long shell_number(const char *command)
{
    long number = -1;
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%ld", &number), 1);
    pclose(pipe);
    return number;
}

static void test_this_machine(void **state)
{
    (void)state;
    int32_t n_logical = hs_machine_logical_cpus(), n_physical = hs_machine_physical_cores();
    assert_int_equal(n_logical, shell_number("env -u OMP_NUM_THREADS nproc"));
    assert_true(n_physical >= 1 && n_physical <= n_logical);
    uint64_t total = hs_machine_memory_total(), available = hs_machine_memory_available();
    assert_true(available > 0 && available <= total);
    for (uint64_t nth = 1; nth <= 40; nth++) {
        hs_mem_fail_after(nth);
        assert_true(hs_machine_logical_cpus() >= 1);
        assert_true(hs_machine_physical_cores() >= 1);
        assert_true(hs_machine_memory_total() > 0);
        assert_true(hs_machine_memory_available() > 0);
        hs_mem_fail_after(0);
    }
    long kib = shell_number("awk '/^MemTotal/ {print $2}' /proc/meminfo");
    assert_true(total <= (uint64_t)kib * 1024);
}

static void test_affinity(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all)) {
            continue;
        }
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        assert_int_equal(hs_machine_logical_cpus(), 1);
        assert_int_equal(hs_machine_physical_cores(), 1);
    }
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

#define FAKE(name) cmocka_unit_test_setup_teardown(name, tmp_setup, tmp_teardown)

static void memory_in_use_grows_with_what_is_touched(void **state)
{
    (void)state;
    const size_t n = 64u << 20;
    uint64_t before = hs_machine_memory_resident();
    assert_true(before > 0);
    volatile char *memory = malloc(n);
    assert_non_null(memory);
    for (size_t i = 0; i < n; i += 4096) {
        memory[i] = 1;
    }
    assert_in_range(hs_machine_memory_resident(), before + n / 2, before + 8 * n);
    free((void *)memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_in_use_grows_with_what_is_touched),
        FAKE(test_64_cores_two_sockets),
        FAKE(test_older_kernel),
        FAKE(test_hybrid),
        FAKE(test_no_sysfs),
        cmocka_unit_test(test_limit),
        FAKE(test_container_v2),
        FAKE(test_unlimited_v2),
        FAKE(test_limits_of_ancestors_v2),
        FAKE(test_container_v1),
        FAKE(test_unlimited_v1),
        FAKE(test_group_outside_of_mount),
        FAKE(test_malformed),
        FAKE(test_meminfo_without_available),
        FAKE(test_no_memory),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
