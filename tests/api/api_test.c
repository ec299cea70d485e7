#include "api_test.h"

#include <sys/stat.h>

#include "base/log.h"
#include "tiny_gguf.h"

static hs_status out(void *self, const char *text, size_t len, struct hs_error *err)
{
    struct api_test *test = self;
    if (test->out_fails || (test->out_fails_at && test->out.len + len > test->out_fails_at)) {
        test->out_fails = true;
        return hs_error_set(err, HS_IO, "cannot write to standard output: Broken pipe");
    }
    return hs_buf_append(&test->out, text, len) ? hs_error_nomem(err, "output") : HS_OK;
}

static void err_out(void *self, const char *text, size_t len)
{
    struct api_test *test = self;
    hs_status status = hs_buf_append(&test->err_out, text, len);
    (void)status;
}

static hs_status read_all(void *self, struct hs_buf *buf, struct hs_error *err)
{
    struct api_test *test = self;
    const char *in = test->in ? test->in : "";
    size_t len = test->in_len ? test->in_len : strlen(in);
    hs_status status = hs_buf_append(buf, in, len);
    return status ? hs_error_set(err, status, "standard input is too long") : HS_OK;
}

static hs_status read_line(void *self, const char *prompt, char **ret_line, struct hs_error *err)
{
    struct api_test *test = self;
    (void)prompt;
    if (test->complete && test->complete_line && test->next_line >= test->completes_at) {
        hs_buf_clear(&test->words);
        assert_int_equal(test->complete(test->complete_line, strlen(test->complete_line),
                                        &test->word_start, &test->words, test->complete_user),
                         HS_OK);
        test->complete_line = NULL;
    }
    const char *line = test->lines ? test->lines[test->next_line] : NULL;
    test->next_line += line != NULL;
    if (line && strcmp(line, LINE_INTERRUPT) == 0) {
        return hs_error_set(err, HS_CANCELLED, "Ctrl-C");
    }
    *ret_line = hs_strdup(line);
    return line && !*ret_line ? hs_error_nomem(err, "line") : HS_OK;
}

static void set_completer(void *self, hs_complete_fn complete, void *user)
{
    struct api_test *test = self;
    test->complete = complete;
    test->complete_user = user;
}

static void set_whole(void *self, hs_whole_fn is_whole)
{
    struct api_test *test = self;
    test->is_whole = is_whole ? is_whole : test->is_whole;
}

static hs_status confirm(void *self, const char *question, bool *ret_yes, struct hs_error *err)
{
    struct api_test *test = self;
    (void)err;
    snprintf(test->question, sizeof test->question, "%s", question);
    *ret_yes = test->confirms;
    return HS_OK;
}

static void progress(void *self, const char *text, float fraction, const char *detail)
{
    struct api_test *test = self;
    (void)text;
    (void)fraction;
    (void)detail;
    test->n_progress++;
}

static bool interrupted(void *self)
{
    struct api_test *test = self;
    bool is_printed =
        test->interrupt_when && test->out.len > 0 && strstr(test->out.data, test->interrupt_when);
    return ++test->n_interrupt_asked == test->interrupt_at || is_printed;
}

int api_setup(void **state)
{
    static int n_tests;
    struct api_test *test = calloc(1, sizeof *test);
    *test = (struct api_test){.io = {.out = out,
                                     .err = err_out,
                                     .columns = 80,
                                     .read_all = read_all,
                                     .read_line = read_line,
                                     .set_completer = set_completer,
                                     .set_whole = set_whole,
                                     .confirm = confirm,
                                     .progress = progress,
                                     .interrupted = interrupted},
                              .out = HS_BUF_INIT(1u << 24),
                              .err_out = HS_BUF_INIT(1u << 24),
                              .words = HS_BUF_INIT(1u << 20)};
    test->io.self = test;
    snprintf(test->home, sizeof test->home, "%s/api-%d-%d", HS_TEST_TMP, (int)getpid(), n_tests++);
    assert_int_equal(hs_fs_mkdir_p(test->home, NULL), HS_OK);
    setenv("HYPRSTREAM_HOME", test->home, 1);
    assert_int_equal(hs_paths_load(&test->paths, &test->err), HS_OK);
    assert_int_equal(hs_config_init(&test->config, &test->err), HS_OK);
    assert_int_equal(hs_fs_mkdir_p(test->paths.models_dir, NULL), HS_OK);
    hs_log_set_level(HS_LOG_WARN);
    fake_engine_reset();
    api_clear_output(test);
    *state = test;
    return 0;
}

int api_teardown(void **state)
{
    struct api_test *test = *state;
    hs_mem_fail_after(0);
    /* whatever happened, nothing of the engine is left */
    int n_left = fake_engine.n_engines + fake_engine.n_streams;
    fake_engine_reset();
    hs_status removed = hs_fs_remove_all(test->home, NULL);
    hs_config_free(&test->config);
    hs_paths_free(&test->paths);
    hs_buf_free(&test->out);
    hs_buf_free(&test->err_out);
    hs_buf_free(&test->words);
    free(test);
    return removed != HS_OK || n_left != 0;
}

hs_status api_run_args(struct api_test *test, hs_command_fn run, int n_args, char **args)
{
    struct hs_command_args command_args = {.config = &test->config,
                                           .paths = &test->paths,
                                           .n_args = n_args,
                                           .args = args,
                                           .io = &test->io};
    memcpy(command_args.options, test->options, sizeof command_args.options);
    hs_error_clear(&test->err);
    test->n_interrupt_asked = 0;
    return run(&command_args, &test->err);
}

hs_status api_run(struct api_test *test, hs_command_fn run, ...)
{
    char *args[8];
    int n_args = 0;
    va_list list;
    va_start(list, run);
    for (char *arg = va_arg(list, char *); arg; arg = va_arg(list, char *)) {
        args[n_args++] = arg;
    }
    va_end(list);
    return api_run_args(test, run, n_args, args);
}

void api_clear_output(struct api_test *test)
{
    hs_buf_clear(&test->out);
    hs_buf_clear(&test->err_out);
    /* so that data is a string even when nothing comes */
    assert_int_equal(hs_buf_reserve(&test->out, 1), HS_OK);
    assert_int_equal(hs_buf_reserve(&test->err_out, 1), HS_OK);
}

void api_flag(struct api_test *test, enum hs_config_id id, const char *value)
{
    assert_int_equal(hs_config_set_flag(&test->config, id, value, &test->err), HS_OK);
}

json_t *api_json(const struct api_test *test)
{
    json_error_t error;
    json_t *json = json_loadb(test->out.data, test->out.len, 0, &error);
    if (!json) {
        fail_msg("no JSON: %s in '%s'", error.text, test->out.data);
    }
    return json;
}

const char *api_path(const struct api_test *test, const char *name)
{
    static char paths[4][1024];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test->home, name);
    return path;
}

void api_write_file(const char *path, const void *data, size_t len)
{
    assert_int_equal(hs_fs_write_atomic(path, data, len, 0600, NULL), HS_OK);
}

void api_write_model(const char *path, const char *general_name)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.name = general_name;
    spec.chat_template = tiny_gguf_chatml;
    assert_true(tiny_gguf_write(&spec, path));
}

bool api_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}
