/*
 * machine_cgroup.c - CPU quota and memory limit of the cgroups a process is in, version 1 and 2.
 *
 * /proc/self/cgroup names the group in each hierarchy, /proc/self/mountinfo where the hierarchy is
 * mounted and which group the mount begins at. Limits hold for a group and all below it, so those
 * of every group from ours up to the mount count, and the tightest wins.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "machine_probe.h"

#define LIST_MAX (4u << 20) /* bytes of mountinfo; container hosts have thousands of mounts */
#define PATH_SIZE 4096u

/* Called for each group of a hierarchy with the folder that holds its files. */
typedef void (*visit_fn)(const char *root, const char *folder, bool is_v2, void *user);

/* "a,b,c" contains word */
static bool list_has(const char *list, size_t len, const char *word)
{
    size_t n_word = strlen(word);
    while (len > 0) {
        const char *comma = memchr(list, ',', len);
        size_t n = comma == NULL ? len : (size_t)(comma - list);
        if (n == n_word && memcmp(list, word, n) == 0) {
            return true;
        }
        size_t step = comma == NULL ? len : n + 1;
        list += step;
        len -= step;
    }
    return false;
}

/* Undo the \ooo escapes of mountinfo, in place. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s != '\0'; s++) {
        bool is_octal = s[0] == '\\' && strspn(s + 1, "01234567") >= 3;
        if (is_octal) {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

static hs_status read_list(const char *root, const char *path, struct hs_buf *buf)
{
    HS_CLEANUP(hs_freep) char *full = hs_asprintf("%s%s", root, path);
    return full == NULL ? HS_OUT_OF_MEMORY : hs_fs_read(full, buf, NULL);
}

/*
 * The group of a hierarchy ("0::/a/b" in version 2, "4:cpu,cpuacct:/a/b" in version 1) in
 * ret[PATH_SIZE].
 */
static bool find_group(const char *groups, const char *controller, bool is_v2, char *ret)
{
    for (const char *line = groups; line != NULL && *line != '\0';) {
        const char *newline = strchrnul(line, '\n');
        const char *list = memchr(line, ':', (size_t)(newline - line));
        const char *group =
            list == NULL ? NULL : memchr(list + 1, ':', (size_t)(newline - list - 1));
        if (group != NULL) {
            size_t n_list = (size_t)(group - list - 1);
            bool is_it = is_v2 ? n_list == 0 && strncmp(line, "0:", 2) == 0
                               : list_has(list + 1, n_list, controller);
            size_t len = (size_t)(newline - group - 1);
            if (is_it && len < PATH_SIZE) {
                memcpy(ret, group + 1, len);
                ret[len] = '\0';
                return true;
            }
        }
        line = *newline == '\0' ? NULL : newline + 1;
    }
    return false;
}

/* One mount of a cgroup hierarchy. */
struct mount {
    char group[PATH_SIZE]; /* that the mount begins at */
    char point[PATH_SIZE];
    char type[16];
    char options[512]; /* of the super block: the controllers in version 1 */
};

/* "36 35 98:0 /group /point rw,noatime shared:1 - cgroup2 cgroup2 rw,nsdelegate" */
static bool parse_mount(const char *line, struct mount *ret)
{
    const char *dash = strstr(line, " - ");
    if (dash == NULL || sscanf(line, "%*s %*s %*s %4095s %4095s", ret->group, ret->point) != 2 ||
        sscanf(dash, " - %15s %*s %511s", ret->type, ret->options) != 2) {
        return false;
    }
    unescape(ret->group);
    unescape(ret->point);
    return true;
}

static bool has_prefix_folder(const char *path, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(path, prefix, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Visit the folders from the group's own up to the mount point. */
static void visit_groups(const char *root, const struct mount *mount, const char *group, bool is_v2,
                         visit_fn visit, void *user)
{
    const char *begin = strcmp(mount->group, "/") == 0 ? "" : mount->group;
    /* a group outside of the mount: the container sees its own group as the mount's root */
    const char *below = has_prefix_folder(group, begin) ? group + strlen(begin) : "";
    below = strcmp(below, "/") == 0 ? "" : below;
    HS_CLEANUP(hs_freep) char *folder = hs_asprintf("%s%s", mount->point, below);
    if (folder == NULL) {
        return;
    }
    size_t stop = strlen(mount->point);
    for (;;) {
        visit(root, folder, is_v2, user);
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < stop) {
            return;
        }
        *slash = '\0';
    }
}

/* Visit the process's groups in every hierarchy that may limit `controller`. */
static void visit_controller(const char *root, const char *controller, visit_fn visit, void *user)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf groups = HS_BUF_INIT(LIST_MAX);
    HS_CLEANUP(hs_buf_free) struct hs_buf mounts = HS_BUF_INIT(LIST_MAX);
    HS_CLEANUP(hs_freep) struct mount *mount = hs_alloc(sizeof *mount);
    HS_CLEANUP(hs_freep) char *group = hs_alloc(PATH_SIZE);
    if (mount == NULL || group == NULL || read_list(root, "/proc/self/cgroup", &groups) != HS_OK ||
        read_list(root, "/proc/self/mountinfo", &mounts) != HS_OK) {
        return;
    }
    char *rest = mounts.data;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        if (!parse_mount(line, mount)) {
            continue;
        }
        bool is_v2 = strcmp(mount->type, "cgroup2") == 0;
        bool is_v1 = strcmp(mount->type, "cgroup") == 0 &&
                     list_has(mount->options, strlen(mount->options), controller);
        if ((is_v1 || is_v2) && find_group(groups.data, controller, is_v2, group)) {
            visit_groups(root, mount, group, is_v2, visit, user);
        }
    }
}

