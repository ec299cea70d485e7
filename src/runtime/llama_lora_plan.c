#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_lora.h"

static bool is_empty(const struct hs_rt_adapter_set *set)
{
    for (int32_t i = 0; set && i < set->n; i++) {
        if (set->uses[i].scale != 0) {
            return false;
        }
    }
    return true;
}

static bool is_same(const struct hs_rt_adapter_set *a, const struct hs_rt_adapter_set *b)
{
    if (a == b || is_empty(a) || is_empty(b)) {
        return a == b || is_empty(a) == is_empty(b);
    }
    bool is_equal = a->n == b->n;
    for (int32_t i = 0; is_equal && i < a->n; i++) {
        is_equal = a->uses[i].adapter == b->uses[i].adapter && a->uses[i].scale == b->uses[i].scale;
    }
    return is_equal;
}

static hs_status check_set(const struct hs_llama_lora *lora, const struct hs_rt_adapter_set *set,
                           int32_t item, struct hs_error *err)
{
    for (int32_t i = 0; set && i < set->n; i++) {
        if (!set->uses[i].adapter || set->uses[i].adapter->lora != lora) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "batch item %d: its adapter %d is of another model", item, i);
        }
        if (!isfinite(set->uses[i].scale)) {
            return hs_error_set(err, HS_INVALID_ARGUMENT,
                                "batch item %d: the scale of its adapter %d is no number", item, i);
        }
    }
    return HS_OK;
}

/* What can be counted without memory; neighbours share their sets. */
static hs_status count_uses(const struct hs_llama_lora *lora, const struct hs_rt_batch_item *items,
                            int32_t n_items, size_t *ret_n_uses, struct hs_error *err)
{
    const struct hs_rt_adapter_set *checked = NULL;
    size_t n_uses = 0;
    for (int32_t i = 0; i < n_items; i++) {
        const struct hs_rt_adapter_set *set = items[i].adapters;
        if (set != checked) {
            hs_status status = check_set(lora, set, i, err);
            if (status != HS_OK) {
                return status;
            }
            checked = set;
        }
        n_uses += set ? (size_t)set->n : 0;
    }
    *ret_n_uses = n_uses;
    return HS_OK;
}

static hs_status reserve(void **memory, size_t *size, size_t wanted, struct hs_error *err)
{
    if (wanted <= *size) {
        return HS_OK;
    }
    void *larger = hs_alloc(wanted);
    if (!larger) {
        return hs_error_nomem(err, "plan of a batch with adapters");
    }
    hs_free(*memory);
    *memory = larger;
    *size = wanted;
    return HS_OK;
}

/* Pieces of one block, each aligned for anything and for vectors. */
#define PIECE_ALIGN 64u

