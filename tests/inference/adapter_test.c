#include "adapter_test.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"

static struct adapter_files files_now;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct adapter_files *adapter_files_new(void)
{
    files_now = (struct adapter_files){.dir = test_dir_make()};
    return &files_now;
}

void adapter_files_free(struct adapter_files *files)
{
    test_dir_remove(files->dir);
}

const char *adapter_file(struct adapter_files *files, const char *name, const char *text)
{
    static char path[512];
    struct hs_error err;
    char padded[101];
    snprintf(path, sizeof(path), "%s/%s", files->dir, name);
    snprintf(padded, sizeof(padded), "%-100s", text);
    if (hs_fs_write_atomic(path, padded, 100, 0600, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return path;
}

static hs_status read_file(void *user, const struct hs_model *model, const char *path,
                           struct hs_lora *ret_lora, void **ret_handle, struct hs_error *err)
{
    struct adapter_files *files = user;
    const char *name = strrchr(path, '/') + 1;
    (void)model;
    pthread_mutex_lock(&mutex);
    files->n_read++;
    files->n_reading++;
    while (files->held[0] != '\0' && strncmp(name, files->held, strlen(files->held)) == 0) {
        pthread_cond_wait(&changed, &mutex);
    }
    files->n_reading--;
    pthread_mutex_unlock(&mutex);
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(100);
    hs_status status = hs_fs_read(path, &text, err);
    if (status == HS_OK && strncmp(text.data, "bad", 3) == 0) {
        status = hs_error_set(err, HS_BAD_FORMAT, "it is damaged");
    }
    struct fake_weights *weights = status == HS_OK ? hs_calloc(1, sizeof(*weights)) : NULL;
    if (weights == NULL) {
        return status == HS_OK ? hs_error_nomem(err, "weights") : status;
    }
    *ret_lora = *fake_lora(weights, strtof(text.data, NULL));
    *ret_handle = weights;
    return HS_OK;
}

struct hs_adapter_reader adapter_files_reader(struct adapter_files *files)
{
    return (struct hs_adapter_reader){.read = read_file, .close = hs_free, .user = files};
}

void adapter_files_hold(struct adapter_files *files, const char *prefix)
{
    pthread_mutex_lock(&mutex);
    snprintf(files->held, sizeof(files->held), "%s", prefix);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

void adapter_files_wait(struct adapter_files *files, int32_t n_reading)
{
    double until_ms = hs_clock_ms() + 60000;
    int32_t n = -1;
    while (n != n_reading && hs_clock_ms() < until_ms) {
        pthread_mutex_lock(&mutex);
        n = files->n_reading;
        pthread_mutex_unlock(&mutex);
        test_sleep_ms(1);
    }
    assert_int_equal(n, n_reading);
}

int32_t adapter_files_n_read(struct adapter_files *files)
{
    pthread_mutex_lock(&mutex);
    int32_t n = files->n_read;
    pthread_mutex_unlock(&mutex);
    return n;
}
