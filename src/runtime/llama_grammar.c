#include "llama_grammar.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gbnf_check.h"
#include "grammar_trigger.h"
#include "llama_cxx.h"
#include "llama_log.h"

#define GRAMMAR_MAX_BYTES ((size_t)4 << 20)
#define PIECE_MAX_BYTES ((size_t)1 << 20)
/* llama.cpp searches the whole text for a pattern with every token, and recurses over it. */
#define PATTERN_TEXT_MAX ((size_t)16 << 10)

struct hs_llama_grammar {
    const hs_rt_model *model;
    struct llama_sampler *llama; /* NULL: given up */
    hs_grammar_trigger *trigger; /* NULL: it binds from the start */
    bool is_waiting;
    bool has_patterns; /* llama.cpp looks for them itself */
    size_t n_bytes;    /* searched for patterns */
    bool is_of_format;
    char begun[8]; /* [n_begun] bytes of a character that has begun */
    size_t n_begun;
};

void hs_llama_grammar_free(struct hs_llama_grammar *grammar)
{
    if (grammar) {
        if (grammar->llama) {
            llama_sampler_free(grammar->llama);
        }
        hs_grammar_trigger_free(grammar->trigger);
        hs_free(grammar);
    }
}

/* ---- making it ---- */

struct init_call {
    const struct llama_vocab *vocab;
    const char *grammar, *root;
    const struct hs_cxx_binding *info;
    struct llama_sampler *sampler;
    const int32_t *prefill;
    size_t n_prefill;
};

static void init_grammar(void *arg)
{
    struct init_call *call = arg;
    call->sampler = llama_sampler_init_grammar(call->vocab, call->grammar, call->root);
}

static void init_lazy_grammar(void *arg)
{
    struct init_call *call = arg;
    call->sampler = llama_sampler_init_grammar_lazy_patterns(
        call->vocab, call->grammar, call->root, (const char **)(uintptr_t)call->info->triggers,
        (size_t)call->info->n_triggers, NULL, 0);
}

static void accept_prefill(void *arg)
{
    struct init_call *call = arg;
    for (size_t i = 0; i < call->n_prefill; i++) {
        llama_sampler_accept(call->sampler, call->prefill[i]);
    }
}

/* Exactly one token, as llama.cpp's parser demands. */
static bool is_token(const char *text, size_t len, void *user)
{
    const hs_rt_model *model = user;
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(2 * sizeof(llama_token));
    return hs_llama_tokenize(model, text, len, false, true, &tokens, NULL) == HS_OK &&
           tokens.len == sizeof(llama_token);
}

static hs_status make(struct hs_llama_grammar *grammar, struct init_call *call,
                      struct hs_error *err)
{
    const hs_rt_model *model = grammar->model;
    hs_status status = hs_gbnf_check(call->grammar, call->root, is_token, (void *)model, err);
    if (status != HS_OK) {
        return status;
    }
    call->vocab = model->vocab;
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    status = hs_cxx_guard(call->info && call->info->is_lazy ? init_lazy_grammar : init_grammar,
                          call, "the grammar cannot be used", err);
    hs_llama_log_capture(NULL);
    if (status == HS_OK && !call->sampler) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "the grammar does not parse: %s",
                              hs_llama_capture_essence(&log));
    }
    grammar->llama = call->sampler;
    return status;
}

/* The end of the prompt is part of what a format's grammar describes. */
static hs_status take_prefill(struct hs_llama_grammar *grammar, struct init_call *call,
                              struct hs_error *err)
{
    const char *text = call->info->prefill;
    if (*text == '\0') {
        return HS_OK;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(GRAMMAR_MAX_BYTES);
    HS_CLEANUP(hs_buf_free) struct hs_buf piece = HS_BUF_INIT(PIECE_MAX_BYTES);
    hs_status status =
        hs_llama_tokenize(grammar->model, text, strlen(text), false, true, &tokens, err);
    if (status != HS_OK || tokens.len == 0) {
        return status;
    }
    call->prefill = (const int32_t *)(const void *)tokens.data;
    call->n_prefill = tokens.len / sizeof(int32_t);
    status = hs_llama_token_piece(grammar->model, call->prefill[0], true, &piece, err);
    if (status != HS_OK) {
        return status;
    }
    /* Some tokenizers put a space in front of the first token. */
    if (piece.len > 0 && piece.data[0] == ' ' && text[0] != ' ') {
        call->prefill++;
        call->n_prefill--;
    }
    struct hs_error cause;
    if (hs_cxx_guard(accept_prefill, call, "prefill", &cause) != HS_OK) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "the model's chat template and the grammar for its answers do not fit");
        hs_error_hint(err, "use another template with --chat-template-file");
        return HS_NOT_SUPPORTED;
    }
    return HS_OK;
}

