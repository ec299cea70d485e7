/*
 * fusion_running.c - adapters merged into the weights of a loaded model, and taken out again.
 *
 * The new bytes of all changed tensors are made first, from the model's file, while requests go on;
 * they are put in with the engine's mutex held and nobody using the model. Undoing puts the file's
 * bytes back, so it is exact. The cache key changes with the weights: KV of one is never used with
 * the other, also not in saved sessions.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "embedder.h"
#include "engine_internal.h"
#include "lora_fusion.h"
#include "worker.h"

/* New data of some tensors. */
struct staged {
    struct hs_fusion_model model;
    const struct hs_gguf_tensor **tensors; /* [n] */
    uint8_t **data;                        /* [n] */
    int32_t n;
};

static void staged_close(struct staged *staged)
{
    for (int32_t i = 0; i < staged->n; i++) {
        hs_free(staged->data[i]);
    }
    hs_free(staged->tensors);
    hs_free(staged->data);
    hs_gguf_free((hs_gguf *)(uintptr_t)staged->model.gguf);
    hs_closep(&staged->model.fd);
}

/* The file must be the one that was loaded. */
static hs_status staged_open(const struct hs_model *model, size_t capacity, struct staged *staged,
                             struct hs_error *err)
{
    hs_gguf *gguf = NULL;
    struct stat info;
    char fingerprint[65];
    staged->model = (struct hs_fusion_model){.rt = model->rt, .path = model->info.path, .fd = -1};
    hs_status status = hs_gguf_open(model->info.path, &gguf, err);
    staged->model.gguf = gguf;
    if (status == HS_OK) {
        status = hs_gguf_fingerprint(gguf, model->info.path, fingerprint, err);
    }
    if (status == HS_OK && strcmp(fingerprint, model->info.fingerprint) != 0) {
        hs_error_set(err, HS_MISMATCH, "'%s' is not the file that was loaded any more",
                     model->info.path);
        hs_error_hint(err, "load the model again");
        return HS_MISMATCH;
    }
    if (status == HS_OK) {
        status = hs_fs_open(model->info.path, &staged->model.fd, &info, err);
    }
    staged->tensors = hs_calloc(capacity, sizeof *staged->tensors);
    staged->data = hs_calloc(capacity, sizeof *staged->data);
    if (status == HS_OK && (staged->tensors == NULL || staged->data == NULL)) {
        return hs_error_nomem(err, "merged weights");
    }
    return status;
}

/* plan NULL: as the file has it */
static hs_status stage(struct staged *staged, const char *tensor, const hs_merge_plan *plan,
                       const struct hs_merge_params *params, struct hs_error *err)
{
    const struct hs_gguf_tensor *found = hs_gguf_find_tensor(staged->model.gguf, tensor);
    if (found == NULL) {
        hs_error_set(err, HS_NOT_SUPPORTED, "'%s' does not hold %s: it is in another file of it",
                     staged->model.path, tensor);
        hs_error_hint(err, "join the model's files first, with llama-gguf-split --merge");
        return HS_NOT_SUPPORTED;
    }
    uint8_t *data = hs_alloc(found->size_bytes);
    if (data == NULL) {
        return hs_error_nomem(err, "merged weights");
    }
    staged->tensors[staged->n] = found;
    staged->data[staged->n++] = data;
    return hs_fusion_tensor(&staged->model, plan, found, params, data, err);
}

static hs_status put_in(struct hs_model *model, const struct staged *staged, int32_t *ret_n,
                        struct hs_error *err)
{
    hs_status status = HS_OK;
    *ret_n = 0;
    for (int32_t i = 0; i < staged->n && status == HS_OK; i++) {
        const struct hs_gguf_tensor *tensor = staged->tensors[i];
        status = model->rt->weights_set(model->rt_model, tensor->name, tensor->type,
                                        staged->data[i], tensor->size_bytes, err);
        *ret_n += status == HS_OK ? 1 : 0;
    }
    return status;
}

