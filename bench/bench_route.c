/*
 * bench_route.c - routing among many adapters: time and accuracy; and what its constants are set
 * from.
 *
 *   bench-route MODEL EXAMPLES.tsv ASKED.tsv NUMBER FILLER NAME=PATH...
 *   bench-route --scores MODEL ASKED.tsv NAME=PATH...
 *
 * Lines of the files are an adapter's name, a tab and a text; in ASKED.tsv "-" stands for none.
 *
 * The texts are routed among the named adapters, and then beside NUMBER more of the file FILLER,
 * with one example each ("Write a story about bread, in style 7."). Prints one JSON object, of both
 * (few_, many_): `first_ms`, the first request, which waits for all examples; `new_ms`, the texts
 * for the first time, which may wait for adapters' weights to be read; `ms`, the same texts again;
 * of these the median and the largest. Of the many: what registering them took, time and memory;
 * `table_mb`, the same with their examples; `right` of `asked`, and of them
 * those for which none is right. No text is begun later than ASKED_MS after the first of its round;
 * `asked` says how many were.
 *
 * --scores prints one JSON array for each text, those that no adapter is for first (their name is
 * "background"): the name, the embedding, and what each adapter's weights say (null: nothing).
 */
#include <malloc.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hyprstream.h"
#include "route_arrows.h"
#include "route_examples.h"

#define LINES_MAX 4096
#define ASKED_MS 60e3
#define ADAPTERS_MAX 64 /* of --scores */
#define EXAMPLES_MAX 256

struct line {
    char *name, *text;
};

static hs_engine *engine;
static char model_id[HS_ID_MAX];

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void need(hs_status status, const struct hs_error *err)
{
    if (status != HS_OK) {
        fprintf(stderr, "bench-route: %s\n", err->message);
        exit(1);
    }
}

static size_t read_lines(const char *path, struct line *lines)
{
    FILE *file = fopen(path, "r");
    char text[4096];
    size_t n = 0;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    while (n < LINES_MAX && fgets(text, sizeof text, file) != NULL) {
        text[strcspn(text, "\n")] = '\0';
        char *tab = strchr(text, '\t');
        if (tab != NULL) {
            *tab = '\0';
            lines[n++] = (struct line){strdup(text), strdup(tab + 1)};
        }
    }
    fclose(file);
    return n;
}

/* Examples of an adapter among the lines. */
static size_t pick(const char *name, const struct line *lines, size_t n_lines, const char **texts)
{
    size_t n = 0;
    for (size_t i = 0; i < n_lines && n < EXAMPLES_MAX; i++) {
        if (strcmp(lines[i].name, name) == 0) {
            texts[n++] = lines[i].text;
        }
    }
    return n;
}

/* n_threads 0: as many as the machine has. */
static void start(const char *model, int32_t n_threads)
{
    struct hs_error err;
    struct hs_engine_params params;
    struct hs_model_params load;
    hs_engine_params_defaults(&params);
    params.adapter_budget_bytes = 1; /* none is loaded */
    hs_model_params_defaults(&load);
    load.n_ctx = 1024;
    load.n_seq_max = 16;
    load.n_threads = n_threads;
    need(hs_engine_create(&params, &engine, &err), &err);
    need(hs_engine_load_model(engine, model, NULL, &load, model_id, &err), &err);
}

static void add(const char *name, const char *path, const char *const *examples, size_t n)
{
    struct hs_error err;
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = model_id;
    params.path = path;
    need(hs_engine_register_adapter(engine, &params, &err), &err);
    need(hs_engine_set_adapter_examples(engine, name, examples, n, &err), &err);
}

/* The argument is cut to the name. */
static void add_named(char *argument, const struct line *lines, size_t n_lines)
{
    const char *examples[EXAMPLES_MAX];
    char *equals = strchr(argument, '=');
    if (equals == NULL) {
        fprintf(stderr, "bench-route: '%s' is not NAME=PATH\n", argument);
        exit(1);
    }
    *equals = '\0';
    add(argument, equals + 1, examples, pick(argument, lines, n_lines, examples));
}