static size_t piece_size(size_t n, size_t size)
{
    return (n * size + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
}

static void *take_piece(char **at, size_t n, size_t size)
{
    void *piece = *at;
    *at += piece_size(n, size);
    return piece;
}

/* The member of an adapter; a new one at the end when it is the first use. */
static struct hs_lora_member *member_of(struct hs_lora_plan *plan, const hs_rt_adapter *adapter)
{
    for (int32_t i = plan->n_members; i > 0; i--) {
        if (plan->members[i - 1].adapter == adapter) {
            return &plan->members[i - 1];
        }
    }
    struct hs_lora_member *member = &plan->members[plan->n_members++];
    *member = (struct hs_lora_member){.adapter = adapter};
    return member;
}

static void find_members(struct hs_lora_plan *plan, const struct hs_rt_adapter_set **sets)
{
    plan->n_members = 0;
    plan->n_sets = 0;
    for (int32_t i = 0; i < plan->n_items; i++) {
        const struct hs_rt_adapter_set *set = plan->items[i].adapters;
        for (int32_t k = 0; set && k < set->n; k++) {
            if (set->uses[k].scale != 0) {
                member_of(plan, set->uses[k].adapter)->n_uses++;
            }
        }
        if (i > 0 && set == plan->items[i - 1].adapters) {
            continue;
        }
        int32_t known = 0;
        while (known < plan->n_sets && !is_same(sets[known], set)) {
            known++;
        }
        if (known == plan->n_sets) {
            sets[plan->n_sets++] = set;
        }
    }
}

/* An adapter that is named twice for a row counts with the sum of its scales. */
static void fill_uses(struct hs_lora_plan *plan, struct hs_lora_use *uses)
{
    for (int32_t i = 0; i < plan->n_members; i++) {
        plan->members[i].uses = uses;
        uses += plan->members[i].n_uses;
        plan->members[i].n_uses = 0;
    }
    for (int32_t i = 0; i < plan->n_items; i++) {
        const struct hs_rt_adapter_set *set = plan->items[i].adapters;
        for (int32_t k = 0; set && k < set->n; k++) {
            if (set->uses[k].scale == 0) {
                continue;
            }
            struct hs_lora_member *member = member_of(plan, set->uses[k].adapter);
            if (member->n_uses == 0 || member->uses[member->n_uses - 1].row < i) {
                member->uses[member->n_uses++] = (struct hs_lora_use){i, 0};
            }
            member->uses[member->n_uses - 1].scale += set->uses[k].scale;
        }
    }
}

static hs_status reserve_groups(struct hs_lora_plan *plan, int32_t n_sites, size_t n_uses,
                                struct hs_error *err)
{
    size_t n_groups = (size_t)n_sites * (size_t)plan->n_members;
    size_t n_scratch = 0;
    for (int32_t i = 0; i < plan->n_members; i++) {
        const struct hs_lora_member *member = &plan->members[i];
        n_scratch +=
            piece_size((size_t)member->n_uses * (size_t)member->adapter->n_scratch, sizeof(float));
    }
    size_t n_rows = 2 * n_uses;
    size_t wanted = piece_size(n_groups, sizeof(*plan->groups)) +
                    piece_size(n_rows, sizeof(int32_t)) + piece_size(n_rows, sizeof(float)) +
                    n_scratch + PIECE_ALIGN;
    hs_status status = reserve(&plan->group_memory, &plan->group_size, wanted, err);
    if (status != HS_OK) {
        return status;
    }
    uintptr_t start = (uintptr_t)plan->group_memory;
    char *at = (char *)plan->group_memory + (PIECE_ALIGN - start % PIECE_ALIGN) % PIECE_ALIGN;
    plan->groups = take_piece(&at, n_groups, sizeof(*plan->groups));
    int32_t *rows = take_piece(&at, n_rows, sizeof(*rows));
    float *scales = take_piece(&at, n_rows, sizeof(*scales));
    for (int32_t i = 0; i < plan->n_members; i++) {
        struct hs_lora_member *member = &plan->members[i];
        size_t n = (size_t)member->n_uses;
        member->ax = take_piece(&at, n * (size_t)member->adapter->n_scratch, sizeof(float));
        member->all = (struct hs_lora_rows){rows, scales, 0};
        member->outputs = (struct hs_lora_rows){rows + n, scales + n, 0};
        rows += 2 * n;
        scales += 2 * n;
    }
    return HS_OK;
}

hs_status hs_lora_plan_make(struct hs_lora_plan *plan, const struct hs_llama_lora *lora,
                            const struct hs_rt_batch_item *items, int32_t n_items,
                            struct hs_error *err)
{
    size_t n_uses = 0;
    hs_status status = count_uses(lora, items, n_items, &n_uses, err);
    if (status != HS_OK) {
        return status;
    }
    size_t n_sets = (size_t)n_items;
    size_t n_threads =
        (size_t)(plan->n_threads > plan->n_threads_batch ? plan->n_threads : plan->n_threads_batch);
    const size_t wanted = piece_size(n_sets, sizeof(struct hs_rt_adapter_set *)) +
                          piece_size(n_uses, sizeof(struct hs_lora_member)) +
                          piece_size(n_uses, sizeof(struct hs_lora_use)) +
                          2 * piece_size(n_threads + 1, sizeof(int32_t)) +
                          piece_size(n_threads, sizeof(float)) +
                          piece_size((size_t)n_items, sizeof(float));
    status = reserve(&plan->memory, &plan->memory_size, wanted, err);
    if (status != HS_OK) {
        return status;
    }
    char *at = plan->memory;
    const struct hs_rt_adapter_set **sets = take_piece(&at, n_sets, sizeof(*sets));
    plan->members = take_piece(&at, n_uses, sizeof(*plan->members));
    struct hs_lora_use *uses = take_piece(&at, n_uses, sizeof(*uses));
    plan->all_split.cuts = take_piece(&at, n_threads + 1, sizeof(int32_t));
    plan->output_split.cuts = take_piece(&at, n_threads + 1, sizeof(int32_t));
    plan->thread_costs = take_piece(&at, n_threads, sizeof(float));
    plan->row_costs = take_piece(&at, (size_t)n_items, sizeof(float));
    plan->n_products = lora->n_products;
    plan->items = items;
    plan->n_items = n_items;
    plan->first = plan->n_rows = plan->n_outputs = 0;
    find_members(plan, sets);
    fill_uses(plan, uses);
    return reserve_groups(plan, lora->n_sites, n_uses, err);
}

static void add_row(struct hs_lora_rows *rows, int32_t row, float scale)
{
    rows->rows[rows->n] = row;
    rows->scales[rows->n++] = scale;
}

static void fill_rows(const struct hs_lora_plan *plan, struct hs_lora_member *member)
{
    member->all.n = member->outputs.n = 0;
    int32_t end = plan->first + plan->n_rows;
    int32_t row = plan->first, n_outputs = 0;
    for (; member->next < member->n_uses && member->uses[member->next].row < end; member->next++) {
        const struct hs_lora_use *use = &member->uses[member->next];
        for (; row < use->row; row++) {
            n_outputs += plan->items[row].want_logits;
        }
        add_row(&member->all, row - plan->first, use->scale);
        if (plan->items[row].want_logits) {
            add_row(&member->outputs, n_outputs, use->scale);
        }
    }
}

bool hs_lora_plan_next(struct hs_lora_plan *plan, int32_t n_rows)
{
    plan->first += plan->n_rows;
    plan->n_rows = plan->n_outputs = 0;
    if (n_rows < 0 || n_rows > plan->n_items - plan->first) {
        return false;
    }
    plan->n_rows = n_rows;
    for (int32_t i = 0; i < n_rows; i++) {
        plan->n_outputs += plan->items[plan->first + i].want_logits;
    }
    for (int32_t i = 0; i < plan->n_members; i++) {
        fill_rows(plan, &plan->members[i]);
    }
    int32_t n_threads = n_rows > 1 ? plan->n_threads_batch : plan->n_threads;
    hs_lora_split_make(plan, false, n_threads, &plan->all_split);
    hs_lora_split_make(plan, true, n_threads, &plan->output_split);
    return true;
}

const struct hs_lora_split *hs_lora_plan_split(const struct hs_lora_plan *plan, int64_t n_rows)
{
    return n_rows == plan->n_rows ? &plan->all_split : &plan->output_split;
}

bool hs_lora_plan_groups(struct hs_lora_plan *plan, int32_t site, int64_t n_rows,
                         struct hs_lora_group **ret_groups, int32_t *ret_n)
{
    if (n_rows != plan->n_rows && n_rows != plan->n_outputs) {
        return false;
    }
    struct hs_lora_group *groups = plan->groups + (size_t)site * (size_t)plan->n_members;
    int32_t n = 0;
    for (int32_t i = 0; i < plan->n_members; i++) {
        const struct hs_lora_member *member = &plan->members[i];
        const struct hs_lora_packed *weights = member->adapter->weights[site];
        const struct hs_lora_rows *rows = n_rows == plan->n_rows ? &member->all : &member->outputs;
        if (weights && rows->n > 0) {
            groups[n++] = (struct hs_lora_group){.weights = weights,
                                                 .rows = rows->rows,
                                                 .scales = rows->scales,
                                                 .n_rows = rows->n,
                                                 .ax = member->ax};
        }
    }
    *ret_groups = groups;
    *ret_n = n;
    return true;
}

void hs_lora_plan_free(struct hs_lora_plan *plan)
{
    hs_free(plan->memory);
    hs_free(plan->group_memory);
    *plan = (struct hs_lora_plan){0};
}
