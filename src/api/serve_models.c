#include "serve_models.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "storage/gguf.h"

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static void close_gguf(hs_gguf **gguf)
{
    hs_gguf_free(*gguf);
}

/* The parts of a split model are about of one size. */
static hs_status measure(struct hs_serve_model *model, struct hs_error *err)
{
    hs_gguf *gguf HS_CLEANUP(close_gguf) = NULL;
    hs_status status = hs_gguf_open(model->choice.path, &gguf, err);
    if (status) {
        hs_error_prefix(err, "%s", model->id);
        return status;
    }
    uint64_t n_parts = 1;
    bool is_split = hs_gguf_u64(gguf, "split.count", &n_parts) && n_parts > 1;
    model->bytes = hs_gguf_file_size(gguf) * (is_split ? n_parts : 1);
    return HS_OK;
}

static bool is_id(const char *text)
{
    size_t len = strlen(text);
    bool is_plain = len > 0 && len < HS_ID_MAX && hs_utf8_valid(text, len);
    for (size_t i = 0; i < len && is_plain; i++) {
        is_plain = (unsigned char)text[i] > 0x20 && text[i] != 0x7F;
    }
    return is_plain;
}

static hs_status name_models(const struct hs_config_value *aliases, struct hs_serve_models *models,
                             struct hs_error *err)
{
    if (aliases->n_items > models->n) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "there are %zu aliases and %zu model%s",
                     aliases->n_items, models->n, models->n == 1 ? "" : "s");
        return hs_error_hint(err, "each --alias belongs to one --model, in their order");
    }
    for (size_t i = 0; i < models->n; i++) {
        struct hs_serve_model *model = &models->items[i];
        if (i >= aliases->n_items) {
            hs_model_choice_id(&model->choice, model->id);
        } else if (is_id(aliases->items[i])) {
            memcpy(model->id, aliases->items[i], strlen(aliases->items[i]) + 1);
        } else {
            hs_error_set(err, HS_INVALID_ARGUMENT, "an alias cannot be '%.200s'",
                         aliases->items[i]);
            return hs_error_hint(err, "it has 1 to %d bytes, without blanks", HS_ID_MAX - 1);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(models->items[j].id, model->id) == 0) {
                hs_error_set(err, HS_ALREADY_EXISTS, "two models would be called '%s'", model->id);
                return hs_error_hint(err, "give them different names with --alias");
            }
        }
    }
    return HS_OK;
}

static hs_status choose(const struct hs_command_args *args, struct hs_serve_models *models,
                        struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    const struct hs_config_value *refs = &args->config->values[HS_CFG_MODEL];
    if (refs->n_items > HS_REST_MODELS_MAX) {
        return hs_error_set(err, HS_LIMIT, "a server has at most %d models, not %zu",
                            HS_REST_MODELS_MAX, refs->n_items);
    }
    hs_status status = HS_OK;
    if (refs->n_items == 0) {
        status = hs_model_choose(args, NULL, &registry, &models->items[0].choice, err);
        models->n = status ? 0 : 1;
    }
    for (size_t i = 0; i < refs->n_items && !status; i++) {
        status =
            hs_model_resolve(args->paths, refs->items[i], &registry, &models->items[i].choice, err);
        models->n += status ? 0 : 1;
    }
    status = status ? status : name_models(&args->config->values[HS_CFG_ALIAS], models, err);
    for (size_t i = 0; models->n > 1 && i < models->n && !status; i++) {
        status = measure(&models->items[i], err);
    }
    return status;
}

hs_status hs_serve_models_choose(const struct hs_command_args *args, struct hs_serve_models *ret,
                                 struct hs_error *err)
{
    *ret = (struct hs_serve_models){0};
    hs_status status = choose(args, ret, err);
    if (status) {
        hs_serve_models_free(ret);
    }
    return status;
}

void hs_serve_models_free(struct hs_serve_models *models)
{
    for (size_t i = 0; i < models->n; i++) {
        hs_model_choice_free(&models->items[i].choice);
    }
    models->n = 0;
}

void hs_serve_models_mark_used(const struct hs_paths *paths, struct hs_serve_models *models)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    for (size_t i = 0; i < models->n; i++) {
        struct hs_model_choice *choice = &models->items[i].choice;
        struct hs_error err;
        hs_status status = hs_registry_need(paths, &registry, &err);
        status = status ? status : hs_model_register(paths, &registry, choice, &err);
        status = status ? status : hs_registry_model_touch(registry, choice->name, &err);
        if (status) {
            hs_log(HS_LOG_WARN, "models", "the list of models does not know '%s': %s",
                   models->items[i].id, err.message);
        }
    }
}

hs_status hs_serve_models_check(const struct hs_serve_models *models, uint64_t available_bytes,
                                struct hs_error *err)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < models->n; i++) {
        sum += models->items[i].bytes;
    }
    if (sum <= available_bytes) {
        return HS_OK;
    }
    hs_error_set(err, HS_MODEL_TOO_LARGE,
                 "the %zu models need %.2f GiB for their weights alone; %.2f GiB are available",
                 models->n, gib(sum), gib(available_bytes));
    return hs_error_hint(err, "serve fewer models, or smaller quantisations of them");
}

uint64_t hs_serve_models_reserve(const struct hs_serve_models *models, size_t i, bool is_mapped,
                                 uint64_t available_bytes)
{
    uint64_t earlier = 0, later = 0;
    for (size_t j = 0; j < models->n; j++) {
        uint64_t *sum = j < i ? &earlier : &later;
        *sum += j == i ? 0 : models->items[j].bytes;
    }
    uint64_t others = later + (is_mapped ? earlier : 0);
    uint64_t taken = others + models->items[i].bytes;
    uint64_t room = available_bytes > taken ? available_bytes - taken : 0;
    uint64_t n_left = models->n - i;
    return others + room / n_left * (n_left - 1);
}