static void add_fillers(int number, const char *path)
{
    static const char *const forms[] = {"story",   "poem",     "letter",   "speech", "recipe",
                                        "summary", "contract", "headline", "review", "dialogue"};
    static const char *const topics[] = {"bread",   "football",  "taxes", "oceans", "robots",
                                         "gardens", "elections", "jazz",  "trains", "medicine"};
    for (int i = 0; i < number; i++) {
        char name[32], text[128];
        const char *example = text;
        snprintf(name, sizeof name, "filler-%d", i);
        snprintf(text, sizeof text, "Write a %s about %s, in style %d.", forms[i % 10],
                 topics[i / 10 % 10], i / 100);
        add(name, path, &example, 1);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- time and accuracy ---- */

static bool is_right(const struct line *line, const struct hs_route *route)
{
    return strcmp(line->name, "-") == 0
               ? route->n_choices == 0
               : route->n_choices == 1 && strcmp(route->choices[0].name, line->name) == 0;
}

static double route_one(const char *text, struct hs_route *route)
{
    struct hs_route_params params;
    struct hs_error err;
    double start_ms = now_ms();
    hs_route_params_defaults(&params);
    need(hs_engine_route(engine, model_id, text, &params, route, &err), &err);
    return now_ms() - start_ms;
}

/* What asking all texts took. */
struct times {
    double values[LINES_MAX]; /* [n], ascending */
    size_t n, n_right, n_none, n_none_right;
};

static struct times ask_all(const struct line *lines, size_t n_lines)
{
    static struct times times;
    struct hs_route route;
    double until_ms = now_ms() + ASKED_MS;
    times = (struct times){0};
    for (size_t i = 0; i < n_lines && (i == 0 || now_ms() < until_ms); i++) {
        bool is_none = strcmp(lines[i].name, "-") == 0;
        times.values[times.n++] = route_one(lines[i].text, &route);
        times.n_right += is_right(&lines[i], &route);
        times.n_none += is_none;
        times.n_none_right += is_none && is_right(&lines[i], &route);
    }
    qsort(times.values, times.n, sizeof times.values[0], compare);
    return times;
}

static void print_times(const char *name, const struct times *times)
{
    printf("\"%s\": [%.1f, %.1f], ", name, times->values[times->n / 2],
           times->values[times->n - 1]);
}

static double allocated_mb(void)
{
    struct mallinfo2 info = mallinfo2();
    return (double)(info.uordblks + info.hblkhd) / 1e6;
}

/* Among the named adapters, then among all. */
static void ask_among(int number, const char *filler, const struct line *lines, size_t n_lines)
{
    struct hs_route route;
    printf("{\"few_first_ms\": %.0f, ", route_one("Hello", &route));
    struct times times = ask_all(lines, n_lines);
    print_times("few_new_ms", &times);
    times = ask_all(lines, n_lines);
    print_times("few_ms", &times);
    double start_ms = now_ms(), start_mb = allocated_mb();
    add_fillers(number, filler);
    printf("\"register_ms\": %.1f, \"register_mb\": %.1f, ", now_ms() - start_ms,
           allocated_mb() - start_mb);
    printf("\"many_first_ms\": %.0f, ", route_one("Hello", &route));
    printf("\"table_mb\": %.1f, ", allocated_mb() - start_mb);
    times = ask_all(lines, n_lines);
    print_times("many_new_ms", &times);
    times = ask_all(lines, n_lines);
    print_times("many_ms", &times);
    printf("\"asked\": %zu, \"right\": %zu, \"asked_none\": %zu, \"right_none\": %zu}\n", times.n,
           times.n_right, times.n_none, times.n_none_right);
}

/* ---- scores ---- */

static void print_scores(hs_route_arrows *arrows, const struct hs_adapter_info *const *adapters,
                         size_t n, const struct line *line)
{
    const struct hs_route_embedder how = {.engine = engine, .model_id = model_id};
    double scores[ADAPTERS_MAX];
    struct hs_embeddings embedding = {0};
    const char *text = line->text;
    struct hs_error err;
    need(hs_route_embed(&how, &text, 1, &embedding, &err), &err);
    need(hs_route_arrows_score(arrows, engine, model_id, adapters, n, text, 0, scores, &err), &err);
    printf("[\"%s\", [", line->name);
    for (int32_t i = 0; i < embedding.n_dims; i++) {
        printf("%s%.6g", i > 0 ? ", " : "", (double)embedding.values[i]);
    }
    printf("], {");
    for (size_t i = 0; i < n; i++) {
        printf("%s\"%s\": ", i > 0 ? ", " : "", adapters[i]->name);
        if (isnan(scores[i])) {
            printf("null");
        } else {
            printf("%.6f", scores[i]);
        }
    }
    printf("}]\n");
    hs_embeddings_free(&embedding);
}

static void print_all_scores(const struct line *asked, size_t n_asked)
{
    const struct hs_adapter_info *adapters[ADAPTERS_MAX];
    struct hs_adapter_info *infos = NULL;
    hs_route_arrows *arrows = NULL;
    struct hs_error err;
    size_t n = 0;
    need(hs_route_arrows_new(&arrows, &err), &err);
    need(hs_engine_list_adapters(engine, model_id, &infos, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        adapters[i] = &infos[i];
    }
    for (int32_t i = 0; i < hs_route_n_background; i++) {
        struct line line = {"background", (char *)hs_route_background[i]};
        print_scores(arrows, adapters, n, &line);
    }
    for (size_t i = 0; i < n_asked; i++) {
        print_scores(arrows, adapters, n, &asked[i]);
    }
    hs_adapter_infos_free(infos);
    hs_route_arrows_free(arrows);
}

int main(int argc, char **argv)
{
    static struct line examples[LINES_MAX], asked[LINES_MAX];
    bool with_scores = argc > 1 && strcmp(argv[1], "--scores") == 0;
    int n_fixed = with_scores ? 4 : 6;
    if (argc < n_fixed || (with_scores && argc - n_fixed > ADAPTERS_MAX)) {
        fprintf(stderr,
                "bench-route MODEL EXAMPLES.tsv ASKED.tsv NUMBER FILLER NAME=PATH...\n"
                "bench-route --scores MODEL ASKED.tsv NAME=PATH... (%d)\n",
                ADAPTERS_MAX);
        return 2;
    }
    size_t n_examples = with_scores ? 0 : read_lines(argv[2], examples);
    size_t n_asked = read_lines(argv[3], asked);
    start(argv[1 + with_scores], with_scores);
    for (int i = n_fixed; i < argc; i++) {
        add_named(argv[i], examples, n_examples);
    }
    if (with_scores) {
        print_all_scores(asked, n_asked);
    } else {
        ask_among(atoi(argv[4]), argv[5], asked, n_asked);
    }
    hs_engine_free(engine);
    return 0;
}
