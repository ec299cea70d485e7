/*
 * Stacked: one adapter of llama.cpp that holds all adapters of the batch side by side. Behind each
 * product with its A the values of other rows' adapters are set to zero, the rest scaled.
 * Native: llama.cpp's own way, one set of adapters for the whole batch.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_lora.h"

#define NATIVE_KEPT 8 /* adapters of llama.cpp that a context keeps though none uses them */
#define SUFFIX ".lora_a"
#define SUFFIX_LEN (sizeof(SUFFIX) - 1)

struct entry {
    uint64_t id;
    struct llama_adapter_lora *llama; /* NULL: it changes no product */
    uint64_t used;                    /* the set that used it last */
    float scale;                      /* there */
};

struct hs_lora_stack {
    /* Native. */
    struct entry *entries; /* [n_entries] */
    int32_t n_entries, capacity;
    uint64_t n_sets; /* that llama.cpp was given; sets of decodes without a change are one */
    int32_t n_used;  /* entries of the last one */
    /* Stacked. */
    struct llama_adapter_lora *llama;
    uint64_t *ids; /* [n_ids] */
    int32_t n_ids;
    int32_t *offsets; /* [n_ids][n_sites] */
    size_t n_ranks;   /* of all at a site, at most */
    float *values;    /* of a product before and after the mask */
    size_t n_values;
    bool is_set;
};

hs_status hs_lora_stack_new(struct hs_lora_run *run, struct hs_error *err)
{
    run->stack = hs_calloc(1, sizeof(*run->stack));
    return run->stack ? HS_OK : hs_error_nomem(err, "adapters of a context");
}

static void drop_stacked(struct hs_lora_run *run)
{
    struct hs_lora_stack *stack = run->stack;
    if (stack->llama) {
        hs_lora_native_free(run->model, stack->llama);
    }
    hs_free(stack->ids);
    hs_free(stack->offsets);
    stack->llama = NULL;
    stack->ids = NULL;
    stack->offsets = NULL;
    stack->n_ids = 0;
    stack->is_set = false;
}

void hs_lora_stack_free(struct hs_lora_run *run)
{
    if (!run->stack) {
        return;
    }
    drop_stacked(run);
    for (int32_t i = 0; i < run->stack->n_entries; i++) {
        if (run->stack->entries[i].llama) {
            hs_lora_native_free(run->model, run->stack->entries[i].llama);
        }
    }
    hs_free(run->stack->entries);
    hs_free(run->stack->values);
    hs_free(run->stack);
    run->stack = NULL;
}

/* llama.cpp reserves its graphs anew for another set, and then reads the model's list. */
static void give(struct hs_lora_run *run, struct llama_adapter_lora **adapters, size_t n,
                 float *scales)
{
    llama_set_adapters_lora(run->context->llama, adapters, n, scales);
    run->is_reserving = true;
}

/* ---- stacked ---- */

static int32_t stacked_at(const struct hs_lora_stack *stack, uint64_t id)
{
    for (int32_t i = 0; i < stack->n_ids; i++) {
        if (stack->ids[i] == id) {
            return i;
        }
    }
    return -1;
}

static size_t most_ranks(const struct hs_llama_lora *lora, const hs_rt_adapter *const *members,
                         size_t n)
{
    size_t most = 0;
    for (int32_t site = 0; site < lora->n_sites; site++) {
        size_t n_ranks = 0;
        for (size_t i = 0; i < n; i++) {
            const struct hs_lora_packed *weights = members[i]->weights[site];
            n_ranks += weights ? (size_t)weights->rank : 0;
        }
        most = n_ranks > most ? n_ranks : most;
    }
    return most;
}

