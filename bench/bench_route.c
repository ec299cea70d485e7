/*
 * bench_route.c - routing among many adapters: time and accuracy.
 *
 *   bench-route MODEL EXAMPLES.tsv ASKED.tsv NUMBER FILLER NAME=PATH...
 *
 * Lines of the files are an adapter's name, a tab and a text; in ASKED.tsv "-" stands for none.
 * NUMBER more adapters of the file FILLER, with one example each ("Write a story about bread, in
 * style 7."), are registered beside the named ones. Prints one JSON object: `first_ms`, the first
 * request, which waits for all examples; `route_ms`, the others, median and largest; `right` of
 * `asked`, and of them those for which none is right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hyprstream.h"

#define LINES_MAX 4096
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

static void add_named(char *argument, const struct line *lines, size_t n_lines)
{
    const char *examples[EXAMPLES_MAX];
    size_t n = 0;
    char *equals = strchr(argument, '=');
    if (equals == NULL) {
        fprintf(stderr, "bench-route: '%s' is not NAME=PATH\n", argument);
        exit(1);
    }
    *equals = '\0';
    for (size_t i = 0; i < n_lines && n < EXAMPLES_MAX; i++) {
        if (strcmp(lines[i].name, argument) == 0) {
            examples[n++] = lines[i].text;
        }
    }
    add(argument, equals + 1, examples, n);
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

static void ask_all(const struct line *lines, size_t n)
{
    static double times[LINES_MAX];
    struct hs_route_params params;
    struct hs_route route;
    struct hs_error err;
    size_t n_right = 0, n_none = 0, n_none_right = 0;
    double first_ms = now_ms();
    hs_route_params_defaults(&params);
    need(hs_engine_route(engine, model_id, "Hello", &params, &route, &err), &err);
    first_ms = now_ms() - first_ms;
    for (size_t i = 0; i < n; i++) {
        bool is_none = strcmp(lines[i].name, "-") == 0;
        double start_ms = now_ms();
        need(hs_engine_route(engine, model_id, lines[i].text, &params, &route, &err), &err);
        times[i] = now_ms() - start_ms;
        bool is_right =
            is_none ? route.n_choices == 0
                    : route.n_choices == 1 && strcmp(route.choices[0].name, lines[i].name) == 0;
        n_right += is_right;
        n_none += is_none;
        n_none_right += is_none && is_right;
    }
    qsort(times, n, sizeof times[0], compare);
    printf("{\"first_ms\": %.0f, \"route_ms\": [%.1f, %.1f], \"asked\": %zu, \"right\": %zu, "
           "\"asked_none\": %zu, \"right_none\": %zu}\n",
           first_ms, times[n / 2], times[n - 1], n, n_right, n_none, n_none_right);
}

int main(int argc, char **argv)
{
    static struct line examples[LINES_MAX], asked[LINES_MAX];
    struct hs_error err;
    struct hs_engine_params params;
    struct hs_model_params load;
    if (argc < 6) {
        fprintf(stderr, "bench-route MODEL EXAMPLES.tsv ASKED.tsv NUMBER FILLER NAME=PATH...\n");
        return 2;
    }
    size_t n_examples = read_lines(argv[2], examples), n_asked = read_lines(argv[3], asked);
    hs_engine_params_defaults(&params);
    params.adapter_budget_bytes = 1; /* none is loaded */
    hs_model_params_defaults(&load);
    load.n_ctx = 1024;
    load.n_seq_max = 1;
    need(hs_engine_create(&params, &engine, &err), &err);
    need(hs_engine_load_model(engine, argv[1], NULL, &load, model_id, &err), &err);
    for (int i = 6; i < argc; i++) {
        add_named(argv[i], examples, n_examples);
    }
    add_fillers(atoi(argv[4]), argv[5]);
    if (n_asked > 0) {
        ask_all(asked, n_asked);
    }
    hs_engine_free(engine);
    return 0;
}
