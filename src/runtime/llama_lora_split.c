/*
 * How threads share the rows of a micro-batch. Sharing every matrix instead needs two nodes, and
 * all threads wait at the end of each; when each thread has rows of its own one node will do, and
 * what it shrinks stays in its cache. That pays unless one thread is left with much more than its
 * share: a lone row, or one among few whose adapter is large.
 */
#include "llama_lora.h"

/* What a row costs beside reading an adapter, in units of reading it. */
#define ROW_COST 0.25f
/* Bytes that one thread reads while the threads wait for each other once more. */
#define WAIT_BYTES 20480.0f

static const struct hs_lora_rows *rows_of(const struct hs_lora_member *member, bool is_outputs)
{
    return is_outputs ? &member->outputs : &member->all;
}

/* Fill in what each row costs, an adapter's reading shared by its rows; returns their sum. */
static float cost_rows(const struct hs_lora_plan *plan, bool is_outputs, int32_t n_rows)
{
    float sum = 0;
    for (int32_t row = 0; row < n_rows; row++) {
        plan->row_costs[row] = 0;
    }
    for (int32_t i = 0; i < plan->n_members; i++) {
        const struct hs_lora_rows *rows = rows_of(&plan->members[i], is_outputs);
        float bytes = (float)plan->members[i].adapter->n_bytes;
        for (int32_t k = 0; k < rows->n; k++) {
            float cost = bytes / (float)rows->n + bytes * ROW_COST;
            plan->row_costs[rows->rows[k]] += cost;
            sum += cost;
        }
    }
    return sum;
}

static void cut(const struct hs_lora_plan *plan, struct hs_lora_split *split, int32_t n_rows,
                float sum)
{
    int32_t thread = 0;
    float before = 0;
    split->cuts[0] = 0;
    for (int32_t row = 0; row < n_rows; row++) {
        before += plan->row_costs[row];
        while (thread + 1 < split->n_threads &&
               before * (float)split->n_threads >= sum * (float)(thread + 1)) {
            split->cuts[++thread] = row + 1;
        }
    }
    while (thread < split->n_threads) {
        split->cuts[++thread] = n_rows;
    }
}

/* Of the thread that has most to do, which reads the adapters of its rows by itself. */
static float largest_cost(const struct hs_lora_plan *plan, const struct hs_lora_split *split,
                          bool is_outputs)
{
    float largest = 0;
    for (int32_t thread = 0; thread < split->n_threads; thread++) {
        plan->thread_costs[thread] = 0;
    }
    for (int32_t i = 0; i < plan->n_members; i++) {
        const struct hs_lora_rows *rows = rows_of(&plan->members[i], is_outputs);
        float bytes = (float)plan->members[i].adapter->n_bytes;
        int32_t thread = 0, reader = -1;
        for (int32_t k = 0; k < rows->n; k++) {
            while (rows->rows[k] >= split->cuts[thread + 1]) {
                thread++;
            }
            plan->thread_costs[thread] += bytes * ROW_COST + (thread == reader ? 0 : bytes);
            reader = thread;
        }
    }
    for (int32_t thread = 0; thread < split->n_threads; thread++) {
        float cost = plan->thread_costs[thread];
        largest = cost > largest ? cost : largest;
    }
    return largest;
}

void hs_lora_split_make(const struct hs_lora_plan *plan, bool is_outputs, int32_t n_threads,
                        struct hs_lora_split *split)
{
    int32_t n_rows = is_outputs ? plan->n_outputs : plan->n_rows;
    split->n_threads = n_threads;
    float sum = cost_rows(plan, is_outputs, n_rows);
    cut(plan, split, n_rows, sum);
    split->is_by_rows = largest_cost(plan, split, is_outputs) <=
                        sum / (float)n_threads + WAIT_BYTES * (float)plan->n_products;
}
