/* cmd_chat.c - `hyprstream chat`: one question and its answer, or the way into the conversation. */
#include "api/output.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "chat.h"
#include "json_out.h"
#include "prompt.h"

static json_t *usage_object(const struct hs_usage *usage)
{
    json_t *object = json_object();
    hs_json_set(&object, "prompt_tokens", json_integer(usage->prompt_tokens));
    hs_json_set(&object, "cached_tokens", json_integer(usage->cached_tokens));
    hs_json_set(&object, "completion_tokens", json_integer(usage->completion_tokens));
    hs_json_set(&object, "dropped_messages", json_integer(usage->dropped_messages));
    hs_json_set(&object, "seed",
                usage->seed == HS_SEED_RANDOM ? json_null() : json_integer(usage->seed));
    hs_json_set(&object, "queue_ms", json_real(usage->queue_ms));
    hs_json_set(&object, "prefill_ms", json_real(usage->prefill_ms));
    hs_json_set(&object, "decode_ms", json_real(usage->decode_ms));
    return object;
}

static hs_status print_json(const struct hs_chat *chat, const struct hs_answer *answer,
                            bool as_event, struct hs_error *err)
{
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    if (as_event) {
        hs_json_set(&object, "event", json_string("done"));
    } else {
        hs_json_set(&object, "answer", hs_json_text(answer->text.data));
        hs_json_set(&object, "reasoning",
                    hs_json_text(answer->reasoning.len ? answer->reasoning.data : NULL));
    }
    hs_json_set(&object, "finish_reason", json_string(hs_finish_name(answer->finish)));
    hs_json_set(&object, "usage", usage_object(&answer->usage));
    hs_json_set(&object, "model", hs_json_text(hs_chat_model_name(chat)));
    hs_json_set(&object, "session", hs_json_text(chat->conversation.name));
    return hs_json_print(chat->args->io, object, as_event, err);
}

static enum hs_answer_mode answer_mode(const struct hs_config *config)
{
    bool stream = hs_config_bool(config, HS_CFG_STREAM);
    if (!hs_config_bool(config, HS_CFG_JSON)) {
        return stream ? HS_ANSWER_STREAM : HS_ANSWER_WHOLE;
    }
    /* streaming is the default for people; a program gets it when it asks */
    bool asked = config->values[HS_CFG_STREAM].source == HS_CONFIG_FLAG;
    return stream && asked ? HS_ANSWER_EVENTS : HS_ANSWER_QUIET;
}

static hs_status answer_once(struct hs_chat *chat, const char *prompt, struct hs_error *err)
{
    const struct hs_command_args *args = chat->args;
    enum hs_answer_mode mode = answer_mode(args->config);
    struct hs_answer answer HS_CLEANUP(hs_answer_free) = {0};
    hs_status status = hs_chat_ask(chat, prompt, mode, &answer, err);
    if (status) {
        return status;
    }
    if (mode == HS_ANSWER_QUIET || mode == HS_ANSWER_EVENTS) {
        status = print_json(chat, &answer, mode == HS_ANSWER_EVENTS, err);
    }
    if (!status && answer.finish == HS_FINISH_CANCELLED) {
        return hs_error_set(err, HS_CANCELLED, "the answer was stopped");
    }
    if (!status && answer.finish == HS_FINISH_LENGTH) {
        int32_t n = answer.usage.completion_tokens;
        hs_err_info(args->io, "the answer was cut off after %d token%s", (int)n, n == 1 ? "" : "s");
    }
    return status;
}

hs_status hs_cmd_chat(const struct hs_command_args *args, struct hs_error *err)
{
    bool interactive = args->n_args == 0 && args->io->in_is_terminal;
    HS_CLEANUP(hs_freep) char *prompt = NULL;
    if (interactive && hs_config_bool(args->config, HS_CFG_JSON)) {
        hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "--json needs a prompt");
        hs_error_hint(err, "give it as an argument or through standard input");
        return status;
    }
    hs_status status = interactive ? HS_OK : hs_prompt_read(args, &prompt, err);
    if (status) {
        return status;
    }
    struct hs_chat chat = {0};
    status = hs_chat_open(args, &chat, err);
    if (status) {
        return status;
    }
    status = interactive ? hs_chat_loop(&chat, err) : answer_once(&chat, prompt, err);
    struct hs_error close_error;
    hs_error_clear(&close_error);
    if (hs_chat_close(&chat, &close_error)) {
        if (status) { /* the first failure is returned, but neither is hidden */
            hs_log(HS_LOG_ERROR, "chat", "%s", close_error.message);
            return status;
        }
        status = hs_error_set(err, close_error.status, "%s", close_error.message);
        hs_error_hint(err, "%s", close_error.hint);
    }
    return status;
}
