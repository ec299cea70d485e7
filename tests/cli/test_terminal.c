/* Standard streams behind struct hs_command_io. Each case runs in a child with streams of its own.
 */
#include "api_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>

#include "terminal.h"

struct child {
    int in, out, err; /* our ends */
    pid_t pid;
};

/* Run `body` with pipes; its return value is the exit code. */
static struct child start(int (*body)(struct hs_terminal *terminal))
{
    int in[2], out[2], err[2];
    assert_int_equal(pipe(in) | pipe(out) | pipe(err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]), close(err[0]), close(err[1]);
        struct hs_terminal terminal;
        hs_terminal_init(&terminal);
        int code = body(&terminal);
        hs_terminal_free(&terminal);
        _exit(code);
    }
    close(in[0]), close(out[1]), close(err[1]);
    return (struct child){in[1], out[0], err[0], pid};
}

static int end(struct child *child)
{
    int status = 0;
    waitpid(child->pid, &status, 0);
    close(child->in), close(child->out), close(child->err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int writes_much(struct hs_terminal *terminal)
{
    struct hs_error err;
    struct hs_command_io *io = &terminal->io;
    static char text[200000];
    memset(text, 'x', sizeof text);
    fcntl(1, F_SETFL, O_NONBLOCK); /* as a parent may have made it */
    bool plain = !io->in_is_terminal && !io->out_is_terminal && !io->err_is_terminal &&
                 !io->color_out && !io->color_err;
    io->progress(io->self, "loading", 0.5f, NULL);
    usleep(400000);
    io->progress(io->self, "loading", 0.7f, NULL); /* not on a pipe */
    return plain && io->out(io->self, text, sizeof text, &err) == HS_OK ? 0 : 1;
}

static void a_slow_reader_gets_everything(void **state)
{
    (void)state;
    struct child child = start(writes_much);
    size_t n = 0;
    char chunk[65536];
    for (ssize_t got; (got = read(child.out, chunk, sizeof chunk)) > 0;) {
        n += (size_t)got;
        usleep(1000);
    }
    assert_int_equal(n, 200000);
    assert_int_equal(read(child.err, chunk, sizeof chunk), 0);
    assert_int_equal(end(&child), 0);
}

static int writes_into_nothing(struct hs_terminal *terminal)
{
    struct hs_error err;
    struct hs_command_io *io = &terminal->io;
    char c;
    ssize_t got = read(0, &c, 1); /* until the test closed the other end */
    (void)got;
    bool failed = io->out(io->self, "x", 1, &err) == HS_IO;
    bool sticks = io->out(io->self, "", 0, &err) == HS_IO;
    return failed && sticks && terminal->out_errno == EPIPE ? 0 : 1;
}

static void a_closed_pipe_is_remembered(void **state)
{
    (void)state;
    struct child child = start(writes_into_nothing);
    close(child.out);
    child.out = open("/dev/null", O_RDONLY);
    close(child.in);
    child.in = open("/dev/null", O_WRONLY);
    assert_int_equal(end(&child), 0);
}

static int reads_all(struct hs_terminal *terminal)
{
    struct hs_error err;
    struct hs_buf text = HS_BUF_INIT(100000);
    hs_status status = terminal->io.read_all(terminal, &text, &err);
    if (status == HS_OK) {
        status = terminal->io.out(terminal, text.data, text.len, &err);
    }
    hs_buf_free(&text);
    return (int)status;
}

static void standard_input_to_its_end(void **state)
{
    (void)state;
    char text[1000], back[1000];
    memset(text, 'y', sizeof text);
    struct child child = start(reads_all);
    assert_int_equal(write(child.in, text, sizeof text), sizeof text);
    close(child.in);
    child.in = open("/dev/null", O_WRONLY);
    assert_int_equal(read(child.out, back, sizeof back), sizeof back);
    assert_memory_equal(text, back, sizeof text);
    assert_int_equal(end(&child), HS_OK);
}

static void standard_input_has_a_limit(void **state)
{
    (void)state;
    char text[100001];
    memset(text, 'y', sizeof text);
    struct child child = start(reads_all);
    size_t n = 0;
    for (ssize_t put = 0; n < sizeof text && put >= 0; n += (size_t)put) {
        put = write(child.in, text + n, sizeof text - n);
    }
    assert_int_equal(end(&child), HS_LIMIT);
}

static int confirms(struct hs_terminal *terminal)
{
    struct hs_error err;
    bool yes = false;
    return terminal->io.confirm(terminal, "Sure\033?", &yes, &err) ? 9 : yes;
}

static void questions(void **state)
{
    (void)state;
    static const struct {
        const char *typed;
        int yes;
    } cases[] = {{"y\n", 1}, {"yes\n", 1}, {"YES\n", 1},      {"n\n", 0},
                 {"\n", 0},  {"", 0},      {"yesterday\n", 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct child child = start(confirms);
        assert_int_equal(write(child.in, cases[i].typed, strlen(cases[i].typed)),
                         strlen(cases[i].typed));
        close(child.in);
        child.in = open("/dev/null", O_WRONLY);
        char shown[64] = "";
        assert_true(read(child.err, shown, sizeof shown - 1) > 0);
        assert_string_equal(shown, "Sure\xE2\x90\x9B? [y/N] ");
        assert_int_equal(end(&child), cases[i].yes);
    }
}

/* On a pty: color, size, and the bar with its end. */
static int draws(struct hs_terminal *terminal)
{
    struct hs_command_io *io = &terminal->io;
    bool fine = io->out_is_terminal && io->color_out && io->columns == 50;
    hs_terminal_set_color(terminal, "never");
    fine = fine && !io->color_out && !io->color_err;
    hs_terminal_set_color(terminal, "always");
    fine = fine && io->color_out && io->color_err;
    io->progress(io->self, "loading", 0, "name");
    usleep(350000);
    io->progress(io->self, "loading", 0.5f, "a name that is much too long for this line");
    io->progress(io->self, "", -1, NULL);
    io->err(io->self, "after", 5);
    return fine ? 0 : 1;
}

static void a_bar_is_drawn_and_cleared(void **state)
{
    (void)state;
    struct winsize size = {.ws_row = 24, .ws_col = 50};
    int master = -1;
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    if (pid == 0) {
        struct hs_terminal terminal;
        hs_terminal_init(&terminal);
        int code = draws(&terminal);
        hs_terminal_free(&terminal);
        _exit(code);
    }
    char text[2048];
    size_t len = 0;
    for (ssize_t n; (n = read(master, text + len, sizeof text - 1 - len)) > 0;) {
        len += (size_t)n;
    }
    text[len] = '\0';
    int status = 0;
    waitpid(pid, &status, 0);
    close(master);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_contains(text, "loading [############            ]  50% a name");
    assert_null(strstr(text, "this line"));
    assert_contains(text, "\r\033[Kafter");
}

static void colours_obey_the_environment(void **state)
{
    (void)state;
    struct hs_terminal terminal;
    static const struct {
        const char *term, *no_color, *setting;
        bool color;
    } cases[] = {
        {"xterm", NULL, "auto", true},  {"xterm", "1", "auto", false},
        {"xterm", "", "auto", true}, /* no-color.org: empty does not count */
        {"dumb", NULL, "auto", false},  {NULL, NULL, "auto", false},
        {"xterm", "1", "always", true}, {"xterm", NULL, "never", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        cases[i].term ? setenv("TERM", cases[i].term, 1) : unsetenv("TERM");
        cases[i].no_color ? setenv("NO_COLOR", cases[i].no_color, 1) : unsetenv("NO_COLOR");
        hs_terminal_init(&terminal);
        terminal.io.out_is_terminal = true;
        hs_terminal_set_color(&terminal, cases[i].setting);
        assert_int_equal(terminal.io.color_out, cases[i].color);
        hs_terminal_free(&terminal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_reader_gets_everything),
        cmocka_unit_test(a_closed_pipe_is_remembered),
        cmocka_unit_test(standard_input_to_its_end),
        cmocka_unit_test(standard_input_has_a_limit),
        cmocka_unit_test(questions),
        cmocka_unit_test(a_bar_is_drawn_and_cleared),
        cmocka_unit_test(colours_obey_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
