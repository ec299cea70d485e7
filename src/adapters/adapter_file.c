#include "adapters/adapter_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sha256.h"

#define CHUNK_BYTES (1u << 20)
#define CONFIG_NAME "adapter_config.json"
#define WEIGHTS_NAME "adapter_model.safetensors"
#define PICKLE_NAME "adapter_model.bin"
#define STATE_NAME "trainer_state.json"

struct places {
    char *folder; /* where the files beside it are */
    char *weights;
    bool is_gguf;
};

static void places_clear(struct places *places)
{
    hs_free(places->folder);
    hs_free(places->weights);
}

static bool ends_in(const char *text, const char *ending)
{
    size_t len = strlen(text), n = strlen(ending);
    return len >= n && strcmp(text + len - n, ending) == 0;
}

static bool is_there(const char *folder, const char *name)
{
    HS_CLEANUP(hs_closep) int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && faccessat(fd, name, F_OK, 0) == 0;
}

/* ---- where the files are ---- */

/* The one .gguf file of a folder. */
static hs_status find_gguf(struct places *places, struct hs_error *err)
{
    DIR *folder = opendir(places->folder);
    size_t n = 0;
    if (folder == NULL) {
        return hs_error_errno(err, errno, "open", places->folder);
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (ends_in(entry->d_name, ".gguf")) {
            n++;
            hs_free(places->weights);
            places->weights = hs_fs_join(places->folder, entry->d_name);
            if (places->weights == NULL) {
                break;
            }
        }
    }
    closedir(folder);
    if (n > 0 && places->weights == NULL) {
        return hs_error_nomem(err, "the path of an adapter");
    }
    if (n != 1) {
        hs_error_set(err, HS_NOT_FOUND, "'%s' has no " CONFIG_NAME " and %s", places->folder,
                     n == 0 ? "no .gguf file" : "more than one .gguf file");
        hs_error_hint(err, "name the adapter's .gguf file, or a folder that PEFT saved");
        return HS_NOT_FOUND;
    }
    places->is_gguf = true;
    return HS_OK;
}

static hs_status find_in_folder(struct places *places, struct hs_error *err)
{
    if (!is_there(places->folder, CONFIG_NAME)) {
        return find_gguf(places, err);
    }
    if (!is_there(places->folder, WEIGHTS_NAME) && is_there(places->folder, PICKLE_NAME)) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "'%s' has its weights in " PICKLE_NAME ", a program in Python's own format",
                     places->folder);
        hs_error_hint(err, "save it anew with PEFT's save_pretrained(safe_serialization=True)");
        return HS_NOT_SUPPORTED;
    }
    places->weights = hs_fs_join(places->folder, WEIGHTS_NAME);
    return places->weights == NULL ? hs_error_nomem(err, "the path of an adapter") : HS_OK;
}

static hs_status find_places(const char *path, struct places *places, struct hs_error *err)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        hs_status status = hs_error_errno(err, errno, "open", path);
        if (status == HS_NOT_FOUND) {
            hs_error_hint(err, "name a folder that PEFT saved, or a .gguf file");
        }
        return status;
    }
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    if (S_ISDIR(info.st_mode)) {
        places->folder = hs_strdup(path);
    } else {
        places->folder = slash == NULL ? hs_strdup(".") : hs_strndup(path, (size_t)(name - path));
    }
    if (places->folder == NULL) {
        return hs_error_nomem(err, "the path of an adapter");
    }
    if (S_ISDIR(info.st_mode) || strcmp(name, CONFIG_NAME) == 0) {
        return find_in_folder(places, err);
    }
    places->weights = hs_strdup(path);
    return places->weights == NULL ? hs_error_nomem(err, "the path of an adapter") : HS_OK;
}

/* ---- reading ---- */

static void hash_freep(hs_sha256 **hash)
{
    hs_sha256_free(*hash);
}

static hs_status read_fd(int fd, const char *path, struct hs_adapter_loaded *adapter,
                         hs_sha256 *hash, struct hs_error *err)
{
    for (size_t done = 0; done < adapter->len;) {
        size_t n = adapter->len - done < CHUNK_BYTES ? adapter->len - done : CHUNK_BYTES;
        ssize_t got = read(fd, adapter->bytes + done, n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return hs_error_errno(err, errno, "read", path);
        }
        if (got == 0) {
            hs_error_set(err, HS_TRUNCATED, "it became shorter while it was read");
            hs_error_hint(err, "wait until the file is complete, then try again");
            return HS_TRUNCATED;
        }
        hs_status status =
            hash == NULL ? HS_OK : hs_sha256_update(hash, adapter->bytes + done, (size_t)got);
        if (status != HS_OK) {
            return hs_error_set(err, status, "cannot compute its SHA-256");
        }
        done += (size_t)got;
    }
    return HS_OK;
}

static hs_status read_weights(struct hs_adapter_loaded *adapter, struct hs_error *err)
{
    struct hs_adapter_file *file = &adapter->file;
    HS_CLEANUP(hs_closep) int fd = -1;
    HS_CLEANUP(hash_freep) hs_sha256 *hash = NULL;
    struct stat info;
    hs_status status = hs_fs_open(file->path, &fd, &info, err);
    if (status != HS_OK) {
        hs_error_hint(err, "check that the adapter's files are all there and readable");
        return status;
    }
    if ((uint64_t)info.st_size > HS_ADAPTER_FILE_MAX_BYTES) {
        hs_error_set(err, HS_LIMIT,
                     "it has %" PRIu64 " bytes, more than the limit of %" PRIu64 " for adapters",
                     (uint64_t)info.st_size, HS_ADAPTER_FILE_MAX_BYTES);
        hs_error_hint(err, "save it with a lower rank, or in 16 bits");
        return HS_LIMIT;
    }
    adapter->len = (size_t)info.st_size;
    adapter->bytes = hs_alloc(adapter->len);
    file->size_bytes = adapter->len;
    if (adapter->bytes == NULL) {
        return hs_error_nomem(err, "the weights of an adapter");
    }
    status = adapter->is_weights_only ? HS_OK : hs_sha256_new(&hash, err);
    if (status == HS_OK) {
        status = read_fd(fd, file->path, adapter, hash, err);
    }
    if (status == HS_OK && hash != NULL && hs_sha256_final(hash, file->sha256) != HS_OK) {
        status = hs_error_set(err, HS_INTERNAL, "cannot compute its SHA-256");
    }
    return status;
}