static hs_status restack(struct hs_lora_run *run, struct hs_error *err)
{
    struct hs_lora_stack *stack = run->stack;
    const struct hs_lora_plan *plan = &run->plan;
    size_t n = (size_t)plan->n_members;
    give(run, NULL, 0, NULL);
    drop_stacked(run);
    HS_CLEANUP(hs_freep) const hs_rt_adapter **members = hs_calloc(n, sizeof(*members));
    stack->ids = hs_calloc(n, sizeof(*stack->ids));
    stack->offsets = hs_calloc(n * (size_t)run->model->lora->n_sites, sizeof(*stack->offsets));
    if (!members || !stack->ids || !stack->offsets) {
        return hs_error_nomem(err, "stacked adapters");
    }
    for (size_t i = 0; i < n; i++) {
        members[i] = plan->members[i].adapter;
        stack->ids[i] = members[i]->id;
    }
    hs_status status =
        hs_lora_native_new(run->model, members, (int32_t)n, stack->offsets, &stack->llama, err);
    if (status == HS_OK) {
        stack->n_ids = (int32_t)n;
        stack->n_ranks = most_ranks(run->model->lora, members, n);
    }
    return status;
}

/* Room for a product of the batch, before and after the mask. */
static hs_status reserve_values(struct hs_lora_stack *stack, size_t n_rows, struct hs_error *err)
{
    size_t n = 2 * n_rows * stack->n_ranks;
    if (n <= stack->n_values) {
        return HS_OK;
    }
    float *values = hs_realloc_array(stack->values, n, sizeof(*values));
    if (!values) {
        return hs_error_nomem(err, "mask of stacked adapters");
    }
    stack->values = values;
    stack->n_values = n;
    return HS_OK;
}

static hs_status set_stacked(struct hs_lora_run *run, struct hs_error *err)
{
    struct hs_lora_stack *stack = run->stack;
    bool is_stacked = true;
    for (int32_t i = 0; is_stacked && i < run->plan.n_members; i++) {
        is_stacked = stacked_at(stack, run->plan.members[i].adapter->id) >= 0;
    }
    if (!is_stacked) {
        hs_status status = restack(run, err);
        if (status != HS_OK) {
            return status;
        }
    }
    if (stack->llama && !stack->is_set) {
        float one = 1;
        give(run, &stack->llama, 1, &one);
        stack->is_set = true;
    }
    return reserve_values(stack, (size_t)run->plan.n_items, err);
}

static int32_t stacked_site(const struct hs_lora_run *run, const struct ggml_tensor *node)
{
    const char *name = node->op == GGML_OP_MUL_MAT ? node->src[0]->name : "";
    size_t len = strlen(name);
    if (len <= SUFFIX_LEN || strcmp(name + len - SUFFIX_LEN, SUFFIX) != 0) {
        return -1;
    }
    char tensor[GGML_MAX_NAME];
    memcpy(tensor, name, len - SUFFIX_LEN);
    tensor[len - SUFFIX_LEN] = '\0';
    return hs_lora_site_named(run->model->lora, tensor);
}

bool hs_lora_stack_wants(const struct hs_lora_run *run, const struct ggml_tensor *node)
{
    return stacked_site(run, node) >= 0;
}

static int64_t id_at(const struct hs_lora_run *run, const struct hs_lora_packed *weights,
                     int32_t site)
{
    for (int32_t i = 0; i < run->plan.n_members; i++) {
        if (run->plan.members[i].adapter->weights[site] == weights) {
            return stacked_at(run->stack, run->plan.members[i].adapter->id);
        }
    }
    return -1;
}

bool hs_lora_stack_mask(struct hs_lora_run *run, struct ggml_tensor *node)
{
    struct hs_lora_stack *stack = run->stack;
    int32_t site = stacked_site(run, node), n_groups = 0;
    int64_t n_rows = ggml_nrows(node), n_ranks = node->ne[0];
    struct hs_lora_group *groups = NULL;
    if (!hs_lora_plan_groups(&run->plan, site, n_rows, &groups, &n_groups) ||
        node->type != GGML_TYPE_F32 || !ggml_is_contiguous(node)) {
        return hs_lora_mismatch(run, "'%s' has no plain rows", node->src[0]->name);
    }
    size_t n = (size_t)(n_rows * n_ranks);
    float *from = stack->values, *to = from + n;
    ggml_backend_tensor_get(node, from, 0, n * sizeof(*from));
    memset(to, 0, n * sizeof(*to));
    for (int32_t g = 0; g < n_groups; g++) {
        int64_t at = id_at(run, groups[g].weights, site);
        int32_t offset = stack->offsets[at * run->model->lora->n_sites + site];
        for (int32_t i = 0; i < groups[g].n_rows; i++) {
            int64_t first = groups[g].rows[i] * n_ranks + offset;
            for (int32_t k = 0; k < groups[g].weights->rank; k++) {
                to[first + k] = from[first + k] * groups[g].scales[i];
            }
        }
    }
    ggml_backend_tensor_set(node, to, 0, n * sizeof(*to));
    return true;
}

