/*
 * State of one sequence as bytes: our header, then what llama.cpp's llama_state_seq_get_data_ext
 * wrote.
 *
 *   offset  bytes  field (little-endian)
 *   0       8      magic "HSSTATE1"
 *   8       4      flags, HS_RT_STATE_*
 *   12      4      zero
 *   16      8      bytes behind the header
 *   24      8      checksum of these bytes
 *   32      8      checksum over what the model and context look like (shape_of)
 *   40      8      checksum of the header's first 40 bytes
 *
 * llama.cpp trusts much of what it reads and asserts on some of it; the checksums make sure that it
 * only ever sees what it wrote itself, for a context of the same shape. They detect accidents, not
 * forgery: who can write a state file can make the model say anything anyway.
 */
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"

struct header {
    char magic[8];
    uint32_t flags;
    uint32_t zero;
    uint64_t size;
    uint64_t checksum;
    uint64_t shape;
    uint64_t header_checksum;
};
_Static_assert(sizeof(struct header) == 48, "the header has no holes");

static const char state_magic[8] = "HSSTATE1";

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

/* Four lanes, so that multiplications overlap: states are tens of megabytes. */
static uint64_t checksum(const void *data, size_t len, uint64_t seed)
{
    const uint8_t *p = data;
    uint64_t lane[4] = {seed, seed + 1, seed + 2, seed + 3};
    size_t n_blocks = len / 32;
    for (size_t i = 0; i < n_blocks; i++, p += 32) {
        uint64_t words[4];
        memcpy(words, p, sizeof(words));
        for (int k = 0; k < 4; k++) {
            lane[k] = mix(lane[k], words[k]);
        }
    }
    uint64_t tail[4] = {0};
    memcpy(tail, p, len % 32);
    uint64_t h = mix(len, seed);
    for (int k = 0; k < 4; k++) {
        h = mix(mix(h, lane[k]), tail[k]);
    }
    return h;
}

static uint64_t shape_of(const hs_rt_context *context)
{
    const struct hs_rt_model_info *info = &context->model->info;
    const int64_t numbers[] = {info->n_vocab,
                               info->n_embd,
                               info->n_layer,
                               info->n_swa,
                               llama_model_n_head_kv(context->model->llama),
                               (int64_t)info->n_params,
                               context->params.kv_type};
    uint64_t h = checksum(info->architecture, strlen(info->architecture), 1);
    return checksum(numbers, sizeof(numbers), h);
}

struct state_call {
    hs_rt_context *context;
    int32_t seq;
    llama_state_seq_flags flags;
    uint8_t *to;
    const uint8_t *from;
    size_t size;
    size_t result;
};

static void get_size(void *arg)
{
    struct state_call *call = arg;
    call->result = llama_state_seq_get_size_ext(call->context->llama, call->seq, call->flags);
}

static void get_data(void *arg)
{
    struct state_call *call = arg;
    call->result = llama_state_seq_get_data_ext(call->context->llama, call->to, call->size,
                                                call->seq, call->flags);
}

static void set_data(void *arg)
{
    struct state_call *call = arg;
    call->result = llama_state_seq_set_data_ext(call->context->llama, call->from, call->size,
                                                call->seq, call->flags);
}

static struct state_call make_call(hs_rt_context *context, int32_t seq, uint32_t flags)
{
    struct state_call call = {.context = context, .seq = seq};
    call.flags = (flags & HS_RT_STATE_PARTIAL) ? LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
                                               : LLAMA_STATE_SEQ_FLAGS_NONE;
    return call;
}

static bool is_seq(const hs_rt_context *context, int32_t seq)
{
    return seq >= 0 && seq < context->params.n_seq_max;
}

static hs_status check_arguments(const hs_rt_context *context, int32_t seq, uint32_t flags,
                                 struct hs_error *err)
{
    if (!is_seq(context, seq)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "sequence %d is outside [0, %d)", seq,
                            context->params.n_seq_max);
    }
    if (flags > HS_RT_STATE_PARTIAL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "unknown state flags 0x%x", flags);
    }
    return HS_OK;
}

size_t hs_llama_state_size(hs_rt_context *context, int32_t seq, uint32_t flags)
{
    struct state_call call = make_call(context, seq, flags);
    if (!is_seq(context, seq) || hs_cxx_guard(get_size, &call, "state size", NULL) != HS_OK) {
        return 0;
    }
    return call.result > 0 ? call.result + sizeof(struct header) : 0;
}

