/*
 * training_summary.c - what the trainer's state says of how an adapter came about.
 *
 * In:  trainer_state.json as transformers' Trainer writes it beside a checkpoint.
 * Out: {"steps": 120, "max_steps": 120, "epochs": 3.0, "batch_size": 8, "best_metric": 0.1,
 *       "history": [{"step": 10, "epoch": 0.25, "loss": 2.1, "learning_rate": 1e-4}, ...]}, keys
 *      that the file does not have are left out; of a long history every n-th entry and the last.
 */
#include <jansson.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/mem.h"
#include "storage/json_memory.h"

#define HISTORY_MAX 200u

static const struct {
    const char *from, *to;
} totals[] = {
    {"global_step", "steps"},           {"max_steps", "max_steps"},     {"epoch", "epochs"},
    {"train_batch_size", "batch_size"}, {"best_metric", "best_metric"},
};
static const char *const entry_keys[] = {"step",      "epoch",     "loss",       "learning_rate",
                                         "grad_norm", "eval_loss", "train_loss", "eval_accuracy"};

static void json_freep(json_t **value)
{
    json_decref(*value);
}

static bool copy_number(const json_t *from, const char *from_key, json_t *to, const char *to_key)
{
    json_t *value = json_object_get(from, from_key);
    return !json_is_number(value) || json_object_set(to, to_key, value) == 0;
}

static bool copy_history(json_t *log, json_t *summary)
{
    size_t n = json_array_size(log), every = (n + HISTORY_MAX - 1) / HISTORY_MAX;
    json_t *history = json_array();
    if (json_object_set_new(summary, "history", history) != 0) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *entry = json_array_get(log, i);
        if (i % every != every - 1 && i + 1 != n) {
            continue;
        }
        json_t *shown = json_object();
        if (json_array_append_new(history, shown) != 0) {
            return false;
        }
        for (size_t k = 0; k < sizeof entry_keys / sizeof entry_keys[0]; k++) {
            if (!copy_number(entry, entry_keys[k], shown, entry_keys[k])) {
                return false;
            }
        }
    }
    return true;
}

static int append(const char *data, size_t len, void *user)
{
    return hs_buf_append(user, data, len) == HS_OK ? 0 : -1;
}

hs_status hs_training_summary(const char *text, size_t len, char **ret_summary,
                              struct hs_error *err)
{
    json_error_t why;
    HS_CLEANUP(json_freep) json_t *state = hs_json_load(text, len, 0, &why);
    HS_CLEANUP(json_freep) json_t *summary = json_object();
    HS_CLEANUP(hs_buf_free) struct hs_buf out = HS_BUF_INIT(1u << 20);
    if (hs_json_memory_failed() || summary == NULL) {
        return hs_error_nomem(err, "the history of an adapter");
    }
    if (!json_is_object(state)) {
        return hs_error_set(err, HS_BAD_FORMAT, "trainer_state.json is no JSON object");
    }
    bool is_whole = true;
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        is_whole = is_whole && copy_number(state, totals[i].from, summary, totals[i].to);
    }
    is_whole = is_whole && copy_history(json_object_get(state, "log_history"), summary);
    if (!is_whole || json_dump_callback(summary, append, &out, JSON_COMPACT) != 0 ||
        hs_json_memory_failed()) {
        return hs_error_nomem(err, "the history of an adapter");
    }
    hs_status status = hs_buf_take(&out, ret_summary, NULL);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "the history of an adapter");
}
