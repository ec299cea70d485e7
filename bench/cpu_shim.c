/*
 * cpu_shim.c - preloaded into a server (LD_PRELOAD), counts the CPU time that its thread spends in
 * llama_decode (llama_process) and llama_sampler_apply, so that bench/server can tell what the rest
 * of the server costs. The same for hyprstream and for llama-server.
 *
 * Writes struct figures to the file that HS_BENCH_SHIM names, as it goes.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "llama.h"

#define EXPORT __attribute__((visibility("default")))

/* Read by bench/server: four doubles. The whole process's time is that at the last decode. */
struct figures {
    double process_s, decode_s, sample_s, n_decodes;
};

static struct figures *figures;
static __thread int depth; /* a chain calls its samplers by the same name */

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

EXPORT void llama_sampler_apply(struct llama_sampler *sampler, llama_token_data_array *array)
{
    static void (*real)(struct llama_sampler *, llama_token_data_array *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "llama_sampler_apply");
    }
    double begin = depth++ == 0 ? cpu_s(CLOCK_THREAD_CPUTIME_ID) : 0;
    real(sampler, array);
    if (--depth == 0 && figures != NULL) {
        figures->sample_s += cpu_s(CLOCK_THREAD_CPUTIME_ID) - begin;
    }
}
