/* session_test.h - sessions over the fake runtime: opened, asked, looked at. */
#ifndef SESSION_TEST_H
#define SESSION_TEST_H

#include "engine_test.h"

static struct answer answer; /* the last one */
static struct hs_error err;

static inline hs_engine *open_engine(const char *dir, int32_t n_ctx)
{
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    return test_engine(&params, n_ctx, 4);
}

static inline hs_status try_session(hs_engine *engine, const char *name, const char *system,
                                    enum hs_overflow overflow, char id[HS_ID_MAX])
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    params.system = system;
    params.overflow = overflow;
    return hs_engine_create_session(engine, &params, id, &err);
}

static inline void open_session(hs_engine *engine, const char *name, const char *system,
                                char id[HS_ID_MAX])
{
    hs_status status = try_session(engine, name, system, HS_OVERFLOW_STOP, id);
    if (status != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static inline void ask(hs_engine *engine, const char *id, const char *prompt, int32_t max_tokens)
{
    struct hs_generate_params params = test_params(max_tokens);
    test_collect(test_generate(engine, id, prompt, &params), &answer);
}

static inline void expect_message(hs_engine *engine, const char *id, size_t i, const char *role,
                                  const char *content)
{
    struct hs_message message;
    assert_int_equal(hs_session_message(engine, id, i, &message, &err), HS_OK);
    assert_string_equal(message.role, role);
    assert_string_equal(message.content, content);
    hs_message_free(&message);
}

static inline size_t count(hs_engine *engine, const char *id)
{
    size_t n = 0;
    assert_int_equal(hs_session_message_count(engine, id, &n, &err), HS_OK);
    return n;
}

#endif
