#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "llama_lora.h"

bool hs_lora_mismatch(struct hs_lora_run *run, const char *format, ...)
{
    if (run->mismatch[0] == '\0') {
        va_list args;
        va_start(args, format);
        vsnprintf(run->mismatch, sizeof(run->mismatch), format, args);
        va_end(args);
    }
    return false;
}

bool hs_lora_rows(const struct ggml_tensor *tensor, int64_t n_columns, int64_t *ret_n_rows,
                  size_t *ret_stride)
{
    *ret_n_rows = ggml_nrows(tensor);
    *ret_stride = tensor->nb[1] / sizeof(float);
    return tensor->type == GGML_TYPE_F32 && tensor->ne[0] == n_columns &&
           tensor->nb[0] == sizeof(float) && tensor->nb[1] % sizeof(float) == 0 &&
           (tensor->ne[2] == 1 || tensor->nb[2] == tensor->nb[1] * (size_t)tensor->ne[1]) &&
           (tensor->ne[3] == 1 || tensor->nb[3] == tensor->nb[2] * (size_t)tensor->ne[2]) &&
           tensor->buffer && ggml_backend_buffer_is_host(tensor->buffer);
}

/* ---- the operations, on all threads of llama.cpp ---- */

#define GROUPS_AT_ONCE 32 /* whose scratch is to stay in the cache between shrink and expand */

static void shrink(struct ggml_tensor *node, int ith, int nth, void *user)
{
    (void)node;
    const struct hs_lora_call *call = user;
    hs_lora_shrink(call->groups, call->n_groups, call->x, call->x_stride, ith, nth);
}

static void expand(struct ggml_tensor *node, int ith, int nth, void *user)
{
    (void)node;
    const struct hs_lora_call *call = user;
    hs_lora_expand(call->groups, call->n_groups, call->x, call->x_stride, call->y, call->y_stride,
                   ith, nth);
}

/* The part of a group whose rows are in [begin, end); false: it has none there. */
static bool take_rows(const struct hs_lora_group *group, int32_t begin, int32_t end,
                      struct hs_lora_group *ret_part)
{
    int32_t first = 0;
    while (first < group->n_rows && group->rows[first] < begin) {
        first++;
    }
    int32_t last = first;
    while (last < group->n_rows && group->rows[last] < end) {
        last++;
    }
    *ret_part = *group;
    ret_part->rows += first;
    ret_part->scales += first;
    ret_part->n_rows = last - first;
    ret_part->ax += first * hs_lora_packed_scratch(group->weights);
    return last > first;
}

static void change_rows(const struct hs_lora_call *call, int32_t begin, int32_t end)
{
    struct hs_lora_group parts[GROUPS_AT_ONCE];
    int32_t n = 0;
    for (int32_t g = 0; g < call->n_groups; g++) {
        n += take_rows(&call->groups[g], begin, end, &parts[n]);
        if (n == GROUPS_AT_ONCE || (n > 0 && g + 1 == call->n_groups)) {
            hs_lora_shrink(parts, n, call->x, call->x_stride, 0, 1);
            hs_lora_expand(parts, n, call->x, call->x_stride, call->y, call->y_stride, 0, 1);
            n = 0;
        }
    }
}

/* Right with any number of threads, as ggml may compute with fewer than it was asked for. */
static void change(struct ggml_tensor *node, int ith, int nth, void *user)
{
    (void)node;
    const struct hs_lora_call *call = user;
    for (int32_t i = ith; i < call->split->n_threads; i += nth) {
        change_rows(call, call->split->cuts[i], call->split->cuts[i + 1]);
    }
}

/* How ggml packs a custom operation is its own business: have it make one. */
static void pack_custom(ggml_custom_op_t operation, struct hs_lora_call *call, int32_t *ret_params)
{
    _Alignas(64) char memory[1024];
    struct ggml_init_params params = {
        .mem_size = sizeof(memory), .mem_buffer = memory, .no_alloc = true};
    struct ggml_context *ggml = ggml_init(params);
    const struct ggml_tensor *node =
        ggml_custom_4d(ggml, GGML_TYPE_F32, 1, 1, 1, 1, NULL, 0, operation, GGML_N_TASKS_MAX, call);
    memcpy(ret_params, node->op_params, sizeof(node->op_params));
    ggml_free(ggml);
}

void hs_lora_call_init(struct hs_lora_call *call)
{
    pack_custom(shrink, call, call->shrink);
    pack_custom(expand, call, call->expand);
    pack_custom(change, call, call->both);
}