hs_status hs_llama_state_save(hs_rt_context *context, int32_t seq, uint32_t flags, void *data,
                              size_t size, size_t *ret_written, struct hs_error *err)
{
    hs_status status = check_arguments(context, seq, flags, err);
    if (status != HS_OK) {
        return status;
    }
    size_t needed = hs_llama_state_size(context, seq, flags);
    if (needed == 0 || size < needed) {
        return hs_error_set(err, HS_LIMIT, "the state needs %zu bytes; room for %zu was given",
                            needed, size);
    }
    struct state_call call = make_call(context, seq, flags);
    call.to = (uint8_t *)data + sizeof(struct header);
    call.size = needed - sizeof(struct header);
    status = hs_cxx_guard(get_data, &call, "saving a sequence's state", err);
    if (status != HS_OK) {
        return status;
    }
    if (call.result == 0) {
        return hs_error_set(err, HS_INTERNAL, "llama.cpp cannot save the state of sequence %d",
                            seq);
    }
    struct header header = {.flags = flags,
                            .size = call.result,
                            .checksum = checksum(call.to, call.result, 0),
                            .shape = shape_of(context)};
    memcpy(header.magic, state_magic, sizeof(header.magic));
    header.header_checksum = checksum(&header, offsetof(struct header, header_checksum), 2);
    memcpy(data, &header, sizeof(header));
    *ret_written = sizeof(header) + call.result;
    return HS_OK;
}

static hs_status check_state(const hs_rt_context *context, uint32_t flags, const void *data,
                             size_t size, struct hs_error *err)
{
    struct header header;
    if (size < sizeof(header)) {
        return hs_error_set(err, HS_CORRUPT, "a state of %zu bytes is too short", size);
    }
    memcpy(&header, data, sizeof(header));
    if (memcmp(header.magic, state_magic, sizeof(header.magic)) != 0) {
        return hs_error_set(err, HS_CORRUPT, "the data is not a saved state");
    }
    if (header.header_checksum != checksum(&header, offsetof(struct header, header_checksum), 2) ||
        header.size != size - sizeof(header)) {
        return hs_error_set(err, HS_CORRUPT, "the saved state is damaged or cut (%zu bytes)", size);
    }
    if (header.flags != flags) {
        return hs_error_set(err, HS_CORRUPT, "the saved state is a %s one, a %s one is expected",
                            header.flags ? "partial" : "whole", flags ? "partial" : "whole");
    }
    if (header.shape != shape_of(context)) {
        return hs_error_set(err, HS_CORRUPT, "the saved state belongs to another model or KV type");
    }
    const uint8_t *body = (const uint8_t *)data + sizeof(header);
    if (header.checksum != checksum(body, size - sizeof(header), 0)) {
        return hs_error_set(err, HS_CORRUPT, "the saved state is damaged");
    }
    return HS_OK;
}

hs_status hs_llama_state_load(hs_rt_context *context, int32_t seq, uint32_t flags, const void *data,
                              size_t size, struct hs_error *err)
{
    hs_status status = check_arguments(context, seq, flags, err);
    if (status == HS_OK) {
        status = check_state(context, flags, data, size, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct state_call call = make_call(context, seq, flags);
    call.from = (const uint8_t *)data + sizeof(struct header);
    call.size = size - sizeof(struct header);
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    status = hs_cxx_guard(set_data, &call, "loading a sequence's state", err);
    hs_llama_log_capture(NULL);
    if (status == HS_OK && call.result > 0) {
        return HS_OK;
    }
    if (!(flags & HS_RT_STATE_PARTIAL)) {
        llama_memory_seq_rm(context->memory, seq, -1, -1);
    }
    if (status != HS_OK) {
        return status;
    }
    if (hs_llama_capture_has(&log, "available cells") ||
        hs_llama_capture_has(&log, "not enough cells")) {
        return hs_error_set(err, HS_CONTEXT_FULL, "not enough free KV cells for the saved state");
    }
    return hs_error_set(err, HS_CORRUPT, "the saved state does not fit this context: %s",
                        hs_llama_capture_essence(&log));
}
