/*
 * Inputs put together with tokens that only some models have: a query and a document to be ranked,
 * and what stands before and behind a gap to be filled.
 *
 * Source: llama.cpp's server, /rerank and /infill, for the order of the parts; the Qwen2.5-Coder
 * report (arXiv 2409.12186) for files of a repository.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_internal.h"

#define TEXT_MAX_BYTES ((size_t)1 << 30)
#define REPOSITORY "repository\n"
#define FILE_NAME "file"
#define SNIPPET "\n\n--- snippet ---\n\n"

static hs_status append_token(struct hs_buf *tokens, llama_token token, struct hs_error *err)
{
    if (token < 0) {
        return HS_OK;
    }
    int32_t value = token;
    return hs_buf_append(tokens, &value, sizeof(value)) == HS_OK ? HS_OK
                                                                 : hs_error_nomem(err, "prompt");
}

static hs_status append_text(const hs_rt_model *model, const char *text, struct hs_buf *tokens,
                             struct hs_error *err)
{
    return hs_llama_tokenize(model, text, strlen(text), false, false, tokens, err);
}

/* ---- ranking ---- */

/* `template` with {query} and {document} in it replaced. */
static hs_status fill_template(const char *template, const char *query, const char *document,
                               struct hs_buf *text)
{
    hs_status status = HS_OK;
    while (*template != '\0' && status == HS_OK) {
        const char *value = NULL;
        size_t len = 0;
        if (strncmp(template, "{query}", 7) == 0) {
            value = query;
            len = 7;
        } else if (strncmp(template, "{document}", 10) == 0) {
            value = document;
            len = 10;
        }
        if (value) {
            status = hs_buf_append_str(text, value);
        } else {
            len = 1 + strcspn(template + 1, "{");
            status = hs_buf_append(text, template, len);
        }
        template += len;
    }
    return status;
}