static void make_custom(struct ggml_tensor *node, const int32_t *params)
{
    node->op = params ? GGML_OP_CUSTOM : GGML_OP_NONE;
    if (params) {
        memcpy(node->op_params, params, sizeof(node->op_params));
    }
}

/* ---- a chain of nodes: A x, B a, scale, add ---- */

/* Between two nodes of a chain nothing else may be computed: it could take the memory of x. */
static bool end_chain(struct hs_lora_run *run, struct ggml_tensor *out)
{
    struct hs_lora_chain chain = run->chain;
    const struct hs_lora_site *site = &run->model->lora->sites[chain.site];
    struct hs_lora_call *call = &run->calls[chain.site];
    const struct ggml_tensor *x = chain.a->src[1], *res = out->src[0];
    int64_t n_in_rows = 0, n_out_rows = 0;
    run->chain = (struct hs_lora_chain){.site = -1};
    if (!hs_lora_rows(x, site->n_in, &n_in_rows, &call->x_stride) ||
        !hs_lora_rows(res, site->n_out, &n_out_rows, &call->y_stride) || n_in_rows != n_out_rows) {
        return hs_lora_mismatch(run, "the product with '%s' has no plain rows", site->tensor);
    }
    if (call->is_done) {
        return hs_lora_mismatch(run, "'%s' stands in the graph twice", site->tensor);
    }
    struct hs_lora_group *groups = NULL;
    if (!hs_lora_plan_groups(&run->plan, chain.site, n_in_rows, &groups, &call->n_groups)) {
        return hs_lora_mismatch(run, "'%s' is multiplied with %lld rows, not %d or %d",
                                site->tensor, (long long)n_in_rows, run->plan.n_rows,
                                run->plan.n_outputs);
    }
    call->groups = groups;
    call->x = x->data;
    call->y = res->data;
    call->is_done = true;
    run->n_done++;
    call->split = hs_lora_plan_split(&run->plan, n_in_rows);
    bool is_by_rows = call->split->is_by_rows;
    make_custom(chain.a, call->n_groups > 0 && !is_by_rows ? call->shrink : NULL);
    make_custom(chain.ba, call->n_groups == 0 ? NULL : (is_by_rows ? call->both : call->expand));
    chain.scale->op = GGML_OP_NONE;
    out->op = out->data == res->data ? GGML_OP_NONE : GGML_OP_DUP;
    return false;
}

static int32_t site_of_ghost(const struct hs_lora_run *run, const struct ggml_tensor *tensor)
{
    const struct hs_llama_lora *lora = run->model->lora;
    int32_t guess = run->next_site;
    for (int32_t i = 0; i < lora->n_sites; i++) {
        int32_t at = guess + i < lora->n_sites ? guess + i : guess + i - lora->n_sites;
        if (lora->sites[at].ghost_a == tensor) {
            return at;
        }
    }
    return -1;
}

/* Chains are told by their sources, which stay when the operations have been replaced. */
static bool follow_chain(struct hs_lora_run *run, struct ggml_tensor *node)
{
    struct hs_lora_chain *chain = &run->chain;
    const struct hs_llama_lora *lora = run->model->lora;
    if (chain->site < 0) {
        const struct ggml_tensor *factor = node->src[0];
        if (factor < lora->ghost_first || factor > lora->ghost_last) {
            return false;
        }
        int32_t site = site_of_ghost(run, factor);
        if (site < 0) {
            return hs_lora_mismatch(run, "'%s' stands where no adapter is expected", factor->name);
        }
        *chain = (struct hs_lora_chain){.site = site, .a = node};
        run->next_site = site + 1;
        return false;
    }
    if (!chain->ba) {
        if (node->src[0] == lora->sites[chain->site].ghost_b && node->src[1] == chain->a) {
            chain->ba = node;
            return false;
        }
    } else if (!chain->scale) {
        if (node->src[0] == chain->ba) {
            chain->scale = node;
            return false;
        }
    } else if (node->src[1] == chain->scale && node->src[0]) {
        return end_chain(run, node);
    }
    return hs_lora_mismatch(run, "the nodes of '%s' are not where they were",
                            lora->sites[chain->site].tensor);
}

/* ---- embeddings and output ---- */

bool hs_lora_graph_ended(struct hs_lora_run *run)
{
    const struct hs_llama_lora *lora = run->model->lora;
    if (run->stats.engine != HS_LORA_ENGINE_REWRITE) {
        return true;
    }
    if (run->chain.site >= 0 || run->n_done != lora->n_products) {
        return hs_lora_mismatch(run, "%d matrices of %d were found in the graph", run->n_done,
                                lora->n_products);
    }
    run->stats.n_nodes += (uint64_t)run->n_done;
    return true;
}

