/* Loading adapters: what their files are, reading and packing them, the threads that do it. */
#include "adapter_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"

/* ---- what the files are ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t n = strlen(end);
    return len >= n && strcmp(text + len - n, end) == 0;
}

static hs_status add_file(hs_sha256 *hash, const struct stat *info, uint64_t *bytes)
{
    const int64_t parts[] = {(int64_t)info->st_dev,          (int64_t)info->st_ino,
                             (int64_t)info->st_size,         (int64_t)info->st_mtim.tv_sec,
                             (int64_t)info->st_mtim.tv_nsec, (int64_t)info->st_ctim.tv_sec,
                             (int64_t)info->st_ctim.tv_nsec};
    *bytes += S_ISREG(info->st_mode) ? (uint64_t)info->st_size : 0;
    return hs_sha256_update(hash, parts, sizeof(parts));
}

/* The files of PEFT's folder, or those beside one of them. */
static hs_status add_folder(hs_sha256 *hash, const char *path, bool is_folder, uint64_t *bytes,
                            struct hs_error *err)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors"};
    const char *slash = strrchr(path, '/');
    size_t len = is_folder ? strlen(path) : slash == NULL ? 0 : (size_t)(slash - path);
    HS_CLEANUP(hs_freep) char *folder = len == 0 ? hs_strdup(".") : hs_strndup(path, len);
    hs_status status = folder == NULL ? HS_OUT_OF_MEMORY : HS_OK;
    for (size_t i = 0; status == HS_OK && i < sizeof(names) / sizeof(names[0]); i++) {
        char *file = hs_fs_join(folder, names[i]);
        struct stat info;
        status = file == NULL             ? HS_OUT_OF_MEMORY
                 : stat(file, &info) == 0 ? add_file(hash, &info, bytes)
                                          : HS_OK;
        hs_free(file);
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "path of an adapter");
}

hs_status hs_adapter_stamp(const char *path, char ret_stamp[65], uint64_t *ret_bytes,
                           struct hs_error *err)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return hs_error_errno(err, errno, "find", path);
    }
    hs_sha256 *hash = NULL;
    uint64_t bytes = 0;
    hs_status status = hs_sha256_new(&hash, err);
    bool is_folder = S_ISDIR(info.st_mode);
    if (status == HS_OK && !is_folder) {
        status = add_file(hash, &info, &bytes);
    }
    if (status == HS_OK && !ends_with(path, ".gguf")) {
        status = add_folder(hash, path, is_folder, &bytes, err);
    }
    if (status == HS_OK) {
        status = hs_sha256_final(hash, ret_stamp);
        *ret_bytes = bytes;
    }
    hs_sha256_free(hash);
    return status;
}

/* ---- reading and packing ---- */

static hs_status check_stamp(const struct hs_adapter_version *version, struct hs_error *err)
{
    char stamp[65];
    uint64_t bytes = 0;
    hs_status status = hs_adapter_stamp(version->path, stamp, &bytes, err);
    if (status == HS_OK && strcmp(stamp, version->stamp) != 0) {
        hs_error_set(err, HS_MISMATCH, "'%.200s' has changed since it was registered",
                     version->path);
        hs_error_hint(err, "replace the adapter, so that the new content gets a version of its "
                           "own");
        status = HS_MISMATCH;
    }
    return status;
}

static hs_status pack(hs_adapter_pool *pool, const struct hs_model *model,
                      const struct hs_lora *weights, struct hs_adapter_load *load,
                      struct hs_error *err)
{
    hs_status status = pool->p.rt->adapter_new(model->rt_model, weights, &load->packed, err);
    if (status == HS_OK) {
        load->bytes = pool->p.rt->adapter_bytes(load->packed);
    }
    return status;
}

static hs_status read_file(hs_adapter_pool *pool, const struct hs_model *model,
                           const struct hs_adapter_version *version, struct hs_adapter_load *load,
                           struct hs_error *err)
{
    struct hs_lora lora = {0};
    void *handle = NULL;
    hs_status status = check_stamp(version, err);
    if (status == HS_OK) {
        status =
            pool->p.reader.read(pool->p.reader.user, model, version->path, &lora, &handle, err);
    }
    if (status != HS_OK) {
        return status;
    }
    status = pack(pool, model, &lora, load, err);
    pool->p.reader.close(handle);
    if (status == HS_OK) {
        status = check_stamp(version, err);
        if (status != HS_OK) {
            pool->p.rt->adapter_free(load->packed);
        }
    }
    return status;
}

hs_status hs_adapter_pool_prepare(hs_adapter_pool *pool, const struct hs_model *model,
                                  struct hs_error *err)
{
    if (pool->p.budget_bytes == 0 || pool->p.rt->lora_prepare == NULL) {
        return HS_OK;
    }
    pthread_mutex_lock(&pool->prepare);
    hs_status status = pool->p.rt->lora_prepare(model->rt_model, model->context_params.lora_engine,
                                                &model->context_params, err);
    pthread_mutex_unlock(&pool->prepare);
    return status;
}

hs_status hs_adapter_load(hs_adapter_pool *pool, const struct hs_model *model,
                          const struct hs_adapter_version *version, const struct hs_lora *weights,
                          struct hs_adapter_load *ret_load, struct hs_error *err)
{
    double begin_ms = hs_clock_ms();
    struct hs_adapter_load load = {0};
    hs_status status = hs_adapter_pool_prepare(pool, model, err);
    if (status == HS_OK) {
        status = weights != NULL ? pack(pool, model, weights, &load, err)
                                 : read_file(pool, model, version, &load, err);
    }
    if (status == HS_OK) {
        load.ms = hs_clock_ms() - begin_ms;
        *ret_load = load;
    }
    return status;
}

