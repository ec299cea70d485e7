/* Reading messages on a pty; what a person sees and does is tested in tests/python. */
#include "api_test.h"

#include <pty.h>
#include <sys/wait.h>
#include <termios.h>

#include "interrupt.h"
#include "line_edit.h"

struct terminal {
    int fd;
    pid_t pid;
    char seen[8192];
    size_t len;
};

/* A child that reads messages until the end of input and prints each as "<message>". Between two of
 * them it waits for `gate`, as if an answer were printed. */
static struct terminal start(int gate)
{
    struct terminal terminal = {.fd = -1};
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    setenv("TERM", "xterm", 1);
    terminal.pid = forkpty(&terminal.fd, NULL, NULL, &size);
    if (terminal.pid == 0) {
        hs_line_edit *editor = NULL;
        struct hs_error err;
        hs_interrupt_install();
        int code = hs_line_edit_new(NULL, &editor, &err) != HS_OK;
        for (char *line = NULL; code == 0;) {
            code = hs_line_edit_read(editor, "> ", &line, &err) != HS_OK;
            if (code != 0 || line == NULL) {
                break;
            }
            printf("<%s>\n", line);
            fflush(stdout);
            hs_free(line);
            char byte;
            code = gate >= 0 && read(gate, &byte, 1) != 1;
        }
        hs_line_edit_free(editor);
        _exit(code);
    }
    return terminal;
}

/* Read until `text` was seen, which then counts as read. */
static void expect(struct terminal *terminal, const char *text)
{
    char *at;
    while ((at = memmem(terminal->seen, terminal->len, text, strlen(text))) == NULL) {
        assert_true(terminal->len < sizeof terminal->seen);
        ssize_t n = read(terminal->fd, terminal->seen + terminal->len,
                         sizeof terminal->seen - terminal->len);
        if (n <= 0) {
            fail_msg("'%s' did not come after '%.*s'", text, (int)terminal->len, terminal->seen);
        }
        terminal->len += (size_t)n;
    }
    size_t used = (size_t)(at - terminal->seen) + strlen(text);
    memmove(terminal->seen, terminal->seen + used, terminal->len - used);
    terminal->len -= used;
}

static void type(struct terminal *terminal, const char *keys)
{
    assert_int_equal(write(terminal->fd, keys, strlen(keys)), strlen(keys));
}

static void leave(struct terminal *terminal)
{
    int status = 0;
    type(terminal, "\004");
    assert_int_equal(waitpid(terminal->pid, &status, 0), terminal->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct termios modes;
    assert_int_equal(tcgetattr(terminal->fd, &modes), 0);
    assert_true((modes.c_lflag & ECHO) && (modes.c_lflag & ICANON));
    close(terminal->fd);
}

static void lines_are_messages(void **state)
{
    (void)state;
    struct terminal terminal = start(-1);
    expect(&terminal, "> ");
    type(&terminal, "one\r");
    expect(&terminal, "<one>");
    expect(&terminal, "> ");
    type(&terminal, "tow\b\x7fwo\r"); /* both keys that people call backspace */
    expect(&terminal, "<two>");
    expect(&terminal, "> ");
    leave(&terminal);
}

static void several_lines_are_one_message(void **state)
{
    (void)state;
    struct terminal terminal = start(-1);
    expect(&terminal, "> ");
    type(&terminal, "a\\\rb\r");
    expect(&terminal, "<a\r\nb>");
    type(&terminal, "\"\"\"\rc\\\r\r d\r\"\"\"\r");
    expect(&terminal, "<c\\\r\n\r\n d>");
    type(&terminal, "\"\"\"\re\r");
    expect(&terminal, "... ");
    expect(&terminal, "... ");
    type(&terminal, "\004"); /* ends the block, not the program */
    expect(&terminal, "<e>");
    expect(&terminal, "> ");
    leave(&terminal);
}

/* What is typed before the prompt is not echoed; it is the next message. */
static void keys_between_two_prompts_wait(void **state)
{
    (void)state;
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    struct terminal terminal = start(gate[0]);
    expect(&terminal, "> ");
    type(&terminal, "one\r");
    expect(&terminal, "<one>\r\n");
    struct termios modes;
    assert_int_equal(tcgetattr(terminal.fd, &modes), 0);
    assert_false(modes.c_lflag & ECHO);
    assert_true((modes.c_lflag & ICANON) && (modes.c_lflag & ISIG));
    type(&terminal, "two\r");
    assert_int_equal(terminal.len, 0);
    assert_int_equal(write(gate[1], "x", 1), 1);
    expect(&terminal, "> ");
    expect(&terminal, "<two>");
    assert_int_equal(write(gate[1], "x", 1), 1);
    expect(&terminal, "> ");
    leave(&terminal);
    close(gate[0]);
    close(gate[1]);
}

static void pasted_text_is_one_message(void **state)
{
    (void)state;
    struct terminal terminal = start(-1);
    expect(&terminal, "> ");
    type(&terminal, "\033[200~one\rtwo\033[201~\r");
    expect(&terminal, "<one\r\ntwo>");
    expect(&terminal, "> ");
    leave(&terminal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_messages),
        cmocka_unit_test(several_lines_are_one_message),
        cmocka_unit_test(keys_between_two_prompts_wait),
        cmocka_unit_test(pasted_text_is_one_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
