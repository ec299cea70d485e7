/* cmd_tokenize.c - `hyprstream tokenize`: a text as the model sees it. */
#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "json_out.h"
#include "model_open.h"
#include "params.h"
#include "prompt.h"

/* No text is generated: the smallest context will do. */
#define TOKENIZE_N_CTX 64

struct tokens {
    int32_t *ids;
    size_t n;
};

static void free_tokens(struct tokens *tokens)
{
    hs_tokens_free(tokens->ids);
}

static void free_engine(hs_engine **engine)
{
    hs_engine_free(*engine);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static hs_status load(const struct hs_command_args *args, hs_engine **ret_engine,
                      char ret_model_id[HS_ID_MAX], struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_engine_params params;
    struct hs_model_params load_params;
    hs_engine_params_defaults(&params);
    hs_model_params_defaults(&load_params);
    load_params.n_ctx = TOKENIZE_N_CTX;
    load_params.n_batch = TOKENIZE_N_CTX;
    load_params.n_ubatch = TOKENIZE_N_CTX;
    load_params.n_seq_max = 1;
    load_params.n_gpu_layers = 0;
    hs_status status = hs_engine_create(&params, ret_engine, err);
    return status ? status
                  : hs_model_open(args, &registry, *ret_engine, &load_params, ret_model_id, err);
}

/* "a\n" with quotes, so that blanks and line ends can be seen; bytes of half a code point, which a
 * token may hold, as \xc3. */
static hs_status quote(const char *text, size_t len, struct hs_buf *line)
{
    hs_status status = hs_buf_append(line, "\"", 1);
    bool is_utf8 = hs_utf8_valid(text, len);
    for (size_t i = 0; i < len && !status; i++) {
        char c = text[i];
        if (c == '"' || c == '\\') {
            status = hs_buf_printf(line, "\\%c", c);
        } else if (c == '\n') {
            status = hs_buf_append_str(line, "\\n");
        } else if (c == '\t') {
            status = hs_buf_append_str(line, "\\t");
        } else if ((unsigned char)c < 0x20 || c == 0x7F || (!is_utf8 && (unsigned char)c >= 0x80)) {
            status = hs_buf_printf(line, "\\x%02x", (unsigned)(unsigned char)c);
        } else {
            status = hs_buf_append(line, &c, 1);
        }
    }
    return status ? status : hs_buf_append(line, "\"\n", 2);
}

static hs_status print_piece(const struct hs_command_io *io, int32_t id, const char *text,
                             size_t len, struct hs_error *err)
{
    struct hs_buf line HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX / 4);
    hs_status status = hs_buf_printf(&line, "%7d  ", (int)id);
    if (!status) {
        status = quote(text, len, &line);
    }
    return status ? hs_error_nomem(err, "output") : hs_out_text(io, line.data, line.len, err);
}

/* Its text, or its bytes as numbers when they are no text, as llama-server has it. */
static json_t *piece_json(const char *text, size_t len)
{
    if (hs_utf8_valid(text, len)) {
        return json_stringn(text, len);
    }
    json_t *bytes = json_array();
    for (size_t i = 0; i < len; i++) {
        hs_json_append(&bytes, json_integer((unsigned char)text[i]));
    }
    return bytes;
}

static hs_status print_tokens(const struct hs_command_args *args, hs_engine *engine,
                              const char *model_id, const struct tokens *tokens,
                              struct hs_error *err)
{
    bool as_json = hs_config_bool(args->config, HS_CFG_JSON);
    json_t *list = json_array();
    hs_status status = HS_OK;
    for (size_t i = 0; i < tokens->n && !status; i++) {
        char *text = NULL;
        size_t len = 0;
        status = hs_engine_detokenize(engine, model_id, &tokens->ids[i], 1, true, &text, &len, err);
        if (status) {
            break;
        }
        if (as_json) {
            json_t *entry = json_object();
            hs_json_set(&entry, "id", json_integer(tokens->ids[i]));
            hs_json_set(&entry, "piece", piece_json(text, len));
            hs_json_append(&list, entry);
        } else {
            status = print_piece(args->io, tokens->ids[i], text, len, err);
        }
        hs_text_free(text);
    }
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "model", hs_json_text(model_id));
    hs_json_set(&object, "n_tokens", json_integer((json_int_t)tokens->n));
    hs_json_set(&object, "tokens", list);
    return !status && as_json ? hs_json_print(args->io, object, false, err) : status;
}

hs_status hs_cmd_tokenize(const struct hs_command_args *args, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *text = NULL;
    hs_engine *engine HS_CLEANUP(free_engine) = NULL;
    struct tokens tokens HS_CLEANUP(free_tokens) = {0};
    char model_id[HS_ID_MAX];
    hs_status status = hs_prompt_read(args, &text, err);
    if (!status) {
        status = load(args, &engine, model_id, err);
    }
    bool is_raw = args->options[HS_OPT_RAW] != NULL;
    if (!status) {
        status = hs_engine_tokenize(engine, model_id, text, strlen(text), !is_raw, !is_raw,
                                    &tokens.ids, &tokens.n, err);
    }
    return status ? status : print_tokens(args, engine, model_id, &tokens, err);
}