/* ---- native ---- */

static struct entry *find_entry(struct hs_lora_stack *stack, uint64_t id)
{
    for (int32_t i = 0; i < stack->n_entries; i++) {
        if (stack->entries[i].id == id) {
            return &stack->entries[i];
        }
    }
    return NULL;
}

static hs_status add_entry(struct hs_lora_run *run, const hs_rt_adapter *adapter,
                           struct hs_error *err)
{
    struct hs_lora_stack *stack = run->stack;
    if (stack->n_entries == stack->capacity) {
        int32_t capacity = stack->capacity + NATIVE_KEPT;
        struct entry *entries =
            hs_realloc_array(stack->entries, (size_t)capacity, sizeof(*entries));
        if (!entries) {
            return hs_error_nomem(err, "adapters of a context");
        }
        stack->entries = entries;
        stack->capacity = capacity;
    }
    struct entry *entry = &stack->entries[stack->n_entries];
    *entry = (struct entry){.id = adapter->id};
    hs_status status = hs_lora_native_new(run->model, &adapter, 1, NULL, &entry->llama, err);
    stack->n_entries += status == HS_OK;
    return status;
}

/* Those of this set stay; of the others the oldest go first. */
static void drop_old_entries(struct hs_lora_run *run)
{
    struct hs_lora_stack *stack = run->stack;
    while (stack->n_entries > NATIVE_KEPT) {
        struct entry *oldest = stack->entries;
        for (int32_t i = 1; i < stack->n_entries; i++) {
            oldest = stack->entries[i].used < oldest->used ? &stack->entries[i] : oldest;
        }
        if (oldest->used == stack->n_sets) {
            return;
        }
        if (oldest->llama) {
            hs_lora_native_free(run->model, oldest->llama);
        }
        *oldest = stack->entries[--stack->n_entries];
    }
}

static hs_status set_native(struct hs_lora_run *run, struct hs_error *err)
{
    struct hs_lora_stack *stack = run->stack;
    const struct hs_lora_plan *plan = &run->plan;
    if (plan->n_sets > 1) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "a batch with %d sets of adapters; the native engine takes one", plan->n_sets);
        return hs_error_hint(err, "decode them one after the other");
    }
    size_t n = (size_t)plan->n_members;
    HS_CLEANUP(hs_freep)
    struct llama_adapter_lora **adapters = hs_calloc(n + 1, sizeof(struct llama_adapter_lora *));
    HS_CLEANUP(hs_freep) float *scales = hs_calloc(n + 1, sizeof(*scales));
    if (!adapters || !scales) {
        return hs_error_nomem(err, "set of adapters");
    }
    bool is_changed = plan->n_members != stack->n_used;
    for (size_t i = 0; i < n; i++) {
        const hs_rt_adapter *adapter = plan->members[i].adapter;
        hs_status status = find_entry(stack, adapter->id) ? HS_OK : add_entry(run, adapter, err);
        if (status != HS_OK) {
            return status;
        }
        struct entry *entry = find_entry(stack, adapter->id);
        is_changed |=
            entry->used != stack->n_sets || entry->scale != plan->members[i].uses[0].scale;
    }
    if (!is_changed) {
        return HS_OK;
    }
    stack->n_sets++;
    stack->n_used = plan->n_members;
    size_t n_given = 0;
    for (size_t i = 0; i < n; i++) {
        struct entry *entry = find_entry(stack, plan->members[i].adapter->id);
        entry->used = stack->n_sets;
        entry->scale = plan->members[i].uses[0].scale;
        adapters[n_given] = entry->llama;
        scales[n_given] = entry->scale;
        n_given += entry->llama != NULL;
    }
    give(run, adapters, n_given, scales);
    drop_old_entries(run);
    return HS_OK;
}

hs_status hs_lora_stack_set(struct hs_lora_run *run, struct hs_error *err)
{
    return run->stats.engine == HS_LORA_ENGINE_STACKED ? set_stacked(run, err)
                                                       : set_native(run, err);
}
