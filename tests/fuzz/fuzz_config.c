/*
 * fuzz_config.c - libFuzzer target of the configuration file: any bytes give HS_OK or
 * HS_INVALID_ARGUMENT with a message, and values within their ranges.
 */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_value(const struct hs_config *config, enum hs_config_id id)
{
    const struct hs_config_row *row = hs_config_row(id);
    const struct hs_config_value *value = &config->values[id];
    bool is_number =
        row->type == HS_CONFIG_INT || row->type == HS_CONFIG_FLOAT || row->type == HS_CONFIG_SIZE;
    if (is_number && !(value->number >= row->min && value->number <= row->max)) {
        abort();
    }
    if ((row->type == HS_CONFIG_LIST && value->is_set) != (value->n_items > 0)) {
        abort();
    }
    for (size_t i = 0; i < value->n_items; i++) {
        if (value->items[i][0] == '\0') {
            abort();
        }
    }
    if (value->text == NULL || value->origin == NULL) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hs_config config;
    struct hs_error err = {.message = ""};
    hs_log_set_level(HS_LOG_OFF);
    if (hs_config_init(&config, NULL) != HS_OK) {
        abort();
    }
    hs_status status = hs_config_load_text(&config, (const char *)data, size, "fuzz", &err);
    bool is_refused = status == HS_INVALID_ARGUMENT && strncmp(err.message, "fuzz:", 5) == 0;
    if (status != HS_OK && !is_refused) {
        abort();
    }
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        check_value(&config, (enum hs_config_id)id);
    }
    hs_config_free(&config);
    return 0;
}
