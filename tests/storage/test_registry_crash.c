/*
 * kill -9 while several processes change the registry: every change that was reported as made is
 * there, none is half there, and the file is sound.
 */
#include "registry_test.h"

#include <sys/mman.h>
#include <time.h>

#define N_WRITERS 2
#define N_NAMES 40

/* What a writer tells the parent, in shared memory: it survives the writer's death. A row holds the
 * number of its last change; odd numbers mean that the row is there, even ones that it was removed.
 */
struct progress {
    volatile uint32_t made[N_NAMES];  /* changes that were reported as made */
    volatile uint32_t begun[N_NAMES]; /* changes that were begun */
    volatile uint32_t models_made;    /* the same for the one model that comes and goes */
    volatile uint32_t models_begun;
};

struct writer {
    const char *folder;
    const char *model_path;
    int number;
    struct progress *progress;
};

static void session_name(int writer, size_t i, char name[32])
{
    snprintf(name, 32, "w%d-%zu", writer, i);
}

static void model_name(int writer, char name[32])
{
    snprintf(name, 32, "model-%d", writer);
}

static hs_status change_session(hs_registry *registry, const struct writer *writer, size_t i)
{
    char name[32];
    session_name(writer->number, i, name);
    uint32_t change = writer->progress->made[i] + 1;
    writer->progress->begun[i] = change;
    hs_status status = change % 2 == 1 ? put_session(registry, name, (int64_t)change, NULL)
                                       : hs_registry_session_remove(registry, name, NULL);
    if (status == HS_OK)
        writer->progress->made[i] = change;
    return status;
}

static hs_status change_model(hs_registry *registry, const struct writer *writer)
{
    char name[32];
    model_name(writer->number, name);
    uint32_t change = writer->progress->models_made + 1;
    writer->progress->models_begun = change;
    hs_status status = change % 2 == 1 ? hs_registry_model_add(registry, writer->model_path, name,
                                                               "added", NULL, NULL)
                                       : hs_registry_model_remove(registry, name, NULL);
    if (status == HS_OK)
        writer->progress->models_made = change;
    return status;
}

static int write_rows(void *user)
{
    const struct writer *writer = user;
    for (uint32_t round = 0;; round++) {
        hs_registry *registry = NULL;
        if (try_registry(writer->folder, &registry, NULL) != HS_OK)
            return 1;
        for (size_t i = 0; i < N_NAMES; i++)
            if (change_session(registry, writer, i) != HS_OK)
                return 2;
        if (change_model(registry, writer) != HS_OK)
            return 3;
        hs_registry_close(registry);
    }
}

/* Which change is in effect for a row: n_messages of the row, or 0 when it is not there. */
static uint32_t change_in_effect(const struct hs_registry_session *rows, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, name) == 0)
            return (uint32_t)rows[i].n_messages;
    return 0;
}

static bool is_in_effect(uint32_t found, uint32_t change)
{
    return change % 2 == 1 ? found == change : found == 0;
}

static int check_sessions(hs_registry *registry, struct writer *writer)
{
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    int n_between = 0;
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, NULL), HS_OK);
    for (size_t i = 0; i < N_NAMES; i++) {
        char name[32];
        session_name(writer->number, i, name);
        uint32_t found = change_in_effect(rows, n, name);
        uint32_t made = writer->progress->made[i], begun = writer->progress->begun[i];
        if (is_in_effect(found, made))
            writer->progress->begun[i] = made;
        else if (is_in_effect(found, begun))
            writer->progress->made[i] = begun;
        else
            fail_msg("%s: %u in effect, %u made, %u begun", name, found, made, begun);
        n_between += made != begun;
    }
    hs_registry_sessions_free(rows, n);
    return n_between;
}

static void check_model(hs_registry *registry, struct writer *writer)
{
    char name[32];
    struct hs_registry_model model = {0};
    model_name(writer->number, name);
    hs_status status = hs_registry_model_get(registry, name, &model, NULL);
    assert_true(status == HS_OK || status == HS_NOT_FOUND);
    if (status == HS_OK) {
        assert_int_equal(strlen(model.fingerprint), 64);
        assert_string_equal(model.architecture, "llama");
    }
    hs_registry_model_free(&model);
    uint32_t parity = status == HS_OK ? 1 : 0;
    if (writer->progress->models_made % 2 != parity)
        assert_int_equal(writer->progress->models_begun % 2, parity);
    writer->progress->models_made = writer->progress->models_made % 2 == parity
                                        ? writer->progress->models_made
                                        : writer->progress->models_begun;
}

