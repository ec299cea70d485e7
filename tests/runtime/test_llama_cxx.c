/* Exceptions of C++ become statuses, and a template cannot cost more than it may. */
#include "runtime_test.h"

#include <string.h>

#include "base/error.h"
#include "llama_cxx.h"

/* What libstdc++ throws with, under the names that C++ gives them. */
extern void throw_length_error(const char *text) __asm__("_ZSt20__throw_length_errorPKc");
extern void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv");

static void do_nothing(void *arg)
{
    *(int *)arg = 7;
}

static void throw_text(void *arg)
{
    throw_length_error(arg);
}

static void throw_memory(void *arg)
{
    (void)arg;
    throw_bad_alloc();
}

static void exceptions_become_statuses(void **state)
{
    (void)state;
    int value = 0;
    struct hs_error err = {0};
    assert_int_equal(hs_cxx_guard(do_nothing, &value, "nothing", &err), HS_OK);
    assert_int_equal(value, 7);
    assert_int_equal(hs_cxx_guard(throw_text, "too long", "a test", &err), HS_INTERNAL);
    assert_string_equal(err.message, "a test: too long");
    assert_int_equal(hs_cxx_guard(throw_memory, NULL, "a test", &err), HS_OUT_OF_MEMORY);
    assert_int_equal(hs_cxx_guard(throw_text, "too long", "a test", NULL), HS_INTERNAL);
}

static hs_status render(const char *source, struct hs_buf *text, struct hs_error *err)
{
    hs_cxx_template *tmpl = NULL;
    hs_status status = hs_cxx_template_new(source, "<s>", "</s>", &tmpl, err);
    if (status != HS_OK) {
        return status;
    }
    const struct hs_message messages[] = {{.role = "user", .content = "hi"}};
    struct hs_rt_template_params params = {
        .messages = messages, .n_messages = 1, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    status = hs_cxx_template_apply(tmpl, &params, text, &reasoning, err);
    hs_cxx_template_free(tmpl);
    return status;
}

#define MESSAGES "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"

/* Loops that make nothing, too: each turn of a loop has a value of its own, and looks at the time.
 */
static void templates_have_a_limit(void **state)
{
    (void)state;
    if (!hs_cxx_has_templates()) {
        skip();
    }
    static const char *const costly[] = {
        "{% for i in range(100000000) %}{% endfor %}" MESSAGES,
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}" MESSAGES,
        "{% for i in range(9999) %}{% for j in range(9999) %}{% if false %}x{% endif %}"
        "{% endfor %}{% endfor %}" MESSAGES,
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}" MESSAGES,
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}{{ ns.s }}" MESSAGES,
    };
    for (size_t i = 0; i < sizeof costly / sizeof costly[0]; i++) {
        struct hs_buf text = HS_BUF_INIT(1 << 20);
        struct hs_error err = {0};
        hs_status status = render(costly[i], &text, &err);
        if (status != HS_LIMIT) {
            fail_msg("%s: %s '%s'", costly[i], hs_status_name(status), err.message);
        }
        assert_non_null(strstr(err.message, "the chat template"));
        hs_buf_free(&text);
    }
    struct hs_buf text = HS_BUF_INIT(1 << 20); /* the next one has the whole limit again */
    struct hs_error err = {0};
    assert_int_equal(render(MESSAGES, &text, &err), HS_OK);
    assert_string_equal(text.data, "[user]hi");
    hs_buf_free(&text);
}

/* Searches in long texts make next to nothing, and each takes the product of two lengths. */
static void templates_have_a_limit_of_time(void **state)
{
    (void)state;
    if (!hs_cxx_has_templates()) {
        skip();
    }
    enum { LONG = 500000, SHORT = 100000 };
    struct hs_buf source = HS_BUF_INIT(SIZE_MAX);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    struct hs_error err = {0};
    assert_int_equal(hs_buf_reserve(&source, LONG + SHORT + 1000), HS_OK);
    assert_int_equal(hs_buf_append_str(&source, "{% set s = '"), HS_OK);
    memset(source.data + source.len, 'a', LONG);
    source.len += LONG;
    assert_int_equal(hs_buf_append_str(&source, "' %}{% set t = '"), HS_OK);
    memset(source.data + source.len, 'a', SHORT);
    source.len += SHORT;
    assert_int_equal(hs_buf_append_str(&source, "b' %}{% for i in range(9999) %}{% if t in s %}x"
                                                "{% endif %}{% endfor %}" MESSAGES),
                     HS_OK);
    assert_int_equal(render(source.data, &text, &err), HS_LIMIT);
    assert_string_equal(err.message, "the chat template takes too long");
    hs_buf_free(&source);
    hs_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exceptions_become_statuses),
        cmocka_unit_test(templates_have_a_limit),
        cmocka_unit_test(templates_have_a_limit_of_time),
    };
    hs_cxx_init(); /* as the backend does it: what llama-common says goes nowhere */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
