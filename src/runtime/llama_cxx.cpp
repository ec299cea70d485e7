extern "C" {
#include "llama_cxx.h"
#include "base/error.h"
}

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <malloc.h>
#include <new>
#include <string>
#include <vector>

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

/*
 * A bound on what a template may cost. llama-common's interpreter has none: a macro that calls
 * itself overflows the stack, a loop over range(100000000) fills the memory. Whatever it does needs
 * new values, so the allocations of C++ are counted while a template is parsed or rendered on this
 * thread. They are weak: a program that brings its own keeps them, and renders without this bound.
 */
namespace
{

constexpr uint64_t STEPS_BASE = 4000000;
constexpr uint64_t STEPS_PER_MESSAGE = 40000;
constexpr size_t BYTES_BASE = size_t(256) << 20;
constexpr size_t BYTES_PER_BYTE = 64;
constexpr ptrdiff_t STACK_MAX = ptrdiff_t(2) << 20;

class render_budget;
thread_local render_budget *armed_budget = nullptr;

class render_budget
{
  public:
    render_budget(size_t n_messages, size_t n_bytes)
        : steps_left(STEPS_BASE + STEPS_PER_MESSAGE * n_messages),
          bytes_left(int64_t(BYTES_BASE + BYTES_PER_BYTE * n_bytes)),
          stack_base(static_cast<const char *>(__builtin_frame_address(0)))
    {
        armed_budget = this;
    }
    ~render_budget()
    {
        disarm();
    }
    render_budget(const render_budget &) = delete;
    render_budget &operator=(const render_budget &) = delete;

    void disarm()
    {
        armed_budget = nullptr;
    }

    /* Once exceeded it stays so: llama-common swallows some exceptions and would go on. */
    void spend(size_t size)
    {
        const char *here = static_cast<const char *>(__builtin_frame_address(0));
        if (!why && stack_base - here > STACK_MAX) {
            why = "calls itself too often";
        } else if (!why && steps_left-- == 0) {
            why = "takes too many steps";
        } else if (!why && bytes_left < int64_t(size)) {
            why = "takes too much memory";
        }
        if (why) {
            throw std::bad_alloc();
        }
    }
    void add_bytes(void *data)
    {
        bytes_left -= int64_t(malloc_usable_size(data));
    }
    void remove_bytes(void *data)
    {
        bytes_left += int64_t(malloc_usable_size(data));
    }

    const char *why = nullptr;

  private:
    uint64_t steps_left;
    int64_t bytes_left;
    const char *stack_base;
};

hs_status over_budget(const char *why, struct hs_error *err)
{
    hs_error_set(err, HS_LIMIT, "the chat template %s", why);
    hs_error_hint(err, "use another template with --chat-template-file");
    return HS_LIMIT;
}

} // namespace

__attribute__((weak)) void *operator new(std::size_t size)
{
    if (armed_budget) {
        if (size > PTRDIFF_MAX) {
            throw std::bad_alloc();
        }
        armed_budget->spend(size);
    }
    void *data = nullptr;
    while (!(data = std::malloc(size > 0 ? size : 1))) {
        std::new_handler handler = std::get_new_handler();
        if (!handler) {
            throw std::bad_alloc();
        }
        handler();
    }
    if (armed_budget) {
        armed_budget->add_bytes(data);
    }
    return data;
}

__attribute__((weak)) void operator delete(void *data) noexcept
{
    if (armed_budget) {
        armed_budget->remove_bytes(data);
    }
    std::free(data);
}

/* The other forms lead to these two, as in libstdc++; a sanitizer's own would not. */
__attribute__((weak)) void *operator new[](std::size_t size)
{
    return ::operator new(size);
}

__attribute__((weak)) void *operator new(std::size_t size, const std::nothrow_t &) noexcept
{
    try {
        return ::operator new(size);
    } catch (...) {
        return nullptr;
    }
}

__attribute__((weak)) void *operator new[](std::size_t size, const std::nothrow_t &) noexcept
{
    return ::operator new(size, std::nothrow);
}

__attribute__((weak)) void operator delete[](void *data) noexcept
{
    ::operator delete(data);
}

__attribute__((weak)) void operator delete(void *data, std::size_t) noexcept
{
    ::operator delete(data);
}

__attribute__((weak)) void operator delete[](void *data, std::size_t) noexcept
{
    ::operator delete(data);
}

__attribute__((weak)) void operator delete(void *data, const std::nothrow_t &) noexcept
{
    ::operator delete(data);
}

__attribute__((weak)) void operator delete[](void *data, const std::nothrow_t &) noexcept
{
    ::operator delete(data);
}

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
    render_budget budget(0, strlen(source));
    try {
        /* Without a model nothing is added to or stripped from the text: chat_template.c decides.
         */
        auto tmpl = std::make_unique<hs_cxx_template>();
        tmpl->templates = common_chat_templates_init(nullptr, source, bos, eos);
        if (budget.why) {
            return over_budget(budget.why, err);
        }
        *ret_template = tmpl.release();
        return HS_OK;
    } catch (...) {
        if (budget.why) {
            return over_budget(budget.why, err);
        }
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

static size_t messages_size(const struct hs_rt_template_params *params)
{
    size_t size = 0;
    for (size_t i = 0; i < params->n_messages; i++) {
        const struct hs_message &from = params->messages[i];
        size += strlen(from.role) + (from.content ? strlen(from.content) : 0) +
                (from.reasoning ? strlen(from.reasoning) : 0);
    }
    return size;
}

static void copy_messages(const struct hs_rt_template_params *params,
                          std::vector<common_chat_msg> &messages)
{
    for (size_t i = 0; i < params->n_messages; i++) {
        const struct hs_message &from = params->messages[i];
        common_chat_msg message;
        message.role = from.role;
        message.content = from.content ? from.content : "";
        message.reasoning_content = from.reasoning ? from.reasoning : "";
        messages.push_back(std::move(message));
    }
}

extern "C" hs_status hs_cxx_template_apply(const hs_cxx_template *tmpl,
                                           const struct hs_rt_template_params *params,
                                           struct hs_buf *text,
                                           struct hs_rt_reasoning *ret_reasoning,
                                           struct hs_error *err)
{
    render_budget budget(params->n_messages, messages_size(params));
    try {
        common_chat_templates_inputs inputs;
        copy_messages(params, inputs.messages);
        inputs.add_generation_prompt = params->add_generation_prompt;
        inputs.enable_thinking = params->enable_thinking;
        inputs.use_jinja = true;
        common_chat_params rendered = common_chat_templates_apply(tmpl->templates.get(), inputs);
        if (budget.why) {
            return over_budget(budget.why, err);
        }
        hs_status status = hs_buf_append(text, rendered.prompt.data(), rendered.prompt.size());
        if (status != HS_OK) {
            return hs_error_set(err, status, "the rendered prompt of %zu bytes does not fit",
                                rendered.prompt.size());
        }
        copy_reasoning(rendered, params->add_generation_prompt, ret_reasoning);
        return HS_OK;
    } catch (...) {
        if (budget.why) {
            return over_budget(budget.why, err);
        }
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
