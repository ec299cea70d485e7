/*
 * rest_test.h - a server with every endpoint, one fake model "fake", and answers as JSON.
 *
 * Use rest_setup and rest_teardown as a test's fixtures; *state is the struct rest_test.
 */
#ifndef REST_TEST_H
#define REST_TEST_H

#include "fake_engine.h"
#include "http_test.h"
#include "rest.h"

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

struct rest_test {
    struct hs_rest rest;
    hs_engine *engine;
    hs_http_server *server;
    struct reply reply; /* the last one */
    json_t *json;       /* its body; NULL: none */
    char sessions_dir[256];
};

int rest_setup(void **state);
int rest_teardown(void **state);

/* fake_engine_reset once the requests before have given up their streams, which they do after the
 * answer. */
void rest_reset(void);
/* One request; `line` is "POST /path". Fails the test unless the status is `status`. */
void rest_ask(struct rest_test *test, const char *line, const char *body, int status);
/* The same with a body that is {"model": "fake", <user message>, <more>}. */
void rest_chat(struct rest_test *test, const char *more, int status);
/*
 * The same request again and again, each allocation of the server failing once: the client hears of
 * it (500, 503, an error event), gets the whole answer or is cut, and nothing is left behind.
 * `answers` and `n_answers` are the fake engine's script.
 */
void rest_without_memory(struct rest_test *test, const char *line, const char *body,
                         const struct fake_answer *answers, size_t n_answers);
/* The same, with `prepare` before each request: for what a request uses up. */
void rest_without_memory_after(struct rest_test *test, void (*prepare)(struct rest_test *test),
                               const char *line, const char *body);
/* The value at a path like "choices/0/message/content"; fails the test when there is none. */
const json_t *rest_at(const struct rest_test *test, const char *path);
void rest_expect_string(const struct rest_test *test, const char *path, const char *want);
void rest_expect_int(const struct rest_test *test, const char *path, json_int_t want);
/* An answer of `status` that names the field. */
void rest_expect_error(const struct rest_test *test, const char *param);
/* The first call of the engine since the last reset. */
const struct fake_asked *rest_asked(void);

#define assert_float_is(value, want)                                                               \
    do {                                                                                           \
        float value_ = (value), want_ = (float)(want);                                             \
        if (value_ < want_ - 1e-6F || value_ > want_ + 1e-6F) {                                    \
            fail_msg("%g is not %g", (double)value_, (double)want_);                               \
        }                                                                                          \
    } while (0)

#endif