/* [CLS] query [SEP] document [SEP], <s> query </s> </s> document </s>, as the vocabulary says. */
static hs_status join_pair(const hs_rt_model *model, const char *query, const char *document,
                           struct hs_buf *tokens, struct hs_error *err)
{
    const struct llama_vocab *vocab = model->vocab;
    hs_status status = hs_llama_tokenize(model, query, strlen(query), true, false, tokens, err);
    if (status == HS_OK && llama_vocab_get_add_eos(vocab) && llama_vocab_get_add_sep(vocab)) {
        status = append_token(tokens, llama_vocab_sep(vocab), err);
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf second = HS_BUF_INIT(TEXT_MAX_BYTES);
    if (status == HS_OK) {
        status = hs_llama_tokenize(model, document, strlen(document), true, false, &second, err);
    }
    if (status != HS_OK) {
        return status;
    }
    int32_t first = -1;
    if (second.len >= sizeof(first)) {
        memcpy(&first, second.data, sizeof(first));
    }
    size_t skipped = first >= 0 && first == llama_vocab_bos(vocab) ? sizeof(first) : 0;
    return second.len == skipped ||
                   hs_buf_append(tokens, second.data + skipped, second.len - skipped) == HS_OK
               ? HS_OK
               : hs_error_nomem(err, "prompt");
}

hs_status hs_llama_rank_tokens(const hs_rt_model *model, const char *query, const char *document,
                               struct hs_buf *tokens, struct hs_error *err)
{
    const char *template = llama_model_chat_template(model->llama, "rerank");
    if (!template) {
        return join_pair(model, query, document, tokens, err);
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(TEXT_MAX_BYTES);
    if (fill_template(template, query, document, &text) != HS_OK) {
        return hs_error_nomem(err, "prompt");
    }
    return hs_llama_tokenize(model, text.data ? text.data : "", text.len, false, true, tokens, err);
}

/* ---- filling in the middle ---- */

bool hs_llama_can_infill(const struct llama_vocab *vocab)
{
    return llama_vocab_fim_pre(vocab) >= 0 && llama_vocab_fim_suf(vocab) >= 0 &&
           llama_vocab_fim_mid(vocab) >= 0;
}

static hs_status append_files(const hs_rt_model *model, const struct hs_infill *infill,
                              struct hs_buf *tokens, struct hs_error *err)
{
    const struct llama_vocab *vocab = model->vocab;
    llama_token separator = llama_vocab_fim_sep(vocab);
    hs_status status = append_token(tokens, llama_vocab_fim_rep(vocab), err);
    if (status == HS_OK && llama_vocab_fim_rep(vocab) >= 0) {
        status = append_text(model, REPOSITORY, tokens, err);
    }
    /* the last one is the file with the gap: only its name */
    for (size_t i = 0; i <= infill->n_files && status == HS_OK; i++) {
        const struct hs_infill_file *file = i < infill->n_files ? &infill->files[i] : NULL;
        status = append_token(tokens, separator, err);
        if (status == HS_OK && separator >= 0) {
            status = append_text(model, file && file->name ? file->name : FILE_NAME, tokens, err);
            status = status == HS_OK ? append_text(model, "\n", tokens, err) : status;
        } else if (status == HS_OK && file) {
            status = append_text(model, SNIPPET, tokens, err);
        }
        if (status == HS_OK && file) {
            status = append_text(model, file->text, tokens, err);
        }
    }
    return status;
}

/* Prefix, suffix, and the answer behind them. */
static hs_status append_gap(const hs_rt_model *model, const struct hs_infill *infill,
                            struct hs_buf *tokens, struct hs_error *err)
{
    const struct llama_vocab *vocab = model->vocab;
    const struct {
        llama_token token;
        const char *text;
    } parts[] = {{llama_vocab_fim_pre(vocab), infill->prefix},
                 {llama_vocab_fim_suf(vocab), infill->suffix},
                 {llama_vocab_fim_mid(vocab), NULL}};
    hs_status status = HS_OK;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && status == HS_OK; i++) {
        status = append_token(tokens, parts[i].token, err);
        if (status == HS_OK && parts[i].text) {
            status = append_text(model, parts[i].text, tokens, err);
        }
    }
    return status;
}

hs_status hs_llama_infill_tokens(const hs_rt_model *model, const struct hs_infill *infill,
                                 struct hs_buf *tokens, struct hs_error *err)
{
    if (!hs_llama_can_infill(model->vocab)) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "the model has no tokens for filling in the middle in its vocabulary");
        hs_error_hint(err, "use a model for code, such as Qwen2.5-Coder");
        return HS_NOT_SUPPORTED;
    }
    HS_CLEANUP(hs_buf_free) struct hs_buf files = HS_BUF_INIT(TEXT_MAX_BYTES);
    HS_CLEANUP(hs_buf_free) struct hs_buf gap = HS_BUF_INIT(TEXT_MAX_BYTES);
    hs_status status = infill->n_files > 0 ? append_files(model, infill, &files, err) : HS_OK;
    status = status == HS_OK ? append_gap(model, infill, &gap, err) : status;
    if (status == HS_OK && model->info.add_bos) {
        status = append_token(tokens, model->info.bos, err);
    }
    /* of the files, what stands nearest to the gap stays */
    size_t most = infill->n_tokens_max * sizeof(int32_t);
    size_t used = tokens->len + gap.len;
    size_t room = most > used ? most - used : 0;
    size_t cut = most > 0 && files.len > room ? files.len - room : 0;
    if (status == HS_OK && files.len > cut &&
        hs_buf_append(tokens, files.data + cut, files.len - cut) != HS_OK) {
        status = hs_error_nomem(err, "prompt");
    }
    if (status == HS_OK && hs_buf_append(tokens, gap.data, gap.len) != HS_OK) {
        status = hs_error_nomem(err, "prompt");
    }
    return status;
}
