#include "model_open.h"

#include "api/output.h"
#include "base/mem.h"

static bool load_progress(float fraction, void *user)
{
    const struct hs_command_io *io = user;
    io->progress(io->self, "loading", fraction, NULL);
    return !io->interrupted(io->self);
}

hs_status hs_model_open_as(const struct hs_command_args *args, const struct hs_model_choice *choice,
                           const char *id, hs_engine *engine, const struct hs_model_params *params,
                           char ret_model_id[HS_ID_MAX], struct hs_error *err)
{
    struct hs_model_params own = *params;
    own.progress = load_progress;
    own.progress_user = (void *)args->io;
    hs_status status = hs_engine_load_model(engine, choice->path, id, &own, ret_model_id, err);
    args->io->progress(args->io->self, "", -1, NULL);
    return status;
}

hs_status hs_model_open(const struct hs_command_args *args, hs_registry **registry,
                        hs_engine *engine, const struct hs_model_params *params,
                        char ret_model_id[HS_ID_MAX], struct hs_error *err)
{
    struct hs_model_choice model HS_CLEANUP(hs_model_choice_free) = {0};
    hs_status status = hs_model_choose(args, NULL, registry, &model, err);
    if (status) {
        return status;
    }
    if (model.note[0]) {
        hs_err_info(args->io, "%s", model.note);
    }
    char id[HS_ID_MAX];
    hs_model_choice_id(&model, id);
    return hs_model_open_as(args, &model, id, engine, params, ret_model_id, err);
}
