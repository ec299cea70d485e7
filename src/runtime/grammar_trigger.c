#include "grammar_trigger.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define TEXT_MAX_BYTES ((size_t)1 << 20)

enum place { AT_START, IN_REASONING, BEHIND };

struct kept {
    int32_t token;
    size_t end; /* of its text */
};

struct hs_grammar_trigger {
    struct hs_grammar_trigger_params p;
    enum place place;
    size_t longest;     /* bytes of the longest word */
    struct hs_buf text; /* of the tokens kept */
    struct kept *kept;  /* [n_kept] */
    int32_t *tokens;    /* [cap], what a call returns */
    size_t n_kept, cap;
    size_t n_scanned; /* of the text: no word begins before */
};

hs_status hs_grammar_trigger_new(const struct hs_grammar_trigger_params *params,
                                 hs_grammar_trigger **ret_trigger, struct hs_error *err)
{
    hs_grammar_trigger *trigger = hs_calloc(1, sizeof(*trigger));
    if (!trigger) {
        return hs_error_nomem(err, "grammar trigger");
    }
    trigger->p = *params;
    trigger->text = (struct hs_buf)HS_BUF_INIT(TEXT_MAX_BYTES);
    trigger->place = BEHIND;
    if (*params->think_start && *params->think_end) {
        trigger->place = params->starts_thinking ? IN_REASONING : AT_START;
    }
    for (int32_t i = 0; i < params->n_words; i++) {
        size_t len = strlen(params->words[i]);
        trigger->longest = len > trigger->longest ? len : trigger->longest;
    }
    *ret_trigger = trigger;
    return HS_OK;
}

void hs_grammar_trigger_free(hs_grammar_trigger *trigger)
{
    if (trigger) {
        hs_buf_free(&trigger->text);
        hs_free(trigger->kept);
        hs_free(trigger->tokens);
        hs_free(trigger);
    }
}

bool hs_grammar_trigger_is_thinking(const hs_grammar_trigger *trigger)
{
    return trigger->place == IN_REASONING;
}

static hs_status keep(hs_grammar_trigger *trigger, int32_t token, const char *piece, size_t len)
{
    if (trigger->n_kept == trigger->cap) {
        size_t cap = 2 * trigger->cap + 16;
        struct kept *kept = hs_realloc_array(trigger->kept, cap, sizeof(*kept));
        if (!kept) {
            return HS_OUT_OF_MEMORY;
        }
        trigger->kept = kept;
        int32_t *tokens = hs_realloc_array(trigger->tokens, cap, sizeof(*tokens));
        if (!tokens) {
            return HS_OUT_OF_MEMORY;
        }
        trigger->tokens = tokens;
        trigger->cap = cap;
    }
    hs_status status = hs_buf_append(&trigger->text, piece, len);
    if (status == HS_OK) {
        trigger->kept[trigger->n_kept++] = (struct kept){token, trigger->text.len};
    }
    return status;
}

/* Forget the tokens that end at or before `place`. */
static void forget(hs_grammar_trigger *trigger, size_t place)
{
    size_t n = 0;
    while (n < trigger->n_kept && trigger->kept[n].end <= place) {
        n++;
    }
    if (n == 0) {
        return;
    }
    size_t bytes = trigger->kept[n - 1].end;
    trigger->n_kept -= n;
    memmove(trigger->kept, trigger->kept + n, trigger->n_kept * sizeof(trigger->kept[0]));
    for (size_t i = 0; i < trigger->n_kept; i++) {
        trigger->kept[i].end -= bytes;
    }
    hs_buf_consume(&trigger->text, bytes);
    trigger->n_scanned = trigger->n_scanned > bytes ? trigger->n_scanned - bytes : 0;
}

/* Step over white space and the start tag. true: go on behind them. */
static bool pass_start(hs_grammar_trigger *trigger)
{
    const char *text = trigger->text.data;
    while (trigger->n_scanned < trigger->text.len &&
           strchr(" \t\r\n", text[trigger->n_scanned]) != NULL) {
        trigger->n_scanned++;
    }
    size_t left = trigger->text.len - trigger->n_scanned;
    size_t len = strlen(trigger->p.think_start);
    size_t n = left < len ? left : len;
    if (memcmp(text + trigger->n_scanned, trigger->p.think_start, n) != 0) {
        trigger->place = BEHIND;
        trigger->n_scanned = 0;
    } else if (left >= len) {
        trigger->place = IN_REASONING;
        trigger->n_scanned += len;
    }
    return trigger->place != AT_START;
}

/* The place of `word` in the text not yet scanned, or where it could still begin. */
static size_t find(const hs_grammar_trigger *trigger, const char *word, bool *ret_found)
{
    size_t len = strlen(word);
    const char *text = trigger->text.data;
    const char *at =
        memmem(text + trigger->n_scanned, trigger->text.len - trigger->n_scanned, word, len);
    *ret_found = at != NULL;
    if (at) {
        return (size_t)(at - text);
    }
    size_t tail = len > 0 ? len - 1 : 0;
    size_t end = trigger->text.len;
    return end > trigger->n_scanned + tail ? end - tail : trigger->n_scanned;
}

static bool pass_reasoning(hs_grammar_trigger *trigger)
{
    bool found = false;
    trigger->n_scanned = find(trigger, trigger->p.think_end, &found);
    if (found) {
        trigger->n_scanned += strlen(trigger->p.think_end);
        trigger->place = BEHIND;
    }
    forget(trigger, trigger->n_scanned);
    return found;
}

static bool find_words(hs_grammar_trigger *trigger)
{
    size_t first = SIZE_MAX;
    for (int32_t i = 0; i < trigger->p.n_words; i++) {
        bool found = false;
        size_t at = find(trigger, trigger->p.words[i], &found);
        first = found && at < first ? at : first;
    }
    if (first < SIZE_MAX) {
        forget(trigger, first);
        return true;
    }
    size_t tail = trigger->longest > 0 ? trigger->longest - 1 : 0;
    if (trigger->text.len > tail && trigger->text.len - tail > trigger->n_scanned) {
        trigger->n_scanned = trigger->text.len - tail;
    }
    forget(trigger, trigger->n_scanned);
    return false;
}

hs_status hs_grammar_trigger_push(hs_grammar_trigger *trigger, int32_t token, const char *piece,
                                  size_t len, const int32_t **ret_tokens, size_t *ret_n)
{
    hs_status status = keep(trigger, token, piece, len);
    if (status != HS_OK) {
        return status;
    }
    bool goes_on = trigger->text.len > 0;
    bool found = false;
    while (goes_on) {
        if (trigger->place == AT_START) {
            goes_on = pass_start(trigger);
        } else if (trigger->place == IN_REASONING) {
            goes_on = pass_reasoning(trigger);
        } else {
            found = find_words(trigger);
            goes_on = false;
        }
    }
    for (size_t i = 0; found && i < trigger->n_kept; i++) {
        trigger->tokens[i] = trigger->kept[i].token;
    }
    *ret_tokens = trigger->tokens;
    *ret_n = found ? trigger->n_kept : 0;
    return HS_OK;
}
