/* llama_system.c - what llama.cpp is and what it found: version, devices, CPU features. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "llama_internal.h"

/* The file a backend was loaded from: any of its functions knows. */
static void library_name(ggml_backend_reg_t reg, char *ret_name, size_t size)
{
    Dl_info info;
    void *function = ggml_backend_reg_get_proc_address(reg, "ggml_backend_get_features");
    if (!function || dladdr(function, &info) == 0 || !info.dli_fname) {
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(ret_name, size, "%s", slash ? slash + 1 : info.dli_fname);
}

static void cpu_features(ggml_backend_reg_t reg, char *ret_text, size_t size)
{
    ggml_backend_get_features_t get_features =
        (ggml_backend_get_features_t)ggml_backend_reg_get_proc_address(reg,
                                                                       "ggml_backend_get_features");
    if (!get_features) {
        return;
    }
    size_t len = 0;
    const struct ggml_backend_feature *feature = get_features(reg);
    for (; feature->name && len < size; feature++) {
        bool is_on = strcmp(feature->value, "1") == 0;
        int n = snprintf(ret_text + len, size - len, "%s%s%s%s", len > 0 ? " " : "", feature->name,
                         is_on ? "" : "=", is_on ? "" : feature->value);
        len += n > 0 ? (size_t)n : 0;
    }
}

hs_status hs_runtime_llama_system_info(struct hs_system_info *ret_info, struct hs_error *err)
{
    const char *version = NULL;
    hs_status status = hs_llama_init(&version, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_system_info info = {0};
    snprintf(info.llama_version, sizeof info.llama_version, "%s", version);
    for (size_t i = 0; i < ggml_backend_dev_count() && info.n_devices < HS_DEVICES_MAX; i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
        struct hs_device *row = &info.devices[info.n_devices++];
        size_t memory_free = 0, memory_total = 0;
        ggml_backend_dev_memory(device, &memory_free, &memory_total);
        snprintf(row->name, sizeof row->name, "%s", ggml_backend_dev_name(device));
        snprintf(row->description, sizeof row->description, "%s",
                 ggml_backend_dev_description(device));
        library_name(reg, row->library, sizeof row->library);
        row->memory_free_bytes = memory_free;
        row->memory_total_bytes = memory_total;
        if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
            cpu_features(reg, info.cpu_features, sizeof info.cpu_features);
        }
    }
    *ret_info = info;
    return HS_OK;
}
