/* Tests of base/log.h. A datagram socket as stderr shows each write(2) as one message. */
#include "base_test.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/utf8.h"

#define N_THREADS 8
#define N_LINES 500

struct capture {
    int saved_stderr;
    int read_end;
    char line[8192];
};

static int capture_setup(void **state)
{
    static struct capture capture;
    int ends[2];
    *state = &capture;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) {
        return -1;
    }
    fflush(stderr);
    capture.saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    capture.read_end = ends[0];
    hs_log_set_level(HS_LOG_DEBUG);
    return 0;
}

static int capture_teardown(void **state)
{
    struct capture *capture = *state;
    dup2(capture->saved_stderr, STDERR_FILENO);
    close(capture->saved_stderr);
    close(capture->read_end);
    hs_log_set_level(HS_LOG_WARN);
    hs_log_set_json(false);
    hs_log_set_sink(NULL, NULL);
    return 0;
}

/* The next write, which must be one whole line; NULL: none came. */
static char *next_line(struct capture *capture)
{
    ssize_t n = recv(capture->read_end, capture->line, sizeof capture->line - 1, MSG_DONTWAIT);
    if (n < 0) {
        return NULL;
    }
    assert_true(n > 0 && n <= 4096);
    capture->line[n] = '\0';
    assert_int_equal(strlen(capture->line), n);
    assert_ptr_equal(strchr(capture->line, '\n'), capture->line + n - 1);
    return capture->line;
}

/* The text behind "12:34:56.789 ". */
static const char *behind_time(const char *line)
{
    unsigned h, m, s, ms;
    int n = 0;
    assert_int_equal(sscanf(line, "%2u:%2u:%2u.%3u %n", &h, &m, &s, &ms, &n), 4);
    assert_int_equal(n, 13);
    assert_true(h < 24 && m < 60 && s <= 60);
    return line + n;
}

static void test_line(void **state)
{
    hs_log(HS_LOG_WARN, "runtime", "text %d", 7);
    assert_string_equal(behind_time(next_line(*state)), "W runtime: text 7\n");
    hs_log(HS_LOG_DEBUG, "a", "x");
    assert_string_equal(behind_time(next_line(*state)), "D a: x\n");
    hs_log(HS_LOG_INFO, "a", "x");
    assert_string_equal(behind_time(next_line(*state)), "I a: x\n");
    hs_log(HS_LOG_ERROR, "a", "%s", "");
    assert_string_equal(behind_time(next_line(*state)), "E a: \n");
    hs_log_request(HS_LOG_ERROR, "api", "req-1", "x");
    assert_string_equal(behind_time(next_line(*state)), "E api [req-1]: x\n");
    hs_log_request(HS_LOG_ERROR, NULL, NULL, "x");
    assert_string_equal(behind_time(next_line(*state)), "E : x\n");
    hs_log(HS_LOG_ERROR, "llama", "its own newline\n\n");
    assert_string_equal(behind_time(next_line(*state)), "E llama: its own newline\n");
    assert_null(next_line(*state));
}

static void test_levels(void **state)
{
    for (int threshold = HS_LOG_DEBUG; threshold <= HS_LOG_OFF; threshold++) {
        hs_log_set_level((enum hs_log_level)threshold);
        assert_int_equal(hs_log_level_get(), threshold);
        for (int level = HS_LOG_DEBUG; level <= HS_LOG_OFF; level++) {
            hs_log((enum hs_log_level)level, "a", "x");
            bool is_expected = level >= threshold && level != HS_LOG_OFF;
            assert_int_equal(next_line(*state) != NULL, is_expected);
        }
    }
}

static void test_level_names(void **state)
{
    (void)state;
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    enum hs_log_level level;
    for (int i = 0; i < 5; i++) {
        assert_true(hs_log_level_parse(names[i], &level));
        assert_int_equal(level, i);
    }
    level = HS_LOG_INFO;
    static const char *const wrong[] = {"", "WARN", "warning", "warn ", "0", "debu"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_false(hs_log_level_parse(wrong[i], &level));
    }
    assert_int_equal(level, HS_LOG_INFO);
}

/* Nothing that is logged can begin a line of its own or command a terminal. */
static void test_injection(void **state)
{
    hs_log_request(HS_LOG_WARN, "a\nb", "r\r\n1", "x\n12:00:00.000 E fake: y\x1b[2J\t\x7f|");
    assert_string_equal(behind_time(next_line(*state)),
                        "W a\\nb [r\\r\\n1]: x\\n12:00:00.000 E fake: y\\x1b[2J\\t\\x7f|\n");
    hs_log(HS_LOG_WARN, "a", "%s",
           "\xC2\x9B"
           "2J \xC2\x85 \xFF\xE2\x82 \xC3\xA9");
    assert_string_equal(behind_time(next_line(*state)),
                        "W a: \\u009b2J \\u0085 \\xff\\xe2\\x82 \xC3\xA9\n");
}