/* The first n tensors as they were, after a failure. */
static void take_back(struct hs_model *model, const struct staged *staged, int32_t n)
{
    const struct hs_merge_params params = {0};
    for (int32_t i = 0; i < n; i++) {
        const struct hs_gguf_tensor *tensor = staged->tensors[i];
        if (hs_fusion_tensor(&staged->model, NULL, tensor, &params, staged->data[i], NULL) !=
                HS_OK ||
            model->rt->weights_set(model->rt_model, tensor->name, tensor->type, staged->data[i],
                                   tensor->size_bytes, NULL) != HS_OK) {
            hs_log(HS_LOG_ERROR, "inference", "%s of model '%s' could not be put back",
                   tensor->name, model->info.id);
        }
    }
}

/* With the mutex held: nobody but the caller uses the model. */
static hs_status check_idle(const struct hs_model *model, struct hs_error *err)
{
    if (model->n_users > 1 || (model->worker != NULL && hs_worker_is_busy(model->worker)) ||
        hs_embedder_is_busy(model->embedder)) {
        hs_error_set(err, HS_BUSY, "model '%s' is in use", model->info.id);
        hs_error_hint(err, "try again when its requests are done");
        return HS_BUSY;
    }
    return HS_OK;
}

/* A key for the model with what was merged into it: of the plain key, and the adapters' content. */
static hs_status make_key(const struct hs_model *model, const struct hs_fusion *fusion,
                          const struct hs_merge_params *params, char ret_key[HS_CACHE_KEY_MAX],
                          struct hs_error *err)
{
    hs_sha256 *hash = NULL;
    char numbers[256];
    snprintf(numbers, sizeof numbers, "|%a|%a|%a|%a|%d|%llu|", params->density, params->gamma,
             params->epsilon, params->t, (int)params->majority_sign,
             (unsigned long long)params->seed);
    hs_status status = hs_sha256_new(&hash, err);
    const char *const texts[] = {model->cache_key, fusion->recipe, numbers};
    for (size_t i = 0; i < 3 && status == HS_OK; i++) {
        status = hs_sha256_update(hash, texts[i], strlen(texts[i]));
    }
    for (int32_t i = 0; i < fusion->n_files && status == HS_OK; i++) {
        status =
            hs_sha256_update(hash, fusion->files[i]->version, strlen(fusion->files[i]->version));
    }
    if (status == HS_OK) {
        status = hs_sha256_final(hash, ret_key);
    }
    hs_sha256_free(hash);
    return status;
}

/* The names of what was staged, for undoing. */
static hs_status list_names(const struct staged *staged, struct hs_fused_tensor **ret_names,
                            struct hs_error *err)
{
    struct hs_fused_tensor *names = hs_calloc((size_t)staged->n, sizeof *names);
    if (names == NULL) {
        return hs_error_nomem(err, "names of merged weights");
    }
    for (int32_t i = 0; i < staged->n; i++) {
        snprintf(names[i].name, sizeof names[i].name, "%s", staged->tensors[i]->name);
    }
    *ret_names = names;
    return HS_OK;
}

/* Whether what is put back is what is merged now. */
static bool is_all(const struct hs_model *model, const struct staged *staged)
{
    bool is_same = staged->n == model->n_fused;
    for (int32_t i = 0; i < staged->n && is_same; i++) {
        is_same = strcmp(staged->tensors[i]->name, model->fused[i].name) == 0;
    }
    return is_same;
}

/* With the mutex held. key NULL: taken out. */
static hs_status check_state(const struct hs_model *model, const struct staged *staged,
                             const char *key, struct hs_error *err)
{
    if (key != NULL && model->n_fused > 0) {
        hs_error_set(err, HS_ALREADY_EXISTS, "adapters are merged into model '%s' already",
                     model->info.id);
        hs_error_hint(err, "take them out first");
        return HS_ALREADY_EXISTS;
    }
    if (key == NULL && model->n_fused == 0) {
        hs_error_set(err, HS_NOT_FOUND, "no adapters are merged into model '%s'", model->info.id);
        hs_error_hint(err, "merge some first");
        return HS_NOT_FOUND;
    }
    if (key == NULL && !is_all(model, staged)) {
        return hs_error_set(err, HS_BUSY, "other adapters were merged into model '%s' meanwhile",
                            model->info.id);
    }
    return check_idle(model, err);
}