static void test_killed_at_any_moment(void **state)
{
    struct progress *progress = mmap(NULL, N_WRITERS * sizeof *progress, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    char *path = make_model(*state, "m.gguf", "one");
    struct warnings warnings = {0};
    struct writer writers[N_WRITERS];
    for (int i = 0; i < N_WRITERS; i++)
        writers[i] = (struct writer){*state, path, i, &progress[i]};
    uint64_t seed = (uint64_t)time(NULL);
    int n_rounds = kill_rounds(120), n_between = 0;
    uint64_t n_changes = 0;
    hs_log_set_sink(keep_warning, &warnings);
    print_message("seed %llu, %d rounds\n", (unsigned long long)seed, n_rounds);
    for (int round = 0; round < n_rounds; round++) {
        pid_t pids[N_WRITERS];
        for (int i = 0; i < N_WRITERS; i++)
            pids[i] = child_start(write_rows, &writers[i]);
        for (int i = 0; i < N_WRITERS; i++) {
            usleep(next_random(&seed) % 15000);
            child_kill(pids[i]);
        }
        hs_registry *registry = open_registry(*state);
        for (int i = 0; i < N_WRITERS; i++) {
            n_between += check_sessions(registry, &writers[i]);
            check_model(registry, &writers[i]);
        }
        hs_registry_close(registry);
        assert_sql(*state, "PRAGMA integrity_check", "ok");
    }
    for (int i = 0; i < N_WRITERS; i++)
        for (size_t j = 0; j < N_NAMES; j++)
            n_changes += progress[i].made[j];
    print_message("%d kills: %llu changes, %d caught in the middle of one\n", n_rounds * N_WRITERS,
                  (unsigned long long)n_changes, n_between);
    hs_log_set_sink(NULL, NULL);
    assert_true(n_changes > 0);
    /* Nothing was ever taken for damaged. */
    assert_int_equal(warnings.n, 0);
    assert_int_equal(count_set_aside(*state, ""), 0);
    munmap(progress, N_WRITERS * sizeof *progress);
    hs_free(path);
}

/* The same while the registry does not exist yet: the kill hits its making. */
static void test_killed_while_it_is_made(void **state)
{
    struct hs_paths paths = paths_in(*state);
    struct progress *progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    hs_free(make_model(paths.models_dir, "m.gguf", "one"));
    char *path = make_model(*state, "w.gguf", "one"); /* the writer's is not one that is found */
    make_saved_session(paths.sessions_dir, "talk");
    struct writer writer = {*state, path, 0, progress};
    struct warnings warnings = {0};
    uint64_t seed = (uint64_t)time(NULL);
    int n_rounds = kill_rounds(100);
    hs_log_set_sink(keep_warning, &warnings);
    for (int i = 0; i < n_rounds; i++) {
        char command[4096];
        snprintf(command, sizeof command, "rm -f '%s'/registry.*", (const char *)*state);
        assert_int_equal(system(command), 0);
        memset(progress, 0, sizeof *progress);
        pid_t pid = child_start(write_rows, &writer);
        usleep(next_random(&seed) % 12000);
        child_kill(pid);
        hs_registry *registry = open_registry(*state);
        struct hs_registry_model model = {0};
        assert_int_equal(hs_registry_model_get(registry, "m", &model, NULL), HS_OK);
        hs_registry_model_free(&model);
        check_sessions(registry, &writer);
        hs_registry_close(registry);
        assert_sql(*state, "SELECT count(*) FROM sessions WHERE name = 'talk'", "1");
        assert_sql(*state, "PRAGMA integrity_check", "ok");
    }
    hs_log_set_sink(NULL, NULL);
    assert_int_equal(warnings.n, 0);
    munmap(progress, sizeof *progress);
    hs_paths_free(&paths);
    hs_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_killed_at_any_moment),
        TEST(test_killed_while_it_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
