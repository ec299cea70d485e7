extern "C" {
#include "llama_cxx.h"
#include "base/error.h"
}

#include <cstring>
#include <exception>
#include <new>
#include <string>

#ifdef HS_HAVE_LLAMA_COMMON
#include "chat.h"
#include "log.h"
#include "../src/llama-ext.h"
#endif

namespace
{

hs_status from_exception(const char *what, hs_status status, struct hs_error *err) noexcept
{
    try {
        throw;
    } catch (const std::bad_alloc &) {
        return hs_error_nomem(err, what);
    } catch (const std::exception &e) {
        return hs_error_set(err, status, "%s: %s", what, e.what());
    } catch (...) {
        return hs_error_set(err, status, "%s: unknown C++ exception", what);
    }
}

} // namespace

extern "C" hs_status hs_cxx_guard(void (*fn)(void *), void *arg, const char *what,
                                  struct hs_error *err)
{
    try {
        fn(arg);
        return HS_OK;
    } catch (...) {
        return from_exception(what, HS_INTERNAL, err);
    }
}

#ifdef HS_HAVE_LLAMA_COMMON

struct hs_cxx_template {
    common_chat_templates_ptr templates;
};

extern "C" void hs_cxx_init(void)
{
    common_log_set_verbosity_thold(-1);
}

extern "C" bool hs_cxx_has_templates(void)
{
    return true;
}

extern "C" hs_status hs_cxx_template_new(const char *source, const char *bos, const char *eos,
                                         hs_cxx_template **ret_template, struct hs_error *err)
{
    try {
        /* Without a model nothing is added to or stripped from the text: chat_template.c decides.
         */
        auto tmpl = std::make_unique<hs_cxx_template>();
        tmpl->templates = common_chat_templates_init(nullptr, source, bos, eos);
        *ret_template = tmpl.release();
        return HS_OK;
    } catch (...) {
        return from_exception("the chat template cannot be parsed", HS_INVALID_ARGUMENT, err);
    }
}

extern "C" void hs_cxx_template_free(hs_cxx_template *tmpl)
{
    delete tmpl;
}

static void copy_tag(char *to, size_t size, const std::string &from)
{
    /* A tag that does not fit would be looked for in vain: better none. */
    size_t len = from.size() < size ? from.size() : 0;
    memcpy(to, from.data(), len);
    to[len] = '\0';
}

static void copy_reasoning(const common_chat_params &rendered, bool add_generation_prompt,
                           struct hs_rt_reasoning *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (!rendered.supports_thinking || rendered.thinking_end_tags.empty()) {
        return;
    }
    copy_tag(ret->start_tag, sizeof(ret->start_tag), rendered.thinking_start_tag);
    copy_tag(ret->end_tag, sizeof(ret->end_tag), rendered.thinking_end_tags.front());
    if (ret->start_tag[0] == '\0' || ret->end_tag[0] == '\0') {
        ret->start_tag[0] = ret->end_tag[0] = '\0';
        return;
    }
    size_t start = rendered.generation_prompt.rfind(ret->start_tag);
    ret->starts_in_reasoning =
        add_generation_prompt && start != std::string::npos &&
        rendered.generation_prompt.find(ret->end_tag, start) == std::string::npos;
}

extern "C" hs_status hs_cxx_template_apply(const hs_cxx_template *tmpl,
                                           const struct hs_rt_template_params *params,
                                           struct hs_buf *text,
                                           struct hs_rt_reasoning *ret_reasoning,
                                           struct hs_error *err)
{
    try {
        common_chat_templates_inputs inputs;
        for (size_t i = 0; i < params->n_messages; i++) {
            const struct hs_message &from = params->messages[i];
            common_chat_msg message;
            message.role = from.role;
            message.content = from.content ? from.content : "";
            message.reasoning_content = from.reasoning ? from.reasoning : "";
            inputs.messages.push_back(std::move(message));
        }
        inputs.add_generation_prompt = params->add_generation_prompt;
        inputs.enable_thinking = params->enable_thinking;
        inputs.use_jinja = true;
        common_chat_params rendered = common_chat_templates_apply(tmpl->templates.get(), inputs);
        hs_status status = hs_buf_append(text, rendered.prompt.data(), rendered.prompt.size());
        if (status != HS_OK) {
            return hs_error_set(err, status, "the rendered prompt of %zu bytes does not fit",
                                rendered.prompt.size());
        }
        copy_reasoning(rendered, params->add_generation_prompt, ret_reasoning);
        return HS_OK;
    } catch (...) {
        return from_exception("the chat template refuses these messages", HS_INVALID_ARGUMENT, err);
    }
}

extern "C" bool hs_cxx_memory(const struct llama_context *context, struct hs_rt_memory *ret_memory)
{
    try {
        memset(ret_memory, 0, sizeof(*ret_memory));
        for (const auto &[type, bytes] : llama_get_memory_breakdown(context)) {
            ret_memory->weights_bytes += bytes.model;
            ret_memory->kv_bytes += bytes.context;
            ret_memory->compute_bytes += bytes.compute;
            if (ggml_backend_buft_is_host(type)) {
                ret_memory->host_bytes += bytes.total();
            }
        }
        return true;
    } catch (...) {
        return false;
    }
}

#else

extern "C" void hs_cxx_init(void)
{
}

extern "C" bool hs_cxx_has_templates(void)
{
    return false;
}

extern "C" hs_status hs_cxx_template_new(const char *, const char *, const char *,
                                         hs_cxx_template **, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_SUPPORTED, "built without llama-common: no Jinja templates");
}

extern "C" void hs_cxx_template_free(hs_cxx_template *)
{
}

extern "C" hs_status hs_cxx_template_apply(const hs_cxx_template *,
                                           const struct hs_rt_template_params *, struct hs_buf *,
                                           struct hs_rt_reasoning *, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_SUPPORTED, "built without llama-common: no Jinja templates");
}

extern "C" bool hs_cxx_memory(const struct llama_context *, struct hs_rt_memory *)
{
    return false;
}

#endif