/* Put them in, with this key from then on (NULL: the model's own again). Takes names on success. */
static hs_status change(hs_engine *engine, struct hs_model *model, const struct staged *staged,
                        const char *key, struct hs_fused_tensor *names, struct hs_error *err)
{
    int32_t n_done = 0;
    pthread_mutex_lock(&engine->mutex);
    hs_status status = check_state(model, staged, key, err);
    if (status == HS_OK) {
        status = put_in(model, staged, &n_done, err);
        if (status != HS_OK && key != NULL) {
            take_back(model, staged, n_done);
        }
    }
    if (status == HS_OK) {
        if (key != NULL) {
            memcpy(model->plain_key, model->cache_key, sizeof model->plain_key);
        }
        memcpy(model->cache_key, key != NULL ? key : model->plain_key, sizeof model->cache_key);
        hs_free(model->fused);
        model->fused = names;
        model->n_fused = key != NULL ? staged->n : 0;
    }
    pthread_mutex_unlock(&engine->mutex);
    return status;
}

static hs_status fuse(hs_engine *engine, struct hs_model *model, const struct hs_fusion *fusion,
                      const struct hs_merge_params *params, struct staged *staged,
                      struct hs_error *err)
{
    int32_t n = hs_merge_plan_n_targets(fusion->plan);
    char key[HS_CACHE_KEY_MAX];
    struct hs_fused_tensor *names = NULL;
    hs_status status = staged_open(model, (size_t)n, staged, err);
    for (int32_t i = 0; i < n && status == HS_OK; i++) {
        status =
            stage(staged, hs_merge_plan_target(fusion->plan, i)->tensor, fusion->plan, params, err);
    }
    if (status == HS_OK) {
        status = make_key(model, fusion, params, key, err);
    }
    if (status == HS_OK) {
        status = list_names(staged, &names, err);
    }
    if (status == HS_OK) {
        status = change(engine, model, staged, key, names, err);
    }
    if (status != HS_OK) {
        hs_free(names);
    }
    return status;
}

hs_status hs_engine_fuse_weights(hs_engine *engine, const char *model_id,
                                 const struct hs_merge_source *sources, int32_t n_sources,
                                 const struct hs_merge_params *params, struct hs_error *err)
{
    struct hs_model *model = NULL;
    struct hs_fusion fusion = {0};
    struct staged staged = {.model.fd = -1};
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    if (model->rt->weights_set == NULL) {
        status = hs_error_set(err, HS_NOT_SUPPORTED, "%s cannot change weights", model->rt->name);
    }
    if (status == HS_OK) {
        status = hs_fusion_open(model->info.path, sources, n_sources, params, &fusion, err);
    }
    if (status == HS_OK) {
        status = fuse(engine, model, &fusion, params, &staged, err);
    }
    staged_close(&staged);
    hs_fusion_close(&fusion);
    hs_engine_release_model(engine, model);
    return status;
}

static hs_status unfuse(hs_engine *engine, struct hs_model *model, struct staged *staged,
                        struct hs_error *err)
{
    const struct hs_merge_params params = {0};
    pthread_mutex_lock(&engine->mutex);
    int32_t n = model->n_fused; /* changed by who undoes at the same time: refused in the end */
    struct hs_fused_tensor *names = hs_calloc((size_t)n, sizeof *names);
    if (names != NULL && n > 0) {
        memcpy(names, model->fused, (size_t)n * sizeof *names);
    }
    pthread_mutex_unlock(&engine->mutex);
    hs_status status = names == NULL ? hs_error_nomem(err, "names of merged weights")
                                     : staged_open(model, (size_t)n, staged, err);
    for (int32_t i = 0; i < n && status == HS_OK; i++) {
        status = stage(staged, names[i].name, NULL, &params, err);
    }
    hs_free(names);
    return status == HS_OK ? change(engine, model, staged, NULL, NULL, err) : status;
}

hs_status hs_engine_unfuse_weights(hs_engine *engine, const char *model_id, struct hs_error *err)
{
    struct hs_model *model = NULL;
    struct staged staged = {.model.fd = -1};
    hs_status status = hs_engine_acquire_model(engine, model_id, &model, err);
    if (status != HS_OK) {
        return status;
    }
    status = unfuse(engine, model, &staged, err);
    staged_close(&staged);
    hs_engine_release_model(engine, model);
    return status;
}
