#include <dlfcn.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_ready;

/* The folder that holds libllama.so, where its build and its installation put the backends. */
static char *library_folder(void)
{
    Dl_info info;
    if (dladdr((void *)llama_backend_init, &info) == 0 || !info.dli_fname) {
        return NULL;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    return slash ? hs_strndup(info.dli_fname, (size_t)(slash - info.dli_fname)) : NULL;
}

static void load_backends(void *unused)
{
    (void)unused;
    llama_backend_init();
    HS_CLEANUP(hs_freep) char *folder = library_folder();
    if (folder && ggml_backend_dev_count() == 0) {
        ggml_backend_load_all_from_path(folder);
    }
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
        ggml_backend_load_all();
    }
}

static hs_status init_locked(struct hs_error *err)
{
    hs_llama_log_install();
    hs_cxx_init();
    hs_status status = hs_cxx_guard(load_backends, NULL, "llama.cpp does not start", err);
    if (status != HS_OK) {
        return status;
    }
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
        hs_error_set(err, HS_NOT_FOUND,
                     "no ggml CPU backend (libggml-cpu*.so) beside libllama.so or in the default "
                     "folders");
        hs_error_hint(err, "reinstall, or point GGML_BACKEND_PATH at a backend library");
        return HS_NOT_FOUND;
    }
    return HS_OK;
}

hs_status hs_llama_init(const char **ret_version, struct hs_error *err)
{
    pthread_mutex_lock(&init_lock);
    hs_status status = is_ready ? HS_OK : init_locked(err);
    is_ready = status == HS_OK;
    pthread_mutex_unlock(&init_lock);
    if (status == HS_OK && ret_version) {
        *ret_version = llama_version();
    }
    return status;
}

void hs_runtime_llama_shutdown(void)
{
    pthread_mutex_lock(&init_lock);
    if (is_ready) {
        llama_backend_free();
        is_ready = false;
    }
    pthread_mutex_unlock(&init_lock);
}
