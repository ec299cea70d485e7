#include "tiny_adapter.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RANK 2
#define LAYER "base_model.model.model.layers.0.self_attn.q_proj."

static bool write_all(const char *folder, const char *name, const void *head, size_t n_head,
                      const void *data, size_t n_data)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    bool is_whole = file != NULL && fwrite(head, 1, n_head, file) == n_head &&
                    fwrite(data, 1, n_data, file) == n_data;
    return file != NULL && fclose(file) == 0 && is_whole;
}

bool tiny_adapter_write(const char *folder, int n_in, float seed)
{
    static const char config[] =
        "{\"peft_type\":\"LORA\",\"base_model_name_or_path\":\"tiny\",\"r\":2,\"lora_alpha\":16,"
        "\"bias\":\"none\",\"target_modules\":[\"q_proj\"]}";
    float values[2 * RANK * 256];
    size_t n = (size_t)n_in * RANK, size = n * sizeof values[0];
    if (2 * n > sizeof values / sizeof values[0]) {
        return false;
    }
    for (size_t i = 0; i < 2 * n; i++) {
        values[i] = seed + (float)i / 256;
    }
    char head[1024];
    int len = snprintf(head + 8, sizeof head - 8,
                       "{\"" LAYER "lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                       "\"data_offsets\":[0,%zu]},\"" LAYER "lora_B.weight\":{\"dtype\":\"F32\","
                       "\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}}",
                       RANK, n_in, size, n_in, RANK, size, 2 * size);
    for (; len % 8 != 0; len++) {
        head[8 + len] = ' ';
    }
    for (int i = 0; i < 8; i++) { /* the header's length, little-endian */
        head[i] = (char)((uint64_t)len >> (8 * i));
    }
    mkdir(folder, 0700);
    return write_all(folder, "adapter_config.json", config, sizeof config - 1, "", 0) &&
           write_all(folder, "adapter_model.safetensors", head, 8 + (size_t)len, values, 2 * size);
}
