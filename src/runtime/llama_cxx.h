/*
 * llama_cxx.h - the one C++ file of the product, seen from C: llama-common's chat templates, the
 * figures that llama.cpp offers as std::map only, and a guard for calls of llama.cpp that may
 * throw.
 *
 * Nothing but translation happens behind it; every C++ exception becomes a status with its text.
 * The exception is what a template may cost: it can be counted only where C++ allocates.
 *
 * Threads: hs_cxx_init once before the others; a template by one thread at a time; the rest any.
 */
#ifndef RUNTIME_LLAMA_CXX_H
#define RUNTIME_LLAMA_CXX_H

#include "runtime/runtime.h"

struct llama_model;
struct llama_context;

typedef struct hs_cxx_template hs_cxx_template;
typedef struct hs_cxx_format hs_cxx_format;

/* Keep llama-common's own logger silent; what matters comes back as struct hs_error. */
void hs_cxx_init(void);

/*
 * Call fn(arg) so that an exception thrown by llama.cpp below it becomes HS_OUT_OF_MEMORY or
 * HS_INTERNAL "<what>: <text>". fn must not own anything: it is unwound without clean-up.
 */
HS_CHECKED hs_status hs_cxx_guard(void (*fn)(void *), void *arg, const char *what,
                                  struct hs_error *err);

/* Whether Jinja templates are available (built with llama-common). */
bool hs_cxx_has_templates(void);

/*
 * Parse a Jinja template.
 * Errors: HS_INVALID_ARGUMENT with the parser's complaint, HS_LIMIT (steps, memory, stack, time;
 * the caller has bounded the nesting, hs_template_scan), HS_NOT_SUPPORTED without llama-common.
 */
HS_CHECKED hs_status hs_cxx_template_new(const char *source, const char *bos, const char *eos,
                                         hs_cxx_template **ret_template, struct hs_error *err);
void hs_cxx_template_free(hs_cxx_template *tmpl);
/* Render, appending to `text`. Errors: HS_INVALID_ARGUMENT with the template's own complaint,
 * HS_LIMIT as above. */
HS_CHECKED hs_status hs_cxx_template_apply(const hs_cxx_template *tmpl,
                                           const struct hs_rt_template_params *params,
                                           struct hs_buf *text,
                                           struct hs_rt_reasoning *ret_reasoning,
                                           struct hs_error *err);

/* How an answer is constrained, as llama-common says; pointers live as long as the format. */
struct hs_cxx_binding {
    const char *grammar; /* GBNF; "": free */
    bool is_lazy;        /* only from the first trigger on */
    const char *prefill; /* the end of the prompt, which the grammar of a format that is not lazy
                            covers too */
    const char *stop;    /* "": none */
    const char *think_start, *think_end; /* no trigger counts between them; "": none */
    int32_t n_triggers;
    bool has_patterns; /* triggers are regular expressions, not words */
    const char *const *triggers;
};

/*
 * Ask the template how its model calls tools or answers by a schema.
 * Errors: HS_INVALID_ARGUMENT with llama-common's complaint, HS_NOT_SUPPORTED, HS_LIMIT.
 */
HS_CHECKED hs_status hs_cxx_format_new(const hs_cxx_template *tmpl,
                                       const struct hs_rt_template_params *prompt,
                                       const struct hs_rt_format_params *params,
                                       hs_cxx_format **ret_format, struct hs_error *err);
void hs_cxx_format_free(hs_cxx_format *format);
void hs_cxx_format_info(const hs_cxx_format *format, struct hs_cxx_binding *ret_info);
/*
 * Read the answer so far, text[len], anew; what it says beyond the last reading is in ret_deltas
 * [HS_RT_DELTAS_MAX]. is_end: what cannot be read is given as text.
 * Errors: HS_LIMIT, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_cxx_format_read(hs_cxx_format *format, const char *text, size_t len,
                                        bool is_end, struct hs_rt_delta *ret_deltas, int32_t *ret_n,
                                        struct hs_error *err);
/* The grammar of a schema, appended. Errors: HS_INVALID_ARGUMENT with the converter's complaint. */
HS_CHECKED hs_status hs_cxx_schema_grammar(const char *schema, struct hs_buf *grammar,
                                           struct hs_error *err);

/*
 * Buffer sizes of a context and its model as allocated, or as they would be for a model loaded with
 * no_alloc. false: this llama.cpp does not tell (built without llama-common's sources).
 */
bool hs_cxx_memory(const struct llama_context *context, struct hs_rt_memory *ret_memory);

#endif
