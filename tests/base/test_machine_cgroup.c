/* Limits of control groups, versions 1 and 2, on faked machines. */
#include "machine_test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE(test_container_v2), FAKE(test_unlimited_v2), FAKE(test_limits_of_ancestors_v2),
        FAKE(test_container_v1), FAKE(test_unlimited_v1), FAKE(test_group_outside_of_mount),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
