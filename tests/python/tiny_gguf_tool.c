/*
 * tiny_gguf_tool - writes the tiny models of tests/support for the tests in Python.
 *
 *   tiny_gguf_tool say PATH TEXT    answers every message with TEXT (through a ChatML template)
 *   tiny_gguf_tool cycle PATH       answers " aa ab ac ..." without an end
 *   tiny_gguf_tool endless PATH     the same, and the context is not full for a while either
 *   tiny_gguf_tool plain PATH TEXT  says TEXT after a newline; has no chat template
 *   tiny_gguf_tool history PATH     every token depends on all that came before
 *   tiny_gguf_tool random PATH TEMPLATE  any token may follow any other: the logits hardly differ;
 *                                   the chat template is in the file TEMPLATE
 *   tiny_gguf_tool bert PATH POOLING  an encoder; mean, cls, last, rank or none (not said)
 *   tiny_gguf_tool infill PATH TEXT  fills every gap with TEXT
 *   tiny_gguf_tool adapter FOLDER SEED  an adapter for a Llama among them, as PEFT saves it
 *   ... NAME                        as the last argument: general.name
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_adapter.h"
#include "tiny_bert.h"
#include "tiny_gguf.h"

static int write_bert(const char *path, const char *pooling)
{
    static const struct {
        const char *name;
        enum tiny_bert_pooling pooling;
    } rows[] = {{"none", TINY_BERT_SAYS_NOTHING},
                {"mean", TINY_BERT_MEAN},
                {"cls", TINY_BERT_CLS_POOLING},
                {"last", TINY_BERT_LAST},
                {"rank", TINY_BERT_RANK}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, pooling) == 0) {
            return tiny_bert_write(rows[i].pooling, path) ? 0 : 1;
        }
    }
    fprintf(stderr, "no pooling '%s'\n", pooling);
    return 2;
}

/* One table leads nowhere in particular, and its logits lie within one. */
static int write_random(const char *path, const char *template_path)
{
    static char text[1 << 16];
    FILE *file = fopen(template_path, "rb");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (!file || fclose(file) != 0 || len == 0) {
        perror(template_path);
        return 1;
    }
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = text;
    spec.logit_scale = 1.0f / 128;
    return tiny_gguf_write(&spec, path) ? 0 : 1;
}

static void put_infill(struct gguf_writer *out, void *user)
{
    (void)user;
    gguf_writer_u32(out, "tokenizer.ggml.fim_pre_token_id", TINY_GGUF_THINK);
    gguf_writer_u32(out, "tokenizer.ggml.fim_suf_token_id", TINY_GGUF_THINK_END);
    gguf_writer_u32(out, "tokenizer.ggml.fim_mid_token_id", TINY_GGUF_IM_START);
}

static int write_infill(const char *path, const char *text)
{
    int32_t next[TINY_GGUF_N_VOCAB];
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_unset(next);
    spec.next = next;
    spec.extra = put_infill;
    bool is_ok = tiny_gguf_spell(next, TINY_GGUF_IM_START, text, TINY_GGUF_IM_END);
    return is_ok && tiny_gguf_write(&spec, path) ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr,
                "usage: tiny_gguf_tool say|plain|cycle|endless|history|random|bert|infill|adapter "
                "PATH [TEXT] [NAME]\n");
        return 2;
    }
    if (strcmp(argv[1], "adapter") == 0 && argc > 3) {
        return tiny_adapter_write(argv[2], TINY_GGUF_N_EMBD, strtof(argv[3], NULL)) ? 0 : 1;
    }
    if (strcmp(argv[1], "infill") == 0 && argc > 3) {
        return write_infill(argv[2], argv[3]);
    }
    if (strcmp(argv[1], "bert") == 0) {
        return write_bert(argv[2], argc > 3 ? argv[3] : "none");
    }
    if (strcmp(argv[1], "random") == 0 && argc > 3) {
        return write_random(argv[2], argv[3]);
    }
    bool speaks = strcmp(argv[1], "say") == 0 || strcmp(argv[1], "plain") == 0;
    int32_t next[TINY_GGUF_N_VOCAB];
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = strcmp(argv[1], "plain") == 0 ? NULL : tiny_gguf_chatml;
    if (speaks && argc > 3) {
        tiny_gguf_next_unset(next);
        /* a prompt of ChatML ends with "assistant\n" */
        if (!tiny_gguf_spell(next, TINY_GGUF_BYTE0 + '\n', argv[3], TINY_GGUF_IM_END)) {
            fprintf(stderr, "this text needs a token twice: %s\n", argv[3]);
            return 1;
        }
        spec.next = next;
    } else if (strcmp(argv[1], "endless") == 0) {
        spec.n_ctx_train = 1u << 18;
    } else if (strcmp(argv[1], "history") == 0) {
        spec.kind = TINY_GGUF_HISTORY;
    }
    int name = speaks ? 4 : 3;
    spec.name = argc > name ? argv[name] : spec.name;
    return tiny_gguf_write(&spec, argv[2]) ? 0 : 1;
}
