/* machine.c - cores from sysfs and the affinity mask, memory from /proc/meminfo, both within the
 * cgroups' limits. */
#include "base/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "machine_probe.h"

#define CPUS_MAX (1u << 17)

bool hs_machine_read(const char *root, const char *path, char *ret, size_t size)
{
    HS_CLEANUP(hs_freep) char *full = hs_asprintf("%s%s", root, path);
    HS_CLEANUP(hs_closep) int fd = full == NULL ? -1 : open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t len = 0;
    while (len < size - 1) {
        ssize_t n = read(fd, ret + len, size - 1 - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return false;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    ret[len] = '\0';
    return true;
}

/* The processor whose number stands for the core of `cpu`: the first of its siblings. */
static int core_of(const char *root, int cpu)
{
    static const char *const files[] = {"core_cpus_list", "thread_siblings_list"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[96], text[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, files[i]);
        if (hs_machine_read(root, path, text, sizeof text) && text[0] >= '0' && text[0] <= '9') {
            return (int)strtol(text, NULL, 10);
        }
    }
    return cpu;
}

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

int32_t hs_machine_probe_cores(const char *root, const int *cpus, size_t n_cpus)
{
    HS_CLEANUP(hs_freep) int *cores = hs_realloc_array(NULL, n_cpus, sizeof *cores);
    if (cores == NULL || n_cpus == 0) {
        return 1;
    }
    for (size_t i = 0; i < n_cpus; i++) {
        cores[i] = core_of(root, cpus[i]);
    }
    qsort(cores, n_cpus, sizeof *cores, compare_int);
    int32_t n = 1;
    for (size_t i = 1; i < n_cpus; i++) {
        n += cores[i] != cores[i - 1];
    }
    return n;
}

int32_t hs_machine_probe_limit(int32_t n_cores, uint64_t quota_milli)
{
    uint64_t limit = quota_milli == HS_MACHINE_UNLIMITED
                         ? (uint64_t)INT32_MAX
                         : quota_milli / 1000 + (quota_milli % 1000 != 0);
    int32_t n = limit < (uint64_t)n_cores ? (int32_t)limit : n_cores;
    return n < 1 ? 1 : n;
}

/* Processors of the affinity mask; NULL when it cannot be had. */
static int *allowed_cpus(size_t *ret_n)
{
    for (size_t n_cpus = 1024; n_cpus <= CPUS_MAX; n_cpus *= 2) {
        size_t size = CPU_ALLOC_SIZE(n_cpus);
        HS_CLEANUP(hs_freep) cpu_set_t *set = hs_calloc(1, size);
        if (set == NULL) {
            return NULL;
        }
        if (sched_getaffinity(0, size, set) != 0) {
            if (errno == EINVAL) {
                continue; /* the kernel knows more processors than fit this mask */
            }
            return NULL;
        }
        int *cpus = hs_realloc_array(NULL, (size_t)CPU_COUNT_S(size, set), sizeof *cpus);
        if (cpus == NULL) {
            return NULL;
        }
        *ret_n = 0;
        for (size_t cpu = 0; cpu < n_cpus; cpu++) {
            if (CPU_ISSET_S(cpu, size, set)) {
                cpus[(*ret_n)++] = (int)cpu;
            }
        }
        return cpus;
    }
    return NULL;
}

int32_t hs_machine_physical_cores(void)
{
    size_t n_cpus = 0;
    HS_CLEANUP(hs_freep) int *cpus = allowed_cpus(&n_cpus);
    int32_t n_cores =
        cpus == NULL ? hs_machine_logical_cpus() : hs_machine_probe_cores("", cpus, n_cpus);
    return hs_machine_probe_limit(n_cores, hs_machine_probe_quota(""));
}

int32_t hs_machine_logical_cpus(void)
{
    size_t n_cpus = 0;
    HS_CLEANUP(hs_freep) int *cpus = allowed_cpus(&n_cpus);
    long n = cpus != NULL ? (long)n_cpus : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int32_t)n;
}

/* The kB value of "name:   123 kB" in bytes; false when it is not there. */
static bool meminfo_value(const char *text, const char *name, uint64_t *ret_bytes)
{
    size_t len = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            *ret_bytes = strtoull(line + len + 1, NULL, 10) * 1024;
            return true;
        }
    }
    return false;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct hs_machine_memory hs_machine_probe_memory(const char *root)
{
    char text[8192];
    struct hs_machine_memory memory = {.total_bytes = 0};
    if (!hs_machine_read(root, "/proc/meminfo", text, sizeof text) ||
        !meminfo_value(text, "MemTotal", &memory.total_bytes)) {
        return memory;
    }
    if (!meminfo_value(text, "MemAvailable", &memory.available_bytes)) { /* before Linux 3.14 */
        uint64_t buffers = 0, cached = 0;
        meminfo_value(text, "MemFree", &memory.available_bytes);
        meminfo_value(text, "Buffers", &buffers);
        meminfo_value(text, "Cached", &cached);
        memory.available_bytes += buffers + cached;
    }
    struct hs_machine_memory granted = hs_machine_cgroup_memory(root);
    memory.total_bytes = least(memory.total_bytes, granted.total_bytes);
    memory.available_bytes = least(memory.available_bytes, granted.available_bytes);
    memory.available_bytes = least(memory.available_bytes, memory.total_bytes);
    return memory;
}

static uint64_t sysconf_bytes(int n_pages_name)
{
    long n_pages = sysconf(n_pages_name), page_size = sysconf(_SC_PAGESIZE);
    return n_pages < 0 || page_size < 0 ? 0 : (uint64_t)n_pages * (uint64_t)page_size;
}

uint64_t hs_machine_memory_available(void)
{
    struct hs_machine_memory memory = hs_machine_probe_memory("");
    return memory.total_bytes == 0 ? sysconf_bytes(_SC_AVPHYS_PAGES) : memory.available_bytes;
}

uint64_t hs_machine_memory_total(void)
{
    struct hs_machine_memory memory = hs_machine_probe_memory("");
    return memory.total_bytes == 0 ? sysconf_bytes(_SC_PHYS_PAGES) : memory.total_bytes;
}

uint64_t hs_machine_memory_resident(void)
{
    char text[256];
    unsigned long long n_all = 0, n_resident = 0;
    long page_size = sysconf(_SC_PAGESIZE);
    bool is_read = hs_machine_read("", "/proc/self/statm", text, sizeof text) &&
                   sscanf(text, "%llu %llu", &n_all, &n_resident) == 2;
    return is_read && page_size > 0 ? n_resident * (uint64_t)page_size : 0;
}
