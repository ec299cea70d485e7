/* cmd_version.c - `hyprstream version`: what runs here. */
#include "api/output.h"
#include "json_out.h"

static hs_status print_json(const struct hs_command_io *io, const struct hs_system_info *info,
                            struct hs_error *err)
{
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "version", json_string(hs_version()));
    hs_json_set(&object, "llama_cpp", hs_json_text(info->llama_version));
    hs_json_set(&object, "cpu_features", hs_json_text(info->cpu_features));
    json_t *devices = json_array();
    for (int32_t i = 0; i < info->n_devices; i++) {
        const struct hs_device *device = &info->devices[i];
        json_t *entry = json_object();
        hs_json_set(&entry, "name", hs_json_text(device->name));
        hs_json_set(&entry, "description", hs_json_text(device->description));
        hs_json_set(&entry, "library", hs_json_text(device->library));
        hs_json_set(&entry, "memory_free_bytes",
                    json_integer((json_int_t)device->memory_free_bytes));
        hs_json_set(&entry, "memory_total_bytes",
                    json_integer((json_int_t)device->memory_total_bytes));
        hs_json_append(&devices, entry);
    }
    hs_json_set(&object, "devices", devices);
    return hs_json_print(io, object, false, err);
}

hs_status hs_cmd_version(const struct hs_command_args *args, struct hs_error *err)
{
    struct hs_system_info info;
    hs_status status = hs_system_info_get(&info, err);
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        return print_json(args->io, &info, err);
    }
    status = hs_out_printf(args->io, err, "hyprstream %s\nllama.cpp %s\n", hs_version(),
                           info.llama_version);
    for (int32_t i = 0; i < info.n_devices && !status; i++) {
        const struct hs_device *device = &info.devices[i];
        char memory[32];
        status =
            hs_out_printf(args->io, err, "device %s: %s%s%s%s%s%s\n", device->name,
                          device->description, device->library[0] ? " (" : "", device->library,
                          device->library[0] ? ")" : "", device->memory_total_bytes ? ", " : "",
                          device->memory_total_bytes
                              ? hs_format_bytes(device->memory_total_bytes, memory, sizeof memory)
                              : "");
    }
    if (!status && info.cpu_features[0]) {
        status = hs_out_printf(args->io, err, "CPU features in use: %s\n", info.cpu_features);
    }
    return status;
}
