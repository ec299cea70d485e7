/*
 * bench_lora_kernels.c - the kernels of adapters beside ggml's own products of the same matrices,
 * and beside reading the same bytes.
 *
 *   bench-lora-kernels [--rounds N] [--kernels avx512|avx2|neon|portable]
 *
 * One thread, in its CPU time. In each round all contestants run one after the other; printed are
 * the medians of the rounds, and the medians of the rounds' ratios. Decoding rows have enough
 * adapters that no cache holds them all (the weights of one pass are 96 MiB), and are given in GB
 * of weights for each second; prefill rows in GFLOP/s. ggml computes y += B (A x) as two mul_mat
 * and an add for each adapter, as llama.cpp does.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include "lora_kernels.h"
#include "runtime/runtime.h"

#define DECODE_BYTES ((size_t)96 << 20)
#define ROUNDS_MAX 99

enum delta { LOW_RANK, STRIPS, ENTRIES };

struct row {
    const char *name;
    enum delta delta;
    enum hs_lora_type type;
    int64_t n_in, n_out;
    int32_t rank;      /* of sparse deltas: one of so many columns or values is kept */
    int32_t n_groups;  /* adapters in a call */
    int32_t rows_each; /* rows of the batch that use each */
};

static const struct row rows[] = {
    {"decode 16 x 1, f16 rank 16, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 16, 16, 1},
    {"decode 16 x 1, f16 rank 16, 2048 to 640", LOW_RANK, HS_LORA_F16, 2048, 640, 16, 16, 1},
    {"decode 16 x 1, f16 rank 8, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 8, 16, 1},
    {"decode 16 x 1, f16 rank 64, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 64, 16, 1},
    {"decode 16 x 1, f16 rank 16, 2048 to 8192", LOW_RANK, HS_LORA_F16, 2048, 8192, 16, 16, 1},
    {"decode 16 x 1, f32 rank 16, 640 to 2048", LOW_RANK, HS_LORA_F32, 640, 2048, 16, 16, 1},
    {"decode 16 x 1, bf16 rank 16, 640 to 2048", LOW_RANK, HS_LORA_BF16, 640, 2048, 16, 16, 1},
    {"decode 16 x 1, int8 rank 16, 640 to 2048", LOW_RANK, HS_LORA_I8, 640, 2048, 16, 16, 1},
    {"decode 4 x 16, f16 rank 16, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 16, 4, 16},
    {"decode 16 x 1, strips 1/16, 640 to 2048", STRIPS, HS_LORA_F16, 640, 2048, 16, 16, 1},
    {"decode 16 x 1, entries 1/16, 640 to 2048", ENTRIES, HS_LORA_F16, 640, 2048, 16, 16, 1},
    {"prefill 1 x 512, f16 rank 16, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 16, 1, 512},
    {"prefill 1 x 512, f16 rank 64, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 64, 1, 512},
    {"prefill 1 x 512, f16 rank 16, 2048 to 8192", LOW_RANK, HS_LORA_F16, 2048, 8192, 16, 1, 512},
    {"prefill 1 x 512, int8 rank 16, 640 to 2048", LOW_RANK, HS_LORA_I8, 640, 2048, 16, 1, 512},
    {"prefill 16 x 32, f16 rank 16, 640 to 2048", LOW_RANK, HS_LORA_F16, 640, 2048, 16, 16, 32},
    {"prefill 1 x 512, strips 1/16, 640 to 2048", STRIPS, HS_LORA_F16, 640, 2048, 16, 1, 512},
    {"prefill 1 x 512, entries 1/16, 640 to 2048", ENTRIES, HS_LORA_F16, 640, 2048, 16, 1, 512},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

static const struct hs_lora_kernels *kernels;

static void *must(void *p)
{
    if (p == NULL) {
        fputs("bench-lora-kernels: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint32_t next_random(void)
{
    static uint64_t series = 1;
    series = series * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(series >> 33);
}

/* Values that are small numbers in every type: their bits matter to nothing that is measured. */
static void *random_values(enum hs_lora_type type, int64_t n)
{
    char *values = must(malloc((size_t)n * hs_lora_type_size(type)));
    for (int64_t i = 0; i < n; i++) {
        float value = (float)(next_random() % 2000) / 1000.0f - 1.0f;
        switch (type) {
        case HS_LORA_F32:
            ((float *)values)[i] = value;
            break;
        case HS_LORA_F16:
            ((ggml_fp16_t *)values)[i] = ggml_fp32_to_fp16(value);
            break;
        case HS_LORA_BF16:
            ((ggml_bf16_t *)values)[i] = ggml_fp32_to_bf16(value);
            break;
        case HS_LORA_I8:
            ((int8_t *)values)[i] = (int8_t)(value * 127);
            break;
        }
    }
    return values;
}

/* ---- ours ---- */

/* Every layer is one call: the same rows, other adapters. */
struct ours {
    const struct row *row;
    int32_t n_layers;
    struct hs_lora_group *groups; /* [n_layers, n_groups] */
    size_t weights_bytes;         /* of all of them */
    float *x, *y;
};

static struct hs_lora_packed *pack(struct hs_lora_target *target)
{
    struct hs_error err;
    struct hs_lora_packed *packed = NULL;
    if (hs_lora_packed_new(target, HS_ADAPTER_WEIGHTS_FILE, &packed, &err) != HS_OK) {
        fprintf(stderr, "bench-lora-kernels: %s\n", err.message);
        exit(1);
    }
    return packed;
}

static struct hs_lora_packed *new_low_rank(const struct row *row)
{
    struct hs_lora_target target = {
        .tensor = "bench", .n_in = row->n_in, .n_out = row->n_out, .rank = row->rank, .scale = 1};
    float *factors = random_values(HS_LORA_F32, row->n_out > row->rank ? row->n_out : row->rank);
    void *a = random_values(row->type, row->rank * row->n_in);
    void *b = random_values(row->type, row->rank * row->n_out);
    bool is_i8 = row->type == HS_LORA_I8;
    target.a = (struct hs_lora_matrix){row->type, row->rank, row->n_in, a, is_i8 ? factors : NULL};
    target.b = (struct hs_lora_matrix){row->type, row->n_out, row->rank, b, is_i8 ? factors : NULL};
    struct hs_lora_packed *packed = pack(&target);
    free(a);
    free(b);
    free(factors);
    return packed;
}

static struct hs_lora_packed *new_sparse(const struct row *row)
{
    int32_t height = row->delta == STRIPS ? HS_LORA_STRIP : 1;
    int64_t n_rows = row->n_out / height, n = 0;
    int64_t *start = must(calloc((size_t)n_rows + 1, sizeof *start));
    int32_t *columns = must(malloc((size_t)(n_rows * row->n_in) * sizeof *columns));
    for (int64_t r = 0; r < n_rows; r++) {
        for (int32_t column = 0; column < row->n_in; column++) {
            if (next_random() % (uint32_t)row->rank == 0) {
                columns[n++] = column;
            }
        }
        start[r + 1] = n;
    }
    void *values = random_values(row->type, n * height);
    struct hs_lora_target target = {
        .tensor = "bench",
        .n_in = row->n_in,
        .n_out = row->n_out,
        .scale = 1,
        .sparse = {row->type, height, 1, n, start, columns, values},
    };
    struct hs_lora_packed *packed = pack(&target);
    free(start);
    free(columns);
    free(values);
    return packed;
}

static struct ours new_ours(const struct row *row)
{
    struct hs_lora_packed *first = row->delta == LOW_RANK ? new_low_rank(row) : new_sparse(row);
    size_t call_bytes = (size_t)hs_lora_packed_bytes(first) * (size_t)row->n_groups;
    int32_t n_rows = row->n_groups * row->rows_each;
    struct ours ours = {
        .row = row,
        .n_layers = row->rows_each > 16 ? 2 : (int32_t)(DECODE_BYTES / call_bytes),
        .x = random_values(HS_LORA_F32, n_rows * row->n_in),
        .y = must(calloc((size_t)n_rows * (size_t)row->n_out, sizeof(float))),
    };
    float *ax = must(malloc((size_t)n_rows * (size_t)hs_lora_packed_scratch(first) * sizeof *ax));
    int32_t *row_of = must(malloc((size_t)n_rows * sizeof *row_of));
    float *scales = must(malloc((size_t)n_rows * sizeof *scales));
    for (int32_t i = 0; i < n_rows; i++) {
        row_of[i] = i;
        scales[i] = 1e-3f;
    }
    int32_t n = ours.n_layers * row->n_groups;
    ours.groups = must(calloc((size_t)n, sizeof *ours.groups));
    for (int32_t i = 0; i < n; i++) {
        int32_t at = i % row->n_groups * row->rows_each;
        struct hs_lora_packed *weights = i == 0                   ? first
                                         : row->delta == LOW_RANK ? new_low_rank(row)
                                                                  : new_sparse(row);
        ours.weights_bytes += hs_lora_packed_bytes(weights);
        ours.groups[i] = (struct hs_lora_group){weights, row_of + at, scales + at, row->rows_each,
                                                ax + at * hs_lora_packed_scratch(weights)};
    }
    return ours;
}

static double run_ours(struct ours *ours)
{
    const struct row *row = ours->row;
    double begin = cpu_seconds();
    for (int32_t layer = 0; layer < ours->n_layers; layer++) {
        const struct hs_lora_group *groups = ours->groups + layer * row->n_groups;
        kernels->shrink(groups, row->n_groups, ours->x, (size_t)row->n_in, 0, 1);
        kernels->expand(groups, row->n_groups, ours->x, (size_t)row->n_in, ours->y,
                        (size_t)row->n_out, 0, 1);
    }
    return cpu_seconds() - begin;
}

static void free_ours(struct ours *ours)
{
    for (int32_t i = 0; i < ours->n_layers * ours->row->n_groups; i++) {
        hs_lora_packed_free((struct hs_lora_packed *)ours->groups[i].weights);
    }
    free((void *)ours->groups[0].rows);
    free((void *)ours->groups[0].scales);
    free(ours->groups[0].ax);
    free(ours->groups);
    free(ours->x);
    free(ours->y);
}

/* ---- reading alone ---- */

static double run_reading(const struct ours *ours)
{
    static volatile uint64_t sink;
    uint64_t sums[32] = {0};
    double begin = cpu_seconds();
    for (int32_t i = 0; i < ours->n_layers * ours->row->n_groups; i++) {
        const uint64_t *words = (const uint64_t *)(const void *)ours->groups[i].weights;
        size_t n = (size_t)hs_lora_packed_bytes(ours->groups[i].weights) / sizeof *words;
        for (size_t w = 0; w + 32 <= n; w += 32) {
            for (size_t k = 0; k < 32; k++) {
                sums[k] += words[w + k];
            }
        }
    }
    for (size_t k = 0; k < 32; k++) {
        sink += sums[k];
    }
    return cpu_seconds() - begin;
}

/* ---- ggml ---- */

struct peer {
    struct ggml_context *context;
    ggml_backend_t backend;
    ggml_backend_buffer_t buffer;
    struct ggml_cgraph *graph;
};

static ggml_backend_t new_cpu_backend(void)
{
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_t backend = must(ggml_backend_dev_init(device, NULL));
    ggml_backend_set_n_threads_t set_n_threads =
        (ggml_backend_set_n_threads_t)ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_set_n_threads");
    set_n_threads(backend, 1);
    return backend;
}

static void fill(struct ggml_tensor *tensor, enum hs_lora_type type)
{
    void *values = random_values(type, ggml_nelements(tensor));
    ggml_backend_tensor_set(tensor, values, 0, ggml_nbytes(tensor));
    free(values);
}

static struct peer new_peer(const struct ours *ours)
{
    const struct row *row = ours->row;
    int32_t n = ours->n_layers * row->n_groups, n_tensors = n * 6 + row->n_groups;
    struct ggml_init_params params = {
        .mem_size = (size_t)n_tensors * ggml_tensor_overhead() +
                    ggml_graph_overhead_custom((size_t)n_tensors, false),
        .no_alloc = true,
    };
    struct peer peer = {.context = must(ggml_init(params)), .backend = new_cpu_backend()};
    struct ggml_context *c = peer.context;
    enum ggml_type type = row->type == HS_LORA_F32   ? GGML_TYPE_F32
                          : row->type == HS_LORA_F16 ? GGML_TYPE_F16
                                                     : GGML_TYPE_BF16;
    peer.graph = ggml_new_graph_custom(c, (size_t)n_tensors, false);
    struct ggml_tensor **weights = must(calloc((size_t)n * 2, sizeof(struct ggml_tensor *)));
    struct ggml_tensor **x = must(calloc((size_t)row->n_groups, sizeof(struct ggml_tensor *)));
    for (int32_t i = 0; i < n; i++) {
        int32_t group = i % row->n_groups;
        if (i < row->n_groups) {
            x[group] = ggml_new_tensor_2d(c, GGML_TYPE_F32, row->n_in, row->rows_each);
        }
        struct ggml_tensor *a = ggml_new_tensor_2d(c, type, row->n_in, row->rank);
        struct ggml_tensor *b = ggml_new_tensor_2d(c, type, row->rank, row->n_out);
        struct ggml_tensor *y = ggml_new_tensor_2d(c, GGML_TYPE_F32, row->n_out, row->rows_each);
        weights[2 * i] = a;
        weights[2 * i + 1] = b;
        ggml_build_forward_expand(
            peer.graph, ggml_add_inplace(c, y, ggml_mul_mat(c, b, ggml_mul_mat(c, a, x[group]))));
    }
    peer.buffer = must(ggml_backend_alloc_ctx_tensors(c, peer.backend));
    ggml_backend_buffer_clear(peer.buffer, 0);
    for (int32_t i = 0; i < n * 2; i++) {
        fill(weights[i], row->type);
    }
    for (int32_t i = 0; i < row->n_groups; i++) {
        fill(x[i], HS_LORA_F32);
    }
    free(weights);
    free(x);
    return peer;
}

static double run_peer(struct peer *peer)
{
    double begin = cpu_seconds();
    ggml_backend_graph_compute(peer->backend, peer->graph);
    return cpu_seconds() - begin;
}

static void free_peer(struct peer *peer)
{
    ggml_backend_buffer_free(peer->buffer);
    ggml_backend_free(peer->backend);
    ggml_free(peer->context);
}

/* ---- rounds ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return values[n / 2];
}

static void measure(const struct row *row, int n_rounds)
{
    struct ours ours = new_ours(row);
    bool has_peer = row->delta == LOW_RANK && row->type != HS_LORA_I8;
    struct peer peer = has_peer ? new_peer(&ours) : (struct peer){0};
    double times[ROUNDS_MAX], peer_times[ROUNDS_MAX], ratios[ROUNDS_MAX], reading[ROUNDS_MAX];
    run_ours(&ours);
    for (int i = 0; i < n_rounds; i++) {
        times[i] = run_ours(&ours);
        peer_times[i] = has_peer ? run_peer(&peer) : NAN;
        reading[i] = times[i] / run_reading(&ours);
        ratios[i] = peer_times[i] / times[i];
    }
    bool is_decode = row->rows_each <= 16;
    double values = row->delta == LOW_RANK ? (double)row->rank * (double)(row->n_in + row->n_out)
                                           : (double)(row->n_in * row->n_out) / row->rank;
    double work = is_decode ? (double)ours.weights_bytes
                            : 2 * values * row->n_groups * row->rows_each * ours.n_layers;
    double ours_median = work * 1e-9 / median(times, n_rounds);
    printf("%-44s %8.1f %s", row->name, ours_median, is_decode ? "GB/s    " : "GFLOP/s ");
    if (has_peer) {
        printf("%8.1f %8.2f", work * 1e-9 / median(peer_times, n_rounds), median(ratios, n_rounds));
    } else {
        printf("%8s %8s", "-", "-");
    }
    if (is_decode) {
        printf("%11.2f", 1 / median(reading, n_rounds));
    }
    printf("\n");
    fflush(stdout);
    if (has_peer) {
        free_peer(&peer);
    }
    free_ours(&ours);
}

static const struct hs_lora_kernels *find_kernels(const char *name)
{
    const struct hs_lora_kernels *found = NULL;
    for (size_t i = 0; (found = hs_lora_kernels_at(i)) != NULL; i++) {
        if (strcmp(found->name, name) == 0) {
            return found;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long n_rounds = 9;
    kernels = hs_lora_kernels_at(0);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--rounds") == 0) {
            n_rounds = strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--kernels") == 0) {
            kernels = find_kernels(argv[i + 1]);
        } else {
            n_rounds = 0;
        }
    }
    if (argc % 2 == 0 || n_rounds < 1 || n_rounds > ROUNDS_MAX || kernels == NULL) {
        fprintf(stderr, "usage: %s [--rounds 1..%d] [--kernels NAME of this CPU]\n", argv[0],
                ROUNDS_MAX);
        return 2;
    }
    struct hs_error err;
    if (hs_runtime_llama()->init(NULL, &err) != HS_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], err.message);
        return 1;
    }
    printf("%-44s %8s %-7s %8s %8s %10s\n", kernels->name, "ours", "", "ggml", "ratio",
           "of reading");
    for (size_t i = 0; i < N_ROWS; i++) {
        measure(&rows[i], (int)n_rounds);
    }
    return 0;
}