/* The rows of one set are the same in any order. */
static bool is_in_order(const struct hs_lora_run *run, const struct ggml_tensor *tokens)
{
    if (run->stats.engine == HS_LORA_ENGINE_NATIVE) {
        return true;
    }
    const int32_t *values = tokens->data;
    for (int32_t i = 0; i < run->plan.n_rows; i++) {
        if (values[i] != run->plan.items[run->plan.first + i].token) {
            return false;
        }
    }
    return true;
}

/* Looking up the embeddings is what every graph begins with: the next micro-batch. */
static bool begin_graph(struct hs_lora_run *run, const struct ggml_tensor *tokens)
{
    if (run->plan.n_rows > 0 && !hs_lora_graph_ended(run)) {
        return false;
    }
    for (int32_t i = 0; i < run->model->lora->n_sites; i++) {
        run->calls[i].is_done = false;
    }
    run->n_done = 0;
    run->next_site = 0;
    run->chain.site = -1;
    if (tokens->type != GGML_TYPE_I32 || !ggml_is_contiguous(tokens) || !tokens->buffer ||
        !ggml_backend_buffer_is_host(tokens->buffer) ||
        !hs_lora_plan_next(&run->plan, (int32_t)ggml_nelements(tokens)) ||
        !is_in_order(run, tokens)) {
        return hs_lora_mismatch(run, "the rows of the batch are not in its order");
    }
    run->tokens = tokens->data;
    return true;
}

static int32_t end_site(const struct hs_lora_run *run, const struct ggml_tensor *node)
{
    const struct hs_llama_lora *lora = run->model->lora;
    const struct ggml_tensor *weight = node->src[0];
    int32_t site = -1;
    if (node->op == GGML_OP_GET_ROWS && weight && weight->op == GGML_OP_NONE) {
        site = lora->embedding;
    } else if (node->op == GGML_OP_MUL_MAT && weight && weight->op == GGML_OP_NONE) {
        site = lora->output;
    }
    return site >= 0 && weight == lora->sites[site].weight ? site : -1;
}

/* Whether the node is to be computed by itself, because an adapter changes it. */
static bool wants_end(struct hs_lora_run *run, int32_t site, const struct ggml_tensor *node)
{
    struct hs_lora_group *groups = NULL;
    int32_t n = 0;
    if (site == run->model->lora->embedding && !begin_graph(run, node->src[1])) {
        return false;
    }
    if (!hs_lora_plan_groups(&run->plan, site, ggml_nrows(node), &groups, &n)) {
        return hs_lora_mismatch(run, "'%s' has %lld rows", run->model->lora->sites[site].tensor,
                                (long long)ggml_nrows(node));
    }
    return n > 0;
}

static bool change_end(struct hs_lora_run *run, int32_t at, struct ggml_tensor *node)
{
    const struct hs_lora_site *site = &run->model->lora->sites[at];
    const struct ggml_tensor *x = node->src[1];
    struct hs_lora_group *groups = NULL;
    int32_t n = 0;
    int64_t n_rows = 0, n_x_rows = 0;
    size_t y_stride = 0, x_stride = 0;
    bool is_output = site->kind == HS_LORA_SITE_OUTPUT;
    if (!hs_lora_rows(node, site->n_out, &n_rows, &y_stride) ||
        (is_output && (!hs_lora_rows(x, site->n_in, &n_x_rows, &x_stride) || n_x_rows != n_rows)) ||
        !hs_lora_plan_groups(&run->plan, at, n_rows, &groups, &n)) {
        return hs_lora_mismatch(run, "'%s' has no plain rows in host memory", site->tensor);
    }
    if (is_output) {
        hs_lora_shrink(groups, n, x->data, x_stride, 0, 1);
    } else {
        hs_lora_lookup(groups, n, run->tokens, 0, 1);
    }
    hs_lora_expand(groups, n, is_output ? x->data : NULL, x_stride, node->data, y_stride, 0, 1);
    return true;
}

/* ---- the callback ---- */

bool hs_lora_eval(struct ggml_tensor *node, bool ask, void *user)
{
    struct hs_lora_run *run = user;
    if (!run->is_planned || run->mismatch[0]) {
        return !ask;
    }
    int32_t end = end_site(run, node);
    if (!ask) {
        return end >= 0 ? change_end(run, end, node) : hs_lora_stack_mask(run, node);
    }
    if (end >= 0) {
        return wants_end(run, end, node);
    }
    switch (run->stats.engine) {
    case HS_LORA_ENGINE_REWRITE:
        return follow_chain(run, node);
    case HS_LORA_ENGINE_STACKED:
        return hs_lora_stack_wants(run, node);
    default:
        return false;
    }
}
