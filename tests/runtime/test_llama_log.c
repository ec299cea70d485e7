/* llama.cpp's log lines in ours: joined, levels mapped, errors captured per thread. */
#include "llama_log.h"

#include <pthread.h>
#include <stdio.h>

#include "base/log.h"
#include "llama.h"
#include "runtime_test.h"

static struct {
    char lines[16][1200];
    enum hs_log_level levels[16];
    int n;
} seen;
static ggml_log_callback say_raw;
static void *say_user;

static void sink(enum hs_log_level level, const char *component, const char *request_id,
                 const char *message, void *user)
{
    (void)request_id;
    (void)user;
    assert_string_equal(component, "llama");
    assert_true(seen.n < 16);
    seen.levels[seen.n] = level;
    snprintf(seen.lines[seen.n++], sizeof(seen.lines[0]), "%s", message);
}

static void say(enum ggml_log_level level, const char *text)
{
    say_raw(level, text, say_user);
}

static int set_up(void **state)
{
    (void)state;
    hs_llama_log_install();
    llama_log_get(&say_raw, &say_user);
    hs_log_set_sink(sink, NULL);
    hs_log_set_level(HS_LOG_DEBUG);
    return 0;
}

static int each(void **state)
{
    (void)state;
    seen.n = 0;
    return 0;
}

static void test_lines_are_joined(void **state)
{
    (void)state;
    say(GGML_LOG_LEVEL_INFO, "loading ");
    say(GGML_LOG_LEVEL_CONT, "the model");
    assert_int_equal(seen.n, 0);
    say(GGML_LOG_LEVEL_CONT, "\nnext\n");
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.lines[0], "loading the model");
    assert_string_equal(seen.lines[1], "next");
    /* A new line begins before the last one ended. */
    say(GGML_LOG_LEVEL_WARN, "unfinished");
    say(GGML_LOG_LEVEL_ERROR, "bad\n");
    assert_int_equal(seen.n, 4);
    assert_string_equal(seen.lines[2], "unfinished");
    assert_int_equal(seen.levels[2], HS_LOG_INFO);
    assert_string_equal(seen.lines[3], "bad");
    assert_int_equal(seen.levels[3], HS_LOG_ERROR);
}

static void test_levels(void **state)
{
    (void)state;
    say(GGML_LOG_LEVEL_DEBUG, "d\n");
    say(GGML_LOG_LEVEL_INFO, "i\n");
    say(GGML_LOG_LEVEL_NONE, "n\n");
    say(GGML_LOG_LEVEL_WARN, "w\n");
    const enum hs_log_level wanted[] = {HS_LOG_DEBUG, HS_LOG_DEBUG, HS_LOG_DEBUG, HS_LOG_INFO};
    assert_int_equal(seen.n, 4);
    assert_memory_equal(seen.levels, wanted, sizeof(wanted));
    hs_log_set_level(HS_LOG_WARN);
    say(GGML_LOG_LEVEL_WARN, "w\n");
    say(GGML_LOG_LEVEL_ERROR, "e\n");
    hs_log_set_level(HS_LOG_DEBUG);
    assert_int_equal(seen.n, 5);
}

static void test_noise_is_dropped(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        say(GGML_LOG_LEVEL_CONT, ".");
    }
    say(GGML_LOG_LEVEL_CONT, "\n\n");
    say(GGML_LOG_LEVEL_INFO, "\n");
    assert_int_equal(seen.n, 0);
}

static void test_long_lines_are_cut(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    say(GGML_LOG_LEVEL_INFO, text);
    say(GGML_LOG_LEVEL_CONT, "\n");
    assert_int_equal(seen.n, 1);
    assert_int_equal(strlen(seen.lines[0]), 1023);
}

static void test_capture(void **state)
{
    (void)state;
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    say(GGML_LOG_LEVEL_INFO, "f: fine\n");
    say(GGML_LOG_LEVEL_ERROR, "gguf_init: something odd\n");
    say(GGML_LOG_LEVEL_ERROR, "llama_model_load: error loading model: the essence\n");
    say(GGML_LOG_LEVEL_ERROR, "unfinished");
    hs_llama_log_capture(NULL);
    assert_int_equal(log.n_lines, 3);
    assert_true(hs_llama_capture_has(&log, "odd"));
    assert_false(hs_llama_capture_has(&log, "fine"));
    assert_string_equal(hs_llama_capture_essence(&log), "the essence");
    /* They reach our log at debug level only. */
    for (int i = 0; i < seen.n; i++) {
        assert_int_equal(seen.levels[i], HS_LOG_DEBUG);
    }
    say(GGML_LOG_LEVEL_ERROR, "after\n");
    assert_int_equal(log.n_lines, 3);
    assert_int_equal(seen.levels[seen.n - 1], HS_LOG_ERROR);
    log.n_lines = 1;
    assert_string_equal(hs_llama_capture_essence(&log), "something odd");
    snprintf(log.lines[0], sizeof(log.lines[0]), "bare");
    assert_string_equal(hs_llama_capture_essence(&log), "bare");
    log.n_lines = 0;
    assert_string_equal(hs_llama_capture_essence(&log), "");
}

static void test_capture_keeps_the_first_lines(void **state)
{
    (void)state;
    hs_log_set_level(HS_LOG_OFF);
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    for (int i = 0; i < 20; i++) {
        char text[32];
        snprintf(text, sizeof(text), "f: line %d\n", i);
        say(GGML_LOG_LEVEL_ERROR, text);
    }
    hs_llama_log_capture(NULL);
    hs_log_set_level(HS_LOG_DEBUG);
    assert_int_equal(log.n_lines, HS_LLAMA_CAPTURE_LINES);
    assert_string_equal(hs_llama_capture_essence(&log), "line 0");
}

static void *other_thread(void *arg)
{
    (void)arg;
    say(GGML_LOG_LEVEL_ERROR, "from elsewhere\n");
    return NULL;
}

static void test_capture_is_of_one_thread(void **state)
{
    (void)state;
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
    pthread_join(thread, NULL);
    hs_llama_log_capture(NULL);
    assert_int_equal(log.n_lines, 0);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.levels[0], HS_LOG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lines_are_joined, each),
        cmocka_unit_test_setup(test_levels, each),
        cmocka_unit_test_setup(test_noise_is_dropped, each),
        cmocka_unit_test_setup(test_long_lines_are_cut, each),
        cmocka_unit_test_setup(test_capture, each),
        cmocka_unit_test_setup(test_capture_keeps_the_first_lines, each),
        cmocka_unit_test_setup(test_capture_is_of_one_thread, each),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