/* Every control character, and every byte that is no UTF-8 by itself. */
static void test_every_byte(void **state)
{
    for (int json = 0; json <= 1; json++) {
        hs_log_set_json(json == 1);
        for (int byte = 1; byte < 256; byte++) {
            char text[4] = {'<', (char)byte, '>', '\0'};
            hs_log(HS_LOG_WARN, "a", "%s", text);
            const char *line = next_line(*state);
            assert_non_null(line);
            for (size_t i = 0; i + 1 < strlen(line); i++) {
                assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7F);
            }
            assert_true(hs_utf8_valid(line, strlen(line)));
            if (byte >= 0x20 && byte < 0x7F && json == 0) {
                assert_non_null(strstr(line, text));
            }
        }
    }
}

static void check_json(const char *line, const char *request_id, const char *message)
{
    json_error_t error;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(root);
    assert_int_equal(json_object_size(root), request_id == NULL ? 4 : 5);
    assert_string_equal(json_string_value(json_object_get(root, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(root, "component")), "a\"\\\x01");
    assert_string_equal(json_string_value(json_object_get(root, "message")), message);
    const char *time = json_string_value(json_object_get(root, "time"));
    assert_int_equal(strlen(time), strlen("2026-01-02T03:04:05.678Z"));
    if (request_id != NULL) {
        assert_string_equal(json_string_value(json_object_get(root, "request_id")), request_id);
    }
    json_decref(root);
}

static void test_json(void **state)
{
    hs_log_set_json(true);
    char every[128];
    for (int i = 0; i < 127; i++) {
        every[i] = (char)(i + 1);
    }
    every[127] = '\0';
    hs_log(HS_LOG_ERROR, "a\"\\\x01", "%s", every);
    check_json(next_line(*state), NULL, every);
    hs_log_request(HS_LOG_ERROR, "a\"\\\x01", "r\"1", "\xC2\x9B \xF0\x9F\x98\x80");
    check_json(next_line(*state), "r\"1", "\xC2\x9B \xF0\x9F\x98\x80");
    /* JSON has no way to write a byte that is no UTF-8: U+FFFD stands for it */
    hs_log(HS_LOG_ERROR, "a\"\\\x01", "x\xFF\xC3y");
    check_json(next_line(*state), NULL, "x\xEF\xBF\xBD\xEF\xBF\xBDy");
}

static void test_long_messages(void **state)
{
    static const char *const units[] = {"a",    "\xC3\xA9", "\xF0\x9F\x98\x80", "\n", "\x01",
                                        "\xFF", "\""};
    for (int json = 0; json <= 1; json++) {
        hs_log_set_json(json == 1);
        for (size_t u = 0; u < COUNT_OF(units); u++) {
            for (size_t n = 500; n < 9000; n = n * 11 / 10) {
                char *text = malloc(n * 4 + 2);
                size_t len = 0;
                while (len < n) {
                    len += (size_t)sprintf(text + len, "%s", units[u]);
                }
                strcpy(text + len, "."); /* newlines at the very end are dropped */
                hs_log_request(HS_LOG_WARN, text, text, "%s", text);
                const char *line = next_line(*state);
                assert_non_null(line);
                assert_true(hs_utf8_valid(line, strlen(line)));
                json_t *root = json == 1 ? json_loads(line, 0, NULL) : NULL;
                assert_int_equal(root != NULL, json);
                const char *end = json == 1 ? "...\"}\n" : "...\n";
                if (n > 4200) {
                    assert_string_equal(line + strlen(line) - strlen(end), end);
                }
                json_decref(root);
                free(text);
            }
        }
    }
}

static void test_keeps_errno(void **state)
{
    errno = ENOENT;
    hs_log(HS_LOG_WARN, "a", "x");
    assert_int_equal(errno, ENOENT);
    assert_non_null(next_line(*state));
    struct capture *capture = *state;
    int socket_end = dup(STDERR_FILENO);
    close(STDERR_FILENO); /* nowhere to write to: lost, and nothing worse */
    hs_log(HS_LOG_WARN, "a", "x");
    assert_int_equal(errno, ENOENT);
    dup2(socket_end, STDERR_FILENO);
    close(socket_end);
    assert_null(next_line(capture));
}

static void test_needs_no_memory(void **state)
{
    hs_mem_fail_after(1);
    hs_log(HS_LOG_ERROR, "a", "out of memory: %d", 1);
    assert_int_equal(hs_mem_count(), 0);
    hs_mem_fail_after(0);
    assert_string_equal(behind_time(next_line(*state)), "E a: out of memory: 1\n");
}

struct sink_calls {
    enum hs_log_level level;
    char component[32], request_id[32], message[64];
    atomic_int n;
};

static void on_log(enum hs_log_level level, const char *component, const char *request_id,
                   const char *message, void *user)
{
    struct sink_calls *calls = user;
    calls->level = level;
    snprintf(calls->component, sizeof calls->component, "%s", component);
    snprintf(calls->request_id, sizeof calls->request_id, "%s",
             request_id == NULL ? "(none)" : request_id);
    snprintf(calls->message, sizeof calls->message, "%s", message);
    atomic_fetch_add(&calls->n, 1);
}

static void test_sink(void **state)
{
    struct sink_calls calls = {.n = 0};
    hs_log_set_sink(on_log, &calls);
    hs_log(HS_LOG_INFO, "comp", "raw \n\x1b %d", 1); /* escaping is the sink's affair */
    assert_int_equal(calls.n, 1);
    assert_int_equal(calls.level, HS_LOG_INFO);
    assert_string_equal(calls.component, "comp");
    assert_string_equal(calls.request_id, "(none)");
    assert_string_equal(calls.message, "raw \n\x1b 1");
    hs_log_request(HS_LOG_ERROR, "comp", "id", "x");
    assert_string_equal(calls.request_id, "id");
    hs_log_set_level(HS_LOG_OFF);
    hs_log(HS_LOG_ERROR, "comp", "x");
    hs_log_set_level(HS_LOG_DEBUG);
    assert_int_equal(calls.n, 2);
    assert_null(next_line(*state));
    hs_log_set_sink(NULL, NULL);
    hs_log(HS_LOG_INFO, "comp", "back");
    assert_non_null(next_line(*state));
    assert_int_equal(calls.n, 2);
}

static atomic_int thread_failures;

static void *log_lines(void *user)
{
    int id = *(int *)user;
    char filler[600];
    memset(filler, 'A' + id, sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    for (int i = 0; i < N_LINES; i++) {
        hs_log_request(HS_LOG_WARN, "t", "r", "%d %d %s", id, i, filler);
    }
    return NULL;
}

/* Every line of every thread arrives whole and in its thread's order. */
static void test_threads(void **state)
{
    pthread_t threads[N_THREADS];
    int ids[N_THREADS], next[N_THREADS] = {0};
    for (int i = 0; i < N_THREADS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &ids[i]), 0);
    }
    for (int n = 0; n < N_THREADS * N_LINES;) {
        const char *line = next_line(*state);
        if (line == NULL) {
            usleep(100);
            continue;
        }
        int id, i;
        char filler[700];
        assert_int_equal(sscanf(behind_time(line), "W t [r]: %d %d %699s", &id, &i, filler), 3);
        assert_true(id >= 0 && id < N_THREADS);
        assert_int_equal(i, next[id]++);
        assert_int_equal(strspn(filler, (char[]){(char)('A' + id), '\0'}), 599);
        n++;
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_null(next_line(*state));
}

struct short_lived {
    atomic_bool alive;
};

static void on_log_alive(enum hs_log_level level, const char *component, const char *request_id,
                         const char *message, void *user)
{
    (void)level, (void)component, (void)request_id, (void)message;
    struct short_lived *owner = user;
    if (!atomic_load(&owner->alive)) {
        atomic_fetch_add(&thread_failures, 1);
    }
}

static void *log_quietly(void *user)
{
    atomic_bool *stop = user;
    while (!atomic_load(stop)) {
        hs_log(HS_LOG_WARN, "t", "x");
        hs_log_set_level(HS_LOG_DEBUG);
        hs_log_set_json(true);
    }
    return NULL;
}

/* Once hs_log_set_sink returned, nobody is in the old sink: its user may go. */
static void test_sink_is_idle_after_replacement(void **state)
{
    (void)state;
    static struct short_lived owners[200];
    atomic_bool stop = false;
    pthread_t threads[4];
    atomic_store(&owners[0].alive, true);
    hs_log_set_sink(on_log_alive, &owners[0]);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_quietly, &stop), 0);
    }
    for (size_t i = 1; i < COUNT_OF(owners); i++) {
        usleep(100);
        atomic_store(&owners[i].alive, true);
        hs_log_set_sink(on_log_alive, &owners[i]);
        atomic_store(&owners[i - 1].alive, false);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    hs_log_set_sink(NULL, NULL);
    assert_int_equal(atomic_load(&thread_failures), 0);
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, capture_setup, capture_teardown)

int main(void)
{
    if (hs_log_level_get() != HS_LOG_WARN) { /* the default, before anybody sets it */
        return 1;
    }
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_line),
        LOG_TEST(test_levels),
        LOG_TEST(test_level_names),
        LOG_TEST(test_injection),
        LOG_TEST(test_every_byte),
        LOG_TEST(test_json),
        LOG_TEST(test_long_messages),
        LOG_TEST(test_keeps_errno),
        LOG_TEST(test_needs_no_memory),
        LOG_TEST(test_sink),
        LOG_TEST(test_threads),
        LOG_TEST(test_sink_is_idle_after_replacement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
