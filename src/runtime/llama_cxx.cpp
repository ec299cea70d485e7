extern "C" {
#include "llama_cxx.h"
#include "base/error.h"
#include "gbnf_union.h"
}

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <malloc.h>
#include <time.h>
#include <new>
#include <random>
#include <string>
#include <vector>

#ifdef HS_HAVE_LLAMA_COMMON
#include "chat.h"
#include "chat-peg-parser.h"
#include "json-schema-to-grammar.h"
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
 * thread, and each looks at the time. Between two of them no more is done than with two pieces of
 * memory of bounded size. They are weak: a program that brings its own keeps them, and renders
 * without this bound.
 */
namespace
{

constexpr uint64_t STEPS_BASE = 4000000;
constexpr uint64_t STEPS_PER_MESSAGE = 40000;
constexpr size_t BYTES_BASE = size_t(256) << 20;
constexpr size_t BYTES_PER_BYTE = 64;
/* One string or list; a search for one in another, which makes nothing, takes their product. */
constexpr size_t PIECE_BASE = size_t(1) << 20;
constexpr int64_t CPU_MS_BASE = 5000;
constexpr int64_t CPU_MS_PER_MIB = 1000;
constexpr int64_t CPU_LOOK_EVERY_MS = 50;
constexpr ptrdiff_t STACK_MAX = ptrdiff_t(2) << 20;

int64_t clock_ms(clockid_t clock)
{
    struct timespec now = {};
    clock_gettime(clock, &now);
    return int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

/* What the thread computed counts, so that a busy machine changes nothing. Asking for that is a
 * system call: a look at the coarse clock says when it is time to. */
bool is_late(int64_t *looked_at_ms, int64_t cpu_until_ms)
{
    int64_t now_ms = clock_ms(CLOCK_MONOTONIC_COARSE);
    if (now_ms - *looked_at_ms < CPU_LOOK_EVERY_MS) {
        return false;
    }
    *looked_at_ms = now_ms;
    return clock_ms(CLOCK_THREAD_CPUTIME_ID) > cpu_until_ms;
}

class render_budget;
thread_local render_budget *armed_budget = nullptr;

class render_budget
{
  public:
    render_budget(size_t n_messages, size_t n_bytes)
        : steps_left(STEPS_BASE + STEPS_PER_MESSAGE * n_messages),
          bytes_left(int64_t(BYTES_BASE + BYTES_PER_BYTE * n_bytes)),
          piece_max(PIECE_BASE + BYTES_PER_BYTE * n_bytes),
          cpu_until_ms(clock_ms(CLOCK_THREAD_CPUTIME_ID) + CPU_MS_BASE +
                       CPU_MS_PER_MIB * int64_t(n_bytes >> 20)),
          looked_at_ms(clock_ms(CLOCK_MONOTONIC_COARSE)),
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
        } else if (!why && (bytes_left < int64_t(size) || size > piece_max)) {
            why = "takes too much memory";
        } else if (!why && is_late(&looked_at_ms, cpu_until_ms)) {
            why = "takes too long";
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
    size_t piece_max;
    int64_t cpu_until_ms, looked_at_ms;
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

static size_t text_size(const char *text)
{
    return text ? strlen(text) : 0;
}

static size_t prompt_size(const struct hs_rt_template_params *params)
{
    size_t size = text_size(params->template_kwargs);
    for (size_t i = 0; i < params->n_messages; i++) {
        const struct hs_message &from = params->messages[i];
        size += strlen(from.role) + text_size(from.content) + text_size(from.reasoning);
        for (int32_t k = 0; k < from.n_tool_calls; k++) {
            size += text_size(from.tool_calls[k].arguments);
        }
    }
    for (int32_t i = 0; i < params->n_tools; i++) {
        size += text_size(params->tools[i].description) + text_size(params->tools[i].parameters);
    }
    return size;
}

static std::string string_or_empty(const char *text)
{
    return text ? text : "";
}

static common_chat_msg copy_message(const struct hs_message &from)
{
    common_chat_msg message;
    message.role = from.role;
    message.content = string_or_empty(from.content);
    message.reasoning_content = string_or_empty(from.reasoning);
    message.tool_name = string_or_empty(from.name);
    message.tool_call_id = string_or_empty(from.tool_call_id);
    for (int32_t i = 0; i < from.n_tool_calls; i++) {
        const struct hs_tool_call &call = from.tool_calls[i];
        message.tool_calls.push_back({string_or_empty(call.name), string_or_empty(call.arguments),
                                      string_or_empty(call.id)});
    }
    return message;
}

/* Everything but the tools, whose schemas differ between prompt and grammar. */
static common_chat_templates_inputs make_inputs(const struct hs_rt_template_params *params)
{
    common_chat_templates_inputs inputs;
    for (size_t i = 0; i < params->n_messages; i++) {
        inputs.messages.push_back(copy_message(params->messages[i]));
    }
    inputs.add_generation_prompt = params->add_generation_prompt;
    inputs.enable_thinking = params->enable_thinking;
    inputs.use_jinja = true;
    if (params->continue_final && params->add_generation_prompt) {
        inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
    }
    if (params->template_kwargs) {
        const common_json kwargs = common_json::parse(params->template_kwargs);
        for (const auto &[key, value] : kwargs.items()) {
            if (key == "enable_thinking" && value.is_boolean()) {
                inputs.enable_thinking = value.get<bool>();
            } else {
                inputs.chat_template_kwargs[key] = value.dump();
            }
        }
    }
    return inputs;
}

static hs_status refuse_format(const char *what, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_SUPPORTED, "the model's chat template %s", what);
    hs_error_hint(err, "use a model that can, or another template with --chat-template-file");
    return HS_NOT_SUPPORTED;
}

/* llama-common leaves tools out of a prompt whose template knows none. */
static bool knows_tools(const hs_cxx_template *tmpl)
{
    auto caps = common_chat_templates_get_caps(tmpl->templates.get());
    return caps["supports_tools"] && caps["supports_tool_calls"];
}

static common_chat_tool make_tool(const struct hs_tool &tool, const char *parameters)
{
    return {tool.name, string_or_empty(tool.description),
            parameters ? parameters : "{\"type\":\"object\",\"properties\":{}}"};
}

extern "C" hs_status hs_cxx_template_apply(const hs_cxx_template *tmpl,
                                           const struct hs_rt_template_params *params,
                                           struct hs_buf *text,
                                           struct hs_rt_reasoning *ret_reasoning,
                                           struct hs_error *err)
{
    render_budget budget(params->n_messages, prompt_size(params));
    try {
        if (params->n_tools > 0 && !knows_tools(tmpl)) {
            return refuse_format("cannot show tools", err);
        }
        common_chat_templates_inputs inputs = make_inputs(params);
        for (int32_t i = 0; i < params->n_tools; i++) {
            inputs.tools.push_back(make_tool(params->tools[i], params->tools[i].parameters));
        }
        /* Here the prompt alone is asked for; a grammar would only cost time. */
        inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_NONE;
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

/* ---- answers with tools or a schema ---- */

struct reader {
    common_chat_format kind;
    common_peg_arena parser;
};

struct hs_cxx_format {
    /* The first that does not refuse an answer reads it. */
    std::vector<reader> readers;
    std::string grammar, prefill, stop, think_start, think_end;
    bool is_lazy = false, has_patterns = false;
    std::vector<std::string> triggers;
    std::vector<const char *> trigger_texts;

    common_chat_msg given; /* what the deltas so far add up to */
    size_t n_readable = 0; /* bytes at the last reading that succeeded */
    std::vector<std::string> deltas;
};

static void take_params(hs_cxx_format &format, common_chat_params &rendered)
{
    format.readers.emplace_back();
    format.readers.back().kind = rendered.format;
    format.readers.back().parser.load(rendered.parser);
    format.grammar = std::move(rendered.grammar);
    format.is_lazy = rendered.grammar_lazy;
    format.prefill = std::move(rendered.generation_prompt);
    format.stop = rendered.additional_stops.empty() ? "" : rendered.additional_stops.front();
    if (!rendered.thinking_end_tags.empty()) {
        format.think_start = rendered.thinking_start_tag;
        format.think_end = rendered.thinking_end_tags.front();
    }
    for (const auto &trigger : rendered.grammar_triggers) {
        format.has_patterns |= trigger.type != COMMON_GRAMMAR_TRIGGER_TYPE_WORD;
    }
    for (const auto &trigger : rendered.grammar_triggers) {
        bool is_word = trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD;
        format.triggers.push_back(format.has_patterns && is_word ? regex_escape(trigger.value)
                                                                 : trigger.value);
    }
    for (const auto &trigger : format.triggers) {
        format.trigger_texts.push_back(trigger.c_str());
    }
}

/* A call that is required may come late: the grammar allows any text before it. The root rule ends
 * that text with an optional rule "until-<number>". */
static void drop_free_text(std::string &grammar)
{
    size_t root = grammar.compare(0, 8, "root ::=") == 0 ? 0 : grammar.find("\nroot ::=");
    size_t end = root == std::string::npos ? root : grammar.find('\n', root + 1);
    for (size_t at = root; (at = grammar.find(" until-", at)) < end; at++) {
        size_t behind = grammar.find_first_not_of("0123456789", at + strlen(" until-"));
        if (behind < end && grammar[behind] == '?') {
            grammar.erase(at, behind + 1 - at);
            end = grammar.find('\n', root + 1);
        }
    }
}

/* Bytes of input up to the end of what was given: text, reasoning and arguments, not a call that
 * only begins. */
static size_t covered_bytes(const common_peg_ast_arena &ast, const common_peg_parse_result &result)
{
    using builder = common_chat_peg_builder;
    size_t end = 0;
    ast.visit(result, [&](const common_peg_ast_node &node) {
        bool is_given = node.tag == builder::CONTENT || node.tag == builder::REASONING ||
                        node.tag == builder::TOOL_ARGS || node.tag == builder::TOOL_ARG_CLOSE ||
                        node.tag == builder::TOOL_CLOSE;
        end = is_given ? std::max(end, node.end) : end;
    });
    return end;
}

enum class reading { whole, partial, refused };

/* Read text as far as the parser understands it; refused: it says nothing of what it understood. */
static reading read_by(const reader &reader, const hs_cxx_format &format, std::string_view text,
                       bool is_end, common_chat_msg &msg, size_t *ret_covered)
{
    std::string input = format.prefill;
    input += text;
    common_peg_parse_context context(input, is_end ? COMMON_PEG_PARSE_FLAG_NONE
                                                   : COMMON_PEG_PARSE_FLAG_LENIENT);
    common_peg_parse_result result = reader.parser.parse(context);
    if (result.fail()) {
        return reading::refused;
    }
    std::unique_ptr<common_chat_peg_mapper> mapper;
    if (reader.kind == COMMON_CHAT_FORMAT_PEG_GEMMA4) {
        mapper = std::make_unique<common_chat_peg_gemma4_mapper>(msg);
    } else if (reader.kind == COMMON_CHAT_FORMAT_PEG_MINIMAX_M3) {
        mapper = std::make_unique<common_chat_peg_minimax_m3_mapper>(msg);
    } else {
        mapper = std::make_unique<common_chat_peg_mapper>(msg);
    }
    mapper->from_ast(context.ast, result);
    if (ret_covered) {
        size_t end = covered_bytes(context.ast, result);
        *ret_covered = end > format.prefill.size() ? end - format.prefill.size() : 0;
    }
    return result.success() ? reading::whole : reading::partial;
}

static reading read_text(const hs_cxx_format &format, std::string_view text, bool is_end,
                         common_chat_msg &msg, size_t *ret_covered)
{
    reading how = reading::refused;
    for (size_t i = 0; i < format.readers.size() && how == reading::refused; i++) {
        msg = {};
        how = read_by(format.readers[i], format, text, is_end, msg, ret_covered);
    }
    return how;
}

class delta_list
{
  public:
    delta_list(hs_cxx_format &owner, struct hs_rt_delta *to) : format(owner), deltas(to)
    {
        format.deltas.clear();
        format.deltas.reserve(HS_RT_DELTAS_MAX);
    }

    bool is_full() const
    {
        return n == HS_RT_DELTAS_MAX;
    }

    struct hs_rt_delta &add(enum hs_event_type type, std::string text)
    {
        format.deltas.push_back(std::move(text));
        struct hs_rt_delta &delta = deltas[n++];
        delta = {};
        delta.type = type;
        delta.text = format.deltas.back().c_str();
        delta.len = format.deltas.back().size();
        return delta;
    }

    struct hs_rt_delta &last()
    {
        return deltas[n - 1];
    }

    /* What `now` has beyond `given`. A parser that changes its mind is not followed. */
    void extend(enum hs_event_type type, std::string &given, const std::string &now)
    {
        if (now.size() > given.size() && now.compare(0, given.size(), given) == 0 && !is_full()) {
            add(type, now.substr(given.size()));
            given = now;
        }
    }

    int32_t n = 0;

  private:
    hs_cxx_format &format;
    struct hs_rt_delta *deltas;
};

static std::string make_call_id()
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    std::random_device random;
    std::string id = "call_";
    for (int i = 0; i < 24; i++) {
        id += letters[random() % (sizeof(letters) - 1)];
    }
    return id;
}

static bool is_id_taken(const common_chat_msg &given, const std::string &id)
{
    for (const auto &call : given.tool_calls) {
        if (call.id == id) {
            return true;
        }
    }
    return false;
}

static void extend_calls(hs_cxx_format &format, const common_chat_msg &now, delta_list &list)
{
    auto &given = format.given.tool_calls;
    given.reserve(now.tool_calls.size()); /* deltas point into it */
    for (size_t i = 0; i < now.tool_calls.size() && !list.is_full(); i++) {
        const auto &call = now.tool_calls[i];
        if (i < given.size()) {
            int32_t before = list.n;
            list.extend(HS_EVENT_TOOL_CALL, given[i].arguments, call.arguments);
            if (list.n > before) {
                list.last().index = int32_t(i);
            }
            continue;
        }
        if (call.name.empty()) {
            return;
        }
        given.push_back(call);
        given.back().id.clear();
        given.back().id =
            call.id.empty() || is_id_taken(format.given, call.id) ? make_call_id() : call.id;
        struct hs_rt_delta &delta = list.add(HS_EVENT_TOOL_CALL, call.arguments);
        delta.index = int32_t(i);
        delta.id = given[i].id.c_str();
        delta.name = given[i].name.c_str();
    }
}

static void extend(hs_cxx_format &format, const common_chat_msg &now, delta_list &list)
{
    list.extend(HS_EVENT_REASONING, format.given.reasoning_content, now.reasoning_content);
    list.extend(HS_EVENT_TEXT, format.given.content, now.content);
    extend_calls(format, now, list);
}

/*
 * The answer is over. When it is not whole, it was cut, or the parser refuses it: what it
 * understood last was given, and what came then is text, but for the rest of a call that was cut.
 */
static void read_end(hs_cxx_format &format, std::string_view text, delta_list &list)
{
    common_chat_msg now;
    if (read_text(format, text, true, now, nullptr) == reading::whole) {
        extend(format, now, list);
        return;
    }
    size_t covered = 0;
    now = {};
    reading how = read_text(format, text, false, now, &covered);
    if (how == reading::refused) {
        now = {};
        if (read_text(format, text.substr(0, format.n_readable), false, now, &covered) ==
            reading::refused) {
            covered = 0;
        }
    }
    extend(format, now, list);
    std::string rest(text.substr(covered));
    bool is_cut_call = how != reading::refused && !format.given.tool_calls.empty();
    if (!is_cut_call && rest.find_first_not_of(" \t\r\n") != std::string::npos && !list.is_full()) {
        list.add(HS_EVENT_TEXT, std::move(rest));
    }
}

extern "C" hs_status hs_cxx_format_read(hs_cxx_format *format, const char *text, size_t len,
                                        bool is_end, struct hs_rt_delta *ret_deltas, int32_t *ret_n,
                                        struct hs_error *err)
{
    render_budget budget(0, len);
    try {
        delta_list list(*format, ret_deltas);
        common_chat_msg now;
        if (is_end) {
            read_end(*format, std::string_view(text, len), list);
        } else if (read_text(*format, std::string_view(text, len), false, now, nullptr) !=
                   reading::refused) {
            format->n_readable = len;
            extend(*format, now, list);
        }
        if (budget.why) {
            return hs_error_set(err, HS_LIMIT, "reading the answer %s", budget.why);
        }
        if (is_end && list.is_full()) {
            return hs_error_set(err, HS_LIMIT, "the answer calls too many tools at once");
        }
        *ret_n = list.n;
        return HS_OK;
    } catch (...) {
        if (budget.why) {
            return hs_error_set(err, HS_LIMIT, "reading the answer %s", budget.why);
        }
        return from_exception("the answer cannot be read", HS_INTERNAL, err);
    }
}

static common_chat_templates_inputs make_format_inputs(const struct hs_rt_template_params *prompt,
                                                       const struct hs_rt_format_params *params)
{
    common_chat_templates_inputs inputs = make_inputs(prompt);
    for (int32_t i = 0; i < prompt->n_tools; i++) {
        if (!params->tool_name || strcmp(params->tool_name, prompt->tools[i].name) == 0) {
            inputs.tools.push_back(make_tool(prompt->tools[i], params->tool_schemas[i]));
        }
    }
    inputs.tool_choice =
        params->tool_choice == HS_TOOL_CHOICE_REQUIRED ? COMMON_CHAT_TOOL_CHOICE_REQUIRED
        : params->tool_choice == HS_TOOL_CHOICE_NONE   ? COMMON_CHAT_TOOL_CHOICE_NONE
                                                       : COMMON_CHAT_TOOL_CHOICE_AUTO;
    inputs.parallel_tool_calls = params->parallel_tool_calls;
    inputs.json_schema = string_or_empty(params->json_schema);
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    return inputs;
}

static common_chat_params bind(const hs_cxx_template *tmpl,
                               const struct hs_rt_template_params *prompt,
                               struct hs_rt_format_params params, enum hs_tool_choice choice,
                               const char *json_schema)
{
    params.tool_choice = choice;
    params.json_schema = json_schema;
    return common_chat_templates_apply(tmpl->templates.get(), make_format_inputs(prompt, &params));
}

/* Whether the text of a call, by its first character, is never the beginning of JSON. */
static bool begins_unlike_json(const common_chat_params &rendered)
{
    bool is_unlike = !rendered.grammar_triggers.empty();
    for (const auto &trigger : rendered.grammar_triggers) {
        is_unlike = is_unlike && trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD &&
                    !trigger.value.empty() &&
                    !strchr("{[\"`-0123456789tfn \t\r\n", trigger.value[0]);
    }
    return is_unlike;
}

/*
 * Calls, or an answer by a schema: llama-common has no format for both, so it is asked for each,
 * and the grammars are put together.
 */
static hs_status take_both(hs_cxx_format &format, const hs_cxx_template *tmpl,
                           const struct hs_rt_template_params *prompt,
                           const struct hs_rt_format_params *params, struct hs_error *err)
{
    common_chat_params answer =
        bind(tmpl, prompt, *params, HS_TOOL_CHOICE_NONE, params->json_schema);
    common_chat_params calls = bind(tmpl, prompt, *params, HS_TOOL_CHOICE_REQUIRED, nullptr);
    if (answer.grammar.empty() || calls.grammar.empty() ||
        answer.generation_prompt != calls.generation_prompt ||
        !begins_unlike_json(bind(tmpl, prompt, *params, HS_TOOL_CHOICE_AUTO, nullptr))) {
        return refuse_format("cannot tell a call from an answer by a JSON schema", err);
    }
    drop_free_text(calls.grammar);
    struct hs_buf grammar = HS_BUF_INIT(SIZE_MAX);
    hs_status status = hs_gbnf_union(calls.grammar.c_str(), answer.grammar.c_str(), &grammar, err);
    if (status == HS_OK) {
        take_params(format, answer); /* whose reader refuses a call by its first character */
        take_params(format, calls);
        format.grammar.assign(grammar.data, grammar.len);
    }
    hs_buf_free(&grammar);
    return status;
}

static hs_status take_one(hs_cxx_format &format, const hs_cxx_template *tmpl,
                          const struct hs_rt_template_params *prompt,
                          const struct hs_rt_format_params *params, struct hs_error *err)
{
    bool must_call = params->tool_choice == HS_TOOL_CHOICE_REQUIRED;
    common_chat_params rendered =
        bind(tmpl, prompt, *params, params->tool_choice, must_call ? nullptr : params->json_schema);
    take_params(format, rendered);
    if (must_call) {
        drop_free_text(format.grammar);
    }
    if (format.grammar.empty() && must_call) {
        return refuse_format("cannot call tools", err);
    }
    if (format.grammar.empty() && params->json_schema) {
        return refuse_format("cannot keep answers to a JSON schema", err);
    }
    return HS_OK;
}

extern "C" hs_status hs_cxx_format_new(const hs_cxx_template *tmpl,
                                       const struct hs_rt_template_params *prompt,
                                       const struct hs_rt_format_params *params,
                                       hs_cxx_format **ret_format, struct hs_error *err)
{
    size_t size = prompt_size(prompt) + text_size(params->json_schema);
    render_budget budget(prompt->n_messages, size);
    try {
        if (prompt->n_tools > 0 && !knows_tools(tmpl)) {
            return refuse_format("cannot show tools", err);
        }
        auto format = std::make_unique<hs_cxx_format>();
        bool is_both = prompt->n_tools > 0 && params->json_schema &&
                       params->tool_choice == HS_TOOL_CHOICE_AUTO;
        hs_status status = (is_both ? take_both : take_one)(*format, tmpl, prompt, params, err);
        if (budget.why) {
            return over_budget(budget.why, err);
        }
        if (status != HS_OK) {
            return status;
        }
        if (prompt->continue_final) {
            /* What the conversation already holds is not part of the answer. */
            read_text(*format, "", false, format->given, nullptr);
        }
        *ret_format = format.release();
        return HS_OK;
    } catch (...) {
        if (budget.why) {
            return over_budget(budget.why, err);
        }
        return from_exception("the chat template refuses these tools or this schema",
                              HS_INVALID_ARGUMENT, err);
    }
}

extern "C" void hs_cxx_format_free(hs_cxx_format *format)
{
    delete format;
}

extern "C" void hs_cxx_format_info(const hs_cxx_format *format, struct hs_cxx_binding *ret_info)
{
    *ret_info = {};
    ret_info->grammar = format->grammar.c_str();
    ret_info->is_lazy = format->is_lazy;
    ret_info->prefill = format->prefill.c_str();
    ret_info->stop = format->stop.c_str();
    ret_info->think_start = format->think_start.c_str();
    ret_info->think_end = format->think_end.c_str();
    ret_info->n_triggers = int32_t(format->triggers.size());
    ret_info->has_patterns = format->has_patterns;
    ret_info->triggers = format->trigger_texts.data();
}

extern "C" hs_status hs_cxx_schema_grammar(const char *schema, struct hs_buf *grammar,
                                           struct hs_error *err)
{
    render_budget budget(0, strlen(schema));
    try {
        std::string text = json_schema_to_grammar(common_json::parse(schema), true);
        if (budget.why) {
            return hs_error_set(err, HS_LIMIT, "the JSON schema %s", budget.why);
        }
        hs_status status = hs_buf_append(grammar, text.data(), text.size());
        return status == HS_OK
                   ? HS_OK
                   : hs_error_set(err, status, "the JSON schema's grammar is too large");
    } catch (...) {
        if (budget.why) {
            return hs_error_set(err, HS_LIMIT, "the JSON schema %s", budget.why);
        }
        return from_exception("the JSON schema cannot be used", HS_INVALID_ARGUMENT, err);
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

extern "C" hs_status hs_cxx_format_new(const hs_cxx_template *,
                                       const struct hs_rt_template_params *,
                                       const struct hs_rt_format_params *, hs_cxx_format **,
                                       struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_SUPPORTED, "built without llama-common: no tools");
}

extern "C" void hs_cxx_format_free(hs_cxx_format *)
{
}

extern "C" void hs_cxx_format_info(const hs_cxx_format *, struct hs_cxx_binding *ret_info)
{
    *ret_info = {};
}

extern "C" hs_status hs_cxx_format_read(hs_cxx_format *, const char *, size_t, bool,
                                        struct hs_rt_delta *, int32_t *, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_SUPPORTED, "built without llama-common: no tools");
}

extern "C" hs_status hs_cxx_schema_grammar(const char *, struct hs_buf *, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_SUPPORTED, "built without llama-common: no JSON schemas");
}

extern "C" bool hs_cxx_memory(const struct llama_context *, struct hs_rt_memory *)
{
    return false;
}

#endif