/* llama-common's rules for JSON are wider than JSON, or than what every reader of it takes: control
 * characters, halves of surrogate pairs, and numbers beyond a double. */
static hs_status tighten(const char *grammar, struct hs_buf *text, struct hs_error *err)
{
    static const struct {
        const char *loose, *tight;
    } rules[] = {
        {"\"u\" [0-9a-fA-F]{4}", "\"u\" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] "
                                 "[0-9a-fA-F]{2})"},
        {"[eE] [-+]? integral-part", "[eE] [-+]? [0-9]{1,2}"},
        {"((\"e\" | \"E\") [+-]? [0-9]+)", "((\"e\" | \"E\") [+-]? [0-9]{1,2})"},
        {"( [^\"\\\\] |", "( [^\"\\\\\\x00-\\x1F] |"},
        {"[\"\\\\/ bfnrt]", "[\"\\\\/bfnrt]"},
    };
    hs_status status = HS_OK;
    while (*grammar && status == HS_OK) {
        const char *next = grammar + strlen(grammar);
        size_t rule = 0;
        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
            const char *at = strstr(grammar, rules[i].loose);
            if (at && at < next) {
                next = at;
                rule = i;
            }
        }
        status = hs_buf_append(text, grammar, (size_t)(next - grammar));
        if (*next && status == HS_OK) {
            status = hs_buf_append_str(text, rules[rule].tight);
            next += strlen(rules[rule].loose);
        }
        grammar = next;
    }
    return status == HS_OK ? HS_OK : hs_error_set(err, status, "the answer's grammar is too large");
}

/* Whether the prompt leaves the block of reasoning open. */
static bool starts_thinking(const struct hs_cxx_binding *info)
{
    const char *last = NULL;
    for (const char *at = info->prefill; *info->think_start && (at = strstr(at, info->think_start));
         at++) {
        last = at;
    }
    return last && !strstr(last, info->think_end);
}

static hs_status make_of_format(struct hs_llama_grammar *grammar, const struct hs_cxx_binding *info,
                                struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(GRAMMAR_MAX_BYTES);
    hs_status status = tighten(info->grammar, &text, err);
    struct init_call call = {.grammar = text.data, .root = "root", .info = info};
    if (status == HS_OK) {
        status = make(grammar, &call, err);
    }
    if (status != HS_OK) {
        hs_error_prefix(err, "the tools or the JSON schema");
        return status;
    }
    if (!info->is_lazy) {
        return take_prefill(grammar, &call, err);
    }
    grammar->is_waiting = true;
    grammar->has_patterns = info->has_patterns;
    struct hs_grammar_trigger_params params = {.words = info->triggers,
                                               .n_words = info->has_patterns ? 0 : info->n_triggers,
                                               .think_start = info->think_start,
                                               .think_end = info->think_end,
                                               .starts_thinking = starts_thinking(info)};
    return hs_grammar_trigger_new(&params, &grammar->trigger, err);
}

hs_status hs_llama_grammar_new(const hs_rt_model *model, const struct hs_sampling *sampling,
                               const hs_rt_format *format, struct hs_llama_grammar **ret_grammar,
                               struct hs_error *err)
{
    struct hs_cxx_binding info = {.grammar = ""};
    if (format) {
        hs_llama_format_info(format, &info);
    }
    bool has_own = sampling->grammar && *sampling->grammar;
    *ret_grammar = NULL;
    if (!has_own && *info.grammar == '\0') {
        return HS_OK;
    }
    struct hs_llama_grammar *grammar = hs_calloc(1, sizeof(*grammar));
    if (!grammar) {
        return hs_error_nomem(err, "grammar");
    }
    grammar->model = model;
    grammar->is_of_format = !has_own;
    struct init_call own = {.grammar = sampling->grammar,
                            .root = sampling->grammar_root ? sampling->grammar_root : "root"};
    hs_status status = has_own ? make(grammar, &own, err) : make_of_format(grammar, &info, err);
    if (status != HS_OK) {
        hs_llama_grammar_free(grammar);
        return status;
    }
    *ret_grammar = grammar;
    return HS_OK;
}

