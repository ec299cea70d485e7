/*
 * fake_engine.h - the engine's functions of hyprstream.h without a model: answers come from a
 * script, and what was asked is recorded. For tests of the handlers; linked instead of
 * hs_inference.
 *
 * Tokens are bytes (the id is the byte's value), with 256 as "<s>" in front when specials are
 * added. With logprobs every byte of a piece is a token of probability e^-0.5, and the i-th
 * likeliest one is the byte plus i, of e^-(0.5 + i). Named sessions lie in the real session store.
 * One script for the whole process: fake_engine_reset() before each test.
 */
#ifndef SUPPORT_FAKE_ENGINE_H
#define SUPPORT_FAKE_ENGINE_H

#include <stdatomic.h>

#include "storage/session_store.h"

#define FAKE_N_VOCAB 257
#define FAKE_N_SEQ 4
#define FAKE_PROMPT_TOKENS 12 /* of every prompt; 4 of them cached */
#define FAKE_MAX_ASKED 16
#define FAKE_MAX_MESSAGES 32
#define FAKE_N_EMBEDDING 3
#define FAKE_MAX_INPUTS 8
#define FAKE_MAX_ADAPTERS 32
#define FAKE_MAX_RECORDS 4

/* One event of an answer; text NULL ends the list. "\1" waits until the stream is cancelled. */
struct fake_piece {
    enum hs_event_type type;
    const char *text; /* of HS_EVENT_TOOL_CALL: "index\tid\tname\targuments", see FAKE_CALL */
};
#define FAKE_WAIT "\1"
/* Rows of an answer that calls tools: a call begins, with a first piece of its arguments, and goes
 * on. All are string literals but the index, 0 to 7. */
#define FAKE_CALL(index, id, name, arguments)                                                      \
    {                                                                                              \
        HS_EVENT_TOOL_CALL, #index "\t" id "\t" name "\t" arguments                                \
    }
#define FAKE_ARGUMENTS(index, arguments) FAKE_CALL(index, "", "", arguments)

struct fake_answer {
    const struct fake_piece *pieces;
    enum hs_finish finish; /* NONE: HS_FINISH_TOOL_CALLS after a call, else HS_FINISH_STOP */
    struct hs_error error; /* for HS_FINISH_ERROR */
    hs_status refuse;      /* not HS_OK: generate itself fails with `error` */
    int32_t stopped_by;    /* as in struct hs_usage */
};

/* What one call of generate, chat, complete or render was given. */
struct fake_asked {
    char *prompt;                                  /* generate's; NULL: none */
    struct hs_message messages[FAKE_MAX_MESSAGES]; /* copies, as the model would see them */
    size_t n_messages;
    struct hs_generate_params params; /* tools, tool_name, json_schema and template_kwargs are
                                         copies; other pointers are the caller's */
    char *stop[8];
    char *model_id, *tag, *client;
    char *grammar, *samplers, *breakers[8]; /* copies of what params.sampling pointed to */
    int32_t bias_tokens[8];
    float bias_values[8];
    int32_t tokens[64]; /* complete's */
    size_t n_tokens;
    struct hs_adapter_ref *adapters; /* [n_adapters] copies; generate's are the session's */
    size_t n_adapters;
};

/*
 * Embeddings: value v of an input is its first token plus v/8, cut to params.dimensions; they come
 * last input first. What was asked for is kept, FAKE_MAX_INPUTS inputs of it.
 */
struct fake_embedding {
    /* The script. */
    hs_status refuse;      /* not HS_OK: hs_engine_embed fails with `error` */
    struct hs_error error; /* likewise; else, with a status, the end after one embedding */
    bool waits;            /* for a cancel, after one embedding */
    const float *scores;   /* one value of each input instead; NULL: as above */
    /* What was asked. */
    int n_asked;
    size_t n_inputs;
    struct hs_embed_params params;
    size_t n_tokens[FAKE_MAX_INPUTS];
    int32_t tokens[FAKE_MAX_INPUTS][64];
};

/* hs_engine_infill_tokens gives "{text of a file}" for each, then "<prefix>suffix_", and
 * hs_engine_rank_tokens "query|document". */
struct fake_engine_script {
    bool can_infill, can_rank; /* in hs_engine_model_info */
    size_t infill_max;         /* n_tokens_max as asked for */
    struct fake_embedding embedding;
    const struct fake_answer *answers; /* used in turn, the last one again and again */
    size_t n_answers;
    hs_status load_status;       /* of the loads to come */
    const char *load_path_fails; /* only this path fails, with HS_BAD_MAGIC; NULL: none */
    bool load_asks_progress;     /* calls it twice, and obeys */
    hs_status session_status;    /* of create_session */
    int session_fails_at;        /* only the n-th call fails with it; 0: all */
    hs_status close_status;      /* of close_session, which then leaves it open */
    hs_status system_status;     /* of hs_system_info_get */
    hs_status adapter_status;    /* of what is registered, loaded, replaced and unloaded from now */
    /* Registered ones by name, in the engine's functions of hyprstream.h as far as they go without
     * a file: a load makes it ready with 1000 bytes, a version is "1" when none is given. */
    struct hs_adapter_info adapters[FAKE_MAX_ADAPTERS];
    size_t n_adapters;
    /* hs_engine_route: the adapters of the first rule that matches, else those whose name does,
     * sharing the scale. */
    char route_embed_model[HS_ID_MAX]; /* of the last hs_engine_route; "": the model itself */
    enum hs_route_method route_method;
    char examples[256]; /* of the last hs_engine_set_adapter_examples: "name: text | text" */
    struct hs_model_stats stats; /* of hs_engine_model_stats, but for 7 cells in use */
    struct hs_slot slots[FAKE_N_SEQ];
    struct hs_request_record records[FAKE_MAX_RECORDS]; /* of hs_engine_requests, by number */
    size_t n_records;

    size_t n_asked;
    struct fake_asked asked[FAKE_MAX_ASKED];
    int n_rendered;
    struct fake_asked rendered; /* by the last hs_engine_render, whose text is "rendered" */
    hs_status render_status;    /* of hs_engine_render */
    char loaded_path[1024];
    char loaded_id[HS_ID_MAX];
    struct hs_model_params load_params;
    int n_loads, n_sessions;
    int n_engines, n_models;   /* alive now */
    atomic_int n_streams;      /* likewise */
    atomic_bool was_cancelled; /* the last stream */
};

extern struct fake_engine_script fake_engine;

/* Clears script and record. The answer is then "Hello" " world". */
void fake_engine_reset(void);

/* What fake_engine.c and fake_adapters.c know of each other. */
hs_status fake_need_model(const hs_engine *engine, const char *model_id, struct hs_error *err);
const char *fake_model_id(const hs_engine *engine);
struct hs_session_record *fake_session(hs_engine *engine, const char *id); /* NULL: not open */
hs_status fake_adapters_take(const char *model_id, const struct hs_adapter_ref *refs, int32_t n,
                             struct hs_error *err);
struct hs_adapter_ref *fake_adapters_copy(const struct hs_adapter_ref *refs, size_t n);

#endif
