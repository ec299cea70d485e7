/*
 * machine.h - what this machine offers: physical cores and memory, with affinity masks and cgroup
 * limits respected.
 *
 * Threads: no state.
 * Source:  Linux sysfs cpu topology, sched_getaffinity(2), cgroup v1/v2 memory and cpu controllers,
 * /proc/meminfo.
 */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

#include <stdint.h>

/* Cores (not hyper-threads) this process may run on, at least 1, at most the cgroup's quota rounded
 * up. */
int32_t hs_machine_physical_cores(void);
/* Logical processors this process may run on, at least 1. */
int32_t hs_machine_logical_cpus(void);
/* Bytes that can still be taken without swapping: MemAvailable, or what the cgroup leaves,
 * whichever is less. Cached files, which the kernel drops when memory is wanted, count as free. */
uint64_t hs_machine_memory_available(void);
uint64_t hs_machine_memory_total(void);
/* Of this process, mapped files that are in memory included; 0: unknown. */
uint64_t hs_machine_memory_resident(void);

#endif
