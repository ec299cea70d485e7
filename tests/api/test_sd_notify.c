/* Datagrams to the service manager's socket. */
#include "api_test.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sd_notify.h"

static int manager;

/* Listen at `name`, whose first byte is NUL when it is no file. */
static void listen_at(const char *name, size_t len)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, len);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager >= 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    assert_int_equal(bind(manager, (struct sockaddr *)&address, size), 0);
}

static void expect(const char *state)
{
    char text[256];
    assert_true(hs_sd_notify(state));
    ssize_t n = recv(manager, text, sizeof text, MSG_DONTWAIT);
    assert_int_equal(n, strlen(state));
    assert_memory_equal(text, state, strlen(state));
}

static void a_socket_that_is_a_file(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(chdir(test->home), 0); /* paths of sockets are short */
    char path[64] = "/proc/self/cwd/s";
    listen_at(path, strlen(path));
    setenv("NOTIFY_SOCKET", path, 1);
    expect("READY=1");
    expect("STATUS=two\nlines");
    close(manager);
    assert_int_equal(unlink(path), 0);
    assert_false(hs_sd_notify("READY=1")); /* nobody listens any more */
}

static void a_socket_that_is_none(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@hyprstream-test-%d", (int)getpid());
    setenv("NOTIFY_SOCKET", name, 1);
    size_t len = strlen(name);
    name[0] = '\0';
    listen_at(name, len);
    expect("READY=1");
    close(manager);
}

static void nobody_asked(void **state)
{
    (void)state;
    char longest[200];
    memset(longest, 'a', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    const char *const names[] = {"", "@", "/", "relative", longest};
    unsetenv("NOTIFY_SOCKET");
    assert_false(hs_sd_notify("READY=1"));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        assert_false(hs_sd_notify("READY=1"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_socket_that_is_a_file, api_setup, api_teardown),
        cmocka_unit_test(a_socket_that_is_none),
        cmocka_unit_test(nobody_asked),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unsetenv("NOTIFY_SOCKET");
    return failed;
}
