/*
 * kill -9 while a session is being saved: every turn whose save returned is there, whole; KV state
 * is whole or not there.
 */
#include "store_test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "storage/session_store.h"

#define STATE_BYTES 200000

/* What the child tells the parent, in shared memory: it survives the child's death. */
struct progress {
    volatile uint32_t n_messages; /* saved for certain */
};

struct writer {
    const char *folder;
    struct progress *progress;
};

static char *message_text(size_t i)
{
    /* of changing length, so that a mix of two versions would show */
    return hs_asprintf("message %zu %0*zu", i, (int)(1 + i * 131 % 3000), i);
}

static bool append_message(struct hs_session_record *record)
{
    struct hs_message *messages =
        hs_realloc_array(record->messages, record->n_messages + 1, sizeof *messages);
    if (messages == NULL)
        return false;
    record->messages = messages;
    messages[record->n_messages] =
        (struct hs_message){.role = hs_strdup(record->n_messages % 2 == 0 ? "user" : "assistant"),
                            .content = message_text(record->n_messages)};
    record->n_messages++;
    return true;
}

static void fill_state(uint8_t *bytes, size_t n_tokens)
{
    for (size_t i = 0; i < STATE_BYTES; i++)
        bytes[i] = (uint8_t)(i * 31 + n_tokens);
}

static bool save_kv(hs_session_file *file, size_t n_tokens)
{
    struct hs_session_kv kv = {.fingerprint = "f", .cache_key = "k", .n_tokens = n_tokens};
    kv.tokens = hs_calloc(n_tokens, sizeof *kv.tokens);
    kv.state = hs_alloc(STATE_BYTES);
    kv.state_len = STATE_BYTES;
    fill_state(kv.state, n_tokens);
    hs_status status = hs_session_file_save_kv(file, &kv, NULL);
    hs_session_kv_free(&kv);
    return status == HS_OK;
}

static bool is_whole(const struct hs_session_record *record)
{
    for (size_t i = 0; i < record->n_messages; i++) {
        HS_CLEANUP(hs_freep) char *text = message_text(i);
        if (strcmp(record->messages[i].content, text) != 0)
            return false;
    }
    return true;
}

static int write_turns(void *user)
{
    const struct writer *writer = user;
    hs_session_file *file = NULL;
    struct hs_session_record record = {.model_name = hs_strdup("m"), .fingerprint = hs_strdup("f")};
    if (hs_session_file_open(writer->folder, "s", true, &file, NULL) != HS_OK)
        return 1;
    hs_status status = hs_session_file_load(file, &record, NULL);
    if (status != HS_OK && status != HS_NOT_FOUND)
        return 2;
    for (;;) {
        /* A session of at most 60 messages keeps the rounds equally long. */
        if (record.n_messages >= 60) {
            if (hs_session_file_drop_kv(file, NULL) != HS_OK)
                return 3;
            hs_session_file_close(file);
            writer->progress->n_messages = 0;
            if (hs_session_store_remove(writer->folder, "s", NULL) != HS_OK)
                return 4;
            hs_session_record_free(&record);
            record = (struct hs_session_record){.model_name = hs_strdup("m"),
                                                .fingerprint = hs_strdup("f")};
            if (hs_session_file_open(writer->folder, "s", true, &file, NULL) != HS_OK)
                return 5;
        }
        if (!append_message(&record) || hs_session_file_save(file, &record, NULL) != HS_OK)
            return 6;
        writer->progress->n_messages = (uint32_t)record.n_messages;
        if (!save_kv(file, record.n_messages))
            return 7;
    }
}

struct tally {
    int n_resumed, n_empty, n_kv, n_kv_missing;
};

static void check_kv(hs_session_file *file, size_t n_messages, struct tally *tally)
{
    struct hs_session_kv kv = {0};
    struct hs_error err = {0};
    hs_status status = hs_session_file_load_kv(file, &kv, &err);
    if (status == HS_NOT_FOUND) {
        tally->n_kv_missing++;
        return;
    }
    /* Without a power failure the file is even whole: the rename came after the last byte. */
    if (status != HS_OK)
        fail_msg("%s", err.message);
    assert_true(kv.n_tokens <= n_messages); /* never ahead of the text */
    assert_int_equal(kv.state_len, STATE_BYTES);
    uint8_t *expected = malloc(STATE_BYTES);
    assert_non_null(expected);
    fill_state(expected, kv.n_tokens);
    assert_memory_equal(kv.state, expected, STATE_BYTES);
    free(expected);
    hs_session_kv_free(&kv);
    tally->n_kv++;
}

/* Returns how many messages are there. */
static uint32_t check_session(const char *folder, size_t n_committed, struct tally *tally)
{
    hs_session_file *file = NULL;
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    hs_status status = hs_session_file_open(folder, "s", true, &file, &err);
    if (status != HS_OK)
        fail_msg("%s", err.message); /* also: the dead child's lock is gone */
    status = hs_session_file_load(file, &record, &err);
    if (status == HS_NOT_FOUND) {
        assert_int_equal(n_committed, 0);
        tally->n_empty++;
    } else if (status != HS_OK) {
        fail_msg("%s", err.message);
    } else {
        if (n_committed > 0) /* 0: it was being removed and made anew */
            assert_true(record.n_messages == n_committed || record.n_messages == n_committed + 1);
        assert_true(is_whole(&record));
        check_kv(file, record.n_messages, tally);
        tally->n_resumed++;
    }
    uint32_t n_messages = (uint32_t)record.n_messages;
    hs_session_record_free(&record);
    hs_session_file_close(file);
    return n_messages;
}

static void test_killed_at_any_moment(void **state)
{
    struct progress *progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    struct writer writer = {.folder = *state, .progress = progress};
    struct tally tally = {0};
    uint64_t seed = (uint64_t)time(NULL);
    int n_rounds = kill_rounds(120);
    print_message("seed %llu, %d rounds\n", (unsigned long long)seed, n_rounds);
    for (int i = 0; i < n_rounds; i++) {
        pid_t pid = child_start(write_turns, &writer);
        usleep(next_random(&seed) % 25000);
        child_kill(pid);
        progress->n_messages = check_session(*state, progress->n_messages, &tally);
    }
    print_message("%d killed: %d resumed, %d had nothing; KV %d whole, %d not there\n", n_rounds,
                  tally.n_resumed, tally.n_empty, tally.n_kv, tally.n_kv_missing);
    assert_true(tally.n_resumed > n_rounds / 2);
    munmap(progress, sizeof *progress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_at_any_moment, tmp_setup, tmp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
