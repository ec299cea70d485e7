#include "token_processor.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Where in the answer the scanner stands. */
enum scan_mode {
    SCAN_START,           /* nothing but white space so far: a reasoning block may begin */
    SCAN_REASONING_FIRST, /* right behind the start tag: one newline is dropped */
    SCAN_REASONING,
    SCAN_CONTENT_FIRST, /* right behind the end tag: white space is dropped */
    SCAN_CONTENT,
    SCAN_STOPPED
};

/* Whether a string lies at a place of text that may still grow. */
enum match { MATCH_NO, MATCH_MAYBE, MATCH_YES };

/* The bytes of a code point that has begun, see Unicode 15, table 3-7. */
struct utf8_partial {
    unsigned char bytes[4];
    unsigned n_bytes;
    unsigned n_needed;       /* continuation bytes still to come */
    unsigned char low, high; /* range of the next one */
};

struct pattern {
    const char *bytes;
    size_t len;
};

struct hs_token_processor {
    struct hs_buf text;          /* whole code points that are not decided yet, */
    size_t n_done;               /* behind this many that left with the last call */
    struct utf8_partial partial; /* and what came after them */
    enum scan_mode mode;
    bool is_finished;
    struct pattern start_tag, end_tag;
    bool first_byte_of_stop[256];
    int32_t n_given;    /* of the stop strings are the caller's */
    int32_t stopped_by; /* 1 + index of the one that was found; 0: none of the caller's */
    int32_t n_stop;
    struct pattern stop[]; /* [n_stop], their bytes and the tags' behind the array */
};

static hs_status check_pattern(const char *what, const char *bytes, size_t max,
                               struct hs_error *err)
{
    if (bytes == NULL || bytes[0] == '\0') {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s is empty", what);
        hs_error_hint(err, "leave it out instead");
        return HS_INVALID_ARGUMENT;
    }
    size_t len = strnlen(bytes, max + 1);
    if (len > max) {
        return hs_error_set(err, HS_LIMIT, "%s has more than %zu bytes", what, max);
    }
    if (!hs_utf8_valid(bytes, len)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "%s is not valid UTF-8", what);
    }
    return HS_OK;
}

static bool splits_reasoning(const struct hs_token_processor_params *params)
{
    return params->split_reasoning && params->reasoning.start_tag[0] != '\0';
}

static hs_status check_params(const struct hs_token_processor_params *params, size_t *ret_bytes,
                              struct hs_error *err)
{
    if (params->n_stop < 0 || (params->n_stop > 0 && params->stop == NULL)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the list of %d stop strings is not there",
                            params->n_stop);
    }
    if (params->n_stop > HS_STOP_MAX) {
        return hs_error_set(err, HS_LIMIT, "%d stop strings are more than the limit of %d",
                            params->n_stop, HS_STOP_MAX);
    }
    size_t n_bytes = params->own_stop == NULL ? 0 : strlen(params->own_stop);
    for (int32_t i = 0; i < params->n_stop; i++) {
        char what[32];
        snprintf(what, sizeof(what), "stop string %d", i + 1);
        hs_status status = check_pattern(what, params->stop[i], HS_STOP_MAX_BYTES, err);
        if (status != HS_OK) {
            return status;
        }
        n_bytes += strlen(params->stop[i]);
    }
    if (splits_reasoning(params)) {
        const struct hs_rt_reasoning *tags = &params->reasoning;
        size_t max = sizeof(tags->start_tag) - 1;
        hs_status status = check_pattern("the reasoning start tag", tags->start_tag, max, err);
        if (status == HS_OK) {
            status = check_pattern("the reasoning end tag", tags->end_tag, max, err);
        }
        if (status != HS_OK) {
            return status;
        }
        n_bytes += strlen(tags->start_tag) + strlen(tags->end_tag);
    }
    *ret_bytes = n_bytes;
    return HS_OK;
}

static struct pattern pattern_copy(const char *bytes, char **room)
{
    struct pattern pattern = {.bytes = *room, .len = strlen(bytes)};
    memcpy(*room, bytes, pattern.len);
    *room += pattern.len;
    return pattern;
}

hs_status hs_token_processor_new(const struct hs_token_processor_params *params,
                                 hs_token_processor **ret_processor, struct hs_error *err)
{
    size_t n_bytes = 0;
    hs_status status = check_params(params, &n_bytes, err);
    if (status != HS_OK) {
        return status;
    }
    size_t n_stop = (size_t)params->n_stop + (params->own_stop != NULL);
    hs_token_processor *processor =
        hs_calloc(1, sizeof(*processor) + n_stop * sizeof(struct pattern) + n_bytes);
    if (processor == NULL) {
        return hs_error_nomem(err, "token processor");
    }
    char *room = (char *)(processor->stop + n_stop);
    for (size_t i = 0; i < n_stop; i++) {
        const char *stop = i < (size_t)params->n_stop ? params->stop[i] : params->own_stop;
        processor->stop[i] = pattern_copy(stop, &room);
        processor->first_byte_of_stop[(unsigned char)stop[0]] = true;
    }
    processor->n_stop = (int32_t)n_stop;
    processor->n_given = params->n_stop;
    processor->mode = SCAN_CONTENT;
    if (splits_reasoning(params)) {
        processor->start_tag = pattern_copy(params->reasoning.start_tag, &room);
        processor->end_tag = pattern_copy(params->reasoning.end_tag, &room);
        processor->mode = params->reasoning.starts_in_reasoning ? SCAN_REASONING_FIRST : SCAN_START;
    }
    processor->text = (struct hs_buf)HS_BUF_INIT(SIZE_MAX / 2);
    *ret_processor = processor;
    return HS_OK;
}

