/* fake_fusion.c - merging that computes nothing. */
#include "fake_fusion.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"

struct fake_fusion fake_fusion;

struct hs_fused_weights {
    int unused;
};
static struct hs_fused_weights result;

static hs_status remember(const char *base_path, const struct hs_merge_source *sources, int32_t n,
                          const struct hs_merge_params *params, struct hs_error *err)
{
    struct fake_fusion *f = &fake_fusion;
    f->n_calls++;
    f->n_sources = n;
    f->params = *params;
    snprintf(f->base, sizeof f->base, "%s", base_path);
    for (int32_t i = 0; i < n && i < 4; i++) {
        snprintf(f->paths[i], sizeof f->paths[i], "%s", sources[i].path);
        snprintf(f->names[i], sizeof f->names[i], "%s", sources[i].name);
        f->weights[i] = sources[i].weight;
    }
    bool is_cancelled = false;
    atomic_fetch_add(&f->n_running, 1);
    do {
        sched_yield();
        is_cancelled = params->progress != NULL && !params->progress(0.5f, params->progress_user);
    } while (atomic_load(&f->is_held) && !is_cancelled);
    atomic_fetch_sub(&f->n_running, 1);
    if (is_cancelled) {
        atomic_fetch_add(&f->n_cancelled, 1);
        return hs_error_set(err, HS_CANCELLED, "cancelled");
    }
    return f->status == HS_OK ? HS_OK : hs_error_set(err, f->status, "fusion failed");
}

hs_status hs_merge_adapters(const char *base_path, const struct hs_merge_source *sources,
                            int32_t n_sources, const struct hs_merge_params *params,
                            hs_fused_weights **ret_fused, struct hs_error *err)
{
    hs_status status = remember(base_path, sources, n_sources, params, err);
    *ret_fused = status == HS_OK ? &result : NULL;
    return status;
}

void hs_fused_weights_free(hs_fused_weights *fused)
{
    (void)fused;
}

int32_t hs_fused_weights_n_targets(const hs_fused_weights *fused)
{
    (void)fused;
    return 2;
}

/* Norms 3 and 4, errors 0 and 1: 5 and 1 in all, and a quarter of the second. */
void hs_fused_weights_target(const hs_fused_weights *fused, int32_t i,
                             struct hs_merge_target *ret_target)
{
    (void)fused;
    *ret_target = (struct hs_merge_target){.rank = 8 + i, .norm = 3 + i, .error = i};
    snprintf(ret_target->tensor, sizeof ret_target->tensor, "blk.%d.attn_q.weight", i);
}

static hs_status write_file(const char *path, struct hs_error *err)
{
    struct hs_buf bytes = HS_BUF_INIT(1 << 24);
    snprintf(fake_fusion.out, sizeof fake_fusion.out, "%s", path);
    hs_status status = fake_fusion.file == NULL ? HS_OK : hs_fs_read(fake_fusion.file, &bytes, err);
    if (status == HS_OK && fake_fusion.file != NULL) {
        status = hs_fs_write_atomic(path, bytes.data, bytes.len, 0644, err);
    }
    hs_buf_free(&bytes);
    return status;
}

hs_status hs_fused_weights_write(const hs_fused_weights *fused, const char *path, const char *name,
                                 bool is_f16, struct hs_error *err)
{
    (void)fused;
    snprintf(fake_fusion.name, sizeof fake_fusion.name, "%s", name);
    fake_fusion.is_f16 = is_f16;
    return write_file(path, err);
}

hs_status hs_merge_into_model(const char *base_path, const struct hs_merge_source *sources,
                              int32_t n_sources, const struct hs_merge_params *params,
                              const char *path, const char *type, struct hs_error *err)
{
    hs_status status = remember(base_path, sources, n_sources, params, err);
    snprintf(fake_fusion.type, sizeof fake_fusion.type, "%s", type == NULL ? "" : type);
    return status == HS_OK ? write_file(path, err) : status;
}
