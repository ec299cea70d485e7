/* The public functions about adapters, and how their files are read. */
#include "engine_internal.h"

#include <string.h>

#include "adapters/adapter_file.h"
#include "base/error.h"

static hs_status read_file(void *user, const struct hs_model *model, const char *path,
                           struct hs_lora *ret_lora, void **ret_handle, struct hs_error *err)
{
    (void)user;
    struct hs_adapter_file *file = NULL;
    hs_status status = hs_adapter_file_load_weights(path, model->lora_base, &file, err);
    if (status == HS_OK) {
        *ret_lora = file->lora;
        *ret_handle = file;
    }
    return status;
}

static void close_file(void *handle)
{
    hs_adapter_file_free(handle);
}

hs_status hs_engine_new_adapters(hs_engine *engine, struct hs_error *err)
{
    struct hs_adapter_pool_params params = {
        .rt = engine->rt,
        .budget_bytes = engine->params.adapter_budget_bytes,
        .reader = {.read = read_file, .close = close_file},
    };
    hs_status status = hs_adapter_pool_new(&params, &engine->adapters, err);
    return status != HS_OK ? status : hs_lora_router_new(&engine->router, err);
}

void hs_engine_free_adapters(hs_engine *engine)
{
    hs_adapter_pool_free(engine->adapters);
    hs_lora_router_free(engine->router);
}

hs_status hs_engine_register_adapter(hs_engine *engine, const struct hs_adapter_params *params,
                                     struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_generator(engine, params->model_id, &model, err);
    if (status == HS_OK) {
        /* Now, rather than beside the streams that run when the first request names it. */
        status = hs_adapter_pool_prepare(engine->adapters, model, err);
        if (status == HS_OK) {
            status = hs_adapter_pool_register(engine->adapters, model, params, err);
        }
        if (status == HS_OK) { /* examples of an adapter that went with its model */
            hs_lora_router_forget_adapter(engine->router, params->name);
        }
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_replace_adapter(hs_engine *engine, const struct hs_adapter_params *params,
                                    struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status = hs_engine_acquire_generator(engine, params->model_id, &model, err);
    if (status == HS_OK) {
        status = hs_adapter_pool_replace(engine->adapters, model, params, err);
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_load_adapter(hs_engine *engine, const char *name, struct hs_error *err)
{
    struct hs_adapter_info info;
    struct hs_model *model = NULL;
    hs_status status = hs_adapter_pool_info(engine->adapters, name, &info, err);
    if (status == HS_OK) {
        status = hs_engine_acquire_generator(engine, info.model_id, &model, err);
    }
    if (status == HS_OK) {
        status = hs_adapter_pool_load(engine->adapters, model, name, err);
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_unload_adapter(hs_engine *engine, const char *name, struct hs_error *err)
{
    return hs_adapter_pool_unload(engine->adapters, name, err);
}

hs_status hs_engine_unregister_adapter(hs_engine *engine, const char *name, struct hs_error *err)
{
    hs_status status = hs_adapter_pool_unregister(engine->adapters, name, err);
    if (status == HS_OK) {
        hs_lora_router_forget_adapter(engine->router, name);
    }
    return status;
}

hs_status hs_engine_set_adapter_examples(hs_engine *engine, const char *name,
                                         const char *const *texts, size_t n_texts,
                                         struct hs_error *err)
{
    struct hs_adapter_info info;
    hs_status status = hs_adapter_pool_info(engine->adapters, name, &info, err);
    return status != HS_OK ? status : hs_lora_router_set(engine->router, name, texts, n_texts, err);
}

hs_status hs_engine_route(hs_engine *engine, const char *model_id, const char *text,
                          const struct hs_route_params *params, struct hs_route *ret_route,
                          struct hs_error *err)
{
    return hs_lora_router_route(engine->router, engine, model_id, text, params, ret_route, err);
}

hs_status hs_engine_adapter_info(hs_engine *engine, const char *name,
                                 struct hs_adapter_info *ret_info, struct hs_error *err)
{
    return hs_adapter_pool_info(engine->adapters, name, ret_info, err);
}

hs_status hs_engine_list_adapters(hs_engine *engine, const char *model_id,
                                  struct hs_adapter_info **ret_infos, size_t *ret_n,
                                  struct hs_error *err)
{
    struct hs_model *model = NULL;
    hs_status status =
        model_id == NULL ? HS_OK : hs_engine_acquire_model(engine, model_id, &model, err);
    if (status == HS_OK) {
        status = hs_adapter_pool_list(engine->adapters, model_id, ret_infos, ret_n, err);
    }
    if (model != NULL) {
        hs_engine_release_model(engine, model);
    }
    return status;
}

hs_status hs_engine_apply_lora_weights(hs_engine *engine, const char *session_id,
                                       const struct hs_adapter_ref *adapters, int32_t n_adapters,
                                       struct hs_error *err)
{
    return hs_session_set_adapters(engine->sessions, engine->adapters, session_id, adapters,
                                   n_adapters, err);
}

hs_status hs_engine_route_session(hs_engine *engine, const char *session_id, bool is_routed,
                                  struct hs_error *err)
{
    return hs_session_set_routed(engine->sessions, session_id, is_routed, err);
}

hs_status hs_session_is_routed(hs_engine *engine, const char *session_id, bool *ret_is_routed,
                               struct hs_error *err)
{
    return hs_session_get_routed(engine->sessions, session_id, ret_is_routed, err);
}

hs_status hs_session_adapters(hs_engine *engine, const char *session_id,
                              struct hs_adapter_ref **ret_refs, size_t *ret_n, struct hs_error *err)
{
    return hs_session_get_adapters(engine->sessions, session_id, ret_refs, ret_n, err);
}
