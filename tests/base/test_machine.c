/* Tests of base/machine.h on this machine and on faked ones (machine_probe.h). */
#include "machine_test.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put_cpu(const char *root, int cpu, const char *file, const char *siblings)
{
    char path[200];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, file);
    put(root, path, siblings);
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
        FAKE(test_malformed),
        FAKE(test_meminfo_without_available),
        FAKE(test_no_memory),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