static bool read_file(const char *root, const char *folder, const char *name, char *ret,
                      size_t size)
{
    HS_CLEANUP(hs_freep) char *path = hs_asprintf("%s/%s", folder, name);
    return path != NULL && hs_machine_read(root, path, ret, size);
}

/* A file with one number; `otherwise` when it is missing or says "max". */
static uint64_t read_number(const char *root, const char *folder, const char *name,
                            uint64_t otherwise)
{
    char text[64];
    if (!read_file(root, folder, name, text, sizeof text) || text[0] < '0' || text[0] > '9') {
        return otherwise;
    }
    return strtoull(text, NULL, 10);
}

static void visit_quota(const char *root, const char *folder, bool is_v2, void *user)
{
    uint64_t *quota_milli = user;
    uint64_t quota = 0, period = 0;
    if (is_v2) {
        char text[64];
        unsigned long long runs = 0, of = 0;
        if (!read_file(root, folder, "cpu.max", text, sizeof text) ||
            sscanf(text, "%llu %llu", &runs, &of) != 2) {
            return; /* "max 100000" */
        }
        quota = runs;
        period = of;
    } else {
        quota = read_number(root, folder, "cpu.cfs_quota_us", 0); /* -1: none */
        period = read_number(root, folder, "cpu.cfs_period_us", 0);
    }
    if (quota == 0 || period == 0 || quota > UINT64_MAX / 1000) {
        return;
    }
    uint64_t milli = (quota * 1000 + period - 1) / period;
    *quota_milli = milli < *quota_milli ? milli : *quota_milli;
}

uint64_t hs_machine_probe_quota(const char *root)
{
    uint64_t quota_milli = HS_MACHINE_UNLIMITED;
    visit_controller(root, "cpu", visit_quota, &quota_milli);
    return quota_milli;
}

/* The value of "name 123" in memory.stat; 0 when it is not there. */
static uint64_t stat_value(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ' ') {
            return strtoull(line + len + 1, NULL, 10);
        }
    }
    return 0;
}

/* Cached files count as used, and the kernel drops them when memory is wanted. */
static uint64_t reclaimable(const char *root, const char *folder, bool is_v2)
{
    char text[8192];
    if (!read_file(root, folder, "memory.stat", text, sizeof text)) {
        return 0;
    }
    return is_v2 ? stat_value(text, "inactive_file") + stat_value(text, "active_file") +
                       stat_value(text, "slab_reclaimable")
                 : stat_value(text, "total_inactive_file") + stat_value(text, "total_active_file");
}

static void visit_memory(const char *root, const char *folder, bool is_v2, void *user)
{
    struct hs_machine_memory *memory = user;
    uint64_t limit = read_number(root, folder, is_v2 ? "memory.max" : "memory.limit_in_bytes",
                                 HS_MACHINE_UNLIMITED);
    if (is_v2) { /* above memory.high a group is slowed down until it swaps */
        uint64_t high = read_number(root, folder, "memory.high", HS_MACHINE_UNLIMITED);
        limit = high < limit ? high : limit;
    }
    if (limit >=
        INT64_MAX / 2) { /* version 1 writes "no limit" as the largest page-aligned number */
        return;
    }
    uint64_t used =
        read_number(root, folder, is_v2 ? "memory.current" : "memory.usage_in_bytes", 0);
    uint64_t cached = reclaimable(root, folder, is_v2);
    used -= cached < used ? cached : used;
    uint64_t left = used < limit ? limit - used : 0;
    memory->total_bytes = limit < memory->total_bytes ? limit : memory->total_bytes;
    memory->available_bytes = left < memory->available_bytes ? left : memory->available_bytes;
}

struct hs_machine_memory hs_machine_cgroup_memory(const char *root)
{
    struct hs_machine_memory memory = {.total_bytes = HS_MACHINE_UNLIMITED,
                                       .available_bytes = HS_MACHINE_UNLIMITED};
    visit_controller(root, "memory", visit_memory, &memory);
    return memory;
}
