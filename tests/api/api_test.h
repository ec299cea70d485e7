/*
 * api_test.h - a home folder, settings and fake streams for one test of a handler.
 *
 * Use api_setup and api_teardown as a test's fixtures; *state is the struct api_test.
 */
#ifndef API_TEST_H
#define API_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "api/command.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "fake_engine.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct api_test {
    struct hs_command_io io;
    struct hs_buf out, err_out; /* what was printed */
    const char *in;             /* standard input of read_all */
    size_t in_len;              /* 0: strlen(in) */
    const char *const *lines;   /* of read_line; NULL ends; LINE_INTERRUPT is Ctrl-C */
    size_t next_line;
    bool out_fails;             /* from now on */
    size_t out_fails_at;        /* once that many bytes came; 0: never */
    int interrupt_at;           /* the n-th question for interrupts says yes; 0: never */
    const char *interrupt_when; /* or from when on this was printed to standard output */
    int n_interrupt_asked;
    bool confirms; /* what confirm answers */
    char question[512];
    int n_progress;
    hs_complete_fn complete;
    void *complete_user;
    hs_whole_fn is_whole;      /* the last one that was set */
    size_t completes_at;       /* lines that are read before complete_line is looked at */
    const char *complete_line; /* read_line completes this and keeps the words */
    struct hs_buf words;
    size_t word_start;

    struct hs_paths paths;
    struct hs_config config;
    struct hs_error err;
    const char *options[HS_OPT_COUNT];
    char home[512];
};

#define LINE_INTERRUPT "\3"

int api_setup(void **state);
int api_teardown(void **state);

/* Run a handler with these positional arguments, NULL at the end. */
hs_status api_run(struct api_test *test, hs_command_fn run, ...) __attribute__((sentinel));
/* The same with an array; for allocation tests. */
hs_status api_run_args(struct api_test *test, hs_command_fn run, int n_args, char **args);
/* Forget what was printed. */
void api_clear_output(struct api_test *test);
void api_flag(struct api_test *test, enum hs_config_id id, const char *value);
/* All of standard output as JSON; to be released. */
json_t *api_json(const struct api_test *test);

/* A path in the home folder. The result lives until four more were asked for. */
const char *api_path(const struct api_test *test, const char *name);
void api_write_file(const char *path, const void *data, size_t len);
/* A small model that is a valid GGUF file. */
void api_write_model(const char *path, const char *general_name);
bool api_exists(const char *path);

#define assert_contains(text, part)                                                                \
    do {                                                                                           \
        if (!strstr((text), (part))) {                                                             \
            fail_msg("'%s' is not in '%s'", (part), (text));                                       \
        }                                                                                          \
    } while (0)

#endif
