/*
 * cpu_shim.c - preloaded into a server (LD_PRELOAD), counts the CPU time that its threads spend in
 * llama_decode (llama_process), in choosing tokens, and in send(), so that bench/server can tell
 * what the rest of the server costs. The same for hyprstream and for llama-server.
 *
 * To choose a token begins with llama_get_logits_ith and ends with the last llama_sampler_apply:
 * what a server does in between to pick candidates from the logits is part of it.
 *
 * Writes struct figures to the file that HS_BENCH_SHIM names, as it goes.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "llama.h"

#define EXPORT __attribute__((visibility("default")))

/* Read by bench/server: five doubles. The whole process's time is that at the last decode. */
struct figures {
    double process_s, decode_s, sample_s, n_decodes, send_s;
};

static struct figures *figures;
static __thread int depth;         /* a chain calls its samplers by the same name */
static __thread double counted_to; /* of this thread's choosing */

__attribute__((constructor)) static void open_figures(void)
{
    const char *path = getenv("HS_BENCH_SHIM");
    int fd = path == NULL ? -1 : open(path, O_RDWR);
    if (fd >= 0) {
        void *map = mmap(NULL, sizeof *figures, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        figures = map == MAP_FAILED ? NULL : map;
        close(fd);
    }
}

static double cpu_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* llama-server has a thread for each stream. */
static void add_sent(double seconds)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    figures->send_s += seconds;
    pthread_mutex_unlock(&lock);
}

static void end_decode(double begin)
{
    if (figures != NULL) {
        figures->decode_s += cpu_s(CLOCK_THREAD_CPUTIME_ID) - begin;
        figures->process_s = cpu_s(CLOCK_PROCESS_CPUTIME_ID);
        figures->n_decodes++;
    }
}

EXPORT int32_t llama_decode(struct llama_context *context, struct llama_batch batch)
{
    static int32_t (*real)(struct llama_context *, struct llama_batch);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_decode");
    }
    double begin = cpu_s(CLOCK_THREAD_CPUTIME_ID);
    int32_t result = real(context, batch);
    end_decode(begin);
    return result;
}

/* What llama-server calls instead. */
EXPORT int32_t llama_process(struct llama_context *context, enum llama_process_type type,
                             struct llama_batch_ext *batch)
{
    static int32_t (*real)(struct llama_context *, enum llama_process_type,
                           struct llama_batch_ext *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_process");
    }
    double begin = cpu_s(CLOCK_THREAD_CPUTIME_ID);
    int32_t result = real(context, type, batch);
    end_decode(begin);
    return result;
}

EXPORT float *llama_get_logits_ith(struct llama_context *context, int32_t i)
{
    static float *(*real)(struct llama_context *, int32_t);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_get_logits_ith");
    }
    counted_to = cpu_s(CLOCK_THREAD_CPUTIME_ID);
    return real(context, i);
}

EXPORT void llama_sampler_apply(struct llama_sampler *sampler, llama_token_data_array *array)
{
    static void (*real)(struct llama_sampler *, llama_token_data_array *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_sampler_apply");
    }
    depth++;
    real(sampler, array);
    if (--depth == 0 && figures != NULL) {
        double now = cpu_s(CLOCK_THREAD_CPUTIME_ID);
        figures->sample_s += now - counted_to;
        counted_to = now;
    }
}

EXPORT ssize_t send(int fd, const void *data, size_t len, int flags)
{
    static _Atomic(void *) found;
    void *address = atomic_load(&found);
    if (address == NULL) {
        atomic_store(&found, address = dlsym(RTLD_NEXT, "send"));
    }
    ssize_t (*real)(int, const void *, size_t, int);
    *(void **)&real = address;
    double begin = cpu_s(CLOCK_THREAD_CPUTIME_ID);
    ssize_t n = real(fd, data, len, flags);
    if (figures != NULL) {
        add_sent(cpu_s(CLOCK_THREAD_CPUTIME_ID) - begin);
    }
    return n;
}