void hs_token_processor_free(hs_token_processor *processor)
{
    if (processor != NULL) {
        hs_buf_free(&processor->text);
        hs_free(processor);
    }
}

/* ---- bytes to code points ---- */

/* Begin a code point with `byte`; false when none begins with it. */
static bool utf8_begin(struct utf8_partial *partial, unsigned char byte)
{
    unsigned n_needed = 0;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (byte >= 0xC2 && byte <= 0xDF) {
        n_needed = 1;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
        n_needed = 2;
        low = byte == 0xE0 ? 0xA0 : low;   /* no over-long forms */
        high = byte == 0xED ? 0x9F : high; /* no surrogates */
    } else if (byte >= 0xF0 && byte <= 0xF4) {
        n_needed = 3;
        low = byte == 0xF0 ? 0x90 : low;
        high = byte == 0xF4 ? 0x8F : high; /* nothing above U+10FFFF */
    } else {
        return false;
    }
    *partial = (struct utf8_partial){
        .bytes = {byte}, .n_bytes = 1, .n_needed = n_needed, .low = low, .high = high};
    return true;
}

/* The room for it was reserved before. */
static void append_reserved(struct hs_buf *buf, const void *bytes, size_t len)
{
    memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

static void append_replacement(struct hs_buf *buf)
{
    append_reserved(buf, REPLACEMENT, 3);
}

static void decode_byte(struct utf8_partial *partial, unsigned char byte, struct hs_buf *text)
{
    if (partial->n_needed > 0) {
        if (byte >= partial->low && byte <= partial->high) {
            partial->bytes[partial->n_bytes++] = byte;
            partial->low = 0x80;
            partial->high = 0xBF;
            if (--partial->n_needed == 0) {
                append_reserved(text, partial->bytes, partial->n_bytes);
            }
            return;
        }
        /* What had begun is one invalid subpart; this byte may begin something new. */
        partial->n_needed = 0;
        append_replacement(text);
    }
    if (byte < 0x80) {
        append_reserved(text, &byte, 1);
    } else if (!utf8_begin(partial, byte)) {
        append_replacement(text);
    }
}

/* ---- code points to pieces ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* One pass over the undecided text. */
struct scan {
    const char *text;
    size_t len, pos;
    bool is_end;                        /* the text will not grow, */
    const struct utf8_partial *partial; /* else it goes on with this */
    struct hs_token_output *output;
};

/* Whether text that goes on with the code point begun can go on with rest[len]. */
static bool can_become(const struct utf8_partial *partial, const char *rest, size_t len)
{
    if (partial->n_needed == 0 || (len >= 3 && memcmp(rest, REPLACEMENT, 3) == 0)) {
        return true;
    }
    return len > partial->n_bytes && memcmp(rest, partial->bytes, partial->n_bytes) == 0;
}

static enum match match_at(const struct scan *scan, const struct pattern *pattern)
{
    size_t left = scan->len - scan->pos;
    size_t n = left < pattern->len ? left : pattern->len;
    if (memcmp(pattern->bytes, scan->text + scan->pos, n) != 0) {
        return MATCH_NO;
    }
    if (n == pattern->len) {
        return MATCH_YES;
    }
    bool may_grow =
        !scan->is_end && can_become(scan->partial, pattern->bytes + n, pattern->len - n);
    return may_grow ? MATCH_MAYBE : MATCH_NO;
}

static enum match match_stop(hs_token_processor *processor, const struct scan *scan)
{
    enum match best = MATCH_NO;
    if (!processor->first_byte_of_stop[(unsigned char)scan->text[scan->pos]]) {
        return MATCH_NO;
    }
    for (int32_t i = 0; i < processor->n_stop && best != MATCH_YES; i++) {
        enum match match = match_at(scan, &processor->stop[i]);
        best = match > best ? match : best;
        if (match == MATCH_YES && i < processor->n_given) {
            processor->stopped_by = i + 1;
        }
    }
    return best;
}

static void emit(struct scan *scan, enum hs_event_type type, size_t begin)
{
    struct hs_token_output *output = scan->output;
    if (scan->pos > begin) {
        output->pieces[output->n_pieces++] = (struct hs_text_piece){
            .type = type, .text = scan->text + begin, .len = scan->pos - begin};
    }
}

/* Content from here on. Returns false when more input is needed to go on. */
static bool scan_content(hs_token_processor *processor, struct scan *scan)
{
    size_t begin = scan->pos;
    bool is_stuck = false;
    while (scan->pos < scan->len) {
        enum match match = MATCH_NO;
        if (processor->mode == SCAN_START) {
            match = match_at(scan, &processor->start_tag);
            if (match == MATCH_YES) {
                processor->mode = SCAN_REASONING_FIRST;
                break;
            }
        }
        if (match == MATCH_NO) {
            match = match_stop(processor, scan);
            if (match == MATCH_YES) {
                processor->mode = SCAN_STOPPED;
                break;
            }
        }
        if (match == MATCH_MAYBE) {
            is_stuck = true;
            break;
        }
        if (processor->mode == SCAN_START && !is_space(scan->text[scan->pos])) {
            processor->mode = SCAN_CONTENT;
        }
        scan->pos++;
    }
    emit(scan, HS_EVENT_TEXT, begin);
    if (processor->mode == SCAN_REASONING_FIRST) {
        scan->pos += processor->start_tag.len;
    }
    return !is_stuck;
}

/* Reasoning up to its end tag. Returns false when more input is needed to go on. */
static bool scan_reasoning(hs_token_processor *processor, struct scan *scan)
{
    size_t begin = scan->pos;
    enum match match = MATCH_NO;
    while (scan->pos < scan->len) {
        match = match_at(scan, &processor->end_tag);
        if (match != MATCH_NO) {
            break;
        }
        scan->pos++;
    }
    emit(scan, HS_EVENT_REASONING, begin);
    if (match == MATCH_YES) {
        scan->pos += processor->end_tag.len;
        processor->mode = SCAN_CONTENT_FIRST;
    }
    return match != MATCH_MAYBE;
}

/* Each mode is entered at most once, which bounds the number of pieces. */
static void scan_text(hs_token_processor *processor, bool is_end,
                      struct hs_token_output *ret_output)
{
    struct scan scan = {.text = processor->text.data,
                        .len = processor->text.len,
                        .is_end = is_end,
                        .partial = &processor->partial,
                        .output = ret_output};
    bool can_go_on = true;
    while (can_go_on && scan.pos < scan.len && processor->mode != SCAN_STOPPED) {
        switch (processor->mode) {
        case SCAN_REASONING_FIRST:
            scan.pos += scan.text[scan.pos] == '\n' ? 1 : 0;
            processor->mode = SCAN_REASONING;
            break;
        case SCAN_REASONING:
            can_go_on = scan_reasoning(processor, &scan);
            break;
        case SCAN_CONTENT_FIRST:
            while (scan.pos < scan.len && is_space(scan.text[scan.pos])) {
                scan.pos++;
            }
            processor->mode = scan.pos < scan.len ? SCAN_CONTENT : SCAN_CONTENT_FIRST;
            break;
        case SCAN_START:
        case SCAN_CONTENT:
        case SCAN_STOPPED:
            can_go_on = scan_content(processor, &scan);
            break;
        }
    }
    processor->n_done = scan.pos;
    ret_output->stopped = processor->mode == SCAN_STOPPED;
    ret_output->stopped_by = processor->stopped_by;
}

/* Drop what left with the last call and make room for `n_bytes` of input, each of which can end a
 * begun code point as invalid and be invalid itself. */
static hs_status make_room(hs_token_processor *processor, size_t n_bytes)
{
    if (n_bytes > SIZE_MAX / 8) {
        return HS_LIMIT;
    }
    hs_buf_consume(&processor->text, processor->n_done);
    processor->n_done = 0;
    return hs_buf_reserve(&processor->text, 3 * (n_bytes + 1));
}

hs_status hs_token_processor_push(hs_token_processor *processor, const char *bytes, size_t len,
                                  struct hs_token_output *ret_output)
{
    if (processor->is_finished) {
        return HS_INVALID_ARGUMENT;
    }
    struct hs_token_output output = {.stopped = processor->mode == SCAN_STOPPED,
                                     .stopped_by = processor->stopped_by};
    if (!output.stopped) {
        hs_status status = make_room(processor, len);
        if (status != HS_OK) {
            return status;
        }
        for (size_t i = 0; i < len; i++) {
            decode_byte(&processor->partial, (unsigned char)bytes[i], &processor->text);
        }
        scan_text(processor, false, &output);
    }
    *ret_output = output;
    return HS_OK;
}

hs_status hs_token_processor_flush(hs_token_processor *processor,
                                   struct hs_token_output *ret_output)
{
    struct hs_token_output output = {.stopped = processor->mode == SCAN_STOPPED,
                                     .stopped_by = processor->stopped_by};
    if (!output.stopped && !processor->is_finished) {
        hs_status status = make_room(processor, 0);
        if (status != HS_OK) {
            return status;
        }
        if (processor->partial.n_needed > 0) {
            processor->partial.n_needed = 0;
            append_replacement(&processor->text);
        }
        scan_text(processor, true, &output);
    }
    *ret_output = output;
    return HS_OK;
}

hs_status hs_token_processor_finish(hs_token_processor *processor,
                                    struct hs_token_output *ret_output)
{
    hs_status status = hs_token_processor_flush(processor, ret_output);
    processor->is_finished |= status == HS_OK;
    return status;
}