/* The hash of the weights and the configuration, which follows them. */
static hs_status name_version(struct hs_adapter_loaded *adapter, const struct hs_buf *config,
                              struct hs_error *err)
{
    HS_CLEANUP(hash_freep) hs_sha256 *hash = NULL;
    hs_status status = hs_sha256_new(&hash, err);
    if (status != HS_OK) {
        return status;
    }
    if (hs_sha256_update(hash, adapter->file.sha256, 64) != HS_OK ||
        hs_sha256_update(hash, config->data, config->len) != HS_OK ||
        hs_sha256_final(hash, adapter->file.version) != HS_OK) {
        return hs_error_set(err, HS_INTERNAL, "cannot compute its SHA-256");
    }
    return HS_OK;
}

static hs_status read_peft(struct hs_adapter_loaded *adapter, const char *folder,
                           const hs_lora_base *base, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, CONFIG_NAME);
    HS_CLEANUP(hs_buf_free) struct hs_buf config = HS_BUF_INIT(HS_ADAPTER_CONFIG_MAX_BYTES);
    if (path == NULL) {
        return hs_error_nomem(err, "the path of an adapter");
    }
    hs_status status = hs_fs_read(path, &config, err);
    if (status == HS_NOT_FOUND) {
        hs_error_hint(err,
                      "PEFT's " CONFIG_NAME " must lie beside the weights: it has their scale");
    }
    if (status == HS_OK && !adapter->is_weights_only) {
        status = name_version(adapter, &config, err);
    }
    return status == HS_OK ? hs_adapter_read_peft(adapter, config.data, config.len, base, err)
                           : status;
}

/* What the trainer left beside the weights; that it is missing or cannot be read says nothing about
 * them. */
static hs_status read_training(struct hs_adapter_loaded *adapter, const char *folder,
                               struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, STATE_NAME);
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(HS_ADAPTER_STATE_MAX_BYTES);
    if (path == NULL) {
        return hs_error_nomem(err, "the path of an adapter");
    }
    hs_status status = hs_fs_read(path, &text, err);
    if (status == HS_OK) {
        status = hs_training_summary(text.data, text.len, &adapter->file.training, err);
    }
    if (status != HS_OK && status != HS_OUT_OF_MEMORY) {
        hs_error_clear(err);
        return HS_OK;
    }
    return status;
}

static hs_status load(struct hs_adapter_loaded *adapter, const struct places *places,
                      const hs_lora_base *base, struct hs_error *err)
{
    hs_status status = read_weights(adapter, err);
    if (status != HS_OK) {
        return status;
    }
    if (places->is_gguf || ends_in(places->weights, ".gguf") ||
        (adapter->len >= 4 && memcmp(adapter->bytes, "GGUF", 4) == 0)) {
        memcpy(adapter->file.version, adapter->file.sha256, sizeof adapter->file.version);
        status = hs_adapter_read_gguf(adapter, base, err);
    } else {
        status = read_peft(adapter, places->folder, base, err);
    }
    return status == HS_OK && !adapter->is_weights_only
               ? read_training(adapter, places->folder, err)
               : status;
}

static hs_status load_path(const char *path, const hs_lora_base *base, bool is_weights_only,
                           struct hs_adapter_file **ret_file, struct hs_error *err)
{
    HS_CLEANUP(places_clear) struct places places = {0};
    hs_status status = find_places(path, &places, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_adapter_loaded *adapter = hs_calloc(1, sizeof *adapter);
    if (adapter == NULL) {
        return hs_error_nomem(err, "an adapter");
    }
    adapter->is_weights_only = is_weights_only;
    adapter->file.path = places.weights;
    places.weights = NULL;
    struct places there = {
        .folder = places.folder, .weights = adapter->file.path, .is_gguf = places.is_gguf};
    status = load(adapter, &there, base, err);
    if (status != HS_OK) {
        hs_error_prefix(err, "adapter '%s'", path);
        hs_adapter_file_free(&adapter->file);
        return status;
    }
    *ret_file = &adapter->file;
    return HS_OK;
}

hs_status hs_adapter_file_load(const char *path, const hs_lora_base *base,
                               struct hs_adapter_file **ret_file, struct hs_error *err)
{
    return load_path(path, base, false, ret_file, err);
}

hs_status hs_adapter_file_load_weights(const char *path, const hs_lora_base *base,
                                       struct hs_adapter_file **ret_file, struct hs_error *err)
{
    return load_path(path, base, true, ret_file, err);
}

void hs_adapter_file_free(struct hs_adapter_file *file)
{
    struct hs_adapter_loaded *adapter = (struct hs_adapter_loaded *)file;
    if (adapter == NULL) {
        return;
    }
    for (size_t i = 0; i < adapter->n_blocks; i++) {
        hs_free(adapter->blocks[i]);
    }
    hs_free(adapter->blocks);
    hs_free(adapter->targets);
    hs_free(adapter->bytes);
    hs_free(file->path);
    hs_free(file->base_model);
    hs_free(file->targets);
    hs_free(file->training);
    hs_free(adapter);
}
