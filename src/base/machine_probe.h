/*
 * machine_probe.h - inside base/machine: the same questions asked of a machine whose /sys and /proc
 * lie below a folder, which is how tests fake one.
 *
 * In:      root, "" for this machine; cpus[n_cpus], the processors the process may run on.
 * Threads: no state.
 */
#ifndef MACHINE_PROBE_H
#define MACHINE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HS_MACHINE_UNLIMITED UINT64_MAX

/* Distinct cores among cpus[n_cpus] by sysfs, every processor being one where sysfs is silent. */
int32_t hs_machine_probe_cores(const char *root, const int *cpus, size_t n_cpus);
/* Thousandths of a processor the cgroups grant; HS_MACHINE_UNLIMITED: no quota. */
uint64_t hs_machine_probe_quota(const char *root);
/* cores, at most the quota rounded up, at least 1. */
int32_t hs_machine_probe_limit(int32_t n_cores, uint64_t quota_milli);

struct hs_machine_memory {
    uint64_t total_bytes;
    uint64_t available_bytes;
};
/* Physical memory and, where tighter, the cgroups' limits. Zeros: /proc/meminfo does not say. */
struct hs_machine_memory hs_machine_probe_memory(const char *root);

/* Limits of all cgroups the process is in, up to the root; available_bytes: what they leave. */
struct hs_machine_memory hs_machine_cgroup_memory(const char *root);

/* The text of root/path in ret[size]; false when it cannot be read. Longer files are cut. */
bool hs_machine_read(const char *root, const char *path, char *ret, size_t size);

#endif
