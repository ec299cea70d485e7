/*
 * adapter_merge.h - a merge as users ask for it: methods and adapters by name, the result into the
 * registry, and what it cost. What the command line and REST share.
 *
 * Owner:   hs_adapter_merge_clear releases what hs_adapter_merge_source added.
 * Threads: no state.
 */
#ifndef API_ADAPTER_MERGE_H
#define API_ADAPTER_MERGE_H

#include "adapter_add.h"

#define HS_ADAPTER_MERGE_SOURCES_MAX 64

struct hs_adapter_merge {
    const char *model_path, *model_name; /* of the adapters' model */
    struct hs_merge_params params;
    struct hs_merge_source sources[HS_ADAPTER_MERGE_SOURCES_MAX];
    char *parents[HS_ADAPTER_MERGE_SOURCES_MAX]; /* "name@version"; NULL: a path */
    int32_t n_sources;
};

/* What the rank cut off, of all targets together, relative to what was merged. */
struct hs_adapter_merge_cost {
    double error;          /* 0 to 1 */
    double largest;        /* of one target */
    char largest_name[64]; /* "": nothing was cut off */
    int32_t rank;          /* the highest of a target */
};

/* HS_INVALID_ARGUMENT; the hint lists the methods. */
HS_CHECKED hs_status hs_adapter_merge_method(const char *name, int32_t *ret_method,
                                             struct hs_error *err);
/* A random seed of 32 bits; HS_IO. */
HS_CHECKED hs_status hs_adapter_merge_draw_seed(struct hs_merge_params *params,
                                                struct hs_error *err);
/* One more adapter of the registry, or with a '/' in its name a path. HS_NOT_FOUND, HS_LIMIT. */
HS_CHECKED hs_status hs_adapter_merge_source(struct hs_adapter_merge *merge, hs_registry *registry,
                                             const char *name, double weight, struct hs_error *err);
void hs_adapter_merge_clear(struct hs_adapter_merge *merge);

/* Whether the method draws at random. */
bool hs_adapter_merge_has_seed(const struct hs_adapter_merge *merge);
void hs_adapter_merge_cost(const hs_fused_weights *fused, struct hs_adapter_merge_cost *ret_cost);
/* {"method", "seed", "rank", "relative_error", "targets"}; fused NULL: without the last three. NULL
 * without memory. */
json_t *hs_adapter_merge_json(const struct hs_adapter_merge *merge, const hs_fused_weights *fused);

/* Put the result into the registry under `name`, by way of a file in `folder`, which is made. */
struct hs_adapter_merge_add {
    const char *name, *folder;
    bool is_f16, replaces;
    int64_t n_keep;
};
HS_CHECKED hs_status hs_adapter_merge_register(const struct hs_adapter_merge *merge,
                                               const hs_fused_weights *fused, hs_registry *registry,
                                               const struct hs_adapter_merge_add *add,
                                               struct hs_registry_adapter *ret_row,
                                               struct hs_error *err);

#endif