/* ---- using it ---- */

struct llama_sampler *hs_llama_grammar_active(const struct hs_llama_grammar *grammar)
{
    return grammar && !grammar->is_waiting ? grammar->llama : NULL;
}

/* What was begun and the token's bytes. false: too long to be looked at. */
static bool join_piece(const struct hs_llama_grammar *grammar, int32_t token, char text[256],
                       size_t *ret_len)
{
    memcpy(text, grammar->begun, grammar->n_begun);
    int32_t n = llama_token_to_piece(grammar->model->vocab, token, text + grammar->n_begun,
                                     (int32_t)(256 - grammar->n_begun), 0, true);
    *ret_len = n < 0 ? 0 : grammar->n_begun + (size_t)n;
    return n >= 0;
}

bool hs_llama_grammar_is_text(const struct hs_llama_grammar *grammar, int32_t token)
{
    char text[256];
    size_t len = 0;
    if (!grammar->is_of_format || !join_piece(grammar, token, text, &len)) {
        return true;
    }
    return llama_vocab_is_eog(grammar->model->vocab, token)
               ? grammar->n_begun == 0
               : hs_utf8_valid(text, hs_utf8_complete(text, len));
}

static void follow_text(struct hs_llama_grammar *grammar, int32_t token)
{
    char text[256];
    size_t len = 0;
    if (grammar->is_of_format && join_piece(grammar, token, text, &len)) {
        size_t n_whole = hs_utf8_complete(text, len);
        grammar->n_begun = len - n_whole;
        memcpy(grammar->begun, text + n_whole, grammar->n_begun);
    }
}

struct feed_call {
    struct llama_sampler *llama;
    const int32_t *tokens;
    size_t n;
};

static void feed(void *arg)
{
    struct feed_call *call = arg;
    for (size_t i = 0; i < call->n; i++) {
        llama_sampler_accept(call->llama, call->tokens[i]);
    }
}

static void give_up(struct hs_llama_grammar *grammar)
{
    llama_sampler_free(grammar->llama);
    grammar->llama = NULL;
}

/* llama.cpp does not say whether it has found its pattern; but then the answer may not end yet. */
static bool is_triggered(const struct hs_llama_grammar *grammar)
{
    llama_token_data one = {.id = grammar->model->info.eot, .logit = 1, .p = 0};
    if (one.id < 0) {
        one.id = grammar->model->info.eos;
    }
    if (one.id < 0) {
        return false;
    }
    llama_token_data_array array = {.data = &one, .size = 1, .selected = -1, .sorted = false};
    llama_sampler_apply(grammar->llama, &array);
    return one.logit == -INFINITY;
}

static void wait_on(struct hs_llama_grammar *grammar, int32_t token)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf piece = HS_BUF_INIT(PIECE_MAX_BYTES);
    const int32_t *tokens = &token;
    size_t n = 0;
    bool was_thinking = hs_grammar_trigger_is_thinking(grammar->trigger);
    if (hs_llama_token_piece(grammar->model, token, true, &piece, NULL) != HS_OK ||
        hs_grammar_trigger_push(grammar->trigger, token, piece.data ? piece.data : "", piece.len,
                                &tokens, &n) != HS_OK) {
        give_up(grammar);
        return;
    }
    if (grammar->has_patterns) {
        n = !was_thinking && !hs_grammar_trigger_is_thinking(grammar->trigger);
        tokens = &token;
        grammar->n_bytes += n ? piece.len : 0;
    }
    struct feed_call call = {grammar->llama, tokens, n};
    struct hs_error ignored;
    if (grammar->n_bytes > PATTERN_TEXT_MAX ||
        hs_cxx_guard(feed, &call, "grammar", &ignored) != HS_OK) {
        give_up(grammar);
        return;
    }
    grammar->is_waiting = grammar->has_patterns ? !is_triggered(grammar) : n == 0;
}

void hs_llama_grammar_accept(struct hs_llama_grammar *grammar, int32_t token)
{
    if (!grammar || !grammar->llama || llama_vocab_is_eog(grammar->model->vocab, token)) {
        return;
    }
    follow_text(grammar, token);
    if (grammar->is_waiting) {
        wait_on(grammar, token);
    } else {
        llama_sampler_accept(grammar->llama, token);
    }
}