/* ---- the loaders ---- */

void hs_adapter_trash_locked(hs_adapter_pool *pool, hs_rt_adapter *packed)
{
    if (pool->n_trash == pool->cap_trash) {
        size_t cap = pool->cap_trash * 2 + 8;
        hs_rt_adapter **trash = hs_realloc_array(pool->trash, cap, sizeof(hs_rt_adapter *));
        if (trash == NULL) {
            pool->p.rt->adapter_free(packed);
            return;
        }
        pool->trash = trash;
        pool->cap_trash = cap;
    }
    pool->trash[pool->n_trash++] = packed;
    pthread_cond_signal(&pool->work);
}

static void free_trash_locked(hs_adapter_pool *pool)
{
    hs_rt_adapter **trash = pool->trash;
    size_t n = pool->n_trash;
    pool->trash = NULL;
    pool->n_trash = pool->cap_trash = 0;
    pool->n_freeing++;
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < n; i++) {
        pool->p.rt->adapter_free(trash[i]);
    }
    hs_free(trash);
    pthread_mutex_lock(&pool->mutex);
    pool->n_freeing--;
    pthread_cond_broadcast(&pool->changed);
}

void hs_adapter_flush_locked(hs_adapter_pool *pool)
{
    while (pool->n_trash > 0 || pool->n_freeing > 0) {
        if (pool->n_trash > 0) {
            free_trash_locked(pool);
        } else {
            pthread_cond_wait(&pool->changed, &pool->mutex);
        }
    }
}

static void finish_locked(hs_adapter_pool *pool, struct hs_adapter_version *version,
                          hs_status status, const struct hs_adapter_load *load,
                          struct hs_error *error)
{
    pool->used_bytes -= version->bytes;
    if (status == HS_OK) {
        hs_adapter_ready_locked(pool, version, load->packed, load->bytes);
        version->entry->n_loads++;
        version->entry->load_ms = load->ms;
        /* Beside others an estimate that was too low is borne; alone it would never fit. */
        if (!hs_adapter_make_room_locked(pool, 0) && pool->n_granted <= 1) {
            hs_adapter_evict_locked(pool, version);
            status = hs_adapter_no_room(pool, load->bytes, error);
        }
    }
    if (status != HS_OK) {
        hs_error_prefix(error, "adapter '%s'", version->entry->name);
        hs_log(HS_LOG_WARN, "inference", "%s", error->message);
        version->state = HS_ADAPTER_FAILED;
        version->error = *error;
    }
    hs_adapter_tell_locked(pool, version);
}

/* Take the first version of the queue and load it, if anybody still wants it. */
static void load_next_locked(hs_adapter_pool *pool)
{
    struct hs_adapter_version *version = pool->queue_first;
    pool->queue_first = version->next_queued;
    pool->n_queued--;
    if (pool->queue_first == NULL) {
        pool->queue_last = NULL;
    }
    if (version->n_pins == 0) {
        version->state = HS_ADAPTER_REGISTERED;
        pool->used_bytes -= version->bytes;
    } else {
        version->is_in_load = true;
        pthread_mutex_unlock(&pool->mutex);
        struct hs_adapter_load load = {0};
        struct hs_error error = {0};
        hs_status status =
            hs_adapter_load(pool, version->entry->model, version, NULL, &load, &error);
        pthread_mutex_lock(&pool->mutex);
        version->is_in_load = false;
        finish_locked(pool, version, status, &load, &error);
    }
    hs_adapter_version_drop_locked(pool, version);
    hs_adapter_grant_locked(pool);
    pthread_cond_broadcast(&pool->changed);
}

static void *loader_main(void *arg)
{
    hs_adapter_pool *pool = arg;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        if (pool->n_trash > 0) {
            free_trash_locked(pool);
        } else if (pool->is_stopping) {
            break;
        } else if (pool->queue_first != NULL) {
            load_next_locked(pool);
        } else {
            pool->n_idle++;
            pthread_cond_wait(&pool->work, &pool->mutex);
            pool->n_idle--;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static int start_loader_locked(hs_adapter_pool *pool)
{
    int rc = pthread_create(&pool->loaders[pool->n_loaders], NULL, loader_main, pool);
    pool->n_loaders += rc == 0;
    return rc;
}

hs_status hs_adapter_loader_locked(hs_adapter_pool *pool, struct hs_error *err)
{
    int rc = pool->n_loaders > 0 ? 0 : start_loader_locked(pool);
    return rc == 0 ? HS_OK
                   : hs_error_set(err, hs_status_from_errno(rc),
                                  "cannot start a thread that loads adapters: %s", strerror(rc));
}

void hs_adapter_queue_locked(hs_adapter_pool *pool, struct hs_adapter_version *version)
{
    version->state = HS_ADAPTER_LOADING;
    version->next_queued = NULL;
    if (pool->queue_last == NULL) {
        pool->queue_first = version;
    } else {
        pool->queue_last->next_queued = version;
    }
    pool->queue_last = version;
    if (++pool->n_queued > pool->n_idle && pool->n_loaders < HS_ADAPTER_LOADERS_MAX) {
        (void)start_loader_locked(pool); /* another one will do, later */
    }
    pthread_cond_signal(&pool->work);
}

void hs_adapter_loaders_stop(hs_adapter_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->is_stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int32_t i = 0; i < pool->n_loaders; i++) {
        pthread_join(pool->loaders[i], NULL);
    }
}
