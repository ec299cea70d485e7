/*
 * bench_route.c - routing among many adapters: time and accuracy; and what its constants are set
 * from.
 *
 *   bench-route MODEL EXAMPLES.tsv ASKED.tsv NUMBER FILLER NAME=PATH...
 *   bench-route --scores MODEL ASKED.tsv NAME=PATH...
 *
 * Lines of the files are an adapter's name, a tab and a text; in ASKED.tsv "-" stands for none.
 *
 * NUMBER more adapters of the file FILLER, with one example each ("Write a story about bread, in
 * style 7."), are registered beside the named ones. Prints one JSON object: `first_ms`, the first
 * request, which waits for all examples; `new_ms`, the texts for the first time, which may wait for
 * adapters' weights to be read; `route_ms`, the same texts again; of both the median and the
 * largest; `right` of `asked`, and of them those for which none is right. No text is begun later
 * than ASKED_MS after the start; `asked` says how many were.
 *
 * --scores prints one JSON array for each text, those that no adapter is for first (their name is
 * "background"): the name, the embedding, and what each adapter's weights say (null: nothing).
 */
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
#define ASKED_MS 150e3
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
    load.n_seq_max = 1;
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

static void ask_all(const struct line *lines, size_t n_lines, double until_ms)
{
    static double first[LINES_MAX], again[LINES_MAX];
    struct hs_route route;
    size_t n = 0, n_again = 0, n_right = 0, n_none = 0, n_none_right = 0;
    double first_ms = route_one("Hello", &route);
    for (; n < n_lines && now_ms() < until_ms; n++) {
        bool is_none = strcmp(lines[n].name, "-") == 0;
        first[n] = route_one(lines[n].text, &route);
        n_right += is_right(&lines[n], &route);
        n_none += is_none;
        n_none_right += is_none && is_right(&lines[n], &route);
    }
    for (; n_again < n && now_ms() < until_ms; n_again++) {
        again[n_again] = route_one(lines[n_again].text, &route);
    }
    if (n_again == 0) {
        fprintf(stderr, "bench-route: the examples alone took too long, %.0f ms\n", first_ms);
        exit(1);
    }
    qsort(first, n, sizeof first[0], compare);
    qsort(again, n_again, sizeof again[0], compare);
    printf("{\"first_ms\": %.0f, \"new_ms\": [%.1f, %.1f], \"route_ms\": [%.1f, %.1f], "
           "\"asked\": %zu, \"right\": %zu, \"asked_none\": %zu, \"right_none\": %zu}\n",
           first_ms, first[n / 2], first[n - 1], again[n_again / 2], again[n_again - 1], n, n_right,
           n_none, n_none_right);
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
    double until_ms = now_ms() + ASKED_MS;
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
        add_fillers(atoi(argv[4]), argv[5]);
        ask_all(asked, n_asked, until_ms);
    }
    hs_engine_free(engine);
    return 0;
}
